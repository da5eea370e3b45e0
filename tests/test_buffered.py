"""The buffered binary classes over a raw file that does what a script says: no interruption loses or repeats a byte."""

from __future__ import annotations

import io
import itertools
import os
import random
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from iointerrupt import Interrupted, ResourceBusy, Stalled, StopEvent, use_stop
from iointerrupt._streams.buffered import BufferedReader, BufferedWriter
from iointerrupt._streams.pair import BufferedRWPair

STOP = "stop"
TIME_OUT = "time out"


class Scripted(io.RawIOBase):
    """A raw file whose reads give, and whose writes take, what the script says: bytes, a count, STOP or TIME_OUT."""

    def __init__(self, script: Iterable[Any]) -> None:
        self.script = iter(script)
        self.taken = b""

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def next(self) -> Any:
        step = next(self.script, b"")
        if step == STOP:
            raise Interrupted("scripted")
        if step == TIME_OUT:
            raise TimeoutError("timed out")
        return step

    def readinto(self, buffer: Any) -> int:
        data = self.next()
        if len(data) > len(buffer):
            self.script = itertools.chain([data[len(buffer) :]], self.script)
            data = data[: len(buffer)]
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        count = min(self.next() or len(data), len(data))
        self.taken += bytes(data[:count])
        return count


READS: dict[str, tuple[Callable[[Any], bytes], bytes]] = {
    "read(n)": (lambda f: f.read(8), b"abcdef\ng"),
    "read()": (lambda f: f.read(), b"abcdef\ngh"),
    "readline()": (lambda f: f.readline(), b"abcdef\n"),
    "readlines()": (lambda f: b"".join(f.readlines()), b"abcdef\ngh"),
    "next": (next, b"abcdef\n"),
}


def test_reads_in_steps() -> None:
    """What the script of the other tests gives when nothing interrupts it."""
    for read, expected in READS.values():
        with BufferedReader(Scripted([b"abc", b"def\n", b"gh"])) as file:
            assert read(file) == expected


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize(
    "make", [BufferedReader, lambda raw: BufferedRWPair(raw, Scripted([]))], ids=["reader", "pair"]
)
def test_an_interrupted_read_has_its_bytes_in_partial(name: str, make: Callable[[Any], Any]) -> None:
    """The bytes of an interrupted read are in `partial`, and the next read goes on after them."""
    read, expected = READS[name]
    with make(Scripted([b"abc", STOP, b"def\n", b"gh"])) as file:
        with pytest.raises(Interrupted) as caught:
            read(file)
        assert (caught.value.partial, caught.value.transferred, caught.value.reason) == (b"abc", 3, "scripted")
        if name == "read(n)":
            assert b"abc" + file.read(5) == expected
        else:
            assert b"abc" + read(file) == expected


def test_an_interrupted_readinto_says_how_much_of_the_buffer_it_has_filled() -> None:
    """After an interrupted `readinto` the buffer begins with `transferred` bytes."""
    with BufferedReader(Scripted([b"abc", STOP, b"def"]), 2) as file:
        target = bytearray(6)
        with pytest.raises(Interrupted) as caught:
            file.readinto(target)
        assert (caught.value.transferred, caught.value.partial) == (3, None)
        assert target[:3] == b"abc"
        assert file.readinto(memoryview(target)[3:]) == 3
        assert target == b"abcdef"


@pytest.mark.parametrize("method", ["read1", "peek", "readinto1"])
def test_what_takes_whatever_comes_takes_nothing_when_interrupted(method: str) -> None:
    """`read1`, `peek` and `readinto1` raise with nothing taken, and give what is there where there is something."""
    with BufferedReader(Scripted([STOP, b"abc"])) as file:
        argument = bytearray(3) if method == "readinto1" else 3
        with pytest.raises(Interrupted) as caught:
            getattr(file, method)(argument)
        assert (caught.value.partial, caught.value.transferred) == (None, 0)
        assert getattr(file, method)(argument) in (3, b"abc")


def test_a_timeout_in_the_middle_of_a_read_is_stalled_with_the_bytes() -> None:
    """A TimeoutError before any byte passes as it is; after some it is `Stalled`, with them."""
    with BufferedReader(Scripted([TIME_OUT, b"abc", TIME_OUT, b"def\n"])) as file:
        with pytest.raises(TimeoutError) as plain:
            file.readline()
        assert not isinstance(plain.value, Stalled)
        with pytest.raises(Stalled) as stalled:
            file.readline()
        assert stalled.value.partial == b"abc"
        assert file.readline() == b"def\n"


