"""The servers of the soak, in a process of their own: one for each fault, replaced by a new one every some seconds.

A `FaultServer` remembers every request, which is right for a test and wrong for a long run; and what the servers take is
not to be counted as what the clients take. Each generation is announced on stdout as a line of JSON; the one before it
ends a little later, whoever is still connected to it: a server that goes away is a fault too. It all ends when stdin does.
"""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator

from iointerrupt.testing import FaultServer, steps
from iointerrupt.testing._certificates import credentials
from iointerrupt.testing.faults import FAULTS
from tests.stress.streams import Place

#: Bytes of a body, of a file, and of what a raw connection gives.
SIZE = 100_000

# Seconds that a generation is the newest, and those that it has from then on.
_NEWEST, _LAST = 10.0, 3.0


def body() -> bytes:
    """What all of them serve."""
    return Place().upcoming(SIZE)


def _raw() -> dict[str, list[steps.Step]]:
    whole, half = body(), body()[: SIZE // 2]
    return {
        "raw": [steps.send(whole), steps.close()],
        "raw, stalling": [steps.send(half), steps.stall()],
        "raw, dripping": [steps.drip(whole, size=5000, every=0.01), steps.close()],
        "raw, reset": [steps.send(half), steps.reset()],
    }


@contextlib.contextmanager
def _generation() -> Iterator[dict[str, str]]:
    with contextlib.ExitStack() as scope:
        urls = {
            name: scope.enter_context(FaultServer(*fault.scripts(body()), tls=fault.tls)).url
            for name, fault in FAULTS.items()
        }
        script = [steps.repeat(steps.expect(), steps.serve(body(), etag='"v1"'))]
        urls["files"] = scope.enter_context(FaultServer(script)).url
        urls["files over TLS"] = scope.enter_context(FaultServer(script, tls=True)).url
        for name, steps_of_it in _raw().items():
            urls[name] = scope.enter_context(FaultServer(steps_of_it)).url
        yield urls


def main() -> None:
    """Serve until stdin ends."""
    ended = threading.Event()

    def await_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=await_end, daemon=True).start()
    last = contextlib.ExitStack()
    while not ended.is_set():
        newest = contextlib.ExitStack()
        urls = newest.enter_context(_generation())
        print(json.dumps({"authority": credentials().ca_pem, "urls": urls}), flush=True)
        ended.wait(_LAST)
        last.close()
        last = newest
        ended.wait(_NEWEST - _LAST)
    last.close()


if __name__ == "__main__":
    main()
