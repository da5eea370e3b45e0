"""What `get` is to fetch: the URLs of the command line and of a list, each with its place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import click

from iointerrupt._cli.values import check_url


@dataclass(frozen=True)
class Wanted:
    """One file to fetch.

    Attributes:
        url: from where.
        dest: the file, or with a separator at its end the folder, empty for the current one; None for standard output.
        listed: whether it is from a list.
    """

    url: str
    dest: str | None
    listed: bool = False


def wanted(urls: Sequence[str], lists: Sequence[str], output: str | None, folder: str | None) -> list[Wanted]:
    """All of them, in their order.

    Args:
        urls: those of the command line.
        lists: names of files, "-" for standard input.
        output: the option of that name.
        folder: that of `--dir`; it is made where it is not there.

    Raises:
        click.UsageError: a line of a list cannot be understood or leads out of the folder, or there is no folder to be had.
    """
    base = os.path.join(folder, "") if folder else ""
    found = [Wanted(url, base) for url in urls]
    for name in lists:
        found += [Wanted(url, dest, listed=True) for url, dest in _read(name, base)]
    if output is not None:
        if len(found) > 1:
            raise click.UsageError(f"-o names one file, and there are {len(found)} URLs; -d names a folder for them")
        found = [Wanted(each.url, None if output == "-" else os.path.join(base, output), each.listed) for each in found]
    for each in found:
        if each.dest is not None and (parent := os.path.dirname(each.dest)) and (each.listed or folder):
            _make(parent)
    return found


def _make(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise click.UsageError(f"{folder!r} cannot be made a folder: {error.strerror}") from None


def _read(name: str, base: str) -> Iterator[tuple[str, str]]:
    """The URLs of a list, each with its place in the folder `base`.

    Raises:
        click.UsageError: it cannot be read, or one of its lines cannot be understood.
    """
    shown = "standard input" if name == "-" else name
    try:
        # Closing a file that it was given would close standard input.
        with open(sys.stdin.fileno() if name == "-" else name, "rb", closefd=name != "-") as file:
            data = file.read()
    except OSError as error:
        raise click.UsageError(f"{shown}: {error.strerror}") from None
    text = data.decode("utf-8-sig", "surrogateescape")
    for number, line in enumerate(text.split("\n"), 1):
        if not (line := line.strip()) or line.startswith("#"):
            continue
        url, *rest = line.split(None, 1)
        try:
            yield check_url(url), _place(base, rest[0]) if rest else base
        except ValueError as error:
            raise click.UsageError(f"{shown}, line {number}: {error}") from None


def _place(base: str, name: str) -> str:
    """The place that a list names.

    Raises:
        ValueError: it is none in the folder, or none that is safe.
    """
    from iointerrupt.downloads._names import parts_below  # noqa: PLC0415 - what is not from a list needs it not

    parts = parts_below(name)
    place = os.path.join(base, *parts)
    is_folder = os.path.isdir(place)
    if is_folder or len(parts) > 1:  # a link in the place of the file itself is never followed
        folder, root = os.path.realpath(place if is_folder else os.path.dirname(place)), os.path.realpath(base)
        if os.path.commonpath([root, folder]) != root:
            raise ValueError(f"{name!r} leads out of the folder: there is a link to {folder!r}")
    return place
