"""What the client's side of `download_all` makes of what it hears, without a cluster: losses, moves, and what was completed."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
from distributed import Status

from iointerrupt import DeadlineExceeded, DownloadError, Interrupted, StopEvent, http
from iointerrupt._dask import work
from iointerrupt._dask.spread_items import ClusterLost, DownloadsInterrupted, DownloadsLate, Errand, Item, ItemResult
from iointerrupt._dask.spread_run import Spread
from iointerrupt._dask.work_orders import Ended, Lane, Report, Stage, sendable, unpacked
from iointerrupt._dask.work_watch import Watch
from iointerrupt._files import growing
from iointerrupt.downloads import BadStatus, DestinationBusy, DestinationExists, Downloaded, Options, Progress, State
from iointerrupt.testing import steps
from tests.scripts import always

ONE, TWO = "tcp://one", "tcp://two"


class Listening:
    """Keeps what it is told."""

    def __init__(self):
        self.said = []

    def began(self, number, progress):
        self.said.append(("began", number))

    def retried(self, number, progress):
        self.said.append(("retried", number, str(progress.error)))

    def ended(self, number, result):
        self.said.append(("ended", number))

    def tick(self, running, workers):
        self.said.append(("tick", dict(running), workers))


class Run(Spread):
    """A run of some items of one host, whose tasks are kept instead of run."""

    def __init__(self, count, *, jobs=1):
        self.submitted = []
        items = [Item(f"http://host/{number}") for number in range(count)]
        super().__init__(
            SimpleNamespace(submit=self._submit, status="running"),
            items,
            [Errand(item.url, f"/folder/{number}") for number, item in enumerate(items)],
            options=Options(),
            stop=StopEvent(),
            per_host=8,
            jobs=jobs,
            listener=Listening(),
        )
        self._plan.workers = [ONE, TWO]

    def _submit(self, function, lane, **options):
        self.submitted.append((lane, options["workers"]))
        return SimpleNamespace(status="pending")

    @property
    def said(self):
        """What the listener was told."""
        return self._listener.said

    @property
    def results(self):
        """Those that there are."""
        return self._results

    def open_next(self):
        """Open the next lane; what its task has got."""
        self._open(self._plan.next(), None)
        return self.submitted[-1][0]

    def hear(self, lane, stage, worker=ONE, **said):
        """A report comes."""
        self._hear(Report(lane.number, worker, stage, **said))


def done(number):
    """A file that is there."""
    return Ended(Downloaded(f"/folder/{number}", 1, 0, 0.1, None, f"http://host/{number}"), None)


def exists():
    """A file that was there already."""
    return Ended(None, DestinationExists("it is there already"))


def under_way(number):
    """How far one is."""
    return number, Progress(f"http://host/{number}", None, done=5, state=State.RUNNING)


def test_in_order():
    """An item that begins and ends is told of, once each, and its result says where it was."""
    run = Run(1)
    lane = run.open_next()
    run.hear(lane, Stage.BEGUN)
    run.hear(lane, Stage.GOING, current=under_way(0))
    run.hear(lane, Stage.GOING, current=under_way(0))
    run.hear(lane, Stage.OVER, ended={0: done(0)}, seconds=1.0)
    assert run.said == [("began", 0), ("ended", 0)]
    assert run.results[0].worker == ONE
    assert run.results[0].attempts == 1
    assert run._lanes == {}


def test_what_a_lost_worker_has_left():
    """What was reported is done; all else of the lane is the first to be fetched, where files may be there by now."""
    run = Run(10)
    run._plan._seconds["http://host"] = 0.0  # as they are small
    lane = run.open_next()
    assert list(lane.errands) == [0, 1, 2]
    run.hear(lane, Stage.BEGUN, there=(2,))
    run.hear(lane, Stage.GOING, ended={0: done(0)}, current=under_way(1))
    run.hear(lane, Stage.MOVED, worker=TWO)
    assert run.said[-1] == ("retried", 1, "the worker tcp://one was lost")
    assert list(run.results) == [0]
    again = run.open_next()
    assert {number: (errand.is_left, errand.may_be_there) for number, errand in again.errands.items()} == {
        1: (True, True),
        2: (True, False),  # it had been there before
        3: (False, False),
    }
    run.hear(again, Stage.BEGUN, worker=TWO)
    run.hear(again, Stage.OVER, worker=TWO, ended={1: done(1), 2: exists(), 3: done(3)}, seconds=1.0)
    assert [run.results[number].attempts for number in range(4)] == [1, 2, 1, 1]
    assert isinstance(run.results[2].error, DestinationExists)


def test_two_workers_are_lost():
    """What the first one may have completed, the second one finds: that it was there then says nothing of before."""
    run = Run(1)
    lane = run.open_next()
    run.hear(lane, Stage.BEGUN)
    run.hear(lane, Stage.MOVED, worker=TWO)
    lane = run.open_next()
    run.hear(lane, Stage.BEGUN, worker=TWO, there=(0,))
    run.hear(lane, Stage.MOVED, worker=ONE)
    assert run.open_next().errands[0].may_be_there


def test_a_lane_that_was_not_begun():
    """One that another worker has got before it was begun is done there, and nothing was lost."""
    run = Run(1)
    lane = run.open_next()
    run.hear(lane, Stage.MOVED, worker=TWO)
    again, workers = run.submitted[-1]
    assert (again.worker, workers) == (TWO, [TWO])
    assert again.number != lane.number
    run.hear(again, Stage.BEGUN, worker=TWO)
    run.hear(again, Stage.OVER, worker=TWO, ended={0: done(0)}, seconds=1.0)
    assert run.results[0].attempts == 1


def test_reports_that_come_late():
    """What is said of a lane that is no more is nothing to go by."""
    run = Run(1)
    lane = run.open_next()
    run.hear(lane, Stage.BEGUN)
    run.hear(lane, Stage.MOVED, worker=TWO)
    run.hear(lane, Stage.OVER, ended={0: done(0)}, seconds=1.0)
    assert run.results == {}


def test_an_item_that_kills_workers():
    """An item whose workers are lost again and again is given up."""
    run = Run(1)
    for _ in range(4):
        lane = run.open_next()
        run.hear(lane, Stage.BEGUN)
        run.hear(lane, Stage.GOING, current=under_way(0))
        run.hear(lane, Stage.MOVED, worker=TWO)
    assert isinstance(run.results[0].error, DownloadError)
    assert str(run.results[0].error) == "the worker tcp://one was lost"
    assert run.results[0].attempts == 4
    assert run._plan.waiting == 0


def test_a_worker_that_comes_back_under_its_address():
    """It begins its lane anew, and finds what it has completed itself: that is looked at again."""
    run = Run(1)
    lane = run.open_next()
    run.hear(lane, Stage.BEGUN)
    run.hear(lane, Stage.BEGUN)
    run.hear(lane, Stage.OVER, ended={0: exists()}, seconds=1.0)
    assert run.results == {}
    again = run.open_next()
    assert again.errands[0].may_be_there
    run.hear(again, Stage.BEGUN)
    run.hear(again, Stage.OVER, ended={0: done(0)}, seconds=1.0)
    assert run.results[0].error is None


def test_a_file_that_was_there_when_a_lane_began_twice():
    """It is in the way, as ever."""
    run = Run(1)
    lane = run.open_next()
    run.hear(lane, Stage.BEGUN, there=(0,))
    run.hear(lane, Stage.BEGUN, there=(0,))
    run.hear(lane, Stage.OVER, ended={0: exists()}, seconds=1.0)
    assert isinstance(run.results[0].error, DestinationExists)


def test_tries_that_fail():
    """A try that has failed is told of, after the beginning of its item."""
    run = Run(1)
    lane = run.open_next()
    number, progress = under_way(0)
    run.hear(lane, Stage.BEGUN)
    run.hear(lane, Stage.GOING, retried=((number, progress),), current=(number, progress))
    assert run.said == [("began", 0), ("retried", 0, "None")]


def test_a_deadline():
    """A stop that was a deadline is told from others, and each item has its result."""
    run = Run(2)
    lane = run.open_next()
    run.hear(lane, Stage.OVER, ended={0: done(0)}, seconds=1.0)
    run._stop = StopEvent(timeout=0)
    error = run._interrupted()
    assert isinstance(error, DeadlineExceeded)
    assert [type(result.error) for result in error.results] == [type(None), Interrupted]


@pytest.mark.parametrize(
    ("status", "error"),
    [("error", ZeroDivisionError), ("cancelled", Interrupted), ("finished", None), ("lost", None), ("pending", None)],
)
def test_what_futures_tell(status, error):
    """A task that failed or was cancelled is the end of its items; one that ended without a word has lost its worker."""
    run = Run(1)
    lane = run.open_next()
    run.hear(lane, Stage.BEGUN)
    run._client.nthreads = lambda: {ONE: 1, TWO: 1}
    run._lanes[lane.number].future = SimpleNamespace(status=status, exception=ZeroDivisionError)
    run._look(StopEvent())
    assert [type(result.error) for result in run.results.values()] == ([] if error is None else [error])
    assert run._plan.waiting == (status in ("finished", "lost"))
    assert run.said[-1] == ("tick", {}, 2)


def test_a_worker_that_is_no_more():
    """Where the workers that there are do not include that of a lane, and no other has got it, it is lost."""
    run = Run(1)
    lane = run.open_next()
    run.hear(lane, Stage.BEGUN)
    run._client.nthreads = lambda: {TWO: 1}
    run._look(StopEvent())
    assert run._lanes == {}
    assert run.open_next().worker == TWO


def test_a_client_that_was_closed():
    """Its futures are cancelled, which says nothing of the items."""
    run = Run(1)
    lane = run.open_next()
    run._lanes[lane.number].future.status = "cancelled"
    run._client.status = "closed"
    with pytest.raises(RuntimeError, match="the client is closed"):
        run._look(StopEvent())
    assert run.results == {}


def test_who_was_not_heard_of():
    """An item whose worker has said nothing of its end is that worker's, and those behind it nobody's."""
    run = Run(10)
    run._plan._seconds["http://host"] = 0.0  # as they are small
    lane = run.open_next()
    run.hear(lane, Stage.BEGUN)
    run.hear(lane, Stage.GOING, ended={0: done(0)})
    error = run._cluster_lost(OSError("no route"))
    assert str(error) == "the connection to the scheduler is lost: no route"
    assert [(result.worker, result.attempts) for result in error.results] == [(ONE, 1)] * 2 + [("", 0)] * 8


class Working:
    """A worker, as far as a watch looks at one."""

    def __init__(self):
        self.address, self.status = ONE, Status.running
        self.state = SimpleNamespace(tasks={})
        self.said, self.extensions = [], {}
        self.loop = SimpleNamespace(add_callback=lambda look: None)

    def log_event(self, topic, message):
        self.said.append(unpacked(message))


@pytest.fixture
def lane():
    """One with one errand."""
    return Lane("run", 1, ONE, {0: Errand("http://host/0", "/folder/0")}, Options(), None)


@pytest.mark.parametrize("state", ["executing", "long-running", "cancelled", "resumed", None])
def test_nobody_wants_it(lane, state):
    """A lane whose task is none that runs is called off, and only such a one."""
    worker = Working()
    if state is not None:
        worker.state.tasks[lane.key] = SimpleNamespace(state=state)
    with Watch(worker).over(lane) as shift:
        shift.look()
        assert shift.is_called_off == shift.stop.is_set() == (state not in ("executing", "long-running"))


def test_a_worker_that_closes(lane, background):
    """It has its lanes stopped, and waits for them."""
    worker = Working()
    worker.state.tasks[lane.key] = SimpleNamespace(state="long-running")
    watch, begun = Watch(worker), threading.Event()

    def work():
        with watch.over(lane) as shift:
            begun.set()
            shift.stop.wait()
            return shift.stop.reason

    running = background(work)
    assert begun.wait(20)
    worker.status = Status.closing
    asyncio.run(watch.close())
    assert running.result() == "the worker is closing"


def test_what_a_watch_tells(lane):
    """What has ended is told once, what is under way each time, and nothing where there is nothing to tell."""
    worker = Working()
    with Watch(worker).over(lane) as shift:
        shift.tell()
        meter = shift.begin(0, "http://host/0")
        shift.tell()
        meter.enter(State.WAITING)
        shift.tell()
        shift.end(0, done(0))
        shift.tell()
        shift.tell()
    assert [
        (report.current and report.current[0], len(report.retried), list(report.ended)) for report in worker.said
    ] == [
        (0, 0, []),
        (0, 1, []),
        (None, 0, [0]),
    ]


@pytest.fixture
def fetch(lane, fault_server):
    """Fetches an errand as a worker does; returns how it has ended."""
    server = fault_server(always(b"hello"))

    def fetch(path, **errand):
        errand = Errand(f"{server.url}/file", str(path), **errand)
        with Watch(Working()).over(lane) as shift, http.Session() as session:
            return work._fetch(0, errand, lane, session, shift)

    return fetch


def test_a_part_that_a_lost_worker_still_has(fetch, tmp_path, monkeypatch):
    """It is waited for, as long as there is a chance; where nobody was lost, it is somebody else's."""
    path = tmp_path / "file"
    fd = growing.open_locked(f"{path}.part", 0o600)
    assert isinstance(fetch(path).error, DestinationBusy)
    pauses = []
    monkeypatch.setattr(work, "pause", pauses.append)
    assert isinstance(fetch(path, is_left=True).error, DestinationBusy)
    assert pauses == list(work._PAUSES)
    monkeypatch.setattr(work, "pause", lambda _: growing.close_locked(fd))
    assert fetch(path, is_left=True).error is None
    assert path.read_bytes() == b"hello"


