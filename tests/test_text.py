"""Text over the buffered classes: over every encoding, line end and way of reading, no stop loses or repeats a character."""

from __future__ import annotations

import io
import itertools
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iointerrupt import Interrupted, Stalled, StopEvent, files, use_stop
from iointerrupt._streams.buffered import BufferedReader, BufferedWriter
from iointerrupt._streams.pair import BufferedRWPair
from iointerrupt._streams.text import StreamText, open_text
from iointerrupt.testing import StopAfter, wait_until_blocked

NEWLINES = [None, "", "\n", "\r", "\r\n"]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-32-le", "latin-1", "shift_jis", "iso2022_jp"]
TEXT = "Grüße\r\nzwei\n\rdrei\rvier\r\n\r\nfünf\n"


def text_for(encoding: str) -> str:
    """The text, in the letters that the encoding has."""
    return TEXT.replace("ü", "本").replace("ß", "ー") if encoding in {"shift_jis", "iso2022_jp"} else TEXT


class Pieces(io.RawIOBase):
    """A raw stream that gives these pieces, one for each read, and is interrupted before each of them that is None."""

    def __init__(self, pieces: list[bytes | None]) -> None:
        self.pieces = pieces

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self.pieces:
            return 0
        piece = self.pieces.pop(0)
        if piece is None:
            raise Interrupted
        buffer[: len(piece)] = piece
        return len(piece)


def stream(pieces: list[bytes | None], encoding: str = "utf-8", newline: str | None = None) -> Any:
    """A text stream over such a raw stream."""
    file = open_text(BufferedReader(Pieces(pieces), 16), encoding, newline=newline)
    assert isinstance(file, StreamText)
    return file


def standard(data: bytes, encoding: str, newline: str | None) -> io.TextIOWrapper:
    """The same text in a standard object."""
    return io.TextIOWrapper(io.BytesIO(data), encoding, newline=newline)


