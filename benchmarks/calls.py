"""`calls`: how soon each call ends after a stop, and what it costs while nobody stops, against the standard call."""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import queue
import sqlite3
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.latency import KINDS, Block, MakeStop, Operations, measure_each
from benchmarks.latency_timing import Attempt, Ready, moment_of, time_of_stop, timed
from benchmarks.measure import Comparison, Row, Run, in_turn
from iointerrupt import Interrupted, StopEvent, StopLike, calls

ITEMS = 50_000
ROUNDS = 12
_QUICK = 20  # times fewer items, and half of the rounds

#: How many times as good as `Event.wait`'s own wake-up a stop has to be; many of them have a lock to take after it.
_LEAST = 1 / 3


def measure(*, quick: bool) -> Iterator[Comparison | Row]:
    """How soon they stop, and then what they cost."""
    yield from measure_each(OPERATIONS, quick=quick, least=_LEAST)
    yield from measure_each(ASKED, quick=quick, rounds=25, period=StopEvent.poll_interval)
    yield from _interrupting(quick=quick)
    yield _run(quick=quick)
    yield from _queues(quick=quick)
    yield _uncontended(quick=quick)


# How soon they stop


@contextmanager
def _blocking(block: Block) -> Iterator[Block]:
    yield block


@contextmanager
def _full() -> Iterator[Block]:
    full: queue.Queue[int] = queue.Queue(1)
    full.put(1)
    yield lambda stop: calls.put(full, 2, stop=stop)


@contextmanager
def _from_a_process() -> Iterator[Block]:
    shared: Any = multiprocessing.Queue()
    yield lambda stop: calls.get(shared, stop=stop)
    shared.close()


@contextmanager
def _held(lock: Any) -> Iterator[Block]:
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    yield lambda stop: calls.acquire(lock, stop=stop)
    over.set()
    holder.join()


@contextmanager
def _condition() -> Iterator[Block]:
    condition = threading.Condition()

    def block(stop: StopLike) -> None:
        with condition:
            calls.wait(condition, stop=stop)

    yield block


@contextmanager
def _thread() -> Iterator[Block]:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    yield lambda stop: calls.join(thread, stop=stop)
    over.set()
    thread.join()


@contextmanager
def _process() -> Iterator[Block]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        yield lambda stop: calls.join(child, stop=stop)


@contextmanager
def _call() -> Iterator[Block]:
    overs = [threading.Event()]

    def block(stop: StopLike) -> None:
        overs.pop().set()  # for what the last stop has left behind: a crowd of those would slow everything down
        overs.append(threading.Event())
        calls.call(overs[0].wait, stop=stop)

    yield block
    overs.pop().set()


OPERATIONS: Operations = {
    "calls.sleep": lambda: _blocking(lambda stop: calls.sleep(60, stop=stop)),
    "calls.get, Queue": lambda: _blocking(lambda stop: calls.get(queue.Queue(), stop=stop)),
    "calls.get, multiprocessing.Queue": _from_a_process,
    "calls.put, Queue": _full,
    "calls.acquire, Lock": lambda: _held(threading.Lock()),
    "calls.acquire, RLock": lambda: _held(threading.RLock()),
    "calls.acquire, Semaphore": lambda: _held(threading.Semaphore()),
    "calls.wait, Condition": _condition,
    "calls.wait, Event": lambda: _blocking(lambda stop: calls.wait(threading.Event(), stop=stop)),
    "calls.join, Thread": _thread,
    "calls.join, Popen": _process,
    "calls.result": lambda: _blocking(lambda stop: calls.result(concurrent.futures.Future[int](), stop=stop)),
    "calls.call": _call,
}

#: What can only be asked, in turns: a stop is seen at the end of one.
ASKED: Operations = {
    "calls.get, SimpleQueue": lambda: _blocking(lambda stop: calls.get(queue.SimpleQueue(), stop=stop)),
}


