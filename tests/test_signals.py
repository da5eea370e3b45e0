"""Signals that set a stop: the first stops the work, a second one is what it was before."""

from __future__ import annotations

import functools
import multiprocessing
import signal
import subprocess
import sys
import textwrap
import threading
from contextlib import ExitStack

import pytest

from iointerrupt import Interrupted, StopEvent, sockets
from iointerrupt.testing import signal_when_blocked, wait_until_blocked
from iointerrupt.threads import ThreadGroup, stop_on_signals
from tests.blocking import block

DEFAULT = signal.SIGINT, signal.SIGTERM


def handlers():
    """What is installed for each signal that a program can handle."""
    return {number: signal.getsignal(number) for number in signal.valid_signals()}


@pytest.fixture(autouse=True)
def known_handlers():
    """Handlers as in a program that was started in the foreground, and those that there were put back."""
    previous = {number: signal.getsignal(number) for number in DEFAULT}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    before = handlers()
    yield
    assert handlers() == before
    for number, handler in previous.items():
        signal.signal(number, handler)


class TestStopOnSignals:
    """stop_on_signals: one block, one stop, the first signal."""

    @pytest.mark.parametrize("number", DEFAULT)
    def test_first(self, number):
        """The first signal sets the stop, with its name as the reason, and all handlers are what they were."""
        before = handlers()
        with stop_on_signals() as stop:
            assert handlers() != before
            assert not stop.is_set()
            signal.raise_signal(number)
            assert stop.reason == number.name
            assert handlers() == before

    def test_second_ctrl_c(self):
        """The second Ctrl-C is the ordinary one."""
        with pytest.raises(KeyboardInterrupt), stop_on_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.is_set()
            signal.raise_signal(signal.SIGINT)

    def test_none(self):
        """Where no signal comes, leaving the block puts the handlers back."""
        before = handlers()
        with stop_on_signals() as stop:
            pass
        assert handlers() == before
        assert not stop.is_set()

    def test_given(self):
        """The stop that is given is the one that is set, by the signals that are given and no others."""
        given = StopEvent()
        interrupted = functools.partial(signal.raise_signal, signal.SIGINT)
        with stop_on_signals(given, signal.SIGUSR1, signal.SIGUSR2, signal.SIGUSR1) as stop:
            assert stop is given
            with pytest.raises(KeyboardInterrupt):
                interrupted()
            assert not stop.is_set()
            signal.raise_signal(signal.SIGUSR2)
            assert stop.reason == "SIGUSR2"

    @pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="no real-time signals")
    def test_real_time_signal(self):
        """A real-time signal, which has no name, is named by its number."""
        number = signal.SIGRTMIN + 3
        with stop_on_signals(None, number) as stop:
            signal.raise_signal(number)
            assert stop.reason == f"signal {number}"

    @pytest.mark.parametrize("make", [threading.Event, multiprocessing.Event])
    def test_foreign_event(self, make):
        """A foreign event is set, even while the code that was interrupted holds its lock."""
        event = make()
        with stop_on_signals(event) as stop:
            with event._cond:
                signal.raise_signal(signal.SIGTERM)
            assert event.wait(10)
            assert stop.is_set()

    def test_foreign_event_without_threads(self, monkeypatch):
        """Where no thread can be made for that, it is set by the handler itself."""

        def start(*args):
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr("_thread.start_new_thread", start)
        event = threading.Event()
        with stop_on_signals(event):
            signal.raise_signal(signal.SIGTERM)
            assert event.is_set()

    def test_wakes_an_operation(self):
        """A main thread that is blocked in an operation is woken."""
        near, far = sockets.socketpair()
        with near, far, stop_on_signals() as stop:
            near.stop = stop
            with pytest.raises(Interrupted, match="SIGTERM"), signal_when_blocked(signal.SIGTERM):
                near.recv(1)

    def test_wakes_the_leaving_of_a_group(self):
        """So is one that waits for the members of a group, which are stopped."""
        with stop_on_signals() as stop:
            with pytest.raises(Interrupted, match="SIGTERM"), ExitStack() as sending, ThreadGroup(stop) as group:
                members = [group.start(block) for _ in range(3)]
                wait_until_blocked(stop, 3)
                sending.enter_context(signal_when_blocked(signal.SIGTERM))
        assert not any(member.is_alive() for member in members)

    def test_nested(self):
        """The second signal in an inner block is the first of the outer one."""
        with stop_on_signals() as outer, stop_on_signals() as inner:
            signal.raise_signal(signal.SIGINT)
            assert (inner.is_set(), outer.is_set()) == (True, False)
            signal.raise_signal(signal.SIGINT)
            assert outer.is_set()

    def test_again(self):
        """It can be used for one block after another, but not for two at once."""
        block_of_signals = stop_on_signals()
        for _ in range(2):
            with block_of_signals as stop:
                with pytest.raises(RuntimeError, match="in use"), block_of_signals:
                    pass
                signal.raise_signal(signal.SIGINT)
                assert stop.is_set()

    def test_ignored(self):
        """A signal that was ignored is handled in the block, and ignored again after it."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGINT)
            assert stop.is_set()
            signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def test_replaced_meanwhile(self):
        """A handler that the block itself has installed stays."""
        own = functools.partial(print, "own")
        with stop_on_signals():
            signal.signal(signal.SIGTERM, own)
        assert signal.getsignal(signal.SIGTERM) is own
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def test_callbacks_come_after_the_handlers(self):
        """A callback of the stop that hangs can be ended by a second Ctrl-C."""
        stop = StopEvent()
        stop.on_set(lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt), stop_on_signals(stop):
            signal.raise_signal(signal.SIGINT)
        assert stop.reason == "SIGINT"


class TestMisuse:
    """What cannot work says so, and changes nothing."""

    def test_not_the_main_thread(self, background):
        """Only the main thread can."""
        entering = background(stop_on_signals().__enter__)
        assert "main thread only" in str(entering.error())

    @pytest.mark.parametrize("stop", [lambda: False, threading.Event().is_set])
    def test_cannot_be_set(self, stop):
        """A callable cannot be set."""
        with pytest.raises(TypeError, match=r"cannot be set by a signal: it has no set\(\)"):
            stop_on_signals(stop)

    def test_no_stop(self):
        """Neither can what is no stop; a signal in its place is told where it belongs."""
        with pytest.raises(TypeError, match="cannot be a stop"):
            stop_on_signals("SIGINT")
        with pytest.raises(TypeError, match="the stop comes before the signals"):
            stop_on_signals(signal.SIGINT)

    @pytest.mark.parametrize(
        ("number", "error", "message"),
        [
            (0, ValueError, "0 is not a signal"),
            (1000, ValueError, "1000 is not a signal"),
            (signal.SIGKILL, ValueError, "SIGKILL cannot be handled by any program"),
            ("SIGINT", TypeError, "must be a number such as signal.SIGTERM, not str"),
            (True, TypeError, "not bool"),
            (None, TypeError, "not NoneType"),
        ],
    )
    def test_no_signal(self, number, error, message):
        """A signal that is none is refused at once."""
        with pytest.raises(error, match=message):
            stop_on_signals(None, signal.SIGINT, number)

    def test_handler_in_c(self, monkeypatch):
        """A handler that could not be put back is left alone, and so are the others."""
        before = handlers()
        get = signal.getsignal
        with monkeypatch.context() as patch:
            patch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGTERM else get(number))
            with pytest.raises(RuntimeError, match="SIGTERM has a handler in C"), stop_on_signals():
                pass
        assert handlers() == before

    def test_signal_while_entering(self, monkeypatch):
        """A signal that comes while the handlers are being installed is the first one, and the last that is handled."""
        before = handlers()
        install = signal.signal

        def install_and_raise(number, handler):
            result = install(number, handler)
            if number == signal.SIGINT and not came:
                came.append(True)
                signal.raise_signal(signal.SIGINT)
            return result

        came = []
        with monkeypatch.context() as patch:
            patch.setattr(signal, "signal", install_and_raise)
            with stop_on_signals() as stop:
                assert stop.reason == "SIGINT"
                assert handlers() == before


class TestProgram:
    """Whole programs, which get real signals."""

    def program(self, body):
        """A process that runs `body` and has said that it is ready."""
        code = f"""
            import os, signal, sys, threading
            from iointerrupt import Interrupted, StopEvent, current_stop, sockets
            from iointerrupt.testing import wait_until_blocked
            from iointerrupt.threads import ThreadGroup, stop_on_signals

            signal.signal(signal.SIGINT, signal.default_int_handler)
            near, far = sockets.socketpair()

            def ready(stop, n):
                def say():
                    wait_until_blocked(stop, n)
                    os.write(1, b"ready\\n")
                threading.Thread(target=say, daemon=True).start()

            def receive(sock):
                try:
                    sock.recv(1)
                finally:
                    print("member ended\\n", end="", flush=True)
            {textwrap.indent(textwrap.dedent(body), " " * 12)}
        """
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        return process

    def end(self, process, number):
        """Send it a signal that ends it; its exit code, and what it printed after "ready"."""
        while True:
            process.send_signal(number)
            try:
                out, err = process.communicate(timeout=2)
            except (
                subprocess.TimeoutExpired
            ):  # it came just before the system call that blocks, and is handled with the next
                continue
            return process.returncode, out, err

    @pytest.mark.parametrize("number", DEFAULT)
    def test_graceful(self, number):
        """The first signal ends the blocked body and the blocked members, and the program goes on after the block."""
        process = self.program("""
            try:
                with stop_on_signals() as stop, ThreadGroup(stop) as group:
                    group.start(receive, near)
                    ready(stop, 2)
                    far.recv(1)
            except Interrupted as error:
                print(error.reason)
            near.close()
            far.close()
        """)
        assert self.end(process, number) == (0, f"member ended\n{number.name}\n", "")

    def test_second_ctrl_c(self):
        """The second Ctrl-C ends a program whose member is stuck, with KeyboardInterrupt."""
        process = self.program("""
            def press(stop):
                wait_until_blocked(stop)
                while not stop.is_set():
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                    stop.wait(1)

            def stuck(sock):
                try:
                    sock.recv(1)
                except Interrupted:
                    os.write(1, b"ready\\n")
                    threading.Lock().acquire() and threading.Event().wait()

            with stop_on_signals() as stop, ThreadGroup(stop) as group:
                group.start(stuck, near)
                threading.Thread(target=press, args=(stop,), daemon=True).start()
        """)
        code, _, err = self.end(process, signal.SIGINT)
        assert code == -signal.SIGINT
        assert "KeyboardInterrupt" in err

    def test_second_sigterm(self):
        """A second SIGTERM ends the process as it would have without the block."""
        process = self.program("""
            with stop_on_signals() as stop:
                signal.raise_signal(signal.SIGTERM)
                os.write(1, b"ready\\n")
                threading.Event().wait()
        """)
        assert self.end(process, signal.SIGTERM)[0] == -signal.SIGTERM

    def test_plain_ctrl_c(self):
        """Without stop_on_signals, Ctrl-C stops the members of a group and ends the program."""
        process = self.program("""
            with ThreadGroup() as group:
                group.start(receive, near)
                group.start(receive, far)
                ready(group.event, 2)
        """)
        code, out, err = self.end(process, signal.SIGINT)
        assert (code, out) == (-signal.SIGINT, "member ended\n" * 2)
        assert "\nKeyboardInterrupt" in err
