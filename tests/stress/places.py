"""What a server has of a file, and what a killed download has left of it: compared byte for byte, and spoilt as by a power cut."""

from __future__ import annotations

import json
import os
import random
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

from iointerrupt._files.growing import boot
from iointerrupt.downloads import _state


class Served:
    """A file that nginx serves, and all versions that it has had.

    No byte of it is 0, so that what has been written to a part can be told from what has not.
    """

    def __init__(self, folder: str, size: int, chance: random.Random) -> None:
        self.path = os.path.join(folder, "file")
        self._size = size
        self._chance = chance
        self._modified = int(time.time()) - 1_000_000
        self.contents: dict[str, bytes] = {}  # by the ETag that nginx makes of the time and the size
        self.etag = ""
        self.change()

    @property
    def content(self) -> bytes:
        """Of the newest version."""
        return self.contents[self.etag]

    def change(self) -> None:
        """Put another version in the place of the file, which may be of another size."""
        size = self._size - self._chance.choice([0, 1000, 100_000]) if self.contents else self._size
        content = self._chance.randbytes(size).replace(b"\0", b"\1")
        fresh = f"{self.path}.fresh"
        with open(fresh, "wb") as file:
            file.write(content)
        self._modified += 10
        os.utime(fresh, (self._modified, self._modified))
        os.replace(fresh, self.path)
        self.etag = f'"{self._modified:x}-{size:x}"'
        self.contents[self.etag] = content


@dataclass
class Left:
    """What a child has left behind of a download.

    Attributes:
        etag: the version of the part; None where there is no record.
        claims: the ranges that are said to be there.
        missing: how many bytes are not.
        unsaved: bytes that had been written to the part and are not claimed.
    """

    etag: str | None = None
    claims: list[tuple[int, int]] = field(default_factory=list)
    missing: int = 0
    unsaved: int = 0

    @property
    def claimed(self) -> int:
        """How many bytes are said to be there."""
        return sum(end - start for start, end in self.claims)


class Place:
    """Where a download goes, and what is found there.

    Args:
        path: the final name.
        served: what it is to become.
    """

    def __init__(self, path: str, served: Served) -> None:
        self.path, self._part, self._record = path, f"{path}.part", f"{path}.part.json"
        self._served = served
        self._torn = b""  # a record that a power cut has left

    def is_done(self) -> bool:
        """Whether the file is there under its final name; if so, it is complete."""
        if not os.path.exists(self.path):
            return False
        assert read(self.path) in self._served.contents.values(), "a file is there, and is not what the server had"
        return True

    def is_tidy(self) -> bool:
        """Whether nothing but the file itself is there."""
        return not os.path.exists(self._part) and not os.path.exists(self._record)

    def look(self) -> Left:
        """Compare what is there with what the server has, byte for byte."""
        record = self._load()
        if record is not None and not os.path.exists(self._part):
            assert os.path.exists(self.path), "there is a record without a part"
            record = None  # it was killed between the last two things that it does
        if record is None:
            return Left(missing=len(self._served.content))
        content = self._served.contents[record["version"]["etag"]]
        part = read(self._part)
        left = Left(record["version"]["etag"])
        for start, done, synced, end in record["pieces"]:
            there = done if record["boot"] == boot() else max(start, synced)
            assert part[start:there] == content[start:there], f"{start} to {there} are claimed, and not what was sent"
            if there > start:
                left.claims.append((start, there))
            left.missing += end - there
            hole = part.find(b"\0", there, end)
            left.unsaved += (min(end, max(len(part), there)) if hole < 0 else hole) - there
        loaded = _state.Record.load(self._record, len(part), os.stat(self._part).st_ino)
        assert loaded is not None, "the record is refused"
        assert loaded.done == left.claimed
        return left

    def lose_power(self, chance: random.Random) -> None:
        """Make of what is there what a power cut might: what has not been synced is lost, in one way or another."""
        record = self._load()
        if record is None or not os.path.exists(self._part):
            return
        size = os.path.getsize(self._part)
        behind = [(max(start, synced), end) for start, _, synced, end in record["pieces"]]
        with open(self._part, "r+b") as part:
            for start, end in behind:
                part.seek(start)
                part.write(chance.randbytes(max(0, min(end, size) - start)))
            if chance.random() < 0.5:
                part.truncate(max([0, *(synced for start, _, synced, _ in record["pieces"] if synced > start)]))
        whole = _with_checksum(record | {"boot": "another"})
        if chance.random() < 0.2:
            self._torn = whole = whole[: chance.randrange(len(whole) - 1)]
        with open(self._record, "wb") as file:
            file.write(whole)

    def leave(self, part: bytes, pieces: list[list[int]], url: str = "") -> None:
        """Leave a part of the newest version, and a record that says what of it is there.

        Args:
            part: what is in the part.
            pieces: start, done, synced and end of each.
            url: where it is from.
        """
        version = {"etag": self._served.etag, "date": None, "size": len(self._served.content)}
        with open(self._part, "wb") as file:
            file.write(part)
        record = {
            "format": 1,
            "boot": boot(),
            "inode": os.stat(self._part).st_ino,
            "source": _state.identity(url),
            "name": os.path.basename(self.path),
            "version": version,
            "pieces": pieces,
        }
        with open(self._record, "wb") as file:
            file.write(_with_checksum(record))

    def _load(self) -> Any:
        """The record; None if there is none that is to be believed."""
        if not os.path.exists(self._record):
            return None
        whole = read(self._record)
        if whole == self._torn:
            return None
        body, _, check = whole.partition(b"\n")
        assert check == b"%08x\n" % zlib.crc32(body), "the record is torn"
        return json.loads(body)


def _with_checksum(record: dict[str, Any]) -> bytes:
    body = json.dumps(record).encode()
    return b"%s\n%08x\n" % (body, zlib.crc32(body))


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
