"""The steps of a `FaultServer`'s scripts: `steps.expect("GET", "/file")`, `steps.send(b"...")`, `steps.stall()`.

Each is a frozen value which says what to do on a connection, and reads as the call that made it. What is wrong with its
arguments is said when it is made; whether it can stand where it stands, when the server is made. A callable in place of a
step is called with the `Connection`; it can also run a step: `steps.stall().run(connection)`.

"The client has gone" means here: the connection ends without more ado, as clients that are interrupted do that.
"""
# ruff: noqa: N801 - they are classes that are used as functions, as contextlib.suppress is

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import EllipsisType
from typing import TYPE_CHECKING, ClassVar

from iointerrupt._stop import as_stop, check_timeout
from iointerrupt._types import StopLike
from iointerrupt.testing._composed import repeat, route
from iointerrupt.testing._messages import LAST_CHUNK, Request, chunk_bytes, head_bytes
from iointerrupt.testing._serving import File, check_file, decide
from iointerrupt.testing._step import (
    Script,
    Step,
    check_bytes,
    check_headers,
    check_int,
    check_line,
    check_status,
    check_str,
    show,
)

if TYPE_CHECKING:
    from iointerrupt.testing._connection import Connection

__all__ = [
    "Script",
    "Step",
    "answer",
    "chunk",
    "close",
    "drip",
    "expect",
    "expect_bytes",
    "half_close",
    "handshake",
    "head",
    "last_chunk",
    "mark",
    "read",
    "read_to_end",
    "redirect",
    "repeat",
    "reset",
    "route",
    "send",
    "serve",
    "stall",
    "stall_connect",
    "stall_handshake",
]


# Beginning


@dataclass(frozen=True, repr=False)
class stall_connect(Step):
    """Keep the queue of connections full, so that a client's `connect` blocks, until `FaultServer.resume`.

    Only the first step of the first script can be this; it is done once, from the start of the server. After `resume`
    everything is accepted; but the client's kernel repeats its attempt only 1, 3, 7 s after it began. (Linux.)
    """

    counts_itself: ClassVar[bool] = True  # the listener does

    def run(self, connection: Connection) -> None:
        """It is over: the connection is there."""


@dataclass(frozen=True, repr=False)
class handshake(Step):
    """Do the TLS handshake here. Without this step, a script over TLS begins with it."""

    def run(self, connection: Connection) -> None:
        connection._handshake()


@dataclass(frozen=True, repr=False)
class stall_handshake(Step):
    """Begin the TLS handshake, but send only the first half of the server's flight; go on after `FaultServer.resume`."""

    counts_itself: ClassVar[bool] = True

    def run(self, connection: Connection) -> None:
        connection._handshake(stalling=True)


# Reading


@dataclass(frozen=True, repr=False)
class expect(Step):
    """Read a request, and fail the test if it is another one than expected. What is left out may be anything.

    Args:
        method: such as `"GET"`.
        target: as it is sent, with its query: `"/file?part=1"`.
        headers: each has to be there with that value; with None it has to be absent.
        body: the whole body.
        read_body: False to leave the body for `read`, or unread.

    If the client has gone, the script ends.
    """

    method: str | None = None
    target: str | None = None
    headers: Mapping[str, str | None] | None = field(default=None, kw_only=True)
    body: bytes | None = field(default=None, kw_only=True)
    read_body: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        check_str(self, "method", none=True)
        check_str(self, "target", none=True)
        check_headers(self, none=True)
        if self.body is not None:
            check_bytes(self, "body")
            if not self.read_body:
                raise ValueError("expect: body cannot be compared with read_body=False")

    def run(self, connection: Connection) -> None:
        request = connection._need_request(body=self.read_body)
        if wrong := self._differences(request):
            raise AssertionError(f"{self!r} got {request.method} {request.target}: {'; '.join(wrong)}")

    def _differences(self, request: Request) -> list[str]:
        wrong = [
            f"the {name} is {show(got)}, not {show(wanted)}"
            for name in ("method", "target", "body")
            if (wanted := getattr(self, name)) is not None and (got := getattr(request, name)) != wanted
        ]
        for name, wanted in (self.headers or {}).items():
            got = request.headers.get_all(name)
            if wanted is None and got is not None:
                wrong.append(f"there is a header {name}: {', '.join(got)}")
            elif wanted is not None and (got is None or wanted not in got):
                wrong.append(f"the header {name} is {'absent' if got is None else ', '.join(got)}, not {wanted}")
        return wrong


