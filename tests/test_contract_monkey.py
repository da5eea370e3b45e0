"""The contract of what is patched, with every kind of stop as the current one, through `check_interruptible`."""

from __future__ import annotations

import concurrent.futures
import functools
import queue
import socket
import ssl
import threading
import time
from contextlib import ExitStack, contextmanager, suppress

import pytest
import trustme

from iointerrupt import StopEvent, current_stop, use_stop
from iointerrupt.testing import Operation
from tests.operations import RECEIVERS, InThread, Operations
from tests.patched import patched

OPERATIONS = Operations()
operation, rows = OPERATIONS.operation, OPERATIONS.rows


@pytest.fixture(autouse=True, scope="module")
def _patched():
    """All of this module runs patched."""
    with patched():
        yield


def under(work):
    """What runs `work()` with a stop as the current one, besides the one that there may be."""

    def run(stop):
        if stop is None:
            return work()
        with use_stop(StopEvent(stop, current_stop())):
            return work()

    return run


def asking(work):
    """`under`, for a wait that returns at once where there is nothing to wait for, whatever the stop says: so it is asked before."""

    def ask_and_work():
        if (stop := current_stop()) is not None:
            stop.raise_if_set()
        return work()

    return under(ask_and_work)


# Sockets


@contextmanager
def connected(family=socket.AF_UNIX, kind=socket.SOCK_STREAM):
    """Two sockets that are connected."""
    near, far = socket.socketpair(family, kind)
    with near, far:
        yield near, far


def receiving(receive, timeout=None):
    """An operation that waits for three bytes."""
    with connected() as (near, far):
        near.settimeout(timeout)
        yield Operation(run=under(lambda: receive(near)), release=lambda: far.send(b"abc"))


ALL_RECEIVERS = {**RECEIVERS, "recv of all": lambda sock: sock.recv(3, socket.MSG_WAITALL)}
rows(ALL_RECEIVERS, receiving)
rows({f"{name}, with a timeout": run for name, run in ALL_RECEIVERS.items()}, functools.partial(receiving, timeout=60))


@operation
def accept():
    """A listener to which nobody has come."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as clients:

        def come():
            clients.enter_context(socket.create_connection(listener.getsockname()))

        def run():
            connection, _ = listener.accept()
            connection.close()
            return "accepted"

        yield Operation(run=under(run), release=come)


@operation
def handshake():
    """A TLS handshake with a server that does not answer yet."""
    authority = trustme.CA()
    server_context, client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("server.test").configure_cert(server_context)
    authority.configure_trust(client_context)
    with connected() as (near, far), ExitStack() as resources:
        wrapped = client_context.wrap_socket(near, server_hostname="server.test", do_handshake_on_connect=False)
        resources.enter_context(wrapped)

        def answer():
            with suppress(OSError):  # the client goes as soon as it is through, or stopped
                with server_context.wrap_socket(far, server_side=True) as peer:
                    peer.recv(1)

        server = InThread(resources, answer)
        resources.callback(wrapped.close)

        def run():
            wrapped.do_handshake()
            return wrapped.version()

        yield Operation(run=under(run), release=server.start)


# Waits


@operation
def sleep():
    """A loop that sleeps until it is told that there is something to do."""
    something = threading.Event()

    def run():
        while True:
            time.sleep(0.01)
            if something.is_set():
                return "done"

    yield Operation(run=under(run), release=something.set)


@operation
def event():
    """An event that is not set."""
    happened = threading.Event()
    yield Operation(run=asking(happened.wait), release=happened.set)


@operation
def condition():
    """A condition that is not true, and its lock, which is held again afterwards."""
    ready, changed = [], threading.Condition()

    def run():
        with changed:
            return changed.wait_for(lambda: bool(ready))

    def release():
        with changed:
            ready.append(True)
            changed.notify()

    yield Operation(run=asking(run), release=release)


def getting(make):
    """A get from an empty queue."""
    source = make()
    yield Operation(run=asking(source.get), release=lambda: source.put("item"))


rows(
    {
        "Queue.get": lambda: queue.Queue(),
        "LifoQueue.get": lambda: queue.LifoQueue(),
        "PriorityQueue.get": lambda: queue.PriorityQueue(),
        "SimpleQueue.get": lambda: queue.SimpleQueue(),
    },
    getting,
)


@operation
def put():
    """A put to a queue that is full."""
    target = queue.Queue(1)
    target.put("first")
    yield Operation(run=asking(lambda: target.put("second")), release=target.get)


@operation
def queue_join():
    """The end of a queue's tasks."""
    tasks = queue.Queue()
    tasks.put("task")
    yield Operation(run=asking(tasks.join), release=tasks.task_done)


@operation
def semaphore():
    """A semaphore that is taken."""
    taken = threading.Semaphore(0)
    yield Operation(run=asking(taken.acquire), release=taken.release)


@operation
def future():
    """A future without a result."""
    pending = concurrent.futures.Future()
    yield Operation(run=asking(pending.result), release=lambda: pending.set_result("result"))


@operation
def futures():
    """Several futures of which one is not done."""
    pending = concurrent.futures.Future()
    run = asking(lambda: len(concurrent.futures.wait([pending]).done))
    yield Operation(run=run, release=lambda: pending.set_result("result"))


@operation
def join():
    """A thread that has not ended."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    try:
        yield Operation(run=asking(thread.join), release=end.set)
    finally:
        end.set()
        thread.join()


test_keeps_the_contract = OPERATIONS.as_test()
