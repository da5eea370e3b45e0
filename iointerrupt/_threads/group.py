"""`ThreadGroup`: a block that owns the threads started in it.

Who owns what: a member is in `_living` from before its start until its run is over, and takes itself out; what it has
raised is in `_errors` until the leaving of the block takes it, or, when that is over, the member itself; who waits for
members leaves a question in `_waiting`, and whoever changes the answer wakes it.

There is no lock. `stop()` may be called by a signal handler, which may have interrupted the main thread anywhere in here,
and waits for members: a lock that the main thread held meanwhile, re-entrant or not, would keep them from ending. Each
step is one atomic operation on a dict, a list or a deque instead, and two that have to agree each write first and look
then.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import Token
from typing import TYPE_CHECKING, Any, ParamSpec

from iointerrupt._callables import check_callable
from iointerrupt._errors import Interrupted
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Cause, Parker
from iointerrupt._stop import StopEvent, _current, current_stop, set_current
from iointerrupt._threads.stragglers import Straggler, find_stragglers
from iointerrupt._threads.thread import Thread
from iointerrupt._wait import deadline_of, park, stops

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from iointerrupt._types import StopLike

P = ParamSpec("P")

# Seconds in which a thread whose run is over is gone, unless a signal handler waits that has interrupted `threading` itself.
_GONE_WITHIN = 1.0

# Seconds within which what a signal handler has set is what it raises for.
_A_MOMENT = 0.05

_NEW, _OPEN, _ENDED = "new", "open", "ended"


class ThreadGroup:
    """A block that ends when all the threads started in it have ended, and in which the first failure stops the others.

        with ThreadGroup() as group:
            for url in urls:
                group.start(fetch, url)

    Leaving the block waits for all members, also for those that members have started. The body and the members have the
    group's stop as their current stop: it is `event`, set by `stop()`, by a failure, and by the stops given below. What
    comes out of the block is the first of these that there is:

    - `KeyboardInterrupt`, `SystemExit` and the like from the body or from the waiting, with the errors as the cause.
    - An `ExceptionGroup` of all errors: the body's, then the members' in the order in which they failed; those raised
      while being stopped are among them. A `BaseExceptionGroup` if one of them is no `Exception`.
    - `Interrupted`, where it kept the body or a member from completing, and was not the group's own doing: a stop that the
      group was given was set, or the body or a member has raised one of another origin. A member that has done so has ended,
      and the others go on; a `DeadlineExceeded` of another origin is a failure.
    - Nothing: all is done, or the group has been stopped by `stop()` or `event.set()`. What was left of the body then is
      skipped, if it has raised `Interrupted`.

    Ctrl-C stops everything, waits for it to stop, and is raised again; a second one leaves at once, as does the first
    where a stop from outside was being waited for already.

    A group is used once. Members are daemon threads: those that the block is left without keep no process from ending.

    Args:
        stop: a further stop of the group. The current stop of whoever makes it always is one.

    Attributes:
        event: the group's stop. To stop the members without waiting for them, set it.

    Raises:
        TypeError: `stop` is not a stop.
    """

    def __init__(self, stop: StopLike = None) -> None:
        self.event: _GroupEvent = _GroupEvent(stop, current_stop())
        self._state = _NEW
        self._pid = os.getpid()
        self._body: threading.Thread | None = None
        self._token: Token[StopEvent | None] | None = None  # by which the current stop of before is put back
        self._numbers = itertools.count()  # of members that were started
        self._living: dict[_Member, None] = {}
        self._starting: dict[_Member, int] = {}  # by whom
        self._stopping: dict[object, _Member] = {}  # those that are in stop() themselves, by call
        self._given_up: dict[_Member, None] = {}
        self._gone: deque[_Member] = deque()  # whose run is over, to be joined
        self._errors: dict[_Member, BaseException] = {}
        self._interruptions: list[Interrupted] = []  # by which stops of their own have ended members
        self._was_cut_short = False  # a member has not completed because of the group's stop
        self._waiting: dict[Parker, Callable[[], bool]] = {}

    def start(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Thread:
        """Run `fn(*args, **kwargs)` in a new member of the group.

        Any thread may call it until the block has been left; members too, while the body is waiting for them.

        Returns:
            The member, a `Thread` with a stop of its own below the group's: `interrupt()` ends that one alone, quietly.

        Raises:
            Interrupted: the group has been stopped; nothing was started.
            TypeError: `fn` cannot be called, or would have to be awaited.
            RuntimeError: the block has not been entered, or has been left; or no thread could be made.
        """
        check_callable("fn", fn)
        member = _Member(self, fn, args, kwargs)
        self._forget_gone()
        self._starting[member] = threading.get_ident()
        # First in, and then a look at the state: who ends the group looks the other way round.
        self._living[member] = None
        try:
            self._check_open()
            member.start()
        except BaseException:
            # A Ctrl-C comes also when the thread is running already; then it stays a member.
            if member.claim():
                self._remove(member)
            raise
        finally:
            self._starting.pop(member, None)
        next(self._numbers)
        return member

    def stop(self, timeout: float | None = None, reason: object = None) -> list[Straggler]:
        """Stop all members and wait until they have ended.

        It may be called any number of times, from anywhere. A member that calls it does not wait for itself, nor for
        others that are in here, nor does anything that runs in a group which a member has opened wait for that member. As
        it is cleanup, no stop ends it, only its timeout. From a signal handler give it one, or set `event` instead: what
        the handler has interrupted may hold what a member needs to end.

        Args:
            timeout: seconds to wait at most; None for no limit.
            reason: what the `Interrupted` in the members carries; the first reason stays.

        Returns:
            The members that are still running, each with its stack. They are given up: leaving the block does not wait
            for them, and what they still raise then goes to `threading.excepthook`. A further call waits for them again.

        Raises:
            ValueError: the timeout is negative or not a number.
        """
        deadline = deadline_of(timeout)
        self.event.set(reason)
        call = object()
        member = self._member_of_caller()
        if member is not None:
            self._stopping[call] = member
            self._look()
        # What a signal handler has interrupted in start() cannot go on before the handler is over.
        me = threading.get_ident()
        mine = {starting for starting, starter in list(self._starting.items()) if starter == me}
        try:
            self._wait(lambda: self._is_stopped(mine), deadline)
        except TimeoutError:
            return self._give_up(self._running(mine))
        finally:
            self._stopping.pop(call, None)
        soon = time.monotonic() + _GONE_WITHIN
        self._join_gone(soon if deadline is None else min(deadline, soon))
        return []

    def join(self, timeout: float | None = None) -> None:
        """Wait until all members have ended, without stopping them: for a grace before `stop()`.

        Args:
            timeout: seconds to wait at most; None for no limit.

        Raises:
            Interrupted: the current stop of the caller is set; in the body that is the group's.
            TimeoutError: members are still running.
            RuntimeError: the caller is a member, which would wait for itself.
        """
        if self._member_of_caller() is not None:
            raise RuntimeError("a member cannot wait for the end of its own group")
        self._wait(self._is_left, deadline_of(timeout), stops(None))

    def __enter__(self) -> Self:
        if self._state is not _NEW:
            raise RuntimeError("a ThreadGroup can be entered only once: make another one")
        self._state = _OPEN
        self._body = threading.current_thread()
        if isinstance(self._body, _Member):
            self._body.opened.append(self)
        self.event.outer = current_stop()
        self._token = set_current(self.event)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        try:
            return self._end(error)
        except BaseException as raised:
            if self._state is not _ENDED:  # a Ctrl-C that came before the waiting had begun
                self._leave(raised, patient=False)
            raise
        finally:
            # Last, since that also undoes what a Ctrl-C may have left of the blocks of use_stop within this one.
            self._leave_scope()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {id(self):#x}: {self._state}, {len(self._living)} running>"

    # The block

    def _end(self, error: BaseException | None) -> bool:
        # Whether the stop of the group is what the body has raised.
        was_stopped = isinstance(error, Interrupted) and self.event.is_set()
        is_exit = error is not None and not isinstance(error, Exception)
        interruption = self._leave(error, patient=not is_exit)
        if isinstance(self._body, _Member):
            self._body.opened.remove(self)
        errors = self._take_errors()
        own = [] if error is None or was_stopped else [error]
        if interruption is not None:
            self._attach([*own, *errors], interruption, has_body=bool(own))
            try:
                raise interruption
            finally:
                del interruption  # its traceback refers to this frame
        if is_exit and error is not None:
            self._attach(errors, error, has_body=False)
            return False
        if errors or (own and not isinstance(error, Interrupted)):
            raise self._as_one([*own, *errors], has_body=bool(own)) from None
        if error is None:
            if self._was_cut_short and self.event.was_set_from_outside():
                self.event.interrupt()
            if self._interruptions:
                raise self._interruptions[0]
            return False
        return was_stopped and not self.event.was_set_from_outside()

    def _check_open(self) -> None:
        if self._state is not _OPEN:
            was = "has not begun: enter its block first" if self._state is _NEW else "has ended"
            raise RuntimeError(f"cannot start a thread in a group that {was}")
        self.event.raise_if_set()

    def _leave_scope(self) -> None:
        """Put back the current stop of before."""
        self.event.is_left = True
        current = current_stop()
        if isinstance(current, _GroupEvent) and not current.is_left:
            return  # a block that was entered later, in a generator, is still open: it goes past this one when it is left
        token, self._token = self._token, None
        try:
            if token is not None:
                _current.reset(token)
        except ValueError:  # left in another context than it was entered in, whose current stop is not ours to put back
            return
        stop = current_stop()
        while isinstance(stop, _GroupEvent) and stop.is_left:
            stop = stop.outer
        _current.set(stop)

    def _leave(self, reason: BaseException | None, *, patient: bool) -> BaseException | None:
        """Wait for all members, stopped for a reason; what a signal handler has raised meanwhile, Ctrl-C, is returned.

        That stops the members too. Unless they had been told to stop before, it is waited for once more. Told at this moment
        is not before: a handler may set a stop above the group, and raise.
        """
        told: list[float] = []
        try:
            if reason is not None:
                self.event.set(reason)
            with ExitStack() as noting:
                if patient and not self.event.is_set():
                    noting.enter_context(self.event.on_set(lambda: told.append(time.monotonic())))
                self._join_all()
        except BaseException as raised:  # noqa: BLE001 - the caller raises it again
            is_new = bool(told) and time.monotonic() - told[0] < _A_MOMENT
            if patient and (is_new or not self.event.was_set_from_outside()):
                return self._leave(raised, patient=False) or raised
            self.event.set(raised)
            return raised
        finally:
            self._state = _ENDED
        return None

    def _join_all(self) -> None:
        while True:
            self._wait(self._is_left, None)
            # As in start(): first the state, and then a look at who is there.
            self._state = _ENDED
            if self._is_left():
                break
            self._state = _OPEN
        self._join_gone(None)

    def _take_errors(self) -> list[BaseException]:
        errors = [self._errors.pop(member, None) for member in list(self._errors)]
        return [error for error in errors if error is not None]

    def _as_one(self, errors: list[BaseException], *, has_body: bool) -> BaseExceptionGroup[BaseException]:
        failed = len(errors) - has_body
        count = f"{failed} of {next(self._numbers)} threads"
        if has_body:
            return BaseExceptionGroup(f"the body and {count} failed" if failed else "the body failed", errors)
        return BaseExceptionGroup(f"{count} failed", errors)

    def _attach(self, errors: list[BaseException], raised: BaseException, *, has_body: bool) -> None:
        """Make the errors the cause of what is raised in their stead, and its own cause theirs."""
        if errors:
            cause = self._as_one(errors, has_body=has_body)
            cause.__cause__ = raised.__cause__
            raised.__cause__ = cause

    # Waiting. Who waits writes down what for, and looks; whoever changes that, changes it, and looks who waits.

    def _wait(
        self, is_over: Callable[[], bool], deadline: float | None, stopped_by: tuple[StopEvent, ...] = ()
    ) -> None:
        self._forget_parents_threads()
        parker = Parker()
        self._waiting[parker] = is_over
        try:
            with Blocked(stopped_by) as blocked:  # by none where it is cleanup: a stop has ended the members
                blocked.add_waker(parker.unpark)
                while not is_over():
                    park(parker, blocked, deadline, is_over)
        finally:
            self._waiting.pop(parker, None)

    def _look(self) -> None:
        for parker, is_over in list(self._waiting.items()):
            if is_over():
                parker.unpark()

    # Each of these is asked at the end of each member: so the counts first, which rule out nearly all.

    def _is_left(self) -> bool:
        return len(self._living) <= len(self._given_up) and all(m in self._given_up for m in list(self._living))

    def _is_stopped(self, mine: set[_Member]) -> bool:
        return len(self._living) <= len(self._stopping) + len(mine) and not self._running(mine)

    def _running(self, mine: set[_Member]) -> list[_Member]:
        excepted = mine.union(list(self._stopping.values()))
        return [member for member in list(self._living) if member not in excepted]

    # Members

    def _member_of_caller(self) -> _Member | None:
        """The member that the caller is, or that has opened the group in which the caller runs, and so on upward."""
        thread: threading.Thread | None = threading.current_thread()
        while isinstance(thread, _Member):
            if thread.of is self:
                return thread
            thread = thread.of._body
        return None

    def _give_up(self, members: list[_Member]) -> list[Straggler]:
        self._given_up.update(dict.fromkeys(members))
        self._look()
        found = [straggler for straggler in find_stragglers(members, _opened_by) if straggler.thread in self._living]
        self._was_cut_short |= bool(found)
        return found

    def _fail(self, member: _Member, error: BaseException) -> bool:
        """Take a member's error; False if nobody will come for it any more."""
        self._errors[member] = error
        self.event.set(error)
        return self._state is not _ENDED or self._errors.pop(member, None) is None

    def _note(self, member: _Member, interruption: Interrupted | None) -> None:
        """Take note of what has ended a member, if it was a stop."""
        if interruption is None:
            return
        if self.event.is_set():
            self._was_cut_short = True
        elif not member.stop.is_set():  # else it was interrupted alone, by `interrupt()`
            self._interruptions.append(interruption)

    def _remove(self, member: _Member) -> None:
        self._living.pop(member, None)
        self._given_up.pop(member, None)
        self._look()

    def _join_gone(self, deadline: float | None) -> None:
        """Wait until the threads whose run is over are gone."""
        for member in list(self._gone):
            if member is not threading.current_thread():
                member._await_end(deadline)

    def _forget_gone(self) -> None:
        """Keep a group that lives long from keeping all that it has ever run; two for each that is started."""
        for _ in range(2):
            try:
                member = self._gone.popleft()
            except IndexError:
                return
            if member.is_alive():
                self._gone.appendleft(member)
                return

    def _forget_parents_threads(self) -> None:
        """In a forked child, forget the members that are in the parent only."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            for member in list(self._living):
                if member is not threading.current_thread():
                    self._living.pop(member, None)


class _Member(Thread):
    """A thread of a group, which takes what it raises."""

    def __init__(
        self, group: ThreadGroup, fn: Callable[..., object], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.of = group
        self.opened: list[ThreadGroup] = []  # groups whose body it is in
        self._claims = [None]
        super().__init__(target=fn, args=args, kwargs=kwargs, daemon=True)

    def _make_stop(self, _stop: StopLike) -> StopEvent:
        return StopEvent(self.of.event)  # and not the current stop: that may be another member's

    def claim(self) -> bool:
        """To the first who asks: the thread, which then runs, or `start()`, whose thread then must not run."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True

    def _run_with_stop(self, run: Callable[[], None]) -> None:
        if not self.claim():
            self._run_ended.set()
            return
        try:
            super()._run_with_stop(run)
        except SystemExit:  # ends a thread silently
            raise
        except BaseException as error:
            if not self.of._fail(self, error):
                raise
        finally:
            self.of._note(self, self._interruption)
            self.of._gone.append(self)
            self.of._remove(self)


def _opened_by(thread: Thread) -> list[Thread]:
    """The members of the groups that a thread is in the body of, or waits for."""
    groups = list(thread.opened) if isinstance(thread, _Member) else []
    return [member for group in groups for member in list(group._living)]


class _GroupEvent(StopEvent):
    """A group's stop, which knows whether it was set itself or through a parent."""

    def __init__(self, *parents: StopLike) -> None:
        self._own_causes: list[Cause] = []
        self.outer: StopEvent | None = None  # the current stop outside the block
        self.is_left = False
        super().__init__(*parents)

    def set(self, reason: object = None) -> None:
        cause = Cause(reason)
        if not self._latch.fired:  # else it is not the first, which is the one that counts
            self._own_causes.append(cause)
        self._fire(cause)

    def clear(self) -> None:
        raise RuntimeError("cannot clear the event of a ThreadGroup: make a new group")

    def was_set_from_outside(self) -> bool:
        """Whether a parent or a deadline came first."""
        return self.is_set() and all(self._latch.cause is not own for own in self._own_causes)
