"""`python -m benchmarks.profile`: where the time goes of what takes longer in ours than in something else.

It prints the stages of a stop (`benchmarks.stages`), the shares of a call by package (`benchmarks.shares`), and the kept numbers of
instructions (`benchmarks.instructions`). With `--docs FOLDER` it writes them as `profile.md`, to which the page of the benchmarks refers for each row that is behind.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Iterator

from benchmarks import instructions, shares, stages
from benchmarks.report import machine, quantity

_ROUNDS, _SECONDS = 200, 3.0
_QUICK = 10  # times fewer, and shorter

#: A package with a smaller share is one of the others.
_LEAST_SHARE = 0.02


def main() -> int:
    """Profile."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, for a first look")
    parser.add_argument("--docs", metavar="FOLDER", help="write profile.md there as well")
    arguments = parser.parse_args()
    if arguments.docs is not None and not os.path.isdir(arguments.docs):
        parser.error(f"--docs: {arguments.docs} is no folder")
    lines = []
    for line in _page(quick=arguments.quick):
        print(line, flush=True)
        lines.append(line)
    if arguments.docs is not None:
        with open(os.path.join(arguments.docs, "profile.md"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
    return 0


def _page(*, quick: bool) -> Iterator[str]:
    command = shlex.join(["python", "-m", "benchmarks.profile", *sys.argv[1:]])
    yield "# Where the time goes"
    yield ""
    yield f"What `{command}` printed, on {machine()}: the explanation of what is behind on the page of the [benchmarks](benchmarks.md)."
    yield ""
    yield "## Stages of a stop"
    yield ""
    yield _STAGES
    yield ""
    yield f"| stopped | {' | '.join(stages.STAGES)} |"
    yield f"| --- |{' --: |' * len(stages.STAGES)}"
    for what, found in stages.measure(_ROUNDS // _QUICK if quick else _ROUNDS):
        cells = [quantity(found[stage], "s") if stage in found else "" for stage in stages.STAGES]
        yield f"| {what} | {' | '.join(cells)} |"
    yield ""
    yield "## Shares of a call"
    yield ""
    yield _SHARES
    for what, by_whom in shares.measure(_SECONDS / _QUICK if quick else _SECONDS):
        yield ""
        yield f"### {what[0].upper()}{what[1:]}"
        yield ""
        yield from _table(by_whom)
    yield ""
    yield "## Instructions of a call"
    yield ""
    yield _INSTRUCTIONS
    yield ""
    yield "| call | of the plain one | times as many in ours | system calls in ours |"
    yield "| --- | --: | --: | --: |"
    with open(instructions.KEPT, encoding="utf-8") as file:
        kept = instructions.load(file.read()).get(instructions.VERSION, {})
    for call, figure in kept.items():
        yield f"| {call} | {figure.plain:,} | {figure.ratio:.2f} | {figure.calls:g} |"


_STAGES = """\
When a stop has come how far, counted from just before its `set()`: medians. Between *about to wake* and *awake* there is no code of
ours, but the kernel, the processor that has to wake, and the GIL, which the one that sets wants as well. *Warm* is our code alone, from
*awake* on, in a loop: in a stop it takes several times as long, since nothing of it is in a cache any more.

It explains the stops of sockets, pipes and files, which differ from `threading.Event.wait` by what it takes to get from there to an
exception at the caller; the stop by an event of another process, for which a thread has to be woken first; and the stop of an HTTP
body, of which most is the way through urllib3 to the closing of the connection, and that itself: aiohttp leaves it for its loop's next turn."""

_SHARES = """\
How long a call takes, and how much of that in the code of which package, with what it calls in C and waits for.

It explains why a new session takes longer than one of requests, which makes its own adapters before it gets ours; small requests, whose
time goes where that of requests goes, in requests itself and in what it calls; small files, each of which is locked, synced, renamed
and looked at again; and threads of a group, each with a stop of its own."""

_INSTRUCTIONS = """\
What is kept in `benchmarks/instructions.toml` of this version of Python, for comparisons by `make instructions`: of calls that do nothing but
a few instructions in C, such as a read of some bytes that are in a buffer, a single function in Python is most of what they cost."""


def _table(by_whom: dict[str, shares.Shares]) -> Iterator[str]:
    rows: dict[str, dict[str, float]] = {"all": {}}
    for name, found in by_whom.items():
        whole = found["all"]
        for package, seconds in found.items():
            row = package if seconds >= _LEAST_SHARE * whole else "the rest"
            rows.setdefault(row, {})[name] = rows.get(row, {}).get(name, 0.0) + seconds
    rows["the rest"] = rows.pop("the rest", {})  # as the last
    yield f"|  | {' | '.join(by_whom)} |"
    yield f"| --- |{' --: |' * len(by_whom)}"
    for row, cells in rows.items():
        yield f"| {row} | {' | '.join(quantity(cells[name], 's') if name in cells else '' for name in by_whom)} |"


if __name__ == "__main__":
    sys.exit(main())
