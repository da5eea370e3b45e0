"""Stops of requests over one pooled session that several threads share: downloads, uploads, bodies as iterators and as files.

The server is a well-behaved one, whose bodies come in pieces with pauses. It notes which requests came over which connection, so
that afterwards it can be said of each that was interrupted: nothing came after it on its connection.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
import urllib.parse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import requests

from iointerrupt import Interrupted, http
from iointerrupt.testing import Connection, FaultServer, Request
from iointerrupt.testing._messages import LAST_CHUNK, chunk_bytes, head_bytes
from tests.stress.rounds import Round
from tests.stress.stops import Stops, Trial
from tests.stress.streams import Place, taken

_WORKERS = 4
_SIZES = (0, 1, 100, 5000, 60_000, 200_000)

# Of the pauses between two pieces, in seconds.
_LONGEST_PAUSE = 0.0004


class _Server:
    """Serves parts of the content, and takes what is uploaded, until the client goes."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._lock = threading.Lock()
        self.seen: dict[int, list[str]] = defaultdict(list)  # requests by connection; guarded by the lock

    def __call__(self, connection: Connection) -> None:
        """A script's only step."""
        while (request := connection.read_request(body=False)) is not None:
            query = {name: values[0] for name, values in _query(request).items()}
            with self._lock:
                self.seen[connection.number].append(query["id"])
            if request.method == "PUT":
                self._take(connection, request, int(query["start"]))
            else:
                self._give(connection, query)

    def _give(self, connection: Connection, query: dict[str, str]) -> None:
        body = Place(int(query["start"])).upcoming(int(query["size"]))
        chunked = query["form"] == "chunked"
        self._pause(query["id"])
        connection.send(head_bytes(200, length=None if chunked else len(body), chunked=chunked))
        pieces = hash((self._seed, query["id"])) % 4 + 1
        for number in range(pieces):
            piece = body[number * len(body) // pieces : (number + 1) * len(body) // pieces]
            if piece:
                connection.send(chunk_bytes(piece) if chunked else piece)
            self._pause(f"{query['id']} {number}")
        if chunked:
            connection.send(LAST_CHUNK)

    def _take(self, connection: Connection, request: Request, start: int) -> None:
        left, place = int(request.headers["Content-Length"]), Place(start)
        while left:
            piece = connection.read(min(left, 30_000))
            place.arrive(piece)
            if not piece:
                return  # the client was stopped
            left -= len(piece)
            self._pause(f"{place.position}")
        connection.answer(b"%d" % (place.position - start))

    def _pause(self, what: str) -> None:
        drawn = hash((self._seed, what)) % 100
        if drawn < 60:
            time.sleep(drawn / 60 * _LONGEST_PAUSE)


def _query(request: Request) -> dict[str, list[str]]:
    return urllib.parse.parse_qs(urllib.parse.urlsplit(request.target).query)


class _Client:
    """One worker: fetches the content, part by part, each from where the last one got to.

    Args:
        stops: which come meanwhile.
        url: of the server.
        session: that all workers share.
        plain: a session of requests itself, that they share too.
        is_alone: whether the sessions' own stops may be used.
    """

    def __init__(
        self, stops: Stops, url: str, session: http.Session, plain: requests.Session, *, is_alone: bool
    ) -> None:
        self._stops, self._url, self._session, self._plain = stops, url, session, plain
        self._owner = session if is_alone else None
        self._place = Place()
        self._rng = stops.rng
        self.interrupted: list[str] = []  # requests of which not all has come
        self._is_judged = (
            True  # whether it is known of the present one, should it be interrupted, that not all has come
        )
        self._operations: dict[str, Callable[[Trial, str, int], None]] = {
            "get": self._get,
            "iter_content": self._iter_content,
            "http.iter_chunks*": self._iter_chunks,
            "http.open*": self._open,
            "foreign iter_chunks*": self._iter_foreign,
            "put": self._put,
        }
        self._number = 0

    def run(self) -> None:
        """Until it is enough."""
        while not self._stops.allowance.used_up():
            name = self._rng.choice(list(self._operations))
            size = self._rng.choice(_SIZES)
            self._number += 1
            identity = f"{id(self):x}-{self._number}"
            url = f"{self._url}/?" + urllib.parse.urlencode(
                {
                    "id": identity,
                    "start": self._place.position,
                    "size": size,
                    "form": self._rng.choice(("length", "chunked")),
                }
            )
            end = self._place.position + size
            owner = self._owner if not name.startswith("foreign") else None
            self._is_judged = True
            trial = self._stops.trial(name, owner, takes_stop=name.endswith("*"))
            with trial:
                self._operations[name](trial, url, size)
            if trial.error is None:
                assert name == "put" or self._place.position == end, (
                    f"{name} ended at {self._place.position}, not {end}"
                )
            elif self._is_judged and (name == "put" or self._place.position < end):
                self.interrupted.append(identity)

    def _arrive(self, data: bytes) -> None:
        self._place.arrive(data)
        self._stops.tally.checked += len(data)

    def _get(self, _: Trial, url: str, __: int) -> None:
        self._arrive(self._session.get(url).content)

    def _put(self, _: Trial, url: str, size: int) -> None:
        answer = self._session.put(url, data=self._place.upcoming(size))
        assert answer.content == b"%d" % size
        self._stops.tally.checked += size

    def _iter_content(self, _: Trial, url: str, __: int) -> None:
        for chunk in self._session.get(url, stream=True).iter_content(self._rng.choice((1000, 100_000))):
            self._arrive(chunk)

    def _iter_chunks(self, trial: Trial, url: str, _: int) -> None:
        self._iterate(trial, self._session.get(url, stream=True))

    def _iter_foreign(self, trial: Trial, url: str, _: int) -> None:
        self._iterate(trial, self._plain.get(url, stream=True))

    def _iterate(self, trial: Trial, response: requests.Response) -> None:
        begin = self._place.position
        chunks = http.iter_chunks(response, stop=trial.argument, chunk_size=self._rng.choice((1000, 100_000)))
        try:
            for chunk in chunks:
                self._arrive(chunk)
        except Interrupted as stopped:
            assert stopped.transferred == self._place.position - begin
            stopped.transferred = None  # what it says of the iterator is more than what it has moved since the stop
            raise

    def _open(self, trial: Trial, url: str, size: int) -> None:
        if self._rng.random() < 0.5:
            self._is_judged = False  # it may have all of the body in its buffer, and its connection is free then
            file = http.open(url, session=self._session, stop=trial.argument)
        else:
            response = self._session.get(url, stream=True)
            file = http.open(response, stop=trial.argument)
        with file:
            while True:
                read = self._rng.choice((file.readline, functools.partial(file.read, self._rng.choice((10, 5000)))))
                try:
                    data = read()
                except Interrupted as stopped:
                    self._arrive(taken(stopped))
                    stopped.partial = stopped.transferred = None
                    self._is_judged = self._is_judged and response.raw.tell() < size
                    raise
                self._arrive(data)
                if not data:
                    return


def over_http(one: Round) -> None:
    """Several threads use one session, each with stops of its own; then the session is looked at."""
    server_side = _Server(one.rng.getrandbits(32))
    pool_size = one.rng.randint(1, _WORKERS)
    workers = one.rng.choice((1, _WORKERS, _WORKERS))
    with (
        FaultServer([server_side], tls=one.rng.random() < 0.25) as server,
        http.Session(pool_size=pool_size, pool_block=one.rng.random() < 0.5) as session,
        requests.Session() as plain,
    ):
        for either in (session, plain):
            either.trust_env = False
            if server.url.startswith("https"):
                either.verify = server.ca_file
        clients = [_Client(one.stops(), server.url, session, plain, is_alone=workers == 1) for _ in range(workers)]
        one.run(*(client.run for client in clients), abort=server.stop.set)
        _look_at(session, server.url, pool_size)
        _look_at(plain, server.url, 1)
    check_reuse(server_side.seen, {identity for client in clients for identity in client.interrupted})


def check_reuse(seen: Mapping[int, Sequence[str]], interrupted: AbstractSet[str]) -> None:
    """Check that each request that was interrupted is the last one of its connection.

    Args:
        seen: the requests that the server has seen, in order, by connection.
        interrupted: requests of which not all has come.
    """
    for number, requests_there in seen.items():
        reused = interrupted & set(requests_there[:-1])
        assert not reused, f"connection {number} was used again after requests that were interrupted: {reused}"


def _look_at(session: requests.Session, url: str, places: int) -> None:
    # All places of the pool at once: each is free, and what comes over its connection is what was asked for.
    with contextlib.ExitStack() as scope:
        responses: list[Any] = []
        for number in range(places):
            query = f"id=last-{number}&start={1000 * number}&size=1000&form=length"
            response = session.get(f"{url}/?{query}", stream=True, timeout=20)
            responses.append(scope.enter_context(contextlib.closing(response)))
        for number, response in enumerate(responses):
            place = Place(1000 * number)
            place.arrive(response.content)
            assert place.position == 1000 * (number + 1)
