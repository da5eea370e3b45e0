"""Stops of everything that a socket does: receiving and sending over a pair, connecting and accepting, shaking hands.

Of a pair, both ends are stopped at the same time: what the sender says it has sent is what the receiver is held to. Each
round draws how each end works: by the methods of the socket, by a file of `makefile`, or by the functions that take any
socket.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import ssl
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from iointerrupt import sockets
from iointerrupt.testing._certificates import credentials
from tests.stress.operations import READING, WRITING, Iterating, closed, persist
from tests.stress.rounds import Round
from tests.stress.stops import Stops, Trial
from tests.stress.streams import SIZE, Read, Reader, Write, Writer, complete, content

# Receiving, by the methods of a socket


def recv(reader: Reader, _: Trial) -> bytes:
    """Receive some bytes."""
    return reader.took(reader.source.recv(reader.size()))


def recv_all(reader: Reader, _: Trial) -> bytes:
    """Receive that many, fewer only at the end."""
    size = reader.size()
    data: bytes = reader.source.recv(size, socket.MSG_WAITALL)
    reader.has_ended = len(data) < size
    return data


def recv_into(reader: Reader, _: Trial) -> bytes:
    """Receive into a buffer."""
    buffer = bytearray(reader.size())
    return reader.took(bytes(buffer[: reader.source.recv_into(buffer)]))


def recvmsg(reader: Reader, _: Trial) -> bytes:
    """Receive into two buffers."""
    first, second = bytearray(reader.size()), bytearray(10)
    count = reader.source.recvmsg_into([first, second])[0]
    return reader.took(bytes(first + second)[:count])


def recv_exactly(reader: Reader, trial: Trial) -> bytes:
    """Receive that many."""
    try:
        return sockets.recv_exactly(reader.source, reader.size(), stop=trial.argument)
    except sockets.IncompleteRead as end:
        assert end.__cause__ is None
        reader.has_ended = True
        return end.partial


def receive_messages(reader: Reader, _: Trial) -> bytes:
    """What `recvfrom_into` gives."""
    buffer = bytearray(reader.size())
    return reader.took(bytes(buffer[: reader.source.recvfrom_into(buffer)[0]]))


RECEIVING = {
    "recv": recv,
    "recv(MSG_WAITALL)": recv_all,
    "recv_into": recv_into,
    "recvmsg_into": recvmsg,
    "recvfrom_into": receive_messages,
    "recv_exactly*": recv_exactly,
}
RECEIVING_TLS = {"recv": recv, "recv_into": recv_into, "recv_exactly*": recv_exactly}

# Sending


def send(writer: Writer, _: Trial, data: bytes) -> int:
    """Send a part."""
    return int(writer.target.send(data))


def sendall(writer: Writer, _: Trial, data: bytes) -> int:
    """Send all."""
    writer.target.sendall(data)
    return len(data)


def sendmsg(writer: Writer, _: Trial, data: bytes) -> int:
    """Send a part, from two buffers."""
    return int(writer.target.sendmsg([data[:7], data[7:]]))


class SendingFiles:
    """`sendfile` of a part of a file, which has the content twice."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()
        self._file.write(content() * 2)
        self._file.flush()

    def __call__(self, writer: Writer, _: Trial, data: bytes) -> int:
        """Send as many bytes as there are, but those of the file."""
        return int(writer.target.sendfile(self._file, writer.place.position % SIZE, len(data)))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


SENDING = {"send": send, "sendall": sendall, "sendmsg": sendmsg}

# A pair of sockets


def over_sockets(one: Round) -> None:
    """One end of a pair sends and the other receives."""
    near, far = sockets.socketpair(*one.rng.choice([(socket.AF_UNIX,), (socket.AF_UNIX,), ()]))
    with near, far:
        if one.rng.random() < 0.5:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        _one_way(one, near, far, RECEIVING, SENDING)


def over_tls(one: Round) -> None:
    """Both ends of a connection with TLS send and receive, each in two threads that are stopped each by itself."""
    with _tls_pair() as (near, far):
        makes_files = one.rng.random() < 0.4
        ways = [(near, far), (far, near)]
        writers = [Writer(one.stops(), sender, {"send": send, "sendall": sendall}) for sender, _ in ways]
        readers = [_tls_reader(one.stops(), receiver, makes_files=makes_files) for _, receiver in ways]

        # Then both directions end at once, by the plain connection. OpenSSL sends nothing more once it has seen the end of what
        # it receives, and an alert when it did not expect that: so neither may end while the other one is in use.
        all_is_sent = threading.Barrier(len(ways), functools.partial(_hang_up, near))

        def send_to_the_end(writer: Writer) -> None:
            writer.run()
            all_is_sent.wait()

        def abort() -> None:
            all_is_sent.abort()
            _hang_up(near, far)

        one.run(
            *(functools.partial(send_to_the_end, writer) for writer in writers),
            *(reader.run for reader in readers),
            abort=abort,
        )
        for reader, writer in zip(readers, writers, strict=True):
            complete(reader, writer)
            if makes_files:
                reader.source.close()


