"""`BaseSocket`: what makes a `socket.socket` one whose waiting can be ended. `Socket` builds the operations on it.

Theory of operation. The C code below `socket.socket` waits by itself in two cases: the descriptor is in blocking mode, or
the object has a timeout. Here neither is so. The C object never has a timeout, a descriptor that this class made is
non-blocking in the kernel, and transfers pass MSG_DONTWAIT, so that each C call is one attempt. The timeout is kept here,
and the waiting is done in `_ii_wait`.

A descriptor that came from elsewhere (`fileno=`, `wrap`) may be shared with other objects and other processes, for which
O_NONBLOCK would be changed as well. It is left as it is; MSG_DONTWAIT does for transfers, `connect` sets the flag for the
moment of one system call, and `accept` and `sendfile` say what they do.

Ownership: the kernel serialises what several threads do with one descriptor, and a transfer changes no state here. The
one thing to settle is a close while other threads wait: its number must not be free for reuse while one of them may poll
it. A thread enters `_ii_waiters` and then looks at `_ii_closing`; `close()` sets `_ii_closing` and then looks at `_ii_waiters`, so one
of them sees the other. With waiters left, `close()` wakes them, and whoever leaves last takes the descriptor out of
`_ii_unclosed` and closes it. (All are single operations on a dict, a list or an attribute; there is no lock.) A forked child
inherits the waiters' entries but not the waiters: entries carry the process that they are of.
"""

from __future__ import annotations

import errno
import math
import operator
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Self, TypeVar

from iointerrupt._stop import StopEvent, as_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import stops, wait_ready

T = TypeVar("T")

#: The standard class, also where a program has put ours in its place.
StandardSocket = socket.socket

#: The flag with which a transfer does not wait, in whatever mode the descriptor is, as a plain number; 0 where there is none,
#: on Windows. There no mode can be asked for either, and every socket of ours is non-blocking, also one that others share.
NOWAIT = int(getattr(socket, "MSG_DONTWAIT", 0))

_gettimeout, _settimeout, _detach = StandardSocket.gettimeout, StandardSocket.settimeout, StandardSocket.detach


def parse_timeout(value: float | None) -> float | None:
    """A socket's timeout in seconds, refused as `socket.socket.settimeout` refuses it."""
    if value is None:
        return None
    number: object = value  # what a caller passes need not be what the signature says
    seconds = number if isinstance(number, float) else float(operator.index(number))  # type: ignore[arg-type]  # as above
    if math.isnan(seconds):
        raise ValueError("Invalid value NaN (not a number)")
    if seconds < 0:
        raise ValueError("Timeout value out of range")
    if seconds > threading.TIMEOUT_MAX:
        raise OverflowError("timeout doesn't fit into C timeval")
    return seconds


class Pauses:
    """What to do before another attempt where no poll tells when it is worth making.

    That is the case when an attempt would block although poll has just called the descriptor ready. Mostly another thread
    was faster. But poll also goes on calling a datagram socket writable whose receiver is full, or any socket ready that
    has an entry in its error queue (IP_RECVERR), and then polling again at once would be a busy loop.

    Each pause is twice the one before, from 1 to `longest` seconds. A stop or the deadline ends it.
    """

    def __init__(self, own: StopEvent | None, deadline: float | None, longest: float = 0.02) -> None:
        self._own, self._deadline = own, deadline
        self._seconds, self._longest = 0.001, longest

    def sleep(self) -> None:
        """Pause, or raise Interrupted or TimeoutError."""
        remaining = math.inf if self._deadline is None else self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("timed out")
        StopEvent(*stops(self._own)).sleep(min(self._seconds, remaining))
        self._seconds = min(2 * self._seconds, self._longest)


