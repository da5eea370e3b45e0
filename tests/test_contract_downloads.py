"""The contract of downloads, with every kind of stop, through `check_interruptible`: a file, a stream, a manager; each phase."""

from __future__ import annotations

import functools
import io
import os
import socket
import tempfile
import threading
from contextlib import ExitStack, contextmanager

from iointerrupt import downloads, files, http
from iointerrupt.testing import FaultServer, Operation, steps
from tests.operations import InThread, Operations

OPERATIONS = Operations()
operation, rows = OPERATIONS.operation, OPERATIONS.rows

CONTENT = bytes(range(256)) * 16
HALF = len(CONTENT) // 2
SERVE = steps.serve(CONTENT, etag='"v1"')


def no_answer(release):
    """The server answers nothing until it is released."""
    return [steps.stall(until=release), SERVE]


def half_a_body(release):
    """The server sends half of the file, and the rest when it is released; it gives ranges."""

    def answer(connection):
        if connection.request is not None and "Range" in connection.request.headers:
            steps.stall(until=release).run(connection)
            SERVE.run(connection)
        else:
            for step in (
                steps.head(length=len(CONTENT), headers={"ETag": '"v1"', "Accept-Ranges": "bytes"}),
                steps.send(CONTENT[:HALF]),
                steps.stall(until=release),
                steps.send(CONTENT[HALF:]),
            ):
                step.run(connection)

    return [answer]


def unavailable(release):
    """The server wants to be left alone for an hour, until it is released."""

    def answer(connection):
        busy = steps.answer(b"", status=503, headers={"Retry-After": "3600"})
        (SERVE if release.is_set() else busy).run(connection)

    return [answer]


@contextmanager
def a_server(script, *, tls=False):
    """A server with a script for each request, what releases it, and a session that trusts it."""
    release = threading.Event()
    with FaultServer([steps.repeat(steps.expect(), *script(release))], tls=tls) as server:
        with http.Session(ssl_context=server.client_context() if tls else None) as session:
            yield server, release, session


def read(path):
    """What is in the file, which is all that there is in its folder."""
    folder, name = os.path.split(path)
    assert os.listdir(folder) == [name]
    with open(path, "rb") as file:
        return file.read()


def to_a_file(script, *, tls=False, **options):
    """A download to a file."""
    with a_server(script, tls=tls) as (server, release, session), tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")

        def run(stop):
            downloads.download(f"{server.url}/file", path, stop=stop, session=session, overwrite=True, **options)
            return read(path)

        yield Operation(run=run, release=release.set)


rows(
    {
        "download, no answer": no_answer,
        "download, in the body": half_a_body,
    },
    to_a_file,
)
rows(
    {"download, before another try": unavailable},
    functools.partial(to_a_file, retries=1_000_000, retry_after_max=0.02),
)
rows({"download over TLS, in the body": half_a_body}, functools.partial(to_a_file, tls=True))


def to_a_stream(script):
    """A download into a file object, which takes what comes and cannot be resumed by another call."""
    with a_server(script) as (server, release, session):

        def run(stop):
            stream = io.BytesIO()
            downloads.download(f"{server.url}/file", stream, stop=stop, session=session)
            return stream.getvalue()

        yield Operation(run=run, release=release.set)


rows(
    {
        "download into a stream, no answer": no_answer,
        "download into a stream, in the body": half_a_body,
    },
    to_a_stream,
)


def managed(script, **settings):
    """A download of a manager that is made for it."""
    with a_server(script) as (server, release, session), tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")

        def run(stop):
            with downloads.DownloadManager(stop=stop, session=session, **settings) as manager:
                manager.submit(f"{server.url}/file", path, overwrite=True).result()
            return read(path)

        yield Operation(run=run, release=release.set)


rows(
    {
        "DownloadManager, no answer": no_answer,
        "DownloadManager, in the body": half_a_body,
    },
    managed,
)


@operation
def waiting_for_a_slot():
    """A download whose manager has its only place taken by another one."""
    with ExitStack() as resources:
        server, release, session = resources.enter_context(a_server(no_answer))
        folder = resources.enter_context(tempfile.TemporaryDirectory())
        path = os.path.join(folder, "file")

        def run(stop):
            with downloads.DownloadManager(jobs=1, session=session) as manager:
                first = manager.submit(f"{server.url}/first", os.path.join(folder, "first"), overwrite=True)
                try:
                    manager.submit(f"{server.url}/file", path, stop=stop, overwrite=True).result(stop=stop)
                    first.result()
                finally:
                    first.stop()
            os.unlink(os.path.join(folder, "first"))
            return read(path)

        yield Operation(run=run, release=release.set)


