"""`calls.interrupting` with real databases: sqlite3, and a PostgreSQL server through psycopg 3.

That a query really runs is what the database says: sqlite3 calls a function of ours out of the query, and PostgreSQL is
asked on a second connection.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import select
import signal
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, abandoned_helpers, use_stop
from iointerrupt.calls import call, interrupting, sleep
from iointerrupt.testing import KINDS, Background, Operation, check_interruptible, wait_until_blocked
from tests import postgres
from tests.databases import until
from tests.serving import require

ROUNDS = 100


class Sqlite:
    """A connection of sqlite3 to a database of its own, in memory."""

    Cancelled = sqlite3.OperationalError

    def __init__(self) -> None:
        self.raw = sqlite3.connect(":memory:", check_same_thread=False)  # made here, used in the thread that is stopped
        self.cancel: Callable[[], object] = self.raw.interrupt
        self._running = threading.Event()
        self.raw.create_function("running", 0, self._running.set)

    def run_for_minutes(self) -> object:
        """The query that is stopped."""
        return self._count(10**11, "coalesce(running(), 1)")

    def run_shortly(self) -> object:
        """A query of a few milliseconds."""
        return self._count(10_000, "1")

    def _count(self, limit: int, first: str) -> object:
        counting = f"SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {limit}"
        return self.raw.execute(f"WITH RECURSIVE n(i) AS ({counting}) SELECT max(i) FROM n").fetchone()

    def until_running(self) -> None:
        """Until the database is at `run_for_minutes`."""
        assert self._running.wait(20)
        self._running.clear()

    def select(self, value: int) -> int:
        """The next statement: what it returns is `value`."""
        return int(self.raw.execute("SELECT ?", (value,)).fetchone()[0])

    def recover(self) -> None:
        """What has to be done after a statement that failed: nothing here."""

    def close(self) -> None:
        """Close the connection."""
        self.raw.close()


class Server:
    """The running PostgreSQL server, and a connection that watches it."""

    def __init__(self, server: postgres.Postgres) -> None:
        self.dsn = server.dsn
        self.pid = server.pid
        self._watching = psycopg.connect(server.dsn, autocommit=True)

    def activity(self, connection: psycopg.Connection[Any]) -> tuple[str, str | None]:
        """What the server does for a connection: its state, and what it waits for."""
        query = "SELECT state, wait_event FROM pg_stat_activity WHERE pid = %s"
        row = self._watching.execute(query, (connection.info.backend_pid,)).fetchone()
        assert row is not None
        return row[0], row[1]

    def until_waiting(self, connection: psycopg.Connection[Any], event: str) -> None:
        """Until the server executes a statement of the connection, and waits in it for `event`."""
        until(lambda: self.activity(connection) == ("active", event))

    def close(self) -> None:
        """Close the connection that watches."""
        self._watching.close()


class Psycopg:
    """A connection of psycopg."""

    Cancelled = psycopg.errors.QueryCanceled

    def __init__(self, server: Server, *, autocommit: bool = False, cancel: str = "cancel") -> None:
        self.raw = psycopg.connect(server.dsn, autocommit=autocommit)
        self.cancel: Callable[[], object] = getattr(self.raw, cancel)
        self._server = server

    def run_for_minutes(self) -> object:
        """The query that is stopped."""
        return self.raw.execute("SELECT pg_sleep(600)").fetchone()

    def run_shortly(self) -> object:
        """A query of a few milliseconds."""
        return self.raw.execute("SELECT pg_sleep(0.002)").fetchone()

    def until_running(self) -> None:
        """Until the server is at `run_for_minutes`."""
        self._server.until_waiting(self.raw, "PgSleep")

    def select(self, value: int) -> int:
        """The next statement: what it returns is `value`."""
        row = self.raw.execute("SELECT %s", (value,)).fetchone()
        assert row is not None
        return int(row[0])

    def recover(self) -> None:
        """What has to be done after a statement that failed, in a transaction."""
        if not self.raw.autocommit:
            # A cancel that comes early meets the BEGIN that psycopg sends first, and then there is no transaction.
            status = psycopg.pq.TransactionStatus
            assert self.raw.info.transaction_status in {status.INERROR, status.IDLE}
            self.raw.rollback()

    def close(self) -> None:
        """Close the connection."""
        self.raw.close()


Connection = Sqlite | Psycopg
DRIVERS: dict[str, dict[str, Any]] = {
    "sqlite3": {},
    "psycopg": {},
    "psycopg-autocommit": {"autocommit": True},
    "psycopg-cancel_safe": {"cancel": "cancel_safe"},
}


@pytest.fixture(scope="session")
def running_server() -> Iterator[postgres.Postgres | None]:
    """One server for each process of the tests, started before what a test leaves behind is measured."""
    if postgres.why_not() is not None:
        yield None
        return
    with postgres.Postgres() as server:
        yield server


@pytest.fixture
def server(running_server: postgres.Postgres | None) -> Iterator[Server]:
    """PostgreSQL, or a skipped test; a failed one where the tests are to be complete."""
    if running_server is None:
        require(postgres.why_not())
    assert running_server is not None
    with closing(Server(running_server)) as server:
        yield server


@pytest.fixture(params=DRIVERS)
def connect(
    request: pytest.FixtureRequest, running_server: postgres.Postgres | None
) -> Iterator[Callable[[], Connection]]:
    """Makes connections of each driver, which are closed at the end."""
    with ExitStack() as connections:
        if request.param == "sqlite3":
            yield lambda: connections.enter_context(closing(Sqlite()))
        else:
            server = request.getfixturevalue("server")
            yield lambda: connections.enter_context(closing(Psycopg(server, **DRIVERS[request.param])))


@pytest.fixture
def connection(connect: Callable[[], Connection]) -> Connection:
    """One connection of each driver."""
    return connect()


def then(action: Callable[[], object], done: threading.Event) -> Callable[[], object]:
    """An action that tells when it has been done, or has failed."""

    def both() -> None:
        try:
            action()
        finally:
            done.set()

    return both


def stopped(connection: Connection, stop: Any, work: Callable[[], Any] | None = None) -> Any:
    """Run a query that takes minutes, or `work`, in a block that `stop` ends."""
    with interrupting(connection.cancel, stop=stop):
        return (work or connection.run_for_minutes)()


def is_usable(connection: Connection) -> bool:
    """Whether the connection, once it has recovered, goes on as if nothing had been."""
    connection.recover()
    return [connection.select(value) for value in range(3)] == [0, 1, 2]


# What a stop does, with each driver


@pytest.mark.parametrize("kind", KINDS)
def test_a_running_query_stops(connection: Connection, kind: str, background: Callable[..., Background]) -> None:
    """Any kind of stop ends it with the driver's error as the cause, and the connection goes on."""
    flag = threading.Event()
    stop: Any = {
        "threading.Event": flag,
        "multiprocessing.Event": multiprocessing.Event(),
        "callable": flag.is_set,
    }.get(kind, StopEvent())

    def work() -> None:
        with use_stop(stop) if kind == "current stop" else nullcontext():
            stopped(connection, None if kind == "current stop" else stop)

    running = background(work)
    connection.until_running()
    wait_until_blocked(stop)
    (flag if kind == "callable" else stop).set()
    error = running.error()
    assert type(error) is Interrupted
    assert type(error.__cause__) is connection.Cancelled
    assert is_usable(connection)


