"""_http.lean: GET requests without the layers of requests, in the cases in which the outcome is the same."""

# ruff: noqa: F811 - fixtures are imported, and named again where they are asked for

from __future__ import annotations

import gc
import os
import random
import socket
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
import requests
import responses
import urllib3

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, http, sockets
from iointerrupt._http import lean, splice
from iointerrupt.testing import FaultServer, steps, wait_until_blocked
from tests.scripts import always
from tests.test_http import in_order, pool_of, session  # noqa: F401 - fixtures

BIG = random.Random(5).randbytes(3_000_000)
MOST = 1 << 20

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="what splice(2) does is looked at"),
    pytest.mark.usefixtures("plain_environment"),
]


class Target:
    """A file that bodies are written to."""

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.size = 0

    def take(self, answer: lean.LeanAnswer, limit: int = MOST) -> bytes:
        """The body, by way of the file; what was interrupted before counts."""
        while count := answer.into_file(self.fd, self.size, limit):
            assert count <= limit
            self.size += count
        return self.content()

    def content(self) -> bytes:
        """What is in the file, which has to be as much as was counted."""
        content = os.pread(self.fd, 1 << 30, 0)
        assert len(content) == self.size
        return content


@pytest.fixture
def target(tmp_path):
    """A file, open for writing."""
    target = Target(tmp_path / "target")
    yield target
    os.close(target.fd)


@pytest.fixture(params=["splice", "copy", "tls"])
def way(request, monkeypatch):
    """How bodies come into the file: by the kernel, through a buffer, or through TLS."""
    if request.param == "copy":
        monkeypatch.setattr(splice, "_LEAST_SPLICED", sys.maxsize)
    return request.param


@pytest.fixture
def serve(way, fault_server, session):
    """Call it with scripts for a server, which the session trusts."""

    def start(*scripts: steps.Script) -> FaultServer:
        server: FaultServer = fault_server(*scripts, tls=way == "tls")
        if way == "tls":
            session.verify = server.ca_file
        return server

    return start


def ask(session: requests.Session, url: str, headers: dict[str, str] | None = None, **how: object) -> lean.LeanAnswer:
    """An answer, where there has to be one."""
    answer = lean.answer(session, url, headers or {}, **how)  # type: ignore[arg-type]  # passed through
    assert answer is not None
    return answer


def read(answer: lean.LeanAnswer, limit: int = MOST) -> bytes:
    """The rest of a body; the answer is closed."""
    chunks = []
    while chunk := answer.read(limit):
        assert len(chunk) <= limit
        chunks.append(chunk)
    answer.close()
    return b"".join(chunks)


def idle(session: requests.Session, url: str) -> list[object]:
    """The open connections that the session's only pool has to use again."""
    places = places_of(session, url)
    assert len(places) == 10
    return [connection for connection in places if connection is not None and not connection.is_closed]


def places_of(session: requests.Session, url: str) -> list[Any]:
    """What is in the session's only pool."""
    adapter: Any = session.get_adapter(url)
    pool = pool_of(adapter, url)
    assert pool.pool is not None
    return list(pool.pool.queue)


