"""`patch_all` and its way back: what is replaced, when it is warned, what is refused; sockets and waits that nobody stops."""

from __future__ import annotations

import abc
import functools
import operator
import os
import pickle
import queue
import select
import socket
import ssl
import subprocess
import sys
import threading
import time
import types
import warnings

import pytest

import iointerrupt
from iointerrupt import Interrupted, StopEvent, monkey, sockets, use_stop
from iointerrupt._monkey.sockets import PatchedSocket
from iointerrupt.testing import steps, wait_until_blocked
from iointerrupt.threads import Thread
from tests.blocking import run_program
from tests.libraries import under
from tests.patched import patched


def frames_locals(error, name):
    """What the functions that an exception has come through have under a name."""
    trace, found = error.__traceback__, []
    while trace is not None:
        found.append(trace.tb_frame.f_locals.get(name))
        trace = trace.tb_next
    return found


ORIGINALS = {
    "socket": (socket, "socket"),
    "ssl": (ssl.SSLContext, "sslsocket_class"),
    "dns": (socket, "getaddrinfo"),
    "sleep": (time, "sleep"),
    "select": (select, "select"),
    "subprocess": (subprocess.Popen, "wait"),
    "queue": (threading.Condition, "wait"),
    "thread": (threading.Thread, "join"),
}
STOCK = {part: getattr(*place) for part, place in ORIGINALS.items()}


def replaced():
    """The parts that are replaced at the moment."""
    return {part for part, place in ORIGINALS.items() if getattr(*place) is not STOCK[part]}


