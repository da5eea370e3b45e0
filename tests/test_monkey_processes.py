"""The part `subprocess` of `monkey`: waiting for a child process, and for its output, stops; nothing that it has said is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from iointerrupt import Interrupted, StopEvent, current_stop, use_stop
from iointerrupt.testing import Operation, signal_when_blocked, wait_until_blocked
from iointerrupt.threads import Thread
from tests.blocking import run_program
from tests.operations import Operations
from tests.patched import patched

OPERATIONS = Operations()
operation = OPERATIONS.operation

# Says something, and ends when it is told to by the end of its standard input.
SAYS = "import sys; print('said', flush=True); sys.stdin.read(); print('more')"


@pytest.fixture(autouse=True, scope="module")
def _patched():
    """All of this module runs patched."""
    with patched():
        yield


def child(code, **pipes):
    """A child process that runs Python code."""
    return subprocess.Popen([sys.executable, "-c", code], text=True, **pipes)


@pytest.fixture
def saying():
    """A child that has said something, and goes on."""
    with child(SAYS, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield process
        process.kill()


def under(work):
    """What runs `work()` with a stop as the current one, besides the one that there may be."""

    def run(stop):
        if (stop := StopEvent(stop, current_stop()) if stop is not None else current_stop()) is not None:
            stop.raise_if_set()
        with use_stop(stop):
            return work()

    return run


@operation
def wait():
    """The end of a child."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield Operation(run=under(process.wait), release=process.terminate)
    finally:
        process.kill()
        process.wait()


@operation
def wait_with_a_timeout():
    """The same, with a limit that is far away."""
    process = subprocess.Popen(["sleep", "600"])
    try:
        yield Operation(run=under(lambda: process.wait(600)), release=process.terminate)
    finally:
        process.kill()
        process.wait()


@operation
def communicate():
    """The output of a child, by one pipe."""
    process = subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE)
    try:
        yield Operation(run=under(lambda: process.communicate()[0]), release=process.terminate, repeats=False)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


test_keeps_the_contract = OPERATIONS.as_test()


def interrupted(work):
    """Do the work in a thread, interrupt it once it is blocked, and return what it raised."""
    raised = []

    def run():
        try:
            work()
        except BaseException as error:
            raised.append(error)

    worker = Thread(target=run)
    worker.start()
    wait_until_blocked(worker.stop)
    worker.interrupt("enough")
    worker.join()
    return raised[0]


@pytest.mark.parametrize("pipes", ["stdout", "stdin", "stdout and stderr", "all"])
def test_it_can_be_continued(pipes):
    """What `communicate` had read is returned by the next one, whichever pipes there are."""
    names = ["stdin", "stdout", "stderr"] if pipes == "all" else pipes.split(" and ")
    code = "import sys; print('one', flush=True); sys.stderr.write('err'); sys.stderr.flush(); sys.stdin.readline(); print('two')"
    gate, opened = os.pipe()
    streams = {"stdin": gate, **dict.fromkeys(("stdout", "stderr"), subprocess.DEVNULL)} | dict.fromkeys(
        names, subprocess.PIPE
    )
    process = subprocess.Popen([sys.executable, "-c", code], **streams)
    with process:
        if "stdin" in names:
            # It waits for a line that communicate has already said will not come: so it is stopped before it can end.
            process.send_signal(19)
        assert isinstance(interrupted(process.communicate), Interrupted)
        if "stdin" in names:
            process.send_signal(18)
        os.write(opened, b"\n")
        out, err = process.communicate()
        assert out == (b"one\ntwo\n" if "stdout" in names else None)
        assert err == (b"err" if "stderr" in names else None)
        assert process.returncode == 0
    os.close(gate)
    os.close(opened)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("lines", [0, 1, 2])
