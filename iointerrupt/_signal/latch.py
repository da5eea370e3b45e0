"""`Latch`: the state of a stop, which goes from unset to set once and never back; and who is woken by that.

Whoever waits leaves a *waker* (a lock's release, a descriptor's write) and then looks at `fired` once more; whoever sets
marks `fired` and then calls the wakers. One of the two sees the other, whichever comes first.

There is no lock: a signal handler runs between two bytecodes of the main thread, which may stand anywhere in here, and a
lock that it held would never be released. Each step is one atomic operation on a dict or an attribute instead, wakers
may be called twice, and of several reasons `dict.setdefault` keeps the first.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from weakref import WeakSet

from iointerrupt._errors import Interrupted
from iointerrupt._signal.wake import Wake


class Cause:
    """Why a stop was set, and what it raises."""

    __slots__ = ("error", "reason")

    def __init__(self, reason: object = None, error: type[Interrupted] = Interrupted) -> None:
        self.reason = reason
        self.error = error

    def interruption(self) -> Interrupted:
        """A new exception that says it; a reason that is itself an exception becomes its cause."""
        error = self.error(self.reason)
        if isinstance(self.reason, BaseException):
            error.__cause__ = self.reason
        return error


# How many threads are woken by one descriptor. All whom the kernel wakes at once want the GIL at once, and each that has to
# wait for it asks for it again every few milliseconds: thousands of them keep each other from running. With a descriptor for
# some of them each, whoever sets is one of those who want the GIL after each write, and so wakes no more than can run.
_HERD = 32


class _Mark:
    """What stands for a thread in a herd, for as long as it lives."""

    __slots__ = ("__weakref__",)


class _Thread(threading.local):
    def __init__(self) -> None:
        self.mark = _Mark()


_thread = _Thread()


class Latch:
    """Set once, for ever. Any thread, and a signal handler, may call anything here at any time."""

    __slots__ = ("__weakref__", "_causes", "_herds", "_wakers", "fired")

    def __init__(self) -> None:
        self.fired = False
        self._causes: dict[str, Cause] = {}
        self._wakers: dict[object, Callable[[], object]] = {}
        self._herds: list[tuple[Wake, WeakSet[_Mark]]] = []  # each with the threads that are woken by it

    @property
    def cause(self) -> Cause | None:
        return self._causes.get("first")

    def fire(self, cause: Cause) -> None:
        self._causes.setdefault("first", cause)
        self.fired = True
        # Wake first and forget afterwards: an exception out of a signal handler in between costs a second wake, not the only one.
        for token, waker in list(self._wakers.items()):
            waker()
            self._wakers.pop(token, None)

    def add_waker(self, token: object, waker: Callable[[], object]) -> None:
        """Call `waker` when the latch fires, or now if it has; possibly twice, from any thread, and it must not raise."""
        self._wakers[token] = waker
        if self.fired:
            waker()

    def remove_waker(self, token: object) -> None:
        self._wakers.pop(token, None)

    def wake(self) -> Wake:
        """What is readable once the latch has fired, for the calling thread. Keep the object for as long as you poll it.

        A thread gets the same one each time. Another one is made where those that there are have their threads.
        """
        mark = _thread.mark
        for wake, herd in self._herds:
            if mark in herd:
                return wake
        for wake, herd in self._herds:
            if len(herd) < _HERD:
                herd.add(mark)
                return wake
        wake = Wake()
        self.add_waker(wake, wake.set)  # before another thread can find it
        self._herds.append((wake, WeakSet([mark])))  # of two threads that come at once, each has its own
        return wake


class Parker:
    """One thread's place to sleep until somebody calls `unpark`, which is a waker as `Latch` wants them.

    It can be used again; a second `unpark` before the thread has woken is one with the first, and one after that makes the
    next `park` return at once.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def park(self, timeout: float | None) -> bool:
        """Sleep for at most `timeout` seconds (None: no limit); whether `unpark` was called."""
        if timeout is None:
            return self._lock.acquire()
        return self._lock.acquire(timeout=min(max(timeout, 0.0), threading.TIMEOUT_MAX))

    def unpark(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # it has been called before
            pass


class Gate:
    """Opened once. Whoever waits for it does so in a lock: no stop ends that, also where a program has patched its events."""

    __slots__ = ("_is_open", "_lock")

    def __init__(self) -> None:
        self._is_open = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def is_set(self) -> bool:
        return self._is_open

    def set(self) -> None:
        self._is_open = True
        self._release()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is open, for at most `timeout` seconds; whether it is."""
        if not self._is_open and self._lock.acquire(timeout=-1 if timeout is None else timeout):
            self._release()  # for the next one
        return self._is_open

    def _release(self) -> None:
        try:
            self._lock.release()
        except RuntimeError:  # it is released already
            pass
