"""`BufferedRandom`: one position for reads and writes, whatever is stopped. The other buffered classes are in `test_buffered.py`."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from iointerrupt import Interrupted
from iointerrupt._streams.updating import BufferedRandom


def test_random_access_reads_and_writes_over_stops(tmp_path: Any) -> None:
    """A `BufferedRandom` keeps its one position over both."""

    class Raw(io.FileIO):
        stops = 0

        def readinto(self, buffer: Any) -> int:
            self.step()
            return super().readinto(memoryview(buffer)[:3]) or 0

        def write(self, data: Any) -> int:
            self.step()
            return super().write(memoryview(data)[:3]) or 0

        def step(self) -> None:
            self.stops += 1
            if self.stops % 3 == 0:
                raise Interrupted

    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 3)

    def retry(call: Callable[[], Any]) -> Any:
        while True:
            try:
                return call()
            except Interrupted:
                pass

    with BufferedRandom(Raw(path, "r+"), 4) as file:
        file.seek(8)
        retry(lambda: file.write(b"AB"))
        retry(file.flush)
        data = b""
        while len(data) < 6:
            try:
                data += file.read(6 - len(data))
            except Interrupted as stopped:
                data += stopped.partial or b""  # type: ignore[operator]  # bytes, from a binary file
        assert data == b"012345"
        assert file.tell() == 16
        retry(lambda: file.write(b"C"))
        retry(file.flush)
    assert path.read_bytes() == b"01234567AB012345C789" + b"0123456789"


def filling(method: str, size: int) -> Callable[[Any], bytes]:
    """An operation that fills a buffer, and tells what it has filled of it as `read` does."""

    def fill(file: Any) -> bytes:
        buffer = bytearray(size)
        try:
            return bytes(buffer[: getattr(file, method)(buffer)])
        except Interrupted as stopped:
            stopped.partial = bytes(buffer[: stopped.transferred or 0])
            raise

    return fill


BEHIND_WRITES: dict[str, Callable[[Any], bytes]] = {
    "read(n) of what is there": lambda file: file.read(2),
    "read(n) of more": lambda file: file.read(6),
    "read(n) of more than the buffer": lambda file: file.read(20),
    "read()": lambda file: file.read(),
    "read(None)": lambda file: file.read(None),
    "read1(n)": lambda file: file.read1(3),
    "readline()": lambda file: file.readline(),
    "readline(n)": lambda file: file.readline(6),
    "readlines()": lambda file: b"".join(file.readlines()),
    "readinto of what is there": filling("readinto", 2),
    "readinto of more": filling("readinto", 20),
    "readinto1": filling("readinto1", 20),
    "peek": lambda file: file.peek() and b"",
}


@pytest.mark.parametrize("read", BEHIND_WRITES.values(), ids=BEHIND_WRITES)
@pytest.mark.parametrize("stopped_at", [1, 2, 3, 4])
def test_a_read_that_is_stopped_in_writing_the_buffer_has_taken_what_it_tells(
    tmp_path: Any, read: Callable[[Any], bytes], stopped_at: int
) -> None:
    """What had been read ahead is in the error of a read that is stopped in writing what is buffered, or is read by the next."""

    class Raw(io.FileIO):
        writes = 0

        def write(self, data: Any) -> int:
            self.writes += 1
            if self.writes == stopped_at:
                raise Interrupted
            return super().write(memoryview(data)[:1]) or 0

    content = b"0123456789abc\ndefghijk"
    path = tmp_path / "file"
    path.write_bytes(content)
    with BufferedRandom(Raw(path, "r+"), 8) as file:
        assert file.read(1) + file.peek() == content[:9]
        file.write(b"ABC")
        content = content[:1] + b"ABC" + content[4:]
        try:
            data = read(file)
        except Interrupted as stopped:
            data = stopped.partial or b""  # type: ignore[assignment]  # bytes, from a binary file
        assert file.tell() == 4 + len(data)
        file.raw.writes = stopped_at  # what has read no more than was there has written nothing, and is not stopped
        assert data + file.read() == content[4:]
    assert path.read_bytes() == content


def test_seek_tells_where_it_is_after_a_flush_that_was_stopped(tmp_path: Any) -> None:
    """What `seek` returns is the position, also where a stopped flush has left the raw file before the buffer's end."""

    class Raw(io.FileIO):
        is_stopped = True

        def write(self, data: Any) -> int:
            if self.is_stopped:
                raise Interrupted
            return super().write(data) or 0

    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with BufferedRandom(Raw(path, "r+"), 8) as file:
        assert file.peek() == b"01234567"
        file.write(b"A")
        with pytest.raises(Interrupted):
            file.flush()
        assert file.seek(0) == file.tell() == 0
        assert file.seek(3, io.SEEK_CUR) == file.tell() == 3
        file.raw.is_stopped = False
        assert file.read(2) == b"34"
    assert path.read_bytes() == b"A123456789"
