"""The one place that blocks: until a descriptor is ready, an event is set, a condition is notified, the stop comes, or
time is up.

Every other module tries its system call first and comes here only when that would block. What is here decides the
order of things for the whole library: a stop that is set wins over readiness and over a timeout.

`poll` is used where there is poll, since `select` fails on descriptors from 1024 on; not epoll, whose set would have to
be made and closed for each wait.

What the kernel cannot be asked to leave runs in a helper thread, which a stop leaves behind: see `_helpers`.
"""

from __future__ import annotations

import errno
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable

from iointerrupt._errors import Interrupted
from iointerrupt._signal.blocked import Blocked, mark_of_thread, tell_observers
from iointerrupt._signal.latch import Cause, Latch, Parker
from iointerrupt._signal.polls import kept
from iointerrupt._signal.watch import usable_period
from iointerrupt._stop import StopEvent, _current, check_timeout

READ = 1
WRITE = 4

#: Seconds after which a thread looks at its stop again, where no descriptor is left to be woken by.
PAUSE_WITHOUT_WAKE = 0.02
#: What fits a system call's timeout.
MAX_MILLISECONDS = 2**31 - 1


def check(own: StopEvent | None) -> None:
    """Raise `Interrupted` if an operation with the stop `own` must not go on: that stop or the current one is set."""
    if own is not None and own.is_set():
        own.interrupt()
    current = _current.get()
    if current is not None and current is not own and current.is_set():
        current.interrupt()


def check_moved(own: StopEvent | None, done: int) -> None:
    """`check`, of an operation that has moved so many bytes by now: the `Interrupted` says so."""
    try:
        check(own)
    except Interrupted as error:
        error.transferred = done
        raise


def stops(own: StopEvent | None) -> tuple[StopEvent, ...]:
    """The stops of an operation: its own and the current one."""
    current = _current.get()
    if own is None:
        return () if current is None else (current,)
    return (own,) if current is None or current is own else (own, current)


def deadline_of(timeout: float | None) -> float | None:
    """When, on `time.monotonic`, a `timeout=` given now is over; None for no limit, or an error that says what is wrong."""
    if timeout is None or (seconds := check_timeout(timeout)) == math.inf:
        return None
    return time.monotonic() + seconds


def wait_ready(fd: int, events: int, own: StopEvent | None, deadline: float | None = None) -> None:
    """Block until `fd` is ready for `events` (`READ`, `WRITE` or both), in error, or hung up.

    Args:
        fd: a descriptor that the caller keeps open.
        own: the operation's own stop; the current stop counts as well.
        deadline: when to give up, on `time.monotonic`.

    Raises:
        Interrupted: a stop is set; also where the descriptor is ready or time is up as well.
        TimeoutError: the deadline has passed.
        OSError: EBADF, the descriptor is not open.
    """
    current = _current.get()
    first, second = (current, None) if own is None or own is current else (own, current)
    polls = kept.poll
    if (
        (first is not None and (first._must_ask or first._latch.fired))
        or (second is not None and (second._must_ask or second._latch.fired))
        or polls.is_busy
    ):
        wait_any({fd: events}, own, deadline)
        return
    latch = None if first is None else first._latch
    other = None if second is None else second._latch
    polls.is_busy = True  # before it is looked into: a signal handler that waits itself must leave it as it is
    try:
        try:
            poller = polls.poll_for(fd, _EVENTS[events], latch, other)
        except OSError:
            wait_any({fd: events}, own, deadline)  # which knows what to do without a descriptor
            return
        if first is not None:
            mark = mark_of_thread()
            first._blocked[polls] = mark
            if second is not None:
                second._blocked[polls] = mark
        tell_observers()
        poll_one(poller, fd, latch, other, deadline)
    finally:
        polls.is_busy = False
        if first is not None:
            first._blocked.pop(polls, None)
            if second is not None:
                second._blocked.pop(polls, None)


