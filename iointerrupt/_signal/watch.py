"""The threads that ask where nobody can be told: foreign events, callables, and deadlines that something depends on.

A blocked operation needs to be woken. `StopEvent.set` wakes it; a plain `threading.Event` does not know it, a callable
knows nobody, and time just passes. Each watcher here turns one such source into a call of `fire`:

- `EventWatcher`, one for each distinct event: a thread blocked in the event's own `wait`;
- `EventHook`, for a plain `threading.Event` on which operations are blocked: a place among its waiters, and no thread;
- `CallablePoller`, one for all callables: a thread that asks each of them every `interval` seconds;
- `Clock`, one for all deadlines on which a callback or a `fileno()` depends (a blocked operation counts the time itself).

All threads are daemons, are started when first needed, and end a short grace after the last need.

Ownership: the state of all watchers is guarded by the lock of `guard`. Under it no source is asked, nothing is fired, and
no thread is started: a start waits for the new thread, and that may be collecting garbage whose finalizer wants the lock.
A forked child has none of these threads, and none of the operations that held them: it starts with fresh state.

Nothing that a source or a callback raises ends a thread which serves others too: it goes to `threading.excepthook`.
"""

from __future__ import annotations

import functools
import itertools
import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from time import sleep

from iointerrupt._signal import guard
from iointerrupt._signal.reports import report_exception
from iointerrupt._signal.threads import own_thread

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    from typing import Any

# A watcher leaves its event's wait this often to see whether anybody still needs it. A set ends the wait at once.
GRACE = 1.0

# Seconds between two questions, by default.
PERIOD = 0.05

# Seconds that a watcher of an event of several processes, which nothing else tells of a set, sleeps after it has: so those whom
# it has woken get the GIL at once, instead of when it is done.
_LET_THEM_RUN = 0.0005

_exiting = False
_numbers = itertools.count()
_event_watchers: weakref.WeakSet[EventWatcher] = weakref.WeakSet()
_restarted: weakref.WeakSet[CallablePoller | Clock] = weakref.WeakSet()


class EventWatcher:
    """A thread blocked in `wait(timeout)` of one foreign event, for as long as somebody holds the watcher.

    The method `fire(error)` is called when the event is set, with None, or when `wait` raises, with what it raised: a
    source that can no longer be asked stops the work, rather than leave it without a stop. After that the thread is gone;
    `hold` or `resume` starts another. The watcher refers to the method's object weakly; a hold may keep it alive.
    """

    def __init__(
        self, source: object, wait: Callable[[float], object], fire: Callable[[BaseException | None], None]
    ) -> None:
        self._wait = wait
        self._fire = weakref.WeakMethod(fire)
        self._grace, self._rest = GRACE, 0.0
        self._holds: dict[int, object] = {}
        self._newest = 0
        self._thread: threading.Thread | None = None
        if type(source).__module__.partition(".")[0] == "multiprocessing":
            # Its Condition counts its sleepers across processes, and a set() waits for ever for one that died asleep.
            # So a watcher must have left the wait before its process ends; a shorter grace keeps that exit quick.
            self._grace, self._rest = GRACE / 5, _LET_THEM_RUN
        with guard.lock:
            _event_watchers.add(self)

    def hold(self, keep: object) -> Callable[[], object]:
        """Watch, and keep `keep` alive, until the returned function is called."""
        with guard.lock:
            self._newest = token = self._newest + 1
            self._holds[token] = keep
        try:
            self.resume()
        except BaseException:
            self._holds.pop(token, None)
            raise
        return functools.partial(self._holds.pop, token, None)

    def resume(self) -> None:
        """Watch again after a firing, where somebody still holds this."""
        with guard.lock:
            self._newest += 1  # a thread that has just told of the firing, and is about to end, goes on
            if not self._holds or self._thread is not None or _exiting:
                return
            if self._grace < GRACE:
                _leave_at_exit()
            self._thread = own_thread("iointerrupt-watch", self._run)
        _start(self)

    def _run(self) -> None:
        while True:
            error: BaseException | None = None
            try:
                fired = self._wait(self._grace)
            except BaseException as raised:  # noqa: BLE001 - whatever a foreign event raises, its waiters must be told
                fired, error = True, raised
            newest = self._newest
            if fired and (fire := self._fire()) is not None:
                _reporting(functools.partial(fire, error))
                if self._rest:
                    sleep(self._rest)
            with guard.lock:
                # After a firing go on only for those who have come since: the others know, and an event that stays set
                # answers at once.
                if _exiting or not self._holds or (fired and self._newest == newest):
                    self._thread = None
                    return

    def _forget(self) -> None:
        self._holds, self._thread = {}, None

    def _join(self) -> None:
        thread = self._thread
        if thread is not None:
            thread.join(2 * self._grace)


