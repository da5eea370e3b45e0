"""`Plan`: which worker fetches what next. Pure: it knows addresses and numbers, and neither Dask nor the network.

Theory of operation. A *lane* is one connection to one host, from one worker, over which it fetches a batch of items one after
the other. There are never more lanes to a host than `per_host`, nor more in a worker than `jobs`. So the limit per host holds
for the whole cluster, by construction: nobody counts connections while they are used.

How large a batch is follows from how long the last items of its host took: a large file is a batch of its own, of small ones
there are as many as take half a second. So ten thousand small files do not cost ten thousand tasks, and a lane that breaks
takes little with it. Towards the end batches shrink, so that all lanes are busy until there is nothing left.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

# Seconds that a batch should take, and how many items it has at most, since each is told of.
_BATCH = 0.5
_MOST = 500

# A batch is no larger than a share of what is left: that of one lane, divided by this.
_SHARES = 2


@dataclass(frozen=True)
class Batch:
    """What one lane fetches.

    Attributes:
        host: of all of its items.
        worker: the address of the worker that is to do it.
        numbers: of the items, in their order.
    """

    host: str
    worker: str
    numbers: tuple[int, ...]


class Plan:
    """The items that wait, and the lanes that there are. What it does takes time in the number of lanes, not of hosts.

    Args:
        hosts: of each item, in the order of their numbers.
        per_host: how many lanes there may be to a host.
        jobs: how many there may be in a worker.
    """

    def __init__(self, hosts: Sequence[str], *, per_host: int, jobs: int) -> None:
        self._per_host, self._jobs = per_host, jobs
        self._waiting: dict[str, deque[int]] = {}
        for number, host in enumerate(hosts):
            self._waiting.setdefault(host, deque()).append(number)
        self._idle = OrderedDict.fromkeys(self._waiting)  # hosts with items that wait and no lane, the next one first
        self._to_host: Counter[str] = Counter()  # lanes; none that has no lane is in it
        self._in_worker: Counter[str] = Counter()
        self._seconds: dict[str, float] = {}  # that an item took of late, by host
        self.workers: Collection[str] = ()

    @property
    def waiting(self) -> int:
        """How many items are in no lane."""
        return sum(map(len, self._waiting.values()))

    def next(self) -> Batch | None:
        """Take the next batch and open a lane for it; None if nothing can be begun now."""
        host = self._next_host()
        worker = min(self.workers, key=self._in_worker.__getitem__, default=None)
        if host is None or worker is None or self._in_worker[worker] >= self._jobs:
            return None
        waiting = self._waiting[host]
        batch = Batch(host, worker, tuple(waiting.popleft() for _ in range(self._size(host))))
        if not waiting:
            del self._waiting[host]
        self._idle.pop(host, None)
        self._to_host[host] += 1
        self._in_worker[worker] += 1
        return batch

    def moved(self, batch: Batch, worker: str) -> Batch:
        """A lane is in another worker than it was meant for."""
        self._leave(batch)
        self._in_worker[worker] += 1
        return Batch(batch.host, worker, batch.numbers)

    def ended(self, batch: Batch, *, seconds: float | None = None, back: Sequence[int] = ()) -> None:
        """A lane is no more.

        Args:
            batch: what it had.
            seconds: what all of that took; None where it is not known.
            back: what of it has to be fetched all the same. It is the first to be.
        """
        self._leave(batch)
        host = batch.host
        self._to_host[host] -= 1
        if seconds is not None:
            self._seconds[host] = seconds / len(batch.numbers)
        if back:
            self._waiting.setdefault(host, deque()).extendleft(reversed(back))
        if not self._to_host[host]:
            del self._to_host[host]
            if host in self._waiting:
                self._idle[host] = None
                self._idle.move_to_end(host, last=not back)  # what comes back has been waited for longest

    def _leave(self, batch: Batch) -> None:
        self._in_worker[batch.worker] -= 1
        if not self._in_worker[batch.worker]:
            del self._in_worker[batch.worker]

    def _next_host(self) -> str | None:
        """That with the fewest lanes; of those that have none, the one that has waited longest."""
        if self._idle:
            return next(iter(self._idle))
        busy = (host for host, lanes in self._to_host.items() if lanes < self._per_host and host in self._waiting)
        return min(busy, key=self._to_host.__getitem__, default=None)

    def _size(self, host: str) -> int:
        seconds = self._seconds.get(host)
        if seconds is None:  # one is enough to find out
            return 1
        lanes = max(1, min(self._per_host, self._jobs * len(self.workers)))
        share = math.ceil(len(self._waiting[host]) / (_SHARES * lanes))
        return min(share, _MOST, max(1, int(_BATCH / max(seconds, _BATCH / _MOST))))
