"""`join` and `result`: the end of a thread, a process, a queue's tasks or a future.

A process has a descriptor that tells its end (pidfd_open(2)), a future has a condition. A thread has neither: a thread of
the library waits in its `join`, as for a foreign event (see `_signal.watch`), for as long as somebody is blocked on that.
"""

from __future__ import annotations

import concurrent.futures
import os
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from iointerrupt._calls.queues import wait_for_tasks
from iointerrupt._helpers import Helpers
from iointerrupt._signal import guard
from iointerrupt._signal.blocked import Blocked
from iointerrupt._stop import StopEvent, as_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import READ, Place, ask, check, deadline_of, sleep_until, stops, wait_ready, wait_set

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

T = TypeVar("T")

#: Seconds between two questions whether a process has ended, where there is no descriptor to tell it.
PAUSE: Final = 0.01

_helpers = Helpers("iointerrupt-exit", 256)


class JoinTimeout(subprocess.TimeoutExpired, TimeoutError):
    """The `timeout=` of a `join` of a `subprocess.Popen` has passed, as `Popen.wait` says it. The process goes on."""

    def __init__(self, cmd: Any, timeout: float, output: Any = None, stderr: Any = None) -> None:
        super().__init__(cmd, timeout, output, stderr)
        self.args: tuple[Any, ...] = (cmd, timeout, output, stderr)  # OSError's own __new__ leaves them out

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.args


@overload
def join(
    target: threading.Thread | queue.Queue[Any], *, stop: StopLike = None, timeout: float | None = None
) -> None: ...
@overload
def join(target: subprocess.Popen[Any], *, stop: StopLike = None, timeout: float | None = None) -> int: ...
@overload
def join(target: BaseProcess, *, stop: StopLike = None, timeout: float | None = None) -> int: ...
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
        Interrupted, TimeoutError: the target has not ended. For a `Popen` it is a `JoinTimeout`, which is a
            `subprocess.TimeoutExpired` too; other targets' own `join` raises none.
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
            try:
                wait_exit(target.pid, lambda: target.poll() is not None, own, deadline)
            except TimeoutError:
                raise JoinTimeout(target.args, 0.0 if timeout is None else timeout) from None
        return target.wait()
    if isinstance(target, queue.Queue):
        return wait_for_tasks(target, own, deadline)
    process = sys.modules.get("multiprocessing.process")  # whoever made one has it loaded
    if process is not None and isinstance(target, process.BaseProcess):
        target.join(0)
        if target.exitcode is None:
            wait_exit(target.pid, lambda: target.exitcode is not None, own, deadline)
            with _reaping:  # of two threads that come at once, one has the code and the other would have none
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
    if Place.supports(getattr(future, "_condition", None)):
        _wait_done(future, own, deadline)
    else:
        ask(lambda seconds: bool(concurrent.futures.wait([future], seconds).done), own, deadline)
    return future.result()


def wait_exit(pid: int, has_ended: Callable[[], bool], own: StopEvent | None, deadline: float | None) -> None:
    """Block until a process has ended, if possible without reaping it; as `wait_ready` otherwise.

    The caller knows that nobody has reaped it yet, so that the number is still its own.

    Args:
        pid: the process.
        has_ended: asks, and may reap it. It is called where nothing tells the end without that: on Windows, and with Python 3.12
            and older on macOS.
        own, deadline: as for `wait_ready`.
    """
    with exit_descriptor(pid) as fd:
        if fd is not None:
            wait_ready(fd, READ, own, deadline)
        elif hasattr(os, "waitid"):
            _helpers.run(lambda: _wait_exit(pid), own, deadline)
        else:
            while not has_ended():
                now = time.monotonic()
                if deadline is not None and now >= deadline:
                    raise TimeoutError("timed out")
                sleep_until(now + PAUSE if deadline is None else min(now + PAUSE, deadline), own)


@contextmanager
def exit_descriptor(pid: int) -> Iterator[int | None]:
    """A descriptor that is readable once a process has ended (pidfd_open(2)); None where there is none to be had."""
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):  # another platform, an older kernel, no descriptor left, nothing left to wait for
        yield None
        return
    try:
        yield fd
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
    if deadline is not None and time.monotonic() >= deadline:
        raise TimeoutError("timed out")
    wait_thread(thread, own, deadline)
    thread.join()


def wait_thread(thread: threading.Thread, own: StopEvent | None, deadline: float | None) -> None:
    """Block until a thread that has been started is about to end; as `wait_ready` otherwise."""
    event = getattr(thread, "_run_ended", None)  # a thread of ours says so itself
    try:
        wait_set(event if isinstance(event, StopEvent) else _followed_end(thread), own, deadline)
    except RuntimeError:  # there are no more threads to be had
        ask(_End(thread).wait, own, deadline)


def _followed_end(thread: threading.Thread) -> StopEvent:
    with guard.lock:
        event = _ends.get(thread)
        if event is None:
            event = as_stop(_End(thread))
            assert event is not None  # noqa: S101 - only None gives None
            _ends[thread] = event
        return event


class _End:
    """The end of a thread, as an event."""

    def __init__(self, thread: threading.Thread) -> None:
        self._thread = weakref.ref(thread)

    def is_set(self) -> bool:
        thread = self._thread()
        return thread is None or not thread.is_alive()

    def wait(self, timeout: float | None = None) -> bool:
        thread = self._thread()
        if thread is not None:
            thread.join(timeout)
        return self.is_set()


def _wait_done(future: Any, own: StopEvent | None, deadline: float | None) -> None:
    with Blocked(stops(own)) as blocked:
        place = Place(future._condition, blocked)
        while True:
            with future._condition:
                if future.done():  # which takes the same lock again
                    return
                place.take()
            place.wait(deadline)


#: The ends of threads that somebody waits for, one for each; guarded by the lock of `guard`.
_ends: weakref.WeakKeyDictionary[threading.Thread, StopEvent] = weakref.WeakKeyDictionary()
_reaping = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reaping._at_fork_reinit)  # type: ignore[attr-defined]  # as threading does
