"""The limit of bytes a second, shared by threads, and the speed of late; their sums with a clock of the test's own."""

from __future__ import annotations

import heapq
import math
import random
import threading
import time

import pytest

from iointerrupt import DeadlineExceeded, Interrupted, StopEvent, use_stop
from iointerrupt.downloads._rate import Account, Rate, Speed
from iointerrupt.testing import StopAfter, wait_until_blocked


class TestAccount:
    """The sums of a limit."""

    def test_who_comes_first_is_covered_first(self):
        """Each waits for what was paid before him and for his own bytes, and for nothing later."""
        account = Account(1000, 0)
        account.pay(100, 0)  # what may be saved up
        one, two, three = account.pay(500, 0), account.pay(1000, 0), account.pay(250, 0)
        assert [account.due(each, 0) for each in (one, two, three)] == pytest.approx([0.5, 1.5, 1.75])
        assert [account.due(each, 1) for each in (one, two, three)] == pytest.approx([0, 0.5, 0.75])
        assert [account.due(each, 2) for each in (one, two, three)] == [0, 0, 0]

    @pytest.mark.parametrize("idle", [0, 0.05, 0.1, 1, 1e6])
    def test_little_is_saved_up(self, idle):
        """However long nothing moves, a tenth of a second's worth can be had at once, and no more."""
        account = Account(1000, 0)
        assert account.due(account.pay(100, idle), idle) == 0
        assert account.due(account.pay(50, idle), idle) == pytest.approx(0.05)

    @pytest.mark.parametrize("rate", [0.25, 1, 3, 1000, 1e12])
    def test_a_byte_can_always_be_had(self, rate):
        """However low the limit is, a byte comes at last; the first one at once."""
        account = Account(rate, 0)
        assert account.due(account.pay(1, 0), 0) == 0
        receipt = account.pay(max(1, int(rate)), 0)
        assert 0 < account.due(receipt, 0) <= max(1, 1 / rate)
        assert account.due(receipt, max(1, 1 / rate)) == pytest.approx(0, abs=1e-9)

    def test_what_is_given_back_benefits_who_waits(self):
        """All who are behind come earlier by it; the sum of all stays what it is."""
        account = Account(1000, 0)
        account.pay(100, 0)
        account.pay(1000, 0)
        later = account.pay(1000, 0)
        account.give_back(900)
        assert account.due(later, 0) == pytest.approx(1.1)
        account.give_back(1100)
        assert account.due(later, 0) == pytest.approx(0)
        account.give_back(1_000_000)  # no more of that can be saved up than of anything else
        assert account.due(account.pay(200, 1), 1) == pytest.approx(0.1)

    def test_another_rate(self):
        """What has been waited for counts at the old rate, the rest at the new one."""
        account = Account(1000, 0)
        receipt = account.pay(1100, 0)
        assert account.due(receipt, 0.5) == pytest.approx(0.5)
        account.change(100, 0.5)
        assert account.due(receipt, 0.5) == pytest.approx(5)
        account.change(math.inf, 1.5)
        assert account.due(receipt, 1.5) == 0
        assert account.due(account.pay(1 << 40, 2), 2) == 0
        account.change(1000, 3)
        assert account.due(account.pay(1000, 3), 3) == pytest.approx(1)

    def test_a_clock_that_is_asked_out_of_order(self):
        """A moment before the last one changes nothing."""
        account = Account(1000, 10)
        receipt = account.pay(1100, 10)
        assert account.due(receipt, 10.5) == pytest.approx(0.5)
        assert account.due(receipt, 10.2) == pytest.approx(0.5)
        assert account.due(receipt, 11) == pytest.approx(0)

    def test_it_stays_exact(self):
        """After an exabyte it counts single bytes as at the beginning."""
        account = Account(1000, 0)
        account.change(math.inf, 1)
        account.pay(1 << 60, 1)
        account.change(1, 2)
        receipt = account.pay(2, 2)
        assert account.due(receipt, 2) == 2
        assert account.due(receipt, 3.5) == 0.5

    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("threads", [1, 3, 20])
    def test_together_they_keep_the_rate(self, seed, threads):
        """Threads that move as much as they can: never above the limit by more than a burst, and never below it."""
        rng = random.Random(seed)
        rate = rng.choice([100, 12_345, 1e9])
        account = Account(rate, 0)
        step = max(1, int(rate * 0.05))
        moved, now, waiting = 0, 0.0, []

        def begin(thread: int) -> None:
            count = rng.randint(1, step)
            receipt = account.pay(count, now)
            heapq.heappush(waiting, (now + account.due(receipt, now), thread, count, receipt))

        for thread in range(threads):
            begin(thread)
        while now < 30:
            now, thread, count, receipt = heapq.heappop(waiting)
            seconds = account.due(receipt, now)
            if seconds > 1e-9:
                heapq.heappush(waiting, (now + seconds, thread, count, receipt))
                continue
            if rng.random() < 0.2:  # it does not move them after all
                account.give_back(count)
            else:
                moved += count
            assert moved <= rate * (now + 0.1) + 1
            begin(thread)
        assert moved >= rate * now * 0.99 - threads * step


