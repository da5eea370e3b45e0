"""The contract of sockets, TLS, files and HTTP, with every kind of stop, through `check_interruptible`."""

from __future__ import annotations

import functools
import os
import pty
import socket
import ssl
import tempfile
import threading
import tty
from contextlib import ExitStack, contextmanager

import requests
import trustme

from iointerrupt import StopEvent, as_stop, files, http, sockets
from iointerrupt._wait import check
from iointerrupt.testing import FaultServer, Operation, steps
from tests.operations import RECEIVERS, InThread, Operations, a_fifo, into, through_file, with_stop
from tests.scripts import always

# Fills the buffers of any socket or pipe here, so that a write of it blocks.
PLENTY = 1 << 20

OPERATIONS = Operations()
operation, rows = OPERATIONS.operation, OPERATIONS.rows


# Sockets: what receives


def receiving(receive, family=socket.AF_UNIX, kind=socket.SOCK_STREAM):
    """An operation that waits for three bytes."""
    near, far = sockets.socketpair(family, kind)
    with near, far:
        yield Operation(run=lambda stop: with_stop(near, stop, lambda: receive(near)), release=lambda: far.send(b"abc"))


rows({f"Socket.{name}": run for name, run in RECEIVERS.items()}, receiving)
rows(
    {
        "Socket.recv of a datagram": RECEIVERS["recv"],
        "Socket.recvfrom of a datagram": RECEIVERS["recvfrom"],
    },
    functools.partial(receiving, kind=socket.SOCK_DGRAM),
)


@operation
def recv_exactly():
    """Three bytes from a socket of the standard library."""
    near, far = socket.socketpair()
    with near, far:
        yield Operation(run=lambda stop: sockets.recv_exactly(near, 3, stop=stop), release=lambda: far.send(b"abc"))


@operation
def sockets_iter_chunks():
    """The first chunk from a socket of the standard library."""
    near, far = socket.socketpair()
    with near, far:
        yield Operation(run=lambda stop: next(sockets.iter_chunks(near, stop=stop)), release=lambda: far.send(b"abc"))


@operation
def wrapped_recv():
    """A receive on a blocking socket that was handed to wrap."""
    near, far = socket.socketpair()
    with sockets.wrap(near) as wrapped, far:
        yield Operation(
            run=lambda stop: with_stop(wrapped, stop, lambda: wrapped.recv(3)), release=lambda: far.send(b"abc")
        )


# Sockets: what connects


def accepting(family, address):
    """An accept, of which the accepted socket's first byte is compared."""
    with sockets.create_server(address, family=family) as listener, ExitStack() as clients:

        def accept():
            connection, _ = listener.accept()
            with connection:
                return connection.recv(1)

        def connect():
            client = clients.enter_context(socket.create_connection(listener.getsockname()[:2]))
            client.send(b"x")

        yield Operation(run=lambda stop: with_stop(listener, stop, accept), release=connect)


OPERATIONS["Socket.accept, IPv4"] = contextmanager(functools.partial(accepting, socket.AF_INET, ("127.0.0.1", 0)))
OPERATIONS["Socket.accept, IPv6"] = contextmanager(functools.partial(accepting, socket.AF_INET6, ("::1", 0)))


@contextmanager
def slow_lookup():
    """Names are looked up only once the yielded event is set."""
    answer, lookup = threading.Event(), socket.getaddrinfo

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002 - the standard signature
        if not flags & socket.AI_NUMERICHOST:
            answer.wait(20)
            host = "127.0.0.1"
        return lookup(host, port, family, type, proto, flags)

    socket.getaddrinfo = getaddrinfo
    try:
        yield answer
    finally:
        answer.set()
        socket.getaddrinfo = lookup


@operation
def getaddrinfo():
    """The lookup of a name."""
    with slow_lookup() as answer:
        yield Operation(
            run=lambda stop: sockets.getaddrinfo("slow.test", 80, type=socket.SOCK_STREAM, stop=stop),
            release=answer.set,
        )


@operation
def create_connection():
    """A connection whose name takes its time to be found."""
    with slow_lookup() as answer, socket.create_server(("127.0.0.1", 0)) as listener:

        def connect(stop):
            with sockets.create_connection(("slow.test", listener.getsockname()[1]), stop=stop) as connection:
                return connection.getpeername()[0]

        yield Operation(run=connect, release=answer.set)


# Sockets: what sends


