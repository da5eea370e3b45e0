"""What `fetch` promises, shown twice: with mocked answers, and with a real server."""

from __future__ import annotations

import threading

import pytest
import requests

import sites
from fetch import WrongAnswer, fetch
from iointerrupt import Interrupted
from iointerrupt.testing import StopAfter, wait_until_blocked
from sites import Reply

CONTENT = b"0123456789abcdef"
PIECES = [CONTENT[start : start + 4] for start in range(0, 16, 4)]
ETAG = {"ETag": '"v1"'}

WHOLE = Reply(PIECES, headers=ETAG)


def rest(have, **changes):
    """The answer to a request for what is missing."""
    headers = {**ETAG, "Content-Range": f"bytes {have}-15/16"}
    return Reply(**{"body": [CONTENT[have:]], "status": 206, "headers": headers, **changes})


@pytest.fixture(params=[sites.mocked, sites.real], ids=["mocked", "real"])
def site(request):
    """A function that makes a site, of either kind."""
    return request.param


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return tmp_path / "file"


@pytest.fixture
def part(path):
    """Where it is until it is complete."""
    return path.with_name("file.part")


def begun(part, have, etag='"v1"'):
    """Leave behind what a download that was broken off leaves."""
    part.write_bytes(CONTENT[:have])
    part.with_name("file.part.etag").write_text(etag)


pytestmark = pytest.mark.usefixtures("no_leaks")


def test_complete(site, path):
    """The file is there when all of it has come, and nothing beside it."""
    with site(WHOLE) as given:
        assert fetch(given.url, path) == 16
    assert path.read_bytes() == CONTENT
    assert list(path.parent.iterdir()) == [path]


def test_nothing_in_it(site, path):
    """A file without content is a file."""
    with site(Reply()) as given:
        assert fetch(given.url, path) == 0
    assert path.read_bytes() == b""


@pytest.mark.parametrize("have", [1, 8, 15])
def test_continues(site, path, part, have):
    """Only what is missing is asked for, of the version that was begun."""
    begun(part, have)
    with site(rest(have)) as given:
        assert fetch(given.url, path) == 16
        (asked,) = given.asked()
    assert (asked["Range"], asked["If-Range"]) == (f"bytes={have}-", '"v1"')
    assert path.read_bytes() == CONTENT


def test_changed_meanwhile(site, path, part):
    """Another version than the one that was begun is downloaded from the beginning."""
    begun(part, 8, etag='"v0"')
    with site(WHOLE) as given:
        fetch(given.url, path)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("etag", ["", 'W/"v1"'])
def test_version_that_cannot_be_told(site, path, part, etag):
    """Without a strong ETag, what there is cannot be relied on."""
    begun(part, 8, etag)
    with site(WHOLE) as given:
        fetch(given.url, path)
        assert "Range" not in given.asked()[0]
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("said", ["bytes 4-15/16", "bytes */16", ""])
def test_wrong_range(site, path, part, said):
    """Another part than was asked for is refused, and what there is stays as it is."""
    begun(part, 8)
    with site(rest(8, headers={**ETAG, "Content-Range": said})) as given, pytest.raises(WrongAnswer, match="from 8 on"):
        fetch(given.url, path)
    assert part.read_bytes() == CONTENT[:8]
    assert not path.exists()


def test_more_than_there_is(site, path, part):
    """A part that is longer than the file is given up for the file."""
    begun(part, 16)
    with site(Reply(status=416), WHOLE) as given:
        fetch(given.url, path)
    assert path.read_bytes() == CONTENT


def test_refused(site, path):
    """What the server refuses is asked for once, and leaves nothing behind."""
    with site(Reply([b"no such file"], status=404)) as given:
        with pytest.raises(requests.HTTPError, match="404"):
            fetch(given.url, path)
        assert len(given.asked()) == 1
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("broken", ["end", "reset"])
def test_broken_off(site, path, broken):
    """A body that ends too early is continued, and not begun again."""
    with site(Reply(PIECES[:2], headers=ETAG, length=16, then=broken), rest(8)) as given:
        fetch(given.url, path, pause=0)
        assert given.asked()[1]["Range"] == "bytes=8-"
    assert path.read_bytes() == CONTENT


def test_gives_up(site, path, part):
    """After the last attempt it fails, and what has come is kept."""
    replies = [
        Reply(PIECES[:1], headers=ETAG, length=16),
        rest(4, body=PIECES[1:2], length=12),
        rest(8, body=PIECES[2:3], length=8),
    ]
    with site(*replies) as given, pytest.raises(requests.exceptions.ChunkedEncodingError):
        fetch(given.url, path, pause=0)
    assert part.read_bytes() == CONTENT[:12]


def test_stop_before(site, path, stop):
    """With a stop that is set nothing is asked for."""
    stop.set("enough")
    with site(WHOLE) as given:
        with pytest.raises(Interrupted, match="enough"):
            fetch(given.url, path, stop=stop)
        assert given.asked() == []


@pytest.mark.parametrize("k", [1, 2, 3])
def test_stop_at_chunk(site, path, part, stop, k):
    """Stopped after the k-th chunk, it has kept exactly k chunks, and goes on with the next one."""
    with site(WHOLE, rest(4 * k)) as given:
        with pytest.raises(Interrupted):
            fetch(given.url, path, stop=stop, chunk_size=4, progress=lambda size: size == 4 * k and stop.set())
        assert part.read_bytes() == CONTENT[: 4 * k]
        assert fetch(given.url, path) == 16
    assert path.read_bytes() == CONTENT


@pytest.mark.stops_within(1)
def test_stop_while_stalled(site, path, part, stop, background):
    """Where the server sends nothing more, the stop ends the wait, and what has come is kept."""
    came = threading.Event()
    with site(Reply(PIECES[:2], headers=ETAG, length=16, then="stall"), rest(8)) as given:
        running = background(fetch, given.url, path, stop=stop, progress=lambda size: size == 8 and came.set())
        assert came.wait(10)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(running.error(), Interrupted)
        assert part.read_bytes() == CONTENT[:8]
        assert fetch(given.url, path) == 16
    assert path.read_bytes() == CONTENT


@pytest.mark.stops_within(1)
def test_stop_between_two_attempts(site, path, part, stop, background):
    """The pause before another attempt ends as well."""
    asked = threading.Event()
    with site(Reply(PIECES[:1], headers=ETAG, length=16)) as given:
        running = background(fetch, given.url, path, stop=stop, pause=600, progress=lambda size: asked.set())
        assert asked.wait(10)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(running.error(), Interrupted)
    assert part.read_bytes() == CONTENT[:4]


def test_stop_at_each_check(site, path, part):
    """Wherever it is stopped, what it has kept is the beginning of the file, and it goes on from there."""
    n = 0
    stopped = True
    while stopped:
        n += 1
        with site(WHOLE) as given:
            try:
                fetch(given.url, path, stop=StopAfter(n), chunk_size=4)
                stopped = False
            except Interrupted:
                assert not path.exists()
        kept = part.read_bytes() if part.exists() else b""
        if stopped and kept:
            assert CONTENT.startswith(kept)
            with site(rest(len(kept)) if len(kept) < 16 else Reply(status=416), WHOLE) as given:
                fetch(given.url, path)
        if path.exists():
            assert path.read_bytes() == CONTENT
            path.unlink()
    assert n > 4
