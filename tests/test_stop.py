"""The signal: setting, asking, parents, deadlines, callbacks, the descriptor, and what is not accepted as a stop."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import linecache
import multiprocessing
import os
import pickle
import queue
import selectors
import signal
import subprocess
import sys
import textwrap
import threading
import time
import types
import weakref

import pytest

from iointerrupt import (
    DeadlineExceeded,
    Interrupted,
    Stalled,
    StopEvent,
    _stop,
    as_stop,
    current_stop,
    deadline,
    use_stop,
)
from iointerrupt._signal import guard
from iointerrupt._signal.blocked import observers
from iointerrupt._signal.latch import Latch
from iointerrupt._wait import READ, check, sleep_until, wait_ready
from iointerrupt.testing import StopAfter, wait_until_blocked
from tests.at_lines import alarm_at_line, handling


def test_is_a_threading_event():
    """A StopEvent passes wherever a threading.Event is asked for."""
    stop = StopEvent()
    assert isinstance(stop, threading.Event)
    assert not stop.is_set()
    stop.set()
    assert stop.is_set()
    assert stop.wait(0)


def test_import_takes_no_typing():
    """What only type checkers read is not imported: `typing` alone would be most of what the import costs."""
    program = "import sys; before = set(sys.modules); import iointerrupt; print('typing' in set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_first_reason_stays():
    """Of several sets the first one's reason is kept and raised."""
    stop = StopEvent()
    assert stop.reason is None
    stop.set("first")
    stop.set("second")
    assert stop.reason == "first"
    with pytest.raises(Interrupted, match="interrupted: first") as caught:
        stop.raise_if_set()
    assert caught.value.reason == "first"


def test_reason_that_is_an_exception_becomes_the_cause():
    """An exception given as the reason is what the Interrupted was raised from."""
    stop, why = StopEvent(), OSError("disk gone")
    stop.set(why)
    with pytest.raises(Interrupted) as caught:
        stop.raise_if_set()
    assert caught.value.__cause__ is why


def test_wait_wakes_every_waiter(background):
    """One set wakes all threads in wait, and each returns True."""
    stop = StopEvent()
    waiting = [background(stop.wait) for _ in range(20)]
    wait_until_blocked(stop, 20)
    stop.set()
    assert all(one.result() is True for one in waiting)


def test_wait_for_a_set_event_does_not_block(monkeypatch):
    """Whoever looks for threads that are blocked hears nothing of a wait for an event that is set already."""
    told = []
    monkeypatch.setitem(observers, "a test", lambda: told.append(1))
    stop = StopEvent()
    stop.wait(0)
    assert told
    told.clear()
    stop.set()
    assert stop.wait()
    assert not told


def test_wait_times_out():
    """A wait that is not ended by a set returns False, at once for zero."""
    assert StopEvent().wait(0) is False
    assert StopEvent().wait(0.01) is False
    assert StopEvent().wait(-1) is False


def test_set_and_clear_at_once_is_not_missed(background):
    """A thread that was blocked when the event was set wakes, even if the event is cleared right after."""
    stop = StopEvent()
    waiting = background(stop.wait)
    wait_until_blocked(stop)
    stop.set()
    stop.clear()
    assert waiting.result() is True
    assert not stop.is_set()


def test_clear_of_an_unset_event_changes_nothing(background):
    """Clearing an event that is not set does not keep a later set from waking who is blocked already."""
    stop = StopEvent()
    waiting = background(stop.wait)
    wait_until_blocked(stop)
    stop.clear()
    stop.set()
    assert waiting.result() is True


def test_sleep_is_interrupted(background):
    """StopEvent.sleep raises as soon as the event is set, and refuses a negative time."""
    stop = StopEvent()
    sleeping = background(stop.sleep, 600)
    wait_until_blocked(stop)
    stop.set("enough")
    assert sleeping.error().reason == "enough"
    StopEvent().sleep(0)
    with pytest.raises(ValueError, match="seconds must be 0 or more"):
        stop.sleep(-1)


