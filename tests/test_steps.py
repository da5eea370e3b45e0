"""The steps of a `FaultServer`: what they are made of, in which order they can stand, and what `serve` answers; no sockets."""

from __future__ import annotations

import http.client
import io
import threading
from typing import Any

import pytest

from iointerrupt import StopEvent
from iointerrupt.testing import FaultServer, Request, steps
from iointerrupt.testing._messages import NotHTTP, answer_bytes, read_body, read_head
from iointerrupt.testing._script import check_scripts, names
from iointerrupt.testing._serving import decide

#: Where arguments of wrong types are passed.
untyped: Any = steps


def something(connection):
    """A callable in a script."""


SHOWN = [
    "stall_connect()",
    "handshake()",
    "stall_handshake()",
    "expect()",
    "expect('GET', '/file')",
    "expect(target='/file')",
    "expect('PUT', headers={'Range': None}, body=b'data')",
    "expect(read_body=False)",
    "expect_bytes(b'data')",
    "read(5)",
    "read_to_end()",
    "send(b'data')",
    "head()",
    "head(404, {'X': 'y'}, length=5, reason='Gone')",
    "head(chunked=True)",
    "chunk(b'data')",
    "last_chunk()",
    "answer()",
    "answer(b'data', 206, {'X': 'y'}, length=7)",
    "answer(b'data', length=None)",
    "answer(status=404)",
    "redirect('/other')",
    "redirect('/other', 307)",
    "serve(b'data', etag='\"v1\"', ranges=False)",
    "drip(b'data', size=2, every=0.5)",
    "stall()",
    "mark('here')",
    "reset()",
    "half_close()",
    "close()",
    "close(notify=False)",
    "repeat(expect(), answer(b'data'), times=2)",
    "repeat(read(1))",
    "route({'/a': (expect(), stall()), '/b': ()})",
]


@pytest.mark.parametrize("text", SHOWN)
def test_repr(text):
    """A step reads as the call that makes it, and is equal to what that makes."""
    step = eval(text, vars(steps))
    assert eval(repr(step), vars(steps)) == step
    assert repr(step) == text.replace("(expect(), stall())", "[expect(), stall()]").replace("()}", "[]}")


