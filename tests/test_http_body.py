"""http.iter_chunks and http.open: bodies from our sessions, from others', and from none."""

# ruff: noqa: F811 - fixtures are imported, and named again where they are asked for

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import signal
import socket
import tarfile
import threading
import zlib

import pytest
import requests
import responses

from iointerrupt import DeadlineExceeded, Interrupted, ResourceBusy, StopEvent, http, sockets, use_stop
from iointerrupt._http import body
from iointerrupt._signal.latch import Parker
from iointerrupt.testing import Connection, FaultServer, StopAfter, steps, wait_until_blocked
from tests.at_lines import alarm_at_line, handling
from tests.scripts import STALL_IN_BODY, always
from tests.test_http import authority, in_order, pool_of, session, tls  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture(params=["ours", "theirs"])
def any_session(request):
    """A session of ours without a stop, and one of requests."""
    with http.Session() if request.param == "ours" else requests.Session() as session:
        yield session


#: Sends half of a body that lasts until the connection closes, and stalls.
UNTIL_CLOSED_BODY = [
    steps.expect(),
    steps.head(headers={"Connection": "close"}),
    steps.send(b"half"),
    steps.stall(),
]

#: Sends half of a chunked body, and stalls in the middle of a chunk.
CHUNKED_BODY = [
    steps.expect(),
    steps.head(chunked=True),
    steps.chunk(b"half"),
    steps.send(b"8\r\nno"),
    steps.stall(),
]


