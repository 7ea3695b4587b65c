"""Rewards that depend on nothing but length."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Float, Num
    from torch import Tensor


def overlong_penalty(lengths: Num[Tensor, "*shape"], max_tokens: int, soft_window: int) -> Float[Tensor, "*shape"]:
    """A reward that discourages running into the token limit before it is hit.

    With the window starting at S = max_tokens − soft_window:
    0 up to S tokens, (S − length) / soft_window after it, −1 from max_tokens on.

    Args:
        lengths: completion tokens, the closing end-of-sequence token included.
        max_tokens: the limit on a completion, in tokens.
        soft_window: tokens before the limit over which the penalty grows; 0 penalises the limit alone.

    Returns: numbers in [−1, 0], to be added to the reward.
    Raises: ValueError for a limit below 1 or a window outside [0, max_tokens].
    Source: soft overlong punishment of DAPO, arXiv 2503.14476.
    """
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}; expected at least 1")
    if not 0 <= soft_window <= max_tokens:
        raise ValueError(f"soft_window is {soft_window}; expected 0 to max_tokens = {max_tokens}")
    if soft_window == 0:
        return torch.where(lengths >= max_tokens, -1.0, 0.0)
    return (((max_tokens - soft_window) - lengths) / soft_window).clamp(-1, 0)
