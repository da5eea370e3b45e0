"""`FaultServer`: its life, what it tells the test, how its failures are told, and what it does on the wire."""

from __future__ import annotations

import errno
import os
import signal
import socket
import ssl
import sys
import threading
from contextlib import closing

import pytest
import requests

from iointerrupt import Interrupted, StopEvent, sockets, use_stop
from iointerrupt.testing import (
    Connection,
    FaultServer,
    StopAfter,
    _fault_server,
    signal_when_blocked,
    steps,
    wait_until_blocked,
)

GET = b"GET /file?x=1 HTTP/1.1\r\nHost: test\r\n\r\n"
HELLO = [steps.expect(), steps.answer(b"hello")]


def talk(server: FaultServer, data: bytes = GET) -> bytes:
    """Send, and receive until the server has closed the connection."""
    with socket.create_connection(server.address, 10) as sock:
        sock.sendall(data)
        return receive(sock)


def receive(sock: socket.socket) -> bytes:
    """Receive until the end."""
    received = bytearray()
    while data := sock.recv(65536):
        received += data
    return bytes(received)


def ended(server: FaultServer, number: int = 1) -> None:
    """Return once the server is done with a connection."""
    with server._changed:
        assert server._changed.wait_for(lambda: number in {c.number for c in server._outcomes}, 10)


def threads() -> list[threading.Thread]:
    """The threads of servers, those left out that are about to end."""
    for thread in (found := [t for t in threading.enumerate() if t.name.startswith("fault-server")]):
        thread.join(5)
    return [thread for thread in found if thread.is_alive()]


class TestLife:
    """A server is there in its block, and nothing of it afterwards."""

    def test_attributes(self):
        """It says where it is, and remembers what came."""
        with FaultServer(HELLO) as server:
            assert (server.address, server.url) == (("127.0.0.1", server.port), f"http://127.0.0.1:{server.port}")
            assert (server.connections, server.requests) == (0, [])
            assert talk(server).endswith(b"\r\n\r\nhello")
            assert server.connections == 1
        (request,) = server.requests
        assert (request.method, request.target, request.path) == ("GET", "/file?x=1", "/file")
        assert (request.headers["HOST"], request.headers["Range"], request.body) == ("test", None, b"")
        assert server.stop.is_set()

    @pytest.mark.parametrize("name", ["url", "port", "address", "ca_file"])
    def test_not_started(self, name):
        """Before it is started, it is nowhere."""
        with pytest.raises(RuntimeError, match="has not been started: use it in a with block"):
            getattr(FaultServer(HELLO, tls=name == "ca_file"), name)

    def test_once(self):
        """It runs once, and can be closed any number of times, also without having run."""
        server = FaultServer(HELLO)
        server.close()
        with FaultServer(HELLO) as server:
            server.close()
            server.close()
            with pytest.raises(ConnectionRefusedError):
                talk(server)
        with pytest.raises(RuntimeError, match="runs once"):
            server.__enter__()

    def test_repr(self):
        """Its repr says how it is."""
        server = FaultServer(HELLO)
        assert repr(server) == "<FaultServer not started>"
        with server:
            assert repr(server) == f"<FaultServer {server.url}>"
        assert repr(server) == "<FaultServer closed>"

    @pytest.mark.parametrize(
        ("arguments", "error", "says"),
        [
            ({"port": -1}, ValueError, "port must be 0 to 65535, not -1"),
            ({"port": 65536}, ValueError, "port must be 0 to 65535, not 65536"),
            ({"port": "80"}, TypeError, "port must be an int, not str"),
            ({"tls": "yes"}, TypeError, "tls must be True, False or an ssl.SSLContext, not str"),
        ],
    )
    def test_bad_arguments(self, arguments, error, says):
        """A wrong argument is refused, with what is accepted."""
        with pytest.raises(error, match=says):
            FaultServer(HELLO, **arguments)

    def test_two_on_one_port(self):
        """A port that another server has is an error which says so, and how to avoid it; afterwards it is free."""
        with FaultServer(HELLO) as first:
            other = FaultServer(HELLO, port=first.port)
            with pytest.raises(OSError, match=f"port {first.port} is taken: another test.* Leave port= out") as caught:
                other.__enter__()
            assert caught.value.errno == errno.EADDRINUSE
            assert talk(first)
        with FaultServer(HELLO, port=first.port) as server:
            assert server.port == first.port
            assert talk(server)

    def test_thirty(self):
        """Thirty servers, each with a client that waits, start and end."""
        for _ in range(30):
            with FaultServer([steps.stall()]) as server, socket.create_connection(server.address) as sock:
                server.wait_for("stall")
                server.close()
                assert sock.recv(1) == b""
        assert threads() == []

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    def test_ends_whatever_clients_do(self, tls):
        """It ends at once while clients stall in every way: before they send, while the server sends, and reads."""
        scripts = [
            [steps.expect()],
            [steps.stall(), steps.send(b"x")],
            [steps.repeat(steps.send(b"x" * 1_000_000))],
            [steps.drip(b"xx", every=600)],
            [steps.read(600)],
            [steps.close()],
        ]
        with FaultServer(*scripts, tls=tls) as server:
            context = server.client_context() if tls else None
            clients = []
            for number in range(1, len(scripts) + 1):
                sock = socket.create_connection(server.address)
                clients.append(context.wrap_socket(sock, server_hostname="127.0.0.1") if context else sock)
                wait_until_blocked(server.stop, number + 1)
        assert threads() == []
        for sock in clients:
            sock.close()

    def test_error_in_block(self):
        """An error in the block leaves nothing behind, and is raised as it is."""
        with pytest.raises(ZeroDivisionError) as caught, FaultServer([steps.stall()]) as server:
            with socket.create_connection(server.address):
                server.wait_for("stall")
                raise ZeroDivisionError
        assert threads() == []
        assert not hasattr(caught.value, "__notes__")

    def test_no_threads(self, no_more_threads):
        """Where no thread is to be had, it does not start, and leaves no listener behind."""
        server = FaultServer(HELLO)
        with no_more_threads(), pytest.raises(RuntimeError, match="can't start new thread"):
            server.__enter__()
        with pytest.raises(ConnectionRefusedError):
            talk(server)

    def test_callable_that_does_not_end(self, monkeypatch):
        """A callable that knows no stop is named, with where it stands; the port is free all the same."""
        monkeypatch.setattr(_fault_server, "_JOIN_SECONDS", 0.1)
        release, entered = threading.Event(), threading.Event()

        def hang(connection):
            entered.set()
            release.wait(20)

        server = FaultServer([hang])
        with pytest.raises(AssertionError, match=r"fault-server-\d+-1 is still blocked after 0.1 s:(.|\n)*in hang"):
            with server, socket.create_connection(server.address):
                entered.wait(10)
        with pytest.raises(ConnectionRefusedError):
            talk(server)
        release.set()
        assert threads() == []


