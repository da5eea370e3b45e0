"""`aio.open`: a drop-in for aiofiles, whose operations a stop ends, and of which nothing is lost."""

from __future__ import annotations

import asyncio
import functools
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import aiofiles
import pytest

from iointerrupt import (
    DeadlineExceeded,
    Interrupted,
    StopEvent,
    _helpers,
    abandoned_helpers,
    aio,
    current_stop,
    use_stop,
)
from iointerrupt.testing import StopAfter, wait_until_blocked
from tests.coroutines import KINDS, LINES, awaited, blocked_on, collected, needs_fuse, run
from tests.test_files_hanging_disk import CONTENT, disk  # noqa: F401 - disk is a fixture


@pytest.fixture
def path(tmp_path):
    """A file with lines."""
    (tmp_path / "file").write_text(LINES, encoding="utf-8")
    return tmp_path / "file"


@pytest.fixture
def pipe():
    """A pipe whose reading end belongs to the test, and a writer that is kept open."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb", buffering=0) as far:
        yield reader, far


async def at_work(file):
    """The operation that the thread of a file of ours is at, once it has begun."""
    while (operation := file._loop._lane._at_work) is None or operation.done.done():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0)
    return operation


async def in_its_thread(file):
    """Wait until the thread that works for a file is itself blocked."""
    await asyncio.to_thread(wait_until_blocked, (await at_work(file)).stop)


# open, as aiofiles.open


READING = [
    ("read", 5), ("read", 0), ("readline",), ("readline", 3), ("tell",), ("readlines", 20), ("seek", 0), ("readlines",),
    ("seek", 0, 0), ("read",), ("read",), ("readable",), ("writable",), ("seekable",), ("isatty",), ("flush",),
    ("write", "x"), ("closed",), ("name",), ("mode",), ("fileno",), ("seek", 0), ("lines",), ("close",), ("read", 1),
]  # fmt: skip
WRITING = [
    ("write", "one\n"), ("writelines", ["two\n", "three\n"]), ("tell",), ("flush",), ("seek", 4), ("write", "TWO"),
    ("read",), ("seek", 0, 2), ("truncate", 9), ("readable",), ("writable",), ("fileno",), ("close",), ("write", "x"),
]  # fmt: skip
BINARY = [
    ("readinto", bytearray(7)),
    ("seek", 3, 1),
    ("seek", -2, 2),
    ("read1", 4),
    ("peek", 2),
    ("readall",),
    ("raw",),
]
TEXT = [("encoding",), ("errors",), ("newlines",), ("line_buffering",), ("buffer",)]


def as_bytes(operation):
    """The operation, with its text as bytes."""
    name, *arguments = operation
    encoded = [
        a.encode() if isinstance(a, str) else [b.encode() for b in a] if isinstance(a, list) else a for a in arguments
    ]
    return name, *encoded


async def outcomes(opening, operations_):
    """What each operation gives: its value, or the type of what it raises."""
    found = []
    async with opening as file:
        found.append(type(file).__name__)
        for name, *given in operations_:
            arguments = [bytearray(a) if isinstance(a, bytearray) else a for a in given]
            try:
                if name == "lines":
                    value = [line async for line in file]
                else:
                    value = getattr(file, name)
                    if callable(value):
                        value = value(*arguments)
                    if hasattr(value, "__await__"):
                        value = await value
            except Exception as error:
                value = type(error).__mro__
            if name in {"name", "buffer", "raw", "fileno"}:
                value = value is not None
            found.append((name, value, arguments))
    found.append(file.closed)
    return found


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        *[(mode, {}) for mode in ("r", "rb", "w", "wb", "a", "ab", "r+", "r+b", "w+", "w+b", "a+b", "x", "xb")],
        *[(mode, {"buffering": 0}) for mode in ("rb", "wb", "r+b")],
        ("r", {"newline": ""}),
        ("r", {"encoding": "latin-1", "errors": "replace"}),
        ("w", {"newline": "\r\n"}),
        ("r", {"buffering": 1}),
        ("rb", {"buffering": 100}),
        ("r", {"opener": lambda name, flags: os.open(name, flags)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_drop_in_for_aiofiles_open(tmp_path, mode, options):
    """The same operations give the same results and errors, from objects of the same classes, and the same file."""
    if "b" not in mode:
        options = {"encoding": "utf-8"} | options
    steps = (READING if "r" in mode else WRITING) + (BINARY if "b" in mode else TEXT)
    steps = [*steps[-7:], *steps] if "r" in mode and "b" in mode else steps
    if "b" in mode:
        steps = [as_bytes(step) for step in steps]
    results = []
    for module in (aiofiles, aio):
        target = tmp_path / module.__name__
        if "x" not in mode:
            target.write_text("first\nsecond €\r\nthird", encoding="utf-8", newline="")
        opening = module.open(target, mode, **options)
        results.append((asyncio.run(outcomes(opening, steps)), target.read_bytes()))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    "arguments", [{"file": "nowhere/at all"}, {"mode": "rw"}, {"mode": "rb", "encoding": "ascii"}, {"file": 1.5}]
)
def test_errors_of_opening_are_those_of_aiofiles(path, arguments):
    """They come when it is awaited, with the same type and message."""

    async def error_of(module):
        opening = module.open(**({"file": path} | arguments))
        with pytest.raises((OSError, ValueError, TypeError)) as caught:
            await opening
        return type(caught.value), str(caught.value)

    assert run(error_of, aio) == run(error_of, aiofiles)


def test_awaited_instead_of_entered(path):
    """The object is the same, and closes when it is told to."""

    async def main():
        file = await aio.open(path, encoding="utf-8", loop=asyncio.get_running_loop())
        assert isinstance(file, aiofiles.threadpool.text.AsyncTextIOWrapper)
        assert "file" in repr(file)
        assert await file.read() == LINES
        await file.close()
        assert file.closed

    run(main)


def test_the_executor_is_used(path):
    """Operations run in the pool that is given, one at a time."""
    with ThreadPoolExecutor(4, "mine") as pool:
        names = set()

        def opener(name, flags):
            names.add(threading.current_thread().name[:4])
            return os.open(name, flags)

        async def main():
            async with aio.open(path, "rb", executor=pool, opener=opener) as file:
                parts = await asyncio.gather(*[file.read(7) for _ in range(50)])
                assert b"".join(parts) == LINES.encode()[:350]

        run(main)
        assert names == {"mine"}


def test_an_executor_that_is_shut_down(path, background):
    """What it cancels is an error; what it does not take any more, too."""
    busy = threading.Event()
    pool = ThreadPoolExecutor(1)

    async def main():
        async with aio.open(path, "rb") as other:
            file = await aio.open(path, "rb", executor=pool)
            await asyncio.wrap_future(pool.submit(int))  # so that the pool's one thread has done with the file
            pool.submit(busy.wait)
            reading = asyncio.create_task(file.read(1))
            await asyncio.sleep(0)
            pool.shutdown(wait=False, cancel_futures=True)
            with pytest.raises(RuntimeError, match="did not run"):
                await reading
            with pytest.raises(RuntimeError, match="shutdown"):
                await file.read(1)
            file._file.close()
            busy.set()
            assert await other.read(4) == b"line"

    run(main)


def test_a_file_that_is_dropped(path):
    """It is closed, and its thread does not outlive it."""

    async def main():
        file = await aio.open(path, "rb")
        await file.read(1)
        held = [file]
        del file
        with pytest.warns(ResourceWarning, match="unclosed"):
            held.clear()

    run(main)


def test_one_file_in_several_loops(path):
    """Nothing ties it to the loop in which it was opened."""
    file = run(lambda: awaited(aio.open(path, "rb")))
    assert [run(file.read, 4), run(file.read, 4)] == [b"line", b" 0: "]
    run(file.close)


# open, and a stop


@pytest.mark.parametrize("kind", KINDS)
def test_a_stop_ends_a_read_that_waits(pipe, kind):
    """What it had taken is in the exception, and the file goes on."""
    reader, far = pipe
    stop = KINDS[kind]()

    async def main():
        async with aio.open(reader, "rb", stop=stop) as file:
            far.write(b"abc")
            reading = asyncio.create_task(file.read(10))
            await blocked_on(stop, 2)
            stop.set()
            with pytest.raises(Interrupted) as caught:
                await reading
            assert caught.value.partial in {b"abc", None}
            file.stop = None
            far.write(b"def")
            assert (caught.value.partial or b"") + await file.read(3 if caught.value.partial else 6) == b"abcdef"

    run(main)


def test_a_stop_that_was_set_before(path):
    """Nothing is touched: not the file, nor its position. What needs no stop in view goes on."""
    stop = StopEvent()
    stop.set("enough")

    async def main():
        with pytest.raises(Interrupted, match="enough"):
            await aio.open(path.with_name("new"), "w", stop=stop)
        assert not path.with_name("new").exists()
        async with aio.open(path, "r+b") as file:
            file.stop = stop
            assert file.stop is stop
            for call in (file.read, file.readline, file.flush, functools.partial(file.write, b"x")):
                with pytest.raises(Interrupted) as caught:
                    await call()
            assert caught.value.transferred == 0
            assert await file.tell() == 0
            assert await file.seekable()

    run(main)
    assert path.read_text(encoding="utf-8") == LINES


def test_the_current_stop_counts(pipe):
    """It is that of the task that awaits, also in the thread; a shield holds."""
    reader, far = pipe
    stop = StopEvent()

    async def main():
        async with aio.open(reader, "rb", buffering=0) as file:
            with use_stop(stop):
                reading = asyncio.create_task(file.read(1))
            await blocked_on(stop, 2)
            stop.set()
            with pytest.raises(Interrupted):
                await reading
            with use_stop(stop):
                with pytest.raises(Interrupted):
                    await file.read(1)
                with use_stop(None):
                    far.write(b"x")
                    assert await file.read(1) == b"x"
                    assert current_stop() is None

    run(main)


def test_a_deadline(pipe):
    """It raises what deadlines raise, and the file goes on under another stop."""
    reader, far = pipe

    async def main():
        async with aio.open(reader, encoding="utf-8") as file:
            file.stop = StopEvent(timeout=0.01)
            with pytest.raises(DeadlineExceeded):
                await file.readline()
            file.stop = None
            far.write(b"line\n")
            assert await file.readline() == "line\n"

    run(main)


def test_a_timeout_of_one_wait(pipe):
    """It is a TimeoutError, as in files."""
    reader, _ = pipe

    async def main():
        async with aio.open(reader, "rb", timeout=0.01) as file:
            with pytest.raises(TimeoutError):
                await file.read(1)

    run(main)


def test_every_check(path):
    """A stop at any check either ends the operation, or comes when it is done; and then nothing is lost."""

    async def main():
        n = 0
        while True:
            n += 1
            stop = StopAfter(n)
            taken = b""
            async with aio.open(path, "rb", buffering=64, chunk_size=512) as file:
                file.stop = stop
                try:
                    taken = await file.read()
                except Interrupted as error:
                    taken = error.partial or b""
                    file.stop = None
                    assert taken + await file.read() == LINES.encode()
                    continue
                file.stop = None
            assert taken == LINES.encode()
            return

    run(main)


def test_the_open_of_a_fifo_waits_and_stops(tmp_path):
    """The other end never comes."""
    os.mkfifo(tmp_path / "fifo")
    stop = StopEvent()

    async def main():
        opening = asyncio.ensure_future(awaited(aio.open(tmp_path / "fifo", "rb", stop=stop)))
        await blocked_on(stop, 2)
        stop.set()
        with pytest.raises(Interrupted):
            await opening

    run(main)


def test_a_stuck_file_keeps_no_other_waiting(pipe, path):
    """However many wait, each has a thread of its own, and the loop's pool is not used."""
    ends = [os.pipe() for _ in range(40)]
    stop = StopEvent()

    async def main():
        opened = [await aio.open(reader, "rb", stop=stop) for reader, _ in ends]
        waiting = [asyncio.create_task(file.read(1)) for file in opened]
        async with aio.open(path, "rb") as file:
            assert await file.read(4) == b"line"
        stop.set()
        assert {type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)} == {Interrupted}
        for file in opened:
            await file.close()

    run(main)
    os.close(pipe[0])
    for _, writer in ends:
        os.close(writer)


