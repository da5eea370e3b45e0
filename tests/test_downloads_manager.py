"""`DownloadManager`: whose turn it is, pauses, stops, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import threading
import weakref

import pytest
import requests

from iointerrupt import Interrupted, StopEvent, http
from iointerrupt.downloads import BadStatus, DownloadManager, State, _manager
from iointerrupt.downloads._meter import Meter
from iointerrupt.testing import steps, wait_until_blocked
from tests.blocking import run_program

CONTENT = bytes(range(256)) * 1024
SERVE = steps.serve(CONTENT, etag='"v1"')
HALF = len(CONTENT) // 2


@pytest.fixture
def gate(fault_server):
    """A server that answers `/slow...` when its event is set, sends half of `/half...`, and has all other files."""

    class Gate:
        def __init__(self):
            self.open = threading.Event()
            self.asked = []  # the paths, in the order in which they were asked for
            self.server = fault_server([steps.repeat(steps.expect(), self.answer)])
            self.url = self.server.url

        def answer(self, connection):
            request = connection.request
            self.asked.append((request.path, request.headers.get("Range")))
            if request.path.startswith("/half") and "Range" not in request.headers:
                steps.head(length=len(CONTENT), headers={"ETag": '"v1"', "Accept-Ranges": "bytes"}).run(connection)
                steps.send(CONTENT[:HALF]).run(connection)
                steps.stall().run(connection)
            if request.path.startswith("/slow"):
                steps.stall(until=self.open).run(connection)
            if request.path == "/none":
                steps.answer(b"", status=404).run(connection)
            else:
                SERVE.run(connection)

        def wait_for(self, n):
            self.server.wait_for("stall", n)

    return Gate()


@pytest.fixture
def half_has_come(monkeypatch):
    """Is set when half of a file has been written."""
    event, real = threading.Event(), Meter.moved

    def moved(self, count, now):
        real(self, count, now)
        if self.done >= HALF:
            event.set()

    monkeypatch.setattr(Meter, "moved", moved)
    return event


def paths(gate):
    """Which files were asked for, in order."""
    return [path for path, _ in gate.asked]


class TestTurns:
    """Whose turn it is."""

    def test_all_come(self, gate, tmp_path):
        """Many small files come over the connections that there are, and the totals add up."""
        with DownloadManager(jobs=3) as manager:
            submitted = [manager.submit(f"{gate.url}/{number}", tmp_path) for number in range(50)]
        assert {download.result().size for download in submitted} == {len(CONTENT)}
        assert len(list(tmp_path.iterdir())) == 50
        totals = manager.progress
        assert (totals.completed, totals.done, totals.total) == (50, 50 * len(CONTENT), 50 * len(CONTENT))
        assert gate.server.connections <= 3

    def test_priorities(self, gate, tmp_path):
        """Of those that wait, the one with the highest priority comes first, and else the first one."""
        with DownloadManager(jobs=1) as manager:
            manager.submit(f"{gate.url}/slow", tmp_path)
            gate.wait_for(1)
            for name, priority in (("c", 0), ("b", 1), ("d", 0), ("a", 2)):
                manager.submit(f"{gate.url}/{name}", tmp_path, priority=priority)
            gate.open.set()
        assert paths(gate) == ["/slow", "/a", "/b", "/c", "/d"]

    def test_connections_of_a_host(self, gate, tmp_path):
        """No more downloads of a host begin than it may have connections, whatever the jobs; segments count."""
        with DownloadManager(jobs=8, connections_per_host=2) as manager:
            running = [manager.submit(f"{gate.url}/slow{number}", tmp_path, segments=4) for number in range(6)]
            gate.wait_for(2)
            wait_until_blocked(manager._stop, 2)
            # One of another host overtakes those that may not begin, although its turn comes after theirs.
            other = manager.submit(f"http://localhost:{gate.server.port}/other", tmp_path, priority=-1)
            other.result(10)
            assert sorted(paths(gate)) == ["/other", "/slow0", "/slow1"]
            assert manager.progress.queued == 4
            gate.open.set()
        assert all(download.state is State.DONE for download in running)
        assert gate.server.connections <= 6

    def test_threads_come_as_they_are_needed(self, gate, tmp_path):
        """While those that there are wait, others begin, up to `jobs`."""
        with DownloadManager(jobs=4) as manager:
            for number in range(6):
                manager.submit(f"{gate.url}/slow{number}", tmp_path)
            gate.wait_for(4)
            assert manager.progress.running == 4
            gate.open.set()

    def test_no_more_threads(self, gate, tmp_path, monkeypatch):
        """Where no further thread can be made, those that there are do the work."""
        real = _manager.threading.Thread

        def refuse(*args, **kwargs):
            if kwargs.get("name") == "iointerrupt-download" and threading.current_thread().name == "iointerrupt-ramp":
                raise RuntimeError("can't start new thread")
            return real(*args, **kwargs)

        monkeypatch.setattr(_manager.threading, "Thread", refuse)
        with DownloadManager(jobs=4) as manager:
            submitted = [manager.submit(f"{gate.url}/{number}", tmp_path) for number in range(5)]
        assert all(download.state is State.DONE for download in submitted)


class TestPauses:
    """A pause gives everything up but what has come."""

    def test_running(self, gate, half_has_come, tmp_path):
        """A running download gives up its place, and goes on at the byte."""
        with DownloadManager(jobs=1) as manager:
            download = manager.submit(f"{gate.url}/half", tmp_path)
            assert half_has_come.wait(10)
            download.pause()
            assert manager.submit(f"{gate.url}/other", tmp_path).result(10).size == len(CONTENT)
            assert download.state is State.PAUSED
            assert download.progress.done == HALF
            download.resume()
            assert download.result(10).resumed_from == HALF
        assert gate.asked[-1] == ("/half", f"bytes={HALF}-")
        assert (tmp_path / "half").read_bytes() == CONTENT

    def test_queued(self, gate, tmp_path):
        """A queued one waits no longer, and does so again."""
        with DownloadManager(jobs=1) as manager:
            manager.submit(f"{gate.url}/slow", tmp_path)
            first, second = (manager.submit(f"{gate.url}/{name}", tmp_path) for name in "ab")
            first.pause()
            assert first.state is State.PAUSED
            gate.open.set()
            second.result(10)
            assert not first.done()
            first.resume()
            first.result(10)

    def test_resumed_before_it_lands(self, gate, half_has_come, tmp_path):
        """A pause that is taken back before it has come about leaves the download running, or queued again."""
        with DownloadManager(jobs=1) as manager:
            download = manager.submit(f"{gate.url}/half", tmp_path)
            assert half_has_come.wait(10)
            download.pause()
            download.resume()
            assert download.result(10).size == len(CONTENT)

    def test_left_paused(self, gate, half_has_come, tmp_path):
        """Who leaves the block does not wait for it; it can be taken up by another manager."""
        with DownloadManager(jobs=1) as manager:
            download = manager.submit(f"{gate.url}/half", tmp_path)
            assert half_has_come.wait(10)
            download.pause()
        assert isinstance(download.exception(), Interrupted)
        with DownloadManager() as manager:
            assert manager.submit(f"{gate.url}/half", tmp_path).result(10).resumed_from == HALF


class TestStops:
    """A stop ends what it is for, at once, and nothing else."""

    def test_of_the_manager(self, gate, tmp_path):
        """All end, in whichever place they are, with its reason; and nothing more begins."""
        stop = StopEvent()
        with DownloadManager(jobs=1, stop=stop) as manager:
            running, queued, paused = (manager.submit(f"{gate.url}/slow{number}", tmp_path) for number in range(3))
            paused.pause()
            gate.wait_for(1)
            stop.set("enough")
            for download in (running, queued, paused):
                with pytest.raises(Interrupted, match="enough"):
                    download.result(10)
                assert download.state is State.STOPPED
            with pytest.raises(Interrupted, match="enough"):
                manager.submit(f"{gate.url}/more", tmp_path)
        assert paths(gate) == ["/slow0"]
        assert list(tmp_path.iterdir()) == []

    def test_of_one(self, gate, tmp_path):
        """One is stopped by its own stop or by `stop`, queued or running, and the others go on."""
        own = threading.Event()
        with DownloadManager(jobs=2) as manager:
            first = manager.submit(f"{gate.url}/slow1", tmp_path, stop=own)
            second = manager.submit(f"{gate.url}/slow2", tmp_path)
            gate.wait_for(2)
            third, fourth = (
                manager.submit(f"{gate.url}/a", tmp_path, stop=own),
                manager.submit(f"{gate.url}/b", tmp_path),
            )
            own.set()
            for download in (first, third):
                with pytest.raises(Interrupted):
                    download.result(10)
            second.stop("not this one")
            with pytest.raises(Interrupted, match="not this one"):
                second.result(10)
            assert fourth.result(10).size == len(CONTENT)

    def test_after_a_pause(self, gate, tmp_path):
        """A stop wins over a pause that has not come about yet."""
        with DownloadManager(jobs=1) as manager:
            download = manager.submit(f"{gate.url}/slow", tmp_path)
            gate.wait_for(1)
            download.pause()
            download.stop("for good")
            with pytest.raises(Interrupted, match="for good"):
                download.result(10)

    def test_within_the_lock(self, gate, tmp_path):
        """A signal handler may set the stop in a thread that has the manager's lock: it is caught up with."""
        stop = StopEvent()
        with DownloadManager(jobs=1, stop=stop) as manager:
            queued = [manager.submit(f"{gate.url}/slow{number}", tmp_path) for number in range(3)]
            with manager._lock:
                stop.set()
            assert all(isinstance(download.exception(10), Interrupted) for download in queued)

    def test_a_callable_that_looks_at_the_manager(self, gate, tmp_path):
        """A stop that is a callable is never asked under the lock."""
        asked = []

        def stop():
            asked.append(manager.progress)
            return False

        manager = DownloadManager(jobs=2)
        with manager:
            manager.submit(f"{gate.url}/a", tmp_path, stop=stop).result(10)
        assert asked

    def test_by_an_exception(self, gate, tmp_path):
        """An exception out of the block stops everything."""
        with pytest.raises(ZeroDivisionError), DownloadManager(jobs=1) as manager:
            download = manager.submit(f"{gate.url}/slow", tmp_path)
            gate.wait_for(1)
            1 / 0  # noqa: B018 - what is raised
        assert isinstance(download.exception(), Interrupted)

    def test_cancel(self, gate, tmp_path):
        """`cancel` is `stop`, and has no effect on what is done."""
        with DownloadManager() as manager:
            download = manager.submit(f"{gate.url}/slow", tmp_path)
            assert download.cancel()
            with pytest.raises(Interrupted, match="cancelled"):
                download.result(10)
            done = manager.submit(f"{gate.url}/a", tmp_path)
            done.result(10)
            assert not done.cancel()


