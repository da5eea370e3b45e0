"""How a stop is timed: a thread that sleeps in what blocks it, and the moment at which the blocked call has ended.

The time runs from just before the stop is given, in another thread, to the first line after the blocked call. Nothing is
stopped before every other thread of the process sleeps in the kernel: that is the case that counts, and a thread that is
still on its way into the call would look as if it woke at once.
"""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from benchmarks.measure import Run

#: Seconds between two looks at the stop, of those who look at it now and then.
PERIOD = 0.1

#: How the floor is called: what no stop of a thread by another one can be sooner than.
FLOOR = "threading.Event.wait"

#: Seconds in which no thread may run before it counts as asleep.
_QUIET = 0.001

#: Seconds after which something is wrong.
_LIMIT = 20

#: Is told, when only blocking is left, what will end it from another thread.
Ready = Callable[[Callable[[], object]], object]


@dataclass(frozen=True)
class Attempt:
    """One blocked call.

    Attributes:
        block: is run in a thread of its own: says that it is ready, blocks, and returns the moment at which that had ended.
        period: seconds between two looks at the stop, for those who look: it is given at a random moment of them.
        thread: the class of the thread.
        sleeps: False for what computes while it is blocked, and says that it is ready when it has begun to.
    """

    block: Callable[[Ready], float]
    period: float = 0.0
    thread: type[threading.Thread] = threading.Thread
    sleeps: bool = True


def moment_of(error: type[BaseException], call: Callable[[], object]) -> float:
    """The moment at which the call had ended by this error."""
    try:
        call()
    except error:
        return time.perf_counter()
    return _not_stopped()


def time_of_stop(attempt: Attempt) -> float:
    """The seconds from the stop to the end of what blocks.

    Raises:
        RuntimeError: it has failed, with what it raised as the cause.
        TimeoutError: it does not begin to block, or does not end.
    """
    stops: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    ended: list[float] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            ended.append(attempt.block(stops.put))
        except BaseException as error:  # noqa: BLE001 - it is raised where the time is asked for
            failed.append(error)
            stops.put(lambda: None)

    thread = attempt.thread(target=run, daemon=True)
    thread.start()
    try:
        stop = stops.get(timeout=_LIMIT)
    except queue.Empty:
        raise TimeoutError("it does not come so far as to block") from None
    if attempt.sleeps:
        _sleep_until_all_do()
    else:
        time.sleep(_QUIET)
    time.sleep(random.uniform(0, attempt.period))
    began = time.perf_counter()
    stop()
    thread.join(_LIMIT)
    if failed:
        raise RuntimeError("it has failed") from failed[0]
    if not ended:
        raise TimeoutError(f"it had not ended {_LIMIT} s after its stop")
    return ended[0] - began


def timed(make: Callable[[], Attempt]) -> Run:
    """What makes a new attempt each time, and times its stop."""
    return lambda: time_of_stop(make())


def those_who_can(runs: Mapping[str, Run]) -> tuple[dict[str, Run], dict[str, str]]:
    """Let each run once: those that can, and of the others why they cannot. The first one, which is ours, has to."""
    able: dict[str, Run] = {}
    reasons: dict[str, str] = {}
    for name, run in runs.items():
        try:
            run()
        except Exception as error:
            if not able:
                raise
            reasons[name] = _reason(error.__cause__ or error)
        else:
            able[name] = run
    return able, reasons


def _reason(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    return f"cannot run here: {type(error).__name__}: {error}"


def event_wait(make: Callable[[], Any] = threading.Event) -> Attempt:
    """The floor: a thread in `threading.Event.wait`, or in that of another kind of event."""

    def block(ready: Ready) -> float:
        event = make()
        ready(event.set)
        event.wait()
        return time.perf_counter()

    return Attempt(block)


def wake_of_event_wait() -> float:
    """The seconds that the floor takes."""
    return time_of_stop(event_wait())


def _sleep_until_all_do() -> None:
    """Sleep until no other thread of this process has run for a moment, and none wants to."""
    deadline = time.monotonic() + _LIMIT
    before = None
    while True:
        now = _turns()
        if now is not None and now == before:
            return
        if time.monotonic() > deadline:
            raise TimeoutError("there are threads that do not come to rest")
        before = now
        time.sleep(_QUIET)


def _turns() -> dict[str, list[str]] | None:
    """How often each other thread has left a processor; None while one of them runs or wants to."""
    turns = {}
    own = str(threading.get_native_id())
    for number in os.listdir("/proc/self/task"):
        if number == own:
            continue
        try:
            with open(f"/proc/self/task/{number}/status", encoding="utf-8", errors="replace") as status:
                lines = status.read().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            return None  # it has just ended
        if any(line.startswith("State:\tR") for line in lines):
            return None
        turns[number] = [line for line in lines if "ctxt_switches" in line]
    return turns


def _not_stopped() -> NoReturn:
    raise AssertionError("it ended, and nothing had stopped it")
