"""check_interruptible itself: it passes what keeps the contract, and names what does not."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager

import pytest

from iointerrupt import Interrupted, as_stop
from iointerrupt._wait import READ, check, wait_ready
from iointerrupt.testing import KINDS, Operation, check_interruptible


def reading(read):
    """An operation on a pipe: `read(descriptor, stop)`."""

    @contextmanager
    def make():
        reader, writer = os.pipe()
        try:
            yield Operation(run=lambda stop: read(reader, as_stop(stop)), release=lambda: os.write(writer, b"x"))
        finally:
            os.close(reader)
            os.close(writer)

    return make


def good(reader, stop):
    """Keeps the contract."""
    wait_ready(reader, READ, stop)
    return os.read(reader, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_accepts_what_keeps_the_contract(kind):
    """A pipe read through wait_ready passes with every kind of stop."""
    check_interruptible(reading(good), kinds=[kind])


def never_asks(reader, stop):
    """Ignores its stop."""
    return os.read(reader, 1)


def ignores_it_while_blocked(reader, stop):
    """Asks before it blocks, and not again."""
    check(stop)
    return os.read(reader, 1)


def takes_before_it_asks(reader, stop):
    """Loses the byte that it has read when it finds the stop set."""
    wait_ready(reader, READ, None)
    byte = os.read(reader, 1)
    check(stop)
    return byte


def returns_nothing(reader, stop):
    """Takes a stop for an end."""
    try:
        return good(reader, stop)
    except Interrupted:
        return b""


def raises_something_else(reader, stop):
    """Turns the stop into an OSError."""
    try:
        return good(reader, stop)
    except Interrupted as error:
        raise OSError("stopped") from error


#: What `leaks_a_descriptor` has forgotten, for the test to close.
FORGOTTEN: list[int] = []


def leaks_a_descriptor(reader, stop):
    """Forgets a descriptor when it is interrupted."""
    FORGOTTEN.append(os.dup(reader))
    byte = good(FORGOTTEN[-1], stop)
    os.close(FORGOTTEN.pop())
    return byte


@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        (never_asks, "did not stop it"),
        (ignores_it_while_blocked, "does not block on a StopEvent"),
        (takes_before_it_asks, "still blocked|was expected"),
        (returns_nothing, "did not stop it: it returned b''"),
        (raises_something_else, "raised OSError"),
        (
            leaks_a_descriptor,
            r"left behind:\n  descriptor .*pipe .* made at .*test_contract_checker\.py:\d+ in leaks_a_descriptor",
        ),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_names_what_breaks_the_contract(read, complaint, request):
    """Each way of breaking it is an AssertionError that says which promise was broken."""
    with pytest.raises(AssertionError, match=complaint):
        check_interruptible(reading(read), kinds=["StopEvent"], timeout=0.2)
    while FORGOTTEN:
        os.close(FORGOTTEN.pop())


def test_leftover_thread_is_named():
    """A thread that is still running afterwards is named."""
    leave = threading.Event()

    def starts_a_thread(reader, stop):
        threading.Thread(target=leave.wait, args=(10,), name="forgotten").start()
        return good(reader, stop)

    with pytest.raises(
        AssertionError, match=r"left behind:\n  thread 'forgotten', .* started at .* in starts_a_thread"
    ):
        check_interruptible(reading(starts_a_thread), kinds=["StopEvent"], timeout=0.1)
    leave.set()


def test_unknown_kind():
    """A kind of stop that does not exist is refused with the list of those that do."""
    with pytest.raises(ValueError, match="unknown kind of stop 'Event': accepted are StopEvent"):
        check_interruptible(reading(good), kinds=["Event"])
