"""What can be called here: a function that does its work when it is called, and is not a coroutine function.

One of those gives a coroutine, which nobody would await: so what it was to do would silently never be done.
"""

from __future__ import annotations

import functools

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    from typing import Any


def is_async(function: Any) -> bool:
    """Whether a call of it has to be awaited, or iterated over with `async for`."""
    # inspect.iscoroutinefunction without the import of inspect, which is most of what `import iointerrupt` would cost.
    while isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, "__code__") and not isinstance(function, type):
        function = getattr(function, "__func__", None) or getattr(type(function), "__call__", None)  # noqa: B004 - its code
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return bool(getattr(code, "co_flags", 0) & 0x280)  # CO_COROUTINE | CO_ASYNC_GENERATOR


def check_callable(name: str, function: Any) -> None:
    """Refuse what cannot be called, or would have to be awaited.

    Raises:
        TypeError: it is such; the message names the argument.
    """
    if not callable(function):
        raise TypeError(f"{name} must be callable, not {type(function).__name__}")
    if is_async(function):
        raise TypeError(f"{name} must not be a coroutine function: a thread calls it, and nobody awaits what comes")
