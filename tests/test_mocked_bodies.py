"""The bodies of `testing` for mocked HTTP: as `responses` passes them on, read by requests and by `http.iter_chunks`."""

from __future__ import annotations

import gzip
import io
import os
import threading

import pytest
import requests
import responses
from urllib3.response import BaseHTTPResponse, HTTPResponse

from iointerrupt import Interrupted, Stalled, StopEvent, files, http, use_stop
from iointerrupt.testing import (
    StopAfter,
    chunked_body,
    failing_body,
    stalling_body,
    stopping_body,
    wait_until_blocked,
)

URL = "http://mocked.test/"
CHUNKS = [b"0123", b"45", b"6789"]
LENGTH = {"Content-Length": "10"}

MAKERS = {
    "chunked": chunked_body,
    "stalling": stalling_body,
    "stopping": lambda chunks: stopping_body(chunks, StopEvent(), after=1),
    "failing": lambda chunks: failing_body(chunks, OSError("lost")),
}


@pytest.fixture
def mock():
    """Answers that are mocked."""
    with responses.RequestsMock() as mock:
        yield mock


@pytest.fixture(params=[http.Session, requests.Session], ids=["ours", "theirs"])
def session(request):
    """A session, ours or of requests."""
    with request.param() as session:
        yield session


# How the bytes of a response are read; each stops on `stop`.
READERS = {
    "iter_chunks": lambda response, stop: b"".join(http.iter_chunks(response, stop=stop)),
    "open": lambda response, stop: http.open(response, stop=stop).read(),
    "iter_content": lambda response, stop: _under(stop, lambda: b"".join(response.iter_content(1 << 16))),
    "content": lambda response, stop: _under(stop, lambda: response.content),
    "raw": lambda response, stop: _under(stop, response.raw.read),
}


class TestChunks:
    """How chunks come."""

    @pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
    def test_is_what_responses_passes_on(self, make):
        """Each body is a BufferedReader."""
        assert isinstance(make(CHUNKS), io.BufferedReader)

    @pytest.mark.parametrize("kind", [list, tuple, iter])
    @pytest.mark.parametrize("headers", [{}, LENGTH], ids=["", "length"])
    def test_one_for_each_read(self, mock, session, kind, headers):
        """`iter_chunks` gives each as it comes, as from a socket."""
        mock.get(URL, body=chunked_body(kind(CHUNKS)), headers=headers)
        assert list(http.iter_chunks(session.get(URL, stream=True))) == CHUNKS

    def test_smaller_chunk_size(self, mock, session):
        """A chunk that is larger than wanted comes in pieces, and none is filled up with the next."""
        mock.get(URL, body=chunked_body(CHUNKS))
        chunks = list(http.iter_chunks(session.get(URL, stream=True), chunk_size=3))
        assert chunks == [b"012", b"3", b"45", b"678", b"9"]

    @pytest.mark.parametrize("read", READERS.values(), ids=READERS)
    def test_readers(self, mock, session, read):
        """Whoever reads it gets all of it."""
        mock.get(URL, body=chunked_body(CHUNKS))
        assert read(session.get(URL, stream=True), None) == b"0123456789"

    def test_nothing(self, mock, session):
        """A body without chunks is an empty one."""
        mock.get(URL, body=chunked_body([]))
        assert list(http.iter_chunks(session.get(URL, stream=True))) == []

    def test_encoded(self, mock, session):
        """What is encoded is decoded on the way, or not, as is asked for."""
        packed = gzip.compress(b"hello" * 100)
        pieces = [packed[:10], packed[10:20], packed[20:]]
        for decode, expected in ((True, b"hello" * 100), (False, packed)):
            mock.get(URL, body=chunked_body(pieces), headers={"Content-Encoding": "gzip"})
            response = session.get(URL, stream=True)
            assert b"".join(http.iter_chunks(response, decode=decode)) == expected

    def test_truncated(self, mock, session):
        """Less than `Content-Length` says is the error of requests."""
        mock.get(URL, body=chunked_body(CHUNKS[:2]), headers=LENGTH)
        chunks = http.iter_chunks(session.get(URL, stream=True))
        assert [next(chunks), next(chunks)] == CHUNKS[:2]
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="6 bytes read, 4 more expected"):
            next(chunks)

    def test_old_urllib3(self, mock, session, monkeypatch):
        """The same with a urllib3 whose response has no read1."""
        for kind in (HTTPResponse, BaseHTTPResponse):
            monkeypatch.delattr(kind, "read1", raising=False)
        mock.get(URL, body=chunked_body(CHUNKS), headers=LENGTH)
        assert list(http.iter_chunks(session.get(URL, stream=True))) == CHUNKS


