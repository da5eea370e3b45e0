"""`Fault`: something that a server can do wrong, as data: what it does on the wire, in which phase, and what the client sees.

`catalogue` has all of them, `scenes` plays them. On a raw stream a fault is what is left of it without the heads of HTTP; where nothing
is, `not_raw` says why.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from iointerrupt.testing import Connection, steps

#: The file that the server has: more than a TLS record holds.
BODY: Final = hashlib.shake_256(b"the body").digest(20_000)
HALF: Final = BODY[:9_000]
REST: Final = BODY[len(HALF) :]

#: More than the buffers of a connection hold.
UPLOAD: Final = hashlib.shake_256(b"the upload").digest(1 << 16) * (1 << 8)

#: The moment of a fault that does not stall: where there is to be a stop, the server sets it here, and goes on.
NOW: Final = steps.mark("now")

#: Where a redirect leads that is a part of its fault.
BEHIND: Final = "/behind"

#: Of the file.
ETAG: Final = '"v1"'

#: What a server does: a step, or what no step does.
Action = steps.Step | Callable[[Connection], object]


class Phase(Enum):
    """Where in a transfer the fault is, in the order of the phases."""

    CONNECT = "connecting"
    HANDSHAKE = "the TLS handshake"
    UPLOAD = "sending"
    HEAD = "the head"
    PAUSE = "the pause before a retry"
    BODY = "the body"


class Does(Enum):
    """What the client sees."""

    NOTHING_WRONG = "nothing wrong"
    STALLS = "nothing more comes"
    TRICKLES = "something comes all the time, and leads to nothing"
    RESETS = "the connection is reset"
    ENDS = "the connection ends in order"
    IS_CUT_OFF = "the connection ends, and TLS does not"
    ENDS_WITHOUT_LENGTH = "the connection ends, TLS does not, and nothing has said how much there is"
    CUTS_THE_HEAD = "the connection ends in the middle of the head"
    SPEAKS_OTHERWISE = "it is no TLS"
    BREAKS_THE_HEAD = "the head is none"
    CONTRADICTS_ITSELF = "the head says two things"
    BREAKS_THE_FRAMING = "the framing of the body is none"
    BREAKS_THE_CODING = "the coding of the body is none"
    CUTS_THE_CODING = "the coded body ends too early, and its framing is as it should be"
    SENDS_MORE = "more comes than the length"
    SENDS_ANOTHER_RANGE = "another range than was asked for"
    REDIRECTS_FOR_EVER = "redirects without end"
    REFUSES = "a status that is no success"


@dataclass(frozen=True, eq=False)
class Fault:
    """A fault of a server.

    Attributes:
        name: what it is called.
        about: what the server does, as a sentence.
        phase: in which phase of the client.
        does: what the client sees.
        answer: what is done at each request; empty to serve the file.
        opening: what is done before the first request of the first connection.
        gives: of which what is delivered is a prefix, and which is delivered if there is no error.
        raw_gives: the same on a raw stream.
        kept: how many bytes have surely come when the connection has ended in order; None where some may be lost.
        tls: whether the server has to speak TLS for it.
        not_tls: why it cannot be done over TLS.
        not_raw: why it cannot be done on a raw stream.
        reads_body: whether the server reads the body of a request before it goes on.
        keeps: whether the connection is a good one afterwards.
        later: what the server has once it is mended.
        retries: how often the client is to try again.
        may_resume: whether a download can go on with what has come.
    """

    name: str
    about: str
    phase: Phase
    does: Does
    answer: tuple[Action, ...] = ()
    opening: tuple[Action, ...] = ()
    gives: bytes = BODY
    raw_gives: bytes = BODY
    kept: int | None = None
    tls: bool = False
    not_tls: str = ""
    not_raw: str = ""
    reads_body: bool = True
    keeps: bool = False
    later: bytes = BODY
    retries: int = 0
    may_resume: bool = True

    @property
    def sends_before(self) -> bool:
        """Whether something of the body comes before what is wrong."""
        return any(isinstance(step, steps.send) for step in self.answer)

    @property
    def stalls(self) -> bool:
        """Whether nothing more comes until the server is told to go on."""
        return self.does is Does.STALLS

    @property
    def stall(self) -> str:
        """The name of the step in which it stalls."""
        names = [step.name for step in (*self.opening, *self.answer) if isinstance(step, steps.Step)]
        return next((name for name in names if name.startswith("stall")), "stall")
