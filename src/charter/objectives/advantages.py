"""Advantages of the completions of a group, from their rewards alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from charter.objectives.masking import as_bool, require_same_shape, zero_outside
from charter.objectives.moments import all_equal, masked_mean, masked_std
from charter.objectives.settings import ESTIMATORS, GROUP_EPS, require_choice

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Num, Shaped
    from torch import Tensor

_GROUP = (-1,)


def group_advantages(
    rewards: Num[Tensor, "P G"],
    estimator: str = "center",
    *,
    mask: Shaped[Tensor, "P G"] | None = None,
    eps: float = GROUP_EPS,
) -> Float[Tensor, "P G"]:
    """How much better each completion did than the others of its group.

    With the mean and the standard deviation (Bessel's correction) over the group's rewards r:
    `center`: r − mean; `standardize`: (r − mean) / (std + eps); `leave_one_out`: r − mean of the others;
    `batch_std`: (r − mean) / (std of all rewards of the step + eps); `max_rl`: (r − mean) / mean, 0 where mean ≤ 0.
    A group whose rewards are all equal gets exactly 0, and so does one with fewer than two rewards.

    Args:
        rewards: one row per prompt, one column per completion, in any unit.
        estimator: one of `ESTIMATORS`.
        mask: 1 where the completion has a reward; the others get 0 and count nowhere. None: all have one.
        eps: added to the standard deviation, in the unit of the rewards.

    Returns: advantages in the dtype of the rewards (float32 if those are integers), computed in float64.
    Raises: ValueError for an unknown estimator, a group of one completion, a reward that is not finite,
        rewards other than 0 and 1 with `max_rl`.
    Source: `center` arXiv 2503.20783; `standardize` arXiv 2402.03300; `leave_one_out` arXiv 2402.14740;
        `batch_std` arXiv 2501.03262; `max_rl` MaxRL.
    """
    require_choice("advantage estimator", estimator, ESTIMATORS)
    keep = _rewarded(rewards, estimator, mask)
    r = zero_outside(rewards.double(), keep)
    mean = masked_mean(r, keep, _GROUP)
    centred = r - mean
    if estimator == "standardize":
        advantages = centred / (masked_std(r, keep, _GROUP) + eps)
    elif estimator == "leave_one_out":
        count = keep.sum(-1, keepdim=True)
        advantages = centred * count / (count - 1)
    elif estimator == "batch_std":
        advantages = centred / (masked_std(r, keep, (0, 1)) + eps)
    elif estimator == "max_rl":
        if not ((r == 0) | (r == 1)).all():
            raise ValueError(f"max_rl needs rewards of 0 or 1; found {r[(r != 0) & (r != 1)][0].item():g}")
        advantages = centred / mean
    else:
        advantages = centred
    return zero_outside(advantages, keep & ~all_equal(r, keep, _GROUP)).to(_float_dtype(rewards))


def has_signal(rewards: Num[Tensor, "P G"], mask: Shaped[Tensor, "P G"] | None = None) -> Bool[Tensor, " P"]:
    """Which groups teach anything: those with two rewards that differ.

    Args: rewards, mask: as in `group_advantages`.
    Returns: one boolean per group; false means every estimator gives exactly 0 to the whole group.
    """
    keep = torch.ones_like(rewards, dtype=torch.bool) if mask is None else as_bool(mask)
    return ~all_equal(rewards.double(), keep, _GROUP).squeeze(-1)


def combine_rewards(
    parts: Num[Tensor, "K P G"],
    weights: Sequence[float] | Num[Tensor, " K"],
    how: str = "sum",
    mask: Shaped[Tensor, "K P G"] | None = None,
    *,
    eps: float = GROUP_EPS,
) -> Float[Tensor, "P G"]:
    """Several rewards as one number per completion.

    `sum`: Σ_k w_k r_k, still a reward: give it to `group_advantages`.
    `per_reward`: Σ_k w_k (r_k − mean_k) / (std_k + eps), with mean and std inside the group; what
    `advantages_per_reward` whitens. A part without a value adds nothing; a completion has a reward if
    at least one part does (`mask.any(0)`).

    Args:
        parts: one layer per named reward. weights: its factor. how: "sum" or "per_reward".
        mask: 1 where that reward gave that completion a value. None: everywhere.
        eps: added to each standard deviation, in the unit of its reward.

    Returns: combined values, 0 where no part has one.
    Raises: ValueError for an unknown `how`, a weight that is missing or not finite, a reward that is not finite.
    Source: `per_reward` GDPO, arXiv 2601.05242.
    """
    require_choice("combination of rewards", how, ("sum", "per_reward"))
    factors = torch.as_tensor(weights, dtype=torch.float64, device=parts.device)
    if factors.shape != parts.shape[:1]:
        raise ValueError(f"{len(parts)} rewards with weights of shape {list(factors.shape)}; expected one weight each")
    if not factors.isfinite().all():
        raise ValueError(f"the weights {factors.tolist()} are not all finite numbers")
    keep = torch.ones_like(parts, dtype=torch.bool) if mask is None else as_bool(mask)
    require_same_shape(parts=parts, mask=keep)
    if how == "per_reward":
        layers = [
            group_advantages(layer.double(), "standardize", mask=kept, eps=eps)
            for layer, kept in zip(parts, keep, strict=True)
        ]
        values = torch.stack(layers)
    else:
        _require_finite(parts, keep)
        values = zero_outside(parts, keep)
    return (factors[:, None, None] * values).sum(0).to(_float_dtype(parts))


def advantages_per_reward(
    parts: Num[Tensor, "K P G"],
    weights: Sequence[float] | Num[Tensor, " K"],
    *,
    mask: Shaped[Tensor, "K P G"] | None = None,
    eps: float = GROUP_EPS,
) -> Float[Tensor, "P G"]:
    """Advantages from several rewards, none of which drowns the others.

    `S = Σ_k w_k (r_k − mean_k) / (std_k + eps)` in each group, then `A = S / (std of S over the step + eps)`.
    Whitening subtracts no mean, because S sums to 0 over every group by construction: subtracting the rounding
    error of that 0 would give groups without signal an advantage.

    Args: as in `combine_rewards`.
    Returns: advantages; exactly 0 in groups where no reward tells two completions apart.
    Raises: as `combine_rewards`.
    Source: GDPO, arXiv 2601.05242.
    """
    combined = combine_rewards(parts.double(), weights, "per_reward", mask, eps=eps)
    keep = torch.ones_like(combined, dtype=torch.bool) if mask is None else as_bool(mask).any(0)
    return (combined / (masked_std(combined, keep, (0, 1)) + eps)).to(_float_dtype(parts))


def _float_dtype(rewards: Tensor) -> torch.dtype:
    """Where the answer goes: the rewards' own dtype, or float32 for integers and booleans."""
    return rewards.dtype if rewards.is_floating_point() else torch.float32


def _rewarded(rewards: Tensor, estimator: str, mask: Tensor | None) -> Tensor:
    """Which completions have a reward, after refusing what no estimator can answer."""
    if rewards.ndim != 2:
        raise ValueError(f"rewards have the shape {list(rewards.shape)}; expected [prompts, completions per prompt]")
    if rewards.shape[1] < 2:
        raise ValueError(
            f"{estimator} compares the completions of a group and was given groups of {rewards.shape[1]}; "
            "sample at least 2 completions per prompt"
        )
    keep = torch.ones_like(rewards, dtype=torch.bool) if mask is None else as_bool(mask)
    require_same_shape(rewards=rewards, mask=keep)
    _require_finite(rewards, keep)
    return keep


def _require_finite(rewards: Tensor, keep: Tensor) -> None:
    """Raise ValueError, naming the first place, if a reward that counts is NaN or infinite."""
    broken = keep & ~rewards.isfinite()
    if broken.any():
        place = broken.nonzero()[0].tolist()
        raise ValueError(
            f"the reward at {place} is {rewards[tuple(place)].item()}; rewards must be finite: "
            "leave a completion without a reward out by the mask"
        )
