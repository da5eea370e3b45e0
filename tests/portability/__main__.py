"""Runs the tests on Linux as if it were another system: without what that lacks, so that what stands in its place is tested.

    python -m tests.portability [WHAT ...] [-- PYTEST'S ARGUMENTS]

WHAT is a run below, or any parts of `lacking/sitecustomize.py`, joined by commas, under which all of the tests below are run. By
default these are all runs, one after the other. The exit status is 0 only if every test of every run passes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.portability.absent import NEEDS
from tests.portability.lacking.sitecustomize import PARTS, SYSTEMS

ROOT = Path(__file__).parents[2]
LACKING = Path(__file__).with_name("lacking")

_BASE = ("wait", "stop", "instants", "threads", "endings")
_SOCKETS = ("sockets", "sockets_functions", "tls")
_HTTP = ("http", "http_body", "http_lean", "http_splice")
_FILES = ("files", "files_wrap", "copy", "cli_copy")
_DOWNLOADS = ("downloads_part", "downloads_segments", "downloads_stops", "downloads_places")

#: What is taken away, and the files of tests that run without it.
RUNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "macos": ("macos", (*_BASE, *_SOCKETS, *_HTTP, *_FILES, *_DOWNLOADS, "run", "signals")),
    "poll": ("poll", (*_BASE, *_SOCKETS, *_FILES, "http", "run")),
    # The files of tests that Windows could not even import.
    "sockets of windows": ("dontwait,blocking,recvmsg,sendfile,errqueue", ("sockets", "monkey")),
    "windows": (
        "windows",
        (*_BASE, "sockets_functions", "tls", "http", "http_lean", "downloads_segments", "downloads_stops"),
    ),
}


def main(arguments: list[str]) -> int:
    """Run it; returns the exit status."""
    wanted, rest = arguments, []
    if "--" in arguments:
        at = arguments.index("--")
        wanted, rest = arguments[:at], arguments[at + 1 :]
    everything = tuple(dict.fromkeys(name for _, names in RUNS.values() for name in names))
    failed = []
    for name in wanted or RUNS:
        parts, files = RUNS.get(name, (name, everything))
        if unknown := set(parts.split(",")) - PARTS.keys() - SYSTEMS.keys():
            sys.exit(f"there is no {', '.join(sorted(unknown))}; there are {', '.join((*RUNS, *PARTS))}")
        begin = time.monotonic()
        if run(parts, files, rest):
            failed.append(name)
        _say(f"{name}: {'failed' if name in failed else 'passed'} after {time.monotonic() - begin:.0f} s")
    return int(bool(failed))


def run(parts: str, files: tuple[str, ...], rest: list[str]) -> int:
    """Run these files of tests without these parts; returns pytest's exit status."""
    lacking = {part for word in parts.split(",") for part in SYSTEMS.get(word, (word,))}
    absent = {name for part in lacking for name in NEEDS.get(part, ())}
    # What would only be skipped as a whole may not be there to be imported.
    paths = [f"tests/test_{file}.py" for file in files if f"test_{file}.py" not in absent]
    command = [sys.executable, "-m", "pytest", "--quiet", "-r", "fE", "--durations", "0", "--durations-min", "5"]
    command += ["-p", "tests.portability.needs", "-p", "no:anyio", "--numprocesses", str(2 * (os.cpu_count() or 1))]
    environment = os.environ | environment_without(parts)
    _say(f"without {parts}: {len(paths)} files of tests")
    return subprocess.run([*command, *rest, *paths], cwd=ROOT, env=environment, check=False).returncode


def environment_without(parts: str) -> dict[str, str]:
    """What has to be in the environment of a process that is to lack these parts."""
    # The plugins of hypothesis, and that of anyio above, load trio, which goes by the name of the system.
    return {"IOINTERRUPT_WITHOUT": parts, "PYTHONPATH": str(LACKING), "HYPOTHESIS_NO_PLUGINS": "1"}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
