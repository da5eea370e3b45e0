"""The programs of the tutorial and of the how-to pages, where running their blocks is not enough.

A program that serves until a signal comes gets that signal, one that is shown to hang is seen to hang, and what talks to a database
or a cluster has one. They are taken from the pages, so that a page shows what is tested; only ports and times are others.
"""

from __future__ import annotations

import runpy
import signal
import socket
from contextlib import closing, contextmanager

import psycopg
import pymysql
import pytest

from iointerrupt import Interrupted
from iointerrupt.testing import steps
from tests import mariadb, postgres, redis_server
from tests.dask_cluster import client_fixture, cluster_fixture  # noqa: F401 - fixtures
from tests.databases import MariaDBWatch, PostgresWatch, RedisWatch, until
from tests.docs_blocks import TOP, blocks_of
from tests.programs import running
from tests.serving import require


@pytest.fixture
def programs(tmp_path):
    """Writes the files of a page; returns a function that runs one of them."""

    def write(page):
        for block in blocks_of(TOP / "docs" / page):
            if block.title is not None:
                (tmp_path / block.title).write_text(block.code)
        return lambda *command: running("-u", *command, cwd=tmp_path)

    return write


def change(tmp_path, name, old, new):
    """Replace what a program has in one place."""
    code = (tmp_path / name).read_text()
    assert code.count(old) == 1
    (tmp_path / name).write_text(code.replace(old, new))


# The tutorial


def test_the_thread_that_will_not_die(programs):
    """The first program of the tutorial: Ctrl-C asks its thread to stop, which goes on waiting, and so does the program."""
    with programs("tutorial.md")("stuck.py") as program:
        assert program.line() == "received b'hello'"
        program.signal(signal.SIGINT)
        assert program.line() == "asking the thread to stop"
        program.settle()
        assert program.process.poll() is None


def test_the_same_thread_stopped(programs):
    """The second one ends at its first Ctrl-C."""
    with programs("tutorial.md")("stopped.py") as program:
        assert program.line() == "received b'hello'"
        program.signal(signal.SIGINT)
        said = ["asking the thread to stop", "the thread was interrupted: Ctrl-C", "the end"]
        assert program.end() == (0, said)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_of_the_tutorial(programs, tmp_path, number):
    """A signal ends it while it has a client, and the client sees the end of its connection."""
    run = programs("tutorial.md")
    change(tmp_path, "echo.py", "8007", "0")
    with run("-W", "error", "echo.py") as server:
        change(tmp_path, "client.py", "8007", server.line().removeprefix("listening on port "))
        with run("-W", "error", "client.py") as client:
            assert client.line() == "received b'hello'"
            server.signal(number)
            assert server.end() == (0, [f"stopped by {number.name}"])
            assert client.end() == (0, ["then b''"])


# A service


@pytest.fixture
def service(programs, tmp_path):
    """Starts the service, with a grace of so many seconds, on any port."""
    run = programs("how-to/service.md")

    def start(grace):
        change(tmp_path, "service.py", "GRACE = 5.0", f"GRACE = {grace}")
        change(tmp_path, "service.py", "PORT = 8008", "PORT = 0")
        return run("-W", "error", "service.py")

    return start


@contextmanager
def client_of(program, request):
    """A client of the service that has been accepted, and has said what it wants."""
    address = ("127.0.0.1", int(program.line().removeprefix("listening on port ")))
    with socket.create_connection(address) as connection:
        connection.sendall(request)
        # They are accepted one after the other, so one that comes later and is done says that this one has been.
        with socket.create_connection(address) as other:
            other.sendall(b"0\n")
            assert other.recv(100) == b"done\n"
        yield connection


def has_hung_up_on(client):
    """Whether the service ends the connection; with a reset, if it has not read all that had come."""
    try:
        return client.recv(100) == b""
    except ConnectionResetError:
        return True


def refuses(address):
    """Whether nobody listens there."""
    try:
        socket.create_connection(address).close()
    except OSError:
        return True
    return False


def test_a_service_completes_what_is_under_way(service):
    """After SIGTERM it accepts nothing more; what a client asks for within the grace is done, and the exit code is 0."""
    with service(60) as program, client_of(program, b"") as client:
        program.signal(signal.SIGTERM)
        assert program.line() == "SIGTERM: nothing more is accepted"
        until(lambda: refuses(client.getpeername()))
        client.sendall(b"0\n")
        assert client.recv(100) == b"done\n"
        assert program.end() == (0, [])


def test_a_service_ends_after_its_grace(service):
    """What has not ended by then is stopped, and the exit code is 0."""
    with service(0.01) as program, client_of(program, b"3600\n") as client:
        program.signal(signal.SIGTERM)
        assert program.end() == (0, ["SIGTERM: nothing more is accepted", "the grace is over"])
        assert has_hung_up_on(client)


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_service_ends_at_the_second_signal(service, second):
    """It ends the grace."""
    with service(60) as program, client_of(program, b"3600\n") as client:
        program.signal(signal.SIGTERM)
        assert program.line() == "SIGTERM: nothing more is accepted"
        program.signal(second)
        assert program.end() == (0, ["a second signal"])
        assert has_hung_up_on(client)


