"""Checksums: how they are asked for, found in lists such as `SHA256SUMS`, taken of files, and compared.

`parse` and `find` are pure; `digest_file` reads a file, and a stop ends that between any two pieces of it.

What is accepted is what the usual programs write: lines of GNU coreutils (`HEX  NAME`), tagged lines of the BSDs and of OpenSSL
(`SHA256 (NAME) = HEX`), a lone HEX, any of them signed with PGP. A signature is not verified; what is outside of it is not read.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from iointerrupt import files
from iointerrupt._errors import DownloadError
from iointerrupt.downloads._errors import ChecksumMismatch, ChecksumNotFound
from iointerrupt.downloads._names import safe_name

if TYPE_CHECKING:
    from hashlib import _Hash

    from iointerrupt._types import StopLike

# How many hexadecimal digits each has. Of two that have the same number, the first one is what a list without tags means;
# of two that a list has, the last one is the stronger.
_DIGITS: Final = {
    "md5": 32,
    "sha1": 40,
    "sha224": 56,
    "sha256": 64,
    "sha384": 96,
    "sha512": 128,
    "sha3_224": 56,
    "sha3_256": 64,
    "sha3_384": 96,
    "sha3_512": 128,
    "blake2s": 64,
    "blake2b": 128,
}

# As they are written, without hyphens and underscores: OpenSSL says SHA2-256 and BLAKE2b512.
_SPELLINGS: Final = (
    {name.replace("_", ""): name for name in _DIGITS}
    | {f"sha2{bits}": f"sha{bits}" for bits in (224, 256, 384, 512)}
    | {"blake2b512": "blake2b", "blake2s256": "blake2s"}
)

_ACCEPTED: Final = (
    "accepted are ALGORITHM:HEX, and the URL (http, https) or the path of a list of checksums such as SHA256SUMS, also as"
    f" ALGORITHM:URL; the algorithms are {', '.join(name.replace('_', '-') for name in _DIGITS)}"
)

_HEX = re.compile(r"[0-9a-fA-F]+")
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
# What was meant for a checksum rather than for the name of a file.
_ALMOST = re.compile(r"[\w-]+[:=][0-9a-fA-F]{8,}|[0-9a-fA-F]{32,}")

# The second of two blanks, or a star, is the mode of the file; some programs write a tab, or as many blanks as they like.
_GNU = re.compile(r"(\\?)([0-9a-fA-F]{32,})(?: \*|[ \t]+)(.*)")
_BSD = re.compile(r"(\\?)([A-Za-z0-9_/-]+) ?\((.*)\) ?= ?([0-9a-fA-F]{32,})")
_ESCAPE = re.compile(r"\\([\\nr])")
_ESCAPED = {"\\": "\\", "n": "\n", "r": "\r"}

_SIGNED = "-----BEGIN PGP SIGNED MESSAGE-----"
_SIGNATURE = "-----BEGIN PGP SIGNATURE-----"

# An algorithm within the name of a list: SHA256SUMS, x.iso.sha512, x-sha3-256.txt, B2SUMS.
_IN_A_NAME = re.compile(r"(?<![a-z0-9])(md5|sha-?[123]?[-_]?\d*|blake2[bs]|b2)(?=sums?|[^a-z0-9]|$)")

# How many of the names in a list an error tells.
_NAMES_TOLD = 5


@dataclass(frozen=True, slots=True)
class Checksum:
    """What a file has to be.

    Attributes:
        algorithm: as `hashlib` calls it.
        hexdigest: in lower case.
    """

    algorithm: str
    hexdigest: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hexdigest}"


@dataclass(frozen=True, slots=True)
class SumsFile:
    """A list in which the checksum is to be looked up.

    Attributes:
        where: its URL or path.
        algorithm: which of several checksums is wanted; None for what there is.
    """

    where: str
    algorithm: str | None = None

    @property
    def is_url(self) -> bool:
        """Whether it has to be fetched."""
        return _is_url(self.where)


@dataclass(frozen=True, slots=True)
class _Entry:
    # A line of a list; without a tag, and without a name, where it has none.
    tag: str | None
    name: str | None
    hexdigest: str


def parse(text: str) -> Checksum | SumsFile:
    """What the user asks for.

    Args:
        text: "ALGORITHM:HEX", where case, hyphens and underscores do not matter; or the URL or the path of a list, which
            "ALGORITHM:" may stand before. A file that looks like a checksum is named with its folder, `./`.

    Raises:
        TypeError: it is not a str.
        ValueError: it is none of these, and what it was meant to be.
    """
    if not isinstance(text, str):
        raise TypeError(f"checksum must be a str, not {type(text).__name__}")
    text = text.strip()
    prefix, _, rest = text.partition(":")
    algorithm = _SPELLINGS.get(_spelling(prefix))
    where = text if algorithm is None else rest.strip()
    if algorithm is not None:
        digits = _DIGITS[algorithm]
        if _HEX.fullmatch(where) and len(where) == digits:
            return Checksum(algorithm, where.lower())
        # As long as it has to be, and yet not hexadecimal: a slip, and no file.
        if not where or _HEX.fullmatch(where) or (len(where) == digits and where.isalnum()):
            raise ValueError(
                f"{text!r} is no {prefix} checksum, which has {digits} hexadecimal digits (here are {len(where)} characters);"
                f" {_ACCEPTED}"
            )
    if not where or "\0" in where or _ALMOST.fullmatch(where) or (_SCHEME.match(where) and not _is_url(where)):
        raise ValueError(f"{text!r} is no checksum; {_ACCEPTED}")
    return SumsFile(where, algorithm)


def find(text: str | bytes, name: str, algorithm: str | None, where: str) -> Checksum:
    """The checksum of a file in a list.

    Args:
        text: the list. Bytes may be UTF-16 with a byte-order mark, which PowerShell writes; else they are UTF-8.
        name: the file, as the list calls it. Folders before it do not count on either side, unless the list has several of
            that name and one of them is in no folder. It may be what `safe_name` made of that.
        algorithm: which of several checksums is wanted, as in `SumsFile`; None for the strongest that there is.
        where: the list's URL or path, which tells the algorithm of lines that do not say it; and for the errors.

    Raises:
        ChecksumNotFound: it has none for the file, or several that differ.
    """
    entries = list(_entries(text.removeprefix("\ufeff") if isinstance(text, str) else _decode(text)))
    of_name = _of_name(entries, name)
    if not of_name:
        raise _not_found(f"{_what(where)} {_has(entries)}, and so nothing of {name!r}", where)
    found: dict[str, dict[str, _Entry]] = {}
    for entry in of_name:
        kind = _algorithm_of(entry, algorithm, where)
        if kind is not None and algorithm in (None, kind):
            found.setdefault(kind, {})[entry.hexdigest] = entry
    if not found:
        kinds = sorted({entry.tag or f"one of {len(entry.hexdigest)} digits" for entry in of_name})
        wanted = "of a known algorithm" if algorithm is None else f"with {algorithm}"
        raise _not_found(f"{_what(where)} has no checksum {wanted} of {name!r}, only {', '.join(kinds)}", where)
    strongest = max(found, key=list(_DIGITS).index)
    if len(found[strongest]) > 1:
        names = ", ".join(repr(entry.name) for entry in found[strongest].values())
        raise _not_found(
            f"{_what(where)} has several {strongest} checksums that may be meant for {name!r}: {names}", where
        )
    return Checksum(strongest, next(iter(found[strongest])))


def hasher(algorithm: str) -> _Hash:
    """A new hash object, for what comes in pieces."""
    # It tells a damaged file from a whole one, which systems that forbid weak algorithms for security allow.
    return hashlib.new(algorithm, usedforsecurity=False)


def digest_file(file: str | int, algorithm: str, *, stop: StopLike = None) -> Checksum:
    """The checksum of a file, which is read from its beginning to its end.

    Args:
        file: its path; or a descriptor, which is left open, of one in whose place there may be another by now.
        algorithm: as `hashlib` calls it.
        stop: what ends it, besides the current stop.

    Raises:
        Interrupted: a stop was set; it ends this between any two pieces of a quarter of a mebibyte.
        OSError: the file cannot be read.
    """
    is_open = isinstance(file, int)
    with files.open(file, "rb", buffering=0, closefd=not is_open, stop=stop) as opened:
        if is_open:
            opened.seek(0)
        return Checksum(algorithm, hashlib.file_digest(opened, lambda: hasher(algorithm)).hexdigest())


def compare(expected: Checksum, actual: Checksum, *, url: str | None = None) -> None:
    """Refuse a file that is not the one that was asked for.

    Raises:
        ChecksumMismatch: it is another.
    """
    if expected != actual:
        raise ChecksumMismatch(
            f"{url or 'the file'} is not the file that was asked for: its checksum is {actual}, and was to be {expected}",
            url=url,
            expected=str(expected),
            actual=str(actual),
        )


class Expected:
    """What a file has to be, which is looked up when it is first needed, and once.

    One thread at a time.

    Args:
        wanted: what `parse` has made of what the user asks for.
        fetch: gets the content of a list that has a URL.
    """

    def __init__(self, wanted: Checksum | SumsFile, fetch: Callable[[str], str | bytes]) -> None:
        self._wanted = wanted
        self._fetch = fetch
        self._list: str | bytes | None = None

    @classmethod
    def of(cls, text: str | None, fetch: Callable[[str], str | bytes]) -> Expected | None:
        """What the user asks for; None where that is nothing. Errors are those of `parse`."""
        return None if text is None else cls(parse(text), fetch)

    def checksum(self, *names: str) -> Checksum:
        """What it has to be.

        Args:
            *names: what a list may call the file: the first one that it has counts.

        Raises:
            ChecksumNotFound: the list has none of them, or cannot be had.
            Interrupted: a stop was set.
        """
        wanted = self._wanted
        if isinstance(wanted, Checksum):
            return wanted
        self.load()
        assert self._list is not None  # noqa: S101 - for the type checker
        missing: ChecksumNotFound | None = None
        for name in dict.fromkeys(names):
            try:
                return find(self._list, name, wanted.algorithm, wanted.where)
            except ChecksumNotFound as error:
                missing = missing or error
        raise missing or _not_found(f"{_what(wanted.where)} was asked for no name", wanted.where)

    def fits(self, path: str, *names: str, stop: StopLike = None) -> bool:
        """Whether the file at `path` is what it has to be. Errors are those of `checksum` and `digest_file`."""
        expected = self.checksum(*names)
        return digest_file(path, expected.algorithm, stop=stop) == expected

    def load(self) -> None:
        """Get the list now, if there is one and it is not there yet. Errors are those of `checksum`."""
        if self._list is None and isinstance(self._wanted, SumsFile):
            self._list = self._read(self._wanted)

    def _read(self, wanted: SumsFile) -> str | bytes:
        try:
            return self._fetch(wanted.where) if wanted.is_url else files.read_bytes(wanted.where)
        except (OSError, DownloadError) as error:
            raise _not_found(f"{_what(wanted.where)} cannot be read: {error}", wanted.where) from error


def _decode(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    return data.removeprefix(codecs.BOM_UTF8).decode(errors="replace")


# A path has 4,096 bytes at most.
_LONGEST_LINE = 8192


def _entries(text: str) -> Iterable[_Entry]:
    filled = list(filter(None, _signed([line.strip() for line in re.split(r"[\r\n]", text)])))
    if len(filled) == 1 and len(filled[0]) >= 32 and _HEX.fullmatch(filled[0]):
        yield _Entry(None, None, filled[0].lower())
    for line in filled:
        if len(line) > _LONGEST_LINE:
            continue
        if found := _BSD.fullmatch(line):
            escaped, tag, name, digits = found.groups()
        elif found := _GNU.fullmatch(line):
            escaped, digits, name = found.groups()
            tag = None
        else:
            continue
        if escaped:
            name = _ESCAPE.sub(lambda match: _ESCAPED[match[1]], name)
        # A hyphen is the standard input, which has no name.
        yield _Entry(tag, None if name == "-" else name, digits.lower())


def _signed(lines: list[str]) -> list[str]:
    # What is outside of a signed text is not signed. Within it, "- " stands before a line that begins with a hyphen.
    if _SIGNED not in lines:
        return lines
    inner = lines[lines.index(_SIGNED) + 1 :]
    begin = next((number for number, line in enumerate(inner) if not line), len(inner))
    end = inner.index(_SIGNATURE) if _SIGNATURE in inner else len(inner)
    return [line.removeprefix("- ") for line in inner[begin:end]]


def _of_name(entries: list[_Entry], name: str) -> list[_Entry]:
    nameless = [entry for entry in entries if entry.name is None]
    if nameless and len(nameless) == len(entries):
        return nameless
    wanted = _last_part(name)
    named = [(entry, entry.name) for entry in entries if entry.name is not None]
    same = [(entry, said) for entry, said in named if _last_part(said) == wanted]
    # The list may call a file as it was not safe to call it here.
    same = same or [(entry, said) for entry, said in named if safe_name(said) == wanted]
    return [entry for entry, said in same if _is_bare(said)] or [entry for entry, _ in same]


def _last_part(name: str) -> str:
    return unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])


def _is_bare(name: str) -> bool:
    return not re.search(r"[/\\]", name.removeprefix("./"))


def _algorithm_of(entry: _Entry, asked: str | None, where: str) -> str | None:
    # What an entry's checksum was made with; None where that is not known, or impossible.
    if entry.tag is not None:
        said = [_SPELLINGS.get(_spelling(entry.tag))]
    else:
        in_name = [
            _SPELLINGS.get("blake2b" if it == "b2" else _spelling(it)) for it in _IN_A_NAME.findall(_file_name(where))
        ]
        by_length = [name for name, digits in _DIGITS.items() if digits == len(entry.hexdigest)]
        said = [asked] if asked is not None else [*in_name, *by_length]
    return next((name for name in said if name is not None and _DIGITS[name] == len(entry.hexdigest)), None)


def _file_name(where: str) -> str:
    return _last_part(urlsplit(where).path if _is_url(where) else where).lower()


def _spelling(name: str) -> str:
    return re.sub(r"[-_/]", "", name.strip().lower())


def _is_url(where: str) -> bool:
    return where.lower().startswith(("http://", "https://"))


def _what(where: str) -> str:
    return f"the list of checksums {where}"


def _has(entries: list[_Entry]) -> str:
    names = list(dict.fromkeys(entry.name for entry in entries if entry.name is not None))
    if not names:
        return "has no checksums"
    more = f" and {len(names) - _NAMES_TOLD} more" if len(names) > _NAMES_TOLD else ""
    return f"has checksums of {', '.join(map(repr, names[:_NAMES_TOLD]))}{more}"


def _not_found(message: str, where: str) -> ChecksumNotFound:
    return ChecksumNotFound(message, url=where if _is_url(where) else None)
