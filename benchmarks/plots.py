"""What the benchmarks found, as pictures: how stop latencies are distributed, how throughputs compare, how things scale."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.measure import Comparison
from benchmarks.report import quantity
from tests.stress.picture import BLUE, GREEN, GREY, ORANGE, PURPLE, picture

_LINES = (ORANGE, BLUE, GREEN, PURPLE, GREY)  # ours is the first


def distribution(path: str, title: str, comparison: Comparison) -> None:
    """Each one's samples in seconds as a strip on a logarithmic axis, with the median: the fastest above.

    Raises:
        ImportError: matplotlib is not there.
    """
    names = sorted(comparison.samples, key=comparison.median, reverse=True)
    with picture(path, title, height=0.28 * len(names) + 0.6) as [axis]:
        for at, name in enumerate(names):
            samples = comparison.samples[name]
            colour = ORANGE if name == comparison.ours else BLUE
            # One above the other in the order in which they came: what lies on one line would hide how many there are.
            heights = [at - 0.3 + 0.6 * (number + 0.5) / len(samples) for number in range(len(samples))]
            axis.plot(samples, heights, ".", markersize=3, color=colour, alpha=0.6, markeredgewidth=0)
            axis.plot([comparison.median(name)] * 2, [at - 0.42, at + 0.42], color=colour, linewidth=2)
        axis.set_xscale("log")
        _label(axis.xaxis, lambda seconds: quantity(seconds, "s"))
        axis.set_yticks(range(len(names)), names)
        axis.set_xlabel("from the stop to the first line behind the blocked call; the bar is the median", loc="right")


def bars(path: str, title: str, comparisons: Sequence[Comparison]) -> None:
    """A bar for each ratio, with its quartiles; the line at 1 is where ours is no better and no worse.

    Raises:
        ImportError: matplotlib is not there.
    """
    rows = [(f"{one.what}, {other}", one.ratio(other)) for one in comparisons for other in one.others][::-1]
    with picture(path, title, height=0.24 * len(rows) + 0.6) as [axis]:
        for at, (_, ratio) in enumerate(rows):
            colour = BLUE if ratio.median >= 1 else ORANGE
            axis.barh(at, ratio.median, color=colour, height=0.7)
            axis.plot([ratio.low, ratio.high], [at, at], color=GREY, linewidth=2)
        axis.axvline(1, color=GREY, linewidth=1.5)
        axis.set_xscale("log")
        _label(axis.xaxis, lambda ratio: f"{ratio:g}", within=(1, 2, 5))
        axis.set_ylim(-0.6, len(rows) - 0.4)
        axis.set_yticks(range(len(rows)), [name for name, _ in rows])
        axis.set_xlabel("how many times as fast ours is")


def curves(path: str, title: str, comparisons: Sequence[Comparison]) -> None:
    """For all works that are called "..., n = NUMBER" alike: what each takes against n, both on logarithmic axes.

    Raises:
        ImportError: matplotlib is not there.
    """
    series: dict[str, dict[int, Comparison]] = {}
    for one in comparisons:
        if (found := re.fullmatch(r"(.*), n = ([\d,]+)", one.what)) is not None:
            series.setdefault(found[1], {})[int(found[2].replace(",", ""))] = one
    drawn = {what: by_n for what, by_n in series.items() if len(by_n) > 1}
    with picture(path, title, rows=len(drawn), height=2.4) as axes:
        for axis, (what, by_n) in zip(axes, drawn.items(), strict=True):
            names = list(dict.fromkeys(name for one in by_n.values() for name in one.samples))
            for colour, name in zip(_LINES, names, strict=False):
                points = [(n, one.median(name)) for n, one in sorted(by_n.items()) if name in one.samples]
                axis.plot(*zip(*points, strict=True), "o-", markersize=4, color=colour, label=name)
            axis.set_xscale("log")
            axis.set_yscale("log")
            _label(axis.xaxis, lambda n: f"{n:,.0f}")
            _label(axis.yaxis, lambda seconds: quantity(seconds, "s"))
            axis.set_title(what, loc="left", fontsize=10)
            axis.legend(frameon=False, fontsize=9, labelcolor="#1f2328")
        if axes:
            axes[-1].set_xlabel("n")


def _label(axis: Any, text: Callable[[float], str], within: Sequence[int] = (1,)) -> None:
    """Have the values of a logarithmic axis written as people read them, these of each power of ten."""
    from matplotlib import ticker

    axis.set_major_locator(ticker.LogLocator(subs=within))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(lambda value, _position: text(value))


_DRAWN: dict[str, Callable[[str, list[Comparison]], None]] = {
    "latency": lambda path, comparisons: distribution(path, comparisons[0].what, comparisons[0]),
    "throughput": lambda path, comparisons: bars(path, "throughput", comparisons),
    "downloads": lambda path, comparisons: bars(path, "downloads", comparisons),
    "scale": lambda path, comparisons: curves(path, "scaling", comparisons),
}


def draw(group: str, comparisons: list[Comparison], folder: str) -> str | None:
    """Draw what a group has found, if there is a picture for it; return the name of the file in `folder`.

    Raises:
        ImportError: matplotlib is not there.
    """
    if group not in _DRAWN or not comparisons:
        return None
    name = f"bench-{group}.svg"
    _DRAWN[group](os.path.join(folder, name), comparisons)
    return name
