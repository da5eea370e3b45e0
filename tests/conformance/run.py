"""CPython's own tests, which come with the interpreter, as the judge of "a drop-in" and of "unchanged".

`test_socket` and `test_ssl` run with our classes in the place of the standard ones (plain), and with them and a current stop
that never fires (stop). They and the suites of what is built on sockets, selectors, processes and conditions run after
`monkey.patch_all()` (patched), and after that with such a stop in every thread (patched-stop).

A test that passes with nothing of ours (stock; what fails or is skipped there is this machine's business) has to pass, or be listed
in `exceptions.toml` with the reason; one that is listed has to fail, unless it is a matter of time there. A stock run is made where there is something to judge by it: a
test that does not pass, or too few that do. A test that fails is run once more, alone, before it counts, as some of these suites
depend on a machine that is not busy.

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
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

_HERE = Path(__file__).parent
# With the least number of tests that must have passed; those that take longest first, so that the workers end together.
_SUITES = {
    "test_subprocess": 250,
    "test_ssl": 120,
    "test_socket": 400,
    "test_httplib": 90,
    "test_ftplib": 80,
    "test_imaplib": 80,
    "test_smtplib": 70,
    "test_selectors": 70,
    "test_poplib": 30,
    "test_xmlrpc": 60,
    "test_urllib2_localnet": 18,
    "test_queue": 50,
    "test_select": 4,
    "test_poll": 5,
    "test_epoll": 8,
}
_PATCHED = ("patched", "patched-stop")
_MODES = {"test_socket": ("plain", "stop", *_PATCHED), "test_ssl": ("plain", "stop", *_PATCHED)}  # else _PATCHED alone
_AT_ONCE = 3 * len(os.sched_getaffinity(0))  # they wait nine tenths of the time; but timing is part of what they test
_LIMIT = 300  # seconds for one suite in one mode


class Row(NamedTuple):
    """What one suite in one mode came to; `problems` are the lines that say what is wrong."""

    suite: str
    mode: str
    run: int
    passed: int
    excepted: int
    skipped: int
    problems: list[str]


def read_exceptions(version: str, mode: str) -> dict[str, bool]:
    """The patterns of test ids that cannot hold on this version of Python ("3.11.7") in this mode, and which of them may pass."""
    entries = tomllib.loads((_HERE / "exceptions.toml").read_text(encoding="utf-8"))["exception"]
    minor = version.rpartition(".")[0]
    for entry in entries:
        if not entry["reason"]:
            raise ValueError(f"no reason is given for {entry['tests']}")
    return {
        pattern: entry.get("may_pass", False)
        for entry in entries
        if minor in entry.get("python", [minor]) and mode in entry["modes"]
        for pattern in entry["tests"]
    }


def run_suite(python: str, suite: str, mode: str, *only: str) -> dict[str, Any]:
    """The result that `child.py` wrote, of all tests or those with such an id, or `{"broken": why}`."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        environment = {**os.environ, "TMPDIR": folder, "PYTHONPATH": str(_HERE.parent.parent)}
        command = [python, "-W", "ignore", str(_HERE / "child.py"), suite, mode, str(result), *only]
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


def run_and_repeat(python: str, suite: str, mode: str, exceptions: dict[str, bool]) -> dict[str, Any]:
    """`run_suite`, where each test that has failed and is not listed gets a second chance, alone."""
    result = run_suite(python, suite, mode)
    for test in failures(result):
        if not _is_listed(test, exceptions):
            again = run_suite(python, suite, mode, test)
            outcome = again.get("outcomes", {}).get(test)
            if outcome == "pass":
                print(f"{suite}, {mode}: {test} has passed in its second run", flush=True)
                result["outcomes"][test] = outcome
    return result


def failures(result: dict[str, Any]) -> list[str]:
    """The tests that have neither passed nor been skipped."""
    return [test for test, outcome in result.get("outcomes", {}).items() if outcome not in {"pass", "skip"}]


