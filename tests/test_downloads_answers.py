"""Downloads from servers that answer oddly: what comes of it is the file that the server has, or a named error, and never a mixture.

Each server breaks off in the middle of the file, and what it says to the next try is odd. That try is one of the same run, or
of another run, which finds the part: nothing must depend on that.
"""

from __future__ import annotations

import gc

import pytest

from iointerrupt import sockets
from iointerrupt.downloads import (
    BadStatus,
    ChecksumMismatch,
    DownloadError,
    LongBody,
    ShortBody,
    State,
    WriteFailed,
    WrongRange,
    download,
)
from iointerrupt.testing import steps
from tests.scripted import (
    CONTENT,
    ETAG,
    HALF,
    LATER,
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
WHOLE = (None, None)


# To the request for the rest.
WRONG_RANGES = {
    "from before": part(HALF - 10),
    "from behind": part(HALF + 10),
    "from the beginning": part(0),
    "no range": steps.answer(CONTENT[HALF:], status=206),
    "of another unit": part(said=f"items {HALF}-{SIZE - 1}/{SIZE}"),
    "two ranges": part(said=f"bytes {HALF}-{SIZE - 2}/{SIZE}, bytes {SIZE - 1}-{SIZE - 1}/{SIZE}"),
    "ends before it begins": part(said=f"bytes {HALF}-{HALF - 2}/{SIZE}"),
    "behind the end": part(said=f"bytes {HALF}-{SIZE}/{SIZE}"),
    "huge numbers": part(said=f"bytes {HALF}-{10**25}/{10**26}"),
    "longer than it says": steps.answer(
        CONTENT[HALF:] + b"more", status=206, headers={"Content-Range": f"bytes {HALF}-{SIZE - 1}/{SIZE}"}
    ),
    "shorter than it says": steps.answer(
        CONTENT[HALF:-4], status=206, headers={"Content-Range": f"bytes {HALF}-{SIZE - 1}/{SIZE}"}
    ),
    "multipart": steps.answer(
        b"--x\r\nContent-Range: bytes %d-%d/%d\r\n\r\n%b\r\n--x--" % (HALF, SIZE - 1, SIZE, CONTENT[HALF:]),
        status=206,
        headers={"Content-Type": "multipart/byteranges; boundary=x"},
    ),
    "packed": part(headers={"Content-Encoding": "gzip"}),
}


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return tmp_path / "file"


@pytest.fixture(params=["between two tries", "between two runs"])
def fetch(request, path):
    """Downloads a file of which the first answer brings the half."""

    def fetch(server, **options):
        options = {"backoff": 0.001, **options}
        if request.param == "between two runs":
            first = {**options, "retries": 0}
            with pytest.raises(ShortBody):
                download(f"{server.url}/file", path, **first)
            assert kept(path) == HALF
        return download(f"{server.url}/file", path, **options)

    return fetch


def kept(path):
    """How many bytes an unfinished download has kept; None where there is nothing of it."""
    assert not path.exists()
    part = path.with_name("file.part")
    return part.stat().st_size if part.exists() else None


def is_alone(path):
    """Whether the file is all that is left in its folder."""
    return [each.name for each in path.parent.iterdir()] == ["file"]


class TestUnchanged:
    """The server has the same version still."""

    def test_by_the_etag(self, fault_server, fetch, path):
        """The rest is asked for from the very byte on, under the condition that the ETag is the same."""
        server = fault_server(half(ETag=ETAG), each(steps.serve(CONTENT, etag=ETAG)))
        result = fetch(server)
        assert path.read_bytes() == CONTENT
        assert asked(server) == [WHOLE, (REST, ETAG)]
        assert result.size == SIZE
        assert is_alone(path)

    def test_by_the_date(self, fault_server, fetch, path):
        """Without an ETag, the date is the condition."""
        server = fault_server(half(Last_Modified=LONG_AGO, Date=NOW), each(file()))
        fetch(server)
        assert path.read_bytes() == CONTENT
        assert asked(server) == [WHOLE, (REST, LONG_AGO)]

    def test_by_the_date_as_the_etag_is_weak(self, fault_server, fetch, path):
        """A weak ETag is no condition for a range, and the date is."""
        weak = f"W/{ETAG}"
        server = fault_server(half(ETag=weak, Last_Modified=LONG_AGO, Date=NOW), each(file(etag=weak)))
        fetch(server)
        assert path.read_bytes() == CONTENT
        assert asked(server) == [WHOLE, (REST, LONG_AGO)]

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"ETag": f"W/{ETAG}"},
            {"Last_Modified": LONG_AGO},  # without a `Date`, nobody knows how old it was
            {"Last_Modified": NOW, "Date": NOW},
            {"Last_Modified": "long ago", "Date": NOW},
            {"ETag": "v1"},
            {"ETag": '""'},
        ],
        ids=str,
    )
    def test_no_validator(self, fault_server, fetch, path, headers):
        """Where nothing tells one version from another, no part is asked for: it begins anew."""
        server = fault_server(half(**headers), each(steps.serve(OTHER)))
        result = fetch(server)
        assert path.read_bytes() == OTHER
        assert asked(server) == [WHOLE, WHOLE]
        assert result.resumed_from == 0

    @pytest.mark.parametrize("headers", [{}, {"ETag": f"W/{ETAG}"}], ids=str)
    def test_no_validator_but_a_checksum(self, fault_server, fetch, path, headers):
        """With a checksum, the rest is asked for without a condition, since in the end it will show whether that fits."""
        server = fault_server(half(**headers), each(steps.serve(CONTENT)))
        assert fetch(server, checksum=sha256()).checksum == sha256()
        assert path.read_bytes() == CONTENT
        assert asked(server) == [WHOLE, (REST, None)]

    def test_no_ranges(self, fault_server, fetch, path):
        """A server that sends all of it to a range has it taken from the beginning."""
        server = fault_server(half(ETag=ETAG), each(steps.serve(CONTENT, etag=ETAG, ranges=False)))
        result = fetch(server)
        assert path.read_bytes() == CONTENT
        assert asked(server) == [WHOLE, (REST, ETAG)]
        assert result.resumed_from == 0

    @pytest.mark.parametrize("status", [200, 400, 412, 501])
    def test_the_etag_is_rejected(self, fault_server, fetch, path, status):
        """A server that will not have its own ETag as a condition is asked by the date."""

        def answer(connection):
            headers = connection.request.headers
            whole = file(etag=ETAG)
            if headers.get("If-Range") == ETAG and status != 200:
                connection.answer(status=status)
            elif headers.get("If-Range") == ETAG:
                validators = {"ETag": ETAG, "Last-Modified": LONG_AGO, "Date": NOW}
                connection.answer(CONTENT, headers=validators)
            else:
                whole(connection)

        server = fault_server(half(ETag=ETAG, Last_Modified=LONG_AGO, Date=NOW), each(answer))
        fetch(server)
        assert path.read_bytes() == CONTENT
        assert asked(server) == [WHOLE, (REST, ETAG), (REST, LONG_AGO)]

    @pytest.mark.parametrize("status", [400, 412, 501])
    def test_every_condition_is_rejected(self, fault_server, fetch, path, status):
        """Where no condition is taken, the whole file is fetched."""
        server = fault_server(
            half(ETag=ETAG, Last_Modified=LONG_AGO, Date=NOW), by_range(steps.answer(status=status), file(etag=ETAG))
        )
        fetch(server)
        assert path.read_bytes() == CONTENT
        assert asked(server) == [WHOLE, (REST, ETAG), (REST, LONG_AGO), WHOLE]


