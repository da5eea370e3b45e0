"""The project that `docs/testing.md` writes, step by step, is one whose tests pass."""

from __future__ import annotations

import pytest

from tests.guide_check import run_tests, write_project


def test_the_project(tmp_path):
    """A downloader of twenty lines, thirty tests and more, each of which passes, without a warning and without a sleep."""
    assert write_project(tmp_path) == ["downloader.py", "test_downloader.py", "test_mocked.py"]
    lines = (tmp_path / "downloader.py").read_text().splitlines()
    assert len([line for line in lines if line and not line.startswith(("import", "from", '"""'))]) <= 20
    assert all("sleep" not in file.read_text() for file in tmp_path.iterdir())
    said = run_tests(tmp_path, ["-W", "error", "-p", "no:cacheprovider"])
    passed, _, rest = said.partition(" passed")
    assert int(passed) >= 30
    assert "failed" not in rest


def test_a_guide_that_does_not_hold(tmp_path):
    """A test of the project that fails is shown."""
    write_project(tmp_path)
    (tmp_path / "downloader.py").write_text("def download(*args, **kwargs):\n    pass\n")
    with pytest.raises(AssertionError, match="test_complete"):
        run_tests(tmp_path, ["-k", "test_complete", "-p", "no:cacheprovider"])
