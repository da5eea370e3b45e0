"""`calls.acquire`, `holding`, `wait` and `wait_for`: a lock is held by who got True, or free."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
from contextlib import contextmanager

import pytest

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, as_stop, calls, use_stop
from iointerrupt._calls import locks
from iointerrupt.testing import StopAfter, wait_until_blocked

LOCKS = [
    threading.Lock,
    threading.RLock,
    threading.Semaphore,
    threading.BoundedSemaphore,
    threading.Condition,
    multiprocessing.Lock,
    multiprocessing.RLock,
    multiprocessing.Semaphore,
    multiprocessing.Condition,
]
CONDITIONS = [
    threading.Condition,
    lambda: threading.Condition(threading.Lock()),
    multiprocessing.Condition,
]


@pytest.fixture
def held(background):
    """Have somebody else hold a lock in a block."""

    @contextmanager
    def hold(lock):
        holds, over = threading.Event(), threading.Event()

        def work():
            with lock:
                holds.set()
                over.wait(20)

        holder = background(work)
        holds.wait(10)
        try:
            yield
        finally:
            over.set()
            holder.result()

    return hold


def is_free(lock):
    """Whether the lock can be had now, by whom does not matter."""
    if lock.acquire(timeout=5):  # a helper may have it for a moment
        lock.release()
        return True
    return False


@pytest.mark.parametrize("make", LOCKS)
def test_a_free_lock(make):
    """It is acquired at once, with any timeout, and released by its own release."""
    lock = make()
    assert calls.acquire(lock) is True
    lock.release()
    assert calls.acquire(lock, timeout=0) is True
    lock.release()
    with calls.holding(lock, stop=StopEvent()):
        pass
    assert is_free(lock)


@pytest.mark.parametrize("make", LOCKS)
def test_a_lock_that_is_held(make, held, background):
    """A timeout raises, a stop raises, and neither has the lock; when it is free, who waits for it has it."""
    lock, stop, other = make(), StopEvent(), StopEvent()
    with held(lock):
        with pytest.raises(TimeoutError):
            calls.acquire(lock, timeout=0.01)
        with pytest.raises(TimeoutError):
            calls.acquire(lock, timeout=0)
        stopped = background(calls.acquire, lock, stop=stop)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(stopped.error(), Interrupted)

        def hold():
            with calls.holding(lock, stop=other):
                return True

        waiting = background(hold)
        wait_until_blocked(other)
    assert waiting.result()
    assert is_free(lock)


@pytest.mark.parametrize("make", LOCKS)
def test_a_stop_before(make):
    """With the stop set, a free lock stays free."""
    lock, stop = make(), StopEvent()
    stop.set()
    with pytest.raises(Interrupted):
        calls.acquire(lock, stop=stop)
    with use_stop(stop), pytest.raises(Interrupted), calls.holding(lock):
        pytest.fail("the block ran")
    assert is_free(lock)


@pytest.mark.parametrize("make", LOCKS)
@pytest.mark.parametrize("n", range(1, 8))
def test_a_stop_at_each_check(make, n):
    """At whatever check it is stopped, the lock is held if acquire returned, else free."""
    lock = make()
    try:
        calls.acquire(lock, stop=StopAfter(n))
    except Interrupted:
        assert is_free(lock)
    else:
        lock.release()


@pytest.mark.parametrize("make", [threading.RLock, threading.Condition, multiprocessing.RLock])
def test_levels(make):
    """Who holds a re-entrant lock can acquire it again."""
    lock = make()
    with calls.holding(lock), calls.holding(lock, stop=StopEvent()):
        assert calls.acquire(lock, timeout=1)
        lock.release()
    assert is_free(lock)


@pytest.mark.parametrize("make", [threading.Lock, threading.RLock])
def test_many_wait_for_one_lock(make, background):
    """Everybody gets it in turn, through one helper."""
    lock, stop, inside = make(), StopEvent(), []
    lock.acquire()

    def work():
        with calls.holding(lock, stop=stop):
            inside.append(1)
            assert len(inside) == 1
            inside.pop()

    workers = [background(work) for _ in range(20)]
    wait_until_blocked(stop, 20)
    assert len(locks._relays) <= 1
    lock.release()
    for worker in workers:
        worker.result()
    assert is_free(lock)


def test_no_helper_is_needed_without_a_stop(background):
    """With neither a stop nor another reason it blocks in the lock itself."""
    lock, ready = threading.Lock(), threading.Event()
    lock.acquire()
    waiting = background(lambda: (ready.set(), calls.acquire(lock))[1])
    ready.wait(10)
    assert not locks._relays
    lock.release()
    assert waiting.result()


def test_no_more_threads(no_more_threads, monkeypatch, held):
    """Where there is no helper to be had, a lock is asked in turns, and nobody stands in a line that does not move."""
    monkeypatch.setattr(StopEvent, "poll_interval", 0.01)
    lock = threading.Lock()
    with held(lock), no_more_threads():
        with pytest.raises(DeadlineExceeded):
            calls.acquire(lock, stop=StopEvent(timeout=0.05))
        with pytest.raises(TimeoutError):
            calls.acquire(lock, stop=StopEvent(), timeout=0.05)
        assert not locks._relays
    assert is_free(lock)


@pytest.mark.parametrize("runs", [False, True])
def test_ctrl_c_as_the_helper_is_started(runs, monkeypatch, held, background):
    """Whether it runs or not, it takes the lock for nobody who has left, and whoever else waits has it in turn."""
    lock, stop = threading.Lock(), StopEvent()
    standard, interrupted = locks.run_in_thread, threading.Event()

    def interrupt(job, name):
        monkeypatch.undo()
        if runs:
            standard(job, name)
        joined = background(calls.acquire, lock, stop=stop)
        wait_until_blocked(stop)
        others.append(joined)
        interrupted.set()
        raise KeyboardInterrupt

    others = []
    with held(lock):
        monkeypatch.setattr(locks, "run_in_thread", interrupt)
        with pytest.raises(KeyboardInterrupt):
            calls.acquire(lock, stop=StopEvent())
        assert interrupted.is_set()
    assert others[0].result()
    lock.release()
    assert is_free(lock)


def test_a_semaphore_lets_in_as_many_as_it_has_places(background):
    """Two of three are in; the third comes when one leaves; the count is right at the end."""
    semaphore, stop = threading.Semaphore(2), StopEvent()
    calls.acquire(semaphore)
    calls.acquire(semaphore)
    third = background(calls.acquire, semaphore, stop=stop)
    wait_until_blocked(stop)
    semaphore.release()
    assert third.result()
    assert not semaphore.acquire(blocking=False)


def test_a_release_that_meets_a_stop_is_passed_on(background):
    """A place for which the stopped thread was woken goes to the next in line, though that one is in the semaphore's own acquire."""
    semaphore, stop, in_line = threading.Semaphore(0), StopEvent(), threading.Event()
    stopped = background(calls.acquire, semaphore, stop=stop)
    wait_until_blocked(stop)
    plain = background(lambda: (in_line.set(), semaphore.acquire())[1])
    in_line.wait(10)
    while len(semaphore._cond._waiters) < 2:  # the second is about to be there
        in_line.wait(0)
    with semaphore._cond:
        # The stopped thread needs this lock to leave the line, so it is still the first there when the place comes.
        stop.set()
        semaphore._value += 1
        semaphore._cond.notify()
    assert isinstance(stopped.error(), Interrupted)
    assert plain.result()


