"""Whether what a process takes grows: the slope of samples by least squares, how sure that is, and a picture of it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tests.stress.picture import BLUE, GREY, ORANGE, picture

#: How many samples it takes to say anything.
LEAST = 3


@dataclass(frozen=True)
class Trend:
    """A straight line through samples.

    Attributes:
        level: what there was on average.
        slope: by how much it grows in a minute.
        margin: half of the interval in which the slope lies with 95 % confidence.
    """

    level: float
    slope: float
    margin: float

    def is_flat(self, limit: float) -> bool:
        """Whether it does not grow, or by less than `limit` a minute: for all that is known (the interval includes 0), or for sure."""
        return self.slope - self.margin <= 0 or self.slope + self.margin < limit


def fit(minutes: Sequence[float], samples: Sequence[float]) -> Trend:
    """The line through samples, which were taken at these times.

    Raises:
        ValueError: there are too few of them.
    """
    freedom = len(samples) - 2
    if freedom < 1:
        raise ValueError(f"it takes {LEAST} samples to tell, and there are {len(samples)}")
    slope, level = statistics.linear_regression(minutes, samples)
    rest = sum((sample - level - slope * minute) ** 2 for minute, sample in zip(minutes, samples, strict=True))
    spread = sum((minute - statistics.fmean(minutes)) ** 2 for minute in minutes)
    margin = _student(freedom) * math.sqrt(rest / freedom / spread)
    return Trend(statistics.fmean(samples), slope, margin)


def _student(freedom: int) -> float:
    # The 97.5 % quantile of Student's t, exact for 1 and 2 degrees of freedom, else by its expansion about the normal one
    # (Abramowitz and Stegun, 26.7.5): with 3 it is 2 % too small, with 10 and more it is exact in all digits that are printed.
    if freedom <= 2:
        return (12.7062, 4.3027)[freedom - 1]
    z = statistics.NormalDist().inv_cdf(0.975)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


@dataclass(frozen=True)
class Row:
    """One part of a picture.

    Attributes:
        what: its title.
        unit: of the slope, such as "KiB".
        busy: minutes, and samples that are shown, but not judged.
        resting: minutes, and samples of which the trend is about those after the warm-up.
        trend: in the unit.
        size: how many units one of the samples is.
    """

    what: str
    unit: str
    busy: tuple[Sequence[float], Sequence[float]]
    resting: tuple[Sequence[float], Sequence[float]]
    trend: Trend
    size: int


def draw(path: str, title: str, warm_up: float, rows: Sequence[Row]) -> None:
    """Draw samples and their trends as an SVG.

    Args:
        path: of the picture; one that ends in ".png" is on white.
        title: above it.
        warm_up: minutes at the beginning that the trend is not about.
        rows: one below the other.

    Raises:
        ImportError: matplotlib is not there.
    """
    with picture(path, title, rows=len(rows), sharex=True) as axes:
        for axis, row in zip(axes, rows, strict=True):
            axis.plot(*row.busy, ".", markersize=2, color=GREY)
            axis.plot(*row.resting, "o", markersize=4, color=BLUE)
            judged = [minute for minute in row.resting[0] if minute > warm_up]
            ends = [judged[0], judged[-1]]
            middle = statistics.fmean(judged)
            line = [(row.trend.level + row.trend.slope * (end - middle)) / row.size for end in ends]
            axis.plot(ends, line, color=ORANGE, linewidth=2)
            axis.axvspan(0, warm_up, color=GREY, alpha=0.15, linewidth=0)
            axis.set_ylim(0, 1.15 * max([*row.busy[1], *row.resting[1]]))
            slope = f"{row.trend.slope:+.3g} ± {row.trend.margin:.2g}{row.unit and f' {row.unit}'} a minute"
            axis.set_title(f"{row.what}: {slope}", loc="left", fontsize=10)
            axis.margins(x=0.01)
        axes[-1].set_xlabel("minutes")