class EventHook:
    """A place among the waiters of a `threading.Event`, so that its `set` itself wakes those who are blocked on it.

    A second thread to be scheduled would double the time that a stop takes. The event calls `release` under its own lock,
    where no callback may run: `fire` only marks and wakes.

    The list of waiters is not public, though the same in every CPython from 3.2 to 3.14: `supports` looks before it is
    used, and an event that is different in any way has its `EventWatcher`.

    Once taken, the place is kept until the event calls: it may be in the middle of walking along its waiters, and only it
    knows. So there is one for each event (`of`), whoever follows that.
    """

    def __init__(self, source: Any) -> None:
        self._is_set = weakref.WeakMethod(source.is_set)
        self._waiters: deque[object] = source._cond._waiters
        # A weak reference to an object, and what is called with it: a WeakMethod takes several times as long. Both are `of`'s.
        self._follower: Callable[[], object]
        self._fire: Callable[[Any], None]
        self._holds = 0
        self._is_hooked = False

    @classmethod
    def of(cls, source: Any, fire: Callable[[], None]) -> EventHook:
        """The one of an event, which calls this method from now on; it refers to the method's object weakly."""
        with guard.lock:
            hook = _event_hooks.get(source)
            if hook is None:
                hook = _event_hooks[source] = cls(source)
            method: Any = fire
            hook._follower, hook._fire = weakref.ref(method.__self__), method.__func__
            return hook

    @staticmethod
    def supports(source: object) -> bool:
        """Whether `source` is an event whose waiters are where they are expected."""
        condition = getattr(source, "_cond", None)
        return (
            type(source) is threading.Event
            and type(condition) is threading.Condition
            and type(getattr(condition, "_waiters", None)) is deque
        )

    def hold(self) -> Callable[[], object]:
        """Have `fire` called by the event's `set`, until the returned function is called."""
        with guard.lock:
            self._holds += 1
            self.resume()
        return self._release_hold

    def resume(self) -> None:
        """Take the place again after a firing, where somebody still holds this."""
        with guard.lock:
            if not self._holds or self._is_hooked:
                return
            self._is_hooked = True
            self._waiters.append(self)
        is_set = self._is_set()
        if is_set is not None and is_set():  # perhaps before it could see us
            self._call()

    def _release_hold(self) -> None:
        with guard.lock:
            self._holds -= 1

    def release(self) -> None:
        """What the event calls on each of its waiters, which are locks."""
        self._is_hooked = False
        self._call()

    def _call(self) -> None:
        follower = self._follower()
        if follower is not None:
            self._fire(follower)


_event_hooks: weakref.WeakKeyDictionary[object, EventHook] = weakref.WeakKeyDictionary()
_finalizer: Any = None


def _leave_at_exit() -> None:
    global _finalizer  # noqa: PLW0603 - registered once for each process
    # multiprocessing drops the finalizers that a forked child inherited, so ask whether ours is still there.
    if _finalizer is None or not _finalizer.still_active():
        from multiprocessing.util import Finalize  # noqa: PLC0415 - the caller has it loaded, nobody else pays for it

        # Unlike atexit, this also runs at the end of a multiprocessing child.
        _finalizer = Finalize(None, _end_watchers, exitpriority=100)


def _end_watchers() -> None:
    global _exiting  # noqa: PLW0603 - the process has one end
    # A multiprocessing child comes here before it waits for its threads, of which some may yet have to be stopped.
    for thread in threading.enumerate():
        if not thread.daemon and thread not in {threading.current_thread(), threading.main_thread()}:
            thread.join()
    _exiting = True
    for watcher in list(_event_watchers):
        watcher._join()


