"""Libraries that nobody has changed, stuck in a patched program and stopped: the standard library's clients, requests, httpx, boto3.

Each is really blocked, and what it is good for afterwards is looked at: whether the exception comes through, whether the library
tries again, and whether its connection, session or pool goes on.
"""

from __future__ import annotations

import ftplib
import functools
import http.client
import imaplib
import logging
import logging.handlers
import multiprocessing
import multiprocessing.connection
import poplib
import smtplib
import socket
import socketserver
import subprocess
import sys
import threading
import urllib.request
import xmlrpc.client
from contextlib import closing

import httpx
import pytest
import requests

from iointerrupt import Interrupted, StopEvent
from iointerrupt.testing import steps, wait_until_blocked
from tests.libraries import LARGE, TAKES_A_LITTLE, interruption, s3, stop_when_stuck, stop_with_server, under
from tests.patched import patched
from tests.stalled import (
    FTP_LOGIN,
    IMAP_LOGIN,
    IMAP_SELECTED,
    POP_LOGIN,
    SMTP_DATA,
    SMTP_GREETED,
    dialogue,
    ftp_transfer,
)

#: What the standard library and urllib3 do not close when a constructor or a connect fails with anything but an OSError is closed
#: with its last reference, but that is warned of.
closed_late = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")

pytestmark = pytest.mark.stops_within(2)


@pytest.fixture
def lookup(monkeypatch):
    """The system's `getaddrinfo` hangs, until the second of these events is set; the first tells that it does."""
    asked, answer = threading.Event(), threading.Event()

    def hang(*args, **kwargs):
        asked.set()
        answer.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    return asked, answer


@pytest.fixture(autouse=True)
def _patched(request):
    """The tests run patched, after the libraries have been imported."""
    if "lookup" in request.fixturenames:
        request.getfixturevalue("lookup")  # before: it is the original
    with patched():
        yield


@pytest.fixture
def stop_in(background, stop):
    """Call it with a server and a function: it runs until it is stuck with the server, and is stopped; returns what it raised."""
    return functools.partial(stop_with_server, background, stop)


# What all of them have in common: a lookup, a connection, and a first answer


def with_urllib(host, port):
    """By urllib.request."""
    urllib.request.urlopen(f"http://{host}:{port}/").close()


def with_http_client(host, port):
    """By http.client."""
    with closing(http.client.HTTPConnection(host, port)) as connection:
        connection.request("GET", "/")
        connection.getresponse()


def with_ftplib(host, port):
    """By ftplib."""
    with closing(ftplib.FTP()) as ftp:
        ftp.connect(host, port)


def with_smtplib(host, port):
    """By smtplib."""
    with closing(smtplib.SMTP()) as smtp:
        smtp.connect(host, port)


def with_imaplib(host, port):
    """By imaplib, which cleans up by itself."""
    imaplib.IMAP4(host, port)


def with_poplib(host, port):
    """By poplib."""
    poplib.POP3(host, port)


def with_xmlrpc(host, port):
    """By xmlrpc.client."""
    with xmlrpc.client.ServerProxy(f"http://{host}:{port}/") as proxy:
        proxy.work()


def with_requests(host, port):
    """By requests, with a plain session."""
    with requests.Session() as session:
        session.trust_env = False
        session.get(f"http://{host}:{port}/")


def with_httpx(host, port):
    """By httpx's client, without any timeout."""
    with httpx.Client(timeout=None, trust_env=False) as client:
        client.get(f"http://{host}:{port}/")


def with_httpx_timeouts(host, port):
    """By httpx's client, with its timeouts."""
    with httpx.Client(timeout=600, trust_env=False) as client:
        client.get(f"http://{host}:{port}/")


def with_boto3(host, port):
    """By boto3."""
    with closing(s3(f"http://{host}:{port}")) as client:
        client.list_buckets()


CLIENTS = {
    function.__name__.removeprefix("with_"): function
    for function in (
        with_urllib,
        with_http_client,
        with_ftplib,
        with_smtplib,
        with_imaplib,
        with_poplib,
        with_xmlrpc,
        with_requests,
        with_httpx,
        with_httpx_timeouts,
        with_boto3,
    )
}


