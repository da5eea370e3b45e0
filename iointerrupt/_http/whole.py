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
_USUAL_PIECE = 1 << 18
# Where a coding is undone, few bytes may become very many, which no read of the socket interrupts: the stop is looked at after each
# piece. And old versions of urllib3 copy what they have decoded and not handed out, for each.
_DECODED_PIECE = 1 << 14


class Response(requests.Response):
    """What an `Adapter` returns. A pickled one is one of requests, for those who do not have this library."""

    @property
    def content(self) -> bytes:
        """The whole body, read at the first use; see `requests.Response.content`.

        Raises:
            Interrupted: a stop was set. The response is closed, and what had come of the body is gone.
            requests.exceptions.RequestException: as in requests.
            RuntimeError: the body has been consumed: in pieces, or by a first use that has failed.
        """
        own: dict[str, Any] = vars(self)  # requests keeps to itself whether it was read, and what; False is for not yet
        kept = own["_content"]
        if kept is False and not own["_content_consumed"] and is_from_network(self.raw):
            try:
                own["_content"] = b"".join(self._pieces())
            except BaseException as error:
                # Else what is left of a closed body, nothing, would be taken for all of it at the next use.
                own["_content_consumed"] = True
                if isinstance(error, Interrupted):
                    error.transferred = error.partial = None  # of one piece of it
                raise
        elif kept is False:
            Stops(self, None).check()
        return super().content

    def _pieces(self) -> Iterator[bytes]:
        raw = self.raw
        decodes = bool(raw.headers.get("Content-Encoding"))
        size = _DECODED_PIECE if decodes else _USUAL_PIECE
        if not decodes and not raw.chunked and raw.length_remaining:
            size = min(raw.length_remaining, _LARGEST_PIECE)
        stops = Stops(self, None)
        for piece in self.iter_content(size):
            yield piece
            if decodes:
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
