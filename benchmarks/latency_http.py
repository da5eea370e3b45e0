"""A thread that waits for the rest of an HTTP body: ours, and what a user would end it with instead.

The server sends half of the body, and then nothing more. Each client takes it by its own stream; what runs an event loop runs
it in the blocked thread, and is cancelled from another one. The time ends when the response is closed, and with it its
connection: with some that is part of the end of the read, with others it comes after. Go measures itself, in a process of
its own.
"""

from __future__ import annotations

import os
import select
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from benchmarks.latency_peers import anyio_stop, trio_stop
from benchmarks.latency_timing import FLOOR, PERIOD, Attempt, Ready, event_wait, moment_of, those_who_can, timed
from benchmarks.measure import Comparison, Run, in_turn
from iointerrupt import Interrupted, StopEvent, http, sockets

ROUNDS = 60
_QUICK = 4

_HALF = 1 << 16
# The authorities are loaded once: httpx would do it for each client.
_CONTEXT = ssl.create_default_context()

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (2 * _HALF) + bytes(_HALF)

#: No Python peer: it has its own runtime.
GO = "Go, net/http and context"


def compare(*, quick: bool) -> Iterator[Comparison]:
    """Ours against all others."""
    with ExitStack() as stack:
        url = stack.enter_context(answering(_ANSWER))
        runs = {name: timed(lambda make=make: make(url)) for name, make in PEERS.items()}  # type: ignore[misc]
        runs[FLOOR] = timed(event_wait)
        able, reasons = those_who_can(runs)
        try:
            able[GO] = stack.enter_context(_go(url))
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            reasons[GO] = f"there is no Go toolchain that works: {error}"
        samples = in_turn(able, _QUICK if quick else ROUNDS, warm_up=0)
    least = dict.fromkeys([name for name in able if name in PEERS][1:], 1.0)
    yield Comparison("HTTP body, stopped", "s", samples, least=least, left_out=reasons)


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The URL of a server that answers each request so far, and then says nothing more."""
    stop = StopEvent()
    with sockets.create_server(("127.0.0.1", 0), stop=stop) as listener:

        def serve() -> None:
            # A connection is kept until its client has closed it, which all do that are stopped in a body.
            with ExitStack() as connections:
                try:
                    while True:
                        connection = connections.enter_context(listener.accept()[0])
                        connection.recv(65536)
                        connection.sendall(answer)
                except Interrupted:
                    return

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield "http://{}:{}/".format(*listener.getsockname())
        finally:
            stop.set()
            thread.join(10)


def ours(url: str) -> Attempt:
    """A session with a `StopEvent`."""

    def block(ready: Ready) -> float:
        stop = StopEvent()

        def take() -> None:
            with session.get(url, stream=True) as response:
                ready(stop.set)
                for _ in http.iter_chunks(response):
                    pass

        with http.Session(stop=stop) as session:
            return moment_of(Interrupted, take)

    return Attempt(block)


def requests_loop(url: str) -> Attempt:
    """The usual loop: an event, looked at whenever nothing has come for a while, after which the rest is asked for again."""
    import requests

    def block(ready: Ready) -> float:
        stop = threading.Event()
        taken = 0
        with requests.Session() as session:
            while not stop.is_set():
                headers = {"Range": f"bytes={taken}-"}
                try:
                    with session.get(url, stream=True, timeout=PERIOD, headers=headers) as response:
                        ready(stop.set)
                        for chunk in response.iter_content(_HALF):
                            taken += len(chunk)
                except requests.RequestException:
                    pass
            return time.perf_counter()

    return Attempt(block, PERIOD)


def pycurl_multi(url: str) -> Attempt:
    """A multi, in a poll of its descriptors and of one that wakes it: pycurl does not have curl's own wake-up."""
    import pycurl

    def block(ready: Ready) -> float:
        wake = os.eventfd(0, os.EFD_NONBLOCK)
        multi, handle = pycurl.CurlMulti(), pycurl.Curl()
        handle.setopt(pycurl.URL, url)
        handle.setopt(pycurl.WRITEFUNCTION, len)
        handle.setopt(pycurl.NOSIGNAL, 1)
        multi.add_handle(handle)
        ready(lambda: os.eventfd_write(wake, 1))
        _perform_until_woken(multi, wake)
        multi.remove_handle(handle)
        moment = time.perf_counter()
        handle.close()
        multi.close()
        os.close(wake)
        return moment

    return Attempt(block)


