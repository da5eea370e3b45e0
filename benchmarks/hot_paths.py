"""What `benchmarks.instructions` counts: each hot path beside its plain counterpart, as statements that can be repeated.

Nothing here depends on time, on another thread or on another process, so that the same instructions are executed each time:
what is received has been sent before, and what is waited for is there already.
"""

from __future__ import annotations

import functools
import io
import os
import select
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import requests
from urllib3.connection import HTTPConnection

from iointerrupt import StopEvent, _wait, files, http, sockets, use_stop

#: Bytes that a small receive, send or read moves.
SMALL = 16


def _nothing(_times: int) -> None:
    pass


@dataclass(frozen=True)
class Side:
    """What one of the two does.

    Attributes:
        statement: what is repeated. It is compiled for this side alone, since CPython adapts code to what it meets.
        names: what is known in it.
        prepare: called before, with how often it will be repeated.
    """

    statement: str
    names: dict[str, Any]
    prepare: Callable[[int], object] = _nothing


@dataclass(frozen=True)
class Path:
    """A hot path: ours, the plain counterpart, and how often each is repeated at least."""

    name: str
    ours: Side
    plain: Side
    times: int = 200


def paths() -> Iterator[Path]:
    """Each hot path in turn; what it needs is there until the next one is asked for."""
    yield from _checks()
    yield from _transfers()
    yield from _waits()
    with tempfile.TemporaryDirectory() as folder:
        yield from _files(os.path.join(folder, "data"))
    yield from _bodies()


def _checks() -> Iterator[Path]:
    event, stop = threading.Event(), StopEvent()
    plain = Side("event.is_set()", {"event": event})
    yield Path("StopEvent.is_set", Side("stop.is_set()", {"stop": stop}), plain)
    yield Path("StopEvent.is_set, deadline", Side("stop.is_set()", {"stop": StopEvent(timeout=3600)}), plain)
    with use_stop(StopEvent()):
        yield Path("check, own and current stop", Side("check(stop)", {"check": _wait.check, "stop": stop}), plain)
    yield Path(
        "StopEvent(parent), made and dropped",
        Side("StopEvent(stop)", {"StopEvent": StopEvent, "stop": stop}),
        Side("Event()", {"Event": threading.Event}),
    )
    yield Path(
        "use_stop, entered and left",
        Side("with use_stop(stop): pass", {"use_stop": use_stop, "stop": stop}),
        Side("with lock: pass", {"lock": threading.Lock()}),
    )


def _connected(stack: ExitStack, pair: tuple[Any, Any]) -> tuple[Any, Any]:
    near, far = pair
    stack.enter_context(near)
    stack.enter_context(far)
    return near, far


def _fill(sock: socket.socket, times: int) -> None:
    sock.sendall(bytes(SMALL * times))


def _drain(sock: socket.socket, _times: int = 0) -> None:
    try:
        while sock.recv(1 << 20, socket.MSG_DONTWAIT):
            pass
    except BlockingIOError:
        pass


def _transfers() -> Iterator[Path]:
    with ExitStack() as stack:
        for statement in ("near.recv_into(buffer)", f"near.recv({SMALL})", "near.send(data)"):
            method = statement[len("near.") : statement.index("(")]

            def side(pair: tuple[Any, Any], statement: str = statement, method: str = method) -> Side:
                near, far = _connected(stack, pair)
                names = {"near": near, "buffer": bytearray(SMALL), "data": bytes(SMALL)}
                prepare = functools.partial(_drain if method == "send" else _fill, far)
                return Side(statement, names, prepare)

            times = 40 if method == "send" else 200  # as nobody receives meanwhile
            plain = side(socket.socketpair())
            yield Path(f"Socket.{method}, no stop", side(sockets.socketpair()), plain, times)
            ours = side(sockets.socketpair(stop=StopEvent()))
            yield Path(f"Socket.{method}, own stop", ours, plain, times)
            with use_stop(StopEvent()):
                yield Path(f"Socket.{method}, own and current stop", ours, plain, times)


