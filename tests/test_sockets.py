"""`Socket`: what it shares with `socket.socket`, and what a stop, a timeout, a close and a fork do to it.

That every method keeps the contract of a stop is in `test_contract.py`, and that CPython's own suite accepts the class is
`make conformance`.
"""

from __future__ import annotations

import array
import errno
import fcntl
import io
import os
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import types

import pytest

from iointerrupt import Interrupted, Stalled, StopEvent, sockets, use_stop
from iointerrupt._sockets import socket as socket_module
from iointerrupt._sockets.base import BaseSocket
from iointerrupt.sockets import SendTimeout, Socket
from iointerrupt.testing import wait_until_blocked
from tests.pairs import tcp_pair

LARGE = bytes(range(256)) * 16384  # 4 MiB: more than the buffers of two sockets hold


@pytest.fixture
def pair():
    """Two connected Unix stream sockets of ours."""
    near, far = sockets.socketpair()
    with near, far:
        yield near, far
        near.stop = far.stop = None  # pytest keeps the pair longer than the test, and the stop has a descriptor


@pytest.fixture
def tcp():
    """The two ends of a TCP connection of ours."""
    near, far = tcp_pair()
    # Fixed, as the kernel lets buffers that nobody reads from grow.
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
    with near, far:
        yield near, far
        near.stop = far.stop = None  # as above


def is_nonblocking(sock):
    """Whether the kernel has it as non-blocking."""
    return bool(fcntl.fcntl(sock.fileno(), fcntl.F_GETFL) & os.O_NONBLOCK)


def drain(sock, amount):
    """Receive exactly so many bytes."""
    parts = []
    while amount:
        parts.append(sock.recv(min(amount, 1 << 20)))
        assert parts[-1], "the stream has ended"
        amount -= len(parts[-1])
    return b"".join(parts)


# The object


def test_it_is_a_socket_with_a_stop():
    """It is made as socket.socket is, with a stop that can be read, set and taken away."""
    stop, plain = StopEvent(), threading.Event()
    with Socket(socket.AF_INET, socket.SOCK_DGRAM, stop=stop) as sock:
        assert isinstance(sock, socket.socket)
        assert sock.type == socket.SOCK_DGRAM
        assert sock.stop is stop
        sock.stop = plain
        plain.set()
        with pytest.raises(Interrupted):
            sock.recv(1)
        sock.stop = None
        assert sock.stop is None


def test_a_wrong_stop_is_refused_and_leaves_no_descriptor():
    """A stop of a wrong type is a TypeError, from the constructor and from the attribute."""
    with pytest.raises(TypeError, match="cannot be a stop"):
        Socket(stop="stop")
    with Socket() as sock, pytest.raises(TypeError, match="cannot be a stop"):
        sock.stop = True


def test_it_cannot_be_pickled():
    """As with socket.socket, pickling says that it cannot be done."""
    with Socket() as sock, pytest.raises(TypeError, match="cannot pickle 'Socket'"):
        pickle.dumps(sock)


@pytest.mark.parametrize(
    ("value", "error"),
    [(-1, ValueError), (float("nan"), ValueError), (1e30, OverflowError), ("1", TypeError), (None, None), (0, None)],
)
def test_timeouts_are_accepted_and_refused_as_by_the_standard_class(value, error):
    """What settimeout refuses, it refuses with the standard error; what it accepts, it keeps."""
    with Socket() as sock, socket.socket() as standard:
        if error is None:
            sock.settimeout(value)
            standard.settimeout(value)
            assert (sock.timeout, sock.gettimeout()) == (standard.timeout, standard.gettimeout())
            assert sock.getblocking() == standard.getblocking()
        else:
            for each in (sock, standard):
                with pytest.raises(error):
                    each.settimeout(value)


def test_the_default_timeout_counts():
    """A new socket, an accepted one and one of a descriptor take socket.setdefaulttimeout's value."""
    socket.setdefaulttimeout(7.5)
    try:
        with (
            sockets.create_server(("127.0.0.1", 0)) as listener,
            sockets.create_connection(listener.getsockname()) as near,
            Socket(fileno=os.dup(near.fileno())) as double,
        ):
            far, _ = listener.accept()
            with far:
                assert [each.gettimeout() for each in (listener, near, far, double)] == [7.5] * 4
    finally:
        socket.setdefaulttimeout(None)


