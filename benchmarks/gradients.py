"""What Charter's learner computes for a step, seen from outside: the loss, and the gradient before the optimizer."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from charter.learner.local import LocalLearner
from charter.model.load import Policy
from charter.objectives.rows import Loss, TokenRows
from charter.recipe import GrpoTable, OptimizerTable
from charter.train.grpo import GrpoObjective
from charter.types import Batch, Branch, Totals, Tree

_STILL = OptimizerTable(learning_rate=1e-30, max_grad_norm=1e30)
"""An optimizer that leaves the weights where they are, so that one policy serves many measurements."""
_WHOLE = 1 << 30


@dataclass(frozen=True, slots=True)
class Anchored:
    """An objective whose ratio is taken against given log-probabilities: those in `Branch.sampler_logprobs`.

    The learner itself anchors the ratio at its own first forward, where it is 1 and nothing clips; a second update on
    the same completions moves it. This puts the ratio anywhere without a second update.
    """

    inner: GrpoObjective

    @property
    def temperature(self) -> float:
        return self.inner.temperature

    @property
    def updates(self) -> int:
        return 1

    @property
    def needs_reference(self) -> bool:
        return self.inner.needs_reference

    @property
    def per_token(self) -> bool:
        return self.inner.per_token

    def __call__(self, rows: TokenRows) -> Loss:
        assert rows.sampler_logprobs is not None
        return self.inner(replace(rows, old_logprobs=rows.sampler_logprobs, sampler_logprobs=None))


@dataclass(frozen=True, slots=True)
class Computed:
    """loss of a step; gradient by parameter name, before clipping."""

    loss: float
    gradient: dict[str, Tensor]


def make_objective(*, max_new_tokens: int, temperature: float, anchored: bool, **grpo: Any) -> GrpoObjective | Anchored:
    """A [grpo] table as the loss it stands for."""
    inner = GrpoObjective(config=GrpoTable(**grpo), max_new_tokens=max_new_tokens, temperature=temperature)
    return Anchored(inner) if anchored else inner


def compute(
    policy: Policy,
    batch: Batch,
    objective: GrpoObjective | Anchored,
    *,
    budget: int = _WHOLE,
    reference: Policy | None = None,
) -> Computed:
    """One step of a `LocalLearner`, caught between the last backward and the optimizer."""
    learner = LocalLearner(policy, _STILL, total_steps=1, reference=reference, microbatch_tokens=budget)
    caught: list[dict[str, Tensor]] = []
    apply: Callable[..., dict[str, float]] = learner.updater.apply

    def catch(*given: Any) -> dict[str, float]:
        named = policy.module.named_parameters()
        caught.append({name: p.grad.detach().clone() for name, p in named if p.grad is not None})
        return apply(*given)

    learner.updater.apply = catch  # type: ignore[method-assign]
    before = {name: p.detach().clone() for name, p in policy.module.named_parameters()}
    loss = learner.step(batch, objective)["loss"]
    with torch.no_grad():  # the learner's step cannot be left out, so it is taken back
        for name, parameter in policy.module.named_parameters():
            parameter.copy_(before[name])
    (gradient,) = caught
    return Computed(loss, gradient)


def relative_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    """Largest absolute difference over all parameters / largest absolute entry of `b`."""
    if a.keys() != b.keys():
        raise SystemExit(f"gradients of different parameters: {sorted(a.keys() ^ b.keys())}")
    scale = max(float(g.double().abs().max()) for g in b.values())
    return max(float((a[n].double() - b[n].double()).abs().max()) for n in b) / scale


def logprobs_of(policy: Policy, trees: Sequence[Tree], temperature: float) -> list[list[list[float]]]:
    """Log-probability of every branch token under the policy, by the learner's own forward."""
    learner = LocalLearner(policy, _STILL, total_steps=1, reference=policy, microbatch_tokens=_WHOLE)
    return learner.reference_logprobs(trees, temperature)


def totals_of(trees: Sequence[Tree]) -> Totals:
    """What a step of exactly these trees divides by."""
    lengths = [sum(branch.mask) for tree in trees for branch in tree.branches]
    return Totals(tokens=sum(lengths), sequences=len(lengths), completions=len(lengths), prompts=len(trees))


def random_trees(
    seed: int, *, groups: int, completions: tuple[int, int], prefix: tuple[int, int], length: tuple[int, int]
) -> tuple[Tree, ...]:
    """Trees of random ids, sizes within the given bounds, advantages in (−1, 1)."""
    rng = random.Random(seed)

    def ids(bounds: tuple[int, int]) -> tuple[int, ...]:
        return tuple(rng.randrange(3, 259) for _ in range(rng.randint(*bounds)))

    trees: list[Tree] = []
    for _ in range(groups):
        asked = ids(prefix)
        replies = [ids(length) for _ in range(rng.randint(*completions))]
        trees.append(
            Tree(
                prefix=asked,
                branches=tuple(
                    Branch(tokens=reply, mask=(True,) * len(reply), advantage=rng.uniform(-1, 1)) for reply in replies
                ),
            )
        )
    return tuple(trees)


def anchored_near(
    policy: Policy, trees: Sequence[Tree], temperature: float, *, spread: float, seed: int
) -> tuple[Tree, ...]:
    """The same trees with old log-probabilities that differ from the policy's by N(0, spread²) per token."""
    rng = random.Random(seed)
    rows = logprobs_of(policy, trees, temperature)
    return tuple(
        Tree(
            prefix=tree.prefix,
            branches=tuple(
                replace(branch, sampler_logprobs=tuple(lp + rng.gauss(0, spread) for lp in row))
                for branch, row in zip(tree.branches, group, strict=True)
            ),
        )
        for tree, group in zip(trees, rows, strict=True)
    )
