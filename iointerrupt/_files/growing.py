"""A file that grows beside its place until it is complete: who has it, and whether it can be believed after a crash.

Both downloads and copies keep what came of a file in such a part. It is locked (`_files.locking`) on itself, so that there is no
further file, and the kernel takes the lock off with the process.
"""

from __future__ import annotations

import errno
import functools
import os
import stat

from iointerrupt._files.locking import LockedError, lock, unlock
from iointerrupt._files.system import ALWAYS, NOFOLLOW, NONBLOCK, RENAMES_OPEN_FILES


class NoFileError(Exception):
    """Something that is no regular file is in the part's place."""


class TakenError(Exception):
    """Another process, or another part of this one, has it."""


def open_locked(path: str, mode: int) -> int:
    """Open a part for reading and writing, made if it is not there, and lock it; return the descriptor.

    A file system that has no locks leaves it to its users to see to that.

    Raises:
        NoFileError, TakenError: see there.
        OSError: it cannot be opened.
    """
    while True:
        if not NOFOLLOW and os.path.islink(path):
            raise NoFileError(path)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | NOFOLLOW | NONBLOCK | ALWAYS, mode)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
                raise NoFileError(path) from None
            raise
        try:
            found = os.fstat(fd)
            _lock(fd, path, found)
            # Whoever had the lock before may have given the file its final name meanwhile, or removed it.
            if is_at(path, found):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _lock(fd: int, path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NoFileError(path)
    try:
        lock(fd)
    except LockedError:
        raise TakenError(path) from None
    except OSError as error:
        if error.errno not in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
            raise


def close_locked(fd: int) -> None:
    """Take the lock off and close the file.

    Closing alone would leave the lock to whoever shares the descriptor: a helper that still syncs, a forked child.
    """
    try:
        unlock(fd)
    except OSError:
        pass  # there are no locks
    os.close(fd)


class Locked:
    """Who has the descriptor of a part, which `open_locked` has opened.

    Attributes:
        fd: the descriptor; -1 when it has been let go of.
    """

    fd: int = -1

    def _before_its_name_goes(self) -> None:
        """To be called before the file is renamed or removed: there are systems that do so only where nobody has it open."""
        if not RENAMES_OPEN_FILES:
            self._let_go()

    def _let_go(self) -> None:
        """Take the lock off and close the file, once."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            close_locked(fd)


def is_at(path: str, found: os.stat_result, *, missing: bool = False) -> bool:
    """Whether a file, of which `os.fstat` has found this, is the one of that name; `missing` where nothing has the name."""
    try:
        return os.path.samestat(found, os.lstat(path))
    except FileNotFoundError:
        return missing


@functools.cache
def boot() -> str:
    """This boot of this machine; empty where the system does not say.

    What a process has written stays when that is killed, but not, for certain, when the machine goes down.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