def needs_stock(suite: str, result: dict[str, Any]) -> bool:
    """Whether there is something to judge by a run of the standard classes."""
    passed = [test for test, outcome in result.get("outcomes", {}).items() if outcome == "pass"]
    return bool(failures(result)) or len(passed) < _SUITES[suite]


def _is_listed(test: str, exceptions: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(test, pattern) for pattern in exceptions)


def judge(
    suite: str, mode: str, result: dict[str, Any], stock: dict[str, Any] | None, exceptions: dict[str, bool]
) -> Row:
    """Compare what a run came to with the run of the standard classes, if one was needed."""
    if "broken" in result or (stock is not None and "broken" in stock):
        return Row(suite, mode, 0, 0, 0, 0, [str(result.get("broken") or "there is no run to compare with")])
    outcomes: dict[str, str] = result["outcomes"]
    passed = [test for test, outcome in outcomes.items() if outcome == "pass"]
    skipped = [test for test, outcome in outcomes.items() if outcome == "skip"]
    expected = outcomes if stock is None else stock["outcomes"]
    may_pass = [pattern for pattern, may in exceptions.items() if may]
    problems = []
    excepted = 0
    for test, what in expected.items():
        outcome = outcomes.get(test, "not run")
        is_listed = mode != "stock" and _is_listed(test, exceptions)
        if is_listed and outcome == "pass" and not _is_listed(test, may_pass):
            problems.append(f"{test} is listed in exceptions.toml, but passes: remove it there")
        elif is_listed and outcome not in {"pass", "skip", "not run"}:
            excepted += 1
        elif outcome != "pass" and what == "pass":
            problems.append(f"{test}: {outcome}")
    if len(passed) < _SUITES[suite]:
        problems.append(f"only {len(passed)} tests passed; there should be {_SUITES[suite]} or more")
    if mode.endswith("stop") and result["asked"] < len(passed) and suite in _MODES:
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
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(_SUITES)}; all by default")
    parser.add_argument("--python", default=sys.executable, help="the interpreter whose tests to run")
    arguments = parser.parse_args(argv)
    python, suites = arguments.python, arguments.suites or list(_SUITES)
    if unknown := set(suites) - set(_SUITES):
        parser.error(f"there is no suite {', '.join(sorted(unknown))}")
    command = [
        python,
        "-c",
        f"import sys, {', '.join(f'test.{suite}' for suite in suites)}; print(sys.version.split()[0])",
    ]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    if found.returncode:
        print(f"{python} cannot run CPython's tests; some distributions ship them apart.\n{found.stderr}")
        return 2
    version = found.stdout.strip()
    exceptions = {mode: read_exceptions(version, mode) for mode in ("plain", "stop", *_PATCHED)}
    jobs = [(suite, mode) for suite in suites for mode in _MODES.get(suite, _PATCHED)]
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
        runs = pool.map(lambda job: run_and_repeat(python, job[0], job[1], exceptions[job[1]]), jobs)
        results = dict(zip(jobs, runs, strict=True))
        doubtful = [suite for suite in suites if any(needs_stock(s, r) for (s, _), r in results.items() if s == suite)]
        stock = dict(zip(doubtful, pool.map(lambda suite: run_suite(python, suite, "stock"), doubtful), strict=True))
    rows = [judge(*job, result, stock.get(job[0]), exceptions[job[1]]) for job, result in results.items()]
    print(f"CPython {version}")
    print(f"{'suite':<22} {'mode':<13} {'run':>5} {'passed':>7} {'excepted':>9} {'skipped':>8} {'problems':>9}")
    for row in rows:
        print(
            f"{row.suite:<22} {row.mode:<13} {row.run:>5} {row.passed:>7} {row.excepted:>9} {row.skipped:>8}"
            f" {len(row.problems):>9}"
        )
    problems = [f"{row.suite}, {row.mode}: {problem}" for row in rows for problem in row.problems]
    if not arguments.suites:
        listed = list(dict.fromkeys(pattern for patterns in exceptions.values() for pattern in patterns))
        problems += find_stale(listed, list(results.values()))
    for problem in problems:
        print(f"\n{problem}")
    print("\nnot as it should be" if problems else "\nas it should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
