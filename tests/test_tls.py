"""`SSLSocket`: what TLS adds to `Socket`, and what a stop does within it.

That every method keeps the contract of a stop is in `test_contract.py`, and that CPython's own suite accepts the class is
`make conformance`.
"""

from __future__ import annotations

import errno
import socket
import ssl
import tempfile
import threading

import pytest
import trustme

from iointerrupt import Interrupted, ResourceBusy, StopEvent, sockets, use_stop
from iointerrupt.sockets import SendTimeout, Socket, SSLSocket
from iointerrupt.testing import StopAfter, wait_until_blocked
from tests.pairs import tcp_pair

LARGE = bytes(range(256)) * 16384  # 4 MiB: more than the buffers of two sockets hold
RECORD = 16384

AUTHORITY = trustme.CA()
CERTIFICATE = AUTHORITY.issue_cert("localhost")


def make_client(**settings):
    """A client's context that makes our sockets and trusts the server below."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    AUTHORITY.configure_trust(context)
    context.sslsocket_class = SSLSocket
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def make_server(sslsocket_class=SSLSocket):
    """A server's context, with our sockets unless said otherwise."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CERTIFICATE.configure_cert(context)
    context.sslsocket_class = sslsocket_class
    return context


def shake_hands(near, far, client=None, server=None):
    """Make a pair of sockets the two ends of TLS."""
    accepted = []
    thread = threading.Thread(
        target=lambda: accepted.append((server or make_server()).wrap_socket(far, server_side=True))
    )
    thread.start()
    wrapped = (client or make_client()).wrap_socket(near, server_hostname="localhost")
    thread.join(20)
    return wrapped, accepted[0]


@pytest.fixture(params=["TLS 1.2", "TLS 1.3"])
def pair(request):
    """The two ends of a TLS connection, both ours."""
    version = ssl.TLSVersion.TLSv1_2 if request.param == "TLS 1.2" else ssl.TLSVersion.TLSv1_3
    near, far = shake_hands(*sockets.socketpair(), client=make_client(maximum_version=version))
    with near, far:
        yield near, far
        near.stop = far.stop = None  # pytest keeps the pair longer than the test, and a stop may have a descriptor


@pytest.fixture
def filter_pair():
    """A TLS client whose records pass through the test's hands: client, server's end, raw pipe to the client, raw pipe to the server."""
    near, toward_client = sockets.socketpair()
    toward_server, far = sockets.socketpair()
    stop = StopEvent()

    def forward(source, target):
        try:
            for chunk in sockets.iter_chunks(source, stop=stop):
                target.sendall(chunk)
        except Interrupted:
            pass

    threads = [
        threading.Thread(target=forward, args=arguments)
        for arguments in ((toward_client, toward_server), (toward_server, toward_client))
    ]
    for thread in threads:
        thread.start()
    client, server = shake_hands(near, far)
    server.sendall(b"!")  # behind the session tickets
    assert client.recv(1) == b"!"
    stop.set()
    for thread in threads:
        thread.join(20)
    with client, server, toward_client, toward_server:
        yield client, server, toward_client, toward_server
        client.stop = None


def drain(sock, amount):
    """Receive exactly so many bytes."""
    return sockets.recv_exactly(sock, amount, timeout=20)


# Making one


def test_it_has_the_stop_and_the_timeout_of_the_socket_it_wraps():
    """What wrap_socket makes of a Socket keeps its stop and its timeout."""
    stop = StopEvent()
    near, far = sockets.socketpair()
    near.stop = stop
    near.settimeout(11)
    near, far = shake_hands(near, far)
    with near, far:
        assert isinstance(near, ssl.SSLSocket)
        assert isinstance(near, Socket)
        assert (near.stop, near.gettimeout()) == (stop, 11.0)
        assert far.stop is None
        assert "SSLSocket" in repr(near)


def test_a_standard_socket_can_be_wrapped(background):
    """The context may wrap a plain socket.socket: it gets a stop afterwards."""
    near, far = shake_hands(*socket.socketpair(), server=make_server(ssl.SSLSocket))
    with near, far:
        near.stop = stop = StopEvent()
        blocked = background(near.recv, 1)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(blocked.error(), Interrupted)


