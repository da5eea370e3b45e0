"""The asyncio side besides files: chunks that are read ahead, waiting for a stop, and a stop for whatever is awaited."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time

import pytest

from iointerrupt import (
    DeadlineExceeded,
    Interrupted,
    ResourceBusy,
    StopEvent,
    abandoned_helpers,
    aio,
    as_stop,
    use_stop,
)
from tests.coroutines import KINDS, LINES, awaited, blocked_on, collected, needs_fuse, run
from tests.descriptors import open_on
from tests.test_files_hanging_disk import disk  # noqa: F401 - a fixture


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


# iter_chunks


@pytest.mark.parametrize("size", [1, 100, 1 << 20])
def test_chunks_of_a_file(path, size):
    """They are the file, each of the size that was asked for but the last."""

    async def main():
        chunks = [chunk async for chunk in aio.iter_chunks(path, chunk_size=size)]
        assert b"".join(chunks) == path.read_bytes()
        assert {len(chunk) for chunk in chunks[:-1]} <= {size}

    path.write_bytes(path.read_bytes()[: 1000 * size])
    run(main)


def test_part_of_a_file(path):
    """From an offset to an offset, of a path and of a descriptor, which stays open and is read no further."""

    async def main():
        data = path.read_bytes()
        assert await collected(aio.iter_chunks(str(path), start=5, end=20, chunk_size=4)) == data[5:20]
        with open(path, "rb", buffering=0) as file:  # noqa: ASYNC230 - it does not block
            chunks = aio.iter_chunks(file.fileno(), chunk_size=4)
            assert await anext(chunks) == data[:4]
            assert file.tell() == 4
            assert await anext(chunks) == data[4:8]
            await chunks.aclose()
            assert file.read(4) == data[8:12]

    run(main)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"chunk_size": 0}, ValueError),
        ({"chunk_size": "1"}, TypeError),
        ({"start": -1}, ValueError),
        ({"start": 2, "end": 1}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"stop": 7}, TypeError),
        ({"source": 1.5}, TypeError),
        ({"source": None}, TypeError),
    ],
)
def test_wrong_arguments_of_iter_chunks(path, arguments, error):
    """They are errors at once."""
    with pytest.raises(error):
        aio.iter_chunks(**({"source": path} | arguments))


def test_what_the_file_raises_comes_with_the_first_chunk(tmp_path):
    """Once; then it is at its end."""

    async def main():
        chunks = aio.iter_chunks(tmp_path / "nowhere")
        with pytest.raises(FileNotFoundError):
            await anext(chunks)
        assert await collected(chunks) == b""
        await chunks.aclose()

    run(main)


def test_a_stop_comes_before_chunks_that_have_been_read(path):
    """It raises at once; with it cleared or replaced the iterator goes on where it was."""
    stop = StopEvent()

    async def main():
        chunks = aio.iter_chunks(path, chunk_size=1000, stop=stop)
        data = await anext(chunks)
        stop.set("enough")
        for _ in range(2):
            with pytest.raises(Interrupted, match="enough"):
                await anext(chunks)
        chunks.stop = other = threading.Event()
        assert chunks.stop is as_stop(other)
        data += await anext(chunks)
        with use_stop(stop), pytest.raises(Interrupted):
            await anext(chunks)
        assert data + await collected(chunks) == path.read_bytes()

    run(main)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("by_path", [True, False])
def test_a_stop_ends_the_wait_for_a_chunk(tmp_path, kind, by_path):
    """Nothing is lost by it, nor by a cancellation or a timeout; the thread is not kept."""
    os.mkfifo(tmp_path / "fifo")
    keeper = os.open(tmp_path / "fifo", os.O_RDWR)
    source = tmp_path / "fifo" if by_path else keeper
    stop = KINDS[kind]()

    async def main():
        async with aio.iter_chunks(source, stop=stop, timeout=20) as chunks:
            next_one = asyncio.ensure_future(awaited(anext(chunks)))
            await blocked_on(stop)
            stop.set()
            with pytest.raises(Interrupted):
                await next_one
            stop.clear()
            next_one = asyncio.ensure_future(awaited(anext(chunks)))
            await blocked_on(stop)
            os.write(keeper, b"abc")
            next_one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await next_one
            assert await anext(chunks) == b"abc"
            chunks._timeout = 0.01
            with pytest.raises(TimeoutError):
                await anext(chunks)
            os.write(keeper, b"def")
            chunks._timeout = 20
            assert await anext(chunks) == b"def"

    run(main)
    os.close(keeper)


def test_a_deadline_of_an_iteration(pipe):
    """It raises what deadlines raise."""

    async def main():
        async with aio.iter_chunks(pipe[0], stop=StopEvent(timeout=0.01)) as chunks:
            with pytest.raises(DeadlineExceeded):
                await anext(chunks)

    run(main)
    os.close(pipe[0])


def test_reading_goes_on_while_the_consumer_works(path):
    """With one chunk taken, the next ones are there; and not all of them, however long it takes."""
    path.write_bytes(bytes(1 << 20) * 20)

    async def main():
        async with aio.iter_chunks(path) as chunks:
            await anext(chunks)
            async with asyncio.timeout(20):
                while len(chunks._reader._queue) < 2 or chunks._reader._is_running:  # noqa: ASYNC110 - as above
                    await asyncio.sleep(0.001)
            assert len(chunks._reader._queue) <= 3
            assert len(await collected(chunks)) == 19 << 20

    run(main)


def test_others_get_their_turn(path):
    """However fast the chunks are there, the loop goes round, and a cancellation comes through."""

    async def main():
        turns = 0

        async def count():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.create_task(count())
        chunks = [chunk async for chunk in aio.iter_chunks(path, chunk_size=100)]
        counting.cancel()
        assert turns >= len(chunks) - 1

    run(main)


def test_two_tasks_in_one_iterator(pipe):
    """The second is told so; the first goes on."""
    reader, far = pipe

    async def main():
        chunks = aio.iter_chunks(reader)
        first = asyncio.ensure_future(awaited(anext(chunks)))
        await asyncio.sleep(0)
        with pytest.raises(ResourceBusy):
            await anext(chunks)
        with pytest.raises(ResourceBusy):
            await chunks.aclose()
        far.write(b"x")
        assert await first == b"x"

    run(main)
    os.close(reader)


def test_a_closed_iterator_is_at_its_end(path):
    """Its file is closed when aclose returns, with a stop set too; closing again is nothing."""
    stop = StopEvent()

    async def main():
        chunks = aio.iter_chunks(path, chunk_size=10, stop=stop)
        await anext(chunks)
        stop.set()
        assert len(open_on(path)) == 1
        await chunks.aclose()
        assert open_on(path) == set()
        stop.clear()
        assert await collected(chunks) == b""
        await chunks.aclose()
        unused = aio.iter_chunks(path)
        await unused.aclose()
        assert await collected(unused) == b""

    run(main)
    assert open_on(path) == set()


def test_a_dropped_iterator_ends_its_thread(pipe, path):
    """Its thread is told, its file is closed: both are checked after every test."""

    async def main():
        chunks = aio.iter_chunks(path, chunk_size=10)
        await anext(chunks)
        del chunks
        chunks = aio.iter_chunks(pipe[0])
        waiting = asyncio.ensure_future(awaited(anext(chunks)))
        await asyncio.sleep(0)
        waiting.cancel()
        del chunks

    run(main)
    os.close(pipe[0])


def test_an_iterator_in_several_loops(path):
    """What was read ahead in one loop is delivered in the next."""
    chunks = aio.iter_chunks(path, chunk_size=1000)
    data = b"".join(run(lambda: awaited(anext(chunks))) for _ in range(5))
    assert data + run(collected, chunks) == path.read_bytes()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_an_iterator_in_a_forked_child(path):
    """It has no thread there, and starts one; it does not wait for the parent's."""
    chunks = aio.iter_chunks(path, chunk_size=1000)
    first = run(lambda: awaited(anext(chunks)))
    while chunks._reader._is_running:
        time.sleep(0.001)
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if first + run(collected, chunks) == path.read_bytes() else 1)
        except BaseException:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    run(chunks.aclose)


