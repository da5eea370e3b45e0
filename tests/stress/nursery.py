"""Processes that download, to be killed: forked from one that has loaded everything, or each from a fresh interpreter.

    python -m tests.stress.nursery          forks a child for each job that it reads, a line of JSON
    python -m tests.stress.nursery JOB      does that one

To fork takes a few milliseconds where to start takes a few hundred, so that most of the life of such a process is the download.
The nursery has one thread, so its children begin in a sound state, which those of a test's own process would not.

The protocol of a nursery: it reads a job, and writes the child's process id; it reads an empty line, and writes the child's exit
code. The id stays the child's in between, whether that has ended or not, so that a kill cannot meet another process.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from iointerrupt import Interrupted, StopEvent, cli
from iointerrupt.downloads import download
from iointerrupt.threads import stop_on_signals

#: The exit code of a child whose download was stopped by a signal that it has seen.
STOPPED = 3

#: What changes something that is seen when the process is gone, or makes certain that it will be.
_STEPS = frozenset(
    {"open", "write", "pwrite", "splice", "ftruncate", "posix_fallocate", "fdatasync", "fsync", "utime", "setxattr"}
    | {"replace", "unlink", "close"}
)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_COMMAND = [sys.executable, "-m", "tests.stress.nursery"]
_SETTINGS: Any = {
    "cwd": os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))),
    "env": {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
}


@dataclasses.dataclass(frozen=True)
class Job:
    """What a child is to do.

    Attributes:
        url, path, segments: of the download.
        overwrite: whether a file that is there may be replaced.
        command: do it by `iointerrupt get`.
        step: kill itself at this of its system calls that change something, from 1; 0 for never.
        before: kill itself before that call, not after it.
    """

    url: str
    path: str
    segments: int = 1
    overwrite: bool = False
    command: bool = False
    step: int = 0
    before: bool = True


class Child:
    """A process that does a job.

    Attributes:
        pid: its id, valid until `wait`.
    """

    def __init__(self, pid: int, wait: Callable[[], int]) -> None:
        self.pid = pid
        self._wait = wait

    def send(self, signal_: int) -> None:
        """Send it a signal, which does nothing if it has ended."""
        os.kill(self.pid, signal_)

    def wait(self) -> int:
        """Wait until it has ended; return its exit code, or minus the number of the signal that killed it."""
        return self._wait()


class Nursery:
    """Where children come from, as a context manager: one at a time.

    Args:
        afresh: start an interpreter for each, in place of a fork.
    """

    def __init__(self, *, afresh: bool = False) -> None:
        self._afresh = afresh
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        if not self._afresh:
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(_COMMAND, stdin=pipe, stdout=pipe, text=True, **_SETTINGS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            with self._process:  # closes its standard input, at which it ends, and waits for that
                pass

    def start(self, job: Job) -> Child:
        """Start a child."""
        line = json.dumps(dataclasses.asdict(job))
        if self._process is None:
            process = subprocess.Popen([*_COMMAND, line], stdin=subprocess.DEVNULL, **_SETTINGS)
            return Child(process.pid, process.wait)
        return Child(self._ask(line), lambda: self._ask(""))

    def _ask(self, line: str) -> int:
        assert self._process is not None
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        print(line, file=stdin, flush=True)
        return int(stdout.readline())


def _serve() -> None:
    while line := sys.stdin.readline():
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # those for the child wait until it is one
        pid = os.fork()
        if not pid:
            _be(line)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        print(pid, flush=True)
        if not sys.stdin.readline():  # whoever wanted it is gone
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _be(line: str) -> None:
    """Do a job as a forked child, and nothing else: what belongs to the nursery is left alone."""
    code = 1
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        code = _do(line)
    except KeyboardInterrupt:  # a signal that came before there was anything to stop
        code = STOPPED
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _do(line: str) -> int:
    job = Job(**json.loads(line))
    if job.step:
        _die_at(job.step, before=job.before)
    if job.command:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)  # it says how to go on
        return cli.main(["get", "--quiet", "--segments", str(job.segments), "--output", job.path, job.url])
    stop = StopEvent()
    with stop_on_signals(stop):
        try:
            download(job.url, job.path, segments=job.segments, overwrite=job.overwrite, stop=stop)
        except Interrupted:
            return STOPPED
    return 0


def _die_at(number: int, *, before: bool) -> None:
    """Have this process killed at one of its system calls, whichever thread makes it."""
    seen = 0
    event_before_or_after = "c_call" if before else "c_return"

    def profile(frame: FrameType, event: str, function: Any) -> None:
        nonlocal seen
        if event == event_before_or_after and function.__module__ == "posix" and function.__name__ in _STEPS:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(profile)
    sys.setprofile(profile)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(_do(sys.argv[1]))
    _serve()
