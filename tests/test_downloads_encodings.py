"""Bodies that come packed although nobody has asked for that: undone where that can be, else refused, and never trusted."""

from __future__ import annotations

import gzip
import io
import zlib

import pytest
import requests

from iointerrupt.downloads import (
    BadEncoding,
    ChecksumNotFound,
    DecompressionBomb,
    DownloadError,
    ShortBody,
    TooLarge,
    download,
)
from iointerrupt.downloads._coding import Decoder
from iointerrupt.testing import steps
from tests.scripted import CONTENT, ETAG, HALF, SIZE, each, sha256

PACKED = gzip.compress(CONTENT, mtime=0)  # as names of tests are made of it, in several processes
PIECE = 1 << 20  # of a bomb


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return tmp_path / "file"


def coded(body, coding="gzip", **answer):
    """Answers every request with a body that it says is packed, and closes the connection."""
    headers = {"Content-Encoding": coding, "ETag": ETAG, "Accept-Ranges": "bytes"}
    return [steps.expect(), steps.answer(body, headers=headers, **answer)]


def bomb(pieces):
    """So many megabytes of nothing, packed to a thousandth, without ever being there."""
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(bytes(PIECE)) + packer.flush(zlib.Z_FULL_FLUSH)
    # What follows a full flush does not depend on what was before it.
    piece = packer.compress(bytes(PIECE)) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(pieces):
        crc = zlib.crc32(bytes(PIECE), crc)
    end = b"\x03\x00" + crc.to_bytes(4, "little") + (pieces * PIECE % (1 << 32)).to_bytes(4, "little")
    return head + piece * (pieces - 1) + end


def test_identity_is_asked_for(fault_server, path):
    """Nothing packed is asked for, so that lengths and ranges are those of the file."""
    server = fault_server(each(steps.serve(CONTENT)))
    download(f"{server.url}/file", path)
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", PACKED),
        ("GZIP", PACKED),
        ("x-gzip", PACKED),
        ("deflate", zlib.compress(CONTENT)),
        ("gzip, gzip", gzip.compress(PACKED, mtime=0)),
        ("identity, gzip", PACKED),
        ("identity", CONTENT),
        ("gzip", gzip.compress(CONTENT[:HALF], mtime=0) + gzip.compress(CONTENT[HALF:], mtime=0)),
    ],
)
@pytest.mark.parametrize("answer", [{}, {"chunked": True}, {"length": None}], ids=["length", "chunked", "to the end"])
def test_undone(fault_server, path, coding, body, answer):
    """What is packed in a way that can be undone comes out as the file, with its size and its checksum."""
    server = fault_server(coded(body, coding, **answer))
    result = download(f"{server.url}/file", path, checksum=sha256())
    assert path.read_bytes() == CONTENT
    assert (result.size, result.checksum) == (SIZE, sha256())


@pytest.mark.parametrize("segments", [1, 4])
def test_nothing_of_it_is_gone_on_with(fault_server, path, segments):
    """Bytes of the file are not bytes of the body: what breaks off is begun anew, in one piece."""
    broken = [
        steps.expect(),
        steps.head(headers={"Content-Encoding": "gzip", "ETag": ETAG}, length=len(PACKED)),
        steps.send(PACKED[:HALF]),
    ]
    server = fault_server(broken, broken, coded(PACKED))
    result = download(f"{server.url}/file", path, segments=segments, backoff=0.001)
    assert path.read_bytes() == CONTENT
    assert result.resumed_from == 0
    assert all("Range" not in request.headers for request in server.requests)


@pytest.mark.parametrize("name", ["file.tar.gz", "file.tgz", "FILE.GZ"])
def test_what_is_meant_to_be_packed(fault_server, tmp_path, name):
    """A file that is called as one that is packed stays as it is, as servers call that a coding as well."""
    server = fault_server(coded(PACKED))
    assert download(f"{server.url}/{name}", tmp_path).size == len(PACKED)
    assert (tmp_path / name).read_bytes() == PACKED


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "what", "gzip, br"])
def test_unknown(fault_server, path, coding):
    """What cannot be undone is refused, and not tried again."""
    server = fault_server(coded(PACKED, coding))
    with pytest.raises(BadEncoding, match=r"coded as (br|zstd|compress|what)"):
        download(f"{server.url}/file", path, backoff=30)
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("body", [CONTENT, b"\x1f\x8b" + CONTENT, PACKED[:100] + bytes(100) + PACKED[200:]])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_broken(fault_server, path, coding, body):
    """What is not packed as it says is refused."""
    server = fault_server(coded(body, coding))
    with pytest.raises(BadEncoding):
        download(f"{server.url}/file", path, retries=1, backoff=0.001)
    assert not path.exists()


