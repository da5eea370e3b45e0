"""`Response`: a `requests.Response` that takes a body which is wanted as a whole in few reads.

That of requests reads 10 KiB at a time and joins them in the end. So most of the time that a large body takes goes into the
pieces; and urllib3, asked for as many bytes as there are, has the C code of `io` fill one object.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import requests

from iointerrupt._errors import Interrupted
from iointerrupt._http.body import Stops
from iointerrupt._http.direct import is_from_network

# Memory for all of a piece is asked for before it comes, so no server decides how much that is.
_LARGEST_PIECE = 1 << 26
# Where there is no length, or a coding to undo. Few bytes may become very many, which no read of the socket interrupts: the
# stop is looked at after each.
_USUAL_PIECE = 1 << 18


class Response(requests.Response):
    """What a session of ours returns. A pickled one is one of requests, for those who do not have this library."""

    @property
    def content(self) -> bytes:
        """The whole body, read at the first use; see `requests.Response.content`.

        Raises:
            Interrupted: a stop was set. The response is closed, and what had come of the body is gone.
            requests.exceptions.RequestException, RuntimeError: as in requests.
        """
        kept: Any = self._content  # requests keeps to itself whether it was read, and what; False is for not yet
        if kept is False and not self._content_consumed and is_from_network(self.raw):  # type: ignore[attr-defined]  # as above
            self._content = b"".join(self._pieces())
        return super().content

    def _pieces(self) -> Iterator[bytes]:
        raw = self.raw
        left = None if raw.chunked or raw.headers.get("Content-Encoding") else raw.length_remaining
        stops = Stops(self, None)
        for piece in self.iter_content(_USUAL_PIECE if left is None else max(1, min(left, _LARGEST_PIECE))):
            yield piece
            if left is None:
                try:
                    stops.check()
                except Interrupted:
                    self.close()
                    raise

    def __reduce__(self) -> tuple[Any, ...]:
        return requests.Response, (), self.__getstate__()


def with_whole_reads(response: requests.Response) -> requests.Response:
    """The same response as a `Response`: requests makes its own where it makes one."""
    if type(response) is requests.Response:
        response.__class__ = Response
    return response