class TestParents:
    """A child is set when a parent is, and leaves nothing in it."""

    def test_child_follows_parent_with_its_reason(self):
        """Setting a parent sets the child with the parent's reason; setting the child leaves the parent alone."""
        parent = StopEvent()
        child, sibling = StopEvent(parent), StopEvent(parent)
        sibling.set("only me")
        assert not parent.is_set()
        assert not child.is_set()
        parent.set("all")
        assert child.reason == "all"
        assert sibling.reason == "only me"

    def test_any_of_several_parents(self):
        """A child of several parents is set by any of them, whatever kind they are."""
        plain, flag = threading.Event(), []
        child = StopEvent(StopEvent(), plain, lambda: bool(flag), None)
        assert not child.is_set()
        flag.append(1)
        assert child.is_set()

    def test_parent_already_set(self):
        """A child of a parent that is set is born set."""
        parent = StopEvent()
        parent.set("before")
        assert StopEvent(parent).reason == "before"
        plain = threading.Event()
        plain.set()
        assert StopEvent(plain).is_set()

    def test_long_chain(self, background):
        """A chain of five thousand children wakes a thread that is blocked on the last."""
        chain = [StopEvent()]
        for _ in range(5000):
            chain.append(StopEvent(chain[-1]))
        waiting = background(chain[-1].wait)
        wait_until_blocked(chain[0])
        chain[0].set("far")
        assert waiting.result()
        assert chain[-1].reason == "far"

    def test_dropped_children_leave_nothing(self):
        """Children that are dropped are gone from a parent that lives on."""
        parent = StopEvent()
        for _ in range(1000):
            StopEvent(parent, timeout=60)
        gc.collect()
        assert not parent._children
        assert not parent._kept

    def test_child_with_callback_lives_until_it_has_run(self):
        """A child that nobody refers to still runs its callback when a grandparent is set, and is gone after that."""
        grandparent, ran = StopEvent(), []
        child = StopEvent(StopEvent(grandparent))
        child.on_set(lambda: ran.append(1))
        gone = weakref.ref(child)
        del child
        gc.collect()
        grandparent.set()
        gc.collect()
        assert ran == [1]
        assert gone() is None
        assert not grandparent._kept

    def test_cancelled_callback_lets_the_child_go(self):
        """Cancelling the callback is enough for a dropped child to be collected."""
        parent = StopEvent()
        child = StopEvent(parent, threading.Event(), timeout=60)
        gone = weakref.ref(child)
        child.on_set(int).cancel()
        del child
        gc.collect()
        assert gone() is None

    def test_descendant_with_callback_lives_however_far_it_is(self):
        """So does one that is many generations below, through all of which it is reached."""
        top, ran = StopEvent(), []
        last = top
        for _ in range(6):
            last = StopEvent(last)
        last.on_set(lambda: ran.append(1))
        del last
        gc.collect()
        top.set()
        assert ran == [1]

    def test_clear_is_refused(self):
        """An event whose parents or deadline decide cannot be cleared."""
        for stop in (StopEvent(StopEvent()), StopEvent(timeout=5)):
            with pytest.raises(RuntimeError, match="make a new one"):
                stop.clear()

    def test_child_stays_set_when_the_parent_is_cleared(self):
        """Clearing a parent does not unset the children that it has stopped."""
        parent = StopEvent()
        child = StopEvent(parent)
        parent.set("once")
        parent.clear()
        assert child.reason == "once"
        assert not StopEvent(parent).is_set()


class TestDeadline:
    """A StopEvent with a timeout is set by the clock."""

    def test_raises_deadline_exceeded(self):
        """When the time is up, what is raised is a DeadlineExceeded that names the limit."""
        stop = StopEvent(timeout=0.01)
        assert stop.wait(10)
        with pytest.raises(DeadlineExceeded, match=r"deadline of 0\.01 s exceeded"):
            stop.raise_if_set()

    def test_zero_is_over_at_once(self):
        """A timeout of zero is set from the start."""
        assert StopEvent(timeout=0).is_set()

    def test_earliest_deadline_holds(self):
        """A child is bound by its parent's deadline when that is earlier, and raises DeadlineExceeded too."""
        child = StopEvent(StopEvent(timeout=0), timeout=60)
        with pytest.raises(DeadlineExceeded):
            child.raise_if_set()

    def test_no_limit(self):
        """An infinite timeout is none."""
        stop = StopEvent(timeout=float("inf"))
        assert not stop.wait(0)
        stop.set()
        stop.clear()
        assert not stop.is_set()
        assert StopEvent().wait(0) is False

    def test_set_before_the_deadline_is_no_deadline(self):
        """An event that was set by somebody before its time was up raises a plain Interrupted."""
        stop = StopEvent(timeout=60)
        stop.set("by hand")
        with pytest.raises(Interrupted) as caught:
            stop.raise_if_set()
        assert type(caught.value) is Interrupted

    def test_callback_runs_at_the_deadline_even_if_the_event_is_dropped(self):
        """A deadline's callback runs by itself, on an event that nobody refers to or asks."""
        ran = threading.Event()
        StopEvent(StopEvent(), timeout=0.01).on_set(ran.set)
        gc.collect()
        assert ran.wait(10)

    @pytest.mark.parametrize("timeout", [-1, float("nan")])
    def test_impossible_time(self, timeout):
        """A negative or meaningless timeout is a ValueError."""
        with pytest.raises(ValueError, match="timeout must be 0 or more seconds"):
            StopEvent(timeout=timeout)

    @pytest.mark.parametrize("timeout", ["5", True, [1]])
    def test_timeout_of_a_wrong_type(self, timeout):
        """A timeout that is no number is a TypeError that names its type."""
        with pytest.raises(TypeError, match=type(timeout).__name__):
            StopEvent(timeout=timeout)


