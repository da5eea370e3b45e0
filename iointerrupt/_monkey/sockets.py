"""The parts `socket`, `ssl` and `dns`: sockets and lookups that stop in a thread with a current stop, and are stock in others.

`PatchedSocket` stands for `socket.socket`. Two things make it unlike `Socket`, below which it is: it must be no other than the
original for whoever has no stop, and code that uses the bare descriptor must find it in the mode that it expects. So the
kernel's mode follows the timeout, as the standard class has it: blocking with None. A call without a stop and without a timeout,
or with a timeout of 0, is that of the C class, at its speed. All others are `Socket`'s: an attempt with MSG_DONTWAIT, which waits
in no mode, and then the wait. Where the system call takes no such flag (`accept`, `connect`), the mode is changed for that one
call.

Functions of the standard library that make sockets (`create_connection`, `create_server`, `socketpair`, `fromfd`) look `socket`
up in their module when they are called; they need no replacement.
"""

from __future__ import annotations

import abc
import functools
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from iointerrupt._monkey.patches import Patch
from iointerrupt._sockets.base import StandardSocket, parse_timeout
from iointerrupt._sockets.dns import in_helper, stoppable_getaddrinfo
from iointerrupt._sockets.socket import Socket
from iointerrupt._sockets.tls import SSLSocket
from iointerrupt._stop import StopEvent, _current

_current_stop = _current.get
_settimeout = StandardSocket.settimeout


class _AnySocket(abc.ABCMeta):
    """Has `isinstance(x, socket.socket)` be true of all that it was true of before: sockets made earlier, and those with TLS.

    An ABCMeta, so that a class of somebody's may still derive from an abstract class and from `socket.socket`.
    """

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, StandardSocket) if cls is PatchedSocket else type.__instancecheck__(cls, instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, StandardSocket) if cls is PatchedSocket else type.__subclasscheck__(cls, subclass)


def _stock_unless_stopped(name: str) -> Any:
    """The method of that name: `Socket`'s, or the C class's where there is nothing to stop it, or it would not wait."""
    stock: Any = getattr(StandardSocket, name)
    ours: Any = getattr(Socket, name)

    @functools.wraps(ours)
    def method(self: PatchedSocket, *args: Any, **kwargs: Any) -> Any:
        timeout = self._own_timeout
        if (timeout or (timeout is None and self._has_stop())) or self._kept_error is not None:
            return ours(self, *args, **kwargs)
        return stock(self, *args, **kwargs)

    return method


