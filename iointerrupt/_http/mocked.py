"""Bodies that come from no socket: mocked ones, as `responses` makes them, and files that somebody has put into a response.

Whoever reads such a body has to see what a reader of a socket would: its bytes as they come, one read for each chunk, and
the stop of its session while it waits. So where a response without a connection comes through an `Adapter`, each read of
the file that urllib3 reads from runs with the stop of the adapter added to the current one (`obey`); a file of this
library, or a body of `testing`, then ends on it by itself. For any other file the stop is looked at before each read.

Ownership: as with the response, one thread at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from urllib3.response import HTTPResponse

from iointerrupt._http.idle import Shared
from iointerrupt._stop import StopEvent, current_stop, use_stop
from iointerrupt._wait import check

_READS = {"read", "read1", "readinto"}


class Under:
    """Calls functions with a stop added to the current one."""

    __slots__ = ("_both",)

    def __init__(self) -> None:
        self._both: tuple[StopEvent, StopEvent, StopEvent] | None = None

    def __call__(self, stop: StopEvent | None, function: Callable[..., Any], *args: Any) -> Any:
        current = current_stop()
        if stop is None or stop is current:
            return function(*args)
        with use_stop(stop if current is None else self._joined(stop, current)):
            return function(*args)

    def _joined(self, stop: StopEvent, current: StopEvent) -> StopEvent:
        if self._both is None or self._both[:2] != (stop, current):
            self._both = stop, current, StopEvent(stop, current)  # kept, as the next call will want the same
        return self._both[2]


class _Obeying:
    """A file whose reads obey the stop of an adapter, whatever that is by then; all else is the file's own."""

    def __init__(self, file: Any, shared: Shared) -> None:
        self._file = file
        self._shared = shared
        self._under = Under()

    def __getattr__(self, name: str) -> Any:  # so that it has no method that the file has not
        found = getattr(self._file, name)
        return functools.partial(self._read, found) if name in _READS else found

    def _read(self, read: Callable[..., Any], *args: Any) -> Any:
        return self._under(self._shared.stop, self._checked, read, *args)

    @staticmethod
    def _checked(read: Callable[..., Any], *args: Any) -> Any:
        check(None)
        return read(*args)


def obey(raw: Any, shared: Shared) -> None:
    """Let whoever reads this response of urllib3, which has no connection, stop on the adapter's stop."""
    if isinstance(raw, HTTPResponse) and raw._fp is not None:
        vars(raw)["_fp"] = _Obeying(raw._fp, shared)


def gives_what_comes(raw: Any) -> bool:
    """Whether one read of it can be had, rather than as many as fill a chunk."""
    return isinstance(raw, HTTPResponse) and hasattr(raw._fp, "read1")
