"""Runs one suite of CPython's own tests in this process: with our classes in place of the standard ones, patched, or without.

`run.py` starts one of these for each suite and mode, since what is patched here must be patched before the suite is
imported, and cannot be taken back.

    python tests/conformance/child.py <suite> <stock|plain|stop|patched|patched-stop> <result.json> [ID ...]
"""

from __future__ import annotations

import _thread
import faulthandler
import importlib
import json
import os
import socket
import ssl
import sys
import tempfile
import threading
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Sooner than run.py ends this process, so that its output says where it hung.
_HANGS_AFTER = 270

# A virtual machine's socket to its host: whether they hang depends on the host.
_LEFT_OUT = "VSOCK"


class _CountingStop:
    """Makes the stop that never fires, and counts how often it was asked: so often was it in force."""

    def __init__(self) -> None:
        from iointerrupt import StopEvent

        count = self

        class Counted(StopEvent):
            def is_set(self) -> bool:
                count.asked += 1
                return super().is_set()

        self.asked = 0
        self.stop = Counted()


def put_ours_in_place() -> None:
    """What a program does that wants every socket of the process to be one of ours."""
    from iointerrupt import sockets

    patched: Any = socket
    patched.socket = sockets.Socket
    for name in ("create_connection", "create_server", "getaddrinfo", "socketpair"):
        setattr(patched, name, getattr(sockets, name))
    ssl.SSLContext.sslsocket_class = sockets.SSLSocket
    tls: Any = ssl
    tls.socket, tls.create_connection = sockets.Socket, sockets.create_connection


def set_current_stop_everywhere(stop: Any) -> None:
    """Make `stop` the current stop of this thread and of every thread that is started from now on."""
    from iointerrupt._stop import _current

    _current.set(stop)

    def wrapped(start: Callable[..., Any]) -> Callable[..., Any]:
        def start_with_stop(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            def run(*inner: Any, **named: Any) -> Any:
                _current.set(stop)
                return function(*inner, **named)

            return start(run, *args, **kwargs)

        return start_with_stop

    for module, name in (
        (_thread, "start_new_thread"),
        (threading, "_start_new_thread"),
        (threading, "_start_joinable_thread"),
    ):
        if hasattr(module, name):
            setattr(module, name, wrapped(getattr(module, name)))


class _Outcomes(unittest.TestResult):
    """What became of each test, by its id: "pass", "skip", or the trace of its failure."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, str] = {}

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        super().startTest(test)
        self.outcomes.setdefault(test.id(), "pass")

    def _failed(self, test: Any, error: Any) -> None:
        self.outcomes[test.id()] = self._exc_info_to_string(error, test)  # type: ignore[attr-defined]  # unittest's own text

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        self._failed(test, err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        self._failed(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, error: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, error)
        if error is not None:
            self._failed(test, error)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802 - unittest's name
        super().addSkip(test, reason)
        self.outcomes[test.id()] = "skip"

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802 - unittest's name
        self.outcomes[test.id()] = "unexpected success"


def _cases(suite: Any) -> Iterator[unittest.TestCase]:
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from _cases(item)
        else:
            yield item


def main(suite: str, mode: str, result_path: str, *only: str) -> None:
    """Run `suite` and write the outcomes."""
    faulthandler.dump_traceback_later(_HANGS_AFTER, exit=True)
    counting = None
    if mode in {"plain", "stop"}:
        put_ours_in_place()
    elif mode != "stock":
        from iointerrupt import monkey

        monkey.patch_all()
    if mode.endswith("stop"):
        counting = _CountingStop()
        set_current_stop_everywhere(counting.stop)
    from test import support

    support.use_resources = ["cpu", "walltime"]  # and not "network": nothing beyond this machine
    support.verbose = False
    module = importlib.import_module(f"test.{suite}")
    os.chdir(tempfile.mkdtemp())  # some tests write files
    loaded = unittest.defaultTestLoader.loadTestsFromModule(module)
    chosen = [case for case in _cases(loaded) if _LEFT_OUT not in case.id()]
    if only:
        chosen = [case for case in chosen if any(part in case.id() for part in only)]
    outcomes = _Outcomes()
    # The suite is rebuilt class by class, as the loader had it: fixtures of classes and of the module depend on that.
    unittest.TestSuite(chosen).run(outcomes)
    result = {
        "python": sys.version.split()[0],
        "outcomes": outcomes.outcomes,
        "run": outcomes.testsRun,
        "asked": counting.asked if counting else 0,
    }
    Path(result_path).write_text(json.dumps(result), encoding="utf-8")
    if only:
        for name, outcome in outcomes.outcomes.items():
            print(name, outcome)
    faulthandler.cancel_dump_traceback_later()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # a suite may leave threads behind; what they do is not what is judged


if __name__ == "__main__":
    main(*sys.argv[1:])
