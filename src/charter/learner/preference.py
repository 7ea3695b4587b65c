"""The learner of a preference model: a scalar head, and as much of the backbone as is to learn with it.

A backbone that does not learn says the same about a reply in every step. So its states at the closing tokens are worked
out once, before the first step (`features`), and a step is then a logistic regression on numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from charter.errors import ModelError
from charter.learner.local import LearnerState, SharedWeights
from charter.learner.plan import Piece, attention_share, enough_tokens, microbatches, token_budget
from charter.learner.pooling import Pooled
from charter.learner.schedule import learning_rate
from charter.learner.updating import OptimizerSettings, Updater
from charter.model.heads import ScalarHead
from charter.model.load import Policy
from charter.model.prefix import forwarded_tokens
from charter.model.scorer import ScoreFacts, closing_states, closing_trees, save_scorer
from charter.objectives.rows import Loss, ScoreRows
from charter.types import Batch, Tree

Features = Callable[[Sequence[Tree]], Sequence[Sequence[Sequence[float]]]]
"""Trees → the backbone's state `[D]` at the closing token of every branch, out of a file."""


class PreferenceLearner:
    """AdamW over a scalar head and the last layers of its backbone.

    trainable_layers: how many of the backbone's layers learn, from the last one on, with the norm behind them; None:
    the whole backbone; 0: none. total_steps: length of the schedule. head_learning_rate: peak rate of the head; the
    optimizer's when left out. microbatch_tokens: cap on one forward; derived from the machine's memory when None.
    features: once set, they stand in for a frozen backbone. facts: asked whenever the model is saved.
    """

    def __init__(
        self,
        policy: Policy,
        head: ScalarHead,
        settings: OptimizerSettings,
        *,
        total_steps: int,
        trainable_layers: int | None = None,
        head_learning_rate: float | None = None,
        microbatch_tokens: int | None = None,
        activation_checkpointing: bool = False,
    ) -> None:
        """Raises: ModelError where the backbone has fewer layers than are to learn."""
        self.policy = policy
        self.head = head
        self.frozen = trainable_layers == 0
        self.features: Features | None = None
        self.facts: Callable[[], ScoreFacts] | None = None
        self.microbatch_tokens = microbatch_tokens or token_budget(policy, checkpointing=activation_checkpointing)
        self._attention_share = attention_share(policy)
        self._settings = settings
        self._total = total_steps
        self._steps = 0
        if activation_checkpointing and not self.frozen:
            policy.module.gradient_checkpointing_enable({"use_reentrant": False})
            policy.module.train()  # transformers checkpoints only in training mode; dropout is 0
        learning = _choose(policy, trainable_layers)
        share = (head_learning_rate or settings.learning_rate) / settings.learning_rate
        self.updater = Updater([(learning, 1.0), ({"score.weight": head.weight}, share)], settings)

    @property
    def version(self) -> int:
        """Optimizer updates the weights have seen."""
        return self.updater.version

    def weights(self) -> SharedWeights:
        """The backbone's own parameters."""
        return SharedWeights(self.version, self.policy)

    def step(self, batch: Batch, objective: Callable[[ScoreRows], Loss]) -> dict[str, float]:
        """One optimizer update on whole pairs, whose gradient is the same for any cut into micro-batches.

        An update that is not finite is left out and reported as `skipped`.
        """
        self._steps += 1
        rate = learning_rate(self._settings, self._steps, self._total)
        pooled, forwarded = Pooled(), 0
        self.updater.begin()
        normalizers = {"prompt": batch.totals.prompts}
        for pieces, scores in self._scored(batch.trees):
            rows = ScoreRows(
                scores=scores,
                preferred=torch.tensor(
                    [b.preferred for piece in pieces for b in piece.tree.branches], dtype=torch.float64
                ).to(scores.device),
                groups=torch.tensor([p.group for p in pieces for _ in p.tree.branches], device=scores.device),
                normalizers=normalizers,
            )
            loss = objective(rows)
            loss.value.backward()
            pooled.add(loss)
            forwarded += 0 if self.features else sum(forwarded_tokens(piece.tree) for piece in pieces)
        metrics = {"learning_rate": rate, **pooled.metrics(), **self.updater.apply(pooled.loss, rate, 0.0)}
        return metrics | {"tokens/forwarded": float(forwarded)}

    def scores(self, trees: Sequence[Tree]) -> list[list[float]]:
        """The score of every branch's closing token, per tree, without gradient."""
        found: list[list[float]] = [[] for _ in trees]
        with torch.no_grad():
            for pieces, scores in self._scored(trees, whole=False):
                values = iter(scores.tolist())
                for piece in pieces:
                    found[piece.group] += [next(values) for _ in piece.tree.branches]
        return found

    def closing(self, trees: Sequence[Tree]) -> list[list[list[float]]]:
        """The backbone's state at every branch's closing token, per tree: what `features` gives back later."""
        found: list[list[list[float]]] = [[] for _ in trees]
        with torch.no_grad():
            for pieces, states in self._states(trees, whole=False):
                rows = iter(states.tolist())
                for piece in pieces:
                    found[piece.group] += [next(rows) for _ in piece.tree.branches]
        return found

    def _scored(self, trees: Sequence[Tree], *, whole: bool = True) -> Iterator[tuple[Sequence[Piece], Tensor]]:
        """Yield (trees or parts of them, scores `[B]`) per micro-batch."""
        if self.features is not None:
            told = self.features(trees)
            weight = self.head.weight
            states = torch.tensor([row for rows in told for row in rows], dtype=weight.dtype, device=weight.device)
            if len(states):
                yield [Piece(i, tree) for i, tree in enumerate(trees)], self.head.scores(states)
            return
        for pieces, states in self._states(trees, whole=whole):
            yield pieces, self.head.scores(states)

    def _states(self, trees: Sequence[Tree], *, whole: bool) -> Iterator[tuple[Sequence[Piece], Tensor]]:
        closed = closing_trees(trees)
        enough = enough_tokens(self.policy.device)
        cut = microbatches(closed, self.microbatch_tokens, self._attention_share, enough=enough, whole=whole)
        for pieces in cut:
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                states = closing_states(self.policy, [piece.tree for piece in pieces])
            yield pieces, states

    def state(self) -> LearnerState:
        """Optimizer moments, the head, and counters."""
        tensors = {**self.updater.moments(), "weight/score.weight": self.head.weight.detach()}
        return LearnerState(tensors, {"version": self.version, "steps": self._steps})

    def load_state(self, state: LearnerState) -> None:
        """Go on from a saved state. Raises ValueError naming a parameter whose moments are missing."""
        self._steps = int(state.scalars["steps"])
        with torch.no_grad():
            self.head.weight.copy_(state.tensors["weight/score.weight"])
        self.updater.load(state.tensors, int(state.scalars["version"]))

    def save_model(self, folder: Path) -> None:
        """Write the preference model as `charter.model.scorer.load_scorer` reads it, with what `facts` says of it."""
        if self.facts is None:
            raise ValueError("nobody has said on which replies the scores are measured: set `facts` first")
        save_scorer(folder, self.policy, self.head, self.facts())


