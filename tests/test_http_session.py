"""http.Session, Adapter and Retry: settings, errors, trust, mocks and pickles."""

# ruff: noqa: F811 - fixtures are imported, and named again where they are asked for

from __future__ import annotations

import gc
import importlib
import io
import pickle
import socket
import ssl
import sys
import threading

import pytest
import requests
import responses
import trustme
import urllib3

import iointerrupt
from iointerrupt import Interrupted, StopEvent, http, sockets, use_stop
from iointerrupt.testing import FaultServer, steps, wait_until_blocked
from tests.scripts import STALL, always
from tests.test_http import authority, in_order, pool_of, session, tls  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("plain_environment")


class TestRetry:
    """http.Retry: its pauses stop."""

    def test_retry_after(self, background):
        """A pause for Retry-After stops, with the session's stop and with the current one."""
        for use_current in (False, True):
            stop = StopEvent()
            script = [steps.expect(), steps.answer(status=503, headers={"Retry-After": "20"}), steps.read_to_end()]

            def get(session: http.Session, current: StopEvent | None, url: str) -> None:
                with use_stop(current):
                    session.get(url)

            with (
                FaultServer(script) as server,
                http.Session(stop=None if use_current else stop, retries=http.Retry(3)) as session,
            ):
                running = background(get, session, stop if use_current else None, server.url)
                server.wait_for("answer")
                wait_until_blocked(stop)
                stop.set("no patience")
                assert running.error().reason == "no patience"
                assert server.connections == 1

    def test_backoff(self, background, caplog):
        """The pause between two attempts to connect stops."""
        caplog.set_level("CRITICAL", logger="urllib3")  # pytest would keep the records, and they the failed connection
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        stop = StopEvent()
        with http.Session(stop=stop, retries=http.Retry(5, backoff_factor=30)) as session:
            running = background(session.get, f"http://127.0.0.1:{port}/")
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(running.error(), Interrupted)

    def test_assigned(self, background):
        """Retries that an adapter gets later pause as those that it was made with."""
        stop = StopEvent()
        script = [
            steps.expect(),
            steps.answer(status=503, headers={"Retry-After": "20", "Connection": "close"}),
            steps.read_to_end(),  # the client closes before it pauses
        ]
        with FaultServer(script) as server, requests.Session() as session:
            adapter = http.Adapter(stop=stop)
            adapter.max_retries = urllib3.util.Retry(3, status_forcelist=[503])
            session.mount("http://", adapter)
            running = background(session.get, server.url)
            server.wait_for("read_to_end")
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(running.error(), Interrupted)
            assert server.connections == 1
            with pytest.raises(TypeError, match="must be an int"):
                adapter.max_retries = "3"

    def test_cap(self):
        """A Retry-After above the cap is cut down to it, also after increments and for dates."""
        retry = http.Retry(5, retry_after_max=0.5).increment("GET", "/").increment("GET", "/")
        assert retry.parse_retry_after("3600") == 0.5
        assert retry.parse_retry_after("Fri, 31 Dec 2100 23:59:59 GMT") == 0.5
        assert retry.parse_retry_after("0") == 0
        with pytest.raises(ValueError, match="retry_after_max"):
            http.Retry(retry_after_max=-1)

    def test_what_is_accepted(self):
        """Numbers and stock Retry objects become ones that stop; a class of its own pauses is refused."""
        assert http.Retry.of(None).total == 0
        assert http.Retry.of(3).total == 3
        stock = urllib3.util.Retry(4, backoff_factor=0.5, status_forcelist=[500])
        same = http.Retry.of(stock)
        assert isinstance(same, http.Retry)
        assert (same.total, same.backoff_factor, same.status_forcelist) == (4, 0.5, [500])
        assert http.Retry.of(same) is same

        class Own(urllib3.util.Retry):
            pass

        with pytest.raises(TypeError, match=r"derive it from iointerrupt\.http\.Retry"):
            http.Session(retries=Own(1))
        with pytest.raises(TypeError, match="must be an int"):
            http.Session(retries="3")
        with pytest.raises(ValueError, match="0 or more"):
            http.Session(retries=-1)

    def test_retries_happen(self):
        """A request that failed is tried again, as urllib3 does it."""
        script = [
            steps.expect(),
            steps.answer(status=503, headers={"Retry-After": "0"}),
            steps.expect(),
            steps.answer(b"at last"),
        ]
        with FaultServer(script) as server, http.Session(retries=http.Retry(3)) as session:
            assert session.get(server.url).content == b"at last"


