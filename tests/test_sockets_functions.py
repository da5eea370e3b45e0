"""The functions of `sockets`: those that connect, listen and wrap, and those that read from any socket."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import socket
import ssl
import struct
import threading
from contextlib import contextmanager

import pytest
import trustme

from iointerrupt import Interrupted, ResourceBusy, Stalled, StopEvent, sockets, use_stop
from iointerrupt._sockets.dns import _helpers
from iointerrupt.sockets import IncompleteRead, Socket
from iointerrupt.testing import wait_until_blocked
from tests.pairs import tcp_pair


@contextmanager
def resolver(monkeypatch, answer):
    """Make `answer(host, port)` what looks names up, and give the event that lets it begin."""
    begin = threading.Event()
    asked = []

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002 - the standard signature
        asked.append(host)
        assert begin.wait(20)
        return answer(host, port)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        yield begin, asked
    finally:
        begin.set()


def stream_address(host, port):
    """One entry of what getaddrinfo returns."""
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))


@pytest.fixture
def listener():
    """A listener on IPv4."""
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def full_listener():
    """A standard listener whose queue is full: it answers nobody."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(listener.getsockname())
        yield listener
        for each in waiting:
            each.close()


# Looking up


def test_a_literal_address_needs_no_thread(monkeypatch):
    """An address in figures is looked up in the caller's thread, since no server is asked."""
    monkeypatch.setattr(_helpers, "run", None)
    assert sockets.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM) == socket.getaddrinfo(
        "127.0.0.1", 80, type=socket.SOCK_STREAM
    )
    assert sockets.getaddrinfo("::1", "80")[0][4][0] == "::1"


def test_a_name_is_looked_up_as_by_the_standard_function():
    """A name and a service give what the standard function gives."""
    assert sockets.getaddrinfo("localhost", "http") == socket.getaddrinfo("localhost", "http")


def test_a_name_that_is_none_is_a_gaierror():
    """What nobody knows is socket.gaierror; no server is asked for a name with an illegal character."""
    with pytest.raises(socket.gaierror):
        sockets.getaddrinfo("not a name", 80)


def test_a_lookup_stops_and_is_abandoned(monkeypatch, background):
    """A stop ends a lookup at once; its thread goes on without anybody, and its answer is dropped."""
    with resolver(monkeypatch, lambda *address: [stream_address(*address)]) as (begin, _):
        stop = StopEvent()
        blocked = background(sockets.getaddrinfo, "slow.test", 80, stop=stop)
        wait_until_blocked(stop)
        assert _helpers.abandoned() == 0
        stop.set()
        assert isinstance(blocked.error(), Interrupted)
        assert _helpers.abandoned() == 1
        begin.set()


def test_a_lookup_times_out(monkeypatch):
    """A timeout ends a lookup likewise."""
    with resolver(monkeypatch, lambda *address: [stream_address(*address)]), pytest.raises(TimeoutError):
        sockets.getaddrinfo("slow.test", 80, timeout=0.01)


def test_connect_of_a_name_stops_while_it_is_looked_up(monkeypatch, background):
    """Socket.connect can be stopped while its host name is being looked up."""
    with resolver(monkeypatch, lambda *address: [stream_address(*address)]), Socket(stop=StopEvent()) as sock:
        blocked = background(sock.connect, ("slow.test", 80))
        wait_until_blocked(sock.stop)
        sock.stop.set()
        assert isinstance(blocked.error(), Interrupted)
        sock.stop = None


# Connecting


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_connection_has_its_stop_and_timeout(family, host):
    """What create_connection returns is connected, and keeps the stop and the timeout."""
    stop = StopEvent()
    with (
        sockets.create_server((host, 0), family=family) as listener,
        sockets.create_connection(listener.getsockname()[:2], 5, stop=stop) as sock,
    ):
        assert type(sock) is Socket
        assert sock.stop is stop
        assert sock.gettimeout() == 5.0
        assert sock.getpeername() == listener.getsockname()