def chunks_like(*parts: bytes) -> bytes:
    """Parts as a complete chunked body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("coding", ["chunked", "gzip, chunked"])
@pytest.mark.parametrize("size", ["-1", "-2", "-a0"])
def test_a_chunk_of_a_negative_size(session, coding, size):
    """It is an error of requests, and not taken for a chunk that lasts until the connection ends."""
    body = b"2\r\nab\r\n" + size.encode() + b"\r\n\0\0\r\n0\r\n\r\n"
    with FaultServer([steps.expect(), steps.head(headers={"Transfer-Encoding": coding}), steps.send(body)]) as server:
        chunks = http.iter_chunks(session.get(server.url, stream=True), decode=False)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(chunks)


class TestStops:
    """A stop ends the reading at once, and is never mistaken for the end of the body."""

    @pytest.mark.parametrize("script", [STALL_IN_BODY, UNTIL_CLOSED_BODY, CHUNKED_BODY])
    @pytest.mark.parametrize("kind", ["own", "current", "event"])
    def test_stalled_body(self, background, any_session, script, kind):
        """A stalled body stops, whoever's session it comes from and however its length is told."""
        stop = threading.Event() if kind == "event" else StopEvent()
        came = []

        def read() -> None:
            with use_stop(stop if kind == "current" else None):
                came.extend(http.iter_chunks(response, stop=None if kind == "current" else stop))

        with FaultServer(script) as server:
            response = any_session.get(server.url, stream=True)
            running = background(read)
            wait_until_blocked(stop)
            # It is blocked on the stop while it reads the first half, too.
            while b"".join(came)[:4] != b"half":
                wait_until_blocked(stop)
            stop.set()
            error = running.error()
            assert type(error) is Interrupted
            assert error.transferred == len(b"".join(came))
            in_order(pool_of(any_session.get_adapter(server.url), server.url))

    def test_a_connection_that_is_another_requests(self):
        """A stop behind the last bytes does not touch their connection, which is another request's by then."""
        came, second = [], []

        class Late(StopEvent):
            """Is set when it is about to be watched once more, for the end of the body, and another request has begun."""

            def on_set(self, callback):
                if came:
                    second.append(session.get(f"{server.url}/second", stream=True))
                    self.set()
                return super().on_set(callback)

        script = [
            *(steps.expect(), steps.answer(b"first", length=5)),
            *(steps.expect(), steps.head(length=6), steps.send(b"sec"), steps.stall(), steps.send(b"ond")),
        ]
        with FaultServer(script) as server, requests.Session() as session:
            chunks = http.iter_chunks(session.get(f"{server.url}/first", stream=True), stop=Late())
            came.append(next(chunks))
            assert list(chunks) == []
            response = second[0] if second else session.get(f"{server.url}/second", stream=True)
            server.wait_for("stall")
            server.resume()
            assert (came, response.content) == ([b"first"], b"second")

    @pytest.mark.parametrize("close", [False, True], ids=["length", "until closed"])
    def test_stalled_tls_body(self, background, any_session, authority, tls, close):
        """A stalled body over TLS stops; what came before the stop is all that is delivered."""
        stop = StopEvent()
        came = []
        with FaultServer(UNTIL_CLOSED_BODY if close else STALL_IN_BODY, tls=tls) as server:
            response = any_session.get(server.url, stream=True, verify=authority[1])
            running = background(lambda: came.extend(http.iter_chunks(response, stop=stop)))
            while b"".join(came) != b"half":
                wait_until_blocked(stop)
            stop.set()
            assert isinstance(running.error(), Interrupted)
            assert came == [b"half"]

    def test_both_stops(self, background, session):
        """A stop that is given adds to the session's and to the current one."""
        for which in range(3):
            session.stop = StopEvent()
            stops = [session.stop, StopEvent(), StopEvent()]

            def read(response: requests.Response, stops: list[StopEvent] = stops) -> None:
                with use_stop(stops[2]):
                    list(http.iter_chunks(response, stop=stops[1]))

            with FaultServer(STALL_IN_BODY) as server:
                running = background(read, session.get(server.url, stream=True))
                wait_until_blocked(stops[which])
                stops[which].set(which)
                assert running.error().reason == which

    def test_set_before(self, any_session):
        """With a stop that is set nothing is read, and the response is closed."""
        stop = StopEvent()
        stop.set()
        with FaultServer(always(b"x" * 1000)) as server:
            response = any_session.get(server.url, stream=True)
            with pytest.raises(Interrupted) as raised:
                next(http.iter_chunks(response, stop=stop))
            assert raised.value.transferred == 0
            assert response.raw.closed
            in_order(pool_of(any_session.get_adapter(server.url), server.url))

    def test_deadline(self, any_session):
        """A deadline on the reading raises DeadlineExceeded."""
        with FaultServer(STALL_IN_BODY) as server:
            response = any_session.get(server.url, stream=True)
            with pytest.raises(DeadlineExceeded):
                list(http.iter_chunks(response, stop=StopEvent(timeout=0.05)))

    def test_asked_again(self):
        """Asked again after a stop, the iterator raises again instead of ending."""
        stop = StopEvent()
        with FaultServer(STALL_IN_BODY) as server, http.Session() as session:
            chunks = http.iter_chunks(session.get(server.url, stream=True), stop=stop)
            assert next(chunks) == b"half"
            stop.set()
            for _ in range(2):
                with pytest.raises(Interrupted):
                    next(chunks)
            stop.clear()
            with pytest.raises(Interrupted):
                next(chunks)

    @pytest.mark.parametrize("theirs", [False, True])
    def test_at_each_check(self, theirs):
        """Wherever the stop comes, the body is delivered whole or Interrupted is raised."""
        body = bytes(range(256)) * 4
        with FaultServer(always(body)) as server, requests.Session() if theirs else http.Session() as session:
            for n in range(1, 200):
                response = session.get(server.url, stream=True)
                came = b""
                try:
                    for chunk in http.iter_chunks(response, stop=StopAfter(n), chunk_size=100):
                        came += chunk
                except Interrupted as interrupted:
                    assert interrupted.transferred == len(came)
                    assert body.startswith(came)
                else:
                    assert came == body
                    break
            assert 10 < n < 199

    def test_released_connection_is_left_alone(self, monkeypatch):
        """A stop after the end of the body does not touch the connection, which is another's by then."""
        stop = StopEvent()
        with FaultServer(always()) as server, requests.Session() as session:
            response = session.get(server.url, stream=True)
            chunks = http.iter_chunks(response, stop=stop)
            assert next(chunks) == b"hello"
            stop.set()
            with pytest.raises(Interrupted):
                next(chunks)
            assert session.get(server.url).content == b"hello"
            assert server.connections == 1
            assert stop._callbacks == {}

    def test_abandoned_iterator(self):
        """An iterator that is dropped leaves no callback in the stop, and the rest can be read by another."""
        stop = StopEvent()
        with FaultServer(always(b"hello")) as server, requests.Session() as session:
            response = session.get(server.url, stream=True)
            chunks = http.iter_chunks(response, stop=stop, chunk_size=2)
            assert next(chunks) == b"he"
            assert len(stop._callbacks) == 1
            del chunks
            assert stop._callbacks == {}
            assert b"".join(http.iter_chunks(response)) == b"llo"


