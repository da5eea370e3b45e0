"""Text over the buffered classes: `io.TextIOWrapper`, with the one difference that an interruption loses nothing.

`TextIOWrapper` is C code that loses what it has decoded, or has yet to write, when its buffer raises in the middle. So a
`_TextFeed` stands between the two:

- Writing: the buffer takes all that comes from text, whatever happens (`_streams.buffered.Writing`), and the feed remembers what
  it raised. A write that has begun has therefore taken all of its text, and `Interrupted.transferred` is its length; it
  is 0 where the stop was there before.
- Reading a regular file (`SeekableText`): nothing there waits for long, so the C code is kept from any stop, and reads
  portions of at most `_PORTION` characters, with a check between them. `tell` and `seek` are the C code's.
- Reading anything else (`StreamText`) is done here, over `read1` and the incremental decoder: a character of which half
  has come stays in the decoder over a stop. Such a stream cannot seek.

What an interrupted read had taken is in `partial`, as text, and the next read goes on after it. A text object serves one
thread at a time, as the standard one does.
"""

from __future__ import annotations

import codecs
import io
import operator
import re
from collections.abc import Iterable
from threading import get_ident
from typing import TYPE_CHECKING, Any, Final

from iointerrupt._errors import Interrupted
from iointerrupt._stop import StopEvent, _current, as_stop
from iointerrupt._streams.feed import cannot_pickle, moved, with_taken
from iointerrupt._wait import check

if TYPE_CHECKING:
    from iointerrupt._types import StopLike

#: Characters that are read from a regular file between two checks.
_PORTION: Final = 1 << 20

#: Bytes that are asked of a stream at a time; it gives what there is.
_STEP: Final = 1 << 16

_ANY_LINE_END: Final = re.compile(r"\r\n|\n|\r")

_get_current = _current.get
_c_read = io.TextIOWrapper.read
_c_readline = io.TextIOWrapper.readline


class _ForeignSource:
    """What stands for the `_streams.feed.Feed` of a buffer that is not ours: it knows the stop, and whether it is closed."""

    __slots__ = ("buffer", "stop")

    closed = property(operator.attrgetter("buffer.closed"))

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer
        self.stop: StopEvent | None = None

    def bind(self, stop: StopLike) -> None:
        self.stop = as_stop(stop)


class _NoSource:
    """What stands there until a text object has been made, so that one which could not be is not closed either."""

    stop = None

    @property
    def closed(self) -> bool:
        raise ValueError("I/O operation on uninitialized object")


class _TextFeed:
    """The buffer of a text object, as its C code sees it."""

    __slots__ = ("buffer", "closing", "errors", "foreign", "kept", "source", "streams")

    def __init__(self, buffer: Any, *, streams: bool) -> None:
        self.buffer = buffer
        self.foreign = not hasattr(buffer, "_source")
        self.source = _ForeignSource(buffer) if self.foreign else buffer._source()
        self.kept = not getattr(self.source, "may_block", True)  # from any stop while the C code reads
        self.streams = streams
        self.errors: dict[int, Interrupted | TimeoutError] = {}
        self.closing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.buffer, name)

    def seekable(self) -> bool:
        return not self.streams and bool(self.buffer.seekable())

    def read1(self, size: int = -1, /) -> bytes:
        buffer = self.buffer
        data: bytes = (
            buffer._regardless(buffer._c_read1, size) if self.kept else getattr(buffer, "read1", buffer.read)(size)
        )
        return data

    def read(self, size: int = -1, /) -> bytes:
        buffer = self.buffer
        data: bytes = buffer._regardless(buffer._c_read, size) if self.kept else buffer.read(size)
        return data

    def write(self, data: bytes, /) -> int:
        if self.foreign:
            count: int = self.buffer.write(data)
            return count
        try:
            self.buffer._absorb(data)
        except (Interrupted, TimeoutError) as error:
            self.errors[get_ident()] = error
        return len(data)

    def flush(self) -> None:
        if not self.closing:  # the buffer's own close flushes, in another way
            self.buffer.flush()


