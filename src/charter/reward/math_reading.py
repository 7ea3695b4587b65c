"""What an answer is: a number, words, a choice, a list, a set, a tuple or interval, a union, a matrix, a relation.

`read` takes the outer structure apart; what remains (a polynomial, a root) is a Formula for math-verify's parser.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

from charter.reward.math_number import Number, read_number
from charter.reward.math_tidy import matching, peel, split_top, tidy


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, letters and digits in lower case."""

    text: str


@dataclass(frozen=True, slots=True)
class Choice:
    """An option of a multiple-choice question: "(B)", and what was written after it, if anything."""

    letter: str
    content: Answer | None = None


@dataclass(frozen=True, slots=True)
class Formula:
    """LaTeX that only math-verify's parser understands."""

    tex: str


@dataclass(frozen=True, slots=True)
class Series:
    """Several answers. kind: "list" (no brackets, any order), "set" (braces), "tuple" (in order)."""

    kind: str
    items: tuple[Answer, ...]
    opening: str = ""
    closing: str = ""

    @property
    def interval(self) -> bool:
        """Whether it may be an interval: two values between round or square brackets."""
        return self.kind == "tuple" and len(self.items) == 2


@dataclass(frozen=True, slots=True)
class Union:
    """Intervals and sets joined by ∪. name: the variable it was a condition on, "" without one."""

    parts: tuple[Answer, ...]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of cells."""

    rows: tuple[tuple[Answer, ...], ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A value with the variable it is given for: x = 3, f(x) = 2x, x > 3 (as an interval)."""

    name: str
    value: Answer
    tex: str = field(compare=False, default="")


@dataclass(frozen=True, slots=True)
class Claim:
    """Several expressions said to be equal (=) or nearly so (≈): 59 + 63 = 122. The last one is the value stated."""

    parts: tuple[Answer, ...]
    nearly: bool
    tex: str = field(compare=False, default="")


Answer = Number | Words | Choice | Formula | Series | Union | Matrix | Named | Claim


def children(answer: Answer) -> tuple[Answer, ...]:
    """The answers an answer is made of."""
    if isinstance(answer, Series):
        return answer.items
    if isinstance(answer, (Union, Claim)):
        return answer.parts
    if isinstance(answer, Matrix):
        return tuple(cell for row in answer.rows for cell in row)
    if isinstance(answer, Named):
        return (answer.value,)
    return (answer.content,) if isinstance(answer, Choice) and answer.content is not None else ()


MOST_PARTS = 200
"""Parts of one answer; an answer with more is a Formula, and wrong unless it is the reference's text."""
_DEEPEST = 8

