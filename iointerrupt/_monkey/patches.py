"""`Patch`: one attribute of a module or a class that is replaced; and the way there and back.

Each part of `monkey` is a list of patches. They are applied together or not at all, and undone in reverse order. An attribute
that somebody else has replaced since is not ours to put back: it is left, and reported.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class Patch(NamedTuple):
    """A replacement that can be made.

    Attributes:
        owner: the module or class.
        name: of its attribute. Where it has none, as on some platforms, there is nothing to replace.
        make: makes what is put there, of what was there.
    """

    owner: Any
    name: str
    make: Callable[[Any], Any]


class Replaced(NamedTuple):
    """A replacement that has been made."""

    owner: Any
    name: str
    original: Any
    replacement: Any

    def is_in_place(self) -> bool:
        """Whether it is still there."""
        return _look_up(self.owner, self.name) is self.replacement

    def undo(self) -> None:
        """Put back what was there."""
        setattr(self.owner, self.name, self.original)

    def __str__(self) -> str:
        owner = getattr(self.owner, "__qualname__", "")
        module = getattr(self.owner, "__module__" if owner else "__name__", "?")
        return ".".join(filter(None, (module, owner, self.name)))


class Unbound:
    """A function in the place of one in C, which as an attribute of a class is no method, and which is pickled by its name.

    Args:
        function: what is called.
        module: where it is found; by default where the function says that it is from.
    """

    def __init__(self, function: Callable[..., Any], module: str | None = None) -> None:
        functools.update_wrapper(self, function)
        self._function = function
        if module is not None:
            self.__module__ = module

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __reduce__(self) -> str:
        return self.__name__  # type: ignore[attr-defined, no-any-return]  # from update_wrapper

    def __repr__(self) -> str:
        return f"<{self.__module__}.{self.__name__}, patched>"  # type: ignore[attr-defined]  # as above


def apply(patches: Iterable[Patch]) -> list[Replaced]:
    """Make all replacements, or none where one of them fails."""
    done: list[Replaced] = []
    try:
        for owner, name, make in patches:
            original = _look_up(owner, name)
            if original is not None:
                replacement = make(original)
                setattr(owner, name, replacement)
                done.append(Replaced(owner, name, original, replacement))
    except BaseException:
        undo(done)
        raise
    return done


def undo(done: Iterable[Replaced]) -> list[Replaced]:
    """Take replacements back; returns those that were left, since something else is in their place by now."""
    left = []
    for replaced in reversed(list(done)):
        if replaced.is_in_place():
            replaced.undo()
        else:
            left.append(replaced)
    return left


def _look_up(owner: Any, name: str) -> Any:
    # Not getattr: that would bind a classmethod, and find what a class has from another one.
    return vars(owner).get(name)
