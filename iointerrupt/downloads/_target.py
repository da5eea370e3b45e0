"""`Target`: where a download goes, which may be said as a folder, as a file, or not at all."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, NamedTuple, Union

from iointerrupt._files.wrapped import check_binary
from iointerrupt.downloads._errors import DestinationExists, WriteFailed
from iointerrupt.downloads._names import name_for
from iointerrupt.downloads._options import Options
from iointerrupt.downloads._part import RECORD_SUFFIX, SUFFIX
from iointerrupt.downloads._state import FRESH_SUFFIX

if TYPE_CHECKING:
    from iointerrupt._files.shapes import Writable

# What another download, of the file that is called so without it, takes for its own.
_OF_PARTS = (SUFFIX, RECORD_SUFFIX, RECORD_SUFFIX + FRESH_SUFFIX)

#: What is accepted as a destination.
Destination = Union[str, os.PathLike[str], "Writable", None]


class Target(NamedTuple):
    """The place of a file.

    Attributes:
        path: all of it.
        folder: where it is.
        name: what it is called; for one that nobody has named it is made of the URL, and stands for the part alone.
        is_named: whether the user has said what it is called.
    """

    path: str
    folder: str
    name: str
    is_named: bool

    @classmethod
    def of(cls, dest: str | os.PathLike[str] | None, url: str) -> Target:
        """What the user has said, and what is left to the URL.

        Raises:
            TypeError, ValueError: it is no path.
            WriteFailed: it has the name of an unfinished download, and might be thrown away as one.
        """
        path = "" if dest is None else os.fspath(dest)
        if not isinstance(path, str):
            raise TypeError("dest must be a str or a path of str")
        if "\0" in path:
            raise ValueError("dest must not contain a null character")
        folder, name = os.path.split(path)
        if name and os.path.isdir(path):
            folder, name = path, ""
        if name:
            if name.lower().endswith(_OF_PARTS):
                raise WriteFailed(
                    f"{path} cannot be the name of a file: unfinished downloads end in {', '.join(_OF_PARTS)}",
                    path=path,
                )
            return cls(path, folder, name, is_named=True)
        name = name_for(url)
        return cls(os.path.join(folder, name), folder, name, is_named=False)

    def final_path(self, name: str) -> str:
        """The path under which the file appears in the end, if the server calls it `name`."""
        return self.path if self.is_named else os.path.join(self.folder, name)


def check_destination(dest: Any) -> None:
    """Refuse what cannot be one.

    Raises:
        TypeError: it is neither a path of str nor a binary file object.
        ValueError: the file object is closed.
    """
    if is_stream(dest):
        check_binary(dest)
        if getattr(dest, "closed", False):
            raise ValueError(f"dest is closed: {dest!r}")
    elif dest is not None and not isinstance(dest, str | os.PathLike):
        raise TypeError(f"dest must be a path of str, a binary file object or None, not {type(dest).__name__}")


def is_stream(dest: Any) -> bool:
    """Whether a destination is a file object that takes bytes."""
    return dest is not None and not isinstance(dest, str | os.PathLike) and hasattr(dest, "write")


def check_free(path: str, options: Options, url: str) -> None:
    """See that nothing is in the place that must not be replaced.

    Raises:
        DestinationExists: something is.
        WriteFailed: something is that is no file, such as a folder, a device or a pipe.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return
    if not stat.S_ISLNK(found.st_mode) or (options.overwrite and _leads_to_a_device(path)):
        if stat.S_ISDIR(found.st_mode):
            raise WriteFailed(f"{path} is a folder", url=url, path=path)
        if not stat.S_ISREG(found.st_mode) and (options.overwrite or options.update):
            raise WriteFailed(f"{path} is in the way: it is no file", url=url, path=path)
    if not (options.overwrite or options.update):
        raise DestinationExists(f"{path} is there already", url=url, path=path)


def _leads_to_a_device(path: str) -> bool:
    try:
        found = os.stat(path)
    except OSError:
        return False
    return not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode))
