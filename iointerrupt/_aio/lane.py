"""`Lane`: the operations on one file, one after the other, in a thread; and what becomes of those that are given up.

An operation is *withdrawn* if it has not begun: then nothing has happened. One that is at work is *left behind*: its await
ends, it goes on, and once it has ended it is settled in the thread, before the next one begins. What settling is, its
maker knows (`operations`). So an outcome is either delivered or settled, and never dropped.

A lane's lock guards its queue, whether a thread is at work on it, and who gets an outcome; nothing is called under it. It is
re-entrant, since a coroutine that is collected as garbage gives up its operation wherever that happens.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, TypeVar

from iointerrupt._aio.awaiting import call_in
from iointerrupt._helpers import left_behind, run_in_thread
from iointerrupt._signal.latch import Cause
from iointerrupt._stop import StopEvent, _current, current_stop, ever_current

T = TypeVar("T")

#: What the threads are called. There are as many as there are calls at work, so that one that is stuck keeps no other waiting.
NAME: Final = "iointerrupt-aio"

#: Seconds that a call has to end by itself once its stop is set, before it is left behind.
GRACE: Final = 0.05


class Operation:
    """One call in a thread, which a coroutine awaits.

    Args:
        name: of the method.
        function: what is called, in a copy of the caller's context, whose current stop it keeps.
        arguments: what the method is called with, for who settles it.
    """

    __slots__ = (
        "_context",
        "arguments",
        "done",
        "function",
        "has_begun",
        "loop",
        "name",
        "outcome",
        "settle",
        "stop",
        "thread",
        "timers",
    )

    def __init__(self, name: str, function: Callable[[], Any], arguments: tuple[Any, ...] = ()) -> None:
        self.name = name
        self.arguments = arguments
        # Not kept longer than for the call: the thread is not to hold the last reference to a file that is dropped.
        self.function: Callable[[], Any] | None = function
        self.settle: Callable[[Operation], None] | None = None  # what to do with the outcome if nobody awaits it
        self.stop = StopEvent(current_stop())  # set to end the call itself, once nobody awaits it
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.outcome: tuple[Any, BaseException | None] | None = None
        self.has_begun = False
        self.thread: int | None = None  # the identifier of the one it is in
        self.timers: list[asyncio.TimerHandle] = []
        self._context = contextvars.copy_context()

    def call(self) -> tuple[Any, BaseException | None]:
        """Do it; returns what it returned, and what it raised."""
        self.thread = threading.get_ident()
        try:
            return self._context.run(self._call), None
        except BaseException as error:  # noqa: BLE001 - it is raised again in the coroutine
            return None, error

    def sees_its_stop(self) -> bool:
        """Whether the thread is blocked in a wait that a stop ends, so that it comes back by itself."""
        return bool(self.stop._blocked)

    def announce(self) -> None:
        """End the await, from the loop."""
        if not self.done.done():
            self.done.set_result(None)

    def result(self) -> Any:
        """What the call returned or raised, once."""
        if self.outcome is None:
            raise RuntimeError("the operation has not ended")
        # Not kept here, as an error's traceback refers to the frames that refer to this object.
        (value, error), self.outcome = self.outcome, None
        if error is None:
            return value
        try:
            raise error
        finally:
            del error

    def _call(self) -> Any:
        # As use_stop does, but that nobody needs this context afterwards.
        if not ever_current.fired:
            ever_current.fire(Cause())
        _current.set(self.stop)
        function, self.function = self.function, None
        return None if function is None else function()


class Lane:
    """Operations in turn.

    Args:
        executor: where they run; None for a thread of the library's own, which is held only while one is at work.
    """

    def __init__(self, executor: Executor | None) -> None:
        self._executor = executor
        self._forget()
        _lanes.add(self)

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._queue: deque[Operation] = deque()
        self._at_work: Operation | None = None
        self._is_running = False

    @property
    def is_held_up(self) -> bool:
        """Whether what is at work has been left behind."""
        operation = self._at_work
        return operation is not None and operation.settle is not None

    def put(self, operation: Operation) -> None:
        """Have it called after those before it.

        Raises:
            RuntimeError: there is no thread to be had, or the executor takes no more.
        """
        with self._lock:
            self._queue.append(operation)
        try:
            self._run()
        except BaseException:
            self.withdraw(operation)
            raise

    def withdraw(self, operation: Operation) -> bool:
        """Take it back; False if it has begun."""
        with self._lock:
            try:
                self._queue.remove(operation)
            except ValueError:
                return False
            return True

    def leave(self, operation: Operation, settle: Callable[[Operation], None]) -> bool:
        """Leave it behind, wherever it stands; False if it has ended, so that its outcome is there.

        `settle` is called in the thread, with the operation, when it has ended.
        """
        with self._lock:
            if operation.outcome is not None:
                return False
            operation.settle = settle
            if operation.has_begun:
                left_behind.add(operation, f"{NAME}, in {operation.name}", operation.thread)
        return True

    def settle(self, operation: Operation, settle: Callable[[Operation], None]) -> None:
        """Have one that has ended settled in the thread, before any other begins."""
        with self._lock:
            operation.settle = settle
            self._queue.appendleft(operation)
        self._run()

    def _run(self) -> None:
        with self._lock:
            if self._is_running:
                return
            self._is_running = True
        try:
            if self._executor is None:
                run_in_thread(self._work, NAME)
            else:
                self._executor.submit(self._work).add_done_callback(self._see_whether_it_ran)
        except BaseException:
            self._is_running = False
            raise

    def _work(self) -> None:
        while True:
            with self._lock:
                operation = self._at_work = self._queue.popleft() if self._queue else None
                if operation is None:
                    self._is_running = False
                    return
                operation.has_begun = True
            self._perform(operation)
            del operation  # it may hold the last reference to the file

    def _perform(self, operation: Operation) -> None:
        if operation.outcome is None:
            outcome = operation.call()
            with self._lock:
                operation.outcome = outcome
                settle = operation.settle
            del outcome
            if settle is None:
                call_in(operation.loop, operation.announce)
                return
            left_behind.discard(operation)
        if operation.settle is not None:
            operation.settle(operation)
            operation.outcome = operation.settle = None

    def _see_whether_it_ran(self, future: Future[None]) -> None:
        # An executor that is shut down may cancel what it has taken, and one of processes cannot run it.
        if not future.cancelled() and future.exception() is None:
            return
        error = RuntimeError("the executor did not run the operation")
        error.__cause__ = None if future.cancelled() else future.exception()
        with self._lock:
            left_out = list(self._queue)
            self._queue.clear()
            self._at_work = None
            self._is_running = False
            for operation in left_out:
                operation.outcome = None, error
        for operation in left_out:
            call_in(operation.loop, operation.announce)


_lanes: weakref.WeakSet[Lane] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for lane in list(_lanes):
        lane._forget()  # the thread is in the parent


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