@dataclass(frozen=True, repr=False)
class expect_bytes(Step):
    """Read as many bytes as `data` has, and fail the test if they are other ones.

    If the client has gone with what it sent being the beginning of `data`, the script ends.
    """

    data: bytes

    def __post_init__(self) -> None:
        check_bytes(self, "data")

    def run(self, connection: Connection) -> None:
        got = connection.read(len(self.data))
        if got != self.data[: len(got)]:
            raise AssertionError(f"{self!r} got {show(got)}")
        if len(got) < len(self.data):
            connection._end_as_client_has_gone()


@dataclass(frozen=True, repr=False)
class read(Step):
    """Read and drop `size` bytes: as they are on the connection, such as a request's body. At its end, the script ends."""

    size: int

    def __post_init__(self) -> None:
        check_int(self, "size", 1)

    def run(self, connection: Connection) -> None:
        if len(connection.read(self.size)) < self.size:
            connection._end_as_client_has_gone()


@dataclass(frozen=True, repr=False)
class read_to_end(Step):
    """Read and drop everything until the client has closed the connection, or its side of it."""

    def run(self, connection: Connection) -> None:
        connection.read_to_end()


# Sending


@dataclass(frozen=True, repr=False)
class send(Step):
    """Send bytes, as they are."""

    data: bytes

    def __post_init__(self) -> None:
        check_bytes(self, "data")

    def run(self, connection: Connection) -> None:
        connection.send(self.data)


@dataclass(frozen=True, repr=False)
class head(Step):
    """Send a status line, headers, and the empty line; what follows is yours to send.

    Args:
        status: 100 to 599.
        headers: names and values, in this order.
        length: the `Content-Length`.
        chunked: say `Transfer-Encoding: chunked`, for `chunk` and `last_chunk`.
        reason: the text behind the status; by default what HTTP calls it.
    """

    status: int = 200
    headers: Mapping[str, str] | None = None
    length: int | None = field(default=None, kw_only=True)
    chunked: bool = field(default=False, kw_only=True)
    reason: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        check_status(self.name, self.status)
        check_headers(self)
        check_int(self, "length", 0, others=(None,))
        check_str(self, "reason", none=True)

    def run(self, connection: Connection) -> None:
        connection.send(
            head_bytes(self.status, self.headers, length=self.length, chunked=self.chunked, reason=self.reason)
        )


@dataclass(frozen=True, repr=False)
class chunk(Step):
    """Send a chunk of a chunked body, in its framing."""

    data: bytes

    def __post_init__(self) -> None:
        check_bytes(self, "data")
        if not self.data:
            raise ValueError("chunk: data must not be empty, which would end the body: that is last_chunk()")

    def run(self, connection: Connection) -> None:
        connection.send(chunk_bytes(self.data))


@dataclass(frozen=True, repr=False)
class last_chunk(Step):
    """Send the end of a chunked body."""

    def run(self, connection: Connection) -> None:
        connection.send(LAST_CHUNK)


