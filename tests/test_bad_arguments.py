"""Arguments that cannot be, where they are the same in several modules: what would have to be awaited, classes, odd numbers."""

from __future__ import annotations

import asyncio
import functools
import io
import math
import queue
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from iointerrupt import StopEvent, downloads, files, http, threads
from iointerrupt import calls as calls_as_typed
from iointerrupt._callables import is_async

calls: Any = calls_as_typed  # checkers refuse as well what is refused here


async def coroutine():
    """It would have to be awaited."""


async def generator():
    """So would this, by `async for`."""
    yield


class Awaited:
    """Its instances are called like a coroutine function; it has methods of all kinds."""

    async def __call__(self):
        """As above."""

    async def read(self, size=-1):
        """As a file of asyncio."""

    @classmethod
    async def of_the_class(cls):
        """Called without an instance."""


ASYNC = [
    coroutine,
    generator,
    Awaited(),
    Awaited().read,
    Awaited.of_the_class,
    functools.partial(coroutine),
    asyncio.sleep,
]
SYNC = [print, len, [].append, lambda: 1, functools.partial(print), Awaited, StopEvent().set, None, 5]


@pytest.mark.parametrize("function", ASYNC, ids=range(len(ASYNC)))
def test_what_has_to_be_awaited(function):
    """It is refused wherever a thread would call it, as nobody would notice that it has done nothing."""
    assert is_async(function)
    with pytest.raises(TypeError, match="must not be a coroutine function"):
        StopEvent().on_set(function)
    with pytest.raises(TypeError, match="must not be a coroutine function"), calls.interrupting(function):
        pytest.fail("the block was entered")
    with threads.ThreadGroup() as group, pytest.raises(TypeError, match="must not be a coroutine function"):
        group.start(function)
    with pytest.raises(TypeError, match="must not be a coroutine function"):
        downloads.download("http://127.0.0.1:9/", progress=function)
    with pytest.raises(TypeError, match="cannot be a stop"):
        calls.sleep(0, stop=function)


@pytest.mark.parametrize("function", SYNC, ids=range(len(SYNC)))
def test_what_has_not(function):
    """Anything else is no coroutine function, callable or not."""
    assert not is_async(function)


def test_asynchronous_files():
    """A file of asyncio is refused at once, not when it is read."""
    with pytest.raises(TypeError, match=r"is asynchronous, and a thread cannot await it; see iointerrupt\.aio"):
        files.wrap(Awaited())
    with pytest.raises(TypeError, match="is asynchronous"):
        files.iter_chunks(Awaited())
    with pytest.raises(TypeError, match="is asynchronous"):
        files.copyfileobj(Awaited(), io.BytesIO())


@pytest.mark.parametrize(
    "call",
    [
        lambda: calls.get(queue.Queue),
        lambda: calls.put(queue.Queue, 1),
        lambda: calls.wait(threading.Condition),
        lambda: calls.wait(threading.Event),
        lambda: calls.acquire(threading.Semaphore),
        lambda: calls.acquire(threading.Lock),
        lambda: calls.sleep(0, stop=threading.Event),
    ],
)
def test_classes(call):
    """A class in the place of its instance is named in the error."""
    with pytest.raises(TypeError, match=r"<class '|<built-in function"):
        call()


class Whole:
    """A whole number of somebody else's, as numpy has them."""

    def __init__(self, number):
        self._number = number

    def __index__(self):
        return self._number


def test_whole_numbers_of_others():
    """They are seconds, as they are to `time.sleep`."""
    began = time.monotonic()
    calls.sleep(Whole(0))
    assert not StopEvent().wait(Whole(0))
    assert StopEvent(timeout=Whole(0)).is_set()
    with pytest.raises(TimeoutError):
        calls.wait(threading.Event(), timeout=Whole(0))
    assert time.monotonic() >= began


@pytest.mark.parametrize("seconds", ["1", True, 1j, [1]])
def test_no_numbers(seconds):
    """What is none is refused, with the argument's name."""
    with pytest.raises(TypeError, match="timeout must be a number of seconds, not"):
        StopEvent().wait(seconds)
    with pytest.raises(TypeError, match="timeout must be a number of seconds, not"):
        StopEvent(timeout=seconds)
    with pytest.raises(TypeError, match="seconds must be a number of seconds, not"):
        calls.sleep(seconds)


