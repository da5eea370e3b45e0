"""`iointerrupt copy`: its options and its page of the manual; what it does is in `copying`."""

from __future__ import annotations

import click

from iointerrupt._cli.manual import ManualCommand, option

SECTIONS = {
    "OUTPUT": """
        As with get: a bar on a terminal, a line when it is done; with --json the events of `iointerrupt get --help`, with
        "source" in place of "url".
    """,
    "EXAMPLES": """
        \b
        iointerrupt copy /mnt/camera/film.mov ~/films/
        iointerrupt copy --overwrite disk.img /dev/shm/disk.img
    """,
    "EXIT STATUS": """
        \b
        0     it is copied
        1     it failed
        2     the command line was not understood
        130   stopped by SIGINT (Ctrl-C); 143 by SIGTERM
    """,
    "FILES": """
        \b
        DST.part        what is copied so far; it gets its name when it is complete
        DST.part.json   what it is a copy of

        The next run goes on with it, if SRC is the same file, with the same size and time of change, and the machine was
        not started anew in between.
    """,
    "SIGNALS": """
        SIGINT and SIGTERM stop the copy at once. What is copied is kept, and stderr shows the command that goes on. A
        second one ends the program without waiting for anything.
    """,
}


@click.command(cls=ManualCommand, sections=SECTIONS, short_help="Copy a file, with progress, and go on after a stop.")
@click.argument("source", metavar="SRC", type=click.Path())
@click.argument("target", metavar="DST", type=click.Path())
@option("--overwrite", group="OPTIONS", is_flag=True, help="Replace a file that is there; a link itself.")
@option(
    "--resume/--no-resume",
    group="OPTIONS",
    default=True,
    help="Go on with DST.part (the default), or begin anew.",
)
@option("-q", "--quiet", group="OPTIONS", is_flag=True, help="Show errors only.")
@option("--json", "as_json", group="OPTIONS", is_flag=True, help="Print events as JSON, one a line.")
@click.pass_obj
def copy(
    argv: list[str], /, source: str, target: str, *, overwrite: bool, resume: bool, quiet: bool, as_json: bool
) -> int:
    """Copy the file SRC to DST, or into the folder DST, with its times and permissions.

    The kernel copies where it can. The copy appears under its name when it is complete; until then it is DST.part, and the
    same command goes on with it. Folders are not copied, nor devices, pipes and the like. Holes of a sparse file are filled
    where the file system does not keep them.
    """
    if quiet and as_json:
        raise click.UsageError("--quiet and --json exclude each other")
    from iointerrupt._cli.copying import run  # noqa: PLC0415 - --help need not wait for it

    return run(argv, source, target, overwrite=overwrite, resume=resume, quiet=quiet, as_json=as_json)
