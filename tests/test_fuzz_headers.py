"""What an answer says of a file, made up by hypothesis: judged without an exception that is not documented, and never for what it is not."""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from requests.structures import CaseInsensitiveDict

from iointerrupt._http.exchange import TOKEN
from iointerrupt._http.lean import _SENT_FIELD
from iointerrupt.downloads import BadEncoding, DownloadError, Options, download
from iointerrupt.downloads._coding import _PIECE, Decoder
from iointerrupt.downloads._plan import (
    AskAgain,
    By,
    Complete,
    Question,
    Take,
    Unchanged,
    Version,
    content_length,
    judge,
    seconds_of,
    version_of,
)
from iointerrupt.downloads._tries import retry_after
from iointerrupt.testing import steps
from tests.fuzzing import cuts, fuzz, mutated, nasty_texts, pieces

URL = "http://host/file"

# Numbers as they come, and as they do not

sizes = st.one_of(
    st.integers(0, 20), st.integers(0, 1 << 64), st.sampled_from([(1 << 63) - 1, 1 << 63, 10**19 - 1, 10**19])
)
numbers = st.one_of(
    sizes.map(str),
    st.sampled_from(
        [
            "",
            "-1",
            "+5",
            "1_0",
            " 5",
            "5 ",
            "0x5",
            "\u00b2",
            "5.0",
            "1e3",
            "٣",
            "00005",
            "9" * 19,
            "9" * 20,
            "9" * 5000,
            "*",
        ]
    ),
)
content_ranges = mutated(
    st.builds(
        "{}{}{}-{}/{}".format,
        st.sampled_from(["bytes", "bytes", "Bytes", "items", "", "bytes=", "bytes:"]),
        st.sampled_from([" ", " ", "", "  ", "\t", "\u00a0"]),
        numbers,
        numbers,
        numbers,
    )
    | st.builds("bytes */{}".format, numbers),
    nasty_texts,
)
dates = mutated(
    st.datetimes().map(lambda date: f"{date:%a, %d %b %Y %H:%M:%S} GMT")
    | st.sampled_from(
        [
            *(
                "Wed, 21 Oct 2015 07:28:00 GMT",
                "Wednesday, 21-Oct-15 07:28:00 GMT",
                "Wed Oct 21 07:28:00 2015",
                "0",
                "-1",
                "now",
            ),
            *(
                "Wed, 21 Oct 99999 07:28:00 GMT",
                "Wed, 21 Oct 2015 99:99:99 GMT",
                "Wed, 21 Oct 2015 07:28:00 +9999",
                "21 Oct 2015",
            ),
            *(
                "Thu, 01 Jan 1 00:00:00 -0000",
                "Fri, 31 Dec 9999 23:59:59 -2359",
                "1 1 1 1:1:1:1 1",
                ",",
                "a,b,c,d",
                "::",
                "1 Jan 1 1:1 " + "9" * 5000,
            ),
        ]
    ),
    nasty_texts,
)
etags = mutated(
    st.sampled_from(['"v1"', '"v2"', 'W/"v1"', '""', "v1", '"', '"\u00e9"', '"a b"', '"a"b"', '"v1", "v2"'])
    | nasty_texts,
    nasty_texts,
)
codings = mutated(
    st.lists(
        st.sampled_from(["gzip", "x-gzip", "deflate", "identity", "br", "zstd", "GZIP", "", "compress", "aes128gcm"]),
        max_size=6,
    ).map(", ".join),
    nasty_texts,
) | st.just("gzip," * 5000)

answers = st.fixed_dictionaries(
    {},
    optional={
        "Content-Range": content_ranges,
        "Content-Length": numbers,
        "Transfer-Encoding": st.sampled_from(["chunked", "", "gzip, chunked"]),
        "Content-Encoding": codings,
        "ETag": etags,
        "Last-Modified": dates,
        "Date": dates,
        "Accept-Ranges": st.sampled_from(["bytes", "none", "", "items", "NONE ", "bytes, none"]),
        "Content-Type": st.sampled_from(["multipart/byteranges; boundary=x", "text/plain"]) | nasty_texts,
    },
).map(CaseInsensitiveDict)
statuses = st.sampled_from(
    [200, 200, 206, 206, 206, 203, 304, 416, 416, 400, 412, 501, 404, 503, 100, 204, 299, 600, 999, 0]
)
versions = st.builds(
    Version,
    st.sampled_from([None, '"v1"', '"v2"', '"\u00e9"']),
    st.sampled_from([None, "Wed, 21 Oct 2015 07:28:00 GMT"]),
    st.none() | st.integers(11, 30) | sizes.filter(lambda size: size > 10),
)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    """A question of the kinds that downloads ask."""
    if draw(st.integers(0, 3)) == 0:
        unless = draw(st.none() | versions)
        return Question(unless=unless, modified_since=draw(st.none() | st.just("Wed, 21 Oct 2015 07:28:00 GMT")))
    version = draw(versions)
    ways = version.ways(checksum=draw(st.booleans()))
    assume(ways)
    start = draw(st.integers(1, 10))
    end = draw(st.none() | st.integers(start + 1, min(version.size or 11, 100)))
    return Question(start, end, version, ways)


