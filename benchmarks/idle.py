"""What threads cost while they are blocked and nobody stops them: the CPU they take, and how often they are woken.

    python -m benchmarks.idle {iointerrupt,polling,Event.wait} THREADS

Each measurement is a process of its own, the command above, which blocks so many threads. What the kernel has charged them with
is read from outside, twice: where thousands poll, a thread of that process would wait minutes for its turn to look.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from benchmarks.measure import Comparison, Row
from iointerrupt import Interrupted, StopEvent, sockets
from iointerrupt.testing import wait_until_blocked

SECONDS = 10.0
THREADS = (1, 100, 1_000, 5_000)
_QUICK_SECONDS = 1.0
_QUICK_THREADS = (1, 100, 1_000)

#: Seconds between two looks of the polling loop.
PERIOD = 0.1
#: Seconds from when all threads are about to block to the first look; threads that poll have begun to by then.
SETTLE = 1.0
#: Seconds of CPU that the kernel's clock counts in; ratios take it for a zero.
TICK = 1 / os.sysconf("SC_CLK_TCK")
#: Seconds that it may take until all threads are blocked.
LIMIT = 120
#: What a thread's stack takes of the address space; the default is 8 MiB.
STACK = 256 << 10

OURS, POLLING, FLOOR = "iointerrupt", f"polling loop, {PERIOD * 1e3:.0f} ms", "threading.Event.wait"


@dataclass(frozen=True)
class Cost:
    """What threads have taken: seconds of CPU, and how often they were woken, which is how often they blocked anew."""

    cpu: float
    switches: int


def measure(*, quick: bool) -> Iterator[Comparison | Row]:
    """Ours, the polling loop and threads that do no I/O, by how many there are."""
    seconds = _QUICK_SECONDS if quick else SECONDS
    whom = {OURS: "iointerrupt", FLOOR: "Event.wait", POLLING: "polling"}  # the last one keeps the cores busy
    for n in _QUICK_THREADS if quick else THREADS:
        try:
            costs = dict(zip(whom, _costs(list(whom.values()), n, seconds), strict=True))
        except RuntimeError as error:
            yield Row(f"{n:,} blocked threads", 0, "", "measured", met=False, note=str(error))
            continue
        least = {POLLING: 1.0}
        cpu = {name: [max(cost.cpu, TICK)] for name, cost in costs.items()}
        what = f"CPU of threads blocked for {seconds:g} s (a tick of {TICK * 1e3:g} ms for none), n = {n:,}"
        yield Comparison(what, "s", cpu, least=least)
        switches = {name: [max(cost.switches, 1.0)] for name, cost in costs.items()}
        what = f"context switches of threads blocked for {seconds:g} s (1 for none), n = {n:,}"
        yield Comparison(what, "", switches, least=least)
        ours = costs[OURS]
        what = f"{n:,} thread{'s' if n > 1 else ''} blocked for {seconds:g} s"
        yield Row(f"CPU of {what}", ours.cpu, "s", "0", ours.cpu == 0, f"in ticks of {TICK * 1e3:g} ms")
        yield Row(f"voluntary context switches of {what}", ours.switches, "", "0", ours.switches == 0)


@contextmanager
def many_threads(n: int) -> Iterator[None]:
    """Inside, so many threads can have a socket pair each, and a thread's stack is no larger than it needs.

    Raises:
        OSError, ValueError: the system does not allow so many descriptors.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * n + 200
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    before = threading.stack_size(STACK)
    try:
        yield
    finally:
        threading.stack_size(before)


def _costs(whom: Sequence[str], n: int, seconds: float) -> list[Cost]:
    """What so many threads of each take in the same `seconds`.

    Raises:
        RuntimeError: a process has failed, as where the system does not allow so many threads or descriptors.
    """
    with ExitStack() as stack:
        processes = [_blocking(stack, who, n) for who in whom]
        time.sleep(SETTLE)
        before, began = [_charged(process) for process in processes], time.monotonic()
        time.sleep(seconds)
        after, elapsed = [_charged(process) for process in processes], time.monotonic() - began
        for who, process in zip(whom, processes, strict=True):
            if (alive := len(os.listdir(f"/proc/{process}/task")) - 1) != n:
                raise RuntimeError(f"{who}: {alive:,} of {n:,} threads are blocked")
    share = seconds / elapsed  # to look at thousands takes a while by itself
    return [
        Cost((second.cpu - first.cpu) * share, round((second.switches - first.switches) * share))
        for first, second in zip(before, after, strict=True)
    ]


def _blocking(stack: ExitStack, who: str, n: int) -> int:
    command = [sys.executable, "-m", "benchmarks.idle", who, str(n)]
    child = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    stack.callback(child.kill)
    assert child.stdout is not None
    assert child.stderr is not None
    if not child.stdout.readline():
        raise RuntimeError(child.stderr.read().strip().rpartition("\n")[2])
    return child.pid


def _charged(process: int) -> Cost:
    """What all threads of a process were charged with so far, but for its main one."""
    ticks = _ticks(f"/proc/{process}/stat") - _ticks(f"/proc/{process}/task/{process}/stat")
    switches = 0
    for thread in os.listdir(f"/proc/{process}/task"):
        if int(thread) != process:
            with open(f"/proc/{process}/task/{thread}/status") as status:
                switches += next(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))
    return Cost(ticks * TICK, switches)


def _ticks(path: str) -> int:
    with open(path) as stat:
        fields = stat.read().rpartition(")")[2].split()  # the name before the parenthesis may be anything
    return int(fields[11]) + int(fields[12])  # in user mode and in the kernel


# In the process that is measured


def _main(who: str, n: int) -> NoReturn:
    # Should whoever measures it fail: it is not to wait for ever.
    signal.alarm(2 * LIMIT)
    with many_threads(n):
        {"iointerrupt": _receive, "polling": _poll, "Event.wait": _wait}[who](n)


def _stay(then: Callable[[], object] = lambda: None) -> NoReturn:
    """Say that all threads are blocked, and keep them so until the process is ended."""
    print("blocked", flush=True)
    then()
    while True:
        signal.pause()


def _start(block: Callable[[Any], object], pairs: Sequence[tuple[Any, Any]]) -> None:
    for near, _ in pairs:
        threading.Thread(target=block, args=(near,), daemon=True).start()


def _receive(n: int) -> NoReturn:
    stop = StopEvent()
    pairs = [sockets.socketpair(stop=stop) for _ in range(n)]

    def block(near: sockets.Socket) -> None:
        try:
            near.recv(1)
        except Interrupted:
            pass

    _start(block, pairs)
    wait_until_blocked(stop, n, timeout=LIMIT)
    _stay()


def _poll(n: int) -> NoReturn:
    event = threading.Event()
    pairs = [socket.socketpair() for _ in range(n)]
    # They wait in the kernel until all are there: to start one among thousands that poll takes seconds.
    gate, opener = os.pipe()

    def block(near: socket.socket) -> None:
        os.read(gate, 1)
        near.settimeout(PERIOD)
        while not event.is_set():
            try:
                near.recv(1)
            except TimeoutError:
                pass

    _start(block, pairs)
    _stay(lambda: os.write(opener, bytes(n)))


def _wait(n: int) -> NoReturn:
    event = threading.Event()
    for _ in range(n):
        threading.Thread(target=event.wait, daemon=True).start()
    _stay()


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
