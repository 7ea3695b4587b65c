"""Text in a page: whatever a model wrote is shown, and never obeyed."""

from __future__ import annotations

import difflib
import html
import math
import re
import unicodedata

_SHOWN = {"\n": "\n", "\t": "    "}


def _visible(character: str) -> str:
    if character in _SHOWN:
        return _SHOWN[character]
    kind = unicodedata.category(character)
    # Controls, format characters (direction overrides, zero widths) and halves of a pair could change how the rest of
    # the page reads; unassigned and private code points have no agreed glyph.
    if kind in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"):
        return f"\\u{{{ord(character):x}}}"
    return character


def visible(text: str) -> str:
    """The text with every character that is not seen, or changes how others are seen, written as \\u{…}."""
    return "".join(map(_visible, text.replace("\r\n", "\n")))


def escape(text: object) -> str:
    """Anything as text of an HTML element or a quoted attribute."""
    return html.escape(visible(str(text)), quote=True)


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, the last one … where some are left out."""
    return text if len(text) <= limit else text[: max(limit - 1, 0)].rstrip() + "…"


def number(value: object, digits: int = 3) -> str:
    """A figure as a page shows it: `digits` significant ones, a true minus sign, – for what is not known."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    if isinstance(value, int) or (abs(value) >= 1000 and float(value).is_integer()):
        shown = f"{int(value):,}".replace(",", "\u202f")
    elif abs(value) >= 10 ** (digits - 1):
        shown = f"{value:,.0f}".replace(",", "\u202f")
    else:
        places = digits if value == 0 else min(digits + 2, max(0, digits - 1 - math.floor(math.log10(abs(value)))))
        shown = f"{value:.{min(places, digits)}f}"
    return "0" if re.fullmatch(r"-?0\.?0*", shown) and value == 0 else shown.replace("-", "\u2212")


def share(value: object) -> str:
    """A share as a percentage."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}\u202f%" if 0 < abs(value) < 0.1 else f"{100 * value:.0f}\u202f%"


def seconds(value: object) -> str:
    """A duration: 8.1 s, 2 min 5 s, 1 h 12 min."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "–"
    if value < 59.95:
        return f"{value:.1f}\u202fs"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60}\u202fmin {whole % 60}\u202fs"
    return f"{whole // 3600}\u202fh {whole % 3600 // 60}\u202fmin"


_WORDS = re.compile(r"\s+|\w+|[^\w\s]")
SAME_TEXT = 0.4
"""Similarity below which two texts are shown one after the other: single words in common would only confuse."""
MOST_WORDS = 400
"""Words and spaces of a text that are compared: on text that repeats itself the time grows with their cube."""


def word_diff(before: str, after: str) -> str:
    """`after` as HTML with what is new in <ins> and what is gone in <del>, word by word."""
    old, new = _WORDS.findall(visible(before)), _WORDS.findall(visible(after))
    rest_old, rest_new = old[MOST_WORDS:], new[MOST_WORDS:]
    parts: list[str] = []
    matcher = difflib.SequenceMatcher(None, old[:MOST_WORDS], new[:MOST_WORDS], autojunk=False)
    if old and new and matcher.ratio() < SAME_TEXT:
        return f"<del>{html.escape(''.join(old))}</del>\n<ins>{html.escape(''.join(new))}</ins>"
    for what, a, b, c, d in matcher.get_opcodes():
        if what == "equal":
            parts.append(html.escape("".join(old[a:b])))
            continue
        if b > a:
            parts.append(f"<del>{html.escape(''.join(old[a:b]))}</del>")
        if d > c:
            parts.append(f"<ins>{html.escape(''.join(new[c:d]))}</ins>")
    if rest_old:
        parts.append(f"<del>{html.escape(''.join(rest_old))}</del>")
    if rest_new:
        parts.append(f"<ins>{html.escape(''.join(rest_new))}</ins>")
    return "".join(parts)
