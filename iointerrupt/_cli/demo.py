"""`iointerrupt demo`: runs the demonstration of `_demo` and prints what it measured, as a table, as lines or as JSON."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from iointerrupt._cli.manual import ManualCommand, option

if TYPE_CHECKING:
    from iointerrupt._demo import Row

HEADINGS = ("operation", "moved before the stop", "stopped after", "the usual loop")

SECTIONS = {
    "EXIT STATUS": """
        \b
        0   all stopped
        1   one did not
    """,
}


@click.command(
    cls=ManualCommand,
    sections=SECTIONS,
    short_help="Block seven threads on one threading.Event, set it, and show what happened.",
)
@option(
    "--json", "as_json", group="OPTIONS", is_flag=True, help="Print a JSON array with one object for each operation."
)
def demo(*, as_json: bool) -> int:
    """Block a thread in each of seven operations, against real loopback peers, all on one plain threading.Event; set it;
    and show how soon each thread ended, beside the usual loop that looks at the event between operations.
    """
    from iointerrupt import _demo  # noqa: PLC0415 - loads requests, which --help need not wait for

    rows = _demo.run()
    if as_json:
        click.echo(json.dumps([row.as_json() for row in rows], indent=2))
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
        click.echo(f"{name:<{widths[0]}}  {moved:>{widths[1]}}  {stopped:>{widths[2]}}  {usual}")
    click.echo(_summary(rows))


def _draw(rows: list[Row]) -> bool:
    """Draw the table; False where rich is not installed."""
    try:
        from rich.console import Console  # noqa: PLC0415 - optional, and slow to load
        from rich.table import Table  # noqa: PLC0415
    except ImportError:
        return False
    table = Table(title="one threading.Event, set once")
    for title, style, side in zip(
        HEADINGS, ("bold", "", "green", "red"), ("left", "right", "right", "left"), strict=True
    ):
        table.add_column(title, style=style, justify=side)  # type: ignore[arg-type]
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