class Refusing:
    """A lock of another library, which says no by an exception."""

    def __init__(self):
        self.tries = []

    def acquire(self, timeout=None):
        self.tries.append(timeout)
        if len(self.tries) < 3:
            raise TimeoutError
        return self


def test_a_foreign_lock(monkeypatch):
    """It is asked in turns until it says yes."""
    monkeypatch.setattr(StopEvent, "poll_interval", 0.001)
    lock = Refusing()
    assert calls.acquire(lock, stop=StopEvent()) is True
    assert lock.tries == [0.001] * 3


@pytest.mark.parametrize("wrong", [None, "lock", threading.Event(), asyncio.Lock()])
def test_what_is_no_lock(wrong):
    """It is refused with what would be accepted."""
    with pytest.raises(TypeError, match=r"not a lock that a thread can wait for\. Accepted are locks, semaphores"):
        calls.acquire(wrong)


def notify(condition):
    """Notify a condition."""
    with condition:
        condition.notify()


def at_the_end_of_a_turn(monkeypatch, condition, notify, then=lambda: None):
    """End the next turn of a wait for a shared condition just as somebody notifies it, and then do more; who that was."""
    acquire, woken = condition._wait_semaphore.acquire, condition._woken_count.acquire
    expected, notifying = threading.Event(), []

    def end(block, timeout):
        monkeypatch.setattr(condition._wait_semaphore, "acquire", acquire)
        notifying.append(notify())
        assert expected.wait(10)
        then()
        return False

    def expect(block=True):  # noqa: FBT002 - the signature of an acquire
        if block:  # it has counted a waiter, and waits for it
            expected.set()
        return woken(block)

    monkeypatch.setattr(condition._wait_semaphore, "acquire", end)
    monkeypatch.setattr(condition._woken_count, "acquire", expect)
    return notifying


