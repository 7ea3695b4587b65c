"""The sum of a recipe's rewards as it will be computed, with its numbers, gates, caps and courses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from charter.recipe import Recipe, RewardTable


def reward_facts(reward: RewardTable) -> dict[str, Any]:
    """A reward's table without the keys by which nothing happens; and for a function, the signature it is called by."""
    from charter.cli.reward_builders import reward_builders
    from charter.reward.registry import option_problems

    quiet = {"gate": None, "gate_at_least": None, "cap": None, "normalize": "none", "only": {}}
    facts = {key: value for key, value in reward.model_dump().items() if key not in quiet or value != quiet[key]}
    if ":" in reward.name:
        from charter.reward.adapt import signature_of

        facts["called_as"] = signature_of(reward.name, reward.options)
    if reward.name == "code":
        from charter.reward.code_extract import RULES

        facts["program"] = RULES.get(reward.options.get("extract", "auto"), "no such rule")
    if wrong := option_problems(reward.name, reward.options, reward_builders()):
        facts["wrong"] = "; ".join(wrong)
    return facts


def sum_expression(recipe: Recipe) -> str:
    """`r = 1 · (math if format ≥ 1 … else 0) + w(t) · min(1, max(0, length)), w = …`: what becomes one reward."""
    from charter.recipe.rewards import gate_of, reward_part_names

    names = reward_part_names(recipe.rewards)
    terms: list[str] = []
    courses: list[str] = []
    for i, reward in enumerate(recipe.rewards):
        value = names[i]
        if reward.cap is not None:
            low, high = reward.cap
            value = f"max({low:g}, {value})" if low != float("-inf") else value
            value = f"min({high:g}, {value})" if high != float("inf") else value
        gate = gate_of(i, recipe.rewards)
        if gate is not None:
            value = f"({value} if {_gates(i, recipe)} else 0)"
        if reward.normalize == "group":
            value = f"z({value})"
        weight = f"{reward.weight:g}" if isinstance(reward.weight, (int, float)) else f"w_{names[i]}(t)"
        if not isinstance(reward.weight, (int, float)):
            courses.append(f"w_{names[i]}(t) = {_course(reward.weight.model_dump())}")
        which = " and ".join(f"{key} = {value!r}" for key, value in reward.only.items())
        terms.append(f"{weight} · {value}" + (f" (where {which})" if which else ""))
    expression = "r = " + " + ".join(terms) + ", over those that answered"
    if any(reward.normalize == "group" for reward in recipe.rewards):
        courses.append("z(v) = (v − mean of the group) / (std of the group + 1e-4), 0 where all are equal")
    return "; ".join([expression, *courses])


def _gates(index: int, recipe: Recipe) -> str:
    """The conditions on which a reward counts: its gate's, and that of the gate's own gate."""
    from charter.recipe.rewards import gate_of, reward_part_names

    names = reward_part_names(recipe.rewards)
    conditions: list[str] = []
    at = index
    while (gate := gate_of(at, recipe.rewards)) is not None and gate >= 0 and len(conditions) < len(names):
        least = recipe.rewards[at].gate_at_least
        least = _maximum(recipe.rewards[gate]) if least is None else least
        conditions.append(f"{names[gate]} ≥ {least:g} or {names[gate]} abstains")
        at = gate
    return " and ".join(f"({c})" for c in conditions) if len(conditions) > 1 else conditions[0]


def _maximum(reward: RewardTable) -> float:
    """The highest value a reward gives; 1 where it has none, as for a function."""
    from charter.reward.registry import highest_value

    found = highest_value(reward.name, reward.options)
    return 1.0 if found is None else found


def _course(weight: Mapping[str, Any]) -> str:
    from charter.reward.schedule import WeightSchedule

    first = weight["from"]
    names = ("start", "end", "steps", "shape")
    return str(WeightSchedule(first=first, **{name: weight[name] for name in names})) + ", its end in evaluations"
