"""What `download_all` is asked for and what it tells: plain values, and the errors that have them with them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from iointerrupt._errors import DeadlineExceeded, Interrupted
from iointerrupt.downloads import Downloaded
from iointerrupt.downloads._names import parts_below
from iointerrupt.downloads._options import Loggable, check_url


@dataclass(frozen=True, repr=False)
class Item(Loggable):
    """One file to download.

    Attributes:
        url: http or https.
        dest: its name below the folder, with "/" between the parts; None for the name that the server or the URL gives.
        checksum: what it has to be, as of `downloads.Options`; None for that of the call.
    """

    url: str
    dest: str | None = None
    checksum: str | None = None


@dataclass(frozen=True, repr=False)
class ItemResult(Loggable):
    """What became of an item.

    Attributes:
        item: which.
        downloaded: the file, as its worker sees it; None where there is none.
        error: why there is none: a `downloads.DownloadError`, `Interrupted` of an item that was stopped or not begun, or what
            else its worker or Dask has raised.
        worker: the address of the worker that had it last; empty where none had it.
        attempts: how many workers had it: more than one where some were lost meanwhile.
    """

    item: Item
    downloaded: Downloaded | None
    error: Exception | None
    worker: str = ""
    attempts: int = 0


@dataclass(frozen=True)
class ClusterProgress:
    """How far all items are, at one moment.

    Attributes:
        total: how many items there are.
        completed, failed, running: how many of them are so; all others wait.
        done: bytes that are there, those of earlier runs included.
        speed: bytes a second that come, all workers together.
        workers: how many workers the cluster has.
    """

    total: int
    completed: int = 0
    failed: int = 0
    running: int = 0
    done: int = 0
    speed: float = 0.0
    workers: int = 0


class DownloadsInterrupted(Interrupted):
    """A stop came before all items had ended. What has come of them is kept, for the next run.

    Attributes:
        results: one for each item, in their order. Those that had not ended have an `Interrupted` as their error.
    """

    results: Sequence[ItemResult] = ()

    def __reduce__(self) -> tuple[Any, ...]:
        kind, arguments, state = super().__reduce__()
        return kind, arguments, {**state, "results": self.results}


class DownloadsLate(DownloadsInterrupted, DeadlineExceeded):
    """The same, where the stop was a deadline that passed."""


class ClusterLost(ConnectionError):
    """The connection to the scheduler broke, or the client was closed. The workers stop, and what has come is kept.

    Attributes:
        results: as of `DownloadsInterrupted`.
    """

    def __init__(self, message: str, results: Sequence[ItemResult] = ()) -> None:
        super().__init__(message)
        self.results = results

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.results)


@dataclass(frozen=True)
class Errand:
    """An item, as a worker gets it.

    Attributes:
        url: from where.
        path: the file; with a separator at its end, the folder.
        checksum: of `Item`.
        is_left: whether a worker that was lost had it.
        may_be_there: whether that may have completed it.
    """

    url: str
    path: str
    checksum: str | None = None
    is_left: bool = False
    may_be_there: bool = False


def items_of(given: Iterable[str | tuple[str, str] | Item]) -> list[Item]:
    """Items from all that is accepted as one.

    Raises:
        TypeError, ValueError: something is no item, has no URL that can be downloaded, or a name that leads out of the folder.
    """
    if isinstance(given, str):
        raise TypeError("items must be an iterable of items, not one str")
    items = []
    for each in given:
        match each:
            case Item():
                item = each
            case str():
                item = Item(each)
            case (url, dest) if isinstance(each, tuple):
                item = Item(url, dest)
            case _:
                raise TypeError(f"an item must be a URL, a tuple of a URL and a name, or an Item, not {each!r}")
        check_url(item.url)
        if item.dest is not None and not isinstance(item.dest, str):
            raise TypeError(f"dest of an item must be a str, not {type(item.dest).__name__}")
        if item.dest is not None:
            parts_below(item.dest)  # raises
        items.append(item)
    return items


def errands_of(items: Iterable[Item], dest: str | os.PathLike[str]) -> list[Errand]:
    """Where each item goes, below a folder."""
    folder = os.path.abspath(dest)
    return [
        Errand(each.url, os.path.join(folder, *(parts_below(each.dest) if each.dest else [""])), each.checksum)
        for each in items
    ]
