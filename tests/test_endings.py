"""`calls.join` and `calls.result`: the end of a thread, a process or a future, and the errors that they have themselves."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, calls
from iointerrupt._wait import Place
from iointerrupt.testing import wait_until_blocked

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(params=["pidfd", "helper"])
def way(request, monkeypatch):
    """How the end of a process is learned: from the kernel's descriptor, or where there is none, by a helper."""
    if request.param == "helper":

        def missing(pid):
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", missing)
    return request.param


class TestThreads:
    """The end of a thread."""

    def test_a_thread_that_ends(self, background):
        """The join returns when it has ended, and returns None as a thread's does."""
        over, stop = threading.Event(), StopEvent()
        thread = threading.Thread(target=over.wait)
        thread.start()
        joiner = background(calls.join, thread, stop=stop)
        wait_until_blocked(stop)
        over.set()
        assert joiner.result() is None
        assert not thread.is_alive()
        assert calls.join(thread) is None

    def test_a_stop_leaves_the_thread_alone(self, background):
        """Whoever joins is stopped; the thread goes on, and can be joined again."""
        over, stop = threading.Event(), StopEvent()
        thread = threading.Thread(target=over.wait)
        thread.start()
        joiner = background(calls.join, thread, stop=stop)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(joiner.error(), Interrupted)
        assert thread.is_alive()
        with pytest.raises(TimeoutError):
            calls.join(thread, timeout=0.01)
        over.set()
        calls.join(thread)

    def test_many_who_wait_make_one_watcher(self, background):
        """However many wait, and however often, one thread watches; a look without waiting needs none."""
        over, stop = threading.Event(), StopEvent()
        thread = threading.Thread(target=over.wait)
        thread.start()
        before = set(threading.enumerate())
        for _ in range(100):
            with pytest.raises(TimeoutError):
                calls.join(thread, timeout=0)
        assert set(threading.enumerate()) <= before
        joiners = [background(calls.join, thread, stop=stop) for _ in range(10)]
        wait_until_blocked(stop, 10)
        assert len(set(threading.enumerate()) - before) <= 11
        over.set()
        for joiner in joiners:
            joiner.result()

    def test_no_more_threads(self, no_more_threads, monkeypatch, background):
        """Where no watcher can be had, the thread is asked in turns."""
        monkeypatch.setattr(StopEvent, "poll_interval", 0.01)
        over, stop = threading.Event(), StopEvent()
        thread = threading.Thread(target=over.wait)
        thread.start()
        joiner = background(calls.join, thread, stop=stop)
        with no_more_threads():
            with pytest.raises(TimeoutError):
                calls.join(thread, timeout=0.05)
            with pytest.raises(DeadlineExceeded):
                calls.join(thread, stop=StopEvent(timeout=0.05))
        over.set()
        joiner.result()
        calls.join(thread)

    def test_the_errors_of_join(self):
        """A thread that was not started, and the current one, are what they are for a thread's own join."""
        with pytest.raises(RuntimeError, match="before it is started"):
            calls.join(threading.Thread())
        with pytest.raises(RuntimeError, match="current thread"):
            calls.join(threading.current_thread())


class TestProcesses:
    """The end of a child."""

    def test_a_popen(self, way, background):
        """The join returns its exit code, as wait does, and a second time too."""
        stop = StopEvent()
        with subprocess.Popen(["sh", "-c", "read line; exit 3"], stdin=subprocess.PIPE) as child:
            joiner = background(calls.join, child, stop=stop)
            wait_until_blocked(stop)
            child.stdin.close()
            assert joiner.result() == 3
            assert calls.join(child) == 3

    def test_a_popen_that_goes_on(self, way, background):
        """A stop and a timeout leave it running."""
        stop = StopEvent()
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
            joiner = background(calls.join, child, stop=stop)
            wait_until_blocked(stop)
            stop.set("enough")
            assert joiner.error().reason == "enough"
            with pytest.raises(TimeoutError):
                calls.join(child, timeout=0.01)
            assert child.poll() is None

    def test_a_popen_that_is_dead(self):
        """Its code is there at once, though nobody has reaped it."""
        with subprocess.Popen(["true"]) as child:
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert calls.join(child, stop=StopEvent()) == 0

    def test_a_killed_one(self, way):
        """The code is negative for the signal."""
        with subprocess.Popen(["sleep", "100"]) as child:
            child.kill()
            assert calls.join(child, timeout=20) == -signal.SIGKILL

    def test_a_process_of_multiprocessing(self, way, background):
        """The join returns its exit code; a stop before leaves it running."""
        stop = StopEvent()
        child = SPAWN.Process(target=time.sleep, args=(100,))
        child.start()
        joiner = background(calls.join, child, stop=stop)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(joiner.error(), Interrupted)
        assert child.is_alive()
        child.terminate()
        assert calls.join(child, timeout=20) == -signal.SIGTERM
        assert calls.join(child) == -signal.SIGTERM
        child.close()
        with pytest.raises(ValueError, match="closed"):
            calls.join(child)

    def test_several_join_a_process(self, background):
        """Each of them has the exit code."""
        stop = StopEvent()
        child = SPAWN.Process(target=sys.exit, args=(3,))
        child.start()
        joiners = [background(calls.join, child, stop=stop) for _ in range(5)]
        assert [joiner.result() for joiner in joiners] == [3] * 5
        child.close()

    def test_a_process_that_was_not_started(self):
        """It is what it is for a process's own join."""
        with pytest.raises(AssertionError, match="can only join a started process"):
            calls.join(SPAWN.Process())


