"""`dask.ClusterStop` on a real cluster: set in one process, it ends what blocks in the threads of all the others.

What a task has met, its worker says on the socket that it was blocked on, which so is seen to be usable; the tests are the other
side of that socket.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack

import pytest
from distributed import Client, Event, get_worker

from iointerrupt import Interrupted, StopEvent, aio, as_stop, files, http, sockets
from iointerrupt._signal import guard
from iointerrupt._signal.latch import Cause
from iointerrupt.dask import ClusterStop
from iointerrupt.testing import steps, wait_until_blocked
from tests.dask_cluster import client_fixture, cluster_fixture  # noqa: F401 - fixtures

# Seconds after which a test says what it has waited for in vain.
LIMIT = 40


class Peers:
    """The other side of sockets that tasks make."""

    def __init__(self):
        self._stack = ExitStack()
        self.listening = self._stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self.listening.settimeout(LIMIT)
        self.address = self.listening.getsockname()

    def accept(self):
        """The next one, which has said that it is about to be blocked."""
        sock = self._stack.enter_context(self.listening.accept()[0])
        sock.settimeout(LIMIT)
        assert sock.recv(6) == b"begun\n"
        return sock

    def close(self):
        """Close all of them."""
        self._stack.close()


@pytest.fixture
def peers():
    """A listening socket for tasks."""
    peers = Peers()
    yield peers
    peers.close()


def said(sock):
    """What the task on the other side has said, up to its end."""
    with sock.makefile("rb") as lines:
        return lines.read().decode()


def at(worker):
    """What has a task run on one worker, each time anew."""
    return {"workers": [str(worker)], "pure": False, "allow_other_workers": False}


def receive(stop, address):
    """Block in a receive until the stop; say on the socket why, and take what it had not taken."""
    with sockets.create_connection(address, stop=stop) as sock:
        sock.sendall(b"begun\n")
        try:
            sock.recv(1)
        except Interrupted as stopped:
            sock.stop = None
            sock.sendall(f"stopped: {stopped.reason}\n".encode())
            sock.shutdown(socket.SHUT_WR)
            return sock.recv(5)
    return None


def fetch(stop, url, address):
    """Block in the body of an answer until the stop; what had come, and why it stopped."""
    got = b""
    with http.Session(stop=stop) as session, session.get(url, stream=True) as answer:
        try:
            for chunk in http.iter_chunks(answer):
                got += chunk
                with socket.create_connection(address) as sock:
                    sock.sendall(b"begun\n")
        except Interrupted as stopped:
            return got, stopped.reason
    return got, "not stopped"


def read(stop, path):
    """Block in a file until the stop; why, and what it reads afterwards."""
    with files.open(path, "rb", stop=stop) as fifo:
        try:
            fifo.read(5)
        except Interrupted as stopped:
            fifo.raw.stop = None
            return stopped.reason, fifo.read(5)
    return "not stopped", b""


def blocked(stop, n):
    """Return when `n` threads of this process are blocked on the stop."""
    wait_until_blocked(stop, n, timeout=LIMIT)
    return True


def wait(stop):
    """Wait for the stop itself; why it was set."""
    assert stop.wait(LIMIT)
    return stop.reason


def set_it(stop, reason):
    """Set the stop; where that was."""
    stop.set(reason)
    return os.getpid()


class TestStops:
    """A set anywhere ends what blocks everywhere."""

    def test_io_of_all_kinds_in_several_threads_of_every_worker(self, client, cluster, peers, fault_server, tmp_path):
        """All threads of all workers stop in the middle, with the reason, and what they have can be used further."""
        script = [steps.expect(), steps.answer(b"half", length=8), steps.stall()]
        server = fault_server(script)
        with ClusterStop(client) as stop:
            received, fetched, readers, writers, socks = [], [], [], [], []
            for worker in cluster.workers:
                path = str(tmp_path / str(worker))
                os.mkfifo(path)
                writers.append(os.open(path, os.O_RDWR))  # so that the other side has not to wait for it
                received.append(client.submit(receive, stop, peers.address, **at(worker)))
                socks.append(peers.accept())
                fetched.append(client.submit(fetch, stop, server.url, peers.address, **at(worker)))
                peers.accept()
                readers.append(client.submit(read, stop, path, **at(worker)))
            for worker in cluster.workers:
                assert client.submit(blocked, stop, 3, **at(worker)).result(LIMIT)
            stop.set("enough")
            for sock in socks:
                assert said(sock) == "stopped: enough\n"
                sock.sendall(b"again")
            for writer in writers:
                os.write(writer, b"again")
                os.close(writer)
            assert [one.result(LIMIT) for one in received] == [b"again"] * 2
            assert [one.result(LIMIT) for one in fetched] == [(b"half", "enough")] * 2
            assert [one.result(LIMIT) for one in readers] == [("enough", b"again")] * 2

    def test_set_on_a_worker(self, client, cluster, background):
        """The client hears of it, and the other worker, and both of the reason, which is an object."""
        first, second = cluster.workers
        with ClusterStop(client) as stop:
            here = background(wait, stop)
            there = client.submit(wait, stop, **at(second))
            assert client.submit(blocked, stop, 1, **at(second)).result(LIMIT)
            assert client.submit(set_it, stop, KeyError("why"), **at(first)).result(LIMIT) == first
            for reason in (here.result(), there.result(LIMIT)):
                assert (type(reason), reason.args) == (KeyError, ("why",))

    def test_work_that_comes_late_does_not_begin(self, client, cluster, peers):
        """A worker that has never heard of the stop finds it set at the first operation, which takes nothing."""
        with ClusterStop(client) as stop:
            stop.set("before")
            for worker in cluster.workers:
                task = client.submit(refused, stop, peers.address, **at(worker))
                with peers.accept() as sock:
                    sock.sendall(b"x")
                    assert said(sock) == "ready\n"
                assert task.result(LIMIT) == ("before", b"x")

    def test_a_thread_of_the_client(self, client, cluster, background, peers):
        """What the client itself is blocked in ends too, when a worker sets the stop."""
        with ClusterStop(client) as stop:
            here = background(receive, stop, peers.address)
            with peers.accept() as sock:
                wait_until_blocked(stop)
                client.submit(set_it, stop, "there", **at(cluster.workers[0])).result(LIMIT)
                assert said(sock) == "stopped: there\n"
                sock.sendall(b"again")
                assert here.result() == b"again"

    def test_from_a_signal_handler(self, client, cluster, peers, monkeypatch):
        """A handler may set it, whichever lock the code holds that it interrupts."""
        with ClusterStop(client) as stop:
            task = client.submit(receive, stop, peers.address, **at(cluster.workers[0]))
            with peers.accept() as sock:
                previous = signal.signal(signal.SIGUSR1, lambda *_: stop.set("signal"))
                try:
                    with guard.lock, client._refcount_lock:
                        signal.raise_signal(signal.SIGUSR1)
                        assert stop.is_set()
                finally:
                    signal.signal(signal.SIGUSR1, previous)
                assert said(sock) == "stopped: signal\n"
                sock.sendall(b"again")
                assert task.result(LIMIT) == b"again"

    def test_in_the_loop_of_an_asynchronous_client(self, cluster, peers):
        """There nothing waits: not for the first answer, and not for the scheduler to have been told."""

        async def main():
            async with Client(cluster.address, asynchronous=True) as client:
                with ClusterStop(client) as stop:
                    assert not stop.is_set()
                    task = client.submit(receive, stop, peers.address, **at(cluster.workers[0]))
                    with await asyncio.to_thread(peers.accept) as sock:
                        stop.set("loop")
                        assert await asyncio.to_thread(said, sock) == "stopped: loop\n"
                        sock.sendall(b"again")
                        assert await task == b"again"

        asyncio.run(main())

    def test_heard_in_the_loop_of_an_asynchronous_client(self, cluster):
        """A coroutine that waits for the stop wakes when a worker sets it."""

        async def main():
            async with Client(cluster.address, asynchronous=True) as client:
                with ClusterStop(client) as stop:
                    waiting = asyncio.create_task(aio.wait(stop))
                    await client.submit(set_it, stop, "there", **at(cluster.workers[0]))
                    await asyncio.wait_for(waiting, LIMIT)
                    assert stop.reason == "there"

        asyncio.run(main())


def refused(stop, address):
    """Try to receive something that is there, with a stop that is set; why it was refused, and what was there."""
    with sockets.create_connection(address) as sock:
        sock.sendall(b"begun\n")
        sock.recv(1, socket.MSG_PEEK)
        sock.sendall(b"ready\n")
        sock.shutdown(socket.SHUT_WR)
        sock.stop = stop
        try:
            sock.recv(1)
        except Interrupted as stopped:
            sock.stop = None
            return stopped.reason, sock.recv(1)
    return "not refused"


class Unknown:
    """Can be pickled, and cannot be unpickled."""

    def __reduce__(self):
        return int, ("no number",)

    def __str__(self):
        return "unknown"


class Locked:
    """Cannot be pickled."""

    def __init__(self):
        self.lock = threading.Lock()

    def __str__(self):
        return "locked"


class Speechless:
    """Can neither be pickled nor say what it is."""

    def __reduce__(self):
        raise TypeError("no")

    __str__ = __reduce__


class TestReasons:
    """What travels with a set."""

    @pytest.mark.parametrize(
        ("reason", "heard"),
        [(None, "None"), ({"a": [1, b"2"]}, "{'a': [1, b'2']}"), (OSError(5, "no"), "OSError(5, 'no')")],
    )
    def test_travels_as_it_is(self, client, cluster, reason, heard):
        """What can be pickled arrives as what it is."""
        with ClusterStop(client) as stop:
            task = client.submit(wait, stop, **at(cluster.workers[0]))
            stop.set(reason)
            assert repr(task.result(LIMIT)) == heard

    @pytest.mark.parametrize(
        ("reason", "text"),
        [
            (Locked(), "locked"),
            (Unknown(), "unknown"),
            (Speechless(), "Speechless"),
        ],
        ids=["unpicklable", "unknown there", "speechless"],
    )
    def test_travels_as_text_where_it_cannot_else(self, client, cluster, reason, text):
        """What cannot be pickled, or not be unpickled, arrives as its text."""
        with ClusterStop(client) as stop:
            task = client.submit(wait, stop, **at(cluster.workers[0]))
            stop.set(reason)
            assert task.result(LIMIT) == text
            assert stop.reason is reason

    def test_quicker_than_the_caller(self, client, monkeypatch):
        """Where it was set, the reason is the object, however soon the cluster says what it has made of that."""
        with ClusterStop(client) as stop:
            tell = stop._line.tell
            monkeypatch.setattr(stop._line, "tell", lambda reason: (stop._mark(Cause("text")), tell(reason))[1])
            stop.set(reason := Locked())
            assert stop.reason is reason

    def test_names_of_files(self, client, cluster):
        """What `os.fsdecode` makes of a name, with lone surrogates in it, keeps nobody from hearing."""
        with ClusterStop(client) as stop:
            task = client.submit(ascii_reason, stop, **at(cluster.workers[0]))
            stop.set("no room for caf\udce9")
            assert task.result(LIMIT) == ascii("no room for caf\udce9")

    def test_the_first_one_stays(self, client, cluster):
        """A second set changes nothing, here or there."""
        with ClusterStop(client) as stop:
            stop.set("first")
            stop.set("second")
            assert stop.reason == "first"
            assert client.submit(wait, stop, **at(cluster.workers[0])).result(LIMIT) == "first"


def identities(data, name):
    """How many objects come of unpickling it often, and of asking for the name, in one task."""
    found = [pickle.loads(data) for _ in range(100)] + [ClusterStop(name=name) for _ in range(3)]
    return len({id(one) for one in found}), found[0].name


class TestOneOfAName:
    """In each process there is one object of a name."""

    def test_unpickled_or_made(self, client, cluster):
        """However often it is unpickled or made on a worker, it is one."""
        with ClusterStop(client) as stop:
            task = client.submit(identities, pickle.dumps(stop), stop.name, **at(cluster.workers[0]))
            assert task.result(LIMIT) == (1, stop.name)

    def test_on_the_client(self, client, cluster):
        """So it is on the client, by whichever client it is made."""
        with ClusterStop(client, name="the one") as stop, Client(cluster.address, set_as_default=False) as other:
            assert stop.name == "the one"
            assert ClusterStop(other, name="the one") is stop
            assert ClusterStop(name="the one") is stop
            assert pickle.loads(pickle.dumps(stop)) is stop
            assert ClusterStop(client) is not stop

    def test_of_several_blocks(self, client, cluster):
        """It is open until the last block is left that is of it."""
        with ClusterStop(client, name="shared") as stop:
            with ClusterStop(client, name="shared"):
                pass
            client.submit(set_by_name, stop.name, **at(cluster.workers[0])).result(LIMIT)
            assert stop.wait(LIMIT)

    def test_of_blocks_one_after_the_other(self, client, cluster):
        """A block that is entered after another one has been left is open as well."""
        stop = ClusterStop(client, name="again")
        for _ in range(2):
            with stop:
                assert stop._line.is_open
        with stop:
            client.submit(set_by_name, stop.name, **at(cluster.workers[0])).result(LIMIT)
            assert stop.wait(LIMIT)

    def test_of_a_task(self, client, cluster):
        """The end of a block in a task does not keep other tasks of the worker from hearing."""
        with ClusterStop(client) as stop:
            client.submit(in_a_block, stop, **at(cluster.workers[0])).result(LIMIT)
            waiting = client.submit(waited, stop, **at(cluster.workers[0]))
            assert client.submit(in_a_block, stop, **at(cluster.workers[0])).result(LIMIT) is False
            stop.set()
            assert waiting.result(LIMIT) is True

    @pytest.mark.parametrize("name", ["caf\udce9", "\ud800"], ids=["of a file", "alone"])
    def test_bad_names(self, client, name):
        """A name that cannot be sent is refused."""
        with pytest.raises(ValueError, match="name must be text that can be sent"):
            ClusterStop(client, name=name)

    def test_found_by_name(self, client, cluster):
        """What has been made on a worker by its name is the client's."""
        with ClusterStop(client) as stop:
            client.submit(set_by_name, stop.name, **at(cluster.workers[1])).result(LIMIT)
            assert stop.wait(LIMIT)
            assert stop.reason == "by name"

    def test_events_of_the_program(self, client):
        """A `distributed.Event` of the same name is another thing."""
        event = Event("ready", client=client)
        event.set()
        with ClusterStop(client, name="ready") as stop:
            assert not stop.is_set()
            event.clear()
            stop.set()
            assert not event.is_set()

    def test_names_differ(self, client):
        """Two that are made without a name have nothing to do with each other."""
        with ClusterStop(client) as one, ClusterStop(client) as other:
            one.set()
            assert one.name != other.name
            assert not other.is_set()


