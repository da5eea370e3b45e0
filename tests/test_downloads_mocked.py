"""What downloads decide about answers, with answers that are mocked: which try follows, when, where, and what the file is called.

The whole download runs, only that no server is asked. Pauses between tries are noted instead of waited for.
"""

from __future__ import annotations

import os
import socket
from email.utils import formatdate
from itertools import pairwise
from time import time

import pytest
import requests
import responses

from iointerrupt.downloads import (
    BadStatus,
    ChecksumMismatch,
    ChecksumNotFound,
    ConnectionFailed,
    DownloadManager,
    ShortBody,
    State,
    TimedOut,
    TooLarge,
    _job,
    download,
)
from iointerrupt.testing import chunked_body, failing_body
from tests.scripted import CONTENT, ETAG, HALF, LONG_AGO, OTHER, OTHER_ETAG, SIZE, sha256

URL = "http://site.test/folder/file"
MIRROR = "http://mirror.test/file"
LENGTH = {"Content-Length": str(SIZE)}
REST_OF_IT = {"Content-Range": f"bytes {HALF}-{SIZE - 1}/{SIZE}"}


@pytest.fixture
def mock():
    """Answers, in the order in which they are given; each has to be asked for."""
    with responses.RequestsMock(registry=responses.registries.OrderedRegistry) as mock:
        yield mock


@pytest.fixture
def pauses(monkeypatch):
    """The seconds that were to be waited between tries."""
    waited = []
    monkeypatch.setattr(_job, "pause", waited.append)
    return waited


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return tmp_path / "got"


def breaks(mock, url=URL, content=CONTENT, **headers):
    """An answer that breaks off after the half."""
    body = failing_body([content[:HALF]], ConnectionResetError(104, "Connection reset by peer"))
    mock.get(url, body=body, headers={**LENGTH, **headers})


def asked(mock):
    """The requests so far: URL and range of each."""
    return [(call.request.url, call.request.headers.get("Range")) for call in mock.calls]


class TestRun:
    """A whole download."""

    def test_what_is_told(self, mock, path):
        """What it was, and how it went."""
        mock.get(
            URL, body=chunked_body([CONTENT[:HALF], CONTENT[HALF:]]), headers={**LENGTH, "Last-Modified": LONG_AGO}
        )
        told = []
        result = download(URL, path, progress=told.append, checksum=sha256())
        assert path.read_bytes() == CONTENT
        assert path.stat().st_mtime == 1445412480
        assert (result.path, result.size, result.url) == (str(path), SIZE, URL)
        assert (result.resumed_from, result.checksum, result.unchanged) == (0, sha256(), False)
        states = list(dict.fromkeys(now.state for now in told))
        assert states == [State.RUNNING, State.VERIFYING, State.DONE]
        assert (told[-1].done, told[-1].total, told[-1].fraction, told[-1].attempt) == (SIZE, SIZE, 1.0, 1)
        assert told[-1].path == str(path)

    def test_what_is_sent(self, mock, path):
        """The caller's headers and the session's, and that nothing be packed."""
        mock.get(URL, body=CONTENT)
        with requests.Session() as session:
            session.headers["X-Session"] = "1"
            session.cookies.set("cookie", "2")
            session.auth = ("user", "password")
            download(URL, path, session=session, headers={"X-Own": "3"})
        headers = mock.calls[0].request.headers
        assert (headers["X-Session"], headers["Cookie"], headers["X-Own"]) == ("1", "cookie=2", "3")
        assert headers["Authorization"].startswith("Basic ")
        assert headers["Accept-Encoding"] == "identity"
        assert "Range" not in headers

    @pytest.mark.usefixtures("pauses")
    def test_gone_on_with(self, mock, path):
        """A connection that breaks is gone on with, and that is told."""
        breaks(mock, ETag=ETAG)
        mock.get(URL, status=206, body=CONTENT[HALF:], headers=REST_OF_IT)
        told = []
        download(URL, path, progress=told.append)
        assert path.read_bytes() == CONTENT
        assert asked(mock) == [(URL, None), (URL, f"bytes={HALF}-")]
        assert mock.calls[1].request.headers["If-Range"] == ETAG
        waiting = next(now for now in told if now.state is State.WAITING)
        assert (waiting.done, waiting.attempt) == (HALF, 2)
        assert isinstance(waiting.error, ConnectionFailed)
        assert "Connection reset by peer" in str(waiting.error)
        assert all(one.done <= other.done for one, other in pairwise(told))

    @pytest.mark.usefixtures("pauses")
    def test_begun_anew(self, mock, path):
        """Progress goes back where it has to begin anew."""
        breaks(mock, ETag=ETAG)
        mock.get(URL, body=chunked_body([OTHER[:10], OTHER[10:]]), headers={**LENGTH, "ETag": OTHER_ETAG})
        told = []

        def progress(now):
            told.append(now.done)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("iointerrupt.downloads._meter._TELL_EVERY", 0)
            download(URL, path, progress=progress)
        assert path.read_bytes() == OTHER
        assert HALF in told
        assert 10 in told[told.index(HALF) :]
        assert told[-1] == SIZE

    @pytest.mark.parametrize("state", [State.RUNNING, State.WAITING, State.VERIFYING, State.DONE])
    @pytest.mark.usefixtures("pauses")
    def test_a_listener_that_raises(self, path, state):
        """What `progress` raises ends the download, and goes to the caller."""

        def progress(now):
            if now.state is state:
                raise ZeroDivisionError

        with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
            breaks(mock, ETag=ETAG)
            mock.get(URL, status=206, body=CONTENT[HALF:], headers=REST_OF_IT)
            with pytest.raises(ZeroDivisionError):
                download(URL, path, progress=progress, checksum=sha256())

    def test_in_a_manager(self, mock, path):
        """The same in a manager's threads."""
        mock.get(URL, body=CONTENT)
        with DownloadManager() as manager:
            one = manager.submit(URL, path)
            assert one.result().size == SIZE


