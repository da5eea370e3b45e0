"""Raw files over a descriptor: what every other file of the library reads from and writes to.

These are subclasses of `io.FileIO`, and so keep its name, mode, `closefd` and `repr`:

- `RegularFile`, for what never keeps a read waiting: data moves in chunks, with a check before each;
- `StreamFile`, for pipes, FIFOs, terminals and devices: try, and wait in `_wait` where that would block.

The switch O_NONBLOCK belongs to the open file, which other processes may share (a terminal, a stdin): they would suddenly
meet EAGAIN. So it is set on terminals and devices that this library has opened itself (`_files.opening`), never on a
descriptor that was handed in, nor left on a FIFO, whose descriptor is often handed on. There the question "would this block?" is asked with each call instead (preadv2(2), RWF_NOWAIT); where the kernel does not
answer it, which is for terminals, through a second open file for the same terminal; and without that by poll before
each call.

A descriptor has one owner, the object. While another thread waits on it `close` refuses, since the number could be
reused under that wait; the way to end the wait is its stop.
"""

from __future__ import annotations

import errno
import io
import operator
import os
import select
import stat
import sys
import time
import weakref
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from iointerrupt import _wait
from iointerrupt._errors import Interrupted, ResourceBusy
from iointerrupt._stop import StopEvent, as_stop
from iointerrupt._streams.feed import Feed, cannot_pickle, feed_for, moved, with_taken
from iointerrupt._types import StopLike
from iointerrupt._wait import READ, WRITE, check, check_moved

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

    _Base = io.RawIOBase
else:
    _Base = object

CHUNK_SIZE: Final = 1 << 20

# A read to the end of something without a size goes in steps of this; as much as a pipe holds.
_STEP: Final = 1 << 16

# Where nothing but poll says whether a write would block, this much is written at a time: a pipe has room for so much, and
# takes it as one, which its other writers count on (pipe(7), PIPE_BUF); a terminal has most likely.
_PIPE_PIECE: Final = getattr(select, "PIPE_BUF", 512)
_PIECE: Final = 512

#: The flag by which preadv2(2) and pwritev2(2) are asked not to block; 0 where there is none.
NOWAIT: Final[int] = getattr(os, "RWF_NOWAIT", 0)
_NO_ANSWER: Final = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_PTMX: Final = (5, 2)  # opening this name gives a new terminal, not the same


class RawFile(_Base):
    """What all raw files of the library have in common, a stop, a timeout and the feeds that mirror them; mixed into each.

    Attributes:
        stop: the own stop, of this file and of what is buffered over it; any stop that `as_stop` accepts may be set.
    """

    _mirrors: weakref.WeakSet[Feed]

    def _begin(self, stop: StopEvent | None, timeout: float | None, chunk_size: int) -> None:
        # For __init__, before anything in it can fail: close() needs them.
        self._mirrors = weakref.WeakSet()
        self._stop = stop
        self._timeout = timeout
        self._chunk_size = chunk_size

    @property
    def stop(self) -> StopEvent | None:
        return self._stop

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._stop = as_stop(stop)
        for feed in self._mirrors:
            feed.stop = self._stop
            feed.calm = False

    def close(self) -> None:
        try:
            super().close()
        finally:
            for feed in self._mirrors:
                feed.closed = self.closed

    # The C code puts these together from `read` and `write`, and throws away what it had when one of those raises.

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read to the end of the line, at most `size` bytes; what had been read before a stop is in `partial`.

        It reads byte by byte, since a raw file has nowhere to keep what comes behind the line.
        """
        left = -1 if size is None else operator.index(size)
        line = bytearray()
        try:
            while len(line) != left and (byte := self.read(1)):
                line += byte
                if byte == b"\n":
                    break
        except (Interrupted, TimeoutError) as error:
            raise with_taken(error, bytes(line))  # noqa: B904 - the same error
        return bytes(line)

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """All lines, or as many as it takes to reach `hint` bytes; `partial` is those before the stop, joined."""
        lines: list[bytes] = []
        left = hint if hint is not None and hint > 0 else sys.maxsize
        try:
            while left > 0 and (line := self.readline()):
                lines.append(line)
                left -= len(line)
        except (Interrupted, TimeoutError) as error:
            raise with_taken(error, b"".join([*lines, getattr(error, "partial", None) or b""]))  # noqa: B904 - the same error
        return lines

    def writelines(self, lines: Iterable[ReadableBuffer], /) -> None:
        """Write each of `lines`, all of it; `transferred` counts the bytes of all of them that were written."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        done = 0
        for line in lines:
            view = memoryview(line).cast("B")
            try:
                while view and (count := self.write(view)):
                    done += count
                    view = view[count:]
            except Interrupted as error:
                error.transferred = done + moved(error)
                raise

    __reduce_ex__ = cannot_pickle

    def _deadline(self) -> float | None:
        return None if self._timeout is None else time.monotonic() + self._timeout


