"""The site of the documentation is whole: each page can be found, and each public name is described on one page.

That it builds without a warning, links and anchors included, is seen by `make docs`, which has what that takes.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections import Counter
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from iointerrupt import pytest_plugin
from iointerrupt._cli.commands import commands
from tests.docs_blocks import TOP

DOCS = TOP / "docs"
CONFIG = (TOP / "mkdocs.yml").read_text()

# The modules whose paths may be imported from; each says in `__all__` what is public in it.
MODULES = [
    "iointerrupt",
    *(
        f"iointerrupt.{name}"
        for name in ("aio", "calls", "dask", "downloads", "files", "http", "monkey", "sockets", "testing", "threads")
    ),
    "iointerrupt.testing.faults",
    "iointerrupt.testing.steps",
]
# What is public of those that have no `__all__`.
OTHERS = {
    "iointerrupt.cli.main",
    "iointerrupt.pytest_plugin.FaultServers",
    *(
        f"iointerrupt.pytest_plugin.{name}"
        for name in re.findall(r"^@pytest.fixture\ndef (\w+)", inspect.getsource(pytest_plugin), re.MULTILINE)
    ),
}


def resolved(path):
    """The object of a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def public_names():
    """Dotted paths; of an object that has several, the first one."""
    found = {}
    for module in MODULES:
        imported = importlib.import_module(module)
        for name in imported.__all__:
            value = getattr(imported, name)
            if not isinstance(value, ModuleType):
                found.setdefault(id(value), f"{module}.{name}")
    return sorted([*found.values(), *OTHERS])


def described():
    """How often each path is described in the reference."""
    pages = sorted((DOCS / "reference").glob("*.md"))
    return Counter(path for page in pages for path in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE))


def test_each_public_name_is_described_once():
    """A public name is on one page of the reference, and nothing else is."""
    assert len(OTHERS) == 6
    assert described() == Counter(public_names())


@pytest.mark.parametrize(
    "path", [path for path in public_names() if inspect.isclass(resolved(path)) or inspect.isroutine(resolved(path))]
)
def test_each_public_name_says_what_it_is(path):
    """Its docstring, which is what the reference shows, is a few words at least, in Markdown."""
    said = inspect.getdoc(resolved(path)) or ""
    assert len(said) > 10
    assert not re.search(r"::$", said, re.MULTILINE), "an example is indented, and needs no mark before it"


def test_each_module_has_a_page():
    """The first page of the reference leads to one for each public module."""
    index = (DOCS / "reference" / "index.md").read_text()
    for module in MODULES:
        page = module.removeprefix("iointerrupt.").partition(".")[0]
        assert f"({page}.md)" in index
        assert f"# {module.rpartition('.testing.')[0] or module}" in (DOCS / "reference" / f"{page}.md").read_text()


def test_each_command_is_described():
    """The page of the command line has the help of each command."""
    shown = re.findall(r"<!-- help: (\w+) -->", (DOCS / "reference" / "command-line.md").read_text())
    assert sorted(shown) == sorted(commands.commands)


def test_each_page_can_be_found():
    """All pages are in the navigation, once; what else it has is made of other files of the repository."""
    listed = Counter(re.findall(r" (\S+\.md)$", CONFIG.partition("\nnav:\n")[2], re.MULTILINE))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert set(listed.values()) == {1}
    assert pages <= set(listed)
    assert {page.partition("/")[0] for page in set(listed) - pages} == {"project"}


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md"])
def test_links_lead_somewhere(name):
    """The files that a page outside of the site links to are there."""
    page = TOP / name
    links = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_nothing_is_asked_of_others():
    """Fonts, styles and scripts come with the site."""
    assert "\n  font: false" in CONFIG
    assert "://" not in CONFIG
    assert "://" not in (DOCS / "assets" / "site.css").read_text()


@pytest.mark.parametrize(
    "name", sorted(path.name for path in (DOCS / "assets").glob("*.svg") if path.name != "logo.svg")
)
def test_diagrams_have_the_colours_of_their_page(name):
    """A diagram is well formed, says what it shows where it is used, and has no colour of its own but as a fallback."""
    text = (DOCS / "assets" / name).read_text()
    drawn = ET.fromstring(text)
    assert drawn.get("class") == "diagram"
    style, _, rest = text.partition("</style>")
    assert "prefers-color-scheme: dark" in style
    assert not re.search(r"#[0-9a-f]{3}|rgb", rest)
    used = [
        found
        for page in DOCS.rglob("*.md")
        for found in re.findall(rf"!\[(.*?)\]\([./]*assets/{name}\)", page.read_text())
    ]
    assert used
    assert all(len(label) > 40 for label in used)
