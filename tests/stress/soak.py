"""Transfers by the hundred at the same time, from servers that misbehave, with stops at random: does what they take grow?

    python -m tests.stress.soak [--minutes M] [--transfers N] [--warm-up MINUTES] [--plot FILE.svg] [--seed SEED]

Two hundred threads transfer without a pause: downloads, requests of shared sessions, bare sockets, uploads. What each of them talks
to is drawn from all faults that `testing.faults` has, and from servers that are as they should be; each transfer has a stop
that comes at a random time, if it lasts that long. What has been delivered has to be the beginning of what is served.

Every fifteen seconds all of them are stopped at once, and wait. When the last one has ended, the sessions close the connections
that they keep, garbage is collected, the allocator gives back what is free (`malloc_trim`), and it is noted what the process takes:

- live memory: the bytes that are allocated, by `mallinfo2`. For that the program starts itself again, with environment
  variables that have all of Python's objects among them, and nothing that is free (`PYTHONMALLOC`, `GLIBC_TUNABLES`);
- resident memory: the pages that hold them;
- descriptors and threads.

After the warm-up, in which caches and pools fill, each of these has to be flat: the 95 % interval of its slope includes 0, or
lies below 64 KiB a minute for the memory, and 1 a minute for descriptors and threads. An interval that includes 0 says little
where it is wide. So each line also says what the largest leak in it would be, for one transfer: its upper end, by the number of
transfers. What one of them leaves behind for good (a socket, a session, a frame) is no less than some hundred bytes.

While they transfer it is noted once a second as well, for the plot. Descriptors, threads, and helpers are counted exactly at
the end, too: when all have ended, they have to be those of the beginning.
"""

from __future__ import annotations

import argparse
import bisect
import collections
import contextlib
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import requests

from iointerrupt import Interrupted, StopEvent, downloads, http, sockets, use_stop
from iointerrupt.testing._leaks import _Inventory
from tests.stress.samples import MEASURES, Series, give_back
from tests.stress.soak_servers import SIZE, body
from tests.stress.stops import Alarm
from tests.stress.trend import Row, Trend, draw, fit

#: By how much each may grow in a minute: KiB, and numbers.
LIMITS = {"live memory": 64.0, "resident memory": 64.0, "descriptors": 1.0, "threads": 1.0}

#: Seconds from one rest to the next.
REST = 15

#: Seconds that what has been told to end has for it.
LEAK_SECONDS = 20.0

# Seconds after which a transfer that was stopped has ended, on any machine.
_PATIENCE = 60.0

# Threads that share a session, and connections that it keeps for each server; there are some thirty, new ones all the time.
_SHARE, _POOL = 20, 3

# Seconds after which a stop comes at the latest, and after which a wait of a transfer is over.
_LONGEST, _TIMEOUT = 3.0, 2.0

# What may come of a server that misbehaves.
_EXPECTED = (requests.RequestException, OSError, EOFError, downloads.DownloadError)


@dataclass
class Counts:
    """What has become of the transfers."""

    outcomes: collections.Counter[str] = field(default_factory=collections.Counter)
    checked: int = 0
    under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, outcome: str, checked: int) -> None:
        """One more has ended."""
        with self.lock:
            self.outcomes[outcome] += 1
            self.checked += checked


