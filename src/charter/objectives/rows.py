"""What an objective sees of a micro-batch, and what it answers.

The learner turns trees into `TokenRows` (one row per completion), an objective turns rows into a `Loss`, and the
learner adds losses up over micro-batches. Everything that must be the same for every split of a step (normalisers,
token counts of whole groups) comes in as a number that was counted before the first micro-batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRows:
    """Completions of one micro-batch, padded to the longest.

    logprobs: `[B, T]` under the policy, with gradient; 0 where the mask is 0. entropy: `[B, T]` nats, no gradient.
    old_logprobs: `[B, T]` of the policy that anchors the ratio, no gradient.
    sampler_logprobs, reference_logprobs: `[B, T]` or None where there are none.
    mask: bool `[B, T]`. advantages: `[B]`, or `[B, T]` where a critic gave one to each token.
    groups: `[B]` number of each row's group in the step.
    group_tokens: `[B]` loss tokens of the whole group, over the whole step.
    normalizers: aggregation name → the step's one normaliser.
    preferred: `[B]` probability that a row is the better one of its pair, or None where there are no pairs.
    values: `[B, T]` of the critic, with gradient; old_values, returns: `[B, T]`, what it said before and what it
    should have said. None where there is no critic.
    """

    logprobs: Tensor
    entropy: Tensor
    old_logprobs: Tensor
    sampler_logprobs: Tensor | None
    reference_logprobs: Tensor | None
    mask: Tensor
    advantages: Tensor
    groups: Tensor
    group_tokens: Tensor
    normalizers: Mapping[str, int]
    preferred: Tensor | None = None
    values: Tensor | None = None
    old_values: Tensor | None = None
    returns: Tensor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRows:
    """Completions of one micro-batch under a preference model: a number for each, the two of a pair side by side.

    scores: `[B]`, with gradient. preferred: `[B]` probability that a row is the better one of its pair.
    groups: `[B]` number of each row's pair in the step. normalizers: as in `TokenRows`.
    """

    scores: Tensor
    preferred: Tensor
    groups: Tensor
    normalizers: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A micro-batch's share of the step's loss.

    value: scalar; the shares of all micro-batches add up to the loss of the step.
    means: metric → (sum, count), pooled over micro-batches into sum / count. largest: metric → maximum.
    """

    value: Tensor
    means: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    largest: Mapping[str, Tensor] = field(default_factory=dict)


class Objective(Protocol):
    """A loss over completions.

    temperature: of the distribution whose log-probabilities it wants. updates: optimizer updates per step.
    needs_reference: whether it reads reference_logprobs. per_token: whether its gradient at a token depends on that
    token's log-probability and on no other's.
    """

    @property
    def temperature(self) -> float: ...
    @property
    def updates(self) -> int: ...
    @property
    def needs_reference(self) -> bool: ...
    @property
    def per_token(self) -> bool: ...
    def __call__(self, rows: TokenRows) -> Loss: ...
