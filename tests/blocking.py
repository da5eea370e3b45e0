"""What tests of threads share: functions that block or fail, programs, and a system that has no more threads."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading

from iointerrupt import Interrupted, current_stop


def block():
    """Block until the current stop ends it."""
    current_stop().sleep(600)


def fail(error):
    """Raise an error."""
    raise error


def fail_when_stopped(error):
    """Block, and fail because of being stopped."""
    try:
        block()
    except Interrupted:
        raise error from None


def run_program(program, **expected):
    """Run a program in a process of its own; what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=40
    )
    assert done.returncode == expected.get("code", 0), done.stderr
    return done.stdout


def no_threads(monkeypatch):
    """Let the interpreter be unable to start a thread."""

    def start(*args, **kwargs):
        raise RuntimeError("can't start new thread")

    for name in ("_start_new_thread", "_start_joinable_thread"):
        monkeypatch.setattr(threading, name, start, raising=False)
