"""Policy losses per token, and what the ratio between two policies looks like."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from charter.objectives.masking import as_bool, at_least_single, require_same_shape, zero_outside
from charter.objectives.mismatch import mismatch_statistics, mismatch_weights
from charter.objectives.settings import (
    DEFAULT_CLIP,
    POLICY_KINDS,
    check_policy_settings,
    clip_range,
    named_settings,
    require_dual_clip,
)

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped
    from torch import Tensor

__all__ = [
    "DEFAULT_CLIP",
    "MAX_LOG_RATIO",
    "POLICY_KINDS",
    "check_policy_settings",
    "importance_ratio",
    "mismatch_statistics",
    "mismatch_weights",
    "policy_loss",
    "ratio_statistics",
]

MAX_LOG_RATIO = 40.0
"""Log-ratios are cut here, in nats: exp(40) is far outside any trust region, and exp(89) is infinite in float32,
whose product with the zero gradient of a clipped token would be NaN."""


def policy_loss(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, " B"] | Float[Tensor, "B T"],
    mask: Shaped[Tensor, "B T"],
    *,
    kind: str = "clip",
    clip_low: float | None = None,
    clip_high: float | None = None,
    dual_clip: float | None = None,
    **named: float,
) -> Float[Tensor, "B T"]:
    """What each token adds to the objective, to be minimised.

    With ρ = exp(lp − lp_old):
    `reinforce`: −A · lp;
    `clip`: −min(ρ A, clip(ρ, 1 − ε_low, 1 + ε_high) A), where A < 0 at most c·|A| with `dual_clip` = c;
    `gspo`: as `clip` with s = exp(mean over the row's unmasked tokens of lp − lp_old) in place of ρ;
    `cispo`: −stopgrad(min(ρ, 1 + ε_high)) · A · lp;
    `sapo`: −(4/τ) · sigmoid(τ(ρ − 1)) · A, τ = `tau_positive` (1.0) where A > 0, `tau_negative` (1.05) where A < 0;
    `dppo_tv`: −keep · A · ρ, keep = 1 iff A > 0 and π − π_old ≤ δ, or A < 0 and π − π_old ≥ −δ, δ = `delta` (0.2).

    Args:
        logprobs: lp of the sampled tokens, in nats; the gradient flows here alone.
        old_logprobs: lp_old, the anchor of the ratio, in nats (the same forward's own lp on-policy).
        advantages: A, one per row or one per token.
        mask: 1 for tokens that carry loss.
        kind: one of `POLICY_KINDS`.
        clip_low, clip_high: ε_low and ε_high; None takes the kind's own default (`DEFAULT_CLIP`: 0.2 and 0.2 for
            `clip`, 3e-4 and 4e-4 for `gspo`, no lower bound and 4 for `cispo`). A kind without a bound reads none.
        dual_clip: c > 1, for `clip` only.
        **named: the constants in brackets above, for their kind only.

    Returns: loss per token, float32 or float64; exactly 0 and without gradient where the mask is 0.
    Raises: ValueError for an unknown kind, shapes that differ or a constant out of range; TypeError for a named
        argument that the kind does not have.
    Source: Williams 1992; PPO arXiv 1707.06347; dual clip arXiv 1912.09729; GSPO arXiv 2507.18071; CISPO arXiv
        2506.13585; SAPO; DPPO arXiv 2602.04879.
    Not here: the mean over tokens (`charter.objectives.aggregation`), the KL term (`charter.objectives.kl`).
    """
    low, high = clip_range(kind, clip_low, clip_high)
    options = named_settings(kind, named)
    require_dual_clip(kind, dual_clip)
    require_same_shape(logprobs=logprobs, old_logprobs=old_logprobs, mask=mask)
    keep = as_bool(mask)
    lp = zero_outside(at_least_single(logprobs), keep)
    old = zero_outside(at_least_single(old_logprobs.detach()), keep)
    # with all three 0 under the mask so is every loss, and no NaN comes back through the sequence ratio's gradient
    a = zero_outside(_per_token(advantages, logprobs).to(lp.dtype), keep)

    if kind == "reinforce":
        loss = -a * lp
    elif kind == "cispo":
        weight = _ratio(lp.detach(), old).clamp(max=1 + _bound(high))
        loss = -weight * a * lp
    elif kind == "sapo":
        tau = torch.full_like(a, options["tau_negative"]).masked_fill(a > 0, options["tau_positive"])
        loss = -(4 / tau) * torch.sigmoid(tau * (_ratio(lp, old) - 1)) * a
    elif kind == "dppo_tv":
        moved = lp.exp() - old.exp()
        trusted = torch.where(a > 0, moved <= options["delta"], moved >= -options["delta"])
        loss = zero_outside(-a * _ratio(lp, old), trusted)
    else:
        ratio = _sequence_ratio(lp, old, keep) if kind == "gspo" else _ratio(lp, old)
        loss = -torch.minimum(ratio * a, ratio.clamp(1 - _bound(low), 1 + _bound(high)) * a)
        if dual_clip is not None:
            loss = torch.where(a < 0, torch.minimum(loss, -dual_clip * a), loss)
    return loss


def importance_ratio(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    mask: Shaped[Tensor, "B T"],
    *,
    kind: str = "clip",
) -> Float[Tensor, "B T"]:
    """The ratio a kind works with, detached: ρ per token, or for `gspo` the row's s at each of its tokens.

    Returns: ratios, exactly 0 where the mask is 0.
    Raises: ValueError if the shapes differ.
    """
    require_same_shape(logprobs=logprobs, old_logprobs=old_logprobs, mask=mask)
    keep = as_bool(mask)
    lp = zero_outside(at_least_single(logprobs.detach()), keep)
    old = zero_outside(old_logprobs.detach(), keep)
    ratio = _sequence_ratio(lp, old, keep) if kind == "gspo" else _ratio(lp, old)
    return zero_outside(ratio.expand_as(lp), keep)


def ratio_statistics(
    logprobs: Float[Tensor, "B T"],
    old_logprobs: Float[Tensor, "B T"],
    advantages: Float[Tensor, " B"] | Float[Tensor, "B T"],
    mask: Shaped[Tensor, "B T"],
    clip_low: float | None = None,
    clip_high: float | None = None,
    *,
    kind: str = "clip",
) -> dict[str, Float[Tensor, ""]]:
    """How far the policy has moved from the one its data came from.

    Args: as in `policy_loss`; the bounds of a kind that has none count nothing.

    Returns: detached scalars over unmasked tokens, 0 where there are none:
        `clip_ratio/low`: share with A < 0 and ratio < 1 − ε_low;
        `clip_ratio/high`: share with A > 0 and ratio > 1 + ε_high;
        `ratio/mean`: mean of the ratio itself.
    Raises: ValueError for an unknown kind or shapes that differ.
    """
    low, high = clip_range(kind, clip_low, clip_high)
    ratio = importance_ratio(logprobs, old_logprobs, mask, kind=kind)
    keep = as_bool(mask)
    a = _per_token(advantages, logprobs)
    none = torch.zeros_like(keep)
    below = none if low is None else keep & (a < 0) & (ratio < 1 - low)
    above = none if high is None else keep & (a > 0) & (ratio > 1 + high)
    tokens = keep.sum().clamp(min=1)
    return {
        "clip_ratio/low": below.sum() / tokens,
        "clip_ratio/high": above.sum() / tokens,
        "ratio/mean": ratio.sum() / tokens,
    }


def _ratio(lp: Tensor, old: Tensor) -> Tensor:
    """ρ = exp(lp − lp_old) per token."""
    return (lp - old).clamp(max=MAX_LOG_RATIO).exp()


def _sequence_ratio(lp: Tensor, old: Tensor, keep: Tensor) -> Tensor:
    """s = exp(mean over unmasked tokens of lp − lp_old), one per row, shape [B, 1]; lp and old are 0 where masked."""
    tokens = keep.sum(-1, keepdim=True).clamp(min=1)
    return ((lp - old).sum(-1, keepdim=True) / tokens).clamp(max=MAX_LOG_RATIO).exp()


def _per_token(advantages: Tensor, logprobs: Tensor) -> Tensor:
    """Advantages at every token, detached."""
    per_row = advantages.ndim == 1 and len(advantages) == len(logprobs)
    spread = advantages[:, None].expand_as(logprobs) if per_row else advantages
    if spread.shape != logprobs.shape:
        raise ValueError(
            f"advantages have the shape {list(advantages.shape)}; expected one per row [{len(logprobs)}] "
            f"or one per token {list(logprobs.shape)}"
        )
    return spread.detach()


def _bound(epsilon: float | None) -> float:
    """The ε of a kind that reads one; `DEFAULT_CLIP` says which do."""
    assert epsilon is not None, "a kind reads a bound that DEFAULT_CLIP does not give it"
    return epsilon
