"""The part `select` of `monkey`: what selects, polls or waits in a selector stops, and says what it said before."""

from __future__ import annotations

import functools
import os
import resource
import select
import selectors
import socket
import socketserver
import threading
from contextlib import contextmanager

import pytest

from iointerrupt import Interrupted, StopEvent, current_stop, use_stop
from iointerrupt._monkey import selecting
from iointerrupt.testing import Operation, wait_until_blocked
from iointerrupt.threads import Thread
from tests.operations import Operations
from tests.patched import patched

OPERATIONS = Operations()
rows = OPERATIONS.rows


@pytest.fixture(autouse=True, scope="module")
def _patched():
    """All of this module runs patched."""
    with patched():
        yield


@pytest.fixture
def pair():
    """Two sockets that are connected."""
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.fixture
def stopped():
    """A stop that is set."""
    stop = StopEvent()
    stop.set("enough")
    return stop


def by_select(sock):
    """Wait by `select.select`."""
    return select.select([sock], [], [])[0] == [sock]


def by_poll(sock):
    """Wait by a poll object."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return poller.poll() == [(sock.fileno(), select.POLLIN)]


def by_epoll(sock):
    """Wait by an epoll object."""
    with select.epoll() as poller:
        poller.register(sock, select.EPOLLIN)
        return poller.poll() == [(sock.fileno(), select.EPOLLIN)]


def by_selector(kind, sock):
    """Wait by a selector."""
    with kind() as selector:
        key = selector.register(sock, selectors.EVENT_READ)
        return selector.select() == [(key, selectors.EVENT_READ)]


SELECTORS = [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector]
WAYS = {
    "select": by_select,
    "poll": by_poll,
    "epoll": by_epoll,
    **{kind.__name__: functools.partial(by_selector, kind) for kind in SELECTORS},
}


@contextmanager
def no_descriptors_left():
    """A block in which no descriptor can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def waiting(wait):
    """An operation that waits for something to read."""
    near, far = socket.socketpair()

    def run(stop):
        if stop is None:
            return wait(near)
        with use_stop(StopEvent(stop, current_stop())):
            return wait(near)

    with near, far:
        yield Operation(run=run, release=lambda: far.send(b"x"))


rows(WAYS, waiting)
test_keeps_the_contract = OPERATIONS.as_test()


class TestSelect:
    """`select.select`."""

    def test_what_it_returns(self, pair):
        """The same objects in the same lists, for reading, writing and neither, whatever has a descriptor."""
        near, far = pair
        far.send(b"x")
        with use_stop(StopEvent()):
            assert select.select([near], [far], [near, far]) == ([near], [far], [])
            assert select.select(iter([near.fileno()]), (), (), 5) == ([near.fileno()], [], [])

    def test_times_that_are_over(self, pair):
        """A timeout that passes gives three empty lists; one of 0 does not wait, and so looks at no stop."""
        with use_stop(StopEvent()):
            assert select.select([pair[0]], [], [], 0.001) == ([], [], [])
            assert select.select([], [], [], 0.001) == ([], [], [])

    @pytest.mark.parametrize("timeout", [0, 0.0])
    def test_a_look(self, pair, stopped, timeout):
        """With a timeout of 0 it is a look, which is not stopped."""
        pair[1].send(b"x")
        with use_stop(stopped):
            assert select.select([pair[0]], [], [], timeout) == ([pair[0]], [], [])

    def test_the_stop_wins(self, pair, stopped):
        """It wins over what is ready."""
        pair[1].send(b"x")
        with use_stop(stopped), pytest.raises(Interrupted, match="enough"):
            select.select([pair[0]], [], [])

    @pytest.mark.parametrize(
        "arguments",
        [
            ([1 << 20], [], []),
            ([-1], [], []),
            (["x"], [], []),
            (3, [], []),
            ([], [], [], -1),
            ([], [], [], "1"),
            ([], [], [], float("nan")),
            ([], [], [], 1e30),
        ],
    )
    def test_errors(self, arguments):
        """What is wrong is refused as it was before."""

        def error():
            with pytest.raises((ValueError, TypeError, OSError, OverflowError)) as caught:
                select.select(*arguments)
            return type(caught.value), str(caught.value)

        without = error()
        with use_stop(StopEvent()):
            assert error() == without

    def test_an_end_that_nobody_waits_for(self, pair):
        """What select does not tell, such as the end of a connection to who waits for urgent data, is no reason to spin."""
        pair[1].close()
        looks = []

        def work():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(selecting, "_poll_all", lambda *args: looks.append(None) or poll_all(*args))
                with use_stop(StopEvent()):
                    select.select([], [], [pair[0]], 0.2)

        poll_all = selecting._poll_all
        work()
        assert len(looks) < 50

    def test_a_descriptor_that_is_closed(self, pair):
        """So is a descriptor that nobody has."""
        fd = pair[0].detach()
        os.close(fd)
        with use_stop(StopEvent()), pytest.raises(OSError, match="Bad file descriptor"):
            select.select([fd], [], [])


