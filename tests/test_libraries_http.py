"""Libraries over HTTP that nobody has changed, stuck in a patched program and stopped: what they are good for afterwards.

Each is really blocked. It is looked at whether the exception comes through, whether the library tries again, and whether its
connection, session or pool goes on.
"""

from __future__ import annotations

import functools
import http.client
import urllib.request
import xmlrpc.client
from contextlib import closing, nullcontext

import botocore.exceptions
import httpx
import pytest
import requests
import urllib3.exceptions

from iointerrupt import Interrupted
from iointerrupt import http as http_
from iointerrupt.testing import steps
from tests.libraries import LARGE, TAKES_A_LITTLE, interruption, s3, stop_when_stuck, stop_with_server
from tests.patched import patched
from tests.scripts import STALL, STALL_IN_BODY, always

pytestmark = pytest.mark.stops_within(2)


@pytest.fixture(autouse=True)
def _patched():
    """The tests run patched, after the libraries have been imported."""
    with patched():
        yield


@pytest.fixture
def stop_in(background, stop):
    """Call it with a server and a function: it runs until it is stuck with the server, and is stopped; returns what it raised."""
    return functools.partial(stop_with_server, background, stop)


class TestHttp:
    """`http.client`, and `urllib.request` and `xmlrpc.client`, which are built on it."""

    def test_answer_that_had_not_begun(self, fault_server, stop_in):
        """A connection on which nothing had come goes on: the answer is asked for once more."""
        server = fault_server([steps.expect(), steps.stall(), steps.answer(b"late")])
        with closing(http.client.HTTPConnection(*server.address)) as connection:
            connection.request("GET", "/")
            assert isinstance(stop_in(server, connection.getresponse), Interrupted)
            server.resume()
            assert connection.getresponse().read() == b"late"

    def test_answer_that_had_begun(self, fault_server, stop_in):
        """One that was in the middle of the head is closed, and used again, as a new one."""
        server = fault_server([steps.expect(), steps.send(b"HTTP/1.1 200 O"), steps.stall()], always())
        with closing(http.client.HTTPConnection(*server.address)) as connection:
            connection.request("GET", "/")
            assert isinstance(stop_in(server, connection.getresponse, sock=connection.sock), Interrupted)
            connection.close()
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"hello"

    def test_upload(self, fault_server, stop_in):
        """A body that the server does not read; how much of it was sent is known."""
        server = fault_server([steps.expect(read_body=False), steps.stall()])
        with closing(http.client.HTTPConnection(*server.address)) as connection:
            error = stop_in(server, connection.request, "PUT", "/", LARGE)
        assert isinstance(error, Interrupted)
        assert 0 < error.transferred < len(LARGE)

    def test_urllib_body(self, fault_server, stop_in):
        """What an interrupted read had taken is in the exception."""
        server = fault_server(STALL_IN_BODY)
        with urllib.request.urlopen(server.url) as response:
            server.wait_for("stall")
            error = stop_in(server, response.read)
        assert isinstance(error, Interrupted)
        assert error.partial == b"half"

    def test_urllib_upload(self, fault_server, stop_in):
        """The stop is not taken for an error of the network."""
        server = fault_server([steps.expect(read_body=False), steps.stall()])
        request = urllib.request.Request(server.url, LARGE)
        assert isinstance(stop_in(server, urllib.request.urlopen, request), Interrupted)

    def test_xmlrpc(self, fault_server, stop_in):
        """The proxy has closed its connection, does not try again, and its next call makes another."""
        answer = xmlrpc.client.dumps((42,), methodresponse=True).encode()
        server = fault_server(STALL, always(answer, headers={"Content-Type": "text/xml"}))
        with xmlrpc.client.ServerProxy(server.url) as proxy:
            assert isinstance(stop_in(server, proxy.work), Interrupted)
            assert server.connections == 1
            assert proxy.work() == 42


class TestRequests:
    """`requests` with a session of its own, which knows nothing of this library."""

    @pytest.fixture
    def session(self):
        """A plain session."""
        with requests.Session() as session:
            session.trust_env = False
            yield session

    def test_retries(self, fault_server, stop_in, session):
        """A stop is not retried, however often a session may; and the session works on, on another connection."""
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=10))
        server = fault_server(STALL, always())
        assert isinstance(stop_in(server, session.get, server.url), Interrupted)
        assert server.connections == 1
        assert session.get(server.url).content == b"hello"
        assert server.connections == 2

    @pytest.mark.parametrize("stream", [False, True])
    def test_body(self, fault_server, stop_in, session, stream):
        """In the body: the connection is closed, and never used again."""

        def get():
            with session.get(server.url, stream=stream) as response:
                return list(response.iter_content(2))

        server = fault_server(STALL_IN_BODY, always())
        assert isinstance(stop_in(server, get), Interrupted)
        assert session.get(server.url).content == b"hello"
        assert server.connections == 2

    @pytest.mark.parametrize(("adapter", "is_whole"), [(requests.adapters.HTTPAdapter, False), (http_.Adapter, True)])
    def test_pool(self, fault_server, stop_in, session, adapter, is_whole):
        """Waiting for a connection of a pool that blocks: urllib3 then has one place too many, unless the adapter is ours."""
        session.mount("http://", adapter(pool_maxsize=1, pool_block=True))
        first = [steps.expect(), steps.head(length=5), steps.stall(), steps.send(b"hello")]
        server = fault_server([*first, *always()], always())
        response = session.get(server.url, stream=True)
        assert isinstance(stop_in(server, session.get, server.url), Interrupted)
        server.resume()
        with nullcontext() if is_whole else pytest.raises(urllib3.exceptions.FullPoolError):
            assert response.content == b"hello"
            response.close()
        assert session.get(server.url).content == b"hello"

    def test_backoff(self, fault_server, background, stop, session):
        """The pause before a retry."""
        retry = requests.adapters.Retry(3, status_forcelist=[503], respect_retry_after_header=True)
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        server = fault_server(always(status=503, headers={"Retry-After": "600"}))
        error = stop_when_stuck(background, stop, lambda: server.wait_for("answer"), session.get, server.url)
        assert isinstance(error, Interrupted)