def _tls_reader(stops: Stops, sock: socket.socket, *, makes_files: bool) -> Reader:
    if makes_files:
        return Reader(stops, sock.makefile("rb"), READING)
    return Reader(stops, sock, RECEIVING_TLS)


def _one_way(one: Round, near: Any, far: Any, receiving: Mapping[str, Read], sending: Mapping[str, Write]) -> None:
    with contextlib.ExitStack() as scope:
        source, reading, reader_owner = _source(one, far, receiving, scope)
        target, writing = near, dict(sending)
        if one.rng.random() < 0.3:
            target, writing = (
                scope.enter_context(closed(near.makefile("wb", one.rng.choice((100, 8192))))),
                dict(WRITING),
            )
        elif one.rng.random() < 0.3:
            writing["sendfile"] = scope.enter_context(contextlib.closing(SendingFiles()))
        writer = Writer(one.stops(), target, writing, owner=target)
        reader = Reader(one.stops(), source, reading, owner=reader_owner)

        def send_to_the_end() -> None:
            writer.run()
            if target is not near:
                target.flush()
            near.shutdown(socket.SHUT_WR)

        one.run(send_to_the_end, reader.run, abort=functools.partial(_hang_up, near, far))
        complete(reader, writer)


def _source(
    one: Round, far: Any, receiving: Mapping[str, Read], scope: contextlib.ExitStack
) -> tuple[Any, Mapping[str, Read], Any]:
    # What is read from, by what, and what of it has a stop of its own.
    way = one.rng.choice(("methods", "methods", "a file", "a file", "chunks", "another's"))
    if way == "methods":
        return far, receiving, far
    if way == "a file":
        file = scope.enter_context(far.makefile("rb", one.rng.choice((100, 1000, 8192))))
        return file, READING, file
    if way == "chunks":
        chunks = sockets.iter_chunks(far, chunk_size=one.rng.choice((10, 1000, 100_000)))
        return far, {"iter_chunks": Iterating(scope.enter_context(contextlib.closing(chunks)))}, far
    plain = scope.enter_context(contextlib.closing(socket.socket(fileno=os.dup(far.fileno()))))
    os.set_blocking(plain.fileno(), True)
    if one.rng.random() < 0.5:
        return plain, {"recv_exactly*": recv_exactly}, None
    chunks = scope.enter_context(contextlib.closing(sockets.iter_chunks(plain, chunk_size=1000)))
    return plain, {"iter_chunks": Iterating(chunks), "recv_exactly*": recv_exactly}, None


def _hang_up(*socks: socket.socket) -> None:
    for sock in socks:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def client_context() -> ssl.SSLContext:
    """One that trusts the loopback, and makes sockets of ours."""
    context = ssl.create_default_context(cadata=credentials().ca_pem)
    context.sslsocket_class = _Ending
    return context


_contexts = functools.cache(client_context)


class _Ending(sockets.SSLSocket):
    """Takes it for the end where OpenSSL cannot say that it did not expect that, which is EPIPE from OpenSSL 3.6 on."""

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except BrokenPipeError:
            return b""

    def recv_into(self, buffer: Any, nbytes: int | None = None, flags: int = 0) -> int:
        try:
            return super().recv_into(buffer, nbytes, flags)
        except BrokenPipeError:
            return 0


@contextlib.contextmanager
def _tls_pair(*, shaken: bool = True) -> Iterator[tuple[Any, Any]]:
    raw = sockets.socketpair()
    with contextlib.ExitStack() as scope:
        for sock in raw:
            scope.enter_context(sock)
        server = _Ending._create(raw[0], server_side=True, do_handshake_on_connect=False, context=credentials().context)
        client = _contexts().wrap_socket(raw[1], do_handshake_on_connect=False, server_hostname="localhost")
        with server, client:
            if shaken:
                thread = threading.Thread(target=server.do_handshake)
                thread.start()
                client.do_handshake()
                thread.join()
            yield server, client


