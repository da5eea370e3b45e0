"""Where a download can be stuck: a server for each phase, in this process, that never gets on; and the table of them all.

The name server that does not answer takes the port 53 and a mount namespace in which /etc/resolv.conf names it, so it is
there for root alone; everybody's `getaddrinfo` then really waits, and no client is treated otherwise than another.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial

from benchmarks.downloads_peers import Table
from benchmarks.measure import Row
from iointerrupt.testing import FaultServer, steps
from iointerrupt.testing._step import Script

#: How much of a body comes before it stalls.
SENT = 64 * 1024

#: The phase for which a client has to be told of two downloads.
SLOT = "waiting for a slot"

#: What came of a client in a phase: milliseconds, or why there are none.
Outcome = list[float] | str

#: Of a client that does not know such a phase.
NONE = "-"

# On the loopback, and not where a name server of the machine may be.
_RESOLVER = ("127.53.53.53", 53)


@dataclass(frozen=True)
class Place:
    """Where to download from in order to be stuck.

    Attributes:
        ca: the path of the authority's certificate.
        prefix: what a command is to be preceded by.
    """

    url: str
    ca: str | None = None
    prefix: Sequence[str] = ()


class NotHereError(Exception):
    """The phase cannot be made on this machine."""


@contextmanager
def _server(script: Script, *, tls: bool = False) -> Iterator[Place]:
    with FaultServer(script, tls=tls) as server:
        yield Place(f"{server.url}/file", server.ca_file if tls else None)


_STALLING: Script = [steps.expect(), steps.head(length=16 * SENT), steps.send(bytes(SENT)), steps.stall()]
_LATER: Script = [steps.repeat(steps.expect(), steps.answer(status=503, headers={"Retry-After": "20"}))]


@contextmanager
def _silent_resolver() -> Iterator[Place]:
    with (
        tempfile.NamedTemporaryFile("w", suffix=".conf") as configuration,
        socket.socket(type=socket.SOCK_DGRAM) as sock,
    ):
        configuration.write(f"nameserver {_RESOLVER[0]}\noptions timeout:30 attempts:5\n")
        configuration.flush()
        script = f'mount --bind {configuration.name} /etc/resolv.conf && exec "$@"'
        prefix = ["unshare", "--mount", "sh", "-c", script, "sh"]
        try:
            sock.bind(_RESOLVER)
            subprocess.run([*prefix, "true"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NotHereError("needs root: a name server on port 53, and a resolv.conf that names it") from error
        os.chmod(configuration.name, 0o644)
        yield Place("http://silent.test/file", prefix=prefix)


PHASES: dict[str, Callable[[], AbstractContextManager[Place]]] = {
    "body stalled": partial(_server, _STALLING),
    "TLS body": partial(_server, _STALLING, tls=True),
    "no answer": partial(_server, [steps.expect(), steps.stall()]),
    "connect": partial(_server, [steps.stall_connect()]),
    "TLS handshake": partial(_server, [steps.stall_handshake()], tls=True),
    "backoff": partial(_server, _LATER),
    "DNS": _silent_resolver,
    SLOT: partial(_server, _STALLING),
}


def table(
    title: str, results: dict[str, dict[str, Outcome]], order: Sequence[str], ours: Collection[str], target: float
) -> Table:
    """What `results` has of each phase and client, and a row for each of ours: is it below `target` milliseconds?"""
    made = Table(f"{title} (ms)", ["", *results])
    for name in order:
        made.lines.append([name, *(_said(outcomes[name]) for outcomes in results.values())])
    for phase, outcomes in results.items():
        others = ", ".join(f"{name} {_said(outcomes[name])}" for name in order if name not in ours)
        for name in ours:
            outcome = outcomes[name]
            what = f"{title}, {phase}: {name}"
            if isinstance(outcome, str):
                made.rows.append(Row(what, 0, "ms", f"< {target:.0f}", met=False, note=f"{outcome}; {others}"))
            else:
                median = statistics.median(outcome)
                note = f"at most {max(outcome):.1f} of {len(outcome)}; {others}"
                made.rows.append(Row(what, median, "ms", f"< {target:.0f}", median < target, note))
    return made


def _said(outcome: Outcome) -> str:
    if isinstance(outcome, str):
        return outcome.partition(":")[0]
    median = statistics.median(outcome)
    return f"{median:.1f}" if median < 10 else f"{median:.0f}"
