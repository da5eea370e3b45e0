"""The command line: `iointerrupt demo`, also as `python -m iointerrupt demo`.

Only what draws on a terminal needs the extra `cli` (rich); without it, and into a pipe, the output is plain text.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from iointerrupt import __version__

if TYPE_CHECKING:
    from iointerrupt._demo import Row

HEADINGS = ("operation", "moved before the stop", "stopped after", "the usual loop")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments, without the program's name; by default those of the process.

    Returns:
        The exit code: 0 if everything stopped, 1 if something did not.

    Raises:
        SystemExit: 2 for arguments that it does not know; 0 for `--help` and `--version`.
    """
    parser = argparse.ArgumentParser(
        prog="iointerrupt", description="Thread.interrupt() for Python: threads blocked in I/O that stop."
    )
    parser.add_argument("--version", action="version", version=f"iointerrupt {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser(
        "demo",
        help="block seven threads on one threading.Event, set it, and show what happened",
        description="Blocks a thread in each of seven operations, against real loopback peers, all on one plain"
        " threading.Event; sets it; and shows how soon each thread ended, beside the usual loop that looks at the event"
        " between operations. Exits with 0 if all stopped, else with 1.",
    )
    demo.add_argument("--json", action="store_true", help="print a JSON array with one object for each operation")
    arguments = parser.parse_args(argv)
    return _demo(as_json=arguments.json)


def _demo(*, as_json: bool) -> int:
    from iointerrupt import _demo  # noqa: PLC0415 - loads requests, which --help need not wait for

    rows = _demo.run()
    if as_json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
    elif not (sys.stdout is not None and sys.stdout.isatty() and _draw(rows)):
        _print(rows)
    return 0 if all(row.stopped_after is not None for row in rows) else 1


def _cells(row: Row) -> tuple[str, str, str, str]:
    return (
        row.operation,
        f"{row.moved:,} B",
        (row.failure or "not stopped") if row.stopped_after is None else f"{row.stopped_after * 1e3:.2f} ms",
        "ended" if row.usual_blocked_for is None else f"still blocked after {row.usual_blocked_for * 1e3:.0f} ms",
    )


def _print(rows: list[Row]) -> None:
    table = [HEADINGS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
    for line in table:
        name, moved, stopped, usual = line
        print(f"{name:<{widths[0]}}  {moved:>{widths[1]}}  {stopped:>{widths[2]}}  {usual}")
    print(_summary(rows))


def _draw(rows: list[Row]) -> bool:
    """Draw the table; False where rich is not installed."""
    try:
        from rich.console import Console  # noqa: PLC0415 - optional, and slow to load
        from rich.table import Table  # noqa: PLC0415
    except ImportError:
        return False
    table = Table(title="one threading.Event, set once")
    for heading, style, side in zip(
        HEADINGS, ("bold", "", "green", "red"), ("left", "right", "right", "left"), strict=True
    ):
        table.add_column(heading, style=style, justify=side)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*_cells(row))
    console = Console()
    console.print(table)
    console.print(_summary(rows), highlight=False)
    return True


def _summary(rows: list[Row]) -> str:
    stopped = sum(row.stopped_after is not None for row in rows)
    blocked = sum(row.usual_blocked_for is not None for row in rows)
    return f"{stopped} of {len(rows)} stopped; of the usual loops, {blocked} of {len(rows)} were still blocked."
