"""The pytest plugin: its fixtures, in whichever order and however the test ends, and the marker `stops_within`."""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from contextlib import contextmanager

import pytest

from iointerrupt import pytest_plugin, testing
from iointerrupt.testing import Background, _limit, signal_when_blocked, wait_until_blocked
from tests.blocking import run_program

# Loaded now: what is first loaded in one of pytester's runs, that run has as its loader, and so with all that it refers to.
for _name in testing.__all__:
    getattr(testing, _name)


@pytest.fixture
def run(pytester):
    """Run tests with the plugin, in this process, without the plugins that would change their order or number."""

    def run(code, *arguments, **outcomes):
        pytester.makepyfile("import pytest\nfrom iointerrupt.testing import *\n" + textwrap.dedent(code))
        result = pytester.runpytest_inprocess("-p", "no:randomly", "-p", "no:timeout", "--strict-markers", *arguments)
        for name in (
            "last_exc",
            "last_type",
            "last_value",
            "last_traceback",
        ):  # for debuggers; its frames are kept alive
            vars(sys).pop(name, None)
        if outcomes:
            result.assert_outcomes(**outcomes)
        return result

    return run


class TestStop:
    """The fixture `stop`."""

    def test_is_fresh_and_set_after_the_test(self, run):
        """Each test has its own, which is set afterwards; a reason that the test gave stays."""
        run(
            """
            seen = []

            @pytest.mark.parametrize("reason", [None, "mine"])
            def test_it(stop, reason):
                assert not stop.is_set()
                seen.append(stop)
                if reason:
                    stop.set(reason)

            def test_after():
                assert [stop.reason for stop in seen] == ["end of test", "mine"]
            """,
            passed=3,
        )

    def test_ends_what_is_blocked_on_it(self, run):
        """A thread that the test leaves blocked on it ends, whatever the order of the arguments."""
        run(
            """
            @pytest.mark.parametrize("way", "ab")
            def test_it(no_leaks, stop, background, way):
                background(stop.wait)
                wait_until_blocked(stop)

            def test_other_order(background, fault_server, stop, no_leaks):
                background(stop.wait)
                wait_until_blocked(stop)
            """,
            passed=3,
        )


class TestOrder:
    """In which order fixtures are set up, and so put away."""

    def test_of_the_four(self, run, monkeypatch):
        """Whatever order they are named in: last to go is the leak check, before it the threads, the servers, the stop."""
        result = run(
            """
            import itertools

            @pytest.fixture(scope="session")
            def for_all():
                pass

            @pytest.fixture
            def for_one():
                pass

            @pytest.fixture
            def needs_stop(stop):
                pass

            @pytest.fixture(autouse=True)
            def always():
                pass

            def test_as_named(for_one, stop, fault_server, for_all, background, no_leaks): pass
            def test_reversed(no_leaks, background, fault_server, stop, for_all, for_one): pass
            def test_needed(needs_stop, for_one, background): pass
            @pytest.mark.usefixtures("no_leaks")
            def test_marked(for_all): pass
            def test_alone(for_one, stop): pass
            """,
            "--setup-show",
            passed=5,
        )
        order: list[list[str]] = []
        for line in map(str.split, result.outlines):
            if line[:1] == ["SETUP"] and line[1] == "F":
                order[-1:] = [[*order[-1], line[2]]] if order else [[line[2]]]
            elif line and line[0].startswith("test_of_the_four.py::"):
                order.append([])
        wanted = {"always", "no_leaks", "background", "fault_server", "stop", "for_one", "needs_stop"}
        setups = [[name for name in names if name in wanted] for names in order if names]
        assert setups == [
            ["no_leaks", "always", "for_one", "background", "fault_server", "stop"],
            ["no_leaks", "always", "background", "fault_server", "stop", "for_one"],
            ["always", "background", "stop", "needs_stop", "for_one"],
            ["no_leaks", "always"],
            ["always", "for_one", "stop"],
        ]

    def test_what_others_call_so(self, run):
        """A fixture of the test's own that has one of the names is used instead, whatever it needs."""
        run(
            """
            @pytest.fixture
            def background(stop):
                return stop

            @pytest.fixture(scope="module")
            def fault_server():
                return "mine"

            def test_it(stop, background, fault_server):
                assert background is stop
                assert fault_server == "mine"
            """,
            passed=1,
        )


