"""`calls.sleep`, `call` and `interrupting`, with drivers that behave and drivers that do not."""

from __future__ import annotations

import contextvars
import math
import threading

import pytest

from iointerrupt import (
    DeadlineExceeded,
    Interrupted,
    StopEvent,
    abandoned_helpers,
    calls,
    current_stop,
    sockets,
    use_stop,
)
from iointerrupt.testing import StopAfter, wait_until_blocked


class TestSleep:
    """Sleeping."""

    def test_it_sleeps(self):
        """With nobody to stop it, it returns when the time is up."""
        assert calls.sleep(0.01) is None
        assert calls.sleep(0, stop=StopEvent()) is None

    @pytest.mark.parametrize("make", [StopEvent, threading.Event])
    def test_a_stop(self, make, background):
        """However long it was to sleep, a stop ends it."""
        stop = make()
        sleeper = background(calls.sleep, math.inf, stop=stop)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(sleeper.error(), Interrupted)

    def test_a_deadline(self):
        """A deadline that comes first is raised as such."""
        with pytest.raises(DeadlineExceeded):
            calls.sleep(100, stop=StopEvent(timeout=0.01))

    @pytest.mark.parametrize("wrong", [-1, math.nan])
    def test_wrong_times(self, wrong):
        """A time that is none is refused."""
        with pytest.raises(ValueError, match="seconds must be 0 or more seconds"):
            calls.sleep(wrong)
        with pytest.raises(TypeError, match="seconds must be a number of seconds, not str"):
            calls.sleep("1")


class TestCall:
    """Functions that know no stop."""

    def test_what_it_returns_and_raises(self):
        """Arguments, result and exception are those of the function."""
        assert calls.call(divmod, 7, 2, stop=StopEvent()) == (3, 1)
        assert calls.call(int, "11", base=2) == 3
        with pytest.raises(ZeroDivisionError):
            calls.call(divmod, 1, 0)
        with pytest.raises(KeyboardInterrupt):
            calls.call(raise_keyboard_interrupt)

    def test_a_stop_leaves_it_behind(self, background):
        """The caller goes on, and the helper is counted until it has ended."""
        over, stop = threading.Event(), StopEvent()
        caller = background(calls.call, over.wait, stop=stop)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(caller.error(), Interrupted)
        assert abandoned_helpers() == 1
        over.set()

    def test_it_sees_the_callers_context_and_stops(self, background):
        """What it calls of the library is stopped with the call, so that its thread ends as well."""
        variable = contextvars.ContextVar("variable")
        variable.set("value")
        own, current, seen = StopEvent(), StopEvent(), []

        def work():
            seen.append(variable.get())
            seen.append(current_stop())
            near, far = sockets.socketpair()
            with near, far:
                near.recv(1)

        def caller():
            variable.set("value")
            with use_stop(current):
                calls.call(work, stop=own)

        blocked = background(caller)
        wait_until_blocked(own, 2)  # the caller and the receive
        wait_until_blocked(current, 2)
        current.set("enough")
        assert blocked.error().reason == "enough"
        assert seen[0] == "value"
        assert seen[1].is_set()

    def test_without_a_stop(self):
        """It runs in a helper all the same, with no current stop."""
        assert calls.call(current_stop) is None
        assert calls.call(threading.current_thread) is not threading.current_thread()

    @pytest.mark.parametrize("wrong", [None, 1, "function"])
    def test_what_is_no_function(self, wrong):
        """It is refused."""
        with pytest.raises(TypeError, match="func must be callable, not"):
            calls.call(wrong)


def raise_keyboard_interrupt():
    """What is no Exception."""
    raise KeyboardInterrupt


class Driver:
    """A driver whose statements run until they are cancelled; a cancel while none runs is lost, as in most drivers."""

    def __init__(self):
        self.condition = threading.Condition()
        self.executing = False
        self.cancelled = False
        self.cancels = 0
        self.started = threading.Event()

    def cancel(self):
        """End the statement that runs."""
        with self.condition:
            self.cancels += 1
            self.cancelled = self.executing
            self.condition.notify_all()

    def execute(self):
        """Run a statement."""
        with self.condition:
            self.executing, self.cancelled = True, False
            self.started.set()
            try:
                self.condition.wait_for(lambda: self.cancelled, 20)
                raise OSError("cancelled")
            finally:
                self.executing = False


@pytest.fixture
def driver():
    """A driver."""
    return Driver()


