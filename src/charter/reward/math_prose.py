"""Values in running text: which of them a sentence states, and whether it states several.

Several values ("41, 42 or 43") are returned as one text with all of them: a list, which equals no single reference.
"""

from __future__ import annotations

import re
from functools import lru_cache

from charter.reward.math_number import Number
from charter.reward.math_reading import Choice, Words, read
from charter.reward.math_units import MULTIPLIERS, Unit, read_unit

LONGEST_LINE = 1000
"""Characters of a sentence that are looked at."""

_SIGNED = r"[-+]?(?:\\?[$€£])?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+]?\d{1,3})?"
_PLAIN = rf"(?:{_SIGNED}(?:\s+\d+)?\s*/\s*\d+(?![\d.]\d)|{_SIGNED}|\.\d+)(?:\s*\\?%|\s?°)?"
_ARITHMETIC = rf"{_PLAIN}(?:\s?(?:[-+*/×·^=]|\\times|\\cdot)\s?{_PLAIN}){{0,40}}"
_VALUE = re.compile(
    r"(?P<span>\$(?=\S)[^$\n]{1,500}?(?<![\s\\])\$(?!\d)|\$\s[^$\n]{1,500}?\s\$|\\\((?:[^\\\n]|\\(?!\))){1,500}?\\\))"
    rf"|(?<![\w.\\,])(?P<plain>{_ARITHMETIC})(?![\w]|\.\d|,\d)"
    r"|(?P<command>[-+]?\d*\\(?:[dt]?frac|sqrt|infty|pi)(?![A-Za-z])(?:\{(?:[^{}\n]|\{[^{}\n]{0,80}\}){0,120}\}|\[\d+\]){0,2})",
    re.ASCII,
)
_MAY_BE = r"(?:but\s+)?(?:(?:it|this|that)\s+)?(?:could|may|might)\s+(?:also\s+|even\s+)?be"
_DOUBT = rf"(?:(?:or|and|either|maybe|perhaps|possibly|even|also|alternatively|else|it\s+is|it's|to|{_MAY_BE})\b,?\s*)"
_JOIN = re.compile(
    rf"[\s*)]*(?:[,;/]\s*{_DOUBT}*|{_DOUBT}+|[.?!,;]\s*\(?(?:{_DOUBT}|Or\b\s*)+)\s*[(*\s]*(?:x\s*=\s*)?", re.IGNORECASE
)
_SECOND_THOUGHT = re.compile(
    rf"[\s.*!?,;]*\(?\s*(?:or|alternatively|maybe|perhaps|possibly|{_MAY_BE})\b", re.IGNORECASE
)
_ONE_MORE = re.compile(r"\s*[;?]\s*[^A-Za-z]*")
_FIRM = re.compile(r"[a-z/]", re.IGNORECASE)
_LEAD = re.compile(
    r"(?:[\s*:_>#=]|\b(?:is|be|either|approximately|about|roughly|exactly|equals?|equal to|simply|just|therefore|thus|"
    r"so|hence|clearly|indeed|actually|obviously|then|given by|the|number|value|option|choice|that|it is|it's)\b)*",
    re.IGNORECASE,
)  # fmt: skip
_SENTENCE = re.compile(r"(?:[.!?](?=\s|$|\*|\")|\n|;\s)")
_PROSE = re.compile(r"[A-Za-z]{2,}")
_TEX = re.compile(r"\\text\s*\{[^{}]*\}|\\begin\s*\{[a-z]{1,12}\}|\\end\s*\{[a-z]{1,12}\}|\\[A-Za-z]+")
_FUNCTIONS = frozenset((
    "and", "or", "sin", "cos", "tan", "cot", "sec", "csc", "log", "ln", "exp", "sqrt", "pi", "arcsin", "arccos",
    "arctan", "infinity", "inf", "mod", "max", "min", "lim", "gcd", "lcm", "oo",
))  # fmt: skip
_UNIT_WORD = re.compile(r"\s*\\?([A-Za-z]{1,12}(?:/[A-Za-z]{1,6})?(?:\^\{?\d\}?|[²³])?)(?![\w])")
_NEVER_UNITS = frozenset(("in", "a", "m", "s", "g", "h", "l", "t"))


def lead_off(text: str) -> str:
    """Without the words that may stand before a value ("is approximately", "**", ":")."""
    match = _LEAD.match(text)
    return text[match.end() :] if match else text


def clause(text: str) -> str:
    """The first sentence, without its end."""
    match = _SENTENCE.search(text)
    return (text[: match.start()] if match else text).strip(" \t*,:")


@lru_cache(maxsize=512)
def is_expression(text: str) -> bool:
    """Whether a text is mathematics throughout: no words but those of functions, \\text{…} and units."""
    if not text or len(text) > LONGEST_LINE or "$" in text.strip().strip("$"):
        return False
    if any(c.isalpha() and not c.isascii() for c in text):
        return False
    if any(word.lower() not in _FUNCTIONS for word in _PROSE.findall(_TEX.sub(" ", text))):
        return isinstance(read(text), (Number, Choice))
    return any(c.isalnum() for c in text)