def test_a_deadline_stops_a_running_query(connection: Connection) -> None:
    """It raises `DeadlineExceeded`, and the connection goes on."""
    with pytest.raises(DeadlineExceeded, match=r"0.05 s exceeded") as caught:
        stopped(connection, StopEvent(timeout=0.05))
    assert type(caught.value.__cause__) is connection.Cancelled
    assert is_usable(connection)


def test_the_reason_is_told(connection: Connection, background: Callable[..., Background]) -> None:
    """`Interrupted` carries what `set` was given."""
    stop = StopEvent()
    running = background(stopped, connection, stop)
    connection.until_running()
    stop.set("enough")
    assert running.error().reason == "enough"
    assert is_usable(connection)


@pytest.mark.parametrize("make_stop", [StopEvent, threading.Event])
def test_a_stop_that_is_cleared_at_once_is_not_missed(
    connection: Connection, make_stop: Callable[[], Any], background: Callable[..., Background]
) -> None:
    """What the driver raises then is still taken for the stop that it was."""
    stop = make_stop()
    running = background(stopped, connection, stop)
    connection.until_running()
    wait_until_blocked(stop)
    stop.set()
    stop.clear()
    assert isinstance(running.error(), Interrupted)
    assert is_usable(connection)


def test_a_stop_before_the_block_keeps_it_from_running(connection: Connection) -> None:
    """Nothing reaches the database, so that there is nothing to recover from."""
    stop = StopEvent()
    stop.set()
    with pytest.raises(Interrupted) as caught:
        stopped(connection, stop, lambda: pytest.fail("the block has run"))
    assert caught.value.__cause__ is None
    assert connection.select(1) == 1


