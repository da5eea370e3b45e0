"""_http.lean, when it does not go well: stops, timeouts, failures of the connection, and files that refuse what comes."""

# ruff: noqa: F811 - fixtures are imported, and named again where they are asked for

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import suppress
from typing import Any

import pytest
import requests
import trustme
from urllib3.exceptions import InsecureRequestWarning

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, http, use_stop
from iointerrupt._http import lean, splice
from iointerrupt.testing import Connection, FaultServer, StopAfter, steps, wait_until_blocked
from tests.scripts import STALL, always
from tests.test_http import session  # noqa: F401 - fixtures
from tests.test_http_lean import BIG, MOST, Target, ask, idle, read, serve, target, way  # noqa: F401 - some are fixtures

pytestmark = pytest.mark.usefixtures("plain_environment")

HALF = 1_500_000

#: Stops answering in the middle of a large body, then goes on.
STALL_IN_BIG: steps.Script = [
    steps.expect(),
    steps.head(length=len(BIG)),
    steps.send(BIG[:HALF]),
    steps.stall(),
    steps.send(BIG[HALF:]),
    steps.read_to_end(),
]

# In which phase the server stalls; with TLS for some.
PHASES: dict[str, steps.Script] = {
    "connect": [steps.stall_connect()],
    "handshake": [steps.stall_handshake()],
    "no answer": STALL,
    "in the status line": [steps.expect(), steps.send(b"HTTP/1.1 20"), steps.stall()],
    "in a field": [steps.expect(), steps.send(b"HTTP/1.1 200 OK\r\nContent-Le"), steps.stall()],
}


def take_all(answer: lean.LeanAnswer, target: Target) -> None:
    """Take the body, and count what was taken before a stop."""
    try:
        target.take(answer)
    except Interrupted as interrupted:
        assert interrupted.transferred is not None
        target.size += interrupted.transferred
        raise


