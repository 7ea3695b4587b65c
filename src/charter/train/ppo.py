"""PPO with a critic (RLHF): every token gets an advantage of its own, from a critic that learns what to expect.

    r_t  = −c · (lp_old − lp_ref),  and the completion's reward on its last token
    A, R = GAE(r, V; γ, λ),  A whitened over the step's tokens
    loss = mean over tokens of  −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) + c_V · ½ max((V − R)², (clip(V, V_old ± v) − R)²)

Several epochs of minibatches over one step's completions. Source: PPO (arXiv 1707.06347); InstructGPT (arXiv
2203.02155).
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from charter.objectives.aggregation import aggregate
from charter.objectives.kl import kl_estimate
from charter.objectives.policy import policy_loss, ratio_statistics
from charter.objectives.rows import Loss, TokenRows
from charter.objectives.value import gae, value_loss, whiten
from charter.protocols import CriticLearner, PromptSource, Reward, Sampler
from charter.recipe import PpoTable, SamplingTable
from charter.run.metrics import describe_groups
from charter.train.rounds import StepClock, sample_and_score
from charter.train.scoring import refuse_failures
from charter.types import Batch, Branch, Course, Scored, Totals, Tree, Update

Told = Sequence[Sequence[Sequence[float]]]
"""Numbers of every token, per tree and branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoObjective:
    """The loss of a minibatch: policy and critic under one normaliser."""

    config: PpoTable
    temperature: float

    @property
    def updates(self) -> int:
        return self.config.epochs * self.config.minibatches

    @property
    def needs_reference(self) -> bool:
        return False  # the KL is in the rewards

    @property
    def per_token(self) -> bool:
        return True

    def __call__(self, rows: TokenRows) -> Loss:
        if rows.values is None or rows.old_values is None or rows.returns is None:
            raise ValueError("PPO needs a critic, and the course of every completion")
        config, mask = self.config, rows.mask
        policy = policy_loss(
            rows.logprobs, rows.old_logprobs, rows.advantages, mask,
            kind="clip", clip_low=config.clip, clip_high=config.clip,
        )  # fmt: skip
        clip = config.value_clip or None
        value = value_loss(rows.values, rows.old_values, rows.returns, mask, clip=clip)
        count = mask.sum()
        told = ratio_statistics(
            rows.logprobs, rows.old_logprobs, rows.advantages, mask, config.clip, config.clip, kind="clip"
        )
        means = {name: (number * count, count) for name, number in told.items()}
        means["policy/loss"] = policy.detach().sum(), count
        means["value/loss"] = value.detach().sum(), count
        if clip is not None:
            away = ((rows.values.detach() - rows.old_values).abs() > clip) & mask
            means["value/clip_ratio"] = away.sum(), count
        total = aggregate(
            policy + config.value_coef * value, mask, how="token", groups=rows.groups,
            normalizer=rows.normalizers["token"], group_tokens=rows.group_tokens,
        )  # fmt: skip
        return Loss(value=total, means=means)


async def ppo(
    prompts: PromptSource,
    sampler: Sampler,
    reward: Reward,
    learner: CriticLearner,
    config: PpoTable,
    sampling: SamplingTable,
    *,
    start: int = 1,
) -> AsyncGenerator[Update]:
    """Yield one Update per step, from step `start` on, without end.

    Raises RewardError when more than config.max_error_rate of a step's rewards failed.
    """
    objective = PpoObjective(config=config, temperature=sampling.temperature)
    most = config.prompts_per_step * sampling.group_size
    for step, chosen in prompts.steps(config.prompts_per_step, start=start):
        clock = StepClock()
        scored = await sample_and_score(
            chosen, sampler, reward, sampling, step, clock, max_error_rate=config.max_error_rate, most=most
        )
        refuse_failures(scored, config.max_error_rate)
        learning = time.perf_counter()
        trees, rewards = rewarded_trees(scored)
        logprobs, values = learner.assess(trees, sampling.temperature) if trees else ((), ())
        asked = config.kl_coef > 0 and trees
        reference = learner.reference_logprobs(trees, sampling.temperature) if asked else logprobs
        guided, told = with_courses(trees, rewards, logprobs, values, reference, config)
        learned = learner.learn(minibatches(guided, config, step), objective)
        clock.add("time/learn_s", time.perf_counter() - learning)
        await sampler.load(learner.weights())
        advantages = _mean_advantages(scored, guided)
        yield Update(
            step=step,
            version=learner.version,
            metrics=dict(learned) | told | describe_groups(scored, advantages) | clock.metrics(scored, learned),
            scored=scored,
            advantages=advantages,
        )


