"""redis-py, which nobody has changed, against a real Redis in a patched program: blocked, stopped, and what is left then.

A command that is stopped while its answer is awaited costs its connection, which redis-py closes by itself: the answer may still
come. Pub/sub keeps its connection, and no message is lost.
"""

from __future__ import annotations

import functools
import threading
from contextlib import closing

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, use_stop
from iointerrupt.testing import steps, wait_until_blocked
from tests import redis_server
from tests.databases import RedisWatch
from tests.libraries import stop_when_stuck, stop_with_server, under
from tests.patched import patched
from tests.stalled import read_line

stops_soon = pytest.mark.stops_within(5)

TRANSPORTS = ("tcp", "unix", "tls")


@pytest.fixture(scope="module")
def server():
    """A server for all of the tests here."""
    with redis_server.serving() as server:
        yield server


@pytest.fixture(scope="module")
def watch(server):
    """A client of the tests' own."""
    with closing(RedisWatch(server.path)) as watch:
        watch.client.ping()
        yield watch


@pytest.fixture(autouse=True)
def _patched(watch):
    """The tests run patched, after redis-py has been imported; at the end there are no keys, and no connections but one."""
    with patched():
        yield
    watch.client.flushall()
    watch.until_gone()


@pytest.fixture
def connect(server):
    """Makes clients that try ten times where they may, and wait for ever."""
    clients = []

    def connect(transport="tcp", **options):
        where = {
            "tcp": {"port": server.port},
            "unix": {"unix_socket_path": server.path},
            "tls": {"host": "localhost", "port": server.tls_port, "ssl": True, "ssl_ca_certs": server.ca_file},
        }
        options = {"socket_timeout": None, "retry": Retry(NoBackoff(), 10)} | where[transport] | options
        clients.append(redis.Redis(**options))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(connect):
    """One of them."""
    return connect()


@stops_soon
class TestCommands:
    """A command, and its answer."""

    @pytest.mark.parametrize("transport", TRANSPORTS)
    def test_blpop(self, connect, watch, background, stop, transport):
        """It stops; the server lets go of the connection, and the client's next command is answered on another one.

        What comes to the list afterwards is nobody's yet.
        """
        client = connect(transport)
        error = stop_when_stuck(background, stop, lambda: watch.until_in("blpop"), client.blpop, "jobs")
        assert isinstance(error, Interrupted)
        assert error.reason == "enough"
        watch.until_gone()
        watch.client.rpush("jobs", "job")
        assert client.ping() is True
        assert client.blpop("jobs") == (b"jobs", b"job")

    def test_not_retried(self, client, watch, background, stop):
        """However often a client may try, a stop is not an error of the network: no other connection is made."""
        client.ping()
        before = watch.made()
        error = stop_when_stuck(background, stop, lambda: watch.until_in("blpop"), client.blpop, "jobs")
        assert isinstance(error, Interrupted)
        assert watch.made() == before
        [connection] = client.connection_pool._available_connections
        assert connection._sock is None

    @pytest.mark.parametrize("timeout", [600, None])
    def test_timeouts(self, connect, watch, background, stop, timeout):
        """A timeout of the socket that does not come is no obstacle."""
        client = connect(socket_timeout=timeout)
        error = stop_when_stuck(background, stop, lambda: watch.until_in("blpop"), client.blpop, "jobs", 300)
        assert isinstance(error, Interrupted)

    def test_stop_that_is_set(self, client, stop):
        """Nothing is sent, so that nothing is taken whose receiver has gone; the client works on, on another connection."""
        client.rpush("jobs", "job")
        stop.set("before")
        for command in (functools.partial(client.set, "key", "value"), functools.partial(client.blpop, "jobs")):
            with pytest.raises(Interrupted):
                under(stop, command)
        assert client.get("key") is None
        assert client.blpop("jobs") == (b"jobs", b"job")

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # it is closed with its last reference
    def test_stop_that_is_set_before_there_is_a_connection(self, client, watch, stop):
        """None is made."""
        before = watch.made()
        stop.set("before")
        with pytest.raises(Interrupted):
            under(stop, client.set, "key", "value")
        assert watch.made() == before
        assert client.get("key") is None

    def test_cleanup(self, client, stop):
        """Without the stop, or with another one, the client works as before."""
        stop.set("before")
        with use_stop(stop):
            with use_stop(None):
                client.rpush("jobs", "one")
            with use_stop(StopEvent(timeout=20)):
                assert client.blpop("jobs") == (b"jobs", b"one")

    @pytest.mark.parametrize("transaction", [True, False])
    def test_pipeline(self, client, watch, background, stop, transaction):
        """Several commands: the server, which was held up, has done none of them; the pipeline can be used again."""
        with client.pipeline(transaction=transaction) as pipeline:
            watch.client.client_pause(600_000, all=False)  # what writes
            pipeline.set("one", 1).set("two", 2)
            try:
                error = stop_when_stuck(background, stop, lambda: watch.until_in("set"), pipeline.execute)
                watch.until_gone()
            finally:
                watch.client.client_unpause()
            assert isinstance(error, Interrupted)
            assert client.exists("one", "two") == 0
            assert pipeline.set("one", 1).get("one").execute() == [True, b"1"]

    def test_lock(self, client, watch, background, stop, monkeypatch):
        """A lock that somebody else has: it is asked for again and again, with sleeps."""
        watch.client.set("lock", "of somebody else")
        lock, asked = client.lock("lock", sleep=600), threading.Event()
        ask = lock.do_acquire

        def ask_and_tell(token):
            try:
                return ask(token)
            finally:
                asked.set()

        monkeypatch.setattr(lock, "do_acquire", ask_and_tell)
        error = stop_when_stuck(background, stop, lambda: asked.wait(20), lock.acquire)
        assert isinstance(error, Interrupted)
        assert not lock.owned()
        watch.client.delete("lock")
        assert lock.acquire()
        lock.release()


