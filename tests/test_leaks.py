"""`testing.no_leaks`: what is left behind is found, named and located; what is not left behind is not reported."""

from __future__ import annotations

import _thread
import asyncio
import gc
import multiprocessing
import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from contextlib import ExitStack, contextmanager

import pytest
import requests

from iointerrupt import Interrupted, StopEvent, aio, calls, sockets
from iointerrupt.testing import _leaks, _origins, no_leaks, steps, wait_until_blocked
from tests.blocking import run_program


@pytest.fixture
def away():
    """Puts away, after the test, what it has left behind on purpose."""
    with ExitStack() as away:
        yield away


@contextmanager
def leak(lines):
    """A block that leaves something behind; what is said of it is put into `lines`."""
    with pytest.raises(AssertionError) as caught, no_leaks("the import", timeout=0):
        yield
    first, *rest = str(caught.value).split("\n  ")
    assert first == "the import left behind:"
    lines += rest


def here(after=0):
    """How the line is said that is `after` lines after the caller's."""
    frame = sys._getframe(1)
    return f"{__file__}:{frame.f_lineno + after} in {frame.f_code.co_name}"


def close(made):
    """Close whatever it is."""
    if isinstance(made, int):
        os.close(made)
    elif isinstance(made, tuple | list):
        for one in made:
            close(one)
    else:
        made.close()


# Descriptors


