"""`Rate`, a limit on the bytes a second that many threads share, and `Speed`, how fast bytes have come of late.

Both do their sums with a clock that they are told, apart from what waits: `Account` and `Speed` know no time of their own.

Theory of operation. Bytes are paid for with credit, which grows by the rate, up to a small burst. A thread pays at once, also
with what is not there, and then waits until its own bytes are covered. So threads are served in the order in which they have
come, none waits for another, and no sum is too large ever to be saved up. What is given back benefits all who wait.
"""

from __future__ import annotations

import math
import threading
import time
from typing import Any

from iointerrupt._stop import as_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import check

# Seconds for which the limit may be saved up while nothing moves; long enough for what a loaded machine is late.
_BURST = 0.1

# Seconds that one step should take: short enough for a smooth progress, and half a burst, so that steps flow.
_STEP = 0.05
_LARGEST_STEP = 1 << 20

# Into how many slices a window is cut.
_SLICES = 20


class Account:
    """What has been paid and what is covered, in bytes, at moments that the caller names. Not locked.

    Args:
        rate: bytes a second; `math.inf` for no limit.
        now: the moment, in seconds on a clock that only goes forward.
    """

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._since = now
        # Apart, since one counts for ever and the other stays small: the sum of both would lose fractions of a byte.
        self._paid = 0
        self._credit = 0.0 if rate == math.inf else max(rate * _BURST, 1.0)

    def pay(self, count: int, now: float) -> int:
        """Pay for `count` bytes; return the receipt, which `due` takes."""
        self._settle(now)
        self._credit -= count
        self._paid += count
        return self._paid

    def due(self, receipt: int, now: float) -> float:
        """In how many seconds the bytes of a receipt are covered, as things are."""
        self._settle(now)
        missing = receipt - self._paid - self._credit
        return missing / self.rate if missing > 0 else 0.0

    def give_back(self, count: int) -> None:
        """Bytes that were paid for do not move."""
        self._credit += count

    def change(self, rate: float, now: float) -> None:
        """From now on it is another rate."""
        self._settle(now)
        self.rate = rate

    def _settle(self, now: float) -> None:
        if self.rate == math.inf:
            self._credit = 0.0
        else:
            earned = self.rate * max(0.0, now - self._since)
            self._credit = min(self._credit + earned, max(self.rate * _BURST, 1.0))
        self._since = max(self._since, now)


class Rate:
    """A limit on how many bytes a second all threads together move that `take` from it.

    `_changed` guards the account, and is notified when somebody may have to wait less long than he thought.

    Args:
        bytes_per_second: the limit; None for no limit.
        name: what it is called in what is said of one that cannot be.

    Raises:
        TypeError, ValueError: it is no number, or not more than 0.
    """

    def __init__(self, bytes_per_second: float | None = None, name: str = "bytes_per_second") -> None:
        self._changed = threading.Condition(threading.Lock())
        self._name = name
        self._account = Account(_checked(name, bytes_per_second), time.monotonic())

    @property
    def bytes_per_second(self) -> float | None:
        """The limit; None for none. It can be set at any time, which holds at once, for those who wait too."""
        rate = self._account.rate
        return None if rate == math.inf else rate

    @bytes_per_second.setter
    def bytes_per_second(self, bytes_per_second: float | None) -> None:
        rate = _checked(self._name, bytes_per_second)
        with self._changed:
            self._account.change(rate, time.monotonic())
            self._changed.notify_all()

    @property
    def chunk(self) -> int:
        """How many bytes to move in one step, so that they flow smoothly; at least 1, at most 1 MiB."""
        return max(1, int(min(self._account.rate * _STEP, _LARGEST_STEP)))

    def take(self, count: int, stop: StopLike = None) -> float:
        """Wait until `count` more bytes are within the limit; called when they have been moved, or before that.

        After a pause, a tenth of a second's worth is so at once. Who calls it afterwards is ahead of the limit by one step.

        Args:
            count: how many bytes.
            stop: what ends the wait, besides the current stop.

        Returns:
            The seconds that it has waited.

        Raises:
            Interrupted: a stop is set. The bytes have been given back.
        """
        own = as_stop(stop)
        check(own)
        with self._changed:
            begin = now = time.monotonic()
            receipt = self._account.pay(count, now)
            try:
                while (seconds := self._account.due(receipt, now)) > 0:
                    from iointerrupt.calls import wait  # noqa: PLC0415 - where nothing is limited, nothing waits

                    try:
                        wait(self._changed, stop=own, timeout=seconds)
                    except TimeoutError:
                        pass
                    now = time.monotonic()
            except BaseException:
                self._account.give_back(count)
                self._changed.notify_all()
                raise
        return now - begin


class Speed:
    """How many bytes a second have come within the last seconds, in a fixed amount of memory. Not locked.

    The window moves on by a twentieth of itself, so it covers at least nineteen twentieths of `window`. All moments are of
    one clock that only goes forward, such as `time.monotonic`.

    Args:
        window: over how many seconds it is taken.
        begin: when the transfer began; None for the moment of the first call. The bytes of such a call do not count, as
            nobody knows how long they took.
    """

    def __init__(self, window: float = 3.0, begin: float | None = None) -> None:
        self._width = window / _SLICES
        self._slices = [0] * _SLICES
        self._number = 0  # of the slice that is being filled, from the beginning
        self._begin = begin
        self._paused = 0.0

    def add(self, count: int, now: float) -> None:
        """`count` bytes have come by now."""
        if self._begin is None:
            self._begin, count = now, 0
        self._advance(now)
        self._slices[self._number % _SLICES] += count

    def pause(self, seconds: float) -> None:
        """So many of the seconds since the last call do not count: they were spent waiting for a `Rate`."""
        self._paused += seconds

    def value(self, now: float) -> float:
        """Bytes a second, over the window or, before it is full, since the beginning; 0 at the beginning itself."""
        elapsed = self._advance(now)
        covered = elapsed - max(0, self._number - _SLICES + 1) * self._width
        return sum(self._slices) / covered if covered > 0 else 0.0

    def is_below(self, least: float, now: float) -> bool:
        """Whether it has been slower than `least` bytes a second, on the average of a whole window."""
        return self.value(now) < least and self._number >= _SLICES

    def _advance(self, now: float) -> float:
        # Empties the slices that have begun since; returns how many seconds it has been, without the pauses.
        if self._begin is None:
            self._begin = now
        elapsed = max(now - self._begin - self._paused, self._number * self._width)
        number = max(self._number, int(elapsed / self._width))
        for fresh in range(max(self._number, number - _SLICES) + 1, number + 1):
            self._slices[fresh % _SLICES] = 0
        self._number = number
        return elapsed


def _checked(name: str, bytes_per_second: Any) -> float:
    if bytes_per_second is None:
        return math.inf
    if isinstance(bytes_per_second, bool) or not isinstance(bytes_per_second, int | float):
        raise TypeError(f"{name} must be a number or None, not {type(bytes_per_second).__name__}")
    if not bytes_per_second > 0:  # this way round it catches nan too
        raise ValueError(f"{name} must be more than 0, not {bytes_per_second}")
    return float(bytes_per_second)
