"""`Part`: the file that a download grows in; who has it, who of its workers writes where, and when what is known is saved."""

from __future__ import annotations

import fcntl
import itertools
import os
import random

import pytest

from iointerrupt.downloads import DestinationBusy, WriteFailed, _part, _state
from iointerrupt.downloads._part import Part
from iointerrupt.downloads._plan import Version
from iointerrupt.downloads._state import Record

SIZE = 1000


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return str(tmp_path / "file")


@pytest.fixture
def clock(monkeypatch):
    """Set `now` to let time pass for parts, at which nobody else looks meanwhile."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(_part.time, "monotonic", lambda: Clock.now)
    monkeypatch.setattr(_part, "keep", lambda part: None)
    return Clock


def fail_with(error):
    """A function that raises."""

    def fail(*args, **kwargs):
        raise error

    return fail


def begun(path, size=SIZE):
    """A part of a file of which nothing is there yet."""
    part = Part(path)
    part.load()
    part.begin("source", "file", Version(etag='"v1"', size=size))
    return part


def complete(path, content=bytes(SIZE)):
    """A part that has all bytes of its file."""
    part = begun(path, len(content))
    os.pwrite(part.fd, content, 0)
    part.moved(part.take(), len(content))
    return part


class TestTheLock:
    """Who has the part."""

    def test_one_at_a_time(self, path):
        """While one has it nobody else gets it; afterwards it can be had."""
        first = Part(path)
        with pytest.raises(DestinationBusy, match=r"file\.part"):
            Part(path)
        first.close()
        first.close()
        Part(path).close()

    def test_an_empty_one(self, path, tmp_path):
        """A part in which nothing has come is not left behind."""
        Part(path).close()
        begun(path).close()
        assert os.listdir(tmp_path) == []

    def test_no_child_has_it(self, path):
        """A program that is started meanwhile does not get the part, and with it the lock."""
        part = Part(path)
        assert fcntl.fcntl(part.fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        part.close()

    @pytest.mark.parametrize("change", ["removed", "replaced"])
    def test_it_is_taken_away(self, path, change):
        """Whoever's part has been taken out of its place leaves alone what is there now."""
        with open(path, "wb") as file:
            file.write(b"else")
        part = begun(path)
        os.pwrite(part.fd, bytes(10), 0)
        part.moved(part.take(), 10)
        if change == "removed":
            os.unlink(path + ".part")
        else:
            os.replace(path, path + ".part")
        second = Part(path)
        found = os.stat(path + ".part")
        part.close()
        assert os.path.samestat(found, os.stat(path + ".part"))
        assert not os.path.exists(path + ".part.json")
        second.close()

    def test_it_is_given_its_name_meanwhile(self, path, monkeypatch):
        """A part that gets its final name between the opening and the lock is not taken for the part."""
        real = fcntl.flock
        renamed = []

        def flock(fd, operation):
            if not renamed:
                renamed.append(os.stat(path + ".part"))
                os.rename(path + ".part", path)
            real(fd, operation)

        monkeypatch.setattr(fcntl, "flock", flock)
        part = Part(path)
        assert not os.path.samestat(os.fstat(part.fd), renamed[0])
        part.close()
        assert os.listdir(os.path.dirname(path)) == ["file"]

    @pytest.mark.parametrize(
        "make",
        [lambda place: os.symlink("elsewhere", place), os.mkfifo, os.mkdir],
        ids=["link", "pipe", "folder"],
    )
    def test_no_file(self, path, make, tmp_path):
        """What is no file is not touched."""
        make(path + ".part")
        with pytest.raises(WriteFailed, match="in the way"):
            Part(path)
        assert os.listdir(tmp_path) == ["file.part"]