class TestStops:
    """A stop in each phase."""

    @pytest.mark.parametrize("phase", PHASES)
    @pytest.mark.parametrize("whose", ["call", "session", "current"])
    def test_phases(self, background, fault_server, session, stop, phase, whose):
        """It raises Interrupted, whose stop it may be, and leaves the pool in order."""
        server = fault_server(PHASES[phase], tls=phase == "handshake")
        session.verify = server.ca_file if phase == "handshake" else True
        session.stop = stop if whose == "session" else None

        def run() -> None:
            with use_stop(stop if whose == "current" else None):
                lean.answer(session, server.url, {}, stop=stop if whose == "call" else StopEvent(), timeout=50)

        running = background(run)
        server.wait_for(PHASES[phase][-1].name)
        wait_until_blocked(stop)
        stop.set("enough")
        error = running.error()
        assert type(error) is Interrupted
        assert error.reason == "enough"
        assert idle(session, server.url) == []

    def test_name_lookup(self, background, session, stop, monkeypatch):
        """The lookup of a name stops as well."""
        release = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: release.wait(20) and [])
        running = background(lean.answer, session, "http://slow.test/", {}, stop=stop)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(running.error(), Interrupted)
        release.set()

    def test_set_before(self, session, stop):
        """A stop that is set before keeps the request from being made."""
        stop.set()
        with FaultServer(always()) as server:
            with pytest.raises(Interrupted):
                lean.answer(session, server.url, {}, stop=stop)
            assert server.connections == 0

    def test_deadline(self, session):
        """The stop may be a deadline."""
        with FaultServer(STALL) as server, pytest.raises(DeadlineExceeded):
            lean.answer(session, server.url, {}, stop=StopEvent(timeout=0.05))

    @pytest.mark.parametrize("whose", ["call", "session", "current"])
    def test_body(self, background, serve, session, stop, target, whose):
        """What was taken of the body is in the file, to the byte, and the rest can be had after the stop."""
        server = serve(STALL_IN_BIG)
        session.stop = stop if whose == "session" else None
        answer = ask(session, server.url, stop=stop if whose == "call" else None)

        def run() -> None:
            with use_stop(stop if whose == "current" else None):
                take_all(answer, target)

        running = background(run)
        server.wait_for("stall")
        wait_until_blocked(stop)
        stop.set()
        error = running.error()
        assert type(error) is Interrupted
        assert target.content() == BIG[: target.size]
        if whose == "current":
            server.resume()
            assert target.take(answer) == BIG
        else:
            for _ in range(2):
                with pytest.raises(Interrupted) as caught:
                    answer.into_file(target.fd, target.size, MOST)
                assert caught.value.transferred == 0
        answer.close()
        assert len(idle(session, server.url)) == (whose == "current")

    def test_between_pieces(self, serve, session, target, monkeypatch, way):
        """A stop within a call that has moved something already: its count is exact."""
        stop = StopEvent()
        server = serve(STALL_IN_BIG)
        answer = ask(session, server.url, stop=stop)
        target.size += answer.into_file(target.fd, 0, MOST)
        name = "splice" if way == "splice" else "pwrite"
        real = getattr(os, name)

        def then_stop(*args: Any, **kwargs: Any) -> int:
            moved: int = real(*args, **kwargs)
            if name == "pwrite" or "offset_dst" in kwargs:
                stop.set()
            return moved

        monkeypatch.setattr(os, name, then_stop)
        before = target.size
        with pytest.raises(Interrupted):
            take_all(answer, target)
        assert target.size > before
        assert target.content() == BIG[: target.size]
        answer.close()

    @pytest.mark.parametrize("n", range(1, 12))
    def test_each_check(self, serve, session, target, n):
        """Wherever it is stopped, what is in the file is the beginning of the body, and what was counted."""
        server = serve(always(BIG))
        stop = StopAfter(n)
        try:
            answer = lean.answer(session, server.url, {}, stop=stop)
        except Interrupted:
            return
        assert answer is not None
        try:
            take_all(answer, target)
        except Interrupted as interrupted:
            assert interrupted.reason == f"check {n}"
        assert target.content() == BIG[: target.size]
        answer.close()

    def test_read(self, background, serve, session, stop):
        """Reading stops, and loses nothing."""
        server = serve([steps.expect(), steps.head(length=8), steps.send(b"half"), steps.stall(), steps.send(b"half")])
        answer = ask(session, server.url)
        assert answer.read(4) == b"half"

        def run() -> None:
            with use_stop(stop):
                answer.read(4)

        running = background(run)
        wait_until_blocked(stop)
        stop.set()
        assert running.error().transferred == 0
        server.wait_for("stall")
        server.resume()
        assert read(answer) == b"half"

    def test_two_threads(self, background, session):
        """Two threads use one session with stops of their own, and one is stopped alone."""
        stops = StopEvent(), StopEvent()
        script = [steps.expect(), steps.stall(), steps.answer(b"hello")]

        def run(stop: StopEvent, url: str) -> bytes:
            with use_stop(stop):
                return read(ask(session, url))

        with FaultServer(script) as server:
            first, second = (background(run, stop, server.url) for stop in stops)
            for stop in stops:
                wait_until_blocked(stop)
            server.wait_for("stall", 2)
            stops[0].set()
            assert isinstance(first.error(), Interrupted)
            server.resume()
            assert second.result() == b"hello"


