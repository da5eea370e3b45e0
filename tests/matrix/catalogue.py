"""`FAULTS`: all that a server does wrong here, by name.

Each fault of `testing.faults.FAULTS` is here by its name, and more of that kind. Their scripts are not used, since here a server
gives its files validators, plays a fault until it is mended, and sets a stop in the middle (`NOW`); see `scenes`.
"""

from __future__ import annotations

import gzip
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from iointerrupt.testing import Connection, steps
from iointerrupt.testing._messages import chunk_bytes, head_bytes
from tests.matrix.faults import BEHIND, BODY, ETAG, HALF, NOW, REST, UPLOAD, Action, Does, Fault, Phase

_VALIDATORS = {"ETag": ETAG, "Accept-Ranges": "bytes"}
_CLOSES = {**_VALIDATORS, "Connection": "close"}
_GZIP = {"Content-Encoding": "gzip"}
_PACKED = gzip.compress(BODY, mtime=0)

# Actions that no step has. One that ends its connection in another way than in order raises a ConnectionError for that.


def _reads_hello(connection: Connection) -> None:
    connection.sock.recv(65536)


def _resets(connection: Connection) -> None:
    steps.reset().run(connection)
    raise ConnectionAbortedError("the server has reset the connection")


def _ends_before_tls(connection: Connection) -> None:
    with suppress(OSError):  # the client may have gone
        connection.sock.shutdown(socket.SHUT_WR)
    while connection.sock.recv(65536):
        pass
    raise ConnectionAbortedError("the server has closed the connection")


def _answers_in_plain(connection: Connection) -> None:
    connection.sock.sendall(head_bytes(400, length=0))
    _ends_before_tls(connection)


def _endless(line: bytes, every: float) -> Callable[[Connection], None]:
    def send(connection: Connection) -> None:
        while True:  # until the client has gone, or the server ends
            connection.send(line)
            if every:
                connection.server.stop.sleep(every)

    return send


def _redirects_once(connection: Connection) -> None:
    if connection.request is None or connection.request.path != BEHIND:
        steps.redirect(BEHIND).run(connection)
    else:
        steps.stall().run(connection)
        _whole.run(connection)


def _pauses_once(connection: Connection) -> None:
    # For an hour; who asks a second time was not stopped.
    steps.answer(b"busy", 503, {"Retry-After": "3600"}).run(connection)
    connection.mark("stall")


# Parts of answers

_head = steps.head(length=len(BODY), headers=_VALIDATORS)
_half_sent: tuple[steps.Step, ...] = (_head, steps.send(HALF))
_half_in_chunks: tuple[steps.Step, ...] = (
    steps.head(chunked=True, headers=_VALIDATORS),
    steps.chunk(HALF),
)
_half_without_length: tuple[steps.Step, ...] = (steps.head(headers=_CLOSES), steps.send(HALF))
_whole = steps.answer(BODY, headers=_VALIDATORS)
_head_sent = head_bytes(200, _VALIDATORS, length=len(BODY))
# In the name of the first field, so that nothing is known of the body.
_half_of_head = steps.send(_head_sent[:22])
_other_half_of_head = steps.send(_head_sent[22:] + BODY)
_framed = chunk_bytes(REST)

_NO_HEAD = "a raw stream has no head"
_NO_CHUNKS = "a raw stream has no chunks"
_NO_LENGTH = "a raw stream says nothing of its length"
_NO_REQUESTS = "on a raw stream nothing is asked for"
_NO_CODING = "a raw stream has no coding"
_NO_HALF_CLOSE = "TLS has no half-closed connection"


def _in(phase: Phase, does: Does, **common: Any) -> Callable[..., Fault]:
    """Makes faults that have so much in common."""

    def make(name: str, about: str, *answer: Action, **facts: Any) -> Fault:
        return Fault(name, about, **{"phase": phase, "does": does, "answer": answer, **common, **facts})

    return make


_stalls_in_head = _in(Phase.HEAD, Does.STALLS)
_stalls_in_body = _in(Phase.BODY, Does.STALLS)
_shaking = _in(Phase.HANDSHAKE, Does.STALLS, tls=True)
_breaks_head = _in(Phase.HEAD, Does.BREAKS_THE_HEAD, not_raw=_NO_HEAD)
_breaks_chunks = _in(Phase.BODY, Does.BREAKS_THE_FRAMING, not_raw=_NO_CHUNKS)
_ends_in_body = _in(Phase.BODY, Does.ENDS)

