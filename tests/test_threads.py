"""Threads that can be interrupted, and ticks."""

from __future__ import annotations

import gc
import math
import signal
import threading
import time
import weakref

import pytest

from iointerrupt import DeadlineExceeded, Interrupted, ResourceBusy, StopEvent, current_stop, sockets, use_stop
from iointerrupt.testing import StopAfter, signal_when_blocked, wait_until_blocked
from iointerrupt.threads import Thread, every
from tests.blocking import block, fail, no_threads, run_program


class TestThread:
    """Thread: a threading.Thread whose operations `interrupt` stops."""

    def test_interrupt(self, reported):
        """An interrupt ends the operation in which the thread is blocked, and the thread, quietly."""
        near, far = sockets.socketpair()
        seen = []

        def receive():
            try:
                near.recv(1)
            except Interrupted as error:
                seen.append(error.reason)
                raise

        with near, far:
            thread = Thread(target=receive)
            thread.start()
            wait_until_blocked(thread.stop)
            thread.interrupt("enough")
            thread.interrupt("more than enough")
            thread.join()
        assert seen == ["enough"]
        assert thread.stop.reason == "enough"
        assert not thread.is_alive()
        assert reported == []

    def test_is_a_thread(self):
        """It takes what threading.Thread takes, and has what that has."""
        got = []
        thread = Thread(
            None, lambda *args, **kwargs: got.append((args, kwargs)), "worker", (1, 2), {"a": 3}, daemon=True
        )
        assert (thread.name, thread.daemon, thread.is_alive()) == ("worker", True, False)
        thread.start()
        thread.join()
        assert got == [((1, 2), {"a": 3})]
        assert Thread(target=block).name.endswith("(block)")
        assert not Thread().daemon

    def test_run_of_a_subclass(self):
        """An overridden `run` has the stop as its current stop, without calling anything, even one named `stop`."""

        class Worker(Thread):
            def run(self):
                self.found = current_stop()
                block()

            def stop(self):
                self.interrupt("worker's own")

        worker = Worker()
        worker.start()
        wait_until_blocked(worker._thread_stop)
        worker.stop()
        worker.join()
        assert worker.found.reason == "worker's own"

    def test_run_of_an_instance(self):
        """A `run` that was set on the object is what runs."""
        thread, found = Thread(), []
        thread.run = lambda: found.append(current_stop())
        thread.start()
        thread.join()
        assert found == [thread.stop]

    def test_interrupt_at_any_time(self, reported):
        """An interrupt before the start holds for the first operation; one after the end changes nothing."""
        began = []

        def work():
            began.append(current_stop().is_set())
            block()
            began.append("not stopped")

        thread = Thread(target=work)
        thread.interrupt("early")
        thread.start()
        thread.join()
        thread.interrupt("late")
        assert began == [True]
        assert thread.stop.reason == "early"
        assert reported == []

    def test_interrupt_from_within(self, reported):
        """A thread may interrupt itself: its next operation raises."""

        def work():
            threading.current_thread().interrupt("myself")
            block()

        thread = Thread(target=work)
        thread.start()
        thread.join()
        assert (thread.stop.reason, reported) == ("myself", [])

    def test_interrupt_from_a_signal_handler(self):
        """A signal handler may interrupt a thread."""
        thread = Thread(target=block)
        thread.start()
        wait_until_blocked(thread.stop)
        previous = signal.signal(signal.SIGUSR1, lambda *_: thread.interrupt("SIGUSR1"))
        signal.raise_signal(signal.SIGUSR1)
        signal.signal(signal.SIGUSR1, previous)
        thread.join()
        assert thread.stop.reason == "SIGUSR1"

    @pytest.mark.parametrize("kind", ["given", "current"])
    def test_inherits(self, kind):
        """The stop that it is given and the current stop of its creator, and neither of those of others, stop it."""
        outer, other = StopEvent(), StopEvent()
        with use_stop(outer if kind == "current" else None):
            thread = Thread(target=block, stop=outer if kind == "given" else None)
        with use_stop(other):
            thread.start()
        wait_until_blocked(outer)
        other.set()
        assert not thread.stop.is_set()
        outer.set("outer")
        thread.join()
        assert thread.stop.reason == "outer"

    def test_another_deadline_is_an_error(self, reported):
        """A deadline that is not of the thread's stop is reported like any exception."""

        def work():
            StopEvent(timeout=0).sleep(600)

        thread = Thread(target=work)
        thread.start()
        thread.join()
        assert [type(error) for error in reported] == [DeadlineExceeded]

    def test_another_stop_ends_it_quietly(self, reported):
        """Whatever stop it was that somebody has set, the thread has been told to end."""
        stop = StopEvent()
        thread = Thread(target=stop.sleep, args=(600,))
        thread.start()
        wait_until_blocked(stop)
        stop.set()
        thread.join()
        assert not reported

    def test_errors(self, reported):
        """What leaves the thread is reported, except SystemExit, which ends it silently."""
        for error in (ValueError("x"), SystemExit(3)):
            thread = Thread(target=fail, args=(error,))
            thread.start()
            thread.join()
        assert [error for error in reported if not isinstance(error, SystemExit)] == [reported[0]]
        assert str(reported[0]) == "x"

    def test_a_subclass_with_a_stop_of_its_own(self, reported):
        """The attribute that the usual recipe for a stoppable thread has does not get in the way."""

        class Worker(Thread):
            def __init__(self):
                super().__init__()
                self._stop_event = threading.Event()

            def run(self):
                block()

        worker = Worker()
        worker.start()
        wait_until_blocked(worker.stop)
        worker.interrupt("enough")
        worker.join()
        assert not reported
        assert not worker._stop_event.is_set()

    def test_a_subclass_that_forgets_init(self):
        """It is told as by the standard class."""

        class Forgetful(Thread):
            def __init__(self):
                pass

        with pytest.raises(RuntimeError, match="__init__"):
            Forgetful().start()

    def test_bad_arguments(self):
        """A target that cannot be called and a stop that is none are refused when the thread is made."""
        with pytest.raises(TypeError, match="what to run is `target=`"):
            Thread(print)
        with pytest.raises(TypeError, match="target must be callable, not int"):
            Thread(target=3)
        with pytest.raises(TypeError, match="cannot be a stop"):
            Thread(target=block, stop=3)

    def test_start_twice(self):
        """A thread can be started once, whether it is running or has ended."""
        thread = Thread(target=block)
        thread.start()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()
        wait_until_blocked(thread.stop)
        thread.interrupt()
        thread.join()
        with pytest.raises(RuntimeError, match="once"):
            thread.start()

    def test_start_fails(self, monkeypatch):
        """Where no thread can be made, start says so, and can be tried again."""
        thread, found = Thread(target=lambda: found.append(current_stop())), []
        with monkeypatch.context() as patch:
            no_threads(patch)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                thread.start()
        with pytest.raises(RuntimeError, match="before it is started"):
            thread.join()
        thread.start()
        thread.join()
        assert found == [thread.stop]

    def test_leaves_no_cycle(self):
        """A thread that has ended is freed with its last reference."""
        thread = Thread(target=lambda: None)
        thread.start()
        thread.join()
        ref = weakref.ref(thread)
        gc.disable()
        try:
            del thread
            assert ref() is None
        finally:
            gc.enable()


