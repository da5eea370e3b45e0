"""What may become of a download that does not succeed: one class for each thing that a program may want to tell apart.

    DownloadError
    ├── BadStatus            the server refuses
    ├── ConnectionFailed     the server cannot be reached, or the connection broke
    ├── TimedOut             nothing came for too long; a TimeoutError as well
    ├── TooSlow              too little came for too long
    ├── ShortBody            the body ended before its length
    ├── LongBody             the body goes on behind its length
    ├── WrongRange           another part of the file than was asked for
    ├── FileChanged          the file kept changing on the server
    ├── RedirectRefused      a redirect in a circle, or to something that is not http
    ├── BadEncoding          a content coding that cannot be undone
    ├── DecompressionBomb    a small body that unpacks to a huge one
    ├── TooLarge             more than `max_size`
    ├── ChecksumMismatch     not the file that was asked for
    ├── ChecksumNotFound     no checksum for this file where one was to be looked up
    ├── DiskFull             no room for it
    ├── WriteFailed          the place for it cannot be written
    ├── DestinationExists    something is in its place already
    └── DestinationBusy      another download is at it

A stop is none of these: it raises `Interrupted`, and the total time limit `DeadlineExceeded`.

What they say ends up in logs, so the credentials of the URLs in it are left out (`without_credentials`). Their `url` is as
it was given.
"""

from __future__ import annotations

import re

from iointerrupt._errors import DownloadError

# A user and a password, or a token, before the host of a URL: up to the last @ before the path, as urllib.parse has it.
_CREDENTIALS = re.compile(r"(?<=://)[^/?#]*@")


def without_credentials(text: str) -> str:
    """A text, with the users and passwords of the URLs in it replaced."""
    return _CREDENTIALS.sub("***@", text)


class _Failure(DownloadError):
    # What all of them have in common.

    def __init__(self, message: str, *, url: str | None = None) -> None:
        super().__init__(without_credentials(message), url=url)


class _PlaceFailure(_Failure):
    # What those have in common that the place for the file is to blame for.

    def __init__(self, message: str, *, url: str | None = None, path: str | None = None) -> None:
        super().__init__(message, url=url)
        self.path = path


class BadStatus(_Failure):
    """The server answered with a status that is no success.

    Attributes:
        status: the status code.
        retry_after: for how many seconds the server wants to be left alone; None where it does not say.
    """

    def __init__(self, message: str, *, url: str | None = None, status: int, retry_after: float | None = None) -> None:
        super().__init__(message, url=url)
        self.status = status
        self.retry_after = retry_after


class ConnectionFailed(_Failure):
    """The name was not found, nobody answered, the certificate is not trusted, or the connection broke; see `__cause__`."""


class TimedOut(_Failure, TimeoutError):
    """No byte came for `timeout` seconds."""


class TooSlow(_Failure):
    """The transfer stayed below `min_speed`."""


class ShortBody(_Failure):
    """The body ended before the length that the server had given. What came of it is kept."""


class LongBody(_Failure):
    """The body goes on behind the length that the server had given, or that the file has."""


class WrongRange(_Failure):
    """The server sent another part of the file than was asked for, or does not say which. Nothing of it was written."""


class FileChanged(_Failure):
    """The file kept changing on the server, so that its parts never fitted together."""


class RedirectRefused(_Failure):
    """A redirect led back to where it came from, or to something that is neither http nor https."""


class BadEncoding(_Failure):
    """The body has a content coding that was not asked for and cannot be undone."""


class DecompressionBomb(_Failure):
    """The server sent a packed body, and it unpacks to a multiple of itself that looks like an attack."""


class TooLarge(_Failure):
    """The file is larger than `max_size`."""


class ChecksumMismatch(_Failure):
    """The file that came is not the one that was asked for. It was thrown away, as it cannot be mended.

    Attributes:
        expected: the checksum that was asked for, as "ALGORITHM:HEX".
        actual: that of what came.
    """

    def __init__(self, message: str, *, url: str | None = None, expected: str, actual: str) -> None:
        super().__init__(message, url=url)
        self.expected = expected
        self.actual = actual


class ChecksumNotFound(_Failure):
    """The list of checksums cannot be had, or does not name the file."""


class DiskFull(_PlaceFailure):
    """There is no room for the file: on the disk, in a quota, or below the limit for one file. What came is kept.

    Attributes:
        path: that of the file that cannot grow, such as NAME.part; None for a stream.
    """


class WriteFailed(_PlaceFailure):
    """The place for the file cannot be written; see `__cause__`.

    Attributes:
        path: what cannot be written; None for a stream.
    """


class DestinationExists(_PlaceFailure):
    """Something is in the file's place already.

    Attributes:
        path: the place.
    """


class DestinationBusy(_PlaceFailure):
    """Another download, of this process or another, is at this file.

    Attributes:
        path: that of the part, NAME.part.
    """
