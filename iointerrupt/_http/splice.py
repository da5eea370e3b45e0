"""`LeanAnswer`: the body of an answer of known length, moved from its socket to a file with as little in between as can be.

On Linux the kernel moves it (splice(2)): from the socket into a pipe, from the pipe into the file, and no byte comes into
this process. Where a file system or a socket does not take part in that, and over TLS, the bytes go through one buffer,
which is used again for each piece.

What has been taken from the socket is in the file before anything is raised or returned, so that what is counted is what is
there. A failure of the connection behind some bytes is kept for the next call, as the kernel itself does it.

Ownership: an answer, its connection, its pipe and its buffer belong to the one thread that reads it.
"""

from __future__ import annotations

import errno
import os
import ssl
from collections.abc import Mapping
from typing import Any, NoReturn

import requests
from urllib3.exceptions import IncompleteRead, ProtocolError, ReadTimeoutError, SSLError

from iointerrupt._errors import Interrupted
from iointerrupt._files.system import pwrite
from iointerrupt._http.body import _as_requests_says_it
from iointerrupt._http.pool import HTTPConnectionPool
from iointerrupt._sockets.socket import Socket
from iointerrupt._wait import READ, check

_MOST = 1 << 20  # of a pipe, where the system's limit is not lower, and of a buffer
_LEAST_SPLICED = 1 << 17  # for a body with fewer bytes to come, a pipe is not worth its making
_LARGEST_READ = 1 << 18  # more at a time is slower: see `body`; and records of TLS stay in the processor's cache
_SPLICE_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK if hasattr(os, "splice") else 0

# How a socket or a file says that it takes no part in splice; and a kernel, or a sandbox, that it has none.
_NO_SPLICE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})


class TargetError(Exception):
    """The file refused what was to be written into it. The OSError that says why is the `__cause__`.

    Attributes:
        transferred: how many bytes the call had written before.
    """

    transferred: int = 0


class Pipe:
    """What the kernel moves bytes through. It is empty between two calls."""

    def __init__(self) -> None:
        import fcntl  # noqa: PLC0415 - it is where splice is

        self.reader, self.writer = os.pipe()
        try:
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, _MOST)
        except OSError:
            pass  # the user's pipes hold as much as is granted to them: a small one does as well, more slowly

    def close(self) -> None:
        """Close both ends; a second time does nothing."""
        ends, self.reader, self.writer = {self.reader, self.writer} - {-1}, -1, -1
        for end in ends:
            os.close(end)

    def __del__(self) -> None:
        if hasattr(self, "writer"):  # else there was no descriptor for it
            self.close()


