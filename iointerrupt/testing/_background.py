"""`Background`: a call in a thread of its own, and what became of it."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, ParamSpec

from iointerrupt._signal.threads import own_thread

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T = TypeVar("T", default=Any)  # so that who names the class need not say of what
else:
    from typing import TypeVar

    T = TypeVar("T")
P = ParamSpec("P")


class Background(Generic[T]):
    """Runs a function in a daemon thread, from now on.

    Args:
        function: what to run; the thread has no current stop.
        *args: for the function.
        **kwargs: for the function.

    Attributes:
        thread: the `threading.Thread` in which it runs.

    Raises:
        TypeError: `function` is not callable.
    """

    def __init__(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> None:
        if not callable(function):
            raise TypeError(f"function must be callable, not {type(function).__name__}")
        self._outcome: list[tuple[Any, BaseException | None]] = []
        name = f"background {getattr(function, '__qualname__', type(function).__name__)}"
        self.thread: threading.Thread = own_thread(name, self._run, function, args, kwargs)
        self.thread.start()

    def result(self, timeout: float = 20.0) -> T:
        """What the function returned, once it has; for what else can happen, see Raises.

        Args:
            timeout: seconds to wait for its end.

        Raises:
            AssertionError: it still runs; the message shows where it stands.
            BaseException: what the function raised.
        """
        value, error = self._join(timeout)
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame
        result: T = value
        return result

    def error(self, timeout: float = 20.0) -> Any:
        """What the function raised, once it has.

        Args:
            timeout: seconds to wait for its end.

        Raises:
            AssertionError: it returned instead; or it still runs, and the message shows where it stands.
        """
        value, error = self._join(timeout)
        if error is None:
            raise AssertionError(f"it returned {value!r} instead of raising")
        return error

    def stack(self) -> str:
        """Where it stands now, as in a traceback."""
        frame = sys._current_frames().get(self.thread.ident or 0)
        return "it has just ended" if frame is None else "".join(traceback.format_stack(frame))

    def _run(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        try:
            self._outcome.append((function(*args, **kwargs), None))
        except BaseException as error:  # noqa: BLE001 - it is handed out by error() and result()
            # Without this frame, which refers to the outcome and so to the error.
            trace = error.__traceback__
            self._outcome.append((None, error.with_traceback(trace and trace.tb_next)))
            del trace

    def _join(self, timeout: float) -> tuple[Any, BaseException | None]:
        self.thread.join(timeout)
        if self.thread.is_alive():
            raise AssertionError(f"{self.thread.name} is still blocked after {timeout:g} s:\n{self.stack()}")
        return self._outcome[0]
