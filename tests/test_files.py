"""`files.open`, `iter_chunks` and `read_bytes` on every kind of file there is: regular, FIFO, pipe, terminal, device."""

from __future__ import annotations

import csv
import errno
import fcntl
import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import socket
import sys
import tarfile
import termios
import threading
import tty
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iointerrupt import DeadlineExceeded, Interrupted, ResourceBusy, StopEvent, files, use_stop
from iointerrupt._streams.text import StreamText
from iointerrupt.testing import StopAfter, wait_until_blocked

MODES = [kind + plus + form for kind in "rwxa" for plus in ("", "+") for form in ("", "t", "b")]


@pytest.fixture
def data_file(tmp_path: Path) -> Path:
    """A file of 300,000 bytes that are not all alike."""
    path = tmp_path / "data"
    path.write_bytes(os.urandom(1000) * 300)
    return path


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A FIFO."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Both ends of a pipe, closed at the end unless something that owned them has."""
    ends = os.pipe()
    kinds = [os.fstat(end) for end in ends]
    yield ends
    for end, kind in zip(ends, kinds, strict=True):
        try:
            if os.path.samestat(os.fstat(end), kind):
                os.close(end)
        except OSError:
            pass


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """The two ends of a pseudo-terminal, ours and the program's, without echo."""
    master, slave = os.openpty()
    settings = termios.tcgetattr(slave)
    settings[3] &= ~termios.ECHO
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    yield master, slave
    os.close(master)
    os.close(slave)


def fill(fd: int) -> int:
    """Write to the descriptor until it takes no more; how many bytes that were."""
    blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    total = 0
    try:
        while True:
            total += os.write(fd, b"x" * 4096)
    except BlockingIOError:
        return total
    finally:
        os.set_blocking(fd, blocking)


# What open gives, and what it refuses.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore:line buffering")
def test_open_gives_what_open_gives(tmp_path: Path, mode: str) -> None:
    """For every mode and buffering: the same class or a subclass, the same attributes, the same bytes in the file."""
    for buffering in (-1, 0, 1, 5000):
        results = []
        for opens in (open, files.open):
            path = tmp_path / f"{opens.__module__}{buffering}"
            if "x" not in mode:
                path.write_bytes(b"abc\ndef\n")
            if buffering == 0 and "b" not in mode:
                with pytest.raises(ValueError, match="unbuffered"):
                    opens(path, mode, buffering)
                continue
            with opens(path, mode, buffering) as file:
                assert file.name == str(path)
                results.append((*_described(file, mode), path))
            assert file.closed
        assert [result[:-1] for result in results[:1]] == [result[:-1] for result in results[1:]]
        assert [result[-1].read_bytes() for result in results[:1]] == [
            result[-1].read_bytes() for result in results[1:]
        ]


def _described(file: Any, mode: str) -> tuple[Any, ...]:
    kind = next(base for base in type(file).__mro__ if base.__module__ in {"io", "_io"})
    told = (kind, file.mode, file.readable(), file.writable(), file.seekable(), file.closed, file.tell(), file.isatty())
    if file.writable():
        file.write("text" if "b" not in mode else b"bytes")
    if file.readable():
        file.seek(0)
        return (*told, file.read(4), file.readline(), file.readlines())
    return told


BAD_CALLS: list[dict[str, Any]] = [
    {"mode": mode} for mode in ("", "q", "rr", "rw", "r++", "rbt", "+", "b", "U", "rU", "wa", "xr", "ab+t", "r ", "é")
] + [
    {"mode": 5},
    {"mode": None},
    {"buffering": "x"},
    {"buffering": 1.5},
    {"buffering": 0},
    {"mode": "rb", "encoding": "utf-8"},
    {"mode": "rb", "errors": "strict"},
    {"mode": "rb", "newline": "\n"},
    {"newline": "x"},
    {"newline": 5},
    {"encoding": "no such"},
    {"encoding": 5},
    {"encoding": "hex"},
    {"errors": 5},
    {"closefd": False},
    {"file": -1},
    {"file": 99999},
    {"file": 1.5},
    {"file": None},
    {"file": b"no such file"},
    {"file": "no such file"},
    {"file": "null\0byte"},
    {"file": "."},
    {"file": ".", "mode": "w"},
    {"file": "data", "mode": "x"},
    {"file": "data/below"},
    {"opener": 5},
    {"opener": lambda *_: -1},
    {"opener": lambda *_: "x"},
    {"opener": lambda *_: 99999},
    {"opener": lambda path, _flags: os.open(path, os.O_WRONLY), "mode": "r+"},
]


