"""What math-verify's parser is needed for: formulas with roots, letters, functions, sums.

Two formulas are compared by evaluating both at a few fixed points to 40 digits: exact where they are constants, and a
formula that differs at one point is another formula. Only what cannot be evaluated (undefined functions, limits) is
left to `math_verify.verify`.

Source: parser and fallback by math-verify (github.com/huggingface/Math-Verify) on latex2sympy2_extended; identity
testing by evaluation: Schwartz (1980), "Fast probabilistic algorithms for verification of polynomial identities".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import Any

DIGITS = 40
"""Decimal digits two values are worked out to."""
FINE_DIGITS = 400
"""Decimal digits of two constants that agree in DIGITS: 2¹⁰⁰ and 2¹⁰⁰ + 1 do in thirty."""
_POINTS = (
    Fraction(37, 29), Fraction(-53, 31), Fraction(211, 89), Fraction(-17, 61), Fraction(109, 23), Fraction(5, 97),
)  # fmt: skip
_COUNTERS = frozenset("nkmj")
"""Variables that stand for whole numbers, by custom."""
_LEAST_POINTS = 3
_SUBSCRIPTED = re.compile(r"(?<![A-Za-z_\d])\d[\d.]*\s*_", re.ASCII)
_DEGREES = re.compile(r"(\d{1,30}(?:\.\d{1,30})?)\s*\^\\circ", re.ASCII)


@lru_cache(maxsize=1024)
def parsed(tex: str) -> Any:
    """The expression a formula is, i as the imaginary unit and decimals exact; None when it is none.

    tex: LaTeX without delimiters, without a trailing unit.
    """
    import math_verify
    import sympy

    if _SUBSCRIPTED.search(tex):
        return None  # the parser would drop the subscript
    if "\\circ" in tex:
        tex = _DEGREES.sub(lambda m: f"(\\frac{{{m.group(1)}\\pi}}{{180}})", tex)
    found = math_verify.parse(
        f"${tex}$",
        [math_verify.LatexExtractionConfig(normalization_config=_normalization())],
        fallback_mode="no_fallback",
        parsing_timeout=None,  # pyright: ignore[reportArgumentType] - None turns its SIGALRM off; ours is on
    )
    if not found or isinstance(found[0], str):
        return None
    return found[0] if isinstance(found[0], sympy.MatrixBase) else _settled(found[0])


@lru_cache(maxsize=1)
def _normalization() -> Any:
    from latex2sympy2_extended import NormalizationConfig

    # Its own units list takes the h off \frac{1}{3}h and the d off 3d; `math_units` knows which is a unit.
    return NormalizationConfig(
        basic_latex=True, units=False, malformed_operators=True, nits=True, boxed="none", equations=False
    )


def _settled(expression: Any) -> Any:
    """Symbols by name alone, i as √-1, decimals as fractions."""
    import sympy

    if not isinstance(expression, sympy.Basic):
        return None
    bound = expression.has(sympy.Sum, sympy.Product)
    renamed: dict[Any, Any] = {f: sympy.Rational(str(f)) for f in expression.atoms(sympy.Float)}
    for symbol in expression.atoms(sympy.Symbol):
        renamed[symbol] = sympy.I if symbol.name == "i" and not bound else sympy.Symbol(symbol.name)
    return expression.xreplace(renamed)


def value(tex: str) -> Any:
    """The number a formula without variables is, to 40 digits; None when it has variables or no finite value."""
    expression = parsed(tex)
    if expression is None or _names(expression):
        return None
    return _at(expression, {})


def _names(expression: Any) -> set[str]:
    return {symbol.name for symbol in getattr(expression, "free_symbols", ())}


def _evaluable(expression: Any) -> bool:
    import sympy
    from sympy.core.function import AppliedUndef

    unevaluated = (AppliedUndef, sympy.Derivative, sympy.Integral, sympy.Limit, sympy.Product, sympy.Sum)
    return isinstance(expression, sympy.Expr) and not expression.has(*unevaluated)


def _at(expression: Any, point: Mapping[str, Fraction]) -> Any:
    """The value at a point, or None where there is none."""
    import sympy

    if not _evaluable(expression):
        return None
    try:
        fixed = {sympy.Symbol(name): sympy.Rational(v.numerator, v.denominator) for name, v in point.items()}
        found = expression.xreplace(fixed).evalf(DIGITS)
    except (ArithmeticError, ValueError, TypeError, AttributeError, RuntimeError):  # whatever sympy cannot evaluate
        return None
    return found if found.is_number and found.is_finite else None


def _points(names: set[str]) -> list[dict[str, Fraction]]:
    """Six points; whole numbers for what counts."""
    order = sorted(names)
    points = []
    for i in range(len(_POINTS)):
        point = {}
        for j, name in enumerate(order):
            chosen = _POINTS[(i + j) % len(_POINTS)] + j * Fraction(3, 13)
            point[name] = Fraction(i + j + 1) if name in _COUNTERS else chosen
        points.append(point)
    return points if names else [{}]


def _agree(left: Any, right: Any) -> bool:
    """Two values worked out to DIGITS digits, up to the last ten of them."""
    import sympy

    apart, size = sympy.Abs(left - right), sympy.Abs(left) + sympy.Abs(right)
    return bool(apart <= size * sympy.Rational(1, 10 ** (DIGITS - 10)))


def _exactly(left: Any, right: Any) -> bool:
    """Two constants that agree in many digits: rational ones exactly, others in still more digits."""
    import sympy

    one, other = left.doit(), right.doit()
    if one.is_Rational and other.is_Rational:
        return bool(one == other)
    a, b = (expression.evalf(FINE_DIGITS, maxn=2 * FINE_DIGITS) for expression in (one, other))
    return bool(sympy.Abs(a - b) <= (sympy.Abs(a) + sympy.Abs(b)) * sympy.Rational(1, 10 ** (FINE_DIGITS - 20)))


def same_formula(gold: str, given: str, slack: Fraction = Fraction(0)) -> bool:
    """Whether two formulas have the same value wherever both have one.

    slack: how far apart two constants may be (for a decimal that rounds a constant).
    """
    left, right = parsed(gold), parsed(given)
    if left is None or right is None:
        return False
    if left == right:
        return True
    names = _names(left) | _names(right)
    seen = 0
    for point in _points(names):
        a, b = _at(left, point), _at(right, point)
        if a is None or b is None:
            if (a is None) != (b is None) and names and _evaluable(left) and _evaluable(right):
                continue  # outside the domain of one
            continue
        seen += 1
        if not _agree(a, b):
            return bool(slack) and not names and abs(complex(a - b)) < slack
        if not names:
            return _exactly(left, right)
    if seen >= _LEAST_POINTS:
        return True
    return _verified(left, right)


def same_relation(gold: tuple[str, str], given: tuple[str, str], *, directed: bool) -> bool:
    """Whether two equations or inequalities are one up to a factor: 2x − y = 1 and y = 2x − 1.

    gold, given: left and right side. directed: an inequality, where the factor must be positive.
    """
    sides = [parsed(side) for side in (*gold, *given)]
    if any(side is None or not _evaluable(side) for side in sides):
        return False
    left, right = sides[0] - sides[1], sides[2] - sides[3]
    names = _names(left) | _names(right)
    factor = None
    seen = 0
    for point in _points(names):
        a, b = _at(left, point), _at(right, point)
        if a is None or b is None:
            continue
        if not names:
            return _agree(a, b)
        if abs(complex(a)) < 1e-12 or abs(complex(b)) < 1e-12:
            if abs(complex(a)) + abs(complex(b)) > 1e-6:
                return False
            continue
        seen += 1
        ratio = (a / b).evalf(DIGITS)
        if factor is not None and not _agree(factor, ratio):
            return False
        factor = ratio
    return factor is not None and seen >= _LEAST_POINTS and (not directed or bool(factor > 0))


def _verified(left: Any, right: Any) -> bool:
    import math_verify

    return math_verify.verify(left, right, timeout_seconds=None)


def left_as_arithmetic(tex: str) -> bool:
    """Whether a formula of plain numbers has a sum or a product left to work out; fractions and powers are fine."""
    from sympy import Add, Basic, Mul, Number, Pow, UnevaluatedExpr, preorder_traversal

    expression = parsed(tex)
    if not isinstance(expression, Basic) or expression.atoms() != expression.atoms(Number):
        return False
    for part in preorder_traversal(expression):
        if isinstance(part, Add):
            return True
        if isinstance(part, Mul):  # a/b is a·b⁻¹ and a% is a·UnevaluatedExpr(1/100)
            divisors = [f for f in part.args if isinstance(f, UnevaluatedExpr) or (isinstance(f, Pow) and f.exp == -1)]
            if len([f for f in part.args if f not in divisors and f not in (1, -1)]) > 1:
                return True
    return False
