"""`Part`: the file that a download grows in, and who may write where in it.

It is `NAME.part` beside the place of the final file, with its record in `NAME.part.json`. It is locked (flock(2)) while a
download has it, so that two processes never write to one; the lock is on the file itself, and the kernel takes it off
with the process.

Ownership: the download that has opened the part owns its descriptor. Its workers write with `pwrite` or `splice` at positions of
their own, each in the piece that it has taken. `_lock` guards the record and its pieces, and the saving of it: no more than
a small file is written under it. The record is saved when bytes have come, at most every 50 ms, and at the end; by the keeper
(`_keeper`), where no further ones come. Once a second a helper syncs the part, on a descriptor of its own.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable

from iointerrupt._files.beside import rename_new, unlink
from iointerrupt._files.growing import Locked, NoFileError, TakenError, boot, is_at, open_locked
from iointerrupt._files.system import bytes_left, bytes_taken, datasync, sync_folder
from iointerrupt._helpers import run_in_thread
from iointerrupt._stop import StopEvent
from iointerrupt.downloads._errors import DestinationBusy, DestinationExists, DiskFull, WriteFailed
from iointerrupt.downloads._keeper import keep
from iointerrupt.downloads._origin import note
from iointerrupt.downloads._plan import Version, split
from iointerrupt.downloads._state import FRESH_SUFFIX, Piece, Record

#: Added to the final name.
SUFFIX, RECORD_SUFFIX = ".part", ".part.json"

#: Smaller pieces are not worth a request of their own (bytes).
LEAST_PIECE = 1 << 20

_SAVE_EVERY, _SYNC_EVERY = 0.05, 1.0  # seconds
_SYNCED_AT_ONCE = 1 << 20  # bytes that the disk takes in no time


class Part(Locked):
    """A part file that is open and locked.

    Args:
        path: of the final file.

    Raises:
        DestinationBusy: another download has it.
        WriteFailed: it cannot be made, or something that is no file is in its place.
    """

    def __init__(self, path: str) -> None:
        self.path, self._record_path = path + SUFFIX, path + RECORD_SUFFIX
        self._lock = threading.Lock()
        self.record: Record | None = None
        self._saved_at = self._synced_at = 0.0
        self._is_syncing = self._is_finished = False
        # For the keeper: what there is to do, whether it looks, and whether it has to leave the files alone.
        self._is_unsaved = self._is_unsynced = self._is_kept = self._is_left_alone = False
        self._has_record = False  # on the disk
        with refusals(self.path):
            try:
                self.fd = open_locked(self.path, 0o666)
            except NoFileError:
                raise WriteFailed(f"{self.path} is in the way: it is no file", path=self.path) from None
            except TakenError:
                raise DestinationBusy(f"another download is at {self.path}", path=self.path) from None
        self._found = os.fstat(self.fd)
        self._size, self._inode = self._found.st_size, self._found.st_ino
        self._has_bytes = self._size > 0

    def load(self) -> Record | None:
        """What an earlier download has left; None if that is nothing, or cannot be believed."""
        with refusals(self.path):
            unlink(self._record_path + FRESH_SUFFIX)  # of a save that was cut short
        if self._size or os.path.exists(self._record_path):
            self._has_record = True
            self.record = Record.load(self._record_path, self._size, self._inode)
        return self.record

    def forget(self) -> None:
        """Begin with nothing; what is there is thrown away when there is something to put in its place."""
        with self._lock:
            self.record = None

    @property
    def done(self) -> int:
        """How many bytes are there."""
        with self._lock:
            return 0 if self.record is None else self.record.done

    # A new version

    def begin(self, source: str, name: str, version: Version, *, preallocate: bool = False) -> None:
        """Throw away what is there, and make room for a version of the file.

        Raises:
            DiskFull: there is not enough of it.
        """
        with self._lock:
            self._is_left_alone = True
        with refusals(self.path):
            self._check_place()
            if self._has_record:
                # It must be gone for good before a byte of another version is written: after a power cut it would vouch for that.
                unlink(self._record_path)
                sync_folder(os.path.dirname(self._record_path) or os.curdir)
                self._has_record = False
            if self._has_bytes:
                os.ftruncate(self.fd, 0)
                self._has_bytes = False
            if version.size is not None and version.size > LEAST_PIECE:
                self.make_room(version.size, preallocate=preallocate)
        with self._lock:
            self.record = Record(source, version, name, self._inode)
            self.record.pieces.append(Piece(0, version.size))
            self._saved_at = self._synced_at = time.monotonic()
            self._is_unsaved = self._is_unsynced = self._is_left_alone = False

    def learn(self, version: Version, source: str) -> None:
        """Note what a further answer says of the version that is there; of a mirror's only the size counts.

        Raises:
            DiskFull: there is not enough room for the rest of it.
        """
        with self._lock:
            record = self._known
            record.version = version if source == record.source else record.version._replace(size=version.size)
            if version.size is not None and record.pieces[-1].end is None:
                record.pieces[-1].end = version.size
        if version.size is not None:
            self.make_room(version.size, preallocate=False)

    def make_room(self, size: int, *, preallocate: bool) -> None:
        """See that the file can become `size` bytes.

        Raises:
            DiskFull: it cannot.
        """
        with refusals(self.path):
            missing = size - bytes_taken(self.fd)
            if missing > (free := bytes_left(self.fd, self.path)):
                said = f"{self.path} needs {missing:,} more bytes, and the disk has {free:,} left"
                raise DiskFull(said, path=self.path)
            if preallocate and missing > 0 and hasattr(os, "posix_fallocate"):
                self._has_bytes = True
                os.posix_fallocate(self.fd, 0, size)

    # Pieces

    def cut(self, count: int) -> None:
        """Cut what is to come into pieces for `count` workers."""
        with self._lock:
            pieces = self._pieces
            whole = next((piece for piece in pieces if not piece.is_done), None)
            if whole is None or whole.end is None or len(pieces) > 1:
                return
            for number, (start, end) in enumerate(split(whole.done, whole.end, count, LEAST_PIECE)):
                if number == 0:
                    whole.end = end
                else:
                    pieces.append(Piece(start, end))

    def first_missing(self) -> Piece | None:
        """The first piece that is not all there; None if there is none."""
        with self._lock:
            if self.record is None:
                return None
            return next((piece for piece in self.record.pieces if not piece.is_done), None)

    def take(self) -> Piece | None:
        """A piece to work at, which nobody else is at; None if there is none left that is worth it."""
        with self._lock:
            free = next((piece for piece in self._pieces if not piece.taken and not piece.is_done), None)
            if free is None and any(piece.taken for piece in self._pieces):
                free = self._half_of_the_largest()
            if free is not None:
                free.taken = True
            return free

    def _half_of_the_largest(self) -> Piece | None:
        largest = max(self._pieces, key=lambda piece: (piece.end or 0) - piece.claimed)
        if largest.end is None or largest.end - largest.claimed < 2 * LEAST_PIECE:
            return None
        middle = (largest.claimed + largest.end) // 2
        half = Piece(middle, largest.end)
        largest.end = middle  # its worker sees that at its next claim
        self._pieces.insert(self._pieces.index(largest) + 1, half)
        return half

    def give_back(self, piece: Piece) -> None:
        """Let others have the piece."""
        with self._lock:
            piece.taken = False

    def claim(self, piece: Piece, size: int) -> int:
        """How many bytes, up to `size`, the worker at the piece may write next; 0 at its end."""
        with self._lock:
            if piece.end is not None:
                size = min(size, piece.end - piece.done)
            piece.claimed = piece.done + size
            return size

    def moved(self, piece: Piece, count: int) -> None:
        """Say that `count` more bytes of the piece have been written."""
        with self._lock:
            piece.done += count
            self._has_bytes = self._is_unsaved = self._is_unsynced = True
            own = self._do_what_is_due()
            is_new, self._is_kept = not self._is_kept, True
        if own is not None:
            self._sync_in_helper(own)
        if is_new:
            keep(self)

    def look(self) -> bool:
        """Save and sync what is due; called by the keeper, until there is nothing left of that."""
        own = None
        with self._lock:
            try:
                own = None if self._is_left_alone else self._do_what_is_due()
            except (DiskFull, WriteFailed):  # the download will be told as well, when it has something to save
                self._is_unsaved = False
            is_open = self._is_unsaved or self._is_unsynced or self._is_syncing
            is_kept = self._is_kept = is_open and not self._is_left_alone
        if own is not None:
            self._sync_in_helper(own)
        return is_kept

    def _do_what_is_due(self) -> int | None:
        """Save the record if it is time; where it is time to sync as well, a descriptor for that, which is not for under the lock."""
        now = time.monotonic()
        if self._is_unsaved and now - self._saved_at >= _SAVE_EVERY:
            self._save(now)
        if not self._is_unsynced or now - self._synced_at < _SYNC_EVERY or self._is_syncing:
            return None
        self._synced_at = now
        try:
            own = os.dup(self.fd)
        except OSError:
            return None  # there are no more to be had; there will be another time
        self._is_syncing, self._is_unsynced = True, False
        return own

    def drop(self, piece: Piece, start: int) -> None:
        """Take back what was written of the piece from `start` on: it cannot be relied on."""
        with self._lock:
            piece.done = piece.claimed = max(start, piece.start)
            piece.synced = min(piece.synced, piece.done)

    def end_is_here(self, piece: Piece) -> bool:
        """Say that the file ends where the piece does now; return whether that may be."""
        with self._lock:
            if piece.end is not None:
                return piece.is_done
            piece.end = piece.done
            record = self._known
            record.version = record.version._replace(size=piece.end)
            return True

    @property
    def _known(self) -> Record:
        assert self.record is not None, "there is no version yet"  # noqa: S101 - a mistake of the caller's
        return self.record

    @property
    def _pieces(self) -> list[Piece]:
        return self._known.pieces

    def _save(self, now: float) -> None:
        self._saved_at = now
        self._is_unsaved = False
        if self.record is not None:
            with refusals(self._record_path):
                self._check_place()  # the record beside another part is of that
                self.record.save(self._record_path)
            self._has_record = True

    def _check_place(self) -> None:
        # Whoever may write into the folder can remove the part, or put another file, a link or a pipe in its place.
        if not is_at(self.path, self._found):
            said = f"{self.path} was taken away, or something put in its place, while it was being written"
            raise WriteFailed(said, path=self.path)

    def _sync_in_helper(self, own: int) -> None:
        with self._lock:
            marks = [(piece, piece.done) for piece in self._pieces]

        def synced(failure: OSError | None) -> None:
            with self._lock:
                self._is_syncing = False
                if failure is None:  # else `finish` will be told as well
                    for piece, done in marks:
                        piece.synced = max(piece.synced, min(done, piece.done))
                    self._is_unsaved = self._is_kept  # as long as there is somebody to save it

        try:
            sync_in_helper(own, synced)
        except RuntimeError:
            self._is_syncing = False  # no threads to be had; there will be another time

    # The end

    def finish(self, path: str, modified: float | None, *, replace: bool = True) -> int:
        """Give the file its final name. From here on it is done, and no stop undoes that.

        Args:
            path: the name.
            modified: when it was, by the server, in seconds since 1970; None where it does not say.
            replace: whether to put it in the place of what has that name.

        Returns:
            The size of the file in bytes.

        Raises:
            Interrupted: a stop was set while the disk was writing; nothing is lost.
            DestinationExists: something has the name, and is not to be replaced; nothing is lost.
            DiskFull, WriteFailed: it cannot be done; or another file is in the place of the part, or has got the name.
        """
        with self._lock:
            version = self._known.version
            self._is_left_alone = True
        size = version.size or 0
        with refusals(path):
            if os.fstat(self.fd).st_size != size:
                os.ftruncate(self.fd, size)
            # The name must not get to the disk before the bytes do.
            if size <= _SYNCED_AT_ONCE:
                datasync(self.fd)
            else:
                self.save()
                self._sync()
            if modified is not None:
                os.utime(self.fd if os.utime in os.supports_fd else self.path, (time.time(), modified))
            note(self.fd, version, is_dated=modified is not None)
            self._check_place()
            self._before_its_name_goes()
            try:
                (os.replace if replace else rename_new)(self.path, path)
            except FileExistsError:
                raise DestinationExists(f"{path} is there already", path=path) from None
            self._is_finished = True
            if self._has_record:
                unlink(self._record_path)
                self._has_record = False
            # A rename goes by names. That nothing has it is no failure: who waits for files may have taken it already.
            if not is_at(path, self._found, missing=True):
                raise WriteFailed(f"{path} is not what was downloaded: another file was put in its place", path=path)
        return size

    def _sync(self) -> None:
        # In a helper: a disk may take seconds for this, and a stop does not wait for it.
        from iointerrupt.calls import wait  # noqa: PLC0415 - small files need it not

        done = StopEvent()
        sync_in_helper(os.dup(self.fd), done.set)
        wait(done)
        if isinstance(done.reason, OSError):
            raise done.reason

    def save(self) -> None:
        """Save the record now, if there is anything to be saved."""
        with self._lock:
            if self.record is not None and self.record.done:
                self._save(time.monotonic())

    def discard(self) -> None:
        """Throw the part away."""
        with self._lock:
            self.record = None
            self._is_left_alone = True
        if is_at(self.path, self._found):
            unlink(self._record_path)
            self._before_its_name_goes()
            unlink(self.path)
        self._has_record = False

    def close(self) -> None:
        """Let go of the file; what is there of it can be resumed. One that is empty is not left behind."""
        if self.fd < 0:
            return
        with self._lock:
            self._is_left_alone = True
        try:
            if self._is_finished:
                return
            if not is_at(self.path, self._found):
                return
            if os.fstat(self.fd).st_size == 0 and not self._has_record:
                self._before_its_name_goes()
                unlink(self.path)
            elif self.record is not None:
                if not boot():
                    self._sync_all()
                try:
                    self.save()
                except (DiskFull, WriteFailed):
                    pass  # the one that is there says less, and that is true as well
        finally:
            self._let_go()

    def _sync_all(self) -> None:
        # Where a record cannot say in which boot it was written, only what is synced will be believed.
        datasync(self.fd)
        with self._lock:
            for piece in self._pieces:
                piece.synced = piece.done


class refusals:  # noqa: N801 - a block, as contextlib.suppress is
    """Says what the system refuses in the block as an error of the download.

    Raises:
        DiskFull, WriteFailed: it has refused.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise refusal(error, self._path) from error


def refusal(error: OSError, path: str) -> DiskFull | WriteFailed:
    """An error of the file system, as one of the download."""
    said = error.strerror or str(error)
    folder = os.path.dirname(path) or os.curdir
    if error.errno == errno.ENOENT and not os.path.isdir(folder):
        return WriteFailed(f"there is no folder {folder}", path=path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"no room for {path}: {said}", path=path)
    return WriteFailed(f"{path} cannot be written: {said}", path=path)


def sync_in_helper(own: int, then: Callable[[OSError | None], object]) -> None:
    """Have a helper write to the disk what is in a file, and call `then` with the error, if there was one.

    Args:
        own: a descriptor of its own, as the file may be closed before the disk has done; it is closed in any case.
        then: called in the helper.

    Raises:
        RuntimeError: there are no more threads to be had.
    """

    def sync() -> None:
        failure = None
        try:
            datasync(own)
        except OSError as error:
            failure = error
        finally:
            os.close(own)
        then(failure)

    try:
        run_in_thread(sync, "iointerrupt-sync")
    except BaseException:
        os.close(own)
        raise
