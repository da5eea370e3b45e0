"""What downloads decide: what to ask for, and what an answer means. Tables of pure functions, without a server."""

from __future__ import annotations

import itertools
from email.utils import formatdate

import pytest
from requests.structures import CaseInsensitiveDict

from iointerrupt.downloads import BadEncoding, BadStatus, TooLarge, WrongRange
from iointerrupt.downloads._plan import (
    PASSING_STATUSES,
    AskAgain,
    By,
    Complete,
    Question,
    Take,
    Unchanged,
    Version,
    check_size,
    content_coding,
    content_length,
    is_bomb,
    judge,
    seconds_of,
    split,
    version_of,
)

URL = "http://host/file"
DATE, LATER, NOW = (f"Wed, 21 Oct 2015 07:28:0{second} GMT" for second in (0, 1, 9))
BOTH = Version('"v1"', DATE, 100)
BY_BOTH = Question(40, None, BOTH, [By.ETAG, By.DATE])
BY_ETAG = Question(40, None, BOTH, [By.ETAG])
BY_CHECKSUM = Question(40, None, Version(size=100), [By.CHECKSUM])
OF_PIECE = Question(40, 60, BOTH, [By.ETAG])
OF_NO_SIZE = Question(40, None, Version('"v1"'), [By.ETAG])
WHOLE = Question()
REST = Take(40, 100, BOTH, is_part=True, ranges=True)


def answer(status, question=BY_BOTH, name="file", **headers):
    """What is decided; an underscore in a header's name is a hyphen."""
    named = CaseInsensitiveDict({key.replace("_", "-"): value for key, value in headers.items()})
    return judge(question, status, named, url=URL, name=name)


class TestQuestion:
    """What a request says."""

    @pytest.mark.parametrize(
        ("question", "headers"),
        [
            (WHOLE, {}),
            (Question(version=BOTH), {}),
            (BY_BOTH, {"Range": "bytes=40-", "If-Range": '"v1"'}),
            (BY_BOTH.weaker(), {"Range": "bytes=40-", "If-Range": DATE}),
            (BY_BOTH.weaker().weaker(), {}),
            (BY_CHECKSUM, {"Range": "bytes=40-"}),
            (OF_PIECE, {"Range": "bytes=40-59", "If-Range": '"v1"'}),
            (Question(0, 1, BOTH, [By.DATE]), {"Range": "bytes=0-0", "If-Range": DATE}),
            (Question(10**18, None, BOTH, [By.ETAG]), {"Range": f"bytes={10**18}-", "If-Range": '"v1"'}),
            (Question(unless=BOTH), {"If-None-Match": '"v1"'}),
            (Question(unless=Version(), modified_since=DATE), {"If-Modified-Since": DATE}),
            (Question(unless=BOTH, modified_since=DATE), {"If-None-Match": '"v1"', "If-Modified-Since": DATE}),
        ],
    )
    def test_headers(self, question, headers):
        """A range with its condition, a condition alone, or nothing."""
        assert question.headers() == headers
        assert question.is_range == ("Range" in headers)

    @pytest.mark.parametrize("checksum", [False, True])
    @pytest.mark.parametrize("etag", ['"v1"', None])
    @pytest.mark.parametrize("date", [DATE, None])
    def test_ways(self, etag, date, checksum):
        """The surest first; each weaker question is another one, and they end with the whole file."""
        version = Version(etag, date, 100)
        ways = version.ways(checksum=checksum)
        assert ways == [way for way, there in zip(By, (etag, date, checksum), strict=True) if there]
        question = Question(40, 60, version, ways)
        for left in range(len(ways) - 1, 0, -1):
            question = question.weaker()
            assert (question.start, question.end, question.version, len(question.ways)) == (40, 60, version, left)
        assert question.weaker() == WHOLE