# open, and a call that is given up


@contextmanager
def slow(file, method, *, after=False):
    """Have a method of the file under `file` take its time, before it does anything or after: it has begun, it may return."""
    begun, go = threading.Event(), threading.Event()
    original = getattr(file._file, method)

    @functools.wraps(original)
    def slowly(*arguments):
        value = original(*arguments) if after else None
        begun.set()
        go.wait(20)
        return value if after else original(*arguments)

    setattr(file._file, method, slowly)
    try:
        yield begun, go
    finally:
        go.set()
        delattr(file._file, method)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("how", ["stop", "cancel"])
@pytest.mark.parametrize(
    ("mode", "options", "method", "arguments"),
    [
        ("rb", {}, "read", (10,)),
        ("rb", {}, "readline", ()),
        ("rb", {}, "readinto", (bytearray(10),)),
        ("rb", {}, "readlines", (50,)),
        ("rb", {"buffering": 0}, "read", (10,)),
        ("rb", {"buffering": 8}, "read1", (10,)),
        ("r+b", {}, "read", (10,)),
        ("r", {"encoding": "utf-8"}, "read", (10,)),
        ("r", {"encoding": "utf-8"}, "readline", ()),
        ("r", {"encoding": "utf-8"}, "readlines", ()),
        ("r+", {"encoding": "utf-8", "newline": "", "buffering": 8}, "read", ()),
    ],
)
def test_a_read_that_is_given_up_loses_nothing(path, mode, options, method, arguments, how, after):
    """What the thread takes although its await has ended is what the next read begins with."""

    async def main():
        stop = StopEvent()
        async with aio.open(path, mode, **options) as file:
            first = await file.readline()
            file.stop = stop
            with slow(file, method, after=after) as (begun, go):
                reading = asyncio.create_task(getattr(file, method)(*arguments))
                await asyncio.to_thread(begun.wait)
                if how == "stop":
                    stop.set()
                    with pytest.raises(Interrupted) as caught:
                        await reading
                    assert caught.value.partial is None
                else:
                    reading.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await reading
                assert abandoned_helpers() == 1
                file.stop = None
                line = asyncio.create_task(file.readline())
                await asyncio.sleep(0)
                go.set()
                first += await line
            assert first + await file.read() == (LINES if "encoding" in options else LINES.encode())

    run(main)
    assert abandoned_helpers() == 0