@pytest.mark.parametrize("cut", [1, 8, 9, 1000, len(PACKED) - 5])
@pytest.mark.parametrize("answer", [{}, {"chunked": True}, {"length": None}], ids=["length", "chunked", "to the end"])
def test_cut_off(fault_server, path, cut, answer):
    """What is packed and has no end is no success, even where the body itself has ended in order."""
    server = fault_server(coded(PACKED[:-cut], **answer))
    with pytest.raises((BadEncoding, ShortBody)):
        download(f"{server.url}/file", path, retries=1, backoff=0.001)
    assert not path.exists()


SMALL = bytes(range(50))
SMALL_PACKED = {
    "gzip": gzip.compress(SMALL, mtime=0),
    "two members": gzip.compress(SMALL[:20], mtime=0) + gzip.compress(SMALL[20:], mtime=0),
    "zlib": zlib.compress(SMALL),
}


@pytest.mark.parametrize("kind", SMALL_PACKED)
def test_wherever_it_is_split(kind):
    """Nothing depends on where the pieces end in which it comes; and wherever it is cut off, that is noticed."""
    body, coding = SMALL_PACKED[kind], "deflate" if kind == "zlib" else "gzip"
    for at in range(len(body)):
        assert undone([body[:at], body[at:]], coding) == SMALL
        if at and at != len(gzip.compress(SMALL[:20])):  # a member by itself is whole
            with pytest.raises(EOFError):
                undone([body[:at]], coding)
    assert undone([bytes([each_]) for each_ in body], coding) == SMALL


def undone(pieces, coding):
    """What comes of a body."""
    left = iter([piece for piece in pieces if piece])
    decoder = Decoder(lambda: next(left, b""), coding)
    return b"".join(iter(decoder.read, b""))


def test_no_body(fault_server, path):
    """An empty file has nothing to be undone."""
    server = fault_server(coded(b""))
    try:
        assert download(f"{server.url}/file", path, retries=0).size == 0
    except DownloadError:
        assert not path.exists()


class TestBombs:
    """A small body that unpacks to a huge one."""

    def test_it_ends_early(self, fault_server, path):
        """It is refused long before it has filled the disk, and not tried again."""
        server = fault_server(coded(bomb(300)))
        with pytest.raises(DecompressionBomb):
            download(f"{server.url}/file", path, backoff=30)
        part = path.with_name("file.part")
        assert not path.exists()
        assert not part.exists() or part.stat().st_size < 80 << 20

    def test_max_size(self, fault_server, path):
        """The most that is allowed holds for what it unpacks to."""
        server = fault_server(coded(bomb(20)))
        with pytest.raises(TooLarge):
            download(f"{server.url}/file", path, max_size=10 * PIECE)
        assert not path.exists()

    def test_max_size_allows_it(self, fault_server, path):
        """Who says that it may be so large gets it."""
        server = fault_server(coded(bomb(70)))
        assert download(f"{server.url}/file", path, max_size=70 * PIECE).size == 70 * PIECE

    def test_of_a_bomb(self, fault_server, path):
        """One that is packed twice is as large in the end."""
        server = fault_server(coded(gzip.compress(bomb(300)), "gzip, gzip"))
        with pytest.raises(DecompressionBomb):
            download(f"{server.url}/file", path)

    def test_a_list_of_checksums(self, fault_server, path):
        """A list of checksums is limited as well."""
        server = fault_server(coded(bomb(70)))
        with pytest.raises(ChecksumNotFound, match="SHA256SUMS is more than"):
            download(f"{server.url}/file", path, checksum=f"{server.url}/SHA256SUMS")

    @pytest.mark.parametrize(
        ("options", "error"), [({}, DecompressionBomb), ({"max_size": 10 * PIECE}, TooLarge)], ids=["free", "max_size"]
    )
    def test_into_a_stream(self, fault_server, options, error):
        """What goes into a stream ends early as well."""
        server = fault_server(coded(bomb(300)))
        buffer = io.BytesIO()
        with pytest.raises(error):
            download(f"{server.url}/file", buffer, **options)
        assert len(buffer.getvalue()) < 80 << 20


def test_a_session_that_asks_for_it(fault_server, path):
    """What the session asks for otherwise does not count."""
    server = fault_server(each(steps.serve(CONTENT)))
    with requests.Session() as session:
        session.headers["Accept-Encoding"] = "gzip, br"
        download(f"{server.url}/file", path, session=session)
    assert server.requests[0].headers["Accept-Encoding"] == "identity"
