"""`WrappedFile`: somebody else's binary file object as a raw file whose waits a stop ends.

There are two ways in, and which one it is depends on whether a descriptor tells when there is something to read:

- of `io.FileIO`, the buffered classes of `io` over one, and `socket.makefile` over a plain socket it does: poll says
  when, and then one `read1` of the object takes it, so that what the object had buffered comes first;
- of anything else it does not (a `gzip.GzipFile` has a descriptor, and data of its own as well): each call runs in a
  helper thread. One that a stop has left behind goes on. What a read returns then is what the next read of the same
  object gets, through this wrapper or another; a write counts as taken, and the next operation waits for it.

A wrapper serves one thread at a time. Its lock is held for the length of an operation, and is only ever tried.
"""

from __future__ import annotations

import errno
import functools
import io
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NoReturn

from iointerrupt._callables import is_async
from iointerrupt._errors import Interrupted, ResourceBusy
from iointerrupt._files.raw import CHUNK_SIZE, RawFile, RegularFile, StoppableFile, StreamFile, is_stream
from iointerrupt._files.system import STREAMS_CAN_WAIT
from iointerrupt._signal import guard
from iointerrupt._signal.blocked import Blocked
from iointerrupt._signal.latch import Parker
from iointerrupt._signal.threads import own_thread
from iointerrupt._stop import StopEvent
from iointerrupt._streams.feed import with_taken
from iointerrupt._wait import READ, check, park, stops, wait_ready

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer
_STEP: Final = 1 << 16