@pytest.mark.parametrize(
    ("options", "call", "sent"),
    [
        ({"mode": "rb"}, lambda file: file.read(10), b"abc"),
        ({"mode": "rb"}, lambda file: file.readline(), b"abc"),
        ({"mode": "rb"}, lambda file: file.readinto(bytearray(10)), b"abc"),
        ({"mode": "rb", "buffering": 0}, lambda file: file.readall(), b"abc"),
        ({"encoding": "utf-8"}, lambda file: file.read(10), b"ab\xc3"),
        ({"encoding": "utf-8"}, lambda file: file.readline(), b"ab\xc3"),
    ],
)
def test_a_cancelled_read_of_a_pipe_frees_its_thread_and_loses_nothing(pipe, options, call, sent):
    """The thread ends its wait; the next read begins with what the cancelled one had taken."""
    reader, far = pipe

    async def main():
        async with aio.open(reader, **options) as file:
            reading = asyncio.create_task(call(file))
            far.write(sent)
            await in_its_thread(file)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await reading
            far.write(b"\xa4\n")
            line = sent + b"\xa4\n"
            assert await file.readline() == (line.decode() if "encoding" in options else line)

    run(main)


def test_a_result_that_comes_with_the_cancellation_is_not_lost(pipe):
    """The read completes and its task is cancelled before it has seen that, with more in the buffer behind."""
    reader, far = pipe

    async def main(cancel_late):
        async with aio.open(reader, "rb", closefd=False) as file:
            far.write(b"abcdef\n")
            with slow(file, "read", after=True) as (_, go):
                reading = asyncio.create_task(file.read(3))
                operation = await at_work(file)
                go.set()
                while operation.outcome is None:
                    time.sleep(0.001)  # noqa: ASYNC251 - the loop must not get on
            if cancel_late:
                operation.announce()  # the await has ended, the task has not run yet
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            assert await file.readline() == b"abcdef\n"

    run(main, False)
    run(main, True)
    os.close(reader)


