"""`join` and `result`: the end of a thread, a process, a queue's tasks or a future.

A process has a descriptor that tells its end (pidfd_open(2)), a future has callbacks. A thread has neither: a thread of
the library waits in its `join`, as for a foreign event (see `_signal.watch`), for as long as somebody is blocked on that.
"""

from __future__ import annotations

import concurrent.futures
import os
import queue
import subprocess
import sys
import threading
import weakref
from typing import Any, TypeVar, overload

from iointerrupt._calls.queues import wait_for_tasks
from iointerrupt._helpers import Helpers
from iointerrupt._stop import StopEvent, as_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import READ, check, deadline_of, wait_ready, wait_set

T = TypeVar("T")

_helpers = Helpers("iointerrupt-exit", 256)


@overload
def join(
    target: threading.Thread | queue.Queue[Any], *, stop: StopLike = None, timeout: float | None = None
) -> None: ...
@overload
def join(target: subprocess.Popen[Any], *, stop: StopLike = None, timeout: float | None = None) -> int: ...
@overload
def join(target: Any, *, stop: StopLike = None, timeout: float | None = None) -> Any: ...
def join(target: Any, *, stop: StopLike = None, timeout: float | None = None) -> Any:
    """Wait for the end of a thread or a process, or of a queue's tasks: `target.join()`, which a stop ends.

    Args:
        target: a `threading.Thread`, a `multiprocessing.Process`, a `subprocess.Popen` (its `wait()`), or a `queue.Queue`
            (until all that was put there has been marked with `task_done`).
        stop: what ends the wait, besides the current stop. The target goes on.
        timeout: seconds to wait; None for no limit.

    Returns:
        The exit code of a process, negative for the signal that ended it; for the others None.

    Raises:
        Interrupted, TimeoutError: the target has not ended.
        RuntimeError, AssertionError, ValueError: what the target's own `join` raises: for a thread or process that was not
            started, for the current thread, for somebody else's child, for a process that was closed.
        TypeError: it is none of these.

    The output of a `Popen` with pipes has to be read by somebody, else it may never end; `calls.run` does that.
    """
    own = as_stop(stop)
    check(own)
    deadline = deadline_of(timeout)
    if isinstance(target, threading.Thread):
        return _join_thread(target, own, deadline)
    if isinstance(target, subprocess.Popen):
        if target.poll() is None:
            wait_exit(target.pid, own, deadline)
        return target.wait()
    if isinstance(target, queue.Queue):
        return wait_for_tasks(target, own, deadline)
    process = sys.modules.get("multiprocessing.process")  # whoever made one has it loaded
    if process is not None and isinstance(target, process.BaseProcess):
        target.join(0)
        if target.exitcode is None:
            wait_exit(target.pid, own, deadline)
            target.join()
        return target.exitcode
    raise TypeError(
        f"{target!r} cannot be joined. Accepted are threading.Thread, multiprocessing.Process, subprocess.Popen and"
        " queue.Queue; for anything else there is calls.call(target.join)"
    )


def result(future: concurrent.futures.Future[T], *, stop: StopLike = None, timeout: float | None = None) -> T:
    """Wait for what a future brings: `future.result()`, which a stop ends.

    Args:
        future: of `concurrent.futures`, from any executor, or from `asyncio.run_coroutine_threadsafe`.
        stop: what ends the wait, besides the current stop. The call behind the future goes on; to cancel it as well, use
            `with calls.interrupting(future.cancel): calls.result(future)`.
        timeout: seconds to wait; None for no limit.

    Returns:
        What the call returned.

    Raises:
        Interrupted, TimeoutError: there is no result yet.
        concurrent.futures.CancelledError: the future was cancelled.
        Exception: what the call raised.
        TypeError: it is no such future.
    """
    if not isinstance(future, concurrent.futures.Future):
        raise TypeError(f"a concurrent.futures.Future is needed, not {type(future).__name__}")
    own = as_stop(stop)
    check(own)
    deadline = deadline_of(timeout)
    if not future.done():
        wait_set(_done_event(future), own, deadline)
    return future.result()


def wait_exit(pid: int, own: StopEvent | None, deadline: float | None) -> None:
    """Block until a process has ended, without reaping it; as `wait_ready` otherwise.

    The caller knows that nobody has reaped it yet, so that the number is still its own.
    """
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:  # somebody has, by now
        return
    except (AttributeError, OSError):  # another platform, an older kernel, no descriptor left
        _helpers.run(lambda: _wait_exit(pid), own, deadline)
        return
    try:
        wait_ready(fd, READ, own, deadline)
    finally:
        os.close(fd)


def _wait_exit(pid: int) -> None:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    except ChildProcessError:  # reaped by somebody else
        pass


def _join_thread(thread: threading.Thread, own: StopEvent | None, deadline: float | None) -> None:
    thread.join(0)  # for its errors
    if not thread.is_alive():
        return
    # A thread of ours says so itself.
    event = getattr(thread, "_run_ended", None)
    wait_set(event if isinstance(event, StopEvent) else _followed_end(thread), own, deadline)
    thread.join()


def _followed_end(thread: threading.Thread) -> StopEvent:
    event = as_stop(_End(thread))
    assert event is not None  # noqa: S101 - only None gives None
    return event


class _End:
    """The end of a thread, as an event."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = thread

    def is_set(self) -> bool:
        return not self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        self._thread.join(timeout)
        return not self._thread.is_alive()


def _done_event(future: concurrent.futures.Future[Any]) -> StopEvent:
    # One event, and so one callback, for each future: a callback cannot be taken back.
    with _lock:
        event = _done.get(future)
        is_new = event is None
        if event is None:
            event = _done[future] = StopEvent()
    if is_new:
        future.add_done_callback(lambda _: event.set())
    return event


#: The events of futures that somebody waits for, or has waited for; guarded by `_lock`.
_done: weakref.WeakKeyDictionary[concurrent.futures.Future[Any], StopEvent] = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - a thread that is not in the child may have held it
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
