"""urllib3's connections, pools and managers, over sockets that a stop can interrupt.

Nothing of urllib3's is rewritten: a connection opens our socket where it would open its own (`_new_conn`), a TLS context
makes our `SSLSocket` (`sslsocket_class`, a hook of `ssl`), a pool keeps its connections in our queue (`QueueCls`). What
urllib3 then reads and writes stops by itself, and its own `finally` blocks see an `Interrupted` as they see any other
failure: they close the connection and give its place in the pool back.

A connection belongs to the request that took it from the pool. That request's thread gives its socket the stop
(`bind`), which stays for the body, until the next request.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import sys
import time
from typing import Any, ClassVar

import requests.adapters
import urllib3.connection
from urllib3.exceptions import (
    ConnectTimeoutError,
    InvalidHeader,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
)
from urllib3.util.connection import allowed_gai_family
from urllib3.util.ssltransport import SSLTransport

from iointerrupt import sockets
from iointerrupt._http.idle import IdleConnections, Shared
from iointerrupt._http.trust import Trust, adopt
from iointerrupt._stop import StopEvent


def innermost(sock: Any) -> Any:
    """The socket that moves the bytes of `sock`: urllib3's TLS in TLS is a socket in a socket."""
    while isinstance(sock, SSLTransport):
        sock = sock.socket
    return sock


class StoppableConnection(urllib3.connection.HTTPConnection):
    """What every connection here has: the stop of the request that it serves."""

    stop: StopEvent | None = None

    def bind(self, stop: StopEvent | None) -> None:
        """Stop on `stop` from now on, be the connection open already or not."""
        self.stop = stop
        sock = innermost(self.sock)
        if isinstance(sock, sockets.Socket):
            sock.stop = stop


class Response(http.client.HTTPResponse):
    """A response that is stricter than http.client's.

    It knows whether its head came to its end: http.client takes the end of the connection for one. It takes no chunk of a
    negative size for one that goes on for ever. And it refuses two lengths itself, as urllib3 would, but would leave it open.
    """

    head_is_cut_off = False

    def begin(self) -> None:
        response: Any = self  # for which `fp` can be anything that has what `begin` needs
        reader = self.fp
        response.fp = head = _Head(reader)
        try:
            super().begin()
        finally:
            self.head_is_cut_off = head.is_cut_off
            if response.fp is head:  # else it is closed already
                self.fp = reader
        lengths = {each.strip() for said in self.headers.get_all("Content-Length", ()) for each in said.split(",")}
        if len(lengths) > 1:
            raise InvalidHeader(f"two lengths of one body: Content-Length is {' and '.join(sorted(lengths))}")

    def _read_next_chunk_size(self) -> int:
        size: int = super()._read_next_chunk_size()  # type: ignore[misc]  # typeshed does not know it
        if size < 0:
            self._close_conn()  # type: ignore[attr-defined]  # as above
            raise ValueError(f"a chunk of {size} bytes")  # which makes its caller say that the body is incomplete
        return size


class _Head:
    """Reads lines, and remembers whether the last one was one."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.is_cut_off = False
        self.close = reader.close

    def readline(self, limit: int = -1) -> bytes:
        line: bytes = self._reader.readline(limit)
        self.is_cut_off = not line.endswith(b"\n")
        return line


class HTTPConnection(StoppableConnection):
    """An http connection of which a stop interrupts every phase."""

    response_class = Response

    def _new_conn(self) -> socket.socket:
        # The errors are those of the method that this stands in for: retries and requests tell them apart.
        host: str = self._dns_host
        host = host.strip("[]") if host.startswith("[") else host
        try:
            host.encode("idna")
        except UnicodeError:
            raise LocationParseError(f"'{host}', label empty or too long") from None
        try:
            sock = self._open(host)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, self, error) from error
        except TimeoutError as error:
            message = f"Connection to {self.host} timed out. (connect timeout={self.timeout})"
            raise ConnectTimeoutError(self, message) from error
        except OSError as error:
            raise NewConnectionError(self, f"Failed to establish a new connection: {error}") from error
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def _open(self, host: str) -> sockets.Socket:
        # `sockets.create_connection`, with the socket's options set before it connects, as some of them require. The
        # timeout is for all of it, the lookup too, where urllib3 gives it to each address anew.
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        found = sockets.getaddrinfo(
            host, self.port, allowed_gai_family(), socket.SOCK_STREAM, timeout=self.timeout, stop=self.stop
        )
        failures: list[OSError] = []
        for done, (family, kind, protocol, _, address) in enumerate(found):
            sock = sockets.Socket(family, kind, protocol, stop=self.stop)
            try:
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.settimeout(self.timeout)
                if self.source_address:
                    sock.bind(self.source_address)
                sock._ii_connect_or_raise(address, self.stop, sockets._share(deadline, len(found) - done))
            except OSError as error:
                sock.close()
                failures.append(error)
            except BaseException:
                sock.close()
                raise
            else:
                failures.clear()  # they refer to this frame, here and below
                return sock
        try:
            raise failures[-1] if failures else OSError("getaddrinfo returns an empty list")
        finally:
            failures.clear()


class HTTPSConnection(HTTPConnection, urllib3.connection.HTTPSConnection):
    """An https connection of which a stop interrupts every phase."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._given_context = self.ssl_context
        self._roots = self.ca_certs, self.ca_cert_dir, self.ca_cert_data
        if self._given_context is None:
            # The context that `connect` makes knows them, and urllib3 would load them into it again each time.
            self.ca_certs = self.ca_cert_dir = self.ca_cert_data = None

    def connect(self) -> None:
        """Connect, through the proxy if there is one, and shake hands."""
        if self._given_context is not None:
            adopt(self._given_context)
        else:
            trust = self._trust(self.assert_hostname, self.assert_fingerprint)
            # urllib3 loads a client certificate into the context, so that one is for this connection alone.
            self.ssl_context = trust.new_context() if self.cert_file else trust.context()
        super().connect()

    def _trust(self, assert_hostname: Any, assert_fingerprint: str | None) -> Trust:
        return Trust(
            self.cert_reqs,
            *self._roots,
            self.ssl_version,
            self.ssl_minimum_version,
            self.ssl_maximum_version,
            check_hostname=not (assert_fingerprint or assert_hostname or assert_hostname is False),
        )

    def _connect_tls_proxy(self, hostname: str, sock: socket.socket) -> ssl.SSLSocket:
        # Without a context for the proxy, urllib3 makes one of the settings for the target, and so does this; except
        # that a context which the user gave is used for a proxy that is itself the other end.
        config: Any = self.proxy_config
        context = config.ssl_context
        if context is None and self._given_context is not None and self._tunnel_host is None:
            context = self._given_context
        if context is None:
            context = self._trust(config.assert_hostname, config.assert_fingerprint).context()
        else:
            adopt(context)
        self.proxy_config = config._replace(ssl_context=context)
        try:
            return super()._connect_tls_proxy(hostname, sock)
        finally:
            self.proxy_config = config


