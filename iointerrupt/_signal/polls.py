"""`KeptPoll`: a thread's own poll object, which is used again for each wait for one descriptor.

Most waits are of one kind: for one descriptor, and for stops that are only set, never asked: none, the operation's own, the
current one, or both. To make a poll object and to register the descriptors of the same stops anew each time would be most of what
such a wait costs.

Owner: the thread, by `threading.local`. It refers to the latches of the stops that it waited for last weakly, so that it keeps no
descriptor open: once a latch is gone, so is the object that has its number. A signal handler may wait within a wait of the
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
    """The poll objects of a thread: one for waits without a stop, one for the stops that it waited for last."""

    __slots__ = ("_first", "_for_stops", "_plain", "_second", "is_busy")

    def __init__(self) -> None:
        self.is_busy = _new_poll is None  # for ever, where there is no poll
        self._plain = self._for_stops = _Interest()
        self._first: Callable[[], Latch | None] = _no_latch
        self._second: Callable[[], Latch | None] = _no_latch

    def poll_for(self, fd: int, events: int, first: Latch | None, second: Latch | None) -> select.poll:
        """An object in which nothing is registered but `fd` and the descriptors of these latches, which the caller keeps alive.

        There is a second one only where there is a first.

        Raises:
            OSError: a latch has none yet, and there is none to be had.
        """
        if first is None:
            return self._plain.poll_for(fd, events)
        if self._first() is not first or (
            self._second is not _no_latch if second is None else self._second() is not second
        ):
            latches = (first,) if second is None else (first, second)
            wakes = [latch.wake().fileno() for latch in latches]
            self._first = _no_latch  # should a signal handler raise in between, all is made anew
            self._for_stops = _Interest(*wakes)
            self._second = _no_latch if second is None else weakref.ref(second)
            self._first = weakref.ref(first)
        return self._for_stops.poll_for(fd, events)


class _Interest:
    """A poll object, in which one descriptor stays registered until it is another's turn.

    It is a number in a table of this process; the kernel sees it only while it is polled.
    """

    __slots__ = ("_events", "_fd", "_poll", "_wakes")

    def __init__(self, *wakes: int) -> None:
        self._wakes = wakes
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
            for wake in self._wakes:
                poll.register(wake, select.POLLIN)
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
