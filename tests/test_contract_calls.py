"""The contract of `calls`, with every kind of stop, through `check_interruptible`."""

from __future__ import annotations

import concurrent.futures
import functools
import gc
import multiprocessing
import os
import queue
import sqlite3
import subprocess
import threading
from contextlib import ExitStack

from iointerrupt import StopEvent, calls
from iointerrupt.testing import Operation
from tests.operations import InThread, Operations

SPAWN = multiprocessing.get_context("spawn")

OPERATIONS = Operations()
operation, rows = OPERATIONS.operation, OPERATIONS.rows


@operation
def sleep():
    """A loop that sleeps until it is told that there is something to do."""
    something = threading.Event()

    def run(stop):
        while True:
            calls.sleep(0.01, stop=stop)
            if something.is_set():
                return "done"

    yield Operation(run=run, release=something.set)


# Queues


def getting(make):
    """A get from an empty queue."""
    source = make()
    yield Operation(run=lambda stop: calls.get(source, stop=stop), release=lambda: source.put("item"))


def putting(make):
    """A put to a queue that is full."""
    target = make()
    target.put("first")
    yield Operation(run=lambda stop: calls.put(target, "item", stop=stop), release=target.get)


class Foreign:
    """A queue of another class, with the methods of one."""

    def __init__(self, maxsize=0):
        self._queue = queue.Queue(maxsize)
        for name in ("get", "put", "get_nowait"):
            setattr(self, name, getattr(self._queue, name))


rows(
    {
        "get from a Queue": queue.Queue,
        "get from a LifoQueue": queue.LifoQueue,
        "get from a PriorityQueue": queue.PriorityQueue,
        "get from a SimpleQueue": queue.SimpleQueue,
        "get from a foreign queue": Foreign,
    },
    getting,
)
rows(
    {
        "put to a Queue": lambda: queue.Queue(1),
        "put to a LifoQueue": lambda: queue.LifoQueue(1),
        "put to a PriorityQueue": lambda: queue.PriorityQueue(1),
        "put to a foreign queue": lambda: Foreign(1),
    },
    putting,
)


def closed_at_the_end(make_operation):
    """The same with a queue of multiprocessing, which has a thread to end."""
    made = []

    def make():
        made.append(multiprocessing.Queue(1))
        return made[-1]

    yield from make_operation(make)
    made[0].cancel_join_thread()
    made[0].close()
    if made[0]._thread is not None:
        made[0]._thread.join(10)


rows({"get from a multiprocessing.Queue": getting, "put to a multiprocessing.Queue": putting}, closed_at_the_end)


@operation
def join_of_a_queue():
    """The wait for all tasks of a queue to be done."""
    tasks = queue.Queue()
    tasks.put("task")
    yield Operation(run=lambda stop: calls.join(tasks, stop=stop), release=tasks.task_done)


# Locks and conditions


def locking(make):
    """A lock that somebody else holds."""
    lock = make()
    with ExitStack() as resources:
        held, over = threading.Event(), threading.Event()

        def hold():
            with lock:
                held.set()
                over.wait(20)

        holder = InThread(resources, hold)
        holder.start()
        held.wait(20)
        resources.callback(over.set)

        def run(stop):
            with calls.holding(lock, stop=stop):
                return "held"

        yield Operation(run=run, release=over.set)


rows(
    {
        "acquire of a Lock": threading.Lock,
        "acquire of an RLock": threading.RLock,
        "acquire of a Semaphore": threading.Semaphore,
        "acquire of a BoundedSemaphore": threading.BoundedSemaphore,
        "acquire of a Condition": threading.Condition,
        "acquire of a multiprocessing.Lock": multiprocessing.Lock,
        "acquire of a multiprocessing.RLock": multiprocessing.RLock,
        "acquire of a multiprocessing.Semaphore": multiprocessing.Semaphore,
        "acquire of a multiprocessing.Condition": multiprocessing.Condition,
    },
    locking,
)


def conditional(wait, make):
    """A wait for a condition of which somebody else will say that it holds."""
    condition = make()
    flag = threading.Event()

    def run(stop):
        with condition:
            return wait(condition, flag, stop)

    def release():
        with condition:
            flag.set()
            condition.notify()

    yield Operation(run=run, release=release)


