"""`interrupting`: a block whose driver knows how to cancel, and is told to when the stop comes.

The action runs in a helper thread, so that a slow driver holds up neither the thread that sets the stop nor the other
actions. It is repeated until the block has ended: a cancel that comes before the driver has begun is lost in most of
them, and then the block would go on as if nobody had stopped it. Leaving the block waits for an action that is running,
so that none reaches what the connection does next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from iointerrupt._callables import check_callable
from iointerrupt._errors import Interrupted
from iointerrupt._helpers import left_behind, run_in_thread
from iointerrupt._signal import guard
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Gate, Parker
from iointerrupt._signal.reports import report_exception
from iointerrupt._stop import as_stop, check_timeout
from iointerrupt._types import StopLike
from iointerrupt._wait import stops

# Seconds until the action is repeated, which grow as the block goes on.
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 1.0


@contextmanager
def interrupting(action: Callable[[], object], *, stop: StopLike = None, grace: float = 5.0) -> Iterator[None]:
    """A block in which a driver of somebody else's is told to cancel when the stop comes.

    Args:
        action: what makes the block's call return: `sqlite3.Connection.interrupt`, `psycopg.Connection.cancel_safe` (its
            `cancel` holds up all threads meanwhile), `threading.Barrier.abort`, `Future.cancel`. It is called without
            arguments, in a helper thread, and again, at growing intervals, until the block has ended.
        stop: what ends the block, besides the current stop.
        grace: seconds that leaving the block waits for an action that is still running. After that it is left behind, and
            counted by `abandoned_helpers`.

    Raises:
        Interrupted: the stop was set before the block, which then does not run; or the block raised an exception after
            the stop had come, which is the cause (`__cause__`) of this one. A block that completes in spite of the
            stop has completed.
        TypeError: `action` cannot be called, or would have to be awaited.

    What the action raises goes to `threading.excepthook`, once, and it is tried again. An exception that is no `Exception`,
    such as a KeyboardInterrupt, passes as it is.
    """
    check_callable("action", action)
    check_timeout(grace, "grace")
    waiting = stops(as_stop(stop))
    acting = _Action(action)
    with Blocked(waiting) as blocked, ExitStack() as registrations:
        for event in waiting:
            registrations.enter_context(event.on_set(acting.start))
        try:
            yield
        except Interrupted:
            raise
        except Exception as error:
            if acting.started:
                try:
                    blocked.raise_if_fired()  # also where the stop has been cleared by now
                except Interrupted as interruption:
                    raise interruption from error
            raise
        finally:
            acting.end(grace)


class _Action:
    """An action, its helper once there is one, and the end of the block that it is for.

    The lock of `guard` guards `started`, `_is_over` and `_is_acting`.
    """

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action
        self.started = False
        self._is_over = False
        self._is_acting = False
        self._has_failed = False
        self._over = Parker()  # for the helper, between two calls
        self._returned = Gate()  # for the block, that a call of the action has returned after its end

    def start(self) -> None:
        """Tell the driver, again and again until the block has ended."""
        with guard.lock:
            if self._is_over or self.started:
                return
            self.started = True
        try:
            run_in_thread(self._run, "iointerrupt-action")
        except RuntimeError:  # there are no more threads to be had: once, and here, is better than not at all
            self._act()

    def end(self, grace: float) -> None:
        """The block has ended: let no call of the action begin any more, and wait for one that is under way."""
        with guard.lock:
            self._is_over = True
            is_acting = self._is_acting
        self._over.unpark()
        if is_acting and not self._returned.wait(grace):
            left_behind.add(self, f"the action {self._action!r}")
            if self._returned.is_set():
                left_behind.discard(self)

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while self._act():
            self._over.park(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _act(self) -> bool:
        if not self._begin():
            return False
        try:
            self._action()
        except BaseException:  # noqa: BLE001 - reported as a callback's is; the block still has to be stopped
            if not self._has_failed:
                self._has_failed = True
                report_exception()
        finally:
            self._finish()
        return True

    def _begin(self) -> bool:
        with guard.lock:
            self._is_acting = not self._is_over
            return self._is_acting

    def _finish(self) -> None:
        with guard.lock:
            self._is_acting = False
            is_over = self._is_over
        if is_over:
            self._returned.set()
            left_behind.discard(self)
