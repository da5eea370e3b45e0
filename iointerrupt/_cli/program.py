"""`Program`: a script or module that is run as `python` runs it, in this process.

What `python` does is in CPython's Modules/main.c and Python/pythonrun.c: what stands in `sys.argv`, `sys.path[0]` and the module
`__main__`, and what is said where. Modules, folders and zip files are run by the function of `runpy` that `python` itself calls
for them; files are not, since runpy would put back what it has changed, and give them another `__main__`.

The end is `python`'s as well: an error is reported, then threads are waited for, then what is registered with atexit runs. The
interpreter would do the first two by itself, but without telling what a signal is to do meanwhile; see `signals`.
"""

from __future__ import annotations

import builtins
import functools
import io
import marshal
import os
import pkgutil
import runpy
import sys
import threading
import traceback
import types
from collections.abc import Callable, Sequence
from importlib.machinery import BuiltinImporter, SourceFileLoader, SourcelessFileLoader
from importlib.util import MAGIC_NUMBER
from typing import NoReturn

from iointerrupt._cli import inherited
from iointerrupt._cli.signals import TERMINATED, Signals
from iointerrupt._monkey.patches import apply
from iointerrupt._stop import _current, set_current

_LIBRARY = os.path.dirname(os.path.dirname(__file__)) + os.sep
_RUNPY = {"<frozen runpy>", runpy.__file__}


class Program:
    """A program, with the stop of `iointerrupt run`.

    Args:
        target: the name of a script, folder or zip file, `-` for standard input; or that of a module.
        arguments: the program's own.
        as_module: whether it is a module.
        grace: seconds from the first signal until what is still running is named; None for never.
    """

    def __init__(self, target: str, arguments: Sequence[str], *, as_module: bool, grace: float | None) -> None:
        self._target = target
        self._arguments = list(arguments)
        self._as_module = as_module
        self._signals = Signals(grace)

    def run(self) -> int:
        """Run it, in the main thread, and wait for its threads: the last work of this process.

        Returns:
            The exit code.

        Raises:
            KeyboardInterrupt: it was ended by SIGINT, and the interpreter is to end the process by that signal. What there is
                to be said has been said, so that it says nothing.
            SystemExit: raised by the program's own `sys.excepthook`.
        """
        apply(inherited.patches())
        signals = self._signals
        with signals.installed():
            error = self._execute()
            code = _report(error)
            if isinstance(error, KeyboardInterrupt):
                signals.stop_threads("SIGINT")  # by a handler of the program's, or of asyncio's
            came, signals.is_over = signals.came, True
            _wait_for_threads()
        ended_by = None if signals.came == came else signals.came
        if ended_by == "SIGTERM":
            return TERMINATED
        if ended_by == "SIGINT" or isinstance(error, KeyboardInterrupt):
            _say_nothing_of_the_next("excepthook")
            raise KeyboardInterrupt
        return code

    def _execute(self) -> BaseException | None:
        """Run all of its code; returns what it has raised."""
        token = set_current(self._signals.stop)
        try:
            self._prepare()()
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what the program has ended by
            return error
        finally:
            _current.reset(token)
        return None

    def _prepare(self) -> Callable[[], object]:
        """Make this process look as the program expects it; returns what runs the program."""
        main = types.ModuleType("__main__")
        if sys.version_info < (3, 14):  # since then they are made when somebody asks for them (PEP 749)
            vars(main)["__annotations__"] = {}
        vars(main)["__builtins__"] = builtins
        sys.modules["__main__"] = main
        sys.argv[:] = ["-m" if self._as_module else self._target, *self._arguments]
        if self._as_module:
            _set_first_path(_current_folder())
            return functools.partial(_run_module, self._target, True)
        if self._target == "-":
            _set_first_path("")
            _set_origin(main, BuiltinImporter, "<stdin>")
            return lambda: _run_code(_compile(sys.stdin.buffer.read(), "<stdin>"), main)
        filename = os.path.join(_current_folder() or "", self._target)
        if pkgutil.get_importer(filename) is not None:
            _set_first_path(filename, always=True)
            return functools.partial(_run_module, "__main__", False)
        code = _read_code(filename, main)
        _set_first_path(os.path.dirname(os.path.realpath(filename)))
        return functools.partial(_run_code, code, main)


