"""verl: `compute_score(data_source, solution_str, ground_truth, extra_info=None)`, one completion per call.

It returns a number, a table with "score", or a list whose first entry is the score. Columns are found in verl's own
Parquet layout: `data_source`, `ground_truth` inside the table `reward_model`, and the table `extra_info`. The batch
form (`solution_strs`, `ground_truths`, `data_sources`, `extra_infos` → list) is called once per prompt.

Source: volcengine/verl 0.9, experimental/reward_loop/reward_manager/naive.py and workers/reward_manager/batch.py.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
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
    named,
    need,
    one_by_one,
    one_number,
    parameters_of,
    takes_all,
)

SINGLE = ("data_source", "solution_str", "ground_truth", "extra_info")
BATCH = ("data_sources", "solution_strs", "ground_truths", "extra_infos")
PATHS: Mapping[str, tuple[str, ...]] = {
    "data_source": ("data_source",),
    "ground_truth": ("ground_truth", "reward_model.ground_truth"),
    "extra_info": ("extra_info",),
}
"""Parameter of the single form → where a row has it."""


def read_score(returned: Any) -> Reply:
    """The number in what `compute_score` returned for one completion."""
    if isinstance(returned, Mapping):
        if "score" not in returned:
            keys = ", ".join(map(repr, returned)) or "nothing"
            return {"failed": f"returned a table with {keys} and no 'score'"}
        return one_number(returned["score"], extras({k: v for k, v in returned.items() if k != "score"}))
    if isinstance(returned, list | tuple) and returned:
        return one_number(returned[0])
    return one_number(returned)


def _column(work: Work, parameter: str) -> Any:
    value = first_of(work, parameter, *PATHS[parameter])
    if parameter != "extra_info":
        return value
    # verl's reward loop adds these two keys to every row's table
    return {**as_table(value), "num_turns": None, "rollout_reward_scores": {}}


def open_verl(function: Callable[..., Any]) -> Opened:
    """Set up for a `compute_score`, single or batched. Raises: SourceError when it has no signature."""
    parameters = parameters_of(function)
    names = [p.name for p in named(parameters)]
    everything = takes_all(parameters)
    batched = "solution_strs" in names
    takes = BATCH if batched else SINGLE
    given_always = [name for name in takes if name in names or everything]
    required = [p.name for p in named(parameters) if p.default is p.empty]
    completions = takes[1]

    def single_name(parameter: str) -> str:
        return SINGLE[takes.index(parameter)] if parameter in takes else parameter

    def arguments(work: Work) -> dict[str, Any]:
        own = {name: value for name, value in work["options"].items() if name not in SINGLE}
        return {**own, **{n: _column(work, single_name(n)) for n in given_always if n != completions}}

    def one(work: Work) -> list[Reply]:
        def score(i: int) -> Reply:
            return read_score(awaited(function(**copy.deepcopy(arguments(work)), solution_str=work["texts"][i])))

        return one_by_one(work, score)

    def together(work: Work) -> list[Reply]:
        count = len(work["texts"])
        own = {name: value for name, value in work["options"].items() if name not in SINGLE}
        lists = {
            n: [copy.deepcopy(_column(work, single_name(n))) for _ in range(count)]
            for n in given_always
            if n != completions
        }
        returned = awaited(function(**own, **lists, solution_strs=list(work["texts"])))
        if callable(getattr(returned, "tolist", None)):
            returned = returned.tolist()
        if isinstance(returned, str | Mapping) or not isinstance(returned, Sequence) or len(returned) != count:
            found = f"{len(returned)} values" if isinstance(returned, Sequence) else f"a {type(returned).__name__}"
            return [{"failed": f"returned {found} for {count} completions; expected one each"}] * count
        return [read_score(value) for value in returned]

    return (together if batched else one), facts(
        [*names, *(single_name(n) for n in names if batched and n in takes and n != completions)],
        filled=[completions, *(BATCH if batched else ())],
        needs=[
            need(single_name(n), *PATHS.get(single_name(n), (n,)))
            for n in required
            if n != completions and single_name(n) != "extra_info"
        ],
        wants=["data_source", "ground_truth", "reward_model", "extra_info", *names],
        row_independent=bool(getattr(function, "row_independent", True)),
    )
