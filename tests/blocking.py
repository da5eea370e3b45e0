"""What tests of threads and signals share: functions that block or fail, and signals that come while they do."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager

from iointerrupt import Interrupted, current_stop
from iointerrupt._signal.blocked import observers


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


@contextmanager
def when_blocked(*actions, since=()):
    """While the block runs: each time this thread blocks after its event in `since` is set, do the next of the actions."""
    me = threading.get_ident()
    steps = [threading.Event() for _ in actions]
    ended = threading.Event()

    def observe():
        if threading.get_ident() == me:
            for step, event in zip(steps, (None, *since), strict=True):
                if event is None or event.is_set():
                    step.set()

    def act():
        for step, action in zip(steps, actions, strict=True):
            step.wait()
            if ended.is_set():
                return
            action()

    observers[act] = observe
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    try:
        yield
    finally:
        observers.pop(act)
        ended.set()
        for step in steps:
            step.set()
        thread.join()


def press_ctrl_c():
    """Have the main thread get a SIGINT, as from a terminal."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


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
