"""`files.wrap`: somebody else's file objects, whose waits a stop ends and whose bytes are all delivered."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import select
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iointerrupt import Interrupted, ResourceBusy, Stalled, StopEvent, files, use_stop
from iointerrupt.testing import wait_until_blocked
from tests.descriptors import open_on


class OnlyReads:
    """An object with nothing but `read`, which waits until there is something to give."""

    def __init__(self) -> None:
        self.pieces: list[bytes | Exception] = []
        self.there = threading.Semaphore(0)
        self.closed = False

    def give(self, piece: bytes | Exception) -> None:
        """Let a `read` return or raise it."""
        self.pieces.append(piece)
        self.there.release()

    def read(self, size: int) -> Any:
        assert self.there.acquire(timeout=20)
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def pipe() -> Iterator[tuple[int, io.FileIO]]:
    """The reading end of a pipe, which belongs to the test, and the writing one."""
    reader, writer = os.pipe()
    with io.FileIO(writer, "w") as file:
        yield reader, file


READERS: dict[str, Callable[[int], Any]] = {
    "descriptor": lambda fd: fd,
    "raw": io.FileIO,
    "buffered": lambda fd: io.BufferedReader(io.FileIO(fd)),
    "ours": lambda fd: files.open(fd, "rb"),
    "temporary": lambda fd: tempfile._TemporaryFileWrapper(io.BufferedReader(io.FileIO(fd)), "pipe", delete=False),
}


@pytest.mark.parametrize("kind", READERS)
def test_a_blocked_read_stops_and_goes_on(
    kind: str, pipe: tuple[int, io.FileIO], background: Callable[..., Any]
) -> None:
    """Of every kind of object over a pipe: the wait ends, nothing is lost, `close` closes the object."""
    reader, writer = pipe
    stop = StopEvent()
    with files.wrap(READERS[kind](reader), stop=stop) as file:
        assert issubclass(type(file), io.RawIOBase)
        assert file.readable()
        assert not file.writable()
        assert not file.seekable()
        assert file.fileno() == reader
        writer.write(b"abcdef")
        assert file.read(2) == b"ab"
        target = bytearray(3)
        assert file.readinto(target) == 3
        assert target == b"cde"
        assert file.read(10) == b"f"
        reading = background(file.read, 10)
        wait_until_blocked(stop)
        stop.set("now")
        assert reading.error().reason == "now"
        assert os.get_blocking(reader)
        file.stop = None
        writer.write(b"more")
        writer.close()
        assert file.readall() == b"more"
        assert file.read(1) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(reader)
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_what_the_object_had_buffered_comes_first(pipe: tuple[int, io.FileIO]) -> None:
    """Bytes that were in its buffer before it was wrapped are delivered in their place."""
    reader, writer = pipe
    inner = open(reader, "rb")
    writer.write(b"a line\nanother\n")
    assert inner.readline() == b"a line\n"
    writer.write(b"third\n")
    writer.close()
    with io.BufferedReader(files.wrap(inner)) as file:
        assert file.readlines() == [b"another\n", b"third\n"]


def test_a_wrapper_may_leave_its_object_open(pipe: tuple[int, io.FileIO]) -> None:
    """With `closefd=False`, and dropped or closed."""
    reader, writer = pipe
    with open(reader, "rb") as inner:
        for what in (inner, reader):
            with files.wrap(what, closefd=False) as file:
                writer.write(b"x")
                assert file.read(1) == b"x"
            file.close()
            files.wrap(what, closefd=False)
        writer.write(b"y")
        assert inner.read(1) == b"y"


def test_a_wrapped_popen(background: Callable[..., Any]) -> None:
    """The output of a child process that says one thing and then nothing."""
    program = "import sys; print('ready', flush=True); sys.stdin.read(); print('bye')"
    stop = StopEvent()
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        output = io.BufferedReader(files.wrap(child.stdout, stop=stop))
        assert output.readline() == b"ready\n"
        reading = background(output.readline)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(reading.error(), Interrupted)
        output.raw.stop = None
        assert child.stdin is not None
        child.stdin.close()
        assert output.readline() == b"bye\n"
        output.close()


def test_a_wrapped_makefile(background: Callable[..., Any]) -> None:
    """A file over a plain socket waits on the socket."""
    one, two = socket.socketpair()
    stop = StopEvent()
    with one, two, one.makefile("rb") as reader, two.makefile("wb") as writer:
        source = files.wrap(reader, stop=stop)
        target = files.wrap(writer, stop=stop)
        assert target.write(b"through") == 7
        assert source.read(100) == b"through"
        reading = background(source.read, 1)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(reading.error(), Interrupted)
        source.close()
        target.close()


@pytest.mark.parametrize("kind", ["descriptor", "raw", "buffered"])
def test_a_blocked_write_stops_and_goes_on(kind: str, background: Callable[..., Any]) -> None:
    """`transferred` is exact, and what the object had buffered goes first."""
    reader, writer = os.pipe()
    stop = StopEvent()
    data = os.urandom(500_000)
    objects: dict[str, Callable[[], Any]] = {
        "descriptor": lambda: writer,
        "raw": lambda: io.FileIO(writer, "w"),
        "buffered": lambda: io.BufferedWriter(io.FileIO(writer, "w")),
    }
    inner = objects[kind]()
    first = b""
    if kind == "buffered":
        first = b"before"
        inner.write(first)
    with files.wrap(inner, stop=stop) as file:
        assert file.writable()
        writing = background(file.write, data)
        wait_until_blocked(stop)
        stop.set()
        done = writing.error().transferred
        assert 0 < done < len(data)
        file.stop = None
        reading = background(files.read_bytes, reader)
        file.write(data[done:])
        file.flush()
    assert reading.result() == first + data
    os.close(reader)


def test_a_wrapped_regular_file_seeks(tmp_path: Path) -> None:
    """What can seek still can, without a byte read ahead."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with open(path, "r+b") as inner, files.wrap(inner) as file:
        assert file.seekable()
        assert file.read(2) == b"01"
        assert (file.tell(), inner.tell()) == (2, 2)
        file.seek(5)
        assert file.read(2) == b"56"
        file.write(b"X")
        file.truncate(9)
    assert path.read_bytes() == b"0123456X8"


