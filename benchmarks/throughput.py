"""What the library costs while data flows and nobody stops: ours and its peers in turn, on the same work.

Sockets and TLS, files and pipes, and HTTP are in modules of their own: `throughput_sockets`, `throughput_files` and
`throughput_http`.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import throughput_files, throughput_http, throughput_sockets
from benchmarks.measure import Comparison
from benchmarks.throughput_work import memory_folder


def measure(*, quick: bool) -> Iterator[Comparison]:
    """A comparison for each piece of work."""
    with memory_folder() as folder:
        for part in (throughput_sockets, throughput_files, throughput_http):
            yield from part.measure(folder, part.AMOUNT.of(quick=quick))
