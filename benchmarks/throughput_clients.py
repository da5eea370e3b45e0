"""HTTP clients in this process: ours and others, each as a context manager that makes what gets a URL.

What it makes reads the whole body and returns how many bytes that were, over a connection that it keeps. A client that is
not installed fails with an ImportError when its context is entered.
"""

from __future__ import annotations

import asyncio
import http.client
import ssl
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlsplit

#: Gets a URL, and returns how many bytes its body had.
Get = Callable[[str], int]

#: Of the path of an authority's certificate, or None where there is no TLS.
Make = Callable[[str | None], AbstractContextManager[Get]]


@dataclass(frozen=True)
class Sized:
    """A client that has to be told how much to read at a time."""

    make: Callable[[str | None, int], AbstractContextManager[Get]]

    def with_size(self, size: int) -> Make:
        """The client that has been told."""
        return lambda trusted: self.make(trusted, size)


def entered(stack: ExitStack, makes: Mapping[str, Make], trusted: str | None) -> tuple[dict[str, Get], dict[str, str]]:
    """The clients by their names, until the stack is closed, and by the names of the others why they are not there."""
    gets, left_out = {}, {}
    for name, make in makes.items():
        try:
            gets[name] = stack.enter_context(make(trusted))
        except ImportError as error:
            left_out[name] = f"{error.name} is not installed"
    return gets, left_out


# In the functions below, whatever is of the environment is left out of account: proxies, authorities, .netrc.


@contextmanager
def _ours(trusted: str | None, read: Callable[[Any], int], *, stream: bool) -> Iterator[Get]:
    from iointerrupt import StopEvent
    from iointerrupt import http as ours

    with ours.Session(stop=StopEvent()) as session:
        yield _by_session(session, trusted, read, stream=stream)


@contextmanager
def _requests(trusted: str | None, read: Callable[[Any], int], *, stream: bool) -> Iterator[Get]:
    import requests

    with requests.Session() as session:
        yield _by_session(session, trusted, read, stream=stream)


def _by_session(session: Any, trusted: str | None, read: Callable[[Any], int], *, stream: bool) -> Get:
    session.trust_env = False
    if trusted is not None:
        session.verify = trusted

    def get(url: str) -> int:
        with session.get(url, stream=stream) as response:
            return read(response)

    return get


def _iter_chunks(response: Any) -> int:
    from iointerrupt import http as ours

    return _counted(ours.iter_chunks(response))


def _requests_sized(trusted: str | None, size: int) -> AbstractContextManager[Get]:
    return _requests(trusted, lambda response: _counted(response.iter_content(size)), stream=True)


@contextmanager
def _urllib3(trusted: str | None, read: Callable[[Any], int], *, stream: bool) -> Iterator[Get]:
    import urllib3

    with urllib3.PoolManager(ca_certs=trusted) as pool:

        def get(url: str) -> int:
            response = pool.request("GET", url, preload_content=not stream)
            got = read(response)
            response.release_conn()
            return got

        yield get


def _urllib3_stream(trusted: str | None, size: int) -> AbstractContextManager[Get]:
    return _urllib3(trusted, lambda response: _counted(response.stream(size)), stream=True)


def _urllib3_readinto(trusted: str | None, size: int) -> AbstractContextManager[Get]:
    buffer = bytearray(size)
    return _urllib3(trusted, lambda response: _filled(response, buffer), stream=True)


@contextmanager
def _httpx(trusted: str | None, read: Callable[[Any], int]) -> Iterator[Get]:
    import httpx

    with httpx.Client(verify=_context(trusted), trust_env=False, timeout=None) as client:

        def get(url: str) -> int:
            with client.stream("GET", url) as response:
                return read(response)

        yield get


@contextmanager
def _httpx_whole(trusted: str | None) -> Iterator[Get]:
    import httpx

    with httpx.Client(verify=_context(trusted), trust_env=False, timeout=None) as client:
        yield lambda url: len(client.get(url).content)


