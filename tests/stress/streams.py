"""A stream of bytes of which both ends know every one, and the worker at each end.

`CONTENT` is random, and repeated for ever. A `Place` is where one end stands in it: the writer's says what to send next, and
the reader's compares whatever has been delivered with what must come there, so that a byte that was lost, repeated, or
changed is noticed with the first delivery behind it.

A `Writer` and a `Reader` do random operations of those that they are given, each of which is stopped at random, on one
object; after a stop the same object goes on with another one, from where the interrupted operation says that it got to.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from typing import Any

from iointerrupt import Interrupted, use_stop
from tests.stress.stops import Stops, Trial

# A prime: what is lost or repeated is never a whole number of repetitions. Random with line ends, some near, some far.
SIZE = 262_147
_FAR = 2  # how often CONTENT stands in _LONG, from whose first part slices are taken


@functools.cache
def _long() -> bytes:
    return content() * _FAR


@functools.cache
def content() -> bytes:
    """The bytes that are repeated for ever."""
    made = random.Random(7)
    data = bytearray(made.randbytes(SIZE).replace(b"\n", b"-").ljust(SIZE, b"-"))
    position = 0
    while position < SIZE:
        data[position] = 10
        position += made.choice((1, 7, 50, 300, 3000))
    return bytes(data)


class Place:
    """A place in the endless stream."""

    def __init__(self, position: int = 0) -> None:
        self.position = position

    def upcoming(self, size: int) -> bytes:
        """The next bytes, at most `SIZE` of them."""
        start = self.position % SIZE
        return _long()[start : start + size]

    def move(self, size: int) -> None:
        """Go on behind so many bytes."""
        self.position += size

    def arrive(self, data: bytes) -> None:
        """Go on behind these bytes.

        Raises:
            AssertionError: other ones come here; it says where they do come, which tells a loss from a repetition.
        """
        for start in range(0, len(data), SIZE):
            part = data[start : start + SIZE]
            if part != self.upcoming(len(part)):
                raise AssertionError(self._difference(part))
            self.position += len(part)

    def _difference(self, data: bytes) -> str:
        said = f"{len(data)} bytes were delivered at {self.position} that are not those that were sent there"
        wanted = self.upcoming(len(data))
        same = next((i for i, (a, b) in enumerate(zip(data, wanted, strict=False)) if a != b), len(wanted))
        rest = data[same : same + 64]
        found = _long().find(rest, max(0, self.position % SIZE)) if len(rest) >= 8 else -1
        behind = _long().rfind(rest, 0, self.position % SIZE + SIZE) if len(rest) >= 8 else -1
        here = self.position % SIZE + same
        if found > here and found - here < SIZE // 2:
            return f"{said}: {found - here} bytes were lost at {self.position + same}"
        if 0 <= behind - SIZE < here or 0 <= behind < here:
            gone = min(here - one for one in (behind, behind - SIZE) if 0 <= one < here)
            return f"{said}: {gone} bytes were repeated at {self.position + same}"
        return f"{said}, from byte {same} on"


#: An operation of a reader: does one read, and returns what it has delivered; what is nothing, it says to be the end, if it is.
Read = Callable[["Reader", Trial], bytes]
#: One of a writer: sends some of the bytes that it is given, and returns how many.
Write = Callable[["Writer", Trial, bytes], int]


class Reader:
    """Reads by random operations, until the end of the stream.

    Args:
        stops: which come meanwhile.
        source: what is read from.
        operations: by name; those whose names end in "*" are given the stop as an argument.
        owner: what has a `stop` of its own, if it is this end's alone.
    """

    def __init__(self, stops: Stops, source: Any, operations: Mapping[str, Read], *, owner: Any = None) -> None:
        self.stops, self.source, self.owner = stops, source, owner
        self.operations = operations
        self.place = Place()
        self.rng = stops.rng
        self.has_ended = False

    def size(self) -> int:
        """How much to read: mostly little, sometimes more than one transfer can give."""
        return self.rng.choice((1, 10, 100, 1000, 1000, 10_000, 100_000))

    def took(self, data: bytes) -> bytes:
        """What an operation returned that returns nothing only at the end."""
        if not data:
            self.has_ended = True
        return data

    def run(self) -> None:
        """Read until the end; stopped at random as long as there are stops to be tried."""
        names = list(self.operations)
        while not self.has_ended:
            name = self.rng.choice(names)
            if self.stops.allowance.used_up():
                with use_stop(self.stops.allowance.failed):
                    data = self.operations[name](self, UNSTOPPED)
            else:
                data = self.stopped(name)
            self.place.arrive(data)
            self.stops.tally.checked += len(data)

    def stopped(self, name: str) -> bytes:
        """What one operation, which may be stopped, has delivered."""
        trial = self.stops.trial(name, self.owner, takes_stop=name.endswith("*"), may_ignore=name == "seek")
        with trial:
            return self.operations[name](self, trial)
        return taken(trial.error)


class Writer:
    """Writes by random operations, until there are no more stops to be tried. Arguments as of `Reader`."""

    def __init__(self, stops: Stops, target: Any, operations: Mapping[str, Write], *, owner: Any = None) -> None:
        self.stops, self.target, self.owner = stops, target, owner
        self.operations = operations
        self.place = Place()
        self.rng = stops.rng

    def run(self) -> None:
        """Write until it is enough."""
        while not self.stops.allowance.used_up():
            self.send(self.place.upcoming(self.rng.choice((1, 10, 100, 1000, 10_000, 100_000))))

    def send(self, data: bytes) -> None:
        """Write all of the next bytes, by random operations. What was interrupted goes on with its own rest, as TLS demands it."""
        names = list(self.operations)
        while data:
            name = self.rng.choice(names)
            if self.stops.allowance.used_up():
                with use_stop(self.stops.allowance.failed):
                    sent = self.operations[name](self, UNSTOPPED, data)
            else:
                sent = self.stopped(name, data)
            self.place.move(sent)
            data = data[sent:]

    def stopped(self, name: str, data: bytes) -> int:
        """How many bytes one operation, which may be stopped, has sent."""
        trial = self.stops.trial(name, self.owner)
        with trial:
            return self.operations[name](self, trial, data)
        assert trial.error is not None
        return trial.error.transferred or 0


class _Unstopped:
    """In place of a trial, where nothing is stopped any more."""

    argument = None
    may_ignore = True


UNSTOPPED: Any = _Unstopped()


def taken(error: Interrupted | None) -> bytes:
    """What an interrupted read had taken; text is in Latin-1."""
    partial = error.partial if error is not None else None
    if error is not None and error.transferred is not None and partial is not None:
        assert error.transferred == len(partial), f"{error!r} counts {error.transferred} and has {len(partial)}"
    return partial.encode("latin-1") if isinstance(partial, str) else partial or b""


def complete(reader: Reader, writer: Writer) -> None:
    """Check that all that was sent has arrived."""
    assert reader.place.position == writer.place.position, (
        f"{writer.place.position} bytes were sent and {reader.place.position} delivered"
    )
