"""Many threads, many linked events, many callbacks: how long a stop takes as they grow in number; memory, and the import."""

from __future__ import annotations

import concurrent.futures
import functools
import gc
import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmarks.idle import many_threads
from benchmarks.latency_timing import FLOOR, those_who_can
from benchmarks.measure import Comparison, Row, Run, in_turn
from iointerrupt import Interrupted, StopEvent, sockets
from iointerrupt.testing import wait_until_blocked

#: How many threads, and in how many rounds.
THREADS = {1: 60, 10: 30, 100: 12, 1_000: 5, 5_000: 3}
#: How many linked events or callbacks; so many rounds each.
LINKED = (1, 10, 100, 1_000, 10_000)
DEPTHS = (1, 10, 100, 1_000)
ROUNDS = 15
CHILDREN = 1_000_000
IMPORTS = 15
#: By how much there is less of all in a quick run, and what it leaves out.
_QUICK = 5
_MOST_WHEN_QUICK = 1_000

_STOP = "stop of all blocked threads"
_STOP_CHILDREN = "stop of threads that have a child of the stop each"
_EACH = "threading.Event, each set"

#: How much of the floor's speed is wanted: within twice its time for one thread, within 1.5 times its slope for many.
_NEAR_ALONE = 1 / 2
_NEAR = 1 / 1.5
#: Seconds that it may take until all threads are blocked.
_LIMIT = 120


def measure(*, quick: bool) -> Iterator[Comparison | Row]:
    """A comparison for each number of each."""
    rounds = _fewer(ROUNDS, quick=quick)
    able, left_out = those_who_can({name: functools.partial(stop, 1) for name, stop in _STOPS.items()})
    for n, times in THREADS.items():
        if quick and n > _MOST_WHEN_QUICK:
            continue
        try:
            with many_threads(n):
                runs = {name: functools.partial(_STOPS[name], n) for name in able}
                near = _NEAR if n > 1 else _NEAR_ALONE
                yield _compare(_STOP, n, runs, _fewer(times, quick=quick), least={FLOOR: near}, left_out=left_out)
                if n <= _MOST_WHEN_QUICK:
                    runs = {"iointerrupt": functools.partial(_stop_children, n), _EACH: functools.partial(_set_each, n)}
                    yield _compare(
                        _STOP_CHILDREN, n, runs, min(_fewer(times, quick=quick), rounds), least={_EACH: near}
                    )
        except (OSError, RuntimeError, ValueError) as error:  # so many descriptors or threads are not allowed
            yield Row(f"{_STOP}, n = {n:,}", 0, "", "measured", met=False, note=str(error))
    yield from _linked(rounds)
    yield from _callbacks(rounds)
    yield from _children(_fewer(CHILDREN, quick=quick))
    yield _import(_fewer(IMPORTS, quick=quick))


