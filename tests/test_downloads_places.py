"""Places for downloads that are not as they should be: taken, a link, a folder, a pipe, not to be written, or somebody else's.

What comes into them during the last steps, when a part gets its name, is in `TestTheName`.
"""

from __future__ import annotations

import errno
import os
import pickle
import subprocess
import sys
import threading

import pytest

from iointerrupt._files import beside as _beside
from iointerrupt.downloads import DestinationBusy, DestinationExists, ShortBody, WriteFailed, _part, download
from iointerrupt.downloads._checksums import Checksum, digest_file
from iointerrupt.downloads._options import State
from iointerrupt.downloads._part import Part
from iointerrupt.testing import steps
from tests.scripted import CONTENT, ETAG, HALF, SIZE, asked, each, file, sha256
from tests.test_downloads_part import complete

CHILD = """
import sys
from iointerrupt.downloads import DownloadError, download
try:
    print(download(sys.argv[1], sys.argv[2]).size)
except DownloadError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return tmp_path / "file"


@pytest.fixture
def server(fault_server):
    """A server that has the file."""
    return fault_server(each(steps.serve(CONTENT, etag=ETAG)))


@pytest.fixture
def precious(tmp_path):
    """A file elsewhere that nothing must happen to."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    kept = folder / "precious"
    kept.write_bytes(b"precious")
    yield kept
    assert kept.read_bytes() == b"precious"
    assert [each.name for each in folder.iterdir()] == ["precious"]


def beside(path, suffix):
    """What a download has beside the file."""
    return path.with_name(path.name + suffix)


def another_file(place):
    """Put another file there."""
    with open(place, "wb") as file:
        file.write(b"else")


def a_link(place):
    """Put a link there, to a file."""
    another_file(place + " of others")
    os.symlink(place + " of others", place)


#: What may come into a place.
THINGS = pytest.mark.parametrize("put", [another_file, a_link, os.mkfifo], ids=["file", "link", "pipe"])


class TestTheFileItself:
    """Something has the name that the file is to have."""

    def test_a_file(self, server, path):
        """A file that is there is not touched, and nothing is asked for."""
        path.write_bytes(b"mine")
        with pytest.raises(DestinationExists) as caught:
            download(f"{server.url}/file", path)
        assert str(path) in str(caught.value)
        assert caught.value.path == str(path)
        assert pickle.loads(pickle.dumps(caught.value)).path == str(path)
        assert path.read_bytes() == b"mine"
        assert server.connections == 0

    def test_a_file_that_is_to_be_replaced(self, server, path):
        """With `overwrite` it is replaced, in one instant."""
        path.write_bytes(b"mine")
        seen = []
        download(f"{server.url}/file", path, overwrite=True, progress=lambda now: seen.append(path.read_bytes()))
        assert path.read_bytes() == CONTENT
        assert set(seen) == {b"mine", CONTENT}

    @pytest.mark.parametrize("is_dangling", [False, True], ids=["", "dangling"])
    def test_a_link(self, server, path, precious, is_dangling):
        """A symbolic link is something that is there, wherever it leads."""
        path.symlink_to(precious.with_name("nothing") if is_dangling else precious)
        with pytest.raises(DestinationExists):
            download(f"{server.url}/file", path)
        assert path.is_symlink()

    @pytest.mark.parametrize("is_dangling", [False, True], ids=["", "dangling"])
    def test_a_link_that_is_to_be_replaced(self, server, path, precious, is_dangling):
        """With `overwrite` the link is replaced, and not what it leads to."""
        path.symlink_to(precious.with_name("nothing") if is_dangling else precious)
        download(f"{server.url}/file", path, overwrite=True)
        assert not path.is_symlink()
        assert path.read_bytes() == CONTENT

    def test_a_folder(self, server, path):
        """A folder takes the file into it, and if there is a folder of that name as well, that is refused, also with `overwrite`."""
        (path / "file").mkdir(parents=True)
        with pytest.raises(WriteFailed, match="is a folder"):
            download(f"{server.url}/file", path, overwrite=True)
        assert [each.name for each in path.iterdir()] == ["file"]
        download(f"{server.url}/other", path)
        assert (path / "other").read_bytes() == CONTENT

    def test_it_comes_meanwhile(self, fault_server, path):
        """A file that is there only when the download is done is not touched either; what came is kept."""

        def appear(connection):
            path.write_bytes(b"mine")
            connection.send(CONTENT[HALF:])

        server = fault_server([steps.expect(), steps.head(length=SIZE), steps.send(CONTENT[:HALF]), appear])
        with pytest.raises(DestinationExists):
            download(f"{server.url}/file", path)
        assert path.read_bytes() == b"mine"
        assert beside(path, ".part").read_bytes() == CONTENT

    @pytest.mark.parametrize("options", [{}, {"overwrite": True}, {"update": True}], ids=str)
    def test_it_comes_in_the_last_moment(self, server, path, monkeypatch, options):
        """One that comes after the last look, such as another download's, is replaced only if that was asked for."""
        sync = os.fdatasync

        def come(fd):
            path.write_bytes(b"mine")
            sync(fd)

        monkeypatch.setattr(os, "fdatasync", come)
        if options:
            download(f"{server.url}/file", path, **options)
        else:
            with pytest.raises(DestinationExists):
                download(f"{server.url}/file", path)
        assert path.read_bytes() == (CONTENT if options else b"mine")
        assert beside(path, ".part").exists() == (not options)

    def test_a_fifo(self, server, path):
        """A pipe that is there is neither written into nor replaced, and nobody waits for its other end."""
        os.mkfifo(path)
        with pytest.raises(DestinationExists):
            download(f"{server.url}/file", path)
        for link in (path, path.with_name("link")):
            if link != path:
                link.symlink_to(path)
            with pytest.raises(WriteFailed, match="it is no file"):
                download(f"{server.url}/file", link, overwrite=True)
        assert path.is_fifo()

    @pytest.mark.parametrize("change", ["longer", "at another time"])
    def test_an_old_one_that_was_changed_since(self, fault_server, path, change):
        """With `update`, a file that somebody has changed since is not taken for the version that it was."""
        server = fault_server(each(file(etag=ETAG)))
        download(f"{server.url}/file", path)
        found = path.stat()
        if change == "longer":
            path.write_bytes(CONTENT + b"x")
            os.utime(path, (found.st_mtime, found.st_mtime))
        else:
            os.utime(path, (5, 5))
        download(f"{server.url}/file", path, update=True)
        assert "If-None-Match" not in server.requests[-1].headers


