"""Waits for descriptors where there is no poll, which is on Windows: by select, which takes nothing but sockets there.

On other systems it takes every descriptor below 1024 (FD_SETSIZE), and says so of any other one.
"""

from __future__ import annotations

import errno
import select
from collections.abc import Collection

# The standard one, also where a program has put that of `monkey` in its place.
_select = select.select


def poll(readers: Collection[int], writers: Collection[int], timeout: float | None) -> set[int]:
    """Which of these are ready, in error or hung up, after at most `timeout` seconds.

    Raises:
        OSError: one is not open, or is none that select can wait for.
        ValueError: one is negative.
    """
    try:
        # On Windows a connection that has failed is told as an exceptional condition alone.
        found = _select(readers, writers, [*readers, *writers], timeout)
    except ValueError as error:
        if min([*readers, *writers]) < 0:
            raise
        raise OSError(errno.EINVAL, f"this system has no poll, and its select cannot wait for this ({error})") from None
    return set().union(*found)
