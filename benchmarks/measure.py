"""What the benchmarks share: a row of the report, and running two things in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One claim, as measured.

    Attributes:
        what: what was measured.
        value: the figure, in the unit that `unit` names.
        unit: "x" for a ratio to the plain counterpart.
        target: what was aimed at.
        met: whether it was reached.
        note: the absolute figures behind the ratio.
    """

    what: str
    value: float
    unit: str
    target: str
    met: bool
    note: str = ""

    def __str__(self) -> str:
        mark = "ok" if self.met else "MISSED"
        return f"{self.what:<52} {self.value:>8.2f} {self.unit:<4} (target {self.target}) {mark:<6} {self.note}"


def alternate(ours: Callable[[], float], plain: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """Run both in turn, the order swapped from round to round, after one round that does not count."""
    ours(), plain()
    first, second = [], []
    for number in range(rounds):
        if number % 2:
            first.append(ours())
            second.append(plain())
        else:
            second.append(plain())
            first.append(ours())
    return first, second


def speed(what: str, ours: Callable[[], float], plain: Callable[[], float], *, least: float, rounds: int = 12) -> Row:
    """Compare two functions that return the seconds they took for the same work: above 1, ours is the faster."""
    first, second = alternate(ours, plain, rounds)
    ratio = statistics.median(b / a for a, b in zip(first, second, strict=True))
    note = f"{statistics.median(first) * 1e3:.2f} ms against {statistics.median(second) * 1e3:.2f} ms"
    return Row(what, ratio, "x", f">= {least}", ratio >= least, note)
