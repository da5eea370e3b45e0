"""What the first Ctrl-C or SIGTERM does to a program under `iointerrupt run`, and what is said of those who do not follow.

The stop of the main thread, `MainStop`, is above those of all others. A signal sets it for good, but not for the main thread,
which gets an exception instead, and has to clean up. Others do not only have stops below it: a thread that runs in a copy of
the main thread's context (`asyncio.to_thread`, or `contextvars.copy_context().run`) has this one as its current stop.

All handlers run in the main thread. `signal.default_int_handler` is replaced as well as the handler itself: asyncio and trio
take over Ctrl-C only where the one is the other, and a handler of the program that goes on to it, or puts it back, comes here.
"""

from __future__ import annotations

import _thread
import asyncio.runners
import contextlib
import dataclasses
import functools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from time import sleep
from types import FrameType
from typing import Any, cast

from iointerrupt._cli.inherited import inherited_stop
from iointerrupt._monkey.patches import Patch, apply, undo
from iointerrupt._signal.latch import Cause, Latch
from iointerrupt._stop import StopEvent
from iointerrupt._threads.stragglers import Straggler, find_stragglers
from iointerrupt._threads.thread import Thread

_INT = "SIGINT"
_TERM = "SIGTERM"

#: The exit code of a program that SIGTERM has ended: what shells say of a process that died of it.
TERMINATED = 143


class MainStop(StopEvent):
    """The stop of the main thread, which can be set for all other threads alone.

    Attributes:
        main_thread: the identifier of that thread.
    """

    def __init__(self) -> None:
        self.main_thread = threading.get_ident()
        self._elsewhere = Latch()
        self._is_for_others = False
        super().__init__()

    def set_for_others(self, reason: object) -> None:
        """Set it, and those below it, but for the main thread, which is the caller, leave it as it is."""
        self._is_for_others = True
        try:
            super()._fire(Cause(reason))
        finally:
            self._is_for_others = False

    @property  # in place of StopEvent's attribute, one for each of the two
    def _latch(self) -> Latch:
        is_here = threading.get_ident() == self.main_thread and not self._is_for_others
        return self._here if is_here else self._elsewhere

    @_latch.setter
    def _latch(self, latch: Latch) -> None:
        if threading.get_ident() == self.main_thread:
            self._here = latch
        else:
            self._elsewhere = latch

    def _fire(self, cause: Cause) -> None:
        for latch in (self._here, self._elsewhere):
            latch.fire(cause)
        super()._fire(cause)


