"""`AsyncChunks`: the iterator of `aio.iter_chunks`, and the `_Reader` that reads ahead of it in a thread.

The reader fills a short queue and then gives its thread back, until the queue has been half emptied; so reading and the
consumer's work overlap, and memory is bounded. A consumer that finds a chunk does not wait for the thread at all.

Stops and timeouts are the consumer's: the reader knows only of a *pause*, which ends a wait of it that nobody needs any
more. It reads on from there when it is asked again, so that nothing is lost by a stop, a timeout or a cancellation.

A reader's lock guards its queue, whether a thread is at work on it, and who is to be told; nothing is called under it. It
is re-entrant, and `drop` takes no lock, since garbage may be collected in the middle of anything.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from iointerrupt._aio.awaiting import Awaiting, Bell
from iointerrupt._aio.lane import GRACE, NAME
from iointerrupt._errors import Interrupted, ResourceBusy
from iointerrupt._files.chunks import Chunks
from iointerrupt._helpers import left_behind, run_in_thread
from iointerrupt._stop import StopEvent, as_stop, use_stop
from iointerrupt._wait import check, stops

if TYPE_CHECKING:
    from iointerrupt._types import StopLike

#: How many chunks are read ahead, at least, and how many bytes, if chunks are small.
_CHUNKS: Final = 3
_BYTES: Final = 1 << 20


class _Reader:
    """Reads chunks ahead of who takes them.

    Args:
        chunks: what is read; nobody else uses it.
        ahead: how many chunks to read before anybody asks for them.
    """

    def __init__(self, chunks: Chunks, ahead: int) -> None:
        self._chunks = chunks
        self._ahead = ahead
        self._queue: deque[bytes] = deque()
        self._error: BaseException | None = None
        self._has_begun = False
        self._is_at_end = False
        self._is_closed = False
        self._forget()
        _readers.add(self)

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._is_running = False
        self._pause = StopEvent()
        self._tell: Callable[[], object] | None = None

    @property
    def has_chunk(self) -> bool:
        """Whether the next `take` returns at once."""
        return bool(self._queue)

    def take(self, tell: Callable[[], object] | None = None) -> bytes | None:
        """The next chunk; or None, and `tell` is called, in any thread, when it is worth asking again.

        Raises:
            StopAsyncIteration: there is none.
            OSError: and whatever else the source raises, once.
        """
        with self._lock:
            chunk = self._queue.popleft() if self._queue else None
            if chunk is None:
                if self._is_closed or self._is_at_end:
                    error, self._error = self._error, None
                    raise error or StopAsyncIteration
                self._tell = tell
            starts = not self._is_running and self._is_wanted(self._ahead // 2 + 1)
            if starts:
                self._has_begun = self._is_running = True
                self._pause = StopEvent()
        if starts:
            try:
                run_in_thread(self._work, NAME)
            except BaseException:
                self._is_running = False
                if chunk is None:
                    raise
        return chunk

    def pause(self) -> None:
        """End the wait that the reader may be in; who was to be told is not."""
        with self._lock:
            self._tell = None
            pause = self._pause
        pause.set()

    def close(self, tell: Callable[[], object]) -> bool:
        """Close the source and drop what has been read; False, and `tell` is called, if that takes a thread's time."""
        with self._lock:
            self._is_closed = True
            self._queue.clear()
            self._error = None
            starts = self._has_begun and not self._is_running and not self._is_at_end
            self._is_running = self._is_running or starts
            if not self._is_running:
                return True
            self._tell = tell
            pause = self._pause
        pause.set()
        if starts:
            run_in_thread(self._work, NAME)
        return False

    def leave(self) -> None:
        """Nobody waits any more for what the thread does."""
        left_behind.add(self, f"{NAME}, in iter_chunks")
        if not self._is_running:
            left_behind.discard(self)

    def drop(self) -> None:
        """As `close`, for who cannot wait. An idle reader is closed with its last reference."""
        self._is_closed = True
        self._pause.set()

    def _is_wanted(self, ahead: int) -> bool:
        if self._is_at_end or self._is_closed:
            return False
        return len(self._queue) < ahead if self._ahead else self._tell is not None

    def _work(self) -> None:
        goes_on = True
        while goes_on:
            chunk, error = self._step()
            with self._lock:
                is_paused = isinstance(error, Interrupted)
                if chunk:
                    self._queue.append(chunk)
                elif is_paused:
                    self._pause = StopEvent()
                else:
                    self._is_at_end = True
                    self._error = error
                if self._is_closed:
                    self._queue.clear()
                tell = self._tell
                if not is_paused or self._is_closed:
                    self._tell = None
                goes_on = self._is_wanted(self._ahead) and (not is_paused or self._tell is not None)
                is_closed = self._is_closed
                if not is_closed:
                    self._is_running = goes_on
            if is_closed or self._is_at_end:
                with suppress(Exception):  # it was read to its end, or to where it was wanted
                    self._chunks.close()
            if is_closed:
                self._is_at_end = True
                self._is_running = False
                left_behind.discard(self)
            if tell is not None and (is_closed or not is_paused):
                tell()
            del chunk, error, tell  # what refers to them refers to this frame

    def _step(self) -> tuple[bytes, BaseException | None]:
        if self._is_closed:
            return b"", Interrupted()
        try:
            with use_stop(self._pause):
                return next(self._chunks, b""), None
        except BaseException as error:  # noqa: BLE001 - it is raised again in the coroutine
            return b"", error


