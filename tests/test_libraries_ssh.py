"""paramiko, which nobody has changed, against a real OpenSSH server in a patched program: stuck in each of its waits, and stopped.

A connection of paramiko is read by a thread of its own, which has no stop. Who calls waits for that thread in events and
conditions, so that a stop ends the call and leaves the connection as it is; except for a call that has a socket to itself: the
connect, and the read of an answer of SFTP that has come in part.
"""

from __future__ import annotations

import functools
import os
import select
import signal
import threading
from contextlib import closing

import paramiko
import pytest

from iointerrupt import Interrupted, StopEvent
from iointerrupt.testing import steps, wait_until_blocked
from tests import sshd
from tests.libraries import interruption, stop_when_stuck, under
from tests.patched import patched

pytestmark = pytest.mark.stops_within(2)


@pytest.fixture(scope="module")
def server():
    """A server for all of the tests here."""
    with sshd.serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _patched():
    """The tests run patched, after paramiko has been imported."""
    with patched():
        yield


@pytest.fixture
def stop_in(background, stop):
    """Call it with a function: it runs until it is stuck, and is stopped; returns what it raised."""
    return functools.partial(stop_when_stuck, background, stop, lambda: None)


def connect(client, server, **options):
    """Log in."""
    client.load_host_keys(server.known_hosts)
    client.connect(
        *server.address,
        username=server.user,
        key_filename=server.key_file,
        look_for_keys=False,
        allow_agent=False,
        **options,
    )


@pytest.fixture
def client(server):
    """A client that has logged in."""
    with paramiko.SSHClient() as client:
        connect(client, server)
        yield client
        client.get_transport().close()
        client.get_transport().join(10)


def says(client, text):
    """Whether the connection works: a command on it says what it is to say."""
    _, stdout, _ = client.exec_command(f"echo {text}")
    with closing(stdout.channel):
        return stdout.read().decode().strip() == text


class TestConnecting:
    """Before there is a connection."""

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # it is closed with its last reference
    def test_connect(self, fault_server, background, stop):
        """A server that lets nobody connect."""
        server = fault_server([steps.stall_connect()])
        with paramiko.SSHClient() as client:
            error = stop_when_stuck(
                background, stop, lambda: server.wait_for("stall_connect"), client.connect, *server.address
            )
        assert isinstance(error, Interrupted)

    @pytest.mark.parametrize(
        "script",
        # What paramiko says of itself is sent first, and its keys once it has heard the server.
        [[steps.read(4), steps.stall()], [steps.send(b"SSH-2.0-OpenSSH_9.2\r\n"), steps.read(100), steps.stall()]],
        ids=["banner", "keys"],
    )
    def test_handshake(self, fault_server, background, stop, script):
        """One that does not say who it is, or no more than that; paramiko's thread is there until the client is closed."""
        server = fault_server(script)
        with paramiko.SSHClient() as client:
            error = stop_when_stuck(background, stop, lambda: server.wait_for("stall"), client.connect, *server.address)
            assert isinstance(error, Interrupted)
            transport = client.get_transport()
            assert transport.is_alive()
            if timer := transport.packetizer._Packetizer__timer:
                timer.cancel()  # it outlives a connection that is closed, by seconds
        transport.join(10)
        assert not transport.is_alive()

    def test_stop_that_is_set(self, server, stop):
        """A stop that is set already: no connection is made."""
        stop.set("before")
        with paramiko.SSHClient() as client:
            with pytest.raises(Interrupted):
                under(stop, connect, client, server)
            assert client.get_transport() is None

    def test_login(self, server, background, stop, monkeypatch):
        """An answer to the login that does not come; a login after that, on another connection, succeeds."""
        asked, answer = threading.Event(), threading.Event()

        def hold(handler, message):
            asked.set()
            answer.wait(20)

        with paramiko.SSHClient() as client:
            with monkeypatch.context() as patch:
                patch.setattr(paramiko.auth_handler.AuthHandler, "_parse_service_accept", hold)
                error = stop_when_stuck(background, stop, lambda: asked.wait(10), connect, client, server)
                assert isinstance(error, Interrupted)
                assert not client.get_transport().is_authenticated()
                transport = client.get_transport()
                answer.set()
            connect(client, server)
            assert says(client, "hello")
            transport.close()
            transport.join(10)
            last = client.get_transport()
        last.join(10)


