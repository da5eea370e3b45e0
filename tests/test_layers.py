"""The house: imports point downward, the light import is light, and the public names are those that are documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import iointerrupt

PACKAGE = Path(iointerrupt.__file__).parent

# From the ground up; a module may import from the rows below its own, and from its own row where that makes no circle.
ROWS = [
    {"_callables", "_errors", "_types", "_where"},
    {"_signal"},
    {"_stop"},
    {"_wait"},
    {"_helpers"},
    {"_streams"},
    {"_files", "_sockets", "_calls"},
    {"files", "sockets", "calls"},
    {"_http", "_aio", "_threads"},
    {"http", "threads", "aio"},
    {"downloads"},
    {"_dask"},
    {"dask"},
    {"_monkey"},
    {"monkey"},
    {"testing"},
    {"pytest_plugin"},
    {"_demo"},
    {"_cli"},
    {"cli"},
    {"__main__"},
]

TOP = {path.stem for path in PACKAGE.iterdir()}


def module_name(path: Path) -> str:
    """The module's name below the package: `_stop`, `testing._stops`; the package itself is an empty string."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").removesuffix(".")


def imports(path: Path) -> set[str]:
    """The modules of this package that a file imports, in functions too, but not for types alone."""
    found = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for other in node.orelse:
                visit(other)
            return
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] == "iointerrupt":
            inner = node.module.partition(".")[2]
            found.update({inner} if inner else {alias.name for alias in node.names if alias.name in TOP})
        elif isinstance(node, ast.Import):
            found.update(a.name.partition(".")[2] for a in node.names if a.name.startswith("iointerrupt."))
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text()))
    return found


def row(name: str) -> int:
    """How high a module stands."""
    top = name.partition(".")[0]
    for number, names in enumerate(ROWS):
        if top in names:
            return number
    pytest.fail(f"{name} has no place in the layers: give it one in {Path(__file__).name}")


MODULES = sorted(path for path in PACKAGE.rglob("*.py") if module_name(path))


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_imports_point_downward(path):
    """No module imports from above itself."""
    for imported in imports(path):
        assert row(imported) <= row(module_name(path)), f"{module_name(path)} imports {imported} from above"


def test_imports_make_no_circle():
    """Within a row too, no module imports itself by way of others."""
    graph = {module_name(path): imports(path) for path in MODULES}
    done: set[str] = set()

    def reach(name: str, seen: tuple[str, ...]) -> None:
        assert name not in seen, " -> ".join((*seen, name))
        if name not in done:
            for imported in graph.get(name, ()):
                reach(imported, (*seen, name))
            done.add(name)

    for name in graph:
        reach(name, ())


def test_every_file_says_what_lives_there():
    """Each module begins with a docstring."""
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.name} has no docstring"


@pytest.mark.usefixtures("untraced")
def test_light_import():
    """`import iointerrupt` loads none of the heavy modules."""
    heavy = {"requests", "urllib3", "ssl", "aiofiles", "asyncio", "inspect", "multiprocessing", "rich"}
    code = f"import sys, iointerrupt; print(*sorted({heavy!r} & sys.modules.keys()))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.split() == []


def test_public_names():
    """`__all__` of every public module is sorted, and each name in it exists."""
    assert iointerrupt.__all__ == sorted(iointerrupt.__all__)
    for module in (iointerrupt, *(getattr(iointerrupt, name) for name in iointerrupt._MODULES)):
        assert list(module.__all__) == sorted(module.__all__), module.__name__
        for name in module.__all__:
            assert getattr(module, name) is not None
        assert set(module.__all__) <= set(dir(module))


def test_unknown_name():
    """A name that the package does not have is an AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="has no attribute 'interruptible'"):
        iointerrupt.interruptible  # noqa: B018 - the access is what is under test