class TestFaultServer:
    """The fixture `fault_server`."""

    def test_used_without_a_server(self, run):
        """To ask it for what a server has is an error that says to call it."""
        run(
            """
            def test_it(fault_server):
                with pytest.raises(AttributeError, match="has no url.* Call it with a script, and the server"):
                    fault_server.url
            """,
            passed=1,
        )

    @pytest.mark.parametrize("end", ["pass", "assert False", "pytest.skip()", "raise SystemExit"])
    def test_is_gone_after_the_test(self, run, end):
        """However the test ends, no server is there after it."""
        result = run(
            f"""
            import socket

            def test_it(fault_server):
                global ports
                ports = [fault_server([steps.expect(), steps.stall()]).port for _ in range(2)]
                socket.create_connection(("127.0.0.1", ports[0])).close()
                {end}

            def test_after():
                for port in ports:
                    with pytest.raises(ConnectionRefusedError):
                        socket.create_connection(("127.0.0.1", port))
            """
        )
        assert result.parseoutcomes()["passed"] == 1 + (end == "pass")

    def test_failure_of_a_server(self, run):
        """A test whose server met what it did not expect fails."""
        result = run(
            """
            import socket

            def test_it(fault_server):
                server = fault_server([steps.expect_bytes(b"right")])
                with socket.create_connection(server.address) as sock:
                    sock.sendall(b"wrong")
                    sock.recv(1)
            """,
            passed=1,
            errors=1,
        )
        result.stdout.fnmatch_lines(["E  *wrong*"])

    def test_two_on_one_port(self, run):
        """The port of a server that is there is an error that names it."""
        run(
            """
            def test_it(fault_server):
                port = fault_server([steps.expect()]).port
                with pytest.raises(OSError, match=str(port)):
                    fault_server([steps.expect()], port=port)
            """,
            passed=1,
        )

    def test_ctrl_c(self, pytester, ctrl_c):
        """A Ctrl-C during the test ends the run, its server and its threads."""
        pytester.makepyfile(
            """
            import signal, socket, sys
            from iointerrupt.testing import *

            def test_it(no_leaks, fault_server, background, stop):
                server = fault_server([steps.stall()])
                client = socket.create_connection(server.address)
                server.wait_for("stall")
                background(stop.wait)
                wait_until_blocked(stop)
                print(server.port, file=sys.__stdout__, flush=True)
                with client, signal_when_blocked(signal.SIGINT):
                    stop.sleep(600)
            """
        )
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:randomly"],
            capture_output=True,
            text=True,
            timeout=40,
        )
        said = done.stdout + done.stderr
        port = int(done.stdout.partition("\n")[0])
        assert done.returncode == pytest.ExitCode.INTERRUPTED, said
        assert "KeyboardInterrupt" in said
        assert "Error" not in said.replace("KeyboardInterrupt", "")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


class TestBackground:
    """The fixture `background`, and what it makes."""

    def test_outcomes(self, background):
        """What the function returned or raised comes out, with where it was raised."""
        assert background(divmod, 7, 2).result() == (3, 1)
        with pytest.raises(ZeroDivisionError) as raised:
            background(_divide, 1, b=0).result()
        assert raised.traceback[-1].name == "_divide"
        assert isinstance(background(_divide, 1, 0).error(), ZeroDivisionError)
        with pytest.raises(AssertionError, match=r"returned 2\.0 instead of raising"):
            background(_divide, 2, 1).error()

    def test_still_blocked(self, background, stop):
        """Asked too early, it says where the function stands."""
        running = background(stop.wait)
        wait_until_blocked(stop)
        for ask in (running.result, running.error):
            with pytest.raises(AssertionError, match=r"StopEvent\.wait is still blocked after 0\.01 s(?s:.*)in park"):
                ask(timeout=0.01)

    def test_not_callable(self):
        """What cannot be called is refused."""
        with pytest.raises(TypeError, match="callable, not int"):
            Background(3)

    def test_one_that_does_not_end(self, run, monkeypatch):
        """A thread that is there ten seconds after the test fails it, with where it stands."""
        monkeypatch.setattr(pytest_plugin, "_JOIN", 0.01)
        release = threading.Event()
        monkeypatch.setattr(threading, "released_by_the_test", release, raising=False)
        try:
            result = run(
                """
                import threading

                def gets_stuck():
                    threading.released_by_the_test.wait()

                def test_it(background):
                    background(gets_stuck)
                """,
                passed=1,
                errors=1,
            )
            result.stdout.fnmatch_lines(["still running 0.01 s after the test:", "*in gets_stuck"])
        finally:
            release.set()
            for thread in threading.enumerate():
                if "gets_stuck" in thread.name:
                    thread.join()


