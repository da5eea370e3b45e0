"""`KeptPoll`: a thread's own poll object, which is used again for each wait for one descriptor.

Most waits are of one kind: for one descriptor, and for no stop or for one that is only set, never asked. To make a poll object
and to register the descriptor of the same stop anew each time would be most of what such a wait costs.

Owner: the thread, by `threading.local`. It refers to the latch of the stop that it waited for last weakly, so that it keeps no
descriptor open: once the latch is gone, so is the object that has its number. A signal handler may wait within a wait of the
thread that it has interrupted: `is_busy` tells, and such a wait is done otherwise.
"""

from __future__ import annotations

import select
import threading
import weakref

from iointerrupt._signal.latch import Latch

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    from collections.abc import Callable

# The standard one, also where a program has put that of `monkey` in its place.
_new_poll: Callable[[], select.poll] | None = getattr(select, "poll", None)


class KeptPoll:
    """The poll objects of a thread: one for waits without a stop, one for the stop that it waited for last."""

    __slots__ = ("_for_stop", "_latch", "_plain", "is_busy")

    def __init__(self) -> None:
        self.is_busy = _new_poll is None  # for ever, where there is no poll
        self._plain = self._for_stop = _Interest()
        self._latch: Callable[[], Latch | None] = _no_latch

    def poll_for(self, fd: int, events: int, latch: Latch | None) -> select.poll:
        """An object in which nothing is registered but `fd` and the descriptor of this latch, which the caller keeps alive.

        Raises:
            OSError: the latch has none yet, and there is none to be had.
        """
        if latch is None:
            return self._plain.poll_for(fd, events)
        if self._latch() is not latch:
            self._for_stop = _Interest(latch.wake().fileno())
            self._latch = weakref.ref(latch)
        return self._for_stop.poll_for(fd, events)


class _Interest:
    """A poll object, in which one descriptor stays registered until it is another's turn.

    It is a number in a table of this process; the kernel sees it only while it is polled.
    """

    __slots__ = ("_events", "_fd", "_poll", "_wake")

    def __init__(self, wake: int | None = None) -> None:
        self._wake = wake
        self._poll: select.poll | None = None
        self._fd = self._events = -1

    def poll_for(self, fd: int, events: int) -> select.poll:
        poll = self._poll
        if poll is not None and fd == self._fd and events == self._events:
            return poll
        self._poll = None  # should a signal handler raise in between, another one is made
        if poll is None:
            assert _new_poll is not None  # noqa: S101 - else KeptPoll is busy
            poll = _new_poll()
            if self._wake is not None:
                poll.register(self._wake, select.POLLIN)
        elif fd != self._fd:
            poll.unregister(self._fd)
        poll.register(fd, events)
        self._fd, self._events = fd, events
        self._poll = poll
        return poll


def _no_latch() -> None:
    return None


class _Kept(threading.local):
    def __init__(self) -> None:
        self.poll = KeptPoll()


#: Each thread's own, as `kept.poll`.
kept = _Kept()
