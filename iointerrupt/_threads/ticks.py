"""`Ticks`: the iterator of `threads.every`.

It is not a generator, since one that has raised is at its end, and this goes on after a stop. When it began, and which tick was
the last, belong to the thread that is in a step, which has written itself into `_user`; that is one atomic operation.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator

from iointerrupt._errors import ResourceBusy
from iointerrupt._stop import StopEvent, as_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import check, wait_set

# As fine as the clock is; and the quotient of a time and a period stays a number.
_SHORTEST = 1e-9


class Ticks(Iterator[int]):
    """The numbers of the ticks, each at its time; see `threads.every`, which makes it."""

    def __init__(self, seconds: float, stop: StopLike) -> None:
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"seconds must be a number, not {type(seconds).__name__}")
        if not _SHORTEST <= seconds < math.inf:  # this way round it catches nan too
            raise ValueError(f"seconds must be a finite number of 1e-9 or more, not {seconds!r}")
        self._seconds = float(seconds)
        self._stop = as_stop(stop)
        self._user: dict[int, int] = {}
        self._began: float | None = None
        self._last = -1
        self._never = StopEvent()

    @property
    def stop(self) -> StopEvent | None:
        """The iterator's own stop. What is set here holds from the next tick on."""
        return self._stop

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._stop = as_stop(stop)

    def __next__(self) -> int:
        if self._user.setdefault(0, threading.get_ident()) != threading.get_ident():
            raise ResourceBusy("another thread is in this iterator")
        try:
            check(self._stop)
            if self._began is None:
                self._began = time.monotonic()
            # The first tick that is not over yet, a due one included.
            elapsed = (time.monotonic() - self._began) / self._seconds
            tick = 0 if self._last < 0 else max(self._last + 1, math.ceil(elapsed))
            if tick:
                try:
                    wait_set(self._never, self._stop, self._began + tick * self._seconds)
                except TimeoutError:  # that is the tick
                    pass
            self._last = tick
            return tick
        finally:
            self._user.pop(0, None)
