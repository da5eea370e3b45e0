"""The part `select`: `select.select`, `poll` and `epoll`, and `selectors`, which a current stop ends.

All of them wait as before, and for one descriptor more, that of the stop. What they return is what the original says: it is asked
again, without waiting, once something is ready. So a call that need not wait (a timeout of 0) is the original's.

`select.poll` and `select.epoll` make objects of classes in C that nothing can be derived from, so there are classes here with
the same methods around them. In `selectors` the method that waits is replaced, and selectors that were made before stop as
well. `devpoll` and `kqueue`, of other platforms, are left alone.
"""

from __future__ import annotations

import functools
import select
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from iointerrupt._errors import Interrupted
from iointerrupt._monkey.loops import note_told, stop_for_select
from iointerrupt._monkey.patches import Patch, Unbound
from iointerrupt._monkey.timeouts import waits_in_kernel
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.wake import Wake
from iointerrupt._stop import StopEvent
from iointerrupt._wait import MAX_MILLISECONDS, PAUSE_WITHOUT_WAKE, milliseconds, sooner

_select: Any = select.select
_new_poll: Any = getattr(select, "poll", None)


def patches() -> list[Patch]:
    """Of the part `select`."""
    return [
        Patch(select, "select", _stoppable_select),
        Patch(select, "poll", lambda original: functools.partial(StoppablePoll, original)),
        Patch(
            select, "epoll", lambda original: type("epoll", (StoppableEpoll,), {"_original": original, "__slots__": ()})
        ),
        Patch(selectors.SelectSelector, "_select", _stoppable_select),
        Patch(selectors._PollLikeSelector, "select", stoppable_poll_like),  # PollSelector's own
        *([Patch(selectors.EpollSelector, "select", _stoppable_epoll_selector)] if hasattr(select, "epoll") else []),
    ]


