"""Stops whose moment a test decides: at the n-th check, or once a thread is known to be blocked."""

from __future__ import annotations

import sys
import threading
import time
import traceback
from collections.abc import Callable

from iointerrupt._signal.blocked import blocked_threads, observers
from iointerrupt._signal.latch import Parker
from iointerrupt._stop import StopEvent, as_stop, check_timeout
from iointerrupt._types import StopLike


class StopAfter(StopEvent):
    """A stop that sets itself when it is checked for the n-th time, so that a test can stop an operation at each of its steps.

    Operations check before they begin, between two chunks, and before and after they wait. `StopAfter(1)` therefore
    stops an operation before it begins, and a run that was not stopped says in `checks` how many places there are.

    Args:
        n: at which check to be set, from 1; the reason is `"check <n>"`.

    Raises:
        ValueError: `n` is less than 1.
    """

    def __init__(self, n: int) -> None:
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"n must be an int, not {type(n).__name__}")
        if n < 1:
            raise ValueError(f"n must be 1 or more, not {n}")
        super().__init__()
        self._n = n
        self._lock = threading.Lock()  # guards checks
        self.checks: int = 0
        # Its descendants ask it at each of their checks, which then count as checks of this event.
        self._asked = (self,)
        self._must_ask = True

    def is_set(self) -> bool:
        with self._lock:
            self.checks += 1
            reached = self.checks >= self._n
        if reached and not self._latch.fired:
            self.set(f"check {self._n}")
        return self._latch.fired

    def _watch(self, keep: object) -> Callable[[], object]:  # noqa: ARG002 - there is nothing to keep
        return lambda: None  # it is set by checks alone, so there is nothing to watch while one is blocked


def wait_until_blocked(stop: StopLike, n: int = 1, *, timeout: float = 10.0) -> None:
    """Block until `n` threads are blocked in operations that `stop` would stop.

    Args:
        stop: any stop; threads that wait on a child of it count as well.
        n: how many threads.
        timeout: seconds after which to give up.

    Raises:
        TimeoutError: fewer threads are blocked on it by then; the message lists the threads that are alive and where
            they stand.
        TypeError: `stop` is not a stop, or None, on which nobody can wait.
        ValueError: `n` is less than 1.
    """
    followed = as_stop(stop)
    if followed is None:
        raise TypeError("stop must be a stop: nobody can be blocked on None")
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"n must be an int, not {type(n).__name__}")
    if n < 1:
        raise ValueError(f"n must be 1 or more, not {n}")
    deadline = time.monotonic() + check_timeout(timeout)
    changed = Parker()  # not an event: in a patched program its wait would be observed as well
    token = object()
    observers[token] = changed.unpark
    try:
        while len(blocked_threads(followed)) < n:
            if not changed.park(deadline - time.monotonic()):
                blocked = len(blocked_threads(followed))
                if blocked >= n:
                    return
                raise TimeoutError(
                    f"{blocked} of {n} threads are blocked on {followed!r} after {timeout:g} s.\n{_stacks()}"
                )
    finally:
        observers.pop(token, None)


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    others = [
        f"Thread {names.get(ident, ident)!r}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
        if ident != threading.get_ident()
    ]
    return "\n".join(others) or "No other thread is alive."