_SEPARATOR = re.compile(
    r"\s*[,;]\s*(?:\\text\s*\{\s*)?(?:(?:and|or)\b\s*\}?\s*)?|\s*\\text\s*\{\s*(?:,\s*)?(?:and|or)\s*\}\s*"
    r"|\s+(?:and|or)\s+|\s*\\(?:lor|vee|land|wedge)(?![A-Za-z])\s*",
    re.IGNORECASE,
)
_CUP = re.compile(r"\s*(?:\\cup(?![A-Za-z])|\\bigcup(?![A-Za-z])|(?<=[\])}]) ?[Uu](?= ?[(\[\\{]))\s*")
_EQUALS = re.compile(
    r"\s*(?:(?<![<>!:\\])=(?![=<>])|:=|==|\\equiv(?![A-Za-z])(?!.*\\p?mod)|\\implies(?![A-Za-z])|\\Rightarrow(?![A-Za-z]))\s*"
)
_NEARLY = re.compile(r"\s*(?:\\approx(?![A-Za-z])|\\sim(?![A-Za-z])|~=)\s*")
_COMPARES = re.compile(r"\s*(\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\ne(?![A-Za-z])|<=|>=|!=|<|>)\s*")
_MATRIX = re.compile(
    r"\\begin\s*\{(?P<kind>[bpBV]?(?:small)?matrix|array)\}\s*(?:\{[lcr|\s]{0,40}\})?(?P<body>.*?)\\end\s*\{(?P=kind)\}",
    re.DOTALL,
)
_ROW, _CELL = re.compile(r"\s*\\\\(?:\[[^\]]{0,10}\])?\s*"), re.compile(r"\s*&\s*")
_NAME = re.compile(
    r"(?:\\?[A-Za-z]{1,10}|\\text\{[A-Za-z ]{1,20}\})(?:_(?:\w|\{\w{1,10}\}))?'{0,2}(?:\(\s*\\?[A-Za-z]{1,7}\s*\))?"
)
_CHOICE = re.compile(r"\(?\s*(?:\\text\s*\{\s*\(?\s*)?([A-Z])\s*\)?\s*\}?\s*\)?")
_CHOICE_AND = re.compile(r"(?:(?:\\text\s*\{\s*)?\(([A-Z])\)(?:\s*\})?|([A-Z])\)|([A-Z])[.:](?=\s))\s*(.+)", re.DOTALL)
_IN = re.compile(r"(\\?[A-Za-z]{1,10})\s*\\in(?![A-Za-z])\s*(.+)", re.DOTALL)
_MEMBER = re.compile(r"\s*(?:\\mid(?![A-Za-z])|\\vert(?![A-Za-z])|(?<!\\)\||:)\s*")
_PLUS_MINUS = re.compile(r"\\(?:pm|mp)(?![A-Za-z])|\+/-|\+-")
_LETTERS = re.compile(r"[a-z][a-z' -]*[a-z]\.?|[a-z]{2}", re.IGNORECASE)
_TEXT_GROUP = re.compile(r"\\text\s*\{([^{}]*)\}")
_NOTHING = frozenset(("\\emptyset", "\\{\\}", "empty set", "the empty set", "no solution", "no solutions"))
_ALL_REALS = frozenset((
    "\\mathbb{R}", "\\mathbf{R}", "\\Re", "all real numbers", "all reals", "the real numbers", "all real",
))  # fmt: skip
_SHORT_WORDS = frozenset(("yes", "no", "true", "false", "odd", "even", "dne", "none", "up", "down", "am", "pm"))
INFINITY = Formula("\\infty")
MINUS_INFINITY = Formula("-\\infty")
_REALS = Series("tuple", (MINUS_INFINITY, INFINITY), "(", ")")
_FLIPPED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le", "\\ne": "\\ne"}
_ONE_SIGN = {"<=": "\\le", ">=": "\\ge", "!=": "\\ne"}


@lru_cache(maxsize=2048)
def read(text: str) -> Answer | None:
    """The answer a text is; None for a text that says nothing.

    text: the answer alone, in any spelling, within `math_bounds`.
    """
    tidied = tidy(text)
    return _read(tidied, 0) if tidied else None


def _read(text: str, depth: int) -> Answer:
    number = read_number(text)
    if number is not None:
        return number
    if text in _NOTHING or words_of(text) in _NOTHING:
        return Series("set", (), "{", "}")
    if text in _ALL_REALS or words_of(text) in _ALL_REALS:
        return _REALS
    endless = _infinity(text)
    if endless or depth > _DEEPEST:
        return endless or Formula(text)
    for reader in (_simple, _french, _several, _bracketed, _related):
        found = reader(text, depth)
        if found is not None:
            return found
    return Formula(text)


def _inner(text: str, depth: int) -> Answer:
    text = peel(text)
    return _read(text, depth + 1) if text else Formula(text)


def _simple(text: str, depth: int) -> Answer | None:
    """A choice, or words."""
    choice = _CHOICE.fullmatch(text)
    if choice:
        return Choice(choice.group(1))
    choice = _CHOICE_AND.fullmatch(text)
    if choice and not text.endswith(")"):
        letter = choice.group(1) or choice.group(2) or choice.group(3)
        return Choice(letter, _inner(choice.group(4), depth))
    said = words_of(text)
    in_words = said and (len(said) > 3 or said in _SHORT_WORDS or " " in said or "\\text" in text)
    return Words(said) if in_words and not re.search(r"\b(?:and|or)\b", said) else None


