"""What the benchmarks of stops decide: who takes part, who is left out and why, and what each is compared with."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest

from benchmarks import latency, latency_http, latency_peers
from benchmarks.latency_timing import FLOOR, Attempt, moment_of, those_who_can, time_of_stop
from iointerrupt import Interrupted, as_stop, calls


def missing():
    """Stands in for a peer that is not installed."""
    raise ModuleNotFoundError("No module named 'peer'", name="peer")


def broken():
    """Stands in for a peer that fails in its thread."""

    def block(ready):
        raise OSError("no such device")

    return time_of_stop(Attempt(block))


def test_who_cannot_run_is_left_out_with_the_reason():
    """A package that is not there and a call that fails are told apart, and the others stay in their order."""
    able, reasons = those_who_can({"ours": lambda: 1.0, "missing": missing, "broken": broken, "other": lambda: 2.0})
    assert list(able) == ["ours", "other"]
    assert reasons == {
        "missing": "peer is not installed",
        "broken": "cannot run here: OSError: no such device",
    }


def test_ours_is_never_left_out():
    """A comparison without ours would be none: what keeps it from running is raised."""
    with pytest.raises(RuntimeError) as info:
        those_who_can({"ours": broken, "other": lambda: 1.0})
    assert isinstance(info.value.__cause__, OSError)


def test_blocked_call_runs_in_the_class_of_thread_that_was_asked_for():
    """Some libraries stop only threads of their own."""

    class Own(threading.Thread):
        pass

    threads = []

    def block(ready):
        threads.append(threading.current_thread())
        event = threading.Event()
        ready(event.set)
        event.wait()
        return 0.0

    time_of_stop(Attempt(block, thread=Own))
    assert type(threads[0]) is Own


def test_end_of_its_own_is_no_stop():
    """A call that returns has not been stopped, and must not count as if it had."""
    with pytest.raises(AssertionError):
        moment_of(Interrupted, lambda: None)


@pytest.mark.parametrize("kind", latency.KINDS)
def test_setter_sets_its_stop(kind):
    """What is given to an operation is set by what is called to stop it."""
    make, floor = latency.KINDS[kind]
    stop, set_ = make()
    followed = as_stop(stop)
    assert not followed.is_set()
    set_()
    assert followed.is_set()
    assert floor in latency.FLOORS


def test_each_kind_of_stop_is_compared_with_its_floor(monkeypatch):
    """Every row has the general floor; what has one of its own has its target there."""
    monkeypatch.setattr(latency, "_QUICK", 2)
    operations = {"sleep": lambda: nullcontext(lambda stop: calls.sleep(60, stop=stop))}
    rows = list(latency.measure_each(operations, quick=True, least=0.5))
    assert [row.what for row in rows] == [f"sleep, stopped by a {kind}" for kind in latency.KINDS]
    for row in rows:
        floor = latency.KINDS[row.what.partition(" by a ")[2]][1]
        assert row.ours == "iointerrupt"
        assert row.others == list(dict.fromkeys((FLOOR, floor)))
        assert row.least == {floor: 0.5}
        assert {len(samples) for samples in row.samples.values()} == {2}


@pytest.mark.parametrize("module", [latency_peers, latency_http], ids=["socket", "http"])
def test_every_peer_takes_part_or_is_left_out_with_a_reason(module, monkeypatch):
    """None is silently absent, whatever is installed; each Python peer has a target."""
    monkeypatch.setattr(module, "_QUICK", 1)
    monkeypatch.setenv("PATH", "")  # on which there is no compiler to wait for
    (comparison,) = module.compare(quick=True)
    assert comparison.ours == "iointerrupt"
    assert {*module.PEERS, FLOOR} <= {*comparison.samples, *comparison.left_out}
    assert module is latency_peers or latency_http.GO in comparison.left_out
    assert not set(comparison.samples) & set(comparison.left_out)
    assert set(comparison.least) >= set(comparison.others) & set(module.PEERS)
