"""The learner on one device: trees in, one exact optimizer step out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from charter.learner.abreast import abreast, run_in_turn
from charter.learner.judging import Forwarded, Judge
from charter.learner.packing import MicroBatch, branches_of
from charter.learner.plan import (
    Piece,
    Stretch,
    attention_share,
    enough_tokens,
    microbatches,
    opens_prefixes,
    stretches,
    token_budget,
)
from charter.learner.pooling import Pooled
from charter.learner.reading import AfterOpenPrefix, Reader, Whole
from charter.learner.schedule import learning_rate
from charter.learner.updating import OptimizerSettings, Updater
from charter.model.adapters import Adapters
from charter.model.heads import Critic
from charter.model.load import Policy
from charter.model.logprobs import token_logprobs
from charter.objectives.rows import Loss, Objective, TokenRows
from charter.types import Batch, Totals, Tree


@dataclass(frozen=True, slots=True)
class SharedWeights:
    """The policy's own parameters at a version; nothing is copied."""

    version: int
    policy: Policy


@dataclass(frozen=True, slots=True)
class LearnerState:
    """What a resumed learner needs beside the weights: optimizer moments (and adapters) by name, and counters."""

    tensors: Mapping[str, Tensor]
    scalars: Mapping[str, int]


class LocalLearner:
    """AdamW over a policy in this process.

    total_steps: length of the schedule; all updates of a step have one rate. reference: frozen policy for the KL, or
    None; with adapters the policy without them serves. microbatch_tokens: cap on
    one forward; derived from the machine's memory when None. critic: learns beside the policy, at critic_learning_rate.
    """

    def __init__(
        self,
        policy: Policy,
        settings: OptimizerSettings,
        *,
        total_steps: int,
        reference: Policy | None = None,
        adapters: Adapters | None = None,
        microbatch_tokens: int | None = None,
        activation_checkpointing: bool = False,
        critic: Critic | None = None,
        critic_learning_rate: float | None = None,
    ) -> None:
        self.policy = policy
        apart = critic is not None and not critic.shared  # then both models' activations are there together
        fitting = token_budget(policy, checkpointing=activation_checkpointing) // (2 if apart else 1)
        self.microbatch_tokens = microbatch_tokens or fitting
        self._attention_share = attention_share(policy)
        self._opens = opens_prefixes(policy, checkpointing=activation_checkpointing)
        self._settings = settings
        self._total = total_steps
        self._reference = reference
        self._adapters = adapters
        self._steps = 0
        self._critic = critic
        for part in [policy.module] if critic is None or critic.shared else [policy.module, critic.backbone.module]:
            if activation_checkpointing:
                # transformers checkpoints only in training mode; dropout is 0, so nothing else changes
                enable = getattr(part, "activation_checkpointing_enable", None)  # its name in newer transformers
                (enable or part.gradient_checkpointing_enable)({"use_reentrant": False})
                part.train()
        of_policy = {n: p for n, p in policy.module.named_parameters() if p.requires_grad}
        of_critic = dict(critic.named_parameters()) if critic is not None else {}
        share = (critic_learning_rate or settings.learning_rate) / settings.learning_rate
        # a critic of its own does not weigh on the policy's norm
        self.updater = Updater([(of_policy, 1.0), (of_critic, share)], settings, apart=apart)

    @property
    def version(self) -> int:
        """Optimizer updates the weights have seen."""
        return self.updater.version

    def weights(self) -> SharedWeights:
        return SharedWeights(self.updater.version, self.policy)

    def step(self, batch: Batch, objective: Objective) -> dict[str, float]:
        """Make `objective.updates` optimizer updates on one batch.

        The gradient is that of the step's loss under one normaliser, for any cut into micro-batches. An update whose
        loss or gradient norm is not finite is left out and counted in the metric `skipped`; the moments of AdamW do
        not see it. A batch without trees changes nothing.
        """
        plan = self._cut(batch.trees, whole=batch.whole)
        group_tokens = [sum(sum(branch.mask) for branch in tree.branches) for tree in batch.trees]
        normalizers = _normalizers(batch.totals)
        old: dict[int, Tensor] = {}
        reference: dict[int, Tensor] = {}
        self._steps += 1
        rate = learning_rate(self._settings, self._steps, self._total)
        metrics: dict[str, float] = {"skipped": 0.0, "learning_rate": rate}

        def backward(i: int, pieces: Sequence[Piece], reader: Reader) -> Loss:
            micro = MicroBatch.of(pieces, self.policy.device)
            first = i not in old
            if first and objective.needs_reference:
                reference[i] = self._under_reference(micro, objective.temperature, reader)
            judge = Judge(
                objective=objective, micro=micro, old=old.get(i), reference=reference.get(i),
                group_tokens=group_tokens, normalizers=normalizers,
            )  # fmt: skip
            forwarded = self._forward(self.policy, micro, objective.temperature, reader, judge=judge)
            if first:
                old[i] = forwarded.logprobs.detach()
            return _backward(objective, judge.rows(forwarded))

        for _ in range(objective.updates if plan else 0):
            pooled = Pooled()
            self.updater.begin()
            for told in self._in_turn(plan, backward):
                pooled.add(told)
            metrics |= pooled.metrics() | self.updater.apply(pooled.loss, rate, metrics["skipped"])
        metrics["tokens/forwarded"] = float(_tokens(plan) * objective.updates)
        return metrics

    def learn(self, batches: Sequence[Batch], objective: Objective) -> dict[str, float]:
        """One step of several optimizer updates, each on a batch of its own, in order.

        What anchors the ratio comes with the branches (`Branch.course`), so that it is the same for all updates.
        Metrics are means over the updates; an update that is not finite is left out, as in `step`.
        """
        self._steps += 1
        rate = learning_rate(self._settings, self._steps, self._total)
        everything = Pooled()
        forwarded_total, norms, skipped = 0, [0.0], 0.0
        for batch in batches:
            plan = self._cut(batch.trees, whole=batch.whole)
            group_tokens = [sum(sum(branch.mask) for branch in tree.branches) for tree in batch.trees]
            pooled = Pooled()
            self.updater.begin()
            work = partial(self._learn_from, objective, group_tokens, _normalizers(batch.totals))
            for told in self._in_turn(plan, work):
                pooled.add(told)
                everything.add(told)
            forwarded_total += _tokens(plan)
            applied = self.updater.apply(pooled.loss, rate, skipped)
            skipped = applied["skipped"]
            norms.append(applied["grad_norm"])
        metrics = {"skipped": skipped, "learning_rate": rate, "tokens/forwarded": float(forwarded_total)}
        if batches:
            metrics |= everything.metrics() | {"grad_norm": sum(norms) / len(batches)}
            metrics["loss"] = everything.loss / len(batches)
        return metrics

    def _learn_from(
        self,
        objective: Objective,
        group_tokens: Sequence[int],
        normalizers: Mapping[str, int],
        _: int,
        pieces: Sequence[Piece],
        reader: Reader,
    ) -> Loss:
        """Forward and backward of a micro-batch, of policy and critic."""
        micro = MicroBatch.of(pieces, self.policy.device)
        judge = Judge(
            objective=objective, micro=micro, old=None, reference=None,
            group_tokens=group_tokens, normalizers=normalizers,
        )  # fmt: skip
        forwarded = self._forward(self.policy, micro, objective.temperature, reader, critic=self._critic, judge=judge)
        return _backward(objective, judge.rows(forwarded))

    def _in_turn(self, plan: Sequence[Stretch], work: Callable[[int, Sequence[Piece], Reader], Loss]) -> list[Loss]:
        """What `work` tells of every micro-batch, told its number; two at once where that is faster."""
        losses: list[Loss] = []
        critics = [self._critic.backbone] if self._critic is not None and not self._critic.shared else []
        for stretch in plan:
            reader = _reader(stretch)
            weights: list[Tensor] = list(self.updater.named.values())
            for model in (self.policy, *critics):  # by all cores, which nobody else uses yet
                weights += reader.open(model)
            at_once = abreast(stretch.sizes, self.microbatch_tokens - stretch.held_tokens, self.policy.device)
            if self._adapters is not None:  # the reference switches them off, for everybody
                at_once = 1

            def numbered(i: int, stretch: Stretch = stretch, reader: Reader = reader) -> Loss:
                return work(stretch.first + i, stretch.batches[i], reader)

            losses += run_in_turn(len(stretch.batches), numbered, weights, at_once=at_once)
            reader.close()
        return losses

    def assess(
        self, trees: Sequence[Tree], temperature: float
    ) -> tuple[list[list[list[float]]], list[list[list[float]]]]:
        """(log-probabilities, values) of every branch's tokens under policy and critic, without gradient."""
        if self._critic is None:
            raise ValueError("the learner was made without a critic")
        logprobs: list[list[list[float]]] = [[] for _ in trees]
        values: list[list[list[float]]] = [[] for _ in trees]
        with torch.no_grad():
            told: list[tuple[Sequence[Piece], Tensor, Tensor]] = []
            for micro, reader in self._read(trees):
                one = self._forward(self.policy, micro, temperature, reader, critic=self._critic)
                assert one.values is not None
                told.append((micro.pieces, one.logprobs, one.values))
        for pieces, *numbers in told:
            for rows, padded in zip((logprobs, values), numbers, strict=True):
                _distribute(rows, pieces, padded)
        return logprobs, values

    def reference_logprobs(self, trees: Sequence[Tree], temperature: float) -> list[list[list[float]]]:
        """Log-probabilities of every branch's tokens under the reference, per tree and branch."""
        rows: list[list[list[float]]] = [[] for _ in trees]
        told = [
            (micro.pieces, self._under_reference(micro, temperature, reader)) for micro, reader in self._read(trees)
        ]
        for pieces, logprobs in told:
            _distribute(rows, pieces, logprobs)
        return rows

    def use_reference(self, reference: Policy | None) -> None:
        """Hold this policy as the reference from now on; None lets it go."""
        self._reference = reference

    def _read(self, trees: Sequence[Tree]) -> Iterator[tuple[MicroBatch, Reader]]:
        """The micro-batches of these trees, and who reads each."""
        for stretch in self._cut(trees):
            reader = _reader(stretch)
            for pieces in stretch.batches:
                yield MicroBatch.of(pieces, self.policy.device), reader

    def _cut(self, trees: Sequence[Tree], *, whole: bool = False) -> list[Stretch]:
        batches = microbatches(
            trees, self.microbatch_tokens, self._attention_share,
            enough=enough_tokens(self.policy.device), whole=whole, opened=self._opens,
        )  # fmt: skip
        return stretches(batches, opened=self._opens)

    def _forward(
        self,
        policy: Policy,
        micro: MicroBatch,
        temperature: float,
        reader: Reader,
        *,
        critic: Critic | None = None,
        judge: Judge | None = None,
    ) -> Forwarded:
        """Log-probability, entropy and, with a critic, value of every token with loss; 0 elsewhere.

        judge: who will ask for the gradient.
        """
        with policy.arithmetic():
            predicting = reader.predicting(policy, micro)
            logprobs, entropy = token_logprobs(
                predicting, policy.head, micro.targets, temperature,
                upstream=judge.upstream(critic=critic is not None) if judge is not None else None,
            )  # fmt: skip
            told: Tensor | None = None
            if critic is not None:
                if not critic.shared:
                    predicting = reader.predicting(critic.backbone, micro)
                told = critic.values(predicting)
        return Forwarded(
            micro.padded(logprobs),
            micro.padded(entropy),
            micro.mask,
            micro.padded(told.to(logprobs.dtype)) if told is not None else None,
        )

    def _under_reference(self, micro: MicroBatch, temperature: float, reader: Reader) -> Tensor:
        with torch.no_grad():
            if self._reference is not None:
                return self._forward(self._reference, micro, temperature, reader).logprobs
            if self._adapters is not None:
                with self._adapters.disabled():
                    return self._forward(self.policy, micro, temperature, reader).logprobs
        raise ValueError("the objective needs a reference policy, and the learner was made without one")

    def state(self) -> LearnerState:
        """Optimizer moments and counters, and adapter weights where the base is frozen."""
        tensors = self.updater.moments()
        for name, parameter in self.updater.named.items():
            if self._kept_beside(name):
                tensors[f"weight/{name}"] = parameter.detach()
        return LearnerState(tensors, {"version": self.version, "steps": self._steps})

    def load_state(self, state: LearnerState) -> None:
        """Go on from a saved state. Raises ValueError naming a parameter whose moments are missing."""
        self._steps = int(state.scalars["steps"])
        for name, parameter in self.updater.named.items():
            if self._kept_beside(name):
                with torch.no_grad():
                    parameter.copy_(state.tensors[f"weight/{name}"])
        self.updater.load(state.tensors, int(state.scalars["version"]))

    def _kept_beside(self, name: str) -> bool:
        """Whether a trained weight is not in the model's own folder: adapters and the critic."""
        return self._adapters is not None or name.startswith("critic.")

    def save_model(self, folder: Path) -> None:
        """Write the policy as a plain Hugging Face folder, adapters merged in."""
        merged = self._adapters.merged_state(self.policy.module) if self._adapters else None
        self.policy.save(folder, merged)


