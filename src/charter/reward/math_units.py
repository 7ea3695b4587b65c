"""Units of measurement: which text is one, and when two are the same quantity.

A unit may be left out ("5 cm" and "5" are the same answer). Where both sides state a unit that is known here, the
quantities must be equal: 5 cm is 50 mm and is not 5 m. Words that are no known unit ("apples") are ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

_LENGTH = {
    "mm millimeter millimetre": Fraction(1, 1000),
    "cm centimeter centimetre": Fraction(1, 100),
    "dm decimeter decimetre": Fraction(1, 10),
    "m meter metre": Fraction(1),
    "km kilometer kilometre": Fraction(1000),
    "in inch inches": Fraction(254, 10000),
    "ft foot feet": Fraction(3048, 10000),
    "yd yard": Fraction(9144, 10000),
    "mi mile": Fraction(1609344, 1000),
}
_MASS = {
    "mg milligram": Fraction(1, 1000),
    "g gram": Fraction(1),
    "kg kilogram": Fraction(1000),
    "lb lbs": Fraction(45359237, 100000),
    "oz ounce": Fraction(45359237, 1600000),
}
_TIME = {
    "ms millisecond": Fraction(1, 1000),
    "s sec second": Fraction(1),
    "min minute": Fraction(60),
    "h hr hour": Fraction(3600),
    "day": Fraction(86400),
    "week": Fraction(604800),
}
_VOLUME = {"ml milliliter millilitre": Fraction(1, 1_000_000), "l liter litre": Fraction(1, 1000)}
_MONEY = {"cent": Fraction(1, 100), "dollar usd": Fraction(1)}
_LABELS = {"euro": "euro", "eur": "euro", "radian": "radian", "rad": "radian", "year": "year", "month": "month"}
_SIGNS = {"$": "dollar", "€": "euro", "£": "sterling", "¢": "cent"}
_NO_UNIT = frozenset((
    "sqrt", "sin", "cos", "tan", "cot", "sec", "csc", "log", "exp", "lim", "max", "min", "mod", "pmod", "frac", "text",
    "alpha", "beta", "gamma", "delta", "theta", "lambda", "sigma", "omega", "phi", "infinity", "infty",
    "and", "or", "plus", "minus", "times", "over", "divided", "not", "than", "even", "either", "about", "but",
    "maybe", "perhaps", "possibly", "hundred", "thousand", "million", "billion", "trillion", "dozen", "half",
))  # fmt: skip
MULTIPLIERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}


@dataclass(frozen=True, slots=True)
class Unit:
    """A known unit. dimension: base quantities and their powers, sorted. factor: its size in base units."""

    dimension: tuple[tuple[str, int], ...]
    factor: Fraction


def _table() -> dict[str, Unit]:
    found: dict[str, Unit] = {}
    kinds = (("length", 1, _LENGTH), ("mass", 1, _MASS), ("time", 1, _TIME), ("length", 3, _VOLUME), ("usd", 1, _MONEY))
    for quantity, power, names in kinds:
        for aliases, factor in names.items():
            for name in aliases.split():
                found[name] = Unit(((quantity, power),), factor)
                if len(name) > 2:
                    found[name + "s"] = found[name]
    for name, label in _LABELS.items():
        found[name] = found[name + "s"] = Unit(((label, 1),), Fraction(1))
    found["mph"] = _combine(found["mile"], found["h"], -1)
    found["kph"] = found["kmh"] = _combine(found["km"], found["h"], -1)
    found["sterling"] = Unit((("sterling", 1),), Fraction(1))
    found["degree"] = found["degrees"] = found["deg"] = Unit((("degree", 1),), Fraction(1))
    found["celsius"] = Unit((("celsius", 1),), Fraction(1))
    found["fahrenheit"] = Unit((("fahrenheit", 1),), Fraction(1))
    return found


def _combine(left: Unit, right: Unit, sign: int) -> Unit:
    powers = dict(left.dimension)
    for quantity, power in right.dimension:
        powers[quantity] = powers.get(quantity, 0) + sign * power
    return Unit(tuple(sorted((q, p) for q, p in powers.items() if p)), left.factor * right.factor**sign)


KNOWN = _table()
DEGREE = KNOWN["degree"]
_ONE = Unit((), Fraction(1))
_PART = re.compile(
    r"(?:(square|sq|cubic|cu)\.?\s+)?([A-Za-z]+)\.?\s*(?:\^\s*\{?\s*([1-4])\s*\}?)?(?:\s+(squared|cubed))?"
)
_PER = re.compile(r"\s*/\s*|\s+per\s+", re.ASCII)


def currency(sign: str) -> Unit:
    """The unit of a currency sign."""
    return KNOWN[_SIGNS[sign]]


def read_unit(text: str, *, spaced: bool) -> Unit | str | None:
    """The unit a text is.

    spaced: whether it stands apart from its number (a space, \\text{…}). "5m" may be five times a variable, "5 m" not.
    Returns: a Unit; the text itself when it is words that are no known unit; None when it is neither.
    """
    text = " ".join(text.split())
    unit = _known(text)
    if unit is not None:
        bare = re.sub(r"[^A-Za-z]", "", text)
        return unit if spaced or len(bare) > 1 else None
    words = re.findall(r"[A-Za-z]+", text)
    plain = re.fullmatch(r"[A-Za-z]+(?:[ -][A-Za-z]+){0,4}\.?", text) is not None
    if spaced and plain and len(words[0]) >= 3 and not any(w.lower() in _NO_UNIT for w in words):
        return text if all(len(w) > 1 or w == "a" for w in words) else None
    return None


def _known(text: str) -> Unit | None:
    total = _ONE
    for i, part in enumerate(_PER.split(text)):
        match = _PART.fullmatch(part.strip())
        if match is None:
            return None
        kind, name, power, word = match.groups()
        one = KNOWN.get(name) or KNOWN.get(name.lower())
        if one is None:
            return None
        times = int(
            power or {"square": 2, "sq": 2, "cubic": 3, "cu": 3}.get(kind, {"squared": 2, "cubed": 3}.get(word, 1))
        )
        for _ in range(times):
            total = _combine(total, one, -1 if i else 1)
    return total
