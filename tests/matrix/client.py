"""`Client`: one way in which a client meets a fault, what it delivers, and how it goes on afterwards.

A client is made for one scene. `run` goes on with the transfer until it is complete, and raises what comes in between; what has
been delivered is in `delivered`, what an `Interrupted` carries included. `check_stop` compares an `Interrupted` with what is
documented of it; `go_on` says what the client is good for behind a fault, once that is mended. They are in `over_http` and
`over_streams`, and `paths` has all of them.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack
from enum import Enum
from typing import ClassVar, Final, Self

from iointerrupt import Interrupted
from tests.matrix.faults import Fault
from tests.matrix.scenes import Scene

#: The most bytes that a client takes at a time: the body comes in several of these.
CHUNK: Final = 4_000


class Family(Enum):
    """Clients that have the same outcomes."""

    SESSION = "requests that are read at once"
    CHUNKS = "bodies that are read as they come"
    FILE = "bodies as files"
    DOWNLOAD = "downloads"
    EXACTLY = "so many bytes of a stream"
    STREAM = "all that a stream has"


class Client:
    """A client of one scene. A context manager, which releases what it has.

    Attributes:
        name: what the path is called.
        about: what is called, for the table.
        family: with which others it has its outcomes in common.
        tls: whether it speaks TLS; None for what the fault needs.
        is_raw: whether it speaks no HTTP.
        stops: whether it can be stopped.
        begins_at_body: whether it can be stopped only from the head on.
        streams: whether what comes is delivered as it comes, and not all or nothing.
        keeps: whether it has delivered all that came, if the connection ends in order.
        delivered: what has been delivered.
        is_there: set when it has come to the phase of the fault, as far as it can tell: before that, it may wait for something else.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    family: ClassVar[Family]
    tls: ClassVar[bool | None] = None
    is_raw: ClassVar[bool] = False
    stops: ClassVar[bool] = True
    begins_at_body: ClassVar[bool] = False
    streams: ClassVar[bool] = True
    keeps: ClassVar[bool] = True

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.delivered = bytearray()
        self.is_there = threading.Event()
        self.resources = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.resources.close()

    @classmethod
    def speaks_tls(cls, fault: Fault) -> bool:
        """Whether it speaks TLS with a server that has that fault."""
        return fault.tls if cls.tls is None else cls.tls

    @classmethod
    def unfit(cls, fault: Fault) -> str:
        """Why the fault does not apply to it; empty if it does."""
        if fault.tls and cls.tls is False:
            return "there is no TLS"
        return fault.not_tls if cls.tls else ""

    def run(self) -> None:
        """Do the transfer, or what is left of it."""
        raise NotImplementedError

    def check_stop(self, stopped: Interrupted) -> None:
        """Check what an `Interrupted` says."""

    def go_on(self, outcome: type[BaseException] | None) -> None:
        """Use what is good for something behind the outcome (None: all has come), now that the fault is mended."""


def octets(partial: bytes | str | None) -> bytes:
    """What an error carries of a stream of bytes; none if it carries nothing."""
    if partial is None:
        return b""
    assert isinstance(partial, bytes)
    return partial
