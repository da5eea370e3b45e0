"""The parts `sleep`, `queue` and `thread`: waits without a descriptor that stop in a thread with a current stop.

`Condition.wait` is what events, queues, semaphores, barriers and futures wait in, so that it is the one method to replace. A
thread in it stands in the condition's own line, and a stop takes it out of there (`_wait.Place`): nobody polls. A
`queue.SimpleQueue` is written in C and waits inside a lock, so that it takes a class of its own.

A call that would not wait (a timeout of 0, a thread that has ended) is the original's, also where the stop is set.
"""

from __future__ import annotations

import functools
import queue
import threading
import time
from typing import Any

from iointerrupt._calls.endings import wait_thread
from iointerrupt._calls.locks import wait_notified
from iointerrupt._monkey.patches import Patch, Unbound
from iointerrupt._monkey.timeouts import deadline, waits
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Parker
from iointerrupt._stop import _current, set_current
from iointerrupt._wait import Place, park, sleep_until, stops

_current_stop = _current.get


def sleep_patches() -> list[Patch]:
    """Of the part `sleep`."""
    return [Patch(time, "sleep", _stoppable_sleep)]


def queue_patches() -> list[Patch]:
    """Of the part `queue`."""
    return [
        Patch(threading.Condition, "wait", _stoppable_wait),
        Patch(threading.Thread, "start", _shielded_start),
        Patch(queue, "SimpleQueue", lambda _: StoppableSimpleQueue),
    ]


def thread_patches() -> list[Patch]:
    """Of the part `thread`."""
    return [Patch(threading.Thread, "join", _stoppable_join)]


def _stoppable_sleep(sleep: Any) -> Any:
    @functools.wraps(sleep)
    def stoppable_sleep(seconds: Any, /) -> None:
        if _current_stop() is None or seconds is None or not waits(seconds):
            sleep(seconds)
        else:
            sleep_until(time.monotonic() + seconds, None)

    return Unbound(stoppable_sleep)


def _stoppable_wait(wait: Any) -> Any:
    @functools.wraps(wait)
    def stoppable_wait(self: threading.Condition, timeout: float | None = None) -> bool:
        if _current_stop() is None or not waits(timeout) or not Place.supports(self):
            return wait(self, timeout)  # type: ignore[no-any-return]  # as it is Any
        try:
            wait_notified(self, None, deadline(timeout))
        except TimeoutError:
            return False
        return True

    return stoppable_wait


def _shielded_start(start: Any) -> Any:
    """Starting a thread waits for it to run, by an event. It has been started then, so that is no time to be stopped."""

    @functools.wraps(start)
    def shielded_start(self: threading.Thread) -> None:
        if _current_stop() is None:
            start(self)
            return
        token = set_current(None)
        try:
            start(self)
        finally:
            _current.reset(token)

    return shielded_start


def _stoppable_join(join: Any) -> Any:
    @functools.wraps(join)
    def stoppable_join(self: threading.Thread, timeout: float | None = None) -> None:
        if _current_stop() is None or not waits(timeout):
            join(self, timeout)
            return
        join(self, 0)  # for its errors
        if self.is_alive():
            try:
                wait_thread(self, None, deadline(timeout))
            except TimeoutError:
                return
            join(self)

    return stoppable_join


class StoppableSimpleQueue(queue.SimpleQueue):  # type: ignore[type-arg]  # as the standard class, for any
    """A `queue.SimpleQueue` from which a thread with a current stop can be called away.

    Such a thread sleeps in a parker of its own, one of `_parkers`; each item that is put wakes all of them, and one finds it.
    That takes single operations on a dict, so `put` can still be called from a signal handler or a finalizer.
    """

    def __init__(self) -> None:
        self._parkers: dict[Parker, None] = {}

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002 - stock's
        """As `queue.SimpleQueue.put`."""
        super().put(item, block, timeout)
        for parker in list(self._parkers) if self._parkers else ():
            parker.unpark()

    def put_nowait(self, item: Any) -> None:
        """As `queue.SimpleQueue.put_nowait`."""
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - stock's
        """As `queue.SimpleQueue.get`."""
        if not block or _current_stop() is None or not waits(timeout):
            return super().get(block, timeout)
        try:
            return super().get(False)
        except queue.Empty:
            return self._get_when_there_is_one(deadline(timeout))

    def _get_when_there_is_one(self, until: float | None) -> Any:
        parker = Parker()
        with Blocked(stops(None)) as blocked:
            blocked.add_waker(parker.unpark)
            self._parkers[parker] = None  # before the look: an item that is put behind it wakes this thread
            try:
                while True:
                    try:
                        return super().get(False)
                    except queue.Empty:
                        park(parker, blocked, until)
            except TimeoutError:
                raise queue.Empty from None
            finally:
                del self._parkers[parker]
