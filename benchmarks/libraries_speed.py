"""What patching costs a library that talks to a server: round trips in a patched process, against those in another one.

Both processes are there all the time and take turns, batch by batch, so that the machine is the same for both. Run as a program
this file is such a process: it is told on its stdin what to do, and says how many seconds that took.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from typing import Any, Self

from benchmarks.measure import Row, in_turn

ROUNDS = 60

#: Seconds that a batch is to take.
BATCH = 0.05

_WANTED = 0.95

#: Another plain process, for what two processes differ in by themselves.
_KINDS = ("plain", "patched", "again")


def measure() -> Iterator[Row]:
    """A row for each library: without a stop, with one that never comes, and how far the measurement itself can be trusted."""
    from tests import mariadb, postgres, redis_server

    with ExitStack() as stack:
        if why_not := redis_server.why_not() or mariadb.why_not() or postgres.why_not():
            raise RuntimeError(why_not)
        addresses = {
            "redis": str(stack.enter_context(redis_server.running()).port),
            "pymysql": (mysql := str(stack.enter_context(mariadb.running()).port)),
            "pymysql_tls": mysql,
            "pg8000": os.path.join(stack.enter_context(postgres.Postgres()).folder, ".s.PGSQL.5432"),
        }
        for library, address in addresses.items():
            plain, patched, again = (stack.enter_context(_Peer(kind, library, address)) for kind in _KINDS)
            size = _batch_size(plain)
            what = _WHAT[library]
            yield _row(f"{what}, no stop", patched, plain, size, "none")
            yield _row(f"{what}, a stop that is never set", patched, plain, size, "stop")
            yield _row(f"{what}, two plain processes", again, plain, size, "none", least=0.0)


def _row(what: str, ours: _Peer, plain: _Peer, size: int, stop: str, *, least: float = _WANTED) -> Row:
    ours.busy.clear()
    plain.busy.clear()
    first, second = in_turn(
        {"ours": lambda: ours.ask(size, stop), "plain": lambda: plain.ask(size, "none")}, ROUNDS
    ).values()
    ratio = statistics.median(b / a for a, b in zip(first, second, strict=True))
    each, other, busy, plain_busy = (
        statistics.median(seconds) / size * 1e6 for seconds in (first, second, ours.busy, plain.busy)
    )
    note = f"{each:.1f} us against {other:.1f} us, of them on the processor {busy:.1f} and {plain_busy:.1f}"
    return Row(what, ratio, "x", f">= {least}" if least else "1", ratio >= least, note)


#: The round trip of each library.
_WHAT = {
    "redis": "redis-py PING",
    "pymysql": "PyMySQL SELECT 1",
    "pymysql_tls": "PyMySQL with TLS SELECT 1",
    "pg8000": "pg8000 SELECT 1",
}


class _Peer:
    """A process with a connection, as a context manager.

    Attributes:
        busy: seconds on the processor, of each batch.
    """

    def __init__(self, kind: str, library: str, address: str) -> None:
        self._command = [sys.executable, "-m", "benchmarks.libraries_speed", kind, library, address]
        self.busy: list[float] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *exc_info: object) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()

    def ask(self, size: int, stop: str) -> float:
        """How many seconds a batch of that many round trips takes, under "none" or a "stop"."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{size} {stop}\n")
        self._process.stdin.flush()
        seconds, busy = map(float, self._process.stdout.readline().split())
        self.busy.append(busy)
        return seconds


def _batch_size(peer: _Peer) -> int:
    peer.ask(200, "none")
    return max(1, int(200 * BATCH / peer.ask(200, "none")))


# The process


def _redis(address: str) -> Callable[[], object]:
    import redis

    client: Any = redis.Redis(port=int(address))
    return client.ping  # type: ignore[no-any-return]  # as it is Any


def _pymysql(address: str, *, tls: bool = False) -> Callable[[], object]:
    import pymysql

    cursor: Any = pymysql.connect(host="127.0.0.1", port=int(address), user="tests", ssl_disabled=not tls).cursor()
    return lambda: cursor.execute("SELECT 1")


def _pymysql_tls(address: str) -> Callable[[], object]:
    return _pymysql(address, tls=True)


def _pg8000(address: str) -> Callable[[], object]:
    import pg8000.dbapi

    connection: Any = pg8000.dbapi.connect(user="tests", database="postgres", unix_sock=address)
    connection.autocommit = True
    cursor = connection.cursor()
    return lambda: cursor.execute("SELECT 1")


_CLIENTS = {"redis": _redis, "pymysql": _pymysql, "pymysql_tls": _pymysql_tls, "pg8000": _pg8000}


def _serve(kind: str, library: str, address: str) -> None:
    from iointerrupt import StopEvent, monkey, use_stop

    if kind == "patched":
        monkey.patch_all()
    round_trip = _CLIENTS[library](address)
    for line in sys.stdin:
        size, stop = line.split()
        with use_stop(StopEvent()) if stop == "stop" else nullcontext():
            began, busy = time.perf_counter(), time.process_time()
            for _ in range(int(size)):
                round_trip()
            seconds, busy = time.perf_counter() - began, time.process_time() - busy
        print(seconds, busy, flush=True)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