def _choose(policy: Policy, layers: int | None) -> Mapping[str, torch.nn.Parameter]:
    """The backbone's parameters that learn, by name; all others are frozen. The output layer has no part in a score."""
    base = policy.module.base_model
    if layers is None:
        learning = dict(base.named_parameters())
    else:
        stack = getattr(base, "layers", None) or getattr(base, "h", None)
        if stack is None or layers > len(stack):
            there = "no list of layers" if stack is None else f"{len(stack)} layers"
            raise ModelError(f"preference.trainable_layers = {layers}, and the backbone has {there}")
        chosen = {id(p) for layer in list(stack)[len(stack) - layers :] for p in layer.parameters()}
        norm = getattr(base, "norm", None) or getattr(base, "ln_f", None)
        chosen |= {id(p) for p in norm.parameters()} if norm is not None and layers else set()
        learning = {name: p for name, p in base.named_parameters() if id(p) in chosen}
    kept = {id(p) for p in learning.values()}
    for parameter in policy.module.parameters():
        parameter.requires_grad_(id(parameter) in kept)
    return learning


def spread(scores: Sequence[float]) -> tuple[float, float]:
    """(mean, standard deviation with N − 1; 0 for fewer than two)."""
    if not scores:
        return 0.0, 0.0
    mean = math.fsum(scores) / len(scores)
    if len(scores) < 2:
        return mean, 0.0
    return mean, math.sqrt(math.fsum((s - mean) ** 2 for s in scores) / (len(scores) - 1))
