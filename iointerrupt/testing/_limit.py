"""`Limit`: so many seconds from a stop to the end of a block, enforced: what the marker `stops_within` is.

A thread waits until the stop is set, and then for the end of the block. When the time is over, it sends the main thread a
signal, whose handler raises there. The signal is SIGURG: the system's default for it is to do nothing, so that one which
comes when the handler is gone again harms nobody; hardly a program uses it; and SIGALRM, which would need no thread, is
that of pytest-timeout. It is sent again until it has been handled, since one that comes just before a system call that
blocks is not seen before the end of that call; and so that a block which goes on after the failure, in a `finally` that hangs
for example, fails again some seconds later.

Where the block is not in the main thread, or the system has no such signal, the time is measured, and what has taken too
long fails when it ends.

Who owns what: the thread that has entered the block changes everything here but `_set_at` (the thread that sets the stop)
and `_failure` (the thread that waits). There is no lock, since the handler may find the main thread anywhere.
"""

from __future__ import annotations

import io
import math
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from iointerrupt._signal.callbacks import Registration
from iointerrupt._signal.threads import own_thread
from iointerrupt._stop import StopEvent, as_stop
from iointerrupt._types import StopLike
from iointerrupt.testing._stops import _stacks

_SIGNAL = getattr(signal, "SIGURG", None)

#: Seconds between two signals, and between two failures for a block that goes on regardless.
_AGAIN = 0.05
_INSISTING = 5.0


class Limit:
    """A block that has to end within so many seconds after a stop was set in it, or before it.

    Args:
        stop: the stop.
        seconds: more than 0.
        failure: makes the exception to raise, from a message and whether its traceback says something, since it is raised in
            the block.

    Raises:
        failure: in the main thread, when the time is over, with where all threads stand; and at the end of the block, if it
            has ended too late, or the stop was never set.
    """

    def __init__(self, stop: StopLike, seconds: float, failure: Callable[[str, bool], BaseException]) -> None:
        followed = as_stop(stop)
        if followed is None:
            raise TypeError("stop must be a stop: None is never set")
        self._stop = followed
        self._seconds = seconds
        self._make = failure
        self._failure: str | None = None
        self._set_at: float | None = None
        self._ended_at: float | None = None
        self._raised_at = -math.inf
        self._registration: Registration | None = None
        self._previous: Any = None
        self._thread: threading.Thread | None = None
        # Events that may be set in a signal handler, whatever that has interrupted.
        self._set = StopEvent()
        self._end = StopEvent()

    def __enter__(self) -> None:
        self._registration = self._stop.on_set(self._begin)
        if _SIGNAL is not None and threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(_SIGNAL, self._handle)
            self._thread = own_thread("stops_within", self._watch)
            self._thread.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended_at = time.monotonic()  # from here on, the handler raises nothing
        self.close()
        if error is None:
            self._judge()

    def close(self) -> None:
        """End the thread, and put back the handler. To be called after the block as well: the failure may come in its end."""
        self._ended_at = self._ended_at or time.monotonic()
        self._end.set()
        if self._registration is not None:
            self._registration.cancel()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            signal.signal(_SIGNAL, self._previous)  # type: ignore[arg-type]  # there is a thread only where there is a signal

    def _judge(self) -> None:
        said = None
        if self._set_at is None and self._stop.is_set():  # so late that one which is asked in turns has not said it
            self._set_at = self._ended_at
        if self._set_at is None:
            said = f"stops_within({self._seconds:g}): the stop was never set, so that nothing was checked"
        elif self._failure is not None:
            said = self._failure
        elif (took := (self._ended_at or 0.0) - self._set_at) > self._seconds:
            said = f"it ended {took:.3f} s after its stop was set, not {self._seconds:g}"
        if said is not None:
            raise self._make(said, False)

    def _begin(self) -> None:
        self._set_at = time.monotonic()
        self._set.set()

    def _watch(self) -> None:
        StopEvent(self._set, self._end).wait()
        if self._end.wait(self._seconds):
            return
        self._failure = f"it still ran {self._seconds:g} s after its stop was set.\n{_stacks()}"
        main = threading.main_thread().ident
        while not self._end.is_set():
            signal.pthread_kill(main, _SIGNAL)  # type: ignore[arg-type]  # both are there, or there is no thread
            self._end.wait(_AGAIN)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._failure is None:
            if callable(self._previous):
                self._previous(number, frame)
        elif self._ended_at is None and time.monotonic() >= self._raised_at + _INSISTING:
            self._raised_at = time.monotonic()
            raise self._make(self._failure + _tasks(), True)


def _tasks() -> str:
    """Where the tasks stand of the loop of asyncio that runs in this thread, of which its stack shows the loop alone."""
    asyncio: Any = sys.modules.get("asyncio")
    loop = None if asyncio is None else asyncio._get_running_loop()
    text = io.StringIO()
    for task in () if loop is None else asyncio.all_tasks(loop):
        task.print_stack(file=text)
    return text.getvalue()
