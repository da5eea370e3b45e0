"""The contract of `threads`, with every kind of stop, through `check_interruptible`."""

from __future__ import annotations

import threading

from iointerrupt import current_stop, sockets, use_stop
from iointerrupt.testing import Operation
from iointerrupt.threads import Thread, ThreadGroup, every
from tests.operations import Operations

OPERATIONS = Operations()
operation = OPERATIONS.operation


@operation
def join():
    """Waiting for a Thread, which only the current stop of the caller ends."""
    over = threading.Event()
    thread = Thread(target=over.wait)
    thread.start()

    def run(stop):
        with use_stop(current_stop() if stop is None else stop):
            return thread.join()

    yield Operation(run=run, release=over.set)
    over.set()
    thread.join()


@operation
def group():
    """A block whose member receives."""
    near, far = sockets.socketpair()

    def run(stop):
        received = []
        with ThreadGroup(stop) as members:
            members.start(lambda: received.append(near.recv(3)))
        return received

    with near, far:
        yield Operation(run=run, release=lambda: far.send(b"abc"))


@operation
def body_of_a_group():
    """A block whose body receives."""
    near, far = sockets.socketpair()

    def run(stop):
        with ThreadGroup(stop) as members:
            members.start(str)
            return near.recv(3)

    with near, far:
        yield Operation(run=run, release=lambda: far.send(b"abc"))


@operation
def tick():
    """A tick that is due in an hour, or at once."""
    ticks = every(3600)
    next(ticks)

    def run(stop):
        ticks.stop = stop
        return next(ticks) > 0

    yield Operation(run=run, release=ticks._never.set)


test_keeps_the_contract = OPERATIONS.as_test()
