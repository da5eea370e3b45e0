"""`run`: a command, its output, and its end when the stop comes.

The pipes are read and written here, so that what the command has written by the time of a stop is known. The standard
`communicate` would keep it to itself, and would wait for a grandchild that has inherited the pipes after the command itself
has ended.

A command that was stopped is told so by SIGTERM, has `grace` seconds in which its output is still taken, and is then
killed. It is reaped in any case, and the pipes are closed without waiting for whoever else holds them.
"""

from __future__ import annotations

import codecs
import os
import select
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from iointerrupt._calls.endings import PAUSE, JoinTimeout, exit_descriptor, wait_exit
from iointerrupt._errors import Interrupted
from iointerrupt._stop import StopEvent, as_stop, check_timeout, use_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import READ, WRITE, check, deadline_of, wait_any

if TYPE_CHECKING:
    from typing import Unpack

    from _typeshed import ReadableBuffer

    from iointerrupt._calls.shapes import Command, PopenOptions

_READ_SIZE: Final = 65536
# As much as a pipe takes without blocking that has been called ready (POSIX).
_PIPE_PIECE: Final[int] = getattr(select, "PIPE_BUF", 512)
# Seconds for which the kernel may take to end what was killed. What hangs in it longer is left to `subprocess` to reap.
_PATIENCE: Final = 2.0


class RunTimeout(JoinTimeout):
    """The `timeout=` of a `run` has passed, and the command was ended; `output` and `stderr` are what it had written."""


# As typeshed has it for subprocess.run.
@overload
def run(
    args: Command,
    *,
    stop: StopLike = None,
    grace: float = 5.0,
    timeout: float | None = None,
    input: str | None = None,
    capture_output: bool = False,
    check: bool = False,
    text: Literal[True],
    universal_newlines: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    **popen: Unpack[PopenOptions],
) -> subprocess.CompletedProcess[str]: ...
@overload
def run(
    args: Command,
    *,
    stop: StopLike = None,
    grace: float = 5.0,
    timeout: float | None = None,
    input: str | None = None,
    capture_output: bool = False,
    check: bool = False,
    text: bool | None = None,
    universal_newlines: Literal[True],
    encoding: str | None = None,
    errors: str | None = None,
    **popen: Unpack[PopenOptions],
) -> subprocess.CompletedProcess[str]: ...
@overload
def run(
    args: Command,
    *,
    stop: StopLike = None,
    grace: float = 5.0,
    timeout: float | None = None,
    input: str | None = None,
    capture_output: bool = False,
    check: bool = False,
    text: bool | None = None,
    universal_newlines: bool | None = None,
    encoding: str,
    errors: str | None = None,
    **popen: Unpack[PopenOptions],
) -> subprocess.CompletedProcess[str]: ...
@overload
def run(
    args: Command,
    *,
    stop: StopLike = None,
    grace: float = 5.0,
    timeout: float | None = None,
    input: str | None = None,
    capture_output: bool = False,
    check: bool = False,
    text: bool | None = None,
    universal_newlines: bool | None = None,
    encoding: str | None = None,
    errors: str,
    **popen: Unpack[PopenOptions],
) -> subprocess.CompletedProcess[str]: ...
@overload
def run(
    args: Command,
    *,
    stop: StopLike = None,
    grace: float = 5.0,
    timeout: float | None = None,
    input: ReadableBuffer | None = None,
    capture_output: bool = False,
    check: bool = False,
    text: Literal[False] | None = None,
    universal_newlines: Literal[False] | None = None,
    encoding: None = None,
    errors: None = None,
    **popen: Unpack[PopenOptions],
) -> subprocess.CompletedProcess[bytes]: ...
@overload
def run(
    args: Command,
    *,
    stop: StopLike = None,
    grace: float = 5.0,
    timeout: float | None = None,
    input: ReadableBuffer | str | None = None,
    capture_output: bool = False,
    check: bool = False,
    text: bool | None = None,
    universal_newlines: bool | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    **popen: Unpack[PopenOptions],
) -> subprocess.CompletedProcess[Any]: ...
def run(
    args: Command,
    *,
    stop: StopLike = None,
    grace: float = 5.0,
    timeout: float | None = None,
    input: Any = None,  # noqa: A002 - the standard library's name for it
    capture_output: bool = False,
    check: bool = False,
    **popen: Any,
) -> subprocess.CompletedProcess[Any]:
    """Run a command and wait for it: `subprocess.run`, which a stop ends, together with the command.

    Args:
        args: the command, as for `subprocess.Popen`.
        stop: what ends it, besides the current stop.
        grace: seconds between SIGTERM and SIGKILL. Both go to the command, or, where it leads a process group of its own
            (`start_new_session=True`, `process_group=0`), to the whole group: so a shell's commands end with it.
        timeout: seconds that it may take in all, after which it is ended in the same way; None for no limit.
        input: what it gets as its standard input; bytes, or text in text mode.
        capture_output: whether to collect what it writes; the same as `stdout=PIPE, stderr=PIPE`.
        check: whether an exit code other than 0 is an error.
        **popen: as for `subprocess.Popen`.

    Returns:
        What `subprocess.run` returns.

    Raises:
        Interrupted: the command has ended. Its standard output so far is in `partial`, where that was a pipe. The cause
            (`__cause__`) is a `subprocess.CalledProcessError` with its exit code, its output and what it wrote to its
            standard error.
        RunTimeout: a TimeoutError and a `subprocess.TimeoutExpired`; the command has ended.
        subprocess.CalledProcessError: with `check`, the exit code was not 0.
        OSError, ValueError, TypeError: the command could not be started, as `subprocess.Popen` raises them.
        NotImplementedError: this is Windows.

    Works where a pipe can be waited for, not on Windows. Should even SIGKILL not end it, as it hangs in the kernel, it is left
    behind, and the exit code in the cause is None.
    """
    own = as_stop(stop)
    _check_stop(own)
    _check_system()
    check_timeout(grace, "grace")
    deadline = deadline_of(timeout)
    if input is not None:
        if popen.get("stdin") is not None:
            raise ValueError("stdin and input arguments may not both be used")
        popen["stdin"] = subprocess.PIPE
    if capture_output:
        if popen.get("stdout") is not None or popen.get("stderr") is not None:
            raise ValueError("stdout and stderr arguments may not be used with capture_output")
        popen["stdout"] = popen["stderr"] = subprocess.PIPE
    running = _Running()
    try:
        child = running.start(args, popen)
        running.feed(input)
        running.finish(own, deadline)
        stdout, stderr = running.output()
    except (Interrupted, TimeoutError) as error:
        if not running.has_begun:  # the system gave up starting it
            raise
        running.end(grace)
        stdout, stderr = running.output(partial=True)
        if isinstance(error, TimeoutError):
            raise RunTimeout(child.args, timeout or 0.0, stdout, stderr) from error
        error.partial = stdout
        ended = subprocess.CalledProcessError(child.returncode, child.args, stdout, stderr)
        ended.__cause__ = error.__cause__
        raise error from ended
    except BaseException:
        running.end(0.0)
        raise
    finally:
        running.close()
    if check and child.returncode:
        raise subprocess.CalledProcessError(child.returncode, child.args, stdout, stderr)
    return subprocess.CompletedProcess(child.args, child.returncode, stdout, stderr)


