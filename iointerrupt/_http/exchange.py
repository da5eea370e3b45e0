"""One request and the head of its answer, on one connection: what `lean` has instead of http.client.

It takes what is plain beyond doubt: HTTP/1.1, fields that follow RFC 9112 to the letter, one length, no coding. Anything else
is no answer here (None), and requests has to ask again.

A connection belongs to the request that took it from its pool; nothing here is shared.
"""

from __future__ import annotations

import http.client
import re
import ssl
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import requests
import requests.adapters
import urllib3
from urllib3.exceptions import ProtocolError, ReadTimeoutError, SSLError
from urllib3.util.ssl_match_hostname import CertificateError

from iointerrupt._http.pool import HTTPConnectionPool, StoppableConnection
from iointerrupt._http.splice import LeanAnswer

_LONGEST_HEAD = 1 << 16

#: A token of RFC 9110, 5.6.2: what a field may be called.
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - not that kind of token
_HEAD = re.compile(rf"HTTP/1\.1 ([2-5][0-9][0-9])(?: [\t -~\x80-\xff]*)?((?:\r\n{TOKEN}:[\t -~\x80-\xff]*)*)")
_LENGTH = re.compile(r"[0-9]{1,18}")

# Fields of an answer that must not come twice; others are joined.
_SINGLE = frozenset({"content-length", "content-range", "content-encoding", "etag", "last-modified"})

# Fields of an answer that requests has to see.
_ODD_FIELDS = frozenset({"transfer-encoding", "set-cookie"})


def exchange(
    pool: HTTPConnectionPool, connection: StoppableConnection, request: bytes, url: str, timeout: float | None
) -> LeanAnswer | None:
    """Send a request; return the answer once its head is there, or None if it is not a plain one.

    Args:
        pool: what the connection came from.
        connection: it connects if it has to. One that the server has closed while it was idle connects once more. Whoever
            calls closes it where this returns no answer.
        request: what to send.
        url: what it asks for.
        timeout: seconds, more than 0, for connecting and for each wait after it; None for no limit.

    Raises:
        Interrupted: a stop was set, the one to which the connection is bound or the current one.
        OSError, http.client.HTTPException, urllib3.exceptions.HTTPError: it failed; see `fail`.
    """
    is_new = connection.sock is None
    if is_new:
        _connect(pool, connection, timeout)
    received = _ask(connection, request, timeout, is_new=is_new)
    if not received and not is_new:
        # The server has closed the connection while it was idle, just before the request came.
        connection.close()
        _connect(pool, connection, timeout)
        received = _ask(connection, request, timeout, is_new=True)
    if not received:
        raise http.client.RemoteDisconnected("Remote end closed connection without response")
    return _read_answer(pool, connection, url, received)


def _connect(pool: HTTPConnectionPool, connection: StoppableConnection, timeout: float | None) -> None:
    connection.timeout = timeout
    pool._validate_conn(connection)  # it connects for https, and warns where nothing is verified
    if connection.sock is None:
        connection.connect()


def _ask(connection: StoppableConnection, request: bytes, timeout: float | None, *, is_new: bool) -> bytes:
    """Send the request; return the first bytes of the answer, none if the connection was closed before them."""
    sock: Any = connection.sock
    if sock.timeout != timeout:
        sock.settimeout(timeout)
    try:
        try:
            sock.sendall(request)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer may have been sent before, as urllib3 knows
        received: bytes = sock.recv(_LONGEST_HEAD)
    except ConnectionError:
        if is_new:
            raise
        return b""
    return received


def _read_answer(
    pool: HTTPConnectionPool, connection: StoppableConnection, url: str, received: bytes | bytearray
) -> LeanAnswer | None:
    end = received.find(b"\r\n\r\n")
    if end < 0:
        received = bytearray(received)
        sock: Any = connection.sock
        while end < 0:
            room = _LONGEST_HEAD - len(received)
            more = sock.recv(room) if room and b"HTTP/1.1 ".startswith(received[:9]) else b""
            if not more:
                return None
            searched = max(0, len(received) - 3)
            received += more
            end = received.find(b"\r\n\r\n", searched)
    head = _HEAD.fullmatch(received[:end].decode("latin-1"))
    if head is None:
        return None
    fields: dict[str, str] = {}
    for line in head[2].split("\r\n")[1:]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip(" \t")
        if name in fields:
            if name in _SINGLE:
                return None
            value = f"{fields[name]}, {value}"
        fields[name] = value
    status = int(head[1])
    length = _length(status, fields)
    if length is None:
        return None
    return LeanAnswer(
        pool,
        connection,
        url,
        status=status,
        headers=_Fields(fields),
        length=length,
        first=received[end + 4 :],
        keep="close" not in fields.get("connection", "").lower(),
    )


def _length(status: int, fields: dict[str, str]) -> int | None:
    """How many bytes the body has; None for an answer that is not a plain one."""
    if not _ODD_FIELDS.isdisjoint(fields) or fields.get("content-encoding", "identity").lower() != "identity":
        return None
    if status == http.HTTPStatus.NOT_MODIFIED:
        return 0  # what it says of a length is that of the file (RFC 9110, 8.6)
    length = fields.get("content-length", "")
    if not (status in (200, 206) or status >= 400) or not _LENGTH.fullmatch(length):
        return None
    return int(length)


class _Fields(Mapping[str, str]):
    """The fields of an answer, by their names in any case."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, str]) -> None:
        self._values = values  # by their names in lower case

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def get(self, name: str, default: Any = None) -> Any:
        return self._values.get(name.lower(), default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


# What an exchange failed of


def fail(
    error: Exception, pool: HTTPConnectionPool, request: requests.PreparedRequest, timeout: float | None
) -> NoReturn:
    """Raise what `HTTPAdapter.send` would for what has failed in an exchange."""
    raise AssertionError(_Failed(error, pool, timeout).send(request))  # which raises by itself


class _Failed(requests.adapters.HTTPAdapter):
    """Says in requests' words what has failed below it: its `send` is the standard one, and it is its own failing pool."""

    def __init__(self, error: Exception, pool: HTTPConnectionPool, timeout: float | None) -> None:
        self.max_retries = urllib3.util.Retry(0, read=False)  # that of requests
        self._error, self._pool, self._timeout = error, pool, timeout

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> Any:
        return self

    def cert_verify(self, *_: Any, **__: Any) -> None:
        pass

    def request_url(self, request: requests.PreparedRequest, *_: Any) -> str:
        return request.path_url

    def urlopen(self, method: str, url: str, *, retries: urllib3.util.Retry, **_: Any) -> NoReturn:
        """Fail, in urllib3's words."""
        error: Any = self._error
        if isinstance(error, TimeoutError):
            error = ReadTimeoutError(self._pool, url, f"Read timed out. (read timeout={self._timeout})")
        elif isinstance(error, ssl.SSLError | CertificateError):
            error = SSLError(error)
        elif isinstance(error, OSError | http.client.HTTPException):
            error = ProtocolError("Connection aborted.", error)
        elif not isinstance(error, urllib3.exceptions.TimeoutError | ProtocolError | SSLError):
            raise error
        raise AssertionError(retries.increment(method, url, error=error, _pool=self._pool))  # as above
