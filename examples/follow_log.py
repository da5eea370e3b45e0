"""`tail -f` on a FIFO: print the lines that come, from one writer after the other, until Ctrl-C.

    mkfifo log
    python examples/follow_log.py log
    echo hello > log                    # in another terminal, any number of times

Two waits stop here that those of the builtin `open` do not: for a writer, and for what it writes. What had been written
when the stop came is printed still, so that no line is lost, or split by the stop. A line whose writer goes away in the
middle of it, while it is being read, is ended there; what the next writer sends does not run into it.

The exit code is that of a program which the signal has ended: 130 after Ctrl-C, 143 after SIGTERM. A second Ctrl-C is the
ordinary one, for the case that nobody takes what is printed here.
"""

from __future__ import annotations

import io
import os
import signal
import stat
import sys
from collections.abc import Iterator

from iointerrupt import Interrupted, files, use_stop
from iointerrupt.threads import stop_on_signals


def follow(path: str) -> Iterator[bytes]:
    """The lines that are written to the FIFO, without their ends.

    Raises:
        Interrupted: when the current stop is set, and after the last line that was in the FIFO by then.
    """
    # This end is only held. As long as there is one, what is in the FIFO stays there, and no writer's write fails, while no
    # other end is open here between one writer and the next.
    with use_stop(None):  # a stop that is there already comes after what is read below
        held = files.wrap(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    with held:
        while True:
            try:
                fifo: io.RawIOBase = files.open(path, "rb", buffering=0)  # waits for a writer
            except Interrupted:
                fifo = held  # something may have come together with the stop, which stops the first read again
            with fifo:
                yield from _lines(fifo)


def _lines(fifo: io.RawIOBase) -> Iterator[bytes]:
    """The lines until the last writer has gone, or until the stop."""
    line = b""
    try:
        for chunk in files.iter_chunks(fifo):
            *lines, line = (line + chunk).split(b"\n")
            yield from lines
    except Interrupted:
        *lines, line = (line + _what_is_there(fifo)).split(b"\n")
        yield from lines
        if line:
            yield line
        raise
    if line:
        yield line


def _what_is_there(fifo: io.RawIOBase) -> bytes:
    """What is in the FIFO now, without waiting for more: one chunk is as much as it can hold."""
    with use_stop(None):
        try:
            return next(files.iter_chunks(fifo, timeout=0), b"")
        except TimeoutError:
            return b""


def main(arguments: list[str]) -> int:
    """Follow the FIFO that is named; returns the exit code."""
    if len(arguments) != 1 or not _is_fifo(arguments[0]):
        print("usage: follow_log.py FIFO", file=sys.stderr)
        return 2
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly, as other filters do, when the reader of this has gone
    with stop_on_signals() as stop, use_stop(stop):
        try:
            for line in follow(arguments[0]):
                sys.stdout.buffer.write(line + b"\n")
                sys.stdout.buffer.flush()
        except Interrupted as stopped:
            return 128 + signal.Signals[str(stopped.reason)]
    return 0


def _is_fifo(path: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
