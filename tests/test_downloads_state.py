"""`Record` and `Part`: what a download leaves on the disk, who may write to it, and what is believed of it afterwards."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import random
import stat
import zlib

import pytest

from iointerrupt._files import growing
from iointerrupt.downloads import DestinationBusy, WriteFailed, _origin, _part, _state
from iointerrupt.downloads._part import Part
from iointerrupt.downloads._plan import Version
from iointerrupt.downloads._state import Piece, Record, identity

SIZE = 1000
VERSION = Version(etag='"v1"', date="Wed, 21 Oct 2015 07:28:00 GMT", size=SIZE)
INODE = 4711
BOOT = "this boot"


@pytest.fixture(autouse=True)
def boot(monkeypatch):
    """Set it to have the machine started again; "" is a system that does not say."""

    class Boot:
        def __init__(self):
            self.id = BOOT

        def __call__(self):
            return self.id

    one = Boot()
    monkeypatch.setattr(_state, "boot", one)
    monkeypatch.setattr(_part, "boot", one)
    return one


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return str(tmp_path / "file")


@pytest.fixture
def clock(monkeypatch):
    """Set `now` to let time pass for parts."""

    class Clock:
        now = 100.0

    monkeypatch.setattr(_part.time, "monotonic", lambda: Clock.now)
    return Clock


def record(*pieces, version=VERSION):
    """A record with these pieces, each (start, done, synced, end)."""
    made = Record(identity("http://host/file"), version, "file", INODE)
    made.pieces = [Piece(start, end, done, synced) for start, done, synced, end in pieces]
    return made


def claims(record):
    """What a record says of its pieces."""
    return None if record is None else [(one.start, one.done, one.synced, one.end) for one in record.pieces]


def sealed(content):
    """A record's file with any content, and the checksum that goes with it."""
    body = json.dumps(content).encode()
    return b"%s\n%08x\n" % (body, zlib.crc32(body))


