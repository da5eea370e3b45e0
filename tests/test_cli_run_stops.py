"""`iointerrupt run` and the threads of a program: how the first signal stops them, those of pools and of asyncio included."""

from __future__ import annotations

import signal
import socket

import pytest

from tests.programs import interrupted, scripts_in

pytestmark = pytest.mark.usefixtures("ctrl_c")


@pytest.fixture
def start(tmp_path):
    """Has a script run under `iointerrupt run`."""
    return scripts_in(tmp_path)


class TestThreads:
    """What other threads get."""

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
    def test_main_thread_is_over(self, start, number, code):
        """Threads that keep the program alive after its last line are ended too, and so is the program, by the signal."""
        with start("""
            import atexit, socket, threading
            from ready import say_when_blocked
            atexit.register(print, "at exit")
            pairs = [socket.socketpair() for _ in range(3)]
            for near, far in pairs:
                threading.Thread(target=near.recv, args=(1,)).start()
            say_when_blocked(3)
        """) as program:
            assert interrupted(program, number) == (code, ["at exit"], "")

    def test_each_wait(self, start):
        """From then on each wait raises, so that a loop that swallows one cannot go on; what is computed goes on."""
        with start("""
            import threading, time
            from iointerrupt import Interrupted
            from ready import say_when_blocked
            def work():
                for _ in range(3):
                    try:
                        time.sleep(600)
                    except Exception as error:
                        print(type(error).__name__, error.reason)
                print(sum(range(10)))
            threading.Thread(target=work).start()
            say_when_blocked()
        """) as program:
            code, lines, errors = interrupted(program, signal.SIGTERM)
        assert (code, lines, errors) == (143, ["Interrupted SIGTERM"] * 3 + ["45"], "")

    def test_ends_quietly(self, start):
        """A thread that ends by it is told to no hook; one that ends by anything else is."""
        with start("""
            import threading, time
            from ready import say_when_blocked
            threading.excepthook = lambda args: print(args.thread.name, repr(args.exc_value), time.sleep(0.01))
            def work(error):
                try:
                    time.sleep(600)
                except Exception:
                    if error is not None:
                        raise error
                    raise
            for error in (None, ValueError("bad")):
                threading.Thread(target=work, args=(error,), name=repr(error)).start()
            say_when_blocked(2)
        """) as program:
            code, lines, errors = interrupted(program)
        assert (code, lines, errors) == (-signal.SIGINT, ["ValueError('bad') ValueError('bad') None"], "")

    def test_of_threads(self, start):
        """Threads that threads start, classes of threads, and timers that arm the next one are all ended."""
        with start("""
            import threading, time
            from ready import say_when_blocked
            class Worker(threading.Thread):
                def run(self):
                    threading.Thread(target=time.sleep, args=(600,)).start()
                    time.sleep(600)
            def again():
                threading.Timer(0.001 if timers else 600, again).start()
                timers and timers.pop()
            timers = [None] * 5
            Worker().start()
            again()
            while timers:
                time.sleep(0.001)
            say_when_blocked(3)
        """) as program:
            assert interrupted(program) == (-signal.SIGINT, [], "")

    def test_timers_leave_nothing_behind(self, start):
        """A timer that arms the next one, again and again, keeps none of the stops of those before."""
        with start("""
            import gc, threading
            from iointerrupt import StopEvent, current_stop
            done = threading.Event()
            def again(n):
                if n:
                    threading.Timer(0, again, [n - 1]).start()
                else:
                    gc.collect()
                    print(sum(isinstance(each, StopEvent) for each in gc.get_objects()) < 20)
                    done.set()
            again(200)
            done.wait()
        """) as program:
            assert program.end() == (0, ["True"])

    def test_stop_of_a_thread(self, start):
        """The stop that a thread sets itself stops those that it has started, and no others."""
        with start("""
            import threading, time
            from iointerrupt import current_stop
            found = {}
            def look(name):
                found[name] = current_stop().is_set()
            def outer():
                threads.append(threading.Thread(target=time.sleep, args=(600,)))
                threads[-1].start()
                current_stop().set()
                threads.append(threading.Thread(target=look, args=("inner",)))
                threads[-1].start()
            threads = [threading.Thread(target=outer)]
            threads[0].start()
            threads[0].join()
            threads.append(threading.Thread(target=look, args=("other",)))
            threads[-1].start()
            for thread in threads:
                thread.join()
            print(found["inner"], found["other"])
        """) as program:
            assert program.end() == (0, ["True False"])

    def test_those_of_the_library(self, start):
        """`iointerrupt.Thread` and `ThreadGroup` are stopped like others, and so is what a group's body waits for."""
        with start("""
            import threading, time
            from iointerrupt.threads import Thread, ThreadGroup
            from ready import say_when_blocked
            thread = Thread(target=time.sleep, args=(600,))
            thread.start()
            say_when_blocked(3)
            try:
                with ThreadGroup() as group:
                    members = [group.start(time.sleep, 600) for _ in range(2)]
            except KeyboardInterrupt:
                for one in [thread, *members]:
                    one.join()
                print("joined")
        """) as program:
            assert interrupted(program) == (0, ["joined"], "")

    def test_of_another_context(self, start):
        """A thread that runs in a copy of the main thread's context is stopped for good as well, the main thread is not."""
        with start("""
            import contextvars, threading, time
            from iointerrupt import Interrupted
            from ready import say_when_blocked
            def work():
                for _ in range(2):
                    try:
                        time.sleep(600)
                    except Interrupted as error:
                        print(error.reason)
            thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
            thread.start()
            say_when_blocked(2)
            try:
                thread.join()
            except KeyboardInterrupt:
                thread.join()
                time.sleep(0.001)
                print("main")
        """) as program:
            assert interrupted(program) == (0, ["SIGINT", "SIGINT", "main"], "")

    def test_daemons(self, start):
        """Daemon threads do not hold up the end, whether a stop reaches them or not."""
        with start("""
            import os, threading, time
            from ready import say_when_blocked
            reader, writer = os.pipe()
            threading.Thread(target=os.read, args=(reader, 1), daemon=True).start()
            threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
            say_when_blocked(2)
            time.sleep(600)
        """) as program:
            code, lines, errors = interrupted(program)
        assert (code, lines) == (-signal.SIGINT, [])
        assert errors.count("Traceback") == 1


