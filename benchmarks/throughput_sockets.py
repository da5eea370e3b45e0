"""Sockets while data flows and nobody stops: ours, with a stop that never fires, beside those of the standard library.

Theirs take part twice where a stop is what replaces a timeout: as they are, and with `settimeout`, which costs them a poll
for each call.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import trustme

from benchmarks.measure import Comparison, Run, in_turn
from benchmarks.throughput_server import serving
from benchmarks.throughput_work import MIB, PLAIN, Amount, rate
from iointerrupt import StopEvent, sockets

# What is done with a connection.
Work = Callable[[socket.socket], object]
Connect = Callable[[], AbstractContextManager[socket.socket]]

#: Many short rounds, since what comes between is over sooner than one of them.
AMOUNT = Amount(64 * MIB, 2000, 24)

_MESSAGE = bytes(64)
_TIMEOUT = 30


def measure(folder: str, amount: Amount) -> Iterator[Comparison]:
    """A comparison for each thing that is done with a socket."""
    with serving("stream", amount.size) as address:
        connects = _connects(address)
        for name, work in (
            ("recv_into, 64 KiB", _receiving_into(65536)),
            ("recv_into, 1 MiB", _receiving_into(MIB)),
            ("recv, 64 KiB", _receiving(65536)),
        ):
            yield _flow(f"socket: {name}", connects, work, amount)
    with serving("sink") as address:
        yield _flow("socket: sendall, 1 MiB", _connects(address), _sending(amount.size), amount)
    with serving("echo") as address:
        yield _asks(_connects(address), amount)
    authority = trustme.CA()
    certificate = os.path.join(folder, "certificate.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(certificate)
    with serving("stream", amount.size, certificate) as address:
        yield _flow("TLS: recv_into, 64 KiB", _connects_tls(address, authority), _receiving_into(65536), amount)


def _flow(what: str, connects: dict[str, Connect], work: Work, amount: Amount) -> Comparison:
    """Bytes a second, in one direction."""
    runs = {name: _rated(connect, work, amount.size) for name, connect in connects.items()}
    samples = in_turn(runs, amount.rounds)
    return Comparison(what, "B/s", samples, better="higher", least=_wanted(connects))


def _asks(connects: dict[str, Connect], amount: Amount) -> Comparison:
    runs = {name: _rated(connect, _asking(amount.calls), amount.calls) for name, connect in connects.items()}
    samples = in_turn(runs, amount.rounds)
    return Comparison(
        "socket: 64 bytes there and back", "round trips/s", samples, better="higher", least=_wanted(connects)
    )


def _rated(connect: Connect, work: Work, amount: int) -> Run:
    """Connecting is not what is measured."""

    def once() -> float:
        with connect() as connection:
            return rate(lambda: work(connection), amount)

    return once


def _wanted(connects: dict[str, Connect]) -> dict[str, float]:
    return dict.fromkeys(list(connects)[1:], PLAIN)


def _connects(address: tuple[str, int]) -> dict[str, Connect]:
    return {
        "iointerrupt": lambda: sockets.create_connection(address, stop=StopEvent()),
        "socket": lambda: socket.create_connection(address),
        "socket, settimeout": lambda: socket.create_connection(address, timeout=_TIMEOUT),
    }


def _connects_tls(address: tuple[str, int], authority: trustme.CA) -> dict[str, Connect]:
    plain, ours = ssl.create_default_context(), ssl.create_default_context()
    ours.sslsocket_class = sockets.SSLSocket
    for context in (plain, ours):
        authority.configure_trust(context)

    def wrapped(context: ssl.SSLContext, connect: Connect) -> Connect:
        def connected() -> ssl.SSLSocket:
            connection = connect()
            assert isinstance(connection, socket.socket)
            return context.wrap_socket(connection, server_hostname="localhost")

        return connected

    own, *others = _connects(address).items()
    return {own[0]: wrapped(ours, own[1])} | {
        name.replace("socket", "SSLSocket"): wrapped(plain, connect) for name, connect in others
    }


def _receiving_into(size: int) -> Work:
    buffer = bytearray(size)

    def work(connection: socket.socket) -> None:
        receive = connection.recv_into
        while receive(buffer):
            pass

    return work


def _receiving(size: int) -> Work:
    def work(connection: socket.socket) -> None:
        receive = connection.recv
        while _data := receive(size):  # bound to a name, as in programs: it lives while the next is received
            pass

    return work


def _sending(size: int) -> Work:
    block = bytes(MIB)

    def work(connection: socket.socket) -> None:
        for _ in range(size // MIB):
            connection.sendall(block)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)  # the other side has everything

    return work


def _asking(calls: int) -> Work:
    def work(connection: socket.socket) -> None:
        for _ in range(calls):
            connection.sendall(_MESSAGE)
            connection.recv(len(_MESSAGE))

    return work
