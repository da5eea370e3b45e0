"""What one read of a body brings: `read1`, and `DirectReader`, which reads a plain body of known length from its socket.

The layers of urllib3 and http.client cost as much as the transfer itself where that is fast. `DirectReader` keeps
count for them, and leaves them the first bytes, which may be in http.client's buffer, and the last, after which urllib3
releases the connection.

A chunk is filled with what has arrived, and no longer: the first read waits, the others do not. The filling is done by
the C code of `io.BufferedReader.read`, which reads into the very bytes object that it returns, and returns what it has
when the raw file has no more (None).

Ownership: as with the response that it reads, one thread at a time.
"""

from __future__ import annotations

import http.client
import io
from typing import TYPE_CHECKING, Any

from urllib3.exceptions import IncompleteRead

from iointerrupt._errors import Interrupted
from iointerrupt._sockets.socket import Socket

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def is_from_network(raw: Any) -> bool:
    """Whether a response's `raw` is urllib3's, and reads what http.client received; not a mocked one."""
    return isinstance(getattr(raw, "_original_response", None), http.client.HTTPResponse)


class DirectReader:
    """A function that returns the next bytes of the body, `size` at most, and none at its end.

    Args:
        raw: urllib3's response, with neither a transfer coding nor a content coding to undo, and a length that http.client knows as well.
        sock: the socket that it comes from.
        size: bytes.
    """

    def __init__(self, raw: Any, sock: Socket, size: int) -> None:
        self._raw = raw
        self._size = size
        self._arrived = _Arrived(sock)
        self._file = io.BufferedReader(self._arrived, 1)  # what is read goes around a buffer that small
        self._position = -1  # up to where this one has read the body
        self._buffered = 0  # how many bytes may be in the buffer of http.client there

    def __call__(self) -> bytes:
        raw = self._raw
        chunk = b""
        if raw.tell() != self._position:
            self._buffered = io.DEFAULT_BUFFER_SIZE
        if raw.length_remaining > self._size and not self._buffered:
            self._arrived.may_wait = True
            with raw._error_catcher():  # it says in urllib3's words what happens, and closes the connection
                chunk = self._file.read(self._size)
            raw.length_remaining -= len(chunk)
            raw._fp_bytes_read += len(chunk)
            raw._fp.length -= len(chunk)
        if not chunk:
            # The first bytes, the last, those after somebody else has read some, or an end that comes too early.
            chunk = read1(raw, self._size, decode_content=False)
            # It empties the buffer before it reads more, which then goes around it.
            self._buffered = 0 if len(chunk) < self._size else max(0, self._buffered - len(chunk))
        self._position = raw.tell()
        return chunk


def read1(raw: Any, size: int, *, decode_content: bool) -> bytes:
    """What one read of urllib3's response brings, `size` bytes at most, and none at its end.

    That is its method `read1`, or for a urllib3 that has none (before 2.2) what that does.
    """
    if hasattr(raw, "read1"):
        chunk: bytes = raw.read1(size, decode_content=decode_content)
        return chunk
    decoded = raw._decoded_buffer
    while not len(decoded):
        with raw._error_catcher():
            data = b"" if raw._fp.closed else raw._fp.read1(size)
            if not data and raw.length_remaining:
                raise IncompleteRead(raw.tell(), raw.length_remaining)
            if not data or raw.length_remaining == len(data):
                raw._fp.close()
        raw._fp_bytes_read += len(data)
        if raw.length_remaining is not None:
            raw.length_remaining -= len(data)
        raw._init_decoder()
        decoded.put(raw._decode(data, decode_content, flush_decoder=not data))
        if not data:
            break
    return decoded.get(min(size, len(decoded))) if len(decoded) else b""


class _Arrived(io.RawIOBase):
    """Waits for bytes once, and has then only those that are there already."""

    def __init__(self, sock: Socket) -> None:
        self._sock = sock
        self._error: OSError | None = None
        self.may_wait = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        if self.may_wait:
            self.may_wait = False
            if self._error is not None:
                raise self._error
            return self._sock.recv_into(buffer)
        try:
            return self._sock._ii_receive_now(buffer)
        except (BlockingIOError, Interrupted):
            return None  # a stop that is set will be so at the next read
        except OSError as error:
            self._error = error  # the system tells it once, and there are bytes to return first
            return None
