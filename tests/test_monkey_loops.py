"""Event loops and pools in a patched program: with no stop, with one that nobody sets, and with one that comes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.pool
import socket
import threading

import pytest
import trio

from iointerrupt import Interrupted, StopEvent, calls, current_stop, use_stop
from iointerrupt.testing import wait_until_blocked
from iointerrupt.threads import Thread, ThreadGroup
from tests.patched import patched


@pytest.fixture(autouse=True, scope="module")
def _patched():
    """All of this module runs patched."""
    with patched():
        yield


@pytest.fixture(params=["no stop", "idle stop"])
def around(request):
    """With no stop, and with one that nobody sets."""
    with use_stop(StopEvent() if request.param == "idle stop" else None):
        yield


def outcome_in_thread(work):
    """Do `work(started)` in a thread, interrupt it once it has called `started`, and return what came of it."""
    outcome, started = [], threading.Event()

    def run():
        try:
            outcome.append(work(started.set))
        except BaseException as error:
            outcome.append(error)

    worker = Thread(target=run)
    worker.start()
    started.wait()
    worker.interrupt("enough")
    worker.join(30)
    assert not worker.is_alive()
    return outcome[0]


class TestAsyncio:
    """asyncio."""

    def test_it_works(self, around):
        """Servers, connections, threads, processes, subprocesses and timers."""

        async def echo(reader, writer):
            writer.write(await reader.readexactly(5))
            await writer.drain()
            writer.close()

        async def main():
            server = await asyncio.start_server(echo, "localhost", 0)
            async with server:
                reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
                writer.write(b"hello")
                echoed = await reader.read()
                writer.close()
            process = await asyncio.create_subprocess_exec("echo", "word", stdout=asyncio.subprocess.PIPE)
            printed, _ = await process.communicate()
            slept = await asyncio.to_thread(threading.Event().wait, 0.001)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.001)
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo("127.0.0.1", 80)
            return echoed, printed, slept, bool(found)

        assert asyncio.run(main()) == (b"hello", b"word\n", False, True)

    def test_a_stop_ends_it(self):
        """A stop ends `asyncio.run`, as a Ctrl-C does: the tasks are cancelled, and clean up in their loop."""
        cleaned = []

        def work(started):
            async def main():
                try:
                    started()
                    await asyncio.sleep(600)
                finally:
                    await asyncio.sleep(0.001)
                    cleaned.append(current_stop().is_set())

            asyncio.run(main())

        error = outcome_in_thread(work)
        assert isinstance(error, Interrupted)
        assert error.reason == "enough"
        assert cleaned == [True]

    def test_a_stop_that_was_set_before(self):
        """One that is set already ends it before it waits for anything."""
        stop = StopEvent()
        stop.set("enough")

        async def main():
            await asyncio.sleep(600)

        with use_stop(stop), pytest.raises(Interrupted, match="enough"):
            asyncio.run(main())

    def test_a_loop_can_be_run_again(self):
        """A loop that was stopped runs on with another stop, or with the same once it has been cleared."""
        stop = StopEvent()
        with contextlib.closing(asyncio.new_event_loop()) as loop:
            for _ in range(2):
                threading.Timer(0.01, stop.set).start()
                with use_stop(stop), pytest.raises(Interrupted):
                    loop.run_until_complete(task := loop.create_task(asyncio.sleep(600)))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    loop.run_until_complete(task)
                stop.clear()
                assert loop.run_until_complete(asyncio.sleep(0.001, "done")) == "done"

    def test_what_a_coroutine_waits_in(self):
        """A call in a coroutine that blocks the loop is stopped as anywhere."""
        near, far = socket.socketpair()

        def work(started):
            async def main():
                started()
                near.recv(1)

            asyncio.run(main())

        with near, far:
            assert isinstance(outcome_in_thread(work), Interrupted)


class TestTrio:
    """trio."""

    def test_it_works(self, around):
        """Sockets and timers."""

        async def main():
            near, far = trio.socket.socketpair()
            with near, far:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(far.send, b"hello")
                    received = await near.recv(5)
            with trio.move_on_after(0.001) as scope:
                await trio.sleep(600)
            return received, scope.cancelled_caught

        assert trio.run(main) == (b"hello", True)

    def test_a_stop_is_not_its_business(self):
        """It is not stopped from within: it has ways of its own, and goes on."""

        def work(started):
            async def main():
                started()
                while not current_stop().is_set():  # noqa: ASYNC110 - a stop is no event of trio's
                    await trio.sleep(0.001)
                await trio.sleep(0.01)
                return "done"

            return trio.run(main)

        assert outcome_in_thread(work) == "done"


class TestPools:
    """Executors and pools."""

    def test_threads(self, around):
        """A pool of threads."""
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            assert list(pool.map(pow, range(5), [2] * 5)) == [0, 1, 4, 9, 16]
            done, pending = concurrent.futures.wait([pool.submit(pow, 2, 3)], timeout=30)
            assert (len(done), len(pending)) == (1, 0)
            assert [future.result() for future in concurrent.futures.as_completed([pool.submit(pow, 2, 3)])] == [8]

    def test_processes(self, around):
        """A pool of processes."""
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            assert list(pool.map(pow, range(3), [2] * 3)) == [0, 1, 4]

    def test_pools_of_multiprocessing(self, around):
        """Those of multiprocessing."""
        with multiprocessing.pool.ThreadPool(2) as pool:
            assert pool.map(abs, [-1, -2]) == [1, 2]
            pool.close()
            pool.join()

    def test_a_result_that_does_not_come(self):
        """Whoever waits for a result is stopped; the pool, and its task, go on."""
        end = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(end.wait)
            worker = Thread(target=future.result)
            worker.start()
            wait_until_blocked(worker.stop)
            worker.interrupt()
            worker.join()
            assert not future.done()
            end.set()
            assert future.result() is True

    def test_leaving_under_a_stop(self):
        """The end of a pool's block waits for its tasks, and so is stopped; they end by themselves."""
        end, ended = threading.Event(), threading.Event()

        def task():
            end.wait()
            ended.set()

        def work(started):
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                pool.submit(task)
                started()

        assert isinstance(outcome_in_thread(work), Interrupted)
        assert not ended.is_set()
        end.set()
        ended.wait()


class TestOurOwn:
    """What this library waits in itself is not stopped by its own patches where it must not be."""

    def test_a_group(self):
        """A group of threads is left only when all of them have ended, under a stop that is set."""
        for _ in range(50):
            stop = StopEvent()
            with contextlib.suppress(Interrupted), ThreadGroup(stop) as group:
                members = [group.start(threading.Event().wait) for _ in range(3)]
                wait_until_blocked(group.event, 3)
                stop.set()
            assert not any(member.is_alive() for member in members)

    def test_an_action(self):
        """The end of a block waits for its action, and the driver's error is the cause."""
        cancelled, stop = threading.Event(), StopEvent()
        acting = threading.Event()

        def cancel():
            cancelled.set()
            acting.wait()

        def work():
            with calls.interrupting(cancel):
                with use_stop(None):
                    cancelled.wait()
                threading.Timer(0.01, acting.set).start()
                raise ZeroDivisionError

        worker = threading.Timer(0.01, stop.set)
        worker.start()
        with use_stop(stop), pytest.raises(Interrupted) as stopped:
            work()
        assert isinstance(stopped.value.__cause__, ZeroDivisionError)
