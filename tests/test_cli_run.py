"""`iointerrupt run` as a way to run a program: what it sees, prints and leaves is what it is under `python`."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest

from iointerrupt import cli, monkey
from iointerrupt._cli.run import PARTS
from tests.programs import RUN

# Prints all that a program can see of how it was started.
ENVIRONMENT = """\
import builtins
import sys

import __main__

names = vars(__main__)
print(sys.argv, sys.path)
print(list(names), names is globals(), __main__ is sys.modules["__main__"], __builtins__ is builtins)
print(__name__, repr(__doc__), __package__, __file__)
print([names.get(name, "none") for name in ("__annotations__", "__cached__")])
print(__loader__ if isinstance(__loader__, type) else type(__loader__), __spec__ and (__spec__.name, __spec__.origin))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The current folder, with a program in each of its forms."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "script.py", ENVIRONMENT)
    write(tmp_path / "inner" / "script.py", ENVIRONMENT)
    write(tmp_path / "package" / "__init__.py", "")
    write(tmp_path / "package" / "__main__.py", ENVIRONMENT)
    write(tmp_path / "package" / "module.py", ENVIRONMENT)
    os.symlink("../script.py", tmp_path / "inner" / "link.py")
    with zipfile.ZipFile(tmp_path / "zipped", "w") as zipped:
        zipped.writestr("__main__.py", ENVIRONMENT)
    return tmp_path


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def python(*arguments, **options):
    """What Python prints and returns."""
    settings = {"capture_output": True, "text": True, "timeout": 50, "stdin": None if "input" in options else -3}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        **{key: value for key, value in {**settings, **options}.items() if value},
    )


def run(*arguments, **options):
    """The same under `iointerrupt run`."""
    return python(*RUN, *arguments, **options)


def parts(done):
    """The exit code, the output and the errors, without the lines of runpy, which are none of the program's."""
    lines = done.stderr.splitlines()
    errors = [line for line in lines if '"<frozen runpy>"' not in line]
    return done.returncode, done.stdout, errors


def assert_same(*arguments, **options):
    """Both do the same, which is returned."""
    expected, found = python(*arguments, **options), run(*arguments, **options)
    assert parts(found) == parts(expected)
    return found


class TestSees:
    """What a program sees of how it was started."""

    @pytest.mark.parametrize(
        "arguments",
        [
            ["script.py"],
            ["script.py", "one", "--two", "-m", "--", "--help"],
            ["./script.py"],
            [os.path.join("inner", "..", "script.py")],
            [os.path.join("inner", "link.py"), ""],
            ["package"],
            ["./package/", "one"],
            ["zipped", "one"],
            ["-m", "script", "one", "--two"],
            ["-m", "package", "--help"],
            ["-m", "package.module", "-x", "--", "-m"],
        ],
        ids=" ".join,
    )
    def test_started(self, arguments):
        """Scripts, links, folders, zip files, modules and packages have the same arguments, path and `__main__`."""
        assert assert_same(*arguments).returncode == 0

    def test_absolute(self, folder):
        """So has a script that is named with its whole path."""
        assert assert_same(folder / "inner" / "script.py", "one").returncode == 0

    def test_standard_input(self):
        """And one that comes from standard input."""
        assert assert_same("-", "one", "--two", input=ENVIRONMENT).returncode == 0

    @pytest.mark.parametrize("arguments", [["script.py"], ["package"], ["-m", "package"]], ids=" ".join)
    def test_safe_path(self, arguments):
        """Where the folder of the script is to be left out of the path, it is."""
        assert_same(*arguments, env={**os.environ, "PYTHONSAFEPATH": "1"})

    def test_compiled(self, folder):
        """A compiled script is run, and one that another Python has compiled is refused."""
        import py_compile

        py_compile.compile("script.py", "compiled.pyc")
        assert assert_same("compiled.pyc").returncode == 0
        write(folder / "other.pyc", "nothing")
        assert "Bad magic number" in assert_same("other.pyc").stderr

    def test_module_beside_the_script(self, folder):
        """A script imports what lies beside it, and not what lies in the current folder."""
        write(folder / "inner" / "beside.py", "print(__name__)")
        write(folder / "inner" / "imports.py", "import beside, package")
        done = assert_same("inner/imports.py")
        assert done.stdout == "beside\n"
        assert "No module named 'package'" in done.stderr

    def test_from_a_descriptor(self, folder):
        """A script may come through a pipe, which can be read only once."""
        reader, writer = os.pipe()
        os.write(writer, b"print(__file__)")
        os.close(writer)
        done = run(f"/dev/fd/{reader}", pass_fds=[reader])
        os.close(reader)
        assert parts(done) == (0, f"/dev/fd/{reader}\n", [])


