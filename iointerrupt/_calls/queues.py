"""`get` and `put`: queues, whose items are never lost between the queue and the caller.

An item leaves a queue in one step of the queue's own, by the thread that then returns it: a stop is looked at before that
step and not after it. What waits for the step depends on the queue:

- `queue.Queue` and its kin have conditions, in whose line a stoppable wait can stand (`_wait.Place`);
- `multiprocessing.Queue` has a pipe to read from, which is polled; to put, it has only a semaphore;
- that semaphore, `queue.SimpleQueue` (a lock inside C code) and queues of others can only be asked: in turns of
  `StopEvent.poll_interval` seconds, each of which an item ends at once.
"""

from __future__ import annotations

import queue
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar, overload

from iointerrupt._callables import is_async
from iointerrupt._signal.blocked import Blocked
from iointerrupt._stop import StopEvent, _current, as_stop, ever_current
from iointerrupt._types import StopLike
from iointerrupt._wait import READ, Place, ask, check, deadline_of, stops, wait_ready

if TYPE_CHECKING:
    from iointerrupt._calls.shapes import Source, Target

T = TypeVar("T")

# Seconds for which a reader that was told of an item stands in line for it behind the readers of other processes.
_TURN = 0.005


class GetTimeout(queue.Empty, TimeoutError):
    """The `timeout=` of a `get` has passed, and the queue is still empty."""


class PutTimeout(queue.Full, TimeoutError):
    """The `timeout=` of a `put` has passed, and the queue is still full."""


@overload
def get(source: queue.Queue[T] | queue.SimpleQueue[T], *, stop: StopLike = None, timeout: float | None = None) -> T: ...
@overload
def get(source: Source[T], *, stop: StopLike = None, timeout: float | None = None) -> T: ...
def get(source: Any, *, stop: StopLike = None, timeout: float | None = None) -> Any:
    """Take an item from a queue, waiting for one: `queue.get()`, which a stop ends.

    Args:
        source: a `queue.Queue`, `LifoQueue`, `PriorityQueue` or `SimpleQueue`, a `multiprocessing.Queue`, or another
            object with their `get(block, timeout)` and `get_nowait()`, such as a manager's proxy.
        stop: what ends the wait, besides the current stop.
        timeout: seconds to wait; None for no limit.

    Raises:
        Interrupted: no item was taken.
        GetTimeout: a TimeoutError and a `queue.Empty`; no item was taken.
        queue.ShutDown: the queue was shut down (Python 3.13 and newer).
        ValueError: a `multiprocessing.Queue` was closed.
        TypeError: it is no such queue. `multiprocessing.SimpleQueue` knows no time limit: use `calls.call(queue.get)`.

    An item that comes together with the stop stays in the queue. With a `SimpleQueue`, and with queues of other classes
    than named here, a stop is noticed within `StopEvent.poll_interval` seconds. From a `multiprocessing.Queue`, an item
    whose transfer has begun is received whole before the stop is looked at.
    """
    # As cheap as it gets while there are items: nothing is called for a stop that nobody has set, and the item is taken by
    # the queue's own step, with a notification where somebody waits for it.
    own = stop if stop is None or type(stop) is StopEvent else as_stop(stop)
    if (own is not None and (own._must_ask or own._latch.fired)) or (ever_current.fired and _current.get() is not None):
        check(own)
    is_conditioned = type(source) in _CONDITIONED or _is_conditioned(source)
    if is_conditioned:
        with source.mutex:
            if source._qsize():
                item = source._get()
                if source.not_full._waiters:
                    source.not_full.notify()
                return item
    try:
        deadline = deadline_of(timeout)
        if is_conditioned:
            return _get_notified(source, own, deadline)
        if _is_piped(source):
            return _get_piped(source, own, deadline)
        return _get_by_asking(source, own, deadline)
    except TimeoutError as error:
        raise GetTimeout("timed out: the queue is empty") from error


@overload
def put(
    target: queue.Queue[T] | queue.SimpleQueue[T], item: T, *, stop: StopLike = None, timeout: float | None = None
) -> None: ...
@overload
def put(target: Target[T], item: T, *, stop: StopLike = None, timeout: float | None = None) -> None: ...
def put(target: Any, item: object, *, stop: StopLike = None, timeout: float | None = None) -> None:
    """Put an item into a queue, waiting for room: `queue.put(item)`, which a stop ends.

    Args:
        target: a queue, as for `get`.
        item: what to put there.
        stop: what ends the wait, besides the current stop.
        timeout: seconds to wait; None for no limit.

    Raises:
        Interrupted: the item is not in the queue.
        PutTimeout: a TimeoutError and a `queue.Full`; the item is not in the queue.
        queue.ShutDown: the queue was shut down (Python 3.13 and newer).
        ValueError: a `multiprocessing.Queue` was closed.
        TypeError: it is no such queue.

    With a full `multiprocessing.Queue`, and with queues of other classes than named here, a stop is noticed within
    `StopEvent.poll_interval` seconds.
    """
    own = as_stop(stop)
    check(own)
    try:
        deadline = deadline_of(timeout)
        if _is_conditioned(target):
            _put_notified(target, item, own, deadline)
        else:
            _put_by_asking(target, item, own, deadline)
    except TimeoutError as error:
        raise PutTimeout("timed out: the queue is full") from error


