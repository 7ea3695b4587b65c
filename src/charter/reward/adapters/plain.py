"""Plain: `f(text, <columns>…) -> number or None`, one completion per call, for rules that need no lists.

The first parameter is the completion's text; `prompt` is the prompt's text or its messages; every other name is a
column or an option.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from charter.reward.adapters.shape import (
    Opened,
    Reply,
    Work,
    awaited,
    facts,
    is_plain,
    named,
    need,
    one_by_one,
    one_number,
    parameters_of,
    prompt_text,
    takes_all,
)
from charter.reward.call import SourceError


def open_plain(function: Callable[..., Any]) -> Opened:
    """Set up for a function of one text. Raises: SourceError when it takes none by position."""
    parameters = parameters_of(function)
    every = named(parameters)
    if not every or every[0].kind is every[0].KEYWORD_ONLY:
        raise SourceError("it takes nothing by position, and the plain signature is f(text, …)")
    first = "text" if any(p.name == "text" for p in every) else every[0].name
    names = [p.name for p in every]
    everything = takes_all(parameters)
    required = [p.name for p in every if p.default is p.empty and p.name not in (first, "prompt")]

    def judge(work: Work) -> list[Reply]:
        prompt = prompt_text(work) if is_plain(work) else [dict(message) for message in work["messages"]]
        given = {**work["columns"], "prompt": prompt, **work["options"]}

        def score(i: int) -> Reply:
            left = {**copy.deepcopy(given), first: work["texts"][i]}
            positional = [left.pop(p.name) for p in every if p.kind is p.POSITIONAL_ONLY and p.name in left]
            kept = left if everything else {name: value for name, value in left.items() if name in names}
            return one_number(awaited(function(*positional, **kept)))

        return one_by_one(work, score)

    return judge, facts(
        names,
        filled=(first, "prompt"),
        needs=[need(name) for name in required],
        wants=None if everything else [name for name in names if name != first],
    )
