"""`Straggler`: a thread that has not stopped when it was to, and where it stands.

Where a stop does not reach, in C code or on a lock that is not waited for by this library, the innermost frames say
little: they stand in `queue` or `threading`. So what is reported first is the innermost line of the program itself.
"""

from __future__ import annotations

import sys
import textwrap
import traceback
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from iointerrupt._threads.thread import Thread
from iointerrupt._where import is_of_the_program


@dataclass(frozen=True, eq=False)
class Straggler:
    """A thread that was still running when the time for stopping it was over.

    Attributes:
        thread: the thread, which goes on.
        stack: where it stood, outermost frame first; empty if it had not begun to run.
        inner: the threads still running in groups that it has opened, for which it waits itself before it can end.
    """

    thread: Thread
    stack: traceback.StackSummary
    inner: tuple[Straggler, ...] = ()

    @property
    def where(self) -> traceback.FrameSummary | None:
        """The innermost frame that is neither of the standard library nor of this one; None if there is none."""
        return next((frame for frame in reversed(self.stack) if is_of_the_program(frame.filename)), None)

    def __repr__(self) -> str:
        where = self.where
        return f"<{self.thread.name}{'' if where is None else f' at {where.filename}:{where.lineno}, in {where.name}'}>"

    def __str__(self) -> str:
        where = self.where
        place = "" if where is None else f" at {where.filename}:{where.lineno}, in {where.name}: {where.line}"
        own = "\n".join([f"{self.thread.name} has not stopped{place}", "".join(self.stack.format())]).rstrip()
        return "\n".join([own, *(textwrap.indent(f"in its group, {one}", "  ") for one in self.inner)])


def find_stragglers(threads: Iterable[Thread], inner: Callable[[Thread], Iterable[Thread]]) -> list[Straggler]:
    """The stacks of `threads` as they are now, and of those that `inner` says each of them waits for."""
    return _find(threads, inner, sys._current_frames())


def _find(
    threads: Iterable[Thread], inner: Callable[[Thread], Iterable[Thread]], frames: dict[int, types.FrameType]
) -> list[Straggler]:
    found = []
    for thread in threads:
        frame = frames.get(thread.ident or 0)
        stack = traceback.StackSummary() if frame is None else traceback.extract_stack(frame)
        found.append(Straggler(thread, stack, tuple(_find(inner(thread), inner, frames))))
    return found