class TestNoLeaks:
    """The fixture `no_leaks`."""

    @pytest.fixture
    def leak(self, monkeypatch):
        """Whoever asks is told of a leak."""

        @contextmanager
        def no_leaks(what):
            yield
            raise AssertionError(f"{what} left a mess behind")

        monkeypatch.setattr(testing, "no_leaks", no_leaks)

    @pytest.mark.parametrize("way", ["argument", "marker", "configuration"])
    def test_leak(self, run, pytester, leak, way):
        """What is left is an error of the test, by argument, marker or configuration."""
        if way == "configuration":
            pytester.makeini("[pytest]\nusefixtures = no_leaks")
        mark = '@pytest.mark.usefixtures("no_leaks")' if way == "marker" else ""
        result = run(f"{mark}\ndef test_it({'no_leaks' if way == 'argument' else ''}): pass", passed=1, errors=1)
        result.stdout.fnmatch_lines(["E*the test left a mess behind"])

    def test_of_a_real_descriptor(self, run, monkeypatch):
        """A descriptor that the test has opened is named."""
        monkeypatch.setattr(testing, "no_leaks", functools.partial(testing.no_leaks, timeout=0.01))
        kept: list[int] = []
        monkeypatch.setattr(os, "kept_by_the_test", kept, raising=False)
        result = run(
            "import os\ndef test_it(no_leaks): os.kept_by_the_test.append(os.open(os.devnull, 0))", passed=1, errors=1
        )
        os.close(*kept)
        result.stdout.fnmatch_lines(
            ["*the test left behind:", f"*descriptor {kept[0]}, file /dev/null, made at *test_it"]
        )

    @pytest.mark.parametrize("end", ["assert False", "pytest.xfail()", "pytest.skip()"])
    def test_not_over_a_failure(self, run, leak, end):
        """What the traceback of a test that did not pass keeps alive is not reported as a leak."""
        result = run(f"def test_it(no_leaks): {end}")
        assert set(result.parseoutcomes()) <= {"failed", "xfailed", "skipped"}

    def test_not_over_a_failing_setup(self, run, leak):
        """Nor is what a fixture that failed has left in its traceback."""
        result = run("@pytest.fixture\ndef fails(): raise ValueError\ndef test_it(no_leaks, fails): pass", errors=1)
        result.stdout.no_fnmatch_line("*a mess*")


