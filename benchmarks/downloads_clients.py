"""The Python clients that the benchmark of downloads compares, each in a process of its own: this file is the program.

`one CLIENT URL DEST [CA]` downloads a file, and `memory` tells its peak memory too (KiB). `many CLIENT URL COUNT FOLDER`
downloads URL0000, URL0001 and so on, eight at a time, and tells the seconds without those of its start.

Each client does what its documentation shows, and is imported only where it is used: the others would slow its start.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MIB = 1 << 20

#: Seconds; nothing in the benchmark takes so long, and some have no limit unless they are given one.
TIMEOUT = 30
_RETRIES = 10


def ours(ca: str | None) -> dict[str, Any]:
    """Keywords that have ours trust the authority."""
    if ca is None:
        return {}
    from iointerrupt import http

    session = http.Session()
    session.verify = ca
    return {"session": session}


# One file


def one_iointerrupt(url: str, dest: str, ca: str | None) -> None:
    """Ours."""
    from iointerrupt import downloads

    downloads.download(url, dest, **ours(ca))


def one_signals(url: str, dest: str, ca: str | None) -> None:
    """Ours, in a script that stops on signals."""
    from iointerrupt import Interrupted, downloads, threads

    try:
        with threads.stop_on_signals() as stop:
            downloads.download(url, dest, stop=stop, **ours(ca))
    except Interrupted:
        sys.exit(130)


def one_queue(url: str, dest: str, ca: str | None) -> None:
    """Ours, in a script that stops on signals, and has one slot for two downloads."""
    from iointerrupt import Interrupted, downloads, threads

    try:
        with threads.stop_on_signals() as stop, downloads.DownloadManager(jobs=1, stop=stop, **ours(ca)) as manager:
            both = [manager.submit(url, dest), manager.submit(url, f"{dest}.second")]
        for download in both:
            download.result()
    except Interrupted:
        sys.exit(130)


def one_requests(url: str, dest: str, ca: str | None) -> None:
    """A loop over `iter_content`."""
    with requests_session() as session, session.get(url, stream=True, timeout=TIMEOUT, verify=ca) as response:
        response.raise_for_status()
        with open(dest, "wb") as file:
            file.writelines(response.iter_content(MIB))


def requests_session() -> Any:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3 import Retry

    session = requests.Session()
    adapter = HTTPAdapter(
        pool_maxsize=8, max_retries=Retry(_RETRIES, status_forcelist=[503], respect_retry_after_header=True)
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, adapter)
    return session


def one_pycurl(url: str, dest: str, ca: str | None) -> None:
    """`perform` into a file."""
    with open(dest, "wb") as file:
        handle = curl_handle(url, file, ca)
        handle.perform()
        handle.close()


def curl_handle(url: str, file: Any, ca: str | None = None) -> Any:
    import pycurl

    handle = pycurl.Curl()
    handle.setopt(pycurl.URL, url)
    handle.setopt(pycurl.WRITEDATA, file)
    handle.setopt(pycurl.FAILONERROR, 1)
    handle.setopt(pycurl.NOSIGNAL, 1)  # as threads demand
    if ca is not None:
        handle.setopt(pycurl.CAINFO, ca)
    return handle


def one_gdown(url: str, dest: str, ca: str | None, cancel: threading.Event | None = None) -> None:
    """`gdown.download`."""
    import gdown

    gdown.download(
        url=url,
        output=dest,
        quiet=True,
        use_cookies=False,
        verify=ca or True,
        timeout=TIMEOUT,
        retries=_RETRIES,
        cancel=cancel,
    )


def one_pypdl(url: str, dest: str, ca: str | None) -> None:
    """`Pypdl.start` in one segment."""
    from pypdl import Pypdl

    keywords = {"ssl": _context(ca)} if ca else {}
    Pypdl().start(url=url, file_path=dest, multisegment=False, display=False, **keywords)


def one_parfive(url: str, dest: str, ca: str | None) -> None:
    """`Downloader.download` in one split, and in chunks of 1 MiB instead of 1 KiB."""
    from parfive import Downloader, SessionConfig

    folder, name = os.path.split(dest)
    downloader = Downloader(max_splits=1, progress=False, config=SessionConfig(file_progress=False))
    keywords = {"ssl": _context(ca)} if ca else {}
    downloader.enqueue_file(url, path=folder, filename=name, chunksize=MIB, **keywords)
    if errors := downloader.download().errors:
        raise errors[0].exception


def one_pooch(url: str, dest: str, ca: str | None) -> None:
    """`HTTPDownloader`, which is what `pooch.retrieve` downloads with, in chunks of 1 MiB instead of 1 KiB."""
    import pooch

    pooch.HTTPDownloader(chunk_size=MIB, verify=ca or True, timeout=TIMEOUT)(url, dest, None)


def one_huggingface_hub(url: str, dest: str, ca: str | None) -> None:
    """`http_get`, which is what `hf_hub_download` downloads with where there is no Xet."""
    if ca is not None:
        os.environ["SSL_CERT_FILE"] = ca  # which httpx looks at
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    with open(dest, "wb") as file:
        http_get(url, file)


def one_aiohttp(url: str, dest: str, ca: str | None) -> None:
    """A loop over `iter_chunked`."""
    import asyncio

    asyncio.run(get_aiohttp(url, dest, ca))


async def get_aiohttp(url: str, dest: str, ca: str | None) -> None:
    import asyncio

    import aiohttp

    context = _context(ca) if ca else True
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=TIMEOUT)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for _ in range(_RETRIES):
            async with session.get(url, ssl=context) as response:
                if response.status == 503:
                    await asyncio.sleep(float(response.headers["Retry-After"]))
                    continue
                response.raise_for_status()
                with open(dest, "wb") as file:  # noqa: ASYNC230 - which is what programs do
                    async for chunk in response.content.iter_chunked(MIB):
                        file.write(chunk)
                return


def _context(ca: str) -> Any:
    import ssl

    return ssl.create_default_context(cafile=ca)


# Many files


def many_iointerrupt(urls: list[str], paths: list[str]) -> None:
    """Ours."""
    from iointerrupt import downloads

    with downloads.DownloadManager(jobs=8) as manager:
        futures = [manager.submit(url, path) for url, path in zip(urls, paths, strict=True)]
    for future in futures:
        future.result()


def _write(path: str, body: bytes) -> None:
    with open(path, "wb") as file:
        file.write(body)


def _in_threads(get: Callable[[str], bytes], urls: list[str], paths: list[str]) -> None:
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda url, path: _write(path, get(url)), urls, paths))


def many_requests(urls: list[str], paths: list[str]) -> None:
    """A session in eight threads."""
    with requests_session() as session:
        _in_threads(lambda url: session.get(url).content, urls, paths)


def many_urllib3(urls: list[str], paths: list[str]) -> None:
    """A pool in eight threads."""
    import urllib3

    with urllib3.PoolManager(maxsize=8) as pool:
        _in_threads(lambda url: pool.request("GET", url).data, urls, paths)


def many_httpx(urls: list[str], paths: list[str]) -> None:
    """A client in eight threads."""
    import httpx

    with httpx.Client() as client:
        _in_threads(lambda url: client.get(url).content, urls, paths)


def many_aiohttp(urls: list[str], paths: list[str]) -> None:
    """Eight tasks."""
    import asyncio

    import aiohttp

    async def work(session: aiohttp.ClientSession, jobs: Iterator[tuple[str, str]]) -> None:
        for url, path in jobs:
            async with session.get(url) as response:
                _write(path, await response.read())

    async def main() -> None:
        jobs = iter(list(zip(urls, paths, strict=True)))
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(work(session, jobs) for _ in range(8)))

    asyncio.run(main())


def many_pycurl(urls: list[str], paths: list[str]) -> None:
    """Eight handles in a multi."""
    import pycurl

    multi = pycurl.CurlMulti()
    jobs = iter(zip(urls, paths, strict=True))
    idle = [pycurl.Curl() for _ in range(8)]
    files: dict[Any, Any] = {}
    while True:
        while idle and (job := next(jobs, None)) is not None:
            handle = idle.pop()
            files[handle] = open(job[1], "wb")  # noqa: SIM115 - closed when its transfer has ended
            handle.setopt(pycurl.URL, job[0])
            handle.setopt(pycurl.WRITEDATA, files[handle])
            multi.add_handle(handle)
        if not files:
            return
        multi.perform()
        _, good, bad = multi.info_read()
        assert not bad, bad
        for handle in good:
            multi.remove_handle(handle)
            files.pop(handle).close()
            idle.append(handle)
        if not good:
            multi.select(1.0)


def _many(get: Callable[[list[str], list[str]], None], url: str, count: int, folder: str) -> None:
    names = [f"{number:04}" for number in range(count)]
    get([url + names[0]], [os.path.join(folder, "first")])  # what is loaded at the first use belongs to the start
    began = time.perf_counter()
    get([url + name for name in names], [os.path.join(folder, name) for name in names])
    print(time.perf_counter() - began)


def _peak() -> int:
    """The most memory that this process has had, in KiB."""
    with open("/proc/self/status", encoding="ascii") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


ONE: dict[str, Callable[[str, str, str | None], None]] = {
    "iointerrupt": one_iointerrupt,
    "signals": one_signals,
    "queue": one_queue,
    "requests": one_requests,
    "pycurl": one_pycurl,
    "gdown": one_gdown,
    "pypdl": one_pypdl,
    "parfive": one_parfive,
    "pooch": one_pooch,
    "huggingface_hub": one_huggingface_hub,
    "aiohttp": one_aiohttp,
}

MANY = {
    "iointerrupt": many_iointerrupt,
    "pycurl": many_pycurl,
    "aiohttp": many_aiohttp,
    "urllib3": many_urllib3,
    "httpx": many_httpx,
    "requests": many_requests,
}


def main() -> None:
    """Do what the arguments say."""
    what, client, url, *rest = sys.argv[1:]
    if what == "many":
        _many(MANY[client], url, int(rest[0]), rest[1])
        return
    ONE[client](url, rest[0], rest[1] if len(rest) > 1 else None)
    if what == "memory":
        print(_peak())


if __name__ == "__main__":
    main()