class TestStalling:
    """stalling_body."""

    @pytest.mark.parametrize("read", READERS.values(), ids=READERS)
    @pytest.mark.parametrize("where", ["reader", "body"])
    def test_stop(self, mock, session, read, where, stop, background):
        """The stop of whoever reads, and that of the body, end the stall; `wait_until_blocked` sees it."""
        mock.get(URL, body=stalling_body(CHUNKS, stop=stop if where == "body" else None))
        running = background(read, session.get(URL, stream=True), stop if where == "reader" else None)
        wait_until_blocked(stop)
        stop.set("enough")
        error = running.error()
        assert (type(error), error.reason) == (Interrupted, "enough")

    @pytest.mark.parametrize("how", ["iter_chunks", "iter_content", "content", "get"])
    @pytest.mark.parametrize("holder", [http.Session, http.Adapter])
    def test_stop_of_the_session(self, mock, holder, how, stop, background):
        """The stop that the session has by then ends it too, also in what requests reads by itself."""
        mock.get(URL, body=stalling_body(CHUNKS))
        with http.Session() if holder is http.Session else requests.Session() as session:
            if holder is http.Adapter:
                session.mount("http://", http.Adapter())
            response = None if how == "get" else session.get(URL, stream=True)
            (session if holder is http.Session else session.get_adapter(URL)).stop = stop
            reads = {
                "iter_chunks": lambda: list(http.iter_chunks(response)),
                "iter_content": lambda: list(response.iter_content(3)),
                "content": lambda: response.content,
                "get": lambda: session.get(URL),
            }
            running = background(reads[how])
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(running.error(), Interrupted)

    def test_chunks_before_the_stall(self, mock, session, stop, background):
        """All that comes before is delivered first, and counted."""
        mock.get(URL, body=stalling_body(CHUNKS))
        chunks = http.iter_chunks(session.get(URL, stream=True), stop=stop)
        assert [next(chunks) for _ in CHUNKS] == CHUNKS
        running = background(next, chunks)
        wait_until_blocked(stop)
        stop.set()
        assert running.error().transferred == 10

    def test_goes_on(self, stop, background):
        """An interrupted read has what it had taken in `.partial`, and the next one goes on after that."""
        body = stalling_body(CHUNKS, stop=stop)
        assert body.read(3) == b"012"
        running = background(body.read, 100)
        wait_until_blocked(stop)
        stop.set()
        assert running.error().partial == b"3456789"
        stop.clear()
        body.settimeout(0)
        with pytest.raises(TimeoutError):
            body.read()
        body.close()

    def test_stop_that_is_set(self, mock, session):
        """With a stop that is set nothing is read, and nothing lost."""
        stop = StopEvent()
        stop.set()
        body = chunked_body(CHUNKS)
        with use_stop(stop), pytest.raises(Interrupted):
            body.read()
        assert body.read() == b"0123456789"

    def test_at_each_check(self, mock, session):
        """Wherever it is stopped, what has come before is the beginning of the body."""
        counts = []
        stopped = True
        while stopped:
            mock.get(URL, body=chunked_body(CHUNKS))
            got = []
            try:
                for chunk in http.iter_chunks(session.get(URL, stream=True), stop=StopAfter(len(counts) + 1)):
                    got.append(chunk)  # noqa: PERF402 - what has come counts also where the rest does not
                stopped = False
            except Interrupted:
                pass
            assert got == CHUNKS[: len(got)]
            counts.append(len(got))
        assert counts == sorted(counts)
        assert set(counts) == {0, 1, 2, 3}

    @pytest.mark.parametrize("where", ["body", "iter_chunks"])
    def test_timeout(self, mock, session, where):
        """A timeout of the body, or of the iteration, is what it is with a socket."""
        mock.get(URL, body=stalling_body(CHUNKS, timeout=0.01 if where == "body" else None))
        chunks = http.iter_chunks(session.get(URL, stream=True), timeout=0.01 if where == "iter_chunks" else None)
        assert [next(chunks) for _ in CHUNKS] == CHUNKS
        with pytest.raises(http.ReadTimeout):
            next(chunks)

    def test_timeout_with_requests_alone(self, mock, session):
        """`iter_content` makes the ConnectionError of it that it makes of a socket's; the file itself says Stalled."""
        mock.get(URL, body=stalling_body(CHUNKS, timeout=0.01))
        with pytest.raises(requests.ConnectionError, match="Read timed out"):
            session.get(URL)
        with pytest.raises(Stalled) as raised:
            stalling_body(CHUNKS, timeout=0).read()
        assert raised.value.partial == b"0123456789"

    @pytest.mark.parametrize("read", READERS.values(), ids=READERS)
    def test_nothing_could_end_it(self, mock, session, read):
        """Where neither a stop nor a timeout is there, it says so instead of hanging."""
        mock.get(URL, body=stalling_body(CHUNKS))
        with pytest.raises(RuntimeError, match="nothing can ever end that: read it with a stop"):
            read(session.get(URL, stream=True), None)

    def test_bad_arguments(self):
        """A stop that is none and a timeout that is none are refused."""
        with pytest.raises(TypeError, match="cannot be a stop"):
            stalling_body(CHUNKS, stop="now")
        with pytest.raises(ValueError, match="timeout"):
            stalling_body(CHUNKS, timeout=-1)