def in_a_block(stop):
    """A task that is done with its stop."""
    with stop:
        return stop.is_set()


def waited(stop):
    """A task that waits for it."""
    return stop.wait(LIMIT)


def ascii_reason(stop):
    """What it was set with, as it can be reported."""
    assert stop.wait(LIMIT)
    return ascii(stop.reason)


def name_of(stop):
    """Its name."""
    return stop.name


def name_of_second(_number, *, stop):
    """Its name, where it is not the first argument."""
    return stop.name


def set_by_name(name):
    """Set the stop of a name, in a thread that is no task's."""
    ClusterStop(name=name).set("by name")


def say_when_set(stop, name):
    """Have a callback, in which the cluster is used, and keep nothing that it could be called by."""
    worker = get_worker()
    line = stop._line

    def called():
        answer = ClusterStop(worker._get_client(), name=name)
        answer.set("in the loop" if line.is_here() else worker.name)

    stop.on_set(called)


class TestCallbacks:
    """What is called when it is set elsewhere."""

    def test_on_a_worker(self, client, cluster):
        """It is called there, not in the loop, so that it can wait for the cluster; and it is not forgotten with its task."""
        first = cluster.workers[0]
        with ClusterStop(client) as stop, ClusterStop(client) as answer:
            client.submit(say_when_set, stop, answer.name, **at(first)).result(LIMIT)
            stop.set()
            assert answer.wait(LIMIT)
            assert answer.reason == str(first)

    def test_keeps_the_stop(self, client, cluster):
        """A stop that nobody refers to is there for its callback, and for that of a child."""
        called = [threading.Event(), threading.Event()]
        name = ClusterStop(client).name
        ClusterStop(client, name=name).on_set(called[0].set)
        StopEvent(ClusterStop(client, name=name)).on_set(called[1].set)
        gc.collect()
        client.submit(set_by_name, name, **at(cluster.workers[0])).result(LIMIT)
        assert all(one.wait(LIMIT) for one in called)

    def test_cancelled(self, client, cluster):
        """One that is cancelled is not called, and keeps nothing."""
        called = threading.Event()
        with ClusterStop(client) as stop:
            with stop.on_set(called.set):
                pass
            client.submit(set_it, stop, None, **at(cluster.workers[0])).result(LIMIT)
            assert stop.wait(LIMIT)
            assert not stop._kept
            assert not called.is_set()


