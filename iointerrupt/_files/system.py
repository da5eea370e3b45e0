"""What not every system has of files, and what stands in its place: mostly Windows, which has no O_NONBLOCK, pread or flock.

`docs/portability.md` lists it.
"""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

#: Flags of `os.open`; 0 where there is no such flag.
NONBLOCK: Final[int] = getattr(os, "O_NONBLOCK", 0)
NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
#: For all files: not for child processes, and bytes as they are.
ALWAYS: Final[int] = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

#: Whether a descriptor of a pipe or a terminal can be asked and waited for. On Windows nothing but a socket can.
STREAMS_CAN_WAIT: Final = bool(NONBLOCK)
#: Whether a file can be renamed or removed by who has it open.
RENAMES_OPEN_FILES: Final = os.name != "nt"

# Where a file has a position and nothing else, it is moved for each call, by one thread at a time.
_moving = threading.Lock()


def pread(fd: int, size: int, offset: int) -> bytes:
    """`os.pread`, which may leave the file's own position anywhere."""
    if hasattr(os, "pread"):
        return os.pread(fd, size, offset)
    with _moving:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.read(fd, size)


def pwrite(fd: int, data: ReadableBuffer, offset: int) -> int:
    """`os.pwrite`, likewise."""
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, data, offset)
    with _moving:
        os.lseek(fd, offset, os.SEEK_SET)
        return os.write(fd, data)


def datasync(fd: int) -> None:
    """Wait until what is in a file is on the disk; what else the file system notes of it need not be."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def set_blocking(fd: int, blocking: bool) -> None:  # noqa: FBT001 - that of os
    """`os.set_blocking` for a file that was opened with `NONBLOCK`; nothing where there is no such mode."""
    if NONBLOCK:
        os.set_blocking(fd, blocking)


def get_blocking(fd: int) -> bool:
    """`os.get_blocking`; True where there is no other mode."""
    return os.get_blocking(fd) if NONBLOCK else True


def bytes_left(fd: int, path: str) -> int:
    """How many bytes a file's disk has room for."""
    if hasattr(os, "fstatvfs"):
        disk = os.fstatvfs(fd)
        return disk.f_bavail * disk.f_frsize
    return shutil.disk_usage(os.path.dirname(path) or os.curdir).free


def bytes_taken(fd: int) -> int:
    """How many bytes of the disk a file takes."""
    found = os.fstat(fd)
    return found.st_blocks * 512 if hasattr(found, "st_blocks") else found.st_size


def sync_folder(path: str) -> None:
    """Wait until the names in a folder are on the disk, where a folder can be opened for that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | ALWAYS)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