@needs_fuse
def test_an_iterator_that_is_stuck_is_closed_by_its_thread(disk):  # noqa: F811 - the fixture
    """Neither the wait nor aclose waits for the kernel."""
    stop = StopEvent()

    async def main():
        chunks = aio.iter_chunks(disk.file, chunk_size=100, stop=stop)
        waiting = asyncio.ensure_future(awaited(anext(chunks)))
        await asyncio.to_thread(disk.wait_until, "waiting")
        stop.set()
        with pytest.raises(Interrupted):
            await waiting
        await chunks.aclose()
        assert abandoned_helpers() == 1
        await asyncio.to_thread(disk.answer, "always")

    run(main)


# wait


@pytest.mark.parametrize("kind", KINDS)
def test_wait(kind):
    """It returns once the stop is set, in whatever thread."""
    stop = KINDS[kind]()

    async def main():
        waiting = asyncio.create_task(aio.wait(stop))
        await blocked_on(stop)
        await asyncio.to_thread(stop.set)
        assert await waiting is True
        assert await aio.wait(stop) is True

    run(main)


def test_wait_for_what_is_asked(monkeypatch):
    """A callable is asked again and again; a deadline comes by itself."""
    monkeypatch.setattr(StopEvent, "poll_interval", 0.002)
    flags = []

    async def main():
        asyncio.get_running_loop().call_later(0.01, flags.append, 1)
        assert await aio.wait(lambda: bool(flags)) is True
        assert await aio.wait(StopEvent(StopEvent(timeout=0.01))) is True

    run(main)


