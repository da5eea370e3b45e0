"""`dask.download_all` on a real cluster: what becomes of items, limits, stops, and what is lost on the way.

The server of a test is the test's own process, so it sees what all workers ask for, and a transfer that stands still is one that
it holds up.
"""

from __future__ import annotations

import fcntl
import os
import threading

import pytest
from distributed import Client, Future

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, use_stop
from iointerrupt._dask import spread_plan, spread_run
from iointerrupt._dask.work_orders import Stage
from iointerrupt.dask import ClusterLost, ClusterStop, DownloadsInterrupted, Item, download_all
from iointerrupt.downloads import BadStatus, ChecksumMismatch, DestinationExists, Options, ShortBody, download
from iointerrupt.testing import steps
from tests.dask_cluster import Cluster, client_fixture, cluster_fixture  # noqa: F401 - fixtures
from tests.programs import running as running_python
from tests.scripts import always

BODY = bytes(range(256)) * 40
HALF = 6000
ETAG, MODIFIED = '"1"', "Wed, 21 Oct 2015 07:28:00 GMT"
FILE = [steps.repeat(steps.expect(), steps.serve(BODY, etag=ETAG, last_modified=MODIFIED))]
HEADERS = {"ETag": ETAG, "Last-Modified": MODIFIED, "Accept-Ranges": "bytes"}
REST = {**HEADERS, "Content-Range": f"bytes {HALF}-{len(BODY) - 1}/{len(BODY)}"}

# The beginning of a file, and no more of it.
BROKEN = [steps.expect(), steps.head(length=len(BODY), headers=HEADERS), steps.send(BODY[:HALF])]

# Seconds after which a test says what it has waited for in vain.
LIMIT = 20

pytestmark = pytest.mark.usefixtures("plain_environment", "heard_out")


@pytest.fixture
def heard_out(monkeypatch):
    """However busy the machine is, workers that were stopped are heard out."""
    monkeypatch.setattr(spread_run, "_LAST_WORDS", LIMIT)


def _set(stop, reason):
    """What a task does."""
    stop.set(reason)


class Held:
    """Scripts of transfers that stand still in the middle, and when their clients have gone."""

    def __init__(self):
        self._gone = threading.Semaphore(0)
        self.script = [*BROKEN, self._hold]
        self.rest = [steps.expect(), steps.head(206, length=len(BODY) - HALF, headers=REST), self._hold]

    def _hold(self, connection):
        try:
            steps.stall().run(connection)
        finally:
            self._gone.release()

    def wait_until_gone(self, count):
        """Wait until so many clients have gone."""
        for _ in range(count):
            assert self._gone.acquire(timeout=LIMIT)


class Seen:
    """Who is told of the progress, and can be waited for."""

    def __init__(self):
        self.all = []
        self._changed = threading.Condition()

    def __call__(self, progress):
        with self._changed:
            self.all.append(progress)
            self._changed.notify_all()

    def wait_until(self, is_so):
        """Wait for a progress of which this is true."""
        with self._changed:
            assert self._changed.wait_for(lambda: any(map(is_so, self.all)), LIMIT), self.all[-1:]


def halves(count):
    """Whether so many transfers are in the middle."""
    return lambda progress: progress.done == count * HALF


def urls(server, count):
    """URLs of so many files of a server."""
    return [f"{server.url}/{number}" for number in range(count)]


def parts_in(folder):
    """The sizes of the parts in a folder."""
    return [path.stat().st_size for path in sorted(folder.glob("*.part"))]


def results_of(error):
    """The errors of the results that an error has."""
    return [result.error for result in error.results]