@pytest.mark.parametrize("arguments", BAD_CALLS)
def test_open_refuses_what_open_refuses(
    data_file: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any]
) -> None:
    """For every bad call: the same exception, with the same number, and no descriptor left."""
    monkeypatch.chdir(data_file.parent)
    errors: list[Any] = []
    for opens in (open, files.open):
        try:
            file = opens(**({"file": "data"} | arguments))
        except Exception as error:
            errors.append((type(error), getattr(error, "errno", None), getattr(error, "filename", None)))
        else:
            file.close()
            errors.append((type(None), None, None))
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"stop": 5}, TypeError, "cannot be a stop"),
        ({"stop": True}, TypeError, "cannot be a stop"),
        ({"timeout": -1}, ValueError, "timeout must be 0 or more"),
        ({"timeout": "1"}, TypeError, "timeout must be a number"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be 1 or more"),
        ({"chunk_size": -1}, ValueError, "chunk_size must be 1 or more"),
        ({"chunk_size": 1.5}, TypeError, "chunk_size must be a number"),
    ],
)
def test_our_own_arguments_are_checked(
    data_file: Path, arguments: dict[str, Any], error: type[Exception], says: str
) -> None:
    """A wrong stop, timeout or chunk size says what is wrong with it, before anything is opened."""
    for call in (files.open, files.wrap, files.iter_chunks):
        with pytest.raises(error, match=says):
            call(str(data_file) if call is not files.wrap else 0, **arguments)  # type: ignore[arg-type]  # of what each takes


def test_what_is_done_with_the_wrong_file(data_file: Path, pipe: tuple[int, int]) -> None:
    """A read of what is for writing, a write of what is for reading, and anything with a closed file, as with `open`."""
    for name, mode in ((data_file, "rb"), (data_file, "ab"), (pipe[0], "rb"), (pipe[1], "wb")):
        for buffering in (-1, 0):
            file = files.open(name, mode, buffering, closefd=not isinstance(name, int))
            with file, pytest.raises(io.UnsupportedOperation):
                file.write(b"x") if mode == "rb" else file.read(1)
            for method, *arguments in (("read", 1), ("write", b"x"), ("readline",), ("fileno",), ("seekable",)):
                with pytest.raises(ValueError):  # "closed", or that it is for the other direction
                    getattr(file, method)(*arguments)
            file.close()


# Regular files.


@pytest.mark.parametrize("buffering", [-1, 0, 4096])
@pytest.mark.parametrize("abandon", [False, True])
def test_a_read_to_the_end_stops_between_two_chunks(data_file: Path, buffering: int, abandon: bool) -> None:
    """Wherever it is stopped, what had been read is in `partial` and the rest is still to be read."""
    whole = data_file.read_bytes()
    stopped_midway = 0
    file: Any
    for n in range(1, 60):
        stop = StopAfter(n)
        with files.open(data_file, "rb", buffering, chunk_size=50_000, abandon_on_stop=abandon) as file:
            file.stop = stop
            try:
                assert file.read() == whole
                break
            except Interrupted as stopped:
                partial = stopped.partial or b""
                stopped_midway += 0 < len(partial) < len(whole)
                file.stop = None
                assert partial + file.read() == whole
    assert stopped_midway > 2


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_large_write_stops_between_two_chunks(tmp_path: Path, data_file: Path, buffering: int) -> None:
    """`transferred` is exact: going on there gives the whole."""
    whole = data_file.read_bytes()
    midway = 0
    for n in range(1, 30):
        with files.open(tmp_path / "copy", "wb", buffering, chunk_size=50_000) as file:
            file.stop = StopAfter(n)
            done = 0
            try:
                done = file.write(whole)
            except Interrupted as stopped:
                done = stopped.transferred or 0
            file.stop = None
            midway += 0 < done < len(whole)
            file.write(whole[done:])
        assert (tmp_path / "copy").read_bytes() == whole
    assert midway > 2


