"""`testing.faults`: each fault, as a raw client sees it on the wire."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

import pytest
import requests

from iointerrupt import StopEvent, http, sockets
from iointerrupt.testing import FaultServer, wait_until_blocked
from iointerrupt.testing.faults import FAULTS

BODY = b"0123456789"
GET = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n"
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def connect(server: FaultServer) -> socket.socket:
    """A connection, over TLS if the server speaks it."""
    sock = socket.create_connection(server.address, 10)
    if not server.url.startswith("https"):
        return sock
    return server.client_context().wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False)


def receive(sock: socket.socket, size: int = 10_000_000) -> bytes:
    """Receive until there is `size`, or the end."""
    received = bytearray()
    while len(received) < size and (data := sock.recv(65536)):
        received += data
    return bytes(received)


def ask(server: FaultServer, request: bytes = GET) -> bytes:
    """All that a server sends until it closes the connection."""
    with connect(server) as sock:
        sock.sendall(request)
        return receive(sock)


def stalls_after(expected: bytes, rest: bytes = b"") -> Callable[[FaultServer], None]:
    """A look at a server that sends so much and stalls, and sends the rest when resumed."""

    def look(server: FaultServer) -> None:
        with connect(server) as sock:
            sock.sendall(GET)
            server.wait_for("stall")  # all that comes before has been sent
            assert receive(sock, len(expected)) == expected if expected else True
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(1)
            sock.settimeout(10)
            server.resume()
            if rest:
                assert receive(sock).endswith(rest)

    return look


def sends(expected: bytes) -> Callable[[FaultServer], None]:
    """A look at a server that sends exactly that, and closes in order."""

    def look(server: FaultServer) -> None:
        assert ask(server) == expected

    return look


def good(server: FaultServer) -> None:
    """The whole body, and for each range the right one."""
    with requests.Session() as session:
        assert session.get(server.url, timeout=10).content == BODY
        part = session.get(server.url, headers={"Range": "bytes=4-"}, timeout=10)
        assert (part.status_code, part.content) == (206, BODY[4:])


def stall_before_accept(server: FaultServer) -> None:
    """Connecting blocks, until resumed."""
    stop = StopEvent()
    server.wait_for("stall_connect")
    with sockets.Socket(stop=stop) as sock:
        sock.settimeout(0)
        with pytest.raises(BlockingIOError):
            sock.connect(server.address)
        with pytest.raises(TimeoutError):
            sock.settimeout(0.01)
            sock.connect(server.address)
        server.resume()
        sock.settimeout(10)
        sock.connect(server.address)
        sock.sendall(GET)
        assert receive(sock, len(BODY)).startswith(b"HTTP/1.1 200 OK\r\n")


def stall_in_handshake(server: FaultServer) -> None:
    """A part of the handshake comes, and no more, until resumed."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = server.client_context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with socket.create_connection(server.address, 10) as sock:
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        sock.sendall(outgoing.read())
        server.wait_for("stall_handshake")
        incoming.write(sock.recv(65536))
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        assert outgoing.pending == 0
        server.resume()

        def until_done(act: Callable[..., Any], *args: Any) -> Any:
            while True:
                incoming.write(sock.recv(65536))
                try:
                    return act(*args)
                except ssl.SSLWantReadError:
                    pass

        until_done(tls.do_handshake)
        tls.write(GET)
        sock.sendall(outgoing.read())
        assert until_done(tls.read, 15) == b"HTTP/1.1 200 OK"


def resets_after(size: int) -> Callable[[FaultServer], None]:
    """A look at a server that sends so much at most, and resets the connection."""

    def look(server: FaultServer) -> None:
        received = bytearray()
        with connect(server) as sock, pytest.raises(ConnectionResetError):
            sock.sendall(GET)
            while data := sock.recv(65536):
                received += data
        assert (LENGTH + b"\r\n" + BODY)[:size].startswith(received)

    return look


def drips(server: FaultServer) -> None:
    """The body is complete; that it comes in pieces is a property of the step."""
    assert ask(server) == LENGTH + b"\r\n" + BODY
    server.wait_for("drip")


def huge_headers(server: FaultServer) -> None:
    """A line of a header is longer than http.client admits."""
    answer = ask(server)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert max(map(len, head.split(b"\r\n"))) > 65536
    assert body == BODY
    with pytest.raises(requests.ConnectionError, match="65536"):
        requests.get(server.url, timeout=10)


def wrong_range(server: FaultServer) -> None:
    """The Content-Range is not about what was asked for."""
    answer = requests.get(server.url, headers={"Range": "bytes=0-9"}, timeout=10)
    assert (answer.status_code, answer.headers["Content-Range"], answer.content) == (206, "bytes 10-19/20", BODY)


