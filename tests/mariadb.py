"""A MariaDB server of the tests' own: a temporary folder, a unix socket in it, and a port of the loopback, with and without TLS.

`serving` runs this file as a program, which starts the server on an empty folder and waits for the end of its stdin. Without
tables of users and rights, which would take seconds to make, the server lets in everybody.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from typing import NamedTuple

from tests.foreground import serve
from tests.serving import Program, require

_OPTIONS = (
    "--bind-address=127.0.0.1",
    "--skip-grant-tables",
    "--skip-name-resolve",
    "--innodb-buffer-pool-size=8M",
    "--innodb-log-file-size=4M",
    "--innodb-flush-log-at-trx-commit=0",
)


def binary() -> str | None:
    """The path of the server's program: the one on the PATH, or Debian's, which is not on everybody's; None without one."""
    return shutil.which("mariadbd") or shutil.which("mariadbd", path="/usr/sbin:/usr/local/sbin")


def why_not() -> str | None:
    """Why there can be no server here."""
    return None if binary() else "there is no MariaDB server (Debian: mariadb-server)"


class MariaDB(NamedTuple):
    """A running server.

    Attributes:
        pid: its process.
        port: of 127.0.0.1.
        path: of its unix socket.
        ca_file: the path of the certificate of the authority that the server's, for localhost, is from.
    """

    pid: int
    port: int
    path: str
    ca_file: str


@contextlib.contextmanager
def running() -> Iterator[MariaDB]:
    """A server, which has a database `tests`."""
    with Program("tests.mariadb") as program:
        pid, folder, port = program.words
        yield MariaDB(int(pid), int(port), os.path.join(folder, "socket"), os.path.join(folder, "ca.pem"))


@contextlib.contextmanager
def serving() -> Iterator[MariaDB]:
    """A server for tests, which are skipped or fail where there can be none."""
    require(why_not())
    with running() as server:
        yield server


def _command(folder: str, ports: list[int]) -> list[str]:
    program = binary()
    if program is None:
        raise RuntimeError(why_not())
    data = os.path.join(folder, "data")
    os.makedirs(os.path.join(data, "tests"), exist_ok=True)  # which is all that a database is
    certificate = os.path.join(folder, "certificate.pem")
    return [
        program,
        "--no-defaults",  # first
        *_OPTIONS,
        *(["--user=root"] if os.geteuid() == 0 else []),
        f"--datadir={data}",
        f"--tmpdir={folder}",
        f"--port={ports[0]}",
        f"--socket={os.path.join(folder, 'socket')}",
        f"--pid-file={os.path.join(folder, 'pid')}",
        f"--ssl-ca={os.path.join(folder, 'ca.pem')}",
        f"--ssl-cert={certificate}",
        f"--ssl-key={certificate}",
    ]


if __name__ == "__main__":
    serve("mariadb", 1, _command)
