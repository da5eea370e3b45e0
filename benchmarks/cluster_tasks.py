"""What the workers run for `benchmarks.cluster`. It is a module of its own, since what is in a program's main one is sent by value."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Any

import requests

from iointerrupt import Interrupted, sockets
from iointerrupt.dask import ClusterStop

#: Seconds between two looks of a polling loop.
PERIOD = 0.1


def receive(stop: ClusterStop, address: tuple[str, int]) -> float:
    """Receive until the stop; when that was."""
    with sockets.create_connection(address, stop=stop) as sock:
        try:
            while sock.recv(4096):
                pass
        except Interrupted:
            return time.monotonic()
    raise RuntimeError("it was not stopped")


def poll(event: Any, address: tuple[str, int]) -> float:
    """Receive, and look at a `distributed.Event` now and then; when it was found to be set."""
    with socket.create_connection(address) as sock:
        sock.settimeout(PERIOD)
        while True:
            try:
                sock.recv(4096)
            except TimeoutError:
                if event.is_set():
                    return time.monotonic()


def wait(event: Any, address: tuple[str, int]) -> float:
    """Wait for a `distributed.Event`; when it was set."""
    with socket.create_connection(address):
        event.wait()
        return time.monotonic()


def get(url: str, dest: str) -> None:
    """Download a file as one does it first."""
    _write(requests.get(url, timeout=60), url, dest)


def get_pooled(url: str, dest: str) -> None:
    """Download a file over a connection that is used again."""
    try:
        session: requests.Session = _own.session
    except AttributeError:
        session = _own.session = requests.Session()
    _write(session.get(url, timeout=60), url, dest)


def _write(answer: requests.Response, url: str, dest: str) -> None:
    answer.raise_for_status()
    with open(os.path.join(dest, url.rpartition("/")[2]), "wb") as file:
        file.write(answer.content)


_own = threading.local()
