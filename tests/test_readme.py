"""The code of the README and of the guides runs, and prints what they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guide_check import run_tests

TOP = Path(__file__).parent.parent
README = TOP / "README.md"
PAGES = [README, *sorted((TOP / "docs").glob("*.md"))]

# By page and number: a block of Python, and the block of text after it, if one follows, as what it prints. Blocks with a title
# are files of a project; they are run as such.
BLOCKS = {
    f"{page.name}-{number}": block
    for page in PAGES
    for number, block in enumerate(
        re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", page.read_text(), re.DOTALL)
    )
}


def test_has_examples():
    """The blocks are found, and the first one is short and shows what it prints."""
    assert len(BLOCKS) >= 4
    code, output = BLOCKS["README.md-0"]
    assert output
    assert len([line for line in code.splitlines() if line.strip()]) <= 12


@pytest.mark.parametrize("name", BLOCKS)
def test_block_runs(name, tmp_path):
    """A block, as a program of its own, ends by itself, without a warning, and prints what is shown."""
    code, output = BLOCKS[name]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if output:
        assert done.stdout == output


def test_the_test_that_it_shows(tmp_path):
    """The file of tests in it passes, with what the package brings along."""
    ((name, code),) = re.findall(r'```python title="(.+?)"\n(.*?)```', README.read_text(), re.DOTALL)
    (tmp_path / name).write_text(code)
    assert run_tests(tmp_path, ["-W", "error", "-p", "no:cacheprovider"]).startswith("5 passed")
