"""What the site has that is not below `docs/`: the examples, the changelog and their like, and the help of the commands.

mkdocs calls what is here while it builds. The pages are the files of the repository as they are, so that there is one of each;
only the links between them are turned into those of the site. Diagrams become a part of their page, so that they have its
colours, which a reader can switch.
"""

# ruff: noqa: INP001 - loaded by its path

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
from mkdocs.structure.files import File

from iointerrupt._cli.commands import commands

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

TOP = Path(__file__).parent.parent

#: What is taken from where in the repository: a file of Markdown as a page, one of Python as a page that shows it.
TAKEN = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/reporting.md",
    "examples/README.md": "project/examples.md",
    **{f"examples/{path.name}": f"examples/{path.stem}.md" for path in sorted((TOP / "examples").glob("*.py"))},
    "examples/fetch": "examples/fetch.md",
}
_ORIGINS = {page: path for path, page in TAKEN.items()}

_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
_DIAGRAM = re.compile(r'<p><img alt="([^"]*)" src="[./]*/assets/([\w-]+\.svg)" /></p>')
# Several exceptions that a docstring describes in one line: shown as the tuple that a parser takes them for.
_EXCEPTIONS = re.compile(r"<code>\((<(span|autoref).+?</(?:span|autoref)>)\)</code>")
# The name of a test, which no table has room for in one piece.
_TEST = re.compile(r"<code>test_\w+\.py(::\w+)*</code>")
_HELP = re.compile(r"^<!-- help: (\w*) -->$", re.MULTILINE)

#: Characters in a line of help: what fits the column of a page.
_HELP_WIDTH = 88


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    for path, page in TAKEN.items():
        files.append(File.generated(config, page, content=_page_of(TOP / path)))
    return files


def _page_of(path: Path) -> str:
    if path.suffix == ".md":
        return path.read_text()
    programs = sorted(path.glob("*.py")) if path.is_dir() else [path]
    shown = [f"```python\n{program.read_text()}```\n" for program in programs]
    if len(shown) > 1:
        shown = [f"## {program.name}\n\n{code}" for program, code in zip(programs, shown, strict=True)]
    return "\n".join([f"# {path.relative_to(TOP)}\n", *shown])


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - mkdocs names them
    """Turn links into those of the site, and put the help of a command where a page wants it."""
    uri = page.file.src_uri
    origin = _ORIGINS.get(uri, f"docs/{uri}")

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), found[1]))
        wanted = TAKEN.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
        if wanted is None or (uri not in _ORIGINS and target not in TAKEN):
            return found[0]
        return f"]({posixpath.relpath(wanted, posixpath.dirname(uri))}{found[2] or ''})"

    return _HELP.sub(lambda found: f"```text\n{help_of(found[1])}\n```", _LINK.sub(link, markdown))


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001 - as above
    """Put the diagrams into the page; names of exceptions without brackets, those of tests in parts that can be broken."""

    def diagram(found: re.Match[str]) -> str:
        drawn = (TOP / "docs" / "assets" / found[2]).read_text()
        labelled = drawn.replace("<svg ", f'<svg aria-label="{found[1]}" ', 1)
        return f'<div class="diagram-frame">{labelled}</div>'

    html = _TEST.sub(lambda found: found[0].replace("::", "::<wbr>"), html)
    return _EXCEPTIONS.sub(r"<code>\1</code>", _DIAGRAM.sub(diagram, html))


def help_of(name: str) -> str:
    """The help of a command, or of the command `iointerrupt` itself, as a terminal shows it."""
    width = {"terminal_width": _HELP_WIDTH, "max_content_width": _HELP_WIDTH}
    top = click.Context(commands, info_name="iointerrupt", **width, **commands.context_settings)
    if not name:
        return commands.get_help(top)
    command = commands.commands[name]
    return command.get_help(click.Context(command, info_name=name, parent=top, **width))
