"""`python -m benchmarks [GROUP ...] [--json]`: measure, print one row for each claim, and say which target is missed.

Every figure is a ratio of medians, or the median of ratios, between two things done in turn in one run, since the speed
of a shared machine drifts. The exit code is 0 even where a target is missed: on a noisy machine that is to be looked at.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict

from benchmarks import aio, calls, downloads, groups, latency, scale, throughput

GROUPS = {
    "latency": latency.measure,
    "throughput": throughput.measure,
    "scale": scale.measure,
    "calls": calls.measure,
    "groups": groups.measure,
    "aio": aio.measure,
    "downloads": downloads.measure,
}


def main() -> None:
    """Run the groups that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--json", action="store_true", help="print a JSON array")
    arguments = parser.parse_args()
    unknown = set(arguments.groups) - set(GROUPS)
    if unknown:
        parser.error(f"unknown group {', '.join(sorted(unknown))}: there are {', '.join(GROUPS)}")
    rows = []
    if not arguments.json:
        print(f"CPython {platform.python_version()}, {platform.system()} {platform.release()}")
    for group in arguments.groups or GROUPS:
        if not arguments.json:
            print(f"\n{group}")
        for row in GROUPS[group]():
            rows.append(row)
            if not arguments.json:
                print(f"  {row}", flush=True)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))


if __name__ == "__main__":
    main()
