"""The downloads of `iointerrupt get`: submitted, reported as they go, and said how to go on with after a stop.

The downloads have their own threads, which put what happens into a queue. One thread, the main one, takes it from there,
looks how far the others are from time to time, and reports.
"""

from __future__ import annotations

import queue
import re
import sys
import time
from collections.abc import Sequence
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol

import click
import requests
import urllib3

from iointerrupt import DeadlineExceeded, Interrupted, __version__, calls, downloads, files, http
from iointerrupt._cli import running
from iointerrupt._cli.events import Moment, Outcome, Report, Tally
from iointerrupt._cli.manual import option_name
from iointerrupt._cli.wanted import Wanted
from iointerrupt._stop import StopEvent
from iointerrupt.downloads._errors import without_credentials

# Headers that a log may have. What any other may be a key to is not to be told by its name.
_HARMLESS: Final = {
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "cache-control",
    "connection",
    "dnt",
    "origin",
    "pragma",
    "referer",
    "user-agent",
}

# Names of arguments in the messages of `downloads`, which are options here.
_ARGUMENTS: Final = re.compile(r"(?<![\w/.?&=-])(max_size|min_speed|max_rate|overwrite|update)(?![\w/.?&=-])")


#: "started", "retrying" or "ended"; which download; how far it was, of one that has not ended.
Said = tuple[str, int, downloads.Progress | None]


class Observed(Protocol):
    """A download, as it is reported."""

    @property
    def progress(self) -> downloads.Progress:
        """How far it is."""

    def result(self) -> downloads.Downloaded:
        """What has become of it, once it has ended."""


class Getting:
    """One run of `get`.

    Args:
        argv: the arguments of the program, to be shown again.
        wanted: what to fetch.
        given: the options.

    Raises:
        click.UsageError: the options do not fit together.
    """

    def __init__(self, argv: Sequence[str], wanted: Sequence[Wanted], given: dict[str, Any]) -> None:
        self._argv, self._files, self._given = argv, wanted, given
        # What is shown of the URLs: it may be kept in a log.
        self._sources = [without_credentials(file.url) for file in wanted]
        self._options = _options(given)
        self._downloads: dict[int, Observed] = {}
        self._under_way: set[int] = set()
        self._done: set[int] = set()
        # What the downloads' own threads say, for the one that reports.
        self._said: queue.Queue[Said] = queue.Queue()

    def run(self) -> int:
        """Fetch, report, and return the exit code."""
        tally = Tally(len(self._files))
        with running.stop_on_signals() as stop:
            report = running.report_for(
                stop,
                len(self._files),
                quiet=self._given["quiet"],
                as_json=self._given["as_json"],
                source="url",
                streaming=self._given["output"] == "-",
            )
            code = running.run(lambda: self._fetch(report, tally, stop), report, tally, stop)
        if not running.was_stopped(code):
            return code
        if self._given["output"] == "-":  # what has been written cannot be gone on with
            report.error(f"stopped: {tally.done} of {tally.total} done")
        else:
            finished = [self._files[number] for number in self._done]
            hidden = str if sys.stderr.isatty() else self._for_a_log  # it came from that terminal
            may_skip = not (self._given["update"] or self._given["overwrite"] or self._given["skip_existing"])
            running.say_how_to_resume(
                [hidden(each) for each in self._argv],
                tally,
                finished={hidden(each.url) for each in finished if not each.listed},
                also=["--skip-existing"] if may_skip and any(each.listed for each in finished) else [],
            )
        return code

    def _fetch(self, report: Report, tally: Tally, stop: StopEvent) -> None:
        connections = max(8, self._given["jobs"], self._given["segments"])
        with _session(self._given, connections) as session, downloads.DownloadManager(
            session=session,
            stop=stop,
            jobs=self._given["jobs"],
            connections_per_host=connections,
            max_rate=self._given["max_rate"],
            options=self._options,
        ) as manager:  # fmt: skip
            for number, file in enumerate(self._files):
                self._submit(manager, number, file, stop)
            drawn = 0.0
            while tally.ended < tally.total and not stop.is_set():
                wait = None if report.every is None else max(0.0, drawn + report.every - time.monotonic())
                try:
                    self.handle(calls.get(self._said, stop=stop, timeout=wait), report, tally)
                except queue.Empty:
                    pass
                except Interrupted:
                    break
                if report.every is not None and time.monotonic() >= drawn + report.every:
                    self.report_progress(report, tally)
                    drawn = time.monotonic()
            if tally.ended < tally.total:
                report.hurry()
                self._collect(report, tally)

    def report_progress(self, report: Report, tally: Tally) -> None:
        """Report how far those are that are under way."""
        report.progress([self._moment(number) for number in sorted(self._under_way)], tally)

    def _collect(self, report: Report, tally: Tally) -> None:
        """What becomes of those that were stopped."""
        try:
            while tally.ended < tally.total:
                self.handle(self._said.get(), report, tally)
        except KeyboardInterrupt:  # the manager would wait for them as well
            running.end_at_once(report)

    def _submit(self, manager: downloads.DownloadManager, number: int, file: Wanted, stop: StopEvent) -> None:
        dest = _standard_output(stop) if file.dest is None else file.dest
        started = False

        def note(progress: downloads.Progress) -> None:  # in the download's thread
            nonlocal started
            if not started and progress.state == "running":
                started = True
                self._said.put(("started", number, progress))
            elif progress.state == "waiting":
                self._said.put(("retrying", number, progress))

        download = manager.submit(file.url, dest, progress=note)
        self._downloads[number] = download
        download.add_done_callback(lambda _: self._said.put(("ended", number, None)))

    def handle(self, said: Said, report: Report, tally: Tally) -> None:
        """Report what was said of a download."""
        what, number, progress = said
        if progress is None:
            self._under_way.discard(number)
            self._ended(number, report, tally)
        elif what == "started":
            self._under_way.add(number)
            report.started(self._moment(number, progress))
        else:
            report.retrying(self._moment(number, progress))

    def _ended(self, number: int, report: Report, tally: Tally) -> None:
        download, file = self._downloads[number], self._files[number]
        moment = self._moment(number)
        try:
            result = download.result()
        except DeadlineExceeded:
            error: BaseException = TimeoutError(f"not done within --deadline {self._given['deadline']:g}")
        except (Interrupted, CancelledError):
            tally.stopped += 1
            report.stopped(moment)
            return
        except Exception as raised:  # noqa: BLE001 - whatever it is, the others go on
            error = raised
        else:
            self._succeeded(number, result, report, tally)
            return
        if isinstance(error.__cause__, BrokenPipeError) and file.dest is None:
            raise BrokenPipeError from error
        if isinstance(error, downloads.DestinationExists) and self._given["skip_existing"]:
            self._succeeded(number, None, report, tally)
            return
        tally.failed += 1
        tally.transferred += max(0, moment.done - moment.resumed_from)
        report.failed(moment, type(error).__name__, _message(error, self._sources[number]))

    def _succeeded(self, number: int, result: downloads.Downloaded | None, report: Report, tally: Tally) -> None:
        tally.done += 1
        self._done.add(number)
        source = self._sources[number]
        if result is None:
            moment = self._moment(number)
            report.done(Outcome(source, moment.path or self._files[number].dest, moment.size or 0, skipped=True))
            return
        tally.transferred += 0 if result.unchanged else result.size - result.resumed_from
        report.done(
            Outcome(
                source,
                result.path,
                result.size,
                result.resumed_from,
                result.elapsed,
                result.checksum,
                result.unchanged,
            )
        )

    def _moment(self, number: int, progress: downloads.Progress | None = None) -> Moment:
        at = progress or self._downloads[number].progress
        return Moment(
            number,
            self._sources[number],
            at.path,
            at.done,
            at.total,
            at.resumed_from,
            at.speed,
            at.eta,
            str(at.state),
            at.attempt,
            None if at.error is None else _message(at.error, self._sources[number]),
        )

    def _for_a_log(self, argument: str) -> str:
        """An argument, without the password, the values of headers and the credentials of URLs that are in it."""
        secrets = [header for header in self._given["headers"] if header[0].lower() not in _HARMLESS]
        if self._given["user"]:
            secrets.append(self._given["user"])
        for name, value in secrets:
            if value:  # only behind its name, as a short one may be part of anything
                argument = re.sub(rf"({re.escape(name)}:\s*){re.escape(value)}\s*\Z", r"\1***", argument)
        return without_credentials(argument)


