"""`mutants_of`: every small change of a source file that its tests should notice, one at a time.

The changes are those of cosmic-ray's operators, and one more, which leaves a statement out. What is no code of this platform or
is read by checkers alone is not changed: annotations, blocks for type checkers, branches with "pragma: no cover".

A mutant is known by what can be seen in the source, rather than by its number, so that an argument for it stays attached to
it when the file changes elsewhere.
"""

from __future__ import annotations

import ast
import itertools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import parso
from cosmic_ray import plugins
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code

_Position = tuple[int, int]  # line, column


class Key(NamedTuple):
    """What identifies a mutant: where it is, the lines that are changed as they stand, and what becomes of them."""

    file: str
    function: str
    line: str
    becomes: str
    nth: int  # among equal ones in one function

    def __str__(self) -> str:
        again = f" (number {self.nth})" if self.nth > 1 else ""
        return f"{self.file}, {self.function}{again}: {self.line}  ->  {self.becomes}"


class Mutant(NamedTuple):
    """A changed file: `code` is the whole of it."""

    key: Key
    number: int  # of the line
    code: str


class _StatementDeletion:
    """An operator, as cosmic-ray has them, that puts `pass` in the place of a statement."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[_Position, _Position]]:
        if node.type == "simple_stmt" and not _says_nothing(node.children[0]):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        first = node.children[0]
        node.children[0] = parso.parse("pass").children[0]
        node.children[0].get_first_leaf().prefix = first.get_first_leaf().prefix
        return node


def mutants_of(root: Path, file: str) -> list[Mutant]:
    """All mutants of one file, in the order of its lines."""
    code = (root / file).read_text()
    tree = ast.parse(code)
    left_out = list(_left_out(tree, code.splitlines()))
    found: dict[str, Mutant] = {}  # by code: of two operators that come to the same, one is enough
    counts: Counter[Key] = Counter()
    for operator, occurrence, position in sorted(_changes(code), key=lambda change: change[2]):
        if any(first <= position < last for first, last in left_out):
            continue
        changed = mutate_code(code, operator, occurrence)
        if changed is None or changed in found or not _compiles(changed):
            continue
        line, becomes = _difference(code, changed)
        key = Key(file, _function_at(tree, position[0]), line, becomes, 1)
        counts[key] += 1
        found[changed] = Mutant(key._replace(nth=counts[key]), position[0], changed)
    return list(found.values())


def _changes(code: str) -> Iterator[tuple[Any, int, _Position]]:
    """Operators, with the number and the place of each change that they can make."""
    tree = parso.parse(code)
    nodes = list(ast_nodes(tree))
    operators = [plugins.get_operator(name) for name in sorted(plugins.operator_names())]
    for operator in (*(make() for make in operators if not make.arguments()), _StatementDeletion()):
        positions = itertools.chain.from_iterable(operator.mutation_positions(node) for node in nodes)
        for occurrence, (start, _) in enumerate(positions):
            if tree.get_leaf_for_position(start).parent.type != "parameters":  # there a star is no operator
                yield operator, occurrence, start


def _says_nothing(statement: Any) -> bool:
    return (
        statement.type in {"string", "import_name", "import_from", "global_stmt"}
        or statement.get_code().strip() == "pass"
    )


def _left_out(tree: ast.AST, lines: list[str]) -> Iterator[tuple[_Position, _Position]]:
    """The ranges in which nothing is changed."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and node.value is None:
            yield _range(node, node)
        elif isinstance(node, ast.arg | ast.AnnAssign) and node.annotation is not None:
            yield _range(node.annotation, node.annotation)
        elif isinstance(node, ast.FunctionDef) and node.returns is not None:
            yield _range(node.returns, node.returns)
        elif isinstance(node, ast.If):
            if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
                yield _range(node.body[0], node.body[-1])
            if node.orelse and any("pragma: no cover" in line for line in _between(node, lines)):
                yield _range(node.orelse[0], node.orelse[-1])


def _between(node: ast.If, lines: list[str]) -> list[str]:
    return lines[node.body[-1].end_lineno : node.orelse[0].lineno - 1]


def _range(first: ast.expr | ast.stmt, last: ast.expr | ast.stmt) -> tuple[_Position, _Position]:
    assert last.end_lineno is not None
    assert last.end_col_offset is not None
    return (first.lineno, first.col_offset), (last.end_lineno, last.end_col_offset)


def _compiles(code: str) -> bool:
    try:
        compile(code, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _difference(code: str, changed: str) -> tuple[str, str]:
    """The lines that differ, before and after, without their comments and each as one."""
    before, after = code.splitlines(), changed.splitlines()
    first = next(n for n, (one, other) in enumerate(itertools.zip_longest(before, after)) if one != other)
    same_end = next(
        n for n, (one, other) in enumerate(zip(reversed(before), reversed(after), strict=False)) if one != other
    )
    same_end = min(same_end, len(before) - first - 1, len(after) - first - 1)
    return _as_one(before[first : len(before) - same_end]), _as_one(after[first : len(after) - same_end])


def _as_one(lines: list[str]) -> str:
    return " ".join(text for line in lines if (text := line.split("  # ")[0].strip()))


def _function_at(tree: ast.AST, number: int, inside: str = "") -> str:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt) and node.lineno <= number <= (node.end_lineno or 0):
            name = f"{inside}.{node.name}".lstrip(".") if isinstance(node, ast.FunctionDef | ast.ClassDef) else inside
            return _function_at(node, number, name)
    return inside or "the module"