class TestBodies:
    """Every kind of body is delivered as it is."""

    @pytest.mark.parametrize("chunk_size", [1, 7, 1 << 20])
    def test_identity(self, any_session, chunk_size):
        """A body with a length comes whole, in chunks that are neither empty nor too long."""
        body = bytes(range(256)) * 3
        with FaultServer(always(body)) as server:
            response = any_session.get(server.url, stream=True)
            chunks = list(http.iter_chunks(response, chunk_size=chunk_size))
            assert b"".join(chunks) == body
            assert all(0 < len(chunk) <= chunk_size for chunk in chunks)

    def test_connection_is_kept(self, any_session):
        """After the last chunk the connection is back in the pool and serves the next request."""
        with FaultServer(always()) as server:
            for _ in range(3):
                assert b"".join(http.iter_chunks(any_session.get(server.url, stream=True))) == b"hello"
            assert server.connections == 1

    def test_as_it_comes(self, any_session):
        """Nothing is held back until a chunk is full."""
        script = [steps.expect(), steps.answer(b"one", length=6), steps.stall(), steps.send(b"two")]
        with FaultServer(script) as server:
            chunks = http.iter_chunks(any_session.get(server.url, stream=True))
            assert next(chunks) == b"one"
            server.wait_for("stall")
            server.resume()
            assert list(chunks) == [b"two"]

    def test_chunked(self, any_session):
        """A chunked transfer coding is undone."""
        script = always(chunks_like(b"he", b"l", b"lo" * 1000), length=None, headers={"Transfer-Encoding": "chunked"})
        with FaultServer(script) as server:
            for chunk_size in (1, 3, 1 << 20):
                response = any_session.get(server.url, stream=True)
                assert b"".join(http.iter_chunks(response, chunk_size=chunk_size)) == b"hel" + b"lo" * 1000
            assert server.connections == 1

    @pytest.mark.parametrize("coding", ["gzip", "deflate"])
    def test_encoded(self, any_session, coding):
        """A content coding is undone, or left as it is where that is asked for."""
        plain = b"hello, world. " * 10_000
        encoded = gzip.compress(plain) if coding == "gzip" else zlib.compress(plain)
        with FaultServer(always(encoded, headers={"Content-Encoding": coding})) as server:
            response = any_session.get(server.url, stream=True)
            assert b"".join(http.iter_chunks(response, chunk_size=1000)) == plain
            response = any_session.get(server.url, stream=True)
            assert b"".join(http.iter_chunks(response, chunk_size=1000, decode=False)) == encoded

    def test_encoded_and_chunked(self, any_session):
        """A content coding within a chunked transfer coding: both are undone, or the latter alone."""
        plain = b"hello, world. " * 10_000
        encoded = gzip.compress(plain)
        body = chunks_like(*(encoded[i : i + 50] for i in range(0, len(encoded), 50)))
        headers = {"Transfer-Encoding": "chunked", "Content-Encoding": "gzip"}
        with FaultServer(always(body, length=None, headers=headers)) as server:
            for decode, expected in ((True, plain), (False, encoded)):
                response = any_session.get(server.url, stream=True)
                assert b"".join(http.iter_chunks(response, decode=decode)) == expected

    def test_until_closed(self, any_session):
        """A body that lasts until the connection closes ends with it."""
        script = [steps.expect(), steps.answer(b"hello", length=None)]
        with FaultServer(script) as server:
            assert b"".join(http.iter_chunks(any_session.get(server.url, stream=True))) == b"hello"

    @pytest.mark.parametrize("answer", [{"status": 204, "length": None}, {"length": 0}])
    def test_no_body(self, any_session, answer):
        """A response without a body has no chunk."""
        with FaultServer(always(b"", **answer)) as server:
            assert list(http.iter_chunks(any_session.get(server.url, stream=True))) == []

    def test_head(self, any_session):
        """The response to HEAD has no chunk, whatever length it states."""
        with FaultServer(always(b"", length=100)) as server:
            assert list(http.iter_chunks(any_session.head(server.url, stream=True))) == []

    def test_read_already(self, any_session):
        """A body that requests has read and kept is sliced; one that it has not kept is a StreamConsumedError."""
        with FaultServer(always()) as server:
            response = any_session.get(server.url)
            assert list(http.iter_chunks(response, chunk_size=2)) == [b"he", b"ll", b"o"]
            stop = StopEvent()
            chunks = http.iter_chunks(response, chunk_size=2, stop=stop)
            assert next(chunks) == b"he"
            stop.set()
            with pytest.raises(Interrupted) as raised:
                next(chunks)
            assert raised.value.transferred == 2
            response = any_session.get(server.url, stream=True)
            assert list(http.iter_chunks(response)) == [b"hello"]
            with pytest.raises(requests.exceptions.StreamConsumedError):
                http.iter_chunks(response)

    def test_read_in_part(self, any_session):
        """A body of which a part has been read goes on after it, also within a chunk of the transfer coding."""
        script = always(chunks_like(b"hello", b"world"), length=None, headers={"Transfer-Encoding": "chunked"})
        with FaultServer(script) as server:
            response = any_session.get(server.url, stream=True)
            begun = response.iter_content(3)
            assert next(begun) == b"hel"
            assert b"".join(http.iter_chunks(response)) == b"loworld"
            response = any_session.get(server.url, stream=True)
            assert next(response.iter_content(3)) == b"hel"
            # urllib3 has closed it with the iterator, and calls that the end of the body.
            with pytest.raises(requests.exceptions.StreamConsumedError, match="given up"):
                http.iter_chunks(response)

    def test_given_up(self, any_session):
        """A chunked body that was closed between two chunks has not ended, be it closed before or while it is read."""
        script = always(chunks_like(b"hello", b"world"), length=None, headers={"Transfer-Encoding": "chunked"})
        with FaultServer(script) as server:
            response = any_session.get(server.url, stream=True)
            assert next(response.iter_content(5)) == b"hello"
            with pytest.raises(requests.exceptions.StreamConsumedError, match="given up"):
                http.iter_chunks(response)

            response = any_session.get(server.url, stream=True)
            begun = response.iter_content(5)
            assert next(begun) == b"hello"
            chunks = http.iter_chunks(response)
            del begun
            with pytest.raises(requests.exceptions.StreamConsumedError, match="given up"):
                next(chunks)

            response = any_session.get(server.url, stream=True)
            chunks = http.iter_chunks(response, chunk_size=5)
            assert next(chunks) == b"hello"
            response.close()
            for _ in range(2):
                with pytest.raises(requests.exceptions.StreamConsumedError, match="given up"):
                    next(chunks)

    def test_read_to_the_end(self, any_session):
        """A body that somebody else has read to its end has no chunk left, or says that it is gone."""
        with FaultServer(always()) as server:
            response = any_session.get(server.url, stream=True)
            assert response.raw.read() == b"hello"
            assert list(http.iter_chunks(response)) == []
        script = always(chunks_like(b"hello"), length=None, headers={"Transfer-Encoding": "chunked"})
        with FaultServer(script) as server:
            response = any_session.get(server.url, stream=True)
            assert b"".join(response.raw.stream(5)) == b"hello"
            assert list(http.iter_chunks(response)) == []
            response = any_session.head(server.url, stream=True)
            assert list(http.iter_chunks(response)) == []