class TestTries:
    """Whether there is another try, and after how long."""

    @pytest.mark.parametrize("status", [408, 421, 425, 429, 500, 502, 503, 504])
    def test_what_may_pass(self, mock, path, pauses, status):
        """A failure of the server's is tried again."""
        mock.get(URL, status=status)
        mock.get(URL, body=CONTENT)
        download(URL, path)
        assert path.read_bytes() == CONTENT
        assert len(pauses) == 1

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 407, 410, 451, 501, 505])
    def test_what_does_not_pass(self, mock, path, pauses, status):
        """A failure of the client's is not, and its status is told."""
        mock.get(URL, status=status, headers={"Retry-After": "1"})
        with pytest.raises(BadStatus, match=str(status)) as caught:
            download(URL, path)
        assert (caught.value.status, caught.value.url) == (status, URL)
        assert pauses == []
        assert list(path.parent.iterdir()) == []

    @pytest.mark.parametrize(
        ("error", "kind"),
        [
            (requests.ConnectionError("refused"), ConnectionFailed),
            (requests.ConnectTimeout("late"), TimedOut),
            (requests.ReadTimeout("late"), TimedOut),
            (requests.exceptions.ChunkedEncodingError("broken"), ConnectionFailed),
            (requests.ConnectionError(socket.gaierror(socket.EAI_AGAIN, "for now")), ConnectionFailed),
        ],
        ids=ascii,
    )
    def test_connections_that_may_be_better(self, path, pauses, error, kind):
        """A connection that fails is tried as often as there are retries; then the error says what happened, and its cause."""
        with responses.RequestsMock() as mock:
            failing = mock.get(URL, body=error)
            with pytest.raises(kind) as caught:
                download(URL, path, retries=3)
            assert failing.call_count == 4
        assert len(pauses) == 3
        assert caught.value.__cause__ is error

    @pytest.mark.parametrize(
        "error",
        [
            requests.exceptions.SSLError("not trusted"),
            requests.exceptions.InvalidURL("no host"),
            requests.ConnectionError(socket.gaierror(socket.EAI_NONAME, "unknown")),
        ],
        ids=ascii,
    )
    def test_connections_that_will_not(self, mock, path, pauses, error):
        """Whom one does not trust, or does not find, one will not in a second."""
        mock.get(URL, body=error)
        with pytest.raises(ConnectionFailed):
            download(URL, path)
        assert pauses == []

    def test_the_pauses(self, path, pauses):
        """Twice as long each time, with jitter, and never more than a minute."""
        with responses.RequestsMock() as mock:
            mock.get(URL, status=503)
            with pytest.raises(BadStatus):
                download(URL, path, retries=12, backoff=1)
        least = [min(60, 2**n) for n in range(12)]
        assert len(pauses) == 12
        assert all(low <= pause <= min(60, low + 0.5) for low, pause in zip(least, pauses, strict=True))
        assert any(pause % 1 for pause in pauses)

    def test_progress_counts(self, path, pauses, mock):
        """A try that has brought something is not counted: the pauses begin anew, and so do the tries."""
        step = SIZE // 10
        for start in range(0, SIZE, step):
            said = {"Content-Range": f"bytes {start}-{SIZE - 1}/{SIZE}"} if start else {}
            headers = {**said, "ETag": ETAG, "Content-Length": str(SIZE - start)}
            body = chunked_body([CONTENT[start : start + step]])
            mock.get(URL, status=206 if start else 200, body=body, headers=headers)
        download(URL, path, retries=1, backoff=0.5)
        assert path.read_bytes() == CONTENT
        assert len(pauses) == 9
        assert max(pauses) <= 0.75

    @pytest.mark.usefixtures("pauses")
    def test_no_tries(self, mock, path):
        """Without retries there is one try."""
        breaks(mock)
        with pytest.raises(ConnectionFailed):
            download(URL, path, retries=0)


