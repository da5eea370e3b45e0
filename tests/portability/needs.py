"""A plugin for pytest: skips the tests of what this system lacks, which would say nothing but that it is so.

    python -m pytest -p tests.portability.needs

It asks the system, so that it does the same on another one as where `tests.portability` has taken something away.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.portability.absent import NEEDS
from tests.portability.lacking.sitecustomize import is_missing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is to be skipped."""
    needs = [(prefix, part) for part, prefixes in NEEDS.items() if is_missing(part) for prefix in prefixes]
    for item in items:
        names = set(_names_of(item))
        for prefix, part in needs:
            if prefix in names:
                item.add_marker(pytest.mark.skip(reason=f"it is about {part}, which this system lacks"))


def _names_of(item: pytest.Item) -> Iterator[str]:
    # file, file::test[parameters], file::test, file::Class::test[parameters], and so on.
    file, *rest = item.nodeid.removeprefix("tests/").split("::")
    yield file
    for depth in range(1, len(rest) + 1):
        name = "::".join((file, *rest[:depth]))
        yield name
        yield name.partition("[")[0]
