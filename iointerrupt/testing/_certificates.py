"""The certificates of `FaultServer(tls=True)`: an authority and a certificate for the loopback, made once per process."""

from __future__ import annotations

import ssl
from typing import NamedTuple


class Credentials(NamedTuple):
    """What a server needs, and what its clients do."""

    context: ssl.SSLContext
    ca_pem: str


# Under its only key. There is no lock: two threads may both make some, and go on with those that came first.
_made: dict[str, Credentials] = {}


def credentials() -> Credentials:
    """Those of this process.

    Raises:
        ImportError: trustme is not installed.
    """
    if not _made:
        _made.setdefault("credentials", _make())
    return _made["credentials"]


def _make() -> Credentials:
    try:
        import trustme  # noqa: PLC0415 - optional
    except ImportError as error:
        raise ImportError(
            "FaultServer(tls=True) makes its certificate with trustme, which is not installed:"
            " pip install 'iointerrupt[testing]', or pass an ssl.SSLContext of your own as tls="
        ) from error
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return Credentials(context, authority.cert_pem.bytes().decode())