class TestStopsWithin:
    """The marker `stops_within`."""

    def test_of_a_stop_that_is_asked_in_turns(self, run):
        """One that was set so late that nobody has asked it yet was set."""
        run(
            """
            import threading

            @pytest.fixture
            def stop(): return threading.Event()

            @pytest.mark.stops_within(1)
            def test_it(stop): stop.set()
            """,
            passed=1,
        )

    def test_in_time(self, run):
        """A test that ends in time passes, with the time running from the set, and the closest marker holding."""
        run(
            """
            pytestmark = pytest.mark.stops_within(0.000001)

            @pytest.mark.stops_within(seconds=60)
            class TestIt:
                def test_set_by_another_thread(self, stop, background):
                    running = background(stop.wait)
                    wait_until_blocked(stop)
                    background(stop.set)
                    running.result()

                @pytest.mark.stops_within(30)
                def test_set_by_itself(self, stop):
                    stop.set()

            @pytest.fixture
            def set_before(stop):
                stop.set()

            @pytest.mark.stops_within(30)
            def test_set_before_it_begins(set_before):
                pass
            """,
            passed=3,
        )

    @pytest.mark.parametrize(
        "hangs",
        [
            "threading.Event().wait()",
            "time.sleep(600)",
            "os.read(near, 1)",
            "stop_that_nobody_sets.wait()",
            "background(stop_that_nobody_sets.wait).result(600)",
            "while True: pass",
        ],
    )
    def test_too_late(self, run, hangs):
        """A test that hangs after its stop was set fails there and then, with where the threads stand."""
        result = run(
            f"""
            import os, threading, time
            from iointerrupt import StopEvent

            @pytest.mark.stops_within(0.05)
            def test_it(background, stop):
                near, far = os.pipe()
                stop_that_nobody_sets = StopEvent()
                try:
                    stop.set()
                    {hangs}
                finally:
                    os.close(near)
                    os.close(far)
                    stop_that_nobody_sets.set()
            """,
            failed=1,
        )
        result.stdout.fnmatch_lines(
            [
                f">*{hangs.partition(': ')[0]}*",
                "E*it still ran 0.05 s after its stop was set.",
                "E*Thread 'MainThread':",
            ]
        )

    def test_too_late_in_a_loop(self, run):
        """Where a loop of asyncio runs, its tasks are named too: the stack of its thread ends in the loop."""
        result = run(
            """
            import asyncio

            async def hangs_here():
                await asyncio.sleep(600)

            @pytest.mark.stops_within(0.05)
            def test_it(stop):
                stop.set()
                asyncio.run(hangs_here())
            """,
            failed=1,
        )
        result.stdout.fnmatch_lines(["E*it still ran 0.05 s after its stop was set.", "E*in hangs_here"])

    def test_goes_on_regardless(self, run, monkeypatch):
        """A test that hangs again while it is left fails again; one that swallows the failure fails at its end."""
        monkeypatch.setattr(_limit, "_INSISTING", 0.1)
        result = run(
            """
            import threading

            @pytest.mark.stops_within(0.05)
            def test_hangs_twice(stop):
                stop.set()
                try:
                    threading.Event().wait()
                finally:
                    threading.Event().wait()

            @pytest.mark.stops_within(0.05)
            def test_swallows(stop):
                stop.set()
                try:
                    threading.Event().wait()
                except BaseException:
                    pass
            """,
            failed=2,
        )
        assert "it still ran 0.05 s" in result.stdout.str()

    def test_measured(self, run):
        """Where there are no signals, a test that has ended too late fails at its end."""
        result = run(
            """
            import threading, time
            from iointerrupt.testing import _limit

            @pytest.fixture(scope="session", autouse=True)
            def without_signals():
                known, _limit._SIGNAL = _limit._SIGNAL, None
                yield
                _limit._SIGNAL = known

            @pytest.mark.stops_within(0.01)
            def test_it(stop):
                stop.set()
                threading.Event().wait(0.02)

            @pytest.mark.stops_within(10)
            def test_other(stop):
                stop.set()
            """,
            failed=1,
            passed=1,
        )
        result.stdout.fnmatch_lines(["*it ended 0.0* s after its stop was set, not 0.01*"])

    def test_never_set(self, run):
        """A test that does not set its stop fails, since nothing was checked; unless it failed or was skipped anyway."""
        result = run(
            """
            pytestmark = pytest.mark.stops_within(1)

            def test_it(stop):
                pass

            def test_fails(stop):
                raise ValueError("another reason")

            def test_skipped(stop):
                pytest.skip()
            """,
            failed=2,
            skipped=1,
        )
        result.stdout.fnmatch_lines(["*the stop was never set*", "*ValueError: another reason"])
        result.stdout.no_fnmatch_line("*_limit.py*")

    @pytest.mark.parametrize(
        "arguments",
        [
            "-1",
            "0",
            "math.nan",
            "math.inf",
            "True",
            "'1'",
            "None",
            "",
            "1, 2",
            "seconds='1'",
            "second=1",
            "1, seconds=1",
        ],
    )
    def test_bad_seconds(self, run, arguments):
        """Seconds that make no sense are an error of that test, which says what is accepted; the others run."""
        result = run(
            f"""
            import math

            @pytest.mark.stops_within({arguments})
            def test_it(stop):
                stop.set()

            def test_other():
                pass
            """,
            passed=1,
            errors=1,
        )
        result.stdout.fnmatch_lines(
            ["stops_within(*): it takes one number of seconds, more than 0 and finite, as in *"]
        )

    def test_without_the_fixture(self, run):
        """So is the marker on a test that has no `stop`."""
        result = run("@pytest.mark.stops_within(1)\ndef test_it(): pass", errors=1)
        result.stdout.fnmatch_lines(
            ["stops_within(1): *this test does not have it: name it among the test's arguments"]
        )

    def test_leaves_the_signal_as_it_was(self, run):
        """Afterwards the handler is the one before; meanwhile it hears of signals that are not ours."""
        heard = []
        previous = signal.signal(signal.SIGURG, lambda number, frame: heard.append(number))
        try:
            mine = signal.getsignal(signal.SIGURG)
            run(
                """
                import signal

                @pytest.mark.stops_within(10)
                def test_it(stop):
                    signal.raise_signal(signal.SIGURG)
                    stop.set()
                """,
                passed=1,
            )
            assert signal.getsignal(signal.SIGURG) is mine
            assert heard == [signal.SIGURG]
        finally:
            signal.signal(signal.SIGURG, previous)

    def test_stop_that_cannot_be_set(self):
        """None is no stop for a limit."""
        with pytest.raises(TypeError, match="None is never set"):
            _limit.Limit(None, 1, pytest.fail.Exception)