class TestCallbacks:
    """on_set: once each, never under a lock, and never after cancel has returned."""

    def test_what_is_no_exception(self):
        """What a callback raises beside an Exception goes to whoever sets, when all others have run, those behind it included."""
        stop, ran = StopEvent(), []

        def leave(kind):
            ran.append(kind)
            raise kind

        for callback in (
            lambda: leave(SystemExit),
            lambda: ran.append(1),
            lambda: leave(KeyboardInterrupt),
            lambda: ran.append(2),
        ):
            stop.on_set(callback)
        with pytest.raises(KeyboardInterrupt) as caught:
            stop.set()
        assert ran == [SystemExit, 1, KeyboardInterrupt, 2]
        assert isinstance(caught.value.__context__, SystemExit)

    def test_run_in_order_once(self):
        """Callbacks run in the order of their registration, and a second set runs none again."""
        stop, ran = StopEvent(), []
        for number in range(3):
            stop.on_set(lambda number=number: ran.append(number))
        stop.set()
        stop.set()
        assert ran == [0, 1, 2]

    def test_at_once_if_already_set(self):
        """A callback on an event that is set runs before on_set returns."""
        stop, ran = StopEvent(), []
        stop.set()
        stop.on_set(lambda: ran.append(1))
        assert ran == [1]

    def test_failing_callback_is_reported_and_stops_no_other(self, monkeypatch):
        """An exception in a callback reaches threading.excepthook, and the others run."""
        reported, ran = [], []
        monkeypatch.setattr(threading, "excepthook", lambda args: reported.append(args.exc_value))
        stop = StopEvent()
        stop.on_set(lambda: 1 / 0)
        stop.on_set(lambda: ran.append(1))
        stop.set()
        assert ran == [1]
        assert [type(error) for error in reported] == [ZeroDivisionError]

    def test_cancelled_does_not_run(self):
        """A cancelled callback does not run, nor does one whose block was left."""
        stop, ran = StopEvent(), []
        stop.on_set(lambda: ran.append(1)).cancel()
        with stop.on_set(lambda: ran.append(2)):
            pass
        stop.set()
        assert ran == []

    def test_cancel_waits_for_a_running_callback(self, background):
        """A cancel from another thread returns only once the running callback has ended."""
        stop, entered, leave, ended = StopEvent(), threading.Event(), threading.Event(), []

        def callback():
            entered.set()
            leave.wait(10)
            ended.append(1)

        registration = stop.on_set(callback)
        setting = background(stop.set)
        assert entered.wait(10)
        cancelling = background(lambda: (registration.cancel(), list(ended))[1])
        leave.set()
        assert cancelling.result() == [1]
        setting.result()

    def test_cancel_from_within_returns(self):
        """A callback may cancel itself."""
        stop, registration = StopEvent(), []
        registration.append(stop.on_set(lambda: registration[0].cancel()))
        stop.set()
        assert stop.is_set()

    def test_callbacks_that_cancel_each_other_do_not_deadlock(self, background):
        """Two callbacks, running in two threads and cancelling each other, both end."""
        one, other, both_running = StopEvent(), StopEvent(), threading.Barrier(2)
        registrations = {}

        def cancel(name):
            both_running.wait(10)
            registrations[name].cancel()

        registrations["one"] = one.on_set(lambda: cancel("other"))
        registrations["other"] = other.on_set(lambda: cancel("one"))
        setting = [background(one.set), background(other.set)]
        for thread in setting:
            thread.result()

    def test_run_without_a_lock(self):
        """Within a callback every method of the event may be called."""
        stop, seen = StopEvent(), []

        def callback():
            stop.set("again")
            stop.on_set(lambda: seen.append("nested"))
            seen.append((stop.is_set(), stop.wait(), stop.reason, stop.fileno() >= 0, StopEvent(stop).is_set()))

        stop.on_set(callback)
        stop.set("first")
        assert seen == ["nested", (True, True, "first", True, True)]

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_exit_in_a_callback_does_not_end_the_clock(self):
        """A callback of a deadline that raises SystemExit keeps no other deadline from being kept."""
        ran, here = threading.Event(), threading.current_thread()
        # Where it was this thread's turn so late that the deadline had passed, the callback runs here.
        StopEvent(timeout=0.01).on_set(lambda: None if threading.current_thread() is here else sys.exit())
        StopEvent(timeout=0.05).on_set(ran.set)
        assert ran.wait(10)

    def test_a_deadline_that_nobody_depends_on_any_more(self):
        """What the clock has to remember is taken back: with a registration, and with an event that is dropped."""
        before = len(_stop._clock._entries)
        stop = StopEvent(timeout=1000)
        stop.fileno()
        registration = stop.on_set(print)
        assert len(_stop._clock._entries) == before + 2
        registration.cancel()
        assert len(_stop._clock._entries) == before + 1
        del stop, registration
        gc.collect()
        assert len(_stop._clock._entries) == before

    def test_deadlines_in_any_order(self):
        """Of deadlines that are told in any order each is kept, the next one first."""
        fired = queue.SimpleQueue()
        times = [0.05, 0.01, 0.08, 0.03, 0.06, 0.02]
        stops = [StopEvent(timeout=seconds) for seconds in times]
        for seconds, stop in zip(times, stops, strict=True):
            stop.on_set(functools.partial(fired.put, seconds))
        assert sorted(fired.get(timeout=10) for _ in times) == sorted(times)

    def test_many_ways_down_to_one_descendant(self):
        """A family in which every event has two parents is set in a moment, and each callback runs once."""
        top, ran = StopEvent(), []
        last = top
        generations = []
        for _ in range(40):
            pair = StopEvent(last), StopEvent(last)
            last = StopEvent(*pair)
            generations.append((pair, last))
        last.on_set(lambda: ran.append(1))
        top.set("down")
        assert last.reason == "down"
        assert ran == [1]

    def test_must_be_callable(self):
        """Something that cannot be called is refused with its type."""
        with pytest.raises(TypeError, match="callback must be callable, not int"):
            StopEvent().on_set(5)


