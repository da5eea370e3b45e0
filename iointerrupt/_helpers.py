"""Helpers: daemon threads that run what the kernel cannot be asked to leave, and that a stop may leave behind.

`getaddrinfo` is such a call, a read from a disk that hangs, and whatever a program hands to `calls.call`. A stop abandons
the helper: its caller goes on, and what the call returns later is discarded. How many of a kind there may be is bounded.

A thread that has done its job waits a moment for another one, and then ends: calls that follow each other closely find it
still there. They are daemons, so that one that is stuck does not hold up the end of the program.

The lock of `guard` guards the list of idle threads, and who has a place among the helpers of a kind. An outcome needs no lock:
a signal handler may wait for one while the main thread, which it has interrupted, is inside that lock. Whether a job is done
or abandoned is decided by one `dict.setdefault`.
"""

from __future__ import annotations

import contextvars
import functools
import os
import threading
from collections.abc import Callable

from iointerrupt._signal import guard
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Parker
from iointerrupt._signal.threads import own_thread
from iointerrupt._stop import StopEvent
from iointerrupt._wait import park, stops
from iointerrupt._where import here, stands_at

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
    with guard.lock:
        idle = _idle.pop() if _idle else None
    if idle is None:
        own_thread(name, _work, [job]).start()
    else:
        idle.job, idle.name = job, name
        idle.parker.unpark()


def is_helper(thread: threading.Thread) -> bool:
    """Whether it is one of this library's own, which serve whoever needs them; all of them are called so."""
    return thread.daemon and thread.name.startswith("iointerrupt-")


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
        with guard.lock:
            _idle.append(idle)
        if not idle.parker.park(LINGER):
            with guard.lock:
                if idle in _idle:
                    _idle.remove(idle)
                    return
            idle.parker.park(None)  # it is being given a job at this moment
        if idle.job is not None:
            jobs.append(idle.job)
            idle.job = None
            thread.name = idle.name


class Left:
    """A call in a helper that nobody waits for any more.

    Args:
        what: of which kind the helper is, and what it calls.
        thread: the identifier of its thread, if that is known.
    """

    __slots__ = ("_what", "_where", "thread")

    def __init__(self, what: str, thread: int | None) -> None:
        self._what = what
        self._where = here()
        self.thread = thread

    def __str__(self) -> str:
        stands, left = stands_at(self.thread), f"left behind at {self._where or 'an unknown line'}"
        return ", ".join([self._what, *([f"which stands at {stands}"] if stands else []), left])


class LeftBehind:
    """Calls in helpers that nobody waits for any more, and that are still at work. Each step is one atomic operation."""

    def __init__(self) -> None:
        self._calls: dict[object, Left] = {}

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, call: object, what: str, thread: int | None = None) -> None:
        """It is left behind, at the line of the program that has led here; `thread` is the identifier of the one it is in."""
        self._calls[call] = Left(what, thread)

    def discard(self, call: object) -> None:
        """It has ended."""
        self._calls.pop(call, None)

    def calls(self) -> list[Left]:
        """What there is, each the same object for as long as it is there."""
        return list(self._calls.values())

    def clear(self) -> None:
        """There is none, as in a forked child."""
        self._calls.clear()


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
        self._busy = 0
        self._queue: dict[Parker, None] = {}  # calls that wait for a place, oldest first
        self._left = LeftBehind()

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
                park(job.parker, blocked, deadline, job.is_done)
            except BaseException:
                job.abandon()
                raise
            try:
                result: T = job.result()
            finally:
                del job  # an exception refers to this frame
            return result

    def abandoned(self) -> int:
        """How many helpers of this kind are running that nobody waits for any more."""
        return len(self._left)

    def _take_place(self, blocked: Blocked, deadline: float | None) -> None:
        while True:
            parker = Parker()
            with guard.lock:
                if self._busy < self._limit:
                    self._busy += 1
                    return
                self._queue[parker] = None
            blocked.add_waker(parker.unpark)
            try:
                park(parker, blocked, deadline)
            except BaseException:
                with guard.lock:
                    was_queued = self._queue.pop(parker, parker) is None
                if not was_queued:
                    self._call_next()  # it was called at the same moment, and passes that on
                raise

    def _leave_place(self) -> None:
        with guard.lock:
            self._busy -= 1
        self._call_next()

    def _call_next(self) -> None:
        with guard.lock:
            parker = next(iter(self._queue), None)
            if parker is not None:
                del self._queue[parker]
        if parker is not None:
            parker.unpark()


class _Job:
    """One call in a helper, whose outcome is its caller's or, once abandoned, nobody's."""

    def __init__(self, helpers: Helpers, function: Callable[[], Any], discard: Callable[[Any], object] | None) -> None:
        self._helpers = helpers
        self._function = function
        self._discard = discard
        self._fate: dict[str, bool] = {}  # whether it was abandoned, before it was done
        self._outcome: Callable[[], Any] | None = None
        self._thread: int | None = None
        self.parker = Parker()

    def is_done(self) -> bool:
        """Whether the outcome is there."""
        return self._outcome is not None

    def start(self) -> None:
        run = contextvars.copy_context().run
        try:
            run_in_thread(functools.partial(run, self._run), self._helpers.name)
        except BaseException:
            self._helpers._leave_place()
            raise

    def result(self) -> Any:
        """What the function returned or raised; only once it `is_done`."""
        outcome = self._outcome
        if outcome is None:
            raise RuntimeError("the helper has not finished")
        return outcome()

    def abandon(self) -> None:
        """Nobody waits for it any more."""
        if not self._fate.setdefault("abandoned", True):
            self._throw_away()
            return
        self._helpers._left.add(self, f"{self._helpers.name}, in {_name_of(self._function)}", self._thread)
        if self.is_done():
            self._helpers._left.discard(self)

    def _run(self) -> None:
        outcome: Callable[[], Any]
        self._thread = threading.get_ident()
        try:
            value = self._function()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the caller's thread
            outcome = functools.partial(_raise, error)
        else:
            outcome = lambda: value  # noqa: E731
        self._outcome = outcome
        abandoned = self._fate.setdefault("abandoned", False)
        self.parker.unpark()
        self._helpers._leave_place()
        if abandoned:
            self._helpers._left.discard(self)
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


def _name_of(function: Callable[..., Any]) -> str:
    inner: Callable[..., Any] | None = function
    while inner is not None:
        function = inner
        inner = function.func if isinstance(function, functools.partial) else getattr(function, "__wrapped__", None)
    return getattr(function, "__qualname__", None) or repr(function)


def abandoned_helpers() -> int:
    """How many helper threads a stop has left behind that are still stuck in their call."""
    return sum(helpers.abandoned() for helpers in _all_helpers) + len(left_behind)


def abandoned() -> list[Left]:
    """Each of these calls."""
    return [call for calls in (left_behind, *(helpers._left for helpers in _all_helpers)) for call in calls.calls()]


#: The calls in helpers that belong to no `Helpers`. Whoever leaves one adds it, and it takes itself out when it has ended.
left_behind = LeftBehind()
_all_helpers: list[Helpers] = []
_idle: list[_Idle] = []


def _after_fork_in_child() -> None:
    for helpers in _all_helpers:
        helpers._forget()  # the threads are in the parent
    left_behind.clear()
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
