"""`Download`: one download of a `DownloadManager`, as a program holds it in its hand."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from enum import Enum
from typing import TYPE_CHECKING

from iointerrupt import calls
from iointerrupt._stop import StopEvent, as_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import check
from iointerrupt.downloads._download import limits
from iointerrupt.downloads._meter import Meter
from iointerrupt.downloads._options import Downloaded, Options, Progress, State, check_priority
from iointerrupt.downloads._target import Destination

if TYPE_CHECKING:
    from iointerrupt._signal.callbacks import Registration
    from iointerrupt.downloads._manager import DownloadManager


class Place(Enum):
    """Where a download is, to the manager."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSED = "paused"
    ENDED = "ended"


class Wanted(Enum):
    """What is to become of a download that a thread has at this moment."""

    NOTHING_ELSE = "nothing else"
    PAUSE = "pause"
    #: After a pause that has not come about yet.
    RESUME = "resume"
    STOP = "stop"


class Download(Future[Downloaded]):
    """One download of a `DownloadManager`: a `concurrent.futures.Future` of what becomes of it, which can be paused.

    `concurrent.futures.as_completed` and `wait` take it, `asyncio.wrap_future` makes it awaitable.

    Attributes:
        url: what is being fetched.
        dest: where to, as it was said.
        priority: the higher the sooner.
    """

    def __init__(
        self,
        manager: DownloadManager,
        url: str,
        dest: Destination,
        *,
        host: str,
        options: Options,
        priority: float,
        progress: Callable[[Progress], object] | None,
    ) -> None:
        check_priority(priority)
        super().__init__()
        self.url: str = url
        self.dest: Destination = dest
        self.priority: float = priority
        self._manager = manager
        self._options = options
        self._meter = Meter(url, progress)
        self._rates = limits(options)
        self._host = host
        # Guarded by the manager's lock.
        self._place = Place.PAUSED  # until it is put into the queue
        self._number = 0  # of its place in the queue: one that it has left there is void
        self._wanted = Wanted.NOTHING_ELSE
        self._reason: object = None  # for that
        self._stop: StopEvent | None = None  # of the run
        self._own_stop: StopEvent | None = None  # the user's
        self._registration: Registration | None = None

    @property
    def state(self) -> State:
        """Where it is."""
        return self._meter.state

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._meter.progress()

    def result(self, timeout: float | None = None, *, stop: StopLike = None) -> Downloaded:
        """Wait for it to be done.

        Args:
            timeout: seconds to wait at most; None for no limit.
            stop: what ends the wait, besides the current stop. The download goes on.

        Raises:
            DownloadError, Interrupted: what has ended it; or `Interrupted` of the wait.
            TimeoutError: it is not done by then.
        """
        check(as_stop(stop))
        return super().result() if self.done() else calls.result(self, stop=stop, timeout=timeout)

    def stop(self, reason: object = None) -> None:
        """End it. What has come is kept, and its result is `Interrupted`; one that is done stays so."""
        self._manager._ask(self, Wanted.STOP, reason)

    def cancel(self) -> bool:
        """End it, as `stop` does; return whether it was not done."""
        was_open = not self.done()
        self.stop("cancelled")
        return was_open

    def pause(self) -> None:
        """Give up its connection and its place until `resume`. What has come is kept."""
        self._manager._ask(self, Wanted.PAUSE, None)

    def resume(self) -> None:
        """Go on with it, when its turn comes; without effect where it is not paused."""
        self._manager._ask(self, Wanted.RESUME, None)