def poll_one(poller: select.poll, fd: int, latch: Latch | None, other: Latch | None, deadline: float | None) -> None:
    """`wait_ready` for a descriptor that is registered, and stops that need not be asked."""
    while True:
        ready = poller.poll(None if deadline is None else milliseconds(deadline - time.monotonic()))
        if latch is not None and latch.fired:
            raise (latch.cause or Cause()).interruption()
        if other is not None and other.fired:
            raise (other.cause or Cause()).interruption()
        for ready_fd, event in ready:
            if ready_fd == fd:
                if event & select.POLLNVAL:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                return
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError("timed out")


def wait_any(interest: dict[int, int], own: StopEvent | None, deadline: float | None = None) -> list[int]:
    """`wait_ready` for the first of several descriptors, by what each is wanted for; returns those that are ready."""
    with Blocked(stops(own)) as blocked:
        try:
            # Referred to until the wait is over, so that none of the numbers is reused meanwhile.
            wakes = blocked.wakes()
            pause = math.inf
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            # No descriptor is left to be woken by. What waits may be in the middle of something, so it is not the one to
            # fail: it looks at the stop again and again.
            wakes, pause = [], PAUSE_WITHOUT_WAKE
        while True:
            remaining = blocked.remaining(deadline)
            pause_now = pause if remaining is None else min(pause, remaining)
            ready = poll(interest, [wake.fileno() for wake in wakes], None if pause_now == math.inf else pause_now)
            blocked.raise_if_fired()
            if ready:
                return ready
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("timed out")


# What is taken of `select` here stays the standard one, also where a program has put those of `monkey` in their place.
if hasattr(select, "poll"):
    _new_poll = select.poll
    _EVENTS = {READ: select.POLLIN, WRITE: select.POLLOUT, READ | WRITE: select.POLLIN | select.POLLOUT}

    def has_hung_up(fd: int) -> bool:
        """Whether a connection is at its end in both directions, or a listener has been shut down."""
        poller = _new_poll()
        poller.register(fd, 0)
        return any(event & select.POLLHUP for _, event in poller.poll(0))

    def poll(interest: dict[int, int], wakes: list[int], timeout: float | None) -> list[int]:
        """Which of the descriptors in `interest` are ready, after at most `timeout` seconds or once a wake is."""
        poller = _new_poll()
        for fd, events in interest.items():
            poller.register(fd, _EVENTS[events])
        for wake in wakes:
            poller.register(wake, select.POLLIN)
        ready = poller.poll(milliseconds(timeout))
        found = []
        for fd, event in ready:
            if fd in interest:
                if event & select.POLLNVAL:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                found.append(fd)
        return found

else:
    from iointerrupt._signal import by_select

    def has_hung_up(fd: int) -> bool:  # noqa: ARG001 - as above
        """There select does not tell."""
        return False

    def poll(interest: dict[int, int], wakes: list[int], timeout: float | None) -> list[int]:
        """As above, by `select`."""
        readers = [fd for fd, events in interest.items() if events & READ]
        writers = [fd for fd, events in interest.items() if events & WRITE]
        ready = by_select.poll([*readers, *wakes], writers, timeout)
        return [fd for fd in interest if fd in ready]


def wait_set(event: StopEvent, own: StopEvent | None, deadline: float | None = None) -> Cause:
    """Block until `event` is set, and return why. Which stops end the wait, and all else, is as in `wait_ready`."""
    with Blocked(stops(own)) as blocked, Blocked((event,), raises=False) as awaited:
        parker = Parker()
        blocked.add_waker(parker.unpark)
        awaited.add_waker(parker.unpark)
        while True:
            parker.park(sooner(blocked.remaining(deadline), awaited.remaining(None)))
            blocked.raise_if_fired()
            if (cause := awaited.cause()) is not None:
                return cause
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("timed out")


def sleep_until(deadline: float, own: StopEvent | None) -> None:
    """Block until a time on `time.monotonic`; `Interrupted` as in `wait_ready`."""
    with Blocked(stops(own)) as blocked:
        parker = Parker()
        blocked.add_waker(parker.unpark)
        try:
            park(parker, blocked, deadline)
        except TimeoutError:
            pass


