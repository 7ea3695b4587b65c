"""Mean and standard deviation over the positions that a mask keeps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from charter.objectives.masking import as_bool, at_least_single, require_same_shape, zero_outside

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Shaped
    from torch import Tensor


def masked_mean(
    x: Float[Tensor, "*shape"], keep: Bool[Tensor, "*shape"], dim: tuple[int, ...]
) -> Float[Tensor, "*reduced"]:
    """Mean of the kept positions along `dim`, which stays with size 1; 0 where nothing is kept."""
    count = keep.sum(dim, keepdim=True).clamp(min=1)
    return zero_outside(x, keep).sum(dim, keepdim=True) / count


def masked_std(
    x: Float[Tensor, "*shape"], keep: Bool[Tensor, "*shape"], dim: tuple[int, ...]
) -> Float[Tensor, "*reduced"]:
    """Standard deviation with Bessel's correction along `dim`, which stays with size 1; 0 below two kept positions.

    `√( Σ (x − mean)² / (n − 1) )`
    """
    deviation = zero_outside(x - masked_mean(x, keep, dim), keep)
    free = (keep.sum(dim, keepdim=True) - 1).clamp(min=1)
    return (deviation.square().sum(dim, keepdim=True) / free).sqrt()


def all_equal(
    x: Float[Tensor, "*shape"], keep: Bool[Tensor, "*shape"], dim: tuple[int, ...]
) -> Bool[Tensor, "*reduced"]:
    """Whether the kept positions along `dim` hold one and the same number (true where nothing is kept).

    By equality, not by a tolerance on the spread: rewards that differ by 1e-5 do teach something.
    """
    largest = torch.where(keep, x, -torch.inf).amax(dim, keepdim=True)
    smallest = torch.where(keep, x, torch.inf).amin(dim, keepdim=True)
    return largest <= smallest


def whiten(x: Float[Tensor, "*shape"], mask: Shaped[Tensor, "*shape"], *, eps: float = 1e-8) -> Float[Tensor, "*shape"]:
    """Shift and scale the unmasked positions to mean 0 and standard deviation 1, over the whole tensor.

    `(x − mean) / (std + eps)`, std with Bessel's correction; 0 at masked positions, and everywhere if
    the unmasked values are all equal or fewer than two.

    Args:
        x: values, of any shape; a constant of the objective, so no gradient flows.
        mask: 1 for the positions that count.
        eps: added to the standard deviation, in the unit of `x`.

    Returns: whitened values, in the shape of `x`.
    Raises: ValueError if the shapes differ.
    Source: advantage whitening of PPO as in InstructGPT, arXiv 2203.02155.
    """
    require_same_shape(x=x, mask=mask)
    keep = as_bool(mask)
    values = zero_outside(at_least_single(x.detach()), keep)
    if not keep.any():
        return values
    everywhere = tuple(range(x.ndim))
    scaled = (values - masked_mean(values, keep, everywhere)) / (masked_std(values, keep, everywhere) + eps)
    return zero_outside(scaled, keep & ~all_equal(values, keep, everywhere))
