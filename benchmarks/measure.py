"""What the benchmarks share: how several do the same work in turn, and what came of it.

Whatever is compared takes turns in one run, in an order that changes from round to round, so that what the machine does
else meets all of it. A figure is the median of the rounds' ratios, with the quartiles beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

#: Does the work once, and returns what it took, or made, in the comparison's unit.
Run = Callable[[], float]


@dataclass(frozen=True)
class Ratio:
    """How many times as good as another one is: above 1, it is ahead; the quartiles are those of the rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Ratio:
        """The median and the quartiles of what each round came to."""
        if len(ratios) < 2:
            return cls(ratios[0], ratios[0], ratios[0])
        low, median, high = statistics.quantiles(ratios, n=4, method="inclusive")
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


@dataclass(frozen=True)
class Comparison:
    """One piece of work, and what each of those who did it took.

    Attributes:
        what: the work.
        unit: of the samples: "s", "B/s", or what is counted.
        samples: by who did it; the n-th of each are of the same round. The first is ours.
        better: whether the "lower" sample is the better one, or the "higher".
        least: by the name of another: how many times as good as it ours has to be at least.
        left_out: by the name of another: why it did not take part.
    """

    what: str
    unit: str
    samples: Mapping[str, Sequence[float]]
    better: str = "lower"
    least: Mapping[str, float] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        """The name of what all others are compared with."""
        return next(iter(self.samples))

    @property
    def others(self) -> list[str]:
        """The names of all others."""
        return list(self.samples)[1:]

    def ratio(self, other: str) -> Ratio:
        """How many times as good as `other` ours is."""
        pairs = zip(self.samples[self.ours], self.samples[other], strict=True)
        return Ratio.of([theirs / ours if self.better == "lower" else ours / theirs for ours, theirs in pairs])

    def median(self, name: str) -> float:
        """The median of one's samples, in the unit."""
        return statistics.median(self.samples[name])

    def missed(self) -> dict[str, float]:
        """By the name of another: how many times as good as it ours should have been, and was not."""
        return {other: least for other, least in self.least.items() if self.ratio(other).median < least}


def in_turn(runs: Mapping[str, Run], rounds: int, *, warm_up: int = 1) -> dict[str, list[float]]:
    """Have each run once a round, a different one first in each; the rounds of the warm-up do not count."""
    names = list(runs)
    samples: dict[str, list[float]] = {name: [] for name in names}
    for number in range(-warm_up, rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            sample = runs[name]()
            if number >= 0:
                samples[name].append(sample)
    return samples


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