class TestItems:
    """What becomes of each of them."""

    def test_all_of_them(self, client, fault_server, tmp_path):
        """Every file is there, in the folder and below it, and there is a result for each, in their order."""
        server = fault_server(FILE)
        seen = Seen()
        items = [*urls(server, 30), (f"{server.url}/x", "sub/y"), Item(f"{server.url}/z", "sub/z")]
        results = download_all(client, items, dest=tmp_path / "new", progress=seen)
        assert [result.item.url for result in results[:30]] == items[:30]
        assert [result.error for result in results] == [None] * 32
        assert [result.downloaded.path for result in results[29:]] == [
            str(tmp_path / "new" / name) for name in ("29", "sub/y", "sub/z")
        ]
        assert all((tmp_path / "new" / result.downloaded.path).read_bytes() == BODY for result in results)
        assert {result.attempts for result in results} == {1}
        assert {result.worker for result in results} <= set(client.nthreads())
        last = seen.all[-1]
        assert (last.total, last.completed, last.failed, last.running) == (32, 32, 0, 0)
        assert (last.done, last.workers) == (32 * len(BODY), 2)

    def test_none(self, client, tmp_path):
        """No items have no results."""
        assert download_all(client, [], dest=tmp_path) == []

    def test_one_that_fails(self, client, fault_server, tmp_path):
        """One that is not to be had, and one that is not what it has to be, keep none of the others."""
        answers = {f"/{number}": [steps.answer(BODY)] for number in range(6)}
        server = fault_server([steps.repeat(steps.route(answers))])
        items = [*urls(server, 5), f"{server.url}/none", Item(f"{server.url}/5", checksum="md5:" + "0" * 32)]
        results = download_all(client, items, dest=tmp_path)
        assert [result.error for result in results[:5]] == [None] * 5
        assert isinstance(results[5].error, BadStatus)
        assert results[5].error.status == 404
        assert isinstance(results[6].error, ChecksumMismatch)
        assert sorted(path.name for path in tmp_path.iterdir()) == list("01234")

    def test_one_that_is_there(self, client, fault_server, tmp_path):
        """A file that is there already is an error, unless the options say otherwise."""
        server = fault_server(FILE)
        (tmp_path / "0").write_bytes(b"another")
        (result,) = download_all(client, urls(server, 1), dest=tmp_path)
        assert isinstance(result.error, DestinationExists)
        assert (tmp_path / "0").read_bytes() == b"another"
        (result,) = download_all(client, urls(server, 1), dest=tmp_path, options=Options(overwrite=True))
        assert result.error is None
        (result,) = download_all(client, urls(server, 1), dest=tmp_path, update=True)
        assert result.downloaded.unchanged

    def test_no_folder(self, client, fault_server, tmp_path):
        """A folder that cannot be made is the error of the items that go there."""
        (tmp_path / "file").write_bytes(b"")
        (result,) = download_all(client, urls(fault_server(FILE), 1), dest=tmp_path / "file")
        assert "cannot be made a folder" in str(result.error)

    @pytest.mark.parametrize(
        ("items", "options", "kind", "says"),
        [
            ("http://a/", {}, TypeError, "not one str"),
            ([7], {}, TypeError, "an item must be a URL"),
            ([["http://a/", "b"]], {}, TypeError, "an item must be a URL"),
            (["http://a/"], {"options": 5}, TypeError, "options must be an Options or None, not int"),
            (["http://a/"], {"progress": 5}, TypeError, "progress must be callable, not int"),
            (["ftp://a/"], {}, ValueError, "accepted are http://HOST/"),
            ([("http://a/", "../x")], {}, ValueError, "is no name below the folder"),
            ([("http://a/", "/x")], {}, ValueError, "is no name below the folder"),
            ([("http://a/", "c:x")], {}, ValueError, "is no safe name; accepted is, for instance, 'c_x'"),
            ([("http://a/", "..\\x")], {}, ValueError, "is no safe name"),
            ([("http://a/", "")], {}, ValueError, "is no name below the folder"),
            ([("http://a/", 7)], {}, TypeError, "dest of an item must be a str"),
            (["http://a/", Item("http://a/b", checksum="sha256:00")], {}, ValueError, "sha256"),
            (["http://a/"], {"segments": 2}, ValueError, "segments must be 1"),
            (["http://a/"], {"jobs": 0}, ValueError, "jobs must be 1 or more"),
            (["http://a/"], {"connections_per_host": 1.5}, TypeError, "connections_per_host must be an int"),
            (["http://a/"], {"retires": 2}, TypeError, "there is no option retires"),
        ],
    )
    def test_what_cannot_be_meant(self, client, tmp_path, items, options, kind, says):
        """It is refused before anything is done."""
        with pytest.raises(kind, match=says):
            download_all(client, items, dest=tmp_path, **options)

    def test_not_a_client(self, tmp_path):
        """Nor is it done by anything but a client."""
        with pytest.raises(TypeError, match=r"must be a distributed\.Client, not str"):
            download_all("tcp://127.0.0.1:8786", [], dest=tmp_path)

    def test_an_asynchronous_client(self, client, tmp_path, monkeypatch):
        """Nor by one that must not wait."""
        with monkeypatch.context() as patch:
            patch.setattr(Client, "asynchronous", True)
            with pytest.raises(TypeError, match="must not be asynchronous"):
                download_all(client, [], dest=tmp_path)


