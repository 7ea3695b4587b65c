"""How often the policy is right on prompts it never learnt from, and how sure that number is.

Not here: which prompts are held out (data), what counts as a reward (reward), comparing methods (compare.py).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field

from charter.errors import RewardError, RunError, UsageError
from charter.evaluate.intervals import (
    Difference,
    Interval,
    bootstrap_by_prompt,
    paired_difference,
    pass_at_k,
    pooled_mean,
    wilson,
)
from charter.protocols import Reward, Sampler, SamplingSettings
from charter.train.scoring import MOST_WAITING
from charter.types import Group, Prompt, Scored

__all__ = [
    "Accuracy",
    "Difference",
    "Interval",
    "accuracy_of",
    "bootstrap_by_prompt",
    "compare_accuracy",
    "evaluate",
    "paired_difference",
    "pass_at_k",
    "rewards_by_prompt",
    "right_by_prompt",
    "wilson",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """A measured share of right completions.

    accuracy: right / n. interval: at the asked level; Wilson's where each prompt has one completion, else a bootstrap
    that draws prompts. pass_at_k: k → mean over prompts of the unbiased estimate; prompts with fewer than k scored
    completions are left out of that k. n: completions that have a reward. reward: their mean reward. prompts: with at
    least one of them. abstained, failed: completions left out.
    """

    accuracy: float
    interval: Interval
    pass_at_k: Mapping[int, float] = field(default_factory=dict[int, float])
    n: int
    reward: float
    prompts: int
    abstained: int = 0
    failed: int = 0

    def record(self) -> dict[str, object]:
        """What `charter eval --json` prints: {"accuracy", "interval", "pass_at_k", "n"}."""
        return {
            "accuracy": self.accuracy,
            "interval": list(self.interval),
            "pass_at_k": {str(k): value for k, value in self.pass_at_k.items()},
            "n": self.n,
        }

    def metrics(self) -> dict[str, float]:
        """The same under the names of metrics.jsonl."""
        return {
            "eval/accuracy": self.accuracy,
            "eval/accuracy_low": self.interval[0],
            "eval/accuracy_high": self.interval[1],
            "eval/reward": self.reward,
        }


def rewards_by_prompt(scored: Sequence[Scored]) -> list[list[float]]:
    """The rewards of each prompt's completions; those not drawn, abstained or failed are left out."""
    return [
        [
            score.value
            for rollout, score in zip(each.group.rollouts, each.scores, strict=True)
            if score.value is not None and rollout.stop != "failed"
        ]
        for each in scored
    ]


def right_by_prompt(scored: Sequence[Scored], threshold: float = 1.0) -> list[list[float]]:
    """1.0 or 0.0 per completion that has a reward: whether it is at least the threshold."""
    return [[float(value >= threshold) for value in rewards] for rewards in rewards_by_prompt(scored)]


def accuracy_of(
    scored: Sequence[Scored],
    *,
    threshold: float = 1.0,
    ks: Sequence[int] = (1,),
    level: float = 0.95,
    seed: int = 0,
    resamples: int = 2000,
) -> Accuracy:
    """The accuracy of completions that have been scored.

    scored: one entry per prompt. threshold: a completion is right when its reward is at least this. ks: of pass@k.
    level, seed, resamples: of the interval.
    Raises: RewardError where not one completion has a reward, with the most telling cause.
    """
    right = [prompt for prompt in right_by_prompt(scored, threshold) if prompt]
    n = sum(len(prompt) for prompt in right)
    scores = [score for each in scored for score in each.scores]
    if n == 0:
        notes = [score.note for score in scores if score.note]
        raise RewardError(
            f"none of the {len(scores)} completions to evaluate has a reward"
            + (f"; the first says: {notes[0]}" if notes else "")
            + ". Try the reward on its own with `charter reward test`."
        )
    share = pooled_mean(right)
    if all(len(prompt) == 1 for prompt in right):
        interval = wilson(sum(map(sum, right)), n, level)
    elif share in (0.0, 1.0):
        # Resampling prompts that all agree can only agree; Wilson on the number of prompts says what is not known.
        interval = wilson(share * len(right), len(right), level)
    else:
        interval = bootstrap_by_prompt(right, pooled_mean, level=level, seed=seed, resamples=resamples)
    passed = {
        k: math.fsum(values) / len(values)
        for k in ks
        if (values := [pass_at_k(len(prompt), int(sum(prompt)), k) for prompt in right if len(prompt) >= k])
    }
    abstained = sum(score.status == "abstained" for score in scores)
    return Accuracy(
        accuracy=share,
        interval=interval,
        pass_at_k=passed,
        n=n,
        reward=pooled_mean(rewards_by_prompt(scored)),
        prompts=len(right),
        abstained=abstained,
        failed=len(scores) - n - abstained,
    )


