"""Downloads against other tools, all from one nginx on the loopback to files in memory: this is the README's table.

`python -m benchmarks.downloads [GROUP ...] [--markdown] [--size 256M] [--rounds N]` prints it; `make bench-downloads`
installs what takes part. Everything that is compared takes turns in one run, so that what the machine does else meets all
of it; each ratio is the median of those of the rounds. A tool or library that is not installed has a row that says so.

`measure` is what `python -m benchmarks` has of it: the same for a smaller file and in fewer rounds.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.downloads_changed import changed
from benchmarks.downloads_peers import MANY, MANY_CLIENTS, MANY_TOOLS, ONE, Peer, Run, Table, client, compete, run
from benchmarks.downloads_signals import signals
from benchmarks.downloads_stops import stops
from benchmarks.measure import Comparison, Row, in_turn
from tests.nginx import Nginx, why_not

MIB = 1 << 20

#: Bytes of the one file; in the suite; and in a quick run of that.
SIZE = 2048 * MIB
SUITE_SIZE = 384 * MIB
QUICK_SIZE = 64 * MIB

# The suite's rounds.
_SUITE_ROUNDS = 3

_SMALL = 64 * MIB

# Of a smaller file it is the start of a Python process that decides, and no program in C is to be measured by that.
_LARGE = 1024 * MIB

# A file system in memory, so that no disk is measured.
_MEMORY = "/dev/shm"


def measure(*, quick: bool) -> Iterator[Comparison | Row]:
    """A comparison for each kind of download; in a quick run one file over HTTP, once."""
    if (reason := why_not()) is not None:
        yield Row("downloads", 0, "", "measured", met=False, note=reason)
        return
    with _served(QUICK_SIZE if quick else SUITE_SIZE, 1 if quick else _SUITE_ROUNDS) as bench:
        yield from one_file(bench, tls=False, warm_up=not quick)
        if not quick:
            yield from one_file(bench, tls=True, warm_up=False)
            yield many_files(bench, warm_up=False)
            yield new_process(bench, 2 * _SUITE_ROUNDS)
            yield from memory(bench).rows


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

    def one(self, peer: Peer, name: str, *, tls: bool = False) -> Run:
        """Download a file in a process of its own, and look at what came of it."""
        dest = os.path.join(self.folder, "dest")
        url, ca = (self.server.tls_url, self.server.ca_file) if tls else (self.server.url, None)
        try:
            done = run(peer.command(f"{url}/{name}", dest, ca))
            size = os.path.getsize(dest)
            if size != os.path.getsize(f"{self.served}/{name}"):
                raise RuntimeError(f"{peer.name} has downloaded {size} bytes")
            if size <= _SMALL and not filecmp.cmp(dest, f"{self.served}/{name}", shallow=False):
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


def one_file(bench: Bench, *, tls: bool, warm_up: bool = True) -> list[Comparison]:
    """One file: the time, and the CPU time, of a process that downloads it."""
    bench.one(ONE[0], "big", tls=tls)  # memory that has not been used for long is slow at first
    runs, left_out = compete(
        ONE,
        lambda peer: bench.one(peer, "big", tls=tls),
        bench.rounds or 4,
        warm_up=(lambda peer: bench.one(peer, "small", tls=tls)) if warm_up else None,
    )
    what = f"{_mib(bench.size)} over {'TLS' if tls else 'HTTP'}"
    present = [peer for peer in ONE[1:] if peer.name in runs]
    return [
        Comparison(
            f"{what}, {unit}",
            "s",
            {name: [took(one) for one in each] for name, each in runs.items()},
            least=_wanted(present, bench.size, tls=tls, unit=unit),
            left_out=left_out,
        )
        for unit, took in _UNITS.items()
    ]


_UNITS: dict[str, Callable[[Run], float]] = {"wall": lambda one: one.wall, "CPU": lambda one: one.cpu}


def _wanted(peers: list[Peer], size: int, *, tls: bool, unit: str) -> dict[str, float]:
    """How far ahead ours is to be: of everything over HTTP; over TLS of curl and of those in Python, and near to pycurl."""
    if tls:
        wanted = {("curl", "wall"): 1.0, ("pycurl", "wall"): 1 / 1.2, ("pycurl", "CPU"): 0.0}
        least = {peer.name: wanted.get((peer.needs, unit), 1.0 if peer.python else 0.0) for peer in peers}
    else:
        least = {peer.name: 1.0 for peer in peers}
    fair = {peer.name for peer in peers if peer.python or size >= _LARGE}
    return {name: ratio for name, ratio in least.items() if ratio and name in fair}


def many_files(bench: Bench, *, warm_up: bool = True) -> Comparison:
    """A thousand small files: ours is to be ahead of every client in Python, and not far behind aria2c."""
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

    runs, left_out = compete(peers, once, bench.rounds or 5, warm_up=once if warm_up else None)
    samples = {
        peer.name: [one.wall if peer in MANY_TOOLS else float(one.output) for one in runs[peer.name]]
        for peer in peers
        if peer.name in runs
    }
    least = {peer.name: 1.0 for peer in MANY_CLIENTS[1:] if peer.needs != "pycurl"}
    least |= {peer.name: 1 / 3 for peer in MANY_TOOLS if peer.needs == "aria2c"}
    return Comparison(
        f"{MANY:,} files of 1 KiB, 8 at a time",
        "s",
        samples,
        least={name: ratio for name, ratio in least.items() if name in samples},
        left_out=left_out,
    )


def new_process(bench: Bench, rounds: int) -> Comparison:
    """A process that downloads 1 KiB, against one that only imports requests."""
    dest = os.path.join(bench.folder, "tiny")
    program = f"from iointerrupt import downloads; downloads.download({bench.server.url + '/tiny'!r}, {dest!r})"

    def ours() -> float:
        try:
            return run([sys.executable, "-P", "-c", program]).wall
        finally:
            if os.path.exists(dest):
                os.unlink(dest)

    other = "import requests"
    samples = in_turn(
        {
            "iointerrupt, with 1 KiB downloaded": ours,
            other: lambda: run([sys.executable, "-P", "-c", "import requests"]).wall,
        },
        rounds,
    )
    return Comparison("the start of a process", "s", samples, least={other: 1 / 1.3})


# What the README has of each.


def http(bench: Bench) -> Table:
    """One file over HTTP."""
    return _one_file(bench, tls=False)


def tls(bench: Bench) -> Table:
    """One file over TLS."""
    return _one_file(bench, tls=True)


def _one_file(bench: Bench, *, tls: bool) -> Table:
    """The time and the CPU time of each, and as a multiple of ours."""
    what = f"{_mib(bench.size)} over {'TLS' if tls else 'HTTP'}"
    found = one_file(bench, tls=tls)
    table = Table(f"One file of {what}", ["", "wall, s", "wall, x ours", "CPU, s", "CPU, x ours"])
    for name in found[0].samples:
        cells = [cell for comparison in found for cell in (f"{comparison.median(name):.2f}", _times(comparison, name))]
        table.lines.append([name, *cells])
    return _with_rows(table, found)


def many(bench: Bench) -> Table:
    """Many small files."""
    found = many_files(bench)
    tools = {peer.name for peer in MANY_TOOLS}
    table = Table(found.what, ["", "wall, s", "x ours", "with its start"])
    for name in found.samples:
        cells = [f"{found.median(name):.2f}", _times(found, name), "yes" if name in tools else "no"]
        table.lines.append([name, *cells])
    return _with_rows(table, [found])


def start(bench: Bench) -> Table:
    """The start of a process."""
    found = new_process(bench, bench.rounds or 15)
    milliseconds = [f"{found.median(name) * 1e3:.0f}" for name in found.samples]
    table = Table("Start of a process (ms)", ["ours, with 1 KiB downloaded", "`import requests`"], [milliseconds])
    return _with_rows(table, [found])


def _times(comparison: Comparison, name: str) -> str:
    """How many times as long as ours one has taken."""
    return "1.00" if name == comparison.ours else f"{comparison.ratio(name).median:.2f}"


def _with_rows(table: Table, comparisons: list[Comparison]) -> Table:
    """The table, with a line for each who does not take part, and a row for each ratio and what it is to be."""
    for comparison in comparisons:
        for name in comparison.others:
            ratio, least = comparison.ratio(name), comparison.least.get(name, 0.0)
            ours, theirs = comparison.samples[comparison.ours], comparison.samples[name]
            note = f"{min(theirs):.2f} to {max(theirs):.2f} s against {min(ours):.2f} to {max(ours):.2f} s"
            target = f">= {least:.2f}" if least else "reported"
            met = ratio.median >= least
            what = f"{comparison.what}: {name} to ours"
            table.rows.append(Row(what, ratio.median, "x", target, met, f"{note}, {len(ours)} rounds"))
    for name, reason in comparisons[0].left_out.items():
        table.missing(name, reason)
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