def test_a_cancel_before_the_query_has_begun_is_repeated(connection: Connection) -> None:
    """It is lost on a driver that does nothing yet; a later one ends the query."""
    stop = StopEvent()
    attempts: list[int] = []
    attempted = threading.Event()

    def action() -> None:
        connection.cancel()
        attempts.append(1)
        attempted.set()

    with pytest.raises(Interrupted) as caught, interrupting(action, stop=stop):
        stop.set()
        assert attempted.wait(20)
        connection.run_for_minutes()
    assert type(caught.value.__cause__) is connection.Cancelled
    assert len(attempts) >= 2
    assert is_usable(connection)


def test_a_query_that_has_completed_is_returned(connection: Connection) -> None:
    """A stop that comes after it, still in the block, takes nothing back; the next block does not begin."""
    stop = StopEvent()
    acted = threading.Event()
    with interrupting(then(connection.cancel, acted), stop=stop):
        value = connection.select(5)
        stop.set()
        assert acted.wait(20)
    assert value == 5
    with pytest.raises(Interrupted):
        stopped(connection, stop)
    assert connection.select(6) == 6


def test_an_error_of_the_query_is_its_own(connection: Connection) -> None:
    """Without a stop, what the driver raises passes as it is; after one, it is the cause of the `Interrupted`."""
    stop = StopEvent()
    with pytest.raises((sqlite3.OperationalError, psycopg.errors.UndefinedTable), match="nowhere"):
        stopped(connection, stop, lambda: connection.raw.execute("SELECT * FROM nowhere"))
    connection.recover()

    def late() -> None:
        stop.set()
        connection.raw.execute("SELECT * FROM nowhere")

    with pytest.raises(Interrupted) as caught:
        stopped(connection, stop, late)
    assert isinstance(caught.value.__cause__, (sqlite3.OperationalError, psycopg.Error))
    assert is_usable(connection)


def test_one_event_stops_the_queries_of_all_threads(
    connect: Callable[[], Connection], background: Callable[..., Background]
) -> None:
    """Each thread has a connection of its own."""
    stop = threading.Event()
    connections = [connect() for _ in range(4)]
    threads = [background(stopped, connection, stop) for connection in connections]
    for connection in connections:
        connection.until_running()
    wait_until_blocked(stop, 4)
    stop.set()
    assert [type(thread.error()) for thread in threads] == [Interrupted] * 4
    assert all(map(is_usable, connections))


