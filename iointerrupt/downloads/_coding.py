"""`Decoder`: undoes a content coding of a body that was packed although nobody had asked for that (RFC 9110, 8.4).

Not urllib3's, which does not tell a body that has been cut off from one that is complete, and unpacks all that it is given at
once, however much that becomes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

from iointerrupt._wait import check

# What zlib is told of the format: that of gzip(1), that of zlib, and none.
_GZIP, _ZLIB, _RAW = 31, 15, -15

_FIRST_OF_GZIP = b"\x1f"

# Bytes to unpack at a time.
_PIECE = 1 << 18

#: What can be undone.
CODINGS = frozenset({"gzip", "x-gzip", "deflate"})


class Decoder:
    """Reads what is packed.

    Args:
        read: returns the next bytes of what it is packed in, and none at its end.
        coding: one of `CODINGS`.
    """

    def __init__(self, read: Callable[[], bytes], coding: str) -> None:
        self._read = read
        self._is_gzip = coding != "deflate"
        self._stream = zlib.decompressobj(_GZIP if self._is_gzip else _ZLIB)
        self._has_begun = self._is_padding = False
        self._rest = b""  # has been read, and is still packed
        self._first = b""  # a byte that came alone at the beginning, which does not say yet how it goes on

    def read(self) -> bytes:
        """The next bytes, a piece at most; none at the end.

        Raises:
            EOFError: what it is packed in ended before it did.
            zlib.error: it is not of this coding.
            Interrupted: the current stop is set: what is packed may be long, and unpack to nothing.
        """
        while True:
            check(None)
            data = self._rest or self._read()
            decoded = self._decode(data)
            if decoded:
                return decoded
            if not data:
                break
        if self._has_begun and not self._stream.eof:
            raise EOFError("the packed data ended too early")
        return b""

    def _decode(self, data: bytes) -> bytes:
        if not self._has_begun and not self._is_gzip:
            is_more, data, self._first = bool(data), self._first + data, b""
            if is_more and len(data) == 1:
                self._first, self._rest = data, b""
                return b""
        if data and not self._has_begun:
            self._begin(data)
        if self._stream.eof:
            # gzip(1) allows several members, which begin with a certain byte. What is behind the last one is padding.
            self._is_padding = self._is_padding or not (self._is_gzip and data.startswith(_FIRST_OF_GZIP))
            if self._is_padding:
                self._rest = b""
                return b""
            self._stream = zlib.decompressobj(_GZIP)
        decoded = self._stream.decompress(data, _PIECE)
        self._rest = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        return decoded

    def _begin(self, data: bytes) -> None:
        self._has_begun = True
        if not self._is_gzip:
            try:
                zlib.decompressobj(_ZLIB).decompress(data, 1)
            except zlib.error:  # many servers leave the frame out (RFC 9110, 8.4.1.2)
                self._stream = zlib.decompressobj(_RAW)
