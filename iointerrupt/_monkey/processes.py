"""The part `subprocess`: `Popen.wait` and `Popen.communicate`, and with them `run`, `call`, `check_output`, which a current stop ends.

The process goes on, as nobody has asked for its end; `subprocess.run` kills its own when anything is raised. What `communicate` had
read is kept, as after a timeout: calling it again goes on.
"""

from __future__ import annotations

import functools
import io
import os
import selectors
import subprocess
from contextlib import ExitStack
from typing import Any

from iointerrupt._calls.endings import wait_exit
from iointerrupt._errors import Interrupted
from iointerrupt._monkey.patches import Patch
from iointerrupt._monkey.selecting import stoppable_poll_like
from iointerrupt._monkey.timeouts import deadline, waits
from iointerrupt._stop import _current, use_stop

# Seconds; with a timeout `communicate` waits by a selector, and not in a read that nothing ends. As long as one may be.
_LONG = 1_000_000.0

_stock_select: Any = getattr(selectors, "PollSelector", selectors.SelectSelector).select


def patches() -> list[Patch]:
    """Of the part `subprocess`."""
    return [
        Patch(subprocess.Popen, "wait", _stoppable_wait),
        Patch(subprocess.Popen, "communicate", _stoppable_communicate),
        Patch(subprocess.Popen, "__exit__", _stoppable_exit),
        Patch(subprocess, "_PopenSelector", _stoppable_selector),  # also where the part `select` is not patched
    ]


def _stoppable_wait(original: Any) -> Any:
    @functools.wraps(original)
    def wait(self: subprocess.Popen[Any], timeout: float | None = None) -> int:
        if _current.get() is not None and waits(timeout) and self.poll() is None:
            try:
                wait_exit(self.pid, lambda: self.poll() is not None, None, deadline(timeout))
            except TimeoutError:
                if self.poll() is None:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            except KeyboardInterrupt:
                with use_stop(None):
                    _leave_time_for_ctrl_c(self)
                raise
        return original(self, timeout=timeout)  # type: ignore[no-any-return]  # as it is Any

    return wait


def _leave_time_for_ctrl_c(process: Any) -> None:
    """What `Popen` does where it waits itself: the child has had the Ctrl-C as well, and may be about to end by it."""
    seconds, process._sigint_wait_secs = process._sigint_wait_secs, 0
    try:
        process._wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        pass


def _stoppable_communicate(original: Any) -> Any:
    @functools.wraps(original)
    def communicate(self: subprocess.Popen[Any], input: Any = None, timeout: float | None = None) -> Any:  # noqa: A002
        if _current.get() is None or timeout is not None:
            return original(self, input, timeout)
        if (stream := _only_output(self)) is not None and (data := _take_buffered(stream)):
            # As if it had been read by an earlier call, which this one and later ones go on with.
            started: Any = self
            started._fileobj2output, started._communication_started = {stream: [data]}, True
        while True:
            try:
                return original(self, input, _LONG)
            except subprocess.TimeoutExpired:
                input = None  # noqa: A001 - it is kept

    return communicate


def _only_output(process: Any) -> Any:
    """The stream that `communicate` without a timeout would read as a file, what is in its buffer included."""
    streams = [stream for stream in (process.stdin, process.stdout, process.stderr) if stream is not None]
    is_first = not process._communication_started and len(streams) == 1 and streams[0] is not process.stdin
    return streams[0] if is_first and not streams[0].closed else None


def _take_buffered(stream: Any) -> bytes:
    """What is in the buffers of a stream, which is all that it gives while an empty pipe is in the place of its own."""
    reader = getattr(stream, "buffer", stream)
    if not isinstance(reader, io.BufferedReader):
        return b""  # without a buffer
    fd = stream.fileno()
    with ExitStack() as opened:
        own = os.dup(fd)
        opened.callback(os.close, own)
        for end in (ends := os.pipe()):
            opened.callback(os.close, end)
        os.set_blocking(ends[0], False)
        opened.callback(os.dup2, own, fd, inheritable=False)
        os.dup2(ends[0], fd, inheritable=False)
        if stream is reader:
            return reader.read1(len(reader.peek()) or 1) or b""
        text = "".join(iter(lambda: _next_character(stream), ""))
        return text.encode(stream.encoding, stream.errors)


def _next_character(stream: Any) -> str:
    try:
        return stream.read(1)  # type: ignore[no-any-return]  # as it is Any
    except TypeError:  # how a text file says that its raw file had nothing
        return ""


def _stoppable_exit(original: Any) -> Any:
    """The end of a `with` block waits for the child. After a stop it does as after a Ctrl-C: it waits a quarter of a second.

    That is what a child takes that `subprocess.run` has just killed.
    """

    @functools.wraps(original)
    def leave(self: subprocess.Popen[Any], kind: type[BaseException] | None, value: Any, trace: Any) -> None:
        if kind is None or not issubclass(kind, Interrupted):
            original(self, kind, value, trace)
            return
        with use_stop(None):
            original(self, KeyboardInterrupt, value, trace)

    return leave


def _stoppable_selector(original: Any) -> Any:
    # Over the standard method, which the part `select` may have replaced in the class.
    return type(original.__name__, (original,), {"select": stoppable_poll_like(_stock_select)})