class PatchedSocket(Socket, metaclass=_AnySocket):
    """What `socket.socket` is while it is patched; see the module."""

    __slots__ = ()

    # The mode

    def _make_nonblocking(self) -> None:
        # It is, and stays, in the mode that its timeout says. The C object itself never has another timeout than None and 0.
        _settimeout(self, None if self._own_timeout is None else 0.0)
        self._made = True

    def settimeout(self, value: float | None, /) -> None:
        """As `socket.socket.settimeout`."""
        if value is None is self._own_timeout and self.fileno() >= 0:
            return  # some clients say so before each read
        seconds = parse_timeout(value)
        _settimeout(self, None if seconds is None else 0.0)
        self._own_timeout = seconds

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - the signature is the standard library's
        """As `socket.socket.setblocking`."""
        self.settimeout(None if flag else 0.0)

    @contextmanager
    def _in_nonblocking_mode(self) -> Iterator[None]:
        """For one system call that does not wait. A thread without a stop that comes meanwhile tries again; see `accept`."""
        fd = self._descriptor()
        with _mode:
            if not os.get_blocking(fd):
                yield
                return
            os.set_blocking(fd, False)
            try:
                yield
            finally:
                os.set_blocking(fd, True)

    def _has_stop(self) -> bool:
        return self._stop is not None or _current_stop() is not None

    # Operations

    def _before_sending(self) -> None:
        # What can be sent without waiting is sent, also where the stop is set: a library may have counted or encrypted it as
        # sent already (SSH does), and what says goodbye in its `finally` can do so. The wait for more raises.
        self._has_asked = True

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """As `socket.socket.recv`."""
        # What `_stock_unless_stopped` does, written out where each tenth of a microsecond counts.
        timeout = self._own_timeout
        if timeout or (timeout is None and (self._stop or _current_stop())) or self._kept_error:
            return super().recv(bufsize, flags)
        return _recv(self, bufsize, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        """As `socket.socket.recv_into`."""
        timeout = self._own_timeout
        if timeout or (timeout is None and (self._stop or _current_stop())) or self._kept_error:
            return super().recv_into(buffer, nbytes, flags)
        return _recv_into(self, buffer, nbytes, flags)

    def sendall(self, data: Any, flags: int = 0, /) -> None:
        """As `socket.socket.sendall`."""
        timeout = self._own_timeout
        if timeout or (timeout is None and (self._stop or _current_stop())):
            super().sendall(data, flags)
        else:
            _sendall(self, data, flags)

    connect = _stock_unless_stopped("connect")
    connect_ex = _stock_unless_stopped("connect_ex")
    recvfrom = _stock_unless_stopped("recvfrom")
    recvfrom_into = _stock_unless_stopped("recvfrom_into")
    recvmsg = _stock_unless_stopped("recvmsg")
    recvmsg_into = _stock_unless_stopped("recvmsg_into")
    send = _stock_unless_stopped("send")
    sendto = _stock_unless_stopped("sendto")
    sendmsg = _stock_unless_stopped("sendmsg")

    def accept(self) -> tuple[Any, Any]:
        """As `socket.socket.accept`."""
        while self._own_timeout is None and not self._has_stop():
            try:
                return StandardSocket.accept(self)
            except BlockingIOError:  # it was in another thread's `_in_nonblocking_mode`
                pass
        return StandardSocket.accept(self) if self._own_timeout == 0.0 else super().accept()

    def _accept_now(self) -> tuple[int, Any]:
        with self._in_nonblocking_mode():
            return super()._accept_now()

    def _connection(self, fd: int) -> PatchedSocket:
        connection = PatchedSocket(self.family, self.type, self.proto, fileno=fd, stop=self._stop)
        connection._made = True
        return connection

    def _connect_once(self, address: Any) -> int:
        with self._in_nonblocking_mode():
            return super()._connect_once(address)

    def _sendfile_use_sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        send: Any = super()._sendfile_use_sendfile if self._has_stop() else _stock_sendfile.__get__(self)
        sent: int = send(file, offset, count)
        return sent

    def _can_sendfile(self) -> bool:
        return True

    def _sendfile_now(self, source: int, offset: int, count: int) -> int:
        with self._in_nonblocking_mode():
            return super()._sendfile_now(source, offset, count)


_recv, _recv_into, _sendall = StandardSocket.recv, StandardSocket.recv_into, StandardSocket.sendall
_stock_sendfile: Any = StandardSocket._sendfile_use_sendfile  # type: ignore[attr-defined]  # what sendfile tries first

#: Who holds it may change a descriptor's mode for the moment of one system call. Re-entrant: a signal handler may come here too.
_mode = threading.RLock()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mode._at_fork_reinit)  # type: ignore[attr-defined]  # as threading does


class PatchedSSLSocket(SSLSocket):
    """What `SSLContext.wrap_socket` makes while it is patched: with a timeout of 0 it belongs to an event loop, and never stops."""

    def _attempt(self, own: StopEvent | None, timeout: float | None, attempt: Callable[..., Any], *args: Any) -> Any:
        if timeout == 0.0:
            return attempt(*args)
        if attempt == self._write_record:
            try:
                return attempt(*args)  # as in `PatchedSocket._before_sending`
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
        return super()._attempt(own, timeout, attempt, *args)


def socket_patches() -> list[Patch]:
    """Of the part `socket`."""
    return [Patch(socket, "socket", lambda _: PatchedSocket)]


def ssl_patches() -> list[Patch]:
    """Of the part `ssl`."""
    return [Patch(ssl.SSLContext, "sslsocket_class", lambda _: PatchedSSLSocket)]


def dns_patches() -> list[Patch]:
    """Of the part `dns`."""
    others = ("gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo")
    return [
        Patch(socket, "getaddrinfo", stoppable_getaddrinfo),
        *(Patch(socket, name, in_helper) for name in others),
    ]