def test_any_mixture_of_reads_and_stops_gives_all_bytes_in_order() -> None:
    """Whatever reads are interrupted where, the pieces make the whole."""
    chance = random.Random(6)
    for _ in range(150):
        whole = bytes(chance.choices(b"abcdefg\n", k=400))
        pieces = iter(whole)
        script: list[Any] = []
        while piece := bytes(itertools.islice(pieces, chance.randint(1, 5))):
            script += [STOP] * chance.randint(0, 2) + [piece]
        got = b""
        with BufferedReader(Scripted(script), chance.choice([5, 8, 64])) as file:
            while len(got) < len(whole):
                reads: list[Callable[[], Any]] = [
                    lambda: file.read(chance.randint(1, 30)),
                    file.readline,
                    lambda: file.read1(5),
                    lambda: file.readlines(30),
                    lambda: file.peek(5) and b"",
                ]
                try:
                    part = chance.choice(reads)()
                    got += b"".join(part) if isinstance(part, list) else part
                except Interrupted as stopped:
                    got += stopped.partial or b""  # type: ignore[operator]  # bytes, from a binary file
        assert got == whole


def test_a_write_that_fits_takes_nothing_when_the_flush_before_it_is_interrupted() -> None:
    """`transferred` is 0, what was buffered is still buffered, and a retry repeats no byte."""
    raw = Scripted([3, STOP])
    with BufferedWriter(raw, 8) as file:
        file.write(b"123456")
        with pytest.raises(Interrupted) as caught:
            file.write(b"abcdef")
        assert caught.value.transferred == 0
        assert raw.taken == b"123"
        file.write(b"abcdef")
    assert raw.taken == b"123456abcdef"


def test_a_large_write_says_how_much_of_it_was_taken() -> None:
    """`transferred` counts the bytes of this call alone, and the rest of the data completes the file."""
    raw = Scripted([2, 4, 5, STOP])
    data = bytes(range(100, 120))
    with BufferedWriter(raw, 8) as file:
        file.write(b"123456")
        with pytest.raises(Interrupted) as caught:
            file.write(data)
        assert caught.value.transferred == 5
        file.write(data[5:])
    assert raw.taken == b"123456" + data


def test_a_timeout_in_a_large_write_has_what_was_taken_in_partial() -> None:
    """After a timeout the bytes that were taken are in `partial`, and their count is where to go on."""
    raw = Scripted([5, TIME_OUT])
    with BufferedWriter(raw, 8) as file:
        with pytest.raises(Stalled) as caught:
            file.write(b"0123456789abcdef")
        assert caught.value.partial == b"01234"
        file.write(b"56789abcdef")
    assert raw.taken == b"0123456789abcdef"


def test_writelines_counts_over_all_lines() -> None:
    """An interrupted `writelines` says how many bytes of all lines were taken."""
    raw = Scripted([STOP])
    with BufferedWriter(raw, 4) as file:
        with pytest.raises(Interrupted) as caught:
            file.writelines([b"ab", b"cd", b"ef"])
        assert caught.value.transferred == 4
        file.write(b"ef")
    assert raw.taken == b"abcdef"


def test_any_mixture_of_writes_and_stops_writes_all_bytes_once() -> None:
    """Whatever writes and flushes are interrupted where, going on at `transferred` writes the whole."""
    chance = random.Random(7)
    for _ in range(150):
        raw = Scripted(chance.choice([STOP, TIME_OUT, 1, 2, 3, 7, 20]) for _ in itertools.count())
        whole = bytes(chance.choices(b"abcdefgh", k=200))
        file = BufferedWriter(raw, chance.choice([1, 4, 8, 16]))
        rest = whole
        while rest:
            data = rest[: chance.randint(1, 40)]
            try:
                if chance.random() < 0.2:
                    file.flush()
                    continue
                done = file.write(data)
            except Interrupted as stopped:
                done = stopped.transferred or 0
            except Stalled as stalled:
                done = len(stalled.partial)
            except TimeoutError:
                done = 0
            rest = rest[done:]
        raw.script = itertools.repeat(3)
        file.close()
        assert raw.taken == whole


