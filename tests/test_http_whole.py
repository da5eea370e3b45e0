"""`content` of our sessions: the whole body in one read, and otherwise as requests has it."""

# ruff: noqa: F811 - fixtures are imported, and named again where they are asked for

from __future__ import annotations

import copy
import gzip
import io
import pickle

import pytest
import requests
import responses

from iointerrupt import Interrupted, StopEvent
from iointerrupt.testing import FaultServer, steps, wait_until_blocked
from tests.scripts import STALL_IN_BODY
from tests.test_http import in_order, pool_of, session  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("plain_environment")

BODY = bytes(range(256)) * 4096

#: By how the end of the body is told.
ANSWERS = {
    "length": [steps.answer(BODY)],
    "gzip": [steps.answer(gzip.compress(BODY), headers={"Content-Encoding": "gzip"})],
    "chunked": [steps.head(chunked=True), steps.chunk(BODY[:100_000]), steps.chunk(BODY[100_000:]), steps.last_chunk()],
    "until closed": [steps.head(headers={"Connection": "close"}), steps.send(BODY), steps.close()],
    "empty": [steps.answer(b"")],
}


@pytest.fixture(params=list(ANSWERS))
def server(request):
    """A server that answers with a body whose end is told in one of the ways."""
    with FaultServer([steps.expect(), *ANSWERS[request.param]]) as serving:
        serving.body = b"" if request.param == "empty" else BODY
        yield serving


@pytest.mark.parametrize("stream", [False, True])
def test_whole(server, session, stream):
    """However its end is told, and whenever it is read, the body is whole; and a second time it is the same object."""
    response = session.get(server.url, stream=stream)
    assert response.content == server.body
    assert response.content is response.content
    assert b"".join(response.iter_content(1000)) == server.body
    assert pool_of(session.get_adapter(server.url), server.url).pool.qsize() == 10  # it is back


def test_one_read(session, monkeypatch):
    """A body of known length is one read of http.client's."""
    reads = []
    with FaultServer([steps.expect(), steps.answer(BODY)]) as server:
        response = session.get(server.url, stream=True)
        plain = response.raw._fp.read
        monkeypatch.setattr(response.raw._fp, "read", lambda *size: reads.append(size) or plain(*size))
        assert response.content == BODY
    assert len(reads) == 1


def test_stop(background, session):
    """A stop ends it; the response is closed, and the connection not used again."""
    session.stop = StopEvent()
    with FaultServer(STALL_IN_BODY) as server:
        running = background(session.get, server.url)
        server.wait_for("stall")
        wait_until_blocked(session.stop)
        session.stop.set("enough")
        error = running.error()
        assert (type(error), error.reason) == (Interrupted, "enough")
        in_order(pool_of(session.get_adapter(server.url), server.url))


def test_after_a_stop(session):
    """What a stop has ended is never taken for a body: as long as it is set it raises, and then it is said to be consumed."""
    session.stop = StopEvent(timeout=0.05)
    with FaultServer([steps.expect(), steps.head(length=10), steps.send(b"hello"), steps.stall()]) as server:
        response = session.get(server.url, stream=True)
        for what in ("content", "content", "text"):
            with pytest.raises(Interrupted):
                getattr(response, what)
        session.stop = None
        with pytest.raises(RuntimeError, match="already consumed"):
            response.content  # noqa: B018 - what it raises


def test_after_a_failure(session):
    """Nor is what a broken connection has ended."""
    with FaultServer([steps.expect(), steps.head(length=10), steps.send(b"hello"), steps.close()]) as server:
        response = session.get(server.url, stream=True)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            response.content  # noqa: B018 - as above
        with pytest.raises(RuntimeError, match="already consumed"):
            response.content  # noqa: B018 - as above