class TestRate:
    """Threads that wait."""

    @pytest.mark.parametrize(
        ("rate", "chunk"),
        [(0.1, 1), (1, 1), (20, 1), (39, 1), (40, 2), (1000, 50), (1e6, 50_000), (1e12, 1 << 20), (None, 1 << 20)],
    )
    def test_the_chunk(self, rate, chunk):
        """A twentieth of a second's worth, at least a byte, at most a mebibyte."""
        assert Rate(rate).chunk == chunk
        assert Rate(rate).bytes_per_second == rate

    def test_no_limit(self):
        """Nobody waits."""
        for unlimited in (Rate(), Rate(None), Rate(math.inf)):
            assert unlimited.bytes_per_second is None
            assert unlimited.take(1 << 60) == 0

    def test_it_waits(self):
        """It takes as long as the rate says, and tells how long that was."""
        rate = Rate(100_000)
        begin = time.monotonic()
        waited = sum(rate.take(rate.chunk) for _ in range(6))
        assert 0.2 - 0.001 <= waited <= time.monotonic() - begin

    def test_threads_share_it(self, background):
        """Together they move no more than one would."""
        rate = Rate(100_000)
        begin = time.monotonic()
        movers = [background(lambda: [rate.take(5000) for _ in range(2)]) for _ in range(4)]
        for mover in movers:
            mover.result()
        assert time.monotonic() - begin >= 0.3 - 0.001

    def test_a_stop_before(self):
        """With a stop that is set nothing is taken, even where nobody would have to wait."""
        stop = StopEvent()
        stop.set("enough")
        rate = Rate(10)
        with pytest.raises(Interrupted, match="enough"):
            rate.take(1, stop)
        with use_stop(stop), pytest.raises(Interrupted, match="enough"):
            rate.take(1)
        with pytest.raises(Interrupted):
            Rate().take(1, stop)
        assert rate.take(1) == 0

    @pytest.mark.parametrize("make", [StopEvent, threading.Event])
    def test_a_stop_while_it_waits(self, make, background):
        """However long it would have to wait, a stop ends it, and the next one finds what it had not taken."""
        stop, rate = make(), Rate(1000)
        mover = background(rate.take, 1 << 40, stop)
        wait_until_blocked(stop)
        stop.set()
        assert isinstance(mover.error(), Interrupted)
        begin = time.monotonic()
        rate.take(120)
        assert time.monotonic() - begin < 10

    def test_a_stop_lets_the_others_go(self, background):
        """Who waits behind one that is stopped no longer waits for that one's bytes."""
        first, second, rate = StopEvent(), StopEvent(), Rate(1000)
        large = background(rate.take, 1 << 40, first)
        wait_until_blocked(first)
        small = background(rate.take, 10, second)
        wait_until_blocked(second)
        first.set()
        assert isinstance(large.error(), Interrupted)
        assert small.result() < 10

    def test_every_place_to_stop(self):
        """Wherever a stop comes, it is raised and nothing is kept."""
        counting = StopAfter(1000)
        Rate(1000).take(110, counting)
        assert counting.checks >= 2
        for n in range(1, counting.checks + 1):
            rate = Rate(1000)
            with pytest.raises(Interrupted):
                rate.take(110, StopAfter(n))
            assert rate.take(100) == 0

    def test_a_deadline(self):
        """One that passes while it waits is raised as such."""
        with pytest.raises(DeadlineExceeded):
            Rate(1).take(1 << 40, StopEvent(timeout=0.01))

    @pytest.mark.parametrize("fast", [1e15, None])
    def test_another_rate_while_they_wait(self, fast, background):
        """It holds at once, for all who wait."""
        stop, rate = StopEvent(), Rate(1)
        movers = [background(rate.take, 1 << 40, stop) for _ in range(3)]
        wait_until_blocked(stop, 3)
        rate.bytes_per_second = fast
        assert rate.bytes_per_second == fast
        for mover in movers:
            mover.result()

    @pytest.mark.parametrize("wrong", [0, -1, math.nan])
    def test_wrong_numbers(self, wrong):
        """A limit that is none is refused, and the old one stays."""
        with pytest.raises(ValueError, match="bytes_per_second must be more than 0, not"):
            Rate(wrong)
        rate = Rate(5)
        with pytest.raises(ValueError, match="more than 0"):
            rate.bytes_per_second = wrong
        assert rate.bytes_per_second == 5

    @pytest.mark.parametrize("wrong", ["1", True, b"", [], 1j])
    def test_what_is_no_number(self, wrong):
        """It is refused as such."""
        with pytest.raises(TypeError, match="bytes_per_second must be a number or None, not"):
            Rate(wrong)


