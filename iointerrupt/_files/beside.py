"""What is beside a file that grows, in a folder that others may write to: notes read and written, and the name given in the end.

Whoever can write into the folder can put anything in these places beforehand: a link to a file of the user's, which must not
be read or written through; a FIFO, whose other end never comes, and which must not be waited for. And a file that came into the
place of the final one in the meantime is nobody's to throw away.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
from collections.abc import Callable

from iointerrupt._files.system import ALWAYS, NOFOLLOW, NONBLOCK

# Of renameat2(2).
_AT_FDCWD, _RENAME_NOREPLACE = -100, 1


def read_note(path: str, limit: int) -> bytes:
    """The first `limit` bytes of a regular file that is itself of that name; of nothing else.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    with open(path, "rb", opener=_open_itself) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no file", path)
        return file.read(limit)


def write_note(path: str, content: bytes, fresh: str) -> None:
    """Put a file that only its owner can read in the place of what is at `path`, as a whole.

    Args:
        path: of the file.
        content: of it.
        fresh: the name that it has until it is complete; what is there is removed.

    Raises:
        OSError: it cannot be written; what was there is as it was.
    """
    unlink(fresh)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | ALWAYS, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(content)
        os.replace(fresh, path)
    except BaseException:
        unlink(fresh)
        raise


def rename_new(path: str, name: str) -> None:
    """Give a file another name, which nothing has.

    That is one step where the file system has it; where it has not, as on NFS, it is a look and then a rename. A second name
    for the file would be one step everywhere, and would leave two of them where a kill comes before the first one is removed.

    Raises:
        FileExistsError: something has it.
        OSError: as os.rename.
    """
    failure = _renameat2()(path, name)
    if failure == errno.EEXIST or (failure and os.path.lexists(name)):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
    if failure:
        os.rename(path, name)  # says what is wrong, if it is something else


@functools.cache
def _renameat2() -> Callable[[str, str], int]:
    """The call that renames and does not replace; it returns the number of the error, 0 for none."""
    try:
        import ctypes  # noqa: PLC0415 - it takes a while, and some systems have none

        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (ImportError, OSError, AttributeError, TypeError):  # the last is Windows'
        return lambda *_: errno.ENOSYS

    def rename(path: str, name: str) -> int:
        failed = call(_AT_FDCWD, os.fsencode(path), _AT_FDCWD, os.fsencode(name), _RENAME_NOREPLACE)
        return ctypes.get_errno() if failed else 0

    return rename


def unlink(path: str) -> None:
    """Remove a file, if there is one."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _open_itself(path: str, flags: int) -> int:
    return os.open(path, flags | NOFOLLOW | NONBLOCK)
