"""Whether two answers are the same: structure by structure, numbers exactly, formulas by `math_engine`.

`same(gold, given)` is not symmetric: a reference that is one value is never met by several.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from charter.reward import math_engine as engine
from charter.reward.math_number import Number, close, read_number, same_number
from charter.reward.math_reading import (
    INFINITY,
    MINUS_INFINITY,
    Answer,
    Choice,
    Claim,
    Formula,
    Matrix,
    Named,
    Series,
    Union,
    Words,
)
from charter.reward.math_spans import merged
from charter.reward.math_units import Unit, read_unit

NEARLY = Fraction(1, 100)
"""How far apart, relatively, the two sides of ≈ may be before they are two different answers."""

_ARTICLE = re.compile(r"^(?:the|an?|option|choice)\s+")
_SYNONYMS = {"dne": "does not exist", "n/a": "not applicable", "no real solutions": "no real solution"}
_TRAILING_TEXT = re.compile(r"^(.*[^\s\\])\s*\\text\s*\{([^{}]*)\}\s*(\^\s*\{?\s*[1-4]\s*\}?)?$", re.DOTALL)
_TRAILING_WORDS = re.compile(r"^(.*[\w})])\s+([A-Za-z]{2,}(?:[ /][A-Za-z]+)*(?:\^\{?[1-4]\}?)?)$", re.DOTALL)
_SIDES = re.compile(r"(?<![<>!:\\])=(?![=<>])|\\le(?![A-Za-z])|\\ge(?![A-Za-z])|<=|>=|<|>")
_NUMERAL = re.compile(r"([0-9A-Z]{1,100})(?:\s*_\s*\{?\s*(\d{1,2})\s*\}?)?", re.ASCII)
_DOTS = re.compile(r"\\[lc]?dots(?![A-Za-z])|\.\.\.|…")
_LESS = ("<", "\\le", "<=")


def same(gold: Answer, given: Answer) -> bool:
    """Whether an answer is the reference answer."""
    if gold == given and not (isinstance(given, Claim) and not isinstance(gold, Claim)):
        return True
    if isinstance(gold, Choice) or isinstance(given, Choice):
        return _same_choice(gold, given)
    if isinstance(gold, (Named, Claim)) or isinstance(given, (Named, Claim)):
        return _same_related(gold, given)
    if isinstance(gold, Words) or isinstance(given, Words):
        return _spelled(gold) == _spelled(given) != ""
    if isinstance(gold, Number) and isinstance(given, Number):
        return same_number(gold, given)
    if isinstance(gold, (Series, Union, Matrix)) or isinstance(given, (Series, Union, Matrix)):
        return _same_structure(gold, given)
    if isinstance(gold, (Number, Formula)) and isinstance(given, (Number, Formula)):
        return _same_value(gold, given)
    return False


def _same_choice(gold: Answer, given: Answer) -> bool:
    if isinstance(gold, Choice):
        if isinstance(given, Choice):
            if gold.letter != given.letter:
                return False
            return not (gold.content and given.content) or same(gold.content, given.content)
        spelled = _spelled(given)
        return spelled == gold.letter.lower() or (gold.content is not None and same(gold.content, given))
    assert isinstance(given, Choice)
    if isinstance(gold, Formula):
        return gold.tex == given.letter or (given.content is not None and same(gold, given.content))
    return given.content is not None and same(gold, given.content)


def _spelled(answer: Answer) -> str:
    """An answer as words; "" when it is none."""
    if isinstance(answer, Words):
        text = _ARTICLE.sub("", answer.text)
        return _SYNONYMS.get(text, text)
    if isinstance(answer, Formula) and re.fullmatch(r"[A-Za-z]{1,30}", answer.tex):
        return answer.tex.lower()
    return ""


def _same_related(gold: Answer, given: Answer) -> bool:
    """Answers with = or ≈ or a variable's name on one side or both."""
    if isinstance(gold, Named) and isinstance(given, Named):
        if _plain_name(gold.name) == _plain_name(given.name):
            return same(gold.value, given.value) or _same_equation(gold, given)
        return _same_equation(gold, given)
    if isinstance(gold, Claim):
        if isinstance(given, (Claim, Named)):
            return _same_equation(gold, given) or _chain_ends_in(gold, given)
        return _closed(gold) and any(same(part, given) for part in gold.parts)
    if isinstance(given, Claim):
        if isinstance(gold, Named) and _same_equation(gold, given):
            return True
        return _claims(gold.value if isinstance(gold, Named) else gold, given)
    if isinstance(gold, Named):
        return same(gold.value, given)
    assert isinstance(given, Named)
    return same(gold, given.value)


def _chain_ends_in(gold: Claim, given: Answer) -> bool:
    """A reference such as 1/3 ≈ 0.333, met by another such chain."""
    return isinstance(given, Claim) and _closed(gold) and any(_claims(part, given) for part in gold.parts)