def test_a_descriptor_is_wrapped_for_what_it_can_do(tmp_path: Path) -> None:
    """Reading, writing or both, as it was opened."""
    path = tmp_path / "file"
    for flags, mode in ((os.O_RDONLY | os.O_CREAT, "rb"), (os.O_WRONLY, "wb"), (os.O_RDWR, "rb+")):
        with files.wrap(os.open(path, flags)) as file:
            assert getattr(file, "mode", None) == mode


def test_a_wrapper_is_known_by_its_object(tmp_path: Path) -> None:
    """Name, mode and kind are the wrapped object's; a wrapper cannot be pickled, as a file cannot."""
    with open(tmp_path / "file", "wb", buffering=0) as inner, files.wrap(inner) as file:
        assert [getattr(file, name) for name in ("name", "mode")] == [inner.name, "wb"]
        assert not file.isatty()
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(file)


def test_an_object_that_only_reads_is_read_in_a_helper(background: Callable[..., Any]) -> None:
    """A stop ends the wait; what the read returns afterwards is what the next read gets, also if that is an error."""
    inner = OnlyReads()
    stop = StopEvent()
    with files.wrap(inner, stop=stop) as file:
        inner.give(b"one")
        assert file.read(2) == b"on"
        assert file.read(2) == b"e"
        for late in (b"late", OSError("late")):
            file.stop = stop = StopEvent()
            reading = background(file.read, 10)
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(reading.error(), Interrupted)
            file.stop = None
            inner.give(late)
            if isinstance(late, bytes):
                assert file.read(10) == late
            else:
                with pytest.raises(OSError, match="late"):
                    file.read(10)
        inner.give(b"last")
        inner.give(b"")
        assert file.read() == b"last"
    assert inner.closed


def test_a_descriptor_that_tells_nothing_is_not_asked(tmp_path: Path) -> None:
    """A GzipFile has a descriptor, and data of its own: it is read in a helper."""
    with gzip.open(tmp_path / "packed", "wb") as packed:
        packed.write(b"data" * 1000)
    with gzip.open(tmp_path / "packed") as packed, files.wrap(packed) as file:
        assert file.readall() == b"data" * 1000


