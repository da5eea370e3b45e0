"""Redirects: followed where they lead to a file, refused where they do not, and no credentials are shown to whom they are not meant for."""

from __future__ import annotations

import base64

import pytest
import requests

from iointerrupt import http
from iointerrupt.downloads import ConnectionFailed, RedirectRefused, download
from iointerrupt.testing import steps
from tests.scripted import CONTENT, ETAG, HALF, SIZE, asked, each, half, sha256

SECRETS = {
    "Authorization": "Bearer abc",
    "Cookie": "session=abc",
    "X-Api-Key": "abc",
    "PRIVATE-TOKEN": "abc",
    "Proxy-Authorization": "Basic abc",
    "X-Auth-Token": "abc",
    "X-Amz-Security-Token": "abc",
}


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return tmp_path / "file"


@pytest.fixture
def target(fault_server):
    """Another server, which has the file."""
    return fault_server(each(steps.serve(CONTENT, etag=ETAG)))


@pytest.fixture(autouse=True)
def environment(plain_environment, tmp_path, monkeypatch):
    """No proxies, and a home in which nothing is."""
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["/other", "other", "?x=y", "{target}/other", "//{host}/other"])
def test_followed(fault_server, target, tmp_path, status, to):
    """It is followed wherever it leads, and the name is that of what was asked for."""
    to = to.format(target=target.url, host=target.url.partition("//")[2])

    def choose(connection):
        step = steps.redirect(to, status) if connection.request.target == "/folder/file" else steps.serve(CONTENT)
        step.run(connection)

    server = fault_server(each(choose))
    result = download(f"{server.url}/folder/file", tmp_path)
    assert result.url == requests.compat.urljoin(f"{server.url}/folder/file", to)
    assert result.path == str(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_named_by_the_header(fault_server, tmp_path):
    """What the answer in the end calls the file, it is called."""
    named = steps.answer(CONTENT, headers={"Content-Disposition": "attachment; filename=named"})
    server = fault_server([steps.repeat(steps.route({"/a": [steps.redirect("/b")], "/b": [named]}))])
    assert download(f"{server.url}/a", tmp_path).path == str(tmp_path / "named")


def test_gone_on_with(fault_server, path):
    """A further try asks where the first one did, and goes on with what came from wherever that led."""
    target = fault_server(half(ETag=ETAG), each(steps.serve(CONTENT, etag=ETAG)))
    server = fault_server(each(steps.redirect(f"{target.url}/x")))
    result = download(f"{server.url}/file", path, backoff=0.001)
    assert path.read_bytes() == CONTENT
    assert asked(target) == [(None, None), (f"bytes={HALF}-", ETAG)]
    assert result.url == f"{target.url}/x"


@pytest.mark.parametrize("to", ["/file", "/a/file", "file?again"])
def test_a_loop(fault_server, path, to):
    """One that comes to no end is refused, and not tried again."""
    server = fault_server(each(steps.redirect(to)))
    with pytest.raises(RedirectRefused, match="30") as caught:
        download(f"{server.url}/file", path)
    assert caught.value.url == f"{server.url}/file"
    assert len(server.requests) < 40
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "to", ["file:///etc/passwd", "FILE:/etc/passwd", "ftp://127.0.0.1/x", "data:,x", "javascript:x"]
)
def test_to_what_is_not_http(fault_server, path, to):
    """One to a file, or to anything else that is not http, is refused, though the session could fetch that."""
    fetched = []

    class Anything(requests.adapters.BaseAdapter):
        def send(self, request, **_):
            fetched.append(request.url)
            raise AssertionError

        def close(self):
            pass

    server = fault_server(each(steps.redirect(to)))
    with requests.Session() as session:
        for prefix in ("file:", "ftp:", "data:", "javascript:"):
            session.mount(prefix, Anything())
        with pytest.raises(RedirectRefused):
            download(f"{server.url}/file", path, session=session)
    assert fetched == []
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize("to", ["http://[", "http://127.0.0.1:x/", "http://127.0.0.1:99999/"])
def test_to_what_is_nothing(fault_server, path, to):
    """One to what is no URL is an error, and is not tried again."""
    server = fault_server(each(steps.redirect(to)))
    with pytest.raises(RedirectRefused):
        download(f"{server.url}/file", path, backoff=30)
    assert list(path.parent.iterdir()) == []


