"""GRPO: sample a group, score it with rules, raise what beat the group.

    A_i = r_i − mean(r),   loss = Σ_tokens −min(ρ A, clip(ρ, 1 − ε_low, 1 + ε_high) A) / Σ tokens

No critic and no reward model; with kl_coef = 0 no reference model either. Every name in the recipe's [grpo] table is
defined in `charter.objectives`. Source: DeepSeekMath (arXiv 2402.03300), DeepSeek-R1 (arXiv 2501.12948).
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.objectives.aggregation import aggregate
from charter.objectives.kl import kl_estimate
from charter.objectives.mismatch import mismatch_statistics, mismatch_weights
from charter.objectives.policy import check_policy_settings, policy_loss, ratio_statistics
from charter.objectives.rows import Loss, TokenRows
from charter.protocols import Learner, PromptSource, Reward, Sampler
from charter.recipe import GrpoTable, SamplingTable
from charter.run.metrics import describe_groups
from charter.train.batch import Credit, PartWeights, collate, has_signal, rollout_trees
from charter.train.rounds import StepClock, sample_and_score
from charter.train.scoring import refuse_failures
from charter.types import Scored, Update


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpoObjective:
    """The loss of a GRPO step, as its recipe says."""

    config: GrpoTable
    max_new_tokens: int
    temperature: float

    def __post_init__(self) -> None:
        config = self.config
        senseless = check_policy_settings(config.loss, config.clip_low, config.clip_high, config.dual_clip)
        if senseless:
            raise ValueError("; ".join(senseless))

    @property
    def updates(self) -> int:
        return self.config.updates_per_step

    @property
    def needs_reference(self) -> bool:
        return self.config.kl_coef > 0 and self.config.kl_in == "loss"

    @property
    def per_token(self) -> bool:
        return self.config.loss != "gspo"  # whose ratio is a sequence's

    def __call__(self, rows: TokenRows) -> Loss:
        config, mask = self.config, rows.mask
        losses = policy_loss(
            rows.logprobs, rows.old_logprobs, rows.advantages, mask,
            kind=config.loss, clip_low=config.clip_low, clip_high=config.clip_high, dual_clip=config.dual_clip,
        )  # fmt: skip
        count = mask.sum()
        means: dict[str, tuple[Tensor, Tensor]] = {}
        largest: dict[str, Tensor] = {}
        if rows.sampler_logprobs is not None:
            if config.mismatch != "none":
                losses = losses * mismatch_weights(
                    rows.old_logprobs, rows.sampler_logprobs, config.mismatch, config.mismatch_cap, mask=mask
                )
            _pool(mismatch_statistics(rows.old_logprobs, rows.sampler_logprobs, mask), count, means, largest)
        if rows.reference_logprobs is not None:
            kl = kl_estimate(rows.logprobs, rows.reference_logprobs, config.kl_estimator or "k2", mask=mask)
            losses = losses + config.kl_coef * kl
            means["kl"] = kl.detach().sum(), count
        if self.updates > 1:
            _pool(
                ratio_statistics(
                    rows.logprobs, rows.old_logprobs, rows.advantages, mask,
                    config.clip_low, config.clip_high, kind=config.loss,
                ),
                count, means, largest,
            )  # fmt: skip
        value = aggregate(
            losses,
            mask,
            how=config.aggregation,
            groups=rows.groups,
            max_tokens=self.max_new_tokens,
            normalizer=rows.normalizers[config.aggregation],
            group_tokens=rows.group_tokens,
        )
        return Loss(value=value, means=means, largest=largest)


async def grpo(
    prompts: PromptSource,
    sampler: Sampler,
    reward: Reward,
    learner: Learner,
    config: GrpoTable,
    sampling: SamplingTable,
    *,
    part_weights: PartWeights,
    start: int = 1,
) -> AsyncGenerator[Update]:
    """Yield one Update per step, from step `start` on, without end.

    The caller records, checkpoints and decides when to stop. A step whose groups carry no signal leaves the weights
    as they are. Raises RewardError when more than config.max_error_rate of a step's rewards failed.
    """
    credit = Credit(config=config, max_new_tokens=sampling.max_new_tokens, part_weights=part_weights)
    objective = GrpoObjective(config=config, max_new_tokens=sampling.max_new_tokens, temperature=sampling.temperature)
    most = config.prompts_per_step * sampling.group_size * (1 + config.max_refill if config.dynamic_sampling else 1)
    for step, chosen in prompts.steps(config.prompts_per_step, start=start):
        clock = StepClock()
        scored = await sample_and_score(
            chosen, sampler, reward, sampling, step, clock, max_error_rate=config.max_error_rate, most=most
        )
        divergence = _reference_divergence(scored, learner, config, sampling)
        advantages = credit.advantages(scored, _penalty(divergence, config))
        rounds = 0
        while config.dynamic_sampling and rounds < config.max_refill:
            missing = config.prompts_per_step - sum(map(has_signal, advantages))
            if missing <= 0:
                break
            rounds += 1
            fresh = prompts.refill(step, rounds, missing)
            more = await sample_and_score(
                fresh, sampler, reward, sampling, step, clock, max_error_rate=config.max_error_rate, most=most
            )
            scored += more
            divergence += _reference_divergence(more, learner, config, sampling)
            advantages = credit.advantages(
                scored, _penalty(divergence, config)
            )  # some estimators look at the whole step
        refuse_failures(scored, config.max_error_rate)
        taught = [i for i, row in enumerate(advantages) if has_signal(row) or not config.dynamic_sampling]
        batch = collate([scored[i] for i in taught], tuple(advantages[i] for i in taught), config)
        learning = time.perf_counter()
        learned = learner.step(batch, objective)
        clock.add("time/learn_s", time.perf_counter() - learning)
        await sampler.load(learner.weights())
        yield Update(
            step=step,
            version=learner.version,
            metrics=dict(learned)
            | describe_groups(scored, advantages)
            | {"groups/refilled": float(len(scored) - len(chosen))}
            | _mean_divergence(divergence, scored)
            | clock.metrics(scored, learned),
            scored=scored,
            advantages=advantages,
        )


def _reference_divergence(
    scored: Sequence[Scored], learner: Learner, config: GrpoTable, sampling: SamplingTable
) -> list[list[float]]:
    """Σ_t of the KL estimator for every completion, per group; empty where the KL is not in the reward."""
    if not scored or config.kl_coef == 0 or config.kl_in != "reward":
        return []
    reference = learner.reference_logprobs(rollout_trees(scored), sampling.temperature)
    return [
        [
            kl_estimate(
                torch.tensor(rollout.logprobs, dtype=torch.float64),
                torch.tensor(row, dtype=torch.float64),
                config.kl_estimator or "k1",
            )
            .sum()
            .item()
            for rollout, row in zip(item.group.rollouts, rows, strict=True)
        ]
        for item, rows in zip(scored, reference, strict=True)
    ]


def _penalty(divergence: Sequence[Sequence[float]], config: GrpoTable) -> Tensor | None:
    """kl_coef · divergence `[P, G]`, to be subtracted from the reward."""
    return config.kl_coef * torch.tensor(divergence, dtype=torch.float64) if divergence else None


def _mean_divergence(divergence: Sequence[Sequence[float]], scored: Sequence[Scored]) -> dict[str, float]:
    """The metric `kl`, per token, where it was measured for the reward."""
    tokens = sum(len(rollout.tokens) for item in scored for rollout in item.group.rollouts)
    return {"kl": sum(map(sum, divergence)) / tokens} if divergence and tokens else {}


def _pool(
    statistics: Mapping[str, Tensor], count: Tensor, means: dict[str, tuple[Tensor, Tensor]], largest: dict[str, Tensor]
) -> None:
    """Means over a micro-batch's tokens become sums, so that they pool over micro-batches."""
    for name, value in statistics.items():
        if name.endswith("max"):
            largest[name] = value
        else:
            means[name] = value * count, count
