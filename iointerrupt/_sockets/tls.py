"""`SSLSocket`: an `ssl.SSLSocket` over a `Socket`, each of whose blocking methods a stop ends.

Theory of operation. The descriptor is non-blocking and the C object's timeout is 0, so OpenSSL makes one attempt and says
which readiness it misses (`SSLWantReadError`, `SSLWantWriteError`). An operation is: check the stops, try, wait in `_ii_wait`
for that, try again. As it tries first, data that OpenSSL has already decrypted is found although the descriptor is not
readable, and neither half a record nor a session ticket (which is readable but holds no data) can block it.

Reads: one attempt gives at most one record, 16 KiB. `recv_into` goes on for as long as full records come without waiting.

Writes: a record that OpenSSL could send only in part has to be sent to its end, by the same call with the same data.
After a stop or a timeout that data is kept in `_half_sent`, and the next write must begin with it. It need not count as
sent: the other side cannot decrypt a part of a record. To know exactly what was sent, writes go record by record. OpenSSL
would complete a record with any data and count that as sent, so while a write waits, or has more records to send, it is
`_writing`, and another one is refused.

Ownership: an OpenSSL object serves one thread at a time, and here no attempt blocks: `_turn` serialises them. So one thread
may read while another writes. It guards `_half_sent` and `_writing` as well. It is re-entrant as a signal handler may use the socket that its thread is using; it is not
held while waiting, nor during a handshake, which calls the callbacks of the context.
"""

from __future__ import annotations

import errno
import os
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from iointerrupt._errors import Interrupted, ResourceBusy
from iointerrupt._sockets.sending import SendTimeout
from iointerrupt._sockets.socket import Socket
from iointerrupt._stop import StopEvent, use_stop
from iointerrupt._wait import READ, WRITE, check

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

_RECORD = 16384  # the most that a record holds (RFC 8446, 5.1)


