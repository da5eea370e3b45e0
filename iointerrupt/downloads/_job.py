"""`Job`: what a download has to work with, and the question to a server with the judgement of its answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import requests
import urllib3.exceptions

from iointerrupt._errors import DownloadError
from iointerrupt._http.lean import TargetError
from iointerrupt.downloads._answer import Answer, Requested, ask, failure
from iointerrupt.downloads._errors import BadStatus, DecompressionBomb, TooLarge, TooSlow
from iointerrupt.downloads._meter import Meter
from iointerrupt.downloads._options import Options, State
from iointerrupt.downloads._part import refusal
from iointerrupt.downloads._plan import AskAgain, Complete, Question, Take, Unchanged, check_size, is_bomb, judge
from iointerrupt.downloads._rate import Rate, Speed
from iointerrupt.downloads._redirects import is_elsewhere, without_secrets
from iointerrupt.downloads._tries import Tries, pause, retry_after

if TYPE_CHECKING:
    from iointerrupt.downloads._checksums import Expected

# Bytes to move before the figures are looked at.
_STEP = 8 << 20

# Of longer lists of checksums nobody has heard.
_LARGEST_CONTENT = 16 << 20


class Restart(Exception):
    """What there is of the file does not fit what the server has to give.

    Attributes:
        changed: whether that is because the file is another by now.
    """

    def __init__(self, *, changed: bool) -> None:
        super().__init__()
        self.changed = changed


class Job(NamedTuple):
    """One download, as it was asked for.

    Attributes:
        url: what to fetch.
        options: how.
        session: what to fetch it with.
        meter: what counts it.
        rates: the limits that it is under.
        more_connections: asks for a further connection to the host; returns whether there is one, and what gives it back.
    """

    url: str
    options: Options
    session: requests.Session
    meter: Meter
    rates: Sequence[Rate] = ()
    more_connections: Callable[[], Callable[[], object] | None] = lambda: _nothing

    @property
    def urls(self) -> Sequence[str]:
        """Where the file can be had."""
        return self.url, *self.options.mirrors

    def tries(self, progress: Callable[[], int], urls: Sequence[str] = ()) -> Tries:
        """The tries to fetch the file, or what is at other URLs."""
        return Tries(urls or self.urls, self.options, progress)

    def wait(self, tries: Tries, error: DownloadError) -> None:
        """Wait for the next try.

        Raises:
            DownloadError: the one given: there is to be none.
            Interrupted: a stop was set.
        """
        seconds = tries.failed(error)
        self.meter.attempt += 1
        self.meter.error = error
        if seconds:
            self.meter.enter(State.WAITING)
            pause(seconds)
            self.meter.enter(State.RUNNING)

    def ask(
        self, url: str, question: Question, name: str, *, may_restart: bool = True
    ) -> tuple[Answer, Take | Complete | Unchanged]:
        """Ask a server, in weaker and weaker forms, until its answer can be used.

        Args:
            url: where.
            question: what.
            name: what the file will be called, as far as that is known.
            may_restart: whether the whole file will do where a part was asked for.

        Raises:
            DownloadError: the answer is of no use.
            Restart: only the whole file is to be had, and that will not do.
            Interrupted: a stop was set.
        """
        while True:
            headers = {**self._headers_for(url), **question.headers()}
            answer = ask(self.session, url, headers, self.options.timeout)
            try:
                outcome = judge(question, answer.status, answer.headers, url=answer.url, name=name)
                if isinstance(outcome, Take):
                    self._check(question, outcome, answer, may_restart=may_restart)
            except BaseException as error:
                answer.close()
                if isinstance(error, BadStatus):
                    error.retry_after = retry_after(answer.headers.get("Retry-After"), self.options)
                raise
            if not isinstance(outcome, AskAgain):
                return answer, outcome
            answer.close()
            question = outcome.question
            if not question.is_range and not may_restart:
                raise Restart(changed=outcome.changed)

    def _headers_for(self, url: str) -> Mapping[str, str]:
        headers = self.options.headers
        return without_secrets(headers) if headers and is_elsewhere(self.session, self.url, url) else headers

    def _check(self, question: Question, take: Take, answer: Answer, *, may_restart: bool) -> None:
        if question.is_range and not take.is_part and not may_restart:
            raise Restart(changed=question.version is not None and not question.version.may_be(take.version))
        check_size(take.version.size, self.options.max_size, answer.url)
        if take.codings and isinstance(answer, Requested):
            answer.decode(take.codings)

    def expected(self) -> Expected | None:
        """The checksum that was asked for; None if there was none."""
        if self.options.checksum is None:
            return None
        from iointerrupt.downloads._checksums import Expected  # noqa: PLC0415 - most downloads need it not

        expected = Expected.of(self.options.checksum, self.fetch)
        if expected is not None:
            expected.load()  # before a large file is fetched for nothing
        return expected

    def fetch(self, url: str) -> bytes:
        """The content of a small file, such as a list of checksums.

        Raises:
            DownloadError: it cannot be had, or is large.
            Interrupted: a stop was set.
        """
        tries = self.tries(lambda: 0, (url,))
        while True:
            try:
                answer, _ = self.ask(url, Question(), url)
                content = bytearray()
                with closing(answer):
                    while chunk := answer.read(1 << 16):
                        content += chunk
                        if len(content) > _LARGEST_CONTENT:
                            raise TooLarge(f"{url} is more than {_LARGEST_CONTENT:,} bytes", url=url)
                return bytes(content)
            except (*FAILURES, DownloadError) as error:
                self.wait(tries, as_download_error(error, url, None))

    def pace(self, answer: Answer, take: Take) -> Pace:
        """What watches over one transfer."""
        return Pace(self, answer, take)


class Pace:
    """Counts what one connection brings, and sees to it that this is neither too much, nor too fast, nor too slow.

    Args:
        job: of which it is a part.
        answer: what is read.
        take: what that is.
    """

    def __init__(self, job: Job, answer: Answer, take: Take) -> None:
        self._job, self._answer = job, answer
        self._decoding = bool(take.codings)
        self._came = take.start
        self._speed: Speed | None = None
        if job.options.min_speed is not None:
            self._speed = Speed(job.options.min_speed_time, time.monotonic())

    @property
    def step(self) -> int:
        """How many bytes to move next, so that they flow smoothly."""
        return min([_STEP, *(rate.chunk for rate in self._job.rates if rate.bytes_per_second is not None)])

    def moved(self, count: int) -> None:
        """`count` more bytes have come.

        Raises:
            TooSlow, TooLarge, DecompressionBomb: it is to end here.
            Interrupted: a stop was set while the rate was being kept.
        """
        job, options = self._job, self._job.options
        now = time.monotonic()
        self._came += count
        job.meter.moved(count, now)
        if options.max_size is not None:
            check_size(self._came, options.max_size, self._answer.url)
        elif self._decoding and isinstance(self._answer, Requested):
            coded = self._answer.coded_size
            if is_bomb(coded, self._came):
                raise DecompressionBomb(
                    f"{self._answer.url} sent {coded:,} bytes that unpack to more than {self._came:,}; max_size allows it",
                    url=self._answer.url,
                )
        waited = sum(rate.take(count) for rate in job.rates)
        if self._speed is not None and options.min_speed is not None:
            self._check_speed(self._speed, count, now, waited, options.min_speed)

    def _check_speed(self, speed: Speed, count: int, now: float, waited: float, least: float) -> None:
        speed.add(count, now)
        is_below = speed.is_below(least, now)
        speed.pause(waited)
        if is_below:
            raise TooSlow(
                f"{self._answer.url} sent {speed.value(now):,.0f} bytes a second, and min_speed is {least:,.0f}",
                url=self._answer.url,
            )


#: What a transfer may raise that is none of our errors yet.
FAILURES = (requests.RequestException, urllib3.exceptions.HTTPError, OSError, TargetError)


def as_download_error(error: Exception, url: str, path: str | None) -> DownloadError:
    """What went wrong with a transfer from `url` to `path`, as an error of the download."""
    if isinstance(error, DownloadError):
        error.url = error.url or url
        return error
    if isinstance(error, TargetError):
        cause = error.__cause__
        failed: DownloadError = refusal(cause if isinstance(cause, OSError) else OSError(str(error)), str(path))
        failed.url, failed.__cause__ = url, cause
    else:
        failed = failure(error, url)
        failed.__cause__ = error
    return failed


def _nothing() -> None:
    return None
