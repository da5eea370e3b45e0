"""The exceptions of the library: few, sharp, and none that the field's code mistakes for another.

    Exception
    ├── Interrupted             a stop was set
    │   └── DeadlineExceeded    the stop was a deadline that passed
    ├── DownloadError           a file could not be downloaded; its kinds are in `downloads`
    ├── RuntimeError
    │   └── ResourceBusy        two threads on an object that serves one
    └── OSError
        └── TimeoutError
            └── Stalled         a timeout in the middle of an operation that had already moved bytes

`Interrupted` is neither an `OSError` nor a `BaseException`, and both are deliberate. urllib3 turns an
`OSError` into a `ProtocolError` or retries on a new connection, which is the opposite of stopping. A
`BaseException` kills a worker of `multiprocessing.pool.ThreadPool` and leaves its caller waiting for ever. An
`Exception` passes both, and the common `while not stop.is_set(): try: ... except Exception: log` ends as it should,
because a stop is a level: the next operation raises again.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    from typing import Any


class Interrupted(Exception):
    """A stop was set before or during a blocking operation, which has therefore not completed.

    Attributes:
        reason: what `StopEvent.set(reason)` was given; None where nothing was, or where the stop came from a foreign event.
        transferred: how many bytes (characters, for text) the operation had moved before it stopped; None where a
            count means nothing.
        partial: those bytes (or that text), where they would otherwise be lost; None where nothing would be. The
            object's own position is behind them: a retry continues after them and repeats none.
    """

    def __init__(
        self,
        reason: object = None,
        *,
        transferred: int | None = None,
        partial: bytes | str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.transferred = transferred
        self.partial = partial

    def __str__(self) -> str:
        said = "interrupted" if self.reason is None else f"interrupted: {self.reason}"
        return f"{said} ({self.transferred:,} transferred)" if self.transferred else said

    def __reduce__(self) -> tuple[Any, ...]:
        # The default would lose the keyword-only fields on the way through a process pool.
        return type(self), (self.reason,), {"transferred": self.transferred, "partial": self.partial}


class DeadlineExceeded(Interrupted):
    """The time of a `StopEvent(timeout=...)` ran out: a limit on the whole work, unlike the `timeout=` of one wait."""


class ResourceBusy(RuntimeError):
    """Another thread is inside an operation on an object that serves one thread at a time."""


class Stalled(TimeoutError):
    """The `timeout=` of one wait passed in the middle of a read, a write or a close, and `partial` is what is not lost.

    Attributes:
        partial: what a read or a write had taken, which a retry continues after; or what a close could not write.
    """

    def __init__(self, message: str, partial: bytes | str) -> None:
        super().__init__(message)
        self.partial = partial

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.partial)


class DownloadError(Exception):
    """A file could not be downloaded. What has come of it is kept beside its place wherever it can be of use.

    Attributes:
        url: what was being fetched; None where that had no part in it.
    """

    def __init__(self, message: str, *, url: str | None = None) -> None:
        super().__init__(message)
        self.url = url

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args, vars(self))


def _remade(kind: type[DownloadError], args: tuple[Any, ...], attributes: dict[str, Any]) -> DownloadError:
    # Not by its constructor, which differs from kind to kind.
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(attributes)
    return error