def wait_once(condition, flag, stop):
    """As it is written without wait_for."""
    while True:
        if flag.is_set():
            return calls.wait_for(condition, flag.is_set, stop=stop)
        calls.wait(condition, stop=stop)


rows(
    {
        "wait for a Condition": threading.Condition,
        "wait for a Condition with a plain Lock": lambda: threading.Condition(threading.Lock()),
        "wait for a multiprocessing.Condition": multiprocessing.Condition,
    },
    functools.partial(conditional, wait_once),
)
rows(
    {"wait_for of a Condition": threading.Condition},
    functools.partial(conditional, lambda condition, flag, stop: calls.wait_for(condition, flag.is_set, stop=stop)),
)


def eventual(make):
    """A wait for an event, which is not the stop."""
    event = make()
    yield Operation(run=lambda stop: calls.wait(event, stop=stop), release=event.set)


rows(
    {
        "wait for an Event": threading.Event,
        "wait for a StopEvent": StopEvent,
        "wait for a multiprocessing.Event": multiprocessing.Event,
    },
    eventual,
)


# Endings


@operation
def join_of_a_thread():
    """The end of a thread of the standard library."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait, daemon=True)
    thread.start()
    try:
        yield Operation(run=lambda stop: calls.join(thread, stop=stop), release=over.set)
    finally:
        over.set()
        thread.join(10)


@operation
def join_of_a_popen():
    """The end of a child process."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        yield Operation(run=lambda stop: calls.join(child, stop=stop), release=child.stdin.close)


@operation
def join_of_a_process():
    """The end of a process of multiprocessing."""
    gc.collect()  # what is left of the last one: see `collected_semaphores`, which comes at the end of a test only
    over = SPAWN.Event()
    child = SPAWN.Process(target=over.wait)
    child.start()
    try:
        yield Operation(run=lambda stop: calls.join(child, stop=stop), release=over.set)
    finally:
        over.set()
        child.join(20)
        child.close()


@operation
def result():
    """What a future brings."""
    future = concurrent.futures.Future()

    def release():
        if not future.done():
            future.set_result("result")

    yield Operation(run=lambda stop: calls.result(future, stop=stop), release=release)


@operation
def call():
    """A function that knows no stop."""
    over = threading.Event()
    yield Operation(run=lambda stop: calls.call(over.wait, stop=stop), release=over.set)


@operation
def run():
    """A command that reads a pipe to its end."""
    with ExitStack() as resources:
        reader, writer = os.pipe()
        resources.callback(os.close, reader)
        far = resources.enter_context(open(writer, "wb", buffering=0))

        def release():
            far.write(b"abc")
            far.close()

        yield Operation(
            run=lambda stop: calls.run(["cat"], stdin=reader, stdout=subprocess.PIPE, stop=stop).stdout,
            release=release,
        )


# Drivers with a cancel


@operation
def interrupting_sqlite():
    """A query that goes on until it is told to end, or is cancelled."""
    over = threading.Event()
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.create_function("over", 0, over.is_set)
    query = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE NOT over()) SELECT count(*) > 0 FROM n"
    )

    def run(stop):
        with calls.interrupting(connection.interrupt, stop=stop):
            return connection.execute(query).fetchone()

    yield Operation(run=run, release=over.set)
    connection.close()


@operation
def interrupting_a_driver():
    """A driver that forgets a cancel which comes while it executes nothing, as most of them do."""
    over = threading.Event()
    condition = threading.Condition()
    executing = []

    def cancel():
        with condition:
            for request in executing:
                request["cancelled"] = True
            condition.notify_all()

    def execute():
        request = {"cancelled": False}
        with condition:
            executing.append(request)
            condition.wait_for(lambda: request["cancelled"] or over.is_set(), 20)
            executing.remove(request)
        if not over.is_set():
            raise OSError("cancelled")
        return "rows"

    def release():
        over.set()
        with condition:
            condition.notify_all()

    def run(stop):
        with calls.interrupting(cancel, stop=stop):
            return execute()

    yield Operation(run=run, release=release)


test_keeps_the_contract = OPERATIONS.as_test()
