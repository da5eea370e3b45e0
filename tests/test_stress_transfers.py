"""A short run of random stops of each kind, and that what is looked at would be seen; `make stress` is the long run."""

from __future__ import annotations

import contextlib
import os
import re
import threading

import pytest

from iointerrupt import Interrupted, sockets, use_stop
from tests.stress import over_http, rounds, stops, transfers
from tests.stress.stops import Allowance, Crew, Tally
from tests.stress.streams import SIZE, Place, content

STOPS = 400

#: From which a defect of what a socket receives and sends is met in the first round: its ends work by methods of theirs.
SEED = 11


@pytest.mark.parametrize("name", transfers.KINDS)
def test_nothing_is_lost(name):
    """After some hundred random stops, every byte has been delivered once, and nothing is left behind."""
    (tally,) = transfers.run([name], stops=STOPS, seconds=float("inf"), seed=SEED).values()
    assert tally.tried >= STOPS
    assert tally.within
    assert tally.checked


class TestPlace:
    """What arrives is compared with what was sent, and a difference is said to be what it is."""

    @pytest.fixture(params=[0, 12_345, SIZE - 100, 3 * SIZE])
    def place(self, request):
        """Somewhere in the stream, near its repetition too."""
        return Place(request.param)

    def test_right(self, place):
        """What was sent is accepted, in pieces as they come."""
        begin = place.position
        for size in (1, 0, 1000, SIZE, 7):
            place.arrive(place.upcoming(size))
        assert place.position == begin + 1008 + SIZE

    def test_more_than_once_around(self, place):
        """A piece may be longer than the content."""
        data = place.upcoming(SIZE)
        place.arrive(data + data + data[:10])

    @pytest.mark.parametrize("lost", [1, 1000])
    def test_lost(self, place, lost):
        """Bytes that are missing are noticed at once, and counted."""
        rest = Place(place.position + 500 + lost)
        with pytest.raises(AssertionError, match=rf"\b{lost} bytes were lost at {place.position + 500}"):
            place.arrive(place.upcoming(500) + rest.upcoming(500))

    @pytest.mark.parametrize("repeated", [1, 400])
    def test_repeated(self, place, repeated):
        """So are those that come twice."""
        rest = Place(place.position + 500 - repeated)
        with pytest.raises(AssertionError, match=rf"\b{repeated} bytes were repeated at {place.position + 500}"):
            place.arrive(place.upcoming(500) + rest.upcoming(500))

    def test_changed(self, place):
        """A single bit that is another one is noticed."""
        data = bytearray(place.upcoming(1000))
        data[700] ^= 4
        with pytest.raises(AssertionError, match="from byte 700 on"):
            place.arrive(bytes(data))

    def test_content_is_no_repetition_in_itself(self):
        """Nowhere in the content do sixteen bytes come twice, so that what is lost or repeated is never taken for right."""
        data = content()
        assert len({data[at : at + 16] for at in range(len(data) - 16)}) == len(data) - 16


def received_with(monkeypatch, alter):
    """Have `recv_exactly` deliver what `alter` makes of what an interrupted one has taken."""
    receive = sockets.recv_exactly

    def altered(*args, **kwargs):
        try:
            return receive(*args, **kwargs)
        except Interrupted as stopped:
            if stopped.partial:
                stopped.partial = alter(stopped.partial)
                stopped.transferred = len(stopped.partial)
            raise

    monkeypatch.setattr(sockets, "recv_exactly", altered)


def run_sockets():
    """Stop what is done with sockets, for some rounds."""
    transfers.run(["sockets"], stops=20_000, seconds=float("inf"), seed=SEED)


#: What is said of a stream that is not what was sent.
DIFFERENT = r"were (lost|repeated)|not those that were sent|bytes were sent and \d+ delivered"