@pytest.mark.parametrize("mode", ["wb", "ab", "r+b", "w", "r+"])
def test_a_close_with_the_stop_set_loses_nothing(tmp_path: Path, mode: str) -> None:
    """What is buffered for a regular file is written by the close, however set the stop is."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    stop = StopEvent()
    with use_stop(stop), files.open(path, mode, stop=stop) as file:
        file.write(b"kept" if "b" in mode else "kept")
        stop.set()
    assert path.read_bytes() == b"kept"


def test_the_exception_of_the_block_is_the_one_that_leaves(tmp_path: Path) -> None:
    """A block that is interrupted leaves with that, and its file is complete up to there."""
    stop = StopEvent()

    def work() -> None:
        with files.open(tmp_path / "file", "wb", stop=stop) as file:
            file.write(b"one")
            stop.set("in the middle")
            file.write(b"two")

    with pytest.raises(Interrupted, match="in the middle"):
        work()
    assert (tmp_path / "file").read_bytes() == b"one"


def test_the_stop_is_that_of_every_layer(data_file: Path) -> None:
    """Setting it on one layer sets it on all, and anything that is a stop is accepted."""
    event = threading.Event()
    with files.open(data_file, stop=event) as file:
        assert file.stop is file.buffer.stop is file.buffer.raw.stop
        for layer in (file, file.buffer, file.buffer.raw):
            layer.stop = None
            assert file.stop is file.buffer.stop is file.buffer.raw.stop is None
            layer.stop = event
            assert file.stop is file.buffer.stop is file.buffer.raw.stop is not None
        with pytest.raises(TypeError, match="cannot be a stop"):
            file.stop = 5  # type: ignore[assignment]  # as a checker says too
        event.set()
        with pytest.raises(Interrupted):
            file.read(1)
        event.clear()
        assert file.read(0) == ""


@pytest.mark.parametrize("kind", ["event", "cleared", "foreign", "callable", "child", "current"])
@pytest.mark.parametrize("mode", ["rb", "r"])
def test_a_stop_is_seen_by_the_next_of_many_small_calls(data_file: Path, kind: str, mode: str) -> None:
    """However often a file was read before, the first call after the stop was set raises, buffered bytes or not."""
    for method, *arguments in (("read", 3), ("readline",)):
        parent, foreign, flag, event = StopEvent(), threading.Event(), threading.Event(), StopEvent()

        def set_again(event: StopEvent = event) -> None:
            for _ in range(2):
                event.clear()
                event.set()

        stops: dict[str, tuple[Any, Callable[[], None]]] = {
            "event": (event, event.set),
            "cleared": (event, set_again),
            "foreign": (foreign, foreign.set),
            "callable": (flag.is_set, flag.set),
            "child": (StopEvent(parent), parent.set),
            "current": (event, event.set),
        }
        stop, set_it = stops[kind]
        with files.open(data_file, mode, encoding=None if mode == "rb" else "latin-1") as file:
            read = getattr(file, method)
            file.stop = None if kind == "current" else stop
            with use_stop(stop if kind == "current" else None):
                for _ in range(5):
                    read(*arguments)
                set_it()
                with pytest.raises(Interrupted):
                    read(*arguments)
            file.stop = None
            read(*arguments)


def test_a_deadline_stops_a_read(data_file: Path) -> None:
    """A stop with a timeout raises `DeadlineExceeded`."""
    with files.open(data_file, "rb") as file:
        file.stop = StopEvent(timeout=0)
        with pytest.raises(DeadlineExceeded):
            file.read(1)


def test_a_file_that_grows_or_has_no_size_is_read_to_its_end(tmp_path: Path) -> None:
    """The size is only a hint: /proc says 0, and a file may have grown."""
    for path in ("/proc/self/status", "/proc/cpuinfo"):
        if not os.path.exists(path):
            pytest.skip("there is no /proc")
        with files.open(path, "rb") as file, files.open(path, "rb", 0) as raw:
            assert file.read().split(b"\n")[0] == raw.read().split(b"\n")[0] != b""
    path = str(tmp_path / "grows")
    with open(path, "wb", 0) as other, files.open(path, "rb") as file:
        other.write(b"abc")
        assert file.read(1) == b"a"
        other.write(b"def")
        assert file.read() == b"bcdef"
        other.truncate(0)
        assert file.read() == b""


def test_two_threads_may_write_one_regular_file(tmp_path: Path, background: Callable[..., Any]) -> None:
    """As with `open`, the calls of several threads take turns: a log file has several writers."""
    with files.open(tmp_path / "log", "wb", 100) as file:
        threads = [background(lambda: [file.write(b"line of a log\n") for _ in range(500)]) for _ in range(4)]
        for thread in threads:
            thread.result()
    assert (tmp_path / "log").read_bytes() == b"line of a log\n" * 2000


@pytest.mark.filterwarnings("default::ResourceWarning")
@pytest.mark.parametrize("mode", ["rb", "wb", "r+b", "r", "w"])
def test_a_file_that_is_dropped_warns_and_keeps_its_data(tmp_path: Path, mode: str) -> None:
    """As with `open`: a ResourceWarning, the buffer written, the descriptor closed."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    file = files.open(path, mode)
    if file.writable():
        file.write(b"new" if "b" in mode else "new")
    with pytest.warns(ResourceWarning, match="unclosed file"):
        del file
    assert path.read_bytes() == (b"new" if "r" not in mode or "+" in mode else b"old")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("abandon", [False, True])