class TestInterrupt:
    """A Ctrl-C leaves nothing behind, wherever it comes."""

    def test_in_block(self, ctrl_c):
        """It ends the block while the client waits, and the server with it."""
        with pytest.raises(KeyboardInterrupt), FaultServer([steps.expect(), steps.stall()]) as server:
            with sockets.create_connection(server.address) as sock, signal_when_blocked(signal.SIGINT):
                sock.sendall(GET)
                sock.recv(1)
        assert threads() == []

    def test_while_waiting(self, ctrl_c):
        """It ends `wait_for`."""
        with pytest.raises(KeyboardInterrupt), FaultServer(HELLO) as server, signal_when_blocked(signal.SIGINT):
            server.wait_for("answer")
        assert threads() == []

    @staticmethod
    def at_line(n: int, function, *args) -> bool:
        """Call the function, and interrupt it at its n-th line in the server's module; whether it was."""
        lines = 0

        def trace(frame, event, arg):
            nonlocal lines
            if frame.f_code.co_filename != _fault_server.__file__:
                return None
            if event == "line":
                lines += 1
                if lines == n:
                    raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            function(*args)
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(before)
        return False

    def check_gone(self, server: FaultServer) -> None:
        """Nothing listens, and no thread is left."""
        if server._address is not None:
            with pytest.raises(ConnectionRefusedError):
                talk(server)
        assert threads() == []

    def test_at_the_start(self):
        """At each line of the start."""
        n = 4  # behind its beginning, where there is nothing yet
        while self.at_line(n, (server := FaultServer(HELLO)).__enter__):
            self.check_gone(server)
            n += 1
        server.close()
        assert n > 10

    def test_at_the_end(self):
        """At each line of the end but its first."""
        n, going_on = 2, True
        while going_on:
            server = FaultServer([steps.stall()]).__enter__()
            with socket.create_connection(server.address):
                server.wait_for("stall")
                going_on = self.at_line(n, server.__exit__, None, None, None)
            self.check_gone(server)
            n += 1
        assert n > 10


