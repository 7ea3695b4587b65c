"""One micro-batch between the forward and the objective: what the objective sees, and the gradient it will ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from charter.learner.packing import MicroBatch, branches_of
from charter.model.logprobs import Upstream
from charter.model.sending import send
from charter.objectives.rows import Objective, TokenRows


@dataclass(frozen=True, slots=True)
class Forwarded:
    """One micro-batch's log-probabilities, `[B, T]`, and the mask they are valid under."""

    logprobs: Tensor
    entropy: Tensor
    mask: Tensor
    values: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """An objective and all that it is told of a micro-batch besides the forward.

    micro: what is forwarded. old, reference: `[B, T]`; without an old one the forward's own log-probabilities anchor
    the ratio. group_tokens: of every group of the step. normalizers: aggregation name → the step's one normaliser.
    """

    objective: Objective
    micro: MicroBatch
    old: Tensor | None
    reference: Tensor | None
    group_tokens: Sequence[int]
    normalizers: Mapping[str, int]

    @property
    def _anchors_itself(self) -> bool:
        """Whether the forward's own log-probabilities are the old ones."""
        return self.old is None and any(branch.course is None for branch in branches_of(self.micro.pieces))

    def rows(self, forwarded: Forwarded) -> TokenRows:
        """What the objective sees."""
        branches = list(branches_of(self.micro.pieces))
        groups = [piece.group for piece in self.micro.pieces for _ in piece.tree.branches]
        like = forwarded.logprobs
        old: Tensor = like.detach() if self.old is None else self.old
        reference = self.reference
        if reference is None:
            reference = _given([branch.reference_logprobs for branch in branches], forwarded)
        advantages = _per_row([b.advantage for b in branches], like)
        old_values = returns = None
        courses = [branch.course for branch in branches if branch.course is not None]
        if len(courses) == len(branches) > 0:
            old, old_values, advantages, returns = (
                _required([getattr(course, name) for course in courses], forwarded)
                for name in ("old_logprobs", "old_values", "advantages", "returns")
            )
        return TokenRows(
            logprobs=like,
            entropy=forwarded.entropy,
            old_logprobs=old,
            sampler_logprobs=_given([branch.sampler_logprobs for branch in branches], forwarded),
            reference_logprobs=reference,
            mask=forwarded.mask,
            advantages=advantages,
            groups=send(torch.tensor(groups), like.device),
            group_tokens=_per_row([self.group_tokens[g] for g in groups], like),
            normalizers=self.normalizers,
            preferred=_per_row([b.preferred for b in branches], like),
            values=forwarded.values,
            old_values=old_values,
            returns=returns,
        )

    def upstream(self, *, critic: bool) -> Upstream | None:
        """The gradient that the objective will ask for at some tokens with loss, from their log-probabilities alone.

        None for an objective that looks at several tokens at once; and on other devices than a CPU, whose chunks are
        computed faster than an objective is asked. critic: whether it will be told values.
        """
        mask = self.micro.mask
        if not self.objective.per_token or mask.device.type != "cpu":
            return None
        anchored = self.old.flatten().index_select(0, self.micro.places) if self.old is not None else None
        known: list[TokenRows] = []

        def expected(rows: slice, logprobs: Tensor) -> Tensor:
            with torch.enable_grad():
                # the other tokens stand at their old log-probability, or at 0: none of them matters to these
                told = anchored.clone() if anchored is not None else logprobs.new_zeros(len(self.micro.places))
                told[rows] = logprobs
                blank = told.new_zeros(mask.shape)
                padded = self.micro.padded(told.requires_grad_())
                if not known:  # all but the log-probabilities is the same for every chunk
                    known.append(self.rows(Forwarded(padded, blank, mask, blank if critic else None)))
                old = padded.detach() if self._anchors_itself else known[0].old_logprobs
                seen = replace(known[0], logprobs=padded, old_logprobs=old)
                (gradient,) = torch.autograd.grad(self.objective(seen).value, told)
            return gradient[rows]

        return expected


def _given(rows: Sequence[Sequence[float]], forwarded: Forwarded) -> Tensor | None:
    """Numbers that came with the branches as `[B, T]`, 0 where the mask is; None unless every branch has them."""
    return _required(rows, forwarded) if all(rows) else None


def _required(rows: Sequence[Sequence[float]], forwarded: Forwarded) -> Tensor:
    like = forwarded.logprobs
    out = torch.zeros(forwarded.mask.shape, dtype=like.dtype)
    for row, numbers in enumerate(rows):
        out[row, : len(numbers)] = torch.tensor(numbers, dtype=out.dtype)
    return torch.where(forwarded.mask, send(out, like.device), 0.0)


def _per_row(numbers: Sequence[float], like: Tensor) -> Tensor:
    return send(torch.tensor(numbers, dtype=like.dtype), like.device)
