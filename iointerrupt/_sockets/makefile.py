"""Files over a socket: what `Socket.makefile` returns.

The standard `socket.SocketIO` refuses to go on after a timeout, since the stock buffers above it have lost bytes then. The
buffers here lose none (see `_streams.buffered`), so neither a timeout nor a stop ends the file.
"""

from __future__ import annotations

import io
import socket
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from iointerrupt._sockets.base import BaseSocket
from iointerrupt._stop import _current, as_stop
from iointerrupt._streams.buffered import BufferedReader, BufferedWriter, Reading
from iointerrupt._streams.pair import BufferedRWPair
from iointerrupt._streams.text import open_text
from iointerrupt._wait import check

if TYPE_CHECKING:
    from typing import Unpack

    from _typeshed import ReadableBuffer, WriteableBuffer

    from iointerrupt._sockets.shapes import Read, ReadWrite, Rest, Text, Write
    from iointerrupt._sockets.socket import Socket
    from iointerrupt._stop import StopEvent
    from iointerrupt._streams.text import TextFile
    from iointerrupt._types import StopLike

_get_current = _current.get
_c_read, _c_readline = io.BufferedReader.read, io.BufferedReader.readline


class MakesFiles(BaseSocket):
    """A socket with files over it."""

    __slots__ = ()

    # As typeshed has it for socket.socket.

    @overload
    def makefile(self, mode: Read | Write | ReadWrite, buffering: Literal[0], **rest: Unpack[Rest]) -> SocketFile: ...
    @overload
    def makefile(
        self, mode: ReadWrite, buffering: Literal[-1, 1] | None = None, **rest: Unpack[Rest]
    ) -> SocketPair: ...
    @overload
    def makefile(self, mode: Read, buffering: Literal[-1, 1] | None = None, **rest: Unpack[Rest]) -> SocketReader: ...
    @overload
    def makefile(
        self, mode: Write, buffering: Literal[-1, 1] | None = None, **rest: Unpack[Rest]
    ) -> BufferedWriter: ...
    @overload
    def makefile(self, mode: Read | Write | ReadWrite, buffering: int, **rest: Unpack[Rest]) -> io.IOBase: ...
    @overload
    def makefile(self, mode: Text = "r", buffering: int | None = None, **rest: Unpack[Rest]) -> TextFile: ...
    def makefile(
        self,
        mode: str = "r",
        buffering: int | None = None,
        *,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
    ) -> Any:
        """A file over the socket, as `socket.socket.makefile` gives, which a stop or a timeout costs no byte.

        It stops as the socket does. What an interrupted read had taken is in `Interrupted.partial`, and after a timeout
        it can be read on, where a file over a `socket.socket` refuses to.
        """
        return _open_over(cast("Socket", self), mode, buffering, encoding=encoding, errors=errors, newline=newline)


def _open_over(
    sock: Socket,
    mode: str,
    buffering: int | None,
    *,
    encoding: str | None,
    errors: str | None,
    newline: str | None,
) -> Any:
    """The file for `Socket.makefile` with these arguments."""
    if not set(mode) <= {"r", "w", "b"}:
        raise ValueError(f"invalid mode {mode!r} (only r, w, b allowed)")
    writing = "w" in mode
    reading = "r" in mode or not writing
    binary = "b" in mode
    if buffering is None or buffering < 0:
        buffering = io.DEFAULT_BUFFER_SIZE
    if not buffering and not binary:
        raise ValueError("unbuffered streams must be binary")
    encoding = None if binary else io.text_encoding(encoding)
    raw = SocketFile(sock, f"{'r' * reading}{'w' * writing}")  # type: ignore[arg-type]  # one of "r", "w", "rw"
    sock._io_refs += 1  # type: ignore[attr-defined]  # how the standard class knows to stay open for the file
    if not buffering:
        return raw
    buffer: Any
    if reading and writing:
        buffer = SocketPair(raw, raw, buffering)
    elif reading:
        buffer = SocketReader(raw, buffering)
    else:
        buffer = BufferedWriter(raw, buffering)
    if binary:
        return buffer
    text: Any = open_text(buffer, encoding, errors, newline)
    text.mode = mode
    return text


class SocketFile(socket.SocketIO):
    """The raw file; what it offers beyond `io.RawIOBase` is in `_streams.feed`."""

    _sock: Socket

    @property
    def stop(self) -> StopEvent | None:
        """The socket's own stop."""
        return self._sock._ii_stop

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._sock._ii_stop = as_stop(stop)

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._checkClosed()
        self._checkReadable()  # type: ignore[attr-defined]  # of io's C class
        try:
            return self._sock.recv_into(buffer)
        except BlockingIOError:
            return None

    def write(self, data: ReadableBuffer) -> int | None:
        self._checkClosed()
        self._checkWritable()  # type: ignore[attr-defined]  # as above
        try:
            return self._sock.send(data)
        except BlockingIOError:
            return None

    def _write_now(self, data: memoryview) -> int | None:
        try:
            return self._sock._ii_send_now(data)
        except BlockingIOError:
            return None


class SocketReader(BufferedReader):
    """A `BufferedReader` over a `SocketFile`.

    Clients of databases read a few bytes at a time, all in the buffer: what they pay for each is what is written out here. What
    is not common is `Reading`'s.
    """

    __slots__ = ()

    def read(self, size: int | None = -1, /) -> bytes:
        feed = self._feed
        if feed.inside is not None or (sock := feed.raw._sock) is None:
            return Reading.read(self, size)
        own, current = sock._ii_stop, _get_current()
        if (own is not None and (own._latch.fired or own._must_ask)) or (
            current is not None and (current._latch.fired or current._must_ask)
        ):
            check(own)
        data = _c_read(self, size)
        if feed.errors:
            self._raise_after(data)
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        feed = self._feed
        if feed.inside is not None or (sock := feed.raw._sock) is None:
            return Reading.readline(self, size)
        own, current = sock._ii_stop, _get_current()
        if (own is not None and (own._latch.fired or own._must_ask)) or (
            current is not None and (current._latch.fired or current._must_ask)
        ):
            check(own)
        line = _c_readline(self, size)
        if feed.errors:
            self._raise_after(line)
        return line


class SocketPair(BufferedRWPair):
    """A `BufferedRWPair` over a `SocketFile`."""

    __slots__ = ()

    _reader_class = SocketReader
