"""Downloads against other tools, all from one nginx on the loopback to files in memory: this is the README's table.

`python -m benchmarks.downloads [GROUP ...] [--markdown] [--size 256M] [--rounds N]` prints it; `make bench-downloads`
installs what takes part. Everything that is compared takes turns in one run, so that what the machine does else meets all
of it; each ratio is the median of those of the rounds. A tool or library that is not installed has a row that says so.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.downloads_changed import changed
from benchmarks.downloads_peers import (
    MANY,
    MANY_CLIENTS,
    MANY_TOOLS,
    ONE,
    ONE_TLS,
    Peer,
    Run,
    Table,
    client,
    ratio,
    run,
)
from benchmarks.downloads_signals import signals
from benchmarks.downloads_stops import stops
from benchmarks.measure import Row, alternate
from tests.nginx import Nginx, why_not

MIB = 1 << 20

#: Bytes of the one file.
SIZE = 2048 * MIB

_SMALL = 64 * MIB

# A file system in memory, so that no disk is measured.
_MEMORY = "/dev/shm"


def measure() -> Iterator[Row]:
    """A row for each claim."""
    if (reason := why_not()) is not None:
        yield Row("downloads", 0, "", "measured", met=False, note=reason)
        return
    with _served(SIZE) as bench:
        for group in GROUPS.values():
            yield from group(bench).rows


class Bench:
    """The running server, its files, and a folder to download to.

    Args:
        size: of the one file, in bytes.
        rounds: how often each is run; None for as often as each group does by itself.
    """

    def __init__(self, server: Nginx, folder: str, size: int, rounds: int | None) -> None:
        self.server = server
        self.folder = folder
        self.served = os.path.join(folder, "served")
        self.size = size
        self.rounds = rounds

    def turns(self, peers: list[Peer], once: Callable[[Peer], Run], rounds: int) -> dict[str, list[Run]]:
        """The runs of each peer, in turns; the first begins another one in each round."""
        runs: dict[str, list[Run]] = {peer.name: [] for peer in peers}
        for number in range(self.rounds or rounds):
            first = number % len(peers)
            for peer in peers[first:] + peers[:first]:
                runs[peer.name].append(once(peer))
        return runs

    def one(self, peer: Peer, name: str, *, tls: bool = False) -> Run:
        """Download a file in a process of its own, and look at what came of it."""
        dest = os.path.join(self.folder, "dest")
        url, ca = (self.server.tls_url, self.server.ca_file) if tls else (self.server.url, None)
        try:
            done = run(peer.command(f"{url}/{name}", dest, ca))
            size = os.path.getsize(dest)
            if size != os.path.getsize(f"{self.served}/{name}"):
                raise RuntimeError(f"{peer.name} has downloaded {size} bytes")
            if name == "small" and not filecmp.cmp(dest, f"{self.served}/{name}", shallow=False):
                raise RuntimeError(f"{peer.name} has downloaded something else")
            return done
        finally:
            with_state = (dest, f"{dest}.part", f"{dest}.part.json", f"{dest}.aria2")
            for path in filter(os.path.exists, with_state):
                os.unlink(path)


@contextmanager
def _served(size: int, rounds: int | None = None) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        free = shutil.disk_usage(folder).free
        if free < 2 * size + 512 * MIB:
            raise SystemExit(f"{_MEMORY} has room for {free // MIB} MiB: two files of {size // MIB} MiB go into it")
        served = os.path.join(folder, "served")
        os.makedirs(f"{served}/many")
        block = os.urandom(MIB)
        for name, length in (("big", size), ("small", _SMALL), ("tiny", 1024)):
            with open(f"{served}/{name}", "wb") as file:
                for start in range(0, length, MIB):
                    file.write(block[: length - start])
        for number in range(MANY):
            with open(f"{served}/many/{number:04}", "wb") as file:
                file.write(os.urandom(1024))
        with Nginx(served, workers=2) as server:
            yield Bench(server, folder, size, rounds)


def _row(what: str, theirs: list[float], ours: list[float], least: float) -> Row:
    """The ratio of the seconds of a peer to those of ours, which is to be `least`, or may be anything (0)."""
    times = ratio(theirs, ours)
    note = f"{min(theirs):.2f} to {max(theirs):.2f} s against {min(ours):.2f} to {max(ours):.2f} s"
    target = f">= {least:.2f}" if least else "reported"
    return Row(f"{what} to ours", times, "x", target, times >= least, f"{note}, {len(ours)} rounds")


def _one_file(bench: Bench, peers: list[Peer], least: Callable[[str, str], float], *, tls: bool) -> Table:
    """One file: the time and the CPU time of each, as a multiple of ours, which is to be `least`."""
    what = f"{_mib(bench.size)} over {'TLS' if tls else 'HTTP'}"
    table = Table(f"One file of {what}", ["", "wall, s", "wall, x ours", "CPU, s", "CPU, x ours"])
    present = table.present(peers, lambda peer: bench.one(peer, "small", tls=tls))
    if peers[0] not in present:
        return table  # there is nothing to compare with
    bench.one(peers[0], "big", tls=tls)  # memory that has not been used for long is slow at first
    runs = bench.turns(present, lambda peer: bench.one(peer, "big", tls=tls), 4)
    seconds = {
        name: {"wall": [one.wall for one in each], "CPU": [one.cpu for one in each]} for name, each in runs.items()
    }
    ours = seconds[peers[0].name]
    for name, theirs in seconds.items():
        line = [name]
        for unit, figures in theirs.items():
            line += [f"{statistics.median(figures):.2f}", f"{ratio(figures, ours[unit]):.2f}"]
            if theirs is not ours:
                table.rows.append(_row(f"{what}, {unit}: {name}", figures, ours[unit], least(name, unit)))
        table.lines.append(line)
    return table


def http(bench: Bench) -> Table:
    """One file over HTTP: ours is to be ahead of all of them."""
    return _one_file(bench, ONE, lambda *_: 1.0, tls=False)


def tls(bench: Bench) -> Table:
    """One file over TLS: ours is to be ahead of curl, and near to pycurl."""
    targets = {("curl", "wall"): 1.0, ("pycurl", "wall"): 1 / 1.2}
    return _one_file(bench, ONE_TLS, lambda name, unit: targets.get((name, unit), 0.0), tls=True)


def many(bench: Bench) -> Table:
    """A thousand small files: ours is to be ahead of every client in Python, and not far behind aria2c."""
    table = Table(f"{MANY:,} files of 1 KiB, 8 at a time", ["", "wall, s", "x ours", "with its start"])
    peers = [*MANY_CLIENTS, *MANY_TOOLS]

    def once(peer: Peer) -> Run:
        with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
            dest = os.path.join(folder, "many")
            os.mkdir(dest)
            done = run(peer.command(f"{bench.server.url}/many/", dest, None))
            same, *different = filecmp.cmpfiles(dest, f"{bench.served}/many", [f"{n:04}" for n in range(MANY)])
            if any(different):
                raise RuntimeError(f"{peer.name} has downloaded {len(same)} files of {MANY}: {done.output}")
            return done

    present = table.present(peers, once)
    if peers[0] not in present:
        return table
    runs = bench.turns(present, once, 5)
    seconds = {
        peer.name: [one.wall if peer in MANY_TOOLS else float(one.output) for one in runs[peer.name]]
        for peer in present
    }
    ours = seconds[MANY_CLIENTS[0].name]
    for peer in present:
        figures = seconds[peer.name]
        tool = peer in MANY_TOOLS
        median, times = statistics.median(figures), ratio(figures, ours)
        table.lines.append([peer.name, f"{median:.2f}", f"{times:.2f}", "yes" if tool else "no"])
        if figures is not ours:
            least = 1 / 3 if peer.needs == "aria2c" else 0.0 if tool or peer.needs == "pycurl" else 1.0
            table.rows.append(_row(f"{MANY} files: {peer.name}", figures, ours, least))
    return table


def memory(bench: Bench) -> Table:
    """The most memory that a download takes, for a small file and for a large one."""
    table = Table("Peak memory (MiB)", ["", _mib(_SMALL), _mib(bench.size)])
    peaks: dict[str, list[float]] = {}
    for name in ("iointerrupt", "requests"):
        peer = Peer(name, name, lambda url, dest, ca, name=name: client("memory", name, url, dest, ca))  # type: ignore[misc]
        peaks[name] = [int(bench.one(peer, file).output) / 1024 for file in ("small", "big")]
        table.lines.append([name, *(f"{peak:.1f}" for peak in peaks[name])])
    ours, theirs = peaks["iointerrupt"], peaks["requests"]
    note = f"{ours[0]:.1f} and {ours[1]:.1f} MiB, a loop of requests {theirs[0]:.1f} and {theirs[1]:.1f} MiB"
    for what, value in (
        (f"peak memory: ours of {_mib(bench.size)} to {_mib(_SMALL)}", ours[1] / ours[0]),
        ("peak memory: ours to a loop of requests", ours[1] / theirs[1]),
    ):
        table.rows.append(Row(what, value, "x", "<= 1.1", value <= 1.1, note))
    return table


def start(bench: Bench) -> Table:
    """A process that downloads 1 KiB, against one that only imports requests."""
    dest = os.path.join(bench.folder, "tiny")
    program = f"from iointerrupt import downloads; downloads.download({bench.server.url + '/tiny'!r}, {dest!r})"

    def ours() -> float:
        try:
            return run([sys.executable, "-P", "-c", program]).wall
        finally:
            if os.path.exists(dest):
                os.unlink(dest)

    first, second = alternate(
        ours, lambda: run([sys.executable, "-P", "-c", "import requests"]).wall, bench.rounds or 15
    )
    times = ratio(first, second)
    milliseconds = [f"{statistics.median(figures) * 1e3:.0f}" for figures in (first, second)]
    table = Table("Start of a process (ms)", ["ours, with 1 KiB downloaded", "`import requests`"], [milliseconds])
    note = f"{milliseconds[0]} ms against {milliseconds[1]} ms, medians of {len(first)}"
    table.rows.append(Row("1 KiB in a new process, to import requests", times, "x", "<= 1.3", times <= 1.3, note))
    return table


GROUPS: dict[str, Callable[[Bench], Table]] = {
    "http": http,
    "tls": tls,
    "many": many,
    "stops": lambda bench: stops(bench.folder, bench.rounds or 5),
    "signals": lambda bench: signals(bench.rounds or 3),
    "memory": memory,
    "start": start,
    "changed": lambda _: changed(),
}


def _mib(size: int) -> str:
    return f"{size // (1024 * MIB)} GiB" if size % (1024 * MIB) == 0 else f"{size // MIB} MiB"


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([MG])", text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no size as 256M or 2G are")
    return int(found[1]) * MIB * (1024 if found[2] == "G" else 1)


def main() -> None:
    """Run the groups that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.downloads", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--markdown", action="store_true", help="print tables for the README")
    parser.add_argument("--size", type=_size, default=SIZE, help="of the one file: 256M, 2G")
    parser.add_argument("--rounds", type=int, help="how often each is run")
    arguments = parser.parse_args()
    unknown = set(arguments.groups) - set(GROUPS)
    if unknown:
        parser.error(f"unknown group {', '.join(sorted(unknown))}: there are {', '.join(GROUPS)}")
    with _served(arguments.size, arguments.rounds) as bench:
        for group in arguments.groups or GROUPS:
            table = GROUPS[group](bench)
            if arguments.markdown:
                print(table.markdown(), flush=True)
            else:
                for row in table.rows:
                    print(row, flush=True)


if __name__ == "__main__":
    main()
