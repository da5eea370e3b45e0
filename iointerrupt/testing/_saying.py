"""What a leak check says of a thing that was left behind: one line, with what it is, who holds it, and where it was made."""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, Final

from iointerrupt._helpers import Left
from iointerrupt._where import stands_at
from iointerrupt.testing._origins import information, of_child, of_descriptor, of_thread

#: What the kernel calls what has no name, where that is not what the program calls it.
_NAMES: Final = {"eventpoll": "epoll"}

_ENDS: Final = {os.O_RDONLY: ", its end for reading", os.O_WRONLY: ", its end for writing"}


def say_descriptor(number: int, link: str, holders: Callable[[], dict[int, str]]) -> str:
    """Of a descriptor of which /proc says `link`; `holders` says who holds which."""
    kind, _, rest = link.partition(":")
    rest = rest.strip("[]")
    if kind == "socket" or not link:
        what = _socket(number) + holders().get(number, "")
    elif kind == "pipe":
        what = f"pipe {rest}{_ENDS.get(int(_told(number, 'flags') or '-1', 8) & os.O_ACCMODE, '')}"
    elif kind == "anon_inode":
        what = _NAMES.get(rest, rest)
        if pid := _told(number, "Pid"):
            what = f"{what} of process {pid}"
    elif link.startswith("/memfd:"):
        what = f"file in memory {link.removeprefix('/memfd:').removesuffix(' (deleted)')}"
    else:
        path = link.removesuffix(" (deleted)")
        what = f"file {path}{'' if path == link else ', deleted'}"
    return _located(f"descriptor {number}, {what}", "made", of_descriptor(number, link))


def _told(number: int, what: str) -> str:
    for line in information(number):
        key, _, value = line.partition(b":")
        if key == what.encode():
            return value.strip().decode()
    return ""


def _socket(number: int) -> str:
    try:
        # Not socket.socket, for which a test may have put something else.
        sock = socket.SocketType(fileno=os.dup(number))
    except OSError:
        return "unknown"
    try:
        return f"socket {_family(sock)} {_ends(sock)}"
    finally:
        sock.close()


def _family(sock: Any) -> str:
    try:
        return f"{socket.AddressFamily(sock.family).name} {socket.SocketKind(sock.type).name}"
    except ValueError:
        return f"of family {sock.family}"


def _ends(sock: Any) -> str:
    near, far = _address(sock.getsockname), _address(sock.getpeername)
    if far:
        return f"{near} to {far}"
    listens = 0
    with suppress(OSError, AttributeError):
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return f"{near}, {'listening' if listens else 'not connected'}"


def _address(ask: Callable[[], Any]) -> str:
    try:
        name = ask()
    except OSError:
        return ""
    if not isinstance(name, tuple):
        return os.fsdecode(name or "unnamed").replace("\0", "@")
    host = f"[{name[0]}]" if ":" in str(name[0]) else name[0]
    return f"{host}:{name[1]}" if len(name) > 1 else str(host)


def find_holders(numbers: frozenset[int]) -> dict[int, str]:
    """Which of the sockets urllib3 has, in a pool or for a response, and what is to be done about it."""
    connections: Any = sys.modules.get("urllib3.connection")
    pools: Any = sys.modules.get("urllib3.connectionpool")
    responses: Any = sys.modules.get("urllib3.response")
    if connections is None or pools is None or responses is None:
        return {}
    found: dict[int, str] = {}
    for response in _instances(responses.HTTPResponse):
        connection = getattr(response, "_connection", None)
        number = next(
            (number for number in (_number(connection, "sock"), _number(response)) if number in numbers), None
        )
        if number is not None:
            pool = getattr(response, "_pool", None) or connection
            place = f" of {pool.host}:{pool.port}" if pool is not None else ""
            found[number] = (
                f", held by a response{place} that was not read to its end: close the session or the response"
            )
    for pool in _instances(pools.HTTPConnectionPool):
        for connection in list(getattr(getattr(pool, "pool", None), "queue", ())):
            number = _number(connection, "sock")
            if number is not None:
                found[number] = (
                    f", in the connection pool of {pool.host}:{pool.port}: close the session or the response"
                )
    for connection in _instances(connections.HTTPConnection):
        number = _number(connection, "sock")
        if number is not None:
            found.setdefault(number, f", a connection of urllib3 to {connection.host}:{connection.port}")
    return found


def _instances(kind: type) -> Iterator[Any]:
    # By `type`, since `isinstance` asks an object for its class, and a proxy may then do anything.
    return (one for one in gc.get_objects() if issubclass(type(one), kind))


def _number(holder: Any, attribute: str = "") -> int | None:
    try:
        sock = getattr(holder, attribute) if attribute else holder
        return int(sock.fileno())
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def say_thread(left: threading.Thread) -> str:
    """Of a thread."""
    stands = stands_at(left.ident)
    what = f"thread {left.name!r}" + (f", which stands at {stands}" if stands else "")
    return _located(what, "started", of_thread(left))


def say_child(pid: int) -> str:
    """Of a child process."""
    what = f"child process {pid}"
    with suppress(OSError, IndexError):
        with open(f"/proc/{pid}/stat", "rb") as file:
            name, _, rest = file.read().decode(errors="replace").rpartition(")")
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            command = file.read().rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
        # A zombie has no command line any more.
        command = command or name.partition("(")[2]
        what += f", ended and not reaped: {command}" if rest.split()[0] == "Z" else f", running {command}"
    return _located(what, "started", of_child(pid))


def say_call(left: Left) -> str:
    """Of a call in a helper."""
    return f"abandoned helper {left}"


def _located(what: str, how: str, where: str | None) -> str:
    return what if where is None else f"{what}, {how} at {where}"
