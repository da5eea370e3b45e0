"""Stops for threads that know nothing of them: each thread that is started has one, below that of the thread that started it.

`threading.Thread.start` decides which, in the thread that calls it, and `Thread._bootstrap_inner` puts it in place in the new
one, around all that runs there. The latter is not public, though the same in CPython 3.11 to 3.14; an `Interrupted` that
leaves a thread by its own stop is kept from `_invoke_excepthook`, which is not public either, so that no hook of the program is
told of it.

The threads of a `ThreadPoolExecutor` serve whoever submits, for as long as the program lives, so they have none; what is
submitted has one instead. Other threads of the standard library that serve a whole program have none, too: a stop would leave a
pool, or a queue between processes, without what its own end waits for.

A thread may start the one that follows it, and end, again and again, as a timer does that arms the next. So a stop whose thread
has ended leaves those below it to the ones above: else the chain would grow for ever.
"""

from __future__ import annotations

import concurrent.futures
import functools
import itertools
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures.thread import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from iointerrupt._errors import Interrupted
from iointerrupt._helpers import is_helper
from iointerrupt._monkey.patches import Patch
from iointerrupt._stop import StopEvent, _current, set_current, use_stop

# Where a thread keeps its stop.
_KEY = "_iointerrupt_inherited_stop"

# Where the threads of the standard library come from that serve a whole program.
_SERVING = {
    "concurrent.futures.process",
    "concurrent.futures.thread",
    "logging.handlers",
    "multiprocessing.managers",
    "multiprocessing.pool",
    "multiprocessing.queues",
    "multiprocessing.resource_sharer",
}


def patches() -> list[Patch]:
    """What is replaced."""
    return [
        Patch(threading.Thread, "start", _starting),
        Patch(threading.Thread, "_bootstrap_inner", _running),
        Patch(ThreadPoolExecutor, "submit", _submitting),
    ]


def inherited_stop(thread: threading.Thread) -> StopEvent | None:
    """The stop that a running thread was given when it was started."""
    stop: StopEvent | None = vars(thread).get(_KEY)
    return stop


def _starting(start: Callable[[threading.Thread], None]) -> Any:
    @functools.wraps(start)
    def start_with_stop(self: threading.Thread) -> None:
        stop = _current.get()
        if stop is not None and self.ident is None and not _serves(self):
            vars(self)[_KEY] = StopEvent(stop)
            if getattr(getattr(self, "_target", None), "__module__", None) == "socketserver":
                _quieten_servers()
        start(self)

    return start_with_stop


@functools.cache
def _quieten_servers() -> None:
    """Have a server of threads print no traceback of one that its stop has ended: it catches what ends them, and says so itself."""
    server: Any = sys.modules["socketserver"].BaseServer  # whoever has made a thread of it has loaded it
    handle_error = server.handle_error

    @functools.wraps(handle_error)
    def handle_unless_stopped(self: Any, *args: Any) -> None:
        stop = inherited_stop(threading.current_thread())
        if not (isinstance(sys.exception(), Interrupted) and stop is not None and stop.is_set()):
            handle_error(self, *args)

    server.handle_error = handle_unless_stopped


def _serves(thread: threading.Thread) -> bool:
    if is_helper(thread):
        return True
    target = getattr(thread, "_target", None)
    return getattr(type(thread) if target is None else target, "__module__", None) in _SERVING


def _running(bootstrap_inner: Callable[[threading.Thread], None]) -> Any:
    @functools.wraps(bootstrap_inner)
    def run_with_stop(self: threading.Thread) -> None:
        stop = inherited_stop(self)
        if stop is None:
            bootstrap_inner(self)
            return
        vars(self)["_invoke_excepthook"] = functools.partial(_report, self._invoke_excepthook, stop)  # type: ignore[attr-defined]  # see the module
        with _below(stop, getattr(self, "_context", None)):  # it has a context of its own from Python 3.14 on
            try:
                bootstrap_inner(self)
            finally:
                vars(self).pop(_KEY, None)

    return run_with_stop


def _report(invoke_excepthook: Callable[[threading.Thread], None], stop: StopEvent, thread: threading.Thread) -> None:
    if not (isinstance(sys.exception(), Interrupted) and stop.is_set()):
        with use_stop(None):
            invoke_excepthook(thread)


def _submitting(submit: Callable[..., concurrent.futures.Future[Any]]) -> Any:
    @functools.wraps(submit)
    def submit_with_stop(
        self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> concurrent.futures.Future[Any]:
        stop = _current.get()
        if stop is not None and callable(fn):
            fn = functools.partial(_run_task, StopEvent(stop), fn)
        return submit(self, fn, *args, **kwargs)

    return submit_with_stop


def _run_task(stop: StopEvent, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    stop.raise_if_set()
    with _below(stop):
        return fn(*args, **kwargs)


@contextmanager
def _below(stop: StopEvent, context: Any = None) -> Iterator[None]:
    """With that current stop, here or in another context; afterwards the stops below it are left to those above."""
    run = _call if context is None else context.run
    token = run(set_current, stop)
    try:
        yield
    finally:
        run(_current.reset, token)
        _leave_children(stop)


def _call(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def _leave_children(stop: StopEvent) -> None:
    for number, ref in list(stop._children.items()):
        if (child := ref()) is not None:
            # They know it before this one forgets it, so that no moment is missed at which one of them is set.
            for parent in stop._parents:
                parent._adopt(child)
            parents = ((stop._parents if one is stop else (one,)) for one in child._parents)
            child._parents = tuple(dict.fromkeys(itertools.chain.from_iterable(parents)))
        stop._children.pop(number, None)
