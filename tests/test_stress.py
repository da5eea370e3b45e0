"""A short run of the stress programs; `make stress` is the long one."""

from __future__ import annotations

import random
import re

import pytest

from tests.stress import calls


@pytest.mark.parametrize("name", calls.SCENARIOS)
def test_nothing_is_lost(name):
    """After some hundred random stops, every item, lock and child is accounted for."""
    seed = random.randrange(1 << 32)
    said = calls.run(name, stops=500, seed=seed)
    assert "none lost" in said, f"seed {seed}"
    stops = re.search(r"(\d+) stops", said)
    assert stops is not None
    assert int(stops[1]) >= calls.LEAST
