"""From scores to advantages to a batch.

What carries no gradient is not put into the batch: groups without signal, completions without a reward, masked
completions, advantages of 0. What the step divides by is counted before that, so leaving them out changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.errors import RewardError
from charter.objectives.advantages import advantages_per_reward, group_advantages
from charter.objectives.length import overlong_penalty
from charter.recipe import GrpoTable
from charter.types import Batch, Branch, Rollout, Score, Scored, Totals, Tree

Advantages = tuple[tuple[float | None, ...], ...]
"""One row per group; None where a completion has no reward or takes no part."""


PartWeights = Mapping[str, float] | Callable[[int], Mapping[str, float]]
"""Reward name → weight, or the same as a function of the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credit:
    """How rewards become advantages.

    part_weights: reward name → weight, for `combine = "per_reward"`; a function of the step where weights change.
    max_new_tokens: the length limit.
    """

    config: GrpoTable
    max_new_tokens: int
    part_weights: PartWeights

    def advantages(self, scored: Sequence[Scored], kl_penalty: Tensor | None = None) -> Advantages:
        """Advantages of a step's groups (all of the same size).

        kl_penalty: `[P, G]` to be subtracted from the reward before the group's baseline (kl_in = "reward").
        """
        if not scored:
            return ()
        keep = torch.tensor([[score.value is not None for score in s.scores] for s in scored])
        extra = self._length_penalty(scored)
        if kl_penalty is not None:
            extra = extra - kl_penalty
        if self.config.combine == "per_reward":
            values = self._per_reward(scored, keep, extra)
        else:
            total = torch.tensor([[score.value or 0.0 for score in s.scores] for s in scored], dtype=torch.float64)
            try:
                values = group_advantages(total + extra, self.config.advantage, mask=keep)
            except ValueError as error:  # max_rl and a reward that is neither 0 nor 1
                raise RewardError(
                    f"grpo.advantage = {self.config.advantage!r} cannot use these rewards: {error}"
                ) from error
        return tuple(
            tuple(value if kept else None for value, kept in zip(row, mask, strict=True))
            for row, mask in zip(values.tolist(), keep.tolist(), strict=True)
        )

    def _per_reward(self, scored: Sequence[Scored], keep: Tensor, extra: Tensor) -> Tensor:
        by_name = self.part_weights(scored[0].group.step) if callable(self.part_weights) else self.part_weights
        names = list(by_name)
        parts = [[[_counted(score, name) for score in s.scores] for s in scored] for name in names]
        present = [[[value is not None for value in row] for row in part] for part in parts]
        filled = [[[value or 0.0 for value in row] for row in part] for part in parts]
        values = torch.tensor(filled, dtype=torch.float64)
        mask = torch.tensor(present) & keep
        weights = [by_name[name] for name in names]
        if extra.any():
            values, mask = torch.cat([values, extra[None]]), torch.cat([mask, keep[None]])
            weights.append(1.0)
        return advantages_per_reward(values, weights, mask=mask)

    def _length_penalty(self, scored: Sequence[Scored]) -> Tensor:
        lengths = torch.tensor([[len(r.tokens) for r in s.group.rollouts] for s in scored])
        if self.config.truncated != "penalize":
            return torch.zeros(lengths.shape, dtype=torch.float64)
        return overlong_penalty(lengths, self.max_new_tokens, self.config.soft_window).double()


def _counted(score: Score, name: str) -> float | None:
    """What a reward counts before its weight: behind its cap and gate, or its own value where nobody said more."""
    return (score.counted or score.parts).get(name)


def collate(scored: Sequence[Scored], advantages: Advantages, config: GrpoTable) -> Batch:
    """The trees that carry gradient, and the totals of everything scored.

    With a KL in the loss every rewarded completion carries gradient, whatever its advantage.
    """
    always = config.kl_coef > 0 and config.kl_in == "loss"
    trees: list[Tree] = []
    tokens = sequences = completions = prompts = 0
    for item, row in zip(scored, advantages, strict=True):
        branches: list[Branch] = []
        unmasked = 0
        for rollout, advantage in zip(item.group.rollouts, row, strict=True):
            if advantage is None:
                continue
            completions += 1
            if not rollout.tokens or (config.truncated == "mask" and rollout.stop == "length"):
                continue
            sequences += 1
            unmasked += len(rollout.tokens)
            if advantage != 0.0 or always:
                branches.append(_branch(rollout, advantage))
        tokens += unmasked
        prompts += unmasked > 0
        if branches:
            trees.append(Tree(prefix=item.group.prompt_tokens, branches=tuple(branches)))
    return Batch(
        trees=tuple(trees),
        totals=Totals(tokens=tokens, sequences=sequences, completions=completions, prompts=prompts),
    )


def has_signal(row: Sequence[float | None]) -> bool:
    """Whether a group's advantages would move the policy."""
    return any(advantage for advantage in row if advantage is not None)


def rollout_trees(scored: Sequence[Scored]) -> tuple[Tree, ...]:
    """Every completion of a step, for a pass without gradient (the reference's log-probabilities)."""
    return tuple(
        Tree(prefix=s.group.prompt_tokens, branches=tuple(_branch(rollout, 0.0) for rollout in s.group.rollouts))
        for s in scored
    )


def _branch(rollout: Rollout, advantage: float) -> Branch:
    return Branch(
        tokens=rollout.tokens,
        mask=(True,) * len(rollout.tokens),
        advantage=advantage,
        sampler_logprobs=rollout.logprobs,
    )
