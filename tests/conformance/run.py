"""CPython's own `test_socket` and `test_ssl`, which come with the interpreter, as the judge of "a drop-in".

Each suite runs with the standard classes (what fails or is skipped there is this machine's business), with ours in their
place (plain), and with ours and a current stop that never fires (stop). A test that passes with the standard classes has
to pass with ours, or be listed in `exceptions.toml` with the reason; one that is listed has to fail.

    python tests/conformance/run.py [--python PYTHON]

PYTHON is an interpreter that has the tests, this one unless given; it need not have iointerrupt installed. The exit status
is 0 only if all is as it should be.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

_HERE = Path(__file__).parent
_SUITES = {"test_socket": 400, "test_ssl": 120}  # with the least number of tests that must have passed
_MODES = ("stock", "plain", "stop")
_LIMIT = 200  # seconds for one suite in one mode


class Row(NamedTuple):
    """What one suite in one mode came to; `problems` are the lines that say what is wrong."""

    suite: str
    mode: str
    run: int
    passed: int
    excepted: int
    skipped: int
    problems: list[str]


def read_exceptions(version: str) -> list[str]:
    """The patterns of test ids that cannot hold on this version of Python ("3.11.7")."""
    entries = tomllib.loads((_HERE / "exceptions.toml").read_text(encoding="utf-8"))["exception"]
    minor = version.rpartition(".")[0]
    for entry in entries:
        if not entry["reason"]:
            raise ValueError(f"no reason is given for {entry['tests']}")
    return [pattern for entry in entries if minor in entry.get("python", [minor]) for pattern in entry["tests"]]


def run_suite(python: str, suite: str, mode: str) -> dict[str, Any]:
    """The result that `child.py` wrote, or `{"broken": why}`."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        environment = {**os.environ, "TMPDIR": folder, "PYTHONPATH": str(_HERE.parent.parent)}
        command = [python, "-W", "ignore", str(_HERE / "child.py"), suite, mode, str(result)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_LIMIT, check=False, env=environment, cwd=folder
            )
        except subprocess.TimeoutExpired:
            return {"broken": f"it has not ended after {_LIMIT} s"}
        if not result.exists():
            return {"broken": f"it ended with status {done.returncode}:\n{done.stderr[-4000:]}"}
        loaded: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return loaded


def judge(suite: str, mode: str, result: dict[str, Any], stock: dict[str, Any], exceptions: list[str]) -> Row:
    """Compare what a run came to with the run of the standard classes."""
    if "broken" in result or "broken" in stock:
        return Row(suite, mode, 0, 0, 0, 0, [str(result.get("broken") or "there is no run to compare with")])
    outcomes: dict[str, str] = result["outcomes"]
    passed = [test for test, outcome in outcomes.items() if outcome == "pass"]
    skipped = [test for test, outcome in outcomes.items() if outcome == "skip"]
    problems = []
    excepted = 0
    for test, expected in stock["outcomes"].items():
        if expected != "pass":
            continue
        outcome = outcomes.get(test, "not run")
        is_listed = mode != "stock" and any(fnmatch.fnmatchcase(test, pattern) for pattern in exceptions)
        if is_listed and outcome == "pass":
            problems.append(f"{test} is listed in exceptions.toml, but passes: remove it there")
        elif is_listed and outcome not in {"skip", "not run"}:
            excepted += 1
        elif outcome != "pass":
            problems.append(f"{test}: {outcome}")
    if len(passed) < _SUITES[suite]:
        problems.append(f"only {len(passed)} tests passed; there should be {_SUITES[suite]} or more")
    if mode == "stop" and result["asked"] < len(passed):
        problems.append(f"the current stop was asked only {result['asked']} times: it was not in force")
    return Row(suite, mode, result["run"], len(passed), excepted, len(skipped), problems)


def find_stale(exceptions: list[str], results: list[dict[str, Any]]) -> list[str]:
    """The exceptions that are no test of these suites."""
    known = {test for result in results for test in result.get("outcomes", {})}
    return [
        f"{pattern} in exceptions.toml matches no test" for pattern in exceptions if not fnmatch.filter(known, pattern)
    ]


def main(argv: list[str] | None = None) -> int:
    """Run it all, print the table, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="the interpreter whose tests to run")
    python = parser.parse_args(argv).python
    for module in ("test.test_socket", "test.test_ssl"):
        found = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True, check=False)
        if found.returncode:
            print(
                f"{python} cannot run CPython's tests ({module}); some distributions ship them apart.\n{found.stderr}"
            )
            return 2
    jobs = [(suite, mode) for mode in _MODES for suite in _SUITES]
    with ThreadPoolExecutor(max_workers=2) as pool:  # one for each of two cores; timing is part of these suites
        results = dict(zip(jobs, pool.map(lambda job: run_suite(python, *job), jobs), strict=True))
    version = next((result["python"] for result in results.values() if "python" in result), "?")
    exceptions = read_exceptions(version)
    rows = [judge(*job, result, results[job[0], "stock"], exceptions) for job, result in results.items()]
    print(f"CPython {version}")
    print(f"{'suite':<12} {'classes':<8} {'run':>5} {'passed':>7} {'excepted':>9} {'skipped':>8} {'problems':>9}")
    for row in rows:
        print(
            f"{row.suite:<12} {row.mode:<8} {row.run:>5} {row.passed:>7} {row.excepted:>9} {row.skipped:>8}"
            f" {len(row.problems):>9}"
        )
    problems = [f"{row.suite}, {row.mode}: {problem}" for row in rows for problem in row.problems]
    problems += find_stale(exceptions, list(results.values()))
    for problem in problems:
        print(f"\n{problem}")
    print("\nnot as it should be" if problems else "\nas it should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