class TestEvents:
    """The test knows where the server is."""

    def test_wait_for(self, background):
        """A step is reached when it has been done, a stall when it begins, `n` counts them all."""
        script = [steps.expect(), steps.mark("read"), steps.send(b"x"), steps.stall(), steps.send(b"y")]
        with FaultServer(script) as server:
            waiting = background(server.wait_for, "stall", 2)
            with socket.create_connection(server.address) as first, socket.create_connection(server.address) as second:
                first.sendall(GET)
                for name in ("expect", "read", "send", "stall"):
                    server.wait_for(name)
                assert waiting.thread.is_alive()
                second.sendall(GET)
                waiting.result()
                with pytest.raises(TimeoutError):
                    server.wait_for("send", 3, timeout=0.01)
                assert first.recv(10) == b"x"

    def test_where_it_stands(self):
        """The error of a wait that takes too long says where each connection stands."""
        scripts = [
            [steps.expect(), steps.stall()],
            [steps.repeat(steps.expect(), steps.send(b"hello"))],
            HELLO,
            [steps.expect(), steps.reset()],
            [steps.expect(), steps.close(), steps.mark("x")][:2],
        ]
        with FaultServer(*scripts) as server:
            with pytest.raises(TimeoutError, match=r"'stall' was reached 0 of 1 times after 0 s.\nThere was no connec"):
                server.wait_for("stall", timeout=0)
            with (
                socket.create_connection(server.address) as first,
                socket.create_connection(server.address) as second,
                socket.create_connection(server.address) as third,
                socket.create_connection(server.address) as fourth,
                socket.create_connection(server.address) as fifth,
            ):
                for sock in (first, second, fourth, fifth):
                    sock.sendall(GET)
                third.close()
                ended(server, 3)
                ended(server, 4)
                server.wait_for("stall")
                server.wait_for("send")
                server.wait_for("close")
                wait_until_blocked(server.stop, 4)  # the three that are left, and who accepts
                with pytest.raises(TimeoutError) as caught:
                    server.wait_for("stall", 2, timeout=0)
        assert str(caught.value).splitlines() == [
            "'stall' was reached 1 of 2 times after 0 s.",
            "connection 1: at step 2 of 2, stall()",
            "connection 2: at step 1 of 1, repeat(expect(), send(b'hello')): step 1 of 2, expect()",
            "connection 3: the client has closed the connection",
            "connection 4: closed",
            "connection 5: at its end: closed here, not yet by the client",
        ]

    def test_unknown_name(self):
        """A name that no script has is refused with those there are; where there are callables, there may be any."""
        with FaultServer([steps.repeat(steps.expect(), steps.mark("here"))], HELLO) as server:
            with pytest.raises(
                ValueError, match="no script has a step or a mark 'stal': there are answer, expect, here, r"
            ):
                server.wait_for("stal")
            with pytest.raises(TypeError, match="n must be an int, not str"):
                server.wait_for("expect", "2")
            with pytest.raises(ValueError, match="timeout must be 0 or more"):
                server.wait_for("expect", timeout=-1)
        with FaultServer([lambda connection: connection.mark("anywhere")]) as server:
            talk(server, b"")
            server.wait_for("anywhere")

    def test_wait_is_interruptible(self, background):
        """The current stop ends the wait, and so does the end of the server."""
        stop = StopEvent()

        def wait():
            with use_stop(stop):
                server.wait_for("answer")

        with FaultServer(HELLO) as server:
            waiting, other = background(wait), background(server.wait_for, "answer")
            wait_until_blocked(stop)
            stop.set("enough")
            assert waiting.error().reason == "enough"
            wait_until_blocked(server.stop, 2)
        assert isinstance(other.error(), Interrupted)
        talked = FaultServer(HELLO)
        with talked:
            talk(talked)
        talked.wait_for("answer")  # what has been reached has been, also when it is over

    def test_resume(self):
        """`resume` lets go on what stalls now, and not what stalls later."""
        with FaultServer([steps.stall(), steps.send(b"1"), steps.stall(), steps.send(b"2"), steps.close()]) as server:
            server.resume()
            with (
                socket.create_connection(server.address, 10) as first,
                socket.create_connection(server.address, 10) as second,
            ):
                server.wait_for("stall", 2)
                server.resume()
                assert first.recv(10) + second.recv(10) == b"11"
                server.wait_for("stall", 4)
                server.resume()
                assert first.recv(10) + second.recv(10) == b"22"

    @pytest.mark.parametrize("make", [threading.Event, StopEvent])
    def test_stall_until(self, make):
        """A stall goes on when its event is set, also if that was before."""
        until = make()
        with FaultServer([steps.stall(until=until), steps.send(b"on")]) as server:
            with socket.create_connection(server.address, 10) as sock:
                server.wait_for("stall")
                until.set()
                assert sock.recv(10) == b"on"
            assert talk(server, b"") == b"on"

    @pytest.mark.parametrize("sent", [0, 100_000], ids=["nothing", "unread"])
    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_client_closes_while_stalled(self, sent, how):
        """A stall ends when the client closes, also with data of it unread, and the script with it."""
        with FaultServer([steps.stall(), steps.mark("after")]) as server:
            with socket.create_connection(server.address) as sock:
                sock.sendall(b"x" * sent)
                server.wait_for("stall")
                if how == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            ended(server)
            with pytest.raises(TimeoutError, match="connection 1: the client has closed the connection"):
                server.wait_for("after", timeout=0)

    def test_stall_after_the_end_of_the_client(self):
        """When the client has closed its side, and waits, a stall stalls."""
        with FaultServer([steps.read_to_end(), steps.stall(), steps.send(b"late")]) as server:
            with socket.create_connection(server.address, 10) as sock:
                sock.shutdown(socket.SHUT_WR)
                server.wait_for("stall")
                wait_until_blocked(server.stop, 2)
                server.resume()
                assert receive(sock) == b"late"

    def test_stall_connect(self, background):
        """Connecting blocks from the start of the server, until `resume`; then connections are served."""
        stop = StopEvent()
        with FaultServer([steps.stall_connect(), *HELLO]) as server:
            server.wait_for("stall_connect")
            stopped = background(sockets.create_connection, server.address, stop=stop)
            going_on = background(talk, server)
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(stopped.error(), Interrupted)
            assert going_on.thread.is_alive()
            assert server.connections == 0
            server.wait_for("stall_connect")
            server.resume()
            assert going_on.result().endswith(b"hello")
            assert server.connections == 1

    def test_stall_connect_to_the_end(self):
        """The server ends while its queue is full."""
        with FaultServer([steps.stall_connect()]) as server:
            server.wait_for("stall_connect")
        with pytest.raises(ConnectionRefusedError):
            talk(server)