def usable_period(period: object) -> float:
    """A period in seconds; the usual one where it is none that one can sleep, since whoever has set it is not the one to be told."""
    return period if isinstance(period, int | float) and 0 < period < math.inf else PERIOD


class CallablePoller:
    """One thread that asks every held callable every `interval()` seconds."""

    def __init__(self, interval: Callable[[], float]) -> None:
        self._interval = interval
        self._forget()
        _restarted.add(self)

    def _forget(self) -> None:
        self._asked: dict[object, Callable[[], object]] = {}
        self._thread: threading.Thread | None = None

    def hold(self, ask: Callable[[], object]) -> Callable[[], object]:
        """Call `ask`, which must not raise, again and again until the returned function is called."""
        token = object()
        with guard.lock:
            self._asked[token] = ask
            is_running = self._thread is not None
            if not is_running:
                self._thread = own_thread("iointerrupt-poll", self._run)
        if not is_running:
            try:
                _start(self)
            except BaseException:
                self._asked.pop(token, None)
                raise
        return functools.partial(self._asked.pop, token, None)

    def _run(self) -> None:
        idle_since: float | None = None
        while True:
            # Not time.sleep, which people replace in their tests: this would then neither sleep nor be unheard.
            sleep(usable_period(self._interval()))
            with guard.lock:
                asked = list(self._asked.values())
                if asked:
                    idle_since = None
                elif idle_since is None:
                    idle_since = time.monotonic()
                elif time.monotonic() - idle_since > GRACE:
                    self._thread = None
                    return
            for ask in asked:
                _reporting(ask)


class Clock:
    """One thread that fires each entry at its time (`time.monotonic`).

    The entries are in a dict, in which each step is atomic, so that a finalizer may take one back wherever it runs. The thread
    looks through all of them when the next one is due, and where one has come that is due before that.
    """

    def __init__(self) -> None:
        self._forget()
        _restarted.add(self)

    def _forget(self) -> None:
        self._changed = threading.Event()
        self._entries: dict[int, tuple[float, Callable[[], object]]] = {}
        self._until = math.inf  # when the thread looks again by itself; as long as it looks, all that comes is news
        self._thread: threading.Thread | None = None

    def at(self, when: float, fire: Callable[[], object]) -> Callable[[], object]:
        """Call `fire` at `when`; returns what takes the entry back, and does nothing once it has fired."""
        number = next(_numbers)
        cancel = functools.partial(self._entries.pop, number, None)
        self._entries[number] = when, fire
        with guard.lock:
            is_running = self._thread is not None
            if not is_running:
                self._thread = own_thread("iointerrupt-clock", self._run)
        if not is_running:
            try:
                _start(self)
            except BaseException:
                cancel()
                raise
        if when < self._until:
            self._changed.set()
        return cancel

    def _run(self) -> None:
        while True:
            self._until = math.inf
            self._changed.clear()
            now = time.monotonic()
            due = sorted((when, number) for number, (when, _) in list(self._entries.items()) if when <= now)
            for _, number in due:
                if (entry := self._entries.pop(number, None)) is not None:
                    _reporting(entry[1])
            self._until = min((when for when, _ in list(self._entries.values())), default=math.inf)
            left = GRACE if self._until == math.inf else max(0.0, self._until - time.monotonic())
            if self._changed.wait(min(left, threading.TIMEOUT_MAX)):
                continue
            with guard.lock:
                if not self._entries:
                    self._thread = None
                    return


def _start(watcher: EventWatcher | CallablePoller | Clock) -> None:
    thread = watcher._thread
    try:
        if thread is not None:
            thread.start()
    except BaseException:  # there may be no more threads to be had; the next in need tries again
        watcher._thread = None
        raise


def _reporting(function: Callable[[], object]) -> None:
    """Call it, and report what it raises as an exception that ends a thread is reported."""
    try:
        function()
    except BaseException:  # noqa: BLE001 - the thread serves others as well
        report_exception()


def _after_fork_in_child() -> None:
    global _exiting, _finalizer
    _exiting, _finalizer = False, None
    for watcher in list(_event_watchers):
        watcher._forget()
    for state in list(_restarted):
        state._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
