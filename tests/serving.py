"""What servers of the tests' own have in common: whether they can be there, and a program that lives as long as the tests do.

A server that needs looking after, a folder to be removed or other processes to be ended, is run by a program of ours. The program
lives until the end of its stdin, which comes when the tests are through with it, and also when they are killed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType
from typing import Self

# Seconds for a program to end. It takes a fraction of one; a machine may be busy.
_LIMIT = 120

# Where `tests` is found.
_TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def require(reason: str | None) -> None:
    """Skip the test for a reason, if there is one; or fail it, where the tests are to be complete (CI=true)."""
    import pytest

    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)


class Program:
    """A module that is run as a program until the block ends, as a context manager.

    Args:
        module: its name. It calls `say_ready` when it is, and ends at the end of its stdin.

    Attributes:
        words: what it has said with that.

    Raises:
        RuntimeError: it was not ready; the message has what it said.
    """

    words: list[str]

    def __init__(self, module: str) -> None:
        self._module = module

    def __enter__(self) -> Self:
        # A session of its own, so that a Ctrl-C at the tests leaves the order of things to them.
        self._process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            cwd=_TOP,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("ready "):
            said = line + self._process.stdout.read()
            self.__exit__(None, None, None)
            raise RuntimeError(f"{self._module} could not be started:\n{said}")
        self.words = line.split()[1:]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._process as process:  # which closes its pipes, and waits
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_LIMIT)
            except subprocess.TimeoutExpired:
                process.kill()


def say_ready(*words: object) -> None:
    """What such a program says when it is ready."""
    sys.stdout.write(" ".join(["ready", *map(str, words)]) + "\n")
    sys.stdout.flush()