class TestWorkers:
    """Who writes where."""

    LEAST = 10

    @pytest.fixture(autouse=True)
    def small_pieces(self, monkeypatch, clock):
        """Pieces of ten bytes are worth a request; time stands still, so that nothing is saved meanwhile."""
        monkeypatch.setattr(_part, "LEAST_PIECE", self.LEAST)

    @staticmethod
    def pieces(part):
        """From where to where each goes, which is all of the file without gaps."""
        bounds = [(piece.start, piece.end) for piece in part.record.pieces]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == part.record.version.size
        assert all(left[1] == right[0] for left, right in itertools.pairwise(bounds))
        return bounds

    @pytest.mark.parametrize("seed", range(30))
    def test_each_byte_once(self, path, seed):
        """However many workers take, claim, write, give up and steal in whichever order: each byte is written once."""
        chance = random.Random(seed)
        size = chance.choice([1, 19, 20, 21, 500, 3000])
        part = begun(path, size)
        part.cut(chance.randint(1, 6))
        written, workers, before = bytearray(size), dict.fromkeys(range(chance.randint(1, 8))), 0
        while part.first_missing() is not None:
            worker = chance.choice(list(workers))
            if workers[worker] is None:
                piece = part.take()
                if piece is not None:
                    assert all(held is None or held[0] is not piece for held in workers.values())
                    workers[worker] = piece, 0
                continue
            piece, room = workers[worker]
            if not room:
                room = part.claim(piece, chance.randint(1, 60))
            elif chance.random() < 0.7:
                count = chance.randint(1, room)
                for at in range(piece.done, piece.done + count):
                    written[at] += 1
                part.moved(piece, count)
                room = 0
            if room and chance.random() < 0.8:
                workers[worker] = piece, room
            elif not room and chance.random() < 0.8 and not piece.is_done:
                workers[worker] = piece, 0
            else:
                part.give_back(piece)
                workers[worker] = None
            self.pieces(part)
            assert before <= part.done == sum(written)
            before = part.done
        assert written == b"\1" * size
        part.close()

    def test_cut(self, path):
        """What is to come is cut into equal pieces, none of them too small; what is there stays one."""
        part = begun(path, 100)
        part.cut(4)
        assert self.pieces(part) == [(0, 25), (25, 50), (50, 75), (75, 100)]
        part.cut(8)
        assert len(part.record.pieces) == 4
        part.close()

    @pytest.mark.parametrize(
        ("size", "there", "count", "pieces"), [(19, 0, 4, 1), (100, 40, 3, 3), (100, 75, 8, 2), (None, 0, 4, 1)]
    )
    def test_cut_of_what_is_left(self, path, size, there, count, pieces):
        """Only what is to come counts; where no end is known there is nothing to cut."""
        part = begun(path, size)
        part.moved(part.record.pieces[0], there)
        part.cut(count)
        assert len(part.record.pieces) == pieces
        assert part.done == there
        part.close()

    def test_a_claim_is_kept(self, path):
        """Nobody steals what a worker may be writing; the rest of its piece it does not get any more."""
        part = begun(path, 100)
        slow = part.take()
        assert part.claim(slow, 60) == 60
        quick = part.take()
        assert (quick.start, quick.end) == (80, 100)
        part.moved(slow, 60)
        assert part.claim(slow, 60) == 20
        assert part.claim(quick, 20) == 20
        assert part.take() is None
        part.close()

    def test_given_back(self, path):
        """A piece that was given back is gone on with where it was left."""
        part = begun(path, 100)
        piece = part.take()
        part.claim(piece, 30)
        part.moved(piece, 30)
        part.give_back(piece)
        assert part.take() is piece
        assert part.claim(piece, 100) == 70
        part.close()

    def test_an_unknown_end(self, path):
        """A piece without an end has room for as much as comes, and gets its end where that is."""
        part = begun(path, None)
        piece = part.take()
        assert part.take() is None
        assert part.claim(piece, 1 << 40) == 1 << 40
        part.moved(piece, 30)
        assert part.end_is_here(piece)
        assert part.record.version.size == 30
        assert part.record.is_complete
        part.close()

    def test_an_end_that_is_too_early(self, path):
        """An end before the one that is known is none."""
        part = begun(path, 100)
        piece = part.take()
        part.moved(piece, 99)
        assert not part.end_is_here(piece)
        part.moved(piece, 1)
        assert part.end_is_here(piece)
        part.close()