def changing_validator(server: FaultServer) -> None:
    """The second half is of another file than the first; with an If-Range, all of the other one comes."""
    assert ask(server) == LENGTH + b'ETag: "v1"\r\nAccept-Ranges: bytes\r\n\r\n01234'
    headers = {"Range": "bytes=5-"}
    other = requests.get(server.url, headers=headers, timeout=10)
    assert (other.status_code, other.headers["ETag"], other.content) == (206, '"v2"', b"43210")
    other = requests.get(server.url, headers={**headers, "If-Range": '"v1"'}, timeout=10)
    assert (other.status_code, other.headers["ETag"], other.content) == (200, '"v2"', BODY[::-1])


def redirect_loop(server: FaultServer) -> None:
    """Redirects never end."""
    with pytest.raises(requests.TooManyRedirects):
        requests.get(server.url, timeout=10)
    assert len(server.requests) == 31
    assert server.connections == 1


def slow_upload(server: FaultServer) -> None:
    """Sending a body blocks."""
    stop = StopEvent()
    with sockets.create_connection(server.address, stop=stop) as sock:
        sock.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n")
        sock.sendall(b"x")
        server.wait_for("stall")
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.sendall(b"x" * 100_000_000)


def half_closed(server: FaultServer) -> None:
    """The server's side ends in the middle, and ours is still read."""
    with connect(server) as sock:
        sock.sendall(GET)
        assert receive(sock) == LENGTH + b"\r\n01234"
        for _ in range(100):  # it goes into nothing, but not back
            sock.sendall(b"x" * 100_000)
        sock.shutdown(socket.SHUT_WR)
        server.wait_for("read_to_end")


def no_close_notify(server: FaultServer) -> None:
    """TCP ends, TLS does not."""
    with connect(server) as sock:
        sock.sendall(GET)
        assert receive(sock, 43) == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n01234"
        with pytest.raises(ssl.SSLEOFError):
            sock.recv(1)


LOOKS = {
    "none": good,
    "stall before accept": stall_before_accept,
    "stall in the handshake": stall_in_handshake,
    "stall before the headers": stalls_after(b"", BODY),
    "stall in a header": stalls_after((LENGTH + b"\r\n")[:-6], b"10\r\n\r\n" + BODY),
    "stall in the body": stalls_after(LENGTH + b"\r\n01234", b"56789"),
    "stall in a chunk": stalls_after(CHUNKED + b"5\r\n01234\r\n5\r\n56"),
    "drip": drips,
    "reset before the headers": resets_after(0),
    "reset in the body": resets_after(len(LENGTH) + 7),
    "truncated": sends(LENGTH + b"\r\n01234"),
    "over-long": sends(LENGTH + b"Connection: close\r\n\r\n" + BODY + BODY),
    "lying length": sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n" + BODY),
    "bad chunk size": sends(CHUNKED + b"5\r\n01234\r\nsize?\r\n56789\r\n0\r\n\r\n"),
    "bad chunk end": sends(CHUNKED + b"5\r\n0123456789\r\n0\r\n\r\n"),
    "huge headers": huge_headers,
    "wrong range": wrong_range,
    "changing validator": changing_validator,
    "redirect loop": redirect_loop,
    "slow upload": slow_upload,
    "half-closed": half_closed,
    "end without close_notify": no_close_notify,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_on_the_wire(fault):
    """A client sees exactly the fault that its name promises."""
    with FaultServer(*fault.scripts(BODY), tls=fault.tls) as server:
        LOOKS[fault.name](server)


def test_all():
    """Each fault has a name, a sentence, and a look at it; the first is none."""
    assert {fault.name for fault in FAULTS.values()} == set(FAULTS) == set(LOOKS)
    assert next(iter(FAULTS)) == "none"
    assert all(fault.about.endswith(".") for fault in FAULTS.values())


STALLING = [name for name in FAULTS if name.startswith("stall") or name == "slow upload"]


@pytest.mark.parametrize("name", STALLING)
def test_stops(background, name):
    """A client that stalls in a fault can be stopped there, as the fault is meant for."""
    fault, stop = FAULTS[name], StopEvent()
    with FaultServer(*fault.scripts(BODY), tls=fault.tls) as server, http.Session(stop=stop) as session:
        session.verify = server.ca_file if fault.tls else True
        data = b"x" * 30_000_000 if name == "slow upload" else None
        running = background(session.request, "PUT" if data else "GET", server.url, data=data)
        server.wait_for(next(step.name for step in fault.scripts(BODY)[0] if step.name.startswith("stall")))
        wait_until_blocked(stop)
        stop.set("enough")
        assert running.error().reason == "enough"


@pytest.mark.parametrize("body", [b"01", b"x" * 1_000_000], ids=["least", "large"])
def test_any_body(body):
    """Every fault makes scripts that can be run, of a small body and of a large one."""
    for fault in FAULTS.values():
        FaultServer(*fault.scripts(body), tls=fault.tls)
