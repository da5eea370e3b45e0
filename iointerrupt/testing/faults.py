"""Every fault of a server that a client has to live with, as a script around a body that is ready to be served: `FAULTS`.

::

    @pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
    def test_fault(fault, fault_server, tmp_path):
        server = fault_server(*fault.scripts(b"0123456789"), tls=fault.tls)
        ...

Whatever of the body is sent is its beginning, so that a client can be held to this: what it has is the beginning of the body,
and it says that it has all of it only if it has. (`over-long`, `lying length` and `wrong range` are there to break that.)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from iointerrupt.testing import steps
from iointerrupt.testing._messages import chunk_bytes, head_bytes
from iointerrupt.testing._step import Script

__all__ = ["FAULTS", "Fault"]


@dataclass(frozen=True)
class Fault:
    """A fault of a server.

    Attributes:
        name: what it is called in `FAULTS`.
        about: what the server does, as a sentence.
        scripts: gives the scripts for a `FaultServer`, for a body of at least two bytes.
        tls: whether the server has to speak TLS for it.
    """

    name: str
    about: str
    scripts: Callable[[bytes], tuple[Script, ...]]
    tls: bool = False


def _first_half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def _after_request(*rest: steps.Step) -> tuple[Script, ...]:
    return ([steps.expect(), *rest],)


def _half_sent(body: bytes, *rest: steps.Step) -> tuple[Script, ...]:
    return _after_request(steps.head(length=len(body)), steps.send(_first_half(body)), *rest)


def _half_in_chunks(body: bytes, *rest: steps.Step) -> tuple[Script, ...]:
    return _after_request(steps.head(chunked=True), steps.chunk(_first_half(body)), *rest)


def _mid_chunk(body: bytes) -> tuple[Script, ...]:
    rest = body[len(body) // 2 :]
    framed = chunk_bytes(rest)
    return _half_in_chunks(body, steps.send(framed[: framed.index(b"\n") + 1 + len(rest) // 2]), steps.stall())


def _huge_headers(body: bytes) -> tuple[Script, ...]:
    return _after_request(steps.answer(body, headers={"X-Filler": "x" * 100_000}))


def _wrong_range(body: bytes) -> tuple[Script, ...]:
    size = len(body)
    headers = {"Content-Range": f"bytes {size}-{2 * size - 1}/{2 * size}"}
    return ([steps.repeat(steps.expect(), steps.answer(body, 206, headers))],)


def _changing_validator(body: bytes) -> tuple[Script, ...]:
    # The first connection breaks in the middle; on all others the file has become another one.
    headers = {"ETag": '"v1"', "Accept-Ranges": "bytes"}
    first = [
        steps.expect(),
        steps.head(headers=headers, length=len(body)),
        steps.send(_first_half(body)),
        steps.close(),
    ]
    return first, [steps.repeat(steps.expect(), steps.serve(body[::-1], etag='"v2"'))]


def _slow_upload(_: bytes) -> tuple[Script, ...]:
    return ([steps.expect(read_body=False), steps.read(1), steps.stall(), steps.read_to_end()],)


_ALL = (
    Fault("none", "There is no fault.", lambda body: ([steps.repeat(steps.expect(), steps.serve(body))],)),
    Fault(
        "stall before accept",
        "The queue of connections is full, so that connecting blocks.",
        lambda body: ([steps.stall_connect(), steps.repeat(steps.expect(), steps.serve(body))],),
    ),
    Fault(
        "stall in the handshake",
        "Half of the server's part of the TLS handshake comes, and then nothing.",
        lambda body: ([steps.stall_handshake(), steps.repeat(steps.expect(), steps.serve(body))],),
        tls=True,
    ),
    Fault(
        "stall before the headers",
        "The request is read, and then nothing comes.",
        lambda body: _after_request(steps.stall(), steps.answer(body)),
    ),
    Fault(
        "stall in a header",
        "The status line and half of a header come, and then nothing.",
        lambda body: _after_request(
            steps.send(head_bytes(200, length=len(body))[:-6]),
            steps.stall(),
            steps.send(head_bytes(200, length=len(body))[-6:] + body),
        ),
    ),
    Fault(
        "stall in the body",
        "Half of the body comes, and then nothing.",
        lambda body: _half_sent(body, steps.stall(), steps.send(body[len(body) // 2 :])),
    ),
    Fault("stall in a chunk", "A chunk comes, and a part of another one, and then nothing.", _mid_chunk),
    Fault(
        "drip",
        "The body comes byte by byte, 10 ms apart.",
        lambda body: _after_request(steps.head(length=len(body)), steps.drip(body)),
    ),
    Fault(
        "reset before the headers",
        "The request is read, and the connection is reset.",
        lambda _: _after_request(steps.reset()),
    ),
    Fault(
        "reset in the body",
        "Half of the body comes, and the connection is reset.",
        lambda body: _half_sent(body, steps.reset()),
    ),
    Fault(
        "truncated",
        "Half of the body comes, and the connection is closed.",
        lambda body: _half_sent(body, steps.close()),
    ),
    Fault(
        "over-long",
        "More comes than Content-Length says: the body, and it once more.",
        lambda body: _after_request(steps.answer(body + body, length=len(body))),
    ),
    Fault(
        "lying length",
        "Content-Length is one byte less than the body has.",
        lambda body: _after_request(steps.answer(body, length=len(body) - 1)),
    ),
    Fault(
        "bad chunk size",
        "A chunk comes, and then one whose size is no number.",
        lambda body: _half_in_chunks(body, steps.send(b"size?\r\n" + body[len(body) // 2 :] + b"\r\n0\r\n\r\n")),
    ),
    Fault(
        "bad chunk end",
        "A chunk is longer than it says, so that behind it is no end of a line.",
        lambda body: _after_request(
            steps.head(chunked=True), steps.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body) // 2, body))
        ),
    ),
    Fault("huge headers", "A header has 100,000 bytes, more than http.client takes.", _huge_headers),
    Fault("wrong range", "Whatever is asked for, a 206 comes whose Content-Range is about other bytes.", _wrong_range),
    Fault(
        "changing validator",
        "The connection is closed in the middle of the body, and from the next one on the file is another one: its ETag"
        " has changed, and its bytes are in reverse.",
        _changing_validator,
    ),
    Fault(
        "redirect loop",
        "Each request is redirected to /, and that one to itself.",
        lambda _: ([steps.repeat(steps.expect(), steps.redirect("/"))],),
    ),
    Fault("slow upload", "Of the request's body only the beginning is read, and nothing is answered.", _slow_upload),
    Fault(
        "half-closed",
        "Half of the body comes, and the server closes its side alone: it goes on reading, and does not end.",
        lambda body: _half_sent(body, steps.half_close(), steps.read_to_end()),
    ),
    Fault(
        "end without close_notify",
        "A body without a length ends as if it were complete, but TLS is not ended: it may have been cut off.",
        lambda body: _after_request(
            steps.head(headers={"Connection": "close"}), steps.send(_first_half(body)), steps.close(notify=False)
        ),
        tls=True,
    ),
)

#: By name; `"none"`, an answer without a fault, is the first.
FAULTS: Final[dict[str, Fault]] = {fault.name: fault for fault in _ALL}
