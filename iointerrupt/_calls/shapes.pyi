# What the functions of `calls` take, for type checkers alone: the methods that they use of other people's locks, conditions and
# queues, and what `subprocess.Popen` accepts besides what decides on text or bytes.

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import IO, Any, Protocol, TypeAlias, TypedDict, TypeVar

from _typeshed import StrOrBytesPath

_T_co = TypeVar("_T_co", covariant=True)
_T_contra = TypeVar("_T_contra", contravariant=True)

class Lock(Protocol):
    def acquire(self, *, timeout: float) -> object: ...
    def release(self) -> object: ...

class Waitable(Protocol):
    def wait(self, timeout: float | None = None, /) -> object: ...

class Source(Protocol[_T_co]):
    def get(self, block: bool = True, timeout: float | None = None) -> _T_co: ...
    def get_nowait(self) -> _T_co: ...

class Target(Protocol[_T_contra]):
    def put(self, item: _T_contra, /, block: bool = True, timeout: float | None = None) -> None: ...
    def put_nowait(self, item: _T_contra, /) -> None: ...

Command: TypeAlias = StrOrBytesPath | Sequence[StrOrBytesPath]

class PopenOptions(TypedDict, total=False):
    bufsize: int
    executable: StrOrBytesPath | None
    stdin: int | IO[Any] | None
    stdout: int | IO[Any] | None
    stderr: int | IO[Any] | None
    preexec_fn: Callable[[], object] | None
    close_fds: bool
    shell: bool
    cwd: StrOrBytesPath | None
    env: Mapping[bytes, StrOrBytesPath] | Mapping[str, StrOrBytesPath] | None
    startupinfo: Any
    creationflags: int
    restore_signals: bool
    start_new_session: bool
    pass_fds: Collection[int]
    user: str | int | None
    group: str | int | None
    extra_groups: Iterable[str | int] | None
    umask: int
    pipesize: int
    process_group: int | None
