"""Files, pipes, FIFOs and terminals whose reads and writes a stop ends: put `files.open` where `open` was.

What comes back is what `open` gives, a subclass at most, so code changes the constructor and keeps its reads; `csv`,
`json`, `tarfile` and the rest accept it. An operation stops when the object's own stop (`stop=`, later `f.stop`) or the
current stop of the context (`use_stop`) is set: it raises `Interrupted`, and no byte is lost or repeated by that. What a
read had taken is in `Interrupted.partial`; how much of its data a write had taken is in `Interrupted.transferred`; a
retry goes on there.
"""
# ruff: noqa: A001, FBT001, FBT002 - `open` has the name and the signature of the builtin

from __future__ import annotations

import io
import operator
import os
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, AnyStr, Literal, overload

from iointerrupt._files.chunks import Chunks, Source
from iointerrupt._files.copying import Puller, copy_file, copy_stream
from iointerrupt._files.disk import DiskFile
from iointerrupt._files.opening import open_raw
from iointerrupt._files.raw import CHUNK_SIZE, StreamFile, check_size, is_stream
from iointerrupt._files.system import STREAMS_CAN_WAIT
from iointerrupt._files.wrapped import descriptor_mode, wrap_object
from iointerrupt._stop import as_stop, check_timeout
from iointerrupt._streams.buffered import BUFFER_SIZE, BufferedReader, BufferedWriter
from iointerrupt._streams.text import open_text
from iointerrupt._streams.updating import BufferedRandom

if TYPE_CHECKING:
    from _typeshed import (
        FileDescriptorOrPath,
        OpenBinaryMode,
        OpenBinaryModeReading,
        OpenBinaryModeUpdating,
        OpenBinaryModeWriting,
        OpenTextMode,
    )

    from iointerrupt._files.raw import RawFile, StoppableFile
    from iointerrupt._files.shapes import AnyFile, BinaryFile, Readable, Writable
    from iointerrupt._stop import StopEvent
    from iointerrupt._streams.text import TextFile
    from iointerrupt._types import StopLike

__all__ = ["copy", "copyfileobj", "iter_chunks", "open", "read_bytes", "wrap"]