def test_a_stop_ends_its_own_query_only(
    connect: Callable[[], Connection], background: Callable[..., Background]
) -> None:
    """Of two connections with a stop each, the other one's query goes on."""
    first, second = connect(), connect()
    stops = StopEvent(), StopEvent()
    threads = [background(stopped, connection, stop) for connection, stop in zip((first, second), stops, strict=True)]
    first.until_running()
    second.until_running()
    stops[0].set("first")
    assert threads[0].error().reason == "first"
    assert is_usable(first)
    assert threads[1].thread.is_alive()
    if isinstance(second, Psycopg):
        second.until_running()  # it still is
    stops[1].set("second")
    assert threads[1].error().reason == "second"
    assert is_usable(second)


def test_stops_at_any_moment_reach_no_later_statement(connection: Connection) -> None:
    """Whenever one comes, the query is returned or `Interrupted`, and all the statements after it are answered."""
    for _ in range(ROUNDS):
        stop = StopEvent()
        setter = threading.Timer(random.uniform(0, 0.004), stop.set)
        setter.start()
        try:
            assert stopped(connection, stop, connection.run_shortly) is not None
        except Interrupted as error:
            if error.__cause__ is not None:  # else it has not begun
                connection.recover()
        assert [connection.select(value) for value in range(3)] == [0, 1, 2]
        setter.join()


def test_stops_at_the_end_of_a_query_reach_no_later_statement(connection: Connection) -> None:
    """A cancel that is on its way while the query completes has arrived before the block is left."""

    def work(stop: StopEvent) -> int:
        stop.set()
        return connection.select(7)

    for _ in range(ROUNDS):
        stop = StopEvent()
        try:
            assert stopped(connection, stop, partial(work, stop)) == 7
        except Interrupted:
            connection.recover()
        assert [connection.select(value) for value in range(3)] == [0, 1, 2]


def test_a_real_query_keeps_the_contract_sqlite3() -> None:
    """`check_interruptible` over a query of sqlite3 that runs until it is told to end."""

    @contextmanager
    def querying() -> Iterator[Operation]:
        end = threading.Event()
        counting = "SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE NOT ended()"
        with closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
            connection.create_function("ended", 0, end.is_set)

            def run(stop: Any) -> object:
                with interrupting(connection.interrupt, stop=stop):
                    found = connection.execute(f"WITH RECURSIVE n(i) AS ({counting}) SELECT max(i) > 0 FROM n")
                    return found.fetchone()

            yield Operation(run=run, release=end.set)

    check_interruptible(querying)


def test_a_real_query_keeps_the_contract_psycopg(server: Server) -> None:
    """`check_interruptible` over a query that waits for a lock which another connection holds."""

    @contextmanager
    def locking() -> Iterator[Operation]:
        with (
            psycopg.connect(server.dsn, autocommit=True) as connection,
            psycopg.connect(server.dsn) as holder,
        ):
            holder.execute("SELECT pg_advisory_xact_lock(1)")

            def run(stop: Any) -> object:
                with interrupting(connection.cancel, stop=stop):
                    return connection.execute("SELECT 'mine' FROM pg_advisory_xact_lock(1)").fetchone()

            yield Operation(run=run, release=holder.rollback)

    check_interruptible(locking)


def test_a_signal_stops_a_query_of_the_main_thread(
    connection: Connection, background: Callable[..., Background]
) -> None:
    """Its handler, which runs in that thread, gets its turn: psycopg looks for it, sqlite3 with a progress handler does."""
    if isinstance(connection, Sqlite):
        connection.raw.set_progress_handler(lambda: 0, 10_000)
    stop = StopEvent()
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: stop.set(number))
    try:

        def send() -> None:
            connection.until_running()
            os.kill(os.getpid(), signal.SIGUSR1)

        background(send)
        with pytest.raises(Interrupted) as caught:
            stopped(connection, stop)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert caught.value.reason == signal.SIGUSR1
    assert is_usable(connection)


# What else PostgreSQL does