def connected():
    """Two ends of a connection over TCP."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return [socket.create_connection(server.getsockname()), server.accept()[0]]


def detached():
    """Descriptors that were of sockets."""
    return [sock.detach() for sock in socket.socketpair()]


def deleted(path):
    """A file without a name."""
    file = path.open("w")
    path.unlink()
    return file


def linked(path):
    """A file that is opened by another name than its own."""
    path.touch()
    (path.parent / "link").symlink_to(path)
    return open(path.parent / "link")


def crooked(path):
    """A file without a name, which was opened by an odd one."""
    file = open(f"{path.parent}//./{path.name}", "w")
    path.unlink()
    return file


TCP = r"socket AF_INET SOCK_STREAM 127\.0\.0\.1:\d+"
DESCRIPTORS = {
    "file": (lambda path: open(path, "w"), r"file {path}"),
    "os.open": (lambda path: os.open(path, os.O_CREAT), r"file {path}"),
    "bytes": (lambda path: open(os.fsencode(path), "w"), r"file {path}"),
    "deleted": (deleted, r"file {path}, deleted"),
    "linked": (linked, r"file {path}"),
    "crooked": (crooked, r"file {path}, deleted"),
    "relative": (lambda path: open(os.path.relpath(path), "w"), r"file {path}"),
    "temporary": (lambda path: tempfile.TemporaryFile(dir=path.parent), r"file {parent}/\S+, deleted"),
    "device": (lambda _: open("/dev/zero", "rb"), r"file /dev/zero"),
    "memory": (lambda _: os.memfd_create("name"), "file in memory name"),
    "pipe": (lambda _: os.pipe(), r"pipe \d+, its end for (reading|writing)"),
    "dup": (lambda _: os.dup(0), "(file|pipe|socket) .*"),
    "eventfd": (lambda _: os.eventfd(0), "eventfd"),
    "pidfd": (lambda _: os.pidfd_open(os.getpid()), f"pidfd of process {os.getpid()}"),
    "terminal": (lambda _: os.openpty(), "file /dev/(ptmx|pts/.*)"),
    "listening": (lambda _: socket.create_server(("127.0.0.1", 0)), f"{TCP}, listening"),
    "connected": (lambda _: connected(), rf"{TCP} to 127\.0\.0\.1:\d+"),
    "IPv6": (lambda _: socket.socket(socket.AF_INET6), r"socket AF_INET6 SOCK_STREAM \[::\]:0, not connected"),
    "datagram": (
        lambda _: socket.socket(type=socket.SOCK_DGRAM),
        r"socket AF_INET SOCK_DGRAM 0\.0\.0\.0:0, not connected",
    ),
    "pair": (lambda _: socket.socketpair(), "socket AF_UNIX SOCK_STREAM unnamed to unnamed"),
    "detached": (lambda _: detached(), "socket AF_UNIX SOCK_STREAM unnamed to unnamed"),
    "multiprocessing": (lambda _: multiprocessing.Pipe(), "socket AF_UNIX SOCK_STREAM unnamed to unnamed"),
}


@pytest.mark.parametrize("kind", DESCRIPTORS)
def test_descriptor(kind, tmp_path, away):
    """Each kind is named for what it is, and located at the line that has made it."""
    make, said = DESCRIPTORS[kind]
    lines: list[str] = []
    with leak(lines):
        made = make(tmp_path / "file")
    away.callback(close, made)
    said = said.format(path=re.escape(f"{tmp_path}/file"), parent=re.escape(str(tmp_path)))
    count = len(made) if isinstance(made, tuple | list) else 1
    assert len(lines) == count
    for line in lines:
        assert re.fullmatch(rf"descriptor \d+, {said}, made at {re.escape(__file__)}:\d+ in \S+", line), line
    if make.__name__ == "<lambda>" and kind not in {"deleted", "linked", "crooked", "connected", "detached"}:
        assert {line.rpartition("made at ")[2] for line in lines} == {
            f"{__file__}:{make.__code__.co_firstlineno} in <lambda>"
        }


def test_descriptor_of_an_unknown_place(away):
    """What C code makes by itself is named, without a place."""
    lines: list[str] = []
    with leak(lines):
        made = select.epoll()
    away.callback(made.close)
    assert lines == [f"descriptor {made.fileno()}, epoll"]


def test_lines_that_may_have_opened_a_file(away):
    """Of a file that was opened at several lines, each is named: none is said to be the one that may not be it."""
    lines: list[str] = []
    with leak(lines):
        kept = away.enter_context(open("/dev/zero"))
        first = here(after=-1)
        with open("/dev/zero"):
            second = here(after=-1)
    assert lines == [f"descriptor {kept.fileno()}, file /dev/zero, made at {first} or {second}"]


def test_several(away):
    """All that is left has a line, in the order of the numbers."""
    lines: list[str] = []
    with leak(lines):
        made = [os.eventfd(0) for _ in range(12)]
    away.callback(close, made)
    assert [line.partition(",")[0] for line in lines] == [f"descriptor {number}" for number in sorted(made)]


def test_guarded_sockets(away, monkeypatch):
    """Sockets are named also where a test has forbidden to make any."""
    lines: list[str] = []
    with leak(lines):
        away.enter_context(socket.socket())
        monkeypatch.setattr(socket, "socket", None)
    monkeypatch.undo()
    assert "not connected" in lines[0]


class TestReusedNumbers:
    """A number that was there before."""

    @pytest.fixture
    def number(self, tmp_path):
        """Of an open file."""
        number = os.open(tmp_path / "file", os.O_CREAT)
        yield number
        os.close(number)

    def other(self, path):
        """Another file, which gets that path."""
        other = os.open(path.with_name("other"), os.O_CREAT)
        os.rename(path.with_name("other"), path)
        return other

    @pytest.mark.parametrize("how", ["pipe", "same name"])
    def test_of_something_else(self, number, tmp_path, how):
        """It counts as left behind, also if it has the name of what it was."""
        lines: list[str] = []
        with leak(lines):
            made = os.pipe() if how == "pipe" else (self.other(tmp_path / "file"),)
            os.dup2(made[0], number)
            place = here(after=-1)
            close(made)
        assert len(lines) == 1
        assert lines[0].startswith(f"descriptor {number}, {'pipe' if how == 'pipe' else 'file'} ")
        assert lines[0].endswith(f"made at {place}")

    def test_of_another_eventfd(self, away):
        """One that is still open elsewhere is told from the one that took its number."""
        number, kept = os.eventfd(0), os.eventfd(0)
        away.callback(close, [number, kept])
        lines: list[str] = []
        with leak(lines):
            os.dup2(kept, number)
        assert [line.partition(", made")[0] for line in lines] == [f"descriptor {number}, eventfd"]

    def test_of_an_unknown_place(self, away):
        """What takes a number in the block is not said to be made where another one with that number was."""
        lines: list[str] = []
        with leak(lines):
            close(os.pipe())
            made = [away.enter_context(select.epoll()) for _ in range(2)]
        assert lines == [f"descriptor {one.fileno()}, epoll" for one in made]

    @pytest.mark.parametrize("how", ["reopened", "renamed", "deleted"])
    def test_of_the_same(self, number, tmp_path, how):
        """The same file is no leak, whether it was opened again, renamed or deleted."""
        path = tmp_path / "file"
        with no_leaks(timeout=0):
            if how == "reopened":
                os.close(number)
                assert os.open(path, os.O_RDONLY) == number
            elif how == "renamed":
                path.rename(tmp_path / "new")
            else:
                path.unlink()


# Pools and responses


def test_connection_in_a_pool(fault_server):
    """A session that is not closed is named by the connection that it keeps, with what to do and where it was made."""
    server = fault_server([steps.repeat(steps.expect(), steps.answer(b"hello"))])
    lines: list[str] = []
    with requests.Session() as session, leak(lines):
        session.get(server.url)
        place = here(after=-1)
    own = [line for line in lines if "pool" in line]
    assert len(own) == 1
    assert own[0].endswith(
        f"to 127.0.0.1:{server.port}, in the connection pool of 127.0.0.1:{server.port}: close the session or the"
        f" response, made at {place}"
    )


@pytest.mark.parametrize("headers", [{}, {"Connection": "close"}], ids=["kept alive", "closing"])
def test_unread_response(fault_server, headers):
    """A response that was not read to its end is named as what holds the connection."""
    server = fault_server([steps.expect(), steps.head(200, headers, length=10), steps.send(b"hello"), steps.stall()])
    lines: list[str] = []
    with requests.Session() as session:
        with leak(lines):
            response = session.get(server.url, stream=True)
            place = here(after=-1)
        response.close()
    own = [line for line in lines if "response" in line]
    assert len(own) == 1
    assert own[0].endswith(
        f"held by a response of 127.0.0.1:{server.port} that was not read to its end: close the session or the"
        f" response, made at {place}"
    )


def test_hostile_objects_meanwhile(fault_server):
    """The search for who holds a socket asks no object what it is, which a proxy may answer with an error."""
    asked = []

    def ask(_):
        asked.append(1)
        raise RuntimeError

    proxy = [type("Proxy", (), {"__class__": property(ask)})()]
    server = fault_server([steps.repeat(steps.expect(), steps.answer(b"hello"))])
    lines: list[str] = []
    with requests.Session() as session, leak(lines):
        session.get(server.url)
    assert any("pool" in line for line in lines), lines
    assert len(proxy) == 1
    assert not asked


# Threads, children, helpers


def test_thread(away):
    """A thread is named with the line it stands at and the line that has started it."""
    leave, begun = threading.Event(), threading.Event()
    lines: list[str] = []

    def waits():
        begun.set()
        leave.wait(20)

    away.callback(leave.set)
    with leak(lines):
        threading.Thread(target=waits, name="forgotten").start()
        place = here(after=-1)
        begun.wait(20)
    stands = f"{__file__}:{waits.__code__.co_firstlineno + 2} in waits"
    assert lines == [f"thread 'forgotten', which stands at {stands}, started at {place}"]


def test_thread_in_c_code(away):
    """One that is not in a line of the program stands at its innermost line."""
    leave = threading.Event()
    away.callback(leave.set)
    lines: list[str] = []
    with leak(lines):
        threading.Thread(target=leave.wait, args=(20,), name="forgotten").start()
    assert re.fullmatch(r"thread 'forgotten', which stands at .*threading\.py:\d+ in \w+, started at .*", lines[0])


def sleeps():
    """Be a child process."""
    time.sleep(60)


def forked(_):
    """A child process made by os.fork."""
    pid = os.fork()
    if not pid:
        try:
            signal.pause()
        finally:
            os._exit(0)
    return pid


def of_multiprocessing(method, away):
    """A child process of multiprocessing."""
    process = multiprocessing.get_context(method).Process(target=sleeps)
    process.start()
    away.callback(process.close)
    away.callback(process.join)
    return process.pid


def dropped(_):
    """A child process whose Popen object is gone; subprocess keeps it to reap it."""
    with pytest.warns(ResourceWarning):
        return subprocess.Popen(["sleep", "60"]).pid


def ended(away):
    """A child process that has ended and was not waited for."""
    child = subprocess.Popen(["true"])
    away.callback(child.wait)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    return child.pid


def popen(away, **options):
    """A child process of subprocess."""
    child = subprocess.Popen(["/bin/sleep", "60"], **options)
    away.callback(child.wait)
    return child.pid


CHILDREN = {
    "subprocess": (popen, "running /bin/sleep 60"),
    "subprocess, by posix_spawn": (lambda away: popen(away, close_fds=False), "running /bin/sleep 60"),
    "dropped": (dropped, "running sleep 60"),
    "ended": (ended, "ended and not reaped: true"),
    "posix_spawn": (lambda _: os.posix_spawn("/bin/sleep", ["sleep", "60"], {}), "running sleep 60"),
    "fork": (forked, "running .*python.*"),
    "multiprocessing, fork": (lambda away: of_multiprocessing("fork", away), "running .*python.*"),
    "multiprocessing, spawn": (lambda away: of_multiprocessing("spawn", away), "running .*spawn_main.*"),
}


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
@pytest.mark.parametrize("kind", CHILDREN)
def test_child(kind, away):
    """A child process is named with what it runs and the line that has started it."""
    start, said = CHILDREN[kind]
    lines: list[str] = []
    with leak(lines):
        pid = start(away)
    own = [line for line in lines if line.startswith("child process")]
    if kind != "ended":
        os.kill(pid, signal.SIGKILL)
    if kind in {"dropped", "posix_spawn", "fork"}:
        os.waitpid(pid, 0)
    assert len(own) == 1
    assert re.fullmatch(rf"child process {pid}, {said}, started at {re.escape(__file__)}:\d+ in \S+", own[0]), own


def test_abandoned_helper(away):
    """A call that a stop has left behind is named with where it is stuck and where it was left; its thread is not another leak."""
    leave, stop = threading.Event(), StopEvent()
    away.callback(leave.set)
    lines: list[str] = []

    def sticks():
        stop.set()
        leave.wait(20)

    with leak(lines), pytest.raises(Interrupted):
        calls.call(sticks, stop=stop)
        pytest.fail("it was not stopped")
    stands = f"{__file__}:{sticks.__code__.co_firstlineno + 2} in sticks"
    assert len(lines) == 1
    assert lines[0].startswith("abandoned helper iointerrupt-call, in test_abandoned_helper.<locals>.sticks, ")
    assert f", which stands at {stands}, left behind at {__file__}:" in lines[0]
    assert lines[0].endswith("in test_abandoned_helper")


def test_abandoned_helper_of_aio(away, tmp_path):
    """So is one that a coroutine has left behind."""
    leave, stop = threading.Event(), StopEvent()
    lines: list[str] = []

    def sticks(path, flags):
        stop.set()
        leave.wait(20)
        return os.open(path, flags)

    async def main():
        async with aio.open(tmp_path / "file", "w", opener=sticks, stop=stop):
            pytest.fail("it was not stopped")

    away.callback(leave.set)
    with leak(lines), pytest.raises(Interrupted):
        asyncio.run(main())
    assert len(lines) == 1
    stands = f"{__file__}:{sticks.__code__.co_firstlineno + 2} in sticks"
    assert lines[0].startswith(f"abandoned helper iointerrupt-aio, in open, which stands at {stands}, left behind at ")
    assert f"{__file__}:" in lines[0].rpartition("left behind at ")[2]


# What is not left behind


def test_what_ends_within_the_timeout(monkeypatch):
    """What was told to end has the timeout for it."""
    leave = threading.Event()
    monkeypatch.setattr(_leaks, "sleep", lambda _: leave.set())
    with no_leaks(timeout=20):
        threading.Thread(target=leave.wait, args=(20,)).start()
    assert leave.is_set()


def test_garbage():
    """What nobody refers to any more is collected first."""

    class Holder:
        def __init__(self):
            self.itself = self
            weakref.finalize(self, os.close, os.open("/dev/null", os.O_RDONLY))

    gc.disable()
    try:
        with no_leaks(timeout=0.5):
            Holder()
    finally:
        gc.enable()


def test_what_was_there_before(away):
    """What was there at the beginning may be there at the end, or gone."""
    stays, goes = os.pipe()
    away.callback(os.close, stays)
    leave, stop = threading.Event(), StopEvent()
    away.callback(leave.set)
    threading.Thread(target=leave.wait, args=(20,)).start()
    away.enter_context(subprocess.Popen(["cat"], stdin=subprocess.PIPE))

    def sticks():
        stop.set()
        leave.wait(20)

    with pytest.raises(Interrupted):
        calls.call(sticks, stop=stop)
    with no_leaks(timeout=0):
        os.close(goes)


def test_foreign_thread_that_has_ended():
    """What threading keeps of a thread that it has not started is no thread."""
    seen = threading.Event()

    def ask():
        threading.current_thread()
        seen.set()

    with no_leaks(timeout=20):
        _thread.start_new_thread(ask, ())
        seen.wait(20)


def test_what_lives_as_long_as_the_process():
    """The helpers that multiprocessing starts once are not reported in whatever block first needs them."""
    run_program("""
        from multiprocessing import forkserver, resource_tracker
        from iointerrupt.testing import no_leaks

        with no_leaks(timeout=0):
            resource_tracker.ensure_running()
            forkserver.ensure_running()
        assert resource_tracker._resource_tracker._pid and forkserver._forkserver._forkserver_pid
        forkserver._forkserver._stop()
        resource_tracker._resource_tracker._stop()
    """)


# Blocks


def test_error_of_the_block_wins(away):
    """An error of the block is raised as it is, whatever was left behind."""
    with pytest.raises(ZeroDivisionError), no_leaks(timeout=0):
        away.callback(close, os.pipe())
        raise ZeroDivisionError


def test_nested(away):
    """The inner block answers for its own things, and what the outer one finds is still located."""
    lines: list[str] = []
    with leak(lines):
        outer = os.eventfd(0)
        place = here(after=-1)
        with no_leaks(timeout=0):
            close(os.pipe())
        inner: list[str] = []
        with leak(inner):
            made = os.eventfd(0)
        os.close(made)
    away.callback(os.close, outer)
    assert [line.partition(",")[0] for line in inner] == [f"descriptor {made}"]
    assert lines == [f"descriptor {outer}, eventfd, made at {place}"]


def test_in_two_threads(background):
    """A block that ends in one thread takes nothing from one that is under way in another."""
    begun, over = threading.Event(), threading.Event()

    def other():
        with no_leaks(timeout=20):
            begun.set()
            over.wait(20)

    running = background(other)
    begun.wait(20)
    lines: list[str] = []
    with leak(lines):
        over.set()
        running.result()
        made = os.eventfd(0)
        place = here(after=-1)
    os.close(made)
    assert lines == [f"descriptor {made}, eventfd, made at {place}"]


@pytest.mark.parametrize("timeout", [-1, float("nan"), True, "1", None])
def test_timeout_that_cannot_be(timeout):
    """It is refused before the block begins."""
    with pytest.raises((TypeError, ValueError), match=r"^timeout must be"), no_leaks(timeout=timeout):
        pytest.fail("the block has begun")


# The recorder

REMAINS = """
import os, signal, socket, subprocess, threading, _posixsubprocess
from iointerrupt.testing import _origins, no_leaks

