"""`calls.run`: what `subprocess.run` does, and the end of a command, its output and its children when the stop comes."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys

import pytest

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, calls, files, use_stop
from iointerrupt.testing import StopAfter, signal_when_blocked, wait_until_blocked

PIPE = subprocess.PIPE


@pytest.fixture(params=["pidfd", "asking"])
def way(request, monkeypatch):
    """How the end of a command is learned: from the kernel's descriptor, or where there is none, by asking."""
    if request.param == "asking":

        def missing(pid):
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(os, "pidfd_open", missing)


@pytest.fixture
def fifo(tmp_path):
    """A FIFO, by which a command says where it is."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return str(path)


def python(code):
    """A command that runs some Python."""
    return [sys.executable, "-c", code]


class Stopped:
    """A command that is stopped once it has written to the FIFO."""

    def __init__(self, background, fifo, script, **options):
        self.stop = StopEvent()
        options = {"stdout": PIPE, "grace": 20} | options
        command = ["sh", "-c", script.replace("READY", f"echo ready > {fifo}")]
        self._running = background(calls.run, command, stop=self.stop, **options)
        assert files.read_bytes(fifo, timeout=20) == b"ready\n"
        self.stop.set("enough")

    def error(self):
        """What it raised."""
        error = self._running.error()
        assert type(error) is Interrupted
        assert error.reason == "enough"
        return error


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (["echo", "hello"], {}),
        (["echo", "hello"], {"stdout": PIPE}),
        (["echo", "hello"], {"capture_output": True, "text": True}),
        (["cat"], {"input": b"abc\x00\xff", "capture_output": True}),
        (["cat"], {"input": "ä\r\nö\n", "stdout": PIPE, "encoding": "utf-8"}),
        (["cat"], {"input": b"", "capture_output": True}),
        (["cat"], {"stdin": PIPE, "stdout": PIPE}),
        (["cat"], {"stdin": subprocess.DEVNULL, "stdout": PIPE}),
        (["cat"], {"input": memoryview(b"abc"), "stdout": PIPE}),
        ("echo out; echo err >&2; exit 3", {"shell": True, "capture_output": True, "universal_newlines": True}),
        ("echo out; echo err >&2", {"shell": True, "stdout": PIPE, "stderr": subprocess.STDOUT}),
        ("printf 'a\\r\\nb\\rc'", {"shell": True, "stdout": PIPE, "text": True}),
        ("kill -9 $$", {"shell": True}),
        (["sh", "-c", "echo $VARIABLE; pwd"], {"env": {"VARIABLE": "value"}, "cwd": "/", "stdout": PIPE}),
        (["true"], {"stdin": PIPE, "input": None}),
        ("exec <&-; echo deaf", {"shell": True, "input": bytes(1 << 20), "stdout": PIPE}),
        ("exec >&-; true", {"shell": True, "stdout": PIPE}),
    ],
)
@pytest.mark.parametrize("make_stop", [lambda: None, StopEvent])
def test_as_subprocess_run(args, options, make_stop, way, capfd):
    """What it returns is what subprocess.run returns."""
    ours = calls.run(args, stop=make_stop(), **options)
    standard = subprocess.run(args, **options)
    assert repr(ours) == repr(standard)


def test_much_in_both_directions():
    """Neither side waits for the other: what goes in comes out, however much it is."""
    data = os.urandom(5_000_000)
    done = calls.run(
        python("import sys; d = sys.stdin.buffer.read(); sys.stderr.buffer.write(d); sys.stdout.buffer.write(d)"),
        input=data,
        capture_output=True,
        stop=StopEvent(),
    )
    assert done.stdout == done.stderr == data


def test_the_errors_of_subprocess_run():
    """A command that fails, one that does not exist, options that contradict: the same errors."""
    with pytest.raises(subprocess.CalledProcessError) as caught:
        calls.run("echo out; exit 3", shell=True, check=True, stdout=PIPE)
    assert (caught.value.returncode, caught.value.output) == (3, b"out\n")
    with pytest.raises(FileNotFoundError, match="no-such-command"):
        calls.run(["no-such-command"])
    with pytest.raises(PermissionError):
        calls.run(["/"])
    with pytest.raises(ValueError, match="stdin and input arguments may not both be used"):
        calls.run(["cat"], input=b"", stdin=PIPE)
    with pytest.raises(ValueError, match="may not be used with capture_output"):
        calls.run(["cat"], capture_output=True, stdout=PIPE)
    with pytest.raises(TypeError):
        calls.run(["true"], no_such_option=1)
    with pytest.raises(UnicodeDecodeError):
        calls.run(["printf", r"\377"], stdout=PIPE, encoding="utf-8")
    with pytest.raises(ValueError, match="grace must be 0 or more"):
        calls.run(["true"], grace=-1)


def test_a_start_that_the_system_gives_up(monkeypatch):
    """It is the system's TimeoutError, and none of a command that has run."""

    def popen(*args, **kwargs):
        raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(TimeoutError) as caught:
        calls.run(["true"], stdout=PIPE)
    assert caught.value.errno == errno.ETIMEDOUT