class HTTPConnectionPool(urllib3.HTTPConnectionPool):
    """A pool whose connections, and the wait for one, a stop interrupts.

    Args:
        shared: what the pool has in common with its adapter; the others are urllib3's.
    """

    ConnectionCls: type[StoppableConnection] = HTTPConnection
    QueueCls = IdleConnections

    def __init__(self, *args: Any, shared: Shared, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shared = shared
        idle: Any = self.pool
        idle.shared = shared

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        connection.bind(self.shared.stop)
        return connection


class HTTPSConnectionPool(HTTPConnectionPool, urllib3.HTTPSConnectionPool):
    """The same for https."""

    ConnectionCls = HTTPSConnection


# The context that some versions of requests pass for verify=True. Every session of the process uses it, so it must not
# become one that makes our sockets.
_PRELOADED = getattr(requests.adapters, "_preloaded_ssl_context", None)


class PoolManager(urllib3.PoolManager):
    """The pools of an adapter.

    Args:
        shared: what the adapter has in common with its pools; the others are urllib3's.
    """

    pool_classes: ClassVar[dict[str, type[urllib3.HTTPConnectionPool]]] = {
        "http": HTTPConnectionPool,
        "https": HTTPSConnectionPool,
    }

    def __init__(self, *args: Any, shared: Shared, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.shared = shared
        self.pool_classes_by_scheme = self.pool_classes

    def connection_from_host(
        self,
        host: str | None,
        port: int | None = None,
        scheme: str | None = "http",
        pool_kwargs: dict[str, Any] | None = None,
    ) -> urllib3.HTTPConnectionPool:
        """The pool for a host; of the adapter's `ssl_context`, if it has one, nothing is overridden."""
        kwargs = dict(pool_kwargs or {})
        if _PRELOADED is not None and kwargs.get("ssl_context") is _PRELOADED:
            kwargs["ssl_context"] = self.connection_pool_kw.get("ssl_context")
        if kwargs.get("ssl_context", self.connection_pool_kw.get("ssl_context")) is not None:
            kwargs.update(cert_reqs=None, ca_certs=None, ca_cert_dir=None)
        return super().connection_from_host(host, port, scheme, kwargs)

    def clear(self) -> None:
        """Forget the pools, and close the connections that are free.

        urllib3 leaves that to the collection of the pools, which an error that somebody keeps puts off: it has one in its
        traceback. A connection that is in use meanwhile is closed when that is over.
        """
        pools = [pool for key in self.pools.keys() if (pool := self.pools.get(key)) is not None]  # noqa: SIM118 - as below
        super().clear()
        for pool in pools:
            if isinstance(pool.pool, IdleConnections):
                pool.pool.close_all()

    def _new_pool(
        self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None
    ) -> urllib3.HTTPConnectionPool:
        # Added here, behind the key by which pools are told apart: it is the same for all of this manager's.
        context = self.connection_pool_kw if request_context is None else request_context
        return super()._new_pool(scheme, host, port, {**context, "shared": self.shared})


class ProxyManager(PoolManager, urllib3.ProxyManager):
    """The pools of an adapter for one http or https proxy."""
