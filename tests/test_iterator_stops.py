"""The `stop` of an iterator over chunks, which can be read and set: of a file, a socket, a body, and what is read ahead."""

from __future__ import annotations

import io
import os
import socket
import threading

import pytest
import requests

from iointerrupt import Interrupted, StopEvent, as_stop, files, http, sockets
from iointerrupt.testing import FaultServer, steps, wait_until_blocked

DATA = bytes(range(256)) * 40


@pytest.fixture
def path(tmp_path):
    """A file."""
    (tmp_path / "file").write_bytes(DATA)
    return tmp_path / "file"


class NotOurs(io.RawIOBase):
    """A file object that nobody knows."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self._data.readinto(buffer)


@pytest.fixture(params=["path", "builtin", "ours", "strange", "socket", "stock socket"])
def chunks(request, path):
    """An iterator over the data with a stop that is set; it is not asked before that stop is taken away."""
    stop = StopEvent()
    stop.set("enough")
    kind = request.param
    if kind.endswith("socket"):
        pair = sockets.socketpair() if kind == "socket" else socket.socketpair()
        with pair[0], pair[1]:
            pair[1].sendall(DATA)
            pair[1].shutdown(socket.SHUT_WR)
            yield sockets.iter_chunks(pair[0], stop=stop, chunk_size=1000)
        return
    make = {"path": lambda: path, "builtin": path.open, "ours": files.open, "strange": lambda: NotOurs(DATA)}[kind]
    source = make() if kind in {"path", "strange"} else make("rb") if kind == "builtin" else make(path, "rb")
    chunks = files.iter_chunks(source, stop=stop, chunk_size=1000)
    yield chunks
    chunks.close()
    if kind in {"builtin", "ours"}:
        source.close()


def test_set_to_none(chunks):
    """Without its stop it goes on as if nothing had been, and so it does with another one."""
    assert chunks.stop.reason == "enough"
    with pytest.raises(Interrupted):
        next(chunks)
    chunks.stop = None
    assert chunks.stop is None
    got = next(chunks)
    chunks.stop = (event := threading.Event())
    assert chunks.stop is as_stop(event)
    got += next(chunks)
    event.set()
    with pytest.raises(Interrupted):
        next(chunks)
    chunks.stop = StopEvent()
    assert got + b"".join(chunks) == DATA


def test_bad_ones(chunks):
    """What is no stop is refused, and the one that it had stays."""
    before = chunks.stop
    with pytest.raises(TypeError, match="cannot be a stop"):
        chunks.stop = 5
    assert chunks.stop is before


def test_of_a_pipe_that_was_stopped(background):
    """A wait that a deadline has ended goes on with another stop: nothing is lost, nothing is begun anew."""
    reader, writer = os.pipe()
    with open(reader, "rb", 0) as pipe, open(writer, "wb", 0) as end:
        chunks = files.iter_chunks(pipe, stop=StopEvent(timeout=0.01))
        with pytest.raises(Interrupted):
            next(chunks)
        chunks.stop = later = StopEvent()
        waiting = background(next, chunks)
        wait_until_blocked(later)
        end.write(b"hello")
        assert waiting.result() == b"hello"


def test_of_a_body():
    """The stop of the reading, besides that of the session."""
    with FaultServer([steps.expect(), steps.answer(DATA)]) as server, requests.Session() as session:
        chunks = http.iter_chunks(session.get(server.url, stream=True), stop=StopEvent(), chunk_size=1000)
        got = next(chunks)
        chunks.stop = None
        got += next(chunks)
        chunks.stop = stopped = StopEvent()
        stopped.set("enough")
        with pytest.raises(Interrupted) as caught:
            next(chunks)
        assert caught.value.transferred == len(got)
        assert DATA.startswith(got)


def test_a_body_that_is_closed():
    """`close` ends the iteration, and closes the response, at any time and more than once."""
    with FaultServer([steps.expect(), steps.answer(DATA)]) as server, http.Session() as session:
        response = session.get(server.url, stream=True)
        chunks = http.iter_chunks(response, chunk_size=1000)
        next(chunks)
        chunks.close()
        chunks.close()
        assert list(chunks) == []
        assert response.raw.closed