class TestEnds:
    """How a program ends."""

    @pytest.mark.parametrize(
        "code",
        [
            "pass",
            "raise SystemExit",
            "import sys; sys.exit(3)",
            "import sys; sys.exit(True)",
            "import sys; sys.exit(-1)",
            "import sys; sys.exit('text')",
            "import sys; sys.exit([1, 2])",
            "import os; os._exit(5)",
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
        ],
    )
    def test_exit_codes(self, folder, code):
        """Each way to exit gives the same code and the same words."""
        write(folder / "exits.py", code)
        assert_same("exits.py")
        assert_same("-m", "exits")

    def test_order(self, folder):
        """An error is reported first, then threads are waited for, and then what was registered is called."""
        write(
            folder / "order.py",
            """
import atexit, sys, threading
atexit.register(print, "at exit", file=sys.stderr)
def wait():
    threading.main_thread().join()
    print("thread", file=sys.stderr)
threading.Thread(target=wait).start()
sys.exit("text")
""",
        )
        assert assert_same("order.py").stderr == "text\nthread\nat exit\n"

    @pytest.mark.parametrize(
        "code",
        [
            "def inner():\n    raise ValueError('bad')\ninner()",
            "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('bad') from error",
            "raise ExceptionGroup('both', [ValueError('a'), KeyError('b')])",
            "import json\njson.loads('{')",
            "raise KeyboardInterrupt",
            "raise GeneratorExit",
            "import missing_module",
            "x = = 1",
            "def f():\nreturn",
            "print('a'\n",
            "if x:\n\ty\n        z",
            "'\\x'",
            "import sys\nsys.excepthook = lambda kind, error, trace: print(kind, error, trace is error.__traceback__)\n1 / 0",
            "import sys\nsys.excepthook = lambda *_: sys.exit(7)\n1 / 0",
            "import sys, atexit\natexit.register(lambda: print(repr(sys.last_value), sys.last_type))\n1 / 0",
            "import threading\nthreading.Thread(target=lambda: 1 / 0).start()",
            "import warnings\nwarnings.warn('old', DeprecationWarning)",
        ],
    )
    def test_errors(self, folder, code):
        """An error, of the program or of its syntax, looks the same line by line, and gives the same code."""
        write(folder / "fails.py", code)
        assert_same("fails.py")
        assert_same("-m", "fails")

    def test_failing_excepthook(self, folder):
        """Where the program's own hook for errors fails, both errors are reported."""
        write(folder / "fails.py", "import sys\nsys.excepthook = lambda *_: {}['hook']\nraise ValueError('bad')")
        done = run("fails.py")
        assert done.returncode == 1
        for part in ("Error in sys.excepthook:", "KeyError: 'hook'", "Original exception was:", "ValueError: bad"):
            assert part in done.stderr

    @pytest.mark.parametrize(
        "module", ["missing", "package.missing", "missing.inner", "broken", "broken.inner", "script.x"]
    )
    def test_no_such_module(self, folder, module):
        """A module that is not there, or fails when it is imported, is reported in the same words."""
        write(folder / "broken" / "__init__.py", "1 / 0")
        assert_same("-m", module)

    @pytest.mark.parametrize("name", ["missing.py", "missing/script.py", "script.py/inner", "empty"])
    def test_no_such_script(self, folder, name):
        """Nor is there a script."""
        (folder / "empty").mkdir()
        assert assert_same(name).returncode == (1 if name == "empty" else 2)

    def test_encodings(self, folder):
        """A script says in which encoding it is."""
        (folder / "latin.py").write_bytes("# coding: latin-1\nprint(ascii('ä'))".encode("latin-1"))
        (folder / "bom.py").write_bytes(b"\xef\xbb\xbfprint(ascii('\xc3\xa4'))")
        assert assert_same("latin.py").stdout == assert_same("bom.py").stdout == "'\\xe4'\n"
        (folder / "neither.py").write_bytes(b"print('\xe4')")
        done = run("neither.py")
        assert done.returncode == 1
        assert "SyntaxError" in done.stderr

    def test_unreadable(self, folder):
        """A script that must not be read is reported in the same words."""
        os.chmod(folder / "script.py", 0)
        if os.access(folder / "script.py", os.R_OK):
            pytest.skip("root may read everything")
        assert assert_same("script.py").returncode == 2

    def test_current_folder_removed(self, folder):
        """Without a current folder, a script that is named with its whole path is found all the same."""
        code = "import os, sys; os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone'); os.execv(sys.executable, sys.argv[1:])"
        write(folder / "prints.py", "import sys; print(sys.argv, __file__, sys.path[0])")
        for script in (folder / "prints.py", "prints.py"):
            expected = python("-c", code, sys.executable, script)
            assert parts(python("-c", code, sys.executable, *RUN, script)) == parts(expected)

    def test_frames_of_the_program_alone(self, folder):
        """The program's hook for errors, and what is kept of the last one, begin at the program's own frames."""
        write(
            folder / "hooked.py",
            """
import atexit, sys
sys.excepthook = lambda kind, error, trace: print(trace.tb_lineno, trace.tb_next)
atexit.register(lambda: print(sys.last_traceback.tb_lineno))
1 / 0
""",
        )
        assert run("hooked.py").stdout == run("-m", "hooked").stdout == "5 None\n5\n"


