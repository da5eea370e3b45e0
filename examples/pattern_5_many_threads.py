"""Pattern 5: many threads on one event.

The usual way: one event for all, and each thread looks at it whenever it can. Four threads that wait for four different
things, a socket, a queue, a lock and a pipe, cannot; setting the event changes nothing, and joining them hangs.

The line: `with ThreadGroup(stop) as group:` in the place of a list of threads. What the members call needs no event of its
own, since the group's stop is their current stop. Leaving the block joins them. It also ends when a member fails: that stops
the others, and the error comes out of the block instead of being printed by nobody knows whom.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Callable

from iointerrupt import Interrupted, calls, files, sockets
from iointerrupt.testing import wait_until_blocked
from iointerrupt.threads import ThreadGroup


def before() -> str:
    """Each thread looks at the event when it gets round to it."""
    stop = threading.Event()
    near, far = socket.socketpair()
    jobs: queue.Queue[str] = queue.Queue()
    lock = threading.Lock()
    lock.acquire()
    reader, writer = os.pipe()

    def until_stopped(operation: Callable[[], object]) -> None:
        while not stop.is_set():
            operation()

    operations = [lambda: near.recv(1), jobs.get, lock.acquire, lambda: os.read(reader, 1)]
    threads = [threading.Thread(target=until_stopped, args=(operation,)) for operation in operations]
    for thread in threads:
        thread.start()
    stop.set()
    for thread in threads:
        thread.join(0.1)
    stopped = sum(not thread.is_alive() for thread in threads)

    # So that this ends: give each of them what it waits for.
    far.sendall(b"x")
    jobs.put("job")
    lock.release()
    os.write(writer, b"x")
    for thread in threads:
        thread.join()
    for end in (near, far):
        end.close()
    for descriptor in (reader, writer):
        os.close(descriptor)
    return f"{stopped} of {len(threads)} threads stopped"


def after() -> str:
    """One event, set once, ends them all."""
    stop = threading.Event()
    near, far = sockets.socketpair()
    jobs: queue.Queue[str] = queue.Queue()
    lock = threading.Lock()
    lock.acquire()
    reader, writer = os.pipe()

    with near, far, files.wrap(reader) as pipe, files.wrap(writer):
        try:
            with ThreadGroup(stop) as group:  # the line
                threads = [
                    group.start(near.recv, 1),
                    group.start(calls.get, jobs),
                    group.start(calls.acquire, lock),
                    group.start(pipe.read, 1),
                ]
                wait_until_blocked(stop, len(threads))  # only so that all of them are in the middle of it
                stop.set()
        except Interrupted:  # the group was stopped from outside: the block has not completed, and says so
            pass
        stopped = sum(not thread.is_alive() for thread in threads)
    return f"{stopped} of {len(threads)} threads stopped"


def main() -> None:
    """Run both."""
    print("before:", before())
    print("after: ", after())


if __name__ == "__main__":
    main()
