"""`Meter`: how far a download is, and whom that is told.

`_lock` guards the figures. The listener is called by one thread of the download at a time, and under no lock that anybody
waits for: a thread that has something to tell while another one is telling leaves it to that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from iointerrupt._errors import DownloadError
from iointerrupt.downloads._options import Progress, State, check_progress
from iointerrupt.downloads._rate import Speed

_TELL_EVERY = 0.05  # seconds
_ENDS = frozenset({State.DONE, State.FAILED, State.STOPPED})


class Meter:
    """The figures of one download, which are those of `Progress`.

    Args:
        url: what is being fetched.
        listener: is called with a `Progress` at each change of state, and now and then in between.

    Raises:
        TypeError: the listener cannot be called.
    """

    def __init__(self, url: str, listener: Callable[[Progress], object] | None = None) -> None:
        check_progress(listener)
        self._listener = listener
        self._lock = threading.RLock()  # a signal handler may stop a download in a thread that looks at it
        self._telling = threading.Lock()  # only ever tried
        self._has_news = False
        self._speed = Speed()
        self._began: float | None = None
        self._ended: float | None = None
        self._told = 0.0
        self._url = url
        self.path: str | None = None
        self.done = 0
        self.total: int | None = None
        self.resumed_from = 0
        self.attempt = 1
        self.error: DownloadError | None = None
        self.state = State.QUEUED

    def progress(self) -> Progress:
        """How far it is now."""
        with self._lock:
            now = time.monotonic() if self._ended is None else self._ended
            speed = self._speed.value(now) if self.state is State.RUNNING else 0.0
            return Progress(
                self._url,
                self.path,
                self.done,
                self.total,
                self.resumed_from,
                speed,
                0.0 if self._began is None else now - self._began,
                self.state,
                self.attempt,
                self.error,
            )

    @property
    def elapsed(self) -> float:
        """Seconds since it began to run."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def moved(self, count: int, now: float) -> None:
        """`count` more bytes are there, at `now` on the monotonic clock."""
        with self._lock:
            self.done += count
            self.error = None
            self._speed.add(count, now)
            tell = self._listener is not None and now - self._told >= _TELL_EVERY
            if tell:
                self._told = now
        if tell:
            self._tell()

    def rewind(self, done: int, total: int | None) -> None:
        """So many bytes are there and so many will be, whatever was thought before."""
        with self._lock:
            if done < self.done:
                self._speed = Speed()
            self.done, self.total = done, total

    def enter(self, state: State) -> None:
        """The download is somewhere else now."""
        with self._lock:
            if state is self.state:
                return
            self.state = state
            now = time.monotonic()
            if self._began is None and state is State.RUNNING:
                self._began = now
            self._ended = now if state in _ENDS else None
        if self._listener is not None:
            self._tell()

    def _tell(self) -> None:
        self._has_news = True
        while self._has_news and self._telling.acquire(blocking=False):
            try:
                self._has_news = False
                if self._listener is not None:
                    self._listener(self.progress())
            finally:
                self._telling.release()
