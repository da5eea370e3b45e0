"""PyMySQL and pg8000, which nobody has changed, against MariaDB and PostgreSQL in a patched program; and psycopg, which is C.

A query that is stopped costs its connection, since its answer may still come: PyMySQL closes it, with pg8000 that is left to the
caller. The server is not told: it goes on with the query until it notices, and an open transaction is undone then.
"""

from __future__ import annotations

import os
import signal
import ssl
import traceback
from contextlib import ExitStack, closing, contextmanager
from functools import partial

import pg8000.dbapi
import pg8000.exceptions
import pg8000.native
import psycopg
import pymysql
import pytest

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, use_stop
from iointerrupt.calls import interrupting
from iointerrupt.testing import steps, wait_until_blocked
from tests import mariadb, postgres
from tests.databases import MariaDBWatch, PostgresWatch, until
from tests.libraries import stop_when_stuck, stop_with_server, under
from tests.patched import patched
from tests.serving import require

stops_soon = pytest.mark.stops_within(5)

# What is not closed where a connect fails, and a file over a socket of pg8000's, are closed with the last reference to them.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


class PyMySQL:
    """A connection of PyMySQL, and what the tests ask the server in its language."""

    Cancelled = pymysql.err.OperationalError
    sleep, asleep = "SELECT SLEEP(600)", "User sleep"
    lock, waits, release = "SELECT GET_LOCK('lock', 600)", "User lock", "SELECT RELEASE_LOCK('lock')"
    cancel = "KILL QUERY {}"

    def __init__(self, server, watch, *, tls=False, autocommit=True):
        options = {"ssl": ssl.create_default_context(cafile=server.ca_file)} if tls else {"ssl_disabled": True}
        self.watch = watch
        self.raw = pymysql.connect(
            unix_socket=server.path, user="tests", database="tests", autocommit=autocommit, **options
        )
        self.number = self.raw.thread_id()
        self.process = server.pid

    def run(self, query):
        """Execute a statement; returns the first value of what it returns, if it does."""
        cursor = self.raw.cursor()
        cursor.execute(query)
        row = cursor.fetchone()
        return row and row[0]

    def is_alive(self):
        """Whether the library takes it to be usable."""
        return self.raw.open

    def close(self):
        """Close it, if it is not closed."""
        if self.raw.open:
            self.raw.close()


class Pg8000:
    """A connection of pg8000, by the DB-API or by its own interface."""

    Cancelled = pg8000.exceptions.DatabaseError
    sleep, asleep = "SELECT pg_sleep(600)", "PgSleep"
    lock, waits, release = "SELECT pg_advisory_lock(1)", "advisory", "SELECT pg_advisory_unlock(1)"
    cancel = "SELECT pg_cancel_backend({})"

    def __init__(self, server, watch, *, native=False, autocommit=True):
        self.watch = watch
        make = pg8000.native.Connection if native else pg8000.dbapi.connect
        self.raw = make(user="tests", database="postgres", unix_sock=os.path.join(server.folder, ".s.PGSQL.5432"))
        self._native = native
        if not native:
            self.raw.autocommit = autocommit
        elif not autocommit:
            self.raw.run("BEGIN")
        self.number = self.process = self.run("SELECT pg_backend_pid()")

    def run(self, query):
        """Execute a statement; returns the first value of what it returns, if it does."""
        if self._native:
            rows = self.raw.run(query)
        else:
            cursor = self.raw.cursor()
            cursor.execute(query)
            rows = cursor.fetchall() if cursor.description else []
        return rows[0][0] if rows else None

    def is_alive(self):
        """Whether the library takes it to be usable."""
        return self.raw._usock is not None

    def close(self):
        """Close it, if it is not closed."""
        if self.is_alive():
            self.raw.close()


DRIVERS = {
    "PyMySQL": PyMySQL,
    "PyMySQL-TLS": partial(PyMySQL, tls=True),
    "pg8000.dbapi": Pg8000,
    "pg8000.native": partial(Pg8000, native=True),
}


@pytest.fixture(scope="module")
def servers():
    """Those servers that can be here, each with a connection that watches it, for all of the tests here."""
    with ExitStack() as stack:
        servers = {}
        if mariadb.why_not() is None:
            server = stack.enter_context(mariadb.running())
            servers["mariadb"] = server, stack.enter_context(closing(MariaDBWatch(server.path)))
        if postgres.why_not() is None:
            server = stack.enter_context(postgres.Postgres())
            servers["postgres"] = server, stack.enter_context(closing(PostgresWatch(server.dsn)))
        yield servers


@pytest.fixture
def mariadb_server(servers):
    """MariaDB, or a test that is skipped, or fails."""
    require(mariadb.why_not())
    return servers["mariadb"]


