"""`iointerrupt copy`: what it copies and refuses, what a stop leaves, and how the next run goes on with it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import stat
import subprocess
import sys

import pytest

from iointerrupt import Interrupted, StopEvent, cli
from iointerrupt._cli import parts
from iointerrupt._files import copying

CONTENT = bytes(range(256)) * 400


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A file to copy, in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    path.chmod(0o640)
    os.utime(path, ns=(1_600_000_000_000_000_000, 1_600_000_000_123_456_789))
    return path


@pytest.fixture
def small_chunks(monkeypatch):
    """The kernel copies so little at a time that there is something in between."""
    monkeypatch.setattr(copying, "KERNEL_CHUNK", 10_000)


def stopped_copy(at=30_000, **options):
    """Copy `source` to `copy`, and stop once so much of it is there."""
    stop = StopEvent()

    def progress(done, _size, _start):
        if done >= at:
            stop.set()

    with pytest.raises(Interrupted):
        parts.copy(
            "source", "copy", **{"stop": stop, "overwrite": False, "resume": True, "progress": progress, **options}
        )


def events(capsys):
    """What was printed as JSON."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_copies(source, tmp_path, capsys):
    """The copy has the bytes, the times and the permissions, and nothing is left beside it; a line says so."""
    assert cli.main(["copy", "source", "copy"]) == 0
    copy = tmp_path / "copy"
    assert copy.read_bytes() == CONTENT
    assert copy.stat().st_mtime_ns == source.stat().st_mtime_ns
    assert stat.S_IMODE(copy.stat().st_mode) == 0o640
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "source"]
    shown = capsys.readouterr()
    assert shown.out.startswith("copy  100.0 KiB  ")
    assert shown.err == ""


def test_into_a_folder(source, tmp_path):
    """A folder stands for a file of the same name in it."""
    (tmp_path / "folder").mkdir()
    assert cli.main(["copy", "--quiet", str(source), "folder"]) == 0
    assert (tmp_path / "folder" / "source").read_bytes() == CONTENT


def test_empty(tmp_path, capsys):
    """A file without a byte is copied too."""
    (tmp_path / "nothing").touch()
    assert cli.main(["copy", "--json", str(tmp_path / "nothing"), str(tmp_path / "copy")]) == 0
    assert (tmp_path / "copy").read_bytes() == b""
    assert [event["event"] for event in events(capsys)] == ["start", "done", "summary"]


def test_whose_size_is_not_told():
    """A file of /proc, which says that it has no bytes, is copied with those that it has."""
    assert cli.main(["copy", "--quiet", "/proc/version", "/dev/shm/iointerrupt-version"]) == 0
    try:
        with open("/proc/version", "rb") as there, open("/dev/shm/iointerrupt-version", "rb") as copy:
            assert there.read() == copy.read()
    finally:
        os.unlink("/dev/shm/iointerrupt-version")


@pytest.mark.usefixtures("small_chunks", "source")
def test_resumes_after_a_stop(tmp_path, capsys):
    """A stop leaves the part, and the next run copies the rest alone."""
    stopped_copy()
    assert (tmp_path / "copy.part").read_bytes() == CONTENT[:30_000]
    assert not (tmp_path / "copy").exists()
    assert cli.main(["copy", "--json", "source", "copy"]) == 0
    assert (tmp_path / "copy").read_bytes() == CONTENT
    start, *_, done, summary = events(capsys)
    assert (start["event"], start["done"], start["source"], start["path"]) == ("start", 30_000, "source", "copy")
    assert (done["event"], done["resumed_from"], done["size"]) == ("done", 30_000, len(CONTENT))
    assert summary["bytes"] == len(CONTENT) - 30_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "source"]


@pytest.mark.usefixtures("small_chunks", "source")
def test_says_where_it_resumed(capsys):
    """The line of a copy that was resumed says from where."""
    stopped_copy()
    assert cli.main(["copy", "source", "copy"]) == 0
    assert capsys.readouterr().out.rstrip().endswith("resumed from 29.3 KiB")


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("change", ["content", "time", "another file", "boot", "no-resume", "longer part"])
def test_begins_anew(source, tmp_path, monkeypatch, change):
    """What was copied of another state of the source, or before the machine was started anew, is not gone on with."""
    stopped_copy()
    part = tmp_path / "copy.part"
    part.write_bytes(b"x" * part.stat().st_size)  # would be seen in the copy
    options = []
    if change == "content":
        source.write_bytes(CONTENT[::-1])
    elif change == "time":
        os.utime(source)
    elif change == "another file":
        times = source.stat().st_mtime_ns
        os.replace(source, tmp_path / "old")
        source.write_bytes(CONTENT)
        os.utime(source, ns=(times, times))
    elif change == "boot":
        monkeypatch.setattr(parts, "boot", lambda: "another one")
    elif change == "longer part":
        part.write_bytes(b"x" * (len(CONTENT) + 1))
    else:
        options = ["--no-resume"]
    assert cli.main(["copy", "--quiet", *options, "source", "copy"]) == 0
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