def words_of(text: str) -> str:
    """The words a text is, in lower case; "" when it holds digits, operators or LaTeX other than \\text."""
    plain = " ".join(_TEXT_GROUP.sub(r" \1 ", text).split()).strip(" .\"'`")
    return plain.lower().replace("-", " ") if _LETTERS.fullmatch(plain) else ""


def _several(text: str, depth: int) -> Answer | None:
    """A list, a union, or the two values of ±."""
    parts = split_top(text, _SEPARATOR)
    if 1 < len(parts) <= MOST_PARTS and all(part.strip() for part in parts):
        return Series("list", _flat(tuple(_inner(part, depth) for part in _shared_name(parts))))
    parts = split_top(text, _CUP)
    if len(parts) > 1 and len(parts) <= MOST_PARTS and all(part.strip() for part in parts):
        head = _IN.fullmatch(parts[0])
        name = head.group(1) if head else ""
        parts = [head.group(2), *parts[1:]] if head else parts
        return Union(tuple(_inner(part, depth) for part in parts), name)
    marks = _PLUS_MINUS.findall(text)
    if marks and len(marks) <= 4:
        both = [_PLUS_MINUS.sub(lambda m, s=sign: s if m.group()[1:2] != "m" else _other(s), text) for sign in "+-"]
        return Series("list", _flat(tuple(_inner(re.sub(r"(^|[=(,{]\s*)\+", r"\1", one), depth) for one in both)))
    return None


def _other(sign: str) -> str:
    return "-" if sign == "+" else "+"


