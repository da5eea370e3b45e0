"""The table of the README: of all that was measured, the few lines that somebody wants to know first.

`python -m benchmarks --readme README.md` puts it between the two marks, so that the README says what was printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.measure import Comparison, Ratio
from benchmarks.report import Result, machine, quantity, summary

BEGIN, END = "<!-- of python -m benchmarks: begin -->", "<!-- of python -m benchmarks: end -->"

#: What is shown, by the beginnings of the comparisons' names, and beside whom, by the beginnings of theirs; all where there is none.
LINES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("A stop, until it is at the caller", "", ()),
    ("receive on a socket", "socket receive, stopped by a StopEvent", ("threading.Event.wait",)),
    (
        "the same, by a plain `threading.Event`",
        "socket receive, stopped by a threading.Event",
        ("threading.Event.wait",),
    ),
    (
        "the same, by a `multiprocessing.Event`",
        "socket receive, stopped by a multiprocessing.Event",
        ("multiprocessing.Event.wait",),
    ),
    (
        "the same",
        "socket receive, stopped",
        ("socket.shutdown", "an Event and settimeout", "asyncio", "trio", "gevent"),
    ),
    ("read of a pipe", "pipe read, stopped by a StopEvent", ("threading.Event.wait",)),
    ("TLS handshake", "TLS handshake, stopped by a StopEvent", ("threading.Event.wait",)),
    ("body over HTTP", "HTTP body, stopped", ("pycurl", "aiohttp", "httpx and trio", "an Event and requests")),
    ("1,000 blocked threads", "stop of all blocked threads, n = 1,000", ("threading.Event.wait",)),
    ("5,000 blocked threads", "stop of all blocked threads, n = 5,000", ("threading.Event.wait",)),
    ("While nobody stops", "", ()),
    ("`Socket.recv_into`, 64 KiB", "socket: recv_into, 64 KiB", ("socket, settimeout",)),
    ("64 bytes there and back", "socket: 64 bytes there and back", ("socket, settimeout",)),
    ("`SSLSocket.recv_into`, 64 KiB", "TLS: recv_into, 64 KiB", ("SSLSocket, settimeout",)),
    ("`files.open(...).read`, 1 MiB", "file: read, 1 MiB", ("open",)),
    ("the same, 1 KiB", "file: read, 1 KiB", ("open",)),
    ("the same, 100 bytes", "file: read, 100 bytes", ("open",)),
    ("`files.copy`", "file: copy", ("shutil.copy2",)),
    ("`files.copyfileobj`", "file: copyfileobj", ("shutil.copyfileobj, 1 MiB",)),
    ("`http.iter_chunks`", "HTTP body, as it comes", ("requests", "urllib3 stream", "aiohttp")),
    ("the same over TLS", "HTTPS body, as it comes", ("requests", "urllib3 stream", "aiohttp")),
    ("`Session.get(...).content`, 64 MiB", "HTTP body, whole", ("requests", "urllib3", "aiohttp")),
    ("`Session.get` of 1 KiB", "HTTP: 1 KiB", ("requests", "urllib3", "httpx")),
    ("making a `Session`", "HTTP: a new session", ("requests",)),
    ("`aio.iter_chunks`", "aio.iter_chunks, for each chunk nothing", ("aiofiles",)),
    ("`calls.get` of a queue, with a stop", "calls.get of 50,000 items that are there, with one", ("queue.Queue.get",)),
    ("a `ThreadGroup` of 100", "threads asleep: start, stop and leave a group, n = 100", ("threading.Thread",)),
    ("`import iointerrupt`", "import", ("threading, socket",)),
)


def table(found: Mapping[str, Sequence[Result]]) -> str:
    """The table, in Markdown. What was not measured is not in it."""
    comparisons = [result for results in found.values() for result in results if isinstance(result, Comparison)]
    lines = [
        f"`make bench` printed this, and more, on {machine()}; *ahead by* is how many times as good ours is, the median of rounds in which both",
        "took turns, with their quartiles.",
        "",
        "| what | beside | ours | theirs | ahead by |",
        "| --- | --- | --: | --: | --: |",
    ]
    for label, what, others in LINES:
        if not what:
            lines.append(f"| **{label}** |  |  |  |  |")
        else:
            lines += _rows(label, what, others, comparisons)
    return "\n".join([*lines, "", f"{summary(found)}."])


def _rows(label: str, what: str, others: tuple[str, ...], comparisons: Sequence[Comparison]) -> Iterator[str]:
    comparison = next((each for each in comparisons if each.what == what or each.what.startswith(f"{what}, ")), None)
    if comparison is None:
        return
    unit = comparison.unit
    ours = quantity(comparison.median(comparison.ours), unit)
    for other in comparison.others:
        if other in others or any(other.startswith(each) for each in others if each not in comparison.others):
            theirs = quantity(comparison.median(other), unit)
            yield f"| {label} | {other} | {ours} | {theirs} | {_short(comparison.ratio(other))} |"
            label = ours = ""


def _short(ratio: Ratio) -> str:
    if ratio.median >= 100:
        return f"{ratio.median:,.0f} ({ratio.low:,.0f} to {ratio.high:,.0f})"
    return str(ratio)


def put_into(text: str, found: Mapping[str, Sequence[Result]]) -> str:
    """The README with the table of what was found in the place of the one that it has.

    Raises:
        ValueError: it has no place for one.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no {BEGIN!r} with {END!r} behind it")
    return f"{before}{begin}\n{table(found)}\n{end}{after}"
