"""Where redirects lead, and what goes along: what speaks for the user is for the server that he has named.

requests follows each redirect by itself, from the one before: what it has left out for another host it may add again at the next
one, from the session's cookies or `.netrc`. `Chain` remembers the first request, and that the way has led elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import requests
import requests.cookies

from iointerrupt.downloads._errors import RedirectRefused
from iointerrupt.downloads._options import check_url

#: As in browsers and in requests.
_MOST = 30

# Headers that speak for whoever sends them: `X-Api-Key`, `PRIVATE-TOKEN`, `X-Auth-Token`, ...
_SECRET = re.compile(r"auth|token|key|secret|passw|credential|cookie|session", re.IGNORECASE)


def is_elsewhere(session: requests.Session, url: str, other: str) -> bool:
    """Whether what speaks for the user at `url` is not meant for `other`: another host, another port, or http after https."""
    return bool(session.should_strip_auth(url, other))  # type: ignore[no-untyped-call]  # the stubs' omission


def without_secrets(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that speak for nobody."""
    return {name: value for name, value in headers.items() if not _SECRET.search(name)}


class Chain:
    """From one request to the next that its answer leads to.

    Args:
        session: what asks.
        first: what was asked for first, with all that goes along.
        headers: those of the user in it.
        url: of it, as the user has given it.
    """

    def __init__(
        self, session: requests.Session, first: requests.PreparedRequest, headers: Mapping[str, str], url: str
    ) -> None:
        self._session = session
        self._url = url
        self._secrets = {name: value for name, value in first.headers.items() if _SECRET.search(name)}
        self._cookie = {name: value for name, value in headers.items() if name.lower() == "cookie"}
        self._has_left = False  # for good: who is elsewhere has chosen where it leads from there
        self._count = 0

    def follow(self, asked: requests.PreparedRequest, following: requests.PreparedRequest) -> requests.PreparedRequest:
        """`following` as requests has made it of an answer to `asked`, with what is to go along.

        Raises:
            RedirectRefused: it leads nowhere.
        """
        self._count += 1
        if self._count > _MOST:
            raise RedirectRefused(
                f"{self._url} leads from one redirect to the next, more than {_MOST} times", url=self._url
            )
        try:
            check_url(following.url)
        except (TypeError, ValueError):
            raise RedirectRefused(
                f"{self._url} leads to {following.url!r}, which is no URL of http or https", url=self._url
            ) from None
        # It is for a proxy, which urllib3 gives it to; without one, or with one of SOCKS, the server itself would get it.
        following.headers.pop("Proxy-Authorization", None)
        self._has_left = self._has_left or is_elsewhere(self._session, str(asked.url), str(following.url))
        if self._has_left:
            self._take_off(following)
        else:
            for name, value in self._cookie.items():  # which requests takes off, to make it anew from its own cookies
                following.headers.setdefault(name, value)
        return following

    def _take_off(self, following: requests.PreparedRequest) -> None:
        # By the value: `.netrc` may have something else for the other host, which is meant for it.
        for name, value in self._secrets.items():
            if following.headers.get(name) == value:
                del following.headers[name]
        # A cookie that is of no host in particular goes to all of them, with requests; but who has set it meant the first one.
        following.headers.pop("Cookie", None)
        of_hosts = requests.cookies.RequestsCookieJar()
        for cookie in self._session.cookies:
            if cookie.domain:
                of_hosts.set_cookie(cookie)
        following.prepare_cookies(of_hosts)
