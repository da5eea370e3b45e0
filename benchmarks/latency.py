"""How soon a blocked operation ends after a stop: `python -m benchmarks latency`.

First against what a user would take instead, in receiving from a socket (`latency_peers`) and in an HTTP body
(`latency_http`); then each of our operations with each kind of stop, against how soon `threading.Event.wait` itself wakes.
Callables are left out, since they are asked now and then, and so are deadlines, which nobody sets.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from benchmarks import latency_http, latency_peers
from benchmarks.latency_timing import (
    FLOOR,
    Attempt,
    Ready,
    event_wait,
    moment_of,
    time_of_stop,
    timed,
)
from benchmarks.measure import Comparison, Run, in_turn
from iointerrupt import Interrupted, StopEvent, StopLike, files, http, sockets

ROUNDS = 100
_QUICK = 5

#: Blocks until its stop is set.
Block = Callable[[StopLike], object]

#: By name, what makes it ready to block as often as is asked for.
Operations = Mapping[str, Callable[[], AbstractContextManager[Block]]]

#: Makes a stop, and what sets it.
MakeStop = Callable[[], tuple[StopLike, Callable[[], object]]]


def measure(*, quick: bool) -> Iterator[Comparison]:
    """The peers, and then each operation and kind of stop."""
    yield from latency_peers.compare(quick=quick)
    yield from latency_http.compare(quick=quick)
    # The targets are those of sockets, pipes and files: what a stop of HTTP takes is compared with other clients.
    yield from measure_each(OPERATIONS, quick=quick, least=0.5)
    yield from measure_each(HTTP_OPERATIONS, quick=quick)


def measure_each(
    operations: Operations,
    *,
    quick: bool,
    least: float | None = None,
    rounds: int = ROUNDS,
    period: float = 0.0,
) -> Iterator[Comparison]:
    """Each of these operations with each kind of stop, which has to be `least` times as good as the floor."""
    for name, make in operations.items():
        for kind, (make_stop, floor) in KINDS.items():
            with make() as block:
                attempt = Attempt(_blocking(block, make_stop), period)
                runs: dict[str, Run] = {"iointerrupt": functools.partial(time_of_stop, attempt)}
                runs |= {each: timed(FLOORS[each]) for each in dict.fromkeys((FLOOR, floor))}
                samples = in_turn(runs, _QUICK if quick else rounds)
            targets = {} if least is None else {floor: least}
            yield Comparison(f"{name}, stopped by a {kind}", "s", samples, least=targets)


def _blocking(block: Block, make_stop: MakeStop) -> Callable[[Ready], float]:
    def run(ready: Ready) -> float:
        stop, set_ = make_stop()
        ready(set_)
        return moment_of(Interrupted, lambda: block(stop))

    return run


def _own() -> tuple[StopLike, Callable[[], object]]:
    stop = StopEvent()
    return stop, stop.set


def _child() -> tuple[StopLike, Callable[[], object]]:
    parent = StopEvent()
    return StopEvent(parent), parent.set


def _plain() -> tuple[StopLike, Callable[[], object]]:
    stop = threading.Event()
    return stop, stop.set


def _shared() -> tuple[StopLike, Callable[[], object]]:
    stop = multiprocessing.Event()
    return stop, stop.set


_SHARED_FLOOR = "multiprocessing.Event.wait"

#: What a thread that waits for an event itself takes to wake.
FLOORS: dict[str, Callable[[], Attempt]] = {
    FLOOR: event_wait,
    _SHARED_FLOOR: functools.partial(event_wait, multiprocessing.Event),
}

#: By name, what makes a stop, and the floor that it has: an event of several processes takes its time before anyone wakes.
KINDS: dict[str, tuple[MakeStop, str]] = {
    "StopEvent": (_own, FLOOR),
    "child of a StopEvent": (_child, FLOOR),
    "threading.Event": (_plain, FLOOR),
    "multiprocessing.Event": (_shared, _SHARED_FLOOR),
}


@contextmanager
def _receive() -> Iterator[Block]:
    near, far = sockets.socketpair()

    def block(stop: StopLike) -> object:
        near.stop = stop
        return near.recv(1)

    with near, far:
        yield block


@contextmanager
def _send() -> Iterator[Block]:
    near, far = sockets.socketpair()

    def block(stop: StopLike) -> None:
        near.stop = stop
        near.sendall(bytes(1 << 22))  # more than fits in between

    with near, far:
        yield block


@contextmanager
def _accept() -> Iterator[Block]:
    with sockets.create_server(("127.0.0.1", 0)) as listener:

        def block(stop: StopLike) -> object:
            listener.stop = stop
            return listener.accept()

        yield block


@contextmanager
def _pipe() -> Iterator[Block]:
    reader, writer = os.pipe()
    with files.wrap(reader) as raw, os.fdopen(writer, "wb"):

        def block(stop: StopLike) -> object:
            raw.stop = stop
            return raw.read(1)

        yield block


@contextmanager
def _pipe_write() -> Iterator[Block]:
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb"), files.wrap(writer) as raw:

        def block(stop: StopLike) -> None:
            raw.stop = stop
            while True:
                raw.write(bytes(1 << 16))

        yield block


@contextmanager
def _fifo_open() -> Iterator[Block]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fifo")
        os.mkfifo(path)
        yield lambda stop: files.open(path, "rb", stop=stop)


@contextmanager
def _fifo() -> Iterator[Block]:
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fifo")
        os.mkfifo(path)
        keeper = os.open(path, os.O_RDWR)
        with files.open(path, "rb") as fifo:

            def block(stop: StopLike) -> object:
                fifo.stop = stop
                return fifo.read(1)

            yield block
        os.close(keeper)


@contextmanager
def _tls_handshake() -> Iterator[Block]:
    context = ssl.create_default_context()
    context.sslsocket_class = sockets.SSLSocket
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = context.wrap_socket(
            sockets.create_connection(silent.getsockname()),
            server_hostname="localhost",
            do_handshake_on_connect=False,
        )

        def block(stop: StopLike) -> None:
            connection.stop = stop  # type: ignore[attr-defined]  # of the context's class
            connection.do_handshake()  # can be gone on with after each stop

        with connection:
            yield block


@contextmanager
def _http_headers() -> Iterator[Block]:
    with latency_http.answering(b"") as url, http.Session() as session:

        def block(stop: StopLike) -> object:
            session.stop = stop
            return session.get(url)

        yield block


@contextmanager
def _http_body() -> Iterator[Block]:
    with (
        latency_http.answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345") as url,
        http.Session() as session,
    ):

        def block(stop: StopLike) -> object:
            session.stop = stop
            return session.get(url).content

        yield block


OPERATIONS: Operations = {
    "socket receive": _receive,
    "socket send": _send,
    "socket accept": _accept,
    "pipe read": _pipe,
    "pipe write": _pipe_write,
    "FIFO open": _fifo_open,
    "FIFO read": _fifo,
    "TLS handshake": _tls_handshake,
}

HTTP_OPERATIONS: Operations = {
    "http, headers": _http_headers,
    "http, body": _http_body,
}
