"""Clients of Redis, MariaDB and PostgreSQL, each stuck in a question to a real server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from typing import Any

from benchmarks.libraries_cases import Attempts, Case, Stuck

_C_CODE = "C code"


@contextmanager
def _redis(*, subscribed: bool) -> Iterator[Attempts]:
    import redis

    from tests import redis_server
    from tests.databases import RedisWatch, until

    with redis_server.running() as server, closing(RedisWatch(server.path)) as watch:
        watch.client.ping()

        @contextmanager
        def blpop() -> Iterator[Stuck]:
            client: Any = redis.Redis(port=server.port, socket_timeout=None)
            with closing(client):
                yield Stuck(lambda: client.blpop("jobs"), lambda: watch.until_in("blpop"))
            watch.until_gone()

        @contextmanager
        def listen() -> Iterator[Stuck]:
            client: Any = redis.Redis(port=server.port, socket_timeout=None)
            with closing(client), client.pubsub(ignore_subscribe_messages=True) as pubsub:
                pubsub.subscribe("news")
                yield Stuck(
                    lambda: next(pubsub.listen()), lambda: until(lambda: watch.client.pubsub_numsub("news")[0][1] == 1)
                )
            watch.until_gone()

        yield listen if subscribed else blpop


@contextmanager
def _pymysql(*, tls: bool) -> Iterator[Attempts]:
    import pymysql

    from tests import mariadb
    from tests.databases import MariaDBWatch

    with mariadb.running() as server, closing(MariaDBWatch(server.path)) as watch:

        @contextmanager
        def attempt() -> Iterator[Stuck]:
            connection: Any = pymysql.connect(unix_socket=server.path, user="tests", ssl_disabled=not tls)
            number = connection.thread_id()
            try:
                query = partial(connection.cursor().execute, "SELECT SLEEP(600)")
                yield Stuck(query, lambda: watch.until_in(number, "User sleep"))
            finally:
                watch.kill(number)
                if connection.open:
                    connection.close()

        yield attempt


@contextmanager
def _postgres(
    connect: Callable[[Any], AbstractContextManager[tuple[int, Callable[[], object]]]],
) -> Iterator[Attempts]:
    from tests import postgres
    from tests.databases import PostgresWatch

    with postgres.Postgres() as server, closing(PostgresWatch(server.dsn)) as watch:

        @contextmanager
        def attempt() -> Iterator[Stuck]:
            with connect(server) as (number, query):
                kill = partial(watch.kill, number)
                try:
                    yield Stuck(query, lambda: watch.until_in(number, "PgSleep"), kill)
                finally:
                    kill()

        yield attempt


@contextmanager
def _pg8000(server: Any) -> Iterator[tuple[int, Callable[[], object]]]:
    import pg8000.native

    path = os.path.join(server.folder, ".s.PGSQL.5432")
    connection: Any = pg8000.native.Connection("tests", database="postgres", unix_sock=path)
    [[number]] = connection.run("SELECT pg_backend_pid()")
    yield number, partial(connection.run, "SELECT pg_sleep(600)")
    connection._usock.close()  # a goodbye would find nobody


@contextmanager
def _psycopg(server: Any, *, cancels: bool = False, polls: bool = False) -> Iterator[tuple[int, Callable[[], object]]]:
    import psycopg

    from iointerrupt import calls

    def query() -> None:
        connection.execute("SELECT pg_sleep(600)")

    def cancelled() -> None:
        with calls.interrupting(connection.cancel_safe):
            query()

    wait: Any = psycopg.waiting.wait
    if polls:
        psycopg.waiting.wait = psycopg.waiting.wait_poll  # what PSYCOPG_WAIT_FUNC=wait_poll does at the import
    try:
        with closing(psycopg.connect(server.dsn, autocommit=True)) as connection:
            yield connection.info.backend_pid, cancelled if cancels else query
    finally:
        psycopg.waiting.wait = wait


def cases() -> list[Case]:
    """All of them."""
    cancelled, polling = partial(_psycopg, cancels=True), partial(_psycopg, polls=True)
    return [
        Case("redis-py", "`blpop`", "closed by it; the client goes on", partial(_redis, subscribed=False)),
        Case("redis-py", "pub/sub: `listen`", "goes on, no message is lost", partial(_redis, subscribed=True)),
        Case("PyMySQL", "`SELECT SLEEP(600)`", "closed by it", partial(_pymysql, tls=False)),
        Case("PyMySQL, TLS", "`SELECT SLEEP(600)`", "closed by it", partial(_pymysql, tls=True)),
        Case("pg8000", "`SELECT pg_sleep(600)`", "close it", partial(_postgres, _pg8000)),
        Case("psycopg 3", "`SELECT pg_sleep(600)`", "", partial(_postgres, _psycopg), why_not=_C_CODE),
        Case("psycopg 3, `interrupting(cancel_safe)`", "the same", "goes on", partial(_postgres, cancelled)),
        Case("psycopg 3, `PSYCOPG_WAIT_FUNC=wait_poll`", "the same", "close it", partial(_postgres, polling)),
    ]
