"""`Queue`: the downloads that wait, by host and priority, and the connections that there are to each host. Not locked."""

from __future__ import annotations

import heapq
import itertools

from iointerrupt.downloads._handle import Download, Place

_Entry = tuple[float, int, Download]


class Queue:
    """What waits for its turn.

    A download that is stopped or paused meanwhile is not looked for: its entry is void, and dropped when it comes first.

    Args:
        per_host: how many connections there may be to one host.
    """

    def __init__(self, per_host: int) -> None:
        self._per_host = per_host
        self._numbers = itertools.count()
        self._waiting: dict[str, list[_Entry]] = {}
        self._connections: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, download: Download) -> None:
        """Let it wait, behind all others of its priority."""
        download._place, download._number = Place.QUEUED, next(self._numbers)
        entry = (-download.priority, download._number, download)
        heapq.heappush(self._waiting.setdefault(download._host, []), entry)

    def drop(self, download: Download) -> None:
        """It waits no longer."""
        entries = self._waiting.get(download._host)
        if entries is not None:
            while entries and not _counts(entries[0]):
                heapq.heappop(entries)
            if not entries:
                del self._waiting[download._host]

    def can_begin(self) -> bool:
        """Whether one of them can."""
        return any(self._has_room(host) for host in self._waiting)

    def pop(self) -> Download | None:
        """The first of those that can begin, with a connection to its host; None if there is none."""
        best: list[_Entry] | None = None
        for host, entries in self._waiting.items():
            if self._has_room(host) and (best is None or entries[0] < best[0]):
                best = entries
        if best is None:
            return None
        download = best[0][2]
        download._place = Place.RUNNING
        self.drop(download)
        self.connect(download._host)
        return download

    def connect(self, host: str) -> bool:
        """Take a further connection to a host; return whether there is one."""
        has_room = self._has_room(host)
        if has_room:
            self._connections[host] = self._connections.get(host, 0) + 1
        return has_room

    def disconnect(self, host: str) -> None:
        """Give a connection back."""
        left = self._connections[host] - 1
        if left:
            self._connections[host] = left
        else:
            del self._connections[host]

    def _has_room(self, host: str) -> bool:
        return self._connections.get(host, 0) < self._per_host


def _counts(entry: _Entry) -> bool:
    _, number, download = entry
    return download._place is Place.QUEUED and download._number == number
