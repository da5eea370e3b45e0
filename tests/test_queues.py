"""`calls.get`, `put` and the join of a queue: no item is lost, whoever is stopped, and errors are those of the queue."""

from __future__ import annotations

import asyncio
import multiprocessing
import queue
import sys
import threading
from typing import Any

import pytest

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, calls, use_stop
from iointerrupt._wait import READ, wait_ready
from iointerrupt.testing import StopAfter, wait_until_blocked

SPAWN = multiprocessing.get_context("spawn")
STANDARD = [queue.Queue, queue.LifoQueue, queue.PriorityQueue, queue.SimpleQueue]


class Named(queue.Queue[Any]):
    """A queue that counts what goes through it, by the methods that are there to be overridden."""

    def _init(self, maxsize):
        super()._init(maxsize)
        self.taken = []

    def _get(self):
        self.taken.append(super()._get())
        return self.taken[-1]


class Shouting(queue.Queue[str]):
    """A queue with a get and a put of its own."""

    def get(self, block=True, timeout=None):  # noqa: FBT002 - the signature of a queue
        return super().get(block, timeout).upper()

    def put(self, item, block=True, timeout=None):  # noqa: FBT002 - as get
        super().put(item.strip(), block, timeout)


@pytest.mark.parametrize("kind", [*STANDARD, Named, Shouting])
def test_items_go_through_in_the_order_of_the_queue(kind):
    """What was put is got, in the order that the queue has."""
    ours, standard = kind(), kind()
    for item in ("b", "c", "a"):
        calls.put(ours, item)
        standard.put(item)
    assert [calls.get(ours) for _ in range(3)] == [standard.get() for _ in range(3)]
    assert ours.empty()


def test_a_subclass_keeps_its_own_steps():
    """A queue that overrides `_get` sees every item, also one that was waited for."""
    source = Named()
    source.put("first")
    assert calls.get(source) == "first"
    assert source.taken == ["first"]


@pytest.mark.parametrize("kind", STANDARD)
def test_get_waits_for_an_item(kind, background):
    """A thread that is blocked in get has the item that is put then."""
    source, stop = kind(), StopEvent()
    getter = background(calls.get, source, stop=stop)
    wait_until_blocked(stop)
    source.put("item")
    assert getter.result() == "item"


def test_get_without_any_stop_waits_too(background):
    """With neither a stop nor a timeout it blocks as the queue's own get does."""
    source, ready = queue.Queue(), threading.Event()
    getter = background(lambda: (ready.set(), calls.get(source))[1])
    ready.wait(10)
    calls.put(source, "item")
    assert getter.result() == "item"


def test_put_waits_for_room_and_counts_the_task(background):
    """A thread that is blocked in put goes on when there is room, and join waits for what it put."""
    target, stop = queue.Queue(1), StopEvent()
    target.put("first")
    putter = background(calls.put, target, "second", stop=stop)
    wait_until_blocked(stop)
    assert target.get() == "first"
    putter.result()
    assert target.get() == "second"
    assert target.unfinished_tasks == 2


@pytest.mark.parametrize("kind", STANDARD)
def test_timeouts_are_of_both_kinds(kind):
    """A get that takes too long raises what the queue raises, which is a TimeoutError as well."""
    with pytest.raises(queue.Empty) as caught:
        calls.get(kind(), timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, calls.GetTimeout)