class TestDescriptor:
    """fileno: readable while set."""

    def is_readable(self, stop):
        with selectors.DefaultSelector() as selector:
            selector.register(stop, selectors.EVENT_READ)
            return bool(selector.select(0))

    def test_level_follows_the_event(self):
        """It is readable from set to clear, stays so however often it is asked, and keeps its number."""
        stop = StopEvent()
        number = stop.fileno()
        assert not self.is_readable(stop)
        stop.set()
        assert self.is_readable(stop)
        assert self.is_readable(stop)
        stop.clear()
        assert not self.is_readable(stop)
        stop.set()
        assert self.is_readable(stop)
        assert stop.fileno() == number

    def test_made_after_the_set(self):
        """It is readable at once when the event was set before anybody asked for it."""
        stop = StopEvent()
        stop.set()
        assert self.is_readable(stop)

    def test_wakes_a_selector_at_a_deadline(self):
        """A selector that waits on it is woken by the event's deadline and by a foreign parent."""
        for stop in (StopEvent(timeout=0.02), StopEvent(lambda: True)):
            with selectors.DefaultSelector() as selector:
                selector.register(stop, selectors.EVENT_READ)
                assert selector.select(10)

    def test_wakes_a_selector_for_a_foreign_event(self, background):
        """A selector that waits on the descriptor of a plain event's stop is woken when that is set."""
        event = threading.Event()
        stop = as_stop(event)
        number = stop.fileno()

        def select():
            with selectors.DefaultSelector() as selector:
                selector.register(number, selectors.EVENT_READ)
                return bool(selector.select(10))

        selecting = background(select)
        event.set()
        assert selecting.result() is True

    @pytest.mark.parametrize("make", [threading.Event, type("Event", (threading.Event,), {})])
    def test_follows_a_foreign_event_that_is_set_again(self, make):
        """The descriptor of an event's stop is readable when that is set, and once it has been cleared, when it is set again."""
        event = make()
        stop = as_stop(event)
        with selectors.DefaultSelector() as selector:
            selector.register(stop.fileno(), selectors.EVENT_READ)
            for _ in range(3):
                assert not selector.select(0)
                event.set()
                assert selector.select(10)
                _join(stop._watcher._thread)
                event.clear()
                assert not stop.is_set()

    def test_thread_is_started_without_the_lock(self, monkeypatch):
        """Who watches is started while nobody has the library's lock: the start would wait for a thread whose collector wants it."""
        start, had = threading.Thread.start, []
        monkeypatch.setattr(
            threading.Thread, "start", lambda thread: (had.append(guard.lock._is_owned()), start(thread))
        )
        as_stop(type("Event", (threading.Event,), {})()).fileno()
        assert had == [False]

    def test_an_event_that_stays_set_is_watched_no_more(self):
        """The thread that has seen a foreign event set ends, and to ask about the event does not start another."""
        event = type("Event", (threading.Event,), {})()
        stop = as_stop(event)
        stop.fileno()
        event.set()
        _join(stop._watcher._thread)
        assert stop.is_set()
        assert stop._watcher._thread is None

    @pytest.mark.parametrize(
        "make", [lambda: StopEvent(threading.Event()), lambda: as_stop(lambda: False), lambda: StopEvent(timeout=60)]
    )
    def test_closed_with_the_event(self, make):
        """Dropping the event closes it, whatever has the event watched."""
        stop = make()
        number = stop.fileno()
        os.fstat(number)
        del stop
        gc.collect()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(number)


