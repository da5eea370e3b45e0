# For type checkers alone: what `files` takes of other people's file objects, and what `files.open` returns where the mode or the
# buffering is known only when the program runs (what the classes that it may be have in common, as for the builtin, and the stop).

from abc import ABCMeta
from typing import IO, Any, BinaryIO, Protocol, Self

from iointerrupt._stop import StopEvent
from iointerrupt._types import StopLike

class Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...

class Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...

class BinaryFile(BinaryIO, metaclass=ABCMeta):
    def __enter__(self) -> Self: ...
    @property
    def stop(self) -> StopEvent | None: ...
    @stop.setter
    def stop(self, stop: StopLike) -> None: ...

class AnyFile(IO[Any], metaclass=ABCMeta):
    def __enter__(self) -> Self: ...
    @property
    def stop(self) -> StopEvent | None: ...
    @stop.setter
    def stop(self, stop: StopLike) -> None: ...
