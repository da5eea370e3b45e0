"""What the throughput groups share: how much they do, a folder in memory, and seconds turned into rates."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks.measure import Run, in_turn

MIB = 1 << 20

#: The sizes of chunks that one is tried with before it takes part at its best.
CHUNK_SIZES = (64 << 10, 256 << 10, MIB, 4 * MIB)

#: What a socket or a file of the standard library may be ahead by: nobody would take it for that.
PLAIN = 0.95


@dataclass(frozen=True)
class Amount:
    """How much is done.

    Attributes:
        size: bytes of a file, a stream or a body.
        calls: of a small thing.
        rounds: how often each does it.
    """

    size: int
    calls: int
    rounds: int

    def of(self, *, quick: bool) -> Amount:
        """Itself, or what is done of it in a quick run."""
        return Amount(self.size // 4, self.calls, max(2, self.rounds // 4)) if quick else self


def seconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rate(work: Callable[[], object], amount: int) -> float:
    """How much of `amount`, which `work` does, is done in a second."""
    return amount / seconds(work)


def rated(work: Callable[[], object], amount: int) -> Run:
    """The same, as one of those that take turns."""
    return lambda: rate(work, amount)


def best_size(run: Callable[[int], float]) -> int:
    """The size of a chunk with which `run` has the highest rate, in the median of three rounds."""
    samples = in_turn({str(size): partial(run, size) for size in CHUNK_SIZES}, 3)
    return max(CHUNK_SIZES, key=lambda size: statistics.median(samples[str(size)]))


@contextmanager
def memory_folder() -> Iterator[str]:
    """A folder in memory where there is such a file system, so that no disk is measured."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        yield folder


def filled(path: str, size: int) -> str:
    """Make a file of random bytes, of whole MiB."""
    with open(path, "wb") as file:
        file.writelines(os.urandom(MIB) for _ in range(size // MIB))
    return path
