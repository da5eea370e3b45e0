"""Steps made of steps: `repeat` and `route`, which `steps` has with the others."""
# ruff: noqa: N801 - see steps

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from iointerrupt.testing._step import Script, Step, check_int, check_line, name_of

if TYPE_CHECKING:
    from iointerrupt.testing._connection import Connection


@dataclass(frozen=True, repr=False, init=False)
class repeat(Step):
    """Do steps again and again.

    Args:
        *steps: what to do.
        times: how often; None for until the client has gone.
    """

    steps: Script
    times: int | None

    def __init__(self, *steps: Step | Callable[[Connection], object], times: int | None = None) -> None:
        object.__setattr__(self, "steps", steps)
        object.__setattr__(self, "times", times)
        if not steps:
            raise ValueError("repeat: there is no step to repeat")
        check_int(self, "times", 1, others=(None,))

    @property
    def inner(self) -> tuple[Script, ...]:
        return (self.steps,)

    def run(self, connection: Connection) -> None:
        done = 0
        while done != self.times:
            done += 1
            connection._run(self.steps, again=done != self.times)

    def __repr__(self) -> str:
        times = () if self.times is None else (f"times={self.times}",)
        return f"repeat({', '.join([*map(name_of, self.steps), *times])})"


@dataclass(frozen=True, repr=False)
class route(Step):
    """Read a request, and go on with the steps for its path; one with another path is answered with a 404.

    Args:
        mapping: the steps for each path, without a query.
    """

    mapping: Mapping[str, Script]
    counts_itself: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.mapping, Mapping):
            raise TypeError(f"route: mapping must be one of paths to lists of steps, not {type(self.mapping).__name__}")
        if not self.mapping:
            raise ValueError("route: there is no path")
        for path in self.mapping:
            check_line("route", "a path", path)
        # Lists are copied, as they may be changed; what is none is refused with the script.
        copied = {path: tuple(steps) if isinstance(steps, list) else steps for path, steps in self.mapping.items()}
        object.__setattr__(self, "mapping", copied)

    @property
    def inner(self) -> tuple[Script, ...]:
        return tuple(self.mapping.values())

    def run(self, connection: Connection) -> None:
        request = connection._need_request()
        connection.mark(self.name)
        found = self.mapping.get(request.path)
        if found is None:
            text = f"no steps for {request.path}: there are {', '.join(self.mapping)}"
            connection.answer(text.encode("latin-1"), status=404, headers={"Content-Type": "text/plain"})
        else:
            connection._run(found)

    def __repr__(self) -> str:
        inner = ", ".join(f"{path!r}: {_show(steps)}" for path, steps in self.mapping.items())
        return f"route({{{inner}}})"


def _show(steps: object) -> str:
    # What is no list of steps is refused with the script, in a message that shows it.
    return f"[{', '.join(map(name_of, steps))}]" if isinstance(steps, list | tuple) else repr(steps)