def test_output_that_cannot_be_decoded_ends_nobody(holder):
    """The command has ended, and who is left of its group is not ended for that."""
    killed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "killpg", lambda *args: killed.append(args))
        script = rf"printf '\377'; exec >&-; {holder}"
        with pytest.raises(UnicodeDecodeError):
            calls.run(["sh", "-c", script], stdout=PIPE, encoding="utf-8", start_new_session=True)
    assert not killed


def test_wrong_input_starts_nothing(tmp_path):
    """Text where bytes are wanted is refused, and no command is left."""
    with pytest.raises(TypeError, match="input must be bytes, not str"):
        calls.run(["cat"], input="text", stdout=PIPE)
    with pytest.raises(TypeError):
        calls.run(["cat"], input=1, stdout=PIPE)


def test_a_stop_before(tmp_path):
    """With the stop set, nothing is started."""
    stop, path = StopEvent(), tmp_path / "made"
    stop.set()
    with pytest.raises(Interrupted):
        calls.run(["touch", path], stop=stop)
    with use_stop(stop), pytest.raises(Interrupted):
        calls.run(["touch", path])
    assert not path.exists()


@pytest.mark.parametrize("n", range(1, 12))
def test_a_stop_at_each_check(n, way):
    """At whatever check it is stopped, what it has written by then is in the result or in the exception."""
    try:
        assert calls.run(["echo", "hello"], stdout=PIPE, stop=StopAfter(n)).stdout == b"hello\n"
    except Interrupted as error:
        assert b"hello\n".startswith(error.partial or b"")


def test_a_stop_while_it_runs(background, fifo, way):
    """It is told by SIGTERM; its output is in partial, and how it ended in the cause."""
    error = Stopped(background, fifo, "echo out; echo err >&2; READY; exec sleep 100", stderr=PIPE).error()
    assert error.partial == b"out\n"
    cause = error.__cause__
    assert isinstance(cause, subprocess.CalledProcessError)
    assert (cause.returncode, cause.output, cause.stderr) == (-signal.SIGTERM, b"out\n", b"err\n")


def test_last_words(background, fifo, way):
    """What it writes and how it exits when it is told to end counts."""
    error = Stopped(
        background, fifo, "trap 'echo bye; exit 7' TERM; echo out; READY; while :; do sleep 0.01; done"
    ).error()
    assert error.partial == b"out\nbye\n"
    assert error.__cause__.returncode == 7


def test_one_that_ignores_it(background, fifo, way):
    """A command that does not want to end is killed after the grace."""
    error = Stopped(background, fifo, "trap '' TERM; echo out; READY; while :; do sleep 0.01; done", grace=0.1).error()
    assert error.partial == b"out\n"
    assert error.__cause__.returncode == -signal.SIGKILL


def test_no_grace(background, fifo):
    """With a grace of 0 it is killed at once."""
    error = Stopped(background, fifo, "trap '' TERM; READY; while :; do sleep 0.01; done", grace=0).error()
    assert error.__cause__.returncode == -signal.SIGKILL


def test_one_that_writes_more_than_a_pipe_holds(background, fifo):
    """Its pipe is read while it ends, so that it can."""
    script = "trap 'head -c 1000000 /dev/zero; exit 0' TERM; READY; while :; do sleep 0.01; done"
    error = Stopped(background, fifo, script).error()
    assert len(error.partial) == 1_000_000
    assert error.__cause__.returncode == 0


def test_text(background, fifo):
    """In text mode partial is text, also where the stop came in the middle of a character or its bytes are wrong."""
    script = r"printf 'a\r\nb\377\303\244\303'; READY; exec sleep 100"
    error = Stopped(background, fifo, script, encoding="utf-8").error()
    assert error.partial == "a\nb\ufffdä"


def test_no_pipe(background, fifo):
    """Where the output went elsewhere there is no partial."""
    error = Stopped(background, fifo, "READY; exec sleep 100", stdout=subprocess.DEVNULL).error()
    assert error.partial is None


