"""Opening: from what `open` is given to the raw file that fits, without a wait that a stop cannot end.

Everything is opened in non-blocking mode, since only then is it known what it is: asking for its kind first would leave a
gap in which a FIFO can take the place of a file. What turns out to be a regular file or a FIFO goes back to blocking
mode, so that its descriptor may be handed on, to a child process or to a poll of one's own; a FIFO only where the kernel
can be asked with each call whether that would block (`_files.raw`). A terminal or device stays as it was opened.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable
from typing import Any, Final

from iointerrupt._files.disk import DiskFile, on_disk
from iointerrupt._files.raw import NOWAIT, RegularFile, StoppableFile, StreamFile, is_stream
from iointerrupt._files.system import ALWAYS, NONBLOCK, STREAMS_CAN_WAIT, get_blocking, set_blocking
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Parker
from iointerrupt._stop import StopEvent
from iointerrupt._wait import READ, check, park, poll, stops, wait_ready

_FLAGS: Final = {"w": os.O_CREAT | os.O_TRUNC, "x": os.O_CREAT | os.O_EXCL, "a": os.O_CREAT | os.O_APPEND, "r": 0}

# Seconds between two questions whether the other end of a FIFO has come, which grow as the wait does.
_FIRST_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.02


def open_raw(
    file: Any,
    mode: str,
    *,
    stop: StopEvent | None,
    timeout: float | None,
    chunk_size: int,
    abandon_on_stop: bool = False,
    closefd: bool = True,
    opener: Callable[[Any, int], int] | None = None,
) -> StoppableFile | DiskFile:
    """The raw file for a path or a descriptor.

    Args:
        file: a path (str, bytes or os.PathLike), or a descriptor.
        mode: one of r, w, x and a, with or without a plus.
        stop: the own stop, already through `as_stop`.
        timeout: seconds that one wait may take, that for the other end of a FIFO included.
        chunk_size: how many bytes move between two checks.
        abandon_on_stop: whether system calls on a regular file are left behind in a helper thread when a stop comes.
        closefd: as for `open`.
        opener: as for `open`; what it opens is taken as shared with others.

    Raises:
        OSError: what `open` raises.
        Interrupted: the stop is set, before or while it waits for the other end of a FIFO.
        TimeoutError: the other end did not come.
    """
    if not isinstance(file, int):  # of a descriptor nothing has to be waited for
        check(stop)
    options: dict[str, Any] = {"stop": stop, "timeout": timeout, "chunk_size": chunk_size, "closefd": closefd}
    if not isinstance(file, int) and not closefd:
        return RegularFile(file, mode, **options)  # which refuses it
    deadline = None if timeout is None else time.monotonic() + timeout
    name, first, nonblocking = file, b"", False
    kind: int | None = None
    fd: Any = file
    if not isinstance(file, int):
        options["opener"] = lambda *_: fd
        if opener is not None:
            fd = opener(file, _flags(mode))
        else:
            fd, kind, first = _open(file, mode, stop, deadline, abandon=abandon_on_stop)
            nonblocking = not get_blocking(fd)
    try:
        if kind is None:
            kind = _kind_of(fd)
    except (OSError, TypeError):
        return RegularFile(name, mode, **options)  # which says what is wrong with the descriptor
    if is_stream(kind):
        if not STREAMS_CAN_WAIT:
            raise _let_go(fd, name, closefd=closefd)
        return StreamFile(name, mode, nonblocking=nonblocking, first=first, **options)
    if abandon_on_stop and stat.S_ISREG(kind):
        options.pop("opener", None)
        return DiskFile(fd, name, mode, **options)
    return RegularFile(name, mode, **options)


def _let_go(fd: int, name: Any, *, closefd: bool) -> OSError:
    # Those that are handed in stay open: nobody has been given an object that could close them.
    if closefd and fd is not name:
        os.close(fd)
    return OSError(
        errno.EOPNOTSUPP,
        "this system cannot wait for a pipe or a terminal; files.wrap takes a file object of it, and reads in a helper thread",
        name,
    )


def _flags(mode: str) -> int:
    access = os.O_RDWR if "+" in mode else os.O_RDONLY if mode[0] == "r" else os.O_WRONLY
    return _FLAGS[mode[0]] | access | ALWAYS


def _kind_of(fd: int) -> int:
    return os.fstat(fd).st_mode


def _open(
    path: Any, mode: str, own: StopEvent | None, deadline: float | None, *, abandon: bool
) -> tuple[int, int, bytes]:
    """A descriptor, in non-blocking mode where the waits of a stream need it, its `st_mode`, and a byte if one had to be read."""

    def ask() -> tuple[int, int] | None:
        if not abandon:
            return _try_open(path, _flags(mode))
        return on_disk.run(lambda: _try_open(path, _flags(mode)), own, deadline, discard=_close)

    fd, kind = ask() or _ask_again(ask, own, deadline)
    if not stat.S_ISFIFO(kind):
        return fd, kind, b""
    try:
        first = _await_writer(fd, own, deadline) if mode == "r" else b""
        if NOWAIT:
            set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd, kind, first


def _try_open(path: Any, flags: int) -> tuple[int, int] | None:
    # None if it has to wait for somebody else.
    try:
        fd = os.open(path, flags | NONBLOCK, 0o666)
    except OSError as error:
        if _has_to_wait(error, path):
            return None
        raise
    try:
        kind = _kind_of(fd)
        if not is_stream(kind):
            set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd, kind


def _close(opened: tuple[int, int] | None) -> None:
    if opened is not None:
        os.close(opened[0])


def _ask_again(
    ask: Callable[[], tuple[int, int] | None], own: StopEvent | None, deadline: float | None
) -> tuple[int, int]:
    # The kernel wakes nobody when the other end comes; whoever is to be told must be inside open(2). A helper thread in
    # there would be left behind by a stop, and would count as an open end for the other side when that comes. So this
    # asks again and again, which costs microseconds each time; the stop is still immediate.
    with Blocked(stops(own)) as blocked:
        parker = Parker()
        blocked.add_waker(parker.unpark)
        pause = _FIRST_PAUSE
        while True:
            try:
                park(parker, blocked, _earlier(deadline, pause))
            except TimeoutError:
                if deadline is not None and time.monotonic() >= deadline:
                    raise
            opened = ask()
            if opened is not None:
                return opened
            pause = min(2 * pause, _LONGEST_PAUSE)


def _has_to_wait(error: OSError, path: Any) -> bool:
    # Nobody reads the FIFO yet (fifo(7)), or another process has to give back a lease first (fcntl(2), F_SETLEASE).
    if error.errno == errno.ENXIO:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    return error.errno == errno.EWOULDBLOCK


def _await_writer(fd: int, own: StopEvent | None, deadline: float | None) -> bytes:
    """Wait until somebody has opened the FIFO for writing, as a blocking open(2) does; returns a byte if it had to take one.

    Programs that open two FIFOs in turn depend on it. poll(2) tells of data and of a writer that has left, not of one
    that has come; but a read tells: nothing (the end) without a writer, EAGAIN with one. So this is the other place that
    asks again and again. It reads only where poll has just found no data, so that what is there stays there; a byte that
    comes between the two is kept, and is the first that the file reads.
    """
    pause = _FIRST_PAUSE
    while True:
        if poll({fd: READ}, [], 0.0):
            return b""
        try:
            byte = os.read(fd, 1)
        except BlockingIOError:
            return b""
        if byte:
            return byte
        try:
            wait_ready(fd, READ, own, _earlier(deadline, pause))
        except TimeoutError:
            if deadline is not None and time.monotonic() >= deadline:
                raise
        else:
            return b""
        pause = min(2 * pause, _LONGEST_PAUSE)


def _earlier(deadline: float | None, pause: float) -> float:
    until = time.monotonic() + pause
    return until if deadline is None else min(until, deadline)
