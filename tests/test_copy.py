"""`files.copy` and `files.copyfileobj`: whole or not at all, and stopped between any two chunks."""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from iointerrupt import Interrupted, StopEvent, files, use_stop
from iointerrupt.testing import StopAfter, wait_until_blocked


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of 100,000 bytes, with a mode and times that are not the usual ones."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(100_000))
    path.chmod(0o640)
    os.utime(path, (1_000_000_000, 1_100_000_000))
    return path


@pytest.fixture(params=["copy_file_range", "sendfile", "read and write"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the ways to copy, by taking away those before it; in small chunks."""
    monkeypatch.setattr("iointerrupt._files.copying.KERNEL_CHUNK", 10_000)
    if request.param != "copy_file_range":
        monkeypatch.setattr("iointerrupt._files.copying._copy_range", None)
    if request.param == "read and write":
        monkeypatch.setattr("iointerrupt._files.copying._send", None)
    return str(request.param)


def names(folder: Path) -> set[str]:
    """What is in the folder."""
    return {path.name for path in folder.iterdir()}


def test_a_copy_is_as_shutil_makes_it(source: Path, tmp_path: Path, way: str) -> None:
    """The same bytes, mode and times; under the name given, or in the folder given; the path is returned."""
    (tmp_path / "folder").mkdir()
    targets: list[Any] = [
        tmp_path / "copy",
        tmp_path / "folder",
        str(tmp_path / "other"),
        os.fsencode(tmp_path / "bytes"),
    ]
    for target in targets:
        path: Any = os.fsencode(source) if isinstance(target, bytes) else source
        expected = shutil.copy2(path, target)
        one = os.stat(expected)
        os.unlink(expected)
        made = files.copy(path, target)
        two = os.stat(made)
        assert os.fspath(made) == os.fspath(expected)
        assert (one.st_mode, one.st_mtime, one.st_size) == (two.st_mode, two.st_mtime, two.st_size)
        assert Path(os.fsdecode(made)).read_bytes() == source.read_bytes()
    assert {n for n in names(tmp_path) if n.startswith(".")} == set()


def test_a_copy_that_is_stopped_leaves_nothing(source: Path, tmp_path: Path, way: str) -> None:
    """Wherever it is stopped: no file under either name, and `transferred` says how far it was."""
    far = set()
    before = names(tmp_path)
    for n in range(1, 100):
        try:
            files.copy(source, tmp_path / "copy", stop=StopAfter(n))
        except Interrupted as stopped:
            far.add(stopped.transferred)
            assert names(tmp_path) == before
        else:
            break
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert {0, 10_000, 90_000, 100_000} <= far


def test_a_copy_that_is_stopped_leaves_the_old_file(source: Path, tmp_path: Path, way: str) -> None:
    """An existing target is replaced in one step or not at all."""
    target = tmp_path / "copy"
    target.write_bytes(b"old")
    with pytest.raises(Interrupted):
        files.copy(source, target, stop=StopAfter(4))
    assert target.read_bytes() == b"old"
    with open(target, "rb") as reader:
        files.copy(source, target)
        assert reader.read() == b"old"
    assert target.read_bytes() == source.read_bytes()


def test_a_stop_after_the_rename_undoes_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the copy has its final name it is done."""
    stop = StopEvent()
    replace = os.replace

    def replace_and_stop(*names: Any) -> None:
        replace(*names)
        stop.set()

    monkeypatch.setattr(os, "replace", replace_and_stop)
    files.copy(source, tmp_path / "copy", stop=stop)
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_progress_is_told_after_each_chunk(source: Path, tmp_path: Path, way: str) -> None:
    """The bytes so far and in all; its own exception ends the copy and leaves nothing."""
    told: list[tuple[int, int]] = []
    files.copy(source, tmp_path / "copy", progress=lambda done, total: told.append((done, total)))
    assert told == [(done, 100_000) for done in range(10_000, 100_001, 10_000)]

    def fail(done: int, total: int) -> None:
        raise LookupError

    before = names(tmp_path)
    with pytest.raises(LookupError):
        files.copy(source, tmp_path / "other", progress=fail)
    assert names(tmp_path) == before


def test_a_disk_that_is_full_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other failure is raised as it is, and the temporary file is removed."""

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("iointerrupt._files.copying._copy_range", full)
    before = names(tmp_path)
    with pytest.raises(OSError, match="No space left"):
        files.copy(source, tmp_path / "copy")
    assert names(tmp_path) == before


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP])
def test_what_the_kernel_refuses_is_copied_in_another_way(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A file system for which one way does not work gets the next."""

    def refuse(*_: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("iointerrupt._files.copying._copy_range", refuse)
    monkeypatch.setattr("iointerrupt._files.copying._send", refuse)
    files.copy(source, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_empty_files_and_those_that_only_seem_so(tmp_path: Path) -> None:
    """An empty file is copied; one of /proc, of size 0, is copied with what it contains."""
    (tmp_path / "empty").touch()
    files.copy(tmp_path / "empty", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b""
    if os.path.exists("/proc/version"):
        files.copy("/proc/version", tmp_path / "version")
        assert (tmp_path / "version").read_bytes() == Path("/proc/version").read_bytes() != b""


def test_links_are_as_shutil_treats_them(source: Path, tmp_path: Path) -> None:
    """Followed by default on both sides; copied as a link with `follow_symlinks=False`."""
    link = tmp_path / "link"
    link.symlink_to(source)
    files.copy(link, tmp_path / "copy")
    assert not (tmp_path / "copy").is_symlink()
    files.copy(link, tmp_path / "link2", follow_symlinks=False)
    assert os.readlink(tmp_path / "link2") == str(source)
    target = tmp_path / "target"
    (tmp_path / "through").symlink_to(target)
    target.write_bytes(b"old")
    files.copy(source, tmp_path / "through")
    assert (tmp_path / "through").is_symlink()
    assert target.read_bytes() == source.read_bytes()


def test_what_cannot_be_copied_is_refused(source: Path, tmp_path: Path) -> None:
    """With the exceptions of shutil and os, and nothing left behind or overwritten."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    os.link(source, tmp_path / "linked")
    before = names(tmp_path)
    with pytest.raises(shutil.SameFileError):
        files.copy(source, source)
    with pytest.raises(shutil.SameFileError):
        files.copy(source, tmp_path / "linked")
    for pair in ((fifo, tmp_path / "copy"), (source, fifo), (source, "/dev/null"), ("/dev/zero", tmp_path / "copy")):
        with pytest.raises(shutil.SpecialFileError):
            files.copy(*pair)
    with pytest.raises(IsADirectoryError):
        files.copy(tmp_path, tmp_path / "copy")
    with pytest.raises(FileNotFoundError):
        files.copy(tmp_path / "missing", tmp_path / "copy")
    with pytest.raises(FileNotFoundError):
        files.copy(source, tmp_path / "missing" / "copy")
    with pytest.raises(TypeError):
        files.copy(None, tmp_path / "copy")  # type: ignore[type-var]  # that is the test
    with pytest.raises(TypeError, match="cannot be a stop"):
        files.copy(source, tmp_path / "copy", stop=5)  # type: ignore[arg-type]  # that is the test
    assert names(tmp_path) == before
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_copyfileobj_copies_and_counts(source: Path) -> None:
    """Between objects of any make, from where they stand."""
    whole = source.read_bytes()
    for opens in (open, files.open):
        target = io.BytesIO()
        told: list[tuple[int, int | None]] = []
        with opens(source, "rb") as file:
            file.seek(10)
            count = files.copyfileobj(file, target, chunk_size=30_000, progress=_append_to(told))
        assert count == len(whole) - 10
        assert target.getvalue() == whole[10:]
        assert told[-1] == (count, None)


def _append_to(told: list[tuple[int, int | None]]) -> Callable[[int, int | None], None]:
    return lambda done, total: told.append((done, total))


def test_copyfileobj_stops_with_an_exact_count(source: Path) -> None:
    """Wherever it is stopped, what is in the target, in `partial` and still in the source is the whole."""
    whole = source.read_bytes()
    for n in range(2, 20):
        target = io.BytesIO()
        with open(source, "rb") as file:
            with pytest.raises(Interrupted) as caught:
                files.copyfileobj(file, target, chunk_size=9_000, stop=StopAfter(n))
            assert caught.value.transferred == len(target.getvalue())
            rest: Any = caught.value.partial or b""
            assert target.getvalue() + rest + file.read() == whole


@pytest.fixture(params=["ours", "standard", "ours, unbuffered", "standard, unbuffered"])
def opens(request: pytest.FixtureRequest) -> Callable[[Path, str], Any]:
    """What opens binary files in one of four ways."""
    how: Callable[..., Any] = files.open if request.param.startswith("ours") else open
    return lambda path, mode: how(path, mode, 0 if request.param.endswith("unbuffered") else -1)


def test_copyfileobj_between_files_where_they_stand(
    source: Path, tmp_path: Path, opens: Callable[[Path, str], Any]
) -> None:
    """Between two files the kernel copies, and afterwards both stand behind it, whatever their buffers had."""
    whole = source.read_bytes()
    target = tmp_path / "target"
    target.write_bytes(b"-" * (len(whole) + 100))
    with opens(source, "rb") as reader, opens(target, "r+b") as writer:
        assert reader.read(3) == whole[:3]  # of more that is in its buffer now
        writer.write(b"begin")  # which may be in its buffer
        assert files.copyfileobj(reader, writer, chunk_size=10_000) == len(whole) - 3
        assert (reader.tell(), reader.read()) == (len(whole), b"")
        assert writer.tell() == len(whole) + 2
        writer.write(b"end")
    assert target.read_bytes() == b"begin" + whole[3:] + b"end" + b"-" * 95


def test_copyfileobj_between_files_stops(source: Path, tmp_path: Path, opens: Callable[[Path, str], Any]) -> None:
    """Stopped between two chunks, both stand behind what was copied, and a second copy goes on there."""
    whole = source.read_bytes()
    for n in range(1, 9):
        with opens(source, "rb") as reader, opens(tmp_path / "target", "wb") as writer:
            writer.write(b"begin")
            with pytest.raises(Interrupted) as caught:
                files.copyfileobj(reader, writer, chunk_size=9_000, stop=StopAfter(n))
            done = caught.value.transferred
            assert done is not None
            assert len(caught.value.partial or b"") == 0
            assert (reader.tell(), writer.tell()) == (done, 5 + done)
            assert files.copyfileobj(reader, writer) == len(whole) - done
        assert (tmp_path / "target").read_bytes() == b"begin" + whole


@pytest.mark.parametrize("which", ["source", "target", "current"])
def test_copyfileobj_between_files_sees_each_stop(source: Path, tmp_path: Path, which: str) -> None:
    """Those of the two files and the current one end it as well, and leave both files behind what was copied."""
    stop = StopEvent()

    def set_it(done: int, _total: int | None) -> None:
        if done > 2500:
            stop.set(which)

    with (
        files.open(source, "rb", stop=stop if which == "source" else None) as reader,
        files.open(tmp_path / "target", "wb", stop=stop if which == "target" else None) as writer,
    ):
        with use_stop(stop if which == "current" else None), pytest.raises(Interrupted, match=which) as caught:
            files.copyfileobj(reader, writer, chunk_size=1000, progress=set_it)
        assert caught.value.transferred == 3000
        assert (reader.tell(), writer.tell()) == (3000, 3000)
        with use_stop(stop if which == "current" else None), pytest.raises(Interrupted) as caught:
            files.copyfileobj(reader, writer)
        assert caught.value.transferred == 0


@pytest.mark.parametrize("how", [open, files.open])
def test_copyfileobj_to_what_progress_writes_to(source: Path, tmp_path: Path, how: Callable[..., Any]) -> None:
    """Who is told of each chunk finds both files behind it, and may write to one and seek in the other."""
    whole = source.read_bytes()
    told = []

    def note(done: int, _total: int | None) -> None:
        told.append((done, reader.tell(), writer.tell()))
        writer.write(b"|")
        if len(told) == 1:
            reader.seek(0)

    with how(source, "rb") as reader, how(tmp_path / "target", "wb") as writer:
        reader.seek(len(whole) - 10_000)
        count = files.copyfileobj(reader, writer, chunk_size=10_000, progress=note)
    assert told[:2] == [(10_000, len(whole), 10_000), (20_000, 10_000, 20_001)]
    assert count == 10_000 + len(whole)
    parts = (tmp_path / "target").read_bytes().replace(b"|", b"")
    assert parts == (whole[-10_000:] + whole).replace(b"|", b"")


def test_copyfileobj_asks_a_stop_under_a_standard_buffer(source: Path, tmp_path: Path) -> None:
    """A raw file of ours obeys its stop also where a buffer of `io` is over it."""
    stop = StopEvent()
    with io.BufferedReader(files.open(source, "rb", buffering=0, stop=stop)) as reader:
        stop.set()
        with open(tmp_path / "target", "wb") as writer, pytest.raises(Interrupted) as caught:
            files.copyfileobj(reader, writer)
    assert caught.value.transferred == 0


@pytest.mark.parametrize("side", ["read", "write"])
def test_copyfileobj_calls_what_was_replaced(source: Path, tmp_path: Path, side: str) -> None:
    """A method that somebody has put in the place of a file's own is called."""
    with open(source, "rb") as reader, open(tmp_path / "target", "wb") as writer:
        file: Any = reader if side == "read" else writer
        with (
            mock.patch.object(file, side, side_effect=OSError(errno.EIO, "replaced")),
            pytest.raises(OSError, match="replaced"),
        ):
            files.copyfileobj(reader, writer)


@pytest.mark.parametrize("ours", [False, True])
def test_copyfileobj_of_what_is_still_to_be_written(tmp_path: Path, ours: bool) -> None:
    """What was written to the source and is in its buffer is copied too."""
    how: Callable[..., Any] = files.open if ours else open
    (tmp_path / "source").write_bytes(b"0123456789")
    with how(tmp_path / "source", "r+b") as source, how(tmp_path / "target", "wb") as target:
        assert source.read(2) == b"01"
        source.write(b"--")
        source.seek(0)
        assert files.copyfileobj(source, target) == 10
    assert (tmp_path / "target").read_bytes() == b"01--456789"


@pytest.mark.parametrize("mode", ["ab", "r+b"])
def test_copyfileobj_where_the_kernel_cannot(source: Path, tmp_path: Path, mode: str) -> None:
    """Behind the end of a file that is appended to, and within one file, it is read and written."""
    whole = source.read_bytes()
    target = tmp_path / "target"
    target.write_bytes(b"first")
    with open(source, "rb") as reader, open(target, mode) as writer:
        writer.seek(0, os.SEEK_END)
        assert files.copyfileobj(reader, writer) == len(whole)
    assert target.read_bytes() == b"first" + whole
    with open(target, "rb") as reader, open(target, "r+b") as writer:
        reader.seek(5)
        assert files.copyfileobj(reader, writer, chunk_size=1 << 20) == len(whole)
    assert target.read_bytes() == whole + whole[-5:]


def test_copyfileobj_of_what_only_seems_empty(tmp_path: Path) -> None:
    """A file of /proc, which has no size and which the kernel copies nothing of, is read."""
    with open("/proc/self/status", "rb") as reader, open(tmp_path / "target", "wb") as writer:
        assert files.copyfileobj(reader, writer) > 100


@pytest.mark.parametrize("ours", [False, True])
@pytest.mark.parametrize("blocked", ["source", "target"])
@pytest.mark.parametrize("current", [False, True])
def test_copyfileobj_stops_while_it_is_blocked(
    blocked: str,
    ours: bool,
    current: bool,
    background: Callable[..., Any],
) -> None:
    """On a source that gives nothing more and on a target that takes nothing more, ours or not, no byte is lost."""
    reader, writer = os.pipe()
    opens: Any = files.open if ours else open
    data = os.urandom(300_000)
    stop = StopEvent()

    copied = threading.Event()

    def copy(source: Any, target: Any) -> Any:
        with use_stop(stop if current else None):
            return files.copyfileobj(source, target, stop=None if current else stop, progress=lambda *_: copied.set())

    if blocked == "source":
        target = io.BytesIO()
        with opens(reader, "rb") as source, open(writer, "wb", 0) as other:
            other.write(b"abc")
            copying = background(copy, source, target)
            assert copied.wait(20)
            wait_until_blocked(stop)
            stop.set()
            assert copying.error().transferred == len(target.getvalue()) == 3
    else:
        with open(reader, "rb") as rest, opens(writer, "wb", 0) as file:
            copying = background(copy, io.BytesIO(data), file)
            wait_until_blocked(stop)
            stop.set()
            error = copying.error()
            assert error.transferred > 0
            file.close()
            assert rest.read() + error.partial == data


def test_copyfileobj_refuses_what_is_not_binary(tmp_path: Path) -> None:
    """Text, and what is no file at all."""
    (tmp_path / "file").touch()
    with open(tmp_path / "file", encoding="utf-8") as text:
        for pair in ((text, io.BytesIO()), (io.BytesIO(), text), (None, io.BytesIO()), (io.BytesIO(), "path")):
            with pytest.raises(TypeError):
                files.copyfileobj(*pair)
    with pytest.raises(ValueError, match="chunk_size"):
        files.copyfileobj(io.BytesIO(), io.BytesIO(), chunk_size=0)


class Stalls:
    """A binary file object with a `stop` of its own meaning, whose calls wait until they are let go."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = data
        self.got = b""
        self.go_on = threading.Event()
        self.done = threading.Event()

    def stop(self) -> None:
        """Nothing that has to do with ours."""

    def seekable(self) -> bool:
        return True

    def read(self, size: int) -> bytes:
        assert self.go_on.wait(20)
        data, self.data = self.data[:size], self.data[size:]
        self.done.set()
        return data

    def write(self, data: bytes) -> int:
        assert self.go_on.wait(20)
        self.got += data
        self.done.set()
        return len(data)


@pytest.mark.parametrize("side", ["source", "target"])
def test_copyfileobj_stops_on_what_only_looks_harmless(side: str, background: Callable[..., Any]) -> None:
    """An object that says it can seek, and has a method `stop`, is not taken for one of ours or for one that never waits."""
    stop = StopEvent()
    stalls = Stalls(b"data")
    pair = (stalls, io.BytesIO()) if side == "source" else (io.BytesIO(b"data"), stalls)
    copying = background(files.copyfileobj, *pair, stop=stop)
    wait_until_blocked(stop)
    stop.set()
    assert isinstance(copying.error(), Interrupted)
    stalls.go_on.set()
    assert stalls.done.wait(20)


class Gives:
    """A source that gives one thing."""

    def __init__(self, thing: object) -> None:
        self.thing = thing

    def read(self, _size: int) -> object:
        return self.thing


@pytest.mark.parametrize(
    ("source", "target", "error", "said"),
    [
        (object(), io.BytesIO(), TypeError, "a binary file object is needed, not object"),
        (SimpleNamespace(write=len), io.BytesIO(), TypeError, "cannot read namespace"),
        (io.BytesIO(b"x"), Gives(b""), TypeError, "cannot write to <"),
        (Gives("text"), io.BytesIO(), TypeError, "it gives str; a binary file object is needed"),
        (Gives(None), io.BytesIO(), BlockingIOError, "the source is non-blocking and has nothing at the moment"),
    ],
)
def test_copyfileobj_says_what_is_wrong(source: Any, target: Any, error: type[Exception], said: str) -> None:
    """What cannot be read or written, gives text, or does not wait, is named."""
    with pytest.raises(error, match=said):
        files.copyfileobj(source, target)
