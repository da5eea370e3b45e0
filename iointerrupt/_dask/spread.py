"""`download_all`: many downloads, over all workers of a Dask cluster.

spread_items    what is asked for, and what is told      spread_plan    who does what next; pure
spread_run      the client's side                        spread_told    the totals
work            a worker's side: a lane                  work_watch     what looks after all lanes of a worker
work_orders     what goes between both
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from distributed import Client

from iointerrupt._dask.spread_items import (
    ClusterLost,
    ClusterProgress,
    DownloadsInterrupted,
    Item,
    ItemResult,
    errands_of,
    items_of,
)
from iointerrupt._dask.spread_run import Spread
from iointerrupt._dask.spread_told import Told
from iointerrupt._stop import StopEvent, current_stop
from iointerrupt._types import StopLike
from iointerrupt.downloads import Options
from iointerrupt.downloads._options import check_options, check_progress, whole

if TYPE_CHECKING:
    from typing import Unpack

    from iointerrupt.downloads._shapes import Changes


def download_all(
    client: Client,
    items: Iterable[str | tuple[str, str] | Item],
    *,
    dest: str | os.PathLike[str],
    stop: StopLike = None,
    connections_per_host: int = 8,
    jobs: int = 4,
    progress: Callable[[ClusterProgress], object] | None = None,
    options: Options | None = None,
    **changes: Unpack[Changes],
) -> list[ItemResult]:
    """Download many files over all workers of a cluster, and wait for them.

        results = dask.download_all(client, urls, dest="/shared/images", stop=stop, retries=2)

    An item that fails keeps no other from being fetched. Where a worker is lost, what it was at is done by another one: it goes
    on from `NAME.part` if the folder is shared by both, and begins anew if it is not. Workers that come later get their share.

    Args:
        client: of the cluster. Its scheduler and its workers need this library too.
        items: URLs, pairs of a URL and a name below the folder, or `Item`s.
        dest: the folder, by its path in the workers; made if needed. One that is relative is below the client's current folder.
        stop: ends all downloads, mid-transfer, in all workers, besides the current stop.
        connections_per_host: how many connections there are at a time to one host, from the whole cluster; by the URLs that are
            given, so what they redirect to is not counted.
        jobs: how many downloads there are at a time in one worker. They take none of its threads for tasks, except to begin.
        progress: called in this thread, a few times a second and at the end. What it raises ends the downloads.
        options: how to download each; see `downloads.Options`. A file has one connection here: `segments` must be 1.
        **changes: what of them is different.

    Returns:
        A result for each item, in their order.

    Raises:
        DownloadsInterrupted: the stop was set. `.results` is what has come of each item, and what has come of a file is kept. It
            is an `Interrupted`; and a `DeadlineExceeded` where the stop was a deadline.
        ClusterLost: the connection to the scheduler broke, or the client is closed; so the workers stop as well. `.results` as above.
        TypeError, ValueError: an argument cannot be what it is. Nothing has been done.

    If the client's process ends or loses its connection, and if the tasks are cancelled, the workers stop within half a second.
    """
    if not isinstance(client, Client):
        raise TypeError(f"client must be a distributed.Client, not {type(client).__name__}")
    if client.asynchronous:
        raise TypeError("client must not be asynchronous: this waits for the downloads")
    if client.status != "running":
        raise ClusterLost(f"the client is {client.status}")
    check_progress(progress)
    wanted = items_of(items)
    how = check_options(options).but(changes)
    if how.segments != 1:
        raise ValueError("segments must be 1: the limit for each host counts one connection for each file")
    for checksum in {each.checksum for each in wanted} - {None}:
        how.but({"checksum": checksum})  # raises
    told = Told(len(wanted), progress)
    spread = Spread(
        client,
        wanted,
        errands_of(wanted, dest),
        options=how,
        stop=StopEvent(stop, current_stop()),
        per_host=whole("connections_per_host", connections_per_host, least=1),
        jobs=whole("jobs", jobs, least=1),
        listener=told,
    )
    try:
        results = spread.run()
    except (DownloadsInterrupted, ClusterLost):
        told.tell()
        raise
    told.tell()
    return results