signal.signal(signal.SIGINT, signal.default_int_handler)
END = "END"

def functions():
    return [getattr(module, name, None) for module, name, _ in _origins._unseen()]

def run():
    with no_leaks(timeout=0), no_leaks(timeout=0):
        assert functions() != before
        open(os.devnull).close()
        socket.socket().close()
        threading.Thread(target=int).start()
        subprocess.run(["true"])
        made.extend(pipe := os.pipe())
        kept.append(os.pipe)
        assert all((_origins._files, _origins._numbers, _origins._children, _origins._sockets, _origins._threads))
        if END == "leaks":
            return
        for number in pipe:
            os.close(number)
        if END == "fails":
            raise OSError
        if END == "ctrl-c":
            signal.raise_signal(signal.SIGINT)

before, made, kept = functions(), [], []
try:
    run()
except (AssertionError, OSError, KeyboardInterrupt) as error:
    assert {AssertionError: "leaks", OSError: "fails", KeyboardInterrupt: "ctrl-c"}[type(error)] == END
else:
    assert END == "passes"
kept[0]()
open(os.devnull).close()
socket.socket().close()
assert functions() == before
assert not any(_origins._ALL)
assert not _origins._checks
"""


@pytest.mark.parametrize("end", ["passes", "leaks", "fails", "ctrl-c"])
def test_nothing_remains(end):
    """After a block, however it ends, nothing is wrapped, and nothing is recorded, also by a wrapper that somebody has kept."""
    run_program(REMAINS.replace('"END"', repr(end)))


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_fork_in_a_block():
    """A forked child begins without a block, and can have its own; the parent's goes on."""
    with no_leaks(timeout=20):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                assert not _origins._checks
                assert not any(_origins._ALL)
                assert not isinstance(os.pipe, _origins._Recording)
                with no_leaks(timeout=0):
                    close(os.pipe())
                with pytest.raises(AssertionError, match=r"made at .* in test_fork_in_a_block"), no_leaks(timeout=0):
                    os.pipe()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert isinstance(os.pipe, _origins._Recording)


