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
def when_blocked(*numbers, since=(), then=None):
    """While the block runs: once this thread, the main one, blocks in an operation of the library, send it a signal.

    Each further signal is sent once it blocks after its event in `since` is set; at the end `then` is called.
    """
    me = threading.get_ident()
    steps = [threading.Event() for _ in numbers]
    ended = threading.Event()

    def observe():
        if threading.get_ident() == me:
            for step, event in zip(steps, (None, *since), strict=True):
                if event is None or event.is_set():
                    step.set()

    def act():
        for step, number in zip(steps, numbers, strict=True):
            step.wait()
            send(me, number, ended)
        if then is not None:
            then()

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


def send(thread, number, ended):
    """Send a signal to a thread that is about to block, until it has handled it.

    One that comes just before the system call that blocks is handled after that, which is with the next signal only.
    """
    before = None
    while not ended.wait(0.001 if before is None else 0.05):
        frame = sys._current_frames()[thread]
        if before is None and frame.f_code.co_name in {"park", "poll"}:
            before = frame
        if before is not None:
            if frame is not before:
                return
            signal.pthread_kill(thread, number)


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