def test_an_unconnected_socket_can_be_wrapped_under_a_stop():
    """Wrapping it does nothing that a stop could end, be it the socket's or the current one; the first operation raises."""
    stop = StopEvent()
    stop.set()
    with use_stop(stop), make_client().wrap_socket(Socket(stop=stop), server_hostname="localhost") as sock:
        assert sock.stop is stop
        with pytest.raises(Interrupted):
            sock.connect(("127.0.0.1", 1))


def test_a_handshake_stops_and_closes(background):
    """A handshake that the other side does not answer stops, and wrap_socket leaves no descriptor open."""
    near, far = sockets.socketpair()
    with far:
        near.stop = stop = StopEvent()
        blocked = background(make_client().wrap_socket, near, server_hostname="localhost")
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(blocked.error(), Interrupted)
        assert near.fileno() == -1
        far.settimeout(20)
        while far.recv(65536):  # the client's hello, then the end: the descriptor is closed
            pass


def test_a_handshake_times_out():
    """A timeout is for the handshake too."""
    near, far = sockets.socketpair()
    near.settimeout(0.01)
    with far, pytest.raises(TimeoutError):
        make_client().wrap_socket(near, server_hostname="localhost")


def test_a_handshake_of_a_nonblocking_socket_is_refused():
    """As with the standard class, a timeout of 0 and a handshake at once contradict each other."""
    near, far = sockets.socketpair()
    near.setblocking(False)
    with far, pytest.raises(ValueError, match="non-blocking"):
        make_client().wrap_socket(near, server_hostname="localhost")


def test_a_handshake_that_fails_closes():
    """A certificate that is not trusted raises the standard error, and the descriptor is closed."""
    near, far = sockets.socketpair()
    failed = []

    def serve():
        try:
            make_server().wrap_socket(far, server_side=True).close()
        except ssl.SSLError as error:
            failed.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(ssl.SSLCertVerificationError):
        make_client(check_hostname=True).wrap_socket(near, server_hostname="other.test")
    thread.join(20)
    assert failed


def test_an_interrupted_handshake_goes_on(background):
    """A handshake that was interrupted is continued by do_handshake."""
    near, far = sockets.socketpair()
    near.stop = stop = StopEvent()
    client = make_client().wrap_socket(near, server_hostname="localhost", do_handshake_on_connect=False)
    with client:
        assert client.do_handshake_on_connect is False
        blocked = background(client.do_handshake)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(blocked.error(), Interrupted)
        client.stop = None
        going_on = background(client.do_handshake)
        with make_server().wrap_socket(far, server_side=True) as server:
            going_on.result()
            server.sendall(b"hello")
            assert client.recv(5) == b"hello"


def test_connect_and_accept_with_tls(background):
    """Wrapped before they are connected, sockets shake hands in connect and accept, which stop."""
    with make_server().wrap_socket(sockets.create_server(("127.0.0.1", 0)), server_side=True) as listener:
        listener.stop = stop = StopEvent()
        blocked = background(listener.accept)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(blocked.error(), Interrupted)
        listener.stop = None
        accepting = background(listener.accept)
        with make_client().wrap_socket(Socket(), server_hostname="localhost") as client:
            client.connect(listener.getsockname())
            server, _ = accepting.result()
            with server:
                assert type(server) is SSLSocket
                server.sendall(b"hello")
                assert client.recv(5) == b"hello"


def test_connect_can_be_called_again_after_a_stop(background):
    """A stop before the connection stands leaves the socket as it was."""
    with (
        make_server().wrap_socket(sockets.create_server(("127.0.0.1", 0)), server_side=True) as listener,
        make_client().wrap_socket(Socket(stop=StopAfter(1)), server_hostname="localhost") as client,
    ):
        with pytest.raises(Interrupted):
            client.connect(listener.getsockname())
        client.stop = None
        accepting = background(listener.accept)
        client.connect(listener.getsockname())
        accepting.result()[0].close()


def test_connect_whose_handshake_was_interrupted(background):
    """A stop within the handshake of connect leaves a connection, whose handshake do_handshake continues."""
    with (
        sockets.create_server(("127.0.0.1", 0)) as listener,
        make_client().wrap_socket(Socket(), server_hostname="localhost") as client,
    ):
        client.stop = stop = StopEvent()
        blocked = background(client.connect, listener.getsockname())
        far, _ = listener.accept()
        assert far.recv(1, socket.MSG_PEEK)  # the handshake has begun
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(blocked.error(), Interrupted)
        client.stop = None
        serving = background(make_server().wrap_socket, far, server_side=True)
        client.do_handshake()
        with serving.result() as server:
            server.sendall(b"x")
            assert client.recv(1) == b"x"


