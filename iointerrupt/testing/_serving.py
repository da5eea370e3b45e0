"""What a server of files answers to a request: which status, which headers, which bytes (RFC 9110, 13 and 14). No I/O."""

from __future__ import annotations

import re
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from iointerrupt.testing._messages import Request

_ETAG = re.compile(r'(?:W/)?"[^"]*"')
_RANGE = re.compile(r"bytes=\s*(\d*)-(\d*)\s*")


class File(NamedTuple):
    """What is served; see `steps.serve`."""

    content: bytes
    etag: str | None
    last_modified: str | None
    ranges: bool
    content_type: str


class Decision(NamedTuple):
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes


def check_file(file: File) -> None:
    """Say what is wrong with the file's validators."""
    if file.etag is not None and not _ETAG.fullmatch(file.etag):
        raise ValueError(f"serve: etag must be in its quotes, as '\"v1\"' or 'W/\"v1\"', not {file.etag!r}")
    if file.last_modified is not None and _date(file.last_modified) is None:
        raise ValueError(f"serve: last_modified must be as 'Wed, 21 Oct 2015 07:28:00 GMT', not {file.last_modified!r}")


def decide(request: Request, file: File) -> Decision:
    """The response to a request for the file. To a HEAD it has the body, which is not to be sent."""
    if request.method not in {"GET", "HEAD"}:
        return Decision(405, {"Allow": "GET, HEAD"}, b"")
    validators = {
        name: value for name, value in (("ETag", file.etag), ("Last-Modified", file.last_modified)) if value is not None
    }
    if _is_unchanged(request, file):
        return Decision(304, validators, b"")
    headers = {**validators, "Content-Type": file.content_type}
    if not file.ranges:
        return Decision(200, headers, file.content)
    headers["Accept-Ranges"] = "bytes"
    size = len(file.content)
    wanted = _wanted(request, file)
    if wanted is None:
        return Decision(200, headers, file.content)
    start, end = wanted
    if start >= end:
        return Decision(416, {**validators, "Content-Range": f"bytes */{size}"}, b"")
    headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    return Decision(206, headers, file.content[start:end])


def _is_unchanged(request: Request, file: File) -> bool:
    """Whether the client has said that it has what the file is."""
    match = request.headers.get("If-None-Match")
    if match is not None:  # then the date does not count
        if match.strip() == "*":
            return True
        # "Weak" makes no difference here.
        known = {tag.removeprefix("W/") for tag in _ETAG.findall(match)}
        return file.etag is not None and file.etag.removeprefix("W/") in known
    since = _date(request.headers.get("If-Modified-Since"))
    modified = _date(file.last_modified)
    return since is not None and modified is not None and modified <= since


def _wanted(request: Request, file: File) -> tuple[int, int] | None:
    """From where up to where the client wants the file, empty for nothing that is there; None for all of it."""
    found = _RANGE.fullmatch(request.headers.get("Range", ""))
    if request.method != "GET" or found is None or not any(found.groups()) or not _may_continue(request, file):
        return None
    size = len(file.content)
    first, last = found.groups()
    if not first:
        return max(0, size - int(last or 0)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1 if last else size)


def _may_continue(request: Request, file: File) -> bool:
    """Whether the client's `If-Range`, if it has one, is what the file is."""
    condition = request.headers.get("If-Range")
    if condition is None:
        return True
    if _ETAG.fullmatch(condition.strip()):
        return condition.strip() == file.etag and not condition.strip().startswith("W/")
    date = _date(condition)
    return date is not None and date == _date(file.last_modified)


def _date(text: str | None) -> datetime | None:
    try:
        found = None if text is None else parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None
