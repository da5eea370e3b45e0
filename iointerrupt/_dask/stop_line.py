"""`Line`: what connects the stop of one process with the scheduler of its cluster.

At the scheduler a stop is a `distributed.Event` of a name that no program gives its own events (`event_of`), and the reason is
beside it in the scheduler's metadata. A line asks once whether the event is set, and then leaves one `event_wait` with the scheduler,
which answers when it is: nothing is asked while data flows, and nothing is polled. All that are coroutines on the loop that the
client or the worker has anyway, and go through its pool of connections, so there is no thread; and the pool, when it is closed,
ends the wait.

A wait is renewed twice a minute, since the scheduler does not notice that one has been given up: it keeps what belongs to it,
some kilobytes, until the wait ends. So a stop that is dropped unset leaves nothing there for longer than that. (Of one that was
set there remain the event and the reason, some hundred bytes.) And a line whose stop is dropped waits a moment for another one
of the name: the next task has one.

When is a connection that breaks a failure? If the client or the worker has closed it, it is not, and `over` is called: there
may be another client. Else nobody can say any more whether to stop, and what depends on it has to: `hear` gets the error. There
is no second attempt: a worker that has lost its scheduler ends, and a client that comes back finds a scheduler that knows
nothing of its past.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import pickle
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from distributed import Client, Worker
from distributed.core import Status

from iointerrupt._signal import guard
from iointerrupt._signal.latch import Cause, Gate

# What all that the scheduler has of ours begins with: the names of the events, and in its metadata the reasons.
_OURS = "iointerrupt"

# Seconds after which a wait is renewed: for no longer does the scheduler keep one that was given up.
_LEASE = 30.0

# Seconds for which the line of a stop that has come with a task waits for the next one.
_LINGER = 2.0

#: A process's place in a cluster: both have a loop, a pool of connections, and a way to call the scheduler.
Owner = Client | Worker


class Telling:
    """A message to the scheduler, on its way."""

    def __init__(self) -> None:
        self._done = Gate()
        self._error: BaseException | None = None

    def wait(self, timeout: float) -> BaseException | None:
        """Wait for the answer, for at most `timeout` seconds; what has come instead of it, if that is known."""
        self._done.wait(timeout)
        return self._error

    def end(self, error: BaseException | None) -> None:
        """It has arrived, or never will."""
        self._error = error
        self._done.set()


class Line:
    """Hears of a set of the stop `name`, and tells of one."""

    def __init__(self, owner: Owner, name: str) -> None:
        self.owner = owner
        self.name = name
        self.known = Gate()  # opens when the first answer is there, or none can be had
        self.is_copy = False  # in a forked child, where loop and connections are the parent's
        self.kept: object = None
        loop: Any = owner.loop
        self._loop: asyncio.AbstractEventLoop = loop.asyncio_loop
        self._hear: weakref.WeakMethod[Callable[[Cause], object]] | None = None
        self._over: weakref.WeakMethod[Callable[[], object]] | None = None
        self._cause: Cause | None = None
        self._task: asyncio.Task[None] | None = None
        self._has_ended = False
        _lines.add(self)

    @property
    def is_open(self) -> bool:
        """Whether it would hear of a set."""
        return not (self._has_ended or self.is_copy or is_closed(self.owner))

    def is_here(self) -> bool:
        """Whether the caller is the loop's own thread, which may not wait for what happens in it."""
        return asyncio._get_running_loop() is self._loop

    def close(self) -> None:
        """End one that has not begun to listen."""
        self._has_ended = True
        self.known.set()

    def end_if_unused(self) -> bool:
        """End it, if it only waits for another stop of its name; whether it did. The caller has the lock of `guard`."""
        if self._hear is None or self._hear() is not None:
            return False
        self._has_ended = True
        try:
            self._soon(self._end)
        except RuntimeError:  # the loop is closed
            pass
        return True

    def listen(self) -> None:
        """Begin to wait for the event; for those who attach themselves."""
        self._soon(self._begin_to_listen)

    def attach(
        self, hear: Callable[[Cause], object], over: Callable[[], object], kept: object, *, linger: bool
    ) -> Callable[..., None]:
        """Have `hear` called in the loop, with why the stop is set, when it is; or `over`, when nothing is heard any more.

        The caller has the lock of `guard`.

        Args:
            hear, over: methods, whose object is referred to weakly.
            kept: kept alive for as long as the line may hear of something.
            linger: whether to wait for another one of the name, after the last one.

        Returns:
            What takes it back, for finalizers too: it neither waits nor raises. With `linger=False`, at once.
        """
        self._hear = ref = weakref.WeakMethod(hear)
        self._over = weakref.WeakMethod(over)
        self.kept = kept
        if self._cause is not None:
            self._soon(self._tell_hearer)
        return functools.partial(self._give_up, ref, linger=linger)

    def tell(self, reason: object) -> Telling:
        """Have the event set, with the reason beside it.

        Nothing waits here, and no lock is taken, since a signal handler may be the caller: to put something into the queue of
        a loop is one append to a deque and one byte into a socket. (asyncio's own handler of SIGINT does the same.)
        """
        telling = Telling()
        try:
            self._soon(self._begin_to_tell, reason, telling)
        except RuntimeError as error:  # the loop is closed
            telling.end(error)
        return telling

    def _soon(self, call: Callable[..., object], *args: object) -> None:
        self._loop.call_soon_threadsafe(call, *args)

    def _give_up(self, hear: object, *, linger: bool) -> None:
        if self.is_copy or self._hear is not hear:
            return
        try:
            if linger:
                self._soon(self._loop.call_later, _LINGER, self._end_for, hear)
            else:
                self._has_ended = True
                self._soon(self._end)
        except RuntimeError:  # the loop is closed, and with it all that was in it
            self._has_ended = True

    def _end_for(self, hear: object) -> None:
        with guard.lock:  # no other one may attach itself in between
            if self._hear is hear:
                self._end()

    def _end(self) -> None:
        self._has_ended = True
        self.kept = None
        self.known.set()
        if self._task is not None:
            self._task.cancel()

    def _begin_to_listen(self) -> None:
        if not self._has_ended:
            self._task = self._start(self._listen())
            self._task.add_done_callback(self._listened)

    def _listened(self, _: object) -> None:
        """There is nothing more to be heard: all that there was has been, or the client, or the worker, has ended."""
        was_given_up = self._has_ended
        self._end()
        over = self._over() if self._over is not None else None
        if over is not None and self._cause is None and not was_given_up:
            over()

    def _begin_to_tell(self, reason: object, telling: Telling) -> None:
        def end(task: asyncio.Task[None]) -> None:
            telling.end(asyncio.CancelledError() if task.cancelled() else task.exception())

        self._start(self._tell(reason)).add_done_callback(end)

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        _running.add(task)
        task.add_done_callback(_running.discard)
        return task

    async def _listen(self) -> None:
        try:
            self._cause = Cause(await self._reason())
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody can be asked any more
            if is_closed(self.owner):
                return
            self._cause = Cause(error)
        self._tell_hearer()

    def _tell_hearer(self) -> None:
        hear = self._hear() if self._hear is not None else None
        if hear is not None and self._cause is not None:
            hear(self._cause)

    async def _reason(self) -> object:
        """Wait for the event; why it was set."""
        scheduler: Any = self.owner.scheduler
        event = event_of(self.name)
        is_set = await scheduler.event_is_set(name=event)
        if not is_set:
            self.known.set()
        while not is_set:
            is_set = await scheduler.event_wait(name=event, timeout=_LEASE)
        return _unpacked(await scheduler.get_metadata(keys=[_OURS, self.name], default=None))

    async def _tell(self, reason: object) -> None:
        if not is_connected(self.owner):
            raise RuntimeError(f"{self.owner!r} is closed")
        scheduler: Any = self.owner.scheduler
        try:
            if reason is not None:  # before the event, since who hears of that looks for it
                await scheduler.set_metadata(keys=[_OURS, self.name], value=_packed(reason))
        finally:
            await scheduler.event_set(name=event_of(self.name))