class TestCommands:
    """`exec_command` and channels."""

    def test_read(self, client, stop_in):
        """A command that says nothing: the channel goes on, and no byte is lost."""
        stdin, stdout, _ = client.exec_command("cat")
        assert isinstance(stop_in(stdout.channel.recv, 100), Interrupted)
        stdin.write("late\n")
        stdin.flush()
        assert stdout.channel.recv(100) == b"late\n"
        stdin.channel.close()
        assert says(client, "hello")

    def test_line(self, client, background, stop):
        """A file over a channel, in the middle of a line: what had come of that is lost. The channel itself loses nothing."""
        stdin, stdout, _ = client.exec_command("printf half; cat")
        select.select([stdout.channel], [], [], 10)
        error = stop_when_stuck(background, stop, lambda: None, stdout.readline)
        assert isinstance(error, Interrupted)
        stdin.write("a line\n")
        stdin.flush()
        assert stdout.readline() == "a line\n"
        stdin.channel.close()
        assert says(client, "hello")

    def test_exit_status(self, client, stop_in):
        """Waiting for the end of a command, which goes on."""
        stdin, stdout, _ = client.exec_command("cat; exit 3")
        assert isinstance(stop_in(stdout.channel.recv_exit_status), Interrupted)
        stdin.channel.shutdown_write()
        assert stdout.channel.recv_exit_status() == 3

    def test_send(self, client, background, stop):
        """More than the other side takes: some of it has been sent."""
        stdin, _, _ = client.exec_command("sleep 600")
        error = stop_when_stuck(background, stop, lambda: None, stdin.channel.sendall, bytes(4_000_000))
        assert isinstance(error, Interrupted)
        stdin.channel.close()
        assert says(client, "hello")

    def test_many_on_one_connection(self, client, background, stop):
        """Three threads wait on one connection, each with a stop of its own: one is stopped, and the others go on."""
        other = StopEvent()
        sessions = [client.exec_command("cat") for _ in range(3)]
        stopped = background(under, stop, sessions[0][1].channel.recv, 100)
        going_on = [background(under, other, stdout.channel.recv, 100) for _, stdout, _ in sessions[1:]]
        wait_until_blocked(stop)
        wait_until_blocked(other, 2)
        stop.set("enough")
        assert isinstance(stopped.error(), Interrupted)
        for stdin, _, _ in sessions:
            stdin.write("hello\n")
            stdin.flush()
        assert [one.result() for one in going_on] == [b"hello\n", b"hello\n"]


class TestSftp:
    """Transfers of files."""

    @pytest.mark.filterwarnings(
        "ignore::pytest.PytestUnhandledThreadExceptionWarning"
    )  # paramiko's own, as its file is closed
    @pytest.mark.parametrize("prefetch", [True, False])
    def test_get(self, client, tmp_path, background, stop, prefetch):
        """In the middle of a file the server goes silent; the connection is as good as before, and gets the file afterwards.

        An answer that was read in part makes nonsense of what is read in closing the file, and that may be what is raised.
        The thread that asks for all of the file in advance is through with that: where the file is closed while it is not,
        stopped or by any other error, paramiko may send its last question on a channel that is closed, and the server hangs up.
        """
        (tmp_path / "file").write_bytes(content := os.urandom(4_000_000))
        _, stdout, _ = client.exec_command("echo $PPID")
        pid = int(stdout.read())  # of the server's end of this connection
        silent = threading.Event()

        def go_silent(done, total):
            os.kill(pid, signal.SIGSTOP)
            silent.set()

        def stuck():
            silent.wait(10)
            for thread in threading.enumerate():
                if "_prefetch_thread" in thread.name:
                    thread.join(10)

        try:
            with client.open_sftp() as sftp:
                get = functools.partial(
                    sftp.get, str(tmp_path / "file"), str(tmp_path / "copy"), go_silent, prefetch=prefetch
                )
                error = stop_when_stuck(background, stop, stuck, get)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert interruption(error) is not None
        assert 0 < (tmp_path / "copy").stat().st_size < len(content)
        with client.open_sftp() as sftp:
            sftp.get(str(tmp_path / "file"), str(tmp_path / "copy"))
        assert (tmp_path / "copy").read_bytes() == content

    def test_stuck(self, client, tmp_path, stop_in):
        """A file of which nothing comes: a FIFO."""
        os.mkfifo(tmp_path / "fifo")
        with client.open_sftp() as sftp:
            assert isinstance(stop_in(sftp.open, str(tmp_path / "fifo")), Interrupted)
            with open(tmp_path / "fifo", "wb"):  # lets the server go on
                pass
        assert says(client, "hello")
