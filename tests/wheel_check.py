"""Run by `make wheel` in an environment that has only the built wheel, outside the tree: is everything in it?"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.resources
import socket
import subprocess
import sys
import threading

import iointerrupt

assert "site-packages" in str(iointerrupt.__file__), iointerrupt.__file__
for name in iointerrupt.__all__:
    assert getattr(iointerrupt, name) is not None
assert importlib.resources.files("iointerrupt").joinpath("py.typed").is_file()
assert importlib.metadata.version("iointerrupt") == iointerrupt.__version__

# Nothing is installed beside the package, its metadata and its command.
installed = importlib.metadata.files("iointerrupt") or []
tops = {file.parts[0] for file in installed} - {".."}
assert tops == {"iointerrupt", f"iointerrupt-{iointerrupt.__version__}.dist-info"}, tops
assert {file.name for file in installed if file.parts[0] == ".."} == {"iointerrupt"}

# What takes an extra says which.
try:
    importlib.import_module("iointerrupt.dask")
except ImportError as error:
    assert "iointerrupt[dask]" in str(error), error
else:
    raise AssertionError("this environment has an extra, and nothing can be said of its lack")
command = [sys.executable, "-I", "-m", "iointerrupt", "--help"]
told = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
assert told.returncode == 2, told
assert "iointerrupt[cli]" in told.stderr, told

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