class TestVersion:
    """What tells one version of a file from another."""

    @pytest.mark.parametrize("etag", ['"v1"', ' "v1" ', '"a-b_c/d+e=="', '"\xe9"', '"\'"'])
    def test_strong_etags(self, etag):
        """A strong ETag is one."""
        assert version_of(CaseInsensitiveDict({"ETag": etag})).etag == etag.strip()

    @pytest.mark.parametrize(
        "etag",
        ['W/"v1"', 'w/"v1"', "v1", "'v1'", '"v1', '""', '"a"b"', '"a","b"', '"a b"', '"a\tb"', '"a\x7f"', "*", ""],
    )
    def test_other_etags(self, etag):
        """A weak one, or what is none, is as good as none."""
        assert version_of(CaseInsensitiveDict({"ETag": etag})).etag is None

    @pytest.mark.parametrize(
        ("modified", "now", "strong"),
        [
            (DATE, NOW, True),
            (DATE, LATER, True),
            (DATE, DATE, False),
            (LATER, DATE, False),
            (DATE, None, False),
            (DATE, "now", False),
            (None, NOW, False),
            ("yesterday", NOW, False),
            ("Wed, 21 Oct 2015 07:28:00 +0200", NOW, True),
            ("Wednesday, 21-Oct-15 07:28:00 GMT", NOW, True),
            ("Wed, 32 Oct 2015 07:28:00 GMT", NOW, False),
            ("Wed, 21 Oct 99999 07:28:00 GMT", NOW, False),
            ("Wed, 21 Oct 2015 07:28:00 +9999999999", NOW, False),
        ],
    )
    def test_date(self, modified, now, strong):
        """A date is as good as a strong ETag if the file was not changed in the second in which it was sent."""
        headers = {name: value for name, value in (("Last-Modified", modified), ("Date", now)) if value is not None}
        assert version_of(CaseInsensitiveDict(headers)).date == (modified if strong else None)

    @pytest.mark.parametrize("length", ["100", " 100 ", "0", "00100", "9" * 19])
    def test_size(self, length):
        """A length is the size of the file, except of a body that says by itself where it ends."""
        headers = CaseInsensitiveDict({"Content-Length": length})
        assert version_of(headers).size == content_length(headers) == int(length)
        headers["Transfer-Encoding"] = "chunked"
        assert version_of(headers).size is content_length(headers) is None

    @pytest.mark.parametrize("length", ["", "-1", "+1", "1_0", "1e3", "0x1", "1, 2", "1 1", "\u0661", "9" * 20])
    def test_no_size(self, length):
        """What is no length says nothing."""
        assert content_length(CaseInsensitiveDict({"Content-Length": length})) is None
        assert content_length({}) is None

    @pytest.mark.parametrize(
        ("one", "other", "may_be"),
        [
            (BOTH, BOTH, True),
            (BOTH, BOTH._replace(date=LATER), True),  # its ETag says more
            (BOTH, BOTH._replace(etag='"v2"'), False),
            (BOTH, BOTH._replace(size=101), False),
            (BOTH, BOTH._replace(etag=None), True),
            (BOTH, BOTH._replace(etag=None, date=LATER), False),
            (BOTH, Version(), True),
            (Version(), Version(), True),
            (Version(size=0), Version(size=1), False),
            (Version(etag='"v1"'), Version(date=DATE), True),
        ],
    )
    def test_may_be(self, one, other, may_be):
        """Two are the same unless something that both have tells them apart."""
        assert one.may_be(other) == other.may_be(one) == may_be

    def test_seconds(self):
        """Dates are those of HTTP, and what is none has no moment."""
        assert seconds_of(formatdate(1_000_000_000, usegmt=True)) == 1_000_000_000
        assert seconds_of("") is seconds_of("0") is seconds_of("\0") is None


