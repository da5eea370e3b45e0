"""HTTP as bytes: reading a request from a file, and writing the head of a response. Nothing here knows of sockets."""

from __future__ import annotations

import http.client
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import EllipsisType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from email.message import Message


class Readable(Protocol):
    """What requests are read from."""

    def readline(self) -> bytes:
        """A line with its end, empty at the end."""

    def read(self, size: int, /) -> bytes:
        """`size` bytes, fewer at the end."""


@dataclass(frozen=True)
class Request:
    """What a client has sent.

    Attributes:
        method: such as `"GET"`.
        target: what is requested, as it was sent: `"/file?part=1"`.
        headers: by name, whatever its case: `request.headers["Range"]` is None where there is none.
        body: without the framing of a chunked one; empty if it was not read.
    """

    method: str
    target: str
    headers: Message
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


class NotHTTP(AssertionError):
    """A client sent what is no request."""


def read_head(file: Readable) -> Request | None:
    """Read a request without its body; None where the client ends before its end."""
    line = file.readline()
    if line == b"\r\n":  # which some clients send after a body (RFC 9112, 2.2)
        line = file.readline()
    if not line.endswith(b"\n"):
        return None
    words = line.decode("latin-1").split()
    if len(words) != 3 or not words[2].startswith("HTTP/"):
        raise NotHTTP(f"the client sent {line[:200]!r}, which is no request")
    lines = []
    while (header := file.readline()) not in {b"\r\n", b"\n"}:
        if not header.endswith(b"\n"):
            return None
        lines.append(header)
    headers = http.client.parse_headers(io.BytesIO(b"".join([*lines, b"\r\n"])))
    return Request(words[0], words[1], headers)


def read_body(file: Readable, head: Request) -> Request | None:
    """The request with its body, which is read; None where the client ends before its end."""
    body = _read_chunks(file) if is_chunked(head) else _read_length(file, head)
    return None if body is None else replace(head, body=body)


def is_chunked(request: Request) -> bool:
    """Whether its body is chunked."""
    return "chunked" in request.headers.get("Transfer-Encoding", "").lower()


def _read_length(file: Readable, head: Request) -> bytes | None:
    length = head.headers.get("Content-Length", "0")
    if not length.isdecimal():
        raise NotHTTP(f"the client sent Content-Length: {length}")
    body = file.read(int(length))
    return body if len(body) == int(length) else None


def _read_chunks(file: Readable) -> bytes | None:
    body = bytearray()
    while True:
        line = file.readline()
        if not line.endswith(b"\n"):
            return None
        digits = line.partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]+", digits):
            raise NotHTTP(f"the client sent {line[:200]!r} where the size of a chunk should be")
        size = int(digits, 16)
        data = file.read(size)
        if len(data) < size:
            return None
        body += data
        # Behind a chunk there is an empty line; behind the last one there may be trailers before it.
        while (end := file.readline()) not in {b"\r\n", b"\n"}:
            if not end.endswith(b"\n"):
                return None
            if size:
                raise NotHTTP(f"the client sent {end[:200]!r} behind a chunk of {size} bytes")
        if not size:
            return bytes(body)


def head_bytes(
    status: int,
    headers: Mapping[str, str] | None = None,
    *,
    length: int | None = None,
    chunked: bool = False,
    reason: str | None = None,
) -> bytes:
    """The status line, the headers and the empty line; `reason` is the standard one where there is one."""
    lines = [f"HTTP/1.1 {status} {_reason(status) if reason is None else reason}"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    if chunked:
        lines.append("Transfer-Encoding: chunked")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _reason(status: int) -> str:
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def chunk_bytes(data: bytes) -> bytes:
    """A chunk; an empty one would be the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def answer_bytes(
    body: bytes,
    status: int,
    headers: Mapping[str, str] | None,
    *,
    length: int | EllipsisType | None,
    chunked: bool,
    to: Request | None,
) -> bytes:
    """A whole response to the request `to`; `length` is what it says of the body, `...` for the truth."""
    has_body = to is None or to.method != "HEAD"
    if chunked:
        head = head_bytes(status, headers, chunked=True)
        return head + (chunk_bytes(body) if body else b"") + LAST_CHUNK if has_body else head
    if isinstance(length, EllipsisType):
        length = None if not body and (status < 200 or status in {204, 304}) else len(body)
    return head_bytes(status, headers, length=length) + (body if has_body else b"")
