"""`Chunks`: the iterator of `files.iter_chunks`, which goes on where it was after a stop or a timeout.

It is not a generator, since one that has raised is at its end: whoever asks it again would take what it had delivered for
the whole file. Its lock is held for the length of one step, and is only ever tried.
"""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from iointerrupt._errors import Interrupted, ResourceBusy
from iointerrupt._stop import StopEvent, as_stop
from iointerrupt._types import StopLike


class Source(NamedTuple):
    """Where the chunks come from.

    Attributes:
        read: reads at most so many bytes.
        file: to seek in.
        bearer: has the stop of a read as its `stop`.
        opened: what to close at the end.
    """

    read: Callable[[int], bytes]
    file: Any
    bearer: Any
    opened: Any = None


class Chunks(Iterator[bytes]):
    """The bytes of a source in chunks.

    Args:
        begin: called at the first step with the own stop.
        size: bytes in a chunk, at most.
        start: how many bytes to skip.
        length: how many bytes to deliver; None for all.
        stop: the own stop.
    """

    def __init__(
        self,
        begin: Callable[[StopEvent | None], Source],
        size: int,
        start: int,
        length: int | None,
        *,
        stop: StopEvent | None,
    ) -> None:
        self._lock = threading.Lock()
        self._begin = begin
        self._size = size
        self._start = start
        self._left = length
        self._stop = stop
        self._source: Source | None = None
        self._ended = False

    @property
    def stop(self) -> StopEvent | None:
        """The own stop; any stop that `as_stop` accepts may be set."""
        return self._stop

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._stop = as_stop(stop)
        if self._source is not None:
            self._source.bearer.stop = self._stop

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
        if self._source is None:
            self._source = self._begin(self._stop)
        if self._start:
            seekable = getattr(self._source.file, "seekable", None)
            if seekable is None or not seekable():
                raise io.UnsupportedOperation("cannot start at an offset: the source cannot seek")
            self._source.file.seek(self._start, os.SEEK_CUR)
            self._start = 0
        try:
            chunk = (
                self._source.read(self._size if self._left is None else min(self._size, self._left))
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
        source, self._source = self._source, None
        if source is not None and source.opened is not None:
            source.opened.close()