@pytest.fixture
def holder(tmp_path):
    """A part of a script that leaves behind a grandchild, which holds the pipe until the test is over."""
    path = tmp_path / "holder"
    os.mkfifo(path)
    yield f"(read line < {path}) &"
    files.open(path, "wb", timeout=20).close()


def test_a_grandchild_that_holds_the_pipe(background, fifo, holder, way):
    """A stop does not wait for whoever has inherited the pipe."""
    error = Stopped(background, fifo, f"{holder} echo out; READY; exec sleep 100").error()
    assert error.partial == b"out\n"


def test_a_command_that_has_ended_but_for_its_pipe(background, fifo, holder, way):
    """As with subprocess.run, the end is that of the pipe; but a stop ends that wait."""
    error = Stopped(background, fifo, f"{holder} echo out; READY").error()
    assert error.partial == b"out\n"
    assert error.__cause__.returncode in {0, -signal.SIGTERM}


@pytest.mark.parametrize("option", [{"start_new_session": True}, {"process_group": 0}])
def test_a_group_ends_as_a_whole(option, background, fifo):
    """A command that leads a group is stopped with its children, those that ignore SIGTERM included."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    script = "(trap '' TERM; while :; do sleep 0.01; done) & (sleep 100 & wait) & READY; exec sleep 100"
    stopped = Stopped(background, fifo, script, pass_fds=[writer], **option)
    os.close(writer)
    assert stopped.error().__cause__.returncode == -signal.SIGTERM
    # The pipe is at its end once none of them is left who could write to it.
    assert files.read_bytes(reader, timeout=20) == b""
    os.close(reader)


def test_input_is_not_ended_by_a_stop(background, fifo, tmp_path):
    """A command that is given input never takes a stop for the end of that."""
    target = tmp_path / "copy"
    script = f"trap '' TERM; READY; cat > {target}; echo complete > {target}.done"
    Stopped(background, fifo, script, input=bytes(10_000_000), grace=0.2).error()
    assert not (tmp_path / "copy.done").exists()


def test_a_deadline():
    """It is raised as such, with the output so far."""
    with pytest.raises(DeadlineExceeded) as caught:
        calls.run("echo out; exec sleep 100", shell=True, stdout=PIPE, stop=StopEvent(timeout=0.3))
    assert caught.value.partial == b"out\n"


def test_a_timeout(way):
    """It is a TimeoutExpired and a TimeoutError, and carries what the former carries."""
    with pytest.raises(subprocess.TimeoutExpired, match=r"timed out after 0\.3 seconds") as caught:
        calls.run("echo out; echo err >&2; exec sleep 100", shell=True, capture_output=True, timeout=0.3)
    assert isinstance(caught.value, TimeoutError)
    assert isinstance(caught.value, calls.RunTimeout)
    assert (caught.value.output, caught.value.stderr) == (b"out\n", b"err\n")


def test_errors_go_through_a_process_pool():
    """They can be pickled, with all that they carry."""
    error = calls.RunTimeout(["command"], 0.5, b"out", b"err")
    copy = pickle.loads(pickle.dumps(error))
    assert (copy.cmd, copy.timeout, copy.output, copy.stderr) == (["command"], 0.5, b"out", b"err")
    assert str(copy) == str(error)
    assert "command" in repr(copy)
    for kind in (calls.GetTimeout, calls.PutTimeout):
        assert str(pickle.loads(pickle.dumps(kind("why")))) == "why"


def test_a_reason_that_is_an_exception(background, fifo):
    """It stays in the chain of causes."""
    stop, failure = StopEvent(), ValueError("why")
    running = background(calls.run, ["sh", "-c", f"echo > {fifo}; exec sleep 100"], stop=stop)
    files.read_bytes(fifo, timeout=20)
    stop.set(failure)
    error = running.error()
    assert error.reason is failure
    assert error.__cause__.__cause__ is failure


def test_ctrl_c(monkeypatch, ctrl_c):
    """A KeyboardInterrupt kills the command, and passes."""
    made = []
    standard = subprocess.Popen

    def popen(*args, **kwargs):
        made.append(standard(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    with signal_when_blocked(signal.SIGINT), pytest.raises(KeyboardInterrupt):
        calls.run(["sleep", "100"], stop=StopEvent())
    assert made[0].returncode == -signal.SIGKILL


def test_many_at_once(background):
    """Many commands on one stop all end, and none is left."""
    stop = StopEvent()
    running = [background(calls.run, ["sleep", "100"], stop=stop) for _ in range(20)]
    wait_until_blocked(stop, 20)
    stop.set()
    for command in running:
        assert isinstance(command.error(), Interrupted)