def test_nonblocking_raises_as_the_standard_class(pair):
    """With a timeout of 0 what would block raises BlockingIOError, and what would not does not."""
    near, far = pair
    near.setblocking(False)
    with pytest.raises(BlockingIOError):
        near.recv(1)
    far.send(b"x")
    assert near.recv(1) == b"x"
    with pytest.raises(BlockingIOError):
        near.sendall(LARGE)


@pytest.mark.parametrize(
    "call",
    [
        lambda sock: sock.recv_into(bytearray(1)),
        lambda sock: sock.recvfrom(1),
        lambda sock: sock.recvfrom_into(bytearray(1)),
        lambda sock: sock.recvmsg(1),
        lambda sock: sock.recvmsg_into([bytearray(1)]),
        lambda sock: [sock.send(LARGE) for _ in range(100)],
        lambda sock: [sock.sendmsg([LARGE]) for _ in range(100)],
        lambda sock: sock.sendfile(io.BytesIO(b"x")),
    ],
)
def test_nonblocking_raises_in_each_method(pair, call):
    """So does each of the others; `sendfile` refuses such a socket."""
    near, _ = pair
    near.settimeout(0)
    with pytest.raises((BlockingIOError, ValueError)) as caught:
        call(near)
    assert isinstance(caught.value, BlockingIOError) or str(caught.value) == "non-blocking sockets are not supported"


@pytest.mark.parametrize("make", [sockets.create_server, lambda address: sockets.wrap(socket.create_server(address))])
def test_nonblocking_accept(make):
    """A listener of ours, or of somebody else's, on which nobody waits, does not."""
    with make(("127.0.0.1", 0)) as listener:
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_nonblocking_sendto(tmp_path):
    """A datagram for which the receiver has no room is not waited with."""
    with Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as far, Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as near:
        far.bind(str(tmp_path / "far"))
        near.settimeout(0)
        with pytest.raises(BlockingIOError):
            for _ in range(10_000):
                near.sendto(b"x" * 1000, str(tmp_path / "far"))


@pytest.mark.parametrize("arguments", [(), (None,), (0, 0, 0), ("flags", ("127.0.0.1", 1))])
def test_sendto_with_wrong_arguments(pair, arguments):
    """What is wrong with arguments is said as the standard class says it."""
    with pytest.raises(TypeError) as caught:
        pair[0].sendto(b"x", *arguments)
    near, far = socket.socketpair()
    with near, far, pytest.raises(TypeError) as standard:
        near.sendto(b"x", *arguments)
    assert str(caught.value) == str(standard.value)


def test_an_error_before_the_first_byte_of_all():
    """MSG_WAITALL raises an error at once where nothing came before it."""
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        with sockets.create_connection(listener.getsockname()) as near:
            far, _ = listener.accept()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            far.close()
            with pytest.raises(ConnectionResetError):
                near.recv(10, socket.MSG_WAITALL)


def test_a_flag_that_asks_not_to_wait_is_obeyed(pair):
    """MSG_DONTWAIT makes one call non-blocking."""
    with pytest.raises(BlockingIOError):
        pair[0].recv(1, socket.MSG_DONTWAIT)


def test_a_timeout_is_a_timeout_error(pair):
    """A receive, an accept and a send that get nowhere in time raise TimeoutError."""
    near, _ = pair
    near.settimeout(0.01)
    with pytest.raises(TimeoutError, match="timed out"):
        near.recv(1)
    with pytest.raises(SendTimeout) as caught:
        near.sendall(LARGE)
    assert 0 < caught.value.transferred < len(LARGE)
    assert pickle.loads(pickle.dumps(caught.value)).transferred == caught.value.transferred
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.01)
        with pytest.raises(TimeoutError):
            listener.accept()


def test_dup_has_the_stop_and_the_timeout(pair):
    """A duplicate is for the same connection, and stops and times out like the original."""
    near, far = pair
    near.stop = stop = StopEvent()
    near.settimeout(3)
    with near.dup() as double:
        assert type(double) is Socket
        assert (double.stop, double.gettimeout()) == (stop, 3.0)
        far.send(b"x")
        assert double.recv(1) == b"x"


