"""OpenRLHF: `reward_func(queries, prompts, labels) -> tensor, list, or table with "rewards"`.

Called as OpenRLHF calls it: by position, with lists of one. A query is the prompt and the completion as one text. The
label is the column `label` (or `labels`, or the one that `columns = {labels = "…"}` names).

No chat template is known to a reward: a conversation reads `role: content`, one line per turn, without the special
tokens that OpenRLHF leaves in its queries.

Source: OpenRLHF 0.11, utils/agent.py (SingleTurnExecutor) and datasets/prompts_dataset.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

from charter.reward.adapters.shape import (
    Opened,
    Reply,
    Work,
    as_table,
    awaited,
    extras,
    facts,
    first_of,
    is_plain,
    named,
    need,
    one_by_one,
    one_number,
    parameters_of,
    prompt_text,
)

TAKES = ("queries", "prompts", "labels")


def _single(value: Any) -> Any:
    """The one entry of a tensor, list or nested list; anything else stands for itself."""
    if callable(getattr(value, "tolist", None)):
        value = value.tolist()
    while isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    return value


def read_rewards(returned: Any) -> Reply:
    """The number in what a `reward_func` returned for a list of one."""
    note = ""
    if isinstance(returned, Mapping):
        if "rewards" not in returned:
            keys = ", ".join(map(repr, returned)) or "nothing"
            return {"failed": f"returned a table with {keys} and no 'rewards'"}
        logs = {name: _single(value) for name, value in as_table(returned.get("extra_logs")).items()}
        returned, note = returned["rewards"], extras(logs)
    value = _single(returned)
    if isinstance(value, list | tuple):
        return {"failed": f"returned {len(value)} values for 1 completion"}
    return one_number(value, note)


def open_openrlhf(function: Callable[..., Any]) -> Opened:
    """Set up for a `reward_func`. Raises: SourceError when it has no signature."""
    parameters = named(parameters_of(function))
    names = [p.name for p in parameters]
    # the first three are filled by position, whatever they are called
    further = [p for p in parameters[len(TAKES) :] if p.default is p.empty and p.kind is not p.POSITIONAL_ONLY]
    counted = min(len(TAKES), len([p for p in parameters if p.kind is not p.KEYWORD_ONLY]))

    def judge(work: Work) -> list[Reply]:
        prompt = prompt_text(work)
        label = first_of(work, "labels", "labels", "label")
        own = {name: value for name, value in work["options"].items() if name != "labels"}
        own |= {p.name: work["columns"][p.name] for p in further if p.name in work["columns"] and p.name not in own}

        def score(i: int) -> Reply:
            text = work["texts"][i]
            query = prompt + text if is_plain(work) else f"{prompt}\nassistant: {text}"
            given = ([query], [prompt], [copy.deepcopy(label)])[:counted]
            return read_rewards(awaited(function(*given, **own)))

        return one_by_one(work, score)

    return judge, facts(
        [*names, *(["labels"] if "labels" not in names else [])],
        filled=[name for name in names[: len(TAKES)] if name != "labels"],
        needs=[
            *([need("labels", "labels", "label")] if counted == len(TAKES) else []),
            *(need(p.name) for p in further),
        ],
        wants=["label", "labels", *(p.name for p in further)],
    )
