"""One cell of the matrix: a fault, a client, and whether there is a stop, a timeout, or neither. `play` runs it and looks after it.

Whatever becomes of a cell, `play` checks that nothing is left behind, that no connection is used again that has seen the fault,
and that what is good for something afterwards goes on: a session, the part of a download, a socket that was stopped. Whether
its outcome is the documented one, and what was delivered the beginning of what was sent, is judged by `outcomes`.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from iointerrupt import Interrupted
from iointerrupt.testing import Background, no_leaks, wait_until_blocked
from tests.matrix.catalogue import FAULTS
from tests.matrix.client import Client
from tests.matrix.faults import Does, Fault, Phase
from tests.matrix.paths import PATHS
from tests.matrix.scenes import LONG, REASON, Scene


class Column(Enum):
    """What there is besides the fault."""

    STOP = "stop during"
    TIMEOUT = "timeout"
    NEITHER = "no stop"


class Cell(NamedTuple):
    """A fault, a client and a column."""

    fault: Fault
    path: type[Client]
    column: Column

    def __str__(self) -> str:
        return f"{self.fault.name} / {self.path.name} / {self.column.value}"

    @property
    def unfit(self) -> str:
        """Why it is not run; empty if it is."""
        return self.path.unfit(self.fault) or self._unfit_column()

    def _unfit_column(self) -> str:
        fault = self.fault
        if self.column is Column.STOP:
            return "" if self.path.stops else "requests itself cannot be stopped"
        if fault.phase is Phase.PAUSE:
            return "a timeout limits waits for bytes, so the pause lasts for its hour"
        if fault.does is Does.TRICKLES:
            return "each piece comes in time, so it lasts for ever"
        return "it lasts for ever" if fault.stalls and self.column is Column.NEITHER else ""


def all_cells() -> Iterator[Cell]:
    """Every fault for every client in every column."""
    for column in Column:
        for fault in FAULTS.values():
            for path in PATHS.values():
                yield Cell(fault, path, column)


class Observed(NamedTuple):
    """What has become of a cell.

    Attributes:
        kind: of what the client raised; None if nothing.
        delivered: what it had by then.
    """

    kind: type[BaseException] | None
    delivered: bytes


def play(cell: Cell, *, patience: float = 5.0) -> Observed:
    """Run a cell.

    Args:
        cell: what to run.
        patience: seconds that what has been told to end has for it.

    Raises:
        AssertionError: something is not as it has to be, whatever the outcome.
    """
    with no_leaks(str(cell), timeout=patience):
        observed = _play(cell)
        # The errors of urllib3 are in cycles with the pools that they came from; `no_leaks` would collect all there is.
        gc.collect(1)
        return observed


def _play(cell: Cell) -> Observed:
    fault, path, column = cell
    scene = Scene(
        fault,
        tls=path.speaks_tls(fault),
        is_raw=path.is_raw,
        begins_at_body=path.begins_at_body,
        stops=column is Column.STOP,
        is_timed=column is Column.TIMEOUT,
    )
    with scene, path(scene) as client:
        running = Background(client.run)
        if column is Column.STOP and fault.stalls:
            scene.server.wait_for(fault.stall)
            assert client.is_there.wait(LONG)
            wait_until_blocked(scene.stop)
            scene.stop.set(REASON)
        kind = _outcome(client, running)
        del running
        observed = Observed(kind, bytes(client.delivered))
        scene.mend(is_complete=kind is None)
        client.go_on(kind)
        scene.check_connections()
        return observed


def _outcome(client: Client, running: Background) -> type[BaseException] | None:
    """What the client has raised; not the error itself, which refers to all that it came from."""
    try:
        running.result()
    except AssertionError:
        raise
    except Interrupted as stopped:
        assert stopped.reason == REASON, f"the reason is {stopped.reason!r}"
        client.check_stop(stopped)
        return type(stopped)
    except BaseException as error:
        return type(error)
    return None
