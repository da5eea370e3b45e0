"""`Socket`: a `socket.socket` each of whose blocking methods a stop ends.

An operation is: check the stops, make one attempt that does not wait, and only if that would block, wait and try again. So
there is one system call for each chunk while data flows. How an attempt is kept from waiting, and how the wait ends, is
`_sockets.base`'s business.
"""

from __future__ import annotations

import errno
import operator
import os
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from iointerrupt._errors import Interrupted
from iointerrupt._sockets.base import NOWAIT, Pauses, StandardSocket
from iointerrupt._sockets.dns import numeric
from iointerrupt._sockets.makefile import MakesFiles
from iointerrupt._sockets.sendfile import send_by_chunks, send_by_kernel
from iointerrupt._sockets.sending import SendTimeout, SendWaits
from iointerrupt._stop import StopEvent
from iointerrupt._wait import READ, WRITE, check, has_hung_up

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

# Bound once: the C methods are the hot path.
_accept = StandardSocket._accept  # type: ignore[attr-defined]  # what socket.socket.accept itself is made of
_connect_ex = StandardSocket.connect_ex
_recv, _recv_into, _recvfrom, _recvfrom_into = (
    StandardSocket.recv,
    StandardSocket.recv_into,
    StandardSocket.recvfrom,
    StandardSocket.recvfrom_into,
)
_send, _sendto = StandardSocket.send, StandardSocket.sendto
if hasattr(StandardSocket, "recvmsg"):  # not on Windows: see the end
    _recvmsg, _recvmsg_into, _sendmsg = StandardSocket.recvmsg, StandardSocket.recvmsg_into, StandardSocket.sendmsg

# As plain numbers: combining the standard library's enumerations costs more than some system calls.
_NOWAIT, _WAITALL, _PEEK = NOWAIT, int(socket.MSG_WAITALL), int(socket.MSG_PEEK)
# With these in its flags a transfer that would block raises BlockingIOError, as it does on any socket.
_NEVER_WAITS = _NOWAIT | int(getattr(socket, "MSG_ERRQUEUE", 0))
# How connect(2) says that it goes on: by the second where an earlier call was interrupted, and by the third on Windows.
_IN_PROGRESS = {errno.EINPROGRESS, errno.EALREADY, getattr(errno, "WSAEWOULDBLOCK", errno.EINPROGRESS)}
# On Linux alone, another connect(2) tells what has become of the first.
_ASKS_BY_CONNECTING = sys.platform == "linux"


