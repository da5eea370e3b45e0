"""The bytes of an answer, made up by hypothesis, torn and endless: what is accepted is what http.client makes of the same, and nothing grows."""

from __future__ import annotations

import io
import logging
import socket
import tracemalloc
import types
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Any

import pytest
import requests
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from iointerrupt import Interrupted, http, sockets
from iointerrupt._http import exchange
from iointerrupt._http.idle import Shared
from iointerrupt._http.pool import HTTPConnectionPool
from iointerrupt.downloads import DownloadError, download
from iointerrupt.testing import FaultServer, steps
from tests.fuzzing import FACTOR, cuts, fuzz, mutated, pieces


@pytest.fixture(autouse=True)
def _no_log(caplog):
    """urllib3 says of each odd answer what is odd about it."""
    caplog.set_level(logging.CRITICAL, "urllib3")


# Answers as bytes

octets = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(
        [
            b"\r\n",
            b"\n",
            b"\r",
            b"\r\n\r\n",
            b"\0",
            b":",
            b": ",
            b" ",
            b"\t",
            b"\xa0",
            b"\x85",
            b"\x1c",
            b"\xff",
            b"\r\n x",
            b",",
            b"-1",
            b"5",
        ]
    ),
)
status_lines = st.one_of(
    st.sampled_from([200, 200, 200, 206, 304, 404, 416, 503, 100, 101, 204, 999]).map(
        lambda status: b"HTTP/1.1 %d OK" % status
    ),
    st.sampled_from(
        [
            b"HTTP/1.1 200",
            b"HTTP/1.1 200 ",
            b"HTTP/1.0 200 OK",
            b"HTTP/2 200",
            b"HTTP/1.1 +200 OK",
            b"ICY 200 OK",
            b"HTTP/1.1 20",
            b"",
            b"HTTP/1.1  200 OK",
            b"HTTP/1.1 2000 OK",
            b"http/1.1 200 OK",
            b"HTTP/1.1 200 \xe9\x80",
        ]
    ),
)
names = st.sampled_from(
    [
        *(
            b"Content-Length",
            b"content-length",
            b"Content-Length",
            b"Content-Length",
            b"Transfer-Encoding",
            b"Connection",
            b"ETag",
        ),
        *(
            b"Content-Range",
            b"X-A",
            b"X-A",
            b"X a",
            b"",
            b"X\x85",
            b"Set-Cookie",
            b"Content-Encoding",
            b"Last-Modified",
            b"\xe9",
        ),
    ]
)
values = st.one_of(
    st.sampled_from(
        [
            b"5",
            b"0",
            b"3",
            b"12",
            b" 5 ",
            b"5, 5",
            b"+5",
            b"5\t",
            b"05",
            b"\xb2",
            b"99999999999999999999",
            b"chunked",
            b"identity",
            b"gzip",
            b"close",
            b"keep-alive",
            b'"v1"',
            b"bytes 0-4/5",
            b"",
            b"a" * 300,
            b"a\x85b",
            b"caf\xe9",
        ]
    ),
    octets,
)
fields = st.builds(
    lambda name, colon, value: name + colon + value, names, st.sampled_from([b": ", b":", b" : ", b":\t"]), values
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """The head of an answer, or what looks like one."""
    lines = [draw(status_lines), *draw(st.lists(fields, max_size=5))]
    return draw(st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n"])).join([*lines, b"", b""])


@st.composite
def plain_heads(draw: st.DrawFn) -> bytes:
    """A head that is mostly in order."""
    said = [b"HTTP/1.1 %d OK" % draw(st.sampled_from([200, 200, 206, 404]))]
    said.append(b"Content-Length: %d" % draw(st.integers(0, 40)))
    said += draw(st.lists(fields, max_size=2))
    return b"\r\n".join([*draw(st.permutations(said[1:])), b"", b""]).join([said[0] + b"\r\n", b""])


answers = mutated(st.builds(lambda head, body: head + body, heads() | plain_heads(), st.binary(max_size=30)), octets)


class Whole:
    """What http.client reads an answer from."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def makefile(self, _: str) -> io.BytesIO:
        """The file."""
        return io.BytesIO(self._content)


def by_http_client(content: bytes) -> tuple[int, dict[str, str], bytes | None]:
    """Status, headers and body of an answer as http.client has them; no body where it ends too early."""
    response = HTTPResponse(Whole(content), method="GET")  # type: ignore[arg-type]  # it has all that is used
    response.begin()
    headers: dict[str, str] = {}
    for name, value in response.headers.items():
        key, said = name.lower(), value.strip(" \t")
        headers[key] = f"{headers[key]}, {said}" if key in headers else said
    try:
        body = response.read()
    except IncompleteRead:
        body = None
    return response.status, headers, body


class Packets:
    """A connection of a pool on which certain packets have come, each of which is what one read brings, and then the end."""

    def __init__(self, packets: list[bytes]) -> None:
        self.pool = HTTPConnectionPool("host.test", shared=Shared())
        self.connection: Any = self.pool._get_conn()
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with far:
            for packet in packets:
                far.sendall(packet)
        self.connection.sock = sockets.wrap(near)

    def read(self) -> tuple[int, dict[str, str], bytes | None] | None:
        """What our reader makes of it: None where that is for requests to decide; no body where it ends too early."""
        received = self.connection.sock.recv(1 << 16)
        if not received:
            return None
        answer = exchange._read_answer(self.pool, self.connection, "http://host.test/", received)
        if answer is None:
            return None
        body = bytearray()
        try:
            while some := answer.read(1 << 16):
                body += some
        except requests.RequestException:
            return answer.status, dict(answer.headers), None
        finally:
            answer.close()
        return answer.status, dict(answer.headers), bytes(body)

    def close(self) -> None:
        """Close it."""
        self.connection.close()
        self.pool.close()


@fuzz(120)
@given(answer=answers, at=cuts)
def test_any_answer(answer, at):
    """What the quick way accepts, however it is torn, is what http.client reads: status, headers and body. It raises nothing."""
    packets = Packets(pieces(answer, at))
    try:
        found = packets.read()
    finally:
        packets.close()
    if found is not None:
        assert found == by_http_client(answer)


# Through all layers

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

sizes_of_chunks = st.sampled_from(
    [
        "{:x}",
        "{:x}",
        "{:x}",
        "{:X}",
        "0{:x}",
        "{:x};a=b",
        " {:x} ",
        "0x{:x}",
        "+{:x}",
        "-{:x}",
        "{:x}\t",
        "{:x};" + "a" * 99,
        "{:x}_0",
        "",
    ]
)
chunks = st.builds(
    lambda size, content: size.format(len(content)).encode() + b"\r\n" + content + b"\r\n",
    sizes_of_chunks,
    st.binary(min_size=1, max_size=20),
)
chunked = st.builds(
    lambda head, pieces, end: head + b"".join(pieces) + end,
    st.sampled_from(
        [
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\nContent-Length: 3\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        ]
    ),
    st.lists(chunks, max_size=4),
    st.sampled_from([b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"", b"000\r\n\r\n", b"0\r\n", b"0\r\n\r\nmore"]),
)


@pytest.fixture
def sending(fault_server):
    """A server that sends what is in the list, to each connection, and closes it."""
    answer = []

    def send(connection):
        for piece in answer:
            connection.send(piece)

    return fault_server([steps.expect(), send]), answer


def by_requests(url: str) -> tuple[requests.Response | None, bytes | None]:
    """What requests makes of an answer: nothing where it refuses it, no body where that cannot be read to its end."""
    with requests.Session() as session:
        try:
            response = session.get(
                url, stream=True, timeout=5, allow_redirects=False, headers={"Accept-Encoding": "identity"}
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError):
            return None, None
        with response:
            try:
                return response, b"".join(response.raw.stream(decode_content=False))
            except (urllib3.exceptions.HTTPError, HTTPException, OSError, ValueError):
                return response, None


@fuzz(25)
@given(answer=mutated(chunked, octets) | answers, at=cuts)
@example(answer=CHUNKED.replace(b"chunked", b"identity, chunked") + b"5\r\nhello\r\n0\r\n\r\n", at=[])
@example(answer=CHUNKED.replace(b"chunked", b"chunked\t") + b"5\r\nhello\r\n0\r\n\r\n", at=[])
@example(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: \xb2\r\n\r\n", at=[])
@example(answer=CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n", at=[])
def test_any_download(sending, answer, at):
    """What is downloaded is what requests would have got; and what it would not have got is a DownloadError, or nothing."""
    server, sent = sending
    sent[:] = pieces(answer, at)
    response, expected = by_requests(server.url)
    got = io.BytesIO()
    try:
        download(server.url, got, retries=0, timeout=5)
    except DownloadError:
        return
    assert response is not None
    assert response.status_code in (200, 203)
    if "Content-Encoding" not in response.headers:
        assert got.getvalue() == expected


@fuzz(20)
@given(answer=mutated(chunked, octets) | answers, at=cuts)
@example(answer=CHUNKED.replace(b"chunked", b"identity, chunked") + b"5\r\nhello\r\n0\r\n\r\n", at=[])
@example(answer=CHUNKED.replace(b"chunked", b"gzip, chunked") + b"-2\r\n\0\0\r\n0\r\n\r\n", at=[])
def test_any_body(sending, answer, at):
    """What `iter_chunks` makes of a body is what requests would, or an error of requests."""
    server, sent = sending
    sent[:] = pieces(answer, at)
    _, expected = by_requests(server.url)
    with http.Session(timeout=5) as session:
        try:
            response = session.get(server.url, stream=True, allow_redirects=False)
            got = b"".join(http.iter_chunks(response, decode=False))
        except (requests.RequestException, urllib3.exceptions.HTTPError):
            return
    assert got == expected


@fuzz(10)
@given(
    answer=answers | st.binary(max_size=40), scheme=st.sampled_from(["http", "socks5", "socks5h", "socks4", "socks4a"])
)
@example(answer=b"HTTP/1.1 200 OK\r\n\r\n", scheme="http")
@example(answer=b"\x05\x00\x05\x00\x00\x03\xff", scheme="socks5")
@example(answer=b"\x05\x00\x05\x00\x00\x63", scheme="socks5")
@example(answer=b"\x00\x5a", scheme="socks4")
def test_any_proxy(answer, scheme):
    """Whatever a proxy says to a CONNECT, or to SOCKS, the download is a DownloadError and nothing hangs."""

    def say(connection):
        connection.sock.recv(1 << 16)
        connection.send(answer)

    with FaultServer([say]) as server, http.Session() as session:
        session.trust_env = False
        session.proxies = dict.fromkeys(("http", "https"), server.url.replace("http:", f"{scheme}:"))
        with pytest.raises(DownloadError):
            download("https://127.0.0.1/x", io.BytesIO(), session=session, retries=0, timeout=5)


# Without an end

LINES = b"X: a\r\n" * 1000

#: What comes first, and what comes then, for ever.
ENDLESS = {
    "a status line": (b"HTTP/1.1 200 ", b"a" * 65_536),
    "no HTTP": (b"", b"a" * 65_536),
    "a header": (b"HTTP/1.1 200 OK\r\nX: ", b"a" * 65_536),
    "headers": (b"HTTP/1.1 200 OK\r\n", LINES),
    "headers of a 100": (b"HTTP/1.1 100 Continue\r\n", LINES),
    "a chunk size": (CHUNKED, b"0" * 65_536),
    "a chunk extension": (CHUNKED + b"5;", b"a" * 65_536),
    "a trailer": (CHUNKED + b"0\r\nX: ", b"a" * 65_536),
}

#: The same, of which each piece is in order: nothing grows, and a stop ends it.
IN_ORDER = {
    "chunks": (CHUNKED, b"1\r\na\r\n" * 1000),
    "chunks with extensions": (CHUNKED, (b"1;" + b"a" * 10_000 + b"\r\na\r\n") * 10),
}

#: What http.client counts, and gives up, in later releases of each version of Python: with the end that makes it an answer.
COUNTED = {
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    "trailers": (CHUNKED + b"0\r\n", LINES, b"\r\n"),
}


def is_given_up(answer):
    """Whether http.client does not read it to its end."""
    response = HTTPResponse(types.SimpleNamespace(makefile=lambda *_: io.BytesIO(answer)))
    try:
        response.begin()
        response.read()
    except HTTPException:
        return True
    return False


for _name, (_first, _piece, _end) in COUNTED.items():
    (ENDLESS if is_given_up(_first + _piece + _end) else IN_ORDER)[_name] = _first, _piece

MOST = 10 << 20  # bytes


def flood(first: bytes, piece: bytes, most: int = MOST, then: Any = lambda: None) -> tuple[steps.Script, list[int]]:
    """A script that sends a piece again and again, and how many bytes it has got rid of; it ends with the client."""
    sent = [0]

    def send(connection):
        connection.send(first)
        while sent[0] < most:
            connection.send(piece)
            sent[0] += len(piece)
        then()
        while True:
            connection.send(piece)

    return [steps.expect(), send], sent


class Memory:
    """A block that takes no more of Python's memory than a few buffers do."""

    def __enter__(self) -> None:
        tracemalloc.start()

    def __exit__(self, *_: object) -> None:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 << 20


@pytest.mark.parametrize("endless", ENDLESS)
def test_a_line_without_an_end(fault_server, tmp_path, endless):
    """A line, or a head, that does not end is given up after a few lines' worth of bytes, and kept nowhere."""
    script, sent = flood(*ENDLESS[endless])
    server = fault_server(script)
    with Memory(), pytest.raises(DownloadError):
        download(f"{server.url}/file", tmp_path / "file", retries=0)
    assert sent[0] < MOST, "what is in the buffers of the kernel has been sent, but no more"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("endless", IN_ORDER)
def test_lines_without_an_end(fault_server, tmp_path, stop, endless):
    """What goes on in pieces that are in order takes no memory, and a stop ends it."""
    most = 300_000 * min(FACTOR, 20)
    script, sent = flood(*IN_ORDER[endless], most=most, then=lambda: stop.set("enough"))
    server = fault_server(script)
    with Memory(), pytest.raises(Interrupted, match="enough"):
        download(f"{server.url}/file", tmp_path / "file", stop=stop, retries=0)
    assert sent[0] >= most
    assert not (tmp_path / "file").exists()
