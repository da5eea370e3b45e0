"""Threads that can be interrupted, alone and as a group; ticks; and signals that set a stop.

`Thread` is in `_threads.thread`, `ThreadGroup` in `_threads.group`, and what the functions here return is beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from iointerrupt._threads.group import ThreadGroup
from iointerrupt._threads.signals import StopOnSignals
from iointerrupt._threads.stragglers import Straggler
from iointerrupt._threads.thread import Thread
from iointerrupt._threads.ticks import Ticks

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from iointerrupt._stop import StopEvent
    from iointerrupt._types import StopLike

__all__ = ["Straggler", "Thread", "ThreadGroup", "Ticks", "every", "stop_on_signals"]


def every(seconds: float, *, stop: StopLike = None) -> Ticks:
    """Iterate over ticks: the first at once, and then one each `seconds` after that, without drift, until a stop.

    The `n`-th tick comes at the time of the first plus `n` times `seconds`, however long what is done in between takes.
    Where it takes longer than that, the ticks that it misses are skipped, which shows in their numbers.

        for n in every(60, stop=shutdown):
            clean_up()

    Args:
        seconds: between two ticks, 1e-9 or more.
        stop: ends the wait for a tick, as the current stop does; kept as `.stop`, which can be set.

    Returns:
        An iterator over the numbers of the ticks, from 0. It never ends: at a stop its `next` raises `Interrupted`, and
        when the stop is cleared or exchanged it goes on with the next tick. One thread at a time may use it.

    Raises:
        TypeError: `seconds` is not a number, or `stop` not a stop.
        ValueError: `seconds` is 0, negative, infinite or not a number.
        Interrupted, ResourceBusy: from `next`; the latter when another thread is in it.
    """
    return Ticks(seconds, stop)


def stop_on_signals(stop: StopLike = None, *signals: int) -> AbstractContextManager[StopEvent]:
    """In a block of the main thread, have the first signal set a stop, and a second one do what it did before.

    The first of the signals that comes sets the stop, with the signal's name as the reason, and puts the previous handlers
    of them all back: a second Ctrl-C is the ordinary `KeyboardInterrupt`, a second SIGTERM ends the process. Leaving the
    block puts them back as well. A main thread that is blocked in an operation on that stop, or waits for a group below
    it, is woken; it is not the current stop of the block, which `use_stop(stop)` makes of it. As with every handler in Python, a signal that comes in the instant before a system call blocks is handled
    when that returns, or with the next signal.

        try:
            with stop_on_signals() as stop, ThreadGroup(stop) as group:
                group.start(serve)
        except Interrupted as stopped:
            print(f"stopped by {stopped.reason}")

    Within one another, they make the first signal a gentle one and the second the end: the inner one is set first, and puts
    back the handler of the outer one, which is set by the second signal.

        with ThreadGroup() as group, stop_on_signals(group.event), stop_on_signals() as no_more_jobs:
            ...

    Args:
        stop: what to set; None for a new `StopEvent`. A foreign event is set by a thread that is made then.
        signals: which ones; SIGINT and SIGTERM by default.

    Returns:
        A context manager, which gives the `StopEvent` (one that follows a foreign event).

    Raises:
        TypeError: `stop` has nothing to set it by, as a callable has not; or a signal is not a number.
        ValueError: a number is not that of a signal that can be handled.
        RuntimeError: on entering, and nothing is changed then: not in the main thread, or a handler is there that could not
            be put back.
    """
    return StopOnSignals(stop, signals)
