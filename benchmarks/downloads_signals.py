"""How soon the process of a download that is stuck is gone after a SIGINT (Ctrl-C), in each phase."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.downloads_peers import ONE, Peer, Table, client, environment, get, is_missing, queue
from benchmarks.downloads_phases import NONE, PHASES, SENT, SLOT, NotHereError, Outcome, Place, table
from benchmarks.downloads_stoppable import LIMIT

ROUNDS = 3

#: Milliseconds that ours may take.
TARGET = 60

# Seconds without any CPU time after which all are taken to be stuck, and at most.
_QUIET = 0.4
_LONGEST = 20


def _script(name: str) -> Callable[[str, str, str | None], list[str]]:
    return lambda url, dest, ca: client("one", name, url, dest, ca)


_CLIENTS = [
    Peer("`iointerrupt get`", "iointerrupt", lambda url, dest, _: get("-o", dest, url)),
    Peer("iointerrupt in a script", "iointerrupt", _script("signals")),
    *(peer for peer in ONE if peer.needs in {"curl", "wget", "aria2c"}),
    Peer("requests in the main thread", "requests", _script("requests")),
    Peer("gdown", "gdown", _script("gdown")),
]
_OURS = [peer.name for peer in _CLIENTS if peer.needs == "iointerrupt"]

# What is kept of a body that has stalled: both files, with all that came.
_KEPT = {"body stalled", "TLS body"}


def signals(rounds: int = ROUNDS) -> Table:
    """The milliseconds of each client in each phase."""
    present = [peer for peer in _CLIENTS if not is_missing(peer.needs)]
    # A shell's background job has it ignored, and its children would too.
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        results = {phase: _in_phase(phase, present, rounds) for phase in PHASES}
    finally:
        signal.signal(signal.SIGINT, previous)
    made = table("From SIGINT to the end of the process", results, [peer.name for peer in present], _OURS, TARGET)
    for peer in _CLIENTS:
        if peer not in present:
            made.missing(peer.name)
    return made


def _in_phase(phase: str, peers: list[Peer], rounds: int) -> dict[str, Outcome]:
    took: dict[str, Outcome] = {peer.name: [] for peer in peers}
    try:
        with PHASES[phase]() as place:
            for _ in range(rounds):
                _round(phase, place, [peer for peer in peers if not isinstance(took[peer.name], str)], took)
    except NotHereError as error:
        return dict.fromkeys(took, str(error))
    return took


def _round(phase: str, place: Place, peers: list[Peer], took: dict[str, Outcome]) -> None:
    """Start all of them, and once they are stuck, end one after the other."""
    with ExitStack() as stack:
        running = []
        for peer in peers:
            folder = stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm"))
            dest = os.path.join(folder, "file")
            command = _command(peer, phase, place, dest)
            if command is None:
                took[peer.name] = NONE
                continue
            process = subprocess.Popen(
                [*place.prefix, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment(place.ca),
                cwd="/",
            )
            stack.callback(_kill, process)
            running.append((peer, process, dest))
        _until_stuck([process for _, process, _ in running])
        for peer, process, dest in running:
            so_far = took[peer.name]
            assert not isinstance(so_far, str)
            answer = _interrupt(process)
            if isinstance(answer, str):
                took[peer.name] = answer
            elif peer.name in _OURS and phase in _KEPT and not _is_kept(dest):
                took[peer.name] = "lost its state"
            else:
                so_far.append(answer)


def _command(peer: Peer, phase: str, place: Place, dest: str) -> list[str] | None:
    if phase != SLOT:
        return peer.command(place.url, dest, place.ca)
    if peer.name == _OURS[1]:
        return client("one", "queue", place.url, dest)
    return queue(peer.needs, place.url, os.path.dirname(dest))


def _interrupt(process: subprocess.Popen[bytes]) -> float | str:
    if process.poll() is not None:
        return f"gives up: exit code {process.returncode}"
    watched = os.pidfd_open(process.pid)
    try:
        poller = select.poll()
        poller.register(watched, select.POLLIN)
        began = time.perf_counter()
        process.send_signal(signal.SIGINT)
        ended = poller.poll(LIMIT * 1e3)
        seconds = time.perf_counter() - began
    finally:
        os.close(watched)
    return seconds * 1e3 if ended else "hangs"


def _kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _is_kept(dest: str) -> bool:
    part = f"{dest}.part"
    return os.path.exists(part) and os.path.getsize(part) >= SENT and os.path.exists(f"{part}.json")


def _until_stuck(processes: list[subprocess.Popen[bytes]]) -> None:
    """Until none of them computes any more."""
    deadline = time.monotonic() + _LONGEST
    before = -1
    while time.monotonic() < deadline:
        now = sum(_ticks(process.pid) for process in processes if process.poll() is None)
        if now == before:
            return
        before = now
        time.sleep(_QUIET)


def _ticks(pid: int) -> int:
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
