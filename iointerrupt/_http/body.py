"""`iter_chunks`: the body of any `requests.Response`, as it comes in, until a stop.

Three kinds of response come here, and differ in how a blocked read is ended:

- from our `Session` or `Adapter`: the socket below is a `sockets.Socket` and sees its own stop and the current one; a
  stop given here is added to the current one for each read;
- from somebody else's session: the socket below is a plain one. When a stop fires, a callback shuts its receiving side
  down (`_Shutter`), which ends the read. What that looks like depends on the body: an error for one with a length, but
  the regular end of one that lasts until the connection closes. So what a read returns after that is not believed
  before the stop has been asked;
- mocked or cached, from no socket: what is read sees all of these stops as the current one (`_http.mocked`), and may wait
  for them; or read already, when it is sliced. In any case it stops between two chunks.

Ownership: a response is read by one thread. The callback runs in the thread that sets the stop and touches nothing but
the socket, until the connection goes back to its pool, where it may be another response's next. `_Shutter` is therefore
called off first, and `Registration.cancel` returns when it is certain not to run any more.
"""

from __future__ import annotations

import functools
import io
import socket
from collections.abc import Callable, Generator, Iterator
from threading import get_ident
from typing import TYPE_CHECKING, Any, NoReturn, cast

import requests
from urllib3.exceptions import DecodeError, ProtocolError, ReadTimeoutError, SSLError

from iointerrupt import sockets
from iointerrupt._errors import Interrupted, ResourceBusy
from iointerrupt._http.direct import DirectReader, is_from_network, read1
from iointerrupt._http.idle import Shared
from iointerrupt._http.mocked import Under, gives_what_comes, obey
from iointerrupt._http.pool import innermost
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.callbacks import Registration
from iointerrupt._stop import StopEvent, as_stop, check_timeout
from iointerrupt._types import StopLike
from iointerrupt._wait import check, stops

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# More at a time is slower: the kernel has to find fresh memory for it, and the processor's cache does not hold it.
_LARGEST_READ = 1 << 18


# The attribute of a response that says what its adapter shares.
_SHARED = "_iointerrupt_shared"


class ReadTimeout(requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError):
    """A body came to a halt for longer than the timeout.

    requests raises `ConnectionError` for that in `iter_content`, and `ReadTimeout` where headers fail to come; code that
    expects either of them is served.
    """


class Chunks(Iterator[bytes]):
    """What `iter_chunks` returns. It never takes a failure for the end: asked again, it raises the same again.

    What a signal handler raises in it, such as `KeyboardInterrupt`, breaks the reading off, since bytes may have been lost
    with it: the response is closed, and whoever asks again gets a `requests.exceptions.StreamConsumedError`.

    It serves one thread at a time. A second one gets `ResourceBusy`, of which the first notices nothing.
    """

    def __init__(self, chunks: Generator[bytes, None, None], response: requests.Response, ends: Stops) -> None:
        self._chunks: Any = chunks  # whether a generator is running is not in its type
        self._response = response
        self._ends = ends
        self._failure: Exception | None = None
        self._inside: dict[None, int] = {}  # the thread that is in a call, by None: each step of a dict is atomic

    @property
    def stop(self) -> StopEvent | None:
        """The own stop, besides that of the session; any stop that `as_stop` accepts may be set."""
        return self._ends.own

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._ends.own = as_stop(stop)

    def __next__(self) -> bytes:
        self._enter()
        if self._failure is not None:
            self._leave()
            raise _again(self._failure)
        try:
            chunk: bytes = next(self._chunks)
            self._leave()
            return chunk  # in here, where a signal handler may raise as well
        except BaseException as error:
            if not isinstance(error, StopIteration):
                self._break_off(error)
            self._leave()
            raise

    def close(self) -> None:
        """End the iteration, and close the response: its connection is not used again, unless the body was at its end.

        Raises:
            ResourceBusy: another call is reading from the iterator.
        """
        self._enter()
        try:
            self._chunks.close()
            self._response.close()
        finally:
            self._leave()

    def _enter(self) -> None:
        # A signal handler may raise before a call can say that it leaves: what a thread finds of its own counts only in the
        # generator, into which a handler may have come back.
        if self._inside.setdefault(None, get_ident()) != get_ident() or self._chunks.gi_running:
            raise ResourceBusy("another call is reading this body")

    def _leave(self) -> None:
        self._inside.pop(None, None)

    def _break_off(self, error: BaseException) -> None:
        self._failure = (
            _again(error)
            if isinstance(error, Exception)
            else requests.exceptions.StreamConsumedError(
                f"the reading of the body was broken off by {type(error).__name__}"
            )
        )
        # What has failed by itself has closed all; not what a signal handler has raised, be it when there was a chunk already.
        if self._chunks.gi_frame is not None or not isinstance(error, Exception):
            self._chunks.close()
            _close(self._response)


