"""What the asyncio side costs and how soon it stops: ours and aiofiles in turn, on the same work.

The event loop and the pool of aiofiles are there before anything is timed.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any

import aiofiles

from benchmarks.latency_timing import wake_of_event_wait
from benchmarks.measure import Comparison, Run, in_turn
from benchmarks.throughput_work import CHUNK_SIZES, MIB, Amount, best_size, filled, memory_folder, rate
from iointerrupt import Interrupted, StopEvent, StopLike, aio

AMOUNT = Amount(64 * MIB, 250, 24)

#: Stops of each kind; an eighth of it in a quick run.
STOPS = 200

_PROCESSORS = os.sched_getaffinity(0)

#: What is done with each chunk.
Consume = Callable[[bytes], Awaitable[object]]


def measure(*, quick: bool) -> Iterator[Comparison]:
    """A comparison for each consumer of chunks, for single reads, and for each way to wait and kind of stop."""
    amount = AMOUNT.of(quick=quick)
    with memory_folder() as folder:
        path = filled(os.path.join(folder, "data"), amount.size)
        yield from _chunks(path, amount)
        yield from _calls(path, amount)
    yield from _latency(STOPS // 8 if quick else STOPS)


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


def _chunks(path: str, amount: Amount) -> Iterator[Comparison]:
    stop = StopEvent()
    with asyncio.Runner() as runner:

        async def consume(chunks: AsyncIterator[bytes], work: Consume) -> None:
            async for chunk in chunks:
                await work(chunk)

        def plain(size: int, work: Consume) -> float:
            return rate(lambda: runner.run(consume(_by_aiofiles(path, size), work)), amount.size)

        def ours(size: int, work: Consume) -> float:
            chunks = aio.iter_chunks(path, stop=stop, chunk_size=size)
            return rate(lambda: runner.run(consume(chunks, work)), amount.size)

        for name, work in (
            ("nothing", _nothing),
            ("a hash in the loop", _hash_in_loop),
            ("a hash in a thread", _hash_in_thread),
            ("half a millisecond's sleep", _sleep),
        ):
            # The fewer chunks there are, the less is slept.
            best = max(CHUNK_SIZES) if work is _sleep else best_size(functools.partial(plain, work=work))
            # A consumer that takes time for each chunk is given as many of them by both.
            size = MIB if work is _nothing else best
            other = f"aiofiles, {best >> 10} KiB"
            runs: dict[str, Run] = {
                "iointerrupt": functools.partial(ours, size, work),
                other: functools.partial(plain, best, work),
            }
            samples = in_turn(runs, amount.rounds)
            what = f"aio.iter_chunks, for each chunk {name}"
            yield Comparison(what, "B/s", samples, better="higher", least={other: 1.0})


def _calls(path: str, amount: Amount) -> Iterator[Comparison]:
    stop = StopEvent()

    async def read(opening: Callable[[], Any], size: int) -> float:
        async with opening() as file:
            began = time.perf_counter()
            for _ in range(amount.calls):
                await file.read(size)
            return (time.perf_counter() - began) / amount.calls

    def theirs() -> Any:
        return aiofiles.open(path, "rb")

    def ours() -> Any:
        return aio.open(path, "rb", stop=stop)

    for name, size in (("1 KiB", 1024), ("64 KiB", 1 << 16)):
        # Most of it is waking threads. On one processor that costs the same for all; on several it depends on which of
        # them are asleep, and scatters.
        for where, processors in (("one processor", {min(_PROCESSORS)}), ("any processor", _PROCESSORS)):
            time.sleep(0.2)  # until threads that have no work have ended: new ones run where this one does
            os.sched_setaffinity(0, processors)
            try:
                with asyncio.Runner() as runner:

                    def run(opening: Callable[[], Any]) -> Run:
                        return lambda: runner.run(read(opening, size))  # noqa: B023 - called in this round

                    samples = in_turn({"iointerrupt": run(ours), "aiofiles": run(theirs)}, amount.rounds)
            finally:
                os.sched_setaffinity(0, _PROCESSORS)
            yield Comparison(f"aio.open(...).read, {name}, {where}", "s", samples, least={"aiofiles": 1.0})


def _latency(rounds: int) -> Iterator[Comparison]:
    # A coroutine is woken through its loop, which takes its time; so that is what ours are compared with.
    for name, block, least in (
        ("cancel_on", _block_in_scope, 1 / 2),
        ("aio.wait", _block_in_wait, 1 / 2),
        ("aio.open of a pipe, read", _block_in_read, 1 / 3),
    ):
        for kind in (StopEvent, threading.Event):
            runs: dict[str, Run] = {
                "iointerrupt": lambda: _stop_of(block, kind()),  # noqa: B023 - called in this round
                "asyncio.Event, set by call_soon_threadsafe": lambda: _stop_of(_block_in_asyncio, _LoopEvent()),
                "threading.Event.wait, in a thread": wake_of_event_wait,
            }
            samples = in_turn(runs, rounds)
            other = list(runs)[1]
            yield Comparison(f"{name}, {kind.__name__}", "s", samples, least={other: least})


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
