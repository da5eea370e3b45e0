"""Downloads that are stopped: in each phase, by each kind of stop, at each moment; and gone on with as if nothing had happened."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, http, use_stop
from iointerrupt.downloads import DownloadManager, State, _meter, _part, download
from iointerrupt.testing import StopAfter, signal_when_blocked, steps, wait_until_blocked
from iointerrupt.threads import Thread, ThreadGroup
from tests.scripted import CONTENT, ETAG, HALF, SIZE, each, sha256

FILE = each(steps.serve(CONTENT, etag=ETAG))
HEAD = steps.head(headers={"ETag": ETAG, "Accept-Ranges": "bytes"}, length=SIZE)
HALF_A_BODY: steps.Script = [steps.expect(), HEAD, steps.send(CONTENT[:HALF])]
STALLED: steps.Script = [*HALF_A_BODY, steps.stall()]
IN_A_CHUNK: steps.Script = [
    steps.expect(),
    steps.head(headers={"ETag": ETAG, "Accept-Ranges": "bytes"}, chunked=True),
    steps.chunk(CONTENT[:HALF]),
    steps.send(b"%x\r\n" % (SIZE - HALF)),
    steps.stall(),
]


class Told:
    """A `progress` that keeps what it is told, and can be waited for."""

    def __init__(self):
        self.all = []
        self._changed = threading.Condition()

    def __call__(self, now):
        with self._changed:
            self.all.append(now)
            self._changed.notify_all()

    def wait_for(self, condition):
        """Wait until something was told that fulfils a condition."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(condition, self.all)), 20), self.all

    def wait_for_half(self):
        """Wait until half of the file has come."""
        self.wait_for(lambda now: now.done >= HALF)


@pytest.fixture(autouse=True)
def told(monkeypatch):
    """What is told of a download, which is everything."""
    monkeypatch.setattr(_meter, "_TELL_EVERY", 0)
    return Told()


@pytest.fixture
def path(tmp_path):
    """Where the file is to be."""
    return tmp_path / "file"


def left(path):
    """The bytes of an unfinished download, of which nothing else is there than them and their record."""
    part = path.with_name("file.part")
    content = part.read_bytes() if part.exists() else b""
    assert sorted(os.listdir(path.parent)) == (["file.part", "file.part.json"] if content else [])
    return content


def go_on(server, path, kept, **options):
    """Download what is missing, and see that it is no more than that."""
    run = f"{path} {len(server.requests)}"  # of those before it some may not have been read yet
    done = download(f"{server.url}/file", path, headers={"X-Run": run}, **options)
    assert done.resumed_from == kept
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["file"]
    expected = [] if kept == SIZE else [f"bytes={kept}-"] if kept else [None]
    asked = [request for request in server.requests if request.headers.get("X-Run") == run]
    assert [request.headers.get("Range") for request in asked] == expected


def redirected(connection):
    """Send the client elsewhere, where it waits; but not one that goes on."""
    if "X-Run" in connection.request.headers:
        steps.serve(CONTENT, etag=ETAG).run(connection)
    elif connection.request.target == "/other":
        steps.stall().run(connection)
    else:
        steps.redirect("/other").run(connection)


class Phase(NamedTuple):
    """Where a download is when it is stopped.

    Attributes:
        scripts: what the server does on the first connections; on all others it has the file.
        kept: how many bytes have come by then.
        tls: whether over TLS.
        state: what is told of it.
        reached: what the server comes to by then.
        options: of the download.
    """

    scripts: list[steps.Script]
    kept: int = 0
    tls: bool = False
    state: State = State.RUNNING
    reached: str = "stall"
    options: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it


PHASES = {
    "connect": Phase([[steps.stall_connect()]], reached="stall_connect"),
    "TLS handshake": Phase([[steps.stall_handshake()]], tls=True, reached="stall_handshake"),
    "no answer": Phase([[steps.expect(), steps.stall()]]),
    "in the head": Phase([[steps.expect(), steps.send(b"HTTP/1.1 200 OK\r\nETa"), steps.stall()]]),
    "before the body": Phase([[steps.expect(), HEAD, steps.stall()]]),
    "in the body": Phase([STALLED], HALF),
    "in the body over TLS": Phase([STALLED], HALF, tls=True),
    "in a chunk": Phase([IN_A_CHUNK, IN_A_CHUNK], HALF),  # it is asked for twice, in two ways
    "after a redirect": Phase([[steps.repeat(steps.expect(), redirected)]] * 3),
    "second try": Phase([HALF_A_BODY, [steps.expect(), steps.stall()]], HALF, options={"backoff": 0}),
    "backoff": Phase([HALF_A_BODY], HALF, state=State.WAITING, options={"backoff": 60}),
    "Retry-After": Phase(
        [HALF_A_BODY, [steps.expect(), steps.answer(status=503, headers={"Retry-After": "60"})]],
        HALF,
        state=State.WAITING,
        options={"backoff": 0},
    ),
    "the list of checksums": Phase([[steps.expect("GET", "/sums"), steps.stall()]], options={"checksum": "{url}/sums"}),
}


