"""A `ThreadGroup` of many blocked threads, against as many plain threads and an event."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from benchmarks.idle import many_threads
from benchmarks.measure import Comparison, in_turn
from iointerrupt import current_stop, sockets
from iointerrupt.threads import ThreadGroup

#: How many threads, and in how many rounds.
THREADS = {10: 20, 100: 15, 1_000: 8}
_QUICK = {100: 3}

PLAIN = "threading.Thread and Event"
#: Within twice of the plain ones.
LEAST = {PLAIN: 0.5}


def measure(*, quick: bool) -> Iterator[Comparison]:
    """Where the threads of the group are asleep, and where they receive."""
    for n, rounds in (_QUICK if quick else THREADS).items():
        with many_threads(n):
            yield _compare("asleep", [_sleep] * n, rounds)
            pairs = [sockets.socketpair() for _ in range(n)]
            yield _compare("in recv", [functools.partial(near.recv, 1) for near, _ in pairs], rounds)
            for near, far in pairs:
                near.close()
                far.close()


def _compare(where: str, blocks: Sequence[Callable[[], object]], rounds: int) -> Comparison:
    n = len(blocks)
    samples = in_turn({"iointerrupt": lambda: _group(blocks), PLAIN: lambda: _plain(n)}, rounds)
    return Comparison(f"threads {where}: start, stop and leave a group, n = {n:,}", "s", samples, least=LEAST)


def _sleep() -> None:
    stop = current_stop()
    if stop is not None:
        stop.sleep(600)


def _group(blocks: Sequence[Callable[[], object]]) -> float:
    ready = threading.Semaphore(0)

    def work(block: Callable[[], object]) -> None:
        ready.release()
        block()

    began = time.perf_counter()
    with ThreadGroup() as group:
        for block in blocks:
            group.start(work, block)
        started = time.perf_counter() - began
        _await(ready, len(blocks))
        began = time.perf_counter()
        group.stop()
    return started + time.perf_counter() - began


def _plain(n: int) -> float:
    ready = threading.Semaphore(0)
    event = threading.Event()

    def work() -> None:
        ready.release()
        event.wait()

    began = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(n)]
    for thread in threads:
        thread.start()
    started = time.perf_counter() - began
    _await(ready, n)
    began = time.perf_counter()
    event.set()
    for thread in threads:
        thread.join()
    return started + time.perf_counter() - began


def _await(ready: threading.Semaphore, n: int) -> None:
    # Not timed, and the same for both; a moment more, for the last of them to block.
    for _ in range(n):
        ready.acquire()
    time.sleep(0.02 + n / 10_000)
