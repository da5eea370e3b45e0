"""Giving back: what a read took from a file whose await had ended by then, for the next read to get.

How depends on where the file keeps what comes next:

- a stream's raw file has a place for bytes that come before all others, and its text one for characters;
- a file that can seek is put back by as much as was taken. For text no number says how much that is: so from time to time
  the position is noted, and the characters since then are counted, to be read once more.

All of it runs in the file's thread, between two operations, where nothing else touches the file. Whatever goes wrong here
makes the file unusable, rather than have it go on as if nothing had been.
"""

from __future__ import annotations

import io
from functools import partial
from threading import get_ident
from typing import Any, Final

from iointerrupt._errors import Interrupted
from iointerrupt._files.raw import StreamFile
from iointerrupt._stop import StopEvent, use_stop
from iointerrupt._streams.text import SeekableText, StreamText

#: The methods whose result is bytes (or text) that the file will not give again.
READS: Final = frozenset({"read", "read1", "readall", "readinto", "readinto1", "readline", "readlines"})

# A note of a text's position is taken again after this many characters.
_CHARACTERS: Final = 1 << 16


def taken_by(name: str, arguments: tuple[Any, ...], value: Any, error: BaseException | None) -> Any:
    """The bytes (or text) that the read `name(*arguments)` took from its file, as it returned or raised."""
    if name not in READS:
        return b""
    if name in {"readinto", "readinto1"}:
        count = error.transferred if isinstance(error, Interrupted) else value
        return bytes(memoryview(arguments[0]).cast("B")[: count or 0]) or getattr(error, "partial", None) or b""
    if error is not None:
        return getattr(error, "partial", None) or b""
    if name == "readlines" and value:
        return value[0][:0].join(value)
    return value or b""


class Position:
    """Where a file stands that can seek: the base of the other kinds, which are given by `position_of`.

    Attributes:
        follows: whether each operation is to be told of, by `before` and `after`.
    """

    follows = False

    def __init__(self, file: Any) -> None:
        self._file = file

    def before(self, name: str) -> None:
        """The operation `name` begins."""

    def after(self, name: str, taken: Any) -> None:
        """It has ended."""

    def give_back(self, taken: Any) -> None:
        """Have the next read begin with `taken`, which the last one took.

        Raises:
            OSError, ValueError: it cannot be done.
        """
        self._file.seek(-len(taken), io.SEEK_CUR)


class _OfSeekableText(Position):
    follows = True

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self._noted: int | None = None
        self._since = 0

    def before(self, name: str) -> None:
        if name not in READS:
            self._noted = None
        elif self._noted is None or self._since >= _CHARACTERS:
            try:
                self._noted, self._since = self._file.tell(), 0
            except (OSError, ValueError):  # the read itself says what is wrong
                pass

    def after(self, name: str, taken: Any) -> None:  # noqa: ARG002 - of all reads alike
        self._since += len(taken)

    def give_back(self, taken: Any) -> None:
        if self._noted is None:
            raise ValueError("the position before the read is not known")
        self._since -= len(taken)
        feed = self._file._text_feed
        feed.closing = True  # so that the flush which is part of a seek looks at no stop
        try:
            io.TextIOWrapper.seek(self._file, self._noted)
            left = self._since
            while left and (again := io.TextIOWrapper.read(self._file, min(left, _CHARACTERS))):
                left -= len(again)
        finally:
            feed.closing = False
        if left:
            raise ValueError("the file has become shorter")


class _OfStreamText(Position):
    def give_back(self, taken: Any) -> None:
        file = self._file
        file._ahead = taken + file._ahead[file._at :]
        file._at = 0


class _OfStream(Position):
    def give_back(self, taken: Any) -> None:
        file = self._file
        raw, ahead = file, b""
        if not isinstance(file, StreamFile):
            raw = file.raw
            with use_stop(_set):  # so that the raw file is not asked for more than is buffered
                ahead = io.BufferedReader.peek(file)
                file._feed.errors.pop(get_ident(), None)
                if ahead:
                    io.BufferedReader.read(file, len(ahead))
        raw._first = taken + ahead + raw._first


def position_of(file: Any) -> Position:
    """The kind that fits a file of `files.open`."""
    if isinstance(file, SeekableText):
        return _OfSeekableText(file)
    if isinstance(file, StreamText):
        return _OfStreamText(file)
    return _OfStream(file) if isinstance(getattr(file, "raw", file), StreamFile) else Position(file)


def call_at(position: Position, name: str, function: partial[Any]) -> Any:
    """Call a method of the file, with its position followed."""
    position.before(name)
    value, error = None, None
    try:
        value = function()
        return value
    except BaseException as raised:
        error = raised
        raise
    finally:
        position.after(name, taken_by(name, function.args, value, error))
        del error


_set: Final = StopEvent()
_set.set()