class TestTimeouts:
    """Nothing comes in time, in each phase."""

    @pytest.mark.parametrize("phase", PHASES)
    def test_phases(self, fault_server, session, phase):
        """It raises what requests raises, and leaves the pool in order."""
        server = fault_server(PHASES[phase], tls=phase == "handshake")
        session.verify = server.ca_file if phase == "handshake" else True
        expected = requests.ConnectTimeout if phase == "connect" else requests.ReadTimeout
        with pytest.raises(expected) as caught:
            lean.answer(session, server.url, {}, timeout=0.05)
        assert caught.value.request.url == server.url + "/"
        assert idle(session, server.url) == []
        with pytest.raises(expected):
            session.get(server.url, timeout=0.05)

    def test_body(self, serve, session, target):
        """What came before is in the file and counted; when the body goes on, it can be taken on."""
        server = serve(STALL_IN_BIG)
        answer = ask(session, server.url, timeout=0.1)
        while target.size < HALF:
            with suppress(http.ReadTimeout):
                target.size += answer.into_file(target.fd, target.size, MOST)
        with pytest.raises(http.ReadTimeout) as caught:
            target.take(answer)
        assert caught.value.response.url == server.url + "/"
        assert target.content() == BIG[:HALF]
        with pytest.raises(http.ReadTimeout):
            answer.read(1)
        server.wait_for("stall")
        server.resume()
        while target.size < len(BIG):
            with suppress(http.ReadTimeout):
                target.size += answer.into_file(target.fd, target.size, MOST)
        assert target.take(answer) == BIG
        answer.close()
        assert len(idle(session, server.url)) == 1

    def test_anew(self, serve, session):
        """Each request has its own timeout, on the same connection."""
        server = serve(
            [steps.expect(), steps.answer(b"one"), steps.expect(), steps.answer(b"two"), steps.expect(), steps.stall()]
        )
        assert read(ask(session, server.url, timeout=50)) == b"one"
        assert read(ask(session, server.url)) == b"two"
        with pytest.raises(requests.ReadTimeout):
            lean.answer(session, server.url, {}, timeout=0.05)
        assert server.connections == 1


