"""`python -m benchmarks [GROUP ...]`: measure, and say how many times as good as what else one could take ours is.

It prints each result as it comes. With `--docs FOLDER` it writes the page and its pictures as well, and with `--readme FILE` the table
in there (`benchmarks.front`). The exit status is 0 even
where less came out than is wanted: on a noisy machine that is to be looked at. What noise cannot fool is
`python -m benchmarks.instructions`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks import aio, calls, downloads, front, groups, idle, latency, plots, report, scale, throughput
from benchmarks.measure import Comparison
from benchmarks.report import Result

GROUPS: dict[str, Callable[..., Iterator[Result]]] = {
    "latency": latency.measure,
    "throughput": throughput.measure,
    "idle": idle.measure,
    "scale": scale.measure,
    "calls": calls.measure,
    "groups": groups.measure,
    "aio": aio.measure,
    "downloads": downloads.measure,
}


def main() -> int:
    """Run the groups that were asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, for a first look")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object with all samples at the end, and nothing else"
    )
    parser.add_argument("--docs", metavar="FOLDER", help="write benchmarks.md and its pictures there; needs matplotlib")
    parser.add_argument("--readme", metavar="FILE", help="put the table of the README in its place there")
    arguments = parser.parse_args()
    if unknown := set(arguments.groups) - set(GROUPS):
        parser.error(f"unknown group {', '.join(sorted(unknown))}: there are {', '.join(GROUPS)}")
    if arguments.docs is not None and not os.path.isdir(arguments.docs):
        parser.error(f"--docs: {arguments.docs} is no folder")
    if arguments.docs is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error("--docs draws with matplotlib, which is not installed")
    if arguments.readme is not None:
        if arguments.groups or arguments.quick:
            parser.error("--readme is for a whole run: the table would lose what was not measured, or was in no time")
        try:
            front.put_into(_read(arguments.readme), {})
        except (OSError, ValueError) as error:
            parser.error(f"--readme: {error}")

    def say(text: str) -> None:
        if not arguments.json:
            print(text, flush=True)

    began = time.monotonic()
    found: dict[str, list[Result]] = {}
    say(report.machine())
    for group in arguments.groups or GROUPS:
        say(f"\n{group}")
        found[group] = []
        for result in GROUPS[group](quick=arguments.quick):
            found[group].append(result)
            for line in report.lines(result):
                say(f"  {line}")
    say(f"\n{report.summary(found)}; {time.monotonic() - began:.0f} s")
    if arguments.json:
        print(json.dumps(report.plain(found), indent=2))
    if arguments.docs is not None:
        _write(arguments.docs, found, shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]]))
    if arguments.readme is not None:
        text = front.put_into(_read(arguments.readme), found)
        with open(arguments.readme, "w", encoding="utf-8") as file:
            file.write(text)
    return 0


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def _write(folder: str, found: dict[str, list[Result]], command: str) -> None:
    pictures = {}
    for group, results in found.items():
        comparisons = [result for result in results if isinstance(result, Comparison)]
        if (name := plots.draw(group, comparisons, folder)) is not None:
            pictures[group] = name
    with open(os.path.join(folder, "benchmarks.md"), "w", encoding="utf-8") as file:
        file.write(report.page(found, pictures, command))


if __name__ == "__main__":
    sys.exit(main())