class TestWhole:
    """Answers with 200."""

    @pytest.mark.parametrize("status", [200, 203])
    @pytest.mark.parametrize("question", [WHOLE, BY_ETAG, BY_CHECKSUM, OF_PIECE, Question(unless=BOTH)])
    def test_it_is_taken_from_the_beginning(self, question, status):
        """Whatever was asked, it is the whole, with all that it says of itself."""
        taken = answer(status, question, ETag='"v2"', Content_Length="70", Accept_Ranges="bytes")
        assert taken == Take(0, 70, Version('"v2"', None, 70), ranges=True)

    @pytest.mark.parametrize(
        ("said", "ranges"), [("bytes", True), (" Bytes ", True), ("none", False), ("", False), ("items", False)]
    )
    def test_ranges(self, said, ranges):
        """Whether there are ranges, the server says."""
        taken = answer(200, WHOLE, Accept_Ranges=said)
        assert isinstance(taken, Take)
        assert taken.ranges == ranges

    @pytest.mark.parametrize(
        ("question", "headers", "again"),
        [
            (BY_BOTH, {"ETag": '"v1"'}, True),
            (BY_BOTH, {"ETag": '"v1"', "Accept-Ranges": "bytes"}, True),
            (BY_BOTH, {"Last-Modified": DATE, "Date": NOW}, True),
            (BY_BOTH, {"ETag": '"v1"', "Accept-Ranges": "none"}, False),
            (BY_BOTH, {"ETag": '"v2"'}, False),
            (BY_BOTH, {"ETag": 'W/"v1"'}, False),
            (BY_BOTH, {"ETag": '"v1"', "Content-Length": "99"}, False),
            (BY_BOTH, {}, False),
            (BY_BOTH.weaker(), {"ETag": '"v1"'}, False),
            (BY_ETAG, {"ETag": '"v1"'}, False),
            (BY_CHECKSUM, {"ETag": '"v1"'}, False),
        ],
    )
    def test_the_same_version(self, question, headers, again):
        """An ETag that is the same, and yet was no good as a condition, is replaced by the date, once."""
        decided = judge(question, 200, CaseInsensitiveDict(headers), url=URL)
        if again:
            assert decided == AskAgain(question.weaker())
        else:
            assert isinstance(decided, Take)
            assert decided.start == 0

    @pytest.mark.parametrize(
        ("coding", "codings"),
        [
            ("", []),
            ("identity", []),
            ("Identity, ", []),
            ("gzip", ["gzip"]),
            (" GZip ", ["gzip"]),
            ("x-gzip", ["x-gzip"]),
            ("deflate, gzip", ["deflate", "gzip"]),
            ("identity, gzip", ["gzip"]),
        ],
    )
    def test_codings(self, coding, codings):
        """A coding that can be undone is undone; then nobody knows how long the file is, and nothing of it is gone on with."""
        assert content_coding(CaseInsensitiveDict({"Content-Encoding": coding})) == codings
        taken = answer(200, WHOLE, Content_Encoding=coding, ETag='"v1"', Content_Length="70")
        expected = (
            Take(0, None, Version(), codings=tuple(codings)) if codings else Take(0, 70, Version('"v1"', None, 70))
        )
        assert taken == expected

    @pytest.mark.parametrize("coding", ["br", "zstd", "compress", "aes128gcm", "gzip, br", "rot13, gzip", "gzip;q=1"])
    def test_unknown_codings(self, coding):
        """One that cannot be undone is refused by its name."""
        unknown = next(each for each in coding.split(", ") if each != "gzip")
        with pytest.raises(BadEncoding, match=unknown):
            answer(200, WHOLE, Content_Encoding=coding)

    @pytest.mark.parametrize("name", ["x.gz", "X.TAR.GZ", "x.tgz", "x.svgz", "x.Z", "x.deb"])
    @pytest.mark.parametrize("coding", ["gzip", "br"])
    def test_what_is_meant_to_be_packed(self, name, coding):
        """A file whose name says that it is packed stays so."""
        taken = answer(200, WHOLE, name, Content_Encoding=coding, ETag='"v1"', Content_Length="70")
        assert taken == Take(0, 70, Version('"v1"', None, 70))


