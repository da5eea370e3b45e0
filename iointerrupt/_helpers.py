"""Helpers: daemon threads that run what the kernel cannot be asked to leave, and that a stop may leave behind.

`getaddrinfo` is such a call, a read from a disk that hangs, and whatever a program hands to `calls.call`. A stop abandons
the helper: its caller goes on, and what the call returns later is discarded. How many of a kind there may be is bounded.

A thread that has done its job waits a moment for another one, and then ends: calls that follow each other closely find it
still there. They are daemons, so that one that is stuck does not hold up the end of the program.

Each `Helpers` guards its counts, its queue and the outcomes of its jobs with a lock of its own; `_idle_lock` guards the list
of idle threads, and is re-entrant, since a signal handler may need a helper while the main thread is inside it. Nothing is
called under either.
"""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections.abc import Callable

from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Parker
from iointerrupt._stop import StopEvent
from iointerrupt._wait import park, stops

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")


# Seconds for which a thread waits for another job, and how it is called meanwhile.
LINGER = 0.1
_IDLE = "iointerrupt-idle"


def run_in_thread(job: Callable[[], object], name: str) -> None:
    """Have `job()`, which must not raise, called at once in a daemon thread of that name.

    Raises:
        RuntimeError: there are no more threads to be had.
    """
    with _idle_lock:
        idle = _idle.pop() if _idle else None
    if idle is None:
        threading.Thread(target=_work, args=([job],), name=name, daemon=True).start()
    else:
        idle.job, idle.name = job, name
        idle.parker.unpark()


class _Idle:
    """A thread that waits for a job."""

    __slots__ = ("job", "name", "parker")

    def __init__(self) -> None:
        self.parker = Parker()
        self.job: Callable[[], object] | None = None
        self.name = _IDLE


def _work(jobs: list[Callable[[], object]]) -> None:
    thread, idle = threading.current_thread(), _Idle()
    while True:
        jobs.pop()()  # not bound to a name, which would keep it alive while the thread waits
        thread.name = _IDLE
        with _idle_lock:
            _idle.append(idle)
        if not idle.parker.park(LINGER):
            with _idle_lock:
                if idle in _idle:
                    _idle.remove(idle)
                    return
            idle.parker.park(None)  # it is being given a job at this moment
        if idle.job is not None:
            jobs.append(idle.job)
            idle.job = None
            thread.name = idle.name


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
            function: runs in a copy of the caller's context.
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
                park(job.parker, blocked, deadline, lambda: job.done)
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
                park(parker, blocked, deadline)
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
            run_in_thread(functools.partial(run, self._run), self._helpers.name)
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


def abandoned_helpers() -> int:
    """How many helper threads a stop has left behind that are still stuck in their call."""
    return sum(helpers.abandoned() for helpers in _all_helpers) + len(left_behind)


#: The calls in helpers that belong to no `Helpers`, that nobody waits for any more, and that are still at work. Whoever leaves
#: one adds it, and it takes itself out when it has ended: each is one atomic operation.
left_behind: set[object] = set()
_all_helpers: list[Helpers] = []
_idle: list[_Idle] = []
_idle_lock = threading.RLock()


def _after_fork_in_child() -> None:
    global _idle_lock  # noqa: PLW0603 - a thread that is not in the child may have held it
    for helpers in _all_helpers:
        helpers._forget()  # the threads are in the parent
    left_behind.clear()
    _idle_lock = threading.RLock()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