class TestHttpx:
    """`httpx.Client`."""

    @pytest.fixture
    def client(self):
        """A client with one connection, and timeouts that do not come."""
        limits = httpx.Limits(max_connections=1)
        with httpx.Client(timeout=600, trust_env=False, limits=limits) as client:
            yield client

    def connections(self, client):
        """What is in the pool."""
        return client._transport._pool.connections

    def test_headers(self, fault_server, stop_in, client):
        """The connection is gone from the pool, and the client works on."""
        server = fault_server(STALL, always())
        assert isinstance(stop_in(server, client.get, server.url), Interrupted)
        assert self.connections(client) == []
        assert client.get(server.url).content == b"hello"
        assert server.connections == 2

    def test_body(self, fault_server, stop_in, client):
        """In the body of a stream, likewise."""

        def get():
            with client.stream("GET", server.url) as response:
                return list(response.iter_bytes())

        server = fault_server(STALL_IN_BODY, always())
        assert isinstance(stop_in(server, get), Interrupted)
        assert self.connections(client) == []
        assert client.get(server.url).content == b"hello"

    def test_upload(self, fault_server, stop_in, client):
        """A body that the server does not read."""
        server = fault_server([steps.expect(read_body=False), steps.stall()], always())
        assert isinstance(stop_in(server, functools.partial(client.post, server.url, content=LARGE)), Interrupted)
        assert self.connections(client) == []
        assert client.get(server.url).content == b"hello"

    def test_pool(self, fault_server, stop_in, client):
        """Waiting for the only connection: who has it goes on, and the pool has it afterwards."""
        server = fault_server(
            [steps.expect(), steps.head(length=5), steps.stall(), steps.send(b"hello"), *always()], always()
        )
        with client.stream("GET", server.url) as response:
            assert isinstance(stop_in(server, client.get, server.url), Interrupted)
            server.resume()
            assert response.read() == b"hello"
        assert client.get(server.url).content == b"hello"
        assert server.connections == 1


class TestBoto3:
    """`boto3`: S3 against a server that says nothing."""

    @pytest.fixture
    def client(self, server):
        """A client that knows where to go."""
        with closing(s3(server.url)) as client:
            yield client

    @pytest.fixture
    def server(self, fault_server):
        """One that stalls in its first answer, and answers the second request."""
        return fault_server(STALL, always())

    @pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
    def test_get_object(self, fault_server, stop_in, mode):
        """No mode of retries makes a second connection; what is raised is boto3's, or in the pause before a retry the stop's."""
        server = fault_server(STALL, always())
        with closing(s3(server.url, mode)) as client:
            error = stop_in(server, functools.partial(client.get_object, Bucket="bucket", Key="key"))
            assert isinstance(error, botocore.exceptions.HTTPClientError if mode == "legacy" else Interrupted)
            assert interruption(error).reason == "enough"
            assert server.connections == 1
            assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == b"hello"

    def test_body(self, fault_server, stop_in):
        """Reading the body stops as it is, and the client works on."""
        server = fault_server(STALL_IN_BODY, always())
        with closing(s3(server.url)) as client:
            with closing(client.get_object(Bucket="bucket", Key="key")["Body"]) as body:
                assert isinstance(stop_in(server, body.read), Interrupted)
            assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == b"hello"

    def test_put_object(self, fault_server, stop_in):
        """An upload that the server does not read."""
        script = [steps.expect(read_body=False), steps.send(b"HTTP/1.1 100 Continue\r\n\r\n"), *TAKES_A_LITTLE]
        server = fault_server(script, always())
        with closing(s3(server.url)) as client:
            put = functools.partial(client.put_object, Bucket="bucket", Key="key", Body=LARGE)
            error = stop_in(server, put)
            assert isinstance(error, botocore.exceptions.HTTPClientError)
            assert interruption(error) is not None
            assert server.connections == 1
            assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == b"hello"