def milliseconds(seconds: float | None) -> int | None:
    """A timeout as poll(2) takes it, rounded up: rounded down it would spin through the last millisecond."""
    if seconds is None:
        return None
    return math.ceil(min(max(seconds * 1000, 0), MAX_MILLISECONDS))


class Place:
    """A place among those that wait for a `threading.Condition`, for a wait that a stop ends too.

    A condition keeps its waiters, which are locks, in a deque, and releases the first of them to notify it. Anything with
    a `release` can stand there; this one wakes its thread, as a stop does. The deque is not public, though the same in
    every CPython from 3.2 to 3.14: `supports` looks before it is used.

    The condition's lock guards the deque.

    Args:
        condition: what is waited for; see `supports`.
        blocked: the wait in which this is.
    """

    __slots__ = ("_blocked", "_condition", "_parker", "_waiters")

    def __init__(self, condition: threading.Condition, blocked: Blocked) -> None:
        self._condition = condition
        self._waiters: deque[object] = condition._waiters  # type: ignore[attr-defined]  # see above
        self._blocked = blocked
        self._parker = Parker()
        blocked.add_waker(self._parker.unpark)

    @staticmethod
    def supports(condition: object) -> bool:
        """Whether `condition` keeps its waiters where they are expected."""
        return (
            isinstance(condition, threading.Condition)
            and type(condition).notify is threading.Condition.notify
            and type(getattr(condition, "_waiters", None)) is deque
        )

    def take(self) -> None:
        """Stand in line for the next `notify`. With the condition's lock held, since what is waited for was not so."""
        self._waiters.append(self)

    def wait(self, deadline: float | None) -> None:
        """Block until notified, or, as others may wake it too, until it is worth asking again. Without the lock.

        A notification that comes together with a stop or a timeout is passed on to the next in line.

        Raises:
            Interrupted, TimeoutError: as in `wait_ready`.
        """
        try:
            park(self._parker, self._blocked, deadline)
        except BaseException:
            with self._condition:
                if not self._left():
                    self._condition.notify()
            raise
        if self in self._waiters:  # woken by something else
            with self._condition:
                self._left()

    def release(self) -> None:
        """What `notify` calls."""
        self._parker.unpark()

    def _left(self) -> bool:
        try:
            self._waiters.remove(self)
        except ValueError:  # it has been notified
            return False
        return True


def ask(attempt: Callable[[float | None], bool], own: StopEvent | None, deadline: float | None = None) -> None:
    """Block until `attempt(seconds)` has succeeded, where there is nothing to be woken by.

    It is what a semaphore shared by processes leaves to do: to try for a while, look at the stop, and try again.

    Args:
        attempt: tries for at most so many seconds (None: without a limit), and returns whether it has succeeded. What it has
            done then is done: it is not undone by a stop that comes at the same moment.
        own, deadline: as in `wait_ready`.
    """
    with Blocked(waiting := stops(own)) as blocked:
        while True:
            remaining = blocked.remaining(deadline)
            if attempt(sooner(remaining, usable_period(StopEvent.poll_interval)) if waiting else remaining):
                return
            blocked.raise_if_fired()
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("timed out")


def sooner(first: float | None, second: float | None) -> float | None:
    """The shorter of two times, of which None is no limit."""
    return second if first is None else first if second is None else min(first, second)


def park(
    parker: Parker, blocked: Blocked, deadline: float | None, completed: Callable[[], bool] = lambda: False
) -> None:
    """`wait_ready` for what is announced by `parker.unpark` instead of by a descriptor."""
    while True:
        woken = parker.park(blocked.remaining(deadline))
        if completed():
            return
        blocked.raise_if_fired()
        if woken:
            return
        if deadline is not None and time.monotonic() >= deadline:
            raise TimeoutError("timed out")
