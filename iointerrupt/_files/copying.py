"""Copies that stop between two chunks, and leave nothing half done under a final name.

`copy_file` has the kernel copy where it can (copy_file_range(2), sendfile(2)), in chunks. `copy_stream` copies between any
two binary file objects: by the kernel where both stand for regular files and for nothing else, such as a compressed one; and
where they are not ours and may block, `_files.wrapped` makes their waits stop.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Final

from iointerrupt._errors import Interrupted
from iointerrupt._files.beside import unlink
from iointerrupt._files.raw import RawFile, RegularFile, is_stream
from iointerrupt._files.system import ALWAYS, NONBLOCK
from iointerrupt._files.wrapped import check_binary, wrap_object
from iointerrupt._stop import StopEvent, current_stop, use_stop
from iointerrupt._streams.buffered import BufferedReader, BufferedWriter
from iointerrupt._streams.feed import moved
from iointerrupt._streams.updating import BufferedRandom
from iointerrupt._wait import check, check_moved

#: Bytes that the kernel copies between two checks.
KERNEL_CHUNK: Final = 1 << 23

# What the kernel says when it cannot copy between these two files in this way.
_NOT_THIS_WAY: Final = {
    errno.EXDEV,
    errno.EINVAL,
    errno.ENOSYS,
    errno.EOPNOTSUPP,
    errno.EBADF,
    errno.EPERM,
    errno.ENOTSOCK,
    errno.ETXTBSY,
    errno.EOVERFLOW,
}


_BUFFERED: Final = (io.BufferedReader, io.BufferedWriter, io.BufferedRandom)

# What stands for a regular file and nothing else: by the buffer, what is under it. What is read from is not one that is written as
# well, in whose buffer there may be something for the file.
_READERS: Final = {io.BufferedReader: io.FileIO, BufferedReader: RegularFile}
_WRITERS: Final = {
    io.BufferedWriter: io.FileIO,
    io.BufferedRandom: io.FileIO,
    BufferedWriter: RegularFile,
    BufferedRandom: RegularFile,
}
_METHODS: Final = frozenset({"read", "read1", "readinto", "readinto1", "write", "seek", "tell", "flush", "fileno"})


class Puller:
    """Called with a number of bytes, it reads at most so many from a binary file object.

    Args:
        source: the file object.
        stop: what ends a read, besides the current stop; it can be set at any time.
        timeout: seconds that one wait may take; None for no limit, or that of a file of ours.
        chunk_size: what a helper reads at a time, where it takes one.

    Raises:
        TypeError: it cannot be read, or not without being awaited.
    """

    def __init__(self, source: Any, *, stop: StopEvent | None, timeout: float | None, chunk_size: int) -> None:
        check_binary(source)
        if not callable(getattr(source, "read", None)):
            raise TypeError(f"cannot read {source!r}")
        self.stop = stop
        self._source = source
        self._timeout: float | None = None
        if _is_ours(source):  # it stops on its own stop, and on the current one
            self._read = getattr(source, "read1", source.read)
            self._timeout = timeout
        elif _never_blocks(source):
            self._read = source.read
        else:
            wrapped = wrap_object(source, stop=None, timeout=timeout, chunk_size=chunk_size, closes=False, exact=True)
            self._read = wrapped.read

    def __call__(self, size: int) -> bytes:
        stop, source = self.stop, self._source
        check(stop)
        with _also(stop), _limited(source, self._timeout):
            data = self._read(size)
        if data is None:
            raise BlockingIOError(errno.EAGAIN, "the source is non-blocking and has nothing at the moment")
        if isinstance(data, str):
            raise TypeError(f"cannot read {source!r}: it gives str; a binary file object is needed")
        return data  # type: ignore[no-any-return]  # or what else it takes for bytes


def pusher(target: Any, *, stop: StopEvent | None, chunk_size: int) -> Callable[[bytes], None]:
    """A function that writes all of some bytes; `Interrupted.transferred` says how many if it is stopped."""
    check_binary(target)
    if not callable(getattr(target, "write", None)):
        raise TypeError(f"cannot write to {target!r}")
    write = target.write
    if not _is_ours(target) and not _never_blocks(target):
        write = wrap_object(target, stop=stop, timeout=None, chunk_size=chunk_size, closes=False, exact=True).write

    def push(data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                check(stop)
                with _also(stop):
                    count = write(data[done:] if done else data)
                done += len(data) if count is None else count
        except Interrupted as error:
            error.transferred = done + moved(error)
            raise

    return push


def copy_stream(
    source: Any,
    target: Any,
    *,
    stop: StopEvent | None,
    chunk_size: int,
    progress: Callable[[int, int | None], object] | None,
) -> int:
    """Copy to the end of `source`; see `files.copyfileobj`."""
    pull = Puller(source, stop=stop, timeout=None, chunk_size=chunk_size)
    push = pusher(target, stop=stop, chunk_size=chunk_size)
    total = _copy_in_kernel(source, target, stop, chunk_size, progress)
    while True:  # the rest, and at least the look whether there is one
        try:
            data = pull(chunk_size)
        except Interrupted as error:
            error.transferred = total
            raise
        if not data:
            return total
        try:
            push(data)
        except Interrupted as error:
            done = moved(error)
            error.transferred, error.partial = total + done, bytes(data[done:])
            raise
        total += len(data)
        if progress is not None:
            progress(total, None)


def _copy_in_kernel(
    source: Any,
    target: Any,
    stop: StopEvent | None,
    chunk_size: int,
    progress: Callable[[int, int | None], object] | None,
) -> int:
    """Copy what the kernel can, from where `source` stands, and move both files behind it; how many bytes that was.

    The kernel is told the offsets, so that it moves neither file itself: the objects remember where theirs stands.
    """
    if _copy_range is None or not (_is_regular(source, _READERS) and _is_regular(target, _WRITERS)):
        return 0
    done = 0
    while True:
        try:
            for each in (stop, *(file.stop for file in (source, target) if _is_ours(file))):
                check(each)
            target.flush()
        except Interrupted as error:
            error.transferred = done
            raise
        start, to = source.tell(), target.tell()  # each time: whoever is told of a chunk may move both
        try:
            count = os.copy_file_range(source.fileno(), target.fileno(), chunk_size, start, to)
        except OSError as error:
            if error.errno not in _NOT_THIS_WAY:
                raise
            return done
        if not count:
            return done
        source.seek(start + count)
        target.seek(to + count)
        done += count
        if progress is not None:
            progress(done, None)


def _is_regular(file: Any, raws: Mapping[Any, type]) -> bool:
    # As in `_never_blocks`, only what is known to be one: a buffer over the raw file that belongs to it, or a raw file alone.
    kind = type(file)
    raw: Any = file.raw if kind in raws else file
    is_known = type(raw) is raws[kind] if kind in raws else kind in raws.values()
    if not is_known:
        return False
    # Whoever has replaced a method wants to have it called.
    replaced = {*getattr(file, "__dict__", ()), *getattr(raw, "__dict__", ())} & _METHODS
    return not replaced and not raw.closed and stat.S_ISREG(os.fstat(raw.fileno()).st_mode)


def copy_file(
    source: Any,
    target: Any,
    *,
    stop: StopEvent | None,
    progress: Callable[[int, int], object] | None,
    follow_symlinks: bool,
) -> Any:
    """Copy a regular file with what `shutil.copystat` copies; see `files.copy`."""
    check(stop)
    source, target = os.fspath(source), os.fspath(target)
    if os.path.isdir(target):
        target = os.path.join(target, os.path.basename(source))
    elif not os.path.basename(target):  # else a file would have the name of the folder that is not there
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", target)
    if not follow_symlinks and os.path.islink(source):
        os.symlink(os.readlink(source), target)
        shutil.copystat(source, target, follow_symlinks=False)
        return target
    final = os.path.realpath(target)  # a link stays one, and what it points to is replaced
    with io.FileIO(open_to_copy(source)) as reader:
        info = os.fstat(reader.fileno())
        _check_pair(source, info, target, final)
        folder, name = os.path.split(os.fsdecode(final))
        try:
            fd, temporary = tempfile.mkstemp(prefix=f".{name[:40]}.", suffix=".part", dir=folder)
        except OSError as error:
            error.filename = target  # what is to be made, and not by way of what
            raise
        try:
            with io.FileIO(fd, "w") as writer:
                done = copy_data(reader.fileno(), writer.fileno(), info.st_size, stop, progress)
            shutil.copystat(source, temporary)
            check_moved(stop, done)
            os.replace(temporary, final)
        except BaseException:
            unlink(temporary)  # if it has not got its final name
            raise
    return target


def open_to_copy(source: Any) -> int:
    # Non-blocking, so that a FIFO shows itself instead of keeping us here.
    fd = os.open(source, os.O_RDONLY | NONBLOCK | ALWAYS)
    kind = os.fstat(fd).st_mode
    if stat.S_ISREG(kind):
        return fd
    os.close(fd)
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), source)
    raise shutil.SpecialFileError(f"{source!r} is not a regular file")


def _check_pair(source: Any, info: os.stat_result, target: Any, final: Any) -> None:
    try:
        there = os.stat(final)
    except FileNotFoundError:
        return
    if os.path.samestat(info, there):
        raise shutil.SameFileError(f"{source!r} and {target!r} are the same file")
    if not stat.S_ISREG(there.st_mode):
        raise shutil.SpecialFileError(f"{target!r} is not a regular file")
    if not os.access(final, os.W_OK):  # a rename would get past this
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)


def copy_data(
    source: int, target: int, size: int, stop: StopEvent | None, progress: Callable[[int, int], object] | None
) -> int:
    done = 0
    ways = [way for way in (_copy_range, _send) if way is not None]
    ways.append(_read_and_write)
    way = ways.pop(0)
    while True:
        check_moved(stop, done)
        try:
            count = way(source, target, KERNEL_CHUNK)
        except OSError as error:
            if way is _read_and_write or error.errno not in _NOT_THIS_WAY:
                raise
            count = -1
        if way is not _read_and_write and (count < 0 or (count == 0 and done == 0)):
            # Not this way; or the file only seems empty, as those of /proc do to copy_file_range(2).
            way = ways.pop(0)
            continue
        if count == 0:
            return done
        done += count
        if progress is not None:
            progress(done, max(size, done))


def _kernel_copies_range(source: int, target: int, size: int) -> int:
    return os.copy_file_range(source, target, size)


def _kernel_sends(source: int, target: int, size: int) -> int:
    return os.sendfile(target, source, None, size)  # type: ignore[call-overload, no-any-return, unused-ignore]  # None: from where the file stands


_Way = Callable[[int, int, int], int]
_copy_range: _Way | None = _kernel_copies_range if hasattr(os, "copy_file_range") else None
# Elsewhere it writes to sockets alone.
_send: _Way | None = _kernel_sends if sys.platform == "linux" and hasattr(os, "sendfile") else None


def _read_and_write(source: int, target: int, size: int) -> int:
    data = memoryview(os.read(source, min(size, 1 << 20)))
    done = 0
    while done < len(data):
        done += os.write(target, data[done:])
    return done


def _is_ours(file: Any) -> bool:
    # By where its class is from: a stranger may have a `stop` too, and mean something else by it. Those of sockets and
    # of HTTP are above this layer, and cannot be named here.
    return any(kind.__module__.partition(".")[0] == __package__.partition(".")[0] for kind in type(file).__mro__)


def _never_blocks(file: Any) -> bool:
    # Only what is known to be so. Whether it can seek says nothing: a gzip.GzipFile over a pipe says that it can.
    if type(file) is io.BytesIO:
        return True
    raw = getattr(file, "raw", None) if type(file) in _BUFFERED else file
    return type(raw) is io.FileIO and not is_stream(os.fstat(raw.fileno()).st_mode)


@contextmanager
def _limited(source: Any, timeout: float | None) -> Iterator[None]:
    # One of our files, with this timeout instead of its own for the block.
    raw = getattr(source, "raw", source)
    if timeout is None or not isinstance(raw, RawFile):
        yield
        return
    before, raw._timeout = raw._timeout, timeout
    try:
        yield
    finally:
        raw._timeout = before


def _also(stop: StopEvent | None) -> AbstractContextManager[object]:
    # Objects of ours look at the current stop besides their own: in this block, that is both it and `stop`.
    if stop is None:
        return nullcontext()
    return use_stop(stop if current_stop() is None else StopEvent(stop, current_stop()))
