"""The command line: `iointerrupt get`, `copy`, `run`, `demo` and `completion`, also as `python -m iointerrupt`.

What each command does is in `_cli`. It is loaded when the command is run, so that `--help` and the completion of a shell
need not wait for requests; rich is loaded only to draw on a terminal. It takes the extra `cli`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

#: The variable by which a shell that completes the command line says so; see `iointerrupt completion`.
COMPLETE = "_IOINTERRUPT_COMPLETE"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: the arguments, without the program's name; by default those of the process.

    Returns:
        The exit code: 0 if everything was done, 1 if something failed, 2 for arguments that it does not know and where click
        is not installed, 130 after a SIGINT, 143 after a SIGTERM, 141 if nobody reads the output any more. After `run`, that
        of the program.

    Raises:
        KeyboardInterrupt: by `run` alone, whose program was ended by it: the interpreter has to end the process as it does
            then.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_what_is_closed()
    try:
        outcome = _run(arguments)
    except KeyboardInterrupt:  # before there was anything to stop
        return 130
    # A program's errors are its own, and not for what is caught above.
    return outcome() if callable(outcome) else outcome


def _run(arguments: list[str]) -> int | Callable[[], int]:
    """Run a command; returns the exit code, or what is still to be called for it."""
    try:
        import click  # noqa: PLC0415 - optional
    except ImportError:
        print("iointerrupt: the command line takes click: pip install 'iointerrupt[cli]'", file=sys.stderr)
        return 2
    try:
        outcome = _invoke(arguments)
        sys.stdout.flush()
        return outcome
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        _forget_output()
        return 141
    except OSError as error:
        print(f"iointerrupt: {error.strerror or error}", file=sys.stderr)
        return 1


def _open_what_is_closed() -> None:
    """Give a process that was started without one of the standard streams one that leads nowhere."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 - for as long as the process lives


def _invoke(arguments: list[str]) -> int | Callable[[], int]:
    import click  # noqa: PLC0415 - optional

    from iointerrupt._cli.commands import commands  # noqa: PLC0415 - needs it

    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete  # noqa: PLC0415 - as above

        return shell_complete(commands, {}, "iointerrupt", COMPLETE, instruction)
    # What click's own `main` adds to this, it does by ending the process.
    try:
        with commands.make_context("iointerrupt", arguments, obj=list(arguments)) as context:
            outcome: Callable[[], int] | int | None = commands.invoke(context)
            return outcome or 0
    except click.exceptions.Exit as ended:  # --help and --version
        return ended.exit_code


def _forget_output() -> None:
    # What is still in the buffers of these streams has nowhere to go; at the end of the process that would be complained of.
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(null, stream.fileno())
    os.close(null)