@pytest.mark.parametrize(("timeout", "nonblocking"), [(None, False), (0, True), (5, True)])
def test_detach_gives_back_the_mode_of_the_timeout(timeout, nonblocking):
    """A detached descriptor is in the mode that a socket.socket with this timeout would have left it in."""
    sock = Socket()
    assert is_nonblocking(sock)
    sock.settimeout(timeout)
    with socket.socket(fileno=sock.detach()) as standard:
        assert is_nonblocking(standard) == nonblocking


def test_a_descriptor_of_others_keeps_its_mode():
    """A descriptor that came from elsewhere, which others may share, is never switched to non-blocking."""
    near, far = socket.socketpair()
    with near, far, Socket(fileno=os.dup(near.fileno())) as sock:
        sock.settimeout(0.01)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.recv(1)
        assert not is_nonblocking(near)


def test_a_child_process_gets_a_blocking_socket_by_detach(pair):
    """`detach` is how a descriptor is handed to a program that expects to block on it."""
    near, far = pair
    descriptor = near.detach()
    child = subprocess.Popen(
        [sys.executable, "-c", "import os; os.write(1, os.read(0, 10))"], stdin=descriptor, stdout=subprocess.PIPE
    )
    os.close(descriptor)
    far.send(b"hello")
    output, _ = child.communicate(timeout=20)
    assert output == b"hello"


# A stop


def test_a_stop_consumes_nothing(pair, background):
    """A stop that comes together with data wins, and the data is there for the next receive."""
    near, far = pair
    near.stop = stop = StopEvent()
    blocked = background(near.recv, 10)
    wait_until_blocked(stop)
    stop.set("enough")
    assert blocked.error().reason == "enough"
    far.send(b"data")
    with pytest.raises(Interrupted):
        near.recv(10)
    near.stop = StopEvent()
    assert near.recv(10) == b"data"


def test_the_current_stop_ends_one_of_two_threads_on_a_socket(pair, background):
    """Two threads may receive on one socket; the current stop of one ends that one alone."""
    near, far = pair
    near.stop = own = StopEvent()
    current = StopEvent()

    def receive_under_current():
        with use_stop(current):
            return near.recv(1)

    first, second = background(near.recv, 1), background(receive_under_current)
    wait_until_blocked(own, 2)
    current.set()
    assert isinstance(second.error(), Interrupted)
    far.send(b"x")
    assert first.result() == b"x"


def test_many_threads_on_one_socket_share_the_bytes(pair, background):
    """Each byte goes to one of the threads that wait for it; those that lose the race wait on."""
    near, far = pair
    near.stop = stop = StopEvent()
    threads = [background(near.recv, 1) for _ in range(8)]
    wait_until_blocked(stop, 8)
    far.send(b"abcdefgh")
    assert b"".join(sorted(thread.result() for thread in threads)) == b"abcdefgh"


def test_sendall_says_how_much_it_sent(tcp, background):
    """An interrupted sendall carries the exact count, and the rest continues the stream."""
    near, far = tcp
    near.stop = stop = StopEvent()
    blocked = background(near.sendall, LARGE)
    wait_until_blocked(stop)
    stop.set()
    sent = blocked.error().transferred
    assert 0 < sent < len(LARGE)
    near.stop = None
    rest = background(near.sendall, LARGE[sent:])
    assert drain(far, len(LARGE)) == LARGE
    rest.result()


def test_sendall_under_a_set_stop_sends_nothing(pair):
    """With the stop set before, nothing is transferred."""
    near, far = pair
    with use_stop(lambda: True), pytest.raises(Interrupted) as caught:
        near.sendall(b"abc")
    assert caught.value.transferred == 0
    far.setblocking(False)
    with pytest.raises(BlockingIOError):
        far.recv(1)


def test_sendall_of_nothing_sends_an_empty_datagram():
    """As the standard class: even no bytes are one datagram."""
    near, far = sockets.socketpair(type=socket.SOCK_DGRAM)
    with near, far:
        near.sendall(b"")
        assert far.recv(1) == b""


