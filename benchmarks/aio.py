"""What the asyncio side costs and how soon it stops: ours and aiofiles in turn, on the same work.

The event loop and the pool of aiofiles are there before anything is timed.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import statistics
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import aiofiles

from benchmarks.latency import _wake_of_event_wait
from benchmarks.measure import Row, speed
from iointerrupt import Interrupted, StopEvent, StopLike, aio

SIZE = 256 << 20
MIB = 1 << 20
ROUNDS = 150

_PROCESSORS = os.sched_getaffinity(0)

#: What is done with each chunk.
Consume = Callable[[bytes], Awaitable[object]]


def measure() -> Iterator[Row]:
    """A row for each claim."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        path = os.path.join(folder, "data")
        with open(path, "wb") as file:
            file.writelines(os.urandom(MIB) for _ in range(SIZE // MIB))
        yield from _chunks(path)
        yield from _calls(path)
    yield from _latency()


async def _by_aiofiles(path: str, size: int) -> AsyncIterator[bytes]:
    async with aiofiles.open(path, "rb", buffering=0) as file:
        while chunk := await file.read(size):
            yield chunk


async def _nothing(chunk: bytes) -> None:
    """A consumer that takes no time."""


async def _hash_in_thread(chunk: bytes) -> None:
    await asyncio.to_thread(hashlib.sha1, chunk)


async def _sleep(_chunk: bytes) -> None:
    await asyncio.sleep(0.0005)


async def _hash_in_loop(chunk: bytes) -> None:
    hashlib.sha1(chunk)


def _chunks(path: str) -> Iterator[Row]:
    stop = StopEvent()
    with asyncio.Runner() as runner:

        async def consume(chunks: AsyncIterator[bytes], work: Consume) -> float:
            began = time.perf_counter()
            async for chunk in chunks:
                await work(chunk)
            return time.perf_counter() - began

        def plain(size: int, work: Consume) -> float:
            return runner.run(consume(_by_aiofiles(path, size), work))

        def ours(size: int, work: Consume) -> float:
            return runner.run(consume(aio.iter_chunks(path, stop=stop, chunk_size=size), work))

        for name, work in (
            ("nothing", _nothing),
            ("a hash in the loop", _hash_in_loop),
            ("a hash in a thread", _hash_in_thread),
            ("half a millisecond's sleep", _sleep),
        ):
            best = min(
                (1 << 16, 1 << 18, MIB, 4 * MIB),
                key=lambda size: statistics.median(plain(size, work) for _ in range(5)),
            )
            # A consumer that takes time for each chunk is given as many of them by both.
            size = MIB if work is _nothing else best
            yield speed(
                f"aio.iter_chunks, {name}; aiofiles at its best ({best >> 10} KiB)",
                lambda: ours(size, work),  # noqa: B023 - called in this round
                lambda: plain(best, work),  # noqa: B023 - called in this round
                least=1.0,
            )


def _calls(path: str) -> Iterator[Row]:
    stop = StopEvent()

    async def read(opening: Callable[[], Any], size: int) -> float:
        async with opening() as file:
            began = time.perf_counter()
            for _ in range(1000):
                await file.read(size)
            return time.perf_counter() - began

    for name, size in (("1 KiB", 1024), ("256 KiB", 1 << 18)):
        # Most of it is waking threads. On one processor that costs the same for all; on several it depends on which of
        # them are asleep, and scatters.
        for where, processors in (("one processor", {min(_PROCESSORS)}), ("any processor", _PROCESSORS)):
            time.sleep(0.2)  # until threads that have no work have ended: new ones run where this one does
            os.sched_setaffinity(0, processors)
            try:
                with asyncio.Runner() as runner:
                    yield speed(
                        f"aio.open(...).read, {name}, {where}",
                        lambda: runner.run(read(lambda: aio.open(path, "rb", stop=stop), size)),  # noqa: B023 - called in this round
                        lambda: runner.run(read(lambda: aiofiles.open(path, "rb"), size)),  # noqa: B023 - called in this round
                        least=0.9,
                    )
            finally:
                os.sched_setaffinity(0, _PROCESSORS)


def _latency() -> Iterator[Row]:
    # A coroutine is woken through its loop, which takes its time; so that is what ours are compared with.
    for name, block, most in (
        ("cancel_on", _block_in_scope, 2),
        ("aio.wait", _block_in_wait, 2),
        ("aio.open of a pipe, read", _block_in_read, 3),
    ):
        for kind in (StopEvent, threading.Event):
            stops, plain, wakes = [], [], []
            for _ in range(ROUNDS):
                wakes.append(_wake_of_event_wait())
                plain.append(_stop_of(_block_in_asyncio, _LoopEvent()))
                stops.append(_stop_of(block, kind()))
            median, p99 = statistics.median(stops), sorted(stops)[int(len(stops) * 0.99)]
            ratio = median / statistics.median(plain)
            note = (
                f"median {median * 1e6:.0f} us, p99 {p99 * 1e6:.0f} us; asyncio.Event {statistics.median(plain) * 1e6:.0f} us,"
                f" Event.wait {statistics.median(wakes) * 1e6:.0f} us"
            )
            yield Row(f"{name}, {kind.__name__}", ratio, "x", f"<= {most}", ratio <= most and p99 < 0.010, note)


class _LoopEvent:
    """An `asyncio.Event` that is set from a thread, by the only means that asyncio has."""

    def __init__(self) -> None:
        self.set: Callable[[], object] = lambda: None


def _stop_of(block: Callable[[Any, threading.Event], Coroutine[Any, Any, float]], stop: Any) -> float:
    blocked = threading.Event()
    stopped: list[float] = []
    thread = threading.Thread(target=lambda: stopped.append(asyncio.run(block(stop, blocked))))
    thread.start()
    blocked.wait()
    time.sleep(0.002)  # asleep in the kernel by now, and the interpreter idle: that is the case that counts
    began = time.perf_counter()
    stop.set()
    thread.join(10)
    return stopped[0] - began


async def _block_in_asyncio(stop: _LoopEvent, blocked: threading.Event) -> float:
    loop, event = asyncio.get_running_loop(), asyncio.Event()
    stop.set = functools.partial(loop.call_soon_threadsafe, event.set)
    loop.call_soon(blocked.set)
    await event.wait()
    return time.perf_counter()


async def _block_in_scope(stop: StopLike, blocked: threading.Event) -> float:
    try:
        async with aio.cancel_on(stop):
            asyncio.get_running_loop().call_soon(blocked.set)
            await asyncio.sleep(3600)
    except Interrupted:
        pass
    return time.perf_counter()


async def _block_in_wait(stop: StopLike, blocked: threading.Event) -> float:
    asyncio.get_running_loop().call_soon(blocked.set)
    await aio.wait(stop)
    return time.perf_counter()


async def _block_in_read(stop: StopLike, blocked: threading.Event) -> float:
    reader, writer = os.pipe()
    try:
        async with aio.open(reader, "rb", stop=stop) as pipe:
            asyncio.get_running_loop().call_later(0.002, blocked.set)
            try:
                await pipe.read(1)
            except Interrupted:
                pass
            return time.perf_counter()
    finally:
        os.close(writer)
