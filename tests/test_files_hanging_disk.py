"""`abandon_on_stop` on a real file system that hangs in the kernel, where no signal and no poll would end a call."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from iointerrupt import Interrupted, Stalled, StopEvent, abandoned_helpers, files
from iointerrupt.testing import wait_until_blocked

CONTENT = b"0123456789" * 20_000


def why_not() -> str | None:
    """Why there can be no such file system here."""
    if not os.path.exists("/dev/fuse"):
        return "there is no /dev/fuse"
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        return "/dev/fuse may not be opened"
    if shutil.which("fusermount3") is None:
        return "there is no fusermount3 (Debian: fuse3)"
    return None


pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


class HangingDisk:
    """The mounted file system: `file` is in it, and what reads or writes that waits until `answer`."""

    def __init__(self, folder: Path, program: subprocess.Popen[str]) -> None:
        self.file = folder / "file"
        self.lost = folder / "lost"
        self._program = program

    def wait_until(self, word: str) -> None:
        """Until the program says this next."""
        assert self._program.stdout is not None
        assert self._program.stdout.readline() == f"{word}\n"

    def answer(self, what: str = "answer") -> None:
        """Answer all that waits now; with "always", all that comes later as well."""
        assert self._program.stdin is not None
        self._program.stdin.write(f"{what}\n")
        self._program.stdin.flush()
        self.wait_until("answered")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[HangingDisk]:
    """A disk of its own for each test, which ends whatever is still stuck in it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = [sys.executable, str(Path(__file__).with_name("hanging_disk.py")), str(folder)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        assert program.stderr is not None
        if program.stdout.readline() != "ready\n":
            pytest.skip(f"it cannot be mounted: {program.stderr.read().strip()}")
        try:
            yield HangingDisk(folder, program)
        finally:
            # With the program goes the connection, and every call that waits on it fails.
            program.stdin.close()
            program.wait(20)
            subprocess.run(["fusermount3", "-uz", str(folder)], check=True, capture_output=True)


@pytest.mark.parametrize("buffering", [-1, 0, 1000])
def test_a_read_that_hangs_is_left_behind_and_loses_nothing(
    disk: HangingDisk, buffering: int, background: Callable[..., Any]
) -> None:
    """The stop ends it; the position has not moved; the late answer goes nowhere; the next reads give the whole."""
    stop = StopEvent()
    with files.open(disk.file, "rb", buffering, stop=stop, abandon_on_stop=True) as file:
        reading = background(file.read, 100)
        disk.wait_until("waiting")
        wait_until_blocked(stop)
        stop.set("enough")
        error = reading.error()
        assert (error.reason, error.partial) == ("enough", None)
        assert abandoned_helpers() == 1
        assert file.tell() == 0
        disk.answer("always")
        file.stop = None
        assert file.read(100) == CONTENT[:100]
        assert file.read() == CONTENT[100:]
        assert file.tell() == len(CONTENT)


def test_a_close_does_not_wait_for_what_hangs(disk: HangingDisk, background: Callable[..., Any]) -> None:
    """It returns at once, and the number stays taken for as long as the call that hangs uses it."""
    stop = StopEvent()
    file = files.open(disk.file, "rb", stop=stop, abandon_on_stop=True)
    number = file.fileno()
    reading = background(file.read, 100)
    disk.wait_until("waiting")
    wait_until_blocked(stop)
    stop.set()
    assert isinstance(reading.error(), Interrupted)
    file.close()
    assert file.closed
    os.fstat(number)  # still open; that it is closed in the end is checked after every test
    file.stop = None
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_text_over_what_hangs(disk: HangingDisk, background: Callable[..., Any]) -> None:
    """Text that is read so cannot seek, and loses nothing."""
    stop = StopEvent()
    with files.open(disk.file, encoding="ascii", stop=stop, abandon_on_stop=True) as file:
        assert not file.seekable()
        reading = background(file.read, 5)
        disk.wait_until("waiting")
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(reading.error(), Interrupted)
        disk.answer("always")
        file.stop = None
        assert file.read(12) == "012345678901"


def test_text_that_is_read_and_written_is_refused(tmp_path: Path) -> None:
    """Its read-ahead and its position could not be brought together."""
    with pytest.raises(io.UnsupportedOperation, match="abandon_on_stop"):
        files.open(tmp_path / "file", "w+", abandon_on_stop=True)


def test_an_open_that_hangs_is_left_behind(disk: HangingDisk, background: Callable[..., Any]) -> None:
    """The look-up of the name never returns; the stop ends the open, and what it would have opened is closed."""
    stop = StopEvent()
    opening = background(files.open, disk.lost, "rb", stop=stop, abandon_on_stop=True)
    disk.wait_until("waiting")
    wait_until_blocked(stop)
    stop.set()
    assert isinstance(opening.error(), Interrupted)
    disk.answer()


def test_a_write_that_hangs_can_be_repeated(disk: HangingDisk, background: Callable[..., Any]) -> None:
    """The same bytes to the same place, whether the first attempt has arrived by then or not."""
    stop = StopEvent()
    with files.open(disk.file, "r+b", 0, stop=stop, abandon_on_stop=True) as file:
        file.seek(5)
        writing = background(file.write, b"abc")
        disk.wait_until("waiting")
        wait_until_blocked(stop)
        stop.set()
        assert writing.error().transferred == 0
        disk.answer("always")
        file.stop = None
        assert file.write(b"abc") == 3
        file.seek(0)
        assert file.read(10) == b"01234abc89"


def test_a_close_with_bytes_to_write_tells_which(disk: HangingDisk, background: Callable[..., Any]) -> None:
    """With the stop set it does not wait for the disk, and what is not known to be written is in `partial`."""
    stop = StopEvent()
    file = files.open(disk.file, "r+b", stop=stop, abandon_on_stop=True)
    file.write(b"abc")
    stop.set()
    with pytest.raises(Interrupted) as caught:
        file.close()
    assert caught.value.partial == b"abc"


def test_a_timeout_ends_a_read_that_hangs(disk: HangingDisk) -> None:
    """`timeout` is for each call of the disk."""
    with files.open(disk.file, "rb", timeout=0.3, abandon_on_stop=True) as file:
        with pytest.raises(TimeoutError) as caught:
            file.read(10)
        assert not isinstance(caught.value, Stalled)
        disk.wait_until("waiting")
        disk.answer("always")


def test_without_hanging_it_is_a_file_like_any_other(tmp_path: Path) -> None:
    """Every mode gives what `open` gives, through the helpers."""
    path = tmp_path / "file"
    for mode, data in (("wb", b"abc"), ("ab", b"def"), ("r+b", b"G"), ("xb", b"new")):
        if mode == "xb":
            path.unlink()
        with files.open(path, mode, abandon_on_stop=True) as file:
            file.write(data)
            assert file.tell() == file.seek(0, os.SEEK_CUR)
    assert path.read_bytes() == b"new"
    with files.open(path, "a+b", 0, abandon_on_stop=True) as file:
        assert file.tell() == 3
        file.seek(0)
        assert file.write(b"!") == 1
        assert file.tell() == 4
        file.seek(-2, os.SEEK_END)
        assert file.readall() == b"w!"
        assert file.truncate(2) == 2
        assert repr(file) == f"<iointerrupt._files.disk.DiskFile name={str(path)!r} mode='ab+'>"
        with pytest.raises(OSError, match="Invalid argument"):
            file.seek(-1)
        with pytest.raises(ValueError, match="whence"):
            file.seek(0, 7)
    assert path.read_bytes() == b"ne"
    with files.open(os.open(path, os.O_RDONLY), "rb", abandon_on_stop=True) as file:
        target = bytearray(10)
        assert file.readinto(target) == 2
        assert target[:2] == b"ne"
