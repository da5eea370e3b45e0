"""What users write, and the types that come of it. Nobody runs this: mypy and pyright read it, and `make types` has both do so.

A line with a `type: ignore` is one that both must refuse: each checker says so if it no longer does.
"""
# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedVariable=false
# ruff: noqa: F841 - what is assigned is checked against the type that it is declared with

from __future__ import annotations

import concurrent.futures
import gzip
import io
import json
import multiprocessing
import os
import queue
import socket
import sqlite3
import ssl
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, BinaryIO, TextIO, assert_type

import distributed
import requests

import iointerrupt
from iointerrupt import (
    DeadlineExceeded,
    DownloadError,
    Interrupted,
    ResourceBusy,
    Stalled,
    StopEvent,
    StopLike,
    aio,
    calls,
    dask,
    downloads,
    files,
    http,
    monkey,
    sockets,
    testing,
    threads,
)
from iointerrupt.testing import Background, Connection, FaultServer, Operation, Request, StopAfter, faults, steps


def stops() -> None:
    """A stop is an event of ours, anybody else's event, a callable, or none."""
    stop = StopEvent(threading.Event(), lambda: False, None, multiprocessing.Event(), timeout=10)
    assert_type(stop.is_set(), bool)
    assert_type(stop.wait(1.5), bool)
    assert_type(stop.reason, object | None)
    assert_type(stop.fileno(), int)
    stop.on_set(lambda: stop.set("also")).cancel()
    with stop.on_set(stop.clear):
        stop.set("a reason")
    event: threading.Event = stop
    assert_type(iointerrupt.as_stop(event), StopEvent | None)
    assert_type(iointerrupt.current_stop(), StopEvent | None)
    with iointerrupt.use_stop(stop):
        stop.sleep(0.5)
    assert_type(iointerrupt.abandoned_helpers(), int)
    StopEvent(5)  # type: ignore[arg-type]
    StopEvent(lambda: "no bool")  # type: ignore[arg-type,return-value]


def of_a_function_of_ones_own(stop: StopLike = None) -> StopEvent | None:
    """`StopLike` is what one's own parameter is declared as."""
    return iointerrupt.as_stop(stop)


def errors(url: str) -> None:
    """What an exception says."""
    try:
        downloads.download(url)
    except DeadlineExceeded as late:
        assert_type(late.transferred, int | None)
    except Interrupted as stopped:
        assert_type(stopped.reason, object)
        assert_type(stopped.partial, bytes | str | None)
    except Stalled as stalled:
        timeout: TimeoutError = stalled
    except DownloadError as failed:
        assert_type(failed.url, str | None)
    except ResourceBusy as busy:
        error: RuntimeError = busy


def files_by_mode(path: Path, fd: int, stop: StopEvent) -> None:
    """`files.open` gives what the builtin gives for the mode, and with a stop."""
    text = files.open(path, stop=stop)
    standard: io.TextIOWrapper = text
    named: TextIO = text
    assert_type(text.read(), str)
    assert_type(text.readline(), str)
    assert_type(text.stop, StopEvent | None)
    assert_type(list(text), list[str])
    text.stop = threading.Event()
    json.dump(json.load(text), files.open(path, "w", encoding="utf-8", newline=""))

    reader = files.open(path, "rb", chunk_size=1 << 16)
    standard_reader: io.BufferedReader = reader
    assert_type(reader.read(), bytes)
    assert_type(reader.read1(), bytes)
    assert_type(reader.peek(), bytes)
    assert_type(reader.stop, StopEvent | None)
    writer = files.open(path, "wb")
    standard_writer: io.BufferedWriter = writer
    assert_type(writer.write(b"data"), int)
    both = files.open(path, "r+b")
    standard_both: io.BufferedRandom = both
    assert_type(both.read(), bytes)

    raw = files.open(fd, "rb", 0, closefd=False)
    standard_raw: io.FileIO = raw
    assert_type(raw.fileno(), int)
    assert_type(raw.readall(), bytes)
    on_network: io.RawIOBase = files.open(path, "rb", buffering=0, abandon_on_stop=True)