class TestPhases:
    """A stop from another thread."""

    @pytest.mark.stops_within(2)
    @pytest.mark.parametrize("phase", PHASES)
    def test_stops(self, fault_server, background, stop, path, told, phase):
        """It ends the download, keeps what has come, says how much that is, and the next one fetches nothing else."""
        scripts, kept, tls, state, reached, options = PHASES[phase]
        server = fault_server(*scripts, FILE, tls=tls)
        with http.Session(ssl_context=server.client_context() if tls else None) as session:
            if "checksum" in options:
                options = {"checksum": options["checksum"].format(url=server.url)}
            running = background(
                download, f"{server.url}/file", path, stop=stop, session=session, progress=told, **options
            )
            told.wait_for(lambda now: now.state is state and now.done >= kept)
            if state is State.RUNNING:
                server.wait_for(reached)
            wait_until_blocked(stop)
            stop.set("enough")
            error = running.error()
            assert type(error) is Interrupted
            assert (error.reason, error.transferred or 0) == ("enough", kept)
            assert left(path) == CONTENT[:kept]
            assert told.all[-1].state is State.STOPPED
            assert told.all[-1].done == kept
            server.resume()
            go_on(server, path, kept, session=session)

    @pytest.mark.stops_within(2)
    def test_the_limit(self, fault_server, background, stop, path, told):
        """So it does while it keeps to its limit."""
        server = fault_server(FILE)
        running = background(download, f"{server.url}/file", path, stop=stop, progress=told, max_rate=100)
        told.wait_for(lambda now: now.done >= 20)
        wait_until_blocked(stop)
        stop.set()
        kept = running.error().transferred
        assert 20 <= kept == len(left(path)) < 2000
        go_on(server, path, kept)

    @pytest.mark.stops_within(2)
    def test_lookup(self, fault_server, background, stop, path, monkeypatch):
        """So it does while the server's name is being looked up."""
        lookup, answer = socket.getaddrinfo, threading.Event()

        def slow(host, *args, **kwargs):
            if host == "slow.test":
                answer.wait(20)
                host = "127.0.0.1"
            return lookup(host, *args, **kwargs)

        monkeypatch.setattr(socket, "getaddrinfo", slow)
        server = fault_server(FILE)
        running = background(download, f"http://slow.test:{server.port}/file", path, stop=stop)
        wait_until_blocked(stop)
        stop.set()
        assert running.error().transferred == 0
        assert left(path) == b""
        answer.set()
        go_on(server, path, 0)

    @pytest.mark.stops_within(2)
    @pytest.mark.parametrize("tls", [False, True], ids=["forwarding", "tunnel"])
    def test_proxy(self, fault_server, background, stop, path, tls):
        """So it does while a proxy does not answer."""
        proxy, server = fault_server([steps.expect(), steps.stall()]), fault_server(FILE, tls=tls)
        with http.Session(ssl_context=server.client_context() if tls else None) as session:
            session.proxies = {"http": proxy.url, "https": proxy.url}
            running = background(download, f"{server.url}/file", path, stop=stop, session=session)
            proxy.wait_for("stall")
            wait_until_blocked(stop)
            stop.set()
            assert running.error().transferred == 0
            assert left(path) == b""
            session.proxies = {}
            go_on(server, path, 0, session=session)

    @pytest.mark.stops_within(2)
    def test_the_disk(self, fault_server, background, stop, path, monkeypatch):
        """So it does while the disk writes the last of it; then nothing is to be fetched at all."""
        monkeypatch.setattr(_part, "_SYNCED_AT_ONCE", 0)
        sync, syncing, free = os.fdatasync, threading.Event(), threading.Event()
        monkeypatch.setattr(os, "fdatasync", lambda fd: (syncing.set(), free.wait(20), sync(fd)))
        server = fault_server(FILE)
        running = background(download, f"{server.url}/file", path, stop=stop)
        syncing.wait(20)
        try:
            wait_until_blocked(stop)
            stop.set()
            assert running.error().transferred == SIZE
            assert left(path) == CONTENT
        finally:
            free.set()
        go_on(server, path, SIZE)

    @pytest.mark.stops_within(2)
    def test_verifying(self, fault_server, stop, path):
        """So it does while the checksum is taken; that is done anew by the next one, and nothing else."""
        server = fault_server(FILE)
        with pytest.raises(Interrupted) as caught:
            download(
                f"{server.url}/file",
                path,
                stop=stop,
                checksum=sha256(),
                progress=lambda now: now.state is State.VERIFYING and stop.set(),
            )
        assert caught.value.transferred == SIZE
        assert left(path) == CONTENT
        go_on(server, path, SIZE, checksum=sha256())

    def test_each_check(self, fault_server, tmp_path):
        """Wherever it asks its stop: what has come is kept, and the next one fetches the rest."""
        server = fault_server(FILE)
        for n in itertools.count(1):
            path = tmp_path / str(n) / "file"
            path.parent.mkdir()
            stop = StopAfter(n)
            try:
                download(f"{server.url}/file", path, stop=stop, checksum=sha256(), segments=2)
                break
            except Interrupted as error:
                kept = len(left(path))
                assert (error.transferred or 0) == kept
                go_on(server, path, kept)
        assert n > 5
        assert path.read_bytes() == CONTENT


