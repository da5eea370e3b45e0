"""SOCKS proxies for `http`, by way of PySocks: loaded when the first `socks5://` proxy is used, if PySocks is there.

PySocks connects, and talks to the proxy, on a socket of its own, which no stop can wake. So that part runs in a helper
thread (see `_helpers.Helpers`), which a stop leaves behind until the proxy answers or the connect timeout passes; then it
closes the socket. The finished connection becomes a `sockets.Socket`, and everything after it stops by itself.
"""

from __future__ import annotations

import functools
import socket
import time

import urllib3.contrib.socks
from urllib3.exceptions import ConnectTimeoutError

from iointerrupt import sockets
from iointerrupt._helpers import Helpers
from iointerrupt._http.pool import (
    HTTPConnectionPool,
    HTTPSConnection,
    HTTPSConnectionPool,
    PoolManager,
    StoppableConnection,
)

_helpers = Helpers("iointerrupt-socks", 32)


class SOCKSConnection(StoppableConnection, urllib3.contrib.socks.SOCKSConnection):
    """An http connection through a SOCKS proxy."""

    def _new_conn(self) -> socket.socket:
        # Named, since for https another class of the family stands between this one and that.
        negotiate = functools.partial(urllib3.contrib.socks.SOCKSConnection._new_conn, self)
        # PySocks gives the timeout to each of its steps anew; this is for all of it, and for the wait for a helper.
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        try:
            connected = _helpers.run(negotiate, self.stop, deadline, discard=socket.socket.close)
        except TimeoutError as error:
            message = f"Connection to {self.host} timed out. (connect timeout={self.timeout})"
            raise ConnectTimeoutError(self, message) from error
        sock: sockets.Socket = sockets.wrap(connected, stop=self.stop)
        return sock


class SOCKSHTTPSConnection(SOCKSConnection, HTTPSConnection):
    """An https connection through a SOCKS proxy."""


class SOCKSHTTPConnectionPool(HTTPConnectionPool):
    """Connections of which each goes through the proxy."""

    ConnectionCls = SOCKSConnection


class SOCKSHTTPSConnectionPool(HTTPSConnectionPool):
    """The same for https."""

    ConnectionCls = SOCKSHTTPSConnection


class SOCKSProxyManager(PoolManager, urllib3.contrib.socks.SOCKSProxyManager):
    """The pools of an adapter for one SOCKS proxy."""

    pool_classes = {"http": SOCKSHTTPConnectionPool, "https": SOCKSHTTPSConnectionPool}  # noqa: RUF012 - declared there