@closed_late
@pytest.mark.parametrize("client", CLIENTS)
def test_first_answer(fault_server, stop_in, client):
    """A server that takes the connection and says nothing: the stop comes out, and nobody tries again; boto3 makes an error of its own of it."""
    server = fault_server([steps.stall()])
    error = stop_in(server, CLIENTS[client], *server.address)
    assert interruption(error).reason == "enough"
    assert isinstance(error, Interrupted) == (client != "boto3")
    assert server.connections == 1


@closed_late
@pytest.mark.parametrize("client", CLIENTS)
def test_connect(fault_server, stop_in, client):
    """A server that lets nobody connect."""
    server = fault_server([steps.stall_connect()])
    assert interruption(stop_in(server, CLIENTS[client], *server.address, at="stall_connect")) is not None


@pytest.mark.parametrize("client", CLIENTS)
def test_lookup(background, stop, lookup, client):
    """A name that is looked up for ever: the lookup is left behind."""
    asked, answer = lookup
    error = stop_when_stuck(background, stop, lambda: asked.wait(10), CLIENTS[client], "slow.test", 80)
    answer.set()
    assert interruption(error) is not None


def tls_urllib(server):
    """By urllib.request."""
    urllib.request.urlopen(server.url, context=server.client_context())


def tls_http_client(server):
    """By http.client."""
    with closing(http.client.HTTPSConnection(*server.address, context=server.client_context())) as connection:
        connection.request("GET", "/")


def tls_smtplib(server):
    """By smtplib."""
    smtplib.SMTP_SSL(*server.address, context=server.client_context())


def tls_imaplib(server):
    """By imaplib."""
    imaplib.IMAP4_SSL(*server.address, ssl_context=server.client_context())


def tls_poplib(server):
    """By poplib."""
    poplib.POP3_SSL(*server.address, context=server.client_context())


def tls_requests(server):
    """By requests, whose TLS context is urllib3's."""
    with requests.Session() as session:
        session.trust_env = False
        session.get(server.url, verify=server.ca_file)


def tls_httpx(server):
    """By httpx."""
    with httpx.Client(timeout=None, trust_env=False, verify=server.client_context()) as client:
        client.get(server.url)


TLS_CLIENTS = {
    function.__name__.removeprefix("tls_"): function
    for function in (tls_urllib, tls_http_client, tls_smtplib, tls_imaplib, tls_poplib, tls_requests, tls_httpx)
}


@closed_late
@pytest.mark.parametrize("client", TLS_CLIENTS)
def test_handshake(fault_server, stop_in, client):
    """A server that stops in the middle of the handshake."""
    server = fault_server([steps.stall_handshake()], tls=True)
    assert isinstance(stop_in(server, TLS_CLIENTS[client], server, at="stall_handshake"), Interrupted)
    assert server.connections == 1


class TestFtp:
    """`ftplib`: two connections, one for commands and one for each transfer."""

    @pytest.fixture
    def connect(self):
        """Call it with a server for a client; it is closed after the test."""
        with closing(ftplib.FTP()) as ftp:

            def connect(server):
                ftp.connect(*server.address)
                return ftp

            yield connect

    def test_login(self, fault_server, stop_in, connect):
        """Waiting for an answer; the connection goes on where it was, and the answer that was due is read."""
        server = fault_server(
            dialogue(*FTP_LOGIN[:2], then=[steps.stall(), *dialogue("> 331 and?", "< NOOP", "> 200")])
        )
        ftp = connect(server)
        assert isinstance(stop_in(server, ftp.login), Interrupted)
        server.resume()
        assert ftp.getresp() == "331 and?"
        assert ftp.voidcmd("NOOP") == "200"

    def test_download(self, fault_server, background, stop, connect):
        """In a transfer: its connection is closed, and the other one has the server's answer to that yet to be read."""
        data = fault_server([steps.send(b"half"), steps.stall()])
        rest = [steps.stall(), *dialogue("> 426 broken off", "< NOOP", "> 200 still here")]
        server = fault_server(dialogue(*ftp_transfer("RETR", data.port), then=rest))
        ftp = connect(server)
        ftp.login()
        received = threading.Event()
        error = stop_when_stuck(
            background, stop, lambda: received.wait(10), ftp.retrbinary, "RETR file", lambda half: received.set()
        )
        assert isinstance(error, Interrupted)
        assert received.is_set()
        server.wait_for("stall")
        server.resume()
        with pytest.raises(ftplib.error_temp, match="broken off"):
            ftp.voidresp()
        assert ftp.voidcmd("NOOP") == "200 still here"

    def test_upload(self, fault_server, stop_in, connect, tmp_path):
        """A file that the server does not take."""
        (tmp_path / "file").write_bytes(LARGE)
        data = fault_server(TAKES_A_LITTLE)
        server = fault_server(dialogue(*ftp_transfer("STOR", data.port)))
        ftp = connect(server)
        ftp.login()
        with open(tmp_path / "file", "rb") as file:
            assert isinstance(stop_in(data, ftp.storbinary, "STOR file", file), Interrupted)