class TestChanged:
    """The server has another version."""

    @pytest.mark.parametrize("is_verified", [False, True], ids=["", "with a checksum"])
    @pytest.mark.parametrize("content", [OTHER, OTHER[:-1000], OTHER[: HALF - 1], OTHER + CONTENT, b""], ids=len)
    def test_another_etag(self, fault_server, fetch, path, content, is_verified):
        """It begins anew, honestly, and what was there of the old version is in none of it."""
        server = fault_server(half(ETag=ETAG), each(steps.serve(content, etag=OTHER_ETAG)))
        result = fetch(server, checksum=sha256(content) if is_verified else None)
        assert path.read_bytes() == content
        assert (result.size, result.resumed_from) == (len(content), 0)
        assert asked(server)[:2] == [WHOLE, (REST, ETAG)]
        assert is_alone(path)

    def test_another_date(self, fault_server, fetch, path):
        """The same by the date."""
        server = fault_server(half(Last_Modified=LONG_AGO, Date=NOW), each(file(OTHER, modified=LATER)))
        fetch(server)
        assert path.read_bytes() == OTHER

    @pytest.mark.parametrize(
        "headers", [{"ETag": OTHER_ETAG}, {"Last-Modified": LATER, "Date": NOW}, {}], ids=["etag", "date", "size"]
    )
    def test_a_part_of_another_version(self, fault_server, fetch, path, headers):
        """A server that does not know `If-Range` sends a part of what it has now; that is noticed, and not taken."""
        content = OTHER if headers else OTHER[1:]
        server = fault_server(
            half(ETag=ETAG, Last_Modified=LONG_AGO, Date=NOW),
            by_range(part(HALF, len(content), content=content, headers=headers), steps.answer(content)),
        )
        fetch(server)
        assert path.read_bytes() == content
        assert asked(server) == [WHOLE, (REST, ETAG), WHOLE]

    def test_a_part_of_another_version_that_says_nothing(self, fault_server, fetch, path):
        """What no header tells, the checksum does, and the whole is fetched once more."""
        server = fault_server(half(), by_range(part(content=OTHER), steps.answer(OTHER)))
        assert fetch(server, checksum=sha256(OTHER)).checksum == sha256(OTHER)
        assert path.read_bytes() == OTHER
        assert asked(server) == [WHOLE, (REST, None), WHOLE]

    def test_a_checksum_that_nothing_has(self, fault_server, fetch, path):
        """That is done once; then the file is not the one that was asked for, and nothing of it stays."""
        server = fault_server(half(), each(steps.serve(CONTENT)))
        with pytest.raises(ChecksumMismatch) as caught:
            fetch(server, checksum=sha256(OTHER))
        assert (caught.value.expected, caught.value.actual) == (sha256(OTHER), sha256())
        assert asked(server) == [WHOLE, (REST, None), WHOLE]
        assert list(path.parent.iterdir()) == []

    @pytest.mark.parametrize(
        "said", [f"bytes */{HALF - 1}", f"bytes */{SIZE}", "bytes */*", "bytes */x", "", f"bytes */{10**30}"]
    )
    def test_416(self, fault_server, fetch, path, said):
        """A server that has nothing behind what is there has another file by now."""
        refusal = steps.answer(status=416, headers={"Content-Range": said})
        server = fault_server(half(ETag=ETAG), by_range(refusal, steps.serve(OTHER, etag=OTHER_ETAG)))
        fetch(server)
        assert path.read_bytes() == OTHER
        assert asked(server) == [WHOLE, (REST, ETAG), WHOLE]

    def test_it_keeps_changing(self, fault_server, path):
        """A file that is another one at each try, none of which gets further than the last, is given up after all tries."""

        def answer(connection):
            headers = {"ETag": f'"v{connection.number}"'}
            if "Range" in connection.request.headers:
                part(headers=headers).run(connection)
            else:
                connection.answer(CONTENT[:HALF], headers=headers, length=SIZE)

        server = fault_server([steps.expect(), answer])
        with pytest.raises(ShortBody):
            download(f"{server.url}/file", path, backoff=0.001, retries=3)
        assert [range_ for range_, _ in asked(server)] == [None] + [REST, None] * 3
        assert kept(path) == HALF


