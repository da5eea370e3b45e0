"""Places for downloads that are not as they should be: taken, a link, a folder, a pipe, not to be written, or somebody else's."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from iointerrupt.downloads import DestinationBusy, DestinationExists, ShortBody, WriteFailed, download
from iointerrupt.testing import steps
from tests.scripted import CONTENT, ETAG, HALF, SIZE, asked, each

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
    file = folder / "precious"
    file.write_bytes(b"precious")
    yield file
    assert file.read_bytes() == b"precious"
    assert [each.name for each in folder.iterdir()] == ["precious"]


def beside(path, suffix):
    """What a download has beside the file."""
    return path.with_name(path.name + suffix)


class TestTheFileItself:
    """Something has the name that the file is to have."""

    def test_a_file(self, server, path):
        """A file that is there is not touched, and nothing is asked for."""
        path.write_bytes(b"mine")
        with pytest.raises(DestinationExists) as caught:
            download(f"{server.url}/file", path)
        assert str(path) in str(caught.value)
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
            with pytest.raises(DestinationBusy, match=r"file\.part"):
                download(url, path)
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
