"""`iointerrupt run`: its options and its page of the manual; how the program is run is in `program`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from iointerrupt._cli.manual import ManualCommand, option
from iointerrupt._cli.values import Seconds

ALONE = "WHAT IS LEFT ALONE"

#: What can be left alone, which are the parts of `iointerrupt.monkey`: loading that would take as long as all of the help.
PARTS = {
    "socket": "Sockets.",
    "ssl": "TLS.",
    "dns": "Lookups of names.",
    "sleep": "time.sleep.",
    "select": "select, poll, epoll and selectors.",
    "subprocess": "Waiting for processes.",
    "queue": "Conditions, and with them events, queues, semaphores, barriers and futures.",
    "thread": "Joining threads.",
}

SECTIONS = {
    "EXAMPLES": """
        \b
        iointerrupt run crawl.py --depth 3
        iointerrupt run -m crawler.worker
        iointerrupt run --grace 2 --no-dns service.py
    """,
    "SIGNALS": """
        The first SIGINT (Ctrl-C) or SIGTERM ends every wait in every thread that threading.Thread has started, and each one
        that such a thread begins after that, by raising iointerrupt.Interrupted. A thread that ends by it ends without a
        traceback. The main thread gets KeyboardInterrupt, or SystemExit(143) for SIGTERM, and can clean up, with all waits
        as ever. Tasks of a ThreadPoolExecutor that have not begun are not begun any more.

        A second one does what it does to any program: another KeyboardInterrupt, or the end.

        A handler that the program installs is what runs, in place of all this. It can stop the threads by
        iointerrupt.current_stop().set(). A SIGINT that was ignored from the beginning stays ignored.
    """,
    "EXIT STATUS": """
        \b
        That of the program, as `python` gives it, and
        143   stopped by SIGTERM
        130   stopped by SIGINT: the process ends by that signal
        2     the command line was not understood, or there is no such script
    """,
    "LIMITS": """
        What waits in C code or in a function of `os` (os.read, a database driver written in C) is not reached; after --grace it
        is named. Nor are other processes that the program starts, and threads that are not started by threading.Thread.
    """,
}


def _left_alone(function: Callable[..., Any]) -> Callable[..., Any]:
    for part, what in reversed(PARTS.items()):
        function = option(f"--no-{part}", group=ALONE, is_flag=True, help=what)(function)
    return function


@click.command(
    cls=ManualCommand,
    sections=SECTIONS,
    short_help="Run a Python program whose threads Ctrl-C can stop.",
    # What comes behind the script is the script's own.
    context_settings={"allow_interspersed_args": False},
)
@click.argument("target", metavar="SCRIPT|-m MODULE", type=click.Path(allow_dash=True))
@click.argument("arguments", metavar="[ARGS]...", nargs=-1, type=click.UNPROCESSED)
@option("-m", "as_module", group="OPTIONS", is_flag=True, help="Run a module or package, found as by import.")
@option(
    "--grace", group="OPTIONS", metavar="S", type=Seconds(), default="5",
    help="Seconds after the first signal until what is still running is named on stderr, with its stack (default: 5);"
    " 0 for never.",
)  # fmt: skip
@_left_alone
def run(
    *, target: str, arguments: Sequence[str], as_module: bool, grace: float | None, **no: bool
) -> Callable[[], int]:
    """Run a Python program as `python` would, unchanged, except that Ctrl-C and SIGTERM end what its threads wait in.

    SCRIPT is a file, a folder or zip file with a __main__.py, or - for standard input. Before its first import the standard
    library is patched (iointerrupt.monkey), so that sockets, TLS, lookups, sleeps, queues, events, joins and processes can be
    interrupted in every library that is built on them. All arguments behind SCRIPT or MODULE are the program's.
    """
    from iointerrupt import monkey  # noqa: PLC0415 - loads ssl, which --help need not wait for
    from iointerrupt._cli.program import Program  # noqa: PLC0415 - as above

    monkey.patch_all(**{part: not no[f"no_{part}"] for part in PARTS})
    # Whatever the program raises is not for click, nor for the command line around it.
    return Program(target, arguments, as_module=as_module, grace=grace).run
