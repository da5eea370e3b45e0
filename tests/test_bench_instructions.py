"""What the guard of the hot paths decides: whose the counts are, what has grown, and when nothing can be said."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from benchmarks import instructions
from benchmarks.instructions import Count, Counted, Figure, assign, dump, is_other_build, judge, load, totals

PROFILE = """\
version: 1
part: 1
events: Ir sysCount sysTime
fn=(1) f
1 5 1 7
totals: 5000 20 7
part: 2
events: Ir sysCount sysTime
totals: 700 3
part: 3
events: Ir sysCount sysTime
totals: 90
"""


def counted(name="a path", ours=300, plain=100, calls=1):
    return Counted(name, Count(ours, calls), Count(plain, 1))


def test_totals_are_read_in_their_order_and_missing_ones_are_zero():
    """Callgrind leaves out the zeros at the end of a line."""
    assert list(totals(PROFILE.splitlines(keepends=True))) == [Count(5000, 20), Count(700, 3), Count(90, 0)]


def test_the_difference_of_n_and_2n_repetitions_is_what_is_counted():
    """Neither what comes before a mark nor what the loop takes by itself is in the figures."""
    done = [("first", 10), ("second", 20)]
    first = [Count(9999, 99), Count(1050, 11), Count(2050, 21), Count(8888, 88), Count(550, 1), Count(1050, 1)]
    second = [Count(9999, 99), Count(250, 1), Count(450, 1), Count(8888, 88), Count(140, 1), Count(240, 11)]
    assert assign(done, [*first, *second, Count(7777, 77)]) == [
        Counted("first", Count(100, 1), Count(50, 0)),
        Counted("second", Count(10, 0), Count(5, 0.5)),
    ]


def test_counts_that_are_too_few_are_an_error():
    """A mark that callgrind did not see would shift all that follow."""
    with pytest.raises(RuntimeError, match="1 paths were counted, and callgrind has written 6 counts"):
        assign([("first", 10)], [Count(1, 1)] * 6)


def test_a_path_within_the_tolerance_has_not_changed():
    """Nine percent more and nine percent less pass."""
    for ours in (327, 273):
        verdict = judge([counted(ours=ours)], {"a path": Figure(3.0, 100, 1.0)})
        assert (verdict.grown, verdict.shrunk, verdict.unknown, verdict.exit_code) == ([], [], [], 0)


def test_a_path_that_has_grown_fails_and_is_named():
    """Eleven percent more fail."""
    verdict = judge([counted(ours=333)], {"a path": Figure(3.0, 100, 1.0)})
    assert verdict.grown == ["a path: 3.33 times the plain instructions, 3.00 kept (+11%)"]
    assert verdict.exit_code == 1


def test_a_path_that_has_shrunk_is_named_and_passes():
    """What is kept is worth keeping again then."""
    verdict = judge([counted(ours=200)], {"a path": Figure(3.0, 100, 1.0)})
    assert verdict.shrunk == ["a path: 2.00 times the plain instructions, 3.00 kept (-33%)"]
    assert verdict.exit_code == 0


def test_one_more_system_call_fails_and_one_less_is_told():
    """Instructions say nothing of what the kernel does."""
    kept = {"a path": Figure(3.0, 100, 1.0)}
    assert judge([counted(calls=2)], kept).grown == ["a path: 2 system calls, 1 kept"]
    assert judge([counted(calls=0)], kept).shrunk == ["a path: 0 system calls, 1 kept"]


def test_a_path_without_a_figure_and_a_figure_without_a_path_are_told():
    """A path is not left out of the guard by giving it another name."""
    verdict = judge([counted("new")], {"old": Figure(3.0, 100, 1.0)})
    assert verdict.unknown == ["new: no figure is kept for it", "old: a figure is kept, and there is no such path"]
    assert verdict.exit_code == 2


def test_another_build_of_python_is_noticed():
    """It is one where most plain counterparts have changed, whatever ours do."""
    kept = {name: Figure(3.0, 100, 1.0) for name in "abc"}
    assert not is_other_build([counted("a", plain=200), counted("b"), counted("c", ours=999)], kept)
    assert is_other_build([counted("a", plain=95), counted("b", plain=105), counted("c")], kept)
    assert not is_other_build([counted("d", plain=200)], kept)


def test_what_is_written_is_read_again():
    """The versions are in their order, the paths in that of the program."""
    kept = {
        "3.12": {"b": Figure(1.25, 500, 2.0), "a path, with a comma": Figure(0.9, 7, 0.0)},
        "3.9": {"a": Figure(3.0, 100, 1.0)},
    }
    text = dump(kept)
    assert load(text) == kept
    assert text.index('["3.9"]') < text.index('["3.12"]')
    assert list(load(text)["3.12"]) == ["b", "a path, with a comma"]


@pytest.mark.parametrize(
    ("allowed", "code"), [((), 2), (("--may-lack", "figures"), 2), (("--may-lack", "valgrind"), 0)]
)
def test_without_valgrind_it_says_so_and_fails_unless_that_is_allowed(monkeypatch, capsys, allowed, code):
    """Nothing is skipped silently."""
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sys.argv", ["instructions", *allowed])
    assert instructions.main() == code
    assert "valgrind is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("allowed", "code"), [((), 2), (("--may-lack", "valgrind"), 2), (("--may-lack", "figures"), 0)]
)
def test_without_figures_of_this_python_it_says_so_and_fails_unless_that_is_allowed(
    monkeypatch, tmp_path, capsys, allowed, code
):
    """Nor is a new version of Python left without a guard unnoticed."""
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(instructions, "KEPT", str(tmp_path / "kept.toml"))
    monkeypatch.setattr("sys.argv", ["instructions", *allowed])
    assert instructions.main() == code
    assert f"no figures are kept for Python {instructions.VERSION}" in capsys.readouterr().err


def test_keeping_replaces_the_figures_of_this_python_alone(monkeypatch, tmp_path, capsys):
    """Those of other versions stay; then what was kept is met, and what grows from there fails."""
    path = tmp_path / "kept.toml"
    other = {"2.7": {"a path": Figure(9.0, 900, 9.0)}}
    path.write_text(dump({**other, instructions.VERSION: {"gone": Figure(1.0, 1, 1.0)}}))
    monkeypatch.setattr(instructions, "KEPT", str(path))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(instructions, "count", lambda: [counted()])
    monkeypatch.setattr("sys.argv", ["instructions", "--keep"])
    assert instructions.main() == 0
    assert load(path.read_text()) == {**other, instructions.VERSION: {"a path": Figure(3.0, 100, 1.0)}}
    monkeypatch.setattr("sys.argv", ["instructions"])
    assert instructions.main() == 0
    monkeypatch.setattr(instructions, "count", lambda: [counted(ours=400)])
    assert instructions.main() == 1
    assert "grown: a path: 4.00 times" in capsys.readouterr().err


def test_every_path_can_be_repeated():
    """What the counted process does ends, with as many repetitions as it has there, and no name comes twice."""
    command = [sys.executable, "-m", "benchmarks.instructions", "--child"]
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    done = json.loads(run.stdout)
    assert len(done) == len({name for name, _ in done}) > 20