class TestJoin:
    """Thread.join: the standard one, which the caller's current stop ends."""

    @pytest.fixture
    def thread(self):
        """A thread that blocks until it is interrupted."""
        thread = Thread(target=block)
        thread.start()
        wait_until_blocked(thread.stop)
        yield thread
        thread.interrupt()
        thread.join()

    def test_timeout(self, thread):
        """A timeout returns None with the thread alive; 0 and less do not wait at all."""
        for timeout in (0.01, 0, -1):
            assert thread.join(timeout) is None
            assert thread.is_alive()

    @pytest.mark.parametrize("timeout", [None, 60, math.inf, 1e300])
    def test_ends(self, thread, background, timeout):
        """It returns when the thread has ended, however long it may take, and again after that."""
        stop = StopEvent()

        def join():
            with use_stop(stop):
                thread.join(timeout)
                return thread.is_alive()

        joining = background(join)
        wait_until_blocked(stop)
        thread.interrupt()
        assert joining.result() is False
        assert thread.join(timeout) is None

    def test_stop(self, thread, background):
        """The caller's current stop ends the wait, and not the thread."""
        stop = StopEvent()

        def join():
            with use_stop(stop):
                thread.join()

        joining = background(join)
        wait_until_blocked(stop)
        stop.set("enough")
        assert joining.error().reason == "enough"
        assert thread.is_alive()
        assert not thread.stop.is_set()
        with use_stop(stop), pytest.raises(Interrupted):
            thread.join(0)

    def test_ctrl_c(self, thread, ctrl_c):
        """A Ctrl-C while it waits leaves a thread that is alive known as alive, and the next join waits again."""
        with pytest.raises(KeyboardInterrupt), signal_when_blocked(signal.SIGINT):
            thread.join(60)
        assert thread.is_alive()
        thread.join(0.01)
        assert thread.is_alive()

    def test_misuse(self, thread):
        """Joining a thread that was not started, or oneself, and a timeout that is no number, are the standard errors."""
        with pytest.raises(RuntimeError, match="before it is started"):
            Thread(target=block).join()
        with pytest.raises(ValueError, match="nan"):
            thread.join(math.nan)
        with pytest.raises(TypeError):
            thread.join("1")
        caught = []

        def work():
            try:
                threading.current_thread().join()
            except RuntimeError as error:
                caught.append(str(error))

        itself = Thread(target=work)
        itself.start()
        itself.join()
        assert caught == ["cannot join current thread"]

    def test_after_fork(self):
        """In a forked child, a thread that only the parent has is joined at once."""
        program = """
            import os, warnings
            from iointerrupt import current_stop
            from iointerrupt.threads import Thread
            warnings.simplefilter("ignore")
            thread = Thread(target=lambda: current_stop().sleep(600))
            thread.start()
            child = os.fork()
            if child == 0:
                thread.join()
                os._exit(7)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            thread.interrupt()
            thread.join()
        """
        assert run_program(program) == "7\n"


