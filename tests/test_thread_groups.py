"""Groups of threads: what comes out of the block, who is stopped, and who does not stop."""

from __future__ import annotations

import contextvars
import math
import os
import queue
import signal
import threading
import time
from contextlib import ExitStack

import pytest

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, calls, current_stop, sockets, use_stop
from iointerrupt.testing import signal_when_blocked, wait_until_blocked
from iointerrupt.threads import Thread, ThreadGroup
from tests.blocking import block, fail, fail_when_stopped, no_threads, run_program


class Stuck:
    """Threads that do not stop, until they are released."""

    def __init__(self):
        self._lock = threading.Lock()
        self._lock.acquire()
        self.entered = threading.Event()

    def hold(self, error=None):
        """Block where no stop reaches; then raise the error, if there is one."""
        self.entered.set()
        with self._lock:  # the line where it is stuck
            pass
        if error is not None:
            raise error

    def release(self):
        """Let all of them go on."""
        self._lock.release()


@pytest.fixture
def stuck():
    """Threads that are released when the test ends, and have ended then."""
    before = set(threading.enumerate())
    made = Stuck()
    yield made
    if made._lock.locked():
        made.release()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)


class TestGroup:
    """ThreadGroup: what is started in the block has ended when the block has."""

    def test_joins(self):
        """Leaving waits for all members, and for those that members have started meanwhile."""
        done = []

        def grow(group, left):
            if left:
                group.start(grow, group, left=left - 1)
            done.append(left)

        with ThreadGroup() as group:
            members = [group.start(grow, group, 3), group.start(done.append, "x")]
        assert sorted(map(str, done)) == ["0", "1", "2", "3", "x"]
        assert all(isinstance(member, Thread) and not member.is_alive() for member in members)

    def test_empty(self):
        """A group without members is nothing."""
        with ThreadGroup():
            pass

    def test_members_are_daemons_with_names(self):
        """Members are daemon threads, named as any thread is."""
        with ThreadGroup() as group:
            member = group.start(block)
            assert member.daemon
            assert member.name.endswith("(block)")
            assert repr(group).endswith("open, 1 running>")
            group.stop()
        assert repr(group).endswith("ended, 0 running>")

    def test_interrupt_of_a_member(self):
        """Interrupting a member ends that one, quietly, and no member that it has started."""
        other = []

        def parent(group):
            other.append(group.start(block))
            block()

        with ThreadGroup() as group:
            member = group.start(parent, group)
            wait_until_blocked(group.event, 2)
            member.interrupt()
            member.join()
            assert other[0].is_alive()
            assert not group.event.is_set()
            other[0].interrupt()

    def test_failure(self):
        """The first failure stops the others, and comes out, alone, as an ExceptionGroup that says how many failed."""
        error = ValueError("x")
        with pytest.raises(ExceptionGroup, match=r"^1 of 3 threads failed") as caught, ThreadGroup() as group:
            others = [group.start(block), group.start(block)]
            wait_until_blocked(group.event, 2)
            group.start(fail, error)
        assert caught.value.exceptions == (error,)
        assert group.event.reason is error
        assert [other.stop.reason for other in others] == [error, error]

    def test_failures_while_stopping(self):
        """Errors that members raise while they are being stopped are in it as well, in the order in which they came."""
        errors = [ValueError("first"), KeyError("second")]
        with pytest.raises(ExceptionGroup, match=r"^2 of 2 threads failed") as caught, ThreadGroup() as group:
            group.start(fail_when_stopped, errors[1])
            wait_until_blocked(group.event)
            group.start(fail, errors[0])
        assert list(caught.value.exceptions) == errors

    def test_body_is_stopped(self):
        """A failure stops the body too, wherever it is blocked; only the error comes out."""
        error = ValueError("x")
        near, far = sockets.socketpair()
        with near, far, pytest.raises(ExceptionGroup) as caught, ThreadGroup() as group:
            group.start(fail, error)
            near.recv(1)
        assert caught.value.exceptions == (error,)

    def test_body_fails(self):
        """An error of the body stops the members, and comes first in the ExceptionGroup."""
        body, member = ValueError("body"), ValueError("member")
        with (
            pytest.raises(ExceptionGroup, match=r"^the body and 1 of 2 threads failed") as caught,
            ThreadGroup() as group,
        ):
            group.start(fail_when_stopped, member)
            group.start(block)
            wait_until_blocked(group.event, 2)
            raise body
        assert caught.value.exceptions == (body, member)
        with pytest.raises(ExceptionGroup, match=r"^the body failed") as caught, ThreadGroup() as group:
            group.start(block)
            raise body
        assert caught.value.exceptions == (body,)

    def test_member_raises_a_base_exception(self):
        """What is no Exception makes it a BaseExceptionGroup, and nothing is lost."""
        errors = [KeyboardInterrupt(), ValueError()]
        with pytest.raises(BaseExceptionGroup) as caught, ThreadGroup() as group:
            group.start(fail_when_stopped, errors[1])
            wait_until_blocked(group.event)
            group.start(fail, errors[0])
        assert type(caught.value) is BaseExceptionGroup
        assert list(caught.value.exceptions) == errors

    def test_member_exits(self, reported):
        """SystemExit ends a member, and nothing else, as it does in any thread."""
        with ThreadGroup() as group:
            group.start(fail, SystemExit(3))
        assert not group.event.is_set()

    @pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit()], ids=repr)
    def test_body_exits(self, error):
        """KeyboardInterrupt and its like stop the members and come out bare, with the members' errors as the cause."""
        member = ValueError("member")
        with pytest.raises(type(error)) as caught, ThreadGroup() as group:
            group.start(fail_when_stopped, member)
            wait_until_blocked(group.event)
            raise error
        assert caught.value is error
        assert error.__cause__.exceptions == (member,)

    def test_body_exits_with_a_cause(self):
        """The cause that it had already is then the cause of the members' errors."""
        cause = ValueError("cause")
        with pytest.raises(SystemExit) as caught, ThreadGroup() as group:
            group.start(fail_when_stopped, ValueError("member"))
            wait_until_blocked(group.event)
            raise SystemExit from cause
        assert caught.value.__cause__.__cause__ is cause
        with pytest.raises(SystemExit) as caught, ThreadGroup() as group:
            raise SystemExit from cause
        assert caught.value.__cause__ is cause

    def test_many_failures(self):
        """Of many that fail at the same time, none is lost."""
        for _ in range(20):
            ready = threading.Barrier(20)

            def work(number, ready=ready):
                ready.wait()
                raise ValueError(number)

            with pytest.raises(ExceptionGroup, match=r"^20 of 20") as caught, ThreadGroup() as group:
                for number in range(20):
                    group.start(work, number)
            assert sorted(error.args[0] for error in caught.value.exceptions) == list(range(20))

    def test_start_is_refused(self):
        """What cannot be called, a block that was not entered or has been left, and a stopped group, are clear errors."""
        group = ThreadGroup()
        with pytest.raises(RuntimeError, match="has not begun: enter its block first"):
            group.start(block)
        with group:
            with pytest.raises(TypeError, match="fn must be callable, not int"):
                group.start(3)
            group.event.set("over")
            with use_stop(None), pytest.raises(Interrupted, match="over"):
                group.start(block)
        with pytest.raises(RuntimeError, match="has ended"):
            group.start(block)
        with pytest.raises(RuntimeError, match="only once"), group:
            pass
        with pytest.raises(TypeError, match="cannot be a stop"):
            ThreadGroup(3)

    def test_arguments_of_any_name(self):
        """Keyword arguments go to the function, whatever they are called."""
        got = []
        with ThreadGroup() as group:
            group.start(lambda **kwargs: got.append(kwargs), fn=1, self=2, name=3, stop=4)
        assert got == [{"fn": 1, "self": 2, "name": 3, "stop": 4}]

    def test_start_fails(self, monkeypatch):
        """Where no thread can be made, start raises, and the group does not wait for it."""
        with ThreadGroup() as group:
            with monkeypatch.context() as patch:
                no_threads(patch)
                with pytest.raises(RuntimeError, match="can't start new thread"):
                    group.start(block)

    @pytest.mark.parametrize("is_running", [False, True])
    def test_ctrl_c_in_start(self, monkeypatch, is_running):
        """A Ctrl-C within `start` leaves a member that runs a member, and none that does not."""
        ran = []
        start = threading.Thread.start

        def interrupted(thread):
            if is_running:
                start(thread)
                wait_until_blocked(thread.stop)
            raise KeyboardInterrupt

        def work():
            try:
                block()
            finally:
                ran.append(True)

        with pytest.raises(KeyboardInterrupt), ThreadGroup() as group:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", interrupted)
                group.start(work)
        assert ran == [True] * is_running

    def test_ctrl_c_before_it_has_begun(self, monkeypatch):
        """A thread that begins only after its `start` was given up does nothing."""
        began, ran = threading.Event(), []
        start = threading.Thread.start
        run = Thread._run_with_stop

        def interrupted(thread):
            monkeypatch.setattr(threading.Thread, "start", start)
            late = threading.Thread(target=lambda: (began.wait(), thread._run_with_stop(thread.run)))
            late.start()
            ran.append(late)
            raise KeyboardInterrupt

        monkeypatch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt), ThreadGroup() as group:
            group.start(ran.append, "ran")
        began.set()
        ran[0].join()
        assert len(ran) == 1
        assert run is Thread._run_with_stop

    def test_nested(self):
        """A group inside a member inherits its stop; a failure in it fails the member, and is found inside."""
        error = ValueError("deep")

        def inner():
            with ThreadGroup() as group:
                group.start(block)
                wait_until_blocked(group.event)
                group.start(fail, error)

        with pytest.raises(ExceptionGroup, match="1 of 2 threads failed") as caught, ThreadGroup() as outer:
            outer.start(block)
            outer.start(inner)
        (failed,) = caught.value.exceptions
        assert isinstance(failed, ExceptionGroup)
        assert failed.exceptions == (error,)

    def test_nested_is_stopped(self):
        """Stopping the outer group ends everything below it."""
        seen = []

        def inner():
            try:
                with ThreadGroup() as group:
                    group.start(block)
                    group.start(block)
            except Interrupted as error:
                seen.append(error.reason)
                raise

        with ThreadGroup() as outer:
            outer.start(inner)
            wait_until_blocked(outer.event, 2)
            assert outer.stop(reason="all of it") == []
        assert seen == ["all of it"]

    def test_inside_a_thread(self):
        """A group inside a Thread ends when that is interrupted."""

        def work():
            with ThreadGroup() as group:
                group.start(block)
                group.start(block)

        thread = Thread(target=work)
        thread.start()
        wait_until_blocked(thread.stop, 2)
        thread.interrupt()
        thread.join()

    def test_current_stop(self):
        """The body and the members have the group's stop as their current one; after the block it is what it was."""
        outer, found = StopEvent(), []
        with use_stop(outer):
            with ThreadGroup() as group:
                assert current_stop() is group.event
                member = group.start(lambda: found.append(current_stop()))
            assert current_stop() is outer
        assert found == [member.stop]

    def test_left_in_another_context(self):
        """A block that is left in another context than it was entered in still joins its members."""
        group = ThreadGroup()
        contextvars.copy_context().run(group.__enter__)
        member = group.start(time.time)
        group.__exit__(None, None, None)
        assert not member.is_alive()

    def test_in_generators(self):
        """Blocks that are left in the order in which they were entered leave no current stop behind."""

        def numbers():
            with ThreadGroup() as group:
                group.start(int)
                yield from range(3)

        first, second = numbers(), numbers()
        next(first)
        next(second)
        first.close()
        assert current_stop() is not None
        second.close()
        assert current_stop() is None

    def test_keeps_no_threads(self):
        """A group that lives long does not keep the threads that it has run."""
        with ThreadGroup() as group:
            for _ in range(50):
                group.start(time.time).join()
            assert len(group._gone) < 5

    def test_waits_for_hooks(self, monkeypatch):
        """A member is waited for until the hook that reports how it has ended has returned."""
        entered, over = threading.Event(), threading.Event()
        monkeypatch.setattr(threading, "excepthook", lambda _: (entered.set(), over.wait()))
        with ThreadGroup() as group:
            member = group.start(fail, SystemExit())
            entered.wait()
            group.start(over.set)
        assert not member.is_alive()

    def test_after_fork(self):
        """A forked child that leaves the block does not wait for members that only the parent has."""
        program = """
            import os, warnings
            from iointerrupt import current_stop
            from iointerrupt.threads import ThreadGroup
            warnings.simplefilter("ignore")
            with ThreadGroup() as group:
                group.start(lambda: current_stop().sleep(600))
                child = os.fork()
                if child:
                    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                    group.stop()
            if not child:
                os._exit(7)
        """
        assert run_program(program) == "7\n"


