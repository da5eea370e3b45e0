"""The downloads of `iointerrupt get --dask`: those of `getting`, done by the workers of a Dask cluster.

The one module of the command line that loads Dask. What it hears of the workers it hears in the main thread, and reports it as
`getting` reports its own downloads.
"""

from __future__ import annotations

import functools
import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from multiprocessing import resource_tracker
from typing import Any, Final

import click
from distributed import Client, LocalCluster, Security

from iointerrupt import Interrupted, calls, downloads
from iointerrupt._cli.events import Report, Tally
from iointerrupt._cli.getting import Getting
from iointerrupt._cli.wanted import Wanted
from iointerrupt._dask.spread_items import ClusterLost, Errand, Item, ItemResult
from iointerrupt._dask.spread_run import Spread
from iointerrupt._stop import StopEvent
from iointerrupt.downloads._download import is_stop

# Connections to one host.
_PER_HOST: Final = 8


class _Remote:
    """A download of a worker, as far as it has been heard of.

    Args:
        file: what was asked for. Its place is shown as it was given, not as the workers have it.
    """

    def __init__(self, file: Wanted) -> None:
        self._is_relative = not os.path.isabs(file.dest or "")
        self.progress = downloads.Progress(file.url, file.dest)
        self.outcome: ItemResult | None = None

    def result(self) -> downloads.Downloaded:
        """What has become of it."""
        downloaded = None if self.outcome is None else self.outcome.downloaded
        if downloaded is None:
            error = None if self.outcome is None else self.outcome.error
            raise error or Interrupted()
        return replace(downloaded, path=self.shown(downloaded.path))

    def shown(self, path: str | None) -> str | None:
        """A path as it is shown."""
        return os.path.relpath(path) if path and self._is_relative else path


class ClusterGetting(Getting):
    """One run of `get --dask`."""

    def _fetch(self, report: Report, tally: Tally, stop: StopEvent) -> None:
        if not self._files:  # of an empty list: nothing that takes a cluster
            return
        remotes = [_Remote(file) for file in self._files]
        self._downloads.update(enumerate(remotes))
        try:
            with _connected(self._given["dask"], stop) as client:
                Spread(
                    client,
                    [Item(file.url) for file in self._files],
                    [Errand(file.url, _absolute(file)) for file in self._files],
                    options=self._options,
                    stop=stop,
                    per_host=max(_PER_HOST, self._given["jobs"]),
                    jobs=self._given["jobs"],
                    listener=_Heard(self, remotes, report, tally),
                ).run()
        except ClusterLost as error:
            report.error(str(error))
        except Interrupted:
            if not stop.is_set():
                raise
        if tally.ended < tally.total:  # before there was a cluster
            report.hurry()
            for number in range(tally.total):
                self._ended(number, report, tally)


class _Heard:
    """What is heard of a run, for a report.

    Args:
        getting: what reports.
        remotes: its downloads.
        report, tally: are changed.
    """

    def __init__(self, getting: ClusterGetting, remotes: Sequence[_Remote], report: Report, tally: Tally) -> None:
        self._getting, self._remotes = getting, remotes
        self._report, self._tally = report, tally
        self._begun: set[int] = set()

    def began(self, number: int, progress: downloads.Progress) -> None:
        """Report that."""
        self._begun.add(number)
        self._tell("started", number, progress)

    def retried(self, number: int, progress: downloads.Progress) -> None:
        """Report that."""
        self._tell("retrying", number, progress)

    def ended(self, number: int, result: ItemResult) -> None:
        """Report that."""
        remote = self._remotes[number]
        remote.outcome = result
        if result.downloaded is not None:
            size, resumed_from = result.downloaded.size, result.downloaded.resumed_from
            self._keep(
                number,
                replace(
                    remote.progress,
                    path=result.downloaded.path,
                    done=size,
                    total=size,
                    resumed_from=resumed_from,
                ),
            )
        if result.worker and number not in self._begun:  # it was too quick to be heard of before
            self.began(number, remote.progress)
        if result.error is not None and is_stop(result.error):
            self._report.hurry()
        self._tell("ended", number, None)

    def tick(self, running: Mapping[int, downloads.Progress], workers: int) -> None:  # noqa: ARG002 - nobody asks
        """Report how far they are."""
        for number, progress in running.items():
            self._keep(number, progress)
        if self._report.every is not None:
            self._getting.report_progress(self._report, self._tally)

    def _tell(self, what: str, number: int, progress: downloads.Progress | None) -> None:
        if progress is not None:
            progress = self._keep(number, progress)
        self._getting.handle((what, number, progress), self._report, self._tally)

    def _keep(self, number: int, progress: downloads.Progress) -> downloads.Progress:
        remote = self._remotes[number]
        remote.progress = replace(progress, path=remote.shown(progress.path))
        return remote.progress


def _absolute(file: Wanted) -> str:
    """The place of a file, by which workers with other current folders find it too."""
    dest = file.dest or ""
    path = os.path.abspath(dest)
    return path if os.path.basename(dest) else os.path.join(path, "")


@contextmanager
def _connected(address: str, stop: StopEvent) -> Iterator[Client]:
    """A client of a cluster, which is made where the address is `local`.

    Raises:
        Interrupted: the stop came first.
        click.ClickException: there is no such cluster to be had.
    """
    with _silent(), ExitStack() as stack:
        # Asked for here, as a client that cannot be made leaves half of one behind, whose end would wait for ever.
        security: Any = Security  # which has no types
        if address.startswith("tls:") and security().get_connection_args("client").get("ssl_context") is None:
            raise click.ClickException(
                f"--dask {address}: Dask has no certificates for TLS; see its distributed.comm.tls"
            )
        try:
            if address == "local":
                address = stack.enter_context(calls.call(_cluster, stop=stop)).scheduler_address
            connect = functools.partial(Client, address, set_as_default=False)
            client = stack.enter_context(calls.call(connect, stop=stop))
        except (OSError, ValueError, RuntimeError, TypeError) as error:  # the last, of TLS that is not configured
            raise click.ClickException(f"--dask {address}: {error}") from None
        yield client


def _cluster() -> LocalCluster:
    """A cluster of processes, in which Ctrl-C has no effect: the command stops what they do, and then ends them.

    Signals that are blocked stay so in threads and processes that are made meanwhile: so this must not be the main thread.
    """
    resource_tracker.ensure_running()  # which, when it starts, has them no longer blocked
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT]) if hasattr(signal, "pthread_sigmask") else None
    try:
        return LocalCluster(  # type: ignore[no-untyped-call]
            # None would be the usual port all the same, and a warning where that is in use.
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"dashboard": False},
            silence_logs=logging.CRITICAL,
        )
    finally:
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


@contextmanager
def _silent() -> Iterator[None]:
    """What Dask logs, in loggers of many names, is what the report says in its own words."""
    level = logging.root.manager.disable
    logging.disable()
    try:
        yield
    finally:
        logging.disable(level)
