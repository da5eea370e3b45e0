"""The objects that `aio.open` gives: those of aiofiles, over a file of `files.open`, with its stop.

Each is the class of aiofiles that `aiofiles.threadpool.wrap` chooses for the file, with a property more; its methods are
aiofiles' own, which find an `Operations` where they look for their loop.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, TypeVar

from aiofiles.threadpool import wrap

from iointerrupt import files
from iointerrupt._aio.operations import Operations

if TYPE_CHECKING:
    from iointerrupt._aio import shapes as binary
    from iointerrupt._aio import shapes as text
    from iointerrupt._aio.shapes import AiofilesContextManager
    from iointerrupt._stop import StopEvent
    from iointerrupt._types import StopLike
else:
    from aiofiles.base import AiofilesContextManager
    from aiofiles.threadpool import binary, text

F_co = TypeVar("F_co", covariant=True)


class _Stoppable:
    _file: Any

    @property
    def stop(self) -> StopEvent | None:
        """The own stop of the file; any stop that `as_stop` accepts may be set."""
        own: StopEvent | None = self._file.stop
        return own

    @stop.setter
    def stop(self, stop: StopLike) -> None:
        self._file.stop = stop


class AsyncTextIOWrapper(_Stoppable, text.AsyncTextIOWrapper):
    """Text."""


class AsyncBufferedIOBase(_Stoppable, binary.AsyncBufferedIOBase):
    """Binary, written."""


class AsyncBufferedReader(_Stoppable, binary.AsyncBufferedReader):
    """Binary, read, and written too if it can seek."""


class AsyncFileIO(_Stoppable, binary.AsyncFileIO):
    """Binary, unbuffered."""


_KINDS: dict[type, type] = {
    text.AsyncTextIOWrapper: AsyncTextIOWrapper,
    binary.AsyncBufferedIOBase: AsyncBufferedIOBase,
    binary.AsyncBufferedReader: AsyncBufferedReader,
    binary.AsyncFileIO: AsyncFileIO,
}


class Opening(AiofilesContextManager[F_co]):
    """What `aio.open` returns: to be awaited, or entered with `async with`, which closes the file at its end."""

    __slots__ = ()
    _coro: Any
    _obj: Any

    # The two methods are written out since aiofiles' own differ from version to version, and since its exit closes the
    # file in the loop's default pool: there it would wait for others, and nothing could end it.

    def __await__(self) -> Generator[Any, Any, F_co]:
        if self._obj is None:
            self._obj = yield from self._coro.__await__()
        opened: F_co = self._obj
        return opened

    async def __aenter__(self) -> F_co:
        return await self

    async def __aexit__(self, *exc_info: object) -> None:
        opened = self._obj
        await opened._loop.run_in_executor(None, opened._file.__exit__, *exc_info)
        self._obj = None


async def open_wrapped(stop: StopEvent | None, executor: Executor | None, opener: Callable[[], Any]) -> Any:
    """The object over what `opener` opens."""
    operations = Operations(stop, executor)
    file = await operations.open(opener)
    try:
        kind = type(wrap(file))
    except TypeError:  # a raw file on a disk that may hang is no FileIO
        kind = binary.AsyncFileIO
    return _KINDS[kind](file, loop=operations, executor=executor)


def opening(
    file: Any, mode: str, stop: StopEvent | None, executor: Executor | None, options: dict[str, Any]
) -> Opening[Any]:
    """What is to be awaited or entered."""
    return Opening(open_wrapped(stop, executor, functools.partial(files.open, file, mode, stop=stop, **options)))
