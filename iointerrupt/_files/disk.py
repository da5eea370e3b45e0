"""`DiskFile`: a file on a disk that may hang in the kernel (NFS, FUSE), where no signal and no poll ends a system call.

Each system call runs in a helper thread, which a stop leaves behind. For that to lose nothing,

- reads and writes name their offset (pread(2), pwrite(2)) and the position is kept here, so that a call which ends late
  moves nothing; a write that is repeated after a stop writes the same bytes to the same place (not when appending, where
  the kernel chooses the place: an abandoned append may still happen);
- a helper has memory of its own, so that a late read does not write into a buffer that is in use again;
- the descriptor is closed by the last who uses it, a helper if need be, so that its number is not reused under one.

The lock guards the count of those users, and nothing is called under it.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

from iointerrupt._errors import Interrupted
from iointerrupt._files.raw import RawFile
from iointerrupt._files.system import pread, pwrite
from iointerrupt._helpers import Helpers
from iointerrupt._signal.threads import own_thread
from iointerrupt._stop import StopEvent
from iointerrupt._streams.feed import with_taken

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

T = TypeVar("T")

on_disk: Final = Helpers("iointerrupt-disk", 32)


class _Descriptor:
    """A descriptor that outlives its owner for as long as a helper uses it."""

    def __init__(self, fd: int, *, closes: bool) -> None:
        self._fd = fd
        self._closes = closes
        self._lock = threading.Lock()
        self._owned = True
        self._users = 1

    def call(self, function: Callable[[int], T]) -> T:
        """`function(fd)`; the descriptor stays open until it has returned. For a helper, which may come late."""
        with self._lock:
            if not self._users:
                raise ValueError("I/O operation on closed file")
            self._users += 1
        try:
            return function(self._fd)
        finally:
            self._leave()

    def disown(self) -> None:
        """End the owner's use; a second time nothing."""
        with self._lock:
            owned, self._owned = self._owned, False
        if owned:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            last = not self._users
        if last and self._closes:
            os.close(self._fd)


