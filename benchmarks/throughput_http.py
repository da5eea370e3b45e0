"""HTTP while nobody stops: ours, with a stop that never fires, beside the clients that a program would use otherwise.

All of them GET the same from the same server over connections that they keep, and each does it as its documentation shows:
what it reads of its own accord at a time is left to it, and where it has to be told, it takes part with what is best for
it. The clients are in `throughput_clients`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import requests
import trustme

from benchmarks.measure import Comparison, Run, in_turn
from benchmarks.throughput_clients import BODIES, CONTENTS, SMALL, Get, Make, Sized, entered
from benchmarks.throughput_server import serving
from benchmarks.throughput_work import CHUNK_SIZES, MIB, PLAIN, Amount, best_size, rate, rated, seconds
from iointerrupt import StopEvent, http

AMOUNT = Amount(256 * MIB, 100, 8)

_KIB = 1024

#: What is no client of the same kind, but what these stand on: it may be ahead by as much as a plain socket may.
_LEAST = {"http.client": PLAIN}


def measure(folder: str, amount: Amount) -> Iterator[Comparison]:
    """A comparison for bodies, taken as they come and whole, over each scheme; and for small things."""
    trusted, certificate = authority(folder)
    whole = amount.size // 4
    with serving("http") as (host, port):
        url = f"http://{host}:{port}/"
        sizes = _best_sizes(url, whole)
        yield _bodies("HTTP body, as it comes", url, _sized(sizes), size=amount.size, rounds=amount.rounds)
        yield _bodies("HTTP body, whole", url, CONTENTS, size=whole, rounds=amount.rounds)
        yield _small(url, amount)
    with serving("http", certificate=certificate) as (host, port):
        url = f"https://{host}:{port}/"
        secure: dict[str, Any] = {"trusted": trusted, "rounds": amount.rounds}
        yield _bodies("HTTPS body, as it comes", url, _sized(sizes), size=amount.size // 2, **secure)
        yield _bodies("HTTPS body, whole", url, CONTENTS, size=whole, **secure)
    yield _session(amount)


def authority(folder: str) -> tuple[str, str]:
    """The paths, in this folder, of an authority's certificate, and of one that it has given to the server with its key."""
    made = trustme.CA()
    trusted, certificate = os.path.join(folder, "ca.pem"), os.path.join(folder, "server.pem")
    made.cert_pem.write_to_path(trusted)
    made.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(certificate)
    return trusted, certificate


def _best_sizes(url: str, size: int) -> dict[str, int]:
    """By the name of a client that has to be told how much to read at a time: how much is best for it."""
    found = {}
    for name, make in BODIES.items():
        if isinstance(make, Sized):
            with ExitStack() as stack:
                gets, _ = entered(stack, {str(chunk): make.with_size(chunk) for chunk in CHUNK_SIZES}, None)
                if gets:
                    found[name] = best_size(lambda chunk: rate(_getting(gets[str(chunk)], url, size), size))  # noqa: B023
    return found


def _sized(sizes: Mapping[str, int]) -> dict[str, Make]:
    """All clients, each with its best size of a chunk in its name."""
    made: dict[str, Make] = {}
    for name, make in BODIES.items():
        if not isinstance(make, Sized):
            made[name] = make
        elif name in sizes:
            made[f"{name}, {sizes[name] // _KIB} KiB"] = make.with_size(sizes[name])
        else:
            made[name] = make.with_size(CHUNK_SIZES[0])  # it is not there, which `entered` finds out
    return made


def _bodies(
    kind: str, url: str, makes: Mapping[str, Make], *, size: int, rounds: int, trusted: str | None = None
) -> Comparison:
    with ExitStack() as stack:
        gets, left_out = entered(stack, makes, trusted)
        runs = {name: rated(_getting(get, url, size), size) for name, get in gets.items()}
        samples = in_turn(runs, rounds)
    what = f"{kind}, {size // MIB} MiB"
    return Comparison(what, "B/s", samples, better="higher", least=_wanted(gets), left_out=left_out)


def _getting(get: Get, url: str, size: int) -> Run:
    address = f"{url}{size}"

    def work() -> int:
        got = get(address)
        if got != size:
            raise RuntimeError(f"{got} bytes came of {size}")
        return got

    return work


def _wanted(gets: Mapping[str, Get]) -> dict[str, float]:
    return {name: _LEAST.get(name.partition(",")[0], 1.0) for name in list(gets)[1:]}


def _small(url: str, amount: Amount) -> Comparison:
    def run(get: Get) -> Run:
        once = _getting(get, url, _KIB)

        def work() -> None:
            for _ in range(amount.calls):
                once()

        return rated(work, amount.calls)

    with ExitStack() as stack:
        gets, left_out = entered(stack, SMALL, None)
        samples = in_turn({name: run(get) for name, get in gets.items()}, 3 * amount.rounds)
    return Comparison("HTTP: 1 KiB", "requests/s", samples, better="higher", least=_wanted(gets), left_out=left_out)


def _session(amount: Amount) -> Comparison:
    def run(kind: type[requests.Session]) -> Run:
        return lambda: seconds(lambda: [kind() for _ in range(amount.calls)]) / amount.calls

    samples = in_turn({"iointerrupt": run(_Session), "requests": run(requests.Session)}, 3 * amount.rounds)
    return Comparison("HTTP: a new session", "s", samples, least={"requests": PLAIN})


class _Session(http.Session):
    """With a stop, as in everything else that is compared."""

    def __init__(self) -> None:
        super().__init__(stop=_STOP)


_STOP = StopEvent()