class TestPools:
    """Threads that serve others."""

    def test_thread_pool(self, start):
        """A pool's tasks are stopped, those that wait for a thread are not begun, and the pool can be used afterwards."""
        with start("""
            import concurrent.futures, logging, time
            from iointerrupt import Interrupted
            from ready import say_when_blocked
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                idle = pool.submit(int)
                tasks = [pool.submit(time.sleep, 600) for _ in range(2)] + [pool.submit(print, "begun")]
                say_when_blocked(3)
                try:
                    concurrent.futures.wait(tasks)
                except KeyboardInterrupt:
                    print([repr(task.exception()) for task in tasks])
                    print(pool.submit(pow, 2, 5).result())
        """) as program:
            code, lines, errors = interrupted(program)
        assert (code, errors) == (0, "")
        assert lines == [str(["Interrupted('SIGINT')"] * 3), "32"]

    def test_idle_pool(self, start):
        """One that nobody has told to end, with threads that have nothing to do, says nothing and ends."""
        with start("""
            import concurrent.futures, time
            from ready import say_when_blocked
            pool = concurrent.futures.ThreadPoolExecutor(3)
            print(list(pool.map(str, range(3))))
            say_when_blocked()
            try:
                time.sleep(600)
            except KeyboardInterrupt:
                pass
        """) as program:
            assert program.line() == "['0', '1', '2']"
            assert interrupted(program) == (0, [], "")

    @pytest.mark.parametrize("kind", ["Pool", "pool.ThreadPool"])
    def test_multiprocessing_pool(self, start, kind):
        """A pool of processes, or of threads, of multiprocessing can be ended in the usual way."""
        with start(f"""
            import multiprocessing.pool, time
            from ready import say_when_blocked
            if __name__ == "__main__":
                with multiprocessing.{kind}(2) as pool:
                    print(pool.map(str, range(3)))
                    say_when_blocked()
                    try:
                        pool.map(time.sleep, [600] * 4)
                    except KeyboardInterrupt:
                        print("caught")
        """) as program:
            assert program.line() == "['0', '1', '2']"
            assert interrupted(program) == (0, ["caught"], "")

    def test_what_serves_the_end(self, start):
        """What carries log records and items between processes goes on until it is told to end."""
        with start("""
            import logging, logging.handlers, multiprocessing, queue, sys, time
            from ready import say_when_blocked
            records = queue.Queue()
            logging.getLogger().addHandler(logging.handlers.QueueHandler(records))
            listener = logging.handlers.QueueListener(records, logging.StreamHandler(sys.stdout))
            listener.start()
            items = multiprocessing.Queue()
            items.put("first")
            print(items.get())
            say_when_blocked()
            try:
                time.sleep(600)
            except KeyboardInterrupt:
                logging.warning("logged")
                items.put("second")
                print(items.get())
            finally:
                listener.stop()
        """) as program:
            assert program.line() == "first"
            code, lines, errors = interrupted(program)
        assert (code, sorted(lines), errors) == (0, ["logged", "second"], "")