def test_files_cannot_be_pickled(data_file: Path, abandon: bool, protocol: int) -> None:
    """As with `open`."""
    for buffering, mode in ((0, "rb"), (-1, "rb"), (-1, "r")):
        file = files.open(data_file, mode, buffering, abandon_on_stop=abandon)
        with file, pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(file, protocol)


# FIFOs and pipes.


@pytest.mark.parametrize("mode", ["rb", "wb", "r", "w"])
def test_the_open_of_a_fifo_stops(fifo: Path, mode: str, background: Callable[..., Any]) -> None:
    """While the other end has not come, a stop ends the open, and nothing is left open."""
    stop = StopEvent()
    opening = background(files.open, fifo, mode, stop=stop)
    wait_until_blocked(stop)
    stop.set("no peer")
    assert opening.error().reason == "no peer"
    with pytest.raises(OSError, match="No such device"):  # nobody reads it
        os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)


@pytest.mark.parametrize("mode", ["rb", "wb"])
def test_the_open_of_a_fifo_times_out(fifo: Path, mode: str) -> None:
    """`timeout` is for the open as well."""
    with pytest.raises(TimeoutError):
        files.open(fifo, mode, timeout=0.005)


def test_the_open_of_a_fifo_ends_when_the_other_end_comes(fifo: Path, background: Callable[..., Any]) -> None:
    """Also when the writer writes nothing: two programs that open two FIFOs in turn depend on it."""
    stop = StopEvent()
    for ours, other in (("rb", "wb"), ("wb", "rb")):
        opening = background(files.open, fifo, ours, stop=stop)
        wait_until_blocked(stop)
        with open(fifo, other), opening.result() as file:
            assert file.seekable() is False
            assert not stop.is_set()


def test_two_fifos_are_opened_in_turn(tmp_path: Path, background: Callable[..., Any]) -> None:
    """The classic handshake: each side opens one to write and the other to read, in opposite order."""
    there, back = tmp_path / "there", tmp_path / "back"
    os.mkfifo(there)
    os.mkfifo(back)

    def server() -> bytes:
        with files.open(there, "rb") as request, files.open(back, "wb") as reply:
            said: bytes = request.readline()
            reply.write(b"heard " + said)
            return said

    serving = background(server)
    with files.open(there, "wb") as request, files.open(back, "rb") as reply:
        request.write(b"hello\n")
        request.flush()
        assert reply.read() == b"heard hello\n"
    assert serving.result() == b"hello\n"


def test_no_byte_of_a_fifo_is_lost_in_its_open(fifo: Path, background: Callable[..., Any]) -> None:
    """A writer that comes, writes and goes while the reader still opens is read from its first byte to its end."""
    for _ in range(30):
        stop = StopEvent()
        reading = background(lambda stop=stop: files.read_bytes(fifo, stop=stop))
        wait_until_blocked(stop)
        with open(fifo, "wb", 0) as writer:
            writer.write(b"first")
        assert reading.result() == b"first"


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_blocked_read_of_a_pipe_stops_and_goes_on(
    pipe: tuple[int, int], buffering: int, background: Callable[..., Any]
) -> None:
    """The read raises when the stop is set; the bytes before and after it are all there; the descriptor stays blocking."""
    stop = StopEvent()
    file: Any
    with files.open(pipe[0], "rb", buffering, stop=stop) as file:
        os.write(pipe[1], b"abc")
        reading = background(file.readall if buffering == 0 else lambda: file.read(10))
        wait_until_blocked(stop)
        stop.set("now")
        error = reading.error()
        assert (error.partial, error.transferred, error.reason) == (b"abc", 3, "now")
        assert os.get_blocking(pipe[0])
        file.stop = None
        os.write(pipe[1], b"def")
        assert file.read(3) == b"def"


@pytest.mark.parametrize("buffering", [-1, 0])
def test_a_blocked_write_to_a_pipe_stops_and_goes_on(
    pipe: tuple[int, int], buffering: int, background: Callable[..., Any]
) -> None:
    """`transferred` is exact, whatever the pipe took."""
    stop = StopEvent()
    data = os.urandom(1_000_000)
    with files.open(pipe[1], "wb", buffering, stop=stop) as file:
        writing = background(file.write, data)
        wait_until_blocked(stop)
        stop.set()
        done = writing.error().transferred
        assert 0 < done < len(data)
        assert os.get_blocking(pipe[1])
        file.stop = None
        reading = background(files.read_bytes, pipe[0])
        assert file.write(data[done:]) == len(data) - done
    assert reading.result() == data


