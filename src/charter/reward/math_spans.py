"""Sets of real numbers in normal form: intervals with rational ends, sorted, overlapping ones joined."""

from __future__ import annotations

import math
from fractions import Fraction

from charter.reward.math_number import Number
from charter.reward.math_reading import INFINITY, MINUS_INFINITY, Answer, Named, Series, Union

End = Fraction | float
Span = tuple[End, bool, End, bool]
"""Low end, whether it belongs, high end, whether it belongs."""


def merged(answer: Answer) -> list[Span] | None:
    """The real numbers an answer holds, as disjoint spans in order; None when its ends are no plain numbers.

    (1, 2] ∪ (2, 3) is (1, 3); [1, 1] is {1}; a list of conditions is their union.
    """
    found = _spans(answer)
    if found is None:
        return None
    joined: list[Span] = []
    for low, low_in, high, high_in in sorted(found, key=lambda span: (span[0], not span[1])):
        if joined:
            start, start_in, end, end_in = joined[-1]
            if low < end or (low == end and (low_in or end_in)):
                if high > end or (high == end and high_in):
                    joined[-1] = (start, start_in, high, high_in or (high == end and end_in))
                continue
        joined.append((low, low_in, high, high_in))
    return joined


def _spans(answer: Answer) -> list[Span] | None:
    if isinstance(answer, Named):
        return _spans(answer.value)
    if isinstance(answer, Series) and answer.interval:
        low, high = _end(answer.items[0]), _end(answer.items[1])
        if low is None or high is None or low > high:
            return None
        low_in = answer.opening == "[" and math.isfinite(low)
        high_in = answer.closing == "]" and math.isfinite(high)
        if low == high:
            return [(low, True, high, True)] if low_in and high_in else []
        return [(low, low_in, high, high_in)]
    if isinstance(answer, Series) and answer.kind == "set":
        ends = [_end(item) for item in answer.items]
        return [(end, True, end, True) for end in ends if end is not None] if None not in ends else None
    if isinstance(answer, Union) or (isinstance(answer, Series) and answer.kind == "list"):
        parts = [_spans(part) for part in (answer.parts if isinstance(answer, Union) else answer.items)]
        return [span for part in parts if part is not None for span in part] if None not in parts else None
    return None


def _end(answer: Answer) -> End | None:
    if isinstance(answer, Number) and answer.base is None:
        return answer.value / 100 if answer.percent else answer.value
    return {INFINITY: math.inf, MINUS_INFINITY: -math.inf}.get(answer) if hasattr(answer, "tex") else None  # type: ignore[arg-type]