class TestForeign:
    """as_stop turns whatever says "stop" into a StopEvent, which follows it."""

    def test_same_source_same_stop(self):
        """A source has one stop, also a bound method, which is a new object at each mention."""
        event = threading.Event()
        assert as_stop(event) is as_stop(event)
        assert as_stop(event.is_set) is as_stop(event.is_set)
        assert as_stop(None) is None
        own = StopEvent()
        assert as_stop(own) is own

    @pytest.mark.parametrize("make", [threading.Event, multiprocessing.Event])
    def test_event_wakes_a_blocked_thread(self, make, background):
        """A thread blocked on a foreign event's stop is woken by that event's set."""
        event = make()
        waiting = background(as_stop(event).wait)
        wait_until_blocked(event)
        event.set()
        assert waiting.result() is True

    def test_one_place_for_each_event(self, background):
        """However many follow a plain event after one another, there is one place of ours among its waiters, for the last one."""
        event = threading.Event()
        for _ in range(20):
            assert as_stop(event).wait(0.0) is False
            gc.collect()
        assert len(event._cond._waiters) == 1
        waiting = background(as_stop(event).wait)
        wait_until_blocked(event)
        event.set()
        assert waiting.result() is True
        assert len(event._cond._waiters) == 0

    def test_an_operation_that_ends_while_the_event_is_set(self, background):
        """The event's `set` walks along its waiters: who leaves meanwhile does not get in its way."""
        event = threading.Event()
        plain = background(event.wait)
        while not event._cond._waiters:  # nothing else tells
            pass
        leave = as_stop(event)._hook.hold()
        left = []

        def trace(frame, *_):
            line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            if "waiter = waiters[0]" in line and len(event._cond._waiters) == 1:
                sys.settrace(None)
                frame.f_trace = None
                left.append(background(leave).result())
                return None
            return trace

        was_traced = sys.gettrace()
        sys.settrace(trace)
        try:
            event.set()
        finally:
            sys.settrace(was_traced)
        assert plain.result() is True
        assert left == [None]

    def test_callable_wakes_a_blocked_thread(self, background, monkeypatch):
        """A thread blocked on a callable is woken once that says so, and the interval can be set."""
        monkeypatch.setattr(StopEvent, "poll_interval", 0.001)
        flag = []
        source = lambda: bool(flag)  # noqa: E731 - a callable is what is under test
        waiting = background(as_stop(source).wait)
        wait_until_blocked(source)
        flag.append(1)
        assert waiting.result() is True

    @pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, GeneratorExit])
    def test_a_callable_that_raises_what_is_no_exception(self, background, monkeypatch, error):
        """While somebody is blocked, whatever it raises is a stop, as it cannot be asked any more."""
        monkeypatch.setattr(StopEvent, "poll_interval", 0.001)

        def source():
            if threading.current_thread().name == "iointerrupt-poll":
                raise error("why")
            return False

        stopped = background(sleep_until, time.monotonic() + 60, as_stop(source)).error()
        assert isinstance(stopped, Interrupted)
        assert isinstance(stopped.__cause__, error)

    def test_a_sleep_that_is_mocked(self, background, monkeypatch):
        """Who replaces `time.sleep` in a test finds nothing of ours in it, and a callable is asked no more often."""
        slept, asked = [], []
        monkeypatch.setattr(time, "sleep", slept.append)

        def source():
            asked.append(None)
            return len(asked) > 5

        began = time.monotonic()
        assert background(as_stop(source).wait).result() is True
        assert slept == []
        assert time.monotonic() - began > StopEvent.poll_interval

    def test_follows_a_source_that_is_cleared(self, background):
        """Once its source is cleared the stop is unset, and the next set stops again."""
        event = threading.Event()
        for _ in range(3):
            waiting = background(as_stop(event).wait)
            wait_until_blocked(event)
            event.set()
            assert waiting.result()
            event.clear()
            assert not as_stop(event).is_set()

    def test_children_of_a_foreign_event(self, background):
        """A child of a plain event wakes with it."""
        event = threading.Event()
        child = StopEvent(event, timeout=60)
        waiting = background(child.wait)
        wait_until_blocked(event)
        event.set()
        assert waiting.result()

    def test_callback_on_a_foreign_event_runs(self):
        """A callback on a plain event's stop runs when that is set, in a thread that holds none of its locks."""
        event, ran = threading.Event(), threading.Event()

        def callback():
            event.clear()
            event.set()
            ran.set()

        StopEvent(event).on_set(callback)
        gc.collect()
        event.set()
        assert ran.wait(10)

    def test_callback_on_a_callable_runs(self):
        """A callback of an event that nobody refers to runs once the callable that it follows says so."""
        flag, ran = [], threading.Event()
        StopEvent(lambda: bool(flag)).on_set(ran.set)
        gc.collect()
        flag.append(1)
        assert ran.wait(10)

    def test_cleared_while_its_set_is_told(self):
        """An event that is cleared, and asked about, before the thread that watches it has told everybody is watched further."""
        event, told = type("Event", (threading.Event,), {})(), threading.Event()
        stop = as_stop(event)
        stop.on_set(lambda: (event.clear(), stop.is_set(), told.set()))
        with selectors.DefaultSelector() as selector:
            selector.register(stop.fileno(), selectors.EVENT_READ)
            event.set()
            assert told.wait(10)
            event.set()
            assert selector.select(10)

    def test_set_reaches_the_source(self):
        """Setting the stop of an event sets the event; the stop of a callable says that it cannot."""
        event = threading.Event()
        stop = as_stop(event)
        stop.set("from here")
        assert event.is_set()
        assert stop.reason == "from here"
        with pytest.raises(RuntimeError, match="cannot set a stop that follows"):
            as_stop(lambda: False).set()
        with pytest.raises(RuntimeError, match="cannot clear a stop that follows"):
            as_stop(event).clear()

    def test_event_whose_wait_fails_stops_the_work(self, background):
        """A source that can no longer be asked stops what is blocked on it, with its error as the reason."""

        class Broken:
            fail = threading.Event()

            def is_set(self):
                return False

            def wait(self, timeout=None):
                self.fail.wait(10)
                raise ConnectionError("manager is gone")

        source = Broken()
        reader, writer = os.pipe()
        try:
            waiting = background(wait_ready, reader, READ, as_stop(source))
            wait_until_blocked(source)
            Broken.fail.set()
            error = waiting.error()
        finally:
            os.close(reader)
            os.close(writer)
        assert isinstance(error, Interrupted)
        assert isinstance(error.reason, ConnectionError)

    def test_failing_callable_stops_the_work(self):
        """A callable that raises is a stop, with what it raised as the reason and the cause, so that nothing is lost by it."""

        def source():
            raise LookupError("no such flag")

        with pytest.raises(Interrupted) as caught:
            check(as_stop(source))
        assert isinstance(caught.value.reason, LookupError)
        assert isinstance(caught.value.__cause__, LookupError)

    def test_garbage_collection_in_a_new_thread_does_not_deadlock(self):
        """Events with descriptors may become garbage at any moment, also while a watcher's thread is being started."""
        program = """
            import threading
            from iointerrupt import StopEvent, as_stop
            class Event(threading.Event): pass
            class Cycle: pass
            for _ in range(600):
                cycle = Cycle()
                cycle.itself, cycle.stop = cycle, StopEvent(lambda: False)
                cycle.stop.fileno()
                as_stop(Event()).on_set(print).cancel()
        """
        subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=40)

    def test_thread_that_cannot_be_started_is_tried_again(self, background, monkeypatch):
        """Where there is no thread to be had, the wait fails with that error, and the next one works."""
        flag = []
        source = lambda: bool(flag)  # noqa: E731 - a callable is what is under test
        _wait_for_no_thread("iointerrupt-poll")
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", _no_thread)
            with pytest.raises(RuntimeError, match="no threads"):
                as_stop(source).wait()
        waiting = background(as_stop(source).wait)
        wait_until_blocked(source)
        flag.append(1)
        assert waiting.result() is True

    @pytest.mark.parametrize(
        "wrong",
        [
            asyncio.Event(),
            True,
            "stop",
            1,
            threading.Event,
            object(),
            asyncio.sleep,
            functools.partial(asyncio.sleep, 1),
            types.SimpleNamespace(is_set=bool),
            types.SimpleNamespace(wait=bool),
        ],
    )
    def test_what_is_no_stop(self, wrong):
        """Anything else is a TypeError that says what is accepted, and why an asyncio.Event is not."""
        with pytest.raises(TypeError, match="Accepted are a StopEvent, any object with is_set"):
            as_stop(wrong)
        with pytest.raises(TypeError, match="cannot be a stop"):
            StopEvent(wrong)
        with pytest.raises(TypeError, match="cannot be a stop"), use_stop(wrong):
            pass

    def test_no_thread_once_nobody_waits(self, background):
        """The thread that watches a foreign event ends after its grace, when nothing is blocked on it any more."""
        event = multiprocessing.Event()
        own = StopEvent()
        waiting = background(StopEvent(own, event).wait)
        wait_until_blocked(event)
        watcher = next(thread for thread in threading.enumerate() if thread.name == "iointerrupt-watch")
        own.set()
        assert waiting.result()
        watcher.join(10)
        assert not watcher.is_alive()

    def test_plain_event_needs_no_thread(self, background):
        """Blocking on a plain threading.Event starts no thread, and leaves nothing among its waiters."""
        event = threading.Event()
        before = set(threading.enumerate())
        waiting = background(as_stop(event).wait)
        wait_until_blocked(event)
        assert set(threading.enumerate()) - before == {waiting.thread}
        assert len(event._cond._waiters) == 1
        event.set()
        assert waiting.result()
        assert len(event._cond._waiters) == 0

    def test_the_first_that_is_set_is_enough(self):
        """Of several callables those behind the one that says stop are not asked."""
        says, asked = [], []
        child = StopEvent(lambda: bool(says), lambda: asked.append(1))
        assert not child.is_set()
        asked.clear()
        says.append(1)
        assert child.is_set()
        assert not asked

    def test_how_often_a_callable_is_asked(self):
        """While an operation is blocked a callable is asked twenty times a second, unless a program sets another interval."""
        assert StopEvent.poll_interval == 0.05

    def test_subclass_has_to_say_how_it_is_watched(self):
        """A subclass that has to be asked, and does not say who asks while a thread is blocked on it, is told so by the wait."""

        class Asked(StopEvent):
            def __init__(self):
                super().__init__()
                self._asked = (self,)

        with pytest.raises(NotImplementedError):
            Asked().wait()


