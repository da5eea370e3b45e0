"""What becomes of a file that changes on the server between two runs of a download, by ours and by other tools.

Each is killed when it has half of one version, and run again when the server has another of the same size. What it leaves
is the new version, or two halves that have never belonged together.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from benchmarks.downloads_peers import Table, environment, get, is_missing
from benchmarks.measure import Row
from iointerrupt.testing import FaultServer, steps

_SIZE = 4 << 20

# Seconds that a tool has to write what it has got.
_PATIENCE = 10.0

_TOOLS = {
    "iointerrupt get": get("-o", "file"),
    "curl -C -": ["curl", "-q", "-sS", "-C", "-", "-o", "file"],
    "wget -c": ["wget", "--no-config", "-q", "-c", "-O", "file"],
    "wget2 -c": ["wget2", "--no-config", "-q", "-c", "-O", "file"],
    "aria2c -c": ["aria2c", "--no-conf", "-q", "-c", "-x1", "--file-allocation=none", "-o", "file"],
}


def changed() -> Table:
    """A line for each tool: its exit code, and what it has made."""
    table = Table("A file that changes on the server between two runs", ["", "exit code", "the file"])
    for name, command in _TOOLS.items():
        if command[0] != sys.executable and is_missing(command[0]):
            table.missing(name)
            continue
        code, made = _try(command)
        table.lines.append([name, str(code), made])
        is_ours = command[0] == sys.executable
        met = not is_ours or (code == 0 and made == _NEW)
        table.rows.append(Row(f"changed between two runs: {name}", code, "", _NEW if is_ours else "-", met, made))
    return table


_NEW, _MIXED = "the new version", "**half of each version**"


def _try(command: list[str]) -> tuple[int, str]:
    old, new = os.urandom(_SIZE), os.urandom(_SIZE)
    half = [
        steps.expect(),
        steps.head(length=_SIZE, headers={"ETag": '"1"', "Last-Modified": _OLD_DATE, "Accept-Ranges": "bytes"}),
        steps.send(old[: _SIZE // 2]),
        steps.stall(),
    ]
    whole = [steps.repeat(steps.expect(), steps.serve(new, etag='"2"', last_modified=_NEW_DATE))]
    with tempfile.TemporaryDirectory() as folder, FaultServer(half, whole) as server:
        run = [*command, f"{server.url}/file"]
        first = subprocess.Popen(
            run, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait_for_half(folder)
        finally:
            first.kill()
            first.wait()
        done = subprocess.run(run, cwd=folder, env=environment(), capture_output=True, timeout=60, check=False)
        return done.returncode, _look(os.path.join(folder, "file"), old, new)


_OLD_DATE, _NEW_DATE = "Wed, 21 Oct 2015 07:28:00 GMT", "Thu, 22 Oct 2015 07:28:00 GMT"


def _wait_for_half(folder: str) -> None:
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        with os.scandir(folder) as entries:
            if any(entry.stat().st_size >= _SIZE // 4 for entry in entries):
                return
        time.sleep(0.01)


def _look(path: str, old: bytes, new: bytes) -> str:
    if not os.path.exists(path):
        return "none"
    with open(path, "rb") as file:
        content = file.read()
    if content == new:
        return _NEW
    if content[:1024] == old[:1024] and content[-1024:] == new[-1024:]:
        return _MIXED
    return f"{len(content):,} bytes of the old version" if content == old[: len(content)] else "something else"
