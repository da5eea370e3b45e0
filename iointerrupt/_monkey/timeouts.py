"""Timeouts as the standard library takes them; what is wrong with one is for the original to say."""

from __future__ import annotations

from typing import Any

from iointerrupt._wait import MAX_MILLISECONDS, deadline_of


def waits(timeout: Any) -> bool:
    """Whether a call with this timeout in seconds waits: None, or a number (True is one as well) above 0."""
    return timeout is None or (isinstance(timeout, int | float) and timeout > 0)


def waits_in_kernel(timeout: Any) -> bool:
    """The same where the timeout has to fit a system call."""
    return waits(timeout) and (timeout is None or timeout < MAX_MILLISECONDS)


def deadline(timeout: float | None) -> float | None:
    """When, on `time.monotonic`, a timeout with which a call waits is over."""
    return deadline_of(None if timeout is None else float(timeout))
