"""Bodies for mocked HTTP: files that give their chunks one by one, and then stall, stop, fail or end.

`responses` passes on one kind of stream, an `io.BufferedReader`, and so these are: the library's own, over a raw file that
gives one chunk for each read. Whoever reads them as a response's body gets what a socket would give: with `http.iter_chunks`
each chunk by itself, with `iter_content` and `.content` as many as they ask for; and an interrupted read says in `.partial`
what it had taken, and goes on after that.

One body serves one response. `responses` keeps what it was given and hands the same object to each response that it makes,
and urllib3 closes it when it has been read, and takes a closed file for one that is empty. So that nobody tests an empty
body without knowing, a closed one refuses to be made a response of (`Body.__bool__`).

Ownership: one thread at a time reads a body, as with every buffered file of the library.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from iointerrupt._stop import StopEvent, as_stop, check_timeout
from iointerrupt._streams.buffered import BufferedReader
from iointerrupt._types import StopLike
from iointerrupt._wait import check, deadline_of, stops, wait_set

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def chunked_body(chunks: Iterable[bytes]) -> io.BufferedReader:
    """A body that comes in these chunks, and ends.

        responses.get(url, body=chunked_body([b"0123", b"4567"]), headers={"Content-Length": "8"})

    Args:
        chunks: what each read gives at most. An iterator is asked for a chunk when that is read; what it raises is what
            the read raises, and each further one.

    Raises:
        TypeError, ValueError: a chunk is not bytes, or is empty. A list or a tuple is looked at now, anything else when it
            is read.

    Where `Content-Length` says more than there is, the body is a truncated one, and the error that of requests.

    This holds for the other bodies here, too: a body is for one response, as `responses` gives the same object to each. For
    more than one request, register as many, or a callback that makes them:

        responses.add_callback("GET", url, lambda request: (200, {}, chunked_body([b"0123", b"4567"])))
    """
    return Body(_Chunks(chunks))


def stalling_body(chunks: Iterable[bytes], *, stop: StopLike = None, timeout: float | None = None) -> io.BufferedReader:
    """A body that comes in these chunks, and then blocks, as if the server sent nothing more.

    Args:
        chunks: as for `chunked_body`.
        stop: what ends the wait, besides the current stop and those of the session and of the iteration
            (`http.iter_chunks`) that read it.
        timeout: seconds after which the wait is a TimeoutError, as on a socket. `http.iter_chunks(timeout=...)` sets it as
            well, whereas the timeout of a request is not told to what is mocked.

    Raises:
        TypeError, ValueError: as `chunked_body`; or `stop` or `timeout` cannot be what it is.

    Reading it raises `Interrupted` at a stop, and a RuntimeError, rather than to hang, where it comes to the stall and
    there is nothing that could ever end that.
    """
    return Body(_Stalling(chunks, stop, timeout))


def stopping_body(chunks: Iterable[bytes], stop: StopLike, *, after: int, reason: object = None) -> io.BufferedReader:
    """A body that comes in these chunks, and sets a stop as it gives a certain one: a stop at chunk k, without a thread.

    Args:
        chunks: as for `chunked_body`.
        stop: what to set; a `StopEvent`, or another event.
        after: the number of the chunk, from 1, with which the stop is set; 0 to set it before the first.
        reason: what to set it with.

    Raises:
        TypeError, ValueError: as `chunked_body`; `stop` cannot be set; or `after` is no number of a chunk. Where the chunks
            are no list or tuple, that is seen at their end.

    It goes on to the last chunk for a reader that does not obey the stop.
    """
    return Body(_Stopping(chunks, stop, after, reason))


def failing_body(chunks: Iterable[bytes], error: BaseException) -> io.BufferedReader:
    """A body that comes in these chunks, and then raises.

    Args:
        chunks: as for `chunked_body`.
        error: what to raise, at the read that follows the last chunk, and at each further one. For a connection that was
            lost, it is a ConnectionResetError: what comes out of requests is then what it makes of that.

    Raises:
        TypeError, ValueError: as `chunked_body`; or `error` is not an exception.
    """
    return Body(_Failing(chunks, error))


class Body(BufferedReader):
    """What the functions here return."""

    __slots__ = ()

    def settimeout(self, seconds: float | None) -> None:
        """Set the timeout of a stall, as that of a socket."""
        self.raw.timeout = seconds

    def __bool__(self) -> bool:
        # urllib3 asks this of every body of which it makes a response; see the module's docstring.
        if self.closed:
            raise ValueError(
                "this body has been read, or was closed, and a body is for one response: register one for each request, or"
                " a callback that makes them, as with responses.add_callback('GET', url, lambda request: (200, {}, body()))"
            )
        return True


class _Chunks(io.RawIOBase):
    """The raw file under a body: one chunk, or what is left of it, for each read."""

    stop: StopEvent | None = None
    timeout: float | None = None

    def __init__(self, chunks: Iterable[bytes]) -> None:
        if isinstance(chunks, (str, bytes, bytearray, memoryview)) or not isinstance(chunks, Iterable):
            raise TypeError(f"chunks must be an iterable of bytes, such as a list, not {type(chunks).__name__}")
        self._listed = len(chunks) if isinstance(chunks, (list, tuple)) else None
        if self._listed is not None:
            chunks = list(_checked(chunks))
        self._chunks = _checked(chunks)
        self._rest = memoryview(b"")
        self._failure: BaseException | None = None
        self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Give the next chunk, or as much of it as there is room for; 0 at the end of the body."""
        if self.closed:
            raise ValueError("I/O operation on closed file")
        check(self.stop)
        if not self._rest:
            self._rest = memoryview(self._next())
        with memoryview(buffer) as view, view.cast("B") as octets:
            size = min(len(octets), len(self._rest))
            octets[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        if size and not self._rest:
            self._given += 1
            self._has_given()
        return size

    def _next(self) -> bytes:
        if self._failure is not None:
            raise self._failure.with_traceback(None)
        try:
            chunk = next(self._chunks, b"")
        except BaseException as error:
            self._failure = (
                error  # a generator that has raised has ended, which must not be taken for the end of the body
            )
            raise
        if not chunk:
            self._has_ended()
        return chunk

    def _has_given(self) -> None:
        """Called when a chunk has been given to its last byte."""

    def _has_ended(self) -> None:
        """Called at each read after the last chunk."""


def _checked(chunks: Iterable[Any]) -> Iterator[bytes]:
    for number, chunk in enumerate(chunks, 1):
        if not isinstance(chunk, bytes):
            raise TypeError(f"chunks must be bytes, and chunk {number} is of type {type(chunk).__name__}: {chunk!r}")
        if not chunk:
            raise ValueError(f"chunk {number} is empty: to a reader that would be the end of the body")
        yield chunk


class _Stalling(_Chunks):
    def __init__(self, chunks: Iterable[bytes], stop: StopLike, timeout: float | None) -> None:
        super().__init__(chunks)
        self.stop = as_stop(stop)
        if timeout is not None:
            check_timeout(timeout)
        self.timeout = timeout

    def _has_ended(self) -> None:
        deadline = deadline_of(self.timeout)
        if deadline is None and not stops(self.stop):
            raise RuntimeError(
                "this body has come to its stall, and nothing can ever end that: read it with a stop"
                " (http.Session(stop=...), http.iter_chunks(response, stop=...), a block of use_stop), or give"
                " stalling_body a stop= or a timeout="
            )
        wait_set(StopEvent(), self.stop, deadline)  # nobody sets that


class _Stopping(_Chunks):
    def __init__(self, chunks: Iterable[bytes], stop: StopLike, after: int, reason: object) -> None:
        super().__init__(chunks)
        followed = as_stop(stop)
        if followed is None or not callable(getattr(stop, "set", None)):
            raise TypeError(f"stop must be a stop that can be set, such as a StopEvent, not {stop!r}")
        if isinstance(after, bool) or not isinstance(after, int):
            raise TypeError(f"after must be an int, not {type(after).__name__}")
        if after < 0:
            raise ValueError(f"after must be 0 or more, not {after}")
        self._to_set = followed
        self._after = after
        self._reason = reason
        if self._listed is not None:
            self._check_reached(self._listed)

    def _next(self) -> bytes:
        if self._after == self._given == 0:
            self._to_set.set(self._reason)
            check(self.stop)
        return super()._next()

    def _has_given(self) -> None:
        if self._given == self._after:
            self._to_set.set(self._reason)

    def _has_ended(self) -> None:
        self._check_reached(self._given)

    def _check_reached(self, count: int) -> None:
        if self._after > count:
            raise ValueError(f"after is {self._after}, and there are {count} chunks: the stop would never be set")


class _Failing(_Chunks):
    def __init__(self, chunks: Iterable[bytes], error: BaseException) -> None:
        super().__init__(chunks)
        if not isinstance(error, BaseException):
            raise TypeError(f"error must be an exception, such as ConnectionResetError(), not {error!r}")
        self._error = error

    def _has_ended(self) -> None:
        raise self._error.with_traceback(None)  # else that would grow with each read, and keep its frames