class BaseSocket(socket.socket):
    """A socket with a stop, a timeout that the kernel does not know of, and a `close` that ends what waits."""

    # Programs derive classes from `socket.socket`, and while it is patched from this one: so what is private here and in the
    # classes below it begins with `_ii`, as nobody else's names do.
    __slots__ = (
        "_ii_closing",
        "_ii_has_asked",
        "_ii_kept_error",
        "_ii_made",
        "_ii_own_timeout",
        "_ii_stop",
        "_ii_unclosed",
        "_ii_waiters",
    )

    def __init__(
        self,
        family: int = -1,
        type: int = -1,  # noqa: A002 - the standard library's name for it
        proto: int = -1,
        fileno: int | None = None,
        *,
        stop: StopLike = None,
    ) -> None:
        self._ii_stop = as_stop(stop)  # first, so that a wrong one leaves no descriptor behind
        self._ii_waiters: dict[object, object] = {}
        self._ii_unclosed: list[int] = []
        self._ii_closing = False
        self._ii_has_asked = False  # something has been sent since the last receive
        self._ii_kept_error: OSError | None = None  # what the kernel said behind data that was returned first
        super().__init__(family, type, proto, fileno)
        # From setdefaulttimeout or SOCK_NONBLOCK. The first has then made a foreign descriptor non-blocking too, while with
        # the second the constructor takes that as done: see `_over_descriptor` in `sockets`.
        self._ii_own_timeout = _gettimeout(self)
        self._ii_made = False
        if fileno is None or not NOWAIT:
            self._ii_make_nonblocking()
        elif self._ii_own_timeout:
            _settimeout(self, 0.0)

    def _ii_make_nonblocking(self) -> None:
        """Treat the descriptor as one that only this class uses."""
        _settimeout(self, 0.0)
        self._ii_made = True

    @property
    def stop(self) -> StopEvent | None:
        """The socket's own stop. What is set here holds from the next operation on."""
        return self._ii_stop

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._ii_stop = as_stop(stop)

    # Timeouts

    @property
    def timeout(self) -> float | None:
        """The timeout in seconds; None for none."""
        return self._ii_own_timeout

    def gettimeout(self) -> float | None:
        """The timeout in seconds; None for none."""
        return self._ii_own_timeout

    def settimeout(self, value: float | None, /) -> None:
        """Set the timeout of later operations: seconds, 0 to never wait, None for no limit.

        Raises:
            ValueError, OverflowError, TypeError: it is negative or not a number, too large, of a wrong type.
            OSError: EBADF, the socket is closed.
        """
        if (value is None or type(value) is float) and value == self._ii_own_timeout:
            self._ii_descriptor()  # raises if it is closed; clients of databases set the same one before each read
            return
        seconds = parse_timeout(value)
        check_open(self._ii_descriptor())
        self._ii_own_timeout = seconds

    def setblocking(self, flag: bool, /) -> None:  # noqa: FBT001 - the signature is the standard library's
        """Set the timeout to None (True) or 0 (False)."""
        check_open(self._ii_descriptor())
        self._ii_own_timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        """Whether operations may wait."""
        return self._ii_own_timeout != 0.0

    # Waiting

    def _ii_descriptor(self) -> int:
        fd = self.fileno()
        if fd < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return fd

    def _ii_deadline(self) -> float | None:
        """When an operation that begins to wait now has to give up."""
        return None if self._ii_own_timeout is None else time.monotonic() + self._ii_own_timeout

    def _ii_wait(self, events: int, own: StopEvent | None, deadline: float | None) -> None:
        token = object()
        self._ii_waiters[token] = _process
        try:
            if not self._ii_closing:
                fd = self.fileno()
                wait_ready(fd if fd >= 0 else self._ii_descriptor(), events, own, deadline)
        finally:
            del self._ii_waiters[token]
            if self._ii_closing:
                self._ii_close_when_unused()
        if self.fileno() < 0:
            self._ii_descriptor()  # raises, as it is closed by now

    def _ii_when_ready(self, events: int, attempt: Callable[..., T], *args: Any) -> T:
        """What `attempt(self, *args)` returns once it does not block any more; it has been tried."""
        return self._ii_retry(events, self._ii_stop, self._ii_deadline(), attempt, *args)

    def _ii_retry(
        self, events: int, own: StopEvent | None, deadline: float | None, attempt: Callable[..., T], *args: Any
    ) -> T:
        """`_ii_when_ready` with another stop and deadline than the socket's."""
        pauses: Pauses | None = None
        while True:
            self._ii_wait(events, own, deadline)
            try:
                return attempt(self, *args)
            except BlockingIOError:
                pauses = pauses or Pauses(own, deadline)
                pauses.sleep()

    def _ii_raise_kept_error(self) -> None:
        error, self._ii_kept_error = self._ii_kept_error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame

    # The end

    def dup(self) -> Self:
        """Another socket object for the same connection, with the same stop and timeout."""
        other = super().dup()
        other._ii_stop = self._ii_stop
        if self._ii_made:
            other._ii_make_nonblocking()  # it is already: the kernel keeps the mode with the open socket, not the number
        return other

    def detach(self) -> int:
        """Give up the descriptor and return it, in the mode that the timeout says: blocking only with None."""
        made, blocking = self._ii_made, self._ii_own_timeout is None
        fd = super().detach()
        if made and blocking and fd >= 0:
            _make_blocking(fd)
        return fd

    def _real_close(self) -> None:
        self._ii_closing = True
        if not self._ii_has_waiters():
            super()._real_close()  # type: ignore[misc]  # what socket.socket.close ends in
            return
        # Out of the object before the others wake: so they find it closed, not the connection at its end.
        kind, fd = (self.family, self.type, self.proto), _detach(self)
        if fd < 0:
            return
        if self._ii_made:
            closer = StandardSocket(*kind, fileno=fd)
            try:
                closer.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # not connected; they are woken all the same
            closer.detach()
        self._ii_unclosed.append(fd)
        self._ii_close_when_unused()

    def _ii_has_waiters(self) -> bool:
        return _process in list(self._ii_waiters.values())

    def _ii_close_when_unused(self) -> None:
        if not self._ii_has_waiters():
            try:
                fd = self._ii_unclosed.pop()
            except IndexError:  # somebody else has come here at the same moment
                return
            socket.close(fd)


if NOWAIT:
    #: Raises an OSError if somebody has closed the bare descriptor.
    check_open: Callable[[int], object] = os.get_blocking

    def _make_blocking(fd: int) -> None:
        os.set_blocking(fd, True)

else:  # where os knows nothing of sockets

    def check_open(fd: int) -> object:
        """Raises an OSError if somebody has closed the bare descriptor."""
        return StandardSocket(fileno=fd).detach()

    def _make_blocking(fd: int) -> None:
        bare = StandardSocket(fileno=fd)
        _settimeout(bare, None)
        _detach(bare)


_process = object()


def _after_fork_in_child() -> None:
    global _process  # noqa: PLW0603 - what tells this process's entries from inherited ones
    _process = object()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
