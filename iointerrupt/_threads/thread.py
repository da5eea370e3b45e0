"""`Thread`: a `threading.Thread` that can be interrupted.

What it runs is put under its stop in `start`, by an instance attribute `run` that stands before the class's own: so the
`run` of a subclass is covered as well, and needs to call nothing.

`_run_ended` belongs to the thread, which sets it when its run is over; that is what `join` waits for. It is not the
standard library's lock, since up to CPython 3.12 a Ctrl-C while that is waited for makes a thread that is running look
like one that has ended. Nothing here needs a lock.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from iointerrupt._errors import DeadlineExceeded, Interrupted
from iointerrupt._stop import StopEvent, current_stop, use_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import check, deadline_of, wait_set

# The standard one, also where a program has put that of `monkey` in its place.
_join = threading.Thread.join


class Thread(threading.Thread):
    """A `threading.Thread` whose blocking operations of this library can be stopped from outside, by `interrupt()`.

    What it runs, the `target` or the `run` of a subclass, has `stop` as its current stop. An `Interrupted` that leaves it,
    by this stop or another, ends the thread quietly. Anything else that leaves it goes to `threading.excepthook`, as in any
    thread; so does a `DeadlineExceeded` that is not of the thread's own stop: a limit on a part of the work, which nobody has
    caught.

    Args:
        group, target, name, args, kwargs, daemon: as in `threading.Thread`.
        stop: a further stop of the thread. The current stop of whoever makes the thread always is one.

    Raises:
        TypeError: `target` is not callable, or `stop` not a stop.
    """

    def __init__(
        self,
        group: None = None,
        target: Callable[..., object] | None = None,
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        daemon: bool | None = None,
        stop: StopLike = None,
    ) -> None:
        if group is not None:  # the place of a function that somebody meant to be run
            raise TypeError(f"group must be None, as in threading.Thread, not {group!r}; what to run is `target=`")
        if target is not None and not callable(target):
            raise TypeError(f"target must be callable, not {type(target).__name__}")
        super().__init__(group, target, name, args, kwargs, daemon=daemon)
        self._thread_stop = self._make_stop(stop)
        self._run_ended = StopEvent()
        self._interruption: Interrupted | None = None  # what has ended it
        self._is_arranged = False

    @property
    def stop(self) -> StopEvent:
        """The thread's stop: set by `interrupt()`, with the stop that it was given, and with its creator's current stop.

        What is set here, before the thread is started, is one more that it stops on.
        """
        return self._thread_stop

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        if "_thread_stop" not in vars(self):
            raise RuntimeError("Thread.__init__() not called")
        if self.ident is not None:
            raise RuntimeError("a thread that has been started keeps its stop: interrupt() it")
        self._thread_stop = StopEvent(stop, self._thread_stop)

    def interrupt(self, reason: object = None) -> None:
        """Stop the operation that the thread is blocked in, and each one that it begins from now on.

        It only sets `stop`, so it may be called at any time, before the start and after the end, and from anywhere: from
        the thread itself, and from a signal handler. A thread that is started afterwards still runs, until it blocks.

        Args:
            reason: what the `Interrupted` carries; the first reason stays.
        """
        self._thread_stop.set(reason)

    def start(self) -> None:
        """Start the thread, once.

        Raises:
            RuntimeError: it has been started before; or no thread could be made, and then it may be tried again.
        """
        if not vars(self).get("_is_arranged", True):  # else it has no __init__ of ours, which the standard start says
            self._is_arranged = True
            vars(self)["run"] = functools.partial(self._run_with_stop, self.run)
        super().start()

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended, for at most `timeout` seconds; `is_alive()` says whether it has.

        A stop that is set does not end the thread that is waited for, but the wait.

        Raises:
            Interrupted: the current stop of the caller is set.
            RuntimeError: the thread has not been started, or is the caller itself.
        """
        if self.ident is None or self is threading.current_thread():
            _join(self, timeout)  # says so
            return
        check(None)
        deadline = deadline_of(None if timeout is None else float(max(timeout, 0)))
        if self.is_alive():
            try:
                wait_set(self._run_ended, None, deadline)
            except TimeoutError:
                return
        self._await_end(deadline)

    def _await_end(self, deadline: float | None) -> None:
        """Wait until a thread whose run is over is gone.

        That takes microseconds, unless its exception is being reported by a hook that takes longer; no stop ends it.
        """
        seconds = None if deadline is None else min(max(0.0, deadline - time.monotonic()), threading.TIMEOUT_MAX)
        _join(self, seconds)

    def _make_stop(self, stop: StopLike) -> StopEvent:
        return StopEvent(stop, current_stop())

    def _run_with_stop(self, run: Callable[[], None]) -> None:
        vars(self).pop("run", None)  # it refers back to the thread
        try:
            with use_stop(self._thread_stop):
                run()
        except Interrupted as error:
            if isinstance(error, DeadlineExceeded) and not self._thread_stop.is_set():
                raise
            self._interruption = error.with_traceback(None)  # without the frames that it has come through
        finally:
            self._run_ended.set()
