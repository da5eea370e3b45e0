"""A Redis server of the tests' own: a temporary folder, a unix socket in it, and ports of the loopback with and without TLS.

`serving` runs this file as a program, which starts the server and waits for the end of its stdin. Nothing is ever saved.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import NamedTuple

from tests.foreground import serve
from tests.serving import Program, require


def binary() -> str | None:
    """The path of the server's program; None where there is none."""
    return shutil.which("redis-server")


def why_not() -> str | None:
    """Why there can be no server here."""
    return None if binary() else "there is no Redis server (Debian: redis-server)"


class Redis(NamedTuple):
    """A running server.

    Attributes:
        pid: its process.
        port: of 127.0.0.1.
        tls_port: of localhost, for TLS with the certificate that `ca_file` vouches for.
        path: of its unix socket.
        ca_file: the path of an authority's certificate.
    """

    pid: int
    port: int
    tls_port: int
    path: str
    ca_file: str


@contextlib.contextmanager
def running() -> Iterator[Redis]:
    """A server."""
    with Program("tests.redis_server") as program:
        pid, folder, port, tls_port = program.words
        yield Redis(int(pid), int(port), int(tls_port), os.path.join(folder, "socket"), os.path.join(folder, "ca.pem"))


@contextlib.contextmanager
def serving() -> Iterator[Redis]:
    """A server for tests, which are skipped or fail where there can be none."""
    require(why_not())
    with running() as server:
        yield server


def _command(folder: str, ports: list[int]) -> list[str]:
    program = binary()
    if program is None:
        raise RuntimeError(why_not())
    certificate = os.path.join(folder, "certificate.pem")
    options = {
        "bind": "127.0.0.1",
        "port": str(ports[0]),
        "tls-port": str(ports[1]),
        "tls-cert-file": certificate,
        "tls-key-file": certificate,
        "tls-ca-cert-file": os.path.join(folder, "ca.pem"),
        "tls-auth-clients": "no",
        "unixsocket": os.path.join(folder, "socket"),
        "save": "",
        "appendonly": "no",
    }
    return [program, *(word for name, value in options.items() for word in (f"--{name}", value))]


if __name__ == "__main__":
    serve("redis", 2, _command)
