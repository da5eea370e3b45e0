"""The one place that blocks: descriptors, and helpers that a stop leaves behind."""

from __future__ import annotations

import collections
import gc
import itertools
import os
import resource
import select
import signal
import socket
import threading
import time
import types
import weakref

import pytest

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, _wait, abandoned_helpers, use_stop
from iointerrupt._helpers import Helpers
from iointerrupt._signal import polls
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.polls import kept
from iointerrupt._wait import READ, WRITE, Place, has_hung_up, wait_ready
from iointerrupt.testing import StopAfter, signal_when_blocked, wait_until_blocked
from tests.at_lines import alarm_at_line, handling


@pytest.fixture
def pipe():
    """A pipe's two descriptors."""
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


class TestWaitReady:
    """wait_ready: the descriptor, the stop, the deadline; the stop wins."""

    def test_ready(self, pipe):
        """A descriptor that is ready ends the wait, for reading and for writing."""
        wait_ready(pipe[1], WRITE, StopEvent())
        os.write(pipe[1], b"x")
        wait_ready(pipe[0], READ, None)

    def test_one_direction(self):
        """What is ready in one direction does not end the wait for the other one, and ends the wait for either."""
        near, far = socket.socketpair()
        with near, far:
            for own in (None, StopEvent(), StopEvent(timeout=60)):
                wait_ready(near.fileno(), READ | WRITE, own, time.monotonic())
                with pytest.raises(TimeoutError):
                    wait_ready(near.fileno(), READ, own, time.monotonic())
            near.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    near.send(bytes(65536))
            far.send(b"x")
            for own in (None, StopEvent(), StopEvent(timeout=60)):
                wait_ready(near.fileno(), READ | WRITE, own, time.monotonic())
                wait_ready(near.fileno(), READ, own, time.monotonic())
                with pytest.raises(TimeoutError):
                    wait_ready(near.fileno(), WRITE, own, time.monotonic())

    def test_hang_up_is_ready(self):
        """The end of a pipe is something to read."""
        reader, writer = os.pipe()
        os.close(writer)
        wait_ready(reader, READ, StopEvent())
        os.close(reader)

    def test_stop_before(self, pipe):
        """A stop that is set wins over a descriptor that is ready."""
        os.write(pipe[1], b"x")
        stop = StopEvent()
        stop.set("before")
        with pytest.raises(Interrupted, match="before"):
            wait_ready(pipe[0], READ, stop)

    def test_stop_with_readiness(self, pipe, background):
        """A stop that comes together with readiness wins."""
        stop = StopEvent()
        waiting = background(wait_ready, pipe[0], READ, stop)
        wait_until_blocked(stop)
        stop._latch.fired = True  # set, without waking: the descriptor is what wakes it
        os.write(pipe[1], b"x")
        assert isinstance(waiting.error(), Interrupted)

    def test_own_or_current(self, pipe, background):
        """Either of the own stop and the current one ends the wait."""
        for own_is_set in (True, False):
            own, current = StopEvent(), StopEvent()

            def wait(own=own, current=current):
                with use_stop(current):
                    wait_ready(pipe[0], READ, own)

            waiting = background(wait)
            wait_until_blocked(own)
            wait_until_blocked(current)
            (own if own_is_set else current).set()
            assert isinstance(waiting.error(), Interrupted)

    def test_timeout_and_deadline(self, pipe):
        """A wait's own limit raises TimeoutError, a stop's DeadlineExceeded, and the stop wins when both have passed."""
        with pytest.raises(TimeoutError, match="timed out"):
            wait_ready(pipe[0], READ, StopEvent(timeout=60), deadline=0)
        with pytest.raises(DeadlineExceeded):
            wait_ready(pipe[0], READ, StopEvent(timeout=0.01))
        with pytest.raises(DeadlineExceeded):
            wait_ready(pipe[0], READ, StopEvent(timeout=0), deadline=0)

    def test_clear_right_after_set_is_not_missed(self, pipe, background):
        """A blocked wait ends although the event was cleared before the thread could look."""
        stop = StopEvent()
        for _ in range(50):
            waiting = background(wait_ready, pipe[0], READ, stop)
            wait_until_blocked(stop)
            stop.set()
            stop.clear()
            assert isinstance(waiting.error(), Interrupted)

    def test_closed_descriptor(self):
        """A number that is not open is an OSError, not a hang."""
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        with pytest.raises(OSError, match="Bad file descriptor"):
            wait_ready(reader, READ, None)

    def test_beyond_what_select_can(self, background):
        """Descriptors from 1024 on work, where select fails."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        reader, writer = os.pipe()
        high = os.dup2(reader, 2000)
        try:
            stop = StopEvent()
            waiting = background(wait_ready, high, READ, stop)
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(waiting.error(), Interrupted)
        finally:
            for number in (reader, writer, high):
                os.close(number)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_no_descriptor_left(self, pipe, background):
        """Where no descriptor is left to be woken by, a wait goes on all the same, and stops."""
        stop = StopEvent()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        gc.collect()  # what would be closed meanwhile
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
        try:
            waiting = background(wait_ready, pipe[0], READ, stop)
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(waiting.error(), Interrupted)
            with pytest.raises(DeadlineExceeded):
                wait_ready(pipe[0], READ, StopEvent(timeout=0.03))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    def test_infinite_limit(self, pipe):
        """A limit that is infinite is none."""
        os.write(pipe[1], b"x")
        wait_ready(pipe[0], READ, StopEvent(), float("inf"))

    def test_every_check(self, pipe):
        """Wherever the stop comes in a wait that would otherwise end, the wait raises, and else it returns."""
        os.write(pipe[1], b"x")
        counting = StopAfter(1000)
        wait_ready(pipe[0], READ, counting)
        assert counting.checks >= 2
        for n in range(1, counting.checks + 1):
            with pytest.raises(Interrupted, match=f"check {n}"):
                wait_ready(pipe[0], READ, StopAfter(n))


class TestHungUp:
    """has_hung_up: a question that does not wait."""

    def test_end_in_both_directions(self):
        """A connection has hung up once its other end is closed, not while one direction is open."""
        near, far = socket.socketpair()
        with near, far:
            assert not has_hung_up(near.fileno())
            far.send(b"x")
            far.shutdown(socket.SHUT_WR)
            assert not has_hung_up(near.fileno())
            far.close()
            assert has_hung_up(near.fileno())

    def test_another_trouble(self):
        """A pipe that nobody reads is in error, and a number that is not open is none: neither has hung up."""
        reader, writer = os.pipe()
        os.close(reader)
        assert not has_hung_up(writer)
        os.close(writer)
        assert not has_hung_up(writer)


class TestKeptPoll:
    """A thread's poll object, which is used for one wait after the other."""

    def test_many_waits(self, pipe):
        """Waits for either, with no stop, with one, with another and with the first again, see what is theirs."""
        first, second = StopEvent(), StopEvent()
        for own, current in itertools.pairwise((None, first, second, first, None, None, second, second, None)):
            with use_stop(current):
                wait_ready(pipe[1], WRITE, own)
                with pytest.raises(TimeoutError):
                    wait_ready(pipe[0], READ, own, time.monotonic())
        first.set()
        with pytest.raises(Interrupted):
            wait_ready(pipe[1], WRITE, first)
        wait_ready(pipe[1], WRITE, second)

    @pytest.mark.parametrize("which", [0, 1])
    def test_two_stops(self, pipe, background, which):
        """The operation's own stop and the current one both end a wait, and know of it meanwhile."""
        stops = StopEvent(), StopEvent()

        def work():
            with use_stop(stops[1]), pytest.raises(Interrupted) as caught:
                wait_ready(pipe[0], READ, stops[0])
            return caught.value.reason

        waiting = background(work)
        wait_until_blocked(stops[which])
        wait_until_blocked(stops[1 - which])
        stops[which].set("why")
        assert waiting.result() == "why"
        assert not any(stop._blocked for stop in stops)

    def test_what_it_is_for(self, pipe, monkeypatch):
        """It serves a wait for no stop, or for one that need not be asked and is not set; another one is made for any other."""
        others = []
        monkeypatch.setattr(_wait, "wait_any", lambda *args: others.append(args))

        def is_kept(own, current=None):
            others.clear()
            try:
                with use_stop(current):
                    wait_ready(pipe[0], READ, own, 0.0)
            except TimeoutError:
                assert not others
                return True
            assert others == [({pipe[0]: READ}, own, 0.0)]
            return False

        stop, other, was_set = StopEvent(), StopEvent(), StopEvent()
        was_set.set()
        assert is_kept(None)
        assert is_kept(stop)
        assert is_kept(None, stop)
        assert is_kept(stop, stop)
        assert is_kept(stop, other)
        assert not is_kept(stop, StopEvent(timeout=60))
        assert not is_kept(stop, was_set)
        assert not is_kept(was_set, stop)
        assert not is_kept(StopEvent(timeout=60))
        assert not is_kept(None, StopEvent(timeout=60))
        assert not is_kept(was_set)
        assert not is_kept(None, was_set)
        monkeypatch.setattr(kept.poll, "is_busy", True)
        assert not is_kept(None)
        assert not is_kept(stop)

    def test_a_handler_that_waits(self, pipe, monkeypatch):
        """Wherever a signal handler comes that waits itself, what the interrupted wait polls is what that waits for."""
        mine, other, count = StopEvent(), StopEvent(), 0

        def look(poller, fd, latch, *_):
            for number in (fd, latch.wake().fileno()):
                poller.modify(number, select.POLLIN)  # an OSError where it is not in there
            raise TimeoutError

        def waits(fd, stop):
            with pytest.raises(TimeoutError):
                wait_ready(fd, READ, stop, time.monotonic())

        monkeypatch.setattr(_wait, "poll_one", look)
        with handling(signal.SIGALRM, lambda *_: waits(pipe[1], other)):
            for at in range(60):
                waits(pipe[0], mine)  # so that its poll object is there
                with alarm_at_line(at, {_wait.__file__, polls.__file__}.__contains__) as reached:
                    waits(pipe[0], mine)
                count += len(reached)
        assert count > 20

    def test_a_herd(self, background):
        """So many threads share a descriptor; each gets the same one each time, and all of these are readable after a set."""
        stop, turn, numbers = StopEvent(), threading.Lock(), []
        all_there = threading.Barrier(80)

        def look():
            with turn:
                wake = stop._latch.wake()
            all_there.wait(20)
            assert stop._latch.wake() is wake
            numbers.append(wake.fileno())

        for thread in [background(look) for _ in range(80)]:
            thread.result()
        assert sorted(collections.Counter(numbers).values()) == [16, 32, 32]
        poller = select.poll()
        for number in numbers:
            poller.register(number, select.POLLIN)
        assert poller.poll(0) == []
        stop.set()
        assert {number for number, _ in poller.poll(0)} == set(numbers)

    def test_places_in_a_herd(self, background):
        """A thread that has ended makes room for the next one: descriptors grow with the threads that there are at a time."""
        stop = StopEvent()
        numbers = {background(lambda: stop._latch.wake().fileno()).result() for _ in range(100)}
        assert len(numbers) == 1

    def test_more_than_a_herd(self, pipe, background):
        """A stop ends the waits of more threads than share a descriptor."""
        stop = StopEvent()
        waiting = [background(wait_ready, pipe[0], READ, stop) for _ in range(100)]
        wait_until_blocked(stop, 100)
        stop.set()
        assert all(isinstance(one.error(), Interrupted) for one in waiting)

    def test_it_keeps_no_descriptor(self, pipe):
        """The descriptor of a stop that is dropped is closed, although a thread has waited for it last."""
        stop = StopEvent()
        wait_ready(pipe[1], WRITE, stop)
        wake = weakref.ref(stop._latch.wake())
        assert wake() is not None
        del stop
        gc.collect()
        assert wake() is None
        wait_ready(pipe[1], WRITE, StopEvent())

    def test_one_of_two_is_dropped(self, pipe):
        """What has the number of a current stop's descriptor after that is gone does not wake who waits for the other stop."""
        own, current = StopEvent(), StopEvent()
        with use_stop(current):
            wait_ready(pipe[1], WRITE, own)
        wake = weakref.ref(current._latch.wake())
        number = current._latch.wake().fileno()
        reader, writer = os.pipe()  # before that number is free
        del current
        gc.collect()
        assert wake() is None
        os.dup2(reader, number)
        try:
            os.write(writer, b"x")
            with pytest.raises(TimeoutError):
                wait_ready(pipe[0], READ, own, time.monotonic())
            assert kept.poll.poll_for(pipe[0], select.POLLIN, own._latch, None).poll(0) == []
        finally:
            for fd in {reader, writer, number}:
                os.close(fd)

    def test_cleared_and_set_again(self, pipe, background):
        """A stop that has been cleared since the last wait ends the next one when it is set."""
        stop, go_on = StopEvent(), threading.Event()

        def work():
            for _ in range(2):
                with pytest.raises(Interrupted):
                    wait_ready(pipe[0], READ, stop)
                go_on.wait()

        waiting = background(work)
        for _ in range(2):
            wait_until_blocked(stop)
            stop.set()
            while stop._blocked:
                os.sched_yield()
            stop.clear()
            go_on.set()
        waiting.result()

    @pytest.mark.parametrize("stops", [(None, None), (StopEvent(),) * 2, (StopEvent(), StopEvent())])
    def test_a_wait_within_a_wait(self, pipe, ctrl_c, stops):
        """A signal handler may wait while the main thread waits, for the same stop or another; both see what is theirs."""
        inner, seen = os.pipe(), []

        def handle(*_):
            os.write(inner[1], b"x")
            wait_ready(inner[0], READ, stops[0])
            seen.append(os.read(inner[0], 1))
            os.write(pipe[1], b"y")

        previous = signal.signal(signal.SIGUSR1, handle)
        try:
            with signal_when_blocked(signal.SIGUSR1):
                wait_ready(pipe[0], READ, stops[1])
        finally:
            signal.signal(signal.SIGUSR1, previous)
            for fd in inner:
                os.close(fd)
        assert seen[0] == b"x"
        wait_ready(pipe[1], WRITE, stops[0])

    def test_a_wait_that_a_signal_ends(self, pipe, ctrl_c):
        """An exception out of a signal handler leaves nothing behind for the next wait."""
        stop = StopEvent()
        with signal_when_blocked(signal.SIGINT), pytest.raises(KeyboardInterrupt):
            wait_ready(pipe[0], READ, stop)
        assert not stop._blocked
        assert not kept.poll.is_busy
        os.write(pipe[1], b"x")
        with pytest.raises(TimeoutError):
            reader, writer = os.pipe()
            try:
                wait_ready(reader, READ, stop, time.monotonic() + 0.01)
            finally:
                os.close(reader)
                os.close(writer)

    def test_a_number_that_is_used_again(self, background):
        """A descriptor with the number of one that was waited for before, and has been closed, is another one."""
        for _ in range(3):
            reader, writer = os.pipe()
            with pytest.raises(TimeoutError):
                wait_ready(reader, READ, None, time.monotonic())
            wait_ready(writer, WRITE, None)
            os.write(writer, b"x")
            wait_ready(reader, READ, None)
            os.close(reader)
            os.close(writer)
        with pytest.raises(OSError, match="Bad file descriptor"):
            wait_ready(reader, READ, None)

    def test_what_cannot_be_waited_for(self, pipe):
        """A number that is none is refused, and leaves nothing behind."""
        for _ in range(2):
            with pytest.raises(ValueError, match="negative"):
                wait_ready(-1, READ, StopEvent())
        wait_ready(pipe[1], WRITE, StopEvent())

    def test_in_a_forked_child(self, pipe):
        """A forked child has a stop and a poll object of its own."""
        stop = StopEvent()
        wait_ready(pipe[1], WRITE, stop)
        pid = os.fork()
        if not pid:
            threading.Timer(0.01, stop.set).start()
            try:
                wait_ready(pipe[0], READ, stop)
            except Interrupted:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        with pytest.raises(TimeoutError):
            wait_ready(pipe[0], READ, stop, time.monotonic())


