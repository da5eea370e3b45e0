"""`Feed`: what stands between a buffered object of the `io` module and its raw file, so that an interruption costs no byte.

The buffers of `io` are C code that throws away what a `read(n)`, `readline` or `readinto` has taken when the raw file
raises in the middle of it. When the raw file says None instead ("nothing at the moment"), they return what they had. So a
feed says None where the raw file raises `Interrupted` or `TimeoutError`, and keeps the exception; the buffered classes
(`_streams.buffered`) find it there after the C method has returned, put the bytes into it, and raise it.

Who owns what: a feed belongs to one buffered object, and refers to its raw file; the raw file refers back weakly, in
`_mirrors`. `errors` is kept by thread, since a second thread may be inside before the first has picked its own up. Every
step is one atomic operation on a dict or an attribute, so there is no lock.

A raw file need not be one of ours. What it may offer beyond `io.RawIOBase`:

- `stop`: the stop that its operations obey, which is then the stop of all layers over it;
- `_mirrors`: a set of the feeds to keep informed, so that the two attributes that every call looks at, `stop` and
  `closed`, are plain ones; without it they are asked for at each call. Who changes `stop` sets `calm` to False;
- `_write_now(data)`: write what can be written without waiting, whatever the stops say; returns the count, or None if
  that is nothing. It is what `close` does with the rest when it is interrupted.
- `_never_blocks`: true where no other thread can be kept waiting, as with regular files; it then also offers
  `_readinto_now(buffer)`, which looks at no stop.
"""

from __future__ import annotations

import functools
import itertools
import operator
import weakref
from collections.abc import MutableSet
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol, SupportsIndex, cast

from iointerrupt._errors import Interrupted, Stalled
from iointerrupt._signal.latch import Latch
from iointerrupt._stop import StopEvent, as_stop, ever_current
from iointerrupt._types import StopLike

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# One step of a read to the end of something whose size nobody knows; as much as a pipe holds.
_STEP = 1 << 16


class Mirrored(Protocol):
    """A raw file that keeps the `stop` and `closed` of its feeds up to date."""

    _mirrors: MutableSet[Feed]


def moved(error: BaseException) -> int:
    """How many bytes the operation had moved that ended with this error."""
    if isinstance(error, Interrupted):
        return error.transferred or 0
    return len(error.partial) if isinstance(error, Stalled) else 0


def with_taken(error: Interrupted | TimeoutError, taken: Any) -> Interrupted | TimeoutError:
    """The error to raise for a read that had taken these bytes (or this text), so that they are in its `partial`."""
    if isinstance(error, Interrupted):
        error.transferred = len(taken or ())  # None is what C returns where there was nothing at all
        error.partial = taken or None
        return error
    if not taken:
        # What the raw file counts in a `Stalled` of its own need not be this caller's: it may have been the buffer.
        return TimeoutError(str(error)) if isinstance(error, Stalled) else error
    stalled = Stalled(f"timed out after {len(taken)}", taken)
    stalled.__cause__ = error
    return stalled


def cannot_pickle(self: object, protocol: SupportsIndex, /) -> Any:
    """The `__reduce_ex__` of file objects, which nobody can pickle but a subclass that has its own way.

    What they inherit would, by an old protocol, first make another file over this one, and close this one with that.
    """
    kinds = itertools.takewhile(lambda kind: "__reduce_ex__" not in vars(kind), type(self).__mro__)
    if any("__getstate__" in vars(kind) or "__reduce__" in vars(kind) for kind in kinds):
        return object.__reduce_ex__(self, protocol)
    raise TypeError(f"cannot pickle {type(self).__name__!r} object")


