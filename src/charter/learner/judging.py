"""One micro-batch between the forward and the objective: what the objective sees, and the gradient it will ask for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from charter.learner.plan import Piece
from charter.model.logprobs import Upstream
from charter.objectives.rows import Objective, TokenRows
from charter.types import Branch


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

    old, reference: `[B, T]`; without an old one the forward's own log-probabilities anchor the ratio. group_tokens: of
    every group of the step. normalizers: aggregation name → the step's one normaliser.
    """

    objective: Objective
    pieces: Sequence[Piece]
    old: Tensor | None
    reference: Tensor | None
    group_tokens: Sequence[int]
    normalizers: Mapping[str, int]

    @property
    def _anchors_itself(self) -> bool:
        """Whether the forward's own log-probabilities are the old ones."""
        return self.old is None and any(branch.course is None for branch in branches_of(self.pieces))

    def rows(self, forwarded: Forwarded) -> TokenRows:
        """What the objective sees."""
        branches = list(branches_of(self.pieces))
        groups = [piece.group for piece in self.pieces for _ in piece.tree.branches]
        like = forwarded.logprobs
        old: Tensor = like.detach() if self.old is None else self.old
        reference = self.reference
        if reference is None:
            reference = _given([branch.reference_logprobs for branch in branches], forwarded)
        advantages = torch.tensor([b.advantage for b in branches], dtype=like.dtype, device=like.device)
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
            groups=torch.tensor(groups, device=like.device),
            group_tokens=torch.tensor([self.group_tokens[g] for g in groups], dtype=like.dtype, device=like.device),
            normalizers=self.normalizers,
            preferred=torch.tensor([b.preferred for b in branches], dtype=like.dtype, device=like.device),
            values=forwarded.values,
            old_values=old_values,
            returns=returns,
        )

    def upstream(self, mask: Tensor, *, critic: bool) -> Upstream | None:
        """The gradient that the objective will ask for at some masked tokens, from their log-probabilities alone.

        None for an objective that looks at several tokens at once; and on other devices than a CPU, whose chunks are
        computed faster than an objective is asked. critic: whether it will be told values.
        """
        if not self.objective.per_token or mask.device.type != "cpu":
            return None
        anchored = self.old[mask] if self.old is not None else None
        known: list[TokenRows] = []

        def expected(rows: slice, logprobs: Tensor) -> Tensor:
            with torch.enable_grad():
                # the other tokens stand at their old log-probability, or at 0: none of them matters to these
                told = anchored.clone() if anchored is not None else logprobs.new_zeros(int(mask.sum()))
                told[rows] = logprobs
                blank = told.new_zeros(mask.shape)
                padded = blank.masked_scatter(mask, told.requires_grad_())
                if not known:  # all but the log-probabilities is the same for every chunk
                    known.append(self.rows(Forwarded(padded, blank, mask, blank if critic else None)))
                old = padded.detach() if self._anchors_itself else known[0].old_logprobs
                seen = replace(known[0], logprobs=padded, old_logprobs=old)
                (gradient,) = torch.autograd.grad(self.objective(seen).value, told)
            return gradient[rows]

        return expected


def branches_of(pieces: Sequence[Piece]) -> Iterator[Branch]:
    """All branches in the order of the padded rows."""
    return (branch for piece in pieces for branch in piece.tree.branches)


def _given(rows: Sequence[Sequence[float]], forwarded: Forwarded) -> Tensor | None:
    """Numbers that came with the branches as `[B, T]`, 0 where the mask is; None unless every branch has them."""
    return _required(rows, forwarded) if all(rows) else None


def _required(rows: Sequence[Sequence[float]], forwarded: Forwarded) -> Tensor:
    out = forwarded.logprobs.new_zeros(forwarded.mask.shape)
    for row, numbers in enumerate(rows):
        out[row, : len(numbers)] = torch.tensor(numbers, dtype=out.dtype)
    return torch.where(forwarded.mask, out, 0.0)
