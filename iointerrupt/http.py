"""HTTP that a stop interrupts, with `requests`: sessions, adapters, retries, and bodies read as they come in.

    from iointerrupt import StopEvent, http

    stop = StopEvent()
    session = http.Session(stop=stop)
    for chunk in http.iter_chunks(session.get(url, stream=True)):
        ...

Each phase of a request stops: the lookup of the name, connecting, the proxy, the TLS handshake, sending, waiting for the
headers, the body, redirects, the pause before a retry, and the wait for a connection of the pool (`pool_block=True`). It
raises `Interrupted`, which neither requests nor urllib3 takes for a failure of the network: nothing is tried again, the
connection is closed, and the session goes on to work.

This module has what a program configures; `_http.pool` and `_http.idle` have the connections, `_http.body` the reading of bodies,
`_http.trust` the TLS contexts, `_http.socks` the SOCKS proxies.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self, overload

import requests
import requests.adapters
import urllib3
import urllib3.util

if not hasattr(urllib3, "BaseHTTPResponse"):  # asked before the imports below, which would fail with less to say
    raise ImportError("iointerrupt.http needs urllib3 2.0 or newer, and an older one is installed")

from iointerrupt._errors import Interrupted
from iointerrupt._http.body import (
    BodyFile,
    Chunks,
    ReadTimeout,
    came_through,
    check_wait,
    has_come_through,
    iter_chunks,
)
from iointerrupt._http.idle import Shared
from iointerrupt._http.pool import PoolManager, ProxyManager
from iointerrupt._http.whole import with_whole_reads
from iointerrupt._stop import StopEvent, as_stop, check_timeout, current_stop, use_stop
from iointerrupt._streams.buffered import BufferedReader
from iointerrupt._types import StopLike
from iointerrupt._wait import check, stops

if TYPE_CHECKING:
    import ssl

    from urllib3.response import BaseHTTPResponse

__all__ = ["Adapter", "Chunks", "ReadTimeout", "Retry", "Session", "iter_chunks", "open"]

#: What requests takes as a timeout: seconds for connecting and for reading, or one for each.
Timeout = float | tuple[float | None, float | None] | urllib3.util.Timeout | None


class Retry(urllib3.util.Retry):
    """`urllib3.util.Retry`, whose pauses end when a stop is set: `Retry-After` as well as the backoff.

    The stop is that of the `Session` or the `Adapter` that retries, and the current one. A request that was interrupted
    is never tried again.

    Args:
        *args, **kwargs: as for `urllib3.util.Retry`.
        retry_after_max: for how many seconds at most to obey a `Retry-After`; by default the 6 hours of newer urllib3.

    Raises:
        ValueError: `retry_after_max` is negative.
    """

    def __init__(self, *args: Any, retry_after_max: float = 6 * 3600, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.retry_after_max: float = check_timeout(retry_after_max, "retry_after_max")  # type: ignore[assignment]  # a final int there
        self._stop: StopEvent | None = None

    @classmethod
    def of(cls, retries: urllib3.util.Retry | int | None) -> Retry:
        """What requests and urllib3 accept as `retries`, as a `Retry` that stops.

        Raises:
            TypeError: it is of a class derived from `urllib3.util.Retry`, which may pause in a way of its own. Derive it
                from `Retry` instead.
            ValueError: it is a negative number.
        """
        if isinstance(retries, Retry):
            return retries
        if isinstance(retries, urllib3.util.Retry):
            if type(retries) is not urllib3.util.Retry:
                raise TypeError(
                    f"a stop could not end the pauses of {type(retries).__name__}: derive it from iointerrupt.http.Retry"
                )
            same = cls()
            vars(same).update(vars(retries))
            return same
        if retries is not None and not isinstance(retries, int):
            raise TypeError(f"retries must be an int or a Retry, not {type(retries).__name__}")
        if not retries:
            # What requests makes of it: the error as it is, instead of one that says "max retries exceeded".
            return cls(0, read=False)
        if retries < 0:
            raise ValueError(f"retries must be 0 or more, not {retries}")
        return cls(retries)

    def new(self, **kwargs: Any) -> Self:
        """The same with some settings replaced."""
        made = super().new(**{"retry_after_max": self.retry_after_max, **kwargs})
        made._stop = self._stop
        return made

    def increment(self, *args: Any, **kwargs: Any) -> Self:
        """The retries that are left after one more failure; as in urllib3, which calls it before each pause."""
        left = super().increment(*args, **kwargs)
        shared = getattr(kwargs.get("_pool"), "shared", None)
        if isinstance(shared, Shared):
            left._stop = shared.stop
        return left

    def parse_retry_after(self, retry_after: str) -> float:
        """The seconds that a `Retry-After` header asks for, at most `retry_after_max`."""
        return min(super().parse_retry_after(retry_after), self.retry_after_max)

    def sleep_for_retry(self, response: BaseHTTPResponse) -> bool:
        """Pause for as long as the response's `Retry-After` says; return whether it says anything.

        Raises:
            Interrupted: a stop was set meanwhile.
        """
        seconds = self.get_retry_after(response)
        if seconds:
            self._pause(seconds)
        return bool(seconds)

    def sleep(self, response: BaseHTTPResponse | None = None) -> None:
        """Pause before the next try: for the `Retry-After` of the response, else for the backoff.

        Raises:
            Interrupted: a stop was set meanwhile.
        """
        if not (self.respect_retry_after_header and response and self.sleep_for_retry(response)):
            self._pause(self.get_backoff_time())

    def _pause(self, seconds: float) -> None:
        check(self._stop)
        if seconds > 0:
            StopEvent(*stops(self._stop)).sleep(seconds)


class Adapter(requests.adapters.HTTPAdapter):
    """A `requests.adapters.HTTPAdapter` whose requests a stop ends, to be mounted on a session of your own.

    Args:
        pool_connections, pool_maxsize, pool_block: as for `HTTPAdapter`.
        max_retries: a number of retries of failed connections, or a `Retry`; one of `urllib3.util.Retry` becomes one.
        stop: what ends its requests, and the reading of their bodies, besides the current stop.
        ssl_context: what decides, alone, which servers to trust: neither the bundle of requests nor `verify` nor the
            `REQUESTS_CA_BUNDLE` of the environment add to it. Its `sslsocket_class` becomes `sockets.SSLSocket`. None for
            contexts as requests has them, made when the first https connection needs one and shared in the process.

    Raises:
        TypeError: `stop` is not a stop, or `max_retries` of a class whose pauses a stop could not end.

    It is picklable without a stop and an `ssl_context`, which belong to their process.

    What does not stop at once: PySocks' conversation with a SOCKS proxy is left behind in a thread, as is a lookup of a
    name; a file or a generator that is sent blocks as it does elsewhere when it is read (see `files.open`).
    """

    __attrs__: list[str] = [*requests.adapters.HTTPAdapter.__attrs__, "stop", "ssl_context"]  # noqa: RUF012 - declared there

    def __init__(
        self,
        pool_connections: int = requests.adapters.DEFAULT_POOLSIZE,
        pool_maxsize: int = requests.adapters.DEFAULT_POOLSIZE,
        max_retries: urllib3.util.Retry | int | None = 0,
        pool_block: bool = False,  # noqa: FBT001, FBT002 - the signature is that of HTTPAdapter
        *,
        stop: StopLike = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        if ssl_context is not None and not hasattr(ssl_context, "verify_mode"):
            raise TypeError(f"ssl_context must be an ssl.SSLContext or None, not {type(ssl_context).__name__}")
        self._shared = Shared(as_stop(stop))
        self.ssl_context = ssl_context
        super().__init__(pool_connections, pool_maxsize, Retry.of(max_retries), pool_block)

    @property
    def max_retries(self) -> Retry:
        """How often to try again; what is set becomes a `Retry` whose pauses a stop ends, or is a TypeError."""
        return self._max_retries

    @max_retries.setter
    def max_retries(self, retries: urllib3.util.Retry | int | None) -> None:
        self._max_retries = Retry.of(retries)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._shared = Shared()
        super().__setstate__(state)  # type: ignore[misc]  # the stubs leave it out

    @property
    def stop(self) -> StopEvent | None:
        """What ends the requests of this adapter.

        What is set here holds from the next request on, also on pooled connections, and between two chunks of the bodies
        that `iter_chunks` is reading.
        """
        return self._shared.stop

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._shared.stop = as_stop(stop)

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a prepared request, as `HTTPAdapter.send` does.

        Raises:
            Interrupted: a stop was set. Whether the server has seen the request is unknown.
        """
        check(self._shared.stop)
        try:
            response = super().send(request, *args, **kwargs)
        except Interrupted as error:
            error.transferred = error.partial = (
                None  # of a line of the head, which is nothing that the caller has asked for
            )
            raise
        came_through(response, self._shared)
        return response

    def build_response(self, req: requests.PreparedRequest, resp: BaseHTTPResponse) -> requests.Response:
        """Make the response out of urllib3's; called by `HTTPAdapter`. Its `content` is read in large pieces; see `_http.whole`."""
        return with_whole_reads(super().build_response(req, resp))

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **pool_kwargs: Any) -> None:  # noqa: FBT001, FBT002 - as in HTTPAdapter
        """Make the pools; called by `HTTPAdapter`, and overridden to pass urllib3 further settings."""
        self._pool_connections, self._pool_maxsize, self._pool_block = connections, maxsize, block
        self.poolmanager: urllib3.PoolManager = PoolManager(
            num_pools=connections, maxsize=maxsize, block=block, shared=self._shared, **self._tls(), **pool_kwargs
        )

    def proxy_manager_for(self, proxy: str, **proxy_kwargs: Any) -> Any:
        """The pools for a proxy, made at its first use; called by `HTTPAdapter`.

        Raises:
            requests.exceptions.InvalidSchema: a SOCKS proxy, and PySocks is not installed.
        """
        manager = self.proxy_manager.get(proxy)
        if manager is None:
            settings: dict[str, Any] = {
                "num_pools": self._pool_connections,
                "maxsize": self._pool_maxsize,
                "block": self._pool_block,
                "shared": self._shared,
                **self._tls(),
                **proxy_kwargs,
            }
            if proxy.lower().startswith("socks"):
                try:
                    from iointerrupt._http.socks import SOCKSProxyManager  # noqa: PLC0415 - PySocks may not be there
                except ImportError as error:
                    raise requests.exceptions.InvalidSchema("Missing dependencies for SOCKS support.") from error
                username, password = requests.utils.get_auth_from_url(proxy)
                manager = SOCKSProxyManager(proxy, username=username, password=password, **settings)
            else:
                manager = ProxyManager(proxy, proxy_headers=self.proxy_headers(proxy), **settings)
            self.proxy_manager[proxy] = manager
        return manager

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Tell a pool whom to trust; called by `HTTPAdapter`.

        Raises:
            ValueError: `verify=False` with an `ssl_context`, which decides that.
        """
        if self.ssl_context is None or not url.lower().startswith("https"):
            super().cert_verify(conn, url, verify, cert)  # type: ignore[no-untyped-call]  # the stubs' omission
            return
        if verify is False:
            raise ValueError("verify=False has no say where there is an ssl_context: set the verify_mode of that")
        # Without `verify` the method does no more than the client's certificate, and unsets the rest.
        super().cert_verify(conn, url, False, cert)  # type: ignore[no-untyped-call]  # as above
        conn.cert_reqs = None

    def _tls(self) -> dict[str, Any]:
        return {} if self.ssl_context is None else {"ssl_context": self.ssl_context}


class Session(requests.Session):
    """A `requests.Session` whose requests a stop ends, in each of their phases.

    Args:
        stop: what ends them, besides the current stop; see `as_stop`.
        timeout: seconds, more than 0, to connect in and to wait for the next bytes, for requests that give no timeout of
            their own; or anything that requests takes as one. None for no limit.
        retries: how often to try again where a connection failed, or a `Retry`.
        pool_size: how many connections to keep for each host.
        ssl_context: see `Adapter`.
        pool_block: whether a request waits while `pool_size` connections to its host are in use.

    Raises:
        TypeError, ValueError: an argument cannot be what it is.

    It may serve many threads, of which each can be interrupted alone by its current stop. It is picklable without a stop
    and an `ssl_context`, as `requests.Session` is. A subclass, or a session that exists already, can have the same by
    mounting an `Adapter`.
    """

    __attrs__: list[str] = [*requests.Session.__attrs__, "timeout", "_adapter"]  # noqa: RUF012 - declared there

    def __init__(
        self,
        *,
        stop: StopLike = None,
        timeout: Timeout = None,
        retries: urllib3.util.Retry | int | None = 0,
        pool_size: int = requests.adapters.DEFAULT_POOLSIZE,
        ssl_context: ssl.SSLContext | None = None,
        pool_block: bool = False,
    ) -> None:
        if isinstance(pool_size, bool) or not isinstance(pool_size, int):
            raise TypeError(f"pool_size must be an int, not {type(pool_size).__name__}")
        if pool_size < 1:
            raise ValueError(f"pool_size must be 1 or more, not {pool_size}")
        self.timeout = timeout
        super().__init__()
        # One for both schemes, where requests has two: so it gets the places of both.
        self._adapter = Adapter(
            2 * requests.adapters.DEFAULT_POOLSIZE, pool_size, retries, pool_block, stop=stop, ssl_context=ssl_context
        )
        # In the places of those that requests has just made, and quicker than mounting, which sorts all of them anew.
        self.adapters["https://"] = self.adapters["http://"] = self._adapter

    @property
    def stop(self) -> StopEvent | None:
        """What ends the requests of this session; see `Adapter.stop`."""
        return self._adapter.stop

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._adapter.stop = as_stop(stop)

    @property
    def timeout(self) -> Timeout:
        """The timeout of requests that give none."""
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: Timeout) -> None:
        self._timeout = _for_sockets(timeout)

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """Send a prepared request, as `requests.Session.send` does.

        Raises:
            Interrupted: a stop was set. Whether the server has seen the request is unknown.
        """
        shared = self._adapter._shared
        check(shared.stop)
        if kwargs.get("timeout") is None:
            kwargs["timeout"] = self.timeout
        response = super().send(request, **kwargs)
        if not has_come_through(response):  # but by way of an adapter of somebody else's, such as that of a mock
            came_through(response, shared)
        return response


def _for_sockets(timeout: Timeout) -> Timeout:
    """A timeout as sockets can be told it, for which an infinite one is none; what is none is an error."""
    if isinstance(timeout, urllib3.util.Timeout):
        return timeout
    if not isinstance(timeout, tuple):
        return _seconds_for_sockets(timeout)
    if len(timeout) != 2:
        raise ValueError(
            f"timeout must be seconds, or two: to connect in, and to wait for the next bytes; not {timeout}"
        )
    connect, read = timeout
    return _seconds_for_sockets(connect), _seconds_for_sockets(read)


def _seconds_for_sockets(seconds: float | None) -> float | None:
    if seconds is not None:
        check_wait(seconds)
    return None if seconds == math.inf else seconds


@overload
def open(  # noqa: A001 - for bodies, what the builtin is for files
    url: str,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    session: requests.Session | None = None,
    decode: bool = True,
    **kwargs: Any,
) -> BufferedReader: ...
@overload
def open(  # noqa: A001 - as above
    url: requests.Response, *, stop: StopLike = None, timeout: float | None = None, decode: bool = True
) -> BufferedReader: ...
def open(  # noqa: A001 - as above
    url: str | requests.Response,
    *,
    stop: StopLike = None,
    timeout: float | None = None,
    session: requests.Session | None = None,
    decode: bool = True,
    **kwargs: Any,
) -> BufferedReader:
    """The body of a response as a binary file, for whatever reads files: `tarfile`, `csv`, `json`, `pandas`.

        with tarfile.open(fileobj=http.open(url, stop=stop), mode="r|gz") as archive:
            archive.extractall(folder)

    Args:
        url: what to get; or a response, made with `stream=True`, to read from.
        stop: what ends the request and the reading, besides the current stop and the session's.
        timeout: seconds to connect in and to wait for the next bytes, more than 0.
        session: what to request it with; by default a `Session` that is closed with the file.
        decode: whether to undo the `Content-Encoding`; see `iter_chunks`.
        **kwargs: for `session.get`, such as `headers` and `params`.

    Returns:
        A file that is read forward only. Closing it closes the response.

    Raises:
        requests.HTTPError: the status is 400 or above.
        Interrupted: a stop was set. In a read, `.partial` is what it had taken; the connection is closed, so the file
            cannot be read on and raises that again.
        requests.exceptions.RequestException, TypeError, ValueError: as `session.get` and `iter_chunks`.
    """
    own = as_stop(stop)
    if timeout is not None:
        check_wait(timeout)
    if isinstance(url, requests.Response):
        if session is not None or kwargs:
            raise TypeError("a response has been requested already: neither session nor arguments of a request apply")
        response, close = url, url.close
    elif not isinstance(url, str):
        raise TypeError(f"url must be a str or a requests.Response, not {type(url).__name__}")
    elif session is not None:
        current = current_stop()
        with use_stop(current if own is None else StopEvent(own, current)):
            response = session.get(url, stream=True, timeout=timeout, **kwargs)
        close = response.close
    else:
        made = Session(stop=own)
        try:
            response = made.get(url, stream=True, timeout=timeout, **kwargs)
        except BaseException:
            made.close()
            raise

        def close() -> None:
            try:
                response.close()
            finally:
                made.close()

    try:
        response.raise_for_status()
        body = BodyFile(iter_chunks(response, stop=own, timeout=timeout, decode=decode), close)
        return BufferedReader(body)
    except BaseException:
        close()
        raise
