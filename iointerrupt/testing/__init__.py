"""Tools for testing that things stop: without sleeping, and without luck.

The `FaultServer` and what belongs to it needs ssl and http.client, so it is loaded when first used (PEP 562).
"""

from __future__ import annotations

import importlib

from iointerrupt.testing._background import Background
from iointerrupt.testing._bodies import chunked_body, failing_body, stalling_body, stopping_body
from iointerrupt.testing._contract import KINDS, Operation, check_interruptible
from iointerrupt.testing._leaks import no_leaks
from iointerrupt.testing._signals import signal_when_blocked
from iointerrupt.testing._stops import StopAfter, wait_until_blocked

TYPE_CHECKING = False  # as in the package
if TYPE_CHECKING:
    from typing import Any

    from iointerrupt.testing import faults, steps
    from iointerrupt.testing._connection import Connection
    from iointerrupt.testing._fault_server import FaultServer
    from iointerrupt.testing._messages import Request

__all__ = [  # noqa: RUF022 - as `sorted` has it
    "Background",
    "Connection",
    "FaultServer",
    "KINDS",
    "Operation",
    "Request",
    "StopAfter",
    "check_interruptible",
    "chunked_body",
    "failing_body",
    "faults",
    "no_leaks",
    "signal_when_blocked",
    "stalling_body",
    "steps",
    "stopping_body",
    "wait_until_blocked",
]

_MODULES = {"faults", "steps"}
_NAMES = {"Connection": "_connection", "FaultServer": "_fault_server", "Request": "_messages"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
