"""`Registration`: one callback of a stop, which runs once, or is cancelled, and never both.

Which of the two is decided by who takes it out of its event's dict, in one atomic operation. The lock of
`guard` guards who waits for whose running callback.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import ExitStack

from iointerrupt._signal import guard
from iointerrupt._signal.latch import Gate
from iointerrupt._signal.reports import report_exception

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    from typing import Self


class Registration:
    """A callback's place in an event, made by `StopEvent.on_set`. As a context manager, it cancels when the block ends."""

    def __init__(
        self, callbacks: dict[Registration, Registration], callback: Callable[[], object], hold: ExitStack
    ) -> None:
        self._callbacks = callbacks
        self._callback = callback
        self._runner: int | None = None
        self._done = Gate()
        self._hold = hold  # what keeps the event watched and alive for this callback
        self._callbacks[self] = self

    def cancel(self) -> None:
        """Take the callback back: when this returns, it is not running and will not run.

        If it is running in another thread, this waits for its end. It returns at once when called from within the
        callback, or where that other thread is itself waiting for a callback that this thread is running.
        """
        if self._claim():
            self._done.set()
            self._hold.close()
        else:
            self._await_run()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.cancel()

    def _claim(self) -> bool:
        # Several setters and cancellers may come at once; the one that gets it out of the dict decides.
        return self._callbacks.pop(self, None) is not None

    def _run(self) -> None:
        with guard.lock:
            if not self._claim():
                return
            self._runner = threading.get_ident()
            _running[self] = None
        try:
            self._callback()
        except Exception:  # noqa: BLE001 - a callback's failure is reported, and stops no other callback
            report_exception()
        finally:
            _running.pop(self, None)
            self._done.set()
            self._hold.close()

    def _await_run(self) -> None:
        me = threading.get_ident()
        with guard.lock:
            # Who runs it, what does that thread wait for, who runs that? A chain that comes back here would never end.
            link: Registration | None = self
            while link is not None and link._runner is not None and not link._done.is_set():
                if link._runner == me:
                    return
                link = _awaited.get(link._runner)
            _awaited[me] = self
        try:
            self._done.wait()
        finally:
            _awaited.pop(me, None)


_running: dict[Registration, None] = {}
_awaited: dict[int, Registration] = {}  # by thread: the run that it waits for in cancel()


def _after_fork_in_child() -> None:
    _awaited.clear()
    for registration in _running:
        if registration._runner != threading.get_ident():
            # Its thread is in the parent, and so is its end. The event is a new one, as that thread may have held its lock.
            registration._done = Gate()
            registration._done.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