def test_repr_is_short():
    """Of long data, the beginning and the size are shown."""
    assert repr(steps.send(b"x" * 1000)) == f"send({b'x' * 40!r}... 1000 bytes)"


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: untyped.send("text"), TypeError, "send: data must be bytes, not str"),
        (lambda: untyped.expect_bytes("text"), TypeError, "expect_bytes: data must be bytes, not str"),
        (lambda: untyped.answer("text"), TypeError, "answer: body must be bytes, not str"),
        (lambda: untyped.serve("text"), TypeError, "serve: content must be bytes, not str"),
        (lambda: untyped.expect(b"GET"), TypeError, "expect: method must be a str, not bytes"),
        (lambda: untyped.expect(body=b"", read_body=False), ValueError, "cannot be compared with read_body=False"),
        (lambda: untyped.expect(headers=["Range"]), TypeError, "must be a mapping of names to values, not list"),
        (lambda: untyped.read(0), ValueError, "read: size must be 1 or more, not 0"),
        (lambda: untyped.read(1.5), TypeError, "read: size must be an int, not float"),
        (
            lambda: untyped.head(99),
            ValueError,
            r"head: status must be 100 to 599, not 99: any other one goes into send\(\)",
        ),
        (lambda: untyped.head("200"), TypeError, "head: status must be an int, not str"),
        (lambda: untyped.head(length=-1), ValueError, "head: length must be 0 or more, not -1"),
        (lambda: untyped.head(headers={"X": "a\r\nY: b"}), ValueError, r"the header X must be one line.*send\(\)"),
        (lambda: untyped.head(headers={"X\n": "a"}), ValueError, r"a header's name must be one line.*send\(\)"),
        (lambda: untyped.head(headers={"X": 5}), TypeError, "the header X must be a str, not int"),
        (lambda: untyped.head(headers={"X": "\u20ac"}), ValueError, r"must be Latin-1.*send\(\)"),
        (lambda: untyped.head(headers={"X": None}), TypeError, "the header X must be a str, not NoneType"),
        (lambda: untyped.head(reason="a\nb"), ValueError, "head: reason must be one line"),
        (lambda: untyped.answer(b"", 600), ValueError, "answer: status must be 100 to 599"),
        (lambda: untyped.answer(length=True), TypeError, "answer: length must be an int, not bool"),
        (lambda: untyped.answer(length=5, chunked=True), ValueError, "a chunked body has no length"),
        (lambda: untyped.chunk(b""), ValueError, r"that is last_chunk\(\)"),
        (lambda: untyped.redirect("/", 200), ValueError, "redirect: status must be 300 to 399, not 200"),
        (lambda: untyped.redirect("/\r\n"), ValueError, "redirect: location must be one line"),
        (lambda: untyped.serve(b"", etag="v1"), ValueError, "serve: etag must be in its quotes"),
        (lambda: untyped.serve(b"", last_modified="now"), ValueError, "serve: last_modified must be as 'Wed, 21 Oct"),
        (lambda: untyped.drip(b"", size=0), ValueError, "drip: size must be 1 or more, not 0"),
        (lambda: untyped.drip(b"", every=-1), ValueError, "drip: every must be 0 or more seconds, not -1"),
        (lambda: untyped.stall(until=5), TypeError, "5 cannot be a stop"),
        (lambda: untyped.mark(5), TypeError, "mark: the name must be a str, not int"),
        (lambda: untyped.repeat(), ValueError, "there is no step to repeat"),
        (lambda: untyped.repeat(steps.expect(), times=0), ValueError, "repeat: times must be 1 or more, not 0"),
        (lambda: untyped.route([]), TypeError, "route: mapping must be one of paths to lists of steps, not list"),
        (lambda: untyped.route({5: []}), TypeError, "route: a path must be a str, not int"),
    ],
)
def test_bad_arguments(make, error, says):
    """A wrong argument is refused when the step is made, with what is accepted."""
    with pytest.raises(error, match=says):
        make()


EXPECT, ANSWER, CHUNKED = steps.expect(), steps.answer(), steps.head(chunked=True)


@pytest.mark.parametrize(
    ("scripts", "tls"),
    [
        ([[]], False),
        ([[EXPECT, ANSWER, EXPECT, ANSWER]], False),
        ([[EXPECT, ANSWER, steps.half_close(), steps.read_to_end(), steps.reset()]], False),
        ([[EXPECT, CHUNKED, steps.chunk(b"a"), steps.last_chunk(), EXPECT, ANSWER]], False),
        ([[steps.read_to_end(), steps.send(b"x"), steps.stall()]], False),
        ([[something, ANSWER, steps.chunk(b"a")]], False),
        ([[something, steps.handshake()]], True),
        ([[steps.stall_connect(), steps.stall(), steps.handshake(), EXPECT, ANSWER]], True),
        ([[steps.stall_handshake(), steps.close(notify=False)], [EXPECT]], True),
        ([[EXPECT, steps.repeat(steps.send(b"x"))]], False),
        ([[steps.repeat(EXPECT, ANSWER, times=2), steps.close()]], False),
        ([[steps.route({"/a": [ANSWER], "/b": [CHUNKED]}), steps.chunk(b"a")]], False),
        ([[steps.route({"/a": [steps.close()]}), EXPECT]], False),  # as another path goes on
        ([[steps.repeat(steps.route({"/": [ANSWER]}))], (EXPECT,)], False),
        ([[EXPECT, steps.repeat(ANSWER, steps.close(), times=1)]], False),
    ],
)
def test_possible(scripts, tls):
    """What can be done is accepted."""
    assert check_scripts(scripts, tls=tls) == tuple(map(tuple, scripts))


