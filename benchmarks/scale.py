"""Many threads, many events, and the import."""

from __future__ import annotations

import gc
import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

from benchmarks.measure import Row, alternate
from iointerrupt import Interrupted, StopEvent, sockets
from iointerrupt.testing import wait_until_blocked

THREADS = 1000
CHILDREN = 1_000_000


def measure() -> Iterator[Row]:
    """A row for each claim."""
    yield from _threads()
    yield from _children()
    yield _import()


def _threads() -> Iterator[Row]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8 * THREADS)), hard))
    switches: list[int] = []
    ours, plain = alternate(lambda: _stop_all(switches), _wake_all, rounds=6)
    ratio = statistics.median(ours) / statistics.median(plain)
    note = f"{statistics.median(ours) * 1e3:.0f} ms against {statistics.median(plain) * 1e3:.0f} ms in Event.wait"
    yield Row(f"{THREADS} threads blocked on one event, all ended", ratio, "x", "<= 2", ratio <= 2, note)
    worst = max(switches)
    yield Row("their voluntary context switches in 1 s of waiting", worst, "", "0", worst == 0)


def _stop_all(switches: list[int]) -> float:
    stop = StopEvent()
    pairs = [sockets.socketpair(stop=stop) for _ in range(THREADS)]

    def receive(sock: sockets.Socket) -> None:
        try:
            sock.recv(1)
        except Interrupted:
            pass

    threads = [threading.Thread(target=receive, args=(near,)) for near, _ in pairs]
    for thread in threads:
        thread.start()
    wait_until_blocked(stop, THREADS, timeout=60)
    time.sleep(0.5)
    before = _switches(threads)
    time.sleep(1)
    switches.append(_switches(threads) - before)
    took = _end_all(threads, stop.set)
    for near, far in pairs:
        near.close()
        far.close()
    return took


def _wake_all() -> float:
    event = threading.Event()
    threads = [threading.Thread(target=event.wait) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    return _end_all(threads, event.set)


def _end_all(threads: list[threading.Thread], set_: Callable[[], object]) -> float:
    began = time.perf_counter()
    set_()
    for thread in threads:
        thread.join(60)
    return time.perf_counter() - began


def _switches(threads: list[threading.Thread]) -> int:
    total = 0
    for thread in threads:
        with open(f"/proc/self/task/{thread.native_id}/status") as status:
            total += next(int(line.split()[1]) for line in status if line.startswith("voluntary_ctxt_switches"))
    return total


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def _children() -> Iterator[Row]:
    parent = StopEvent()
    for _ in range(CHILDREN // 10):
        StopEvent(parent)
    gc.collect()
    memory, descriptors = _resident(), len(os.listdir("/proc/self/fd"))
    for _ in range(CHILDREN):
        StopEvent(parent)
    gc.collect()
    grown = (_resident() - memory) / 1024
    yield Row(f"memory after {CHILDREN:,} children made and dropped", grown, "KiB", "flat", grown < 512)
    opened = len(os.listdir("/proc/self/fd")) - descriptors
    yield Row("descriptors after them", opened, "", "0", opened == 0)


def _import() -> Row:
    def took(names: str) -> float:
        code = f"import time; t = time.perf_counter(); import {names}; print(time.perf_counter() - t)"
        # With compiled modules, as an installed package has them.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        return float(out.stdout)

    ours, plain = alternate(lambda: took("iointerrupt"), lambda: took("threading, socket"), rounds=15)
    ratio = statistics.median(ours) / statistics.median(plain)
    note = f"{statistics.median(ours) * 1e3:.1f} ms against {statistics.median(plain) * 1e3:.1f} ms"
    return Row("import iointerrupt against import threading, socket", ratio, "x", "< 1.5", ratio < 1.5, note)