def sending(send, kind=socket.SOCK_STREAM):
    """An operation that sends more than fits, until the other end takes it."""
    near, far = sockets.socketpair(socket.AF_UNIX, kind)
    with ExitStack() as resources:
        resources.enter_context(near)
        resources.enter_context(far)

        def drain():
            try:
                while far.recv(65536):
                    pass
            except OSError:  # closed at the end of the check
                pass

        drainer = InThread(resources, drain)
        resources.callback(lambda: near.shutdown(socket.SHUT_RDWR))

        yield Operation(run=lambda stop: with_stop(near, stop, lambda: send(near)), release=drainer.start)


def until_blocked(send):
    """Repeat a send that takes only what fits, until so much is sent that somebody must have taken it."""

    def run(sock):
        sent = 0
        while sent < PLENTY:
            sent += send(sock)
        return sent >= PLENTY

    return run


def sendfile(sock):
    """Send a file by itself."""
    with tempfile.TemporaryFile() as file:
        file.truncate(PLENTY)
        return sock.sendfile(file)


BLOCK = bytes(65536)
rows(
    {
        "Socket.send": until_blocked(lambda sock: sock.send(BLOCK)),
        "Socket.sendmsg": until_blocked(lambda sock: sock.sendmsg([BLOCK, BLOCK])),
        "Socket.sendall": lambda sock: sock.sendall(bytes(PLENTY)),
        "Socket.sendfile": sendfile,
        "Socket.makefile, write": through_file(lambda file: file.write(bytes(PLENTY)), "wb"),
    },
    sending,
)


# TLS

AUTHORITY = trustme.CA()


def contexts():
    """A client's and a server's TLS context, both with our sockets."""
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.configure_trust(client)
    AUTHORITY.issue_cert("localhost").configure_cert(server)
    client.sslsocket_class = server.sslsocket_class = sockets.SSLSocket
    return client, server


@operation
def tls_handshake():
    """A handshake with a server that takes its time."""
    client, server = contexts()
    with ExitStack() as resources:
        listener = resources.enter_context(socket.create_server(("127.0.0.1", 0)))
        begin, end = threading.Event(), StopEvent()

        def serve():
            while True:
                connection, _ = listener.accept()
                with connection:
                    begin.wait(20)
                    if end.is_set():
                        return
                    try:
                        with server.wrap_socket(connection, server_side=True) as tls:
                            tls.recv(1)
                    except OSError:  # the client was interrupted in the middle
                        continue

        peer = InThread(resources, serve)
        peer.start()

        @resources.callback
        def finish():
            end.set()
            begin.set()
            socket.create_connection(listener.getsockname()).close()

        def run(stop):
            connection = sockets.create_connection(listener.getsockname(), stop=stop)
            with client.wrap_socket(connection, server_hostname="localhost") as wrapped:
                return wrapped.version()

        yield Operation(run=run, release=begin.set)


@contextmanager
def tls_pair():
    """The two ends of a TLS connection, whose handshake is done."""
    client, server = contexts()
    near, far = sockets.socketpair()
    accepted = []
    thread = threading.Thread(target=lambda: accepted.append(server.wrap_socket(far, server_side=True)))
    thread.start()
    with client.wrap_socket(near, server_hostname="localhost") as wrapped:
        thread.join(10)
        with accepted[0] as other:
            yield wrapped, other


def tls_receiving(receive):
    """An operation that waits for three bytes on a TLS connection."""
    with tls_pair() as (near, far):
        yield Operation(run=lambda stop: with_stop(near, stop, lambda: receive(near)), release=lambda: far.send(b"abc"))


rows(
    {
        "SSLSocket.recv": RECEIVERS["recv"],
        "SSLSocket.read": lambda sock: sock.read(3),
        "SSLSocket.recv_into": RECEIVERS["recv_into"],
        "SSLSocket.makefile": RECEIVERS["makefile, read"],
        "SSLSocket, recv_exactly": lambda sock: sockets.recv_exactly(sock, 3),
    },
    tls_receiving,
)


def tls_sending(send):
    """An operation that sends more than fits on a TLS connection, until the other end takes it."""
    with tls_pair() as (near, far), ExitStack() as resources:

        def drain():
            try:
                while far.recv(65536):
                    pass
            except OSError:  # closed at the end of the check
                pass

        drainer = InThread(resources, drain)
        resources.callback(lambda: socket.socket.shutdown(near, socket.SHUT_RDWR))
        yield Operation(run=lambda stop: with_stop(near, stop, lambda: send(near)), release=drainer.start)