class Begun(NamedTuple):
    """A download that runs, in one way or another."""

    stop: Any
    error: Any


def by_an_argument(make):
    """Start with `stop=`; `make` gives that and what sets it."""

    def start(background, resources, url, path, told):
        stop, do = make()
        running = background(download, url, path, stop=stop, progress=told)
        return Begun(do, running.error)

    return start


def of_a_kind(kind):
    """A stop of a class with `set`."""

    def make():
        stop = kind()
        return stop, stop.set

    return make


def a_callable():
    """A stop that is asked."""
    flag = threading.Event()
    return (lambda: bool(flag.is_set())), flag.set


def by_the_current_stop(background, resources, url, path, told):
    """Start under `use_stop`."""
    stop = StopEvent()

    def run():
        with use_stop(stop):
            download(url, path, progress=told)

    return Begun(stop.set, background(run).error)


def by_interrupt(background, resources, url, path, told):
    """Start in a `Thread` of ours."""
    errors = []

    def run():
        try:
            download(url, path, progress=told)
        except Interrupted as error:
            errors.append(error)
            raise

    thread = Thread(target=run)
    thread.start()

    def error():
        thread.join(20)
        return errors.pop()

    return Begun(thread.interrupt, error)


def in_a_group(background, resources, url, path, told):
    """Start in a `ThreadGroup`."""
    group = ThreadGroup()
    errors = []

    def run():
        try:
            download(url, path, progress=told)
        except Interrupted as error:
            errors.append(error)
            raise

    resources.enter_context(group)
    group.start(run)

    def error():
        resources.close()
        return errors.pop()

    return Begun(group.stop, error)


def managed(what):
    """Start by a manager; what is stopped is the manager, or the download."""

    def start(background, resources, url, path, told):
        manager = resources.enter_context(DownloadManager())
        running = manager.submit(url, path, progress=told)
        return Begun((manager if what == "manager" else running).stop, lambda: running.exception(20))

    return start


KINDS = {
    "StopEvent": by_an_argument(of_a_kind(StopEvent)),
    "threading.Event": by_an_argument(of_a_kind(threading.Event)),
    "callable": by_an_argument(a_callable),
    "use_stop": by_the_current_stop,
    "Thread.interrupt": by_interrupt,
    "ThreadGroup": in_a_group,
    "DownloadManager.stop": managed("manager"),
    "Download.stop": managed("download"),
}


