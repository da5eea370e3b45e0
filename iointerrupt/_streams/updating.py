"""`BufferedRandom`: the buffered class for files that are open for reading and writing."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from iointerrupt._errors import Interrupted
from iointerrupt._streams.buffered import BUFFER_SIZE, Reading, Writing

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def _behind_writes(read: Any) -> Any:
    """A method of the C class that reads, and before that writes what is buffered: a stop in that has moved no byte of the read."""

    def read_behind_writes(self: BufferedRandom, *args: Any) -> Any:
        try:
            return read(self, *args)
        except (Interrupted, TimeoutError) as error:
            raise self._after_flush(error)  # noqa: B904 - the same error

    return read_behind_writes


class BufferedRandom(Reading, Writing, io.BufferedRandom):  # type: ignore[override]  # as at _Layer.raw
    """An `io.BufferedRandom` of which an interruption loses and repeats no byte. Arguments as for `BufferedReader`."""

    __slots__ = ("_feed", "_written")

    _c_close = io.BufferedRandom.close
    _c_read = _behind_writes(io.BufferedRandom.read)
    _c_readline = _behind_writes(io.BufferedRandom.readline)
    _c_readinto = _behind_writes(io.BufferedRandom.readinto)
    _c_readinto1 = _behind_writes(io.BufferedRandom.readinto1)
    _c_peek = _behind_writes(io.BufferedRandom.peek)
    _c_flush = io.BufferedRandom.flush

    def __init__(self, raw: Any, buffer_size: int = BUFFER_SIZE) -> None:
        self._written = False  # since the last read1: the buffer may hold bytes for the raw file
        super().__init__(raw, buffer_size)

    # The C class's read1 is the one that does not write what is buffered first: it would read on from where the raw file stands,
    # and drop what was written. Text reads by it.

    def _c_read1(self, size: int = -1, /) -> bytes:
        if self._written:
            try:
                self._c_flush()
            except (Interrupted, TimeoutError) as error:
                raise self._after_flush(error)  # noqa: B904 - the same error
            self._written = False
        return io.BufferedRandom.read1(self, size)

    def _c_write(self, buffer: ReadableBuffer, /) -> int:
        self._written = True
        return io.BufferedRandom.write(self, buffer)
