"""Plain numbers, read exactly: integers, decimals, fractions, mixed numbers, percent, scientific notation, units.

Not here: anything with a root, a letter or an operator left to work out (`math_engine.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from fractions import Fraction

from charter.reward.math_units import DEGREE, MULTIPLIERS, Unit, currency, read_unit

PLACES = 6
"""Decimal places, and significant digits, from which on a decimal may stand for a value it rounds."""
FINEST = 15
"""Significant digits beyond which a decimal is taken for a binary number's rounding noise."""


@dataclass(frozen=True, slots=True)
class Number:
    """A number with how it was written.

    value: exact. tolerance: how far the true value may be off, 0 when the text is exact or too short to be a rounding.
    percent: the value before division by 100 carries a % sign. unit: a known unit, words, or None.
    base: the subscript of a numeral ("1011_2"), None without one.
    """

    value: Fraction
    tolerance: Fraction = Fraction(0)
    percent: bool = False
    unit: Unit | str | None = None
    base: int | None = None


_D = r"(?:\d{1,1000})"
_DECIMAL = rf"(?:{_D}(?:\.\d{{0,1000}})?|\.{_D})"
_GROUPED = r"(?:\d{1,3}(?:,\d{3}){1,40}(?!\d)(?:\.\d{1,1000})?|\d{1,3}(?:[ _]\d{3}){1,40}(?![\d/])(?:\.\d{1,1000})?)"
_ARG = rf"(?:\{{\s*([-+]?\s*{_DECIMAL})\s*\}}|(\d))"
_FORMS = re.compile(
    rf"(?P<mixed>(\d{{1,40}})\s*\\frac\s*(?:\{{\s*(\d{{1,40}})\s*\}}|(\d))\s*(?:\{{\s*(\d{{1,40}})\s*\}}|(\d))(?!\d))"
    rf"|(?P<plain_mixed>(\d{{1,40}})\s+(\d{{1,40}})\s*/\s*(\d{{1,40}})(?![\d.]))"
    rf"|(?P<frac>\\frac\s*{_ARG}\s*{_ARG})"
    rf"|(?P<slash>({_GROUPED}|{_DECIMAL})\s*/\s*([-+]?{_DECIMAL})(?![\d.]))"
    rf"|(?P<power>(?:({_DECIMAL})\s*(?:\\times|\\cdot|\*|x(?=\s*10))\s*)?"
    rf"10\s*(?:\^|\*\*)\s*(?:\{{\s*([-+]?\d{{1,4}})\s*\}}|([-+]?\d{{1,4}})))"
    rf"|(?P<exponent>({_DECIMAL})[eE]([-+]?\d{{1,4}}))(?![\w.])"
    rf"|(?P<repeating>(\d{{0,40}})\.(\d{{0,40}})\\(?:overline|bar)\s*\{{?(\d{{1,40}})\}}?)"
    rf"|(?P<grouped>{_GROUPED})"
    rf"|(?P<decimal>{_DECIMAL})",
    re.ASCII,
)
_SIGN = re.compile(r"\s*([-+]?)\s*(\\\$|[$€£¢])?\s*([-+]?)\s*")
_PERCENT = re.compile(r"\s*(?:\\?%|\\text\s*\{\s*(?:\\?%|per\s?cent(?:age points?)?)\s*\}|per\s?cent\b|pct\b)\s*", re.I)
_CIRCLE = re.compile(r"\s*\^\\circ\s*(?:\\text\{\s*([CF])\s*\}|([CF]))?\s*")
_BASE = re.compile(r"\s*_\s*(?:\{\s*(?:\\text\s*\{)?\s*(\d{1,2}|[a-z]{3,8})\s*\}?\s*\}|(\d{1,2}))\s*")
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}
_MONEY = re.compile(r"\s*(\\\$|[$€£¢])\s*")
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")
_MULTIPLIER = re.compile(r"\s*(?:\\text\s*\{\s*)?(hundred|thousand|million|billion|trillion)\b\s*\}?")
_PARENTHESES = re.compile(r"[-+]?\(([^()]*)\)")


def read_number(text: str, *, glued: bool = False) -> Number | None:
    """The number a tidied text is, or None when it is not one number and nothing else.

    text: as `tidy` returns it. glued: whether one letter right behind the digits ("5m") is a unit and no variable.
    """
    sign = _SIGN.match(text)
    assert sign is not None
    form = _FORMS.match(text, sign.end())
    if form is None:
        inner = _PARENTHESES.fullmatch(text)
        found = read_number(inner.group(1)) if inner and inner.group(1) else None
        return replace(found, value=-found.value) if found and text[0] == "-" else found
    signs = sign.group(1) + sign.group(3)
    if len(signs) > 1:
        return None
    read = _read_form(form)
    if read is None:
        return None
    value, tolerance = read
    number = Number(
        value=-value if signs == "-" else value,
        tolerance=tolerance,
        unit=currency(sign.group(2).lstrip("\\")) if sign.group(2) else None,
    )
    return _read_rest(number, text[form.end() :], glued)


