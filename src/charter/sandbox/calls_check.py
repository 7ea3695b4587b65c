"""The outside half of an assert: an expression over the values a program answered, evaluated without `eval`.

    evaluate_check("_0 == [1, 2] and _1 < 3", [[1, 2], 2]) -> True

The expression comes from the data set and is trusted to mean well; the values come from a program and are not trusted
to be small, friendly or of the type the expression expects. So every operation is on exact builtin types, and what it
costs is paid from a budget before it is done.

Not here: taking an assert apart (`calls.py`), the functions and operators themselves (`calls_operations.py`).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from charter.sandbox.calls_functions import (
    CONSTANTS,
    FUNCTIONS,
    KEYWORDS,
    METHODS,
    MODULE_CONSTANTS,
    MODULE_FUNCTIONS,
    TYPES,
)
from charter.sandbox.calls_operations import BINARY, COMPARE, UNARY, Budget, CheckError, distinct, items_of

__all__ = ["CheckError", "evaluate_check", "fault_of"]

NODE = 5
"""Price of visiting a node, in the units of handling one element of a container."""
LONGEST_CHECK = 4_000_000
"""Characters of an expression; a longer one is a mistake in the data set."""


def evaluate_check(check: str, values: Sequence[object]) -> bool:
    """Whether the check holds for the values.

    check: a Python expression over `_0`, `_1`, … values: what the calls gave, in order; exact builtin types.
    Returns: the truth of the expression.
    Raises: CheckError, when the expression cannot be evaluated on these values (they are of another type, too large)
        or at all; the test then counts as failed, and the message says why.
    """
    environment = {f"_{i}": value for i, value in enumerate(values)}
    try:
        return bool(_Evaluator(Budget()).value(_parse(check), environment))
    except CheckError:
        raise
    except RecursionError:
        raise CheckError("the values or the check are nested too deeply") from None
    except MemoryError:
        raise CheckError("the check needs too much memory on these values") from None
    except Exception as error:  # noqa: BLE001 - whatever an operation raises on a program's values, the test failed
        raise CheckError(f"{type(error).__name__}: {error}"[:300]) from None


@lru_cache(maxsize=4096)
def _parse(check: str) -> ast.expr:
    if len(check) > LONGEST_CHECK:
        raise CheckError(f"the check has {len(check)} characters, over the limit of {LONGEST_CHECK}")
    try:
        return ast.parse(check, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise CheckError(f"the check is not a Python expression: {error}") from None


def fault_of(node: ast.expr, bound: frozenset[str]) -> str:
    """What in an expression `evaluate_check` cannot do, in words; empty when it can do all of it.

    bound: the names that have a value (`_0`, …). Parts without any of them are tried at once, since they would fail
    the same way for every program.
    """
    fault = _shape_fault(node, bound)
    if fault:
        return fault
    for part in _constant_parts(node, bound):
        try:
            _Evaluator(Budget()).value(part, {})
        except RecursionError:
            return "it is nested too deeply"
        except Exception as error:  # noqa: BLE001 - the reason, whatever it is, goes into the sentence
            return f"{ast.unparse(part)[:80]} cannot be evaluated: {error}"
    return ""


def _constant_parts(node: ast.expr, bound: frozenset[str]) -> Iterator[ast.expr]:
    """The largest sub-expressions that name nothing bound."""
    names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    own = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    if not names & (bound | own) and not isinstance(node, ast.Starred):
        if not isinstance(node, (ast.Constant, ast.Name, ast.Attribute)):
            yield node
        return
    if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
        yield from _constant_parts(node.generators[0].iter, bound)
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from _constant_parts(child, bound)


def _shape_fault(node: ast.AST, bound: frozenset[str]) -> str:
    match node:
        case ast.Constant(value=value):
            known = (int, float, complex, str, bytes, bool, type(None))
            return "" if type(value) in known else f"{ast.unparse(node)} is no value"
        case ast.Name(id=name):
            known_name = name in bound or name in CONSTANTS or name in FUNCTIONS or name in TYPES
            return "" if known_name else f"the name {name} is unknown there"
        case ast.Attribute(value=ast.Name(id="math"), attr=attribute):
            known_name = attribute in MODULE_CONSTANTS or attribute in MODULE_FUNCTIONS
            return "" if known_name else f"math.{attribute} is not among its functions"
        case ast.Call():
            return _call_fault(node, bound)
        case ast.BinOp(op=operator) if type(operator) not in BINARY:
            return f"the operator of {ast.unparse(node)[:60]} is not among its operators"
        case ast.Compare(ops=operators) if any(type(o) in (ast.Is, ast.IsNot) for o in operators):
            operands = [node.left, *node.comparators]
            for i, operator in enumerate(operators):
                pair = operands[i : i + 2]
                if type(operator) in (ast.Is, ast.IsNot) and not any(_is_single(o) for o in pair):
                    return f"{ast.unparse(node)[:60]} asks for identity of values that were copied"
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            return _comprehension_fault(node, bound)
        case (
            ast.BinOp() | ast.BoolOp() | ast.UnaryOp() | ast.Compare() | ast.Subscript() | ast.Slice()
            | ast.List() | ast.Tuple() | ast.Set() | ast.Dict() | ast.IfExp()
        ):  # fmt: skip
            pass
        case ast.expr():
            return f"{ast.unparse(node)[:60]} ({type(node).__name__}) is not among its expressions"
        case _:
            return ""
    return next((f for child in ast.iter_child_nodes(node) if (f := _shape_fault(child, bound))), "")


def _is_single(node: ast.expr) -> bool:
    """Whether there is one of it in every process: None, True, False, a type."""
    if isinstance(node, ast.Constant):
        return node.value is None or isinstance(node.value, bool)
    of = node.func if isinstance(node, ast.Call) else node
    return isinstance(of, ast.Name) and (of.id in TYPES if of is node else of.id == "type")


def _call_fault(node: ast.Call, bound: frozenset[str]) -> str:
    match node.func:
        case ast.Name(id=name) if name in FUNCTIONS and name not in bound:
            allowed = KEYWORDS.get(name, ())
        case ast.Attribute(value=ast.Name(id="math"), attr=name) if name in MODULE_FUNCTIONS:
            allowed = KEYWORDS.get(f"math.{name}", ())
        case ast.Attribute(value=receiver, attr=name) if name in METHODS:
            allowed = ()
            if fault := _shape_fault(receiver, bound):
                return fault
        case _:
            return f"the function {ast.unparse(node.func)[:60]} is unknown there"
    for keyword in node.keywords:
        if keyword.arg not in allowed:
            return f"{name} takes no {keyword.arg or '**'} there"
    for argument in (*node.args, *(k.value for k in node.keywords)):
        if fault := _shape_fault(argument, bound):
            return fault
    return ""


def _comprehension_fault(
    node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp, bound: frozenset[str]
) -> str:
    for part in node.generators:
        if part.is_async:
            return "an asynchronous comprehension is not among its expressions"
        if fault := _shape_fault(part.iter, bound):
            return fault
        targets = _targets(part.target)
        if targets is None:
            return f"{ast.unparse(part.target)[:60]} is no plain name to bind"
        bound = bound | targets
        for condition in part.ifs:
            if fault := _shape_fault(condition, bound):
                return fault
    elements = (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,)
    return next((f for element in elements if (f := _shape_fault(element, bound))), "")


def _targets(node: ast.expr) -> frozenset[str] | None:
    if isinstance(node, ast.Name):
        return frozenset({node.id})
    if isinstance(node, (ast.Tuple, ast.List)):
        found = [_targets(e) for e in node.elts]
        return None if None in found else frozenset().union(*(f for f in found if f))
    return None


class _Evaluator:
    """Walks one expression. `budget` is shared by everything it does."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget

    def value(self, node: ast.AST, names: Mapping[str, Any]) -> Any:
        self.budget.pay(NODE)
        method: Callable[..., Any] | None = getattr(self, f"_{type(node).__name__.lower()}", None)
        if method is None:
            raise CheckError(f"the check holds {type(node).__name__}, which is not evaluated")
        return method(node, names)

    def _constant(self, node: ast.Constant, names: Mapping[str, Any]) -> Any:
        return node.value

    def _name(self, node: ast.Name, names: Mapping[str, Any]) -> Any:
        for table in (names, CONSTANTS, TYPES, FUNCTIONS):
            if node.id in table:
                return table[node.id]
        raise CheckError(f"the check uses the unknown name {node.id}")

    def _attribute(self, node: ast.Attribute, names: Mapping[str, Any]) -> Any:
        if isinstance(node.value, ast.Name) and node.value.id == "math" and node.attr in MODULE_CONSTANTS:
            return MODULE_CONSTANTS[node.attr]
        raise CheckError(f"the check uses the unknown attribute {node.attr}")

    def _sequence(self, elements: Sequence[ast.expr], names: Mapping[str, Any]) -> list[Any]:
        return [self.value(e, names) for e in elements]

    def _list(self, node: ast.List, names: Mapping[str, Any]) -> Any:
        return self._sequence(node.elts, names)

    def _tuple(self, node: ast.Tuple, names: Mapping[str, Any]) -> Any:
        return tuple(self._sequence(node.elts, names))

    def _set(self, node: ast.Set, names: Mapping[str, Any]) -> Any:
        return set(distinct(self._sequence(node.elts, names)))

    def _dict(self, node: ast.Dict, names: Mapping[str, Any]) -> Any:
        if None in node.keys:
            raise CheckError("the check unpacks a dictionary, which is not evaluated")
        keys = self._sequence([k for k in node.keys if k is not None], names)
        distinct(keys)
        return dict(zip(keys, self._sequence(node.values, names), strict=True))

    def _unaryop(self, node: ast.UnaryOp, names: Mapping[str, Any]) -> Any:
        return UNARY[type(node.op)](self.value(node.operand, names))

    def _binop(self, node: ast.BinOp, names: Mapping[str, Any]) -> Any:
        operation = BINARY.get(type(node.op))
        if operation is None:
            raise CheckError(f"the check uses the operator {type(node.op).__name__}, which is not evaluated")
        return operation(self.value(node.left, names), self.value(node.right, names), self.budget)

    def _boolop(self, node: ast.BoolOp, names: Mapping[str, Any]) -> Any:
        stop_at = isinstance(node.op, ast.Or)
        result: Any = not stop_at
        for operand in node.values:
            result = self.value(operand, names)
            if bool(result) is stop_at:
                return result
        return result

    def _ifexp(self, node: ast.IfExp, names: Mapping[str, Any]) -> Any:
        return self.value(node.body if self.value(node.test, names) else node.orelse, names)

    def _compare(self, node: ast.Compare, names: Mapping[str, Any]) -> Any:
        left = self.value(node.left, names)
        for operator, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.value(right_node, names)
            if not COMPARE[type(operator)](left, right, self.budget):
                return False
            left = right
        return True

    def _subscript(self, node: ast.Subscript, names: Mapping[str, Any]) -> Any:
        container, key = self.value(node.value, names), self.value(node.slice, names)
        if type(container) not in (str, bytes, list, tuple, dict, range):
            raise CheckError(f"a {type(container).__name__} has no items to take")
        self.budget.pay(len(container) if isinstance(key, slice) else 1)
        return container[key]

    def _slice(self, node: ast.Slice, names: Mapping[str, Any]) -> Any:
        bounds = (node.lower, node.upper, node.step)
        return slice(*(None if b is None else self.value(b, names) for b in bounds))

    def _call(self, node: ast.Call, names: Mapping[str, Any]) -> Any:
        function = node.func
        if isinstance(function, ast.Name) and function.id in FUNCTIONS and function.id not in names:
            name, target = function.id, FUNCTIONS[function.id]
            allowed = KEYWORDS.get(name, ())
        elif isinstance(function, ast.Attribute):
            name = function.attr
            if isinstance(function.value, ast.Name) and function.value.id == "math" and name in MODULE_FUNCTIONS:
                target, allowed = MODULE_FUNCTIONS[name], KEYWORDS.get(f"math.{name}", ())
            else:
                return self._method(node, name, self.value(function.value, names), names)
        else:
            raise CheckError(f"the check calls {ast.unparse(function)[:60]}, which is unknown")
        if any(k.arg not in allowed for k in node.keywords):
            raise CheckError(f"the check gives {name} a keyword that it does not take here")
        arguments = self._sequence(node.args, names)
        return target(self.budget, *arguments, **{str(k.arg): self.value(k.value, names) for k in node.keywords})

    def _method(self, node: ast.Call, name: str, receiver: Any, names: Mapping[str, Any]) -> Any:
        target = METHODS.get(name, {}).get(type(receiver))
        if target is None or node.keywords:
            raise CheckError(f"a {type(receiver).__name__} has no method {name} here")
        return target(self.budget, receiver, *self._sequence(node.args, names))

    def _listcomp(self, node: ast.ListComp, names: Mapping[str, Any]) -> Any:
        return [self.value(node.elt, scope) for scope in self._scopes(node.generators, names)]

    _generatorexp = _listcomp

    def _setcomp(self, node: ast.SetComp, names: Mapping[str, Any]) -> Any:
        return set(distinct([self.value(node.elt, scope) for scope in self._scopes(node.generators, names)]))

    def _dictcomp(self, node: ast.DictComp, names: Mapping[str, Any]) -> Any:
        pairs = [(self.value(node.key, s), self.value(node.value, s)) for s in self._scopes(node.generators, names)]
        distinct([key for key, _ in pairs])
        return dict(pairs)

    def _scopes(self, generators: Sequence[ast.comprehension], names: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        if not generators:
            yield dict(names)
            return
        first, *rest = generators
        for item in items_of(self.value(first.iter, names), self.budget):
            scope = {**names, **_bind(first.target, item)}
            if all(self.value(condition, scope) for condition in first.ifs):
                yield from self._scopes(rest, scope)


def _bind(target: ast.expr, item: Any) -> dict[str, Any]:
    if isinstance(target, ast.Name):
        return {target.id: item}
    if not isinstance(target, (ast.Tuple, ast.List)):
        raise CheckError("the check binds something else than names")
    if type(item) not in (list, tuple, str):
        raise CheckError(f"a {type(item).__name__} cannot be unpacked")
    if len(item) != len(target.elts):
        raise CheckError(f"{len(item)} values to unpack into {len(target.elts)} names")
    return {name: value for t, i in zip(target.elts, item, strict=True) for name, value in _bind(t, i).items()}