class BrokenOff(BaseException):
    """What a signal handler raises, as Ctrl-C does."""


@pytest.fixture
def signal_in(monkeypatch):
    """A function that has a signal, whose handler raises `BrokenOff`, arrive in this thread's next call of a method."""

    def handler(number, frame):
        raise BrokenOff

    def arrange(kind: type, name: str) -> None:
        real = getattr(kind, name)

        def signalled(*args, **kwargs):
            if threading.current_thread() is threading.main_thread():
                setattr(kind, name, real)
                signal.raise_signal(signal.SIGUSR1)
            return real(*args, **kwargs)

        monkeypatch.setattr(kind, name, signalled)

    before = signal.signal(signal.SIGUSR1, handler)
    yield arrange
    signal.signal(signal.SIGUSR1, before)


class TestBrokenOff:
    """What a signal handler raises breaks the reading off, and is not followed by an end."""

    def test_iter_chunks(self, any_session, signal_in):
        """The response is closed, and the iterator raises when it is asked again."""
        stop = StopEvent()
        with FaultServer(STALL_IN_BODY) as server:
            chunks = http.iter_chunks(any_session.get(server.url, stream=True), stop=stop)
            assert next(chunks) == b"half"
            signal_in(sockets.Socket if isinstance(any_session, http.Session) else socket.socket, "recv_into")
            with pytest.raises(BrokenOff):
                next(chunks)
            in_order(pool_of(any_session.get_adapter(server.url), server.url))
            assert stop._callbacks == {}
            for _ in range(2):
                with pytest.raises(requests.exceptions.StreamConsumedError, match="broken off by BrokenOff"):
                    next(chunks)

    def test_at_each_line(self, any_session):
        """Wherever in the iterator a handler raises: all bytes come after all, or nobody is told that they have."""
        content = bytes(range(256)) * 40

        def break_off(*_):
            raise BrokenOff

        with FaultServer(always(content)) as server, handling(signal.SIGALRM, break_off):
            for at in itertools.count(1):
                chunks = http.iter_chunks(any_session.get(server.url, stream=True), chunk_size=1000)
                came = [next(chunks)]
                with contextlib.suppress(BrokenOff), alarm_at_line(at, {body.__file__}.__contains__) as reached:
                    came.append(next(chunks))
                with contextlib.suppress(requests.exceptions.StreamConsumedError):
                    came += chunks
                    assert b"".join(came) == content
                assert content.startswith(b"".join(came))
                chunks.close()
                if not reached:
                    break
        assert at > 10

    def test_open(self, signal_in):
        """A file of http.open raises when it is read again."""
        with FaultServer(STALL_IN_BODY) as server, http.open(server.url) as file:
            assert file.read(4) == b"half"
            signal_in(sockets.Socket, "recv_into")
            with pytest.raises(BrokenOff):
                file.read(4)
            for _ in range(2):
                with pytest.raises(requests.exceptions.StreamConsumedError, match="broken off"):
                    file.read()

    def test_wait_for_a_connection(self, background, signal_in):
        """A wait for a connection of the pool that is broken off leaves the pool in order."""
        script = [steps.expect(), steps.stall(), steps.answer(b"hello"), steps.read_to_end()]
        with FaultServer(script) as server, http.Session(pool_size=1, pool_block=True) as session:
            holder = background(session.get, server.url)
            server.wait_for("stall")
            signal_in(Parker, "park")
            with pytest.raises(BrokenOff):
                session.get(server.url)
            server.resume()
            assert holder.result().content == b"hello"
            pool = pool_of(session.get_adapter(server.url), server.url)
            assert pool.pool.qsize() == 1