def files_by_what_is_known_later(path: str, mode: str, size: int, *, whole: bool) -> None:
    """Where the mode or the buffering is a variable, it is what `typing` has for the builtin."""
    some: BinaryIO = files.open(path, "rb", size)
    assert_type(some.read(), bytes)
    files.open(path, "wb", size).stop = None
    anything: IO[Any] = files.open(path, mode)
    files.open(path, mode).stop = None
    with files.open(path, "rb", size) as file:
        file.stop = StopEvent()
    with files.open(path, "rb" if whole else "r+b") as either:
        assert_type(either.read(), bytes)
    files.open(path, "rb", encoding="utf-8", stop=5)  # type: ignore[call-overload]


def other_peoples_files(process: subprocess.Popen[bytes], sock: socket.socket, path: Path) -> None:
    """`wrap`, `iter_chunks` and the copies take descriptors, and whatever reads or writes bytes."""
    raw: io.RawIOBase = files.wrap(sys.stdin.buffer)
    io.BufferedReader(files.wrap(0, closefd=False)).readline()
    assert process.stdout is not None
    files.wrap(process.stdout).stop = threading.Event()
    files.wrap(sock.makefile("rb"))
    for chunk in files.iter_chunks(path, start=10, end=20):
        assert_type(chunk, bytes)
    files.iter_chunks(io.BytesIO()).close()
    assert_type(files.read_bytes(path), bytes)
    assert_type(files.copyfileobj(raw, io.BytesIO(), progress=lambda done, total: (done, total)), int)
    assert_type(files.copy(path, "copy", progress=lambda done, total: done / total), str)
    assert_type(files.copy(b"file", b"copy"), bytes)
    files.wrap(sys.stdin)  # type: ignore[arg-type]
    files.wrap(sock)  # type: ignore[arg-type]
    files.copyfileobj(io.BytesIO(), io.StringIO())  # type: ignore[arg-type]


def connections(stop: StopEvent, context: ssl.SSLContext) -> None:
    """Sockets are those of the standard library, with a stop."""
    sock = sockets.create_connection(("localhost", 80), 5.0, stop=stop)
    standard: socket.socket = sock
    assert_type(sock.recv(10), bytes)
    assert_type(sock.recv_into(bytearray(10)), int)
    assert_type(sock.stop, StopEvent | None)
    sock.stop = None
    listener = sockets.create_server(("", 0), stop=stop)
    assert_type(listener.accept()[0], sockets.Socket)
    assert_type(sockets.socketpair(), tuple[sockets.Socket, sockets.Socket])
    assert_type(sockets.wrap(standard), sockets.Socket)
    assert_type(sockets.recv_exactly(sock, 4), bytes)
    assert_type(list(sockets.iter_chunks(sock)), list[bytes])
    context.sslsocket_class = sockets.SSLSocket

    reader: io.BufferedReader = sock.makefile("rb")
    writer: io.BufferedWriter = sock.makefile("wb")
    pair: io.BufferedRWPair = sock.makefile("rwb")
    raw: socket.SocketIO = sock.makefile("rb", 0)
    text: io.TextIOWrapper = sock.makefile("r", encoding="utf-8")
    assert_type(sock.makefile("rb").readline(), bytes)
    assert_type(sock.makefile().readline(), str)


def requests_over_http(url: str, stop: StopEvent) -> None:
    """Sessions are those of requests."""
    with http.Session(stop=stop, timeout=(5, 30), retries=http.Retry(3, backoff_factor=0.5), pool_size=4) as session:
        standard: requests.Session = session
        response = session.get(url, stream=True)
        assert_type(response, requests.Response)
        for chunk in http.iter_chunks(response, stop=stop, chunk_size=1 << 16, decode=False):
            assert_type(chunk, bytes)
        assert_type(session.stop, StopEvent | None)
        assert_type(session.timeout, http.Timeout)
        session.stop = threading.Event()
    standard.mount("https://", http.Adapter(stop=stop, max_retries=2))
    body: io.BufferedReader = http.open(url, stop=stop, session=session, headers={"Accept": "*/*"})
    assert_type(http.open(response, timeout=3).read(), bytes)
    http.open(response, headers={})  # type: ignore[call-overload]


