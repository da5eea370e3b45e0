"""Where things were made: recorded while a leak check is under way, so that it can say more than a number.

An audit hook (PEP 578) sees files, sockets, threads and commands as they are made, a fork hook the children. What has no
audit event, such as a pipe, is made by a handful of functions, which are wrapped for as long as a check lasts.

Neither hook can be removed again, so they are installed by the first check, and do nothing while there is none. They keep
alive nothing that is recorded, and only so much is kept.

Who owns what: `_checks` counts the checks under way, guarded by `_lock`, as is what is wrapped. What was recorded is in dicts
of which each step is one atomic operation, as the hooks run wherever the program does, and take no lock.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Final

from iointerrupt._where import program_line

#: How many things of a kind are remembered; the oldest are forgotten.
_MOST: Final = 10_000

_lock = threading.Lock()
_checks = 0
_is_installed = False
_wrapped: list[
    tuple[ModuleType, str, Callable[..., Any], Callable[..., Any]]
] = []  # where, the function, what wraps it

_files: dict[str, str] = {}  # by path
_numbers: dict[int, str] = {}  # by descriptor
_children: dict[int, str] = {}  # by process id
_sockets: dict[int, tuple[weakref.ref[Any], str]] = {}  # by id()
_threads: dict[int, tuple[weakref.ref[Any], str]] = {}
_commands: dict[int, tuple[weakref.ref[Any], str]] = {}  # of `subprocess.Popen` objects
_ALL: Final[tuple[dict[Any, Any], ...]] = (_files, _numbers, _children, _sockets, _threads, _commands)


@contextmanager
def recorded() -> Iterator[None]:
    """The block in which it is recorded where things are made."""
    global _checks, _is_installed  # noqa: PLW0603 - one for the process
    with _lock:
        if not _is_installed:
            _is_installed = True
            sys.addaudithook(_hear)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_parent=_see_child)
        _checks += 1
        if _checks == 1:
            _wrap()
    try:
        yield
    finally:
        with _lock:
            _checks -= 1
            if not _checks:
                _unwrap()
                for record in _ALL:
                    record.clear()


def of_descriptor(number: int, link: str) -> str | None:
    """Where the descriptor, of which /proc says `link`, was made."""
    for reference, where in list(_sockets.values()):
        sock = reference()
        if sock is not None and sock.fileno() == number:
            return where
    path = link.removesuffix(" (deleted)")
    return _files.get(path) or _numbers.get(number) or _of_link_to(path)


def _of_link_to(path: str) -> str | None:
    """Where a file was opened by another name, which had the same last part."""
    name = os.path.basename(path)
    for opened, where in list(_files.items()):
        if os.path.basename(opened) == name and os.path.realpath(opened) == path:
            return where
    return None


def of_thread(thread: threading.Thread) -> str | None:
    """Where the thread was started."""
    return _of_object(_threads, thread)


def of_child(pid: int) -> str | None:
    """Where the process was started."""
    for reference, where in list(_commands.values()):
        command = reference()
        if command is not None and command.pid == pid:
            return where
    return _children.get(pid)


def children() -> set[int]:
    """The child processes, those that have ended but were not reaped included; none where the kernel does not tell."""
    found: set[int] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(map(int, path.read_text().split()))
        except OSError:  # of a thread that has just ended
            continue
    return found


def _of_object(record: dict[int, tuple[weakref.ref[Any], str]], made: object) -> str | None:
    reference, where = record.get(id(made), (None, None))
    return where if reference is not None and reference() is made else None


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook."""
    if not _checks or event not in _EVENTS:
        return
    try:
        frame = sys._getframe(1)
        where = program_line(frame)
        if where is not None:
            _EVENTS[event](arguments, frame, where)
    except Exception:  # noqa: BLE001, S110 - what it would disturb is the program's own opening of a file
        pass


def _hear_open(arguments: tuple[Any, ...], frame: FrameType, where: str) -> None:  # noqa: ARG001 - as the others
    path = arguments[0]
    if isinstance(path, str | bytes | os.PathLike):
        # Not the real path: to ask for that can take for ever, on a disk that hangs.
        _remember(_files, os.path.abspath(os.fsdecode(path)), where)


def _hear_socket(arguments: tuple[Any, ...], frame: FrameType, where: str) -> None:  # noqa: ARG001
    _remember(_sockets, id(arguments[0]), (weakref.ref(arguments[0]), where))


def _hear_thread(arguments: tuple[Any, ...], frame: FrameType, where: str) -> None:  # noqa: ARG001
    thread = getattr(arguments[0], "__self__", None)
    if isinstance(thread, threading.Thread):
        _remember(_threads, id(thread), (weakref.ref(thread), where))


def _hear_command(arguments: tuple[Any, ...], frame: FrameType, where: str) -> None:  # noqa: ARG001
    command = frame.f_locals.get("self")  # the event is raised by a method of the Popen object
    if command is not None:
        _remember(_commands, id(command), (weakref.ref(command), where))


_EVENTS: Final[dict[str, Callable[[tuple[Any, ...], FrameType, str], None]]] = {
    "open": _hear_open,
    "socket.__new__": _hear_socket,
    "_thread.start_new_thread": _hear_thread,
    "_thread.start_joinable_thread": _hear_thread,  # from Python 3.13 on
    "subprocess.Popen": _hear_command,
}


def _see_child() -> None:
    """The fork hook: there is one more child."""
    if _checks and (where := program_line(sys._getframe(1))) is not None:
        for pid in children() - _children.keys():
            _remember(_children, pid, where)


def _remember(record: dict[Any, Any], key: object, made: object) -> None:
    record.pop(key, None)  # what comes last is forgotten last
    record[key] = made
    if len(record) > _MOST:
        record.pop(next(iter(record), None), None)


def _see_numbers(arguments: tuple[Any, ...], made: Any, where: str) -> None:  # noqa: ARG001
    for number in made if isinstance(made, tuple) else (made,):
        _remember(_numbers, number, where)


def _see_thread(arguments: tuple[Any, ...], made: Any, where: str) -> None:  # noqa: ARG001
    _hear_thread(arguments, sys._getframe(), where)


#: Functions that make things of which no audit event tells; some are there on some systems only.
_UNSEEN: Final[list[tuple[ModuleType, str, Callable[[tuple[Any, ...], Any, str], None]]]] = [
    *(
        (os, name, _see_numbers)
        for name in ("dup", "dup2", "eventfd", "memfd_create", "openpty", "pidfd_open", "pipe", "pipe2")
    ),
    *([] if sys.version_info >= (3, 12) else [(threading, "_start_new_thread", _see_thread)]),
]


def _wrap() -> None:
    for module, name, see in _UNSEEN:
        original = getattr(module, name, None)
        if original is not None:
            wrapper = _recording(original, see)
            _wrapped.append((module, name, original, wrapper))
            setattr(module, name, wrapper)


def _unwrap() -> None:
    while _wrapped:
        module, name, original, wrapper = _wrapped.pop()
        if getattr(module, name) is wrapper:  # else somebody has put something else in its place
            setattr(module, name, original)


def _recording(original: Callable[..., Any], see: Callable[[tuple[Any, ...], Any, str], None]) -> Callable[..., Any]:
    @functools.wraps(original)
    def function(*args: Any, **kwargs: Any) -> Any:
        made = original(*args, **kwargs)
        where = program_line(sys._getframe(1))
        if where is not None:
            see(args, made, where)
        return made

    return function


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - another thread of the parent may have held it
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
