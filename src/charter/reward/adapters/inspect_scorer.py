"""Inspect: `async score(state: TaskState, target: Target) -> Score`, or the `@scorer` function that makes one.

The target is the column `target` (or the one that `columns = {target = "…"}` names), the metadata the column
`metadata` or else all columns. The options of the recipe are those of the `@scorer` function. A value "C" is 1, "I"
and "N" 0, "P" 0.5; yes/no, true/false and numbers read as Inspect reads them; None and NaN (unscored) abstain; a table
needs `value = "key"`. Any other value fails: Inspect takes it for 0.

Source: UKGovernmentBEIS/inspect_ai 0.3.285, scorer/_scorer.py and scorer/_metric.py (value_to_float).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

from charter.reward.adapters.inspect_state import sample
from charter.reward.adapters.shape import (
    LONGEST_EXTRA,
    Opened,
    Reply,
    Work,
    as_table,
    awaited,
    facts,
    first_of,
    named,
    need,
    one_by_one,
    one_number,
    parameters_of,
)
from charter.reward.call import SourceError

LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}


def is_scorer_maker(found: Any) -> bool:
    """Whether this is a function decorated with @scorer, which makes a scorer when called."""
    info = getattr(found, "__registry_info__", None)
    if getattr(info, "type", None) != "scorer":
        return False
    return not {"state", "target"} <= {p.name for p in parameters_of(found)}


def read_value(value: Any) -> float | None:
    """A scalar score value as a number, None for NaN. Raises: ValueError for what is neither number nor known word."""
    if isinstance(value, str):
        if value in LETTERS:
            return LETTERS[value]
        if value.lower() in WORDS:
            return WORDS[value.lower()]
        try:
            number = float(value)
        except ValueError:
            raise ValueError(f"the score's value is {value!r:.60}; expected a number, C, I, P, N, yes or no") from None
        if not math.isfinite(number):
            raise ValueError(f"the score's value is {value!r:.60}; expected a finite number")
        return number
    if isinstance(value, int | float):
        return None if math.isnan(value) else float(value)
    raise ValueError(f"the score's value is a {type(value).__name__}; expected a number or text")


def read_score(score: Any, key: str | None) -> Reply:
    """The number in a Score. key: of the value that counts, where a score has several."""
    if score is None:
        return {"value": None, "note": "the scorer returned None"}
    value = getattr(score, "value", score)
    note = "; ".join(
        str(part) for part in (getattr(score, "explanation", None), getattr(score, "reason", None)) if part
    )
    if isinstance(value, Mapping):
        if key is None and len(value) == 1:
            key = next(iter(value))
        if key is None or key not in value:
            keys = ", ".join(map(repr, value))
            missing = "say which counts" if key is None else f"it has no {key!r}; choose one of them"
            return {"failed": f"the score's value is a table with {keys}: {missing} with value = …"}
        value = value[key]
        if value is None:
            return {"value": None, "note": f"the value {key!r} is None"}
    try:
        number = read_value(value)
    except ValueError as error:
        return {"failed": str(error)}
    if number is None:
        return {"value": None, "note": note[:LONGEST_EXTRA] or "unscored"}
    return one_number(number, note[:LONGEST_EXTRA])


def open_inspect(found: Callable[..., Any], options: Mapping[str, Any]) -> Opened:
    """Set up for a scorer or the function that makes one.

    options: of the recipe; those of a `@scorer` function go to it, now. Raises: SourceError when it makes no scorer.
    """
    makes = is_scorer_maker(found)
    names = [p.name for p in named(parameters_of(found))] if makes else []
    scorer = found
    if makes:
        try:
            scorer = found(**{name: value for name, value in options.items() if name in names})
        except TypeError as error:
            raise SourceError(f"the scorer cannot be made with these options: {error}") from None
    if not callable(scorer):
        raise SourceError(f"it made a {type(scorer).__name__}, which is no scorer")

    def judge(work: Work) -> list[Reply]:
        columns = work["columns"]
        target = first_of(work, "target", "target", default="")
        metadata = as_table(columns.get("metadata")) or dict(columns)
        choices = columns.get("choices")

        def score(i: int) -> Reply:
            state, wanted = sample(work["messages"], work["texts"][i], target, copy.deepcopy(metadata), choices)
            returned = awaited(scorer(state, wanted))
            return read_score(returned, work["options"].get("value"))

        return one_by_one(work, score)

    return judge, facts([*names, "value", "target"], filled=(), needs=[need("target")], wants=None)
