"""What the options accept, and what is said of anything else: sizes, seconds, URLs, addresses, headers."""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import urlsplit

import click

from iointerrupt._cli.amounts import parse_size

# RFC 9110, 5.1 and 5.5.
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
#: Headers by which a download asks for what is missing; another value would be an answer that does not fit.
_OURS = {"range", "if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}


class Value(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since click 8.4
    """A value of which `read` makes something, or a ValueError that says what is accepted."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """What `read` makes of it; called by click."""
        if not isinstance(value, str):
            return value
        try:
            return self.read(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def read(self, text: str) -> Any:
        """The value of a text."""
        raise NotImplementedError


class Size(Value):
    """A number of bytes."""

    name = "size"

    def read(self, text: str) -> int:
        """Bytes."""
        try:
            return parse_size(text)
        except ValueError as error:
            raise ValueError(f"{error}; accepted are bytes, as in 500k, 2M, 1.5G or 64KiB (1k is 1024)") from None


class Seconds(Value):
    """A number of seconds, or 0 for no limit."""

    name = "seconds"

    def read(self, text: str) -> float | None:
        """Seconds, None for 0."""
        try:
            seconds = float(text)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds < math.inf:
            raise ValueError(
                f"{text!r} is no number of seconds; accepted are numbers such as 30 and 0.5, and 0 for no limit"
            )
        return seconds or None


class Url(Value):
    """A URL that can be downloaded."""

    name = "url"

    def read(self, text: str) -> str:
        """The URL as it is."""
        return check_url(text)


class Proxy(Value):
    """The URL of a proxy."""

    name = "url"

    def read(self, text: str) -> str:
        """The URL as it is."""
        return check_url(text, ("http", "https", "socks4", "socks4a", "socks5", "socks5h"))


class Scheduler(Value):
    """The scheduler of a Dask cluster, or `local` for one that is made."""

    name = "address"

    def read(self, text: str) -> str:
        """The address as it is."""
        if text != "local" and not re.fullmatch(r"(?:(?:tcp|tls)://)?(?:[^/@\s\[\]:]+|\[[0-9a-fA-F:.]+\]):\d+/?", text):
            raise ValueError(f"{text!r} is no address of a scheduler; accepted are tcp://HOST:PORT and local")
        return text


class Header(Value):
    """A line of a request's head."""

    name = "header"

    def read(self, text: str) -> tuple[str, str]:
        """Its name and its value."""
        found = _HEADER.fullmatch(text)
        if found is None:
            # What follows may be a password, and what is said here ends up in logs.
            beginning = re.split(r"[\s:=]", text.lstrip(), maxsplit=1)[0]
            raise ValueError(f"what begins with {beginning!r} is no header; accepted is 'NAME: VALUE' in one line")
        name, value = found.group(1), found.group(2).rstrip()
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            raise ValueError(f"the value of {name} has characters that no header can have") from None
        if name.lower() in _OURS:
            raise ValueError(f"{name} is what the download itself has to say")
        return name, value


class User(Value):
    """A name and a password."""

    name = "user"

    def read(self, text: str) -> tuple[str, str]:
        """Both."""
        name, colon, password = text.partition(":")
        if not colon:
            raise ValueError("accepted is NAME:PASSWORD; the password may be empty, or stand in ~/.netrc instead")
        return name, password


def check_url(url: str, schemes: tuple[str, ...] = ("http", "https")) -> str:
    """The URL, if it is one that these schemes accept.

    Raises:
        ValueError: it has another scheme or none, no host, or characters that no URL has.
    """
    accepted = f"accepted are {', '.join(f'{scheme}://HOST...' for scheme in schemes)}"
    if re.search(r"[\x00-\x20\x7f]", url):
        raise ValueError(f"{_shown(url)} has a space or a control character in it; {accepted}")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        reason = "" if "@" in str(error) else f" ({error})"  # it may quote the password
        raise ValueError(f"{_shown(url)} is no URL{reason}; {accepted}") from None
    if "://" not in url:
        raise ValueError(f"{_shown(url)} has no scheme; {accepted}")
    if parts.scheme not in schemes:
        raise ValueError(f"{_shown(url)} has the scheme {parts.scheme!r}; {accepted}")
    if not host:
        raise ValueError(f"{_shown(url)} has no host; {accepted}")
    return url


def _shown(url: str) -> str:
    from iointerrupt.downloads._errors import without_credentials  # noqa: PLC0415 - what is right need not be shown

    return without_credentials(repr(url))
