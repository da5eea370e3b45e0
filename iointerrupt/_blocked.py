"""`Blocked`: a thread's stay in a wait, as the stops that would end it see it.

Nothing here is locked: each stop keeps its waits in a dict, where each wait adds and removes only its own entry.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from iointerrupt._latch import Cause, Latch
from iointerrupt._wake import Wake

if TYPE_CHECKING:
    from iointerrupt._stop import StopEvent

#: Called, in the thread and without arguments, whenever a thread begins to wait on a stop: `testing.wait_until_blocked`.
observers: dict[object, Callable[[], object]] = {}


class Blocked:
    """The block in which a thread waits on some stops: they know of it, and what must be asked is watched.

    `__enter__` raises `Interrupted` if one of them is set. Afterwards each waker is called once one of them fires, and
    `fired` says which did; a deadline calls nobody, so wait no longer than `remaining()`.
    """

    __slots__ = ("_latches", "_stops", "_undo")

    def __init__(self, stops: tuple[StopEvent, ...]) -> None:
        self._stops = stops
        self._latches: list[Latch] = []
        self._undo: list[Callable[[], object]] = []

    def __enter__(self) -> Self:
        try:
            for stop in self._stops:
                if stop.is_set():
                    stop.interrupt()
                # From here on this latch is what counts: it stays fired, even if the event is cleared at once.
                self._latches.append(stop._latch)
                self._undo += [asked._watch(None) for asked in stop._asked]
                stop._blocked[self] = threading.get_ident()
        except BaseException:
            self.__exit__()
            raise
        for observe in list(observers.values()):
            observe()
        return self

    def __exit__(self, *exc_info: object) -> None:
        for stop in self._stops:
            stop._blocked.pop(self, None)
        for latch in self._latches:
            latch.remove_waker(self)
        for undo in self._undo:
            undo()

    def wakes(self) -> list[Wake]:
        """One descriptor for each stop, readable once it has fired."""
        return [latch.wake() for latch in self._latches]

    def add_waker(self, waker: Callable[[], object]) -> None:
        """Have `waker` called when one of the stops fires, or now; see `Latch.add_waker`."""
        for latch in self._latches:
            latch.add_waker(self, waker)

    def remaining(self, deadline: float | None) -> float | None:
        """Seconds until the earliest of `deadline` (`time.monotonic`) and the stops' own deadlines; None if there is none."""
        limits = [stop._limit[0] for stop in self._stops if stop._limit is not None]
        if deadline is not None:
            limits.append(deadline)
        return max(0.0, min(limits) - time.monotonic()) if limits else None

    def raise_if_fired(self) -> None:
        """Raise `Interrupted` if one of the stops has fired, or is set by now."""
        for stop, latch in zip(self._stops, self._latches, strict=True):
            if latch.fired:
                raise (latch.cause or Cause()).interruption()
            stop.raise_if_set()


def blocked_threads(stop: StopEvent) -> set[int]:
    """The threads (`threading.get_ident`) that are blocked on `stop` or on an event that it would set."""
    family = [stop]
    for event in family:
        family += event._living_children()
    waiting = {thread for event in family for thread in list(event._blocked.values())}
    return waiting & sys._current_frames().keys()  # a forked child inherits waits of threads that it does not have


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=observers.clear)