# The beginning


def _current_folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it has been removed
        return None


def _set_first_path(path: str | None, *, always: bool = False) -> None:
    """Put it where the folder of this program stands; under `python -P` there is none."""
    if not sys.flags.safe_path:
        sys.path[:1] = [] if path is None else [path]
    elif always and path is not None:
        sys.path.insert(0, path)


def _set_origin(main: types.ModuleType, loader: object, filename: str) -> None:
    vars(main).update(__loader__=loader, __file__=filename)
    if sys.version_info < (3, 15):
        vars(main)["__cached__"] = None


def _read_code(filename: str, main: types.ModuleType) -> types.CodeType:
    _set_origin(main, SourceFileLoader("__main__", filename), filename)
    try:
        with io.open_code(filename) as file:
            data = file.read()
    except OSError as error:
        _say(f"{sys.executable}: can't open file {filename!r}: [Errno {error.errno}] {error.strerror}")
        raise SystemExit(2) from None
    if not data.startswith(MAGIC_NUMBER) and not filename.endswith(".pyc"):
        return _compile(data, filename)
    vars(main).update(__loader__=SourcelessFileLoader("__main__", filename))
    if not data.startswith(MAGIC_NUMBER):
        raise RuntimeError("Bad magic number in .pyc file")
    code: types.CodeType = marshal.loads(data[16:])  # noqa: S302 - it is the program
    return code


def _compile(source: bytes, filename: str) -> types.CodeType:
    return compile(source, filename, "exec", dont_inherit=True)


def _run_code(code: types.CodeType, main: types.ModuleType) -> None:
    exec(code, vars(main))  # noqa: S102 - it is the program


def _run_module(name: str, alter_argv: bool) -> None:  # noqa: FBT001 - as runpy has it
    runpy._run_module_as_main(name, alter_argv)  # type: ignore[attr-defined]  # what `python` itself calls


# The end


def _report(error: BaseException | None) -> int:
    """Say how the program has ended, as the interpreter would; returns the exit code."""
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        code = error.code
        if code is None or isinstance(code, int):
            return code or 0
        _say(str(code))
        return 1
    error.__traceback__ = _of_the_program(error)
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except SystemExit:
        raise
    except BaseException as failure:  # noqa: BLE001 - it is reported
        _say("Error in sys.excepthook:")
        traceback.print_exception(failure)
        _say("\nOriginal exception was:")
        traceback.print_exception(error)
    return 1


def _of_the_program(error: BaseException) -> types.TracebackType | None:
    """Its traceback without the frames that have led to the program, nor those that a Ctrl-C has met in this library."""
    first = error.__traceback__
    while first is not None and _is_ours(first):
        first = first.tb_next
    if isinstance(error, KeyboardInterrupt):
        last = frame = first
        while frame is not None:
            last, frame = frame if not _is_ours(frame) else last, frame.tb_next
        if last is not None:
            last.tb_next = None
    return first


def _is_ours(frame: types.TracebackType) -> bool:
    filename = frame.tb_frame.f_code.co_filename
    return filename in _RUNPY or filename.startswith(_LIBRARY)


def _wait_for_threads() -> None:
    """What the interpreter does first at its end, and not again then."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing calls it
    except KeyboardInterrupt:  # the second one: nobody is waited for any more
        threading._shutdown = _wait_for_nobody  # type: ignore[attr-defined]


def _wait_for_nobody() -> NoReturn:
    """End the interpreter's wait for threads: one that returns is called, from Python 3.15 on, until there are none."""
    _say_nothing_of_the_next("unraisablehook")
    raise KeyboardInterrupt


def _say_nothing_of_the_next(hook: str) -> None:
    """Keep the interpreter from reporting the next exception by this hook of `sys`."""
    previous = getattr(sys, hook)
    setattr(sys, hook, lambda *_: setattr(sys, hook, previous))


def _say(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")
