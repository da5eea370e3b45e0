"""A descriptor that is readable while something is true: what lets `poll` see a stop.

An eventfd on Linux, a socket pair elsewhere. Written once and never drained by those who wait on it, so that one
write wakes every waiter, those that come later included.

Owner: the object that made it. Waiters keep a reference to the `Wake`, never to its bare number, so that the number
cannot be closed and reused under them; it is closed when the last reference goes. No lock: each method is one system
call, and so may be called from a signal handler.
"""

from __future__ import annotations

import os
import weakref

_live: weakref.WeakSet[Wake] = weakref.WeakSet()

if hasattr(os, "eventfd"):

    def _make() -> tuple[int, int]:
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return fd, fd

    def _write(fd: int) -> None:
        os.eventfd_write(fd, 1)

    _read, _close = os.read, os.close

else:
    # The class in C: that of `socket` may be one that a program has put in its place, and it takes an import that is heavy.
    import _socket

    _ends: dict[int, _socket.socket] = {}  # on Windows the number of a socket is none that os.read and os.write know

    def _make() -> tuple[int, int]:
        pair = _socketpair()
        for end in pair:
            end.setblocking(False)
            _ends[end.fileno()] = end
        return pair[0].fileno(), pair[1].fileno()

    def _write(fd: int) -> None:
        _ends[fd].send(b"\0")

    def _read(fd: int, size: int) -> bytes:
        return _ends[fd].recv(size)

    def _close(fd: int) -> None:
        _ends.pop(fd).close()

    def _socketpair() -> tuple[_socket.socket, _socket.socket]:
        if hasattr(_socket, "socketpair"):
            return _socket.socketpair()
        listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
        try:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            writer = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
            writer.connect(listener.getsockname())
            reader = _socket.socket(fileno=listener._accept()[0])  # type: ignore[attr-defined]  # as in `_sockets.socket`
        finally:
            listener.close()
        if reader.getpeername() != writer.getsockname():
            raise ConnectionError("another process has connected to a socket pair")
        return reader, writer


class Wake:
    """Readable from `set` to `clear`."""

    __slots__ = ("__weakref__", "_is_own", "_is_set", "_reader", "_writer")

    def __init__(self) -> None:
        self._is_set = False  # these two for a forked child, which has one thread
        self._is_own = True
        self._reader, self._writer = _make()
        _live.add(self)

    def fileno(self) -> int:
        """The descriptor to poll for reading; it belongs to this object."""
        return self._reader

    def set(self) -> None:
        """Make it readable; a second time changes nothing that a waiter can see."""
        self._is_set = True
        if not self._is_own:
            return
        try:
            _write(self._writer)
        except BlockingIOError:
            pass  # the counter or the pipe is full, so it is readable already

    def clear(self) -> None:
        """Make it unreadable again."""
        self._is_set = False
        try:
            while _read(self._reader, 4096):
                pass
        except BlockingIOError:
            pass

    def _part_from_parent(self) -> None:
        # After a fork both processes hold one kernel object, and the child's write would wake the parent. The number
        # stays, since a caller may have it in a selector; what is behind it becomes the child's own.
        try:
            reader, writer = _make()
        except OSError:  # no descriptor is left: this one is of no use here then, but it must not wake the parent
            self._is_own = False
            return
        for new, old in {(reader, self._reader), (writer, self._writer)}:
            os.dup2(new, old, inheritable=False)
            _close(new)
        if self._is_set:
            self.set()

    def __del__(self) -> None:
        # getattr: __init__ may have failed for want of descriptors.
        for fd in {getattr(self, "_reader", -1), getattr(self, "_writer", -1)} - {-1}:
            try:
                _close(fd)
            except OSError:  # closed by code that closes every descriptor, as daemons do
                pass


def live_numbers() -> set[int]:
    """The descriptors of all that are alive, which live as long as their owners do."""
    while True:
        try:
            return {number for wake in _live for number in (wake._reader, wake._writer)}
        except RuntimeError:  # another thread has just made one
            continue


def _after_fork_in_child() -> None:
    for wake in list(_live):
        wake._part_from_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
