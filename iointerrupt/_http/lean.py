"""`answer`: GET requests of a session, made on the connections of its own pool, without the layers in between.

What requests decides for each call, it decides here once for each session and origin (scheme, host and port): the headers,
the credentials, that there is no proxy, whom to trust, which pool. The decision is requests' and urllib3's own: they prepare
a request, and what they would send of it is kept (`Origin`). A call adds its target and its headers, sends that, and reads
the head of the answer.

It is for plain cases alone, and leaves everything else to requests by returning None: a session with hooks, cookies or an
authentication that looks at each request; code that has replaced a method of requests, as `responses` does; proxies;
answers that redirect, are chunked or coded, set a cookie, or are not strictly what RFC 9112 says. An origin that goes on to
give such answers is left alone for a while, since each costs a request.

What the decision depends on is compared at each call (`_seen`). Only what requests reads from the environment, `.netrc`
above all, is read again no sooner than after `_GOOD_FOR` seconds.

Ownership: a session carries its records. They need no lock: every access to them is one operation on a dict, or the
assignment of one attribute; threads that decide the same at once both come to a good decision. An `Origin` never changes.
The pool has a lock of its own. An answer and its connection belong to one thread.
"""

from __future__ import annotations

import http.client
import math
import operator
import re
import time
import types
import weakref
from collections.abc import Mapping
from typing import Any

import requests
import requests.adapters
import requests.auth
import urllib3
from urllib3.exceptions import ClosedPoolError, HTTPError
from urllib3.util.ssl_match_hostname import CertificateError

from iointerrupt._http.body import check_wait
from iointerrupt._http.exchange import TOKEN, exchange, fail
from iointerrupt._http.mocked import Under
from iointerrupt._http.pool import HTTPConnectionPool, HTTPSConnectionPool, StoppableConnection
from iointerrupt._http.splice import LeanAnswer, TargetError
from iointerrupt._stop import StopEvent
from iointerrupt._wait import check

__all__ = ["LeanAnswer", "Origin", "TargetError", "answer"]

_GOOD_FOR = 1.0  # seconds
_RESTS_FOR = 60.0  # seconds
_MOST_ODD = 2  # unusual answers in a row, after which an origin is left alone for that time
_MOST_ORIGINS = 64  # of one session

# URLs that requests would send as they are, split into origin and target; and what it makes of others. In the first, a dot
# behind a slash may begin a segment that is still to be resolved.
_ORIGIN = r"https?://(?:[a-z0-9][a-z0-9._-]*|\[[0-9a-f:]+\])(?::[1-9][0-9]{0,4})?"
_OCTET = r"A-Za-z0-9._~!$&'()*+,;=:@\-"
_PLAIN = re.compile(rf"({_ORIGIN})((?!//)(?:/(?!\.)[{_OCTET}]*)+(?:\?[{_OCTET}/?]+)?)")
_PREPARED = re.compile(rf"({_ORIGIN})((?!//)/(?:[{_OCTET}/]|%[0-9A-F]{{2}})*(?:\?(?:[{_OCTET}/?]|%[0-9A-F]{{2}})+)?)")

_SENT_FIELD = re.compile(rf"{TOKEN}: (?:[!-~\x80-\xff][\t -~\x80-\xff]*)?")

