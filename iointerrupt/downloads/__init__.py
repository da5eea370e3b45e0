"""Downloads that stop at once in every phase, never lose or mix a byte, and go on after anything.

    from iointerrupt import downloads

    downloads.download("https://host/big.iso", checksum="sha256:...", stop=stop)

    with downloads.DownloadManager(jobs=8, stop=stop) as manager:
        for url in urls:
            manager.submit(url, "images/")

What decides is apart from what moves bytes:

    _options    what is asked for, and what is told
    _names      what a file is called          _checksums  what it has to be
    _plan       what to ask a server, and what its answer means
    _state      what is known of a part        _part       the file that it grows in
    _keeper     who saves that during a silence
    _answer     how a server is asked          _redirects  where that leads, and what goes along
    _tries      what to do after a failure
    _rate       limits and speeds              _meter      who is told of them
    _job        all of these for one download
    _transfer   a download to a file           _stream     one into a file object
    _download   `download`                     _manager    `DownloadManager`, with _handle and _queue
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from iointerrupt._errors import DownloadError
from iointerrupt.downloads._download import download
from iointerrupt.downloads._errors import (
    BadEncoding,
    BadStatus,
    ChecksumMismatch,
    ChecksumNotFound,
    ConnectionFailed,
    DecompressionBomb,
    DestinationBusy,
    DestinationExists,
    DiskFull,
    FileChanged,
    LongBody,
    RedirectRefused,
    ShortBody,
    TimedOut,
    TooLarge,
    TooSlow,
    WriteFailed,
    WrongRange,
)
from iointerrupt.downloads._options import Downloaded, Options, Progress, State, Totals

if TYPE_CHECKING:
    from iointerrupt.downloads._handle import Download
    from iointerrupt.downloads._manager import DownloadManager

__all__ = [
    "BadEncoding",
    "BadStatus",
    "ChecksumMismatch",
    "ChecksumNotFound",
    "ConnectionFailed",
    "DecompressionBomb",
    "DestinationBusy",
    "DestinationExists",
    "DiskFull",
    "Download",
    "DownloadError",
    "DownloadManager",
    "Downloaded",
    "FileChanged",
    "LongBody",
    "Options",
    "Progress",
    "RedirectRefused",
    "ShortBody",
    "State",
    "TimedOut",
    "TooLarge",
    "TooSlow",
    "Totals",
    "WriteFailed",
    "WrongRange",
    "download",
]

# Loaded when they are used: one file needs no manager.
_OF_THE_MANAGER = frozenset({"Download", "DownloadManager"})


def __getattr__(name: str) -> Any:
    if name in _OF_THE_MANAGER:
        return getattr(importlib.import_module("iointerrupt.downloads._manager"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
