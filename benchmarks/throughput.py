"""What the library costs while data flows and nobody stops: our class and the plain one in turn, on the same work."""

from __future__ import annotations

import io
import os
import shutil
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import requests
import trustme

from benchmarks.measure import Row, speed
from iointerrupt import StopEvent, files, http, sockets

SIZE = 256 << 20
MIB = 1 << 20


def measure() -> Iterator[Row]:
    """A row for each claim."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield from _sockets()
        yield from _files(folder)
        yield from _http(folder)
    yield _session()


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@contextmanager
def _sender(context: ssl.SSLContext | None = None, size: int = SIZE, header: bytes = b"") -> Iterator[tuple[str, int]]:
    """A process that sends `size` bytes to each connection that it gets."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    child = os.fork()
    if child == 0:
        block = memoryview(bytes(MIB))
        while True:
            connection, _ = listener.accept()
            try:
                if context is not None:
                    connection = context.wrap_socket(connection, server_side=True)
                if header:
                    connection.recv(65536)
                    connection.sendall(header)
                for at in range(0, size, MIB):
                    connection.sendall(block[: min(MIB, size - at)])
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)
            except OSError:
                pass
            connection.close()
    try:
        yield listener.getsockname()
    finally:
        listener.close()
        os.kill(child, 9)
        os.waitpid(child, 0)


def _drain(connection: socket.socket, size: int) -> None:
    buffer = bytearray(size)
    while connection.recv_into(buffer):
        pass


def _sockets() -> Iterator[Row]:
    with _sender() as address:

        def ours() -> float:
            with sockets.create_connection(address, timeout=30, stop=StopEvent()) as connection:
                return _timed(lambda: _drain(connection, 65536))

        def plain() -> float:
            with socket.create_connection(address, timeout=30) as connection:
                return _timed(lambda: _drain(connection, 65536))

        yield speed("Socket.recv_into, 64 KiB", ours, plain, least=0.97)

    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    stopping = ssl.create_default_context()
    authority.configure_trust(stopping)
    stopping.sslsocket_class = sockets.SSLSocket
    with _sender(server) as address:

        def ours_tls() -> float:
            raw = sockets.create_connection(address, timeout=30, stop=StopEvent())
            with stopping.wrap_socket(raw, server_hostname="localhost") as connection:
                return _timed(lambda: _drain(connection, 65536))

        def plain_tls() -> float:
            raw = socket.create_connection(address, timeout=30)
            with client.wrap_socket(raw, server_hostname="localhost") as connection:
                return _timed(lambda: _drain(connection, 65536))

        yield speed("SSLSocket.recv_into, 64 KiB", ours_tls, plain_tls, least=1.0, rounds=8)


def _read_all(file: io.BufferedIOBase, size: int) -> None:
    read = file.read
    while read(size):
        pass


def _files(folder: str) -> Iterator[Row]:
    path = os.path.join(folder, "data")
    with open(path, "wb") as file:
        file.writelines(os.urandom(MIB) for _ in range(SIZE // MIB))
    small = os.path.join(folder, "small")
    with open(path, "rb") as source, open(small, "wb") as file:
        file.write(source.read(16 * MIB))
    stop = StopEvent()

    def opened(opener: Callable[[], io.BufferedIOBase], size: int) -> Callable[[], float]:
        def read() -> float:
            with opener() as file:
                return _timed(lambda: _read_all(file, size))

        return read

    for name, target, size, least in (
        ("1 MiB", path, MIB, 0.97),
        ("1 KiB", small, 1024, 1.0),
        ("100 bytes", small, 100, 0.5),
    ):
        yield speed(
            f"files.open(...).read, {name}",
            opened(lambda target=target: files.open(target, "rb", stop=stop), size),  # type: ignore[misc]
            opened(lambda target=target: open(target, "rb"), size),  # type: ignore[misc]  # noqa: SIM115
            least=least,
        )

    def ours() -> None:
        for _ in files.iter_chunks(path, stop=stop):
            pass

    def plain() -> None:
        with open(path, "rb", buffering=0) as file:
            while _chunk := file.read(MIB):  # bound to a name, as in the other loop: it lives while the next is read
                pass

    yield speed("files.iter_chunks, 1 MiB", lambda: _timed(ours), lambda: _timed(plain), least=0.97)

    copy = os.path.join(folder, "copy")

    def copied(work: Callable[[], object]) -> float:
        if os.path.exists(copy):
            os.unlink(copy)
        return _timed(work)

    yield speed(
        "files.copy against shutil.copyfile",
        lambda: copied(lambda: files.copy(path, copy, stop=stop)),
        lambda: copied(lambda: shutil.copyfile(path, copy)),
        least=1.0,
    )
    os.unlink(copy)


def _http(folder: str) -> Iterator[Row]:
    header = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % SIZE
    authority = trustme.CA()
    trusted = os.path.join(folder, "ca.pem")
    authority.cert_pem.write_to_path(trusted)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    for scheme, server in (("http", None), ("https", context)):
        with _sender(server, header=header) as (_, port), ExitStack() as sessions:
            url = f"{scheme}://localhost:{port}/"
            plain_session = sessions.enter_context(requests.Session())
            our_session = sessions.enter_context(http.Session(stop=StopEvent()))
            plain_session.trust_env = our_session.trust_env = False  # whose REQUESTS_CA_BUNDLE would win
            plain_session.verify = our_session.verify = trusted

            def iter_content(size: int) -> float:
                with plain_session.get(url, stream=True, timeout=30) as response:  # noqa: B023 - called in this round
                    return _timed(lambda: [None for _ in response.iter_content(size)])

            def iter_chunks() -> float:
                with our_session.get(url, stream=True, timeout=30) as response:  # noqa: B023
                    return _timed(lambda: [None for _ in http.iter_chunks(response)])

            best = min(
                (65536, 262144, MIB, 4 * MIB), key=lambda size: statistics.median(iter_content(size) for _ in range(5))
            )
            name = f"http.iter_chunks over {scheme}, iter_content at its best ({best // 1024} KiB)"
            yield speed(name, iter_chunks, lambda: iter_content(best), least=1.0, rounds=20)  # noqa: B023


def _session() -> Row:
    def ours() -> float:
        return _timed(lambda: [http.Session() for _ in range(500)])

    def plain() -> float:
        return _timed(lambda: [requests.Session() for _ in range(500)])

    return speed("http.Session() against requests.Session()", ours, plain, least=0.95)