class TestErrors:
    """What fails without a stop fails as with requests."""

    def test_refused(self, session):
        """A port where nobody listens is a ConnectionError."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(requests.ConnectionError, match="refused"):
            session.get(f"http://127.0.0.1:{port}/")

    def test_read_timeout(self, session):
        """Headers that do not come in time are a ReadTimeout, by the request's timeout or the session's."""
        with FaultServer(STALL) as server:
            with pytest.raises(requests.ReadTimeout):
                session.get(server.url, timeout=0.05)
            session.timeout = 0.05
            with pytest.raises(requests.ReadTimeout):
                session.get(server.url)
            in_order(pool_of(session.get_adapter(server.url), server.url))

    def test_lookup_timeout(self, session, monkeypatch):
        """A lookup that takes longer than the connect timeout is a ConnectTimeout, which requests itself cannot do."""
        release = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: release.wait(20))
        try:
            with pytest.raises(requests.ConnectTimeout):
                session.get("http://slow.test/", timeout=(0.05, 20))
        finally:
            release.set()

    def test_unknown_authority(self, session, tls):
        """A certificate of an unknown authority is an SSLError."""
        with (
            FaultServer(always(), tls=tls) as server,
            pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY"),
        ):
            session.get(server.url)

    def test_unverified(self, session, tls):
        """verify=False accepts it, with the warning of urllib3."""
        with FaultServer(always(), tls=tls) as server, pytest.warns(urllib3.exceptions.InsecureRequestWarning):
            assert session.get(server.url, verify=False).content == b"hello"

    def test_bad_host_name(self, session):
        """A name that cannot be one is an InvalidURL."""
        with pytest.raises(requests.exceptions.InvalidURL):
            session.get("http://.example.test/")

    def test_closed_with_an_error_that_is_kept(self, session):
        """`close` closes the free connections, also where an error that somebody keeps refers to their pool."""
        with FaultServer([steps.repeat(steps.expect(), steps.answer(b"hello"))]) as server:
            session.get(server.url)
            pool = pool_of(session.get_adapter(server.url), server.url)
            connection = next(each for each in pool.pool.queue if each is not None)
            session.close()
            assert connection.sock is None
            assert pool.pool.qsize() == 10
            assert session.get(server.url).content == b"hello"

    def test_bad_arguments(self):
        """A wrong stop, timeout, or size is a clear error, and nothing is left open."""
        with pytest.raises(TypeError, match="cannot be a stop"):
            http.Session(stop=True)
        with pytest.raises(ValueError, match="timeout"):
            http.Session(timeout=-1)
        with pytest.raises(ValueError, match="more than 0"):
            http.Session(timeout=(1, 0))
        with pytest.raises(TypeError, match="timeout"):
            http.Session(timeout="soon")
        with pytest.raises(ValueError, match="pool_size"):
            http.Session(pool_size=0)
        with pytest.raises(TypeError, match="pool_size"):
            http.Session(pool_size=2.5)
        with pytest.raises(TypeError, match="cannot be a stop"):
            http.Adapter(stop="now")


class TestTrust:
    """TLS contexts: shared where the same is trusted, and a user's own is all there is."""

    def test_shared(self, authority):
        """Connections that trust the same share a context; others do not."""
        from iointerrupt._http.trust import Trust

        trust = Trust("CERT_REQUIRED", authority[1])
        assert trust.context() is Trust("CERT_REQUIRED", authority[1]).context()
        assert trust.context() is not Trust("CERT_NONE").context()
        assert trust.context().sslsocket_class is sockets.SSLSocket

    def test_rotated_bundle(self, tmp_path, tls, authority, session):
        """A CA file that has changed on disk is read again."""
        bundle = tmp_path / "bundle.pem"
        trustme.CA().cert_pem.write_to_path(str(bundle))
        with FaultServer(always(), tls=tls) as server:
            with pytest.raises(requests.exceptions.SSLError):
                session.get(server.url, verify=str(bundle))
            authority[0].cert_pem.write_to_path(str(bundle))
            assert session.get(server.url, verify=str(bundle)).content == b"hello"

    def test_user_context_alone_decides(self, authority, tls):
        """With an ssl_context of the user neither the bundle of requests nor verify has a say."""
        context = ssl.create_default_context(cafile=authority[1])
        count = len(context.get_ca_certs())
        with FaultServer(always(), tls=tls) as server, http.Session(ssl_context=context) as session:
            assert session.get(server.url).content == b"hello"
            with pytest.raises(ValueError, match="verify=False"):
                session.get(server.url, verify=False)
        assert len(context.get_ca_certs()) == count
        assert context.verify_mode == ssl.CERT_REQUIRED
        with (
            FaultServer(always(), tls=tls) as server,
            http.Session(ssl_context=ssl.create_default_context()) as session,
            pytest.raises(requests.exceptions.SSLError),
        ):
            session.get(server.url, verify=authority[1])

    def test_context_with_foreign_sockets(self):
        """A context that makes sockets of a third class is refused."""

        class Foreign(ssl.SSLSocket):
            pass

        context = ssl.create_default_context()
        context.sslsocket_class = Foreign
        with (
            FaultServer(always()) as server,
            http.Session(ssl_context=context) as session,
            pytest.raises(TypeError, match="derive it from"),
        ):
            session.get(f"https://127.0.0.1:{server.port}/")

    def test_client_certificate(self, authority, tmp_path, session):
        """A client certificate is presented, on a context of its own."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority[0].issue_cert("127.0.0.1").configure_cert(context)
        authority[0].configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        pem = tmp_path / "client.pem"
        authority[0].issue_cert("client@example.test").private_key_and_cert_chain_pem.write_to_path(str(pem))
        with FaultServer(always(), tls=context) as server:
            assert session.get(server.url, verify=authority[1], cert=str(pem)).content == b"hello"
            with pytest.raises((requests.ConnectionError, requests.exceptions.SSLError)):
                session.get(server.url, verify=authority[1])


class TestMocked:
    """`responses` mocks our classes as it mocks those of requests."""

    @responses.activate
    def test_session(self):
        """A Session is mocked, and checks its stop before it asks."""
        responses.get("http://mocked.test/", body=b"mock")
        stop = StopEvent()
        with http.Session(stop=stop) as session:
            assert session.get("http://mocked.test/").content == b"mock"
            stop.set()
            with pytest.raises(Interrupted):
                session.get("http://mocked.test/")
        assert len(responses.calls) == 1

    @responses.activate
    def test_adapter_on_plain_session(self):
        """A plain session with an Adapter mounted is mocked as well."""
        responses.get("http://mocked.test/", body=b"mock")
        with requests.Session() as session:
            session.mount("http://", http.Adapter())
            assert session.get("http://mocked.test/").content == b"mock"


class TestAdapter:
    """http.Adapter on a session that somebody else made."""

    def test_stops(self, background):
        """A plain session with an Adapter mounted stops."""
        stop = StopEvent()
        with FaultServer(STALL) as server, requests.Session() as session:
            session.mount("http://", http.Adapter(stop=stop))
            running = background(session.get, server.url)
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(running.error(), Interrupted)

    def test_plain_event(self, background):
        """A plain threading.Event is as good a stop."""
        stop = threading.Event()
        with FaultServer(STALL) as server, http.Session(stop=stop) as session:
            running = background(session.get, server.url)
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(running.error(), Interrupted)

    def test_socket_options(self, monkeypatch):
        """Socket options are set before connecting."""
        seen = []
        real = sockets.Socket.setsockopt

        def record(sock, *option):
            if threading.current_thread() is threading.main_thread():  # and not the server's
                with pytest.raises(OSError):
                    sock.getpeername()
                seen.append(option)
            return real(sock, *option)

        monkeypatch.setattr(sockets.Socket, "setsockopt", record)
        with FaultServer(always()) as server, http.Session() as session:
            session.get(server.url)
        assert (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1) in seen


class TestImport:
    """What the module needs."""

    def test_old_urllib3(self, monkeypatch):
        """A urllib3 before 2.0 is an ImportError that says so."""
        monkeypatch.delattr(urllib3, "BaseHTTPResponse")
        monkeypatch.delitem(sys.modules, "iointerrupt.http")
        monkeypatch.delattr(iointerrupt, "http")
        with pytest.raises(ImportError, match=r"needs urllib3 2\.0 or newer"):
            importlib.import_module("iointerrupt.http")


class TestPickle:
    """Sessions are pickled as those of requests are."""

    def test_without_a_stop(self):
        """A session without a stop is pickled with its settings, and works afterwards."""
        with http.Session(timeout=3, retries=http.Retry(2, retry_after_max=7), pool_size=4) as original:
            original.headers["X"] = "y"
            copy = pickle.loads(pickle.dumps(original))
        assert (copy.timeout, copy.headers["X"], copy.stop) == (3, "y", None)
        adapter = copy.get_adapter("http://")
        assert adapter is copy.get_adapter("https://")
        assert (adapter.max_retries.total, adapter.max_retries.retry_after_max, adapter._pool_maxsize) == (2, 7, 4)
        with FaultServer(always()) as server, copy:
            copy.stop = StopEvent()
            assert copy.get(server.url).content == b"hello"
            copy.stop.set()
            with pytest.raises(Interrupted):
                copy.get(server.url)

    def test_with_a_stop(self):
        """A session with a stop says what to use instead."""
        with http.Session(stop=StopEvent()) as session, pytest.raises(TypeError, match=r"multiprocessing\.Event"):
            pickle.dumps(session)


@pytest.mark.parametrize("lengths", ["5, 6", "5\r\nContent-Length: 6"])
def test_two_lengths_leave_nothing_open(lengths):
    """An answer with two lengths is refused, as by requests, and its connection is closed before anybody collects garbage."""
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {lengths}\r\n\r\n".encode()
    script = [steps.expect(), steps.send(head + b"abc"), steps.read_to_end(), steps.mark("closed")]
    gc.disable()
    try:
        with FaultServer(script) as server, http.Session() as session:
            with pytest.raises(requests.exceptions.InvalidHeader, match="5 and 6"):
                session.get(server.url)
            server.wait_for("closed")
    finally:
        gc.enable()


def test_before_the_body_nothing_is_transferred(background, session):
    """A stop in the head of an answer says nothing of bytes: those of a line of it are nobody's."""
    session.stop = StopEvent()
    script = [steps.expect(), steps.send(b"HTTP/1.1 200 OK\r\nContent-Le"), steps.stall()]
    with FaultServer(script) as server:
        running = background(session.get, server.url)
        server.wait_for("stall")
        wait_until_blocked(session.stop)
        session.stop.set("enough")
        error = running.error()
        assert (str(error), error.transferred, error.partial) == ("interrupted: enough", None, None)


