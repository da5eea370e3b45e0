"""Threads that are interrupted, alone and as a group, while they receive; another thread then goes on with the same socket."""

from __future__ import annotations

import contextlib
import functools
import socket
import time
from dataclasses import dataclass, field
from typing import Any

from iointerrupt import Interrupted, StopEvent, sockets
from iointerrupt.threads import Thread, ThreadGroup
from tests.stress.over_sockets import sendall
from tests.stress.rounds import Round
from tests.stress.stops import Stops
from tests.stress.streams import Place, Writer, taken

_CHANNELS = 3

# Bytes that one thread is to receive.
_WORK = (1000, 50_000, 200_000)


@dataclass
class _Channel:
    """What arrives on a socket, in one thread after the other.

    Attributes:
        sock: the socket.
        place: how far it has come.
        stopped: what the last thread was stopped by, if it was.
        failure: what else went wrong in it.
    """

    sock: Any
    place: Place = field(default_factory=Place)
    stopped: Interrupted | None = None
    failure: BaseException | None = None

    def receive(self, size: int) -> None:
        """Receive so many bytes, in a thread that may be interrupted."""
        self.stopped = None
        try:
            self.place.arrive(sockets.recv_exactly(self.sock, size))
        except sockets.IncompleteRead as end:  # the writer has had enough
            self.place.arrive(end.partial)
        except Interrupted as stopped:
            self.stopped = stopped
            self.place.arrive(taken(stopped))
            raise
        except BaseException as error:
            self.failure = error
            raise

    def drain(self) -> None:
        """Receive what is left."""
        while data := self.sock.recv(100_000):
            self.place.arrive(data)


def of_threads(one: Round) -> None:
    """Writers, which are stopped too, write to channels, on which threads receive that are interrupted."""
    with contextlib.ExitStack() as scope:
        pairs = [sockets.socketpair() for _ in range(_CHANNELS)]
        channels = [_Channel(scope.enter_context(far)) for _, far in pairs]
        writers = [
            Writer(one.stops(), scope.enter_context(near), {"sendall": sendall}, owner=near) for near, _ in pairs
        ]
        in_groups = one.rng.random() < 0.5

        def send(writer: Writer) -> None:
            writer.run()
            writer.target.shutdown(socket.SHUT_WR)

        def hang_up() -> None:
            for pair in pairs:
                for sock in pair:
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)

        if in_groups:
            readers = [functools.partial(_as_a_group, one.stops(), channels)]
        else:
            readers = [functools.partial(_alone, one.stops(), channel) for channel in channels]
        one.run(*(functools.partial(send, writer) for writer in writers), *readers, abort=hang_up)
        for channel, writer in zip(channels, writers, strict=True):
            assert channel.place.position == writer.place.position


def _alone(stops: Stops, channel: _Channel) -> None:
    limits = stops.limits["Thread.interrupt"]
    while not stops.allowance.used_up():
        reason = object()
        thread = Thread(target=channel.receive, args=(stops.rng.choice(_WORK),))
        if is_early := stops.rng.random() < 0.05:
            thread.interrupt(reason)
        begin = channel.place.position
        thread.start()
        if not is_early:
            stops.alarm.after(stops.rng.random() * limits.time, functools.partial(thread.interrupt, reason))
        thread.join()
        _count(stops, channel, begin, thread.stop, "Thread.interrupt")
        assert channel.stopped is None or channel.stopped.reason is reason
    channel.drain()


def _as_a_group(stops: Stops, channels: list[_Channel]) -> None:
    limits = stops.limits["ThreadGroup.stop"]
    while not stops.allowance.used_up():
        begins = [channel.place.position for channel in channels]
        try:
            with ThreadGroup() as group:
                for channel in channels:
                    group.start(channel.receive, stops.rng.choice(_WORK))
                time.sleep(stops.rng.random() * limits.time)
                stragglers = group.stop(timeout=20)
                assert not stragglers, f"did not stop: {stragglers}"
        except* Interrupted:
            pass
        for channel, begin in zip(channels, begins, strict=True):
            _count(stops, channel, begin, group.event, "ThreadGroup.stop")
    for channel in channels:
        channel.drain()


def _count(stops: Stops, channel: _Channel, begin: int, stop: StopEvent, name: str) -> None:
    if channel.failure is not None:
        raise channel.failure
    stops.allowance.take()
    moved = channel.place.position - begin
    stops.tally.checked += moved
    if channel.stopped is None:
        stops.tally.after += 1
        stops.limits[name].was_late(by_time=True)
    else:
        assert stop.is_set()
        stops.tally.within += 1
        stops.limits[name].was_early(by_time=True)