class TestStoppedFromOutside:
    """A group that a stop from outside keeps from completing says so."""

    @pytest.mark.parametrize("kind", ["given", "current", "threading.Event", "callable"])
    def test_member(self, kind, monkeypatch):
        """A member that such a stop has ended makes the block raise Interrupted, with the reason."""
        monkeypatch.setattr(StopEvent, "poll_interval", 0.002)
        stop = StopEvent()
        flag = threading.Event()
        given = {"given": stop, "current": None, "threading.Event": flag, "callable": flag.is_set}[kind]
        with use_stop(stop if kind == "current" else None):
            with pytest.raises(Interrupted) as caught, ThreadGroup(given) as group:
                group.start(block)
                wait_until_blocked(group.event)
                stop.set("outside")
                flag.set()
        assert caught.value.reason == ("outside" if kind in {"given", "current"} else None)

    def test_body(self):
        """What the body was blocked in raises, and that is what comes out."""
        stop = StopEvent()
        near, far = sockets.socketpair()
        far.send(b"ab")
        with near, far, pytest.raises(Interrupted) as caught, ThreadGroup(stop) as group:
            group.start(lambda: (wait_until_blocked(stop), stop.set("outside")))
            sockets.recv_exactly(near, 3)
        assert (caught.value.reason, caught.value.partial) == ("outside", b"ab")

    def test_deadline(self):
        """A deadline comes out as DeadlineExceeded."""
        with pytest.raises(DeadlineExceeded), ThreadGroup(StopEvent(timeout=0.01)) as group:
            group.start(block)

    def test_all_complete(self):
        """Where all had completed before they noticed, the block ends as if nothing had been."""
        stop = StopEvent()
        with ThreadGroup(stop) as group:
            group.start(stop.set)
        assert group.event.is_set()

    def test_member_interrupted_before(self):
        """A member that was interrupted by itself before does not count."""
        stop = StopEvent()
        with ThreadGroup(stop) as group:
            member = group.start(block)
            member.interrupt()
            member.join()
            stop.set()

    def test_cleared_meanwhile(self):
        """A stop that is cleared again at once has still stopped the group."""
        stop = StopEvent()
        with pytest.raises(Interrupted, match="quick"), ThreadGroup(stop) as group:
            group.start(block)
            wait_until_blocked(stop)
            stop.set("quick")
            stop.clear()

    def test_stopped_by_itself_first(self):
        """Where the group had been stopped by itself before, the block ends quietly."""
        stop = StopEvent()
        with ThreadGroup(stop) as group:
            group.start(block)
            wait_until_blocked(stop)
            group.stop()
            stop.set()

    def test_errors_come_first(self):
        """Errors that members raise when they are stopped come out instead."""
        stop, error = StopEvent(), ValueError("x")
        with pytest.raises(ExceptionGroup) as caught, ThreadGroup(stop) as group:
            group.start(fail_when_stopped, error)
            group.start(block)
            wait_until_blocked(stop, 2)
            stop.set()
        assert caught.value.exceptions == (error,)

    def test_straggler(self, stuck):
        """A member that was given up has not completed either."""
        stop = StopEvent()
        with pytest.raises(Interrupted, match="outside"), ThreadGroup(stop) as group:
            group.start(stuck.hold)
            stuck.entered.wait()
            stop.set("outside")
            with use_stop(None):
                assert len(group.stop(0)) == 1

    def test_body_stops_for_itself(self):
        """An Interrupted of another origin stops the members and comes out bare; with errors it is the first of them."""
        with pytest.raises(DeadlineExceeded), ThreadGroup() as group:
            group.start(block)
            StopEvent(timeout=0).sleep(1)
        error = ValueError("x")
        with (
            pytest.raises(ExceptionGroup, match="the body and 1 of 1 threads failed") as caught,
            ThreadGroup() as group,
        ):
            group.start(fail_when_stopped, error)
            wait_until_blocked(group.event)
            StopEvent(timeout=0).sleep(1)
        assert [type(one) for one in caught.value.exceptions] == [DeadlineExceeded, ValueError]

    def test_member_stops_for_itself(self):
        """A member that another stop has ended leaves the others alone; leaving says that not all has been done."""
        stop, go_on, done = StopEvent(), threading.Event(), []
        with pytest.raises(Interrupted, match="no more") as caught, ThreadGroup() as group:
            member = group.start(stop.sleep, 600)
            other = group.start(lambda: (calls.wait(go_on), done.append("done")))
            wait_until_blocked(stop)
            stop.set("no more")
            member.join()
            assert other.is_alive()
            go_on.set()
        assert done == ["done"]
        assert caught.value.reason == "no more"

    def test_member_exceeds_a_deadline_of_its_own(self):
        """A limit on a part of the work that nobody has caught is a failure."""
        with pytest.raises(ExceptionGroup, match="1 of 2 threads failed") as caught, ThreadGroup() as group:
            group.start(block)
            group.start(StopEvent(timeout=0).sleep, 1)
        assert [type(one) for one in caught.value.exceptions] == [DeadlineExceeded]


