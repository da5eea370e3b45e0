"""`no_leaks`: that a piece of code ends with the descriptors, threads, children and helpers that it began with.

What there is, is compared by name, so that a number or an identifier that was used again counts as another one. Only what
is left over is looked at more closely: what it is, who holds it, and where it was made (`_origins`).
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from iointerrupt._helpers import abandoned
from iointerrupt._stop import check_timeout
from iointerrupt._where import program_line
from iointerrupt.testing._origins import children, of_child, of_descriptor, of_thread, recorded

# The library's own threads, which end by themselves a grace after the last operation.
_WATCHERS = ("iointerrupt-watch", "iointerrupt-poll", "iointerrupt-clock", "iointerrupt-idle")

_PAUSE = 0.005


@contextmanager
def no_leaks(what: str = "the block", *, timeout: float = 5.0) -> Iterator[None]:
    """Check that the block ends with the open descriptors, threads, child processes and abandoned helpers it began with.

    Args:
        what: the beginning of the message, such as "the test".
        timeout: seconds that what has been told to end has for it.

    Raises:
        AssertionError: something was left behind. The message has a line for each: what it is, a connection's pool if one
            has it, and the line of the program where it was made, if that is known: it is not for what C code makes by
            itself. Not raised over an error of the block.
        ValueError, TypeError: the timeout cannot be one.

    What was there at the beginning may be gone at the end. Blocks may be nested, and be in several threads; each then sees
    what the other threads have made as well. The first block of a process installs an audit hook (PEP 578), which stays, and
    does nothing outside of such blocks.
    """
    check_timeout(timeout)
    with recorded():
        before = _Inventory()
        yield
        deadline = time.monotonic() + timeout
        while before.left():
            gc.collect()  # what nobody refers to is not left behind, though it may be reported as not closed
            if time.monotonic() >= deadline and (left := before.left()):
                raise AssertionError("\n  ".join([f"{what} left behind:", *(say() for say in left)]))
            time.sleep(_PAUSE)


class _Inventory:
    """What there is at a moment, and what has been added to it since."""

    def __init__(self) -> None:
        self._descriptors = _descriptors()
        self._threads = {id(thread): thread for thread in threading.enumerate()}
        self._children = children()
        self._abandoned = abandoned()

    def left(self) -> list[Callable[[], str]]:
        """A function for each thing that was not there, which says what it is."""
        left: list[Callable[[], str]] = [
            partial(_say_descriptor, number, link)
            for number, link in sorted(_descriptors().items())
            if self._descriptors.get(number) != link
        ]
        left += [
            partial(_say_thread, thread)
            for thread in threading.enumerate()
            if id(thread) not in self._threads and not thread.name.startswith(_WATCHERS)
        ]
        left += [partial(_say_child, pid) for pid in sorted(children() - self._children)]
        before = list(self._abandoned)
        for said in abandoned():
            if said in before:
                before.remove(said)
            else:
                left.append(partial("abandoned helper {}".format, said))
        return left


def _descriptors() -> dict[int, str]:
    if sys.platform != "linux":
        return dict.fromkeys(map(int, os.listdir("/dev/fd")), "open")
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the one that listed them
            link = os.readlink(f"/proc/self/fd/{number}")
            found[int(number)] = f"{link}{_eventfd_id(number)}" if link == "anon_inode:[eventfd]" else link
    return found


def _eventfd_id(number: str) -> str:
    """What tells one eventfd from another, whose links are the same."""
    with suppress(OSError):
        for line in Path(f"/proc/self/fdinfo/{number}").read_text().splitlines():
            if line.startswith("eventfd-id:"):
                return line.partition(":")[2]
    return ""


# What is said of what is left


def _say_descriptor(number: int, link: str) -> str:
    kind, _, rest = link.partition(":[")
    if kind == "socket":
        what = _say_socket(number)
    elif kind == "pipe":
        what = f"pipe {rest.rstrip(']')}"
    elif kind == "anon_inode":
        what = rest.partition("]")[0]
    else:
        what = link.removeprefix("anon_inode:") if link.startswith("anon_inode:") else f"file {link}"
    return _located(f"descriptor {number}, {what}", "made", of_descriptor(number, link))


def _say_socket(number: int) -> str:
    try:
        with socket.socket(fileno=os.dup(number)) as sock:
            kind = getattr(sock.type, "name", sock.type)
            near, far = _name_of(sock.getsockname), _name_of(sock.getpeername)
            listens = sock.family != socket.AF_UNIX and _listens(sock)
    except OSError:
        return "socket, closed meanwhile"
    ends = f"{near} to {far}" if far else f"{near}, listening" if listens else f"{near}, not connected"
    return f"socket {kind} {ends}{_say_pool(number)}"


def _name_of(ask: Callable[[], Any]) -> str:
    try:
        name = ask()
    except OSError:
        return ""
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or "unnamed")


def _listens(sock: socket.socket) -> bool:
    with suppress(OSError, AttributeError):
        return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    return False


def _say_pool(number: int) -> str:
    """Whether urllib3 has the socket, in a pool or for a response."""
    connections: Any = sys.modules.get("urllib3.connection")
    pools: Any = sys.modules.get("urllib3.connectionpool")
    if connections is None or pools is None:
        return ""
    objects = gc.get_objects()
    for pool in (candidate for candidate in objects if isinstance(candidate, pools.HTTPConnectionPool)):
        for connection in list(getattr(pool.pool, "queue", ())):
            if _has(connection, number):
                return f", in the connection pool of {pool.host}:{pool.port}: its session was not closed"
    for connection in (candidate for candidate in objects if isinstance(candidate, connections.HTTPConnection)):
        if _has(connection, number):
            return (
                f", a connection to {connection.host}:{connection.port}: its response was neither read to its end nor"
                " closed"
            )
    return ""


def _has(connection: Any, number: int) -> bool:
    sock = getattr(connection, "sock", None)
    try:
        return sock is not None and bool(sock.fileno() == number)
    except (OSError, ValueError, AttributeError):
        return False


def _say_thread(thread: threading.Thread) -> str:
    frame = sys._current_frames().get(thread.ident or 0)
    stands = None if frame is None else program_line(frame) or f"{frame.f_code.co_filename}:{frame.f_lineno}"
    what = f"thread {thread.name!r}" + (f", which stands at {stands}" if stands else "")
    return _located(what, "started", of_thread(thread))


def _say_child(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return _located(f"child process {pid}", "started", of_child(pid))
    what = f"child process {pid}, " + ("ended and not reaped" if state == "Z" else f"running {command}")
    return _located(what, "started", of_child(pid))


def _located(what: str, how: str, where: str | None) -> str:
    return what if where is None else f"{what}, {how} at {where}"
