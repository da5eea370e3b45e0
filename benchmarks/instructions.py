"""`python -m benchmarks.instructions`: do the hot paths execute more instructions than they did?

Other than time, the number of instructions does not depend on what else the machine does, and hardly on the machine. So it
is a guard against regressions that noise cannot fool: a path that has become 10 % longer fails, on a busy machine as well.

Each path of `benchmarks.hot_paths` and its plain counterpart are repeated n times and 2n times under
`valgrind --tool=callgrind`, and the difference divided by n is what one costs, without the loop's beginning and end. Of
the instructions the ratio of ours to the plain ones is compared with the kept one; it differs by 1 % at most from run to
run, and by 3 % from one folder and environment to another. Of the system calls, which instructions say nothing of, the
number is compared. Under valgrind, reading the clock is one too.

How Python was compiled changes the ratios as well: optimised by a profile, some are a fifth larger or smaller. So the plain
instructions are kept too. Where most of them have changed, this is another build, and nothing is compared.

All is counted in one process, in which a system call that nobody else makes (getppid) has callgrind write down what it has
counted since the one before. What is kept is in `instructions.toml`, for each minor version of Python.

Exit codes: 0 for no path that has grown, 1 for one that has, 2 where nothing can be said of one at least.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import timeit
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from benchmarks.hot_paths import Side, paths

KEPT = os.path.join(os.path.dirname(__file__), "instructions.toml")
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
#: By how much the ratio may differ from the kept one.
TOLERANCE = 0.10
#: By how much the number of system calls may: a buffer that is filled for every so many.
CALLS_TOLERANCE = 0.1
#: By how much the plain instructions may, in the median of all paths: of one build of Python they hardly do.
BUILD_TOLERANCE = 0.03
#: How often a statement is executed at least before it is counted: until then CPython adapts the code.
WARM_UP = 100
#: Seconds after which something must be wrong.
LIMIT = 300
HEADER = """\
# What the hot paths cost, by the minor version of Python: how many times the instructions of the plain counterpart, how many
# those are, and how many system calls there are in ours. Written by `python -m benchmarks.instructions --keep`, which see.
"""


@dataclass(frozen=True)
class Count:
    """What one repetition takes."""

    instructions: float
    calls: float


@dataclass(frozen=True)
class Figure:
    """What is kept of a path: how many times the plain instructions, how many those are, and our system calls."""

    ratio: float
    plain: int
    calls: float


@dataclass(frozen=True)
class Counted:
    """A path, as it was counted."""

    name: str
    ours: Count
    plain: Count

    @property
    def figure(self) -> Figure:
        """What would be kept."""
        ratio = self.ours.instructions / self.plain.instructions
        return Figure(round(ratio, 3), round(self.plain.instructions), round(self.ours.calls, 1))


@dataclass(frozen=True)
class Verdict:
    """What a comparison with the kept figures says, in sentences."""

    grown: Sequence[str]
    shrunk: Sequence[str]
    unknown: Sequence[str]

    @property
    def exit_code(self) -> int:
        """What the program exits with."""
        if self.grown:
            return 1
        return 2 if self.unknown else 0


def is_other_build(counted: Sequence[Counted], kept: Mapping[str, Figure]) -> bool:
    """Whether the kept figures are of a Python that was compiled in another way."""
    changes = [abs(path.figure.plain / kept[path.name].plain - 1) for path in counted if path.name in kept]
    return bool(changes) and statistics.median(changes) > BUILD_TOLERANCE


def judge(counted: Sequence[Counted], kept: Mapping[str, Figure]) -> Verdict:
    """Compare what was counted with what is kept."""
    grown: list[str] = []
    shrunk: list[str] = []
    unknown: list[str] = []
    for path in counted:
        before, now = kept.get(path.name), path.figure
        if before is None:
            unknown.append(f"{path.name}: no figure is kept for it")
            continue
        change = now.ratio / before.ratio - 1
        if abs(change) > TOLERANCE:
            says = f"{path.name}: {now.ratio:.2f} times the plain instructions, {before.ratio:.2f} kept ({change:+.0%})"
            (grown if change > 0 else shrunk).append(says)
        if abs(now.calls - before.calls) > CALLS_TOLERANCE:
            says = f"{path.name}: {now.calls:g} system calls, {before.calls:g} kept"
            (grown if now.calls > before.calls else shrunk).append(says)
    names = {path.name for path in counted}
    unknown += [f"{name}: a figure is kept, and there is no such path" for name in kept if name not in names]
    return Verdict(grown, shrunk, unknown)


# Counting


def count() -> list[Counted]:
    """Count every path, in a process of its own.

    Raises:
        RuntimeError: that failed, or callgrind has written something else than was asked of it.
    """
    with tempfile.TemporaryDirectory() as folder:
        profile = os.path.join(folder, "profile")
        command = [
            *("valgrind", "--quiet", "--tool=callgrind", "--dump-before=getppid", "--combine-dumps=yes"),
            *(
                "--collect-systime=yes",
                f"--callgrind-out-file={profile}",
                sys.executable,
                "-m",
                __spec__.name,
                "--child",
            ),
        ]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        run = subprocess.run(
            command, env=environment, cwd=root, stdout=subprocess.PIPE, text=True, timeout=LIMIT, check=False
        )
        if run.returncode:
            raise RuntimeError(f"the counted process ended with {run.returncode}")
        with open(profile) as file:
            return assign(json.loads(run.stdout), list(totals(file)))


def repeat_all() -> list[tuple[str, int]]:
    """What the counted process does: every statement n and 2n times, between marks; returns the paths, and n of each."""
    gc.disable()
    done = []
    for path in paths():
        for side in (path.ours, path.plain):
            _repeat(side, path.times)
        done.append((path.name, path.times))
    return done


def _repeat(side: Side, times: int) -> None:
    timer = timeit.Timer(side.statement, globals=dict(side.names))
    for _ in range(0, WARM_UP, times):
        side.prepare(times)
        timer.timeit(times)
    side.prepare(3 * times)
    os.getppid()
    timer.timeit(times)
    os.getppid()
    timer.timeit(2 * times)
    os.getppid()


def totals(profile: Iterable[str]) -> Iterator[Count]:
    """What callgrind has counted before each mark and at the end, out of the lines of its file."""
    events: list[str] = []
    for line in profile:
        if line.startswith("events:"):
            events = line.split()[1:]
        elif line.startswith("totals:"):
            numbers = dict(zip(events, map(int, line.split()[1:]), strict=False))  # zeros at the end are left out
            yield Count(numbers.get("Ir", 0), numbers.get("sysCount", 0))


def assign(done: Sequence[tuple[str, int]], counts: Sequence[Count]) -> list[Counted]:
    """Whose what was counted is.

    Raises:
        RuntimeError: there are not as many counts as there were marks.
    """
    marks = 6  # two sides, a mark before, one between n and 2n times, and one behind
    if len(counts) != marks * len(done) + 1:
        raise RuntimeError(f"{len(done)} paths were counted, and callgrind has written {len(counts)} counts")
    counted = []
    for number, (name, times) in enumerate(done):
        # What precedes a first mark is the preparation.
        _, ours_once, ours_twice, _, plain_once, plain_twice = counts[marks * number : marks * (number + 1)]
        counted.append(Counted(name, _each(ours_once, ours_twice, times), _each(plain_once, plain_twice, times)))
    return counted


def _each(once: Count, twice: Count, times: int) -> Count:
    # The mark itself is a system call, in both.
    return Count((twice.instructions - once.instructions) / times, (twice.calls - once.calls) / times)


# Keeping


def load(text: str) -> dict[str, dict[str, Figure]]:
    """The kept figures, by the version of Python and the path."""
    return {
        version: {name: Figure(**figure) for name, figure in table.items()}
        for version, table in tomllib.loads(text).items()
    }


def dump(kept: Mapping[str, Mapping[str, Figure]]) -> str:
    """The kept figures as the text of the file."""
    parts = [HEADER]
    for version in sorted(kept, key=lambda version: [int(number) for number in version.split(".")]):
        lines = [
            f'"{name}" = {{ ratio = {figure.ratio}, plain = {figure.plain}, calls = {figure.calls} }}\n'
            for name, figure in kept[version].items()
        ]
        parts.append("".join([f'\n["{version}"]\n', *lines]))
    return "".join(parts)


def _read_kept() -> dict[str, dict[str, Figure]]:
    if not os.path.exists(KEPT):
        return {}
    with open(KEPT) as file:
        return load(file.read())


# The program


def main() -> int:
    """Count, and compare or keep; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.instructions", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--keep", action="store_true", help="keep what is counted as the figures of this Python")
    parser.add_argument("--json", action="store_true", help="print a JSON array of what was counted and what was kept")
    parser.add_argument(
        "--may-lack",
        action="append",
        choices=("valgrind", "figures"),
        default=[],
        help="exit with 0 where this is missing: valgrind, or figures of this Python, and of this build of it; it is said",
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(repeat_all()))
        return 0
    kept = _read_kept()
    if shutil.which("valgrind") is None:
        return _lacks("valgrind", "valgrind is not installed", arguments.may_lack)
    if not arguments.keep and VERSION not in kept:
        return _lacks("figures", f"no figures are kept for Python {VERSION} in {KEPT}: --keep", arguments.may_lack)
    counted = count()
    before = kept.get(VERSION, {})
    print(_as_json(counted, before) if arguments.json else _as_table(counted, before))
    if arguments.keep:
        with open(KEPT, "w") as file:
            file.write(dump({**kept, VERSION: {path.name: path.figure for path in counted}}))
        return 0
    if is_other_build(counted, before):
        return _lacks(
            "figures", f"the figures that are kept are of another build of Python {VERSION}", arguments.may_lack
        )
    verdict = judge(counted, before)
    for says, sentences in (
        ("grown", verdict.grown),
        ("shrunk, so keep the figures again", verdict.shrunk),
        ("not to be compared, so keep the figures again", verdict.unknown),
    ):
        for sentence in sentences:
            print(f"{says}: {sentence}", file=sys.stderr)
    return verdict.exit_code


def _lacks(what: str, says: str, allowed: Sequence[str]) -> int:
    print(f"nothing was compared: {says}", file=sys.stderr)
    return 0 if what in allowed else 2


def _as_json(counted: Sequence[Counted], before: Mapping[str, Figure]) -> str:
    return json.dumps(
        [
            {
                **asdict(path),
                "figure": asdict(path.figure),
                "kept": asdict(before[path.name]) if path.name in before else None,
            }
            for path in counted
        ],
        indent=2,
    )


def _as_table(counted: Sequence[Counted], before: Mapping[str, Figure]) -> str:
    lines = [f"{'instructions and system calls of one':<52} {'ours':>15} {'plain':>15} {'ratio':>7} {'kept':>7}"]
    for path in counted:
        kept = f"{before[path.name].ratio:7.2f}" if path.name in before else f"{'-':>7}"
        ours, plain = (f"{count.instructions:9.0f}, {count.calls:4.1f}" for count in (path.ours, path.plain))
        lines.append(f"{path.name:<52} {ours} {plain} {path.figure.ratio:7.2f} {kept}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