def test_a_write_to_a_pipe_whose_reader_is_gone(pipe: tuple[int, int]) -> None:
    """EPIPE, as with `open`."""
    os.close(pipe[0])
    with files.open(pipe[1], "wb", 0) as file, pytest.raises(BrokenPipeError):
        file.write(b"x")


def test_a_close_of_a_full_pipe_with_the_stop_set(pipe: tuple[int, int]) -> None:
    """It does not wait, closes, and has the bytes that the pipe did not take in `partial`."""
    fill(pipe[1])
    stop = StopEvent()
    file = files.open(pipe[1], "wb", stop=stop)
    file.write(b"left over")
    stop.set()
    with pytest.raises(Interrupted) as caught:
        file.close()
    assert caught.value.partial == b"left over"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(pipe[1])


def test_a_close_with_the_stop_set_writes_what_a_pipe_takes(pipe: tuple[int, int]) -> None:
    """Where there is room the close succeeds."""
    stop = StopEvent()
    with files.open(pipe[1], "wb", stop=stop) as file:
        file.write(b"goodbye")
        stop.set()
    assert os.read(pipe[0], 100) == b"goodbye"


def test_a_wait_times_out_and_can_be_repeated(pipe: tuple[int, int]) -> None:
    """`timeout` is per wait, raises the builtin TimeoutError, and loses nothing."""
    with files.open(pipe[0], "rb", timeout=0.005, closefd=False) as file:
        with pytest.raises(TimeoutError) as plain:
            file.read(3)
        assert type(plain.value) is TimeoutError
        os.write(pipe[1], b"ab")
        with pytest.raises(TimeoutError) as stalled:
            file.read(3)
        assert stalled.value.partial == b"ab"  # type: ignore[attr-defined]  # a Stalled
    fill(pipe[1])
    with files.open(pipe[1], "wb", 0, timeout=0.005) as file, pytest.raises(TimeoutError):
        file.write(b"x")


def test_another_thread_cannot_close_a_file_that_is_waited_on(
    pipe: tuple[int, int], background: Callable[..., Any]
) -> None:
    """The number could be reused under the wait, so the close refuses; with the stop set it succeeds."""
    for buffering in (0, -1):
        stop = StopEvent()
        file = files.open(pipe[0], "rb", buffering, stop=stop, closefd=False)
        reading = background(file.read, 1)
        wait_until_blocked(stop)
        with pytest.raises(ResourceBusy, match="another thread is blocked"):
            file.close()
        if buffering:
            with pytest.raises(ResourceBusy, match="another thread is blocked"):
                file.read(1)
        stop.set()
        assert isinstance(reading.error(), Interrupted)
        file.close()


def test_a_forked_child_may_close_what_a_thread_of_its_parent_waits_on(
    pipe: tuple[int, int], background: Callable[..., Any]
) -> None:
    """The child has none of the threads, so its close of the raw file is no danger to anybody."""
    stop = StopEvent()
    file = files.open(pipe[0], "rb", 0, stop=stop, closefd=False)
    reading = background(file.read, 1)
    wait_until_blocked(stop)
    child = os.fork()
    if child == 0:
        try:
            file.close()
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    stop.set()
    reading.error()
    file.close()


def test_a_shared_descriptor_keeps_its_mode(pipe: tuple[int, int]) -> None:
    """Neither reading nor writing, neither waiting nor not, switches O_NONBLOCK for those who share it."""
    flags = [fcntl.fcntl(end, fcntl.F_GETFL) for end in pipe]
    with (
        files.open(pipe[0], "rb", 0, closefd=False, timeout=0) as reader,
        files.open(pipe[1], "wb", 0, closefd=False, timeout=0) as writer,
    ):
        writer.write(b"x")
        assert [fcntl.fcntl(end, fcntl.F_GETFL) for end in pipe] == flags
        assert reader.read(1) == b"x"
        with pytest.raises(TimeoutError):
            reader.read(1)
        assert [fcntl.fcntl(end, fcntl.F_GETFL) for end in pipe] == flags


@pytest.mark.parametrize("kernel_answers", [True, False])
def test_sockets_and_kernels_that_do_not_answer(
    kernel_answers: bool,
    monkeypatch: pytest.MonkeyPatch,
    background: Callable[..., Any],
) -> None:
    """A descriptor of a socket works; so does everything where only poll says whether a call would block."""
    if not kernel_answers:
        monkeypatch.setattr("iointerrupt._files.raw.NOWAIT", 0)
    one, two = socket.socketpair()
    stop = StopEvent()
    data = os.urandom(400_000)
    with one, two, files.open(one.fileno(), "rb", stop=stop, closefd=False) as reader:
        reading = background(reader.read, len(data))
        wait_until_blocked(stop)
        with files.open(two.fileno(), "wb", 0, closefd=False) as writer:
            assert writer.write(data) == len(data)
        assert reading.result() == data


