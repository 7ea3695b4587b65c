"""Regular expressions that cannot run away: an upper bound of the work is known before the first character is read.

Python's matcher tries at most one path per way to divide the text among the parts of a pattern. `paths` counts them:

    literal 1 · sequence ∏ · alternatives Σ · x{m,n} Σ_{k=m..n} paths(x)^k, with n at most the text's length
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

MOST_STEPS = 1e8
"""Paths times starting points beyond which a pattern is not tried: about a second."""
NOMINAL_LENGTH = 2_000
"""Characters of the text for which a pattern is judged when it is written."""

_parser: Any = re._parser  # type: ignore[attr-defined]


def pattern_problem(pattern: str) -> tuple[str, str] | None:
    """(what is wrong with a pattern, what to do), or None."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        return f"{pattern!r} is no regular expression: {error}", "Correct it"
    if not pattern:
        return "the pattern is empty", "Write one"
    if paths(pattern, NOMINAL_LENGTH) * NOMINAL_LENGTH > MOST_STEPS:
        fix = "Say how often at most: {0,20} in the place of * and +, and none inside another"
        return f"the pattern {pattern!r} can take for ever on some text", fix
    return None


def found_in(pattern: str, text: str) -> bool | None:
    """Whether the pattern stands in the text, without regard to case; None where looking could take too long."""
    if paths(pattern, len(text)) * (len(text) + 1) > MOST_STEPS:
        return None
    return re.search(pattern, text, re.IGNORECASE) is not None


@lru_cache(maxsize=512)
def paths(pattern: str, length: int) -> float:
    """The most paths a match can try from one starting point, over texts of that length."""
    return _sequence(_parser.parse(pattern), length)


def _sequence(items: Iterable[Any], length: int) -> float:
    return math.prod((_item(str(kind), value, length) for kind, value in items), start=1.0)


def _item(kind: str, value: Any, length: int) -> float:
    if kind == "BRANCH":
        return sum(_sequence(branch, length) for branch in value[1])
    if kind == "SUBPATTERN":
        return _sequence(value[3], length)
    if kind in ("ASSERT", "ASSERT_NOT"):
        return _sequence(value[1], length)
    if kind == "ATOMIC_GROUP":
        return _sequence(value, length)
    if kind == "GROUPREF_EXISTS":
        return _sequence(value[1], length) + (_sequence(value[2], length) if value[2] else 1.0)
    if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least, most, inside = value
        most = min(int(most), max(length, int(least)))
        each = _sequence(inside, length)
        if each <= 1:
            return float(most - int(least) + 1)
        # the sum of a geometric series; beyond what a float holds it is as good as endless
        exponent = (most + 1) * math.log(each)
        return math.inf if exponent > 600 else (each ** (most + 1) - each ** int(least)) / (each - 1)
    return 1.0
