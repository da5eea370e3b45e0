"""The clean ways of docs/libraries.md: each of its recipes, as it stands there, stuck and stopped without any patching.

The page's code is what is run. Recipes for servers with a protocol of their own are stopped in their first wait for an answer,
which is the same socket as in all later ones; those with several connections, or with none, in each.
"""

from __future__ import annotations

import functools
import re
import socket
import ssl
import xmlrpc.client
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import httpx
import paramiko
import pytest

from iointerrupt import Interrupted, StopEvent, monkey, sockets
from iointerrupt.testing import steps
from tests import sshd
from tests.libraries import LARGE, s3, stop_with_server
from tests.scripts import STALL, STALL_IN_BODY, always
from tests.stalled import FTP_LOGIN, dialogue, ftp_transfer

PAGE = Path(__file__).parent.parent / "docs" / "libraries.md"

#: By the heading under which it stands.
RECIPES = {
    section.partition("\n")[0]: code[0]
    for section in re.split("^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    if (code := re.findall(r"```python\n(.*?)```", section.partition("\n## ")[0], re.DOTALL))
}

pytestmark = pytest.mark.stops_within(2)


def recipe(heading):
    """What the recipe under a heading defines."""
    namespace = {}
    exec(compile(RECIPES[heading], f"{PAGE.name}, {heading}", "exec"), namespace)
    return SimpleNamespace(**namespace)


@pytest.fixture(autouse=True)
def _not_patched():
    """The tests run in a program that nobody has patched."""
    assert not monkey.is_patched()


@pytest.fixture
def stop_in(background, stop):
    """Call it with a server and a function: it runs until it is stuck with the server, and is stopped; returns what it raised."""
    return functools.partial(stop_with_server, background, stop)


class TestHttp:
    """What is built on `http.client`, httpx and boto3."""

    def test_ssl(self, fault_server, stop_in):
        """A context makes sockets whose handshake stops."""
        context = recipe("ssl").context
        assert context.sslsocket_class is sockets.SSLSocket
        server = fault_server([steps.stall_handshake()], tls=True)
        with sockets.create_connection(server.address) as sock:
            error = stop_in(
                server, lambda: context.wrap_socket(sock, server_hostname="localhost"), at="stall_handshake"
            )
        assert isinstance(error, Interrupted)

    def test_http_client(self, fault_server, stop_in):
        """A connection stops, and connects anew."""
        server = fault_server(STALL, always())
        with closing(recipe("http.client").Connection(*server.address)) as connection:
            connection.request("GET", "/")
            assert isinstance(stop_in(server, connection.getresponse), Interrupted)
            connection.close()
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"hello"

    def test_http_client_with_tls(self, fault_server, stop_in):
        """One with TLS stops in the handshake, and in what comes after that."""
        server = fault_server([steps.stall_handshake(), *always()], STALL, tls=True)
        context = server.client_context()
        context.sslsocket_class = sockets.SSLSocket
        with closing(recipe("http.client").SecureConnection(*server.address, context=context)) as connection:
            assert isinstance(stop_in(server, connection.connect, at="stall_handshake"), Interrupted)

    def test_urllib(self, fault_server, stop_in):
        """An opener stops in the headers and in the body."""
        server = fault_server(STALL_IN_BODY)
        with recipe("urllib.request").opener.open(server.url) as response:
            server.wait_for("stall")
            error = stop_in(server, response.read)
        assert isinstance(error, Interrupted)
        assert error.partial == b"half"

    def test_xmlrpc(self, fault_server, stop_in):
        """A proxy stops, and its next call makes another connection."""
        answer = xmlrpc.client.dumps((42,), methodresponse=True).encode()
        server = fault_server(STALL, always(answer, headers={"Content-Type": "text/xml"}))
        with xmlrpc.client.ServerProxy(server.url, recipe("xmlrpc.client").Transport()) as proxy:
            assert isinstance(stop_in(server, proxy.work), Interrupted)
            assert proxy.work() == 42

    @pytest.mark.parametrize("script", [STALL, STALL_IN_BODY], ids=["headers", "body"])
    def test_httpx(self, fault_server, stop_in, script):
        """A client stops, has closed the connection, and works on; an error of the network is httpx's."""
        server = fault_server(script, always())
        with recipe("httpx").make_client(ssl.create_default_context()) as client:
            assert isinstance(stop_in(server, client.get, server.url), Interrupted)
            assert client._transport._pool.connections == []
            assert client.get(server.url).content == b"hello"
            assert server.connections == 2
            with socket.socket() as free, pytest.raises(httpx.ConnectError):
                free.bind(("127.0.0.1", 0))  # and does not listen
                client.get("http://{}:{}".format(*free.getsockname()))

    @pytest.mark.parametrize("mode", ["legacy", "standard"])
    def test_boto3(self, fault_server, stop_in, mode):
        """A client stops with `Interrupted` itself, does not retry, and works on."""
        stored = [steps.expect("PUT", body=b"content"), steps.answer(b"", headers={"ETag": '"v1"'})]
        server = fault_server(STALL, [*stored, *always()])
        made = recipe("boto3")
        with made.session, closing(made.with_stops(s3(server.url, mode))) as client:
            assert isinstance(stop_in(server, lambda: client.get_object(Bucket="bucket", Key="key")), Interrupted)
            assert server.connections == 1
            assert client.put_object(Bucket="bucket", Key="key", Body=b"content")["ETag"] == '"v1"'
            assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == b"hello"


class TestMailAndFiles:
    """`ftplib`, `smtplib`, `imaplib` and `poplib`."""

    def test_ftplib(self, fault_server, stop_in):
        """The connection for commands."""
        server = fault_server(dialogue(*FTP_LOGIN[:2]))
        with closing(recipe("ftplib").FTP()) as ftp:
            ftp.connect(*server.address)
            assert isinstance(stop_in(server, ftp.login), Interrupted)

    def test_ftplib_transfer(self, fault_server, stop_in):
        """The one for a transfer."""
        data = fault_server([steps.send(b"half"), steps.stall()])
        server = fault_server(dialogue(*ftp_transfer("RETR", data.port)))
        with closing(recipe("ftplib").FTP()) as ftp:
            ftp.connect(*server.address)
            ftp.login()
            ftp.voidcmd("TYPE I")
            with ftp.transfercmd("RETR file") as connection:
                assert connection.recv(4) == b"half"
                assert isinstance(stop_in(data, connection.recv, 4), Interrupted)

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of a constructor that fails
    @pytest.mark.parametrize(("heading", "name"), [("smtplib", "SMTP"), ("imaplib", "IMAP4"), ("poplib", "POP3")])
    def test_mail(self, fault_server, stop_in, heading, name):
        """The greeting that does not come."""
        server = fault_server([steps.stall()])
        assert isinstance(stop_in(server, getattr(recipe(heading), name), *server.address), Interrupted)


class TestDatabases:
    """redis-py, PyMySQL and pg8000: that their connections are ours; what becomes of them is tested with real servers."""

    def test_redis(self, fault_server, stop_in):
        """A client, which has closed its connection."""
        server = fault_server([steps.stall()])
        with closing(recipe("redis-py").make_client(*server.address)) as client:
            assert isinstance(stop_in(server, client.ping), Interrupted)
            assert server.connections == 1

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of a file over a socket, which nobody closes
    def test_pymysql(self, fault_server, stop_in):
        """The greeting that does not come."""
        server = fault_server([steps.stall()])
        assert isinstance(stop_in(server, recipe("PyMySQL").connect, *server.address), Interrupted)

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # of a constructor that fails
    def test_pg8000(self, fault_server, stop_in):
        """The answer to the login that does not come."""
        server = fault_server([steps.stall()])
        connect = recipe("pg8000").connect
        assert isinstance(stop_in(server, lambda: connect(*server.address, user="user")), Interrupted)


class TestOthers:
    """paramiko and `logging`."""

    def test_paramiko(self, background, stop):
        """A read of a channel, which goes on, and loses nothing."""
        with sshd.serving() as server, paramiko.SSHClient() as client:
            client.load_host_keys(server.known_hosts)
            options = {"key_filename": server.key_file, "look_for_keys": False, "allow_agent": False}
            client.connect(*server.address, username=server.user, **options)
            transport = client.get_transport()
            stdin, stdout, _ = client.exec_command("cat")
            recv = recipe("paramiko").recv
            running = background(recv, stdout.channel, 100, stop)
            stop.set("enough")
            assert isinstance(running.error(), Interrupted)
            stdin.write("late\n")
            stdin.flush()
            assert recv(stdout.channel, 100, StopEvent()) == b"late\n"
            stdout.channel.close()
        transport.join(10)

    def test_logging(self, fault_server, stop_in):
        """The handler's socket, which is what a record is sent on."""
        server = fault_server([steps.stall()])
        with recipe("logging.handlers").SocketHandler(*server.address).makeSocket(None) as sock:
            assert isinstance(stop_in(server, sock.sendall, LARGE), Interrupted)
