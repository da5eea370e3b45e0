"""Clients of the standard library, requests, httpx, boto3 and paramiko, each stuck with a server that says no more."""

from __future__ import annotations

import ftplib
import functools
import http.client
import imaplib
import poplib
import smtplib
import threading
import urllib.request
import xmlrpc.client
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from benchmarks.libraries_cases import Attempts, Case, Stuck, against
from iointerrupt.testing import FaultServer, steps
from tests.libraries import LARGE, TAKES_A_LITTLE
from tests.scripts import STALL, STALL_IN_BODY
from tests.stalled import FTP_LOGIN, IMAP_LOGIN, POP_LOGIN, SMTP_DATA, SMTP_GREETED, dialogue, ftp_transfer

Call = Callable[[], object]


@contextmanager
def _urlopen(server: FaultServer) -> Iterator[Call]:
    yield lambda: urllib.request.urlopen(server.url)


@contextmanager
def _urlopen_body(server: FaultServer) -> Iterator[Call]:
    with urllib.request.urlopen(server.url) as response:
        yield response.read


@contextmanager
def _getresponse(server: FaultServer) -> Iterator[Call]:
    with closing(http.client.HTTPConnection(*server.address)) as connection:
        connection.request("GET", "/")
        yield connection.getresponse


@contextmanager
def _upload(server: FaultServer) -> Iterator[Call]:
    with closing(http.client.HTTPConnection(*server.address)) as connection:
        yield lambda: connection.request("PUT", "/", LARGE)


@contextmanager
def _https(server: FaultServer) -> Iterator[Call]:
    with closing(http.client.HTTPSConnection(*server.address, context=server.client_context())) as connection:
        connection.request("GET", "/")
        yield connection.getresponse


@contextmanager
def _xmlrpc(server: FaultServer) -> Iterator[Call]:
    with xmlrpc.client.ServerProxy(server.url) as proxy:
        yield proxy.work


@contextmanager
def _requests(server: FaultServer) -> Iterator[Call]:
    import requests

    with requests.Session() as session:
        session.trust_env = False
        yield lambda: session.get(server.url)


@contextmanager
def _httpx(server: FaultServer) -> Iterator[Call]:
    import httpx

    with httpx.Client(timeout=None, trust_env=False, verify=False) as client:
        yield lambda: client.get(server.url)


@contextmanager
def _boto3(server: FaultServer) -> Iterator[Call]:
    from tests.libraries import s3

    with closing(s3(server.url)) as client:
        yield lambda: client.get_object(Bucket="bucket", Key="key")


@contextmanager
def _ftp_answer(server: FaultServer) -> Iterator[Call]:
    with closing(ftplib.FTP()) as ftp:
        ftp.connect(*server.address)
        yield ftp.login


@contextmanager
def _ftp_transfer() -> Iterator[Attempts]:
    with FaultServer([steps.send(b"half"), steps.stall()]) as data:
        script = dialogue(*ftp_transfer("RETR", data.port), then=[steps.stall()])
        with FaultServer(script) as server:

            @contextmanager
            def attempt() -> Iterator[Stuck]:
                with closing(ftplib.FTP()) as ftp:
                    ftp.connect(*server.address)
                    ftp.login()
                    received = threading.Event()
                    retrieve = functools.partial(ftp.retrbinary, "RETR file", lambda _: received.set())
                    yield Stuck(retrieve, functools.partial(received.wait, 10))

            yield attempt


@contextmanager
def _smtp_answer(server: FaultServer) -> Iterator[Call]:
    with closing(smtplib.SMTP(*server.address, local_hostname="client")) as smtp:
        yield smtp.ehlo


@contextmanager
def _smtp_data(server: FaultServer) -> Iterator[Call]:
    with closing(smtplib.SMTP(*server.address, local_hostname="client")) as smtp:
        smtp.ehlo()
        yield lambda: smtp.sendmail("from@example.org", "to@example.org", LARGE[:4_000_000])  # it looks for dots


@contextmanager
def _imap(server: FaultServer) -> Iterator[Call]:
    imap = imaplib.IMAP4(*server.address)
    try:
        imap.login("user", "password")
        yield imap.select
    finally:
        imap.shutdown()


@contextmanager
def _pop(server: FaultServer) -> Iterator[Call]:
    with closing(poplib.POP3(*server.address)) as pop:
        pop.user("user")
        pop.pass_("password")
        yield pop.list


@contextmanager
def _paramiko() -> Iterator[Attempts]:
    import paramiko

    from tests import sshd

    with sshd.serving() as server, paramiko.SSHClient() as client:
        client.load_host_keys(server.known_hosts)
        options = {"key_filename": server.key_file, "look_for_keys": False, "allow_agent": False}
        client.connect(*server.address, username=server.user, **options)
        transport = client.get_transport()

        @contextmanager
        def attempt() -> Iterator[Stuck]:
            stdin, stdout, _ = client.exec_command("cat")  # which would end with the last reference to its input
            with stdin, closing(stdout.channel):
                yield Stuck(lambda: stdout.channel.recv(1), lambda: None)

        yield attempt
        transport.close()
        transport.join()


def cases() -> list[Case]:
    """All of them."""
    closed = "closed by it"
    upload: Any = [steps.expect(read_body=False), steps.stall()]
    return [
        Case("urllib.request", "`urlopen`, headers", closed, against(STALL, _urlopen)),
        Case("urllib.request", "`response.read()`", "close it", against(STALL_IN_BODY, _urlopen_body)),
        Case("http.client", "`getresponse()`", "goes on: call it again", against(STALL, _getresponse)),
        Case("http.client", "`request`, upload", "close it", against(upload, _upload)),
        Case("http.client, TLS", "`getresponse()`", "goes on: call it again", against(STALL, _https, tls=True)),
        Case("xmlrpc.client", "a call", "closed by it; the proxy goes on", against(STALL, _xmlrpc)),
        Case("requests", "`get`", "closed by it; the session goes on", against(STALL, _requests)),
        Case("httpx", "`get`", "closed by it; the client goes on", against(STALL, _httpx)),
        Case("boto3", "`get_object`", "closed by it; the client goes on", against(STALL, _boto3)),
        Case("ftplib", "an answer", "goes on: `getresp()`", against(dialogue(*FTP_LOGIN[:2]), _ftp_answer)),
        Case("ftplib", "a transfer", "closed by it; the other one goes on", _ftp_transfer),
        Case("smtplib", "an answer", "goes on: `getreply()`", against(dialogue(*SMTP_GREETED[:2]), _smtp_answer)),
        Case("smtplib", "the message", "close it", against(dialogue(*SMTP_DATA, then=TAKES_A_LITTLE), _smtp_data)),
        Case("imaplib", "an answer", "goes on: `readline()`", against(dialogue(*IMAP_LOGIN, "< {tag} SELECT"), _imap)),
        Case("poplib", "an answer", "goes on", against(dialogue(*POP_LOGIN, "< LIST"), _pop)),
        Case("paramiko", "`channel.recv`", "goes on", _paramiko),
    ]
