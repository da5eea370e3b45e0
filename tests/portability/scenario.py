"""What a program does with the library, for a process from which something was taken away; prints what has become of it."""

from __future__ import annotations

import os
import select
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import iointerrupt
from iointerrupt import Interrupted, StopEvent, calls, downloads, files, http, monkey, sockets, use_stop
from iointerrupt.testing import FaultServer, steps, wait_until_blocked

DATA = bytes(range(256)) * 4096


def main() -> None:
    """Do it."""
    # `dask` brings psutil with it, which goes by the name of the system and not by what there is.
    for name in set(iointerrupt._MODULES) - {"dask"}:
        getattr(iointerrupt, name)
    folder = Path(tempfile.mkdtemp(dir=sys.argv[1]))
    near, far = sockets.socketpair()
    with near, far:
        stopped("recv", lambda: near.recv(1))
        far.sendall(b"x")
        say("kept", near.recv(1) == b"x")
        stopped("sendall", lambda: near.sendall(bytes(50_000_000)))
        stopped("chunks", lambda: list(sockets.iter_chunks(far, timeout=30)) and None)
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        stopped("accept", listener.accept)
        client = sockets.create_connection(listener.getsockname(), timeout=10)
        server, _ = listener.accept()
        client.close()
        say("end", server.recv(1) == b"")
        server.close()
    with FaultServer([steps.expect(), steps.stall()]) as stalling, http.Session() as session:
        stopped("http", lambda: session.get(stalling.url))
    with FaultServer([steps.expect(), steps.head(200, length=len(DATA)), steps.send(DATA)]) as serving:
        downloads.download(f"{serving.url}/file", folder / "file", timeout=30)
        say("download", (folder / "file").read_bytes() == DATA)
    files.copy(folder / "file", folder / "copy")
    say("copy", (folder / "copy").read_bytes() == DATA)
    with files.open(folder / "copy", "rb", abandon_on_stop=True) as file:
        say("hanging disk", file.read() == DATA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", monkey.PatchWarning)  # of what else is loaded by now
        monkey.patch_all()
    one, other = socket.socketpair()
    with one, other:
        stopped("patched", lambda: one.recv(1))
        stopped("patched select", lambda: select.select([one], [], []))
    monkey.unpatch_all()
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as pipe, os.fdopen(writer, "wb") as end:
        wrapped = files.wrap(pipe, closefd=False)
        end.write(b"ab")
        end.flush()
        say("pipe", wrapped.read(2) == b"ab")
        try:
            files.open(pipe.fileno(), "rb", closefd=False).close()
            said = "waited for"
        except OSError as error:
            said = f"refused: {error.strerror}"
    say("bare pipe", said)
    try:
        said = str(calls.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout.strip() == b"1")
    except NotImplementedError as error:
        said = f"refused: {error}"
    say("run", said)


def stopped(name: str, operation: Callable[[], object]) -> None:
    """Have the operation wait, stop it, and say how it ended."""
    stop, outcome = StopEvent(), []

    def work() -> None:
        try:
            with use_stop(stop):
                outcome.append(repr(operation()))
        except Interrupted:
            outcome.append("stopped")
        except Exception as error:
            outcome.append(repr(error))

    thread = threading.Thread(target=work)
    thread.start()
    wait_until_blocked(stop)
    stop.set()
    thread.join()
    say(name, *outcome)


def say(name: str, *what: object) -> None:
    """Print a line."""
    sys.stdout.write(f"{name}: {' '.join(map(str, what))}\n")


if __name__ == "__main__":
    main()