class TestPlanted:
    """What the program looks for, it finds: each of these is put into the library, and ends the run."""

    def test_loss(self, monkeypatch):
        """A read that drops the last byte of what it had taken."""
        received_with(monkeypatch, lambda taken: taken[:-1])
        with pytest.raises(AssertionError, match=DIFFERENT) as caught:
            run_sockets()
        assert any(re.match(r"in sockets, from seed \d+/\d+", note) for note in caught.value.__notes__)

    def test_repetition(self, monkeypatch):
        """A read that delivers the last byte of what it had taken twice."""
        received_with(monkeypatch, lambda taken: taken + taken[-1:])
        with pytest.raises(AssertionError, match=DIFFERENT):
            run_sockets()

    def test_wrong_count(self, monkeypatch):
        """A write that says of itself that it has sent one byte less than it has."""
        send = sockets.Socket.sendall

        def sendall(self, *args):
            try:
                send(self, *args)
            except Interrupted as stopped:
                stopped.transferred = max(0, stopped.transferred - 1)
                raise

        monkeypatch.setattr(sockets.Socket, "sendall", sendall)
        with pytest.raises(AssertionError, match=DIFFERENT):
            run_sockets()

    def test_leak(self, monkeypatch):
        """A pair of sockets of which a descriptor is left open."""
        left = []
        make = sockets.socketpair

        def socketpair(*args):
            pair = make(*args)
            left.append(os.dup(pair[0].fileno()))
            return pair

        monkeypatch.setattr(sockets, "socketpair", socketpair)
        monkeypatch.setattr(rounds, "LEAK_SECONDS", 0.1)
        try:
            # That the other end never ends is noticed as well, so no more than the round is looked at.
            with pytest.raises(AssertionError, match="left behind"):
                rounds.play("leak", lambda one: [sock.close() for sock in sockets.socketpair()], 1, 1)
        finally:
            for fd in left:
                os.close(fd)

    def test_a_stop_that_is_ignored(self, monkeypatch):
        """A read that does not look whether its stop is set."""
        receive = sockets.Socket.recv_into

        def recv_into(self, *args):
            own, self.stop = self.stop, None
            try:
                with use_stop(None):
                    return receive(self, *args)
            finally:
                self.stop = own

        monkeypatch.setattr(sockets.Socket, "recv_into", recv_into)
        with pytest.raises(AssertionError, match="although its stop was set"):
            run_sockets()

    def test_a_stop_that_nobody_has_set(self, monkeypatch):
        """A read that is interrupted by nobody."""

        def recv_into(self, buffer):
            raise Interrupted("nobody")

        monkeypatch.setattr(sockets.Socket, "recv_into", recv_into)
        with pytest.raises(AssertionError, match=r"is not set|does not say why|came of a deadline|it was set before"):
            run_sockets()

    def test_a_worker_that_is_blocked(self, monkeypatch, capfd):
        """A wake-up that is lost; where everybody stands is on stderr."""
        monkeypatch.setattr(stops, "_PATIENCE", 0.2)
        monkeypatch.setattr(stops, "_PATIENCE_AFTER_FAILURE", 0.2)
        release = threading.Event()
        with pytest.raises(AssertionError, match="worker 0 is blocked for ever"):
            Crew(Allowance(1), None).run([lambda: release.wait(20)])
        release.set()

    def test_a_connection_that_is_used_again(self):
        """A request that came over a connection on which one had been interrupted."""
        over_http.check_reuse({1: ["a", "b"], 2: ["c"]}, {"b", "c"})
        with pytest.raises(AssertionError, match="connection 1 was used again"):
            over_http.check_reuse({1: ["a", "b"], 2: ["c"]}, {"a"})

    def test_a_failure_ends_the_others(self):
        """The first failure is the one that is reported, and nobody has to wait for those that it leaves behind."""
        allowance = Allowance(10)
        freed = threading.Event()

        def fail():
            raise OSError("first")

        def wait():
            assert freed.wait(10)
            raise OSError("second")

        with pytest.raises(OSError, match="first"):
            Crew(allowance, freed.set).run([wait, fail])
        assert allowance.used_up()
        assert allowance.failed.is_set()


def test_report():
    """The table has a line for each kind, and one for all."""
    said = transfers.report({"a": Tally(1, 2, 3, 1000), "b": Tally(10, 20, 30, 5)})
    assert [line.split() for line in said.splitlines()[1:]] == [
        ["a", "6", "1", "2", "3", "1,000", "0"],
        ["b", "60", "10", "20", "30", "5", "0"],
        ["all", "66", "11", "22", "33", "1,005", "0"],
    ]


@pytest.mark.parametrize(
    "arguments", [["--stops", "5", "--seed", "3", "pipes"], ["--minutes", "0.001", "pipes", "files"]]
)
def test_command(monkeypatch, capsys, arguments):
    """The command prints its seed and the table."""
    monkeypatch.setattr("sys.argv", ["transfers", *arguments])
    transfers.main()
    said = capsys.readouterr().out
    assert re.match(r"seed \d+, Python", said)
    assert "nothing was lost, repeated, or left behind" in said


def test_command_of_an_unknown_kind(monkeypatch, capsys):
    """A kind that there is not is said to be none."""
    monkeypatch.setattr("sys.argv", ["transfers", "pipe"])
    with pytest.raises(SystemExit), contextlib.redirect_stdout(None):
        transfers.main()
    assert "there is no kind pipe" in capsys.readouterr().err