class TestTwoThreads:
    """An iterator serves one thread at a time."""

    def test_busy(self, background, session):
        """The second thread gets ResourceBusy, and the first its chunks."""
        script = [steps.expect(), steps.answer(b"one", length=6), steps.stall(), steps.send(b"two")]
        with FaultServer(script) as server:
            chunks = http.iter_chunks(session.get(server.url, stream=True))
            assert next(chunks) == b"one"
            running = background(list, chunks)
            wait_until_blocked(session.stop)
            for _ in range(2):
                with pytest.raises(ResourceBusy, match="another call"):
                    next(chunks)
            server.wait_for("stall")
            server.resume()
            assert running.result() == [b"two"]
            assert list(chunks) == []


class TestLarge:
    """Large bodies of known length, which are read past the layers of urllib3 and http.client."""

    BODY = bytes(range(256)) * 8192

    @pytest.fixture(autouse=True, params=[1 << 13, 1 << 17], ids=["small buffers", "large buffers"])
    def buffers(self, request, monkeypatch):
        """http.client's are as large as the default of io, which depends on the version of Python."""
        monkeypatch.setattr(io, "DEFAULT_BUFFER_SIZE", request.param)

    @pytest.mark.parametrize("chunk_size", [5000, 1 << 16, 100_001, 1 << 20])
    def test_whole(self, any_session, chunk_size):
        """It comes whole, and the connection is kept."""
        with FaultServer(always(self.BODY)) as server:
            for _ in range(2):
                response = any_session.get(server.url, stream=True)
                chunks = list(http.iter_chunks(response, chunk_size=chunk_size))
                assert b"".join(chunks) == self.BODY
                assert max(map(len, chunks)) <= chunk_size
                assert response.raw.tell() == len(self.BODY)
            assert server.connections == 1

    def test_others_read_too(self, any_session):
        """What somebody else reads between two chunks is theirs, and no byte is lost or comes twice."""
        with FaultServer(always(self.BODY)) as server:
            response = any_session.get(server.url, stream=True)
            came = b""
            for chunk in http.iter_chunks(response, chunk_size=1 << 16):
                came += chunk
                if 100_000 < len(came) < 1_000_000:
                    came += response.raw.read(7)
            assert came == self.BODY

    def test_a_length_that_is_said_twice(self, any_session):
        """In one header: urllib3 makes it out, http.client does not."""
        head = steps.head(headers={"Content-Length": f"{len(self.BODY)}, {len(self.BODY)}"})
        with FaultServer([steps.expect(), head, steps.send(self.BODY), steps.close()]) as server:
            chunks = http.iter_chunks(any_session.get(server.url, stream=True), chunk_size=1000)
            assert b"".join(chunks) == self.BODY

    def test_too_short(self, any_session):
        """One that ends early is a ChunkedEncodingError, after all that did come."""
        script = [steps.expect(), steps.answer(self.BODY, length=2 * len(self.BODY))]
        with FaultServer(script) as server:
            came = []
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                came.extend(http.iter_chunks(any_session.get(server.url, stream=True)))
            assert b"".join(came) == self.BODY
            in_order(pool_of(any_session.get_adapter(server.url), server.url))

    def test_stall(self, background, any_session):
        """One that stalls stops, and times out, after all that did come."""
        script = [steps.expect(), steps.answer(self.BODY, length=2 * len(self.BODY)), steps.stall()]
        stop = StopEvent()
        came = []
        with FaultServer(script) as server:
            response = any_session.get(server.url, stream=True)
            running = background(lambda: came.extend(http.iter_chunks(response, stop=stop)))
            while sum(map(len, came)) < len(self.BODY):
                wait_until_blocked(stop)
            stop.set()
            assert running.error().transferred == len(self.BODY)
            assert b"".join(came) == self.BODY
            in_order(pool_of(any_session.get_adapter(server.url), server.url))
            chunks = http.iter_chunks(any_session.get(server.url, stream=True), timeout=0.1)
            with pytest.raises(requests.ReadTimeout):
                came.extend(chunks)
            in_order(pool_of(any_session.get_adapter(server.url), server.url))

    def test_at_each_check(self):
        """Wherever the stop comes, what has come is the beginning of the body, and is delivered."""
        with FaultServer(always(self.BODY)) as server, http.Session() as session:
            for n in range(1, 1000):
                response = session.get(server.url, stream=True)
                came = b""
                try:
                    for chunk in http.iter_chunks(response, stop=StopAfter(n)):
                        came += chunk
                except Interrupted as interrupted:
                    assert interrupted.transferred == len(came)
                    assert self.BODY.startswith(came)
                    assert response.raw.tell() == len(came)
                else:
                    assert came == self.BODY
                    break
            assert 10 < n < 999

    def test_reset(self, background):
        """A connection that is reset while bytes are there gives them, then the error."""
        script = [steps.expect(), steps.answer(b"x" * 500_000, length=1_000_000), steps.stall(), steps.reset()]
        with FaultServer(script) as server, http.Session() as session:
            chunks = http.iter_chunks(session.get(server.url, stream=True))
            came = 0
            while came < 500_000:
                came += len(next(chunks))
            server.wait_for("stall")
            server.resume()
            with pytest.raises(requests.exceptions.ChunkedEncodingError):
                next(chunks)


