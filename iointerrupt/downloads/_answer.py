"""How a server is asked, and what it answers: `ask` gives an `Answer`, in the quick way where that will do, else through requests.

The quick way is `_http.lean`. Everything that it does not take comes here: redirects, proxies, cookies, answers that are
chunked or coded, sessions with adapters or hooks of their own, and those that a test has mocked.
"""

from __future__ import annotations

import socket
import ssl
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import IncompleteRead
from typing import Any, Protocol

import requests
import urllib3.exceptions

from iointerrupt import http
from iointerrupt._errors import DownloadError, Interrupted
from iointerrupt._files.system import pwrite
from iointerrupt._http import lean
from iointerrupt._http.body import socket_of
from iointerrupt._http.lean import TargetError
from iointerrupt.downloads._coding import Decoder
from iointerrupt.downloads._errors import (
    BadEncoding,
    BadStatus,
    ConnectionFailed,
    RedirectRefused,
    ShortBody,
    TimedOut,
    TooSlow,
    WrongRange,
)
from iointerrupt.downloads._plan import PASSING_STATUSES, content_length
from iointerrupt.downloads._redirects import Chain

_CHUNK = 1 << 18


class Answer(Protocol):
    """What a server has answered, with the body to come. It belongs to one thread.

    Attributes:
        status: the status code.
        headers: found whatever their case.
        url: where it came from, after redirects.
    """

    status: int
    headers: Mapping[str, str]
    url: str

    def into_file(self, fd: int, offset: int, limit: int) -> int:
        """Wait for the next bytes of the body, and write `limit` of them at most to a file.

        Args:
            fd: the file's descriptor.
            offset: where in the file they belong.
            limit: how many bytes at most.

        Returns:
            How many there were; 0 at the end of the body.

        Raises:
            TargetError: the file did not take them.
            Interrupted: a stop was set. What had come is in the file, and counted in `.transferred`.
        """

    def read(self, limit: int) -> bytes:
        """Wait for the next bytes of the body, `limit` of them at most; none at its end."""

    def close(self) -> None:
        """Be done with it. The connection is used again if the body has been read to its end, else closed."""


def ask(session: requests.Session, url: str, headers: Mapping[str, str], timeout: float | None) -> Answer:
    """Ask for a file, and wait for the head of the answer.

    Args:
        session: what to ask with.
        url: http or https.
        headers: of the request.
        timeout: seconds without a byte, in each of the phases; None for no limit.

    Raises:
        DownloadError: there is no answer, or it leads nowhere.
        Interrupted: a stop was set.
    """
    try:
        quick = lean.answer(session, url, headers, stop=None, timeout=timeout)
        return _ask_requests(session, url, headers, timeout) if quick is None else quick
    except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
        raise failure(error, url) from error


class _Came(list[requests.Response]):
    """A hook that notes the responses. It can be pickled, as a request may be with the errors that it is in."""

    def __call__(self, response: requests.Response, **_: object) -> None:
        self.append(response)


def _ask_requests(session: requests.Session, url: str, headers: Mapping[str, str], timeout: float | None) -> Requested:
    asked = requests.Request("GET", url, headers={"Accept-Encoding": "identity", **headers})
    prepared = session.prepare_request(asked)
    chain = Chain(session, prepared, headers, url)
    # A redirect that cannot be understood is raised by `send` itself, which then forgets the response.
    came = _Came()
    prepared.register_hook("response", came)  # type: ignore[no-untyped-call]  # the stubs' omission
    while True:
        # For each URL anew: one may go through a proxy, and the next not.
        environment = session.merge_environment_settings(prepared.url or url, {}, True, None, None)
        settings: dict[str, Any] = {**environment, "timeout": timeout, "allow_redirects": False}
        try:
            response = session.send(prepared, **settings)
        except BaseException as error:
            for one in came:
                one.close()
            if came and isinstance(error, ValueError):
                target = came[-1].headers.get("Location")
                raise RedirectRefused(f"{url} leads to {target!r}, which is no URL", url=url) from error
            raise
        came.clear()
        if response.next is None:
            if getattr(getattr(response.raw, "_original_response", None), "head_is_cut_off", False):
                response.close()
                raise ConnectionFailed(f"{url}: the connection was closed in the middle of the headers", url=url)
            return Requested(response, timeout)
        response.close()
        prepared = chain.follow(prepared, response.next)


