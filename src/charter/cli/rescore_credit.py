"""From rewards to what a method makes of them, for `charter reward rescore`: advantages, kept ones, sides of a pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charter.recipe import Recipe
    from charter.reward import Rubric
    from charter.types import Scored

Rows = tuple[tuple[float | None, ...], ...]
"""One row per group, None where a completion has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited:
    """How a method turns the rewards of a step into numbers of each completion.

    numbers: (groups, step) → rows. stored: whether the run stored the very same numbers, so that those are what was.
    note: what should be known, or "".
    """

    numbers: Callable[[Sequence[Scored], int], Rows]
    stored: bool
    note: str = ""


def credit_of(recipe: Recipe, rubric: Rubric) -> Credited:
    """What the method of a run that samples makes of rewards."""
    if recipe.method == "grpo":
        penalised = recipe.grpo.kl_coef > 0 and recipe.grpo.kl_in == "reward"
        note = "the KL penalty is not stored: advantages before and now are computed without it" if penalised else ""
        return Credited(numbers=_grpo(recipe, rubric), stored=not penalised, note=note)
    if recipe.method == "ppo":
        note = (
            "PPO's advantages come from the critic as it was in that step, which is not stored: rewards are compared, "
            "and advantages are left out"
        )
        return Credited(numbers=_without, stored=False, note=note)
    if recipe.method == "rejection_sft":
        return Credited(
            numbers=_kept(recipe), stored=True, note="advantage here: 1 where a completion is imitated, 0 elsewhere"
        )
    note = "advantage here: the side of the pair, 1 the better answer, -1 the worse one, 0 neither"
    return Credited(numbers=_sides, stored=False, note=note)


def _grpo(recipe: Recipe, rubric: Rubric) -> Callable[[Sequence[Scored], int], Rows]:
    from charter.train.batch import Credit

    def numbers(scored: Sequence[Scored], step: int) -> Rows:
        limit = recipe.sampling.max_new_tokens
        weights = rubric.weights(step)
        return Credit(config=recipe.grpo, max_new_tokens=limit, part_weights=weights).advantages(scored)

    return numbers


def _without(scored: Sequence[Scored], step: int) -> Rows:
    return tuple((None,) * len(item.scores) for item in scored)


def _kept(recipe: Recipe) -> Callable[[Sequence[Scored], int], Rows]:
    from charter.train.rejection import kept_completions

    return lambda scored, step: kept_completions(scored, recipe.rejection_sft)


def _sides(scored: Sequence[Scored], step: int) -> Rows:
    from charter.train.preference import best_and_worst_places

    def row(item: Scored) -> tuple[float | None, ...]:
        sides: list[float | None] = [None if score.value is None else 0.0 for score in item.scores]
        for place, side in zip(best_and_worst_places(item) or (), (1.0, -1.0), strict=False):
            sides[place] = side
        return tuple(sides)

    return tuple(map(row, scored))
