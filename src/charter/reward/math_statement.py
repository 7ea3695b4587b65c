"""Which part of a completion states its answer.

In this order: the last `\\boxed{…}` or `<answer>…</answer>`, whichever comes later; what follows the last "####"; what
follows the last "answer is" or "answer:"; the last value of the last line that has one. Text before the last
`</think>` does not count when anything follows it.

Boxes (or tags) that one statement offers as alternatives ("\\boxed{41} or \\boxed{42}") are returned together, as a
list. A later box after other words is a correction and counts alone.
"""

from __future__ import annotations

import re

from charter.reward.math_bounds import LONGEST
from charter.reward.math_prose import (
    clause,
    first_value,
    is_expression,
    last_value,
    lead_off,
    picked_option,
    stated_option,
    stated_words,
)
from charter.reward.math_reading import Words, read
from charter.reward.math_tidy import ascii_signs, sound

LONGEST_GAP = 80
"""Characters between two boxes of one statement."""

_BOX = re.compile(r"\\f?boxed\s{0,3}\{")
_BOX_OF_ONE = re.compile(r"\\f?boxed\s{0,3}(\d+(?:\.\d+)?|[A-Za-z])(?![\w{])", re.ASCII)
_BRACE = re.compile(r"\\[{}]|[{}]")
_ANCHOR = re.compile(r"\banswer\b(?:[^.:=\n]{0,80}?\b(?:is|was)\b|[ \t*_]*[:=])[ \t]*:?", re.IGNORECASE)
_BETWEEN = re.compile(r"[\s$,;*()/.\[\]\\]*(?:\b(?:or|and)\b[\s$,;*()\[\]\\]*)?", re.IGNORECASE)
_ALTERNATIVE = re.compile(r"\b(?:or|alternatively|maybe|perhaps|possibly|could be|might be|not sure)\b", re.IGNORECASE)
_AFTERTHOUGHT = re.compile(
    r"[\s$.,;*)\]\\]{0,6}\(?\s*(?:or|alternatively|maybe|perhaps|possibly)\b(?!\s+(?:equivalently|simply|in other))"
    r"[^.\n]{0,40}?"
    r"(?:[=\s$(]|\\\()\s*(-?\d[\d.,/]*(?:\s*\\?%|\s?[a-z]{1,3}\b)?|\\[a-z]+\{[^{}\n]{1,40}\}(?:\{[^{}\n]{1,40}\})?)",
    re.IGNORECASE,
)
_BEFORE = re.compile(r"(?:^|[\s$(])(-?\d[\d.,/]*)[\s$)\\]*,?\s*\bor\b\s*(?:maybe|perhaps|possibly)?[\s$(\\\[]*$")
_NEXT_LINE = re.compile(r"\s*(?:or|alternatively|maybe|perhaps|possibly)\b", re.IGNORECASE)
_SAME_AGAIN = re.compile(
    r"\b(?:equivalently|in other words|approximately|about|simplified|i\.e\.|roughly)\b", re.IGNORECASE
)
_DISPLAY = re.compile(r"\$\$([^$]{1,1500}?)\$\$|\\\[((?:[^\\$]|\\(?!\])){1,1500}?)\\\]")
_VALUE_SIGNS = "$\\∞π√"


def boxes(text: str) -> list[tuple[int, int, str]]:
    """Every balanced `\\boxed{…}` that is not inside another: (start, end, content). One pass, linear in the text."""
    found: list[tuple[int, int, int]] = []
    opened: list[tuple[int, int]] = []  # for each open brace: start of its box (-1: another brace), start of content
    starts = {m.end() - 1: m.start() for m in _BOX.finditer(text)}
    for match in _BRACE.finditer(text) if starts else ():
        if match.group() == "{":
            opened.append((starts.get(match.start(), -1), match.end()))
        elif match.group() == "}" and opened:
            start, content = opened.pop()
            if start >= 0:
                while found and found[-1][0] > start:
                    found.pop()
                found.append((start, match.end(), content))
    whole = [(start, end, text[content : end - 1]) for start, end, content in found]
    single = [(m.start(), m.end(), m.group(1)) for m in _BOX_OF_ONE.finditer(text)]
    return sorted(whole + single) if single else whole


def tags(text: str) -> list[tuple[int, int, str]]:
    """Every `<answer>…</answer>`: (start, end, content)."""
    found = []
    end = 0
    while (close := text.find("</answer>", end)) >= 0:
        start = text.rfind("<answer>", end, close)
        if start >= 0:
            found.append((start, close + len("</answer>"), text[start + len("<answer>") : close]))
        end = close + len("</answer>")
    return found


def after_thinking(text: str) -> str:
    """What follows the last `</think>`, or all of it when nothing does."""
    rest = text.rpartition("</think>")[2]
    return rest if rest.strip() else text


