"""`iointerrupt completion`: prints what makes a shell complete the command line; click has the scripts."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from iointerrupt._cli.manual import ManualCommand

SECTIONS = {
    "EXAMPLES": """
        \b
        eval "$(iointerrupt completion bash)"     in ~/.bashrc
        eval "$(iointerrupt completion zsh)"      in ~/.zshrc, behind compinit
        iointerrupt completion fish | source    in ~/.config/fish/config.fish
    """,
}


@click.command(cls=ManualCommand, sections=SECTIONS, short_help="Print what makes a shell complete iointerrupt.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print what makes the shell complete the commands, options and files of iointerrupt."""
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this click knows nothing of {shell}")
    script = kind(context.find_root().command, {}, "iointerrupt", "_IOINTERRUPT_COMPLETE")
    # Not its source(), which would start a bash to ask for its version.
    click.echo(script.source_template % script.source_vars())