def test_a_connection_takes_the_default_timeout(listener):
    """Without a timeout it is socket.setdefaulttimeout's, and with None there is none."""
    socket.setdefaulttimeout(9)
    try:
        with sockets.create_connection(listener.getsockname()) as sock:
            assert sock.gettimeout() == 9.0
        with sockets.create_connection(listener.getsockname(), None) as sock:
            assert sock.gettimeout() is None
    finally:
        socket.setdefaulttimeout(None)


def test_a_connection_comes_from_the_source_address(listener):
    """source_address is where the connection comes from."""
    with sockets.create_connection(listener.getsockname(), source_address=("127.0.0.2", 0)) as sock:
        assert sock.getsockname()[0] == "127.0.0.2"


def test_connecting_stops_and_leaves_nothing_open(background, full_listener):
    """A stop ends an attempt that nobody answers."""
    stop = StopEvent()
    blocked = background(sockets.create_connection, full_listener.getsockname(), stop=stop)
    wait_until_blocked(stop)
    stop.set("enough")
    assert blocked.error().reason == "enough"


def test_connecting_goes_from_address_to_address(monkeypatch, listener):
    """Of several addresses the first that answers is taken."""
    with (
        socket.socket() as unused,
        resolver(
            monkeypatch,
            lambda host, port: [stream_address(*unused.getsockname()), stream_address(*listener.getsockname())],
        ) as (begin, asked),
    ):
        unused.bind(("127.0.0.1", 0))
        begin.set()
        with sockets.create_connection(("some.test", 1)) as sock:
            assert sock.getpeername() == listener.getsockname()
        assert asked == ["some.test"]


def test_a_silent_address_takes_its_share_of_the_timeout(monkeypatch, full_listener, listener):
    """The timeout is for all addresses together, and a silent one leaves time for the next."""
    monkeypatch.setattr(sockets, "_LEAST_SHARE", 0.0)
    addresses = [stream_address(*full_listener.getsockname()), stream_address(*listener.getsockname())]
    with resolver(monkeypatch, lambda host, port: addresses) as (begin, _):
        begin.set()
        with sockets.create_connection(("some.test", 1), timeout=0.1) as sock:
            assert sock.getpeername() == listener.getsockname()


def test_all_errors_are_told(monkeypatch):
    """When no address answers, the last error is raised, or with all_errors all of them."""
    with (
        socket.socket() as unused,
        resolver(monkeypatch, lambda host, port: [stream_address(*unused.getsockname())] * 2) as (begin, _),
    ):
        unused.bind(("127.0.0.1", 0))
        begin.set()
        with pytest.raises(ConnectionRefusedError):
            sockets.create_connection(("some.test", 1))
        with pytest.raises(ExceptionGroup) as caught:
            sockets.create_connection(("some.test", 1), all_errors=True)
        assert [type(error) for error in caught.value.exceptions] == [ConnectionRefusedError] * 2


def test_a_name_without_addresses_is_an_error(monkeypatch):
    """A resolver that returns nothing is an OSError, as in the standard function."""
    with resolver(monkeypatch, lambda host, port: []) as (begin, _):
        begin.set()
        with pytest.raises(OSError, match="empty list"):
            sockets.create_connection(("some.test", 1))


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("1", TypeError)])
def test_a_wrong_timeout_is_refused_before_anything_is_done(timeout, error):
    """A wrong timeout is an error of the call, not of the connection."""
    with pytest.raises(error):
        sockets.create_connection(("127.0.0.1", 1), timeout)


def test_servers_take_the_standard_arguments():
    """A server for both families accepts over IPv4 and IPv6; a wrong stop leaves nothing open."""
    with sockets.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=5) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            with sockets.create_connection((host, port)):
                listener.accept()[0].close()
    with pytest.raises(TypeError):
        sockets.create_server(("127.0.0.1", 0), stop=1)
    with pytest.raises(TypeError):
        sockets.socketpair(stop=1)


