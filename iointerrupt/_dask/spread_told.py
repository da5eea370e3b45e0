"""`Told`: the totals of a run of `download_all`, from what is heard of each item."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from iointerrupt._dask.spread_items import ClusterProgress, ItemResult
from iointerrupt.downloads import Progress
from iointerrupt.downloads._rate import Speed


class Told:
    """Listens to a run, and tells the totals.

    Args:
        total: how many items there are.
        progress: is told; None for nobody.
    """

    def __init__(self, total: int, progress: Callable[[ClusterProgress], object] | None) -> None:
        self._progress = progress
        self._total = total
        self._completed = self._failed = self._workers = 0
        self._done = self._came = 0  # bytes, of those that have ended: with and without what was there before
        self._running: Mapping[int, Progress] = {}
        self._speed = Speed()
        self._last = 0  # bytes that had come when the speed was looked at

    def began(self, number: int, progress: Progress) -> None:
        """Nothing to count."""

    def retried(self, number: int, progress: Progress) -> None:
        """Nothing to count."""

    def ended(self, number: int, result: ItemResult) -> None:  # noqa: ARG002 - one is as good as another
        """One is done, or has failed."""
        if result.downloaded is None:
            self._failed += 1
            return
        self._completed += 1
        self._done += result.downloaded.size
        if not result.downloaded.unchanged:
            self._came += result.downloaded.size - result.downloaded.resumed_from

    def tick(self, running: Mapping[int, Progress], workers: int) -> None:
        """Tell, if anybody wants to know."""
        self._running, self._workers = running, workers
        if self._progress is not None:
            self.tell()

    def tell(self) -> None:
        """Tell the totals."""
        if self._progress is None:
            return
        now = time.monotonic()
        each = self._running.values()
        came = self._came + sum(one.done - one.resumed_from for one in each)
        self._speed.add(max(0, came - self._last), now)
        self._last = came
        self._progress(
            ClusterProgress(
                total=self._total,
                completed=self._completed,
                failed=self._failed,
                running=len(each),
                done=self._done + sum(one.done for one in each),
                speed=self._speed.value(now),
                workers=self._workers,
            )
        )
