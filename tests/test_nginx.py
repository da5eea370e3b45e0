"""The nginx that other tests download from: that it serves what it says, logs it, and ends with its process."""

from __future__ import annotations

import gzip
import os
import select
import signal
import subprocess
import sys

import pytest
import requests

from tests import nginx
from tests.serving import require

BODY = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What is served."""
    require(nginx.why_not())
    folder = tmp_path_factory.mktemp("served")
    (folder / "file").write_bytes(BODY)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """One server for all of these tests."""
    with nginx.serving(folder) as server:
        yield server


@pytest.fixture
def session():
    """A session that takes nothing from the environment."""
    with requests.Session() as session:
        session.trust_env = False
        yield session


def test_a_range_is_served_and_logged(server, session):
    """A range of a file comes with its validators, and the log tells what was asked for and how much was sent."""
    whole = session.get(f"{server.url}/file")
    assert whole.content == BODY
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert "Last-Modified" in whole.headers
    server.forget()
    headers = {"Range": "bytes=100-", "If-Range": whole.headers["ETag"]}
    part = session.get(f"{server.url}/file", headers=headers)
    assert part.status_code == 206
    assert part.headers["Content-Range"] == f"bytes 100-{len(BODY) - 1}/{len(BODY)}"
    assert part.content == BODY[100:]
    (request,) = server.requests()
    assert (request.method, request.uri, request.scheme) == ("GET", "/file", "http")
    assert (request.range, request.if_range) == ("bytes=100-", whole.headers["ETag"])
    assert (request.status, request.bytes) == (206, len(BODY) - 100)
    server.forget()
    assert server.requests() == []


def test_tls(server, session):
    """The same over TLS, with the certificate of an authority that a client can be told of."""
    assert session.get(f"{server.tls_url}/file", verify=server.ca_file).content == BODY
    with pytest.raises(requests.exceptions.SSLError):
        session.get(f"{server.tls_url}/file")


def test_a_slow_body_that_is_left_is_logged_with_what_was_sent(server, session):
    """A limited rate sends the first second's worth at once; who leaves then has cost no more than that."""
    server.forget()
    with session.get(f"{server.url}/slow/file?rate=10k", stream=True) as answer:
        assert answer.raw.read(5000) == BODY[:5000]
    (request,) = server.requests()
    assert 5000 <= request.bytes < len(BODY) // 2


def test_a_connection_too_many_is_told_to_come_later(server, session):
    """While one connection is served under /limited/, another one gets 503 and the time to wait."""
    with session.get(f"{server.url}/limited/file?rate=10k", stream=True) as answer:
        assert answer.status_code == 200
        refused = session.get(f"{server.url}/limited/file")
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


def test_gzip(server, session):
    """Under /gzip/ a body is compressed for who accepts that, and its ETag is weak."""
    answer = session.get(f"{server.url}/gzip/file", headers={"Accept-Encoding": "gzip"}, stream=True)
    assert answer.headers["Content-Encoding"] == "gzip"
    assert answer.headers["ETag"].startswith("W/")
    assert gzip.decompress(answer.raw.read()) == BODY
    plain = session.get(f"{server.url}/gzip/file", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.content == BODY


def test_no_ranges(server, session):
    """Under /noranges/ a range is answered with everything."""
    answer = session.get(f"{server.url}/noranges/file", headers={"Range": "bytes=100-"})
    assert (answer.status_code, answer.content) == (200, BODY)
    assert "Accept-Ranges" not in answer.headers


def test_private(server, session):
    """Under /private/ a name and a password are asked for."""
    assert session.get(f"{server.url}/private/file").status_code == 401
    assert session.get(f"{server.url}/private/file", auth=("user", "wrong")).status_code == 401
    assert session.get(f"{server.url}/private/file", auth=("user", "password")).content == BODY


def test_a_redirect_leads_to_another_host(server, session):
    """Under /redirect/ a client is sent to another port and name, and the log shows what it has brought along."""
    server.forget()
    answer = session.get(f"{server.url}/redirect/private/file?x=1", auth=("user", "password"))
    assert answer.status_code == 401  # as requests takes no credentials to another host
    assert answer.url == f"{server.other_url}/private/file?x=1"
    first, second = server.requests()
    assert first.status == 302
    assert first.authorization.startswith("Basic ")
    assert second.authorization == ""
    assert second.host == server.other_url.removeprefix("http://")


def test_several_at_a_time(folder, session):
    """Each server has ports of its own."""
    with nginx.serving(folder) as one, nginx.serving(folder, workers=2) as two:
        assert len({one.url, one.other_url, one.tls_url, two.url, two.other_url, two.tls_url}) == 6
        for url in (one.url, two.url, one.other_url, two.other_url):
            assert session.get(f"{url}/file").content == BODY


def test_a_server_that_cannot_start_says_why(folder):
    """What nginx says of its configuration is in the error."""
    with pytest.raises(RuntimeError, match=r"could not be started:\n(.*\n)*.*invalid number"):
        nginx.Nginx(folder, connections=-1).__enter__()


def test_it_ends_with_its_process(folder, tmp_path):
    """None is left over when the process that has started it is killed."""
    program = (
        f"from tests import nginx; s = nginx.Nginx({str(folder)!r}).__enter__(); print(s.pid, flush=True); input()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    environment = os.environ | {"TMPDIR": str(tmp_path)}  # where the server's folder is left
    with subprocess.Popen([sys.executable, "-c", program], **pipes, text=True, env=environment) as process:
        pid = os.pidfd_open(int(process.stdout.readline()))
        try:
            process.kill()
            assert select.select([pid], [], [], 20)[0], "nginx still runs"
        finally:
            os.close(pid)
    assert process.returncode == -signal.SIGKILL


def test_without_nginx_tests_are_skipped_or_fail(folder, monkeypatch):
    """Where nginx is not installed, tests say so; where they are to be complete, they fail."""
    monkeypatch.setattr(nginx, "binary", lambda: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no nginx"), nginx.serving(folder):
        pass
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no nginx"), nginx.serving(folder):
        pass
