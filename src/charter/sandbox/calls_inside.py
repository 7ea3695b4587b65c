"""Which part of an assert a program is asked for, and which is kept from it.

A part goes inside when it is the program's own doing from end to end: a name it must define, a call of it, an attribute
or a method of what it gave, a container made of that. Comparisons, arithmetic and everything that may hold what is
expected stay outside.
"""

from __future__ import annotations

import ast
import builtins
import copy
import sys
from collections.abc import Callable, Iterator

from charter.sandbox.calls_functions import METHODS

BUILTIN_NAMES = frozenset(dir(builtins)) - {"__name__"}
_WRAPPERS = ("list", "tuple", "set", "frozenset", "sorted", "dict", "next", "iter", "str", "repr")
"""Applied inside to what a program gave: it may be a generator or an object of its own. They add nothing to it."""
_MODULE_ALIASES = frozenset({"np", "pd", "torch", "numpy", "pandas", "scipy", "sympy", "pytest", "unittest"})


class Unsplittable(Exception):  # noqa: N818 - reads as the condition it names
    """Test code that cannot be taken apart; mode checker runs it whole.

    line: where, counted from 1. reason: what was found there.
    """

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"line {line}: {reason}")
        self.line = line
        self.reason = reason


def is_module(name: str) -> bool:
    """Whether a name that nothing defines means a module someone forgot to import, not something of the program's."""
    return name in sys.stdlib_module_names or name in _MODULE_ALIASES


def loaded(node: ast.AST) -> Iterator[str]:
    """The names an expression reads."""
    return (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load))