@operation
def waiting_for_the_result():
    """A `result()` that a stop ends, of a download that goes on."""
    with a_server(no_answer) as (server, release, session), tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        with downloads.DownloadManager(session=session) as manager:
            running = manager.submit(f"{server.url}/file", path)

            def run(stop):
                return running.result(stop=stop).size

            yield Operation(run=run, release=release.set)
            release.set()


@operation
def tls_handshake():
    """A server that makes its TLS handshake only when it is released."""
    release = threading.Event()
    script = [steps.stall(until=release), steps.handshake(), steps.repeat(steps.expect(), SERVE)]
    with (
        FaultServer(script, tls=True) as server,
        http.Session(ssl_context=server.client_context()) as session,
        tempfile.TemporaryDirectory() as folder,
    ):
        path = os.path.join(folder, "file")

        def run(stop):
            downloads.download(f"{server.url}/file", path, stop=stop, session=session, overwrite=True)
            session.close()  # the next one has a handshake too
            return read(path)

        yield Operation(run=run, release=release.set)


@operation
def proxy():
    """A proxy that answers when it is released."""
    with a_server(no_answer) as (server, release, session), tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        session.proxies = {"http": server.url}

        def run(stop):
            downloads.download("http://origin.test/file", path, stop=stop, session=session, overwrite=True)
            return read(path)

        yield Operation(run=run, release=release.set)


@operation
def lookup():
    """A name that is found when it is released."""
    real = socket.getaddrinfo
    with a_server(lambda release: [SERVE]) as (server, release, session), tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")

        def slow(host, *args, **kwargs):
            if host == "slow.test":
                release.wait(20)
                host = "127.0.0.1"
            return real(host, *args, **kwargs)

        def run(stop):
            url = f"http://slow.test:{server.port}/file"
            downloads.download(url, path, stop=stop, session=session, overwrite=True)
            return read(path)

        socket.getaddrinfo = slow
        try:
            yield Operation(run=run, release=release.set)
        finally:
            release.set()
            socket.getaddrinfo = real


@operation
def segments():
    """A download of which one connection brings its piece, and the others wait."""
    content, release = CONTENT * 1024, threading.Event()
    whole = steps.serve(content, etag='"v1"')

    def answer(connection):
        if "Range" in connection.request.headers:
            steps.stall(until=release).run(connection)
        whole.run(connection)

    with (
        FaultServer([steps.repeat(steps.expect(), answer)]) as server,
        http.Session() as session,
        tempfile.TemporaryDirectory() as folder,
    ):
        path = os.path.join(folder, "file")

        def run(stop):
            downloads.download(f"{server.url}/file", path, stop=stop, session=session, overwrite=True, segments=3)
            return read(path) == content

        yield Operation(run=run, release=release.set)


@operation
def a_limit():
    """A manager whose limit lets hardly anything come, until it is lifted."""
    with a_server(lambda release: [SERVE]) as (server, release, session), tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "file")
        managers = []

        def run(stop):
            limit = None if release.is_set() else 100
            with downloads.DownloadManager(stop=stop, session=session, max_rate=limit) as manager:
                managers.append(manager)
                manager.submit(f"{server.url}/file", path, overwrite=True).result()
            return read(path)

        def lift():
            release.set()
            for manager in managers:
                manager.max_rate = None

        yield Operation(run=run, release=lift)


@operation
def a_full_pipe():
    """A download into a pipe of `files.open` that nobody reads until it is released."""
    content = CONTENT * 256
    with ExitStack() as resources:
        server = resources.enter_context(FaultServer([steps.repeat(steps.expect(), steps.serve(content))]))
        session = resources.enter_context(http.Session())
        reader, writer = os.pipe()
        source = resources.enter_context(open(reader, "rb", buffering=0))
        drainer = InThread(resources, lambda: all(source.read(65536) for _ in iter(int, 1)))
        pipe = resources.enter_context(files.open(writer, "wb", buffering=0))

        def run(stop):
            return downloads.download(f"{server.url}/file", pipe, stop=stop, session=session).size

        yield Operation(run=run, release=drainer.start)


test_keeps_the_contract = OPERATIONS.as_test()
