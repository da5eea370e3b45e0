"""What the tests share beside the fixtures of the plugin: signals, and threads that fail to start."""

from __future__ import annotations

import gc
import multiprocessing.util
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from multiprocessing.synchronize import SemLock

import hypothesis  # before anything is frozen below: it asks the collector who refers to what, when it is imported too
import pytest
from hypothesis import strategies

from iointerrupt import _helpers
from tests import blocking

pytest_plugins = "pytester"


def pytest_configure() -> None:
    """Have the programs that tests start end at a Ctrl-C: those of a run in the background of a script would ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Spare the collector what is there before the first test, and stays: many tests collect, several times."""
    _first_use_of_hypothesis()
    gc.collect()
    gc.freeze()


@hypothesis.settings(max_examples=1, database=None)
@hypothesis.given(strategies.just(None))
def _first_use_of_hypothesis(_: None) -> None:
    """Have it make what it asks the collector about, while that still sees all."""


def pytest_sessionfinish() -> None:
    """What others do at the end finds all as it was: hypothesis asks the collector who refers to what."""
    gc.unfreeze()


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
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says of proxies, certificates and credentials is not meant for the servers of the tests."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name in {"NETRC", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"}:
            monkeypatch.delenv(name)


@pytest.fixture
def untraced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes run without coverage: for tests that look at all that they load, or at their first and last moments."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


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


@pytest.fixture(autouse=True)
def collected_semaphores() -> Iterator[None]:
    """Collect what is left of semaphores with a name, those of multiprocessing's "spawn", in the test that has made them.

    Collected while another one is registered, they meet a resource tracker that bears no second call (CPython 3.12).
    """
    yield
    finalizers = list(multiprocessing.util._finalizer_registry.values())  # type: ignore[attr-defined]  # who is still alive
    if any(one._callback is SemLock._cleanup for one in finalizers):  # type: ignore[attr-defined]
        gc.collect()