def _closed(claim: Claim) -> bool:
    return all(
        isinstance(p, Number) or (isinstance(p, Formula) and engine.value(p.tex) is not None) for p in claim.parts
    )


def _claims(gold: Answer, given: Claim) -> bool:
    """Whether the value a chain states (its last; with ≈ its first too) is the reference; 41 = 42 states nothing."""
    if _contradicts(given):
        return False
    stated = (given.parts[-1], given.parts[0]) if given.nearly else given.parts[-1:]
    return any(same(gold, part) for part in stated)


def _contradicts(claim: Claim) -> bool:
    numbers = [part for part in claim.parts if isinstance(part, Number)]
    values = [(n.value / 100 if n.percent else n.value) for n in numbers]
    if claim.nearly:
        whole = all(v.denominator == 1 for v in values)
        formulas = [engine.value(part.tex) for part in claim.parts if isinstance(part, Formula)]
        values += [Fraction(str(f)) for f in formulas if f is not None and f.is_real]
        limit = Fraction(0) if whole and len(values) == len(numbers) else NEARLY
        return any(abs(a - b) > limit * max(abs(a), abs(b)) for a in values for b in values)
    return any(not same_number(a, b) for a, b in pairwise(numbers))


def _plain_name(name: str) -> str:
    return re.sub(r"[\\{}\s]|text|math(?:rm|bf)", "", name)


def _same_equation(gold: Answer, given: Answer) -> bool:
    """Two equations or inequalities that say the same: y = 2x + 1 and y − 2x = 1."""
    sides = []
    for answer in (gold, given):
        tex = answer.tex if isinstance(answer, (Named, Claim, Formula)) else ""
        found = _SIDES.findall(tex)
        if len(found) != 1:
            return False
        left, right = (part.strip() for part in _SIDES.split(tex))
        if not left or not right:
            return False
        kind = found[0]
        if kind != "=" and kind not in _LESS:  # a > b is b < a
            left, right = right, left
        strict = "=" if kind == "=" else "<" if kind in "<>" else "<="
        sides.append((strict, (left, right)))
    (kind, gold_sides), (other, given_sides) = sides
    return kind == other and engine.same_relation(gold_sides, given_sides, directed=kind != "=")


def _same_structure(gold: Answer, given: Answer) -> bool:
    if isinstance(gold, Matrix) or isinstance(given, Matrix):
        return _same_matrix(gold, given)
    if isinstance(gold, Union) or isinstance(given, Union):
        return _same_union(gold, given)
    if isinstance(gold, Series) and isinstance(given, Series):
        return _same_series(gold, given)
    if isinstance(gold, Series):
        return gold.kind != "tuple" and bool(gold.items) and all(same(item, given) for item in gold.items)
    if isinstance(given, Series):
        return given.kind != "tuple" and bool(given.items) and all(same(gold, item) for item in given.items)
    return False


def _same_series(gold: Series, given: Series) -> bool:
    if gold.kind == "tuple" and given.kind == "tuple":
        brackets = (gold.opening, gold.closing) == (given.opening, given.closing)
        if (gold.interval or given.interval) and not brackets:
            return _same_spans(gold, given)
        return _in_order(gold.items, given.items) or (gold.interval and _same_spans(gold, given))
    if gold.kind == "tuple" or given.kind == "tuple":
        one, other = (gold, given) if gold.kind == "tuple" else (given, gold)
        if other.kind == "set" or (one.opening, one.closing) != ("(", ")"):
            return False
        return _in_order(*(tuple(_by_name(series)) for series in (gold, given)))
    if _conditions(gold) and _conditions(given):
        return _same_spans(gold, given) or _any_order(gold.items, given.items)
    return _any_order(gold.items, given.items)


def _by_name(series: Series) -> Sequence[Answer]:
    """x = 1, y = 2 as (1, 2): values in the order of their variables' names."""
    named = [item for item in series.items if isinstance(item, Named)]
    if len(named) < len(series.items) or len({item.name for item in named}) < len(named):
        return series.items
    return [item.value for item in sorted(named, key=lambda item: item.name)]


def _in_order(gold: Sequence[Answer], given: Sequence[Answer]) -> bool:
    return len(gold) == len(given) and all(same(a, b) for a, b in zip(gold, given, strict=True))


def _any_order(gold: Sequence[Answer], given: Sequence[Answer]) -> bool:
    """The same values, each at least once on either side."""
    return all(any(same(a, b) for b in given) for a in gold) and all(any(same(a, b) for a in gold) for b in given)


def _conditions(series: Series) -> bool:
    return all(isinstance(item, Named) and isinstance(item.value, (Series, Union)) for item in series.items)


def _same_spans(gold: Answer, given: Answer) -> bool:
    left, right = merged(gold), merged(given)
    return left is not None and left == right


