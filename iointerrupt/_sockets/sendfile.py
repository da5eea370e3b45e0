"""The two ways of `Socket.sendfile`: by the kernel (`os.sendfile`), and by reading and sending chunks.

`socket.socket.sendfile` tries the first, which raises `GiveUp` where it cannot be done, and then the second. Both leave the
file's position behind what was sent, however they end: a call that was stopped is gone on with at `offset=file.tell()`. (An
offset of 0 is the beginning of the file to the first, and where it stands to the second; as in the standard library.)
"""

from __future__ import annotations

import functools
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from iointerrupt._errors import Interrupted

if TYPE_CHECKING:
    from iointerrupt._sockets.socket import Socket

GiveUp: type[Exception] = socket._GiveupOnSendfile  # type: ignore[attr-defined]  # what socket.socket.sendfile catches

_CHUNK = 1 << 16


def send_by_kernel(sock: Socket, file: Any, offset: int, count: int | None) -> int:
    """Have the kernel send a regular file; return how many bytes it sent."""
    sock._check_sendfile_params(file, offset, count)  # type: ignore[attr-defined]  # the standard class's own checks
    try:
        source = file.fileno()
        is_empty = not os.fstat(source).st_size
    except (AttributeError, OSError) as error:  # among the latter is io.UnsupportedOperation
        raise GiveUp(error) from None
    if is_empty:
        return 0
    if sock.gettimeout() == 0.0:
        raise ValueError("non-blocking sockets are not supported")
    if not hasattr(os, "sendfile") or os.get_blocking(sock.fileno()):
        raise GiveUp("os.sendfile would wait in the kernel")
    size = count or sys.maxsize

    def send(sent: int) -> int | None:
        try:
            # More than 2 GiB does not fit the system call's count.
            return os.sendfile(sock.fileno(), source, offset + sent, min(size - sent, 2**30)) or None
        except BlockingIOError:
            raise
        except OSError as error:
            if sent:
                raise
            raise GiveUp(error) from None  # not a file that the kernel can send by itself

    at_end = functools.partial(_seek_behind, file, offset)
    return sock._ii_send_all(send, size, timeout_per_wait=True, at_end=at_end)


def send_by_chunks(sock: Socket, file: Any, offset: int, count: int | None) -> int:
    """Read and send; return how many bytes were sent.

    Raises:
        Interrupted: where the file cannot seek, what was read of it and not sent is in `partial`.
    """
    sock._check_sendfile_params(file, offset, count)  # type: ignore[attr-defined]  # as above
    if sock.gettimeout() == 0.0:
        raise ValueError("non-blocking sockets are not supported")
    if offset:
        file.seek(offset)
    # More is read than can be sent, so it has to go back there.
    start = _position(file)
    size = count or sys.maxsize
    rest = memoryview(b"")

    def send(sent: int) -> int | None:
        nonlocal rest
        rest = rest or memoryview(file.read(min(_CHUNK, size - sent)))
        if not rest:
            return None
        moved = sock._ii_send_some(rest)
        rest = rest[moved:]
        return moved

    at_end = None if start is None else functools.partial(_seek, file, start)
    try:
        return sock._ii_send_all(send, size, short_is_full=False, timeout_per_wait=True, at_end=at_end)
    except Interrupted as error:
        if start is None:
            error.partial = bytes(rest)
        raise


def _position(file: Any) -> int | None:
    """Where a file stands that can be put back there; None for one that cannot."""
    if not hasattr(file, "seek") or not getattr(file, "seekable", lambda: True)():
        return None
    position: int = file.tell()
    return position


def _seek_behind(file: Any, offset: int, sent: int) -> None:
    if sent and hasattr(file, "seek"):
        _seek(file, offset, sent)


def _seek(file: Any, start: int, sent: int) -> None:
    file.seek(start + sent)