def test_a_file_that_a_lost_worker_has_completed(fetch, tmp_path):
    """It is taken for done, with its name and size, under a name that was given or that of the URL; else it is in the way."""
    (tmp_path / "file").write_bytes(b"hello")
    assert isinstance(fetch(tmp_path / "file", is_left=True).error, DestinationExists)
    for path in (f"{tmp_path}/file", f"{tmp_path}/"):
        downloaded = fetch(path, is_left=True, may_be_there=True).downloaded
        assert (downloaded.path, downloaded.size, downloaded.resumed_from) == (str(tmp_path / "file"), 5, 5)
    right = f"md5:{hashlib.md5(b'hello').hexdigest()}"
    assert fetch(tmp_path / "file", may_be_there=True, checksum=right).downloaded.checksum == right
    wrong = f"md5:{'0' * 32}"
    assert isinstance(fetch(tmp_path / "file", may_be_there=True, checksum=wrong).error, DestinationExists)
    assert isinstance(fetch(f"{tmp_path}/file").error, DestinationExists)


def test_a_file_of_another_name(fetch, lane, fault_server, tmp_path):
    """What has the name that the server gives may be anybody's, so it is in the way: nobody has looked for it before."""
    (tmp_path / "report.txt").write_bytes(b"the user's own")
    disposition = {"Content-Disposition": "attachment; filename=report.txt"}
    server = fault_server([steps.expect(), steps.answer(b"another", headers=disposition)])
    errand = Errand(f"{server.url}/file", f"{tmp_path}/", is_left=True, may_be_there=True)
    with Watch(Working()).over(lane) as shift, http.Session() as session:
        ended = work._fetch(0, errand, lane, session, shift)
    assert isinstance(ended.error, DestinationExists)
    assert ended.error.path == str(tmp_path / "report.txt")