class TestLimits:
    """How many there are at a time."""

    def test_of_a_host(self, client, fault_server, tmp_path):
        """There are as many at a time as the limit says, and never more, from all workers together."""
        gauge, most = [0], []
        lock = threading.Lock()

        def enter(_):
            with lock:
                gauge[0] += 1
                most.append(gauge[0])

        def leave(_):
            with lock:
                gauge[0] -= 1

        busy = [steps.expect(), enter, steps.stall(), leave, steps.answer(BODY, headers={"Connection": "close"})]
        free = [steps.repeat(steps.expect(), enter, leave, steps.answer(BODY))]
        server = fault_server(busy, busy, busy, free)
        released = threading.Thread(target=lambda: (server.wait_for("stall", 3, timeout=LIMIT), server.resume()))
        released.start()
        results = download_all(client, urls(server, 40), dest=tmp_path, connections_per_host=3)
        released.join(LIMIT)
        assert [result.error for result in results] == [None] * 40
        assert max(most) == 3

    def test_small_ones_share_connections(self, client, fault_server, tmp_path, monkeypatch):
        """Many small files take few connections, and so few tasks, one after the other."""
        monkeypatch.setattr(spread_plan, "_BATCH", 1e9)  # however busy the machine is, they take a moment
        server = fault_server(FILE)
        download_all(client, urls(server, 200), dest=tmp_path, connections_per_host=1)
        assert len(server.requests) == 200
        assert server.connections == 9


class TestStops:
    """What ends all of it."""

    def test_mid_transfer(self, client, fault_server, tmp_path, background, stop):
        """A stop ends all transfers; the parts are kept, and the next run goes on with them."""
        held, seen = Held(), Seen()
        server = fault_server(*[held.script] * 4, FILE)
        running = background(
            download_all, client, urls(server, 6), dest=tmp_path, stop=stop, connections_per_host=4, progress=seen
        )
        seen.wait_until(halves(4))
        stop.set("enough")
        error = running.error()
        held.wait_until_gone(4)
        assert isinstance(error, DownloadsInterrupted)
        assert error.reason == "enough"
        assert [type(one) for one in results_of(error)] == [Interrupted] * 6
        assert [one.reason for one in results_of(error)] == ["enough"] * 6
        assert [one.transferred for one in results_of(error)] == [HALF] * 4 + [None] * 2
        assert [result.attempts for result in error.results] == [1] * 4 + [0] * 2
        assert parts_in(tmp_path) == [HALF] * 4
        results = download_all(client, urls(server, 6), dest=tmp_path)
        assert [result.downloaded.resumed_from for result in results] == [HALF] * 4 + [0] * 2
        assert all((tmp_path / str(number)).read_bytes() == BODY for number in range(6))

    def test_by_the_stop_of_a_cluster(self, client, fault_server, tmp_path, background):
        """A stop of the cluster ends it too, set by a task of a worker."""
        held, seen = Held(), Seen()
        server = fault_server(held.script)
        with ClusterStop(client) as stop:
            running = background(download_all, client, urls(server, 2), dest=tmp_path, stop=stop, progress=seen)
            seen.wait_until(halves(2))
            client.submit(_set, stop, "from a worker", pure=False).result()
            assert running.error().reason == "from a worker"
        held.wait_until_gone(2)

    def test_by_a_deadline(self, client, fault_server, tmp_path):
        """A deadline of the whole is told from other stops."""
        held = Held()
        server = fault_server(held.script)
        with use_stop(StopEvent(timeout=0.5)), pytest.raises(DownloadsInterrupted) as raised:
            download_all(client, urls(server, 1), dest=tmp_path)
        assert isinstance(raised.value, DeadlineExceeded)
        assert len(raised.value.results) == 1

    def test_of_an_item(self, client, fault_server, tmp_path):
        """A deadline of one item is its error, and no stop of the whole."""
        server = fault_server(Held().script)
        (result,) = download_all(client, urls(server, 1), dest=tmp_path, deadline=0.2)
        assert isinstance(result.error, DeadlineExceeded)

    def test_before(self, client, fault_server, tmp_path, stop):
        """A stop that is set already: nothing is asked for."""
        server = fault_server(FILE)
        stop.set("before")
        with pytest.raises(Interrupted, match="before"):
            download_all(client, urls(server, 1), dest=tmp_path, stop=stop)
        assert server.connections == 0

    @pytest.mark.parametrize("kind", [ZeroDivisionError, KeyboardInterrupt])
    def test_by_the_listener(self, client, fault_server, tmp_path, kind):
        """What `progress` raises ends the transfers; and so does a Ctrl-C, which may come there as well."""
        held = Held()
        server = fault_server(held.script)

        def fail(progress):
            if halves(2)(progress):
                raise kind("of the listener")

        with pytest.raises(kind, match="of the listener"):
            download_all(client, urls(server, 2), dest=tmp_path, progress=fail)
        held.wait_until_gone(2)

    def test_without_workers(self, fault_server, tmp_path, background, stop):
        """A stop ends the wait for the first worker as well."""
        with Cluster(workers=0) as cluster, Client(cluster.address, set_as_default=False) as client:
            seen = Seen()
            running = background(download_all, client, ["http://127.0.0.1:9/"], dest=tmp_path, stop=stop, progress=seen)
            seen.wait_until(lambda progress: progress.workers == 0)
            stop.set()
            assert isinstance(running.error(), DownloadsInterrupted)
            assert seen.all[-1].failed == 1  # it is told of the end too

    def test_a_worker_that_is_wished_for(self, fault_server, tmp_path, background):
        """A cluster without workers is given a task, by which one that grows sees that it has to."""
        server = fault_server(FILE)
        with Cluster(workers=0) as cluster, Client(cluster.address, set_as_default=False) as client:
            running = background(download_all, client, urls(server, 1), dest=tmp_path)
            while not client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
                pass
            cluster.add_worker()
            (result,) = running.result()
            assert result.error is None

    def test_a_client_that_is_closed(self, cluster, tmp_path):
        """Nothing can be done with it, and that is said as where it is closed meanwhile."""
        client = Client(cluster.address, set_as_default=False)
        client.close()
        with pytest.raises(ClusterLost, match="the client is closed"):
            download_all(client, ["http://127.0.0.1:9/"], dest=tmp_path)


