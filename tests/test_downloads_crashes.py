"""A download whose process dies at each of its calls to the system, or whose machine loses power there; and the one after it."""

from __future__ import annotations

import io
import itertools
import os
import random
import threading
from contextlib import contextmanager

import pytest

from iointerrupt import Interrupted, StopEvent
from iointerrupt._files import beside
from iointerrupt.downloads import _job, _part, _state, download
from iointerrupt.testing import steps
from tests.scripted import CONTENT, ETAG, OTHER, OTHER_ETAG

# What changes something on the disk.
CALLS = ("open", "unlink", "ftruncate", "fsync", "fdatasync", "replace", "utime", "pwrite", "splice")
BLOCK = 4096


class Crash(BaseException):
    """The process is no more: nothing that it would have done in `except` or `finally` happens on the disk."""


class Disk:
    """What a thread does to files, up to the call at which it dies; and what of that would be there after a power cut.

    Only what was synced is certain to be: of a file what an fsync of it has met, of names what one of their folder has.

    Args:
        folder: where names are looked after.
        stash: where files are kept whose names are gone.
    """

    def __init__(self, monkeypatch, folder, stash):
        self._folder, self._stash = folder, stash
        self._thread = threading.get_ident()
        self._left = self._is_after = None  # calls until the end, and whether the last one is still done
        self._is_dead = False
        self._synced = {}  # by inode: content
        self._undo = []  # how the names came to be what they are since they were synced
        self._numbers = itertools.count()
        monkeypatch.setattr(_part, "rename_new", self._call("replace", _part.rename_new))
        for name in CALLS:
            monkeypatch.setattr(os, name, self._call(name, getattr(os, name)))
        monkeypatch.setattr(beside, "open", self._open, raising=False)

    @contextmanager
    def dying(self, n, *, after):
        """A block that ends at the n-th call, before or after that is done; it has to get there."""
        self._left, self._is_after = n, after
        try:
            yield
        finally:
            self._left, self._is_dead = None, False

    def _begin(self):
        """Count a call; return whether it is the last one, and is done."""
        if self._is_dead:
            raise Crash
        if self._left is None or threading.get_ident() != self._thread:
            return False
        self._left -= 1
        if self._left == 0:
            self._is_dead = True
            if not self._is_after:
                raise Crash
        return self._is_dead

    def _call(self, name, real):
        note = getattr(self, f"_note_{name}", lambda *args: lambda: None)

        def call(*args, **kwargs):
            if threading.get_ident() != self._thread:
                return real(*args, **kwargs)
            is_last = self._begin()
            then = note(*args)
            result = real(*args, **kwargs)
            then()
            if is_last:
                if name == "open":
                    os.close(result)
                raise Crash
            return result

        setattr(self, f"_real_{name}", real)
        return call

    def _open(self, file, mode, **options):
        # Of a record that is being written: half of it comes before the end.
        disk = self

        class Written(io.BufferedWriter):
            def write(self, data):
                if disk._begin():
                    super().write(data[: len(data) // 2])
                    raise Crash
                return super().write(data)

        return Written(io.FileIO(file, mode)) if mode == "wb" else open(file, mode, **options)

    # What would be there after a power cut

    def _note_fdatasync(self, fd):
        found = os.fstat(fd)
        content = os.pread(fd, found.st_size, 0)
        return lambda: self._synced.__setitem__(found.st_ino, content)

    def _note_fsync(self, fd):
        assert os.path.samestat(os.fstat(fd), os.stat(self._folder))
        return self._undo.clear

    def _keep(self, path):
        """Another name for a file that is about to lose its own; None where there is none."""
        kept = os.path.join(self._stash, str(next(self._numbers)))
        try:
            os.link(path, kept)
        except FileNotFoundError:
            return None
        return kept

    def _note_unlink(self, path):
        kept = self._keep(path)
        return lambda: self._undo.append(lambda: self._real_replace(kept, path))

    def _note_replace(self, source, target):
        kept = self._keep(target)

        def undo():
            self._real_replace(target, source)
            if kept is not None:
                self._real_replace(kept, target)

        return lambda: self._undo.append(undo)

    def _note_open(self, path, flags, *_):
        if flags & os.O_CREAT and not os.path.lexists(path):
            return lambda: self._undo.append(lambda: self._real_unlink(path))
        return lambda: None

    def lose_power(self, chance):
        """Make of the folder one that might be there after a power cut."""
        for _ in range(chance.randint(0, len(self._undo))):
            self._undo.pop()()
        for name in os.listdir(self._folder):
            path = os.path.join(self._folder, name)
            with open(path, "r+b") as file:
                now, synced = file.read(), self._synced.get(os.fstat(file.fileno()).st_ino, b"")
                size = chance.choice([len(now), len(synced)])
                for start in range(0, size, BLOCK):
                    # One that was synced in part keeps that; of one that never was, nothing but zeros may be left.
                    here = [each[start : start + BLOCK].ljust(BLOCK, b"\0") for each in (now, synced)]
                    if now[start : start + BLOCK] != synced[start : start + BLOCK]:
                        file.seek(start)
                        file.write(chance.choice(here))
                file.truncate(size)


def in_steps(patch, *, syncs):
    """Have files come in three steps; after each the record is saved and, if it `syncs`, the part is synced, by the thread itself."""

    def sync(fd, then):
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)
        then(None)

    patch.setattr(_job, "_STEP", 40_000)
    patch.setattr(_part, "keep", lambda part: None)  # the thread that looks at parts would outlive the one that dies
    patch.setattr(_part, "_SAVE_EVERY", 0)
    patch.setattr(_part, "_SYNC_EVERY", 0 if syncs else 60)
    patch.setattr(_part, "_SYNCED_AT_ONCE", 0)
    patch.setattr(_part, "sync_in_helper", sync)


@pytest.fixture
def server(fault_server):
    """A server whose file is `now`."""

    class Server:
        now = (CONTENT, ETAG)

    def serve(connection):
        content, etag = Server.now
        steps.serve(content, etag=etag).run(connection)

    Server.url = f"{fault_server([steps.repeat(steps.expect(), serve)]).url}/file"
    return Server


def left_by_a_stop(server, path):
    """The file that is to be downloaded, of which an earlier download has left the first bytes."""
    stop = StopEvent()
    with pytest.raises(Interrupted):
        download(server.url, path, stop=stop, progress=lambda now: now.done and stop.set())


def left_of_another(server, path):
    """The same, of another version."""
    server.now = (OTHER, OTHER_ETAG)
    left_by_a_stop(server, path)
    server.now = (CONTENT, ETAG)


BEFORE = {"nothing": lambda server, path: None, "a part": left_by_a_stop, "a part of another": left_of_another}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("after", [False, True], ids=["before it is done", "after it"])
@pytest.mark.parametrize("changes", [False, True], ids=["", "it changes"])
@pytest.mark.parametrize("end", ["killed", "power is lost", "power is lost, nothing was synced"])
def test_at_each_call(server, tmp_path, monkeypatch, before, after, changes, end):
    """Wherever it ends, the next download makes of what is left the file that the server has, and nothing else is left."""
    chance = random.Random(f"{before} {after} {changes}")
    for n in itertools.count(1):
        server.now = (CONTENT, ETAG)
        folder, stash = tmp_path / str(n), tmp_path / f"{n} stash"
        folder.mkdir()
        stash.mkdir()
        path = folder / "file"
        with monkeypatch.context() as patch:
            in_steps(patch, syncs=end != "power is lost, nothing was synced")
            disk = Disk(patch, str(folder), str(stash))
            BEFORE[before](server, path)
            try:
                with disk.dying(n, after=after):
                    download(server.url, path)
                break
            except Crash:
                pass
        if end != "killed":
            disk.lose_power(chance)
            monkeypatch.setattr(_state, "boot", lambda n=n: f"boot {n}")
        if path.exists():
            assert path.read_bytes() == CONTENT
        if changes:
            server.now = (OTHER, OTHER_ETAG)
        done = download(server.url, path, overwrite=True)
        # All of a version was there before that changed: it is given its name as it is.
        is_old = changes and done.resumed_from == len(CONTENT)
        assert path.read_bytes() == (CONTENT if is_old else server.now[0])
        assert os.listdir(folder) == ["file"]
    assert n > 12
    assert path.read_bytes() == CONTENT