def test_a_cancelled_read_that_has_not_begun_touches_nothing(pipe):
    """It waits behind another one, and goes from the queue."""
    reader, far = pipe

    async def main():
        async with aio.open(reader, "rb") as file:
            first = asyncio.create_task(file.read(1))
            await in_its_thread(file)
            second = asyncio.create_task(file.read(1))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            far.write(b"ab")
            assert [await first, await file.read(1)] == [b"a", b"b"]

    run(main)


def test_a_write_that_is_left_behind_makes_the_file_unusable(tmp_path):
    """Nobody knows what became of it; the file can be closed, and nothing else."""

    async def main():
        stop = StopEvent()
        async with aio.open(tmp_path / "file", "wb", stop=stop) as file:
            with slow(file, "write") as (begun, go):
                writing = asyncio.create_task(file.write(b"abc"))
                await asyncio.to_thread(begun.wait)
                stop.set()
                with pytest.raises(Interrupted):
                    await writing
                file.stop = None
                for call in (functools.partial(file.write, b"x"), file.tell):
                    with pytest.raises(ValueError, match=r"its write\(\) was left behind"):
                        await call()
                go.set()
        assert file.closed

    run(main)
    assert (tmp_path / "file").read_bytes() in {b"abc", b""}


def test_an_open_that_is_given_up_is_closed(path):
    """The file that it opens in the end belongs to nobody; that it is closed is checked after every test."""
    begun, go = threading.Event(), threading.Event()

    def opener(name, flags):
        begun.set()
        go.wait(20)
        return os.open(name, flags)

    async def main():
        stop = StopEvent()
        opening = asyncio.ensure_future(awaited(aio.open(path, opener=opener, stop=stop)))
        await asyncio.to_thread(begun.wait)
        stop.set()
        with pytest.raises(Interrupted):
            await opening
        assert abandoned_helpers() == 1
        go.set()

    run(main)