def test_whom_nobody_trusts(fault_server, path):
    """A redirect leads no further than to where it is trusted who answers."""
    untrusted = fault_server(each(steps.serve(CONTENT)), tls=True)
    server = fault_server(each(steps.redirect(f"{untrusted.url}/file")))
    with pytest.raises(ConnectionFailed, match="CERTIFICATE_VERIFY_FAILED"):
        download(f"{server.url}/file", path)
    assert untrusted.requests == []


class TestCredentials:
    """What speaks for the caller is for the server that he has named."""

    @pytest.fixture(params=["another port", "another name"])
    def elsewhere(self, request, target):
        """The URL of another server, by what differs."""
        if request.param == "another port":
            return target.url
        return target.url.replace("127.0.0.1", "localhost")

    def sent(self, server):
        """What was told to a server that is a secret."""
        return {name for name in SECRETS for request in server.requests if name in request.headers}

    def test_in_headers(self, fault_server, target, elsewhere, path):
        """Headers that carry them are left out for another server; others are not."""
        server = fault_server(each(steps.redirect(f"{elsewhere}/file")))
        download(f"{server.url}/file", path, headers={**SECRETS, "X-Other": "1"})
        assert self.sent(server) == set(SECRETS)
        assert self.sent(target) == set()
        assert target.requests[0].headers["X-Other"] == "1"

    def test_of_the_session(self, fault_server, target, elsewhere, path):
        """So are those of the session, its user and its cookies."""
        server = fault_server(each(steps.redirect(f"{elsewhere}/file")))
        with requests.Session() as session:
            session.headers.update({"X-Api-Key": "abc"})
            session.cookies.set("session", "abc")
            session.auth = ("user", "password")
            download(f"{server.url}/file", path, session=session)
        assert self.sent(server) == {"Authorization", "Cookie", "X-Api-Key"}
        assert self.sent(target) == set()

    def test_of_several_cookies(self, fault_server, target, path):
        """A cookie that the caller has set for no host in particular is not shown to another, whichever others there are."""
        server = fault_server(each(steps.redirect(f"{target.url.replace('127.0.0.1', 'localhost')}/file")))
        with requests.Session() as session:
            session.cookies.set("session", "abc")
            session.cookies.set("other", "abc", domain="127.0.0.1")
            download(f"{server.url}/file", path, session=session)
        assert self.sent(server) == {"Cookie"}
        assert self.sent(target) == set()

    def test_of_the_url(self, fault_server, target, elsewhere, path):
        """And those in the URL, which are not told in the result either."""
        server = fault_server(each(steps.redirect(f"{elsewhere}/file")))
        download(server.url.replace("//", "//user:password@") + "/file", path)
        assert self.sent(server) == {"Authorization"}
        assert self.sent(target) == set()

    def test_there_and_back(self, fault_server, path):
        """What has been left out stays so on the way back: the other server has chosen where that leads."""
        back = []
        target = fault_server(each(lambda connection: steps.redirect(back[0]).run(connection)))
        routes = {"/file": [steps.redirect(f"{target.url}/")], "/back": [steps.serve(CONTENT)]}
        server = fault_server([steps.repeat(steps.route(routes))])
        back.append(f"{server.url}/back")
        download(f"{server.url}/file", path, headers={"X-Api-Key": "abc"})
        assert [request.headers["X-Api-Key"] for request in server.requests if request.path == "/back"] == [None]

    @pytest.fixture
    def beyond(self, fault_server):
        """A function that makes a server which leads on to itself, and then has the file."""

        def make(**options):
            routes = {"/1": [steps.redirect("/2")], "/2": [steps.serve(CONTENT)]}
            return fault_server([steps.repeat(steps.route(routes))], **options)

        return make

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_over_a_second_hop(self, fault_server, beyond, path, host):
        """What has been left out for another server stays so where that leads on to itself."""
        target = beyond()
        server = fault_server(each(steps.redirect(f"{target.url.replace('127.0.0.1', host)}/1")))
        with requests.Session() as session:
            session.headers.update({"X-Api-Key": "abc"})
            session.cookies.set("session", "abc")
            session.auth = ("user", "password")
            download(f"{server.url}/file", path, session=session, headers={"Cookie": "a=b", "X-Auth-Token": "abc"})
        assert self.sent(server) == {"Authorization", "Cookie", "X-Api-Key", "X-Auth-Token"}
        assert [request.path for request in target.requests] == ["/1", "/2"]
        assert self.sent(target) == set()

    @pytest.mark.parametrize("tls", [False, True])
    def test_of_netrc_over_a_second_hop(self, fault_server, beyond, path, tmp_path, tls):
        """What `.netrc` has for the host is neither sent to its other port nor in the clear, at the first hop or the second."""
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine 127.0.0.1 login user password password\n", encoding="ascii")
        netrc.chmod(0o600)
        target = beyond()
        server = fault_server(each(steps.redirect(f"{target.url}/1")), tls=tls)
        with http.Session() as session:
            session.verify = server.ca_file if tls else True
            download(f"{server.url.replace('localhost', '127.0.0.1')}/file", path, session=session)
        assert self.sent(server) == {"Authorization"}
        assert [request.path for request in target.requests] == ["/1", "/2"]
        assert self.sent(target) == set()

    @pytest.mark.parametrize("which", ["mirror", "list of checksums"])
    def test_other_urls(self, fault_server, path, which):
        """Headers that carry them go neither to a mirror nor to a list of checksums on another host."""
        listed = f"{sha256().partition(':')[2]}  file\n".encode()
        other = fault_server(
            [steps.repeat(steps.route({"/SUMS": [steps.serve(listed)], "/file": [steps.serve(CONTENT)]}))]
        )
        server = fault_server(each(steps.answer(b"", status=404) if which == "mirror" else steps.serve(CONTENT)))
        options = {"mirrors": [f"{other.url}/file"]} if which == "mirror" else {"checksum": f"{other.url}/SUMS"}
        download(f"{server.url}/file", path, headers={**SECRETS, "X-Other": "1"}, retries=1, backoff=0, **options)
        assert self.sent(server) == set(SECRETS)
        assert self.sent(other) == set()
        assert {request.headers["X-Other"] for request in other.requests} == {"1"}

    @pytest.mark.parametrize("through", ["then a proxy", "first a proxy"])
    def test_of_a_proxy(self, fault_server, target, path, monkeypatch, through):
        """Each URL goes through the proxy that is meant for it, or none, and nobody but that proxy sees the password for it."""
        proxy = fault_server(
            each(steps.serve(CONTENT) if through == "then a proxy" else steps.redirect(f"{target.url}/x"))
        )
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:password@"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        server = fault_server(each(steps.redirect("http://far.test/file")))
        download(f"{server.url}/file" if through == "then a proxy" else "http://far.test/file", path)
        assert self.sent(proxy) == {"Proxy-Authorization"}
        assert self.sent(server) | self.sent(target) == set()
        assert len(proxy.requests) == 1
        assert bool(server.requests) == (through == "then a proxy")
        assert bool(target.requests) == (through == "first a proxy")

    def test_on_the_same_server(self, fault_server, path):
        """On the same server they are needed."""
        routes = {"/file": [steps.redirect("/other")], "/other": [steps.serve(CONTENT)]}
        server = fault_server([steps.repeat(steps.route(routes))])
        download(f"{server.url}/file", path, headers=SECRETS)
        other = next(request for request in server.requests if request.path == "/other")
        assert {name for name in SECRETS if name in other.headers} == SECRETS.keys() - {"Proxy-Authorization"}

    def test_of_netrc_for_the_other_server(self, fault_server, target, path, tmp_path):
        """What `.netrc` has for the other server is meant for it."""
        netrc = tmp_path / ".netrc"
        netrc.write_text("machine localhost login user password password\n", encoding="ascii")
        netrc.chmod(0o600)
        server = fault_server(each(steps.redirect(f"{target.url.replace('127.0.0.1', 'localhost')}/file")))
        download(f"{server.url}/file", path)
        expected = f"Basic {base64.b64encode(b'user:password').decode()}"
        assert target.requests[-1].headers["Authorization"] == expected
        assert self.sent(server) == set()

    def test_from_https_to_http(self, fault_server, target, path):
        """They are not sent in the clear; the file is fetched."""
        server = fault_server(each(steps.redirect(f"{target.url}/file")), tls=True)
        with http.Session() as session:
            session.verify = server.ca_file
            result = download(f"{server.url}/file", path, session=session, headers=SECRETS)
        assert result.size == SIZE
        assert self.sent(server) == set(SECRETS)
        assert self.sent(target) == set()

    def test_segments(self, fault_server, path):
        """Segments, and further tries, leave them out as well."""
        content = CONTENT * 30
        target = fault_server(half(content, ETag=ETAG), each(steps.serve(content, etag=ETAG)))
        server = fault_server(each(steps.redirect(f"{target.url}/file")))
        download(f"{server.url}/file", path, headers=SECRETS, segments=2, backoff=0.001)
        assert path.read_bytes() == content
        assert len(target.requests) > 2
        assert self.sent(target) == set()
