"""Sizes and times as people read and write them: "2M", "12.3 MiB", "1:05". Units are binary: 1k is 1,024 bytes."""

from __future__ import annotations

import re

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])i?)?b?", re.IGNORECASE)
_UNITS = "kmgt"


def parse_size(text: str) -> int:
    """Bytes, of "500", "500k", "2M", "1.5GiB".

    Raises:
        ValueError: it is no such number, or less than a byte.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is no size")
    number, unit = found.groups()
    size = int(float(number) * 1024 ** (_UNITS.index(unit.lower()) + 1 if unit else 0))
    if size < 1:
        raise ValueError(f"{text!r} is less than a byte")
    return size


def show_size(size: float) -> str:
    """Bytes in their largest unit, such as "12.3 MiB"."""
    if size < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if size < 999.95:
            return f"{size:.1f} {unit}"
    return f"{size / 1024:.1f} TiB"


def show_rate(speed: float) -> str:
    """Bytes a second, such as "4.1 MiB/s"."""
    return f"{show_size(speed)}/s"


def show_time(seconds: float) -> str:
    """Seconds as "0:07", "12:30" or "1:02:03"; beyond 99 hours, days."""
    whole = round(seconds)
    if whole >= 100 * 3600:
        return f"{whole // 86400} days"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