class TestSpeed:
    """How fast bytes have come of late."""

    def test_at_the_beginning(self):
        """Nothing can be said of no time at all."""
        assert Speed().value(5) == 0
        assert Speed(begin=5).value(5) == 0
        speed = Speed(begin=5)
        speed.add(100, 5)
        assert speed.value(5) == 0
        assert speed.value(5.5) == pytest.approx(200)

    def test_bytes_of_before(self):
        """Without a beginning, those of the first call do not count, as nobody knows how long they took."""
        speed = Speed()
        speed.add(1 << 40, 5)
        speed.add(100, 6)
        assert speed.value(6) == pytest.approx(100)

    @pytest.mark.parametrize("window", [0.5, 3, 10])
    @pytest.mark.parametrize("step", [0.001, 0.0499, 0.25, 0.7])
    def test_a_steady_stream(self, window, step):
        """It is what it is, from the first seconds on and for ever."""
        speed = Speed(window, begin=1000)
        for number in range(1, 2000):
            now = 1000 + number * step
            speed.add(int(1e6 * step), now)
            # A step may be wholly in the window of which it took only a part of.
            assert speed.value(now) == pytest.approx(1e6, rel=0.01 + step / min(window * 0.95, number * step + 1e-9))

    def test_it_forgets(self):
        """What is longer ago than the window does not count."""
        speed = Speed(10, begin=0)
        speed.add(1000, 0.1)
        assert speed.value(5) == pytest.approx(200)
        assert speed.value(9.9) == pytest.approx(1000 / 9.9)
        assert speed.value(10.6) == 0
        assert speed.value(1e9) == 0
        speed.add(190, 1e9)
        assert speed.value(1e9) == pytest.approx(20, rel=0.06)

    def test_a_change_shows(self):
        """A window after a change the speed is the new one."""
        speed = Speed(2, begin=0)
        now = 0.0
        for rate in (1000, 100, 100_000):
            for _ in range(210):
                now += 0.01
                speed.add(rate // 100, now)
            assert speed.value(now) == pytest.approx(rate, rel=0.02)

    def test_pauses_do_not_count(self):
        """What was waited for the limit is no time of the server's."""
        speed = Speed(10, begin=0)
        now = 0.0
        for _ in range(100):
            now += 0.1
            speed.add(100, now)
            now += 4
            speed.pause(4)
        assert speed.value(now) == pytest.approx(1000, rel=0.02)

    def test_too_long_a_pause(self):
        """Nothing goes backward by it."""
        speed = Speed(10, begin=0)
        speed.add(100, 1)
        speed.pause(1e6)
        assert speed.value(1) == pytest.approx(100, rel=0.6)
        speed.add(100, 1.5)
        assert speed.value(2) > 0

    def test_a_clock_that_is_asked_out_of_order(self):
        """A moment before the last one is as good as that."""
        speed = Speed(10, begin=0)
        speed.add(100, 5)
        speed.add(100, 4)
        assert speed.value(5) == pytest.approx(40)

    def test_below(self):
        """Only after a whole window it is known, and then at every moment."""
        speed = Speed(10, begin=0)
        assert not speed.is_below(100, 0)
        speed.add(500, 5)
        assert not speed.is_below(100, 9.99)
        assert speed.is_below(100, 10.01)
        assert not speed.is_below(50, 10.01)
        speed.add(2000, 11)
        assert not speed.is_below(100, 11)
        assert speed.is_below(100, 30)

    def test_below_with_pauses(self):
        """They are no part of the window."""
        speed = Speed(10, begin=0)
        speed.pause(1000)
        assert not speed.is_below(100, 1000)
        assert not speed.is_below(100, 1009)
        assert speed.is_below(100, 1011)

    def test_its_memory_stays_the_same(self):
        """However much is counted."""
        speed = Speed(begin=0)
        for number in range(10_000):
            speed.add(1, number / 100)
        assert len(speed._slices) == 20