@pytest.mark.parametrize(
    ("script", "says"),
    [
        (
            [steps.close(), steps.send(b"x")],
            r"script 2, step 2: send\(b'x'\) cannot follow close\(\): the conn.* ended",
        ),
        ([steps.reset(), something], r"step 2: something\(connection\) cannot follow reset\(\)"),
        ([steps.repeat(EXPECT), EXPECT], r"step 2: expect\(\) cannot follow repeat\(expect\(\)\), which ends with the"),
        ([ANSWER], r"step 1: answer\(\): it answers a request: put an expect\(\) before it"),
        ([steps.read(1), steps.head()], r"step 2: head\(\): it answers a request"),
        ([steps.serve(b"")], "it answers a request"),
        ([steps.redirect("/")], "it answers a request"),
        ([EXPECT, steps.chunk(b"a")], r"step 2: chunk\(b'a'\): it needs a head\(chunked=True\) before it"),
        ([EXPECT, CHUNKED, steps.last_chunk(), steps.last_chunk()], r"step 4: last_chunk\(\): it needs a head"),
        ([EXPECT, CHUNKED, EXPECT, steps.chunk(b"a")], "step 4: .*: it needs a head"),
        ([steps.half_close(), steps.send(b"")], r"cannot follow half_close\(\): nothing more can be sent"),
        ([steps.half_close(), steps.half_close()], r"cannot follow half_close\(\): nothing more can be sent"),
        ([steps.read_to_end(), EXPECT], r"cannot follow read_to_end\(\): there is nothing more to read"),
        ([steps.handshake()], r"step 1: handshake\(\): it needs a server with TLS"),
        ([steps.stall_handshake()], "it needs a server with TLS"),
        ([steps.close(notify=False)], "it needs a server with TLS"),
        ([steps.stall_connect()], "script 2, step 1: .*only the first step of the first script can be it"),
        ([steps.repeat(EXPECT, ANSWER, steps.close())], r"step 1 of it, expect\(\) cannot follow close\(\)"),
        ([steps.repeat(steps.close(), times=2)], r"step 1 of it, close\(\) cannot follow close\(\)"),
        ([steps.repeat(steps.stall_connect())], "it cannot be within another step"),
        ([steps.repeat(steps.mark("x"))], "would turn for ever without waiting"),
        ([steps.route({"/": [steps.close(), ANSWER]})], r"step 2 of it, answer\(\) cannot follow close\(\)"),
        ([steps.route({"/": [ANSWER]}), steps.chunk(b"a")], r"step 2: chunk\(b'a'\): it needs a head"),
    ],
)
def test_impossible_order(script, says):
    """Steps that cannot be done in their order are refused when the server is made, with both steps and the reason."""
    with pytest.raises(ValueError, match=says):
        FaultServer([something], script)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ([EXPECT, steps.handshake()], r"handshake\(\) cannot follow expect\(\): a handshake comes before"),
        ([steps.send(b"x"), steps.stall_handshake()], r"stall_handshake\(\) cannot follow send\(b'x'\)"),
        ([steps.handshake(), steps.handshake()], r"handshake\(\) cannot follow handshake\(\)"),
        ([EXPECT, steps.repeat(steps.handshake(), times=1)], "it cannot be within another step"),
        ([EXPECT, steps.half_close()], r"over TLS there is no half-closed connection: use close\(\)"),
    ],
)
def test_impossible_over_tls(script, says):
    """Over TLS, a handshake is done once, at the beginning."""
    with pytest.raises(ValueError, match=says):
        FaultServer(script, tls=True)


@pytest.mark.parametrize(
    ("scripts", "says"),
    [
        (
            [["send"]],
            "script 1, step 1 is 'send', of type str: accepted are the steps of iointerrupt.testing.steps, and",
        ),
        ([[EXPECT], [EXPECT, None]], "script 2, step 2 is None, of type NoneType"),
        ([[steps.expect]], r"script 1, step 1 is expect without its parentheses: write steps.expect\(...\)"),
        ([EXPECT, ANSWER], "script 1 must be a list of steps, not expect: put the steps into a list"),
        ([something], "script 1 must be a list of steps, not function: put the steps into a list"),
        ([b"data"], "script 1 must be a list of steps, not bytes"),
        ([{EXPECT.name}], "script 1 must be a list of steps, not set"),
        ([[steps.repeat("send")]], "script 1, step 1, within repeat, step 1 is 'send'"),  # type: ignore[arg-type]  # what is under test
        ([[untyped.route({"/": ANSWER})]], "script 1, step 1, within route must be a list of steps, not answer"),
    ],
)
def test_no_step(scripts, says):
    """What is no step is refused, with its place, what it is, and what is accepted."""
    with pytest.raises(TypeError, match=says):
        FaultServer(*scripts)


