"""`FaultServer`: a loopback server that does, step by step, what a test tells it.

What a script may say is decided in `_script`, what its steps do is in `steps`, and how they are run on a connection in
`_connection`. Here are the life of the server and what it tells the test.

One thread accepts, and each connection has one of its own. Everything in them blocks on `FaultServer.stop`, so that setting
it ends them all, wherever they are. `_changed`, a condition, guards what they and the test share: the counts, the requests,
the connections with their outcomes, the failures, and the stalls that `resume` ends. Nothing that can block or that belongs to
a test runs under it; a stall is registered and counted at once, so that who has seen the count can resume it.
"""

from __future__ import annotations

import errno
import os
import secrets
import ssl
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

from iointerrupt import sockets
from iointerrupt._calls.locks import wait_for
from iointerrupt._errors import Interrupted
from iointerrupt._signal.threads import own_thread
from iointerrupt._stop import StopEvent, check_timeout
from iointerrupt._wait import READ, wait_ready
from iointerrupt.testing._certificates import credentials
from iointerrupt.testing._connection import ClientGone, Connection
from iointerrupt.testing._messages import Request
from iointerrupt.testing._script import check_scripts, kind, names
from iointerrupt.testing._step import Script

_HOST = "127.0.0.1"
_BACKLOG = 128
_JOIN_SECONDS = 10.0


