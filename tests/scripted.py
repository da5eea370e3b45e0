"""A file on a `FaultServer`, for tests of downloads: its content, servers that break off in the middle, and what was asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from iointerrupt.testing import Connection, steps
from iointerrupt.testing._serving import File, decide

SIZE = 100_000
CONTENT = hashlib.shake_256(b"a file").digest(SIZE)
#: As it is after it has changed.
OTHER = hashlib.shake_256(b"another").digest(SIZE)
#: Where the first answer breaks off.
HALF = 40_000

ETAG, OTHER_ETAG = '"v1"', '"v2"'
LONG_AGO = "Wed, 21 Oct 2015 07:28:00 GMT"
LATER = "Thu, 22 Oct 2015 07:28:00 GMT"
NOW = "Fri, 23 Oct 2015 07:28:00 GMT"


def sha256(content: bytes = CONTENT) -> str:
    """What `checksum=` takes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def half(content: bytes = CONTENT, **headers: str) -> steps.Script:
    """Answers with the head of a file and its first bytes, and closes. An underscore in a header's name is a hyphen."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return [
        steps.expect(headers={"Range": None}),
        steps.head(headers=named, length=len(content)),
        steps.send(content[:HALF]),
    ]


def each(*answer: steps.Step | Callable[[Connection], object]) -> steps.Script:
    """Answers every request so."""
    return [steps.repeat(steps.expect(), *answer)]


def by_range(ranged: Any, whole: Any) -> steps.Script:
    """Answers a request for a range with one step, and one for the whole file with another."""

    def choose(connection: Connection) -> None:
        step = ranged if connection.request is not None and "Range" in connection.request.headers else whole
        (step.run if isinstance(step, steps.Step) else step)(connection)

    return each(choose)


def file(
    content: bytes = CONTENT, *, etag: str | None = None, modified: str | None = LONG_AGO, ranges: bool = True
) -> Callable[[Connection], None]:
    """Answers as `steps.serve` does, and says what time it is, which makes a validator of the date."""

    def serve(connection: Connection) -> None:
        assert connection.request is not None
        kept = File(content, etag, modified, ranges, "application/octet-stream")
        status, headers, body = decide(connection.request, kept)
        connection.answer(body, status=status, headers={**headers, "Date": NOW})

    return serve


def part(
    start: int = HALF, end: int = SIZE, *, content: bytes = CONTENT, said: str | None = None, **answer: Any
) -> Any:
    """An answer with a part of a file.

    Args:
        start, end: of what is sent.
        content: the file.
        said: what it says of that; the truth by default.
        answer: further arguments of `steps.answer`.
    """
    headers = {"Content-Range": said or f"bytes {start}-{end - 1}/{len(content)}", **answer.pop("headers", {})}
    return steps.answer(content[start:end], status=206, headers=headers, **answer)


def asked(server: Any) -> list[tuple[str | None, str | None]]:
    """The requests that have come: `Range` and `If-Range` of each."""
    return [(request.headers.get("Range"), request.headers.get("If-Range")) for request in server.requests]