def _perform_until_woken(multi: Any, wake: int) -> None:
    while True:
        multi.perform()
        poller = select.poll()
        readable, writable, _ = multi.fdset()
        for number in [*readable, wake]:
            poller.register(number, select.POLLIN)
        for number in writable:
            poller.register(number, select.POLLOUT)
        timeout = multi.timeout()  # ms, or -1
        if any(number == wake for number, _ in poller.poll(timeout if timeout >= 0 else None)):
            return


def gdown_cancel(url: str) -> Attempt:
    """Its `cancel=`, which it looks at twenty times a second."""
    import gdown
    import gdown.exceptions

    def block(ready: Ready) -> float:
        cancel = threading.Event()
        with open(os.devnull, "wb") as sink:
            ready(cancel.set)
            return moment_of(
                gdown.exceptions.DownloadCancelled,
                lambda: gdown.download(url=url, output=sink, quiet=True, use_cookies=False, cancel=cancel),
            )

    return Attempt(block, 0.05)


def httpx_trio(url: str) -> Attempt:
    """A cancel scope of trio."""
    import trio

    async def receive(ready: Ready) -> float:
        async with _httpx_client() as client:
            with trio.CancelScope() as scope:
                await _take_httpx(client, url, ready, trio_stop(scope))
            return time.perf_counter()

    return Attempt(lambda ready: trio.run(receive, ready))


def httpx_anyio(url: str) -> Attempt:
    """A cancel scope of anyio, over asyncio, which is its default."""
    import anyio

    async def receive(ready: Ready) -> float:
        async with _httpx_client() as client:
            with anyio.CancelScope() as scope:
                await _take_httpx(client, url, ready, anyio_stop(scope))
            return time.perf_counter()

    return Attempt(lambda ready: anyio.run(receive, ready))


def _httpx_client() -> Any:
    import httpx

    return httpx.AsyncClient(verify=_CONTEXT)


async def _take_httpx(client: Any, url: str, ready: Ready, stop: Callable[[], object]) -> None:
    async with client.stream("GET", url) as response:
        ready(stop)
        async for _ in response.aiter_bytes():
            pass


def aiohttp_cancel(url: str) -> Attempt:
    """A task, cancelled through its loop."""
    import asyncio

    import aiohttp

    async def receive(ready: Ready) -> float:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        async with aiohttp.ClientSession() as session:
            try:
                async with session.get(url) as response:
                    ready(lambda: loop.call_soon_threadsafe(task.cancel))
                    async for _ in response.content.iter_any():
                        pass
            except asyncio.CancelledError:
                pass
            return time.perf_counter()

    return Attempt(lambda ready: asyncio.run(receive(ready)))


_GO_PROGRAM = """
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// For each line of its input: takes half of the body, and tells the nanoseconds from the cancel to the end of the read.
func main() {
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		ctx, cancel := context.WithCancel(context.Background())
		request, err := http.NewRequestWithContext(ctx, "GET", os.Args[1], nil)
		if err != nil {
			panic(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			panic(err)
		}
		ended := make(chan time.Time)
		go func() {
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
			ended <- time.Now()
		}()
		time.Sleep(5 * time.Millisecond)
		began := time.Now()
		cancel()
		fmt.Println((<-ended).Sub(began).Nanoseconds())
	}
}
"""


@contextmanager
def _go(url: str) -> Iterator[Run]:
    """Go's client, built and started."""
    with tempfile.TemporaryDirectory() as folder:
        source, program = os.path.join(folder, "stop.go"), os.path.join(folder, "stop")
        with open(source, "w", encoding="utf-8") as file:
            file.write(_GO_PROGRAM)
        environment = os.environ | {"GOCACHE": os.path.join(folder, "cache"), "GO111MODULE": "off"}
        subprocess.run(["go", "build", "-o", program, source], check=True, env=environment)
        with subprocess.Popen([program, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

            def run() -> float:
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("\n")
                process.stdin.flush()
                return int(process.stdout.readline()) / 1e9

            yield run


PEERS: dict[str, Callable[[str], Attempt]] = {
    "iointerrupt": ours,
    "an Event and requests with timeout=0.1, in a loop": requests_loop,
    "pycurl, a multi and a descriptor that wakes it": pycurl_multi,
    "gdown, cancel=": gdown_cancel,
    "httpx and trio, cancel scope": httpx_trio,
    "httpx and anyio, cancel scope": httpx_anyio,
    "aiohttp, task.cancel": aiohttp_cancel,
}
