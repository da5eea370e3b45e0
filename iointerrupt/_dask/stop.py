"""`ClusterStop`: one stop for all processes of a Dask cluster.

In each process there is one object of a name, which is an ordinary `StopEvent`: what checks it asks nobody, and what is
blocked on it is woken as by any other. It has a `Line` to the scheduler, which sets it when the stop was set elsewhere, and
carries there what is set here.

What travels is the name. The object that is unpickled finds the worker, or the client, of its process; in the scheduler, which
looks at what it passes on, it is a mere `_Passing`. It learns within a round trip whether the stop has been set, and until then
who checks it waits, so that work that comes late does not begin. The loop's own thread, in which that answer arrives, does not
wait: there it is unset for that long.

Who keeps it alive: its users. While it has a callback, or a child that has one, its line does, since the cluster can still set
it. Dropped, it takes its line down.
"""

from __future__ import annotations

import uuid
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from typing import Any, Self

from distributed import Client, Worker, get_worker

from iointerrupt._dask.stop_line import Line, Owner, address_of, is_connected
from iointerrupt._helpers import run_in_thread
from iointerrupt._signal import guard
from iointerrupt._signal.latch import Cause
from iointerrupt._stop import StopEvent

# Seconds for which a check waits for the scheduler's first answer, and a set for it to have arrived.
_FIRST_ANSWER = 5.0
_TOLD = 1.0


class ClusterStop(StopEvent):
    """A `StopEvent` for a whole cluster: set anywhere, it stops what is blocked on it in every process that has it.

        with ClusterStop(client) as stop:
            futures = client.map(fetch, urls, stop=stop)  # and there: iointerrupt.http.Session(stop=stop)
            ...
            stop.set("enough")

    Args:
        client: of the cluster; None for that of this process: the worker whose task this is, or else the current client.
        name: to find the same stop elsewhere; None for a new one. In one process there is one object of a name, whether it is
            made or unpickled, and it hears of a set as long as one of the clients and workers is there that it was made of.

    Raises:
        RuntimeError: the client is not connected, there is none, or there are too many stops: each has one of the connections
            to the scheduler, of which they get half.
        TypeError, ValueError: `client` is not a `distributed.Client`, or the name not a str, or none that can be sent.

    All but `set` is local: the scheduler is not asked, and tells of a set by itself. If the connection to it breaks, the stop is
    set, with the error as its reason: nobody could tell of a set any more. When its client is closed, or its worker ends, it is
    not: it is an event of its process from then on. In a forked child it is a copy, as any `StopEvent` is.
    """

    _key: tuple[str, str]  # the scheduler's address, and the name
    _blocks = 0  # that have been entered and not left, in this process
    _is_received = True  # has come from another process, and nobody has asked for it here by its name
    _owners: weakref.WeakSet[Owner]  # of which it was made, with the lock of `guard`
    _finalizer: weakref.finalize[..., Any] | None = None

    # One that is there already is not made again, so all is done in here.
    def __new__(cls, client: Client | None = None, *, name: str | None = None) -> Self:
        if not isinstance(client, Client | None):
            raise TypeError(f"client must be a distributed.Client or None, not {type(client).__name__}")
        if not isinstance(name, str | None):
            raise TypeError(f"name must be a str or None, not {type(name).__name__}")
        owner = client if client is not None else next(_owners(), None)
        if owner is None:
            raise RuntimeError("this process has no client of a cluster: make a distributed.Client")
        if name is None:
            stop = cls._of(owner, f"stop-{uuid.uuid4().hex}")
            stop._must_ask = False  # nobody can have set it before
        else:
            try:
                name.encode()
            except UnicodeEncodeError:
                raise ValueError(f"name must be text that can be sent, and {name!r} has lone surrogates") from None
            stop = cls._of(owner, name)
        stop._is_received = False
        return stop

    def __init__(self, client: Client | None = None, *, name: str | None = None) -> None:
        pass

    @classmethod
    def _of(cls, owner: Owner, name: str, *, linger: bool = False) -> Self:
        if not is_connected(owner):
            raise RuntimeError(f"{owner!r} is not connected")
        key = (address_of(owner), name)
        with guard.lock:
            stop: Any = _stops.get(key)
            if stop is None:
                stop = super().__new__(cls)
                StopEvent.__init__(stop)
                stop._key = key
                stop._owners = weakref.WeakSet()
                stop._attach(owner, linger=linger)
            elif not (stop._line.is_open or stop._latch.fired):
                stop._attach(owner, linger=linger)
            stop._owners.add(owner)
        return stop  # type: ignore[no-any-return]

    @classmethod
    def _refused(cls, owner: Owner, name: str, error: RuntimeError) -> Self:
        """One that is set with an error as its reason, as there is no line to be had; it can be sent on."""
        stop = super().__new__(cls)
        StopEvent.__init__(stop)
        stop._key = (address_of(owner), name)
        stop._owners = weakref.WeakSet()
        stop._line = Line(owner, name)
        stop._line.close()
        stop._detach = lambda **_: None
        StopEvent.set(stop, error)
        return stop

    def _attach(self, owner: Owner, *, linger: bool) -> None:
        line = _lines.get(self._key)
        if line is None or not line.is_open:
            if not _has_room(owner):
                raise RuntimeError(f"{owner!r} has too many stops: close those that are done with")
            _lines[self._key] = line = Line(owner, self.name)
            line.listen()
        self._line: Line = line
        self._must_ask = True
        self._detach: Callable[..., None] = line.attach(self._hear, self._move, self._kept, linger=linger)
        if self._finalizer is not None:
            self._finalizer.detach()  # it would keep the client alive
        self._finalizer = weakref.finalize(self, self._detach)
        self._finalizer.atexit = False
        _stops[self._key] = self

    @property
    def name(self) -> str:
        """By which other processes find it."""
        return self._key[1]

    def set(self, reason: object = None) -> None:
        """Stop everything in the cluster that is blocked on it, and everything that will be.

        Args:
            reason: what the `Interrupted` there carries, the first one that a process hears of. It is pickled; where that is
                not possible, its text is sent, and where it cannot be unpickled, that is what is found.

        Raises:
            RuntimeError: the scheduler could not be told: the client is closed, or the connection broken. In this process, the
                stop is set.

        This process is stopped at once. Then it waits for the scheduler to have been told, for a second at most, and not at
        all in the client's own loop: there it is on its way. A signal handler may call it; a lock that the interrupted code
        holds can make it wait for that second, not for ever.
        """
        was_set = self._latch.fired
        # Before what the cluster makes of the reason can come back; callbacks are called after it was told.
        self._mark(Cause(reason))
        telling = None if was_set or self._line.is_copy else self._line.tell(reason)
        super().set(reason)
        if telling is not None and (error := telling.wait(0 if self._line.is_here() else _TOLD)) is not None:
            raise RuntimeError("the stop is set in this process, but its cluster cannot be told") from error

    def clear(self) -> None:
        """Not for this one: other processes have seen it set.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("cannot clear a ClusterStop, which other processes have seen set: make a new one")

    def close(self) -> None:
        """Let go of the connection to the scheduler: from here on the stop hears of no set elsewhere.

        For all who have the stop in this process. A set in this process is told all the same.
        """
        if self._finalizer is not None:
            self._finalizer.detach()
        self._detach(linger=False)

    def __enter__(self) -> Self:
        with guard.lock:
            self._blocks += 1
        self._move()  # it may have been closed by who left a block before
        return self

    def __exit__(self, *exc_info: object) -> None:
        with guard.lock:
            self._blocks -= 1
            is_last = not self._blocks
        # There is one object of a name, and other tasks may be in blocks of theirs, or have it without one.
        if is_last and not self._is_received:
            self.close()

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:  # type: ignore[override]  # the others cannot be pickled
        return _unpickled, (type(self), *self._key)

    def _ask(self) -> bool:
        if not self._line.is_here():
            self._line.known.wait(_FIRST_ANSWER)
            self._must_ask = False
        return self._latch.fired

    def _hear(self, cause: Cause) -> None:
        family = self._mark(cause)
        if any(event._callbacks for event in family):
            # In the loop they could not wait for anything of the cluster, and it would wait for them.
            try:
                run_in_thread(lambda: self._fire(cause), "iointerrupt-cluster")
            except RuntimeError:  # there are no more threads to be had
                self._fire(cause)

    def _move(self) -> None:
        """Hear of a set again, where that is over: through another client or worker of which it was made, or the same one."""
        with guard.lock:
            if self._latch.fired or self._line.is_open:
                return
            for owner in filter(is_connected, list(self._owners)):
                with suppress(RuntimeError):  # it has too many
                    self._attach(owner, linger=False)
                    return

    def _hold(self, *, keep: bool = True) -> ExitStack:
        hold = super()._hold(keep=keep)
        if keep:
            self._kept[hold] = self
            hold.callback(self._kept.pop, hold, None)
        return hold


class _Passing:
    """Stands for a stop in a process through which it only passes, as a task's arguments pass through the scheduler."""

    def __init__(self, *args: Any) -> None:
        self._args = args

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, self._args

    def __repr__(self) -> str:
        return f"<{self._args[2]}, a ClusterStop of {self._args[1]}, in a process that has no worker or client of it>"


