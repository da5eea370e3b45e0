"""What other tools do wrong, and these downloads do not: a test for each row of what was seen, and for each place that is not as it should be.

Seen were: a changed file spliced in silence; a short body, or a full disk, that passes for success; names that leave the folder
or hide in it; a trickle that is waited for without end; a kill that loses all, or leaves half a file under the final name;
segments where one connection is slow; a `Retry-After` that no stop ends.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading

import pytest

from iointerrupt import DeadlineExceeded, Interrupted
from iointerrupt.downloads import (
    DestinationExists,
    DiskFull,
    ShortBody,
    TooSlow,
    download,
)
from iointerrupt.testing import steps, wait_until_blocked
from tests.scripted import CONTENT, ETAG, HALF, OTHER, OTHER_ETAG, SIZE, asked, each, half, sha256

LARGE = hashlib.shake_256(b"a large file").digest(4 << 20)

# Another process: it downloads, and prints what becomes of it.
CHILD = """
import resource, sys
from iointerrupt.downloads import DownloadError, download
url, path, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
try:
    print(download(url, path, retries=0, preallocate=limit == "50001").size)
except DownloadError as error:
    print(type(error).__name__, error.__cause__)
"""


@pytest.fixture
def folder(tmp_path):
    """Where files are to be, in another one, of which nothing must be touched."""
    (tmp_path / "outside").write_bytes(b"outside")
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


@pytest.fixture
def path(folder):
    """Where the file is to be."""
    return folder / "file"


@pytest.fixture
def server(fault_server):
    """A server that has the file."""
    return fault_server(each(steps.serve(CONTENT, etag=ETAG)))


def names(folder):
    """What is there."""
    return sorted(each.name for each in folder.iterdir())


def child(url, path, *, limit=0):
    """The same in another process, which can write files of `limit` bytes at most."""
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, url, str(path), str(limit)], stdout=subprocess.PIPE, text=True
    )


class TestKilled:
    """kill -9 in the middle of a download."""

    @pytest.fixture
    def kill(self, path):
        """Makes a step that sends the file bit by bit, until some of it is known to be there; and kills whoever got it."""
        record = path.with_name("file.part.json")

        def trickle(connection):
            for start in range(0, HALF, 100):
                if record.exists():
                    break
                connection.send(CONTENT[start : start + 100])
                connection.server.stop.sleep(0.01)
            connection.mark("recorded")

        def kill(server):
            with child(f"{server.url}/file", path) as process:
                try:
                    server.wait_for("stall", timeout=30)
                finally:
                    process.kill()
                assert process.wait() == -signal.SIGKILL
            assert names(path.parent) == ["file.part", "file.part.json"]

        return trickle, kill

    def test_nothing_is_lost(self, fault_server, path, kill):
        """What was there is there still, under no name that passes for the whole, and only the rest is fetched."""
        trickle, kill = kill
        begin = [steps.expect(), steps.head(headers={"ETag": ETAG}, length=SIZE), trickle, steps.stall()]
        server = fault_server(begin, each(steps.serve(CONTENT, etag=ETAG)))
        kill(server)
        result = download(f"{server.url}/file", path)
        assert path.read_bytes() == CONTENT
        assert result.resumed_from > 0
        assert asked(server)[1:] == [(f"bytes={result.resumed_from}-", ETAG)]
        assert names(path.parent) == ["file"]

    @pytest.mark.parametrize("is_known", [False, True], ids=["the server says so", "only the checksum says so"])
    def test_changed_meanwhile(self, fault_server, path, kill, is_known):
        """If the file has changed by then, what comes of it is the new one, and nothing of the old one is in it."""
        trickle, kill = kill
        etag, other = ({"ETag": ETAG}, OTHER_ETAG) if not is_known else ({}, None)
        begin = [steps.expect(), steps.head(headers=etag, length=SIZE), trickle, steps.stall()]
        server = fault_server(begin, each(steps.serve(OTHER, etag=other)))
        kill(server)
        download(f"{server.url}/file", path, checksum=sha256(OTHER) if is_known else None)
        assert path.read_bytes() == OTHER
        assert asked(server)[1][0] is not None


class TestShortBodies:
    """A body that is shorter than promised is no success."""

    @pytest.mark.parametrize(
        "body",
        [
            half(),
            [steps.expect(), steps.head(chunked=True), steps.chunk(CONTENT[:HALF])],
            [steps.expect(), steps.head(chunked=True), steps.send(b"186a0\r\n" + CONTENT[:HALF])],
            [steps.expect(), steps.head(length=SIZE), steps.send(CONTENT[:HALF]), steps.half_close()],
        ],
        ids=["of a length", "between chunks", "in a chunk", "half closed"],
    )
    def test_it_is_an_error(self, fault_server, path, body):
        """However it ends, it is a ShortBody, and no file."""
        server = fault_server(body)
        with pytest.raises(ShortBody):
            download(f"{server.url}/file", path, retries=1, backoff=0.001)
        assert not path.exists()

    @pytest.mark.stops_within(1)
    @pytest.mark.parametrize("headers", [{}, {"Content-Length": str(SIZE)}], ids=["to the end", "of a length"])
    def test_a_stop_is_no_end(self, fault_server, background, stop, path, headers):
        """A stop is not taken for the end of a body, not even of one that ends with the connection."""
        server = fault_server([steps.expect(), steps.head(headers=headers), steps.send(CONTENT[:HALF]), steps.stall()])
        running = background(download, f"{server.url}/file", path, stop=stop)
        server.wait_for("stall")
        wait_until_blocked(stop)
        stop.set()
        error = running.error()
        assert isinstance(error, Interrupted)
        assert error.transferred is not None
        assert not path.exists()


class TestFullDisk:
    """No room is said, before the start where that can be known, and what came is kept."""

    @pytest.fixture
    def small_disk(self, monkeypatch):
        """There is a megabyte left."""
        real = os.fstatvfs

        class Small:
            f_frsize, f_bavail = 4096, 256

        monkeypatch.setattr(os, "fstatvfs", lambda fd: real(fd) and Small)

    @pytest.mark.usefixtures("small_disk")
    def test_before_the_start(self, fault_server, path):
        """Nothing is written of a file for which there is not enough room."""
        server = fault_server(each(steps.serve(LARGE)))
        with pytest.raises(DiskFull, match="4,194,304"):
            download(f"{server.url}/file", path)
        assert names(path.parent) == []
        assert server.connections == 1

    @pytest.mark.usefixtures("small_disk")
    def test_before_the_rest(self, fault_server, path):
        """Where the size shows only with the rest, what is there is kept."""
        begin = [steps.expect(), steps.head(headers={"ETag": ETAG}, chunked=True), steps.chunk(LARGE[:HALF])]
        server = fault_server(begin, begin, each(steps.serve(LARGE, etag=ETAG)))
        with pytest.raises(DiskFull):
            download(f"{server.url}/file", path, backoff=0.001)
        assert path.with_name("file.part").read_bytes() == LARGE[:HALF]

    @pytest.mark.parametrize("answer", [{}, {"chunked": True}], ids=["by the kernel", "through the process"])
    def test_at_the_write(self, fault_server, path, answer):
        """A write that is refused is said; what fitted is kept, and with more room the rest is fetched."""
        content = LARGE[:400_000]
        server = fault_server(
            [steps.expect(), steps.answer(content, headers={"ETag": ETAG}, **answer)],
            [steps.expect(headers={"Range": None}), steps.answer(content, headers={"ETag": ETAG}, **answer)]
            if answer
            else each(steps.serve(content, etag=ETAG)),
            each(steps.serve(content, etag=ETAG)),
        )
        with child(f"{server.url}/file", path, limit=60_000) as process:
            said, _ = process.communicate()
        assert said == "DiskFull [Errno 27] File too large\n"
        assert path.with_name("file.part").read_bytes() == content[:60_000]
        assert download(f"{server.url}/file", path).resumed_from == 60_000
        assert path.read_bytes() == content

    def test_at_the_preallocation(self, fault_server, path):
        """With `preallocate` that is so before the first byte."""
        server = fault_server(each(steps.serve(LARGE, etag=ETAG)))
        with child(f"{server.url}/file", path, limit=50_001) as process:
            said, _ = process.communicate()
        assert said.startswith("DiskFull")
        assert names(path.parent) == []


HEADERS = {
    "attachment; filename=../../x": "x",
    'attachment; filename="../../etc/passwd"': "passwd",
    'attachment; filename="/etc/passwd"': "passwd",
    "attachment; filename*=UTF-8''..%2F..%2Foutside": "outside",
    'attachment; filename="..\\\\..\\\\outside"': "outside",
    'attachment; filename=".bashrc"': "bashrc",
    'attachment; filename="-rf"': "rf",
    'attachment; filename="C:\\\\x"': "x",
    'attachment; filename="CON"': "_CON",
    'attachment; filename="x.part"': "x_part",
    "attachment; filename*=UTF-8''a%0D%0Ab%00c%1B%5B2J": "abc[2J",
    'attachment; filename=".."': "file",
    'attachment; filename=""': "file",
}


class TestNames:
    """What the server calls the file."""

    @pytest.mark.parametrize("header", HEADERS)
    def test_it_stays_in_the_folder(self, fault_server, folder, header):
        """No name leaves the folder, hides in it, or looks like an option or a device; the server's path is not made."""
        server = fault_server(each(steps.answer(CONTENT, headers={"Content-Disposition": header})))
        result = download(f"{server.url}/file", folder)
        assert names(folder) == [HEADERS[header]]
        assert result.path == str(folder / HEADERS[header])
        assert (folder.parent / "outside").read_bytes() == b"outside"
        assert names(folder.parent) == ["folder", "outside"]

    @pytest.mark.parametrize("target", ["/a/..%2F..%2Foutside", "/%2e%2e%2foutside", "/a/b%5C..%5Coutside"])
    def test_of_the_url(self, server, folder, target):
        """The same of a URL."""
        download(server.url + target, folder)
        assert names(folder) == ["outside"]
        assert names(folder.parent) == ["folder", "outside"]

    def test_5000_characters(self, fault_server, folder):
        """A name that no file system takes is cut, and keeps its extension; in the URL as well."""
        header = {"Content-Disposition": f"attachment; filename={'x' * 5000}.tar"}
        server = fault_server(each(steps.answer(CONTENT, headers=header)))
        download(f"{server.url}/{'y' * 5000}.iso", folder)
        (name,) = names(folder)
        assert name.startswith("xxx")
        assert name.endswith("x.tar")

    def test_something_is_there(self, fault_server, folder):
        """What the server calls like something that is there is not fetched over it, and not a byte of it."""
        (folder / "mine").write_bytes(b"mine")
        server = fault_server(
            [
                steps.expect(),
                steps.head(headers={"Content-Disposition": "attachment; filename=mine"}, length=SIZE),
                steps.stall(),
            ]
        )
        with pytest.raises(DestinationExists, match="mine"):
            download(f"{server.url}/file", folder)
        assert names(folder) == ["mine"]
        assert (folder / "mine").read_bytes() == b"mine"


