"""What tests of libraries share: a call that is stuck in a thread with a stop, and is stopped; and a client for S3 that stays here."""

from __future__ import annotations

import fcntl
import functools
import socket
import termios
import threading
from collections.abc import Callable
from typing import Any

import boto3
import botocore.config

from iointerrupt import Interrupted, StopEvent, use_stop
from iointerrupt.testing import FaultServer, steps, wait_until_blocked

#: More than any socket's buffers take.
LARGE = bytes(20_000_000)

#: Takes the beginning of something large, so that who sends it is at that, and nothing more.
TAKES_A_LITTLE = [steps.read(1000), steps.stall()]


def under(stop: StopEvent | None, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function with that as the current stop."""
    with use_stop(stop):
        return function(*args)


def stop_when_stuck(
    background: Any, stop: StopEvent, stuck: Callable[[], object], function: Callable[..., Any], *args: Any
) -> Any:
    """Have a function run in a thread with a stop, which is set when it is stuck; returns what it raised.

    Args:
        background, stop: the fixtures.
        stuck: returns when the other side has done all that it will do.
        function, args: what runs.
    """
    running = background(under, stop, function, *args)
    stuck()
    wait_until_blocked(stop)
    stop.set("enough")
    return running.error()


def stop_with_server(
    background: Any,
    stop: StopEvent,
    server: FaultServer,
    function: Any,
    *args: Any,
    at: str = "stall",
    sock: socket.socket | None = None,
) -> Any:
    """`stop_when_stuck` with a server that comes to a step. Fixtures make a `stop_in(server, function, ...)` of it.

    Args:
        background, stop, function, args: as there.
        server: the server.
        at: the name of the step.
        sock: the client's, where it matters that all that the server has sent has been read.
    """

    def stuck() -> None:
        server.wait_for(at)
        if sock is not None:
            until_taken(sock)

    return stop_when_stuck(background, stop, stuck, function, *args)


def until_taken(sock: socket.socket) -> None:
    """Until the thread that reads from a socket has taken what had come. Nothing tells that, so it is asked again and again."""
    pause = threading.Event()
    for _ in range(10_000):
        if fcntl.ioctl(sock, termios.FIONREAD, bytes(4)) == bytes(4):
            return
        pause.wait(0.001)
    raise AssertionError("nobody has taken what had come")


def interruption(error: BaseException | None) -> Interrupted | None:
    """The `Interrupted` that an exception is, or that it was raised in place of."""
    while error is not None and not isinstance(error, Interrupted):
        error = error.__context__
    return error


def s3(url: str, mode: str = "legacy") -> Any:
    """A client of boto3 that knows its credentials and where to go, and asks nobody else for that.

    Args:
        url: of the server.
        mode: in which it retries, up to ten times.
    """
    config = botocore.config.Config(
        retries={"mode": mode, "total_max_attempts": 10}, proxies={}, s3={"addressing_style": "path"}
    )
    return _session().client("s3", endpoint_url=url, config=config)


@functools.cache
def _session() -> boto3.session.Session:
    return boto3.session.Session(aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1")
