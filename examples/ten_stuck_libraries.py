"""Ten threads, each stuck in another library, in a program that knows nothing of stopping them.

`python examples/ten_stuck_libraries.py` cannot be ended by Ctrl-C: the main thread is told, and waits for threads that wait for
peers that never answer. `iointerrupt run examples/ten_stuck_libraries.py` runs the same file, and the first Ctrl-C ends it.
"""

from __future__ import annotations

import ftplib
import http.client
import imaplib
import poplib
import queue
import smtplib
import socket
import subprocess
import threading
import time
import urllib.request
import xmlrpc.client
from collections.abc import Callable

import requests

listener = socket.create_server(("127.0.0.1", 0))
host, port = listener.getsockname()
url = f"http://{host}:{port}/"


def ask() -> None:
    """A request whose answer never comes."""
    connection = http.client.HTTPConnection(host, port)
    connection.request("GET", "/")
    connection.getresponse()


# A mail or FTP client waits for a greeting first, an HTTP client for the head of an answer.
TALKS: dict[str, Callable[[], object]] = {
    "urllib.request": lambda: urllib.request.urlopen(url),
    "http.client": ask,
    "requests": lambda: requests.get(url),  # noqa: S113 - that it has no timeout is the point
    "xmlrpc.client": lambda: xmlrpc.client.ServerProxy(url).answer(),
    "ftplib": lambda: ftplib.FTP().connect(host, port),  # noqa: S321 - a client of our own listener
    "smtplib": lambda: smtplib.SMTP(host, port),
    "imaplib": lambda: imaplib.IMAP4(host, port),
    "poplib": lambda: poplib.POP3(host, port),
}
WAITS: dict[str, Callable[[], object]] = {
    "queue": queue.Queue[str]().get,
    "subprocess": lambda: subprocess.run(["sleep", "600"], check=True),  # noqa: S607 - as the PATH has it
}


def main() -> None:
    """Start them, and wait for them, as programs do."""
    threads = [threading.Thread(target=target, name=name) for name, target in {**TALKS, **WAITS}.items()]
    for thread in threads:
        thread.start()
    silent = [listener.accept() for _ in TALKS]
    print(f"{len(threads)} threads, {len(silent)} of them with a connection; now press Ctrl-C", flush=True)
    try:
        for thread in threads:
            thread.join()
    except KeyboardInterrupt:
        pressed = time.monotonic()
        print("Ctrl-C: waiting for the threads", flush=True)
        for thread in threads:
            thread.join()
        print(f"all have ended, {time.monotonic() - pressed:.3f} s after it", flush=True)


if __name__ == "__main__":
    main()
