"""Run by `make guide` in an environment that has only the built wheel and pytest, outside the tree: does the guide hold?

    python tests/guide_check.py [--rounds N] [PYTEST-ARGUMENT...]

The blocks of `docs/testing.md` that have a title are the files of a project. It is written as a reader of the guide would
write it, word by word, and its tests are run.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

GUIDE = Path(__file__).parent.parent / "docs" / "testing.md"


def write_project(folder: Path, page: Path = GUIDE) -> list[str]:
    """Write the project of a page, the guide's by default; returns the names of its files."""
    files: dict[str, str] = {}
    for name, code in re.findall(r'```python title="(.+?)"\n(.*?)```', page.read_text(), re.DOTALL):
        files[name] = f"{files[name]}\n\n{code}" if name in files else code
    for name, code in files.items():
        (folder / name).write_text(code)
    return sorted(files)


def run_tests(folder: Path, arguments: list[str]) -> str:
    """Run the project's tests as its author would; returns the last line that is printed, or raises with all of it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "PYTHONPATH"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{done.stdout}\n{done.stderr}")
    return done.stdout.splitlines()[-1].strip("= ")


def main() -> None:
    """Run the tests so many times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    options, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        write_project(Path(folder))
        seconds = []
        for _ in range(options.rounds):
            began = time.perf_counter()
            said = run_tests(Path(folder), arguments)
            seconds.append(time.perf_counter() - began)
    print(
        f"the guide's project, {options.rounds} times with {arguments}: the last said {said!r};"
        f" median {statistics.median(seconds):.2f} s, slowest {max(seconds):.2f} s"
    )


if __name__ == "__main__":
    main()