class TestPart:
    """Answers with 206."""

    @pytest.mark.parametrize(
        ("question", "headers", "taken"),
        [
            (BY_BOTH, {"Content-Range": "bytes 40-99/100"}, REST),
            (BY_BOTH, {"Content-Range": "BYTES  40-99/100 "}, REST),
            (BY_BOTH, {"Content-Range": "bytes 40-99/*"}, REST),
            (BY_BOTH, {"Content-Range": "bytes 40-40/100"}, REST._replace(end=41)),
            (BY_BOTH, {"Content-Range": "bytes 40-99/100", "Content-Length": "60"}, REST),
            # A length that does not hold contradicts nothing.
            (
                BY_BOTH,
                {"Content-Range": "bytes 40-99/100", "Content-Length": "7", "Transfer-Encoding": "chunked"},
                REST,
            ),
            (
                BY_BOTH,
                {"Content-Range": "bytes 40-99/100", "ETag": '"v1"', "Last-Modified": LATER, "Date": NOW},
                REST._replace(version=Version('"v1"', LATER, 100)),
            ),
            (OF_PIECE, {"Content-Range": "bytes 40-59/100"}, REST._replace(end=60)),
            (OF_PIECE, {"Content-Range": "bytes 40-49/100"}, REST._replace(end=50)),
            (OF_NO_SIZE, {"Content-Range": "bytes 40-99/100"}, REST._replace(version=Version('"v1"', None, 100))),
            (OF_NO_SIZE, {"Content-Range": "bytes 40-99/*"}, REST._replace(version=Version('"v1"'))),
        ],
    )
    def test_it_is_taken(self, question, headers, taken):
        """The range that was asked for, or the beginning of it; what it leaves out is as it was."""
        assert judge(question, 206, CaseInsensitiveDict(headers), url=URL) == taken

    @pytest.mark.parametrize(
        "said",
        [
            "",
            "bytes",
            "bytes 40-99",
            "bytes 40-/100",
            "bytes -99/100",
            "bytes */100",
            "bytes */*",
            "bytes=40-99/100",
            "items 40-99/100",
            "40-99/100",
            "bytes 40-99/100 x",
            "bytes 40-99/100, bytes 1-2/100",
            "bytes +40-99/100",
            "bytes 4\u0660-99/100",
            "bytes 0x28-99/100",
            "bytes 39-99/100",
            "bytes 41-99/100",
            "bytes 0-99/100",
            "bytes 40-39/100",
            "bytes 5-3/10",
            "bytes 40-100/100",
            f"bytes 40-{'9' * 19}/100",
            f"bytes 40-{'9' * 20}/{'9' * 21}",
            f"bytes {'0' * 30}40-99/100",
        ],
    )
    @pytest.mark.parametrize("question", [BY_BOTH, BY_CHECKSUM])
    def test_another_range(self, question, said):
        """One that is not what was asked for, or that makes no sense, is refused, unless it is of another version."""
        try:
            decided = answer(206, question, Content_Range=said)
        except WrongRange as error:
            assert error.url == URL
        else:
            assert said.endswith("/10")
            assert decided == AskAgain(WHOLE, changed=True)

    @pytest.mark.parametrize(
        ("question", "headers"),
        [
            (WHOLE, {"Content-Range": "bytes 0-99/100"}),
            (Question(unless=BOTH), {"Content-Range": "bytes 0-99/100"}),
            (OF_PIECE, {"Content-Range": "bytes 40-60/100"}),
            (BY_BOTH, {"Content-Type": "multipart/byteranges; boundary=x"}),
            (BY_BOTH, {"Content-Range": "bytes 40-99/100", "Content-Encoding": "gzip"}),
            (BY_BOTH, {"Content-Range": "bytes 40-99/100", "Content-Length": "59"}),
            (BY_BOTH, {"Content-Range": "bytes 40-99/100", "Content-Length": "61"}),
            (BY_BOTH, {"Content-Range": "bytes 40-99/100", "Content-Length": "0"}),
        ],
    )
    def test_what_does_not_fit(self, question, headers):
        """So is a part where the whole was wanted, more than was wanted, several at once, and one that contradicts itself."""
        with pytest.raises(WrongRange):
            judge(question, 206, CaseInsensitiveDict(headers), url=URL)

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content-Range": "bytes 40-99/100", "ETag": '"v2"'},
            {"Content-Range": "bytes 40-99/100", "Last-Modified": LATER, "Date": NOW},
            {"Content-Range": "bytes 40-98/99"},
            {"Content-Range": "bytes 40-99/101", "ETag": '"v1"'},
            {"Content-Range": "bytes 0-98/99", "ETag": '"v2"'},
        ],
    )
    def test_another_version(self, headers):
        """A part of another version is not taken: all of it has changed, and is asked for."""
        assert judge(BY_BOTH, 206, CaseInsensitiveDict(headers), url=URL) == AskAgain(WHOLE, changed=True)


