"""The parts `socket`, `ssl` and `dns`: sockets and lookups that stop in a thread with a current stop, and are stock in others.

`PatchedSocket` stands for `socket.socket`. Two things make it unlike `Socket`, below which it is: it must be no other than the
original for whoever has no stop, and code that uses the bare descriptor must find it in the mode that it expects. So the
kernel's mode follows the timeout, as the standard class has it: blocking with None. A call without a stop is that of the C class,
at its speed. All others are `Socket`'s: an attempt with MSG_DONTWAIT, which waits in no mode, and then the wait. Where the system
call takes no such flag (`accept`, `connect`), the mode is changed for that one call. Where there is none at all, on Windows, it is
non-blocking from the first call with a stop on, and code that uses the bare descriptor has to expect that.

The C class waits before each attempt for as long as its timeout says, and no flag keeps it from that. So the first call with a
stop takes the timeout from the C object, for good (`_ii_is_stock`): from then on it is kept in Python, as in `Socket`, and calls without a
stop that have one are `Socket`'s as well. One that waits in C at that moment may then end with BlockingIOError, and goes on as
`Socket`'s (`_ii_check_mode`).

Functions of the standard library that make sockets (`create_connection`, `create_server`, `socketpair`, `fromfd`) look `socket`
up in their module when they are called; they need no replacement. (But the first of them closes its socket after an OSError
only, so it is done for it.)
"""

from __future__ import annotations

import abc
import functools
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

from iointerrupt._errors import Interrupted
from iointerrupt._monkey.patches import Patch, Unbound
from iointerrupt._sockets.base import NOWAIT, StandardSocket, parse_timeout
from iointerrupt._sockets.dns import in_helper, stoppable_getaddrinfo
from iointerrupt._sockets.socket import Socket
from iointerrupt._sockets.tls import SSLSocket
from iointerrupt._stop import StopEvent, _current

_current_stop = _current.get
_gettimeout, _settimeout = StandardSocket.gettimeout, StandardSocket.settimeout


class _AnySocket(abc.ABCMeta):
    """Has `isinstance(x, socket.socket)` be true of all that it was true of before: sockets made earlier, and those with TLS.

    An ABCMeta, so that a class of somebody's may still derive from an abstract class and from `socket.socket`.
    """

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, StandardSocket) if cls is PatchedSocket else type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, StandardSocket) if cls is PatchedSocket else type.__subclasscheck__(cls, subclass)


def _stock_unless_stopped(name: str) -> Any:
    """The method of that name: the C class's where there is nothing to stop it, or it would not wait; else `Socket`'s."""
    stock: Any = getattr(StandardSocket, name)
    ours: Any = getattr(Socket, name)

    is_receive = name.startswith("recv")

    @functools.wraps(ours)
    def method(self: PatchedSocket, *args: Any, **kwargs: Any) -> Any:
        if is_receive:
            self._ii_reader = get_ident()
        if not self._ii_is_ours():
            try:
                return stock(self, *args, **kwargs)
            except BlockingIOError:
                self._ii_check_mode()
        return ours(self, *args, **kwargs)

    return method