class TestConditions:
    """Waiting for a condition."""

    @pytest.mark.parametrize("make", CONDITIONS)
    def test_a_notification(self, make, background):
        """Who waits is woken, and holds the lock then."""
        condition, stop, items = make(), StopEvent(), []

        def work():
            with condition:
                assert calls.wait(condition, stop=stop) is True
                return items.pop()

        waiting = background(work)
        wait_until_blocked(stop)
        with condition:
            items.append("item")
            condition.notify()
        assert waiting.result() == "item"

    @pytest.mark.parametrize("make", CONDITIONS)
    def test_a_stop(self, make, background):
        """Who is stopped holds the lock again, so that its block ends as it should."""
        condition, stop, held_after = make(), StopEvent(), []

        def work():
            with condition:
                try:
                    calls.wait(condition, stop=stop)
                finally:
                    free = background(condition.acquire, False)
                    held_after.append(not free.result())

        waiting = background(work)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(waiting.error(), Interrupted)
        assert held_after == [True]
        assert is_free(condition)

    @pytest.mark.parametrize("make", CONDITIONS)
    def test_a_timeout(self, make):
        """It raises, with the lock held again."""
        condition = make()
        with condition, pytest.raises(TimeoutError):
            calls.wait(condition, timeout=0.01)
        assert is_free(condition)

    def test_all_levels_are_released(self, background):
        """A lock that is held twice is free during the wait, and held twice afterwards."""
        condition, stop = threading.Condition(), StopEvent()

        def work():
            with condition, condition:
                calls.wait(condition, stop=stop)

        waiting = background(work)
        wait_until_blocked(stop)
        with condition:
            condition.notify()
        waiting.result()
        assert is_free(condition)

    def test_a_notification_that_meets_a_stop_is_passed_on(self, background):
        """The next in line is woken by it, and nobody waits for ever."""
        condition, first_stop, second_stop = threading.Condition(), StopEvent(), StopEvent()

        def work(stop):
            with condition:
                return calls.wait(condition, stop=stop)

        first = background(work, first_stop)
        wait_until_blocked(first_stop)
        second = background(work, second_stop)
        wait_until_blocked(second_stop)
        with condition:
            first_stop.set()
            condition.notify()
        assert isinstance(first.error(), Interrupted)
        assert second.result()

    def test_a_notification_between_two_turns(self, background, monkeypatch):
        """Who waits for a shared condition, in turns, counts as waiting between them as well."""
        condition, stop = multiprocessing.Condition(), StopEvent()
        notifying = at_the_end_of_a_turn(monkeypatch, condition, lambda: background(notify, condition))
        with condition:
            assert calls.wait(condition, stop=stop) is True
        notifying[0].result()

    def test_a_notification_that_meets_the_stop_of_a_turn_is_passed_on(self, background, monkeypatch):
        """The next in line for a shared condition is woken by it."""
        condition, stop, next_stop = multiprocessing.Condition(), StopEvent(), StopEvent()
        monkeypatch.setattr(StopEvent, "poll_interval", 60.0)

        def work():
            with condition:
                return calls.wait(condition, stop=next_stop)

        following = background(work)
        wait_until_blocked(next_stop)
        notifying = at_the_end_of_a_turn(monkeypatch, condition, lambda: background(notify, condition), stop.set)
        with condition, pytest.raises(Interrupted):
            calls.wait(condition, stop=stop)
        assert following.result() is True
        notifying[0].result()
        assert is_free(condition)

    @pytest.mark.parametrize("make", CONDITIONS[:2])
    def test_without_the_lock(self, make):
        """It raises what the condition's own wait raises."""
        with pytest.raises(RuntimeError, match="un-acquired"):
            calls.wait(make())

    def test_wait_for(self, background):
        """It returns what the predicate returned, once that is true; a notification alone is not enough."""
        condition, stop, found = threading.Condition(), StopEvent(), []

        def work():
            with condition:
                return calls.wait_for(condition, lambda: found[-1:] == ["it"] and found, stop=stop)

        waiting = background(work)
        wait_until_blocked(stop)
        for item in ("other", "it"):
            with condition:
                found.append(item)
                condition.notify()
        assert waiting.result() == ["other", "it"]

    def test_wait_for_looks_once_more_at_the_end(self):
        """What has come true without a notification counts when the time is up, as with the condition's own."""
        condition, answers = threading.Condition(), iter([False, "true by now"])
        with condition:
            assert calls.wait_for(condition, lambda: next(answers), timeout=0.01) == "true by now"

    def test_wait_for_has_one_limit_for_all(self):
        """Its timeout is for the whole wait; what is true already needs none."""
        condition = threading.Condition()
        with condition:
            assert calls.wait_for(condition, lambda: "now", timeout=0) == "now"
            with pytest.raises(TimeoutError):
                calls.wait_for(condition, lambda: False, timeout=0.01)


