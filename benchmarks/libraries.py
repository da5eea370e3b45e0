"""`python -m benchmarks.libraries [stops | speed]`: libraries that nobody has changed, in a patched program.

First how soon each is stopped, as a table in Markdown: the time from just before `set()`, in another thread, to the first line of
the blocked thread's `except`, when the library has done all its cleaning up. Then what patching costs those that ask a server
small things all the time: see `libraries_speed`.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks import libraries_databases, libraries_network, libraries_speed
from benchmarks.libraries_cases import Attempts, Case
from benchmarks.measure import Row
from iointerrupt import StopEvent, use_stop
from iointerrupt.testing import wait_until_blocked
from tests.libraries import interruption
from tests.patched import patched

ROUNDS = 40

#: Milliseconds, of the median of each.
WANTED = 5.0

_HEAD = """\
| library | call | stopped | median ms | 95 % | state afterwards |
| --- | --- | --- | --- | --- | --- |"""


def measure() -> Iterator[Row]:
    """A row for each claim: those of `stops`, and those of `libraries_speed`."""
    for case in _cases():
        if case.why_not is None:
            median, p95 = stops(case)
            what = f"{case.library}, {case.call}".replace("`", "")
            yield Row(what, median, "ms", f"< {WANTED:g}", median < WANTED, f"95 % {p95:.2f} ms")
    yield from libraries_speed.measure()


def stops(case: Case) -> tuple[float, float]:
    """How soon a call is stopped: the median and 95 %, in milliseconds."""
    with _in_patched_program(), case.make() as attempts:
        seconds = sorted(_stop_once(attempts) for _ in range(ROUNDS))
    return statistics.median(seconds) * 1e3, seconds[int(len(seconds) * 0.95)] * 1e3


def _table() -> Iterator[str]:
    yield _HEAD
    for case in _cases():
        if case.why_not is None:
            median, p95 = stops(case)
            told = f"yes | {median:.2f} | {p95:.2f}"
        else:
            with _in_patched_program(), case.make() as attempts:
                _do_not_stop(attempts)
            told = f"no: {case.why_not} | | "
        yield f"| {case.library} | {case.call} | {told} | {case.afterwards} |"


def _cases() -> list[Case]:
    return [*libraries_network.cases(), *libraries_databases.cases()]


@contextmanager
def _in_patched_program() -> Iterator[None]:
    with patched(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # what is not closed after a stop goes with the exception
        yield


def _stop_once(attempts: Attempts) -> float:
    stop = StopEvent()
    ended: list[float] = []
    raised: list[BaseException] = []
    with attempts() as stuck:

        def run() -> None:
            with use_stop(stop):
                try:
                    stuck.call()
                except Exception as error:  # noqa: BLE001 - it is looked at
                    ended.append(time.perf_counter())
                    raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        stuck.wait()
        wait_until_blocked(stop)
        time.sleep(0.005)  # asleep in the kernel by now, and the interpreter idle: that is the case that counts
        began = time.perf_counter()
        stop.set()
        thread.join(10)
        if not raised or interruption(raised[0]) is None:
            raise RuntimeError(f"it was not stopped: {raised}")
        raised.clear()  # and what its frames refer to
    return ended[0] - began


def _do_not_stop(attempts: Attempts) -> None:
    """Make sure that a stop is not noticed in half a second."""
    stop = StopEvent()
    with attempts() as stuck:

        def run() -> None:
            with use_stop(stop):
                try:
                    stuck.call()
                except Exception:  # noqa: BLE001 - of the end
                    pass

        thread = threading.Thread(target=run)
        thread.start()
        stuck.wait()
        stop.set()
        thread.join(0.5)
        if not thread.is_alive():
            raise RuntimeError("it was stopped")
        stuck.end()
        thread.join(10)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.libraries", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help="stops, speed; both by default")
    wanted = parser.parse_args().parts or ["stops", "speed"]
    if unknown := set(wanted) - {"stops", "speed"}:
        parser.error(f"unknown part {', '.join(sorted(unknown))}: there are stops, speed")
    print(f"CPython {platform.python_version()}, {platform.system()} {platform.release()}\n")
    for part in wanted:
        for line in _table() if part == "stops" else libraries_speed.measure():
            print(line, flush=True)
        print()


if __name__ == "__main__":
    main()
