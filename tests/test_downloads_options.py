"""Options of downloads that cannot be: each is refused by name before anything is asked for, and leaves nothing behind."""

from __future__ import annotations

import io
import math
import re

import pytest
import requests

from iointerrupt.downloads import Downloaded, DownloadManager, Options, Progress, download
from iointerrupt.downloads._options import check_url

URL = "http://127.0.0.1:9/file"  # nobody listens there

BAD = [
    ({"segments": 0}, ValueError, "segments must be 1 or more, not 0"),
    ({"segments": 2.5}, TypeError, "segments must be an int, not float"),
    ({"segments": True}, TypeError, "segments must be an int, not bool"),
    ({"retries": -1}, ValueError, "retries must be 0 or more, not -1"),
    ({"max_size": "1M"}, TypeError, "max_size must be an int, not str"),
    ({"backoff": -0.5}, ValueError, "backoff must be 0 or more, not -0.5"),
    ({"backoff": float("nan")}, ValueError, "backoff must be 0 or more, not nan"),
    ({"retry_after_max": "60"}, TypeError, "retry_after_max must be a number, not str"),
    ({"min_speed_time": 0}, ValueError, "min_speed_time must be more than 0, not 0"),
    ({"min_speed": 0}, ValueError, "min_speed must be more than 0, not 0"),
    ({"timeout": 0}, ValueError, "timeout must be more than 0, not 0"),
    ({"deadline": True}, TypeError, "deadline must be a number, not bool"),
    ({"max_rate": 10, "min_speed": 20}, ValueError, "max_rate (10) is below min_speed (20)"),
    ({"mirrors": URL}, TypeError, "mirrors must be a sequence of URLs, not one str"),
    ({"mirrors": [None]}, TypeError, "a URL must be a str, not NoneType"),
    ({"mirrors": ["ftp://a.test/"]}, ValueError, "not a URL that can be downloaded: 'ftp://a.test/'"),
    ({"headers": {"X-Count": 1}}, TypeError, "the header 'X-Count' must be a str, not int"),
    ({"headers": {b"X": "1"}}, TypeError, "the name of a header must be a str, not bytes"),
    ({"headers": [("X", "1")]}, TypeError, "headers must be a mapping of str to str, not list"),
    ({"headers": {"Range": "bytes=1-"}}, ValueError, "the header Range is set by the download itself"),
    (
        {"headers": {"X-Two": "lines\r\nX: 1"}},
        ValueError,
        "the header X-Two is no header: its value must be Latin-1 in one line",
    ),
    ({"headers": {"X-Euro": "\u20ac"}}, ValueError, "the header X-Euro is no header: its value must be Latin-1"),
    ({"headers": {"X-Blank": " a"}}, ValueError, "the header X-Blank is no header"),
    ({"headers": {"X Y": "a"}}, ValueError, "'X Y' is no header"),
    ({"headers": {" X": "a"}}, ValueError, "' X' is no header"),
    ({"mirrors": 3}, TypeError, "mirrors must be a sequence of URLs, not int"),
    ({"mirrors": None}, TypeError, "mirrors must be a sequence of URLs, not NoneType"),
    ({"overwrite": "no"}, TypeError, "overwrite must be a bool, not str"),
    ({"headers": {"": "nameless"}}, ValueError, "'' is no header"),
    ({"segment": 4}, TypeError, "segment"),
]


def closed_file():
    """A file that cannot be written to any more."""
    file = io.BytesIO()
    file.close()
    return file


@pytest.mark.parametrize(("options", "kind", "said"), BAD, ids=[str(options) for options, _, _ in BAD])
class TestValues:
    """Each option, as one download's and as a manager's."""

    def test_of_a_download(self, tmp_path, options, kind, said):
        """`download` says what was wrong and what is accepted."""
        with pytest.raises(kind, match=re.escape(said)):
            download(URL, tmp_path / "got", **options)
        assert list(tmp_path.iterdir()) == []

    def test_of_a_manager(self, tmp_path, options, kind, said):
        """`submit` does so itself, and not the download that it returns."""
        with DownloadManager() as manager, pytest.raises(kind, match=re.escape(said)):
            manager.submit(URL, tmp_path / "got", **options)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dest", "kind", "said"),
    [
        (b"bytes", TypeError, "dest must be a path of str, a binary file object or None, not bytes"),
        (3, TypeError, "dest must be a path of str, a binary file object or None, not int"),
        (io.StringIO(), TypeError, "is a text file; wrap the binary one under it, its .buffer"),
        (closed_file(), ValueError, "dest is closed"),
        ("nul\0l", ValueError, "dest must not contain a null character"),
    ],
)
def test_places(dest, kind, said):
    """What is no path, and no file that can be written to, is refused."""
    with pytest.raises(kind, match=said):
        download(URL, dest)


