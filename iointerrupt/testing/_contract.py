"""`check_interruptible`: what this library promises of a blocking operation, as a suite that runs on any of them."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from iointerrupt._errors import DeadlineExceeded, Interrupted
from iointerrupt._signal.threads import own_thread
from iointerrupt._stop import StopEvent, use_stop
from iointerrupt._types import StopLike
from iointerrupt.testing._leaks import no_leaks
from iointerrupt.testing._stops import StopAfter, wait_until_blocked


@dataclass(frozen=True)
class Operation:
    """A blocking operation under test.

    Attributes:
        run: does it, stopping on the stop that it is given; what it returns is compared between runs.
        release: makes a blocked `run`, or the next one, complete: the peer sends, connects, answers.
        resumes: whether an interrupted `run` can be run again and then completes as if nothing had happened. False for
            what a stop has to end for good, such as the body of an HTTP response.
        repeats: whether `run` can be run again once it has completed. False for what happens once, such as the end of a
            TLS session.
        wait_until_blocked: returns once `run(stop)` is blocked; by default this is `testing.wait_until_blocked`.
    """

    run: Callable[[StopLike], object]
    release: Callable[[], object]
    resumes: bool = True
    repeats: bool = True
    wait_until_blocked: Callable[[StopLike], object] | None = None


class _Kind:
    """A kind of stop, how it is set, and how it reaches the operation."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.stop: StopLike
        self.set: Callable[[], object]
        if name == "threading.Event":
            event = threading.Event()
            self.stop, self.set = event, event.set
        elif name == "multiprocessing.Event":
            shared = multiprocessing.Event()
            self.stop, self.set = shared, shared.set
        elif name == "callable":
            flag = threading.Event()
            self.stop, self.set = lambda: bool(flag.is_set()), flag.set
        elif name in KINDS:
            stop = StopEvent()
            self.stop, self.set = stop, stop.set
        else:
            raise ValueError(f"unknown kind of stop {name!r}: accepted are {', '.join(KINDS)}")

    def run(self, operation: Operation) -> object:
        if self.name != "current stop":
            return operation.run(self.stop)
        with use_stop(self.stop):
            return operation.run(None)


#: The kinds of stop that `check_interruptible` knows.
KINDS = ("StopEvent", "threading.Event", "multiprocessing.Event", "callable", "current stop")

MakeOperation = Callable[[], AbstractContextManager[Operation]]


def check_interruptible(make_operation: MakeOperation, *, kinds: Iterable[str] = KINDS, timeout: float = 10.0) -> None:
    """Check that an operation keeps the contract, for each kind of stop.

    - It completes when nobody stops it, and what it returns then is the measure for the rest.
    - A stop before the call raises `Interrupted` although the operation could complete at once, and takes nothing.
    - A stop while it is blocked raises `Interrupted`. If it `resumes`, running it again completes with nothing lost.
    - Released while it is blocked, it completes although a stop is there; set after that, the stop raises at the next call.
    - A deadline raises `DeadlineExceeded`.
    - A stop at its n-th check, for each n, either raises `Interrupted` or comes after the operation has completed.
    - No descriptor, thread or helper is left behind.

    Args:
        make_operation: a context manager (a function with `contextlib.contextmanager`) that sets up a fresh `Operation`
            and puts everything away again at its end.
        kinds: which of `KINDS` to check with.
        timeout: seconds after which something that should have happened has not.

    Raises:
        AssertionError: it does not keep the contract; the message names the promise and the kind of stop.
        ValueError: a kind is not one of `KINDS`.

    Example:
        @contextmanager
        def receiving():
            near, far = sockets.socketpair()
            with near, far:
                yield Operation(run=lambda stop: sockets.recv_exactly(near, 1, stop=stop), release=lambda: far.send(b"x"))

        check_interruptible(receiving)
    """
    kinds = [_Kind(name).name for name in kinds]
    suite = _Suite(make_operation, timeout)
    with no_leaks("the operation, when it completes,", timeout=timeout):
        suite.completes()
    for name in kinds:
        for promise in (suite.stops_before, suite.stops_while_blocked, suite.completes_under_a_stop):
            with no_leaks(f"the operation, checked with a {name} ({promise.__name__}),", timeout=timeout):
                promise(_Kind(name))
    with no_leaks("the operation, at a deadline,", timeout=timeout):
        suite.keeps_a_deadline()
    with no_leaks("the operation, stopped at each check,", timeout=timeout):
        suite.stops_at_each_check()