class TestFailures:
    """The connection fails: as in requests, and nothing is lost that came before."""

    @pytest.mark.parametrize("end", [steps.close(), steps.reset()], ids=["close", "reset"])
    def test_before_the_answer(self, serve, session, end):
        """A connection that ends before the answer is the same error as in requests, without another try."""
        server = serve([steps.expect(), end])
        with pytest.raises(requests.ConnectionError) as mine:
            lean.answer(session, server.url, {})
        assert server.connections == 1
        with pytest.raises(requests.ConnectionError) as theirs:
            session.get(server.url)
        assert type(mine.value) is type(theirs.value)
        assert str(mine.value) == str(theirs.value)
        assert idle(session, server.url) == []

    def test_refused(self, session):
        """No server is a ConnectionError."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(requests.ConnectionError, match="refused") as mine:
            lean.answer(session, url, {})
        with pytest.raises(requests.ConnectionError, match="refused") as theirs:
            session.get(url)
        assert type(mine.value) is type(theirs.value)
        assert type(mine.value.args[0]) is type(theirs.value.args[0])

    def test_unknown_name(self, session, monkeypatch):
        """A name that nobody knows is a ConnectionError, which says so."""

        def unknown(*args: Any, **kwargs: Any) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        with pytest.raises(requests.ConnectionError, match="resolve"):
            lean.answer(session, "http://no.test/", {})

    def test_bad_name(self, session):
        """A name that cannot be one is refused as requests refuses it."""
        url = f"http://{'x' * 70}.test/"
        with pytest.raises(Exception, match="label") as mine:
            lean.answer(session, url, {})
        with pytest.raises(Exception, match="label") as theirs:
            session.get(url)
        assert type(mine.value) is type(theirs.value)

    def test_wrong_authority(self, session, tmp_path):
        """A server whose certificate is not trusted gets no request."""
        other = tmp_path / "other.pem"
        trustme.CA().cert_pem.write_to_path(str(other))
        with FaultServer(always(), tls=True) as server:
            session.verify = server.ca_file
            assert read(ask(session, server.url)) == b"hello"
            session.verify = str(other)
            with pytest.raises(requests.exceptions.SSLError, match="certificate verify failed"):
                lean.answer(session, server.url, {})
            session.verify = str(tmp_path / "none.pem")
            assert lean.answer(session, server.url, {}) is None
            assert len(server.requests) == 1

    def test_unverified(self, session):
        """Without verification there is the warning of urllib3."""
        session.verify = False
        with FaultServer(always(), tls=True) as server:
            with pytest.warns(InsecureRequestWarning):
                assert read(ask(session, server.url)) == b"hello"

    @pytest.mark.parametrize("end", [steps.close(), steps.reset()], ids=["close", "reset"])
    @pytest.mark.parametrize("size", [5, HALF])
    def test_in_the_body(self, serve, session, target, end, size):
        """A body that ends too early is an error of requests, and what came of it is in the file."""
        server = serve([steps.expect(), steps.head(length=len(BIG)), steps.send(BIG[:size]), steps.stall(), end])
        answer = ask(session, server.url)
        while target.size < size:
            target.size += answer.into_file(target.fd, target.size, MOST)
        server.wait_for("stall")
        server.resume()
        for _ in range(2):
            with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
                answer.into_file(target.fd, target.size, MOST)
        if isinstance(end, steps.close):
            assert f"IncompleteRead({size} bytes read, {len(BIG) - size} more expected)" in str(caught.value)
        assert caught.value.response.status_code == 200
        assert target.content() == BIG[:size]
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            answer.read(10)
        answer.close()
        assert idle(session, server.url) == []

    def test_nonsense_in_tls(self, session, target, fault_server):
        """What is no TLS, in the midst of it, is an SSLError."""

        def nonsense(connection: Connection) -> None:
            os.write(connection.sock.fileno(), b"nonsense" * 100)

        server = fault_server([steps.expect(), steps.head(length=100), steps.send(b"half"), nonsense], tls=True)
        session.verify = server.ca_file
        answer = ask(session, server.url)
        with pytest.raises(requests.exceptions.SSLError):
            target.take(answer)
        assert target.content() == b"half"
        answer.close()

    def test_end_behind_bytes(self, serve, session, target):
        """Bytes that come together with the end are delivered before it is an error."""
        server = serve([steps.expect(), steps.head(length=len(BIG)), steps.send(BIG[:HALF]), steps.close()])
        answer = ask(session, server.url)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            target.take(answer)
        assert target.content() == BIG[:HALF]
        answer.close()


class TestTargets:
    """Files that do not take what comes."""

    @pytest.mark.parametrize("body", [b"hello", BIG], ids=["small", "big"])
    def test_full(self, serve, session, body):
        """A full disk is a TargetError, not one of the network."""
        server = serve(always(body))
        answer = ask(session, server.url)
        fd = os.open("/dev/full", os.O_WRONLY)
        try:
            with pytest.raises(lean.TargetError, match="No space") as caught:
                while answer.into_file(fd, 0, MOST):
                    pass
        finally:
            os.close(fd)
        assert not isinstance(caught.value, OSError)
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.ENOSPC
        assert caught.value.transferred == 0
        answer.close()
        assert idle(session, server.url) == []

    @pytest.mark.parametrize("body", [b"hello", BIG], ids=["small", "big"])
    def test_read_only(self, serve, session, tmp_path, body):
        """So is a file that is not open for writing."""
        server = serve(always(body))
        answer = ask(session, server.url)
        first = answer.read(1 << 16)  # what may have come with the head
        (tmp_path / "file").touch()
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        try:
            if len(first) < len(body):
                with pytest.raises(lean.TargetError, match="Bad file descriptor"):
                    answer.into_file(fd, 0, MOST)
        finally:
            os.close(fd)
        answer.close()

    def test_limit_of_size(self, serve, session, tmp_path, way):
        """A file that may not grow any more has what was counted, to the byte."""
        server = serve(always(BIG))
        code = """
            import os, resource, sys
            from iointerrupt import http
            from iointerrupt._http import lean, splice
            url, path, ca, way = sys.argv[1:]
            if way == "copy":
                splice._LEAST_SPLICED = sys.maxsize
            resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_003, 1_000_003))
            with http.Session() as session:
                session.verify = ca
                answer = lean.answer(session, url, {})
                fd, size = os.open(path, os.O_WRONLY | os.O_CREAT), 0
                try:
                    while count := answer.into_file(fd, size, 1 << 20):
                        size += count
                except lean.TargetError as error:
                    print(size + error.transferred, error.__cause__.errno)
                answer.close()
        """
        ca = server.ca_file if way == "tls" else ""
        args = [sys.executable, "-c", textwrap.dedent(code), server.url, str(tmp_path / "file"), ca, way]
        out = subprocess.run(args, capture_output=True, text=True, check=True, timeout=50)
        assert out.stdout.split() == ["1000003", str(errno.EFBIG)]
        assert (tmp_path / "file").read_bytes() == BIG[:1_000_003]


class TestWithoutSplice:
    """Where splice(2) is refused, by whatever it may be, the bytes take the other way, and none is lost."""

    @pytest.fixture
    def server(self, fault_server):
        """A server with a large body."""
        return fault_server(always(BIG))

    def check(self, session: requests.Session, url: str, target: Target) -> None:
        """Get the body."""
        answer = ask(session, url)
        assert target.take(answer) == BIG
        answer.close()
        assert len(idle(session, url)) == 1

    def test_refused_by_the_file(self, session, server, tmp_path):
        """By the file: one that is open for appending, in reality."""
        target = Target(tmp_path / "file")
        fcntl.fcntl(target.fd, fcntl.F_SETFL, os.O_APPEND)
        self.check(session, server.url, target)
        os.close(target.fd)

    @pytest.mark.parametrize("side", ["socket", "file"])
    @pytest.mark.parametrize("after", [0, 1, 2])
    def test_refused_later(self, session, server, target, monkeypatch, side, after):
        """At the first time or later, on either side, also with a part of a piece moved already."""
        real = os.splice
        seen = 0

        def refuse(source: int, to: int, count: int, **how: Any) -> int:
            nonlocal seen
            if ("offset_dst" in how) == (side == "file"):
                seen += 1
                if seen > after:
                    raise OSError(errno.EINVAL, "refused")
                count = min(count, 50_000)
            moved: int = real(source, to, count, **how)
            return moved

        monkeypatch.setattr(os, "splice", refuse)
        self.check(session, server.url, target)
        assert seen == after + 1

    def test_no_pipe(self, session, server, target, monkeypatch):
        """Without a descriptor left for the pipe."""

        def none() -> None:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

        monkeypatch.setattr(os, "pipe", none)
        self.check(session, server.url, target)

    def test_small_pipe(self, session, server, target, monkeypatch):
        """With a pipe that may not be made larger it is still used."""
        real = fcntl.fcntl

        def refuse(fd: int, command: int, *args: Any) -> Any:
            if command == fcntl.F_SETPIPE_SZ:
                raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
            return real(fd, command, *args)

        monkeypatch.setattr(fcntl, "fcntl", refuse)
        monkeypatch.setattr(os, "pwrite", None)
        answer = ask(session, server.url)
        first = answer.read(1 << 16)
        monkeypatch.setattr(splice, "_LEAST_SPLICED", 1)
        os.lseek(target.fd, 0, os.SEEK_SET)
        os.write(target.fd, first)
        target.size = len(first)
        assert target.take(answer) == BIG
        answer.close()

    def test_never(self, session, server, target, monkeypatch):
        """On a platform that has none."""
        monkeypatch.delattr(os, "splice")
        self.check(session, server.url, target)

    def test_answer_that_is_dropped(self, session, server, target):
        """An answer that nobody closes leaves no pipe behind."""
        answer = ask(session, server.url)
        answer.read(1 << 16)
        answer.into_file(target.fd, 0, MOST)
        pipe: Any = answer._pipe
        assert os.fstat(pipe.reader)
        answer._connection.close()
        reader = pipe.reader
        del answer, pipe
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(reader)
