"""Files that the tests' nginx serves: how they get there and change, are begun to be downloaded, and what was asked for."""

from __future__ import annotations

import os
import time

import pytest

from iointerrupt import Interrupted, StopEvent
from iointerrupt.downloads import download

# Of the first version, in the past, as a date is a validator only when it is older than a second.
LONG_AGO = int(time.time()) - 100_000


def put(path, content, later=0):
    """Put a file on the server, in one instant, that is so many seconds newer than others."""
    fresh = path.with_name(f"{path.name}.fresh")
    fresh.write_bytes(content)
    os.utime(fresh, (LONG_AGO + later, LONG_AGO + later))
    fresh.replace(path)


def begin(url, path, **options):
    """Download the beginning of a file, and stop at its first bytes; return how many there were."""
    stop = StopEvent()
    with pytest.raises(Interrupted) as caught:
        download(url, path, stop=stop, progress=lambda now: now.done and stop.set(), **options)
    assert caught.value.transferred
    assert not path.exists()
    return caught.value.transferred


def at_first_bytes(do):
    """A `progress` that does something, once, when the first bytes have come."""
    done = []

    def progress(now):
        if now.done and not done:
            done.append(now)
            do()

    return progress


def asked(server):
    """The requests for the file so far: range and status of each."""
    return [(request.range, request.status) for request in server.requests()]
