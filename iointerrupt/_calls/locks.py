"""`acquire`, `holding`, `wait`, `wait_for`: locks, semaphores, conditions and events.

A semaphore and a condition have a line of waiters, in which a stoppable wait can stand (`_wait.Place`). A lock has none:
who wants to know when it is free has to be inside its `acquire`, where nothing but the lock wakes a thread. So a lock
that stays taken for more than a moment has a `_Relay`, a thread that waits in the place of all who are blocked on it
here, and hands it over. Locks of `multiprocessing` must not have one: a process that ends while such a thread is about
to get the lock takes it along for ever. They, and locks of other classes, are asked in turns.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from iointerrupt._callables import is_async
from iointerrupt._helpers import run_in_thread
from iointerrupt._signal import guard
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Parker
from iointerrupt._signal.watch import GRACE
from iointerrupt._stop import StopEvent, as_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import Place, ask, check, deadline_of, park, stops, wait_set

if TYPE_CHECKING:
    from iointerrupt._calls.shapes import Lock, Waitable

T = TypeVar("T")

# Seconds for which a thread waits inside the lock's own acquire, as most locks are free again by then.
_MOMENT = 0.0002

# Seconds between two looks at whether a shared lock is free, while its holder may be about to notify.
_TURN = 0.005

_PLAIN: Any = type(threading.Lock())
_REENTRANT: Any = type(threading.RLock())


def acquire(lock: Lock, *, stop: StopLike = None, timeout: float | None = None) -> bool:
    """Acquire a lock, waiting for it: `lock.acquire()`, which a stop ends.

    Args:
        lock: a `Lock`, `RLock`, `Semaphore`, `BoundedSemaphore` or `Condition` of `threading` or `multiprocessing`, or
            another object whose `acquire(timeout=seconds)` returns whether it is acquired, or raises TimeoutError.
        stop: what ends the wait, besides the current stop.
        timeout: seconds to wait; None for no limit.

    Returns:
        True: the caller holds the lock. It never returns False, so that nobody goes on without the lock by mistake.

    Raises:
        Interrupted: the lock is not held by the caller.
        TimeoutError: likewise.
        TypeError: it is no such lock.

    A lock of `threading` that a stop ended the wait for may be taken for a moment by a helper, within a second from then,
    if it becomes free in that time. With locks of other modules a stop is noticed within `StopEvent.poll_interval` seconds.
    """
    own = as_stop(stop)
    check(own)
    deadline = deadline_of(timeout)
    if isinstance(lock, threading.Condition):
        lock = lock._lock  # type: ignore[attr-defined]  # its acquire is this one's
    if isinstance(lock, (_PLAIN, _REENTRANT)):
        _acquire_lock(lock, own, deadline)
    elif _is_stock_semaphore(lock):
        _acquire_semaphore(lock, own, deadline)
    else:
        _acquire_by_asking(lock, own, deadline)
    return True


class holding:  # noqa: N801 - used as a function, like contextlib.suppress
    """`with lock:`, where a stop ends the wait for the lock. Arguments and errors are those of `acquire`.

    The block itself is not stopped by this, and the lock is released at its end in any case. As with any lock whose `with` is
    not written in C, a signal handler that raises at the very instant at which the lock is acquired can leave it so.
    """

    def __init__(self, lock: Lock, *, stop: StopLike = None, timeout: float | None = None) -> None:
        self._lock = lock
        self._stop = as_stop(stop)
        self._timeout = timeout

    def __enter__(self) -> None:
        acquire(self._lock, stop=self._stop, timeout=self._timeout)

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


def wait(waitable: Waitable, *, stop: StopLike = None, timeout: float | None = None) -> bool:
    """Wait for a condition to be notified or an event to be set: `waitable.wait()`, which a stop ends.

    Args:
        waitable: a `Condition` of `threading` or `multiprocessing`, which the caller has acquired; or an event, that is,
            anything with `is_set()` and `wait(timeout)`.
        stop: what ends the wait, besides the current stop.
        timeout: seconds to wait; None for no limit.

    Returns:
        True.

    Raises:
        Interrupted: the stop came first. As after any wait for a condition, the caller holds its lock again, for which it
            waits as long as it takes; a notification that came at the same moment has gone to the next in line.
        TimeoutError: likewise.
        RuntimeError: the condition is not acquired.
        TypeError: it is neither. For a `threading.Barrier`: `with calls.interrupting(barrier.abort): barrier.wait()`.

    With a condition of `multiprocessing`, a stop is noticed within `StopEvent.poll_interval` seconds. One of another class
    is waited for in turns, with its own `wait(timeout)`: a notification between two of them finds nobody, so `wait_for` is
    what such a condition needs.
    """
    own = as_stop(stop)
    check(own)
    deadline = deadline_of(timeout)
    if Place.supports(waitable):
        wait_notified(waitable, own, deadline)
    elif _is_shared_condition(waitable):
        _wait_notified_shared(waitable, own, deadline)
    elif hasattr(waitable, "notify") and not is_async(waitable.wait) and not isinstance(waitable, type):
        ask(lambda seconds: bool(waitable.wait(seconds)), own, deadline)
    elif hasattr(waitable, "is_set") and (event := as_stop(waitable)) is not None:  # type: ignore[arg-type]  # an event, as is_set shows
        reason = wait_set(event, own, deadline).reason
        if event is not waitable and isinstance(reason, BaseException):
            raise reason  # it was not set: it cannot be asked any more
    else:
        raise TypeError(
            f"{waitable!r} cannot be waited for. Accepted are conditions, and events: objects with is_set() and"
            " wait(timeout). A barrier goes into calls.interrupting(barrier.abort)"
        )
    return True


def wait_for(
    condition: Waitable, predicate: Callable[[], T], *, stop: StopLike = None, timeout: float | None = None
) -> T:
    """Wait for a condition until `predicate()` is true: `condition.wait_for(predicate)`, which a stop ends.

    Args:
        condition: as for `wait`; the caller has acquired it, and `predicate` is called with it acquired.
        predicate: says whether the wait is over.
        stop: what ends the wait, besides the current stop.
        timeout: seconds to wait in all; None for no limit.

    Returns:
        What `predicate` returned.

    Raises:
        Interrupted, TimeoutError, RuntimeError, TypeError: as `wait` does. If it is true already, what it returned is
            returned, unless the stop is set.
    """
    own = as_stop(stop)
    check(own)
    deadline = deadline_of(timeout)
    while not (result := predicate()):
        try:
            wait(condition, stop=own, timeout=None if deadline is None else max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            if result := predicate():  # it may have come true without a notification
                break
            raise
    return result


def wait_notified(condition: Any, own: StopEvent | None, deadline: float | None) -> None:
    """Wait for a condition that `Place.supports`; which stops end it, and its errors, are as in `_wait.wait_ready`."""
    if not condition._is_owned():
        raise RuntimeError("cannot wait on un-acquired lock")
    with Blocked(stops(own)) as blocked:
        place = Place(condition, blocked)
        place.take()
        state = condition._release_save()  # all levels of an RLock
        try:
            place.wait(deadline)
        finally:
            condition._acquire_restore(state)


def _is_shared_condition(candidate: Any) -> bool:
    # Made by `multiprocessing`, if that is loaded; its class is not what `multiprocessing.Condition` is.
    return all(
        type(getattr(candidate, name, None)).__module__ == "multiprocessing.synchronize"
        for name in ("_lock", "_sleeping_count", "_woken_count", "_wait_semaphore")
    )


def _wait_notified_shared(condition: Any, own: StopEvent | None, deadline: float | None) -> None:
    """The wait of a condition of `multiprocessing`, in which the thread is counted as one waiter from beginning to end.

    Its own `wait(timeout)`, called in turns, would lose a notification that meets the end of a turn.
    """
    lock = condition._lock
    if not lock._semlock._is_mine():
        raise RuntimeError("cannot wait on un-acquired lock")
    condition._sleeping_count.release()
    levels = lock._semlock._count()
    for _ in range(levels):
        lock.release()
    missed = False
    try:
        ask(lambda seconds: condition._wait_semaphore.acquire(True, seconds), own, deadline)
    except BaseException:
        # Who has the lock may be about to notify this very thread, and waits until it has said that it knows.
        while not (is_owned := lock.acquire(False)) and not missed:
            missed = condition._wait_semaphore.acquire(True, _TURN)
        levels -= is_owned
        raise
    finally:
        condition._woken_count.release()
        for _ in range(levels):
            lock.acquire()
        if missed:
            condition.notify()  # the next in line


def _is_stock_semaphore(candidate: Any) -> bool:
    return (
        isinstance(candidate, threading.Semaphore)
        and type(candidate).acquire is threading.Semaphore.acquire
        and Place.supports(getattr(candidate, "_cond", None))
        and isinstance(getattr(candidate, "_value", None), int)
    )


def _acquire_semaphore(semaphore: Any, own: StopEvent | None, deadline: float | None) -> None:
    if semaphore.acquire(blocking=False):
        return
    with Blocked(stops(own)) as blocked:
        place = Place(semaphore._cond, blocked)
        while True:
            with semaphore._cond:
                is_free = semaphore._value > 0
                if not is_free:
                    place.take()
            if not is_free:
                place.wait(deadline)
            if semaphore.acquire(blocking=False):
                return


def _acquire_by_asking(lock: Any, own: StopEvent | None, deadline: float | None) -> None:
    if isinstance(lock, type) or not callable(getattr(lock, "acquire", None)) or is_async(lock.acquire):
        raise TypeError(
            f"{lock!r} is not a lock that a thread can wait for. Accepted are locks, semaphores and conditions of threading"
            " and multiprocessing, and objects with acquire(timeout=seconds)"
        )

    def attempt(seconds: float | None) -> bool:
        try:
            return bool(lock.acquire() if seconds is None else lock.acquire(timeout=seconds))
        except TimeoutError:  # how filelock and others say no
            return False

    ask(attempt, own, deadline)


def _acquire_lock(lock: Any, own: StopEvent | None, deadline: float | None) -> None:
    if lock.acquire(blocking=False):
        return
    waiting = stops(own)
    if not waiting:
        seconds = -1 if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        if not lock.acquire(timeout=seconds):
            raise TimeoutError("timed out")
        return
    try:
        _acquire_in_turn(lock, waiting, deadline)
    except RuntimeError:  # there are no more threads to be had
        _acquire_by_asking(lock, own, deadline)


def _acquire_in_turn(lock: Any, waiting: tuple[StopEvent, ...], deadline: float | None) -> None:
    with Blocked(waiting) as blocked:
        turn = _Turn()
        blocked.add_waker(turn.parker.unpark)
        while True:
            remaining = blocked.remaining(deadline)
            if lock.acquire(timeout=_MOMENT if remaining is None else min(_MOMENT, remaining)):
                return
            blocked.raise_if_fired()
            try:
                _enter(lock, turn)
                park(turn.parker, blocked, deadline)
            except BaseException:
                if _leave(lock, turn):
                    lock.release()
                raise
            if _leave(lock, turn):
                return
            # It was free a moment ago, or the relay has gone: ask again.


class _Turn:
    """A thread's wait for its turn. The lock of `guard` guards `has_lock`."""

    __slots__ = ("has_lock", "parker")

    def __init__(self) -> None:
        self.parker = Parker()
        self.has_lock = False


