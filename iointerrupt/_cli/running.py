"""Runs a command's transfers under Ctrl-C and SIGTERM, has them reported, and says how to go on after a stop."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final, NoReturn

from iointerrupt import threads
from iointerrupt._cli.events import Json, Lines, Output, Report, Tally
from iointerrupt._errors import Interrupted
from iointerrupt._stop import StopEvent

#: By the name of the signal that stopped: what shells say of a process that a signal has ended.
EXIT_CODES: Final = {"SIGINT": 130, "SIGTERM": 143}


def report_for(
    stop: StopEvent, total: int, *, quiet: bool, as_json: bool, source: str, streaming: bool = False
) -> Report:
    """The report that fits the options and where the output goes.

    Args:
        stop: what ends the wait for a reader of the output.
        total: how many transfers there will be.
        quiet, as_json: the options.
        source: the JSON's key for where a transfer comes from.
        streaming: standard output is the file itself, so that lines go to stderr.
    """
    output = Output(stop, stderr=streaming)
    if as_json:
        return Json(output, source)
    if quiet:
        return Report(output)
    # A file that is streamed to the terminal would be torn by bars.
    if sys.stderr.isatty() and not (streaming and sys.stdout.isatty()):
        try:
            from iointerrupt._cli.screen import Screen  # noqa: PLC0415 - loads rich, which is slow, and optional
        except ImportError:
            return Lines(output)
        return Screen(output, total, results=not streaming)
    return Lines(output)


def run(transfer: Callable[[], object], report: Report, tally: Tally, stop: StopEvent) -> int:
    """Do the transfers, and return the exit code.

    Args:
        transfer: does them, until the stop, reports, and keeps the tally.
        report: what is told of them; it is closed.
        tally: is changed.
        stop: what ended it, if something did.

    Raises:
        OSError: standard output cannot be written.
    """
    began = time.monotonic()
    try:
        transfer()
        code = EXIT_CODES.get(str(stop.reason), 1) if tally.stopped else 1 if tally.failed else 0
        report.close()
        report.summary(tally, time.monotonic() - began, code)
    except Interrupted:  # nobody has read what was written
        code = EXIT_CODES.get(str(stop.reason), 1)
    except KeyboardInterrupt:
        end_at_once(report)
    finally:
        report.close()
    return code


def end_at_once(report: Report) -> NoReturn:
    """End the process on the second Ctrl-C, without waiting for threads, as the interpreter would."""
    report.close()
    os._exit(EXIT_CODES["SIGINT"])


def _leave(*_: object) -> NoReturn:
    if sys.stderr.isatty():
        os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # the cursor, which may be hidden
    os._exit(EXIT_CODES["SIGINT"])


def was_stopped(code: int) -> bool:
    """Whether an exit code is that of a stop."""
    return code in EXIT_CODES.values()


@contextmanager
def stop_on_signals() -> Iterator[StopEvent]:
    """A stop that SIGINT and SIGTERM set, where they are not ignored, as in a shell's background, and can be handled."""
    signals = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) is not signal.SIG_IGN]
    with ExitStack() as block:
        if signal.SIGINT in signals and threading.current_thread() is threading.main_thread():
            # What the second one comes to: an exception might come in the middle of what the first one has set off.
            block.callback(signal.signal, signal.SIGINT, signal.signal(signal.SIGINT, _leave))
        stop = StopEvent()
        try:
            if signals:
                block.enter_context(threads.stop_on_signals(stop, *signals))
        except RuntimeError:  # not the main thread; or the program around this one handles them outside of Python
            pass
        yield stop


def say_how_to_resume(
    argv: Sequence[str],
    tally: Tally,
    *,
    finished: Collection[str] = (),
    also: Sequence[str] = (),
) -> None:
    """Print to stderr how far it came and the command that goes on.

    Args:
        argv: the arguments of this command.
        tally: how far it came.
        finished: arguments that need not be given again.
        also: options that the command needs now.
    """
    # What is kept is to be used this time.
    rest = [each for each in argv[1:] if each not in finished and each != "--no-resume"]
    command = shlex.join(["iointerrupt", *argv[:1], *also, *rest])
    print(f"stopped: {tally.done} of {tally.total} done; to resume:\n  {command}", file=sys.stderr, flush=True)  # noqa: T201 - printing is what it does
