"""Run by `make wheel` in an environment that has only the built wheel, outside the tree: is everything in it?"""

from __future__ import annotations

import importlib.resources
import socket
import threading

import iointerrupt

assert "site-packages" in str(iointerrupt.__file__), iointerrupt.__file__
for name in iointerrupt.__all__:
    assert getattr(iointerrupt, name) is not None
assert importlib.resources.files("iointerrupt").joinpath("py.typed").is_file()

# A blocked receive stops, with nothing but what the wheel has installed.
stop = threading.Event()
near, far = iointerrupt.sockets.socketpair(stop=stop)
caught: list[BaseException] = []


def receive() -> None:
    """Block until the stop."""
    try:
        near.recv(1)
    except iointerrupt.Interrupted as error:
        caught.append(error)


thread = threading.Thread(target=receive)
thread.start()
iointerrupt.testing.wait_until_blocked(stop)
stop.set()
thread.join(10)
assert len(caught) == 1, "the receive was not stopped"
assert isinstance(near, socket.socket)
near.close()
far.close()
print(f"iointerrupt {iointerrupt.__version__}: the wheel is complete")
