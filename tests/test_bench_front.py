"""`benchmarks.front`: the README's table says what was measured."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import front
from benchmarks.measure import Comparison

ROOT = Path(__file__).parent.parent


def test_every_line_is_of_something_that_is_measured():
    """Each comparison that the table picks, and each of those beside it, is on the page of the benchmarks."""
    rows = [
        line.split(" | ") for line in (ROOT / "docs/benchmarks.md").read_text().splitlines() if line.startswith("| ")
    ]
    beside: dict[str, list[str]] = {}
    what = ""
    for row in rows:
        what = row[0].removeprefix("|").strip() or what
        beside.setdefault(what, []).append(row[1].strip())
    for label, name, others in front.LINES:
        if name:
            found = [each for each in beside if each == name or each.startswith(f"{name}, ")]
            assert found, label
            for other in others:
                assert any(each.startswith(other) for each in beside[found[0]]), (label, other)


def test_readme_has_the_figures_of_the_page():
    """What the README says of a comparison is what the page says, so both are of one run."""
    page = (ROOT / "docs/benchmarks.md").read_text()
    readme = (ROOT / "README.md").read_text()
    table = readme.partition(front.BEGIN)[2].partition(front.END)[0]
    rows = [line.removesuffix(" |").split(" | ") for line in table.splitlines() if " to " in line]
    rows = [row for row in rows if "." in row[-1]]  # those of hundreds are rounded
    assert len(rows) > 30
    assert [row for row in rows if f"| {row[3]} | {row[4]} |" not in page] == []


def test_table():
    """A line for each who is beside, in the words of the README; what was not measured is left out."""
    copy = Comparison(
        "file: copy", "B/s", {"iointerrupt": [2.0 * 2**30] * 3, "shutil.copy2": [2.0**30] * 3}, better="higher"
    )
    table = front.table({"throughput": [copy]})
    assert "| `files.copy` | shutil.copy2 | 2 GiB/s | 1 GiB/s | 2.00 (2.00 to 2.00) |" in table
    assert "pipe" not in table


def test_put_into():
    """Only what is between the marks is replaced, and again in the same way."""
    text = f"before\n{front.BEGIN}\nold\n{front.END}\nafter\n"
    once = front.put_into(text, {})
    assert once.startswith(f"before\n{front.BEGIN}\n`make bench` printed this")
    assert once.endswith(f"{front.END}\nafter\n")
    assert front.put_into(once, {}) == once
    with pytest.raises(ValueError, match="there is no"):
        front.put_into("nothing", {})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--readme", "README.md", "idle"], "--readme is for a whole run"),
        (["--readme", "README.md", "--quick"], "--readme is for a whole run"),
        (["--readme", "LICENSE"], "there is no"),
        (["--docs", "nowhere"], "nowhere is no folder"),
        (["nothing"], "unknown group nothing"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_measured(capsys, monkeypatch, arguments, said):
    """A run of minutes does not end in an error that was there from the beginning."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit):
        program.main()
    assert said in capsys.readouterr().err