rows(
    {
        "SSLSocket.send": until_blocked(lambda sock: sock.send(BLOCK)),
        "SSLSocket.sendall": lambda sock: sock.sendall(bytes(PLENTY)),
    },
    tls_sending,
)


@operation
def tls_unwrap():
    """The end of TLS on a connection that goes on in the clear, which waits for the other end's."""
    with tls_pair() as (near, far), ExitStack() as resources:

        def unwrap():
            try:
                far.recv(1)  # the end of TLS, as it reads
                far.unwrap()
            except OSError:  # closed at the end of the check
                pass

        peer = InThread(resources, unwrap)
        resources.callback(lambda: socket.socket.shutdown(near, socket.SHUT_RDWR))

        def run(stop):
            near.stop = stop
            near.unwrap()

        yield Operation(run=run, release=peer.start, repeats=False)


# Files: what waits


def fifo_open(mode):
    """The open of one end of a FIFO, which waits for the other."""
    with a_fifo() as path, ExitStack() as resources:

        def run(stop):
            with files.open(path, mode, stop=stop) as fifo:
                return fifo.writable()

        def release():
            # Open for both, so that this end does not wait in its turn.
            resources.callback(os.close, os.open(path, os.O_RDWR | os.O_NONBLOCK))

        yield Operation(run=run, release=release)


OPERATIONS["files.open of a FIFO to read"] = contextmanager(functools.partial(fifo_open, "rb"))
OPERATIONS["files.open of a FIFO to write"] = contextmanager(functools.partial(fifo_open, "wb"))


def reading(read, mode="rb", **options):
    """A read from a FIFO that has nothing for now."""
    with a_fifo() as path:
        keeper = os.open(path, os.O_RDWR)
        try:
            with files.open(path, mode, **options) as fifo:
                yield Operation(
                    run=lambda stop: with_stop(fifo, stop, lambda: read(fifo)),
                    release=lambda: os.write(keeper, b"abc\n"),
                )
        finally:
            os.close(keeper)


rows(
    {
        "binary read": lambda file: file.read(4),
        "binary read1": lambda file: file.read1(4),
        "binary readinto": into(lambda file, buffer: file.readinto(buffer)),
        "binary readline": lambda file: file.readline(),
        "binary iteration": next,
        "binary peek": lambda file: file.peek(1)[:4],
    },
    reading,
)
rows({"unbuffered read": lambda file: file.read(4)}, functools.partial(reading, buffering=0))
rows(
    {
        "text read": lambda file: file.read(4),
        "text readline": lambda file: file.readline(),
        "text iteration": next,
    },
    functools.partial(reading, mode="r", encoding="utf-8"),
)


@operation
def files_iter_chunks():
    """The first chunk of a FIFO's."""
    with a_fifo() as path:
        keeper = os.open(path, os.O_RDWR)
        try:

            def run(stop):
                chunks = files.iter_chunks(path, stop=stop)
                try:
                    return next(chunks)
                finally:
                    chunks.close()

            yield Operation(run=run, release=lambda: os.write(keeper, b"abc"))
        finally:
            os.close(keeper)


def wrapped(make):
    """A read of what `make` gives over a pipe that was there before."""
    reader, writer = os.pipe()
    with make(reader) as raw, open(writer, "wb", buffering=0) as far:
        yield Operation(run=lambda stop: with_stop(raw, stop, lambda: raw.read(3)), release=lambda: far.write(b"abc"))


class OnlyRead:
    """What has a read and nothing else, and so is read in a helper."""

    def __init__(self, descriptor):
        self._file = open(descriptor, "rb", buffering=0)

    def read(self, size=-1):
        """Block, whatever anybody says."""
        return self._file.read(size)

    def close(self):
        """End."""
        self._file.close()


rows(
    {
        "files.wrap of a descriptor": lambda fd: files.wrap(fd),
        "files.wrap of a raw file": lambda fd: files.wrap(open(fd, "rb", buffering=0)),
        "files.wrap of a buffered file": lambda fd: files.wrap(open(fd, "rb")),
        "files.wrap of what has only a read": lambda fd: files.wrap(OnlyRead(fd)),
    },
    wrapped,
)