class TestRetryAfter:
    """How long a server wants to be left alone."""

    @pytest.mark.parametrize(
        ("said", "waited"), [("7", 7), (" 7 ", 7), ("0", 0), ("299", 299), ("301", 300), ("9" * 30, 300)]
    )
    @pytest.mark.parametrize("status", [429, 503])
    def test_seconds(self, mock, path, pauses, said, waited, status):
        """It is obeyed, up to `retry_after_max`."""
        mock.get(URL, status=status, headers={"Retry-After": said})
        mock.get(URL, body=CONTENT)
        download(URL, path)
        assert pauses == ([waited] if waited else [])

    def test_the_most(self, mock, path, pauses):
        """How far, the caller says."""
        mock.get(URL, status=503, headers={"Retry-After": "20"})
        mock.get(URL, body=CONTENT)
        download(URL, path, retry_after_max=5)
        assert pauses == [5]

    @pytest.mark.parametrize(("later", "least", "most"), [(20, 15, 20), (-1000, 0, 0), (10**6, 300, 300)])
    def test_a_date(self, mock, path, pauses, later, least, most):
        """The same of a date."""
        mock.get(URL, status=503, headers={"Retry-After": formatdate(time() + later, usegmt=True)})
        mock.get(URL, body=CONTENT)
        download(URL, path)
        assert least <= sum(pauses) <= most

    @pytest.mark.parametrize("said", ["soon", "-5", "1.5", "1e9", "", "Wed, 32 Oct 2015 07:28:00 GMT", "\u0661"])
    def test_nonsense(self, mock, path, pauses, said):
        """What makes no sense says nothing."""
        mock.get(URL, status=503, headers={"Retry-After": said})
        mock.get(URL, body=CONTENT)
        download(URL, path, backoff=0.5)
        assert sum(pauses) <= 0.75

    @pytest.mark.usefixtures("pauses")
    def test_it_is_told(self, path):
        """Who gives up is told when the server may be asked again."""
        with responses.RequestsMock() as mock:
            mock.get(URL, status=503, headers={"Retry-After": "20"})
            with pytest.raises(BadStatus) as caught:
                download(URL, path, retries=1)
        assert caught.value.retry_after == 20