class Requested:
    """An `Answer` that came by way of requests.

    Attributes:
        coded_size: how many bytes of the body have come, as they were sent.
    """

    def __init__(self, response: requests.Response, timeout: float | None) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.url = str(response.url)
        self._response = response
        self._timeout = timeout
        self._chunks: Iterator[bytes] | None = None
        self._decoder: Decoder | None = None  # refers back to this, until `close`
        self._rest = memoryview(b"")
        self.coded_size = 0

    def decode(self, codings: Sequence[str]) -> None:
        """Undo these codings of the body as it is read."""
        for coding in reversed(codings):
            self._decoder = Decoder(self._receive if self._decoder is None else self._decoder.read, coding)

    def read(self, limit: int) -> bytes:
        if not self._rest:
            try:
                self._rest = memoryview(self._receive() if self._decoder is None else self._decoder.read())
            except zlib.error as error:
                raise requests.exceptions.ContentDecodingError(str(error), response=self._response) from error
            except EOFError:
                raise ShortBody(f"{self.url}: the body ended before what is packed in it did", url=self.url) from None
        some, self._rest = self._rest[:limit], self._rest[limit:]
        return bytes(some)

    def _receive(self) -> bytes:
        if self._chunks is None:
            self._insist_on_an_end()
            self._chunks = http.iter_chunks(self._response, chunk_size=_CHUNK, timeout=self._timeout, decode=False)
        try:
            chunk = next(self._chunks, b"")
        except requests.exceptions.SSLError as error:
            if _cause(error, ssl.SSLEOFError) is None:
                raise
            raise ShortBody(f"{self.url}: the connection was cut off before the body ended", url=self.url) from error
        self.coded_size += len(chunk)
        return chunk

    def _insist_on_an_end(self) -> None:
        # A body that lasts until the connection ends is complete only if TLS has ended, too (RFC 9112, 9.8).
        if content_length(self.headers) is None and "Transfer-Encoding" not in self.headers:
            sock: Any = socket_of(self._response.raw)
            if hasattr(sock, "suppress_ragged_eofs"):
                sock.suppress_ragged_eofs = False

    def into_file(self, fd: int, offset: int, limit: int) -> int:
        try:
            some = self.read(limit)
        except Interrupted as interrupted:
            interrupted.transferred = 0  # of this call
            raise
        rest = memoryview(some)
        try:
            while rest:
                rest = rest[pwrite(fd, rest, offset + len(some) - len(rest)) :]
        except OSError as error:
            refused = TargetError(f"cannot write: {error.strerror}")
            refused.transferred = len(some) - len(rest)
            raise refused from error
        return len(some)

    def close(self) -> None:
        self._decoder = None
        self._response.close()


def failure(error: Exception, url: str) -> DownloadError:
    """What requests, urllib3 or the system say of a transfer, as an error of the download."""
    said = _reason(error)
    if isinstance(error, requests.exceptions.TooManyRedirects):
        return RedirectRefused(f"{url}: {said}", url=url)
    if isinstance(error, requests.Timeout | TimeoutError):
        return TimedOut(f"{url}: nothing came in time: {said}", url=url)
    if isinstance(error, requests.exceptions.ContentDecodingError):
        return BadEncoding(f"{url}: {said}", url=url)
    incomplete = _cause(error, IncompleteRead)
    if incomplete is not None:
        early = f"{incomplete.expected:,} bytes " if isinstance(incomplete.expected, int) else ""
        return ShortBody(f"{url}: the body ended {early}too early", url=url)
    return ConnectionFailed(f"{url}: {said}", url=url)


def may_pass(error: DownloadError) -> bool:
    """Whether another try may go better."""
    if isinstance(error, BadStatus):
        return error.status in PASSING_STATUSES
    if isinstance(error, ConnectionFailed):
        # What is no URL will be none in a second, and whom one does not trust, one will not.
        if isinstance(error.__cause__, requests.exceptions.SSLError | ValueError):
            return False
        unknown = _cause(error, socket.gaierror)
        return unknown is None or unknown.errno == socket.EAI_AGAIN
    return isinstance(error, _MAY_PASS)


_MAY_PASS = (TimedOut, TooSlow, ShortBody, WrongRange)


def _cause(error: BaseException, kind: type[Any], which: Callable[[Any], bool] = lambda _: True) -> Any:
    """The error of that kind that led to this one: requests and urllib3 keep them in several places."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        each = waiting.pop()
        if not isinstance(each, BaseException) or id(each) in seen:
            continue
        if isinstance(each, kind) and which(each):
            return each
        seen.add(id(each))
        waiting += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]
    return None


def _reason(error: BaseException) -> str:
    """What happened, in the words of the system where it has any: those of urllib3 name its own objects."""

    def says(each: OSError) -> bool:
        # That there was nothing yet, before somebody waited for it, says nothing.
        return bool(each.strerror) and not isinstance(each, BlockingIOError)

    for kind in (socket.gaierror, ConnectionError, OSError):
        said = getattr(_cause(error, kind, says), "strerror", None)
        if said:
            return str(said)
    return str(error) or type(error).__name__
