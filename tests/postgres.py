"""A PostgreSQL server of the tests' own: a temporary folder, a unix socket in it, and no port.

`Postgres` runs this file as a program, which makes the database, starts the server and waits for the end of its stdin.
That comes when the tests are through with it, and also when they are killed: either way the server ends and its folder
goes. The server refuses to run as root, so root's tests run it as another user.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from types import TracebackType
from typing import Any, Self

from tests.serving import Program, say_ready

_PROGRAMS = ("initdb", "pg_ctl", "postgres")

# Seconds for each step. Each takes a fraction of one; a machine may be busy.
_LIMIT = 60

_OPTIONS = {
    "listen_addresses": "''",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "max_prepared_transactions": "2",
}


def binaries() -> str | None:
    """The folder of the newest server's programs: the one on the PATH, or Debian's; None where there is none."""
    on_path = shutil.which("initdb")
    debian = glob.glob("/usr/lib/postgresql/*/bin")
    debian.sort(
        key=lambda folder: [int(part) for part in folder.split("/")[4].split(".") if part.isdigit()], reverse=True
    )
    for folder in ([os.path.dirname(on_path)] if on_path else []) + debian:
        if all(os.access(os.path.join(folder, program), os.X_OK) for program in _PROGRAMS):
            return folder
    return None


def why_not() -> str | None:
    """Why there can be no server here."""
    return None if binaries() else "there is no PostgreSQL server (Debian: postgresql)"


class Postgres:
    """A running server, as a context manager.

    Attributes:
        folder: where it has its socket, which is the `host` to connect to.
        pid: its main process.
        dsn: what to connect with.
    """

    folder: str
    pid: int
    dsn: str

    def __enter__(self) -> Self:
        self._program = Program("tests.postgres")
        number, self.folder = self._program.__enter__().words
        self.pid = int(number)
        self.dsn = f"host={self.folder} port=5432 user=tests dbname=postgres"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._program.__exit__(kind, value, trace)


def _user() -> dict[str, Any]:
    """What `subprocess` needs to know to start the server's programs as a user that may run them."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("root cannot run PostgreSQL, and there is no user postgres or nobody")


def _serve() -> None:
    """Run a server until the end of stdin."""
    programs = binaries()
    if programs is None:
        raise RuntimeError(why_not())
    user = _user()
    # In /tmp whatever TMPDIR says: the path of a unix socket has room for 107 bytes, and that other user has to get there.
    folder = tempfile.mkdtemp(prefix="postgres-", dir="/tmp")
    data = os.path.join(folder, "data")
    log = os.path.join(folder, "log")
    # Nothing that says where another server is, or how to talk to it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}

    def run(program: str, *args: str) -> None:
        subprocess.run(
            [os.path.join(programs, program), "--pgdata", data, *args],
            cwd=folder,
            env=environment | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=_LIMIT,
            check=True,
            **user,
        )

    try:
        if user:
            os.chown(folder, user["user"], user["group"])
        run("initdb", "--username=tests", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync")
        options = " ".join(f"-c {name}={value}" for name, value in _OPTIONS.items())
        try:
            run("pg_ctl", "start", "--wait", f"--timeout={_LIMIT}", f"--log={log}", f"--options=-k {folder} {options}")
        except subprocess.SubprocessError:
            with contextlib.suppress(FileNotFoundError), open(log, encoding="utf-8", errors="replace") as lines:
                sys.stdout.write(lines.read())
            raise
        say_ready(_pid(data), folder)
        sys.stdin.read()
    finally:
        try:
            run("pg_ctl", "stop", "--wait", f"--timeout={_LIMIT // 6}", "--mode=immediate")
        except (OSError, subprocess.SubprocessError):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it is not there any more, or never was
                os.kill(_pid(data), signal.SIGKILL)  # its children notice
        shutil.rmtree(folder, ignore_errors=True)


def _pid(data: str) -> int:
    with open(os.path.join(data, "postmaster.pid"), encoding="utf-8") as lines:
        return int(lines.readline())


if __name__ == "__main__":
    _serve()
