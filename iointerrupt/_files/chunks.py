"""`Chunks`: the iterator of `files.iter_chunks`, which goes on where it was after a stop or a timeout.

It is not a generator, since one that has raised is at its end: whoever asks it again would take what it had delivered for
the whole file. Its lock is held for the length of one step, and is only ever tried.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

from iointerrupt._errors import Interrupted, ResourceBusy


class Chunks(Iterator[bytes]):
    """The bytes of a source in chunks.

    Args:
        begin: called at the first step; returns a function that reads at most so many bytes, the source to seek in, and
            what to close at the end, or None.
        size: bytes in a chunk, at most.
        start: how many bytes to skip.
        length: how many bytes to deliver; None for all.
    """

    def __init__(
        self,
        begin: Callable[[], tuple[Callable[[int], bytes], Any, Any]],
        size: int,
        start: int,
        length: int | None,
    ) -> None:
        self._lock = threading.Lock()
        self._begin = begin
        self._size = size
        self._start = start
        self._left = length
        self._read: Callable[[int], bytes] | None = None
        self._opened: Any = None
        self._ended = False

    def __next__(self) -> bytes:
        if not self._lock.acquire(blocking=False):
            raise ResourceBusy("another thread is in this iterator")
        try:
            chunk = b"" if self._ended else self._step()
            if not chunk:
                self._end()
        except (Interrupted, TimeoutError):
            raise
        except BaseException:
            self._end()
            raise
        finally:
            self._lock.release()
        if not chunk:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """End the iteration, and close what it has opened.

        Raises:
            ResourceBusy: another thread is in a step.
        """
        if not self._lock.acquire(blocking=False):
            raise ResourceBusy("another thread is in this iterator")
        try:
            self._end()
        finally:
            self._lock.release()

    def __del__(self) -> None:
        self._end()

    def _step(self) -> bytes:
        if self._read is None:
            self._read, self._source, self._opened = self._begin()
        if self._start:
            seekable = getattr(self._source, "seekable", None)
            if seekable is None or not seekable():
                raise io.UnsupportedOperation("cannot start at an offset: the source cannot seek")
            self._source.seek(self._start, os.SEEK_CUR)
            self._start = 0
        try:
            chunk = (
                self._read(self._size if self._left is None else min(self._size, self._left))
                if self._left != 0
                else b""
            )
        except (Interrupted, TimeoutError) as error:
            chunk = getattr(error, "partial", None) or b""
            if not chunk:
                raise
            # The stop is still set, and raises in the next step.
        if self._left is not None:
            self._left -= len(chunk)
        return chunk

    def _end(self) -> None:
        self._ended = True
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()
