"""Small breaks of a right program: what a test suite has to notice.

    mutants(source, "f") -> Mutant(operator="comparison", line=3, change="a < b → a >= b", source=…), …

Only trusted programs (reference solutions) are parsed here.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

OPERATORS = ("return", "comparison", "constant", "branch", "arithmetic")
_FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_SWAPPED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One broken program. operator: one of `OPERATORS`. line, change: where and what, for people."""

    operator: str
    line: int
    change: str
    source: str


def mutants(source: str, entry: str) -> Iterator[Mutant]:
    """Every mutant of the function `entry` and what it defines inside."""
    tree = ast.parse(source)
    function = next(n for n in reversed(tree.body) if isinstance(n, ast.FunctionDef) and n.name == entry)
    for index, node in enumerate(ast.walk(function)):
        for operator, change in _changes(node):
            broken = copy.deepcopy(tree)
            twin = next(n for n in reversed(broken.body) if isinstance(n, ast.FunctionDef) and n.name == entry)
            target = next(n for i, n in enumerate(ast.walk(twin)) if i == index)
            before = _head(target)
            change(target)
            text = ast.unparse(ast.fix_missing_locations(broken)) + "\n"
            yield Mutant(
                operator=operator,
                line=getattr(node, "lineno", 0),
                change=f"{before} → {_head(target)}",
                source=text,
            )


def _head(node: ast.AST) -> str:
    if isinstance(node, (ast.If, ast.While)):
        return f"if {ast.unparse(node.test)}"
    return ast.unparse(node).split("\n")[0][:80]


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], None]]]:
    match node:
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "return", lambda n: setattr(n, "value", ast.Constant(value=None))
        case ast.Compare(ops=[op]) if type(op) in _FLIPPED:
            yield "comparison", lambda n: setattr(n, "ops", [_FLIPPED[type(n.ops[0])]()])  # type: ignore[attr-defined]
        case ast.Constant(value=value) if type(value) is int:
            yield "constant", lambda n: setattr(n, "value", n.value + 1)  # type: ignore[attr-defined]
            yield "constant", lambda n: setattr(n, "value", n.value - 1)  # type: ignore[attr-defined]
        case ast.If() | ast.IfExp():
            yield "branch", lambda n: setattr(n, "test", ast.Constant(value=False))
            yield "branch", lambda n: setattr(n, "test", ast.Constant(value=True))
        case ast.BinOp(op=op) if type(op) in _SWAPPED:
            yield "arithmetic", lambda n: setattr(n, "op", _SWAPPED[type(n.op)]())  # type: ignore[attr-defined]