class Division:
    """Divides one expression: `check` is what stays outside, `calls` what goes in, in order of evaluation.

    is_program: whether a name is the program's. Raises: Unsplittable.
    """

    def __init__(self, line: int, is_program: Callable[[str], bool]) -> None:
        self.line = line
        self.is_program = is_program
        self.calls: list[ast.expr] = []

    def outside(self, node: ast.expr, bound: frozenset[str] = frozenset()) -> ast.expr:
        """The expression with every inside part replaced by `_0`, `_1`, …

        bound: names that comprehensions around it give a value to.
        """
        if self._inside(node, bound):
            self._refuse_bound(node, bound)
            self.calls.append(node)
            return ast.Name(id=f"_{len(self.calls) - 1}", ctx=ast.Load())
        match node:
            case ast.Call(func=ast.Attribute() as function) if self._has_program(function.value, bound):
                if function.attr not in METHODS or node.keywords:
                    self._refuse(f"what {ast.unparse(node)[:80]} does cannot be judged outside")
                receiver = ast.Attribute(value=self.outside(function.value, bound), attr=function.attr, ctx=ast.Load())
                return ast.Call(func=receiver, args=[self.outside(a, bound) for a in node.args], keywords=[])
            case ast.Call(func=function) if self._has_program(function, bound):
                self._refuse(f"{ast.unparse(node)[:80]} holds data beside an answer, which may be what is expected")
            case ast.BoolOp(op=ast.Or()) | ast.IfExp():
                self._refuse_skipped(node, bound)
            case ast.Lambda() | ast.NamedExpr() | ast.Await() | ast.Yield() | ast.YieldFrom():
                self._refuse(f"{ast.unparse(node)[:80]} is not taken apart")
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self._comprehension(node, bound)
        made = copy.copy(node)
        for field, value in ast.iter_fields(node):
            if isinstance(value, ast.expr):
                setattr(made, field, self.outside(value, bound))
            elif isinstance(value, list):
                setattr(made, field, [self._child(item, bound) for item in value])
        return made

    def _child(self, item: object, bound: frozenset[str]) -> object:
        if isinstance(item, ast.expr):
            return self.outside(item, bound)
        if isinstance(item, ast.keyword):
            return ast.keyword(arg=item.arg, value=self.outside(item.value, bound))
        return item

    def _comprehension(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, bound: frozenset[str]
    ) -> ast.expr:
        made = copy.deepcopy(node)
        for part in made.generators:
            part.iter = self.outside(part.iter, bound)
            bound = bound | {n.id for n in ast.walk(part.target) if isinstance(n, ast.Name)}
            part.ifs = [self.outside(condition, bound) for condition in part.ifs]
        if isinstance(made, ast.DictComp):
            made.key, made.value = self.outside(made.key, bound), self.outside(made.value, bound)
        else:
            made.elt = self.outside(made.elt, bound)
        return made

    def _program_name(self, name: str, bound: frozenset[str]) -> bool:
        return name not in bound and self.is_program(name)

    def _has_program(self, node: ast.AST, bound: frozenset[str]) -> bool:
        return any(self._program_name(name, bound) for name in loaded(node))

    def _has_call(self, node: ast.AST, bound: frozenset[str]) -> bool:
        return any(isinstance(n, ast.Call) and self._has_program(n.func, bound) for n in ast.walk(node))

    def _inside(self, node: ast.expr, bound: frozenset[str]) -> bool:
        match node:
            case ast.Name(id=name):
                return self._program_name(name, bound)
            case ast.Attribute(value=value, attr=name):
                if name.startswith("__") and self._has_program(value, bound):
                    self._refuse(f"{ast.unparse(node)[:80]} is an attribute of the interpreter's")
                return self._base(value, bound)
            case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if (
                name in _WRAPPERS and not self._program_name(name, bound)
            ):
                return self._made_inside(argument, bound)
            case ast.Call():
                return self._inside_call(node, bound)
            case ast.ListComp(elt=element, generators=generators):
                return self._inside_comprehension(element, generators, bound)
        return False

    def _base(self, node: ast.expr, bound: frozenset[str]) -> bool:
        """Whether an attribute or a call of this is inside: an item of what the program gave is, too."""
        if isinstance(node, ast.Subscript):
            return self._base(node.value, bound) and not self._has_program(node.slice, bound)
        return self._inside(node, bound)

    def _made_inside(self, node: ast.expr, bound: frozenset[str]) -> bool:
        if isinstance(node, ast.GeneratorExp):
            return self._inside_comprehension(node.elt, node.generators, bound)
        return self._inside(node, bound)

    def _inside_comprehension(
        self, element: ast.expr, generators: list[ast.comprehension], bound: frozenset[str]
    ) -> bool:
        for part in generators:
            if part.ifs or part.is_async:
                return False
            if self._has_program(part.iter, bound) and not self._inside(part.iter, bound):
                return False
            bound = bound - {n.id for n in ast.walk(part.target) if isinstance(n, ast.Name)}
        return self._inside(element, bound)

    def _inside_call(self, node: ast.Call, bound: frozenset[str]) -> bool:
        if not self._base(node.func, bound):
            return False
        arguments = [*node.args, *(k.value for k in node.keywords)]
        match node.func:
            case ast.Attribute(value=receiver, attr=name) if arguments and name in METHODS:
                # of a list or a text: `f(3).count(7)`; of an object of the program's own: `Counter().count(7)`
                made = receiver.func if isinstance(receiver, ast.Call) else receiver
                own = isinstance(receiver, ast.Name) or (isinstance(made, ast.Name) and made.id[:1].isupper())
                if not own:
                    return False
        # an answer handed on beside data may be compared with it there: `isclose(f(1), 2.0)`, isclose being unknown
        answers = any(self._has_call(a, bound) for a in arguments)
        return not answers or all(self._inside(a, bound) for a in arguments)

    def _refuse_bound(self, node: ast.expr, bound: frozenset[str]) -> None:
        for name in loaded(node):
            if name in bound:
                self._refuse(f"{ast.unparse(node)[:80]} depends on {name}, which a comprehension around it sets")

    def _refuse_skipped(self, node: ast.BoolOp | ast.IfExp, bound: frozenset[str]) -> None:
        """Every call is made, so one that Python may skip must be one that is made anyway."""
        first, *rest = node.values if isinstance(node, ast.BoolOp) else (node.test, node.body, node.orelse)
        made = {ast.unparse(n) for n in ast.walk(first) if isinstance(n, ast.Call)}
        for part in rest:
            for n in ast.walk(part):
                if isinstance(n, ast.Call) and self._has_program(n.func, bound) and ast.unparse(n) not in made:
                    self._refuse(f"{ast.unparse(n)[:80]} is called only under a condition")

    def _refuse(self, reason: str) -> None:
        raise Unsplittable(self.line, reason)
