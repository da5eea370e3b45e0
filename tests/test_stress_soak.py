"""A short soak, and that the trend which is computed from its samples is right; `make soak` is the long run."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.stress import soak, trend
from tests.stress.samples import MEASURES, Series
from tests.stress.soak import Counts, Record
from tests.stress.trend import Trend, fit

MINUTES = [number / 4 for number in range(40)]


def record_of(**taken):
    """What a run of ten minutes has to show that took so much at rest, each in its order; what is not said was always the same."""
    record = Record()
    record.resting.minutes = record.busy.minutes = MINUTES
    for name in MEASURES:
        values = taken.get(name.replace(" ", "_"), [200.0] * len(MINUTES))
        record.resting.taken[name] = record.busy.taken[name] = values
    record.under_way = [3] * len(MINUTES)
    record.counts.add("completed", 77)
    return record


class TestTrend:
    """The slope of samples, and the interval in which it is."""

    def test_a_line(self):
        """Of samples on a line the slope is exact, per minute, and the interval nothing."""
        found = fit(MINUTES, [100 + 2 * minute for minute in MINUTES])
        assert found.slope == pytest.approx(2)
        assert found.margin == pytest.approx(0, abs=1e-9)
        assert found.level == pytest.approx(100 + MINUTES[-1])

    def test_the_interval_is_right_as_often_as_it_says(self):
        """Of many series with noise, the true slope lies in the interval in 95 % of the cases."""
        rng = random.Random(5)
        hits = 0
        for _ in range(400):
            found = fit(MINUTES[:8], [50 + 3 * minute + rng.gauss(0, 4) for minute in MINUTES[:8]])
            hits += abs(found.slope - 3) <= found.margin
        assert 0.92 < hits / 400 < 0.98

    @pytest.mark.parametrize(
        ("freedom", "quantile"), [(1, 12.7062), (3, 3.1824), (10, 2.2281), (30, 2.0423), (1000, 1.9623)]
    )
    def test_student(self, freedom, quantile):
        """The quantiles are those of the tables."""
        assert trend._student(freedom) == pytest.approx(quantile, rel=0.03 if freedom == 3 else 1e-3)

    def test_too_few(self):
        """Of two samples nobody can say how sure it is."""
        with pytest.raises(ValueError, match="takes 3 samples to tell, and there are 2"):
            fit([0.0, 1.0], [5.0, 5.0])

    @pytest.mark.parametrize(
        ("slope", "margin", "flat"), [(0, 1, True), (5, 6, True), (-5, 1, True), (0.5, 0.1, True), (5, 1, False)]
    )
    def test_flat(self, slope, margin, flat):
        """Flat is what may as well not grow, and what grows by less than the limit."""
        assert Trend(100, slope, margin).is_flat(1.0) is flat

    def test_a_leak_of_each_transfer_is_seen(self):
        """Some hundred bytes that each transfer leaves behind make the verdict, beneath a noise that is much more than that."""
        rng = random.Random(7)
        record = record_of(
            # 15,000 transfers a minute, 300 bytes each
            live_memory=[20_000 + 15_000 * minute * 300 / 1024 + rng.gauss(0, 1000) for minute in MINUTES],
            resident_memory=[40_000 + rng.gauss(0, 1000) for _ in MINUTES],
        )
        said = soak.report(soak.trends(record, 0), 15_000)
        assert re.findall(r"^(\w+).*IT GROWS", said, re.MULTILINE) == ["live"]
        assert re.findall(r"^(\w+).*flat", said, re.MULTILINE) == ["resident", "descriptors", "threads"]

    def test_the_warm_up_is_not_judged(self):
        """What grows in the first minutes alone is flat."""
        record = record_of(live_memory=[min(minute, 2.0) * 10_000 for minute in MINUTES])
        assert not soak.trends(record, 0)["live memory"].is_flat(1.0)
        assert soak.trends(record, 2)["live memory"].slope == pytest.approx(0)


def test_drawing(tmp_path):
    """The picture is an SVG whose texts are texts, in a colour for light and one for dark, and the same for the same samples."""
    pytest.importorskip("matplotlib")
    program = """
