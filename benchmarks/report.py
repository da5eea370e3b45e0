"""What the benchmarks found, as text: a line for a terminal, a table in Markdown, and JSON with every sample."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.measure import Comparison, Row

Result = Comparison | Row
_COLUMNS = "| work | beside | ours | theirs | ours is ahead by | wanted |"


def machine() -> str:
    """What it was measured with."""
    return (
        f"CPython {platform.python_version()}, {platform.system()} {platform.release().partition('-')[0]}, "
        f"{len(os.sched_getaffinity(0))} cores"
    )


def quantity(value: float, unit: str) -> str:
    """A figure as people read it: `quantity(0.000012, "s")` is "12 us"."""
    if value == 0:
        return f"0 {unit}".rstrip()
    if unit == "s":
        for size, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")):
            if abs(value) >= size or name == "ns":
                return f"{value / size:.3g} {name}"
    if unit == "B/s":
        for size, name in ((1 << 30, "GiB/s"), (1 << 20, "MiB/s"), (1 << 10, "KiB/s")):
            if value >= size:
                return f"{value / size:.3g} {name}"
    return (f"{value:,.0f} {unit}" if abs(value) >= 1000 else f"{value:.3g} {unit}").rstrip()


def lines(result: Result) -> Iterator[str]:
    """What a terminal shows of one result."""
    if isinstance(result, Row):
        yield str(result)
        return
    unit = result.unit
    yield f"{result.what}: {quantity(result.median(result.ours), unit)}"
    missed = result.missed()
    for other in result.others:
        wanted = (
            f"  {'MISSED' if other in missed else 'ok'}, wanted {result.least[other]:g}"
            if other in result.least
            else ""
        )
        yield f"    {other:<42} {quantity(result.median(other), unit):>10}  x {result.ratio(other)}{wanted}"
    for other, why in result.left_out.items():
        yield f"    {other:<42} left out: {why}"


def markdown(groups: Mapping[str, Sequence[Result]]) -> str:
    """A section with a table for each group."""
    parts = []
    for group, results in groups.items():
        comparisons = [result for result in results if isinstance(result, Comparison)]
        claims = [result for result in results if isinstance(result, Row)]
        part = [f"## {group.capitalize()}", ""]
        if comparisons:
            part += [_COLUMNS, "| --- | --- | --: | --: | --: | --- |"]
            part += [line for comparison in comparisons for line in _rows(comparison)]
            part.append("")
        if claims:
            part += ["| claim | figure | wanted |", "| --- | --: | --- |"]
            part += [
                f"| {row.what} | {f'{row.value:,.3g} {row.unit}'.rstrip()} | {row.target}{'' if row.met else ': **missed**'} |"
                for row in claims
            ]
            part.append("")
        left_out = {other: why for comparison in comparisons for other, why in comparison.left_out.items()}
        part += [f"- left out: {other}, {why}" for other, why in left_out.items()]
        parts.append("\n".join(part).rstrip())
    return "\n\n".join(parts) + "\n"


def _rows(comparison: Comparison) -> Iterator[str]:
    missed = comparison.missed()
    ours = quantity(comparison.median(comparison.ours), comparison.unit)
    if not comparison.others:
        yield f"| {comparison.what} |  | {ours} |  |  |  |"
    for number, other in enumerate(comparison.others):
        least = comparison.least.get(other)
        wanted = "" if least is None else f"{least:g}" + (": **missed**" if other in missed else "")
        first = (comparison.what, ours) if number == 0 else ("", "")
        yield (
            f"| {first[0]} | {other} | {first[1]} | {quantity(comparison.median(other), comparison.unit)}"
            f" | {comparison.ratio(other)} | {wanted} |"
        )


def page(groups: Mapping[str, Sequence[Result]], pictures: Mapping[str, str], command: str) -> str:
    """The page of the documentation; `pictures` are files beside it, by group."""
    head = f"""# Benchmarks

What `{command}` printed, on {machine()}. Whatever is compared takes turns in one run, so that what the machine does else meets all
of it. *Ours is ahead by* is how many times as good ours was, the median of the rounds, with their quartiles: above 1, ours is the faster one.
Figures are medians. *Wanted* is what we hold ourselves to; where the time goes in what is behind is on the page of the [profile](profile.md).

{summary(groups)}.
"""
    tables = markdown(groups)
    for group, name in pictures.items():
        title = f"## {group.capitalize()}\n"
        tables = tables.replace(title, f"{title}\n![{group.capitalize()}]({name})\n")
    return f"{head}\n{tables}"


def plain(groups: Mapping[str, Sequence[Result]]) -> dict[str, Any]:
    """All of it for `json`, with the medians of the ratios beside the samples."""
    return {
        "machine": machine(),
        "groups": {
            group: [
                asdict(result)
                | (
                    {"ratios": {other: asdict(result.ratio(other)) for other in result.others}}
                    if isinstance(result, Comparison)
                    else {}
                )
                for result in results
            ]
            for group, results in groups.items()
        },
    }


def summary(groups: Mapping[str, Sequence[Result]]) -> str:
    """How many comparisons met what was wanted of them, and the median of all ratios."""
    wanted = [
        (other in result.missed(), result.ratio(other).median)
        for results in groups.values()
        for result in results
        if isinstance(result, Comparison)
        for other in result.least
    ]
    if not wanted:
        return "nothing was wanted of these"
    missed = sum(is_missed for is_missed, _ in wanted)
    ratios = statistics.median(ratio for _, ratio in wanted)
    return (
        f"{len(wanted) - missed} of {len(wanted)} comparisons are as wanted; the median of their ratios is {ratios:.2f}"
    )