class TestSignalWhenBlocked:
    """testing.signal_when_blocked."""

    def test_sends(self, ctrl_c, stop):
        """The signal comes once the thread is blocked."""
        with pytest.raises(KeyboardInterrupt), signal_when_blocked(signal.SIGINT):
            stop.sleep(600)

    def test_never_blocked(self):
        """A block that ends without having blocked is an error, as nothing was sent; its own error comes first."""
        with pytest.raises(AssertionError, match="not sent: SIGUSR1, SIGINT, since the block ended"):
            with signal_when_blocked(signal.SIGUSR1, signal.SIGINT, since=[threading.Event()]):
                pass
        with pytest.raises(ZeroDivisionError), signal_when_blocked(signal.SIGUSR1):
            _divide(1, 0)

    @pytest.mark.parametrize("arguments", [{}, {"since": [threading.Event()]}])
    def test_since(self, arguments):
        """Each signal but the first needs an event, and there has to be a signal."""
        signals = [signal.SIGUSR1] if arguments else []
        with pytest.raises(ValueError, match="for each further one an event"):
            with signal_when_blocked(*signals, **arguments):
                pass

    def test_other_thread(self, background):
        """In another thread than the main one it is an error."""

        def block():
            with signal_when_blocked(signal.SIGUSR1):
                pass

        with pytest.raises(RuntimeError, match="main thread"):
            background(block).result()


class TestLoading:
    """The plugin as every run of pytest meets it."""

    @pytest.mark.usefixtures("untraced")
    def test_is_light(self):
        """Loading it loads nothing of the kit, nor what that needs."""
        heavy = {"iointerrupt.testing", "requests", "urllib3", "ssl", "asyncio", "multiprocessing"}
        said = run_program(f"import sys, iointerrupt.pytest_plugin\nprint(*sorted({heavy!r} & sys.modules.keys()))")
        assert said.split() == []

    def test_can_be_switched_off(self, pytester):
        """With `-p no:iointerrupt` its fixtures and its marker are not there."""
        pytester.makepyfile("def test_it(fault_server): pass")
        result = pytester.runpytest_inprocess("-p", "no:iointerrupt")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*fixture 'fault_server' not found"])

    def test_is_listed(self, pytester):
        """Marker and fixtures say what they are for."""
        result = pytester.runpytest_inprocess("--markers")
        result.stdout.fnmatch_lines(["@pytest.mark.stops_within(seconds): *"])
        result = pytester.runpytest_inprocess("--fixtures", "-p", "no:anyio", "-p", "no:_hypothesis_pytestplugin")
        for name in ("stop", "fault_server", "background", "no_leaks"):
            result.stdout.fnmatch_lines([f"{name} -- *"])
        result.stdout.no_fnmatch_line("*no docstring available*")

    def test_with_others(self, pytester):
        """It works beside pytest-xdist, pytest-randomly and pytest-timeout, with either of its methods."""
        pytester.makepyfile(
            """
            import pytest, threading
            from iointerrupt.testing import wait_until_blocked

            @pytest.mark.stops_within(20)
            @pytest.mark.parametrize("n", range(4))
            def test_it(no_leaks, stop, background, n):
                running = background(stop.wait)
                wait_until_blocked(stop)
                stop.set()
                assert running.result()

            @pytest.mark.stops_within(0.05)
            @pytest.mark.xfail(raises=pytest.fail.Exception, strict=True)
            def test_late(stop):
                stop.set()
                threading.Event().wait()
            """
        )
        for method in ("signal", "thread"):
            result = pytester.runpytest_subprocess("-n", "2", "--timeout=60", f"--timeout-method={method}")
            result.assert_outcomes(passed=4, xfailed=1)


def _divide(a, b):
    return a / b