class TestCurrent:
    """use_stop sets the stop of a thread's context."""

    def test_deadline(self):
        """A block with a limit ends with the stop around it, and at the latest at its limit."""
        outer = StopEvent()
        with use_stop(outer), deadline(3600) as limited:
            assert current_stop() is limited
            assert not limited.is_set()
            outer.set("around it")
            with pytest.raises(Interrupted, match="around it"):
                check(None)
        with pytest.raises(DeadlineExceeded), deadline(0), deadline(3600):
            check(None)
        assert current_stop() is None

    @pytest.mark.parametrize(("seconds", "error"), [(-1, ValueError), ("5", TypeError)])
    def test_no_deadline(self, seconds, error):
        """What is no number of seconds is refused, and the current stop is as before."""
        with pytest.raises(error, match="timeout must be"), deadline(seconds):
            pass
        assert current_stop() is None

    def test_replaces_and_restores(self):
        """The innermost block counts, None shields, and leaving restores."""
        outer, inner = StopEvent(), StopEvent()
        assert current_stop() is None
        with use_stop(outer) as given:
            assert given is outer
            with use_stop(inner):
                assert current_stop() is inner
            with use_stop(None):
                assert current_stop() is None
            assert current_stop() is outer
        assert current_stop() is None

    def test_known_from_the_first_one_on(self, monkeypatch):
        """That there has been a current stop is known from the first block with one on; one without a stop is none."""
        ever = Latch()
        monkeypatch.setattr(_stop, "ever_current", ever)
        with use_stop(None):
            assert not ever.fired
        with use_stop(StopEvent()):
            assert ever.fired

    def test_not_inherited_by_threads(self, background):
        """A new thread begins without a current stop."""
        with use_stop(StopEvent()):
            assert background(current_stop).result() is None

    @pytest.mark.skipif(sys.version_info < (3, 14), reason="threads inherit no context before Python 3.14")
    def test_where_threads_inherit_contexts(self):
        """The threads of a program inherit it, as Python was told; those of the library do not, and keep none alive."""
        program = """
            import gc, threading, weakref
            from iointerrupt import StopEvent, as_stop, current_stop, use_stop
            from iointerrupt.testing import Background

            stop = StopEvent()
            with use_stop(stop):
                threading.Thread(target=lambda: print(current_stop() is stop)).start()
                assert Background(current_stop).result() is None
                as_stop(lambda: False).wait(0.01)
                assert [each.name for each in threading.enumerate()] == ["MainThread", "iointerrupt-poll"]
            seen = weakref.ref(stop)
            del stop
            gc.collect()
            print(seen())
        """
        options = {"capture_output": True, "text": True, "timeout": 40}
        started = [sys.executable, "-X", "thread_inherit_context=1", "-c", textwrap.dedent(program)]
        done = subprocess.run(started, **options)
        assert (done.stdout, done.stderr) == ("True\nNone\n", "")

    def test_checked_beside_the_own_stop(self):
        """A check raises for the own stop or the current one, whichever is set."""
        set_one, unset = StopEvent(), StopEvent()
        set_one.set("why")
        with use_stop(unset):
            check(None)
            check(unset)
            with pytest.raises(Interrupted):
                check(set_one)
        with use_stop(set_one), pytest.raises(Interrupted):
            check(unset)


