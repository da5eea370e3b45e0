"""A Dask cluster of the tests' own: a scheduler and workers, each a process, on ports of the loopback.

`Cluster` runs this file as a program, which lives until the end of its stdin (see `tests.serving`). It loads Dask once, and
each process is a fork of it, so that another worker is there in a moment. None has a nanny: one that is killed stays away, and
a worker whose scheduler is killed can be seen to end.

`from tests.dask_cluster import client_fixture, cluster_fixture` gives a file of tests the fixtures `client` and `cluster`.

The processes write what they have to say into a file; what is wrong with a test is found where it waits.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Self

import pytest

from tests.serving import Program, say_ready

_PR_SET_PDEATHSIG = 1


class Cluster(Program):
    """A running cluster, as a context manager.

    Args:
        workers: how many there are at first.
        threads: of each, so that so many tasks are run at once.

    Attributes:
        address: of the scheduler, for a `distributed.Client`.
        scheduler: its process.
        workers: their processes. They are called by these numbers, which `client.submit(..., workers=)` takes.
    """

    address: str
    scheduler: int

    def __init__(self, workers: int = 2, threads: int = 4) -> None:
        super().__init__("tests.dask_cluster")
        self._wanted = workers
        self._threads = threads
        self.workers: list[int] = []

    def __enter__(self) -> Self:
        super().__enter__()
        self.address, self.scheduler = self.words[0], int(self.words[1])
        try:
            for _ in range(self._wanted):
                self.add_worker()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def add_worker(self) -> int:
        """Start another one, which has joined when this returns; its process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self._threads}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line.startswith("ready "):
            raise RuntimeError(f"a worker could not be started:\n{line}{self._process.stdout.read()}")
        self.workers.append(int(line.split()[1]))
        return self.workers[-1]

    def kill_worker(self, process: int) -> None:
        """Kill one as a lack of memory does: without a word."""
        self.workers.remove(process)
        os.kill(process, signal.SIGKILL)

    def kill_scheduler(self) -> None:
        """Kill it as a lack of memory does."""
        os.kill(self.scheduler, signal.SIGKILL)


@pytest.fixture(name="cluster", scope="session")
def cluster_fixture() -> Iterator[Cluster]:
    """One cluster of two workers for each process of the tests, started before what a test leaves behind is measured.

    It has to be left with both of its workers, idle; a test that ends one has a `Cluster` of its own.
    """
    from distributed import Client

    with Cluster() as running:
        with Client(running.address) as client:  # starts what Dask has once for a process
            client.submit(str).result()
        yield running


@pytest.fixture(name="client")
def client_fixture(cluster: Cluster) -> Iterator[Any]:
    """A client of the cluster, which is the current one of the process."""
    from distributed import Client

    with Client(cluster.address) as client:
        yield client


async def _schedule(say: Callable[[str], None], folder: str) -> None:
    from distributed import Scheduler

    async with Scheduler(host="127.0.0.1", dashboard_address="127.0.0.1:0") as scheduler:
        say(scheduler.address)
        await scheduler.finished()


async def _work(say: Callable[[str], None], folder: str, address: str, threads: int) -> None:
    from distributed import Worker

    async with Worker(
        address,
        nthreads=threads,
        name=str(os.getpid()),
        local_directory=folder,
        memory_limit=0,
        dashboard_address="127.0.0.1:0",
    ) as worker:
        say("working")
        await worker.finished()


class _Children:
    """Processes of a cluster, which are killed at the end: nothing of them is wanted any more."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="dask-cluster-")
        self._pids: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
        for pid in self._pids:
            os.waitpid(pid, 0)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self, part: Callable[..., Coroutine[Any, Any, None]], *args: object) -> tuple[int, str]:
        """Run it in a process; which one that is, and what it has said when it is ready.

        Raises:
            RuntimeError: it has ended instead; the message has what it said.
        """
        parent = os.getpid()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() == parent:
                    self._run(part, args, writer)
            finally:
                os._exit(1)
        self._pids.append(pid)
        os.close(writer)
        with open(reader, encoding="utf-8") as lines:
            said = lines.readline()
        if not said:
            with open(os.path.join(self._folder, str(pid)), encoding="utf-8", errors="replace") as output:
                raise RuntimeError(output.read())
        return pid, said.strip()

    def _run(self, part: Callable[..., Coroutine[Any, Any, None]], args: tuple[object, ...], writer: int) -> None:
        output = os.open(os.path.join(self._folder, str(os.getpid())), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        for number in (1, 2):
            os.dup2(output, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

        def say(words: str) -> None:
            os.write(writer, f"{words}\n".encode())
            os.close(writer)

        asyncio.run(part(say, self._folder, *args))


def main() -> None:
    """Be the program: start the scheduler, and a worker for each line of stdin, which says how many threads it has."""
    import distributed  # noqa: F401 - once for all of them

    with _Children() as children:
        pid, address = children.start(_schedule)
        say_ready(address, pid)
        for line in iter(sys.stdin.readline, ""):
            say_ready(children.start(_work, address, int(line))[0])


if __name__ == "__main__":
    main()