class TestOtherStatuses:
    """Answers that bring nothing."""

    @pytest.mark.parametrize(
        ("said", "is_complete"),
        [
            ("bytes */40", True),
            (" BYTES  */40 ", True),
            ("bytes */39", False),
            ("bytes */41", False),
            ("bytes */*", False),
            ("bytes 0-39/40", False),
            ("*/40", False),
            ("items */40", False),
            (f"bytes */{'9' * 25}", False),
            ("", False),
        ],
    )
    def test_416(self, said, is_complete):
        """There is nothing behind what is there: it is complete if that is as much as the file has, else it is another."""
        decided = answer(416, Content_Range=said)
        if is_complete:
            assert isinstance(decided, Complete)
        else:
            assert decided == AskAgain(WHOLE, changed=True)

    @pytest.mark.parametrize(
        ("named", "is_complete"),
        [
            ({"ETag": '"v1"'}, True),
            ({"ETag": '"v2"'}, False),
            ({"Last-Modified": DATE, "Date": NOW}, True),
            ({"Last-Modified": LATER, "Date": NOW}, False),
            ({"Content-Length": "7"}, True),  # of the page that says so
        ],
    )
    def test_416_of_a_version(self, named, is_complete):
        """One that names another version than the part is of says nothing of the part."""
        decided = answer(416, Content_Range="bytes */40", **named)
        assert isinstance(decided, Complete) if is_complete else decided == AskAgain(WHOLE, changed=True)

    @pytest.mark.parametrize("status", [400, 412, 501])
    @pytest.mark.parametrize("question", [BY_BOTH, BY_BOTH.weaker(), BY_CHECKSUM, OF_PIECE])
    def test_a_condition_that_is_rejected(self, question, status):
        """It is asked in a weaker way."""
        assert answer(status, question) == AskAgain(question.weaker())

    @pytest.mark.parametrize("question", [Question(unless=BOTH), Question(modified_since=DATE)])
    def test_304(self, question):
        """If that was asked, it is unchanged."""
        assert isinstance(answer(304, question), Unchanged)

    @pytest.mark.parametrize(
        ("question", "statuses"),
        [
            (WHOLE, [201, 204, 301, 304, 400, 401, 403, 404, 407, 410, 412, 416, 429, 500, 501, 503, 599]),
            (BY_BOTH, [201, 204, 304, 401, 403, 404, 410, 429, 500, 503]),
            (Question(unless=BOTH), [400, 404, 412, 416, 500]),
        ],
    )
    def test_refusals(self, question, statuses):
        """Anything else is a refusal, of which the status is told."""
        for status in statuses:
            with pytest.raises(BadStatus, match=str(status)) as caught:
                answer(status, question)
            assert (caught.value.status, caught.value.url) == (status, URL)

    def test_which_may_pass(self):
        """What the client has done wrong does not pass by itself."""
        assert {503, 429, 500, 502, 504, 408} <= PASSING_STATUSES
        assert PASSING_STATUSES.isdisjoint({400, 401, 403, 404, 405, 407, 410, 416, 451, 501, 505})


