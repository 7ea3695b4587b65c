"""Divergence from a reference policy, estimated at the tokens that were sampled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from charter.objectives.masking import as_bool, at_least_single, require_same_shape, zero_outside
from charter.objectives.settings import KL_KINDS, require_choice

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped
    from torch import Tensor


def kl_estimate(
    logprobs: Float[Tensor, "*shape"],
    ref_logprobs: Float[Tensor, "*shape"],
    kind: str = "k3",
    *,
    mask: Shaped[Tensor, "*shape"] | None = None,
) -> Float[Tensor, "*shape"]:
    """KL(π ‖ π_ref) per token, from tokens drawn by π.

    With d = lp − lp_ref: `k1` = d (unbiased, may be negative); `k2` = d²/2 (its gradient is that of the reverse
    KL, on-policy); `k3` = exp(−d) + d − 1 (unbiased, never negative).

    Args:
        logprobs: lp, in nats; the gradient flows here. ref_logprobs: lp_ref, in nats; a constant.
        kind: k1, k2 or k3.
        mask: 1 where the token counts; elsewhere the estimate and its gradient are exactly 0, whatever stands there.

    Returns: nats per token.
    Raises: ValueError for an unknown kind or shapes that differ.
    Source: Schulman, "Approximating KL divergence" (2020); on the gradients arXiv 2506.09477.
    Not here: the coefficient and the aggregation, which is the policy term's own.
    """
    require_choice("KL estimator", kind, KL_KINDS)
    require_same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs)
    lp, ref = at_least_single(logprobs), ref_logprobs.detach()
    if mask is not None:
        require_same_shape(logprobs=logprobs, mask=mask)
        keep = as_bool(mask)
        lp, ref = zero_outside(lp, keep), zero_outside(ref, keep)
    d = lp - ref
    if kind == "k1":
        return d
    if kind == "k2":
        return d.square() / 2
    # expm1 keeps the digits that exp(−d) − 1 loses where the policies nearly agree
    return torch.expm1(-d) + d
