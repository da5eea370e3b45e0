"""What connects a `dask.ClusterStop` with its scheduler: what is asked, what is kept, and what comes of it when one of the two ends.

Where the inside of a scheduler is looked at, it runs in the loop of the test.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import warnings
import weakref
from contextlib import asynccontextmanager

import pytest
from distributed import Client, Scheduler, Worker

from iointerrupt import Interrupted, as_stop, sockets
from iointerrupt._dask import stop_line
from iointerrupt.dask import ClusterStop
from iointerrupt.testing import wait_until_blocked
from tests.dask_cluster import Cluster
from tests.test_dask_stop import LIMIT, Peers, at, said

MANY = 2000


@pytest.fixture
def peers():
    """A listening socket for tasks."""
    peers = Peers()
    yield peers
    peers.close()


def receive(stop, address):
    """Block in a receive until the stop, and say on the socket which error has set it, or else why it was."""
    with sockets.create_connection(address, stop=stop) as sock:
        sock.stop = None
        sock.sendall(b"begun\n")
        sock.stop = stop
        try:
            sock.recv(1)
        except Interrupted as stopped:
            sock.stop = None
            why = stopped.reason
            sock.sendall(f"stopped: {'lost' if isinstance(why, OSError) else why}\n".encode())


def blocked(stop):
    """Return when a thread of this process is blocked on the stop."""
    wait_until_blocked(stop, timeout=LIMIT)
    return True


class TestEnds:
    """A process of the cluster ends while all are in the middle of something."""

    def test_worker_killed(self, peers):
        """The others go on; the task is run again by another worker, which the same stop ends."""
        with Cluster(workers=2) as cluster, Client(cluster.address) as client, ClusterStop(client) as stop:
            first, second = cluster.workers
            stays = client.submit(receive, stop, peers.address, **at(second))
            staying = peers.accept()
            moves = client.submit(
                receive, stop, peers.address, pure=False, workers=[str(first)], allow_other_workers=True
            )
            peers.accept()
            assert client.submit(blocked, stop, **at(first)).result(LIMIT)
            cluster.kill_worker(first)
            moved = peers.accept()
            assert not stop.is_set()
            stop.set("enough")
            assert said(staying) == said(moved) == "stopped: enough\n"
            assert client.gather([stays, moves]) == [None, None]

    def test_scheduler_killed(self, peers, background):
        """Nobody could tell of a set any more: what depends on it stops, on the workers and on the client."""
        with Cluster(workers=2) as cluster:
            client = Client(cluster.address)
            try:
                stop = ClusterStop(client)
                for worker in cluster.workers:
                    client.submit(receive, stop, peers.address, **at(worker))
                here = background(receive, stop, peers.address)
                socks = [peers.accept() for _ in range(3)]
                for worker in cluster.workers:
                    assert client.submit(blocked, stop, **at(worker)).result(LIMIT)
                wait_until_blocked(stop)
                cluster.kill_scheduler()
                assert [said(sock) for sock in socks] == ["stopped: lost\n"] * 3
                here.result()
                assert isinstance(stop.reason, OSError)
                stop.set("too late")
            finally:
                client.close()

    def test_client_closed(self, peers, background):
        """That is no failure: the stop is an event of the process from then on, and says so when it is set."""
        with Cluster(workers=1) as cluster:
            with Client(cluster.address) as client:
                stop = ClusterStop(client)
                here = background(receive, stop, peers.address)
                sock = peers.accept()
                wait_until_blocked(stop)
            assert not stop.is_set()
            with pytest.raises(RuntimeError, match="is set in this process, but its cluster cannot be told"):
                stop.set("alone")
            assert said(sock) == "stopped: alone\n"
            here.result()
            stop.set("again")  # there is nothing to tell

    def test_client_with_its_own_cluster_closed(self, caplog):
        """Nor is it where the scheduler ends first; and that says nothing of the wait which ends with it."""
        with Client(n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0") as client:
            stop = ClusterStop(client)
            assert not stop.is_set()
        assert not stop.is_set()
        assert not stop._line.is_open
        assert [record for record in caplog.records if record.name == "distributed.event"] == []


@asynccontextmanager
async def small(calls=None):
    """A scheduler in this loop, and a client of it; the calls for stops that reach it are noted."""
    async with Scheduler(host="127.0.0.1", port=0, dashboard_address="127.0.0.1:0") as scheduler:
        for name in ("event_is_set", "event_wait", "event_set", "get_metadata", "set_metadata"):
            if calls is not None:
                scheduler.handlers[name] = noting(calls, name, scheduler.handlers[name])
        async with Client(scheduler.address, asynchronous=True) as client:
            yield scheduler, client


def noting(calls, op, handler):
    """A handler that is noted."""

    async def noted(**kwargs):
        calls.put_nowait(op)
        result = handler(**kwargs)
        return await result if asyncio.iscoroutine(result) else result

    return noted


def run(scenario):
    """Run a coroutine function, with a limit."""
    asyncio.run(asyncio.wait_for(scenario(), LIMIT))


async def listening(stop):
    """The task of its line, when that has its first answer."""
    assert await asyncio.to_thread(stop._line.known.wait, LIMIT)
    return stop._line._task


def every(queue):
    """What is in a queue."""
    return [queue.get_nowait() for _ in range(queue.qsize())]


class TestAsks:
    """What goes to the scheduler."""

    def test_nothing_while_data_flows(self):
        """Two calls are made in the beginning, of which one is held; however much is checked and received, no other follows."""

        async def main():
            calls = asyncio.Queue()
            async with small(calls) as (_, client):
                with ClusterStop(client) as stop:
                    await listening(stop)
                    assert [await calls.get(), await calls.get()] == ["event_is_set", "event_wait"]
                    await asyncio.to_thread(flow, stop)
                    await client.scheduler.identity()  # whatever was on its way has arrived before this
                    assert every(calls) == []
                    stop.set("x")
                    assert [await calls.get() for _ in range(2)] == ["set_metadata", "event_set"]

        run(main)

    def test_renews_its_wait(self, monkeypatch):
        """The wait is not left with the scheduler for ever, and the stop is heard of in a later one too."""
        monkeypatch.setattr(stop_line, "_LEASE", 0.01)

        async def main():
            calls = asyncio.Queue()
            async with small(calls) as (scheduler, client):
                with ClusterStop(client) as stop:
                    assert [await calls.get() for _ in range(4)] == ["event_is_set", *["event_wait"] * 3]
                    assert not stop.is_set()
                    scheduler.extensions["events"].event_set(name=stop_line.event_of(stop.name))
                    assert await asyncio.to_thread(stop.wait, LIMIT)
                    assert stop.reason is None

        run(main)

    def test_takes_no_more_than_half_of_the_connections(self):
        """With all of them, nothing else of the client could reach the scheduler."""

        async def main():
            async with small() as (scheduler, _):
                async with Client(scheduler.address, asynchronous=True, connection_limit=6) as client:
                    stops = [ClusterStop(client) for _ in range(3)]
                    with pytest.raises(RuntimeError, match="has too many stops: close those that are done with"):
                        ClusterStop(client)
                    stops.pop().close()
                    stops.append(ClusterStop(client))
                    assert await client.scheduler.identity()

        run(main)


def flow(stop):
    """Receive many small pieces, each of which looks at the stop."""
    here, there = sockets.socketpair()
    with here, there:
        here.stop = stop
        for _ in range(MANY):
            there.sendall(b"x")
            assert here.recv(1) == b"x"
            assert not stop.is_set()


class TestKeeps:
    """What is there for a stop, and how long."""

    def test_nothing_of_one_that_is_dropped(self):
        """The last reference to a stop ends its wait, and with it all that there was."""

        async def main():
            async with small() as (_, client):
                stop = ClusterStop(client)
                task = await listening(stop)
                line = weakref.ref(stop._line)
                del stop
                gc.collect()
                await asyncio.wait([task])
                assert task.cancelled()
                del task
                gc.collect()
                assert line() is None
                assert not stop_line._running

        run(main)

    def test_nothing_of_many_that_are_dropped(self):
        """Nor of many, most of which were gone before their lines began."""

        async def main():
            async with small() as (_, client):
                for _ in range(MANY):
                    ClusterStop(client)
                gc.collect()
                while stop_line._running:
                    await asyncio.wait(list(stop_line._running))
                    await asyncio.sleep(0)
                assert client.rpc.active == 0

        run(main)

    def test_nothing_at_the_scheduler_after_the_lease(self, monkeypatch):
        """The scheduler forgets a wait that was given up when its time is over."""
        monkeypatch.setattr(stop_line, "_LEASE", 0.2)

        async def main():
            async with small() as (scheduler, client):
                events = scheduler.extensions["events"]
                begun, ended = asyncio.Event(), asyncio.Event()

                async def wait(**kwargs):
                    begun.set()
                    try:
                        return await events.event_wait(**kwargs)
                    finally:
                        ended.set()

                scheduler.handlers["event_wait"] = wait
                with ClusterStop(client):
                    await begun.wait()
                await ended.wait()
                assert not events._events
                assert not events._waiter_count

        run(main)

    def test_the_line_for_the_next_task(self):
        """What comes with a task and goes with it leaves its line to what comes with the next one."""

        async def main():
            calls = asyncio.Queue()
            async with small(calls) as (scheduler, client):
                data = pickle.dumps(ClusterStop(client, name="next"))
                line = pickle.loads(data)._line
                assert pickle.loads(data)._line is line
                stop = pickle.loads(data)
                await listening(stop)
                scheduler.extensions["events"].event_set(name=stop_line.event_of("next"))
                assert await asyncio.to_thread(stop.wait, LIMIT)
                assert every(calls) == ["event_is_set", "event_wait", "get_metadata"]

        run(main)

    def test_the_line_no_longer_than_a_moment(self, monkeypatch):
        """Where no other one comes, the line ends."""
        monkeypatch.setattr(stop_line, "_LINGER", 0.01)

        async def main():
            async with small() as (_, client):
                data = pickle.dumps(ClusterStop(client, name="last"))
                stop = pickle.loads(data)
                task = await listening(stop)
                del stop
                gc.collect()
                await asyncio.wait([task])
                assert task.cancelled()

        run(main)

    def test_set_while_there_was_none(self):
        """A set that came while nobody here had the stop is found by the next one."""

        async def main():
            async with small() as (scheduler, client):
                data = pickle.dumps(ClusterStop(client, name="between"))
                task = await listening(pickle.loads(data))
                scheduler.extensions["events"].event_set(name=stop_line.event_of("between"))
                await task
                assert await asyncio.to_thread(pickle.loads(data).wait, LIMIT)

        run(main)


class TestClosed:
    """After `close`, and after the ends of those that it depends on."""

    def test_hears_of_nothing(self):
        """A stop that is closed is not set by others; it can be set, which they hear; and made again, it hears of them."""

        async def main():
            async with small() as (scheduler, client):
                events = scheduler.extensions["events"]
                stop = ClusterStop(client, name="closed")
                task = await listening(stop)
                stop.close()
                stop.close()
                await asyncio.wait([task])
                events.event_set(name=stop_line.event_of("closed"))
                await client.scheduler.identity()
                assert not stop.is_set()
                assert ClusterStop(client, name="closed") is stop
                assert await asyncio.to_thread(stop.wait, LIMIT)
                with ClusterStop(client) as other:
                    pass
                await asyncio.to_thread(other.set)
                assert events.event_is_set(name=stop_line.event_of(other.name))

        run(main)

    def test_scheduler_ends(self):
        """A scheduler that ends as it should is not there either: the stop is set."""

        async def main():
            async with small() as (scheduler, client):
                stop = ClusterStop(client)
                await listening(stop)
                await scheduler.close()
                assert await asyncio.to_thread(stop.wait, LIMIT)
                assert isinstance(stop.reason, OSError)
                with pytest.raises(Interrupted) as stopped:
                    stop.raise_if_set()
                assert stopped.value.__cause__ is stop.reason

        run(main)

    def test_worker_ends(self):
        """A worker that ends sets nothing."""

        async def main():
            async with small() as (scheduler, client):
                data = pickle.dumps(ClusterStop(client))
                await client.close()
                async with Worker(scheduler.address, dashboard_address="127.0.0.1:0") as worker:
                    stop = pickle.loads(data)
                    assert stop._line.owner is worker
                    task = await listening(stop)
                await asyncio.wait([task])
                assert not stop.is_set()

        run(main)

    def test_too_many(self, monkeypatch):
        """Where there are too many, one that arrives is set, with the reason, and can be sent on; those that nobody has make room."""

        async def main():
            async with small() as (_, client):
                client.rpc.limit = 8  # of which they get half
                kept = [ClusterStop(client, name=f"kept {number}") for number in range(3)]
                data = [pickle.dumps(ClusterStop(client, name=f"sent {number}")) for number in range(3)]
                gc.collect()
                arrived = pickle.loads(data[0])
                assert not arrived.is_set()
                refused = pickle.loads(data[1])
                assert refused.is_set()
                assert "has too many stops: close those that are done with" in str(refused.reason)
                assert pickle.loads(pickle.dumps(refused)).is_set()
                with refused:
                    refused.set()
                with pytest.raises(RuntimeError, match="too many stops"):
                    ClusterStop(client)
                del arrived  # its line waits for the next one of the name
                gc.collect()
                assert not pickle.loads(data[2]).is_set()
                assert len(kept) == 3

        run(main)

    def test_a_client_that_has_lost_its_scheduler(self):
        """As long as it looks for another one, it is not connected."""

        async def main():
            async with small() as (_, client):
                client.status = "connecting"
                with pytest.raises(RuntimeError, match="is not connected"):
                    ClusterStop(client)
                client.status = "running"

        run(main)

    def test_another_client(self):
        """A client that is closed leaves a stop to the other one that it was made of too, which hears also what was set meanwhile."""

        async def main():
            async with small() as (scheduler, client):
                other = await Client(scheduler.address, asynchronous=True, set_as_default=False)
                stop = ClusterStop(other, name="both")
                first = stop._line
                assert ClusterStop(client, name="both") is stop
                task = await listening(stop)
                await other.close()
                await asyncio.wait([task])
                await listening(stop)
                assert stop._line is not first
                assert not stop.is_set()
                scheduler.extensions["events"].event_set(name=stop_line.event_of("both"))
                assert await asyncio.to_thread(stop.wait, LIMIT)

        run(main)

    def test_no_other_client_that_was_asked_for_it(self):
        """Clients of which a stop was not made have nothing to do with it; nor has one after its `close`."""

        async def main():
            async with small() as (scheduler, client):
                other = await Client(scheduler.address, asynchronous=True, set_as_default=False)
                stop, closed = ClusterStop(other, name="one"), ClusterStop(other, name="closed")
                assert ClusterStop(client, name="closed") is closed
                tasks = [await listening(each) for each in (stop, closed)]
                closed.close()
                await other.close()
                await asyncio.wait(tasks)
                assert not stop._line.is_open
                assert not closed._line.is_open
                assert not stop.is_set()

        run(main)

    def test_after_the_loop(self):
        """When the loop of an asynchronous client is over, so is all that was in it: the stop is left alone, and says so."""
        stops = []

        async def main():
            async with small() as (_, client):
                stops.append(ClusterStop(client))
                stops.append(pickle.loads(pickle.dumps(ClusterStop(client))))
                for stop in stops:
                    await listening(stop)

        run(main)
        for stop in stops:
            with pytest.raises(RuntimeError, match="its cluster cannot be told") as raised:
                stop.set("alone")
            assert stop.reason == "alone"
            assert "closed" in str(raised.value.__cause__)
        stops.pop().close()
        del stop
        stops.clear()
        gc.collect()

    def test_in_a_forked_child(self):
        """A child has a copy: it can be set there, and nobody hears of that; and there is no other one to be had."""

        def child(stop, data):
            was_set = stop.is_set()
            stop.set("child")
            stop.close()
            try:
                as_stop(pickle.loads(data))
            except TypeError:
                return stop.is_set() and not was_set
            return False

        async def main():
            async with small() as (scheduler, client):
                with ClusterStop(client) as stop:
                    await listening(stop)
                    data = pickle.dumps(stop)
                    # Where nobody has it, the child makes it anew.
                    other = pickle.dumps(ClusterStop(client))
                    gc.collect()
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork while threads run
                        pid = os.fork()
                    if not pid:
                        try:
                            os._exit(0 if child(stop, other) else 1)
                        finally:
                            os._exit(2)
                    assert (await asyncio.to_thread(os.waitpid, pid, 0))[1] == 0
                    await client.scheduler.identity()
                    assert not stop.is_set()
                    assert pickle.loads(data) is stop
                    assert not scheduler.extensions["events"].event_is_set(name=stop_line.event_of(stop.name))

        run(main)


class TestAddresses:
    """A scheduler may be known by another address elsewhere."""

    def test_the_only_one(self):
        """Where a process has clients of one scheduler, that is meant; where it has of several, it cannot be known."""

        async def main():
            async with small() as (_, client):
                data = pickle.dumps(ClusterStop(client, name="n")).replace(b"127.0.0.1", b"127.0.0.2")
                stop = pickle.loads(data)
                assert stop._line.owner is client
                await listening(stop)
                async with small():
                    assert "in a process that has no worker or client of it" in repr(pickle.loads(data))

        run(main)


class TestCallbacks:
    """Where what is called when a set is heard of is called."""

    def test_where_there_are_no_more_threads(self, no_more_threads):
        """In the loop, if there is no other place."""

        async def main():
            async with small() as (scheduler, client):
                with ClusterStop(client) as stop:
                    await listening(stop)
                    called = asyncio.Event()
                    stop.on_set(called.set)
                    with no_more_threads():
                        scheduler.extensions["events"].event_set(name=stop_line.event_of(stop.name))
                        await called.wait()

        run(main)