def test_keeps_nothing_alive():
    """What is recorded is not kept alive, nor is a thread that has ended."""
    with no_leaks():
        made, thread = socket.socket(), threading.Thread(target=int)
        thread.start()
        thread.join()
        made.close()
        gone = [weakref.ref(made), weakref.ref(thread)]
        del made, thread
        assert [reference() for reference in gone] == [None, None]


def test_bounded(monkeypatch, tmp_path):
    """Only so much is remembered, of what was made last."""
    monkeypatch.setattr(_origins, "_MOST", 3)
    with no_leaks():
        for name in ("a", "b", "c", "a", "d"):
            open(tmp_path / name, "w").close()
        assert [os.path.basename(path) for path in _origins._files] == ["c", "a", "d"]


def test_never_raises(monkeypatch):
    """An error in the recorder is not one of the program."""

    def fails(*_):
        raise ValueError

    with no_leaks():
        monkeypatch.setattr(_origins, "_remember", fails)
        socket.socket().close()
        open(os.devnull).close()
        close(os.pipe())
        monkeypatch.undo()


def test_errors_of_what_is_wrapped():
    """What a wrapped function raises is raised as it is."""
    with no_leaks(), pytest.raises(OSError, match="Bad file descriptor"):
        os.dup(-1)


def test_class_attribute():
    """What is wrapped can be an attribute of a class, and does not become a method."""
    with no_leaks():

        class Maker:
            pipe = os.pipe

        close(Maker().pipe())
    close(Maker().pipe())


