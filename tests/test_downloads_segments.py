"""Segments against servers that give ranges to all, to none or to some, break off, stall or refuse: the file is the same every time."""

from __future__ import annotations

import hashlib
import threading

import pytest

from iointerrupt import Interrupted
from iointerrupt.downloads import BadStatus, FileChanged, TimedOut, download
from iointerrupt.downloads._part import LEAST_PIECE
from iointerrupt.testing import steps, wait_until_blocked
from tests.scripted import ETAG, asked, each, half, sha256

SIZE = 6 * LEAST_PIECE + 12_345
BODY = hashlib.shake_256(b"a large file").digest(SIZE)
OTHER = hashlib.shake_256(b"another large file").digest(SIZE)
SERVE = steps.serve(BODY, etag=ETAG)


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return tmp_path / "file"


class Some:
    """A step for some connections: which they are, a function says; the others answer well.

    Args:
        which: takes the number of a connection.
        answer: what these get; behind it, the connection ends.
    """

    def __init__(self, which, *answer):
        self.which, self.answer = which, answer
        self.met = 0

    def __call__(self, connection):
        if not self.which(connection.number):
            SERVE.run(connection)
            return
        self.met += 1
        for step in self.answer:
            (step.run if isinstance(step, steps.Step) else step)(connection)
        raise ConnectionAbortedError


def beginning(connection):
    """The head of a right answer and the first bytes of its body."""
    asked_for = connection.request.headers.get("Range")
    first, _, last = (asked_for or "bytes=0-")[6:].partition("-")
    start, end = int(first), int(last) + 1 if last else SIZE
    headers = {"ETag": ETAG, "Accept-Ranges": "bytes"}
    if asked_for:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{SIZE}"
    steps.head(206 if asked_for else 200, headers, length=end - start).run(connection)
    connection.send(BODY[start : min(start + 100_000, end)])


def even(number):
    """Every second one."""
    return number % 2 == 0


def second(number):
    """One that is none of the first round's best."""
    return number == 2


def is_whole(path):
    """Whether the file is all that is left, and right."""
    assert path.read_bytes() == BODY
    assert [each.name for each in path.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("segments", [2, 4, 100])
def test_ranges(fault_server, path, segments):
    """Each byte is asked for, and the pieces fit together."""
    server = fault_server(each(SERVE))
    result = download(f"{server.url}/file", path, segments=segments, checksum=sha256(BODY))
    is_whole(path)
    assert result.size == SIZE
    assert 2 <= len(server.requests) <= 40
    assert all(if_range == ETAG for range_, if_range in asked(server) if range_)


@pytest.mark.parametrize(
    "answer",
    [
        steps.serve(BODY, etag=ETAG, ranges=False),
        steps.serve(BODY),
        steps.answer(BODY, chunked=True, headers={"ETag": ETAG, "Accept-Ranges": "bytes"}),
        steps.answer(BODY, headers={"ETag": ETAG, "Accept-Ranges": "none"}),
    ],
    ids=["no ranges", "no validator", "no length", "says so"],
)
def test_no_segments(fault_server, path, answer):
    """Where ranges are not to be had, or nothing would tell whether they fit, one connection brings it all."""
    server = fault_server(each(answer))
    download(f"{server.url}/file", path, segments=4)
    is_whole(path)
    assert all(range_ is None for range_, _ in asked(server))


def test_ranges_for_some(fault_server, path):
    """A server that says that it has ranges, and then sends all of it to each, is asked for all of it by one connection."""
    whole = steps.answer(BODY, headers={"ETag": ETAG, "Accept-Ranges": "bytes"})
    server = fault_server(each(whole))
    download(f"{server.url}/file", path, segments=4, backoff=0.001)
    is_whole(path)
    assert [range_ for range_, _ in asked(server)].count(None) == 2


@pytest.mark.parametrize(
    "answer",
    [
        [steps.answer(status=503)],
        [steps.answer(status=429, headers={"Retry-After": "100"})],
        [steps.reset()],
        [beginning, steps.reset()],
        [beginning],
        [steps.head(206)],
        [steps.answer(BODY[:100], status=206, headers={"Content-Range": f"bytes 0-99/{SIZE}"})],
    ],
    ids=["503", "429", "reset", "reset in the body", "closed in the body", "no range", "another range"],
)
@pytest.mark.parametrize("which", [second, even])
def test_some_fail(fault_server, path, answer, which):
    """What one connection does not bring, the others do, without a pause."""
    some = Some(which, *answer)
    server = fault_server(each(some))
    download(f"{server.url}/file", path, segments=4, backoff=0.001, retry_after_max=0.1)
    is_whole(path)
    assert some.met


def test_one_is_forbidden(fault_server, path):
    """A connection that is refused for good is one less; the others bring it all."""
    some = Some(second, steps.answer(status=403))
    server = fault_server(each(some))
    download(f"{server.url}/file", path, segments=4, retries=0)
    is_whole(path)
    assert some.met == 1


@pytest.mark.parametrize("answer", [[steps.stall()], [beginning, steps.stall()]], ids=["no answer", "in the body"])
def test_one_stalls(fault_server, path, answer):
    """One that brings nothing more is given up after the timeout, and its piece fetched by another."""
    some = Some(second, *answer)
    server = fault_server(each(some))
    download(f"{server.url}/file", path, segments=4, timeout=0.5, backoff=0.001)
    is_whole(path)
    assert some.met == 1


def test_one_at_a_time(fault_server, path):
    """Where a second connection is refused while there is a first one, that brings it all, piece by piece."""
    one = threading.Lock()

    def answer(connection):
        if not one.acquire(blocking=False):
            connection.answer(status=503)
            return
        try:
            beginning(connection)
            start, _, end = (connection.request.headers.get("Range") or "bytes=0-")[6:].partition("-")
            connection.send(BODY[int(start) + 100_000 : int(end) + 1 if end else SIZE])
        finally:
            one.release()

    server = fault_server(each(answer))
    download(f"{server.url}/file", path, segments=4, backoff=0.01, retries=20)
    is_whole(path)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [([steps.answer(status=403)], BadStatus), ([steps.answer(status=503)], BadStatus), ([steps.stall()], TimedOut)],
    ids=["403", "503", "stall"],
)
def test_none_gets_on(fault_server, path, answer, kind):
    """If nobody gets any further, it fails, and what came is kept and gone on with."""
    some = Some(lambda _: True, *answer)
    middle = SIZE // 2
    told = []
    first = [steps.expect(), steps.head(headers={"ETag": ETAG, "Accept-Ranges": "bytes"}, length=SIZE)]
    server = fault_server([*first, steps.send(BODY[:middle])], each(some))
    with pytest.raises(kind):
        download(f"{server.url}/file", path, segments=4, retries=1, backoff=0.001, timeout=0.3, progress=told.append)
    assert not path.exists()
    kept = told[-1].done
    some.which = lambda _: False
    result = download(f"{server.url}/file", path, segments=4)
    is_whole(path)
    assert result.resumed_from == kept


