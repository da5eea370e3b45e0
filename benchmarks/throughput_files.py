"""Files and pipes while nobody stops: ours, with a stop that never fires, beside `open` and `shutil`."""

from __future__ import annotations

import io
import os
import select
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from benchmarks.measure import Comparison, Run, in_turn
from benchmarks.throughput_work import MIB, PLAIN, Amount, filled, rate, rated
from iointerrupt import StopEvent, files

AMOUNT = Amount(64 * MIB, 0, 24)

_OURS = "iointerrupt"

#: Opens a file.
Open = Callable[[], AbstractContextManager[Any]]


def measure(folder: str, amount: Amount) -> Iterator[Comparison]:
    """A comparison for each thing that is done with files, and for pipes."""
    path = filled(os.path.join(folder, "data"), amount.size)
    small = filled(os.path.join(folder, "small"), amount.size // 4)
    stop = StopEvent()
    for name, source, size in (("1 MiB", path, MIB), ("1 KiB", small, 1024), ("100 bytes", small, 100)):
        yield _reading(f"file: read, {name}", source, size, stop, amount)
    yield _chunks(path, stop, amount)
    yield _copies(path, os.path.join(folder, "copy"), stop, amount)
    yield _streams(path, os.path.join(folder, "copy"), stop, amount)
    yield _pipe(stop, amount)
    os.unlink(path)


def _reading(what: str, path: str, size: int, stop: StopEvent, amount: Amount) -> Comparison:
    total = os.path.getsize(path)

    def run(opened: Open) -> Run:
        def once() -> float:
            with opened() as file:
                return rate(lambda: _read_all(file, size), total)

        return once

    samples = in_turn(
        {
            _OURS: run(lambda: files.open(path, "rb", stop=stop)),
            "open": run(lambda: open(path, "rb")),  # noqa: SIM115 - which `once` does
        },
        amount.rounds,
    )
    return Comparison(what, "B/s", samples, better="higher", least={"open": PLAIN})


def _read_all(file: io.BufferedIOBase, size: int) -> None:
    read = file.read
    while _data := read(size):  # bound to a name, as in programs: it lives while the next is read
        pass


def _chunks(path: str, stop: StopEvent, amount: Amount) -> Comparison:
    def ours() -> None:
        for _ in files.iter_chunks(path, stop=stop):
            pass

    def plain() -> None:
        with open(path, "rb", buffering=0) as file:
            while _chunk := file.read(MIB):
                pass

    other = "open(buffering=0).read(1 MiB)"
    samples = in_turn({_OURS: rated(ours, amount.size), other: rated(plain, amount.size)}, amount.rounds)
    return Comparison("file: iter_chunks", "B/s", samples, better="higher", least={other: PLAIN})


def _copies(path: str, copy: str, stop: StopEvent, amount: Amount) -> Comparison:
    """Ours keeps what `copy2` keeps, and puts the file in its place in one step."""

    def run(work: Callable[[], object]) -> Run:
        def once() -> float:
            try:
                return rate(work, amount.size)
            finally:
                os.unlink(copy)

        return once

    samples = in_turn(
        {
            _OURS: run(lambda: files.copy(path, copy, stop=stop)),
            "shutil.copy2": run(lambda: shutil.copy2(path, copy)),
            "shutil.copyfile": run(lambda: shutil.copyfile(path, copy)),
        },
        amount.rounds,
    )
    least = {"shutil.copy2": 1.0, "shutil.copyfile": PLAIN}  # which keeps nothing but the bytes
    return Comparison("file: copy", "B/s", samples, better="higher", least=least)


def _streams(path: str, copy: str, stop: StopEvent, amount: Amount) -> Comparison:
    def run(opened: Callable[..., Any], copied: Callable[[Any, Any], object]) -> Run:
        def once() -> float:
            with opened(path, "rb") as source, opened(copy, "wb") as target:
                copied_at = rate(lambda: copied(source, target), amount.size)
            os.unlink(copy)
            return copied_at

        return once

    def ours(file: str, mode: str) -> Any:
        return files.open(file, mode, stop=stop)

    samples = in_turn(
        {
            _OURS: run(ours, lambda source, target: files.copyfileobj(source, target, stop=stop)),
            "shutil.copyfileobj": run(open, shutil.copyfileobj),
            "shutil.copyfileobj, 1 MiB": run(open, lambda source, target: shutil.copyfileobj(source, target, MIB)),
        },
        amount.rounds,
    )
    least = {"shutil.copyfileobj": 1.0, "shutil.copyfileobj, 1 MiB": 1.0}
    return Comparison("file: copyfileobj", "B/s", samples, better="higher", least=least)


def _pipe(stop: StopEvent, amount: Amount) -> Comparison:
    def run(opened: Callable[[int], AbstractContextManager[Any]]) -> Run:
        buffer = bytearray(65536)

        def read_all(pipe: Any) -> None:
            read = pipe.readinto
            while read(buffer):
                pass

        def once() -> float:
            command = ["dd", "if=/dev/zero", "bs=1M", f"count={amount.size // MIB}", "status=none"]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
                assert writer.stdout is not None
                select.select([writer.stdout], [], [])  # it has begun
                with opened(writer.stdout.fileno()) as pipe:
                    return rate(lambda: read_all(pipe), amount.size)

        return once

    other = "open(buffering=0)"
    samples = in_turn(
        {
            _OURS: run(lambda descriptor: files.wrap(descriptor, stop=stop, closefd=False)),
            other: run(lambda descriptor: open(descriptor, "rb", buffering=0, closefd=False)),  # noqa: SIM115
        },
        amount.rounds,
    )
    return Comparison("pipe: readinto, 64 KiB", "B/s", samples, better="higher", least={other: PLAIN})
