"""Random stops by the hundred thousand, and a count at the end: no item, lock or child is lost.

    python -m tests.stress.calls [--stops N] [--seed SEED] [SCENARIO ...]

Each scenario has workers whose current operation is stopped again and again at random moments by another thread, and
others that use the standard library's own calls on the same object, since a wake-up that is lost shows there. At the end
everything is counted: what went in has come out once, the lock is free, no child is left. The seed decides which worker is
stopped and after how long; the rest is left to the scheduler, so that no two runs are alike.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import multiprocessing
import multiprocessing.resource_tracker
import os
import queue
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from iointerrupt import Interrupted, StopEvent, calls, use_stop
from iointerrupt.testing import no_leaks

WORKERS = 6

#: Stops in a scenario, however small its part of them.
LEAST = 20


class Stopper:
    """Stops the operations of workers at random moments, until it has done so often enough.

    Each worker owns its slot; the stopper reads a slot and sets what it finds there.
    """

    def __init__(self, stops: int, seed: int, pause: float) -> None:
        self.enough = threading.Event()
        self.count = 0  # of operations that were interrupted; guarded by the lock
        self._stops = stops
        self._random = random.Random(seed)
        self._pause = pause
        self._slots: list[list[StopEvent]] = []
        self._lock = threading.Lock()

    def worker(self) -> Callable[[Callable[[], Any]], Any]:
        """A function for one worker that does an operation, and again as often as it is stopped, until it is done."""
        attempt = self.attempts()

        def persist(operation: Callable[[], Any]) -> Any:
            while True:
                try:
                    return attempt(operation)
                except Interrupted:
                    pass

        return persist

    def attempts(self) -> Callable[[Callable[[], Any]], Any]:
        """A function for one worker that does an operation, which may be stopped."""
        slot = [StopEvent()]
        self._slots.append(slot)

        def attempt(operation: Callable[[], Any]) -> Any:
            try:
                with use_stop(slot[0]):
                    return operation()
            except Interrupted:
                slot[0] = StopEvent()
                with self._lock:
                    self.count += 1
                raise

        return attempt

    def run(self) -> None:
        """Stop until it is enough."""
        while self.count < self._stops:
            if self._pause > 0.001 or self._random.random() < 0.3:
                time.sleep(self._random.random() * self._pause)
            self._random.choice(self._slots)[0].set()
        self.enough.set()

    @contextlib.contextmanager
    def over(self, threads: list[threading.Thread]) -> Iterator[None]:
        """Start threads, stop until it is enough, then do the block, and see that all of them end."""
        for thread in threads:
            thread.start()
        self.run()
        yield
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), f"{thread.name} is still blocked: a wake-up was lost"


def threads_of(*functions: Callable[[], object]) -> list[threading.Thread]:
    """One thread for each; an error in one ends the program."""

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)

    return [threading.Thread(target=run, args=(function,), daemon=True) for function in functions]


def through_a_queue(stopper: Stopper, make: Callable[[], Any]) -> str:
    """Items go through a small queue; both ends are stopped at random, beside plain ones that are not."""
    channel = make()
    sent: list[list[object]] = []
    got: list[list[object]] = []

    def produce(put: Callable[[object], object]) -> None:
        items: list[object] = []
        sent.append(items)
        number = len(sent)
        while not stopper.enough.is_set():
            item = number, len(items)
            put(item)
            items.append(item)

    def consume(get: Callable[[], object]) -> None:
        items: list[object] = []
        got.append(items)
        while (item := get()) is not None:
            items.append(item)

    def stoppable_producer() -> Callable[[], None]:
        persist = stopper.worker()
        return lambda: produce(lambda item: persist(lambda: calls.put(channel, item)))

    def stoppable_consumer() -> Callable[[], None]:
        persist = stopper.worker()
        return lambda: consume(lambda: persist(lambda: calls.get(channel)))

    producers = threads_of(*(stoppable_producer() for _ in range(3)), lambda: produce(channel.put))
    consumers = threads_of(*(stoppable_consumer() for _ in range(3)), lambda: consume(channel.get))
    for thread in consumers:
        thread.start()
    with stopper.over(producers):
        pass
    for _ in consumers:
        channel.put(None)
    for thread in consumers:
        thread.join(60)
        assert not thread.is_alive(), "a consumer is still blocked: an item or a wake-up was lost"
    put, taken = sum(map(len, sent)), [item for items in got for item in items]
    while not channel.empty():  # from a LifoQueue the ends come before the rest
        taken.append(channel.get())
    assert len(taken) == put, f"{put} items were put and {len(taken)} got"
    assert len(set(taken)) == put, "an item was got twice"
    if hasattr(channel, "close"):
        channel.close()
        channel.join_thread()
    return f"{put} items"


def around_a_lock(stopper: Stopper, make: Callable[[], Any], places: int = 1) -> str:
    """A count is kept under a lock, for which workers wait that are stopped at random, beside plain ones."""
    lock = make()
    inside: list[int] = []
    kept = {"count": 0}
    done: list[int] = []

    def enter() -> None:
        inside.append(1)
        assert len(inside) <= places, f"{len(inside)} are inside at a time"
        count = kept["count"]
        if random.random() < 0.01:
            time.sleep(0.0001 if places > 1 else 0.002)  # so long that others wait by more than a moment
        if places == 1:
            kept["count"] = count + 1
        inside.pop()

    def work(acquire: Callable[[], object]) -> None:
        entered = 0
        while not stopper.enough.is_set():
            acquire()
            try:
                enter()
            finally:
                lock.release()
            entered += 1
        done.append(entered)

    def stoppable() -> Callable[[], None]:
        persist = stopper.worker()
        return lambda: work(lambda: persist(lambda: calls.acquire(lock)))

    with stopper.over(threads_of(*(stoppable() for _ in range(WORKERS)), lambda: work(lock.acquire))):
        pass
    if places == 1:
        assert kept["count"] == sum(done), f"{sum(done)} were inside, and {kept['count']} were counted"
    for _ in range(places):
        assert lock.acquire(timeout=10), "the lock is not free at the end"
    assert not inside
    return f"{sum(done)} times held"


def at_a_condition(stopper: Stopper, make: Callable[[], Any]) -> str:
    """Tokens are handed out by notify, one wake-up each, to workers that are stopped at random, beside plain ones."""
    condition = make()
    tokens, used = [0], [0]
    over = threading.Event()

    def take(wait: Callable[[], object]) -> None:
        while True:
            with condition:
                while not tokens[0]:
                    if over.is_set():
                        return
                    try:
                        wait()
                    except Interrupted:
                        pass  # the token may have come meanwhile, when this thread was not in line: look again
                tokens[0] -= 1
                used[0] += 1

    def stoppable() -> Callable[[], None]:
        attempt = stopper.attempts()
        return lambda: take(lambda: attempt(lambda: calls.wait(condition)))

    made = 0
    takers = threads_of(*(stoppable() for _ in range(WORKERS)), lambda: take(condition.wait))

    def give() -> None:
        nonlocal made
        while not stopper.enough.is_set():
            with condition:
                tokens[0] += 1
                condition.notify()
            made += 1
            time.sleep(0)

    with stopper.over([*takers, *threads_of(give)]):
        deadline = time.monotonic() + 30
        while used[0] < made and time.monotonic() < deadline:
            over.wait(0.001)  # what is still to be taken is taken without a further notification
        assert used[0] == made, f"{made} tokens were handed out and {used[0]} taken: a wake-up was lost"
        over.set()
        with condition:
            condition.notify_all()
    return f"{made} tokens"


def of_children(stopper: Stopper) -> str:
    """Commands are run by workers that are stopped at random; each is reaped, and its pipes are closed."""
    finished = [0]

    def work(attempt: Callable[[Callable[[], Any]], Any]) -> None:
        while not stopper.enough.is_set():
            try:
                done = attempt(lambda: calls.run(["echo", "hello"], capture_output=True, grace=10))
                assert done.stdout == b"hello\n"
                finished[0] += 1
            except Interrupted as error:
                assert error.partial in {None, b"", b"hello\n"}, error.partial

    attempts = stopper.attempts(), stopper.attempts()
    with stopper.over(threads_of(*(functools.partial(work, attempt) for attempt in attempts))):
        pass
    return f"{finished[0]} commands ran to their end"


#: By name: what to run, which part of the stops it gets, since some take longer, and the longest pause between two stops.
SCENARIOS: dict[str, tuple[Callable[[Stopper], str], float, float]] = {
    "Queue": (lambda stopper: through_a_queue(stopper, lambda: queue.Queue(2)), 1.0, 0.0005),
    "LifoQueue": (lambda stopper: through_a_queue(stopper, lambda: queue.LifoQueue(2)), 0.2, 0.0005),
    "SimpleQueue": (lambda stopper: through_a_queue(stopper, queue.SimpleQueue), 0.02, 0.0005),
    "multiprocessing.Queue": (lambda stopper: through_a_queue(stopper, lambda: multiprocessing.Queue(2)), 0.1, 0.001),
    "Lock": (lambda stopper: around_a_lock(stopper, threading.Lock), 1.0, 0.0005),
    "RLock": (lambda stopper: around_a_lock(stopper, threading.RLock), 0.5, 0.0005),
    "Semaphore": (lambda stopper: around_a_lock(stopper, lambda: threading.BoundedSemaphore(2), 2), 1.0, 0.0005),
    "multiprocessing.Lock": (lambda stopper: around_a_lock(stopper, multiprocessing.Lock), 0.1, 0.001),
    "Condition": (lambda stopper: at_a_condition(stopper, threading.Condition), 1.0, 0.0005),
    "multiprocessing.Condition": (lambda stopper: at_a_condition(stopper, multiprocessing.Condition), 0.1, 0.001),
    "children": (of_children, 0.02, 0.01),
}


def run(name: str, stops: int, seed: int) -> str:
    """Run one scenario with about so many stops; returns a line that says what happened."""
    scenario, part, pause = SCENARIOS[name]
    began = time.monotonic()
    with no_leaks(f"the scenario {name}"):
        stopper = Stopper(max(LEAST, int(stops * part)), seed, pause)
        said = scenario(stopper)
        count = stopper.count
        del stopper
    return f"{name:<26} {count:>8} stops, {said}, none lost, in {time.monotonic() - began:.1f} s"


def main() -> None:
    """Run the scenarios that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"of {', '.join(SCENARIOS)}; all by default")
    parser.add_argument(
        "--stops", type=int, default=25_000, help="for each; some get a part of them (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    multiprocessing.resource_tracker.ensure_running()  # a child that lives as long as the program
    print(f"seed {arguments.seed}")
    for name in arguments.scenarios or SCENARIOS:
        print(run(name, arguments.stops, arguments.seed), flush=True)


if __name__ == "__main__":
    main()
