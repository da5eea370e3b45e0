"""Pattern 2: an event in the place of the flag.

The usual way: the thread looks at a `threading.Event` before each piece of work. That is thread-safe and says what it means,
and is no sooner than a flag: what has begun, here a command, runs to its end, and the program waits for it.

The line: `calls.run(COMMAND, stop=stop)` where `subprocess.run(COMMAND)` was. The event stays a plain one. The command gets
SIGTERM, and SIGKILL if it does not end of that; it is reaped, and what it had written is in the exception.
"""

from __future__ import annotations

import subprocess
import threading

from iointerrupt import Interrupted, calls
from iointerrupt.testing import wait_until_blocked

COMMAND = ["sleep", "1"]


def before() -> str:
    """The event is looked at between two commands."""
    stop = threading.Event()
    begun = threading.Event()
    ended = []

    def work() -> None:
        while not stop.is_set():
            begun.set()
            done = subprocess.run(COMMAND, check=False)
            ended.append(f"the command ran to its end: {done}")

    thread = threading.Thread(target=work)
    thread.start()
    begun.wait()
    stop.set()
    thread.join()
    return ended[-1]


def after() -> str:
    """The event ends the command."""
    stop = threading.Event()
    ended = []

    def work() -> None:
        try:
            while True:
                calls.run(COMMAND, stop=stop)  # the line
        except Interrupted as error:
            ended.append(f"the command was stopped: {error.__cause__}")

    thread = threading.Thread(target=work)
    thread.start()
    wait_until_blocked(stop)  # only so that the stop comes in the middle of it
    stop.set()
    thread.join()
    return ended[-1]


def main() -> None:
    """Run both."""
    print("before:", before())
    print("after: ", after())


if __name__ == "__main__":
    main()