@pytest.fixture
def postgres_server(servers):
    """PostgreSQL, likewise."""
    require(postgres.why_not())
    return servers["postgres"]


@pytest.fixture(params=DRIVERS)
def connect(request, servers):
    """Makes connections of each driver in a patched program; the server is rid of them at the end, and of the table."""
    server, watch = request.getfixturevalue("mariadb_server" if "MySQL" in request.param else "postgres_server")
    watch.run("CREATE TABLE numbers (n INT)")
    with patched(), ExitStack() as connections:

        def connect(**options):
            connection = DRIVERS[request.param](server, watch, **options)
            connections.callback(watch.kill, connection.number)
            return connections.enter_context(closing(connection))

        yield connect
    watch.run("DROP TABLE numbers")


@pytest.fixture
def connection(connect):
    """One connection of each driver."""
    return connect()


@contextmanager
def held(connection):
    """A block in which the connection that watches has a lock."""
    connection.watch.run(connection.lock)
    try:
        yield
    finally:
        connection.watch.run(connection.release)


def until_in(connection, event):
    """A function that returns when the server is at something for a connection."""
    return lambda: connection.watch.until_in(connection.number, event)


def asleep(connection):
    """One that does when it is at the statement `sleep`."""
    return until_in(connection, connection.asleep)


@stops_soon
def test_query(connect, connection, background, stop):
    """It stops, while the server goes on with it until it is told; another connection works meanwhile."""
    error = stop_when_stuck(background, stop, asleep(connection), connection.run, connection.sleep)
    assert isinstance(error, Interrupted)
    assert error.reason == "enough"
    connection.close()
    asleep(connection)()
    assert connect().run("SELECT 42") == 42
    connection.watch.kill(connection.number)


@stops_soon
def test_connection_afterwards(connection, background, stop):
    """PyMySQL has closed its own. That of pg8000 has to be, since the next query would be given the answer to this one."""
    with held(connection):
        waits = until_in(connection, connection.waits)
        error = stop_when_stuck(background, stop, waits, connection.run, connection.lock)
    assert isinstance(error, Interrupted)
    if isinstance(connection, PyMySQL):
        assert not connection.is_alive()
        with pytest.raises(pymysql.err.InterfaceError):
            connection.run("SELECT 42")
    else:
        assert connection.is_alive()
        assert connection.run("SELECT 42") != 42


@stops_soon
def test_close_under_the_stop(connection, background, stop):
    """A `finally` closes the connection although the stop is set. pg8000's socket goes with what refers to it, the exception."""

    def run():
        with closing(connection):
            connection.run(connection.sleep)

    error = stop_when_stuck(background, stop, asleep(connection), run)
    assert isinstance(error, Interrupted)
    assert not connection.is_alive()
    forget(error)
    connection.watch.run(connection.cancel.format(connection.number))
    until(lambda: not is_there(connection))


