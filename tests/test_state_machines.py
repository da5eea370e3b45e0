"""Random sequences of calls, each compared with a simple model: a stop, and a pair of sockets.

`FUZZ=100` in the environment makes it a hundred times as many (`make fuzz`).
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import socket
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, as_stop, calls, current_stop, sockets, use_stop
from iointerrupt.testing import StopAfter
from tests.fuzzing import FACTOR, fuzz
from tests.stress.streams import Place


@dataclass(eq=False)
class Stop:
    """A stop, and what it should be.

    Attributes:
        event: the real one.
        parents: of it.
        source: the foreign event that it follows, if it does.
        limit: seconds after which it is set; 0 or a long time.
        is_set: whether it should be.
        reason: why.
        overdue: whether it was a deadline.
        pending: the callbacks that have still to run.
    """

    event: StopEvent
    parents: list[Stop] = field(default_factory=list)
    source: threading.Event | None = None
    limit: float | None = None
    is_set: bool = False
    reason: object = None
    overdue: bool = False
    pending: list[Callback] = field(default_factory=list)


@dataclass(eq=False)
class Callback:
    """What is called at a stop: once, or not at all."""

    registration: Any = None
    ran: threading.Event = field(default_factory=threading.Event)
    count: int = 0
    should_have_run: bool = False

    def __call__(self) -> None:
        self.count += 1
        self.ran.set()


class StopEventMachine(RuleBasedStateMachine):
    """Stops with parents, children, deadlines, foreign sources, callbacks, and as the current stop."""

    stops = Bundle("stops")
    callbacks = Bundle("callbacks")

    def __init__(self) -> None:
        super().__init__()
        self.all: list[Stop] = []
        self.every_callback: list[Callback] = []
        self.current: list[Stop | None] = [None]
        self.scopes: list[contextlib.ExitStack] = []

    # What happens

    @rule(target=stops, parents=st.lists(stops, max_size=3), limit=st.sampled_from([None, None, None, 0, 1000]))
    def make(self, parents: list[Stop], limit: float | None) -> Stop:
        """A stop, below others, or with a deadline that has passed or is far away."""
        made = Stop(StopEvent(*(parent.event for parent in parents), timeout=limit), parents, limit=limit)
        self.all.append(made)
        for parent in parents:
            if parent.is_set:
                self._becomes_set(made, parent.reason, overdue=parent.overdue)
        if limit == 0:
            self._becomes_set(made, "deadline of 0 s exceeded", overdue=True)
        return made

    @rule(target=stops)
    def follow(self) -> Stop:
        """One that follows an event of the standard library."""
        source = threading.Event()
        event = as_stop(source)
        assert event is not None
        made = Stop(event, source=source)
        self.all.append(made)
        return made

    @rule(stop=stops, reason=st.sampled_from(["one", "another", None]))
    def set(self, stop: Stop, reason: str | None) -> None:
        """Set it, by its source if it follows one."""
        if stop.source is not None:
            stop.source.set()
            reason = None
        else:
            stop.event.set(reason)
        self._becomes_set(stop, reason)

    @rule(stop=stops)
    def clear(self, stop: Stop) -> None:
        """Clear it, where that is possible; those below stay set."""
        if stop.source is not None:
            # Who watches a source tells of a set in a thread of its own, and may do so when that has been cleared again.
            return
        if stop.parents or stop.limit is not None:
            with pytest.raises(RuntimeError):
                stop.event.clear()
            return
        stop.event.clear()
        stop.is_set, stop.reason, stop.overdue = False, None, False

    @rule(target=callbacks, stop=stops)
    def on_set(self, stop: Stop) -> Callback:
        """Leave a callback, which runs at once where the stop is set."""
        callback = Callback()
        self.every_callback.append(callback)
        callback.should_have_run = stop.is_set
        if not stop.is_set:
            stop.pending.append(callback)
        callback.registration = stop.event.on_set(callback)
        return callback

    @rule(callback=consumes(callbacks))
    def cancel(self, callback: Callback) -> None:
        """Take it back; it does not run any more."""
        callback.registration.cancel()
        for stop in self.all:
            if callback in stop.pending:
                stop.pending.remove(callback)

    @rule(stop=st.none() | stops)
    def enter(self, stop: Stop | None) -> None:
        """Make it the current stop, or shield from that."""
        scope = contextlib.ExitStack()
        scope.enter_context(use_stop(None if stop is None else stop.event))
        self.scopes.append(scope)
        self.current.append(stop)

    @precondition(lambda self: self.scopes)
    @rule()
    def leave(self) -> None:
        """Have the one before again."""
        self.scopes.pop().close()
        self.current.pop()

    @rule(stop=consumes(stops))
    def drop(self, stop: Stop) -> None:
        """Refer to it no more, unless something else does: its children, who follow it, and its callbacks, who wait."""
        if any(stop in other.parents for other in self.all) or stop.pending or stop in self.current:
            return
        self.all.remove(stop)

    # What is then so

    @invariant()
    def agrees(self) -> None:
        """Each is set as it should be, by whatever it is asked."""
        for stop in self.all:
            event = stop.event
            assert event.is_set() == event.wait(0) == stop.is_set, stop
            assert event.reason == stop.reason
            readable = select.select([event], [], [], 0)[0] if event._public is not None else [event] * stop.is_set
            assert readable == [event] * stop.is_set
            self._raises(stop, event.raise_if_set)
            self._raises(stop, lambda event=event: event.sleep(0))

    @invariant()
    def callbacks_agree(self) -> None:
        """Each callback has run once, if its stop was set while it was there."""
        for callback in self.every_callback:
            if callback.should_have_run:
                assert callback.ran.wait(10), "a callback has not run"
            assert callback.count == callback.should_have_run

    @invariant()
    def current_agrees(self) -> None:
        """The current stop is the innermost one, and operations look at it."""
        stop = self.current[-1]
        assert current_stop() is (None if stop is None else stop.event)
        if stop is None:
            calls.sleep(0)
        else:
            self._raises(stop, lambda: calls.sleep(0))

    @rule(stop=stops)
    def take_descriptor(self, stop: Stop) -> None:
        """From here on, its descriptor is looked at as well."""
        stop.event.fileno()

    def _raises(self, stop: Stop, operation: Any) -> None:
        if not stop.is_set:
            operation()
            return
        with pytest.raises(Interrupted) as caught:
            operation()
        assert caught.value.reason == stop.reason
        assert isinstance(caught.value, DeadlineExceeded) == stop.overdue

    def _becomes_set(self, stop: Stop, reason: object, *, overdue: bool = False) -> None:
        family = [stop]
        for one in family:
            if not one.is_set:
                one.is_set, one.reason, one.overdue = True, reason, overdue
                for callback in one.pending:
                    callback.should_have_run = True
                one.pending.clear()
            family += [other for other in self.all if one in other.parents and other not in family]

    def teardown(self) -> None:
        for scope in reversed(self.scopes):
            scope.close()
        for callback in self.every_callback:
            callback.registration.cancel()
        self.all.clear()
        gc.collect()


class SocketMachine(RuleBasedStateMachine):
    """Two connected sockets, whose calls are stopped or run into their timeout, beside what is under way between them."""

    sides = st.sampled_from([0, 1])
    sizes = st.sampled_from([1, 10, 1000, 70_000])

    def __init__(self) -> None:
        super().__init__()
        self.pair = sockets.socketpair()
        for sock in self.pair:
            sock.settimeout(0.001)
        self.sent, self.received = [Place(), Place()], [Place(), Place()]  # by side that has done it
        self.ended = [False, False]  # side sends no more
        self.stopped = [False, False]  # side has its own stop set

    def under_way(self, side: int) -> int:
        """How many bytes have been sent to a side, and not received."""
        return self.sent[1 - side].position - self.received[side].position

    # Stops and timeouts

    @rule(side=sides, kind=st.sampled_from(["set", "none", "deadline"]))
    def give_stop(self, side: int, kind: str) -> None:
        """Give one side another stop of its own."""
        stop = None if kind == "none" else StopEvent(timeout=0 if kind == "deadline" else None)
        if kind == "set":
            assert stop is not None
            stop.set()
        self.pair[side].stop = stop
        self.stopped[side] = kind != "none"

    @rule(side=sides, seconds=st.sampled_from([0.0, 0.001, 0.002]))
    def set_timeout(self, side: int, seconds: float) -> None:
        """Give it another timeout; with 0 it does not wait."""
        self.pair[side].settimeout(seconds)
        assert self.pair[side].gettimeout() == seconds

    # Sending

    @rule(
        side=sides, size=sizes, way=st.sampled_from(["send", "sendall", "sendmsg"]), check=st.integers(1, 5) | st.none()
    )
    def send(self, side: int, size: int, way: str, check: int | None) -> None:
        """Send; what is said to have been sent is under way."""
        sock: Any = self.pair[side]
        data = self.sent[side].upcoming(size)
        stop = None if check is None else StopAfter(check)
        try:
            with use_stop(stop):
                count = sock.sendmsg([data[:5], data[5:]]) if way == "sendmsg" else getattr(sock, way)(data)
            sent = size if way == "sendall" else count
            assert not self.stopped[side]
            assert not self.ended[side]
            assert 1 <= sent <= size
        except Interrupted as interrupted:
            sent = interrupted.transferred or 0
            assert self.stopped[side] or (stop is not None and stop._latch.fired)
            assert not (self.stopped[side] and sent)
        except sockets.SendTimeout as late:
            sent = late.transferred
        except BlockingIOError:  # and sendall does not say how much it has sent, as the standard one does not
            if way == "sendall" and not self.ended[side]:
                self._lose_count(side, size)
            return
        except TimeoutError:
            sent = 0
        except BrokenPipeError:
            assert self.ended[side]
            return
        self.sent[side].move(sent)

    def _lose_count(self, side: int, size: int) -> None:
        # What of it has been sent is all that is under way now: it is received, and counted so.
        place, sock = self.received[1 - side], self.pair[1 - side]
        with use_stop(None):
            while True:
                try:
                    data = socket.socket.recv(sock, 100_000, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    break
                place.arrive(data)
        assert 0 <= place.position - self.sent[side].position <= size
        self.sent[side].position = place.position

    # Receiving

    @rule(
        side=sides,
        size=sizes,
        way=st.sampled_from(["recv", "recv_into", "recvmsg", "exactly", "all", "chunks"]),
        check=st.integers(1, 6) | st.none(),
    )
    def receive(self, side: int, size: int, way: str, check: int | None) -> None:
        """Receive; what is delivered is what is under way, from its beginning on."""
        stop = None if check is None else StopAfter(check)
        there = self.under_way(side)
        try:
            with use_stop(stop):
                data = self._received(side, size, way)
            assert not self.stopped[side]
            assert data or self.ended[1 - side], "the end of a stream that has not ended"
            assert data or not there
        except Interrupted as interrupted:
            assert self.stopped[side] or (stop is not None and stop._latch.fired)
            assert not isinstance(interrupted.partial, str)
            data = interrupted.partial or b""
            assert not (self.stopped[side] and data)
        except sockets.IncompleteRead as end:
            data = end.partial
            assert self.ended[1 - side]
            assert len(data) == there < size
        except (TimeoutError, BlockingIOError) as late:
            data = getattr(late, "partial", b"")
            assert len(data) == there if way == "exactly" else not there
            assert not self.ended[1 - side]
        self.received[side].arrive(data)
        assert self.under_way(side) >= 0

    def _received(self, side: int, size: int, way: str) -> bytes:
        sock = self.pair[side]
        if way == "exactly":
            return sockets.recv_exactly(sock, size, timeout=0.001)
        if way == "chunks":
            return next(sockets.iter_chunks(sock, chunk_size=size, timeout=0.001), b"")
        if way == "recv_into":
            buffer = bytearray(size)
            return bytes(buffer[: sock.recv_into(buffer)])
        if way == "recvmsg":
            return sock.recvmsg(size)[0]
        return sock.recv(size, socket.MSG_WAITALL if way == "all" else 0)

    @rule(side=sides, size=sizes)
    def peek(self, side: int, size: int) -> None:
        """Look at what is under way, which takes nothing."""
        if self.stopped[side] or not self.under_way(side):
            return
        Place(self.received[side].position).arrive(self.pair[side].recv(size, socket.MSG_PEEK))

    # The end

    @precondition(lambda self: not all(self.ended))
    @rule(side=sides)
    def end(self, side: int) -> None:
        """One side sends no more; what is under way still arrives."""
        self.pair[side].shutdown(socket.SHUT_WR)
        self.ended[side] = True

    def teardown(self) -> None:
        for side, sock in enumerate(self.pair):
            sock.stop = None
            if not self.ended[side]:
                self.end(side)
        for side, sock in enumerate(self.pair):
            sock.settimeout(None)
            for chunk in sockets.iter_chunks(sock):
                self.received[side].arrive(chunk)
            assert self.under_way(side) == 0, "not all that was sent has been delivered"
        for sock in self.pair:
            sock.close()
            for operation in (lambda sock=sock: sock.recv(1), lambda sock=sock: sock.send(b"x")):
                with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                    operation()


@pytest.mark.timeout(0)
@pytest.mark.parametrize(("machine", "examples"), [(StopEventMachine, 30), (SocketMachine, 150)])
def test_agrees_with_its_model(machine, examples):
    """Whatever is done in whatever order, it is what the model says."""
    steps = 40 if FACTOR == 1 else 100
    run_state_machine_as_test(
        machine,
        settings=settings(
            fuzz(examples), stateful_step_count=steps, report_multiple_bugs=False, phases=[Phase.generate, Phase.shrink]
        ),
    )
