"""Downloads whose process is killed again and again, at random instants; a byte-for-byte look at what that leaves.

    python -m tests.stress.downloads [--kills N] [--seed SEED] [--segments N] [SCENARIO ...]

In each scenario a child process downloads a file from an nginx that limits the rate of each connection. It is killed, what it
has left behind is compared with what the server has, and another child goes on: until there have been enough kills, when
the last one is let finish. The lives of the children are drawn so that one download outlasts all kills, from before its first
byte until near its end; should it end sooner, another one is begun, and the line that a scenario prints says so.

What is looked at after each kill:

- the record is whole, and claims no byte that is not in the part, byte for byte;
- a file with the final name is not there, or complete;
- the next child asks for no byte that is claimed.

What is sent and not claimed afterwards has to be sent again. How much that was is counted: what the killed process had
written since its record was last saved, and what was still in the sockets.

The seed decides when children are killed and what else befalls them; the rest is left to the scheduler.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass

from iointerrupt.testing import no_leaks
from tests import nginx
from tests.altered_nginx import SMOOTH, AlteredNginx
from tests.stress.nursery import STOPPED, Job, Nursery
from tests.stress.places import Left, Place, Served

_SMALL, _LEAST_SIZE = 3 << 19, 9 << 19  # bytes; less than the latter is not worth four segments
_SIZE_FOR_A_KILL = 64 << 10
# Bytes a second, of all connections together. nginx counts in whole milliseconds: a chunk has to take some, or it is too fast.
_RATE = 4_096_000
_CHUNK = 8 << 10  # that it sends at a time

# Seconds after which a child is killed at the latest.
_LONGEST = 0.5

# Seconds between two times that the record is saved while bytes come; and between a signal and its effect, on average.
_SAVED_EVERY, _BUSY = 0.05, 0.1

# Kills in a scenario, however small its part of them.
_LEAST = 3


@dataclass(frozen=True)
class Scenario:
    """What befalls a download.

    Attributes:
        part: of the kills that were asked for.
        signals: what children are killed with, one of them at a time. With others than SIGKILL they stop in an orderly way.
        command: whether it is `iointerrupt get` that is killed.
        afresh: whether each child is a fresh interpreter, in place of a fork.
        small: whether there are many small files at full speed, so that a life ends at any point of a whole download.
        changes: how probable it is that the file changes on the server, while a child lives or between two of them.
        power_cuts: how probable a power cut is after a kill.
    """

    part: float
    signals: tuple[int, ...] = (signal.SIGKILL,)
    command: bool = False
    afresh: bool = False
    small: bool = False
    changes: float = 0.0
    power_cuts: float = 0.0

    @property
    def start(self) -> float:
        """The seconds that a child takes to begin, about."""
        return 0.3 if self.afresh else 0.012


_ORDERLY = (signal.SIGINT, signal.SIGTERM)

SCENARIOS = {
    "kill": Scenario(1.0),
    "small files": Scenario(0.5, small=True),
    "command line": Scenario(0.2, command=True),
    "fresh interpreters": Scenario(0.05, afresh=True),
    "changing file": Scenario(0.3, changes=0.2),
    "power cuts": Scenario(0.3, power_cuts=0.3),
    "signals": Scenario(0.3, signals=_ORDERLY),
    "signals, command line": Scenario(0.2, signals=_ORDERLY, command=True),
}

#: The scenario in which nothing is left to chance.
EVERY_STEP = "every step"


class Run:
    """One run of a scenario.

    Args:
        scenario: what befalls the downloads.
        segments: with how many they are done.
        kills: how many there are to be.
        seed: of all that is drawn.
        folder: for all files.
        timed: whether to judge how many bytes are sent again, which depends on how busy the machine is.
    """

    def __init__(
        self, scenario: Scenario, segments: int, kills: int, seed: int, folder: str, *, timed: bool = True
    ) -> None:
        self._scenario, self._segments, self._kills, self._timed = scenario, segments, kills, timed
        self._chance = random.Random(seed)
        self._folder = folder
        self._served_folder = os.path.join(folder, "served")
        os.mkdir(self._served_folder)
        size = _SMALL if scenario.small else max(_LEAST_SIZE, kills * _SIZE_FOR_A_KILL)
        self._served = Served(self._served_folder, size, self._chance)
        self._killed = self._finished = self._changes = self._power_cuts = 0
        self._sent = self._needed = 0  # bytes, of all children and of all files
        self._again: list[int] = []  # bytes that have to be sent again after a kill
        self._unsaved: list[int] = []  # those of them that had been written

    def do(self) -> str:
        """Do it; return what happened."""
        with (
            AlteredNginx(self._served_folder, SMOOTH, rate=str(_RATE // self._segments)) as self._server,
            Nursery(afresh=self._scenario.afresh) as self._nursery,
        ):
            while self._killed < self._kills:
                self._download()
        if self._timed:
            self._check_again()
        return self._said()

    def _download(self) -> None:
        """Download one file, under as many kills as are left or as it takes."""
        place = Place(os.path.join(self._folder, f"file{self._finished}"), self._served)
        left: Left | None = Left(missing=len(self._served.content))
        while left is not None:
            if self._happens(self._scenario.changes / 2):
                self._change()
            left = self._live(place, left)

    def _live(self, place: Place, before: Left) -> Left | None:
        """Have a child go on with a download, and kill it; what it has left, or None if the file is complete."""
        etag = self._served.etag
        folder = "" if self._scenario.small else "slow/"
        url = f"{self._server.url}/{folder}file"
        self._server.forget()
        child = self._nursery.start(Job(url, place.path, self._segments, self._scenario.command))
        if self._killed < self._kills:
            self._wait(before)
            child.send(self._chance.choice(self._scenario.signals))
        code = child.wait()
        assert code in {0, *self._deaths()}, f"a child has failed: {code}"
        self._killed += code != 0
        was_same = self._served.etag == etag
        sent = self._check_requests(before, was_same=was_same)
        if place.is_done():
            self._finished += 1
            self._needed += os.path.getsize(place.path)
            if code == 0:
                assert place.is_tidy()
            if was_same and before.missing:
                assert _digest(place.path) == hashlib.sha256(self._served.content).digest(), "it is not the newest"
            return None
        assert code, "a child says that it is done, and there is no file"
        left = place.look()
        if was_same:
            gained = left.claimed - (before.claimed if before.etag == left.etag else 0)
            self._again.append(sent - gained)
            self._unsaved.append(min(left.unsaved, sent - gained))  # some may be of an earlier child
        if self._scenario.signals == _ORDERLY:
            assert not left.unsaved, f"{left.unsaved} bytes were written and are not in the record after a stop"
        if self._happens(self._scenario.power_cuts):
            self._power_cuts += 1
            place.lose_power(self._chance)
            left = place.look()
        return left

    def _wait(self, before: Left) -> None:
        """Wait until a child is to be killed."""
        most = 1.8 * before.missing / (self._kills - self._killed + 1) / _RATE + self._scenario.start
        seconds = self._chance.random() * min(most, _LONGEST)
        if self._happens(self._scenario.changes / 2):
            part = self._chance.random() * seconds
            seconds -= part
            time.sleep(part)
            self._change()
        time.sleep(seconds)

    def _happens(self, probability: float) -> bool:
        # Not in the last third, where a download that begins anew would not be killed often.
        return self._killed < self._kills * 2 // 3 and self._chance.random() < probability

    def _change(self) -> None:
        self._changes += 1
        self._served.change()

    def _deaths(self) -> set[int]:
        """How a child may end that is killed."""
        signals = self._scenario.signals
        if signals == (signal.SIGKILL,):
            return {-signal.SIGKILL}
        # At the very beginning a signal does what it does to any program.
        return {STOPPED, -signal.SIGTERM} | {128 + number for number in signals}

    def _check_requests(self, before: Left, *, was_same: bool) -> int:
        """See that nothing was asked for that was there; return how many bytes were sent."""
        requests = self._server.requests()
        if was_same and before.etag == self._served.etag:
            for request in requests:
                asked = re.fullmatch(r"bytes=(\d+)-(\d*)", request.range)
                if asked is None:
                    assert not before.claims, f"the whole file was asked for, and {before.claimed} bytes were there"
                    continue
                first, last = int(asked[1]), int(asked[2] or sys.maxsize)
                for start, end in before.claims:
                    assert last < start or end <= first, (
                        f"{request.range} was asked for, and {start} to {end} were there"
                    )
        sent = sum(request.bytes for request in requests)
        self._sent += sent
        return sent

    def _check_again(self) -> None:
        """See that no more is sent again than what comes between two savings, and what is in the sockets."""
        if self._scenario.small:
            return  # they come within a moment, and all of them may be in the sockets
        # Of the one in the middle: a busy machine takes its time, now and then, between the signal and the last connection's end.
        middle = statistics.median(self._again or [0])
        seconds = _BUSY if self._scenario.signals == _ORDERLY else _BUSY + _SAVED_EVERY
        most = seconds * _RATE + 2 * _CHUNK * self._segments
        assert middle < most, f"{middle:,.0f} bytes are sent again after a kill (the median), and {most:,.0f} may be"

    def _said(self) -> str:
        again, unsaved = (
            f"{_mean(each)} on average and {_size(max(each, default=0))} at most"
            for each in (self._again, self._unsaved)
        )
        others = "".join(
            f", {count} {what}"
            for count, what in ((self._changes, "changes"), (self._power_cuts, "power cuts"))
            if count
        )
        return (
            f"{self._killed} kills{others} over {self._finished} download{'s' if self._finished > 1 else ''},"
            f" {self._sent / self._needed:.2f} times the bytes sent, after a kill {again}, of which written {unsaved}"
        )


def at_every_step(segments: int, seed: int, folder: str) -> str:
    """Kill a download before and after each of its system calls that changes something, and what goes on with it likewise."""
    served_folder = os.path.join(folder, "served")
    os.mkdir(served_folder)
    served = Served(served_folder, _SMALL if segments == 1 else _LEAST_SIZE, random.Random(seed))
    killed = finished = 0
    with nginx.Nginx(served_folder) as server, Nursery() as nursery:

        def live(place: Place, *, step: int = 0, before: bool = True) -> bool:
            """One child, and whether it has been killed."""
            nonlocal killed
            url = f"{server.url}/file"
            code = nursery.start(Job(url, place.path, segments, overwrite=True, step=step, before=before)).wait()
            assert code in {0, -signal.SIGKILL}, f"a child has failed: {code}"
            killed += code != 0
            assert place.is_done() or code, "a child says that it is done, and there is no file"
            place.look()
            return code != 0

        for before in (True, False):
            for step in itertools.count(1):
                place = Place(os.path.join(folder, f"{'before' if before else 'after'}-{step}"), served)
                if not live(place, step=step, before=before):
                    break  # it has no more steps
                live(place, step=step, before=before)
                assert not live(place), "nobody has killed it"
                assert place.is_tidy()
                finished += 1
    return f"{killed} kills over {finished} downloads"


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _mean(values: list[int]) -> str:
    return _size(sum(values) / max(1, len(values)))


def _size(value: float) -> str:
    return f"{value / 1024:.0f} KiB"


def run(name: str, segments: int, kills: int, seed: int, *, timed: bool = True) -> str:
    """Run a scenario with so many kills; returns a line that says what happened. For `timed` see `Run`."""
    scenario = SCENARIOS.get(name)
    began = time.monotonic()
    with no_leaks(f"the scenario {name}"), tempfile.TemporaryDirectory(prefix="stress-") as folder:
        if scenario is None:
            said = at_every_step(segments, seed, folder)
        else:
            said = Run(scenario, segments, kills, seed, folder, timed=timed).do()
    return f"{name:<22} {segments} segments: {said}, in {time.monotonic() - began:.1f} s"


def main() -> None:
    """Run the scenarios that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "scenarios", nargs="*", metavar="SCENARIO", help=f"of {'; '.join((*SCENARIOS, EVERY_STEP))}. All by default"
    )
    parser.add_argument(
        "--kills", type=int, default=200, help="for each; some get a part of them (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--segments", type=int, help="with how many to download; 1 and then 4 by default")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    for name in arguments.scenarios or (*SCENARIOS, EVERY_STEP):
        for segments in (1, 4) if arguments.segments is None else (arguments.segments,):
            part = SCENARIOS[name].part if name in SCENARIOS else 1
            print(run(name, segments, max(_LEAST, int(arguments.kills * part)), arguments.seed), flush=True)


if __name__ == "__main__":
    main()
