"""What a step of a script is, and how what it is made of is checked and shown.

The steps themselves are in `steps`; here is what they have in common, so that what runs and checks scripts need not know
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from iointerrupt.testing._connection import Connection

_SHOWN = 40  # the most bytes of data that a repr shows


@dataclass(frozen=True, repr=False)
class Step:
    """One thing that a server does on a connection. Its repr reads as the call that made it."""

    #: Whether `run` itself says when the step is to be counted, as what stalls does when it begins.
    counts_itself: ClassVar[bool] = False

    @property
    def name(self) -> str:
        """What `FaultServer.wait_for` knows it by."""
        return type(self).__name__

    @property
    def inner(self) -> tuple[Script, ...]:
        """The scripts that are part of it."""
        return ()

    def run(self, connection: Connection) -> None:
        """Do it."""
        raise NotImplementedError

    def __repr__(self) -> str:
        shown: list[str] = []
        by_position = True
        for field in fields(self):
            value = getattr(self, field.name)
            if field.default is not MISSING and value == field.default:
                by_position = False  # what is left out, and so all that follows is named
                continue
            by_position = by_position and not field.kw_only
            shown.append(show(value) if by_position else f"{field.name}={show(value)}")
        return f"{self.name}({', '.join(shown)})"


#: What a server does on one connection.
Script = Sequence[Step | Callable[["Connection"], object]]


def show(value: object) -> str:
    """A repr in which a long body is cut short."""
    if isinstance(value, bytes) and len(value) > _SHOWN:
        return f"{value[:_SHOWN]!r}... {len(value)} bytes"
    return repr(value)


def name_of(step: object) -> str:
    """A step, or a callable that stands for one, as messages name it."""
    return repr(step) if isinstance(step, Step) else f"{getattr(step, '__qualname__', None) or repr(step)}(connection)"


def check_bytes(step: Step, name: str) -> None:
    """Make the field `name` bytes, or say that it is none."""
    value = getattr(step, name)
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"{step.name}: {name} must be bytes, not {type(value).__name__}")
    object.__setattr__(step, name, bytes(value))


def check_int(step: Step, name: str, least: int, *, others: tuple[object, ...] = ()) -> None:
    """Check that the field `name` is an int of at least `least`, or one of `others`."""
    value = getattr(step, name)
    if any(value is other for other in others):
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{step.name}: {name} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{step.name}: {name} must be {least} or more, not {value}")


def check_str(step: Step, name: str, *, none: bool = False) -> None:
    """Check that the field `name` is a str of one line, or None if that is admitted."""
    value = getattr(step, name)
    if not (none and value is None):
        check_line(step.name, name, value)


def check_headers(step: Step, *, none: bool = False) -> None:
    """Make the field `headers` a dict of one-line texts (with `none`, also None for a value), or say what is wrong."""
    given: Any = step.headers  # type: ignore[attr-defined]  # of those that have it
    object.__setattr__(step, "headers", checked_headers(step.name, given, none=none))


def checked_headers(who: str, headers: Any, *, none: bool = False) -> dict[str, Any] | None:
    """`check_headers`, for headers that are not yet a field."""
    if headers is None:
        return None
    if not isinstance(headers, Mapping):
        raise TypeError(f"{who}: headers must be a mapping of names to values, not {type(headers).__name__}")
    for name, value in headers.items():
        check_line(who, "a header's name", name)
        if not (none and value is None):
            check_line(who, f"the header {name}", value)
    return dict(headers)


def check_line(who: str, what: str, value: Any) -> None:
    """Check that `value` is text that can stand in a line of a head."""
    if not isinstance(value, str):
        raise TypeError(f"{who}: {what} must be a str, not {type(value).__name__}")
    if "\r" in value or "\n" in value:
        raise ValueError(f"{who}: {what} must be one line, not {value!r}: what breaks the rules goes into send()")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(f"{who}: {what} must be Latin-1, not {value!r}: any other bytes go into send()") from None


def check_status(who: str, status: Any) -> None:
    """Check that `status` is a status code."""
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"{who}: status must be an int, not {type(status).__name__}")
    if not 100 <= status <= 599:
        raise ValueError(f"{who}: status must be 100 to 599, not {status}: any other one goes into send()")