def _waits() -> Iterator[Path]:
    with ExitStack() as stack:
        near, far = _connected(stack, socket.socketpair())
        far.send(b"x")
        known = {"fd": near.fileno(), "poll": select.poll, "POLLIN": select.POLLIN}
        plain = Side("poller = poll(); poller.register(fd, POLLIN); poller.poll(None)", known)

        def ours(stop: StopEvent | None) -> Side:
            known = {"wait_ready": _wait.wait_ready, "fd": near.fileno(), "READ": _wait.READ, "stop": stop}
            return Side("wait_ready(fd, READ, stop)", known)

        yield Path("wait_ready, no stop", ours(None), plain)
        yield Path("wait_ready, own stop", ours(StopEvent()), plain)
        with use_stop(StopEvent()):
            yield Path("wait_ready, own and current stop", ours(StopEvent()), plain)

        def asking(pair: tuple[Any, Any]) -> Side:
            near, far = _connected(stack, pair)
            near.settimeout(60)

            def answer(times: int) -> None:
                _drain(far)
                _fill(far, times)

            # Ours waits before it receives what answers a request; the plain one does before each call, with a timeout.
            known = {"near": near, "data": bytes(SMALL), "buffer": bytearray(SMALL)}
            return Side("near.send(data); near.recv_into(buffer)", known, answer)

        ask, plain = asking(sockets.socketpair(stop=StopEvent())), asking(socket.socketpair())
        yield Path("Socket.send and recv_into, own stop, timeout", ask, plain, times=20)


def _files(path: str) -> Iterator[Path]:
    with open(path, "wb") as file:
        file.write((bytes(63) + b"\n") * (1 << 14))
    times = io.DEFAULT_BUFFER_SIZE // 64  # so a plain buffer is filled once for so many, and twice for twice as many
    with ExitStack() as stack:

        def reading(statement: str, file: Any) -> Side:
            stack.enter_context(file)
            return Side(statement, {"file": file, "buffer": bytearray(SMALL)}, lambda _times: file.seek(0))

        for name, statement, buffering in (
            ("raw readinto", "file.readinto(buffer)", 0),
            ("raw read", "file.read(64)", 0),
            ("buffered read", "file.read(64)", -1),
            ("readline", "file.readline()", -1),
        ):
            ours = reading(statement, files.open(path, "rb", buffering, stop=StopEvent()))
            plain = reading(statement, open(path, "rb", buffering))  # noqa: SIM115 - the stack closes it
            yield Path(f"files.open, {name}", ours, plain, times)

        plain = reading("file.read(64)", open(path, "rb", 0))  # noqa: SIM115 - as above
        source = stack.enter_context(open(path, "rb", 0))
        chunks = stack.enter_context(closing(files.iter_chunks(source, stop=StopEvent(), chunk_size=64)))
        ours = Side("next(chunks)", {"chunks": chunks}, lambda _times: source.seek(0))
        yield Path("files.iter_chunks, a chunk", ours, plain, times)


def _bodies() -> Iterator[Path]:
    with ExitStack() as stack:

        def body(pair: tuple[Any, Any], size: int, chunks: Callable[[requests.Response], Iterator[bytes]]) -> Side:
            near, far = _connected(stack, pair)
            known = {"chunks": chunks(_response(near, far))}
            return Side("next(chunks)", known, lambda times: far.sendall(bytes(size * times)))

        for name, size, times in (("1 KiB", 1 << 10, 40), ("64 KiB", 1 << 16, 1)):
            plain = body(socket.socketpair(), size, lambda response, size=size: response.iter_content(size))  # type: ignore[misc]
            stop = StopEvent()
            ours = body(
                sockets.socketpair(stop=stop),
                size,
                lambda response, size=size: http.iter_chunks(response, chunk_size=size),  # type: ignore[misc]
            )
            yield Path(f"http.iter_chunks, {name}, the session's stop", ours, plain, times)
            ours = body(
                socket.socketpair(),
                size,
                lambda response, size=size, stop=stop: http.iter_chunks(response, stop=stop, chunk_size=size),  # type: ignore[misc]
            )
            yield Path(f"http.iter_chunks, {name}, of requests' own session", ours, plain, times)


def _response(near: socket.socket, far: socket.socket) -> requests.Response:
    connection = HTTPConnection("localhost")
    connection.sock = near
    connection.request("GET", "/", preload_content=False)
    _drain(far)
    far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
    request = requests.Request("GET", "http://localhost/").prepare()
    return requests.adapters.HTTPAdapter().build_response(request, connection.getresponse())
