"""Who takes part in the benchmark of downloads, how each is run and measured, and the tables that come of it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.measure import Row

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Seconds after which a run has failed.
_LIMIT = 300


@dataclass(frozen=True)
class Peer:
    """One that downloads.

    Attributes:
        name: as it stands in the table.
        needs: the program or the module that it is.
        command: of its URL, its destination (a file, or a folder of many), and the path of an authority's certificate.
        python: whether it is Python, and takes the time that an interpreter takes to start.
    """

    name: str
    needs: str
    command: Callable[[str, str, str | None], list[str]]
    python: bool = True


def is_missing(name: str) -> bool:
    """Whether there is neither a program nor a module of this name."""
    return shutil.which(name) is None and importlib.util.find_spec(name) is None


def client(what: str, name: str, url: str, *args: str | None) -> list[str]:
    """The command of a client in Python; an argument that is None is left out."""
    program = "benchmarks.downloads_stoppable" if what in {"stop", "slot"} else "benchmarks.downloads_clients"
    given = [argument for argument in args if argument is not None]
    return [sys.executable, "-P", "-m", program, what, name, url, *given]


def _python(name: str) -> Callable[[str, str, str | None], list[str]]:
    return lambda url, dest, ca: client("one", name, url, dest, ca)


# The tools try again after a 503, as some phases of a download take it; a download that succeeds is the same without.


def _curl(url: str, dest: str, ca: str | None) -> list[str]:
    return ["curl", "-q", "-sSf", "--retry", "10", *(["--cacert", ca] if ca else []), "-o", dest, url]


def _wget(url: str, dest: str, ca: str | None) -> list[str]:
    again = ["--retry-on-http-error=503", "--tries=10", "--waitretry=20"]
    return ["wget", "--no-config", "-q", *again, *([f"--ca-certificate={ca}"] if ca else []), "-O", dest, url]


def _wget2(url: str, dest: str, ca: str | None) -> list[str]:
    return ["wget2", "--no-config", "-q", *([f"--ca-certificate={ca}"] if ca else []), "-O", dest, url]


def _aria2(url: str, dest: str, ca: str | None) -> list[str]:
    folder, name = os.path.split(dest)
    return ["aria2c", *_ARIA2, *([f"--ca-certificate={ca}"] if ca else []), "-d", folder, "-o", name, "-x1", url]


# Without what it writes first otherwise, which costs time on a file system in memory.
_ARIA2 = ["--no-conf", "-q", "--file-allocation=none", "--max-tries=10", "--retry-wait=20"]

OURS = Peer("iointerrupt", "iointerrupt", _python("iointerrupt"))

#: One file, over HTTP or TLS.
ONE = [
    OURS,
    Peer("curl", "curl", _curl, python=False),
    Peer("wget", "wget", _wget, python=False),
    Peer("wget2", "wget2", _wget2, python=False),
    Peer("aria2c, 1 connection", "aria2c", _aria2, python=False),
    Peer("pycurl", "pycurl", _python("pycurl")),
    Peer("gdown", "gdown", _python("gdown")),
    Peer("pypdl", "pypdl", _python("pypdl")),
    Peer("parfive, 1 MiB", "parfive", _python("parfive")),
    Peer("pooch, 1 MiB", "pooch", _python("pooch")),
    Peer("huggingface_hub", "huggingface_hub", _python("huggingface_hub")),
    Peer("aiohttp, 1 MiB", "aiohttp", _python("aiohttp")),
    Peer("requests iter_content, 1 MiB", "requests", _python("requests")),
]


def get(*args: str) -> list[str]:
    """Our command line."""
    return [sys.executable, "-P", "-m", "iointerrupt", "get", "--quiet", *args]


def queue(tool: str, url: str, folder: str) -> list[str] | None:
    """The command for two downloads with one slot; None for a tool that does not know such a thing."""
    urls = [f"{url}1", f"{url}2"]
    if tool == "iointerrupt":
        return get("-j", "1", "-d", folder, *urls)
    return ["aria2c", *_ARIA2, "-Z", "-j1", "-d", folder, *urls] if tool == "aria2c" else None


#: Processes that download URL0000 to URL0999 eight at a time, and are measured with their start.
MANY_TOOLS = [
    Peer(
        "iointerrupt get -j 8 -i",
        "iointerrupt",
        lambda url, dest, _: get("-j", "8", "-d", dest, "-i", listed(url, dest)),
    ),
    Peer(
        "wget2 --max-threads=8",
        "wget2",
        lambda url, dest, _: ["wget2", "--no-config", "-q", "--max-threads=8", "-P", dest, "-i", listed(url, dest)],
    ),
    Peer(
        "curl --parallel-max 8",
        "curl",
        lambda url, dest, _: [
            *("curl", "-q", "-sSf", "--parallel", "--parallel-max", "8"),
            *("-o", f"{dest}/#1", f"{url}[0000-{MANY - 1:04}]"),
        ],
    ),
    Peer(
        "aria2c -j8",
        "aria2c",
        lambda url, dest, _: ["aria2c", *_ARIA2, "-j8", "-x1", "-d", dest, "-i", listed(url, dest)],
    ),
]


def _many(name: str) -> Callable[[str, str, str | None], list[str]]:
    return lambda url, dest, _: client("many", name, url, str(MANY), dest)


#: The same in a Python program, without its start.
MANY_CLIENTS = [
    Peer("iointerrupt, DownloadManager(jobs=8)", "iointerrupt", _many("iointerrupt")),
    Peer("pycurl multi", "pycurl", _many("pycurl")),
    Peer("aiohttp, 8 tasks", "aiohttp", _many("aiohttp")),
    Peer("urllib3 pool, 8 threads", "urllib3", _many("urllib3")),
    Peer("httpx, 8 threads", "httpx", _many("httpx")),
    Peer("requests session, 8 threads", "requests", _many("requests")),
]

#: How many these are.
MANY = 1000


def listed(url: str, dest: str) -> str:
    """The path of a file with the URLs, beside the folder they are downloaded to."""
    path = f"{dest}.urls"
    if not os.path.exists(path):
        with open(path, "w", encoding="ascii") as lines:
            lines.writelines(f"{url}{number:04}\n" for number in range(MANY))
    return path


def environment(ca: str | None = None) -> dict[str, str]:
    """What all of them run with: no proxies or authorities but `ca`, for those that cannot be told otherwise."""
    dropped = ("_PROXY", "_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
    kept = {name: value for name, value in os.environ.items() if not name.upper().endswith(dropped)}
    kept.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its bytecode
    return kept | {"PYTHONPATH": _ROOT} | ({"REQUESTS_CA_BUNDLE": ca} if ca else {})


@dataclass(frozen=True)
class Run:
    """What a process took, in seconds, and what it printed."""

    wall: float
    cpu: float
    output: str


def run(command: Sequence[str]) -> Run:
    """Run a process to its end.

    Raises:
        RuntimeError: it did not succeed.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, env=environment(), cwd="/"
        )
        guard = threading.Timer(_LIMIT, process.kill)
        guard.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        guard.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        errors.seek(0)
        if process.returncode:
            said = (output.read() + errors.read()).decode(errors="replace")
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
        return Run(wall, usage.ru_utime + usage.ru_stime, output.read().decode())


