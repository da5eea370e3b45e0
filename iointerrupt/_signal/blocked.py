"""`Blocked`: a thread's stay in a wait, as the stops that would end it see it.

Nothing here is locked: each stop keeps its waits in a dict, where each wait adds and removes only its own entry.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from threading import get_ident

from iointerrupt._signal.latch import Cause, Latch
from iointerrupt._signal.wake import Wake

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    from typing import Self

    from iointerrupt._stop import StopEvent

#: Called, in the thread and without arguments, whenever a thread begins to wait on a stop: `testing.wait_until_blocked`.
observers: dict[object, Callable[[], object]] = {}


class Blocked:
    """The block in which a thread waits on some stops: they know of it, and what must be asked is watched.

    `__enter__` raises `Interrupted` if one of them is set. Afterwards each waker is called once one of them fires; a
    deadline calls nobody, so wait no longer than `remaining()`.

    Args:
        stops: what the thread waits on.
        raises: False where a set is not what ends the wait but what it is for: then `__enter__` raises nothing, and `fired`
            says whether it has come.
    """

    __slots__ = ("_latches", "_raises", "_stops", "_undo")

    def __init__(self, stops: tuple[StopEvent, ...], *, raises: bool = True) -> None:
        self._stops = stops
        self._raises = raises
        self._latches: list[Latch] = []
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        waiter = mark_of_thread()
        try:
            for stop in self._stops:
                # Asked in any case: what follows a foreign stop notices here that it has been cleared.
                if stop.is_set() and self._raises:
                    stop.interrupt()
                # From here on this latch is what counts: it stays fired, even if the event is cleared at once.
                self._latches.append(stop._latch)
                for asked in stop._asked:
                    self._undo.append(asked._watch(None))
                stop._blocked[self] = waiter
        except BaseException:
            self.__exit__()
            raise
        tell_observers()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for stop in self._stops:
            stop._blocked.pop(self, None)
        for undo in self._undo:
            undo()

    def wakes(self) -> list[Wake]:
        """One descriptor for each stop, readable once it has fired."""
        return [latch.wake() for latch in self._latches]

    def add_waker(self, waker: Callable[[], object]) -> None:
        """Have `waker` called when one of the stops fires, or now; see `Latch.add_waker`."""
        for latch in self._latches:
            latch.add_waker(self, waker)
            self._undo.append(partial(latch.remove_waker, self))

    def remaining(self, deadline: float | None) -> float | None:
        """Seconds until the earliest of `deadline` (`time.monotonic`) and the stops' own deadlines; None if there is none."""
        for stop in self._stops:
            if stop._limit is not None and (deadline is None or stop._limit[0] < deadline):
                deadline = stop._limit[0]
        return None if deadline is None else max(0.0, deadline - time.monotonic())

    def cause(self) -> Cause | None:
        """Why one of the stops has fired, or is set by now; None if none is."""
        for latch in self._latches:
            if latch.fired:
                return latch.cause or Cause()
        for stop in self._stops:
            if stop._must_ask and stop.is_set():
                return stop._latch.cause or Cause()
        return None

    def fired(self) -> bool:
        """Whether one of the stops has fired, or is set by now."""
        return self.cause() is not None

    def raise_if_fired(self) -> None:
        """Raise `Interrupted` if one of the stops has fired, or is set by now."""
        cause = self.cause()
        if cause is not None:
            raise cause.interruption()


def mark_of_thread() -> tuple[int, int]:
    """What stands for the calling thread in `StopEvent._blocked`."""
    return _generation, get_ident()


def tell_observers() -> None:
    """The calling thread has put itself into a `StopEvent._blocked`."""
    if observers:
        for observe in list(observers.values()):
            observe()


def blocked_threads(stop: StopEvent) -> set[int]:
    """The threads (`threading.get_ident`) that are blocked on `stop` or on an event that it would set."""
    waiting = {
        thread
        for event in stop._family()
        for generation, thread in list(event._blocked.values())
        if generation == _generation
    }
    return waiting & sys._current_frames().keys()


_generation = 0  # a forked child inherits waits of threads that it does not have


def _after_fork_in_child() -> None:
    global _generation  # noqa: PLW0603 - one for the process
    _generation += 1
    observers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