def test_the_server_stops_too(server: Server, background: Callable[..., Background]) -> None:
    """The query does not go on without its client: the server is idle, and sleeps no more."""
    with closing(Psycopg(server)) as connection:
        stop = StopEvent()
        running = background(stopped, connection, stop)
        connection.until_running()
        stop.set()
        assert isinstance(running.error(), Interrupted)
        assert server.activity(connection.raw)[0] == "idle in transaction (aborted)"
        connection.raw.rollback()
        assert server.activity(connection.raw)[0] == "idle"


def test_a_transaction_block_is_rolled_back(server: Server, background: Callable[..., Background]) -> None:
    """`connection.transaction()` takes back what was done before the stop, and needs no help in that."""
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE things (number int)")
        stop = StopEvent()

        def work() -> None:
            with interrupting(connection.cancel, stop=stop), connection.transaction():
                connection.execute("INSERT INTO things VALUES (1)")
                connection.execute("SELECT pg_sleep(600)")

        running = background(work)
        server.until_waiting(connection, "PgSleep")
        stop.set()
        assert isinstance(running.error(), Interrupted)
        assert connection.info.transaction_status is psycopg.pq.TransactionStatus.IDLE
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (0,)


def test_a_fetch_of_a_server_side_cursor_stops(server: Server, background: Callable[..., Background]) -> None:
    """The rows are computed as they are fetched, so that it is the fetch which blocks."""
    with psycopg.connect(server.dsn) as connection:
        stop = StopEvent()
        seen: list[int] = []

        def work() -> None:
            with connection.cursor("rows") as cursor:
                cursor.itersize = 1
                cursor.execute("SELECT i, CASE WHEN i > 2 THEN pg_sleep(600) END FROM generate_series(1, 5) i")
                with interrupting(connection.cancel, stop=stop):
                    seen.extend(row[0] for row in cursor)

        running = background(work)
        server.until_waiting(connection, "PgSleep")
        stop.set()
        assert isinstance(running.error(), Interrupted)
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize(
    "query", ["SELECT generate_series(1, 1000000000)", "SELECT 1 UNION ALL SELECT 2 FROM pg_sleep(600)"]
)
def test_a_copy_out_stops(server: Server, query: str, background: Callable[..., Background]) -> None:
    """While rows come, or while none does; those that have come have been seen."""
    with psycopg.connect(server.dsn) as connection, connection.cursor() as cursor:
        stop = StopEvent()
        came = threading.Event()
        rows = []

        def work() -> None:
            with interrupting(connection.cancel, stop=stop), cursor.copy(f"COPY ({query}) TO STDOUT") as copy:
                for row in copy.rows():
                    rows.append(row)
                    came.set()

        running = background(work)
        if "pg_sleep" in query:
            server.until_waiting(connection, "PgSleep")
        else:
            assert came.wait(20)
        stop.set()
        error = running.error()
        assert isinstance(error, Interrupted)
        assert isinstance(error.__cause__, psycopg.errors.QueryCanceled)
        assert rows[:1] in ([("1",)], [])
        connection.rollback()
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_copy_in_that_the_server_is_slow_to_take_stops(server: Server, background: Callable[..., Background]) -> None:
    """The thread blocks in a write, since the server does not read on; no row arrives."""
    with psycopg.connect(server.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE lines (line text)")
        connection.commit()
        stop = StopEvent()

        def work() -> None:
            with (
                interrupting(connection.cancel, stop=stop),
                cursor.copy("COPY lines FROM STDIN WHERE pg_sleep(600)::text = ''") as copy,
            ):
                for _ in range(100):
                    copy.write("x" * 100_000 + "\n")

        running = background(work)
        server.until_waiting(connection, "PgSleep")
        stop.set()
        error = running.error()
        assert isinstance(error, Interrupted)
        assert isinstance(error.__cause__, psycopg.errors.QueryCanceled)
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM lines").fetchone() == (0,)


def test_a_copy_in_without_end_checks_between_its_rows(server: Server, background: Callable[..., Background]) -> None:
    """The driver sees the server's refusal only at the end of the data, so the loop that feeds it asks the stop itself."""
    with psycopg.connect(server.dsn) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE lines (line text)")
        connection.commit()
        stop = StopEvent()
        going = threading.Event()

        def work() -> None:
            with interrupting(connection.cancel, stop=stop), cursor.copy("COPY lines FROM STDIN") as copy:
                while True:
                    copy.write_row(["x" * 1000])
                    going.set()
                    stop.raise_if_set()

        running = background(work)
        assert going.wait(20)
        stop.set()
        assert isinstance(running.error(), Interrupted)
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM lines").fetchone() == (0,)


class Listener:
    """A loop over notifications, which waits for its connection and its stop together, and ends with `Interrupted`.

    There is no statement to cancel while it waits. A stop has a descriptor, as the connection has, and `notifies` takes
    what has come without waiting.
    """

    def __init__(self, connection: psycopg.Connection[Any], stop: Any) -> None:
        self._connection = connection
        self._stop = StopEvent(stop)  # of any kind, as an event with a descriptor
        self.heard: list[str] = []
        self.has_heard = threading.Semaphore(0)

    def run(self) -> None:
        """Listen until the stop."""
        while True:
            for notify in self._connection.notifies(timeout=0):
                self.heard.append(notify.payload)
                self.has_heard.release()
            self._stop.raise_if_set()
            select.select([self._connection.fileno(), self._stop.fileno()], [], [])


@pytest.mark.parametrize("make_stop", [StopEvent, threading.Event])
def test_listening_stops_and_goes_on(
    server: Server, make_stop: Callable[[], Any], background: Callable[..., Background]
) -> None:
    """No notification is lost: those before the stop are delivered, and those after it wait for the next loop."""
    with (
        psycopg.connect(server.dsn, autocommit=True) as connection,
        psycopg.connect(server.dsn, autocommit=True) as sender,
    ):
        connection.execute("LISTEN jobs")
        stop = make_stop()
        first = Listener(connection, stop)
        running = background(first.run)
        for payload in ("one", "two"):
            sender.execute("SELECT pg_notify('jobs', %s)", (payload,))
            assert first.has_heard.acquire(timeout=20)
        stop.set()
        assert isinstance(running.error(), Interrupted)
        assert first.heard == ["one", "two"]
        sender.execute("SELECT pg_notify('jobs', 'three')")
        stop.clear()
        second = Listener(connection, stop)
        running = background(second.run)
        assert second.has_heard.acquire(timeout=20)
        stop.set()
        assert isinstance(running.error(), Interrupted)
        assert second.heard == ["three"]


def test_listening_is_woken_by_a_notification(server: Server, background: Callable[..., Background]) -> None:
    """`notifies()` itself, which a cancel does not end, ends by a notification that a second connection sends."""
    with (
        psycopg.connect(server.dsn, autocommit=True) as connection,
        psycopg.connect(server.dsn, autocommit=True) as waker,
    ):
        connection.execute("LISTEN jobs")
        stop = StopEvent()

        def work() -> None:
            with interrupting(lambda: waker.execute("NOTIFY jobs"), stop=stop):
                for _ in connection.notifies():
                    stop.raise_if_set()

        running = background(work)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(running.error(), Interrupted)
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_a_connect_that_is_not_answered_is_left_behind(background: Callable[..., Background]) -> None:
    """A connection that does not exist yet has no cancel: `call` waits for it, and a stop leaves it to itself."""
    stop = StopEvent()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        dsn = f"host=127.0.0.1 port={listener.getsockname()[1]} user=tests dbname=postgres"
        connecting = background(call, psycopg.connect, dsn, stop=stop)
        peer, _ = listener.accept()
        with peer:
            wait_until_blocked(stop)
            stop.set()
            assert isinstance(connecting.error(), Interrupted)
            assert abandoned_helpers() == 1


def test_a_connection_that_the_server_ends(server: Server, background: Callable[..., Background]) -> None:
    """Its error is not taken for a stop."""
    with closing(Psycopg(server)) as connection:
        running = background(stopped, connection, StopEvent())
        connection.until_running()
        with psycopg.connect(server.dsn) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (connection.raw.info.backend_pid,))
        error = running.error()
        assert isinstance(error, psycopg.OperationalError)
        assert not isinstance(error, connection.Cancelled)