_BEFORE_THE_HEAD = (
    _in(Phase.BODY, Does.NOTHING_WRONG)("none", "There is no fault.", NOW, _whole, keeps=True),
    _in(Phase.CONNECT, Does.STALLS)(
        "stall before accept", "The queue of connections is full.", opening=(steps.stall_connect(),)
    ),
    _shaking(
        "stall before the handshake",
        "The connection is accepted, and of TLS nothing comes.",
        opening=(steps.stall(), steps.handshake()),
    ),
    _shaking(
        "stall in the handshake",
        "Half of the server's part of the TLS handshake comes.",
        opening=(steps.stall_handshake(),),
    ),
    _shaking(
        "reset in the handshake",
        "The client's hello is read, and the connection is reset.",
        does=Does.RESETS,
        opening=(_reads_hello, NOW, _resets, steps.handshake()),
    ),
    _shaking(
        "closed in the handshake",
        "The client's hello is read, and the connection is closed.",
        does=Does.ENDS,
        opening=(_reads_hello, NOW, _ends_before_tls, steps.handshake()),
    ),
    _shaking(
        "no TLS",
        "The client's hello is answered in plain text.",
        does=Does.SPEAKS_OTHERWISE,
        opening=(_reads_hello, NOW, _answers_in_plain, steps.handshake()),
    ),
    _in(Phase.UPLOAD, Does.STALLS)(
        "slow upload",
        "Of what the client sends nothing is read.",
        steps.stall(),
        steps.expect_bytes(UPLOAD),
        _whole,
        reads_body=False,
    ),
    _stalls_in_head(
        "stall before the request", "The connection is accepted, and nothing is read.", opening=(steps.stall(),)
    ),
)

_IN_THE_HEAD = (
    _stalls_in_head("stall before the headers", "The request is read, and nothing comes.", steps.stall(), _whole),
    _stalls_in_head(
        "stall in the status line",
        "Half of the status line comes.",
        steps.send(_head_sent[:11]),
        steps.stall(),
        steps.send(_head_sent[11:] + BODY),
        not_raw=_NO_HEAD,
    ),
    _stalls_in_head(
        "stall in a header",
        "The status line and half of a header come.",
        _half_of_head,
        steps.stall(),
        _other_half_of_head,
        not_raw=_NO_HEAD,
    ),
    _stalls_in_head(
        "stall behind a redirect",
        "The request is redirected, and where that leads nothing comes.",
        _redirects_once,
        not_raw=_NO_REQUESTS,
    ),
    _in(Phase.HEAD, Does.TRICKLES)(
        "endless 100 Continue",
        "Every 2 ms comes an interim response, and never a final one.",
        steps.repeat(steps.send(b"HTTP/1.1 100 Continue\r\n\r\n"), times=3),
        NOW,
        _endless(b"HTTP/1.1 100 Continue\r\n\r\n", 0.002),
        not_raw=_NO_HEAD,
    ),
    _in(Phase.HEAD, Does.RESETS)(
        "reset before the headers", "The request is read, and the connection is reset.", NOW, _resets
    ),
    _in(Phase.HEAD, Does.RESETS)(
        "reset in the headers",
        "In the middle of a header the connection is reset.",
        _half_of_head,
        NOW,
        _resets,
        not_raw=_NO_HEAD,
    ),
    _in(Phase.HEAD, Does.ENDS)(
        "closed before the headers", "The request is read, and the connection is closed.", NOW, steps.close(), kept=0
    ),
    _in(Phase.HEAD, Does.CUTS_THE_HEAD)(
        "closed in the headers",
        "In the middle of a header the connection is closed.",
        _half_of_head,
        NOW,
        steps.close(),
        gives=b"",
        not_raw=_NO_HEAD,
    ),
    _breaks_head(
        "garbage status line", "What comes is not HTTP.", NOW, steps.send(b"220 mail.test ready\r\n"), steps.close()
    ),
    _breaks_head(
        "endless headers",
        "Headers come without end.",
        NOW,
        steps.send(b"HTTP/1.1 200 OK\r\n"),
        _endless(b"X-Filler: x\r\n" * 100, 0),
    ),
    _breaks_head(
        "huge headers",
        "A header has 100,000 bytes.",
        NOW,
        steps.answer(BODY, headers={"X-Filler": "x" * 100_000}),
        steps.close(),
    ),
    _breaks_head(
        "two lengths",
        "There are two Content-Length, of which one is wrong.",
        NOW,
        steps.answer(BODY, headers={"content-length": str(len(BODY) + 1)}),
        steps.close(),
        does=Does.CONTRADICTS_ITSELF,
    ),
    _in(Phase.HEAD, Does.REDIRECTS_FOR_EVER)(
        "redirect loop",
        "Each request is redirected to where it went.",
        NOW,
        lambda connection: steps.redirect(connection.request.target).run(connection),
        not_raw=_NO_REQUESTS,
        keeps=True,
    ),
    _in(Phase.PAUSE, Does.STALLS)(
        "pause before a retry",
        "503 comes with a Retry-After of an hour, and the client is to try once more.",
        _pauses_once,
        not_raw=_NO_REQUESTS,
        keeps=True,
        retries=1,
    ),
    _in(Phase.BODY, Does.REFUSES)(
        "503 with Retry-After",
        "503 comes with a Retry-After of an hour.",
        NOW,
        steps.answer(b"busy", 503, {"Retry-After": "3600"}),
        not_raw=_NO_REQUESTS,
        keeps=True,
        gives=b"busy",
    ),
    _in(Phase.BODY, Does.REFUSES)(
        "refusal",
        "The answer is 410.",
        NOW,
        steps.answer(b"gone", 410),
        not_raw=_NO_REQUESTS,
        keeps=True,
        gives=b"gone",
    ),
)

