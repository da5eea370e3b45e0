"""The command `iointerrupt` itself: its help, its version, and the commands below it."""

from __future__ import annotations

import click

from iointerrupt import __version__
from iointerrupt._cli.completion import completion
from iointerrupt._cli.copy import copy
from iointerrupt._cli.demo import demo
from iointerrupt._cli.get import get
from iointerrupt._cli.manual import ManualGroup
from iointerrupt._cli.run import run

SECTIONS = {
    "COMPLETION": """
        \b
        bash   eval "$(iointerrupt completion bash)"      in ~/.bashrc
        zsh    eval "$(iointerrupt completion zsh)"       in ~/.zshrc, behind compinit
        fish   iointerrupt completion fish | source     in ~/.config/fish/config.fish
    """,
    "SEE ALSO": """
        iointerrupt COMMAND --help says everything about a command.
    """,
}


@click.group(
    cls=ManualGroup,
    sections=SECTIONS,
    no_args_is_help=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="iointerrupt", message="%(prog)s %(version)s")
def commands() -> None:
    """Downloads and copies that stop at once, lose nothing, and go on where they were."""


for command in (get, copy, run, demo, completion):
    commands.add_command(command)
