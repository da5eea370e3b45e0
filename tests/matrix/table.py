"""The page that the matrix is printed on: a table for each column, the reasons for its gaps, the promises, and the counts.

It is made of labels alone, so that it can be made of what is documented (`documented`) as well as of what was observed: the
page in docs/ is up to date if the two agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from tests.matrix.catalogue import FAULTS
from tests.matrix.cells import Cell, Column, all_cells
from tests.matrix.faults import BODY, HALF, Fault
from tests.matrix.outcomes import STATEMENTS, outcome_of
from tests.matrix.paths import PATHS
from tests.matrix.scenes import SHORT

UNDOCUMENTED = "**undocumented**"

_HEAD = f"""\
# The matrix

Every fault of a server, for every client, with a stop, with a timeout, and with neither: what becomes of it. This page is what
`python -m tests.matrix` prints, which runs all of them; `tests/test_matrix.py` does the same as a test for each.

- **stop during**: the stop is set while the client is blocked in the fault; where a fault does not block, by the server, while the client
  waits, just before it does what is wrong.
- **timeout**: {SHORT * 1000:.0f} ms without a byte, where the fault stalls; elsewhere one that is long enough, which must change nothing.
- **no stop**: neither.

The file has {len(BODY):,} bytes, of which {len(HALF):,} are sent before what happens in the middle of it. In each cell it is checked, besides the outcome, that

- what was delivered is the beginning of what was sent, and all of it where the cell says *complete*; `Interrupted.partial` and
  `.transferred` count what they say they count;
- the session goes on: two requests after the fault, over a pool with a single place, get the right bytes, and no connection is
  used again that has seen the fault;
- the download goes on with exactly the bytes that it has kept, where the server still has the same version, and ends with the right file;
- a socket that was stopped or timed out in a stall brings what is left of the stream, with no byte lost or twice, and sends what is left to send;
- descriptors, threads, children and helpers are what they were.

What the page itself says, as no other does:

{STATEMENTS}"""

_GAP = "-"


def documented() -> dict[Cell, str]:
    """The label of each cell that is run, by what is documented of it."""
    labels = {}
    for cell in all_cells():
        if not cell.unfit:
            outcome = outcome_of(cell)
            labels[cell] = UNDOCUMENTED if outcome is None else outcome.label
    return labels


def page(labels: Mapping[Cell, str]) -> str:
    """The page, in Markdown.

    Args:
        labels: of the cells that were run.
    """
    gaps = _Gaps()
    tables = [_table(column, labels, gaps) for column in Column]
    parts = [_HEAD, _faults(), _paths(), *tables, gaps.notes(), _promises(labels), _counts(labels)]
    return "\n".join(parts)


def _faults() -> str:
    lines = ["## The faults\n", "| fault | what the server does | in | the client sees |", "| --- | --- | --- | --- |"]
    lines += [f"| {one.name} | {one.about} | {one.phase.value} | {one.does.value} |" for one in FAULTS.values()]
    return "\n".join([*lines, ""])


def _paths() -> str:
    lines = ["## The clients\n", "| client | what it calls |", "| --- | --- |"]
    lines += [f"| {name} | {path.about} |" for name, path in PATHS.items()]
    return "\n".join([*lines, ""])


class _Gaps:
    """The reasons for which cells are not run, numbered as they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def mark(self, reason: str) -> str:
        """What stands in the cell."""
        return f"{_GAP} {self._numbers.setdefault(reason, len(self._numbers) + 1)}"

    def notes(self) -> str:
        """What the marks mean."""
        return "\n".join(
            [
                f"What is not run ({_GAP}), and why:\n",
                *(f"{number}. {reason}" for reason, number in self._numbers.items()),
                "",
            ]
        )


def _table(column: Column, labels: Mapping[Cell, str], gaps: _Gaps) -> str:
    def of(fault: Fault, path: str) -> str:
        cell = Cell(fault, PATHS[path], column)
        return gaps.mark(cell.unfit) if cell.unfit else labels.get(cell, "not run")

    return "\n".join(
        [
            f"## {column.value.capitalize()}\n",
            f"| fault | {' | '.join(PATHS)} |",
            f"| --- |{' --- |' * len(PATHS)}",
            *(f"| {fault.name} | {' | '.join(of(fault, path) for path in PATHS)} |" for fault in FAULTS.values()),
            "",
        ]
    )


def _promises(labels: Mapping[Cell, str]) -> str:
    promised: Counter[tuple[str, str, str]] = Counter()
    for cell in labels:
        outcome = outcome_of(cell)
        if outcome is not None:
            promised[outcome.label, outcome.promise.file, outcome.promise.text.strip("| ")] += 1
    lines = ["## Where it is promised\n", "| outcome | where | in these words | cells |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {label} | {file} | {text.replace('|', '·')} | {count} |" for (label, file, text), count in promised.items()
    ]
    return "\n".join([*lines, ""])


def _counts(labels: Mapping[Cell, str]) -> str:
    every = list(all_cells())
    counts: Counter[str] = Counter(labels.values())
    wrong = sum(1 for cell, label in labels.items() if label != _label(cell))

    def lines() -> Iterator[str]:
        yield "## Counts\n"
        yield f"- faults: {len(FAULTS)}, clients: {len(PATHS)}, columns: {len(Column)}"
        yield f"- cells: {len(every):,}, of which do not apply, or would last for ever: {_number(every, lambda cell: bool(cell.unfit)):,}"
        yield f"- cells run: {len(labels):,}"
        yield f"- outcomes: {', '.join(f'{label} {count}' for label, count in counts.most_common())}"
        yield f"- cells with another outcome than the documented one: {wrong}"
        yield f"- cells without a documented outcome: {_number(labels, lambda cell: outcome_of(cell) is None)}"

    return "\n".join([*lines(), ""])


def _label(cell: Cell) -> str:
    outcome = outcome_of(cell)
    return UNDOCUMENTED if outcome is None else outcome.label


def _number(cells: Mapping[Cell, str] | list[Cell], which: Callable[[Cell], bool]) -> int:
    return sum(1 for cell in cells if which(cell))
