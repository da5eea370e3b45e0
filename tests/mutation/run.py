"""Mutation testing of the two files on which everything rests: `_stop.py` and `_wait.py`.

Each mutant is put into a copy of the tree, in a temporary folder, and the tests below run on it until one fails. A mutant under
which all pass has survived, and has to be listed in `argued.toml` with the reason why no test can tell it from the original; one
that is listed has to survive. Mutants that hang are killed, and count as that.

    python -m tests.mutation.run [--only TEXT] [--table]

TEXT is part of what is printed of a mutant, such as the name of a function. With --table the arguments are printed as the table
of docs/mutants.md, and nothing is run. The exit status is 0 only if all is as it should be.
"""

from __future__ import annotations

import argparse
import os
import queue
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.mutation.mutants import Key, Mutant, mutants_of

ROOT = Path(__file__).parents[2]
FILES = ("iointerrupt/_stop.py", "iointerrupt/_wait.py")
# Those that find most come first, the others run on what these have not found.
TESTS = (
    ("test_instants", "test_wait", "test_stop"),
    (
        "test_locks",
        "test_queues",
        "test_threads",
        "test_calls",
        "test_endings",
        "test_signals",
        "test_sockets",
        "test_thread_groups",
        "test_monkey_select",
        "test_aio_waiting",
    ),
)
COPIED = ("iointerrupt", "tests", "examples", "fixtures")
LIMIT = 20  # seconds for one test
LIMIT_OF_ALL = 300  # seconds for all of them, which take 35 on a machine that has nothing else to do
MEMORY = 8 * 2**30  # bytes of address space
SURVIVED, KILLED, TIMED_OUT = "survived", "killed", "timed out"


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(description="Mutation testing of _stop.py and _wait.py.")
    parser.add_argument("--only", metavar="TEXT", help="the mutants whose description has this in it")
    parser.add_argument("--table", action="store_true", help="print the arguments as Markdown, and run nothing")
    options = parser.parse_args()
    argued = _argued()
    if options.table:
        print(_table(argued))
        return 0
    with ProcessPoolExecutor() as pool:
        mutants = [mutant for found in pool.map(mutants_of, [ROOT] * len(FILES), FILES) for mutant in found]
    missing = argued.keys() - {mutant.key for mutant in mutants}
    if options.only is not None:
        mutants, missing = [mutant for mutant in mutants if options.only in str(mutant.key)], set()
    outcomes = _run(mutants, argued)
    return _report(outcomes, argued, missing)


def _argued() -> dict[Key, str]:
    """Each mutant that may survive, with the argument."""
    reasons: dict[Key, str] = {}
    for row in tomllib.loads((Path(__file__).parent / "argued.toml").read_text())["mutants"]:
        for becomes in row["becomes"]:
            reasons[Key(row["file"], row["function"], row["line"], becomes, row.get("nth", 1))] = row["why"]
    return reasons


def _run(mutants: list[Mutant], argued: dict[Key, str]) -> dict[Key, str]:
    outcomes: dict[Key, str] = {}
    # Most tests wait for something most of the time, so two processes for each core keep it busy.
    with _trees(2 * len(os.sched_getaffinity(0))) as trees, ThreadPoolExecutor(trees.qsize()) as pool:
        for outcome, said in pool.map(_prepared, list(trees.queue)):
            if outcome != SURVIVED:
                raise SystemExit(f"the tests do not pass on the original:\n{said}")
        judged = pool.map(lambda mutant: _judged(trees, mutant, argued), mutants)
        for mutant, (outcome, seconds) in zip(mutants, judged, strict=True):
            outcomes[mutant.key] = outcome
            print(f"{outcome:9} {seconds:6.1f} s  {mutant.number:3}  {mutant.key}", flush=True)
    return outcomes


@contextmanager
def _trees(number: int) -> Iterator[queue.Queue[Path]]:
    """Copies of the tree, each for one run at a time."""
    trees: queue.Queue[Path] = queue.Queue()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for n in range(number):
            tree = Path(folder, str(n))
            for name in COPIED:
                shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
            shutil.copy(ROOT / "pyproject.toml", tree)
            trees.put(tree)
        yield trees


