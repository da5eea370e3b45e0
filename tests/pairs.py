"""`tcp_pair`: two sockets that TCP connects, for what is not the same over a pair of Unix sockets.

Such as the end of a connection of TLS without a goodbye: OpenSSL 3.6 answers it with an alert, and there is nobody at the other
end of a Unix socket any more, which is EPIPE at once, for the `ssl` module's sockets as for ours.
"""

from __future__ import annotations

from socket import IPPROTO_TCP, TCP_NODELAY
from typing import Any

from iointerrupt import sockets


def tcp_pair(module: Any = sockets) -> tuple[Any, Any]:
    """The two ends of a connection: of our sockets, or those of the module `socket`."""
    with module.create_server(("127.0.0.1", 0)) as listener:
        near = module.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for each in (near, far):
        each.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # so that what is sent is there, as in a pair
    return near, far
