"""A `ThreadGroup` of many blocked threads, against as many plain threads and an event."""

from __future__ import annotations

import resource
import statistics
import threading
import time
from collections.abc import Callable, Iterator

from benchmarks.measure import Row, alternate
from iointerrupt import current_stop, sockets
from iointerrupt.threads import ThreadGroup

THREADS = 1000


def measure() -> Iterator[Row]:
    """A row for each claim."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8 * THREADS)), hard))
    yield _row("asleep", [_sleep] * THREADS)
    pairs = [sockets.socketpair() for _ in range(THREADS)]
    yield _row("in recv", [lambda near=near: near.recv(1) for near, _ in pairs])  # type: ignore[misc]
    for near, far in pairs:
        near.close()
        far.close()


def _row(where: str, blocks: list[Callable[[], object]]) -> Row:
    ours, plain = alternate(lambda: _group(blocks), _plain, rounds=8)
    ratio = statistics.median(a / b for a, b in zip(ours, plain, strict=True))
    note = f"{statistics.median(ours) * 1e3:.0f} ms against {statistics.median(plain) * 1e3:.0f} ms in Event.wait"
    return Row(f"a group of {THREADS} {where}: start, stop, leave", ratio, "x", "<= 2", ratio <= 2, note)


def _sleep() -> None:
    stop = current_stop()
    if stop is not None:
        stop.sleep(600)


def _group(blocks: list[Callable[[], object]]) -> float:
    ready = threading.Semaphore(0)

    def work(block: Callable[[], object]) -> None:
        ready.release()
        block()

    began = time.perf_counter()
    with ThreadGroup() as group:
        for block in blocks:
            group.start(work, block)
        started = time.perf_counter() - began
        _await(ready)
        began = time.perf_counter()
        group.stop()
    return started + time.perf_counter() - began


def _plain() -> float:
    ready = threading.Semaphore(0)
    event = threading.Event()

    def work() -> None:
        ready.release()
        event.wait()

    began = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    started = time.perf_counter() - began
    _await(ready)
    began = time.perf_counter()
    event.set()
    for thread in threads:
        thread.join()
    return started + time.perf_counter() - began


def _await(ready: threading.Semaphore) -> None:
    # Not timed, and the same for both; a moment more, for the last of them to block.
    for _ in range(THREADS):
        ready.acquire()
    time.sleep(0.1)
