"""Correcting for, and measuring, a sampler that is not the learner's own forward (another engine, precision or age)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from charter.objectives.kl import kl_estimate
from charter.objectives.masking import as_bool, at_least_single, require_same_shape, zero_outside
from charter.objectives.settings import MISMATCH_KINDS, require_choice

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped
    from torch import Tensor


def mismatch_weights(
    old_logprobs: Float[Tensor, "B T"],
    sampler_logprobs: Float[Tensor, "B T"],
    how: str = "truncate",
    cap: float = 2.0,
    *,
    mask: Shaped[Tensor, "B T"] | None = None,
) -> Float[Tensor, "B T"]:
    """Importance weights that make tokens drawn by the sampler μ count as drawn by π_old.

    With w = exp(lp_old − lp_μ): `truncate`: min(w, C); `mask`: w inside [1/C, C], 0 outside; `none`: 1.

    Args:
        old_logprobs, sampler_logprobs: lp_old and lp_μ of the sampled tokens, in nats.
        how: truncate, mask or none. cap: C ≥ 1.
        mask: 1 where the token counts; the weight is 0 elsewhere. None: everywhere.

    Returns: detached weights, to be multiplied on the policy term.
    Raises: ValueError for an unknown `how`, a cap below 1 or shapes that differ.
    Source: `truncate` Ionides, "Truncated importance sampling" (2008).
    """
    require_choice("mismatch correction", how, MISMATCH_KINDS)
    if not cap >= 1:
        raise ValueError(f"the cap on importance weights is {cap}; expected at least 1, the weight without a mismatch")
    require_same_shape(old_logprobs=old_logprobs, sampler_logprobs=sampler_logprobs)
    w = (at_least_single(old_logprobs.detach()) - sampler_logprobs.detach()).exp()
    if how == "none":
        w = torch.ones_like(w)
    elif how == "truncate":
        w = w.clamp(max=cap)
    else:
        w = zero_outside(w, (w >= 1 / cap) & (w <= cap))
    if mask is None:
        return w
    require_same_shape(old_logprobs=old_logprobs, mask=mask)
    return zero_outside(w, as_bool(mask))


def mismatch_statistics(
    old_logprobs: Float[Tensor, "B T"], sampler_logprobs: Float[Tensor, "B T"], mask: Shaped[Tensor, "B T"]
) -> dict[str, Float[Tensor, ""]]:
    """How far the sampler is from the learner, over unmasked tokens.

    Args: as in `mismatch_weights`.

    Returns: detached scalars, 0 where no token is unmasked:
        `sampling/logprob_diff_mean` and `sampling/logprob_diff_max`: of |lp_old − lp_μ|, in nats;
        `sampling/kl`: the mean of k3 for KL(μ ‖ π_old), in nats per token.
    Raises: ValueError if the shapes differ.
    """
    require_same_shape(old_logprobs=old_logprobs, sampler_logprobs=sampler_logprobs, mask=mask)
    keep = as_bool(mask)
    gap = zero_outside((at_least_single(old_logprobs) - sampler_logprobs).abs().detach(), keep)
    # the tokens were drawn by the sampler, so the estimator's first argument is the sampler
    divergence = kl_estimate(sampler_logprobs.detach(), old_logprobs, "k3", mask=mask)
    tokens = keep.sum().clamp(min=1)
    return {
        "sampling/logprob_diff_mean": gap.sum() / tokens,
        "sampling/logprob_diff_max": gap.amax() if gap.numel() else gap.sum(),
        "sampling/kl": divergence.sum() / tokens,
    }
