"""Which version of a file on a server a file on the disk is: noted with the file itself, in an extended attribute (xattr(7)).

It holds for the file as it was downloaded, so the note says what that looked like. Where there is no note, because the
file system keeps none or somebody has copied the file, the modification time is left, which `Part.finish` has set.
"""

from __future__ import annotations

import os
from email.utils import formatdate

from iointerrupt.downloads._plan import Question, Version

_ATTRIBUTE = "user.iointerrupt.etag"
_UNDATED = "?"  # behind a time that is none of the server's, which gives none


def note(fd: int, version: Version, *, is_dated: bool) -> None:
    """Note the version with an open file that has just got its last byte, and its modification time where `is_dated`."""
    if version.etag is None or not hasattr(os, "setxattr"):
        return
    look = f"{version.size} {os.fstat(fd).st_mtime:.0f}{'' if is_dated else _UNDATED}"
    try:
        os.setxattr(fd, _ATTRIBUTE, f"{look} {version.etag}".encode("latin-1", "replace"))
    except OSError:
        pass  # the file system keeps none


def only_if_changed(path: str) -> Question | None:
    """How to ask for a file that is there, if there is another by now; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    etag, is_dated = _noted(path, found)
    return Question(
        unless=Version(etag=etag), modified_since=formatdate(found.st_mtime, usegmt=True) if is_dated else None
    )


def _noted(path: str, found: os.stat_result) -> tuple[str | None, bool]:
    """The entity tag of the note, if there is one, and whether the file has the server's time, as far as is known."""
    if not hasattr(os, "getxattr"):
        return None, True
    try:
        size, modified, etag = os.getxattr(path, _ATTRIBUTE).decode("latin-1").split(" ", 2)
    except (OSError, ValueError):
        return None, True
    # Whoever may write to the file can write any note: what no server may have said is none.
    looks = (str(found.st_size), f"{found.st_mtime:.0f}")
    if (size, modified.removesuffix(_UNDATED)) != looks or not Version(etag=etag).can_be_sent():
        return None, True
    return etag, not modified.endswith(_UNDATED)
