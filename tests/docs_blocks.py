"""Runs the Python blocks of a page of the documentation, as a reader would who types them along.

    python tests/docs_blocks.py PAGE...

What a page says by the form of its blocks:

- Blocks share a namespace, in the order of the page, in one process, in an empty folder. Warnings are errors. In the pages of
  `WHOLE` each block is a program of its own, since that is how a reader takes them.
- A block of text directly behind one of Python is what that prints; "..." in it stands for anything.
- A block with a title is a file of that name (several with one title are one file), which the blocks behind it can import. If
  text follows, it is run as a program. Tests (`test_*.py`) are run by `tests/test_docs_blocks.py`.
- `<!-- on its own -->` before a block: so it is here, as one that patches the standard library has to be.
- `<!-- not run: why -->` before a block: it cannot be run here.

This file imports nothing of the project, so that a block meets a process in which nothing has been imported yet.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import types
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parent.parent
WHOLE = {"README.md", "downloads.md", "libraries.md"}
ALONE = "on its own"
NOT_RUN = "not run: "

#: Printed behind what a block has printed; no page has it.
_END_OF_BLOCK = "\x1e"

_BLOCK = re.compile(
    r"(?:^ *<!-- (?P<mark>[^\n]+?) -->\n\s*?)?"
    r"^(?P<indent> *)```(?P<kind>python|console)\b(?P<info>[^\n]*)\n(?P<code>.*?)^(?P=indent)```\n"
    r"(?:\n*(?P=indent)```text\n(?P<output>.*?)^(?P=indent)```\n)?",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A block of Python, or of commands for a shell.

    Attributes:
        page, line: where it begins.
        kind: "python" or "console".
        code: what is in it.
        output: what it prints, where the page says so.
        title: the name of the file that it is, or a part of.
        mark: what the comment before it says.
    """

    page: Path
    line: int
    kind: str
    code: str
    output: str | None
    title: str | None
    mark: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"

    @property
    def why_not(self) -> str | None:
        """Why it is not run; None if it is."""
        return self.mark.removeprefix(NOT_RUN) if self.mark.startswith(NOT_RUN) else None


def blocks_of(page: Path) -> list[Block]:
    """All blocks of a page, in order."""
    text = page.read_text()
    blocks = []
    for found in _BLOCK.finditer(text):
        indent = found["indent"]
        title = re.search(r'title="(.+?)"', found["info"])
        blocks.append(
            Block(
                page,
                text.count("\n", 0, found.start("code")) + 1,
                found["kind"],
                _without(indent, found["code"]),
                None if found["output"] is None else _without(indent, found["output"]),
                title and title[1],
                found["mark"] or "",
            )
        )
    return blocks


def _without(indent: str, text: str) -> str:
    return re.sub(f"^{indent}", "", text, flags=re.MULTILINE)


def programs_of(page: Path) -> list[list[Block]]:
    """The programs that a page is: one of the blocks that share a namespace, if there are any, and each that is on its own."""
    run = [block for block in blocks_of(page) if block.kind == "python" and block.why_not is None]
    alone = [block for block in run if block.mark == ALONE or page.name in WHOLE]
    shared = [block for block in run if block not in alone]
    return [*([shared] if shared else []), *([block] for block in alone)]


def check(page: Path, number: int, folder: Path) -> None:
    """Run a program of a page in a folder.

    Raises:
        AssertionError: it failed, warned, or printed something else than the page shows.
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", __file__, "--program", str(number), str(page)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = f"{done.stdout.replace(_END_OF_BLOCK, '')}\n{done.stderr}"
    assert done.returncode == 0, said
    assert not done.stderr, said
    for block, printed in zip(programs_of(page)[number], done.stdout.split(_END_OF_BLOCK), strict=False):
        if block.output is not None:
            pattern = ".*?".join(map(re.escape, block.output.split("...")))
            assert re.fullmatch(pattern, printed, re.DOTALL), f"{block} prints:\n{printed}"


def _run(blocks: list[Block]) -> None:
    # A real module, for what looks itself up there, as dataclasses and pickle do.
    program = types.ModuleType("__main__")
    sys.modules["__main__"] = program
    sys.path[0] = str(Path.cwd())
    written: set[str] = set()
    for block in blocks:
        if block.title is None:
            # The empty lines give a traceback the lines of the page.
            code = compile("\n" * (block.line - 1) + block.code, str(block.page), "exec", dont_inherit=True)
            exec(code, vars(program))
        else:
            _write(block.title, block.code, written)
            if block.output is not None:
                subprocess.run([sys.executable, "-W", "error", block.title], check=True)
        sys.stdout.write(_END_OF_BLOCK)
        sys.stdout.flush()


def _write(name: str, code: str, written: set[str]) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if name in written else "w") as file:
        file.write(f"\n\n{code}" if name in written else code)
    written.add(name)


def main() -> None:
    """Check the pages; or be one of their programs."""
    if sys.argv[1] == "--program":
        _run(programs_of(Path(sys.argv[3]))[int(sys.argv[2])])
        return
    for name in sys.argv[1:]:
        page = Path(os.path.abspath(name))
        for number, blocks in enumerate(programs_of(page)):
            with tempfile.TemporaryDirectory() as folder:
                check(page, number, Path(folder))
            sys.stdout.write(f"{blocks[0]}: {len(blocks)} blocks run\n")


if __name__ == "__main__":
    main()