@operation
def terminal():
    """A read from a terminal."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        with files.open(slave, "rb", buffering=0) as raw:
            yield Operation(
                run=lambda stop: with_stop(raw, stop, lambda: raw.read(3)), release=lambda: os.write(master, b"abc")
            )
    finally:
        os.close(master)


def writing(write, mode="wb", **options):
    """A write of more than a pipe holds, until somebody reads it."""
    with ExitStack() as resources:
        reader, writer = os.pipe()
        source = resources.enter_context(open(reader, "rb", buffering=0))
        drainer = InThread(resources, lambda: all(source.read(65536) for _ in iter(int, 1)))
        pipe = files.open(writer, mode, **options)
        resources.callback(pipe.close)
        resources.callback(setattr, pipe, "stop", None)

        def run(stop):
            pipe.stop = stop
            return write(pipe)

        yield Operation(run=run, release=drainer.start)


rows(
    {
        "binary write": lambda file: file.write(bytes(PLENTY)),
        "binary write and flush": lambda file: (file.write(bytes(100_000)), file.flush()),
    },
    writing,
)
rows(
    {"text write": lambda file: file.write("x" * PLENTY)},
    functools.partial(writing, mode="w", encoding="utf-8"),
)


@operation
def copyfileobj():
    """A copy of all that comes from a pipe."""
    reader, writer = os.pipe()
    with files.wrap(reader) as source, tempfile.TemporaryFile() as target, ExitStack() as resources:
        far = open(writer, "wb", buffering=0)
        resources.callback(far.close)

        def release():
            far.write(b"abc")
            far.close()

        def run(stop):
            files.copyfileobj(source, target, stop=stop)
            target.seek(0)
            return target.read()

        yield Operation(run=run, release=release)


# HTTP


def web(request, *, half=False, context=None):
    """A request to a server that answers, or sends the second half of its body, only when released."""
    release = threading.Event()

    stall = steps.stall(until=release)
    answer = (
        [steps.head(length=6), steps.send(b"abc"), stall, steps.send(b"def")]
        if half
        else [stall, steps.answer(b"abcdef")]
    )
    script = [steps.repeat(steps.expect(), *answer)]
    with FaultServer(script, tls=context or False) as server, http.Session() as session:
        yield Operation(
            run=lambda stop: with_stop(session, stop, lambda: request(session, server.url)), release=release.set
        )


def read_open(session, url):
    """Read a response as a file."""
    with http.open(url, session=session) as file:
        return file.read()


rows(
    {
        "Session.get, headers": lambda session, url: session.get(url).content,
        "Session.post of a generator, headers": lambda session, url: session.post(url, data=b"xyz").content,
    },
    web,
)
rows(
    {
        "Session.get, body": lambda session, url: session.get(url).content,
        "http.iter_chunks": lambda session, url: b"".join(http.iter_chunks(session.get(url, stream=True))),
        "http.open": read_open,
        "iter_content": lambda session, url: b"".join(session.get(url, stream=True).iter_content(2)),
    },
    functools.partial(web, half=True),
)


@operation
def http_iter_chunks_of_a_foreign_response():
    """The rest of a body of which somebody else's session has read the headers."""
    release, waiting = threading.Event(), threading.Event()

    stall = steps.stall(until=release)
    with FaultServer([steps.expect(), steps.answer(b"abc", length=6), stall, steps.send(b"def")]) as server:

        def run(stop):
            # Before the request, which is not ours and would not stop.
            check(as_stop(stop))
            with requests.Session() as session, session.get(server.url, stream=True, timeout=20) as response:
                chunks = http.iter_chunks(response, stop=stop)
                first = next(chunks)
                waiting.set()
                return first + b"".join(chunks)

        yield Operation(run=run, release=release.set, wait_until_blocked=lambda stop: waiting.wait(20))


@operation
def http_upload():
    """The sending of a body that the server takes only when released."""
    release = threading.Event()

    with FaultServer([steps.stall(until=release), *always(b"taken")]) as server, http.Session() as session:
        body = bytes(32 << 20)
        yield Operation(
            run=lambda stop: with_stop(session, stop, lambda: session.put(server.url, data=body).content),
            release=release.set,
        )


@operation
def http_wait_for_a_pooled_connection():
    """A request that waits for the only connection of a pool, which another response holds."""
    with (
        FaultServer(always(b"body")) as server,
        http.Session(pool_size=1, pool_block=True) as session,
        session.get(server.url, stream=True) as holder,
    ):
        yield Operation(
            run=lambda stop: with_stop(session, stop, lambda: session.get(server.url).content),
            release=lambda: holder.content,
        )


test_keeps_the_contract = OPERATIONS.as_test()
