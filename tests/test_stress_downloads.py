"""A short run of the downloads that are killed, of which `make stress` is the long one; and that their checks notice what is wrong."""

from __future__ import annotations

import random

import pytest

from tests import nginx
from tests.stress import downloads
from tests.stress.places import Place, Served

# By name: how many kills there are, and with how many segments. What these do not show is left to the long run.
SHORT = {
    "kill": (12, 4),
    "changing file": (12, 1),
    "power cuts": (8, 4),
    "signals": (8, 1),
    "command line": (3, 1),
}


@pytest.mark.parametrize("name", SHORT)
def test_a_download_survives_kills(name, tmp_path):
    """After each kill, what is left is true; and what is made of it in the end is what the server has."""
    if nginx.why_not():
        with nginx.serving(tmp_path):  # skips or fails
            pass
    kills, segments = SHORT[name]
    seed = random.randrange(1 << 32)
    try:
        said = downloads.run(name, segments, kills, seed, timed=False)
    except AssertionError as error:
        error.add_note(f"seed {seed}")
        raise
    assert f"{kills} kills" in said


class TestChecks:
    """What is left of a download is looked at so closely that nothing escapes."""

    @pytest.fixture
    def served(self, tmp_path):
        """What the server has: 1000 bytes."""
        return Served(str(tmp_path), 1000, random.Random(1))

    @pytest.fixture
    def place(self, tmp_path, served):
        """Where nothing is yet."""
        return Place(str(tmp_path / "got"), served)

    def test_nothing(self, place):
        """Where nothing is, all of it is missing."""
        left = place.look()
        assert (left.etag, left.claims, left.missing, left.unsaved) == (None, [], 1000, 0)
        assert not place.is_done()

    def test_claims_that_are_true(self, place, served):
        """What is claimed, what is missing, and what is there without being claimed are told apart."""
        part = served.content[:300] + bytes(300) + served.content[600:650]
        place.leave(part, [[0, 200, 0, 600], [600, 650, 600, 1000]])
        left = place.look()
        assert left.etag == served.etag
        assert left.claims == [(0, 200), (600, 650)]
        assert (left.claimed, left.missing, left.unsaved) == (250, 750, 100)

    @pytest.mark.parametrize("wrong", [0, 199, 620])
    def test_a_byte_that_is_not_there(self, place, served, wrong):
        """A single byte that is claimed and is another one is noticed."""
        part = bytearray(served.content[:650])
        part[wrong] ^= 1
        place.leave(bytes(part), [[0, 200, 0, 600], [600, 650, 0, 1000]])
        with pytest.raises(AssertionError, match="are claimed, and not what was sent"):
            place.look()

    def test_a_part_that_is_too_short(self, place, served):
        """So is one that is behind the end of the part."""
        place.leave(served.content[:199], [[0, 200, 0, 1000]])
        with pytest.raises(AssertionError, match="are claimed, and not what was sent"):
            place.look()

    def test_a_torn_record(self, place, served, tmp_path):
        """A record that is not whole is noticed, unless a power cut has torn it."""
        place.leave(served.content[:200], [[0, 200, 0, 1000]])
        record = tmp_path / "got.part.json"
        record.write_bytes(record.read_bytes()[:-3])
        with pytest.raises(AssertionError, match="torn"):
            place.look()

    def test_a_file_that_is_not_complete(self, place, served, tmp_path):
        """A file under the final name that is not what the server had is noticed; one that it had is right."""
        old = served.content
        served.change()
        (tmp_path / "got").write_bytes(old)
        assert place.is_done()
        (tmp_path / "got").write_bytes(served.content[:-1])
        with pytest.raises(AssertionError, match="not what the server had"):
            place.is_done()

    @pytest.mark.parametrize("seed", range(8))
    def test_a_power_cut_leaves_what_was_synced(self, place, served, seed):
        """Of each piece that is kept which was synced, and nothing else is claimed; a record that it has torn claims nothing."""
        place.leave(served.content[:900], [[0, 500, 300, 600], [600, 900, 700, 1000]])
        place.lose_power(random.Random(seed))
        assert place.look().claims in ([(0, 300), (600, 700)], [])