# Handshakes


def of_handshakes(one: Round) -> None:
    """Both ends shake hands, say something, end TLS, and say something without it; each step is stopped and goes on."""

    def talk(stops: Stops, sock: Any, said: bytes, heard: bytes) -> None:
        persist(stops, "do_handshake", lambda _: sock.do_handshake(), sock)
        for _ in range(2):
            _say(stops, sock, said)
            _hear(stops, sock, heard)
            if isinstance(sock, sockets.SSLSocket) and sock._sslobj is not None:
                persist(stops, "unwrap", lambda _: sock.unwrap(), sock)

    stops = one.stops(), one.stops()
    while not one.allowance.used_up():
        said = one.rng.randbytes(100), one.rng.randbytes(100)
        with _tls_pair(shaken=False) as (near, far):
            one.run(
                functools.partial(talk, stops[0], near, said[0], said[1]),
                functools.partial(talk, stops[1], far, said[1], said[0]),
                abort=functools.partial(_hang_up, near, far),
            )


def _say(stops: Stops, sock: Any, data: bytes) -> None:
    Writer(stops, sock, {"sendall": sendall}, owner=sock).send(data)


def _receive(sock: Any, size: int, _: object) -> bytes:
    data: bytes = sock.recv(size)
    return data


def _hear(stops: Stops, sock: Any, expected: bytes) -> None:
    heard = b""
    while len(heard) < len(expected):
        part = persist(stops, "recv", functools.partial(_receive, sock, len(expected) - len(heard)), sock)
        assert part, f"the end came after {len(heard)} bytes of {len(expected)}"
        heard += part
    assert heard == expected
    stops.tally.checked += len(heard)


# Connections


def of_connections(one: Round) -> None:
    """Clients connect, and a listener accepts, both stopped; each connection carries a number, and none gets lost."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as scope:
        if one.rng.random() < 0.5:
            address: Any = os.path.join(folder, "socket")
            listener = scope.enter_context(sockets.Socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen(0)  # a second one that connects waits
        else:
            listener = scope.enter_context(sockets.create_server(("127.0.0.1", 0), backlog=100))
            address = listener.getsockname()
        accepted: list[int] = []
        connected: list[list[int]] = []
        clients = [
            functools.partial(_connect, one.stops(), address, number * 1_000_000, connected) for number in (1, 2)
        ]
        left = [len(clients)]
        lock = threading.Lock()

        def client(connect: Callable[[], None]) -> None:
            connect()
            with lock:
                left[0] -= 1
                is_last = not left[0]
            if is_last:  # the end
                _tell(address, 0)

        one.run(
            functools.partial(_accept, one.stops(), listener, accepted),
            *(functools.partial(client, connect) for connect in clients),
            abort=functools.partial(_hang_up, listener),
        )
        numbers = sorted(number for one_client in connected for number in one_client)
        assert sorted(accepted) == numbers, f"connected {numbers}, accepted {sorted(accepted)}"


def _tell(address: Any, number: int) -> None:
    with sockets.Socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX) as sock:
        sock.connect(address)
        sock.sendall(number.to_bytes(8, "big"))


def _connect(stops: Stops, address: Any, first: int, connected: list[list[int]]) -> None:
    mine: list[int] = []
    connected.append(mine)
    while not stops.allowance.used_up():
        made = None
        if isinstance(address, tuple) and stops.rng.random() < 0.5:
            trial = stops.trial("create_connection*", takes_stop=True)
            with trial:
                made = sockets.create_connection(address, stop=trial.argument)
            if made is None:
                continue  # and nothing is left open: of what the listener sees of it, nothing comes
            made.stop = None
            sock = made
        else:
            sock = sockets.Socket(socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX)
        with sock:
            if made is None:
                persist(stops, "connect", lambda _: sock.connect(address), sock)  # noqa: B023 - called at once
            number = first + len(mine)
            mine.append(number)
            _say(stops, sock, number.to_bytes(8, "big"))


def _accept(stops: Stops, listener: Any, accepted: list[int]) -> None:
    while True:
        connection, _ = persist(stops, "accept", lambda _: listener.accept(), listener)
        connection.stop = None
        with connection:
            try:
                number = int.from_bytes(sockets.recv_exactly(connection, 8), "big")
            except sockets.IncompleteRead as end:
                assert not end.partial, f"half a number: {end.partial!r}"
                continue  # a client whose create_connection was stopped
        stops.tally.checked += 8
        if not number:
            return
        accepted.append(number)
