"""The operators of a check, on exact builtin types, each priced before it runs.

A program chooses the values, so whatever could be made slow or large by them (a power, a repetition, a set whose
elements all have one hash, a sum of lists) is bounded here, not where it is used.

Not here: functions and methods (`calls_functions.py`).
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

LARGEST_WORK = 5_000_000
"""Units one check may spend, about one per element handled: a second or two at the very most."""
LARGEST_BITS = 1_000_000
LARGEST_ITEMS = 5_000_000
MOST_COLLISIONS = 64
"""Different values of one hash in a set or dictionary; chance gives 2 or 3."""
MOST_KEYS = 10_000
"""Members of a set that are no text; the places where numbers are looked for can be made to coincide in part."""
NUMBERS = (int, float, complex, bool)
SIZED = (str, bytes, list, tuple, dict, set, frozenset, range)


class CheckError(Exception):
    """A check that cannot be evaluated on the values it got; the test counts as failed."""


class Budget:
    """Work left for one check."""

    def __init__(self, units: int = LARGEST_WORK) -> None:
        self.left = units

    def pay(self, units: int) -> None:
        """Take the price of an operation. Raises: CheckError when it is not there."""
        self.left -= units
        if self.left < 0:
            raise CheckError("the check takes too much work on these values")


def items_of(value: Any, budget: Budget) -> Sequence[Any]:
    """The elements of a container, paid for. Raises: CheckError for what is no container."""
    if type(value) not in SIZED:
        raise CheckError(f"a {type(value).__name__} cannot be gone through")
    budget.pay(len(value))
    return value if isinstance(value, (list, tuple, str, bytes)) else list(value)


def distinct(values: Iterable[Any]) -> list[Any]:
    """The different values, in order of first appearance.

    Hashes of numbers and of tuples are no secret, so a program can answer with thousands of values of one hash, or of
    hashes that are looked for in the same places, on which a plain set takes quadratic time.

    Raises: CheckError when more than `MOST_COLLISIONS` different values share a hash, when more than `MOST_KEYS` are no
        text, or when one has no hash.
    """
    groups: dict[int, list[Any]] = {}
    found: list[Any] = []
    numbers = 0
    for value in values:
        numbers += type(value) is not str
        if numbers > MOST_KEYS:
            raise CheckError(f"over {MOST_KEYS} members of a set that are no text")
        try:
            group = groups.setdefault(hash(value), [])
        except TypeError:
            raise CheckError(f"a {type(value).__name__} cannot be an element of a set or a key") from None
        if value not in group:
            group.append(value)
            found.append(value)
            if len(group) > MOST_COLLISIONS:
                raise CheckError(f"over {MOST_COLLISIONS} different values have the same hash")
    return found


def size(value: Any) -> int:
    return len(value) if type(value) in SIZED else 1


def bits(value: Any) -> int:
    return value.bit_length() if isinstance(value, int) else 64


def require(kinds: tuple[type, ...], *values: Any) -> None:
    for value in values:
        if type(value) not in kinds:
            raise CheckError(f"a {type(value).__name__} where {' or '.join(k.__name__ for k in kinds)} is expected")


def _add(a: Any, b: Any, budget: Budget) -> Any:
    budget.pay(size(a) + size(b))
    return a + b


def _subtract(a: Any, b: Any, budget: Budget) -> Any:
    budget.pay(size(a) + size(b))
    return a - b


def _multiply(a: Any, b: Any, budget: Budget) -> Any:
    for sequence, count in ((a, b), (b, a)):
        if type(sequence) in (str, bytes, list, tuple) and isinstance(count, int):
            budget.pay(len(sequence) * max(0, count))
            return sequence * count
    require(NUMBERS, a, b)
    if bits(a) + bits(b) > LARGEST_BITS:
        raise CheckError("a product is too large")
    budget.pay((bits(a) // 64 + 1) * (bits(b) // 64 + 1) // 64)
    return a * b


def power(a: Any, b: Any, budget: Budget) -> Any:
    require(NUMBERS, a, b)
    if isinstance(a, int) and isinstance(b, int) and b > 0:
        if bits(a) * b > LARGEST_BITS and a not in (-1, 0, 1):
            raise CheckError("a power is too large")
        budget.pay(bits(a) * b // 64)
    return a**b


def _shift_left(a: Any, b: Any, budget: Budget) -> Any:
    require((int, bool), a, b)
    if b > LARGEST_BITS or bits(a) + b > LARGEST_BITS:
        raise CheckError("a shift is too large")
    return a << b


def modulo(a: Any, b: Any, budget: Budget) -> Any:
    require((int, float, bool), a, b)  # not text: '%999999999d' is a large text from a small one
    return a % b


def priced(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Budget], Any]:
    def run(a: Any, b: Any, budget: Budget) -> Any:
        budget.pay(size(a) + size(b) + (bits(a) + bits(b)) // 64)
        return function(a, b)

    return run


BINARY: Mapping[type[ast.operator], Callable[[Any, Any, Budget], Any]] = {
    ast.Add: _add,
    ast.Sub: _subtract,
    ast.Mult: _multiply,
    ast.Div: priced(operator.truediv),
    ast.FloorDiv: priced(operator.floordiv),
    ast.Mod: modulo,
    ast.Pow: power,
    ast.LShift: _shift_left,
    ast.RShift: priced(operator.rshift),
    ast.BitAnd: priced(operator.and_),
    ast.BitOr: priced(operator.or_),
    ast.BitXor: priced(operator.xor),
}
UNARY: Mapping[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: lambda a: ~a,
}


def _within(a: Any, b: Any) -> bool:
    return a in b


def _same(a: Any, b: Any) -> bool:
    """Identity as it would be in one process: of None, True, False and types; anything else was copied on its way."""
    if isinstance(a, type) or isinstance(b, type):
        return a is b
    return type(a) is type(b) and (a is None or isinstance(a, bool)) and a == b


COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any, Budget], bool]] = {
    ast.Eq: priced(operator.eq),
    ast.NotEq: priced(operator.ne),
    ast.Lt: priced(operator.lt),
    ast.LtE: priced(operator.le),
    ast.Gt: priced(operator.gt),
    ast.GtE: priced(operator.ge),
    ast.In: priced(_within),
    ast.NotIn: priced(lambda a, b: not _within(a, b)),
    ast.Is: priced(_same),
    ast.IsNot: priced(lambda a, b: not _same(a, b)),
}
"""Equality is Python's, so 1 == 1.0 == True, as where the tests were written."""