class TestWhatIsBeside:
    """Something has a name that the download takes for itself."""

    @pytest.mark.parametrize("suffix", [".part", ".PART", ".part.json", ".part.json.new"])
    def test_a_file_of_that_name(self, server, path, suffix):
        """No file can be given a name that another download would take for its own, and throw away."""
        with pytest.raises(WriteFailed, match="unfinished downloads end in"):
            download(f"{server.url}/file", beside(path, suffix))
        assert server.connections == 0

    @pytest.mark.parametrize("suffix", [".part", ".part.json.new"])
    def test_a_link(self, fault_server, path, precious, suffix):
        """A symbolic link is not followed: in place of the part it is refused, and in that of a record it is removed."""
        beside(path, suffix).symlink_to(precious)
        server = fault_server(
            [
                steps.expect(),
                steps.head(headers={"ETag": ETAG}, length=SIZE),
                steps.drip(CONTENT, size=2000, every=0.01),
            ]
        )
        if suffix == ".part":
            with pytest.raises(WriteFailed):
                download(f"{server.url}/file", path, overwrite=True)
            assert not path.exists()
        else:
            download(f"{server.url}/file", path, overwrite=True)
            assert not beside(path, suffix).is_symlink()
        assert precious.exists()

    def test_a_link_in_place_of_the_record(self, fault_server, path, precious):
        """One that is in the place of the record is replaced."""
        beside(path, ".part.json").symlink_to(precious)
        server = fault_server(
            [
                steps.expect(),
                steps.head(headers={"ETag": ETAG}, length=SIZE),
                steps.drip(CONTENT, size=5000, every=0.01),
            ]
        )
        download(f"{server.url}/file", path)
        assert path.read_bytes() == CONTENT
        assert not os.path.lexists(beside(path, ".part.json"))

    @pytest.mark.parametrize("put", ["a link", "a second name", "a pipe"])
    def test_it_comes_where_the_record_is_written(self, fault_server, path, precious, put):
        """What is put there while it runs is neither written through nor waited for."""
        fresh = beside(path, ".part.json.new")

        def put_it(connection):
            if put == "a pipe":
                os.mkfifo(fresh)
            else:
                (fresh.symlink_to if put == "a link" else fresh.hardlink_to)(precious)

        begin = [steps.expect(), put_it, steps.head(headers={"ETag": ETAG}, length=SIZE)]
        server = fault_server([*begin, steps.drip(CONTENT, size=5000, every=0.01)])
        download(f"{server.url}/file", path)
        assert path.read_bytes() == CONTENT
        assert {each.name for each in path.parent.iterdir()} == {"file", "elsewhere"}

    def test_the_part_is_removed_and_begun_again(self, fault_server, background, path):
        """A part that is removed while it runs, and begun again, is the second one's: the first does not give it the name."""
        begin = [steps.expect(), steps.head(headers={"ETag": ETAG}, length=SIZE), steps.send(CONTENT[:HALF])]
        server = fault_server([*begin, steps.stall(), steps.send(CONTENT[HALF:])])
        first = background(download, f"{server.url}/file", path)
        server.wait_for("stall")
        beside(path, ".part").unlink()
        second = background(download, f"{server.url}/file", path)
        server.wait_for("stall", 2)
        server.resume()
        assert second.result().size == SIZE
        # The second one may be done before the first one looks.
        with pytest.raises((WriteFailed, DestinationExists), match=r"taken away|is there already"):
            first.result()
        assert path.read_bytes() == CONTENT
        assert [each.name for each in path.parent.iterdir()] == ["file"]

    @THINGS
    def test_the_part_is_replaced_before_it_is_verified(self, server, path, put):
        """What came into the place of a part is not read, which may be a pipe, and is not what was verified."""

        def replace(now):
            if now.state is State.VERIFYING:
                beside(path, ".part").unlink()
                put(str(beside(path, ".part")))

        with pytest.raises(WriteFailed, match="taken away"):
            download(f"{server.url}/file", path, checksum=sha256(), progress=replace)
        assert not path.exists()

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["a folder", "a pipe"])
    def test_no_file(self, server, path, make):
        """What is no file is refused, and nobody waits for the other end of a pipe."""
        make(beside(path, ".part"))
        with pytest.raises(WriteFailed, match="it is no file"):
            download(f"{server.url}/file", path)
        assert not path.exists()
        assert server.connections == 0

    @pytest.mark.parametrize("record", [None, b"", b"{}", b"\0" * 500, b"[" * 100_000, b'{"format": 1}\n00000000\n'])
    def test_a_part_of_nobody_knows_what(self, server, path, record):
        """A part without a record, or with one that makes no sense, is not made a part of the file."""
        beside(path, ".part").write_bytes(b"x" * HALF)
        if record is not None:
            beside(path, ".part.json").write_bytes(record)
        download(f"{server.url}/file", path)
        assert path.read_bytes() == CONTENT
        assert asked(server) == [(None, None)]
        assert [each.name for each in path.parent.iterdir()] == ["file"]


