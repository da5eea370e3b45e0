"""The types of what is accepted as a stop. A file of its own, since `typing` costs more than the rest of the light import."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, Union

if TYPE_CHECKING:
    from iointerrupt._stop import StopEvent


class EventLike(Protocol):
    """What a foreign stop has to have; `threading.Event`, `multiprocessing.Event` and many others do."""

    def is_set(self) -> bool:
        """Whether to stop."""

    def wait(self, timeout: float | None = None, /) -> object:
        """Block until it is set, for at most `timeout` seconds; return whether it is."""


#: What every `stop=` accepts; see `as_stop`.
StopLike = Union["StopEvent", EventLike, Callable[[], bool], None]
