"""A lock on an open file, which the system takes off with the process: flock(2), and on Windows that of its C library.

A system that has neither is as a file system that has no locks: whoever uses it has to see to that.
"""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

fcntl: ModuleType | None
msvcrt: Any

try:
    import fcntl
except ImportError:
    fcntl = None
try:
    import msvcrt
except ImportError:
    msvcrt = None

# There a lock keeps others from the bytes that are locked, so it is on one where hardly a file has any: as far as all file
# systems let one seek.
_BEYOND = 1 << 43


class LockedError(Exception):
    """Somebody else has it."""


def lock(fd: int) -> None:
    """Lock it, or raise.

    Raises:
        LockedError: another open file has it.
        OSError: the file system has no locks.
    """
    try:
        if fcntl is not None:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        elif msvcrt is not None:
            _lock_byte(fd, msvcrt.LK_NBLCK)
    except (BlockingIOError, PermissionError):  # the second is what the other one says
        raise LockedError from None


def unlock(fd: int) -> None:
    """Take the lock off.

    Raises:
        OSError: there is none.
    """
    if fcntl is not None:
        fcntl.flock(fd, fcntl.LOCK_UN)
    elif msvcrt is not None:
        _lock_byte(fd, msvcrt.LK_UNLCK)


def _lock_byte(fd: int, kind: int) -> None:
    position = os.lseek(fd, 0, os.SEEK_CUR)
    os.lseek(fd, _BEYOND, os.SEEK_SET)
    try:
        msvcrt.locking(fd, kind, 1)
    finally:
        os.lseek(fd, position, os.SEEK_SET)