# What else sqlite3 does


def test_the_thread_that_runs_the_query_may_have_made_the_connection(background: Callable[..., Background]) -> None:
    """`interrupt` is the one method that sqlite3 lets another thread call."""
    stop = threading.Event()
    running = threading.Event()

    def work() -> object:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.create_function("running", 0, running.set)
            with interrupting(connection.interrupt, stop=stop):
                return connection.execute(
                    "WITH RECURSIVE n(i) AS (SELECT coalesce(running(), 1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
                )

    thread = background(work)
    assert running.wait(20)
    stop.set()
    assert isinstance(thread.error().__cause__, sqlite3.OperationalError)


def test_rows_that_are_computed_one_by_one_stop() -> None:
    """The loop over a cursor is in the block, for that is where the query runs."""
    with closing(Sqlite()) as connection:
        stop = StopEvent()
        seen = []
        with pytest.raises(Interrupted), interrupting(connection.cancel, stop=stop):
            for (number,) in connection.raw.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
            ):
                seen.append(number)
                if number == 10:
                    stop.set()
        assert seen == list(range(1, len(seen) + 1))
        assert is_usable(connection)


def test_a_write_that_is_stopped_takes_its_transaction_back() -> None:
    """That is SQLite's rule for an interrupted INSERT, UPDATE or DELETE; what was committed stays."""
    with closing(Sqlite()) as connection:
        raw = connection.raw
        raw.execute("CREATE TABLE things (number)")
        raw.execute("INSERT INTO things VALUES (1)")
        raw.commit()
        raw.execute("INSERT INTO things VALUES (2)")
        counting = "SELECT 3 UNION ALL SELECT i + 1 FROM n"
        with pytest.raises(DeadlineExceeded):
            stopped(
                connection,
                StopEvent(timeout=0.05),
                lambda: raw.execute(f"INSERT INTO things WITH RECURSIVE n(i) AS ({counting}) SELECT i FROM n"),
            )
        assert not raw.in_transaction
        assert raw.execute("SELECT number FROM things").fetchall() == [(1,)]