class FaultServer:
    """A server on the loopback that runs a script for each connection: HTTP, HTTPS, or any other protocol over TCP.

        script = [steps.expect("GET", "/file"), steps.head(200, length=10), steps.send(b"hello"), steps.stall()]
        with FaultServer(script) as server:
            running = Background(download, f"{server.url}/file", path, stop=stop)
            server.wait_for("stall")  # half of the file has been sent

    Args:
        *scripts: lists of steps (`iointerrupt.testing.steps`), or of callables that take the `Connection`. With one script,
            it serves every connection; with several, the first connection gets the first one, and so on, and all
            connections that follow get the last.
        tls: True to speak TLS with a certificate for 127.0.0.1 and localhost (see `ca_file` and `client_context`), made by
            `trustme`; or a context for servers of your own.
        port: the port; 0 for a free one.

    Attributes:
        stop: the `StopEvent` that everything in the server blocks on; it is set when the block ends.

    Raises:
        TypeError: something in a script is no step, or an argument is of a wrong type.
        ValueError: the steps are in an order in which they cannot be done; there is no script; the port is none.

    A context manager, which runs the server in its block, once. When the block ends, however it does, the server is gone: its
    threads have ended and its sockets are closed. If a connection has failed, because a request was not the expected one or a
    callable in a script raised, its error is raised at the end of the block, or added as a note to the error that the block
    itself raised. A client that goes away is no failure. What a client has sent just before the end of the block may not
    have been looked at: `wait_for("expect")` makes sure that it has.

    Its methods may be called from any thread.
    """

    def __init__(self, *scripts: Script, tls: bool | ssl.SSLContext = False, port: int = 0) -> None:
        _check_tls(tls)
        if isinstance(port, bool) or not isinstance(port, int):
            raise TypeError(f"port must be an int, not {type(port).__name__}")
        if not 0 <= port <= 65535:
            raise ValueError(f"port must be 0 to 65535, not {port}")
        self._scripts = check_scripts(scripts, tls=tls is not False)
        self._names = names(self._scripts)
        if tls is not False and self._names is not None:
            self._names.add("handshake")
        self._tls = tls
        self._context: ssl.SSLContext | None = None
        self._asked_port = port
        self._address: tuple[str, int] | None = None
        self._listener: Any = None
        self._filler: Any = None  # what keeps the queue of connections full
        self._was_entered = False
        self._ca_file: str | None = None
        self._threads: list[threading.Thread] = []
        self._pid = os.getpid()
        self.stop: StopEvent = StopEvent()
        self._changed = threading.Condition()
        self._counts: Counter[str] = Counter()
        self._requests: list[Request] = []
        self._connections: list[Connection] = []
        self._outcomes: dict[Connection, str] = {}
        self._failures: list[BaseException] = []
        self._stalls: set[StopEvent] = set()

    # Where it is

    @property
    def address(self) -> tuple[str, int]:
        """Host and port.

        Raises:
            RuntimeError: the server has not been started. So do `port`, `url` and `ca_file`.
        """
        if self._address is None:
            raise RuntimeError("the FaultServer has not been started: use it in a with block")
        return self._address

    @property
    def port(self) -> int:
        """The port."""
        return self.address[1]

    @property
    def url(self) -> str:
        """The URL, without a slash at its end."""
        return f"http{'s' if self._tls else ''}://{_HOST}:{self.port}"

    @property
    def ca_file(self) -> str:
        """With `tls=True`, the path of a file for the `verify=` of requests; it is removed when the block ends."""
        self.address  # noqa: B018 - raises if there is no server
        pem = self._ca_pem()
        with self._changed:
            if self._ca_file is None:
                self.stop.raise_if_set()  # nobody would remove it
                # Its name is known before it is there, so that it is removed in any case.
                self._ca_file = os.path.join(tempfile.gettempdir(), f"fault-server-{secrets.token_hex(8)}.pem")
                with open(self._ca_file, "x", encoding="ascii") as file:
                    file.write(pem)
            return self._ca_file

    def client_context(self) -> ssl.SSLContext:
        """With `tls=True`, a new context for clients that trusts the server."""
        return ssl.create_default_context(cadata=self._ca_pem())

    def _ca_pem(self) -> str:
        if self._tls is not True:
            raise RuntimeError(
                f"the FaultServer has no certificate of its own with tls={self._tls!r}: that takes tls=True"
            )
        return credentials().ca_pem

    # What has happened

    @property
    def connections(self) -> int:
        """How many connections have been accepted."""
        return len(self._connections)

    @property
    def requests(self) -> list[Request]:
        """The requests that have been read, in order."""
        with self._changed:
            return list(self._requests)

    def wait_for(self, name: str, n: int = 1, *, timeout: float = 10.0) -> None:
        """Block until steps of that name have been reached `n` times, on all connections together.

        Args:
            name: of a step, as `"send"`, or of a `steps.mark`. A step is reached when it has been done; a stall when it
                begins, with all before it done.
            n: how many times since the start of the server.
            timeout: seconds after which to give up.

        Raises:
            ValueError: no script has such a step, or `n` is less than 1.
            RuntimeError: the server has not been started.
            TimeoutError: it has not come to that; the message says where each connection stands.
            Interrupted: the current stop was set, or the server's.
            BaseException: the failure of a connection, at once.
        """
        if self._names is not None and name not in self._names:
            raise ValueError(f"no script has a step or a mark {name!r}: there are {', '.join(sorted(self._names))}")
        if isinstance(n, bool) or not isinstance(n, int):
            raise TypeError(f"n must be an int, not {type(n).__name__}")
        if n < 1:
            raise ValueError(f"n must be 1 or more, not {n}")
        check_timeout(timeout)
        self.address  # noqa: B018 - raises if there is no server
        with self._changed:
            try:
                if not self._has_come_to(name, n):  # else the server may have ended by now
                    wait_for(self._changed, lambda: self._has_come_to(name, n), stop=self.stop, timeout=timeout)
                failure = self._failures[0] if self._failures else None
                late = None
            except TimeoutError:
                failure, late = None, self._counts[name]
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # its traceback refers to this frame
        if late is not None:
            raise TimeoutError(f"{name!r} was reached {late} of {n} times after {timeout:g} s.\n{self._where()}")

    def resume(self) -> None:
        """Let every stall that has begun go on with the next step; later ones stall."""
        with self._changed:
            stalls, self._stalls = self._stalls, set()
        for stall in stalls:
            stall.set("resumed")

    def __repr__(self) -> str:
        state = "not started" if self._address is None else "closed" if self.stop.is_set() else self.url
        return f"<FaultServer {state}>"

    def _has_come_to(self, name: str, n: int) -> bool:
        return bool(self._failures) or self._counts[name] >= n

    def _where(self) -> str:
        """Where each connection stands."""
        with self._changed:
            outcomes = [(connection, self._outcomes.get(connection)) for connection in self._connections]
        if not outcomes:
            return "There was no connection."
        return "\n".join(
            f"connection {connection.number}: {outcome or f'at {connection._where()}'}"
            for connection, outcome in outcomes
        )

    # What connections tell

    def _count(self, name: str) -> None:
        with self._changed:
            self._counts[name] += 1
            self._changed.notify_all()

    def _add_request(self, request: Request) -> None:
        with self._changed:
            self._requests.append(request)

    @contextmanager
    def _stalled(self, name: str) -> Iterator[StopEvent]:
        """The block in which something stalls; gives the event that `resume` sets."""
        resumed = StopEvent()
        with self._changed:
            self._stalls.add(resumed)
            self._counts[name] += 1
            self._changed.notify_all()
        try:
            yield resumed
        finally:
            with self._changed:
                self._stalls.discard(resumed)

    def _fail(self, error: BaseException, where: str) -> None:
        error.add_note(f"in {where}")
        with self._changed:
            self._failures.append(error)
            self._changed.notify_all()

    # Its life

    def __enter__(self) -> Self:
        if self._was_entered:
            raise RuntimeError("a FaultServer runs once: make another one")
        self._was_entered = True
        try:
            self._start()
            return self  # within the try, since a Ctrl-C can come as late as here
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except AssertionError:
            raise
        except BaseException:
            self.close()  # a Ctrl-C came meanwhile
            raise
        finally:
            failures, self._failures = self._failures, []  # their frames refer to the server
            if error is not None:
                for failure in failures:
                    if failure is not error:
                        error.add_note(f"{self!r} failed as well: {_said(failure)}")
        if error is None and failures:
            first, *others = failures
            for other in others:
                first.add_note(f"and another failure: {_said(other)}")
            try:
                raise first
            finally:
                del first, failures, others  # as above

    def close(self) -> None:
        """End the server, as the end of its block does, but without raising the failures of connections. Idempotent.

        Raises:
            AssertionError: a thread has not ended within ten seconds, as what a callable does in it knows no stop; the
                message says where it stands.
        """
        self.stop.set("the FaultServer has been closed")
        try:
            self._join()
        finally:
            for sock in (self._listener, self._filler):
                if sock is not None:
                    sock.close()
            with self._changed:
                path, self._ca_file = self._ca_file, None
            if path is not None and os.getpid() == self._pid:  # and not in a child, whose parent needs it
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def _start(self) -> None:
        if self._tls is True:
            self._context = credentials().context
        elif self._tls is not False:
            self._context = self._tls
        stalls = kind(self._scripts[0][0]) == "stall_connect" if self._scripts[0] else False
        try:
            self._listener = sockets.create_server(
                (_HOST, self._asked_port), backlog=0 if stalls else _BACKLOG, stop=self.stop
            )
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            raise OSError(
                errno.EADDRINUSE,
                f"port {self._asked_port} is taken: another test, or another process that runs tests, may have it at the"
                " same time. Leave port= out for a free one",
            ) from None
        self._address = self._listener.getsockname()
        if stalls:
            self._fill_queue()
        self._run_in_thread(f"fault-server-{self.port}", partial(self._accept, stalls=stalls))

    def _join(self) -> None:
        deadline = time.monotonic() + _JOIN_SECONDS
        for thread in self._threads:  # the first one, which accepts, adds to them until it has ended
            # One that a Ctrl-C has met in its start may be about to run, and then ends at its first step.
            if thread is threading.current_thread() or not thread.is_alive():
                continue
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise AssertionError(f"{thread.name} is still blocked after {_JOIN_SECONDS:g} s:\n{_stack(thread)}")

    def _run_in_thread(self, name: str, function: Callable[..., object], *args: object) -> None:
        thread = own_thread(name, function, *args)
        self._threads.append(thread)  # before it starts, so that it is joined even if a Ctrl-C comes meanwhile
        thread.start()

    def _accept(self, *, stalls: bool) -> None:
        try:
            if stalls:
                self._stall_connects()
            while True:
                self._accept_one()
        except Interrupted:
            pass
        except BaseException as error:  # noqa: BLE001 - it is raised in the test
            self._fail(error, f"the thread that accepts connections for {self!r}")

    def _accept_one(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except ConnectionAbortedError:  # before it was accepted
            return
        connection = Connection(self, len(self._connections) + 1, sock)
        script = self._scripts[min(connection.number, len(self._scripts)) - 1]
        with self._changed:
            self._connections.append(connection)
        try:
            self._run_in_thread(f"fault-server-{self.port}-{connection.number}", self._serve, connection, script)
        except BaseException:
            connection._drop()
            raise

    def _fill_queue(self) -> None:
        # A queue of length 0 takes one connection; the next one's SYN is dropped. Once the listener is readable, that one is
        # in the queue, and not only about to be. Before the test can know the address, so that no client comes first.
        self._filler = sockets.create_connection(self.address, stop=self.stop)
        wait_ready(self._listener.fileno(), READ, self.stop)

    def _stall_connects(self) -> None:
        with self._stalled("stall_connect") as resumed:
            StopEvent(self.stop, resumed).wait()
        self.stop.raise_if_set()
        self._listener.listen(_BACKLOG)
        filled, _ = self._listener.accept()
        filled.close()
        self._filler.close()

    def _serve(self, connection: Connection, script: Script) -> None:
        outcome = "closed"
        try:
            connection._serve(script, self._context)
        except ClientGone as error:
            outcome = str(error)
        except BaseException as error:  # noqa: BLE001 - it is raised in the test
            if self._is_ordinary(error):
                outcome = f"ended by {type(error).__name__}: {error}"
            else:
                outcome = f"failed with {type(error).__name__}: {error}"
                self._fail(error, f"connection {connection.number}, at {connection._where()}")
        finally:
            connection._drop()
            with self._changed:
                self._outcomes[connection] = outcome
                self._changed.notify_all()

    def _is_ordinary(self, error: BaseException) -> bool:
        """Whether it is how a connection ends when the client goes away, or the server."""
        return isinstance(error, ConnectionError | ssl.SSLError) or (
            isinstance(error, Interrupted) and self.stop.is_set()
        )


def _check_tls(tls: object) -> None:
    if not isinstance(tls, bool | ssl.SSLContext):
        raise TypeError(f"tls must be True, False or an ssl.SSLContext, not {type(tls).__name__}")
    if isinstance(tls, ssl.SSLContext) and tls.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError("tls is a context for clients: a server takes one of ssl.PROTOCOL_TLS_SERVER, or tls=True")


def _said(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).rstrip()


def _stack(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    return "it has just ended" if frame is None else "".join(traceback.format_stack(frame))
