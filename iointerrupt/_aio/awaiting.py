"""`Awaiting`: a coroutine's stay in a wait, as `_signal.blocked.Blocked` is a thread's.

A stop that fires wakes the loop directly, from whatever thread (or signal handler) sets it; the loop's own timers count
deadlines. Everything but `_wake` runs in the loop, so there is no lock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from iointerrupt._signal.blocked import Blocked
from iointerrupt._stop import StopEvent


class Awaiting:
    """The block in which a coroutine waits on some stops.

    `__enter__` raises `Interrupted` if one of them is set. Afterwards `on_fired` is called in the loop once one of them
    fires, a deadline included; possibly twice, never after the block, and at the earliest when the coroutine next waits.

    Args:
        stops: what the coroutine waits on.
        on_fired: called without arguments.
        raises: False where a set is not what ends the wait but what it is for, or where it is to be ended with care: then
            `__enter__` raises nothing.
        is_seen: asked, in the thread that sets the stop, whether that wakes somebody else who then ends the wait: two
            threads that are woken at once only get in each other's way.
    """

    __slots__ = ("_blocked", "_is_over", "_is_seen", "_loop", "_on_fired", "_timer")

    def __init__(
        self,
        stops: tuple[StopEvent, ...],
        on_fired: Callable[[], object],
        *,
        raises: bool = True,
        is_seen: Callable[[], bool] = lambda: False,
    ) -> None:
        self._blocked = Blocked(stops, raises=raises)
        self._on_fired = on_fired
        self._is_seen = is_seen
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = False
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Self:
        self._blocked.__enter__()
        try:
            self._blocked.add_waker(self._wake)
            self._await_deadline()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._blocked.__exit__()

    def fired(self) -> bool:
        """Whether one of the stops has fired, or is set by now."""
        return self._blocked.fired()

    def raise_if_fired(self) -> None:
        """Raise `Interrupted` if one of the stops has fired, or is set by now; after the block too."""
        self._blocked.raise_if_fired()

    def _wake(self) -> None:
        if not self._is_seen():
            call_in(self._loop, self._fire)

    def _fire(self) -> None:
        if not self._is_over:
            self._on_fired()

    def _await_deadline(self) -> None:
        remaining = self._blocked.remaining(None)
        if remaining is not None:
            self._timer = self._loop.call_later(remaining, self._at_deadline)

    def _at_deadline(self) -> None:
        if self._blocked.fired():
            self._fire()
        else:  # the loop's clock may be a little ahead
            self._await_deadline()


class Bell:
    """What a coroutine waits for that is rung by others; one ring ends one wait, be it before or in it."""

    __slots__ = ("_future", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    def ring(self) -> None:
        """End the wait; to be called in the loop."""
        if not self._future.done():
            self._future.set_result(None)

    def ring_from_thread(self) -> None:
        """The same, from any thread."""
        call_in(self._loop, self.ring)

    async def heard(self) -> None:
        """Wait until it is rung."""
        await self._future
        self._future = self._loop.create_future()


def call_in(loop: asyncio.AbstractEventLoop, function: Callable[[], object]) -> None:
    """Call `function` in the loop, from any thread; nothing happens if the loop is closed, since nobody waits in it then."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        if not loop.is_closed():
            raise
