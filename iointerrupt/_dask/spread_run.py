"""`Spread`: one call of `download_all`, from its first lane to its last result. It runs in the caller's thread.

Theory of operation. What happens comes as reports of the workers (`work_orders`), in the client's event loop, which puts them
into a queue. The calling thread takes them from there, keeps the books, and opens lanes as the plan has them; all of its waits
are ones that a stop ends. A few times a second it looks at the futures of the lanes, which know locally what has become of
their tasks: cancelled, failed, or gone with the scheduler; and at the workers that there are, as long as items wait for one.

A lane of which another worker says that it was `MOVED` has lost its own worker. What it had completed is known from its reports,
except for the last moments; so what it leaves is begun anew elsewhere, where a file that was not there when the lane began, and
is now, is taken for completed.

When the stop comes, it is passed on to all workers as a `ClusterStop`, and there is a moment in which they can say how far they
came. A connection to the scheduler that breaks sets the same stop, on both sides.
"""

from __future__ import annotations

import functools
import queue
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from distributed import Client, Future

from iointerrupt import calls
from iointerrupt._dask.spread_items import ClusterLost, DownloadsInterrupted, DownloadsLate, Errand, Item, ItemResult
from iointerrupt._dask.spread_plan import Batch, Plan
from iointerrupt._dask.stop import ClusterStop
from iointerrupt._dask.work import work_through
from iointerrupt._dask.work_orders import TOPIC, Ended, Lane, Report, Stage, unpacked
from iointerrupt._errors import DeadlineExceeded, DownloadError, Interrupted
from iointerrupt._stop import StopEvent, use_stop
from iointerrupt.downloads import DestinationExists, Options, Progress, State
from iointerrupt.downloads._options import check_url

# Seconds between two looks at the futures, and at the workers.
_LOOK = 0.2
_ASK = 2.0

# Seconds for which stopped workers are heard out.
_LAST_WORDS = 1.0

# How many workers an item may lose and be tried again: it may be what they die of.
_MOST_LOST = 3


class Listener(Protocol):
    """Who is told, in the thread of the caller, by item numbers."""

    def began(self, number: int, progress: Progress) -> None:
        """An item is under way."""

    def retried(self, number: int, progress: Progress) -> None:
        """A try has failed, and another one will follow."""

    def ended(self, number: int, result: ItemResult) -> None:
        """An item has come to its end."""

    def tick(self, running: Mapping[int, Progress], workers: int) -> None:
        """So far are those that are under way; told a few times a second."""


class _Open:
    """A lane that is under way.

    Attributes:
        batch, lane, future: what the plan, the worker and Dask know of it.
        left: the numbers of what has not ended, in their order.
        there: those whose files were there when it began; None while it has not.
        is_again: whether it was begun twice, as where a worker comes back under its address.
        worker: the address of the one that is at it.
    """

    def __init__(self, batch: Batch, lane: Lane, future: Future[None]) -> None:
        self.batch, self.lane, self.future = batch, lane, future
        self.left = dict.fromkeys(batch.numbers)
        self.there: tuple[int, ...] | None = None
        self.is_again = False
        self.worker = batch.worker

    def begin(self, there: tuple[int, ...]) -> None:
        """A worker is at it."""
        self.is_again = self.there is not None
        if self.there is None:
            self.there = there

    def may_have_completed(self, number: int) -> bool:
        """Whether a worker that was lost may have made this file."""
        return self.there is not None and number not in self.there