class AsyncChunks(AsyncIterator[bytes]):
    """The bytes of a file in chunks, read ahead; made by `aio.iter_chunks`.

    Args:
        chunks: what is read, in a thread.
        stop: the own stop.
        timeout: seconds that one wait may take; None for no limit.
        size: bytes in a chunk.
        reads_ahead: False to read a chunk only once it is asked for.

    It can be used from one loop after another, by one task at a time. Dropped without `aclose`, it ends its thread and
    closes its file.
    """

    def __init__(
        self, chunks: Chunks, *, stop: StopEvent | None, timeout: float | None, size: int, reads_ahead: bool
    ) -> None:
        self._stop = stop
        self._timeout = timeout
        self._is_busy = False
        self._reader = _Reader(chunks, max(_CHUNKS, _BYTES // size) if reads_ahead else 0)

    @property
    def stop(self) -> StopEvent | None:
        """The own stop; any stop that `as_stop` accepts may be set."""
        return self._stop

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._stop = as_stop(stop)

    async def __anext__(self) -> bytes:
        self._enter()
        try:
            check(self._stop)
            if self._reader.has_chunk:
                await asyncio.sleep(0)  # with chunks always at hand, nobody else would get a turn
                check(self._stop)
            chunk = self._reader.take()
            return await self._wait() if chunk is None else chunk
        finally:
            self._is_busy = False

    async def aclose(self) -> None:
        """End the iteration and close the file; what has been read ahead is dropped. A stop does not keep it from that.

        A file that is stuck in the kernel is left to its thread, which closes it when it comes back.

        Raises:
            ResourceBusy: another task waits for a chunk.
        """
        self._enter()
        try:
            bell = Bell()
            if not self._reader.close(bell.ring_from_thread):
                async with asyncio.timeout(GRACE):
                    await bell.heard()
        except TimeoutError:
            pass
        finally:
            self._reader.leave()
            self._is_busy = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._reader.drop()

    async def _wait(self) -> bytes:
        loop = asyncio.get_running_loop()
        bell = Bell()
        with Awaiting(stops(self._stop), bell.ring) as awaiting:
            until = None if self._timeout is None else loop.time() + self._timeout
            timer = None if until is None else loop.call_at(until, bell.ring)
            try:
                while True:
                    chunk = self._reader.take(bell.ring_from_thread)
                    if chunk is not None:
                        return chunk
                    if until is not None and loop.time() >= until:
                        raise TimeoutError("timed out")  # noqa: TRY301 - it pauses the reader too
                    await bell.heard()
                    awaiting.raise_if_fired()
            except BaseException:
                self._reader.pause()
                raise
            finally:
                if timer is not None:
                    timer.cancel()

    def _enter(self) -> None:
        if self._is_busy:
            raise ResourceBusy("another task is in this iterator")
        self._is_busy = True


_readers: weakref.WeakSet[_Reader] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for reader in list(_readers):
        reader._forget()  # the thread is in the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