class TestErrors:
    """What is wrong with a body is said as requests says it."""

    def test_too_short(self, any_session):
        """A body shorter than its Content-Length is a ChunkedEncodingError, after what did come."""
        script = [steps.expect(), steps.answer(b"half", length=8)]
        with FaultServer(script) as server:
            chunks = http.iter_chunks(any_session.get(server.url, stream=True))
            assert next(chunks) == b"half"
            for _ in range(2):
                with pytest.raises(requests.exceptions.ChunkedEncodingError):
                    next(chunks)
            in_order(pool_of(any_session.get_adapter(server.url), server.url))

    def test_chunked_too_short(self, any_session):
        """A chunked body that ends early is a ChunkedEncodingError."""
        script = [steps.expect(), steps.head(chunked=True), steps.chunk(b"half"), steps.send(b"8\r\nha")]
        with FaultServer(script) as server, pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(http.iter_chunks(any_session.get(server.url, stream=True)))

    def test_wrong_coding(self, any_session):
        """A body that is not in the coding it claims is a ContentDecodingError."""
        script = always(b"not gzip at all", headers={"Content-Encoding": "gzip"})
        with FaultServer(script) as server, pytest.raises(requests.exceptions.ContentDecodingError):
            list(http.iter_chunks(any_session.get(server.url, stream=True)))

    @pytest.mark.parametrize("where", ["request", "iter_chunks"])
    def test_timeout(self, any_session, where):
        """A body that stalls for longer than the timeout is a ReadTimeout and a ConnectionError of requests."""
        with FaultServer(STALL_IN_BODY) as server:
            response = any_session.get(server.url, stream=True, timeout=0.05 if where == "request" else None)
            chunks = http.iter_chunks(response, timeout=0.05 if where == "iter_chunks" else None)
            assert next(chunks) == b"half"
            with pytest.raises(requests.ReadTimeout) as raised:
                next(chunks)
            assert isinstance(raised.value, requests.ConnectionError)
            assert isinstance(raised.value, http.ReadTimeout)

    def test_bad_arguments(self):
        """What cannot be is refused at the call."""
        response = requests.Response()
        with pytest.raises(TypeError, match=r"must be a requests\.Response"):
            http.iter_chunks(b"body")
        with pytest.raises(ValueError, match="chunk_size"):
            http.iter_chunks(response, chunk_size=0)
        with pytest.raises(TypeError, match="chunk_size"):
            http.iter_chunks(response, chunk_size=1.5)
        with pytest.raises(ValueError, match="timeout"):
            http.iter_chunks(response, timeout=-1)
        with pytest.raises(ValueError, match="more than 0"):
            http.iter_chunks(response, timeout=0)
        with pytest.raises(ValueError, match="more than 0"):
            http.open(response, timeout=0)
        with pytest.raises(TypeError, match="cannot be a stop"):
            http.iter_chunks(response, stop="now")