def forget(error):
    """Let go of what the frames refer to that an exception has come through."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def is_there(connection):
    """Whether the server has a connection, idle or not."""
    if isinstance(connection, PyMySQL):
        return connection.watch.state(connection.number) is not None
    return connection.watch.run(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {connection.number}")


@stops_soon
def test_transaction(connect, background, stop):
    """What was not committed is undone, once the server has noticed."""
    connection = connect(autocommit=False)
    connection.run("INSERT INTO numbers VALUES (1)")
    error = stop_when_stuck(background, stop, asleep(connection), connection.run, connection.sleep)
    assert isinstance(error, Interrupted)
    connection.close()
    connection.watch.kill(connection.number)
    assert connection.watch.run("SELECT count(*) FROM numbers") == 0


@stops_soon
def test_stop_that_is_set(connection, stop):
    """Nothing is sent, and the connection goes on."""
    stop.set("before")
    with pytest.raises(Interrupted):
        under(stop, connection.run, "INSERT INTO numbers VALUES (1)")
    assert connection.is_alive()
    assert connection.watch.run("SELECT count(*) FROM numbers") == 0
    assert connection.run("SELECT 42") == 42


@stops_soon
def test_stop_that_is_set_before_there_is_a_connection(connect, stop):
    """None is made."""
    stop.set("before")
    with pytest.raises(Interrupted):
        under(stop, connect)
    assert connect().run("SELECT 42") == 42


def test_deadline(connection):
    """It is a stop like any other."""
    with use_stop(StopEvent(timeout=0.05)), pytest.raises(DeadlineExceeded):
        connection.run(connection.sleep)


def test_cleanup(connection):
    """Without the stop, or with another one, a connection works in a thread whose stop is set."""
    stop = StopEvent()
    stop.set("before")
    with use_stop(stop):
        with use_stop(None):
            assert connection.run("SELECT 42") == 42
        with use_stop(StopEvent(timeout=20)):
            assert connection.run("SELECT 43") == 43


@stops_soon
@pytest.mark.parametrize("own", [StopEvent, lambda: None], ids=["other stop", "no stop"])
def test_other_threads(connect, background, stop, own):
    """Of two threads with a connection each one is stopped: the other one gets its answer."""
    first, second = connect(), connect()
    with held(first):
        running = background(under, own(), second.run, second.lock)
        until_in(second, second.waits)()
        error = stop_when_stuck(background, stop, until_in(first, first.waits), first.run, first.lock)
        assert isinstance(error, Interrupted)
        first.close()
        first.watch.kill(first.number)
    running.result()
    assert second.run("SELECT 42") == 42


@stops_soon
def test_upload(connection, background, stop):
    """A statement that is larger than what the server, which does not read, can be given: the connection is to be closed."""
    insert = f"INSERT INTO numbers VALUES (1) /* {'x' * 8_000_000} */"
    with not_reading(connection):
        error = stop_when_stuck(background, stop, lambda: None, connection.run, insert)
    assert isinstance(error, Interrupted)
    assert connection.is_alive()
    connection.close()
    forget(error)
    until(lambda: not is_there(connection))
    assert connection.watch.run("SELECT count(*) FROM numbers") == 0


@contextmanager
def not_reading(connection):
    """A block in which the server does nothing for a connection."""
    os.kill(connection.process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(connection.process, signal.SIGCONT)


@stops_soon
def test_cancel(connection, background, stop):
    """The way to keep the connection: have the server cancel the query, and wait for its answer without a stop."""
    cancel = partial(connection.watch.run, connection.cancel.format(connection.number))

    def run():
        with interrupting(cancel), use_stop(None):
            connection.run(connection.sleep)

    error = stop_when_stuck(background, stop, asleep(connection), run)
    assert isinstance(error, Interrupted)
    assert isinstance(error.__cause__, connection.Cancelled)
    assert connection.run("SELECT 42") == 42


# Connecting


@pytest.fixture
def _patched():
    """A patched program."""
    with patched():
        yield


def connect_pymysql(host, port):
    """By PyMySQL."""
    pymysql.connect(host=host, port=port, user="tests", connect_timeout=600).close()


def connect_pg8000(host, port):
    """By pg8000."""
    pg8000.native.Connection("tests", host=host, port=port).close()


@stops_soon
@pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning"
)  # what they do not close is closed with its last reference
@pytest.mark.parametrize("connect", [connect_pymysql, connect_pg8000])
@pytest.mark.parametrize("script", [[steps.stall_connect()], [steps.stall()]], ids=["connect", "login"])
@pytest.mark.usefixtures("_patched")
def test_connecting(fault_server, background, stop, connect, script):
    """A server that lets nobody connect, or says nothing then."""
    server = fault_server(script)
    at = "stall_connect" if script[0] == steps.stall_connect() else "stall"
    assert isinstance(stop_with_server(background, stop, server, connect, *server.address, at=at), Interrupted)


# psycopg


@stops_soon
@pytest.mark.usefixtures("_patched")
def test_psycopg_does_not_stop(postgres_server, background, stop):
    """Its C code waits by itself: a stop changes nothing, and the query goes on to its end."""
    server, watch = postgres_server
    with psycopg.connect(server.dsn) as connection:
        number = connection.info.backend_pid
        watch.run("SELECT pg_advisory_lock(1)")
        running = background(under, stop, connection.execute, "SELECT pg_advisory_lock(1)")
        watch.until_in(number, "advisory")
        with pytest.raises(TimeoutError):
            wait_until_blocked(stop, timeout=0)
        stop.set("enough")
        assert watch.waits_for(number) == "advisory"
        watch.run("SELECT pg_advisory_unlock(1)")
        assert running.result().rowcount == 1


@stops_soon
@pytest.mark.usefixtures("_patched")
def test_psycopg_with_its_cancel(postgres_server, background, stop):
    """It does by `interrupting`, and the connection goes on."""
    server, watch = postgres_server

    def run():
        with interrupting(connection.cancel_safe):
            connection.execute("SELECT pg_sleep(600)")

    with psycopg.connect(server.dsn) as connection:
        asleep = partial(watch.until_in, connection.info.backend_pid, "PgSleep")
        error = stop_when_stuck(background, stop, asleep, run)
        assert isinstance(error, Interrupted)
        assert isinstance(error.__cause__, psycopg.errors.QueryCanceled)
        connection.rollback()
        assert connection.execute("SELECT 42").fetchone() == (42,)
