"""The one place that blocks: until a descriptor is ready, a helper thread is done, the stop comes, or time is up.

Every other module tries its system call first and comes here only when that would block. What is here decides the
order of things for the whole library: a stop that is set wins over readiness and over a timeout.

`poll` is used where there is poll, since `select` fails on descriptors from 1024 on; not epoll, whose set would have to
be made and closed for each wait.

Helpers are daemon threads that run what the kernel cannot be asked to leave (`getaddrinfo`, a read from a disk that
hangs). A stop abandons a helper: its caller goes on, and what it returns later is discarded. How many of a kind there
may be is bounded. Each `Helpers` guards its counts, its queue and the outcomes of its jobs with a lock of its own, under
which nothing is called.
"""

from __future__ import annotations

import contextvars
import errno
import functools
import math
import os
import select
import threading
import time
from collections.abc import Callable

from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Parker
from iointerrupt._stop import StopEvent, _current

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")

READ = 1
WRITE = 4

_PAUSE_WITHOUT_WAKE = 0.02
_MAX_MILLISECONDS = 2**31 - 1


def check(own: StopEvent | None) -> None:
    """Raise `Interrupted` if an operation with the stop `own` must not go on: that stop or the current one is set."""
    if own is not None and own.is_set():
        own.interrupt()
    current = _current.get()
    if current is not None and current is not own and current.is_set():
        current.interrupt()


def stops(own: StopEvent | None) -> tuple[StopEvent, ...]:
    """The stops of an operation: its own and the current one."""
    current = _current.get()
    if own is None:
        return () if current is None else (current,)
    return (own,) if current is None or current is own else (own, current)


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
    with Blocked(stops(own)) as blocked:
        try:
            wakes = (
                blocked.wakes()
            )  # referred to until the wait is over, so that none of the numbers is reused meanwhile
            pause = math.inf
        except OSError as error:
            if error.errno not in {errno.EMFILE, errno.ENFILE}:
                raise
            # No descriptor is left to be woken by. What waits may be in the middle of something, so it is not the one to
            # fail: it looks at the stop again and again.
            wakes, pause = [], _PAUSE_WITHOUT_WAKE
        while True:
            remaining = blocked.remaining(deadline)
            pause_now = pause if remaining is None else min(pause, remaining)
            ready = _poll(fd, events, [wake.fileno() for wake in wakes], None if pause_now == math.inf else pause_now)
            blocked.raise_if_fired()
            if ready:
                return
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError("timed out")


if hasattr(select, "poll"):
    _EVENTS = {READ: select.POLLIN, WRITE: select.POLLOUT, READ | WRITE: select.POLLIN | select.POLLOUT}

    def _poll(fd: int, events: int, wakes: list[int], timeout: float | None) -> bool:
        poller = select.poll()
        poller.register(fd, _EVENTS[events])
        for wake in wakes:
            poller.register(wake, select.POLLIN)
        # Rounded up: rounded down it would spin through the last millisecond.
        ready = poller.poll(None if timeout is None else min(math.ceil(timeout * 1000), _MAX_MILLISECONDS))
        for number, event in ready:
            if number == fd:
                if event & select.POLLNVAL:
                    raise OSError(errno.EBADF, os.strerror(errno.EBADF))
                return True
        return False

else:  # pragma: no cover - Windows

    def _poll(fd: int, events: int, wakes: list[int], timeout: float | None) -> bool:
        # A failed connect is reported as an exceptional condition there.
        readable, writable, failed = select.select(
            [fd, *wakes] if events & READ else wakes, [fd] if events & WRITE else [], [fd], timeout
        )
        return fd in readable or fd in writable or fd in failed


