"""What to ask a server for, and what its answer means. Nothing here does I/O, and nothing here is changed: values in, values out.

Theory of operation. What a part file holds is of one *version* of the file, which its validator names: a strong ETag, or
a date that is as good as one (RFC 9110, 8.8). The rest of it is asked for with `Range` and `If-Range`, so that a server
sends the rest of that version or the whole of another, and what it sends is judged before a byte of it is written:

    asked for            answered with                     outcome
    anything             206, the range asked for          Take it from there
    a range              206, of another version           AskAgain for the whole
    a range by ETag      200, of the same version          AskAgain by date: some servers reject ETags in If-Range
    a range              200                               Take it from the beginning
    a range              416, the part is all there is,    Complete
                         and no other version is named
    a range              416 otherwise                     AskAgain for the whole
    a range              400, 412, 501                     AskAgain by date, else for the whole
    only if changed      304                               Unchanged
    anything             another range, or none named      WrongRange
    anything             a length that is none             ShortBody
    anything             any other status                  BadStatus

Each question is asked in at most one weaker form after another, so that this comes to an end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from iointerrupt.downloads._coding import CODINGS
from iointerrupt.downloads._errors import BadEncoding, BadStatus, ShortBody, TooLarge, WrongRange

#: Statuses that another try may change.
PASSING_STATUSES = frozenset({408, 421, 425, 429, 500, 502, 503, 504})

# Names of files that are packed already: servers announce that as a coding of the body, and it is not meant to be undone.
_PACKED = (".gz", ".tgz", ".z", ".tz", ".svgz", ".emz", ".wmz", ".deb", ".apk")

_CONTENT_RANGE = re.compile(r"bytes\s+([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")
_UNSATISFIED = re.compile(r"bytes\s+\*/([0-9]{1,19})")
_LENGTH = re.compile(r"[0-9]{1,19}")


class By(Enum):
    """What makes certain that a range is of the version that there is."""

    ETAG = "etag"
    DATE = "date"
    #: Nothing but the checksum, at the end.
    CHECKSUM = "checksum"


class Version(NamedTuple):
    """One version of a file, as a server names it.

    Attributes:
        etag: its ETag, if that is a strong one: a weak one says that two versions mean the same, not that they are the
            same byte for byte (RFC 9110, 8.8.1).
        date: its Last-Modified, if that is as good: not when the file may have changed again in that second (8.8.2.2).
        size: bytes; None where the server does not say.
    """

    etag: str | None = None
    date: str | None = None
    size: int | None = None

    def can_be_sent(self) -> bool:
        """Whether what tells it from others is what a server may have said, also where it comes from a file."""
        etag: Any = self.etag
        date: Any = self.date
        return (etag is None or (isinstance(etag, str) and etag.isascii() and _is_strong(etag))) and (
            date is None
            or (isinstance(date, str) and date.isascii() and date.isprintable() and seconds_of(date) is not None)
        )

    def may_be(self, other: Version) -> bool:
        """Whether nothing tells the two apart."""
        if self.size is not None and other.size is not None and self.size != other.size:
            return False
        if self.etag and other.etag:
            return self.etag == other.etag
        return not (self.date and other.date) or self.date == other.date

    def ways(self, *, checksum: bool = False) -> list[By]:
        """How the rest of this version can be asked for, the surest first."""
        ways = []
        if self.etag:
            ways.append(By.ETAG)
        if self.date:
            ways.append(By.DATE)
        if checksum:
            ways.append(By.CHECKSUM)
        return ways


class Question(NamedTuple):
    """A request for a file, or for a part of it.

    Attributes:
        start: the first byte that is wanted.
        end: the byte behind the last one; None for all that there is.
        version: of what the part has to be; None where any will do.
        ways: how to ask for the rest of that version, the one to be tried first; empty for the whole file.
        unless: the version that is there already, if the file is wanted only when there is another.
        modified_since: a date to the same end, where there is nothing better.
    """

    start: int = 0
    end: int | None = None
    version: Version | None = None
    ways: Sequence[By] = ()
    unless: Version | None = None
    modified_since: str | None = None

    @property
    def is_range(self) -> bool:
        """Whether a part is asked for."""
        return bool(self.ways)

    def headers(self) -> dict[str, str]:
        """What the request says."""
        headers = {}
        if self.ways and self.version is not None:
            headers["Range"] = f"bytes={self.start}-{'' if self.end is None else self.end - 1}"
            validator = {By.ETAG: self.version.etag, By.DATE: self.version.date, By.CHECKSUM: None}[self.ways[0]]
            if validator is not None:
                headers["If-Range"] = validator
        if self.unless is not None and self.unless.etag:
            headers["If-None-Match"] = self.unless.etag
        if self.modified_since is not None:
            headers["If-Modified-Since"] = self.modified_since
        return headers

    def weaker(self) -> Question:
        """The same in the next of the ways, or for the whole file when there is none left."""
        left = self.ways[1:]
        return self._replace(ways=left) if left else Question()


class Take(NamedTuple):
    """The body is what is wanted.

    Attributes:
        start: where in the file its first byte belongs.
        end: where it ends; None where that is not known.
        version: of what it is a part.
        is_part: whether it is the range that was asked for, and not the whole file, which may begin where that does.
        ranges: whether the server gives ranges.
        codings: what has to be undone, as it was done; where there is any, nothing of it can be resumed.
    """

    start: int
    end: int | None
    version: Version
    is_part: bool = False
    ranges: bool = False
    codings: tuple[str, ...] = ()


class AskAgain(NamedTuple):
    """The body is not what is wanted; something else may be.

    Attributes:
        question: what to ask instead.
        changed: whether the file is another by now.
    """

    question: Question
    changed: bool = False


class Complete:
    """There is no more of it than what is there."""


class Unchanged:
    """The server has no other version."""


Outcome = Take | AskAgain | Complete | Unchanged


def judge(question: Question, status: int, headers: Mapping[str, str], *, url: str, name: str = "") -> Outcome:
    """What an answer means.

    Args:
        question: what was asked.
        status, headers: what was answered; names of headers are found whatever their case.
        url: where it came from.
        name: what the file will be called, which tells whether it is meant to be packed.

    Raises:
        BadStatus, WrongRange, BadEncoding, ShortBody: it is of no use.
    """
    transfer = headers.get("Transfer-Encoding", "chunked").strip().lower()
    if status in (200, 203, 206) and transfer not in ("chunked", "identity", ""):
        raise BadEncoding(
            f"{url} sent a body that is coded for the transfer as {transfer!r}, which was not asked for", url=url
        )
    if status in (200, 203):
        return _judge_whole(question, headers, url, name)
    if status == 206:
        return _judge_part(question, headers, url)
    if status == 304 and (question.unless is not None or question.modified_since is not None):
        return Unchanged()
    if question.is_range:
        if status == 416:
            said = _UNSATISFIED.fullmatch(headers.get("Content-Range", "").strip().lower())
            if said and int(said[1]) == question.start:
                named = version_of(headers)._replace(size=None)  # that is of what it says of the error
                if question.version is None or question.version.may_be(named):
                    return Complete()
            return AskAgain(Question(), changed=True)
        if status in (400, 412, 501):
            return AskAgain(question.weaker())
    raise BadStatus(f"{url} answered with {status}{_PHRASES.get(status, '')}", url=url, status=status)


_PHRASES = {
    401: " (it wants a user and a password, or others)",
    403: " (forbidden)",
    404: " (not found)",
    407: " (the proxy wants a user and a password, or others)",
    410: " (gone)",
    429: " (too many requests)",
    503: " (unavailable)",
}


# Nobody packs more often than that by mistake.
_MOST_CODINGS = 2


def _judge_whole(question: Question, headers: Mapping[str, str], url: str, name: str) -> Outcome:
    _refuse_odd_length(headers, url)
    version = version_of(headers)
    if question.is_range:
        by = question.ways[0]
        same = question.version is not None and question.version.may_be(version) and bool(version.etag or version.date)
        ranges = headers.get("Accept-Ranges", "").strip().lower() != "none"
        if same and ranges and by is By.ETAG and By.DATE in question.ways:
            return AskAgain(question.weaker())
    coding = content_coding(headers)
    if coding and not name.lower().endswith(_PACKED):
        unknown = [each for each in coding if each not in CODINGS]
        if unknown:
            raise BadEncoding(f"{url} sent a body coded as {', '.join(unknown)}, which was not asked for", url=url)
        if len(coding) > _MOST_CODINGS:
            raise BadEncoding(f"{url} sent a body that is packed {len(coding)} times, which was not asked for", url=url)
        return Take(0, None, Version(), codings=tuple(coding))
    return Take(0, version.size, version, ranges=headers.get("Accept-Ranges", "").strip().lower() == "bytes")


def _judge_part(question: Question, headers: Mapping[str, str], url: str) -> Outcome:
    if not question.is_range:
        raise WrongRange(f"{url} sent a part of the file, and the whole was asked for", url=url)
    _refuse_odd_length(headers, url)
    if content_coding(headers):
        raise WrongRange(f"{url} sent a part of a coded body, which was not asked for", url=url)
    said = headers.get("Content-Range", "").strip().lower()
    found = _CONTENT_RANGE.fullmatch(said)
    wanted = (
        f"the bytes from {question.start} on" if question.end is None else f"bytes {question.start}-{question.end - 1}"
    )
    if found is None:
        told = "several ranges" if "multipart" in headers.get("Content-Type", "").lower() else f"{said or 'nothing'!r}"
        raise WrongRange(f"{url} was asked for {wanted}, and says of what it sent: {told}", url=url)
    first, behind = int(found[1]), int(found[2]) + 1
    size = None if found[3] == "*" else int(found[3])
    version = version_of(headers)._replace(size=size)
    if question.version is not None and not question.version.may_be(version):
        return AskAgain(Question(), changed=True)
    if first != question.start or behind <= first or (size is not None and behind > size):
        raise WrongRange(f"{url} was asked for {wanted}, and sent {said!r}", url=url)
    if question.end is not None and behind > question.end:
        raise WrongRange(f"{url} was asked for {wanted}, and sent more: {said!r}", url=url)
    length = content_length(headers)
    if length is not None and length != behind - first:
        raise WrongRange(f"{url} sent {length} bytes and calls them {said!r}", url=url)
    known = question.version or Version()
    # What a 206 leaves out is as it was (RFC 9110, 15.3.7).
    version = Version(version.etag or known.etag, version.date or known.date, known.size if size is None else size)
    return Take(first, behind, version, is_part=True, ranges=True)


def version_of(headers: Mapping[str, str]) -> Version:
    """The version that an answer with a whole body is of."""
    etag = headers.get("ETag", "").strip()
    date = headers.get("Last-Modified", "").strip()
    modified, now = seconds_of(date), seconds_of(headers.get("Date", ""))
    strong_date = modified is not None and now is not None and now - modified >= 1
    coded = bool(content_coding(headers))
    return Version(
        etag=etag if _is_strong(etag) else None,
        date=date if strong_date else None,
        size=None if coded and "Transfer-Encoding" in headers else content_length(headers),
    )


def _is_strong(etag: str) -> bool:
    return bool(re.fullmatch(r'"[^"\x00-\x20\x7f]*"', etag)) and etag != '""'


@lru_cache(maxsize=64)  # many answers have the same ones
def seconds_of(date: str) -> float | None:
    """A date of HTTP, in seconds since 1970; None for what is none."""
    try:
        return parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def content_length(headers: Mapping[str, str]) -> int | None:
    """The length of the body; None where it is not said, or not in a way that holds (RFC 9112, 6.3)."""
    if "Transfer-Encoding" in headers:
        return None
    said = {each.strip() for each in headers.get("Content-Length", "").split(",")}  # twice the same is as good as once
    length = said.pop()
    return None if said or not _LENGTH.fullmatch(length) else int(length)


def _refuse_odd_length(headers: Mapping[str, str], url: str) -> None:
    # Of such a body nobody knows where it ends: that the connection ends would make it whole (RFC 9112, 6.3, 5).
    if "Content-Length" in headers and "Transfer-Encoding" not in headers and content_length(headers) is None:
        raise ShortBody(f"{url} says of the body's length: {headers['Content-Length'][:100]!r}, which is none", url=url)


def content_coding(headers: Mapping[str, str]) -> list[str]:
    """The codings of the body that have to be undone, as they were done."""
    codings = [each.strip().lower() for each in headers.get("Content-Encoding", "").split(",")]
    return [each for each in codings if each not in ("", "identity")]


def check_size(size: int | None, max_size: int | None, url: str) -> None:
    """Refuse a file that is too large.

    Raises:
        TooLarge: it is.
    """
    if size is not None and max_size is not None and size > max_size:
        raise TooLarge(f"{url} is {size:,} bytes, and max_size allows {max_size:,}", url=url)


def split(start: int, end: int, count: int, least: int) -> list[tuple[int, int]]:
    """Cut a range into `count` parts of about the same size, or into fewer of at least `least` bytes."""
    count = max(1, min(count, (end - start) // least))
    edges = [start + (end - start) * number // count for number in range(count + 1)]
    return list(pairwise(edges))


def is_bomb(coded: int, decoded: int) -> bool:
    """Whether a body unpacks to so much more than itself that it can hardly be meant well."""
    return decoded > 64 << 20 and decoded > 200 * max(coded, 1)