# Terminals and devices.


def test_a_blocked_read_of_a_terminal_stops(terminal: tuple[int, int], background: Callable[..., Any]) -> None:
    """A line comes when it is complete; a stop ends the wait for one; the terminal keeps its mode."""
    master, slave = terminal
    stop = StopEvent()
    flags = fcntl.fcntl(slave, fcntl.F_GETFL)
    with files.open(slave, "r", stop=stop, closefd=False, encoding="utf-8") as file:
        assert isinstance(file, StreamText)
        assert file.isatty()
        os.write(master, b"hello\n")
        assert file.readline() == "hello\n"
        reading = background(file.readline)
        wait_until_blocked(stop)
        assert fcntl.fcntl(slave, fcntl.F_GETFL) == flags
        stop.set()
        assert isinstance(reading.error(), Interrupted)
        file.stop = None
        os.write(master, b"again\n\x04")
        assert file.readline() == "again\n"
        assert file.read() == ""


def test_a_blocked_write_to_a_terminal_stops(terminal: tuple[int, int], background: Callable[..., Any]) -> None:
    """A terminal that nobody empties takes so much, and then a stop ends the write."""
    master, slave = terminal
    tty.setraw(slave)
    stop = StopEvent()
    with files.open(slave, "wb", 0, stop=stop, closefd=False) as file:
        writing = background(file.write, b"x" * 1_000_000)
        wait_until_blocked(stop)
        stop.set()
        done = writing.error().transferred
    taken = 0
    os.set_blocking(master, False)
    while taken < done:
        taken += len(os.read(master, done - taken))
    assert taken == done > 0


def test_the_other_side_of_a_terminal(terminal: tuple[int, int], background: Callable[..., Any]) -> None:
    """The master side, whose name would open another terminal, stops too."""
    master, slave = terminal
    tty.setraw(slave)
    stop = StopEvent()
    with files.open(master, "rb", 0, stop=stop, closefd=False) as file:
        os.write(slave, b"out")
        assert file.read(10) == b"out"
        reading = background(file.read, 10)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(reading.error(), Interrupted)


def test_devices_that_never_wait() -> None:
    """/dev/null, zero, urandom and full do what they do."""
    with files.open("/dev/null", "rb") as file:
        assert file.read() == b""
    with files.open("/dev/null", "w") as file:
        assert file.write("gone") == 4
    with files.open("/dev/zero", "rb") as file:
        assert file.read(100_000) == bytes(100_000)
    with files.open("/dev/urandom", "rb", 0) as file:
        assert len(file.read(100)) == 100
    with files.open("/dev/full", "wb", 0) as file, pytest.raises(OSError) as caught:
        file.write(b"x")
    assert caught.value.errno == errno.ENOSPC


def test_an_endless_device_stops() -> None:
    """`read()` of /dev/zero would never end."""
    stop = StopAfter(20)
    with files.open("/dev/zero", "rb", 0, stop=stop) as file, pytest.raises(Interrupted) as caught:
        file.read()
    assert caught.value.transferred == len(caught.value.partial or b"") > 0


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/fd is Linux's")
def test_dev_stdin_is_opened_anew(pipe: tuple[int, int], background: Callable[..., Any]) -> None:
    """Through its name in /dev, a pipe is an open file of ours, and the one that is shared keeps its mode."""
    stop = StopEvent()
    with files.open(f"/dev/fd/{pipe[0]}", "rb", stop=stop) as file:
        reading = background(file.readline)
        wait_until_blocked(stop)
        assert os.get_blocking(pipe[0])
        os.write(pipe[1], b"line\n")
        assert reading.result() == b"line\n"


# iter_chunks and read_bytes.


def test_iter_chunks_gives_all_bytes(data_file: Path) -> None:
    """Of a path, a descriptor and a file object; with offsets, and in chunks of the size asked for."""
    whole = data_file.read_bytes()
    with open(data_file, "rb") as standard, files.open(data_file, "rb") as ours, io.BytesIO(whole) as memory:
        for source in (data_file, str(data_file), os.fsencode(data_file), standard, standard.fileno(), ours, memory):
            for start, end in ((0, None), (10, None), (10, 150_000), (0, 1), (5, 5), (400_000, None), (0, 400_000)):
                if hasattr(source, "seek"):
                    source.seek(0)
                elif isinstance(source, int):
                    os.lseek(source, 0, os.SEEK_SET)
                chunks = list(files.iter_chunks(source, chunk_size=7000, start=start, end=end))
                assert b"".join(chunks) == whole[start:end]
                assert all(len(chunk) == 7000 for chunk in chunks[:-1])