class TestSignals:
    """set() may be called from a signal handler, wherever that has interrupted the main thread."""

    def test_handler_ends_the_main_threads_own_wait(self):
        """A signal handler that sets the event ends the wait that it has interrupted."""
        stop = StopEvent()
        previous = signal.signal(signal.SIGALRM, lambda *_: stop.set("alarm"))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            assert stop.wait(10)
        finally:
            signal.signal(signal.SIGALRM, previous)
        assert stop.reason == "alarm"

    def test_handler_at_every_instruction(self):
        """A set from a handler at each single line of wait, set, on_set, cancel and clear neither deadlocks nor is missed."""
        count = 0
        for at in range(400):
            stop, ran = StopEvent(), []
            registration = stop.on_set(lambda ran=ran: ran.append(1))
            with (
                handling(signal.SIGALRM, lambda *_, stop=stop: stop.set("alarm")),
                alarm_at_line(at, lambda name: "iointerrupt" in name) as reached,
            ):
                stop.wait(0.0)
                with stop.on_set(int):
                    stop.set("program")
                registration.cancel()
            count += len(reached)
            assert stop.is_set()
            assert stop.wait(0)
            assert stop.reason in {"alarm", "program"}
            assert ran == [1]
        assert count > 100


class TestFork:
    """A forked child has a copy of its own."""

    def in_child(self, function):
        """Whether `function` returns True in a forked child."""
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later warn of any fork while threads run
            child = os.fork()
        if child == 0:
            try:
                os._exit(0 if function() is True else 1)
            finally:
                os._exit(2)
        give_up = time.monotonic() + 20
        while time.monotonic() < give_up:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status) == 0
            threading.Event().wait(0.005)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False

    def test_childs_set_does_not_wake_the_parent(self, background):
        """A child that sets the event wakes nobody in the parent, and the other way round."""
        stop = StopEvent()
        number = stop.fileno()
        waiting = background(stop.wait)
        wait_until_blocked(stop)

        def child():
            stop.set("in the child")
            with selectors.DefaultSelector() as selector:
                selector.register(number, selectors.EVENT_READ)
                return stop.is_set() and bool(selector.select(0))

        assert self.in_child(child)
        assert not stop.is_set()
        assert waiting.thread.is_alive()
        with selectors.DefaultSelector() as selector:
            selector.register(number, selectors.EVENT_READ)
            assert not selector.select(0)
        stop.set("in the parent")
        assert waiting.result()

    def test_child_can_block_and_be_stopped(self, background):
        """In a child of a process with blocked threads, waits on own, foreign and callable stops end as they should."""
        plain, shared, stop = threading.Event(), multiprocessing.Event(), StopEvent()
        sources = [plain, shared, lambda: bool(stop.is_set())]
        blocked = [background(as_stop(source).wait) for source in (*sources, stop)]
        for source in (*sources, stop):
            wait_until_blocked(source)

        def child():
            threading.Timer(0.05, plain.set).start()
            return as_stop(plain).wait(10) and StopEvent(timeout=0.01).wait(10)

        assert self.in_child(child)
        stop.set()
        plain.set()
        shared.set()
        for one in blocked:
            assert one.result()

    def test_callback_that_ran_elsewhere_does_not_hold_the_child(self, background):
        """In a child that was forked while a callback ran in another thread, cancelling it does not wait for that thread."""
        stop, entered, leave = StopEvent(), threading.Event(), threading.Event()
        registration = stop.on_set(lambda: (entered.set(), leave.wait(10)))
        setting = background(stop.set)
        assert entered.wait(10)

        def child():
            registration.cancel()
            return True

        assert self.in_child(child)
        leave.set()
        setting.result()

    def test_nobody_waits_in_the_child(self, background):
        """The waits of the parent's threads are not counted in a child."""
        stop = StopEvent()
        waiting = background(stop.wait)
        wait_until_blocked(stop)

        def child():
            threading.Thread(
                target=threading.Event().wait, daemon=True
            ).start()  # which may get the parent thread's number
            try:
                wait_until_blocked(stop, timeout=0.05)
            except TimeoutError:
                return True
            return False

        assert self.in_child(child)
        stop.set()
        assert waiting.result()

    def test_thread_of_a_child_process_stops_after_its_main_function(self):
        """A thread that outlives the main function of a multiprocessing child is still stopped by a shared event."""
        context = multiprocessing.get_context("spawn")
        event, blocked = context.Event(), context.Event()
        process = context.Process(target=_leave_a_thread_behind, args=(event, blocked))
        process.start()
        assert blocked.wait(30)
        event.set()
        process.join(30)
        assert process.exitcode == 0

    def test_multiprocessing_event_is_not_left_with_a_dead_sleeper(self):
        """A process that ends while its watcher sleeps on a shared event does not hang the next set of that event."""
        context = multiprocessing.get_context("spawn")
        event = context.Event()
        process = context.Process(target=_wait_shortly, args=(event,))
        process.start()
        process.join(30)
        assert process.exitcode == 0
        setter = threading.Thread(target=event.set, daemon=True)
        setter.start()
        setter.join(10)
        assert not setter.is_alive()


