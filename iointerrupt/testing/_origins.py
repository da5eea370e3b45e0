"""Where things were made: recorded while a leak check is under way, so that it can say more than a number.

An audit hook (PEP 578) sees files, sockets and threads as they are made, and a fork hook the children. What has no audit
event, such as a pipe, or has one that comes before its number is known, such as a command, is made by a handful of
functions, which are wrapped for as long as a check lasts.

Neither hook can be removed again, so they are installed by the first check, and do nothing while there is none. The same
holds for a wrapper that somebody has kept (`from os import pipe`, in a module that was imported meanwhile). A forked child
begins without a check. What is recorded is kept alive by nothing here, and only so much is kept.

Who owns what: `_checks` are the checks under way, guarded by `guard.lock`, as is what is wrapped. What was recorded is in
dicts of which each step is one atomic operation, as the hooks run wherever the program does, and take no lock.
"""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any, Final

from iointerrupt._signal import guard
from iointerrupt._where import program_line

#: How many things of a kind are remembered, and how many lines of one path; the oldest are forgotten.
_MOST: Final = 10_000
_MOST_LINES: Final = 3

#: What the checks themselves read.
_OURS: Final = ("/proc/self/", "/proc/thread-self/")

_checks: set[object] = set()
_is_installed = False
_wrapped: list[tuple[ModuleType, str, _Recording]] = []

_files: dict[str, tuple[str, ...]] = {}  # the lines, by path
_numbers: dict[int, tuple[str, str]] = {}  # by descriptor: what it was, and the line
_children: dict[int, str] = {}  # by process id
_sockets: dict[int, tuple[weakref.ref[Any], str]] = {}  # by id()
_threads: dict[int, tuple[weakref.ref[Any], str]] = {}
_ALL: Final[tuple[dict[Any, Any], ...]] = (_files, _numbers, _children, _sockets, _threads)


@contextmanager
def recorded() -> Iterator[None]:
    """The block in which it is recorded where things are made."""
    check = object()
    try:
        with guard.lock:
            _install()
            _checks.add(check)
            _wrap()
        yield
    finally:
        _checks.discard(check)
        with guard.lock:
            if not _checks:
                _end()


def _install() -> None:
    global _is_installed  # noqa: PLW0603 - one for the process
    if not _is_installed:
        _is_installed = True
        sys.addaudithook(_hear)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_parent=_see_child, after_in_child=_end)


def _end() -> None:
    """There is no check any more."""
    _checks.clear()
    while _wrapped:
        module, name, wrapper = _wrapped[-1]
        if getattr(module, name) is wrapper:  # else somebody has put something else in its place
            setattr(module, name, wrapper._function)
        _wrapped.pop()
    for record in _ALL:
        record.clear()


# What the check asks


def link_of(number: int) -> str:
    """What /proc says that a descriptor is; an empty string where it says nothing."""
    try:
        return os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ""