def _again(error: Exception) -> Exception:
    # What an Interrupted says of one operation, a caller may replace by what it means for its own.
    if not isinstance(error, Interrupted):
        return error
    same = type(error)(error.reason)  # what `copy.copy` does, which takes longer than all else of a stop here
    vars(same).update(vars(error))
    return same


def iter_chunks(
    response: requests.Response,
    *,
    stop: StopLike = None,
    chunk_size: int = 1 << 20,
    timeout: float | None = None,
    decode: bool = True,
) -> Chunks:
    """Iterate over the body of a response, as `response.iter_content` does, until a stop.

    Args:
        response: any `requests.Response`: of a `Session` here, of any other (made with `stream=True`), mocked, or read
            already.
        stop: what ends the reading, besides the current stop and, where the response comes from a `Session` or an
            `Adapter`, theirs.
        chunk_size: bytes; how long a chunk may be. A chunk is what has arrived: nothing is held back until a chunk is
            full, and none is empty.
        timeout: seconds to wait for the next bytes, more than 0; None for the timeout of the request. A body without a
            socket is told it if it has a `settimeout`, as those of `testing` do.
        decode: whether to undo the `Content-Encoding`, gzip for example, as `iter_content` does. What a transfer coding
            (`chunked`) adds is undone in any case.

    Raises:
        Interrupted: a stop was set. The response is closed, and its connection is not used again. `.transferred` is how
            many bytes came out of this iterator.
        requests.exceptions.ChunkedEncodingError: the body ended before its time, or its framing is wrong.
        ReadTimeout: the timeout passed; it is the `ReadTimeout` and the `ConnectionError` of requests at once.
        requests.exceptions.StreamConsumedError: the body has been read, and not kept; or it was closed before its end, as
            urllib3 does when a `chunked` body's `iter_content` is given up.
        requests.exceptions.RequestException: what else `iter_content` raises.
        ResourceBusy: another thread is reading from the iterator.
        TypeError, ValueError: at the call; an argument cannot be what it is.

    The response of somebody else's session is stopped by shutting its socket down. On a mocked one, and one that was
    read already, the stop is looked at between two chunks, and so is the stop that the `Session` or the `Adapter` has by
    then; for a mocked body that can be interrupted, such as a file of this library, they are the current stop while it
    is read. After the last chunk the connection is back in its pool.
    """
    if not isinstance(response, requests.Response):
        raise TypeError(f"response must be a requests.Response, not {type(response).__name__}")
    check_chunk_size(chunk_size)
    if timeout is not None:
        check_wait(timeout)
    ends = Stops(response, as_stop(stop))
    return Chunks(_chunks(response, ends, chunk_size, timeout, decode=decode), response, ends)


def check_wait(seconds: float) -> None:
    """Raise if it cannot be the seconds to wait for a network.

    0 cannot: it makes a socket non-blocking, and what that says when nothing has arrived yet is to http.client the end.
    """
    if check_timeout(seconds) == 0:
        raise ValueError("timeout must be more than 0 seconds")


def check_chunk_size(chunk_size: int) -> None:
    """Raise if it cannot be a size of chunks."""
    if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
        raise TypeError(f"chunk_size must be an int, not {type(chunk_size).__name__}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size must be 1 or more, not {chunk_size}")


def has_come_through(response: requests.Response) -> bool:
    """Whether the response knows of an adapter of ours."""
    return _SHARED in vars(response)


def came_through(response: requests.Response, shared: Shared) -> None:
    """Let the response know what its adapter shares: whoever iterates over it then stops on the adapter's stop too."""
    vars(response)[_SHARED] = shared
    if not is_from_network(response.raw):
        obey(response.raw, shared)


class Stops:
    """What ends an iteration besides the current stop.

    Args:
        response: the response; if it came through an `Adapter`, that one's stop counts, as it is then.
        own: the stop that was given to the iteration.
    """

    __slots__ = ("_adapter", "own")

    def __init__(self, response: requests.Response, own: StopEvent | None) -> None:
        self.own: StopEvent | None = own
        self._adapter: Shared = vars(response).get(_SHARED) or Shared()

    def check(self) -> None:
        check(self.own)
        of_adapter = self._adapter.stop
        if of_adapter is not None:
            check(of_adapter)


