"""`interrupting`: a block whose driver knows how to cancel, and is told to when the stop comes.

The action runs in a thread of its own, so that a slow driver holds up neither the thread that sets the stop nor the other
actions. It is repeated until the block has ended: a cancel that comes before the driver has begun is lost in most of
them, and then the block would go on as if nobody had stopped it. Leaving the block waits for an action that is running,
so that none reaches what the connection does next.

Each block has one `_Action`, whose `_lock` guards whether the block has ended and who runs; nothing is called under it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from iointerrupt._errors import Interrupted
from iointerrupt._helpers import left_behind
from iointerrupt._signal.blocked import Blocked
from iointerrupt._stop import StopEvent, as_stop, check_timeout
from iointerrupt._types import StopLike
from iointerrupt._wait import stops

# Seconds until the action is repeated, which grow as the block goes on.
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0


@contextmanager
def interrupting(action: Callable[[], object], *, stop: StopLike = None, grace: float = 5.0) -> Iterator[None]:
    """A block in which a driver of somebody else's is told to cancel when the stop comes.

    Args:
        action: what makes the block's call return: `sqlite3.Connection.interrupt`, `psycopg.Connection.cancel`,
            `threading.Barrier.abort`, `Future.cancel`. It is called without arguments, in a thread of its own, and again, at
            growing intervals, until the block has ended.
        stop: what ends the block, besides the current stop.
        grace: seconds that leaving the block waits for an action that is still running. After that it is left behind, and
            counted by `abandoned_helpers`.

    Raises:
        Interrupted: the stop was set before the block, which then does not run; or the block raised an exception after
            the stop had come, which is the cause (`__cause__`) of this one. A block that completes in spite of the
            stop has completed.
        TypeError: `action` is not callable.

    What the action raises goes to `threading.excepthook`, once, and it is tried again. An exception that is no `Exception`,
    such as a KeyboardInterrupt, passes as it is.
    """
    if not callable(action):
        raise TypeError(f"action must be callable, not {type(action).__name__}")
    check_timeout(grace, "grace")
    waiting = stops(as_stop(stop))
    acting = _Action(action)
    with Blocked(waiting), ExitStack() as registrations:
        for event in waiting:
            registrations.enter_context(event.on_set(acting.start))
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            _raise_if_stopped(waiting, acting, error)
            raise
        finally:
            acting.end(grace)


def _raise_if_stopped(waiting: tuple[StopEvent, ...], acting: _Action, error: Exception) -> None:
    for event in waiting:
        if acting.started and event.is_set():
            cause = event._latch.cause
            if cause is not None:
                raise cause.interruption() from error


class _Action:
    """An action, its thread once there is one, and the end of the block that it is for."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self._lock = threading.RLock()  # re-entrant, as a signal handler may set the stop
        self._over = threading.Event()
        self._finished = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def started(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        with self._lock:
            if self._over.is_set() or self._thread is not None:
                return
            self._thread = threading.Thread(target=self._run, name="iointerrupt-action", daemon=True)
        try:
            self._thread.start()
        except BaseException:  # there may be no more threads to be had; then it is the setter's to know
            self._finished.set()
            raise

    def end(self, grace: float) -> None:
        with self._lock:
            self._over.set()
            thread = self._thread
        if thread is not None and not self._finished.wait(grace):
            left_behind(thread)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        failed = False
        while not self._over.is_set():
            try:
                self._action()
            except Exception:  # noqa: BLE001 - reported as a callback's is; the block still has to be stopped
                if not failed:
                    failed = True
                    kind, value, trace = sys.exc_info()
                    threading.excepthook(threading.ExceptHookArgs((kind, value, trace, threading.current_thread())))
            self._over.wait(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._finished.set()