class SSLSocket(ssl.SSLSocket, Socket):  # type: ignore[misc]  # ssl.SSLSocket names and defaults arguments its own way
    """An `ssl.SSLSocket` whose blocking methods end when a stop is set: its own, or the current one.

    `context.sslsocket_class = SSLSocket` makes `context.wrap_socket` give these; the stop is that of the `Socket` that is
    wrapped, and none for another socket until `.stop` is set. The descriptor becomes non-blocking, also where it came
    from elsewhere.

    A stop raises `Interrupted`:

    - in a read no byte is lost, and reading can be continued;
    - a handshake, also that of `connect`, or `unwrap` can be continued by calling `do_handshake` or `unwrap` again; a
      handshake within `wrap_socket` closes the socket, which nobody would have;
    - in a write `.transferred` is how many bytes were sent, and the rest may be sent later. It has to be the *same* rest:
      TLS cannot take back a record that has been sent in part, so anything else raises `ssl.SSLError`, and the connection
      is then only good for reading and closing. The same holds after a timeout.

    One thread may read while another writes. Of writers there is one at a time: while a thread is in the middle of a
    write, the write or `unwrap` of another one (or of a signal handler) raises `ResourceBusy` and sends nothing.
    """

    # Of the standard class; the first is what OpenSSL does, None where there is no TLS (yet, or any more).
    _sslobj: Any
    _connected: bool
    _check_connected: Callable[[], None]
    do_handshake_on_connect: bool
    suppress_ragged_eofs: bool

    _turn: threading.RLock
    _half_sent: bytes = b""
    _writing: object = None

    @classmethod
    def _create(  # noqa: PLR0917 - the signature is the standard library's
        cls,
        sock: Any,
        server_side: bool = False,  # noqa: FBT001, FBT002 - as above
        do_handshake_on_connect: bool = True,  # noqa: FBT001, FBT002 - as above
        suppress_ragged_eofs: bool = True,  # noqa: FBT001, FBT002 - as above
        server_hostname: str | None = None,
        context: ssl.SSLContext | None = None,
        session: ssl.SSLSession | None = None,
    ) -> SSLSocket:
        # The handshake has to wait for the stop, which the new object gets here.
        stop = sock._ii_stop if isinstance(sock, Socket) else None
        # Before, the standard method makes it, and looks by a recv() whether an unconnected one has data. None of that waits,
        # and a stop that is set would leave the half-made object open.
        with use_stop(None):
            self: SSLSocket = super()._create(  # type: ignore[misc]  # what SSLContext.wrap_socket calls
                sock, server_side, False, suppress_ragged_eofs, server_hostname, context, session
            )
        self._turn = threading.RLock()
        self.stop = stop
        self._ii_make_nonblocking()
        self.do_handshake_on_connect = do_handshake_on_connect
        if self._sslobj is not None and do_handshake_on_connect:
            try:
                self._handshake_at_once()
            except BaseException:
                self.close()
                raise
        return self

    def _handshake_at_once(self) -> None:
        if self.gettimeout() == 0.0:
            raise ValueError("do_handshake_on_connect should not be specified for non-blocking sockets")
        self.do_handshake()

    def _attempt(self, own: StopEvent | None, timeout: float | None, attempt: Callable[..., T], *args: Any) -> T:
        """What `attempt(*args)` returns once OpenSSL can do it."""
        check(own)
        deadline: float | None = None
        has_waited = False
        while True:
            try:
                return attempt(*args)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
                if timeout == 0.0:
                    raise
                events = READ if isinstance(wanted, ssl.SSLWantReadError) else WRITE
            if not has_waited:
                deadline, has_waited = None if timeout is None else time.monotonic() + timeout, True
            self._ii_wait(events, own, deadline)

    # Handshake and end

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - the signature is the standard library's
        """Do the TLS handshake, or go on with one that was interrupted."""
        self._check_connected()
        if self._sslobj is None:
            raise ValueError(f"No SSL wrapper around {self}")
        timeout = None if block and self._ii_own_timeout == 0.0 else self._ii_own_timeout
        self._attempt(self._ii_stop, timeout, self._sslobj.do_handshake)

    def unwrap(self) -> Any:
        """End TLS, wait for the other side to do so too, and return the socket, which is then a plain one."""
        sslobj = self._sslobj
        if not sslobj:
            raise ValueError(f"No SSL wrapper around {self}")

        def attempt() -> Any:
            with self._turn:
                self._refuse_unless_next(b"", None)
                return sslobj.shutdown()

        socket = self._attempt(self._ii_stop, self._ii_own_timeout, attempt)
        self._sslobj = None
        return socket

    def _real_connect(self, addr: Any, connect_ex: bool) -> int | None:  # noqa: FBT001 - as the standard class calls it
        try:
            return super()._real_connect(addr, connect_ex)  # type: ignore[misc, no-any-return]  # what both connects are
        except Interrupted:
            if not self._connected:
                self._sslobj = None  # as after an error, so that connect can be called again
            raise

    # Reading

    def read(self, len: int = 1024, buffer: WriteableBuffer | None = None) -> Any:  # noqa: A002 - as the standard class
        """Read up to `len` bytes, of one record at most, into `buffer` or as bytes; 0 or empty at the end."""
        return self._read(len, buffer, self._ii_stop, self._ii_own_timeout)

    def _read(self, size: int, buffer: WriteableBuffer | None, own: StopEvent | None, timeout: float | None) -> Any:
        try:
            return self._attempt(own, timeout, self._read_record, size, buffer)
        except ssl.SSLError as error:
            if error.args[0] == ssl.SSL_ERROR_EOF and self.suppress_ragged_eofs:
                return b"" if buffer is None else 0
            raise

    def _read_record(self, size: int, buffer: WriteableBuffer | None) -> Any:
        with self._turn:
            sslobj = self._sslobj
            if sslobj is None:
                raise ValueError("Read on closed or unwrapped SSL socket.")
            self._ii_raise_kept_error()
            return sslobj.read(size) if buffer is None else sslobj.read(size, buffer)

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive up to `nbytes` bytes (None or 0: as many as fit) into `buffer`; return how many, 0 at the end.

        It waits for the first record only, and then takes what follows without waiting. So a large buffer is filled in
        one call while data flows. An error behind the first record is raised by the next call.
        """
        if self._sslobj is None or flags:
            return super().recv_into(buffer, nbytes, flags)
        taken: int = self._read(nbytes or 0, buffer, self._ii_stop, self._ii_own_timeout)
        return self._read_on(buffer, nbytes, self._ii_stop) if taken == _RECORD else taken

    def _ii_receive(self, buffer: memoryview, own: StopEvent | None, timeout: float | None) -> int:
        if self._sslobj is None:
            return super()._ii_receive(buffer, own, timeout)
        taken: int = self._read(0, buffer, own, timeout)
        return self._read_on(buffer, None, own) if taken == _RECORD else taken

    def _read_on(self, buffer: WriteableBuffer, nbytes: int | None, own: StopEvent | None) -> int:
        # Behind a full record in the buffer; one that is shorter is the last for now.
        taken = more = _RECORD
        with memoryview(buffer) as view, view.cast("B") as octets, self._turn:
            size = min(nbytes, len(octets)) if nbytes and nbytes > 0 else len(octets)
            sslobj = self._sslobj
            if size <= taken or sslobj is None:
                return taken
            read = sslobj.read
            try:
                while more == _RECORD and taken < size:
                    check(own)
                    more = read(size - taken, octets[taken:])
                    taken += more
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, Interrupted):
                pass
            except OSError as error:
                self._ii_kept_error = error
        return taken

    # Writing

    def write(self, data: ReadableBuffer) -> int:
        """Send `data`; return how many bytes were sent: all, or with a timeout of 0 those of one record.

        Raises:
            ResourceBusy: another thread is in the middle of a write; see the class.
            Interrupted, SendTimeout: as `sendall`.
        """
        if self._sslobj is None:
            raise ValueError("Write on closed or unwrapped SSL socket.")
        sent, call = 0, object()
        with memoryview(data) as view, view.cast("B") as octets:
            try:
                while True:
                    sent += self._attempt(self._ii_stop, self._ii_own_timeout, self._write_record, octets[sent:], call)
                    if sent >= len(octets) or self._ii_own_timeout == 0.0:
                        return sent
            except Interrupted as interrupted:
                interrupted.transferred = sent
                raise
            except TimeoutError as error:
                raise SendTimeout(str(error), sent) from None
            finally:
                self._end_write(call)

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """As `write`."""
        return super().send(data, flags) if self._sslobj is None or flags else self.write(data)

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Send all of `data`.

        Raises:
            Interrupted: a stop was set; `.transferred` is exactly how many bytes were sent. See the class.
            SendTimeout: a `TimeoutError`, with `.transferred` likewise.
            ResourceBusy: another thread is in the middle of a write; see the class.
        """
        if self._sslobj is None or flags or self._ii_own_timeout == 0.0:
            super().sendall(data, flags)
        else:
            self.write(data)

    def _ii_send_some(self, data: memoryview) -> int:
        return super()._ii_send_some(data) if self._sslobj is None else self.write(data)

    def _ii_send_now(self, data: memoryview) -> int:
        if self._sslobj is None:
            return super()._ii_send_now(data)
        call = object()
        try:
            return self._write_record(data, call)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
        finally:
            self._end_write(call)

    def _write_record(self, rest: memoryview, call: object) -> int:
        """Send one record of `rest`, which is what the write `call` has still to send; return how many bytes it held."""
        with self._turn:
            sslobj = self._sslobj
            if sslobj is None:
                raise ValueError("Write on closed or unwrapped SSL socket.")
            self._refuse_unless_next(rest, call)
            self._writing = call  # before the attempt, as a signal handler may write right behind it
            record = rest[: len(self._half_sent) or _RECORD]
            try:
                sent: int = sslobj.write(record)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                self._half_sent = self._half_sent or bytes(record)
                raise
            self._half_sent = b""
            if sent == len(rest):
                self._writing = None  # within the turn: the next thread in the queue for it is not refused
            return sent

    def _end_write(self, call: object) -> None:
        if self._writing is call:  # and nobody but that call changes it
            self._writing = None

    def _refuse_unless_next(self, data: memoryview | bytes, call: object) -> None:
        if self._writing is not None and self._writing is not call:
            raise ResourceBusy(f"another thread is in the middle of a write to {self!r}")
        # OpenSSL itself compares no more than the length, and would go on with the record that it has.
        if self._half_sent and data[: len(self._half_sent)] != self._half_sent:
            raise ssl.SSLError(
                ssl.SSL_ERROR_SSL,
                "a write was interrupted within a TLS record: send the data from Interrupted.transferred on, or close",
            )
