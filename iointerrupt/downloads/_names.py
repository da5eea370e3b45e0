"""What a download is called when the user does not say: a name from the server's answer or the URL, made safe. Pure.

The name is chosen by somebody else, and what it names is written to a folder of the user's, who then lists it, opens it, deletes
it, and shares it with other systems. So every name from here

- names a file in that very folder: it has no separator, no drive, and is not `.` or `..`;
- can be made on any system: no device of Windows (which are not files there, whatever their suffix), none of the characters that
  its file systems refuse or take for a stream of another file, no dot or blank at the end, no more than 240 bytes;
- does no harm in a shell or a listing: it is not hidden, no option and no home folder; nothing in it is invisible or turns the
  direction of what follows, so it is what it looks like;
- is not that of a part file, nor of what is kept beside one: a server cannot make one download write into another.

What cannot be seen goes, and so do separators with all before them; what can be seen becomes `_`, and the suffix stays.
"""

from __future__ import annotations

import re
import unicodedata
from email.message import Message
from typing import Any
from urllib.parse import unquote, urlsplit

#: The name of what has none of its own.
DEFAULT_NAME = "download"

#: The longest name, in bytes of UTF-8: file systems take 255, and `.part.json.new` is added to it for a while.
MAX_NAME = 240

# The standard library takes quadratic time for a header of many quotes and semicolons. This is room for 5,000 characters, each
# written as `%XX`, and takes it a moment only.
_LONGEST_HEADER = 16_384

# What a header's name may be coded in: RFC 8187 knows the first, RFC 5987 before it both.
_CHARSETS = {"": "utf-8", "utf-8": "utf-8", "iso-8859-1": "iso-8859-1"}

# Joiners are what emoji, Persian and the scripts of India are written with; at an end they join nothing.
_JOINERS = "\u200c\u200d"
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}

# What is drawn as nothing although its category is that of letters, marks or symbols. By category it cannot be told, and the
# property is not in the standard library: it is Default_Ignorable_Code_Point of Unicode 16 without what is Cf, unassigned ones
# included, as what they will be is ignored as well. Of these are fillers (U+3164), which stand for a letter that is missing,
# and variation selectors, without which a character is still that character. The last line is what else has no ink: the
# braille pattern without dots, and the note without a head.
_WITHOUT_INK = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2060-\u206f\u3164\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff"
    "\u2800\U0001d159]"
)

_REFUSED_BY_WINDOWS = str.maketrans(dict.fromkeys('"*:<>?|', "_"))
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CLOCK$", "CONIN$", "CONOUT$"} | {
    f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³"
}

# An ending that says what the file is; two where the first one is a package within the second.
_EXTENSION = re.compile(r"(?:\.tar)?\.[^.\s]{1,20}\Z")

# The endings of the files beside a download, whatever their case: some file systems do not tell.
_SIDE_FILE = re.compile(r"\.(part(?:\.json(?:\.new)?)?)\Z", re.IGNORECASE)


def name_for(url: str, content_disposition: str | None = None) -> str:
    """The name for what came from `url`: that of the header, or else the last part of the URL, or else "download".

    Args:
        url: where it came from, http or https. Its query is ignored.
        content_disposition: the header of that name (RFC 6266), decoded as Latin-1, as http.client does it.
    """
    candidates = [*_names_in_header(content_disposition or ""), _name_in_url(url)]
    return next(filter(None, map(safe_name, candidates)), DEFAULT_NAME)


def parts_below(name: str) -> list[str]:
    """The parts of a name below a folder, NAME or FOLDER/NAME, that is given beside a URL.

    Whoever gives it may have it from elsewhere, so that it is no more trusted than one of a server. It is not replaced by
    another, though, as it was written to be found again; but for its normal form, so that no two look alike.

    Raises:
        ValueError: it is none in the folder, or none that is safe.
    """
    parts = name.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError(f"{name!r} is no name below the folder; accepted are NAME and FOLDER/NAME")
    safe = [safe_name(part) or "_" for part in parts]
    if safe != [unicodedata.normalize("NFC", part) for part in parts]:
        raise ValueError(f"{name!r} is no safe name; accepted is, for instance, {'/'.join(safe)!r}")
    return safe


def safe_name(candidate: str) -> str | None:
    """The name that is the nearest to `candidate` and safe in any folder; None where nothing of it is left.

    What is safe stays as it is, but for its normal form: it becomes NFC, so that one name is not two files that look alike.
    """
    name = re.split(r"[/\\]", candidate)[-1]
    name = "".join(c for c in name if c in _JOINERS or unicodedata.category(c) not in _INVISIBLE)
    name = _WITHOUT_INK.sub("", name)
    # Only now, so that nothing appears by what was taken out; and everything else after it, for the same reason.
    name = _trim(unicodedata.normalize("NFC", name)).translate(_REFUSED_BY_WINDOWS)
    fitting = _fit(name)
    if fitting.partition(".")[0].rstrip().upper() in _DEVICES:
        fitting = _fit(f"_{name}")
    return fitting or None


def _trim(name: str) -> str:
    # Not by regular expressions, whose `\s+$` takes quadratic time.
    start, end = 0, len(name)
    while start < end and (name[start] in ".-~" or _is_blank(name[start])):
        start += 1
    while start < end and (name[end - 1] == "." or _is_blank(name[end - 1])):
        end -= 1
    return name[start:end]


def _is_blank(character: str) -> bool:
    return character.isspace() or character in _JOINERS


def _fit(name: str) -> str:
    if len(name.encode()) > MAX_NAME:
        found = _EXTENSION.search(name, max(0, len(name) - 25))
        extension = found[0] if found else ""
        stem = name.removesuffix(extension).encode()[: MAX_NAME - len(extension.encode())]
        # What is left of a character that was cut in half is ignored.
        name = _trim(stem.decode(errors="ignore")) + extension
    return _SIDE_FILE.sub(r"_\1", name)  # last, as cutting may have made one


def _names_in_header(value: str) -> list[str]:
    # The one that tells its coding first (RFC 6266, 4.3), even though the other one may stand before it.
    if len(value) > _LONGEST_HEADER:
        return []
    message = Message()
    message["Content-Disposition"] = value
    try:
        parameters: Any = message.get_params([], "Content-Disposition")
    except (ValueError, TypeError):  # a continuation whose number is none; a name both with and without continuations
        return []
    extended, plain = [], []
    for key, said in parameters:
        if key.lower() != "filename":
            continue
        if isinstance(said, tuple):
            extended += _decoded(said[2], said[0] or "")
        else:
            # Without a coding it should be Latin-1, and often is UTF-8, which hardly anything else looks like.
            plain += _decoded(str(said), "") or [str(said)]
    return extended + plain


def _decoded(latin: str, charset: str) -> list[str]:
    # At most one; none where the bytes are not what they are called, as a part of a name would be another name.
    coding = _CHARSETS.get(charset.lower())
    try:
        return [latin.encode("latin-1").decode(coding)] if coding else []
    except UnicodeError:
        return []


def _name_in_url(url: str) -> str:
    # A `%2F` in it is a separator once it is decoded, which is done once only: `%252F` is a name with a percent sign.
    last = urlsplit(url).path.rpartition("/")[2]
    try:
        return unquote(last, errors="strict")
    except UnicodeDecodeError:
        return unquote(last, "latin-1")
