"""`signal_when_blocked`: a signal, such as a Ctrl-C, at the moment at which the main thread blocks.

A signal that comes between two bytecodes is handled there; one that comes in a system call ends that. Only one that comes
in between, after the last bytecode and before the call has begun, stays unseen until something ends the call. No program
can know when that moment is over, so the signal is sent again until it has been handled.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from iointerrupt._signal.blocked import observers
from iointerrupt._signal.threads import own_thread

#: What the frames are called in which the library waits.
_WAITS = {"park", "poll", "poll_one"}

_PAUSE = 0.05


@contextmanager
def signal_when_blocked(
    *signals: int, since: Sequence[threading.Event] = (), then: Callable[[], object] | None = None
) -> Iterator[None]:
    """While the block runs: once this thread, the main one, blocks in an operation of the library, send it a signal.

        with pytest.raises(KeyboardInterrupt), signal_when_blocked(signal.SIGINT):
            download(url, path)

    Args:
        *signals: what to send, each again and again until the wait has ended, so its handler has to raise or to set a
            stop. Each further one is sent when the thread blocks after its event in `since` is set.
        since: an event for each signal but the first.
        then: called in another thread after the last signal has been handled, or when the block ends.

    Raises:
        AssertionError: the block ended by itself, and a signal was not sent, as it never blocked.
        RuntimeError: this is not the main thread, the only one that handles signals.
        ValueError: there is no signal, or `since` is not as long as it has to be.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("signals are handled in the main thread: use signal_when_blocked there")
    if len(since) != len(signals) - 1:
        raise ValueError(
            f"signal_when_blocked takes a signal, and for each further one an event in since:"
            f" not {len(signals)} signals with {len(since)} events"
        )
    sender = _Sender([signal.Signals(number) for number in signals], [None, *since], then)
    observers[sender] = sender.observe
    sender.thread.start()
    try:
        yield
    finally:
        observers.pop(sender, None)
        sender.end()
    if unsent := sender.unsent():
        names = ", ".join(number.name for number in unsent)
        raise AssertionError(f"not sent: {names}, since the block ended without having blocked for it")


class _Sender:
    """The thread that sends; what it has sent is asked after its end."""

    def __init__(
        self,
        signals: Sequence[signal.Signals],
        since: Sequence[threading.Event | None],
        then: Callable[[], object] | None,
    ) -> None:
        self._signals = list(signals)
        self._sent = 0
        self.thread = own_thread("signal_when_blocked", self._send_all)
        self._target = threading.get_ident()
        self._since = since
        self._blocked = [threading.Event() for _ in signals]
        self._ended = threading.Event()
        self._then = then

    def observe(self) -> None:
        """Called in each thread that is about to block."""
        if threading.get_ident() == self._target:
            for blocked, event in zip(self._blocked, self._since, strict=True):
                if event is None or event.is_set():
                    blocked.set()

    def end(self) -> None:
        """Send nothing more, and wait for the end of the thread."""
        self._ended.set()
        for blocked in self._blocked:
            blocked.set()
        self.thread.join()

    def unsent(self) -> Sequence[signal.Signals]:
        """What was never sent."""
        return self._signals[self._sent :]

    def _send_all(self) -> None:
        for number, blocked in zip(self._signals, self._blocked, strict=True):
            blocked.wait()
            if self._send(number):
                self._sent += 1
        if self._then is not None:
            self._then()

    def _send(self, number: signal.Signals) -> bool:
        before = None  # the frame in which it blocks
        sent = False
        while not self._ended.wait(0.001 if before is None else _PAUSE):
            frame = sys._current_frames()[self._target]
            if before is None and frame.f_code.co_name in _WAITS:
                before = frame
            if before is not None:
                if frame is not before:
                    break
                signal.pthread_kill(self._target, number)
                sent = True
        return sent
