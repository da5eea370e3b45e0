"""Pattern 6: a repeated task, and a queue.

The usual way: `while not stop.wait(INTERVAL)` for the task, and `get(timeout=...)` in a loop for the consumer. The first run
comes an interval late, and each one as much later as the task takes: it drifts. The consumer wakes up for nothing as in
pattern 3. (The other way, a `None` for each consumer, comes behind all that is in the queue.)

The lines: `for tick in every(INTERVAL)` and `calls.get(jobs)`. The ticks keep their times, the first is now, and both waits
end with the stop. An item is taken and returned, or is still in the queue.
"""

from __future__ import annotations

import queue
import threading

from iointerrupt import Interrupted, StopEvent, calls
from iointerrupt.threads import ThreadGroup, every

INTERVAL = 0.1  # seconds


def before() -> str:
    """Both loops ask, and one of them all the time."""
    stop = threading.Event()
    jobs: queue.Queue[int] = queue.Queue()
    made: list[int] = []
    done: list[int] = []
    had_three, woke_for_nothing = threading.Event(), threading.Event()

    def produce() -> None:
        while not stop.wait(INTERVAL):
            made.append(len(made))
            jobs.put(made[-1])

    def consume() -> None:
        while not stop.is_set():
            try:
                job = jobs.get(timeout=INTERVAL / 5)
            except queue.Empty:
                woke_for_nothing.set()
                continue
            done.append(job)
            if len(done) == 3:
                had_three.set()

    threads = [threading.Thread(target=target) for target in (produce, consume)]
    for thread in threads:
        thread.start()
    had_three.wait()
    woke_for_nothing.wait()
    stop.set()
    for thread in threads:
        thread.join()
    return f"{_account(made, done, jobs)}; the consumer woke up for nothing, and looked at the event then"


def after() -> str:
    """Both wait, and the stop ends that."""
    stop = StopEvent()
    jobs: queue.Queue[int] = queue.Queue()
    made: list[int] = []
    done: list[int] = []
    had_three = threading.Event()

    def produce() -> None:
        for tick in every(INTERVAL):  # the line
            made.append(tick)
            jobs.put(tick)

    def consume() -> None:
        while True:
            done.append(calls.get(jobs))  # the line
            if len(done) == 3:
                had_three.set()

    try:
        with ThreadGroup(stop) as group:
            group.start(produce)
            group.start(consume)
            calls.wait(had_three)
            stop.set()
    except Interrupted:  # stopped from outside, see pattern 5
        pass
    return f"{_account(made, done, jobs)}; the consumer waited until it was stopped"


def _account(made: list[int], done: list[int], jobs: queue.Queue[int]) -> str:
    left = [jobs.get_nowait() for _ in range(jobs.qsize())]
    return "no job was lost" if done + left == made else f"{made} became {done} and {left}"


def main() -> None:
    """Run both."""
    print("before:", before())
    print("after: ", after())


if __name__ == "__main__":
    main()
