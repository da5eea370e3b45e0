"""What `docs/security.md` says is defended: each row names tests, and these are there. Those that are of nothing else live here."""

# ruff: noqa: F811 - fixtures are imported, and named again where they are asked for

from __future__ import annotations

import ast
import functools
import gzip
import json
import os
import pickle
import re
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
import requests
import trustme
import urllib3
from urllib3.util.ssl_ import create_urllib3_context

from iointerrupt import Interrupted, cli, http, use_stop
from iointerrupt._http.trust import Trust
from iointerrupt.downloads import (
    BadStatus,
    ChecksumMismatch,
    ChecksumNotFound,
    ConnectionFailed,
    DestinationExists,
    DownloadError,
    RedirectRefused,
    ShortBody,
    TimedOut,
    WriteFailed,
    WrongRange,
    download,
)
from iointerrupt.downloads._coding import Decoder
from iointerrupt.testing import StopAfter, steps
from tests.scripted import CONTENT, ETAG, SIZE, each
from tests.scripts import always
from tests.test_http import authority, tls  # noqa: F401 - fixtures

PAGE = Path(__file__).parent.parent / "docs" / "security.md"


@pytest.fixture(autouse=True)
def environment(plain_environment, tmp_path, monkeypatch):
    """A folder in which nothing is, and no proxies and bundles in the environment."""
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def server(fault_server):
    """A server that has the file under each name."""
    return fault_server(each(steps.serve(CONTENT, etag=ETAG)))


class TestThePage:
    """`docs/security.md`."""

    def test_each_row_has_tests(self):
        """Each row of the tables of what is defended names at least one test."""
        rows = [
            line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| ---")
        ]
        defended = [row for row in rows if row.count(" | ") == 2 and not row.startswith("| the attack")]
        assert len(defended) > 20
        assert [row for row in defended if "::" not in row.rpartition(" | ")[2]] == []

    def test_each_test_is_there(self):
        """Each test that it names is there."""
        named = re.findall(r"`(test_\w+\.py(?:::\w+)+)`", PAGE.read_text())
        assert len(named) > 40
        assert [name for name in named if name not in _tests_of(name.partition("::")[0])] == []
        assert len(re.findall(r"`test_", PAGE.read_text())) == len(named), "each is written as test_FILE.py::NAME"


@functools.cache
def _tests_of(file: str) -> set[str]:
    """The ids of the tests, and of the classes of tests, in a file."""
    tree = ast.parse((Path(__file__).parent / file).read_text())
    found = set()
    for each_one in tree.body:
        if isinstance(each_one, ast.FunctionDef | ast.ClassDef):
            found.add(f"{file}::{each_one.name}")
        if isinstance(each_one, ast.ClassDef):
            inner = [one for one in each_one.body if isinstance(one, ast.FunctionDef)]
            found |= {f"{file}::{each_one.name}::{one.name}" for one in inner}
    return found


# Credentials in URLs

USER = "me:s3cr3t@"


def with_user(url: str) -> str:
    """The URL with a user and a password."""
    return url.replace("://", f"://{USER}")


