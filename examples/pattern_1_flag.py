"""Pattern 1: a flag that the thread looks at.

The usual way: the thread works `while not stopped`, and sleeps in between. Asleep it cannot look at anything: whoever sets
the flag waits for the rest of the pause, be it an hour.

The line: `calls.sleep(PAUSE)` where `time.sleep(PAUSE)` was, in a `Thread` that has the flag as its stop. The flag stays
what it is, whoever sets it; and the loop no longer asks, since the sleep raises `Interrupted`, which ends the thread.

A flag wakes nobody, so while the thread sleeps somebody else asks for it, 20 times a second: one thread of the library for
all flags. With an event (pattern 2) nobody asks at all.
"""

from __future__ import annotations

import threading
import time

from iointerrupt import calls
from iointerrupt.threads import Thread

PAUSE = 1.0  # seconds; so that the usual way ends here as well


def before() -> str:
    """The flag is looked at between two pauses."""
    stopped = False
    beat = threading.Event()
    pauses = 0

    def work() -> None:
        nonlocal pauses
        while not stopped:
            beat.set()
            time.sleep(PAUSE)
            pauses += 1

    thread = threading.Thread(target=work)
    thread.start()
    beat.wait()
    stopped = True
    thread.join()
    return "slept its pause out first" if pauses else "was woken in the middle of its pause"


def after() -> str:
    """The flag ends the pause."""
    stopped = False
    beat = threading.Event()
    pauses = 0

    def work() -> None:
        nonlocal pauses
        while True:
            beat.set()
            calls.sleep(PAUSE)  # the line
            pauses += 1

    thread = Thread(target=work, stop=lambda: stopped)
    thread.start()
    beat.wait()
    stopped = True
    thread.join()
    return "slept its pause out first" if pauses else "was woken in the middle of its pause"


def main() -> None:
    """Run both."""
    print("before:", before())
    print("after: ", after())


if __name__ == "__main__":
    main()