class TestStopping:
    """stopping_body."""

    @pytest.mark.parametrize("after", range(4))
    @pytest.mark.parametrize("headers", [{}, LENGTH], ids=["", "length"])
    def test_stop_at_chunk(self, mock, session, after, headers):
        """Exactly so many chunks come, and then the stop."""
        stop = StopEvent()
        mock.get(URL, body=stopping_body(CHUNKS, stop, after=after, reason="enough"), headers=headers)
        got = []
        with pytest.raises(Interrupted) as raised:
            for chunk in http.iter_chunks(session.get(URL, stream=True), stop=stop):
                assert stop.is_set() == (len(got) + 1 >= after)
                got.append(chunk)
        assert got == CHUNKS[:after]
        assert (raised.value.reason, raised.value.transferred) == ("enough", sum(map(len, got)))

    def test_in_a_large_read(self, mock):
        """A read of all of it is stopped in the middle, with what it had taken."""
        stop = StopEvent()
        body = stopping_body(CHUNKS, stop, after=2)
        with use_stop(stop), pytest.raises(Interrupted) as raised:
            body.read()
        assert raised.value.partial == b"012345"
        assert body.read() == b"6789"

    def test_foreign_event(self, mock, session):
        """Any event can be set, and a reader that does not obey it gets all of the body."""
        event = threading.Event()
        mock.get(URL, body=stopping_body(CHUNKS, event, after=1))
        assert session.get(URL).content == b"0123456789"
        assert event.is_set()

    @pytest.mark.parametrize(
        ("arguments", "error", "said"),
        [
            ({"stop": None}, TypeError, "a stop that can be set"),
            ({"stop": lambda: True}, TypeError, "a stop that can be set"),
            ({"stop": "now"}, TypeError, "cannot be a stop"),
            ({"after": -1}, ValueError, "0 or more, not -1"),
            ({"after": 1.0}, TypeError, "int, not float"),
            ({"after": True}, TypeError, "int, not bool"),
            ({"after": 4}, ValueError, "after is 4, and there are 3 chunks"),
        ],
    )
    def test_bad_arguments(self, arguments, error, said):
        """What cannot be is refused at once."""
        with pytest.raises(error, match=said):
            stopping_body(CHUNKS, **{"stop": StopEvent(), "after": 1, **arguments})

    def test_after_the_end_of_an_iterator(self):
        """How many chunks an iterator has is seen at its end."""
        body = stopping_body(iter(CHUNKS), StopEvent(), after=4)
        with pytest.raises(ValueError, match="after is 4, and there are 3 chunks"):
            body.read()