class LeanAnswer:
    """An answer whose body has a length and no coding. It is read by one thread, forward only, and must be closed.

    Args:
        pool: where the connection goes in the end.
        connection: what the answer came on; its socket has the stop and the timeout of the request.
        url, status, headers: see below.
        length: of the body, in bytes.
        first: what has come with the head.
        keep: whether the server leaves the connection open.

    Attributes:
        status: the status code.
        headers: those of the answer, found whatever their case.
        url: what was asked for.
    """

    def __init__(
        self,
        pool: HTTPConnectionPool,
        connection: Any,
        url: str,
        *,
        status: int,
        headers: Mapping[str, str],
        length: int,
        first: bytes | bytearray,
        keep: bool,
    ) -> None:
        self.status = status
        self.headers = headers
        self.url = url
        self._pool = pool
        self._connection = connection
        self._sock: Socket = connection.sock
        self._is_tls = isinstance(self._sock, ssl.SSLSocket)
        self._stop = self._sock.stop
        self._length = self._remaining = length
        self._first = memoryview(first)[:length]
        self._keep = keep and len(first) <= length
        self._splices = not self._is_tls and hasattr(os, "splice")
        self._pipe: Pipe | None = None
        self._buffer: memoryview | None = None
        self._failure: Exception | None = None

    def into_file(self, fd: int, offset: int, limit: int) -> int:
        """Wait for the next bytes of the body, and write `limit` of them at most to a file.

        Args:
            fd: the descriptor of a file in which one can seek; its own position is left alone.
            offset: where in the file they belong, in bytes from its beginning.
            limit: how many bytes at most, 1 or more.

        Returns:
            How many were written: those that had come, and those that came while these were written. 0 at the end of the body.

        Raises:
            TargetError: the file did not take them. All that is left to do with the answer is to close it.
            Interrupted: a stop was set. What was taken is in the file, and counted in `.transferred`; a later call goes on.
            ReadTimeout: nothing came in time. A later call goes on.
            requests.exceptions.ChunkedEncodingError: the body ended before its time, or the connection broke.
            requests.exceptions.SSLError: TLS found something wrong with what came.
            ValueError: the limit is less than 1, or the answer was closed.
        """
        want = self._wanted(limit)
        if not want:
            return 0
        if self._first:
            some = self._first[:want]
            _store(fd, some, offset)
            self._first = self._first[want:]
            self._remaining -= len(some)
            return len(some)
        moved = 0
        try:
            while moved < want and (taken := self._step(fd, offset + moved, want - moved, may_wait=not moved)):
                moved += taken
        except Interrupted as interrupted:
            interrupted.transferred = moved
            raise
        except TargetError as refused:
            refused.transferred += moved
            raise
        except (OSError, IncompleteRead) as error:
            if not moved:
                self._fail(error)
            self._failure = error
        return moved

    def read(self, limit: int) -> bytes:
        """Wait for the next bytes of the body, and return `limit` of them at most; none at its end.

        Raises:
            Interrupted: a stop was set; no byte is lost, and `.transferred` is 0.
            ReadTimeout, requests.RequestException, ValueError: as `into_file`.
        """
        want = self._wanted(limit)
        if not want:
            return b""
        if self._first:
            some = bytes(self._first[:want])
            self._first = self._first[want:]
        else:
            try:
                some = self._receive(min(want, _LARGEST_READ))
            except Interrupted as interrupted:
                interrupted.transferred = 0
                raise
            except (OSError, IncompleteRead) as error:
                self._fail(error)
        self._remaining -= len(some)
        return some

    def close(self) -> None:
        """Be done with it. The connection is used again if the body was read to its end and nothing followed, else closed."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self._pipe is not None:
            self._pipe.close()
        self._buffer = None
        # What OpenSSL has decrypted already, the pool's look at the descriptor would not see.
        if self._keep and not self._remaining and not (self._is_tls and connection.sock.pending()):
            connection.bind(
                self._pool.shared.stop
            )  # not to keep a request's stop, with its descriptor, while it is idle
            self._pool._put_conn(connection)
        else:
            connection.close()
            self._pool._put_conn(None)

    def _wanted(self, limit: int) -> int:
        if limit < 1:
            raise ValueError(f"limit must be 1 or more bytes, not {limit}")
        if self._remaining:
            if self._connection is None:
                raise ValueError("the answer was closed before the end of its body")
            if self._failure is not None:
                self._fail(self._failure)
            try:
                check(self._stop)
            except Interrupted as interrupted:
                interrupted.transferred = 0
                raise
        return min(limit, self._remaining)

    def _step(self, fd: int, offset: int, want: int, *, may_wait: bool) -> int:
        """Move what there is; how many bytes that was, 0 where there is nothing and it may not wait for any."""
        if self._is_tls and not may_wait:
            return 0  # it has gone on for as long as there was something
        check(self._stop)
        try:
            taken = self._pass_on(fd, offset, want)
        except BlockingIOError:
            if not may_wait:
                return 0
            sock = self._sock
            taken = sock._ii_retry(READ, self._stop, sock._ii_deadline(), lambda _: self._pass_on(fd, offset, want))
        self._check_end(taken)
        self._remaining -= taken
        return taken

    def _check_end(self, received: object) -> None:
        if not received:
            raise IncompleteRead(self._length - self._remaining, self._remaining)

    def _pass_on(self, fd: int, offset: int, want: int) -> int:
        """Move what there is from the socket to the file; how many bytes that was, 0 at the end of the stream.

        Raises:
            BlockingIOError: there is nothing.
        """
        if self._splices and (self._pipe is not None or self._remaining >= _LEAST_SPLICED):
            try:
                if self._pipe is None:
                    self._pipe = Pipe()
                taken = os.splice(self._sock.fileno(), self._pipe.writer, want, flags=_SPLICE_FLAGS)
            except BlockingIOError:
                raise
            except OSError as error:
                if self._pipe is not None and error.errno not in _NO_SPLICE:
                    raise
                self._splices = False  # the socket has kept everything; or there is no descriptor for a pipe
            else:
                self._drain(self._pipe.reader, fd, offset, taken)
                return taken
        buffer = self._buffer_of(want)
        taken = self._sock.recv_into(buffer) if self._is_tls else self._sock._ii_receive_now(buffer)
        _store(fd, buffer[:taken], offset)
        return taken

    def _drain(self, pipe: int, fd: int, offset: int, count: int) -> None:
        """Move all that is in the pipe to the file, whatever the stops say."""
        done = 0
        while done < count and self._splices:
            try:
                done += os.splice(pipe, fd, count - done, offset_dst=offset + done)
            except OSError as error:
                if error.errno not in _NO_SPLICE:
                    raise _refused(error, done) from error
                self._splices = False
        while done < count:
            some = os.read(pipe, count - done)
            _store(fd, memoryview(some), offset + done, before=done)
            done += len(some)

    def _receive(self, want: int) -> bytes:
        if self._is_tls:
            buffer = self._buffer_of(want)  # a recv() would bring one record
            some = bytes(buffer[: self._sock.recv_into(buffer)])
        else:
            some = self._sock.recv(want)
        self._check_end(some)
        return some

    def _buffer_of(self, want: int) -> memoryview:
        if self._buffer is None:
            self._buffer = memoryview(bytearray(min(self._remaining, _LARGEST_READ if self._is_tls else _MOST)))
        return self._buffer[:want]

    def _fail(self, error: Exception) -> NoReturn:
        """Raise what `iter_chunks` would."""
        said: Exception
        if isinstance(error, TimeoutError):
            said = ReadTimeoutError(self._pool, "", "Read timed out.")
        elif isinstance(error, ssl.SSLError):
            said = SSLError(error)
        else:
            said = ProtocolError(f"Connection broken: {error!r}", error)
        response = requests.Response()
        response.status_code, response.url = self.status, self.url
        response.headers.update(self.headers)
        raise _as_requests_says_it(said, response) from error


def _store(fd: int, octets: memoryview, offset: int, *, before: int = 0) -> None:
    done = 0
    try:
        while done < len(octets):
            done += pwrite(fd, octets[done:] if done else octets, offset + done)
    except OSError as error:
        raise _refused(error, before + done) from error


def _refused(error: OSError, transferred: int) -> TargetError:
    refused = TargetError(f"cannot write: {error.strerror}")
    refused.transferred = transferred
    return refused