def test_iter_chunks_stops_between_two_chunks(data_file: Path) -> None:
    """Every byte read is in a chunk that was delivered; the stop may be the iteration's own or the current one."""
    whole = data_file.read_bytes()
    for n in range(1, 8):
        got = b""
        with pytest.raises(Interrupted):
            for chunk in files.iter_chunks(data_file, stop=StopAfter(n), chunk_size=10_000):
                got += chunk
        assert whole.startswith(got)
        assert len(got) % 10_000 == 0
    stop = StopEvent()
    with use_stop(stop), open(data_file, "rb") as file:
        chunks = files.iter_chunks(file, chunk_size=10_000)
        assert next(chunks) == whole[:10_000]
        stop.set()
        with pytest.raises(Interrupted):
            next(chunks)
        assert file.tell() == 10_000


@pytest.mark.parametrize("kind", ["descriptor", "standard", "ours", "bound to another stop"])
def test_iter_chunks_stops_a_blocked_pipe(kind: str, pipe: tuple[int, int], background: Callable[..., Any]) -> None:
    """Whatever kind of object it is, and chunks come as the bytes do."""
    stop = StopEvent()
    opens: dict[str, Callable[[], Any]] = {
        "descriptor": lambda: pipe[0],
        "standard": lambda: open(pipe[0], "rb", closefd=False),
        "ours": lambda: files.open(pipe[0], "rb", closefd=False),
        "bound to another stop": lambda: files.open(pipe[0], "rb", closefd=False, stop=StopEvent()),
    }
    source = opens[kind]()
    chunks = files.iter_chunks(source, stop=stop)
    os.write(pipe[1], b"abc")
    assert next(chunks) == b"abc"
    reading = background(next, chunks)
    wait_until_blocked(stop)
    stop.set()
    assert isinstance(reading.error(), Interrupted)
    if not isinstance(source, int):
        source.close()


def test_iter_chunks_checks_its_arguments_at_once(data_file: Path, pipe: tuple[int, int]) -> None:
    """What is wrong is said by the call, not by the first chunk; a missing file is, by the first chunk."""
    for bad in ({"start": -1}, {"end": -1}, {"start": 5, "end": 4}, {"chunk_size": 0}):
        with pytest.raises(ValueError):
            files.iter_chunks(data_file, **bad)  # type: ignore[arg-type]  # ints all
    for source in (None, 1.5, object()):
        with pytest.raises(TypeError):
            files.iter_chunks(source)  # type: ignore[arg-type]  # what is under test
    with open(data_file, encoding="utf-8") as text, pytest.raises(TypeError, match="buffer"):
        files.iter_chunks(text)  # type: ignore[arg-type]  # what is under test
    missing = files.iter_chunks("no such file")
    with pytest.raises(FileNotFoundError):
        next(missing)
    with open(pipe[0], "rb", closefd=False) as file, pytest.raises(io.UnsupportedOperation):
        next(files.iter_chunks(file, start=1))
    never_begun = files.iter_chunks(data_file)
    del never_begun


def test_iter_chunks_that_is_given_up_closes_its_file(data_file: Path) -> None:
    """An iteration that ends early leaves nothing open, and does not warn."""
    chunks = files.iter_chunks(data_file, chunk_size=10)
    next(chunks)
    del chunks


def test_read_bytes(data_file: Path) -> None:
    """All of a file, by path or descriptor; what was read before a stop is in `partial`."""
    whole = data_file.read_bytes()
    assert files.read_bytes(data_file) == whole
    with open(data_file, "rb") as file:
        assert files.read_bytes(file.fileno()) == whole
        file.fileno()
    with pytest.raises(Interrupted):
        files.read_bytes(data_file, stop=lambda: True)
    with pytest.raises(IsADirectoryError):
        files.read_bytes(data_file.parent)


# What nobody here wrote.


