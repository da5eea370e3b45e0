"""Options of downloads that cannot be: each is refused by name before anything is asked for, and leaves nothing behind."""

from __future__ import annotations

import re

import pytest

from iointerrupt.downloads import DownloadManager, Options, download

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
        "'X-Two' is no header: neither name nor value may have line breaks",
    ),
    ({"headers": {"": "nameless"}}, ValueError, "'' is no header"),
    ({"segment": 4}, TypeError, "segment"),
]


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
        (b"bytes", TypeError, "dest must be a str or a path of str"),
        ("nul\0l", ValueError, "dest must not contain a null character"),
    ],
)
def test_places(dest, kind, said):
    """What is no path is refused."""
    with pytest.raises(kind, match=said):
        download(URL, dest)


def test_progress(tmp_path):
    """So is what cannot be told of progress."""
    with pytest.raises(TypeError, match="progress must be callable or None, not int"):
        download(URL, tmp_path / "got", progress=5)
    with DownloadManager() as manager, pytest.raises(TypeError, match="progress must be callable or None, not str"):
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
