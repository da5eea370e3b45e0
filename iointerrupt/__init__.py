"""iointerrupt: `Thread.interrupt()` for Python.

Set one event, and every thread that is blocked in I/O on it stops, mid-transfer, with nothing lost. The light names are
here at once; the modules `aio`, `calls`, `downloads`, `files`, `http`, `monkey`, `sockets`, `testing` and `threads` are loaded when
first used (PEP 562).
"""

from __future__ import annotations

import importlib

from iointerrupt._errors import DeadlineExceeded, DownloadError, Interrupted, ResourceBusy, Stalled
from iointerrupt._helpers import abandoned_helpers
from iointerrupt._stop import StopEvent, as_stop, current_stop, deadline, use_stop

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    from typing import Any

    from iointerrupt import aio, calls, downloads, files, http, monkey, sockets, testing, threads
    from iointerrupt._types import StopLike

__version__ = "0.9.0"

__all__ = [
    "DeadlineExceeded",
    "DownloadError",
    "Interrupted",
    "ResourceBusy",
    "Stalled",
    "StopEvent",
    "StopLike",
    "abandoned_helpers",
    "aio",
    "as_stop",
    "calls",
    "current_stop",
    "deadline",
    "downloads",
    "files",
    "http",
    "monkey",
    "sockets",
    "testing",
    "threads",
    "use_stop",
]

# Not `dask`: it takes an extra, so it is imported by name.
_MODULES = {"aio", "calls", "downloads", "files", "http", "monkey", "sockets", "testing", "threads"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name == "StopLike":
        return importlib.import_module(f"{__name__}._types").StopLike
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
