"""`iointerrupt copy`: what it copies and refuses, what a stop leaves, and how the next run goes on with it."""

from __future__ import annotations

import ctypes
import errno
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
from iointerrupt._files import beside, copying

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
        (["source", "dangling"], "iointerrupt: source: dangling is there already; --overwrite replaces it"),
        (["--overwrite", "source", "device"], "iointerrupt: source: device is in the way: it is no regular file"),
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
    (tmp_path / "dangling").symlink_to("outside")
    (tmp_path / "device").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "fifo")
    before = sorted(tmp_path.iterdir())
    assert cli.main(["copy", *arguments]) == 1
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", f"{says}\n")
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there").read_bytes() == b"mine"


@pytest.mark.usefixtures("source")
def test_overwrites(tmp_path):
    """--overwrite replaces a file; of a link, the link itself, and what it leads to is left alone."""
    (tmp_path / "there").write_bytes(b"old")
    (tmp_path / "link").symlink_to("there")
    (tmp_path / "dangling").symlink_to("outside")
    for name in ("link", "dangling", "there"):
        assert cli.main(["copy", "--quiet", "--overwrite", "source", name]) == 0
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_bytes() == CONTENT
        assert (tmp_path / "there").read_bytes() == (CONTENT if name == "there" else b"old")
    assert not (tmp_path / "outside").exists()


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