class TestFolders:
    """The folder is not there, or is none."""

    def test_there_is_none(self, server, tmp_path):
        """A folder that is not there is said so, and is not made."""
        with pytest.raises(WriteFailed, match="there is no folder"):
            download(f"{server.url}/file", tmp_path / "folder" / "file")
        with pytest.raises(WriteFailed, match="there is no folder"):
            download(f"{server.url}/file", f"{tmp_path / 'folder'}{os.sep}")
        assert list(tmp_path.iterdir()) == []
        assert server.connections == 0

    def test_it_is_a_file(self, server, path):
        """A file is no folder."""
        path.write_bytes(b"mine")
        with pytest.raises(WriteFailed) as caught:
            download(f"{server.url}/file", path / "file")
        assert isinstance(caught.value.__cause__, NotADirectoryError)
        assert caught.value.path == str(path / "file.part")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_it_cannot_be_written(self, server, tmp_path):
        """A folder in which nothing can be made is said so."""
        tmp_path.chmod(0o555)
        try:
            with pytest.raises(WriteFailed) as caught:
                download(f"{server.url}/file", tmp_path / "file")
        finally:
            tmp_path.chmod(0o755)
        assert isinstance(caught.value.__cause__, PermissionError)

    def test_it_goes_away(self, fault_server, tmp_path):
        """A folder that is removed meanwhile is an error of the place, and not of the server."""
        folder = tmp_path / "folder"
        folder.mkdir()

        def remove(connection):
            for each_ in folder.iterdir():
                each_.unlink()
            folder.rmdir()
            connection.send(CONTENT[HALF:])

        server = fault_server([steps.expect(), steps.head(length=SIZE), steps.send(CONTENT[:HALF]), remove])
        with pytest.raises(WriteFailed):
            download(f"{server.url}/file", folder / "file")
        assert server.connections == 1