def calls_that_block(path: Path, number: int) -> None:
    """What comes out has the type of what went in."""
    jobs: queue.Queue[int] = queue.Queue()
    assert_type(calls.get(jobs, timeout=1), int)
    calls.put(jobs, 5, stop=threading.Event())
    simple: queue.SimpleQueue[str] = queue.SimpleQueue()
    assert_type(calls.get(simple), str)
    shared: multiprocessing.Queue[bytes] = multiprocessing.Queue()
    assert_type(calls.get(shared), bytes)
    calls.put(shared, b"item")
    calls.put(jobs, "no int")  # type: ignore[misc]

    for lock in (threading.Lock(), threading.RLock(), threading.Semaphore(), multiprocessing.Lock()):
        assert_type(calls.acquire(lock, timeout=3), bool)
        with calls.holding(lock):
            pass
    condition = threading.Condition()
    assert_type(calls.wait(condition), bool)
    assert_type(calls.wait(multiprocessing.Event()), bool)
    assert_type(calls.wait_for(condition, lambda: number), int)
    calls.acquire("lock")  # type: ignore[arg-type]

    calls.join(threading.Thread())
    assert_type(calls.join(subprocess.Popen(["true"])), int)
    assert_type(calls.join(multiprocessing.Process()), int)
    calls.join(jobs)
    calls.join("thread")  # type: ignore[call-overload]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        assert_type(calls.result(pool.submit(path.read_bytes)), bytes)
    assert_type(calls.call(path.read_text, stop=StopEvent()), str)
    connection = sqlite3.connect(path)
    with calls.interrupting(connection.interrupt, grace=1.0):
        connection.execute("select 1")
    calls.sleep(0.5)


def commands(options: dict[str, Any], *, is_text: bool) -> None:
    """`calls.run` gives what `subprocess.run` gives."""
    assert_type(calls.run(["ls"]), subprocess.CompletedProcess[bytes])
    assert_type(calls.run("ls", shell=True, text=True, grace=1.0), subprocess.CompletedProcess[str])
    assert_type(calls.run(["ls"], encoding="utf-8", stdout=subprocess.PIPE), subprocess.CompletedProcess[str])
    assert_type(calls.run(["ls"], universal_newlines=True), subprocess.CompletedProcess[str])
    assert_type(calls.run(["ls"], errors="replace", input="text"), subprocess.CompletedProcess[str])
    assert_type(calls.run(["ls"], input=b"bytes", cwd=Path(), env={"A": "1"}), subprocess.CompletedProcess[bytes])
    assert_type(calls.run(["ls"], text=is_text), subprocess.CompletedProcess[Any])
    calls.run(["ls"], no_option=True)  # type: ignore[call-overload]
    try:
        calls.run(["sleep", "9"], timeout=1, check=True, capture_output=True)
    except calls.RunTimeout as late:
        expired: subprocess.TimeoutExpired = late


def work(number: int, *, name: str = "") -> str:
    """What the threads do."""
    return name * number


def groups_of_threads(stop: StopEvent) -> None:
    """What is started is called with the arguments that it takes."""
    with threads.ThreadGroup(stop) as group:
        assert_type(group.start(work, 5, name="a"), threads.Thread)
        group.start(work, "5")  # type: ignore[arg-type]
        group.start(work)  # type: ignore[call-arg]
        assert_type(group.stop(timeout=1), list[threads.Straggler])
        event: StopEvent = group.event
    thread = threads.Thread(target=work, args=(1,), daemon=True, stop=stop)
    standard: threading.Thread = thread
    assert_type(thread.stop, StopEvent)
    thread.interrupt("enough")
    for tick in threads.every(60, stop=stop):
        assert_type(tick, int)
    with threads.stop_on_signals() as from_signal, threads.stop_on_signals(stop, 15):
        assert_type(from_signal, StopEvent)


async def coroutines(path: Path, stop: StopEvent, *, is_raw: bool) -> None:
    """`aio.open` gives what aiofiles gives for the mode, whether or not its types are installed."""
    async with aio.open(path, stop=stop) as text:
        assert_type(await text.read(), str)
        assert_type(await text.write("text"), int)
        assert_type(text.stop, StopEvent | None)
        assert_type([line async for line in text], list[str])
    async with aio.open(path, "rb") as reader:
        assert_type(await reader.read(10), bytes)
        assert_type(await reader.peek(), bytes)
        assert_type([line async for line in reader], list[bytes])
        reader.stop = threading.Event()
    writer = await aio.open(path, "wb")
    assert_type(await writer.write(b"data"), int)
    await writer.close()
    async with aio.open(path, "rb", buffering=0) as raw:
        assert_type(await raw.readall(), bytes)
    async with aio.open(path, "rb", 0 if is_raw else -1) as either:
        assert_type(await either.read(), bytes)
        either.stop = None
    chunks: AsyncIterator[bytes] = aio.iter_chunks(path, stop=stop)
    async with aio.iter_chunks(path) as ahead:
        async for chunk in ahead:
            assert_type(chunk, bytes)
    async with aio.cancel_on(stop):
        assert_type(await aio.wait(stop, timeout=5), bool)


