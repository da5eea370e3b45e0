"""Python programs that tests run as what they are, processes: an example, or a script under `iointerrupt run`."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager
from pathlib import Path

#: The beginning of a command line that runs a program under `iointerrupt run`.
RUN = "-m", "iointerrupt", "run"

#: A module for such a script: `say_when_blocked(n)` has a line printed once n of its threads, the main one included, are
#: blocked in what the run's stop would end. It waits in a thread that has no stop and is none of `threading`'s.
READY = """
import _thread

from iointerrupt import current_stop
from iointerrupt.testing import wait_until_blocked


def say_when_blocked(n=1, word="blocked"):
    stop = current_stop()

    def say():
        wait_until_blocked(stop, n, timeout=30)
        print(word, flush=True)

    _thread.start_new_thread(say, ())
"""


class Program:
    """A program that runs, and what it has printed."""

    def __init__(self, process):
        self.process = process

    def line(self):
        """The next line that it prints, without its end."""
        line = self.process.stdout.readline()
        assert line.endswith(b"\n"), f"it ended after {line!r}: {self.process.stderr.read().decode()}"
        return line[:-1].decode()

    def lines_until(self, pattern, count=1):
        """The lines until so many of them have matched a regular expression."""
        lines = []
        while sum(re.search(pattern, line) is not None for line in lines) < count:
            lines.append(self.line())
        return lines

    def signal(self, number):
        """Send it a signal once its main thread is blocked, or busy all the time.

        In any Python program, one that comes just before a system call blocks is handled only after that.
        """
        self.settle()
        self.process.send_signal(number)

    def settle(self):
        """Wait until its main thread is blocked; after two seconds it is said to be busy all the time."""
        status = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/status")
        pause, before = threading.Event(), ""
        for _ in range(40):
            lines = status.read_text().splitlines()
            now = " ".join(line for line in lines if line.startswith(("State:", "voluntary_ctxt_switches:")))
            if now == before and "sleeping" in now:
                break
            before = now
            pause.wait(0.05)

    def outcome(self):
        """Its exit code, the lines that were left, and what it has printed as errors."""
        out, errors = self.process.stdout.read(), self.process.stderr.read()  # what they have in their buffers, too
        return self.process.wait(20), out.decode().splitlines(), errors.decode()

    def end(self):
        """Its exit code and the lines that were left; it has printed no error."""
        code, rest, errors = self.outcome()
        assert errors == ""
        return code, rest


def scripts_in(folder):
    """A function that has a script run in this folder, with options of `iointerrupt run` before it; `READY` is beside it."""
    (folder / "ready.py").write_text(READY)

    def start(code, *options):
        (folder / "script.py").write_text(textwrap.dedent(code))
        return running(*RUN, *options, "script.py", cwd=folder)

    return start


def interrupted(program, number=signal.SIGINT):
    """What is left of a program once it has said that it is blocked, and gets a signal then."""
    assert program.line() == "blocked"
    program.signal(number)
    return program.outcome()


@contextmanager
def running(*arguments, **options):
    """A Python process with these arguments."""
    process = subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )
    with process:
        try:
            yield Program(process)
        finally:
            process.kill()
