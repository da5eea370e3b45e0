"""`python -m tests.matrix`: runs the matrix, and prints it as a page of Markdown, which is docs/matrix.md.

    python -m tests.matrix > docs/matrix.md
    python -m tests.matrix --fault "stall in the body" --path download     # some of it, to look at

How far it is goes to stderr. It ends with 1 if a cell has not the outcome that is documented, or breaks what holds in every cell.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests.matrix.catalogue import FAULTS
from tests.matrix.cells import Cell, all_cells, play
from tests.matrix.outcomes import judge
from tests.matrix.paths import PATHS
from tests.matrix.table import page


def run(cells: Sequence[Cell]) -> tuple[dict[Cell, str], list[str]]:
    """Run cells; what became of each, and what went wrong in some."""
    labels, wrong = {}, []
    for number, cell in enumerate(cells, 1):
        sys.stderr.write(f"\r{number}/{len(cells)} {cell!s:100}")
        try:
            labels[cell] = judge(cell, play(cell))
        except AssertionError as error:
            labels[cell] = "**broken**"
            wrong.append(f"{cell}: {error}")
        else:
            if "**" in labels[cell]:
                wrong.append(f"{cell}: {labels[cell]}")
    sys.stderr.write("\n")
    return labels, wrong


def main() -> int:
    """Do what was asked for; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--fault", choices=FAULTS, help="only this one")
    parser.add_argument("--path", choices=PATHS, help="only this one")
    asked = parser.parse_args()
    wanted = [
        cell
        for cell in all_cells()
        if not cell.unfit and asked.fault in (None, cell.fault.name) and asked.path in (None, cell.path.name)
    ]
    labels, wrong = run(wanted)
    sys.stdout.write(page(labels))
    for line in wrong:
        sys.stderr.write(f"{line}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
