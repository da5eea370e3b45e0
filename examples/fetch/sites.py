"""The two worlds in which the tests run: answers mocked by `responses`, and a real server that keeps to a script.

A test says once what the site answers, as a list of `Reply`; each world makes of it what it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import responses

from iointerrupt.testing import FaultServer, chunked_body, failing_body, stalling_body, steps


@dataclass(frozen=True)
class Reply:
    """What the site answers to a request.

    Attributes:
        body: what it sends of the body, piece by piece.
        status: of the answer.
        headers: beside `Content-Length`.
        length: what it says that the body's length is; None for the truth.
        then: what it does after that: nothing, send nothing more, or break the connection.
    """

    body: Sequence[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    then: Literal["end", "stall", "reset"] = "end"

    @property
    def said_length(self) -> int:
        """What it says of the body's length."""
        return sum(map(len, self.body)) if self.length is None else self.length


class Site(Protocol):
    """A site, mocked or real."""

    url: str

    def asked(self) -> list[Mapping[str, str]]:
        """The headers of each request that has come."""


class MockedSite:
    """`responses` answers, and nothing leaves the process."""

    def __init__(self, mock: responses.RequestsMock, replies: Sequence[Reply]) -> None:
        self.url = "http://site.test/file"
        self._mock = mock
        for reply in replies:
            headers = {**reply.headers, "Content-Length": str(reply.said_length)}
            mock.get(self.url, body=self._body(reply), status=reply.status, headers=headers)

    @staticmethod
    def _body(reply: Reply) -> object:
        if reply.then == "stall":
            return stalling_body(reply.body)
        if reply.then == "reset":
            return failing_body(reply.body, ConnectionResetError("reset by peer"))
        return chunked_body(reply.body)

    def asked(self) -> list[Mapping[str, str]]:
        """The headers of each request that has come."""
        return [call.request.headers for call in self._mock.calls]


class RealSite:
    """A server on the loopback, whose connections end as the replies say."""

    def __init__(self, server: FaultServer) -> None:
        self.url = f"{server.url}/file"
        self._server = server

    @staticmethod
    def script(reply: Reply) -> list[steps.Step]:
        """What the server does on the connection that gets the reply."""
        ends = {"end": steps.close(), "stall": steps.stall(), "reset": steps.reset()}
        return [
            steps.expect("GET", "/file"),
            steps.head(reply.status, {**reply.headers, "Connection": "close"}, length=reply.said_length),
            *map(steps.send, reply.body),
            ends[reply.then],
        ]

    def asked(self) -> list[Mapping[str, str]]:
        """The headers of each request that has come."""
        return [dict(request.headers) for request in self._server.requests]


@contextmanager
def mocked(*replies: Reply) -> Iterator[Site]:
    """A mocked site that gives these replies, in this order."""
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield MockedSite(mock, replies)


@contextmanager
def real(*replies: Reply) -> Iterator[Site]:
    """A real site that gives these replies, in this order."""
    with FaultServer(*map(RealSite.script, replies)) as server:
        yield RealSite(server)