class TestFutures:
    """A download is a future."""

    def test_as_completed(self, gate, tmp_path):
        """The standard functions take it, in asyncio too; errors of one are its own."""
        with DownloadManager() as manager:
            good, bad = manager.submit(f"{gate.url}/a", tmp_path), manager.submit(f"{gate.url}/none", tmp_path)
            assert set(concurrent.futures.as_completed([good, bad], timeout=10)) == {good, bad}
            assert isinstance(bad.exception(), BadStatus)

            async def main():
                return await asyncio.wrap_future(manager.submit(f"{gate.url}/b", tmp_path))

            assert asyncio.run(main()).size == len(CONTENT)
        assert (manager.progress.completed, manager.progress.failed) == (2, 1)

    def test_waiting(self, gate, tmp_path):
        """The wait for a result or for all can have a limit, and the downloads go on."""
        with DownloadManager() as manager:
            download = manager.submit(f"{gate.url}/slow", tmp_path)
            with pytest.raises(TimeoutError):
                download.result(0.01)
            with pytest.raises(TimeoutError):
                manager.wait(0.01)
            with pytest.raises(Interrupted):
                manager.wait(stop=StopEvent(timeout=0.01))
            gate.open.set()
            manager.wait(10)
            assert download.done()

    def test_a_listener_that_fails(self, gate, tmp_path):
        """What `progress` raises ends that download alone."""

        def progress(_):
            raise ZeroDivisionError

        with DownloadManager() as manager:
            bad = manager.submit(f"{gate.url}/a", tmp_path, progress=progress)
            assert isinstance(bad.exception(10), ZeroDivisionError)
            assert manager.submit(f"{gate.url}/b", tmp_path).result(10).size == len(CONTENT)

    def test_nothing_is_kept(self, gate, tmp_path):
        """A download that has ended is nobody's but the program's."""
        with DownloadManager() as manager:
            download = manager.submit(f"{gate.url}/a", tmp_path)
            download.result(10)
            manager.wait(10)
            gone = weakref.ref(download)
            del download
            gc.collect()
            assert gone() is None
            assert manager.downloads == ()