class TestJudge:
    """What an answer means."""

    @staticmethod
    def check(question: Question, answer: CaseInsensitiveDict[str], outcome: object) -> None:
        """What holds for every outcome."""
        if isinstance(outcome, AskAgain):
            # Weaker each time, so that this ends.
            assert len(outcome.question.ways) < max(1, len(question.ways))
            assert question.is_range
        elif isinstance(outcome, Unchanged):
            assert question.unless is not None or question.modified_since is not None
        elif isinstance(outcome, Complete):
            assert question.is_range
        else:
            assert isinstance(outcome, Take)
            if outcome.is_part:
                assert outcome.start == question.start
                assert outcome.end is not None
                assert outcome.end > outcome.start
                assert question.end is None or outcome.end <= question.end
                assert outcome.version.size is None or outcome.end <= outcome.version.size
                assert question.version is not None
                assert question.version.may_be(outcome.version)
                assert not outcome.codings
            else:
                assert outcome.start == 0
            assert len(outcome.codings) <= 5, "each of them unpacks a thousand times as much"
            # What is kept of it is sent later on: in one line, as it came.
            for name, value in (
                Question(1, None, outcome.version, outcome.version.ways() or [By.CHECKSUM]).headers().items()
            ):
                assert _SENT_FIELD.fullmatch(f"{name}: {value}") or not value.isascii()
                assert not set(value) & set("\r\n\0")

    @fuzz(200)
    @given(question=questions(), status=statuses, answer=answers, name=st.sampled_from(["", "x.gz", "x.iso"]))
    @example(question=Question(), status=200, answer=CaseInsensitiveDict({"Content-Encoding": "gzip," * 5000}), name="")
    @example(question=Question(), status=200, answer=CaseInsensitiveDict({"Content-Length": "9" * 5000}), name="")
    def test_any_answer(self, question, status, answer, name):
        """Any answer is something that can be gone on with, or a DownloadError, and one asks again a few times at most."""
        for _ in range(5):
            try:
                outcome = judge(question, status, answer, url=URL, name=name)
            except DownloadError as error:
                assert error.url == URL
                return
            self.check(question, answer, outcome)
            if not isinstance(outcome, AskAgain):
                return
            question = outcome.question
        pytest.fail("it goes on asking")

    @fuzz(100)
    @given(
        start=st.integers(1, 10),
        first=st.integers(0, 12),
        last=st.integers(0, 24),
        size=st.none() | st.integers(0, 24),
        end=st.none() | st.integers(2, 20),
    )
    def test_content_range(self, start, first, last, size, end):
        """A part is taken if it is what was asked for, no more, and not outside of the file; and in no other case."""
        assume(end is None or end > start)
        question = Question(start, end, Version(etag='"v1"'), [By.ETAG])
        said = f"bytes {first}-{last}/{'*' if size is None else size}"
        fits = first == start <= last and (size is None or last < size) and (end is None or last < end)
        try:
            outcome = judge(question, 206, CaseInsensitiveDict({"Content-Range": said, "ETag": '"v1"'}), url=URL)
        except DownloadError:
            assert not fits
            return
        assert fits
        assert isinstance(outcome, Take)
        assert (outcome.start, outcome.end, outcome.version.size) == (first, last + 1, size)


class TestValues:
    """Single headers."""

    @fuzz(80)
    @given(dates)
    @example("Thu, 01 Jan 1 00:00:00 -0000")
    def test_dates(self, date):
        """A date is a number of seconds, or none."""
        seconds = seconds_of(date)
        assert seconds is None or math.isfinite(seconds)

    @fuzz(80)
    @given(numbers | nasty_texts)
    def test_lengths(self, number):
        """A length is digits of ASCII, and nothing else."""
        length = content_length({"Content-Length": number})
        if length is not None:
            assert str(length).rjust(len(number.strip()), "0") == number.strip()

    @fuzz(80)
    @given(etags, dates, dates)
    def test_versions(self, etag, date, modified):
        """What is kept of an ETag or a date is what was sent, without blanks, and an ETag is one."""
        version = version_of(CaseInsensitiveDict({"ETag": etag, "Date": date, "Last-Modified": modified}))
        if version.etag is not None:
            assert version.etag == etag.strip()
            assert version.etag[0] == version.etag[-1] == '"'
            assert all(c > " " for c in version.etag)
        assert version.date in (None, modified.strip())

    @fuzz(80)
    @given(st.one_of(numbers, dates, nasty_texts), st.floats(0, 1e6))
    @example("9" * 5000, 300.0)
    @example("1e999", 300.0)
    @example("nan", 300.0)
    def test_retry_after(self, text, most):
        """A server is obeyed for as long as that is allowed, and no longer."""
        seconds = retry_after(text, Options(retry_after_max=most))
        assert seconds is None or 0 <= seconds <= most


# Bodies that are packed


