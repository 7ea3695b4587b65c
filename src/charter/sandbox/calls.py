"""Asserts taken apart: what a program is asked, and what must hold of its answers, which never enters the sandbox.

    split_asserts("assert f(2) == 4") -> CallSuite(tests=(CallTest(calls=("f(2)",), check="_0 == 4"),))
    evaluate_check("_0 == 4", [4]) -> True

Done once, when a data set is loaded, on its own test code; nothing a model wrote is parsed here.

Not here: which part of an assert goes inside (`calls_inside.py`), what a check may do (`calls_check.py`).
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from charter.errors import DataError
from charter.sandbox.calls_check import evaluate_check, fault_of
from charter.sandbox.calls_inside import BUILTIN_NAMES, Division, Unsplittable, is_module, loaded
from charter.sandbox.calls_operations import CheckError
from charter.sandbox.job import CallSuite, CallTest

__all__ = ["CheckError", "TestError", "Unsplittable", "evaluate_check", "split_asserts"]

_PROGRAM_MODULES = ("solution", "your_module", "main")
"""Modules that tests import the program from."""


class TestError(DataError):
    """Test code of a data set that is wrong in itself: it does not parse, or no program can pass it."""

    __test__ = False  # pytest collects classes of this name

    def __init__(self, line: int, found: str, fix: str) -> None:
        super().__init__(f"test code, line {line}: {found}. {fix}")
        self.line = line


def split_asserts(source: str, entry: str | None = None) -> CallSuite:
    """Take straight-line asserts apart.

    Read are asserts at the top, in `check(candidate)` (HumanEval) and in `test_…()` without parameters; names with a
    constant value are replaced by it; an assert that asks the program nothing and holds is left out.

    source: test code of the data set. entry: the expression `candidate` stands for, `sort_third` or `Solution().add`.
    Returns: one CallTest per assert, in order.
    Raises: Unsplittable, for test code of another form, with its line and what was found: mode checker runs it whole.
        TestError, for code that is no Python, has no assert about the program, or one that never holds.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = getattr(error, "lineno", None) or 1
        raise TestError(
            line, f"it is not Python: {getattr(error, 'msg', error)}", "Repair the row or drop it"
        ) from None
    splitter = _Splitter(source, _parse_entry(entry))
    try:
        splitter.run(tree.body)
    except RecursionError:
        raise Unsplittable(1, "it is nested too deeply") from None
    if not splitter.tests:
        raise TestError(1, "no assert asks the program for anything", "Give asserts that call it")
    return CallSuite(tests=tuple(splitter.tests), setup=splitter.setup())


def _parse_entry(entry: str | None) -> ast.expr | None:
    if entry is None:
        return None
    try:
        return ast.parse(entry.strip(), mode="eval").body
    except (SyntaxError, ValueError):
        raise TestError(1, f"the entry point {entry!r} is not an expression", "Give the function's name") from None


@dataclass(slots=True)
class _Constant:
    """A name that the tests give a value. lent: a statement has handed it to the program, which may have changed it."""

    value: ast.expr
    mutable: bool
    lent: bool = False


@dataclass(slots=True)
class _Scope:
    """The names of the tests. helpers: functions and classes; they are neither the program's nor replaceable."""

    constants: dict[str, _Constant] = field(default_factory=dict[str, _Constant])
    imports: dict[str, ast.Import | ast.ImportFrom] = field(default_factory=dict[str, ast.Import | ast.ImportFrom])
    helpers: set[str] = field(default_factory=set[str])
    own: set[str] = field(default_factory=set[str])

    def inner(self) -> _Scope:
        """The scope of a function's body."""
        return _Scope(dict(self.constants), dict(self.imports), set(self.helpers), set(self.own))


