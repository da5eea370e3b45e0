"""`patch_all`: every library that waits in Python's own sockets, sleeps, selects and conditions becomes interruptible.

What is put in whose place is in `_monkey`, part by part. Nothing changes for a thread that has no current stop: the originals
are called there. In one that has a stop (`use_stop`, `Thread`, `ThreadGroup`, or a script under `iointerrupt run`) a call that
waits is released by it, and raises `Interrupted`::

    from iointerrupt import monkey

    monkey.patch_all()  # first of all, before the libraries are imported

    import redis
    from iointerrupt.threads import Thread

    worker = Thread(target=lambda: redis.Redis().blpop("jobs"))
    worker.start()
    worker.interrupt()

Where a library takes a socket, a session or a TLS context from its user, that is the cleaner way; see docs/libraries.md.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable

from iointerrupt._monkey import processes, selecting, sockets, waiting
from iointerrupt._monkey.patches import Patch, Replaced, apply, undo
from iointerrupt._monkey.references import kept_references, running_threads

__all__ = ["PARTS", "PatchWarning", "is_patched", "patch_all", "unpatch_all"]

_PATCHES: dict[str, Callable[[], Iterable[Patch]]] = {
    "socket": sockets.socket_patches,
    "ssl": sockets.ssl_patches,
    "dns": sockets.dns_patches,
    "sleep": waiting.sleep_patches,
    "select": selecting.patches,
    "subprocess": processes.patches,
    "queue": waiting.queue_patches,
    "thread": waiting.thread_patches,
}

#: The names of the parts, which are the arguments of `patch_all`.
PARTS = tuple(_PATCHES)


class PatchWarning(RuntimeWarning):
    """Something has kept an original, or waits in one, that has been patched; or has patched it once more."""


def patch_all(
    *,
    socket: bool = True,
    ssl: bool = True,
    dns: bool = True,
    sleep: bool = True,
    select: bool = True,
    subprocess: bool = True,
    queue: bool = True,
    thread: bool = True,
) -> None:
    """Replace what blocks in the standard library by what a current stop ends.

    In a thread without a current stop each of them is the original, in behaviour and speed. In one with a stop, a call that
    waits raises `Interrupted` when that is set, or at once if it is; so does one that sends, receives or connects, also where it
    need not wait. Any other call that need not wait returns as ever, such as a `get` from a queue that has items.

    Args:
        socket: `socket.socket`, and with it `create_connection`, `create_server`, `socketpair`, `fromfd`, and all that is
            built on them.
        ssl: what `SSLContext.wrap_socket` makes.
        dns: `socket.getaddrinfo`, `gethostbyname`, `gethostbyname_ex`, `gethostbyaddr`, `getnameinfo`, `getfqdn`.
        sleep: `time.sleep`.
        select: `select.select`, `poll` and `epoll`, and `selectors`; an asyncio loop is left once, as by
            a Ctrl-C, and `asyncio.run` cancels its tasks; a trio run is never interrupted from within.
        subprocess: `Popen.wait` and `Popen.communicate`, and so `subprocess.run`. The process goes on, unless `run` kills it.
        queue: `threading.Condition.wait`, and with it `Event.wait`, `queue.Queue`, semaphores, barriers and futures; and
            `queue.SimpleQueue`.
        thread: `threading.Thread.join`.

    Call it before other modules are imported, and once; calling it again patches what is not patched yet.

    Raises:
        TypeError: an argument is not a bool. Nothing has been changed then.

    Warns:
        PatchWarning: modules that were imported before have kept originals; threads are running, which may be waiting in
            one. They are named. What they wait in is not interruptible, all else is.
    """
    wanted = {
        "socket": socket,
        "ssl": ssl,
        "dns": dns,
        "sleep": sleep,
        "select": select,
        "subprocess": subprocess,
        "queue": queue,
        "thread": thread,
    }
    for name, value in wanted.items():
        if not isinstance(value, bool):
            raise TypeError(f"{name} must be True or False, not {value!r}")
    with _lock:
        new = _apply([name for name in PARTS if wanted[name] and name not in _done])
        _done.update(new)
        sockets.let_both_be_sent()
    if new:
        _warn_of_what_is_late([replaced for part in new.values() for replaced in part])


def unpatch_all() -> None:
    """Put back all that `patch_all` has replaced; nothing where it has not.

    Sockets, queues and selectors that were made meanwhile go on as they are, and so do waits that have begun.

    Warns:
        PatchWarning: something that was replaced has been replaced by somebody else since, and is left as it is.
    """
    with _lock:
        left = [replaced for part in reversed(_done.values()) for replaced in undo(part)]
        _done.clear()
        sockets.let_both_be_sent()
    if left:
        names = ", ".join(map(str, left))
        warnings.warn(f"patched by somebody else since, and left as it is: {names}", PatchWarning, stacklevel=2)


def is_patched(part: str | None = None) -> bool:
    """Whether anything is patched; or that part, one of `PARTS`.

    Raises:
        ValueError: there is no such part.
    """
    if part is not None and part not in _PATCHES:
        raise ValueError(f"there is no part {part!r}; the parts are {', '.join(PARTS)}")
    return bool(_done) if part is None else part in _done


def _apply(parts: Iterable[str]) -> dict[str, list[Replaced]]:
    new: dict[str, list[Replaced]] = {}
    try:
        for name in parts:
            new[name] = apply(_PATCHES[name]())
    except BaseException:
        for done in reversed(new.values()):
            undo(done)
        raise
    return new


def _warn_of_what_is_late(replaced: list[Replaced]) -> None:
    if kept := kept_references(replaced):
        warnings.warn(
            f"imported before it was patched, and so not interruptible: {', '.join(kept)}."
            " Call iointerrupt.monkey.patch_all() before these modules are imported",
            PatchWarning,
            stacklevel=3,
        )
    if running := running_threads():
        warnings.warn(
            f"running already, and not interruptible in what they are blocked in at this moment: {', '.join(running)}."
            " Call iointerrupt.monkey.patch_all() before threads are started",
            PatchWarning,
            stacklevel=3,
        )


#: The parts that are patched, in that order, and what was replaced for each; guarded by `_lock`.
_done: dict[str, list[Replaced]] = {}
_lock = threading.RLock()
