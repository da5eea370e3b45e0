"""What the tests share beside the fixtures of the plugin: signals, and threads that fail to start."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from iointerrupt import _helpers
from tests import blocking

pytest_plugins = "pytester"


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[BaseException]]:
    """What reaches `threading.excepthook`."""
    errors: list[BaseException] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(args.exc_value))
    yield errors
    errors.clear()  # their frames


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C does what it does in a program that was started in the foreground."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def no_more_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[None]]:
    """A block in which no thread can be made, as where there are too many."""

    @contextmanager
    def block() -> Iterator[None]:
        while _helpers._idle:  # those that wait for another job for a moment could be had
            threading.Event().wait(0.01)
        with monkeypatch.context() as patch:
            blocking.no_threads(patch)
            yield

    return block