class TestAnswers:
    """Answers as they are in plain cases."""

    def test_small(self, serve, session, target):
        """Status, headers in any case, URL and body of an answer."""
        server = serve(always(b"hello", headers={"ETag": '"1"', "X-Some": " spaced\t"}))
        answer = ask(session, f"{server.url}/file")
        assert (answer.status, answer.url) == (200, f"{server.url}/file")
        assert (answer.headers["etag"], answer.headers.get("X-SOME")) == ('"1"', "spaced")
        assert answer.headers.get("x-other") is None
        assert answer.headers.get("x-other", "-") == "-"
        assert "Content-Length" in answer.headers
        assert dict(answer.headers) == {"content-length": "5", "etag": '"1"', "x-some": "spaced"}
        assert len(answer.headers) == 3
        assert target.take(answer) == b"hello"
        assert answer.into_file(target.fd, 5, 1) == 0
        assert answer.read(1) == b""
        answer.close()
        answer.close()

    @pytest.mark.parametrize("limit", [1 << 30, MOST, 200_001, 70_001])
    def test_big(self, serve, session, target, limit):
        """A body that takes many turns comes whole, at most as much at once as was asked for."""
        server = serve(always(BIG))
        answer = ask(session, server.url)
        assert target.take(answer, limit) == BIG
        answer.close()
        assert read(ask(session, server.url), limit) == BIG
        assert server.connections == 1

    def test_pieces(self, serve, session, target):
        """A body that comes in many pieces comes whole."""
        pieces = [
            step for k in range(20) for step in (steps.send(BIG[k * 10_000 : (k + 1) * 10_000]), steps.mark("sent"))
        ]
        server = serve([steps.expect(), steps.head(length=200_000), *pieces, steps.read_to_end()])
        answer = ask(session, server.url)
        assert target.take(answer) == BIG[:200_000]
        answer.close()

    def test_mixed(self, serve, session, target):
        """Reading and writing into a file may take turns, at any place in the file."""
        server = serve(always(BIG))
        answer = ask(session, server.url)
        begin = answer.read(1000) + answer.read(100_000)
        target.size = len(begin)
        os.pwrite(target.fd, begin, 0)
        while target.size < 2_000_000:
            target.size += answer.into_file(target.fd, target.size, 300_000)
        end = read(answer)
        assert target.content() + end == BIG

    def test_position(self, serve, session, target):
        """The file's own position is left alone."""
        server = serve(always(BIG))
        os.lseek(target.fd, 7, os.SEEK_SET)
        answer = ask(session, server.url)
        target.take(answer)
        answer.close()
        assert os.lseek(target.fd, 0, os.SEEK_CUR) == 7

    @pytest.mark.parametrize("status", [200, 206, 304, 404, 416, 503])
    def test_statuses(self, serve, session, status):
        """Answers that need nothing of requests, an error among them, are taken; a 304 has no body whatever length it says."""
        body = b"" if status == 304 else b"said"
        server = serve([steps.repeat(steps.expect(), steps.answer(body, status=status, length=4))])
        answer = ask(session, server.url)
        assert answer.status == status
        assert read(answer) == body
        assert len(idle(session, server.url)) == 1

    @pytest.mark.parametrize("split", ["bytes", "blank line", "body"])
    def test_head_in_segments(self, serve, session, split):
        """A head that comes in several segments is the same head."""
        octets = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        ends = {"bytes": range(1, len(octets) + 1), "blank line": [36, 37, len(octets)], "body": [40, len(octets)]}[
            split
        ]
        parts = [
            steps.drip(octets[:end][-(end - begin) :], size=100) for begin, end in zip([0, *ends], ends, strict=False)
        ]
        server = serve([steps.expect(), *(step for part in parts for step in (part, self.pause)), steps.read_to_end()])
        assert read(ask(session, server.url)) == b"hello"

    @staticmethod
    def pause(connection):
        """Let what was sent go on its way alone."""
        connection.server.stop.wait(0.002)

    def test_joined_fields(self, serve, session):
        """A field that comes twice is one field with both values, as in requests."""
        head = b"HTTP/1.1 200 OK\r\nVary: A\r\nContent-Length: 0\r\nvary: B\r\n\r\n"
        server = serve([steps.expect(), steps.send(head), steps.read_to_end()])
        answer = ask(session, server.url)
        assert answer.headers["Vary"] == "A, B"
        answer.close()

    def test_limit(self, serve, session, target):
        """A limit that is no number of bytes to move is refused; 0 is not taken for the end."""
        server = serve(always(b"hello"))
        answer = ask(session, server.url)
        for limit in (0, -1):
            with pytest.raises(ValueError, match="limit"):
                answer.into_file(target.fd, 0, limit)
            with pytest.raises(ValueError, match="limit"):
                answer.read(limit)
        assert read(answer) == b"hello"

    def test_closed(self, serve, session, target):
        """An answer that was closed before its end gives nothing more."""
        server = serve(always(b"hello"))
        answer = ask(session, server.url)
        answer.close()
        with pytest.raises(ValueError, match="closed"):
            answer.read(1)
        with pytest.raises(ValueError, match="closed"):
            answer.into_file(target.fd, 0, 1)

    def test_timeout_of_zero(self, session):
        """A timeout of 0 is refused, as everywhere in `http`."""
        with FaultServer(always()) as server:
            with pytest.raises(ValueError, match="timeout"):
                lean.answer(session, server.url, {}, timeout=0)
            assert server.connections == 0


