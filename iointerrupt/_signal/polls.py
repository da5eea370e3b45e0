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
    """The poll object of a thread."""

    __slots__ = ("_for_stop", "_latch", "_plain", "is_busy")

    def __init__(self) -> None:
        self.is_busy = _new_poll is None  # for ever, where there is no poll
        self._plain = None if _new_poll is None else _new_poll()
        self._for_stop = self._plain
        self._latch: Callable[[], Latch | None] = _no_latch

    def poll_for(self, latch: Latch | None) -> select.poll:
        """An object in which nothing is registered but the descriptor of this latch, which the caller keeps alive.

        Raises:
            OSError: that has none yet, and there is none to be had.
        """
        assert _new_poll is not None  # noqa: S101 - else it is busy
        if latch is None:
            assert self._plain is not None  # noqa: S101 - as above
            return self._plain
        if self._latch() is not latch:
            self._for_stop = _new_poll()
            self._for_stop.register(latch.wake().fileno(), select.POLLIN)
            self._latch = weakref.ref(latch)
        assert self._for_stop is not None  # noqa: S101 - as above
        return self._for_stop


def _no_latch() -> None:
    return None


class _Kept(threading.local):
    def __init__(self) -> None:
        self.poll = KeptPoll()


#: Each thread's own, as `kept.poll`.
kept = _Kept()
