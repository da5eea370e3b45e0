"""Which descriptors are open, for tests that count them.

Not all that the process has: what earlier tests have left to the garbage collector may be closed at any moment.
"""

from __future__ import annotations

import os


def open_on(path):
    """The numbers that are open on what has that name, such as a file or a terminal."""
    found = set()
    for number in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{number}") == os.fspath(path):
                found.add(int(number))
        except FileNotFoundError:  # the one that listed them, or one that was closed meanwhile
            continue
    return found
