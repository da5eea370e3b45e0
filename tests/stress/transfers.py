"""Transfers that are stopped at random instants, by the hundred thousand: nothing is lost, repeated, or left behind.

    python -m tests.stress.transfers [--minutes M | --stops N] [--seed SEED] [KIND ...]

Of each kind of operation there is a scenario, in which workers transfer known bytes over objects that they keep, while each
operation is stopped at random: before it begins, in the middle, or after it was done. What is looked at all the time:

- what has been delivered, `Interrupted.partial` included, is what was sent, byte by byte: nothing twice, and no gap;
- what has not been delivered comes afterwards, from the same object with another stop;
- an operation is interrupted by its own stop, which it names, and by nothing else; one that was stopped before it began has
  done nothing; one whose stop was set has not been done;
- of a session's connections none is used again that was interrupted, and all places of its pool are free at the end;
- each round ends with the descriptors, threads, children, and helpers that it began with.

It ends with the first thing that is wrong, and says from which seed. The seed decides what is done and when it is stopped; the
rest is left to the scheduler, so that no two runs are alike: run it again with the seed that it says, more than once.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import time
from collections.abc import Callable, Sequence

from tests.stress import over_aio, over_files, over_http, over_sockets, over_threads
from tests.stress.rounds import Round, play
from tests.stress.stops import Tally

#: By name: what is stopped, and how many stops one round has; some take longer.
KINDS: dict[str, tuple[Callable[[Round], None], int]] = {
    "sockets": (over_sockets.over_sockets, 2000),
    "TLS": (over_sockets.over_tls, 2000),
    "handshakes": (over_sockets.of_handshakes, 1000),
    "connections": (over_sockets.of_connections, 1000),
    "pipes": (over_files.over_pipes, 2000),
    "FIFOs": (over_files.over_fifos, 1000),
    "files": (over_files.of_files, 2000),
    "HTTP": (over_http.over_http, 400),
    "coroutines": (over_aio.of_coroutines, 1000),
    "threads": (over_threads.of_threads, 500),
}

# Seconds between two lines that say how far it has come.
_SAID_EVERY = 60.0


def run(names: Sequence[str], *, stops: float, seconds: float, seed: int) -> dict[str, Tally]:
    """Play rounds of each kind in turn.

    Args:
        names: of `KINDS`.
        stops: of each kind, after which it is enough.
        seconds: after which it is enough, too.
        seed: of all.

    Returns:
        What became of the stops, by kind.

    Raises:
        AssertionError: something is wrong.
    """
    tallies = {name: Tally() for name in names}
    began = said = time.monotonic()
    for number in itertools.count():
        left = [name for name in names if tallies[name].tried < stops]
        if not left:
            return tallies
        for name in left:
            scenario, most = KINDS[name]
            size = int(min(most, max(1, stops - tallies[name].tried)))
            tallies[name].add(play(name, scenario, size, f"{seed}/{number}"))
            now = time.monotonic()
            if now - began >= seconds:
                return tallies
            if now - said >= _SAID_EVERY:
                said = now
                tried = sum(tally.tried for tally in tallies.values())
                print(f"{(now - began) / 60:.0f} min: {tried:,} stops, none lost", flush=True)
    raise AssertionError


def report(tallies: dict[str, Tally]) -> str:
    """A table of what became of the stops."""
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    rows: list[tuple[str, ...]] = [
        ("kind", "stops tried", "before", "in the middle", "after", "bytes checked", "losses")
    ]
    rows += [
        (name, *(f"{n:,}" for n in (one.tried, one.before, one.within, one.after, one.checked, 0)))
        for name, one in {**tallies, "all": total}.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def main() -> None:
    """Do what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=f"of {', '.join(KINDS)}; all by default")
    enough = parser.add_mutually_exclusive_group()
    enough.add_argument("--minutes", type=float, help="how long to go on (default: 10, unless --stops is given)")
    enough.add_argument("--stops", type=int, help="how many for each kind")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    if unknown := set(arguments.kinds) - set(KINDS):
        parser.error(f"there is no kind {', '.join(sorted(unknown))}")
    stops = float("inf") if arguments.stops is None else arguments.stops
    minutes = float("inf") if arguments.stops is not None else arguments.minutes or 10
    print(f"seed {arguments.seed}, Python {sys.version.split()[0]}", flush=True)
    began = time.monotonic()
    tallies = run(arguments.kinds or list(KINDS), stops=stops, seconds=60 * minutes, seed=arguments.seed)
    print(report(tallies))
    print(f"in {time.monotonic() - began:.0f} s; nothing was lost, repeated, or left behind")


if __name__ == "__main__":
    main()