class TestFailures:
    """What went wrong in a script fails the test; a client that goes away does not."""

    @pytest.mark.parametrize(
        ("step", "says"),
        [
            (steps.expect("POST"), r"expect\('POST'\) got PUT /file\?x=1: the method is 'PUT', not 'POST'"),
            (steps.expect(target="/file"), r"the target is '/file\?x=1', not '/file'"),
            (steps.expect(headers={"X": "z"}), "the header X is y, not z"),
            (steps.expect(headers={"Z": "z"}), "the header Z is absent, not z"),
            (steps.expect(headers={"x": None}), "there is a header x: y"),
            (steps.expect(body=b"date"), "the body is b'data', not b'date'"),
            (steps.expect("GET", "/"), "the method is 'PUT', not 'GET'; the target is"),
            (steps.expect_bytes(b"PUT /files"), r"expect_bytes\(b'PUT /files'\) got b'PUT /file\?'"),
        ],
    )
    def test_expect(self, step, says):
        """Another request than the expected one fails the test at the end of the block, with both, and where."""
        request = b"PUT /file?x=1 HTTP/1.1\r\nX: y\r\nContent-Length: 4\r\n\r\ndata"
        with pytest.raises(AssertionError, match=says) as caught, FaultServer([step, steps.stall()]) as server:
            try:
                assert talk(server, request) == b""
            except ConnectionResetError:
                pass  # with data unread
        assert caught.value.__notes__ == [f"in connection 1, at step 1 of 2, {step!r}"]

    def test_as_expected(self):
        """What is as expected is no failure."""
        step = steps.expect("PUT", "/file?x=1", headers={"x": "y", "Range": None}, body=b"data")
        with FaultServer([step, steps.answer(b"ok")]) as server:
            request = b"PUT /file?x=1 HTTP/1.1\r\nX: y\r\nContent-Length: 4\r\n\r\ndata"
            assert talk(server, request).endswith(b"ok")

    @pytest.mark.parametrize("kind", [ValueError, TimeoutError, Interrupted, pytest.fail.Exception, SystemExit])
    def test_callable(self, kind):
        """Whatever a callable raises is raised at the end of the block, and by who waits."""

        def fail(connection):
            raise kind("odd")

        with pytest.raises(kind, match="odd") as caught, FaultServer([steps.repeat(fail)]) as server:
            talk(server, b"")
            with pytest.raises(kind, match="odd"):
                server.wait_for("anything")
        assert caught.value.__notes__[0].startswith("in connection 1, at step 1 of 1, repeat(")

    def test_wait_for_raises(self, background):
        """Who waits learns of a failure at once."""
        with pytest.raises(AssertionError, match="not 'POST'"), FaultServer([steps.expect("POST")], HELLO) as server:
            waiting = background(server.wait_for, "answer")
            wait_until_blocked(server.stop, 2)
            assert talk(server) == b""
            assert isinstance(waiting.error(), AssertionError)
            server.wait_for("answer")

    def test_note(self):
        """If the block raises, its error has the failures as notes; of several failures, the first one has them."""
        with pytest.raises(ZeroDivisionError) as caught, FaultServer([steps.expect("POST")]) as server:
            talk(server)
            ended(server)
            raise ZeroDivisionError
        (note,) = caught.value.__notes__
        assert "failed as well: AssertionError: expect('POST') got GET /file?x=1" in note
        with pytest.raises(AssertionError, match="POST") as several, FaultServer([steps.expect("POST")]) as server:
            for number in (1, 2):
                talk(server)
                ended(server, number)
        where, other = several.value.__notes__
        assert (where, "another failure: AssertionError" in other) == (
            "in connection 1, at step 1 of 1, expect('POST')",
            True,
        )

    def test_no_request(self):
        """A client that does not speak HTTP where it should fails the test."""
        with pytest.raises(AssertionError, match=r"sent b'hello.*', which is no request"), FaultServer(HELLO) as server:
            assert talk(server, b"hello\r\n") == b""

    @pytest.mark.parametrize(
        ("script", "sent"),
        [
            ([steps.expect(), steps.mark("x")], b""),
            ([steps.expect("POST")], GET[:20]),
            ([steps.expect(body=b"x")], b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc"),
            ([steps.repeat(steps.expect(), steps.send(b"x"))], GET * 3),
            ([steps.route({"/": []})], b""),
            ([steps.expect_bytes(b"hello")], b"hell"),
            ([steps.read(10)], b"123"),
            ([steps.repeat(steps.send(b"x" * 1_000_000))], b""),
            ([steps.repeat(steps.send(b"x"), steps.read(1))], b"12"),
            ([lambda connection: connection.send(b"x" * 100_000_000)], b""),
        ],
    )
    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_client_goes_away(self, script, sent, how):
        """A client that closes or resets the connection ends it, and the test does not fail."""
        with FaultServer(script) as server:
            with socket.create_connection(server.address) as sock:
                sock.sendall(sent)
                wait_until_blocked(server.stop, 2)
                if how == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            ended(server)


class TestHTTP:
    """What a script does arrives at a client of HTTP."""

    def test_scripts_in_turn(self):
        """Each connection has its script, and all that follow have the last one."""
        with FaultServer(*([steps.expect(), steps.answer(b"%d" % i)] for i in (1, 2, 3))) as server:
            assert [requests.get(server.url, timeout=10).content for _ in range(5)] == [b"1", b"2", b"3", b"3", b"3"]

    def test_keep_alive(self):
        """A connection is kept for what the script has still to read, and the client told when that is nothing."""
        script = [steps.expect(), steps.answer(b"1"), steps.repeat(steps.expect(), steps.answer(b"2"), times=2)]
        with FaultServer([*script, steps.mark("end")]) as server, requests.Session() as session:
            answers = [session.get(server.url, timeout=10) for _ in range(6)]
            assert [a.content for a in answers] == [b"1", b"2", b"2"] * 2
            assert [a.headers.get("Connection") for a in answers] == [None, None, "close"] * 2
            assert server.connections == 2

    @pytest.mark.parametrize(
        "rest",
        [
            [steps.close()],
            [steps.stall()],
            [steps.repeat(steps.expect(), steps.stall())],
            [lambda connection: None],
        ],
    )
    def test_no_word_of_the_end(self, rest):
        """An answer says nothing of an end that is a step of its own."""
        with FaultServer([*HELLO, *rest]) as server, requests.get(server.url, timeout=10) as answer:
            assert "Connection" not in answer.headers

    def test_own_connection_header(self):
        """The header of an answer is not replaced."""
        with FaultServer([steps.expect(), steps.answer(headers={"connection": "mine"})]) as server:
            assert b"connection: mine\r\n" in (answer := talk(server))
            assert b"close" not in answer

    def test_route(self):
        """A route goes on with the steps of the path, whatever its query, and answers others with a 404."""
        routes = {"/a": [steps.answer(b"A")], "/b": [steps.redirect("/a?from=b")]}
        with FaultServer([steps.repeat(steps.route(routes))]) as server, requests.Session() as session:
            assert session.get(f"{server.url}/a?x", timeout=10).content == b"A"
            assert session.get(f"{server.url}/b", timeout=10).content == b"A"
            missing = session.get(f"{server.url}/c", timeout=10)
            assert (missing.status_code, missing.text) == (404, "no steps for /c: there are /a, /b")
            server.wait_for("route", 4)
            assert [request.target for request in server.requests] == ["/a?x", "/b", "/a?from=b", "/c"]
            assert server.connections == 1

    def test_serve(self):
        """A client of a file server gets what it asks for; to a HEAD no body comes."""
        script = [steps.repeat(steps.expect(), steps.serve(b"0123456789", etag='"v1"'))]
        with FaultServer(script) as server, requests.Session() as session:
            whole = session.get(server.url, timeout=10)
            assert (whole.content, whole.headers["Accept-Ranges"]) == (b"0123456789", "bytes")
            part = session.get(server.url, headers={"Range": "bytes=8-", "If-Range": whole.headers["ETag"]}, timeout=10)
            assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"89", "bytes 8-9/10")
            assert session.head(server.url, timeout=10).headers["Content-Length"] == "10"
            assert session.get(server.url, headers={"If-None-Match": '"v1"'}, timeout=10).status_code == 304
            assert server.connections == 1

    def test_serve_after_callable(self):
        """`serve` without a request says so."""
        with pytest.raises(AssertionError, match="none has been read"):
            with FaultServer([lambda connection: None, steps.serve(b"")]) as server:
                talk(server, b"")

    def test_chunks(self):
        """Chunks make a body."""
        script = [
            steps.expect(),
            steps.head(chunked=True),
            steps.chunk(b"0123"),
            steps.chunk(b"45"),
            steps.last_chunk(),
        ]
        with FaultServer(script) as server:
            assert requests.get(server.url, timeout=10).content == b"012345"

    @pytest.mark.parametrize("data", [b"x" * 100_000, (b"x" * 50_000 for _ in range(2))], ids=["length", "chunked"])
    def test_upload(self, data):
        """The body of a request is read, with a length and in chunks."""
        with FaultServer(HELLO) as server:
            assert requests.put(server.url, data=data, timeout=10).content == b"hello"
            assert server.requests[0].body == b"x" * 100_000

    @pytest.mark.parametrize("reading", [[steps.expect(body=b"data")], [steps.expect(read_body=False), steps.read(4)]])
    def test_continue(self, reading):
        """Who waits for a 100 Continue before the body gets it when the body is read."""
        with FaultServer([*reading, steps.answer(b"ok")]) as server:
            with socket.create_connection(server.address, 10) as sock:
                sock.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
                assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
                sock.sendall(b"data")
                assert receive(sock).endswith(b"ok")

    def test_body_left_unread(self):
        """A body that is not to be read stays in the connection, so that the client blocks on sending it."""
        stop = StopEvent()
        with FaultServer([steps.expect(read_body=False), steps.stall()]) as server:
            with sockets.create_connection(server.address, stop=stop) as sock:
                sock.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n")
                server.wait_for("stall")
                sock.settimeout(0.01)
                with pytest.raises(TimeoutError):
                    sock.sendall(b"x" * 100_000_000)

    def test_callables(self):
        """A callable can do what the steps do, and run steps."""
        seen = []

        def script(connection: Connection) -> None:
            seen.append(connection.request)
            while (request := connection.read_request(body=False)) is not None:
                assert connection.request is request
                seen.append((connection.number, request.body, connection.read(4)))
                steps.send(b"HTTP/1.1 100 Continue\r\n\r\n").run(connection)
                connection.answer(b"ok", status=201, headers={"X": "y"})
                connection.mark("answered")

        with FaultServer([script]) as server, requests.Session() as session:
            for _ in range(2):
                answer = session.put(server.url, b"data", timeout=10)
                assert (answer.status_code, answer.content, answer.headers["X"]) == (201, b"ok", "y")
            server.wait_for("answered", 2)
        assert seen == [None, (1, b"", b"data"), (1, b"", b"data")]


