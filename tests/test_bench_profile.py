"""`benchmarks.stages` and `benchmarks.shares`: where the time goes."""

from __future__ import annotations

import sys

import pytest

from benchmarks import profile, shares, stages


def test_stages_come_one_after_the_other():
    """Of each thing that is stopped, the stages of the thread that was blocked are in order, and end at the caller."""
    found = dict(stages.measure(3))
    assert len(found) == 7
    for what, reached in found.items():
        assert list(reached)[-1] == stages.OUT, what
        blocked = [reached[stage] for stage in (stages.AWAKE, stages.CLOSED, stages.OUT) if stage in reached]
        assert blocked == sorted(blocked), what
        assert min(reached.values()) > 0, what
    assert stages.TOLD in found["socket receive, by a multiprocessing.Event"]
    assert stages.CLOSED in found["HTTP body, by a StopEvent"]


def test_shares_are_of_who_runs_or_has_called():
    """What is called in C counts as its caller's, here the module of this test, and the parts make up the whole."""
    found = shares.shares(lambda: sum(range(100_000)), 0.3)
    assert found["all"] == pytest.approx(sum(found.values()) - found["all"])
    assert max(found, key=lambda package: (package != "all", found[package])) == "other modules of Python"


def test_page(capsys, monkeypatch):
    """The page has the tables, with a column for each who takes part."""
    monkeypatch.setattr(profile, "_ROUNDS", 2)
    monkeypatch.setattr(profile, "_QUICK", 1)
    monkeypatch.setattr(shares, "measure", lambda _seconds: [("work", {"ours": {"all": 1.0, "a": 0.99, "b": 0.01}})])
    monkeypatch.setattr(sys, "argv", ["profile", "--quick"])
    assert profile.main() == 0
    out = capsys.readouterr().out
    assert "What `python -m benchmarks.profile --quick` printed" in out
    assert "| socket receive, by a StopEvent |" in out
    assert "### Work\n\n|  | ours |\n| --- | --: |\n| all | 1 s |\n| a | 990 ms |\n| the rest | 10 ms |\n" in out


def test_no_folder(capsys, monkeypatch):
    """A folder for the page that is not there is refused before anything is measured."""
    monkeypatch.setattr(sys, "argv", ["profile", "--docs", "/nowhere"])
    with pytest.raises(SystemExit):
        profile.main()
    assert "/nowhere is no folder" in capsys.readouterr().err