def test_odd_times_to_wait():
    """What is not a number is refused; a negative one is none, as `threading.Event` has it; an infinite one is no limit."""
    with pytest.raises(ValueError, match="timeout must be 0 or more seconds, not nan"):
        StopEvent().wait(math.nan)
    assert StopEvent().wait(-1) is False
    event = StopEvent()
    event.set()
    assert event.wait(math.inf)


@pytest.mark.parametrize("period", ["0.05", -1, 0, None, math.nan, math.inf])
def test_periods(monkeypatch, period):
    """A period that cannot be is the usual one: a callable is asked all the same, now and later."""
    for each in (period, 0.001):
        monkeypatch.setattr(StopEvent, "poll_interval", each)
        asked = []
        with pytest.raises(Exception, match="interrupted"):
            calls.sleep(60, stop=lambda asked=asked: asked.append(1) or len(asked) > 2)


def test_time_limit_of_a_process():
    """It is what `Popen.wait` raises, and a TimeoutError as all others; the process goes on."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        with pytest.raises(subprocess.TimeoutExpired) as caught:
            calls.join(process, timeout=0.01)
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, calls.JoinTimeout)
        assert (caught.value.cmd, caught.value.timeout) == (process.args, 0.01)
        assert process.poll() is None
        process.stdin.write(b"\n")
        process.stdin.flush()
        assert calls.join(process) == 0


def test_sessions():
    """What cannot be is refused when the session is made; an infinite time is no limit."""
    with pytest.raises(TypeError, match=r"ssl_context must be an ssl\.SSLContext or None, not int"):
        http.Session(ssl_context=3)
    for timeout in ((1, 2, 3), ()):
        with pytest.raises(ValueError, match="timeout must be seconds, or two"):
            http.Session(timeout=timeout)
    for given, kept in ((math.inf, None), ((math.inf, 1), (None, 1)), ((1, math.inf), (1, None)), ((1, 2), (1, 2))):
        with http.Session(timeout=given) as session:
            assert session.timeout == kept
    with pytest.raises(TypeError, match=r"url must be a str or a requests\.Response, not BytesIO"):
        http.open(io.BytesIO())


def test_copies(tmp_path):
    """A folder that is not there is no name for a file, and what is said of one is about it, not about what is made meanwhile."""
    (tmp_path / "a").write_bytes(b"a")
    with pytest.raises(FileNotFoundError) as caught:
        files.copy(tmp_path / "a", f"{tmp_path}/archive/")
    assert caught.value.filename == f"{tmp_path}/archive/"
    with pytest.raises(FileNotFoundError) as caught:
        files.copy(tmp_path / "a", f"{tmp_path}/nowhere/b")
    assert caught.value.filename == f"{tmp_path}/nowhere/b"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


class TestStopOfAThread:
    """It can be set, as those of other objects, until the thread is started."""

    def test_one_more(self):
        """What is set is one more stop that the thread has."""
        event, first = threading.Event(), StopEvent()
        thread = threads.Thread(target=calls.sleep, args=(60,), stop=first)
        thread.stop = event
        thread.start()
        event.set()
        calls.join(thread)
        assert thread.stop.is_set()
        assert not first.is_set()

    def test_of_a_subclass(self):
        """The usual attribute of a thread that can be told to stop works, and does not get in the way."""

        class Worker(threads.Thread):
            def __init__(self):
                super().__init__()
                self.stop = threading.Event()

            def run(self):
                calls.sleep(60)

        worker = Worker()
        worker.start()
        worker.stop.set()
        worker.join()
        assert not worker.is_alive()

    def test_too_early_or_too_late(self):
        """Before `Thread.__init__` there is none to be added to, and a thread that runs keeps its own."""

        class Early(threads.Thread):
            def __init__(self):
                self.stop = threading.Event()
                super().__init__()

        with pytest.raises(RuntimeError, match=r"Thread.__init__\(\) not called"):
            Early()
        thread = threads.Thread(target=print)
        thread.start()
        with pytest.raises(RuntimeError, match="keeps its stop: interrupt"):
            thread.stop = threading.Event()
        thread.join()


def test_copies_as_of_shutil():
    """The size of a chunk may be where `shutil.copyfileobj` has it."""
    target = io.BytesIO()
    assert files.copyfileobj(io.BytesIO(b"hello"), target, 2) == 5
    assert target.getvalue() == b"hello"
