"""The matrix: each of its cells as a test, that its page is up to date, and that its checks notice a client that is wrong."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from iointerrupt import Interrupted, sockets
from iointerrupt.testing import faults as kit
from iointerrupt.testing import steps
from tests.matrix import outcomes, table
from tests.matrix.catalogue import FAULTS
from tests.matrix.cells import Cell, Column, all_cells, play
from tests.matrix.client import Client, Family
from tests.matrix.faults import Does
from tests.matrix.outcomes import RULES, Promise, judge, outcome_of
from tests.matrix.over_http import Download, Get, IterChunks
from tests.matrix.over_streams import SocketExactly
from tests.matrix.paths import PATHS
from tests.matrix.scenes import Scene

RUN = [cell for cell in all_cells() if not cell.unfit]
PROMISES = sorted({rule.outcome.promise for rule in RULES})

#: Steps that are no faults: they take requests, order other steps, or have a name.
HARMLESS = {"expect", "expect_bytes", "mark", "read", "repeat", "route", "serve"}


@pytest.fixture(autouse=True)
def unrecorded():
    """What urllib3 logs with its errors is not kept: it refers to them, and they to the connections."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def marked(cell):
    """A cell as a parameter."""
    if cell.fault.does is Does.BREAKS_THE_CODING and cell.path.family is Family.SESSION:
        # requests leaves a response open whose body it cannot decode.
        return pytest.param(cell, marks=pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"))
    return cell


@pytest.mark.parametrize("cell", [marked(cell) for cell in RUN], ids=str)
def test_cell(cell):
    """What becomes of a client is what is documented, and what holds in every cell holds."""
    outcome = outcome_of(cell)
    assert outcome is not None
    assert judge(cell, play(cell)) == outcome.label


class TestDocuments:
    """What is promised, and where."""

    def test_no_cell_is_undocumented(self):
        """There is a rule for each cell that is run."""
        assert [str(cell) for cell in RUN if outcome_of(cell) is None] == []

    def test_no_rule_is_for_nothing(self):
        """Each rule says the outcome of a cell, so that none has been overtaken by another."""
        used = [next(rule for rule in RULES if rule.fits(cell)) for cell in RUN]
        assert [rule for rule in RULES if rule not in used] == []

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.text[:40])
    def test_promise_stands_there(self, promise):
        """The words that promise an outcome are in the documentation."""
        assert promise.is_kept()

    def test_page_is_up_to_date(self):
        """The page has the outcomes that are documented, which the cells have."""
        page = Path(__file__).parents[1] / outcomes.PAGE
        assert page.read_text(encoding="utf-8") == table.page(table.documented())


class TestFaults:
    """Whether the matrix has all that a `FaultServer` can do."""

    def test_every_fault_of_the_kit(self):
        """The faults of `testing.faults` are here by their names; the first is none."""
        assert set(kit.FAULTS) <= set(FAULTS)
        assert next(iter(FAULTS)) == "none"

    def test_every_step_that_does_harm(self):
        """Each step that can be a fault is a part of one."""
        used = {type(step).__name__ for fault in FAULTS.values() for step in (*fault.opening, *fault.answer)}
        # What these do, an action of the matrix does: there is one behind a redirect, and one that resets and ends the script.
        used |= {"redirect", "reset"}
        assert {name for name in steps.__all__ if name[0].islower()} - HARMLESS - used == set()

    def test_every_client_meets_faults(self):
        """No client is left out of a column, except for requests itself, which cannot be stopped."""
        missing = {(column, name) for column in Column for name in PATHS} - {
            (cell.column, cell.path.name) for cell in RUN
        }
        assert missing == {(Column.STOP, "requests itself")}


def cell_of(fault: str, path: type[Client], column: Column = Column.STOP) -> Cell:
    """A cell with a client that is not in the matrix."""
    return Cell(FAULTS[fault], path, column)


class Repeats(IterChunks):
    """Delivers a chunk twice."""

    def _take(self, chunks):
        for chunk in chunks:
            self.delivered += chunk + chunk


class Ends(IterChunks):
    """Takes whatever is raised for the end."""

    def run(self):
        try:
            super().run()
        except Exception:
            pass


class Miscounts(IterChunks):
    """Delivers more than what came."""

    def _take(self, chunks):
        self.delivered += b"?"
        super()._take(chunks)


class Renames(Get):
    """Raises something else."""

    def run(self):
        try:
            super().run()
        except Exception as error:
            raise RuntimeError from error


class Loses(SocketExactly):
    """Forgets the last byte that a read has taken before it timed out."""

    def _receive(self):
        self.scene.server.wait_for("stall")  # half has come
        try:
            super()._receive()
        except TimeoutError:
            del self.delivered[-1]
            raise