class TestSessions:
    """Whose session it is."""

    def test_given(self, gate, tmp_path):
        """A session that is given is left open; a plain one is taken over, with what it is set to."""
        for session in (http.Session(), requests.Session()):
            with session:
                session.headers["X-Mine"] = "1"
                with DownloadManager(session=session) as manager:
                    manager.submit(f"{gate.url}/a", tmp_path, overwrite=True).result(10)
                assert gate.server.requests[-1].headers["X-Mine"] == "1"
                assert session.get(f"{gate.url}/b").content == CONTENT

    def test_wrong_arguments(self, gate, tmp_path):
        """They are refused at once, by name."""
        with pytest.raises(ValueError, match="jobs must be 1 or more"):
            DownloadManager(jobs=0)
        with DownloadManager() as manager:
            with pytest.raises(TypeError, match="there is no option segmnets; there are"):
                manager.submit(f"{gate.url}/a", tmp_path, segmnets=2)
            with pytest.raises(ValueError, match="not a URL that can be downloaded: 'ftp://\\*\\*\\*@host/file'"):
                manager.submit("ftp://me:secret@host/file", tmp_path)
            with pytest.raises(TypeError, match="dest must be a path"):
                manager.submit(f"{gate.url}/a", 5)
        with pytest.raises(RuntimeError, match="closed"):
            manager.submit(f"{gate.url}/a", tmp_path)
        assert gate.asked == []

    def test_in_a_forked_child(self, gate, tmp_path):
        """A child process is told that the manager is not its own."""
        with DownloadManager() as manager:
            child = os.fork()
            if child == 0:
                try:
                    manager.submit(f"{gate.url}/a", tmp_path)
                except RuntimeError as error:
                    os._exit(0 if "parent" in str(error) else 1)
                os._exit(2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


class TestMany:
    """Many downloads, from many threads, and what is left of them."""

    def test_submitted_by_many_threads(self, fault_server, background, tmp_path):
        """A thousand that eight threads submit all come, over no more connections than there may be."""
        server = fault_server([steps.repeat(steps.expect(), steps.answer(b"small"))])
        with DownloadManager(jobs=4) as manager:

            def submit(thread):
                for number in range(125):
                    manager.submit(f"{server.url}/{thread}-{number}", tmp_path)

            for running in [background(submit, thread) for thread in range(8)]:
                running.result()
        assert len(list(tmp_path.iterdir())) == 1000
        assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"small"}
        assert (manager.progress.completed, manager.progress.done) == (1000, 5000)
        assert server.connections <= 4

    def test_submitted_by_a_listener(self, gate, tmp_path):
        """What a listener or a callback submits comes as well."""
        with DownloadManager(jobs=1) as manager:
            further = []

            def submit(name):
                further.append(manager.submit(f"{gate.url}/{name}", tmp_path))

            first = manager.submit(
                f"{gate.url}/a", tmp_path, progress=lambda now: now.state is State.DONE and submit("b")
            )
            first.add_done_callback(lambda _: submit("c"))
        assert paths(gate) == ["/a", "/b", "/c"]
        assert all(download.state is State.DONE for download in further)

    def test_no_threads_are_left(self, gate, tmp_path):
        """Where there is nothing to do there are no threads, although the manager is open."""
        with DownloadManager(jobs=3) as manager:
            for _ in range(2):
                running = [manager.submit(f"{gate.url}/{number}", tmp_path, overwrite=True) for number in range(9)]
                concurrent.futures.wait(running, timeout=10)
                manager.wait(10)
                for thread in threading.enumerate():
                    if thread.name.startswith(("iointerrupt-download", "iointerrupt-ramp")):
                        thread.join(10)
                        assert not thread.is_alive()

    def test_the_limit(self, gate, tmp_path):
        """All share one limit, which holds at once when it is set to another."""
        with DownloadManager(jobs=2, max_rate=1000) as manager:
            running = [manager.submit(f"{gate.url}/{name}", tmp_path) for name in "ab"]
            wait_until_blocked(manager._stop, 2)
            assert not any(download.done() for download in running)
            manager.max_rate = None
            assert manager.max_rate is None
            assert all(download.result(10).size == len(CONTENT) for download in running)

    def test_the_interpreter_ends(self, gate, tmp_path):
        """A program that ends while it downloads does end, and says nothing."""
        said = run_program(
            f"""
            from iointerrupt.downloads import DownloadManager
            import threading
            came = threading.Event()
            manager = DownloadManager()
            manager.submit("{gate.url}/half", {str(tmp_path)!r}, progress=lambda now: now.done and came.set())
            manager.submit("{gate.url}/slow", {str(tmp_path)!r})
            assert came.wait(20)
            """
        )
        assert said == ""
        with DownloadManager() as manager:
            assert manager.submit(f"{gate.url}/a", tmp_path / "half").result(10).size == len(CONTENT)
        assert (tmp_path / "half").read_bytes() == CONTENT

    def test_closed_twice(self, gate, tmp_path):
        """Closing stops what is left, and once more does nothing."""
        manager = DownloadManager()
        download = manager.submit(f"{gate.url}/slow", tmp_path)
        manager.close()
        manager.close()
        with pytest.raises(Interrupted, match="closed"):
            download.result(10)

    def test_a_plain_session_stops(self, gate, tmp_path):
        """What is fetched with a plain session stops too, and shares its cookies and credentials."""
        with requests.Session() as session:
            session.auth = ("me", "pass")
            session.cookies.set("a", "b")
            with DownloadManager(session=session) as manager:
                download = manager.submit(f"{gate.url}/slow", tmp_path)
                gate.wait_for(1)
                wait_until_blocked(manager._stop)
                manager.stop("enough")
                assert isinstance(download.exception(10), Interrupted)
        headers = gate.server.requests[-1].headers
        assert (headers["Authorization"], headers["Cookie"]) == ("Basic bWU6cGFzcw==", "a=b")