class TestTrickle:
    """A server that sends a byte now and then, always in time."""

    TRICKLE = (steps.expect(), steps.head(headers={"ETag": ETAG}, length=SIZE), steps.drip(CONTENT, every=0.01))

    def test_it_is_too_slow(self, fault_server, path):
        """Below the minimum speed it is given up, and what came is kept."""
        server = fault_server(list(self.TRICKLE))
        with pytest.raises(TooSlow, match="100,000"):
            download(f"{server.url}/file", path, retries=0, min_speed=100_000, min_speed_time=0.2)
        kept = path.with_name("file.part").read_bytes()
        assert kept
        assert CONTENT.startswith(kept)

    def test_another_try_may_be_faster(self, fault_server, path):
        """Another connection brings the rest."""
        server = fault_server(list(self.TRICKLE), each(steps.serve(CONTENT, etag=ETAG)))
        download(f"{server.url}/file", path, backoff=0.001, min_speed=100_000, min_speed_time=0.2)
        assert path.read_bytes() == CONTENT
        assert len(asked(server)) == 2

    def test_the_deadline(self, fault_server, path):
        """All of it takes no longer than the deadline, and what came is kept."""
        server = fault_server(list(self.TRICKLE))
        with pytest.raises(DeadlineExceeded):
            download(f"{server.url}/file", path, deadline=0.2)
        assert CONTENT.startswith(path.with_name("file.part").read_bytes())