def _leave_a_thread_behind(event, blocked):
    def work():
        as_stop(event).wait()

    threading.Thread(target=work).start()
    wait_until_blocked(event)
    blocked.set()


def _join(thread):
    """Wait for the end of a watcher's thread, where there is one."""
    if thread is not None:
        thread.join(10)


def _no_thread(thread):
    raise RuntimeError("no threads")


def _wait_for_no_thread(name):
    for thread in threading.enumerate():
        if thread.name == name:
            thread.join(10)


def _wait_shortly(event):
    StopEvent(event, timeout=0.05).wait()


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy])
def test_cannot_be_pickled(copier):
    """Pickling and copying are refused with the name of what to use instead."""
    with pytest.raises(TypeError, match=r"multiprocessing\.Event"):
        copier(StopEvent())


def test_interrupted_pickles_whole():
    """The exceptions keep their fields through a pickle, as process pools send them."""
    error = pickle.loads(pickle.dumps(DeadlineExceeded("why", transferred=3, partial=b"abc")))
    assert (type(error), error.reason, error.transferred, error.partial) == (DeadlineExceeded, "why", 3, b"abc")


def test_stalled_pickles_whole():
    """So does a timeout that has taken something."""
    error = pickle.loads(pickle.dumps(Stalled("why", b"abc")))
    assert (type(error), str(error), error.partial) == (Stalled, "why", b"abc")


def test_interrupted_is_no_oserror():
    """Interrupted is an Exception that no code takes for a network error, and no BaseException only."""
    assert issubclass(Interrupted, Exception)
    assert not issubclass(Interrupted, OSError)
    assert issubclass(DeadlineExceeded, Interrupted)


def test_repr_says_the_state():
    """The repr of an event says whether it is set, and why."""
    stop = StopEvent()
    assert "unset" in repr(stop)
    stop.set("Ctrl-C")
    assert "set: Ctrl-C" in repr(stop)
    stop.clear()
    stop.set()
    assert repr(stop).endswith(": set>")


class TestStopAfter:
    """A stop at the n-th check."""

    def test_counts_checks(self):
        """It is unset for n - 1 checks and set from the n-th on, through children too."""
        stop = StopAfter(3)
        child = StopEvent(stop)
        assert stop.checks == 1  # the child has asked whether it is born set
        assert not child.is_set()
        assert child.is_set()
        assert child.reason == "check 3"

    @pytest.mark.parametrize(("n", "error"), [(0, ValueError), (-1, ValueError), ("3", TypeError), (True, TypeError)])
    def test_impossible_numbers(self, n, error):
        """A number that is no place in a sequence is refused."""
        with pytest.raises(error, match="n must be"):
            StopAfter(n)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (Interrupted(), "interrupted"),
        (Interrupted("late", transferred=0), "interrupted: late"),
        (DeadlineExceeded("late", transferred=12_345), "interrupted: late (12,345 transferred)"),
    ],
)
def test_what_an_interruption_says(error, said):
    """Why, and how much had been transferred, if anything had."""
    assert str(error) == said


class TestWaitUntilBlocked:
    """wait_until_blocked returns once the threads are there, and says where they are if not."""

    def test_times_out_with_the_stacks(self, background):
        """When nobody comes, the error lists the threads that are alive and where they stand."""
        leave = threading.Event()
        background(leave.wait, 20)
        with pytest.raises(TimeoutError, match=r"(?s)0 of 1 threads are blocked.*Thread .*in wait"):
            wait_until_blocked(StopEvent(), timeout=0.01)
        leave.set()

    def test_refuses_none(self):
        """Nobody can wait on None."""
        with pytest.raises(TypeError, match="nobody can be blocked on None"):
            wait_until_blocked(None)
