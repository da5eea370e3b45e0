"""Stops at random instants, by time and by check count, and what became of each.

A worker wraps each attempt of an operation in a `Trial`, which draws a stop, puts it where the operation looks for it, and
afterwards says what came of it. Drawn are:

- what kind of stop: a `StopEvent`, a child of one, a `threading.Event`, a callable, a deadline, a `StopAfter`;
- where it stands: as the current stop, as the object's own, or as the argument `stop=`;
- when it comes: before the operation begins; after a random time, which another thread keeps (a deadline keeps its own); or
  at a random check, which is deterministic.

Times and numbers of checks are drawn up to a limit, one for each kind of operation, that follows what the operation takes: it
shrinks where the operation was done before the stop came, and grows where it was not. So stops go on to fall on all of
it, on a fast machine and on a slow one.
"""

from __future__ import annotations

import contextlib
import faulthandler
import heapq
import itertools
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from types import TracebackType
from typing import Any, Self

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, use_stop
from iointerrupt.testing import StopAfter

# Seconds, and checks, up to which stops are drawn for an operation that has not been tried yet.
_FIRST_TIME, _FIRST_CHECKS = 300e-6, 4.0

# Between these the two stay. The longest is for operations that make threads and connections.
_SHORTEST, _LONGEST = 5e-6, 0.02
_MOST_CHECKS = 400.0

# Seconds after which a worker that has not ended is taken for one that has lost a wake-up.
_PATIENCE = 60.0
_PATIENCE_AFTER_FAILURE = 20.0


@dataclass
class Tally:
    """What became of the stops that were tried, and how many bytes were compared with what was sent.

    Attributes:
        before: those that were set before the operation had begun; it was not, then.
        within: those that ended it in the middle.
        after: those for which it was done too soon.
        checked: bytes.
    """

    before: int = 0
    within: int = 0
    after: int = 0
    checked: int = 0

    @property
    def tried(self) -> int:
        """All stops."""
        return self.before + self.within + self.after

    def add(self, other: Tally) -> None:
        """Count what another one has counted as well."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


class Alarm:
    """One thread that calls functions at the times that it is told."""

    def __init__(self) -> None:
        self._jobs: list[tuple[float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._has_ended = False
        self._thread = threading.Thread(target=self._run, name="alarm", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._has_ended = True
            self._jobs.clear()
            self._changed.notify()
        self._thread.join()

    def after(self, seconds: float, call: Callable[[], object]) -> None:
        """Call a function in so many seconds."""
        job = time.monotonic() + seconds, next(self._numbers), call
        with self._changed:
            heapq.heappush(self._jobs, job)
            if self._jobs[0] is job:
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._has_ended and (wait := self._until_next()) != 0:
                    self._changed.wait(wait)
                if self._has_ended:
                    return
                call = heapq.heappop(self._jobs)[2]
            call()

    def _until_next(self) -> float | None:
        return max(0.0, self._jobs[0][0] - time.monotonic()) if self._jobs else None


class Allowance:
    """How many stops are still to be tried in a round, by all its workers together.

    It also ends with the first worker that fails: the others have nobody to talk to any more.

    Attributes:
        failed: is set then.
    """

    def __init__(self, stops: int) -> None:
        self.failed = StopEvent()
        self._left = stops
        self._lock = threading.Lock()

    def take(self) -> None:
        """One more was tried."""
        with self._lock:
            self._left -= 1

    def end(self) -> None:
        """No more, since a worker has failed."""
        with self._lock:
            self._left = 0
        self.failed.set("another worker has failed")

    def used_up(self) -> bool:
        """Whether it is enough."""
        return self._left <= 0


@dataclass
class Limits:
    """Up to where the instants of an operation's stops are drawn: seconds, and checks."""

    time: float = _FIRST_TIME
    checks: float = _FIRST_CHECKS

    def was_late(self, *, by_time: bool) -> None:
        """A stop came when the operation was done."""
        if by_time:
            self.time = max(_SHORTEST, 0.9 * self.time)
        else:
            self.checks = max(2.0, 0.9 * self.checks)

    def was_early(self, *, by_time: bool) -> None:
        """A stop came before it was done."""
        if by_time:
            self.time = min(_LONGEST, 1.03 * self.time)
        else:
            self.checks = min(_MOST_CHECKS, 1.05 * self.checks)


@dataclass
class Stops:
    """The stops of one worker.

    Attributes:
        rng: what everything of this worker is drawn from.
        alarm: what sets those that come after a time.
        allowance: what each of them is taken from.
        limits: what is known of each operation by now, by its name.
        tally: what became of them.
    """

    rng: random.Random
    alarm: Alarm
    allowance: Allowance
    limits: dict[str, Limits]
    tally: Tally = field(default_factory=Tally)

    def trial(self, name: str, owner: Any = None, *, takes_stop: bool = False, may_ignore: bool = False) -> Trial:
        """A block for one attempt at an operation.

        Args:
            name: of the operation, by which it is known how long it takes.
            owner: what has a `stop` that may be set; None if only the current stop is to be used.
            takes_stop: whether the operation is given `Trial.argument` as its `stop=`.
            may_ignore: whether it is one that need not end, as it waits for nobody: a close, a seek.
        """
        return Trial(self, self.limits[name], owner, takes_stop=takes_stop, may_ignore=may_ignore)