class Canned(requests.adapters.BaseAdapter):
    """An adapter that knows of no stop, as that which requests-mock puts in the place of all others."""

    def __init__(self):
        super().__init__()
        self.asked = 0

    def send(self, request, *args, **kwargs):
        self.asked += 1
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url, request
        response.raw = urllib3.HTTPResponse(body=io.BytesIO(b"0123456789"), preload_content=False)
        return response

    def close(self):
        """Nothing."""


class TestOtherAdapters:
    """A session whose requests somebody else's adapter sends."""

    @pytest.fixture
    def canned(self, monkeypatch):
        """The adapter, in the place of all."""
        adapter = Canned()
        monkeypatch.setattr(requests.Session, "get_adapter", lambda *_, **__: adapter)
        return adapter

    def test_stop_before(self, session, canned):
        """A stop that is set asks for nothing."""
        session.stop = StopEvent()
        session.stop.set()
        with pytest.raises(Interrupted):
            session.get("http://a.test/")
        assert canned.asked == 0

    def test_stop_of_the_session(self, session, canned):
        """It ends the reading of the body, also where it is set later."""
        chunks = http.iter_chunks(session.get("http://a.test/", stream=True), chunk_size=4)
        assert next(chunks) == b"0123"
        session.stop = StopEvent()
        session.stop.set()
        with pytest.raises(Interrupted):
            next(chunks)

    def test_without_a_stop(self, session, canned):
        """The answer is as it is."""
        assert session.get("http://a.test/").content == b"0123456789"
