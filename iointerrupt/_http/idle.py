"""`IdleConnections`: the queue in which a pool keeps its free connections, with a wait for one that a stop ends.

A connection that comes back while threads wait goes into the hands of the one that waits longest. So none of them has
to look again, and a thread that has just come cannot take it first.

The queue's `mutex` guards its items and its waiters. Nothing is called under it.
"""

from __future__ import annotations

import queue
import time
from threading import get_ident
from typing import Any

from iointerrupt import _wait
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Parker
from iointerrupt._stop import StopEvent


class Shared:
    """What an adapter has in common with its pools, and may change at any time: they look at each request.

    Attributes:
        stop: what every operation of every connection stops on, besides the current stop.
    """

    __slots__ = ("stop",)

    def __init__(self, stop: StopEvent | None = None) -> None:
        self.stop = stop


class _Waiter:
    """A thread that waits for a connection, and what it was given."""

    __slots__ = ("given", "parker")

    def __init__(self) -> None:
        self.parker = Parker()
        self.given: list[Any] = []


class IdleConnections(queue.LifoQueue[Any]):
    """A pool's free places: connections to use again, and None for each that is yet to be made.

    urllib3 gives a place back (None) after any failure, also after one in the wait for a place, be it a stop or what a signal
    handler raised. That would be one place too many, so the queue remembers who left the wait with nothing.
    """

    shared = Shared()

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._waiters: dict[_Waiter, None] = {}  # the longest first
        self._empty_handed: set[int] = set()  # threads; each adds and removes only itself

    def _put(self, item: Any) -> None:  # queue.Queue calls it with the mutex held
        waiter = next(iter(self._waiters), None)
        if waiter is None:
            super()._put(item)
            return
        del self._waiters[waiter]
        waiter.given.append(item)
        waiter.parker.unpark()  # it releases a lock, and so never waits

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:  # noqa: FBT001, FBT002 - queue.Queue's own
        """Give a place back, unless it is one that this thread did not get.

        Raises:
            queue.Full: there are more of them than were taken.
        """
        if item is None and get_ident() in self._empty_handed:
            self._empty_handed.discard(get_ident())
        else:
            super().put(item, block, timeout)

    def close_all(self) -> None:
        """Close the connections that are in here; their places stay."""
        with self.mutex:
            idle = [item for item in self.queue if item is not None]
            self.queue[:] = [None] * len(self.queue)
        for connection in idle:
            connection.close()

    def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002 - queue.Queue's own
        """Take a place, waiting for one where `block` is true.

        Args:
            block: whether to wait.
            timeout: for how many seconds at most; None for no limit.

        Raises:
            queue.Empty: there is none, or none came in time.
            Interrupted: a stop was set meanwhile. A place that came at the same moment goes to the next in line.
        """
        self._empty_handed.discard(get_ident())
        with self.mutex:
            if self._qsize():
                return self._get()
            if not block:
                raise queue.Empty
            waiter = _Waiter()
            self._waiters[waiter] = None
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            with Blocked(_wait.stops(self.shared.stop)) as blocked:
                blocked.add_waker(waiter.parker.unpark)
                _wait.park(waiter.parker, blocked, deadline)
        except BaseException as error:
            with self.mutex:
                self._waiters.pop(waiter, None)
            for item in waiter.given:  # nobody can add to it any more
                self.put(item, block=False)
            if isinstance(error, TimeoutError):
                raise queue.Empty from None
            self._empty_handed.add(get_ident())
            raise
        return waiter.given.pop()
