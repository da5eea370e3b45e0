"""A descriptor that is readable while something is true: what lets `poll` see a stop.

An eventfd on Linux, a socket pair elsewhere. Written once and never drained by those who wait on it, so that one
write wakes every waiter, those that come later included.

Owner: the object that made it. Waiters keep a reference to the `Wake`, never to its bare number, so that the number
cannot be closed and reused under them; it is closed when the last reference goes. No lock: each method is one system
call, and so may be called from a signal handler.
"""

from __future__ import annotations

import os
import sys
import weakref

_live: weakref.WeakSet[Wake] = weakref.WeakSet()

if sys.platform == "linux":

    def _make() -> tuple[int, int]:
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return fd, fd

    def _write(fd: int) -> None:
        os.eventfd_write(fd, 1)

else:  # pragma: no cover - the other platforms' half of a choice that a run sees one side of

    def _make() -> tuple[int, int]:
        import socket  # noqa: PLC0415 - only where there is no eventfd

        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        return reader.detach(), writer.detach()

    def _write(fd: int) -> None:
        os.write(fd, b"\0")


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
            while os.read(self._reader, 4096):
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
            os.close(new)
        if self._is_set:
            self.set()

    def __del__(self) -> None:
        # getattr: __init__ may have failed for want of descriptors.
        for fd in {getattr(self, "_reader", -1), getattr(self, "_writer", -1)} - {-1}:
            try:
                os.close(fd)
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
