"""What the benchmarks of throughput and of downloads decide, and that each of their parts does the work that it says.

Nothing here depends on how long anything takes.
"""

from __future__ import annotations

import http.client
import itertools
from contextlib import ExitStack, contextmanager

import pytest

from benchmarks import downloads, throughput_files, throughput_http, throughput_sockets
from benchmarks.downloads import MIB, _wanted
from benchmarks.downloads_peers import Peer, Run, compete
from benchmarks.measure import Row
from benchmarks.throughput_clients import BODIES, CONTENTS, SMALL, Sized, entered
from benchmarks.throughput_server import asked, serving
from benchmarks.throughput_work import CHUNK_SIZES, Amount, best_size

LITTLE = Amount(4 * MIB, 3, 2)


# The work


@pytest.mark.parametrize(
    "part", [throughput_sockets, throughput_files, throughput_http], ids=lambda part: part.__name__
)
def test_each_part_has_a_sample_of_each_round_for_ours_and_whoever_ours_is_to_be_ahead_of(part, tmp_path):
    """Every comparison has others, and as many samples of each as there are rounds, or a multiple."""
    for found in part.measure(str(tmp_path), LITTLE):
        assert found.ours == "iointerrupt"
        assert found.others, found.what
        assert {len(samples) % LITTLE.rounds for samples in found.samples.values()} == {0}, found.what
        assert set(found.least) <= set(found.others), found.what
        assert not set(found.left_out) & set(found.samples), found.what


def test_every_client_gets_all_of_a_body():
    """A body that comes in pieces, and again over the same connection."""
    makes = {
        **{name: make.with_size(65536) if isinstance(make, Sized) else make for name, make in BODIES.items()},
        **{f"{name}, whole": make for name, make in CONTENTS.items()},
    }
    with serving("http") as (host, port), ExitStack() as stack:
        gets, left_out = entered(stack, makes, None)
        assert next(iter(gets)) == "iointerrupt"
        assert set(left_out.values()) <= {"aiohttp is not installed"}  # which the tests do without
        for get in gets.values():
            assert [get(f"http://{host}:{port}/{size}") for size in (1_000_003, 7, 0)] == [1_000_003, 7, 0]


def test_small_requests_are_made_by_ours_first():
    """The first is the one that the others are compared with."""
    assert {next(iter(makes)) for makes in (SMALL, CONTENTS, BODIES)} == {"iointerrupt"}


def test_a_quick_run_does_less_and_more_than_one_round():
    """A ratio takes more than one round to have a spread."""
    assert Amount(64, 10, 24).of(quick=True) == Amount(16, 10, 6)
    assert Amount(64, 10, 4).of(quick=True).rounds == 2
    assert Amount(64, 10, 24).of(quick=False) == Amount(64, 10, 24)


def test_the_best_size_is_that_of_the_highest_median_rate():
    """One lucky round does not decide."""
    rates = {size: itertools.repeat(1.0) for size in CHUNK_SIZES}
    rates[CHUNK_SIZES[1]] = itertools.cycle([1.0, 9.0, 1.0, 1.0])
    rates[CHUNK_SIZES[2]] = itertools.cycle([2.0, 0.5, 3.0, 2.0])
    assert best_size(lambda size: next(rates[size])) == CHUNK_SIZES[2]


def test_a_client_that_is_not_installed_is_left_out_with_the_reason():
    """It is neither an error nor forgotten."""

    @contextmanager
    def absent(_trusted):
        import no_such_client_of_http  # type: ignore[import-not-found]

        yield no_such_client_of_http.get

    @contextmanager
    def present(_trusted):
        yield len

    with ExitStack() as stack:
        gets, left_out = entered(stack, {"present": present, "absent": absent}, None)
    assert list(gets) == ["present"]
    assert left_out == {"absent": "no_such_client_of_http is not installed"}


# The server


def test_the_server_answers_several_requests_of_a_connection():
    """As a client that keeps its connections takes it."""
    with serving("http") as address:
        connection = http.client.HTTPConnection(*address, timeout=30)
        try:
            for size in (0, 1024, 3 * MIB + 1):
                connection.request("GET", f"/{size}")
                assert connection.getresponse().read() == bytes(size)
        finally:
            connection.close()


def test_the_server_ends_with_its_stdin_while_a_connection_is_open():
    """`serving` returns although a client has not closed."""
    with ExitStack() as stack:
        with serving("http") as address:
            connection = http.client.HTTPConnection(*address, timeout=30)
            stack.callback(connection.close)
            connection.request("GET", "/5")
            assert connection.getresponse().read() == bytes(5)
        assert connection.sock.recv(1) == b""


