"""`Response`: a `requests.Response` that takes a body which is wanted as a whole in one read.

That of requests reads 10 KiB at a time and joins them in the end. So most of the time that a large body takes goes into
the pieces; and urllib3, asked for all of it, has the C code of `io` fill one object.
"""

from __future__ import annotations

from typing import Any

import requests

from iointerrupt._http.direct import is_from_network


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
            self._content = b"".join(self.iter_content(None))
        return super().content

    def __reduce__(self) -> tuple[Any, ...]:
        return requests.Response, (), self.__getstate__()


def with_whole_reads(response: requests.Response) -> requests.Response:
    """The same response as a `Response`: requests makes its own where it makes one."""
    if type(response) is requests.Response:
        response.__class__ = Response
    return response
