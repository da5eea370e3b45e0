"""A real OpenSSH server of the tests' own: a temporary folder with its keys, and a free port of the loopback.

`serving` runs this file as a program, which makes the keys, listens, and starts an `sshd -i` for each connection, as inetd does:
so no other process can take the port between its choice and its use. The program lives until the end of its stdin, which comes
when the tests are through with it, and also when they are killed: either way it ends what it has started, and its folder goes.

The server asks for no more rights than whoever runs the tests has: it lets in that one user, with the one key that was made. What
the user's shell would do as it starts is none of the tests' business: they find the temporary folder as their HOME, and nothing in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import NamedTuple

from tests.serving import Program, require, say_ready

# Seconds for each step. Each takes a fraction of one; a machine may be busy.
_LIMIT = 60

# Where sshd, started by root, confines what speaks to strangers. Its path is compiled in; Debian makes it as the service starts.
_EMPTY = "/run/sshd"

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

_CONFIGURATION = """\
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
AllowUsers {user}
LogLevel ERROR
SetEnv HOME={folder}
Subsystem sftp internal-sftp
"""


def binary() -> str | None:
    """The path of sshd: the one on the PATH, or Debian's, which is not on everybody's; None where there is none."""
    return shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


def why_not() -> str | None:
    """Why there can be no server here."""
    if binary() is None or shutil.which("ssh-keygen") is None:
        return "there is no OpenSSH server (Debian: openssh-server)"
    return None


@contextlib.contextmanager
def serving() -> Iterator[Sshd]:
    """An `Sshd` for tests, which are skipped or fail where there can be none."""
    require(why_not())
    with Program("tests.sshd") as program:
        port, user, folder = program.words
        files = (os.path.join(folder, name) for name in ("key", "known_hosts"))
        yield Sshd(("127.0.0.1", int(port)), user, *files)


class Sshd(NamedTuple):
    """A running server.

    Attributes:
        address: host and port.
        user: the name to log in with.
        key_file: the path of the private key to log in with.
        known_hosts: the path of a file that has the server's own key.
    """

    address: tuple[str, int]
    user: str
    key_file: str
    known_hosts: str


def _serve() -> None:
    """Start a server for each connection, until the end of stdin."""
    program = binary()
    if program is None:
        raise RuntimeError(why_not())
    # What a session leaves running becomes a child of this program, and ends with it.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    folder = tempfile.mkdtemp(prefix="sshd-")
    try:
        with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
            port = listener.getsockname()[1]
            user = pwd.getpwuid(os.geteuid()).pw_name
            _write_files(folder, user, port)
            command = [program, "-i", "-e", "-f", os.path.join(folder, "sshd_config")]
            say_ready(port, user, folder)
            with open(os.path.join(folder, "log"), "ab") as log:
                _accept(listener, command, log.fileno())
    finally:
        _end_children()
        shutil.rmtree(folder, ignore_errors=True)


def _write_files(folder: str, user: str, port: int) -> None:
    if os.geteuid() == 0:
        os.makedirs(_EMPTY, mode=0o755, exist_ok=True)
    for name in ("host_key", "key"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", os.path.join(folder, name)]
        subprocess.run(command, stdin=subprocess.DEVNULL, timeout=_LIMIT, check=True)
    shutil.copyfile(os.path.join(folder, "key.pub"), os.path.join(folder, "authorized_keys"))
    with open(os.path.join(folder, "host_key.pub"), encoding="ascii") as key:
        host_key = key.read()
    with open(os.path.join(folder, "known_hosts"), "w", encoding="ascii") as hosts:
        hosts.write(f"[127.0.0.1]:{port} {host_key}")
    with open(os.path.join(folder, "sshd_config"), "w", encoding="utf-8") as configuration:
        configuration.write(_CONFIGURATION.format(folder=folder, user=user))


def _accept(listener: socket.socket, command: list[str], log: int) -> None:
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN)
    while True:
        ready = [number for number, _ in poll.poll()]
        if sys.stdin.fileno() in ready:  # its end: nothing is ever written there
            return
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        connection, _ = listener.accept()
        with connection:
            _start(command, connection.fileno(), log)


def _start(command: list[str], connection: int, log: int) -> None:
    if os.fork() == 0:  # there is one thread here, so what comes between this and the exec is safe
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        os.dup2(connection, 0)
        os.dup2(connection, 1)
        os.dup2(log, 2)
        os.execv(command[0], command)


def _end_children() -> None:
    """End the servers, and what their sessions have left running, which then becomes a child of this process."""
    while children := _children():
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children", encoding="ascii") as children:
        return [int(pid) for pid in children.read().split()]


if __name__ == "__main__":
    _serve()
