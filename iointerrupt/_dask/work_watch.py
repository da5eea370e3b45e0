"""`Watch`: one look at all lanes of a worker, a few times a second, from its event loop.

Lanes are threads that are blocked in their transfers. What they have done is told from here, for all in turn, so that no chunk
costs a message; and here it is noticed that nobody wants a lane any more, as Dask tells a running task nothing. There is no
thread for it, and nothing at all while the worker has no lane.

Ownership: a `Shift` is shared by the thread of its lane and the loop; `_lock` guards what is to be told. Threads put their
shifts into the dict and take them out; the loop looks at a copy.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from distributed import Status, Worker

from iointerrupt._dask.work_orders import Ended, Lane, Report, Stage
from iointerrupt._stop import StopEvent
from iointerrupt.downloads import Progress, State
from iointerrupt.downloads._meter import Meter

# Seconds between two looks.
_EVERY = 0.2

# Seconds for which a worker that closes waits for its lanes, and between two looks meanwhile.
_LAST_WORDS = 2.0
_PAUSE = 0.01

_NAME = "iointerrupt-downloads"

# What a task is while its thread runs and its result is wanted, and a worker that has not begun to close.
_WANTED = frozenset({"executing", "long-running"})
_OPEN = frozenset({Status.running, Status.paused})


class Shift:
    """A lane while a worker is at it.

    Args:
        worker: that.
        lane: what it does.

    Attributes:
        stop: ends it.
        is_called_off: whether nobody wants it here any more.
    """

    def __init__(self, worker: Worker, lane: Lane) -> None:
        self._worker, self._lane = worker, lane
        self._lock = threading.Lock()
        self._ended: dict[int, Ended] = {}
        self._current: tuple[int, Meter] | None = None
        self._retried: list[tuple[int, Progress]] = []
        self.stop = StopEvent(lane.stop)
        self.is_called_off = False

    def begin(self, number: int, url: str) -> Meter:
        """An errand is begun; what counts it."""
        meter = Meter(url, functools.partial(self._heard, number))
        with self._lock:
            self._current = number, meter
        return meter

    def _heard(self, number: int, progress: Progress) -> None:
        if progress.state is State.WAITING:
            with self._lock:
                self._retried.append((number, progress))

    def end(self, number: int, ended: Ended) -> None:
        """An errand has come to an end."""
        with self._lock:
            self._ended[number] = ended
            self._current = None

    def tell(self) -> None:
        """Report, if there is something to report."""
        report = self.news(Stage.GOING)
        if report.ended or report.current:
            self._lane.report(self._worker, report)

    def news(self, stage: Stage, seconds: float = 0.0) -> Report:
        """What is to be said since the last time."""
        with self._lock:
            ended, self._ended = self._ended, {}
            retried, self._retried = self._retried, []
            current = self._current
        return Report(
            self._lane.number,
            self._worker.address,
            stage,
            ended=ended,
            current=None if current is None else (current[0], current[1].progress()),
            retried=tuple(retried),
            seconds=seconds,
        )

    def look(self) -> None:
        """Call it off if nobody wants it here."""
        task = self._worker.state.tasks.get(self._lane.key)
        if self._worker.status not in _OPEN:
            self._call_off("the worker is closing")
        elif task is None or task.state not in _WANTED:
            self._call_off("the task was cancelled")

    def _call_off(self, reason: str) -> None:
        self.is_called_off = True
        self.stop.set(reason)


class Watch:
    """Looks after the lanes of one worker; an extension of it, so that it is told when that closes."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._shifts: dict[str, Shift] = {}
        self._is_looking = False

    @contextmanager
    def over(self, lane: Lane) -> Iterator[Shift]:
        """A shift that is looked after in this block."""
        shift = self._shifts[lane.key] = Shift(self._worker, lane)
        self._worker.loop.add_callback(self._look)
        try:
            yield shift
        finally:
            del self._shifts[lane.key]

    async def _look(self) -> None:
        if self._is_looking:
            return
        self._is_looking = True
        try:
            while shifts := list(self._shifts.values()):
                for shift in shifts:
                    shift.look()
                    shift.tell()
                await asyncio.sleep(_EVERY)
        finally:
            self._is_looking = False

    async def close(self) -> None:
        """Have all transfers stopped in order, when the worker closes; else they would end in the middle of something."""
        until = time.monotonic() + _LAST_WORDS
        while (shifts := list(self._shifts.values())) and time.monotonic() < until:
            for shift in shifts:
                shift.look()
            await asyncio.sleep(_PAUSE)


def watch_of(worker: Worker) -> Watch:
    """The one of a worker."""
    watch: Watch = worker.extensions.setdefault(_NAME, Watch(worker))
    return watch
