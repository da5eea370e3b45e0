"""The buffered binary classes of `io`, with the one difference that an interruption loses and repeats no byte.

They are subclasses of the C classes, so what they share with them is theirs: the buffer, the position, the lock. What is
here is what an interruption touches:

- A read that is interrupted raises, and what it had taken is in the exception's `partial` (`Interrupted.partial`, or
  `Stalled.partial` after a timeout). The position is behind those bytes: the next read goes on after them.
- A write that is interrupted raises, and `Interrupted.transferred` says how many bytes of *this call's* data were taken,
  written or buffered: the caller goes on with `data[transferred:]`. What had been buffered before stays in the buffer.
- A `close` that is interrupted first writes what can be written without waiting. For a regular file that is all of it,
  and the close succeeds; for a pipe the rest is in `Interrupted.partial`. The descriptor is closed in any case.

A method here runs for every call on the object, be it for 100 bytes: so where it matters, whether a check could find
anything is written out (a stop that has not fired and need not be asked is not set), and the C methods are class
attributes (`_c_read`), which are called without a detour through `super`.

An object serves one thread at a time. The C code has a lock, whose wait nothing can interrupt; so a call while another
thread may be blocked inside raises `ResourceBusy` instead. (Two calls that begin in the same instant can both get past
that question; the second then waits as long as the first.)
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any, ClassVar, Final

from iointerrupt._errors import Interrupted, ResourceBusy, Stalled
from iointerrupt._stop import StopEvent, _current
from iointerrupt._streams.feed import Feed, cannot_pickle, feed_for, moved, with_taken
from iointerrupt._types import StopLike
from iointerrupt._wait import check

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    _Base = io.BufferedIOBase
else:
    _Base = object

#: Larger than io's 8 KiB: a call costs more here, and this saves more system calls than that.
BUFFER_SIZE: Final = 1 << 17

_get_current = _current.get
_c_read, _c_readline = io.BufferedReader.read, io.BufferedReader.readline


class _Layer(_Base):
    """What readers and writers have in common: the feed, and what is asked through it."""

    __slots__ = ()

    _feed: Feed
    _c_close: ClassVar[Callable[..., None]]

    def __init__(self, raw: Any, buffer_size: int = BUFFER_SIZE) -> None:
        self._feed = feed_for(raw, buffer_size)
        super().__init__(self._feed, buffer_size)  # type: ignore[call-arg]  # of the C class that comes next

    @property
    def stop(self) -> StopEvent | None:
        """The own stop of this object and of the raw file under it."""
        own: StopEvent | None = self._feed.stop
        return own

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._feed.bind(stop)

    @property  # as read-only as the C attribute, which typeshed takes for writable
    def raw(self) -> Any:
        """The raw file."""
        return self._feed.raw

    def detach(self) -> Any:
        super().detach()
        return self._feed.let_go()

    __reduce_ex__ = cannot_pickle

    def close(self) -> None:
        """Flush and close.

        Raises:
            Interrupted: a stop is set, and not all that was buffered could be written without waiting; the rest is in
                `partial`. The file is closed nevertheless.
            Stalled: the same after a timeout.
            ResourceBusy: another thread is blocked in this object; it is not closed.
        """
        feed = self._feed
        if feed.inside is not None:
            self._busy()
        feed.closing = True
        try:
            self._c_close()
        finally:
            feed.closing = False
            feed.errors.pop(get_ident(), None)

    def _source(self) -> Feed:
        return self._feed

    def _regardless(self, function: Callable[..., Any], *args: Any) -> Any:
        # For text over a file that does not block: a call in which no stop counts.
        feed = self._feed
        feed.regardless = True
        try:
            if feed.spill:
                self._pour()
            return function(*args)
        finally:
            feed.regardless = False

    def _pour(self) -> None:
        """What `Writing` does with its spill; a reader has none."""

    def _busy(self) -> None:
        # In the same thread it is a signal handler or the like, which the C code refuses by itself.
        if self._feed.inside not in (None, get_ident()):
            raise ResourceBusy(f"another thread is blocked in {self!r}")

    def _raise_after(self, taken: bytes) -> None:
        # What this thread's call met on its way, if it was this thread's.
        error = self._feed.errors.pop(get_ident(), None)
        if error is not None:
            try:
                raise with_taken(error, taken)
            finally:
                del error  # its traceback refers to this frame


class Reading(_Layer):
    """The reading half of a buffered class."""

    __slots__ = ()

    _c_read: ClassVar[Callable[..., bytes]]
    _c_readline: ClassVar[Callable[..., bytes]]
    _c_readinto: ClassVar[Callable[..., int]]
    _c_readinto1: ClassVar[Callable[..., int]]
    _c_read1: ClassVar[Callable[..., bytes]]
    _c_peek: ClassVar[Callable[..., bytes]]

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, fewer only at the end of the file; all that is left if `size` is negative or None.

        Raises:
            Interrupted: what had been read is in `partial`.
            Stalled: the same, when a wait took longer than the timeout; a plain TimeoutError if nothing had been read.
            ResourceBusy: another thread is blocked in this object.
        """
        feed = self._feed
        own = feed.stop
        if (own is not None and (own._latch.fired or own._must_ask)) or _get_current() is not None:
            check(own)
        if feed.inside is not None:
            self._busy()
        data = self._c_read(size)
        if feed.errors:
            self._raise_after(data)
        feed.settle()
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read to the end of the line, at most `size` bytes; raises as `read` does."""
        feed = self._feed
        own = feed.stop
        if (own is not None and (own._latch.fired or own._must_ask)) or _get_current() is not None:
            check(own)
        if feed.inside is not None:
            self._busy()
        line = self._c_readline(size)
        if feed.errors:
            self._raise_after(line)
        feed.settle()
        return line

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """All lines, or as many as it takes to reach `hint` bytes; `partial` is those before the stop, joined."""
        lines: list[bytes] = []
        wanted = hint if hint is not None and hint > 0 else None
        try:
            for line in self:
                lines.append(line)
                if wanted is not None:
                    wanted -= len(line)
                    if wanted <= 0:
                        break
        except (Interrupted, TimeoutError) as error:
            raise with_taken(error, b"".join([*lines, getattr(error, "partial", None) or b""]))  # noqa: B904 - the same error
        return lines

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer, less only at the end of the file.

        Raises:
            Interrupted: the first `transferred` bytes of the buffer have been filled.
            Stalled: after a timeout; those bytes are in `partial` as well.
        """
        try:
            self._enter()
            count = self._c_readinto(buffer)
        except Interrupted as interrupted:
            interrupted.transferred = 0  # it has not come to that
            raise
        error = self._feed.errors.pop(get_ident(), None) if self._feed.errors else None
        if isinstance(error, Interrupted):
            error.transferred, error.partial = count or 0, None
        if error is not None:
            try:
                if isinstance(error, TimeoutError):
                    raise with_taken(error, bytes(memoryview(buffer).cast("B")[: count or 0]))
                raise error
            finally:
                del error  # its traceback refers to this frame
        return count

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        """Read what one read of the raw file gives; raises as `read` does, with nothing taken."""
        self._enter()
        count = self._c_readinto1(buffer)
        self._raise_unless(count)
        return count

    def read1(self, size: int = -1, /) -> bytes:
        """Read what is buffered, or else what one read of the raw file gives; raises as `read` does, with nothing taken."""
        self._enter()
        data = self._c_read1(size)
        self._raise_unless(data)
        return data

    def peek(self, size: int = 0, /) -> bytes:
        """What is buffered, without taking it, after one read of the raw file if that is nothing."""
        self._enter()
        data = self._c_peek(size)
        self._raise_unless(data)
        return data

    def _enter(self) -> None:
        check(self._feed.stop)
        if self._feed.inside is not None:
            self._busy()

    def _raise_unless(self, completed: object) -> None:
        # What takes whatever comes is complete with any of it; the stop is still set at the next call.
        errors = self._feed.errors
        if errors:
            error = errors.pop(get_ident(), None)
            if error is not None and not completed:
                try:
                    raise with_taken(error, b"")
                finally:
                    del error  # its traceback refers to this frame