class Socket(MakesFiles):
    """A `socket.socket` whose blocking methods end when a stop is set: its own, or the current one.

    Args:
        family, type, proto, fileno: as for `socket.socket`. A descriptor passed as `fileno` is used as it is: whether it
            blocks is left alone, since others may share it.
        stop: what ends the operations of this socket, besides the current stop; see `as_stop`.

    Raises:
        TypeError: `stop` is not a stop.

    A stop raises `Interrupted`. It wins over readiness: no byte is consumed that is not returned, and the socket can be
    used afterwards, with another stop (`sock.stop = ...`), as if the interrupted call had not been made. `sendall` and
    `sendfile`, which may have sent a part, say how much in `Interrupted.transferred`; a `connect` that was interrupted
    can be called again and goes on waiting for the same connection.

    Timeouts behave as on `socket.socket`: total for one operation (in `sendfile`, for each wait), `TimeoutError` when they pass, and
    `BlockingIOError` for operations that would block with a timeout of 0. Unlike there, they do not change the kernel's
    mode of the descriptor, which is always non-blocking where this class made it. So code that uses the bare descriptor
    (a child process, a C library) must expect that, or be given `detach()`, which leaves it as the timeout says.

    Any number of threads may use one socket. `close()` in one ends the operations that others are blocked in with
    `OSError` (EBADF), on every platform; to wake them it shuts the connection or the listener down, which processes that
    share it notice. One that came from elsewhere is not shut down: those others end, likewise, when it becomes ready.

    Not covered: `MSG_WAITALL` is obeyed by `recv` and `recv_into` of a stream alone, and not together with `MSG_PEEK`;
    a close that lingers (`SO_LINGER`) blocks in the kernel; `bind` with a host name looks it up uninterruptibly;
    `SO_RCVTIMEO` and `SO_SNDTIMEO` are ignored (use a timeout); `close()` does not wake a receive on families that refuse
    `shutdown` (netlink, packet), which ends when the next message comes; a `Socket` cannot be sent through
    `multiprocessing` (send a plain `socket.socket(fileno=sock.detach())`).
    """

    __slots__ = ()

    def _ii_gives_up(self, flags: int) -> bool:
        return self._ii_own_timeout == 0.0 or bool(flags & _NEVER_WAITS)

    # Connections

    def connect(self, address: Any, /) -> None:
        """Connect to `address`; the lookup of a host name can be interrupted as well.

        Raises:
            Interrupted: a stop was set. The attempt goes on in the kernel: call this again to wait for it, or close.
            TimeoutError, OSError: as `socket.socket.connect`. The timeout includes the lookup.
        """
        self._ii_connect_or_raise(address, self._ii_stop, self._ii_deadline() if self._ii_own_timeout else None)

    def connect_ex(self, address: Any, /) -> int:
        """`connect`, but return the error number of a failed system call, EAGAIN for a timeout, 0 for success.

        Raises:
            Interrupted: as `connect`; a stop is no error of the connection.
        """
        try:
            return self._ii_connect(address, self._ii_stop, self._ii_deadline() if self._ii_own_timeout else None)
        except TimeoutError:
            return errno.EAGAIN

    def _ii_connect_or_raise(self, address: Any, own: StopEvent | None, deadline: float | None) -> None:
        error = self._ii_connect(address, own, deadline)
        if error:
            raise OSError(error, os.strerror(error))

    def _ii_connect(self, address: Any, own: StopEvent | None, deadline: float | None) -> int:
        check(own)
        address = numeric(self.family, address, own, deadline)
        error = self._ii_connect_once(address)
        if self._ii_own_timeout == 0.0:
            return error
        if error == errno.EAGAIN and self.family == getattr(socket, "AF_UNIX", None):
            error = self._ii_connect_to_full_backlog(address, own, deadline)
        while error in _IN_PROGRESS:
            self._ii_wait(WRITE, own, deadline)
            error = self._ii_connect_outcome(address)
        return error

    def _ii_connect_outcome(self, address: Any) -> int:
        if not _ASKS_BY_CONNECTING:
            return self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        # The same question, but Linux then also considers the attempt as done: as after a connect that has blocked, another
        # one finds the connection (EISCONN), or begins anew after an error.
        return self._ii_connect_once(address)

    def _ii_connect_once(self, address: Any) -> int:
        fd = self._ii_descriptor()
        if self._ii_made or not NOWAIT or not os.get_blocking(fd):
            return _connect_ex(self, address)
        # Nobody else uses a connection that does not exist yet, but the flag is theirs once it does.
        os.set_blocking(fd, False)
        try:
            return _connect_ex(self, address)
        finally:
            os.set_blocking(fd, True)

    def _ii_connect_to_full_backlog(self, address: Any, own: StopEvent | None, deadline: float | None) -> int:
        # A Unix socket does not queue the attempt, and no poll tells when the listener has room again.
        pauses = Pauses(own, deadline, longest=0.05)
        while True:
            pauses.sleep()
            error = self._ii_connect_once(address)
            if error != errno.EAGAIN:
                return error

    def accept(self) -> tuple[Socket, Any]:
        """Wait for a connection; return a `Socket` with this one's stop, and the peer's address.

        Raises:
            Interrupted: a stop was set; a connection that has come stays queued for the next call.

        A listener that came from elsewhere and is in blocking mode is polled first. Should another process take the
        connection between that and the system call, the call blocks as it would on a `socket.socket`.
        """
        check(self._ii_stop)
        deadline = self._ii_deadline()
        if not self._ii_made:
            try:
                self._ii_wait(READ, self._ii_stop, deadline)
            except TimeoutError:
                if self._ii_own_timeout == 0.0:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None
                raise
        pauses: Pauses | None = None
        while True:
            try:
                fd, address = self._ii_accept_now()
                break
            except BlockingIOError:
                if self._ii_own_timeout == 0.0:
                    raise
            if pauses is not None:  # the last wait has led to nothing
                if has_hung_up(self.fileno()):
                    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))  # as one that blocks says it
                pauses.sleep()
            pauses = pauses or Pauses(self._ii_stop, deadline)
            self._ii_wait(READ, self._ii_stop, deadline)
        return self._ii_connection(fd), address

    def _ii_accept_now(self) -> tuple[int, Any]:
        return _accept(self)  # type: ignore[no-any-return]  # typeshed does not know it

    def _ii_connection(self, fd: int) -> Socket:
        connection = Socket(self.family, self.type, self.proto, fileno=fd, stop=self._ii_stop)
        connection._ii_make_nonblocking()
        return connection

    # Receiving

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        """Receive up to `bufsize` bytes; empty at the end of a stream.

        With `MSG_WAITALL` an error behind the first bytes is raised by the next receive, and this one returns the bytes.
        """
        self._ii_before_receiving(flags)
        if flags & _WAITALL and self._ii_waits_for_all(flags):
            size = operator.index(bufsize)
            if size < 0:
                raise ValueError("negative buffersize in recv")
            buffer = bytearray(size)
            return bytes(buffer[: self._ii_recv_all(buffer, flags)])
        try:
            return _recv(self, bufsize, flags | _NOWAIT)
        except BlockingIOError:
            if self._ii_gives_up(flags):
                raise
        return self._ii_when_ready(READ, _recv, bufsize, flags | _NOWAIT)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive up to `nbytes` bytes (0: as many as fit) into `buffer`; return how many, 0 at the end of a stream."""
        self._ii_before_receiving(flags)
        if flags & _WAITALL and self._ii_waits_for_all(flags):
            with memoryview(buffer) as view, view.cast("B") as octets:
                size = operator.index(nbytes)
                if size < 0:
                    raise ValueError("negative buffersize in recv_into")
                if size > len(octets):
                    raise ValueError("nbytes is greater than the length of the buffer")
                return self._ii_recv_all(octets[: size or len(octets)], flags)
        try:
            return _recv_into(self, buffer, nbytes, flags | _NOWAIT)
        except BlockingIOError:
            if self._ii_gives_up(flags):
                raise
        return self._ii_when_ready(READ, _recv_into, buffer, nbytes, flags | _NOWAIT)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        """Receive up to `bufsize` bytes of one datagram; return them and the sender's address."""
        self._ii_before_receiving(flags)
        try:
            return _recvfrom(self, bufsize, flags | _NOWAIT)
        except BlockingIOError:
            if self._ii_gives_up(flags):
                raise
        return self._ii_when_ready(READ, _recvfrom, bufsize, flags | _NOWAIT)

    def recvfrom_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        """`recvfrom` into `buffer`; return how many bytes, and the sender's address."""
        self._ii_before_receiving(flags)
        try:
            return _recvfrom_into(self, buffer, nbytes, flags | _NOWAIT)
        except BlockingIOError:
            if self._ii_gives_up(flags):
                raise
        return self._ii_when_ready(READ, _recvfrom_into, buffer, nbytes, flags | _NOWAIT)

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        """Receive data and ancillary data; return them, the message's flags, and the sender's address."""
        self._ii_before_receiving(flags)
        try:
            return _recvmsg(self, bufsize, ancbufsize, flags | _NOWAIT)
        except BlockingIOError:
            if self._ii_gives_up(flags):
                raise
        return self._ii_when_ready(READ, _recvmsg, bufsize, ancbufsize, flags | _NOWAIT)

    def recvmsg_into(
        self, buffers: Iterable[WriteableBuffer], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[Any], int, Any]:
        """`recvmsg` into several buffers."""
        self._ii_before_receiving(flags)
        buffers = list(buffers)  # it may be an iterator, and be needed twice
        try:
            return _recvmsg_into(self, buffers, ancbufsize, flags | _NOWAIT)
        except BlockingIOError:
            if self._ii_gives_up(flags):
                raise
        return self._ii_when_ready(READ, _recvmsg_into, buffers, ancbufsize, flags | _NOWAIT)

    def _ii_before_receiving(self, flags: int) -> None:
        check(self._ii_stop)
        if self._ii_kept_error is not None:
            self._ii_raise_kept_error()
        if self._ii_has_asked:
            # The answer to what has been sent takes a while: an attempt now would only say so.
            self._ii_has_asked = False
            if not flags and self._ii_own_timeout != 0.0:
                self._ii_wait(READ, self._ii_stop, self._ii_deadline())

    def _ii_receive(self, buffer: memoryview, own: StopEvent | None, timeout: float | None) -> int:
        """`recv_into` with another stop and timeout than the socket's."""
        check(own)
        if self._ii_kept_error is not None:
            self._ii_raise_kept_error()
        try:
            return _recv_into(self, buffer, 0, _NOWAIT)
        except BlockingIOError:
            pass
        deadline = None if timeout is None else time.monotonic() + timeout
        return self._ii_retry(READ, own, deadline, _recv_into, buffer, 0, _NOWAIT)

    def _ii_receive_now(self, buffer: WriteableBuffer) -> int:
        """`recv_into` that raises BlockingIOError where it would wait."""
        check(self._ii_stop)
        if self._ii_kept_error is not None:
            self._ii_raise_kept_error()
        self._ii_has_asked = False
        return _recv_into(self, buffer, 0, _NOWAIT)

    def _ii_waits_for_all(self, flags: int) -> bool:
        # The kernel obeys MSG_WAITALL on blocking streams only, and a timeout has always made a socket non-blocking.
        return self._ii_own_timeout is None and self.type == socket.SOCK_STREAM and not flags & (_PEEK | _NOWAIT)

    def _ii_recv_all(self, buffer: bytearray | memoryview, flags: int) -> int:
        taken, flags = 0, flags & ~_WAITALL | _NOWAIT
        with memoryview(buffer) as view:
            try:
                while taken < len(view):
                    check(self._ii_stop)
                    try:
                        count = _recv_into(self, view[taken:], 0, flags)
                    except BlockingIOError:
                        count = self._ii_retry(READ, self._ii_stop, None, _recv_into, view[taken:], 0, flags)
                    if not count:
                        break
                    taken += count
            except Interrupted as interrupted:
                interrupted.transferred, interrupted.partial = taken, bytes(view[:taken])
                raise
            except OSError as error:
                if not taken:
                    raise
                self._ii_kept_error = error  # as the kernel does: first the bytes, and the error with the next call
        return taken

    # Sending

    def _ii_before_sending(self) -> None:
        check(self._ii_stop)
        self._ii_has_asked = True

    def send(self, data: ReadableBuffer, flags: int = 0, /) -> int:
        """Send bytes; return how many were taken, which may be fewer than there are."""
        self._ii_before_sending()
        try:
            return _send(self, data, flags | _NOWAIT)
        except BlockingIOError:
            if self._ii_gives_up(flags):
                raise
        return self._ii_when_ready(WRITE, _send, data, flags | _NOWAIT)

    def sendto(self, data: ReadableBuffer, *flags_and_address: Any) -> int:
        """`sendto(data[, flags], address)`: send to an address; the lookup of a host name can be interrupted as well."""
        self._ii_before_sending()
        if not 1 <= len(flags_and_address) <= 2 or not isinstance(flags_and_address[0], int | tuple | str | bytes):
            return _sendto(self, data, *flags_and_address)  # which says what is wrong with them
        *given, address = flags_and_address
        if given and not isinstance(given[0], int):
            return _sendto(self, data, *flags_and_address)
        flags = given[0] if given else 0
        deadline = self._ii_deadline() if self._ii_own_timeout else None
        address = numeric(self.family, address, self._ii_stop, deadline)
        try:
            return _sendto(self, data, flags | _NOWAIT, address)
        except BlockingIOError:
            if self._ii_gives_up(flags):
                raise
        return self._ii_when_ready(WRITE, _sendto, data, flags | _NOWAIT, address)

    def sendmsg(
        self,
        buffers: Iterable[ReadableBuffer],
        ancdata: Iterable[tuple[int, int, ReadableBuffer]] = (),
        flags: int = 0,
        address: Any = None,
        /,
    ) -> int:
        """Send data from several buffers, and ancillary data; return how many bytes of data were taken."""
        self._ii_before_sending()
        buffers, ancdata = list(buffers), list(ancdata)  # they may be iterators, and be needed twice
        if address is not None:
            address = numeric(
                self.family, address, self._ii_stop, self._ii_deadline() if self._ii_own_timeout else None
            )
        try:
            return _sendmsg(self, buffers, ancdata, flags | _NOWAIT, address)
        except BlockingIOError:
            if self._ii_gives_up(flags):
                raise
        return self._ii_when_ready(WRITE, _sendmsg, buffers, ancdata, flags | _NOWAIT, address)

    def sendall(self, data: ReadableBuffer, flags: int = 0, /) -> None:
        """Send all of `data`.

        Raises:
            Interrupted: a stop was set; `.transferred` is exactly how many bytes were sent, and sending the rest later
                continues the stream.
            SendTimeout: a `TimeoutError`, with `.transferred` likewise.
        """
        try:
            self._ii_before_sending()
        except Interrupted as interrupted:
            interrupted.transferred = 0
            raise
        sent = 0
        try:
            sent = _send(self, data, flags | _NOWAIT)
        except BlockingIOError:
            pass
        if sent == (len(data) if type(data) is bytes else memoryview(data).nbytes):
            return  # which is mostly so
        with memoryview(data) as view, view.cast("B") as octets:
            self._ii_send_all(lambda sent: _send(self, octets[sent:], flags | _NOWAIT), len(octets), flags, sent=sent)

    def _ii_send_all(
        self,
        send: Callable[[int], int | None],
        size: float,
        flags: int = 0,
        *,
        sent: int = 0,
        short_is_full: bool = True,
        timeout_per_wait: bool = False,
        at_end: Callable[[int], object] | None = None,
    ) -> int:
        """Call `send(sent)` until `size` bytes are sent; return how many were.

        Args:
            send: returns how many bytes it has handed on, None at the end of the data, and may raise BlockingIOError.
            size: how many there are to send.
            flags: the caller's.
            sent: how many of them have been sent before.
            short_is_full: whether the kernel's buffer is full when `send` has taken only a part. Another attempt would
                only say so: wait at once.
            timeout_per_wait: whether the timeout begins anew with each wait, not once for all.
            at_end: called with the count, however this ends.
        """
        waits = SendWaits(self, anew=timeout_per_wait)
        try:
            while True:
                check(self._ii_stop)
                try:
                    count = send(sent)
                    full = short_is_full
                except BlockingIOError:
                    if self._ii_gives_up(flags):
                        raise
                    count, full = 0, True
                if count is None:
                    return sent
                sent += count
                if sent >= size:
                    return sent
                if full and not self._ii_gives_up(flags):
                    waits.wait(sent)
        except Interrupted as interrupted:
            sent += interrupted.transferred or 0  # of a send() that waits by itself
            interrupted.transferred = sent
            raise
        except TimeoutError as error:
            sent += getattr(error, "transferred", 0)
            raise SendTimeout(str(error), sent) from None
        finally:
            if at_end is not None:
                at_end(sent)

    # The two ways that socket.socket.sendfile chooses from.

    def _sendfile_use_sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        return send_by_kernel(self, file, offset, count)

    def _sendfile_use_send(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        return send_by_chunks(self, file, offset, count)

    def _ii_send_some(self, data: memoryview) -> int:
        return _send(self, data, _NOWAIT)

    def _ii_send_now(self, data: memoryview) -> int:
        """Send without waiting, whatever the stops say."""
        return _send(self, data, _NOWAIT)


if not hasattr(StandardSocket, "recvmsg"):  # whoever asks for them that way finds none on ours either
    del Socket.recvmsg, Socket.recvmsg_into, Socket.sendmsg