@pytest.mark.parametrize("wrong", [None, "thread", multiprocessing.Queue, asyncio.Future])
def test_what_cannot_be_joined(wrong):
    """It is refused with what would be accepted."""
    with pytest.raises(TypeError, match=r"cannot be joined. Accepted are threading.Thread, multiprocessing.Process"):
        calls.join(wrong)


class TestFutures:
    """What a future brings."""

    def test_a_result(self, background):
        """It is returned when it is there."""
        future, stop = concurrent.futures.Future(), StopEvent()
        waiting = background(calls.result, future, stop=stop)
        wait_until_blocked(stop)
        future.set_result("result")
        assert waiting.result() == "result"
        assert calls.result(future, timeout=0) == "result"

    def test_of_an_executor(self):
        """A call in a pool, its result and its exception."""
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            assert calls.result(pool.submit(pow, 2, 10), stop=StopEvent()) == 1024
            with pytest.raises(ZeroDivisionError):
                calls.result(pool.submit(divmod, 1, 0), stop=StopEvent())

    def test_of_a_loop(self):
        """A coroutine that runs in the loop of another thread."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        try:
            future = asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "slept"), loop)
            assert calls.result(future, stop=StopEvent()) == "slept"
        finally:
            loop.call_soon_threadsafe(loop.stop)
            calls.join(thread)
            loop.close()

    def test_a_cancelled_one(self, background):
        """Who waits for it is told."""
        future, stop = concurrent.futures.Future(), StopEvent()
        waiting = background(calls.result, future, stop=stop)
        wait_until_blocked(stop)
        future.cancel()
        assert isinstance(waiting.error(), concurrent.futures.CancelledError)

    def test_waits_leave_nothing(self):
        """However often somebody waits in vain, nothing of that stays with the future."""
        future = concurrent.futures.Future()
        for _ in range(100):
            with pytest.raises(TimeoutError):
                calls.result(future, timeout=0)
        with pytest.raises(DeadlineExceeded):
            calls.result(future, stop=StopEvent(timeout=0.01))
        assert not future._done_callbacks
        assert not future._condition._waiters

    def test_callbacks_of_others_are_not_waited_for(self, background):
        """The result is there before the first callback has returned, and also where one of them breaks off the rest."""
        future, stop, over = concurrent.futures.Future(), StopEvent(), threading.Event()
        future.add_done_callback(lambda _: over.wait(20))
        waiting = background(calls.result, future, stop=stop)
        wait_until_blocked(stop)
        setter = background(future.set_result, "result")
        assert waiting.result() == "result"
        over.set()
        setter.result()

    def test_a_future_of_another_making(self, monkeypatch):
        """Where its condition is not to be found, it is asked in turns."""
        monkeypatch.setattr(Place, "supports", lambda condition: False)
        monkeypatch.setattr(StopEvent, "poll_interval", 0.01)
        future = concurrent.futures.Future()
        with pytest.raises(DeadlineExceeded):
            calls.result(future, stop=StopEvent(timeout=0.05))
        future.set_result("result")
        assert calls.result(future, stop=StopEvent()) == "result"

    def test_an_interruption_of_the_call_itself(self):
        """A call that was stopped brings its own Interrupted, with what it carries."""
        future = concurrent.futures.Future()
        future.set_exception(Interrupted("stopped there", partial=b"abc"))
        with pytest.raises(Interrupted) as caught:
            calls.result(future)
        assert caught.value.partial == b"abc"

    def test_cancelling_as_well(self, background):
        """With interrupting, the stop cancels the call behind the future, and the wait is stopped."""
        future, stop = concurrent.futures.Future(), StopEvent()

        def work():
            with calls.interrupting(future.cancel, stop=stop):
                calls.result(future)

        waiting = background(work)
        wait_until_blocked(stop)
        stop.set("enough")
        error = waiting.error()
        assert isinstance(error, Interrupted)
        assert error.reason == "enough"
        assert isinstance(error.__cause__, concurrent.futures.CancelledError)

    @pytest.mark.parametrize("wrong", [None, 1, asyncio.Future, threading.Event()])
    def test_what_is_no_future(self, wrong):
        """It is refused."""
        with pytest.raises(TypeError, match=r"a concurrent.futures.Future is needed, not"):
            calls.result(wrong)


def test_a_fork():
    """A forked child can wait for ends of its own, whatever a thread of the parent held."""
    code = """
import concurrent.futures, os, threading
from iointerrupt import calls
from iointerrupt._calls import endings
from iointerrupt._signal import guard
held, over = threading.Event(), threading.Event()
def hold():
    with guard.lock, endings._reaping:
        held.set()
        over.wait()
threading.Thread(target=hold, daemon=True).start()
held.wait()
pid = os.fork()
if not pid:
    thread = threading.Thread(target=int)
    thread.start()
    calls.join(thread)
    future = concurrent.futures.Future()
    future.set_result(0)
    os._exit(calls.result(future))
print(os.waitpid(pid, 0)[1])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert out.stdout == "0\n", out.stderr