def _read_form(form: re.Match[str]) -> tuple[Fraction, Fraction] | None:
    kind = next(name for name, text in form.groupdict().items() if text is not None)
    first = form.re.groupindex[kind]
    parts = [part for part in form.groups()[first:] if part is not None]
    zero = Fraction(0)
    try:
        if kind in ("mixed", "plain_mixed"):
            whole, over, under = (int(part) for part in parts[:3])
            return whole + Fraction(over, under), zero
        if kind in ("frac", "slash"):
            over, under = (Fraction(part.replace(" ", "").replace(",", "")) for part in parts[:2])
            return over / under, zero
        if kind == "power":
            mantissa, exponent = (parts[0], parts[1]) if len(parts) > 1 else ("1", parts[0])
            scale = Fraction(10) ** int(exponent)
            return Fraction(mantissa) * scale, _tolerance(mantissa, int(exponent))
        if kind == "exponent":
            return Fraction(parts[0]) * Fraction(10) ** int(parts[1]), _tolerance(parts[0], int(parts[1]))
        if kind == "repeating":
            whole, fixed, again = form.groups()[first : first + 3]
            shift = 10 ** len(fixed)
            value = Fraction(int((whole or "0") + fixed), shift)
            return value + Fraction(int(again), shift * (10 ** len(again) - 1)), zero
        plain = form.group(kind).replace(",", "").replace(" ", "").replace("_", "")
        return Fraction(plain), _tolerance(plain, 0)
    except (ZeroDivisionError, ValueError):
        return None


def _tolerance(decimal: str, exponent: int) -> Fraction:
    """One unit of the last place a decimal states, of its 15th significant digit at the finest; 0 for short ones."""
    whole, _, places = decimal.partition(".")
    if not places:
        return Fraction(0)
    significant = len((whole + places).lstrip("0"))
    if significant < PLACES or len(places) - exponent < PLACES:
        return Fraction(0)
    return Fraction(10) ** (exponent - len(places) + max(0, significant - FINEST))


def _read_rest(number: Number, rest: str, glued: bool) -> Number | None:
    """The number with the percent sign, base, degrees or unit behind it; None when something else stands there."""
    times = _MULTIPLIER.match(rest)
    if times:
        factor = MULTIPLIERS[times.group(1)]
        number = replace(number, value=number.value * factor, tolerance=number.tolerance * factor)
        rest = rest[times.end() :]
    if not rest.strip():
        return number
    percent = _PERCENT.match(rest)
    if percent:
        return replace(number, percent=True) if percent.end() == len(rest) else None
    base = _BASE.fullmatch(rest)
    if base:
        named = base.group(1) or base.group(2)
        size = int(named) if named.isdigit() else _BASES.get(named, 0)
        digits = str(abs(number.value.numerator))
        sound = 2 <= size <= 36 and number.value.denominator == 1 and all(int(d) < size for d in digits)
        return replace(number, base=size) if sound else None
    circle = _CIRCLE.fullmatch(rest)
    if circle:
        scale = circle.group(1) or circle.group(2)
        word = {"C": "celsius", "F": "fahrenheit"}.get(scale or "")
        return replace(number, unit=read_unit(word, spaced=True) if word else DEGREE)
    money = _MONEY.fullmatch(rest)
    if money:
        return replace(number, unit=currency(money.group(1).lstrip("\\"))) if number.unit is None else None
    spaced = (glued or rest[0] in " \\-") and not rest.startswith(("\\frac", "\\sqrt", "- ", "\\pi"))
    plain = _TEXT.sub(lambda m: f" {m.group(1)} ", rest)
    unit = read_unit(plain.lstrip(" -"), spaced=spaced) if "\\" not in plain else None
    if unit is None:
        return None
    return number if isinstance(unit, str) and number.unit is not None else replace(number, unit=unit)


def same_number(gold: Number, given: Number) -> bool:
    """Whether two numbers are the same answer.

    Values must be equal exactly, or within the last place of a decimal of at least six places and six digits. A unit,
    a % sign on a number above 1, or a base may be left out on one side; where both state one they must agree.
    """
    if gold.base is not None or given.base is not None:
        same_base = gold.base is None or given.base is None or gold.base == given.base
        return same_base and gold.value == given.value and gold.percent == given.percent
    left, right = gold.value, given.value
    slack = max(gold.tolerance, given.tolerance)
    if isinstance(gold.unit, Unit) and isinstance(given.unit, Unit):
        if gold.unit.dimension != given.unit.dimension:
            return False
        left, right = left * gold.unit.factor, right * given.unit.factor
        slack *= max(gold.unit.factor, given.unit.factor)
    if gold.percent != given.percent:
        bare = given if gold.percent else gold
        if abs(bare.value) > 1 and close(gold.value, given.value, slack):
            return True
        left, right = _share(gold), _share(given)
        slack = max(_share(replace(n, value=n.tolerance)) for n in (gold, given))
    return close(left, right, slack)


def _share(number: Number) -> Fraction:
    return number.value / 100 if number.percent else number.value


def close(left: Fraction, right: Fraction, slack: Fraction) -> bool:
    """Equal, or less than `slack` apart."""
    return left == right or abs(left - right) < slack
