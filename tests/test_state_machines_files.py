"""Random sequences of calls on a buffered file, each compared with a simple model; the others are in `test_state_machines.py`."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from iointerrupt import Interrupted, StopEvent, files, use_stop
from iointerrupt.testing import StopAfter
from tests.fuzzing import FACTOR, fuzz
from tests.stress.streams import Place


class FileMachine(RuleBasedStateMachine):
    """A buffered file that is read, written and moved about in, stopped at any check, beside a `bytearray` with a position."""

    sizes = st.integers(0, 40) | st.sampled_from([100, 1000, -1])
    checks = st.integers(1, 12) | st.none()

    @initialize(
        size=st.sampled_from([0, 1, 100, 3000]),
        buffering=st.sampled_from([1 << 4, 1 << 6, 8192]),
        chunk=st.sampled_from([1, 7, 50, 1 << 20]),
        writable=st.booleans(),
    )
    def open(self, size: int, buffering: int, chunk: int, writable: bool) -> None:
        """A file with some content."""
        self.path = os.path.join(tempfile.gettempdir(), f"state-machine-{os.getpid()}-{threading.get_ident()}")
        self.model = bytearray(Place().upcoming(size))
        with open(self.path, "wb") as file:
            file.write(self.model)
        self.position = 0
        self.writable = writable
        self.file: Any = files.open(self.path, "r+b" if writable else "rb", buffering, chunk_size=chunk)
        self.written = Place(10_000)

    def stopped_at(self, check: int | None) -> contextlib.AbstractContextManager[object]:
        """The block of an operation."""
        return use_stop(None if check is None else StopAfter(check))

    # Reading

    @rule(size=sizes, check=checks)
    def read(self, size: int, check: int | None) -> None:
        """What is read, or had been when it was stopped, comes next; it is all, unless it was stopped."""
        try:
            with self.stopped_at(check):
                data = self.file.read(size)
            assert len(data) == self._left(size)
        except Interrupted as interrupted:
            data = interrupted.partial or b""
            assert interrupted.transferred is None or interrupted.transferred == len(data)
        self._came(data)

    @rule(size=st.sampled_from([-1, -1, 0, 3, 50]), check=checks)
    def readline(self, size: int, check: int | None) -> None:
        """So is a line."""
        rest = bytes(self.model[self.position :])
        line = rest[: rest.find(b"\n") + 1 or len(rest)]
        try:
            with self.stopped_at(check):
                data = self.file.readline(size)
            assert data == (line if size < 0 else line[:size])
        except Interrupted as interrupted:
            data = interrupted.partial or b""
            assert line.startswith(data)  # type: ignore[arg-type]  # of bytes here
        self._came(data)

    @rule(size=st.integers(0, 100), check=checks)
    def readinto(self, size: int, check: int | None) -> None:
        """A buffer is filled, or its beginning."""
        buffer = bytearray(size)
        try:
            with self.stopped_at(check):
                count = self.file.readinto(buffer)
            assert count == self._left(size)
        except Interrupted as interrupted:
            assert interrupted.partial is None
            count = interrupted.transferred or 0
        self._came(bytes(buffer[:count]))

    @rule(size=st.integers(1, 100), check=checks)
    def read1(self, size: int, check: int | None) -> None:
        """What comes is something, unless there is nothing more; a stop takes nothing."""
        try:
            with self.stopped_at(check):
                data = self.file.read1(size)
        except Interrupted as interrupted:
            assert not interrupted.partial
            return
        assert data or not self._left(size)
        self._came(data)

    @rule(check=checks)
    def peek(self, check: int | None) -> None:
        """What is seen comes next, and stays."""
        try:
            with self.stopped_at(check):
                seen = self.file.peek()
        except Interrupted as interrupted:
            assert not interrupted.partial
            return
        assert seen == self.model[self.position : self.position + len(seen)]
        assert seen or not self._left(1)

    # Writing

    @precondition(lambda self: self.writable)
    @rule(size=st.integers(1, 200) | st.just(20_000), check=checks)
    def write(self, size: int, check: int | None) -> None:
        """What has been taken of the data is there."""
        data = self.written.upcoming(size)
        try:
            with self.stopped_at(check):
                taken = self.file.write(data)
            assert taken == size
        except Interrupted as interrupted:
            assert interrupted.transferred is not None
            taken = interrupted.transferred
            assert 0 <= taken <= size
        self.model[self.position : self.position + taken] = data[:taken]
        self.position += taken
        self.written.move(taken)

    @precondition(lambda self: self.writable)
    @rule(check=checks)
    def flush(self, check: int | None) -> None:
        """After a flush that was not stopped, the file has it."""
        try:
            with self.stopped_at(check):
                self.file.flush()
        except Interrupted:
            return
        with open(self.path, "rb") as file:
            assert file.read() == self.model

    # Elsewhere

    @rule(position=st.integers(0, 3500), check=checks)
    def seek(self, position: int, check: int | None) -> None:
        """It goes where it is told, or stays."""
        try:
            with self.stopped_at(check):
                assert self.file.seek(position) == position
        except Interrupted:
            position = self.position
        if position > len(self.model) and self.writable:
            position = self.file.seek(len(self.model))  # a gap is another matter
        self.position = position

    @invariant()
    def stands_where_it_should(self) -> None:
        """Its position is behind all that has been taken, and before what has not."""
        if hasattr(self, "file"):
            assert self.file.tell() == self.position

    def _left(self, size: int) -> int:
        left = max(0, len(self.model) - self.position)
        return left if size < 0 else min(size, left)

    def _came(self, data: bytes) -> None:
        assert data == self.model[self.position : self.position + len(data)]
        self.position += len(data)

    def teardown(self) -> None:
        if hasattr(self, "file"):
            stop = StopEvent()
            stop.set()
            self.file.stop = stop
            self.file.close()  # which writes what a regular file takes, whatever the stop says
            with open(self.path, "rb") as file:
                assert file.read() == self.model
            os.unlink(self.path)


@pytest.mark.timeout(0)
def test_agrees_with_its_model():
    """Whatever is done in whatever order, and stopped at whatever check, it is what the model says."""
    steps = 40 if FACTOR == 1 else 100
    run_state_machine_as_test(
        FileMachine,
        settings=settings(
            fuzz(120), stateful_step_count=steps, report_multiple_bugs=False, phases=[Phase.generate, Phase.shrink]
        ),
    )
