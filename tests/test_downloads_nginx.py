"""Downloads from a real nginx: ranges and validators, TLS, credentials, codings, proxies, files that change on the server."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import random

import pytest
import requests

from iointerrupt import http
from iointerrupt.downloads import (
    BadStatus,
    ChecksumMismatch,
    ConnectionFailed,
    DownloadManager,
    State,
    download,
)
from tests import nginx
from tests.altered_nginx import CODED, PROXY, SMOOTH, AlteredNginx
from tests.served import LONG_AGO, asked, at_first_bytes, begin, put
from tests.stress.places import Place, Served

# Large enough for four segments, and for a stop in the middle.
SIZE = 9 << 19
BODY = hashlib.shake_256(b"a file").digest(SIZE)
OTHER = hashlib.shake_256(b"another").digest(SIZE - 1000)

_BASIC = f"Basic {base64.b64encode(b'user:password').decode()}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What is served: of each test a file of its own, besides `file`."""
    folder = tmp_path_factory.mktemp("served")
    put(folder / "file", BODY)
    (folder / "apart").mkdir()
    return folder


@pytest.fixture(scope="module")
def running(folder):
    """One server for all of these tests, which limits the rate under /slow/ to 16 MiB/s in small steps."""
    with nginx.serving(folder), AlteredNginx(folder, SMOOTH | CODED, rate="16m") as server:
        yield server


@pytest.fixture
def server(running):
    """The server, whose log begins with the test."""
    running.forget()
    return running


