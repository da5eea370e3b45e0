"""The code of the README and of every page of the documentation runs, prints what they say, and uses options that there are."""

from __future__ import annotations

import re
import shlex
import tomllib

import click
import pytest

from iointerrupt._cli.commands import commands
from tests.docs_blocks import TOP, blocks_of, check, programs_of
from tests.guide_check import GUIDE, run_tests, write_project

README = TOP / "README.md"
PAGES = [README, *sorted((TOP / "docs").rglob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
PROGRAMS = {str(blocks[0]): (page, number) for page in PAGES for number, blocks in enumerate(programs_of(page))}

# Pages whose titled blocks are tests; those of the guide and the README have tests of their own.
TESTED = [
    page
    for page in PAGES
    if page not in {README, GUIDE}
    and any(block.title and block.title.startswith("test_") and block.why_not is None for block in blocks_of(page))
]


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_runs(name, tmp_path):
    """The blocks run, in order, without a warning, end by themselves, and print what is shown."""
    page, number = PROGRAMS[name]
    check(page, number, tmp_path)


@pytest.mark.parametrize("page", TESTED, ids=lambda page: page.name)
def test_tests_pass(page, tmp_path):
    """The files of tests that a page shows pass, with what the package brings along."""
    write_project(tmp_path, page)
    said = run_tests(tmp_path, ["-W", "error", "-p", "no:cacheprovider"])
    assert " passed" in said
    assert "failed" not in said


def test_few_blocks_are_not_run():
    """There are hardly any, and the page says of each of them why."""
    reasons = {str(block): block.why_not for block in BLOCKS if block.kind == "python" and block.why_not is not None}
    assert all(len(reason) > 10 for reason in reasons.values())
    assert len(reasons) <= 10, reasons
    assert len([block for block in BLOCKS if block.kind == "python"]) >= 60


# Commands


def shell_commands():
    """Each command of a console block, by where it is: in words, without what it is piped to or followed by."""
    for block in BLOCKS:
        if block.kind != "console" or block.why_not is not None:
            continue
        lines = re.sub(r"\\\n\s*>?", " ", block.code).splitlines()
        for at, line in enumerate(line for line in lines if line.startswith("$ ")):
            for part in re.split(r" (?:\||&&|;) ", line[2:]):
                words = shlex.split(part, comments=True)
                if words:
                    yield pytest.param(words, id=f"{block}-{at}-{words[0]}")


def check_command(words):
    """A command of ours is there, and so are the options that it is given; commands of others are left to them."""
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if words[0] == "make":
        targets = set(re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
        assert {word for word in words[1:] if "=" not in word} <= targets
    elif words[:3] == ["python", "-m", "iointerrupt"] or words[0] == "iointerrupt":
        arguments = words[1:] if words[0] == "iointerrupt" else words[3:]
        command = commands
        if arguments and not arguments[0].startswith("-"):
            command = commands.commands[arguments[0]]
            arguments = arguments[1:]
        # With the names of the option for help that a command has below the others: it remembers the first that it sees.
        context = click.Context(command, **{**commands.context_settings, **command.context_settings})
        command.make_parser(context).parse_args([word for word in arguments if word not in {">", "2>", "&"}])


@pytest.mark.parametrize("words", list(shell_commands()))
def test_command_exists(words):
    """The command and its options are those of this version."""
    check_command(words)


@pytest.mark.parametrize("line", ["iointerrupt get --no-such-option", "iointerrupt fly", "make no-such-target"])
def test_command_that_does_not_exist(line):
    """What is not there is noticed."""
    with pytest.raises((click.UsageError, KeyError, AssertionError)):
        check_command(line.split())


def test_extras_exist():
    """What is to be installed in brackets is an extra of the package."""
    extras = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = [
        name
        for page in PAGES
        for names in re.findall(r"iointerrupt\[([\w,]+)\]", page.read_text())
        for name in names.split(",")
    ]
    assert named
    assert set(named) <= set(extras)


# The runner


@pytest.fixture
def page(tmp_path):
    """A page of the documentation: give it its text."""

    def write(text):
        path = tmp_path / "page.md"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def folder(tmp_path):
    """Where a program of it runs."""
    path = tmp_path / "folder"
    path.mkdir()
    return path


def test_blocks_share_a_namespace(page, folder):
    """A block has the names of those before it, is a real `__main__`, and writes into the folder; "..." is anything."""
    path = page(
        "```python\nimport os\nx = 1\nopen('x', 'w').close()\n```\n"
        "1. A list:\n\n   ```python\n   if True:\n       print(x, os.listdir(), __name__)\n   ```\n\n   ```text\n   1 ['x'] ...__\n   ```\n"
    )
    assert len(programs_of(path)) == 1
    check(path, 0, folder)
    assert [file.name for file in folder.iterdir()] == ["x"]


def test_a_block_on_its_own_has_no_other_names(page, folder):
    """It is another program, which has nothing of the others."""
    path = page(
        "```python\nx = 1\n```\n\n<!-- on its own -->\n```python\nprint('x' in globals())\n```\n\n```text\nFalse\n```\n"
    )
    assert len(programs_of(path)) == 2
    check(path, 1, folder)


def test_a_block_with_a_title_is_a_file(page, folder):
    """It can be imported, has several parts, and is run as a program where the page says what that prints."""
    path = page(
        '```python title="module.py"\nx = 1\n```\n\n```python title="module.py"\ny = x + 1\n```\n\n'
        '```python title="program.py"\nimport module\n\nprint(module.y)\n```\n```text\n2\n```\n'
        "```python\nimport module\n\nprint(module.y)\n```\n```text\n2\n```\n"
    )
    check(path, 0, folder)


def test_a_block_that_is_not_run(page):
    """It is in no program, and says why."""
    path = page("<!-- not run: there is no such host -->\n\n```python\n1 / 0\n```\n")
    assert programs_of(path) == []
    assert [block.why_not for block in blocks_of(path)] == ["there is no such host"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("```python\nprint(1)\n```\n\n```text\n2\n```\n", "page.md:2 prints:\n1"),
        ("\n\n```python\n1 / 0\n```\n", 'page.md", line 4'),
        ("```python\nimport warnings\n\nwarnings.warn('old')\n```\n", "UserWarning: old"),
        ("```python\nimport sys\n\nprint('oh', file=sys.stderr)\n```\n", "oh"),
    ],
)
def test_a_page_that_does_not_hold(page, folder, text, said):
    """Another output, an error (by its line in the page), a warning and a word on stderr fail it."""
    with pytest.raises(AssertionError, match=re.escape(said)):
        check(page(text), 0, folder)
