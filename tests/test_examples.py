"""The examples run as what they are, processes, and are ended by real signals."""

from __future__ import annotations

import os
import re
import signal
import socket
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from iointerrupt import files
from tests import programs

EXAMPLES = Path(__file__).parent.parent / "examples"

# What each pattern prints: how the usual way ended, and how ours did.
PATTERNS = {
    "pattern_1_flag.py": (
        "slept its pause out first",
        "was woken in the middle of its pause",
    ),
    "pattern_2_event.py": (
        "the command ran to its end: CompletedProcess(args=['sleep', '1'], returncode=0)",
        "the command was stopped: Command '['sleep', '1']' died with <Signals.SIGTERM: 15>.",
    ),
    "pattern_3_timeout.py": (
        "woke up for nothing, then answered False",
        "was woken by the stop, interrupted: shutdown",
    ),
    "pattern_4_io.py": (
        "was still in recv(), and ended because the peer hung up",
        "stopped in recv(), read afterwards: b'late'",
    ),
    "pattern_5_many_threads.py": (
        "0 of 4 threads stopped",
        "4 of 4 threads stopped",
    ),
    "pattern_6_repeat.py": (
        "no job was lost; the consumer woke up for nothing, and looked at the event then",
        "no job was lost; the consumer waited until it was stopped",
    ),
}


def running(name, *arguments):
    """An example as a process of its own, for which warnings are errors."""
    return programs.running("-W", "error", EXAMPLES / name, *arguments)


def test_each_example_is_described_and_tested():
    """The folder's README names every example, and each of them is run here."""
    examples = {path.name for path in EXAMPLES.glob("*.py")}
    assert examples == {*PATTERNS, "worker_pool.py", "follow_log.py", "ten_stuck_libraries.py"}
    assert set(re.findall(r"\[(\w+\.py)\]", (EXAMPLES / "README.md").read_text())) == examples


@pytest.mark.parametrize("name", PATTERNS)
def test_pattern(name):
    """A pattern ends by itself, and says of both ways how they ended."""
    before, after = PATTERNS[name]
    with running(name) as program:
        assert program.end() == (0, [f"before: {before}", f"after:  {after}"])


# The follower


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "log"
    os.mkfifo(path)
    return str(path)


def writer(path):
    """An end to write to, which is there once the follower is."""
    return files.open(path, "wb", buffering=0, timeout=30)


def test_follower_takes_one_writer_after_the_other(fifo):
    """It prints the lines of each writer as they come, and goes on when one has gone."""
    with running("follow_log.py", fifo) as program:
        for n in range(5):
            with writer(fifo) as log:
                log.write(f"first of {n}\nsecond of {n}\n".encode())
                assert [program.line(), program.line()] == [f"first of {n}", f"second of {n}"]
        program.signal(signal.SIGINT)
        assert program.end() == (130, [])


def test_follower_loses_nothing_between_two_writers(fifo):
    """Writers that come and go at once, without a pause for it to open the FIFO again, lose no line."""
    with running("follow_log.py", fifo) as program:
        for n in range(300):
            with writer(fifo) as log:
                log.write(b"%d\n" % n)
        assert [program.line() for _ in range(300)] == [str(n) for n in range(300)]
        program.signal(signal.SIGINT)
        assert program.end() == (130, [])


def test_follower_takes_several_writers_at_a_time(fifo, background):
    """The lines of writers that write together come whole, and those of each in their order."""

    def write(name):
        with open(fifo, "wb", buffering=0) as log:
            log.writelines(b"%s %d %s\n" % (name, n, b"." * 2000) for n in range(200))

    with running("follow_log.py", fifo) as program:
        with writer(fifo):  # so that no other has to wait for the follower
            writers = [background(write, name) for name in (b"a", b"b", b"c")]
            lines = [program.line() for _ in range(600)]
            for one in writers:
                one.result()
        program.signal(signal.SIGINT)
        assert program.end() == (130, [])
    for name in "abc":
        assert [line for line in lines if line[0] == name] == [f"{name} {n} {'.' * 2000}" for n in range(200)]


def test_follower_ends_the_line_of_a_writer_that_has_gone(fifo):
    """Half a line stands for itself when its writer has gone, and the next writer's begins a new one."""
    with running("follow_log.py", fifo) as program:
        with writer(fifo) as log:
            log.write(b"first\nhal")
            assert program.line() == "first"  # so it has come this far while there is a writer
        assert program.line() == "hal"
        with writer(fifo) as log:
            log.write(b"whole\n")
        assert program.line() == "whole"
        program.signal(signal.SIGINT)
        assert program.end() == (130, [])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_follower_prints_what_was_written_before_the_stop(fifo, number, code):
    """All that is in the FIFO at a signal is printed, a last line without an end too; the exit code tells the signal."""
    written = [f"line {n}" for n in range(2000)]
    with running("follow_log.py", fifo) as program, writer(fifo) as log:
        log.write("".join(f"{line}\n" for line in written).encode() + b"no end")
        program.signal(number)
        assert program.end() == (code, [*written, "no end"])


def test_follower_stops_while_it_waits_for_a_writer(fifo):
    """Without any writer, a signal ends it as well."""
    with running("follow_log.py", fifo) as program:
        with writer(fifo) as log:
            log.write(b"only\n")
        assert program.line() == "only"
        program.signal(signal.SIGINT)
        assert program.end() == (130, [])


def test_follower_ends_with_its_reader(fifo):
    """When nobody takes what it prints any more, it is ended by SIGPIPE as any filter is."""
    with running("follow_log.py", fifo) as program, writer(fifo) as log:
        program.process.stdout.close()
        log.write(b"for nobody\n")
        assert program.process.wait(20) == -signal.SIGPIPE
        assert program.process.stderr.read() == b""