class TestPlace:
    """Place: among those who wait for a condition, until it is notified, and no longer."""

    @pytest.fixture
    def line(self):
        """A condition, two places in its line, and the stop of the first."""
        condition, stop = threading.Condition(), StopEvent()
        with Blocked((stop,), raises=False) as blocked, Blocked(()) as other:
            places = Place(condition, blocked), Place(condition, other)
            with condition:
                for place in places:
                    place.take()
            yield condition, *places, stop

    def test_notified(self, line):
        """Who is notified has left the line."""
        condition, first, second, _ = line
        with condition:
            condition.notify()
        first.wait(None)
        assert list(condition._waiters) == [second]

    def test_woken_by_something_else(self, line):
        """So has who was woken otherwise: a later notification is for somebody who still waits."""
        condition, first, second, _ = line
        first.release()
        first.wait(None)
        assert list(condition._waiters) == [second]

    def test_time_is_up(self, line):
        """Whoever gives up leaves the line, and nobody else is notified for that."""
        condition, first, second, _ = line
        with pytest.raises(TimeoutError):
            first.wait(0.0)
        assert list(condition._waiters) == [second]

    def test_stopped(self, line):
        """So does who is stopped."""
        condition, first, second, stop = line
        stop.set()
        with pytest.raises(Interrupted):
            first.wait(None)
        assert list(condition._waiters) == [second]

    def test_stopped_and_notified(self, line):
        """A notification that comes together with a stop goes to the next in line."""
        condition, first, second, stop = line
        with condition:
            condition.notify()
        stop.set()
        with pytest.raises(Interrupted):
            first.wait(None)
        assert not condition._waiters
        second.wait(time.monotonic())

    def test_what_it_supports(self):
        """Conditions as the standard library makes them, and those of subclasses that notify as it does."""
        usual = threading.Condition()
        assert Place.supports(usual)
        assert Place.supports(type("Named", (threading.Condition,), {})())
        assert not Place.supports(type("Otherwise", (threading.Condition,), {"notify": lambda self, n=1: None})())
        assert not Place.supports(types.SimpleNamespace(_waiters=collections.deque(), notify=usual.notify))
        for waiters in ([], type("Deque", (collections.deque,), {})(), None):
            usual._waiters = waiters
            assert not Place.supports(usual)
        del usual._waiters
        assert not Place.supports(usual)