class _Splitter:
    def __init__(self, source: str, entry: ast.expr | None) -> None:
        self.source = source
        self.entry = entry
        self.tests: list[CallTest] = []
        self.used: dict[str, None] = {}

    def setup(self) -> str:
        """The imports that the calls need."""
        return "\n".join(self.used)

    def run(self, body: Sequence[ast.stmt]) -> None:
        scope = _Scope()
        if self.entry is not None:
            scope.own |= set(loaded(self.entry))
        functions = [node for node in body if isinstance(node, ast.FunctionDef) and _is_test(node)]
        self._statements([node for node in body if node not in functions], scope, {f.name for f in functions})
        for function in functions:
            self._function(function, scope.inner())

    def _function(self, node: ast.FunctionDef, scope: _Scope) -> None:
        if node.decorator_list:
            raise Unsplittable(node.lineno, f"{node.name} is decorated")
        for parameter in node.args.args:
            if self.entry is None:
                raise Unsplittable(node.lineno, f"{node.name}({parameter.arg}) is given no entry point")
            scope.constants[parameter.arg] = _Constant(self.entry, mutable=False)
        self._statements(node.body, scope, set())

    def _statements(self, body: Sequence[ast.stmt], scope: _Scope, tests: set[str]) -> None:
        for node in body:
            match node:
                case ast.Assert():
                    self._assert(node, scope)
                case ast.Import() | ast.ImportFrom():
                    _import(node, scope)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self._assign(name, value, node, scope)
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    self._assign(name, value, node, scope)
                case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.AsyncFunctionDef(name=name):
                    scope.helpers.add(name)
                case ast.Expr(value=ast.Call(func=ast.Name(id=name), args=arguments)) if name in tests:
                    if self.entry is None and arguments:
                        self.entry = arguments[0]
                        scope.own |= set(loaded(self.entry))
                case ast.Expr(value=ast.Constant() | ast.Name()) | ast.Pass():
                    pass
                case ast.Expr(value=ast.Call(func=ast.Name(id="print")) as call) if not _reads_program(call, scope):
                    pass
                case ast.If(test=ast.Compare(left=ast.Name(id="__name__"))):
                    self._statements(node.body, scope, tests)
                case _:
                    kind = type(node).__name__.lower()
                    raise Unsplittable(node.lineno, f"a statement of kind {kind}: {ast.unparse(node)[:80]!r}")

    def _assign(self, name: str, value: ast.expr, node: ast.stmt, scope: _Scope) -> None:
        if _reads_program(value, scope):
            raise Unsplittable(node.lineno, f"{name} is given a value that the program makes")
        replaced = self._replace(value, node.lineno, scope, lend=False)
        scope.constants[name] = _Constant(replaced, mutable=not _is_immutable(replaced))

    def _assert(self, node: ast.Assert, scope: _Scope) -> None:
        line = node.lineno
        division = Division(line, lambda name: _is_program(name, scope))
        asked = self._replace(node.test, line, scope, lend=_reads_program(node.test, scope))
        check = division.outside(asked)
        names = frozenset(f"_{i}" for i in range(len(division.calls)))
        for name in (n for call in division.calls for n in loaded(call)):
            if name in scope.helpers:
                raise Unsplittable(line, f"the program would need {name}, which the tests define")
            if name in scope.imports:
                self.used.setdefault(ast.unparse(scope.imports[name]))
            elif is_module(name) and not _is_program(name, scope):
                self.used.setdefault(f"import {name}")
        check = _ModuleNames(scope).visit(check)
        if fault := fault_of(check, names):
            raise Unsplittable(line, fault)
        text = ast.unparse(check)
        if not division.calls:
            self._refuse_never(text, node)
            return
        self.tests.append(
            CallTest(
                source=ast.get_source_segment(self.source, node) or ast.unparse(node),
                calls=tuple(ast.unparse(call) for call in division.calls),
                check=text,
            )
        )

    def _refuse_never(self, check: str, node: ast.Assert) -> None:
        try:
            holds = evaluate_check(check, ())
        except CheckError:
            holds = False
        if not holds:
            raise TestError(node.lineno, f"{ast.unparse(node)[:80]!r} never holds", "Repair the row or drop it")

    def _replace(self, node: ast.expr, line: int, scope: _Scope, *, lend: bool) -> ast.expr:
        """The expression with constants in place of their names. lend: whether the program is handed them."""
        direct = [name for name in loaded(node) if name in scope.constants]
        for name in dict.fromkeys(direct):
            constant = scope.constants[name]
            if constant.mutable and (constant.lent or (lend and direct.count(name) > 1)):
                raise Unsplittable(line, f"{name} is used again after the program may have changed it")
            constant.lent = constant.lent or lend
        bound = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        for name in bound:
            if name in scope.constants:
                raise Unsplittable(line, f"{name} is both a constant and bound by a comprehension")
        for name in loaded(node):
            if name.startswith("_") and name[1:].isdigit():
                raise Unsplittable(line, f"the name {name} is taken")
        return _Replacing(scope).visit(copy.deepcopy(node))