# Reading


def test_what_is_decrypted_counts_as_readable(pair):
    """A record of which a part was read is read on, though the descriptor is not readable any more."""
    near, far = pair
    far.sendall(b"x" * RECORD)
    near.settimeout(20)
    assert near.recv(100) == b"x" * 100
    assert near.pending() == RECORD - 100
    assert near.recv(RECORD) == b"x" * (RECORD - 100)


@pytest.mark.parametrize("cut", [3, 100])
def test_half_a_record_does_not_block(filter_pair, background, cut):
    """A record of which the head or the half has arrived can be interrupted, and is read whole later."""
    client, server, toward_client, toward_server = filter_pair
    client.stop = stop = StopEvent()
    server.sendall(b"y" * 1000)
    record = toward_server.recv(65536)
    toward_client.sendall(record[:cut])
    blocked = background(client.recv, 1000)
    wait_until_blocked(stop)
    stop.set()
    assert isinstance(blocked.error(), Interrupted)
    client.stop = None
    client.settimeout(0.01)
    with pytest.raises(TimeoutError):
        client.recv(1000)
    client.setblocking(False)
    with pytest.raises(ssl.SSLWantReadError):
        client.recv(1000)
    toward_client.sendall(record[cut:])
    assert client.recv(1000) == b"y" * 1000


def test_session_tickets_do_not_block(background):
    """The tickets of TLS 1.3 make the descriptor readable but hold no data: a stop ends a read behind them."""
    near, far = shake_hands(*sockets.socketpair())
    with near, far:
        near.stop = stop = StopEvent()
        blocked = background(near.recv, 1)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(blocked.error(), Interrupted)
        near.stop = None
        near.setblocking(False)
        with pytest.raises(ssl.SSLWantReadError):
            near.recv(1)


def test_recv_into_takes_all_full_records_that_are_there(pair, background):
    """A large buffer is filled by one call with the records that follow without waiting."""
    near, far = pair
    sending = background(far.sendall, b"z" * (4 * RECORD))
    sending.result()
    buffer = bytearray(10 * RECORD)
    assert near.recv_into(buffer) == 4 * RECORD
    assert buffer[: 4 * RECORD] == b"z" * (4 * RECORD)


def test_recv_into_obeys_the_size(pair):
    """No more than nbytes is received, whatever is there."""
    near, far = pair
    far.sendall(b"z" * (3 * RECORD))
    buffer = bytearray(10 * RECORD)
    assert near.recv_into(buffer, 2 * RECORD) == 2 * RECORD
    assert near.recv_into(memoryview(buffer)[:100]) == 100
    assert near.recv_into(bytearray()) == 0
    with pytest.raises(ValueError, match="non-zero flags"):
        near.recv_into(buffer, 1, socket.MSG_PEEK)


def test_a_stop_between_records_loses_none(pair):
    """A stop that is set while recv_into goes on from record to record returns what there is; the next call raises."""
    near, far = pair
    far.sendall(b"z" * (3 * RECORD))
    near.stop = StopAfter(3)
    buffer = bytearray(10 * RECORD)
    taken = near.recv_into(buffer)
    assert taken == 2 * RECORD
    with pytest.raises(Interrupted):
        near.recv_into(buffer)
    near.stop = None
    assert near.recv_into(buffer) == RECORD


def test_an_error_behind_a_record_is_raised_by_the_next_call(filter_pair):
    """A record that is broken on the way costs none of those before it."""
    client, server, toward_client, toward_server = filter_pair
    server.sendall(b"a" * RECORD)
    good = drain_now(toward_server)
    server.sendall(b"b" * RECORD)
    bad = bytearray(drain_now(toward_server))
    bad[100] ^= 1
    toward_client.sendall(good + bad)
    buffer = bytearray(3 * RECORD)
    assert client.recv_into(buffer) == RECORD
    with pytest.raises(ssl.SSLError):
        client.recv_into(buffer)


def drain_now(sock):
    """All that a socket has received so far."""
    parts = []
    sock.setblocking(False)
    try:
        while True:
            parts.append(sock.recv(65536))
    except BlockingIOError:
        return b"".join(parts)
    finally:
        sock.setblocking(True)


