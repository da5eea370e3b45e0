"""Which line of the program a stack stands at.

Where a thread is stuck, or something was made, the innermost frames say little: they stand in `queue`, `socket`, or in this
library. What helps is the innermost line that is neither of the standard library nor of this one.
"""

from __future__ import annotations

import functools
import os
import sys

TYPE_CHECKING = False  # typing is two thirds of what this import would cost; checkers know the name
if TYPE_CHECKING:
    import types

_STANDARD = os.path.dirname(os.__file__) + os.sep
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_LIBRARY = os.path.dirname(__file__) + os.sep


@functools.cache
def is_of_the_program(filename: str) -> bool:
    """Whether the code of that file is neither of the standard library nor of this one."""
    if filename.startswith((_LIBRARY, "<frozen ")):
        return False
    return not filename.startswith(_STANDARD) or _is_installed(filename)


@functools.cache
def _is_installed(filename: str) -> bool:
    return any(folder in filename for folder in _INSTALLED)


def program_line(frame: types.FrameType | None) -> str | None:
    """The innermost line of the program in a stack, as "FILE:LINE in FUNCTION"; None if there is none.

    One in an installed package counts only where there is no other.
    """
    installed = None
    while frame is not None:
        filename = frame.f_code.co_filename
        if is_of_the_program(filename):
            if not _is_installed(filename):
                return _said(frame)
            installed = installed or frame
        frame = frame.f_back
    return None if installed is None else _said(installed)


def here() -> str | None:
    """The line of the program that has led to this call."""
    return program_line(sys._getframe(1))


def stands_at(thread: int | None) -> str | None:
    """The line of the program at which the thread with that identifier is, or else the innermost of all; None if it has ended."""
    frame = None if thread is None else sys._current_frames().get(thread)
    return None if frame is None else program_line(frame) or _said(frame)


def _said(frame: types.FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