@pytest.mark.parametrize("is_stopped_again", [True, False])
def test_what_is_in_the_buffer(lines, text, is_stopped_again):
    """What has been read ahead of lines that were read from the pipe is in the output, also after a stop in between."""
    process = subprocess.Popen(
        ["sh", "-c", "echo one; echo two; echo three; read x; echo four"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=text,
    )
    stdin, process.stdin = process.stdin, None  # one pipe, as far as communicate knows
    with process:
        read = [process.stdout.readline() for _ in range(lines)]
        assert isinstance(interrupted(process.communicate), Interrupted)
        stdin.close()
        with use_stop(StopEvent() if is_stopped_again else None):
            rest, _ = process.communicate(timeout=None if is_stopped_again else 30)
    said = "".join(read) + rest if text else (b"".join(read) + rest).decode()
    assert said == "one\ntwo\nthree\nfour\n"


def test_ctrl_c_leaves_the_child_some_time(ctrl_c):
    """A Ctrl-C that ends a wait leaves the child, which has had it too, some time, as ever."""
    process = subprocess.Popen(["sleep", "0.2"])
    process._sigint_wait_secs = 30  # of that time, as the machine may be busy
    with signal_when_blocked(signal.SIGINT), use_stop(StopEvent()), pytest.raises(KeyboardInterrupt):
        process.wait()
    assert process.returncode == 0


def test_input_and_text(saying):
    """Input goes in, and text comes out, under a stop that nobody sets."""
    with use_stop(StopEvent()):
        assert saying.communicate("anything") == ("said\nmore\n", None)
        assert saying.returncode == 0


def test_the_child_goes_on(saying):
    """A wait that is stopped leaves the child alone."""
    assert isinstance(interrupted(saying.wait), Interrupted)
    assert saying.poll() is None
    assert saying.communicate()[0] == "said\nmore\n"


def test_run_kills_its_own():
    """`subprocess.run` kills its child when it is stopped, as with anything that is raised there."""
    started = []
    original = subprocess.Popen.__init__

    def note(self, *args, **kwargs):
        original(self, *args, **kwargs)
        started.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(subprocess.Popen, "__init__", note)
        assert isinstance(interrupted(lambda: subprocess.run(["sleep", "600"])), Interrupted)
    assert started[0].returncode == -9


def test_timeouts():
    """A timeout is a `TimeoutExpired`, with the command and the seconds, with a stop and without."""
    process = subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE)
    try:
        for stop in (None, StopEvent()):
            with use_stop(stop):
                for work in (process.wait, lambda timeout: process.communicate(timeout=timeout)):
                    with pytest.raises(subprocess.TimeoutExpired) as caught:
                        work(timeout=0.01)
                    assert (caught.value.cmd, caught.value.timeout) == (["sleep", "600"], 0.01)
    finally:
        process.kill()
        process.communicate()


def test_one_that_has_ended():
    """The end that has come is returned, also where the stop is set."""
    process = subprocess.Popen(["true"])
    process.wait()
    stop = StopEvent()
    stop.set()
    with use_stop(stop):
        assert process.wait() == 0
        assert process.wait(5) == 0


def test_many_threads_wait_for_one():
    """Of many threads that wait for one child, those that are stopped are, and the others get its code."""
    process = subprocess.Popen(["sleep", "600"])
    codes = []
    patient = [threading.Thread(target=lambda: codes.append(process.wait())) for _ in range(3)]
    workers = [Thread(target=process.wait) for _ in range(3)]
    for thread in (*patient, *workers):
        thread.start()
    for worker in workers:
        wait_until_blocked(worker.stop)
        worker.interrupt()
        worker.join()
    process.terminate()
    for thread in patient:
        thread.join()
    assert codes == [-15] * 3


def test_without_the_part_select():
    """It stops also where selectors are not patched."""
    program = """
        import subprocess, threading
        from iointerrupt import Interrupted, StopEvent, monkey, use_stop
        from iointerrupt.testing import wait_until_blocked

        monkey.patch_all(select=False)
        stop = StopEvent()

        def set_when_blocked():
            wait_until_blocked(stop)
            stop.set()

        threading.Thread(target=set_when_blocked).start()
        with use_stop(stop):
            try:
                subprocess.run(["sleep", "600"], stdout=subprocess.PIPE)
            except Interrupted:
                print("stopped")
    """
    assert run_program(program) == "stopped\n"