def test_an_unfinished_cursor_of_the_connection_is_stopped_too() -> None:
    """SQLite interrupts all that a connection has begun, and goes on once the last of it is over."""
    with closing(Sqlite()) as connection:
        cursor = connection.raw.execute("VALUES (1), (2), (3)")
        assert cursor.fetchone() == (1,)
        with pytest.raises(DeadlineExceeded):
            stopped(connection, StopEvent(timeout=0.05))
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            cursor.fetchall()
        assert is_usable(connection)


def test_a_wait_for_the_lock_of_a_database_is_made_of_short_ones(
    tmp_path: Path, background: Callable[..., Background]
) -> None:
    """`interrupt` does not end SQLite's own wait for a lock (`timeout=`), so it does not wait, and we do."""
    file = tmp_path / "database"
    stop = threading.Event()

    with closing(sqlite3.connect(file)) as holder, ExitStack() as connections:
        holder.execute("BEGIN EXCLUSIVE")
        connection = connections.enter_context(closing(sqlite3.connect(file, timeout=0, check_same_thread=False)))

        def work() -> None:
            while True:
                try:
                    connection.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorname != "SQLITE_BUSY":
                        raise
                else:
                    return
                sleep(0.01, stop=stop)

        running = background(work)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(running.error(), Interrupted)
        holder.rollback()
        stop.clear()
        work()
        assert connection.in_transaction


# Actions that fail or hang


@pytest.fixture
def reported(monkeypatch: pytest.MonkeyPatch) -> list[BaseException | None]:
    """What has gone to `threading.excepthook`."""
    errors: list[BaseException | None] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: errors.append(args.exc_value))
    return errors


