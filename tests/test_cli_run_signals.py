"""`iointerrupt run` and signals: what the first one ends, what the main thread may do then, and who is named."""

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import pytest

from iointerrupt._cli.signals import Signals
from tests.programs import READY, interrupted, running, scripts_in

pytestmark = pytest.mark.usefixtures("ctrl_c")

STOPS = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])


@pytest.fixture
def start(tmp_path):
    """Has a script run under `iointerrupt run`."""
    return scripts_in(tmp_path)


class TestMainThread:
    """What the main thread gets."""

    @STOPS
    @pytest.mark.parametrize(
        "wait",
        [
            "time.sleep(600)",
            "threading.Event().wait()",
            "queue.SimpleQueue().get()",
            "near, far = socket.socketpair(); near.recv(1)",
            "near, far = socket.socketpair(); select.select([near], [], [])",
            "t = threading.Thread(target=forever.wait, daemon=True); t.start(); t.join()",
            "subprocess.run(['sleep', '600'])",
        ],
    )
    def test_blocked(self, start, wait, number, code):
        """It gets Python's own exception, out of whatever it waits in; `finally` and atexit run, and the code tells which."""
        with start(f"""
            import atexit, queue, select, socket, subprocess, sys, threading, time
            from ready import say_when_blocked
            atexit.register(print, "at exit")
            forever = threading.Event()
            say_when_blocked()
            try:
                {wait}
            except BaseException as error:
                print(repr(error))
                raise
            finally:
                print("finally")
        """) as program:
            raised = {signal.SIGINT: "KeyboardInterrupt()", signal.SIGTERM: "SystemExit(143)"}[number]
            found, lines, errors = interrupted(program, number)
            assert (found, lines) == (code, [raised, "finally", "at exit"])
            assert errors == "" if code == 143 else errors.endswith("\nKeyboardInterrupt\n")

    def test_traceback(self, start, tmp_path):
        """A Ctrl-C that nobody catches is reported as Python reports it: with the program's lines and no others."""
        with start("""
            import time
            from ready import say_when_blocked
            def main():
                time.sleep(600)
            say_when_blocked()
            main()
        """) as program:
            code, lines, errors = interrupted(program)
        assert (code, lines) == (-signal.SIGINT, [])
        with running("script.py", cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path / "stock")}) as program:
            (tmp_path / "ready.py").write_text("def say_when_blocked(): print('blocked', flush=True)")
            stock = interrupted(program)
        assert stock == (code, lines, errors)

    def test_busy(self, start):
        """A main thread that computes gets it as well."""
        with start("""
            print("blocked", flush=True)
            try:
                while True:
                    pass
            except KeyboardInterrupt:
                print("caught")
        """) as program:
            assert interrupted(program) == (0, ["caught"], "")

    @STOPS
    def test_cleanup(self, start, tmp_path, number, code):
        """It may clean up as its author meant it: join threads that are ended by then, use sockets, files, locks and pools."""
        with start("""
            import concurrent.futures, queue, socket, subprocess, sys, threading, time
            from ready import say_when_blocked
            near, far = socket.socketpair()
            worker = threading.Thread(target=near.recv, args=(1,))
            worker.start()
            say_when_blocked(2)
            try:
                time.sleep(600)
            except (KeyboardInterrupt, SystemExit) as error:
                worker.join()
                time.sleep(0.01)
                far.sendall(b"after")
                print(near.recv(5))
                with open("saved", "w") as file:
                    file.write("saved")
                jobs = queue.Queue()
                helper = threading.Thread(target=lambda: jobs.put(threading.Event().wait(0.01)))
                helper.start()
                print(jobs.get())
                helper.join()
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    print(pool.submit(time.sleep, 0.01).result())
                print(subprocess.run(["true"]).returncode)
                raise
        """) as program:
            found, lines, _ = interrupted(program, number)
        assert (found, lines) == (code, ["b'after'", "False", "None", "0"])
        assert (tmp_path / "saved").read_text() == "saved"

    def test_caught(self, start):
        """One that is caught is over, and the program ends as it wants to."""
        with start("""
            import sys, time
            from ready import say_when_blocked
            say_when_blocked()
            try:
                time.sleep(600)
            except KeyboardInterrupt:
                sys.exit("stopped")
        """) as program:
            assert interrupted(program) == (1, [], "stopped\n")

    @pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
    @pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
    def test_second(self, start, first, second):
        """The second one does what it does to any program: a KeyboardInterrupt, or the end."""
        with start("""
            import time
            from ready import say_when_blocked
            say_when_blocked()
            try:
                time.sleep(600)
            except (KeyboardInterrupt, SystemExit):
                say_when_blocked(word="again")
                try:
                    time.sleep(600)
                except KeyboardInterrupt:
                    print("second")
        """) as program:
            assert program.line() == "blocked"
            program.signal(first)
            assert program.line() == "again"
            program.signal(second)
            expected = (0, ["second"], "") if second == signal.SIGINT else (-signal.SIGTERM, [], "")
            assert program.outcome() == expected


