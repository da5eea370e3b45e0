"""The asyncio side: files through aiofiles, chunks that are read ahead, and a stop for whatever else is awaited.

A stop that is set in any thread, or by a signal handler, wakes the coroutine at once, even where a thread that works for it is
stuck in the kernel. An operation stops when its own stop (`stop=`, later `f.stop`) or the current stop of the task's
context (`use_stop`) is set.

A cancellation of a task is not a stop. It ends an operation too, and the thread that works for it; a read that was
cancelled loses nothing, since the next one gets what it had taken.
"""
# ruff: noqa: A001, FBT001, FBT002 - `open` has the name and the signature of aiofiles.open

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, overload

from iointerrupt import files
from iointerrupt._aio.awaiting import Awaiting, Bell
from iointerrupt._aio.chunks import AsyncChunks
from iointerrupt._aio.files import Opening, opening
from iointerrupt._aio.scope import CancelScope
from iointerrupt._files.raw import CHUNK_SIZE, check_size
from iointerrupt._stop import as_stop, check_timeout

if TYPE_CHECKING:
    from _typeshed import (
        FileDescriptorOrPath,
        OpenBinaryMode,
        OpenBinaryModeReading,
        OpenBinaryModeUpdating,
        OpenBinaryModeWriting,
        OpenTextMode,
    )

    from iointerrupt._aio.files import AsyncBufferedIOBase, AsyncBufferedReader, AsyncFileIO, AsyncTextIOWrapper
    from iointerrupt._types import StopLike

__all__ = ["cancel_on", "iter_chunks", "open", "wait"]


# As types-aiofiles has it for aiofiles.open.
@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenTextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> Opening[AsyncTextIOWrapper]: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenBinaryMode,
    buffering: Literal[0],
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> Opening[AsyncFileIO]: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenBinaryModeReading | OpenBinaryModeUpdating,
    buffering: Literal[-1, 1] = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> Opening[AsyncBufferedReader]: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenBinaryModeWriting,
    buffering: Literal[-1, 1] = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> Opening[AsyncBufferedIOBase]: ...
