"""Name lookups that a stop can end: `getaddrinfo`, run where it may be left behind.

The C library's `getaddrinfo` waits for name servers inside the kernel's own time limits, and nothing wakes it. So a name
is looked up in a helper thread (see `_helpers.Helpers`): a stop or a timeout abandons the helper, and its answer is dropped
when it comes. Literal addresses need no server and no thread.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any

from iointerrupt._helpers import Helpers
from iointerrupt._stop import StopEvent, as_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import check, deadline_of, stops

#: What `socket.getaddrinfo` returns: family, type, proto, canonname, sockaddr.
AddressInfo = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]

# A name server that answers nobody holds each of these for some 30 seconds.
_helpers = Helpers("iointerrupt-dns", 32)

_standard: Any = socket.getaddrinfo
#: The attribute of a `stoppable_getaddrinfo` that is what it calls.
_ORIGINAL = "_iointerrupt_original"
_LITERAL = int(socket.AI_NUMERICHOST | socket.AI_NUMERICSERV)  # to be combined faster than the enumeration
_INTERNET = (socket.AF_INET, socket.AF_INET6)


def getaddrinfo(  # noqa: PLR0917 - the signature is the standard library's
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002 - the standard library's name for it
    proto: int = 0,
    flags: int = 0,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
) -> list[AddressInfo]:
    """`socket.getaddrinfo`, which a stop or a timeout ends.

    Args:
        host, port, family, type, proto, flags: as for `socket.getaddrinfo`.
        stop: what ends the lookup, besides the current stop.
        timeout: seconds after which to give up; None for no limit but that of the system's resolver.

    Raises:
        Interrupted: a stop was set; the lookup goes on in a thread that nobody waits for, and its answer is dropped.
        TimeoutError: the timeout passed; likewise.
        socket.gaierror: there is no such name.
    """
    deadline = deadline_of(timeout)
    return lookup(host, port, family, type, proto, flags, own=as_stop(stop), deadline=deadline)


def lookup(  # noqa: PLR0917 - as above
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,  # noqa: A002 - as above
    proto: int = 0,
    flags: int = 0,
    *,
    own: StopEvent | None = None,
    deadline: float | None = None,
) -> list[AddressInfo]:
    """`getaddrinfo` with an operation's own stop and its deadline on `time.monotonic`."""
    resolve: Any = socket.getaddrinfo  # asked for now: programs put their own resolver there
    resolve = _standard if resolve is getaddrinfo else getattr(resolve, _ORIGINAL, resolve)
    return _resolved(resolve, host, port, family, type, proto, flags, own=own, deadline=deadline)


def _resolved(  # noqa: PLR0917 - as above
    resolve: Any,
    host: Any,
    port: Any,
    family: int,
    type: int,  # noqa: A002 - as above
    proto: int,
    flags: int,
    *,
    own: StopEvent | None,
    deadline: float | None,
) -> list[AddressInfo]:
    check(own)
    if resolve is _standard:
        try:
            return resolve(host, port, family, type, proto, flags | _LITERAL)  # type: ignore[no-any-return]  # as it is Any
        except socket.gaierror:
            pass  # a name, or an error that the real call will repeat
    if deadline is None and not stops(own):
        return resolve(host, port, family, type, proto, flags)  # type: ignore[no-any-return]  # as it is Any
    job: Callable[[], list[AddressInfo]] = functools.partial(resolve, host, port, family, type, proto, flags)
    return _helpers.run(job, own, deadline)


def in_helper(resolve: Any) -> Any:
    """`resolve`, which a current stop ends; it is called as it is where there is none."""

    @functools.wraps(resolve)
    def resolve_in_helper(*args: Any, **kwargs: Any) -> Any:
        if not stops(None):
            return resolve(*args, **kwargs)
        return _helpers.run(functools.partial(resolve, *args, **kwargs), None)

    return resolve_in_helper


def stoppable_getaddrinfo(resolve: Any) -> Any:
    """`in_helper` for a `getaddrinfo`: what needs no name server needs no helper either."""

    @functools.wraps(resolve)
    def getaddrinfo(  # noqa: PLR0917 - the signature is the standard library's
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,  # noqa: A002 - as above
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddressInfo]:
        if not stops(None):
            return resolve(host, port, family, type, proto, flags)  # type: ignore[no-any-return]  # as it is Any
        return _resolved(resolve, host, port, family, type, proto, flags, own=None, deadline=None)

    setattr(getaddrinfo, _ORIGINAL, resolve)
    return getaddrinfo


def numeric(family: int, address: Any, own: StopEvent | None, deadline: float | None) -> Any:
    """`address` with its host name replaced by the first address it has, so that no system call has to look it up."""
    if family not in _INTERNET or not isinstance(address, tuple) or not address:
        return address
    host, *rest = address
    if not isinstance(host, str | bytes | bytearray) or host in ("", b"", "<broadcast>", b"<broadcast>"):
        return address  # the socket's own business: any address, broadcast, or a type error
    if isinstance(host, bytearray):
        host = bytes(host)
    try:
        _standard(host, None, family, flags=_LITERAL)
    except socket.gaierror:
        return (lookup(host, None, family, own=own, deadline=deadline)[0][4][0], *rest)
    except ValueError:  # UnicodeError, a null character: the socket has the words for it
        return address
    return address