class TestRecord:
    """What is saved of a part, and loaded again."""

    PIECES = ((0, 300, 200, 500), (500, 500, 500, 700), (700, 1000, 700, 1000))

    @pytest.fixture
    def saved(self, path):
        """Where one has been saved."""
        record(*self.PIECES).save(path)
        return path

    def changed(self, saved, **changes):
        """The record with something else in it, and what it is loaded as."""
        with open(saved, "rb") as file:
            content = {**json.loads(file.read().partition(b"\n")[0]), **changes}
        with open(saved, "wb") as file:
            file.write(sealed({name: value for name, value in content.items() if value is not ...}))
        return Record.load(saved, SIZE, INODE)

    def test_it_comes_back(self, saved):
        """In the same boot all of it is believed."""
        found = Record.load(saved, SIZE, INODE)
        assert claims(found) == list(self.PIECES)
        assert (found.version, found.name, found.source) == (VERSION, "file", identity("http://host/file"))
        assert found.done == 600
        assert not found.is_complete

    @pytest.mark.parametrize("now", ["another boot", ""])
    def test_another_boot(self, saved, boot, now):
        """After another start of the machine, and where nobody knows, only what was synced is believed."""
        boot.id = now
        assert claims(Record.load(saved, SIZE, INODE)) == [
            (0, 200, 200, 500),
            (500, 500, 500, 700),
            (700, 700, 700, 1000),
        ]

    def test_written_where_nobody_knows(self, path, boot):
        """Two systems that do not say in which boot they are, are not in the same one."""
        boot.id = ""
        record(*self.PIECES).save(path)
        assert Record.load(path, SIZE, INODE).done == 200

    @pytest.mark.parametrize("size", [0, 250, 600, 800, 999])
    def test_a_part_that_is_shorter(self, saved, size):
        """Nothing is believed that is behind the end of the part."""
        found = Record.load(saved, size, INODE)
        assert all(piece.start <= piece.done <= max(piece.start, size) for piece in found.pieces)
        assert all(piece.synced <= piece.done for piece in found.pieces)
        assert found.done == min(300, size) + max(0, size - 700)

    def test_torn(self, saved):
        """However much of it is there, it is as good as none unless that is all."""
        with open(saved, "rb") as file:
            whole = file.read()
        for length in range(len(whole) - 1):  # without the last newline nothing is missing
            with open(saved, "wb") as file:
                file.write(whole[:length])
            assert Record.load(saved, SIZE, INODE) is None

    def test_a_bit_is_wrong(self, saved):
        """A bit that has changed is noticed, wherever it is, unless it changes nothing."""
        with open(saved, "rb") as file:
            whole = file.read()
        for bit in range(len(whole) * 8):
            wrong = bytearray(whole)
            wrong[bit // 8] ^= 1 << bit % 8
            with open(saved, "wb") as file:
                file.write(wrong)
            assert claims(Record.load(saved, SIZE, INODE)) in (None, list(self.PIECES))

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\n",
            b"\0" * 4096,
            b"no record at all",
            sealed(None),
            sealed([]),
            sealed({}),
            sealed("text"),
            b"\xff" * 9,
        ],
    )
    def test_no_record(self, path, content):
        """What is none, is none."""
        with open(path, "wb") as file:
            file.write(content)
        assert Record.load(path, SIZE, INODE) is None

    def test_there_is_none(self, path):
        """Nor is there one where there is no file, or a folder."""
        assert Record.load(path, SIZE, INODE) is None
        os.mkdir(path)
        assert Record.load(path, SIZE, INODE) is None

    def test_a_huge_one(self, path):
        """A file that is larger than any record is not read to its end."""
        with open(path, "wb") as file:
            file.truncate(1 << 40)
        assert Record.load(path, SIZE, INODE) is None

    @pytest.mark.parametrize(
        "changes",
        [
            {"format": 2},
            {"format": ...},
            {"inode": INODE + 1},
            {"inode": ...},
            {"version": {"etag": None, "date": None, "size": SIZE + 1}},
            {"version": {"etag": None}},
            {"version": {"unknown": 1}},
            {"version": "text"},
            {"pieces": []},
            {"pieces": None},
            {"pieces": [[0, 10, 10]]},
            {"pieces": [[0, "10", 10, SIZE]]},
            {"pieces": [[1, 10, 10, SIZE]]},
            {"pieces": [[0, 10, 10, 500], [400, 600, 600, SIZE]]},
            {"pieces": [[0, 10, 10, 500], [600, 600, 600, SIZE]]},
            {"pieces": [[0, 600, 600, 500], [500, 600, 600, SIZE]]},
            {"pieces": [[500, 600, 600, SIZE], [0, 10, 10, 500]]},
            {"pieces": [[0, 10, 10, None], [0, 10, 10, SIZE]]},
            {"pieces": [[0, 10, 10, SIZE - 1]]},
        ],
        ids=repr,
    )
    def test_what_cannot_be(self, saved, changes):
        """A record of another format or part, or whose pieces overlap, have gaps, or end elsewhere, is not believed."""
        assert self.changed(saved, **changes) is None

    def test_a_size_that_is_not_known(self, path):
        """A file whose size the server has not said is one piece without an end."""
        record((0, 300, 200, None), version=VERSION._replace(size=None)).save(path)
        assert claims(Record.load(path, SIZE, INODE)) == [(0, 300, 200, None)]

    @pytest.mark.parametrize("name", ["../elsewhere", "/etc/passwd", "..", ".", ""])
    def test_a_name_that_leads_away(self, saved, name):
        """Not even a record says where else the file should go."""
        assert self.changed(saved, name=name) is None

    def test_who_may_read_it(self, path):
        """Only its owner may, whatever the umask is, and whatever was in its place."""
        before = os.umask(0)
        try:
            for _ in range(2):
                record((0, 10, 10, SIZE)).save(path)
                assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
                os.chmod(path, 0o666)
        finally:
            os.umask(before)

    def test_a_refused_save(self, saved, monkeypatch):
        """One that cannot be written leaves the one before as it was, and nothing else."""
        monkeypatch.setattr(_state.os, "replace", fail_with(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space"):
            record((0, 999, 999, SIZE)).save(saved)
        assert claims(Record.load(saved, SIZE, INODE)) == list(self.PIECES)
        assert os.listdir(os.path.dirname(saved)) == ["file"]


class TestIdentity:
    """How a URL is kept."""

    @pytest.mark.parametrize(
        "url",
        [
            "http://me:pass@host/file",
            "http://host/file?key=pass",
            "http://pass@host/file",
            "http://host/file#pass",
            "http://a@pass@host/",
        ],
    )
    def test_credentials(self, url):
        """It does not tell what may be a credential."""
        assert "pass" not in identity(url)
        assert "host" in identity(url)

    def test_different_ones(self):
        """Different URLs stay different, also where they differ in what is not shown."""
        urls = [
            "http://host/file",
            "http://host/file?key=1",
            "http://host/file?key=2",
            "http://a:b@host/file",
            "http://a:c@host/file",
        ]
        assert len({identity(url) for url in urls}) == len(urls)


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

        monkeypatch.setattr(growing.fcntl, "flock", flock)
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

    def test_synced(self, path, clock, monkeypatch):
        """What was there when a sync began is synced when it has ended; what was dropped meanwhile is not."""
        syncs = []
        monkeypatch.setattr(_part, "sync_in_helper", lambda fd, then: syncs.append(then))
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
        monkeypatch.setattr(_part, "sync_in_helper", lambda fd, then: syncs.append(then))
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
        monkeypatch.setattr(_part, "sync_in_helper", fail_with(RuntimeError("can't start new thread")))
        part = begun(path)
        piece = part.take()
        for _ in range(2):
            clock.now += 2
            part.moved(piece, 100)
        assert (piece.done, piece.synced) == (200, 0)
        part.close()

    def test_where_no_boot_is_known(self, path, boot):
        """Where only what is synced will be believed, the end of a download syncs it."""
        boot.id = ""
        part = begun(path)
        os.pwrite(part.fd, bytes(SIZE), 0)
        part.moved(part.take(), 100)
        part.close()
        assert Record.load(path + ".part.json", SIZE, os.stat(path + ".part").st_ino).done == 100

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


class TestOrigin:
    """Which version a finished file is of."""

    def note(self, path, version, modified=1_000_000_000):
        """Write a file and its note."""
        with open(path, "wb") as file:
            file.write(bytes(10))
            file.flush()
            os.utime(file.fileno(), (modified, modified))
            _origin.note(file.fileno(), version, modified)
        return _origin.only_if_changed(path)

    def test_no_file(self, path):
        """Where there is none, nothing is asked under a condition."""
        assert _origin.only_if_changed(path) is None

    def test_noted(self, path):
        """The ETag is asked for, as long as the file is what it was."""
        question = self.note(path, Version(etag='"é"', size=10))
        if question.unless.etag is None:
            pytest.skip("the file system keeps no attributes")
        assert question.headers() == {"If-None-Match": '"é"', "If-Modified-Since": "Sun, 09 Sep 2001 01:46:40 GMT"}
        os.utime(path, (5, 5))
        assert _origin.only_if_changed(path).headers() == {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:05 GMT"}

    def test_longer_by_now(self, path):
        """A file to which somebody has appended is not what was noted, whatever its time says."""
        self.note(path, Version(etag='"v1"', size=10))
        with open(path, "ab") as file:
            file.write(b"x")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        assert "If-None-Match" not in _origin.only_if_changed(path).headers()

    @pytest.mark.parametrize("version", [Version(size=10), Version(date="Sun, 09 Sep 2001 01:46:40 GMT", size=10)])
    def test_no_etag(self, path, version):
        """Where there is none, the date remains."""
        assert self.note(path, version).headers() == {"If-Modified-Since": "Sun, 09 Sep 2001 01:46:40 GMT"}
