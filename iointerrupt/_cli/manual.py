"""Help that reads like a page of the manual: SYNOPSIS, DESCRIPTION, options in groups, EXAMPLES, EXIT STATUS.

click's own help is one list of options; its formatter does the rest here too, so that the width fits the terminal.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class ManualOption(click.Option):
    """An option that says in which group the help lists it."""

    def __init__(self, *args: Any, group: str = "OPTIONS", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class ManualCommand(click.Command):
    """A command with a page of the manual.

    Args:
        sections: what stands behind the options, by its heading; click's mark for it keeps a paragraph's lines as they are.
    """

    def __init__(self, *args: Any, sections: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections or {}

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the page."""
        heading(formatter, "NAME")
        formatter.indent()
        formatter.write_text(f"{ctx.command_path} - {self.get_short_help_str(200).rstrip('.')}")
        formatter.dedent()
        heading(formatter, "SYNOPSIS")
        formatter.indent()
        formatter.write_usage(ctx.command_path, " ".join(self.collect_usage_pieces(ctx)), prefix="")
        formatter.dedent()
        paragraphs(formatter, "DESCRIPTION", self.help or "")
        self.format_options(ctx, formatter)
        for name, text in self.sections.items():
            paragraphs(formatter, name, text)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, each in its group."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            # The arguments are in the synopsis.
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(parameter, "group", "OTHER OPTIONS"), []).append(record)
        groups["OTHER OPTIONS"] = groups.pop("OTHER OPTIONS")  # the last one
        for name, records in groups.items():
            heading(formatter, name)
            formatter.indent()
            formatter.write_dl(records, col_max=26)
            formatter.dedent()


class ManualGroup(ManualCommand, click.Group):
    """A group of commands with such a page."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands, and then the options."""
        heading(formatter, "COMMANDS")
        formatter.indent()
        formatter.write_dl([(name, command.get_short_help_str(70)) for name, command in self.commands.items()])
        formatter.dedent()
        super().format_options(ctx, formatter)


def option(*names: str, group: str, **settings: Any) -> Callable[[F], F]:
    """`click.option`, with a group for the help."""
    return click.option(*names, cls=ManualOption, group=group, **settings)


def option_name(name: str) -> str:
    """The option whose value click passes as `name`, or that stands for an argument of that name."""
    return "--" + name.replace("_", "-")


def heading(formatter: click.HelpFormatter, text: str) -> None:
    """Write a heading, with an empty line before all but the first."""
    formatter.write(f"{'' if not formatter.getvalue() else chr(10)}{text}\n")


def paragraphs(formatter: click.HelpFormatter, name: str, text: str) -> None:
    """Write a section of text."""
    heading(formatter, name)
    formatter.indent()
    formatter.write_text(inspect.cleandoc(text))
    formatter.dedent()