class Soak:
    """All that the workers share.

    Args:
        servers: gives the newest addresses.
        folder: for what is downloaded.
        alarm: what sets the stops that come after a time.
        transfers: how many workers there will be.
        seed: of the workers.
    """

    def __init__(self, servers: Servers, folder: str, alarm: Alarm, transfers: int, seed: int) -> None:
        self._servers, self._folder, self._alarm, self._seed = servers, folder, alarm, seed
        self.ended = StopEvent()
        self._until_rest = StopEvent(self.ended)
        self._all = threading.Barrier(transfers + 1)
        self.sessions: list[http.Session] = []
        self.counts = Counts()
        self.failures: list[BaseException] = []
        self._body = body()
        self._large = 30 * self._body

    def work(self, number: int, session: http.Session) -> None:
        """Transfer until the end."""
        rng = random.Random(f"{self._seed}/{number}")
        while not self.ended.is_set():
            if self._until_rest.is_set():
                with contextlib.suppress(threading.BrokenBarrierError):
                    self._all.wait()  # all are here
                    self._all.wait()  # it goes on
            else:
                self._transfer(rng, number, session, self._until_rest)

    def _transfer(self, rng: random.Random, number: int, session: http.Session, until_rest: StopEvent) -> None:
        ways: list[Callable[[random.Random, int, http.Session], int]] = [
            self._request,
            self._request,
            self._download,
            self._receive,
            self._receive,
            self._upload,
        ]
        # Drawn evenly over the logarithm: as many come early as late.
        instant = 0.001 * (1000 * _LONGEST) ** rng.random()
        if rng.random() < 0.5:
            stop = StopEvent(until_rest, timeout=instant)
        else:
            stop = StopEvent(until_rest)
            self._alarm.after(instant, _weakly(stop))
        with self.counts.lock:
            self.counts.under_way += 1
        outcome, moved = "completed", 0
        try:
            with use_stop(stop):
                moved = rng.choice(ways)(rng, number, session)
        except Interrupted:
            outcome = "stopped"
        except _EXPECTED:
            outcome = "failed as the server did"
        except BaseException as error:
            self.failures.append(error)
            self.end()
        with self.counts.lock:
            self.counts.under_way -= 1
        self.counts.add(outcome, moved)

    def end(self) -> None:
        """No more transfers."""
        self.ended.set("it is enough")
        self._all.abort()

    @contextlib.contextmanager
    def rest(self) -> Iterator[float]:
        """A block in which nobody transfers; how many seconds the last one took to end.

        Raises:
            threading.BrokenBarrierError: a transfer has failed, or has not ended.
        """
        began = time.monotonic()
        self._until_rest.set("a rest")
        self._all.wait(_PATIENCE)
        took = time.monotonic() - began
        for session in self.sessions:  # which connections there are in their pools is a matter of chance
            session.close()
        yield took
        self._until_rest = StopEvent(self.ended)
        self._all.wait(_PATIENCE)

    def _check(self, at: int, data: bytes) -> int:
        assert data == self._body[at : at + len(data)], f"{len(data)} bytes at {at} are not those that were sent"
        return len(data)

    def _http_url(self, rng: random.Random) -> tuple[str, str]:
        return rng.choice([(name, url) for name, url in self._servers.urls.items() if not name.startswith("raw")])

    def _request(self, rng: random.Random, _: int, session: http.Session) -> int:
        name, url = self._http_url(rng)
        with contextlib.closing(session.get(url, stream=True)) as response:
            size = rng.choice((1000, 50_000))
            chunks: Iterator[Any] = (
                http.iter_chunks(response, chunk_size=size) if rng.random() < 0.7 else response.iter_content(size)
            )
            moved = 0
            for chunk in chunks:
                if response.ok and name != "changing validator":  # after its first connection it serves something else
                    self._check(moved, chunk)
                moved += len(chunk)
        return moved

    def _download(self, rng: random.Random, number: int, session: http.Session) -> int:
        name, url = self._http_url(rng) if rng.random() < 0.3 else ("files", self._servers.urls["files"])
        path = os.path.join(self._folder, f"{number}")
        # It may go on from what the last one has left there, be it of another server.
        done = downloads.download(
            f"{url}/file",
            path,
            session=session,
            retries=1,
            backoff=0.01,
            timeout=_TIMEOUT,
            overwrite=True,
            segments=rng.choice((1, 1, 4)),
        )
        with open(path, "rb") as file:
            data = file.read()
        assert done.path == path
        if name in {"none", "files", "files over TLS"}:
            assert len(data) == SIZE, f"a download of {len(data)} bytes is said to be complete"
            self._check(0, data)
        os.unlink(path)
        return len(data)

    def _receive(self, rng: random.Random, _: int, __: object) -> int:
        urls = [url for name, url in self._servers.urls.items() if name.startswith("raw")]
        host, port = rng.choice(urls).removeprefix("http://").split(":")
        with sockets.create_connection((host, int(port)), timeout=_TIMEOUT) as sock:
            moved = 0
            if rng.random() < 0.5:
                for chunk in sockets.iter_chunks(sock, chunk_size=rng.choice((1000, 50_000))):
                    moved += self._check(moved, chunk)
                return moved
            with sock.makefile("rb") as file:
                while data := file.read(rng.choice((1000, 50_000))):
                    moved += self._check(moved, data)
            return moved

    def _upload(self, rng: random.Random, _: int, session: http.Session) -> int:
        name = rng.choice(("slow upload", "none", "files over TLS"))
        session.put(self._servers.urls[name], data=rng.choice((self._body, self._large)))
        return 0