class TestKinds:
    """Whatever it is that says stop."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_stops(self, fault_server, background, path, told, kind):
        """It ends the download, and what has come is kept."""
        server = fault_server(STALLED, FILE)
        with ExitStack() as resources:
            begun = KINDS[kind](background, resources, f"{server.url}/file", path, told)
            told.wait_for_half()
            begun.stop()
            error = begun.error()
            assert type(error) is Interrupted
            assert error.transferred == HALF
        assert left(path) == CONTENT[:HALF]
        go_on(server, path, HALF)

    @pytest.mark.parametrize("options", [{"deadline": 0.3}, {"stop": StopEvent}], ids=["deadline", "stop"])
    def test_deadlines(self, fault_server, path, told, options):
        """A deadline is no other than a stop; it is told as a failure."""
        server = fault_server(STALLED, FILE)
        if "stop" in options:
            options = {"stop": StopEvent(timeout=0.3)}
        with pytest.raises(DeadlineExceeded) as caught:
            download(f"{server.url}/file", path, progress=told, **options)
        assert told.all[-1].state is State.FAILED
        kept = caught.value.transferred
        assert left(path) == CONTENT[:kept]
        go_on(server, path, kept)


@pytest.mark.usefixtures("ctrl_c")
class TestCtrlC:
    """A KeyboardInterrupt in the thread that downloads, as in a program that knows nothing of stops."""

    def test_in_the_body(self, fault_server, path):
        """What has come is kept."""
        server = fault_server(STALLED, FILE)
        with pytest.raises(KeyboardInterrupt), ExitStack() as resources:

            def progress(now):
                if now.done == HALF and now.state is State.RUNNING:
                    resources.enter_context(signal_when_blocked(signal.SIGINT))

            download(f"{server.url}/file", path, progress=progress)
        assert left(path) == CONTENT[:HALF]
        go_on(server, path, HALF)

    def test_before_another_try(self, fault_server, path):
        """So it is while it waits."""
        server = fault_server(HALF_A_BODY, FILE)
        with pytest.raises(KeyboardInterrupt), ExitStack() as resources:

            def progress(now):
                if now.state is State.WAITING:
                    resources.enter_context(signal_when_blocked(signal.SIGINT))

            download(f"{server.url}/file", path, progress=progress, backoff=60)
        assert left(path) == CONTENT[:HALF]
        go_on(server, path, HALF)

    def test_no_answer(self, fault_server, path):
        """What an earlier one has left is kept as well."""
        server = fault_server(STALLED, [steps.expect(), steps.stall()], FILE)
        stop = StopEvent()
        with pytest.raises(Interrupted):
            download(f"{server.url}/file", path, stop=stop, progress=lambda now: now.done == HALF and stop.set())
        with pytest.raises(KeyboardInterrupt), signal_when_blocked(signal.SIGINT):
            download(f"{server.url}/file", path)
        assert left(path) == CONTENT[:HALF]
        go_on(server, path, HALF)


class TestTheEnd:
    """When it is done, it is done."""

    def test_told_that_it_is_done(self, fault_server, stop, path):
        """A stop that comes when it is done changes nothing."""
        server = fault_server(FILE)
        done = download(
            f"{server.url}/file", path, stop=stop, progress=lambda now: now.state is State.DONE and stop.set()
        )
        assert stop.is_set()
        assert done.size == SIZE
        assert path.read_bytes() == CONTENT

    @pytest.mark.parametrize("after", [False, True])
    def test_at_the_rename(self, fault_server, stop, path, monkeypatch, after):
        """Neither does one that comes while the file gets its name, or just after that."""
        real = _part.rename_new

        def rename(source, target):
            if after:
                real(source, target)
            stop.set()
            if not after:
                real(source, target)

        monkeypatch.setattr(_part, "rename_new", rename)
        server = fault_server(FILE)
        assert download(f"{server.url}/file", path, stop=stop).size == SIZE
        assert stop.is_set()
        assert os.listdir(path.parent) == ["file"]

    def test_of_a_manager(self, fault_server, stop, path):
        """Nor does one of a manager."""
        server = fault_server(FILE)
        with DownloadManager(stop=stop) as manager:
            running = manager.submit(
                f"{server.url}/file", path, progress=lambda now: now.state is State.DONE and stop.set()
            )
            assert running.result(20).size == SIZE
            assert running.state is State.DONE


class TestListeners:
    """What `progress` raises ends the download, and is what it raises."""

    @pytest.mark.parametrize(
        ("when", "kept"),
        [
            (lambda now: now.state is State.RUNNING and not now.done, 0),
            (lambda now: now.state is State.RUNNING and now.done == HALF, HALF),
            (lambda now: now.state is State.WAITING, HALF),
            (lambda now: now.state is State.VERIFYING, SIZE),
        ],
        ids=["at the beginning", "in the body", "before another try", "verifying"],
    )
    def test_raises(self, fault_server, path, told, when, kept):
        """What has come is kept, and gone on with."""
        server = fault_server(*([HALF_A_BODY] if kept else []), FILE)
        error = ZeroDivisionError("of the listener")

        def progress(now):
            told(now)
            if when(now):
                raise error

        with pytest.raises(ZeroDivisionError) as caught:
            download(f"{server.url}/file", path, progress=progress, backoff=0.001, checksum=sha256())
        assert caught.value is error
        assert told.all[-1].state is State.FAILED
        assert left(path) == CONTENT[:kept]
        go_on(server, path, kept, backoff=0.001)

    def test_at_the_end(self, fault_server, path):
        """Raised when it is done, it finds the file there."""
        server = fault_server(FILE)

        def progress(now):
            if now.state is State.DONE:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            download(f"{server.url}/file", path, progress=progress)
        assert os.listdir(path.parent) == ["file"]