def test_replaced_meanwhile():
    """What somebody else has put in the place of a wrapped function stays."""
    run_program("""
        import os
        from iointerrupt.testing import no_leaks

        with no_leaks():
            os.pipe = mine = lambda: None
        assert os.pipe is mine
    """)


# Errors, arguments, and what others do meanwhile


@pytest.mark.parametrize("kind", [ValueError, AssertionError, StopIteration, KeyboardInterrupt, GeneratorExit])
def test_error_comes_unchanged(kind, away):
    """It is the same one, with nothing added."""
    error = kind("mine")
    with pytest.raises(kind) as caught, no_leaks(timeout=0):
        away.callback(os.close, os.eventfd(0))
        raise error
    assert caught.value is error
    assert (error.__context__, error.__cause__, hasattr(error, "__notes__")) == (None, None, False)


@pytest.mark.parametrize("wrong", [5.0, None, len])
def test_what_is_no_text(wrong):
    """A timeout in the place of the text is refused, and not passed over."""
    with pytest.raises(TypeError, match="what must be a str"), no_leaks(wrong):
        pass


def test_a_patch_that_outlives_the_block():
    """What is put back after a block, and was in it, does not stay for ever."""
    program = """
        import os, pytest
        from iointerrupt.testing import no_leaks

        original = os.pipe
        with pytest.MonkeyPatch.context() as patch:
            with no_leaks():
                patch.setattr(os, "pipe", lambda: None)
        with no_leaks():
            pass
        assert os.pipe is original, os.pipe
    """
    run_program(program)


def test_memory_is_bounded(tmp_path):
    """Of very many files in one block, the last are remembered."""
    with no_leaks():
        for number in range(_origins._MOST + 500):
            os.close(os.open(tmp_path / str(number), os.O_CREAT))
            os.unlink(tmp_path / str(number))
        assert len(_origins._files) <= _origins._MOST
        with open(tmp_path / "last", "w"):
            assert str(tmp_path / "last") in _origins._files


def test_decorator(away):
    """As a decorator, it checks each call."""

    @no_leaks("the call", timeout=0)
    def call(leaves):
        if leaves:
            away.callback(os.close, os.eventfd(0))

    call(leaves=False)
    with pytest.raises(AssertionError, match="the call left behind"):
        call(leaves=True)


def test_the_descriptor_of_a_stop(background):
    """A stop that lives on has the descriptor of its first wait for as long as it lives, which is no leak."""
    stop = StopEvent()
    with no_leaks(timeout=0):
        near, far = sockets.socketpair(stop=stop)
        with near, far:
            receiving = background(near.recv, 1)
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(receiving.error(), Interrupted)
        del receiving