class Feed:
    """The raw file of a buffered object, as its C code sees it. Use `feed_for` to make one."""

    __slots__ = (
        "__weakref__",
        "buffer_size",
        "calm",
        "closing",
        "direct",
        "errors",
        "inside",
        "left",
        "may_block",
        "raw",
        "regardless",
        "spill",
        "unwritten",
        "written",
    )

    stop: Any
    closed: Any

    def __init__(self, raw: Any, buffer_size: int) -> None:
        self.raw = raw
        self.buffer_size = buffer_size
        self.may_block = not getattr(raw, "_never_blocks", False)
        self.calm = False  # nothing that a read would have to look at has changed, see `settle`
        self.inside: int | None = None  # the thread that may be blocked in the raw file
        self.errors: dict[int, Interrupted | TimeoutError] = {}
        self.regardless = False  # the raw file is one that does not block, and is to look at no stop
        self.closing = False  # the buffered object is being closed: what a stop prevents is tried once more
        self.direct = False  # what is written now is a caller's data, not the buffer
        self.left: int | None = None  # of such a write that failed, how many bytes had not been taken
        self.unwritten = b""  # of a close that failed, what was still in the buffer
        self.written = False  # since the last read of the raw file: the buffer may hold bytes for it
        self.spill: list[
            bytes
        ] = []  # text that a write took although the raw file did not, see `_streams.buffered.Writing`

    def bind(self, stop: StopLike) -> None:
        """Give the raw file another stop."""
        self.raw.stop = as_stop(stop)

    def let_go(self) -> Any:
        """The raw file, which the buffered object gives up."""
        return self.raw

    def settle(self) -> None:
        """Be `calm`, if this feed is one that hears of whatever would end that."""

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        me = get_ident()
        if me in self.errors:  # from the last turn of this same call: the C code goes on after a short read
            return None
        self.written = False
        if self.regardless:
            return cast("int", self.raw._readinto_now(buffer))
        if self.may_block:
            self.inside = me
        try:
            return cast("int | None", self.raw.readinto(buffer))
        except (Interrupted, TimeoutError) as error:
            self.errors[me] = error
            self.calm = False
            return moved(error) or None
        finally:
            self.inside = None

    def readall(self) -> bytes | None:
        if not self.may_block:
            try:
                # Of what has a size, all in one piece, into memory that is allocated once.
                return cast("bytes", self.raw.readall())
            except (Interrupted, TimeoutError) as error:
                self.errors[get_ident()] = error
                self.calm = False
                return cast("bytes | None", getattr(error, "partial", None))
        parts = []
        while True:
            step = bytearray(_STEP)
            count = self.readinto(step)
            if not count:
                break
            parts.append(bytes(step[:count]))
        if count is None and not parts and not self.errors:
            return None  # a foreign raw file that is non-blocking and has nothing
        return b"".join(parts)

    def write(self, data: memoryview) -> int | None:
        me = get_ident()
        if self.regardless:
            return cast("int", self.raw._write_now(data))
        error: BaseException | None = self.errors.pop(me, None)
        if error is None:
            if self.may_block:
                self.inside = me
            try:
                return cast("int | None", self.raw.write(data))
            except (Interrupted, TimeoutError) as caught:
                error = caught
            finally:
                self.inside = None
            count = moved(error)
            if count:
                self.errors[me] = error  # the C code goes on after a short write, and finds it above
                return count
        if self.closing:
            write_now = getattr(self.raw, "_write_now", None)
            written: int | None = write_now(data) if write_now is not None else None
            if written:
                return written
        if self.direct:
            self.left = len(data)
        elif self.closing:
            self.unwritten = bytes(data)
        try:
            raise error
        finally:
            del error  # its traceback refers to this frame

    # What else the C code asks of a raw file.

    @property
    def name(self) -> Any:
        return self.raw.name

    @property
    def mode(self) -> Any:
        return self.raw.mode

    def readable(self) -> Any:
        return self.raw.readable()

    def writable(self) -> Any:
        return self.raw.writable()

    def seekable(self) -> Any:
        return self.raw.seekable()

    def isatty(self) -> Any:
        return self.raw.isatty()

    def fileno(self) -> Any:
        return self.raw.fileno()

    def seek(self, *position: int) -> Any:
        return self.raw.seek(*position)

    def tell(self) -> Any:
        return self.raw.tell()

    def truncate(self, *size: int | None) -> Any:
        return self.raw.truncate(*size)

    def flush(self) -> Any:
        return self.raw.flush()

    def close(self) -> Any:
        return self.raw.close()

    def _dealloc_warn(self, source: object) -> None:
        # The C classes have their raw file warn when they are collected without having been closed.
        warn = getattr(self.raw, "_dealloc_warn", None)
        if warn is not None:
            warn(source)


class _MirroredFeed(Feed):
    """The feed of a raw file that keeps it informed."""

    __slots__ = ("_heard", "closed", "stop")

    def __init__(self, raw: Any, buffer_size: int) -> None:
        super().__init__(raw, buffer_size)
        self.stop = raw.stop
        self.closed = raw.closed
        self._heard: list[Latch] = []  # the latches that would tell this feed of their firing
        raw._mirrors.add(self)

    def let_go(self) -> Any:
        self.raw._mirrors.discard(self)
        return self.raw

    def settle(self) -> None:
        own: StopEvent | None = self.stop
        if self.may_block or (own is not None and own._must_ask):
            return
        latches = [ever_current] if own is None else [ever_current, own._latch]
        self.calm = True  # before the latches are asked, of which each may end it at once
        for latch in latches:
            if latch in self._heard:
                self.calm = self.calm and not latch.fired
            else:
                # Weakly, and forgotten with the feed: a stop may outlive many files.
                ref = weakref.ref(self, latch.remove_waker)
                latch.add_waker(ref, functools.partial(_disturb, ref))
        self._heard = latches


def _disturb(ref: weakref.ref[_MirroredFeed]) -> None:
    feed = ref()
    if feed is not None:
        feed.calm = False


class _AskingFeed(Feed):
    """The feed of a raw file that knows of stops but not of feeds."""

    __slots__ = ()

    stop = property(operator.attrgetter("raw.stop"))
    closed = property(operator.attrgetter("raw.closed"))


class _ForeignFeed(Feed):
    """The feed of a raw file that knows of no stop; the buffered object's is asked around its calls."""

    __slots__ = ("stop",)

    closed = property(operator.attrgetter("raw.closed"))

    def __init__(self, raw: Any, buffer_size: int) -> None:
        super().__init__(raw, buffer_size)
        self.stop: StopEvent | None = None

    def bind(self, stop: StopLike) -> None:
        self.stop = as_stop(stop)


def feed_for(raw: Any, buffer_size: int) -> Feed:
    """A feed that fits the raw file."""
    if hasattr(raw, "_mirrors"):
        return _MirroredFeed(raw, buffer_size)
    if hasattr(type(raw), "stop"):
        return _AskingFeed(raw, buffer_size)
    return _ForeignFeed(raw, buffer_size)
