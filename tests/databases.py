"""What tests of databases share: waiting for what only a server knows, and connections that watch what it does for others.

A thread that waits for an answer is blocked long before its question has arrived. So where that matters the server is asked, on a
connection of its own, until it says that it is at it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
import redis


def until(question: Callable[[], object]) -> None:
    """Ask another process, which cannot tell by itself, until the answer is yes."""
    pause = threading.Event()
    deadline = time.monotonic() + 20
    while not question():
        assert time.monotonic() < deadline, "it has not come about"
        pause.wait(0.002)


class RedisWatch:
    """A client that looks at what the server does for the others.

    Args:
        path: of the server's unix socket.
    """

    def __init__(self, path: str) -> None:
        self.client: Any = redis.Redis(unix_socket_path=path, socket_timeout=20, single_connection_client=True)

    def numbers(self, command: str | None = None) -> set[str]:
        """Of the other connections; those whose last command was that."""
        own = str(self.client.client_id())
        listed = self.client.client_list()
        return {one["id"] for one in listed if one["id"] != own and (command is None or one["cmd"] == command)}

    def until_in(self, command: str, count: int = 1) -> None:
        """Until so many connections are in such a command."""
        until(lambda: len(self.numbers(command)) == count)

    def until_gone(self) -> None:
        """Until there are no other connections."""
        until(lambda: not self.numbers())

    def made(self) -> int:
        """How many connections have ever been made."""
        return int(self.client.info("stats")["total_connections_received"])

    def close(self) -> None:
        """Close the connection."""
        self.client.close()


class MariaDBWatch:
    """A connection that looks at what the server does for the others.

    Args:
        path: of the server's unix socket.
    """

    def __init__(self, path: str) -> None:
        self._connection: Any = pymysql.connect(
            unix_socket=path, user="tests", database="tests", autocommit=True, ssl_disabled=True
        )

    def run(self, query: str) -> Any:
        """Execute a statement; returns the first value of what it returns, if it does."""
        with self._connection.cursor() as cursor:
            cursor.execute(query)
            row = cursor.fetchone()
            return row and row[0]

    def state(self, number: int) -> str | None:
        """What a connection is at; None if there is none of that number."""
        return self.run(f"SELECT state FROM information_schema.processlist WHERE id = {number}")  # type: ignore[no-any-return]  # as it is Any

    def until_in(self, number: int, state: str) -> None:
        """Until a connection is at something."""
        until(lambda: self.state(number) == state)

    def kill(self, number: int) -> None:
        """End a connection, if it is there, and what it is at."""
        try:
            self.run(f"KILL {number}")
        except pymysql.err.OperationalError:
            pass  # it has noticed by itself
        until(lambda: self.state(number) is None)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class PostgresWatch:
    """A connection that looks at what the server does for the others.

    Args:
        dsn: of the server.
    """

    def __init__(self, dsn: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)

    def run(self, query: str) -> Any:
        """Execute a statement; returns the first value of what it returns, if it does."""
        cursor = self._connection.execute(query)
        row = cursor.fetchone() if cursor.description else None
        return row and row[0]

    def waits_for(self, number: int) -> str | None:
        """What the server, executing a statement of a connection, waits for; None if there is no such connection."""
        query = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
        row = self._connection.execute(query, (number,)).fetchone()
        return None if row is None else str(row[0])

    def until_in(self, number: int, event: str) -> None:
        """Until the server waits for that, executing a statement of a connection."""
        until(lambda: self.waits_for(number) == event)

    def kill(self, number: int) -> None:
        """End a connection, and what it is at."""
        self.run(f"SELECT pg_terminate_backend({number})")
        until(lambda: not self.run(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {number}"))

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