class TestEvents:
    """Waiting for an event that is not the stop."""

    @pytest.mark.parametrize("make", [threading.Event, StopEvent, multiprocessing.Event])
    def test_an_event(self, make, background):
        """It ends the wait when it is set; set already, it does so at once."""
        event, stop = make(), StopEvent()
        waiting = background(calls.wait, event, stop=stop)
        wait_until_blocked(stop)
        event.set()
        assert waiting.result() is True
        assert calls.wait(event, timeout=0) is True

    def test_a_timeout(self):
        """An event that is not set in time raises."""
        with pytest.raises(TimeoutError):
            calls.wait(threading.Event(), timeout=0.01)

    def test_an_event_that_can_no_longer_be_asked(self, background):
        """It has not been set: its error is raised, and does not pass for what was waited for."""

        class Broken:
            def is_set(self):
                return False

            def wait(self, timeout=None):
                raise ConnectionError("its server has gone")

        with pytest.raises(ConnectionError, match="its server has gone"):
            calls.wait(Broken(), stop=StopEvent(), timeout=10)

    def test_an_event_that_was_set_once(self):
        """What it was before it was cleared does not count, though somebody else has asked it then."""
        event = threading.Event()
        followed = as_stop(event)
        event.set()
        assert followed.is_set()
        event.clear()
        with pytest.raises(TimeoutError):
            calls.wait(event, timeout=0.01)

    def test_an_event_with_a_deadline(self):
        """A StopEvent whose own time is up is set, and that is what the wait was for."""
        assert calls.wait(StopEvent(timeout=0.01), stop=StopEvent()) is True

    @pytest.mark.parametrize(
        "wrong", [None, 1, threading.Barrier(2), asyncio.Event(), asyncio.Condition(), lambda: True]
    )
    def test_what_cannot_be_waited_for(self, wrong):
        """It is refused with what would be accepted."""
        with pytest.raises(TypeError, match=r"cannot be"):
            calls.wait(wrong)