def test_the_standard_names_may_be_replaced(monkeypatch, listener):
    """A program may put these functions in the place of the standard ones; they go on working."""
    for name in ("create_connection", "create_server", "getaddrinfo", "socketpair"):
        monkeypatch.setattr(socket, name, getattr(sockets, name))
    monkeypatch.setattr(socket, "socket", Socket)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        assert {type(server), type(sock)} == {Socket}
        server.accept()[0].close()
    near, far = socket.socketpair()
    with near, far:
        assert type(near) is Socket
    assert socket.getaddrinfo("localhost", 1)


# Wrapping


def test_wrap_takes_the_descriptor_over():
    """The wrapped socket has the descriptor and the timeout, and the original is closed as an object."""
    near, far = socket.socketpair()
    near.settimeout(3)
    number, stop = near.fileno(), StopEvent()
    with sockets.wrap(near, stop=stop) as wrapped, far:
        assert (wrapped.fileno(), near.fileno()) == (number, -1)
        assert (wrapped.gettimeout(), wrapped.stop) == (3.0, stop)
        far.send(b"x")
        assert wrapped.recv(1) == b"x"


@pytest.mark.parametrize("default", [None, 5.0])
def test_wrap_leaves_the_mode_of_the_descriptor(default):
    """A blocking descriptor stays blocking, whatever the default timeout is at the moment."""
    near, far = socket.socketpair()
    socket.setdefaulttimeout(default)
    try:
        with sockets.wrap(near) as wrapped, far:
            assert os.get_blocking(wrapped.fileno())
            assert wrapped.gettimeout() is None
    finally:
        socket.setdefaulttimeout(None)


def test_wrap_of_ours_sets_the_stop():
    """A Socket is returned as it is, with the new stop."""
    stop = StopEvent()
    with Socket() as sock:
        assert sockets.wrap(sock, stop=stop) is sock
        assert sock.stop is stop


def test_wrap_refuses_what_it_cannot_do_right():
    """No socket, a closed one, and one that speaks TLS already are clear errors; the last one stays as it was."""
    with pytest.raises(TypeError, match=r"must be a socket\.socket, not int"):
        sockets.wrap(1)
    for make in (socket.socket, Socket):
        closed = make()
        closed.close()
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            sockets.wrap(closed)
        assert caught.value.errno == errno.EBADF
    with (
        socket.socket() as plain,
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_socket(plain, server_side=True) as tls,
        pytest.raises(TypeError, match="sslsocket_class"),
    ):
        sockets.wrap(tls)
    with socket.socket() as sock:
        with pytest.raises(TypeError, match="cannot be a stop"):
            sockets.wrap(sock, stop=1)
        assert sock.fileno() >= 0


# Reading from any socket

AUTHORITY = trustme.CA()


def tls(pair, own):
    """The pair with TLS, the first one as a client's standard SSLSocket or ours."""
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.configure_trust(client)
    AUTHORITY.issue_cert("localhost").configure_cert(server)
    if own:
        client.sslsocket_class = sockets.SSLSocket
    accepted = []
    thread = threading.Thread(target=lambda: accepted.append(server.wrap_socket(pair[1], server_side=True)))
    thread.start()
    near = client.wrap_socket(pair[0], server_hostname="localhost")
    thread.join(20)
    return near, accepted[0]


KINDS = {
    "ours": sockets.socketpair,
    "standard": socket.socketpair,
    "ours with TLS": lambda: tls(tcp_pair(), own=True),
    "standard with TLS": lambda: tls(tcp_pair(socket), own=False),
}


@pytest.fixture(params=KINDS)
def pair(request):
    """Two connected streams, of which the first is of each kind."""
    near, far = KINDS[request.param]()
    with near, far:
        yield near, far
        if isinstance(near, Socket):
            near.stop = None  # pytest keeps it longer than the test, and a stop may have a descriptor


def test_chunks_come_until_the_end(pair):
    """All that arrives is yielded, in chunks of the size at most, and the timeout of the socket is as before."""
    near, far = pair
    near.settimeout(12)
    far.sendall(b"x" * 1000)
    far.close()
    chunks = list(sockets.iter_chunks(near, chunk_size=300))
    assert b"".join(chunks) == b"x" * 1000
    assert max(map(len, chunks)) <= 300
    assert near.gettimeout() == 12


