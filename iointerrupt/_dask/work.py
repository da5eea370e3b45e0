"""`work_through`: the task of a worker, which fetches what one lane has, one after the other, over one connection.

Theory of operation. The task leaves the worker's thread pool at once (`secede`), as it waits for the network most of the time:
the worker's threads are for computing, and how many lanes it has is for the plan to say. Each lane has a session of its own,
so that no connection outlives its lane and counts for nobody.

A task whose worker was lost is given to another worker by the scheduler, with the same argument. That one sees that it is not
the one that was meant, says so, and does nothing: what is left, and where it is done, is for the client to say, which knows what
has been completed.

What ends a transfer: the lane's stop, which is set from the client; and the watch of the worker (`work_watch`), which looks
whether anybody still wants the task. The client may be gone, or the task cancelled, or the worker about to close.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from distributed import get_worker, secede

from iointerrupt import http
from iointerrupt._dask.spread_items import Errand
from iointerrupt._dask.work_orders import Ended, Lane, Report, Stage, sendable
from iointerrupt._dask.work_watch import Shift, watch_of
from iointerrupt._stop import use_stop
from iointerrupt.downloads import DestinationBusy, DestinationExists, Downloaded, WriteFailed
from iointerrupt.downloads._download import limits, run
from iointerrupt.downloads._job import Job
from iointerrupt.downloads._names import name_for
from iointerrupt.downloads._tries import pause

if TYPE_CHECKING:
    import requests

# Seconds between the tries to have what a worker that was lost has not let go of yet. On a disk of another machine, that can take
# a while.
_PAUSES = tuple(0.05 * 2**n for n in range(10))


def work_through(lane: Lane) -> None:
    """Fetch what a lane has, and report."""
    worker = get_worker()
    if worker.address != lane.worker:
        lane.report(worker, Report(lane.number, worker.address, Stage.MOVED))
        return
    secede()  # type: ignore[no-untyped-call]
    began = time.monotonic()
    there = tuple(number for number, errand in lane.errands.items() if os.path.lexists(_likely_path(errand)))
    lane.report(worker, Report(lane.number, worker.address, Stage.BEGUN, there))
    with watch_of(worker).over(lane) as shift, http.Session(pool_size=1) as session, use_stop(shift.stop):
        for number, errand in lane.errands.items():
            if shift.stop.is_set():
                break
            shift.end(number, _fetch(number, errand, lane, session, shift))
    if not shift.is_called_off:  # else whoever has it next, if anybody has, reports
        lane.report(worker, shift.news(Stage.OVER, time.monotonic() - began))


def _fetch(number: int, errand: Errand, lane: Lane, session: requests.Session, shift: Shift) -> Ended:
    meter = shift.begin(number, errand.url)
    pauses = iter(_PAUSES if errand.is_left else ())
    try:
        options = lane.options if errand.checksum is None else lane.options.but({"checksum": errand.checksum})
        job = Job(errand.url, options, session, meter, limits(options))
        _make_folder(errand)
        while True:
            try:
                return Ended(run(job, errand.path), None)
            except DestinationBusy:
                if (seconds := next(pauses, None)) is None:
                    raise
                pause(seconds)
            except DestinationExists as error:
                # Of another name, which the server has given, nobody knows whether it was there before.
                may_be_ours = errand.may_be_there and error.path == _likely_path(errand)
                if not may_be_ours or (found := _completed(job, _likely_path(errand))) is None:
                    raise
                return Ended(found, None)
    except Exception as error:  # noqa: BLE001 - it is told to whoever asked for it
        return Ended(None, sendable(error))


def _make_folder(errand: Errand) -> None:
    folder = os.path.dirname(errand.path)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        said = f"{folder} cannot be made a folder: {error.strerror}"
        raise WriteFailed(said, url=errand.url, path=folder) from error


def _completed(job: Job, path: str) -> Downloaded | None:
    """What a worker that was lost has completed; None where that is no file, or not what it has to be."""
    if not os.path.isfile(path):
        return None
    checksum, name = None, os.path.basename(path)
    if (expected := job.expected()) is not None:
        if not expected.fits(path, name):
            return None
        checksum = str(expected.checksum(name))
    size = os.path.getsize(path)
    return Downloaded(path, size, size, 0.0, checksum, job.url)


def _likely_path(errand: Errand) -> str:
    return errand.path if os.path.basename(errand.path) else errand.path + name_for(errand.url)