@pytest.mark.parametrize("how", ["recv", "recv_into"])
def test_waitall_is_interrupted_with_what_it_has(pair, background, how):
    """MSG_WAITALL waits for all bytes; a stop hands over those that had come."""
    near, far = pair
    near.stop = stop = StopEvent()
    buffer = bytearray(6)

    def receive():
        if how == "recv":
            return near.recv(6, socket.MSG_WAITALL)
        return bytes(buffer[: near.recv_into(buffer, 0, socket.MSG_WAITALL)])

    far.send(b"abc")
    blocked = background(receive)
    wait_until_blocked(stop)
    stop.set()
    error = blocked.error()
    assert (error.transferred, error.partial) == (3, b"abc")
    near.stop = None
    waiting = background(receive)
    far.send(b"def")
    far.send(b"ghi")
    assert waiting.result() == b"defghi"


def test_waitall_ends_with_the_stream(pair):
    """MSG_WAITALL returns what there was when the stream ends."""
    near, far = pair
    far.send(b"abc")
    far.close()
    assert near.recv(6, socket.MSG_WAITALL) == b"abc"


def test_waitall_returns_what_came_before_an_error(tcp, background):
    """The bytes before a reset are returned, and the next receive raises the error, as the kernel has it."""
    near, far = tcp
    near.stop = stop = StopEvent()
    far.send(b"abc")
    blocked = background(near.recv, 6, socket.MSG_WAITALL)
    wait_until_blocked(stop)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    far.close()
    assert blocked.result() == b"abc"
    with pytest.raises(ConnectionResetError):
        near.recv_into(bytearray(6))
    assert near.recv(1) == b""


@pytest.mark.parametrize(("size", "error"), [(50, ValueError), (-2, ValueError), (1.5, TypeError)])
def test_waitall_refuses_wrong_sizes_as_the_standard_class(pair, size, error):
    """A size beyond the buffer, a negative one and no integer are refused, with bytes there and nothing taken."""
    near, far = pair
    far.send(b"x" * 10)
    standard = socket.socket(fileno=os.dup(near.fileno()))
    with standard:
        for each in (standard, near):
            with pytest.raises(error):
                each.recv_into(bytearray(4), size, socket.MSG_WAITALL)
            if size != 50:
                with pytest.raises(error):
                    each.recv(size, socket.MSG_WAITALL)
    assert near.recv(10) == b"x" * 10


@pytest.fixture
def full_receiver(tmp_path):
    """A Unix datagram socket that takes no more, and its address."""
    address = str(tmp_path / "receiver")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    sender.sendto(b"x", address)
        yield receiver, address


def count_attempts(monkeypatch, name):
    """Count the calls of a bare method of the standard class."""
    attempts, bare = [], getattr(socket_module, name)

    def attempt(*args):
        attempts.append(args)
        return bare(*args)

    monkeypatch.setattr(socket_module, name, attempt)
    return attempts


@pytest.mark.skipif(sys.platform != "linux", reason="what Linux calls writable")
@pytest.mark.parametrize("end", ["timeout", "stop", "room"])
def test_sending_to_a_full_receiver_is_no_busy_loop(monkeypatch, background, full_receiver, end):
    """Where the kernel says writable and takes nothing, attempts have growing pauses, which everything ends."""
    receiver, address = full_receiver
    attempts = count_attempts(monkeypatch, "_sendto")
    with Socket(socket.AF_UNIX, socket.SOCK_DGRAM, stop=StopEvent()) as sender:
        if end == "timeout":
            sender.settimeout(0.2)
            with pytest.raises(TimeoutError):
                sender.sendto(b"y", address)
            assert len(attempts) <= 25  # 1 + 2 + 4 + 8 + 16 + 20 + ... ms
            return
        blocked = background(sender.sendto, b"y", address)
        wait_until_blocked(sender.stop)
        if end == "stop":
            sender.stop.set()
            assert isinstance(blocked.error(), Interrupted)
        else:
            receiver.recv(1)
            assert blocked.result() == 1


@pytest.mark.skipif(sys.platform != "linux", reason="IP_RECVERR is Linux's")
def test_receiving_with_an_error_queued_is_no_busy_loop(monkeypatch):
    """An entry in the error queue makes poll call the socket ready for ever; recv waits without spinning."""
    attempts = count_attempts(monkeypatch, "_recv")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken, Socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        taken.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR, which the socket module does not name everywhere
        sock.connect(taken.getsockname())
        taken.close()
        sock.send(b"x")
        sock.settimeout(0.2)
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)  # takes the error, and leaves its entry in the queue
        attempts.clear()
        with pytest.raises(TimeoutError):
            sock.recv(1)
        assert len(attempts) <= 25
        assert sock.recvmsg(100, 1000, socket.MSG_ERRQUEUE)[1]


