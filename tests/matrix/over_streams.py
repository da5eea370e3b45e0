"""Clients of a raw stream: sockets, with and without TLS, and the descriptor of one in asyncio."""

from __future__ import annotations

import asyncio
from typing import Any

from iointerrupt import Interrupted, Stalled, aio, sockets
from tests.matrix.client import CHUNK, Client, Family, octets
from tests.matrix.faults import BODY, Fault, Phase
from tests.matrix.scenes import LONG, Scene


class Raw(Client):
    """A client of a raw stream: it connects, shakes hands, sends, and receives; each of them goes on where it was."""

    is_raw = True

    @classmethod
    def unfit(cls, fault: Fault) -> str:
        return fault.not_raw or super().unfit(fault)

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._unsent = memoryview(scene.request)
        self._sock: Any = None
        self._is_shaken = not scene.tls

    def __exit__(self, *exc_info: object) -> None:
        if self._sock is not None:
            self._sock.close()
        super().__exit__(*exc_info)

    def run(self) -> None:
        self._connect(self._come_to(Phase.CONNECT))
        if not self._is_shaken:
            self._sock.settimeout(self._come_to(Phase.HANDSHAKE))
            self._sock.do_handshake()
            self._is_shaken = True
        self._sock.settimeout(self._come_to(Phase.UPLOAD))
        self._send()
        self._sock.settimeout(self._come_to(Phase.HEAD, Phase.BODY))
        self._receive()

    def _come_to(self, *phases: Phase) -> float:
        """Begin a phase; the seconds that it is to wait in it."""
        if self.scene.fault.phase not in phases:
            return LONG
        self.is_there.set()
        return self.scene.seconds

    def _connect(self, seconds: float) -> None:
        scene = self.scene
        if self._sock is not None:
            return
        self._sock = sockets.create_connection(scene.server.address, seconds, stop=scene.stop)
        if scene.tls:
            context = scene.server.client_context()
            context.sslsocket_class = sockets.SSLSocket
            self._sock = context.wrap_socket(
                self._sock, server_hostname="127.0.0.1", do_handshake_on_connect=False, suppress_ragged_eofs=False
            )

    def _send(self) -> None:
        try:
            self._sock.sendall(self._unsent)
        except (Interrupted, sockets.SendTimeout) as error:
            self._unsent = self._unsent[error.transferred :]
            raise
        self._unsent = self._unsent[:0]

    def _receive(self) -> None:
        raise NotImplementedError

    def go_on(self, outcome: type[BaseException] | None) -> None:
        """What is left of the transfer comes from the same connection."""
        if self.scene.fault.stalls:
            if self._sock is not None:
                self._sock.stop = None
            self.run()
            assert self.delivered == BODY


class Exactly(Raw):
    """`recv_exactly`, of as many bytes as the body has."""

    family = Family.EXACTLY

    def _receive(self) -> None:
        try:
            self.delivered += sockets.recv_exactly(self._sock, len(BODY) - len(self.delivered))
        except Interrupted as stopped:
            assert stopped.partial is not None
            assert stopped.transferred == len(stopped.partial)
            self.delivered += octets(stopped.partial)
            raise
        except (Stalled, sockets.IncompleteRead) as error:
            self.delivered += octets(error.partial)
            raise


class Chunked(Raw):
    """`sockets.iter_chunks`, until the server ends the stream."""

    family = Family.STREAM
    _chunks: sockets.Chunks | None = None

    def _receive(self) -> None:
        if self._chunks is None:
            self._chunks = sockets.iter_chunks(self._sock, chunk_size=CHUNK)
            self.resources.callback(self._chunks.close)
        for chunk in self._chunks:
            self.delivered += chunk


class SocketExactly(Exactly):
    name = "Socket, recv_exactly"
    about = "`sockets.create_connection`, `sendall`, `sockets.recv_exactly(sock, n)`"
    tls = False


class SocketChunks(Chunked):
    name = "Socket, iter_chunks"
    about = "the same with `sockets.iter_chunks(sock)`"
    tls = False


class TLSExactly(Exactly):
    name = "SSLSocket, recv_exactly"
    about = "`context.wrap_socket(..., suppress_ragged_eofs=False)`, `sendall`, `sockets.recv_exactly(sock, n)`"
    tls = True


class TLSChunks(Chunked):
    name = "SSLSocket, iter_chunks"
    about = "the same with `sockets.iter_chunks(sock)`"
    tls = True


class Descriptor(Raw):
    name = "aio.iter_chunks"
    about = "`aio.iter_chunks(sock.fileno(), stop=stop)`"
    family = Family.STREAM
    tls = False

    @classmethod
    def unfit(cls, fault: Fault) -> str:
        unfit = super().unfit(fault)
        return unfit or ("" if fault.phase in (Phase.HEAD, Phase.BODY) else "it begins with a connection that is there")

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self._loop = asyncio.new_event_loop()
        self.resources.callback(self._loop.close)
        self._chunks: Any = None

    def _receive(self) -> None:
        if self._chunks is None:
            self._chunks = aio.iter_chunks(self._sock.fileno(), chunk_size=CHUNK, timeout=self.scene.seconds)
            self.resources.callback(lambda: self._loop.run_until_complete(self._chunks.aclose()))
        self._chunks.stop = self.scene.stop
        self._loop.run_until_complete(self._read())

    async def _read(self) -> None:
        async for chunk in self._chunks:
            self.delivered += chunk