class TestEnds:
    """Connections end as the script says."""

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    @pytest.mark.parametrize("last", [[], [steps.close()]], ids=["end of script", "close"])
    def test_nothing_is_lost(self, tls, last):
        """What was sent before a close arrives, although the client goes on sending what nobody reads."""
        body = b"x" * 3_000_000
        with FaultServer([steps.read(1), steps.send(body), *last], tls=tls) as server:
            with connect(server) as sock:
                sock.sendall(b"y" * 3_000_000)
                assert receive(sock) == body

    @pytest.mark.parametrize("notify", [True, False])
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    def test_close_notify(self, notify, version):
        """Over TLS a close sends a close_notify or, if told so, none; it waits for no answer to it."""
        with FaultServer([steps.send(b"data"), steps.close(notify=notify)], tls=True) as server:
            with connect(server, version=version) as sock:
                assert sock.recv(4) == b"data"
                server.wait_for("close")  # while the client has not said anything
                if notify:
                    assert sock.recv(1) == b""
                else:
                    with pytest.raises(ssl.SSLEOFError):
                        sock.recv(1)

    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
    def test_reset(self, tls):
        """A reset is one."""
        with FaultServer([steps.read(1), steps.reset()], tls=tls) as server, connect(server) as sock:
            sock.sendall(b"x")
            # Below TLS, which some versions of Python take for an end.
            with socket.socket(fileno=os.dup(sock.fileno())) as raw:
                raw.settimeout(10)
                with pytest.raises(ConnectionResetError):
                    receive(raw)

    def test_half_close(self):
        """After a half close, the client has come to the end, and can still send."""
        script = [steps.send(b"data"), steps.half_close(), steps.expect_bytes(b"still here"), steps.mark("read")]
        with FaultServer(script) as server, connect(server) as sock:
            assert receive(sock) == b"data"
            sock.sendall(b"still here")
            server.wait_for("read")

    def test_drip(self):
        """Dripping comes piece by piece, and is complete."""
        scripts = [steps.drip(b"abcde", size=2, every=600)], [steps.drip(b"abcde", size=2, every=0.001)]
        with FaultServer(*scripts) as server, connect(server) as sock:
            assert sock.recv(10) == b"ab"
            wait_until_blocked(server.stop, 2)
            sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                sock.recv(10)
            assert talk(server, b"") == b"abcde"


