"""What the monitors measure at an evaluation: refusals of safe prompts, and a reward that is not trained against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charter.errors import RecipeError, RewardError, UsageError
from charter.protocols import Reward, Sampler
from charter.recipe import Recipe, RewardTable, SamplingTable
from charter.run.monitors import reward_gap
from charter.types import Prompt, Scored


@dataclass(frozen=True, slots=True, kw_only=True)
class AtEvaluation:
    """The measurements of one run. safe: prompts of the refusal monitor, or none. reward: the held-out one, or None."""

    recipe: Recipe
    sampler: Sampler
    safe: Sequence[Prompt]
    reward: Reward | None

    async def measure(
        self, scored: Sequence[Scored], metrics: Mapping[str, float], first: Mapping[str, Any]
    ) -> dict[str, float]:
        """Metrics of the monitors at an evaluation.

        scored: the evaluation's groups. metrics: its own metrics. first: those of the run's first evaluation, empty
        where this is the first. Raises: RewardError where the held-out reward scored nothing.
        """
        found: dict[str, float] = {}
        if self.safe:
            found |= await self._refusals()
        if self.reward is not None:
            found |= await self._held_reward(scored)
            before = first or {**metrics, **found}
            if (gap := reward_gap(before, {**metrics, **found})) is not None:
                found["monitors/gap"] = gap
        return found

    async def close(self) -> None:
        """Let go of what the held-out reward holds."""
        if self.reward is not None:
            await self.reward.close()

    async def _refusals(self) -> dict[str, float]:
        from charter.constitution.checks import refuses

        limit = self.recipe.sampling.max_new_tokens
        settings = SamplingTable(group_size=1, max_new_tokens=limit, temperature=0.0)
        refused: list[bool] = []
        async for group in self.sampler.sample(self.safe, settings, 0, stream="monitors"):
            refused += [refuses(each.text) for each in group.rollouts if each.stop != "failed"]
        return {"monitors/refusal_rate": sum(refused) / len(refused)} if refused else {}

    async def _held_reward(self, scored: Sequence[Scored]) -> dict[str, float]:
        assert self.reward is not None
        trained, held, notes = [], [], []
        for each in scored:
            scores = await self.reward.score(each.group)
            trained += [score.value for score in each.scores if score.value is not None]
            held += [score.value for score in scores if score.value is not None]
            notes += [score.note for score in scores if score.status == "failed"]
        if not held:
            cause = f": {notes[0]}" if notes else ""
            raise RewardError(f"monitors.reward = {self.recipe.monitors.reward!r} scored no held-out completion{cause}")
        return {
            "monitors/held_reward": math.fsum(held) / len(held),
            "monitors/held_reward_std": _std(held),
            "monitors/reward_std": _std(trained),
        }


def at_evaluation(recipe: Recipe, sampler: Sampler, columns: Sequence[Prompt]) -> AtEvaluation | None:
    """The measurements that a recipe asks for; None where it asks for none.

    columns: the held-out prompts, whose columns the reward may read. Raises: RecipeError for a reward that cannot be
    made of them; UsageError where nothing is held out; DataError for prompts that cannot be read.
    """
    table = recipe.monitors
    if table.max_refusal_rate is None and table.reward is None:
        return None
    if not columns:
        raise UsageError(
            "monitors.max_refusal_rate and monitors.reward are measured at evaluations, and no prompts are held out: "
            "set data.held_out."
        )
    reward = None
    if table.reward is not None:
        from charter.cli.reward_builders import reward_builders
        from charter.reward import build_rubric

        reward = build_rubric(
            [RewardTable.model_validate({"name": table.reward, **table.reward_options})], reward_builders(recipe)
        )
        names = sorted(columns[0].fields)
        if problems := reward.check_columns(names, recipe.data.prompts or "data"):
            raise RecipeError(problems)
    safe = _safe_prompts(table.refusal_prompts)[: table.refusal_count] if table.max_refusal_rate is not None else []
    return AtEvaluation(recipe=recipe, sampler=sampler, safe=safe, reward=reward)


def _safe_prompts(source: str) -> list[Prompt]:
    if source:
        from charter.cli.cai_run import read_prompts

        return read_prompts(str(Path(source)))
    from charter.constitution.examples import twins

    return [Prompt(id=f"safe/{twin.id}", messages=({"role": "user", "content": twin.safe},)) for twin in twins()]


def _std(values: Sequence[float]) -> float:
    if not values:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