def test_chunks_stop_and_go_on(pair, background):
    """A stop between two chunks raises, and this or a new iteration goes on behind the last chunk."""
    near, far = pair
    stop = StopEvent()
    far.sendall(b"one")
    chunks = sockets.iter_chunks(near, stop=stop)
    assert next(chunks) == b"one"
    blocked = background(next, chunks)
    wait_until_blocked(stop)
    stop.set()
    assert isinstance(blocked.error(), Interrupted)
    far.sendall(b"two")
    assert next(sockets.iter_chunks(near)) == b"two"
    far.sendall(b"three")
    with pytest.raises(Interrupted):
        next(chunks)
    stop.clear()
    far.close()
    assert list(chunks) == [b"three"]
    assert list(chunks) == []


def test_chunks_time_out_and_go_on(pair):
    """A chunk that does not come in time is a TimeoutError, and the iterator waits again."""
    near, far = pair
    chunks = sockets.iter_chunks(near, timeout=0.01)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            next(chunks)
    far.sendall(b"late")
    assert next(chunks) == b"late"


def test_chunks_serve_one_thread(pair, background):
    """While a thread is inside, neither next nor close is for another; after close there is no more."""
    near, far = pair
    stop = StopEvent()
    with contextlib.closing(sockets.iter_chunks(near, stop=stop)) as chunks:
        blocked = background(next, chunks)
        wait_until_blocked(stop)
        with pytest.raises(ResourceBusy):
            next(chunks)
        with pytest.raises(ResourceBusy):
            chunks.close()
        far.sendall(b"x")
        assert blocked.result() == b"x"
        far.sendall(b"y")
    assert list(chunks) == []
    assert near.fileno() >= 0


@pytest.mark.parametrize("default", [None, 5.0, 0.0])
def test_reading_leaves_the_mode_of_a_socket_of_others(default):
    """A blocking socket stays blocking, whatever the default timeout is, during the iteration too."""
    near, far = socket.socketpair()
    with near, far:
        far.sendall(b"onetwo")
        socket.setdefaulttimeout(default)
        try:
            chunks = sockets.iter_chunks(near, chunk_size=3)
            assert next(chunks) == b"one"
            assert os.get_blocking(near.fileno())
            assert sockets.recv_exactly(near, 3) == b"two"
            assert os.get_blocking(near.fileno())
            chunks.close()
        finally:
            socket.setdefaulttimeout(None)


def test_the_stop_adds_to_the_sockets_own(background):
    """Either ends the iteration: the stop that was passed, and the socket's own, also one that is set later."""
    near, far = sockets.socketpair()
    with near, far:
        passed = StopEvent()
        chunks = sockets.iter_chunks(near, stop=passed)
        far.send(b"x")
        assert next(chunks) == b"x"
        near.stop = own = StopEvent()
        blocked = background(next, chunks)
        wait_until_blocked(own)
        wait_until_blocked(passed)
        own.set()
        assert isinstance(blocked.error(), Interrupted)


def test_a_nonblocking_socket_is_waited_for(background):
    """A socket whose timeout is 0 is read like one without a timeout."""
    near, far = socket.socketpair()
    near.setblocking(False)
    with near, far:
        stop = StopEvent()
        blocked = background(next, sockets.iter_chunks(near, stop=stop))
        wait_until_blocked(stop)
        far.send(b"x")
        assert blocked.result() == b"x"


def test_datagrams_have_no_end():
    """An empty datagram is an empty chunk, and the iteration goes on."""
    near, far = sockets.socketpair(type=socket.SOCK_DGRAM)
    with near, far:
        chunks = sockets.iter_chunks(near)
        for data in (b"a", b"", b"b"):
            far.send(data)
            assert next(chunks) == data


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_exactly_refuses_what_has_messages(kind):
    """Of a message that is larger than what is left, the kernel throws the end away."""
    near, far = socket.socketpair(type=kind)
    with near, far:
        far.send(b"abcdef")
        with pytest.raises(ValueError, match="must be a stream"):
            sockets.recv_exactly(near, 1)
        assert near.recv(9) == b"abcdef"