def test_a_lane(lane, fault_server, tmp_path, monkeypatch):
    """A worker leaves its pool, says what is there, fetches one after the other, and says what came of all; none after a stop."""
    server = fault_server([steps.repeat(steps.route({"/0": [steps.answer(b"hello")]}))])
    errands = {number: Errand(f"{server.url}/{number}", f"{tmp_path}/sub/{number}") for number in range(2)}
    lane = replace(lane, errands={**errands, 2: Errand(f"{server.url}/0", str(tmp_path / "sub"))})
    (tmp_path / "sub").mkdir()
    worker, seceded = Working(), []
    monkeypatch.setattr(work, "get_worker", lambda: worker)
    monkeypatch.setattr(work, "secede", lambda: seceded.append(True))
    work.work_through(lane)
    begun, over = worker.said
    assert (begun.stage, begun.there, seceded) == (Stage.BEGUN, (2,), [True])
    assert over.stage is Stage.OVER
    assert over.seconds > 0
    assert over.ended[0].downloaded.path == f"{tmp_path}/sub/0"
    assert isinstance(over.ended[1].error, BadStatus)
    worker.said.clear()
    stopped = StopEvent()
    stopped.set()
    work.work_through(replace(lane, stop=stopped))
    assert [(report.stage, dict(report.ended)) for report in worker.said] == [(Stage.BEGUN, {}), (Stage.OVER, {})]