class TestPasswords:
    """The password of a URL is in no message."""

    @pytest.mark.parametrize(
        ("script", "kind"),
        [
            (each(steps.answer(status=404)), BadStatus),
            (each(steps.answer(status=503)), BadStatus),
            ([steps.expect(), steps.head(length=9), steps.send(b"half")], ShortBody),
            (each(steps.answer(b"x", status=206, headers={"Content-Range": "bytes 5-5/6"})), WrongRange),
            (each(steps.redirect("http://me:s3cr3t@[/")), RedirectRefused),
            (each(steps.redirect("ftp://me:s3cr3t@host/")), RedirectRefused),
            (each(steps.redirect("/x")), RedirectRefused),
            ([steps.expect(), steps.reset()], ConnectionFailed),
            ([steps.expect(), steps.stall()], TimedOut),
        ],
        ids=lambda what: getattr(what, "__name__", ""),
    )
    def test_of_the_url(self, fault_server, environment, script, kind):
        """Whatever goes wrong with the server, neither the message nor what is pickled of it has it; `.url` is as it was given."""
        url = with_user(fault_server(script).url) + "/file"
        with pytest.raises(kind) as caught:
            download(url, environment, retries=0, timeout=0.2)
        assert "s3cr3t" not in str(caught.value)
        assert "s3cr3t" not in repr(caught.value)
        assert "***@" in str(caught.value)
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
        assert caught.value.url == url

    @pytest.mark.parametrize("url", ["ftp://me:s3cr3t@host/", "http://me:s3cr3t@/", "http://me:s3cr3t@host:x/"])
    def test_of_what_is_no_url(self, environment, capsys, url):
        """Nor has what is said of a URL that cannot be downloaded, as an argument, as a mirror, or in a list."""
        for refused in (
            lambda: download(url),
            lambda: download("http://host/", mirrors=[url], checksum="md5:" + "0" * 32),
        ):
            with pytest.raises(ValueError, match=r"://\*\*\*@") as caught:
                refused()
            assert "s3cr3t" not in str(caught.value)
        (environment / "list").write_text(f"{url}\n")
        for arguments in (["-i", "list"], [url], ["--proxy", url, "http://host/"]):
            assert cli.main(["get", *arguments]) == 2
            said = capsys.readouterr().err
            assert "s3cr3t" not in said
            assert "://***@" in said

    @pytest.mark.parametrize("url", ["http://me:s3cr3t\uff0f@host/", "http://me:s3cr3t x@host/"])
    def test_of_what_is_no_url_for_a_reason(self, capsys, url):
        """Nor has the reason for which it is none, where that quotes it."""
        assert cli.main(["get", url]) == 2
        assert "s3cr3t" not in capsys.readouterr().err

    def test_of_checksums(self, server, environment):
        """Nor has that of a wrong file, or of a list that has nothing of it."""
        url = with_user(server.url) + "/file"
        with pytest.raises(ChecksumMismatch) as mismatch:
            download(url, environment, checksum="md5:" + "0" * 32)
        with pytest.raises(ChecksumNotFound) as missing:
            download(url, environment, checksum=with_user(server.url) + "/SHA256SUMS")
        for caught in (mismatch, missing):
            assert "s3cr3t" not in str(caught.value)
            assert "***@" in str(caught.value)

    def test_of_a_part_of_another_url(self, fault_server, environment):
        """Nor has that of a part which is another URL's, and neither has the record that says so."""
        server = fault_server(
            [steps.expect(), steps.head(length=SIZE, headers={"ETag": ETAG}), steps.send(CONTENT[:100])]
        )
        with pytest.raises(DownloadError):
            download(with_user(server.url) + "/a/file", environment, retries=0)
        assert "s3cr3t" not in (environment / "file.part.json").read_text()
        with pytest.raises(DownloadError, match="is a part of") as caught:
            download(f"{server.url}/b/file", environment, retries=0)
        assert "s3cr3t" not in str(caught.value)

    @pytest.mark.parametrize("option", ["--json", "--quiet", None], ids=str)
    def test_of_the_command_line(self, fault_server, environment, capsys, option):
        """The command line shows it neither of what fails, nor of what is done or tried again, nor as JSON."""
        answers = {"/a": [steps.serve(CONTENT, etag=ETAG)], "/b": [steps.answer(status=404)]}
        server = fault_server([steps.expect(), steps.reset()], [steps.repeat(steps.route(answers))])
        (environment / "list").write_text("".join(f"{with_user(server.url)}/{name}\n" for name in ("a", "b", "a")))
        assert cli.main(["get", *([option] if option else []), "-j1", "-i", "list"]) == 1
        shown = capsys.readouterr()
        assert "s3cr3t" not in shown.out + shown.err
        assert "://***@127.0.0.1" in shown.err
        if option == "--json":
            urls = {event.get("url") for event in map(json.loads, shown.out.splitlines())}
            assert urls == {None, *(f"{server.url.replace('://', '://***@')}/{name}" for name in "ab")}

    def test_of_the_command_that_goes_on(self, fault_server):
        """A log does not get it with the command that goes on after a stop, whether it is the file's, a mirror's or a proxy's."""
        server = fault_server(
            [steps.expect(), steps.head(length=SIZE), steps.send(CONTENT[:100]), steps.mark("half"), steps.stall()]
        )
        proxy, mirror = with_user(server.url), "http://s3cr3t@host/x"
        command = [
            sys.executable,
            "-m",
            "iointerrupt",
            "get",
            "--proxy",
            proxy,
            f"--mirror={mirror}",
            "http://a:s3cr3t@host.test/x",
        ]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            server.wait_for("half")
            process.terminate()
            said = process.communicate(timeout=50)[1]
        assert "s3cr3t" not in said
        assert "--mirror=http://***@host/x" in said


# The terminal