class TestPatching:
    """There and back."""

    def test_all_parts_are_known(self):
        """Each part has a place here, so that the tests below look at all of them."""
        assert set(monkey.PARTS) == set(ORIGINALS)

    def test_there_and_back(self):
        """All parts are replaced, and put back."""
        with patched():
            assert monkey.is_patched()
            assert replaced() == set(monkey.PARTS)
        assert replaced() == set()

    @pytest.mark.parametrize("part", monkey.PARTS)
    def test_all_but_one(self, part):
        """A part that is not wanted is left alone."""
        with patched(**{part: False}):
            assert not monkey.is_patched(part)
            assert replaced() == set(monkey.PARTS) - {part}

    @pytest.mark.parametrize("part", monkey.PARTS)
    def test_one_alone(self, part):
        """A part can be patched alone."""
        with patched(**{other: other == part for other in monkey.PARTS}):
            assert monkey.is_patched(part)
            assert replaced() == {part}

    def test_twice(self):
        """Patching again changes nothing, and one way back is enough."""
        with patched():
            before = {part: getattr(*place) for part, place in ORIGINALS.items()}
            monkey.patch_all()
            assert {part: getattr(*place) for part, place in ORIGINALS.items()} == before
        assert replaced() == set()

    def test_more_later(self):
        """A second call patches what the first one was not to."""
        with patched(sleep=False, select=False):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", monkey.PatchWarning)
                monkey.patch_all(select=False)
            assert replaced() == set(monkey.PARTS) - {"select"}
        assert replaced() == set()

    def test_nothing_to_unpatch(self):
        """Unpatching what was never patched does nothing."""
        monkey.unpatch_all()
        assert replaced() == set()

    def test_somebody_else_came_after(self, monkeypatch):
        """What somebody else has replaced since is not put back, and named."""
        monkeypatch.setattr(time, "sleep", time.sleep)  # which is put back in the end

        def other(seconds):
            """Sleep in another way."""

        with pytest.warns(monkey.PatchWarning, match=r"left as it is: time\.sleep$"):
            with patched():
                time.sleep = other
        assert time.sleep is other

    def test_somebody_else_came_before(self, monkeypatch):
        """What somebody else has put there is what is called, and what is put back."""
        slept = []
        monkeypatch.setattr(time, "sleep", mock := slept.append)
        with patched():
            time.sleep(3)
        assert slept == [3]
        assert time.sleep == mock

    def test_a_failure_leaves_nothing(self, monkeypatch):
        """Where one replacement cannot be made, none is."""

        def fail():
            raise ZeroDivisionError

        monkeypatch.setitem(monkey._PATCHES, "thread", fail)
        with pytest.raises(ZeroDivisionError):
            monkey.patch_all()
        assert not monkey.is_patched()
        assert replaced() == set()

    @pytest.mark.parametrize("wrong", [None, 1, "no"])
    def test_what_is_no_bool(self, wrong):
        """An argument that is not a bool is refused by its name."""
        with pytest.raises(TypeError, match=r"^dns must be True or False, not "):
            monkey.patch_all(dns=wrong)
        assert not monkey.is_patched()

    def test_no_such_part(self):
        """So is the name of a part that there is not, with those that there are."""
        with pytest.raises(ValueError, match=r"^there is no part 'sockets'; the parts are socket, ssl, "):
            monkey.is_patched("sockets")

    def test_many_threads_at_once(self):
        """Threads that patch and unpatch at once leave all as it was."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", monkey.PatchWarning)
            together = threading.Barrier(4)

            def work():
                together.wait()
                for _ in range(20):
                    monkey.patch_all()
                    monkey.unpatch_all()

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        monkey.unpatch_all()
        assert replaced() == set()

    @pytest.mark.usefixtures("untraced")
    def test_importing_is_light(self):
        """Patching loads neither requests nor aiofiles nor asyncio."""
        program = """
            import sys
            from iointerrupt import monkey
            monkey.patch_all()
            print([name for name in ("requests", "urllib3", "aiofiles", "asyncio", "multiprocessing") if name in sys.modules])
        """
        assert run_program(program) == "[]\n"


class TestWarnings:
    """What a patch comes too late for is named."""

    @pytest.fixture
    def module(self, monkeypatch):
        """A module of somebody's, with nothing in it."""
        module = types.ModuleType("somebody")
        monkeypatch.setitem(sys.modules, "somebody", module)
        return module

    def patch(self, match):
        """Patch, and expect a warning."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", monkey.PatchWarning)
            with pytest.warns(monkey.PatchWarning, match=match):
                monkey.patch_all()
        monkey.unpatch_all()

    def test_a_function_that_was_kept(self, module):
        """A function that was imported by its name."""
        module.pause = time.sleep
        self.patch(r"imported before it was patched.*somebody\.pause")

    def test_a_class_that_was_kept(self, module):
        """The class of sockets."""
        module.socket = socket.socket
        self.patch(r"somebody\.socket")

    def test_a_class_derived_from_it(self, module):
        """A class that was derived from it."""
        module.Proxied = type("Proxied", (socket.socket,), {"__module__": "somebody"})
        self.patch(r"somebody\.Proxied")

    def test_a_class_of_no_module(self, module):
        """Some classes that C code makes do not say where they are from; they are nobody's."""

        class Nameless(type):
            @property
            def __module__(cls):
                raise AttributeError("__module__")

        module.Nowhere = Nameless("Nowhere", (socket.socket,), {})
        module.pause = time.sleep
        self.patch(r"somebody\.pause")

    def test_a_thread_that_is_running(self):
        """A thread that was started before, and may be blocked already."""
        end = threading.Event()
        thread = threading.Thread(target=end.wait, name="early bird")
        thread.start()
        try:
            self.patch(r"running already.*early bird")
        finally:
            end.set()
            thread.join()

    def test_nothing_to_warn_of(self):
        """In a fresh process there is none."""
        assert run_program("from iointerrupt import monkey; monkey.patch_all(); print(monkey.is_patched())") == "True\n"

    def test_the_caller_is_blamed(self):
        """The warning stands at the line that has patched."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            monkey.patch_all()
        monkey.unpatch_all()
        assert {warning.filename for warning in caught} <= {__file__}


class TestSockets:
    """`socket.socket` while it is patched."""

    @pytest.fixture(autouse=True)
    def _patched(self):
        with patched():
            yield

    @pytest.fixture
    def pair(self):
        """Two sockets that are connected."""
        near, far = socket.socketpair()
        with near, far:
            yield near, far

    def test_what_makes_sockets(self):
        """Each function of the standard library makes those that stop."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
                with socket.fromfd(client.fileno(), client.family, client.type) as double, client.dup() as other:
                    near, far = socket.socketpair()
                    with near, far:
                        made = [listener, client, server, double, other, near, far]
                        assert all(isinstance(one, sockets.Socket) for one in made)

    def test_what_is_a_socket(self, pair):
        """A socket that was made before, or that speaks TLS, is still a `socket.socket`, and its class a subclass."""
        with STOCK["socket"]() as early:
            assert isinstance(early, socket.socket)
        assert isinstance(pair[0], socket.socket)
        assert issubclass(ssl.SSLSocket, socket.socket)
        assert not isinstance(3, socket.socket)
        assert not issubclass(int, socket.socket)

    def test_subclasses(self):
        """A class can be derived from it, and from an abstract class as well, and is told from others."""

        class Mine(socket.socket):
            pass

        class Abstract(abc.ABC):
            @abc.abstractmethod
            def speak(self): ...

        class Both(Abstract, socket.socket):
            def speak(self):
                return "ok"

        with Mine() as mine, Both() as both, socket.socket() as plain:
            assert isinstance(mine, Mine)
            assert not isinstance(plain, Mine)
            assert not isinstance(mine, Both)
            assert issubclass(Both, Abstract)
            assert both.speak() == "ok"

    @pytest.mark.parametrize("timeout", [None, 0.0, 5.0])
    def test_the_kernels_mode(self, pair, timeout):
        """The descriptor is in the mode that its timeout says, for whoever uses it bare."""
        near, _ = pair
        near.settimeout(timeout)
        assert near.gettimeout() == timeout
        assert os.get_blocking(near.fileno()) == (timeout is None)
        near.setblocking(True)
        assert os.get_blocking(near.fileno())
        with near.dup() as other:
            assert os.get_blocking(other.fileno())
        fd = near.detach()
        assert os.get_blocking(fd)
        os.close(fd)

    def test_the_mode_outlasts_stops(self):
        """A connect and an accept that were stopped leave the mode as it was."""
        stop = StopEvent()
        stop.set()
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            with use_stop(stop):
                for work in (listener.accept, lambda: client.connect(listener.getsockname())):
                    with pytest.raises(Interrupted):
                        work()
            with use_stop(StopEvent()):
                client.connect(listener.getsockname())
                connection, _ = listener.accept()
            with connection:
                assert all(os.get_blocking(one.fileno()) for one in (listener, client, connection))

    def test_default_timeout(self):
        """A default timeout holds for new sockets, as ever."""
        socket.setdefaulttimeout(7.5)
        try:
            with socket.socket() as sock:
                assert sock.gettimeout() == 7.5
                assert not os.get_blocking(sock.fileno())
                sock.settimeout(None)
                assert os.get_blocking(sock.fileno())
        finally:
            socket.setdefaulttimeout(None)

    def test_a_child_uses_the_descriptor(self, pair):
        """A child process whose stdin is a socket can wait for it."""
        near, far = pair
        code = "import os; data = os.read(0, 5); os.write(1, data)"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=near, stdout=subprocess.PIPE)
        far.sendall(b"hello")
        assert child.communicate()[0] == b"hello"

    def test_event_loops_own_theirs(self, pair):
        """With a timeout of 0 a socket is no business of the current stop: an event loop can clean up."""
        near, far = pair
        near.setblocking(False)
        stop = StopEvent()
        stop.set()
        far.send(b"x")
        with use_stop(stop):
            assert near.recv(1) == b"x"
            with pytest.raises(BlockingIOError):
                near.recv(1)
            near.send(b"y")

    @pytest.mark.parametrize("send", ["send", "sendall", "sendmsg", "sendto"])
    @pytest.mark.parametrize("reader", ["nobody", "itself", "another thread"])
    def test_sends_under_a_stop(self, send, reader):
        """Nothing is asked for under a stop that is set, unless another thread is the one that reads the answers."""
        stop = StopEvent()
        stop.set()
        kind = socket.SOCK_DGRAM if send == "sendto" else socket.SOCK_STREAM
        near, far = socket.socketpair(socket.AF_UNIX, kind) if send != "sendto" else self.datagrams()
        with near, far:
            if reader != "nobody":
                far.sendto(b"x", near.getsockname()) if send == "sendto" else far.send(b"x")
                receive = threading.Thread(target=near.recv, args=(1,)) if reader == "another thread" else None
                if receive is None:
                    near.recv(1)
                else:
                    receive.start()
                    receive.join()
            arguments = {"sendmsg": ([b"bye"],), "sendto": (b"bye", far.getsockname())}.get(send, (b"bye",))
            with use_stop(stop):
                if reader == "another thread":
                    getattr(near, send)(*arguments)
                else:
                    with pytest.raises(Interrupted):
                        getattr(near, send)(*arguments)
            far.setblocking(False)
            if reader == "another thread":
                assert far.recv(10) == b"bye"
            else:
                with pytest.raises(BlockingIOError):
                    far.recv(10)

    def datagrams(self):
        """Two sockets for datagrams, each with an address."""
        pair = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in "ab"]
        for one in pair:
            one.bind(("127.0.0.1", 0))
        return pair

    @pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
    def test_more_than_fits(self, pair, kind):
        """Of more than fits, exactly so much has been sent as the exception says, and the rest can follow."""
        near, far = pair
        data = os.urandom(1 << 20)
        stopped = []

        def send():
            try:
                near.sendall(kind(data))
            except Interrupted as interrupted:
                stopped.append(interrupted)

        worker = Thread(target=send)
        worker.start()
        wait_until_blocked(worker.stop)
        worker.interrupt()
        worker.join()
        sent = stopped[0].transferred
        assert 0 < sent < len(data)
        got = bytearray()

        def read():
            while len(got) < len(data):
                got.extend(far.recv(1 << 16))

        reader = threading.Thread(target=read)
        reader.start()
        near.sendall(data[sent:])
        reader.join()
        assert got == data

    def test_urgent_data_behind_a_send(self):
        """A receive behind a send waits for what it is asked for, be that urgent data."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            with socket.create_connection(listener.getsockname()) as near, listener.accept()[0] as far:
                with use_stop(StopEvent()):
                    near.sendall(b"question")
                    far.recv(8)
                    far.send(b"!", socket.MSG_OOB)
                    while True:
                        try:
                            assert near.recv(1, socket.MSG_OOB) == b"!"
                            break
                        except OSError:  # it is not there yet
                            os.sched_yield()

    def test_one_thread_of_two(self, pair):
        """Of two threads on one socket the one that has a stop is stopped, and the other gets what comes."""
        near, far = pair
        got = []
        patient = threading.Thread(target=lambda: got.append(near.recv(5)))
        patient.start()
        worker = Thread(target=near.recv, args=(5,))
        worker.start()
        wait_until_blocked(worker.stop)
        worker.interrupt()
        worker.join()
        far.send(b"hello")
        patient.join()
        assert got == [b"hello"]

    def test_accepts_of_many_threads(self):
        """Threads with a stop and without accept from one listener; each connection is taken once, and all stops stop."""
        with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
            address, accepted = listener.getsockname(), queue.Queue()

            def accept():
                while True:
                    connection, peer = listener.accept()
                    with connection:
                        accepted.put(peer)
                        if connection.recv(1):
                            return

            workers = [Thread(target=accept) for _ in range(3)]
            patient = threading.Thread(target=accept)
            for thread in (*workers, patient):
                thread.start()
            peers = []
            for _ in range(40):
                with socket.create_connection(address) as client:
                    peers.append(client.getsockname())
            assert sorted(accepted.get(timeout=30) for _ in peers) == sorted(peers)
            for worker in workers:
                worker.interrupt()
                worker.join(30)
                assert not worker.is_alive()
            with socket.create_connection(address) as client:
                client.send(b"x")
                patient.join(30)
            assert not patient.is_alive()

    def test_a_connection_that_is_not_made(self, fault_server, background):
        """`create_connection` closes its socket where it is stopped, and does not leave that to the collector."""
        server, stop = fault_server([steps.stall_connect()]), StopEvent()
        connecting = background(under, stop, socket.create_connection, server.address)
        server.wait_for("stall_connect")
        wait_until_blocked(stop)
        stop.set()
        error = connecting.error()  # which refers to the socket
        assert isinstance(error, Interrupted)
        (made,) = (found for found in frames_locals(error, "sock") if isinstance(found, PatchedSocket))
        assert made.fileno() == -1

    def test_cannot_be_pickled(self, pair):
        """A socket says that it cannot be pickled, as ever."""
        with pytest.raises(TypeError, match="cannot pickle"):
            pickle.dumps(pair[0])

    def test_goes_on_after_unpatching(self, pair):
        """What was made while it was patched goes on, and stops, afterwards."""
        near, far = pair
        monkey.unpatch_all()
        far.send(b"x")
        assert near.recv(1) == b"x"
        worker = Thread(target=near.recv, args=(1,))
        worker.start()
        wait_until_blocked(worker.stop)
        worker.interrupt()
        worker.join()
        assert not worker.is_alive()


class TestAsItWas:
    """What programs do with the standard library's own that they may not notice to be another one."""

    @pytest.fixture(autouse=True)
    def _patched(self):
        with patched():
            yield

    def test_functions_are_no_methods(self):
        """A function that is written in C is no method when a class keeps it."""

        class Clock:
            sleep, select, look_up = time.sleep, select.select, socket.gethostbyname

        clock = Clock()
        assert clock.sleep(0) is None
        assert clock.select([], [], [], 0) == ([], [], [])
        assert clock.look_up("127.0.0.1") == "127.0.0.1"

    @pytest.mark.parametrize(
        "name",
        [
            "time.sleep",
            "select.select",
            "socket.gethostbyname",
            "socket.gethostbyaddr",
            "socket.getaddrinfo",
            "socket.getfqdn",
        ],
    )
    def test_functions_can_be_pickled(self, name):
        """Functions go to other processes by their names."""
        function = pickle.loads(
            pickle.dumps(operator.attrgetter(name.partition(".")[2])(sys.modules[name.partition(".")[0]]))
        )
        assert callable(function)
        assert function.__doc__
        assert name.partition(".")[2] in repr(function)

    def test_names_of_a_programs_class(self):
        """A class may be derived that has names of its own for whatever it likes."""

        class Mine(socket.socket):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                self._stop = self._closing = self._waiters = self._made = self._reader = self.stop = False

            def _wait(self): ...

            _receive = _connect = _retry = _send_all = _deadline = _descriptor = _wait

        class Stops(socket.socket):
            def stop(self):
                return "mine"

        with socket.create_server(("127.0.0.1", 0)) as listener:
            for kind in (Mine, Stops):
                for stop in (None, StopEvent()):
                    with use_stop(stop), kind() as sock:
                        sock.settimeout(30)
                        sock.connect(listener.getsockname())
                        with listener.accept()[0] as peer:
                            sock.sendall(b"question")
                            assert peer.recv(8) == b"question"
                            peer.sendall(b"answer")
                            with sock.makefile("rb") as file:
                                assert file.read(6) == b"answer"

    @pytest.mark.parametrize("stop", [None, StopEvent()])
    def test_true_is_a_second(self, stop):
        """A bool is a number of seconds."""
        done, one = threading.Event(), queue.SimpleQueue()
        one.put("item")
        thread = threading.Thread(target=done.wait)
        thread.start()
        with use_stop(stop):
            threading.Timer(0.01, done.set).start()
            thread.join(True)
            assert done.wait(True)
            assert one.get(timeout=True) == "item"
            process = subprocess.Popen(["true"])
            assert process.wait(timeout=True) == 0

    def test_a_thread_that_comes_with_a_stop(self):
        """A receive with a timeout goes on waiting when another thread comes to the same socket with a stop."""
        for _ in range(20):
            near, far = socket.socketpair()
            with near, far:
                near.settimeout(30)
                got, ready = queue.Queue(), threading.Event()

                def receive(near=near, got=got, ready=ready):
                    ready.set()
                    got.put(near.recv(1))

                plain, worker = (
                    threading.Thread(target=receive),
                    Thread(target=lambda near=near, got=got: got.put(near.recv(1))),
                )
                plain.start()
                ready.wait()
                worker.start()
                wait_until_blocked(worker.stop)
                far.send(b"a")
                far.send(b"b")
                assert {got.get(timeout=30), got.get(timeout=30)} == {b"a", b"b"}
                plain.join()
                worker.join()

    def test_closing_is_not_shutting_down(self):
        """A socket that is closed while a thread with a stop waits in it is not shut down for those who share it."""
        near, far = socket.socketpair()
        with far, near.dup() as other:
            worker = Thread(target=self.receive, args=(near,))
            worker.start()
            wait_until_blocked(worker.stop)
            near.close()
            other.send(b"x")
            assert far.recv(1) == b"x"
            worker.interrupt()
            worker.join()

    def receive(self, sock):
        """Receive, from a socket that may be closed meanwhile."""
        try:
            sock.recv(1)
        except OSError:
            pass

    def test_the_mode_is_repaired(self):
        """Setting a timeout sets the kernel's mode, whoever has changed it, also after a stop has been there."""
        near, far = socket.socketpair()
        with near, far:
            with use_stop(StopEvent()):
                far.send(b"x")
                near.recv(1)
            os.set_blocking(near.fileno(), False)
            near.settimeout(None)
            assert os.get_blocking(near.fileno())

    @pytest.mark.parametrize("order", ["before", "after"])
    def test_sockets_are_sent_to_processes(self, order):
        """Sockets of both classes are sent by multiprocessing, whenever it was imported."""
        program = f"""
            import socket, sys
            old, peer = socket.socketpair()
            {"import multiprocessing.reduction" if order == "before" else "pass"}
            import warnings
            from iointerrupt import monkey
            monkey.patch_all()
            import multiprocessing, multiprocessing.reduction
            new, other = socket.socketpair()
            ours, theirs = multiprocessing.Pipe()
            ours.send(new)
            with theirs.recv() as got:
                got.send(b"x")
            print(other.recv(1))
            monkey.unpatch_all()
            ours.send(old)
            with theirs.recv() as got:
                got.send(b"y")
            print(peer.recv(1))
            for one in (old, peer, new, other, ours, theirs):
                one.close()
        """
        assert run_program(program) == "b'x'\nb'y'\n"