@pytest.mark.parametrize("suppress", [True, False])
def test_an_end_without_goodbye(suppress):
    """A connection that is cut is an end or an error, as suppress_ragged_eofs says, behind all its data."""
    near, far = tcp_pair()
    accepted = []
    thread = threading.Thread(target=lambda: accepted.append(make_server().wrap_socket(far, server_side=True)))
    thread.start()
    client = make_client().wrap_socket(near, server_hostname="localhost", suppress_ragged_eofs=suppress)
    thread.join(20)
    with client:
        accepted[0].sendall(b"a" * RECORD)
        accepted[0].close()
        buffer = bytearray(3 * RECORD)
        assert client.recv_into(buffer) == RECORD
        if suppress:
            assert client.recv_into(buffer) == 0
        else:
            with pytest.raises(ssl.SSLEOFError):
                client.recv_into(buffer)


def test_a_file_over_it_loses_nothing(pair, background):
    """A makefile works over TLS as over a Socket."""
    near, far = pair
    near.stop = stop = StopEvent()
    with near.makefile("rb") as file:
        far.sendall(b"abc")
        blocked = background(file.read, 6)
        wait_until_blocked(stop)
        stop.set()
        assert blocked.error().partial == b"abc"
        near.stop = None
        far.sendall(b"def\n")
        assert file.readline() == b"def\n"


# Writing


@pytest.mark.parametrize("method", ["sendall", "send", "write"])
def test_a_write_says_how_much_it_sent_and_goes_on(pair, background, method):
    """An interrupted write has sent exactly so many bytes, in whole records; the rest continues the stream."""
    near, far = pair
    near.stop = stop = StopEvent()
    blocked = background(getattr(near, method), LARGE)
    wait_until_blocked(stop)
    stop.set()
    sent = blocked.error().transferred
    assert 0 < sent < len(LARGE)
    assert sent % RECORD == 0
    assert drain(far, sent) == LARGE[:sent]
    with pytest.raises(TimeoutError):
        sockets.recv_exactly(far, 1, timeout=0.01)  # what is on its way is no whole record
    near.stop = None
    rest = background(near.sendall, LARGE[sent:])
    assert drain(far, len(LARGE) - sent) == LARGE[sent:]
    rest.result()


def test_after_half_a_record_other_data_is_refused(pair, background):
    """What is not the rest of an interrupted write is an SSLError, whose text says what to do; reading goes on."""
    near, far = pair
    near.stop = stop = StopEvent()
    blocked = background(near.sendall, LARGE)
    wait_until_blocked(stop)
    stop.set()
    sent = blocked.error().transferred
    near.stop = None
    for other in (b"QUIT", b"\xff" * 2 * RECORD, b""):
        with pytest.raises(ssl.SSLError, match=r"from Interrupted\.transferred on"):
            near.sendall(other)
    with pytest.raises(ssl.SSLError, match="interrupted"):
        near.unwrap()
    far.sendall(b"x")
    assert near.recv(1) == b"x"
    rest = background(near.sendall, LARGE[sent:])
    assert drain(far, len(LARGE)) == LARGE
    rest.result()
    near.sendall(b"QUIT")
    assert drain(far, 4) == b"QUIT"


@pytest.mark.parametrize("way", ["sendall", "write", "unwrap"])
def test_while_one_thread_writes_another_one_is_refused(pair, background, way):
    """Behind half a record of one thread, another one sends nothing, and the first one's data arrives whole."""
    near, far = pair
    near.stop = stop = StopEvent()
    first = background(near.sendall, LARGE)
    wait_until_blocked(stop)
    with pytest.raises(ResourceBusy):
        near.unwrap() if way == "unwrap" else getattr(near, way)(b"x" * RECORD)
    with pytest.raises(ResourceBusy):
        near._ii_send_now(memoryview(LARGE))  # the same data does not make it the same write
    assert drain(far, len(LARGE)) == LARGE
    first.result()
    near.sendall(b"next")
    assert drain(far, 4) == b"next"


def test_small_writes_of_many_threads_all_arrive(pair, background):
    """A write that never waits is one turn: many threads may make such, and each arrives in one piece."""
    near, far = pair
    writers = [background(lambda byte: [near.sendall(byte * 100) for _ in range(50)], bytes([n])) for n in range(4)]
    data = drain(far, 4 * 50 * 100)
    for writer in writers:
        writer.result()
    messages = [data[at : at + 100] for at in range(0, len(data), 100)]
    assert sorted(messages) == sorted(bytes([n]) * 100 for n in range(4) for _ in range(50))


