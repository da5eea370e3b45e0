"""The signal: `StopEvent`, and what turns anything else that says "stop" into one.

An event's state is a `Latch`; `clear()` puts a new one in its place. So a thread that was blocked when the old one fired
sees it fired for ever, and a quick `set(); clear()` cannot be missed.

Links: a child refers to its parents; a parent refers to its children weakly, so that a child which is dropped leaves
nothing behind. A child with a pending callback is held by its ancestors until that has run or is cancelled.

Some events must be *asked*, because nobody calls their `set`: those that stand for a foreign event or a callable, and
those with a deadline. They and their descendants ask at every check; what is blocked on them holds a watcher
(`_signal.watch`), and counts deadlines itself.

Locking: none on the way of `set()`, which a signal handler may call (see `_signal.latch`). The lock of `_signal.guard` guards the
table of followed stops and the making of public descriptors.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar, Token

from iointerrupt._callables import check_callable, is_async
from iointerrupt._errors import DeadlineExceeded
from iointerrupt._signal import guard
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.callbacks import Registration
from iointerrupt._signal.latch import Cause, Latch, Parker
from iointerrupt._signal.wake import Wake
from iointerrupt._signal.watch import PERIOD, CallablePoller, Clock, EventHook, EventWatcher

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    from typing import Any, NoReturn

    from iointerrupt._types import EventLike, StopLike


def check_timeout(seconds: Any, name: str = "timeout") -> float:
    """`seconds` as a float, or an error that says what is wrong with it. As in `time.sleep`, an `__index__` makes a number."""
    if isinstance(seconds, bool) or not (isinstance(seconds, float) or hasattr(seconds, "__index__")):
        raise TypeError(f"{name} must be a number of seconds, not {type(seconds).__name__}")
    seconds = seconds if isinstance(seconds, float) else operator.index(seconds)
    if not seconds >= 0:  # this way round it catches nan too
        raise ValueError(f"{name} must be 0 or more seconds, not {seconds!r}")
    return float(seconds)


class StopEvent(threading.Event):
    """A `threading.Event` that blocked I/O can see.

    Args:
        *parents: other stops, of any kind that `as_stop` accepts; when one of them is set so is this event, with its
            reason.
        timeout: seconds from now after which the event is set by itself; operations then raise `DeadlineExceeded`. Of
            several deadlines, its own and its parents', the earliest holds.

    Raises:
        TypeError: a parent is not a stop.
        ValueError: the timeout is negative or not a number.

    Any number of threads may use one event, and `set` may be called from a signal handler. An event that is dropped
    leaves nothing behind in its parents. In a forked child it is a copy: setting it there does not reach the parent
    process (for that there is `multiprocessing.Event`, which is accepted wherever a stop is).
    """

    #: Seconds, more than 0, between two questions to a stop that is a plain callable, while an operation is blocked on it.
    poll_interval: float = PERIOD

    def __init__(self, *parents: StopLike, timeout: float | None = None) -> None:
        # Not super().__init__(): it makes the Condition whose lock a signal handler could find held, and nothing uses it.
        self._latch = Latch()
        self._parents = tuple(stop for stop in map(as_stop, parents) if stop is not None)
        self._children: dict[int, weakref.ref[StopEvent]] = {}
        self._callbacks: dict[Registration, Registration] = {}
        self._kept: dict[object, StopEvent] = {}  # descendants with a callback, by hold
        self._blocked: dict[object, tuple[int, int]] = {}  # who waits on this event, by wait; see _signal.blocked
        self._public: Wake | None = None
        # What has to be asked, since nobody sets it: ancestors of that kind, and the clock (when, and the seconds given).
        self._asked: tuple[StopEvent, ...] = tuple(
            dict.fromkeys(asked for parent in self._parents for asked in parent._asked)
        )
        limits = [parent._limit for parent in self._parents if parent._limit is not None]
        if timeout is not None:
            seconds = check_timeout(timeout)
            if seconds != math.inf:
                limits.append((time.monotonic() + seconds, seconds))
        self._limit: tuple[float, float] | None = min(limits, default=None)
        self._must_ask = bool(self._asked) or self._limit is not None
        for parent in self._parents:
            parent._adopt(self)

    def set(self, reason: object = None) -> None:
        """Stop everything that is blocked on this event, and everything that will be.

        Args:
            reason: what the `Interrupted` there carries; the first reason stays.

        Callbacks run in this thread, after all blocked operations have been woken. An exception in one goes to
        `threading.excepthook` and keeps no other from running.
        """
        self._fire(Cause(reason))

    def is_set(self) -> bool:
        """Whether to stop: this event or a parent was set, or the deadline has passed."""
        return self._latch.fired or (self._must_ask and self._ask())

    def wait(self, timeout: float | None = None) -> bool:
        """Block until the event is set, for at most `timeout` seconds, of which fewer than 0 are none; return whether it is."""
        seconds = 0.0 if isinstance(timeout, int | float) and timeout < 0 else timeout
        deadline = None if seconds is None else time.monotonic() + check_timeout(seconds)
        if self.is_set():
            return True
        parker = Parker()
        with Blocked((self,), raises=False) as blocked:
            blocked.add_waker(parker.unpark)
            while True:
                if parker.park(blocked.remaining(deadline)) or self.is_set():
                    return True
                if deadline is not None and time.monotonic() >= deadline:
                    return False

    def clear(self) -> None:
        """Unset the event, for the next piece of work; callbacks that have run are gone.

        Raises:
            RuntimeError: the event has parents or a timeout, which decide when it is set. Make a new one instead.
        """
        if self._parents or self._limit is not None:
            raise RuntimeError("cannot clear a StopEvent that has parents or a timeout: make a new one")
        if self._latch.fired:  # else threads may be waiting for it to fire
            self._latch = Latch()
            self._level_public()

    @property
    def reason(self) -> object | None:
        """What `set(reason)` was given; None while unset, or where nothing was given."""
        cause = self._latch.cause if self.is_set() else None
        return None if cause is None else cause.reason

    def raise_if_set(self) -> None:
        """Raise `Interrupted` (`DeadlineExceeded` for a deadline) if the event is set: a check for loops that compute."""
        if self.is_set():
            self.interrupt()

    def interrupt(self) -> NoReturn:
        """Raise what an operation raises that this event has stopped."""
        raise (self._latch.cause or Cause()).interruption()

    def sleep(self, seconds: float) -> None:
        """Sleep, or raise `Interrupted` as soon as the event is set."""
        check_timeout(seconds, "seconds")
        if self.wait(seconds):
            self.interrupt()

    def fileno(self) -> int:
        """A descriptor that is readable while the event is set, for `selectors`, asyncio or a poll of your own.

        It belongs to the event, which closes it when it is dropped. Neither read from it nor write to it. Of an event
        that follows another (`as_stop`), it learns of a set at once, of a clear when the event is next asked.
        """
        if self._public is None:
            # The hold may start a thread, which no one may wait for under the lock.
            with self._hold(keep=False) as hold, guard.lock:
                if self._public is None:
                    self._public = Wake()
                    weakref.finalize(self, hold.pop_all().close).atexit = False
            self._level_public()
        return self._public.fileno()

    def on_set(self, callback: Callable[[], object]) -> Registration:
        """Call `callback()` once when the event is set, in the thread that sets it; now, if it is set already.

        At a deadline, and for a stop that follows a foreign one, it runs in a thread that serves others too: be brief.
        A forked child keeps the callbacks for a `set()` of its own; deadlines and foreign stops call them in the parent.

        Returns:
            A registration, to `cancel()` or to use as a context manager.

        Raises:
            TypeError: `callback` cannot be called, or would have to be awaited.
        """
        check_callable("callback", callback)
        registration = Registration(self._callbacks, callback, self._hold())
        if self.is_set():
            registration._run()
        return registration

    def __repr__(self) -> str:
        state = "unset"
        if self._latch.fired:
            cause = self._latch.cause
            state = "set" if cause is None or cause.reason is None else f"set: {cause.reason}"
        return f"<{type(self).__name__} at {id(self):#x}: {state}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle {type(self).__name__}: it lives in one process. To stop another process, give it a"
            " multiprocessing.Event, which every function here accepts as a stop"
        )

    def _fire(self, cause: Cause) -> None:
        # All of the family is marked and woken before the first callback runs.
        family = self._mark(cause)
        callbacks = [registration for event in family for registration in list(event._callbacks)]
        if callbacks:
            _run_each(iter(callbacks))

    def _mark(self, cause: Cause) -> list[StopEvent]:
        self._latch.fire(
            cause
        )  # before the family is looked up: mostly there is none, and this is what threads wait for
        if self._public is not None:
            self._level_public()
        # Iterative, since a chain of children may be long; it grows while it is walked.
        family = self._family()
        for event in family[1:]:
            event._latch.fire(cause)
            if event._public is not None:
                event._level_public()
        return family

    def _family(self) -> list[StopEvent]:
        family = [self]
        known = {id(self)}  # there may be many ways down to one descendant
        for event in family:
            if event._children:
                for child in event._living_children():
                    if id(child) not in known:
                        known.add(id(child))
                        family.append(child)
        return family

    def _ask(self) -> bool:
        for asked in self._asked:
            if asked.is_set():
                self._fire(asked._latch.cause or Cause())
                return True
        if self._limit is not None and time.monotonic() >= self._limit[0]:
            self._fire(Cause(f"deadline of {self._limit[1]:g} s exceeded", DeadlineExceeded))
        return self._latch.fired

    def _adopt(self, child: StopEvent) -> None:
        number = next(_numbers)
        # pop(number, <the dead reference>): the second argument is only pop's default.
        self._children[number] = weakref.ref(child, functools.partial(self._children.pop, number))
        if self.is_set():
            child._fire(self._latch.cause or Cause())

    def _living_children(self) -> list[StopEvent]:
        return [child for ref in list(self._children.values()) if (child := ref()) is not None]

    def _level_public(self) -> None:
        # Bring the public descriptor to the latch's level. A set and a clear may come here together: who sees that the
        # level has changed meanwhile does it again, so that the last one leaves it right.
        while (wake := self._public) is not None:
            level = self._latch.fired
            if level:
                wake.set()
            else:
                wake.clear()
            if self._latch.fired == level:
                return

    def _hold(self, *, keep: bool = True) -> ExitStack:
        # For those who depend on this event without being blocked on it: until the returned stack is closed, what must
        # be asked is watched, the clock included, and the event is kept alive by whatever could set it.
        with ExitStack() as hold:
            for asked in self._asked:
                hold.callback(asked._watch(self if keep else None))
            if self._limit is not None:
                hold.callback(_clock.at(self._limit[0], self.is_set if keep else _weakly(self.is_set)))
            for ancestor in self._ancestors() if keep else ():
                ancestor._kept[hold] = self
                hold.callback(ancestor._kept.pop, hold, None)
            return hold.pop_all()

    def _ancestors(self) -> list[StopEvent]:
        ancestors = dict.fromkeys(self._parents)
        for ancestor in (queue := list(ancestors)):
            fresh = [parent for parent in ancestor._parents if parent not in ancestors]
            ancestors.update(dict.fromkeys(fresh))
            queue += fresh
        return list(ancestors)

    def _watch(self, keep: object) -> Callable[[], object]:
        """For events in `_asked`: have the source watched, and `keep` kept alive, until the returned function is called."""
        raise NotImplementedError


class _Followed(StopEvent):
    """Stands for a stop that is not ours, and follows it, so that a source which is cleared can be used again."""

    def __init__(self, source: Any, says: Callable[[], object]) -> None:
        super().__init__()
        self._source = source
        self._says = says
        self._asked = (self,)
        self._must_ask = True

    def is_set(self) -> bool:
        try:
            says = bool(self._says())
        except Exception as error:  # noqa: BLE001 - what cannot be asked any more stops the work, rather than break it
            self._fire(Cause(error))
            return True
        if says != self._latch.fired:
            if says:
                self._fire(Cause())
            else:
                self._latch = Latch()
                self._level_public()
        return says

    def set(self, reason: object = None) -> None:
        if not hasattr(self._source, "set"):
            raise RuntimeError(f"cannot set a stop that follows {self._source!r}: set that")
        self._fire(Cause(reason))
        self._source.set()

    def clear(self) -> None:
        raise RuntimeError(f"cannot clear a stop that follows {self._source!r}: clear that")


class _FollowedEvent(_Followed):
    """Stands for an event of another class."""

    def __init__(self, source: EventLike) -> None:
        super().__init__(source, source.is_set)
        self._watcher = EventWatcher(source, source.wait, self._watched)
        self._hook = EventHook.of(source, self._hooked) if EventHook.supports(source) else None

    def is_set(self) -> bool:
        was_set = self._latch.fired
        is_set = super().is_set()
        if was_set and not is_set:
            for watcher in (self._watcher, self._hook):
                if watcher is not None:
                    watcher.resume()
        return is_set

    def _watched(self, error: BaseException | None) -> None:
        self._fire(Cause(error))

    def _hooked(self) -> None:
        self._mark(_WITHOUT_REASON)

    def _watch(self, keep: object) -> Callable[[], object]:
        # Who wants to be kept has a callback, which needs a thread to run in.
        return self._hook.hold() if keep is None and self._hook is not None else self._watcher.hold(keep)


class _FollowedCallable(_Followed):
    """Stands for a callable that says whether to stop."""

    def __init__(self, source: Callable[[], object]) -> None:
        super().__init__(source, source)

    def _watch(self, keep: object) -> Callable[[], object]:
        return _poller.hold(_weakly(self._look) if keep is None else self._look)

    def _look(self) -> None:
        try:
            self.is_set()
        except BaseException as error:  # noqa: BLE001 - in the poller's thread nothing else would come of a SystemExit
            self._fire(Cause(error))


def as_stop(source: StopLike) -> StopEvent | None:
    """`source` as a `StopEvent`: the door through which every `stop=` of this library goes.

    Args:
        source: a `StopEvent` (returned as it is); any object with `is_set()` and `wait(timeout)`, such as
            `threading.Event` and `multiprocessing.Event`; a callable without arguments that returns whether to stop; or
            None for no stop (returned as it is).

    Returns:
        What follows the source: set when it is, unset when it is cleared. The same source gives the same object.

    Raises:
        TypeError: it is none of these. An `asyncio.Event` is not, as its `wait` is a coroutine.

    A `threading.Event` wakes what is blocked on it directly; another event is watched by a thread, blocked in its `wait`,
    for as long as an operation is blocked on it. A callable is asked at every check, and every `StopEvent.poll_interval`
    seconds while an operation is blocked. A source that raises stops the work, with what it raised as the reason.

    A process that is killed while it waits for a `multiprocessing.Event` makes the next `set()` of that event hang: this
    is so in the standard library, and blocking an operation on such an event is waiting for it.
    """
    if source is None or isinstance(source, StopEvent):
        return source
    candidate: Any = source
    make: Callable[[Any], StopEvent]
    if isinstance(candidate, type):
        raise _not_a_stop(source, "a class; pass an instance of it")
    if callable(getattr(candidate, "is_set", None)) and callable(getattr(candidate, "wait", None)):
        if is_async(candidate.is_set) or is_async(candidate.wait):
            raise _not_a_stop(source, "asynchronous; a thread cannot wait for it")
        make = _FollowedEvent
    elif callable(candidate):
        if is_async(candidate):
            raise _not_a_stop(source, "a coroutine function; a thread cannot await it")
        make = _FollowedCallable
    else:
        raise _not_a_stop(source, f"of type {type(source).__name__}")
    # A bound method is made anew at each mention, so it is known by its parts.
    key = (id(source.__self__), id(source.__func__)) if isinstance(source, types.MethodType) else (id(source), 0)
    with guard.lock:
        stop = _followed.get(key)
        if stop is None:
            stop = _followed[key] = make(candidate)
        return stop


def _not_a_stop(source: object, what: str) -> TypeError:
    return TypeError(
        f"{source!r} cannot be a stop: it is {what}. Accepted are a StopEvent, any object with is_set() and wait(timeout)"
        " (threading.Event, multiprocessing.Event), a callable that returns whether to stop, and None"
    )


@contextmanager
def use_stop(stop: StopLike) -> Iterator[StopEvent | None]:
    """In this block, have every operation of this thread (or task) stop on `stop` too, whatever its own stop is.

    It replaces the current stop of the surrounding block rather than add to it: `use_stop(None)` shields a cleanup from
    a stop that is set, `use_stop(StopEvent(timeout=2))` gives it two seconds, and `use_stop(StopEvent(current_stop(), other))` combines
    (and `deadline(2)` limits). It is a `contextvars` variable (PEP 567): new threads have none but with `-X thread_inherit_context`.

    Raises:
        TypeError: `stop` is not a stop.
    """
    followed = as_stop(stop)
    token = set_current(followed)
    try:
        yield followed
    finally:
        _current.reset(token)


@contextmanager
def deadline(seconds: float) -> Iterator[StopEvent]:
    """In this block, have operations stop on the current stop as before, and at the latest after so many seconds.

    They raise `DeadlineExceeded` then. It limits the work as a whole, where a `timeout=` limits each wait. What cannot be seconds is
    a TypeError or a ValueError.
    """
    limited = StopEvent(current_stop(), timeout=seconds)
    with use_stop(limited):
        yield limited


def set_current(stop: StopEvent | None) -> Token[StopEvent | None]:
    """Make it the current stop; with the returned token, `_current.reset` puts back the one before."""
    if stop is not None and not ever_current.fired:
        ever_current.fire(Cause())
    return _current.set(stop)


def current_stop() -> StopEvent | None:
    """The stop of the innermost `use_stop` around the caller."""
    return _current.get()


def _weakly(method: Callable[[], object]) -> Callable[[], object]:
    """Calls a method for as long as its object lives."""
    ref = weakref.WeakMethod(method)

    def call() -> object:
        alive = ref()
        return alive() if alive is not None else None

    return call


def _run_each(registrations: Iterator[Registration]) -> None:
    try:
        for registration in registrations:
            registration._run()
    except BaseException:  # out of a signal handler: the others run all the same
        _run_each(registrations)
        raise


_current: ContextVar[StopEvent | None] = ContextVar("iointerrupt.current_stop", default=None)
#: Fires with the first `use_stop` of the process; until then nobody has a current stop, and nobody need look for one.
ever_current = Latch()
_WITHOUT_REASON = Cause()
_numbers = itertools.count()
_clock = Clock()
_poller = CallablePoller(lambda: StopEvent.poll_interval)
_followed: weakref.WeakValueDictionary[tuple[int, int], StopEvent] = weakref.WeakValueDictionary()