class DiskFile(RawFile, io.RawIOBase):
    """A raw regular file whose every system call is left behind when a stop comes.

    Args:
        fd: the descriptor.
        name: what it was opened by.
        mode: as for `io.FileIO`.
        stop: the own stop.
        timeout: seconds that one call may take; None for no limit.
        chunk_size: how many bytes one call moves.
        closefd: whether `close` closes the descriptor.
    """

    def __init__(
        self,
        fd: int,
        name: Any,
        mode: str,
        *,
        stop: StopEvent | None,
        timeout: float | None,
        chunk_size: int,
        closefd: bool = True,
    ) -> None:
        self._begin(stop, timeout, chunk_size)
        self._reads, self._writes = "r" in mode or "+" in mode, "r" not in mode or "+" in mode
        self._kind = mode[0]
        self._position = 0
        self._descriptor = _Descriptor(fd, closes=closefd)
        self._fd = fd
        self.name = name
        self.closefd = closefd
        if self._kind == "a":
            try:
                self._position = self._size()
            except BaseException:
                self.close()
                raise

    @property
    def mode(self) -> str:
        if self._kind in "xa":
            return f"{self._kind}b+" if self._reads else f"{self._kind}b"
        return "rb+" if self._reads and self._writes else "rb" if self._reads else "wb"

    def readable(self) -> bool:
        self._check_open()
        return self._reads

    def writable(self) -> bool:
        self._check_open()
        return self._writes

    def seekable(self) -> bool:
        self._check_open()
        return True

    def fileno(self) -> int:
        self._check_open()
        return self._fd

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill the buffer, less only at the end of the file; of a stop's `transferred` bytes it holds the first so many."""
        view = memoryview(buffer).cast("B")
        done = 0
        try:
            while done < len(view) and (data := self._read_chunk(len(view) - done)):
                view[done : done + len(data)] = data
                done += len(data)
        except Interrupted as error:
            error.transferred = done
            raise
        except TimeoutError as error:
            raise with_taken(error, bytes(view[:done]))  # noqa: B904 - the same error
        return done

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, all if it is negative or None; what had been read before a stop is in `partial`."""
        left = sys.maxsize if size is None or size < 0 else size
        parts = []
        try:
            while left and (data := self._read_chunk(left)):
                parts.append(data)
                left -= len(data)
        except (Interrupted, TimeoutError) as error:
            raise with_taken(error, b"".join(parts))  # noqa: B904 - the same error
        return b"".join(parts)

    def readall(self) -> bytes:
        return self.read()

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`; a stop says in `transferred` how much is known to be written."""
        self._checkWritable()  # type: ignore[attr-defined]  # typeshed leaves it out
        view = memoryview(data).cast("B")
        done = 0
        try:
            while True:
                chunk = bytes(view[done : done + self._chunk_size])
                done += self._write_chunk(chunk)
                if done >= len(view):
                    return done
        except Interrupted as error:
            error.transferred = done
            raise
        except TimeoutError as error:
            raise with_taken(error, bytes(view[:done]))  # noqa: B904 - the same error
        except OSError:
            if done:
                return done  # the next call says why no more
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence not in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            raise ValueError(f"invalid whence ({whence}, should be 0, 1 or 2)")
        self._check_open()
        base = 0 if whence == os.SEEK_SET else self._position if whence == os.SEEK_CUR else self._size()
        if base + offset < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        self._check_open()
        return self._position

    def truncate(self, size: int | None = None, /) -> int:
        self._checkWritable()  # type: ignore[attr-defined]  # as in write
        length = self._position if size is None else size
        self._call(lambda fd: os.ftruncate(fd, length))
        return length

    def close(self) -> None:
        """Close the file, or leave that to a helper if a stop comes; never waits for a helper that hangs."""
        if self.closed:
            return
        try:
            super().close()
        finally:
            if self.closefd:
                self._close_descriptor()

    def _close_descriptor(self) -> None:
        disown = self._descriptor.disown
        try:
            on_disk.run(disown, self._stop, self._deadline())
        except (Interrupted, TimeoutError):
            # It may not have been started; the second of two does nothing.
            try:
                own_thread(on_disk.name, _ignoring_errors, disown).start()
            except RuntimeError:
                disown()
        except RuntimeError:  # there are no more threads to be had
            disown()

    def __del__(self) -> None:
        if hasattr(self, "_descriptor") and not self.closed:
            self._dealloc_warn(self)
            self.close()

    def _dealloc_warn(self, source: object) -> None:
        if self.closefd:
            warnings.warn(f"unclosed file {source!r}", ResourceWarning, stacklevel=2, source=source)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"name={self.name!r} mode={self.mode!r}"
        return f"<{type(self).__module__}.{type(self).__qualname__} {state}>"

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")

    def _read_chunk(self, size: int) -> bytes:
        self._checkReadable()  # type: ignore[attr-defined]  # as in write
        size, position = min(size, self._chunk_size), self._position
        data = self._call(lambda fd: pread(fd, size, position))
        self._position += len(data)
        return data

    def _write_chunk(self, chunk: bytes) -> int:
        position = self._position

        def write(fd: int) -> tuple[int, int]:
            count = pwrite(fd, chunk, position)
            return count, os.fstat(fd).st_size if self._kind == "a" else position + count

        count, self._position = self._call(write)
        return count

    def _size(self) -> int:
        return self._call(lambda fd: os.fstat(fd).st_size)

    def _call(self, function: Callable[[int], T]) -> T:
        self._check_open()
        return on_disk.run(functools.partial(self._descriptor.call, function), self._stop, self._deadline())

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")


def _ignoring_errors(function: Callable[[], object]) -> None:
    try:
        function()
    except OSError:  # nobody is left who would want to know
        pass