def connect(server: FaultServer, *, version: ssl.TLSVersion | None = None):
    """A client, over TLS if the server speaks it; the lack of a close_notify is an error."""
    sock = socket.create_connection(server.address, 10)
    if not server.url.startswith("https"):
        return sock
    context = server.client_context()
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=False)


class TestTLS:
    """A server speaks TLS."""

    def test_trust(self):
        """Clients can trust it, by a file that is there as long as the server is."""
        with FaultServer(HELLO, tls=True) as server:
            assert server.url == f"https://127.0.0.1:{server.port}"
            assert requests.get(server.url, verify=server.ca_file, timeout=10).content == b"hello"
            assert (
                requests.get(f"https://localhost:{server.port}", verify=server.ca_file, timeout=10).content == b"hello"
            )
            path = server.ca_file
            assert os.path.exists(path)
        assert not os.path.exists(path)
        with pytest.raises(Interrupted, match="has been closed"):
            server.ca_file  # noqa: B018 - the access is what is under test

    def test_no_trust(self):
        """A client that does not trust it goes away, which is no failure."""
        with FaultServer(HELLO, tls=True) as server:
            with pytest.raises(requests.exceptions.SSLError):
                requests.get(server.url, timeout=10)
            ended(server)
            assert server.requests == []

    def test_own_context(self):
        """A context of the caller's is used as it is, and is not changed; the certificate is then theirs to know."""
        from iointerrupt.testing._certificates import credentials

        context = credentials().context
        with FaultServer(HELLO, tls=context) as server:
            with pytest.raises(RuntimeError, match="no certificate of its own"):
                server.client_context()
            client = ssl.create_default_context(cadata=credentials().ca_pem)
            with closing(
                client.wrap_socket(socket.create_connection(server.address), server_hostname="localhost")
            ) as sock:
                sock.sendall(GET)
                assert receive(sock).endswith(b"hello")
        assert context.sslsocket_class is ssl.SSLSocket

    def test_plain_has_no_certificate(self):
        """A server without TLS says so when it is asked for a certificate."""
        with FaultServer(HELLO) as server, pytest.raises(RuntimeError, match="that takes tls=True"):
            server.ca_file  # noqa: B018 - the access is what is under test

    def test_without_trustme(self, monkeypatch):
        """Without trustme, `tls=True` says what to install, and leaves nothing behind."""
        monkeypatch.setattr("iointerrupt.testing._certificates._made", {})
        monkeypatch.setitem(sys.modules, "trustme", None)
        with pytest.raises(ImportError, match=r"pip install 'iointerrupt\[testing\]'"), FaultServer(HELLO, tls=True):
            pass

    @pytest.mark.parametrize(
        "script", [[steps.stall(), steps.handshake()], [steps.stall_handshake()]], ids=["before", "in"]
    )
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
    def test_stall(self, background, script, version):
        """The handshake stalls, before or in the server's part, and goes on when resumed."""
        stop = StopEvent()
        with FaultServer([*script, *HELLO], tls=True) as server:
            context = server.client_context()
            context.sslsocket_class = sockets.SSLSocket
            context.minimum_version = context.maximum_version = version

            def fetch():
                with sockets.create_connection(server.address, stop=stop) as sock:
                    with context.wrap_socket(sock, server_hostname="127.0.0.1") as encrypted:
                        encrypted.sendall(GET)
                        return receive(encrypted)

            going_on = background(fetch)
            server.wait_for(script[0].name)
            wait_until_blocked(stop)
            server.resume()
            assert going_on.result().endswith(b"hello")
            stopped = background(fetch)
            server.wait_for(script[0].name, 2)
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(stopped.error(), Interrupted)
            ended(server, 2)

    def test_half_of_the_flight(self):
        """A stall in the handshake has sent a part of what the server has to say."""
        with FaultServer([steps.stall_handshake()], tls=True) as server:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = server.client_context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
            with pytest.raises(ssl.SSLWantReadError):
                client.do_handshake()
            with socket.create_connection(server.address, 10) as sock:
                sock.sendall(outgoing.read())
                server.wait_for("stall_handshake")
                incoming.write(first := sock.recv(65536))
                assert first.startswith(b"\x16\x03\x03")
                with pytest.raises(ssl.SSLWantReadError):
                    client.do_handshake()
                wait_until_blocked(server.stop, 2)
                server.resume()
                incoming.write(sock.recv(65536))
                client.do_handshake()

    def test_implicit_handshake_is_a_name(self):
        """The handshake that a script begins with can be waited for, and where it hangs is told."""
        with FaultServer([steps.stall()], tls=True) as server:
            with socket.create_connection(server.address):
                wait_until_blocked(server.stop, 2)
                with pytest.raises(TimeoutError, match="connection 1: at the TLS handshake"):
                    server.wait_for("handshake", timeout=0)
            with connect(server):
                server.wait_for("handshake")

    def test_plain_client(self):
        """A client that does not speak TLS is no failure."""
        with FaultServer(HELLO, tls=True) as server:
            try:
                talk(server)
            except ConnectionResetError:
                pass
            ended(server)

    def test_at_each_check(self):
        """Wherever a client is stopped, the server does not fail."""
        with FaultServer([steps.stall_handshake(), *HELLO], HELLO, tls=True) as server:
            context = server.client_context()
            context.sslsocket_class = sockets.SSLSocket
            with connect_later(server):
                for n in range(1, 100):
                    try:
                        with sockets.create_connection(server.address, stop=StopAfter(n)) as sock:
                            with context.wrap_socket(sock, server_hostname="127.0.0.1") as encrypted:
                                encrypted.sendall(GET)
                                assert receive(encrypted).endswith(b"hello")
                        break
                    except Interrupted:
                        pass
            assert 5 < n < 99


