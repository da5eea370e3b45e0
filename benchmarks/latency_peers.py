"""A thread that is blocked in receiving from a socket: ours, and what a user would end it with instead.

Each does what its documentation shows, on a socket pair from which nothing comes. Those who run an event loop run it in
the blocked thread, and are cancelled from another one, by the means that they have for that; none of them leaves anything
behind. They are imported when they are first asked for.
"""

from __future__ import annotations

import ctypes
import functools
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.latency_timing import (
    FLOOR,
    PERIOD,
    Attempt,
    Ready,
    event_wait,
    moment_of,
    those_who_can,
    time_of_stop,
    timed,
)
from benchmarks.measure import Comparison, in_turn
from iointerrupt import Interrupted, StopEvent, sockets

ROUNDS = 70
_QUICK = 4

#: Seconds of a receive in which an exception is raised from another thread, to see whether that ends it.
_LONG = 0.4


def compare(*, quick: bool) -> Iterator[Comparison]:
    """Ours against all others."""
    able, reasons = those_who_can({name: timed(make) for name, make in PEERS.items()})
    for name, make in RAISED.items():
        if name in able and (took := time_of_stop(make(_LONG))) > _LONG / 2:
            reasons[f"{name.partition(',')[0]}, in a recv without a time limit"] = (
                f"does not end it: a recv of {_LONG} s went on for {took:.2f} s after the exception was raised"
            )
    samples = in_turn(able, _QUICK if quick else ROUNDS, warm_up=0)
    least = {name: 0.5 if name == FLOOR else 1.0 for name in list(samples)[1:]}
    yield Comparison("socket receive, stopped", "s", samples, least=least, left_out=reasons)


def ours() -> Attempt:
    """A `StopEvent`."""

    def block(ready: Ready) -> float:
        stop = StopEvent()
        near, far = sockets.socketpair(stop=stop)
        with near, far:
            ready(stop.set)
            return moment_of(Interrupted, lambda: near.recv(1))

    return Attempt(block)


def settimeout_loop() -> Attempt:
    """The usual loop: an event, looked at after each time-out of the socket."""

    def block(ready: Ready) -> float:
        stop = threading.Event()
        near, far = socket.socketpair()
        with near, far:
            near.settimeout(PERIOD)
            ready(stop.set)
            while not stop.is_set():
                try:
                    near.recv(1)
                except TimeoutError:
                    pass
            return time.perf_counter()

    return Attempt(block, PERIOD)


def select_loop() -> Attempt:
    """The same, with `select`."""

    def block(ready: Ready) -> float:
        stop = threading.Event()
        near, far = socket.socketpair()
        with near, far:
            ready(stop.set)
            while not stop.is_set():
                if select.select([near], [], [], PERIOD)[0]:
                    near.recv(1)
            return time.perf_counter()

    return Attempt(block, PERIOD)


def shutdown() -> Attempt:
    """The connection is shut down, and so is over; `close` alone ends no receive."""

    def block(ready: Ready) -> float:
        near, far = socket.socketpair()
        with near, far:
            ready(lambda: near.shutdown(socket.SHUT_RDWR))
            near.recv(1)
            return time.perf_counter()

    return Attempt(block)


def asyncio_cancel() -> Attempt:
    """A task, cancelled through its loop."""
    import asyncio

    async def receive(ready: Ready) -> float:
        near, far = socket.socketpair()
        with near, far:
            near.setblocking(False)
            loop, task = asyncio.get_running_loop(), asyncio.current_task()
            assert task is not None
            ready(lambda: loop.call_soon_threadsafe(task.cancel))
            try:
                await loop.sock_recv(near, 1)
            except asyncio.CancelledError:
                pass
            return time.perf_counter()

    return Attempt(lambda ready: asyncio.run(receive(ready)))


def trio_cancel() -> Attempt:
    """A cancel scope of trio."""
    import trio

    async def receive(ready: Ready) -> float:
        near, far = trio.socket.socketpair()
        with near, far:
            with trio.CancelScope() as scope:
                ready(trio_stop(scope))
                await near.recv(1)
            return time.perf_counter()

    return Attempt(lambda ready: trio.run(receive, ready))


def trio_stop(scope: Any) -> Callable[[], object]:
    """What cancels the scope from another thread; called in trio's own."""
    import trio

    token = trio.lowlevel.current_trio_token()
    return lambda: trio.from_thread.run_sync(scope.cancel, trio_token=token)


