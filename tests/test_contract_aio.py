"""The contract of `aio`, each operation in a loop of its own, with every kind of stop, through `check_interruptible`."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from contextlib import ExitStack

from iointerrupt import aio
from iointerrupt.testing import Operation
from tests.operations import Operations, a_fifo, with_stop

OPERATIONS = Operations()
operation, rows = OPERATIONS.operation, OPERATIONS.rows


def in_loop(function, *args):
    """Run a coroutine function in a loop of its own."""
    return asyncio.run(function(*args))


def reading(read, mode="rb", **options):
    """A read through aiofiles from a FIFO that has nothing for now."""

    async def opened(path):
        return await aio.open(path, mode, **options)

    with a_fifo() as path:
        keeper = os.open(path, os.O_RDWR)
        fifo = in_loop(opened, path)
        try:
            yield Operation(
                run=lambda stop: with_stop(fifo, stop, lambda: in_loop(read, fifo)),
                release=lambda: os.write(keeper, b"abc\n"),
            )
        finally:
            fifo.stop = None
            in_loop(fifo.close)
            os.close(keeper)


rows(
    {
        "binary read": lambda file: file.read(4),
        "binary readline": lambda file: file.readline(),
        "binary iteration": lambda file: file.__anext__(),
    },
    reading,
)
rows({"unbuffered read": lambda file: file.read(4)}, functools.partial(reading, buffering=0))
rows(
    {"text read": lambda file: file.read(4), "text readline": lambda file: file.readline()},
    functools.partial(reading, mode="r", encoding="utf-8"),
)


@operation
def open_of_a_fifo():
    """The open of one end of a FIFO, which waits for the other."""
    with a_fifo() as path, ExitStack() as resources:

        async def run(stop):
            async with aio.open(path, "rb", stop=stop) as fifo:
                return fifo.readable()

        def release():
            resources.callback(os.close, os.open(path, os.O_RDWR | os.O_NONBLOCK))

        yield Operation(run=functools.partial(in_loop, run), release=release)


@operation
def iter_chunks():
    """The first chunk of a FIFO's, of an iterator that goes on after a stop."""
    with a_fifo() as path:
        keeper = os.open(path, os.O_RDWR)
        chunks = aio.iter_chunks(path)

        async def first():
            return await anext(chunks)

        try:
            yield Operation(
                run=lambda stop: with_stop(chunks, stop, lambda: in_loop(first)),
                release=lambda: os.write(keeper, b"abc"),
            )
        finally:
            in_loop(chunks.aclose)
            os.close(keeper)


def cancelled_on(work):
    """Something that is awaited, under cancel_on, until an event is set."""
    released = threading.Event()

    async def run(stop):
        async with aio.cancel_on(stop):
            return await work(released)

    yield Operation(run=functools.partial(in_loop, run), release=released.set)


async def polled(event):
    """Sleep and look, as an await that knows nothing of stops."""
    while not event.is_set():  # noqa: ASYNC110 - it stands for any await
        await asyncio.sleep(0.001)
    return "released"


rows({"cancel_on, a sleep": polled, "cancel_on, aio.wait": aio.wait}, cancelled_on)

test_keeps_the_contract = OPERATIONS.as_test()
