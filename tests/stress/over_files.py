"""Stops of what is done with pipes, FIFOs and regular files: reading, writing, opening, closing, copying, as bytes and as text.

Text goes through Latin-1, whose characters are the bytes, or through UTF-8, where half of them take two: so half a character
may have come when the stop does.
"""

from __future__ import annotations

import contextlib
import functools
import io
import os
import queue
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from iointerrupt import Interrupted, files
from tests.stress.operations import READING, WRITING, Iterating, closed, flush, persist, write
from tests.stress.rounds import Round
from tests.stress.stops import Stops, Trial
from tests.stress.streams import SIZE, Place, Read, Reader, Write, Writer, complete, content, taken

# Reading what the shared operations of `streams` do not cover


def read_raw(reader: Reader, _: Trial) -> bytes:
    """Read what comes, of a file without a buffer."""
    return reader.took(reader.source.read(reader.size()))


def readinto_raw(reader: Reader, _: Trial) -> bytes:
    """Read it into a buffer."""
    buffer = bytearray(reader.size())
    return reader.took(bytes(buffer[: reader.source.readinto(buffer)]))


def copy_on(reader: Reader, trial: Trial) -> bytes:
    """Copy to the end."""
    target = io.BytesIO()
    try:
        count = files.copyfileobj(
            reader.source, target, stop=trial.argument, chunk_size=reader.rng.choice((10, 1000, 100_000))
        )
    except Interrupted as stopped:
        assert stopped.transferred == len(target.getvalue())
        assert not isinstance(stopped.partial, str)
        stopped.partial = target.getvalue() + (stopped.partial or b"")
        stopped.transferred = len(stopped.partial)
        raise
    reader.has_ended = True
    data = target.getvalue()
    assert len(data) == count
    return data


def read_text(reader: Reader, _: Trial) -> bytes:
    """Read that many characters."""
    size = reader.size()
    text: str = reader.source.read(size)
    reader.has_ended = len(text) < size
    return text.encode("latin-1")


def read_text_line(reader: Reader, _: Trial) -> bytes:
    """Read a line of text."""
    return reader.took(reader.source.readline().encode("latin-1"))


def next_text_line(reader: Reader, _: Trial) -> bytes:
    """The same by iterating."""
    return reader.took(next(reader.source, "").encode("latin-1"))


def write_text(writer: Writer, _: Trial, data: bytes) -> int:
    """Write that many characters."""
    return int(writer.target.write(data.decode("latin-1")))


def seek(reader: Reader, _: Trial) -> bytes:
    """Go somewhere else, and nowhere by a stop."""
    assert reader.source.tell() == reader.place.position
    reader.place.position = reader.source.seek(reader.rng.randrange(2 * SIZE))
    return b""


READING_RAW: Mapping[str, Read] = {"read": read_raw, "readinto": readinto_raw}
COPYING: Mapping[str, Read] = {"copyfileobj*": copy_on}
READING_TEXT: Mapping[str, Read] = {"read": read_text, "readline": read_text_line, "next": next_text_line}
WRITING_TEXT: Mapping[str, Write] = {"write": write_text, "flush": flush}

# Pipes


def over_pipes(one: Round) -> None:
    """One end of a pipe is written and the other read."""
    with contextlib.ExitStack() as scope:
        out, into = os.pipe()
        chunk = one.rng.choice((100, 4096, 1 << 20))
        encoding = one.rng.choice(("latin-1", "utf-8"))
        texts = one.rng.random() < 0.3
        target, writing = _target(one, into, scope, chunk, encoding if texts else None)
        source, reading, owner = _source(one, out, scope, chunk, encoding if texts else None)
        writer = Writer(one.stops(), target, writing, owner=target)
        reader = Reader(one.stops(), source, reading, owner=owner)

        def write_to_the_end() -> None:
            writer.run()
            target.flush()
            target.close()

        one.run(write_to_the_end, reader.run)
        complete(reader, writer)