class TestSaving:
    """When what is known is saved, and what is said to be on the disk."""

    def test_now_and_then(self, path, clock):
        """While bytes come, it is saved at most every 50 ms."""
        part = begun(path)
        piece, saved = part.take(), []
        os.pwrite(part.fd, bytes(SIZE), 0)
        for _ in range(8):
            clock.now += 0.02
            part.moved(piece, 10)
            found = Record.load(path + ".part.json", SIZE, part.record.inode)
            saved.append(found and found.done)
        assert saved == [None, None, 30, 30, 30, 60, 60, 60]
        part.close()
        assert Record.load(path + ".part.json", SIZE, os.stat(path + ".part").st_ino).done == 80

    def test_without_further_bytes(self, path, clock, monkeypatch):
        """What has come before a silence is saved and synced as well, and then looked at no more."""
        syncs, kept = [], []
        monkeypatch.setattr(_part, "keep", kept.append)
        monkeypatch.setattr(_part, "sync_in_helper", lambda fd, then: (os.close(fd), syncs.append(then)))

        def record():
            found = Record.load(path + ".part.json", SIZE, part.record.inode)
            return found and (found.done, found.pieces[0].synced)

        part = begun(path)
        piece = part.take()
        os.pwrite(part.fd, bytes(SIZE), 0)
        part.moved(piece, 10)
        part.moved(piece, 10)
        assert kept == [part]  # once
        assert part.look()
        assert record() is None  # it is too soon
        clock.now += 0.06
        assert part.look()
        assert record()[0] == 20
        clock.now += 1
        assert part.look()
        syncs.pop()(None)
        assert not part.look()
        assert not syncs
        assert record() == (20, 20)
        part.moved(piece, 10)
        assert kept == [part, part]
        part.close()
        assert not part.look()

    def test_the_keeper_leaves_alone_what_ends(self, path, clock, monkeypatch):
        """From the beginning of the end on, and while another version is begun, nothing is saved behind the download's back."""
        part = begun(path)
        piece = part.take()
        os.pwrite(part.fd, bytes(SIZE), 0)
        part.moved(piece, SIZE)
        clock.now += 1
        with monkeypatch.context() as patch:
            patch.setattr(_part, "datasync", lambda _: part.look())
            part.finish(path, None)
        assert not part.look()
        part.close()
        assert os.listdir(os.path.dirname(path)) == ["file"]

    def test_what_cannot_be_saved(self, path, clock):
        """Where the keeper cannot save it, the download is told when it has something to save."""
        part = begun(path)
        piece = part.take()
        part.moved(piece, 10)
        os.unlink(path + ".part")
        clock.now += 0.1
        part.look()
        clock.now += 0.1
        with pytest.raises(WriteFailed, match="taken away"):
            part.moved(piece, 10)
        part.close()

    def test_synced(self, path, clock, monkeypatch):
        """What was there when a sync began is synced when it has ended; what was dropped meanwhile is not."""
        syncs = []
        monkeypatch.setattr(_part, "sync_in_helper", lambda fd, then: (os.close(fd), syncs.append(then)))
        part = begun(path)
        piece = part.take()
        clock.now += 2
        part.moved(piece, 500)
        clock.now += 2
        part.moved(piece, 100)  # the first sync still goes on
        assert (len(syncs), piece.synced) == (1, 0)
        syncs[0](None)
        assert piece.synced == 500
        part.moved(piece, 100)
        part.drop(piece, 550)
        syncs[1](None)
        assert (piece.done, piece.synced) == (550, 550)
        part.drop(piece, 100)
        assert (piece.done, piece.synced) == (100, 100)
        part.close()

    def test_a_sync_that_fails(self, path, clock, monkeypatch):
        """What could not be synced is not said to be, and the next time it is tried again."""
        syncs = []
        monkeypatch.setattr(_part, "sync_in_helper", lambda fd, then: (os.close(fd), syncs.append(then)))
        part = begun(path)
        piece = part.take()
        for error in (OSError(5, "Input/output error"), None):
            clock.now += 2
            part.moved(piece, 100)
            syncs.pop()(error)
        assert piece.synced == 200
        part.close()

    def test_no_helpers(self, path, clock, monkeypatch):
        """Where there are no threads to be had it goes on without, and later tries again."""
        monkeypatch.setattr(_part, "run_in_thread", fail_with(RuntimeError("can't start new thread")))
        part = begun(path)
        piece = part.take()
        for _ in range(2):
            clock.now += 2
            part.moved(piece, 100)
        assert (piece.done, piece.synced) == (200, 0)
        part.close()

    def test_where_no_boot_is_known(self, path, monkeypatch):
        """Where only what is synced will be believed, the end of a download syncs it."""
        for module in (_part, _state):
            monkeypatch.setattr(module, "boot", lambda: "")
        part = begun(path)
        os.pwrite(part.fd, bytes(SIZE), 0)
        part.moved(part.take(), 100)
        part.close()
        assert Record.load(path + ".part.json", SIZE, os.stat(path + ".part").st_ino).done == 100

    def test_of_another_part(self, path, clock):
        """Whoever's part has been taken away is told at the next save, and leaves the record to the part that is there."""
        part = begun(path)
        os.unlink(path + ".part")
        second = complete(path)
        second.save()
        before = Record.load(path + ".part.json", SIZE, second.record.inode)
        piece = part.take()
        clock.now += 1
        with pytest.raises(WriteFailed, match="taken away"):
            part.moved(piece, 10)
        part.close()
        second.close()
        assert before.done == Record.load(path + ".part.json", SIZE, second.record.inode).done == SIZE

    def test_no_room_for_the_record(self, path, clock, monkeypatch):
        """At the end, a record that cannot be saved is no failure: the one that is there says less, and that is true."""
        part = begun(path)
        piece = part.take()
        os.pwrite(part.fd, bytes(SIZE), 0)
        clock.now += 1
        part.moved(piece, 100)
        monkeypatch.setattr(_state.os, "replace", fail_with(OSError(28, "No space left on device")))
        part.moved(piece, 100)
        part.close()
        assert Record.load(path + ".part.json", SIZE, os.stat(path + ".part").st_ino).done == 100


