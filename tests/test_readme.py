"""The README begins with a short example, and its file of tests passes. That its code runs is seen by `test_docs_blocks.py`."""

from __future__ import annotations

from tests.docs_blocks import TOP, blocks_of
from tests.guide_check import run_tests, write_project

README = TOP / "README.md"


def test_begins_with_an_example():
    """The first block is short and shows what it prints."""
    first = blocks_of(README)[0]
    assert first.output
    assert len([line for line in first.code.splitlines() if line.strip()]) <= 12


def test_the_test_that_it_shows(tmp_path):
    """The file of tests in it passes, with what the package brings along."""
    assert write_project(tmp_path, README) == ["test_stop.py"]
    assert run_tests(tmp_path, ["-W", "error", "-p", "no:cacheprovider"]).startswith("5 passed")