class StoppableFile(RawFile, io.FileIO):
    """What the kinds of raw file over a descriptor have in common.

    Args:
        file: a path, or a descriptor.
        mode: as for `io.FileIO`.
        stop: the own stop.
        timeout: seconds that one wait may take; None for no limit.
        chunk_size: how many bytes move between two checks.
        closefd: whether `close` closes the descriptor.
        opener: as for `open`.
    """

    def __init__(
        self,
        file: Any,
        mode: str = "r",
        *,
        stop: StopEvent | None = None,
        timeout: float | None = None,
        chunk_size: int = CHUNK_SIZE,
        closefd: bool = True,
        opener: Callable[[Any, int], int] | None = None,
    ) -> None:
        self._begin(stop, timeout, chunk_size)
        super().__init__(file, mode, closefd, opener)

    def readall(self) -> bytes:
        """Read to the end of the file; what had been read before a stop is in `partial`."""
        parts = []
        try:
            while part := self.read(_STEP):
                parts.append(part)
        except (Interrupted, TimeoutError) as error:
            raise with_taken(error, b"".join(parts))  # noqa: B904 - the same error
        return b"".join(parts)


class RegularFile(StoppableFile):
    """A regular file (or a block device): reads and writes in chunks, with a check before each."""

    _never_blocks = True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer, less only at the end of the file; of a stop's `transferred` bytes it holds the first so many."""
        check(self._stop)
        view = memoryview(buffer)
        size, chunk = view.nbytes, self._chunk_size
        if size <= chunk:
            return _count(super().readinto(buffer))
        view, done = view.cast("B"), 0
        while True:
            count = _count(super().readinto(view[done : done + chunk]))
            done += count
            if done == size or count < chunk:
                return done
            check_moved(self._stop, done)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, all if it is negative or None; what had been read before a stop is in `partial`."""
        if size is None or size < 0:
            return self.readall()
        if size > self._chunk_size:
            return self._read_whole(size)
        check(self._stop)
        return super().read(size)

    def readall(self) -> bytes:
        check(self._stop)
        left = self._size() - self.tell() if self.seekable() else 0
        if left <= 0:
            return super().readall()
        data = self._read_whole(left)
        try:
            rest = super().readall()  # what has been added meanwhile
        except Interrupted as error:
            raise with_taken(error, data + (error.partial or b""))  # type: ignore[operator]  # noqa: B904 - bytes; the same error
        return data + rest if rest else data

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`, less only if the file takes no more; a stop says in `transferred` how much was written."""
        view = memoryview(data)
        size, chunk = view.nbytes, self._chunk_size
        if size <= chunk:
            check_moved(self._stop, 0)
            return _count(super().write(data))
        view, done = view.cast("B"), 0
        while True:
            check_moved(self._stop, done)
            count = self._write_chunk(view[done : done + chunk], done)
            done += count
            if done == size or count < chunk:
                return done

    def _readinto_now(self, buffer: memoryview) -> int:
        return _count(super().readinto(buffer))

    def _write_now(self, data: memoryview) -> int:
        return _count(super().write(data))

    def _write_chunk(self, chunk: memoryview, done: int) -> int:
        try:
            return _count(super().write(chunk))
        except OSError:
            if done:
                return 0  # as write(2) does: what fits is written, and the next call says why no more
            raise

    def _size(self) -> int:
        return os.fstat(self.fileno()).st_size

    def _read_whole(self, size: int) -> bytes:
        # C's BufferedReader makes the bytes object first and has it read into, which no Python code can. With a buffer
        # of one byte nothing stays behind in it.
        feed = feed_for(self, 1)
        reader = io.BufferedReader(feed, 1)  # type: ignore[type-var]  # a raw file in all that the C code asks for
        try:
            data = reader.read(size)
        finally:
            reader.detach()
            feed.let_go()
        error = feed.errors.get(get_ident())
        if error is not None:
            try:
                raise with_taken(error, data)
            finally:
                del error  # its traceback refers to this frame
        return data


