"""Helpers: daemon threads that run what the kernel cannot be asked to leave, and that a stop may leave behind.

`getaddrinfo` is such a call, a read from a disk that hangs, and whatever a program hands to `calls.call`. A stop abandons
the helper: its caller goes on, and what the call returns later is discarded. How many of a kind there may be is bounded.

Each `Helpers` guards its counts, its queue and the outcomes of its jobs with a lock of its own, under which nothing is
called.
"""

from __future__ import annotations

import contextvars
import functools
import os
import threading
import weakref
from collections.abc import Callable

from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Parker
from iointerrupt._stop import StopEvent
from iointerrupt._wait import park, stops

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")


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


def left_behind(thread: threading.Thread) -> None:
    """Count a helper that belongs to no `Helpers` among the abandoned ones, for as long as it runs."""
    _left_behind.add(thread)


def abandoned_helpers() -> int:
    """How many helper threads a stop has left behind that are still stuck in their call."""
    return sum(helpers.abandoned() for helpers in _all_helpers) + sum(t.is_alive() for t in list(_left_behind))


_all_helpers: list[Helpers] = []
_left_behind: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for helpers in _all_helpers:
        helpers._forget()  # the threads are in the parent
    _left_behind.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
