"""What a command tells of its transfers: lines for people, JSON for programs, or nothing but errors.

A report is told from the main thread alone. Results go to stdout and errors to stderr. Writing to stdout can be stopped: a
reader that has fallen asleep keeps nobody here.
"""

from __future__ import annotations

import io
import json
import os
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from iointerrupt import files
from iointerrupt._cli.amounts import show_rate, show_size
from iointerrupt._errors import Interrupted
from iointerrupt._files.system import STREAMS_CAN_WAIT
from iointerrupt._stop import StopEvent
from iointerrupt._wait import WRITE, poll

# Seconds that a reader of stdout has to take something of what is still said after a stop, and how many bytes a stream
# that has room takes without a wait.
_LAST_WORDS: Final = 0.05
_AT_ONCE: Final = 512

# What a server's message or a name must not bring to the terminal: what steers it, what turns the direction of the text that
# follows, and what cannot be seen. The joiners, which emoji, Persian and the scripts of India are written with, do neither.
_UNSEEN: Final = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINERS: Final = "\u200c\u200d"


@dataclass(frozen=True)
class Moment:
    """How far one transfer is.

    Attributes:
        number: which one it is.
        source: the URL, or the file that is copied.
        path: where it goes; None where that is not known yet, or a stream.
        done, size, resumed_from: bytes; the size is None while it is not known.
        speed: bytes a second.
        eta: the seconds that are left, None where that cannot be told.
        state: "queued", "running", "waiting", "paused", "verifying", ...
        attempt: 1 for the first try.
        error: what the last try has failed of.
    """

    number: int
    source: str
    path: str | None = None
    done: int = 0
    size: int | None = None
    resumed_from: int = 0
    speed: float = 0.0
    eta: float | None = None
    state: str = "queued"
    attempt: int = 1
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """A transfer that is done.

    Attributes:
        source, path, size, resumed_from: as of `Moment`.
        seconds: how long it took.
        checksum: what was verified.
        unchanged: the file was there, and is what the server has.
        skipped: the file was there, and was not looked at.
    """

    source: str
    path: str | None
    size: int
    resumed_from: int = 0
    seconds: float = 0.0
    checksum: str | None = None
    unchanged: bool = False
    skipped: bool = False

    @property
    def speed(self) -> float:
        """Bytes a second, of those that came now."""
        return (self.size - self.resumed_from) / self.seconds if self.seconds else 0.0


@dataclass
class Tally:
    """What became of all transfers, so far."""

    total: int
    done: int = 0
    failed: int = 0
    stopped: int = 0
    transferred: int = 0

    @property
    def ended(self) -> int:
        """How many have come to an end."""
        return self.done + self.failed + self.stopped


class Output:
    """Standard output, or another stream: whole lines, and a stop ends the wait for a reader who does not read."""

    def __init__(self, stop: StopEvent, *, stderr: bool = False) -> None:
        self._stream = sys.stderr if stderr else sys.stdout
        self._raw: Any = None
        # What a stop has kept from being written comes before the next line.
        self._rest = b""
        self._is_in_a_hurry = False
        try:
            self._raw = files.wrap(self._stream.fileno(), stop=stop, closefd=False)
        except (io.UnsupportedOperation, AttributeError):  # a test's, or a notebook's
            pass

    def write(self, line: str) -> None:
        """Write a line.

        Raises:
            Interrupted: the reader did not take it before the stop.
            BrokenPipeError: nobody reads.
        """
        if self._raw is None:
            print(line, file=self._stream, flush=True)
            return
        self._stream.flush()
        self._rest += f"{line}\n".encode(self._stream.encoding or "utf-8", "backslashreplace")
        while self._rest:
            self._rest = self._rest[self._write_some() :]

    def hurry(self) -> None:
        """The stop has come: what is still to be said has to be taken soon."""
        self._is_in_a_hurry = True

    def _write_some(self) -> int:
        if not self._is_in_a_hurry:
            count: int = self._raw.write(self._rest)
            return count
        # Not by a stop after so much time: the time may be over before it was this process's turn, and the reader be there.
        if STREAMS_CAN_WAIT and not poll({self._raw.fileno(): WRITE}, [], _LAST_WORDS):
            raise Interrupted
        return os.write(self._raw.fileno(), self._rest[:_AT_ONCE])