def test_a_lane_that_is_called_off(lane, fault_server, tmp_path, monkeypatch):
    """Of its end nothing is said: whoever has it next, if anybody, says something."""
    server = fault_server(always(b"hello"))
    worker = Working()
    monkeypatch.setattr(work, "get_worker", lambda: worker)
    monkeypatch.setattr(work, "secede", lambda: None)
    watch = work.watch_of(worker)
    monkeypatch.setattr(work, "run", lambda *_: [shift.look() for shift in watch._shifts.values()])
    work.work_through(replace(lane, errands={0: Errand(f"{server.url}/0", f"{tmp_path}/0")}))
    assert [report.stage for report in worker.said] == [Stage.BEGUN]


def test_a_lane_of_another_worker(lane, monkeypatch):
    """It is left alone, and that is said."""
    worker = Working()
    monkeypatch.setattr(work, "get_worker", lambda: worker)
    work.work_through(replace(lane, worker=TWO))
    assert [(report.stage, report.worker) for report in worker.said] == [(Stage.MOVED, ONE)]


def test_no_folder_to_be_had(fetch, tmp_path):
    """Where the folder cannot be made, that is the error."""
    (tmp_path / "file").write_bytes(b"")
    assert "cannot be made a folder" in str(fetch(tmp_path / "file" / "x").error)