def test_the_path_of_a_request_is_how_much_is_asked_for():
    """Headers have no say."""
    assert asked(b"GET /1048576 HTTP/1.1\r\nHost: 127.0.0.1:1") == MIB


# Downloads


def peer(name: str, *, needs: str = "sys", python: bool = True) -> Peer:
    return Peer(name, needs, lambda url, dest, ca: [], python)


def test_each_round_of_downloads_begins_with_another_peer():
    """So that none always meets what the one before it leaves behind."""
    order = []

    def once(one):
        order.append(one.name)
        return Run(1.0, 1.0, "")

    runs, left_out = compete([peer("a"), peer("b"), peer("c")], once, 3)
    assert order == ["a", "b", "c", "b", "c", "a", "c", "a", "b"]
    assert {name: len(each) for name, each in runs.items()} == {"a": 3, "b": 3, "c": 3}
    assert left_out == {}


def test_the_warm_up_of_downloads_is_not_counted():
    """It is another download, and of all of them."""
    warm = []
    runs, _ = compete([peer("a"), peer("b")], lambda _: Run(1.0, 1.0, ""), 1, warm_up=lambda one: warm.append(one.name))
    assert warm == ["a", "b"]
    assert [len(each) for each in runs.values()] == [1, 1]


def test_a_peer_that_is_missing_or_fails_is_left_out_with_the_reason():
    """Also one that fails in a later round; nothing of it is kept."""

    def once(one):
        if one.name == "bad" and counts.append(1) is None and len(counts) == 2:
            raise RuntimeError("a command ended with 1:\nTraceback\n\nValueError: it is broken\n")
        return Run(1.0, 1.0, "")

    counts = []
    peers = [peer("ours"), peer("bad"), peer("absent", needs="no_such_program_or_module")]
    runs, left_out = compete(peers, once, 3)
    assert {name: len(each) for name, each in runs.items()} == {"ours": 3}
    assert left_out == {"bad": "fails: ValueError: it is broken", "absent": "not installed"}


def test_it_is_an_error_if_ours_fails():
    """There would be nothing to compare with."""

    def once(_one):
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        compete([peer("ours"), peer("other")], once, 1)


def test_programs_in_c_are_compared_where_the_start_of_an_interpreter_does_not_decide():
    """Over HTTP ours is to be ahead of all for a large file, and of those in Python for any."""
    peers = [peer("curl", python=False), peer("pooch")]
    assert _wanted(peers, 64 * MIB, tls=False, unit="wall") == {"pooch": 1.0}
    assert _wanted(peers, 2048 * MIB, tls=False, unit="wall") == {"curl": 1.0, "pooch": 1.0}
    assert _wanted(peers, 64 * MIB, tls=True, unit="wall") == {"pooch": 1.0}


def test_without_nginx_the_downloads_say_why_there_are_none(monkeypatch):
    """As a row that is missed, and not as an error that ends the suite."""
    monkeypatch.setattr(downloads, "why_not", lambda: "there is no nginx")
    [row] = downloads.measure(quick=True)
    assert isinstance(row, Row)
    assert not row.met
    assert row.note == "there is no nginx"


def test_over_tls_ours_is_to_be_ahead_of_curl_in_time_alone():
    """Those in C, pycurl among them, may take less of the processor."""
    peers = [peer("curl", needs="curl", python=False), peer("pycurl", needs="pycurl"), peer("pooch")]
    assert set(_wanted(peers, 2048 * MIB, tls=True, unit="wall")) == {"curl", "pycurl", "pooch"}
    assert set(_wanted(peers, 2048 * MIB, tls=True, unit="CPU")) == {"pooch"}


def test_the_program_of_a_client_knows_each_client_of_the_table():
    """A name that it does not know would be left out as one that fails."""
    from benchmarks.downloads_clients import MANY, ONE
    from benchmarks.downloads_peers import MANY_CLIENTS
    from benchmarks.downloads_peers import ONE as PEERS

    for one in PEERS:
        command = one.command("http://127.0.0.1:1/file", "/nowhere", None)
        assert not one.python or command[command.index("one") + 1] in ONE
    for one in MANY_CLIENTS:
        command = one.command("http://127.0.0.1:1/", "/nowhere", None)
        assert command[command.index("many") + 1] in MANY