class StreamFile(StoppableFile):
    """A pipe, FIFO, terminal or character device: what may keep a read or a write waiting.

    Args:
        nonblocking: whether the open file is this object's alone, and is in non-blocking mode.
        first: bytes that were already read, and come before all others.

    The other arguments are those of `StoppableFile`.
    """

    def __init__(
        self, file: Any, mode: str = "r", *, nonblocking: bool = False, first: bytes = b"", **options: Any
    ) -> None:
        self._waiting: dict[int, int] = {}  # the threads that wait, and on what
        self._first = first
        self._twin: io.FileIO | None = None
        super().__init__(file, mode, **options)
        # How it is learned whether a call would block: by making it, by asking the kernel with it, or by poll.
        self._tries = nonblocking
        self._asks = not nonblocking and bool(NOWAIT)
        self._piece = _PIPE_PIECE if stat.S_ISFIFO(os.fstat(self.fileno()).st_mode) else _PIECE
        if not nonblocking:
            self._twin = _second_open_file(self)
            self._tries = self._twin is not None

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Read what there is, waiting until there is some; 0 only at the end."""
        check(self._stop)
        self._checkClosed()
        self._checkReadable()  # type: ignore[attr-defined]  # typeshed leaves it out
        view = memoryview(buffer).cast("B")
        if self._first and view:
            first, self._first = self._first[: len(view)], self._first[len(view) :]
            view[: len(first)] = first
            return len(first) + (self._read_now(view[len(first) :]) or 0)
        while (count := self._read_now(view)) is None:
            self._wait(READ)
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        """Read what there is, at most `size` bytes, waiting until there is some; to the end if it is negative or None."""
        if size is None or size < 0:
            return self.readall()
        data = bytearray(min(size, self._chunk_size))
        del data[self.readinto(data) :]
        return bytes(data)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`, waiting as often as needed.

        Raises:
            Interrupted: `transferred` bytes have been written.
            Stalled: a wait took longer than the timeout; what had been written is in `partial`.
        """
        self._checkClosed()
        self._checkWritable()  # type: ignore[attr-defined]  # as in readinto
        view = memoryview(data).cast("B")
        done = 0
        while True:
            check_moved(self._stop, done)
            try:
                count = self._write_now(view[done : done + self._chunk_size])
            except OSError:
                if done:
                    return done  # the next call says why no more
                raise
            if count is not None:
                done += count
                if done >= len(view):
                    return done
                continue
            try:
                self._wait(WRITE)
            except Interrupted as error:
                error.transferred = done
                raise
            except TimeoutError as error:
                raise with_taken(error, bytes(view[:done]))  # noqa: B904 - the same error

    def close(self) -> None:
        """Close the descriptor.

        Raises:
            ResourceBusy: another thread waits on it; set that thread's stop.
        """
        # Threads that are not there any more are those of a parent process.
        if self._waiting.keys() - {get_ident()} & sys._current_frames().keys():
            raise ResourceBusy(f"another thread is blocked in {self!r}")
        if self._twin is not None:
            self._twin.close()
        super().close()

    def _read_now(self, view: memoryview) -> int | None:
        # None if it would block.
        if self._tries:
            return io.FileIO.readinto(self._twin or self, view)
        if self._asks:
            try:
                return os.preadv(self.fileno(), [view], -1, NOWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                self._give_up_asking(error)
        if not _wait.poll({self.fileno(): READ}, [], 0.0):
            return None
        return super().readinto(view)

    def _write_now(self, view: memoryview) -> int | None:
        if self._tries:
            return io.FileIO.write(self._twin or self, view)
        if self._asks:
            try:
                return os.pwritev(self.fileno(), [view], -1, NOWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                self._give_up_asking(error)
        if not _wait.poll({self.fileno(): WRITE}, [], 0.0):
            return None
        return super().write(view[: self._piece])

    def _give_up_asking(self, error: OSError) -> None:
        if error.errno not in _NO_ANSWER:
            raise error
        self._asks = False

    def _wait(self, events: int) -> None:
        fd = (self._twin or self).fileno()
        me = get_ident()
        self._waiting[me] = events
        try:
            _wait.wait_ready(fd, events, self._stop, self._deadline())
        finally:
            self._waiting.pop(me, None)


def _count(count: int | None) -> int:
    # A regular file never says None.
    return count or 0


def _second_open_file(file: io.FileIO) -> io.FileIO | None:
    # Another open file for the terminal that `file` is, in non-blocking mode; None if it is no terminal, or cannot be had.
    if not file.isatty():
        return None
    try:
        device = os.fstat(file.fileno()).st_rdev
        name = os.ttyname(file.fileno())
        if os.stat(name).st_rdev != device or (os.major(device), os.minor(device)) == _PTMX:
            return None
        access = os.O_RDWR if file.readable() and file.writable() else os.O_WRONLY if file.writable() else os.O_RDONLY
        fd = os.open(name, access | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    return io.FileIO(fd, file.mode)


def is_stream(mode: int) -> bool:
    """Whether a file of this `st_mode` may keep a read waiting."""
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def check_size(size: int, name: str) -> int:
    """`size` as an int, or an error that says what is wrong with it."""
    if isinstance(size, bool) or not hasattr(size, "__index__"):
        raise TypeError(f"{name} must be a number of bytes, not {type(size).__name__}")
    size = operator.index(size)
    if size < 1:
        raise ValueError(f"{name} must be 1 or more bytes, not {size}")
    return size