class _Suite:
    """The promises, one method each. `expected` is what the operation returns when nobody stops it."""

    def __init__(self, make_operation: MakeOperation, timeout: float) -> None:
        self._make = make_operation
        self._timeout = timeout
        self._expected: object = None

    def completes(self) -> None:
        with self._make() as operation:
            operation.release()
            self._expected = _Thread(lambda: operation.run(None)).outcome(self._timeout)

    def stops_before(self, kind: _Kind) -> None:
        with self._make() as operation:
            operation.release()
            kind.set()
            thread = _Thread(lambda: kind.run(operation))
            _must_raise(
                Interrupted, lambda: thread.outcome(self._timeout), f"a {kind.name} that was set before the call"
            )
            self._must_complete(operation, f"after a {kind.name} that was set before the call")

    def stops_while_blocked(self, kind: _Kind) -> None:
        with self._make() as operation:
            thread = self._blocked(operation, kind)
            kind.set()
            _must_raise(Interrupted, lambda: thread.outcome(self._timeout), f"a {kind.name} set while it was blocked")
            operation.release()
            if operation.resumes:
                self._must_complete(operation, f"after a {kind.name} set while it was blocked")

    def completes_under_a_stop(self, kind: _Kind) -> None:
        with self._make() as operation:
            thread = self._blocked(operation, kind)
            operation.release()
            self._must_equal(thread.outcome(self._timeout), f"released under a {kind.name} that nobody had set")
            if operation.repeats:
                kind.set()
                again = _Thread(lambda: kind.run(operation))
                _must_raise(
                    Interrupted, lambda: again.outcome(self._timeout), f"a {kind.name} set after it had completed"
                )

    def keeps_a_deadline(self) -> None:
        with self._make() as operation:
            thread = _Thread(lambda: operation.run(StopEvent(timeout=0.02)))
            _must_raise(DeadlineExceeded, lambda: thread.outcome(self._timeout), "a deadline while it was blocked")
            operation.release()

    def stops_at_each_check(self) -> None:
        n = 0
        while True:
            n += 1
            with self._make() as operation:
                operation.release()
                stop = StopAfter(n)
                thread = _Thread(lambda operation=operation, stop=stop: operation.run(stop))  # type: ignore[misc]
                try:
                    value = thread.outcome(self._timeout)
                except Interrupted:
                    continue
                self._must_equal(value, f"with a stop at check {n} that it did not reach")
                assert n > 1, "it never asks its stop"  # noqa: S101 - an assertion is what this function is for
                return

    def _blocked(self, operation: Operation, kind: _Kind) -> _Thread:
        thread = _Thread(lambda: kind.run(operation))
        try:
            if operation.wait_until_blocked is None:
                wait_until_blocked(kind.stop, timeout=self._timeout)
            else:
                operation.wait_until_blocked(kind.stop)
        except TimeoutError as error:
            raise AssertionError(f"it does not block on a {kind.name} while it waits") from error
        return thread

    def _must_complete(self, operation: Operation, when: str) -> None:
        self._must_equal(_Thread(lambda: operation.run(None)).outcome(self._timeout), when)

    def _must_equal(self, value: object, when: str) -> None:
        if value != self._expected:
            raise AssertionError(f"{when} it returned {value!r}, where {self._expected!r} was expected")


def _must_raise(error: type[Interrupted], run: Callable[[], object], stop: str) -> None:
    try:
        value = run()
    except error as raised:
        if type(raised) is not error:
            raise AssertionError(f"{stop} raised {raised!r} instead of {error.__name__}") from raised
    except Exception as raised:
        raise AssertionError(f"{stop} raised {raised!r} instead of {error.__name__}") from raised
    else:
        raise AssertionError(f"{stop} did not stop it: it returned {value!r}")


class _Thread:
    """A call in a thread of its own, so that one which does not stop cannot hang the check."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._value: object = None
        self._error: BaseException | None = None
        self._thread = own_thread("check_interruptible", self._run, run)
        self._thread.start()

    def _run(self, run: Callable[[], object]) -> None:
        try:
            self._value = run()
        except BaseException as error:  # noqa: BLE001 - it is raised again in outcome()
            self._error = error

    def outcome(self, timeout: float) -> object:
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise AssertionError(f"it is still blocked after {timeout:g} s")
        if self._error is not None:
            raise self._error
        return self._value
