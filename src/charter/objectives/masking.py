"""Masked tensors without surprises: what stands under a 0 of the mask never reaches a result or a gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped
    from torch import Tensor


def as_bool(mask: Shaped[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """The mask as booleans: anything but 0 keeps its position."""
    return mask != 0


def zero_outside(x: Float[Tensor, "*shape"], keep: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`x` where `keep`, exactly 0 elsewhere.

    A selection, not a product: 0 · NaN and 0 · inf are NaN, in the value and in the gradient.
    """
    return torch.where(keep, x, 0)


def at_least_single(x: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`x` in float32, or in float64 where it is that already: sums and exponentials need the precision."""
    return x if x.dtype == torch.float64 else x.float()


def require_same_shape(**tensors: Tensor) -> None:
    """Raise ValueError, naming every tensor and its shape, unless all shapes are equal."""
    if len({tuple(x.shape) for x in tensors.values()}) > 1:
        listed = ", ".join(f"{name} {list(x.shape)}" for name, x in tensors.items())
        raise ValueError(f"these tensors must have one shape: {listed}")