class TestBusy:
    """Two downloads of one file."""

    @pytest.fixture
    def stalled(self, fault_server):
        """A server that stalls in the middle of the first download."""
        begin = [steps.expect(), steps.head(headers={"ETag": ETAG}, length=SIZE), steps.send(CONTENT[:HALF])]
        return fault_server([*begin, steps.stall(), steps.send(CONTENT[HALF:])])

    def test_in_one_process(self, stalled, background, path):
        """The second one is refused at once, whatever its URL, and the first one goes on."""
        running = background(download, f"{stalled.url}/file", path)
        stalled.wait_for("stall")
        for url in (f"{stalled.url}/file", f"{stalled.url}/another"):
            with pytest.raises(DestinationBusy, match=r"file\.part") as caught:
                download(url, path)
            assert caught.value.path == f"{path}.part"
        stalled.resume()
        assert running.result().size == SIZE
        assert path.read_bytes() == CONTENT
        assert stalled.connections == 1

    def test_in_two_processes(self, stalled, background, path):
        """The same in another process."""
        running = background(download, f"{stalled.url}/file", path)
        stalled.wait_for("stall")
        second = subprocess.run(
            [sys.executable, "-c", CHILD, f"{stalled.url}/file", str(path)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        assert second.stdout == "DestinationBusy\n"
        stalled.resume()
        assert running.result().size == SIZE
        assert path.read_bytes() == CONTENT

    def test_a_disk_that_is_slow(self, fault_server, path, monkeypatch):
        """A download that is over has let go of the file, even while the disk still writes what came of it."""
        is_over, is_syncing = threading.Event(), threading.Event()
        real, here = os.fdatasync, threading.current_thread()

        def sync(fd):
            if threading.current_thread() is not here:
                is_syncing.set()
                is_over.wait(10)
            real(fd)

        monkeypatch.setattr(os, "fdatasync", sync)
        begin = [steps.expect(), steps.head(headers={"ETag": ETAG}, length=SIZE), steps.send(CONTENT[:HALF])]
        more = [
            steps.expect(),
            steps.head(206, {"Content-Range": f"bytes {HALF}-{SIZE - 1}/{SIZE}"}, length=SIZE - HALF),
            steps.send(CONTENT[HALF : HALF + 1000]),
        ]
        server = fault_server(begin, more, each(steps.serve(CONTENT, etag=ETAG)))
        try:
            for _ in range(2):
                with pytest.raises(ShortBody):
                    download(f"{server.url}/file", path, retries=0)
            assert is_syncing.wait(10)
            result = download(f"{server.url}/file", path)
        finally:
            is_over.set()
        assert path.read_bytes() == CONTENT
        assert result.resumed_from == HALF + 1000

    def test_different_files(self, stalled, background, path):
        """Others beside it are free."""
        running = background(download, f"{stalled.url}/file", path)
        stalled.wait_for("stall")
        other = background(download, f"{stalled.url}/file", path.with_name("other"))
        stalled.wait_for("stall", 2)
        stalled.resume()
        assert running.result().size == other.result().size == SIZE


class TestTheName:
    """How a part gets its final name."""

    @pytest.fixture
    def path(self, path):
        """The same as text, which parts take."""
        return str(path)

    @pytest.fixture(params=["in one step", "in two"])
    def way(self, request, monkeypatch):
        """With file systems that rename without replacing, and with those that do not."""
        if request.param == "in two":
            monkeypatch.setattr(_beside, "_renameat2", lambda: lambda *_: errno.EINVAL)

    @pytest.mark.usefixtures("way")
    def test_it_is_free(self, path, tmp_path):
        """A name that is free is given, and nothing else is left."""
        part = complete(path, CONTENT)
        part.save()
        part.finish(path, None, replace=False)
        part.close()
        assert os.listdir(tmp_path) == ["file"]
        assert os.path.getsize(path) == SIZE

    @pytest.mark.usefixtures("way")
    @THINGS
    def test_nothing_is_replaced(self, path, put):
        """What came there after the last look is not replaced, and what has come of the file is kept."""
        part = complete(path, CONTENT)
        put(path)
        found = os.lstat(path)
        with pytest.raises(DestinationExists, match="is there already"):
            part.finish(path, None, replace=False)
        part.close()
        assert os.path.samestat(found, os.lstat(path))
        second = Part(path)
        assert second.load().is_complete
        second.finish(path, None, replace=True)
        second.close()
        assert not os.path.samestat(found, os.lstat(path))

    @pytest.mark.usefixtures("way")
    def test_two_of_one_name(self, path):
        """Of two that are to get one name, the first one has it."""
        first, second = complete(path + "1", b"1" * 100), complete(path + "2", b"2" * 100)
        second.finish(path, None, replace=False)
        with pytest.raises(DestinationExists):
            first.finish(path, None, replace=False)
        first.close()
        second.close()
        with open(path, "rb") as file:
            assert file.read() == b"2" * 100

    @pytest.mark.usefixtures("way")
    def test_no_folder(self, path):
        """What is wrong otherwise is told as it is."""
        part = complete(path, CONTENT)
        with pytest.raises(WriteFailed, match="there is no folder"):
            part.finish(path + "/none/file", None, replace=False)
        part.close()

    @pytest.mark.parametrize("replace", [False, True])
    @pytest.mark.parametrize("content", [CONTENT, bytes(_part._SYNCED_AT_ONCE + 1)], ids=["small", "large"])
    def test_the_bytes_come_first(self, path, monkeypatch, replace, content):
        """All bytes are on the disk before the name is: after a power cut it would be that of a torn file."""
        part, done = complete(path, content), []
        inode = os.fstat(part.fd).st_ino
        for module, call in ((os, "fdatasync"), (os, "replace"), (_part, "rename_new")):
            real = getattr(module, call)

            def record(what, *args, real=real, call=call):
                if os.stat(what).st_ino == inode:
                    done.append(call)
                real(what, *args)

            monkeypatch.setattr(module, call, record)
        part.finish(path, None, replace=replace)
        part.close()
        assert "fdatasync" in done[:-1]
        assert done[-1] == ("replace" if replace else "rename_new")

    @pytest.mark.parametrize("replace", [False, True])
    @pytest.mark.parametrize("put", [lambda _: None, another_file, a_link, os.mkfifo], ids=["", "file", "link", "pipe"])
    def test_the_part_was_taken_away(self, path, put, replace):
        """What came into the place of the part does not get the name, and is left alone."""
        part = complete(path, CONTENT)
        os.unlink(path + ".part")
        put(path + ".part")
        before = sorted(os.listdir(os.path.dirname(path)))
        with pytest.raises(WriteFailed, match="taken away"):
            part.finish(path, None, replace=replace)
        part.close()
        assert sorted(os.listdir(os.path.dirname(path))) == before
        assert "file" not in before

    @pytest.mark.parametrize("replace", [False, True])
    def test_in_the_last_moment(self, path, monkeypatch, replace):
        """What comes there between the look and the rename is not said to be the file."""
        part = complete(path, CONTENT)
        module, name = (os, "replace") if replace else (_part, "rename_new")
        real = getattr(module, name)

        def exchange(source, target):
            os.unlink(source)
            another_file(source)
            real(source, target)

        monkeypatch.setattr(module, name, exchange)
        with pytest.raises(WriteFailed, match="not what was downloaded"):
            part.finish(path, None, replace=replace)
        part.close()

    def test_who_waits_for_it(self, path, monkeypatch):
        """That somebody takes the file as soon as it is there is no failure."""
        part, real = complete(path, CONTENT), _part.rename_new

        def take(source, target):
            real(source, target)
            os.rename(target, target + " taken")

        monkeypatch.setattr(_part, "rename_new", take)
        assert part.finish(path, None, replace=False) == SIZE
        part.close()
        assert os.listdir(os.path.dirname(path)) == ["file taken"]

    @THINGS
    def test_its_checksum(self, path, put):
        """The checksum is that of the file that is being written, and not of what is in its place; it stays open."""
        part = complete(path, CONTENT)
        os.unlink(path + ".part")
        put(path + ".part")
        for _ in range(2):
            assert digest_file(part.fd, "sha256") == Checksum("sha256", sha256().partition(":")[2])
        assert os.pread(part.fd, SIZE, 0) == CONTENT
        part.close()
