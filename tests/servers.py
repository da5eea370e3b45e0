"""Loopback servers that do what a test tells them, and end with it.

A `Server` runs a script, a function of a `Peer`, for each connection that comes. Everything in it blocks on the server's
own stop, so that leaving its block ends it, wherever its scripts stand.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from email.message import Message
from types import TracebackType
from typing import NamedTuple, Self

from iointerrupt import Interrupted, StopEvent, sockets


class Request(NamedTuple):
    """What a client sent."""

    method: str
    path: str
    headers: Message
    body: bytes


class Peer:
    """The server's end of one connection."""

    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock
        self.file = sock.makefile("rb")

    def head(self) -> Request | None:
        """Read a request without its body; None when the client has closed the connection."""
        line = self.file.readline().decode()
        if not line:
            return None
        method, path, _ = line.split()
        return Request(method, path, http.client.parse_headers(self.file), b"")

    def request(self) -> Request | None:
        """Read a request whose body, if it has one, has a `Content-Length`."""
        head = self.head()
        if head is None:
            return None
        return head._replace(body=self.file.read(int(head.headers.get("Content-Length", 0))))

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def answer(
        self,
        body: bytes = b"",
        *,
        status: str = "200 OK",
        headers: Mapping[str, str] | None = None,
        length: int | None = -1,
    ) -> None:
        """Send a response; `length` is what it says of the body, None for nothing."""
        lines = [f"HTTP/1.1 {status}"]
        if length is not None:
            lines.append(f"Content-Length: {len(body) if length == -1 else length}")
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def until_closed(self) -> None:
        """Block until the client closes the connection."""
        while self.file.read1(65536):
            pass


Script = Callable[[Peer], object]


class Server:
    """Listens on a port of 127.0.0.1 and runs `script` for each connection, in a thread of its own.

    Args:
        script: called with the `Peer`; the connection is closed when it returns.
        tls: wrap each connection with this, before the script has it.
    """

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self.stop = StopEvent()
        self.connections = 0
        #: For scripts to say how far they are.
        self.reached = threading.Event()
        self._script = script
        self._tls = tls
        if tls is not None:
            tls.sslsocket_class = sockets.SSLSocket
        self._errors: list[BaseException] = []
        self._threads: list[threading.Thread] = []
        self._listener = sockets.create_server(("127.0.0.1", 0), stop=self.stop)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop.set("end of test")
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a server's thread is still blocked"
        self._listener.close()
        if error is None and self._errors:
            raise self._errors[0]

    def _start(self, function: Callable[..., object], *args: object) -> None:
        thread = threading.Thread(target=self._run, args=(function, *args), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, function: Callable[..., object], *args: object) -> None:
        try:
            function(*args)
        except (Interrupted, ConnectionError, ssl.SSLError):
            pass  # the test is over, or the client has gone, as interrupted clients do
        except BaseException as error:
            self._errors.append(error)

    def _accept(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            self.connections += 1
            self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with sock:
            if self._tls is None:
                self._talk(sock)
            else:
                with self._tls.wrap_socket(sock, server_side=True) as encrypted:
                    self._talk(encrypted)

    def _talk(self, sock: socket.socket) -> None:
        peer = Peer(self, sock)
        with peer.file:
            self._script(peer)


def always(body: bytes = b"hello", **answer: object) -> Script:
    """A script that answers every request in the same way, and keeps the connection."""

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.answer(body, **answer)  # type: ignore[arg-type]  # passed on as it is

    return script


def in_turn(*scripts: Script) -> Script:
    """A script that is another one for each connection."""
    rest = iter(scripts)

    def script(peer: Peer) -> None:
        next(rest)(peer)

    return script


def stall(peer: Peer) -> None:
    """A script that reads a request and never answers."""
    peer.request()
    peer.server.reached.set()
    peer.until_closed()


def stall_in_body(peer: Peer) -> None:
    """A script that stops answering in the middle of the body."""
    peer.request()
    peer.answer(b"half", length=8)
    peer.server.reached.set()
    peer.until_closed()