def test_segments_where_a_connection_is_limited(fault_server, path):
    """Each connection brings a megabyte at once and then nothing, until there are four: so four are there at once."""
    arrived = [threading.Event() for _ in range(4)]
    all_there = threading.Event()

    def limited(connection):
        arrived[connection.number - 1].set()
        if all(event.is_set() for event in arrived):
            all_there.set()
        start, _, end = (connection.request.headers.get("Range") or "bytes=0-")[6:].partition("-")
        first, behind = int(start), int(end) + 1 if end else len(LARGE)
        headers = {"ETag": ETAG, "Accept-Ranges": "bytes", "Content-Length": str(behind - first)}
        if connection.number > 1:
            headers["Content-Range"] = f"bytes {first}-{behind - 1}/{len(LARGE)}"
        steps.head(206 if connection.number > 1 else 200, headers).run(connection)
        connection.send(LARGE[first : first + 1000])
        steps.stall(until=all_there).run(connection)
        connection.send(LARGE[first + 1000 : behind])

    server = fault_server([steps.expect(), limited])
    download(f"{server.url}/file", path, segments=4)
    assert path.read_bytes() == LARGE
    assert server.connections == 4


@pytest.mark.stops_within(1)
def test_a_stop_ends_what_retry_after_asks_for(fault_server, background, stop, path):
    """A stop does not wait for the twenty seconds that a server has asked for."""
    server = fault_server(each(steps.answer(status=503, headers={"Retry-After": "20"})))
    running = background(download, f"{server.url}/file", path, stop=stop)
    server.wait_for("answer")
    wait_until_blocked(stop)
    stop.set("enough")
    error = running.error()
    assert isinstance(error, Interrupted)
    assert error.reason == "enough"
    assert names(path.parent) == []
