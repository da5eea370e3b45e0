"""`leaves_nothing`: that a piece of code ends with the descriptors, threads, helpers and children that it began with."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from iointerrupt._helpers import abandoned_helpers

# The library's own threads, which end by themselves a grace after the last operation.
_WATCHERS = ("iointerrupt-watch", "iointerrupt-poll", "iointerrupt-clock", "iointerrupt-idle")


@contextmanager
def leaves_nothing(what: str, timeout: float = 5.0) -> Iterator[None]:
    """Check that the block ends with the open descriptors, threads, child processes and abandoned helpers that it began with.

    Args:
        what: the beginning of the message, such as "the test".
        timeout: seconds that threads which have been told to end have for it.

    Raises:
        AssertionError: something was left behind; the message names it. Not raised over an error of the block itself.
    """
    before = _descriptors(), set(threading.enumerate()), _children()
    yield
    deadline = time.monotonic() + timeout
    while left := _left_since(*before):
        gc.collect()  # what nobody refers to is not left behind, though it may be reported as not closed
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} left behind: {', '.join(left)}")
        time.sleep(0.005)


def _left_since(descriptors: dict[str, str], threads: set[threading.Thread], children: set[str]) -> list[str]:
    left = [f"descriptor {n} ({name})" for n, name in _descriptors().items() if descriptors.get(n) != name]
    left += [f"thread {t.name}" for t in set(threading.enumerate()) - threads if not t.name.startswith(_WATCHERS)]
    left += [f"child process {pid}" for pid in _children() - children]
    if abandoned_helpers():
        left.append(f"{abandoned_helpers()} abandoned helpers")
    return left


def _descriptors() -> dict[str, str]:
    if sys.platform != "linux":
        return dict.fromkeys(os.listdir("/dev/fd"), "open")
    found = {}
    for number in os.listdir("/proc/self/fd"):
        try:
            found[number] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:  # the one that listed them
            continue
    return found


def _children() -> set[str]:
    """The child processes, those that have ended but were not reaped included; none where the kernel does not tell."""
    found: set[str] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(path.read_text().split())
        except OSError:  # of a thread that has just ended
            continue
    return found
