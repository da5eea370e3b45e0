"""Instants that no test meets by waiting for them: a clock that stands at the deadline, a wait that wakes too early, a set
within a clear, a thread that looks while another one is on its way to it. Here they are made, so that what is decided is seen.
"""

from __future__ import annotations

import errno
import math
import os
import select
import threading
import time

import pytest

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, _wait, as_stop
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Cause, Latch, Parker
from iointerrupt._signal.wake import Wake
from iointerrupt._wait import (
    READ,
    ask,
    deadline_of,
    milliseconds,
    park,
    poll_one,
    sleep_until,
    wait_any,
    wait_ready,
    wait_set,
)
from iointerrupt.testing import StopAfter

NOW = 100.0


def set_clock(patch, says):
    """Have `time.monotonic` say something else in this thread; others, of the library or of pytest, go on with the real one."""
    me, real = threading.get_ident(), time.monotonic
    patch.setattr(time, "monotonic", lambda: says() if threading.get_ident() == me else real())


@pytest.fixture
def _standing_clock(monkeypatch):
    """`time.monotonic` says the same for ever."""
    with monkeypatch.context() as patch:
        set_clock(patch, lambda: NOW)
        yield


@pytest.fixture
def _short_steps(monkeypatch):
    """A lock and a poll can wait for no longer than a millisecond, so that every wait takes many of them."""
    with monkeypatch.context() as patch:
        patch.setattr(threading, "TIMEOUT_MAX", 0.001)
        patch.setattr(_wait, "MAX_MILLISECONDS", 1)
        yield


@pytest.fixture
def silent():
    """A descriptor that is never ready to be read."""
    reader, writer = os.pipe()
    yield reader
    os.close(reader)
    os.close(writer)


def never(seconds):
    """An attempt that does not succeed."""
    return False


@pytest.mark.usefixtures("_standing_clock")
class TestTimeIsUp:
    """At the very instant of the deadline, time is up."""

    def test_of_a_wait_for_an_event(self):
        """A wait of zero seconds returns although the clock does not move."""
        assert StopEvent().wait(0) is False

    def test_of_an_event(self):
        """An event with a timeout of zero seconds is set although the clock does not move, one with more is not."""
        assert StopEvent(timeout=0).is_set()
        assert not StopEvent(timeout=0.001).is_set()

    def test_of_a_call(self):
        """A call's deadline is its timeout from now; one that is infinite is none, whatever object says so."""
        assert deadline_of(2.5) == NOW + 2.5
        assert deadline_of(0) == NOW
        for unlimited in (None, math.inf, float("inf")):
            assert deadline_of(unlimited) is None

    @pytest.mark.parametrize("own", [None, StopEvent()])
    def test_of_a_wait(self, own, silent):
        """Every wait for something gives up at its deadline."""
        for wait in (
            lambda: wait_ready(silent, READ, own, NOW),
            lambda: wait_any({silent: READ}, own, NOW),
            lambda: wait_set(StopEvent(), own, NOW),
            lambda: ask(never, own, NOW),
        ):
            with pytest.raises(TimeoutError, match="timed out"):
                wait()
        sleep_until(NOW, own)


@pytest.mark.usefixtures("_short_steps")
class TestWokenEarly:
    """A wait that is woken before its time looks around, and goes on."""

    def test_wait_for_an_event(self):
        """It ends when the event is set, many steps later, with a limit and without one."""
        assert StopAfter(20).wait(600) is True
        assert StopEvent(StopAfter(20), timeout=600).wait() is True

    @pytest.mark.parametrize("limit", [None, 600])
    def test_wait_for_something(self, silent, limit):
        """It ends when the stop is set, many steps later, with a limit and without one."""
        deadline = None if limit is None else time.monotonic() + limit
        for wait in (
            lambda stop: wait_ready(silent, READ, stop, deadline),
            lambda stop: wait_any({silent: READ}, stop, deadline),
            lambda stop: wait_set(StopEvent(), stop, deadline),
            lambda stop: sleep_until(time.monotonic() + 600, stop),
            lambda stop: ask(never, stop, deadline),
        ):
            stop = StopEvent(StopAfter(20), timeout=600)
            with pytest.raises(Interrupted, match="check 20"):
                wait(stop)

    def test_wait_for_an_event_with_a_deadline(self):
        """So does the wait for an event that only its own deadline sets."""
        assert wait_set(StopEvent(timeout=0.01), None, time.monotonic() + 600).error is DeadlineExceeded