class Writing(_Layer):
    """The writing half of a buffered class.

    The spill: `TextIOWrapper` drops what it wanted to write when a write fails. So what comes from text is always taken
    (`_absorb`): what cannot be written stays in `_streams.feed.spill`, behind the buffer, and goes out before anything else does.
    """

    __slots__ = ()

    _c_write: ClassVar[Callable[..., int]]
    _c_flush: ClassVar[Callable[..., None]]

    def write(self, buffer: ReadableBuffer, /) -> int:
        """Take all of `buffer`, writing as it does not fit; returns its size in bytes.

        Raises:
            Interrupted: `transferred` bytes of `buffer` have been taken, and the rest has not.
            Stalled: the same after a timeout; the bytes taken are in `partial`. A plain TimeoutError if there are none.
            ResourceBusy: another thread is blocked in this object.
        """
        feed = self._feed
        own = feed.stop
        if (own is not None and (own._latch.fired or own._must_ask)) or _get_current() is not None:
            self._check_write(own)
        if feed.inside is not None:
            self._busy()
        try:
            if feed.spill:
                self._pour()
            small = type(buffer) is bytes and len(buffer) < feed.buffer_size
            count = self._c_write(buffer) if small else self._write_large(buffer)
        except (Interrupted, TimeoutError) as error:
            raise self._after_write(error, buffer)  # noqa: B904 - the same error
        if feed.errors:  # all has been taken nevertheless; the stop is still set at the next call
            feed.errors.pop(get_ident(), None)
        return count

    def writelines(self, lines: Iterable[ReadableBuffer], /) -> None:
        """Write each of `lines`; `transferred` counts the bytes of all of them that were taken."""
        if self.closed:
            raise ValueError("write to closed file")
        done = 0
        for line in lines:
            try:
                done += self.write(line)
            except Interrupted as error:
                error.transferred = done + moved(error)
                raise

    def flush(self) -> None:
        """Write what is buffered.

        Raises:
            Interrupted: what has not been written is still buffered; another flush goes on with it.
            TimeoutError: as well.
            ResourceBusy: another thread is blocked in this object.
        """
        feed = self._feed
        if not feed.closing:
            check(feed.stop)
            if feed.inside is not None:
                self._busy()
        try:
            self._c_flush()
            if feed.spill:
                self._pour()
                self._c_flush()
        except (Interrupted, TimeoutError) as error:
            raise self._after_flush(error)  # noqa: B904 - the same error
        finally:
            feed.errors.pop(get_ident(), None)

    def seek(self, offset: int, whence: int = 0, /) -> int:
        self._pour()
        return super().seek(offset, whence)

    def tell(self) -> int:
        return super().tell() + sum(map(len, self._feed.spill))

    def truncate(self, size: int | None = None, /) -> int:
        self._pour()
        return super().truncate(size)

    def _absorb(self, data: bytes) -> None:
        """Take all of `data` whatever happens, and then raise what a write of it raises."""
        feed = self._feed
        if feed.spill:
            feed.spill.append(data)
            self._pour()
            return
        try:
            self.write(data)
        except (Interrupted, TimeoutError) as error:
            feed.spill.append(data[moved(error) :])
            raise

    def _pour(self) -> None:
        spill = self._feed.spill
        while spill:
            try:
                self._write_large(spill[0])
            except (Interrupted, TimeoutError) as error:
                spill[0] = spill[0][moved(self._after_write(error, spill[0])) :]
                raise
            del spill[0]
        self._feed.errors.pop(get_ident(), None)  # all has been taken nevertheless

    def _write_large(self, buffer: ReadableBuffer) -> int:
        # What is as large as the buffer is written straight from the caller's memory, after what the buffer holds. That is
        # flushed first, so that what the raw file then takes is this call's, and can be counted.
        feed = self._feed
        if memoryview(buffer).nbytes < feed.buffer_size:
            return self._c_write(buffer)
        self._c_flush()
        feed.direct = True
        try:
            return self._c_write(buffer)
        finally:
            feed.direct = False

    def _check_write(self, own: StopEvent | None) -> None:
        try:
            check(own)
        except Interrupted as error:
            error.transferred = 0
            raise

    def _after_write(self, error: Interrupted | TimeoutError, buffer: ReadableBuffer) -> Interrupted | TimeoutError:
        # The error of a write of whose data the raw file refused the last `left` bytes; None if it did not get to that.
        left, self._feed.left = self._feed.left, None
        view = memoryview(buffer).cast("B")
        taken = 0 if left is None else len(view) - left
        if isinstance(error, Interrupted):
            error.transferred = taken
            error.partial = None
            return error
        return with_taken(error, bytes(view[:taken]))

    def _after_flush(self, error: Interrupted | TimeoutError) -> Interrupted | TimeoutError:
        feed = self._feed
        feed.left = None
        if isinstance(error, Interrupted):
            error.transferred = error.partial = None
        if not feed.closing:
            return error
        unwritten = b"".join([feed.unwritten, *feed.spill])
        feed.unwritten = b""
        feed.spill.clear()
        if isinstance(error, Interrupted):
            error.partial = unwritten or None
            return error
        return Stalled("timed out with bytes unwritten", unwritten)