class TestComplete:
    """All of the file is there, and only its end was missing."""

    def test_416(self, fault_server, path):
        """Where nobody has said how long it is, and there is no more of it than what is there, it is complete."""
        begin = [
            steps.expect(),
            steps.head(chunked=True, headers={"ETag": ETAG}),
            steps.chunk(CONTENT),
            steps.reset(),
        ]
        server = fault_server(begin, begin, each(steps.serve(CONTENT, etag=ETAG)))
        download(f"{server.url}/file", path, backoff=0.001)
        assert path.read_bytes() == CONTENT
        assert (f"bytes={SIZE}-", ETAG) in asked(server)
        assert is_alone(path)

    def test_416_of_a_longer_file(self, fault_server, path):
        """Where there is more, the rest of it is fetched."""
        begin = [
            steps.expect(),
            steps.head(chunked=True, headers={"ETag": ETAG}),
            steps.chunk(CONTENT[:HALF]),
            steps.reset(),
        ]
        server = fault_server(begin, begin, each(steps.serve(CONTENT, etag=ETAG)))
        download(f"{server.url}/file", path, backoff=0.001)
        assert path.read_bytes() == CONTENT
        assert asked(server)[-1] == (REST, ETAG)

    def test_all_but_the_name(self, fault_server, path):
        """A part that is complete, as its server said, gets its name without a request."""
        server = fault_server(each(steps.serve(CONTENT, etag=ETAG)))

        def in_the_way(now):
            if now.state is State.VERIFYING:
                path.mkdir()

        with pytest.raises(WriteFailed):
            download(f"{server.url}/file", path, checksum=sha256(), progress=in_the_way)
        path.rmdir()
        result = download(f"{server.url}/file", path)
        assert path.read_bytes() == CONTENT
        assert len(asked(server)) == 1
        assert result.resumed_from == SIZE