class TestFailing:
    """failing_body, and chunks that fail by themselves."""

    def test_connection_lost(self, mock, session):
        """A connection that is reset is what requests makes of one."""
        mock.get(URL, body=failing_body(CHUNKS, ConnectionResetError("reset by peer")), headers=LENGTH)
        chunks = http.iter_chunks(session.get(URL, stream=True))
        assert [next(chunks) for _ in CHUNKS[:2]] == CHUNKS[:2]
        mock.get(URL, body=failing_body(CHUNKS[:2], ConnectionResetError("reset by peer")), headers=LENGTH)
        with pytest.raises(requests.exceptions.ChunkedEncodingError, match="reset by peer"):
            session.get(URL)

    def test_again(self):
        """Read once more it fails once more, so that nobody takes the failure for the end."""
        error = KeyError("x")
        body = failing_body(CHUNKS[:1], error)
        assert body.read1() == b"0123"
        for _ in range(2):
            with pytest.raises(KeyError) as raised:
                body.read1()
            assert raised.value is error

    @pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
    def test_iterable_that_raises(self, mock, session, make):
        """What the chunks raise comes out as it is, with nothing before or behind it; and again."""

        def chunks():
            yield b"0123"
            raise LookupError("mine")

        mock.get(URL, body=make(chunks()))
        stream = http.iter_chunks(session.get(URL, stream=True))
        assert next(stream) == b"0123"
        for _ in range(2):
            with pytest.raises(LookupError, match="mine") as raised:
                next(stream)
            assert (raised.value.__cause__, raised.value.__context__) == (None, None)

    @pytest.mark.parametrize("error", ["lost", ConnectionResetError, None])
    def test_no_exception(self, error):
        """What is not an exception cannot be raised."""
        with pytest.raises(TypeError, match="error must be an exception"):
            failing_body(CHUNKS, error)

    @pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
    @pytest.mark.parametrize(
        ("chunks", "error", "said"),
        [
            ([b"a", "b"], TypeError, "chunk 2 is of type str: 'b'"),
            ([1], TypeError, "chunk 1 is of type int"),
            ([b"a", b""], ValueError, "chunk 2 is empty"),
        ],
    )
    def test_bad_chunks(self, make, chunks, error, said):
        """A chunk that cannot be is refused: of a list at once, of an iterator when it is read."""
        with pytest.raises(error, match=said):
            make(chunks)
        body = make(iter(chunks))
        with pytest.raises(error, match=said):
            body.read()

    @pytest.mark.parametrize("chunks", [b"0123", "0123", 5, None])
    def test_no_chunks(self, chunks):
        """Bytes by themselves are no chunks."""
        with pytest.raises(TypeError, match="chunks must be an iterable of bytes, such as a list"):
            chunked_body(chunks)


class TestSecondUse:
    """One body serves one response."""

    @pytest.mark.parametrize("how", ["read", "closed", "interrupted"])
    def test_second_response(self, mock, session, how):
        """A second response of the same body is an error that says what to do, and not an empty body."""
        stop = StopEvent()
        mock.get(URL, body=stopping_body(CHUNKS, stop, after=1))
        with session.get(URL, stream=True) as response:
            if how == "read":
                assert response.content == b"0123456789"
            elif how == "interrupted":
                with pytest.raises(Interrupted):
                    list(http.iter_chunks(response, stop=stop))
        with pytest.raises(ValueError, match="a body is for one response"):
            session.get(URL, stream=True)

    def test_registered_for_each(self, mock, session):
        """Registered once for each request, or made by a callback, each response has its own."""
        mock.get(URL, body=chunked_body([b"one"]))
        mock.get(URL, body=chunked_body([b"two"]))
        assert [session.get(URL).content for _ in range(2)] == [b"one", b"two"]
        other = f"{URL}other"
        mock.add_callback("GET", other, lambda request: (200, {}, chunked_body(CHUNKS)))
        assert [session.get(other).content for _ in range(2)] == [b"0123456789"] * 2


class TestOtherFiles:
    """Other files as mocked bodies."""

    def test_interruptible_file(self, mock, session, tmp_path, stop, background):
        """A file of this library, here a FIFO that nobody writes to, stops on the stop of the iteration."""
        os.mkfifo(tmp_path / "fifo")
        with open(os.open(tmp_path / "fifo", os.O_RDWR), "wb"), files.open(tmp_path / "fifo", "rb") as reader:
            mock.get(URL, body=reader)
            running = background(list, http.iter_chunks(session.get(URL, stream=True), stop=stop))
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(running.error(), Interrupted)

    def test_plain_bytes(self, mock):
        """Between two reads of a body of bytes, the stop of our session counts, as with a socket."""
        stop = StopEvent()
        mock.get(URL, body=b"0123456789")
        with http.Session(stop=stop) as session:
            chunks = session.get(URL, stream=True).iter_content(4)
            assert next(chunks) == b"0123"
            stop.set()
            with pytest.raises(Interrupted):
                next(chunks)


def _under(stop, read):
    with use_stop(stop):
        return read()