class TestGroupJoin:
    """ThreadGroup.join: waiting for members without stopping them."""

    def test_waits(self, background):
        """It returns once all have ended; a group without members has."""
        go_on = threading.Event()
        with ThreadGroup() as group:
            group.join()
            for _ in range(3):
                group.start(calls.wait, go_on)
            with pytest.raises(TimeoutError):
                group.join(timeout=0.01)
            go_on.set()
            group.join()
            assert not group._living

    def test_is_stopped(self, background):
        """The caller's current stop ends the wait, and nothing else."""
        go_on, stop = threading.Event(), StopEvent()
        with ThreadGroup() as group:
            member = group.start(calls.wait, go_on)

            def join():
                with use_stop(stop):
                    group.join()

            joiner = background(join)
            wait_until_blocked(stop)
            stop.set("enough")
            assert joiner.error().reason == "enough"
            assert member.is_alive()
            go_on.set()

    def test_from_a_member(self):
        """It would wait for itself, and is refused."""
        with pytest.raises(ExceptionGroup) as caught, ThreadGroup() as group:
            group.start(group.join)
        assert "a member cannot wait for the end of its own group" in str(caught.value.exceptions[0])


class TestGroupStop:
    """ThreadGroup.stop: all end, or are named."""

    def test_quiet(self):
        """It ends the members, which have ended when it returns; a second call does nothing, and leaving is quiet."""
        with ThreadGroup() as group:
            members = [group.start(block) for _ in range(3)]
            assert group.stop(reason="enough") == []
            assert not any(member.is_alive() for member in members)
            assert group.stop(reason="more") == []
        assert group.stop() == []
        assert {member.stop.reason for member in members} == {"enough"}

    def test_ends_the_body(self):
        """A member may stop the group in which the body is blocked: the rest of the body is skipped."""
        near, far = sockets.socketpair()

        def work(group):
            wait_until_blocked(group.event)
            group.stop()

        with near, far, ThreadGroup() as group:
            group.start(work, group)
            near.recv(1)
            pytest.fail("it was not stopped")

    def test_body_shields_itself(self):
        """What the body does after a stop it does in `use_stop(None)`."""
        near, far = sockets.socketpair()
        with near, far, ThreadGroup() as group:
            member = group.start(block)
            group.stop()
            far.send(b"x")
            with pytest.raises(Interrupted):
                member.join()
            with use_stop(None):
                member.join()
                assert near.recv(1) == b"x"

    def test_from_a_member(self):
        """A member that calls it does not wait for itself."""
        with ThreadGroup() as group:
            stopped = []
            group.start(block)
            group.start(lambda: stopped.append(group.stop()))
        assert stopped == [[]]

    def test_from_two_members(self):
        """Two members that call it do not wait for each other."""
        ready = threading.Barrier(2)

        def work(group):
            ready.wait()
            assert group.stop() == []

        with ThreadGroup() as group:
            group.start(block)
            group.start(work, group)
            group.start(work, group)

    def test_from_inner_groups(self):
        """Nor does what runs in the groups of two members wait for these, which wait for it."""
        ready = threading.Barrier(2)

        def inner(outer):
            with ThreadGroup() as group:
                group.start(lambda: (ready.wait(), outer.stop()))

        with ThreadGroup() as outer:
            outer.start(block)
            outer.start(inner, outer)
            outer.start(inner, outer)

    def test_from_a_callback(self):
        """A callback of the group's event may call it again."""
        with ThreadGroup() as group:
            group.start(block)
            group.event.on_set(group.stop)
            group.start(group.stop)

    @pytest.mark.parametrize("where", ["body", "leaving", "starting"])
    def test_from_a_signal_handler(self, where, monkeypatch):
        """A signal handler may call it, wherever in the group it has interrupted the main thread."""
        stopped = []
        previous = signal.signal(signal.SIGUSR1, lambda *_: stopped.append(group.stop()))
        start = threading.Thread.start

        def start_and_signal(thread):
            signal.raise_signal(signal.SIGUSR1)
            start(thread)

        try:
            with ExitStack() as sending, ThreadGroup() as group:
                group.start(block)
                wait_until_blocked(group.event)
                if where == "starting":
                    monkeypatch.setattr(threading.Thread, "start", start_and_signal)
                    group.start(block)
                elif where == "body":
                    signal.raise_signal(signal.SIGUSR1)
                else:
                    sending.enter_context(signal_when_blocked(signal.SIGUSR1))
        finally:
            signal.signal(signal.SIGUSR1, previous)
        assert stopped == [[]]

    def test_bad_timeout(self):
        """A timeout that is negative or no number is refused before anything is stopped."""
        with ThreadGroup() as group:
            with pytest.raises(ValueError, match="timeout must be 0 or more"):
                group.stop(-1)
            with pytest.raises(TypeError, match="timeout must be a number"):
                group.stop("1")
            assert not group.event.is_set()
            assert group.stop(math.inf) == []

    def test_no_stop_ends_it(self, stuck, background):
        """It waits for its members, or its timeout, whatever the current stop is."""
        stop = StopEvent()
        stop.set()
        with ThreadGroup() as group:
            group.start(stuck.hold)
            with use_stop(stop):
                assert len(group.stop(0.01)) == 1

    def test_event_cannot_be_cleared(self):
        """A group that was stopped stays so."""
        with ThreadGroup() as group:
            group.event.set()
            with pytest.raises(RuntimeError, match="make a new group"):
                group.event.clear()

    def test_late_start(self):
        """Somebody who starts members while the body leaves either gets one that is waited for, or an error."""
        for _ in range(100):
            ready = threading.Barrier(2)
            ended = []
            group = ThreadGroup()

            def outsider(group=group, ready=ready, ended=ended):
                ready.wait()
                try:
                    while True:
                        ended.append(group.start(time.time))
                except RuntimeError:
                    pass

            thread = threading.Thread(target=outsider)
            thread.start()
            with group:
                ready.wait()
                group.start(time.time)
            assert not any(member.is_alive() for member in list(ended))
            thread.join()


