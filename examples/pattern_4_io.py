"""Pattern 4: a thread that is blocked in I/O.

The usual way: look at the event between two reads. A peer that has gone silent keeps the thread in the read, and the event
is never looked at again. A timeout on the socket brings the loop of pattern 3 back, and `makefile` refuses to go on after
one; closing the socket from another thread does not even wake the read.

The line: `sockets.wrap(connection, stop=stop)`, once, before the first read. The reads stay as they are. What is stopped is
the wait and not the connection: it can be used afterwards, and no byte is lost. In the same way: `files.open` for `open`,
`http.Session` for `requests.Session`.
"""

from __future__ import annotations

import socket
import threading

from iointerrupt import Interrupted, sockets
from iointerrupt.testing import wait_until_blocked


def before() -> str:
    """The event is looked at between two reads."""
    stop = threading.Event()
    got_some = threading.Event()
    connection, peer = socket.socketpair()

    def work() -> None:
        while not stop.is_set() and connection.recv(4096):
            got_some.set()

    thread = threading.Thread(target=work)
    thread.start()
    peer.sendall(b"some")
    got_some.wait()
    stop.set()
    thread.join(0.5)
    noticed = "stopped" if not thread.is_alive() else "was still in recv(), and ended because the peer hung up"
    peer.close()
    thread.join()
    connection.close()
    return noticed


def after() -> str:
    """The event ends the read."""
    stop = threading.Event()
    plain, peer = socket.socketpair()
    connection = sockets.wrap(plain, stop=stop)  # the line
    got_some = threading.Event()
    ended = []

    def work() -> None:
        try:
            while connection.recv(4096):
                got_some.set()
        except Interrupted:
            ended.append("stopped in recv()")

    thread = threading.Thread(target=work)
    thread.start()
    peer.sendall(b"some")
    got_some.wait()
    wait_until_blocked(stop)  # only so that the stop comes in the middle of it
    stop.set()
    thread.join()
    # The connection goes on with another stop, or with none.
    connection.stop = None
    peer.sendall(b"late")
    ended.append(f"read afterwards: {connection.recv(4096)!r}")
    connection.close()
    peer.close()
    return ", ".join(ended)


def main() -> None:
    """Run both."""
    print("before:", before())
    print("after: ", after())


if __name__ == "__main__":
    main()
