"""`BufferedRandom`: the buffered class for files that are open for reading and writing.

Before it asks the raw file for bytes, a read writes what is buffered. The C code takes what it has read ahead first, and
when it is then stopped in writing, it throws that away, though its position is behind it. So a read that comes after a write
either writes by itself before the C code does anything, or looks afterwards how much had been taken.
"""

from __future__ import annotations

import io
import operator
from threading import get_ident
from typing import TYPE_CHECKING, Any, cast

from iointerrupt._errors import Interrupted
from iointerrupt._streams.buffered import Reading, Writing

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer, WriteableBuffer


def _into(read: Callable[..., int]) -> Any:
    """A method of the C class that fills a buffer: one that is stopped in writing tells what of it has been filled."""

    def read_into(self: BufferedRandom, buffer: WriteableBuffer, /) -> int:
        feed = self._feed
        if not feed.written:
            return read(self, buffer)
        position = io.BufferedRandom.tell(self)
        try:
            return read(self, buffer)
        except (Interrupted, TimeoutError) as error:
            feed.errors[get_ident()] = self._after_flush(error)  # `Reading` raises it, with what there is
            return io.BufferedRandom.tell(self) - position

    return read_into


def _behind_writes(read: Callable[..., bytes]) -> Any:
    """A method of the C class that reads, after what is buffered has been written: a stop in that has moved no byte of the read."""

    def read_behind_writes(self: BufferedRandom, /, *args: Any) -> bytes:
        if self._feed.written:
            try:
                self._c_flush()
            except (Interrupted, TimeoutError) as error:
                raise self._after_flush(error)  # noqa: B904 - the same error
            self._feed.written = False
        return read(self, *args)

    return read_behind_writes


class BufferedRandom(Reading, Writing, io.BufferedRandom):  # type: ignore[override]  # as at _Layer.raw
    """An `io.BufferedRandom` of which an interruption loses and repeats no byte. Arguments as for `BufferedReader`."""

    __slots__ = ("_feed",)

    _c_close = io.BufferedRandom.close
    _c_readline = _behind_writes(io.BufferedRandom.readline)
    _c_readinto = _into(io.BufferedRandom.readinto)
    _c_readinto1 = _into(io.BufferedRandom.readinto1)
    _c_peek = _behind_writes(io.BufferedRandom.peek)
    # The C class's read1 does not write what is buffered at all: it would read on from where the raw file stands, and drop what
    # was written. Text reads by it.
    _c_read1 = _behind_writes(io.BufferedRandom.read1)
    _c_read_behind_writes = _behind_writes(io.BufferedRandom.read)
    _c_flush = io.BufferedRandom.flush

    def seek(self, offset: int, whence: int = 0, /) -> int:
        position = super().seek(offset, whence)
        # Within what has been read ahead, the C code reckons from where it left the raw file, and does not know that a write
        # which was stopped has left it elsewhere. It goes to the right place, and returns another.
        return self.tell() if self._feed.written else position

    def _c_read(self, size: int | None = -1, /) -> bytes:
        feed = self._feed
        if not feed.written:
            return io.BufferedRandom.read(self, size)
        count = -1 if size is None else operator.index(size)
        if not 0 <= count < feed.buffer_size:
            return cast("bytes", self._c_read_behind_writes(count))
        # Often all of it has been read ahead: who changes records in turn need not write and read anew for each of them.
        data = bytearray(count)
        taken = self._c_readinto(data)
        # None is what the raw file has said.
        return cast("bytes", None if taken is None else bytes(memoryview(data)[:taken]))

    def _c_write(self, buffer: ReadableBuffer, /) -> int:
        self._feed.written = True
        return io.BufferedRandom.write(self, buffer)