_check_stop = check  # `run` has a parameter of that name


def _check_system() -> None:
    if not hasattr(os, "O_NONBLOCK"):
        raise NotImplementedError("this system cannot wait for pipes: use calls.call(subprocess.run, ...)")


class _Running:
    """A command that was started, and this end of its pipes. It belongs to the call of `run` that made it."""

    def __init__(self) -> None:
        self._child: Any = None
        self._leads_group = False
        self._collected: dict[int, bytearray] = {}  # by descriptor, for as long as and after it is read
        self._interest: dict[int, int] = {}
        self._outputs: list[int | None] = []
        self._input = memoryview(b"")

    @property
    def has_begun(self) -> bool:
        """Whether it could be started."""
        return self._child is not None

    def start(self, args: Any, popen: dict[str, Any]) -> subprocess.Popen[Any]:
        """Start it, with these arguments of `subprocess.Popen`."""
        child = self._child = subprocess.Popen(args, **popen)  # noqa: S603 - what is run is the caller's to decide
        self._leads_group = bool(popen.get("start_new_session")) or popen.get("process_group") == 0
        self._outputs = [None if pipe is None else pipe.fileno() for pipe in (child.stdout, child.stderr)]
        for fd in self._outputs:
            if fd is not None:
                self._collected[fd] = bytearray()
                self._interest[fd] = READ
        return child

    def feed(self, data: Any) -> None:
        """Give it this as its standard input, if that is a pipe; what is neither bytes nor, in text mode, text is a TypeError."""
        pipe: Any = self._child.stdin
        if pipe is None:
            return
        if isinstance(data, str):
            if not hasattr(pipe, "encoding"):
                raise TypeError("input must be bytes, not str, unless the command is run in text mode")
            data = data.encode(pipe.encoding, pipe.errors)
        self._input = memoryview(b"" if data is None else data).cast("B")
        if self._input:
            self._interest[pipe.fileno()] = WRITE
        else:
            pipe.close()

    def finish(self, own: StopEvent | None, deadline: float | None) -> None:
        """Let it run to its end: until its pipes are closed and it has ended."""
        while self._interest:
            self._move(wait_any(self._interest, own, deadline))
        if not self._has_ended():
            wait_exit(self._child.pid, self._has_ended, own, deadline)
        self._child.wait()

    def end(self, grace: float) -> None:
        """End it, and take what it still writes until then; nothing if it has been reaped, as its number is not its own then."""
        if self._child is None or self._child.returncode is not None:
            return
        # Its standard input is not closed before it has ended: it would take that for all of its input.
        self._interest = {fd: READ for fd, events in self._interest.items() if events == READ}
        with use_stop(None):
            if grace:
                self._signal(signal.SIGTERM)
            if not grace or not self._until_ended(time.monotonic() + grace):
                self._signal(signal.SIGKILL)
                if not self._until_ended(time.monotonic() + _PATIENCE):
                    return
            elif self._leads_group:
                self._signal(signal.SIGKILL)  # whoever of its group has not ended with it
            # What is in the pipes by now, but not what others who hold them may yet write.
            try:
                while self._interest:
                    self._move(wait_any(self._interest, None, time.monotonic()))
            except TimeoutError:
                pass
        self._child.wait()

    def output(self, *, partial: bool = False) -> tuple[Any, Any]:
        """What it has written to its standard output and error, as bytes or text; None for what was no pipe."""
        return tuple(  # type: ignore[return-value]  # there are two
            None if fd is None or pipe is None else _decoded(bytes(self._collected[fd]), pipe, partial=partial)
            for fd, pipe in zip(self._outputs, (self._child.stdout, self._child.stderr), strict=True)
        )

    def close(self) -> None:
        """Close this end of the pipes."""
        if self._child is None:
            return
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:
                pipe.close()

    def _move(self, ready: list[int]) -> None:
        for fd in ready:
            if self._interest[fd] == WRITE:
                try:
                    self._input = self._input[os.write(fd, self._input[:_PIPE_PIECE]) :]
                except BrokenPipeError:  # it does not want the rest
                    self._input = self._input[:0]
                if not self._input and self._child.stdin is not None:
                    del self._interest[fd]
                    self._child.stdin.close()  # nothing is in its buffer, which nobody has written to
            elif data := os.read(fd, _READ_SIZE):
                self._collected[fd] += data
            else:
                del self._interest[fd]

    def _until_ended(self, deadline: float) -> bool:
        with exit_descriptor(self._child.pid) as exit_fd:
            while not self._has_ended():
                interest = self._interest if exit_fd is None else {**self._interest, exit_fd: READ}
                until = deadline if exit_fd is not None else min(deadline, time.monotonic() + PAUSE)
                try:
                    ready = wait_any(interest, None, until)
                except TimeoutError:
                    if time.monotonic() >= deadline:
                        return self._has_ended()
                    continue
                self._move([fd for fd in ready if fd != exit_fd])
        return True

    def _has_ended(self) -> bool:
        if self._child.returncode is not None:
            return True
        if not hasattr(os, "waitid"):
            return self._child.poll() is not None
        # Without reaping it, so that its number remains its own.
        try:
            return os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # reaped by somebody else
            return True

    def _signal(self, number: signal.Signals) -> None:
        if not self._leads_group:
            self._child.send_signal(number)
            return
        try:
            os.killpg(self._child.pid, number)
        except ProcessLookupError:
            pass


def _decoded(data: bytes, pipe: Any, *, partial: bool) -> Any:
    encoding = getattr(pipe, "encoding", None)
    if encoding is None:
        return data
    if partial:
        # It may end in the middle of a character, and a stop is no time to complain of another.
        errors = "replace" if pipe.errors == "strict" else pipe.errors
        text = codecs.getincrementaldecoder(encoding)(errors).decode(data)
    else:
        text = data.decode(encoding, pipe.errors)
    return text.replace("\r\n", "\n").replace("\r", "\n")
