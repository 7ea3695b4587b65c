"""What a method did with the completions of a step: which models passed over which tokens, and what it could not use.

Worked out again from what a run stores (completions, rewards, advantages), with the functions the trainers learn with,
so that it counts what the method is, not how a learner cuts it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from charter.evaluate.compare_accounting import Architecture, Work, forward_flops, learning_flops, work_of
from charter.train.batch import Advantages, collate, has_signal, rollout_trees
from charter.train.ppo import minibatches, rewarded_trees
from charter.train.preference import best_and_worst, best_and_worst_places
from charter.train.rejection import imitation_of
from charter.types import Rollout, Score, Scored, Tree

LEARNING = frozenset({"policy_learning", "critic_learning"})
"""Passes that have a backward."""

PASSES = (
    "sampling", "policy_forward", "policy_learning", "critic_forward", "critic_learning", "reference_forward",
    "reward_forward",
)  # fmt: skip
"""Every kind of pass. policy_forward and critic_forward are those without a gradient."""


class MethodSettings(Protocol):
    """The tables of a recipe that say how its method learns."""

    @property
    def method(self) -> str: ...
    @property
    def grpo(self) -> Any: ...
    @property
    def ppo(self) -> Any: ...
    @property
    def dpo(self) -> Any: ...
    @property
    def rejection_sft(self) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What of the sampled data a method learnt from. A group is unused where none of its completions is used."""

    groups: int = 0
    groups_unused: int = 0
    completions: int = 0
    completions_unused: int = 0
    tokens: int = 0
    tokens_unused: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            groups=self.groups + other.groups,
            groups_unused=self.groups_unused + other.groups_unused,
            completions=self.completions + other.completions,
            completions_unused=self.completions_unused + other.completions_unused,
            tokens=self.tokens + other.tokens,
            tokens_unused=self.tokens_unused + other.tokens_unused,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """passes: kind → work. largest_update: tokens forwarded for the largest optimizer update."""

    passes: Mapping[str, Work]
    usage: Usage
    largest_update: int


def step_work(
    recipe: MethodSettings, scored: Sequence[Scored], advantages: Advantages, step: int, *, reward_model: bool = False
) -> StepWork:
    """One step of a method that samples.

    advantages: as the run stored them (online DPO has none: an empty row per group will do). reward_model: whether a
    reward passes a model over every completion.
    """
    every = work_of(rollout_trees(scored))
    passes: dict[str, Work] = {"sampling": every}
    if reward_model:
        passes["reward_forward"] = every
    if recipe.method == "grpo":
        config = recipe.grpo
        taught = [i for i, row in enumerate(advantages) if has_signal(row) or not config.dynamic_sampling]
        batch = collate([scored[i] for i in taught], tuple(advantages[i] for i in taught), config)
        learnt = work_of(batch.trees)
        passes["policy_learning"] = learnt.times(config.updates_per_step)
        if config.kl_coef > 0:
            passes["reference_forward"] = learnt if config.kl_in == "loss" else every
        used = [[value is not None and value != 0.0 for value in row] for row in advantages]
        largest = learnt.tokens
    elif recipe.method == "ppo":
        trees, _ = rewarded_trees(scored)
        batches = minibatches(trees, recipe.ppo, step)
        learnt = sum((work_of(batch.trees) for batch in batches), Work())
        passes |= {"policy_forward": work_of(trees), "policy_learning": learnt}
        if recipe.ppo.critic == "separate":
            passes |= {"critic_forward": work_of(trees), "critic_learning": learnt}
        if recipe.ppo.kl_coef > 0:
            passes["reference_forward"] = work_of(trees)
        used = [[s.value is not None and bool(r.tokens) for s, r in _completions(item)] for item in scored]
        largest = max((work_of(batch.trees).tokens for batch in batches), default=0)
    elif recipe.method == "dpo":
        pairs = [best_and_worst(item, recipe.dpo.online_label) for item in scored]
        learnt = work_of(pair for pair in pairs if pair is not None)
        passes |= {"policy_learning": learnt, "reference_forward": learnt}
        used = [_in_pair(item) for item in scored]
        largest = learnt.tokens
    elif recipe.method == "rejection_sft":
        learnt = work_of(imitation_of(scored, advantages).trees)
        passes["policy_learning"] = learnt.times(recipe.rejection_sft.updates_per_step)
        used = [[bool(value) for value in row] for row in advantages]
        largest = learnt.tokens
    else:
        raise ValueError(f"the steps of method {recipe.method!r} sample nothing")
    return StepWork(passes=passes, usage=_usage(scored, used), largest_update=largest)


def pass_flops(
    passes: Mapping[str, Work], policy: Architecture, reward_model: Architecture | None = None
) -> dict[str, int]:
    """Floating-point operations of each kind of pass. reward_model: its architecture; the policy's when left out."""
    found: dict[str, int] = {}
    for name, work in passes.items():
        architecture = (reward_model or policy) if name == "reward_forward" else policy
        head = not name.startswith(("critic", "reward"))
        count = learning_flops if name in LEARNING else forward_flops
        found[name] = count(work, architecture, head=head)
    return found


def learning_from_pairs(trees: Sequence[Tree], *, reference: bool) -> StepWork:
    """A step on given pairs. reference: whether the reference looked at them too (once in a run, for each pair)."""
    learnt = work_of(trees)
    passes = {"policy_learning": learnt} | ({"reference_forward": learnt} if reference else {})
    return StepWork(passes=passes, usage=Usage(), largest_update=learnt.tokens)


def merged(steps: Sequence[StepWork]) -> StepWork:
    """Several steps as one."""
    passes: dict[str, Work] = {}
    usage = Usage()
    for one in steps:
        usage += one.usage
        for name, work in one.passes.items():
            passes[name] = passes.get(name, Work()) + work
    ordered = {name: passes[name] for name in PASSES if name in passes}
    return StepWork(passes=ordered, usage=usage, largest_update=max((one.largest_update for one in steps), default=0))


def _completions(item: Scored) -> Iterator[tuple[Score, Rollout]]:
    return zip(item.scores, item.group.rollouts, strict=True)


def _in_pair(item: Scored) -> list[bool]:
    """Which completions are the pair's."""
    places = best_and_worst_places(item) or ()
    return [i in places for i in range(len(item.scores))]


def _usage(scored: Sequence[Scored], used: Sequence[Sequence[bool]]) -> Usage:
    total = Usage()
    for item, row in zip(scored, used, strict=True):
        lengths = [len(rollout.tokens) for rollout in item.group.rollouts]
        total += Usage(
            groups=1,
            groups_unused=int(not any(row)),
            completions=len(row),
            completions_unused=len(row) - sum(row),
            tokens=sum(lengths),
            tokens_unused=sum(n for n, taken in zip(lengths, row, strict=True) if not taken),
        )
    return total


def with_prompt_tokens(scored: Scored, tokens: tuple[int, ...]) -> Scored:
    """A stored group with the ids of its prompt, which are not stored."""
    return replace(scored, group=replace(scored.group, prompt_tokens=tokens))
