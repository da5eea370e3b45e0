"""http.Session: every phase of a request stops, and the pool is in order afterwards."""

from __future__ import annotations

import io
import socket
import ssl
import threading

import pytest
import requests
import trustme
import urllib3

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, http, sockets, use_stop
from iointerrupt.testing import Connection, FaultServer, StopAfter, steps, wait_until_blocked
from tests.scripts import STALL, STALL_IN_BODY, always

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate authority that the tests trust, and where its certificate is."""
    authority = trustme.CA()
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return authority, str(path)


@pytest.fixture
def tls(authority):
    """A server's TLS context, with a certificate for the loopback."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority[0].issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def session():
    """A session, closed at the end."""
    with http.Session(stop=StopEvent()) as session:
        yield session
    session.stop = None  # pytest keeps the session for longer than the stop's descriptor may stay


def pool_of(adapter: requests.adapters.HTTPAdapter, url: str) -> urllib3.HTTPConnectionPool:
    """The only pool that the adapter has for the URL."""
    pools = adapter.poolmanager.pools
    found: list[urllib3.HTTPConnectionPool] = [pools[key] for key in pools.keys()]  # noqa: SIM118 - it cannot be iterated over
    assert len(found) == 1, (found, url)
    return found[0]


def in_order(pool: urllib3.HTTPConnectionPool, maxsize: int = 10) -> None:
    """Every place of the pool is free, and no connection in it is open."""
    assert pool.pool is not None
    assert pool.pool.qsize() == maxsize
    assert [c for c in pool.pool.queue if c is not None and not c.is_closed] == []