class TestMirrors:
    """Several URLs of one file."""

    def test_the_first_has_it_not(self, mock, path, pauses):
        """The next one is asked at once."""
        mock.get(URL, status=404)
        mock.get(MIRROR, body=CONTENT)
        assert download(URL, path, mirrors=[MIRROR]).url == MIRROR
        assert path.read_bytes() == CONTENT
        assert pauses == []

    def test_none_has_it(self, mock, path, pauses):
        """What the last one says is the error."""
        mock.get(URL, status=404)
        mock.get(MIRROR, status=403)
        with pytest.raises(BadStatus) as caught:
            download(URL, path, mirrors=[MIRROR])
        assert (caught.value.status, caught.value.url) == (403, MIRROR)
        assert pauses == []

    def test_in_turn(self, mock, path, pauses):
        """Where a later try may be better, they are asked in turn; how long one wants to be left alone, another does not care."""
        for url in (URL, MIRROR, URL):
            mock.get(url, status=503, headers={"Retry-After": "200"})
        mock.get(MIRROR, body=CONTENT)
        download(URL, path, mirrors=[MIRROR], backoff=0.5)
        assert len(pauses) == 3
        assert max(pauses) < 3

    @pytest.mark.usefixtures("pauses")
    @pytest.mark.parametrize("checksum", [None, sha256()], ids=["", "with a checksum"])
    def test_gone_on_with(self, mock, path, checksum):
        """What came from one is gone on with at another only if the checksum will tell whether it fits; no ETag of the first is told."""
        breaks(mock, ETag=ETAG)
        if checksum is None:
            mock.get(MIRROR, body=CONTENT, headers={"ETag": ETAG})
        else:
            mock.get(MIRROR, status=206, body=CONTENT[HALF:], headers=REST_OF_IT)
        download(URL, path, mirrors=[MIRROR], checksum=checksum)
        assert path.read_bytes() == CONTENT
        assert asked(mock)[1] == (MIRROR, None if checksum is None else f"bytes={HALF}-")
        assert "If-Range" not in mock.calls[1].request.headers

    @pytest.mark.usefixtures("pauses")
    def test_the_wrong_file(self, mock, path):
        """One that has another file is left for the next; if none has the right one, nothing stays."""
        mock.get(URL, body=OTHER)
        mock.get(MIRROR, body=CONTENT)
        download(URL, path, mirrors=[MIRROR], checksum=sha256())
        assert path.read_bytes() == CONTENT
        mock.get(URL, body=OTHER)
        mock.get(MIRROR, body=OTHER)
        with pytest.raises(ChecksumMismatch):
            download(URL, path, mirrors=[MIRROR], checksum=sha256(), overwrite=True)
        assert [each.name for each in path.parent.iterdir()] == ["got"]


class TestMaxSize:
    """Files that are too large."""

    def test_by_the_header(self, mock, path):
        """What says that it is too large is refused before a byte of it."""
        mock.get(URL, body=CONTENT, headers=LENGTH)
        with pytest.raises(TooLarge, match="99,999"):
            download(URL, path, max_size=SIZE - 1)
        assert list(path.parent.iterdir()) == []

    def test_by_counting(self, mock, path):
        """What does not say so is refused when it is."""
        mock.get(URL, body=chunked_body([CONTENT[:HALF], CONTENT[HALF:]]), headers={"Transfer-Encoding": "chunked"})
        with pytest.raises(TooLarge):
            download(URL, path, max_size=HALF + 1)
        assert not path.exists()

    def test_just_as_large(self, mock, path):
        """What is as large as it may be is not too large."""
        mock.get(URL, body=CONTENT)
        assert download(URL, path, max_size=SIZE).size == SIZE