@overload
def open(
    file: FileDescriptorOrPath,
    mode: OpenBinaryMode,
    buffering: int = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> Opening[AsyncBufferedReader | AsyncBufferedIOBase | AsyncFileIO]: ...
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
    loop: asyncio.AbstractEventLoop | None = None,
    executor: Executor | None = None,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> Opening[Any]: ...
def open(  # noqa: PLR0917 - as aiofiles.open
    file: FileDescriptorOrPath,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Callable[[str, int], int] | None = None,
    *,
    loop: asyncio.AbstractEventLoop | None = None,  # noqa: ARG001 - as aiofiles.open takes it
    executor: Executor | None = None,
    stop: StopLike = None,
    timeout: float | None = None,
    chunk_size: int = CHUNK_SIZE,
    abandon_on_stop: bool = False,
) -> Opening[Any]:
    """Open a file as `aiofiles.open` does, for operations that a stop ends: `await` it, or enter it with `async with`.

    Each operation runs in a thread, which it has for itself. When a stop comes, what waits with the stop in view (a FIFO, a
    pipe, a terminal) ends by itself, as does what is read or written in chunks; what a read had taken is in
    `Interrupted.partial`, how much a write had written in `transferred`, and the file goes on. A thread that is stuck
    in the kernel is left behind after 50 ms. Then

    - a read loses nothing: what the thread still takes is what the next read begins with, for which that waits;
    - after a write, a seek or a truncate, of which nobody knows what became, the file can only be closed, and every other
      operation raises ValueError;
    - a close goes on in the thread; so does an open, and what it opens is closed.

    A cancelled await is left at once, and the thread is freed; the next read begins with what the cancelled one had
    taken. A cancelled write may have been done wholly, in part, or not at all; a cancelled close goes on in the thread.

    Args:
        file: a path, or a descriptor.
        mode: as for `open`.
        buffering: as for `open`.
        encoding: as for `open`.
        errors: as for `open`.
        newline: as for `open`.
        closefd: as for `open`.
        opener: as for `open`.
        loop: accepted for the sake of aiofiles' signature; what counts is the loop that runs.
        executor: a pool of threads to run the operations in; None for threads that nobody else uses.
        stop: what ends the operations, besides the current stop; any stop that `as_stop` accepts.
        timeout: seconds that one wait of a pipe, FIFO or terminal may take; None for no limit.
        chunk_size: bytes that move between two checks.
        abandon_on_stop: for a regular file on a disk that may hang in the kernel (NFS, FUSE): it goes on after a stop,
            whatever the operation was; see `files.open`.

    Returns:
        What `aiofiles.open` returns. It gives aiofiles' object for the mode, with an attribute `stop`.

    Raises:
        TypeError: at once, for what is not a stop.
        Interrupted: when awaited: a stop is set, before or while the file is opened, a FIFO's wait for its other end included.
        OSError, ValueError, TypeError: when awaited, as `open` raises them.
    """
    options = {
        "buffering": buffering,
        "encoding": encoding,
        "errors": errors,
        "newline": newline,
        "closefd": closefd,
        "opener": opener,
        "timeout": timeout,
        "chunk_size": chunk_size,
        "abandon_on_stop": abandon_on_stop,
    }
    return opening(file, mode, as_stop(stop), executor, options)


def iter_chunks(
    source: FileDescriptorOrPath,
    *,
    stop: StopLike = None,
    chunk_size: int = CHUNK_SIZE,
    start: int = 0,
    end: int | None = None,
    timeout: float | None = None,
) -> AsyncChunks:
    """The bytes of a file in chunks, read ahead in a thread while the consumer works.

    At least three chunks and at least a mebibyte are read ahead of a path; a descriptor, which others may use, is read
    only as chunks are asked for.

    Args:
        source: a path, which is opened at the first chunk and closed at the end; or a descriptor, which stays open.
        stop: what ends the iteration, besides the current stop; kept as `.stop`, which can be set.
        chunk_size: bytes in a chunk, fewer where the source has no more at the moment.
        start: how many bytes to skip, from where the source stands (a path: its beginning); it must be able to seek.
        end: how many bytes from there to end at, those skipped included; None for the end of the source.
        timeout: seconds to wait for one chunk; None for no limit.

    Returns:
        An asynchronous iterator with an `aclose`, which is a context manager too. After `Interrupted`, a TimeoutError or
        a cancellation it is not at its end: asked again it goes on where it was, and nothing is lost or repeated.

    Raises:
        TypeError, ValueError: at once, for a wrong source, size or offset.
        Interrupted: when asked for a chunk, also where one has been read already.
        TimeoutError: no chunk came in time.
        ResourceBusy: another task waits for a chunk of the same iterator.
        OSError: when asked for a chunk: the path cannot be opened, or not be read.
    """
    own = as_stop(stop)
    seconds, size = None if timeout is None else check_timeout(timeout), check_size(chunk_size, "chunk_size")
    if not isinstance(source, str | bytes | os.PathLike | int):
        raise TypeError(f"source must be a path or a descriptor, not {type(source).__name__}")
    chunks = files.iter_chunks(source, chunk_size=size, start=start, end=end)
    return AsyncChunks(chunks, stop=own, timeout=seconds, size=size, reads_ahead=not isinstance(source, int))


async def wait(stop: StopLike, timeout: float | None = None) -> bool:  # noqa: ASYNC109 - as Event.wait has it
    """Wait until a stop is set, as `Event.wait` does in a thread; return whether it is.

    Args:
        stop: any stop; a deadline counts as set.
        timeout: seconds to wait at most; None for no limit.

    Raises:
        TypeError: `stop` is not a stop, or None, which nobody can wait for.

    The current stop does not end it: what is waited for is itself a stop. For that there is `cancel_on`, or
    `wait(StopEvent(stop, current_stop()))`.
    """
    awaited = as_stop(stop)
    if awaited is None:
        raise TypeError("stop must be a stop: nobody can wait for None")
    seconds = None if timeout is None else check_timeout(timeout)
    bell = Bell()
    with Awaiting((awaited,), bell.ring, raises=False) as awaiting:
        if awaiting.fired():
            return True
        timer = None if seconds is None else asyncio.get_running_loop().call_later(seconds, bell.ring)
        try:
            await bell.heard()
        finally:
            if timer is not None:
                timer.cancel()
        return awaiting.fired()


def cancel_on(stop: StopLike = None) -> AbstractAsyncContextManager[None]:
    """A block (`async with`) of which every await ends when a stop is set, whatever is awaited.

    The stop cancels what the task awaits, once, and the block is left by `Interrupted` in place of the CancelledError. Cleanup
    within the block can await as after any cancellation. A cancellation that somebody else asked for stays one, and
    passes the block as CancelledError; a TimeoutError, or any other error of the block's own, passes too. Where a stop has come,
    an exception group of nothing but `Interrupted`, of a TaskGroup whose tasks have the same stop, is that `Interrupted` too.

    Args:
        stop: what ends the block, besides the current stop at its beginning.

    Raises:
        TypeError: at once: `stop` is not a stop.
        Interrupted: a stop is set, before the block (which then does not run) or in it. If what it awaited completed all
            the same, and the CancelledError reached nobody, nothing is raised.
        RuntimeError: it is not used in a task, or used twice.
    """
    return CancelScope(as_stop(stop))
