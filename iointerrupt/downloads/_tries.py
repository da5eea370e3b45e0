"""`Tries`: which URL to ask next after a failure, how long to wait before that, and when to give up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import RequestHistory

from iointerrupt import http
from iointerrupt._errors import DownloadError
from iointerrupt._stop import StopEvent
from iointerrupt._wait import stops
from iointerrupt.downloads._answer import may_pass
from iointerrupt.downloads._errors import BadStatus
from iointerrupt.downloads._options import Options

_LONGEST_PAUSE = 60.0  # seconds


class Tries:
    """The tries of one worker.

    Args:
        urls: where the file can be had, the best first.
        options: how often, and how long to wait.
        progress: returns how many bytes are there; a try that has brought some was not in vain, and is not counted.
    """

    def __init__(self, urls: Sequence[str], options: Options, progress: Callable[[], int]) -> None:
        self._urls = list(urls)
        self._left = options.retries
        self._options = options
        self._progress = progress
        self._best = progress()
        self._retry: http.Retry | None = None  # made when it is needed
        self.number = 1

    @property
    def url(self) -> str:
        """The URL to ask now."""
        return self._urls[0]

    def failed(self, error: DownloadError) -> float:
        """Count a failed try; return how many seconds to wait before the next one.

        Raises:
            DownloadError: the one given, if there is to be no further one.
        """
        best = self._progress()
        if best > self._best:
            self._best, self._left, self._retry = best, self._options.retries, None
        if not may_pass(error):
            # Nothing to wait for; but another server may have it.
            del self._urls[0]
            if not self._urls:
                raise error
            self.number += 1
            return 0.0
        if not self._left:
            raise error
        self._left -= 1
        self.number += 1
        self._urls.append(self._urls.pop(0))
        self._retry = _with_failure(self._retry or _retry(self._options))
        asked_for = error.retry_after if isinstance(error, BadStatus) and len(self._urls) == 1 else None
        return self._retry.get_backoff_time() if asked_for is None else asked_for


def retry_after(text: str | None, options: Options) -> float | None:
    """The seconds that a `Retry-After` header asks for, as far as they are obeyed; None where there is none (RFC 9110, 10.2.3)."""
    if text is None:
        return None
    try:
        return max(0.0, _retry(options).parse_retry_after(text))
    except (InvalidHeader, ValueError, OverflowError):
        return None


def pause(seconds: float) -> None:
    """Wait; a stop ends that.

    Raises:
        Interrupted: it has.
    """
    StopEvent(*stops(None)).sleep(seconds)


def _retry(options: Options) -> http.Retry:
    # urllib3 does not wait before the first further try, so for it there was one already.
    return _with_failure(
        http.Retry(
            total=None,
            backoff_factor=options.backoff / 2,  # which it doubles for that
            backoff_jitter=options.backoff / 2,
            backoff_max=_LONGEST_PAUSE,
            retry_after_max=options.retry_after_max,
        )
    )


def _with_failure(retry: http.Retry) -> http.Retry:
    return retry.new(history=(*retry.history, RequestHistory("GET", None, None, None, None)))