def test_a_close_that_is_interrupted_closes_and_tells_what_it_could_not_write() -> None:
    """The raw file is closed in any case; the bytes that were not written are in `partial`."""
    raw = Scripted([2, STOP])
    file = BufferedWriter(raw, 8)
    file.write(b"123456")
    with pytest.raises(Interrupted) as caught:
        file.close()
    assert (caught.value.partial, raw.taken) == (b"3456", b"12")
    assert raw.closed
    assert file.closed
    file.close()


def test_a_close_that_times_out_tells_the_same() -> None:
    """As with a stop, but as `Stalled`."""
    raw = Scripted([2, TIME_OUT])
    file = BufferedWriter(raw, 8)
    file.write(b"123456")
    with pytest.raises(Stalled) as caught:
        file.close()
    assert caught.value.partial == b"3456"
    assert raw.closed


def test_a_stop_that_is_set_before_the_call_touches_nothing() -> None:
    """Every method raises at once, even for bytes that are in the buffer, and gives them once the stop is away."""
    raw = Scripted([b"abc\nde"])
    stop = StopEvent()
    with BufferedReader(raw) as file:
        file.stop = stop
        assert file.read(1) == b"a"
        stop.set("enough")
        calls: list[Callable[[], Any]] = [
            lambda: file.read(1),
            file.read,
            file.readline,
            file.readlines,
            file.read1,
            file.peek,
            lambda: file.readinto(bytearray(1)),
            lambda: file.readinto1(bytearray(1)),
            lambda: next(file),
        ]
        for call in calls:
            with pytest.raises(Interrupted, match="enough"):
                call()
        file.stop = None
        with use_stop(stop):
            for call in calls:
                with pytest.raises(Interrupted, match="enough"):
                    call()
        assert file.read() == b"bc\nde"


def test_a_write_with_the_stop_set_takes_nothing() -> None:
    """`write` and `flush` raise at once, and the write says 0."""
    raw = Scripted([])
    stop = StopEvent()
    with BufferedWriter(raw) as file:
        file.stop = stop
        file.write(b"a")
        stop.set()
        with pytest.raises(Interrupted) as caught:
            file.write(b"b")
        assert caught.value.transferred == 0
        with pytest.raises(Interrupted):
            file.flush()
        assert raw.taken == b""
        file.stop = None
    assert raw.taken == b"a"


def test_a_second_thread_is_told_that_the_object_is_busy(background: Callable[..., Any]) -> None:
    """While a thread is inside the raw file, calls of another raise instead of waiting for the C code's lock."""
    inside, go_on = threading.Event(), threading.Event()

    class Waits(Scripted):
        def readinto(self, buffer: Any) -> int:
            inside.set()
            assert go_on.wait(20)
            return super().readinto(buffer)

    with BufferedReader(Waits([b"abc"])) as file:
        reader = background(file.read)
        assert inside.wait(20)
        for call in (lambda: file.read(1), file.readline, file.peek, lambda: file.readinto(bytearray(1)), file.close):
            with pytest.raises(ResourceBusy, match="another thread is blocked"):
                call()
        go_on.set()
        assert reader.result() == b"abc"


def test_detach_gives_the_raw_file_and_leaves_it_open() -> None:
    """What `detach` and `raw` give is the raw file that was put in, and it survives the buffered object."""
    raw = Scripted([b"abc"])
    file = BufferedReader(raw)
    assert file.raw is raw
    assert file.detach() is raw
    with pytest.raises(ValueError, match="detached"):
        file.read()
    del file
    assert not raw.closed
    raw.close()


def test_what_a_foreign_raw_file_says_passes_through() -> None:
    """A raw file that is non-blocking and has nothing gives None, as it does with the standard class."""

    class Nothing(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, _buffer: Any) -> None:
            return None

    with BufferedReader(Nothing()) as ours, io.BufferedReader(Nothing()) as standard:
        assert ours.read(3) is standard.read(3) is None
        assert ours.read() is standard.read() is None
        assert ours.read1(3) == standard.read1(3) == b""


def test_names_and_attributes_are_those_of_the_standard_class(tmp_path: Any) -> None:
    """`name`, `mode`, `fileno`, `closed` and `repr` come through from the raw file."""
    path = os.fspath(tmp_path / "file")
    with BufferedWriter(io.FileIO(path, "w")) as file:
        assert isinstance(file, io.BufferedWriter)
        assert (file.name, file.mode, file.fileno(), file.closed) == (path, "wb", file.raw.fileno(), False)
        assert repr(file) == f"<BufferedWriter name={path!r}>"
        assert not file.isatty()
        file.raw.close()
        assert file.closed
