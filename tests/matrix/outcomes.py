"""What is documented to become of each cell: rules, and for each the place in the documentation that promises it.

The first rule that fits a cell says its outcome; a cell that none fits is undocumented. Rules go by what a client sees (`Does`), in
which phase, and by what kind of client it is (`Family`), not by the names of faults: so a new fault has its outcomes at once.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import requests

from iointerrupt import Interrupted, Stalled, downloads, http, sockets
from tests.matrix.cells import Cell, Column, Observed
from tests.matrix.client import Family
from tests.matrix.faults import BODY, Does, Phase

_ROOT = Path(__file__).parents[2]

#: The page that the command prints; what it says by itself is promised there.
PAGE: Final = "docs/matrix.md"

#: What the page says of outcomes that no other page speaks of.
STATEMENTS: Final = """\
- A body ends where its Content-Length says (RFC 9112, 6.3). What comes behind that is no part of it, and the connection is not used again.
- An `http.Session` takes for complete what requests takes for complete: a body without a length is complete when the connection ends,
  even in the middle of the head, and without TLS's close_notify; and a packed body is when its packed form is.
- `sockets.iter_chunks` and `aio.iter_chunks` end where the stream ends: whether that is early, only the protocol can say.
"""


class Promise(NamedTuple):
    """A place in the documentation.

    Attributes:
        file: a page, or a module for its docstrings, from the root of the project.
        text: words that stand there.
    """

    file: str
    text: str

    def is_kept(self) -> bool:
        """Whether the words stand there, however they are broken into lines."""
        text = STATEMENTS if self.file == PAGE else (_ROOT / self.file).read_text(encoding="utf-8")
        return _words(self.text) in _words(text)


def _words(text: str) -> str:
    return re.sub(r"\s+", " ", text)


class Outcome(NamedTuple):
    """What becomes of a cell.

    Attributes:
        label: what it is called in the table.
        kinds: what is raised, one of these; none if nothing is.
        promise: where that is documented.
        is_whole: whether, if nothing is raised, all has been delivered that the server gave.
    """

    label: str
    kinds: tuple[type[BaseException], ...]
    promise: Promise
    is_whole: bool = True

    def said_of(self, kind: type[BaseException] | None) -> str:
        """The label if that is what was raised; else what was, and in place of what."""
        if kind in self.kinds or (kind is None and not self.kinds):
            return self.label
        return f"**{'complete' if kind is None else kind.__name__} in place of {self.label}**"


class Rule(NamedTuple):
    """Of which cells an outcome is that. What is empty may be anything.

    Attributes:
        outcome: the outcome.
        column: whether there is a stop or a timeout.
        does: what the client sees.
        phases: in which phase.
        families: of which kind the client is.
        begun: whether something of the body has come before; None for either.
        tls: whether the client speaks TLS; None for either.
    """

    outcome: Outcome
    column: Column | None = None
    does: tuple[Does, ...] = ()
    phases: tuple[Phase, ...] = ()
    families: tuple[Family, ...] = ()
    begun: bool | None = None
    tls: bool | None = None

    def fits(self, cell: Cell) -> bool:
        """Whether it is about the cell."""
        fault = cell.fault
        return (
            self.column in (None, cell.column)
            and (not self.does or fault.does in self.does)
            and (not self.phases or fault.phase in self.phases)
            and (not self.families or cell.path.family in self.families)
            and self.begun in (None, fault.sends_before)
            and self.tls in (None, cell.path.speaks_tls(fault))
        )


# Where it is promised

_EACH_PHASE = Promise("README.md", "waiting for a pooled connection: each of them stops.")
_ANY_RESPONSE = Promise("README.md", "| `response.iter_content(...)`, whoever made the response |")
_AS_FILE = Promise("iointerrupt/http.py", "Interrupted: a stop was set. In a read, `.partial` is what it had taken")
_ANY_PHASE = Promise(
    "docs/downloads.md", "ends it in any phase: lookup, connect, TLS handshake, headers, body, redirect"
)
_BLOCKED = Promise("README.md", "| while it is blocked | `Interrupted`, as soon as")
_IN_HTTP = Promise("README.md", "raises `TimeoutError` (in `http`: what requests raises;")
_HALTED = Promise("iointerrupt/_http/body.py", "A body came to a halt for longer than the timeout.")
_OF_ITER_CONTENT = Promise("iointerrupt/_http/body.py", "requests raises `ConnectionError` for that in `iter_content`")
_IS_A_SESSION = Promise("README.md", "a `Session` is a `requests.Session`")
_ENDED_EARLY = Promise(
    "iointerrupt/_http/body.py", "ChunkedEncodingError: the body ended before its time, or its framing is wrong."
)
_WHAT_ITER_CONTENT_RAISES = Promise(
    "iointerrupt/_http/body.py", "requests.exceptions.RequestException: what else `iter_content` raises."
)
_STATUS = Promise("iointerrupt/http.py", "requests.HTTPError: the status is 400 or above.")
_OF_OPEN = Promise("iointerrupt/http.py", "as `session.get` and `iter_chunks`.")
_TIMED_OUT = Promise("iointerrupt/downloads/_errors.py", "nothing came for too long; a TimeoutError as well")
_FAILED = Promise("iointerrupt/downloads/_errors.py", "the server cannot be reached, or the connection broke")
_SHORT = Promise(
    "docs/downloads.md", "| ends the body too early | the rest is asked for; `ShortBody` if that leads nowhere |"
)
_REFUSED = Promise("docs/downloads.md", "| `BadStatus` | the server refuses; `.status` |")
_RANGE = Promise("docs/downloads.md", "| sends another range than was asked for, or does not say which | `WrongRange`;")
_CIRCLE = Promise("docs/downloads.md", "| redirects in a circle, or to `file://` | `RedirectRefused` |")
_CODING = Promise("iointerrupt/downloads/_errors.py", "a content coding that cannot be undone")
_PER_WAIT = Promise("README.md", "`timeout=` limits one wait and raises `TimeoutError`")
_STALLED = Promise("iointerrupt/sockets.py", "Stalled: a `TimeoutError`, with `.partial` likewise.")
_SEND_TIMEOUT = Promise(
    "iointerrupt/_sockets/sending.py", "The timeout of a `sendall` or a `sendfile` passed after part of the data."
)
_INCOMPLETE = Promise("iointerrupt/sockets.py", "IncompleteRead: an `EOFError`: the stream ended before")
_FIRST_BYTE = Promise("iointerrupt/sockets.py", "One that comes before the first byte is raised itself.")
_IS_A_SOCKET = Promise("README.md", "a `Socket` is a `socket.socket`")
_GOES_ON = Promise("iointerrupt/aio.py", "asked again it goes on where it was, and nothing is lost or repeated.")
_BY_LENGTH = Promise(PAGE, "A body ends where its Content-Length says (RFC 9112, 6.3).")
_AS_REQUESTS = Promise(PAGE, "An `http.Session` takes for complete what requests takes for complete")
_AS_STREAM = Promise(PAGE, "end where the stream ends")
_IN_TIME = Promise("README.md", "`timeout=` limits one wait")

# What there is to become of a cell


def _complete(promise: Promise) -> Outcome:
    return Outcome("complete", (), promise)


def _raises(kind: type[BaseException], promise: Promise, *others: type[BaseException], label: str = "") -> Outcome:
    return Outcome(label or _name(kind), (kind, *others), promise)


def _name(kind: type[BaseException]) -> str:
    module = kind.__module__.split(".")
    if kind is http.ReadTimeout:
        return "http.ReadTimeout"
    if kind in (requests.ConnectionError, requests.ReadTimeout):
        return f"requests.{kind.__name__}"
    return f"ssl.{kind.__name__}" if module[0] == "ssl" else kind.__name__


_OVER_HTTP = (Family.SESSION, Family.CHUNKS, Family.FILE)
_BODIES = (Family.CHUNKS, Family.FILE)
_RAW = (Family.EXACTLY, Family.STREAM)
_BEFORE_THE_BODY = (Phase.CONNECT, Phase.HANDSHAKE, Phase.UPLOAD, Phase.HEAD, Phase.PAUSE)


def _rules() -> Iterator[Rule]:
    yield from _of_stops()
    yield from _of_timeouts()
    yield from _of_http()
    yield from _of_downloads()
    yield from _of_streams()


def _of_stops() -> Iterator[Rule]:
    """A stop is always an `Interrupted`, whatever the fault."""
    for promise, *families in (
        (_EACH_PHASE, Family.SESSION),
        (_ANY_RESPONSE, Family.CHUNKS),
        (_AS_FILE, Family.FILE),
        (_ANY_PHASE, Family.DOWNLOAD),
        (_BLOCKED, *_RAW),
    ):
        yield Rule(_raises(Interrupted, promise), Column.STOP, families=tuple(families))


def _of_timeouts() -> Iterator[Rule]:
    """What stalls is given up after the timeout."""

    def timeout(outcome: Outcome, *families: Family, phases: tuple[Phase, ...] = ()) -> Rule:
        return Rule(outcome, Column.TIMEOUT, (Does.STALLS,), phases, families)

    yield timeout(_raises(requests.ConnectTimeout, _IN_HTTP), *_OVER_HTTP, phases=(Phase.CONNECT,))
    yield timeout(_raises(requests.ReadTimeout, _IN_HTTP), *_OVER_HTTP, phases=(Phase.HANDSHAKE, Phase.HEAD))
    yield timeout(_raises(requests.ConnectionError, _IN_HTTP), *_OVER_HTTP, phases=(Phase.UPLOAD,))
    yield timeout(_raises(requests.ConnectionError, _OF_ITER_CONTENT), Family.SESSION, phases=(Phase.BODY,))
    yield timeout(_raises(http.ReadTimeout, _HALTED), *_BODIES, phases=(Phase.BODY,))
    yield timeout(_raises(downloads.TimedOut, _TIMED_OUT), Family.DOWNLOAD)
    yield timeout(_raises(TimeoutError, _PER_WAIT), *_RAW, phases=(Phase.CONNECT, Phase.HANDSHAKE))
    yield timeout(_raises(sockets.SendTimeout, _SEND_TIMEOUT), *_RAW, phases=(Phase.UPLOAD,))
    yield timeout(_raises(Stalled, _STALLED), Family.EXACTLY)
    yield timeout(_raises(TimeoutError, _PER_WAIT), Family.STREAM)


def _of_http() -> Iterator[Rule]:
    """Sessions, and bodies of theirs: what requests has, whichever way they are read."""

    def rule(outcome: Outcome, *does: Does, phases: tuple[Phase, ...] = (), families: tuple[Family, ...] = ()) -> Rule:
        return Rule(outcome, does=does, phases=phases, families=families or _OVER_HTTP)

    failed = _raises(requests.ConnectionError, _IS_A_SESSION)
    broken = _raises(requests.exceptions.ChunkedEncodingError, _ENDED_EARLY)
    untrusted = _raises(requests.exceptions.SSLError, _IS_A_SESSION)
    yield rule(_raises(requests.HTTPError, _STATUS), Does.REFUSES, families=(Family.FILE,))
    yield rule(_complete(_IS_A_SESSION), Does.NOTHING_WRONG, Does.REFUSES, Does.SENDS_ANOTHER_RANGE)
    yield rule(_complete(_BY_LENGTH), Does.SENDS_MORE)
    yield rule(untrusted, Does.ENDS, Does.SPEAKS_OTHERWISE, phases=(Phase.HANDSHAKE,))
    yield rule(failed, Does.RESETS, Does.ENDS, Does.BREAKS_THE_HEAD, phases=_BEFORE_THE_BODY)
    yield rule(_raises(requests.exceptions.InvalidHeader, _IS_A_SESSION), Does.CONTRADICTS_ITSELF)
    yield rule(_raises(requests.TooManyRedirects, _IS_A_SESSION), Does.REDIRECTS_FOR_EVER)
    yield rule(broken, Does.RESETS, Does.ENDS, Does.IS_CUT_OFF, Does.BREAKS_THE_FRAMING)
    yield rule(_complete(_AS_REQUESTS), Does.ENDS_WITHOUT_LENGTH, Does.CUTS_THE_HEAD)
    yield rule(_complete(_AS_REQUESTS)._replace(label="short", is_whole=False), Does.CUTS_THE_CODING)
    yield rule(_raises(requests.exceptions.ContentDecodingError, _WHAT_ITER_CONTENT_RAISES), Does.BREAKS_THE_CODING)


def _of_downloads() -> Iterator[Rule]:
    """Downloads: each fault by its name, and what came is kept."""

    def rule(kind: type[BaseException], promise: Promise, *does: Does, phases: tuple[Phase, ...] = ()) -> Rule:
        return Rule(_raises(kind, promise), does=does, phases=phases, families=(Family.DOWNLOAD,))

    complete = _complete(_BY_LENGTH)
    yield Rule(complete, does=(Does.NOTHING_WRONG, Does.SENDS_MORE), families=(Family.DOWNLOAD,))
    yield rule(
        downloads.ConnectionFailed,
        _FAILED,
        Does.RESETS,
        Does.SPEAKS_OTHERWISE,
        Does.BREAKS_THE_HEAD,
        Does.CUTS_THE_HEAD,
        Does.CONTRADICTS_ITSELF,
    )
    yield rule(downloads.ConnectionFailed, _FAILED, Does.ENDS, phases=_BEFORE_THE_BODY)
    yield rule(
        downloads.ShortBody,
        _SHORT,
        Does.ENDS,
        Does.IS_CUT_OFF,
        Does.ENDS_WITHOUT_LENGTH,
        Does.BREAKS_THE_FRAMING,
        Does.CUTS_THE_CODING,
    )
    yield rule(downloads.BadEncoding, _CODING, Does.BREAKS_THE_CODING)
    yield rule(downloads.WrongRange, _RANGE, Does.SENDS_ANOTHER_RANGE)
    yield rule(downloads.RedirectRefused, _CIRCLE, Does.REDIRECTS_FOR_EVER)
    yield rule(downloads.BadStatus, _REFUSED, Does.REFUSES)


def _of_streams() -> Iterator[Rule]:
    """Sockets: what the standard ones raise; and `recv_exactly` an `IncompleteRead` once something has come."""
    reset = _raises(ConnectionResetError, _FIRST_BYTE)
    # OpenSSL says of a reset now one thing, now the other.
    reset_in_tls = _raises(
        ConnectionResetError, _FIRST_BYTE, ssl.SSLEOFError, label="ConnectionResetError or ssl.SSLEOFError"
    )
    incomplete = _raises(sockets.IncompleteRead, _INCOMPLETE)
    yield Rule(_complete(_IS_A_SOCKET), does=(Does.NOTHING_WRONG, Does.SENDS_MORE), families=_RAW)
    yield Rule(_raises(ssl.SSLEOFError, _IS_A_SOCKET), does=(Does.ENDS,), phases=(Phase.HANDSHAKE,), families=_RAW)
    yield Rule(_raises(ssl.SSLError, _IS_A_SOCKET), does=(Does.SPEAKS_OTHERWISE,), families=_RAW)
    yield Rule(reset, does=(Does.RESETS,), families=(Family.EXACTLY,), begun=False, tls=False)
    yield Rule(reset_in_tls, does=(Does.RESETS,), families=(Family.EXACTLY,), begun=False)
    yield Rule(incomplete, does=(Does.RESETS, Does.ENDS, Does.IS_CUT_OFF), families=(Family.EXACTLY,))
    for outcome, tls in ((reset, False), (reset_in_tls, True)):
        as_socket = outcome._replace(promise=_IS_A_SOCKET)
        yield Rule(as_socket, does=(Does.RESETS,), families=(Family.STREAM,), tls=tls)
    yield Rule(_raises(ssl.SSLEOFError, _IS_A_SOCKET), does=(Does.IS_CUT_OFF,), families=(Family.STREAM,))
    yield Rule(_complete(_AS_STREAM)._replace(label="its end"), does=(Does.ENDS,), families=(Family.STREAM,))


#: The rules, in the order in which they are asked.
RULES: Final[tuple[Rule, ...]] = tuple(_rules())


def outcome_of(cell: Cell) -> Outcome | None:
    """What is documented of a cell; None where nothing is."""
    return next((rule.outcome for rule in RULES if rule.fits(cell)), None)


def judge(cell: Cell, observed: Observed) -> str:
    """What has become of a cell, as a label for the table: that of its outcome, or in bold what it was in place of that.

    Raises:
        AssertionError: what was delivered is not what it has to be.
    """
    fault, delivered = cell.fault, observed.delivered
    whole = _whole(cell)
    assert whole.startswith(delivered), "what was delivered is not the beginning of what was sent"
    outcome = outcome_of(cell)
    if observed.kind is None:
        assert delivered == whole or (outcome is not None and not outcome.is_whole), (
            f"{len(delivered)} bytes were delivered, of {len(whole)}"
        )
    elif fault.kept is not None and cell.path.keeps and cell.column is not Column.STOP:
        assert len(delivered) == fault.kept, f"{len(delivered)} bytes were kept, of {fault.kept}"
    if outcome is None:
        return "**undocumented**"
    return outcome.said_of(observed.kind)


def _whole(cell: Cell) -> bytes:
    """What is delivered if there is no error, and of which else a beginning is."""
    fault, family = cell.fault, cell.path.family
    if not cell.path.is_raw:
        return fault.gives
    if family is Family.EXACTLY:
        return BODY
    return fault.raw_gives if fault.kept is None else fault.raw_gives[: fault.kept]