def test_descriptors_are_passed(pair):
    """The functions socket.send_fds and recv_fds, which are built on sendmsg and recvmsg, work on it."""
    near, far = pair
    with tempfile.TemporaryFile() as file:
        file.write(b"hello")
        file.flush()
        socket.send_fds(near, [b"x"], [file.fileno()])
        data, descriptors, _, _ = socket.recv_fds(far, 1, 1)
        assert data == b"x"
        try:
            assert os.pread(descriptors[0], 5, 0) == b"hello"
        finally:
            os.close(descriptors[0])


def test_sendmsg_takes_iterators(pair):
    """Buffers and ancillary data may be iterators, which can be read only once."""
    near, far = pair
    near.sendmsg(iter([b"ab", b"c"]))
    buffers = [bytearray(2), bytearray(2)]
    assert far.recvmsg_into(iter(buffers))[0] == 3
    assert buffers == [b"ab", b"c\0"]


# Sendfile


@pytest.fixture
def large_file():
    """A file that is larger than the socket's buffers, at its beginning."""
    with tempfile.TemporaryFile() as file:
        file.write(LARGE)
        file.seek(0)
        yield file


class WithoutDescriptor:
    """A file that the kernel cannot send by itself."""

    mode = "rb"

    def __init__(self, file):
        self.read, self.seek, self.tell = file.read, file.seek, file.tell


@pytest.mark.parametrize("by_kernel", [True, False], ids=["kernel", "chunks"])
def test_sendfile_says_how_much_it_sent(tcp, background, large_file, by_kernel):
    """An interrupted sendfile carries the count, leaves the file behind it, and can be continued."""
    near, far = tcp
    file = large_file if by_kernel else WithoutDescriptor(large_file)
    near.stop = stop = StopEvent()
    blocked = background(near.sendfile, file)
    wait_until_blocked(stop)
    stop.set()
    sent = blocked.error().transferred
    assert 0 < sent < len(LARGE)
    assert file.tell() == sent
    near.stop = None
    rest = background(near.sendfile, file, sent)
    assert drain(far, len(LARGE)) == LARGE
    assert rest.result() == len(LARGE) - sent


def test_sendfile_goes_on_where_the_file_stands(tcp, background, tmp_path):
    """What was read and not sent is not skipped: the same call again sends it, also where nothing was sent, from any position."""
    near, far = tcp
    file = io.BytesIO(LARGE)
    file.seek(1000)
    total = 0
    for _ in range(3):
        near.stop = stop = StopEvent()
        blocked = background(near.sendfile, file)
        wait_until_blocked(stop)
        stop.set()
        total += blocked.error().transferred
        assert file.tell() == 1000 + total
    near.stop = None
    rest = background(near.sendfile, file)
    assert drain(far, len(LARGE) - 1000) == LARGE[1000:]
    assert rest.result() == len(LARGE) - 1000 - total


def test_sendfile_of_what_cannot_seek(tcp, background):
    """What was read and not sent is in the exception, where it cannot be put back."""
    near, far = tcp
    source = types.SimpleNamespace(read=io.BytesIO(LARGE).read)
    near.stop = stop = StopEvent()
    blocked = background(near.sendfile, source)
    wait_until_blocked(stop)
    stop.set()
    error = blocked.error()
    assert 0 < len(error.partial) <= 65536
    near.stop = None
    sending = background(lambda: (near.sendall(error.partial), near.sendfile(source)))
    assert drain(far, len(LARGE)) == LARGE
    sending.result()


def test_sendfile_times_out_with_the_count(tcp, large_file):
    """A timeout of sendfile says how much was sent."""
    near, _ = tcp
    near.settimeout(0.05)
    with pytest.raises(SendTimeout) as caught:
        near.sendfile(large_file)
    assert 0 < caught.value.transferred == large_file.tell()