def test_an_action_that_raises_is_tried_again(
    connection: Connection, reported: list[BaseException | None], background: Callable[..., Background]
) -> None:
    """Its error is reported once, and the query stops as soon as an attempt succeeds."""
    attempts: list[int] = []

    def action() -> None:
        attempts.append(1)
        if len(attempts) < 3:
            raise ZeroDivisionError
        connection.cancel()

    stop = StopEvent()

    def work() -> None:
        with interrupting(action, stop=stop):
            connection.run_for_minutes()

    running = background(work)
    connection.until_running()
    stop.set()
    assert isinstance(running.error().__cause__, connection.Cancelled)
    assert [type(error) for error in reported] == [ZeroDivisionError]
    assert len(attempts) >= 3
    assert is_usable(connection)


def test_a_closed_connection_of_sqlite3(reported: list[BaseException | None]) -> None:
    """What its `interrupt` raises is reported, and what the block raises is the cause."""
    connection = Sqlite()
    connection.close()
    stop = StopEvent()
    attempted = threading.Event()
    with pytest.raises(Interrupted) as caught, interrupting(then(connection.cancel, attempted), stop=stop):
        stop.set()
        assert attempted.wait(20)
        connection.select(1)
    assert isinstance(caught.value.__cause__, sqlite3.ProgrammingError)
    assert [type(error) for error in reported] == [sqlite3.ProgrammingError]


@pytest.mark.parametrize("cancel", ["cancel", "cancel_safe"])
def test_a_closed_connection_of_psycopg(server: Server, cancel: str, reported: list[BaseException | None]) -> None:
    """Its cancel does nothing, and says nothing; what the block raises is the cause."""
    connection = Psycopg(server, cancel=cancel)
    connection.close()
    stop = StopEvent()
    acted = threading.Event()
    with (
        pytest.raises(Interrupted) as caught,
        interrupting(then(connection.cancel, acted), stop=stop),
    ):
        stop.set()
        assert acted.wait(20)
        connection.select(1)
    assert isinstance(caught.value.__cause__, psycopg.OperationalError)
    assert reported == []


def test_an_action_that_hangs_is_left_behind_after_the_grace() -> None:
    """Leaving the block waits for it no longer; it is counted for as long as it hangs."""
    stop = StopEvent()
    hanging, end = threading.Event(), threading.Event()

    def action() -> None:
        hanging.set()
        end.wait()

    with interrupting(action, stop=stop, grace=0.02):
        stop.set()
        assert hanging.wait(20)
    assert abandoned_helpers() == 1
    end.set()
    until(lambda: abandoned_helpers() == 0)


@pytest.mark.skipif(not psycopg.capabilities.has_cancel_safe(), reason="libpq is older than 17")
def test_a_cancel_that_the_server_does_not_answer_is_left_behind(server: Server) -> None:
    """The process that takes new connections hangs, and so does the cancel, which is one; the others go on.

    With `cancel_safe`, that is: `cancel` waits without letting any other thread of this process run.
    """
    with closing(Psycopg(server, cancel="cancel_safe")) as connection:
        stop = StopEvent()
        acting = threading.Event()

        def action() -> None:
            acting.set()
            connection.cancel()

        os.kill(server.pid, signal.SIGSTOP)
        try:
            with interrupting(action, stop=stop, grace=0.02):
                stop.set()
                assert acting.wait(20)
                assert connection.select(1) == 1
            assert abandoned_helpers() == 1
            assert connection.select(2) == 2
        finally:
            os.kill(server.pid, signal.SIGCONT)
        until(lambda: abandoned_helpers() == 0)
        assert connection.select(3) == 3


def test_an_action_must_be_callable(server: Server) -> None:
    """A connection is not: its method is meant."""
    with psycopg.connect(server.dsn) as connection, pytest.raises(TypeError, match="must be callable, not Connection"):
        interrupting(connection).__enter__()  # type: ignore[arg-type]