def test_a_service_names_a_worker_that_is_stuck(service, tmp_path):
    """One that no stop reaches is named, with the line where it stands, and the exit code is 1."""
    starting = service(0.01)
    change(tmp_path, "service.py", "calls.sleep(seconds)", "print('at work', flush=True) or time.sleep(seconds)")
    change(tmp_path, "service.py", "import sys\n", "import sys, time\n")
    with starting as program, client_of(program, b"3600\n"):
        program.lines_until("at work", 2)  # the other one is that of the client that tells of this one
        program.signal(signal.SIGTERM)
        code, said, errors = program.outcome()
    assert code == 1
    assert said == ["SIGTERM: nothing more is accepted", "the grace is over"]
    assert f"has not stopped at {tmp_path / 'service.py'}:" in errors
    assert "time.sleep(seconds)" in errors


def test_a_service_survives_a_bad_client(service):
    """What a client does wrong is its own affair."""
    with service(60) as program, client_of(program, b"an hour\n") as client:
        assert "could not convert string to float" in program.line()
        assert has_hung_up_on(client)
        program.signal(signal.SIGTERM)
        assert program.end() == (0, ["SIGTERM: nothing more is accepted"])


# Databases


def query_of(programs, tmp_path, name):
    """The function of that page."""
    programs("how-to/database.md")
    return runpy.run_path(str(tmp_path / name))["query"]


def test_a_query_of_psycopg(programs, tmp_path, background, stop):
    """The stop ends it in the server too, and the connection goes on."""
    query = query_of(programs, tmp_path, "postgres.py")
    require(postgres.why_not())
    with (
        postgres.Postgres() as server,
        closing(PostgresWatch(server.dsn)) as watch,
        psycopg.connect(server.dsn) as connection,
    ):
        running_query = background(query, connection, "SELECT pg_sleep(600)", stop=stop)
        watch.until_in(connection.info.backend_pid, "PgSleep")
        stop.set("enough")
        assert isinstance(running_query.error(), Interrupted)
        assert query(connection, "SELECT 'goes on'") == [("goes on",)]


def test_a_query_of_pymysql(programs, tmp_path, background, stop):
    """The stop has it killed in the server, and that is how it ends."""
    query = query_of(programs, tmp_path, "mysql.py")
    asleep = "SELECT id FROM information_schema.processlist WHERE state = 'User sleep'"
    with mariadb.serving() as server, closing(MariaDBWatch(server.path)) as watch:
        options = {"unix_socket": server.path, "user": "tests", "database": "tests", "ssl_disabled": True}
        running_query = background(query, options, "SELECT SLEEP(600)", stop=stop)
        until(lambda: watch.run(asleep))
        stop.set("enough")
        error = running_query.error()
        assert isinstance(error, Interrupted)
        assert isinstance(error.__cause__, pymysql.err.OperationalError)
        until(lambda: watch.run(asleep) is None)
        assert query(options, "SELECT 'at once'") == (("at once",),)


def test_workers_of_redis(programs):
    """Four threads in BLPOP get what comes, and all of them end with the signal."""
    run = programs("how-to/database.md")
    with redis_server.serving() as server, closing(RedisWatch(server.path)) as watch:
        with run("-c", f"import jobs; jobs.main({server.port})") as program:
            assert program.line() == "ready"
            watch.until_in("blpop", 4)
            watch.client.rpush("jobs", "one")
            assert program.line() == "job one"
            watch.until_in("blpop", 4)
            program.signal(signal.SIGTERM)
            assert program.end() == (0, ["stopped by SIGTERM"])


# A cluster


BODY = b"0123456789" * 1000
FILES = [steps.repeat(steps.route({"/one": [steps.serve(BODY)], "/two": [steps.serve(BODY)]}))]
SILENT = [steps.expect(), steps.head(length=len(BODY)), steps.send(BODY[:100]), steps.stall()]


@pytest.fixture
def spread(programs, plain_environment, cluster, tmp_path):
    """Runs the program of that name on a cluster, for some URLs."""
    run = programs("how-to/cluster.md")
    return lambda *urls: run("spread.py", cluster.address, tmp_path / "files", *urls)


def test_downloads_of_a_cluster(spread, fault_server, tmp_path):
    """What became of each item is said in their order."""
    url = fault_server(FILES).url
    with spread(f"{url}/one", f"{url}/none", f"{url}/two") as program:
        code, said, errors = program.outcome()
    assert code == 1, errors
    assert said[0] == f"{url}/one done"
    assert said[1].startswith(f"{url}/none failed: ")
    assert said[2] == f"{url}/two done"
    assert "2 of 3, 1 failed" in errors
    assert [(tmp_path / "files" / name).read_bytes() for name in ("one", "two")] == [BODY, BODY]


def test_downloads_of_a_cluster_that_are_stopped(spread, fault_server):
    """Ctrl-C ends those that are under way, in all workers."""
    server = fault_server(SILENT)
    urls = [f"{server.url}/{number}" for number in range(4)]
    with spread(*urls) as program:
        server.wait_for(
            "stall", 4, timeout=40
        )  # it is a while before workers on a busy machine have all that they need
        program.signal(signal.SIGINT)
        code, said, errors = program.outcome()
    assert code == 1, errors
    assert said[0] == "stopped by SIGINT"
    assert [line.split()[:2] for line in said[1:]] == [[url, "failed:"] for url in urls]


def test_tasks_of_a_cluster(programs, plain_environment, cluster, fault_server):
    """The stop that is set in the client ends the tasks of all workers, with its reason."""
    url = fault_server(SILENT).url
    with programs("how-to/cluster.md")("tasks.py", cluster.address, 0.1, url, url) as program:
        code, said, errors = program.outcome()
    assert code == 0, errors
    assert [line.startswith(f"{url} interrupted: the time is up") for line in said] == [True, True]
