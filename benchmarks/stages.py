"""What a stop consists of: when, after `set()`, it has come how far.

The stages are those of any wake-up of a thread by another: the one that sets gets to the system call that wakes; the kernel
wakes the other one, on another processor, and that one gets the GIL; and its Python code makes an exception of it, and brings
that to the caller. Beside it is how long the last of them takes when nothing of it has gone cold: that is what our code costs, and
the rest is the kernel's, the processor's, and the GIL's.
"""

from __future__ import annotations

import multiprocessing
import select
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from benchmarks import latency_http
from benchmarks.latency_timing import Attempt, Ready, event_wait, time_of_stop
from iointerrupt import Interrupted, StopEvent, StopLike, _wait, http, sockets
from iointerrupt._http.body import socket_of
from iointerrupt._signal import polls, wake
from iointerrupt._sockets.base import BaseSocket

#: Seconds after `set()`, by stage.
Stages = dict[str, float]

TOLD, WRITES, WRITTEN, AWAKE, CLOSED, OUT = STAGES = (
    "watcher told",
    "about to wake",
    "has woken",
    "awake, with the GIL",
    "connection closed",
    "at the caller",
)

_KINDS: dict[str, Callable[[], Any]] = {
    "StopEvent": StopEvent,
    "threading.Event": threading.Event,
    "multiprocessing.Event": multiprocessing.Event,
}


def measure(rounds: int) -> Iterator[tuple[str, Stages]]:
    """By what is stopped: the medians of its stages, and of its last one when it is warm."""
    for name, make in _KINDS.items():
        yield f"socket receive, by a {name}", _medians(lambda: _received(make), rounds)  # noqa: B023 - called in this round
    with latency_http.answering(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345") as url:
        yield "HTTP body, by a StopEvent", _medians(lambda: _body(url), rounds)
        yield "HTTP body, warm, from awake on", _medians(lambda: _warm_body(url), 5 * rounds)
    yield "socket receive, warm, from awake on", _medians(_warm_receive, 5 * rounds)
    floor = statistics.median(time_of_stop(event_wait()) for _ in range(rounds))
    yield "threading.Event.wait", {OUT: floor}


def _medians(run: Callable[[], Stages], rounds: int) -> Stages:
    run()
    found = [run() for _ in range(rounds)]
    # A thread that only serves others may not have noted its last stage when the one that was blocked is out.
    return {
        stage: statistics.median(each[stage] for each in found if stage in each)
        for stage in STAGES
        if any(stage in each for each in found)
    }


class _Probe:
    """Notes when the stages are reached."""

    def __init__(self) -> None:
        self.moments: dict[str, float] = {}
        self.is_on = False

    def note(self, stage: str) -> None:
        if self.is_on:
            self.moments[stage] = time.perf_counter()

    @contextmanager
    def in_place(self, poll: Callable[[_Probe, Any], Any]) -> Iterator[None]:
        """In this block, the library's calls of the kernel are noted."""
        write, close = wake._write, BaseSocket._real_close

        def noted_write(fd: int) -> None:
            self.note(WRITES)
            write(fd)
            self.note(WRITTEN)

        def noted_close(sock: BaseSocket) -> None:
            close(sock)
            self.note(CLOSED)

        def new_poll() -> Any:
            return poll(self, select.poll())

        with (
            mock.patch.object(wake, "_write", noted_write),
            mock.patch.object(BaseSocket, "_real_close", noted_close),
            mock.patch.object(polls, "_new_poll", new_poll),
            mock.patch.object(_wait, "_new_poll", new_poll),
        ):
            yield

    def stages(self, began: float) -> Stages:
        return {stage: moment - began for stage, moment in self.moments.items() if moment >= began}


class _Poll:
    """A poll object that notes when it is back."""

    def __init__(self, probe: _Probe, real: Any) -> None:
        self._probe, self._real = probe, real
        self.register, self.unregister = real.register, real.unregister

    def poll(self, timeout: int | None) -> Any:
        ready = self._real.poll(timeout)
        self._probe.note(AWAKE)
        return ready


class _WarmPoll(_Poll):
    """A poll object that, when it is asked to, sets a stop itself instead of waiting for it."""

    stop: StopEvent | None = None

    def poll(self, timeout: int | None) -> Any:
        stop = _WarmPoll.stop
        if stop is None:
            return self._real.poll(timeout)
        _WarmPoll.stop = None
        stop.set()
        self._probe.note(AWAKE)
        return []


def _staged(block: Callable[[StopLike], object], stop: Any) -> Stages:
    """The stages of a stop of what blocks, in a thread of its own."""
    probe = _Probe()
    if not isinstance(stop, threading.Event):
        wait = stop.wait

        def noted_wait(timeout: float | None = None) -> bool:
            is_set: bool = wait(timeout)
            probe.note(TOLD)
            return is_set

        stop.wait = noted_wait

    def attempt(ready: Ready) -> float:
        def set_() -> None:
            probe.is_on = True
            probe.moments["began"] = time.perf_counter()
            stop.set()

        ready(set_)
        try:
            block(stop)
        except Interrupted:
            probe.note(OUT)
        return time.perf_counter()

    with probe.in_place(_Poll):
        time_of_stop(Attempt(attempt))
    began = probe.moments.pop("began")
    return probe.stages(began)


def _received(make: Callable[[], Any]) -> Stages:
    near, far = sockets.socketpair()
    with near, far:

        def block(stop: StopLike) -> None:
            near.stop = stop
            near.recv(1)

        return _staged(block, make())


def _body(url: str) -> Stages:
    with http.Session() as session:
        response = session.get(url, stream=True)
        sock: Any = socket_of(response.raw)
        chunks = http.iter_chunks(response)
        next(chunks)

        def block(stop: StopLike) -> None:
            session.stop = stop
            sock.stop = stop
            next(chunks)

        return _staged(block, StopEvent())


def _warm_receive() -> Stages:
    near, far = sockets.socketpair()
    with near, far:
        return _warm(near, lambda: near.recv(1))


def _warm_body(url: str) -> Stages:
    with http.Session() as session:
        response = session.get(url, stream=True)
        chunks = http.iter_chunks(response)
        next(chunks)
        return _warm(socket_of(response.raw), lambda: next(chunks))


def _warm(sock: Any, block: Callable[[], object]) -> Stages:
    """The stages of a stop that comes in the same thread, when the poll would begin."""
    probe = _Probe()
    with probe.in_place(_WarmPoll):
        probe.is_on = True
        _WarmPoll.stop = sock.stop = StopEvent()
        try:
            block()
        except Interrupted:
            probe.note(OUT)
    return {stage: at - probe.moments[AWAKE] for stage, at in probe.moments.items() if at > probe.moments[AWAKE]}
