"""`Operations`: what an aiofiles object takes for its loop, so that each of its calls can be stopped and given up.

aiofiles does everything by `await loop.run_in_executor(executor, function)`. Here that is a coroutine which puts the call
into the file's `Lane` and ends when the call does; or, whatever the call does meanwhile,

- when a stop comes: at once if the call has not begun; else the call itself sees the stop, and has a moment to end by
  itself, with what it had moved. A thread that is stuck in the kernel does not: it is left behind;
- when the await is cancelled: at once, and the call is ended by a stop of its own.

What a read that was given up takes is given back to the file (`putback`). What a write that was left behind has written,
nobody knows: the file is unusable from then on. Everything here runs in the loop, but for `_settle`.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Any, Final

from iointerrupt._aio.awaiting import Awaiting
from iointerrupt._aio.lane import GRACE, Lane, Operation
from iointerrupt._aio.putback import READS, Position, call_at, position_of, taken_by
from iointerrupt._errors import Interrupted
from iointerrupt._files.disk import DiskFile
from iointerrupt._files.raw import StreamFile
from iointerrupt._stop import StopEvent
from iointerrupt._wait import stops

#: Seconds that a call has to end by itself which waits with the stop in view: on a pipe, a terminal, a disk that may hang.
WAITING_GRACE: Final = 1.0

_CLOSES: Final = frozenset({"close", "__exit__"})
_WRITES: Final = frozenset({"write", "writelines"})
_ASKS: Final = frozenset({"open", "peek", "flush"}) | READS | _WRITES  # with a stop set these do nothing but raise
_KEEPS: Final = (  # nothing is unknown of a file after these, whatever became of them
    READS | _CLOSES | {"open", "peek", "flush", "tell", "isatty", "seekable", "readable", "writable"}
)


class Operations:
    """The operations on one file.

    Args:
        stop: the own stop of the open; afterwards that of the file counts.
        executor: where they run, None for threads of the library's own.
    """

    def __init__(self, stop: StopEvent | None, executor: Executor | None) -> None:
        self._lane = Lane(executor)
        self._stop = stop
        self._file: Any = None
        self._position = Position(None)
        self._grace = GRACE
        self._unusable: str | None = None

    async def open(self, opener: Callable[[], Any]) -> Any:
        """The file that `opener()` opens, which is the object's from then on; one that comes too late is closed."""
        file = await self._await(Operation("open", opener))
        binary = getattr(file, "buffer", file)
        if isinstance(getattr(binary, "raw", binary), StreamFile | DiskFile):
            self._grace = WAITING_GRACE
        self._file, self._position = file, position_of(file)
        return file

    def run_in_executor(self, executor: Any, function: Callable[..., Any], *args: Any) -> Awaitable[Any]:  # noqa: ARG002 - it has its own
        """Call `function(*args)`, a method of the file or a partial of one, in the file's thread; to be awaited.

        Raises:
            Interrupted: a stop is set, or comes before the call has ended.
            ValueError: a stop has left a call behind in the file of which nobody knows what it did.
        """
        call = functools.partial(function, *args)  # flattens a partial
        operation = Operation(getattr(call.func, "__name__", ""), call, call.args)
        if self._position.follows:
            operation.function = functools.partial(call_at, self._position, operation.name, call)
        return self._await(operation)

    async def _await(self, operation: Operation) -> Any:
        if self._unusable is not None and operation.name not in _CLOSES:
            raise ValueError(self._unusable)
        own = self._stop if self._file is None else self._file.stop
        asks = operation.name in _ASKS
        on_stop = functools.partial(self._stopped, operation)
        try:
            with Awaiting(stops(own), on_stop, raises=asks, is_seen=operation.sees_its_stop) as awaiting:
                self._lane.put(operation)
                if operation.name in _CLOSES and self._lane.is_held_up:
                    operation.timers.append(operation.loop.call_later(GRACE, self._leave_close, operation))
                try:
                    await operation.done
                except BaseException:  # cancelled, or collected as garbage
                    self._give_up(operation)
                    raise
                if operation.outcome is None or operation.settle is not None:
                    return awaiting.raise_if_fired()
                return operation.result()
        except Interrupted as error:
            if operation.name in _WRITES and not operation.has_begun:
                error.transferred = 0
            raise
        finally:
            for timer in operation.timers:
                timer.cancel()

    def _stopped(self, operation: Operation) -> None:
        if operation.done.done():
            return
        if operation.name in _ASKS and self._lane.withdraw(operation):
            operation.announce()
        else:
            operation.timers.append(operation.loop.call_later(self._grace, self._leave, operation))

    def _leave(self, operation: Operation) -> None:
        if operation.done.done() or not (self._withdraw(operation) or self._lane.leave(operation, self._settle)):
            return
        if operation.has_begun and operation.name not in _KEEPS:
            self._unusable = (
                f"I/O operation on a file that a stop has made unusable: its {operation.name}() was left behind,"
                " and nobody knows what became of it"
            )
        operation.announce()

    def _leave_close(self, operation: Operation) -> None:
        # Behind what is stuck; the thread closes the file when it comes back.
        if not operation.done.done() and not operation.has_begun and self._lane.leave(operation, self._settle):
            operation.announce()

    def _give_up(self, operation: Operation) -> None:
        if self._withdraw(operation):
            return
        if not self._lane.leave(operation, self._settle):
            self._lane.settle(operation, self._settle)
        elif operation.name not in _CLOSES:
            operation.stop.set("the await was cancelled")

    def _withdraw(self, operation: Operation) -> bool:
        return operation.name not in _CLOSES and self._lane.withdraw(operation)

    def _settle(self, operation: Operation) -> None:
        value: Any
        value, error = operation.outcome or (None, None)
        if operation.name == "open":
            if error is None:
                with suppress(Exception):  # nobody is left who would want to know
                    value.close()
            return
        taken = taken_by(operation.name, operation.arguments, value, error)
        if not taken:
            return
        try:
            self._position.give_back(taken)
        except Exception as failed:  # noqa: BLE001 - whatever it is, the file must not go on without these bytes
            self._unusable = f"I/O operation on a file that has lost what a {operation.name}() took from it: {failed}"
