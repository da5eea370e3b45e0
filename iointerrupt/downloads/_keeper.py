"""`keep`: a thread that looks at parts whose download waits for bytes, so that what has come is on record also if none follow.

A download notes what has come as it comes, but not at each byte. What it has not noted when the server falls silent would be
fetched again after a `kill -9`: somebody else has to see to that, since the download is blocked.

There is one thread for the process, as long as there is something to look at. The lock of `guard` guards its start and its end;
`_parts` is a dict, of which each step is atomic. A forked child, which has no download of its parent's, begins with none.
"""

from __future__ import annotations

import os
import threading
from time import sleep
from typing import Protocol

from iointerrupt._signal import guard
from iointerrupt._signal.reports import report_exception
from iointerrupt._signal.threads import own_thread

#: Seconds between two looks.
EVERY = 0.05

# Looks at nothing, one after the other, after which the thread ends.
_PATIENCE = 20


class Looked(Protocol):
    """What can be looked at."""

    def look(self) -> bool:
        """Do what is due; whether there is, or will be, more to be done."""


def keep(part: Looked) -> None:
    """Look at it again and again, until there is nothing more to be done."""
    global _thread  # noqa: PLW0603 - one for the process
    _parts[part] = None
    with guard.lock:
        if _thread is not None:
            return
        _thread = own_thread("iointerrupt-keeper", _run)
        thread = _thread
    try:
        thread.start()
    except RuntimeError:  # there are no more threads to be had
        _thread = None


def _run() -> None:
    global _thread  # noqa: PLW0603 - as above
    left = _PATIENCE
    while True:
        sleep(EVERY)
        for part in list(_parts):
            _parts.pop(part, None)  # before it is looked at: what comes meanwhile puts it in again
            try:
                if part.look():
                    _parts[part] = None
            except BaseException:  # noqa: BLE001 - the thread serves others as well
                report_exception()
        left = _PATIENCE if _parts else left - 1
        with guard.lock:
            if left <= 0 and not _parts:
                _thread = None
                return


_parts: dict[Looked, None] = {}
_thread: threading.Thread | None = None


def _after_fork_in_child() -> None:
    global _thread  # noqa: PLW0603 - as above
    _parts.clear()
    _thread = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
