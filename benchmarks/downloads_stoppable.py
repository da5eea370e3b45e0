"""Python clients whose downloads another thread stops, each in a process of its own: this file is the program.

`stop CLIENT URL DEST [CA]` is told on stdin when to begin a download and when to stop it, and tells how long that took.
`slot` is the same for a download that waits until another one of its program has ended.
"""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from benchmarks.downloads_clients import (
    MIB,
    TIMEOUT,
    curl_handle,
    get_aiohttp,
    one_gdown,
    one_requests,
    ours,
    requests_session,
)

#: Seconds after which who has not stopped is said to hang.
LIMIT = 3.0

# Of pycurl, kept from being cleaned up.
_LEFT: list[Any] = []

# What downloads until it is stopped, and what stops it.
Stoppable = tuple[Callable[[], object], Callable[[], object]]


def stop_iointerrupt(url: str, dest: str, ca: str | None) -> Stoppable:
    """Ours."""
    from iointerrupt import StopEvent, downloads

    stop = StopEvent()
    keywords = ours(ca)
    return lambda: downloads.download(url, dest, stop=stop, **keywords), stop.set


def slot_iointerrupt(url: str, dest: str, ca: str | None) -> Stoppable:
    """Ours, where another download has the only slot."""
    from iointerrupt import StopEvent, downloads

    stop = StopEvent()
    manager = downloads.DownloadManager(jobs=1, **ours(ca))
    manager.submit(url, dest)
    return manager.submit(url, f"{dest}.second", stop=stop).result, stop.set


def stop_requests(url: str, dest: str, ca: str | None) -> Stoppable:
    """A worker that looks at an event between two chunks."""
    stop = threading.Event()
    session = requests_session()

    def work() -> None:
        with session.get(url, stream=True, timeout=TIMEOUT, verify=ca) as response, open(dest, "wb") as file:
            for chunk in response.iter_content(MIB):
                if stop.is_set():
                    return
                file.write(chunk)

    return work, stop.set


def slot_requests(url: str, dest: str, ca: str | None) -> Stoppable:
    """The second of two in a pool of one thread: its future is cancelled."""
    executor = ThreadPoolExecutor(1)
    executor.submit(one_requests, url, dest, ca)
    future = executor.submit(one_requests, url, f"{dest}.second", ca)
    return future.result, future.cancel


def stop_gdown(url: str, dest: str, ca: str | None) -> Stoppable:
    """Its `cancel`."""
    import gdown

    cancel = threading.Event()
    assert gdown
    return lambda: one_gdown(url, dest, ca, cancel), cancel.set


def stop_aiohttp(url: str, dest: str, ca: str | None) -> Stoppable:
    """The task is cancelled."""
    import asyncio

    import aiohttp

    assert aiohttp
    loops: list[Any] = []

    async def main() -> None:
        loops.extend((asyncio.get_running_loop(), asyncio.current_task()))
        await get_aiohttp(url, dest, ca)

    return lambda: asyncio.run(main()), lambda: loops[0].call_soon_threadsafe(loops[1].cancel)


def slot_aiohttp(url: str, dest: str, ca: str | None) -> Stoppable:
    """The second of two tasks, at a semaphore, is cancelled."""
    import asyncio

    import aiohttp

    assert aiohttp
    loops: list[Any] = []

    async def one(slot: asyncio.Semaphore, path: str) -> None:
        async with slot:
            await get_aiohttp(url, path, ca)

    async def main() -> None:
        slot = asyncio.Semaphore(1)
        first = asyncio.create_task(one(slot, dest))
        await asyncio.sleep(0)
        second = asyncio.create_task(one(slot, f"{dest}.second"))
        loops.extend((asyncio.get_running_loop(), second))
        try:
            await second
        finally:
            first.cancel()

    return lambda: asyncio.run(main()), lambda: loops[0].call_soon_threadsafe(loops[1].cancel)


def stop_pycurl(url: str, dest: str, ca: str | None, *, second: bool = False) -> Stoppable:
    """A multi that waits for a wake-up too; the pause before another try is a wait for that alone.

    What is stopped is left as it is: removing a handle would wait for the end of its lookup, however long that takes.
    """
    import select

    import pycurl

    wake = os.eventfd(0, os.EFD_NONBLOCK)

    def poll(descriptors: list[list[int]], seconds: float) -> None:
        poller = select.poll()
        for number in descriptors[0]:
            poller.register(number, select.POLLIN)
        for number in descriptors[1]:
            poller.register(number, select.POLLOUT)
        poller.register(wake, select.POLLIN)
        if any(number == wake for number, _ in poller.poll(seconds * 1000)):
            raise InterruptedError

    def transfer(file: Any) -> bool:
        """Returns whether it has succeeded."""
        multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_MAX_TOTAL_CONNECTIONS, 1)
        handles = [curl_handle(url, file, ca) for _ in range(1 + second)]
        _LEFT.extend((multi, *handles))
        for handle in handles:
            multi.add_handle(handle)
        while True:
            multi.perform()
            _, good, bad = multi.info_read()
            if good or bad:
                return bool(good)
            timeout = multi.timeout()  # ms, or -1
            poll(list(multi.fdset()), min(timeout, 1000) / 1000 if timeout >= 0 else 1.0)

    def work() -> None:
        with open(dest, "wb") as file:
            while not transfer(file):
                poll([[], []], 20)

    return work, lambda: os.eventfd_write(wake, 1)


def slot_pycurl(url: str, dest: str, ca: str | None) -> Stoppable:
    """Two transfers in a multi that may have one connection."""
    return stop_pycurl(url, dest, ca, second=True)


def _stop(make: Callable[[str, str, str | None], Stoppable], url: str, dest: str, ca: str | None) -> NoReturn:
    """For each line of stdin begin a download, and stop it at the next one; tell the milliseconds, or what happened."""
    made = (make(url, f"{dest}.{number}", ca) for number in itertools.count())
    work, cancel = next(made)  # which imports what it needs
    print("ready", flush=True)
    for _ in sys.stdin:
        ended: list[tuple[float, str]] = []
        thread = threading.Thread(target=_run, args=(work, ended), daemon=True)
        thread.start()
        sys.stdin.readline()
        if ended:
            answer = f"gives up: {ended[0][1]}"
        else:
            began = time.perf_counter()
            cancel()
            thread.join(LIMIT)
            answer = f"{(ended[0][0] - began) * 1e3}" if ended else "hangs"
        work, cancel = next(made)
        print(answer, flush=True)
    os._exit(0)  # without those that hang


def _run(work: Callable[[], object], ended: list[tuple[float, str]]) -> None:
    try:
        work()
        said = "done"
    except BaseException as error:  # noqa: BLE001 - it is told
        moment, said = time.perf_counter(), repr(error)
    else:
        moment = time.perf_counter()
    ended.append((moment, said))


#: With what is stopped while it waits for another download to end, where the client knows such a thing.
STOP: dict[
    str, tuple[Callable[[str, str, str | None], Stoppable], Callable[[str, str, str | None], Stoppable] | None]
] = {
    "iointerrupt": (stop_iointerrupt, slot_iointerrupt),
    "pycurl": (stop_pycurl, slot_pycurl),
    "aiohttp": (stop_aiohttp, slot_aiohttp),
    "gdown": (stop_gdown, None),
    "requests": (stop_requests, slot_requests),
}


def main() -> None:
    """Do what the arguments say."""
    what, client, url, dest, *rest = sys.argv[1:]
    make = STOP[client][what == "slot"]
    assert make is not None
    _stop(make, url, dest, rest[0] if rest else None)


if __name__ == "__main__":
    main()
