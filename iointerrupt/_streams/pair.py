"""`BufferedRWPair`: a reader and a writer in one object, as a file over a socket that is open for both."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from iointerrupt._stop import StopEvent
from iointerrupt._streams.buffered import BUFFER_SIZE, BufferedReader, BufferedWriter
from iointerrupt._streams.feed import cannot_pickle
from iointerrupt._types import StopLike

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    from iointerrupt._streams.feed import Feed


class BufferedRWPair(io.BufferedRWPair):
    """An `io.BufferedRWPair` of which an interruption loses and repeats no byte.

    One thread may read while another writes.

    Args:
        reader: a raw file that can be read.
        writer: a raw file that can be written; the same, for a socket.
        buffer_size: in bytes, of each of the two buffers.
    """

    __slots__ = ("_reader", "_writer")

    _reader_class: type[BufferedReader] = BufferedReader

    def __init__(self, reader: Any, writer: Any, buffer_size: int = BUFFER_SIZE) -> None:
        # Not super().__init__(), which would make io's own two; nothing below goes to them.
        self._reader = self._reader_class(reader, buffer_size)
        self._writer = BufferedWriter(writer, buffer_size)

    @property
    def stop(self) -> StopEvent | None:
        """The own stop of both halves."""
        return self._reader.stop

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._reader.stop = stop
        self._writer.stop = stop

    __reduce_ex__ = cannot_pickle

    def read(self, size: int | None = -1, /) -> bytes:
        return self._reader.read(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._reader.readline(size)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        return self._reader.readlines(-1 if hint is None else hint)

    def read1(self, size: int = -1, /) -> bytes:
        return self._reader.read1(size)

    def peek(self, size: int = 0, /) -> bytes:
        return self._reader.peek(size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        return self._reader.readinto(buffer)

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        return self._reader.readinto1(buffer)

    def write(self, buffer: ReadableBuffer, /) -> int:
        return self._writer.write(buffer)

    def writelines(self, lines: Iterable[ReadableBuffer], /) -> None:
        self._writer.writelines(lines)

    def flush(self) -> None:
        self._writer.flush()

    def readable(self) -> bool:
        return self._reader.readable()

    def writable(self) -> bool:
        return self._writer.writable()

    def isatty(self) -> bool:
        return self._writer.isatty() or self._reader.isatty()

    @property
    def closed(self) -> bool:
        return self._writer.closed

    def close(self) -> None:
        """Close both halves, the writer first; see `BufferedWriter.close`."""
        try:
            self._writer.close()
        finally:
            self._reader.close()

    def _source(self) -> Feed:
        return self._reader._feed

    def _absorb(self, data: bytes) -> None:
        self._writer._absorb(data)
