"""What a benchmark of libraries is made of: a call that is stuck, and how it comes to be so, again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from iointerrupt.testing import FaultServer, steps


class Stuck(NamedTuple):
    """One call that will be stuck.

    Attributes:
        call: is stuck until it is stopped.
        wait: returns once the other side has done all that it will do.
        end: ends a call that no stop has ended.
    """

    call: Callable[[], object]
    wait: Callable[[], object]
    end: Callable[[], object] = lambda: None


#: Makes the next one: each has a connection of its own.
Attempts = Callable[[], AbstractContextManager[Stuck]]


class Case(NamedTuple):
    """A call of a library.

    Attributes:
        library: its name.
        call: what it is stuck in.
        afterwards: what its connection is good for once it has been stopped, as the tests have it.
        make: the server, as long as the block lasts, and the attempts against it.
        why_not: why it is not stopped; None if it is.
    """

    library: str
    call: str
    afterwards: str
    make: Callable[[], AbstractContextManager[Attempts]]
    why_not: str | None = None


def against(
    script: steps.Script, connect: Callable[[Any], AbstractContextManager[Callable[[], object]]], **options: Any
) -> Callable[[], AbstractContextManager[Attempts]]:
    """Attempts against a server that does the same on each connection, and stalls.

    Args:
        script: what the server does, up to a `stall`.
        connect: of the server, makes a block that has a connection, and yields the call.
        options: of the server.
    """

    @contextmanager
    def make() -> Iterator[Attempts]:
        with FaultServer(script, **options) as server:
            made = 0

            @contextmanager
            def attempt() -> Iterator[Stuck]:
                nonlocal made
                made += 1
                number = made
                with connect(server) as call:
                    yield Stuck(call, lambda: server.wait_for("stall", number))

            yield attempt

    return make
