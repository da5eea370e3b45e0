"""Which version of a file on a server a file on the disk is: noted with the file itself, in an extended attribute (xattr(7)).

It holds for the file as it was downloaded, so the note says what that looked like. Where there is no note, because the
file system keeps none or somebody has copied the file, the modification time is left, which `Part.finish` has set.
"""

from __future__ import annotations

import os
from email.utils import formatdate

from iointerrupt.downloads._plan import Question, Version

_ATTRIBUTE = "user.iointerrupt.etag"


def note(fd: int, version: Version, modified: float | None) -> None:
    """Note the version with an open file that has just got its last byte and its modification time."""
    if version.etag is None or modified is None or not hasattr(os, "setxattr"):
        return
    try:
        os.setxattr(fd, _ATTRIBUTE, f"{version.size} {modified:.0f} {version.etag}".encode("latin-1", "replace"))
    except OSError:
        pass  # the file system keeps none


def only_if_changed(path: str) -> Question | None:
    """How to ask for a file that is there, if there is another by now; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Question(unless=Version(etag=_etag(path, found)), modified_since=formatdate(found.st_mtime, usegmt=True))


def _etag(path: str, found: os.stat_result) -> str | None:
    if not hasattr(os, "getxattr"):
        return None
    try:
        size, modified, etag = os.getxattr(path, _ATTRIBUTE).decode("latin-1").split(" ", 2)
    except (OSError, ValueError):
        return None
    # Whoever may write to the file can write any note: what no server may have said is none.
    is_right = (size, modified) == (str(found.st_size), f"{found.st_mtime:.0f}") and Version(etag=etag).can_be_sent()
    return etag if is_right else None