def _target(
    one: Round, fd: int, scope: contextlib.ExitStack, chunk: int, encoding: str | None
) -> tuple[Any, Mapping[str, Write]]:
    file: Any
    if encoding is not None:
        file = files.open(fd, "w", encoding=encoding, newline="", chunk_size=chunk)
        return scope.enter_context(closed(file)), WRITING_TEXT
    way = one.rng.choice(("raw", "buffered", "wrapped"))
    if way == "raw":
        return scope.enter_context(closed(files.open(fd, "wb", 0, chunk_size=chunk))), {"write": write}
    if way == "wrapped":
        file = files.wrap(scope.enter_context(os.fdopen(fd, "wb", 0)), chunk_size=chunk)
        return scope.enter_context(closed(file)), {"write": write}
    file = files.open(fd, "wb", one.rng.choice((50, 8192, -1)), chunk_size=chunk)
    return scope.enter_context(closed(file)), WRITING


def _source(
    one: Round, fd: int, scope: contextlib.ExitStack, chunk: int, encoding: str | None
) -> tuple[Any, Mapping[str, Read], Any]:
    file: Any
    if encoding is not None:
        file = scope.enter_context(files.open(fd, "r", encoding=encoding, newline="", chunk_size=chunk))
        return file, READING_TEXT, file
    way = one.rng.choice(("raw", "buffered", "buffered", "wrapped", "chunks", "copied"))
    if way == "raw":
        file = scope.enter_context(files.open(fd, "rb", 0, chunk_size=chunk))
        return file, READING_RAW, file
    if way == "wrapped":
        file = scope.enter_context(files.wrap(scope.enter_context(os.fdopen(fd, "rb", 0)), chunk_size=chunk))
        return file, READING_RAW, file
    if way == "buffered":
        file = scope.enter_context(files.open(fd, "rb", one.rng.choice((50, 8192, -1)), chunk_size=chunk))
        return file, READING, file
    plain = scope.enter_context(os.fdopen(fd, "rb", 0))
    if way == "copied":
        return plain, COPYING, None
    return plain, {"iter_chunks": Iterating(files.iter_chunks(fd, chunk_size=chunk))}, None


# FIFOs


@dataclass(frozen=True)
class _Meeting:
    """What the two ends tell each other beside the FIFO.

    Attributes:
        opened: by the reader. Before, what is written would be lost if its `open` is stopped, as the end of a FIFO is then closed.
        written: how many bytes.
    """

    opened: threading.Event = field(default_factory=threading.Event)
    written: queue.SimpleQueue[int] = field(default_factory=queue.SimpleQueue)


def over_fifos(one: Round) -> None:
    """Both ends of a FIFO are opened, which waits for the other one; a little is sent; and both are closed."""
    reading, writing = one.stops(), one.stops()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1_000_000):
            path = os.path.join(folder, f"fifo {number}")
            os.mkfifo(path)
            meeting = _Meeting()
            one.run(
                functools.partial(_write_fifo, writing, path, meeting),
                functools.partial(_read_fifo, reading, path, meeting),
            )
            os.unlink(path)
            if one.allowance.used_up():
                return


def _write_fifo(stops: Stops, path: str, meeting: _Meeting) -> None:
    file = persist(stops, "open to write*", lambda stop: files.open(path, "wb", 50, stop=stop), takes_stop=True)
    file.stop = None
    writer = Writer(stops, file, {"write": write}, owner=file)
    assert meeting.opened.wait(10), "the other end has not been opened"
    writer.send(content()[: stops.rng.choice((10, 100, 1000))])
    trial = stops.trial("close", file, may_ignore=True)
    with trial:
        file.close()
    assert file.closed
    left = trial.error.partial if trial.error is not None else None
    meeting.written.put(writer.place.position - len(left or b""))


def _read_fifo(stops: Stops, path: str, meeting: _Meeting) -> None:
    file = persist(stops, "open to read*", lambda stop: files.open(path, "rb", stop=stop), takes_stop=True)
    meeting.opened.set()
    file.stop = None
    with file:
        reader = Reader(stops, file, READING, owner=file)
        reader.run()
    sent = meeting.written.get(timeout=10)
    assert reader.place.position == sent, f"{sent} bytes were sent and {reader.place.position} delivered"


