"""Copies that can be resumed: `files.copy`, but that what a stop leaves is kept and gone on with.

Theory of operation. The copy grows in `NAME.part`, at its end alone, so that its size says how far it is. Of what it is a
copy, `NAME.part.json` says: the source's device, inode, size and time of change, written before the first byte is. A part
is gone on with if the source is still the same by all of these, and if the machine has not been started anew since: after a
crash of the machine, unlike after one of the process, a file may have its size and not its bytes. Whoever has the lock
(flock(2)) on the part is at it alone.

The folder may be one into which others can write: a link there is never followed, nobody waits at a FIFO, and what came into
the place of the copy while it grew is not replaced, unless that was asked for.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from iointerrupt._files import copying
from iointerrupt._files.beside import read_note, rename_new, unlink, write_note
from iointerrupt._files.growing import Locked, NoFileError, TakenError, boot, is_at, open_locked
from iointerrupt._stop import StopEvent

# A record is a line; what is longer is none.
_LONGEST_RECORD = 1 << 16


class CopyError(Exception):
    """A file is not copied, for the reason that the message gives."""


@dataclass(frozen=True)
class Copied:
    """A copy that is done."""

    path: str
    size: int
    resumed_from: int


@dataclass(frozen=True)
class Origin:
    """What a part is a copy of; equal where it can be gone on with."""

    kind: str
    device: int
    inode: int
    size: int
    changed: int
    boot: str

    @classmethod
    def of(cls, info: os.stat_result) -> Origin:
        """That of an open file."""
        return cls("iointerrupt copy", info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, boot())


def target_of(source: str, target: str) -> str:
    """The path of the copy: a folder stands for a file of the source's name in it."""
    return os.path.join(target, os.path.basename(source)) if os.path.isdir(target) else target


def copy(
    source: str,
    target: str,
    *,
    stop: StopEvent,
    overwrite: bool,
    resume: bool,
    progress: Callable[[int, int, int], object],
) -> Copied:
    """Copy a file, or go on with it.

    Args:
        source: a regular file.
        target: the path of the copy; see `target_of`.
        stop: what ends it; the part is kept.
        overwrite: replace a file that is there; of a link, the link itself.
        resume: go on with a part; else begin anew.
        progress: called as `progress(done, size, resumed_from)` before the first chunk and after each.

    Raises:
        CopyError: it is refused.
        Interrupted: a stop was set.
        OSError: as it comes from the system.
    """
    with open(_open_source(source), "rb", buffering=0) as reader:
        info = os.fstat(reader.fileno())
        _check_target(info, target, overwrite=overwrite)
        with closing(Part(f"{target}.part", f"{target}.part.json")) as writer:
            start = writer.begin(Origin.of(info), resume=resume)
            progress(start, info.st_size, start)
            reader.seek(start)
            copying.copy_data(
                reader.fileno(),
                writer.fd,
                info.st_size - start,
                stop,
                lambda done, _: progress(start + done, info.st_size, start),
            )
            if Origin.of(os.fstat(reader.fileno())) != Origin.of(info):
                writer.discard()
                raise CopyError(
                    "it was changed while it was copied, so that the copy would have been neither; nothing is kept"
                )
            # Not by names, which may be those of other files by now.
            of_files = (reader.fileno(), writer.fd) if os.utime in os.supports_fd else (source, writer.path)
            shutil.copystat(*of_files)  # the first are for what os.stat takes
            size = os.fstat(writer.fd).st_size
            _check_target(info, target, overwrite=overwrite)
            writer.finish(target, overwrite=overwrite)
    return Copied(target, size, start)


class Part(Locked):
    """The file in which a copy grows, locked.

    Args:
        path: where it is; made if it is not there.
        state: where it is noted what it is a copy of.

    Raises:
        CopyError: somebody else has it, or it is no part of a copy.
        OSError: it cannot be opened.
    """

    def __init__(self, path: str, state: str) -> None:
        self.path, self._state = path, state
        try:
            self.fd = open_locked(path, 0o600)
        except NoFileError:
            raise CopyError(f"{path} is in the way: it is no file") from None
        except TakenError:
            raise CopyError(f"another copy is at {path}") from None

    def begin(self, origin: Origin, *, resume: bool) -> int:
        """Note of what it is a copy, and return at which byte to go on; the file stands there.

        Raises:
            CopyError: what is there is not of a copy.
        """
        size = os.fstat(self.fd).st_size
        known = _read(self._state)
        if size and (known is None or known.get("kind") != origin.kind):
            raise CopyError(f"{self.path} is in the way: it is not of a copy; remove it if it is of no use")
        if os.fstat(self.fd).st_nlink > 1:
            raise CopyError(f"{self.path} is in the way: the file has another name too; remove it if it is of no use")
        # Where the system does not tell one boot from another, no part of an earlier run is believed.
        is_ours = bool(origin.boot) and known == asdict(origin)
        start = size if resume and is_ours and size <= origin.size else 0
        if not start:
            os.ftruncate(self.fd, 0)
            write_note(self._state, json.dumps(asdict(origin)).encode(), f"{self._state}.new")
        os.lseek(self.fd, start, os.SEEK_SET)
        return start

    def finish(self, target: str, *, overwrite: bool) -> None:
        """Give it its final name.

        Raises:
            CopyError: something has that name, and is not to be replaced; or somebody has taken the part away.
        """
        if not is_at(self.path, os.fstat(self.fd)):
            raise CopyError(f"{self.path} was taken away while it was copied to")
        self._before_its_name_goes()
        if overwrite:
            os.replace(self.path, target)
        else:
            try:
                rename_new(self.path, target)
            except FileExistsError:
                raise _exists(target) from None
        unlink(self._state)

    def discard(self) -> None:
        """Remove it."""
        self._before_its_name_goes()
        unlink(self.path)
        unlink(self._state)

    def close(self) -> None:
        """Give it free. One that is empty is of no use to anybody."""
        if self.fd < 0:
            return
        try:
            found = os.fstat(self.fd)
            if not found.st_size and is_at(self.path, found):
                self.discard()
        finally:
            self._let_go()


def _open_source(source: str) -> int:
    try:
        return copying.open_to_copy(source)
    except IsADirectoryError:
        raise CopyError("it is a folder, and copy takes one file; cp -r copies folders") from None
    except shutil.SpecialFileError:
        raise CopyError("it is a device, a pipe or the like, and copy takes regular files") from None


def _check_target(info: os.stat_result, target: str, *, overwrite: bool) -> None:
    try:
        there = os.lstat(target)
    except FileNotFoundError:
        folder, name = os.path.split(target)
        if not name or not os.path.isdir(folder or os.curdir):
            raise CopyError(f"there is no folder {folder}") from None
        return
    is_link = stat.S_ISLNK(there.st_mode)
    if is_link and os.path.exists(target):
        there = os.stat(target)
    if os.path.samestat(info, there):
        raise CopyError(f"{target} is the same file")
    if not (stat.S_ISREG(there.st_mode) or stat.S_ISLNK(there.st_mode)):
        raise CopyError(f"{target} is in the way: it is no regular file")
    if not overwrite:
        raise _exists(target)
    if not is_link and not os.access(target, os.W_OK):  # a rename would get past this
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)


def _exists(target: str) -> CopyError:
    return CopyError(f"{target} is there already; --overwrite replaces it")


def _read(path: str) -> Any:
    try:
        found = json.loads(read_note(path, _LONGEST_RECORD))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