class WrappedFile(RawFile, io.RawIOBase):
    """What both ways in have in common.

    Args:
        file: a binary file object.
        stop: the own stop.
        timeout: seconds that one wait may take; None for no limit.
        chunk_size: how many bytes one read or write of the object moves at most.
        closes: whether `close` closes the object.
        exact: for a wrapper that is not kept: it never reads more than is asked for, and does not flush the object at its
            end. What the object had buffered before is then delivered only as its descriptor becomes ready.
    """

    _surplus: bytes  # read from the object, and not yet asked for

    def __init__(
        self,
        file: Any,
        *,
        stop: StopEvent | None,
        timeout: float | None,
        chunk_size: int,
        closes: bool = True,
        exact: bool = False,
    ) -> None:
        self._begin(stop, timeout, chunk_size)
        self._lock = threading.Lock()
        self._closes = closes
        self._exact = exact
        self._file = file

    @property
    def name(self) -> Any:
        return self._file.name

    @property
    def mode(self) -> Any:
        return self._file.mode

    def fileno(self) -> int:
        number: int = self._file.fileno()
        return number

    def isatty(self) -> bool:
        isatty = getattr(self._file, "isatty", None)
        return isatty is not None and bool(isatty())

    def readable(self) -> bool:
        readable = getattr(self._file, "readable", None)
        return bool(readable()) if readable is not None else hasattr(self._file, "read")

    def writable(self) -> bool:
        writable = getattr(self._file, "writable", None)
        return bool(writable()) if writable is not None else hasattr(self._file, "write")

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        if data is None:
            return None
        view[: len(data)] = data
        return len(data)

    def read(self, size: int | None = -1, /) -> bytes | None:
        """Read what there is, at most `size` bytes, waiting until there is some; to the end if it is negative or None.

        Raises:
            Interrupted: what had been read of "to the end" is in `partial`; otherwise nothing had been.
            TimeoutError: a wait took longer than the timeout; as `Stalled`, with `partial`.
            ResourceBusy: another thread is in an operation on this object.
        """
        if size is None or size < 0:
            return self.readall()
        with self._alone():
            check(self._stop)
            self._checkReadable()  # type: ignore[attr-defined]  # typeshed leaves it out
            if not self._surplus and size:
                fetched = self._fetch(min(size, self._chunk_size))
                if fetched is None:
                    return None
                self._surplus = fetched
            data, self._surplus = self._surplus[:size], self._surplus[size:]
            return data

    def readall(self) -> bytes:
        """Read to the end; what had been read before a stop is in `partial`."""
        parts = []
        try:
            while part := self.read(_STEP):
                parts.append(part)
        except (Interrupted, TimeoutError) as error:
            raise with_taken(error, b"".join(parts))  # noqa: B904 - the same error
        return b"".join(parts)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`.

        Raises:
            Interrupted: `transferred` bytes have been written.
            TimeoutError: a wait took longer than the timeout; as `Stalled`, with what had been written in `partial`.
            ResourceBusy: another thread is in an operation on this object.
        """
        with self._alone():
            self._checkWritable()  # type: ignore[attr-defined]  # as in read
            return self._put(memoryview(data).cast("B"))

    def flush(self) -> None:
        super().flush()
        if self._exact:
            return
        flush = getattr(self._file, "flush", None)
        if flush is not None and not getattr(self._file, "closed", False) and self.writable():
            flush()

    def close(self) -> None:
        """Flush the object, and close it unless the wrapper was made to leave it open.

        An object in which a read goes on that a stop has left behind is closed when that returns.

        Raises:
            ResourceBusy: another thread is in an operation on this object.
        """
        if self.closed:
            return
        with self._alone():
            try:
                super().close()
            finally:
                if self._closes:
                    self._close_object()

    def _close_object(self) -> None:
        close = getattr(self._file, "close", None)
        if close is not None:
            close()

    def _fetch(self, size: int) -> bytes | None:
        raise NotImplementedError

    def _put(self, view: memoryview) -> int:
        raise NotImplementedError

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if not self._lock.acquire(blocking=False):
            raise ResourceBusy(f"another thread is in an operation on {self!r}")
        try:
            yield
        finally:
            self._lock.release()

    def __repr__(self) -> str:
        return f"<iointerrupt.files.wrap({self._file!r})>"

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"cannot pickle {type(self).__name__!r} object")


class PolledFile(WrappedFile):
    """A wrapped object whose descriptor tells when there is something to read."""

    _surplus = b""

    def __init__(self, file: Any, **options: Any) -> None:
        super().__init__(file, **options)
        fd = file.fileno()
        self._is_stream = is_stream(os.fstat(fd).st_mode)
        self._drained = self._exact or not self._is_stream
        kind = StreamFile if self._is_stream else RegularFile
        # For what has no buffer of its own, or has emptied it.
        self._direct: StoppableFile = kind(fd, descriptor_mode(fd), timeout=self._timeout, closefd=False)

    def close(self) -> None:
        try:
            super().close()
        finally:
            direct = getattr(self, "_direct", None)  # not there if the object could not be wrapped
            if direct is not None:
                direct.close()  # not the descriptor, which is the object's, but a second one that a terminal has

    def seekable(self) -> bool:
        return not self._is_stream and bool(self._file.seekable())

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if not self.seekable():
            raise io.UnsupportedOperation("File or stream is not seekable.")
        position: int = self._file.seek(offset, whence)
        return position

    def tell(self) -> int:
        return self.seek(0, os.SEEK_CUR)

    def truncate(self, size: int | None = None, /) -> int:
        length: int = self._file.truncate(size)
        return length

    def _fetch(self, size: int) -> bytes | None:
        if isinstance(self._file, io.FileIO):
            self._direct.stop = self._stop
            return self._direct.read(size)
        if self._is_stream:
            wait_ready(self._file.fileno(), READ, self._stop, self._deadline())
        # The first read takes all that the object has buffered, of which poll knows nothing; it buffers none after that.
        wanted, self._drained = size if self._drained else max(size, CHUNK_SIZE), True
        data: bytes | None = self._file.read1(wanted)
        return data

    def _put(self, view: memoryview) -> int:
        self._file.flush()  # what it has buffered comes first
        self._direct.stop = self._stop
        return self._direct.write(view)


class _UnderWay:
    """What goes on with one object, or is left from it, whichever wrapper began it."""

    def __init__(self) -> None:
        self.read: _LateCall | None = None
        self.write: _LateCall | None = None
        self.surplus = b""  # read from the object, and not yet asked for


# By object, since a wrapper may be thrown away (a copy's is) while a call of the object that it began goes on.
_under_way: Final[weakref.WeakKeyDictionary[Any, _UnderWay]] = weakref.WeakKeyDictionary()


def _under_way_with(file: Any) -> _UnderWay:
    try:
        with guard.lock:
            return _under_way.setdefault(file, _UnderWay())
    except TypeError:  # it has no hash, or cannot be referred to weakly: then only this wrapper knows
        return _UnderWay()


class HelpedFile(WrappedFile):
    """A wrapped object that has to be asked in a helper thread."""

    def __init__(self, file: Any, **options: Any) -> None:
        self._under_way = _under_way_with(file)
        super().__init__(file, **options)

    @property
    def _surplus(self) -> bytes:
        return self._under_way.surplus

    @_surplus.setter
    def _surplus(self, data: bytes) -> None:
        self._under_way.surplus = data

    def flush(self) -> None:
        """Wait for a write that a stop has left behind, and flush the object."""
        if not self._exact and not self.closed:
            self._settle_write()
        super().flush()

    def _close_object(self) -> None:
        # Not under a read that a stop has left behind: its descriptor's number could be somebody else's by the time the
        # kernel has it. That read closes the object when it returns.
        late = self._under_way.read
        if late is None or not late.then(super()._close_object):
            super()._close_object()

    def _fetch(self, size: int) -> bytes | None:
        state = self._under_way
        if state.read is None:
            read: Callable[[int], Any] = getattr(self._file, "read1", None) or self._file.read
            state.read = _LateCall(functools.partial(read, size), "iointerrupt-read")
        state.read.wait(self._stop, self._deadline())
        late, state.read = state.read, None
        data = late.result()
        if data is None or isinstance(data, bytes):
            return data
        if isinstance(data, str):
            raise TypeError(f"cannot read {self._file!r}: it gives str; a binary file object is needed")
        return bytes(data)

    def _put(self, view: memoryview) -> int:
        done = 0
        try:
            self._settle_write()
            while done < len(view):
                check(self._stop)
                chunk = bytes(view[done : done + self._chunk_size])
                self._under_way.write = _LateCall(
                    functools.partial(_write_all, self._file.write, chunk), "iointerrupt-write"
                )
                done += len(chunk)  # taken from now on: a stop does not take it back
                self._settle_write()
        except Interrupted as error:
            error.transferred = done
            raise
        except TimeoutError as error:
            raise with_taken(error, bytes(view[:done]))  # noqa: B904 - the same error
        return done

    def _settle_write(self) -> None:
        state = self._under_way
        write = state.write
        if write is not None:
            write.wait(self._stop, self._deadline())
            state.write = None
            write.result()


def _write_all(write: Callable[[bytes], int | None], data: bytes) -> None:
    done = 0
    while done < len(data):
        count = write(data[done:] if done else data)
        if count == 0:
            raise BlockingIOError(errno.EAGAIN, "the target is non-blocking and takes nothing at the moment")
        done += len(data) if count is None else count


class _LateCall:
    """One call in a daemon thread, for which several operations may wait one after the other."""

    def __init__(self, function: Callable[[], Any], name: str) -> None:
        self._data: Any = None
        self._error: BaseException | None = None
        self._done = False
        self._parker = Parker()
        self._lock = threading.Lock()  # guards whether it is done, and what is to be done then
        self._afterwards: Callable[[], object] | None = None
        own_thread(name, self._run, function).start()

    def wait(self, own: StopEvent | None, deadline: float | None) -> None:
        """Until it is done; raises as `_wait.wait_ready` does."""
        with Blocked(stops(own)) as blocked:
            parker = self._parker = Parker()
            if self._done:  # after the parker is in place: who finishes now will find it
                return
            blocked.add_waker(parker.unpark)
            park(parker, blocked, deadline, lambda: self._done)

    def then(self, function: Callable[[], object]) -> bool:
        """Have `function` called in the thread once the call has returned; False if it has already."""
        with self._lock:
            if not self._done:
                self._afterwards = function
            return not self._done

    def result(self) -> Any:
        """What the call returned or raised."""
        if self._error is not None:
            raise self._error
        return self._data

    def _run(self, function: Callable[[], Any]) -> None:
        try:
            self._data = function()
        except BaseException as error:  # noqa: BLE001 - it is raised again in the thread that reads
            self._error = error
        with self._lock:
            self._done = True
            afterwards = self._afterwards
        self._parker.unpark()
        if afterwards is not None:
            afterwards()


def wrap_object(
    file: Any,
    *,
    stop: StopEvent | None,
    timeout: float | None,
    chunk_size: int,
    closes: bool = True,
    exact: bool = False,
) -> WrappedFile:
    """The wrapper that fits; arguments as for `WrappedFile`."""
    check_binary(file)
    kind = PolledFile if _descriptor_tells(file) else HelpedFile
    return kind(file, stop=stop, timeout=timeout, chunk_size=chunk_size, closes=closes, exact=exact)


def check_binary(file: Any) -> None:
    """Raise a TypeError that says what to use instead, if this is not a binary file object."""
    if isinstance(file, io.TextIOBase) or (hasattr(file, "buffer") and hasattr(file, "encoding")):
        raise TypeError(f"{file!r} is a text file; wrap the binary one under it, its .buffer")
    if hasattr(file, "recv"):
        raise TypeError(f"{file!r} is a socket; iointerrupt.sockets.wrap takes it")
    if not callable(getattr(file, "read", None)) and not callable(getattr(file, "write", None)):
        raise TypeError(f"a descriptor or a binary file object is needed, not {type(file).__name__}")
    if is_async(getattr(file, "read", None)) or is_async(getattr(file, "write", None)):
        raise TypeError(f"{file!r} is asynchronous, and a thread cannot await it; see iointerrupt.aio")


def descriptor_mode(fd: int) -> str:
    """What an open descriptor can be used for, as a mode for `io.FileIO`; where the system does not say, both."""
    try:
        import fcntl  # noqa: PLC0415 - nobody else pays for it
    except ImportError:
        os.fstat(fd)  # raises if it is not open
        return "r+"
    access = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE
    return {os.O_RDONLY: "r", os.O_WRONLY: "w"}.get(access, "r+")


def _descriptor_tells(file: Any) -> bool:
    raw = getattr(file, "raw", file)
    if isinstance(raw, io.FileIO):
        if not STREAMS_CAN_WAIT and is_stream(os.fstat(raw.fileno()).st_mode):
            return False
        return raw is file or hasattr(file, "read1") or hasattr(file, "write")
    socket = sys.modules.get("socket")  # whoever made a file of a socket has it loaded
    if socket is None or not isinstance(raw, socket.SocketIO):
        return False
    # A TLS layer has data of its own.
    return not hasattr(getattr(raw, "_sock", None), "pending")
