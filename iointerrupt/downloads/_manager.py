"""`DownloadManager`: many downloads, so many at a time.

Theory of operation. What waits is in a `Queue`, by host and priority. The first thread is started when a download can begin. It
takes the best of those whose host has a connection free, and when that is done the next one; it ends when there is none. So
nothing waits for a free place but the downloads themselves, and a stop or a pause takes one out of the queue at once.

Further threads, up to `jobs`, are started one after another by `_ramp`, and only while they help: while one thread begins a
new download every moment and is never found waiting for its server, a second one would do no more than contend with it
for the interpreter. Many small files from a near server come faster for it.

Ownership: `_lock` guards the queue, the counts, and the place of each download. Nothing is called under it that may be
the user's, and no stop is asked: a callable may be one. A download that a thread has taken out of a queue belongs to that thread
until it has ended or is paused; others say what they want in its `_wanted`, and set the stop that it runs under.

The manager's own stop may be set by a signal handler, in a thread that is just within the lock. So `_stop_all` only tries
to get it, and who has it does the work when it lets go of it (`_Lock`).
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from time import monotonic, sleep
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from iointerrupt import calls
from iointerrupt._errors import Interrupted
from iointerrupt._signal.blocked import blocked_threads
from iointerrupt._signal.reports import report_exception
from iointerrupt._signal.threads import own_thread
from iointerrupt._stop import StopEvent, as_stop, current_stop, use_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import deadline_of
from iointerrupt.downloads._download import end_state, is_stop, run
from iointerrupt.downloads._handle import Download, Place, Wanted
from iointerrupt.downloads._job import Job
from iointerrupt.downloads._options import Downloaded, Options, Progress, State, Totals, check_options, check_url, whole
from iointerrupt.downloads._queue import Queue
from iointerrupt.downloads._rate import Rate
from iointerrupt.downloads._session import stoppable
from iointerrupt.downloads._target import Destination, check_destination

if TYPE_CHECKING:
    from types import TracebackType

    import requests

    from iointerrupt.downloads._shapes import Changes

T = TypeVar("T")

# How often to look whether another thread is wanted (seconds): where all that there are wait, so many times in a row, or are
# at the same downloads for as long as this (seconds).
_RAMP, _WAITING, _LONG = 0.002, 3, 0.05


class _Lock:
    """A lock whose holder does what others could not do meanwhile.

    Args:
        catch_up: does that, without the lock.
    """

    def __init__(self, catch_up: Callable[[], object]) -> None:
        self._lock = threading.Lock()
        self._catch_up = catch_up

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()
        self._catch_up()

    def try_to(self, work: Callable[[], T]) -> T | None:
        """What `work()` returns, with the lock; None if somebody has that."""
        if not self._lock.acquire(blocking=False):
            return None
        try:
            return work()
        finally:
            self._lock.release()


class DownloadManager:
    """Downloads many files, so many at a time, over one session.

        with downloads.DownloadManager(jobs=8, stop=stop) as manager:
            for url in urls:
                manager.submit(url, "images/")

    Leaving the block waits for all that is queued or running, then stops what is paused; an exception out of it stops
    everything. What a download fails of is in its `Download`, and nowhere else.

    Args:
        session: what to fetch with; see `download`.
        stop: ends all downloads, besides the current stop of whoever makes the manager.
        jobs: how many downloads there are at a time.
        connections_per_host: how many connections there are at a time to one host, segments included.
        max_rate: bytes a second that all of them together may take; None for no limit. It can be set at any time.
        options: how to download what is submitted without further options.

    Raises:
        TypeError, ValueError: an argument cannot be what it is.

    Any thread may use it. In a forked child it refuses to.
    """

    def __init__(
        self,
        *,
        session: requests.Session | None = None,
        stop: StopLike = None,
        jobs: int = 4,
        connections_per_host: int = 8,
        max_rate: float | None = None,
        options: Options | None = None,
    ) -> None:
        self._jobs = whole("jobs", jobs, least=1)
        self._queue = Queue(whole("connections_per_host", connections_per_host, least=1))
        self._rate = Rate(max_rate, "max_rate")
        self._options = check_options(options)
        self._stop = StopEvent(stop, current_stop())
        self._session, self._owns_session = stoppable(session, connections_per_host)
        self._pid = os.getpid()
        self._lock = _Lock(self._catch_up)
        self._idle: list[threading.Event] = []  # of those who wait for that
        self._has_to_stop = False
        self._threads = self._begun = 0  # that there are; and how many downloads they have begun
        self._is_ramping = False
        self._open: dict[Download, None] = {}
        # Of those that have ended: how many in which state, and their bytes.
        self._ended = dict.fromkeys((State.DONE, State.FAILED, State.STOPPED), 0)
        self._ended_done = 0
        self._ended_total: int | None = 0
        self._is_closed = False
        self._stop.on_set(self._stop_all)

    @property
    def max_rate(self) -> float | None:
        """Bytes a second that all downloads together may take."""
        return self._rate.bytes_per_second

    @max_rate.setter
    def max_rate(self, max_rate: float | None) -> None:
        self._rate.bytes_per_second = max_rate

    def submit(
        self,
        url: str,
        dest: Destination = None,
        *,
        priority: float = 0,
        stop: StopLike = None,
        progress: Callable[[Progress], object] | None = None,
        **options: Unpack[Changes],
    ) -> Download:
        """Queue a download.

        Args:
            url, dest: as for `download`.
            priority: those with a higher one come first.
            stop: ends this one, besides the manager's.
            progress: called in the downloading thread; see `download`.
            **options: what of the manager's `Options` is different for this one.

        Raises:
            Interrupted: the manager has been stopped.
            RuntimeError, TypeError, ValueError: it is closed; an argument cannot be what it is.
        """
        host = check_url(url)
        check_destination(dest)
        wanted = self._options.but(options) if options else self._options
        own = as_stop(stop)
        self._stop.raise_if_set()
        if own is not None:
            own.raise_if_set()
        download = Download(self, url, dest, host=host, options=wanted, priority=priority, progress=progress)
        download._own_stop = own
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the manager is closed")
            if self._pid != os.getpid():
                raise RuntimeError("the manager belongs to the parent process")
            self._open[download] = None
            start = self._enqueue(download)
        if own is not None:
            download._registration = own.on_set(lambda: download.stop(own.reason))
        if start is not None:
            start()
        if self._stop.is_set():  # which may have come before this was there to be stopped
            download.stop(self._stop.reason)
        return download

    def stop(self, reason: object = None) -> None:
        """Stop everything. What has come is kept; nothing can be submitted any more. A signal handler may call it."""
        self._stop.set(reason)

    def wait(self, timeout: float | None = None, *, stop: StopLike = None) -> None:
        """Wait until nothing is queued or running.

        Args:
            timeout: seconds to wait at most; None for no limit.
            stop: what ends the wait, besides the current stop. The downloads go on.

        Raises:
            Interrupted, TimeoutError: something still is.
        """
        deadline = deadline_of(timeout)
        while True:
            with self._lock:
                if self._is_idle():
                    return
                idle = threading.Event()
                self._idle.append(idle)
            try:
                calls.wait(idle, stop=stop, timeout=None if deadline is None else max(0.0, deadline - monotonic()))
            finally:
                with self._lock:
                    if idle in self._idle:
                        self._idle.remove(idle)

    def close(self) -> None:
        """Stop what is left, wait for that, and let go of the connections."""
        with self._lock:
            self._is_closed = True
        for download in self.downloads:
            download.stop("the manager was closed")
        with use_stop(None):
            self.wait()
        if self._owns_session:
            self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait(stop=None)
        finally:
            self.close()

    @property
    def downloads(self) -> tuple[Download, ...]:
        """Those that have not ended."""
        with self._lock:
            return tuple(self._open)

    @property
    def progress(self) -> Totals:
        """How far all of them are, those that have ended included."""
        with self._lock:
            living = tuple(self._open)
            places = [download._place for download in living]
            ended, done, total = dict(self._ended), self._ended_done, self._ended_total
        each = [download.progress for download in living]
        totals = [total, *(progress.total for progress in each)]
        return Totals(
            done=done + sum(progress.done for progress in each),
            total=None if None in totals else sum(total or 0 for total in totals),
            speed=sum(progress.speed for progress in each),
            queued=places.count(Place.QUEUED),
            running=places.count(Place.RUNNING),
            paused=places.count(Place.PAUSED),
            completed=ended[State.DONE],
            failed=ended[State.FAILED],
            stopped=ended[State.STOPPED],
        )

    # What others ask of a download

    def _ask(self, download: Download, wanted: Wanted, reason: object) -> None:
        with self._lock:
            place, running = download._place, download._stop
            start = self._ask_idle(download, wanted) if place is not Place.RUNNING else None
            ends_run = place is Place.RUNNING and wanted is not Wanted.RESUME
            if (ends_run and download._wanted is not Wanted.STOP) or (
                place is Place.RUNNING and download._wanted is Wanted.PAUSE
            ):
                download._wanted, download._reason = wanted, reason
            now = download._place
        if ends_run:
            if running is not None:  # else it is about to begin, and will see what is wanted
                running.set(reason)
        elif now is not place:
            if now is Place.ENDED:
                self._end(download, None, Interrupted(reason))
            else:
                _tell(download, now)
        if start is not None:
            start()

    def _ask_idle(self, download: Download, wanted: Wanted) -> Callable[[], None] | None:
        # With the lock held, of one that no thread has.
        place = download._place
        if wanted is Wanted.STOP and place is not Place.ENDED:
            download._place = Place.ENDED
        elif wanted is Wanted.PAUSE and place is Place.QUEUED:
            download._place = Place.PAUSED
        elif wanted is Wanted.RESUME and place is Place.PAUSED:
            return self._enqueue(download)
        self._queue.drop(download)
        self._note_idle()
        return None

    def _stop_all(self) -> None:
        self._has_to_stop = True
        self._catch_up()

    def _catch_up(self) -> None:
        while self._has_to_stop and (living := self._lock.try_to(self._to_be_stopped)) is not None:
            for download in living:
                download.stop(self._stop.reason)

    def _to_be_stopped(self) -> tuple[Download, ...]:
        self._has_to_stop = False
        return tuple(self._open)

    # These are called with the lock held

    def _enqueue(self, download: Download) -> Callable[[], None] | None:
        """Let it wait for its turn; return what starts the thread that it takes, to be called without the lock."""
        download._wanted = Wanted.NOTHING_ELSE
        self._queue.push(download)
        return self._starter()

    def _starter(self) -> Callable[[], None] | None:
        if not self._threads:
            return self._worker()
        if self._threads < self._jobs and not self._is_ramping:
            self._is_ramping = True
            return self._start_ramp
        return None

    def _worker(self) -> Callable[[], None]:
        self._threads += 1
        return self._start_worker

    def _next(self) -> Download | None:
        """The next download for a thread; None if that is to end."""
        download = self._queue.pop()
        if download is None:
            self._threads -= 1
            self._note_idle()
        else:
            self._begun += 1
            download._stop = None  # until `_run` has made it, which may ask a callable
        return download

    def _is_idle(self) -> bool:
        return not self._threads and not self._queue

    def _note_idle(self) -> None:
        if self._is_idle():
            for idle in self._idle:
                idle.set()

    # The threads

    def _start_worker(self) -> None:
        try:
            own_thread("iointerrupt-download", self._work).start()
        except BaseException:
            with self._lock:
                self._threads -= 1
                self._note_idle()
            raise

    def _start_ramp(self) -> None:
        try:
            own_thread("iointerrupt-ramp", self._ramp).start()
        except BaseException:
            self._is_ramping = False
            raise

    def _ramp(self) -> None:
        """Start further threads while there is something for them to do, and they help."""
        begun, since, waiting = self._begun, monotonic(), 0
        while True:
            sleep(_RAMP)
            now = monotonic()
            waiting = waiting + 1 if len(blocked_threads(self._stop)) >= self._threads else 0
            with self._lock:
                if self._threads >= self._jobs or not self._queue.can_begin():
                    self._is_ramping = False
                    return
                if begun != self._begun:
                    begun, since = self._begun, now
                if waiting < _WAITING and now - since < _LONG:
                    continue
                start, waiting = self._worker(), 0
            try:
                start()
            except RuntimeError:  # there are no more to be had; those that there are do the work
                self._is_ramping = False
                return

    def _work(self) -> None:
        done: Download | None = None
        while True:
            with self._lock:
                if done is not None:
                    self._queue.disconnect(done._host)
                done = self._next()
            if done is None:
                return
            self._run(done)

    def _run(self, download: Download) -> None:
        result: Downloaded | None = None
        failure: BaseException | None = None
        stop = StopEvent(self._stop, download._own_stop)
        with self._lock:
            download._stop = stop
            if download._wanted is Wanted.RESUME:
                download._wanted = Wanted.NOTHING_ELSE
            is_over = download._wanted is not Wanted.NOTHING_ELSE
        if is_over:
            stop.set(download._reason)
        try:
            with use_stop(stop):
                result = run(self._job(download), download.dest)
        except BaseException as error:  # noqa: BLE001 - it is told to whoever asks for the result
            failure = error
            if isinstance(failure, Interrupted) and failure.reason is None:
                failure.reason = download._reason  # of a stop after a pause
        may_pause = failure is not None and is_stop(failure) and not self._is_stopped(download)
        start: Callable[[], None] | None = None
        with self._lock:
            pauses = may_pause and download._wanted in (Wanted.PAUSE, Wanted.RESUME)
            if pauses and download._wanted is Wanted.RESUME:
                start = self._enqueue(download)
            else:
                download._place = Place.PAUSED if pauses else Place.ENDED
            place = download._place
        if pauses:
            _tell(download, place)
        else:
            self._end(download, result, failure)
        failure = None  # which has this frame in its traceback
        if start is not None:
            start()

    def _is_stopped(self, download: Download) -> bool:
        return self._stop.is_set() or (download._own_stop is not None and download._own_stop.is_set())

    def _job(self, download: Download) -> Job:
        return Job(
            download.url,
            download._options,
            self._session,
            download._meter,
            [self._rate, *download._rates],
            lambda: self._more_connections(download._host),
        )

    def _more_connections(self, host: str) -> Callable[[], object] | None:
        with self._lock:
            return functools.partial(self._release, host) if self._queue.connect(host) else None

    def _release(self, host: str) -> None:
        with self._lock:
            self._queue.disconnect(host)
            start = self._starter() if self._queue.can_begin() else None
        if start is not None:
            start()

    def _end(self, download: Download, result: Downloaded | None, failure: BaseException | None) -> None:
        meter = download._meter
        state = State.DONE if failure is None else end_state(failure)
        try:
            meter.enter(state)
        except BaseException as error:  # noqa: BLE001 - of the user's `progress`
            failure = failure or error
        registration = download._registration
        if registration is not None:
            registration.cancel()
        with self._lock:
            self._open.pop(download, None)
            self._ended[state] += 1
            self._ended_done += meter.done
            if self._ended_total is not None:
                self._ended_total += meter.done if meter.total is None else meter.total
        if failure is None and result is not None:
            download.set_result(result)
        else:
            download.set_exception(failure)


def _tell(download: Download, place: Place) -> None:
    """Say that a download is paused, or queued again. That its listener fails then keeps nobody from going on."""
    try:
        download._meter.enter(State.PAUSED if place is Place.PAUSED else State.QUEUED)
    except Exception:  # noqa: BLE001 - as above
        report_exception()