class TestTerminal:
    """What names and servers say to a terminal."""

    @pytest.mark.parametrize(
        ("name", "shown"),
        [("invoice\u202efdp.exe", "invoice\\u202efdp.exe"), ("a\u2066b\x9b2J\u200b", "a\\u2066b\\x9b2J\\u200b")],
    )
    def test_a_name(self, server, environment, capsys, name, shown):
        """A name, which the user may have from anywhere, is shown with what turns and hides in it told by its number."""
        assert cli.main(["get", "-o", name, f"{server.url}/file"]) == 0
        assert (environment / name).read_bytes() == CONTENT
        assert capsys.readouterr().out.startswith(f"{shown}  ")

    def test_what_a_server_says(self, fault_server, environment, capsys):
        """What is quoted of an answer is shown so as well."""
        server = fault_server(each(steps.redirect("gopher://x/%E2%80%AE\x9b2J")))
        assert cli.main(["get", f"{server.url}/file"]) == 1
        said = capsys.readouterr().err
        assert said.removesuffix("\n").isprintable()
        with pytest.raises(RedirectRefused):
            download(f"{server.url}/file", environment)

    @pytest.mark.parametrize("name", ["x\u202e", "\u2066/x", "a/\u202e/x"])
    def test_what_is_refused_of_a_list(self, environment, capsys, name):
        """So is what is refused of a list, before anything is fetched."""
        (environment / "\u2066").touch()
        (environment / "a").touch()
        (environment / "list").write_text(f"http://host/x {name}\nftp://me:s3cr3t@host/ x\n")
        assert cli.main(["get", "-i", "list"]) == 2
        assert not set(capsys.readouterr().err) & set("\u202e\u2066")


# TLS


class TestTLS:
    """Whom downloads trust."""

    def test_not_trusted(self, fault_server, environment):
        """A certificate of nobody knows whom is refused by default, and not tried again."""
        server = fault_server(each(steps.serve(CONTENT)), tls=True)
        with pytest.raises(ConnectionFailed, match=r"(?i)certificate"):
            download(f"{server.url}/file", environment)
        assert list(environment.iterdir()) == []
        assert server.requests == []

    @pytest.mark.parametrize("quick", [True, False])
    def test_another_name(self, fault_server, environment, quick):
        """Neither is that of another host, though it is signed by whom one trusts."""
        authority = trustme.CA()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("other.test").configure_cert(context)
        authority.cert_pem.write_to_path(str(environment.parent / "ca.pem"))
        server = fault_server(each(steps.serve(CONTENT)), tls=context)
        with http.Session() as session:
            session.verify = str(environment.parent / "ca.pem")
            if not quick:  # by way of requests
                session.hooks["response"].append(lambda *_, **__: None)
            with pytest.raises(ConnectionFailed):
                download(f"{server.url}/file", environment, session=session)
        assert server.requests == []

    @pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_bundle_of_the_environment(self, fault_server, environment, monkeypatch, tmp_path, name):
        """The bundle that the environment names is the one that is trusted, and no other; nobody's if the environment is not."""
        server = fault_server(each(steps.serve(CONTENT)), tls=True)
        monkeypatch.setenv(name, str(server.ca_file))
        download(f"{server.url}/file", environment)
        with http.Session() as session:
            session.trust_env = False
            with pytest.raises(ConnectionFailed):
                download(f"{server.url}/other", environment, session=session)
        trustme.CA().cert_pem.write_to_path(str(tmp_path / "other.pem"))
        monkeypatch.setenv(name, str(tmp_path / "other.pem"))
        with pytest.raises(ConnectionFailed):
            download(f"{server.url}/other", environment)
        assert [each.name for each in environment.iterdir()] == ["file"]

    @pytest.mark.parametrize("quick", [True, False])
    def test_unverified_for_one_session(self, fault_server, environment, quick):
        """Who has said verify=False has said it for one session and as long as it is so: no connection of then is used again."""
        server = fault_server(each(steps.serve(CONTENT)), tls=True)
        with http.Session() as session, http.Session() as other:
            if not quick:
                session.hooks["response"].append(lambda *_, **__: None)
            session.verify = False
            with pytest.warns(urllib3.exceptions.InsecureRequestWarning):
                download(f"{server.url}/file", environment, session=session)
            with pytest.raises(ConnectionFailed):
                download(f"{server.url}/other", environment, session=other)
            session.verify = True
            with pytest.raises(ConnectionFailed):
                download(f"{server.url}/other", environment, session=session)
        assert len(server.requests) == 1

    @pytest.mark.parametrize("sent", [b"", b"half"], ids=["in the head", "in the body"])
    def test_cut_off(self, fault_server, environment, authority, tls, sent):
        """Who cuts a connection in the head, or in a body of no length, makes no short file of it: TLS has not said that it ends."""
        head = steps.send(b"HTTP/1.1 200 OK\r\n" + (b"X: y\r\n\r\n" if sent else b"X"))
        server = fault_server([steps.expect(), head, steps.send(sent), steps.close(notify=False)], tls=tls)
        with http.Session() as session:
            session.verify = authority[1]
            with pytest.raises(ShortBody if sent else ConnectionFailed):
                download(f"{server.url}/file", environment, session=session, retries=0)
        assert not (environment / "file").exists()

    def test_as_strict_as_urllib3(self):
        """A context is as strict as the one that urllib3 makes: protocols, ciphers, options, whom and what it verifies."""
        ours, theirs = Trust().context(), create_urllib3_context()
        for name in (
            "options",
            "minimum_version",
            "maximum_version",
            "verify_mode",
            "check_hostname",
            "verify_flags",
            "security_level",
        ):
            assert getattr(ours, name) == getattr(theirs, name), name
        assert ours.get_ciphers() == theirs.get_ciphers()
        assert ours.verify_mode == ssl.CERT_REQUIRED
        assert ours.check_hostname
        assert ours.minimum_version >= ssl.TLSVersion.TLSv1_2

    def test_a_context_of_the_users(self, authority, tls, fault_server):
        """One that the user has made strict stays so: what changes is the class of its sockets."""
        context = ssl.create_default_context(cafile=authority[1])
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_ciphers("ECDHE+AESGCM")
        before = (
            context.options,
            context.verify_mode,
            context.check_hostname,
            context.verify_flags,
            context.get_ciphers(),
        )
        server = fault_server(always(), tls=tls)
        with http.Session(ssl_context=context) as session:
            assert session.get(server.url).content == b"hello"
        assert (
            context.options,
            context.verify_mode,
            context.check_hostname,
            context.verify_flags,
            context.get_ciphers(),
        ) == before
        assert context.minimum_version == ssl.TLSVersion.TLSv1_3


