"""Pictures that look the same each time, and are read on light and on dark: the frame around what is drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Colours that are seen on both; text follows the reader's preference.
GREY, BLUE, ORANGE, GREEN, PURPLE = "#8b949e", "#3d8bd4", "#d9822b", "#3fa45b", "#a371d6"
_STYLE = """<style>
text, tspan { fill: #1f2328 !important; }
@media (prefers-color-scheme: dark) { text, tspan { fill: #e6edf3 !important; } }
</style>"""


@contextmanager
def picture(path: str, title: str, *, rows: int = 1, height: float = 1.9, sharex: bool = False) -> Iterator[list[Any]]:
    """A block that draws; behind it the picture is written.

    Args:
        path: of the picture, an SVG whose texts are texts; one that ends in ".png" is on white.
        title: above it.
        rows: how many axes there are, one below the other: these are what the block gets.
        height: of each, in inches.
        sharex: whether they all have the x axis of the last one.

    Raises:
        ImportError: matplotlib is not there.
    """
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    mpl.rcParams |= {
        "svg.fonttype": "none",
        "svg.hashsalt": "iointerrupt",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.edgecolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "xtick.labelcolor": "#1f2328",
        "ytick.labelcolor": "#1f2328",
    }
    figure: Any
    figure, axes = plt.subplots(
        rows, 1, sharex=sharex, squeeze=False, figsize=(8, height * rows + 0.7), layout="constrained"
    )
    try:
        figure.suptitle(title, fontsize=11)
        for axis in axes[:, 0]:
            axis.grid(visible=True, color=GREY, alpha=0.3, linewidth=0.6)
            axis.set_axisbelow(True)
            axis.spines[["top", "right"]].set_visible(False)
        yield list(axes[:, 0])
        is_svg = path.endswith(".svg")
        figure.savefig(path, transparent=is_svg, metadata={"Date": None} if is_svg else None)
    finally:
        plt.close(figure)
    if is_svg:
        _follow_preference(path)


def _follow_preference(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        drawn = file.read()
    begin = drawn.index(">", drawn.index("<svg ")) + 1
    lines = (drawn[:begin] + "\n" + _STYLE + drawn[begin:]).splitlines()
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(line.rstrip() for line in lines) + "\n")
