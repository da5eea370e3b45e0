"""The demonstration: seven ways to be blocked, one plain `threading.Event`, and what the usual loop does beside it.

Each scenario has a peer that never finishes what it began (a server that goes silent, a FIFO whose writer pauses, a file
too large to be read meanwhile) and two workers that do the same work on it: one written with this library, one written
as programs usually are, with the standard classes and a look at the event after each operation. The event is set once.
Everything that is shown is measured, the usual loop's fate included.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO

import requests

from iointerrupt import files, http, sockets
from iointerrupt._errors import Interrupted
from iointerrupt._signal.blocked import blocked_threads
from iointerrupt._stop import StopEvent, as_stop

# What each peer sends before it goes silent.
SENT = 256 * 1024
# Sparse, so it takes no space; hashing it takes seconds, and both workers are in the middle of that when the stop comes.
FILE_SIZE = 64 << 30

HEADERS = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"


@dataclass
class Row:
    """What became of one scenario.

    Attributes:
        operation: what the workers were blocked in.
        moved: bytes that this library's worker had when the stop came.
        stopped_after: seconds from the event's `set()` to the end of that worker; None if it did not stop.
        failure: what else ended this library's worker, if something did.
        usual_blocked_for: seconds from the `set()` for which the usual loop was still blocked, when it was last looked
            at; None if it had ended.
    """

    operation: str
    moved: int = 0
    stopped_after: float | None = None
    failure: str | None = None
    usual_blocked_for: float | None = None

    def as_json(self) -> dict[str, Any]:
        """The row as the demonstration's `--json` prints it."""
        return asdict(self)


#: Work on what blocks; tells how many bytes have come by calling its argument with each further number.
Work = Callable[[Callable[[int], object]], object]


class Worker:
    """One thread doing one scenario's work until it is stopped."""

    def __init__(self, name: str, work: Work) -> None:
        self.moved = 0
        self.interrupted_at: float | None = None
        self.error: BaseException | None = None
        self._work = work
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def _count(self, size: int) -> None:
        self.moved += size

    def _run(self) -> None:
        try:
            self._work(self._count)
        except Interrupted:
            self.interrupted_at = time.perf_counter()
        except Exception as error:  # noqa: BLE001 - the usual worker fails somehow when its peer is finally closed
            self.error = error


class Server:
    """A loopback server whose every connection gets `greeting`, and then silence."""

    def __init__(self, resources: ExitStack, greeting: bytes = b"", *, expect_request: bool = False) -> None:
        self._stop = StopEvent()
        self._greeting = greeting
        self._expect_request = expect_request
        self._listener = resources.enter_context(sockets.create_server(("127.0.0.1", 0), stop=self._stop))
        self.address: tuple[str, int] = self._listener.getsockname()
        self.url = "http://{}:{}/".format(*self.address)
        thread = threading.Thread(target=self._serve, name="demo-server", daemon=True)
        thread.start()
        resources.callback(thread.join)
        resources.callback(self._stop.set)

    def _serve(self) -> None:
        with ExitStack() as connections:
            try:
                while True:
                    connection = connections.enter_context(self._listener.accept()[0])
                    if self._expect_request:
                        connection.recv(65536)
                    connection.sendall(self._greeting)
            except Interrupted:
                return  # closing the connections ends whoever is still blocked on them


def run(settle: float = 0.2, look_after: float = 0.5) -> list[Row]:
    """Block, stop, and report.

    Args:
        settle: seconds that the workers have to take what their peers send, once all are busy.
        look_after: seconds after the stop at which to see what the usual loops are doing.
    """
    event = threading.Event()
    with ExitStack() as resources:
        folder = resources.enter_context(tempfile.TemporaryDirectory(prefix="iointerrupt-demo-"))
        scenarios = _scenarios(event, folder, resources)
        ours = [Worker(name, work) for name, work, _ in scenarios]
        usual = [Worker(f"usual: {name}", work) for name, _, work in scenarios]
        _wait_until_busy(event, ours)
        time.sleep(settle)
        set_at = time.perf_counter()
        event.set()
        for worker in ours:
            worker.thread.join(5)
        time.sleep(max(0.0, set_at + look_after - time.perf_counter()))
        rows = []
        for (name, _, _), our, other in zip(scenarios, ours, usual, strict=True):
            looked_at = time.perf_counter()
            rows.append(
                Row(
                    operation=name,
                    moved=our.moved,
                    stopped_after=None if our.interrupted_at is None else our.interrupted_at - set_at,
                    failure=None if our.error is None else repr(our.error),
                    usual_blocked_for=looked_at - set_at if other.thread.is_alive() else None,
                )
            )
    # Their peers are gone now, and with them what they were blocked on.
    for worker in (*ours, *usual):
        worker.thread.join(10)
    return rows


def _wait_until_busy(event: threading.Event, workers: list[Worker]) -> None:
    stop = as_stop(event)
    give_up = time.monotonic() + 10
    while stop is not None and time.monotonic() < give_up:
        # All but the one that reads the file, which is never blocked, only busy.
        if len(blocked_threads(stop)) >= len(workers) - 1:
            return
        time.sleep(0.005)