@pytest.mark.parametrize("by_kernel", [True, False])
def test_the_timeout_of_sendfile_is_for_each_wait(tcp, background, large_file, monkeypatch, by_kernel):
    """As in the standard class, the time begins anew whenever something was sent."""
    near, far = tcp
    near.settimeout(100)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    waits, waited_twice = [], threading.Event()

    def wait(self, events, own, deadline):
        waits.append(deadline)
        if len(waits) == 2:
            waited_twice.set()
        standard(self, events, own, deadline)

    standard = BaseSocket._ii_wait
    monkeypatch.setattr(BaseSocket, "_ii_wait", wait)
    sending = background(near.sendfile, large_file if by_kernel else WithoutDescriptor(large_file))
    with socket.socket(fileno=os.dup(far.fileno())) as bare:
        bare.setblocking(True)
        received = b""
        # Read a little at a time, so that the sender fills the room again and has to wait once more.
        while not waited_twice.wait(0.05) and len(received) < len(LARGE):
            received += bare.recv(32768)
        assert received + drain(bare, len(LARGE) - len(received)) == LARGE
    assert sending.result() == len(LARGE)
    assert len(waits) > 1
    assert len(set(waits)) == len(waits)


def test_sendfile_sends_a_part(tcp, large_file):
    """Offset and count choose a part of the file."""
    near, far = tcp
    assert near.sendfile(large_file, 256, 100) == 100
    assert drain(far, 100) == LARGE[:100]


def test_sendfile_on_a_blocking_descriptor_of_others_can_be_stopped(background, large_file):
    """A wrapped socket's sendfile does not wait in the kernel, though its descriptor is blocking."""
    standard, far = socket.socketpair()
    stop = StopEvent()
    with sockets.wrap(standard, stop=stop) as near, far:
        assert not is_nonblocking(near)
        blocked = background(near.sendfile, large_file)
        wait_until_blocked(stop)
        stop.set()
        assert blocked.error().transferred == large_file.tell() > 0


# Connecting


