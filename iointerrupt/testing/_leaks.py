"""`no_leaks`: that a piece of code ends with the descriptors, threads, children and helpers that it began with.

What there is, is compared by what it is, not by its number, so that one that was closed and used again counts as another
one. Only what is left over is looked at more closely: what it is and who holds it (`_saying`), and where it was made
(`_origins`).
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import sleep
from typing import Any, Final

from iointerrupt._helpers import abandoned
from iointerrupt._signal.wake import live_numbers
from iointerrupt._stop import check_timeout
from iointerrupt.testing._origins import children, information, link_of, recorded
from iointerrupt.testing._saying import find_holders, say_call, say_child, say_descriptor, say_thread

# The library's own threads, which end by themselves a grace after the last operation.
_WATCHERS: Final = (
    "iointerrupt-watch",
    "iointerrupt-poll",
    "iointerrupt-clock",
    "iointerrupt-idle",
    "iointerrupt-keeper",
)

# What /proc says all of: some with an inode number, while a device is always the same one.
_TELLING: Final = ("socket:", "pipe:", "/dev/null", "/dev/pts/", "/dev/tty")

# Seconds between two looks, at first and at most: each of them collects the garbage.
_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1


@contextmanager
def no_leaks(what: str = "the block", *, timeout: float = 5.0) -> Iterator[None]:
    """Check that the block ends with the open descriptors, threads, child processes and abandoned helpers it began with.

    Args:
        what: the beginning of the message, such as "the test".
        timeout: seconds that what has been told to end has for it.

    Raises:
        AssertionError: something was left behind. The message has a line for each: what it is, the connection pool or the
            response that holds it, and the line of the program where it was made, if that is known: it is not for what C
            code makes by itself. Not raised over an error of the block.
        ValueError, TypeError: an argument cannot be what it is.

    What was there at the beginning may be gone at the end. What multiprocessing starts once for the whole process does not
    count, nor does the descriptor of a `StopEvent`, which it has from its first wait to its end. Blocks may be nested, and
    be in several threads; each then sees what the other threads have made as well. The first block of a process installs
    an audit hook (PEP 578), which cannot be removed, and does nothing outside of such blocks. A stop plays no part.
    """
    if not isinstance(what, str):
        raise TypeError(f"what must be a str, the beginning of the message, not {type(what).__name__}")
    if timeout is None:
        raise TypeError("timeout must be a number of seconds, not None")
    check_timeout(timeout)
    with recorded():
        before = _Inventory()
        yield
        deadline = time.monotonic() + timeout
        pause = _PAUSE
        while before.left():
            gc.collect()  # what nobody refers to is not left behind, though it may be reported as not closed
            if time.monotonic() >= deadline and (left := before.left()):
                raise AssertionError("\n  ".join([f"{what} left behind:", *(say() for say in left)]))
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


class _Inventory:
    """What there is at a moment, and what has been added to it since."""

    def __init__(self) -> None:
        self._descriptors = _descriptors()
        self._threads = {id(thread): thread for thread in threading.enumerate()}
        self._children = set(children())
        self._abandoned = set(abandoned())

    def left(self) -> list[Callable[[], str]]:
        """A function for each thing that was not there, which says what it is."""
        numbers, pids = _of_multiprocessing()
        numbers |= live_numbers()
        new = {
            number: link
            for number, (link, identity) in sorted(_descriptors().items())
            if self._descriptors.get(number, ("", None))[1] != identity and number not in numbers
        }
        holders = functools.cache(functools.partial(find_holders, frozenset(new)))
        left: list[Callable[[], str]] = [
            functools.partial(say_descriptor, number, new[number], holders) for number in new
        ]
        calls = [call for call in abandoned() if call not in self._abandoned]
        left += [
            functools.partial(say_thread, thread)
            for thread in sorted(threading.enumerate(), key=lambda thread: thread.name)
            if id(thread) not in self._threads
            and _counts(thread)
            and thread.ident not in {call.thread for call in calls}
        ]
        left += [functools.partial(say_child, pid) for pid in sorted({*children()} - self._children - pids)]
        left += [functools.partial(say_call, call) for call in calls]
        return left


def _counts(thread: threading.Thread) -> bool:
    if isinstance(thread, threading._DummyThread):  # of a thread that is not Python's, which may have ended unnoticed
        return thread.ident in sys._current_frames()
    return not thread.name.startswith(_WATCHERS)


def _of_multiprocessing() -> tuple[set[int | None], set[int | None]]:
    """The descriptors and processes that multiprocessing has for as long as the process lives."""
    tracker: Any = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    server: Any = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    return (
        {getattr(tracker, "_fd", None), getattr(server, "_forkserver_alive_fd", None)},
        {getattr(tracker, "_pid", None), getattr(server, "_forkserver_pid", None)},
    )


def _descriptors() -> dict[int, tuple[str, str]]:
    """For each number what /proc says that it is, and what tells it from others of which /proc says the same."""
    if not os.path.isdir("/proc/self/fd"):
        return _descriptors_elsewhere()
    found = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        if link := link_of(number):  # else it is the one that has listed them
            found[number] = link, link if link.startswith(_TELLING) else _identity(number, link)
    return found


def _identity(number: int, link: str) -> str:
    # Not by fstat, which can take for ever, on a disk that hangs.
    told = [line.decode() for line in information(number) if line.startswith((b"mnt_id:", b"ino:", b"eventfd-id:"))]
    # A file is the same one when it was renamed or deleted.
    return " ".join(told if link.startswith("/") and len(told) > 1 else [link, *told])


def _descriptors_elsewhere() -> dict[int, tuple[str, str]]:
    found = {}
    for name in os.listdir("/dev/fd"):
        with suppress(OSError):  # the one that has listed them
            status = os.fstat(int(name))
            found[int(name)] = "", f"{status.st_dev} {status.st_ino} {status.st_rdev}"
    return found
