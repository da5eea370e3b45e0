"""`download`: one file, in the calling thread."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO, cast

from iointerrupt._errors import DeadlineExceeded, Interrupted
from iointerrupt._stop import StopEvent, current_stop, use_stop
from iointerrupt._types import StopLike
from iointerrupt._wait import check
from iointerrupt.downloads._job import Job
from iointerrupt.downloads._meter import Meter
from iointerrupt.downloads._options import Downloaded, Options, Progress, State, check_url
from iointerrupt.downloads._rate import Rate
from iointerrupt.downloads._session import stoppable
from iointerrupt.downloads._target import Destination, Target, check_destination, is_stream
from iointerrupt.downloads._transfer import Transfer

if TYPE_CHECKING:
    import requests


def download(
    url: str,
    dest: Destination = None,
    *,
    stop: StopLike = None,
    session: requests.Session | None = None,
    progress: Callable[[Progress], object] | None = None,
    checksum: str | None = None,
    resume: bool = True,
    overwrite: bool = False,
    update: bool = False,
    segments: int = 1,
    retries: int = 5,
    backoff: float = 0.5,
    retry_after_max: float = 300.0,
    timeout: float | None = 30.0,
    deadline: float | None = None,
    min_speed: float | None = None,
    min_speed_time: float = 10.0,
    max_rate: float | None = None,
    max_size: int | None = None,
    mirrors: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    preallocate: bool = False,
) -> Downloaded:
    """Download a file, or what is missing of it.

        downloads.download("https://host/big.iso", "images/", checksum="sha256:...", stop=stop)

    What has come is in `NAME.part` until the file is complete, and what is known of it in `NAME.part.json`. The same call goes
    on from there after a stop, a failure, a kill or a power cut, as far as the server still has the same version of
    the file; otherwise it begins anew. What was complete already is not asked for again. `NAME` is there when it is
    complete, and verified where there is a checksum.

    Args:
        url: http or https.
        dest: a file; a folder, where the file is called as the server or else the URL calls it, in a safe way; None for
            the current folder; or a file object, into which it is written in order, and which is not closed.
        stop: ends the download, in whichever phase it is, besides the current stop.
        session: what to fetch it with: its proxies, headers, cookies, certificates and credentials hold, and it is left
            open. An `http.Session` stops in each phase, and so does a plain `requests.Session`, whose settings are taken over; one
            with adapters of its own does so only as far as these do.
        progress: called with a `Progress` at each change of state, and while bytes come at most every 50 ms. What it raises
            ends the download.

    All other arguments are those of `Options`.

    Raises:
        DownloadError: it cannot be done; see the kinds of it.
        Interrupted: a stop was set. `.transferred` is how many bytes are there.
        DeadlineExceeded: the `deadline` passed.
        TypeError, ValueError: an argument cannot be what it is. Nothing has been done.
    """
    options = Options(
        checksum=checksum,
        resume=resume,
        overwrite=overwrite,
        update=update,
        segments=segments,
        retries=retries,
        backoff=backoff,
        retry_after_max=retry_after_max,
        timeout=timeout,
        deadline=deadline,
        min_speed=min_speed,
        min_speed_time=min_speed_time,
        max_rate=max_rate,
        max_size=max_size,
        mirrors=mirrors,
        headers={} if headers is None else headers,
        preallocate=preallocate,
    )
    check_url(url)
    check_destination(dest)
    meter = Meter(url, progress)
    suited, is_ours = stoppable(session, segments)
    try:
        with use_stop(StopEvent(stop, current_stop())):
            done = run(Job(url, options, suited, meter, limits(options)), dest)
    except BaseException as error:
        meter.enter(end_state(error))
        raise
    finally:
        if is_ours:
            suited.close()
    meter.enter(State.DONE)
    return done


def run(job: Job, dest: Destination) -> Downloaded:
    """Do a job in this thread, until its current stop or its own deadline ends that.

    Raises:
        DownloadError, Interrupted: as `download`.
    """
    check(None)
    job.meter.enter(State.RUNNING)
    if job.options.deadline is None:
        return _run(job, dest)
    with use_stop(StopEvent(current_stop(), timeout=job.options.deadline)):
        return _run(job, dest)


def is_stop(error: BaseException) -> bool:
    """Whether a download has ended by a stop, not by a failure, of which its deadline is one."""
    return isinstance(error, Interrupted) and not isinstance(error, DeadlineExceeded)


def end_state(error: BaseException) -> State:
    """The state of a download that an error has ended."""
    return State.STOPPED if is_stop(error) else State.FAILED


def limits(options: Options) -> list[Rate]:
    """The limits of one download."""
    return [] if options.max_rate is None else [Rate(options.max_rate)]


def _run(job: Job, dest: Destination) -> Downloaded:
    if is_stream(dest):
        from iointerrupt.downloads._stream import StreamTransfer  # noqa: PLC0415 - most downloads need it not

        return StreamTransfer(job, cast("BinaryIO", dest)).run()
    path = cast("str | os.PathLike[str] | None", dest)
    return Transfer(job, Target.of(path, job.url)).run()