import sys
from tests.stress.trend import Row, draw, fit
samples = list(range(300)), [100 + minute % 7 for minute in range(300)]
for path in sys.argv[1:]:
    draw(path, "a title", 60, [Row("what", "units", samples, samples, fit(*samples), 1)] * 2)
"""
    paths = [str(tmp_path / name) for name in ("one.svg", "two.svg")]
    # In a process of its own: matplotlib keeps its fonts open.
    subprocess.run([sys.executable, "-c", program, *paths], check=True, timeout=50)
    pictures = [Path(path).read_text(encoding="utf-8") for path in paths]
    assert pictures[0] == pictures[1]
    texts = [element.text for element in ET.fromstring(pictures[0]).iter("{http://www.w3.org/2000/svg}text")]
    assert "a title" in texts
    assert "minutes" in texts
    assert "prefers-color-scheme: dark" in pictures[0]


@pytest.mark.timeout(120)
class TestSoak:
    """Transfers from all servers at once."""

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch):
        """A rest each second."""
        monkeypatch.setattr(soak, "REST", 1)

    def test_short(self):
        """For some rests all is as it should be, and nothing is left behind."""
        record = soak.run(transfers=12, rests=3, seed=1)
        for series in (record.busy, record.resting):
            assert len(series.minutes) >= 3
            assert all(len(taken) == len(series.minutes) for taken in series.taken.values())
        assert record.counts.outcomes["completed"]
        assert record.counts.outcomes["stopped"]
        assert record.counts.checked

    def test_what_is_taken_at_rest(self, monkeypatch):
        """A descriptor that some transfers leave open, and memory that they keep, are seen in what is taken when nobody transfers."""
        kept, left = [], []
        add = Counts.add

        def leaking(self, outcome, checked):
            kept.append(bytearray(100_000))
            left.append(os.dup(0))
            add(self, outcome, checked)

        monkeypatch.setattr(Counts, "add", leaking)
        monkeypatch.setattr(soak, "LEAK_SECONDS", 0.0)
        records = []  # the one that samples are added to, each time
        take = Series.take
        monkeypatch.setattr(Series, "take", lambda self, minutes: (records.append(self), take(self, minutes)))
        try:
            with pytest.raises(AssertionError, match="left behind"):
                soak.run(transfers=4, rests=2, seed=1)
        finally:
            for fd in left:
                os.close(fd)
        resting = records[-1]
        for name, each in (("descriptors", 1), ("live memory", 90)):
            first, last = resting.taken[name]
            assert last >= first + each, name

    def test_what_is_not_what_was_sent(self, monkeypatch):
        """A byte that is another one ends the run."""
        monkeypatch.setattr(soak, "body", lambda: bytes(soak.SIZE))
        with pytest.raises(AssertionError, match="are not those that were sent"):
            soak.run(transfers=4, rests=40, seed=1)

    def test_what_is_left_behind(self, monkeypatch):
        """A descriptor that one transfer in hundreds leaves open is found in the end."""
        left = []
        add = Counts.add

        def leaking(self, outcome, checked):
            if not left:
                left.append(os.dup(0))
            add(self, outcome, checked)

        monkeypatch.setattr(Counts, "add", leaking)
        monkeypatch.setattr(soak, "LEAK_SECONDS", 0.5)
        try:
            with pytest.raises(AssertionError, match=r"the soak left behind:\n  descriptor"):
                soak.run(transfers=4, rests=1, seed=1)
        finally:
            for fd in left:  # of two threads that end at once, each may have left one
                os.close(fd)

    def test_command(self, monkeypatch, capsys):
        """The command prints what it found, and its exit code says whether something grows."""
        monkeypatch.setenv("PYTHONMALLOC", "malloc")  # else it would begin again, with that
        monkeypatch.setattr("sys.argv", ["soak"])
        monkeypatch.setattr(soak, "run", lambda **_: record_of())
        assert soak.main() == 0
        said = capsys.readouterr().out
        assert re.search(r"live memory +200\.0 KiB on average, \+0\.000 ± 0\.000 KiB a minute: flat", said)
        monkeypatch.setattr(soak, "run", lambda **_: record_of(threads=MINUTES))
        monkeypatch.setitem(soak.LIMITS, "threads", 0.5)
        assert soak.main() == 1
        assert "IT GROWS" in capsys.readouterr().out
