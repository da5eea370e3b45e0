"""`Plan`: which worker fetches what next, and in batches of which size. Pure: no cluster, no clock."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from iointerrupt._dask.spread_plan import Batch, Plan

WORKERS = ["tcp://one", "tcp://two"]


def plan_of(hosts, *, per_host=8, jobs=4, workers=WORKERS):
    """A plan whose workers are known."""
    plan = Plan(hosts, per_host=per_host, jobs=jobs)
    plan.workers = workers
    return plan


def all_next(plan):
    """All batches that can be begun now."""
    batches = []
    while (batch := plan.next()) is not None:
        batches.append(batch)
    return batches


def test_first_batches_are_of_one():
    """As long as nobody knows how long an item takes, a lane gets one; each worker gets as many lanes."""
    batches = all_next(plan_of(["a"] * 20))
    assert [batch.numbers for batch in batches] == [(number,) for number in range(8)]
    assert Counter(batch.worker for batch in batches) == dict.fromkeys(WORKERS, 4)


def test_limit_of_a_host():
    """A host gets no more lanes than it may have, from all workers together, and the others get theirs."""
    batches = all_next(plan_of(["a"] * 9 + ["b"] * 9, per_host=3))
    assert Counter(batch.host for batch in batches) == {"a": 3, "b": 3}


def test_hosts_take_turns():
    """Where there are fewer lanes than could be used, the hosts share them."""
    batches = all_next(plan_of(["a"] * 9 + ["b"] * 9, jobs=2))
    assert Counter(batch.host for batch in batches) == {"a": 2, "b": 2}


def test_hosts_that_wait_come_before_those_that_had_a_lane():
    """With one lane for all, each host has it in turn, however much the first one has left."""
    plan = plan_of(["a"] * 3 + ["b", "c"], jobs=1, workers=WORKERS[:1])
    hosts = []
    while (batch := plan.next()) is not None:
        hosts.append(batch.host)
        plan.ended(batch)
    assert hosts == ["a", "b", "c", "a", "a"]


def test_no_workers():
    """Without workers nothing can be begun, until there are some."""
    plan = plan_of(["a"], workers=[])
    assert plan.next() is None
    assert plan.waiting == 1
    plan.workers = WORKERS
    assert plan.next() == Batch("a", "tcp://one", (0,))
    assert plan.waiting == 0


def test_small_items_come_in_batches():
    """Of items that take a moment there are as many in a batch as take half a second."""
    plan = plan_of(["a"] * 10_000, jobs=1)
    first = plan.next()
    plan.ended(first, seconds=0.01)
    assert len(plan.next().numbers) == 50


def test_large_items_come_alone():
    """Items that take long are batches of their own."""
    plan = plan_of(["a"] * 10_000, jobs=1)
    plan.ended(plan.next(), seconds=100.0)
    assert len(plan.next().numbers) == 1


def test_items_that_take_no_time():
    """However quick they are, a batch is limited."""
    plan = plan_of(["a"] * 10_000, jobs=1)
    plan.ended(plan.next(), seconds=0.0)
    assert len(plan.next().numbers) == 500


def test_batches_shrink():
    """Towards the end each lane gets a share of what is left, so that none has much while the others have nothing."""
    plan = plan_of(["a"] * 41, per_host=2, jobs=1)
    plan.ended(plan.next(), seconds=0.0)
    sizes = []
    while (batch := plan.next()) is not None:
        sizes.append(len(batch.numbers))
        plan.ended(batch, seconds=0.0)
    assert sizes == [10, 8, 6, 4, 3, 3, 2, 1, 1, 1, 1]


def test_what_comes_back_is_the_first():
    """What a lost lane leaves is fetched before all else, and its lane is free."""
    plan = plan_of(["a", "a", "b"], per_host=1)
    batch = plan.next()
    plan.next()
    plan.ended(batch, back=batch.numbers)
    assert plan.waiting == 2
    assert plan.next().numbers == (0,)
    assert plan.next() is None


def test_moved():
    """A lane that is elsewhere counts there, and no more where it was."""
    plan = plan_of(["a"] * 5, jobs=1)
    first, _ = all_next(plan)
    moved = plan.moved(first, "tcp://three")
    assert moved == Batch("a", "tcp://three", (0,))
    assert plan.next().worker == "tcp://one"
    plan.workers = [*WORKERS, "tcp://three"]
    assert plan.next() is None
    plan.ended(moved)
    assert plan.next().worker == "tcp://three"


@given(st.data(), st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 4), st.integers(1, 3))
def test_whatever_happens(data, hosts, per_host, jobs):
    """In any order of ends, losses and moves: the limits hold, nothing is begun twice at a time, and all of it ends."""
    plan = plan_of(hosts, per_host=per_host, jobs=jobs)
    lanes, done = [], []
    losses = data.draw(st.integers(0, 5))
    while len(done) < len(hosts):
        lanes += all_next(plan)
        assert max(Counter(lane.host for lane in lanes).values()) <= per_host
        assert max(Counter(lane.worker for lane in lanes).values()) <= jobs
        numbers = [number for lane in lanes for number in lane.numbers]
        assert len({*numbers, *done}) == len(numbers) + len(done)
        lane = lanes.pop(data.draw(st.integers(0, len(lanes) - 1)))
        kept = len(lane.numbers)
        if losses and data.draw(st.booleans()):
            losses -= 1
            kept = data.draw(st.integers(0, kept - 1))
        done += lane.numbers[:kept]
        plan.ended(lane, seconds=data.draw(st.sampled_from([None, 0.0, 0.01, 9.0])), back=lane.numbers[kept:])
    assert sorted(done) == list(range(len(hosts)))
    assert all_next(plan) == []


@pytest.mark.parametrize("per_host", [1, 8])
def test_each_item_once(per_host):
    """In the order of their numbers, all items of a host come once."""
    plan = plan_of(["a"] * 30, per_host=per_host)
    numbers = []
    while (batch := plan.next()) is not None:
        numbers += batch.numbers
        plan.ended(batch, seconds=0.05)
    assert numbers == list(range(30))
