"""A Dask cluster on this machine: how soon a stop ends what its workers are at, and many small downloads.

    python -m benchmarks.cluster [--quick] [stops] [downloads]

Scheduler and workers are processes of their own (`tests.dask_cluster`); `time.monotonic` is the same clock in all of them.
What is compared takes turns on one cluster. Dask's own `Event.wait`, which does no I/O, is the floor for the stops: a message to
the scheduler, and one from there to each worker.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import socket
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import distributed

from benchmarks import cluster_tasks, report
from benchmarks.measure import Comparison, Row, in_turn
from iointerrupt.dask import ClusterStop, download_all
from tests.dask_cluster import Cluster
from tests.nginx import Nginx, why_not

#: Workers and threads of each that are stopped, and how often.
WORKERS, THREADS = 2, 4
ROUNDS, _QUICK_ROUNDS = 40, 8

#: Seconds for those who have begun to be blocked.
SETTLE = 0.2

#: Files, their size in bytes, by how many workers they are fetched, and how often.
FILES, _QUICK_FILES = 10_000, 1_000
SIZE = 1024
SPREAD = (2, 4)
_SPREAD_ROUNDS, _QUICK_SPREAD_ROUNDS = 5, 1

OURS, FLOOR, POLLING = (
    "iointerrupt",
    "distributed.Event.wait",
    f"polling distributed.Event, {cluster_tasks.PERIOD * 1e3:.0f} ms",
)
PLAIN, POOLED = "client.map, requests.get", "client.map, a session for each thread"

# It has types, but not for all of its functions.
_dask: Any = distributed

# A file system in memory, so that no disk is measured.
_MEMORY = "/dev/shm"


def measure(*, quick: bool) -> Iterator[Comparison | Row]:
    """Both parts."""
    yield from stops(quick=quick)
    yield from downloads(quick=quick)


def stops(*, quick: bool) -> Iterator[Comparison]:
    """From `set()` in the client to when the last thread of the last worker has stopped."""
    with (
        Cluster(WORKERS, THREADS) as cluster,
        _dask.Client(cluster.address) as client,
        socket.create_server(("127.0.0.1", 0)) as listening,
    ):
        bench = _Stops(client, cluster.workers, listening)
        samples = in_turn(
            {
                OURS: lambda: bench.one(ClusterStop(client), cluster_tasks.receive),
                FLOOR: lambda: bench.one(_dask.Event(f"floor-{uuid.uuid4().hex}"), cluster_tasks.wait),
                POLLING: lambda: bench.one(_dask.Event(f"polled-{uuid.uuid4().hex}"), cluster_tasks.poll),
            },
            _QUICK_ROUNDS if quick else ROUNDS,
        )
    what = f"cluster: set() to the last of {WORKERS * THREADS} transfers in {WORKERS} workers"
    yield Comparison(what, "s", samples, least={POLLING: 5.0, FLOOR: 0.5})


class _Stops:
    """A cluster, and the other side of its transfers."""

    def __init__(self, client: Any, workers: Sequence[int], listening: socket.socket) -> None:
        self._client = client
        self._workers = workers
        self._listening = listening

    def one(self, stop: Any, blocks: Callable[[Any, tuple[str, int]], float]) -> float:
        """Block all threads of all workers, set the stop, and see when the last of them has returned."""
        address = self._listening.getsockname()
        tasks = [
            self._client.submit(blocks, stop, address, workers=[str(worker)], pure=False)
            for worker in self._workers
            for _ in range(THREADS)
        ]
        with contextlib.ExitStack() as stack:
            for _ in tasks:
                sock = stack.enter_context(self._listening.accept()[0])
                sock.sendall(b"half")
            time.sleep(SETTLE)
            began = time.monotonic()
            stop.set()
            ended: list[float] = self._client.gather(tasks)
            return max(ended) - began


def downloads(*, quick: bool) -> Iterator[Comparison | Row]:
    """Many small files, by few and by more workers."""
    if (reason := why_not()) is not None:
        yield Row("cluster: downloads", 0, "", "measured", met=False, note=reason)
        return
    files, rounds = (_QUICK_FILES, _QUICK_SPREAD_ROUNDS) if quick else (FILES, _SPREAD_ROUNDS)
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        served = os.path.join(folder, "served")
        os.mkdir(served)
        for number in range(files):
            with open(os.path.join(served, f"{number:05}"), "wb") as file:
                file.write(os.urandom(SIZE))
        with Nginx(served, workers=2) as server:
            urls = [f"{server.url}/{number:05}" for number in range(files)]
            for workers in SPREAD:
                yield _spread(urls, workers, folder, rounds)


def _spread(urls: Sequence[str], workers: int, folder: str, rounds: int) -> Comparison:
    with Cluster(workers, THREADS) as cluster, _dask.Client(cluster.address) as client:
        per_host = workers * THREADS  # as many at a time as the others have threads

        def timed(fetch_all: Callable[[str], object]) -> float:
            dest = os.path.join(folder, "dest")
            os.mkdir(dest)
            try:
                began = time.perf_counter()
                fetch_all(dest)
                took = time.perf_counter() - began
                if (there := len(os.listdir(dest))) != len(urls):
                    raise RuntimeError(f"{there:,} of {len(urls):,} files are there")
                return took
            finally:
                shutil.rmtree(dest)

        def mapped(fetch: Callable[[str, str], None]) -> Callable[[str], object]:
            return lambda dest: client.gather(client.map(fetch, urls, dest=dest, pure=False))

        samples = in_turn(
            {
                OURS: lambda: timed(
                    lambda dest: download_all(client, urls, dest=dest, connections_per_host=per_host, jobs=THREADS)
                ),
                PLAIN: lambda: timed(mapped(cluster_tasks.get)),
                POOLED: lambda: timed(mapped(cluster_tasks.get_pooled)),
            },
            rounds,
        )
    return Comparison(f"cluster: {len(urls):,} files of {SIZE} B through {workers} workers", "s", samples)


def main() -> None:
    """Measure, and print."""
    parts: dict[str, Callable[..., Iterator[Comparison | Row]]] = {"stops": stops, "downloads": downloads}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(parts)}; both by default")
    parser.add_argument("--quick", action="store_true", help="a tenth of the time, for a first look")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - parts.keys():
        parser.error(f"unknown part {', '.join(sorted(unknown))}: there are {', '.join(parts)}")
    print(report.machine())
    for part in arguments.parts or parts:
        for result in parts[part](quick=arguments.quick):
            for line in report.lines(result):
                print(line, flush=True)


if __name__ == "__main__":
    main()