class BufferedReader(Reading, io.BufferedReader):  # type: ignore[override]  # as at _Layer.raw
    """An `io.BufferedReader` of which an interrupted read loses no byte.

    Args:
        raw: the raw file, which it owns. What a raw file may offer beyond `io.RawIOBase` is listed in `_streams.feed`.
        buffer_size: in bytes.

    Raises:
        OSError: `raw` cannot be read.
        ValueError: the size is not positive.
    """

    __slots__ = ("_feed",)

    _c_close = io.BufferedReader.close
    _c_read = io.BufferedReader.read
    _c_readline = io.BufferedReader.readline
    _c_readinto = io.BufferedReader.readinto
    _c_readinto1 = io.BufferedReader.readinto1
    _c_read1 = io.BufferedReader.read1
    _c_peek = io.BufferedReader.peek

    # The two calls that are made most often, and on the least data. While their feed is calm there is nothing to look at
    # before the C method, and nothing after it that is not seen by asking once more.

    def read(self, size: int | None = -1, /) -> bytes:
        feed = self._feed
        if feed.calm:
            data = _c_read(self, size)
            if feed.errors:
                self._raise_after(data)
            return data
        return Reading.read(self, size)

    def readline(self, size: int | None = -1, /) -> bytes:
        feed = self._feed
        if feed.calm:
            line = _c_readline(self, size)
            if feed.errors:
                self._raise_after(line)
            return line
        return Reading.readline(self, size)


class BufferedWriter(Writing, io.BufferedWriter):  # type: ignore[override]  # as at _Layer.raw
    """An `io.BufferedWriter` of which an interrupted write loses and repeats no byte. Arguments as for `BufferedReader`."""

    __slots__ = ("_feed",)

    _c_close = io.BufferedWriter.close
    _c_write = io.BufferedWriter.write
    _c_flush = io.BufferedWriter.flush
