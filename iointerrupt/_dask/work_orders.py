"""What goes between a client and its workers: a `Lane` there, `Report`s back.

A lane is the argument of a task. Reports are events of the scheduler (`Worker.log_event`), which passes them on in their order
and opens none; so what a worker has said arrives also where it is killed right after that. The scheduler keeps the
last thousand events of each topic for ever: so there is one topic for all, and reports are compressed.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from distributed import Worker

from iointerrupt._dask.spread_items import Errand
from iointerrupt._dask.stop import ClusterStop
from iointerrupt._errors import DownloadError
from iointerrupt.downloads import Downloaded, Options, Progress

#: The topic of the reports.
TOPIC = "iointerrupt-downloads"


@dataclass(frozen=True)
class Lane:
    """What a worker is to do, over one connection.

    Attributes:
        run: the name of the whole, by which its client finds it.
        number: which lane of it this is.
        worker: the address of the worker that is meant.
        errands: what to fetch, by number, in this order.
        options: how.
        stop: ends it.
    """

    run: str
    number: int
    worker: str
    errands: Mapping[int, Errand]
    options: Options
    stop: ClusterStop

    @property
    def key(self) -> str:
        """That of its task."""
        return f"iointerrupt-download-{self.run}-{self.number}"

    def report(self, worker: Worker, report: Report) -> None:
        """Say something of it to its client."""
        worker.log_event(TOPIC, {"run": self.run, "report": zlib.compress(pickle.dumps(report), 1)})


class Stage(Enum):
    """Where a lane is."""

    #: Its worker has taken it up.
    BEGUN = "begun"
    #: Another worker has got it than was meant, and has done nothing.
    MOVED = "moved"
    #: It is under way.
    GOING = "going"
    #: All of it has been fetched, or has failed, or was stopped.
    OVER = "over"


@dataclass(frozen=True)
class Ended:
    """What became of an errand: one of both is None."""

    downloaded: Downloaded | None
    error: Exception | None


@dataclass(frozen=True)
class Report:
    """What there is to say of a lane.

    Attributes:
        lane: its number.
        worker: the address of the worker that has it.
        stage: where it is.
        there: the numbers of those whose files were there at the beginning (of `BEGUN` alone).
        ended: those that have ended since the last report.
        current: the number of the one under way, and how far it is.
        retried: its tries that have failed since the last report, as its progress was then.
        seconds: how long it has been under way.
    """

    lane: int
    worker: str
    stage: Stage
    there: tuple[int, ...] = ()
    ended: Mapping[int, Ended] = field(default_factory=dict)
    current: tuple[int, Progress] | None = None
    retried: tuple[tuple[int, Progress], ...] = ()
    seconds: float = 0.0


def unpacked(event: Mapping[str, Any]) -> Report:
    """The report of an event."""
    report: Report = pickle.loads(zlib.decompress(event["report"]))  # noqa: S301 - from the cluster, whose workers run what one sends them
    return report


def sendable(error: Exception) -> Exception:
    """An error, or one that says the same where it cannot be pickled; without what it was caused by.

    Dask has tblib pickle that with it, and there may be responses in it, and credentials.
    """
    error.__cause__ = error.__context__ = error.__traceback__ = None
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - what has just been pickled
    except Exception:  # noqa: BLE001 - whatever keeps it from being so
        return DownloadError(f"{type(error).__name__}: {error}")
    return error