def test_wait_with_a_timeout():
    """It returns False when time is up; 0 asks."""
    stop = StopEvent()

    async def main():
        assert await aio.wait(stop, 0) is False
        assert await aio.wait(stop, timeout=0.01) is False
        with use_stop(stop):
            assert await aio.wait(threading.Event(), timeout=0.01) is False
        with pytest.raises(ValueError, match="timeout"):
            await aio.wait(stop, -1)
        with pytest.raises(TypeError):
            await aio.wait(None)
        waiting = asyncio.create_task(aio.wait(stop))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not stop._blocked

    run(main)


def test_a_set_and_clear_is_not_missed():
    """Who was waiting sees it."""
    stop = StopEvent()

    async def main():
        waiting = asyncio.create_task(aio.wait(stop))
        await asyncio.sleep(0)
        stop.set()
        stop.clear()
        assert await waiting is True

    run(main)


# cancel_on


@pytest.mark.parametrize("kind", KINDS)
def test_cancel_on_ends_whatever_is_awaited(kind):
    """The block is left by Interrupted, with the reason, and the task is not cancelled afterwards."""
    stop = KINDS[kind]()
    cleaned = []

    async def main():
        async def work():
            try:
                async with aio.cancel_on(stop):
                    try:
                        await asyncio.sleep(3600)
                    finally:
                        await asyncio.sleep(0)
                        cleaned.append(True)
            except Interrupted:
                assert asyncio.current_task().cancelling() == 0
                await asyncio.sleep(0)
                return "stopped"

        task = asyncio.create_task(work())
        await blocked_on(stop)
        await asyncio.to_thread(stop.set)
        assert await task == "stopped"
        with pytest.raises(Interrupted):
            async with aio.cancel_on(stop):
                cleaned.append("it must not run")

    run(main)
    assert cleaned == [True]


def test_the_reason_and_the_deadline_of_cancel_on():
    """The exception is what the stop raises."""

    async def main():
        with pytest.raises(DeadlineExceeded) as caught:
            async with aio.cancel_on(StopEvent(timeout=0.01)):
                await asyncio.sleep(3600)
        assert isinstance(caught.value.__context__, asyncio.CancelledError)
        stop = StopEvent()
        with use_stop(stop), pytest.raises(Interrupted, match="why"):
            async with aio.cancel_on():
                stop.set("why")
                await asyncio.sleep(3600)

    run(main)


def test_a_cancellation_by_somebody_else_stays_one():
    """Before the stop, and together with it."""
    stop = StopEvent()

    async def main():
        async def work():
            async with aio.cancel_on(stop):
                await asyncio.sleep(3600)

        for sets in (False, True):
            task = asyncio.create_task(work())
            await asyncio.sleep(0)
            task.cancel()
            if sets:
                stop.set()
                await asyncio.sleep(0)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()

    run(main)


def test_errors_of_the_block_pass():
    """A TimeoutError of its own stays one, as does what it raises when it is cancelled; a result too."""
    stop = StopEvent()

    async def main():
        with pytest.raises(TimeoutError):
            async with aio.cancel_on(stop):
                async with asyncio.timeout(0):
                    await asyncio.sleep(3600)
        with pytest.raises(KeyError):
            async with aio.cancel_on(stop):
                stop.set()
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    raise KeyError from None
        stop.clear()
        async with aio.cancel_on(stop):
            stop.set()
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
        assert asyncio.current_task().cancelling() == 0
        await asyncio.sleep(0)
        stop.clear()
        async with aio.cancel_on(stop):
            stop.set()  # and nothing is awaited
        await asyncio.sleep(0)

    run(main)