# Regular files


def of_files(one: Round) -> None:
    """A file is written and read, copied and iterated over."""
    with tempfile.TemporaryDirectory() as folder:
        source = os.path.join(folder, "source")
        with open(source, "wb") as file:
            file.write(content() * 2)
        workers = [
            functools.partial(_write_file, one.stops(), os.path.join(folder, "written")),
            functools.partial(_read_file, one.stops(), source),
            functools.partial(_copy_file, one.stops(), source, folder),
            functools.partial(_read_whole, one.stops(), source),
        ]
        one.run(*workers)


def _chunk(stops: Stops) -> int:
    return stops.rng.choice((1000, 5000, 20_000))


def _write_file(stops: Stops, path: str) -> None:
    file: Any
    while not stops.allowance.used_up():
        size = stops.rng.choice((1000, 100_000, SIZE))
        texts = stops.rng.random() < 0.3
        if texts:
            file = files.open(path, "w", encoding="latin-1", newline="", chunk_size=_chunk(stops))
            writing = WRITING_TEXT
        else:
            file = files.open(path, "wb", stops.rng.choice((0, 50, 8192)), chunk_size=_chunk(stops))
            writing = WRITING if hasattr(file, "raw") else {"write": write}
        writer = Writer(stops, file, writing, owner=file)
        while (left := size - writer.place.position) > 0:
            writer.send(writer.place.upcoming(min(left, stops.rng.choice((10, 1000, 30_000)))))
            if stops.allowance.used_up():
                break
        # Set or not, a close writes all that a regular file takes.
        with stops.trial("close", file, may_ignore=True):
            file.close()
        with open(path, "rb") as written:
            data = written.read()
        assert len(data) == writer.place.position, f"{writer.place.position} bytes were written, {len(data)} are there"
        Place().arrive(data)
        stops.tally.checked += len(data)


def _read_file(stops: Stops, path: str) -> None:
    file: Any
    while not stops.allowance.used_up():
        if stops.rng.random() < 0.3:
            file = files.open(path, "r", encoding="latin-1", newline="", chunk_size=_chunk(stops))
            reading = READING_TEXT
        else:
            file = files.open(path, "rb", stops.rng.choice((50, 8192, -1)), chunk_size=_chunk(stops))
            reading = {**READING, "seek": seek}
        with file:
            reader = Reader(stops, file, reading, owner=file)
            reader.run()
        assert reader.place.position == 2 * SIZE, f"the end came at {reader.place.position}"


def _copy_file(stops: Stops, source: str, folder: str) -> None:
    os.mkdir(target := os.path.join(folder, "copies"))
    path = os.path.join(target, "copy")
    while not stops.allowance.used_up():
        had_one = os.path.exists(path)
        trial = stops.trial("copy*", takes_stop=True)
        with trial:
            files.copy(source, path, stop=trial.argument)
        left = os.listdir(target)
        assert left == (["copy"] if had_one or trial.error is None else []), f"{left} is left of a copy"
        if left:
            with open(path, "rb") as copied:
                reader = Place()
                reader.arrive(copied.read())
            assert reader.position == 2 * SIZE
            stops.tally.checked += reader.position
        if stops.rng.random() < 0.3:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _read_whole(stops: Stops, path: str) -> None:
    while not stops.allowance.used_up():
        start, end = sorted(stops.rng.randrange(2 * SIZE) for _ in range(2))
        chunks = files.iter_chunks(path, chunk_size=_chunk(stops), start=start, end=end)
        with contextlib.closing(chunks):
            reader = Reader(stops, chunks, {"iter_chunks": Iterating(chunks)})
            reader.place.position = start
            reader.run()
        assert reader.place.position == end, f"the end came at {reader.place.position}, not at {end}"
        trial = stops.trial("read_bytes*", takes_stop=True)
        with trial:
            data = files.read_bytes(path, stop=trial.argument)
        if trial.error is not None:
            data = taken(trial.error)
        else:
            assert len(data) == 2 * SIZE
        Place().arrive(data)
        stops.tally.checked += len(data)