def _same_union(gold: Answer, given: Answer) -> bool:
    if _same_spans(gold, given):
        return True
    parts = [_parts(answer) for answer in (gold, given)]
    return all(parts) and _any_order(parts[0], parts[1])


def _parts(answer: Answer) -> Sequence[Answer]:
    if isinstance(answer, Union):
        return answer.parts
    if isinstance(answer, Series) and answer.kind == "list":
        return [item.value if isinstance(item, Named) else item for item in answer.items]
    return [answer]


def _same_matrix(gold: Answer, given: Answer) -> bool:
    if isinstance(gold, Matrix) and isinstance(given, Matrix):
        return len(gold.rows) == len(given.rows) and all(map(_in_order, gold.rows, given.rows))
    matrix, other = (gold, given) if isinstance(gold, Matrix) else (given, gold)
    assert isinstance(matrix, Matrix)
    if len(matrix.rows) == 1 or all(len(row) == 1 for row in matrix.rows):
        cells = [cell for row in matrix.rows for cell in row]
        if isinstance(other, Series) and other.kind == "tuple":
            return _in_order(other.items, cells) if other is gold else _in_order(cells, other.items)
        return len(cells) == 1 and (same(other, cells[0]) if other is gold else same(cells[0], other))
    return False


def _same_value(gold: Number | Formula, given: Number | Formula) -> bool:
    """Numbers and formulas, one of them a formula."""
    if gold in (INFINITY, MINUS_INFINITY) or given in (INFINITY, MINUS_INFINITY):
        return gold == given
    if isinstance(gold, Number) and isinstance(given, Formula):
        glued = read_number(given.tex, glued=True)
        if glued is not None:
            return same_number(gold, glued)
        tex, unit = without_unit(given.tex)
        if _DOTS.search(tex) or engine.left_as_arithmetic(tex):
            return False
        return _fits(gold.unit, unit) and _number_is(gold, tex)
    if isinstance(given, Number) and isinstance(gold, Formula):
        tex, unit = without_unit(gold.tex)
        return _fits(unit, given.unit) and _number_is(given, tex)
    assert isinstance(gold, Formula)
    assert isinstance(given, Formula)
    if _DOTS.search(given.tex) and not _DOTS.search(gold.tex):
        return False
    if _squeezed(gold.tex) == _squeezed(given.tex) or _same_numeral(gold.tex, given.tex):
        return True
    if _SIDES.search(gold.tex) or _SIDES.search(given.tex):
        return _same_equation(gold, given)
    (left, unit), (right, other) = without_unit(gold.tex), without_unit(given.tex)
    return _fits(unit, other) and engine.same_formula(left, right)


def _same_numeral(gold: str, given: str) -> bool:
    """Numerals with letters for digits, 1A_{16}: the base may be left out, as in `same_number`."""
    wanted, stated = _NUMERAL.fullmatch(gold), _NUMERAL.fullmatch(given)
    if wanted is None or stated is None or wanted.group(2) is None:
        return False
    return wanted.group(1) == stated.group(1) and stated.group(2) in (None, wanted.group(2))


def _squeezed(tex: str) -> str:
    """A formula without the spaces that mean nothing."""
    return re.sub(r"(?<![A-Za-z0-9])\s+|\s+(?![A-Za-z0-9])", "", tex)


def _fits(gold: Unit | str | None, given: Unit | str | None) -> bool:
    """Whether two units of a formula may stand together: one left out, or the same."""
    return not (isinstance(gold, Unit) and isinstance(given, Unit)) or gold == given


def _number_is(number: Number, tex: str) -> bool:
    if number.base is not None:
        return False
    share = number.value / 100 if number.percent else number.value
    written = f"\\frac{{{share.numerator}}}{{{share.denominator}}}" if share.denominator > 1 else str(share.numerator)
    if engine.same_formula(written, tex, number.tolerance):
        return True
    if number.percent and abs(number.value) > 1:
        found = engine.value(tex)
        return found is not None and found.is_Rational and close(Fraction(str(found)), number.value, Fraction(0))
    return False


def without_unit(tex: str) -> tuple[str, Unit | str | None]:
    """A formula and the unit behind it: 5\\sqrt{2}\\text{ cm} → 5\\sqrt{2} and centimetres."""
    match = _TRAILING_TEXT.match(tex)
    if match:
        power = match.group(3) or ""
        unit = read_unit((match.group(2) + power).strip(), spaced=True)
        if unit is not None:
            return match.group(1).strip(), unit
    match = _TRAILING_WORDS.match(tex)
    if match:
        unit = read_unit(match.group(2), spaced=True)
        if isinstance(unit, Unit) or (unit and unit.endswith("units")):
            return match.group(1).strip(), unit
    return re.sub(r"\s*\^\\circ\s*$", "", tex), None