def _distribute(rows: list[list[list[float]]], pieces: Sequence[Piece], padded: Tensor) -> None:
    """Put each branch's numbers out of `[B, T]` behind those of its tree."""
    groups = [piece.group for piece in pieces for _ in piece.tree.branches]
    for group, branch, row in zip(groups, branches_of(pieces), padded.tolist(), strict=True):
        rows[group].append(row[: len(branch.tokens)])


def _backward(objective: Objective, rows: TokenRows) -> Loss:
    """The loss of these rows with their entropy, out of the graph, whose gradients are added where they belong."""
    loss = objective(rows)
    loss.value.backward()
    means = {**loss.means, "entropy": (rows.entropy.sum(), rows.mask.sum())}
    return Loss(
        value=loss.value.detach(),
        means={name: (total.detach(), count) for name, (total, count) in means.items()},
        largest={name: value.detach() for name, value in loss.largest.items()},
    )


def _reader(stretch: Stretch) -> Reader:
    return Whole() if stretch.prefix is None else AfterOpenPrefix(stretch.prefix)


def _tokens(plan: Sequence[Stretch]) -> int:
    return sum(stretch.held_tokens + sum(stretch.sizes) for stretch in plan)


def _normalizers(totals: Totals) -> dict[str, int]:
    return {
        "token": totals.tokens,
        "sequence": totals.sequences,
        "constant": totals.completions,
        "prompt": totals.prompts,
    }