class Forgets(Download):
    """Throws away what came."""

    def run(self):
        try:
            super().run()
        finally:
            for name in os.listdir(self._folder):
                os.unlink(os.path.join(self._folder, name))


class Leaks(Get):
    """Leaves a descriptor open."""

    open: list[int] = []  # noqa: RUF012 - it is there to be forgotten in

    def run(self):
        self.open.append(os.open(os.devnull, os.O_RDONLY))
        super().run()


class Reuses(Client):
    """Goes on with the connection that it was stopped on."""

    name = about = "reuses"
    family = Family.SESSION

    def __init__(self, scene):
        super().__init__(scene)
        self.is_there.set()
        self._sock = self.resources.enter_context(sockets.create_connection(scene.server.address, stop=scene.stop))

    def run(self):
        self._ask("/fault")

    def _ask(self, path):
        self._sock.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        while self._sock.recv(65536):
            pass

    def go_on(self, outcome):
        self._sock.stop = self.scene.stop
        self._sock.settimeout(20)
        self._sock.sendall(b"GET /good HTTP/1.1\r\nHost: test\r\n\r\n")
        self.scene.server.wait_for("expect", 2)


class TestChecks:
    """A client with an error that was planted is noticed."""

    @pytest.mark.parametrize("fault", ["none", "truncated", "drip"])
    def test_bytes_twice(self, fault):
        """What is delivered twice is not the beginning of what was sent."""
        cell = cell_of(fault, Repeats, Column.NEITHER)
        with pytest.raises(AssertionError, match="not the beginning"):
            judge(cell, play(cell))

    @pytest.mark.parametrize("fault", ["truncated", "reset in the body", "stall in the body", "no last chunk"])
    def test_error_taken_for_an_end(self, fault):
        """An end that is none is noticed: by what is missing, or else by its name."""
        cell = cell_of(fault, Ends, Column.TIMEOUT)
        try:
            label = judge(cell, play(cell))
        except AssertionError as error:
            assert "bytes were delivered, of" in str(error)
        else:
            assert "complete in place of ChunkedEncodingError" in label

    def test_wrong_error(self):
        """An error of another kind is named in the table."""
        cell = cell_of("stall before the headers", Renames)
        assert judge(cell, play(cell)) == "**RuntimeError in place of Interrupted**"

    def test_wrong_count(self):
        """`Interrupted.transferred` is compared with what came."""
        with pytest.raises(AssertionError):
            play(cell_of("stall in the body", Miscounts))

    def test_lost_byte(self):
        """What an interrupted read has taken and nobody has got is missed when the stream goes on."""
        with pytest.raises(sockets.IncompleteRead):
            play(cell_of("stall in the body", Loses, Column.TIMEOUT))

    def test_lost_part(self):
        """A download that begins anew where it could go on is noticed."""
        with pytest.raises(AssertionError):
            play(cell_of("truncated", Forgets, Column.NEITHER))

    def test_leak(self):
        """What is left open is named."""
        with pytest.raises(AssertionError, match=r"left behind:\n  descriptor \d+, file /dev/null"):
            play(cell_of("refusal", Leaks, Column.NEITHER), patience=0.1)
        os.close(Leaks.open.pop())

    def test_connection_used_again(self):
        """A request on a connection that has seen the fault is noticed."""
        with pytest.raises(AssertionError, match="used again"):
            play(cell_of("stall in the body", Reuses))

    def test_undocumented(self, monkeypatch):
        """A cell without a rule is one in the table and in the counts."""
        monkeypatch.setattr(outcomes, "RULES", ())
        cell = cell_of("refusal", Get, Column.NEITHER)
        assert judge(cell, play(cell)) == table.UNDOCUMENTED
        assert f"cells without a documented outcome: {len(RUN)}\n" in table.page(table.documented())

    def test_broken_promise(self):
        """Words that stand nowhere are no promise."""
        assert not Promise("README.md", "nothing can ever go wrong").is_kept()


def test_stop_before_the_call():
    """A stop that is set already ends each client before it has done anything that the server could see."""
    for path in PATHS.values():
        if path.stops and not path.begins_at_body:
            before_the_call(path)


def before_the_call(path):
    """Run a client whose stop is set."""
    tls = path.speaks_tls(FAULTS["none"])
    scene = Scene(
        FAULTS["none"], tls=tls, is_raw=path.is_raw, begins_at_body=path.begins_at_body, stops=False, is_timed=False
    )
    with scene, path(scene) as client:
        scene.stop.set()
        with pytest.raises(Interrupted):
            client.run()
        assert not client.delivered
        assert not scene.server.connections