class TestTwoClients:
    """Two clients of one scheduler, in one process."""

    def test_each_hears_of_its_own(self, client, cluster, fault_server, tmp_path, monkeypatch):
        """A report to one of them, which the scheduler sends to both, counts once."""
        server = fault_server(always(b"hello"))
        heard = []
        hear = spread_run.Spread._hear
        monkeypatch.setattr(spread_run.Spread, "_hear", lambda run, report: (heard.append(report), hear(run, report)))
        with Client(cluster.address, set_as_default=False) as other:
            for who in (client, other):
                heard.clear()
                (result,) = download_all(who, [f"{server.url}/{id(who)}"], dest=tmp_path)
                assert result.error is None
                assert [report.stage for report in heard if report.stage is not Stage.GOING] == [
                    Stage.BEGUN,
                    Stage.OVER,
                ]


class TestLosses:
    """What is lost on the way."""

    @pytest.fixture
    def own(self):
        """A cluster of the test's own, and a client of it."""
        with Cluster() as cluster, Client(cluster.address, set_as_default=False) as client:
            yield cluster, client

    def test_a_worker(self, own, fault_server, tmp_path, background):
        """A worker that is killed: another one goes on with what it was at, and the result says so."""
        cluster, client = own
        held, seen = Held(), Seen()
        server = fault_server(BROKEN, held.rest, FILE)
        have_half(urls(server, 1), tmp_path)
        running = background(download_all, client, urls(server, 1), dest=tmp_path, progress=seen)
        seen.wait_until(halves(1))
        lost = busy(client)
        cluster.kill_worker(client.run(os.getpid)[lost])
        (result,) = running.result()
        assert result.error is None
        assert (result.downloaded.resumed_from, result.attempts) == (HALF, 2)
        assert result.worker != lost
        assert server.requests[-1].headers["Range"] == f"bytes={HALF}-"
        assert (tmp_path / "0").read_bytes() == BODY

    def test_a_worker_that_is_retired(self, own, fault_server, tmp_path, background):
        """A worker that is closed in order gives up its transfers, and another one goes on with them."""
        _, client = own
        held, seen = Held(), Seen()
        server = fault_server(BROKEN, held.rest, FILE)
        have_half(urls(server, 1), tmp_path)
        running = background(download_all, client, urls(server, 1), dest=tmp_path, progress=seen)
        seen.wait_until(halves(1))
        lost = busy(client)
        client.retire_workers([lost])
        (result,) = running.result()
        assert result.error is None
        assert result.downloaded.resumed_from == HALF
        assert result.worker != lost

    def test_all_workers(self, own, fault_server, tmp_path, background):
        """Where no worker is left, the downloads wait for one that comes."""
        cluster, client = own
        held, seen = Held(), Seen()
        server = fault_server(BROKEN, BROKEN, held.rest, held.rest, FILE)
        have_half(urls(server, 2), tmp_path)
        running = background(download_all, client, urls(server, 2), dest=tmp_path, jobs=1, progress=seen)
        seen.wait_until(halves(2))
        for process in list(cluster.workers):
            cluster.kill_worker(process)
        held.wait_until_gone(2)
        cluster.add_worker()
        results = running.result()
        assert [result.error for result in results] == [None, None]
        assert [result.downloaded.resumed_from for result in results] == [HALF, HALF]

    def test_the_scheduler(self, own, fault_server, tmp_path, background):
        """Without a scheduler nobody can say what becomes of them: the client says so, and the transfers stop."""
        cluster, client = own
        held, seen = Held(), Seen()
        server = fault_server(held.script)
        running = background(download_all, client, urls(server, 2), dest=tmp_path, progress=seen)
        seen.wait_until(halves(2))
        cluster.kill_scheduler()
        error = running.error()
        held.wait_until_gone(2)
        assert isinstance(error, ClusterLost)
        assert "the connection to the scheduler is lost" in str(error)
        assert [type(one) for one in results_of(error)] == [Interrupted] * 2
        assert parts_in(tmp_path) == [HALF] * 2

    def test_a_client_that_is_closed(self, cluster, fault_server, tmp_path, background):
        """Another thread may close the client; the transfers stop."""
        held, seen = Held(), Seen()
        server = fault_server(held.script)
        with Client(cluster.address, set_as_default=False) as client:
            running = background(download_all, client, urls(server, 2), dest=tmp_path, progress=seen)
            seen.wait_until(halves(2))
        assert isinstance(running.error(), ClusterLost)
        held.wait_until_gone(2)
        assert parts_in(tmp_path) == [HALF] * 2

    def test_a_client_that_is_killed(self, client, cluster, fault_server, tmp_path):
        """The process of the client is killed: the workers stop, and the parts are kept for another client."""
        held = Held()
        server = fault_server(BROKEN, BROKEN, held.rest, held.rest, FILE)
        have_half(urls(server, 2), tmp_path)
        code = (
            "import sys; from distributed import Client; from iointerrupt import dask\n"
            "dask.download_all(Client(sys.argv[1]), sys.argv[3:], dest=sys.argv[2])"
        )
        with running_python("-c", code, cluster.address, tmp_path, *urls(server, 2)) as program:
            server.wait_for("stall", 2, timeout=LIMIT)
            program.process.kill()
            held.wait_until_gone(2)
        wait_until_let_go(tmp_path)
        results = download_all(client, urls(server, 2), dest=tmp_path)
        assert [result.error for result in results] == [None, None]
        assert [result.downloaded.resumed_from for result in results] == [HALF, HALF]

    def test_tasks_that_are_cancelled(self, client, fault_server, tmp_path, background):
        """A task that somebody cancels stops its transfer, and that is the error of its item; the others go on."""
        held, seen = Held(), Seen()
        server = fault_server(held.script, [steps.repeat(steps.expect(), steps.serve(BODY))])
        running = background(
            download_all, client, urls(server, 5), dest=tmp_path, progress=seen, connections_per_host=1
        )
        seen.wait_until(halves(1))
        (key,) = client.processing()[busy(client)]
        Future(key, client).cancel()
        held.wait_until_gone(1)
        results = running.result()
        assert isinstance(results[0].error, Interrupted)
        assert results[0].error.reason == "the task was cancelled"
        assert [result.error for result in results[1:]] == [None] * 4
        assert parts_in(tmp_path) == [HALF]


def have_half(items, folder):
    """Leave half of each of these files in a folder, with the record that says so; the server breaks off there."""
    for url in items:
        with pytest.raises(ShortBody):
            download(url, folder / url.rpartition("/")[2], retries=0)


def wait_until_let_go(folder):
    """Wait until nobody is at any of the parts in a folder."""
    for path in folder.glob("*.part"):
        with path.open("rb") as part:
            fcntl.flock(part, fcntl.LOCK_EX)


def busy(client):
    """The address of the one worker that has tasks."""
    (address,) = [address for address, tasks in client.processing().items() if tasks]
    return address
