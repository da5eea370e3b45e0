"""Sockets that stop: what `socket` and `ssl` have that blocks, with the same names and types.

`Socket` is in `_sockets.socket`, over `_sockets.base`, and `SSLSocket` in `_sockets.tls`. Here are the functions that make them, and two that read from any
socket, also one that other code made.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from iointerrupt._errors import Interrupted, ResourceBusy, Stalled
from iointerrupt._sockets.base import NOWAIT, StandardSocket, parse_timeout
from iointerrupt._sockets.dns import AddressInfo, getaddrinfo, lookup
from iointerrupt._sockets.sending import SendTimeout
from iointerrupt._sockets.socket import Socket
from iointerrupt._sockets.tls import SSLSocket
from iointerrupt._stop import StopEvent, as_stop, check_timeout
from iointerrupt._types import StopLike
from iointerrupt._wait import READ, WRITE, check, wait_ready

__all__ = [
    "Chunks",
    "IncompleteRead",
    "SSLSocket",
    "SendTimeout",
    "Socket",
    "create_connection",
    "create_server",
    "getaddrinfo",
    "iter_chunks",
    "recv_exactly",
    "socketpair",
    "wrap",
]

_DEFAULT_TIMEOUT: Any = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]  # as in the standard signature

# The standard ones, also where a program has put those of this module in their place.
_create_server, _socketpair = socket.create_server, socket.socketpair

_NONBLOCKING = int(getattr(socket, "SOCK_NONBLOCK", 0))  # not on every platform

# A timeout of many addresses is shared out among them, but none gets less than this (seconds).
_LEAST_SHARE = 2.0


class IncompleteRead(EOFError):
    """The stream ended before `recv_exactly` had what it was asked for; if by an error, that is the `__cause__`.

    Attributes:
        partial: the bytes that came before the end.
        expected: how many were wanted.
    """

    def __init__(self, partial: bytes, expected: int) -> None:
        super().__init__(f"the stream ended after {len(partial)} of {expected} bytes")
        self.partial = partial
        self.expected = expected

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.partial, self.expected)


def create_connection(
    address: tuple[str | None, int | str],
    timeout: float | None = _DEFAULT_TIMEOUT,
    source_address: tuple[str, int] | None = None,
    *,
    all_errors: bool = False,
    stop: StopLike = None,
) -> Socket:
    """`socket.create_connection`, which a stop ends in every phase, the lookup of the name included.

    Args:
        address: host and port.
        timeout: seconds for all of it, lookup and all addresses together, where the standard function grants them to
            each address; and the timeout of the socket that is returned. Every address gets its share of what is left.
            None for no limit; by default `socket.getdefaulttimeout()`.
        source_address: host and port to bind to first.
        all_errors: raise all addresses' errors as an `ExceptionGroup`, not the last one.
        stop: the stop of the socket that is returned, which also ends the connecting, as the current stop does.

    Raises:
        Interrupted: a stop was set; nothing is left open.
        TimeoutError, OSError: as the standard function.
    """
    own = as_stop(stop)
    host, port = address
    seconds = socket.getdefaulttimeout() if timeout is _DEFAULT_TIMEOUT else parse_timeout(timeout)
    deadline = time.monotonic() + seconds if seconds else None
    found = lookup(host, port, 0, socket.SOCK_STREAM, own=own, deadline=deadline)
    if not found:
        raise OSError("getaddrinfo returns an empty list")
    errors: list[OSError] = []
    for done, info in enumerate(found):
        try:
            return _connect_to(info, seconds, source_address, own, _share(deadline, len(found) - done))
        except OSError as error:
            errors.append(error)
    try:
        if all_errors:
            raise ExceptionGroup("create_connection failed", errors)
        raise errors[-1]
    finally:
        errors.clear()  # they refer to this frame


def _connect_to(
    info: AddressInfo,
    timeout: float | None,
    source_address: tuple[str, int] | None,
    own: StopEvent | None,
    deadline: float | None,
) -> Socket:
    family, kind, proto, _, address = info
    sock = Socket(family, kind, proto, stop=own)
    try:
        sock.settimeout(timeout)
        if source_address:
            sock.bind(source_address)
        sock._ii_connect_or_raise(address, own, deadline)
    except BaseException:
        sock.close()
        raise
    return sock


def _share(deadline: float | None, addresses: int) -> float | None:
    # What remains, by the addresses that remain. A small share is rounded up: better one serious attempt than many short.
    if deadline is None:
        return None
    now = time.monotonic()
    remaining = deadline - now
    return now + max(remaining / addresses, min(_LEAST_SHARE, remaining))


def create_server(
    address: tuple[Any, ...],
    *,
    family: int = socket.AF_INET,
    backlog: int | None = None,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
    stop: StopLike = None,
) -> Socket:
    """`socket.create_server`: a listener, whose connections get its stop. See `Socket.accept`."""
    own = as_stop(stop)
    return _adopt(
        _create_server(address, family=family, backlog=backlog, reuse_port=reuse_port, dualstack_ipv6=dualstack_ipv6),
        own,
    )


def socketpair(
    family: int | None = None,
    type: int = socket.SOCK_STREAM,  # noqa: A002 - the standard library's name for it
    proto: int = 0,
    *,
    stop: StopLike = None,
) -> tuple[Socket, Socket]:
    """`socket.socketpair`: two connected sockets, both with the same stop."""
    own = as_stop(stop)
    # The default family differs between platforms, and the standard function knows it.
    one, other = _socketpair(type=type, proto=proto, **({} if family is None else {"family": family}))
    return _adopt(one, own), _adopt(other, own)


def wrap(sock: socket.socket, *, stop: StopLike = None) -> Socket:
    """Make a socket that other code made a `Socket`.

    Args:
        sock: the socket; it is closed as an object (`detach`), and its descriptor goes on in the one that is returned. A
            `Socket` is returned as it is, with the new stop.
        stop: what ends its operations, besides the current stop.

    Raises:
        TypeError: it is no socket, or one with TLS that is not an `SSLSocket` of this module.
        OSError: EBADF, it is closed.

    Whether the descriptor is in blocking mode is left alone, as other processes may share it; see `Socket.accept` for
    what that means to a listener.
    """
    own = as_stop(stop)
    _check_socket(sock)
    if isinstance(sock, Socket):
        sock._ii_stop = own
        return sock
    if isinstance(sock, ssl.SSLSocket):
        raise TypeError(
            "cannot wrap a socket that speaks TLS already: set context.sslsocket_class = iointerrupt.sockets.SSLSocket"
            " before context.wrap_socket(), and wrap() what you pass to that"
        )
    return _take_over(sock, own)


def _adopt(sock: socket.socket, own: StopEvent | None) -> Socket:
    """Like `wrap`, for a socket that has just been made here."""
    adopted = _take_over(sock, own)
    adopted._ii_make_nonblocking()
    return adopted


def _take_over(sock: socket.socket, own: StopEvent | None) -> Socket:
    taken = _over_descriptor(sock, sock.fileno(), own)
    taken.settimeout(sock.gettimeout())
    sock.detach()
    return taken


def _over_descriptor(sock: socket.socket, fd: int, own: StopEvent | None = None) -> Socket:
    """A `Socket` of the kind of `sock` over a descriptor, whose mode it leaves alone."""
    # With a default timeout the standard constructor makes the descriptor non-blocking, unless it is said to be so already.
    blocking = not NOWAIT or os.get_blocking(fd)
    made = Socket(sock.family, sock.type | _NONBLOCKING, sock.proto, fd, stop=own)
    if not _NONBLOCKING and NOWAIT:
        os.set_blocking(fd, blocking)
    return made


def _check_socket(sock: object) -> None:
    if not isinstance(sock, StandardSocket):
        raise TypeError(f"sock must be a socket.socket, not {type(sock).__name__}")
    if sock.fileno() < 0:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


# Reading from any socket


def iter_chunks(
    sock: socket.socket, *, stop: StopLike = None, chunk_size: int = 65536, timeout: float | None = None
) -> Chunks:
    """Yield what arrives on a socket, until the other side ends the stream.

    Args:
        sock: any `socket.socket`; it stays open. Another one than a `Socket` is not changed, except that one with TLS is
            non-blocking during each attempt to read, so that meanwhile no other thread may use it.
        stop: what ends the iteration, besides the socket's own stop, if it has one, and the current stop.
        chunk_size: the most bytes of one chunk.
        timeout: seconds to wait for each chunk. None: the socket's own timeout; no limit where that is None or 0.

    Raises:
        Interrupted: a stop was set. All chunks that were taken from the socket have been yielded, and the same iterator
            goes on with the next one once the stop is cleared.
        TimeoutError: nothing came in time; likewise, and `next` waits once more.
        ResourceBusy: another thread is in the same iterator.
        TypeError, ValueError, OSError: an argument is wrong, or the socket is closed; at once, not at the first chunk.

    A datagram socket has no end: an empty datagram is an empty chunk. `close()` ends the iteration early.
    """
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
        raise TypeError(f"chunk_size must be an int, not {type(chunk_size).__name__}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be 1 or more, not {chunk_size}")
    return Chunks(_Receiver(sock, stop, timeout), chunk_size, endless=sock.type == socket.SOCK_DGRAM)


class Chunks(Iterator[bytes]):
    """What `iter_chunks` returns. An exception does not end it: `next` can be called again.

    It serves one thread at a time: `next` and `close` raise `ResourceBusy` while another thread is inside.
    """

    def __init__(self, receiver: _Receiver, chunk_size: int, *, endless: bool) -> None:
        self._busy = threading.Lock()
        self._receiver = receiver
        self._receive: Callable[[memoryview], int] | None = None
        self._buffer = memoryview(bytearray(chunk_size))
        self._endless = endless
        self._has_ended = False

    @property
    def stop(self) -> StopEvent | None:
        """The own stop, besides that of the socket; any stop that `as_stop` accepts may be set."""
        return self._receiver.stop

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._receiver.stop = as_stop(stop)

    def __next__(self) -> bytes:
        self._begin()
        try:
            count = 0 if self._has_ended else self._take()
            if count or (self._endless and not self._has_ended):
                return bytes(self._buffer[:count])
            self._end()
        finally:
            self._busy.release()
        raise StopIteration

    def close(self) -> None:
        """End the iteration; the socket stays open."""
        self._begin()
        try:
            self._end()
        finally:
            self._busy.release()

    def __del__(self) -> None:
        self._leave()

    def _begin(self) -> None:
        if not self._busy.acquire(blocking=False):
            raise ResourceBusy("another thread is in this iterator")

    def _take(self) -> int:
        try:
            if self._receive is None:
                self._receive = self._receiver.__enter__()
            return self._receive(self._buffer)
        except BaseException:
            self._leave()  # it keeps no descriptor for a next call that may never come
            raise

    def _end(self) -> None:
        self._has_ended = True
        self._leave()

    def _leave(self) -> None:
        self._receive = None
        self._receiver.__exit__()


def recv_exactly(sock: socket.socket, n: int, *, stop: StopLike = None, timeout: float | None = None) -> bytes:
    """Receive exactly `n` bytes from a stream.

    Args:
        sock, stop: as for `iter_chunks`.
        n: how many bytes.
        timeout: seconds to wait for each part that arrives; None as for `iter_chunks`.

    Raises:
        Interrupted: a stop was set; `.partial` is what had arrived, and the stream continues after it.
        Stalled: a `TimeoutError`, with `.partial` likewise.
        IncompleteRead: an `EOFError`: the stream ended before; `.partial` is what there was. Also where the connection
            failed in the middle: the `OSError` is the `__cause__`. One that comes before the first byte is raised itself.
        TypeError, ValueError, OSError: an argument is wrong (as a socket that is no stream), or the socket is closed.
    """
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n must be an int, not {type(n).__name__}")
    if n < 0:
        raise ValueError(f"n must be 0 or more, not {n}")
    receiver = _Receiver(sock, stop, timeout)
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("sock must be a stream: a message that is larger than what is left would lose its end")
    data = bytearray(n)
    taken = 0
    try:
        with receiver as receive, memoryview(data) as view:
            while taken < n:
                count = receive(view[taken:])
                if not count:
                    raise IncompleteRead(bytes(view[:taken]), n)
                taken += count
    except Interrupted as interrupted:
        interrupted.transferred, interrupted.partial = taken, bytes(data[:taken])
        raise
    except TimeoutError:
        raise Stalled(f"timed out after {taken} of {n} bytes", bytes(data[:taken])) from None
    except OSError as error:
        if not taken:
            raise
        raise IncompleteRead(bytes(data[:taken]), n) from error
    return bytes(data)


class _Receiver:
    """Receives from any socket with a stop and a timeout of the caller's. A context manager, as it may need a descriptor."""

    def __init__(self, sock: socket.socket, stop: StopLike, timeout: float | None) -> None:
        self.stop: StopEvent | None = as_stop(stop)
        _check_socket(sock)
        self._sock = sock
        self._timeout = (sock.gettimeout() or None) if timeout is None else check_timeout(timeout)
        # The socket's, the one above, and both together.
        self._seen: tuple[StopEvent | None, StopEvent | None] = None, None
        self._both: StopEvent | None = None
        self._double: Socket | None = None

    def __enter__(self) -> Callable[[memoryview], int]:
        sock = self._sock
        if isinstance(sock, Socket):
            return lambda buffer: sock._ii_receive(buffer, self._stops(sock._ii_stop), self._timeout)
        if isinstance(sock, ssl.SSLSocket) or not NOWAIT:
            return self._receive_by_mode
        # A second descriptor has a Python object of its own, whose timeout can differ, and stays ours until the end.
        self._double = double = _over_descriptor(sock, os.dup(sock.fileno()))

        def receive(buffer: memoryview) -> int:
            _check_socket(sock)
            return double._ii_receive(buffer, self.stop, self._timeout)

        return receive

    def __exit__(self, *exc_info: object) -> None:
        if self._double is not None:
            self._double.close()

    def _stops(self, own: StopEvent | None) -> StopEvent | None:
        stop = self.stop
        if stop is None or own is None:
            return stop if own is None else own
        if self._seen != (own, stop):  # both can be set between two chunks
            self._seen, self._both = (own, stop), StopEvent(own, stop)
        return self._both

    def _receive_by_mode(self, buffer: memoryview) -> int:
        sock, own = self._sock, self.stop
        deadline: float | None = None
        has_waited = False
        while True:
            check(own)
            _check_socket(sock)
            before = sock.gettimeout()
            sock.settimeout(0.0)
            try:
                return sock.recv_into(buffer)
            except (ssl.SSLWantReadError, BlockingIOError):
                events = READ
            except ssl.SSLWantWriteError:
                events = WRITE
            finally:
                sock.settimeout(before)
            if not has_waited:
                deadline, has_waited = None if self._timeout is None else time.monotonic() + self._timeout, True
            wait_ready(sock.fileno(), events, own, deadline)
