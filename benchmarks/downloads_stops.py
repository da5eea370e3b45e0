"""How soon a download that is stuck ends when another thread of its program says so, in each phase."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from benchmarks.downloads_peers import Table, client, environment, is_missing
from benchmarks.downloads_phases import NONE, PHASES, SLOT, NotHereError, Outcome, Place, table
from benchmarks.downloads_stoppable import STOP

ROUNDS = 5

#: Milliseconds that ours may take.
TARGET = 5

# Seconds from the beginning of a download to its stop: it is stuck by then.
_SETTLE = 0.3

_NAMES = {
    "iointerrupt": "iointerrupt",
    "pycurl": "pycurl multi and a wake-up, not cleaned up",
    "aiohttp": "aiohttp, the task cancelled",
    "gdown": "gdown, `cancel=`",
    "requests": "requests in a worker, an Event between chunks",
}


def stops(folder: str, rounds: int = ROUNDS) -> Table:
    """The milliseconds of each client in each phase."""
    present = [name for name in STOP if not is_missing(name)]
    results = {}
    for phase in PHASES:
        outcomes = _in_phase(phase, present, folder, rounds)
        results[phase] = {_NAMES[name]: outcome for name, outcome in outcomes.items()}
    made = table("Stopped by another thread", results, [_NAMES[name] for name in present], ["iointerrupt"], TARGET)
    for name in STOP:
        if name not in present:
            made.missing(_NAMES[name])
    return made


def _in_phase(phase: str, names: list[str], folder: str, rounds: int) -> dict[str, Outcome]:
    took: dict[str, Outcome] = {name: [] for name in names}
    try:
        with PHASES[phase]() as place, ExitStack() as stack:
            what = "slot" if phase == SLOT else "stop"
            running = {}
            for name in names:
                if phase == SLOT and STOP[name][1] is None:
                    took[name] = NONE
                else:
                    dest = f"{folder}/{name} {phase}"
                    running[name] = stack.enter_context(_client(what, name, place, dest))
            for _ in range(rounds):
                for name, process in running.items():
                    so_far = took[name]
                    if isinstance(so_far, str):
                        continue
                    answer = _stop(process)
                    try:
                        so_far.append(float(answer))
                    except ValueError:  # it hangs, or something else went wrong: that is the result
                        took[name] = answer
    except NotHereError as error:
        return dict.fromkeys(names, str(error))
    return took


@contextmanager
def _client(what: str, name: str, place: Place, dest: str) -> Iterator[subprocess.Popen[str]]:
    command = [*place.prefix, *client(what, name, place.url, dest, place.ca)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
        env=environment(place.ca),
        cwd="/",
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process
        finally:
            process.kill()


def _stop(process: subprocess.Popen[str]) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("begin\n")
        time.sleep(_SETTLE)
        process.stdin.write("stop\n")
        return process.stdout.readline().strip() or "failed"
    except BrokenPipeError:
        return "failed"