@contextmanager
def _ending_at(stop: StopEvent, timeout: float | None) -> Iterator[Callable[[], float | None]]:
    """A wait that the stop ends; gives a function that says how many seconds are left of it, None for no limit.

    That function raises `Interrupted` where the stop is set.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    try:
        with Blocked((stop,)) as blocked:

            def remaining() -> float | None:
                blocked.raise_if_fired()
                return blocked.remaining(deadline)

            yield remaining
    except Interrupted:
        note_told(stop)
        raise


def _stoppable_select(original: Any) -> Any:
    @functools.wraps(original)
    def stoppable_select(rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None, /) -> Any:
        stop = stop_for_select()
        if stop is None or not waits_in_kernel(timeout):
            return original(rlist, wlist, xlist, timeout)
        rlist, wlist, xlist = map(_as_can_be_read_twice, (rlist, wlist, xlist))
        was_woken = False
        with _ending_at(stop, timeout) as remaining:
            while True:
                # Whatever is wrong with them is for the original to say, before there is a wake, which may get the number of a
                # descriptor that is closed. It is polled apart, as its number may be one that select cannot take.
                ready = original(rlist, wlist, xlist, 0)
                left = remaining()
                if any(ready) or left == 0:
                    return ready
                if was_woken:  # by what select does not tell, such as the end of what is only in xlist
                    _poll_all((), (), (), stop, sooner(left, PAUSE_WITHOUT_WAKE))
                was_woken = _poll_all(rlist, wlist, xlist, stop, left)

    return Unbound(stoppable_select)


def _as_can_be_read_twice(files: Any) -> Any:
    return list(files) if isinstance(files, Iterator) else files


def _poll_all(rlist: Any, wlist: Any, xlist: Any, stop: StopEvent, timeout: float | None) -> bool:
    """Wait for these and the stop; whether there was something."""
    if _new_poll is None:
        wakes, longest = _wake_of(stop)
        return any(map(len, _select([*rlist, *wakes], wlist, xlist, sooner(timeout, longest))))
    poller = _new_poll()
    interest: dict[int, int] = {}
    for files, events in ((rlist, select.POLLIN), (wlist, select.POLLOUT), (xlist, select.POLLPRI)):
        for file in files:
            fd = file if isinstance(file, int) else file.fileno()
            interest[fd] = interest.get(fd, 0) | events
    for fd, events in interest.items():
        poller.register(fd, events)
    with _registered(poller, stop) as (_, longest):
        return bool(poller.poll(milliseconds(sooner(timeout, longest))))


class StoppablePoll:
    """What `select.poll()` makes while it is patched."""

    __slots__ = ("_poll", "modify", "register", "unregister")

    def __init__(self, original: Any) -> None:
        self._poll = original()
        # As they are, at their own speed.
        self.register, self.modify, self.unregister = self._poll.register, self._poll.modify, self._poll.unregister

    def poll(self, timeout: Any = None, /) -> list[tuple[int, int]]:
        """As `select.poll.poll`: the timeout is in milliseconds, None or a negative one for no limit."""
        stop = stop_for_select()
        if stop is None or not (
            timeout is None or (isinstance(timeout, int | float) and timeout and timeout < MAX_MILLISECONDS)
        ):
            return self._poll.poll(timeout)  # type: ignore[no-any-return]  # as it is Any
        seconds = None if timeout is None or timeout < 0 else timeout / 1000
        with _ending_at(stop, seconds) as remaining, _registered(self._poll, stop) as (wake, longest):
            while True:
                left = remaining()
                ready = [pair for pair in self._poll.poll(milliseconds(sooner(left, longest))) if pair[0] != wake]
                remaining()
                if ready or left == 0:
                    return ready


@contextmanager
def _registered(poller: Any, stop: StopEvent) -> Iterator[tuple[int, float | None]]:
    """The descriptor of the stop, which is registered in a poll object meanwhile, and the longest time to poll.

    Both are as in `_wake_of`; the descriptor is -1 where there is none.
    """
    wakes, longest = _wake_of(stop)
    for wake in wakes:
        poller.register(wake.fileno(), select.POLLIN)
    try:
        yield next((wake.fileno() for wake in wakes), -1), longest
    finally:
        for wake in wakes:
            poller.unregister(wake.fileno())


def _wake_of(stop: StopEvent) -> tuple[list[Wake], float | None]:
    """What has the descriptor of the stop, and the longest time to wait.

    That is no limit, unless no descriptor is left to be woken by: then the stop is looked at again and again.
    """
    try:
        return [stop._latch.wake()], None
    except OSError:
        return [], PAUSE_WITHOUT_WAKE


class StoppableEpoll:
    """What `select.epoll()` makes while it is patched: an epoll descriptor can itself be polled for whether it has something."""

    __slots__ = ("_epoll",)

    _original: Any

    def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
        self._epoll = self._original(sizehint, flags)

    @classmethod
    def fromfd(cls, fd: int, /) -> Self:
        """As `select.epoll.fromfd`."""
        self = cls.__new__(cls)
        self._epoll = cls._original.fromfd(fd)
        return self

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """As `select.epoll.poll`: the timeout is in seconds, None or a negative one for no limit."""
        return _ask_epoll(self._epoll.poll, self._epoll, timeout, maxevents)  # type: ignore[no-any-return]  # as it is Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)

    def __enter__(self) -> Self:
        self._epoll.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._epoll.__exit__(*exc_info)


def _ask_epoll(ask: Any, epoll: Any, timeout: float | None, *args: Any) -> Any:
    """What `ask(timeout, *args)` says, once it says something, of an epoll object or of what has one."""
    stop = stop_for_select()
    if isinstance(timeout, int | float) and timeout < 0:
        timeout = None
    if stop is None or not waits_in_kernel(timeout) or epoll.fileno() < 0:
        return ask(timeout, *args)
    with _ending_at(stop, timeout) as remaining:
        while True:
            left = remaining()
            found = ask(0, *args)
            if found or left == 0:
                return found
            _poll_all([epoll], (), (), stop, left)


def stoppable_poll_like(original: Any) -> Any:
    """The `select` of a selector over a poll object, which a current stop ends."""

    @functools.wraps(original)
    def stoppable(self: Any, timeout: float | None = None) -> Any:
        stop = stop_for_select()
        if stop is None or not waits_in_kernel(timeout):
            return original(self, timeout)
        with _ending_at(stop, timeout) as remaining, _registered(self._selector, stop) as (_, longest):
            while True:
                left = remaining()
                ready = original(self, sooner(left, longest))  # which leaves out what is no file of its own
                remaining()
                if ready or left == 0:
                    return ready

    return stoppable


def _stoppable_epoll_selector(original: Any) -> Any:
    @functools.wraps(original)
    def stoppable(self: Any, timeout: float | None = None) -> Any:
        if timeout is not None and timeout <= 0:
            return original(self, timeout)
        return _ask_epoll(functools.partial(original, self), self, timeout)

    return stoppable
