"""The example of ten stuck libraries: hung under `python`, ended by one Ctrl-C under `iointerrupt run`."""

from __future__ import annotations

import os
import re
import signal
from contextlib import contextmanager

import pytest

from tests.programs import RUN, running
from tests.test_examples import EXAMPLES

pytestmark = pytest.mark.usefixtures("ctrl_c")


@contextmanager
def stuck(*arguments):
    """The example once all its threads are stuck, in a process group of its own; what it has started ends with it."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    with running(*arguments, EXAMPLES / "ten_stuck_libraries.py", env=environment, start_new_session=True) as program:
        try:
            assert program.line() == "10 threads, 8 of them with a connection; now press Ctrl-C"
            yield program
        finally:
            try:
                os.killpg(program.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def test_under_python_it_hangs():
    """Under `python` a Ctrl-C reaches the main thread, which then waits for threads that never end; only a kill helps."""
    with stuck() as program:
        program.signal(signal.SIGINT)
        assert program.line() == "Ctrl-C: waiting for the threads"
        program.settle()
        os.killpg(program.process.pid, signal.SIGKILL)
        assert program.outcome() == (-signal.SIGKILL, [], "")


def test_under_run_it_ends():
    """Under `iointerrupt run` the first Ctrl-C ends all ten, silently, and the program as its author meant it."""
    with stuck(*RUN) as program:
        program.signal(signal.SIGINT)
        code, lines, errors = program.outcome()
    assert (code, errors) == (0, "")
    assert lines[0] == "Ctrl-C: waiting for the threads"
    assert re.fullmatch(r"all have ended, \d\.\d{3} s after it", lines[1])
    print(lines[1])  # noqa: T201 - what the user sees