class TestWrongRanges:
    """The server sends a part, and it is not the one that was asked for."""

    @pytest.mark.parametrize("answer", WRONG_RANGES)
    def test_always(self, fault_server, fetch, path, answer):
        """After all tries it is a WrongRange; not a byte of it was written, and what was there is kept."""
        server = fault_server(half(ETag=ETAG), each(WRONG_RANGES[answer]))
        with pytest.raises(WrongRange) as caught:
            fetch(server, retries=2)
        assert caught.value.url == f"{server.url}/file"
        assert path.with_name("file.part").read_bytes() == CONTENT[:HALF]

    @pytest.mark.parametrize("answer", WRONG_RANGES)
    def test_once(self, fault_server, path, answer):
        """If a later try is answered well, the file is whole."""
        answers = [WRONG_RANGES[answer]] * 2  # one that is packed is asked for twice

        def choose(connection):
            (answers.pop() if answers else steps.serve(CONTENT, etag=ETAG)).run(connection)

        server = fault_server(half(ETag=ETAG), each(choose))
        result = download(f"{server.url}/file", path, backoff=0.001)
        assert path.read_bytes() == CONTENT
        assert result.size == SIZE
        assert {range_ for range_, _ in asked(server)[1:]} == {REST}

    def test_a_part_of_what_nobody_asked_for_a_part_of(self, fault_server, path):
        """A 206 to a request for the whole is refused."""
        server = fault_server(each(part(0)))
        with pytest.raises(WrongRange):
            download(f"{server.url}/file", path, backoff=0.001, retries=1)
        assert kept(path) is None