def test_a_close_behind_what_is_stuck(path):
    """It does not wait for that; the thread closes the file when it comes back."""

    async def main():
        stop = StopEvent()
        file = await aio.open(path, "rb", stop=stop)
        with slow(file, "read") as (begun, _):
            reading = asyncio.create_task(file.read(10))
            await asyncio.to_thread(begun.wait)
            stop.set()
            with pytest.raises(Interrupted):
                await reading
            file.stop = None
            await file.close()
            assert not file.closed
        async with asyncio.timeout(20):
            while not file.closed:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.001)

    run(main)


def test_a_cancelled_close_goes_on(tmp_path):
    """What was written is in the file."""

    async def main():
        file = await aio.open(tmp_path / "file", "wb")
        await file.write(b"abc")
        with slow(file, "close") as (begun, go):
            closing = asyncio.create_task(file.close())
            await asyncio.to_thread(begun.wait)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            go.set()
            await file.close()

    run(main)
    assert (tmp_path / "file").read_bytes() == b"abc"


@pytest.mark.parametrize("seed", range(8))
def test_whatever_ends_the_reads_nothing_is_lost_or_repeated(path, seed):
    """Reads of all kinds, stopped, cancelled or run out of time at any moment, together give the whole."""
    random_ = random.Random(seed)
    text, piped = bool(seed & 1), bool(seed & 2)
    options = {"mode": "r", "encoding": "utf-8"} if text else {"mode": "rb"}
    stop = StopEvent() if seed & 4 else threading.Event()
    parts = []

    async def one_read(file):
        size, soon = random_.choice([1, 7, 300]), random_.choice([0, 1e-5, 1e-4, 1e-3])
        method, *arguments = random_.choice([("read", size), ("readline",), ("readlines", size)])
        how = random_.randrange(4)
        setter = threading.Timer(soon, stop.set if how in {1, 2} else int)
        setter.start()
        try:
            async with asyncio.timeout(soon if how == 0 else None), aio.cancel_on(stop if how == 1 else None):
                value = await getattr(file, method)(*arguments)
            parts.extend(value if method == "readlines" else [value])
            return bool(value)
        except (Interrupted, TimeoutError) as error:
            parts.append(getattr(error, "partial", None) or ("" if text else b""))
            return True
        finally:
            await asyncio.to_thread(setter.join)
            stop.clear()

    async def main(source):
        async with aio.open(source, stop=stop, **options) as file:
            for _ in range(200):
                if not await one_read(file):
                    return
            parts.append(await file.read())

    data = LINES.encode()
    if not piped:
        run(main, path)
    else:
        reader, writer = os.pipe()

        def feed():
            with os.fdopen(writer, "wb", buffering=0) as far:
                for at in range(0, len(data), 97):
                    far.write(data[at : at + 97])

        feeder = threading.Thread(target=feed)
        feeder.start()
        run(main, reader)
        feeder.join()
    assert ("" if text else b"").join(parts) == (LINES if text else data)


