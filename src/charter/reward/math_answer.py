"""Which answer a completion states, and whether it equals the reference. Runs in a worker process.

The last `\\boxed{…}` counts; without one, what follows the last "####", then what follows the last "answer is" or
"answer:", then the last value of the last line that has one. A list of values ("41, 42 or 43") is a set, and right
only when the reference is that set: naming several candidates is no answer. An answer left as arithmetic ("59+63") is
not one either when the reference is a plain number.

Source: equality of expressions by math-verify (github.com/huggingface/Math-Verify), whose own time limits (SIGALRM)
are off because the caller kills this process.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

LONGEST_REGION = 2000
"""Characters of the statement that are parsed; an answer is at its end or right after its anchor."""
LONGEST_DIGITS = 1000
"""Digits in a row beyond which nothing is taken for a number."""

_NUMBER = r"(?<![\w.])[-+]?[$€£]?\d+(?:,\d{3}(?!\d))*(?:\.\d+)?%?(?!\w)"
_DOUBT = r"(?:(?:or|and|maybe|perhaps|possibly|even)\s+)*"
_JOIN = rf"(?:\s*[,;]\s*{_DOUBT}|\s+(?:or|and)\s+{_DOUBT})"
_ONE = re.compile(_NUMBER)
_SEVERAL = re.compile(rf"{_NUMBER}(?:{_JOIN}{_NUMBER})+", re.IGNORECASE)
_OR_AND = re.compile(r"\b(?:or|and)\b", re.IGNORECASE)
_LEAD = re.compile(r"[\s*:]*(?:either\s+)?", re.IGNORECASE)
_FIRST = re.compile(rf"[\s*:]*({_NUMBER})(?=[\s*]*(?:$|[.,;!?)\n]|\s[A-Za-z(]))")
_ANCHOR = re.compile(r"\banswer\b(?:[^.:=\n]{0,80}?\b(?:is|was)\b|\s*[:=])\s*:?", re.IGNORECASE)
_BETWEEN_BOXES = re.compile(r"[\s$,;]*(?:\\[()\[\]])?[\s$,;]*(?:or|and)?[\s$,;]*(?:\\[()\[\]])?[\s$]*", re.IGNORECASE)
_SCIENTIFIC = re.compile(r"(?<![\w.])([-+]?\d{1,30}(?:\.\d{1,30})?)[eE]([-+]?\d{1,2})(?!\w)")
_DISPLAY = re.compile(r"\$\$([^$]{1,500}?)\$\$|\\\[([^$]{1,500}?)\\\]")
_DOLLARED = re.compile(rf"\$\s*({_NUMBER})\s*\$|\\\(\s*({_NUMBER})\s*\\\)")
_PLAIN = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?")
_GROUPED = re.compile(r"[-+]?[0-9]{1,3}(?:,[0-9]{3})+(?:\.[0-9]+)?")
_TOO_LONG = re.compile(rf"\d{{{LONGEST_DIGITS + 1}}}")


def boxes(text: str) -> list[tuple[int, int, str]]:
    """Every balanced `\\boxed{…}` that is not inside another: (start, end, content). One pass, linear in the text."""
    found: list[tuple[int, int, int]] = []
    opened: list[tuple[int, int]] = []  # for each open brace: start of its box (-1: another brace), start of content
    starts = {m.end() - 1: m.start() for m in re.finditer(r"\\f?boxed\s{0,3}\{", text)}
    for match in re.finditer(r"\\[{}]|[{}]", text):
        if match.group() == "{":
            opened.append((starts.get(match.start(), -1), match.end()))
        elif match.group() == "}" and opened:
            start, content = opened.pop()
            if start >= 0:
                while found and found[-1][0] > start:
                    found.pop()
                found.append((start, match.end(), content))
    return [(start, end, text[content : end - 1]) for start, end, content in found]


def tidy(text: str) -> str:
    """Minus signs and scientific notation as math-verify reads them."""
    text = text.replace("\u2212", "-")
    return _SCIENTIFIC.sub(lambda m: format(Decimal(m.group(1)).scaleb(int(m.group(2))), "f"), text)


def _as_set(several: str) -> str:
    values = [m.group().lstrip("$€£").replace(",", "") for m in _ONE.finditer(several)]
    return "$\\{" + ", ".join(v.replace("%", "\\%") for v in values) + "\\}$"


def _region(region: str, *, anchored: bool) -> str:
    """What a line states, as math-verify should read it.

    After an anchor the value it begins with counts, elsewhere the last one. Where that value is one of several
    ("122 or 123"), the statement is the set of them.
    """
    region = tidy(region)
    plain = _DOLLARED.sub(lambda m: m.group(1) or m.group(2), region)
    if anchored:
        lead = _LEAD.match(plain)
        several = _SEVERAL.match(plain, lead.end() if lead else 0)
        if several and (_OR_AND.search(several.group()) or not plain[several.end() :].strip(" \t.*!$")):
            return _as_set(several.group())
        first = _FIRST.match(region)
        if first:
            return first.group(1)
    numbers = list(_ONE.finditer(plain))
    for several in _SEVERAL.finditer(plain):
        if several.end() == numbers[-1].end() and (not anchored or _OR_AND.search(several.group())):
            return _as_set(several.group())
    return region


def statement(text: str) -> str:
    """The part of a completion that states its answer, in a form math-verify reads; "" when there is none."""
    found = boxes(text)
    if found:
        contents = [found[-1][2]]
        for earlier, later in zip(reversed(found[:-1]), reversed(found), strict=False):
            between = text[earlier[1] : later[0]]
            if (
                len(between) > 40
                or not re.search(r"\b(?:or|and)\b|,", between)
                or not _BETWEEN_BOXES.fullmatch(between)
            ):
                break
            contents.insert(0, earlier[2])
        joined = ", ".join(contents)
        return f"\\boxed{{{tidy(joined)}}}" if 0 < len(joined.strip()) <= LONGEST_REGION else ""
    if "####" in text:
        region = text.rpartition("####")[2].strip()
        return _region(region.split("\n", 1)[0], anchored=True)
    anchor = None
    for anchor in _ANCHOR.finditer(text):  # noqa: B007 - the last one counts
        pass
    if anchor is not None:
        region = _on_one_line(text[anchor.end() :][:LONGEST_REGION]).lstrip(" \t\n*").split("\n", 1)[0]
        if any(c.isdigit() or c in "$\\" for c in region):
            return _region(region, anchored=True)
    tail = _on_one_line(text[-LONGEST_REGION * 2 :])
    lines = [line for line in tail.splitlines() if any(c.isdigit() or c in "$\\" for c in line)]
    return _region(lines[-1][-LONGEST_REGION:], anchored=False) if lines else ""


def _on_one_line(text: str) -> str:
    """Display formulas ($$…$$, \\[…\\]) as inline ones on a line of their own."""
    return _DISPLAY.sub(lambda m: f"\n${' '.join((m.group(1) or m.group(2)).split())}$\n", text)


def reference(gold: object) -> str:
    """The reference's text: what follows GSM8K's "####" when there is one, without thousands separators."""
    text = str(gold).rpartition("####")[2].strip() if "####" in str(gold) else str(gold).strip()
    text = text.replace("\u2212", "-")
    return text.replace(",", "") if _GROUPED.fullmatch(text) else text


@lru_cache(maxsize=256)
def _parsed_reference(gold: str) -> list[Any]:
    from math_verify import parse
    from sympy import Basic, MatrixBase

    if _TOO_LONG.search(gold):
        raise ValueError(f"it has more than {LONGEST_DIGITS} digits in a row")
    as_text = gold if "$" in gold or "\\boxed" in gold or "\\(" in gold or "\\[" in gold else f"${tidy(gold)}$"
    parsed = parse(as_text, parsing_timeout=None)  # pyright: ignore[reportArgumentType] - None turns its SIGALRM off
    if not any(isinstance(item, (Basic, MatrixBase)) for item in parsed):
        raise ValueError("math-verify reads no expression in it")
    return parsed


def _left_as_arithmetic(expression: Any) -> bool:
    """Whether an expression of plain numbers has a sum or a product left to work out; fractions and powers are fine."""
    from sympy import Add, Basic, Mul, Number, Pow, UnevaluatedExpr, preorder_traversal

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


def verdict(gold_text: object, completion: str) -> dict[str, Any]:
    """1.0 when the completion's stated answer equals the reference, else 0.0; {"failed": …} for a bad reference."""
    from math_verify import parse, verify

    gold = reference(gold_text)
    if not gold:
        return {"failed": "the reference answer is empty"}
    try:
        wanted = _parsed_reference(gold)
    except Exception as error:  # noqa: BLE001 - whatever the parser trips on, the row is at fault
        return {"failed": f"the reference answer {gold[:120]!r} cannot be parsed: {error}"}
    try:
        stated = statement(completion)
        if not stated:
            return {"value": 0.0, "note": "no answer found"}
        if _TOO_LONG.search(stated):
            return {"value": 0.0, "note": f"more than {LONGEST_DIGITS} digits in a row"}
        given = parse(stated, parsing_timeout=None)  # pyright: ignore[reportArgumentType]
        if not given:
            return {"value": 0.0, "note": f"no answer found in {stated[:120]!r}"}
        if _PLAIN.fullmatch(gold) and _left_as_arithmetic(given[0]):
            return {"value": 0.0, "note": f"left as arithmetic: {stated.strip()[:120]!r}"}
        right = verify(wanted, given, timeout_seconds=None)
    except (Exception, RecursionError, MemoryError) as error:  # noqa: BLE001 - text that breaks the parser is wrong
        return {"value": 0.0, "note": f"the completion did not parse: {type(error).__name__}"}
    return {"value": 1.0, "note": ""} if right else {"value": 0.0, "note": f"stated {stated.strip()[:120]!r}"}


def open_judge(options: Mapping[str, Any]) -> tuple[Callable[[Mapping[str, Any]], dict[str, Any]], None]:
    """Set a worker up: import math-verify once."""
    del options
    import math_verify  # noqa: F401  # pyright: ignore[reportUnusedImport] - loaded before the clock runs

    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limits are off; ours are on

    def judge(work: Mapping[str, Any]) -> dict[str, Any]:
        found = verdict(work["answer"], work["text"])
        return {"failed": work.get("row", "") + found["failed"]} if "failed" in found else found

    return judge, None