class TestMail:
    """`smtplib`, `imaplib` and `poplib`."""

    def test_smtp_command(self, fault_server, stop_in):
        """Waiting for an answer to a command: it can still be read, and the connection goes on."""
        rest = [steps.stall(), *dialogue("> 250 hello", "< NOOP", "> 250 ok")]
        server = fault_server(dialogue(*SMTP_GREETED[:2], then=rest))
        with closing(smtplib.SMTP(*server.address, local_hostname="client")) as smtp:
            assert isinstance(stop_in(server, smtp.ehlo), Interrupted)
            server.resume()
            assert smtp.getreply() == (250, b"hello")
            assert smtp.noop() == (250, b"ok")

    def test_smtp_data(self, fault_server, stop_in):
        """In a message: it has no end, so that the server does not take it; the connection is good for nothing but closing."""
        server = fault_server(dialogue(*SMTP_DATA, then=TAKES_A_LITTLE))
        with closing(smtplib.SMTP(*server.address, local_hostname="client")) as smtp:
            error = stop_in(server, smtp.sendmail, "a@site.test", ["b@site.test"], LARGE)
        assert isinstance(error, Interrupted)
        assert 0 < error.transferred < len(LARGE)

    def test_smtp_block(self, fault_server, stop_in):
        """A `with` sends no QUIT into a message when the stop is still set, and closes."""

        def send():
            with smtplib.SMTP(*server.address, local_hostname="client") as smtp:
                kept.append(smtp)
                smtp.sendmail("a@site.test", ["b@site.test"], LARGE)

        kept = []
        server = fault_server(dialogue(*SMTP_DATA, then=TAKES_A_LITTLE))
        assert isinstance(stop_in(server, send), Interrupted)
        assert kept[0].sock is None

    def test_imap_login(self, fault_server, stop_in):
        """Waiting for an answer to a command."""
        server = fault_server(dialogue(*IMAP_LOGIN[:-1]))
        imap = imaplib.IMAP4(*server.address)
        assert isinstance(stop_in(server, imap.login, "user", "password"), Interrupted)
        imap.shutdown()

    def test_imap_fetch(self, fault_server, stop_in):
        """In a message: what had come of it is in the exception, or from Python 3.14 on in `imap`, which has its own buffer."""
        rest = [*dialogue("< {tag} FETCH", "> * 1 FETCH (BODY[] {1000}", then=[]), steps.send(b"half"), steps.stall()]
        server = fault_server(dialogue(*IMAP_SELECTED, then=rest))
        imap = imaplib.IMAP4(*server.address)
        imap.login("user", "password")
        imap.select()
        error = stop_in(server, imap.fetch, "1", "(BODY[])", sock=imap.sock)
        assert isinstance(error, Interrupted)
        assert error.partial == (b"half" if sys.version_info < (3, 14) else None)
        imap.shutdown()

    def test_imap_idle(self, fault_server, stop_in):
        """Waiting for news: nothing of them is lost, and the connection goes on."""
        rest = [steps.stall(), *dialogue("> * 2 EXISTS", "< DONE", "> tag OK", "< {tag} NOOP", "> {tag} OK done")]
        server = fault_server(dialogue(*IMAP_SELECTED, "< tag IDLE", "> + idling", then=rest))
        imap = imaplib.IMAP4(*server.address)
        imap.login("user", "password")
        imap.select()
        imap.send(b"tag IDLE\r\n")
        assert imap.readline() == b"+ idling\r\n"
        assert isinstance(stop_in(server, imap.readline), Interrupted)
        server.resume()
        assert imap.readline() == b"* 2 EXISTS\r\n"
        imap.send(b"DONE\r\n")
        assert imap.readline() == b"tag OK\r\n"
        assert imap.noop()[0] == "OK"
        imap.shutdown()

    def test_pop_message(self, fault_server, stop_in):
        """In a message, between two lines: the next line is the next one."""
        rest = [steps.stall(), *dialogue("> second", "> .", "< NOOP", "> +OK")]
        server = fault_server(dialogue(*POP_LOGIN, "< RETR 1", "> +OK", "> first", then=rest))
        with closing(poplib.POP3(*server.address)) as pop:
            pop.user("user")
            pop.pass_("password")
            assert isinstance(stop_in(server, pop.retr, 1, sock=pop.sock), Interrupted)
            server.resume()
            assert pop._getline()[0] == b"second"
            assert pop._getline()[0] == b"."
            assert pop.noop() == b"+OK"


