"""`StopOnSignals`: the context manager of `threads.stop_on_signals`.

Everything here runs in the main thread, its handler included, which may come between any two steps: so a previous
handler stays in `_previous` until it has been put back, and putting back may be done again at any time.
"""

from __future__ import annotations

import _thread
import signal
import threading
import types
from contextlib import AbstractContextManager
from typing import Any

from iointerrupt._stop import StopEvent, _Followed, as_stop
from iointerrupt._types import StopLike

# No program can handle these.
_FIXED = {getattr(signal, name) for name in ("SIGKILL", "SIGSTOP") if hasattr(signal, name)}


class StopOnSignals(AbstractContextManager[StopEvent]):
    """Has the first of some signals set a stop; see `threads.stop_on_signals`, which makes it."""

    def __init__(self, stop: StopLike, signals: tuple[int, ...]) -> None:
        self._event = _settable(stop)
        self._signals = tuple(dict.fromkeys(map(_check_signal, signals or (signal.SIGINT, signal.SIGTERM))))
        self._previous: dict[int, Any] = {}
        self._came = False

    def __enter__(self) -> StopEvent:
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("stop_on_signals works in the main thread only, which is where Python handles signals")
        if self._previous:
            raise RuntimeError("this stop_on_signals is in use: make another one")
        self._came = False
        try:
            for number in self._signals:
                self._previous[number] = _replaceable(number)
                signal.signal(number, self._handle)
        except BaseException:
            self._put_back()
            raise
        if self._came:  # one came in between, and the signals after it are not to be handled any more
            self._put_back()
        return self._event

    def __exit__(self, *exc_info: object) -> None:
        self._put_back()

    def _handle(self, number: int, _frame: types.FrameType | None) -> None:
        self._came = True
        self._put_back()  # first: what is set below may call back into code that hangs
        name = _name(number)
        if isinstance(self._event, _Followed):
            # The lock of a foreign event may be held by what this handler has interrupted: another thread can wait for it.
            try:
                _thread.start_new_thread(self._event.set, (name,))
                return
            except RuntimeError:  # there can be no more threads
                pass
        self._event.set(name)

    def _put_back(self) -> None:
        for number, previous in list(self._previous.items()):
            if signal.getsignal(number) == self._handle:  # else somebody has installed another one meanwhile
                signal.signal(number, previous)
            self._previous.pop(number, None)


def _settable(stop: StopLike) -> StopEvent:
    if isinstance(stop, int):
        raise TypeError("the stop comes before the signals: stop_on_signals(None, signal.SIGINT) makes one")
    event = as_stop(stop)
    if event is None:
        return StopEvent()
    if isinstance(event, _Followed) and not callable(getattr(event._source, "set", None)):
        raise TypeError(f"{event._source!r} cannot be set by a signal: it has no set()")
    return event


def _check_signal(number: int) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"a signal must be a number such as signal.SIGTERM, not {type(number).__name__}")
    if number not in signal.valid_signals():
        raise ValueError(f"{number} is not a signal")
    if number in _FIXED:
        raise ValueError(f"{_name(number)} cannot be handled by any program")
    return int(number)


def _replaceable(number: int) -> Any:
    handler = signal.getsignal(number)
    if handler is None:
        raise RuntimeError(f"{_name(number)} has a handler in C, which could not be put back")
    return handler


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal, which has none
        return f"signal {number}"