def test_stop_while_it_is_decoded(session, monkeypatch):
    """A stop ends the undoing of a coding as well, in which few bytes may become very many."""
    session.stop = StopEvent()
    body = gzip.compress(bytes(1 << 24))
    with FaultServer([steps.expect(), steps.answer(body, headers={"Content-Encoding": "gzip"})]) as server:
        response = session.get(server.url, stream=True)
        plain = response.raw.stream

        def stream(*args, **kwargs):
            for piece in plain(*args, **kwargs):
                session.stop.set()
                yield piece

        monkeypatch.setattr(response.raw, "stream", stream)
        with pytest.raises(Interrupted):
            _ = response.content
        in_order(pool_of(session.get_adapter(server.url), server.url))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ([steps.head(length=10), steps.send(b"half"), steps.close()], requests.exceptions.ChunkedEncodingError),
        ([steps.head(chunked=True), steps.send(b"5\r\nab"), steps.close()], requests.exceptions.ChunkedEncodingError),
        ([steps.head(length=1 << 62), steps.send(b"half"), steps.close()], requests.exceptions.ChunkedEncodingError),
        (
            [steps.head(chunked=True), steps.send(b"%x\r\nab" % (1 << 62)), steps.close()],
            requests.exceptions.ChunkedEncodingError,
        ),
        (
            [steps.head(headers={"Content-Length": "10, 10"}), steps.send(b"half"), steps.close()],
            requests.exceptions.ChunkedEncodingError,
        ),
        ([steps.answer(b"no gzip", headers={"Content-Encoding": "gzip"})], requests.exceptions.ContentDecodingError),
    ],
    ids=[
        "cut off",
        "cut off in a chunk",
        "a length that lies",
        "a chunk that lies",
        "twice the length",
        "not coded as it says",
    ],
)
def test_errors(session, answer, error):
    """What is wrong with a body is said as requests says it, to ours as to its own session."""
    for asking in (session, requests.Session()):
        with FaultServer([steps.expect(), *answer]) as server, asking, pytest.raises(error):
            asking.get(server.url)


def test_timeout(session):
    """A body that stalls for longer than the timeout is requests' ConnectionError."""
    with FaultServer(STALL_IN_BODY) as server, pytest.raises(requests.ConnectionError, match="timed out"):
        session.get(server.url, timeout=0.05)


def test_after_some_of_it(session):
    """Whoever has begun to iterate over a body cannot have it as a whole any more, as in requests."""
    with FaultServer([steps.expect(), steps.answer(BODY)]) as server:
        response = session.get(server.url, stream=True)
        assert len(b"".join(response.iter_content(1000))) == len(BODY)
        with pytest.raises(RuntimeError, match="already consumed"):
            _ = response.content


def test_after_some_of_it_with_a_coding(session):
    """So it is with the pieces that urllib3 has decoded and kept."""
    body = gzip.compress(BODY)
    with FaultServer([steps.expect(), steps.answer(body, headers={"Content-Encoding": "gzip"})]) as server:
        response = session.get(server.url, stream=True)
        first = next(response.iter_content(1000))
        assert first + response.content == BODY


def test_is_one_of_requests(server, session):
    """It is a `requests.Response`, and pickled or copied one of requests itself, with the body."""
    response = session.get(server.url, stream=True)
    assert isinstance(response, requests.Response)
    for same in (pickle.loads(pickle.dumps(response)), copy.copy(response)):
        assert type(same) is requests.Response
        assert (same.content, same.status_code, same.url) == (server.body, 200, response.url)


def test_body_that_was_put_back(session):
    """A body that a hook has read and put in the place of the one on the network is read from there, as caches do it."""
    with FaultServer([steps.expect(), steps.answer(BODY)]) as server:
        response = session.get(server.url, stream=True)
        response.raw._fp = io.BytesIO(response.raw.read(decode_content=False))
        response.raw.length_remaining = len(BODY)
        assert response.content == BODY


@responses.activate
def test_mocked(session):
    """A mocked body is read as requests reads it."""
    responses.get("http://example.org", body=BODY)
    assert session.get("http://example.org").content == BODY
