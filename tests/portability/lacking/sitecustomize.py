"""Takes from an interpreter, before anything is imported, what other systems lack: the variable IOINTERRUPT_WITHOUT names it.

The library has no switch for that. It chooses by what there is (`hasattr`), as it does on those systems; so what runs here is
what runs there. This folder is on the path (PYTHONPATH) of the tests and of all that they start: see `tests.portability`.

What cannot be played on Linux are the systems themselves: what their calls do where they have them.
"""

from __future__ import annotations

import os
import sys
from typing import Any

#: What can be taken, as `module.name`; a name without a module is a path of the file system, or what `_TAKERS` knows.
PARTS: dict[str, tuple[str, ...]] = {
    "eventfd": ("os.eventfd", "os.eventfd_read", "os.eventfd_write", "os.EFD_CLOEXEC", "os.EFD_NONBLOCK"),
    "epoll": ("select.epoll",),
    "poll": ("select.poll",),
    "splice": ("os.splice", "os.SPLICE_F_MOVE", "os.SPLICE_F_NONBLOCK", "os.SPLICE_F_MORE"),
    "copy_file_range": ("os.copy_file_range",),
    "sendfile": ("os.sendfile",),
    "renameat2": ("renameat2",),
    "nowait": ("os.RWF_NOWAIT", "os.preadv", "os.pwritev"),
    "pidfd": ("os.pidfd_open", "os.P_PIDFD", "_signal.pidfd_send_signal"),
    "waitid": ("os.waitid", "os.WNOWAIT", "os.WEXITED", "os.P_PID", "os.P_PGID", "os.P_ALL"),
    "fallocate": ("os.posix_fallocate",),
    "fdatasync": ("os.fdatasync",),
    "xattr": ("os.getxattr", "os.setxattr", "os.listxattr", "os.removexattr"),
    "errqueue": ("_socket.MSG_ERRQUEUE",),
    "proc": ("/proc",),
    "fcntl": ("fcntl",),
    "termios": ("termios", "os.openpty", "os.ctermid"),
    "dontwait": ("_socket.MSG_DONTWAIT",),
    "recvmsg": ("socket.socket.recvmsg", "socket.socket.recvmsg_into", "socket.socket.sendmsg"),
    "socketpair": ("_socket.socketpair",),
    "unix": ("_socket.AF_UNIX",),
    "pread": ("os.pread", "os.pwrite", "os.preadv", "os.pwritev", "os.readv", "os.writev"),
    "blocking": ("os.get_blocking", "os.set_blocking"),
    "flags": ("os.O_NONBLOCK", "os.O_CLOEXEC", "os.O_NOFOLLOW", "os.O_DIRECTORY", "os.O_NOCTTY"),
    "statvfs": ("os.fstatvfs",),
    "fork": ("os.fork", "os.forkpty", "os.register_at_fork"),
    "groups": ("os.killpg", "os.getpgid", "os.setpgid", "os.getpgrp", "os.setsid", "os.getsid", "os.tcgetpgrp"),
    "signals": (
        *(
            "_signal.SIGHUP",
            "_signal.SIGUSR1",
            "_signal.SIGUSR2",
            "_signal.SIGALRM",
            "_signal.SIGPIPE",
            "_signal.SIGURG",
        ),
        *("_signal.pthread_kill", "_signal.pthread_sigmask", "_signal.sigwait", "_signal.setitimer"),
    ),
    "nonblock": ("_socket.SOCK_NONBLOCK", "_socket.SOCK_CLOEXEC"),
}

#: What several systems lack, as far as Linux can play them.
SYSTEMS: dict[str, tuple[str, ...]] = {
    "macos": (
        *("eventfd", "epoll", "splice", "copy_file_range", "sendfile", "renameat2", "nowait", "pidfd", "waitid"),
        *("fallocate", "fdatasync", "xattr", "errqueue", "proc", "nonblock"),
    ),
    # Without the two that the tests themselves cannot do without.
    "windows": tuple(part for part in PARTS if part not in {"socketpair", "unix"}),
}


def take_away(words: list[str]) -> None:
    """Take these parts, or those that these systems lack."""
    parts = dict.fromkeys(part for word in words for part in SYSTEMS.get(word, (word,)))
    # First what modules in Python take from those in C when they are imported, as `socket` does from `_socket`.
    for name in sorted((name for part in parts for name in PARTS[part]), key=lambda name: not name.startswith("_")):
        module, _, attribute = name.rpartition(".")
        if name in _TAKERS:
            _TAKERS[name]()
        elif not module:
            sys.modules[name] = None  # type: ignore[assignment]  # which is how an import of it fails
        else:
            _take_attribute(module, attribute)


def is_missing(part: str) -> bool:
    """Whether this system has nothing of a part."""
    return all(map(_is_missing, PARTS[part]))


def _is_missing(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    if name == "/proc":
        return not os.path.isdir("/proc/self/fd")
    if name == "renameat2":
        try:
            import ctypes

            return not hasattr(ctypes.CDLL(None), name)
        except (ImportError, OSError, TypeError):
            return True
    try:
        if module:
            return not hasattr(_owner(module), attribute)
        __import__(name)
    except ImportError:
        return True
    return False


def _owner(path: str) -> Any:
    module, *inner = path.split(".")
    owner: Any = __import__(module)
    for each in inner:
        owner = getattr(owner, each)
    return owner


def _take_attribute(path: str, name: str) -> None:
    if path == "os":  # where most of it comes from
        _take_attribute("posix", name)
    owner = _owner(path)
    if isinstance(owner, type):  # it is inherited of a class in C, which cannot be changed
        setattr(owner, name, _Missing())
    elif hasattr(owner, name):
        delattr(owner, name)


class _Missing:
    """An attribute that is not there."""

    def __get__(self, instance: object, owner: object) -> Any:
        raise AttributeError("not on this system")


def _take_renameat2() -> None:
    import ctypes

    class WithoutIt(ctypes.CDLL):
        def __getattr__(self, name: str) -> Any:
            if name == "renameat2":
                raise AttributeError(name)
            return super().__getattr__(name)

    ctypes.CDLL = WithoutIt  # type: ignore[misc]


def _take_proc() -> None:
    sys.addaudithook(_refuse_proc)
    is_folder: Any = os.path.isdir
    os.path.isdir = lambda s: not _is_of_proc(s) and is_folder(s)


def _refuse_proc(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "os.scandir") and _is_of_proc(arguments[0]):
        raise FileNotFoundError(2, "No such file or directory", arguments[0])


def _is_of_proc(path: Any) -> bool:
    return isinstance(path, str) and path.startswith("/proc/")


_TAKERS = {"renameat2": _take_renameat2, "/proc": _take_proc}

if __name__ == "sitecustomize" and (named := os.environ.get("IOINTERRUPT_WITHOUT")):
    take_away(named.split(","))