def _fewer(number: int, *, quick: bool) -> int:
    return max(number // _QUICK, 1) if quick else number


def _compare(
    what: str,
    n: int,
    runs: Mapping[str, Run],
    rounds: int,
    *,
    least: Mapping[str, float] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> Comparison:
    samples = in_turn(runs, rounds, warm_up=int(n < _MOST_WHEN_QUICK))
    return Comparison(f"{what}, n = {n:,}", "s", samples, least=least or {}, left_out=left_out or {})


# Threads


def _until_the_last(
    blocks: Sequence[Callable[[], object]],
    end: Callable[[], object],
    await_blocked: Callable[[], object] = lambda: None,
) -> float:
    """The seconds from `end()` until the last thread is out of its block."""
    about_to = threading.Semaphore(0)
    ended: list[float] = []

    def work(block: Callable[[], object]) -> None:
        about_to.release()
        block()
        ended.append(time.perf_counter())

    threads = [threading.Thread(target=work, args=(block,), daemon=True) for block in blocks]
    for thread in threads:
        thread.start()
    for _ in threads:
        about_to.acquire()
    await_blocked()
    time.sleep(0.02 + len(threads) / 10_000)  # from there to the system call
    began = time.perf_counter()
    end()
    for thread in threads:
        thread.join()
    return max(ended) - began


def _receive(near: sockets.Socket) -> None:
    try:
        near.recv(1)
    except Interrupted:
        pass


def _stop_receiving(n: int) -> float:
    stop = StopEvent()
    return _stop(stop, [stop] * n)


def _stop_children(n: int) -> float:
    stop = StopEvent()
    return _stop(stop, [StopEvent(stop) for _ in range(n)])


def _stop(stop: StopEvent, stops: Sequence[StopEvent]) -> float:
    pairs = [sockets.socketpair(stop=each) for each in stops]
    blocks = [functools.partial(_receive, near) for near, _ in pairs]
    try:
        return _until_the_last(
            blocks, stop.set, functools.partial(wait_until_blocked, stop, len(stops), timeout=_LIMIT)
        )
    finally:
        for near, far in pairs:
            near.close()
            far.close()


def _set_waiting(n: int) -> float:
    event = threading.Event()
    return _until_the_last([event.wait] * n, event.set)


def _set_each(n: int) -> float:
    events = [threading.Event() for _ in range(n)]
    return _until_the_last([event.wait for event in events], functools.partial(_set_all, events))


def _set_all(events: Sequence[threading.Event]) -> None:
    for event in events:
        event.set()


def _cancel_tasks(n: int) -> float:
    import asyncio

    async def run() -> float:
        loop = asyncio.get_running_loop()
        ended: list[float] = []

        async def receive(near: socket.socket) -> None:
            try:
                await loop.sock_recv(near, 1)
            except asyncio.CancelledError:
                ended.append(time.perf_counter())

        pairs = [socket.socketpair() for _ in range(n)]
        for near, _ in pairs:
            near.setblocking(False)
        tasks = [asyncio.create_task(receive(near)) for near, _ in pairs]
        await asyncio.sleep(0.02)
        began = time.perf_counter()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        for near, far in pairs:
            near.close()
            far.close()
        return max(ended) - began

    return asyncio.run(run())


def _kill_greenlets(n: int) -> float:
    import gevent
    import gevent.socket

    took: list[float] = []

    def run() -> None:
        hub = gevent.get_hub()
        ended: list[float] = []

        def receive(near: gevent.socket.socket) -> None:
            try:
                near.recv(1)
            except gevent.GreenletExit:
                ended.append(time.perf_counter())

        pairs = [gevent.socket.socketpair() for _ in range(n)]
        greenlets = [gevent.spawn(receive, near) for near, _ in pairs]
        gevent.sleep(0.02)
        began = time.perf_counter()
        gevent.killall(greenlets)
        took.append(max(ended) - began)
        for near, far in pairs:
            near.close()
            far.close()
        hub.destroy(destroy_loop=True)

    thread = threading.Thread(target=run)  # a hub belongs to a thread, and is to end with it
    thread.start()
    thread.join()
    return took[0]


_STOPS: dict[str, Callable[[int], float]] = {
    "iointerrupt": _stop_receiving,
    FLOOR: _set_waiting,
    "asyncio, tasks cancelled": _cancel_tasks,
    "gevent, greenlets killed": _kill_greenlets,
}


# Events that are linked, and callbacks


def _linked(rounds: int) -> Iterator[Comparison]:
    for n in LINKED:
        runs = {"iointerrupt": functools.partial(_set_parent, n), _EACH: functools.partial(_set_events, n)}
        yield _compare("set of a stop that has children", n, runs, rounds)
    for n in DEPTHS:
        runs = {
            "iointerrupt": functools.partial(_stop_deepest, n),
            f"{FLOOR}, no chain": functools.partial(_set_waiting, 1),
        }
        yield _compare("stop of a thread at the end of a chain of children", n, runs, rounds)


def _set_parent(n: int) -> float:
    parent = StopEvent()
    children = [StopEvent(parent) for _ in range(n)]
    took = _timed(parent.set)
    del children
    return took


def _set_events(n: int) -> float:
    events = [threading.Event() for _ in range(n)]
    return _timed(lambda: _set_all(events))


def _stop_deepest(depth: int) -> float:
    root = deepest = StopEvent()
    for _ in range(depth):
        deepest = StopEvent(deepest)
    near, far = sockets.socketpair(stop=deepest)
    with near, far:
        block, blocked = functools.partial(_receive, near), functools.partial(wait_until_blocked, root, timeout=_LIMIT)
        return _until_the_last([block], root.set, blocked)


def _callbacks(rounds: int) -> Iterator[Comparison]:
    makers = {"iointerrupt": _register, "concurrent.futures.Future": _add}
    for n in LINKED:
        runs = {name: functools.partial(_time_to_register, make, n) for name, make in makers.items()}
        yield _compare("registering callbacks", n, runs, rounds)
        runs = {name: functools.partial(_time_to_call, make, n) for name, make in makers.items()}
        yield _compare("set of a stop that has callbacks", n, runs, rounds)


#: What calls the callbacks that were registered, and the seconds that registering them took.
_Registered = tuple[Callable[[], object], float]


def _time_to_register(make: Callable[[int], _Registered], n: int) -> float:
    return make(n)[1]


def _time_to_call(make: Callable[[int], _Registered], n: int) -> float:
    return _timed(make(n)[0])


def _register(n: int) -> _Registered:
    stop = StopEvent()

    def register() -> None:
        for _ in range(n):
            stop.on_set(_called)

    return stop.set, _timed(register)


def _add(n: int) -> _Registered:
    done: concurrent.futures.Future[None] = concurrent.futures.Future()

    def add() -> None:
        for _ in range(n):
            done.add_done_callback(_called)

    return functools.partial(done.set_result, None), _timed(add)


def _called(_future: object = None) -> None:
    pass


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


# What is left behind, and the import


def _resident() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def _children(count: int) -> Iterator[Row]:
    parent = StopEvent()
    for _ in range(count // 10):
        StopEvent(parent)
    gc.collect()
    memory, descriptors = _resident(), len(os.listdir("/proc/self/fd"))
    for _ in range(count):
        StopEvent(parent)
    gc.collect()
    grown = (_resident() - memory) / 1024
    yield Row(f"memory after {count:,} children made and dropped", grown, "KiB", "flat", grown < 512)
    opened = len(os.listdir("/proc/self/fd")) - descriptors
    yield Row("descriptors after them", opened, "", "0", opened == 0)


def _import(rounds: int) -> Comparison:
    def took(names: str) -> float:
        code = f"import time; t = time.perf_counter(); import {names}; print(time.perf_counter() - t)"
        # With compiled modules, as an installed package has them.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
        return float(out.stdout)

    plain = "threading, socket"
    samples = in_turn({"iointerrupt": lambda: took("iointerrupt"), plain: lambda: took(plain)}, rounds)
    return Comparison("import", "s", samples, least={plain: _NEAR})
