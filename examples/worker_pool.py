"""A service with a pool of workers, which SIGTERM ends without losing a job.

    python examples/worker_pool.py                  # prints the port that it listens on
    echo "wait 0.5" | nc 127.0.0.1 PORT             # in another terminal; answers "done"

A job is a connection: one line that says what to do, one line back that says what became of it. `wait SECONDS` stands for
work that a stop ends, as nearly all work with this library is; `stuck SECONDS` for C code that nothing reaches.

The first SIGTERM or Ctrl-C is the stop of what takes in jobs, the second that of the workers:

1. At the first, no further job is accepted or begun. Those under way have `--grace` seconds to complete.
2. After that, or at the second signal, the workers are stopped in the middle of what they are doing.
3. Each job that is not done is given back: its client is told, and can send it to somebody else. It may have been begun.
4. A worker that has not stopped even so is named, with the line where it stands, and left behind.

The exit code is 0, since a service that was asked to stop, and did, has not failed; systemd and others see it so. It is 1
if a worker had to be left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import queue
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from iointerrupt import Interrupted, StopEvent, calls, sockets, use_stop
from iointerrupt.threads import Straggler, ThreadGroup, stop_on_signals

log = logging.getLogger("worker_pool")

#: What can be done, each with a number of seconds.
WORK: dict[str, Callable[[float], object]] = {"wait": calls.sleep, "stuck": time.sleep}

#: Seconds that a client may take to say what it wants, and to take the answer.
PATIENCE = 1.0

#: Bytes of a request.
LONGEST = 1000


@dataclass(eq=False)
class Job:
    """A client that was accepted, and what it wants."""

    number: int
    connection: sockets.Socket
    request: str | None = None


class Service:
    """Takes in jobs and does them.

    Each job is in `_open` from its acceptance on. Who takes it out of there answers it: its worker, or, for one that no worker
    has begun or whose worker is stuck, the end of the service. So none is forgotten, and none answered twice.
    """

    def __init__(self, workers: int, grace: float) -> None:
        self._workers = workers
        self._grace = grace
        self._waiting: queue.Queue[Job] = queue.Queue(maxsize=1000)
        self._open: dict[int, Job] = {}
        self._outcomes: list[str] = []

    def run(self, listener: sockets.Socket) -> int:
        """Serve until a signal comes; returns the exit code."""
        # The first signal sets `stop`, and puts the handler back by which the second stops the group; a third is an ordinary
        # one. So the group is not below `stop`: when that is set, its members have the grace still to come.
        with ThreadGroup() as group, stop_on_signals(group.event), stop_on_signals() as stop:
            for number in range(self._workers):
                group.start(self._work, stop).name = f"worker {number + 1}"
            log.info("listening on 127.0.0.1:%d", listener.getsockname()[1])
            try:
                with listener, use_stop(StopEvent(stop, group.event)):  # or the group's, as a worker may have failed
                    self._accept(listener)
            except Interrupted as stopped:
                log.info("%s: no more jobs, up to %g s for those under way", stopped.reason, self._grace)
            stragglers = self._finish(group)
        for straggler in stragglers:
            log.warning("%s", straggler)
        in_time = StopEvent(timeout=PATIENCE)
        for job in list(self._open.values()):
            self._settle(job, "given back", in_time)
        counts = Counter(self._outcomes)
        log.info("%d jobs: %s", counts.total(), ", ".join(f"{n} {outcome}" for outcome, n in sorted(counts.items())))
        return 1 if stragglers else 0

    def _accept(self, listener: sockets.Socket) -> None:
        number = 0
        while True:
            connection, _ = listener.accept()
            number += 1
            job = self._open[number] = Job(number, connection)
            log.info("job %d: accepted", number)
            connection.settimeout(PATIENCE)
            calls.put(self._waiting, job)

    def _work(self, stop: StopEvent) -> None:
        while True:
            try:
                job = calls.get(self._waiting, stop=stop)
            except Interrupted:
                return
            try:
                job.request = _read_line(job.connection)
                log.info("job %d: %s", job.number, job.request)
                what, _, seconds = job.request.partition(" ")
                WORK[what](float(seconds))
            except Interrupted:  # it is given back with those that were not begun, and this ends the worker
                raise
            except Exception as error:  # noqa: BLE001 - whatever a job raises is the job's failure
                self._settle(job, f"failed: {error!r}", StopEvent(timeout=PATIENCE))
            else:
                self._settle(job, "done", StopEvent(timeout=PATIENCE))

    def _finish(self, group: ThreadGroup) -> list[Straggler]:
        """Let the workers complete what they are doing, within the grace, and stop them. Returns those that are stuck."""
        try:
            group.join(timeout=self._grace)
        except TimeoutError:
            log.info("the grace of %g s is over: giving back what is not done", self._grace)
        except Interrupted as stopped:
            log.info("%s: giving back what is not done", stopped.reason)
        return group.stop(timeout=PATIENCE)

    def _settle(self, job: Job, outcome: str, in_time: StopEvent) -> None:
        if self._open.pop(job.number, None) is None:
            return  # it was given back while its worker was stuck
        self._outcomes.append(outcome.partition(":")[0])
        log.info("job %d: %s", job.number, outcome)
        # In the place of the stop that may be set, this has one of its own: a client that takes no answer is not waited for.
        with job.connection, use_stop(in_time):
            try:
                if job.request is None:  # to close with something unread would break off the answer as well
                    with contextlib.suppress(BlockingIOError):
                        job.connection.recv(LONGEST, socket.MSG_DONTWAIT)
                job.connection.sendall(f"{outcome}\n".encode())
            except (OSError, Interrupted) as error:
                log.warning("job %d: its client has not been told: %r", job.number, error)


def _read_line(connection: sockets.Socket) -> str:
    with connection.makefile("rb") as lines:
        line: bytes = lines.readline(LONGEST)
        return line.decode(errors="replace").strip()


def main() -> int:
    """Serve until a signal; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0, help="0, the default, for any that is free")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument(
        "--grace", type=float, default=5.0, help="seconds for the jobs under way (default: %(default)g)"
    )
    options = parser.parse_args()
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    with sockets.create_server(("127.0.0.1", options.port)) as listener:
        return Service(options.workers, options.grace).run(listener)


if __name__ == "__main__":
    sys.exit(main())