@pytest.mark.parametrize(
    ("first", "second", "sooner"),
    [(None, None, None), (1.0, None, 1.0), (None, 2.0, 2.0), (1.0, 2.0, 1.0), (2.0, 1.0, 1.0), (0.0, None, 0.0)],
)
def test_the_sooner_of_two(first, second, sooner):
    """No limit is later than any."""
    assert _wait.sooner(first, second) == sooner


class TestHelpers:
    """A function in a thread that a stop leaves behind."""

    def test_result_and_error(self):
        """What the function returns or raises arrives in the caller."""
        helpers = Helpers("test-helper", 2)
        assert helpers.run(lambda: 5, None) == 5
        with pytest.raises(LookupError, match="nothing here"):
            helpers.run(lambda: _raise(LookupError("nothing here")), StopEvent())

    def test_abandoned_and_discarded(self, background):
        """A stop leaves the helper behind, which is counted until it ends and whose result goes to discard."""
        helpers, leave, stop, discarded = Helpers("test-helper", 1), threading.Event(), StopEvent(), []
        gone = threading.Event()

        def discard(value):
            discarded.append(value)
            gone.set()

        running = background(lambda: helpers.run(lambda: leave.wait(10) and "late", stop, discard=discard))
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(running.error(), Interrupted)
        assert abandoned_helpers() == 1
        leave.set()
        assert gone.wait(10)
        assert discarded == ["late"]
        assert abandoned_helpers() == 0

    def test_timeout(self):
        """A deadline leaves the helper behind too."""
        helpers, leave = Helpers("test-helper", 1), threading.Event()
        with pytest.raises(TimeoutError):
            helpers.run(leave.wait, None, deadline=0)
        leave.set()

    def test_bounded_in_number(self, background):
        """A call beyond the limit waits for a place, can be stopped meanwhile, and gets it once one is free."""
        helpers, leave, stop = Helpers("test-helper", 1), threading.Event(), StopEvent()
        first = background(helpers.run, leave.wait, stop)
        wait_until_blocked(stop)
        impatient, patient = StopEvent(), StopEvent()
        second = background(helpers.run, lambda: "second", impatient)
        wait_until_blocked(impatient)
        third = background(helpers.run, lambda: "third", patient)
        wait_until_blocked(patient)
        impatient.set()
        assert isinstance(second.error(), Interrupted)
        leave.set()
        assert first.result() is True
        assert third.result() == "third"

    def test_places_are_not_lost(self, background):
        """After many calls that were stopped at random places every place is free again."""
        helpers = Helpers("test-helper", 2)
        for n in range(1, 12):
            running = [background(helpers.run, lambda: None, StopAfter(n)) for _ in range(6)]
            for one in running:
                one.thread.join()
        assert [helpers.run(lambda: 1, None) for _ in range(5)] == [1] * 5


def _raise(error):
    raise error
