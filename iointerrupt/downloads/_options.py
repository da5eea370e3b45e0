"""What a download is asked for (`Options`) and what it tells (`Progress`, `State`, `Totals`, `Downloaded`): plain values, checked at the door."""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from iointerrupt._callables import check_callable
from iointerrupt._errors import DownloadError
from iointerrupt._stop import check_timeout
from iointerrupt.downloads._errors import without_credentials

if TYPE_CHECKING:
    from iointerrupt.downloads._shapes import Changes


class Loggable:
    """What is shown as a dataclass is, without the users and passwords of the URLs in it: it ends up in logs."""

    __slots__ = ()

    def __repr__(self) -> str:
        own: Any = self  # which is a dataclass
        shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(own) if each.repr)
        return without_credentials(f"{type(self).__name__}({', '.join(shown)})")


class State(StrEnum):
    """Where a download is."""

    QUEUED = "queued"
    RUNNING = "running"
    #: Before another try.
    WAITING = "waiting"
    PAUSED = "paused"
    #: All is there, and its checksum is being looked at.
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, repr=False)
class Progress(Loggable):
    """How far a download is, at one moment.

    Attributes:
        url: what is being fetched.
        path: the file that it becomes; None where that is not known yet, or where there is none.
        done: bytes that are there, those of earlier runs included. It goes back where a try has to begin anew.
        total: bytes that there will be; None where the server does not say.
        resumed_from: bytes that were there already.
        speed: bytes a second, over the last few seconds.
        elapsed: seconds since it began.
        state: see `State`.
        attempt: 1 for the first try, and one more for each further one.
        error: what the last try has failed of; None since the next one has brought something.
    """

    url: str
    path: str | None
    done: int = 0
    total: int | None = None
    resumed_from: int = 0
    speed: float = 0.0
    elapsed: float = 0.0
    state: State = State.QUEUED
    attempt: int = 1
    error: DownloadError | None = None

    @property
    def eta(self) -> float | None:
        """The seconds that are left, if it goes on like this; None where that cannot be told."""
        if self.total is None or not self.speed:
            return None
        return max(0, self.total - self.done) / self.speed

    @property
    def fraction(self) -> float | None:
        """How much of it is there, from 0 to 1; None where the size is not known."""
        if self.total is None:
            return None
        return min(1.0, self.done / self.total) if self.total else 1.0


@dataclass(frozen=True, slots=True)
class Totals:
    """How far all downloads of a manager are, at one moment.

    Attributes:
        done: bytes that are there.
        total: bytes that there will be; None as long as the size of one is not known.
        speed: bytes a second.
        queued, running, paused, completed, failed, stopped: how many downloads are so.
    """

    done: int = 0
    total: int | None = 0
    speed: float = 0.0
    queued: int = 0
    running: int = 0
    paused: int = 0
    completed: int = 0
    failed: int = 0
    stopped: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Downloaded(Loggable):
    """A download that is done.

    Attributes:
        path: the file; None for one that was written to a stream.
        size: its bytes.
        resumed_from: how many of them were there from an earlier run.
        elapsed: seconds that this run took.
        checksum: what was verified, as "ALGORITHM:HEX"; None where none was asked for.
        url: where it came from, after redirects.
        unchanged: whether the file was there already and the server has no other (`update`).
    """

    path: str | None
    size: int
    resumed_from: int
    elapsed: float
    checksum: str | None
    url: str
    unchanged: bool = False


