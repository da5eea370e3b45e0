"""`CancelScope`: a block of awaits that a stop cancels, told apart from a cancellation by somebody else.

It counts as `asyncio.timeout` does: a task knows how many requests to cancel it there have been. Those that are left when
the scope has taken its own back are somebody else's, and the CancelledError goes on to them. It does not use that class,
since Python 3.11 had versions in which a task that had been cancelled before could not use it for its cleanup.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from types import TracebackType

from iointerrupt._aio.awaiting import Awaiting
from iointerrupt._errors import Interrupted
from iointerrupt._stop import StopEvent
from iointerrupt._wait import stops


class CancelScope(AbstractAsyncContextManager[None]):
    """The block of `aio.cancel_on`; used once, by one task."""

    def __init__(self, own: StopEvent | None) -> None:
        self._own = own
        self._awaiting: Awaiting | None = None
        self._has_cancelled = False

    async def __aenter__(self) -> None:
        if self._awaiting is not None:
            raise RuntimeError("this block has been entered before: make a new cancel_on for each")
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("cancel_on must be used inside a task")
        self._task = task
        self._cancelling = task.cancelling()
        awaiting = Awaiting(stops(self._own), self._cancel)
        awaiting.__enter__()
        self._awaiting = awaiting

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._awaiting is None:
            raise RuntimeError("this block has not been entered")
        self._awaiting.__exit__()
        is_ours = self._has_cancelled and self._task.uncancel() <= self._cancelling
        # A task of a TaskGroup in the block may stop on the same stop, and sooner: then it is the group that ends the block.
        if (is_ours and isinstance(exc, asyncio.CancelledError)) or _is_all_interrupted(exc):
            self._awaiting.raise_if_fired()

    def _cancel(self) -> None:
        if not self._has_cancelled:
            self._has_cancelled = True
            self._task.cancel()


def _is_all_interrupted(exc: BaseException | None) -> bool:
    """Whether it is a group of nothing but what stops raise."""
    return isinstance(exc, BaseExceptionGroup) and exc.split(Interrupted)[1] is None