def _chunks(
    response: requests.Response, ends: Stops, chunk_size: int, timeout: float | None, *, decode: bool
) -> Generator[bytes, None, None]:
    # A plain function around the generator, so that what cannot work fails at the call.
    content = response._content  # requests keeps to itself whether it was read, and what
    if isinstance(content, bytes):
        if not decode and response.headers.get("Content-Encoding"):
            raise requests.exceptions.StreamConsumedError(
                "the body has been decoded, and its encoded form was not kept"
            )
        return _slices(content, ends, chunk_size)
    if response._content_consumed:  # type: ignore[attr-defined]  # as above
        raise requests.exceptions.StreamConsumedError
    _check_open(response.raw)
    return _stream(response, ends, chunk_size, timeout, decode=decode)


def _is_closed(raw: Any) -> bool:
    # Not whether urllib3 calls it closed: it is that to urllib3, too, when http.client has come to the end by itself.
    return is_from_network(raw) and bool(raw._original_response.closed)


def _check_open(raw: Any) -> None:
    """Raise if the body was closed, and not because it has been read to its end.

    urllib3 and http.client take a closed body for one that has ended, unless it has a length.
    """
    if _is_closed(raw) and raw.length_remaining != 0 and raw.chunk_left != 0:
        raise requests.exceptions.StreamConsumedError(
            "the body has been read by somebody else and not kept, or was given up before its end"
        )


def _slices(content: bytes, ends: Stops, chunk_size: int) -> Generator[bytes, None, None]:
    for start in range(0, len(content), chunk_size):
        try:
            ends.check()
        except Interrupted as interrupted:
            interrupted.transferred = start
            raise
        yield content[start : start + chunk_size]


def _stream(
    response: requests.Response, ends: Stops, chunk_size: int, timeout: float | None, *, decode: bool
) -> Generator[bytes, None, None]:
    sock = socket_of(response.raw)
    if timeout is not None:
        settimeout = getattr(getattr(response.raw, "_fp", None) if sock is None else sock, "settimeout", None)
        if settimeout is not None:
            settimeout(timeout)
    end = _ways_to_end(response.raw, sock)
    moved = 0
    try:
        _check_open(response.raw)  # again, as the call was some time ago
        read = _reader(response.raw, sock, chunk_size, decode=decode)
        while True:
            ends.check()
            chunk = end.read(read, ends.own)
            if not chunk:
                break
            moved += len(chunk)
            closed = _is_closed(response.raw)
            yield chunk
            if not closed:
                _check_open(response.raw)
    except Interrupted as error:
        end.call_off()
        _close(response)
        error.transferred = moved
        raise
    except Exception as error:
        end.call_off()
        _close(response)
        failure = _as_requests_says_it(error, response)
        if failure is error:
            raise
        raise failure from error
    finally:
        end.call_off()
    response._content_consumed = True  # type: ignore[attr-defined]  # what iter_content leaves behind as well


def _reader(raw: Any, sock: Any, chunk_size: int, *, decode: bool) -> Callable[[], bytes]:
    """A function that returns the next bytes of the body, and none at its end."""
    from_network = is_from_network(raw)
    # A chunk (of the transfer coding) that `stream` has begun is one that it has to end: it counts by itself.
    # And http.client undoes no chunks where another transfer coding is named beside them, which urllib3's `stream` does.
    whole = from_network and raw.chunked == bool(raw._original_response.chunked) and not raw.chunk_left
    if whole if from_network else gives_what_comes(raw):
        # Without an encoding to undo, "decoding" would copy each chunk through a buffer.
        decode = decode and bool(raw.headers.get("Content-Encoding"))
        size = min(chunk_size, _LARGEST_READ) if from_network else chunk_size
        # http.client knows none of lengths that urllib3 makes out, such as "5, 5".
        left = (from_network and raw._original_response.length is not None and raw.length_remaining) or 0
        if not decode and type(sock) is sockets.Socket and left > size:
            return DirectReader(raw, sock, size)
        return functools.partial(read1, raw, size, decode_content=decode)
    if hasattr(raw, "stream"):
        # Some stand-ins for urllib3's response yield empty chunks, which are not the end.
        chunks = filter(None, raw.stream(chunk_size, decode_content=decode))
        return functools.partial(next, chunks, b"")
    return functools.partial(raw.read, chunk_size)


def socket_of(raw: Any) -> Any:
    """The socket that the body comes from; None if it comes from elsewhere, or has been read."""
    sock = innermost(getattr(getattr(raw, "connection", None), "sock", None))
    if sock is None:
        # Of a body that lasts until the connection closes, http.client has let the socket go: only its file has it yet.
        file = getattr(getattr(getattr(raw, "_fp", None), "fp", None), "raw", None)
        sock = innermost(getattr(file, "_sock", None))
    return sock if isinstance(sock, socket.socket) else None