@pytest.mark.parametrize("kind", [DownloadsInterrupted, DownloadsLate])
def test_errors_travel(kind):
    """The errors can be pickled, with the results."""
    result = ItemResult(Item("http://a/"), None, Interrupted("why", transferred=7), "tcp://one", 1)
    error = kind("why")
    error.results = [result]
    copied = pickle.loads(pickle.dumps(error))
    assert isinstance(copied, Interrupted)
    assert isinstance(copied, DeadlineExceeded) == (kind is DownloadsLate)
    assert copied.reason == "why"
    assert copied.results[0].error.transferred == 7
    lost = pickle.loads(pickle.dumps(ClusterLost("gone", [result])))
    assert isinstance(lost, ConnectionError)
    assert (str(lost), lost.results[0].item) == ("gone", result.item)


def test_what_is_shown_has_no_passwords():
    """Items and results are what programs log: no password is in it."""
    result = ItemResult(Item("http://user:s3cr3t@a.test/file", "file"), None, None)
    assert "s3cr3t" not in repr(result)
    assert repr(result.item).endswith("a.test/file', dest='file', checksum=None)")


def test_errors_that_cannot_travel():
    """An error that cannot be pickled is told in words."""
    assert str(sendable(ValueError(lambda: None))).startswith("ValueError: <function")
    error = ValueError(7)
    error.__cause__ = OSError("of http://me:s3cr3t@host/")
    assert isinstance(sendable(error), ValueError)
    assert error.__cause__ is None