class Trial:
    """A block in which an operation is tried, and may be stopped: then it goes on behind the block.

    Attributes:
        argument: for the operation's `stop=`, or None.
        error: the `Interrupted` that the block ended with; None if it was done.
        may_ignore: whether the operation need not look at the stop; see `Stops.trial`.
    """

    def __init__(self, stops: Stops, limits: Limits, owner: Any, *, takes_stop: bool, may_ignore: bool) -> None:
        self._stops, self._limits, self._owner, self.may_ignore = stops, limits, owner, may_ignore
        self.argument: Any = None
        self.error: Interrupted | None = None
        self._scope = contextlib.ExitStack()
        self._draw()
        places = ["current", "argument"] if takes_stop else ["current"]
        place = stops.rng.choice([*places, "own"] if owner is not None else places)
        if place == "argument":
            self.argument = self._stop
        elif place == "own":
            owner.stop = self._stop
        self._is_current = place == "current"

    def _draw(self) -> None:
        draw = self._stops.rng.random
        self._root: StopEvent | threading.Event = StopEvent()
        self._reason: object = object()
        self._is_deadline = self._by_time = False
        self._begins_set = False
        self._delay: float | None = None
        kind = draw()
        if kind < 0.4:
            self._root = StopAfter(self._stops.rng.randint(1, max(2, round(self._limits.checks))))
        elif kind < 0.5:
            self._root = StopEvent(timeout=draw() * self._limits.time)
            self._is_deadline = self._by_time = True
        elif kind < 0.55:
            self._begins_set = True
        else:
            self._by_time = True
            self._delay = draw() * self._limits.time
            if kind < 0.62:
                self._root = threading.Event()
        if kind >= 0.995:  # which is asked every 50 ms
            self._stop: Any = self._root.is_set
        else:
            self._stop = StopEvent(self._root) if draw() < 0.2 else self._root
        if self._begins_set:
            self._set()

    def _set(self) -> None:
        if isinstance(self._root, StopEvent):
            self._root.set(self._reason)
        else:
            self._root.set()

    @property
    def _has_fired(self) -> bool:
        # Without a check, which a StopAfter would count.
        return self._root._latch.fired if isinstance(self._root, StopAfter) else self._root.is_set()

    @property
    def again(self) -> Any:
        """The stop, which is set by now: an operation that is given it has to do nothing."""
        return self._stop

    def __enter__(self) -> Self:
        if self._is_current:
            self._scope.enter_context(use_stop(self._stop))
        if self._delay is not None:
            self._stops.alarm.after(self._delay, self._set)
        self._was_set = self._has_fired
        # The first check of an operation is before it begins.
        self._is_first = isinstance(self._root, StopAfter) and self._root.checks >= self._root._n - 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        self._scope.close()
        if self._owner is not None:
            self._owner.stop = None
        if error is not None and not isinstance(error, Interrupted):
            return False
        self._stops.allowance.take()
        tally = self._stops.tally
        if error is None:
            tally.after += 1
            assert self.may_ignore or not self._was_set, (
                "an operation was done although its stop was set before it began"
            )
            self._limits.was_late(by_time=self._by_time)
            if isinstance(self._root, StopAfter):
                self._limits.checks = max(2.0, min(self._limits.checks, self._root.checks + 2.0))
            self._set()
            return True
        assert self._has_fired, f"{error!r}, but {self._stop!r} over {self._root!r} is not set"
        self._check_reason(error)
        self.error = error.with_traceback(None)
        if self._was_set or self._is_first:
            tally.before += 1
            assert self.may_ignore or not error.partial, f"it was set before, and {error.partial!r} was taken"
            assert not error.transferred, f"it was set before, and {error.transferred} bytes were moved"
        else:
            tally.within += 1
        self._limits.was_early(by_time=self._by_time)
        return True

    def _check_reason(self, error: Interrupted) -> None:
        if self._is_deadline:
            assert isinstance(error, DeadlineExceeded), f"{error!r} came of a deadline"
        elif isinstance(self._root, StopAfter):
            assert error.reason == self._root.reason, f"{error!r} does not say why"
        elif isinstance(self._root, StopEvent) and not callable(self._stop):
            assert error.reason is self._reason, f"{error!r} does not say why"


class Crew:
    """Workers of a round, each in a thread; the first that fails ends the others, and its error is the round's.

    Args:
        allowance: what ends with a failure.
        abort: what then frees the others, who may be blocked.
    """

    def __init__(self, allowance: Allowance, abort: Callable[[], object] | None) -> None:
        self._allowance, self._abort = allowance, abort
        self._errors: list[BaseException] = []
        self._lock = threading.Lock()

    def run(self, workers: Sequence[Callable[[], object]]) -> None:
        """Run all of them to their ends.

        Raises:
            BaseException: what the first of them to fail has raised.
            AssertionError: one is still blocked after a minute; where each stands has gone to stderr.
        """
        threads = [
            threading.Thread(target=self._work, args=(worker,), name=f"worker {number}", daemon=True)
            for number, worker in enumerate(workers)
        ]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + _PATIENCE
        for thread in threads:
            while thread.is_alive() and time.monotonic() < deadline:
                thread.join(0.5)
                if self._errors:
                    deadline = min(deadline, time.monotonic() + _PATIENCE_AFTER_FAILURE)
            if thread.is_alive() and not self._errors:
                faulthandler.dump_traceback(file=sys.__stderr__ or sys.stderr)
                self._fail(AssertionError(f"{thread.name} is blocked for ever: a wake-up or a byte was lost"))
        try:
            if self._errors:
                raise self._errors[0]
        finally:
            self._errors.clear()  # they refer to this frame

    def _work(self, worker: Callable[[], object]) -> None:
        try:
            worker()
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._errors.append(error)
            is_first = len(self._errors) == 1
        if is_first:
            self._allowance.end()
            if self._abort is not None:
                self._abort()