class Report:
    """Errors alone, on stderr: what `--quiet` shows, and what the other reports add to."""

    #: Seconds between two calls of `progress`; None for none.
    every: float | None = None

    def __init__(self, output: Output) -> None:
        self._output = output

    def started(self, moment: Moment) -> None:
        """A transfer has begun."""

    def retrying(self, moment: Moment) -> None:
        """A try has failed, and another one will follow."""

    def progress(self, active: Sequence[Moment], tally: Tally) -> None:
        """How far those are that are under way."""

    def done(self, outcome: Outcome) -> None:
        """A transfer is done."""

    def failed(self, moment: Moment, kind: str, message: str) -> None:  # noqa: ARG002 - for the JSON
        """A transfer has failed; `kind` is the error's class."""
        self.error(f"{moment.source}: {message}")

    def stopped(self, moment: Moment) -> None:
        """A transfer was stopped, or never begun."""

    def error(self, text: str) -> None:
        """Say what is wrong."""
        print(plain(f"iointerrupt: {text}"), file=sys.stderr, flush=True)  # noqa: T201 - see above

    def hurry(self) -> None:
        """A stop was set: what is said from here on is said in a hurry."""
        self._output.hurry()

    def summary(self, tally: Tally, seconds: float, code: int) -> None:
        """All have come to an end."""

    def close(self) -> None:
        """Leave the terminal as it was; may be called again."""


class Lines(Report):
    """A line for each file that is done: what a pipe gets."""

    def done(self, outcome: Outcome) -> None:
        """The line."""
        self._output.write(line_of(outcome))


class Json(Report):
    """A JSON object for each event, in a line of its own.

    Args:
        output: where to.
        source: what the key of the source is called, "url" or "source".
    """

    every = 0.2

    def __init__(self, output: Output, source: str) -> None:
        super().__init__(output)
        self._source = source

    def started(self, moment: Moment) -> None:
        """`start`."""
        self._say("start", self._place(moment), self._extent(moment))

    def retrying(self, moment: Moment) -> None:
        """`retry`."""
        self._say(
            "retry", self._place(moment), self._extent(moment), {"attempt": moment.attempt, "message": moment.error}
        )

    def progress(self, active: Sequence[Moment], tally: Tally) -> None:  # noqa: ARG002 - the events say it
        """`progress`, for each that is under way."""
        for moment in active:
            rates = {"speed": round(moment.speed), "eta": moment.eta and round(moment.eta, 1), "state": moment.state}
            self._say("progress", self._place(moment), self._extent(moment), rates)

    def done(self, outcome: Outcome) -> None:
        """`done`."""
        self._say(
            "done",
            self._place(outcome),
            {
                "size": outcome.size,
                "done": outcome.size,
                "resumed_from": outcome.resumed_from,
                "seconds": round(outcome.seconds, 3),
                "speed": round(outcome.speed),
                "checksum": outcome.checksum,
                "unchanged": outcome.unchanged,
                "skipped": outcome.skipped,
            },
        )

    def failed(self, moment: Moment, kind: str, message: str) -> None:
        """`failed`, besides the line on stderr."""
        super().failed(moment, kind, message)
        self._say("failed", self._place(moment), self._extent(moment), {"error": kind, "message": message})

    def stopped(self, moment: Moment) -> None:
        """`stopped`."""
        self._say("stopped", self._place(moment), self._extent(moment))

    def summary(self, tally: Tally, seconds: float, code: int) -> None:
        """`summary`, the last line."""
        counts = {"total": tally.total, "done": tally.done, "failed": tally.failed, "stopped": tally.stopped}
        self._say("summary", counts, {"bytes": tally.transferred, "seconds": round(seconds, 3), "exit": code})

    def _place(self, of: Moment | Outcome) -> dict[str, Any]:
        return {self._source: of.source, "path": of.path}

    def _extent(self, moment: Moment) -> dict[str, Any]:
        return {"size": moment.size, "done": moment.done, "resumed_from": moment.resumed_from}

    def _say(self, event: str, *parts: Mapping[str, Any]) -> None:
        line: dict[str, Any] = {"event": event}
        for part in parts:
            line |= part
        self._output.write(json.dumps(line))


def plain(text: str) -> str:
    """A text with what steers a terminal, and what cannot be seen on it, told by its number."""
    return text if text.isprintable() else "".join(map(_shown, text))


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _UNSEEN or character in _JOINERS:
        return character
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def name_of(source: str, path: str | None) -> str:
    """What a transfer is called in front of people: its file, else the end of its URL."""
    if path is None:
        bare = source.partition("?")[0].rstrip("/")
        return plain(bare.rpartition("/")[2] or source)
    return plain(os.path.relpath(path) if os.path.isabs(path) and path.startswith(os.getcwd() + os.sep) else path)


def line_of(outcome: Outcome) -> str:
    """`NAME  12.3 MiB  4.1 MiB/s  resumed from 3.0 MiB`."""
    parts = [name_of(outcome.source, outcome.path)]
    if outcome.skipped:
        return "  ".join([*parts, "skipped: it is there already"])
    parts.append(show_size(outcome.size))
    if outcome.unchanged:
        return "  ".join([*parts, "unchanged"])
    parts.append(show_rate(outcome.speed))
    if outcome.resumed_from:
        parts.append(f"resumed from {show_size(outcome.resumed_from)}")
    if outcome.checksum:
        parts.append(f"{outcome.checksum.partition(':')[0]} verified")
    return "  ".join(parts)