def statement(text: str, *, in_words: bool = False, choice: bool = False) -> str:
    """The text of the answer a completion states, without box or tag; "" when it states none.

    in_words: whether the reference has no digits, so that words may be an answer.
    choice: whether the reference is the letter of an option.
    """
    text = after_thinking(sound(text))
    formal = _outermost(boxes(text), tags(text))
    if formal:
        return _formal(text, formal, in_words=in_words, choice=choice)
    if "####" in text:
        region = text.rpartition("####")[2].strip().split("\n", 1)[0]
        return _read_region(region, in_words=in_words, choice=choice) or region[: LONGEST + 1]
    anchor = None
    for anchor in _ANCHOR.finditer(text):  # noqa: B007 - the last one counts
        pass
    if anchor is not None:
        region, _, following = _on_one_line(text[anchor.end() :][:LONGEST]).lstrip(" \t\n*:").partition("\n")
        if _NEXT_LINE.match(following):
            region += " " + following.lstrip().partition("\n")[0]
        found = _read_region(region, in_words=in_words, choice=choice)
        if found:
            return found
    return _last_line(text, in_words=in_words, choice=choice)


def _outermost(boxed: list[tuple[int, int, str]], tagged: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Boxes and tags in order; a box inside a tag stands for the tag."""
    kept = [t for t in tagged if not any(t[0] < b[0] and b[1] < t[1] for b in boxed)] if boxed else tagged
    return sorted(boxed + kept)


def _formal(text: str, found: list[tuple[int, int, str]], *, in_words: bool, choice: bool) -> str:
    contents = [found[-1][2].strip()]
    for earlier, later in zip(reversed(found[:-1]), reversed(found), strict=False):
        between = text[earlier[1] : later[0]].replace("<answer>", "").replace("</answer>", "")
        if not _one_statement(between):
            break
        if not _SAME_AGAIN.search(between):
            contents.insert(0, earlier[2].strip())
    start, end = found[-len(contents)][0], found[-1][1]
    after = _AFTERTHOUGHT.match(text, end)
    if after and not _SAME_AGAIN.search(after.group()):
        contents.append(after.group(1).rstrip(".,"))
    before = _BEFORE.search(text[max(0, start - 60) : start])
    if before:
        contents.insert(0, before.group(1).rstrip(".,"))
    contents = list(dict.fromkeys(contents))
    if len(contents) == 1 and text.startswith("<answer>", start):
        return _tagged(contents[0], in_words=in_words, choice=choice)
    return ", ".join(contents)


def _one_statement(between: str) -> bool:
    """Whether two boxes are alternatives or parts of one answer, by the text between them."""
    if len(between) > LONGEST_GAP or "\n\n" in between:
        return False
    return _BETWEEN.fullmatch(between) is not None or _ALTERNATIVE.search(between) is not None


def _tagged(content: str, *, in_words: bool, choice: bool) -> str:
    """The content of an answer tag: an expression, or a sentence that states one."""
    content = _on_one_line(content).strip()
    if is_expression(content) or len(content) > LONGEST:
        return content
    anchor = None
    for anchor in _ANCHOR.finditer(content):  # noqa: B007 - the last one counts
        pass
    region = content[anchor.end() :] if anchor else content
    found = _read_region(region.strip(), in_words=in_words, choice=choice)
    return found or _last_line(content, in_words=in_words, choice=choice) or content


def _read_region(region: str, *, in_words: bool, choice: bool) -> str:
    """What a statement's text says: a letter, words, its first value, or else its last."""
    region = ascii_signs(region)
    if choice:
        letter = stated_option(region)
        if letter:
            return letter
    whole = clause(lead_off(region))
    if in_words and whole:
        if is_expression(whole):
            return whole
        said = stated_words(region)
        if isinstance(read(said), Words) or not _has_value(region):
            return said
    if _has_value(region):
        return first_value(region) or last_value(region)
    return whole if len(whole) <= 40 and is_expression(whole) else ""


def _has_value(line: str) -> bool:
    return any(c.isdigit() or c in _VALUE_SIGNS for c in line)


def _last_line(text: str, *, in_words: bool, choice: bool) -> str:
    tail = _on_one_line(text[-LONGEST * 2 :])
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    if not lines:
        return ""
    if in_words:
        whole = lead_off(lines[-1]).strip(" *")
        letter = (picked_option(lines[-1]) or stated_option(whole[:120])) if choice else ""
        in_formulas = not is_expression(whole) and not isinstance(read(whole[:80]), Words) and _has_value(whole)
        if letter or (len(whole) <= 80 and not in_formulas):
            return letter or whole
        return last_value(ascii_signs(lines[-1]))
    valued = [line for line in lines if _has_value(line)]
    return last_value(ascii_signs(valued[-1])) if valued else ""


def _on_one_line(text: str) -> str:
    """Display formulas ($$…$$, \\[…\\]) as inline ones on a line of their own."""
    return _DISPLAY.sub(lambda m: f"\n${' '.join((m.group(1) or m.group(2)).split())}$\n", text)