def _weakly(stop: StopEvent) -> Callable[[], object]:
    # A transfer that is over leaves nothing in the alarm.
    ref = weakref.ref(stop)
    return lambda: stop.set() if (stop := ref()) is not None else None


class Servers:
    """The process of the servers, and where the newest ones are.

    Attributes:
        urls: by name.
        authority: the path of the certificate to trust.
    """

    def __init__(self, folder: str) -> None:
        self.authority = os.path.join(folder, "authority.pem")
        self.urls: dict[str, str] = {}
        self._there = threading.Event()

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stress.soak_servers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._thread = threading.Thread(target=self._listen, name="servers")
        self._thread.start()
        if not self._there.wait(30):
            raise RuntimeError("the servers have not come up")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._thread.join()
        status = self._process.wait(60)
        assert self._process.stdout is not None
        self._process.stdout.close()
        assert status == 0, f"the servers have ended with {status}"

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if not self._there.is_set():
                with open(self.authority, "w", encoding="ascii") as file:
                    file.write(said["authority"])
            self.urls = said["urls"]
            self._there.set()


@dataclass
class Record:
    """What there was to be seen of a run.

    Attributes:
        busy: about once a second, while it transfers.
        resting: each `REST` seconds, when nobody does.
        under_way: how many transfers there were, in `busy`.
        slowest: seconds that the last transfer took to end before a rest, at most.
        counts: what has become of the transfers.
    """

    busy: Series = field(default_factory=Series)
    resting: Series = field(default_factory=Series)
    under_way: list[int] = field(default_factory=list)
    slowest: float = 0.0
    counts: Counts = field(default_factory=Counts)

    def rested(self, name: str, warm_up: float) -> tuple[list[float], list[float]]:
        """The minutes after the warm-up, and what it took then, when nobody transferred."""
        first = bisect.bisect_right(self.resting.minutes, warm_up)
        return self.resting.minutes[first:], self.resting.taken[name][first:]


def run(*, transfers: int, rests: int, seed: int) -> Record:
    """Transfer until there have been so many rests.

    Raises:
        AssertionError: a transfer has delivered what was not sent, or something was left behind.
        BaseException: a transfer has ended as none may.
    """
    record = Record()
    with (
        tempfile.TemporaryDirectory() as folder,
        _nothing_left(),
        Servers(folder) as servers,
    ):
        with Alarm() as alarm, contextlib.ExitStack() as scope:
            soak = Soak(servers, folder, alarm, transfers, seed)
            record.counts = soak.counts
            threads = []
            for number in range(transfers):
                if number % _SHARE == 0:
                    session = scope.enter_context(http.Session(timeout=_TIMEOUT, pool_size=_POOL))
                    session.verify, session.trust_env = servers.authority, False
                    soak.sessions.append(session)
                threads.append(threading.Thread(target=soak.work, args=(number, session), name=f"transfer {number}"))
            for thread in threads:
                thread.start()
            _watch(soak, record, rests)
            for thread in threads:
                thread.join(_PATIENCE)
                assert not thread.is_alive(), f"{thread.name} has not stopped: {_stack(thread)}"
        if soak.failures:
            raise soak.failures[0]
    return record


def _watch(soak: Soak, record: Record, rests: int) -> None:
    # Takes samples until the end.
    began = time.monotonic()
    said = 60.0
    while not soak.ended.wait(1):
        record.under_way.append(soak.counts.under_way)
        record.busy.take((time.monotonic() - began) / 60)
        if time.monotonic() - began >= REST * (len(record.resting.minutes) + 1):
            try:
                with soak.rest() as took:
                    record.slowest = max(record.slowest, took)
                    give_back()
                    record.resting.take((time.monotonic() - began) / 60)
            except threading.BrokenBarrierError:  # one has failed, or does not end
                soak.end()
        if time.monotonic() - began >= said:
            print(_progress(said / 60, record), flush=True)
            said += 60
        if len(record.resting.minutes) >= rests:
            soak.end()