@stops_soon
class TestPools:
    """Threads that share a client."""

    @pytest.mark.parametrize("own", [StopEvent, lambda: None], ids=["other stop", "no stop"])
    def test_other_threads(self, client, watch, background, stop, own):
        """Of two threads on one pool one is stopped: the other one gets what it waits for."""
        running = background(under, own(), client.blpop, "others")
        watch.until_in("blpop")
        error = stop_when_stuck(background, stop, lambda: watch.until_in("blpop", 2), client.blpop, "jobs")
        assert isinstance(error, Interrupted)
        watch.until_in("blpop", 1)
        watch.client.rpush("others", "other")
        assert running.result() == (b"others", b"other")
        assert [client.echo(text) for text in ("one", "two")] == [b"one", b"two"]

    def test_pool_that_is_full(self, server, watch, background, stop):
        """Waiting for a connection of a pool that blocks: who has it goes on, and it comes back."""
        pool = redis.BlockingConnectionPool(port=server.port, max_connections=1, timeout=None, socket_timeout=None)
        with closing(pool), closing(redis.Redis(connection_pool=pool)) as client:
            running = background(client.blpop, "others")
            watch.until_in("blpop")
            assert isinstance(stop_when_stuck(background, stop, lambda: None, client.ping), Interrupted)
            watch.client.rpush("others", "other")
            assert running.result() == (b"others", b"other")
            assert client.ping() is True
            assert watch.numbers() == watch.numbers("ping")
            assert len(watch.numbers()) == 1


