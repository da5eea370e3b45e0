"""Servers that stay in the foreground, run by a program that lives as long as the tests do: see `tests.serving`.

Such a server has a temporary folder, in which is a unix socket; that is how it is known to be ready. It ends with the program
that has started it, also where that is killed. Which command starts it is for `tests.redis_server` and `tests.mariadb` to say.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import trustme

from tests.serving import say_ready

# Seconds for each step. Each takes a fraction of one; a machine may be busy.
_LIMIT = 60

# How often a server may say that it cannot be: somebody else may have taken a port between its choice and its use.
_ATTEMPTS = 5

_PR_SET_PDEATHSIG = 1


def serve(kind: str, ports: int, command: Callable[[str, list[int]], list[str]]) -> None:
    """Run a server until the end of stdin; say its process, its folder and its ports when it is ready.

    The folder has the files `ca.pem` and `certificate.pem`, of an authority and a server with the name localhost.

    Args:
        kind: what the name of the folder begins with.
        ports: how many ports of the loopback it takes.
        command: what starts it, of the folder and the ports. Its unix socket has to be the file `socket` in that folder.

    Raises:
        RuntimeError: it could not be started; the message has what it said.
    """
    # In /tmp whatever TMPDIR says: the path of a unix socket has room for 107 bytes.
    folder = tempfile.mkdtemp(prefix=f"{kind}-", dir="/tmp")
    try:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(os.path.join(folder, "ca.pem"))
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(os.path.join(folder, "certificate.pem"))
        for left in reversed(range(_ATTEMPTS)):
            numbers = _free_ports(ports)
            with _running(command(folder, numbers), folder) as process:
                if _is_ready(process, os.path.join(folder, "socket")):
                    say_ready(process.pid, folder, *numbers)
                    sys.stdin.read()
                    return
            if not left:
                raise RuntimeError(_said(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [sock.getsockname()[1] for sock in sockets]


@contextlib.contextmanager
def _running(command: list[str], folder: str) -> Iterator[subprocess.Popen[bytes]]:
    parent = os.getpid()

    def end_with_parent() -> None:  # between fork and exec: there is one thread here
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    with open(os.path.join(folder, "output"), "ab") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            preexec_fn=end_with_parent,  # noqa: PLW1509 - see there
        )
    try:
        yield process
    finally:
        process.kill()  # nothing of it is wanted any more
        process.wait()


def _is_ready(process: subprocess.Popen[bytes], path: str) -> bool:
    """Whether the server takes connections, once it does; False if it has ended instead."""
    deadline = time.monotonic() + _LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket(socket.AF_UNIX) as sock:
            try:
                sock.connect(path)
                return True
            except OSError:
                time.sleep(0.005)
    return False


def _said(folder: str) -> str:
    with open(os.path.join(folder, "output"), encoding="utf-8", errors="replace") as lines:
        return lines.read()