class Helpers:
    """Daemon threads of one kind that a stop may leave behind.

    Args:
        name: what the threads are called.
        limit: how many there may be at a time, abandoned ones included; a further call waits for a place.
    """

    def __init__(self, name: str, limit: int) -> None:
        self.name = name
        self._limit = limit
        self._forget()
        _all_helpers.append(self)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._busy = 0
        self._queue: dict[Parker, None] = {}  # calls that wait for a place, oldest first
        self._abandoned = 0

    def run(
        self,
        function: Callable[[], T],
        own: StopEvent | None,
        deadline: float | None = None,
        *,
        discard: Callable[[T], object] | None = None,
    ) -> T:
        """Return what `function()` returns, or raise what it raises, from a helper thread.

        Args:
            function: runs in a copy of the caller's context, without its current stop.
            own: the operation's own stop; the current stop counts as well.
            deadline: when to give up, on `time.monotonic`.
            discard: called with the result if nobody takes it any more, for example to close it.

        Raises:
            Interrupted, TimeoutError: as in `wait_ready`; the helper is abandoned.
        """
        with Blocked(stops(own)) as blocked:
            self._take_place(blocked, deadline)
            job = _Job(self, function, discard)
            job.start()
            blocked.add_waker(job.parker.unpark)
            try:
                # A result that is there is returned, even if the stop has come with it: the operation has completed.
                _park(job.parker, blocked, deadline, lambda: job.done)
            except BaseException:
                job.abandon()
                raise
            result: T = job.result()
            return result

    def abandoned(self) -> int:
        """How many helpers of this kind are running that nobody waits for any more."""
        with self._lock:
            return self._abandoned

    def _take_place(self, blocked: Blocked, deadline: float | None) -> None:
        while True:
            parker = Parker()
            with self._lock:
                if self._busy < self._limit:
                    self._busy += 1
                    return
                self._queue[parker] = None
            blocked.add_waker(parker.unpark)
            try:
                _park(parker, blocked, deadline)
            except BaseException:
                with self._lock:
                    was_queued = self._queue.pop(parker, parker) is None
                if not was_queued:
                    self._call_next()  # it was called at the same moment, and passes that on
                raise

    def _leave_place(self) -> None:
        with self._lock:
            self._busy -= 1
        self._call_next()

    def _call_next(self) -> None:
        with self._lock:
            parker = next(iter(self._queue), None)
            if parker is not None:
                del self._queue[parker]
        if parker is not None:
            parker.unpark()


class _Job:
    """One call in a helper. The lock of its `Helpers` guards who gets the outcome; nothing is called under it."""

    def __init__(self, helpers: Helpers, function: Callable[[], Any], discard: Callable[[Any], object] | None) -> None:
        self._helpers = helpers
        self._function = function
        self._discard = discard
        self._abandoned = False
        self._outcome: Callable[[], Any] | None = None
        self.parker = Parker()

    @property
    def done(self) -> bool:
        return self._outcome is not None

    def start(self) -> None:
        run = contextvars.copy_context().run
        try:
            threading.Thread(target=run, args=(self._run,), name=self._helpers.name, daemon=True).start()
        except BaseException:
            self._helpers._leave_place()
            raise

    def result(self) -> Any:
        """What the function returned or raised; only once `done`."""
        outcome = self._outcome
        if outcome is None:
            raise RuntimeError("the helper has not finished")
        return outcome()

    def abandon(self) -> None:
        with self._helpers._lock:
            self._abandoned = True
            if not self.done:
                self._helpers._abandoned += 1
                return
        self._throw_away()

    def _run(self) -> None:
        outcome: Callable[[], Any]
        try:
            value = self._function()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            outcome = functools.partial(_raise, error)
        else:
            outcome = lambda: value  # noqa: E731
        with self._helpers._lock:
            self._outcome = outcome
            abandoned = self._abandoned
            self._helpers._abandoned -= abandoned
        self._helpers._leave_place()
        self.parker.unpark()
        if abandoned:
            self._throw_away()

    def _throw_away(self) -> None:
        if self._discard is not None:
            try:
                value = self.result()
            except BaseException:  # noqa: BLE001 - nobody is left who would want to know
                return
            self._discard(value)


def _raise(error: BaseException) -> NoReturn:
    raise error


def _park(
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


def abandoned_helpers() -> int:
    """How many helper threads a stop has left behind that are still stuck in their call."""
    return sum(helpers.abandoned() for helpers in _all_helpers)


_all_helpers: list[Helpers] = []


def _after_fork_in_child() -> None:
    for helpers in _all_helpers:
        helpers._forget()  # the threads are in the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