class TestStragglers:
    """Those that do not stop are named, with the line where they are stuck, and given up."""

    def test_lock(self, stuck):
        """A member stuck on a lock is returned, with the line; leaving the block does not wait for it."""
        with ThreadGroup() as group:
            member = group.start(stuck.hold)
            group.start(block)
            stuck.entered.wait()
            (straggler,) = group.stop(0.05)
        assert straggler.thread is member
        assert member.is_alive()
        assert (straggler.where.name, straggler.where.line) == (
            "hold",
            "with self._lock:  # the line where it is stuck",
        )
        assert straggler.stack[-1].lineno == straggler.where.lineno
        assert str(straggler).startswith(
            f"{member.name} has not stopped at {__file__}:{straggler.where.lineno}, in hold: with"
        )
        assert str(straggler).endswith("the line where it is stuck")

    @pytest.mark.parametrize("how", ["queue", "pipe", "condition"])
    def test_inside_the_library(self, how):
        """The line is the program's, not that of the queue or the condition in which the thread stands."""
        jobs, condition = queue.Queue(), threading.Condition()
        reader, writer = os.pipe()
        entered = threading.Event()

        def wait_for(wait):
            entered.set()
            wait()  # here

        def wait_on_condition():
            with condition:
                condition.wait()

        wait = {"queue": jobs.get, "pipe": lambda: os.read(reader, 1), "condition": wait_on_condition}[how]
        with ThreadGroup() as group:
            member = group.start(wait_for, wait)
            entered.wait()
            (straggler,) = group.stop(0.05)
            expected = {"queue": "wait()  # here", "condition": "condition.wait()"}
            if how in expected:
                assert straggler.where.line == expected[how]
                assert straggler.where is not straggler.stack[-1]
            else:
                assert straggler.where.name == "<lambda>"
            jobs.put(None)
            os.write(writer, b"x")
            with condition:
                condition.notify()
            with use_stop(None):
                member.join()
        os.close(reader)
        os.close(writer)

    def test_nothing_of_the_program(self):
        """A member that runs C or standard code alone has no such line, and says so by leaving it out."""
        jobs = queue.Queue()
        with ThreadGroup() as group:
            member = group.start(jobs.get)
            (straggler,) = group.stop(0.05)
            jobs.put(None)
            with use_stop(None):
                member.join()
        assert straggler.where is None
        assert str(straggler).startswith(f"{member.name} has not stopped\n")

    def test_again(self, stuck):
        """A further call waits for them again, and returns those that are still running, also after the block."""
        with ThreadGroup() as group:
            member = group.start(stuck.hold)
            stuck.entered.wait()
            assert [one.thread for one in group.stop(0)] == [member]
            assert [one.thread for one in group.stop(0.01)] == [member]
        assert [one.thread for one in group.stop(0)] == [member]
        stuck.release()
        assert group.stop() == []
        assert not member.is_alive()

    def test_given_up_while_leaving(self, stuck):
        """Leaving that waits already waits no more when they are given up."""

        def give_up(group):
            stuck.entered.wait()
            assert len(group.stop(0)) == 1

        with ThreadGroup() as group:
            member = group.start(stuck.hold)
            group.start(give_up, group)
        assert member.is_alive()

    def test_error_before_leaving(self, stuck):
        """What one that was given up raises before the block is left is among the errors."""
        error = ValueError("late")
        with pytest.raises(ExceptionGroup) as caught, ThreadGroup() as group:
            member = group.start(stuck.hold, error)
            stuck.entered.wait()
            group.stop(0)
            stuck.release()
            with use_stop(None):
                member.join()
        assert caught.value.exceptions == (error,)

    def test_error_after_leaving(self, stuck, reported):
        """What it raises later is reported as that of any thread."""
        error = ValueError("late")
        with ThreadGroup() as group:
            member = group.start(stuck.hold, error)
            stuck.entered.wait()
            group.stop(0)
        stuck.release()
        member.join()
        assert reported == [error]
        with pytest.raises(RuntimeError, match="has ended"):
            group.start(block)

    def test_inner_group(self, stuck):
        """A member that waits for a group of its own says which of that is stuck."""

        def inner():
            with ThreadGroup() as group:
                group.start(stuck.hold)

        with ThreadGroup() as outer:
            member = outer.start(inner)
            stuck.entered.wait()
            (straggler,) = outer.stop(0.05)
        assert straggler.thread is member
        assert straggler.where.line == "with ThreadGroup() as group:"
        (one,) = straggler.inner
        assert one.where.name == "hold"
        assert f"\n  in its group, {one.thread.name} has not stopped at" in str(straggler)
        stuck.release()
        member.join()

    def test_members_in_stop_are_none(self, stuck):
        """A member that is in the same call itself is no straggler."""
        found = []
        with ThreadGroup() as group:
            group.start(stuck.hold)
            stuck.entered.wait()
            first = group.start(lambda: found.append([one.thread.name for one in group.stop()]))
            group.event.wait()
            names = [one.thread.name for one in group.stop(0)]
            stuck.release()
        assert first.name not in names
        assert found == [[]]

    def test_exit(self):
        """A process can end while a straggler is still stuck."""
        program = """
            import threading
            from iointerrupt.threads import ThreadGroup
            entered = threading.Event()
            def work():
                entered.set()
                threading.Lock().acquire() and threading.Event().wait()
            with ThreadGroup() as group:
                group.start(work)
                entered.wait()
                print(group.stop(0.01)[0].where.name)
        """
        assert run_program(program) == "work\n"