def information(number: int) -> list[bytes]:
    """The lines that /proc tells of a descriptor; none where it tells nothing."""
    with suppress(OSError):  # another thread may close it at any moment
        file = os.open(f"/proc/self/fdinfo/{number}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(file, 4096).splitlines()
        finally:
            os.close(file)
    return []


def of_descriptor(number: int, link: str) -> str | None:
    """Where the descriptor, of which /proc says `link`, was made."""
    made_as, where = _numbers.get(number, ("", None))
    if where is not None and made_as == link:
        return where
    if link.startswith("socket:") or not link:
        for reference, where in list(_sockets.values()):
            sock = reference()
            if sock is not None and sock.fileno() == number:
                return where
    return _of_file(number, link) if link.startswith("/") else None


def _of_file(number: int, link: str) -> str | None:
    path = link.removesuffix(" (deleted)")
    if path != link and os.path.basename(path).startswith("#"):
        path = os.path.dirname(path)  # it never had a name (O_TMPFILE): that folder is what was opened
    lines = _files.get(path) or _of_other_name(number, path)
    # The path may have been opened at several of them, of which one is the one.
    return " or ".join(lines) if lines else None


def _of_other_name(number: int, path: str) -> tuple[str, ...]:
    for opened, lines in list(_files.items()):
        with suppress(OSError, ValueError):
            if os.path.normpath(opened) == path or os.path.samestat(os.stat(opened), os.fstat(number)):
                return lines
    return ()


def of_thread(thread: threading.Thread) -> str | None:
    """Where the thread was started."""
    reference, where = _threads.get(id(thread), (None, None))
    return where if reference is not None and reference() is thread else None


def of_child(pid: int) -> str | None:
    """Where the process was started."""
    return _children.get(pid)


def children(of: str = "") -> list[int]:
    """The child processes, those that have ended but were not reaped included; none where the kernel does not tell.

    Args:
        of: the folder in /proc of a thread, for those that this one has started, the latest last; else of all threads.
    """
    found: list[int] = []
    with suppress(FileNotFoundError):
        for task in [of] if of else [f"/proc/self/task/{thread}" for thread in os.listdir("/proc/self/task")]:
            with suppress(OSError), open(f"{task}/children") as file:  # of a thread that has just ended
                found += map(int, file.read().split())
    return found


# What is seen


def _hear(event: str, arguments: tuple[Any, ...]) -> None:  # pragma: no cover - no tracer sees audit hooks
    """The audit hook."""
    if not _checks or event not in _EVENTS:
        return
    try:
        _EVENTS[event](arguments)
    except Exception:  # noqa: BLE001, S110 - what it would disturb is the program's own opening of a file
        pass


def _line() -> str | None:
    return program_line(sys._getframe(2))


def _hear_open(arguments: tuple[Any, ...]) -> None:  # pragma: no cover - no tracer sees audit hooks
    path = arguments[0]
    if isinstance(path, str | bytes):
        path = os.fsdecode(path)
        if not path.startswith(_OURS) and (where := _line()) is not None:
            # Not the real path: to ask for that can take for ever, on a disk that hangs.
            path = path if path.startswith("/") else os.path.join(os.getcwd(), path)
            lines = _files.get(path, ())
            if where not in lines:
                lines = (*lines, where)[-_MOST_LINES:]
            _remember(_files, path, lines)


def _hear_socket(arguments: tuple[Any, ...]) -> None:  # pragma: no cover - no tracer sees audit hooks
    if (where := _line()) is not None:
        _remember(_sockets, id(arguments[0]), (weakref.ref(arguments[0]), where))


def _hear_thread(arguments: tuple[Any, ...]) -> None:  # pragma: no cover - no tracer sees audit hooks
    thread = getattr(arguments[0], "__self__", None)
    if isinstance(thread, threading.Thread) and (where := _line()) is not None:
        _remember(_threads, id(thread), (weakref.ref(thread), where))


_EVENTS: Final[dict[str, Callable[[tuple[Any, ...]], None]]] = {
    "open": _hear_open,
    "socket.__new__": _hear_socket,
    "_thread.start_new_thread": _hear_thread,  # from Python 3.12 on
    "_thread.start_joinable_thread": _hear_thread,  # from Python 3.13 on
}


def _see_child() -> None:
    """The fork hook: this thread has one more child."""
    if _checks and (where := _line()) is not None:
        with suppress(Exception):
            if pids := children("/proc/thread-self"):
                _remember(_children, pids[-1], where)


def _remember(record: dict[Any, Any], key: object, made: object) -> None:
    record.pop(key, None)  # what comes last is forgotten last
    record[key] = made
    if len(record) > _MOST:
        with suppress(RuntimeError):  # another thread has just added one
            record.pop(next(iter(record), None), None)


# What is wrapped


class _Recording:
    """Stands for a function, and records what it returns.

    Not a function itself: those that it stands for can be attributes of a class without becoming its methods.
    """

    def __init__(self, function: Callable[..., Any], record: Callable[[tuple[Any, ...], Any, str], None]) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        self._record = record

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        made = self._function(*args, **kwargs)
        if _checks and (where := program_line(sys._getframe(1))) is not None:
            with suppress(Exception):
                self._record(args, made, where)
        return made


def _record_numbers(arguments: tuple[Any, ...], made: Any, where: str) -> None:  # noqa: ARG001 - as the others
    for one in made if isinstance(made, tuple) else (made,):
        number = one if isinstance(one, int) else one.fileno()
        _remember(_numbers, number, (link_of(number), where))


def _record_child(arguments: tuple[Any, ...], made: int, where: str) -> None:  # noqa: ARG001
    _remember(_children, made, where)


def _record_thread(arguments: tuple[Any, ...], made: Any, where: str) -> None:  # noqa: ARG001
    thread = arguments[0].__self__
    _remember(_threads, id(thread), (weakref.ref(thread), where))


def _unseen() -> Iterator[tuple[ModuleType | None, str, Callable[[tuple[Any, ...], Any, str], None]]]:
    """The functions to wrap, of which some are there on some systems and versions only."""
    for name in ("dup", "dup2", "eventfd", "memfd_create", "openpty", "pidfd_open", "pipe", "pipe2", "timerfd_create"):
        yield os, name, _record_numbers
    yield socket, "socketpair", _record_numbers  # the numbers too, for who detaches them, as multiprocessing does
    for name in ("posix_spawn", "posix_spawnp"):
        yield os, name, _record_child
    yield subprocess, "_fork_exec", _record_child
    yield sys.modules.get("_posixsubprocess"), "fork_exec", _record_child  # which multiprocessing calls
    if sys.version_info < (3, 12):
        yield threading, "_start_new_thread", _record_thread


def _wrap() -> None:
    for module, name, record in _unseen():
        function = getattr(module, name, None)
        if module is None or function is None:
            continue
        wrapper = function if isinstance(function, _Recording) else _Recording(function, record)
        if (module, name, wrapper) not in _wrapped:  # or somebody has put back, after a check, what was there in it
            _wrapped.append((module, name, wrapper))
            setattr(module, name, wrapper)