# What is in the folder


class TestFolder:
    """Who else can write into the folder."""

    @pytest.mark.parametrize("suffix", [".part.json", ".part.json.new"])
    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["a pipe", "a folder"])
    def test_no_record(self, server, environment, suffix, make):
        """What is no file, in the place of the record, hangs nothing: it is removed, or is a WriteFailed."""
        make(environment / f"file{suffix}")
        try:
            download(f"{server.url}/file", environment)
        except WriteFailed:
            assert not (environment / "file").exists()
        else:
            assert (environment / "file").read_bytes() == CONTENT

    def test_a_link_in_the_last_moment(self, fault_server, environment):
        """A link that appears in the file's place while it is fetched is refused, and never written through."""
        outside = environment.parent / "outside"
        outside.write_bytes(b"outside")

        def link(connection):
            os.symlink(outside, environment / "file")
            steps.serve(CONTENT, etag=ETAG).run(connection)

        server = fault_server(each(link))
        with pytest.raises(DestinationExists):
            download(f"{server.url}/file", environment)
        assert outside.read_bytes() == b"outside"
        (environment / "file").unlink()
        download(f"{server.url}/file", environment / "file", overwrite=True)
        assert outside.read_bytes() == b"outside"
        assert not (environment / "file").is_symlink()


# Bodies


class TestBodies:
    """What a server packs."""

    def test_a_bomb_of_nothing(self):
        """A body that is packed twice, and unpacks to hundreds of thousands of empty members, is ended by a stop while it does."""
        packed = iter([gzip.compress(gzip.compress(b"") * 100_000)])
        inner = Decoder(lambda: next(packed, b""), "gzip")
        with use_stop(StopAfter(100)), pytest.raises(Interrupted):
            Decoder(inner.read, "gzip").read()


class TestArguments:
    """Headers and URLs of the user's."""

    @pytest.mark.parametrize(
        "header", ["X: a\r\nInjected: 1", "X: a\nInjected: 1", "X\r\nInjected: 1", "X : a", "X: a\0b"]
    )
    def test_headers_of_the_command_line(self, server, environment, capsys, header):
        """A header with a line break in it is refused, and nothing is sent."""
        assert cli.main(["get", "-H", header, f"{server.url}/file"]) == 2
        assert "is no header" in capsys.readouterr().err
        assert server.connections == 0

    @pytest.mark.parametrize(
        "header", [("X", "a\r\nInjected: 1"), ("X\r\nInjected", "1"), ("X", "a\0"), ("X:", "a"), ("", "a")]
    )
    def test_headers(self, server, environment, header):
        """So it is in `headers=`."""
        with pytest.raises(ValueError, match="is no header"):
            download(f"{server.url}/file", environment, headers=dict([header]))
        assert server.connections == 0

    def test_headers_of_a_session(self, server, environment):
        """One that a session has is refused by requests, and nothing is sent."""
        with http.Session() as session:
            session.headers["X"] = "a\r\nInjected: 1"
            with pytest.raises(DownloadError):
                download(f"{server.url}/file", environment, session=session, retries=0)
            with pytest.raises(requests.exceptions.InvalidHeader):
                session.get(server.url)
        assert server.requests == []