def test_sessions(tmp_path):
    """So is what is no session, also by a manager."""
    for session in (3, requests.Session):
        with pytest.raises(TypeError, match=r"session must be a requests\.Session or None, not"):
            download(URL, tmp_path / "got", session=session)
        with pytest.raises(TypeError, match=r"session must be a requests\.Session or None, not"):
            DownloadManager(session=session)


@pytest.mark.parametrize(("priority", "kind"), [("high", TypeError), (float("nan"), ValueError), (None, TypeError)])
def test_priorities(tmp_path, priority, kind):
    """So is what has no place in an order; nothing of it is left in the manager."""
    with DownloadManager() as manager:
        with pytest.raises(kind, match="priority must be a number, not"):
            manager.submit(URL, tmp_path / "got", priority=priority)
        assert list(manager.downloads) == []
        assert manager.progress.queued == 0


def test_limits_of_a_manager():
    """What is wrong is called by its name."""
    with pytest.raises(ValueError, match="max_rate must be more than 0, not 0"):
        DownloadManager(max_rate=0)
    with pytest.raises(ValueError, match="connections_per_host must be 1 or more, not 0"):
        DownloadManager(connections_per_host=0)
    with DownloadManager() as manager, pytest.raises(TypeError, match="max_rate must be a number or None, not str"):
        manager.max_rate = "fast"


def test_options_are_their_own():
    """What was given can be changed, and read once only: the options stay."""
    headers, mirrors = {"X": "1"}, iter(["http://b.test/"])
    options = Options(headers=headers, mirrors=mirrors)
    headers["Range"] = "bytes=1-"
    assert options.headers == {"X": "1"}
    assert options.mirrors == ("http://b.test/",)


def test_infinite_times():
    """They are no limits."""
    options = Options(timeout=math.inf, deadline=math.inf)
    assert (options.timeout, options.deadline) == (None, None)


def test_what_is_shown_has_no_passwords():
    """Options, progress and results are what programs log: no password is in it, whoever it is for."""
    url = "http://user:secret@a.test/file"
    options = Options(headers={"Authorization": "secret"}, mirrors=[url])
    for shown in (options, Progress(url, "file"), Downloaded("file", 1, 0, 0.5, None, url)):
        assert "secret" not in repr(shown)
    assert repr(Progress("http://a.test/", None)).startswith("Progress(url='http://a.test/', path=None, done=0, ")
    assert "retries=5, " in repr(options)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://user:pw@A.test:80/x", "http://a.test"),
        ("https://a.test:443", "https://a.test"),
        ("https://a.test:80", "https://a.test:80"),
        ("http://a.test:/x", "http://a.test"),
        ("http://[::1]:80/x", "http://[::1]"),
    ],
)
def test_hosts(url, host):
    """A limit for each host holds however its usual port is written."""
    assert check_url(url) == host


def test_progress(tmp_path):
    """So is what cannot be told of progress."""
    with pytest.raises(TypeError, match="progress must be callable, not int"):
        download(URL, tmp_path / "got", progress=5)
    with DownloadManager() as manager, pytest.raises(TypeError, match="progress must be callable, not str"):
        manager.submit(URL, tmp_path / "got", progress="bar")
    assert list(tmp_path.iterdir()) == []


def test_options_of_a_manager():
    """A manager takes `Options` only."""
    with pytest.raises(TypeError, match="options must be an Options or None, not dict"):
        DownloadManager(options={"retries": 1})


@pytest.mark.parametrize("value", ["secret\r\nX: 1", b"secret", "secret\0"])
def test_values_of_headers_are_not_shown(value):
    """What is wrong with a header is said without its value, which may be a password."""
    with pytest.raises((TypeError, ValueError)) as caught:
        Options(headers={"Authorization": value})
    assert "Authorization" in str(caught.value)
    assert "secret" not in str(caught.value)
