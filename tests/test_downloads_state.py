"""`Record`: what a download says on the disk of what is there, and what is believed of that afterwards; and what is noted with the file."""

from __future__ import annotations

import json
import os
import stat
import zlib

import pytest

from iointerrupt.downloads import _origin, _state
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
    return one


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return str(tmp_path / "file")


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

    @pytest.mark.parametrize("put", ["a file", "a link", "a second name", "a pipe"])
    def test_something_is_in_its_place(self, path, tmp_path, put):
        """What is where it is written is neither written through nor waited for; it is removed."""
        outside, fresh = tmp_path / "outside", tmp_path / "file.new"
        outside.write_bytes(b"outside")
        if put == "a pipe":
            os.mkfifo(fresh)
        elif put == "a link":
            fresh.symlink_to(outside)
        elif put == "a second name":
            fresh.hardlink_to(outside)
        else:
            fresh.write_bytes(b"of a save that was cut short, and is longer than any record" * 100)
        record(*self.PIECES).save(path)
        assert claims(Record.load(path, SIZE, INODE)) == list(self.PIECES)
        assert outside.read_bytes() == b"outside"
        assert sorted(os.listdir(tmp_path)) == ["file", "outside"]

    @pytest.mark.parametrize("make", [os.link, os.symlink], ids=["a second name", "a link"])
    def test_something_comes_into_its_place(self, path, tmp_path, monkeypatch, make):
        """Nor is what is put there after the last thing was removed."""
        outside, fresh, unlink = tmp_path / "outside", tmp_path / "file.new", os.unlink
        outside.write_bytes(b"outside")
        fresh.touch()
        monkeypatch.setattr(os, "unlink", lambda path: (unlink(path), make(outside, path)))
        with pytest.raises(FileExistsError):
            record(*self.PIECES).save(path)
        assert outside.read_bytes() == b"outside"
        assert sorted(os.listdir(tmp_path)) == [fresh.name, "outside"]

    def test_a_refused_save(self, saved, monkeypatch):
        """One that cannot be written leaves the one before as it was, and nothing else."""

        def refuse(source, target):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(_state.os, "replace", refuse)
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


class TestOrigin:
    """Which version a finished file is of."""

    def note(self, path, version, modified=1_000_000_000, *, is_dated=True):
        """Write a file and its note."""
        with open(path, "wb") as file:
            file.write(bytes(10))
            file.flush()
            os.utime(file.fileno(), (modified, modified))
            _origin.note(file.fileno(), version, is_dated=is_dated)
        return _origin.only_if_changed(path)

    def skip_without_attributes(self, path):
        """Skip a test where the file system keeps none."""
        try:
            os.getxattr(path, _origin._ATTRIBUTE)
        except OSError:
            pytest.skip("the file system keeps no attributes")

    @pytest.mark.parametrize(
        "etag", ["", "*", "v1", '""', 'W/"v1"', '"v1', '"v1", "v2"', '"v 1"', "\x01", '"\x01"', '"v1"\r\nX: 1', '"é"']
    )
    def test_what_no_server_has_said(self, path, etag):
        """A note can be written by anybody who can write to the file: what cannot be sent, as in a record, is none."""
        self.note(path, Version(etag=etag, size=10))
        self.skip_without_attributes(path)
        assert _origin.only_if_changed(path).headers() == {"If-Modified-Since": "Sun, 09 Sep 2001 01:46:40 GMT"}

    def test_no_file(self, path):
        """Where there is none, nothing is asked under a condition."""
        assert _origin.only_if_changed(path) is None

    def test_noted(self, path):
        """The ETag is asked for, as long as the file is what it was."""
        question = self.note(path, Version(etag='"v1"', size=10))
        self.skip_without_attributes(path)
        assert question.headers() == {"If-None-Match": '"v1"', "If-Modified-Since": "Sun, 09 Sep 2001 01:46:40 GMT"}
        os.utime(path, (5, 5))
        assert _origin.only_if_changed(path).headers() == {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:05 GMT"}

    def test_undated(self, path):
        """Where the server gave no date, the file's own is none of the server's, and is not asked with."""
        question = self.note(path, Version(etag='"v1"', size=10), is_dated=False)
        self.skip_without_attributes(path)
        assert question.headers() == {"If-None-Match": '"v1"'}
        os.utime(path, (5, 5))
        assert _origin.only_if_changed(path).headers() == {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:05 GMT"}

    def test_longer_by_now(self, path):
        """A file to which somebody has appended is not what was noted, whatever its time says."""
        self.note(path, Version(etag='"v1"', size=10))
        self.skip_without_attributes(path)
        with open(path, "ab") as file:
            file.write(b"x")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        assert "If-None-Match" not in _origin.only_if_changed(path).headers()

    @pytest.mark.parametrize("version", [Version(size=10), Version(date="Sun, 09 Sep 2001 01:46:40 GMT", size=10)])
    def test_no_etag(self, path, version):
        """Where there is none, the date remains."""
        assert self.note(path, version).headers() == {"If-Modified-Since": "Sun, 09 Sep 2001 01:46:40 GMT"}