class TestConnections:
    """Connections go back into the pool only if nothing can be left on them."""

    def test_kept(self, serve, session):
        """One connection serves one request after the other, also those of requests."""
        server = serve(always())
        for _ in range(3):
            assert read(ask(session, server.url)) == b"hello"
            assert session.get(server.url).content == b"hello"
        assert server.connections == 1
        assert len(idle(session, server.url)) == 1

    def test_stop_is_let_go(self, serve, session):
        """An idle connection does not keep the stop of the request that it was used for."""
        server = serve(always())
        stop = StopEvent()
        assert read(ask(session, server.url, stop=stop)) == b"hello"
        gone = weakref.ref(stop)
        del stop
        gc.collect()
        assert gone() is None
        assert len(idle(session, server.url)) == 1

    def test_connection_close(self, serve, session):
        """A connection that the server says it will close is closed."""
        server = serve(always(headers={"Connection": "Close"}))
        for _ in range(2):
            assert read(ask(session, server.url)) == b"hello"
            assert idle(session, server.url) == []
        assert server.connections == 2

    @pytest.mark.parametrize("read_some", [False, True])
    def test_not_read(self, serve, session, read_some):
        """The connection of an answer that was not read to its end is closed."""
        server = serve(always(BIG))
        answer = ask(session, server.url)
        if read_some:
            answer.read(100)
        answer.close()
        assert idle(session, server.url) == []
        assert len(read(ask(session, server.url))) == len(BIG)
        assert server.connections == 2

    @pytest.mark.parametrize("when", ["with the head", "with the body", "behind the body"])
    def test_too_long(self, serve, session, target, when):
        """What comes behind the body is not taken for body, and not for the answer to the next request."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
        pieces = {
            "with the head": [head + b"0123456789HTTP/1.1 200 OK"],
            "with the body": [head + b"01234", b"56789HTTP/1.1 200 OK"],
            "behind the body": [head + b"0123456789", b"HTTP/1.1 200 OK"],
        }[when]
        first, *others = [steps.send(piece) for piece in pieces]
        server = serve([steps.expect(), first, steps.stall(), *others, steps.mark("sent"), steps.stall()], always())
        answer = ask(session, server.url)
        server.wait_for("stall")
        got = answer.read(5)
        server.resume()
        server.wait_for("sent")
        target.size = os.pwrite(target.fd, got, 0)
        assert target.take(answer) == b"0123456789"
        answer.close()
        assert read(ask(session, server.url)) == b"hello"
        assert server.connections == 2

    @pytest.mark.parametrize("end", [steps.close(), steps.reset()], ids=["close", "reset"])
    def test_stale(self, serve, session, end):
        """A kept connection that is closed as the request comes is replaced once, and the request made again."""
        server = serve([steps.expect(), steps.answer(b"one"), steps.expect(), end], always(b"two"))
        assert read(ask(session, server.url)) == b"one"
        assert read(ask(session, server.url)) == b"two"
        assert server.connections == 2
        assert len(server.requests) == 3

    def test_stale_twice(self, serve, session):
        """The new connection is not replaced again."""
        ends = [steps.expect(), steps.close()]
        server = serve([steps.expect(), steps.answer(b"one"), *ends], ends)
        assert read(ask(session, server.url)) == b"one"
        with pytest.raises(requests.ConnectionError):
            lean.answer(session, server.url, {})
        assert server.connections == 2
        assert idle(session, server.url) == []

    def test_dropped(self, serve, session):
        """A connection that was closed while it was idle is not used."""
        server = serve([steps.expect(), steps.answer(b"one"), steps.close()], always(b"two"))
        assert read(ask(session, server.url)) == b"one"
        server.wait_for("close")
        assert read(ask(session, server.url)) == b"two"
        assert len(server.requests) == 2

    def test_pool_block(self, background, stop):
        """With `pool_block` a request waits for a place, until a stop; then the place is there for the next one."""
        with FaultServer(always()) as server, http.Session(pool_size=1, pool_block=True) as session:
            first = ask(session, server.url)
            waiting = background(lean.answer, session, server.url, {}, stop=stop)
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(waiting.error(), Interrupted)
            waiting = background(ask, session, server.url, stop=(other := StopEvent()))
            wait_until_blocked(other)
            assert read(first) == b"hello"
            assert read(waiting.result()) == b"hello"
            assert server.connections == 1
            assert len(places_of(session, server.url)) == 1

    def test_place_is_not_lost(self, stop):
        """A request that found no place, in a thread that has another answer, leaves that one's place alone."""
        with FaultServer(always(BIG)) as server, http.Session(pool_size=1, pool_block=True) as session:
            first = ask(session, server.url)
            with pytest.raises(DeadlineExceeded):
                lean.answer(session, server.url, {}, stop=StopEvent(timeout=0.02))
            first.close()
            assert len(read(ask(session, server.url))) == len(BIG)

    def test_answered_before(self, serve, session, monkeypatch):
        """An answer that the server has given before the request could be sent is taken."""
        server = serve(always())
        kind = sockets.SSLSocket if session.verify is not True else sockets.Socket
        real = kind.sendall

        def broken(sock: socket.socket, data: bytes) -> None:
            real(sock, data)
            raise BrokenPipeError

        monkeypatch.setattr(kind, "sendall", broken)
        assert read(ask(session, server.url)) == b"hello"

    def test_pool_closed_meanwhile(self, session, monkeypatch):
        """A session that is closed by another thread in the midst of a request is an error of requests."""
        with FaultServer(always()) as server:
            assert read(ask(session, server.url)) == b"hello"
            pool: Any = session.get_adapter(server.url).poolmanager.connection_from_url(server.url)
            monkeypatch.setattr(lean.Origin, "pool", lambda self: pool)
            pool.close()
            with pytest.raises(requests.ConnectionError, match="Pool is closed"):
                lean.answer(session, server.url, {})

    def test_session_closed(self, serve, session):
        """A session that was closed works again, and an answer that was left open comes to its end."""
        server = serve(always())
        assert read(ask(session, server.url)) == b"hello"
        answer = ask(session, server.url)
        session.close()
        assert read(answer) == b"hello"
        del answer
        assert read(ask(session, server.url)) == b"hello"
        assert server.connections == 2