def test_an_object_that_only_writes_is_written_in_a_helper(background: Callable[..., Any]) -> None:
    """Chunk by chunk; `transferred` counts those that were begun, and a retry after it writes nothing twice."""
    go_on = threading.Semaphore(1)
    got: list[bytes] = []

    class OnlyWrites:
        def write(self, data: bytes) -> int:
            assert go_on.acquire(timeout=20)
            got.append(data)
            return len(data)

        def close(self) -> None:
            pass

    stop = StopEvent()
    with files.wrap(OnlyWrites(), stop=stop, chunk_size=3) as file:
        writing = background(file.write, b"abcdef")
        while not got:
            wait_until_blocked(stop)
        wait_until_blocked(stop)
        stop.set()
        error = writing.error()
        go_on.release()
        assert error.transferred in {3, 6}  # what is under way is taken
        done = error.transferred
        go_on.release()
        file.stop = None
        file.write(b"abcdef"[done:])
    assert b"".join(got) == b"abcdef"


def test_a_late_read_is_what_the_next_wrapper_gets(background: Callable[..., Any]) -> None:
    """Also after the copy that began it: its bytes stay with the source."""
    inner, stop, target = OnlyReads(), StopEvent(), io.BytesIO()
    copying = background(files.copyfileobj, inner, target, stop=stop)
    wait_until_blocked(stop)
    stop.set()
    assert isinstance(copying.error(), Interrupted)
    for piece in (b"late", b"more", b""):
        inner.give(piece)
    with files.wrap(inner, closefd=False) as file:
        assert file.read(2) == b"la"
    assert files.copyfileobj(inner, target) == 6
    assert target.getvalue() == b"temore"


def test_a_second_thread_is_told_that_the_wrapper_is_busy(
    pipe: tuple[int, io.FileIO], background: Callable[..., Any]
) -> None:
    """Two threads in one wrapper would take each other's bytes."""
    stop = StopEvent()
    with open(pipe[0], "rb") as inner, files.wrap(inner, stop=stop) as file:
        reading = background(file.read, 1)
        wait_until_blocked(stop)
        for call in (lambda: file.read(1), lambda: file.readinto(bytearray(1)), file.close):
            with pytest.raises(ResourceBusy, match="another thread"):
                call()
        pipe[1].write(b"x")
        assert reading.result() == b"x"


@pytest.mark.parametrize("source", [None, "path", 1.5, object(), [], b"path"], ids=lambda source: type(source).__name__)
def test_what_is_no_file_is_refused(source: Any) -> None:
    """With an error that says what is needed."""
    with pytest.raises(TypeError, match="a descriptor or a binary file object is needed"):
        files.wrap(source)


