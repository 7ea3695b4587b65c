"""Answers in one spelling: Unicode signs as LaTeX, layout commands gone, delimiters and wrappers peeled off."""

from __future__ import annotations

import re

_SIGNS = {
    "\u2212": "-", "\u2013": "-", "\u2010": "-", "\u2011": "-", "\ufe63": "-", "\uff0d": "-",
    "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": "/", "∕": "/", "⁄": "/",
    "∞": r"\infty ", "π": r"\pi ", "θ": r"\theta ", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ",
    "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}",
    "°": r"^\circ ", "º": r"^\circ ", "⟨": "(", "⟩": ")", "√": r"\sqrt ",
    "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}",
    "⅕": r"\frac{1}{5}", "⅛": r"\frac{1}{8}", "⅜": r"\frac{3}{8}", "⅝": r"\frac{5}{8}", "⅞": r"\frac{7}{8}",
    "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u2002": " ", "\u2003": " ", "\u2061": "",
    "\u200b": "", "\u2060": "", "\ufeff": "", "\x00": " ", "，": ",", "。": ".", "：": ":", "（": "(", "）": ")",
    "“": '"', "”": '"', "\u2018": "'", "\u2019": "'",
}  # fmt: skip
_TABLE = str.maketrans(_SIGNS)
_SUPERSCRIPTS = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁺ⁿ", "0123456789-+n", strict=True))
_SUPER = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_SURROGATE = re.compile("[\ud800-\udfff]")
_ROOT = re.compile(r"\\sqrt +(\d+|\([^()]*\)|[A-Za-z])")