@dataclass(frozen=True, kw_only=True, repr=False)
class Options(Loggable):
    """How to download. Each is an argument of `download` and of `DownloadManager.submit` as well.

    Attributes:
        checksum: what the file has to be: "ALGORITHM:HEX" (md5, sha1, sha2, sha3, blake2), or the URL or the path of a list
            such as `SHA256SUMS` that names it. It is taken of the file on the disk, before that gets its name.
        resume: go on from what an earlier run has left, where that is certain to fit; else throw it away.
        overwrite: replace a file that is there.
        update: fetch a file that is there only if the server has another by now (`If-None-Match`, `If-Modified-Since`).
        segments: over how many connections to fetch one file, where the server gives ranges.
        retries: how many further tries there may be in a row that get nowhere.
        backoff: seconds before the second try, twice as many before each further one, at most 60, with jitter.
        retry_after_max: seconds up to which a server's `Retry-After` is obeyed.
        timeout: seconds without a byte after which a try is given up, in each of its phases; None for no limit.
        deadline: seconds for all of it; `DeadlineExceeded` when they are over. None for no limit.
        min_speed: bytes a second below which a try is given up, on the average of `min_speed_time` seconds.
        min_speed_time: see there.
        max_rate: bytes a second that it may take; None for no limit.
        max_size: bytes; a file that is larger is refused, as soon as that is known.
        mirrors: further URLs of the same file, for when the first one fails. Only with a `checksum` does one go on with
            what came from another.
        headers: further headers of the requests. Those that carry credentials go to the URL's own host alone: not to where it
            redirects, to a mirror or to a list of checksums on another one.
        preallocate: reserve the file's room on the disk at the beginning.

    Raises:
        TypeError, ValueError: one of them cannot be what it is.
    """

    checksum: str | None = None
    resume: bool = True
    overwrite: bool = False
    update: bool = False
    segments: int = 1
    retries: int = 5
    backoff: float = 0.5
    retry_after_max: float = 300.0
    timeout: float | None = 30.0
    deadline: float | None = None
    min_speed: float | None = None
    min_speed_time: float = 10.0
    max_rate: float | None = None
    max_size: int | None = None
    mirrors: Sequence[str] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # there may be a password in it
    preallocate: bool = False

    def __post_init__(self) -> None:
        for name in ("resume", "overwrite", "update", "preallocate"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} must be a bool, not {type(getattr(self, name)).__name__}")
        self._check_amounts()
        if self.checksum is not None:
            from iointerrupt.downloads._checksums import parse  # noqa: PLC0415 - most downloads need it not

            parse(self.checksum)
        if isinstance(self.mirrors, str):
            raise TypeError("mirrors must be a sequence of URLs, not one str")
        if not isinstance(self.mirrors, Iterable):
            raise TypeError(f"mirrors must be a sequence of URLs, not {type(self.mirrors).__name__}")
        if not isinstance(self.headers, Mapping):
            raise TypeError(f"headers must be a mapping of str to str, not {type(self.headers).__name__}")
        # Of their own, as what has been checked here may not change any more; and an iterator is at its end then.
        object.__setattr__(self, "mirrors", tuple(self.mirrors))
        object.__setattr__(self, "headers", dict(self.headers))
        for url in self.mirrors:
            check_url(url)
        for header in self.headers.items():
            _check_header(*header)

    def _check_amounts(self) -> None:
        whole("segments", self.segments, least=1)
        whole("retries", self.retries, least=0)
        if self.max_size is not None:
            whole("max_size", self.max_size, least=0)
        _amount("backoff", self.backoff, zero=True)
        _amount("retry_after_max", self.retry_after_max, zero=True)
        _amount("min_speed_time", self.min_speed_time)
        for name in ("timeout", "deadline"):
            if getattr(self, name) is not None:
                _amount(name, getattr(self, name))
                if check_timeout(getattr(self, name), name) == math.inf:
                    object.__setattr__(self, name, None)  # which is how sockets are told that
        for name in ("min_speed", "max_rate"):
            if getattr(self, name) is not None:
                _amount(name, getattr(self, name))
        if self.min_speed and self.max_rate and self.max_rate < self.min_speed:
            raise ValueError(f"max_rate ({self.max_rate:g}) is below min_speed ({self.min_speed:g})")

    def but(self, changes: Changes) -> Options:
        """The same with some of them replaced.

        Raises:
            TypeError, ValueError: there is no such option, or it cannot be that.
        """
        names = [each.name for each in fields(self)]
        unknown = sorted(changes.keys() - set(names))
        if unknown:
            raise TypeError(f"there is no option {', '.join(unknown)}; there are {', '.join(names)}")
        return replace(self, **changes)


def check_options(options: Any) -> Options:
    """`options`, or the usual ones for None.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(options, Options | None):
        raise TypeError(f"options must be an Options or None, not {type(options).__name__}")
    return Options() if options is None else options


def check_progress(progress: Any) -> None:
    """Refuse what cannot be told of progress.

    Raises:
        TypeError: it is neither None nor can it be called, or it would have to be awaited.
    """
    if progress is not None:
        check_callable("progress", progress)


def check_url(url: Any) -> str:
    """Refuse what is no http or https URL; return its scheme, host and port, which is left out where it is the usual one.

    Raises:
        TypeError: it is not a str.
        ValueError: it has another scheme, or none, or no host.
    """
    if not isinstance(url, str):
        raise TypeError(f"a URL must be a str, not {type(url).__name__}")
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            host = parts.netloc.rpartition("@")[2].lower()
            return f"{parts.scheme}://{host.removesuffix(_USUAL_PORTS[parts.scheme]).removesuffix(':')}"
    except ValueError:  # of a port that is no number, and of brackets
        pass
    shown = without_credentials(repr(url))
    raise ValueError(f"not a URL that can be downloaded: {shown}; accepted are http://HOST/... and https://HOST/...")


_USUAL_PORTS = {"http": ":80", "https": ":443"}

# What a download asks for by itself.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"(?![ \t])[^\x00-\x08\x0a-\x1f\x7f\u0100-\U0010ffff]*")
_OWN_HEADERS = frozenset({"range", "if-range", "if-none-match", "if-modified-since", "accept-encoding"})


def _check_header(name: Any, value: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"the name of a header must be a str, not {type(name).__name__}")
    # What the value is may be a password, and what is said here ends up in logs.
    if not isinstance(value, str):
        raise TypeError(f"the header {name!r} must be a str, not {type(value).__name__}")
    if name.lower() in _OWN_HEADERS:
        raise ValueError(f"the header {name} is set by the download itself")
    if not _TOKEN.fullmatch(name):
        raise ValueError(
            f"{name!r} is no header: a name has letters, digits and some signs, but neither blanks nor colons"
        )
    if not _VALUE.fullmatch(value):
        raise ValueError(
            f"the header {name} is no header: its value must be Latin-1 in one line, and not begin with a blank"
        )


def whole(name: str, value: Any, *, least: int) -> int:
    """`value`, if it is a whole number of at least `least`; else an error that names it."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be {least} or more, not {value}")
    return value


def check_priority(priority: Any) -> None:
    """Refuse what has no place in an order.

    Raises:
        TypeError, ValueError: it is no number.
    """
    if isinstance(priority, bool) or not isinstance(priority, numbers.Real):
        raise TypeError(f"priority must be a number, not {type(priority).__name__}")
    if math.isnan(priority):
        raise ValueError("priority must be a number, not nan")


def _amount(name: str, value: Any, *, zero: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if math.isnan(value) or value < 0 or not (zero or value):
        raise ValueError(f"{name} must be {'0 or more' if zero else 'more than 0'}, not {value}")