def test_text_and_sockets_are_refused_with_advice(tmp_path: Path) -> None:
    """The error says what to wrap instead."""
    (tmp_path / "file").touch()
    with open(tmp_path / "file", encoding="utf-8") as text, pytest.raises(TypeError, match=r"\.buffer"):
        files.wrap(text)  # type: ignore[arg-type]  # what is under test
    with pytest.raises(TypeError, match=r"\.buffer"):
        files.wrap(io.StringIO())  # type: ignore[arg-type]  # what is under test
    with socket.socket() as sock, pytest.raises(TypeError, match=r"sockets\.wrap"):
        files.wrap(sock)  # type: ignore[arg-type]  # what is under test

    class GivesText:
        def read(self, size: int) -> str:
            return "text"

        def close(self) -> None:
            pass

    with files.wrap(GivesText()) as file, pytest.raises(TypeError, match="it gives str"):  # type: ignore[arg-type]  # what is under test
        file.read(1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        files.wrap(99999)
    inner = open(tmp_path / "file", "rb")
    inner.close()
    with pytest.raises(ValueError, match="closed"):
        files.wrap(inner)


@pytest.mark.parametrize("kind", ["raw", "buffered", "wrapped descriptor"])
@pytest.mark.parametrize("read", ["readline", "readlines", "__next__"])
def test_a_stopped_line_is_in_partial(
    kind: str, read: str, pipe: tuple[int, io.FileIO], background: Callable[..., Any]
) -> None:
    """A raw object keeps what it had of a line, and `readlines` the lines before it too."""
    stop = StopEvent()
    inner = pipe[0] if kind == "wrapped descriptor" else READERS[kind](pipe[0])
    with files.wrap(inner, stop=stop) as file:
        pipe[1].write(b"one\ntwo\nth")
        if read != "readlines":
            assert (file.readline(), next(file)) == (b"one\n", b"two\n")
        reading = background(getattr(file, read))
        wait_until_blocked(stop)
        stop.set()
        partial = reading.error().partial or b""
        said = b"one\ntwo\nth" if read == "readlines" else b"th"
        # A buffered object is asked by poll before each read: it may have been stopped there, with some still to come.
        assert partial == said or (kind == "buffered" and said.startswith(partial))
        file.stop = None
        pipe[1].write(b"ree\nfour\n")
        rest = (said + b"ree\n")[len(partial) :].splitlines(keepends=True)
        assert [file.readline() for _ in rest] == rest
        assert file.readline(2) == b"fo"
        assert file.readlines(1) == [b"ur\n"]


def test_a_timed_out_line_is_in_partial(pipe: tuple[int, io.FileIO]) -> None:
    """As a stop's, and nothing of a line that had not begun."""
    with files.wrap(pipe[0], timeout=0.005) as file:
        pipe[1].write(b"one\ntwo")
        with pytest.raises(Stalled) as caught:
            file.readlines()
        assert caught.value.partial == b"one\ntwo"
        with pytest.raises(TimeoutError) as nothing:
            file.readline()
        assert not isinstance(nothing.value, Stalled)


def test_writelines_counts_all_lines(background: Callable[..., Any]) -> None:
    """`transferred` of a raw file's `writelines` is over all of its lines."""
    reader, writer = os.pipe()
    stop = StopEvent()
    with files.wrap(writer, stop=stop) as file:
        writing = background(file.writelines, [b"a" * 60_000, b"b" * 60_000])
        wait_until_blocked(stop)
        stop.set()
        done = writing.error().transferred
    assert len(files.read_bytes(reader)) == done > 60_000
    os.close(reader)


def test_a_wrapped_terminal_closes_all_that_it_opened() -> None:
    """The second descriptor of a terminal is closed with the wrapper, the object's own is not."""
    master, slave = os.openpty()
    terminal = os.ttyname(slave)
    with open(slave, "rb", 0) as inner:
        wrapper = files.wrap(inner, closefd=False)
        assert len(open_on(terminal)) == 2
        wrapper.close()
        assert open_on(terminal) == {slave}
    os.close(master)


def test_an_object_without_close_is_closed_without() -> None:
    """`read` or `write` is all that a wrapped object needs."""

    class OnlyWrites:
        def write(self, data: bytes) -> int:
            return len(data)

    file = files.wrap(OnlyWrites())
    assert file.write(b"abc") == 3
    file.close()
    assert file.closed


def test_a_stop_that_is_set_does_not_keep_a_descriptor_from_being_wrapped():
    """Nothing has to be waited for; the first read raises, and what was in the pipe is there afterwards."""
    stop = StopEvent()
    stop.set()
    reader, writer = os.pipe()
    os.write(writer, b"abc")
    os.close(writer)
    with use_stop(stop):
        raw = files.wrap(reader)
        with pytest.raises(Interrupted):
            raw.read(3)
    assert raw.read(3) == b"abc"
    raw.close()


def test_what_several_write_to_a_fifo_comes_in_whole_pieces(tmp_path, background):
    """Up to PIPE_BUF bytes are one write, which the other writers of the FIFO do not get in between (pipe(7))."""
    path = tmp_path / "fifo"
    os.mkfifo(path)

    all_open = threading.Barrier(3)  # else one could be at its end, and the reader with it, before another has begun

    def write(letter):
        with files.open(path, "wb", buffering=0) as fifo:
            all_open.wait(20)
            for _ in range(300):
                fifo.write(letter * (select.PIPE_BUF - 1) + b"\n")

    writers = [background(write, letter) for letter in (b"a", b"b", b"c")]
    with files.open(path, "rb") as fifo:
        lines = fifo.read().splitlines()
    for writer in writers:
        writer.result()
    assert len(lines) == 900
    assert {(len(line), len(set(line))) for line in lines} == {(select.PIPE_BUF - 1, 1)}


def test_a_close_leaves_the_object_open_for_a_read_that_goes_on(background):
    """What a stop has left behind in a helper keeps its descriptor until it returns, and closes the object then."""
    source, stop = OnlyReads(), StopEvent()
    raw = files.wrap(source, stop=stop)
    reader = background(raw.read, 1)
    wait_until_blocked(stop)
    stop.set()
    assert isinstance(reader.error(), Interrupted)
    (helper,) = [thread for thread in threading.enumerate() if thread.name == "iointerrupt-read"]
    raw.close()
    assert raw.closed
    assert not source.closed
    source.give(b"late")
    helper.join(10)
    assert source.closed