# As typeshed has it for the builtin. The last two are for what is known only at run time, and so overlap the others.
@overload
def open(  # type: ignore[overload-overlap]
    file: FileDescriptorOrPath,
    mode: OpenTextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> TextFile: ...
@overload
def open(  # type: ignore[overload-overlap]
    file: FileDescriptorOrPath,
    mode: OpenBinaryMode,
    buffering: Literal[0],
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: Literal[False] = False,
) -> StoppableFile: ...
@overload
def open(  # type: ignore[overload-overlap]
    file: FileDescriptorOrPath,
    mode: OpenBinaryMode,
    buffering: Literal[0],
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> RawFile: ...
@overload
def open(  # type: ignore[overload-overlap]
    file: FileDescriptorOrPath,
    mode: OpenBinaryModeUpdating,
    buffering: Literal[-1, 1] = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> BufferedRandom: ...
@overload
def open(  # type: ignore[overload-overlap]
    file: FileDescriptorOrPath,
    mode: OpenBinaryModeWriting,
    buffering: Literal[-1, 1] = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> BufferedWriter: ...
@overload
def open(  # type: ignore[overload-overlap]
    file: FileDescriptorOrPath,
    mode: OpenBinaryModeReading,
    buffering: Literal[-1, 1] = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> BufferedReader: ...
@overload
def open(  # type: ignore[overload-overlap]
    file: FileDescriptorOrPath,
    mode: OpenBinaryMode,
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> BinaryFile: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> AnyFile: ...
def open(  # noqa: PLR0917 - as the builtin
    file: FileDescriptorOrPath,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> Any:
    """Open a file as the builtin `open` does, for reads and writes that a stop ends.

    A regular file is read and written in chunks, with a check before each. A pipe, FIFO, terminal or device waits for
    data, for room and (a FIFO) for its other end with the stop in view. A close with the stop set loses nothing that a
    regular file could take.

    Args:
        file: a path, or a descriptor. A descriptor may be shared with others: its mode is left as it is.
        mode: as for `open`.
        buffering: as for `open`, but that by default a regular file has a buffer of 128 KiB.
        encoding: as for `open`.
        errors: as for `open`.
        newline: as for `open`.
        closefd: as for `open`.
        opener: as for `open`.
        stop: what ends the operations on the file, besides the current stop; any stop that `as_stop` accepts.
        timeout: seconds that one wait may take; None for no limit.
        chunk_size: bytes that move between two checks.
        abandon_on_stop: for a regular file on a disk that may hang in the kernel (NFS, FUSE): each system call runs in a
            helper thread, which a stop leaves behind. Text that is read so cannot seek, nor be written as well.

    Returns:
        What `open` returns for the mode: an `io.TextIOWrapper`, `io.BufferedReader`, `io.BufferedWriter`,
        `io.BufferedRandom` or `io.FileIO` (with `abandon_on_stop`, an `io.RawIOBase`), with an attribute `stop`.

    Raises:
        Interrupted: the stop is set, before or while a FIFO waits for its other end.
        TimeoutError: the other end of a FIFO did not come in time.
        OSError, ValueError, TypeError: as `open` raises them.
    """
    own, timeout, chunk_size = _common(stop, timeout, chunk_size)
    path = _path_or_descriptor(file)
    binary, raw_mode = _parse_mode(mode)
    buffering = operator.index(buffering)
    if binary:
        for name, value in {"encoding": encoding, "errors": errors, "newline": newline}.items():
            if value is not None:
                raise ValueError(f"binary mode doesn't take an {name} argument".replace("an newline", "a newline"))
        if buffering == 1:
            warnings.warn(
                "line buffering (buffering=1) isn't supported in binary mode, the default buffer size will be used",
                RuntimeWarning,
                stacklevel=2,
            )
    else:
        encoding = io.text_encoding(encoding)
        if buffering == 0:
            raise ValueError("can't have unbuffered text I/O")
    raw = open_raw(
        path,
        raw_mode,
        stop=own,
        timeout=timeout,
        chunk_size=chunk_size,
        abandon_on_stop=abandon_on_stop,
        closefd=closefd,
        opener=opener,
    )
    if buffering == 0 and binary:
        return raw
    file_object: Any = raw
    try:
        line_buffering = buffering == 1 or (buffering < 0 and isinstance(raw, StreamFile) and raw.isatty())
        file_object = _buffer(raw, raw_mode, buffering)
        if binary:
            return file_object
        if isinstance(raw, DiskFile) and "+" in raw_mode:
            raise io.UnsupportedOperation("text cannot be both read and written with abandon_on_stop")  # noqa: TRY301 - closed below
        file_object = open_text(file_object, encoding, errors, newline, line_buffering=line_buffering)
        file_object.mode = mode
    except BaseException:
        file_object.close()
        raise
    return file_object


def wrap(
    file: int | Readable | Writable,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    closefd: bool = True,
) -> RawFile:
    """A raw file (an `io.RawIOBase`) over a descriptor or somebody else's binary file object, whose waits a stop ends.

    From then on, use the wrapper instead of the object. A `sys.stdin.buffer` or a `Popen.stdout` should be wrapped before
    it is first read: what it has in its buffer by then comes first and is not lost, but waits for its descriptor to become
    ready once more. Wrap a writer with its buffer flushed: a flush of its own cannot be stopped. Objects without a
    descriptor of their own meaning are read and written in a helper thread. What such a read returns after a stop is what
    the next read of the object through `wrap`, `iter_chunks` or `copyfileobj` gets; a write that was under way then counts
    as taken, and the next operation waits for it.

    Args:
        file: a descriptor, a raw file, a buffered one, a `socket.makefile`, or anything with `read` or `write` for bytes.
        stop: what ends the operations, besides the current stop.
        timeout: seconds that one wait may take; None for no limit.
        chunk_size: bytes that move between two checks.
        closefd: whether closing the wrapper closes the descriptor or the object.

    Raises:
        TypeError: it is a text file (wrap its `.buffer`), a socket, or no file.
        OSError: the descriptor is not open.

    A read returns what there is, at most as much as it asks for, and b"" at the end. For lines, and for many small reads, use
    `open(fd, "rb", closefd=False)`, which has a buffer that knows of stops; those of `io`, over a raw file, lose with an exception
    what they had taken. Two threads in one wrapper: the
    second gets `ResourceBusy`.
    """
    own, seconds, size = _common(stop, timeout, chunk_size)
    if isinstance(file, int):
        mode = descriptor_mode(file)
        if STREAMS_CAN_WAIT or not is_stream(os.fstat(file).st_mode):
            return open_raw(file, mode, stop=own, timeout=seconds, chunk_size=size, closefd=closefd)
        file = io.FileIO(file, mode, closefd=closefd)
    return wrap_object(file, stop=own, timeout=seconds, chunk_size=size, closes=closefd)


def iter_chunks(
    source: FileDescriptorOrPath | Readable,
    *,
    stop: StopLike = None,
    chunk_size: int = CHUNK_SIZE,
    start: int = 0,
    end: int | None = None,
    timeout: float | None = None,
) -> Chunks:
    """The bytes of a file in chunks, with a stop between two and, where the source keeps a read waiting, in the wait.

    Args:
        source: a path, which is opened at the first `next` and closed at the end; or a descriptor or binary file object,
            which stays open.
        stop: what ends the iteration, besides the current stop.
        chunk_size: bytes in a chunk, fewer where the source has no more at the moment.
        start: how many bytes to skip, from where the source stands (a path: its beginning); it must be able to seek.
        end: how many bytes from there to end at, those skipped included; None for the end of the source.
        timeout: seconds that one wait may take; None for no limit, or that of a file of ours.

    Returns:
        An iterator with a `close`, and with a `stop` that can be set. After `Interrupted` or a TimeoutError it is not at its end: asked again it raises as
        long as the stop is set, and then goes on where it was.

    Raises:
        TypeError, ValueError: at once, for a wrong source, size or offset.
        Interrupted: while iterating. All bytes read before are in the chunks that were delivered.
        TimeoutError: as well.
        ResourceBusy: another thread is in the same iterator.
        io.UnsupportedOperation: `start` for a source that cannot seek.
        OSError: the path cannot be opened, while iterating.
    """
    own, seconds, size = _common(stop, timeout, chunk_size)
    start = _check_offset(start, "start")
    if end is not None and _check_offset(end, "end") < start:
        raise ValueError(f"end must not be before start, {end} is before {start}")
    length = None if end is None else end - start
    if isinstance(source, str | bytes | os.PathLike | int):
        path = source if isinstance(source, int) else os.fspath(source)
        mode = descriptor_mode(source) if isinstance(source, int) else "r"
        closes = not isinstance(source, int)

        def begin(stop: StopEvent | None) -> Source:
            raw = open_raw(path, mode, stop=stop, timeout=seconds, chunk_size=size, closefd=closes)
            return Source(raw.read, raw, bearer=raw, opened=raw)
    else:
        pull = Puller(source, stop=own, timeout=seconds, chunk_size=size)

        def begin(stop: StopEvent | None) -> Source:
            pull.stop = stop
            return Source(pull, source, bearer=pull)

    return Chunks(begin, size, start, length, stop=own)


def read_bytes(path: FileDescriptorOrPath, *, stop: StopLike = None, timeout: float | None = None) -> bytes:
    """All bytes of a file.

    Args:
        path: a path, or a descriptor, which stays open.
        stop: what ends the read, besides the current stop.
        timeout: seconds that one wait may take; None for no limit.

    Raises:
        Interrupted: what had been read is in `partial`.
        Stalled: the same after a timeout.
        OSError: the file cannot be opened or read.
    """
    file = _path_or_descriptor(path)
    with open(file, "rb", 0, closefd=not isinstance(file, int), stop=stop, timeout=timeout) as raw:
        data: bytes = raw.readall()
        return data


def copyfileobj(
    fsrc: Readable,
    fdst: Writable,
    chunk_size: int = CHUNK_SIZE,
    *,
    stop: StopLike = None,
    progress: Callable[[int, int | None], object] | None = None,
) -> int:
    """Copy from one binary file object to another, from where they stand to the end of the first.

    Between two regular files, opened by `open` or by the builtin, the kernel copies (copy_file_range(2)).

    Args:
        fsrc: what is read. Where its reads can block and it is not one of ours, it is read through `wrap`.
        fdst: what is written, likewise. It is not flushed afterwards.
        chunk_size: bytes that are copied between two checks, at most; the `length` of `shutil.copyfileobj`.
        stop: what ends the copy, besides the current stop and those of the objects.
        progress: called after each chunk as `progress(bytes copied, None)`.

    Returns:
        How many bytes were copied.

    Raises:
        Interrupted: `transferred` bytes have been written, a write included that is still under way in a helper (see
            `wrap`); bytes that had been read but not written are in `partial`.
        TypeError: one of the two is not a binary file object.
    """
    own, _, size = _common(stop, None, chunk_size)
    return copy_stream(fsrc, fdst, stop=own, chunk_size=size, progress=progress)


def copy(
    src: AnyStr | os.PathLike[AnyStr],
    dst: AnyStr | os.PathLike[AnyStr],
    *,
    follow_symlinks: bool = True,
    stop: StopLike = None,
    progress: Callable[[int, int], object] | None = None,
) -> AnyStr:
    """Copy a regular file, with what `shutil.copy2` keeps of it, by way of a temporary name in the target's folder.

    The copy has its final name only once it is complete, and replaces what had that name in one step: whoever has the old
    file open goes on with the old one. The kernel copies where it can.

    Args:
        src: the file.
        dst: the new file, or a folder to put it in.
        follow_symlinks: False to copy a symbolic link as a link.
        stop: what ends the copy, besides the current stop. Once the copy has its final name it is done.
        progress: called after each chunk as `progress(bytes copied, bytes in all)`.

    Returns:
        The path of the new file.

    Raises:
        Interrupted: after `transferred` bytes; nothing of the copy is left.
        shutil.SameFileError: both are the same file.
        shutil.SpecialFileError: one of the two is a FIFO, a device or the like.
        OSError: as `shutil.copy2` raises it.
    """
    copied: AnyStr = copy_file(src, dst, stop=as_stop(stop), progress=progress, follow_symlinks=follow_symlinks)
    return copied


def _common(stop: StopLike, timeout: float | None, chunk_size: int) -> tuple[StopEvent | None, float | None, int]:
    return as_stop(stop), None if timeout is None else check_timeout(timeout), check_size(chunk_size, "chunk_size")


def _check_offset(offset: int, name: str) -> int:
    if isinstance(offset, bool) or not hasattr(offset, "__index__"):
        raise TypeError(f"{name} must be a number of bytes, not {type(offset).__name__}")
    if offset < 0:
        raise ValueError(f"{name} must be 0 or more bytes, not {offset}")
    return operator.index(offset)


def _parse_mode(mode: str) -> tuple[bool, str]:
    # Whether it is binary, and what is left of it for the raw file; what is wrong with it, in the words of the builtin.
    if not isinstance(mode, str):
        raise TypeError(f"open() argument 'mode' must be str, not {type(mode).__name__}")
    kinds = set(mode)
    if kinds - set("rwxabt+") or len(mode) > len(kinds):
        raise ValueError(f"invalid mode: {mode!r}")
    if {"t", "b"} <= kinds:
        raise ValueError("can't have text and binary mode at once")
    actions = kinds & set("rwxa")
    if len(actions) > 1:
        raise ValueError("must have exactly one of create/read/write/append mode")
    if not actions:
        raise ValueError("Must have exactly one of create/read/write/append mode and at most one plus")
    return "b" in kinds, actions.pop() + "+" * ("+" in kinds)


def _path_or_descriptor(file: Any) -> Any:
    # A bool stays one, so that io.FileIO can warn of it.
    return file if isinstance(file, int) else operator.index(file) if hasattr(file, "__index__") else os.fspath(file)


def _buffer(raw: Any, mode: str, buffering: int) -> BufferedReader | BufferedWriter | BufferedRandom:
    if buffering > 1:
        size = buffering
    elif not isinstance(raw, StreamFile):
        size = BUFFER_SIZE
    else:
        # As much as a pipe holds, for reading; nobody is to wait longer for what is written than with io's own size.
        size = 1 << 16 if mode == "r" else io.DEFAULT_BUFFER_SIZE
    if "+" in mode:
        return BufferedRandom(raw, size)
    return BufferedReader(raw, size) if mode == "r" else BufferedWriter(raw, size)
