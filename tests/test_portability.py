"""What other systems lack, taken away from a process on this one; and what only they have, played.

`make portability` runs much of the other tests in the same way: see `tests.portability`.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from types import SimpleNamespace

import pytest

from iointerrupt import Interrupted, StopEvent, downloads, sockets, use_stop
from iointerrupt._cli import parts
from iointerrupt._files import growing, locking, system
from iointerrupt._monkey.sockets import PatchedSocket
from iointerrupt._signal import by_select
from iointerrupt._sockets import socket as socket_module
from iointerrupt.testing import FaultServer, steps, wait_until_blocked
from tests.portability.__main__ import ROOT, RUNS, environment_without
from tests.portability.absent import NEEDS
from tests.portability.lacking.sitecustomize import PARTS, SYSTEMS

# A tracer loads modules before anything can be taken out of them.
pytestmark = pytest.mark.usefixtures("untraced")


SCENARIO = ROOT / "tests" / "portability" / "scenario.py"
DONE = {
    "recv": "stopped",
    "kept": "True",
    "sendall": "stopped",
    "chunks": "stopped",
    "accept": "stopped",
    "end": "True",
    "http": "stopped",
    "download": "True",
    "copy": "True",
    "hanging disk": "True",
    "patched": "stopped",
    "patched select": "stopped",
    "pipe": "True",
}


@pytest.mark.parametrize(
    ("lacking", "bare_pipe", "run"),
    [
        ("macos", "waited for", "True"),
        ("poll", "waited for", "True"),
        (
            "windows,socketpair,unix",
            (
                "refused: this system cannot wait for a pipe or a terminal; files.wrap takes a file object of it, and reads in a"
                " helper thread"
            ),
            "refused: this system cannot wait for pipes: use calls.call(subprocess.run, ...)",
        ),
    ],
    ids=["macOS", "no poll", "Windows"],
)
def test_a_program_on_another_system(tmp_path, lacking, bare_pipe, run):
    """All public modules are imported, what can work there does, and the rest says that it does not."""
    environment = os.environ | environment_without(lacking)
    environment["PYTHONPATH"] += os.pathsep + str(ROOT)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SCENARIO), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=environment,
    )
    assert done.stderr == ""
    said = dict(line.split(": ", 1) for line in done.stdout.splitlines())
    assert said == {**DONE, "bare pipe": bare_pipe, "run": run}


class TestSelect:
    """Where there is no poll."""

    def test_what_is_ready(self):
        """Of several descriptors those that are ready are told, each once."""
        near, far = socket.socketpair()
        with near, far:
            far.send(b"x")
            assert by_select.poll([near.fileno(), far.fileno()], [far.fileno()], 0) == {near.fileno(), far.fileno()}
            assert by_select.poll([far.fileno()], [], 0) == set()

    def test_a_number_that_is_too_high(self):
        """A descriptor from 1024 on is refused with the reason."""
        with pytest.raises(OSError, match="this system has no poll") as caught:
            by_select.poll([5000], [], 0)
        assert caught.value.errno == errno.EINVAL

    def test_a_negative_number(self):
        """One that cannot be a descriptor is refused as by poll."""
        with pytest.raises(ValueError, match="negative"):
            by_select.poll([-1], [], 0)

    def test_one_that_is_closed(self):
        """One that is not open is an error as well."""
        reader, writer = os.pipe()
        os.close(reader)
        os.close(writer)
        with pytest.raises(OSError) as caught:
            by_select.poll([reader], [], 0)
        assert caught.value.errno == errno.EBADF


class TestLocks:
    """The lock of Windows' C library in the place of flock."""

    @pytest.fixture
    def held(self, monkeypatch):
        """Which descriptors have the lock, of all the same file."""
        held = []

        def locking_(fd, kind, count):
            assert (os.lseek(fd, 0, os.SEEK_CUR), count) == (locking._BEYOND, 1)
            if kind == 0:
                held.remove(fd)
            elif held:
                raise PermissionError(errno.EACCES, "Permission denied")
            else:
                held.append(fd)

        monkeypatch.setattr(locking, "fcntl", None)
        monkeypatch.setattr(locking, "msvcrt", SimpleNamespace(LK_NBLCK=2, LK_UNLCK=0, locking=locking_))
        return held

    def test_the_second_is_refused(self, tmp_path, held):
        """A part that somebody has is refused, until it is closed; and the file stands where it stood."""
        path = str(tmp_path / "part")
        first = growing.open_locked(path, 0o600)
        assert held == [first]
        assert os.lseek(first, 0, os.SEEK_CUR) == 0
        with pytest.raises(growing.TakenError):
            growing.open_locked(path, 0o600)
        growing.close_locked(first)
        growing.close_locked(growing.open_locked(path, 0o600))
        assert held == []

    def test_none_at_all(self, tmp_path, monkeypatch):
        """Where there are no locks, whoever comes has the part."""
        monkeypatch.setattr(locking, "fcntl", None)
        fds = [growing.open_locked(str(tmp_path / "part"), 0o600) for _ in range(2)]
        for fd in fds:
            growing.close_locked(fd)

    def test_a_link_without_o_nofollow(self, tmp_path, monkeypatch):
        """A link in the place of a part is refused, also where the system would follow it."""
        monkeypatch.setattr(growing, "NOFOLLOW", 0)
        (tmp_path / "part").symlink_to("elsewhere")
        with pytest.raises(growing.NoFileError):
            growing.open_locked(str(tmp_path / "part"), 0o600)
        assert not (tmp_path / "elsewhere").exists()