ANSWERED = [
    {"Content-Range": said, "ETag": etag, "Accept-Ranges": ranges}
    for said, etag, ranges in itertools.product(
        ["bytes 40-99/100", "bytes 0-99/100", "bytes */40", "bytes */100", ""],
        ['"v1"', '"v2"', ""],
        ["bytes", "none", ""],
    )
]


@pytest.mark.parametrize("status", [200, 206, 304, 400, 404, 412, 416, 501, 503])
@pytest.mark.parametrize("checksum", [False, True])
def test_asking_comes_to_an_end(status, checksum):
    """Whatever a server answers again and again, after a few questions there is an outcome."""
    for headers in ANSWERED:
        question = Question(40, None, BOTH, BOTH.ways(checksum=checksum))
        asked = 0
        try:
            while isinstance(decided := judge(question, status, CaseInsensitiveDict(headers), url=URL), AskAgain):
                asked += 1
                assert len(decided.question.ways) < len(question.ways)
                question = decided.question
        except (BadStatus, WrongRange):
            pass
        assert asked <= 3


class TestSplit:
    """A range in parts."""

    @pytest.mark.parametrize(
        ("start", "end", "count", "least", "parts"),
        [
            (0, 100, 1, 1, [(0, 100)]),
            (0, 100, 4, 1, [(0, 25), (25, 50), (50, 75), (75, 100)]),
            (10, 20, 3, 1, [(10, 13), (13, 16), (16, 20)]),
            (0, 100, 4, 30, [(0, 33), (33, 66), (66, 100)]),
            (0, 100, 4, 100, [(0, 100)]),
            (0, 100, 4, 101, [(0, 100)]),
            (5, 5, 4, 1, [(5, 5)]),
        ],
    )
    def test_examples(self, start, end, count, least, parts):
        """They follow one another, and none is too small."""
        assert split(start, end, count, least) == parts

    def test_all(self):
        """Nothing is left out and nothing is twice, and they differ by a byte at most."""
        for size, count, least in itertools.product(range(1, 60), range(1, 9), range(1, 9)):
            parts = split(7, 7 + size, count, least)
            sizes = [end - start for start, end in parts]
            assert [at for start, end in parts for at in range(start, end)] == list(range(7, 7 + size))
            assert max(sizes) - min(sizes) <= 1
            assert len(parts) <= count
            assert len(parts) == 1 or min(sizes) >= least


@pytest.mark.parametrize(("size", "most"), [(None, 5), (5, None), (5, 5), (0, 0), (None, None)])
def test_a_size_that_is_allowed(size, most):
    """What is not more than `max_size`, or not known yet, passes."""
    check_size(size, most, URL)


@pytest.mark.parametrize(("size", "most"), [(6, 5), (1, 0), (10**20, 10**19)])
def test_a_size_that_is_not_allowed(size, most):
    """What is more does not."""
    with pytest.raises(TooLarge, match=f"{size:,}"):
        check_size(size, most, URL)


@pytest.mark.parametrize(
    ("coded", "decoded", "bomb"),
    [
        (0, 64 << 20, False),
        (0, (64 << 20) + 1, True),
        (1 << 20, 200 << 20, False),
        (1 << 20, (200 << 20) + 1, True),
        (1000, 1 << 20, False),
        (1 << 30, 100 << 30, False),
    ],
)
def test_bombs(coded, decoded, bomb):
    """A file of zeros that is not huge is none, nor is a large one that is not packed incredibly well."""
    assert is_bomb(coded, decoded) == bomb
