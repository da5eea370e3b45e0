"""Tools for testing that things stop: without sleeping, and without luck."""

from __future__ import annotations

from iointerrupt.testing._stops import StopAfter, wait_until_blocked

__all__ = ["StopAfter", "wait_until_blocked"]