@contextlib.contextmanager
def _nothing_left() -> Iterator[None]:
    # What `no_leaks` looks at, but without its records of where each thing was made, which grow for a while.
    inventory = _Inventory()
    yield
    deadline = time.monotonic() + LEAK_SECONDS
    while inventory.left() and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.1)
    if left := inventory.left():
        raise AssertionError("\n  ".join(["the soak left behind:", *(say() for say in left)]))


def _stack(thread: threading.Thread) -> str:
    return "".join(traceback.format_stack(sys._current_frames()[thread.ident or 0]))


def _progress(minutes: float, record: Record) -> str:
    now = {name: taken[-1] for name, taken in record.resting.taken.items()}
    return (
        f"{minutes:.0f} min: {record.counts.outcomes.total():,} transfers; resting, {now['live memory'] / 1024:.1f} MiB live,"
        f" {now['resident memory'] / 1024:.1f} MiB resident, {now['descriptors']:.0f} descriptors, {now['threads']:.0f} threads"
    )


def trends(record: Record, warm_up: float) -> dict[str, Trend]:
    """What each of them did after so many minutes."""
    return {name: fit(*record.rested(name, warm_up)) for name in MEASURES}


def report(found: dict[str, Trend], transfers_a_minute: float) -> str:
    """Lines that say how each of them grew, whether that is flat, and which leak would have been seen."""
    lines = []
    for name, trend in found.items():
        unit, small, each = (" KiB", "bytes", 1024) if "memory" in name else ("", "of them", 1)
        largest = max(0.0, trend.slope + trend.margin) * each / transfers_a_minute
        lines.append(
            f"{name:<16}{trend.level:>10,.1f}{unit} on average, {trend.slope:+.3f} ± {trend.margin:.3f}{unit} a minute:"
            f" {'flat' if trend.is_flat(LIMITS[name]) else 'IT GROWS'}; at most {largest:.2g} {small} a transfer"
        )
    return "\n".join(lines)


def _picture(path: str, title: str, record: Record, warm_up: float) -> None:
    rows = []
    for name, trend in trends(record, warm_up).items():
        unit, size = ("KiB", 1024) if "memory" in name else ("", 1)
        busy, resting = (
            (series.minutes, [value / size for value in series.taken[name]]) for series in (record.busy, record.resting)
        )
        rows.append(Row(f"{name}, MiB" if unit else name, unit, busy, resting, trend, size))
    draw(path, title, warm_up, rows)


def main() -> int:
    """Do what was asked for; returns 1 if something grows."""
    if os.environ.get("PYTHONMALLOC") != "malloc":
        # Python's own allocator does not say how much is in use, and what glibc keeps free for each thread it says to be.
        more = {
            "PYTHONMALLOC": "malloc",
            "MALLOC_ARENA_MAX": "2",
            "GLIBC_TUNABLES": "glibc.malloc.tcache_count=0",
        }
        os.execve(sys.executable, [sys.executable, "-m", "tests.stress.soak", *sys.argv[1:]], os.environ | more)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long, warm-up included (default: %(default)g)")
    parser.add_argument("--transfers", type=int, default=200, help="how many at a time (default: %(default)s)")
    parser.add_argument("--warm-up", type=float, help="minutes that are not judged (default: 3, a third at most)")
    parser.add_argument("--plot", metavar="FILE", help="where to draw it, as SVG or PNG; takes matplotlib")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    warm_up = min(3.0, arguments.minutes / 3) if arguments.warm_up is None else arguments.warm_up
    print(f"seed {arguments.seed}, Python {sys.version.split()[0]}", flush=True)
    record = run(transfers=arguments.transfers, rests=round(60 * arguments.minutes / REST), seed=arguments.seed)
    found = trends(record, warm_up)
    total = record.counts.outcomes.total()
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in record.counts.outcomes.most_common())
    print(
        f"{total:,} transfers in {arguments.minutes:g} min, {statistics.fmean(record.under_way):.0f} at a time: {outcomes}\n"
        f"{record.counts.checked:,} bytes checked, none lost; nothing left behind;"
        f" stopped all at once, the last one ended after {record.slowest:.2f} s at most"
    )
    print(f"after {warm_up:g} min of warm-up:\n{report(found, total / arguments.minutes)}")
    if arguments.plot:
        title = f"{arguments.transfers} transfers at a time, {total:,} in all, with faults and stops at random"
        _picture(arguments.plot, title, record, warm_up)
    return 0 if all(trend.is_flat(LIMITS[name]) for name, trend in found.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
