"""TLS contexts for `http`: made when the first https connection needs one, then shared by all that trust the same.

Reading a CA bundle takes 10 to 30 ms, and urllib3 does it for each connection. Here the process keeps one context for
each set of settings (`Trust`); it is complete before a second thread sees it, and nothing is loaded into it afterwards,
since OpenSSL allows neither while another thread makes a connection from it.

Owner: the cache below, for contexts made here. A context that the user made stays his; see `adopt`.
"""

from __future__ import annotations

import functools
import os
import ssl
from typing import Any, NamedTuple

from urllib3.exceptions import SSLError
from urllib3.util.ssl_ import create_urllib3_context, resolve_cert_reqs, resolve_ssl_version

from iointerrupt.sockets import SSLSocket


class Trust(NamedTuple):
    """Whom to trust, and how: what urllib3 makes a context from. The fields are named and typed as its arguments are."""

    cert_reqs: int | str | None = None
    ca_certs: str | None = None
    ca_cert_dir: str | None = None
    ca_cert_data: str | bytes | None = None
    ssl_version: int | str | None = None
    ssl_minimum_version: int | None = None
    ssl_maximum_version: int | None = None
    #: Whether OpenSSL checks the name; urllib3 turns that off in the context where it compares something else itself.
    check_hostname: bool = True

    def context(self) -> ssl.SSLContext:
        """The context of the process for these settings; made anew when the CA file has changed since."""
        return _shared(self, _version_of(self.ca_certs))

    def new_context(self) -> ssl.SSLContext:
        """A context that nobody else has: for a client certificate, which urllib3 loads into it.

        Raises:
            urllib3.exceptions.SSLError: the CA file or folder cannot be read.
        """
        context = create_urllib3_context(
            ssl_version=resolve_ssl_version(self.ssl_version),
            ssl_minimum_version=self.ssl_minimum_version,
            ssl_maximum_version=self.ssl_maximum_version,
            cert_reqs=resolve_cert_reqs(self.cert_reqs),
        )
        if self.ca_certs or self.ca_cert_dir or self.ca_cert_data:
            try:
                context.load_verify_locations(self.ca_certs, self.ca_cert_dir, self.ca_cert_data)
            except OSError as error:
                raise SSLError(error) from error
        else:
            context.load_default_certs()
        context.sslsocket_class = SSLSocket
        # urllib3 sets the protocols again for each connection, which frees the list that another thread may just be
        # copying. They are set once instead; and only to the one that these connections speak, even where
        # urllib3.http2 was switched on for the others.
        context.set_alpn_protocols(["http/1.1"])
        vars(context)["set_alpn_protocols"] = _already_set
        return context


def adopt(context: ssl.SSLContext) -> ssl.SSLContext:
    """Have a user's context make sockets that a stop can interrupt.

    This sets its `sslsocket_class`, a public hook of `ssl`; what it makes for others are `ssl.SSLSocket`s as before.

    Raises:
        TypeError: it makes sockets of a third class already.
    """
    made: Any = context.sslsocket_class
    if made is ssl.SSLSocket:
        context.sslsocket_class = SSLSocket
    elif made is None or not issubclass(made, SSLSocket):
        raise TypeError(f"the TLS context makes {made!r}, which a stop cannot interrupt: derive it from {SSLSocket!r}")
    return context


@functools.lru_cache(maxsize=64)
def _shared(trust: Trust, version: object) -> ssl.SSLContext:  # noqa: ARG001 - the version is part of the cache's key
    return trust.new_context()


def _version_of(path: str | None) -> tuple[int, ...] | None:
    # Certificates are rotated under long-lived processes. A folder needs none of this: OpenSSL looks into it each time.
    if path is None:
        return None
    try:
        found = os.stat(path)
    except OSError:
        return None  # whoever reads it says what is wrong with it
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _already_set(protocols: list[str]) -> None:
    pass