class Poll:
    """A stand-in for a poll object: gives the answers that it is told, and keeps for how long it has been asked to wait."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def register(self, fd, events):
        pass

    def poll(self, milliseconds):
        self.asked.append(milliseconds)
        return self.answers.pop(0)


class TestPolling:
    """What the kernel is asked, for how long, and what becomes of its answer."""

    def test_again_and_again(self, monkeypatch):
        """A poll that says nothing of the descriptor is made again, for what is left of the time, rounded up."""
        poll = Poll([], [(1007, select.POLLIN), (3, select.POLLIN)], [(1005, select.POLLIN)])
        times = iter([100.0, 100.5, 100.75, 101.0, 101.9985])
        with monkeypatch.context() as patch:
            set_clock(patch, lambda: next(times))
            poll_one(poll, int("1005"), None, None, 102.0)
        assert poll.asked == [2000, 1250, 2]

    @pytest.mark.parametrize("event", [select.POLLIN, select.POLLERR, select.POLLHUP, 0x2000 | select.POLLIN])
    def test_ready(self, monkeypatch, event):
        """Whatever the kernel says of a descriptor but that it is not open, it is ready."""
        poll = Poll([(5, event)])
        poll_one(poll, 5, None, None, None)
        assert poll.asked == [None]
        monkeypatch.setattr(_wait, "_new_poll", lambda: Poll([(3, event), (5, event)]))
        assert wait_any({5: READ}, None) == [5]

    def test_not_open(self, monkeypatch):
        """If it is not open, that is what is raised."""
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            poll_one(Poll([(5, select.POLLNVAL | select.POLLIN)]), 5, None, None, None)
        assert caught.value.errno == errno.EBADF
        monkeypatch.setattr(_wait, "_new_poll", lambda: Poll([(5, select.POLLNVAL | select.POLLIN)]))
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            wait_any({5: READ}, None)
        assert caught.value.errno == errno.EBADF

    @pytest.mark.usefixtures("_standing_clock")
    def test_longest(self):
        """A time that is too long for one poll is waited for in several, each as long as can be; one that has passed is none."""
        poll = Poll([], [(5, select.POLLIN)])
        poll_one(poll, 5, None, None, 1e12)
        assert poll.asked == [2**31 - 1] * 2
        assert milliseconds(-1) == 0
        assert milliseconds(None) is None

    def test_without_a_limit(self, monkeypatch):
        """Where nothing sets a limit, poll is given none; an infinite one is none."""
        asked = []

        def poll(interest, wakes, timeout):
            asked.append(timeout)
            return list(interest)

        monkeypatch.setattr(_wait, "poll", poll)
        wait_any({5: READ}, StopEvent())
        wait_any({5: READ}, None, math.inf)
        wait_any({5: READ}, None, float("inf"))
        assert asked == [None] * 3

    def test_another_error(self, monkeypatch, silent):
        """If the descriptor for the stop cannot be had for another reason than that there are too many, that is raised."""

        def no_descriptor(latch):
            raise OSError(errno.ENOMEM, "no memory")

        monkeypatch.setattr(Latch, "wake", no_descriptor)
        with pytest.raises(OSError, match="no memory"):
            wait_ready(silent, READ, StopEvent(), 0.0)

    @pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
    def test_without_a_descriptor_for_the_stop(self, monkeypatch, silent, number):
        """Where no descriptor is left to be woken by, a wait looks at its stop fifty times a second, and sooner at its deadline."""

        def no_descriptor(latch):
            raise OSError(number, "too many")

        def poll(interest, wakes, timeout):
            assert not wakes
            asked.append(timeout)
            return ready

        asked, ready = [], []
        with monkeypatch.context() as patch:
            patch.setattr(Latch, "wake", no_descriptor)
            patch.setattr(_wait, "poll", poll)
            with pytest.raises(Interrupted):
                wait_any({5: READ}, StopAfter(4))
            assert asked == [0.02] * 3
            asked.clear()
            set_clock(patch, lambda: NOW)
            with pytest.raises(Interrupted):
                wait_any({5: READ}, StopAfter(3), NOW + 0.0625)
            with pytest.raises(Interrupted):
                wait_any({5: READ}, StopAfter(3), NOW + 0.0078125)
            assert asked == [0.02, 0.02, 0.0078125, 0.0078125]
            ready.append(silent)
            wait_ready(silent, READ, StopEvent())


class TestMeeting:
    """Two threads that come to one event at once."""

    def test_a_set_within_a_clear(self, monkeypatch):
        """An event that is set while another thread clears it leaves the descriptor as readable as it is set."""
        stop = StopEvent()
        number = stop.fileno()
        stop.set()
        self.within(monkeypatch, "clear", stop.set)
        stop.clear()
        assert stop.is_set()
        assert self.is_readable(number)

    def test_a_clear_within_a_set(self, monkeypatch):
        """One that is cleared while another thread sets it is not readable."""
        stop = StopEvent()
        number = stop.fileno()
        self.within(monkeypatch, "set", stop.clear)
        stop.set()
        assert not stop.is_set()
        assert not self.is_readable(number)

    def test_a_question_within_a_set(self):
        """Who asks a child while another thread, which sets its parent, is on the way to it, hears the reason."""
        source = threading.Event()
        child = StopEvent(source)
        source.set()
        as_stop(source)._latch.fire(Cause("on the way"))  # what a set does before it comes to the children
        assert child.is_set()
        assert child.reason == "on the way"

    def test_completed_within_a_stop(self):
        """What is completed when the stop and the deadline come has been completed."""
        stop, parker = StopEvent(), Parker()
        with Blocked((stop,)) as blocked:
            stop.set()
            parker.unpark()
            park(parker, blocked, 0.0, lambda: True)

    def within(self, monkeypatch, name, other):
        """Has `other` called once, just before a descriptor is set or cleared."""
        original, todo = getattr(Wake, name), [other]

        def method(wake):
            if todo:
                todo.pop()()
            original(wake)

        monkeypatch.setattr(Wake, name, method)

    def is_readable(self, number):
        return bool(select.select([number], [], [], 0)[0])
