"""`Scene`: a `FaultServer` that plays a fault until it is mended, sets a stop in the middle of it, and notes who reuses what.

Each request for `/fault` meets the fault, on whatever connection it comes, until `mend`; one for any other path gets the file. What a
fault does before the first request (`Fault.opening`) it does on the first connection alone. On a raw stream the client sends
`REQUEST`, and gets what is left of the fault without the heads of HTTP.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from iointerrupt import StopEvent
from iointerrupt.testing import Connection, FaultServer, steps, wait_until_blocked
from tests.matrix.faults import BEHIND, BODY, ETAG, NOW, UPLOAD, Action, Fault, Phase

#: What a client of a raw stream sends first.
REQUEST = b"the body, please"

#: Seconds without a byte after which a client is to give up, and the same for one that is never to.
SHORT, LONG = 0.06, 20.0

#: What is given as the reason of a stop.
REASON = "enough"


class Scene:
    """A server with a fault, and what a client of it goes by. A context manager, for as long as the server runs.

    Args:
        fault: what the server does.
        tls: whether it speaks TLS.
        is_raw: whether the client speaks no HTTP.
        begins_at_body: whether the client can be stopped only from the head on.
        stops: whether there is to be a stop.
        is_timed: whether the client is to give up early.

    Attributes:
        server: the `FaultServer`.
        stop: what stops the client, until the scene is `mended`.
        seconds: for the client to wait without a byte in the phase of the fault, until that is mended.
    """

    def __init__(
        self, fault: Fault, *, tls: bool, is_raw: bool, begins_at_body: bool, stops: bool, is_timed: bool
    ) -> None:
        self.fault, self.tls, self.is_raw = fault, tls, is_raw
        self.stop = StopEvent()
        self.seconds = SHORT if is_timed and fault.stalls else LONG
        self._stops, self._begins_at_body = stops, begins_at_body
        self._lock = threading.Lock()
        self._is_mended = False
        self._damaged: set[int] = set()  # connections that have seen a fault; guarded by the lock, as is the next
        self._reused: list[str] = []
        self.server = FaultServer(*(self._raw_scripts() if is_raw else self._scripts()), tls=tls)

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)

    @property
    def url(self) -> str:
        """Where the fault is."""
        return f"{self.server.url}/fault"

    @property
    def good_url(self) -> str:
        """Where there is none."""
        return f"{self.server.url}/good"

    @property
    def request(self) -> bytes:
        """What a client sends first; so much, where the fault is in that, that it does not fit into the buffers."""
        if self.fault.phase is Phase.UPLOAD:
            return UPLOAD
        return REQUEST if self.is_raw else b""

    def mend(self, *, is_complete: bool) -> None:
        """Have no fault any more, let what stalls go on, and take the stop away.

        Args:
            is_complete: whether the client has all; then the server is about to be done, too, and it is waited for: a
                connection that it closes only now might be used again.
        """
        if is_complete and self.fault.answer and not self.is_raw:
            self.server.wait_for("played")
        with self._lock:
            self._is_mended = True
            self.seconds = LONG
            self.stop = StopEvent()
        self.server.resume()
        if self.fault.phase is Phase.CONNECT:
            _wait_for_accept(self.server.address)

    def check_connections(self) -> None:
        """Check that no connection was used again that had seen the fault."""
        assert not self._reused, f"used again behind a fault: {self._reused}"

    # What the server does

    def _scripts(self) -> tuple[steps.Script, ...]:
        each = steps.repeat(steps.expect(read_body=self.fault.reads_body), self._reply)
        return [*self._opening(), each], [each]

    def _raw_scripts(self) -> tuple[steps.Script, ...]:
        upload = self.fault.phase is Phase.UPLOAD
        rest: list[Any] = [*([] if upload else [steps.expect_bytes(REQUEST)]), self._stream]
        return [*self._opening(), *rest], rest

    def _opening(self) -> list[Any]:
        return [self._at_the_moment if step is NOW else step for step in self.fault.opening]

    def _reply(self, connection: Connection) -> None:
        request = connection.request
        assert request is not None
        with self._lock:
            is_good = self._is_mended or request.path == "/good" or not self.fault.answer
            if connection.number in self._damaged and request.path != BEHIND:
                self._reused.append(f"connection {connection.number} for {request.path}")
            if self._is_damaged_by(connection, is_good=is_good):
                self._damaged.add(connection.number)
        if is_good:
            later = self.fault.later
            steps.serve(later, etag=ETAG if later == BODY else '"v2"').run(connection)
        else:
            try:
                self._run(self.fault.answer, connection)
            finally:
                connection.mark("played")

    def _is_damaged_by(self, connection: Connection, *, is_good: bool) -> bool:
        """Whether the connection is of no use behind the request that has come."""
        fault = self.fault
        if is_good:
            return bool(fault.opening) and fault.phase is not Phase.CONNECT and connection.number == 1
        return not fault.keeps or (self._stops and not fault.stalls)

    def _stream(self, connection: Connection) -> None:
        answer = self.fault.answer or (steps.send(BODY),)
        self._run([_without_head(step) for step in answer if not isinstance(step, steps.head)], connection)

    def _run(self, actions: Sequence[Action], connection: Connection) -> None:
        for number, action in enumerate(actions):
            if action is NOW:
                self._at_the_moment(
                    connection, has_begun=any(isinstance(done, steps.head) for done in actions[:number])
                )
            elif isinstance(action, steps.Step):
                action.run(connection)
                if isinstance(action, steps.close):
                    connection.mark("played")
                    _drain(connection)
            else:
                action(connection)

    def _at_the_moment(self, connection: Connection, *, has_begun: bool = False) -> None:
        with self._lock:
            stop = None if self._is_mended or not self._stops else self.stop
        if stop is not None:
            # What the client is in the middle of may come to its end, so it has to wait; unless it cannot be stopped yet.
            if has_begun or not self._begins_at_body:
                _wait_for_client(stop, connection)
            stop.set(REASON)
        connection.mark("now")


def _wait_for_client(stop: StopEvent, connection: Connection) -> None:
    """Wait until the client waits, or has been stopped: one that asks twice meets the fault on two connections."""
    while not stop.is_set():
        connection.server.stop.raise_if_set()
        with suppress(TimeoutError):
            wait_until_blocked(stop, timeout=0.1)
            return


def _drain(connection: Connection) -> None:
    """End a script behind its `close`, when the client has closed the connection too."""
    while connection.sock.recv(65536):
        pass
    raise ConnectionAbortedError("the server has closed the connection")


def _without_head(step: Action) -> Action:
    return steps.send(BODY) if isinstance(step, steps.answer) else step


def _wait_for_accept(address: tuple[str, int]) -> None:
    """Wait until the queue of connections has room again: the attempt of a client that comes sooner is repeated after a second."""
    while True:
        try:
            with socket.create_connection(address, 0.02):
                return
        except TimeoutError:
            time.sleep(0.001)