@pytest.fixture(autouse=True)
def environment(plain_environment, tmp_path, monkeypatch):
    """No proxies and no certificates, which requests would put before the session's, and a home in which nothing is."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return tmp_path / "got"


class TestRanges:
    """What is there is not fetched again."""

    def test_the_rest_is_asked_for_by_the_etag(self, server, path):
        """After a stop, the rest of the version that its ETag names is asked for, and nothing else."""
        done = begin(f"{server.url}/slow/file", path)
        result = download(f"{server.url}/slow/file", path)
        assert path.read_bytes() == BODY
        assert (result.resumed_from, result.size) == (done, SIZE)
        first, second = server.requests()
        assert (first.status, first.range) == (200, "")
        assert (second.status, second.range, second.bytes) == (206, f"bytes={done}-", SIZE - done)
        assert second.if_range == f'"{LONG_AGO:x}-{SIZE:x}"'

    def test_the_time_is_the_servers(self, server, path):
        """The file is as old as it is on the server."""
        download(f"{server.url}/file", path)
        assert int(path.stat().st_mtime) == LONG_AGO

    def test_segments_share_what_one_connection_does_not_get(self, server, path):
        """Where each connection is limited, four bring at once what one would take four times as long for.

        None of them carries more than what comes within the first second, of which one needs nearly four.
        """
        rate = 1_250_000
        result = download(f"{server.url}/slow/file?rate={rate}", path, segments=4)
        assert path.read_bytes() == BODY
        requests_ = server.requests()
        assert len({request.connection for request in requests_}) == 4
        assert [request.status for request in requests_].count(206) == 3
        assert max(request.bytes for request in requests_) <= 1.1 * rate
        assert result.size > 3.5 * rate

    def test_segments_go_on(self, server, path):
        """Segments that were stopped are gone on with where each of them stood, whatever their number is then."""
        done = begin(f"{server.url}/slow/file", path, segments=4)
        server.forget()
        result = download(f"{server.url}/slow/file", path, segments=2)
        assert path.read_bytes() == BODY
        assert result.resumed_from == done
        assert {status for _, status in asked(server)} == {206}

    def test_a_server_without_ranges(self, server, path):
        """Without ranges, there is one connection, and another try begins with nothing; what was there is not mixed with it."""
        begin(f"{server.url}/noranges/file", path, segments=4, max_rate=8 << 20)
        assert asked(server) == [("", 200)]
        result = download(f"{server.url}/noranges/file", path, segments=4)
        assert path.read_bytes() == BODY
        assert result.size == SIZE
        assert {status for _, status in asked(server)} == {200}

    @pytest.mark.parametrize("segments", [1, 4])
    def test_gzip_is_not_asked_for(self, server, path, segments):
        """Where the server would compress, the file comes as it is, in ranges too."""
        begin(f"{server.url}/gzip/file", path, segments=segments, max_rate=8 << 20)
        download(f"{server.url}/gzip/file", path, segments=segments)
        assert path.read_bytes() == BODY

    def test_gzip_that_was_not_asked_for_is_undone(self, server, path, folder):
        """A server that sends gzip nevertheless is understood; nothing of that can be gone on with, so it begins anew."""
        packed = gzip.compress(BODY)
        put(folder / "packed", packed)
        begin(f"{server.url}/coded/packed", path, segments=4, max_rate=8 << 20)
        assert download(f"{server.url}/coded/packed", path, segments=4).size == SIZE
        assert path.read_bytes() == BODY
        assert set(asked(server)) == {("", 200)}


class TestCertificates:
    """TLS with a certificate that the session trusts."""

    @pytest.mark.parametrize("make", [requests.Session, http.Session])
    @pytest.mark.parametrize("segments", [1, 4])
    def test_trusted(self, server, path, make, segments):
        """Whom the session trusts, the download trusts, over each of its connections, and after a stop."""
        with make() as session:
            session.verify = server.ca_file
            begin(f"{server.tls_url}/slow/file", path, session=session, segments=segments)
            download(f"{server.tls_url}/slow/file", path, session=session, segments=segments)
        assert path.read_bytes() == BODY
        assert {request.scheme for request in server.requests()} == {"https"}

    def test_not_trusted(self, server, path):
        """Others are not, and there is no further try."""
        with pytest.raises(ConnectionFailed, match="certificate"):
            download(f"{server.tls_url}/file", path)
        assert server.requests() == []
        assert not os.path.exists(f"{path}.part")


class TestCredentials:
    """Names and passwords, from wherever requests takes them."""

    def test_of_the_session(self, server, path):
        """Those of the session."""
        with requests.Session() as session:
            session.auth = ("user", "password")
            download(f"{server.url}/private/file", path, session=session, segments=4)
        assert path.read_bytes() == BODY
        assert {request.authorization for request in server.requests()} == {_BASIC}

    def test_of_netrc(self, server, path, environment):
        """Those of ~/.netrc, which are for one host."""
        (environment / ".netrc").write_text("machine 127.0.0.1 login user password password\n")
        (environment / ".netrc").chmod(0o600)
        download(f"{server.url}/private/file", path)
        assert path.read_bytes() == BODY
        with pytest.raises(BadStatus):
            download(f"{server.other_url}/private/file", f"{path}-2")

    def test_of_the_url(self, server, path):
        """Those in the URL, which are not written down anywhere."""
        url = server.url.replace("//", "//user:password@")
        begin(f"{url}/private/file", path, max_rate=8 << 20)
        kept = path.with_name("got.part.json").read_text()
        assert "password" not in kept
        assert "user" not in kept
        result = download(f"{url}/private/file", path)
        assert path.read_bytes() == BODY
        assert result.resumed_from > 0
        assert {request.authorization for request in server.requests()} == {_BASIC}

    def test_that_are_wrong(self, server, path):
        """A wrong password is said to be one, after a single try, and what was there is kept."""
        with requests.Session() as session:
            session.auth = ("user", "password")
            done = begin(f"{server.url}/private/file", path, session=session, max_rate=8 << 20)
            session.auth = ("user", "wrong")
            server.forget()
            with pytest.raises(BadStatus, match="401") as caught:
                download(f"{server.url}/private/file", path, session=session)
            assert caught.value.status == 401
            assert len(server.requests()) == 1
            session.auth = ("user", "password")
            assert download(f"{server.url}/private/file", path, session=session).resumed_from == done
        assert path.read_bytes() == BODY

    def test_are_not_shown_to_another_host(self, server, path):
        """A redirect to another host is followed without what was meant for the first: passwords and cookies."""
        with requests.Session() as session:
            session.auth = ("user", "password")
            session.cookies.set("id", "secret", domain="127.0.0.1")
            result = download(f"{server.url}/redirect/file", path, session=session)
        assert path.read_bytes() == BODY
        assert result.url == f"{server.other_url}/file"
        assert self.shown(server, "127.0.0.1") == {(_BASIC, "id=secret")}
        assert self.shown(server, "localhost") == {("", "")}

    def test_in_headers_are_not_shown_to_another_host(self, server, path):
        """Nor is what was given as a header."""
        download(f"{server.url}/redirect/file", path, headers={"Authorization": "Bearer secret", "Cookie": "id=secret"})
        assert path.read_bytes() == BODY
        assert self.shown(server, "127.0.0.1") == {("Bearer secret", "id=secret")}
        assert self.shown(server, "localhost") == {("", "")}

    def shown(self, server, host):
        """What a host was told of credentials and cookies."""
        return {
            (request.authorization, request.cookie)
            for request in server.requests()
            if request.host.startswith(f"{host}:")
        }

    def test_a_redirect_is_gone_on_with(self, server, path):
        """What came by way of a redirect is asked for in the same way again, with its range."""
        done = begin(f"{server.url}/redirect/slow/file", path)
        server.forget()
        assert download(f"{server.url}/redirect/slow/file", path).resumed_from == done
        assert path.read_bytes() == BODY
        assert asked(server)[-1] == (f"bytes={done}-", 206)


class TestBusyServer:
    """A server that takes one connection at a time, and tells others when to come again."""

    def test_another_try_when_the_server_says(self, server, path):
        """A 503 is waited for as long as its Retry-After says."""
        states = []
        with requests.get(f"{server.url}/limited/file?rate=10k", stream=True) as other:

            def progress(now):
                states.append(now.state)
                if now.state is State.WAITING:
                    other.close()

            download(f"{server.url}/limited/file", path, progress=progress, backoff=60)
        assert path.read_bytes() == BODY
        assert states.count(State.WAITING) == 1
        assert [status for _, status in asked(server)].count(503) == 1

    def test_no_further_try(self, server, path):
        """Without retries, the error says what the server has said."""
        with requests.get(f"{server.url}/limited/file?rate=10k", stream=True):
            with pytest.raises(BadStatus) as caught:
                download(f"{server.url}/limited/file", path, retries=0)
        assert (caught.value.status, caught.value.retry_after) == (503, 1)


class TestUpdates:
    """A file that is there is fetched only if the server has another."""

    @pytest.fixture
    def url(self, server, folder):
        """Of a file that is the test's own."""
        put(folder / "mine", BODY)
        return f"{server.url}/mine"

    @pytest.mark.parametrize("noted", [True, False])
    def test_unchanged(self, server, path, url, noted):
        """The same version, known by its ETag or, where the file system has lost that, by its time, costs no byte."""
        download(url, path)
        if not noted:
            copy = path.read_bytes()
            path.unlink()
            path.write_bytes(copy)
            os.utime(path, (LONG_AGO, LONG_AGO))
        server.forget()
        result = download(url, path, update=True)
        assert result.unchanged
        assert (result.size, result.path) == (SIZE, str(path))
        (request,) = server.requests()
        assert (request.status, request.bytes) == (304, 0)
        assert sorted(os.listdir(path.parent)) == ["got", "home"]

    @pytest.mark.parametrize("content", [OTHER, BODY[::-1]], ids=["another size", "the same size"])
    def test_changed(self, path, url, folder, content):
        """A newer one takes its place."""
        download(url, path)
        put(folder / "mine", content, later=10)
        assert not download(url, path, update=True).unchanged
        assert path.read_bytes() == content

    def test_older(self, path, url, folder):
        """So does an older one, if it is another: somebody has put it back."""
        put(folder / "mine", OTHER, later=10)
        download(url, path)
        put(folder / "mine", BODY)
        assert not download(url, path, update=True).unchanged
        assert path.read_bytes() == BODY