class TestPhases:
    """A stop in each phase of a request: Interrupted, one connection, a pool in order, a session that works on."""

    def interrupt(self, background, session, url, reason="now", server=None, stalls=1, **request):
        """Stop a request that is blocked, once the server, if given, stalls, and give the session another stop."""
        stop = session.stop
        running = background(session.request, request.pop("method", "GET"), url, **request)
        if server is not None:
            server.wait_for("stall", stalls)
        wait_until_blocked(stop)
        stop.set(reason)
        error = running.error()
        assert type(error) is Interrupted, repr(error)
        assert error.reason == reason
        session.stop = StopEvent()
        return error

    def test_headers(self, background, session):
        """Waiting for the headers stops; the connection is closed, and the session goes on with another stop."""
        with FaultServer(STALL, always()) as server:
            self.interrupt(background, session, server.url, server=server)
            pool = pool_of(session.get_adapter(server.url), server.url)
            in_order(pool)
            assert session.get(server.url).content == b"hello"
            assert pool.num_connections == 2

    @pytest.mark.parametrize("stream", [False, True])
    def test_body(self, background, session, stream):
        """Reading the body stops, within the request and after it."""

        def read() -> bytes:
            content: bytes = session.get(server.url, stream=stream).content
            return content

        with FaultServer(STALL_IN_BODY) as server:
            running = background(read)
            wait_until_blocked(session.stop)
            session.stop.set()
            assert isinstance(running.error(), Interrupted)
            in_order(pool_of(session.get_adapter(server.url), server.url))

    @pytest.mark.parametrize(
        "read",
        [
            lambda r: b"".join(r.iter_content(3)),
            lambda r: list(r.iter_lines()),
            lambda r: r.raw.read(),
            lambda r: r.raw.read(1000),
            lambda r: r.raw.readinto(bytearray(1000)),
            lambda r: r.json(),
            lambda r: r.text,
        ],
        ids=["iter_content", "iter_lines", "raw.read", "raw.read(n)", "raw.readinto", "json", "text"],
    )
    def test_ways_to_read(self, background, session, read):
        """However a streamed body is read, reading it stops, and the connection is gone."""
        with FaultServer(STALL_IN_BODY) as server:
            response = session.get(server.url, stream=True)
            running = background(read, response)
            wait_until_blocked(session.stop)
            session.stop.set()
            assert isinstance(running.error(), Interrupted)
            in_order(pool_of(session.get_adapter(server.url), server.url))

    def test_name_lookup(self, background, session, monkeypatch):
        """Looking the name up stops, and the lookup is left behind."""
        release = threading.Event()
        real = socket.getaddrinfo

        def slow(host, *args, **kwargs):
            if host == "slow.test":
                assert release.wait(20)
                raise socket.gaierror(socket.EAI_NONAME, "no such name")
            return real(host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        try:
            self.interrupt(background, session, "http://slow.test/")
        finally:
            release.set()
        with pytest.raises(requests.ConnectionError, match=r"NameResolutionError|resolve"):
            session.get("http://slow.test/")

    def test_connect(self, background, session):
        """Connecting stops, to a listener that takes no more connections."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            address = listener.getsockname()
            waiting = []
            try:
                while True:  # until the backlog is full, and a connection stays half open
                    waiting.append(socket.socket())
                    waiting[-1].settimeout(0.2)
                    waiting[-1].connect(address)
            except TimeoutError:
                pass
            self.interrupt(background, session, f"http://127.0.0.1:{address[1]}/")
            for sock in waiting:
                sock.close()

    def test_tls_handshake(self, background, session, authority):
        """The TLS handshake stops, with a server that never answers it."""
        with FaultServer([steps.read_to_end()]) as server:
            self.interrupt(background, session, f"https://127.0.0.1:{server.port}/", verify=authority[1])
            in_order(pool_of(session.get_adapter(server.url), server.url))

    def test_tls_headers_and_body(self, background, session, authority, tls):
        """Over TLS, waiting for the headers stops, and reading the body too."""
        paths = {
            "/stall": [steps.stall()],
            "/half": [steps.head(length=8), steps.send(b"half"), steps.stall()],
            "/": [steps.answer(b"half")],
        }
        session.verify = authority[1]
        with FaultServer([steps.route(paths)], tls=tls) as server:
            for number, path in enumerate(("/stall", "/half"), 1):
                self.interrupt(background, session, server.url + path, server=server, stalls=number)
                in_order(pool_of(session.get_adapter(server.url), server.url))
            assert session.get(server.url).content == b"half"

    @pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
    @pytest.mark.parametrize("body", ["bytes", "file", "generator"])
    def test_upload(self, background, session, authority, tls, body, encrypted):
        """Sending the body stops, with a server that does not read it."""
        data = {
            "bytes": b"x" * 30_000_000,
            "file": io.BytesIO(b"x" * 30_000_000),
            "generator": (b"x" * 100_000 for _ in range(300)),
        }[body]
        never_reads = [steps.expect("POST", read_body=False), steps.stall()]
        with FaultServer(never_reads, tls=tls if encrypted else False) as server:
            self.interrupt(
                background, session, server.url, server=server, method="POST", data=data, verify=authority[1]
            )
            in_order(pool_of(session.get_adapter(server.url), server.url))

    def test_redirects(self, session):
        """A redirect loop stops between two requests."""
        hops = []

        def hop(connection: Connection) -> None:
            while (request := connection.read_request()) is not None:
                hops.append(request.path)
                if len(hops) == 3:
                    session.stop.set("enough")
                connection.answer(status=302, headers={"Location": f"/{len(hops)}"})

        session.max_redirects = 1000
        with FaultServer([hop]) as server, pytest.raises(Interrupted, match="enough"):
            session.get(server.url)
        assert len(hops) == 3
        in_order(pool_of(session.get_adapter("http://"), ""))

    def test_proxy_connect(self, background, session, authority):
        """Waiting for a proxy's answer to CONNECT stops."""
        with FaultServer([steps.expect("CONNECT", "origin.test:443"), steps.stall()]) as server:
            proxies = {"https": server.url}
            self.interrupt(background, session, "https://origin.test/", server=server, proxies=proxies)
            manager = session.get_adapter("https://").proxy_manager[server.url]
            in_order(manager.pools.get(next(iter(manager.pools.keys()))))

    def test_deadline(self, session):
        """A deadline raises DeadlineExceeded, also where requests turns a timeout into its own error."""
        session.stop = StopEvent(timeout=0.05)
        with FaultServer(STALL) as server, pytest.raises(DeadlineExceeded):
            session.get(server.url, timeout=20)

    def test_stop_is_set_before(self, session):
        """With a stop that is set, no connection is made."""
        session.stop.set("early")
        with FaultServer(always()) as server:
            with pytest.raises(Interrupted, match="early"):
                session.get(server.url)
            assert server.connections == 0

    def test_at_each_check(self):
        """Wherever in a request the stop comes, it raises Interrupted or the answer is whole; the pool is in order."""
        with FaultServer(always()) as server, http.Session() as session:
            assert session.get(server.url).content == b"hello"
            pool = pool_of(session.get_adapter(server.url), server.url)
            for n in range(1, 100):
                session.stop = StopAfter(n)
                try:
                    assert session.get(server.url).content == b"hello"
                    break
                except Interrupted:
                    assert pool.pool.qsize() == 10
            assert 5 < n < 99
            session.stop = None
            assert session.get(server.url).content == b"hello"

    def test_current_stops(self, background):
        """Threads that share a session are each interrupted by their own current stop."""
        stops = [StopEvent() for _ in range(4)]

        def get(stop: StopEvent) -> bytes:
            with use_stop(stop):
                content: bytes = session.get(server.url).content
                return content

        script = [steps.expect(), steps.stall(), steps.answer(b"late")]
        with FaultServer(script) as server, http.Session() as session:
            running = [background(get, stop) for stop in stops]
            for stop in stops:
                wait_until_blocked(stop)
            server.wait_for("stall", len(stops))
            for stop in stops[::2]:
                stop.set()
            for one in running[::2]:
                assert isinstance(one.error(), Interrupted)
            server.resume()
            assert [one.result() for one in running[1::2]] == [b"late", b"late"]

    def test_no_retry(self, background):
        """An interrupted request is not tried again."""
        with FaultServer(STALL) as server, http.Session(stop=StopEvent(), retries=http.Retry(5)) as session:
            self.interrupt(background, session, server.url, server=server)
            assert server.connections == 1


class TestProxies:
    """Requests through proxies are answered, and stop."""

    @staticmethod
    def relay(connection: Connection) -> None:
        """An http proxy that connects where CONNECT says, or answers a forwarded request itself."""
        head = connection.read_request(body=False)
        assert head is not None
        if head.method != "CONNECT":
            connection.answer(f"for {head.path}".encode())
            return
        host, port = head.path.rsplit(":", 1)
        with sockets.create_connection((host, int(port)), stop=connection.server.stop) as target:
            connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=TestProxies.pump, args=(target, connection.sock))
            back.start()
            TestProxies.pump(connection.sock, target)
            back.join(10)

    @staticmethod
    def pump(source: socket.socket, target: socket.socket) -> None:
        """Copy until the end."""
        try:
            while data := source.recv(65536):
                target.sendall(data)
            if not isinstance(target, ssl.SSLSocket):  # whose shutdown would end the other direction too
                target.shutdown(socket.SHUT_WR)
        except (OSError, Interrupted):
            pass

    def test_forwarding(self, session):
        """An http request goes to the proxy with the whole URL."""
        with FaultServer([self.relay]) as proxy:
            response = session.get("http://origin.test/x", proxies={"http": proxy.url})
            assert response.content == b"for http://origin.test/x"

    @pytest.mark.parametrize("encrypted", [False, True], ids=["http proxy", "https proxy"])
    def test_tunnel(self, session, authority, tls, encrypted, background):
        """An https request goes through a tunnel, TLS in TLS for an https proxy; reading from it stops."""
        session.verify = authority[1]
        with (
            FaultServer([self.relay], tls=tls if encrypted else False) as proxy,
            FaultServer(always(b"through"), STALL_IN_BODY, tls=tls) as origin,
        ):
            session.proxies = {"https": proxy.url}
            assert session.get(origin.url, headers={"Connection": "close"}).content == b"through"
            session.close()
            response = session.get(origin.url, stream=True)
            running = background(lambda: response.content)
            wait_until_blocked(session.stop)
            session.stop.set()
            assert isinstance(running.error(), Interrupted)

    def test_https_proxy_handshake(self, session, authority, background):
        """The TLS handshake with an https proxy stops."""
        with FaultServer([steps.read_to_end()]) as proxy:
            session.verify = authority[1]
            running = background(
                session.get, "https://origin.test/", proxies={"https": f"https://127.0.0.1:{proxy.port}"}
            )
            wait_until_blocked(session.stop)
            session.stop.set()
            assert isinstance(running.error(), Interrupted)

    @staticmethod
    def socks(connection: Connection) -> None:
        """A SOCKS5 proxy (RFC 1928) without authentication that reaches IPv4 addresses and names."""
        _, methods = connection.read(2)
        connection.read(methods)
        connection.send(b"\x05\x00")
        _, _, _, kind = connection.read(4)
        host = socket.inet_ntoa(connection.read(4)) if kind == 1 else connection.read(connection.read(1)[0]).decode()
        port = int.from_bytes(connection.read(2), "big")
        with sockets.create_connection((host, port), stop=connection.server.stop) as target:
            connection.send(b"\x05\x00\x00\x01" + bytes(6))
            back = threading.Thread(target=TestProxies.pump, args=(target, connection.sock))
            back.start()
            TestProxies.pump(connection.sock, target)
            back.join(10)

    @pytest.mark.parametrize("encrypted", [False, True], ids=["http", "https"])
    def test_socks(self, session, authority, tls, encrypted, background):
        """A request goes through a SOCKS proxy; reading from it stops."""
        session.verify = authority[1]
        with (
            FaultServer([self.socks]) as proxy,
            FaultServer(always(b"through"), STALL_IN_BODY, tls=tls if encrypted else False) as origin,
        ):
            url = f"socks5h://127.0.0.1:{proxy.port}"
            session.proxies = {"http": url, "https": url}
            assert session.get(origin.url).content == b"through"
            session.close()
            response = session.get(origin.url, stream=True)
            running = background(lambda: response.content)
            wait_until_blocked(session.stop)
            session.stop.set()
            assert isinstance(running.error(), Interrupted)

    def test_socks_negotiation(self, session, background):
        """Negotiating with a SOCKS proxy that does not answer stops; the helper goes when the proxy does."""
        with FaultServer([steps.stall()]) as proxy:
            running = background(session.get, "http://x.test/", proxies={"http": f"socks5h://127.0.0.1:{proxy.port}"})
            wait_until_blocked(session.stop)
            session.stop.set()
            assert isinstance(running.error(), Interrupted)

    def test_socks_helpers_in_use(self, session, background, monkeypatch):
        """The connect timeout holds where all helpers hang, too."""
        from iointerrupt._http.socks import _helpers

        monkeypatch.setattr(_helpers, "_limit", 1)
        release, stop = threading.Event(), StopEvent()
        running = background(_helpers.run, lambda: release.wait(20), stop)
        wait_until_blocked(stop)
        try:
            with pytest.raises(requests.ConnectTimeout, match="timed out"):
                session.get("http://x.test/", proxies={"http": "socks5h://127.0.0.1:1"}, timeout=0.05)
        finally:
            release.set()
        assert running.result()