def test_cancel_on_among_others():
    """Nested, within and around timeouts, groups and gather: each leaves by its own."""
    inner, outer = StopEvent(), StopEvent()

    async def main():
        with pytest.raises(Interrupted, match="outer"):
            async with aio.cancel_on(outer):
                with pytest.raises(Interrupted, match="inner"):
                    async with aio.cancel_on(inner):
                        inner.set("inner")
                        await asyncio.gather(asyncio.sleep(3600), asyncio.sleep(3600))
                async with asyncio.timeout(3600), asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(3600))
                    outer.set("outer")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), aio.cancel_on(StopEvent()):
                await asyncio.sleep(3600)
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                group.create_task(stopped_by(inner))
        assert caught.group_contains(Interrupted) if hasattr(caught, "group_contains") else True

    async def stopped_by(stop):
        async with aio.cancel_on(stop):
            pass

    run(main)


@pytest.mark.parametrize("is_sooner", [True, False])
def test_a_group_in_cancel_on(is_sooner):
    """Of a group whose tasks stop on the same stop comes one Interrupted, whoever notices it first; other errors stay a group."""
    stop = StopEvent()

    async def stopped():
        if is_sooner:
            stop.set("enough")
            stop.raise_if_set()
        await aio.wait(stop)
        stop.raise_if_set()

    async def fails():
        raise OSError

    async def main():
        with pytest.raises(Interrupted, match="enough"):
            async with aio.cancel_on(stop), asyncio.TaskGroup() as group:
                group.create_task(stopped())
                await asyncio.sleep(0)
                stop.set("enough")
                await asyncio.sleep(3600)
        stop.clear()
        with pytest.raises(ExceptionGroup):
            async with aio.cancel_on(stop), asyncio.TaskGroup() as group:
                group.create_task(fails())
        with pytest.raises(ExceptionGroup):
            async with aio.cancel_on(stop), asyncio.TaskGroup() as group:
                group.create_task(of_another_stop())

    async def of_another_stop():
        raise Interrupted("another")

    run(main)


def test_cleanup_of_a_cancelled_task_can_be_limited():
    """In a task that is being cancelled, the scope knows its own cancellation from that."""

    async def main():
        async def work():
            try:
                await asyncio.sleep(3600)
            finally:
                with pytest.raises(DeadlineExceeded):
                    async with aio.cancel_on(StopEvent(timeout=0.01)):
                        await asyncio.sleep(3600)

        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)


def test_misuse_of_cancel_on():
    """It is an error that says so."""

    async def main():
        scope = aio.cancel_on(StopEvent())
        async with scope:
            pass
        with pytest.raises(RuntimeError, match="before"):
            await scope.__aenter__()
        with pytest.raises(RuntimeError, match="not been entered"):
            await aio.cancel_on().__aexit__(None, None, None)
        failed = asyncio.get_running_loop().create_future()

        def outside():
            try:
                aio.cancel_on().__aenter__().send(None)
            except RuntimeError as error:
                failed.set_result(str(error))

        asyncio.get_running_loop().call_soon(outside)
        assert "inside a task" in await failed

    with pytest.raises(TypeError):
        aio.cancel_on(7)
    run(main)


def test_streams_of_asyncio():
    """What the standard library awaits on a socket stops too, and the connection goes on."""
    stop = StopEvent()

    async def main():
        writers = []
        server = await asyncio.start_server(lambda _, writer: writers.append(writer), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())

            async def receive():
                async with aio.cancel_on(stop):
                    return await reader.readexactly(3)

            task = asyncio.create_task(receive())
            await blocked_on(stop)
            stop.set()
            with pytest.raises(Interrupted):
                await task
            stop.clear()
            writers[0].write(b"abc")
            assert await receive() == b"abc"
            for one in (writer, *writers):
                one.close()
                await one.wait_closed()

    run(main)


def test_a_stop_from_a_signal_handler():
    """It wakes the loop that is asleep in the main thread."""
    stop = StopEvent()
    before = signal.signal(signal.SIGUSR1, lambda *_: stop.set("signal"))

    async def main():
        asyncio.get_running_loop().call_soon(
            lambda: threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1)).start()
        )
        with pytest.raises(Interrupted, match="signal"):
            async with aio.cancel_on(stop):
                await asyncio.sleep(3600)

    try:
        run(main)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_stop_after_the_loop_was_closed():
    """Nobody is woken, and nothing is raised in who sets it."""
    stop = StopEvent()
    loop = asyncio.new_event_loop()
    task = loop.create_task(aio.wait(stop))
    loop.run_until_complete(asyncio.sleep(0))
    task._log_destroy_pending = False
    loop.close()
    stop.set()
    del task
    gc.collect()
    assert not stop._blocked