def _interrupting(*, quick: bool) -> Iterator[Comparison]:
    """What interrupts it is the driver's own function, which ours calls in a thread of its own: so against a bare call."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    other = "sqlite3.Connection.interrupt"

    def execute(ready: Ready, stop: Callable[[], object]) -> None:
        def running() -> None:
            ready(stop)

        # An interrupt has no effect before the statement runs: it says itself that it does.
        connection.create_function("running", 0, running)
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT running() UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n"
        ).fetchone()

    def plain(ready: Ready) -> float:
        return moment_of(sqlite3.OperationalError, lambda: execute(ready, connection.interrupt))

    def ours(make_stop: MakeStop, ready: Ready) -> float:
        stop, set_ = make_stop()

        def block() -> None:
            with calls.interrupting(connection.interrupt, stop=stop):
                execute(ready, set_)

        return moment_of(Interrupted, block)

    for kind, (make_stop, _) in KINDS.items():
        blocks: dict[str, Callable[[Ready], float]] = {"iointerrupt": functools.partial(ours, make_stop), other: plain}
        samples = in_turn(
            {name: functools.partial(time_of_stop, Attempt(block, sleeps=False)) for name, block in blocks.items()},
            5 if quick else 50,
        )
        what = f"calls.interrupting, sqlite3, stopped by a {kind}"
        yield Comparison(what, "s", samples)
    connection.close()


def _run(*, quick: bool) -> Comparison:
    """Its end is the end of a process: so against terminate and wait."""

    def block(ready: Ready) -> float:
        stop = StopEvent()
        ready(stop.set)
        return moment_of(Interrupted, lambda: calls.run(["sleep", "60"], stop=stop))

    def plain(ready: Ready) -> float:
        with subprocess.Popen(["sleep", "60"]) as child:
            ready(child.terminate)
            child.wait()
            return time.perf_counter()

    other = "Popen.terminate and wait"
    runs = {"iointerrupt": timed(lambda: Attempt(block)), other: timed(lambda: Attempt(plain))}
    samples = in_turn(runs, 5 if quick else 50)
    return Comparison("calls.run, stopped, until it is reaped", "s", samples, least={other: _LEAST})


# What they cost


def _queues(*, quick: bool) -> Iterator[Comparison]:
    stop = StopEvent()
    kinds: dict[str, Callable[[Any], object]] = {
        "without a stop": calls.get,
        "with one": lambda source: calls.get(source, stop=stop),
    }
    plain = "queue.Queue.get"
    items = ITEMS // _QUICK if quick else ITEMS
    for name, get in kinds.items():
        for what, take in (("that are there", _drain), ("of a thread that puts", _move)):
            runs: dict[str, Run] = {
                "iointerrupt": functools.partial(take, get, items),
                plain: functools.partial(take, queue.Queue.get, items),
            }
            samples = in_turn(runs, ROUNDS // 2 if quick else ROUNDS)
            yield Comparison(f"calls.get of {items:,} items {what}, {name}", "s", samples, least={plain: 0.9})


def _drain(get: Callable[[Any], object], items: int) -> float:
    source: queue.Queue[int] = queue.Queue()
    for item in range(items):
        source.put(item)
    began = time.perf_counter()
    for _ in range(items):
        get(source)
    return time.perf_counter() - began


def _move(get: Callable[[Any], object], items: int) -> float:
    source: queue.Queue[int] = queue.Queue(1000)

    def produce() -> None:
        for item in range(items):
            source.put(item)

    producer = threading.Thread(target=produce)
    began = time.perf_counter()
    producer.start()
    for _ in range(items):
        get(source)
    took = time.perf_counter() - began
    producer.join()
    return took


def _uncontended(*, quick: bool) -> Row:
    """It is a few hundred bytecodes against one call of C: so the difference is what counts, and not the ratio."""
    lock, stop = threading.Lock(), StopEvent()
    items = ITEMS // _QUICK if quick else ITEMS

    def take(acquire: Callable[[], object]) -> float:
        began = time.perf_counter()
        for _ in range(items):
            acquire()
            lock.release()
        return (time.perf_counter() - began) / items

    samples = in_turn(
        {"ours": lambda: take(functools.partial(calls.acquire, lock, stop=stop)), "plain": lambda: take(lock.acquire)},
        ROUNDS // 2 if quick else ROUNDS,
    )
    extra = statistics.median(ours - plain for ours, plain in zip(*samples.values(), strict=True))
    return Row("calls.acquire of a free Lock, beyond acquire's own", extra * 1e6, "us", "<= 2", extra <= 2e-6)