def anyio_cancel() -> Attempt:
    """A cancel scope of anyio, over asyncio, which is its default."""
    import anyio
    import anyio.abc

    async def receive(ready: Ready) -> float:
        near, far = socket.socketpair()
        with far:
            async with await anyio.abc.UNIXSocketStream.from_socket(near) as stream:
                with anyio.CancelScope() as scope:
                    ready(anyio_stop(scope))
                    await stream.receive(1)
                return time.perf_counter()

    return Attempt(lambda ready: anyio.run(receive, ready))


def anyio_stop(scope: Any) -> Callable[[], object]:
    """What cancels the scope from another thread; called in that of the loop."""
    import anyio.from_thread
    import anyio.lowlevel

    token = anyio.lowlevel.current_token()
    return lambda: anyio.from_thread.run_sync(scope.cancel, token=token)


def gevent_kill() -> Attempt:
    """A greenlet in a hub of its thread."""
    import gevent
    import gevent.socket

    def block(ready: Ready) -> float:
        hub = gevent.get_hub()
        near, far = gevent.socket.socketpair()

        def receive() -> float:
            kill = functools.partial(gevent.getcurrent().kill, block=False)
            ready(lambda: hub.loop.run_callback_threadsafe(kill))
            return moment_of(gevent.GreenletExit, lambda: near.recv(1))

        try:
            return float(gevent.spawn(receive).get())
        finally:
            near.close()
            far.close()
            hub.destroy(destroy_loop=True)

    return Attempt(block)


def interruptible_threading() -> Attempt:
    """Its own `recv`, which waits for a pipe as well."""
    from interruptible_threading import InterruptibleThread, ThreadInterrupted, interruptible_recv

    # It has set the types of the arguments for everybody, and the others call it with other ones: they get one of their own.
    vars(ctypes.pythonapi).pop("PyThreadState_SetAsyncExc", None)

    def block(ready: Ready) -> float:
        thread: Any = threading.current_thread()
        near, far = socket.socketpair()
        with near, far:
            ready(thread.interrupt)
            return moment_of(ThreadInterrupted, lambda: interruptible_recv(near, 1))

    return Attempt(block, thread=InterruptibleThread)


def stopit_raise(limit: float = PERIOD) -> Attempt:
    """What its time limits are made of."""
    import stopit

    def stop(thread: threading.Thread) -> None:
        stopit.async_raise(thread.ident, stopit.TimeoutException)

    return _raised(stopit.TimeoutException, stop, threading.Thread, limit)


class _Stopped(BaseException):
    """What its documentation says to raise: no handler of `Exception` catches it."""


def func_timeout_stop(limit: float = PERIOD) -> Attempt:
    """Its `StoppableThread`."""
    import func_timeout

    return _raised(_Stopped, lambda thread: thread.stop(_Stopped), func_timeout.StoppableThread, limit)


def _raised(
    error: type[BaseException], stop: Callable[[Any], object], thread: type[threading.Thread], limit: float
) -> Attempt:
    """An exception is raised in the thread, which sees it where it runs Python code: after each time-out of the socket."""

    def block(ready: Ready) -> float:
        me = threading.current_thread()
        near, far = socket.socketpair()

        def receive() -> None:
            while True:
                try:
                    near.recv(1)
                except TimeoutError:
                    pass

        with near, far:
            near.settimeout(limit)
            ready(lambda: stop(me))
            return moment_of(error, receive)

    return Attempt(block, PERIOD, thread)


PEERS: dict[str, Callable[[], Attempt]] = {
    "iointerrupt": ours,
    FLOOR: event_wait,
    "an Event and settimeout(0.1), in a loop": settimeout_loop,
    "an Event and select for 0.1 s, in a loop": select_loop,
    "socket.shutdown": shutdown,
    "asyncio, task.cancel": asyncio_cancel,
    "trio, cancel scope": trio_cancel,
    "anyio, cancel scope": anyio_cancel,
    "gevent, kill": gevent_kill,
    "interruptible-threading, interruptible_recv": interruptible_threading,
    "stopit, in a settimeout(0.1) loop": stopit_raise,
    "func_timeout, in a settimeout(0.1) loop": func_timeout_stop,
}

#: Those who raise an exception in the thread, by the seconds that a receive may take.
RAISED: dict[str, Callable[[float], Attempt]] = {
    "stopit, in a settimeout(0.1) loop": stopit_raise,
    "func_timeout, in a settimeout(0.1) loop": func_timeout_stop,
}
