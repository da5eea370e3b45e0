"""`calls`: how soon each call ends after a stop, and what it costs while nobody stops, against the standard call."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import queue
import sqlite3
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from benchmarks.latency import Block, measure_each
from benchmarks.measure import Row, alternate, speed
from iointerrupt import Interrupted, StopEvent, StopLike, calls
from iointerrupt.testing import wait_until_blocked

ITEMS = 50_000


def measure() -> Iterator[Row]:
    """A row for each claim."""
    yield from measure_each(OPERATIONS)
    yield _run()
    yield from _queues()
    yield _uncontended()


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
    over = threading.Event()
    yield lambda stop: calls.call(over.wait, stop=stop)
    over.set()


@contextmanager
def _sqlite() -> Iterator[Block]:
    connection = sqlite3.connect(":memory:", check_same_thread=False)

    def block(stop: StopLike) -> None:
        with calls.interrupting(connection.interrupt, stop=stop):
            connection.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT count(*) FROM n"
            ).fetchone()

    yield block
    connection.close()


OPERATIONS: dict[str, Callable[[], AbstractContextManager[Block]]] = {
    "calls.sleep": lambda: _blocking(lambda stop: calls.sleep(60, stop=stop)),
    "calls.get, Queue": lambda: _blocking(lambda stop: calls.get(queue.Queue(), stop=stop)),
    "calls.get, multiprocessing.Queue": _from_a_process,
    "calls.get, SimpleQueue (asked in turns)": lambda: _blocking(
        lambda stop: calls.get(queue.SimpleQueue(), stop=stop)
    ),
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
    "calls.interrupting, sqlite3": _sqlite,
}


def _run() -> Row:
    """Its end is the end of a process: so against terminate and wait."""

    def ours() -> float:
        stop = StopEvent()
        ended: list[float] = []

        def work() -> None:
            try:
                calls.run(["sleep", "60"], stop=stop)
            except Interrupted:
                ended.append(time.perf_counter())

        thread = threading.Thread(target=work)
        thread.start()
        wait_until_blocked(stop)
        time.sleep(0.01)
        began = time.perf_counter()
        stop.set()
        thread.join()
        return ended[0] - began

    def plain() -> float:
        with subprocess.Popen(["sleep", "60"]) as child:
            time.sleep(0.01)
            began = time.perf_counter()
            child.terminate()
            child.wait()
            return time.perf_counter() - began

    first, second = alternate(ours, plain, rounds=30)
    ratio = statistics.median(first) / statistics.median(second)
    note = f"{statistics.median(first) * 1e6:.0f} us against {statistics.median(second) * 1e6:.0f} us for terminate and wait"
    return Row("calls.run, until it is reaped", ratio, "x", "<= 3", ratio <= 3, note)


# What they cost


def _queues() -> Iterator[Row]:
    stop = StopEvent()
    kinds: dict[str, Callable[[Any], object]] = {
        "without a stop": calls.get,
        "with one": lambda source: calls.get(source, stop=stop),
    }
    for name, get in kinds.items():
        yield speed(
            f"calls.get of {ITEMS:,} items that are there, {name}",
            lambda get=get: _drain(get),  # type: ignore[misc]
            lambda: _drain(lambda source: source.get()),
            least=0.9,
            rounds=20,
        )
        yield speed(
            f"calls.get of {ITEMS:,} items of a thread that puts, {name}",
            lambda get=get: _move(get),  # type: ignore[misc]
            lambda: _move(lambda source: source.get()),
            least=0.9,
            rounds=20,
        )


def _drain(get: Callable[[Any], object]) -> float:
    source: queue.Queue[int] = queue.Queue()
    for item in range(ITEMS):
        source.put(item)
    began = time.perf_counter()
    for _ in range(ITEMS):
        get(source)
    return time.perf_counter() - began


def _move(get: Callable[[Any], object]) -> float:
    source: queue.Queue[int] = queue.Queue(1000)

    def produce() -> None:
        for item in range(ITEMS):
            source.put(item)

    producer = threading.Thread(target=produce)
    began = time.perf_counter()
    producer.start()
    for _ in range(ITEMS):
        get(source)
    took = time.perf_counter() - began
    producer.join()
    return took


def _uncontended() -> Row:
    lock, stop = threading.Lock(), StopEvent()

    def ours() -> float:
        began = time.perf_counter()
        for _ in range(ITEMS):
            calls.acquire(lock, stop=stop)
            lock.release()
        return time.perf_counter() - began

    def plain() -> float:
        began = time.perf_counter()
        for _ in range(ITEMS):
            lock.acquire()
            lock.release()
        return time.perf_counter() - began

    first, second = alternate(ours, plain, rounds=10)
    extra = (statistics.median(first) - statistics.median(second)) / ITEMS
    return Row("calls.acquire of a free Lock, beyond acquire's own", extra * 1e6, "us", "<= 2", extra <= 2e-6)