PLACES_BESIDE = {
    "link": lambda path: path.symlink_to("outside"),
    "fifo": os.mkfifo,
    "file": lambda path: path.write_bytes(b"[" * 200_000),
    "unreadable": lambda path: path.write_bytes(b"\xff{}"),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("suffix", [".part.json", ".part.json.new"])
@pytest.mark.parametrize("make", PLACES_BESIDE.values(), ids=PLACES_BESIDE.keys())
def test_in_place_of_the_record(tmp_path, capsys, suffix, make):
    """What somebody has put there is neither followed, nor waited for, nor believed; a folder is the only thing in the way."""
    (tmp_path / "outside").write_bytes(b"mine")
    place = tmp_path / f"copy{suffix}"
    make(place)
    if place.is_dir():
        assert cli.main(["copy", "source", "copy"]) == 1
        assert capsys.readouterr().err.startswith("iointerrupt: source: copy.part.json")
        assert sorted(path.name for path in tmp_path.iterdir()) == [place.name, "outside", "source"]
    else:
        assert cli.main(["copy", "source", "copy"]) == 0
        assert (tmp_path / "copy").read_bytes() == CONTENT
        assert not os.path.lexists(place)
    assert (tmp_path / "outside").read_bytes() == b"mine"


@pytest.mark.usefixtures("small_chunks", "source")
@pytest.mark.parametrize("make", PLACES_BESIDE.values(), ids=PLACES_BESIDE.keys())
def test_in_place_of_the_record_of_a_part(tmp_path, capsys, make):
    """A part whose record is no longer one may be of anything, and is left alone."""
    stopped_copy()
    os.unlink(tmp_path / "copy.part.json")
    make(tmp_path / "copy.part.json")
    assert cli.main(["copy", "source", "copy"]) == 1
    assert "copy.part is in the way: it is not of a copy" in capsys.readouterr().err
    assert (tmp_path / "copy.part").read_bytes() == CONTENT[:30_000]


@pytest.mark.usefixtures("small_chunks", "source")
def test_who_may_read_the_record(tmp_path):
    """The record is its owner's alone, as is the part until it is complete."""
    stopped_copy()
    for name in ("copy.part", "copy.part.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def meanwhile(change):
    """A progress that makes a change once some of the copy is there."""
    changes = iter([change])

    def progress(done, _size, _start):
        if done >= 50_000:
            next(changes, lambda: None)()

    return progress


def copy_while(change, **options):
    """Copy `source` to `copy`, and make a change once some of it is there."""
    changes = iter([change])

    def progress(done, _size, _start):
        if done >= 50_000:
            next(changes, lambda: None)()

    return parts.copy(
        "source", "copy", **{"stop": StopEvent(), "overwrite": False, "resume": True, "progress": progress, **options}
    )


@pytest.mark.usefixtures("small_chunks", "source")
@pytest.mark.parametrize("is_link", [False, True])
def test_what_came_meanwhile(tmp_path, is_link):
    """What came into the place of the copy while it grew is kept, and not written through; so is the part."""
    outside, copy = tmp_path / "outside", tmp_path / "copy"
    outside.write_bytes(b"mine")
    with pytest.raises(parts.CopyError, match="copy is there already; --overwrite replaces it"):
        copy_while(lambda: copy.symlink_to(outside) if is_link else copy.write_bytes(b"mine"))
    assert (outside.read_bytes(), copy.read_bytes(), copy.is_symlink()) == (b"mine", b"mine", is_link)
    copied = parts.copy("source", "copy", stop=StopEvent(), overwrite=True, resume=True, progress=lambda *_: None)
    assert copied.resumed_from == len(CONTENT)
    assert (outside.read_bytes(), copy.read_bytes(), copy.is_symlink()) == (b"mine", CONTENT, False)


@pytest.mark.usefixtures("small_chunks", "source")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_no_file_that_came_meanwhile(tmp_path, make):
    """What is no file is not replaced in the end, even by --overwrite."""
    with pytest.raises(parts.CopyError, match="copy is in the way: it is no regular file"):
        copy_while(lambda: make(tmp_path / "copy"), overwrite=True)
    assert not (tmp_path / "copy").is_file()


def without_renameat2():
    """The call on a file system that does not have it."""
    return lambda *_names: errno.EINVAL


def missing_library(*_arguments, **_options):
    """What ctypes says on a system whose library does not have it."""
    raise OSError


@pytest.mark.usefixtures("source")
@pytest.mark.parametrize("has_call", [True, False])
def test_what_came_in_the_last_moment(tmp_path, monkeypatch, has_call):
    """What came after the last look is kept too, on file systems that leave it to a further look as well."""
    call = beside._renameat2() if has_call else without_renameat2()

    def late(path, name):
        (tmp_path / "copy").write_bytes(b"mine")
        return call(path, name)

    monkeypatch.setattr(beside, "_renameat2", lambda: late)
    assert cli.main(["copy", "--quiet", "source", "copy"]) == 1
    assert (tmp_path / "copy").read_bytes() == b"mine"
    assert (tmp_path / "copy.part").read_bytes() == CONTENT


@pytest.mark.usefixtures("source")
def test_file_systems_that_only_rename(tmp_path, monkeypatch):
    """Where a rename that does not replace is not to be had, a copy gets its name all the same."""
    monkeypatch.setattr(beside, "_renameat2", without_renameat2)
    assert cli.main(["copy", "--quiet", "source", "copy"]) == 0
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "source"]


@pytest.mark.usefixtures("source")
def test_the_rename_that_does_not_replace(tmp_path):
    """The kernel itself refuses a name that something has, and gives one that nothing has."""
    (tmp_path / "there").write_bytes(b"mine")
    assert beside._renameat2()("source", "there") == errno.EEXIST
    assert beside._renameat2()("source", "new") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "there"]


def test_systems_that_only_rename(monkeypatch):
    """So it is where the system itself has no such call."""
    monkeypatch.setattr(ctypes, "CDLL", missing_library)
    assert beside._renameat2.__wrapped__()("a", "b") == errno.ENOSYS


@pytest.mark.usefixtures("small_chunks", "source")
def test_part_with_another_name(tmp_path, capsys):
    """A part that is another file as well is not written to."""
    stopped_copy()
    os.link(tmp_path / "copy.part", tmp_path / "other")
    assert cli.main(["copy", "source", "copy"]) == 1
    assert "copy.part is in the way: the file has another name too" in capsys.readouterr().err
    assert (tmp_path / "other").read_bytes() == CONTENT[:30_000]


@pytest.mark.usefixtures("small_chunks", "source")
def test_part_that_was_taken_away(tmp_path):
    """What is put in the place of the part while it grows does not become the copy, nor get its times and permissions."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    before = outside.stat()

    def swap():
        (tmp_path / "copy.part").unlink()
        (tmp_path / "copy.part").symlink_to(outside)

    with pytest.raises(parts.CopyError, match=r"copy\.part was taken away while it was copied to"):
        copy_while(swap)
    after = outside.stat()
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert not os.path.lexists(tmp_path / "copy")


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