def _scenarios(event: threading.Event, folder: str, resources: ExitStack) -> list[tuple[str, Work, Work]]:
    """Name, the work with this library, and the work as it is usually done."""
    return [
        ("read of a FIFO", *_fifo(event, folder, resources)),
        ("read of a large file", *_large_file(event, folder, resources)),
        ("HTTP body that stalls", *_http_body(event, resources)),
        ("HTTP headers that never come", *_http_headers(event, resources)),
        ("TLS handshake that never ends", *_tls_handshake(event, resources)),
        ("socket receive", *_receive(event, resources)),
        ("socket accept", *_accept(event, resources)),
    ]


def _fifo(event: threading.Event, folder: str, resources: ExitStack) -> tuple[Work, Work]:
    paths = []
    for name in ("ours", "usual"):
        path = os.path.join(folder, name)
        os.mkfifo(path)
        paths.append(path)
        # Open for both, so that neither end waits for the other; it is filled as far as it goes without blocking.
        keeper = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        resources.callback(os.close, keeper)
        os.write(keeper, bytes(32 * 1024))

    def ours(count: Callable[[int], object]) -> None:
        with files.open(paths[0], "rb", stop=event) as fifo:
            while chunk := fifo.read1(65536):
                count(len(chunk))

    def usual(count: Callable[[int], object]) -> None:
        with open(paths[1], "rb") as fifo:
            while not event.is_set() and (chunk := fifo.read1(65536)):
                count(len(chunk))

    def release() -> None:
        with open(paths[1], "r+b", buffering=0) as fifo:
            fifo.write(b"\0")  # the usual loop looks at the event after this

    resources.callback(release)
    return ours, usual


def _large_file(event: threading.Event, folder: str, resources: ExitStack) -> tuple[Work, Work]:
    path = os.path.join(folder, "large")
    with open(path, "wb") as file:
        file.truncate(FILE_SIZE)
    resources.callback(os.truncate, path, 0)  # ends whoever is still reading

    class Counted:
        """Passes reads on and counts what they bring; `hashlib.file_digest` asks for no more than this of a file."""

        def __init__(self, file: BinaryIO, count: Callable[[int], object]) -> None:
            self._file = file
            self._count = count

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            size: int = self._file.readinto(buffer)  # type: ignore[attr-defined]
            self._count(size)
            return size

    def ours(count: Callable[[int], object]) -> None:
        with files.open(path, "rb", stop=event) as file:
            hashlib.file_digest(Counted(file, count), "sha256")

    def usual(count: Callable[[int], object]) -> None:
        with open(path, "rb") as file:
            while not event.is_set():
                hashlib.file_digest(Counted(file, count), "sha256")

    return ours, usual


def _http_body(event: threading.Event, resources: ExitStack) -> tuple[Work, Work]:
    server = Server(resources, HEADERS + bytes(SENT), expect_request=True)

    def ours(count: Callable[[int], object]) -> None:
        with http.Session(stop=event) as session:
            session.trust_env = False  # a proxy of the environment's would not reach this machine's loopback
            for chunk in http.iter_chunks(session.get(server.url, stream=True)):
                count(len(chunk))

    def usual(count: Callable[[int], object]) -> None:
        with _plain_session() as session, session.get(server.url, stream=True) as response:
            for chunk in response.iter_content(65536):
                count(len(chunk))
                if event.is_set():
                    return

    return ours, usual


def _plain_session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    return session


def _http_headers(event: threading.Event, resources: ExitStack) -> tuple[Work, Work]:
    server = Server(resources, expect_request=True)

    def ours(_count: Callable[[int], object]) -> None:
        with http.Session(stop=event) as session:
            session.trust_env = False
            session.get(server.url)

    def usual(_count: Callable[[int], object]) -> None:
        while not event.is_set():
            with _plain_session() as session:
                session.get(server.url)

    return ours, usual


def _tls_handshake(event: threading.Event, resources: ExitStack) -> tuple[Work, Work]:
    server = Server(resources)

    def ours(_count: Callable[[int], object]) -> None:
        context = ssl.create_default_context()
        context.sslsocket_class = sockets.SSLSocket
        with sockets.create_connection(server.address, stop=event) as connection:
            context.wrap_socket(connection, server_hostname="localhost")

    def usual(_count: Callable[[int], object]) -> None:
        with socket.create_connection(server.address) as connection:
            ssl.create_default_context().wrap_socket(connection, server_hostname="localhost")

    return ours, usual


def _receive(event: threading.Event, resources: ExitStack) -> tuple[Work, Work]:
    server = Server(resources, bytes(SENT))

    def ours(count: Callable[[int], object]) -> None:
        with sockets.create_connection(server.address, stop=event) as connection:
            while chunk := connection.recv(65536):
                count(len(chunk))

    def usual(count: Callable[[int], object]) -> None:
        with socket.create_connection(server.address) as connection:
            while not event.is_set() and (chunk := connection.recv(65536)):
                count(len(chunk))

    return ours, usual


def _accept(event: threading.Event, resources: ExitStack) -> tuple[Work, Work]:
    listener = resources.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
    resources.callback(lambda: socket.create_connection(listener.getsockname()).close())

    def ours(_count: Callable[[int], object]) -> None:
        with sockets.create_server(("127.0.0.1", 0), stop=event) as server:
            server.accept()

    def usual(_count: Callable[[int], object]) -> None:
        while not event.is_set():
            listener.accept()[0].close()

    return ours, usual