class TestEvery:
    """every: ticks at their times, without drift."""

    def test_first_at_once(self):
        """The first tick is at once, and the others are not before their times."""
        ticks = every(0.005)
        assert next(ticks) == 0
        began = time.monotonic()
        last = 0
        while last < 10:
            tick = next(ticks)
            assert tick > last
            assert time.monotonic() >= ticks._began + tick * 0.005
            last = tick
        assert ticks._began <= began

    def test_missed(self):
        """Ticks that are missed are skipped; the next one is at its place on the grid."""
        ticks = every(0.01)
        assert next(ticks) == 0
        passed = threading.Event()
        passed.wait(0.055)  # as work that takes longer than five ticks
        assert next(ticks) >= 6

    def test_a_long_while(self, monkeypatch):
        """After a million periods there is no drift: a tick's time is the first one's and a multiple."""
        ticks = every(1000)
        next(ticks)
        began = ticks._began
        monkeypatch.setattr(time, "monotonic", lambda: began + 1e9 - 1)
        with pytest.raises(Interrupted):
            ticks.stop = StopAfter(2)
            next(ticks)
        monkeypatch.setattr(time, "monotonic", lambda: began + 1e9)
        ticks.stop = None
        assert next(ticks) == 1_000_000
        assert ticks._last == 1_000_000

    @pytest.mark.parametrize("kind", ["own", "current"])
    def test_stop(self, background, kind):
        """The own stop and the current one end the wait; it never ends of itself, and goes on when the stop is gone."""
        stop = StopEvent()
        ticks = every(600, stop=stop if kind == "own" else None)
        numbers = []

        def loop():
            with use_stop(stop if kind == "current" else None):
                numbers.extend(iter(ticks))

        looping = background(loop)
        wait_until_blocked(stop)
        stop.set("enough")
        assert looping.error().reason == "enough"
        assert ticks.stop is (stop if kind == "own" else None)
        with use_stop(stop), pytest.raises(Interrupted):
            next(ticks)
        ticks.stop = None
        ticks._seconds = 0.001  # not to wait that long here
        assert next(ticks) >= 1

    def test_stop_before(self):
        """A stop that is set before the first tick takes nothing: that is still the next one."""
        stop = StopEvent()
        stop.set()
        ticks = every(600, stop=stop)
        with pytest.raises(Interrupted):
            next(ticks)
        stop.clear()
        assert next(ticks) == 0

    def test_two_threads(self, background):
        """A second thread is told that the iterator is in use."""
        stop = StopEvent()
        ticks = every(600, stop=stop)
        next(ticks)
        waiting = background(next, ticks)
        wait_until_blocked(stop)
        with pytest.raises(ResourceBusy, match="another thread is in this iterator"):
            next(ticks)
        stop.set()
        waiting.error()

    @pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e-10])
    def test_bad_values(self, seconds):
        """A period that is no length of time is refused at once."""
        with pytest.raises(ValueError, match="seconds must be a finite number of 1e-9 or more, not"):
            every(seconds)

    @pytest.mark.parametrize("seconds", [None, "1", True])
    def test_bad_types(self, seconds):
        """So is what is no number, and a stop that is none."""
        with pytest.raises(TypeError, match="seconds must be a number, not"):
            every(seconds)
        with pytest.raises(TypeError, match="cannot be a stop"):
            every(1, stop=1)

    def test_extreme_periods(self):
        """The shortest and the longest period are taken."""
        ticks = every(1e-9)
        assert next(ticks) < next(ticks)
        ticks = every(1e308, stop=StopAfter(3))
        assert next(ticks) == 0
        with pytest.raises(Interrupted):
            next(ticks)
