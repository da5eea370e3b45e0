"""Tools for testing that things stop: without sleeping, and without luck."""

from __future__ import annotations

from iointerrupt.testing._contract import KINDS, Operation, check_interruptible
from iointerrupt.testing._stops import StopAfter, wait_until_blocked

__all__ = ["KINDS", "Operation", "StopAfter", "check_interruptible", "wait_until_blocked"]