class TestOpenFilesKeepTheirNames:
    """Windows neither renames nor removes a file that somebody has open."""

    @pytest.fixture(autouse=True)
    def no_name_of_an_open_file_goes(self, monkeypatch):
        """What renames and removes fails as there, for parts."""
        monkeypatch.setattr(growing, "RENAMES_OPEN_FILES", False)
        for name in ("replace", "rename", "unlink"):
            monkeypatch.setattr(os, name, self.refusing(getattr(os, name)))

    def refusing(self, call):
        """The same call, but for a part that is open."""

        def refuse(path, *rest, **options):
            if str(path).endswith(".part"):
                found = os.stat(path)
                for number in range(3, 200):
                    try:
                        is_it = os.path.samestat(os.fstat(number), found)
                    except OSError:
                        continue
                    if is_it:
                        raise PermissionError(errno.EACCES, "it is open", path)
            return call(path, *rest, **options)

        return refuse

    def test_a_download(self, tmp_path):
        """A download has closed its part when that gets its name, or is removed."""
        with FaultServer([steps.expect(), steps.head(200, length=3), steps.send(b"abc")]) as server:
            assert downloads.download(f"{server.url}/file", tmp_path / "file").size == 3
        with FaultServer([steps.expect(), steps.head(404, length=0)]) as server, pytest.raises(downloads.DownloadError):
            downloads.download(f"{server.url}/other", tmp_path / "other")
        assert os.listdir(tmp_path) == ["file"]

    def test_a_copy(self, tmp_path, monkeypatch):
        """So has a copy of the command line; and what belongs to a file goes by its name where it cannot go by its number."""
        monkeypatch.setattr(os, "supports_fd", os.supports_fd - {os.utime})
        (tmp_path / "source").write_bytes(b"abc")
        os.utime(tmp_path / "source", (1, 2))
        options = {"stop": StopEvent(), "overwrite": False, "resume": True, "progress": lambda *_: None}
        assert parts.copy(str(tmp_path / "source"), str(tmp_path / "copy"), **options).size == 3
        assert os.stat(tmp_path / "copy").st_mtime == 2
        (tmp_path / "empty").touch()
        with parts.closing(parts.Part(str(tmp_path / "x.part"), str(tmp_path / "x.part.json"))):
            pass
        assert sorted(os.listdir(tmp_path)) == ["copy", "empty", "source"]


class TestSystem:
    """`_files.system`, where the calls are there and where they are not."""

    @pytest.mark.parametrize("name", ["", "pread", "fdatasync", "fstatvfs", "O_DIRECTORY"])
    def test_each_does_the_same(self, tmp_path, monkeypatch, name):
        """What stands in the place of a call does what that does."""
        if name:
            monkeypatch.delattr(os, name)
            monkeypatch.delattr(os, "pwrite" if name == "pread" else name, raising=False)
        path = str(tmp_path / "file")
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        assert system.pwrite(fd, b"abc", 2) == 3
        assert system.pread(fd, 10, 1) == b"\0abc"
        system.datasync(fd)
        system.sync_folder(str(tmp_path))
        assert system.bytes_left(fd, path) > 0
        assert system.bytes_taken(fd) >= 0
        os.close(fd)


def test_the_outcome_of_a_connect_by_its_error(monkeypatch):
    """Where another connect(2) does not tell, SO_ERROR does: of one that succeeds and of one that fails."""
    monkeypatch.setattr(socket_module, "_ASKS_BY_CONNECTING", False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        with sockets.create_connection(address, timeout=30) as client:
            assert client.getpeername() == address
    with pytest.raises(ConnectionRefusedError):
        sockets.create_connection(address, timeout=30)


def test_a_patched_socket_with_a_timeout_is_stopped_in_sendall():
    """Its first call under a stop takes the timeout from the C class, which would wait for it and see no stop."""
    plain, far = socket.socketpair()
    near = PatchedSocket(fileno=plain.detach())
    stop, sent = StopEvent(), []

    def send():
        with use_stop(stop), pytest.raises(Interrupted) as caught:
            near.sendall(bytes(50_000_000))
        sent.append(caught.value.transferred)

    with near, far:
        near.settimeout(60)
        thread = threading.Thread(target=send)
        thread.start()
        wait_until_blocked(stop)
        stop.set()
        thread.join()
    assert 0 < sent[0] < 50_000_000


def test_the_lists_are_of_what_there_is():
    """Each test that is said to need something is there, and each run takes away what has a name."""
    for part, names in NEEDS.items():
        assert part in PARTS
        for name in names:
            file, *rest = name.split("::")
            text = (ROOT / "tests" / file).read_text()
            for each in rest:
                assert f"class {each}" in text or f"def {each}(" in text, name
    for words, stems in RUNS.values():
        assert set(words.split(",")) <= PARTS.keys() | SYSTEMS.keys()
        assert all((ROOT / "tests" / f"test_{stem}.py").exists() for stem in stems)
