"""The functions and methods of a check, on exact builtin types, each priced before it runs.

Their results are no larger than a small multiple of what they are given; methods that can make much of little
(`ljust`, `format`, `expandtabs`) are left out.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from charter.sandbox.calls_operations import (
    LARGEST_ITEMS,
    NUMBERS,
    SIZED,
    Budget,
    CheckError,
    bits,
    distinct,
    items_of,
    modulo,
    power,
    priced,
    require,
    size,
)


def _over(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one container."""

    def run(budget: Budget, value: Any = (), /) -> Any:
        return function(items_of(value, budget))

    return run


def _sum(budget: Budget, values: Any, start: Any = 0, /) -> Any:
    items = items_of(values, budget)
    require(NUMBERS, start, *items)  # lists would be added in quadratic time
    return sum(items, start)


def _sorted(budget: Budget, values: Any, /, *, reverse: Any = False, key: Any = None) -> Any:
    items = items_of(values, budget)
    budget.pay(len(items) * max(1, len(items).bit_length()))
    if key is None:
        return sorted(items, reverse=bool(reverse))
    by = FUNCTIONS[key.__name__] if isinstance(key, type) else key
    return sorted(items, key=lambda item: by(budget, item), reverse=bool(reverse))


def _extreme(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(budget: Budget, *values: Any) -> Any:
        if not values:
            raise CheckError("min or max of nothing")
        return function(items_of(values[0], budget)) if len(values) == 1 else function(*values)

    return run


def _range(budget: Budget, *bounds: Any) -> range:
    require((int, bool), *bounds)
    made = range(*bounds)
    if made and abs(made[-1] - made[0]) // abs(made.step) >= LARGEST_ITEMS:
        raise CheckError("a range is too long")
    return made


def _round(budget: Budget, number: Any, digits: Any = None, /) -> Any:
    require((int, float, bool), number)
    if digits is not None:
        require((int,), digits)
        if abs(digits) > 400:
            raise CheckError("a rounding to too many digits")
    return round(number, digits)


def _zip(budget: Budget, *columns: Any) -> list[Any]:
    return list(zip(*(items_of(c, budget) for c in columns), strict=False))


def _isinstance(budget: Budget, value: Any, kinds: Any, /) -> bool:
    if not all(isinstance(k, type) for k in (kinds if isinstance(kinds, tuple) else (kinds,))):
        raise CheckError("isinstance with something that is no type")
    return isinstance(value, kinds)


def _dict(budget: Budget, pairs: Any = (), /) -> dict[Any, Any]:
    if isinstance(pairs, dict):
        return dict(pairs)
    items = [tuple(items_of(pair, budget)) for pair in items_of(pairs, budget)]
    distinct([item[0] for item in items if item])
    return dict(items)


def _one(function: Callable[[Any], Any], *kinds: type) -> Callable[..., Any]:
    """A function of one value, of any type or of the kinds given."""

    def run(budget: Budget, value: Any, /) -> Any:
        if kinds:
            require(kinds, value)
        budget.pay(size(value) + bits(value) // 64)
        return function(value)

    return run


def _number(function: Callable[..., Any], empty: Any) -> Callable[..., Any]:
    def run(budget: Budget, *values: Any) -> Any:
        if len(values) > 2:
            raise CheckError("a number is made of one or two values")
        require((int, float, complex, bool, str), *values)
        return function(*values) if values else empty

    return run


def _small(function: Callable[..., Any]) -> Callable[..., Any]:
    """Functions of whole numbers whose value grows fast."""

    def run(budget: Budget, *values: Any) -> Any:
        require((int, bool), *values)
        if any(abs(v) > 5_000 for v in values):
            raise CheckError("a factorial or binomial of a number above 5000")
        return function(*values)

    return run


def _floats(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(budget: Budget, *values: Any, **named: Any) -> Any:
        budget.pay(sum(map(size, values)) + sum(bits(v) // 64 for v in values))
        return function(*values, **named)

    return run


TYPES: Mapping[str, type] = {
    t.__name__: t for t in (bool, complex, dict, float, frozenset, int, list, set, str, tuple, range, bytes, type(None))
}
"""What the names of types stand for where they are not called: `isinstance(_0, int)`, `type(_0) == list`."""
CONSTANTS: Mapping[str, Any] = {"Ellipsis": ...}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": _one(abs, *NUMBERS),
    "all": _over(all),
    "any": _over(any),
    "bin": _one(bin, int, bool),
    "bool": lambda budget, value=False, /: bool(value),
    "chr": _one(chr, int),
    "complex": _number(complex, 0j),
    "dict": _dict,
    "divmod": lambda budget, a, b, /: (priced(operator.floordiv)(a, b, budget), modulo(a, b, budget)),
    "enumerate": lambda budget, values, start=0, /: list(enumerate(items_of(values, budget), start)),
    "float": _number(float, 0.0),
    "frozenset": lambda budget, values=(), /: frozenset(distinct(items_of(values, budget))),
    "hex": _one(hex, int, bool),
    "int": _number(int, 0),
    "isinstance": _isinstance,
    "len": _one(len, *SIZED),
    "list": _over(list),
    "max": _extreme(max),
    "min": _extreme(min),
    "ord": _one(ord, str),
    "pow": lambda budget, a, b, /: power(a, b, budget),
    "range": _range,
    "repr": _one(repr),
    "reversed": _over(lambda items: list(reversed(items))),
    "round": _round,
    "set": lambda budget, values=(), /: set(distinct(items_of(values, budget))),
    "sorted": _sorted,
    "str": lambda budget, value="", /: _one(str)(budget, value),
    "sum": _sum,
    "tuple": _over(tuple),
    "type": lambda budget, value, /: type(value),
    "zip": _zip,
}
MODULE_CONSTANTS: Mapping[str, float] = {n: getattr(math, n) for n in ("pi", "e", "tau", "inf", "nan")}
MODULE_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    **{
        name: _floats(getattr(math, name))
        for name in (
            "acos",
            "asin",
            "atan",
            "atan2",
            "ceil",
            "copysign",
            "cos",
            "cosh",
            "degrees",
            "dist",
            "exp",
            "fabs",
            "floor",
            "fmod",
            "fsum",
            "gcd",
            "hypot",
            "isclose",
            "isfinite",
            "isinf",
            "isnan",
            "isqrt",
            "log",
            "log10",
            "log1p",
            "log2",
            "pow",
            "radians",
            "sin",
            "sinh",
            "sqrt",
            "tan",
            "tanh",
            "trunc",
        )
    },
    **{name: _small(getattr(math, name)) for name in ("comb", "factorial", "perm")},
}
KEYWORDS: Mapping[str, tuple[str, ...]] = {
    "sorted": ("reverse", "key"),
    "math.isclose": ("rel_tol", "abs_tol"),
}


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method whose result is no larger than what it is given."""

    def run(budget: Budget, receiver: Any, *values: Any) -> Any:
        budget.pay(size(receiver) + sum(map(size, values)))
        return function(receiver, *values)

    return run


def _join(budget: Budget, receiver: str, values: Any) -> str:
    items = items_of(values, budget)
    require((str,), *items)
    budget.pay(len(receiver) * len(items) + sum(map(len, items)))
    return receiver.join(items)


def _replace(budget: Budget, receiver: str, old: Any, new: Any) -> str:
    require((str,), old, new)
    budget.pay(len(receiver) + (receiver.count(old) + 1) * len(new))
    return receiver.replace(old, new)


def _of_sets(function: Callable[..., Any]) -> Callable[..., Any]:
    """A method of sets; what it takes may be any container, whose members must not collide either."""

    def run(budget: Budget, receiver: Any, *values: Any) -> Any:
        budget.pay(size(receiver) + sum(map(size, values)))
        distinct([*receiver, *(item for value in values for item in items_of(value, budget))])
        return function(receiver, *values)

    return run


def _listed(function: Callable[..., Any]) -> Callable[..., Any]:
    return _method(lambda receiver, *values: list(function(receiver, *values)))


_TEXT = """
    capitalize casefold count endswith find index isalnum isalpha isascii isdecimal isdigit isidentifier islower
    isnumeric isspace istitle isupper lower lstrip partition removeprefix removesuffix rfind rindex rpartition
    rsplit rstrip split splitlines startswith strip swapcase title upper
"""
_SET = "difference intersection isdisjoint issubset issuperset symmetric_difference union"


def _methods() -> dict[str, dict[type, Callable[..., Any]]]:
    made: dict[str, dict[type, Callable[..., Any]]] = {}
    for name in _TEXT.split():
        made.setdefault(name, {})[str] = _method(getattr(str, name))
    for name in _SET.split():
        for kind in (set, frozenset):
            made.setdefault(name, {})[kind] = _of_sets(getattr(kind, name))
    for name in ("count", "index"):
        for kind in (list, tuple):
            made.setdefault(name, {})[kind] = _method(getattr(kind, name))
    made["join"] = {str: _join}
    made["replace"] = {str: _replace}
    made["get"] = {dict: _method(dict.get)}
    for name in ("keys", "values", "items"):
        made[name] = {dict: _listed(getattr(dict, name))}
    return made


METHODS: Mapping[str, Mapping[type, Callable[..., Any]]] = _methods()
