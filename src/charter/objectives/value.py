"""The critic's side of PPO: advantages over time, the value loss, whitening."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from charter.objectives.masking import as_bool, at_least_single, require_same_shape, zero_outside
from charter.objectives.moments import whiten

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped
    from torch import Tensor

__all__ = ["gae", "value_loss", "whiten"]


@torch.no_grad()
def gae(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    mask: Shaped[Tensor, "B T"],
    *,
    gamma: float = 1.0,
    lam: float = 0.95,
) -> tuple[Float[Tensor, "B T"], Float[Tensor, "B T"]]:
    """Generalised advantage estimates, and the returns that the critic should have foreseen.

    `δ_t = r_t + γ V_{t+1} − V_t`, `A_t = δ_t + γ λ A_{t+1}`, `R_t = A_t + V_t`, where t + 1 is the row's next unmasked
    token and both terms after its last one are 0: the episode ends there.

    Args:
        rewards: per token, any unit; put a completion's reward on its last unmasked token.
        values: the critic's prediction before each token, in the same unit.
        mask: 1 for the tokens the policy wrote; the others are passed over, whatever stands there.
        gamma: discount per token in [0, 1]. lam: λ in [0, 1]; 0 trusts the critic, 1 the rewards.

    Returns: advantages and returns, detached, 0 where the mask is 0.
    Raises: ValueError for a γ or λ outside [0, 1] or shapes that differ.
    Source: arXiv 1506.02438; constants as in InstructGPT, arXiv 2203.02155.
    """
    for name, share in (("gamma", gamma), ("lam", lam)):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is {share}; expected a number in [0, 1]")
    require_same_shape(rewards=rewards, values=values, mask=mask)
    keep = as_bool(mask)
    v = at_least_single(values)
    advantages = torch.empty_like(v)
    next_value, next_advantage = torch.zeros_like(v[:, :1]), torch.zeros_like(v[:, :1])
    for t in reversed(range(v.shape[1])):
        here = slice(t, t + 1)
        delta = rewards[:, here] + gamma * next_value - v[:, here]
        next_advantage = torch.where(keep[:, here], delta + gamma * lam * next_advantage, next_advantage)
        next_value = torch.where(keep[:, here], v[:, here], next_value)
        advantages[:, here] = next_advantage
    return zero_outside(advantages, keep), zero_outside(advantages + v, keep)


def value_loss(
    values: Float[Tensor, "B T"],
    old_values: Float[Tensor, "B T"],
    returns: Float[Tensor, "B T"],
    mask: Shaped[Tensor, "B T"],
    *,
    clip: float | None = 0.2,
) -> Float[Tensor, "B T"]:
    """The critic's squared error per token, where a step too far from the old prediction earns nothing.

    `½ max((V − R)², (clip(V, V_old − c, V_old + c) − R)²)`

    Args:
        values: V, the gradient flows here. old_values: V_old, when the returns were computed. returns: R.
        mask: 1 for tokens that carry loss. clip: c, in the unit of the values; None for the plain squared error.

    Returns: loss per token; exactly 0 and without gradient where the mask is 0.
    Raises: ValueError for a c that is not positive or shapes that differ.
    Source: PPO's reference implementation; InstructGPT, arXiv 2203.02155.
    """
    if clip is not None and not clip > 0:
        raise ValueError(f"clip is {clip}; expected a number above 0, or None")
    require_same_shape(values=values, old_values=old_values, returns=returns, mask=mask)
    keep = as_bool(mask)
    v = zero_outside(at_least_single(values), keep)
    old, target = old_values.detach(), returns.detach()
    error = (v - target).square()
    if clip is not None:
        error = torch.maximum(error, (v.clamp(old - clip, old + clip) - target).square())
    return zero_outside(error / 2, keep)