class Spread:
    """Items on their way to the workers and back.

    Args:
        client: of the cluster.
        items, errands: what to fetch, and where to.
        options: how.
        stop: ends it.
        per_host, jobs: of the `Plan`.
        listener: is told.
    """

    def __init__(
        self,
        client: Client,
        items: Sequence[Item],
        errands: Sequence[Errand],
        *,
        options: Options,
        stop: StopEvent,
        per_host: int,
        jobs: int,
        listener: Listener,
    ) -> None:
        self._client, self._items, self._options = client, items, options
        self._errands = list(errands)
        self._stop = stop
        self._listener = listener
        self._plan = Plan([check_url(each.url) for each in errands], per_host=per_host, jobs=jobs)
        self._name = uuid.uuid4().hex
        self._said: queue.Queue[Mapping[str, Any]] = queue.Queue()
        self._lanes: dict[int, _Open] = {}
        self._count = 0  # of the lanes that there have been
        self._results: dict[int, ItemResult] = {}
        self._running: dict[int, Progress] = {}
        self._begun: set[int] = set()
        self._lost: Counter[int] = Counter()  # workers, by item
        self._next_look = self._next_question = 0.0
        self._wish: Future[None] | None = None  # for a worker

    def run(self) -> list[ItemResult]:
        """Fetch all of them; return the results in the order of the items.

        Raises:
            DownloadsInterrupted: the stop was set.
            ClusterLost: nobody can say any more what becomes of them.
        """
        if self._stop.is_set():
            raise self._interrupted()
        _runs[self._name] = self._client, self._said
        try:
            deliver = functools.partial(_deliver, weakref.ref(self._client))
            self._client.subscribe_topic(TOPIC, deliver)  # type: ignore[no-untyped-call]
            with ClusterStop(self._client) as everywhere:
                self._run(everywhere)
        finally:
            del _runs[self._name]
            self._lanes.clear()  # the scheduler cancels what nobody wants any more
            self._wish = None
        return self._in_order()

    def _run(self, everywhere: ClusterStop) -> None:
        either = StopEvent(self._stop, everywhere)
        try:
            while len(self._results) < len(self._items):
                self._step(everywhere, either)
        except BaseException as error:
            is_lost = everywhere.is_set() or self._client.status != "running"
            with suppress(RuntimeError):  # nobody can be told: whoever is there has noticed by himself
                everywhere.set(self._stop.reason if self._stop.is_set() else f"the client has given up: {error!r}")
            if not isinstance(error, Exception):
                raise
            if self._stop.is_set():
                raise self._interrupted() from None
            if is_lost:
                raise self._cluster_lost(error) from error
            raise

    def _interrupted(self) -> DownloadsInterrupted:
        """Hear out who was stopped; the error that says what came of all."""
        with use_stop(None):
            until = time.monotonic() + _LAST_WORDS
            while self._lanes and (seconds := until - time.monotonic()) > 0:
                self._take(seconds, None)
        reason = self._stop.reason
        is_late = isinstance(_error_of(self._stop), DeadlineExceeded)
        interrupted = (DownloadsLate if is_late else DownloadsInterrupted)(reason)
        interrupted.results = self._with_all(Interrupted(reason))
        return interrupted

    def _cluster_lost(self, error: Exception) -> ClusterLost:
        self._drain()
        reason = error.reason if isinstance(error, Interrupted) else error
        lost = f"the connection to the scheduler is lost: {reason}"
        return ClusterLost(lost, self._with_all(Interrupted(lost)))

    def _with_all(self, error: Exception) -> list[ItemResult]:
        """The results, with this one for whatever has none."""
        under_way = {
            next(iter(each.left), None): each.worker for each in self._lanes.values() if each.there is not None
        }
        for number in range(len(self._items)):
            if number not in self._results:
                self._end(number, Ended(None, error), under_way.get(number, ""))
        return self._in_order()

    def _in_order(self) -> list[ItemResult]:
        return [self._results[number] for number in range(len(self._items))]

    def _step(self, everywhere: ClusterStop, either: StopEvent) -> None:
        """Begin what can be begun, and wait for something to happen, or for the next look."""
        if time.monotonic() >= self._next_look:
            self._look(either)
            self._next_look = time.monotonic() + _LOOK
        while (batch := self._plan.next()) is not None:
            self._open(batch, everywhere)
        self._take(max(0.0, self._next_look - time.monotonic()), either)

    def _look(self, either: StopEvent) -> None:
        """See to what nobody reports."""
        statuses = {number: opened.future.status for number, opened in self._lanes.items()}
        self._drain()  # what has been said before they became so
        for number, status in statuses.items():
            opened = self._lanes.get(number)
            if opened is None or status == "pending":
                continue
            if self._client.status != "running":
                raise RuntimeError("the client is closed")
            if status == "error":
                self._fail(opened, opened.future.exception())  # type: ignore[no-untyped-call]
            elif status == "cancelled":
                self._fail(opened, Interrupted("the task was cancelled"))
            else:
                self._lose(opened)
        if time.monotonic() >= self._next_question:
            self._plan.workers = frozenset(calls.call(self._client.nthreads, stop=either))
            self._next_question = time.monotonic() + _ASK
            self._ask_for_workers()
            self._drain()
            for opened in list(self._lanes.values()):
                if opened.worker not in self._plan.workers:  # and none other has got it
                    self._lose(opened)
        self._listener.tick(self._running, len(self._plan.workers))

    def _ask_for_workers(self) -> None:
        """A cluster that grows as it has tasks to do gets one for as long as it has nobody to do any."""
        if self._plan.workers:
            self._wish = None
        elif self._wish is None:
            self._wish = self._client.submit(_nothing, key=f"{self._name}-wish", pure=False)

    def _drain(self) -> None:
        while not self._said.empty():
            self._take(0.0, None)

    def _take(self, seconds: float, stop: StopEvent | None) -> None:
        """Hear what was said, or is within so many seconds."""
        try:
            said = calls.get(self._said, stop=stop, timeout=seconds)
        except queue.Empty:
            return
        self._hear(unpacked(said))

    # Lanes

    def _open(self, batch: Batch, everywhere: ClusterStop) -> None:
        self._count += 1
        errands = {number: self._errands[number] for number in batch.numbers}
        lane = Lane(self._name, self._count, batch.worker, errands, self._options, everywhere)
        future = self._client.submit(
            work_through, lane, key=lane.key, workers=[batch.worker], allow_other_workers=True, pure=False
        )
        self._lanes[lane.number] = _Open(batch, lane, future)

    def _hear(self, report: Report) -> None:
        opened = self._lanes.get(report.lane)
        if opened is None:
            return
        if report.stage is Stage.MOVED:
            self._moved(opened, report.worker)
            return
        opened.worker = report.worker
        if report.stage is Stage.BEGUN:
            opened.begin(report.there)
        for number, progress in report.retried:
            self._goes_on(opened, number, progress)
            self._listener.retried(number, progress)
        for number, ended in report.ended.items():
            if number in opened.left and not self._has_to_look(opened, number, ended):
                del opened.left[number]
                self._end(number, ended, report.worker)
        if report.current is not None:
            self._goes_on(opened, *report.current)
        if report.stage is Stage.OVER:
            self._close(opened, seconds=report.seconds)

    def _goes_on(self, opened: _Open, number: int, progress: Progress) -> None:
        if number in opened.left:
            self._running[number] = progress
            if number not in self._begun:
                self._begun.add(number)
                self._listener.began(number, progress)

    def _moved(self, opened: _Open, worker: str) -> None:
        self._next_look = self._next_question = 0.0  # there may be other workers now
        if opened.there is not None:
            self._lose(opened)
            return
        # Its worker had gone before it could begin, or has given it away as it was busy: it can as well be done there.
        del self._lanes[opened.lane.number]
        self._open(self._plan.moved(opened.batch, worker), opened.lane.stop)

    def _lose(self, opened: _Open) -> None:
        """A lane has lost its worker."""
        number = next(iter(opened.left), None)
        if number is not None and opened.there is not None:  # else there was none at it
            lost = DownloadError(f"the worker {opened.worker} was lost", url=self._errands[number].url)
            if self._lost[number] == _MOST_LOST:
                del opened.left[number]
                self._end(number, Ended(None, lost), opened.worker)
            else:
                self._lost[number] += 1
                if number in self._running:
                    self._listener.retried(number, replace(self._running[number], state=State.WAITING, error=lost))
        self._close(opened)

    def _fail(self, opened: _Open, error: Any) -> None:
        """There is no such task any more."""
        for number in list(opened.left):
            del opened.left[number]
            self._end(number, Ended(None, error), opened.worker)
        self._close(opened)

    def _close(self, opened: _Open, *, seconds: float | None = None) -> None:
        del self._lanes[opened.lane.number]
        for number in opened.left:
            self._running.pop(number, None)
            if opened.there is not None:
                may_be_there = self._errands[number].may_be_there or opened.may_have_completed(number)
                self._errands[number] = replace(self._errands[number], is_left=True, may_be_there=may_be_there)
        self._plan.ended(opened.batch, seconds=seconds, back=tuple(opened.left))

    def _has_to_look(self, opened: _Open, number: int, ended: Ended) -> bool:
        """Whether a file is there that may be one of ours: what was done in vain is done again, with that in mind."""
        return opened.is_again and isinstance(ended.error, DestinationExists) and opened.may_have_completed(number)

    def _end(self, number: int, ended: Ended, worker: str) -> None:
        self._running.pop(number, None)
        attempts = self._lost[number] + bool(worker)
        result = ItemResult(self._items[number], ended.downloaded, ended.error, worker, attempts)
        self._results[number] = result
        self._listener.ended(number, result)


def _nothing() -> None:
    """The task of a wish."""


def _error_of(stop: StopEvent) -> Interrupted:
    """What a stop that is set raises."""
    try:
        stop.interrupt()
    except Interrupted as interrupted:
        return interrupted


def _deliver(client: weakref.ref[Client], event: tuple[float, Mapping[str, Any]]) -> None:
    """Called in a client's event loop, for the reports of all runs of all clients, of which each takes its own."""
    _, message = event
    whose, said = _runs.get(message["run"], (None, None))
    if said is not None and whose is client():
        said.put(message)


_runs: dict[str, tuple[Client, queue.Queue[Mapping[str, Any]]]] = {}