class Signals:
    """The handlers, from `installed` on until the first signal.

    Args:
        grace: seconds from the first signal until what is still running is named; None for never.

    Attributes:
        stop: that of the main thread.
        came: the name of the signal that has come.
        is_over: whether the program's own code is over, and the main thread waits for others, which nothing interrupts.
    """

    def __init__(self, grace: float | None) -> None:
        self.stop = MainStop()
        self.came: str | None = None
        self.is_over = False
        self._grace = grace
        self._handlers: dict[int, tuple[Any, Any]] = {}  # ours, and the ones before
        self._default_int_handler = signal.default_int_handler
        self._masks: dict[int, set[Any]] = {}  # of blocked signals, of threads that are forking

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """In this block, of the main thread, signals that are not ignored or handled otherwise are handled here."""
        done = apply(
            [
                Patch(signal, "default_int_handler", lambda _: self._interrupt),
                Patch(asyncio.runners.Runner, "_on_sigint", self._with_asyncio),
            ]
        )
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork, after_in_parent=self._after_fork, after_in_child=self._after_fork_in_child
            )
        try:
            self._install(signal.SIGINT, self._default_int_handler, signal.default_int_handler)
            self._install(signal.SIGTERM, signal.SIG_DFL, self._terminate)
            yield
        finally:
            self._put_back()
            undo(done)

    def stop_threads(self, name: str) -> None:
        """Set all stops of other threads, and have what comes next do what it does to any program."""
        is_first, self.came = self.came is None, self.came or name
        try:
            self._put_back()  # first: what is set below may call back into code that hangs
        finally:  # also if a second one comes meanwhile
            if is_first:
                self._stop_others(name)

    def _stop_others(self, name: str) -> None:
        try:
            self.stop.set_for_others(name)
        except KeyboardInterrupt:  # a second one, which may have left it half done
            self.stop.set_for_others(name)
            raise
        if self._grace is not None:
            try:
                # Not a threading.Thread, which the interrupted code may be in the middle of starting.
                _thread.start_new_thread(self._name_stragglers, (self._grace,))
            except RuntimeError:  # there can be no more threads
                pass

    def _install(self, number: int, previous: Any, handler: Any) -> None:
        if signal.getsignal(number) == previous:
            self._handlers[number] = handler, previous
            signal.signal(number, handler)

    def _put_back(self) -> None:
        if signal.default_int_handler == self._interrupt:
            signal.default_int_handler = self._default_int_handler
        for number in list(self._handlers):
            self._put_back_one(number)

    def _put_back_one(self, number: int) -> None:
        if number in self._handlers:
            handler, previous = self._handlers[number]
            if signal.getsignal(number) == handler:  # else the program has installed another one
                signal.signal(number, previous)
            self._handlers.pop(number, None)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        is_second = self.came is not None
        self.stop_threads(_INT)
        if is_second or not self.is_over:
            self._default_int_handler(number, frame)

    def _terminate(self, _number: int, _frame: FrameType | None) -> None:
        is_second = self.came is not None
        self.stop_threads(_TERM)
        if is_second or not self.is_over:
            raise SystemExit(TERMINATED)

    def _with_asyncio(self, on_sigint: Callable[..., None]) -> Any:
        @functools.wraps(on_sigint)
        def stop_threads_too(*args: Any, **kwargs: Any) -> None:
            self.stop_threads(_INT)  # a main task that is cancelled may wait for some of them
            on_sigint(*args, **kwargs)

        return stop_threads_too

    # A parent that terminates its child, as multiprocessing does, expects it to die, and of this signal: so a child is
    # without a handler for it, and one that comes before that is so is kept waiting.

    def _before_fork(self) -> None:
        self._masks[threading.get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def _after_fork(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.pop(threading.get_ident()))

    def _after_fork_in_child(self) -> None:
        self.stop.main_thread = threading.get_ident()
        self._put_back_one(signal.SIGTERM)
        self._after_fork()

    def _name_stragglers(self, grace: float) -> None:
        sleep(min(grace, threading.TIMEOUT_MAX))
        stragglers = self._stragglers()
        if stragglers and sys.stderr is not None:
            said = [
                f"iointerrupt: {grace:g} s after {self.came}, this is still running:",
                *map(str, stragglers),
                f"A second Ctrl-C ends the waiting for it, `kill {os.getpid()}` the process.",
            ]
            with contextlib.suppress(OSError, ValueError):  # nobody reads it, or it is closed
                sys.stderr.write("\n".join(said) + "\n")
                sys.stderr.flush()

    def _stragglers(self) -> list[Straggler]:
        everyone = cast("list[Thread]", threading.enumerate())
        found = [
            dataclasses.replace(one, stack=_of_the_program(one.stack))
            for one in find_stragglers(everyone, lambda _: ())
        ]
        main = [one for one in found if one.thread is threading.main_thread()]
        if self.is_over:  # where it waits for the others; but what is registered with atexit is the program's again
            main = [one for one in main if one.where is not None]
        # A daemon keeps nothing from ending, unless the main thread waits for it.
        others = [one for one in found if not one.thread.daemon or (main and _is_stopped(one.thread))]
        return [*main, *(one for one in others if one.thread is not threading.main_thread())]


def _is_stopped(thread: threading.Thread) -> bool:
    stop = inherited_stop(thread)
    return stop is not None and stop.is_set()


def _of_the_program(stack: traceback.StackSummary) -> traceback.StackSummary:
    """Without the frames that have led to the program's own."""
    last = max((n for n, frame in enumerate(stack) if frame.filename == _PROGRAM), default=-1)
    return traceback.StackSummary.from_list(list(stack)[last + 1 :])


_PROGRAM = os.path.join(os.path.dirname(__file__), "program.py")