def whole_downloads(url: str, stop: StopEvent) -> None:
    """Downloads, one and many."""
    done = downloads.download(url, "folder/", stop=stop, checksum="sha256:00", segments=4, headers={"A": "b"})
    assert_type(done, downloads.Downloaded)
    assert_type(done.path, str | None)
    assert_type(done.size, int)

    def show(progress: downloads.Progress) -> None:
        assert_type(progress.total, int | None)
        assert_type(progress.fraction, float | None)
        assert_type(progress.state, downloads.State)

    with downloads.DownloadManager(jobs=8, options=downloads.Options(retries=3), stop=stop) as manager:
        download = manager.submit(url, Path("file"), priority=5, progress=show, max_rate=1e6)
        future: concurrent.futures.Future[downloads.Downloaded] = download
        assert_type(download.result(timeout=5), downloads.Downloaded)
        assert_type(download.url, str)
        assert_type(manager.progress, downloads.Totals)
        assert_type(manager.downloads, tuple[downloads.Download, ...])
        manager.submit(url, retrys=3)  # type: ignore[call-arg]
        manager.submit(url, retries="3")  # type: ignore[arg-type]
        download.pause()
        download.resume()
    files.copyfileobj(io.BytesIO(), io.BytesIO(), 65536, stop=stop)
    downloads.download(url, io.BytesIO())
    with (
        gzip.open("y.gz", "wb") as packed,
        tempfile.SpooledTemporaryFile() as spooled,
        zipfile.ZipFile("z", "w") as archive,
    ):
        downloads.download(url, packed)
        downloads.download(url, spooled)
        with archive.open("name", "w") as member:
            downloads.download(url, member)
    downloads.download(url, io.StringIO())  # type: ignore[arg-type]
    downloads.download(url, os.fsencode("file"))  # type: ignore[arg-type]


def downloads_of_a_cluster(client: distributed.Client, url: str) -> None:
    """One stop for all workers, which is a stop like any other, and a result for each item."""
    stop = dask.ClusterStop(client)
    event: StopEvent = stop
    done = dask.download_all(client, [url, (url, "name"), dask.Item(url)], dest=Path("folder"), stop=stop, retries=3)
    assert_type(done, list[dask.ItemResult])
    assert_type(done[0].downloaded, downloads.Downloaded | None)
    dask.download_all(client, [url], dest="folder", retrys=3)  # type: ignore[call-arg]


def patching() -> None:
    """`monkey` names its parts."""
    monkey.patch_all(dns=False)
    assert_type(monkey.is_patched("socket"), bool)
    assert_type(monkey.PARTS, tuple[str, ...])
    monkey.unpatch_all()
    monkey.patch_all(http=True)  # type: ignore[call-arg]


def tests_of_what_stops(stop: StopEvent, error: OSError) -> None:
    """The testing kit."""
    running = Background(work, 5, name="a")
    assert_type(running.result(), str)
    assert_type(running.thread, threading.Thread)
    anything: Background = Background(stop.set)
    Background(work, "5")  # type: ignore[arg-type]
    testing.wait_until_blocked(stop, 2, timeout=5.0)
    assert_type(StopAfter(3).checks, int)
    with testing.no_leaks("the block"):
        assert_type(faults.FAULTS["reset"], faults.Fault)

    def serve(connection: Connection) -> None:
        assert_type(connection.read_request(), Request | None)
        assert_type(connection.sock, socket.socket)

    with FaultServer(
        [steps.expect("GET", "/"), steps.repeat(steps.answer(b"hello"), serve, times=2), serve, steps.stall()], tls=True
    ) as server:
        assert_type(server.url, str)
        server.wait_for("stall")
    near, far = sockets.socketpair()

    @contextmanager
    def make_operation() -> Generator[Operation]:
        yield Operation(run=lambda stop: sockets.recv_exactly(near, 1, stop=stop), release=lambda: far.send(b"x"))

    testing.check_interruptible(make_operation, kinds=testing.KINDS)

    testing.stalling_body([b"a", b"b"], stop=stop).read()
    testing.failing_body([b"a"], error).read()