class TestOwnHandlers:
    """What a program does about signals itself."""

    def test_own(self, start):
        """A handler that it installs is what runs, and no thread is stopped, unless it sets the stop."""
        with start("""
            import signal, threading, time
            from iointerrupt import current_stop
            from ready import say_when_blocked
            stop = current_stop()
            def handle(number, frame):
                print("handled", worker.is_alive(), flush=True)
                stop.set("own")
            signal.signal(signal.SIGINT, handle)
            def work():
                try:
                    time.sleep(600)
                except Exception as error:
                    print(error.reason)
            worker = threading.Thread(target=work)
            worker.start()
            say_when_blocked()
        """) as program:
            assert interrupted(program) == (0, ["handled True", "own"], "")

    @pytest.mark.parametrize("how", ["previous(*args)", "signal.default_int_handler(*args)"])
    def test_goes_on(self, start, how):
        """One that goes on to the handler before it, or to Python's own, stops the threads by that."""
        with start(f"""
            import signal, threading, time
            from ready import say_when_blocked
            def handle(*args):
                print("handled", flush=True)
                {how}
            previous = signal.signal(signal.SIGINT, handle)
            print(previous is signal.default_int_handler)
            worker = threading.Thread(target=time.sleep, args=(600,))
            worker.start()
            say_when_blocked(2)
            try:
                time.sleep(600)
            except KeyboardInterrupt:
                worker.join()
                print("joined")
        """) as program:
            assert program.line() == "True"
            assert interrupted(program) == (0, ["handled", "joined"], "")

    def test_raises(self, start):
        """One that raises KeyboardInterrupt, which nobody catches, ends the program and its threads."""
        with start("""
            import signal, threading, time
            from ready import say_when_blocked
            def handle(*args):
                raise KeyboardInterrupt
            signal.signal(signal.SIGINT, handle)
            threading.Thread(target=time.sleep, args=(600,)).start()
            say_when_blocked(2)
            time.sleep(600)
        """) as program:
            code, lines, errors = interrupted(program)
        assert (code, lines) == (-signal.SIGINT, [])
        assert errors.endswith("    raise KeyboardInterrupt\nKeyboardInterrupt\n")

    def test_ignores(self, start):
        """A Ctrl-C that it ignores is ignored; a SIGTERM still ends it."""
        with start("""
            import signal, time
            from ready import say_when_blocked
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.raise_signal(signal.SIGINT)
            say_when_blocked()
            time.sleep(600)
        """) as program:
            assert interrupted(program, signal.SIGTERM) == (143, [], "")

    def test_default(self, start):
        """One that it gives back to the system ends the process at once."""
        with start("""
            import signal, time
            from ready import say_when_blocked
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            say_when_blocked()
            time.sleep(600)
        """) as program:
            assert interrupted(program) == (-signal.SIGINT, [], "")

    def test_ignored_from_the_beginning(self, start):
        """A Ctrl-C that was ignored when the process began, as in the background of a shell, stays so."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fixture puts it back
        with start("""
            import signal, time
            from ready import say_when_blocked
            print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)
            signal.raise_signal(signal.SIGINT)
            say_when_blocked()
            time.sleep(600)
        """) as program:
            assert program.line() == "True"
            assert interrupted(program, signal.SIGTERM) == (143, [], "")

    def test_children(self, start):
        """A forked child dies of SIGTERM, also of one that comes at once, and gets a KeyboardInterrupt from SIGINT."""
        with start("""
            import os, signal, sys, time
            for number in (signal.SIGTERM, signal.SIGINT):
                child = os.fork()
                if not child:
                    try:
                        time.sleep(0 if number == signal.SIGTERM else 600)
                        while True:
                            pass
                    except KeyboardInterrupt:
                        os._exit(7)
                if number == signal.SIGINT:
                    time.sleep(0.3)
                os.kill(child, number)
                print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """) as program:
            assert program.end() == (0, ["-15", "7"])


def test_one_signal_within_another(monkeypatch):
    """A second one that comes before the first has set the stop of the other threads does not keep it from that."""
    signals = Signals(None)

    def meet_the_second():
        raise KeyboardInterrupt

    monkeypatch.setattr(signals, "_put_back", meet_the_second)
    with pytest.raises(KeyboardInterrupt):
        signals.stop_threads("SIGINT")
    assert signals.came == "SIGINT"
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(signals.stop.is_set).result()


class TestGrace:
    """Who does not stop is named."""

    STUCK = """
        import os, threading, time
        from ready import say_when_blocked
        reader, writer = os.pipe()
        def read():
            os.read(reader, 1)
        thread = threading.Thread(target=read, name="reader")
        thread.start()
        other = threading.Thread(target=time.sleep, args=(600,), name="sleeper")
        other.start()
        say_when_blocked({blocked})
        {rest}
    """

    def test_thread(self, start):
        """A thread in a call that no stop reaches is named with the line where it is, and nobody else; and how to end it."""
        with start(self.STUCK.format(blocked=1, rest=""), "--grace", "0.2") as program:
            assert program.line() == "blocked"
            program.signal(signal.SIGINT)
            first = program.process.stderr.readline().decode()
            assert first == "iointerrupt: 0.2 s after SIGINT, this is still running:\n"
            named = program.process.stderr.readline().decode()
            assert re.fullmatch(r"reader has not stopped at .*script\.py:6, in read: os\.read\(reader, 1\)\n", named)
            stack = ""
            while not (line := program.process.stderr.readline().decode()).startswith("A second Ctrl-C"):
                stack += line
            assert str(program.process.pid) in line
            assert "sleeper" not in stack
            program.signal(signal.SIGINT)
            assert program.outcome()[:2] == (-signal.SIGINT, [])

    def test_main_thread(self, start):
        """The main thread is named as well while the program's own code is at it, with the program's own lines."""
        rest = """
        try:
            time.sleep(600)
        except KeyboardInterrupt:
            thread.join()
        """
        with start(
            self.STUCK.format(blocked=2, rest=textwrap.indent(textwrap.dedent(rest), " " * 8)), "--grace", "0.2"
        ) as program:
            assert program.line() == "blocked"
            program.signal(signal.SIGINT)
            program.process.stderr.readline()
            named = program.process.stderr.readline().decode()
            assert re.fullmatch(
                r"MainThread has not stopped at .*script\.py:\d+, in <module>: thread\.join\(\)\n", named
            )
            assert re.fullmatch(
                r'  File ".*script\.py", line \d+, in <module>\n', program.process.stderr.readline().decode()
            )
            program.signal(signal.SIGTERM)
            assert program.outcome()[0] == -signal.SIGTERM

    def test_in_time(self, start):
        """Who ends in time is not named, and the end does not wait for the grace."""
        with start(
            """
            import threading, time
            from ready import say_when_blocked
            threading.Thread(target=time.sleep, args=(600,)).start()
            say_when_blocked()
            """,
            "--grace",
            "30",
        ) as program:
            assert interrupted(program) == (-signal.SIGINT, [], "")

    def test_never(self, start):
        """Nobody is, where that is not wanted."""
        with start(self.STUCK.format(blocked=1, rest=""), "--grace", "0") as program:
            assert program.line() == "blocked"
            program.signal(signal.SIGINT)
            program.signal(signal.SIGINT)
            code, _, errors = program.outcome()
            assert code == -signal.SIGINT
            assert "reader" not in errors

    def test_part_left_alone(self, start):
        """A part that is left alone is not stopped, and so whoever waits in it is named."""
        with start(
            """
            import threading, time
            threading.Thread(target=time.sleep, args=(600,), name="sleeper").start()
            print("blocked", flush=True)
            """,
            "--no-sleep",
            "--grace=0.1",
        ) as program:
            assert program.line() == "blocked"
            program.signal(signal.SIGINT)
            program.process.stderr.readline()
            assert program.process.stderr.readline().decode().startswith("sleeper has not stopped")
            program.signal(signal.SIGINT)
            assert program.outcome()[0] == -signal.SIGINT


class TestBefore:
    """A Ctrl-C before there is a program."""

    @pytest.mark.parametrize("command", ["run", "get", "copy"])
    def test_while_it_is_loaded(self, tmp_path, command):
        """One that comes while the command line itself is loaded ends it with 130, and without a traceback."""
        (tmp_path / "click.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
        with running("-m", "iointerrupt", command, "x", cwd=tmp_path) as program:
            assert program.outcome() == (130, [], "")


def test_as_a_command(tmp_path):
    """The command that is installed does the same as the module."""
    command = os.path.join(os.path.dirname(sys.executable), "iointerrupt")
    if not os.path.exists(command):
        pytest.skip("it is not installed as a command")
    (tmp_path / "ready.py").write_text(READY)
    (tmp_path / "script.py").write_text(
        "import sys, time\nfrom ready import say_when_blocked\nprint(sys.path[0])\nsay_when_blocked()\ntime.sleep(600)\n"
    )
    with running(command, "run", tmp_path / "script.py") as program:
        assert program.line() == str(tmp_path)
        code, lines, errors = interrupted(program)
    assert (code, lines) == (-signal.SIGINT, [])
    assert [line for line in errors.splitlines() if set(line) - set(" ^~")] == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path}/script.py", line 5, in <module>',
        "    time.sleep(600)",
        "KeyboardInterrupt",
    ]
