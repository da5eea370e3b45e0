"""Stops of what is awaited: files and chunks of `aio`, and a stream of asyncio's own within `cancel_on`.

Several pairs share one event loop; of each, the writing end is a thread, which is stopped too.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from iointerrupt import aio, files, sockets
from tests.stress.operations import write
from tests.stress.over_sockets import sendall
from tests.stress.rounds import Round
from tests.stress.stops import Stops
from tests.stress.streams import SIZE, Place, Writer, content, taken

_PAIRS = 3


class _Reader:
    """Reads by random operations until the end; see `streams.Reader`.

    Args:
        stops: which come meanwhile, until there are no more.
        operations: by name; each returns the next bytes, and none at the end.
        owner: what has a stop of its own, if anything has.
    """

    def __init__(self, stops: Stops, operations: Mapping[str, Callable[[Any], Awaitable[bytes]]], owner: Any) -> None:
        self._stops, self._operations, self._owner = stops, operations, owner
        self.place = Place()

    async def run(self) -> None:
        """Read until the end."""
        while data := await self._step():
            self.place.arrive(data)
            self._stops.tally.checked += len(data)

    async def _step(self) -> bytes:
        while True:
            name = self._stops.rng.choice(list(self._operations))
            if self._stops.allowance.used_up():
                return await self._operations[name](None)
            trial = self._stops.trial(name, self._owner, takes_stop=name.endswith("*"))
            with trial:
                data = await self._operations[name](trial.argument)
                trial.may_ignore = not data  # that there is nothing more, it may know
                return data
            if data := taken(trial.error):
                return data


def of_coroutines(one: Round) -> None:
    """Coroutines read what threads write."""
    asyncio.run(_all(one))


async def _all(one: Round) -> None:
    async with contextlib.AsyncExitStack() as scope, asyncio.TaskGroup() as tasks:
        for _ in range(_PAIRS):
            way = one.rng.choice((_chunks_of_a_pipe, _file_over_a_pipe, _stream, _chunks_of_a_file))
            tasks.create_task(way(one, scope))


async def _pair(one: Round, reader: _Reader, writer: Writer, end: Callable[[], object]) -> None:
    def write_to_the_end() -> None:
        try:
            writer.run()
        finally:
            end()

    await asyncio.gather(asyncio.to_thread(one.run, write_to_the_end), reader.run())
    assert reader.place.position == writer.place.position, (
        f"{writer.place.position} bytes were sent and {reader.place.position} delivered"
    )


async def _chunks_of_a_pipe(one: Round, scope: contextlib.AsyncExitStack) -> None:
    out, into = os.pipe()
    scope.callback(os.close, out)
    target = files.open(into, "wb", 0)
    chunks = aio.iter_chunks(out, chunk_size=one.rng.choice((100, 10_000)))
    reader = _Reader(one.stops(), {"iter_chunks": lambda _: _next(chunks)}, chunks)
    await _pair(one, reader, Writer(one.stops(), target, {"write": write}, owner=target), target.close)


async def _file_over_a_pipe(one: Round, scope: contextlib.AsyncExitStack) -> None:
    out, into = os.pipe()
    target = files.open(into, "wb", 0)
    file: Any = await scope.enter_async_context(aio.open(out, "rb"))
    stops = one.stops()
    operations = {
        "read": lambda _: file.read(stops.rng.choice((1, 1000, 50_000))),
        "readline": lambda _: file.readline(),
    }
    await _pair(
        one, _Reader(stops, operations, file), Writer(one.stops(), target, {"write": write}, owner=target), target.close
    )


async def _stream(one: Round, scope: contextlib.AsyncExitStack) -> None:
    near, far = sockets.socketpair()
    stream, other = await asyncio.open_connection(sock=socket.socket(fileno=far.detach()))
    scope.enter_context(near)
    scope.callback(other.close)
    stops = one.stops()

    async def read(stop: Any) -> bytes:
        async with aio.cancel_on(stop):
            return await stream.read(stops.rng.choice((1, 1000, 50_000)))

    writer = Writer(one.stops(), near, {"sendall": sendall}, owner=near)
    await _pair(
        one, _Reader(stops, {"cancel_on*": read}, None), writer, functools.partial(near.shutdown, socket.SHUT_WR)
    )


async def _chunks_of_a_file(one: Round, scope: contextlib.AsyncExitStack) -> None:
    file = scope.enter_context(tempfile.NamedTemporaryFile())
    file.write(content())
    file.flush()
    stops = one.stops()
    while not one.allowance.used_up():
        chunks = aio.iter_chunks(file.name, chunk_size=stops.rng.choice((5000, 50_000)))
        reader = _Reader(stops, {"iter_chunks": lambda _, chunks=chunks: _next(chunks)}, chunks)  # type: ignore[misc]  # bound early
        await reader.run()
        assert reader.place.position == SIZE, f"the end came at {reader.place.position}"


async def _next(chunks: AsyncIterator[bytes]) -> bytes:
    return await anext(chunks, b"")