class TestAsyncio:
    """asyncio has its own way with Ctrl-C, which goes on."""

    def test_main_task(self, start):
        """The main task is cancelled, may clean up, and the program ends by KeyboardInterrupt."""
        with start("""
            import asyncio
            async def main():
                print("blocked", flush=True)
                try:
                    await asyncio.sleep(600)
                except asyncio.CancelledError:
                    await asyncio.sleep(0.01)
                    print("cancelled")
                    raise
            asyncio.run(main())
        """) as program:
            code, lines, errors = interrupted(program)
        assert (code, lines) == (-signal.SIGINT, ["cancelled"])
        assert errors.endswith("\nKeyboardInterrupt\n")

    def test_threads(self, start):
        """What it runs in threads is stopped by the same Ctrl-C: else the end of the loop would wait for it."""
        with start("""
            import asyncio, socket, time
            from ready import say_when_blocked
            near, far = socket.socketpair()
            async def main():
                say_when_blocked(2)
                loop = asyncio.get_running_loop()
                await asyncio.gather(asyncio.to_thread(time.sleep, 600), loop.run_in_executor(None, near.recv, 1))
            try:
                asyncio.run(main())
            except KeyboardInterrupt:
                print("caught")
        """) as program:
            assert interrupted(program) == (0, ["caught"], "")

    def test_sigterm(self, start):
        """SIGTERM ends the loop by SystemExit(143), with its tasks cancelled."""
        with start("""
            import asyncio
            async def main():
                print("blocked", flush=True)
                try:
                    await asyncio.sleep(600)
                finally:
                    print("finally")
            asyncio.run(main())
        """) as program:
            code, lines, _ = interrupted(program, signal.SIGTERM)
        assert (code, lines) == (143, ["finally"])


def test_peers_see_the_end(start):
    """A peer of a thread that is stuck in a request sees its connection closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with start(f"""
            import threading, urllib.request
            from ready import say_when_blocked
            url = "http://127.0.0.1:{server.getsockname()[1]}/"
            threading.Thread(target=urllib.request.urlopen, args=(url,)).start()
            say_when_blocked()
        """) as program:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(30)
                assert connection.recv(1000).startswith(b"GET / HTTP/1.1\r\n")
                assert interrupted(program) == (-signal.SIGINT, [], "")
                assert connection.recv(1) == b""