@dataclass
class Table:
    """What a group has found: for the README, and as rows of the report."""

    title: str
    columns: list[str]
    lines: list[list[str]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def markdown(self) -> str:
        """The table as the README has it."""
        rule = ["---"] + ["---:"] * (len(self.columns) - 1)
        return "\n".join([f"**{self.title}**", "", *(_line(cells) for cells in (self.columns, rule, *self.lines)), ""])

    def missing(self, name: str, reason: str = "not installed") -> None:
        """Say that somebody does not take part."""
        self.lines.append([name, reason.partition(":")[0], *[""] * (len(self.columns) - 2)])
        self.rows.append(Row(f"{self.title}: {name}", 0, "", "measured", met=False, note=reason))


def compete(
    peers: Sequence[Peer], once: Callable[[Peer], Run], rounds: int, *, warm_up: Callable[[Peer], object] | None = None
) -> tuple[dict[str, list[Run]], dict[str, str]]:
    """The runs of each peer, in turns, where another one begins each round; and of those who do not take part, why not.

    Raises:
        RuntimeError: the first, which all others are compared with, has failed.
    """
    left_out = {peer.name: "not installed" for peer in peers if is_missing(peer.needs)}
    runs: dict[str, list[Run]] = {peer.name: [] for peer in peers if peer.name not in left_out}
    for number in range(-1 if warm_up else 0, rounds):
        able = [peer for peer in peers if peer.name in runs]
        first = max(number, 0) % len(able)
        for peer in able[first:] + able[:first]:
            try:
                if number < 0 and warm_up is not None:
                    warm_up(peer)
                else:
                    runs[peer.name].append(once(peer))
            except RuntimeError as error:
                if peer is peers[0]:
                    raise
                del runs[peer.name]
                left_out[peer.name] = f"fails: {str(error).strip().splitlines()[-1]}"
    return runs, left_out


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
