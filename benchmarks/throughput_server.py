"""The other side of what the throughput groups measure on the network, in a process of its own: this file is the program.

    python -m benchmarks.throughput_server KIND DESCRIPTOR SIZE [CERTIFICATE]

It takes the listening socket over by its descriptor, gives each connection a thread, and ends when its stdin does, so also
if the benchmark is killed. It is written with plain sockets, and is the same for all that are compared.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from benchmarks.downloads_peers import environment

_MIB = 1 << 20
_BLOCK = memoryview(bytes(_MIB))
_END = b"\r\n\r\n"


@contextmanager
def serving(kind: str, size: int = 0, certificate: str | None = None) -> Iterator[tuple[str, int]]:
    """Such a server, and its address.

    Args:
        kind: of `KINDS`.
        size: in bytes, of what it sends.
        certificate: the path of a certificate and its key, for TLS.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        address = listener.getsockname()
        descriptor = listener.fileno()
        command = [sys.executable, "-P", "-m", "benchmarks.throughput_server", kind, str(descriptor), str(size)]
        process = subprocess.Popen(
            [*command, *([certificate] if certificate else [])],
            stdin=subprocess.PIPE,
            pass_fds=[descriptor],
            env=environment(),
            cwd="/",
        )
    with process:  # which closes its stdin, and waits for it
        yield address


def _stream(connection: socket.socket, size: int) -> None:
    """Send `size` bytes."""
    _send(connection, size)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(1)


def _sink(connection: socket.socket, _size: int) -> None:
    """Take what comes, and tell when all of it has come."""
    buffer = bytearray(_MIB)
    while connection.recv_into(buffer):
        pass
    connection.sendall(b".")


def _echo(connection: socket.socket, _size: int) -> None:
    """Send back what comes."""
    while data := connection.recv(4096):
        connection.sendall(data)


def _http(connection: socket.socket, _size: int) -> None:
    """Answer each GET with as many bytes as its path says."""
    received = b""
    while True:
        while _END not in received:
            data = connection.recv(65536)
            if not data:
                return
            received += data
        head, _, received = received.partition(_END)
        size = asked(head)
        header = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d" % size + _END
        if size <= 65536:
            connection.sendall(header + bytes(size))
        else:
            connection.sendall(header)
            _send(connection, size)


def asked(head: bytes) -> int:
    """The number that is the path of a request."""
    return int(head.split(b" ", 2)[1].removeprefix(b"/"))


def _send(connection: socket.socket, size: int) -> None:
    for at in range(0, size, _MIB):
        connection.sendall(_BLOCK[: size - at])


KINDS: dict[str, Callable[[socket.socket, int], None]] = {
    "stream": _stream,
    "sink": _sink,
    "echo": _echo,
    "http": _http,
}


def _serve(listener: socket.socket, kind: str, size: int, context: ssl.SSLContext | None) -> None:
    def work(connection: socket.socket) -> None:
        with suppress(OSError), connection:  # a client that leaves early is none of its business
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is None:
                KINDS[kind](connection, size)
            else:
                with context.wrap_socket(connection, server_side=True) as wrapped:
                    KINDS[kind](wrapped, size)

    while True:
        threading.Thread(target=work, args=(listener.accept()[0],), daemon=True).start()


def main() -> None:
    """Serve until stdin ends."""
    kind, descriptor, size, *certificate = sys.argv[1:]
    context = None
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate[0])
    listener = socket.socket(fileno=int(descriptor))
    threading.Thread(target=_serve, args=(listener, kind, int(size), context), daemon=True).start()
    sys.stdin.buffer.read()
    os._exit(0)  # without waiting for connections that are still open


if __name__ == "__main__":
    main()
