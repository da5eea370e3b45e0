"""A short run of the stress programs; `make stress` is the long one."""

from __future__ import annotations

import random

import pytest

from tests.stress import calls


@pytest.mark.parametrize("name", calls.SCENARIOS)
def test_nothing_is_lost(name):
    """After some hundred random stops, every item, lock and child is accounted for."""
    seed = random.randrange(1 << 32)
    assert "none lost" in calls.run(name, stops=500, seed=seed), f"seed {seed}"