def test_connect_to_a_full_unix_listener_stops_and_connects(background, tmp_path):
    """A Unix listener with a full queue keeps connect waiting: a stop ends that, and room in the queue as well."""
    path = str(tmp_path / "socket")
    with Socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        waiting = []
        try:
            while True:
                waiting.append(Socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(path)
        except BlockingIOError:
            pass
        stop = StopEvent()
        with Socket(socket.AF_UNIX, stop=stop) as sock:
            blocked = background(sock.connect, path)
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(blocked.error(), Interrupted)
            sock.stop = None
            sock.settimeout(0.01)
            with pytest.raises(TimeoutError):
                sock.connect(path)
            assert sock.connect_ex(path) == errno.EAGAIN
            sock.settimeout(None)
            sock.stop = again = StopEvent()
            connecting = background(sock.connect, path)
            wait_until_blocked(again)
            listener.accept()[0].close()
            connecting.result()
        for each in waiting:
            each.close()


@pytest.fixture
def silent_address():
    """A listener on loopback whose queue is full, so that a connection to it is never answered."""
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


def test_connect_stops_and_goes_on(background, silent_address):
    """A connect that was interrupted can be called again, and waits for the same attempt."""
    address, stop, end = silent_address.getsockname(), StopEvent(), StopEvent()

    def make_room():
        with sockets.wrap(silent_address.dup(), stop=end) as listener:
            try:
                while True:
                    listener.accept()[0].close()
            except Interrupted:
                pass

    with Socket(stop=stop) as sock:
        blocked = background(sock.connect, address)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(blocked.error(), Interrupted)
        sock.stop = again = StopEvent()
        going_on = background(sock.connect, address)
        wait_until_blocked(again)
        accepting = background(make_room)
        going_on.result()
        assert sock.getpeername() == address
        with pytest.raises(OSError, match="already connected"):
            sock.connect(address)
        end.set()
        accepting.result()


def test_connect_times_out(silent_address):
    """An attempt that is not answered ends with the timeout; connect_ex returns EAGAIN for it."""
    with Socket() as sock:
        sock.settimeout(0.01)
        with pytest.raises(TimeoutError):
            sock.connect(silent_address.getsockname())
        assert sock.connect_ex(silent_address.getsockname()) == errno.EAGAIN


def test_connect_does_not_change_the_mode_of_a_descriptor_of_others(silent_address):
    """For a descriptor that others may share, connect is non-blocking for one system call alone."""
    with socket.socket() as standard, Socket(fileno=os.dup(standard.fileno())) as sock:
        sock.settimeout(0.01)
        with pytest.raises(TimeoutError):
            sock.connect(silent_address.getsockname())
        assert not is_nonblocking(standard)


def test_connect_refused_is_the_standard_error():
    """A port on which nobody listens is ConnectionRefusedError, and its number from connect_ex."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with Socket() as sock:
            with pytest.raises(ConnectionRefusedError):
                sock.connect(unused.getsockname())
            assert sock.connect_ex(unused.getsockname()) == errno.ECONNREFUSED


def test_connect_and_sendto_look_names_up():
    """A host name is looked up, for a stream as for a datagram."""
    with Socket(type=socket.SOCK_DGRAM) as receiver, Socket(type=socket.SOCK_DGRAM) as sender:
        receiver.bind(("127.0.0.1", 0))
        port = receiver.getsockname()[1]
        sender.sendto(b"a", ("localhost", port))
        sender.sendto(b"b", 0, ("localhost", port))
        sender.sendmsg([b"c"], [], 0, ("localhost", port))
        sender.connect(("localhost", port))
        sender.send(b"d")
        assert [receiver.recvfrom(9) for _ in "abcd"] == [
            (data, sender.getsockname()) for data in (b"a", b"b", b"c", b"d")
        ]


def test_accept_gives_the_listeners_stop():
    """An accepted connection is a Socket with the stop of its listener."""
    stop = StopEvent()
    with (
        sockets.create_server(("127.0.0.1", 0), stop=stop) as listener,
        sockets.create_connection(listener.getsockname()),
    ):
        far, address = listener.accept()
        with far:
            assert type(far) is Socket
            assert far.stop is stop
            assert far.getpeername() == address
            assert far.gettimeout() is None


def test_accept_on_a_listener_that_is_shut_down(background, tmp_path):
    """An accept ends, as it does on a standard socket, when another thread shuts its listener down."""
    stop = StopEvent()
    with Socket(socket.AF_UNIX, stop=stop) as listener:
        listener.bind(str(tmp_path / "listener"))
        listener.listen()
        blocked = background(listener.accept)
        wait_until_blocked(stop)
        listener.shutdown(socket.SHUT_RDWR)
        error = blocked.error()
        assert isinstance(error, OSError)
        assert error.errno == errno.EINVAL


def test_accept_on_a_listener_of_others(background):
    """A blocking listener that others may share is polled: it stops, times out and accepts, and stays blocking."""
    stop = StopEvent()
    with (
        socket.create_server(("127.0.0.1", 0)) as standard,
        Socket(fileno=os.dup(standard.fileno()), stop=stop) as listener,
    ):
        blocked = background(listener.accept)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(blocked.error(), Interrupted)
        listener.stop = None
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
        listener.settimeout(5)
        with socket.create_connection(standard.getsockname()):
            listener.accept()[0].close()
        assert not is_nonblocking(standard)


# Closing


@pytest.mark.parametrize(
    "make",
    [
        sockets.socketpair,
        lambda: sockets.socketpair(type=socket.SOCK_DGRAM),
        lambda: (bound_datagram(),),
        lambda: (sockets.create_server(("127.0.0.1", 0)),),
    ],
    ids=["stream", "datagram pair", "datagram", "listener"],
)
def test_close_ends_what_other_threads_are_blocked_in(background, make):
    """close() ends blocked operations in other threads with EBADF, and the descriptor is closed when they have left."""
    made = make()
    sock, stop = made[0], StopEvent()
    sock.stop = stop
    listens = sock.type == socket.SOCK_STREAM and len(made) == 1
    blocked = [background(sock.accept) if listens else background(sock.recv, 1) for _ in range(3)]
    wait_until_blocked(stop, 3)
    sock.close()
    assert [each.error().errno for each in blocked] == [errno.EBADF] * 3
    assert sock.fileno() == -1
    for other in made:
        other.close()


def bound_datagram():
    """A UDP socket that somebody could send to."""
    sock = Socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


def test_close_of_a_descriptor_of_others_shuts_nothing_down(background):
    """A blocked thread on a shared descriptor keeps it until it becomes ready, and ends with EBADF then."""
    standard, far = socket.socketpair()
    stop = StopEvent()
    with standard, far:
        sock = Socket(fileno=os.dup(standard.fileno()), stop=stop)
        blocked = background(sock.recv, 1)
        wait_until_blocked(stop)
        sock.close()
        far.send(b"x")
        assert blocked.error().errno == errno.EBADF
        assert standard.recv(1) == b"x"


def test_operations_on_a_closed_socket_are_ebadf(pair):
    """After close every operation, settimeout included, raises OSError with EBADF."""
    near, _ = pair
    near.close()
    operations = (
        lambda: near.recv(1),
        lambda: near.send(b"x"),
        lambda: near.sendall(b"x"),
        near.accept,
        lambda: near.connect("path"),
        lambda: near.settimeout(1),
        lambda: near.setblocking(False),
    )
    for operation in operations:
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            operation()
        assert caught.value.errno == errno.EBADF


def test_a_forked_child_closes_its_copy_alone(pair, background):
    """A child that closes a socket on which a thread of its parent is blocked does not shut the connection down."""
    near, far = pair
    near.stop = stop = StopEvent()
    blocked = background(near.recv, 1)
    wait_until_blocked(stop)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            number = near.fileno()
            near.close()
            try:
                os.fstat(number)
            except OSError:
                status = 0  # it is really closed
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    far.send(b"x")
    assert blocked.result() == b"x"


def test_an_unclosed_socket_is_warned_of():
    """A socket that is dropped without close() is closed with the standard ResourceWarning."""
    sock = Socket()
    references = [sock]
    del sock
    with pytest.warns(ResourceWarning, match="unclosed"):
        references.clear()


# Files over it


def test_a_file_loses_nothing_to_a_stop(pair, background):
    """What an interrupted read had taken is in the exception, and the file reads on after it."""
    near, far = pair
    near.stop = stop = StopEvent()
    with near.makefile("rb") as file:
        far.send(b"abc")
        blocked = background(file.read, 6)
        wait_until_blocked(stop)
        stop.set()
        assert blocked.error().partial == b"abc"
        near.stop = None
        far.send(b"defghi")
        assert file.read(6) == b"defghi"


def test_a_file_goes_on_after_a_timeout(pair):
    """Where the standard file refuses to be read after a timeout, this one has lost nothing and goes on."""
    near, far = pair
    near.settimeout(0.01)
    with near.makefile("rb") as file:
        far.send(b"abc")
        with pytest.raises(Stalled) as caught:
            file.readline()
        assert caught.value.partial == b"abc"
        far.send(b"def\n")
        assert file.readline() == b"def\n"


def test_files_in_both_directions(pair):
    """A binary pair and a text file write and read."""
    near, far = pair
    with near.makefile("rwb") as one, far.makefile("rw", encoding="utf-8", newline="\n") as other:
        one.write(b"question\n")
        one.flush()
        assert other.readline() == "question\n"
        other.write("answer\n")
        other.flush()
        assert one.readline() == b"answer\n"


def test_a_file_keeps_the_socket_open(pair):
    """As with the standard class, the connection is closed when the last file over it is."""
    near, far = pair
    with near.makefile("rb") as file:
        near.close()
        far.send(b"x")
        assert file.read(1) == b"x"
    assert far.recv(1) == b""


@pytest.mark.parametrize(("mode", "buffering"), [("x", None), ("r", 0)])
def test_a_wrong_mode_is_refused(pair, mode, buffering):
    """A mode that is none, and unbuffered text, are ValueErrors."""
    with pytest.raises(ValueError, match=r"mode|unbuffered"):
        pair[0].makefile(mode, buffering)


def test_ancillary_data_arrives_in_one_piece(pair):
    """A recvmsg returns data, ancillary data, flags and address as the standard class."""
    near, far = pair
    numbers = array.array("i", [near.fileno()])
    far.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
    data, ancillary, _, _ = near.recvmsg(1, socket.CMSG_SPACE(numbers.itemsize))
    assert data == b"x"
    received = array.array("i", ancillary[0][2])
    os.close(received[0])