@stops_soon
class TestPubSub:
    """Subscriptions."""

    @pytest.fixture
    def subscribed(self, client):
        """A subscription to one channel, which has been confirmed."""
        with client.pubsub() as pubsub:
            pubsub.subscribe("news")
            assert pubsub.get_message(timeout=20)["type"] == "subscribe"
            yield pubsub

    @pytest.mark.parametrize("listen", [False, True], ids=["get_message", "listen"])
    def test_waiting(self, subscribed, watch, background, stop, listen):
        """The connection goes on, with all messages that come afterwards."""
        [number] = watch.numbers()

        def receive():
            return next(subscribed.listen()) if listen else subscribed.get_message(timeout=None)

        error = stop_when_stuck(background, stop, lambda: None, receive)
        assert isinstance(error, Interrupted)
        for text in (b"one", b"two"):
            assert watch.client.publish("news", text) == 1
        assert [receive()["data"] for _ in range(2)] == [b"one", b"two"]
        assert watch.numbers() == {number}

    def test_timeout(self, subscribed, background, stop, watch):
        """As where there is one."""
        receive = functools.partial(subscribed.get_message, timeout=600)
        assert isinstance(stop_when_stuck(background, stop, lambda: None, receive), Interrupted)
        watch.client.publish("news", "one")
        assert subscribed.get_message(timeout=20)["data"] == b"one"

    def test_not_subscribed_yet(self, client, background, stop):
        """Waiting for the first subscription."""
        with client.pubsub() as pubsub:
            receive = functools.partial(pubsub.get_message, timeout=600)
            assert isinstance(stop_when_stuck(background, stop, lambda: None, receive), Interrupted)

    def test_message_that_has_come_in_part(self, fault_server, background, stop):
        """The rest of it is read by the next call."""
        message = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$4\r\nword\r\n"
        subscribed = b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n"
        script = [until_subscribed, steps.send(subscribed + message[:-4]), steps.stall(), steps.send(message[-4:])]
        server = fault_server([*script, steps.read_to_end()])
        host, port = server.address
        with closing(redis.Redis(host, port, protocol=2, socket_timeout=None)) as client, client.pubsub() as pubsub:
            pubsub.subscribe("news")
            assert pubsub.get_message(timeout=20)["type"] == "subscribe"
            receive = functools.partial(pubsub.get_message, timeout=None)
            sock = pubsub.connection._sock
            assert isinstance(stop_with_server(background, stop, server, receive, sock=sock), Interrupted)
            server.resume()
            assert receive()["data"] == b"word"


def until_subscribed(connection):
    """A step that agrees to all commands until a subscription."""
    while True:
        count = int(read_line(connection).removeprefix("*"))
        command = [read_line(connection) for _ in range(2 * count)][1]
        if command == "SUBSCRIBE":
            return
        connection.send(b"+OK\r\n")


@stops_soon
class TestConnecting:
    """Before there is a connection."""

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # as above
    def test_connect(self, fault_server, background, stop, connect):
        """A server that lets nobody connect."""
        server = fault_server([steps.stall_connect()])
        host, port = server.address
        client = connect(host=host, port=port, socket_connect_timeout=None)
        error = stop_with_server(background, stop, server, client.ping, at="stall_connect")
        assert isinstance(error, Interrupted)

    def test_login(self, fault_server, background, stop, connect):
        """One that says nothing: the connection is closed, and no other one is made."""
        server = fault_server([steps.read(1), steps.stall()])  # the connection is there once something is read
        host, port = server.address
        client = connect(host=host, port=port)
        assert isinstance(stop_with_server(background, stop, server, client.ping), Interrupted)
        assert server.connections == 1
        [connection] = client.connection_pool._available_connections
        assert connection._sock is None

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # as above
    def test_tls(self, fault_server, background, stop, connect):
        """A handshake that does not go on."""
        server = fault_server([steps.stall_handshake()], tls=True)
        host, port = server.address
        client = connect("tls", host=host, port=port, ssl_cert_reqs="none", ssl_check_hostname=False)
        error = stop_with_server(background, stop, server, client.ping, at="stall_handshake")
        assert isinstance(error, Interrupted)
        assert server.connections == 1


def test_deadline(client, watch):
    """It is a stop like any other."""
    client.ping()
    with use_stop(StopEvent(timeout=0.05)), pytest.raises(DeadlineExceeded):
        client.blpop("jobs")
    watch.until_gone()
    assert client.ping() is True


@stops_soon
def test_many_stops_at_once(connect, watch, background, stop):
    """One event stops all threads on one pool, and the pool is as good as new."""
    client = connect()
    threads = [background(under, stop, client.blpop, "jobs") for _ in range(8)]
    watch.until_in("blpop", 8)
    wait_until_blocked(stop, 8)
    stop.set("enough")
    assert [type(thread.error()) for thread in threads] == [Interrupted] * 8
    watch.until_gone()
    assert [client.echo(str(number)) for number in range(16)] == [str(number).encode() for number in range(16)]