def test_it_keeps_changing(fault_server, path):
    """A file that is another one for each connection is given up some time."""

    def answer(connection):
        steps.serve(BODY, etag=f'"v{connection.number}"').run(connection)

    server = fault_server([steps.expect(), answer])
    with pytest.raises(FileChanged):
        download(f"{server.url}/file", path, segments=4, retries=100, backoff=0.001)
    assert not path.exists()


def test_it_changes_once(fault_server, path):
    """A file that changes while segments are fetched is fetched anew, and nothing of the old one is in it."""

    def answer(connection):
        steps.serve(OTHER if connection.number == 1 else BODY, etag=f'"{connection.number == 1}"').run(connection)

    server = fault_server([steps.expect(), answer])
    download(f"{server.url}/file", path, segments=4, backoff=0.001)
    is_whole(path)


@pytest.mark.stops_within(5)
@pytest.mark.parametrize("segments", [1, 2, 7])
def test_a_stop(fault_server, background, stop, path, segments):
    """One stop ends all of them; what each has brought is kept, and gone on with by however many there are then."""
    some = Some(lambda _: True, beginning, steps.stall())
    server = fault_server(each(some))
    running = background(download, f"{server.url}/file", path, stop=stop, segments=4)
    server.wait_for("stall", 4)
    wait_until_blocked(stop, 4)
    stop.set("enough")
    error = running.error()
    assert isinstance(error, Interrupted)
    assert error.reason == "enough"
    assert 0 < error.transferred <= 400_000
    some.which = lambda _: False
    result = download(f"{server.url}/file", path, segments=segments)
    is_whole(path)
    assert result.resumed_from == error.transferred
    assert all(range_ for range_, _ in asked(server)[4:])


def test_a_part_of_one_connection(fault_server, path):
    """What one connection has left is gone on with by several."""
    server = fault_server(half(BODY, ETag=ETAG), each(SERVE))
    download(f"{server.url}/file", path, segments=4, backoff=0.001)
    is_whole(path)
    assert len([range_ for range_, _ in asked(server) if range_]) >= 4
