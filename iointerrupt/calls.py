"""The other calls that block: put `calls.get(queue)` where `queue.get()` was, and a stop ends it.

Sleeping, queues, locks, conditions, threads, processes, futures, commands; any function at all (`call`), and any driver
that has a cancel (`interrupting`). Each stops on the `stop=` that it is given and on the current stop of the context
(`use_stop`), whichever is set first, by raising `Interrupted`; with neither it blocks as its standard counterpart does.
`timeout=` raises a TimeoutError. A stop loses nothing: an item is returned or still in its queue, a lock is held by the
caller who got True or free, a command has ended and its output is in the exception.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from iointerrupt._calls.actions import interrupting
from iointerrupt._calls.endings import JoinTimeout, join, result
from iointerrupt._calls.locks import acquire, holding, wait, wait_for
from iointerrupt._calls.processes import RunTimeout, run
from iointerrupt._calls.queues import GetTimeout, PutTimeout, get, put
from iointerrupt._helpers import Helpers
from iointerrupt._stop import StopEvent, as_stop, check_timeout, use_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import check, sleep_until, stops

__all__ = [
    "GetTimeout",
    "JoinTimeout",
    "PutTimeout",
    "RunTimeout",
    "acquire",
    "call",
    "get",
    "holding",
    "interrupting",
    "join",
    "put",
    "result",
    "run",
    "sleep",
    "wait",
    "wait_for",
]

T = TypeVar("T")
P = ParamSpec("P")

_helpers: Final = Helpers("iointerrupt-call", 1024)


def sleep(seconds: float, *, stop: StopLike = None) -> None:
    """Sleep: `time.sleep(seconds)`, which a stop ends.

    Args:
        seconds: how long; `math.inf` for until the stop.
        stop: what ends it, besides the current stop.

    Raises:
        Interrupted: the stop was set before the time was up.
        TypeError, ValueError: `seconds` is not a number, or is negative.
    """
    deadline = time.monotonic() + check_timeout(seconds, "seconds")
    sleep_until(deadline, as_stop(stop))


def call(func: Callable[..., T], /, *args: Any, stop: StopLike = None, **kwargs: Any) -> T:
    """Call any function, in a helper thread that a stop leaves behind: for what knows no stop and has no cancel.

    Args:
        func: what to call. It runs in a copy of the caller's context, with the stops of this call as its current stop: what
            it calls of this library stops as well, and its thread ends.
        *args: its arguments.
        stop: what ends the wait for it, besides the current stop. For an argument of that name of its own, use
            `functools.partial`.
        **kwargs: its keyword arguments.

    Returns:
        What it returns.

    Raises:
        Interrupted: the stop was set. The function goes on in a daemon thread, and what it returns or raises is dropped;
            `abandoned_helpers` counts those that are still at it. At most 1,024 calls can be under way at a time; a further one
            waits for a place.
        TypeError: `func` is not callable.
        BaseException: what it raises.
    """
    if not callable(func):
        raise TypeError(f"func must be callable, not {type(func).__name__}")
    own = as_stop(stop)
    check(own)
    waiting = stops(own)

    def work() -> T:
        with use_stop(waiting[0] if len(waiting) == 1 else StopEvent(*waiting) if waiting else None):
            return func(*args, **kwargs)

    work.__wrapped__ = func  # type: ignore[attr-defined]  # so that it is named if it is left behind
    return _helpers.run(work, own)