# What makes a request another than a plain one.
_UNUSUAL = frozenset({"host", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"})

# Whoever replaces one of these wants to see the requests, so there must be requests to see.
_OF_SESSION = ("send", "request", "get", "prepare_request", "merge_environment_settings", "get_adapter")
_OF_ADAPTER = ("send", "get_connection_with_tls_context", "cert_verify", "request_url", "add_headers", "build_response")
_OF_POOL = ("urlopen", "_make_request", "_get_conn", "_put_conn", "_new_conn")
_SESSION_METHODS, _ADAPTER_METHODS = frozenset(_OF_SESSION), frozenset(_OF_ADAPTER)
_methods_of_session = operator.attrgetter(*_OF_SESSION)
_methods_of_adapter = operator.attrgetter(*_OF_ADAPTER)
_methods_of_pool = operator.attrgetter(*_OF_POOL)

# By name, as they stand above this module.
_SESSIONS = frozenset({"iointerrupt.http.Session", "requests.sessions.Session"})
_ADAPTER = "iointerrupt.http.Adapter"


def answer(
    session: requests.Session,
    url: str,
    headers: Mapping[str, str],
    *,
    stop: StopEvent | None = None,
    timeout: float | None = None,
) -> LeanAnswer | None:
    """Ask for `url`, and wait for the head of the answer.

    Args:
        session: what to ask with. Its own timeout and retries are not used.
        url: what to ask for.
        headers: of this request, in addition to the session's or in their place. The coding asked for is always identity.
        stop: what ends the request and the reading of the body, besides the session's stop and the current one.
        timeout: seconds, more than 0, for connecting and for each wait after it; None for no limit. The wait for a place
            of a pool with `pool_block` has none, as in requests.

    Returns:
        The answer, which must be closed; or None where requests has to ask, since it is not a plain case. The server may
        have seen the request then.

    Raises:
        Interrupted: a stop was set.
        ValueError, TypeError: the timeout cannot be one.
        requests.exceptions.RequestException: as `session.get`: ConnectTimeout, ReadTimeout, SSLError, ConnectionError.
    """
    if timeout is not None:
        check_wait(timeout)
    place = _place(url)
    if place is None:
        return None
    name, target, url = place
    records: dict[str, _Record] = vars(session).setdefault("_iointerrupt_lean", {})
    record = records.get(name)
    if record is None:
        for other, known in list(records.items()):
            if known.is_stale():
                records.pop(other, None)
        if len(records) >= _MOST_ORIGINS:
            records.clear()
        record = records.setdefault(name, _Record())
    origin = record.origin(session, url)
    pool = None if origin is None else origin.pool()
    if origin is None or pool is None:
        return None
    request = origin.request(target, headers)
    if request is None:
        return None
    made = origin.ask(pool, request, url, stop=stop, timeout=timeout)
    record.note(usual=made is not None)
    return made


class _Record:
    """What is known of a session and an origin: the decision and how its answers were of late."""

    __slots__ = ("_decision", "_odd", "_rests_until")

    def __init__(self) -> None:
        self._decision: tuple[tuple[object, ...], float, Origin | None] = ((), -math.inf, None)
        self._odd = 0
        self._rests_until = -math.inf

    def origin(self, session: requests.Session, url: str) -> Origin | None:
        """The decision, made anew where it does not hold any more; None to leave the request to requests."""
        now = time.monotonic()
        if now < self._rests_until:
            return None
        seen, until, origin = self._decision
        current = _seen(session)
        if now >= until or seen != current or (origin is not None and origin.pool() is None):
            origin = Origin.of(session, url)
            self._decision = current, now + _GOOD_FOR, origin
        return origin

    def is_stale(self) -> bool:
        """Whether the pool is gone, so that all has to be decided anew."""
        origin = self._decision[2]
        return origin is not None and origin.pool() is None

    def note(self, *, usual: bool) -> None:
        """Learn how the answer was."""
        if usual:
            self._odd = 0
        elif self._odd + 1 < _MOST_ODD:
            self._odd += 1
        else:
            self._rests_until = time.monotonic() + _RESTS_FOR


class Origin:
    """What requests and urllib3 have decided for the requests of a session to one scheme, host and port.

    Args:
        pool: where their connections come from.
        prepared: one of the requests, as requests has prepared it.
        fields: those that are sent with it: each as a line, by their names in lower case.
    """

    def __init__(self, pool: HTTPConnectionPool, prepared: requests.PreparedRequest, fields: dict[str, str]) -> None:
        # Weakly: the adapter's manager has it, until the session is closed or needs the room for other hosts.
        self._pool = weakref.ref(pool)
        self._prepared = prepared
        self._fields = fields
        self._sent = "".join(fields.values())

    @classmethod
    def of(cls, session: requests.Session, url: str) -> Origin | None:
        """Decide; None where requests has to do that for each request."""
        if not _is_standard(session):
            return None
        try:
            adapter: Any = session.get_adapter(url)
            if _name(type(adapter)) != _ADAPTER or not _is_untouched(adapter, _OF_ADAPTER):
                return None
            prepared = session.prepare_request(requests.Request("GET", url, headers={"Accept-Encoding": "identity"}))
            settings = session.merge_environment_settings(url, {}, True, None, None)
            verify, cert = settings["verify"], settings["cert"]
            if any(prepared.hooks.values()) or requests.utils.select_proxy(url, settings["proxies"]):
                return None
            pool = adapter.get_connection_with_tls_context(prepared, verify, proxies=settings["proxies"], cert=cert)
            if type(pool) not in (HTTPConnectionPool, HTTPSConnectionPool) or not _is_untouched(pool, _OF_POOL):
                return None
            adapter.cert_verify(pool, url, verify, cert)
            fields = _fields_sent(pool, prepared)
        except (requests.RequestException, HTTPError, ValueError, OSError):
            return None  # requests says what is wrong
        return None if fields is None else cls(pool, prepared, fields)

    def pool(self) -> HTTPConnectionPool | None:
        """The pool, if it is still there and open; else there has to be another decision."""
        pool = self._pool()
        return None if pool is None or pool.pool is None else pool

    def request(self, target: str, headers: Mapping[str, str]) -> bytes | None:
        """The request for a target with these headers; None where they make it another than a plain one."""
        fields, sent = self._fields, self._sent
        if headers:
            given: Mapping[str, Any] = headers  # requests takes None and bytes as well
            own: dict[str, str] = {}
            for name, value in given.items():
                field, key = f"{name}: {value}", name.lower()
                if key == "accept-encoding" and value == "identity":
                    continue
                if not isinstance(value, str) or not _SENT_FIELD.fullmatch(field) or key in own or key in _UNUSUAL:
                    return None
                # Which of the two authorizations counts is for requests to know.
                if key == "accept-encoding" or (key == "authorization" and key in fields):
                    return None
                own[key] = f"{field}\r\n"
            if not own.keys().isdisjoint(fields):
                sent = "".join(field for key, field in fields.items() if key not in own)
            sent += "".join(own.values())
        return f"GET {target} HTTP/1.1\r\n{sent}\r\n".encode("latin-1")

    def ask(
        self, pool: HTTPConnectionPool, request: bytes, url: str, *, stop: StopEvent | None, timeout: float | None
    ) -> LeanAnswer | None:
        """Send the request and wait for the head of the answer; see `answer`. None for an unusual one."""
        try:
            connection = self._connection(pool, stop)
        except ClosedPoolError as error:
            fail(error, pool, self._request_of(url), timeout)
        try:
            made = exchange(pool, connection, request, url, timeout)
        except BaseException as error:
            connection.close()
            pool._put_conn(None)
            if isinstance(error, (OSError, HTTPError, http.client.HTTPException, CertificateError)):
                fail(error, pool, self._request_of(url), timeout)
            raise
        if made is None:
            connection.close()
            pool._put_conn(None)
        return made

    def _request_of(self, url: str) -> requests.PreparedRequest:
        request = self._prepared.copy()
        request.url = url
        return request

    def _connection(self, pool: HTTPConnectionPool, stop: StopEvent | None) -> StoppableConnection:
        own = pool.shared.stop
        if stop is not None and own is not stop:
            own = stop if own is None else StopEvent(own, stop)
        check(own)
        try:
            # The wait for a place sees the pool's stop and the current one only.
            connection: StoppableConnection = pool._get_conn() if stop is None else Under()(stop, pool._get_conn)
        except BaseException:
            pool._put_conn(None)  # as urllib3 does: see `idle`
            raise
        connection.bind(own)
        return connection


def _place(url: str) -> tuple[str, str, str] | None:
    """Origin, target and the whole of a URL, as requests would have it; None if it is not one of the usual form."""
    plain = _PLAIN.fullmatch(url)
    if plain is not None:
        return plain[1], plain[2], url
    prepared = requests.PreparedRequest()
    try:
        prepared.prepare_url(url, None)
    except (requests.RequestException, HTTPError, ValueError):
        return None  # requests says what is wrong
    whole = prepared.url or ""
    found = _PREPARED.fullmatch(whole.partition("#")[0])
    return None if found is None else (found[1], found[2], whole)


def _seen(session: requests.Session) -> tuple[object, ...]:
    """What the decision for a session depends on, to be compared with what it is at another time."""
    auth: Any = session.auth
    if isinstance(auth, requests.auth.HTTPBasicAuth):
        auth = type(auth), auth.username, auth.password
    return (
        _methods_of_session(requests.Session),
        _methods_of_session(type(session)),
        _SESSION_METHODS.isdisjoint(vars(session)),
        _methods_of_adapter(requests.adapters.HTTPAdapter),
        [(prefix, adapter, *_replaceable(adapter)) for prefix, adapter in session.adapters.items()],
        _methods_of_pool(urllib3.HTTPSConnectionPool),
        _methods_of_pool(HTTPSConnectionPool),
        tuple(session.headers.items()),
        tuple(session.proxies.items()),
        auth,
        session.verify,
        session.cert,
        session.trust_env,
        bool(session.params),
        any(session.hooks.values()),
        any(True for _ in session.cookies),
    )


def _replaceable(adapter: Any) -> tuple[object, ...]:
    kind = type(adapter)
    if not issubclass(kind, requests.adapters.HTTPAdapter):
        return ()  # whatever its methods are, they are not the standard ones
    return _methods_of_adapter(kind), _ADAPTER_METHODS.isdisjoint(vars(adapter))


def _is_standard(session: requests.Session) -> bool:
    """Whether the session's requests are plain, as far as that is its own doing."""
    auth = session.auth
    return (
        _name(type(session)) in _SESSIONS
        and _is_untouched(session, _OF_SESSION)
        and not session.params
        and not any(session.hooks.values())
        and not any(True for _ in session.cookies)
        and (not auth or type(auth) in (tuple, requests.auth.HTTPBasicAuth))
    )


def _name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _is_untouched(owner: object, names: tuple[str, ...]) -> bool:
    """Whether these methods are those that the object's classes were written with."""
    kinds = [vars(kind) for kind in type(owner).__mro__]
    written = {getattr(kind.get("__init__"), "__code__", None) for kind in kinds}
    files = {code.co_filename for code in written if code is not None}
    return vars(owner).keys().isdisjoint(names) and all(
        isinstance(kind[name], types.FunctionType) and kind[name].__code__.co_filename in files
        for kind in kinds
        for name in names
        if name in kind
    )


def _fields_sent(pool: HTTPConnectionPool, prepared: requests.PreparedRequest) -> dict[str, str] | None:
    """The fields that urllib3 and http.client send with a request: each as a line, by their names in lower case."""
    connection: Any = pool.ConnectionCls(host=pool.host, port=pool.port)
    connection.sock = written = _Written()
    connection.request("GET", "/", headers=prepared.headers)
    connection.sock = None
    lines = written.octets.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")[1:]
    fields = {line.partition(":")[0].lower(): f"{line}\r\n" for line in lines if _SENT_FIELD.fullmatch(line)}
    return fields if len(fields) == len(lines) else None


class _Written:
    """Stands where a connection has its socket, and keeps what would be sent."""

    def __init__(self) -> None:
        self.octets = b""

    def sendall(self, octets: bytes) -> None:
        self.octets += octets

    def settimeout(self, seconds: float | None) -> None:
        pass
