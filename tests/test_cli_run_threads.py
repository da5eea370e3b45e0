"""The stops that `iointerrupt run` gives to threads, in this process: who has one, and that all of it can be taken back."""

from __future__ import annotations

import contextvars
import functools
import socketserver
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from iointerrupt import Interrupted, StopEvent, calls, current_stop, sockets, use_stop
from iointerrupt._cli import inherited
from iointerrupt._cli.signals import MainStop
from iointerrupt._monkey.patches import apply, undo
from iointerrupt._signal.threads import own_thread
from iointerrupt.testing import wait_until_blocked


def in_place():
    """What may be replaced."""
    thread = vars(threading.Thread)
    return thread["start"], thread["_bootstrap_inner"], ThreadPoolExecutor.submit


ORIGINALS = in_place()


@pytest.fixture(autouse=True)
def inheriting():
    """Threads have stops, and afterwards all is as it was."""
    done = apply(inherited.patches())
    yield
    assert undo(done) == []
    assert in_place() == ORIGINALS


def in_thread(function, **options):
    """What it returns in a thread of its own."""
    found = []
    thread = threading.Thread(target=lambda: found.append(function()), **options)
    thread.start()
    thread.join()
    return found[0]


def test_without_a_stop():
    """A thread that is started where there is no stop has none."""
    assert in_thread(current_stop) is None
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(current_stop).result() is None


def test_below_the_one_of_who_starts_it():
    """One that is started under a stop has one of its own below that."""
    with use_stop(StopEvent()) as stop:
        own = in_thread(current_stop)
        assert own is not stop
        stop.set("reason")
        assert own.reason == "reason"
        assert in_thread(lambda: current_stop().is_set())


def test_helpers_have_none():
    """The helpers of the library have none, nor have the threads of a pool, unless threads inherit contexts; tasks have."""
    with use_stop(StopEvent()), ThreadPoolExecutor(1, initializer=lambda: seen.append(current_stop())) as pool:
        seen = []
        helper = own_thread("iointerrupt-helper", lambda: seen.append(current_stop()))
        helper.start()
        helper.join()
        assert seen.pop() is None
        assert in_thread(current_stop, name="iointerrupt-like") is not None
        assert pool.submit(current_stop).result() is not None
        assert seen == [None] or getattr(sys.flags, "thread_inherit_context", False)


def test_tasks_that_have_not_begun():
    """A task whose stop is set before it begins is not begun."""
    with use_stop(StopEvent()) as stop, ThreadPoolExecutor(1) as pool:
        gate = threading.Event()
        first = pool.submit(gate.wait)
        second = pool.submit(gate.wait)
        stop.set()
        gate.set()
        assert first.result() is True
        with pytest.raises(Interrupted):
            second.result()


def test_ends_quietly(reported):
    """A thread that its stop has ended is not reported; one that another stop has ended is."""
    with use_stop(StopEvent()) as stop:
        thread = threading.Thread(target=calls.sleep, args=(600,))
        thread.start()
        other = StopEvent()
        other.set("other")
        failed = threading.Thread(target=other.raise_if_set)
        failed.start()
        failed.join()
        wait_until_blocked(stop)
        stop.set("own")
        thread.join()
    assert [error.reason for error in reported] == ["other"]


def test_context_of_its_own():
    """A thread that runs in a context of its own, as from Python 3.14 on, has its stop there, and leaves none in it."""
    context = contextvars.copy_context()
    with use_stop(StopEvent()) as stop:
        found = []
        runs_there = sys.version_info >= (3, 14)
        look = current_stop if runs_there else functools.partial(context.run, current_stop)
        thread = threading.Thread(target=lambda: found.append(look()))
        thread._context = context
        thread.start()
        thread.join()
    stop.set()
    assert found[0].is_set()
    assert context.run(current_stop) is None


def test_started_twice():
    """Starting a thread once more is the error that it is, and leaves its stop alone."""
    with use_stop(StopEvent()):
        stops, go = [], threading.Event()
        thread = threading.Thread(
            target=lambda: (go.wait(), stops.append(inherited.inherited_stop(thread)), stops.append(current_stop()))
        )
        thread.start()
        with pytest.raises(RuntimeError, match="only be started once"):
            thread.start()
        go.set()
        thread.join()
        assert stops[0] is stops[1] is not None


def test_children_of_a_thread_that_has_ended():
    """What a thread leaves running belongs to those above it, and not any more to its own stop."""
    with use_stop(StopEvent()) as stop:
        inner = []
        outer = in_thread(lambda: (inner.append(StopEvent(current_stop())), current_stop())[1])
        outer.set()
        assert not inner[0].is_set()
        assert inner[0]._parents == (stop,)
        stop.set("reason")
        assert inner[0].reason == "reason"


class TestMainStop:
    """The stop of the main thread."""

    def test_set_for_others(self, background):
        """Set for others, it is not set for that thread; what is made below it follows the thread that makes it."""
        stop = MainStop()
        before, called = StopEvent(stop), []
        stop.on_set(lambda: called.append(stop.is_set()))
        blocked = background(calls.sleep, 600, stop=stop)
        wait_until_blocked(stop)
        stop.set_for_others("first")
        assert isinstance(blocked.error(), Interrupted)
        assert before.reason == "first"
        assert called == [True]
        assert not stop.is_set()
        assert not StopEvent(stop).is_set()
        assert background(lambda: (stop.is_set(), stop.reason, StopEvent(stop).is_set())).result() == (
            True,
            "first",
            True,
        )

    def test_set_elsewhere(self, background):
        """One that another thread sets, or clears, is set or clear for both."""
        stop = MainStop()
        background(stop.set).result()
        assert stop.is_set()
        stop.clear()
        assert background(stop.is_set).result()
        background(stop.clear).result()
        assert not background(stop.is_set).result()


def test_servers_with_threads(capsys):
    """A server that prints what ends its threads prints nothing of one that its stop ends, and all else as ever."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            if self.request.recv(1) == b"x":
                raise OSError("of the handler")
            calls.sleep(60)

    class Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
        """Waits for its threads at its end."""

    with use_stop(StopEvent()) as stop:
        server = Server(("127.0.0.1", 0), Handler)
        with server, sockets.create_connection(server.server_address) as far:
            far.sendall(b"x")
            server.handle_request()
            with sockets.create_connection(server.server_address) as other:
                other.sendall(b"y")
                server.handle_request()
                wait_until_blocked(stop)
                stop.set()
    assert capsys.readouterr().err.count("Traceback") == 1