class TestMocked:
    """Bodies that come from no socket stop between two chunks."""

    @responses.activate
    @pytest.mark.parametrize("theirs", [False, True])
    def test_responses(self, theirs):
        """A body that `responses` gives comes in chunks, and stops between them."""
        responses.get("http://mocked.test/", body=b"x" * 1000)
        stop = StopEvent()
        with requests.Session() if theirs else http.Session() as session:
            assert b"".join(http.iter_chunks(session.get("http://mocked.test/", stream=True))) == b"x" * 1000
            chunks = http.iter_chunks(session.get("http://mocked.test/", stream=True), stop=stop, chunk_size=100)
            assert next(chunks) == b"x" * 100
            stop.set()
            with pytest.raises(Interrupted) as raised:
                next(chunks)
            assert raised.value.transferred == 100

    @responses.activate
    @pytest.mark.parametrize("stream", [False, True])
    def test_stop_of_the_session(self, stream):
        """Mocked or read already, a body stops on the stop that its session has by then."""
        responses.get("http://mocked.test/", body=b"x" * 1000)
        for adapter in (False, True):
            with requests.Session() if adapter else http.Session(stop=StopEvent()) as session:
                if adapter:
                    session.mount("http://", http.Adapter(stop=StopEvent()))
                chunks = http.iter_chunks(session.get("http://mocked.test/", stream=stream), chunk_size=100)
                assert next(chunks) == b"x" * 100
                holder = session.get_adapter("http://") if adapter else session
                holder.stop = stop = StopEvent()
                assert next(chunks) == b"x" * 100
                stop.set("enough")
                with pytest.raises(Interrupted) as raised:
                    next(chunks)
                assert (raised.value.reason, raised.value.transferred) == ("enough", 200)

    def test_own_raw(self):
        """A raw object that has nothing but read() is read to its end, and stops."""

        class Raw:
            def __init__(self) -> None:
                self.parts = [b"a", b"b", b"c"]

            def read(self, size: int) -> bytes:
                return self.parts.pop(0) if self.parts else b""

        response = requests.Response()
        response.raw = Raw()
        assert list(http.iter_chunks(response)) == [b"a", b"b", b"c"]
        response = requests.Response()
        response.raw = Raw()
        stop = StopAfter(3)
        chunks = http.iter_chunks(response, stop=stop)
        assert [next(chunks), next(chunks)] == [b"a", b"b"]
        with pytest.raises(Interrupted):
            next(chunks)

    def test_stream_with_empty_chunks(self):
        """An empty chunk of a stand-in's stream() is not the end."""

        class Raw:
            def stream(self, size: int, *, decode_content: bool) -> object:
                return iter([b"a", b"", b"b"])

        response = requests.Response()
        response.raw = Raw()
        assert list(http.iter_chunks(response)) == [b"a", b"b"]

    def test_no_raw(self):
        """A response put together by hand, with its content alone, is sliced."""
        response = requests.Response()
        response._content = b"hello"
        assert list(http.iter_chunks(response, chunk_size=3)) == [b"hel", b"lo"]


