"""The part `subprocess`: `Popen.wait` and `Popen.communicate`, and with them `run`, `call`, `check_output`, which a current stop ends.

The process goes on, as nobody has asked for its end; `subprocess.run` kills its own when anything is raised. What `communicate` had
read is kept, as after a timeout: calling it again goes on.
"""

from __future__ import annotations

import functools
import selectors
import subprocess
from typing import Any

from iointerrupt._calls.endings import wait_exit
from iointerrupt._errors import Interrupted
from iointerrupt._monkey.patches import Patch
from iointerrupt._monkey.selecting import stoppable_poll_like
from iointerrupt._stop import _current, use_stop
from iointerrupt._wait import deadline_of

# Seconds; with a timeout `communicate` waits by a selector, and not in a read that nothing ends. As long as one may be.
_LONG = 1_000_000.0

_stock_select: Any = getattr(selectors, "PollSelector", selectors.SelectSelector).select


def patches() -> list[Patch]:
    """Of the part `subprocess`."""
    return [
        Patch(subprocess.Popen, "wait", _stoppable_wait),
        Patch(subprocess.Popen, "communicate", _stoppable_communicate),
        Patch(subprocess.Popen, "__exit__", _stoppable_exit),
        Patch(subprocess, "_PopenSelector", _stoppable_selector),  # also where the part `select` is not patched
    ]


def _stoppable_wait(original: Any) -> Any:
    @functools.wraps(original)
    def wait(self: subprocess.Popen[Any], timeout: float | None = None) -> int:
        if _current.get() is not None and (timeout is None or timeout > 0) and self.poll() is None:
            try:
                wait_exit(self.pid, None, deadline_of(timeout))
            except TimeoutError:
                if self.poll() is None:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
        return original(self, timeout=timeout)  # type: ignore[no-any-return]  # as it is Any

    return wait


def _stoppable_communicate(original: Any) -> Any:
    @functools.wraps(original)
    def communicate(self: subprocess.Popen[Any], input: Any = None, timeout: float | None = None) -> Any:  # noqa: A002
        if _current.get() is None or timeout is not None:
            return original(self, input, timeout)
        while True:
            try:
                return original(self, input, _LONG)
            except subprocess.TimeoutExpired:
                input = None  # noqa: A001 - it is kept

    return communicate


def _stoppable_exit(original: Any) -> Any:
    """The end of a `with` block waits for the child. After a stop it does as after a Ctrl-C: it waits a quarter of a second.

    That is what a child takes that `subprocess.run` has just killed.
    """

    @functools.wraps(original)
    def leave(self: subprocess.Popen[Any], kind: type[BaseException] | None, value: Any, trace: Any) -> None:
        if kind is None or not issubclass(kind, Interrupted):
            original(self, kind, value, trace)
            return
        with use_stop(None):
            original(self, KeyboardInterrupt, value, trace)

    return leave


def _stoppable_selector(original: Any) -> Any:
    # Over the standard method, which the part `select` may have replaced in the class.
    return type(original.__name__, (original,), {"select": stoppable_poll_like(_stock_select)})
