"""Scripts that several tests give to their `FaultServer`s."""

from __future__ import annotations

from typing import Any

from iointerrupt.testing import steps

#: Takes a request and never answers.
STALL: steps.Script = [steps.expect(), steps.stall()]

#: Stops answering in the middle of the body.
STALL_IN_BODY: steps.Script = [steps.expect(), steps.head(length=8), steps.send(b"half"), steps.stall()]


def always(body: bytes = b"hello", **answer: Any) -> steps.Script:
    """Answers every request in the same way, and keeps the connection."""
    return [steps.repeat(steps.expect(), steps.answer(body, **answer))]