class TestAsAStop:
    """It is a `StopEvent`, with what that has."""

    def test_is_an_argument_like_others(self, client):
        """A task that is known by its arguments is known by it: the same one twice, and another one with another stop."""
        with ClusterStop(client) as stop, ClusterStop(client) as other:
            tasks = [client.submit(name_of, one) for one in (stop, stop, other)]
            assert client.gather(tasks) == [stop.name, stop.name, other.name]
            assert tasks[0].key == tasks[1].key != tasks[2].key
            assert client.gather(client.map(name_of_second, range(2), stop=stop)) == [stop.name] * 2

    def test_is_taken_as_it_is(self, client):
        """No thread and no copy stands between it and what it stops."""
        with ClusterStop(client) as stop:
            assert as_stop(stop) is stop
            threads = threading.enumerate()
            child = StopEvent(stop)
            assert not child.wait(0)
            assert set(threading.enumerate()) <= set(threads)
            stop.set("x")
            assert child.reason == "x"

    def test_cannot_be_cleared(self, client):
        """Others have seen it set."""
        with ClusterStop(client) as stop, pytest.raises(RuntimeError, match="make a new one"):
            stop.clear()

    def test_says_what_it_is(self, client):
        """Its name and its state are in its repr."""
        with ClusterStop(client, name="nightly") as stop:
            assert repr(stop).endswith(": unset, nightly>")
            stop.set("enough")
            assert repr(stop).endswith(": set: enough, nightly>")

    def test_wrong_arguments(self, client):
        """What is no client, or no name, is refused."""
        with pytest.raises(TypeError, match=r"must be a distributed\.Client or None, not str"):
            ClusterStop("tcp://127.0.0.1:8786")
        with pytest.raises(TypeError, match="name must be a str or None, not int"):
            ClusterStop(client, name=5)

    def test_without_a_client(self, cluster):
        """Where there is no cluster, there is no stop of one: not made, not unpickled, not of a client that is closed."""
        with Client(cluster.address) as client, ClusterStop(client) as stop:
            data = pickle.dumps(stop)
            del stop
        with pytest.raises(RuntimeError, match=r"make a distributed\.Client"):
            ClusterStop()
        passing = pickle.loads(data)
        with pytest.raises(
            TypeError, match=r"ClusterStop of tcp://.*, in a process that has no worker or client of it"
        ):
            as_stop(passing)
        assert pickle.dumps(passing) == data
        with pytest.raises(RuntimeError, match="is not connected"):
            ClusterStop(client)

    def test_without_dask(self, untraced):
        """The import says what to install."""
        code = "import sys; sys.modules['distributed'] = None; import iointerrupt.dask"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert (
            'ImportError: iointerrupt.dask takes Dask\'s distributed: pip install "iointerrupt[dask]"' in ended.stderr
        )