WAYS: dict[str, Callable[[Any], Any]] = {
    "read": lambda f: f.read(),
    "lines": list,
    "readlines": lambda f: f.readlines(),
    "readline": lambda f: list(iter(f.readline, "")),
    "readline(3)": lambda f: list(iter(lambda: f.readline(3), "")),
    "read(1)": lambda f: list(iter(lambda: f.read(1), "")),
    "read(4)": lambda f: list(iter(lambda: f.read(4), "")),
    "mixed": lambda f: [f.read(2), f.readline(), f.readline(2), next(f, None), f.read(0), f.read(5), f.read()],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("newline", NEWLINES)
def test_a_stream_reads_as_the_standard_class_does(newline: str | None, way: str) -> None:
    """Byte by byte or in larger pieces, what is read is what `io.TextIOWrapper` reads, `newlines` included."""
    for encoding, size in itertools.product(ENCODINGS, (1, 3, 16)):
        data = text_for(encoding).encode(encoding)
        expected = standard(data, encoding, newline)
        with stream([data[i : i + size] for i in range(0, len(data), size)], encoding, newline) as file:
            assert WAYS[way](file) == WAYS[way](expected)
            if way == "read":
                assert file.newlines == expected.newlines


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_stops_in_a_stream_lose_no_character(encoding: str) -> None:
    """With a stop before every byte, what `partial` and the results have between them is the whole text."""
    data = text_for(encoding).encode(encoding)
    reads = (lambda f: f.read(), lambda f: f.readline(), lambda f: f.read(3), lambda f: "".join(f.readlines()))
    for newline, read in itertools.product(NEWLINES, reads):
        whole = standard(data, encoding, newline).read()
        got = ""
        with stream([piece for i in range(len(data)) for piece in (None, data[i : i + 1])], encoding, newline) as file:
            while len(got) < len(whole):
                try:
                    got += read(file)
                except Interrupted as stopped:
                    got += stopped.partial or ""  # type: ignore[operator]  # text, from a text file
        assert got == whole


def test_half_a_character_stays_in_the_decoder() -> None:
    """A stop between the two bytes of a character loses neither."""
    with stream([b"a\xc3", None, b"\xa9b\n"]) as file:
        with pytest.raises(Interrupted) as caught:
            file.readline()
        assert (caught.value.partial, caught.value.transferred) == ("a", 1)
        assert file.readline() == "éb\n"


def test_a_line_over_many_reads() -> None:
    """A line of many pieces comes whole, with a line end that is cut in two."""
    pieces: list[bytes | None] = [b"x" * 16] * 1000
    with stream([*pieces, b"\r", b"\nrest\r\n"], newline="\r\n") as file:
        assert file.readline() == "x" * 16000 + "\r\n"
        assert file.readline() == "rest\r\n"
        assert file.readline() == ""


def test_a_stream_says_what_it_cannot_do() -> None:
    """It does not seek, and its decoding is settled by the first read."""
    with stream([b"abc"]) as file:
        assert isinstance(file, io.TextIOWrapper)
        assert not file.seekable()
        with pytest.raises(io.UnsupportedOperation):
            file.tell()
        file.reconfigure(encoding="latin-1", newline="")
        assert file.encoding == "latin-1"
        assert file.read(1) == "a"
        with pytest.raises(io.UnsupportedOperation):
            file.reconfigure(encoding="utf-8")
        file.reconfigure(line_buffering=True)
        assert file.line_buffering
        with pytest.raises(io.UnsupportedOperation):
            file.write("x")
    with pytest.raises(ValueError, match="closed file"):
        file.read()


def test_a_broken_encoding_is_an_error_in_a_stream_too() -> None:
    """Bytes that are no text raise, or are replaced, and the end of half a character counts."""
    with stream([b"ab\xff"]) as file, pytest.raises(UnicodeDecodeError):
        file.read()
    with stream([b"ab\xc3"]) as file, pytest.raises(UnicodeDecodeError):
        file.read()
    with open_text(BufferedReader(Pieces([b"ab\xc3"])), "utf-8", "replace") as file:
        assert file.read() == "ab\ufffd"


@pytest.mark.parametrize("newline", NEWLINES)
def test_a_regular_file_that_is_stopped_at_every_check_loses_no_character(
    tmp_path: Path, newline: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever a stop comes, `partial` and the next reads make the whole, and `tell` still leads back."""
    monkeypatch.setattr("iointerrupt._streams.text._PORTION", 7)
    path = tmp_path / "text"
    path.write_bytes(TEXT.encode() * 20)
    with open(path, newline=newline, encoding="utf-8") as file:
        whole = file.read()

    def lines(file: Any) -> str:
        return "".join(file.readlines())

    for read in (lambda f: f.read(), lambda f: f.read(30), lambda f: f.readline(), lines):
        for n in itertools.count(1):
            stop = StopAfter(n)
            got = ""
            with files.open(path, newline=newline, encoding="utf-8") as file:
                file.stop = stop
                try:
                    while part := read(file):
                        got += part
                except Interrupted as stopped:
                    got += stopped.partial or ""  # type: ignore[operator]  # text, from a text file
                file.stop = None
                place = file.tell() if read is not lines else None  # which iterates, and so switches tell off
                rest = file.read()
                assert got + rest == whole
                if place is not None:
                    file.seek(place)
                    assert file.read() == rest
            if not stop.is_set() or n > 40:
                break


def test_a_long_line_is_read_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is longer than a portion comes whole, whatever its end and wherever that is cut."""
    monkeypatch.setattr("iointerrupt._streams.text._PORTION", 5)
    path = tmp_path / "text"
    for newline, length in itertools.product(["\n", "\r", "\r\n", ""], range(1, 17)):
        lines = [f"{'x' * length}{newline or chr(10)}", f"{'y' * (length + 3)}{newline or chr(10)}", "z" * length]
        path.write_bytes("".join(lines).encode())
        with files.open(path, newline=newline) as file:
            assert list(file) == lines
            file.seek(0)
            assert [file.readline(length + 2) for _ in range(2)] == [
                lines[0][: length + 2],
                (lines[0][length + 2 :] or lines[1])[: length + 2],
            ]


def test_reads_of_a_regular_file_are_those_of_the_standard_class(tmp_path: Path) -> None:
    """Random reads, seeks and writes give the same in a standard file and in ours."""
    chance = random.Random(9)
    pair = []
    for name, opens in (("standard", open), ("ours", files.open)):
        (tmp_path / name).write_bytes(TEXT.encode() * 30)
        pair.append(opens(tmp_path / name, "r+", encoding="utf-8", newline=""))
    cookies = [0]
    for _ in range(400):
        kind, size = chance.choice(["read", "readline", "seek", "tell", "write", "next"]), chance.randint(0, 20)
        cookie = chance.choice(cookies)
        results: list[Any] = []
        for file in pair:
            if kind == "read":
                results.append(file.read(size))
            elif kind == "readline":
                results.append(file.readline(size))
            elif kind == "next":
                results.append(next(file, None))
                file.seek(cookie)
            elif kind == "seek":
                results.append(file.seek(cookie))
            elif kind == "tell":
                results.append(file.tell())
            elif size > 15:
                file.seek(0, 2)
                results.append(file.write("é\n" * size))
        assert results[:1] == results[1:]
        if kind == "tell":
            cookies.append(results[0])
    for file in pair:
        file.close()
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "standard").read_bytes()


def test_an_interrupted_text_write_has_taken_all_of_its_text(background: Callable[..., Any]) -> None:
    """`transferred` is the length of the text; what the pipe did not take goes out with the next flush."""
    reader, writer = os.pipe()
    stop = StopEvent()
    text = "ü" * 200_000
    with files.open(reader, encoding="utf-8") as source, files.open(writer, "w", encoding="utf-8", stop=stop) as file:
        written = background(file.write, text)
        wait_until_blocked(stop)
        stop.set()
        error = written.error()
        assert (type(error), error.transferred, error.partial) == (Interrupted, len(text), None)
        with pytest.raises(Interrupted) as refused:
            file.write("more")
        assert refused.value.transferred == 0
        with pytest.raises(Interrupted):
            file.flush()
        file.stop = None
        read = background(source.read)
        file.write("end")
        file.close()
        assert read.result() == text + "end"


def test_a_text_close_with_the_stop_set_writes_a_regular_file(tmp_path: Path) -> None:
    """What was pending in the text layer and in the buffer is in the file."""
    stop = StopEvent()
    with files.open(tmp_path / "text", "w", stop=stop) as file:
        file.write("a" * 10_000)
        file.write("b")
        stop.set()
    assert (tmp_path / "text").read_text() == "a" * 10_000 + "b"


def test_a_text_close_with_the_stop_set_tells_what_a_pipe_did_not_take() -> None:
    """`partial` has the encoded text that is lost, and the descriptor is closed."""
    reader, writer = os.pipe()
    stop = StopEvent()
    file = files.open(writer, "w", encoding="utf-8", stop=stop)
    os.set_blocking(reader, False)
    filled = 0
    with open(os.dup(writer), "wb", 0) as raw:
        while True:
            os.set_blocking(raw.fileno(), False)
            count = raw.write(b"x" * 65536)
            if not count:
                break
            filled += count
        os.set_blocking(raw.fileno(), True)
    file.write("grün")
    stop.set()
    with pytest.raises(Interrupted) as caught:
        file.close()
    assert caught.value.partial == "grün".encode()
    assert file.closed
    assert len(os.read(reader, 1 << 20)) == filled
    os.close(reader)


def test_a_timeout_in_a_text_read_has_the_text(background: Callable[..., Any]) -> None:
    """After a timeout the text that had come is in `partial`."""
    reader, writer = os.pipe()
    with files.open(reader, encoding="utf-8", timeout=0.01) as file, open(writer, "wb", 0) as other:
        other.write("hä".encode())
        with pytest.raises(Stalled) as caught:
            file.readline()
        assert caught.value.partial == "hä"
        other.write(b"llo\n")
        assert file.readline() == "llo\n"


def test_text_over_a_pair_reads_and_writes() -> None:
    """A text object over a `BufferedRWPair` passes on what was written before it reads, and flushes what it is told to."""
    read_end, write_end = os.pipe()
    reader, writer = io.FileIO(read_end), io.FileIO(write_end, "w")
    with open_text(BufferedRWPair(reader, writer), "utf-8", line_buffering=True) as file:
        assert file.write("a line\n") == 7
        assert file.readline() == "a line\n"
        stop = StopEvent()
        file.stop = stop
        assert file.stop is file.buffer.stop is stop
        stop.set()
        with pytest.raises(Interrupted):
            file.readline()
        file.stop = None
        with use_stop(stop), pytest.raises(Interrupted):
            file.write("x")


def test_detach_gives_the_buffer(tmp_path: Path) -> None:
    """What `buffer` and `detach` give is the binary object that was put in."""
    file = files.open(tmp_path / "text", "w")
    buffer = file.buffer
    assert isinstance(buffer, BufferedWriter)
    file.write("abc")
    assert file.detach() is buffer
    with pytest.raises(ValueError, match="detached"):
        file.write("x")
    buffer.close()
    assert (tmp_path / "text").read_text() == "abc"


LINE_ENDS = Path(__file__).parent.parent / "fixtures" / "line-ends.txt"


@pytest.mark.parametrize("newline", [None, "", "\n", "\r", "\r\n"])
@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_a_stream_is_cut_into_the_lines_that_open_gives(newline, chunk, background):
    """However the bytes of a file with all kinds of line ends arrive through a pipe, its lines are those of `open`."""
    with open(LINE_ENDS, encoding="utf-8", newline=newline) as file:
        expected = list(file)
    reader, writer = os.pipe()

    def write():
        with open(writer, "wb", buffering=0) as pipe:
            data = LINE_ENDS.read_bytes()
            pipe.writelines(data[start : start + chunk] for start in range(0, len(data), chunk))

    writing = background(write)
    with files.open(reader, encoding="utf-8", newline=newline) as stream:
        assert list(stream) == expected
    writing.result()
    with files.open(LINE_ENDS, encoding="utf-8", newline=newline) as file:
        assert list(file) == expected


@pytest.mark.parametrize("read", ["read", "readline", "__next__"])
def test_a_read_after_a_write_goes_on_behind_it(tmp_path: Path, read: str) -> None:
    """What was written goes out before what follows it is read, and each is where it belongs."""
    path = tmp_path / "file"
    path.write_text("0123456789")
    with files.open(path, "r+") as file:
        file.write("abc")
        assert getattr(file, read)() == "3456789"
        file.write("end")
    assert path.read_text() == "abc3456789end"


@pytest.mark.parametrize("room", [False, True])
def test_a_close_tells_no_byte_twice(room: bool, background: Callable[..., Any]) -> None:
    """After a flush and a write that were stopped, the reader's bytes and those in `partial` are all that was written."""
    reader, writer = os.pipe()
    stop = StopEvent()
    file = files.open(writer, "w", 8192, stop=stop)
    full = os.write(writer, b"." * (1 << 16))
    file.write("a" * 100)
    for call in (file.flush, lambda: file.write("b" * 100_000)):
        calling = background(call)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(calling.error(), Interrupted)
        stop.clear()
    if room:
        assert len(os.read(reader, full)) == full
    stop.set()
    with pytest.raises(Interrupted) as caught:
        file.close()
    with open(reader, "rb") as rest:
        data = rest.read() + (caught.value.partial or b"")  # type: ignore[operator]  # of a file, bytes
    assert data.lstrip(b".") == b"a" * 100 + b"b" * 100_000


def test_a_timeout_in_a_flush_is_not_counted_as_text(background: Callable[..., Any]) -> None:
    """A write that timed out while older text went out has its own text whole, and none of it twice."""
    reader, writer = os.pipe()
    stop = StopEvent()
    file = files.open(writer, "w", stop=stop, timeout=0.01)
    full = os.write(writer, b"." * (1 << 16))
    writing = background(lambda: file.write("a" * 200_000))
    assert isinstance(writing.error(), TimeoutError)
    assert len(os.read(reader, full)) == full
    for letter in "bc":
        with pytest.raises(TimeoutError):
            file.write(letter * 200_000)
    file.stop = StopEvent()
    file.stop.set()
    with pytest.raises(Interrupted) as caught:
        file.close()
    with open(reader, "rb") as rest:
        data = rest.read() + (caught.value.partial or b"")  # type: ignore[operator]  # of a file, bytes
    assert data == b"a" * 200_000 + b"b" * 200_000 + b"c" * 200_000


def test_a_stop_is_raised_once() -> None:
    """A stop during a write that took all of its text in the end is not raised by an operation on another stop."""
    reader, writer = os.pipe()
    file = files.open(writer, "w", 8192, newline="", stop=StopEvent(timeout=0.02))
    with pytest.raises(Interrupted):
        file.write("a" * ((1 << 16) + 9000))  # 9000 do not fit the pipe, and wait
    came = os.read(reader, 1 << 16)
    file.stop = StopEvent(timeout=0.02)
    try:
        file.write("b" * 57_248)  # all of which is written, but for some that stays in the buffer
    except Interrupted:
        pass
    came += os.read(reader, 1 << 16)
    file.stop = None
    file.flush()
    file.close()
    with open(reader, "rb") as rest:
        came += rest.read()
    assert came == b"a" * ((1 << 16) + 9000) + b"b" * 57_248
