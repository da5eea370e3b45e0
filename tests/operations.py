"""What the contract tests share: a table of operations, a row for each, and the other end's part of one.

A new operation is covered by adding one row: a context manager that sets it up and yields an `Operation`.
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest

from iointerrupt import StopEvent
from iointerrupt.testing import KINDS, Background, check_interruptible


class Operations(dict[str, Callable[[], Any]]):
    """Operations under test, by name."""

    def operation(self, function):
        """Add a context manager, by its own name."""
        self[function.__name__] = contextmanager(function)
        return function

    def rows(self, names_and_runs, make):
        """Add an operation for each name, which differ only in what they run."""
        for name, run in names_and_runs.items():
            self[name] = contextmanager(functools.partial(make, run))

    def as_test(self):
        """The test that runs all of them."""

        @pytest.mark.timeout(120)
        @pytest.mark.parametrize("name", self)
        def test_keeps_the_contract(name, monkeypatch):
            """With every kind of stop, it stops before, while blocked and at each check, else completes, and loses nothing."""
            # Callables are asked often, so that the test is not spent waiting for the next question.
            monkeypatch.setattr(StopEvent, "poll_interval", 0.002)
            check_interruptible(self[name], kinds=KINDS)

        return test_keeps_the_contract


class InThread:
    """The other end's part of an operation, which blocks too, is begun when the test wants it, and has ended at the end."""

    def __init__(self, resources, work):
        self._work = work
        self._running = []
        resources.callback(self._join)

    def start(self):
        """Begin the work."""
        self._running.append(Background(self._work))

    def _join(self):
        while self._running:
            self._running.pop().result(10)


def into(method):
    """A receiving method that fills a buffer, as one that returns bytes."""

    def receive(sock):
        buffer = bytearray(3)
        method(sock, buffer)
        return bytes(buffer)

    return receive


def through_file(use, mode, **options):
    """An operation on a file over the socket."""

    def run(sock):
        with sock.makefile(mode, **options) as file:
            return use(file)

    return run


#: The ways to receive three bytes from a socket, by name.
RECEIVERS = {
    "recv": lambda sock: sock.recv(3),
    "recv_into": into(lambda sock, buffer: sock.recv_into(buffer)),
    "recvfrom": lambda sock: sock.recvfrom(3),
    "recvfrom_into": into(lambda sock, buffer: sock.recvfrom_into(buffer)),
    "recvmsg": lambda sock: sock.recvmsg(3)[0],
    "recvmsg_into": into(lambda sock, buffer: sock.recvmsg_into([buffer])),
    "makefile, read": through_file(lambda file: file.read(3), "rb"),
    "makefile, unbuffered": through_file(lambda file: file.read(3), "rb", buffering=0),
    "makefile, text": through_file(lambda file: file.read(3), "r", encoding="utf-8"),
}


def with_stop(obj, stop, work):
    """Do `work()` while `obj.stop` is `stop`."""
    obj.stop = stop
    return work()


@contextmanager
def a_fifo():
    """The path of a FIFO."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "fifo")
        os.mkfifo(path)
        yield path