class TestPool:
    """Connections are kept, and waited for."""

    def test_keep_alive(self, session):
        """Two requests, one after the other, use one connection."""
        with FaultServer(always()) as server:
            for _ in range(2):
                assert session.get(server.url).content == b"hello"
            assert server.connections == 1

    def test_new_stop_on_pooled_connection(self, background, session):
        """A stop that the session gets holds on a connection that it has already; the old one does not."""
        script = [steps.expect(), steps.answer(b"first"), *STALL]
        with FaultServer(script) as server:
            assert session.get(server.url).content == b"first"
            old, session.stop = session.stop, StopEvent()
            old.set()
            running = background(session.get, server.url)
            wait_until_blocked(session.stop)
            session.stop.set("new")
            assert running.error().reason == "new"
            assert server.connections == 1

    def test_wait_for_connection_stops(self, background):
        """The wait for a connection of a full pool stops, and takes nothing from it."""
        with (
            FaultServer(STALL) as server,
            http.Session(stop=StopEvent(), pool_size=1, pool_block=True) as session,
        ):
            first_stop, second_stop = StopEvent(), StopEvent()

            def get(stop: StopEvent) -> None:
                with use_stop(stop):
                    session.get(server.url)

            first = background(get, first_stop)
            wait_until_blocked(first_stop)
            second = background(get, second_stop)
            wait_until_blocked(second_stop)
            second_stop.set("do not wait")
            assert second.error().reason == "do not wait"
            first_stop.set()
            first.error()
            in_order(pool_of(session.get_adapter(server.url), server.url), maxsize=1)

    def test_returned_connection_wakes_one(self, background):
        """Each connection that comes back serves one of those who wait, until all have been served."""
        with FaultServer(always()) as server, http.Session(pool_size=2, pool_block=True) as session:
            running = [background(session.get, server.url) for _ in range(20)]
            assert [one.result().content for one in running] == [b"hello"] * 20
            assert server.connections <= 2

    def test_stop_and_connection_together(self):
        """A connection that comes together with the stop goes to the next in line, or back into the pool."""
        from iointerrupt._http.idle import IdleConnections, Shared

        idle = IdleConnections(1)
        idle.shared = Shared(StopEvent())
        outcome = []

        def take() -> None:
            try:
                outcome.append(idle.get(block=True))
            except Interrupted as interrupted:
                outcome.append(interrupted)

        thread = threading.Thread(target=take)
        thread.start()
        wait_until_blocked(idle.shared.stop)
        idle.shared.stop._latch.fired = True  # set without waking: what wakes it is the connection
        idle.put("connection", block=False)
        thread.join(10)
        assert not thread.is_alive()
        assert isinstance(outcome[0], Interrupted)
        assert idle.get(block=False) == "connection"

    def test_pool_timeout(self):
        """A wait for a connection with a timeout ends with it, as the standard queue's does."""
        import queue

        from iointerrupt._http.idle import IdleConnections

        idle = IdleConnections(1)
        with pytest.raises(queue.Empty):
            idle.get(block=True, timeout=0.01)
        with pytest.raises(queue.Empty):
            idle.get(block=False)
        idle.put("connection")
        assert idle.get(block=True, timeout=0.01) == "connection"