class TestGoesOn:
    """What programs do that depends on how they were started."""

    def test_pickle(self, folder):
        """Classes and functions of the script can be pickled."""
        write(
            folder / "pickles.py",
            """
import pickle
class Point:
    pass
assert type(pickle.loads(pickle.dumps(Point()))) is Point
print(Point, Point.__module__)
""",
        )
        assert assert_same("pickles.py").returncode == 0

    @pytest.mark.usefixtures("untraced")
    @pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
    @pytest.mark.parametrize("start", [["pool.py"], ["-m", "pool"]], ids=" ".join)
    def test_multiprocessing(self, folder, method, start):
        """Processes, pools of them, and what they do with the script's functions work."""
        code = f"""
import concurrent.futures, multiprocessing, sys, time
class Point:
    def __init__(self, x):
        self.x = x
def double(point):
    return Point(2 * point.x)
def sleep():
    time.sleep(600)
if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with context.Pool(2) as pool:
        print([point.x for point in pool.map(double, [Point(1), Point(2)])])
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        print(pool.submit(double, Point(3)).result().x)
    process = context.Process(target=sleep)
    process.start()
    process.terminate()
    process.join()
    print(process.exitcode, sys.argv[1:])
"""
        write(folder / "pool.py", code)
        assert assert_same(*start, "one").stdout == "[2, 4]\n6\n-15 ['one']\n"

    def test_subprocess(self, folder):
        """Other programs are run as ever, and get the signals that they would get."""
        write(
            folder / "starts.py",
            """
import os, subprocess, sys
print(subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True).stdout)
print(subprocess.check_output("echo $0; trap", shell=True, text=True))
print(os.system("exit 3"))
child = os.fork()
if not child:
    sys.exit(4)
print(os.waitpid(child, 0)[1] >> 8)
""",
        )
        assert assert_same("starts.py").returncode == 0

    def test_threads(self, folder):
        """Threads, timers, pools, queues and asyncio do what they do, where no signal comes."""
        write(
            folder / "threads.py",
            """
import asyncio, concurrent.futures, multiprocessing.pool, queue, threading, time
jobs = queue.Queue()
def work():
    while (job := jobs.get()) is not None:
        print(job)
worker = threading.Thread(target=work)
worker.start()
jobs.put(1)
timer = threading.Timer(0.01, lambda: jobs.put(None))
timer.start()
worker.join()
print(threading.active_count(), [thread.name for thread in threading.enumerate()])
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    print(list(pool.map(len, ["a", "bb"])), pool.submit(dict, a=1).result())
    try:
        pool.submit(int, "x").result()
    except ValueError as error:
        print(error)
    try:
        pool.submit()
    except TypeError as error:
        print("TypeError")
with multiprocessing.pool.ThreadPool(2) as pool:
    print(pool.map(len, ["a", "bb"]))
async def main():
    await asyncio.sleep(0.01)
    return await asyncio.to_thread(len, "abc")
print(asyncio.run(main()))
threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
""",
        )
        assert assert_same("threads.py").returncode == 0


class TestOptions:
    """What `iointerrupt run` itself is told."""

    def test_parts(self):
        """There is an option for each part that is patched."""
        assert tuple(PARTS) == monkey.PARTS

    def test_all_parts_are_patched(self, folder):
        """Before the first line of the script, all are."""
        write(folder / "parts.py", "from iointerrupt import monkey\nprint(*filter(monkey.is_patched, monkey.PARTS))")
        assert parts(run("parts.py")) == (0, " ".join(PARTS) + "\n", [])

    @pytest.mark.parametrize("part", PARTS)
    def test_left_alone(self, folder, part):
        """Each of them can be left alone."""
        write(folder / "parts.py", "from iointerrupt import monkey\nprint(*filter(monkey.is_patched, monkey.PARTS))")
        assert run(f"--no-{part}", "parts.py").stdout.split() == [each for each in PARTS if each != part]

    def test_no_warning(self, folder):
        """It comes before whatever could have kept an original, so that nothing is warned of."""
        done = python("-W", "error", *RUN, "script.py")
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            ([], "Missing argument"),
            (["-m"], "Missing argument"),
            (["--no-such", "script.py"], "No such option"),
            (["--grace", "soon", "script.py"], "is no number of seconds"),
            (["--grace", "-1", "script.py"], "is no number of seconds"),
        ],
    )
    def test_refused(self, arguments, says, capsys):
        """What it does not understand ends with 2, and nothing is patched."""
        assert cli.main(["run", *arguments]) == 2
        assert says in capsys.readouterr().err
        assert not monkey.is_patched()

    def test_errors_of_click_are_the_programs(self, folder):
        """A program that is written with click, and leaves its errors uncaught, has them reported as any others."""
        write(folder / "clicks.py", "import click\nraise click.UsageError('bad')")
        assert assert_same("clicks.py").returncode == 1

    def test_broken_pipe_is_the_programs(self, folder):
        """So is a pipe that nobody reads."""
        write(folder / "pipes.py", "raise BrokenPipeError(32, 'Broken pipe')")
        assert assert_same("pipes.py").returncode == 1