def test_follower_refuses_what_is_no_fifo(tmp_path):
    """A path that is not there or no FIFO, and a wrong number of arguments, give the usage and 2."""
    for arguments in ([], [tmp_path / "missing"], [tmp_path], ["a", "b"]):
        with running("follow_log.py", *arguments) as program:
            assert program.process.stderr.read() == b"usage: follow_log.py FIFO\n"
            assert program.process.wait(20) == 2


# The worker pool


@contextmanager
def serving(*arguments):
    """The service, and a function that sends it jobs, each on a connection of its own, on which the answer comes."""
    with running("worker_pool.py", *arguments) as program, ExitStack() as clients:
        port = int(program.line().removeprefix("listening on 127.0.0.1:"))

        def send(*requests):
            sent = []
            for request in requests:
                client = clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
                client.sendall(f"{request}\n".encode())
                sent.append(client)
            return sent

        yield program, send


def answer(client):
    """All that a client is told."""
    with client.makefile("r") as lines:
        return lines.read()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_service_lets_what_is_under_way_complete(number):
    """After a signal it accepts no more, completes what it has begun, gives back the rest, and exits with 0."""
    with serving("--workers", 2, "--grace", 30) as (program, send):
        begun = send("wait 2", "wait 2")
        program.lines_until(r": wait", count=2)
        queued = send("wait 0", "wait 0", "wait 0")
        program.lines_until(r"accepted", count=3)
        program.signal(number)
        assert program.line() == f"{number.name}: no more jobs, up to 30 s for those under way"
        with pytest.raises(ConnectionRefusedError):
            send("wait 0")
        assert [answer(client) for client in begun] == ["done\n"] * 2
        assert [answer(client) for client in queued] == ["given back\n"] * 3
        code, rest = program.end()
        assert code == 0
        assert rest[-1] == "5 jobs: 2 done, 3 given back"


def test_service_gives_back_what_does_not_complete():
    """When the grace is over, work is stopped in the middle and given back; that is still a success."""
    with serving("--workers", 2, "--grace", 0.1) as (program, send):
        clients = send(*["wait 600"] * 5)
        program.lines_until(r"accepted|: wait", count=7)
        program.signal(signal.SIGTERM)
        assert [answer(client) for client in clients] == ["given back\n"] * 5
        code, rest = program.end()
        assert code == 0
        assert rest[1] == "the grace of 0.1 s is over: giving back what is not done"
        assert rest[-1] == "5 jobs: 5 given back"


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_the_grace(second):
    """A second signal gives everything back at once, however long the grace is."""
    with serving("--workers", 1, "--grace", 600) as (program, send):
        clients = send("wait 600", "wait 600")
        program.lines_until(r"accepted|: wait", count=3)
        program.signal(signal.SIGTERM)
        assert program.line() == "SIGTERM: no more jobs, up to 600 s for those under way"
        program.signal(second)
        assert program.line() == f"{second.name}: giving back what is not done"
        assert [answer(client) for client in clients] == ["given back\n"] * 2
        code, rest = program.end()
        assert code == 0
        assert rest[-1] == "2 jobs: 2 given back"


def test_service_names_a_stuck_worker():
    """A worker that no stop reaches is named with the line where it stands, its job is given back, and the exit code is 1."""
    with serving("--workers", 1, "--grace", 0) as (program, send):
        [client] = send("stuck 600")
        program.lines_until(r": stuck")
        program.signal(signal.SIGTERM)
        assert answer(client) == "given back\n"
        code, rest = program.end()
        assert code == 1
        [named] = [line for line in rest if "has not stopped" in line]
        assert re.fullmatch(r"worker 1 has not stopped at .*worker_pool\.py:\d+, in _work: WORK\[.*", named)
        assert rest[-1] == "1 jobs: 1 given back"


def test_service_loses_no_job():
    """Of many jobs of all kinds each client is told exactly one outcome, and the service has counted the same."""
    requests = ["wait 0", "wait 0.02", "wait", "fly 1", ""] * 8 + ["wait 600"] * 2
    with serving("--workers", 3, "--grace", 0.1) as (program, send):
        clients = send(*requests)
        lines = program.lines_until(r"accepted", count=len(requests))
        program.signal(signal.SIGTERM)
        answers = [answer(client) for client in clients]
        code, rest = program.end()
    assert code == 0
    assert all(told.count("\n") == 1 for told in answers)
    told = Counter(told.strip().partition(":")[0] for told in answers)
    outcomes = re.findall(r"^job (\d+): (done|given back|failed)", "\n".join(lines + rest), re.MULTILINE)
    assert sorted(int(job) for job, _ in outcomes) == list(range(1, len(requests) + 1))
    assert told == Counter(outcome for _, outcome in outcomes)
    summary = ", ".join(f"{n} {outcome}" for outcome, n in sorted(told.items()))
    assert rest[-1] == f"{len(requests)} jobs: {summary}"


def test_clients_that_are_silent_or_gone_do_not_hold_up_the_service():
    """Clients that send nothing, or have gone, are given back or failed like others, and the service ends."""
    with serving("--workers", 1, "--grace", 0) as (program, send):
        busy = send("wait 600")
        program.lines_until(r": wait")
        port = busy[0].getpeername()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=30) as silent:
            socket.create_connection(("127.0.0.1", port), timeout=30).close()
            program.lines_until(r"accepted", count=2)
            program.signal(signal.SIGTERM)
            assert answer(silent) == "given back\n"
        code, rest = program.end()
        assert code == 0
        assert rest[-1] == "3 jobs: 3 given back"