def _unpickled(cls: type[ClusterStop], address: str, name: str) -> ClusterStop | _Passing:
    owners = list(_owners())
    matching = [owner for owner in owners if address_of(owner) == address]
    if not matching:
        # The scheduler may have one address for workers and another one for clients. A worker has one scheduler.
        workers: list[Owner] = [owner for owner in owners if isinstance(owner, Worker)]
        matching = workers or (owners if len({*map(address_of, owners)}) == 1 else [])
    if not matching:
        return _Passing(cls, address, name)
    try:
        return cls._of(matching[0], name, linger=True)
    except RuntimeError as error:
        # A task is unpickled where an exception would end the whole worker. So it is the task that learns of it.
        return cls._refused(matching[0], name, error)


def _has_room(owner: Owner) -> bool:
    """Whether there may be one line more, for which one may have to end that nobody uses. With the lock of `guard`."""
    lines = [line for line in list(_lines.values()) if line.owner is owner and line.is_open]
    return len(lines) < owner.rpc.limit // 2 or any(line.end_if_unused() for line in lines)


def _owners() -> Iterator[Owner]:
    """Through whom this process can reach a scheduler, the one for the caller first."""
    found: list[Owner] = []
    for current in (get_worker, Client.current):
        try:
            found.append(current())
        except ValueError:  # there is none
            pass
    for owner in [*found, *_living(Worker._instances), *_living(Client._instances)]:
        if is_connected(owner):
            yield owner


def _living(instances: Iterable[Owner]) -> list[Owner]:
    while True:
        try:
            return list(instances)
        except RuntimeError:  # another thread has just made one
            continue


_stops: weakref.WeakValueDictionary[tuple[str, str], ClusterStop] = weakref.WeakValueDictionary()
_lines: weakref.WeakValueDictionary[tuple[str, str], Line] = weakref.WeakValueDictionary()
