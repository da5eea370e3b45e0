"""A signal at a chosen line: for tests of what a handler may find half done, wherever it comes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


@contextmanager
def handling(number: int, handler: Callable[..., object]) -> Iterator[None]:
    """Have a signal handled so in this block."""
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)


@contextmanager
def alarm_at_line(at: int, is_in: Callable[[str], bool]) -> Iterator[list[int]]:
    """Send SIGALRM to this process, once, before the `at`-th line that runs in this block.

    Args:
        at: counted from 1.
        is_in: whether the lines of a file, by its name, count.

    Yields:
        A list, which has the line's number in its file once it was reached.
    """
    lines, reached = 0, []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if not is_in(frame.f_code.co_filename):
            return None
        if event == "line":
            lines += 1
            if lines == at:
                reached.append(frame.f_lineno)
                sys.settrace(None)
                frame.f_trace = None
                os.kill(os.getpid(), signal.SIGALRM)
                return None
        return trace

    was_traced = sys.gettrace()
    sys.settrace(trace)
    try:
        yield reached
    finally:
        sys.settrace(was_traced)