def test_what_cannot_be_given_back_is_not_lost_in_silence(path):
    """The file was cut short meanwhile: it is unusable, and says why."""

    async def main():
        async with aio.open(path, encoding="utf-8") as file:
            await file.readline()
            with slow(file, "readline", after=True) as (begun, go):
                reading = asyncio.create_task(file.readline())
                await asyncio.to_thread(begun.wait)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                os.truncate(path, 0)
                go.set()
                await file.tell()  # comes after the giving back
            with pytest.raises(ValueError, match=r"lost what a readline\(\) took from it"):
                await file.readline()

    run(main)


def test_no_more_threads(path, monkeypatch):
    """It is an error where there is none, and changes nothing for the next in need."""

    def refuse(self):
        raise RuntimeError("can't start new thread")

    async def main():
        chunks, opening = aio.iter_chunks(path, chunk_size=1 << 19), aio.open(path)
        while _helpers._idle:  # noqa: ASYNC110 - threads of an earlier test, which wait a moment for another job
            await asyncio.sleep(0.01)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(RuntimeError, match="thread"):
                await opening
            with pytest.raises(RuntimeError, match="thread"):
                await anext(chunks)
        assert await collected(chunks) == path.read_bytes()
        async with aio.open(path, "rb") as file:
            assert await file.read(4) == b"line"

    path.write_bytes(bytes(3 << 20))
    path.write_bytes(b"line" + path.read_bytes())
    run(main)


@needs_fuse
def test_a_thread_that_is_stuck_in_the_kernel_is_left_behind(disk):  # noqa: F811 - the fixture
    """The await ends although nothing ends the call; the late answer is what the next read begins with."""
    stop = StopEvent()

    async def main():
        async with aio.open(disk.file, "rb", stop=stop) as file:
            reading = asyncio.create_task(file.read(100))
            await asyncio.to_thread(disk.wait_until, "waiting")
            stop.set("enough")
            with pytest.raises(Interrupted, match="enough"):
                await reading
            assert abandoned_helpers() == 1
            file.stop = None
            await asyncio.to_thread(disk.answer, "always")
            assert await file.read(100) == CONTENT[:100]

    run(main)
    assert abandoned_helpers() == 0


@needs_fuse
@pytest.mark.parametrize("buffering", [-1, 0])
def test_abandon_on_stop(disk, buffering):  # noqa: F811 - the fixture
    """The file goes on at once, without waiting for the call that hangs."""
    stop = StopEvent()

    async def main():
        async with aio.open(disk.file, "rb", buffering, stop=stop, abandon_on_stop=True) as file:
            reading = asyncio.create_task(file.read(100))
            await asyncio.to_thread(disk.wait_until, "waiting")
            await blocked_on(stop, 2)
            stop.set()
            with pytest.raises(Interrupted):
                await reading
            await asyncio.to_thread(disk.answer, "always")
            file.stop = None
            assert await file.read(100) == CONTENT[:100]

    run(main)


def test_the_program_ends_although_reads_are_stuck():
    """Neither the end of the loop nor that of the interpreter waits for them."""
    code = """
import asyncio, os, threading
from iointerrupt import aio
async def main():
    go, began = threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    def opener(name, flags):  # what no stop and no cancellation ends
        loop.call_soon_threadsafe(began.set)
        go.wait()
    opening = asyncio.ensure_future(opened(aio.open("x", opener=opener)))
    chunks = aio.iter_chunks(os.pipe()[0])
    reading = asyncio.ensure_future(opened(anext(chunks)))
    await began.wait()
    print("end")
async def opened(awaitable):
    return await awaitable
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")