def test_no_script():
    """A server without a script is refused."""
    with pytest.raises(ValueError, match="FaultServer needs a script"):
        FaultServer()


def test_names():
    """The names to wait for are those of all steps, also of inner ones, and the marks; a callable may make any."""
    script = [steps.repeat(steps.route({"/": [steps.answer(), steps.mark("here")]}))]
    assert names([script, [EXPECT]]) == {"repeat", "route", "answer", "here", "expect"}
    assert names([[steps.repeat(something)]]) is None


def test_steps_are_values():
    """A step does not change: not by its attributes, and not with what it was made of."""
    data, headers, branch = bytearray(b"data"), {"X": "y"}, [EXPECT]
    made = steps.send(data), steps.head(headers=headers), steps.route({"/": branch})
    shown = list(map(repr, made))
    data.clear()
    headers.clear()
    branch.clear()
    assert list(map(repr, made)) == shown
    with pytest.raises(AttributeError):
        made[0].data = b""


@pytest.mark.parametrize("until", [threading.Event(), StopEvent(), lambda: True])
def test_stall_until(until):
    """A stall takes a stop of any kind."""
    assert steps.stall(until=until).until is until


# What `serve` answers

DATE, LATER, EARLIER = (f"Wed, {day} Oct 2015 07:28:00 GMT" for day in (21, 22, 20))
FULL = 200, None, b"0123456789"


@pytest.mark.parametrize(
    ("request_headers", "expected"),
    [
        ({}, FULL),
        ({"Range": "bytes=0-3"}, (206, "bytes 0-3/10", b"0123")),
        ({"Range": "bytes=4-"}, (206, "bytes 4-9/10", b"456789")),
        ({"Range": "bytes=4-99"}, (206, "bytes 4-9/10", b"456789")),
        ({"Range": "bytes=-3"}, (206, "bytes 7-9/10", b"789")),
        ({"Range": "bytes=-99"}, (206, "bytes 0-9/10", b"0123456789")),
        ({"Range": "bytes=9-9"}, (206, "bytes 9-9/10", b"9")),
        ({"Range": "bytes=10-"}, (416, "bytes */10", b"")),
        ({"Range": "bytes=-0"}, (416, "bytes */10", b"")),
        ({"Range": "bytes=5-4"}, FULL),
        ({"Range": "bytes=0-1,4-5"}, FULL),
        ({"Range": "bytes=-"}, FULL),
        ({"Range": "lines=0-1"}, FULL),
        ({"Range": "bytes=4-", "If-Range": '"v1"'}, (206, "bytes 4-9/10", b"456789")),
        ({"Range": "bytes=4-", "If-Range": '"v2"'}, FULL),
        ({"Range": "bytes=4-", "If-Range": 'W/"v1"'}, FULL),
        ({"Range": "bytes=4-", "If-Range": DATE}, (206, "bytes 4-9/10", b"456789")),
        ({"Range": "bytes=4-", "If-Range": LATER}, FULL),
        ({"Range": "bytes=4-", "If-Range": "nonsense"}, FULL),
        ({"If-None-Match": '"v1"'}, (304, None, b"")),
        ({"If-None-Match": '"v0", W/"v1"'}, (304, None, b"")),
        ({"If-None-Match": "*"}, (304, None, b"")),
        ({"If-None-Match": '"v2"', "If-Modified-Since": LATER}, FULL),
        ({"If-Modified-Since": DATE}, (304, None, b"")),
        ({"If-Modified-Since": LATER}, (304, None, b"")),
        ({"If-Modified-Since": EARLIER}, FULL),
        ({"If-Modified-Since": "nonsense"}, FULL),
        ({"If-None-Match": '"v1"', "Range": "bytes=0-3"}, (304, None, b"")),
    ],
)
def test_serve(request_headers, expected):
    """The status, the Content-Range and the body are those that HTTP asks for; the validators are always there."""
    file = steps.serve(b"0123456789", etag='"v1"', last_modified=DATE)._file()
    status, headers, body = decide(request("GET", request_headers), file)
    assert (status, headers.get("Content-Range"), body) == expected
    assert (headers["ETag"], headers["Last-Modified"]) == ('"v1"', DATE)


