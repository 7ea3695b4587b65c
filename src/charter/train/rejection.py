"""Rejection-sampling SFT: sample, keep what the rewards liked, and imitate it.

    loss = Σ_kept −lp / Σ_kept tokens        (or the mean of each kept completion's token mean)

The control beside GRPO, PPO and DPO: it learns from the good completions alone, and what earned little teaches nothing.
Log-probabilities are those of the tempered distribution that was sampled. Source: RAFT (arXiv 2304.06767); ReST
(arXiv 2308.08998).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from statistics import fmean

from charter.objectives.aggregation import aggregate
from charter.objectives.rows import Loss, TokenRows
from charter.protocols import Learner, PromptSource, Reward, Sampler
from charter.recipe import RejectionTable, SamplingTable
from charter.run.metrics import describe_groups
from charter.train.batch import Advantages
from charter.train.rounds import StepClock, sample_and_score
from charter.train.scoring import refuse_failures
from charter.types import Batch, Branch, Scored, Totals, Tree, Update


@dataclass(frozen=True, slots=True, kw_only=True)
class ImitationOfSamples:
    """Token cross-entropy on what was kept, under one normaliser per step."""

    config: RejectionTable
    temperature: float

    @property
    def updates(self) -> int:
        return self.config.updates_per_step

    @property
    def needs_reference(self) -> bool:
        return False

    @property
    def per_token(self) -> bool:
        return True

    def __call__(self, rows: TokenRows) -> Loss:
        how = self.config.aggregation
        value = aggregate(
            -rows.logprobs, rows.mask, how=how, groups=rows.groups,
            normalizer=rows.normalizers[how], group_tokens=rows.group_tokens,
        )  # fmt: skip
        return Loss(value=value)


async def rejection_sft(
    prompts: PromptSource,
    sampler: Sampler,
    reward: Reward,
    learner: Learner,
    config: RejectionTable,
    sampling: SamplingTable,
    *,
    start: int = 1,
) -> AsyncGenerator[Update]:
    """Yield one Update per step, from step `start` on, without end.

    A step that keeps nothing leaves the weights as they are. Raises RewardError when more than
    config.max_error_rate of a step's rewards failed.
    """
    objective = ImitationOfSamples(config=config, temperature=sampling.temperature)
    most = config.prompts_per_step * sampling.group_size
    for step, chosen in prompts.steps(config.prompts_per_step, start=start):
        clock = StepClock()
        scored = await sample_and_score(
            chosen, sampler, reward, sampling, step, clock, max_error_rate=config.max_error_rate, most=most
        )
        refuse_failures(scored, config.max_error_rate)
        weights = kept_completions(scored, config)
        learning = time.perf_counter()
        learned = learner.step(imitation_of(scored, weights), objective)
        clock.add("time/learn_s", time.perf_counter() - learning)
        await sampler.load(learner.weights())
        yield Update(
            step=step,
            version=learner.version,
            metrics=dict(learned)
            | describe_groups(scored, weights)
            | {"kept": sum(value or 0.0 for row in weights for value in row)}
            | clock.metrics(scored, learned),
            scored=scored,
            advantages=weights,
        )


def kept_completions(scored: Sequence[Scored], config: RejectionTable) -> Advantages:
    """1 for a completion that is imitated, 0 for one that is not, None for one without a reward; a row per group."""
    return tuple(_kept(item, config) for item in scored)


def imitation_of(scored: Sequence[Scored], weights: Advantages) -> Batch:
    """One tree per prompt of the completions that were kept."""
    trees: list[Tree] = []
    for item, row in zip(scored, weights, strict=True):
        branches = tuple(
            Branch(tokens=rollout.tokens, mask=(True,) * len(rollout.tokens))
            for rollout, weight in zip(item.group.rollouts, row, strict=True)
            if weight
        )
        if branches:
            trees.append(Tree(prefix=item.group.prompt_tokens, branches=branches))
    lengths = [len(branch.tokens) for tree in trees for branch in tree.branches]
    return Batch(
        trees=tuple(trees),
        totals=Totals(tokens=sum(lengths), sequences=len(lengths), completions=len(lengths), prompts=len(trees)),
    )


def _kept(item: Scored, config: RejectionTable) -> tuple[float | None, ...]:
    values = {
        i: score.value
        for i, (score, rollout) in enumerate(zip(item.scores, item.group.rollouts, strict=True))
        if score.value is not None and rollout.tokens
    }
    chosen: set[int] = set()
    seen: set[tuple[int, ...]] = set()
    # equal rewards in the order in which they were drawn
    for i in sorted(values, key=lambda i: (-values[i], i)):
        tokens = item.group.rollouts[i].tokens
        if len(chosen) < config.per_prompt and tokens not in seen and _good(values[i], [*values.values()], config):
            chosen.add(i)
            seen.add(tokens)
    return tuple((1.0 if i in chosen else 0.0) if i in values else None for i in range(len(item.scores)))


def _good(value: float, group: Sequence[float], config: RejectionTable) -> bool:
    if config.keep == "threshold":
        return value >= config.threshold
    # a mean of equal numbers may differ from them in its last bit
    return min(group) < value and value > fmean(group)