class TestUpdate:
    """A file that is there, and may be another on the server."""

    @pytest.fixture
    def there(self, mock, path):
        """The file as it was."""
        mock.get(URL, body=CONTENT, headers={"ETag": ETAG, "Last-Modified": LONG_AGO})
        download(URL, path)
        return path

    def test_unchanged(self, mock, there):
        """A server that has no other sends none, and the file is as it was."""
        mock.get(URL, status=304)
        before = there.stat()
        result = download(URL, there, update=True)
        assert (result.unchanged, result.size, result.path) == (True, SIZE, str(there))
        assert there.stat().st_mtime_ns == before.st_mtime_ns
        assert mock.calls[1].request.headers["If-Modified-Since"] == LONG_AGO
        assert [each.name for each in there.parent.iterdir()] == ["got"]

    def test_unchanged_without_a_date(self, mock, path):
        """Where the server gives no date, its tag alone is asked with, and the date of the download is none of its."""
        mock.get(URL, body=CONTENT, headers={"ETag": ETAG})
        download(URL, path)
        if not hasattr(os, "listxattr") or not os.listxattr(path):
            pytest.skip("the file system keeps no attributes")
        mock.get(URL, status=304)
        assert download(URL, path, update=True).unchanged
        assert mock.calls[1].request.headers["If-None-Match"] == ETAG
        assert "If-Modified-Since" not in mock.calls[1].request.headers

    def test_changed(self, mock, there):
        """Another one takes its place."""
        mock.get(URL, body=OTHER, headers={"ETag": OTHER_ETAG})
        result = download(URL, there, update=True)
        assert not result.unchanged
        assert there.read_bytes() == OTHER

    @pytest.mark.usefixtures("pauses")
    def test_it_fails(self, mock, there):
        """A failure leaves what was there."""
        mock.get(URL, status=500)
        with pytest.raises(BadStatus):
            download(URL, there, update=True, retries=0)
        assert there.read_bytes() == CONTENT

    def test_it_is_not_what_was_asked_for(self, mock, there):
        """A file that is unchanged on the server, but was changed here, is fetched again where a checksum says so."""
        there.write_bytes(OTHER)
        mock.get(URL, status=304)
        mock.get(URL, body=CONTENT)
        assert not download(URL, there, update=True, checksum=sha256()).unchanged
        assert there.read_bytes() == CONTENT

    def test_there_is_none(self, mock, path):
        """Where there is none, it is fetched as any other."""
        mock.get(URL, body=CONTENT)
        assert not download(URL, path, update=True).unchanged
        assert "If-Modified-Since" not in mock.calls[0].request.headers


class TestChecksumLists:
    """A checksum that is looked up."""

    SUMS = f"{sha256(OTHER)[7:]}  other\n{sha256()[7:]} *file\n"

    @pytest.mark.parametrize("prefix", ["", "sha256:"])
    def test_a_url(self, mock, path, prefix):
        """It is fetched first, and names the file as the URL does."""
        mock.get("http://site.test/SHA256SUMS", body=self.SUMS)
        mock.get(URL, body=CONTENT)
        assert download(URL, path, checksum=f"{prefix}http://site.test/SHA256SUMS").checksum == sha256()

    def test_a_file(self, mock, path, tmp_path):
        """So is one on the disk."""
        sums = tmp_path / "SHA256SUMS"
        sums.write_text(self.SUMS, encoding="ascii")
        mock.get(URL, body=OTHER)
        with pytest.raises(ChecksumMismatch):
            download(URL, path, checksum=str(sums))
        assert not path.exists()

    @pytest.mark.parametrize("status", [404, 200])
    def test_no_checksum(self, mock, path, status):
        """One that cannot be had, or has no such file, is told before the file is fetched, or in place of it."""
        mock.get("http://site.test/SHA256SUMS", status=status, body="<html>what?</html>")
        if status == 200:
            mock.assert_all_requests_are_fired = False
            mock.get(URL, body=CONTENT)
        with pytest.raises(ChecksumNotFound):
            download(URL, path, checksum="http://site.test/SHA256SUMS")
        assert not path.exists()

    @pytest.mark.usefixtures("pauses")
    def test_a_short_list(self, mock, path):
        """A list that breaks off is tried again, and never believed."""
        url = "http://site.test/SHA256SUMS"
        mock.get(url, body=self.SUMS[:-30], headers={"Content-Length": str(len(self.SUMS))})
        mock.get(url, body=self.SUMS)
        mock.get(URL, body=CONTENT)
        assert download(URL, path, checksum=url).checksum == sha256()


def test_short_bodies(mock, path, pauses):
    """A body that is shorter than it says is no success in a mock either."""
    for _ in range(3):
        mock.get(URL, body=chunked_body([CONTENT[:HALF]]), headers=LENGTH)
    with pytest.raises(ShortBody):
        download(URL, path, retries=2)
    assert len(pauses) == 2