class TestAnotherVersion:
    """What there is makes room for another version of the file."""

    def test_in_this_order(self, path, monkeypatch):
        """First the record goes, for good, and then the bytes that it is of; else they would be believed of the new one."""
        part = begun(path)
        os.pwrite(part.fd, bytes(SIZE), 0)
        part.moved(part.take(), 100)
        part.close()
        part, done = Part(path), []
        assert part.load().done == 100
        for name in ("unlink", "fsync", "ftruncate"):
            real = getattr(os, name)
            monkeypatch.setattr(os, name, lambda *args, real=real, name=name: (done.append(name), real(*args)))
        part.begin("source", "file", Version(etag='"v2"', size=SIZE))
        assert done == ["unlink", "fsync", "ftruncate"]
        assert os.path.getsize(path + ".part") == part.done == 0
        part.close()

    def test_forgotten(self, path):
        """What is only forgotten is there until something comes in its place."""
        part = begun(path)
        os.pwrite(part.fd, bytes(SIZE), 0)
        part.moved(part.take(), 100)
        part.save()
        part.forget()
        assert part.done == 0
        assert part.first_missing() is None
        part.close()
        assert Record.load(path + ".part.json", SIZE, os.stat(path + ".part").st_ino).done == 100

    def test_discarded(self, path, tmp_path):
        """What is thrown away is gone at once."""
        part = begun(path)
        os.pwrite(part.fd, bytes(SIZE), 0)
        part.moved(part.take(), 100)
        part.save()
        part.discard()
        assert os.listdir(tmp_path) == []
        part.close()

    def test_discarded_of_another(self, path, tmp_path):
        """Whoever's part has been taken away does not throw away the one that is there now."""
        part = begun(path)
        os.unlink(path + ".part")
        second = complete(path)
        second.save()
        part.discard()
        part.close()
        second.close()
        assert sorted(os.listdir(tmp_path)) == ["file.part", "file.part.json"]

    def test_begun_of_another(self, path):
        """Nor does it throw away the record that is beside that."""
        part = complete(path)
        part.save()
        os.unlink(path + ".part")
        second = complete(path)
        second.save()
        with pytest.raises(WriteFailed, match="taken away"):
            part.begin("source", "file", Version(size=SIZE))
        part.close()
        second.close()
        assert Record.load(path + ".part.json", SIZE, os.stat(path + ".part").st_ino).done == SIZE

    def test_finished(self, path, tmp_path):
        """A finished file is as long as its version says, and has its time; closing the part does not touch it."""
        part = begun(path)
        os.pwrite(part.fd, b"x" * (SIZE + 5), 0)
        part.moved(part.take(), SIZE)
        part.save()
        assert part.finish(path, 1e9) == SIZE
        Part(path).close()
        part.close()
        assert os.listdir(tmp_path) == ["file"]
        assert (os.path.getsize(path), os.path.getmtime(path)) == (SIZE, 1e9)