@contextmanager
def _aiohttp(trusted: str | None, read: Callable[[Any], Awaitable[int]]) -> Iterator[Get]:
    import aiohttp

    context = _context(trusted)

    async def opened() -> Any:
        return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout())  # which is none

    with asyncio.Runner() as runner:
        session = runner.run(opened())

        async def get(url: str) -> int:
            async with session.get(url, ssl=context) as response:
                return await read(response)

        async def closed() -> None:
            await session.close()
            await asyncio.sleep(0)  # its transports close in the loop's next turn

        try:
            yield lambda url: runner.run(get(url))
        finally:
            runner.run(closed())


def _aiohttp_chunked(trusted: str | None, size: int) -> AbstractContextManager[Get]:
    async def read(response: Any) -> int:
        got = 0
        async for chunk in response.content.iter_chunked(size):
            got += len(chunk)
        return got

    return _aiohttp(trusted, read)


async def _aiohttp_read(response: Any) -> int:
    return len(await response.read())


@contextmanager
def _http_client(trusted: str | None, read: Callable[[http.client.HTTPResponse], int]) -> Iterator[Get]:
    connections: dict[str, http.client.HTTPConnection] = {}

    def connected(scheme: str, netloc: str) -> http.client.HTTPConnection:
        if netloc not in connections:
            connections[netloc] = (
                http.client.HTTPConnection(netloc)
                if scheme == "http"
                else http.client.HTTPSConnection(netloc, context=ssl.create_default_context(cafile=trusted))
            )
        return connections[netloc]

    def get(url: str) -> int:
        scheme, netloc, path, *_ = urlsplit(url)
        connection = connected(scheme, netloc)
        connection.request("GET", path)
        with connection.getresponse() as response:
            return read(response)

    try:
        yield get
    finally:
        for connection in connections.values():
            connection.close()


def _http_client_readinto(trusted: str | None, size: int) -> AbstractContextManager[Get]:
    buffer = bytearray(size)
    return _http_client(trusted, lambda response: _filled(response, buffer))


def _counted(chunks: Iterator[bytes]) -> int:
    got = 0
    for chunk in chunks:
        got += len(chunk)
    return got


def _filled(response: Any, buffer: bytearray) -> int:
    got = 0
    while size := response.readinto(buffer):
        got += size
    return got


def _context(trusted: str | None) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=trusted) if trusted else True


def _content(response: Any) -> int:
    return len(response.content)


def _data(response: Any) -> int:
    return len(response.data)


#: A body as it comes; ours first.
BODIES: dict[str, Make | Sized] = {
    "iointerrupt": partial(_ours, read=_iter_chunks, stream=True),
    "requests iter_content": Sized(_requests_sized),
    "urllib3 stream": Sized(_urllib3_stream),
    "urllib3 readinto": Sized(_urllib3_readinto),
    "httpx iter_bytes": partial(_httpx, read=lambda response: _counted(response.iter_bytes())),
    "httpx iter_raw": partial(_httpx, read=lambda response: _counted(response.iter_raw())),
    "aiohttp iter_chunked": Sized(_aiohttp_chunked),
    "http.client": Sized(_http_client_readinto),
}

#: A body that is in memory as a whole in the end.
CONTENTS: dict[str, Make] = {
    "iointerrupt": partial(_ours, read=_content, stream=False),
    "requests": partial(_requests, read=_content, stream=False),
    "urllib3": partial(_urllib3, read=_data, stream=False),
    "httpx": _httpx_whole,
    "aiohttp": partial(_aiohttp, read=_aiohttp_read),
    "http.client": partial(_http_client, read=lambda response: len(response.read())),
}

#: What small requests are made with.
SMALL: dict[str, Make] = {name: CONTENTS[name] for name in ("iointerrupt", "requests", "urllib3", "httpx")}