class TestInterrupting:
    """Blocks whose driver has a cancel."""

    @pytest.mark.parametrize("make", [StopEvent, threading.Event])
    def test_a_stop(self, driver, make, background):
        """The driver is told, and what it raises then becomes Interrupted, with that as its cause."""
        stop = make()

        def work():
            with calls.interrupting(driver.cancel, stop=stop):
                driver.execute()

        running = background(work)
        driver.started.wait(10)
        stop.set()
        error = running.error()
        assert isinstance(error, Interrupted)
        assert str(error.__cause__) == "cancelled"

    def test_the_current_stop(self, driver, background):
        """It counts as well, and brings its reason."""
        stop = StopEvent()

        def work():
            with use_stop(stop), calls.interrupting(driver.cancel, stop=StopEvent()):
                driver.execute()

        running = background(work)
        driver.started.wait(10)
        stop.set("enough")
        assert running.error().reason == "enough"

    def test_a_deadline(self, driver):
        """A deadline cancels too, and is raised as such."""
        with pytest.raises(DeadlineExceeded), calls.interrupting(driver.cancel, stop=StopEvent(timeout=0.01)):
            driver.execute()

    def test_a_cancel_that_comes_too_early(self, driver):
        """One that is lost since nothing runs yet is repeated until the block has ended."""
        stop = StopEvent()
        with pytest.raises(Interrupted), calls.interrupting(driver.cancel, stop=stop):
            stop.set()
            with driver.condition:
                driver.condition.wait_for(lambda: driver.cancels, 10)
            driver.execute()
        assert driver.cancels >= 2

    def test_set_before(self, driver):
        """With the stop set the block does not run, and the driver is not told."""
        stop = StopEvent()
        stop.set()
        with pytest.raises(Interrupted), calls.interrupting(driver.cancel, stop=stop):
            pytest.fail("the block ran")
        assert not driver.cancels

    @pytest.mark.parametrize("n", range(1, 6))
    def test_each_check(self, driver, n):
        """At whatever check the stop comes, the block is interrupted, or it had completed."""
        try:
            with calls.interrupting(driver.cancel, stop=StopAfter(n)) as _:
                pass
        except Interrupted:
            assert n <= 2

    def test_a_block_that_completes(self, driver):
        """Its result counts, though the stop came; the next block does not run."""
        stop, done = StopEvent(), []
        with calls.interrupting(driver.cancel, stop=stop):
            stop.set()
            done.append(1)
        assert done
        with pytest.raises(Interrupted), calls.interrupting(driver.cancel, stop=stop):
            pytest.fail("the block ran")

    def test_no_action_after_the_block(self, driver):
        """A stop that comes later does not reach what the connection does next."""
        stop = StopEvent()
        with calls.interrupting(driver.cancel, stop=stop):
            pass
        stop.set()
        assert not driver.cancels

    def test_another_error(self, driver):
        """Without a stop an error of the block is what it is."""
        with pytest.raises(ValueError, match="wrong"), calls.interrupting(driver.cancel, stop=StopEvent()):
            raise ValueError("wrong")

    def test_what_is_no_exception_passes(self, driver):
        """A KeyboardInterrupt is not turned into anything."""
        stop = StopEvent()
        with pytest.raises(KeyboardInterrupt), calls.interrupting(driver.cancel, stop=stop):
            stop.set()
            raise KeyboardInterrupt

    def test_an_interruption_passes(self, driver):
        """What was Interrupted already keeps what it carries."""
        stop = StopEvent()
        with pytest.raises(Interrupted) as caught, calls.interrupting(driver.cancel, stop=stop):
            stop.set()
            raise Interrupted("inner", partial=b"abc")
        assert caught.value.partial == b"abc"

    @pytest.mark.parametrize("error", [ConnectionError, SystemExit])
    def test_an_action_that_raises(self, driver, error, monkeypatch, background):
        """Whatever it raises is reported once, and it is tried again until it works."""
        reported, tries, stop = [], [], StopEvent()
        monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))

        def cancel():
            tries.append(1)
            if len(tries) < 3:
                raise error("no route to the server")
            driver.cancel()

        def work():
            with calls.interrupting(cancel, stop=stop):
                driver.execute()

        running = background(work)
        driver.started.wait(10)
        stop.set()
        assert isinstance(running.error(), Interrupted)
        assert [str(report) for report in reported] == ["no route to the server"]

    def test_an_action_that_blocks(self, driver, background):
        """Neither the setter waits for it, nor for ever the block; what is left behind is counted until it ends."""
        over, stop = threading.Event(), StopEvent()

        def cancel():
            driver.cancel()
            over.wait(20)

        def work():
            with calls.interrupting(cancel, stop=stop, grace=0.01):
                driver.execute()

        running = background(work)
        driver.started.wait(10)
        stop.set()
        assert isinstance(running.error(), Interrupted)
        assert abandoned_helpers() == 1
        over.set()

    def test_no_more_threads(self, driver, no_more_threads, background):
        """Where there is no helper to be had, the driver is told by whoever sets the stop."""
        stop = StopEvent()

        def work():
            with calls.interrupting(driver.cancel, stop=stop):
                driver.execute()

        running = background(work)
        driver.started.wait(10)
        with no_more_threads():
            stop.set()
        assert isinstance(running.error(), Interrupted)

    def test_one_slow_action_does_not_hold_up_another(self, driver, background):
        """Two blocks on one stop: the driver of the second is told while the first is still at it."""
        over, stop, slow_began = threading.Event(), StopEvent(), threading.Event()

        def slow():
            slow_began.set()
            over.wait(20)

        def hold():
            with calls.interrupting(slow, stop=stop):
                slow_began.wait(20)
                over.wait(20)

        def work():
            with calls.interrupting(driver.cancel, stop=stop):
                driver.execute()

        holding = background(hold)
        wait_until_blocked(stop)
        running = background(work)
        driver.started.wait(10)
        stop.set()
        assert isinstance(running.error(), Interrupted)
        assert slow_began.wait(10)
        over.set()
        holding.result()

    def test_nested(self, driver, background):
        """Blocks within blocks end one after the other, by one stop."""
        stop = StopEvent()

        def work():
            with calls.interrupting(driver.cancel, stop=stop):
                with calls.interrupting(driver.cancel, stop=stop):
                    driver.execute()

        running = background(work)
        driver.started.wait(10)
        stop.set()
        assert isinstance(running.error(), Interrupted)

    @pytest.mark.parametrize("wrong", [None, 1, "cancel"])
    def test_what_is_no_action(self, wrong):
        """It is refused before the block."""
        with pytest.raises(TypeError, match="action must be callable, not"), calls.interrupting(wrong):
            pytest.fail("the block ran")

    def test_wrong_grace(self, driver):
        """A grace that is no time is refused before the block."""
        with pytest.raises(ValueError, match="grace must be 0 or more"), calls.interrupting(driver.cancel, grace=-1):
            pytest.fail("the block ran")
