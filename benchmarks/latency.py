"""How soon a blocked operation ends after `set()`, against how soon `threading.Event.wait` itself wakes.

Both are taken in turn: one wake-up of a thread in `Event.wait`, one stop of a thread in the operation. The time runs from
just before `set()` to the first line of the thread's `except Interrupted`.
"""

from __future__ import annotations

import os
import socket
import ssl
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from benchmarks.measure import Row
from iointerrupt import Interrupted, StopEvent, StopLike, files, http, sockets
from iointerrupt.testing import wait_until_blocked

ROUNDS = 150

#: Blocks until its stop is set.
Block = Callable[[StopLike], object]


def measure() -> Iterator[Row]:
    """A row for each operation and kind of stop."""
    yield from measure_each(OPERATIONS)


def measure_each(operations: dict[str, Callable[[], AbstractContextManager[Block]]]) -> Iterator[Row]:
    """A row for each of these operations and each kind of stop."""
    for name, make in operations.items():
        for kind in (StopEvent, threading.Event):
            with make() as block:
                stops, wakes = [], []
                for _ in range(ROUNDS):
                    wakes.append(_wake_of_event_wait())
                    stops.append(_stop_of(block, kind()))
            yield _row(f"{name}, {kind.__name__}", stops, wakes, through_requests=name.startswith("http"))


def _row(what: str, stops: list[float], wakes: list[float], *, through_requests: bool) -> Row:
    median = statistics.median(stops)
    p99 = sorted(stops)[int(len(stops) * 0.99)]
    ratio = median / statistics.median(wakes)
    note = f"median {median * 1e6:.0f} us, p99 {p99 * 1e6:.0f} us; Event.wait {statistics.median(wakes) * 1e6:.0f} us"
    if through_requests:
        return Row(what, median * 1e3, "ms", "< 0.5", median < 0.0005 and p99 < 0.010, note)
    return Row(what, ratio, "x", "<= 3", ratio <= 3 and p99 < 0.010, note)


def _wake_of_event_wait() -> float:
    event = threading.Event()
    woken: list[float] = []

    def wait() -> None:
        event.wait()
        woken.append(time.perf_counter())

    return _time_from_set(threading.Thread(target=wait), event.set, lambda: None, woken)


def _stop_of(block: Block, stop: StopEvent | threading.Event) -> float:
    stopped: list[float] = []

    def run() -> None:
        try:
            block(stop)
        except Interrupted:
            stopped.append(time.perf_counter())

    return _time_from_set(threading.Thread(target=run), stop.set, lambda: wait_until_blocked(stop), stopped)


def _time_from_set(
    thread: threading.Thread, set_: Callable[[], object], ready: Callable[[], object], ended: list[float]
) -> float:
    thread.start()
    ready()
    time.sleep(0.002)  # asleep in the kernel by now, and the interpreter idle: that is the case that counts
    began = time.perf_counter()
    set_()
    thread.join(10)
    return ended[0] - began


@contextmanager
def _receive() -> Iterator[Block]:
    near, far = sockets.socketpair()

    def block(stop: StopLike) -> object:
        near.stop = stop
        return near.recv(1)

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
def _server(answer: bytes) -> Iterator[str]:
    """A server that answers each request so far, and then says nothing more."""
    stop = StopEvent()
    with sockets.create_server(("127.0.0.1", 0), stop=stop) as listener:

        def serve() -> None:
            with ExitStack() as connections:
                try:
                    while True:
                        connection = connections.enter_context(listener.accept()[0])
                        connection.recv(65536)
                        connection.sendall(answer)
                except Interrupted:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        yield "http://{}:{}/".format(*listener.getsockname())
        stop.set()
        thread.join(10)


@contextmanager
def _http_headers() -> Iterator[Block]:
    with _server(b"") as url, http.Session() as session:

        def block(stop: StopLike) -> object:
            session.stop = stop
            return session.get(url)

        yield block


@contextmanager
def _http_body() -> Iterator[Block]:
    with _server(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345") as url, http.Session() as session:

        def block(stop: StopLike) -> object:
            session.stop = stop
            return session.get(url).content

        yield block


OPERATIONS: dict[str, Callable[[], AbstractContextManager[Block]]] = {
    "socket receive": _receive,
    "socket accept": _accept,
    "pipe read": _pipe,
    "FIFO read": _fifo,
    "TLS handshake": _tls_handshake,
    "http, headers": _http_headers,
    "http, body": _http_body,
}