class TestOpen:
    """http.open: a body as a file."""

    def test_read(self):
        """A URL is read as a file, with nothing left open once that is closed."""
        with FaultServer(always(b"line 1\nline 2\n")) as server:
            with http.open(server.url) as file:
                assert isinstance(file, io.BufferedReader)
                assert file.readline() == b"line 1\n"
                assert file.read() == b"line 2\n"
                assert file.read() == b""
            with pytest.raises(ValueError, match="closed"):
                file.read()

    def test_tar_and_csv(self):
        """It serves tarfile as a stream, and csv as text."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w:gz") as archive:
            member = tarfile.TarInfo("a.txt")
            member.size = 100_000
            archive.addfile(member, io.BytesIO(b"x" * 100_000))
        with (
            FaultServer(always(packed.getvalue())) as server,
            http.open(server.url) as file,
            tarfile.open(fileobj=file, mode="r|gz") as archive,
        ):
            assert [m.name for m in archive] == ["a.txt"]
        with FaultServer(always(b"a,b\n1,2\n")) as server, io.TextIOWrapper(http.open(server.url), newline="") as text:
            assert list(csv.reader(text)) == [["a", "b"], ["1", "2"]]

    @pytest.mark.parametrize("how", ["url", "session", "their session", "response"])
    def test_stop(self, background, how):
        """A read that stalls stops, with what it had taken in .partial, and never ends quietly."""
        stop = StopEvent()
        with FaultServer(STALL_IN_BODY) as server, requests.Session() as theirs, http.Session() as ours:
            match how:
                case "url":
                    file = http.open(server.url, stop=stop)
                case "session":
                    file = http.open(server.url, stop=stop, session=ours)
                case "their session":
                    file = http.open(server.url, stop=stop, session=theirs)
                case "response":
                    file = http.open(theirs.get(server.url, stream=True), stop=stop)
            with file:
                assert file.read(2) == b"ha"
                running = background(file.read, 6)
                wait_until_blocked(stop)
                stop.set()
                error = running.error()
                assert isinstance(error, Interrupted)
                assert error.partial == b"lf"
                stop.clear()
                with pytest.raises(Interrupted):
                    file.read()

    def test_status(self):
        """A status of 400 or above is an HTTPError, and nothing is left open."""
        with FaultServer(always(b"no", status=404)) as server, requests.Session() as session:
            with pytest.raises(requests.HTTPError, match="404"):
                http.open(server.url)
            with pytest.raises(requests.HTTPError, match="404"):
                http.open(server.url, session=session)

    def test_arguments(self):
        """Arguments of the request are passed on; with a response they make no sense."""

        def script(connection: Connection) -> None:
            while (request := connection.read_request()) is not None:
                connection.answer(f"{request.target} {request.headers['X']}".encode())

        with FaultServer([script]) as server, requests.Session() as session:
            with http.open(server.url, params={"a": "b"}, headers={"X": "y"}) as file:
                assert file.read() == b"/?a=b y"
            response = session.get(server.url, stream=True)
            with pytest.raises(TypeError, match="requested already"):
                http.open(response, params={"a": "b"})
            response.close()

    def test_request_stops(self, background):
        """The request itself stops as well."""
        stop = StopEvent()
        with FaultServer([steps.read_to_end()]) as server:
            running = background(http.open, server.url, stop=stop)
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(running.error(), Interrupted)