class TestServers:
    """`socketserver`."""

    def test_serve_forever(self, background, stop):
        """It ends; what it has started is another thread, with no stop; and it can serve again."""
        answered = threading.Event()

        class Handler(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(self.rfile.readline())

        with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
            serving = background(under, stop, server.serve_forever, 600)
            wait_until_blocked(stop)
            stop.set("enough")
            assert isinstance(serving.error(), Interrupted)
            again = background(under, other := StopEvent(), server.serve_forever, 600)
            with socket.create_connection(server.server_address) as client:
                client.sendall(b"hello\n")
                assert client.recv(10) == b"hello\n"
                answered.set()
            wait_until_blocked(other)
            other.set()
            assert isinstance(again.error(), Interrupted)


class TestPipes:
    """Processes: what is waited for by select stops, what is a read in C does not."""

    def test_poll_of_a_connection(self, stop, background):
        """`multiprocessing`'s `poll` and `wait` stop, and the message that comes later is there."""
        near, far = multiprocessing.Pipe()
        with near, far:
            error = stop_when_stuck(background, stop, lambda: None, near.poll, None)
            assert isinstance(error, Interrupted)
            far.send("late")
            assert near.recv() == "late"

    def test_wait_for_connections(self, stop, background):
        """One of several."""
        near, far = multiprocessing.Pipe()
        with near, far:
            error = stop_when_stuck(background, stop, lambda: None, multiprocessing.connection.wait, [near, far])
            assert isinstance(error, Interrupted)

    def test_listener(self, stop, background, tmp_path):
        """`accept` of a `multiprocessing.connection.Listener`; which then serves the next client."""
        with multiprocessing.connection.Listener(str(tmp_path / "socket")) as listener:
            assert isinstance(stop_when_stuck(background, stop, lambda: None, listener.accept), Interrupted)
            accepting = background(listener.accept)
            with multiprocessing.connection.Client(listener.address) as client, accepting.result() as connection:
                client.send("hello")
                assert connection.recv() == "hello"

    def test_communicate(self, stop, background):
        """`communicate` stops; the process is untouched, and its output complete."""
        program = "import sys; sys.stdout.write('first'); sys.stdout.flush(); sys.stdout.write(sys.stdin.read())"
        with subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            stdin, process.stdin = process.stdin, None  # open, and not communicate's
            assert isinstance(stop_when_stuck(background, stop, lambda: None, process.communicate), Interrupted)
            stdin.write(b" second")
            stdin.close()
            assert process.communicate() == (b"first second", b"")


class TestLogging:
    """`logging.handlers`, which by design lets no exception out."""

    def test_socket_handler(self, fault_server, stop, background, monkeypatch):
        """A stop ends the record that cannot be sent, but is reported as an error of the handler; the next wait stops as well."""
        failed = []
        server = fault_server(TAKES_A_LITTLE)
        handler = logging.handlers.SocketHandler(*server.address)
        monkeypatch.setattr(handler, "handleError", lambda record: failed.append(sys.exc_info()[1]))
        record = logging.makeLogRecord({"msg": "x" * len(LARGE)})
        with closing(handler):
            running = background(under, stop, handler.emit, record)
            server.wait_for("stall")
            wait_until_blocked(stop)
            stop.set("enough")
            running.result()
        assert isinstance(failed.pop(), Interrupted)