def wait_for_tasks(source: queue.Queue[Any], own: StopEvent | None, deadline: float | None) -> None:
    """`queue.join()`: block until all that was put there has been marked with `task_done`."""
    with Blocked(stops(own)) as blocked:
        place = Place(source.all_tasks_done, blocked)
        while True:
            with source.all_tasks_done:
                if not source.unfinished_tasks:
                    return
                place.take()
            place.wait(deadline)


# Queues whose get, put and conditions are those of queue.Queue: `_qsize` and `_get` are theirs to override.
_CONDITIONED = {queue.Queue, queue.LifoQueue, queue.PriorityQueue} if Place.supports(queue.Queue().not_empty) else set()


def _is_conditioned(candidate: Any) -> bool:
    kind = type(candidate)
    return (
        isinstance(candidate, queue.Queue)
        and (kind.get, kind.put) == (queue.Queue.get, queue.Queue.put)
        and Place.supports(candidate.not_empty)
        and Place.supports(candidate.not_full)
    )


def _get_notified(source: queue.Queue[Any], own: StopEvent | None, deadline: float | None) -> Any:
    with Blocked(stops(own)) as blocked:
        place = Place(source.not_empty, blocked)
        while True:
            try:
                return source.get(block=False)
            except queue.Empty:
                pass
            with source.mutex:
                if source._qsize() or _is_shut_down(source):
                    continue
                place.take()
            place.wait(deadline)


def _put_notified(target: queue.Queue[Any], item: object, own: StopEvent | None, deadline: float | None) -> None:
    try:
        target.put(item, block=False)
        return
    except queue.Full:
        pass
    with Blocked(stops(own)) as blocked:
        place = Place(target.not_full, blocked)
        while True:
            with target.mutex:
                has_room = target._qsize() < target.maxsize or _is_shut_down(target)
                if not has_room:
                    place.take()
            if not has_room:
                place.wait(deadline)
            try:
                target.put(item, block=False)
                return
            except queue.Full:
                pass


def _is_shut_down(candidate: Any) -> bool:
    return getattr(candidate, "is_shutdown", False)  # from Python 3.13 on


def _is_piped(candidate: Any) -> bool:
    queues = sys.modules.get("multiprocessing.queues")  # whoever made one has it loaded
    return queues is not None and isinstance(candidate, queues.Queue)


def _get_piped(source: Any, own: StopEvent | None, deadline: float | None) -> Any:
    turn = 0.0
    while True:
        try:
            return source.get(True, turn)
        except queue.Empty:
            pass
        if turn and deadline is not None and time.monotonic() >= deadline:
            check(own)
            raise TimeoutError("timed out")  # though there is an item: a reader of another process keeps it
        # An item is there, or the pipe's other end is gone. A reader of another process may be about to take it.
        wait_ready(source._reader.fileno(), READ, own, deadline)
        turn = _TURN


def _get_by_asking(source: Any, own: StopEvent | None, deadline: float | None) -> Any:
    _check_queue(source)
    found: list[Any] = []

    def attempt(seconds: float | None) -> bool:
        try:
            found.append(source.get(True, seconds))
        except queue.Empty:
            return False
        return True

    ask(attempt, own, deadline)
    return found[0]


def _put_by_asking(target: Any, item: object, own: StopEvent | None, deadline: float | None) -> None:
    _check_queue(target)

    def attempt(seconds: float | None) -> bool:
        try:
            target.put(item, True, seconds)
        except queue.Full:
            return False
        return True

    ask(attempt, own, deadline)


def _check_queue(candidate: Any) -> None:
    if (
        isinstance(candidate, type)
        or not callable(getattr(candidate, "get_nowait", None))
        or is_async(getattr(candidate, "get", None))
    ):
        raise TypeError(
            f"{candidate!r} is not a queue that a thread can wait for with a time limit. Accepted are those of queue,"
            " multiprocessing.Queue, and objects with their get(block, timeout), put(item, block, timeout) and get_nowait()"
        )
