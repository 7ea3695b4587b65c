"""How the rewards of a recipe hang together: their names, and what of gates, caps and normalisation cannot be meant."""

# pyright: strict

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from charter.recipe.conflict import Conflict
from charter.recipe.tables import Recipe, RewardTable


def reward_part_names(rewards: Sequence[RewardTable]) -> list[str]:
    """The names under which a recipe's rewards are kept.

    A built-in name stands for itself, `rules.py:right` is called `right`; the second and later uses of a name are
    numbered: `math`, `math_2`.
    """
    taken: list[str] = []
    for reward in rewards:
        short = reward.name.rpartition(":")[2].rpartition(".")[2]
        name, number = short, 2
        while name in taken:
            name, number = f"{short}_{number}", number + 1
        taken.append(name)
    return taken


def gate_of(index: int, rewards: Sequence[RewardTable]) -> int | None:
    """The index of the reward that gates another; None without a gate, -1 when there is no reward of that name."""
    gate = rewards[index].gate
    if gate is None:
        return None
    names = reward_part_names(rewards)
    if gate in names:
        return names.index(gate)
    whole = [i for i, reward in enumerate(rewards) if reward.name == gate]
    return whole[0] if len(whole) == 1 else -1


def reward_conflicts(recipe: Recipe) -> Iterator[Conflict]:
    """Gates that lead nowhere or round in a circle, caps that are empty, normalisation done twice."""
    rewards = recipe.rewards
    names = reward_part_names(rewards)
    circled: set[int] = set()
    for i, reward in enumerate(rewards):
        key = f"rewards.{i}"
        if gate_of(i, rewards) == -1:
            others = [name for j, name in enumerate(names) if j != i]
            near = difflib.get_close_matches(str(reward.gate), others, n=1, cutoff=0.5)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            there = f"Name one of {', '.join(map(repr, others))}" if others else "Add the reward that is to be the gate"
            found = f"the gate {reward.gate!r} is no other reward of this recipe"
            yield Conflict(key=f"{key}.gate", found=found, fix=hint + there)
        elif i not in circled and (circle := _circle(i, rewards)):
            circled |= set(circle)
            path = " → ".join(names[j] for j in [*circle, circle[0]])
            found = f"the gates go in a circle: {path}"
            yield Conflict(key=f"{key}.gate", found=found, fix="Leave one of these gates out")
        if reward.gate is None and reward.gate_at_least is not None:
            found = "gate_at_least has no effect without a gate"
            yield Conflict(key=f"{key}.gate_at_least", found=found, fix='Add gate = "…", or leave it out')
        if reward.cap is not None and not reward.cap[0] < reward.cap[1]:
            found = f"the cap from {reward.cap[0]:g} to {reward.cap[1]:g} leaves no room"
            yield Conflict(key=f"{key}.cap", found=found, fix="Write the lowest value first, then the highest")
        if reward.normalize == "group" and recipe.method == "grpo" and recipe.grpo.combine == "per_reward":
            yield Conflict(
                key=f"{key}.normalize",
                found='combine = "per_reward" standardises every reward inside its group already: this would be twice',
                fix='Leave normalize out, or use combine = "sum" and normalize the rewards that need it',
                others=("grpo.combine",),
            )


def plain_sum(recipe: Recipe) -> bool:
    """Whether the sum is the one reward's own value: nothing weighs, caps or normalises it."""
    return len(recipe.rewards) <= 1 and all(
        reward.weight == 1 and reward.cap is None and reward.normalize == "none" for reward in recipe.rewards
    )


def _circle(start: int, rewards: Sequence[RewardTable]) -> list[int]:
    """The rewards that gate each other in a circle which begins at this one; empty when it is in none."""
    path = [start]
    while (gate := gate_of(path[-1], rewards)) is not None and gate >= 0:
        if gate == start:
            return path
        if gate in path:
            return []
        path.append(gate)
    return []
