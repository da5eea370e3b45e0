"""What readers and writers do with anything that reads and writes as a file does, and how an operation is tried until it is done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from iointerrupt import Interrupted, use_stop
from tests.stress.stops import Stops, Trial
from tests.stress.streams import Place, Read, Reader, Write, Writer

T = TypeVar("T")


def persist(
    stops: Stops, name: str, operation: Callable[[Any], T], owner: Any = None, *, takes_stop: bool = False
) -> T:
    """Do an operation, and again as often as it is stopped, until it is done.

    Args:
        stops: which stop it, until there are no more.
        name: of the operation.
        operation: given what it may pass on as `stop=`, or None.
        owner: what has a stop of its own, if anything has.
        takes_stop: whether it is given one.
    """
    while not stops.allowance.used_up():
        trial = stops.trial(name, owner, takes_stop=takes_stop)
        with trial:
            return operation(trial.argument)
    with use_stop(stops.allowance.failed):
        return operation(None)


@contextlib.contextmanager
def closed(file: Any) -> Iterator[Any]:
    """A block that closes a file at its end. What closing it raises is no news when the block has failed."""
    try:
        yield file
    except BaseException:
        with contextlib.suppress(OSError, Interrupted):
            file.close()
        raise
    file.close()


# Reading


def read(reader: Reader, _: Trial) -> bytes:
    """Read that many, fewer only at the end."""
    size = reader.size()
    data: bytes = reader.source.read(size)
    reader.has_ended = len(data) < size
    return data


def read1(reader: Reader, _: Trial) -> bytes:
    """Read what comes."""
    return reader.took(reader.source.read1(reader.size()))


def readline(reader: Reader, _: Trial) -> bytes:
    """Read to the end of a line."""
    line = reader.took(reader.source.readline())
    assert b"\n" not in line[:-1]
    return line


def readlines(reader: Reader, _: Trial) -> bytes:
    """Read some lines."""
    return reader.took(b"".join(reader.source.readlines(reader.size())))


def readinto(reader: Reader, _: Trial) -> bytes:
    """Fill a buffer, less only at the end."""
    buffer = bytearray(reader.size())
    try:
        count = reader.source.readinto(buffer)
    except Interrupted as stopped:
        stopped.partial = bytes(buffer[: stopped.transferred or 0])
        raise
    reader.has_ended = count < len(buffer)
    return bytes(buffer[:count])


def readinto1(reader: Reader, _: Trial) -> bytes:
    """Read what comes into a buffer."""
    buffer = bytearray(reader.size())
    return reader.took(bytes(buffer[: reader.source.readinto1(buffer)]))


def peek(reader: Reader, _: Trial) -> bytes:
    """Look at what comes, which takes nothing."""
    seen = reader.source.peek(reader.size())
    Place(reader.place.position).arrive(seen)
    reader.has_ended = not seen
    return b""


class Iterating:
    """`next` of one iterator, which outlives the stops."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks

    def __call__(self, reader: Reader, trial: Trial) -> bytes:
        """The next chunk."""
        chunk = next(self._chunks, b"")
        if not chunk:
            trial.may_ignore = True  # that there is nothing more, it may know
        return reader.took(chunk)


READING: Mapping[str, Read] = {
    "read": read,
    "read1": read1,
    "readline": readline,
    "readlines": readlines,
    "readinto": readinto,
    "readinto1": readinto1,
    "peek": peek,
}

# Writing


def write(writer: Writer, _: Trial, data: bytes) -> int:
    """Write all, or leave it in a buffer; without one, a part."""
    return int(writer.target.write(data))


def writelines(writer: Writer, _: Trial, data: bytes) -> int:
    """Write all, in pieces."""
    writer.target.writelines([data[:5], data[5:50], data[50:]])
    return len(data)


def flush(writer: Writer, _: Trial, __: bytes) -> int:
    """Write what is in the buffer, which is nothing new."""
    writer.target.flush()
    return 0


WRITING: Mapping[str, Write] = {"write": write, "writelines": writelines, "flush": flush}