@dataclass(frozen=True, repr=False)
class answer(Step):
    """Send a whole response.

    Args:
        body: what follows the head; nothing does where the request was a HEAD.
        status: 100 to 599.
        headers: names and values, in this order.
        length: the `Content-Length`: `...` for the true one, an int for a lie, None for none.
        chunked: send the body as one chunk, without a length.

    If it is the last step of its connection, it says `Connection: close`, so that no client sends another request into a
    connection that is about to end. (With an explicit `close()` behind it, it does not.)
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] | None = None
    length: int | EllipsisType | None = field(default=..., kw_only=True)
    chunked: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        check_bytes(self, "body")
        check_status(self.name, self.status)
        check_headers(self)
        check_int(self, "length", 0, others=(None, ...))
        if self.chunked and isinstance(self.length, int):
            raise ValueError("answer: a chunked body has no length: use head(length=..., chunked=True) to say both")

    def run(self, connection: Connection) -> None:
        connection.answer(self.body, status=self.status, headers=self.headers, length=self.length, chunked=self.chunked)


@dataclass(frozen=True, repr=False)
class redirect(Step):
    """Send an empty response that refers to `location`."""

    location: str
    status: int = 302

    def __post_init__(self) -> None:
        check_str(self, "location")
        check_status(self.name, self.status)
        if not 300 <= self.status <= 399:
            raise ValueError(f"redirect: status must be 300 to 399, not {self.status}")

    def run(self, connection: Connection) -> None:
        connection.answer(status=self.status, headers={"Location": self.location})


@dataclass(frozen=True, repr=False)
class serve(Step):
    """Answer the request that was read last as a server of files does.

    GET and HEAD, single ranges, conditions by date and by ETag: 200, 206, 304, 405 and 416.

    Args:
        content: the file.
        etag: its ETag, in its quotes: `'"v1"'` or `'W/"v1"'`.
        last_modified: its `Last-Modified`, as HTTP writes it: `"Wed, 21 Oct 2015 07:28:00 GMT"`.
        ranges: False for a server that knows no ranges.
        content_type: its type.
    """

    content: bytes
    etag: str | None = field(default=None, kw_only=True)
    last_modified: str | None = field(default=None, kw_only=True)
    ranges: bool = field(default=True, kw_only=True)
    content_type: str = field(default="application/octet-stream", kw_only=True)

    def __post_init__(self) -> None:
        check_bytes(self, "content")
        for name in ("etag", "last_modified"):
            check_str(self, name, none=True)
        check_str(self, "content_type")
        check_file(self._file())

    def run(self, connection: Connection) -> None:
        request = connection.request
        if request is None:
            raise AssertionError("serve() answers a request, and none has been read")
        status, headers, body = decide(request, self._file())
        connection.answer(body, status=status, headers=headers)

    def _file(self) -> File:
        return File(self.content, self.etag, self.last_modified, self.ranges, self.content_type)


@dataclass(frozen=True, repr=False)
class drip(Step):
    """Send `data` in pieces of `size` bytes, `every` seconds apart."""

    data: bytes
    size: int = field(default=1, kw_only=True)
    every: float = field(default=0.01, kw_only=True)

    def __post_init__(self) -> None:
        check_bytes(self, "data")
        check_int(self, "size", 1)
        check_timeout(self.every, "drip: every")

    def run(self, connection: Connection) -> None:
        for start in range(0, len(self.data), self.size):
            if start:
                connection.server.stop.sleep(self.every)
            connection.send(self.data[start : start + self.size])


# Waiting


@dataclass(frozen=True, repr=False)
class stall(Step):
    """Do nothing, and read nothing, until `FaultServer.resume`, or until `until` is set.

    Args:
        until: a stop of any kind; a `threading.Event` for example.

    If the client closes the connection, the script ends. (On Linux; elsewhere that is not noticed.)
    """

    until: StopLike = field(default=None, kw_only=True)
    counts_itself: ClassVar[bool] = True

    def __post_init__(self) -> None:
        as_stop(self.until)

    def run(self, connection: Connection) -> None:
        connection._stall(self.name, self.until)


@dataclass(frozen=True, repr=False)
class mark(Step):
    """Do nothing; a place with a name of its own, for `FaultServer.wait_for`."""

    label: str

    def __post_init__(self) -> None:
        check_line("mark", "the name", self.label)

    @property
    def name(self) -> str:
        return self.label

    def run(self, connection: Connection) -> None:
        pass

    def __repr__(self) -> str:
        return f"mark({self.label!r})"


# Ending


@dataclass(frozen=True, repr=False)
class reset(Step):
    """Reset the connection (RST)."""

    def run(self, connection: Connection) -> None:
        connection._reset()


@dataclass(frozen=True, repr=False)
class half_close(Step):
    """End what the server sends (FIN), and go on reading. Not over TLS, which has no such thing."""

    def run(self, connection: Connection) -> None:
        connection._end_sending()


@dataclass(frozen=True, repr=False)
class close(Step):
    """Close the connection, in order (FIN): what has been sent arrives, and what the client still sends is dropped.

    Args:
        notify: over TLS, False to leave out the `close_notify` that tells an end from a truncation.

    The end of a script does the same.
    """

    notify: bool = field(default=True, kw_only=True)

    def run(self, connection: Connection) -> None:
        connection._end_sending(notify=self.notify)
