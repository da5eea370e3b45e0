"""The session that a download works with: the caller's, as one whose every phase a stop ends."""

from __future__ import annotations

import requests
import requests.adapters

from iointerrupt import http


def stoppable(session: requests.Session | None, connections: int) -> tuple[requests.Session, bool]:
    """A session for downloads, and whether it is to be closed after them.

    A plain `requests.Session` blocks in most phases where no stop reaches it. Its settings, cookies and hooks are taken over by
    one of ours, which shares them; the caller's own stays as it is. A session with adapters of its own is used as it is.

    Args:
        session: the caller's; None for a new one.
        connections: how many to keep for each host.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(session, requests.Session | None):
        raise TypeError(f"session must be a requests.Session or None, not {type(session).__name__}")
    if session is None:
        return http.Session(pool_size=connections), True
    if type(session) is not requests.Session or any(
        type(adapter) is not requests.adapters.HTTPAdapter for adapter in session.adapters.values()
    ):
        return session, False
    ours = http.Session(pool_size=connections)
    for name in requests.Session.__attrs__:
        if name != "adapters":
            setattr(ours, name, getattr(session, name))
    return ours, True
