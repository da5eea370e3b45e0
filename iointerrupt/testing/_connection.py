"""`Connection`: the server's end of one connection, and how a script is run on it.

Theory of operation. A connection is run by one thread, its own, and everything in it blocks on the server's stop. It has a
place, the steps that are being done from the outermost to the innermost, which other threads read: it is one tuple, which is
replaced.

What a script does ends in one of these ways: all is done, and the connection is closed in order; `_ClientGone` or an error of
the connection, after which it is just closed; `Interrupted` by the server's stop, likewise; any other error, which is a
failure of the test.

An orderly end is: close_notify, FIN, and then what the client still sends is read and dropped until it closes too. A socket
that is closed with unread data in it resets the connection, and that could destroy what has been sent before.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import EllipsisType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from iointerrupt import sockets
from iointerrupt._errors import Interrupted
from iointerrupt._stop import StopEvent
from iointerrupt._types import StopLike
from iointerrupt._wait import READ, WRITE, wait_ready
from iointerrupt.testing._messages import Request, answer_bytes, read_body, read_head
from iointerrupt.testing._script import begins_with_handshake, kind
from iointerrupt.testing._step import Script, Step, name_of

if TYPE_CHECKING:
    from iointerrupt.testing._fault_server import FaultServer

_RECORD_HEADER = 5  # bytes of a TLS record before its content; the last two are the content's length


class ClientGone(ConnectionError):
    """The client has closed the connection before the script was done with it."""


class Place(NamedTuple):
    """A step that is being done."""

    script: Script
    position: int  # from 0
    again: bool  # whether the script will be run once more

    def __str__(self) -> str:
        return f"step {self.position + 1} of {len(self.script)}, {name_of(self.script[self.position])}"

    def is_last(self) -> bool:
        """Whether only marks come behind it."""
        return not self.again and all(kind(step) == "mark" for step in self.script[self.position + 1 :])


class Connection:
    """The server's end of a connection, as a callable in a script gets it. It serves one thread, that of the script.

    Attributes:
        server: the `FaultServer`. What a callable blocks on should be, or follow, `server.stop`.
        number: which connection of the server it is, from 1.
        sock: the socket, an `iointerrupt.sockets.SSLSocket` over TLS. The methods here read ahead of what they return.
        request: the request that was read last, or None.

    All methods raise `Interrupted` when the server ends, and a `ConnectionError` when the client has gone; a callable lets
    both pass, and its connection ends.
    """

    def __init__(self, server: FaultServer, number: int, sock: socket.socket) -> None:
        self.server = server
        self.number = number
        self.sock: socket.socket = sock
        self.request: Request | None = None
        self._places: tuple[Place, ...] = ()
        self._between = "its beginning"  # where it stands when it is at no step
        self._file: Any = None
        self._must_continue = False  # the client waits for a "100 Continue" before it sends the body
        self._client_has_ended = False
        self._has_ended = False  # nothing more is sent
        self._tls: ssl.SSLContext | None = None

    # What callables use

    def read_request(self, *, body: bool = True) -> Request | None:
        """Read a request; None when the client has closed the connection.

        Args:
            body: False to leave its body for `read`; then `Request.body` is empty.

        Raises:
            AssertionError: what came is no request of HTTP.
        """
        file = self._reader()
        request = read_head(file)
        if request is not None:
            self._must_continue = request.headers.get("Expect", "").lower() == "100-continue"
            if body:
                self._continue()
                request = read_body(file, request)
        if request is None:
            self._client_has_ended = True
            return None
        self.request = request
        self.server._add_request(request)
        return request

    def read(self, n: int) -> bytes:
        """Read `n` bytes, as they are on the connection; fewer when the client has closed it."""
        self._continue()
        data: bytes = self._reader().read(n)
        self._client_has_ended |= len(data) < n
        return data

    def read_to_end(self) -> bytes:
        """Read until the client has closed the connection, or its side of it; return what came."""
        self._continue()
        data: bytes = self._reader().read()
        self._client_has_ended = True
        return data

    def send(self, data: bytes) -> None:
        """Send bytes, as they are."""
        self.sock.sendall(data)

    def answer(
        self,
        body: bytes = b"",
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        length: int | EllipsisType | None = ...,
        chunked: bool = False,
    ) -> None:
        """Send a whole response; the arguments are those of `steps.answer`."""
        if self._is_last() and not any(name.lower() == "connection" for name in headers or {}):
            headers = {**(headers or {}), "Connection": "close"}
        self.send(answer_bytes(body, status, headers, length=length, chunked=chunked, to=self.request))

    def mark(self, name: str) -> None:
        """Say for `FaultServer.wait_for` that the script has come to the place of that name."""
        self.server._count(name)

    # What steps use, and the server

    def _where(self) -> str:
        """Where the script stands; for messages."""
        return ": ".join(map(str, self._places)) or self._between

    def _run(self, script: Script, *, again: bool = False) -> None:
        """Do the steps in turn, `again` if the same ones are to be done once more afterwards."""
        outer = self._places
        for position, step in enumerate(script):
            self._places = (*outer, Place(script, position, again))
            self.server.stop.raise_if_set()
            if isinstance(step, Step):
                step.run(self)
                if not step.counts_itself:
                    self.server._count(step.name)
            else:
                step(self)
        self._places = outer

    def _need_request(self, *, body: bool = True) -> Request:
        request = self.read_request(body=body)
        if request is None:
            self._end_as_client_has_gone()
        return request

    def _end_as_client_has_gone(self) -> NoReturn:
        raise ClientGone("the client has closed the connection")

    def _stall(self, name: str, until: StopLike = None, *, of: socket.socket | None = None) -> None:
        """Wait for `FaultServer.resume`, for `until`, or for the client to close the connection (`of`: that socket)."""
        with self.server._stalled(name) as resumed:
            either = StopEvent(self.server.stop, resumed, until)
            try:
                with self._watch_for_end(of or self.sock) as fd:
                    wait_ready(fd, READ, either)
            except Interrupted:
                self.server.stop.raise_if_set()
                return
        self._client_has_ended = True
        self._end_as_client_has_gone()

    @contextmanager
    def _watch_for_end(self, sock: socket.socket) -> Iterator[int]:
        """A descriptor that becomes readable when the client closes the connection, whatever it has sent before."""
        if not hasattr(select, "epoll"):
            reader, writer = socket.socketpair()
            with reader, writer:
                yield reader.fileno()
            return
        # Once it has closed its side, only a reset is news, which is reported in any case.
        with select.epoll() as watch:
            watch.register(sock.fileno(), 0 if self._client_has_ended else select.EPOLLRDHUP)
            yield watch.fileno()

    def _is_last(self) -> bool:
        """Whether the connection is closed right behind the step that is being done; not known of a callable."""
        if not self._places:
            return False
        place = self._places[-1]
        return isinstance(place.script[place.position], Step) and all(place.is_last() for place in self._places)

    def _reader(self) -> Any:
        if self._file is None:
            self._file = self.sock.makefile("rb")
        return self._file

    def _continue(self) -> None:
        if self._must_continue:
            self._must_continue = False
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    # Beginning and end

    def _serve(self, script: Script, tls: ssl.SSLContext | None) -> None:
        """Run the script from beginning to end; leaves it to `_drop` to close the socket."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls = tls
        if tls is not None and begins_with_handshake(script):
            self._between = "the TLS handshake"
            self._handshake()
            self.server._count("handshake")
        self._run(script)
        self._between = "its end: closed here, not yet by the client"
        if self.sock.fileno() >= 0:
            if not self._has_ended:
                self._end_sending()
            while self.sock.recv(65536):
                pass

    def _handshake(self, *, stalling: bool = False) -> None:
        # Not context.wrap_socket, which would need the context changed to make these.
        sock = sockets.SSLSocket._create(self.sock, server_side=True, do_handshake_on_connect=False, context=self._tls)
        self.sock = sock
        if stalling:
            self._begin_handshake(sock)
        sock.do_handshake()

    def _begin_handshake(self, sock: ssl.SSLSocket) -> None:
        """Answer the ClientHello, but with a stall in the middle of the answer."""
        with _swapped(sock.fileno(), self.server.stop) as (wire, openssl):
            flight = b""
            while not flight:
                openssl.sendall(_read_record(wire))
                sock.settimeout(0)
                try:
                    sock.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                sock.settimeout(None)
                flight = _pending(openssl)
            half = len(flight) // 2
            wire.sendall(flight[:half])
            self._stall("stall_handshake", of=wire)
            wire.sendall(flight[half:])

    def _end_sending(self, *, notify: bool = True) -> None:
        """Send what tells the client that nothing more comes."""
        self._has_ended = True
        if self._tls is not None and notify:
            self._send_close_notify()
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._end_as_client_has_gone()

    def _send_close_notify(self) -> None:
        sock: Any = self.sock
        sock.settimeout(0)
        while True:
            try:
                sock.unwrap()
                return
            except ssl.SSLWantWriteError:
                wait_ready(sock.fileno(), WRITE, self.server.stop)
            except ssl.SSLError:
                return  # it is sent; the client's has not come, for which nobody waits, or there was data in its place
            finally:
                sock.settimeout(None)

    def _reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._drop()

    def _drop(self) -> None:
        """Close the socket, whatever is under way."""
        if self._file is not None:
            self._file.close()
        self.sock.close()


@contextmanager
def _swapped(fd: int, stop: StopEvent) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Have `fd` be one end of a socket pair for the length of the block; gives what it was, and the other end.

    What uses `fd`, and knows no more of its connection than that number, can so be listened to and fed: OpenSSL.
    """
    near, far = sockets.socketpair(stop=stop)
    with near, far, sockets.Socket(fileno=os.dup(fd), stop=stop) as wire:
        os.dup2(near.fileno(), fd, inheritable=False)
        try:
            yield wire, far
        finally:
            os.dup2(wire.fileno(), fd, inheritable=False)


def _read_record(sock: socket.socket) -> bytes:
    """A record of TLS, as it is on the wire."""
    try:
        header = sockets.recv_exactly(sock, _RECORD_HEADER)
        return header + sockets.recv_exactly(sock, int.from_bytes(header[3:], "big"))
    except sockets.IncompleteRead as error:
        raise ClientGone("the client has closed the connection in its handshake") from error


def _pending(sock: socket.socket) -> bytes:
    """What has come, without waiting for more."""
    before = sock.gettimeout()
    sock.settimeout(0.0)
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return b""
    finally:
        sock.settimeout(before)