def rewarded_trees(scored: Sequence[Scored]) -> tuple[tuple[Tree, ...], tuple[tuple[float, ...], ...]]:
    """A tree per group of the completions that have a reward and a token, and their rewards in the same order."""
    trees: list[Tree] = []
    rewards: list[tuple[float, ...]] = []
    for item in scored:
        kept = [
            (Branch(tokens=r.tokens, mask=(True,) * len(r.tokens), sampler_logprobs=r.logprobs), score.value)
            for r, score in zip(item.group.rollouts, item.scores, strict=True)
            if score.value is not None and r.tokens
        ]
        if kept:
            trees.append(Tree(prefix=item.group.prompt_tokens, branches=tuple(branch for branch, _ in kept)))
            rewards.append(tuple(value for _, value in kept))
    return tuple(trees), tuple(rewards)


def with_courses(
    trees: Sequence[Tree],
    rewards: Sequence[Sequence[float]],
    logprobs: Told,
    values: Told,
    reference: Told,
    config: PpoTable,
) -> tuple[tuple[Tree, ...], dict[str, float]]:
    """The trees with advantages and returns for every token, and the metrics of the critic.

    rewards: per tree and branch. logprobs, values, reference: per token, as policy, critic and reference said.
    """
    if not trees:
        return (), {}
    flat_rewards = [value for row in rewards for value in row]
    old, mask = _padded(logprobs)
    told_values, _ = _padded(values)
    d = kl_estimate(old, _padded(reference)[0], "k1", mask=mask)
    per_token = -config.kl_coef * d
    last = mask.sum(-1) - 1
    per_token[torch.arange(len(last)), last] += torch.tensor(flat_rewards, dtype=torch.float64)
    advantages, returns = gae(per_token, told_values, mask, gamma=config.gamma, lam=config.lam)
    used = whiten(advantages, mask) if config.whiten else advantages
    spread = float(returns[mask].var(correction=0))
    metrics = {"value/mean": float(told_values[mask].mean()), "returns/mean": float(returns[mask].mean())}
    if config.kl_coef > 0:
        metrics["kl"] = float(d.sum() / mask.sum())
    if spread > 0:
        metrics["value/explained_variance"] = 1 - float((returns - told_values)[mask].var(correction=0)) / spread
    courses = iter(
        Course(
            old_logprobs=tuple(old[i, :n].tolist()),
            old_values=tuple(told_values[i, :n].tolist()),
            advantages=tuple(used[i, :n].tolist()),
            returns=tuple(returns[i, :n].tolist()),
        )
        for i, n in enumerate(mask.sum(-1).tolist())
    )
    guided = tuple(
        replace(tree, branches=tuple(replace(branch, course=next(courses)) for branch in tree.branches))
        for tree in trees
    )
    return guided, metrics


def minibatches(trees: Sequence[Tree], config: PpoTable, step: int) -> list[Batch]:
    """Every epoch's completions in minibatches of about equal size, shuffled by the step and the epoch alone.

    Completions of one prompt that fall into one minibatch share it. A minibatch without completions is left out.
    """
    places = [(g, b) for g, tree in enumerate(trees) for b in range(len(tree.branches))]
    batches: list[Batch] = []
    for epoch in range(config.epochs):
        order = list(places)
        random.Random(f"{step}:{epoch}").shuffle(order)
        cuts = [round(i * len(order) / config.minibatches) for i in range(config.minibatches + 1)]
        for low, high in pairwise(cuts):
            chosen = sorted(order[low:high])
            if chosen:
                batches.append(_batch([(g, trees[g].branches[b]) for g, b in chosen], trees))
    return batches


def _batch(chosen: Sequence[tuple[int, Branch]], trees: Sequence[Tree]) -> Batch:
    by_tree: dict[int, list[Branch]] = {}
    for group, branch in chosen:
        by_tree.setdefault(group, []).append(branch)
    parts = tuple(Tree(prefix=trees[g].prefix, branches=tuple(branches)) for g, branches in by_tree.items())
    tokens = sum(len(branch.tokens) for _, branch in chosen)
    return Batch(
        trees=parts,
        totals=Totals(tokens=tokens, sequences=len(chosen), completions=len(chosen), prompts=len(parts)),
    )


def _padded(told: Told) -> tuple[Tensor, Tensor]:
    """(numbers `[B, T]`, which of them are there)."""
    rows = [row for rows in told for row in rows]
    width = max(map(len, rows))
    out = torch.zeros(len(rows), width, dtype=torch.float64)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        out[i, : len(row)] = torch.tensor(row, dtype=torch.float64)
        mask[i, : len(row)] = True
    return out, mask


def _mean_advantages(scored: Sequence[Scored], trees: Sequence[Tree]) -> tuple[tuple[float | None, ...], ...]:
    """Mean advantage of each completion's tokens, None where it took no part."""
    branches = iter(branch for tree in trees for branch in tree.branches)
    rows: list[tuple[float | None, ...]] = []
    for item in scored:
        row: list[float | None] = []
        for rollout, score in zip(item.group.rollouts, item.scores, strict=True):
            course = next(branches).course if score.value is not None and rollout.tokens else None
            row.append(sum(course.advantages) / len(course.advantages) if course is not None else None)
        rows.append(tuple(row))
    return tuple(rows)