class TestLengths:
    """The server sends less or more than it says."""

    def test_short(self, fault_server, path):
        """A server that breaks off each time, but brings some, is gone on with until all is there, however small `retries` is."""

        def answer(connection):
            start = int((connection.request.headers.get("Range") or "bytes=0-")[6:-1])
            headers = {"ETag": ETAG}
            if start:
                headers["Content-Range"] = f"bytes {start}-{SIZE - 1}/{SIZE}"
            connection.answer(
                CONTENT[start : start + 10_000], status=206 if start else 200, headers=headers, length=SIZE - start
            )

        server = fault_server([steps.expect(), answer])
        download(f"{server.url}/file", path, retries=1, backoff=0.001)
        assert path.read_bytes() == CONTENT
        assert [range_ for range_, _ in asked(server)] == [None, *[f"bytes={n}-" for n in range(10_000, SIZE, 10_000)]]

    def test_short_without_a_validator(self, fault_server, path):
        """After all tries it is a ShortBody. Nothing would go on from what came, which is kept nevertheless."""
        server = fault_server(half())
        with pytest.raises(ShortBody) as caught:
            download(f"{server.url}/file", path, retries=2, backoff=0.001)
        assert server.connections == 3
        assert caught.value.url == f"{server.url}/file"
        assert kept(path) == HALF

    def test_a_part_that_is_short(self, fault_server, fetch, path):
        """The rest of a rest is asked for as well."""
        middle = 70_000
        short = [
            steps.expect(headers={"Range": REST}),
            steps.head(206, {"Content-Range": f"bytes {HALF}-{SIZE - 1}/{SIZE}"}, length=SIZE - HALF),
            steps.send(CONTENT[HALF:middle]),
        ]
        server = fault_server(half(ETag=ETAG), short, each(steps.serve(CONTENT, etag=ETAG)))
        fetch(server)
        assert path.read_bytes() == CONTENT
        assert asked(server) == [WHOLE, (REST, ETAG), (f"bytes={middle}-", ETAG)]

    def test_a_chunked_part_that_is_short(self, fault_server, fetch, path):
        """A body that ends in order, but before what it says it is, has not ended."""
        said = f"bytes {HALF}-{SIZE - 1}/{SIZE}"

        def answer(connection):
            if connection.request.headers["Range"] == REST:
                part(HALF, 70_000, said=said, chunked=True).run(connection)
            else:
                steps.serve(CONTENT, etag=ETAG).run(connection)

        server = fault_server(half(ETag=ETAG), each(answer))
        fetch(server)
        assert path.read_bytes() == CONTENT
        assert asked(server)[-1] == ("bytes=70000-", ETAG)

    def test_a_chunked_part_that_is_empty(self, fault_server, fetch, path):
        """A server that ends in order before the first byte, each time, is given up after all tries."""
        said = f"bytes {HALF}-{SIZE - 1}/{SIZE}"
        server = fault_server(half(ETag=ETAG), each(part(HALF, HALF, said=said, chunked=True)))
        with pytest.raises(ShortBody):
            fetch(server, retries=2)
        assert len(server.requests) < 10
        assert kept(path) == HALF

    def test_a_chunked_part_that_is_long(self, fault_server, fetch, path):
        """What follows behind the end of a part is said, and nothing of that answer counts: it is asked for again."""
        said = f"bytes {HALF}-{SIZE - 1}/{SIZE}"
        answers = [part(said=said, content=CONTENT[:-5] + b"other and more", end=SIZE + 9, chunked=True)] * 2

        def choose(connection):
            (answers.pop() if answers else steps.serve(CONTENT, etag=ETAG)).run(connection)

        server = fault_server(half(ETag=ETAG), each(choose))
        with pytest.raises(LongBody):
            fetch(server)
        assert not path.exists()
        download(f"{server.url}/file", path)
        assert path.read_bytes() == CONTENT
        assert {range_ for range_, _ in asked(server)[1:]} == {REST}

    def test_long(self, fault_server, path):
        """What follows behind the length is no part of the body, and not of the next answer either."""
        server = fault_server(
            [steps.expect(), steps.head(length=SIZE), steps.send(CONTENT + b"HTTP/1.1 200 OK\r\n"), steps.read_to_end()]
        )
        download(f"{server.url}/file", path)
        assert path.read_bytes() == CONTENT

    @pytest.mark.parametrize("length", ["-5", "1e3", "0x10", "5, x", "9" * 30, "", "five"])
    def test_a_length_that_is_none(self, fault_server, path, length):
        """A length that makes no sense is refused: it is never guessed at, and the end of the connection is not taken for the body's."""
        server = fault_server([steps.expect(), steps.head(headers={"Content-Length": length}), steps.send(CONTENT)])
        with pytest.raises(DownloadError):
            download(f"{server.url}/file", path, retries=0)
        assert not path.exists()

    def test_a_length_that_is_said_twice(self, fault_server, path):
        """Twice the same is as good as once, and holds."""
        length = f"{SIZE}, {SIZE}"
        server = fault_server([steps.expect(), steps.head(headers={"Content-Length": length}), steps.send(CONTENT)])
        assert download(f"{server.url}/file", path, retries=0).size == SIZE

    @pytest.mark.parametrize("status", [204, 300, 304, 418])
    def test_other_statuses(self, fault_server, path, status):
        """What is no file is none."""
        server = fault_server(each(steps.answer(status=status)))
        with pytest.raises(BadStatus) as caught:
            download(f"{server.url}/file", path)
        assert caught.value.status == status
        assert kept(path) is None


@pytest.mark.parametrize("user", ["", "user:password@"])
def test_connections_end_with_their_session(fault_server, tmp_path, user):
    """No connection waits for the garbage collector, whichever way the file was asked for."""
    server = fault_server([steps.repeat(steps.expect(), steps.answer(b"hello"))])
    gc.disable()
    try:
        for number in range(3):
            download(server.url.replace("//", f"//{user}") + "/file", tmp_path / str(number))
        sockets_left = [each_ for each_ in gc.get_objects() if type(each_) is sockets.Socket]
        assert server.address not in map(peer_of, sockets_left)
    finally:
        gc.enable()


def peer_of(sock):
    """Where a socket leads; None for one that is closed, or leads nowhere."""
    try:
        return sock.getpeername()
    except OSError:
        return None