def test_a_socket_that_is_closed_meanwhile(pair):
    """A socket that is closed between two chunks is EBADF."""
    near, far = pair
    far.sendall(b"x")
    chunks = sockets.iter_chunks(near)
    next(chunks)
    near.close()
    with pytest.raises((OSError, ValueError), match=r"Bad file descriptor|closed"):
        next(chunks)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"chunk_size": 0}, ValueError),
        ({"chunk_size": 1.5}, TypeError),
        ({"timeout": -1}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"stop": 1}, TypeError),
    ],
)
def test_wrong_arguments_are_refused_at_once(arguments, error):
    """Not only when the first chunk is asked for."""
    with socket.socket() as sock, pytest.raises(error):
        sockets.iter_chunks(sock, **arguments)


def test_no_socket_and_a_closed_socket_are_refused_at_once():
    """What is no socket is a TypeError, a closed one EBADF."""
    closed = socket.socket()
    closed.close()
    for read in (sockets.iter_chunks, lambda sock: sockets.recv_exactly(sock, 1)):
        with pytest.raises(TypeError):
            read(object())
        with pytest.raises(OSError, match="Bad file descriptor"):
            read(closed)


def test_exactly_is_exact(pair):
    """Exactly so many bytes are received, and what follows is left."""
    near, far = pair
    far.sendall(b"abcdef")
    assert sockets.recv_exactly(near, 4) == b"abcd"
    assert sockets.recv_exactly(near, 0) == b""
    assert sockets.recv_exactly(near, 2) == b"ef"


def test_exactly_hands_over_what_a_stop_leaves(pair, background):
    """A stop hands over what had arrived; the stream goes on after it."""
    near, far = pair
    stop = StopEvent()
    far.sendall(b"abc")

    def receive():
        with use_stop(stop):
            return sockets.recv_exactly(near, 5)

    blocked = background(receive)
    wait_until_blocked(stop)
    stop.set()
    error = blocked.error()
    assert (error.partial, error.transferred) == (b"abc", 3)
    far.sendall(b"de")
    assert sockets.recv_exactly(near, 2) == b"de"


def test_exactly_hands_over_what_a_timeout_leaves(pair):
    """A timeout is Stalled, with what had arrived."""
    near, far = pair
    far.sendall(b"abc")
    with pytest.raises(Stalled) as caught:
        sockets.recv_exactly(near, 5, timeout=0.05)
    assert caught.value.partial == b"abc"


def test_exactly_at_the_end_of_the_stream(pair):
    """An early end is an EOFError with what there was, which pickles."""
    near, far = pair
    far.sendall(b"abc")
    far.close()
    with pytest.raises(EOFError, match="after 3 of 5 bytes") as caught:
        sockets.recv_exactly(near, 5)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, IncompleteRead)
    assert (copy.partial, copy.expected) == (b"abc", 5)


@pytest.mark.parametrize("make", [Socket, socket.socket])
def test_exactly_hands_over_what_an_error_leaves(make, listener, background):
    """What came before a reset is in the exception, whose cause is the error; without any, the error is raised itself."""
    for sent in (b"abc", b""):
        with make() as near:
            near.connect(listener.getsockname())
            far, _ = listener.accept()
            far.sendall(sent)
            stop = StopEvent()
            blocked = background(sockets.recv_exactly, near, 5, stop=stop)
            wait_until_blocked(stop)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
            error = blocked.error()
            if sent:
                assert isinstance(error, IncompleteRead)
                assert (error.partial, error.expected) == (b"abc", 5)
                error = error.__cause__
            assert isinstance(error, ConnectionResetError)


@pytest.mark.parametrize(("n", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
def test_a_wrong_number_is_refused(n, error):
    """The number of bytes is an int, 0 or more."""
    with socket.socket() as sock, pytest.raises(error):
        sockets.recv_exactly(sock, n)