class TextFile(io.TextIOWrapper):
    """What the two kinds of text have in common: the stop, and writing."""

    __slots__ = ("_source", "_text_feed")

    _streams = False

    def __init__(  # noqa: PLR0917 - the standard class's own
        self,
        buffer: Any,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        line_buffering: bool = False,  # noqa: FBT001, FBT002 - the standard class's own
        write_through: bool = False,  # noqa: FBT001, FBT002 - as above
    ) -> None:
        self._source: Any = _NoSource()
        self._text_feed = _TextFeed(buffer, streams=self._streams)
        super().__init__(self._text_feed, encoding, errors, newline, line_buffering, write_through)
        self._source = (
            self._text_feed.source
        )  # not before: without it, what has failed is not closed when it is collected

    @property
    def stop(self) -> StopEvent | None:
        """The own stop of this object and of all that is under it."""
        own: StopEvent | None = self._source.stop
        return own

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        if self._text_feed.foreign:
            self._source.bind(stop)
        else:
            self._text_feed.buffer.stop = stop

    @property
    def buffer(self) -> Any:
        """The binary object under this one."""
        return self._text_feed.buffer

    __reduce_ex__ = cannot_pickle

    closed: bool = property(operator.attrgetter("_source.closed"))  # type: ignore[assignment]  # a property to checkers too

    def readlines(self, hint: int | None = -1, /) -> list[str]:  # type: ignore[override]  # as io.TextIOBase has it
        """All lines, or as many as it takes to reach `hint` characters; `partial` is those before the stop, joined."""
        lines: list[str] = []
        wanted = hint if hint is not None and hint > 0 else None
        try:
            for line in self:
                lines.append(line)
                if wanted is not None:
                    wanted -= len(line)
                    if wanted <= 0:
                        break
        except (Interrupted, TimeoutError) as error:
            raise with_taken(error, "".join([*lines, getattr(error, "partial", None) or ""]))  # noqa: B904 - the same error
        return lines

    def write(self, text: str, /) -> int:
        """Take all of `text`.

        Raises:
            Interrupted: `transferred` characters of `text` have been taken: all, or none if the stop was there before.
            TimeoutError: all has been taken, and a later flush goes on with it.
        """
        own = self._source.stop
        if (own is not None and (own._latch.fired or own._must_ask)) or _get_current() is not None:
            try:
                check(own)
            except Interrupted as error:
                error.transferred = 0
                raise
        try:
            count = super().write(text)
        except Interrupted as error:
            error.transferred = len(text)
            raise
        if self._text_feed.errors:
            failed = self._text_feed.errors.pop(get_ident(), None)
            if isinstance(failed, Interrupted):
                failed.transferred, failed.partial = len(text), None
            if failed is not None:
                raise failed
        return count

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override]  # as io.TextIOBase has it
        """Write each of `lines`; `transferred` counts the characters of all of them that were taken."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        done = 0
        for line in lines:
            try:
                done += self.write(line)
            except Interrupted as error:
                error.transferred = done + moved(error)
                raise

    def flush(self) -> None:
        """Write what has been taken; what a stop keeps from being written stays, and another flush goes on with it."""
        feed = self._text_feed
        if not feed.closing:
            check(feed.source.stop)
        try:
            super().flush()
        finally:
            feed.errors.pop(get_ident(), None)

    def detach(self) -> Any:
        super().detach()  # type: ignore[no-untyped-call, unused-ignore]
        return self._text_feed.buffer

    def close(self) -> None:
        """Flush and close, as `BufferedWriter.close` does; what could not be written is in `partial`, encoded."""
        feed = self._text_feed
        feed.closing = True
        try:
            super().close()
        finally:
            feed.closing = False
            feed.errors.pop(get_ident(), None)


class SeekableText(TextFile):
    """Text of a regular file, or text that is only written."""

    __slots__ = ("_line_end",)

    def __init__(
        self,
        buffer: Any,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *more: bool,
        **options: bool,
    ) -> None:
        super().__init__(buffer, encoding, errors, newline, *more, **options)
        self._line_end = "\n" if newline is None else newline

    def read(self, size: int | None = -1, /) -> str:
        """Read `size` characters, all if it is negative or None; what had been read before a stop is in `partial`."""
        own = self._source.stop
        check(own)
        left = -1 if size is None else operator.index(size)
        parts: list[str] = []
        while True:
            wanted = _PORTION if left < 0 else min(left, _PORTION)
            part = _c_read(self, wanted)
            left -= len(part) if left > 0 else 0
            if len(part) < wanted or left == 0:
                return "".join([*parts, part]) if parts else part
            parts.append(part)
            try:
                check(own)
            except Interrupted as error:
                raise with_taken(error, "".join(parts))  # noqa: B904 - the same error

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]  # positional, as in the C class
        """Read to the end of the line, at most `size` characters; what had been read before a stop is in `partial`.

        With `newline=""` a line is read in one go, however long.
        """
        own = self._source.stop
        if (own is not None and (own._latch.fired or own._must_ask)) or _get_current() is not None:
            check(own)
        if self._line_end and (size < 0 or size > _PORTION):
            line = _c_readline(self, _PORTION)
            return line if len(line) < _PORTION else self._read_long_line(line, size)
        return _c_readline(self, size)

    def reconfigure(self, **options: Any) -> None:
        super().reconfigure(**options)
        if "newline" in options:
            newline = options["newline"]
            self._line_end = "\n" if newline is None else newline

    def _read_long_line(self, line: str, size: int) -> str:
        parts = [line]
        left = size - len(line) if size >= 0 else -1
        tail = line[-2:]  # a line end may be cut in two
        while left and not tail.endswith(self._line_end):
            try:
                check(self._source.stop)
            except Interrupted as error:
                raise with_taken(error, "".join(parts))  # noqa: B904 - the same error
            half = len(self._line_end) == 2 and tail[-1] == self._line_end[0]
            wanted = 1 if half else _PORTION
            part = _c_readline(self, wanted if left < 0 else min(left, wanted))
            if not part:
                break
            parts.append(part)
            left -= len(part) if left > 0 else 0
            tail = (tail + part)[-2:]
        return "".join(parts)


class StreamText(TextFile):
    """Text of a pipe, a terminal or a socket: what may keep a read waiting."""

    __slots__ = ("_ahead", "_at", "_decoder", "_newline", "_unhanded")

    _streams = True

    def __init__(
        self,
        buffer: Any,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        *more: bool,
        **options: bool,
    ) -> None:
        super().__init__(buffer, encoding, errors, newline, *more, **options)
        self._newline = newline
        self._decoder: Any = None
        self._ahead = ""  # decoded, of which the first _at characters have been read
        self._at = 0
        self._unhanded = False  # written text may still be with the C code

    @property
    def newlines(self) -> Any:  # type: ignore[override]  # read-only in the C class too
        return getattr(self._decoder, "newlines", None)

    def read(self, size: int | None = -1, /) -> str:
        """Read `size` characters, all if it is negative or None; what had been read before a stop is in `partial`."""
        self._begin()
        left = -1 if size is None else operator.index(size)
        parts: list[str] = []
        try:
            while True:
                part = self._take(len(self._ahead) if left < 0 else self._at + left)
                parts.append(part)
                left -= len(part) if left > 0 else 0
                if left == 0 or not self._read_ahead():
                    parts.append(self._take(len(self._ahead) if left < 0 else self._at + left))
                    return "".join(parts)
        except (Interrupted, TimeoutError) as error:
            raise with_taken(error, "".join(parts))  # noqa: B904 - the same error

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]  # positional, as in the C class
        """Read to the end of the line, at most `size` characters; what had been read before a stop is in `partial`."""
        self._begin()
        left = operator.index(size)
        parts: list[str] = []
        try:
            while True:
                end = self._find_line_end()
                if left >= 0 and len(self._ahead) - self._at >= left and not 0 <= end <= self._at + left:
                    end = self._at + left
                if end >= 0:
                    line = self._take(end)
                    return "".join([*parts, line]) if parts else line
                # Half of a line end may be the last of it.
                half = self._newline == "\r\n" and self._ahead.endswith("\r", self._at)
                part = self._take(len(self._ahead) - half)
                parts.append(part)
                left -= len(part) if left > 0 else 0
                if not self._read_ahead():
                    parts.append(self._take(len(self._ahead)))
                    return "".join(parts)
        except (Interrupted, TimeoutError) as error:
            raise with_taken(error, "".join([*parts, self._take(len(self._ahead))]))  # noqa: B904 - the same error

    def write(self, text: str, /) -> int:
        self._unhanded = True
        return super().write(text)

    def reconfigure(self, *, newline: Any = ..., **options: Any) -> None:
        """Change settings, as `io.TextIOWrapper.reconfigure`; those of decoding only before anything has been read."""
        if newline is not ...:
            options["newline"] = newline
        decodes = not options.keys().isdisjoint({"encoding", "errors", "newline"})
        if decodes and self._decoder is not None:
            raise io.UnsupportedOperation(
                "It is not possible to set the encoding or newline of stream after the first read"
            )
        super().reconfigure(**options)
        if newline is not ...:
            self._newline = newline

    def _begin(self) -> None:
        feed = self._text_feed
        check(feed.source.stop)
        if self._decoder is None:
            self._decoder = self._make_decoder()
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if self._unhanded:
            # The standard class passes on what was written before it reads, and does not flush the buffer.
            feed.closing = True
            try:
                super().flush()
            finally:
                feed.closing = False
                feed.errors.pop(get_ident(), None)
            self._unhanded = False

    def _make_decoder(self) -> Any:
        decoder: Any = codecs.getincrementaldecoder(self.encoding)(self.errors or "strict")
        if not self._newline:
            decoder = io.IncrementalNewlineDecoder(decoder, translate=self._newline is None)
        return decoder

    def _read_ahead(self) -> bool:
        # More characters, after those that are ahead; False at the end, when those are all.
        data = self._text_feed.buffer.read1(_STEP)
        text = self._decoder.decode(data, not data)
        self._ahead = self._ahead[self._at :] + text
        self._at = 0
        return bool(data)

    def _take(self, end: int) -> str:
        text = self._ahead[self._at : end]
        self._at += len(text)
        return text

    def _find_line_end(self) -> int:
        # The index behind the next line end that is ahead; -1 if there is none.
        if self._newline == "":
            found = _ANY_LINE_END.search(self._ahead, self._at)
            return found.end() if found else -1
        mark = self._newline or "\n"
        start = self._ahead.find(mark, self._at)
        return start + len(mark) if start >= 0 else -1


def open_text(
    buffer: Any,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    *,
    line_buffering: bool = False,
    write_through: bool = False,
) -> SeekableText | StreamText:
    """Text over one of the classes of `_streams.buffered`; arguments as for `io.TextIOWrapper`."""
    raw = getattr(buffer, "raw", None)
    streams = buffer.readable() and not getattr(raw, "_never_blocks", False)
    kind = StreamText if streams else SeekableText
    return kind(buffer, encoding, errors, newline, line_buffering, write_through)
