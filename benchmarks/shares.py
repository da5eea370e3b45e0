"""Where the time of something goes: by the package whose code is running, or has called what is.

The call stack of the thread is looked at a thousand times a second. That distorts less than a profiler that counts each call,
which makes many small functions look dear. What is called in C counts as its caller's, a system call and what it waits for included.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from types import FrameType
from typing import Any

import requests
import urllib3

import iointerrupt
from benchmarks.throughput_clients import BODIES, SMALL, Make, Sized, entered
from benchmarks.throughput_http import authority
from benchmarks.throughput_server import serving
from benchmarks.throughput_work import MIB, memory_folder
from iointerrupt import StopEvent, downloads, http
from iointerrupt.threads import ThreadGroup

#: Seconds for one call, by package; "all" is their sum.
Shares = dict[str, float]

#: Those of the standard library that are worth a line of their own: by the beginning of a name, what it is called.
_STANDARD = {
    "http": "http.client and email",
    "email": "http.client and email",
    "socket": "socket",
    "ssl": "ssl",
    "threading": "threading",
    "typing": "typing",
}

_PERIOD = 0.001  # seconds between two looks
_OURS = os.path.dirname(iointerrupt.__file__) + os.sep
_KIB = 1024

#: Those that are about as fast as ours with a large body.
_BODIES = {
    name: make.with_size(MIB) if isinstance(make, Sized) else make
    for name, make in BODIES.items()
    if name in {"iointerrupt", "urllib3 readinto", "aiohttp iter_chunked"}
}


def measure(seconds: float) -> Iterator[tuple[str, dict[str, Shares]]]:
    """By what is done: the shares of ours and of others, of which each is measured for so many seconds."""
    yield (
        "a new session",
        {
            "iointerrupt": shares(lambda: http.Session(stop=_STOP), seconds),
            "requests": shares(requests.Session, seconds),
        },
    )
    with memory_folder() as folder:
        with serving("http") as (host, port):
            url = f"http://{host}:{port}/"
            yield "a request of 1 KiB", _getting(SMALL, f"{url}{_KIB}", None, seconds)
            yield "a file of 1 KiB", _files(f"{url}{_KIB}", folder, seconds)
        trusted, certificate = authority(folder)
        with serving("http", certificate=certificate) as (host, port):
            yield "a body of 64 MiB over TLS", _getting(_BODIES, f"https://{host}:{port}/{64 * MIB}", trusted, seconds)
    yield (
        "ten threads that end at once",
        {
            "ThreadGroup": shares(_member, seconds),
            "threading.Thread": shares(_thread, seconds),
        },
    )


def _getting(makes: Mapping[str, Make], url: str, trusted: str | None, seconds: float) -> dict[str, Shares]:
    with ExitStack() as stack:
        gets, _ = entered(stack, makes, trusted)
        return {name: shares(partial(get, url), seconds) for name, get in gets.items()}


def _files(url: str, folder: str, seconds: float) -> dict[str, Shares]:
    path = os.path.join(folder, "file")
    pool = urllib3.PoolManager()

    def by_hand() -> None:
        body = pool.request("GET", url).data
        with open(path, "wb") as file:
            file.write(body)

    with http.Session(stop=_STOP) as session:
        session.trust_env = False
        return {
            "iointerrupt": shares(lambda: downloads.download(url, path, session=session, overwrite=True), seconds),
            "urllib3 and write": shares(by_hand, seconds),
        }


def _member() -> None:
    with ThreadGroup() as group:
        for _ in range(10):
            group.start(_nothing)


def _thread() -> None:
    threads = [threading.Thread(target=_nothing) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _nothing() -> None:
    pass


def shares(call: Callable[[], Any], seconds: float) -> Shares:
    """Where the time of a call goes that is made again and again for so long. For the main thread, which signals interrupt.

    The other threads of the process go on, and are not looked at.
    """
    seen: Counter[str] = Counter()

    def look(_signum: int, frame: FrameType | None) -> None:
        if frame is not None:
            seen[_package(frame)] += 1

    call()
    before = signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _PERIOD, _PERIOD)
    calls, began = 0, time.perf_counter()
    try:
        while time.perf_counter() < began + seconds:
            call()
            calls += 1
        each = (time.perf_counter() - began) / calls
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    looks = sum(seen.values())
    return {"all": each} | {package: each * count / looks for package, count in seen.most_common()}


def _package(frame: FrameType) -> str:
    """The package, or the module of the standard library, whose code it is; of ours, the layer."""
    path = frame.f_code.co_filename
    if path.startswith(_OURS):
        layer = path.removeprefix(_OURS).split(os.sep)[0].removesuffix(".py")
        return f"iointerrupt.{layer}"
    if f"site-packages{os.sep}" in path:
        return path.rpartition(f"site-packages{os.sep}")[2].split(os.sep)[0].removesuffix(".py")
    if os.sep + "benchmarks" + os.sep in path:
        return "the caller"
    name: str = frame.f_globals.get("__name__", "?")
    return _STANDARD.get(name.partition(".")[0], "other modules of Python")


_STOP = StopEvent()