class TestFilesThatChange:
    """A file that changes on the server while it is downloaded: what comes of it is one version, whole."""

    @pytest.fixture
    def url(self, server, folder):
        """Of a file that is the test's own, at a rate that leaves time to change it."""
        put(folder / "mine", BODY)
        return f"{server.url}/slow/mine"

    def test_replaced_under_one_connection(self, path, url, folder):
        """A connection goes on with the version that it began with, which is what the file is then."""
        download(url, path, progress=at_first_bytes(lambda: put(folder / "mine", OTHER, later=10)))
        assert path.read_bytes() == BODY

    def test_replaced_under_segments(self, path, url, folder):
        """Of segments, those that come later get the new version, so all of it is fetched."""
        put(folder / "mine", BODY)
        begin(url, path, segments=4)
        put(folder / "mine", OTHER, later=10)
        result = download(url, path, segments=4)
        assert path.read_bytes() == OTHER
        assert result.resumed_from == 0

    @pytest.mark.parametrize("content", [OTHER, BODY[::-1]], ids=["another size", "the same size"])
    @pytest.mark.parametrize("segments", [1, 4])
    def test_replaced_between_two_runs(self, server, path, url, folder, content, segments):
        """What was there of the old version is not made part of the new one."""
        begin(url, path, segments=segments)
        put(folder / "mine", content, later=10)
        server.forget()
        download(url, path, segments=segments)
        assert path.read_bytes() == content
        assert 200 in {status for _, status in asked(server)}  # to the range that was asked for

    @pytest.mark.parametrize("segments", [1, 4])
    def test_a_part_without_its_beginning(self, server, path, folder, segments):
        """Nor where it is the beginning that is missing, so that the whole of the new one begins where the rest of the old would."""
        served = Served(str(folder / "apart"), SIZE, random.Random(1))
        place = Place(str(path), served)
        url = f"{server.url}/apart/file"
        half, some = SIZE // 2, SIZE // 2 + 1000
        place.leave(bytes(half) + served.content[half:some], [[0, 0, 0, half], [half, some, 0, SIZE]], url)
        assert place.look().claims == [(half, some)]
        served.change()
        download(url, path, segments=segments)
        assert path.read_bytes() == served.content

    def test_replaced_by_a_shorter_one_that_is_all_there(self, path, url, folder):
        """A new version that is shorter than what was there is fetched as well."""
        done = begin(url, path)
        put(folder / "mine", OTHER[: done // 2], later=10)
        download(url, path)
        assert path.read_bytes() == OTHER[: done // 2]

    def test_replaced_again_and_again(self, path, url, folder):
        """With segments, each change begins it anew, until the file keeps still."""
        seen = []

        def progress(now):
            if now.done and len(seen) < 3 and (not seen or now.done < seen[-1]):
                seen.append(now.done)
                put(folder / "mine", BODY[len(seen) :], later=10 * len(seen))

        download(url, path, segments=4, progress=progress)
        assert path.read_bytes() in {BODY[number:] for number in range(len(seen) + 1)}

    def test_cut_off_in_place(self, server, path, url, folder):
        """A file that is written over by a shorter one breaks the connection, and the next try gets the new one."""

        def overwrite():
            with open(folder / "mine", "r+b") as file:
                file.truncate(0)
                file.write(OTHER[:100_000])
            os.utime(folder / "mine", (LONG_AGO + 10, LONG_AGO + 10))

        download(url, path, progress=at_first_bytes(overwrite), backoff=0.01)
        assert path.read_bytes() == OTHER[:100_000]
        assert len(asked(server)) > 1

    def test_written_over_in_place(self, path, url, folder):
        """What a server itself mixes from two versions, a checksum tells; the next run gets the file."""
        longer = OTHER + BODY[:5000]

        def overwrite():
            with open(folder / "mine", "r+b") as file:
                file.write(longer)
            os.utime(folder / "mine", (LONG_AGO + 10, LONG_AGO + 10))

        checksum = f"sha256:{hashlib.sha256(longer).hexdigest()}"
        with pytest.raises(ChecksumMismatch):
            download(url, path, progress=at_first_bytes(overwrite), checksum=checksum)
        assert not path.exists()
        assert download(url, path, checksum=checksum).checksum == checksum
        assert path.read_bytes() == longer


class TestManager:
    """Many files over few connections."""

    def test_connections_are_used_again(self, server, folder, tmp_path):
        """Ten files, three at a time, take no more than three connections."""
        for number in range(10):
            put(folder / f"small{number}", BODY[number : 1000 + number])
        with DownloadManager(jobs=3) as manager:
            several = [manager.submit(f"{server.url}/small{number}", tmp_path / f"{number}") for number in range(10)]
        for number, one in enumerate(several):
            assert one.result().size == 1000
            assert (tmp_path / f"{number}").read_bytes() == BODY[number : 1000 + number]
        requests_ = server.requests()
        assert len(requests_) == 10
        assert len({request.connection for request in requests_}) <= 3


@pytest.fixture(scope="module")
def running_proxy(folder):
    """One proxy for these tests, which has nothing of its own."""
    with nginx.serving(folder), AlteredNginx(folder, PROXY) as proxy:
        yield proxy


class TestProxies:
    """A forward proxy for http."""

    @pytest.fixture
    def proxy(self, running_proxy):
        """The proxy, whose log begins with the test."""
        running_proxy.forget()
        return running_proxy

    def check(self, server, proxy, path):
        """See that all has gone through the proxy."""
        assert path.read_bytes() == BODY
        through = proxy.requests()
        assert {request.host for request in through} == {server.url.removeprefix("http://")}
        assert (
            1 < len(server.requests()) <= len(through)
        )  # fewer where one was stopped before the proxy had passed it on

    @pytest.mark.parametrize("segments", [1, 4])
    def test_of_the_session(self, server, proxy, path, segments):
        """The session's proxy is used, for ranges too."""
        with requests.Session() as session:
            session.proxies = {"http": proxy.url}
            begin(f"{server.url}/slow/file", path, session=session, segments=segments)
            download(f"{server.url}/slow/file", path, session=session, segments=segments)
        self.check(server, proxy, path)

    def test_of_the_environment(self, server, proxy, path, monkeypatch):
        """So is that of the environment."""
        monkeypatch.setenv("http_proxy", proxy.url)
        begin(f"{server.url}/slow/file", path)
        download(f"{server.url}/slow/file", path)
        self.check(server, proxy, path)

    def test_not_for_some_hosts(self, server, proxy, path, monkeypatch):
        """no_proxy is obeyed."""
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        download(f"{server.url}/file", path)
        assert path.read_bytes() == BODY
        assert proxy.requests() == []

    def test_not_from_the_environment(self, server, proxy, path, monkeypatch):
        """A session that trusts no environment takes none from there."""
        monkeypatch.setenv("http_proxy", proxy.url)
        with requests.Session() as session:
            session.trust_env = False
            download(f"{server.url}/file", path, session=session)
        assert path.read_bytes() == BODY
        assert proxy.requests() == []