@pytest.mark.parametrize(
    ("step", "method", "headers", "expected"),
    [
        (steps.serve(b"data"), "GET", {"If-None-Match": '"v1"', "If-Modified-Since": DATE}, 200),
        (steps.serve(b"data"), "GET", {"If-None-Match": "*"}, 304),
        (steps.serve(b"data"), "GET", {"Range": "bytes=0-1", "If-Range": '"v1"'}, 200),
        (steps.serve(b"data", ranges=False), "GET", {"Range": "bytes=0-1"}, 200),
        (steps.serve(b""), "GET", {"Range": "bytes=0-"}, 416),
        (steps.serve(b"data"), "HEAD", {"Range": "bytes=0-1"}, 200),
        (steps.serve(b"data"), "POST", {}, 405),
        (steps.serve(b"data", etag='W/"v1"'), "GET", {"Range": "bytes=0-1", "If-Range": 'W/"v1"'}, 200),
    ],
)
def test_serve_others(step, method, headers, expected):
    """Files without validators or ranges, and other methods, are answered as HTTP asks for."""
    assert decide(request(method, headers), step._file()).status == expected


def request(method, headers):
    """A request that a client might send."""
    message = http.client.HTTPMessage()
    for name, value in headers.items():
        message[name] = value
    return Request(method, "/file", message)


# Messages


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (b"POST /a?b=c HTTP/1.1\r\n\r\n", b""),
        (b"POST /a?b=c HTTP/1.1\r\nContent-Length: 4\r\n\r\ndata", b"data"),
        (b"POST /a?b=c HTTP/1.1\nContent-Length: 4\n\ndata", b"data"),
        (b"POST /a?b=c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
        (
            b"POST /a?b=c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\ndat\r\n1\r\na\r\n0\r\nX: y\r\n\r\n",
            b"data",
        ),
    ],
)
def test_read_request(sent, body):
    """A request is read to its end and no further; whatever it lacks at its end is not made up."""
    file = io.BytesIO(sent + b"more")
    got = read_body(file, read_head(file))
    assert (got.method, got.target, got.path, got.body) == ("POST", "/a?b=c", "/a", body)
    assert file.read() == b"more"
    for size in range(len(sent)):
        file = io.BytesIO(sent[:size])
        head = read_head(file)
        assert head is None or read_body(file, head) is None


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (b"\x16\x03\x01\n", "which is no request"),
        (b"GET /\r\n", "which is no request"),
        (b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", "Content-Length: x"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "where the size of a chunk should be"),
        (b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", "behind a chunk of 1 bytes"),
    ],
)
def test_no_request(sent, says):
    """What is no request says so."""
    file = io.BytesIO(sent)
    with pytest.raises(NotHTTP, match=says):
        read_body(file, read_head(file))


@pytest.mark.parametrize(
    ("answer", "method", "expected"),
    [
        (steps.answer(b"data"), "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndata"),
        (steps.answer(b"data"), "HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"),
        (steps.answer(b"data", length=None), "GET", b"HTTP/1.1 200 OK\r\n\r\ndata"),
        (steps.answer(b"data", length=9), "GET", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ndata"),
        (steps.answer(status=204), "GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (steps.answer(status=304), "GET", b"HTTP/1.1 304 Not Modified\r\n\r\n"),
        (steps.answer(status=599), "GET", b"HTTP/1.1 599 Unknown\r\nContent-Length: 0\r\n\r\n"),
        (
            steps.answer(b"data", headers={"X": "y"}, chunked=True),
            "GET",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n4\r\ndata\r\n0\r\n\r\n",
        ),
        (steps.answer(chunked=True), "GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (steps.answer(b"x", chunked=True), "HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_answer_bytes(answer, method, expected):
    """An answer is, byte by byte, what it was told to be."""
    got = answer_bytes(
        answer.body,
        answer.status,
        answer.headers,
        length=answer.length,
        chunked=answer.chunked,
        to=request(method, {}),
    )
    assert got == expected