def compare_accuracy(
    before: Sequence[Scored], after: Sequence[Scored], *, threshold: float = 1.0, level: float = 0.95, seed: int = 0
) -> Difference:
    """after − before on the same prompts, paired and with an interval that draws prompts.

    Raises: UsageError where the two do not hold the same prompts.
    """
    ids = [each.group.prompt.id for each in before]
    later = {each.group.prompt.id: each for each in after}
    if len(ids) != len(after) or set(ids) != later.keys():
        raise UsageError(
            f"before has {len(ids)} prompts and after {len(after)}, and they are not the same ones: "
            "evaluate both on the same held-out prompts."
        )
    return paired_difference(
        right_by_prompt(before, threshold),
        right_by_prompt([later[name] for name in ids], threshold),
        level=level,
        seed=seed,
    )


async def _scored(group: Group, reward: Reward) -> Scored:
    scores = await reward.score(group)
    try:
        return Scored(group=group, scores=tuple(scores))
    except ValueError as error:
        raise RewardError(f"the reward {reward.name!r} broke its promise: {error}.") from error


async def evaluate(
    prompts: Sequence[Prompt],
    sampler: Sampler,
    reward: Reward,
    settings: SamplingSettings,
    step: int = 0,
    stream: str = "eval",
    threshold: float = 1.0,
    ks: Sequence[int] = (1,),
    *,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Accuracy, tuple[Scored, ...]]:
    """Sample, score and count; groups are scored while others are still being drawn.

    prompts: held-out. settings: group_size completions of each. step, stream: fix the draws with the seed of the
    sampler; use the same step and stream before and after to compare like with like. threshold, ks, level, seed: as
    in `accuracy_of`.
    Returns: the accuracy, and the scored groups in the order of the prompts.
    Raises: UsageError for no prompts or a k larger than group_size; RunError where the sampler leaves a prompt out.
    """
    if not prompts:
        raise UsageError("there are no held-out prompts to evaluate on: set data.held_out to at least 1.")
    wrong = [k for k in ks if not 1 <= k <= settings.group_size]
    if wrong:
        raise UsageError(
            f"pass@{wrong[0]} needs {wrong[0]} completions per prompt and {settings.group_size} are drawn: "
            "raise eval.samples or lower eval.k."
        )
    order = {prompt.id: place for place, prompt in enumerate(prompts)}
    tasks: dict[str, asyncio.Task[Scored]] = {}
    groups = sampler.sample(prompts, settings, step, stream=stream)
    try:
        async for group in groups:
            if group.prompt.id not in order or group.prompt.id in tasks:
                raise RunError(f"the sampler answered the prompt {group.prompt.id!r}, which was not open.")
            tasks[group.prompt.id] = asyncio.create_task(_scored(group, reward))
            pending = [task for task in tasks.values() if not task.done()]
            if len(pending) >= MOST_WAITING:
                await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        missing = [name for name in order if name not in tasks]
        if missing:
            raise RunError(f"the sampler left out {len(missing)} of {len(order)} prompts, the first is {missing[0]!r}.")
        scored = tuple([await tasks[prompt.id] for prompt in prompts])
    finally:
        # After an error nothing may go on scoring, nor complain later that nobody asked how it ended.
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        if isinstance(groups, AsyncGenerator):
            await groups.aclose()
    return accuracy_of(scored, threshold=threshold, ks=ks, level=level, seed=seed), scored
