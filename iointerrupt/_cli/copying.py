"""The copy of `iointerrupt copy`: reported as it goes, and said how to go on with after a stop."""

from __future__ import annotations

import time
from collections.abc import Sequence

from iointerrupt._cli import parts, running
from iointerrupt._cli.events import Moment, Outcome, Report, Tally
from iointerrupt._errors import Interrupted
from iointerrupt._stop import StopEvent


def run(
    argv: Sequence[str], source: str, target: str, *, overwrite: bool, resume: bool, quiet: bool, as_json: bool
) -> int:
    """Copy, report, and return the exit code; the arguments are the options."""
    tally = Tally(1)
    path = parts.target_of(source, target)
    with running.stop_on_signals() as stop:
        report = running.report_for(stop, 1, quiet=quiet, as_json=as_json, source="source")

        def transfer() -> None:
            _copy(source, path, report, tally, stop, overwrite=overwrite, resume=resume)

        code = running.run(transfer, report, tally, stop)
    if running.was_stopped(code):
        running.say_how_to_resume(argv, tally)
    return code


def _copy(
    source: str, path: str, report: Report, tally: Tally, stop: StopEvent, *, overwrite: bool, resume: bool
) -> None:
    began = drawn = time.monotonic()
    moment = Moment(0, source, path)

    def progress(done: int, size: int, resumed_from: int) -> None:
        nonlocal drawn, moment
        now = time.monotonic()
        speed = (done - resumed_from) / (now - began) if now > began else 0.0
        eta = (size - done) / speed if speed else None
        first, moment = not moment.size, Moment(0, source, path, done, size, resumed_from, speed, eta, "running")
        if first and done == resumed_from:
            report.started(moment)
        if report.every is not None and now >= drawn + report.every:
            report.progress([moment], tally)
            drawn = time.monotonic()

    try:
        copied = parts.copy(source, path, stop=stop, overwrite=overwrite, resume=resume, progress=progress)
    except Interrupted:
        tally.stopped += 1
        report.hurry()
        report.stopped(moment)
        return
    except parts.CopyError as error:
        _failed(moment, error, str(error), report, tally)
        return
    except OSError as error:
        name = error.filename if error.filename not in {None, source} else None
        _failed(moment, error, f"{name}: {error.strerror}" if name else str(error.strerror or error), report, tally)
        return
    tally.done += 1
    tally.transferred = copied.size - copied.resumed_from
    report.done(Outcome(source, path, copied.size, copied.resumed_from, time.monotonic() - began))


def _failed(moment: Moment, error: Exception, message: str, report: Report, tally: Tally) -> None:
    tally.failed += 1
    report.failed(moment, type(error).__name__, message)
