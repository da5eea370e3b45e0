"""`PATHS`: all clients, by name."""

from __future__ import annotations

from typing import Final

from tests.matrix.client import Client
from tests.matrix.over_http import Download, Foreign, Get, IterChunks, Managed, Open, Post, Reference
from tests.matrix.over_streams import Descriptor, SocketChunks, SocketExactly, TLSChunks, TLSExactly

_ALL: tuple[type[Client], ...] = (
    Get,
    Post,
    IterChunks,
    Open,
    Foreign,
    Download,
    Managed,
    SocketExactly,
    SocketChunks,
    TLSExactly,
    TLSChunks,
    Descriptor,
    Reference,
)

#: By name, in the order of the table.
PATHS: Final[dict[str, type[Client]]] = {path.name: path for path in _ALL}