def connect_later(server: FaultServer):
    """A first connection, which takes the first script."""
    sock = socket.create_connection(server.address)
    while server.connections < 1:
        threading.Event().wait(0.001)
    return sock


class TestDetails:
    """Forks, contexts, counts, and requests at the edge of HTTP."""

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_the_file_belongs_to_the_parent(self):
        """A forked child that closes the server leaves the file of the certificate, and one that is gone is no error."""
        with FaultServer(HELLO, tls=True) as server:
            path = server.ca_file
            child = os.fork()
            if child == 0:
                server.close()
                os._exit(0)
            os.waitpid(child, 0)
            assert os.path.exists(path)
            os.unlink(path)

    def test_a_context_for_clients(self):
        """It is refused when the server is made."""
        with pytest.raises(ValueError, match="a context for clients"):
            FaultServer(HELLO, tls=ssl.create_default_context())

    def test_counts_and_servers_that_cannot_be_waited_for(self):
        """Less than one time is refused, and so is a server that has not been started."""
        server = FaultServer(HELLO)
        with pytest.raises(RuntimeError, match="has not been started"):
            server.wait_for("expect")
        with pytest.raises(ValueError, match="1 or more, not 0"):
            server.wait_for("expect", 0)
        with pytest.raises(ValueError, match="1 or more, not -1"):
            wait_until_blocked(server.stop, -1)
        with pytest.raises(TypeError, match="must be an int, not float"):
            wait_until_blocked(server.stop, 1.5)

    def test_an_empty_line_before_a_request(self):
        """It is passed over (RFC 9112, 2.2)."""
        with FaultServer(HELLO) as server, sockets.create_connection(server.address) as client:
            client.sendall(b"\r\nGET / HTTP/1.1\r\n\r\n")
            server.wait_for("expect")
            assert server.requests[0].method == "GET"

    def test_a_negative_chunk(self):
        """It is no request of HTTP, and the failure says what came."""
        with pytest.raises(AssertionError, match=r"sent b'-5.*where the size of a chunk should be"):
            with FaultServer(HELLO) as server, sockets.create_connection(server.address) as client:
                client.sendall(b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n")
                server.wait_for("expect")
