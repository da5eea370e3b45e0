"""`Record`: what is known of a part file, and how that survives the process, the machine, and a change of the file on the server.

The record is one small JSON file beside the part, always replaced as a whole. It may say less than the part holds, and never
more. What that takes differs by what may go wrong:

- The process dies (kill -9). What it has written is in the kernel's hands and stays there, so `done` may be believed as soon
  as a write has returned.
- The machine goes down. What had not been synced may be lost, in any order. So the record says in which boot of which machine
  it was written, and in another one only `synced` is believed, which counts what was in the file when an `fdatasync` began
  that has since come to its end.
- The record itself is torn or empty afterwards: it ends with a checksum of its own, and is then as good as none.

A part that has no record, or an older one, is thrown away before anything is written to it.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from iointerrupt._files.beside import read_note, write_note
from iointerrupt._files.growing import boot
from iointerrupt.downloads._plan import Version

#: Added to the record's path while it is being written.
FRESH_SUFFIX = ".new"

_FORMAT = 1
_LONGEST = 16 << 20  # bytes


class Piece:
    """A range of the file: what is before `done` is there, the rest is to come.

    Attributes:
        start: its first byte.
        done: up to where it has been written.
        end: the byte behind it; None where the size is not known.
        synced: up to where it is on the disk for certain.
        claimed: up to where its worker may be writing at this moment; nobody else takes anything before that.
        taken: whether a worker is at it.
    """

    __slots__ = ("claimed", "done", "end", "start", "synced", "taken")

    def __init__(self, start: int, end: int | None, done: int | None = None, synced: int = 0) -> None:
        self.start, self.end, self.synced = start, end, synced
        self.done = self.claimed = start if done is None else done
        self.taken = False

    @property
    def is_done(self) -> bool:
        """Whether all of it is there; never known of one without an end."""
        return self.end is not None and self.done >= self.end


class Record:
    """What is known of a part file.

    Attributes:
        source: the URL that it is of, as `identity` has it.
        version: the version of the file.
        name: what the file will be called.
        inode: of the part itself, which tells it from another file that has come into its place.
        pieces: the ranges of it, in order and without gaps.
    """

    __slots__ = ("inode", "name", "pieces", "source", "version")

    def __init__(self, source: str, version: Version, name: str, inode: int) -> None:
        self.source, self.version, self.name, self.inode = source, version, name, inode
        self.pieces: list[Piece] = []

    @property
    def done(self) -> int:
        """How many bytes are there."""
        return sum(piece.done - piece.start for piece in self.pieces)

    @property
    def is_complete(self) -> bool:
        """Whether all bytes are there."""
        return bool(self.pieces) and all(piece.is_done for piece in self.pieces)

    def save(self, path: str) -> None:
        """Put it in the place of what was at `path`.

        Raises:
            OSError: it cannot be written; what was there is as it was.
        """
        content = {
            "format": _FORMAT,
            "boot": boot(),
            "inode": self.inode,
            "source": self.source,
            "version": self.version._asdict(),
            "name": self.name,
            "pieces": [[piece.start, piece.done, piece.synced, piece.end] for piece in self.pieces],
        }
        body = json.dumps(content).encode()
        # Not for others: URLs and names may tell what is nobody's business.
        write_note(path, b"%s\n%08x\n" % (body, zlib.crc32(body)), path + FRESH_SUFFIX)

    @classmethod
    def load(cls, path: str, size: int, inode: int) -> Record | None:
        """What is at `path`; None where there is nothing that can be believed.

        Args:
            path: of the record.
            size: of the part, in bytes: what is said to be behind that is not there.
            inode: of the part.
        """
        try:
            body, _, rest = read_note(path, _LONGEST).partition(b"\n")
            if int(rest, 16) != zlib.crc32(body):
                return None
            return cls._read(json.loads(body), size, inode)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None

    @classmethod
    def _read(cls, content: dict[str, Any], size: int, inode: int) -> Record | None:
        name = content["name"]
        # Who can write into the folder can write a record, and has no say in where the file goes.
        if name != os.path.basename(name) or name in ("", os.curdir, os.pardir) or "\0" in name:
            return None
        same_boot = bool(boot()) and content["boot"] == boot()
        version = Version(**content["version"])
        is_right = isinstance(content["source"], str) and version.can_be_sent() and _is_size(version.size)
        if content["format"] != _FORMAT or content["inode"] != inode or not is_right:
            return None
        record = cls(content["source"], version, name, inode)
        behind = 0
        for start, done, synced, end in content["pieces"]:
            is_right = all(type(number) is int and number >= 0 for number in (start, done, synced)) and _is_size(end)
            there = max(start, min(done if same_boot else synced, size)) if is_right else 0
            if not is_right or start != behind or (end is not None and there > end):
                return None
            behind = end
            record.pieces.append(Piece(start, end, there, min(synced, there)))
        if not record.pieces or behind != record.version.size:
            return None
        return record


def _is_size(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < 1 << 63)


def identity(url: str) -> str:
    """What tells one URL from another in a record, without the credentials that may be in it."""
    shown = url.partition("#")[0].partition("?")[0]
    if "@" in shown:
        parts = urlsplit(shown)
        shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return f"{shown} {hashlib.sha256(url.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