class _CurrentStop:
    """A body from a socket of ours, which sees its own stop and the current one; or from no socket."""

    def __init__(self) -> None:
        self._under = Under()

    def read(self, read: Callable[[], bytes], own: StopEvent | None) -> bytes:
        """Read the next bytes, unless `own` or the current stop ends that."""
        return read() if own is None else cast("bytes", self._under(own, read))

    def call_off(self) -> None:
        """Leave the connection alone from now on."""


class _Shutter(_CurrentStop):
    """A body from a plain socket, which is shut down when a stop fires."""

    def __init__(self, raw: Any, sock: socket.socket) -> None:
        self._raw = raw
        self._sock = sock
        self._shut = False
        self._is_released = False  # the socket may be another response's by now
        self._stops: tuple[StopEvent, ...] = ()
        self._registrations: list[Registration] = []
        if hasattr(raw, "release_conn"):
            # Instead of the method, on this one object: urllib3 releases the connection in the read that ends the body.
            vars(raw)["release_conn"] = self._release

    def read(self, read: Callable[[], bytes], own: StopEvent | None) -> bytes:
        watched = () if self._is_released else stops(own)
        if watched != self._stops:
            self._cancel()
            self._stops = watched
            self._registrations = [stop.on_set(self._shut_down) for stop in watched]
        try:
            with Blocked(watched):
                chunk = read()
        except Exception:
            if self._shut:
                self._interrupt(own)
            raise
        if not chunk and self._shut:
            self._interrupt(own)
        return chunk

    def call_off(self) -> None:
        self._cancel()
        vars(self._raw).pop("release_conn", None)

    def _cancel(self) -> None:
        for registration in self._registrations:
            registration.cancel()
        self._registrations, self._stops = [], ()

    def _release(self) -> None:
        self._is_released = True
        self.call_off()
        self._raw.release_conn()

    def _shut_down(self) -> None:
        self._shut = True
        try:
            # Not SSLSocket's method of that name: it ends the decryption too, and a reader between two reads would get
            # what has arrived as it is.
            socket.socket.shutdown(self._sock, socket.SHUT_RD)
        except OSError:
            pass  # it is not connected any more, so the reader sees that as well

    def _interrupt(self, own: StopEvent | None) -> NoReturn:
        check(own)
        raise Interrupted  # the stop has been cleared since


def _ways_to_end(raw: Any, sock: socket.socket | None) -> _CurrentStop:
    return _CurrentStop() if sock is None or isinstance(sock, sockets.Socket) else _Shutter(raw, sock)


def _close(response: requests.Response) -> None:
    # A stand-in for urllib3's response may lack what requests closes it with.
    if hasattr(response.raw, "close"):
        response.close()


def _as_requests_says_it(error: Exception, response: requests.Response) -> Exception:
    # As in `iter_content`, but for the timeout.
    kinds: dict[type[Exception], type[requests.RequestException]] = {
        ProtocolError: requests.exceptions.ChunkedEncodingError,
        DecodeError: requests.exceptions.ContentDecodingError,
        ReadTimeoutError: ReadTimeout,
        SSLError: requests.exceptions.SSLError,
    }
    for kind, said in kinds.items():
        if isinstance(error, kind):
            return said(error, request=response.request, response=response)
    if isinstance(error, ValueError) and (getattr(response.raw, "chunk_left", None) or 0) < 0:
        # A size that urllib3 hands on to whoever reads.
        return requests.exceptions.ChunkedEncodingError(
            "a chunk of a negative size", request=response.request, response=response
        )
    return error


class BodyFile(io.RawIOBase):
    """A response's body as a raw file; see `http.open`. Whoever closes it closes what it was opened with."""

    def __init__(self, chunks: Chunks, close: Callable[[], object]) -> None:
        self._chunks = chunks
        self._close = close
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Read what is there, or wait for the next bytes; 0 at the end of the body.

        Raises:
            Interrupted, requests.exceptions.RequestException: as `iter_chunks`. No byte is lost with it.
        """
        if self.closed:
            raise ValueError("I/O operation on closed file")
        if not self._rest:
            try:
                self._rest = memoryview(next(self._chunks, b""))
            except Interrupted as interrupted:
                interrupted.transferred = 0  # into this buffer
                raise
        with memoryview(buffer) as view, view.cast("B") as octets:
            size = min(len(octets), len(self._rest))
            octets[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size

    def close(self) -> None:
        """Close the response, and the session where it was made for this."""
        if not self.closed:
            try:
                self._close()
            finally:
                super().close()