_LAYOUT = re.compile(
    r"\\(?:text)?color\s*\{[^{}]*\}|\\(?:displaystyle|large|Large|LARGE|huge|small|checkmark|q?square|blacksquare|qed|textstyle|limits|nolimits|bigg?[lrm]?|Bigg?[lrm]?|left|right|middle)(?![A-Za-z])\.?|\\!"
)
_SPACES = re.compile(r"(?<!\\)\\[;:> ]|\\q?quad(?![A-Za-z])|~|\\hspace\*?\{[^{}]*\}|\\enspace(?![A-Za-z])")
_THIN_GROUP = re.compile(r"(?<=\d)(?:\\,|\{,\}\s?)(?=\d{3}(?!\d))", re.ASCII)
_BRACED_COMMA = re.compile(r"(?<=\d)\{,\}(?=\d)", re.ASCII)
_RENAMED = (
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\lbrace(?![A-Za-z])"), r"\\{"),
    (re.compile(r"\\rbrace(?![A-Za-z])"), r"\\}"),
    (re.compile(r"\\langle(?![A-Za-z])\s*"), "("),
    (re.compile(r"\s*\\rangle(?![A-Za-z])"), ")"),
    (re.compile(r"\\lbrack(?![A-Za-z])\s*"), "["),
    (re.compile(r"\s*\\rbrack(?![A-Za-z])"), "]"),
    (re.compile(r"\\leq?(?:slant)?(?![A-Za-z])"), r"\\le "),
    (re.compile(r"\\geq?(?:slant)?(?![A-Za-z])"), r"\\ge "),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\(?:neq|not\s*=)(?![A-Za-z])"), r"\\ne "),
    (re.compile(r"\\(?:varnothing|O)(?![A-Za-z])"), r"\\emptyset "),
    (re.compile(r"\\(?:approxeq|simeq|thickapprox)(?![A-Za-z])"), r"\\approx "),
    (re.compile(r"\\(?:degree|textdegree)(?![A-Za-z])(?:\{\})?|\^\s*\{?\s*\\circ\s*\}?"), r"^\\circ "),
    (re.compile(r"\\(?:text(?:normal|bf|it|rm|sf|tt|up)?|mbox|hbox|math(?:rm|bf|it|sf|tt))\s*\{"), r"\\text{"),
    (re.compile(r"\\(?:operatorname\*?|boldsymbol|bm|ensuremath)\s*\{"), r"\\text{"),
    (re.compile(r"\\euro(?![A-Za-z])(?:\{\})?"), "€"),
    (re.compile(r"\\pounds(?![A-Za-z])(?:\{\})?"), "£"),
    (re.compile(r"\\text\s*\{(\s*(?:and|or)\s*)\}"), r" \1 "),
    (re.compile(r"\\text\s*\{\s*([$€£]|\\\$)\s*\}"), r"\1"),
    (re.compile(r"\\text\s*\{\s*\}"), ""),
    (re.compile(r"\\text\s*\{\s*(\\infty|[ie])\s*\}"), r"\1"),
)  # fmt: skip
_END = re.compile(r"[\s.,;]+$|\\\\?\s*$")
_WRAPPER = re.compile(r"\\(?:boxed|fbox|text|mathbf|underline)\s*\{")
_PREAMBLE = re.compile(r"^(?:\$?\\text\s*\{[^{}]*(?:\bis|\bare|:|=)\s*\}\s*(?=\S)|=\s+|\\approx\s+)")
_FENCES = (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("`", "`"), ("*", "*"), ("__", "__"))
_OPEN, _CLOSE = "({[", ")}]"


def sound(text: str) -> str:
    """A text that every parser can hold: lone surrogates replaced, null bytes gone."""
    return _SURROGATE.sub("\ufffd", text).replace("\x00", " ")


def ascii_signs(text: str) -> str:
    """Unicode signs as their LaTeX, one for one; what is no mathematical sign stays."""
    if text.isascii() and "\x00" not in text:
        return text
    text = _SUPER.sub(lambda m: "^{" + "".join(_SUPERSCRIPTS[c] for c in m.group()) + "}", text)
    text = text.translate(_TABLE)
    return _ROOT.sub(lambda m: r"\sqrt{" + m.group(1).strip("()") + "}", text)


def matching(text: str, start: int) -> int:
    """The index of the bracket that closes the one at `start`, or -1; "[" may be closed by ")" and so on."""
    depth = 0
    position = start
    while position < len(text):
        mark = text[position]
        if mark == "\\" and position + 1 < len(text) and text[position + 1] not in "{}":
            position += 2
            continue
        if mark in _OPEN:
            depth += 1
        elif mark in _CLOSE:
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return -1


def tidy(text: str) -> str:
    """One answer in the spelling the readers of this package expect; "" when nothing is left."""
    text = ascii_signs(sound(text))
    text = _THIN_GROUP.sub("", text)
    text = _BRACED_COMMA.sub(".", text)
    if "\\" in text or "~" in text:
        text = _LAYOUT.sub("", text).replace("\\,", " ")
        text = _SPACES.sub(" ", text)
        for pattern, replacement in _RENAMED:
            text = pattern.sub(replacement, text)
    return peel(_PREAMBLE.sub("", " ".join(text.split())))


def peel(text: str) -> str:
    """Without the fences ($…$, **…**), wrappers (\\text{…}) and end punctuation around the whole of it."""
    for _ in range(8):
        before = text
        text = _END.sub("", text.strip()).strip()
        for opening, closing in _FENCES:
            inner = text[len(opening) : len(text) - len(closing)]
            if len(text) > len(opening) + len(closing) and text.startswith(opening) and text.endswith(closing):
                if opening not in inner and closing not in inner and not inner.endswith("\\"):
                    text = inner.strip()
                break
        wrapper = _WRAPPER.match(text)
        if wrapper and matching(text, wrapper.end() - 1) == len(text) - 1:
            text = text[wrapper.end() : -1].strip()
        elif text.startswith("{") and matching(text, 0) == len(text) - 1:
            text = text[1:-1].strip()
        if text == before:
            break
    return text


def split_top(text: str, separators: re.Pattern[str]) -> list[str]:
    """The parts of a text between the separators that stand outside every bracket and environment."""
    parts: list[str] = []
    depth = environments = 0
    begin = position = 0
    while position < len(text):
        if text.startswith(r"\begin", position):
            environments += 1
        elif text.startswith(r"\end", position):
            environments = max(0, environments - 1)
        if depth == 0 and environments == 0:
            found = separators.match(text, position)
            if found and found.end() > position:
                parts.append(text[begin:position])
                begin = position = found.end()
                continue
        mark = text[position]
        if mark == "\\" and position + 1 < len(text):
            if text[position + 1] in "{}":
                depth = max(0, depth + (1 if text[position + 1] == "{" else -1))
            position += 2
            continue
        if mark in _OPEN:
            depth += 1
        elif mark in _CLOSE:
            depth = max(0, depth - 1)
        position += 1
    return [*parts, text[begin:]]