class _Relay:
    """The thread that waits for a lock in the place of others, for as long as there are any, plus a short grace.

    A `Lock` belongs to nobody in particular, and is handed over as it is. An `RLock` belongs to the thread that acquires it:
    the relay lets go of it and tells the next in line, who has to be quick.

    The lock of `guard` guards who is in line, and the table of relays, which refers to each while it runs.
    """

    def __init__(self, lock: Any, starter: _Turn) -> None:
        self.line: deque[_Turn] = deque()
        self.starter: _Turn | None = starter  # who has to start it, until that is done
        self._lock = lock
        self._hands_over = isinstance(lock, _PLAIN)

    def run(self) -> None:
        """Hand over the lock until nobody is in line."""
        while True:
            acquired = self._lock.acquire(timeout=GRACE)
            turn = None
            with guard.lock:
                if acquired and self.line:
                    turn = self.line.popleft()
                    turn.has_lock = self._hands_over
                is_last = not self.line
                if is_last:
                    self.end()
            if acquired and (turn is None or not self._hands_over):
                self._lock.release()
            if turn is not None:
                turn.parker.unpark()
            if is_last:
                return

    def end(self) -> None:
        """Leave the table, and let who is still in line ask again. With the lock of `guard` held."""
        if _relays.get(id(self._lock)) is self:
            del _relays[id(self._lock)]
        for turn in self.line:
            turn.parker.unpark()
        self.line.clear()  # the thread may run all the same, where its start was interrupted by a signal handler that raised


def _enter(lock: Any, turn: _Turn) -> None:
    """Stand in line for a lock, and start its relay if nobody has."""
    with guard.lock:
        relay = _relays.get(id(lock))
        if relay is None:
            relay = _relays[id(lock)] = _Relay(lock, turn)
        relay.line.append(turn)
    if relay.starter is turn:
        run_in_thread(relay.run, "iointerrupt-watch")
        relay.starter = None


def _leave(lock: Any, turn: _Turn) -> bool:
    """Stand in line no longer; whether the lock has been handed over."""
    with guard.lock:
        if turn.has_lock:
            turn.has_lock = False
            return True
        relay = _relays.get(id(lock))
        if relay is not None:
            if turn in relay.line:
                relay.line.remove(turn)
            if relay.starter is turn:  # it has not come to it
                relay.end()
        return False


_relays: dict[int, _Relay] = {}


def _after_fork_in_child() -> None:
    _relays.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