_IN_THE_BODY = (
    _stalls_in_body("stall before the body", "The head comes.", _head, steps.stall(), steps.send(BODY)),
    _stalls_in_body("stall in the body", "Half of the body comes.", *_half_sent, steps.stall(), steps.send(REST)),
    _stalls_in_body(
        "stall in a chunk",
        "A chunk comes, and half of another one.",
        *_half_in_chunks,
        steps.send(_framed[: len(_framed) // 2]),
        steps.stall(),
        steps.send(_framed[len(_framed) // 2 :]),
        steps.last_chunk(),
        not_raw=_NO_CHUNKS,
    ),
    _stalls_in_body(
        "stall before the last chunk",
        "All of the body comes, in chunks, but not their end.",
        *_half_in_chunks,
        steps.chunk(REST),
        steps.stall(),
        steps.last_chunk(),
        not_raw=_NO_CHUNKS,
    ),
    _stalls_in_body(
        "stall without a length",
        "Half of a body comes that lasts until the connection is closed.",
        *_half_without_length,
        steps.stall(),
        steps.send(REST),
        steps.close(),
        not_raw="a raw stream lasts until it is closed in any case",
    ),
    _in(Phase.BODY, Does.NOTHING_WRONG)(
        "drip", "The body comes in ten pieces.", _head, NOW, steps.drip(BODY, size=2000, every=0.002), keeps=True
    ),
    _in(Phase.BODY, Does.RESETS)("reset before the body", "The head comes, and a reset.", _head, NOW, _resets),
    _in(Phase.BODY, Does.RESETS)(
        "reset in the body", "Half of the body comes, and a reset.", *_half_sent, NOW, _resets
    ),
    _in(Phase.BODY, Does.RESETS)(
        "reset in a chunk",
        "A chunk comes, half of another one, and a reset.",
        *_half_in_chunks,
        steps.send(_framed[: len(_framed) // 2]),
        NOW,
        _resets,
        not_raw=_NO_CHUNKS,
    ),
    _ends_in_body("closed before the body", "The head comes, and the end.", _head, NOW, steps.close(), kept=0),
    _ends_in_body("truncated", "Half of the body comes, and the end.", *_half_sent, NOW, steps.close(), kept=len(HALF)),
    _ends_in_body(
        "length too long",
        "The body comes, which is a byte shorter than its Content-Length, and the end.",
        steps.head(length=len(BODY) + 1, headers=_VALIDATORS),
        steps.send(HALF),
        NOW,
        steps.send(REST),
        steps.close(),
        not_raw=_NO_LENGTH,
        kept=len(BODY),
        may_resume=False,
    ),
    _ends_in_body(
        "half-closed",
        "Half of the body comes, and the end of the server's side; it goes on reading.",
        *_half_sent,
        NOW,
        steps.half_close(),
        steps.read_to_end(),
        kept=len(HALF),
        not_tls=_NO_HALF_CLOSE,
    ),
    _in(Phase.BODY, Does.IS_CUT_OFF)(
        "truncated without close_notify",
        "Half of the body comes, and the end of the connection, but not of TLS.",
        *_half_sent,
        NOW,
        steps.close(notify=False),
        kept=len(HALF),
        tls=True,
    ),
    _in(Phase.BODY, Does.ENDS_WITHOUT_LENGTH)(
        "end without close_notify",
        "Half of a body without a length comes, and the end of the connection, but not of TLS.",
        *_half_without_length,
        NOW,
        steps.close(notify=False),
        gives=HALF,
        kept=len(HALF),
        tls=True,
        not_raw="a raw stream has no length in any case",
    ),
    _breaks_chunks(
        "truncated in a chunk",
        "A chunk comes, half of another one, and the end.",
        *_half_in_chunks,
        steps.send(_framed[: len(_framed) // 2]),
        NOW,
        steps.close(),
    ),
    _breaks_chunks(
        "no last chunk",
        "All of the body comes, in chunks, and the end in place of theirs.",
        *_half_in_chunks,
        NOW,
        steps.chunk(REST),
        steps.close(),
    ),
    _breaks_chunks(
        "bad chunk size",
        "A chunk comes, and then one whose size is no number.",
        *_half_in_chunks,
        NOW,
        steps.send(b"size?\r\n" + REST + b"\r\n0\r\n\r\n"),
        steps.close(),
    ),
    _breaks_chunks(
        "bad chunk end",
        "A chunk is longer than it says.",
        steps.head(chunked=True, headers=_VALIDATORS),
        NOW,
        steps.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(HALF), BODY)),
        steps.close(),
    ),
    _in(Phase.BODY, Does.SENDS_MORE)(
        "over-long",
        "The body comes, and behind it the body once more.",
        _head,
        NOW,
        steps.send(BODY + BODY),
        steps.close(),
        raw_gives=BODY + BODY,
    ),
    _in(Phase.BODY, Does.SENDS_MORE)(
        "lying length",
        "The body comes, and Content-Length is a byte less.",
        steps.head(length=len(BODY) - 1, headers=_VALIDATORS),
        NOW,
        steps.send(BODY),
        steps.close(),
        not_raw=_NO_LENGTH,
        gives=BODY[:-1],
    ),
    _in(Phase.BODY, Does.SENDS_ANOTHER_RANGE)(
        "wrong range",
        "A 206 comes that is about other bytes than those that were asked for.",
        NOW,
        steps.answer(BODY, 206, {**_VALIDATORS, "Content-Range": f"bytes 20000-39999/{2 * len(BODY)}"}),
        not_raw=_NO_REQUESTS,
        keeps=True,
    ),
    _ends_in_body(
        "changing validator",
        "Half of the body comes, and the end; from then on the file is another one.",
        *_half_sent,
        NOW,
        steps.close(),
        kept=len(HALF),
        not_raw="a raw stream has no versions",
        later=BODY[::-1],
        may_resume=False,
    ),
    _in(Phase.BODY, Does.CUTS_THE_CODING)(
        "gzip cut off",
        "Half of a gzip stream comes, and that is what Content-Length says.",
        NOW,
        steps.answer(_PACKED[: len(_PACKED) // 2], headers=_GZIP),
        not_raw=_NO_CODING,
        keeps=True,
        may_resume=False,
    ),
    _in(Phase.BODY, Does.BREAKS_THE_CODING)(
        "gzip damaged",
        "What is called gzip is none.",
        NOW,
        steps.answer(BODY, headers=_GZIP),
        not_raw=_NO_CODING,
        keeps=True,
        may_resume=False,
    ),
)

#: By name, in the order of the phases; `"none"` is the first.
FAULTS: Final[dict[str, Fault]] = {fault.name: fault for fault in (*_BEFORE_THE_HEAD, *_IN_THE_HEAD, *_IN_THE_BODY)}
