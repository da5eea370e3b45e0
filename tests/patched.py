"""A block in which this process is patched, for the tests of `monkey`: the tests' own modules came before, and may be named."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from iointerrupt import monkey


@contextmanager
def patched(**parts: bool) -> Iterator[None]:
    """Patch all parts, or those that are not said to be False, and unpatch at the end."""
    assert not monkey.is_patched()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", monkey.PatchWarning)
        monkey.patch_all(**parts)
    try:
        yield
    finally:
        monkey.unpatch_all()
        assert not monkey.is_patched()