class _Replacing(ast.NodeTransformer):
    def __init__(self, scope: _Scope) -> None:
        self.scope = scope

    def visit_Name(self, node: ast.Name) -> ast.expr:
        found = self.scope.constants.get(node.id) if isinstance(node.ctx, ast.Load) else None
        return node if found is None else copy.deepcopy(found.value)


class _ModuleNames(ast.NodeTransformer):
    """`isclose` → `math.isclose` and `m.sqrt` → `math.sqrt`, after the tests' own imports."""

    def __init__(self, scope: _Scope) -> None:
        self.imports = scope.imports

    def visit_Name(self, node: ast.Name) -> ast.expr:
        match self.imports.get(node.id):
            case ast.ImportFrom(module="math", names=names):
                original = next((a.name for a in names if (a.asname or a.name) == node.id), node.id)
                return ast.Attribute(value=ast.Name(id="math", ctx=ast.Load()), attr=original, ctx=node.ctx)
            case ast.Import(names=names):
                return ast.Name(id=next((a.name for a in names if a.asname == node.id), node.id), ctx=node.ctx)
        return node


def _is_test(node: ast.FunctionDef) -> bool:
    given = node.args
    others = given.posonlyargs or given.kwonlyargs or given.vararg or given.kwarg or given.defaults
    return not others and (
        (node.name == "check" and len(given.args) == 1) or (node.name.startswith("test") and not given.args)
    )


def _import(node: ast.Import | ast.ImportFrom, scope: _Scope) -> None:
    if isinstance(node, ast.ImportFrom) and node.module in _PROGRAM_MODULES:
        return
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return
    for alias in node.names:
        name = alias.asname or alias.name.partition(".")[0]
        if alias.name == "*":
            raise Unsplittable(node.lineno, f"{ast.unparse(node)} imports names that are not said")
        if alias.name in _PROGRAM_MODULES:
            raise Unsplittable(node.lineno, f"{ast.unparse(node)} imports the program as a module")
        scope.imports[name] = node


def _is_program(name: str, scope: _Scope) -> bool:
    if name in scope.own:
        return True
    known = name in scope.constants or name in scope.imports or name in scope.helpers
    return not known and name not in BUILTIN_NAMES and not is_module(name)


def _reads_program(node: ast.expr, scope: _Scope) -> bool:
    """Whether an expression asks the program for something; a parameter that stands for the entry does."""
    bound = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    names: Iterator[str] = (name for name in loaded(node) if name not in bound)
    return any(
        _is_program(name, scope)
        or (name in scope.constants and any(_is_program(n, scope) for n in loaded(scope.constants[name].value)))
        for name in names
    )


def _is_immutable(node: ast.expr) -> bool:
    kinds = (ast.Constant, ast.Tuple, ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.expr_context)
    return all(isinstance(n, kinds) for n in ast.walk(node))
