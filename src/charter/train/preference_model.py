"""A preference model: a number for every reply, higher for the better one.

    loss of a pair = −[p log σ(s_a − s_b) + (1 − p) log σ(s_b − s_a)],      L = mean over the pairs of the step

s is read at the closing token of a reply. p is the label of each pair: as given (soft), rounded to 0 or 1 (hard), or
kept inside a range (clamped), so that the three can be compared by changing one key. Both replies of a pair share their
prompt in one tree. Source: Bradley and Terry 1952; soft and clamped labels from AI feedback as in arXiv 2212.08073.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from charter.objectives.preference import bradley_terry_loss, preference_statistics
from charter.objectives.rows import Loss, ScoreRows
from charter.protocols import PairSource
from charter.recipe import PreferenceTable
from charter.train.preference import pair_batch, pair_tree
from charter.train.rounds import StepClock
from charter.train.sft import Encode
from charter.types import Batch, Branch, Pair, Tree, Update


class ScoreLearner(Protocol):
    """A learner whose model gives a score to a completion; it has neither a sampler to feed nor a reference."""

    @property
    def version(self) -> int: ...
    def step(self, batch: Batch, objective: Any) -> Mapping[str, float]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class BradleyTerryObjective:
    """The loss of a step's pairs: the mean over them. Rows come in twos, a pair's side by side."""

    def __call__(self, rows: ScoreRows) -> Loss:
        """Raises: ValueError for a pair of which one reply is in another micro-batch."""
        if len(rows.groups) % 2 or not torch.equal(rows.groups[0::2], rows.groups[1::2]):
            raise ValueError("a pair was cut: both answers must be in one micro-batch")
        a, b = rows.scores[0::2].double(), rows.scores[1::2].double()
        p = rows.preferred[0::2].double()
        margin = (a - b).detach()
        decided, direction = p != 0.5, torch.sign(p - 0.5)
        hits = (1 + torch.sign(margin) * direction) / 2
        count = torch.tensor(len(p))
        return Loss(
            value=bradley_terry_loss(a, b, p).sum() / rows.normalizers["prompt"],
            means={
                "preference/accuracy": (hits[decided].sum(), decided.sum()),
                "preference/margin": (((2 * p - 1) * margin).sum(), count),
                "preference/brier": ((torch.sigmoid(margin) - p).square().sum(), count),
            },
        )


async def preference_model(
    pairs: PairSource, encode: Encode, learner: ScoreLearner, config: PreferenceTable, *, start: int = 1
) -> AsyncGenerator[Update]:
    """Learn from pairs; yield one Update per step, from step `start` on, without end.

    Raises DataError for a pair longer than config.max_tokens.
    """
    objective = BradleyTerryObjective()
    known: dict[str, Tree] = {}  # tokenizing takes longer than a step on a frozen backbone, and comes once per epoch
    for step, chosen in pairs.steps(config.pairs_per_step, start=start):
        clock = StepClock()
        known |= {pair.id: scored_tree(pair, encode, config) for pair in chosen if pair.id not in known}
        trees = [known[pair.id] for pair in chosen]
        learning = time.perf_counter()
        learned = learner.step(pair_batch(trees, [[()] * len(tree.branches) for tree in trees]), objective)
        clock.add("time/learn_s", time.perf_counter() - learning)
        metrics = dict(learned) | {"pairs": float(len(trees))} | clock.metrics((), learned)
        yield Update(step=step, version=learner.version, metrics=metrics)


def label(p: float, config: PreferenceTable) -> float:
    """p as the table's `labels` says: soft, hard (1/2 stays 1/2) or clamped."""
    if config.labels == "hard":
        return float((p > 0.5) - (p < 0.5)) / 2 + 0.5
    if config.labels == "clamped":
        low, high = config.clamp
        return min(high, max(low, p))
    return p


def scored_tree(pair: Pair, encode: Encode, config: PreferenceTable) -> Tree:
    """A pair as one tree, under the label that it is to be learnt with. Raises DataError as `pair_tree` does."""
    labelled = replace(pair, p=label(pair.p, config))
    return pair_tree(labelled, encode, config.max_tokens, key="preference.max_tokens")


def replies_by_prompt(trees: Sequence[Tree]) -> list[Tree]:
    """One tree per prompt with every distinct reply, in the order they first stand: what is to be worked out once."""
    found: dict[tuple[int, ...], dict[tuple[int, ...], Branch]] = {}
    for tree in trees:
        for branch in tree.branches:
            found.setdefault(tree.prefix, {}).setdefault(branch.tokens, branch)
    return [Tree(prefix=prefix, branches=tuple(replies.values())) for prefix, replies in found.items()]


def statistics(margins: Sequence[float], labels: Sequence[float], *, bins: int = 10) -> Mapping[str, float]:
    """How well margins s_a − s_b agree with labels p.

    Returns: {"accuracy", "ece", "margin", "loss", "brier"} as `preference_statistics`, and loss in nats per pair and
    brier = mean (σ(margin) − p)², which is 0.25 for a model without an opinion and labels of 0 and 1.
    Raises: ValueError without a pair.
    """
    margin, p = torch.tensor(margins, dtype=torch.float64), torch.tensor(labels, dtype=torch.float64)
    found = preference_statistics(margin, p, bins=bins)
    loss = bradley_terry_loss(margin, torch.zeros_like(margin), p).mean()
    return found | {"loss": float(loss), "brier": float((torch.sigmoid(margin) - p).square().mean())}