class TestNames:
    """Lookups."""

    @pytest.mark.parametrize(
        "look_up",
        [
            lambda: socket.getaddrinfo("nowhere.test", 80),
            lambda: socket.create_connection(("nowhere.test", 80)),
            lambda: socket.gethostbyname("nowhere.test"),
            lambda: socket.gethostbyname_ex("nowhere.test"),
            lambda: socket.gethostbyaddr("192.0.2.1"),
            lambda: socket.getnameinfo(("192.0.2.1", 80), 0),
            lambda: socket.getfqdn("nowhere.test"),
        ],
    )
    def test_a_lookup_that_hangs(self, monkeypatch, look_up):
        """A resolver that does not answer is left behind by a stop."""
        answered = threading.Event()

        def resolve(*args, **kwargs):
            with use_stop(None):
                answered.wait()
            raise socket.gaierror

        for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"):
            monkeypatch.setattr(socket, name, resolve)
        with patched():
            stopped = []

            def work():
                try:
                    look_up()
                except Interrupted as interrupted:
                    stopped.append(interrupted.reason)

            worker = Thread(target=work)
            worker.start()
            wait_until_blocked(worker.stop)
            worker.interrupt("enough")
            worker.join()
            assert stopped == ["enough"]
            answered.set()

    def test_lookups_that_answer(self):
        """With a stop and without one, a lookup gives what it gave before."""
        looks = [
            lambda: socket.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM),
            lambda: socket.getaddrinfo(host="localhost", port="http", family=socket.AF_INET),
            lambda: socket.gethostbyname("localhost"),
            lambda: socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST),
        ]
        expected = [look() for look in looks]
        with patched():
            assert [look() for look in looks] == expected
            with use_stop(StopEvent()):
                assert [look() for look in looks] == expected
                with pytest.raises(socket.gaierror):
                    socket.getaddrinfo("127.0.0.1", 80, family=socket.AF_INET6)