def test_a_write_times_out_with_the_count(pair, background):
    """A timeout says how much was sent, and the rest may be sent afterwards."""
    near, far = pair
    near.settimeout(0.05)
    with pytest.raises(SendTimeout) as caught:
        near.sendall(LARGE)
    sent = caught.value.transferred
    assert 0 < sent < len(LARGE)
    near.settimeout(None)
    rest = background(near.sendall, LARGE[sent:])
    assert drain(far, len(LARGE)) == LARGE
    rest.result()


def test_a_nonblocking_send_takes_a_record(pair):
    """With a timeout of 0 a send takes one record at most, and raises SSLWantWriteError when it takes none."""
    near, far = pair
    near.setblocking(False)
    sent = 0
    while True:
        try:
            count = near.send(LARGE[sent:])
        except ssl.SSLWantWriteError:
            break
        assert 0 < count <= RECORD
        sent += count
    received = drain(far, sent)
    while sent < len(LARGE):
        try:
            count = near.send(LARGE[sent:])
        except ssl.SSLWantWriteError:
            continue
        sent += count
        received += drain(far, count)
    assert received == LARGE


def test_one_thread_reads_while_another_writes(pair, background):
    """Both directions can be used at once, by a thread each."""
    near, far = pair
    echo = background(lambda: [far.sendall(chunk) for chunk in sockets.iter_chunks(far)])
    sending = background(near.sendall, LARGE)
    assert drain(near, len(LARGE)) == LARGE
    sending.result()
    socket.socket.shutdown(near, socket.SHUT_WR)
    echo.result()


def test_sendfile_over_tls(pair, background):
    """A file is read and sent; a stop leaves its position behind what was sent."""
    near, far = pair
    with tempfile.TemporaryFile() as file:
        file.write(LARGE)
        file.seek(0)
        near.stop = stop = StopEvent()
        blocked = background(near.sendfile, file)
        wait_until_blocked(stop)
        stop.set()
        sent = blocked.error().transferred
        assert sent == file.tell() > 0
        near.stop = None
        rest = background(near.sendfile, file, sent)
        assert drain(far, len(LARGE)) == LARGE
        assert rest.result() == len(LARGE) - sent


# The end


def test_unwrap_stops_and_goes_on(pair, background):
    """Unwrap waits for the other side's goodbye, stops, and can be continued; then the connection is in the clear."""
    near, far = pair
    near.stop = stop = StopEvent()
    blocked = background(near.unwrap)
    wait_until_blocked(stop)
    stop.set()
    assert isinstance(blocked.error(), Interrupted)
    near.stop = None
    going_on = background(near.unwrap)
    assert far.recv(1) == b""
    far.unwrap()
    plain = going_on.result()
    near.sendall(b"clear")
    assert far.recv(5) == b"clear"
    assert plain.fileno() == near.fileno()


def test_close_ends_what_other_threads_are_blocked_in(pair, background):
    """A close ends a blocked read in another thread with EBADF."""
    near, _ = pair
    near.stop = stop = StopEvent()
    blocked = background(near.recv, 1)
    wait_until_blocked(stop)
    near.close()
    assert blocked.error().errno == errno.EBADF


def test_after_close_it_says_so(pair):
    """Reading and writing without TLS underneath raise, and do not send in the clear what was meant to be encrypted."""
    near, _ = pair
    near.close()
    for operation in (lambda: near.read(1), lambda: near.write(b"x"), near.unwrap):
        with pytest.raises(ValueError, match=r"closed or unwrapped|No SSL wrapper"):
            operation()
    for operation in (lambda: near.recv(1), lambda: near.send(b"x")):
        with pytest.raises(OSError, match="Bad file descriptor"):
            operation()
    with pytest.raises(NotImplementedError):
        near.dup()


def test_a_set_stop_reads_and_writes_nothing(pair):
    """With a stop that is set before, no record is read or written."""
    near, far = pair
    far.sendall(b"x")
    near.stop = stop = StopEvent()
    stop.set()
    for operation in (lambda: near.recv(1), lambda: near.sendall(b"y"), lambda: near.recv_into(bytearray(1))):
        with pytest.raises(Interrupted):
            operation()
    near.stop = None
    assert near.recv(1) == b"x"
    near.sendall(b"z")
    assert far.recv(1) == b"z"
