"""A Dask cluster: one stop for all of its processes, and downloads that are spread over its workers.

    from iointerrupt import dask

    with dask.ClusterStop(client) as stop:
        client.map(fetch, urls, stop=stop)

    dask.download_all(client, urls, dest="/shared/images", stop=stop)

It takes the extra `iointerrupt[dask]`. `ClusterStop` is in `_dask.stop`, `download_all` in `_dask.spread`.
"""

from __future__ import annotations

try:
    import distributed as _distributed  # noqa: F401 - said here, before what is imported below says less
except ImportError as _error:
    raise ImportError('iointerrupt.dask takes Dask\'s distributed: pip install "iointerrupt[dask]"') from _error

from iointerrupt._dask.spread import download_all
from iointerrupt._dask.spread_items import ClusterLost, ClusterProgress, DownloadsInterrupted, Item, ItemResult
from iointerrupt._dask.stop import ClusterStop

__all__ = [
    "ClusterLost",
    "ClusterProgress",
    "ClusterStop",
    "DownloadsInterrupted",
    "Item",
    "ItemResult",
    "download_all",
]