def first_value(text: str) -> str:
    """What a statement begins with: a whole expression, a value, or several of them; "" when it begins with words.

    text: what stands behind "the answer is", on one line.
    """
    text = lead_off(text[:LONGEST_LINE])
    whole = clause(text)
    if is_expression(whole):
        return _with_afterthought(whole, text)
    found = list(_VALUE.finditer(text))
    if not found or found[0].start() > 0:
        return ""
    run = [found[0]]
    firm = False
    for match in found[1:]:
        between = text[run[-1].end() : match.start()]
        if not _JOIN.fullmatch(between):
            break
        firm = firm or bool(_FIRM.search(between))
        run.append(match)
    ended = not text[run[-1].end() :].strip(" \t.*!$?)")
    if len(run) > 1 and (firm or ended):
        return _joined(run)
    return _with_unit(text, found[0])


def last_value(text: str) -> str:
    """The last value of a line, with those it is an alternative to; "" when there is none."""
    text = text[-LONGEST_LINE:]
    whole = lead_off(text).strip(" \t*").rstrip(".!")
    if is_expression(whole):
        return whole
    found = list(_VALUE.finditer(text))
    if not found:
        return ""
    run = [found[-1]]
    for match in reversed(found[:-1]):
        between = text[match.end() : run[0].start()]
        side_by_side = match.group("span") and run[0].group("span") and not between.strip()
        if not side_by_side and not _JOIN.fullmatch(between):
            break
        run.insert(0, match)
    return _joined(run) if len(run) > 1 else _with_unit(text, run[0])


def _with_afterthought(whole: str, text: str) -> str:
    """A statement and the alternative that follows in the next sentence: "41. Or 42?"."""
    rest = text[text.find(whole) + len(whole) :]
    match = _VALUE.search(rest)
    if match and _ONE_MORE.fullmatch(rest):
        return f"{whole}, {_bare(match)}"
    second = match and _SECOND_THOUGHT.match(rest) and _JOIN.fullmatch(rest[: match.start()])
    return f"{whole}, {_bare(match)}" if match and second else whole


def _bare(match: re.Match[str]) -> str:
    text = match.group().strip()
    for opening, closing in (("$", "$"), (r"\(", r"\)")):
        if match.group("span") and text.startswith(opening) and text.endswith(closing):
            return text[len(opening) : -len(closing)].strip()
    return text


def _joined(run: list[re.Match[str]]) -> str:
    return ", ".join(_bare(match) for match in run)


def _with_unit(text: str, match: re.Match[str]) -> str:
    """A value and the unit behind it, where a known one stands there."""
    unit = _UNIT_WORD.match(text, match.end())
    word = unit.group(1) if unit and match.group("plain") else ""
    known = word.lower() in ("percent", *MULTIPLIERS) or isinstance(read_unit(word, spaced=True), Unit)
    return f"{_bare(match)} {word}" if known and word.lower() not in _NEVER_UNITS else _bare(match)


_OPTION = re.compile(
    r"[\s*(\[$]*(?:\\text\s*\{\s*)?\(?\**([A-Z])(?![A-Za-z0-9'])\**\s*\}?\)?\s*([.:)\]*$]|$)?", re.ASCII
)
_PICKED = re.compile(
    r"\b(?i:option|choice|choose|select|pick|answer)\b(?:\s+(?:is|option|choice))?[\s:*]*(?=\(?\**[A-Z](?![A-Za-z]))"
)
_OTHER_OPTION = re.compile(
    r"[\s*).,\]$}]*(?:\b(?:or|and)\b|/|,)\s*(?:maybe\s+|possibly\s+)?\**\(?\s*([A-Z])(?![A-Za-z0-9'])"
)


def stated_option(text: str) -> str:
    """The letter of a multiple-choice statement ("(B) because …"); "" when it names none or several."""
    text = lead_off(text[:LONGEST_LINE])
    match = _OPTION.match(text)
    if match is None:
        return ""
    rest = text[match.end(1) :]
    if match.group(1) in "AI" and re.match(r"\s+[a-z]", rest):  # "A triangle", "I think"
        return ""
    other = _OTHER_OPTION.match(rest)
    return "" if other and other.group(1) != match.group(1) else match.group(1)


def picked_option(line: str) -> str:
    """The letter of the last "option B" or "I choose B" of a line; "" without one."""
    line = line[-LONGEST_LINE:]
    picked = list(_PICKED.finditer(line))
    return stated_option(line[picked[-1].end() :]) if picked else ""


def stated_words(text: str) -> str:
    """The first clause of a statement in words; the comma ends it only when no alternative follows."""
    whole = clause(lead_off(text[:LONGEST_LINE]))
    if isinstance(read(whole), Words):
        return whole
    head, comma, tail = whole.partition(",")
    if comma and not re.match(r"\s*(?:or|and|maybe|perhaps|possibly)\b", tail):
        return head.strip()
    for word in (" because", " since", " as ", " for "):
        if word in whole and " or " not in whole:
            return whole.split(word)[0].strip()
    return whole
