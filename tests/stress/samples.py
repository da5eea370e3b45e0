"""What a process takes: memory that is live, memory that is resident, descriptors, threads."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar


def _live_memory() -> float:
    # In KiB: in use, and in blocks so large that each is mapped by itself.
    said = _libc.mallinfo2()
    return float(said.uordblks + said.hblkhd) / 1024


class _Mallinfo(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_: ClassVar = [(name, ctypes.c_size_t) for name in _names.split()]


_libc = ctypes.CDLL(None)
_libc.mallinfo2.restype = _Mallinfo


def _resident_memory() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1024


#: By name: what a process takes, in KiB, and in numbers.
MEASURES: dict[str, Callable[[], float]] = {
    "live memory": _live_memory,
    "resident memory": _resident_memory,
    "descriptors": lambda: len(os.listdir("/proc/self/fd")),
    "threads": threading.active_count,
}


@dataclass
class Series:
    """What the process took at some times, by name of the measure.

    Attributes:
        minutes: since the beginning.
        taken: as many, of each measure.
    """

    minutes: list[float] = field(default_factory=list)
    taken: dict[str, list[float]] = field(default_factory=lambda: {name: [] for name in MEASURES})

    def take(self, minutes: float) -> None:
        """Note what it takes now."""
        self.minutes.append(minutes)
        for name, measure in MEASURES.items():
            self.taken[name].append(measure())


def give_back() -> None:
    """Have the process keep no memory that it does not need."""
    gc.collect()
    _libc.malloc_trim(0)
