"""Downloads into file objects: in order, gone on with where that is certain to fit, and never mixed."""

from __future__ import annotations

import io
import os

import pytest

from iointerrupt import Interrupted
from iointerrupt.downloads import ChecksumMismatch, FileChanged, ShortBody, TooLarge, WriteFailed, download
from iointerrupt.testing import steps, wait_until_blocked
from tests.scripted import (
    CONTENT,
    ETAG,
    HALF,
    LONG_AGO,
    NOW,
    OTHER,
    OTHER_ETAG,
    SIZE,
    asked,
    by_range,
    each,
    file,
    half,
    part,
    sha256,
)

REST = f"bytes={HALF}-"


class Sparing(io.RawIOBase):
    """A raw file that takes a few bytes at a time."""

    def __init__(self):
        self.taken = bytearray()

    def writable(self):
        return True

    def write(self, data):
        some = bytes(data)[:777]
        self.taken += some
        return len(some)


def test_a_buffer(fault_server):
    """It is written as it comes, and told as a file without a path."""
    server = fault_server(each(steps.serve(CONTENT, etag=ETAG)))
    buffer = io.BytesIO(b"before ")
    buffer.seek(0, io.SEEK_END)
    result = download(f"{server.url}/file", buffer, checksum=sha256())
    assert buffer.getvalue() == b"before " + CONTENT
    assert (result.path, result.size, result.resumed_from, result.checksum) == (None, SIZE, 0, sha256())


def test_a_pipe(fault_server, background):
    """A pipe that holds less than the file is written to as it is read, and left open, with its buffer as any writer leaves it."""
    server = fault_server(each(steps.serve(CONTENT)))
    reader, writer = os.pipe()

    def fetch():
        result = download(f"{server.url}/file", target)
        target.flush()
        return result

    with open(reader, "rb") as source, open(writer, "wb") as target:
        running = background(fetch)
        got = source.read(SIZE)
        assert running.result().size == SIZE
        assert not target.closed
    assert got == CONTENT


def test_a_raw_file_that_takes_less(fault_server):
    """A raw file may take less than it is given; nothing is left out."""
    server = fault_server(each(steps.serve(CONTENT)))
    target = Sparing()
    download(f"{server.url}/file", target)
    assert bytes(target.taken) == CONTENT


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda data: None, "takes nothing"),
        (lambda data: (_ for _ in ()).throw(BrokenPipeError(32, "Broken pipe")), "Broken pipe"),
    ],
)
def test_a_stream_that_refuses(fault_server, write, said):
    """One that takes nothing, or is closed by who reads it, ends it at once; that is no fault of the server's."""
    server = fault_server(each(steps.serve(CONTENT)))
    target = Sparing()
    target.write = write
    with pytest.raises(WriteFailed, match=said):
        download(f"{server.url}/file", target, backoff=30)
    assert server.connections == 1