ODD = {
    "chunked": steps.answer(b"hello", chunked=True),
    "redirect": steps.redirect("/other"),
    "no length": steps.head(),
    "no content": steps.head(204),
    "a length and chunked": steps.head(length=5, chunked=True),
    "set-cookie": steps.answer(b"hello", headers={"Set-Cookie": "a=b"}),
    "gzip": steps.answer(b"hello", headers={"Content-Encoding": "gzip"}),
    "early hints": steps.send(b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "continue": steps.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "upgrade": steps.send(b"HTTP/1.1 101 Switching Protocols\r\nContent-Length: 0\r\n\r\n"),
    "http/1.0": steps.send(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "not http": steps.send(b"SSH-2.0-OpenSSH_9.2\r\n"),
    "no status": steps.send(b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"),
    "status of four": steps.send(b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n"),
    "bare line feeds": steps.send(b"HTTP/1.1 200 OK\nContent-Length: 0\n\r\n\r\n"),
    "a folded line": steps.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: b\r\n c\r\n\r\n"),
    "no colon": steps.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nwhat\r\n\r\n"),
    "a space before the colon": steps.send(b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
    "a null": steps.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nA: \0\r\n\r\n"),
    "two lengths": steps.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n"),
    "a list of lengths": steps.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0, 0\r\n\r\n"),
    "a signed length": steps.send(b"HTTP/1.1 200 OK\r\nContent-Length: +0\r\n\r\n"),
    "a length in other digits": steps.send("HTTP/1.1 200 OK\r\nContent-Length: ²\r\n\r\n".encode("latin-1")),
    "an endless length": steps.send(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n"),
    "two etags": steps.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nETag: 1\r\nETag: 2\r\n\r\n"),
    "an endless head": steps.send(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 30_000),
    "a long head": steps.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"A: b\r\n" * 11_000 + b"\r\n"),
    "the end in the head": steps.send(b"HTTP/1.1 200 OK\r\nContent-Le"),
}


class Nowhere(requests.adapters.BaseAdapter):
    """An adapter that has nothing of the standard one."""

    def close(self) -> None:
        pass


class TestLeftToRequests:
    """What is not plain is None, and the connection is gone."""

    @pytest.mark.parametrize("answer", ODD)
    def test_odd_answer(self, serve, session, answer):
        """An answer that is not strictly a plain one is none."""
        server = serve([steps.expect(), ODD[answer], steps.close()])
        assert lean.answer(session, server.url, {}) is None
        assert idle(session, server.url) == []

    def test_rests(self, session):
        """An origin that goes on to give such answers is not asked any more for a while; others are."""
        with FaultServer(always(chunked=True)) as odd, FaultServer(always()) as usual:
            for _ in range(5):
                assert lean.answer(session, odd.url, {}) is None
            assert len(odd.requests) == 2
            assert session.get(odd.url).content == b"hello"
            assert read(ask(session, usual.url)) == b"hello"

    def test_rest_ends(self, session, monkeypatch):
        """After that while it is asked again, and left alone again after one such answer."""
        monkeypatch.setattr(lean, "_RESTS_FOR", 0.0)
        chunked = {"/odd": [steps.answer(b"hello", chunked=True)], "/": [steps.answer(b"hello")]}
        with FaultServer([steps.repeat(steps.route(chunked))]) as server:
            for _ in range(3):
                assert lean.answer(session, f"{server.url}/odd", {}) is None
            monkeypatch.setattr(lean, "_RESTS_FOR", 60.0)
            assert read(ask(session, f"{server.url}/")) == b"hello"
            assert lean.answer(session, f"{server.url}/odd", {}) is None
            assert read(ask(session, f"{server.url}/")) == b"hello"
            assert lean.answer(session, f"{server.url}/odd", {}) is None
            assert lean.answer(session, f"{server.url}/odd", {}) is None
            assert lean.answer(session, f"{server.url}/", {}) is None

    @pytest.mark.parametrize(
        "change",
        [
            lambda s: s.cookies.set("a", "b"),
            lambda s: s.hooks["response"].append(lambda response, **_: response),
            lambda s: s.params.update(a="b"),
            lambda s: setattr(s, "params", [("a", "b")]),
            lambda s: setattr(s, "auth", requests.auth.HTTPDigestAuth("user", "password")),
            lambda s: setattr(s, "auth", lambda request: request),
            lambda s: s.proxies.update(http="http://127.0.0.1:9"),
            lambda s: s.mount("http://", requests.adapters.HTTPAdapter()),
            lambda s: s.mount("http://127", type("Own", (http.Adapter,), {})()),
            lambda s: s.mount("http://127", Nowhere()),
            lambda s: setattr(s, "send", None),
            lambda s: setattr(s.get_adapter("http://"), "send", None),
            lambda s: s.headers.update({"X": "a\r\nb"}),
            lambda s: s.headers.update({"X": "a\r\n b"}),
            lambda s: s.adapters.clear(),
        ],
        ids=[
            "cookies",
            "hooks",
            "params",
            "params-list",
            "digest",
            "callable-auth",
            "proxy",
            "adapter",
            "own-adapter",
            "other-adapter",
            "send",
            "adapter.send",
            "header",
            "folded",
            "none",
        ],
    )
    def test_changed_session(self, session, change):
        """A session that does anything of its own is left to requests, also if it comes to that later."""
        with FaultServer(always()) as server:
            assert read(ask(session, server.url)) == b"hello"
            adapters = list(session.adapters.values())
            change(session)
            assert lean.answer(session, server.url, {}) is None
            assert len(server.requests) == 1
            for adapter in (*adapters, *session.adapters.values()):
                adapter.close()

    @pytest.mark.parametrize(
        ("owner", "name"),
        [
            (requests.Session, "send"),
            (requests.Session, "request"),
            (requests.Session, "get_adapter"),
            (http.Session, "send"),
            (requests.adapters.HTTPAdapter, "send"),
            (http.Adapter, "send"),
            (urllib3.HTTPConnectionPool, "urlopen"),
        ],
    )
    @pytest.mark.parametrize("before", [False, True])
    def test_replaced_method(self, session, monkeypatch, owner, name, before):
        """Code that replaces a method of requests sees the requests, be it there before the session's first or later."""
        with FaultServer(always()) as server:
            if not before:
                assert read(ask(session, server.url)) == b"hello"
            real = getattr(owner, name)
            monkeypatch.setattr(owner, name, lambda *args, **kwargs: real(*args, **kwargs))
            assert lean.answer(session, server.url, {}) is None
            monkeypatch.undo()
            if not before:
                assert read(ask(session, server.url)) == b"hello"

    def test_mocked(self, session):
        """Answers that `responses` mocks come from there."""
        with FaultServer(always()) as server:
            assert read(ask(session, server.url)) == b"hello"
            with responses.RequestsMock() as mock:
                mock.get(server.url, body=b"mocked")
                assert lean.answer(session, server.url, {}) is None
                assert session.get(server.url).content == b"mocked"
            assert read(ask(session, server.url)) == b"hello"

    def test_other_sessions(self):
        """A class of somebody's own is left to requests; a session of requests with an `Adapter` is plain enough."""
        with FaultServer(always()) as server:
            for kind in (type("Own", (http.Session,), {}), requests.Session):
                with kind() as session:
                    assert lean.answer(session, server.url, {}) is None
            with requests.Session() as session:
                session.mount("http://", http.Adapter())
                assert read(ask(session, server.url)) == b"hello"

    @pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
    def test_proxy_of_the_environment(self, monkeypatch, name):
        """A proxy that the environment names is used by requests, unless no_proxy says otherwise or nobody trusts it."""
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        with FaultServer(always()) as server:
            with http.Session() as session:
                assert lean.answer(session, server.url, {}) is None
                session.trust_env = False
                assert read(ask(session, server.url)) == b"hello"
            monkeypatch.setenv("no_proxy", "127.0.0.1")
            with http.Session() as session:
                assert read(ask(session, server.url)) == b"hello"

    @pytest.mark.parametrize(
        "headers",
        [
            {"Host": "other.test"},
            {"Accept-Encoding": "gzip"},
            {"A": "b\r\nC: d"},
            {"A": "b\n"},
            {"A\r\nB": "c"},
            {"A B": "c"},
            {"A": " b"},
            {"A": "\u20ac"},
            {"A": None},
            {"A": b"b"},
            {"A": "1", "a": "2"},
            {"Expect": "100-continue"},
            {"Transfer-Encoding": "chunked"},
        ],
    )
    def test_headers_of_the_call(self, session, headers):
        """Headers that are not plain are left to requests, which refuses some of them."""
        with FaultServer(always()) as server:
            assert lean.answer(session, server.url, headers) is None
            assert server.connections == 0

    def test_authorization_twice(self, session):
        """Which of two authorizations counts, requests decides."""
        session.auth = "user", "password"
        with FaultServer(always()) as server:
            assert lean.answer(session, server.url, {"Authorization": "Bearer 1"}) is None

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://127.0.0.1/",
            "http://",
            "http:///x",
            "//127.0.0.1/x",
            "http://*.test/",
            "http://[::1/",
            "http://127.0.0.1:99999999/",
            "http://user:password@127.0.0.1:9/",
            "http://127.0.0.1:9//x",
            "http://\u20ac\u20ac..test/",
        ],
    )
    def test_urls(self, session, url):
        """URLs that are not plain, or none, are left to requests."""
        assert lean.answer(session, url, {}) is None


class TestRequests:
    """What is sent is what requests would send."""

    @pytest.mark.parametrize(
        "target",
        [
            "",
            "/",
            "/file",
            "/a/b/../c",
            "/./a",
            "/.hidden",
            "/a%20b",
            "/a b",
            "/%7euser/%e4%2f",
            "/\u00e4?q=\u20ac",
            "/file?",
            "/file?a=b&c=d/e?f",
            "?a=b",
            "/file?a=%zz",
            "/file#part",
            "/a;b,c=1:2@3!$&'()*+",
            "/[x]{y}|z",
            "/a//b",
        ],
    )
    def test_targets(self, session, target):
        """The target, and the URL that the answer gives, are those of requests."""
        with FaultServer(always()) as server:
            answer = ask(session, server.url + target)
            assert read(answer) == b"hello"
            response = session.get(server.url + target)
            mine, theirs = server.requests
            assert mine.target == theirs.target
            assert answer.url == response.url

    @pytest.mark.parametrize(
        "change",
        [
            lambda s: None,
            lambda s: setattr(s, "auth", ("user", "p\u00e4ssword")),
            lambda s: setattr(s, "auth", requests.auth.HTTPBasicAuth("user", "password")),
            lambda s: s.headers.update({"User-Agent": "me", "X-Mine": "1", "Cookie": "a=b", "Host": "other.test"}),
            lambda s: s.headers.update({"User-Agent": None}),
            lambda s: s.headers.clear(),
            lambda s: setattr(s, "headers", {"Accept-Encoding": "gzip", "accept": "text/plain"}),
        ],
        ids=["nothing", "auth", "basic-auth", "headers", "no-agent", "no-headers", "other-headers"],
    )
    @pytest.mark.parametrize(
        "headers", [{}, {"Range": "bytes=5-", "If-Range": '"1"'}, {"user-agent": "you", "X-Mine": ""}]
    )
    def test_headers(self, session, change, headers):
        """The headers are those of requests, also when the session changes: by its headers or its credentials."""
        with FaultServer(always()) as server:
            assert read(ask(session, server.url)) == b"hello"
            change(session)
            assert read(ask(session, server.url, headers)) == b"hello"
            session.get(server.url, headers={"Accept-Encoding": "identity", **headers})
            _, mine, theirs = server.requests
            assert said(mine.headers) == said(theirs.headers)

    def test_netrc(self, session, monkeypatch, tmp_path):
        """Credentials of .netrc are sent, as they are by then, and not to another host, nor if nobody trusts it."""
        netrc = tmp_path / "netrc"
        monkeypatch.setenv("NETRC", str(netrc))
        monkeypatch.setattr(lean, "_GOOD_FOR", 0.0)
        with FaultServer(always()) as server:
            for written in ("", "machine 127.0.0.1 login me password one", "machine 127.0.0.1 login me password two"):
                netrc.write_text(written)
                assert read(ask(session, server.url)) == b"hello"
                session.get(server.url)
                mine, theirs = server.requests[-2:]
                assert mine.headers["Authorization"] == theirs.headers["Authorization"]
                assert bool(written) == ("Authorization" in mine.headers)
            assert read(ask(session, server.url.replace("127.0.0.1", "localhost"))) == b"hello"
            assert "Authorization" not in server.requests[-1].headers
            session.trust_env = False
            assert read(ask(session, server.url)) == b"hello"
            assert "Authorization" not in server.requests[-1].headers

    def test_identity(self, session):
        """No coding is asked for, whether the caller says so or not."""
        with FaultServer(always()) as server:
            for headers in ({}, {"accept-encoding": "identity"}):
                assert read(ask(session, server.url, headers)) == b"hello"
                assert server.requests[-1].headers.get_all("Accept-Encoding") == ["identity"]

    def test_mutable_auth(self, session):
        """A password that is changed in the object that has it counts from then on."""
        session.auth = requests.auth.HTTPBasicAuth("user", "one")
        with FaultServer(always()) as server:
            assert read(ask(session, server.url)) == b"hello"
            session.auth.password = "two"
            assert read(ask(session, server.url)) == b"hello"
            first, second = (request.headers["Authorization"] for request in server.requests)
            assert first != second

    def test_many_origins(self, session, monkeypatch):
        """A session that has asked many hosts does not keep what it knew of all of them."""
        monkeypatch.setattr(lean, "_MOST_ORIGINS", 3)
        for number in range(10):
            assert lean.answer(session, f"http://user@host{number}.test/", {}) is None
            with pytest.raises(requests.ConnectionError):
                lean.answer(session, f"http://127.0.0.{number + 10}:9/", {})
            assert len(vars(session)["_iointerrupt_lean"]) <= 3

    def test_origins_that_are_gone(self, session):
        """What is known of an origin is dropped with its pool, as soon as another one is asked."""
        with FaultServer(always()) as one, FaultServer(always()) as other:
            for url in (one.url, other.url):
                assert read(ask(session, url)) == b"hello"
                assert list(vars(session)["_iointerrupt_lean"]) == [url]
                session.close()
                gc.collect()

    def test_session_is_let_go(self):
        """What is known of a session does not keep it, nor the reverse."""
        with FaultServer(always()) as server:
            session = http.Session()
            assert read(ask(session, server.url)) == b"hello"
            session.close()
            gone = weakref.ref(session)
            del session
            gc.collect()
            assert gone() is None


def said(headers):
    """Headers for comparison."""
    return sorted((name.lower(), value) for name, value in headers.items())
