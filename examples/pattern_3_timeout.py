"""Pattern 3: a wait with a timeout, in a loop.

The usual way: to wait for one thing and look at the event too, the thread waits with a timeout, again and again. It wakes up
all the time for nothing and still notices the stop late; a shorter timeout only trades the one for the other. And the stop
comes back as an answer: whoever takes that `False` for "it did not get ready" reports a failure that there was none.

The line: `calls.wait(ready, stop=stop)`, in the place of the whole loop. It waits for both at once, and a stop is no
answer but an exception, which passes through all callers. Likewise `calls.sleep(60, stop=stop)` for `if stop.wait(60): return`.
"""

from __future__ import annotations

import threading

from iointerrupt import Interrupted, StopEvent, calls
from iointerrupt.testing import wait_until_blocked


def before() -> str:
    """The event is looked at after each timeout."""
    ready, stop = threading.Event(), threading.Event()
    begun = threading.Event()
    for_nothing = 0
    answers = []

    def wait_until_ready() -> bool:
        nonlocal for_nothing
        while not stop.is_set():
            begun.set()
            if ready.wait(timeout=0.5):
                return True
            for_nothing += 1
        return False

    thread = threading.Thread(target=lambda: answers.append(wait_until_ready()))
    thread.start()
    begun.wait()
    stop.set()
    thread.join()
    woke = "woke up for nothing, then " if for_nothing else ""
    return f"{woke}answered {answers[-1]}"


def after() -> str:
    """Both are waited for at once."""
    ready, stop = threading.Event(), StopEvent()
    answers = []

    def work() -> None:
        try:
            calls.wait(ready, stop=stop)  # the line
            answers.append("answered True")
        except Interrupted as error:
            answers.append(f"was woken by the stop, {error}")

    thread = threading.Thread(target=work)
    thread.start()
    wait_until_blocked(stop)  # only so that the stop comes in the middle of it
    stop.set("shutdown")
    thread.join()
    return answers[-1]


def main() -> None:
    """Run both."""
    print("before:", before())
    print("after: ", after())


if __name__ == "__main__":
    main()