def _flat(items: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """A list within a list ("±1, 2") is one list."""
    flat: list[Answer] = []
    for item in items:
        flat += item.items if isinstance(item, Series) and item.kind == "list" else (item,)
    return tuple(flat)


def _shared_name(parts: list[str]) -> list[str]:
    """ "x = 1, 2" names x for every value; "x = 1, y = 2" is left alone."""
    head = split_top(parts[0], _EQUALS)
    if len(head) != 2 or not _NAME.fullmatch(head[0].strip()):
        return parts
    if any(_EQUALS.search(part) or _COMPARES.search(part) for part in parts[1:]):
        return parts
    return [parts[0], *(f"{head[0]} = {part}" for part in parts[1:])]


def _bracketed(text: str, depth: int) -> Answer | None:
    """A matrix, or anything that is in brackets as a whole."""
    matrix = _MATRIX.fullmatch(text)
    if matrix:
        rows = [split_top(row, _CELL) for row in split_top(matrix.group("body").strip(), _ROW) if row.strip()]
        if rows and sum(map(len, rows)) <= MOST_PARTS:
            return Matrix(tuple(tuple(_inner(cell, depth) for cell in row) for row in rows))
    inside = re.fullmatch(r"[\[(]\s*(\\begin.*\\end\s*\{[a-z]*\})\s*[\])]", text, re.DOTALL)
    if inside and _MATRIX.fullmatch(inside.group(1)):
        return _bracketed(inside.group(1), depth)
    if text.startswith("\\{") and matching(text, 1) == len(text) - 1 and text.endswith("\\}"):
        content = text[2:-2].strip()
        condition = split_top(content, _MEMBER)
        if len(condition) == 2:
            return _inner(condition[1], depth)
        return Series("set", _items(content, depth), "{", "}") if content else None
    if text[0] in "([" and matching(text, 0) == len(text) - 1 and text[-1] in ")]":
        parts = split_top(text[1:-1], re.compile(r"\s*[,;]\s*"))
        if len(parts) == 1:
            return _inner(text[1:-1], depth) if text[1:-1].strip() else None
        if len(parts) <= MOST_PARTS and all(part.strip() for part in parts):
            return Series("tuple", tuple(_inner(part, depth) for part in parts), text[0], text[-1])
    return None


def _french(text: str, depth: int) -> Answer | None:
    """]a, b[ for the interval without its ends."""
    french = re.fullmatch(r"([\]\[])([^\[\](){}]{1,200})([\]\[])", text)
    if french and (french.group(1) == "]" or french.group(3) == "["):
        parts = re.split(r"\s*[,;]\s*", french.group(2))
        if len(parts) == 2:
            opening = "(" if french.group(1) == "]" else "["
            closing = ")" if french.group(3) == "[" else "]"
            return Series("tuple", tuple(_inner(part, depth) for part in parts), opening, closing)
    return None


def _items(content: str, depth: int) -> tuple[Answer, ...]:
    parts = split_top(content, re.compile(r"\s*[,;]\s*"))
    if len(parts) > MOST_PARTS:
        return (Formula(content),)
    return _flat(tuple(_inner(part, depth) for part in parts))


def _related(text: str, depth: int) -> Answer | None:
    """x = 3, x > 3, 1 < x ≤ 2, x ∈ [1, 2], 59 + 63 = 122, √2 ≈ 1.414."""
    parts = split_top(text, _COMPARES)
    if len(parts) > 1:
        return _condition(text, parts, depth)
    member = _IN.fullmatch(text)
    if member:
        return Named(member.group(1), _inner(member.group(2), depth), text)
    parts = split_top(text, _NEARLY)
    nearly = len(parts) > 1
    sides = [side.strip() for part in parts for side in split_top(part, _EQUALS)]
    if not 1 < len(sides) <= 20 or not all(sides):
        return None
    if len(sides) == 2 and _NAME.fullmatch(sides[1]) and not _NAME.fullmatch(sides[0]) and not nearly:
        sides = sides[::-1]  # 3 = x
    name = sides[0] if _NAME.fullmatch(sides[0]) and sides[0] not in ("\\pi", "e", "i") else ""
    values = tuple(_inner(side, depth) for side in (sides[1:] if name else sides))
    value = values[0] if len(values) == 1 else Claim(values, nearly, text)
    return Named(name, value, text) if name else value


def _condition(text: str, parts: list[str], depth: int) -> Answer | None:
    """An inequality in one variable as the interval it is; others stay formulas."""
    signs = [_ONE_SIGN.get(m, m) for m in _signs_between(text, parts)]
    parts = [part.strip() for part in parts]
    if len(parts) == 3 and _NAME.fullmatch(parts[1]):
        kinds = [sign in ("<", "\\le") for sign in signs]
        if "\\ne" not in signs and kinds[0] == kinds[1]:
            low, high = (parts[0], parts[2]) if kinds[0] else (parts[2], parts[0])
            first, last = signs if kinds[0] else signs[::-1]
            opening, closing = "[" if "e" in first else "(", "]" if "e" in last else ")"
            return Named(parts[1], Series("tuple", (_inner(low, depth), _inner(high, depth)), opening, closing), text)
    if len(parts) == 2 and (_NAME.fullmatch(parts[0]) or _NAME.fullmatch(parts[1])):
        name, sign, value = parts[0], signs[0], parts[1]
        if not _NAME.fullmatch(name) or name in ("\\infty", "\\pi"):
            name, sign, value = parts[1], _FLIPPED[sign], parts[0]
        end = _inner(value, depth)
        if sign == "\\ne":
            below = Series("tuple", (MINUS_INFINITY, end), "(", ")")
            return Named(name, Union((below, Series("tuple", (end, INFINITY), "(", ")"))), text)
        if sign in (">", "\\ge"):
            return Named(name, Series("tuple", (end, INFINITY), "(" if sign == ">" else "[", ")"), text)
        return Named(name, Series("tuple", (MINUS_INFINITY, end), "(", ")" if sign == "<" else "]"), text)
    return Formula(text)


def _signs_between(text: str, parts: list[str]) -> list[str]:
    signs, position = [], 0
    for part in parts[:-1]:
        match = _COMPARES.match(text, position + len(part))
        assert match is not None
        signs.append(match.group(1))
        position = match.end()
    return signs


def _infinity(text: str) -> Answer | None:
    """Infinity in one spelling."""
    bare = re.sub(r"\s+", "", text).lower()
    if bare in ("\\infty", "+\\infty", "infinity", "inf", "oo", "+infinity"):
        return INFINITY
    if bare in ("-\\infty", "-infinity", "-inf", "-oo"):
        return MINUS_INFINITY
    return None