class TestCtrlC:
    """Ctrl-C in the block or while it is left stops everything and is raised again."""

    pytestmark = pytest.mark.usefixtures("ctrl_c")

    def test_in_the_body(self):
        """In the body: the members have ended when it comes out."""
        near, far = sockets.socketpair()
        with near, far, pytest.raises(KeyboardInterrupt), signal_when_blocked(signal.SIGINT):
            with ThreadGroup() as group:
                members = [group.start(block) for _ in range(3)]
                near.recv(1)
        assert not any(member.is_alive() for member in members)

    def test_while_leaving(self):
        """While the block waits: it stops them, goes on waiting, and raises with the errors as the cause."""
        error = ValueError("x")
        with pytest.raises(KeyboardInterrupt) as caught, ExitStack() as pressing, ThreadGroup() as group:
            members = [group.start(block), group.start(fail_when_stopped, error)]
            wait_until_blocked(group.event, 2)
            pressing.enter_context(signal_when_blocked(signal.SIGINT))
        assert not any(member.is_alive() for member in members)
        assert isinstance(group.event.reason, KeyboardInterrupt)
        assert caught.value.__cause__.exceptions == (error,)

    def test_while_leaving_after_an_error(self):
        """The body's error that it was left for is not lost either."""
        error = ValueError("body")
        stuck = threading.Event()

        def work():
            stuck.wait()

        with pytest.raises(KeyboardInterrupt) as caught, ExitStack() as pressing, ThreadGroup() as group:
            group.start(work)
            pressing.enter_context(signal_when_blocked(signal.SIGINT, then=stuck.set))
            raise error
        assert caught.value.__cause__.exceptions == (error,)

    def test_a_handler_that_sets_and_raises(self):
        """A handler that sets a stop above the group, and raises, is waited for as well."""
        outer = StopEvent()

        def handle(*_):
            outer.set("enough")
            raise KeyboardInterrupt

        previous = signal.signal(signal.SIGINT, handle)
        try:
            with pytest.raises(KeyboardInterrupt), ExitStack() as pressing, ThreadGroup(outer) as group:
                members = [group.start(block) for _ in range(3)]
                wait_until_blocked(group.event, 3)
                pressing.enter_context(signal_when_blocked(signal.SIGINT))
            assert not any(member.is_alive() for member in members)
        finally:
            signal.signal(signal.SIGINT, previous)

    def test_twice(self, stuck):
        """A second one while it waits leaves at once, with the thread that does not stop still there."""
        with pytest.raises(KeyboardInterrupt), ExitStack() as pressing, ThreadGroup() as group:
            member = group.start(stuck.hold)
            stuck.entered.wait()
            pressing.enter_context(signal_when_blocked(signal.SIGINT, signal.SIGINT, since=[group.event]))
        assert member.is_alive()
        with pytest.raises(RuntimeError, match="has ended"):
            group.start(block)

    @pytest.mark.parametrize("first", ["in the body", "stop from outside"])
    def test_second_after(self, stuck, first):
        """While the block is left for a Ctrl-C in the body, or for a stop from outside, the next leaves at once."""
        stop = StopEvent()
        with pytest.raises(KeyboardInterrupt), ExitStack() as pressing, ThreadGroup(stop) as group:
            member = group.start(stuck.hold)
            stuck.entered.wait()
            pressing.enter_context(signal_when_blocked(signal.SIGINT))
            if first == "in the body":
                raise KeyboardInterrupt
            stop.set()
        assert member.is_alive()

    def test_a_handler_that_raises_something_else(self):
        """Another error that a signal handler raises while the block waits comes out in the same way."""
        error = TimeoutError("alarm")
        previous = signal.signal(signal.SIGUSR1, lambda *_: fail(error))
        try:
            with pytest.raises(TimeoutError) as caught, ExitStack() as ringing, ThreadGroup() as group:
                group.start(block)
                wait_until_blocked(group.event)
                ringing.enter_context(signal_when_blocked(signal.SIGUSR1))
        finally:
            signal.signal(signal.SIGUSR1, previous)
        assert group.event.reason is error
        assert caught.value is error