def test_the_standard_library_takes_our_files(tmp_path: Path) -> None:
    """csv, json, gzip, zipfile, tarfile, pickle, hashlib and shutil read and write them as they do standard ones."""
    rows = [["a", "b,c", 'd"e'], ["ü", "", "line\nbreak"]]
    file: Any
    with files.open(tmp_path / "t.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    with files.open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == rows
    with files.open(tmp_path / "t.json", "w") as file:
        json.dump(rows, file)
    with files.open(tmp_path / "t.json") as file:
        assert json.load(file) == rows
    data = os.urandom(300_000)
    with files.open(tmp_path / "t.gz", "wb") as file, gzip.open(file, "wb") as packed:
        packed.write(data)
    with files.open(tmp_path / "t.gz", "rb") as file, gzip.open(file) as packed:
        assert packed.read() == data
    with files.open(tmp_path / "t.zip", "w+b") as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("one", data)
        with zipfile.ZipFile(file) as archive:
            assert archive.read("one") == data
    with files.open(tmp_path / "t.tar", "wb") as file, tarfile.open(fileobj=file, mode="w|gz") as archive_file:
        archive_file.add(tmp_path / "t.zip", "inside")
    with files.open(tmp_path / "t.tar", "rb") as file, tarfile.open(fileobj=file, mode="r:gz") as archive_file:
        member = archive_file.extractfile("inside")
        assert member is not None
        assert member.read() == (tmp_path / "t.zip").read_bytes()
    with files.open(tmp_path / "t.pickle", "wb") as file:
        pickle.dump([rows, data], file)
    with files.open(tmp_path / "t.pickle", "rb") as file:
        assert pickle.load(file) == [rows, data]
    (tmp_path / "data").write_bytes(data)
    with files.open(tmp_path / "data", "rb") as file:
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(data).digest()
    with files.open(tmp_path / "data", "rb") as file, files.open(tmp_path / "copy", "wb") as target:
        shutil.copyfileobj(file, target)
    assert (tmp_path / "copy").read_bytes() == data


def test_the_descriptor_of_a_fifo_can_be_handed_on(fifo: Path, background: Callable[..., Any]) -> None:
    """Both ends are in blocking mode once open, and all that was written is still in the FIFO."""
    stop = StopEvent()
    opening = background(files.open, fifo, "rb", 0, stop=stop)
    wait_until_blocked(stop)
    with files.open(fifo, "wb", 0) as writer, opening.result() as reader:
        assert os.get_blocking(writer.fileno())
        assert os.get_blocking(reader.fileno())
        writer.write(b"whole")
        assert os.read(reader.fileno(), 10) == b"whole"


def test_the_open_of_a_fifo_takes_nothing_that_is_there(fifo: Path) -> None:
    """Data that is in the FIFO when it is asked stays there for whoever reads the descriptor."""
    writer = os.open(fifo, os.O_RDWR)
    os.write(writer, b"whole")
    with files.open(fifo, "rb", 0) as reader:
        assert os.read(reader.fileno(), 10) == b"whole"
    os.close(writer)


def test_an_iteration_goes_on_after_a_stop_and_a_timeout(pipe: tuple[int, int], background: Callable[..., Any]) -> None:
    """It is not at its end: it raises as long as the stop is set, and then goes on; the call itself raises nothing."""
    stop = StopEvent()
    stop.set()
    chunks = files.iter_chunks(pipe[0], stop=stop, chunk_size=3, timeout=0.005)
    for _ in range(2):
        with pytest.raises(Interrupted):
            next(chunks)
    stop.clear()
    for _ in range(2):
        with pytest.raises(TimeoutError):
            next(chunks)
    os.write(pipe[1], b"abcde")
    os.close(pipe[1])
    assert list(chunks) == [b"abc", b"de"]
    assert list(chunks) == []


def test_an_iteration_is_one_thread_s_and_closes_what_it_opened(
    fifo: Path, data_file: Path, background: Callable[..., Any]
) -> None:
    """A second thread gets `ResourceBusy`; `close` is the end."""
    stop = StopEvent()
    chunks = files.iter_chunks(fifo, stop=stop)
    stepping = background(next, chunks)
    wait_until_blocked(stop)
    with pytest.raises(ResourceBusy):
        next(chunks)
    with pytest.raises(ResourceBusy):
        chunks.close()
    stop.set()
    assert isinstance(stepping.error(), Interrupted)
    chunks = files.iter_chunks(data_file, chunk_size=10)
    assert len(next(chunks)) == 10
    chunks.close()
    assert list(chunks) == []


def test_an_iteration_over_our_file_has_its_own_timeout(pipe: tuple[int, int]) -> None:
    """That of `iter_chunks`, and the file keeps its own for later."""
    file: Any
    for buffering in (0, -1):
        with files.open(pipe[0], "rb", buffering, closefd=False, timeout=60) as file:
            with pytest.raises(TimeoutError):
                next(files.iter_chunks(file, timeout=0.005))
            assert getattr(file, "raw", file)._timeout == 60