@pytest.mark.usefixtures("small_chunks", "source")
def test_kept_while_the_source_changes(tmp_path, capsys):
    """A file that is written to while it is copied is no copy of anything: an error, and nothing is left."""

    def progress(done, _size, _start):
        if done == 50_000:
            (tmp_path / "source").write_bytes(CONTENT[::-1])

    with pytest.raises(parts.CopyError, match="changed while it was copied"):
        parts.copy("source", "copy", stop=StopEvent(), overwrite=False, resume=True, progress=progress)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["source", "there"], "iointerrupt: source: there is there already; --overwrite replaces it"),
        (["source", "source"], "iointerrupt: source: source is the same file"),
        (["source", "link"], "iointerrupt: source: link is the same file"),
        (["source", "."], "iointerrupt: source: ./source is the same file"),
        ([".", "copy"], "iointerrupt: .: it is a folder, and copy takes one file; cp -r copies folders"),
        (["fifo", "copy"], "iointerrupt: fifo: it is a device, a pipe or the like, and copy takes regular files"),
        (["source", "fifo"], "iointerrupt: source: fifo is in the way: it is no regular file"),
        (["nothing", "copy"], "iointerrupt: nothing: No such file or directory"),
        (["source", "no/copy"], "iointerrupt: source: there is no folder no"),
        (["source", "no/"], "iointerrupt: source: there is no folder no"),
    ],
)
def test_refuses(tmp_path, capsys, arguments, says):
    """What it does not do is said in one line, and nothing is changed."""
    (tmp_path / "there").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("source")
    os.mkfifo(tmp_path / "fifo")
    before = sorted(tmp_path.iterdir())
    assert cli.main(["copy", *arguments]) == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"{says}\n")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there").read_bytes() == b"mine"


@pytest.mark.usefixtures("source")
def test_overwrites(tmp_path):
    """--overwrite replaces a file; a link stays one, and what it points to is replaced."""
    (tmp_path / "there").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there")
    assert cli.main(["copy", "--quiet", "--overwrite", "source", "link"]) == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there").read_bytes() == CONTENT


@pytest.mark.usefixtures("source")
def test_another_part(tmp_path, capsys):
    """A file that is called as the part would be, and is none of a copy, is not touched."""
    (tmp_path / "copy.part").write_bytes(b"of a download")
    (tmp_path / "copy.part.json").write_text('{"url": "https://example.org/"}')
    assert cli.main(["copy", "source", "copy"]) == 1
    assert "copy.part is in the way: it is not of a copy" in capsys.readouterr().err
    assert (tmp_path / "copy.part").read_bytes() == b"of a download"


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("what", ["folder", "link"])
def test_no_part(tmp_path, capsys, what):
    """Neither a folder nor a link in the place of the part is followed."""
    if what == "folder":
        (tmp_path / "copy.part").mkdir()
    else:
        (tmp_path / "copy.part").symlink_to("elsewhere")
    assert cli.main(["copy", "source", "copy"]) == 1
    assert "copy.part is in the way: it is no file" in capsys.readouterr().err
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.usefixtures("small_chunks", "source")
def test_two_at_once(tmp_path, capsys):
    """A second copy to the same place is refused while the first is at it."""
    stopped_copy()
    with open(tmp_path / "copy.part", "rb") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        assert cli.main(["copy", "source", "copy"]) == 1
    assert "another copy is at" in capsys.readouterr().err
    assert (tmp_path / "copy.part").read_bytes() == CONTENT[:30_000]


@pytest.mark.usefixtures("source")
def test_part_that_was_finished_meanwhile(tmp_path, monkeypatch):
    """A part that another process has renamed between the opening and the lock is not written to."""
    (tmp_path / "copy.part").touch()
    lock = fcntl.flock

    def late(fd, how):
        if (tmp_path / "copy.part").exists() and not (tmp_path / "finished").exists():
            os.replace(tmp_path / "copy.part", tmp_path / "finished")
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", late)
    assert cli.main(["copy", "--quiet", "source", "copy"]) == 0
    assert (tmp_path / "finished").read_bytes() == b""
    assert (tmp_path / "copy").read_bytes() == CONTENT


@pytest.mark.usefixtures("source")
def test_no_room(tmp_path, monkeypatch, capsys):
    """A full disk is named, and what was copied is kept for the next run."""

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copying, "copy_data", full)
    assert cli.main(["copy", "source", "copy"]) == 1
    assert capsys.readouterr().err == "iointerrupt: source: No space left on device\n"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]  # there was nothing to keep


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal(tmp_path, number, code):
    """A signal ends it, the part is kept, and the command that is printed completes the copy."""
    with open(tmp_path / "a file", "wb") as file:
        file.truncate(64 << 30)
    child = subprocess.Popen(
        [sys.executable, "-m", "iointerrupt", "copy", "--json", "a file", "copy"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with child:
        while json.loads(child.stdout.readline())["event"] != "progress":
            pass
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
    assert child.returncode == code
    *_, stopped, summary = map(json.loads, out.splitlines())
    assert stopped["event"] == "stopped"
    assert summary == {**summary, "event": "summary", "stopped": 1, "exit": code}
    assert err == "stopped: 0 of 1 done; to resume:\n  iointerrupt copy --json 'a file' copy\n"
    assert (tmp_path / "copy.part").stat().st_size >= stopped["done"] > 0
    os.truncate(tmp_path / "copy.part", 0)
