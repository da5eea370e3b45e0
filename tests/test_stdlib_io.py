"""CPython's own tests of its file objects, run on ours: that these are drop-ins is a claim to be taken literally.

The test classes of `test.test_io`, `test.test_file` and `test.test_fileio` (from 3.15 on in one package) take what they test by name.
"""

from __future__ import annotations

import gc
import importlib
import io
import types
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from iointerrupt import files
from iointerrupt._files.raw import RegularFile
from iointerrupt._streams.buffered import BufferedReader, BufferedWriter
from iointerrupt._streams.pair import BufferedRWPair
from iointerrupt._streams.text import SeekableText
from iointerrupt._streams.updating import BufferedRandom

# They leave objects unclosed themselves.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("untraced")]

pytest.importorskip("test.test_io", reason="this Python comes without its own tests")
from test import test_io  # noqa: E402 - only where there are any

# What is tested in each is in an `io`, or is `open` and `FileIO` alone.
if hasattr(test_io, "__path__"):
    of_io = [
        importlib.import_module(f"test.test_io.test_{name}") for name in ("bufferedio", "general", "signals", "textio")
    ]
    of_files = [importlib.import_module(f"test.test_io.test_{name}") for name in ("file", "fileio")]
else:
    test_io.load_tests(unittest.defaultTestLoader, unittest.TestSuite(), None)  # gives its classes their names
    of_io = [test_io]
    of_files = [importlib.import_module(f"test.test_{name}") for name in ("file", "fileio")]

OURS: dict[str, Any] = {
    "open": files.open,
    "FileIO": RegularFile,
    "BufferedReader": BufferedReader,
    "BufferedWriter": BufferedWriter,
    "BufferedRandom": BufferedRandom,
    "BufferedRWPair": BufferedRWPair,
    "TextIOWrapper": SeekableText,
}

# What cannot hold, or is not about the objects.
NOT_OURS = {
    "test_nonblock_pipe_write_bigbuf": "a descriptor in non-blocking mode is waited for, where the standard classes give up",
    "test_nonblock_pipe_write_smallbuf": "as above",
    "test_read_non_blocking": "as above",
    "test_reentrant_detach_during_read": "a file whose raw file detaches it within a read says that it is detached",
    "test_args_error": "the message has the name of our class",
    "test_repr": "expects the name of the standard module",
    "testRepr": "the name of our class, since 3.13",
    "testReprNoCloseFD": "as above",
    "testBooleanFd": "expects the warning at the caller of the class itself",
    "test___all__": "is about the module io",
    "test_openwrapper": "is about the module io",
    "test_daemon_threads_shutdown_stdout_deadlock": "starts an interpreter without ours",
    "test_daemon_threads_shutdown_stderr_deadlock": "as above",
    "test_check_encoding_errors": "as above",
    "test_check_encoding_warning": "as above",
    "test_interrupted_read_retry_buffered": "a second of real time each, for what is CPython's own code",
    "test_interrupted_read_retry_text": "as above",
    "test_interrupted_write_retry_buffered": "as above",
    "test_interrupted_write_retry_text": "as above",
}


def run_on_ours() -> list[type[unittest.TestCase]]:
    """A subclass of each of the test classes, in which the names of the classes under test are ours."""
    module = types.ModuleType("io")
    module.__dict__.update(vars(io) | OURS)
    ours = {name: staticmethod(value) if name == "open" else value for name, value in OURS.items()}
    found = []
    for source in of_io + of_files:
        for name, base in vars(source).items():
            if not (name.startswith("C") and isinstance(base, type) and issubclass(base, unittest.TestCase)):
                continue
            members: dict[str, Any] = dict(ours)
            if source in of_io:
                members["io"] = module
                if hasattr(base, "tp"):
                    members["tp"] = OURS.get(base.tp.__name__, base.tp)
            members |= {test: None for test in NOT_OURS if hasattr(base, test)}
            found.append(type(f"{source.__name__.rpartition('.')[2]}_{name}", (base,), members))
    return found


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests write to the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_leaks() -> None:
    """In place of the check after every other test: what these leave behind is not ours to judge."""


@pytest.fixture(autouse=True, scope="module")
def collected_here() -> Iterator[None]:
    """So that what they left is not collected, with its warnings, in a test that has nothing to do with it."""
    yield
    gc.collect()


for _class in run_on_ours():
    globals()[_class.__name__] = _class
del _class