class TestGoneOnWith:
    """The first answer breaks off, and another follows."""

    @pytest.mark.parametrize(
        ("begin", "rest", "condition"),
        [
            (half(ETag=ETAG), steps.serve(CONTENT, etag=ETAG), ETAG),
            (half(Last_Modified=LONG_AGO, Date=NOW), file(), LONG_AGO),
        ],
        ids=["etag", "date"],
    )
    def test_unchanged(self, fault_server, begin, rest, condition):
        """The rest of the same version follows behind what is written."""
        server = fault_server(begin, each(rest))
        buffer = io.BytesIO()
        download(f"{server.url}/file", buffer, backoff=0.001, checksum=sha256())
        assert buffer.getvalue() == CONTENT
        assert asked(server) == [(None, None), (REST, condition)]

    @pytest.mark.parametrize(
        "rest",
        [
            each(steps.serve(OTHER, etag=OTHER_ETAG)),
            each(steps.serve(CONTENT, etag=ETAG, ranges=False)),
            by_range(part(content=OTHER, headers={"ETag": OTHER_ETAG}), steps.serve(OTHER)),
            by_range(steps.answer(status=416, headers={"Content-Range": f"bytes */{SIZE}"}), steps.serve(OTHER)),
            by_range(steps.answer(status=412), steps.serve(OTHER)),
        ],
        ids=["another etag", "no ranges", "a part of another", "416", "412"],
    )
    def test_changed(self, fault_server, rest):
        """If the rest is not to be had, it fails: what is written stays, and nothing else follows it."""
        server = fault_server(half(ETag=ETAG), rest)
        buffer = io.BytesIO()
        with pytest.raises(FileChanged, match="40,000"):
            download(f"{server.url}/file", buffer, backoff=0.001)
        assert buffer.getvalue() == CONTENT[:HALF]

    def test_no_validator(self, fault_server):
        """So it does where nothing would tell whether the rest fits."""
        server = fault_server(half(), each(steps.serve(CONTENT)))
        buffer = io.BytesIO()
        with pytest.raises(FileChanged):
            download(f"{server.url}/file", buffer, backoff=0.001)
        assert buffer.getvalue() == CONTENT[:HALF]
        assert server.connections == 1

    @pytest.mark.parametrize("content", [CONTENT, OTHER], ids=["the same", "another"])
    def test_no_validator_but_a_checksum(self, fault_server, content):
        """With a checksum it is gone on with, and that shows in the end whether it fitted."""
        server = fault_server(half(), each(steps.serve(content)))
        buffer = io.BytesIO()
        if content is CONTENT:
            assert download(f"{server.url}/file", buffer, backoff=0.001, checksum=sha256()).checksum == sha256()
        else:
            with pytest.raises(ChecksumMismatch):
                download(f"{server.url}/file", buffer, backoff=0.001, checksum=sha256())
        assert buffer.getvalue() == CONTENT[:HALF] + content[HALF:]

    def test_nothing_was_written_yet(self, fault_server):
        """Before the first byte, another version is as good as any."""
        begin = [steps.expect(), steps.head(headers={"ETag": ETAG}, length=SIZE)]
        server = fault_server(begin, each(steps.serve(OTHER, etag=OTHER_ETAG)))
        buffer = io.BytesIO()
        download(f"{server.url}/file", buffer, backoff=0.001)
        assert buffer.getvalue() == OTHER

    @pytest.mark.parametrize("chunked", [False, True], ids=["", "chunked"])
    def test_a_short_rest(self, fault_server, chunked):
        """A rest that ends before what it says it is, is gone on with too; not even an orderly end is believed."""

        def answer(connection):
            start = int(connection.request.headers["Range"][6:-1])
            said = f"bytes {start}-{SIZE - 1}/{SIZE}"
            length = {"chunked": True} if chunked else {"length": SIZE - start}
            part(start, min(start + 20_000, SIZE), said=said, **length).run(connection)
            raise ConnectionAbortedError

        server = fault_server(half(ETag=ETAG), [steps.expect(), answer])
        buffer = io.BytesIO()
        assert download(f"{server.url}/file", buffer, backoff=0.001, retries=1).size == SIZE
        assert buffer.getvalue() == CONTENT

    def test_all_tries(self, fault_server):
        """After all tries it is the failure of the last one."""
        empty = part(HALF, HALF, said=f"bytes {HALF}-{SIZE - 1}/{SIZE}", length=SIZE - HALF)
        server = fault_server(half(ETag=ETAG), [steps.expect(), empty])
        buffer = io.BytesIO()
        with pytest.raises(ShortBody):
            download(f"{server.url}/file", buffer, backoff=0.001, retries=2)
        assert buffer.getvalue() == CONTENT[:HALF]
        assert server.connections == 3


def test_a_wrong_checksum(fault_server):
    """A checksum that does not fit is told, when all is written."""
    server = fault_server(each(steps.serve(CONTENT)))
    buffer = io.BytesIO()
    with pytest.raises(ChecksumMismatch):
        download(f"{server.url}/file", buffer, checksum=sha256(OTHER))


def test_max_size(fault_server):
    """Nothing is written of a file that says that it is too large."""
    server = fault_server(each(steps.serve(CONTENT)))
    buffer = io.BytesIO()
    with pytest.raises(TooLarge):
        download(f"{server.url}/file", buffer, max_size=SIZE - 1)
    assert buffer.getvalue() == b""


@pytest.mark.stops_within(1)
def test_a_stop(fault_server, background, stop):
    """A stop says how many bytes are written."""
    server = fault_server([steps.expect(), steps.head(length=SIZE), steps.send(CONTENT[:HALF]), steps.stall()])
    buffer = io.BytesIO()
    running = background(download, f"{server.url}/file", buffer, stop=stop)
    server.wait_for("stall")
    wait_until_blocked(stop)
    stop.set()
    error = running.error()
    assert isinstance(error, Interrupted)
    assert buffer.getvalue() == CONTENT[: error.transferred]