def read_all(pieces: list[bytes], *codings: str) -> tuple[list[bytes], Exception | None]:
    """What decoders make of what comes in pieces, and the error that it ends with."""
    source: Iterator[bytes] = iter(pieces)

    def read() -> bytes:
        return next(source, b"")

    for coding in codings:
        read = Decoder(read, coding).read
    decoded = []
    try:
        while some := read():
            decoded.append(some)
            assert sum(map(len, decoded)) <= 1 << 26
    except (EOFError, zlib.error) as error:
        return decoded, error
    return decoded, None


contents = st.binary(max_size=200) | st.builds(
    lambda piece, count: piece * count, st.binary(max_size=9), st.sampled_from([1, 1000, 100_000])
)


def raw_deflate(content: bytes) -> bytes:
    """Without the frame that RFC 9110 asks for."""
    return zlib.compress(content)[2:-4]


PACKERS: list[Callable[[bytes], bytes]] = [gzip.compress, zlib.compress, raw_deflate]


class TestPacked:
    """`Decoder`."""

    @fuzz(50)
    @given(
        members=st.lists(contents, min_size=1, max_size=3),
        pack=st.sampled_from(PACKERS),
        at=cuts,
    )
    @example(members=[b""], pack=raw_deflate, at=[1])
    def test_round_trip(self, members, pack, at):
        """What was packed comes out as it was, wherever it is torn, a piece at a time."""
        is_gzip = pack is gzip.compress
        members = members if is_gzip else members[:1]
        decoded, error = read_all(pieces(b"".join(map(pack, members)), at), "gzip" if is_gzip else "deflate")
        assert error is None
        assert b"".join(decoded) == b"".join(members)
        assert all(len(piece) <= _PIECE for piece in decoded)

    @fuzz(80)
    @given(
        coding=st.sampled_from(["gzip", "deflate"]),
        packed=mutated(
            st.one_of(*(st.builds(pack, contents) for pack in PACKERS), st.binary(max_size=50)),
            st.binary(max_size=20),
        ),
        at=cuts,
    )
    @example(coding="deflate", packed=b"\x03\x00", at=[1])
    def test_damaged(self, coding, packed, at):
        """What was damaged is told by one of two errors, or comes out; how it is torn makes no difference."""
        whole, error = read_all(pieces(packed, []), coding)
        torn_up, same = read_all(pieces(packed, at), coding)
        assert type(error) is type(same)
        if error is None:
            assert b"".join(whole) == b"".join(torn_up)
            if coding == "gzip" and packed.count(b"\x1f\x8b") == 1:
                assert b"".join(whole) == zlib.decompressobj(31).decompress(packed)

    @pytest.mark.parametrize("count", [300, 12_000])
    def test_packed_many_times(self, fault_server, tmp_path, count):
        """A body that calls itself packed thousands of times is a BadEncoding."""
        server = fault_server(
            [steps.expect(), steps.answer(b"x", headers={"Content-Encoding": ",".join(["gzip"] * count)})]
        )
        with pytest.raises(BadEncoding):
            download(f"{server.url}/file", tmp_path, retries=0)
        assert list(tmp_path.iterdir()) == []


# What the user gives


class TestRequests:
    """What is sent, whatever the user has said."""

    @fuzz(15)
    @given(
        name=mutated(st.from_regex(TOKEN, fullmatch=True), nasty_texts),
        value=mutated(st.text(st.characters(codec="latin-1"), max_size=20), nasty_texts),
        path=nasty_texts,
    )
    @example(name="X", value="a\r\nInjected: 1", path="")
    @example(name="X", value="a", path="x\r\nInjected: 1\r\n\r\n")
    @example(name="X\r\nInjected", value="1", path=" HTTP/1.1\r\nInjected: 1")
    @example(name="X", value="a\n Injected: 1", path="\n")
    def test_one_line_each(self, asked, tmp_path_factory, name, value, path):
        """A header and a URL come as the one line that they are, or are refused with a ValueError; nothing is added to the request."""
        server, heads = asked
        heads.clear()
        assume(
            name.lower() not in {"host", "content-length", "transfer-encoding", "expect", "connection", "upgrade", "te"}
        )
        try:
            download(
                f"{server.url}/{path}",
                tmp_path_factory.mktemp("folder") / "x",
                headers={name: value},
                retries=0,
                timeout=5,
            )
        except (ValueError, DownloadError):
            pass
        for head in heads:
            lines = head.split(b"\r\n")
            names = [line.partition(b":")[0].lower() for line in lines[1:]]
            assert lines[0].startswith(b"GET /")
            assert lines[0].count(b" ") == 2
            usual = {b"host", b"user-agent", b"accept", b"accept-encoding", b"connection"}
            assert set(names) <= usual | {name.lower().encode("latin-1")}
            assert len(names) == len(set(names))
            assert not set(head.replace(b"\r\n", b"")) & set(b"\r\n\0")

    @pytest.fixture
    def asked(self, fault_server):
        """A server, and the heads of the requests that it gets."""
        heads = []

        def read(connection):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.sock.recv(1 << 16)
            heads.append(head[:-4])
            connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        return fault_server([read]), heads
