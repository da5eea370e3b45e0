"""The README's code runs, and prints what the README says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"

# A block of Python, and the block of text after it, if one follows, as what it prints.
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", README.read_text(), re.DOTALL)


def test_has_examples():
    """The blocks are found, and the first one is short and shows what it prints."""
    assert len(BLOCKS) >= 4
    code, output = BLOCKS[0]
    assert output
    assert len([line for line in code.splitlines() if line.strip()]) <= 12


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number, tmp_path):
    """A block, as a program of its own, ends by itself, without a warning, and prints what is shown."""
    code, output = BLOCKS[number]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=30, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    if output:
        assert done.stdout == output
