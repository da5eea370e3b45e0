"""A round: one scenario with some hundred stops, from a seed, that leaves nothing behind."""

from __future__ import annotations

import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from iointerrupt.testing import no_leaks
from tests.stress.stops import Alarm, Allowance, Crew, Limits, Stops, Tally

#: Seconds that what has been told to end has for it.
LEAK_SECONDS = 20.0

# By scenario and operation, over the rounds.
_learned: dict[str, dict[str, Limits]] = defaultdict(lambda: defaultdict(Limits))


@dataclass
class Round:
    """What a scenario is given.

    Attributes:
        rng: what is drawn in its main thread, before its workers run.
        allowance: its stops.
        alarm: what sets them.
        limits: what is known of its operations by now.
    """

    rng: random.Random
    allowance: Allowance
    alarm: Alarm
    limits: dict[str, Limits]
    _workers: list[Stops] = field(default_factory=list)

    def stops(self) -> Stops:
        """Those of one more worker."""
        stops = Stops(random.Random(self.rng.getrandbits(64)), self.alarm, self.allowance, self.limits)
        self._workers.append(stops)
        return stops

    def run(self, *workers: Callable[[], object], abort: Callable[[], object] | None = None) -> None:
        """Run workers, each in a thread, to their ends; see `Crew`."""
        Crew(self.allowance, abort).run(workers)

    def tally(self) -> Tally:
        """What became of all stops."""
        total = Tally()
        for stops in self._workers:
            total.add(stops.tally)
        return total


def play(name: str, scenario: Callable[[Round], None], stops: int, seed: int | str) -> Tally:
    """Run a scenario once.

    Args:
        name: of the scenario.
        scenario: what to run; it ends when the stops of the round are used up.
        stops: how many of them.
        seed: what everything is drawn from.

    Raises:
        AssertionError: something was lost, repeated, left behind, or is still blocked. Its note says from which seed.
    """
    rng = random.Random(f"{seed}")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(rng.choice((interval, 1e-4, 1e-5)))
    began = time.monotonic()
    try:
        with no_leaks(f"the scenario {name}", timeout=LEAK_SECONDS), Alarm() as alarm:
            one = Round(rng, Allowance(stops), alarm, _learned[name])
            scenario(one)
            return one.tally()
    except BaseException as error:
        error.add_note(f"in {name}, from seed {seed}, after {time.monotonic() - began:.1f} s")
        raise
    finally:
        sys.setswitchinterval(interval)