@pytest.mark.parametrize("make", [lambda: queue.Queue(1), lambda: Shouting(1)])
def test_a_put_that_takes_too_long(make):
    """It raises what the queue raises, which is a TimeoutError as well, and the item is not there."""
    target = make()
    target.put("first")
    with pytest.raises(queue.Full) as caught:
        calls.put(target, "second", timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert target.qsize() == 1


def test_a_timeout_of_zero_only_looks():
    """With nothing to wait for, get and put either do it now or time out."""
    target = queue.Queue(1)
    with pytest.raises(queue.Empty):
        calls.get(target, timeout=0)
    calls.put(target, "item", timeout=0)
    with pytest.raises(queue.Full):
        calls.put(target, "other", timeout=0)
    assert calls.get(target, timeout=0) == "item"


def test_a_stop_wins_over_an_item():
    """With the stop set, an item that is there stays there."""
    source, stop = queue.Queue(), StopEvent()
    source.put("item")
    stop.set("enough")
    with pytest.raises(Interrupted) as caught:
        calls.get(source, stop=stop)
    assert caught.value.reason == "enough"
    with use_stop(stop), pytest.raises(Interrupted):
        calls.get(source)
    assert source.get(block=False) == "item"


@pytest.mark.parametrize("n", range(1, 8))
def test_a_put_that_is_stopped_has_not_put(n):
    """At whatever check it is stopped, an item is in the queue if put returned, else not."""
    target = queue.Queue(1)
    stop = StopAfter(n)
    try:
        calls.put(target, "item", stop=stop)
    except Interrupted:
        assert target.empty()
    else:
        assert target.get(block=False) == "item"


def test_a_notification_that_meets_a_stop_is_passed_on(background):
    """An item for which the stopped thread was woken goes to the next in line, though that one is in the queue's own get."""
    source, stop = queue.Queue(), StopEvent()
    stopped = background(calls.get, source, stop=stop)
    wait_until_blocked(stop)
    in_line = threading.Event()
    plain = background(lambda: (in_line.set(), source.get())[1])
    in_line.wait(10)
    while len(source.not_empty._waiters) < 2:  # the second is about to be there
        in_line.wait(0)
    with source.mutex:
        # The stopped thread needs the mutex to leave the line, so it is still the first there when the item comes.
        stop.set()
        source._put("item")
        source.not_empty.notify()
    with pytest.raises(Interrupted):
        stopped.result()
    assert plain.result() == "item"


def test_a_stopped_thread_leaves_the_line(background):
    """After a stop nothing of the wait is left in the queue."""
    source, stop = queue.Queue(), StopEvent()
    getter = background(calls.get, source, stop=stop)
    wait_until_blocked(stop)
    stop.set()
    assert isinstance(getter.error(), Interrupted)
    assert not source.not_empty._waiters


def test_join_waits_for_all_tasks(background):
    """The join of a queue ends with the last task_done."""
    tasks, stop = queue.Queue(), StopEvent()
    tasks.put(1)
    tasks.put(2)
    joiner = background(calls.join, tasks, stop=stop)
    wait_until_blocked(stop)
    tasks.task_done()
    assert joiner.thread.is_alive()
    tasks.task_done()
    joiner.result()


@pytest.mark.skipif(sys.version_info < (3, 13), reason="queues can be shut down from Python 3.13 on")
def test_a_queue_that_is_shut_down(background):
    """Blocked and later calls raise ShutDown; what is still in the queue can be got."""
    source, full, stop = queue.Queue(), queue.Queue(1), StopEvent()
    full.put("item")
    getter = background(calls.get, source, stop=stop)
    putter = background(calls.put, full, "other", stop=stop)
    wait_until_blocked(stop, 2)
    source.shutdown()
    full.shutdown()
    assert isinstance(getter.error(), queue.ShutDown)
    assert isinstance(putter.error(), queue.ShutDown)
    assert calls.get(full) == "item"
    with pytest.raises(queue.ShutDown):
        calls.get(full)


class TestOfMultiprocessing:
    """A queue between processes."""

    @pytest.fixture
    def shared(self):
        """A queue for one item."""
        made = SPAWN.Queue(1)
        yield made
        made.cancel_join_thread()
        made.close()
        if made._thread is not None:
            made._thread.join(10)
        made._reader.close()
        made._writer.close()  # which only the thread would do, and that starts with the first put

    def test_items_go_through(self, shared):
        """What was put is got, and room is waited for."""
        for item in range(20):
            calls.put(shared, item, timeout=10)
            assert calls.get(shared, timeout=10) == item

    def test_an_item_of_another_process(self, shared):
        """A get that is blocked is woken by an item from a child."""
        child = SPAWN.Process(target=shared.put, args=(bytes(1 << 20),))
        child.start()
        assert len(calls.get(shared, stop=StopEvent(), timeout=20)) == 1 << 20
        assert calls.join(child, timeout=20) == 0
        child.close()

    def test_two_readers_share_the_items(self, shared, background):
        """One in the queue's own get and one in ours together get everything once."""
        stop = StopEvent()
        ours = background(lambda: [calls.get(shared, stop=stop) for _ in range(50)])
        plain = background(lambda: [shared.get() for _ in range(50)])
        for item in range(100):
            calls.put(shared, item, timeout=20)
        assert sorted(ours.result() + plain.result()) == list(range(100))

    def test_timeouts(self, shared):
        """Both kinds of timeout, and nothing lost by them."""
        with pytest.raises(calls.GetTimeout):
            calls.get(shared, timeout=0.01)
        shared.put("item")
        with pytest.raises(calls.PutTimeout):
            calls.put(shared, "other", timeout=0.01)
        assert calls.get(shared, timeout=10) == "item"

    def test_a_timeout_while_somebody_keeps_the_items(self, shared):
        """An item that a reader which holds the lock does not take is not ours, and not waited for beyond the timeout."""
        shared.put("item")
        with shared._rlock:
            wait_ready(shared._reader.fileno(), READ, None)
            with pytest.raises(calls.GetTimeout):
                calls.get(shared, timeout=0.05)
            with pytest.raises(DeadlineExceeded):
                calls.get(shared, stop=StopEvent(timeout=0.05))
        assert calls.get(shared, timeout=10) == "item"

    def test_a_closed_queue(self):
        """It raises what the queue itself raises."""
        closed = multiprocessing.Queue()
        closed.close()
        with pytest.raises(ValueError, match="closed"):
            calls.get(closed)
        with pytest.raises(ValueError, match="closed"):
            calls.put(closed, "item")

    def test_a_stop_while_a_plain_reader_holds_the_lock(self, shared, background):
        """A reader of the queue's own that is blocked in it does not keep ours from being stopped."""
        in_get, stop = threading.Event(), StopEvent()
        plain = background(lambda: (in_get.set(), shared.get())[1])
        in_get.wait(10)
        ours = background(calls.get, shared, stop=stop)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(ours.error(), Interrupted)
        shared.put("item")
        assert plain.result() == "item"


@pytest.mark.parametrize("wrong", [{}, [], object(), "queue", None, asyncio.Queue()])
def test_what_is_no_queue(wrong):
    """It is refused with what would be accepted, although it may have a get."""
    with pytest.raises(TypeError, match=r"not a queue .* Accepted are those of queue, multiprocessing.Queue"):
        calls.get(wrong)
    with pytest.raises(TypeError, match="not a queue"):
        calls.put(wrong, 1)


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_wrong_timeouts(timeout):
    """A timeout that is none is refused, and nothing is taken."""
    source = queue.Queue()
    with pytest.raises(ValueError, match="timeout must be 0 or more"):
        calls.get(source, timeout=timeout)
    with pytest.raises(TypeError, match="timeout must be a number"):
        calls.put(queue.LifoQueue(), 1, timeout="1")


def test_a_queue_without_time_limits():
    """The simple queue of multiprocessing cannot be asked in turns, and is refused."""
    simple = multiprocessing.SimpleQueue()
    with pytest.raises(TypeError, match="not a queue that a thread can wait for with a time limit"):
        calls.get(simple)
    simple.close()