def _message(error: BaseException, source: str) -> str:
    """What an error says, for a line that begins with the source."""
    text = without_credentials(str(error)) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif not isinstance(error, (downloads.DownloadError, OSError)):  # a mistake of ours
        text = f"{type(error).__name__}: {text}"
    text = text.removeprefix(f"{source} ").removeprefix(f"{source}: ")
    if isinstance(error, downloads.DestinationExists):
        return f"{text}; see --overwrite, --update and --skip-existing"
    return _ARGUMENTS.sub(lambda found: option_name(found.group()), text)


def _options(given: dict[str, Any]) -> downloads.Options:
    try:
        return downloads.Options(
            headers={"User-Agent": f"iointerrupt/{__version__}", **dict(given["headers"])},
            **{
                name: given[name]
                for name in (
                    "checksum", "resume", "overwrite", "update", "segments", "retries", "timeout", "deadline", "min_speed",
                    "max_size", "mirrors", "preallocate",
                )
            },
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        raise click.UsageError(_ARGUMENTS.sub(lambda found: option_name(found.group()), str(error))) from None


class _Session(http.Session):
    """A session whose own proxies and certificates come before those of the environment, unlike as in requests."""

    def merge_environment_settings(self, *args: Any, **kwargs: Any) -> Any:
        """The settings of a request; called for each one."""
        settings: Any = super().merge_environment_settings(*args, **kwargs)
        own = {"proxies": dict(self.proxies)} if self.proxies else {}
        return {**settings, **own} if self.verify is True else {**settings, **own, "verify": self.verify}


def _session(given: dict[str, Any], connections: int) -> AbstractContextManager[requests.Session | None]:
    """A session where the options take one; else the manager makes its own."""
    if not any(given[name] for name in ("user", "proxy", "cacert", "insecure")):
        return nullcontext()
    session = _Session(pool_size=connections)
    session.auth = given["user"]
    session.verify = given["cacert"] or not given["insecure"]
    if given["proxy"]:
        session.proxies = dict.fromkeys(("http", "https"), given["proxy"])
    if given["insecure"]:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return session


def _standard_output(stop: StopEvent) -> Any:
    """Standard output as a file whose writes a stop ends."""
    try:
        return files.wrap(sys.stdout.fileno(), stop=stop, closefd=False)
    except OSError:  # no descriptor, but a file object in its place
        return sys.stdout.buffer