class TestWaits:
    """Sleeps, conditions, queues, joins."""

    @pytest.fixture(autouse=True)
    def _patched(self):
        with patched():
            yield

    @pytest.fixture
    def stopped(self):
        """A block with a stop that is set."""
        stop = StopEvent()
        stop.set("enough")
        return functools.partial(use_stop, stop)

    def test_what_need_not_wait(self, stopped):
        """What need not wait returns as ever, although the stop is set."""
        full, simple, event = queue.Queue(), queue.SimpleQueue(), threading.Event()
        full.put("item")
        simple.put("item")
        event.set()
        ended = threading.Thread(target=lambda: None)
        ended.start()
        ended.join()
        with stopped():
            assert full.get() == "item"
            assert simple.get() == "item"
            assert event.wait()
            ended.join()
            time.sleep(0)
            assert not threading.Event().wait(0)
            assert not threading.Semaphore(0).acquire(timeout=0)
            for nothing in (full, simple):
                with pytest.raises(queue.Empty):
                    nothing.get_nowait()

    def test_a_thread_can_be_started(self, stopped):
        """Starting a thread is no wait that could be stopped."""
        ran = threading.Event()
        with stopped():
            thread = threading.Thread(target=ran.set)
            thread.start()
        thread.join()
        assert ran.is_set()

    def test_times_that_are_over(self):
        """A timeout is what it was: False, `queue.Empty`, or None."""
        with use_stop(StopEvent()):
            assert threading.Event().wait(0.001) is False
            for empty in (queue.Queue(), queue.SimpleQueue()):
                with pytest.raises(queue.Empty):
                    empty.get(timeout=0.001)
            hanging = threading.Event()
            thread = threading.Thread(target=hanging.wait)
            thread.start()
            assert thread.join(0.001) is None
            assert thread.is_alive()
            hanging.set()
            thread.join()

    def test_errors(self):
        """What is wrong is said as before, with a stop and without one."""

        def errors():
            found = []
            for work in (
                lambda: time.sleep(-1),
                lambda: time.sleep("1"),
                lambda: time.sleep(float("nan")),
                lambda: threading.Condition().wait(),
                lambda: threading.Condition().wait(1),
                lambda: queue.Queue().get(timeout=-1),
                lambda: queue.SimpleQueue().get(timeout=-1),
                lambda: queue.SimpleQueue().get(timeout="1"),
                lambda: threading.Thread().join(),
                lambda: threading.current_thread().join(),
            ):
                try:
                    found.append(repr(work()))
                except Exception as error:
                    found.append((type(error), str(error)))
            return found

        without = errors()
        with use_stop(StopEvent()):
            assert errors() == without
        monkey.unpatch_all()
        assert errors() == without

    def test_a_deadline(self):
        """A deadline ends a wait as a stop does."""
        with use_stop(StopEvent(timeout=0.01)), pytest.raises(iointerrupt.DeadlineExceeded):
            queue.SimpleQueue().get()

    def test_no_item_is_lost(self):
        """Of the items of a `SimpleQueue` that many stopped threads take from, each is had once."""
        source, got = queue.SimpleQueue(), queue.Queue()

        def take():
            while True:
                got.put(source.get())

        for _ in range(10):
            workers = [Thread(target=take) for _ in range(4)]
            for worker in workers:
                worker.start()
            for number in range(50):
                source.put(number)
            for worker in workers:
                worker.interrupt()
            for worker in workers:
                worker.join()
        taken = [got.get() for _ in range(got.qsize())] + [source.get() for _ in range(source.qsize())]
        assert sorted(taken) == sorted(list(range(50)) * 10)

    def test_a_notification_is_not_lost(self):
        """A waiter that is notified and stopped at once passes it on to the next."""
        changed = threading.Condition()
        for _ in range(50):
            notified = []

            def wait(name, notified=notified):
                with changed:
                    changed.wait()
                    notified.append(name)

            first, second = Thread(target=wait, args=("first",)), threading.Thread(target=wait, args=("second",))
            first.start()
            wait_until_blocked(first.stop)
            second.start()
            while len(changed._waiters) < 2:
                os.sched_yield()
            with changed:
                changed.notify()
                first.interrupt()
            first.join()
            if notified == ["first"]:
                with changed:
                    changed.notify()
            second.join(30)
            assert not second.is_alive()
