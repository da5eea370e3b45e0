"""What the tests share: threads whose outcome is collected, and a check that each test leaves nothing behind."""

from __future__ import annotations

import multiprocessing.resource_tracker
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from iointerrupt import _helpers
from iointerrupt.testing._leaks import leaves_nothing
from tests import blocking


class Background:
    """A function running in a thread, and what became of it."""

    def __init__(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._outcome: list[tuple[Any, BaseException | None]] = []
        self.thread = threading.Thread(target=self._run, args=(function, args, kwargs), daemon=True)
        self.thread.start()

    def _run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        try:
            self._outcome.append((function(*args, **kwargs), None))
        except BaseException as error:
            self._outcome.append((None, error.with_traceback(None)))

    def _join(self) -> tuple[Any, BaseException | None]:
        self.thread.join(20)
        assert not self.thread.is_alive(), "the thread is still blocked"
        return self._outcome[0]

    def result(self) -> Any:
        """What it returned."""
        value, error = self._join()
        if error is not None:
            raise error
        return value

    def error(self) -> Any:
        """What it raised."""
        value, error = self._join()
        assert error is not None, f"it returned {value!r} instead of raising"
        return error


@pytest.fixture
def background() -> Iterator[Callable[..., Background]]:
    """Start threads that have all ended when the test has."""
    started: list[Background] = []

    def start(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Background:
        started.append(Background(function, *args, **kwargs))
        return started[-1]

    yield start
    while started:  # emptied, since the errors that they hold refer to what the next check wants to see gone
        started.pop()._join()


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


@pytest.fixture(scope="session", autouse=True)
def resource_tracker() -> None:
    """Start multiprocessing's tracker, which lives as long as the process, before the first test is measured."""
    multiprocessing.resource_tracker.ensure_running()


@pytest.fixture(autouse=True)
def leaves_nothing_behind() -> Iterator[None]:
    """Every test ends with the descriptors and threads that it began with, and no helper left behind."""
    with leaves_nothing("the test"):
        yield
