"""Strict JSON out of text a model wrote: RFC 8259 to the letter, within bounds that keep every reader safe.

Refused, each with its reason: NaN and Infinity, a key twice in one object, comments and trailing commas (Python's
parser knows neither), numbers beyond a float or of more than 300 digits, nesting deeper than 200, more than 1,000,000
characters. Runs in workers.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from charter.reward.extract import Place, find_place

LONGEST = 1_000_000
"""Characters of a document."""
DEEPEST = 200
"""Arrays and objects inside one another; far below what exhausts the stack of a validator that recurses."""
MOST_DIGITS = 300
"""Characters of one number: below 1e308, so that arithmetic with floats in a schema cannot overflow."""

_MARK = re.compile(r'[\[\]{}"\\]')


def nests_deeper(text: str, limit: int) -> bool:
    """Whether brackets outside strings open more than `limit` deep. One pass that ends at the first excess."""
    depth, in_string, skip = 0, False, -1
    for found in _MARK.finditer(text):
        mark, at = found.group(), found.start()
        if at == skip:
            continue
        if mark == "\\":
            skip = at + 1 if in_string else skip
        elif mark == '"':
            in_string = not in_string
        elif not in_string:
            depth += 1 if mark in "[{" else -1
            if depth > limit:
                return True
    return False


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} characters; {MOST_DIGITS} at most")
    return int(digits)


def _float(digits: str) -> float:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} characters; {MOST_DIGITS} at most")
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} is beyond the largest number")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {twice!r:.80} appears twice in one object")
    return whole


_DECODER = json.JSONDecoder(
    parse_constant=_no_constant, parse_int=_integer, parse_float=_float, object_pairs_hook=_object
)


def load_json(text: str) -> Any:
    """The value of a JSON text. Raises: ValueError that says what is wrong."""
    if len(text) > LONGEST:
        raise ValueError(f"{len(text)} characters; {LONGEST} at most")
    if nests_deeper(text, DEEPEST):
        raise ValueError(f"nested too deeply (more than {DEEPEST})")
    return _DECODER.decode(text)


def find_json(text: str, place: Place) -> Any:
    """The JSON in a completion; with `auto` the whole text counts if it is JSON, before any place inside it.

    Raises: ValueError that says what is wrong with it or missing.
    """
    if place != "auto":
        return load_json(find_place(text, place, ("json",)))
    part = find_place(text, place, ("json",))
    if part is text:
        return load_json(text)
    try:
        return load_json(text)
    except ValueError:
        return load_json(part)


def same_json(a: object, b: object) -> bool:
    """Equality of JSON values: true is not 1, 1 is 1.0, order of keys is nothing, order of items is everything."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return a == b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same_json(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and a == b
