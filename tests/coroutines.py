"""What the tests of the asyncio side share: running a coroutine, and waiting in one for a thread."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading

import pytest

from iointerrupt import StopEvent
from iointerrupt.testing import wait_until_blocked
from tests.test_files_hanging_disk import why_not

needs_fuse = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

LINES = "".join(f"line {n}: äöü €\n" for n in range(3000))

KINDS = {
    "StopEvent": StopEvent,
    "Event": threading.Event,
    "multiprocessing": multiprocessing.Event,
}


def run(main, *args):
    """Run a coroutine function in a loop of its own."""
    return asyncio.run(main(*args))


async def blocked_on(stop, n=1):
    """Wait until so many threads are blocked on a stop; the loop in which this runs counts as one once it has waited."""
    await asyncio.to_thread(wait_until_blocked, stop, n)


async def awaited(awaitable):
    """A coroutine of any awaitable."""
    return await awaitable


async def collected(chunks):
    """All that is left, in one piece."""
    return b"".join([chunk async for chunk in chunks])