def _prepared(tree: Path) -> tuple[str, str]:
    """Run the tests on the original, which compiles all files once; all but those that will be changed remain compiled."""
    result = _tested(tree, {})
    for file in FILES:
        for compiled in (tree / file).parent.glob(f"__pycache__/{Path(file).stem}.*"):
            compiled.unlink()
    return result


def _judged(trees: queue.Queue[Path], mutant: Mutant, argued: dict[Key, str]) -> tuple[str, float]:
    tree = trees.get()
    target = tree / mutant.key.file
    original = target.read_text()
    begun = time.monotonic()
    try:
        target.write_text(mutant.code)
        outcome, _ = _tested(tree, {"PYTHONDONTWRITEBYTECODE": "1"})
        if outcome != SURVIVED and mutant.key in argued:  # perhaps for want of time, on a busy machine
            outcome, _ = _tested(tree, {"PYTHONDONTWRITEBYTECODE": "1"})
        return outcome, time.monotonic() - begun
    finally:
        target.write_text(original)
        trees.put(tree)


def _tested(tree: Path, settings: dict[str, str]) -> tuple[str, str]:
    """What came of the tests in this tree, and what pytest said."""
    for names in TESTS:
        outcome, said = _pytest(tree, names, settings)
        if outcome != SURVIVED:
            break
    return outcome, said


def _pytest(tree: Path, names: tuple[str, ...], settings: dict[str, str]) -> tuple[str, str]:
    # Only the plugins that the tests need: to load all that are installed takes longer than most mutants live.
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "pytest_timeout", "-p", "iointerrupt.pytest_plugin"]
    command += ["-p", "no:cacheprovider", "-o", f"timeout={LIMIT}", *(f"tests/{name}.py" for name in names)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # The folder's own package comes before an installed one, in the programs that the tests start as well.
    environment |= {"PYTHONPATH": str(tree), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **settings}
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        preexec_fn=_limit_memory,  # noqa: PLW1509 - it is one system call
    )
    try:
        said, _ = process.communicate(timeout=LIMIT_OF_ALL)
    except subprocess.TimeoutExpired:
        return TIMED_OUT, ""
    finally:
        _end_all_of(process)
    if not process.returncode:
        return SURVIVED, said
    return (TIMED_OUT if "+ Timeout +" in said else KILLED), said


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def _end_all_of(process: subprocess.Popen[str]) -> None:
    """End what the tests have left behind too."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _report(outcomes: dict[Key, str], argued: dict[Key, str], missing: set[Key]) -> int:
    counts = Counter(outcomes.values())
    survivors = {key for key, outcome in outcomes.items() if outcome == SURVIVED}
    wrong = {
        "survives, and is not argued": survivors - argued.keys(),
        "is argued, and does not survive": argued.keys() & outcomes.keys() - survivors,
        "is argued, and does not exist": missing,
    }
    print()
    for what, keys in wrong.items():
        for key in sorted(keys):
            print(f"{what}: {key}")
    print(
        f"mutants {len(outcomes)}, killed {counts[KILLED]}, timed out {counts[TIMED_OUT]}, survived {counts[SURVIVED]},"
        f" of which argued {len(survivors & argued.keys())}"
    )
    return 1 if any(wrong.values()) or not outcomes else 0


def _table(argued: dict[Key, str]) -> str:
    groups: dict[tuple[str, str, str, str], list[str]] = {}
    for key, why in argued.items():
        groups.setdefault((key.file, key.function, key.line, why), []).append(key.becomes)
    rows = ["| where | the line | becomes | why no test can tell |", "| --- | --- | --- | --- |"]
    for (file, function, line, why), becomes in groups.items():
        cells = f"`{Path(file).name}`, {function}", f"`{line}`", "<br>".join(f"`{one}`" for one in becomes), why
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