class TestPoll:
    """Poll objects."""

    def test_methods(self, pair):
        """They can be told of files, of changes, and to forget them, with a stop and without."""
        near, far = pair
        for stop in (None, StopEvent()):
            with use_stop(stop):
                poller = select.poll()
                poller.register(near)
                poller.modify(near, select.POLLIN)
                poller.register(far, select.POLLOUT)
                assert poller.poll() == [(far.fileno(), select.POLLOUT)]
                poller.unregister(far)
                assert poller.poll(1) == []
                assert poller.poll(timeout := 0) == [], timeout
                with pytest.raises(KeyError):
                    poller.unregister(far)

    def test_nothing_is_left_in_it(self, pair):
        """A stop whose wait is over is not looked for any more."""
        poller = select.poll()
        poller.register(pair[0], select.POLLIN)
        stop = StopEvent()
        with use_stop(stop):
            assert poller.poll(1) == []
        stop.set()
        assert poller.poll(1) == []

    def test_epoll(self, pair):
        """So it is with an epoll object, which is a descriptor too, and can be made of one."""
        near, far = pair
        with use_stop(StopEvent()), select.epoll(sizehint=10) as poller:
            poller.register(near, select.EPOLLIN)
            assert poller.poll(0.001) == []
            far.send(b"x")
            assert poller.poll(timeout=5, maxevents=1) == [(near.fileno(), select.EPOLLIN)]
            with select.epoll.fromfd(os.dup(poller.fileno())) as other:
                assert other.poll(-1) == [(near.fileno(), select.EPOLLIN)]
            poller.modify(near, 0)
            poller.unregister(near)
            assert not poller.closed
        assert poller.closed
        with use_stop(StopEvent()), pytest.raises(ValueError, match="closed epoll"):
            poller.poll()


class TestSelectors:
    """Selectors, and what is built on them."""

    @pytest.mark.parametrize("kind", SELECTORS)
    def test_one_that_was_there_before(self, kind, pair):
        """A selector that has been made, and has waited, without a stop is stopped later."""
        with kind() as selector:
            selector.register(pair[0], selectors.EVENT_READ)
            assert selector.select(0.001) == []
            worker = Thread(target=selector.select)
            worker.start()
            wait_until_blocked(worker.stop)
            worker.interrupt()
            worker.join()
            assert not worker.is_alive()
            pair[1].send(b"x")
            assert len(selector.select()) == 1

    def test_a_server(self):
        """`serve_forever` of a `socketserver` is stopped, and can serve again."""

        class Echo(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.sendall(self.request.recv(10))

        with socketserver.TCPServer(("127.0.0.1", 0), Echo) as server:
            for _ in range(2):
                worker = Thread(target=server.serve_forever, args=(60,))
                worker.start()
                with socket.create_connection(server.server_address) as client:
                    client.sendall(b"hello")
                    assert client.recv(10) == b"hello"
                worker.interrupt()
                worker.join(30)
                assert not worker.is_alive()

    def test_a_thread_without_a_stop_beside_it(self, pair):
        """A thread that has none goes on in the same moment."""
        got = []
        patient = threading.Thread(target=lambda: got.append(by_select(pair[0])))
        patient.start()
        worker = Thread(target=by_select, args=(pair[0],))
        worker.start()
        wait_until_blocked(worker.stop)
        worker.interrupt()
        worker.join()
        pair[1].send(b"x")
        patient.join()
        assert got == [True]

    def test_a_deadline_of_the_stop(self, pair):
        """A deadline ends the wait, also one that is longer than the stop's."""

        @contextmanager
        def limited():
            with use_stop(StopEvent(timeout=0.01)), pytest.raises(Interrupted):
                yield

        with limited():
            by_poll(pair[0])
        with limited():
            select.select([pair[0]], [], [], 60)

    def test_no_descriptor_left(self, pair):
        """Where no descriptor is left to be woken by, all of them wait, and stop, nevertheless."""
        for wait in (by_select, by_poll, functools.partial(by_selector, selectors.PollSelector)):
            for is_stopped in (False, True):
                worker = Thread(target=wait, args=(pair[0],))
                with no_descriptors_left():
                    worker.start()
                    wait_until_blocked(worker.stop)
                    if is_stopped:
                        worker.interrupt()
                    else:
                        pair[1].send(b"x")
                    worker.join(30)
                    assert not worker.is_alive()
                if not is_stopped:
                    pair[0].recv(1)