def event_of(name: str) -> str:
    """The name of a stop's event."""
    return f"{_OURS}-{name}"


def is_closed(owner: Owner) -> bool:
    """Whether its connections are closed, or about to be, because it has come to its end."""
    # A client with a cluster of its own ends that first. A worker ends also when it has lost the scheduler; its pool is
    # closed last then.
    return owner.rpc.status is not Status.running or (
        isinstance(owner, Client) and owner.status in {"closing", "closed"}
    )


def is_connected(owner: Owner) -> bool:
    """Whether it can reach its scheduler, as far as it knows."""
    if isinstance(owner, Client) and owner.status != "running":  # it looks for a scheduler that it has lost
        return False
    return owner.scheduler is not None and not is_closed(owner) and owner not in _inherited


def address_of(owner: Owner) -> str:
    """Where it reaches its scheduler, with which it is connected."""
    scheduler: Any = owner.scheduler
    address: str = scheduler.address
    return address


def _packed(reason: object) -> tuple[bytes | None, str]:
    # As bytes, so that the scheduler need not have what it is made of; and as text for a process that has not.
    try:
        text = str(reason)
    except Exception:  # noqa: BLE001 - of a class of the program's
        text = type(reason).__name__
    text = text.encode("utf-8", "backslashreplace").decode()  # lone surrogates, as of names of files, do not travel
    try:
        return cloudpickle.dumps(reason), text
    except Exception:  # noqa: BLE001 - whatever keeps it from being pickled
        return None, text


def _unpacked(packed: tuple[bytes | None, str] | None) -> object:
    if packed is None:
        return None
    pickled, text = packed
    if pickled is None:
        return text
    try:
        return pickle.loads(pickled)  # noqa: S301 - from the cluster, which sends code anyway
    except Exception:  # noqa: BLE001 - of a class that is not installed here, for one
        return text


def _is_news(record: logging.LogRecord) -> bool:
    return not (record.exc_info and record.exc_info[0] is asyncio.CancelledError)


# A scheduler that ends says of each wait that it ends with it, as an error and with a traceback; one of a `LocalCluster` does so
# in the program's own process.
logging.getLogger("distributed.event").addFilter(_is_news)

_lines: weakref.WeakSet[Line] = weakref.WeakSet()
_running: set[asyncio.Task[None]] = set()  # a loop refers to its tasks weakly
_inherited: weakref.WeakSet[Owner] = weakref.WeakSet()  # of a parent process, and of no use in a forked child


def _after_fork_in_child() -> None:
    _running.clear()
    _inherited.update([*Worker._instances, *Client._instances])
    for line in list(_lines):
        line.is_copy = True
        line.known.set()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