class PatchedSocket(Socket, metaclass=_AnySocket):
    """What `socket.socket` is while it is patched; see the module."""

    # No property `stop`, which a program's class may have a name for, but what such a class may set.
    __slots__ = ("_ii_is_stock", "_ii_reader", "stop")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._ii_is_stock = True  # the C object has the timeout
        self._ii_reader: int | None = None  # the thread that has received last
        super().__init__(*args, **kwargs)
        if self._ii_own_timeout:
            _settimeout(self, self._ii_own_timeout)

    def _ii_is_ours(self) -> bool:
        """Whether the next operation is `Socket`'s; it is made ready for that then."""
        timeout = self._ii_own_timeout
        if self._ii_kept_error is None and (
            timeout == 0.0
            or ((self._ii_is_stock or timeout is None) and self._ii_stop is None and _current_stop() is None)
        ):
            return False
        if self._ii_is_stock:
            self._ii_keep_timeout()
        return True

    def _ii_has_stop(self) -> bool:
        return self._ii_stop is not None or _current_stop() is not None

    # The mode and the timeout

    def _ii_keep_timeout(self) -> None:
        self._ii_is_stock = False
        if self._ii_own_timeout or not NOWAIT:
            _settimeout(self, 0.0)

    def _ii_make_nonblocking(self) -> None:
        """Nothing: it is, and stays, in the mode that its timeout says, and is one that others may share (`_ii_made`)."""

    def _ii_check_mode(self) -> None:
        """After a BlockingIOError of the C class: raise it, if it is the caller's business.

        Else another thread has come with a stop, and has taken the timeout from the C object, or is in
        `_ii_in_nonblocking_mode`; then `Socket` goes on.
        """
        if self._ii_own_timeout == 0.0:
            raise  # noqa: PLE0704 - it is being handled by the caller
        if self._ii_is_stock:
            self._ii_keep_timeout()

    def settimeout(self, value: float | None, /) -> None:
        """As `socket.socket.settimeout`."""
        if self._ii_is_stock:
            _settimeout(self, value)
            self._ii_own_timeout = _gettimeout(self)
            is_stock: bool = self._ii_is_stock
            if not is_stock:  # another thread has come with a stop meanwhile
                self._ii_keep_timeout()
            return
        seconds = parse_timeout(value)
        _settimeout(self, None if seconds is None and NOWAIT else 0.0)
        self._ii_own_timeout = seconds

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - the signature is the standard library's
        """As `socket.socket.setblocking`."""
        self.settimeout(None if flag else 0.0)

    @contextmanager
    def _ii_in_nonblocking_mode(self) -> Iterator[None]:
        """For one system call that does not wait. A thread that comes meanwhile tries again; see `_ii_check_mode`."""
        fd = self._ii_descriptor()
        with _mode:
            if not NOWAIT or not os.get_blocking(fd):
                yield
                return
            os.set_blocking(fd, False)
            try:
                yield
            finally:
                os.set_blocking(fd, True)

    # Operations

    def _ii_before_sending(self) -> None:
        # Nothing is asked for whose answer nobody would wait for, such as an item of a queue: it would be lost. But where another
        # thread reads the connection, that one deals out the answers, and they are waited for elsewhere; and what is sent may be
        # part of something that is shared, such as a stream that has been encrypted up to there (SSH). So that is sent.
        if self._ii_reader is None or self._ii_reader == get_ident():
            super()._ii_before_sending()
        else:
            self._ii_has_asked = True

    # What `_stock_unless_stopped` does, written out in the three that matter most, where each tenth of a microsecond counts.

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As `socket.socket.recv`."""
        self._ii_reader = get_ident()
        if (self._ii_is_stock and self._ii_stop is None and _current_stop() is None) or not self._ii_is_ours():
            try:
                return _recv(self, bufsize, flags)
            except BlockingIOError:
                self._ii_check_mode()
        return _our_recv(self, bufsize, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As `socket.socket.recv_into`."""
        self._ii_reader = get_ident()
        if (self._ii_is_stock and self._ii_stop is None and _current_stop() is None) or not self._ii_is_ours():
            try:
                return _recv_into(self, buffer, nbytes, flags)
            except BlockingIOError:
                self._ii_check_mode()
        return _our_recv_into(self, buffer, nbytes, flags)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As `socket.socket.sendall`."""
        # With a timeout not the C class's, which would not say how much was sent if another thread took the timeout from it.
        is_plain = self._ii_own_timeout is None and self._ii_stop is None and _current_stop() is None
        if is_plain and (NOWAIT or self._ii_is_stock):
            _sendall(self, data, flags)
        else:
            if self._ii_is_stock and self._ii_has_stop():
                self._ii_keep_timeout()
            _our_sendall(self, data, flags)

    connect = _stock_unless_stopped("connect")
    connect_ex = _stock_unless_stopped("connect_ex")
    recvfrom = _stock_unless_stopped("recvfrom")
    recvfrom_into = _stock_unless_stopped("recvfrom_into")
    send = _stock_unless_stopped("send")
    sendto = _stock_unless_stopped("sendto")
    if hasattr(StandardSocket, "recvmsg"):
        recvmsg = _stock_unless_stopped("recvmsg")
        recvmsg_into = _stock_unless_stopped("recvmsg_into")
        sendmsg = _stock_unless_stopped("sendmsg")

    def accept(self) -> tuple[Any, Any]:
        """As `socket.socket.accept`."""
        if not self._ii_is_ours():
            try:
                return StandardSocket.accept(self)
            except BlockingIOError:
                self._ii_check_mode()
        return super().accept()

    def _ii_accept_now(self) -> tuple[int, Any]:
        with self._ii_in_nonblocking_mode():
            return super()._ii_accept_now()

    def _ii_connection(self, fd: int) -> PatchedSocket:
        return PatchedSocket(self.family, self.type, self.proto, fileno=fd, stop=self._ii_stop)

    def _ii_connect_once(self, address: Any) -> int:
        with self._ii_in_nonblocking_mode():
            return super()._ii_connect_once(address)

    def _sendfile_use_sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        if not self._ii_has_stop():
            sent: int = _stock_sendfile(self, file, offset, count)
            return sent
        self._ii_keep_timeout()
        return super()._sendfile_use_sendfile(file, offset, count)

    def _ii_receive(self, buffer: memoryview, own: StopEvent | None, timeout: float | None) -> int:
        self._ii_keep_timeout()
        return super()._ii_receive(buffer, own, timeout)

    def _ii_receive_now(self, buffer: Any) -> int:
        self._ii_keep_timeout()
        return super()._ii_receive_now(buffer)

    def _ii_send_some(self, data: memoryview) -> int:
        self._ii_keep_timeout()
        return super()._ii_send_some(data)

    def _ii_send_now(self, data: memoryview) -> int:
        self._ii_keep_timeout()
        return super()._ii_send_now(data)


_our_recv, _our_recv_into, _our_sendall = Socket.recv, Socket.recv_into, Socket.sendall
_recv, _recv_into, _sendall = StandardSocket.recv, StandardSocket.recv_into, StandardSocket.sendall
_stock_sendfile: Any = StandardSocket._sendfile_use_sendfile  # type: ignore[attr-defined]  # what sendfile tries first

#: Who holds it may change a descriptor's mode for the moment of one system call. Re-entrant: a signal handler may come here too.
_mode = threading.RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mode._at_fork_reinit)  # type: ignore[attr-defined]  # as threading does


class PatchedSSLSocket(SSLSocket):
    """What `SSLContext.wrap_socket` makes while it is patched: with a timeout of 0 it belongs to an event loop, and never stops."""

    _ii_reader: int | None = None  # as in `PatchedSocket`

    def _read(self, size: int, buffer: Any, own: StopEvent | None, timeout: float | None) -> Any:
        self._ii_reader = get_ident()
        return super()._read(size, buffer, own, timeout)

    def _attempt(self, own: StopEvent | None, timeout: float | None, attempt: Callable[..., Any], *args: Any) -> Any:
        if timeout == 0.0:
            return attempt(*args)
        if self._ii_reader not in {None, get_ident()} and attempt == self._write_record:
            try:
                return attempt(*args)  # as in `PatchedSocket._ii_before_sending`
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
        return super()._attempt(own, timeout, attempt, *args)


def _closing(original: Any) -> Any:
    """`create_connection`, which leaves no socket open where it is stopped."""

    def create_connection(*args: Any, **kwargs: Any) -> Any:
        try:
            return original(*args, **kwargs)
        except Interrupted as error:
            trace = error.__traceback__
            while trace is not None:
                if (
                    trace.tb_frame.f_code is original.__code__
                    and (made := trace.tb_frame.f_locals.get("sock")) is not None
                ):
                    made.close()
                trace = trace.tb_next
            raise

    return functools.wraps(original)(create_connection)


def socket_patches() -> list[Patch]:
    """Of the part `socket`."""
    return [
        Patch(socket, "socket", lambda _: PatchedSocket),
        Patch(socket, "create_connection", lambda original: Unbound(_closing(original), "socket")),
    ]


def let_both_be_sent() -> None:
    """Have multiprocessing, if it is loaded, send sockets of both classes to other processes: it goes by the class itself."""
    reduction: Any = sys.modules.get("multiprocessing.reduction")
    if reduction is not None and hasattr(reduction, "_reduce_socket"):
        for kind in (StandardSocket, PatchedSocket):
            reduction.register(kind, reduction._reduce_socket)


def ssl_patches() -> list[Patch]:
    """Of the part `ssl`."""
    return [Patch(ssl.SSLContext, "sslsocket_class", lambda _: PatchedSSLSocket)]


def dns_patches() -> list[Patch]:
    """Of the part `dns`."""
    others = ("gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")
    return [
        Patch(socket, "getaddrinfo", stoppable_getaddrinfo),
        *(Patch(socket, name, lambda original: Unbound(in_helper(original), "socket")) for name in others),
    ]
