"""From a loss per token to one number: a single definition, as a weight per token.

The law: whatever the split into micro-batches, the padding and the order of completions, a step has one loss and one
gradient. It holds because the normaliser is of the whole step and comes from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from charter.objectives.masking import as_bool, at_least_single, require_same_shape, zero_outside
from charter.objectives.settings import AGGREGATIONS, require_choice

if TYPE_CHECKING:
    from jaxtyping import Float, Int, Shaped
    from torch import Tensor


@runtime_checkable
class Counts(Protocol):
    """Anything that holds the step's counts: `Normalizers` here, or the batch's own totals."""

    @property
    def tokens(self) -> int: ...
    @property
    def sequences(self) -> int: ...
    @property
    def completions(self) -> int: ...
    @property
    def prompts(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalizers:
    """What each aggregation divides by, counted over a whole step.

    tokens: unmasked tokens. sequences: completions with at least one. completions: all completions.
    prompts: groups with at least one unmasked token (0 where the groups were not given).
    """

    tokens: int
    sequences: int
    completions: int
    prompts: int


def normalizers(mask: Shaped[Tensor, "B T"], groups: Int[Tensor, " B"] | None = None) -> Normalizers:
    """Count a step.

    Args: mask: one row per completion, 1 for tokens that carry loss. groups: any integer per row, equal within a group.
    Raises: ValueError if there are not as many groups as rows.
    """
    rows = as_bool(mask).any(-1)
    return Normalizers(
        tokens=int(as_bool(mask).sum()),
        sequences=int(rows.sum()),
        completions=len(mask),
        prompts=0 if groups is None else _occupied_groups(_checked(groups, mask, "groups"), rows),
    )


def normalizer_of(counts: Counts, how: str) -> int:
    """The count that an aggregation divides by.

    Args: counts: of the whole step, over all ranks. how: one of `AGGREGATIONS`.
    Raises: ValueError for an unknown aggregation.
    """
    require_choice("aggregation", how, AGGREGATIONS)
    return {
        "token": counts.tokens,
        "sequence": counts.sequences,
        "constant": counts.completions,
        "prompt": counts.prompts,
    }[how]


def token_weights(
    mask: Shaped[Tensor, "B T"],
    *,
    how: str = "token",
    groups: Int[Tensor, " B"] | None = None,
    max_tokens: int | None = None,
    normalizer: float | Tensor | None = None,
    group_tokens: Shaped[Tensor, " B"] | None = None,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "B T"]:
    """The factor on each token's loss in the step's loss.

    `token`: m / N, N = unmasked tokens of the step;
    `sequence`: m / (N · tokens of the row), N = rows of the step with an unmasked token;
    `constant`: m / (N · max_tokens), N = all completions of the step;
    `prompt`: m / (N · tokens of the row's group), N = groups of the step with an unmasked token.

    Args:
        mask: m, one row per completion, 1 for tokens that carry loss.
        how: one of `AGGREGATIONS`.
        groups: any integer per row, equal within a group; read by `prompt` alone.
        max_tokens: the configured limit on a completion, in tokens; read by `constant` alone.
        normalizer: N of the whole step, when these rows are a part of it. None: these rows are the step.
        group_tokens: per row, the unmasked tokens of its whole group over the step: a group may then be split between
            calls. None: every group is whole here. Read by `prompt` alone.
        dtype: of the weights.

    Returns: weights, exactly 0 where the mask is 0.
    Raises: ValueError for an unknown aggregation, or a count that it needs and was not given or cannot be.
    Source: `token` DAPO arXiv 2503.14476; `sequence` GRPO arXiv 2402.03300; `constant` Dr. GRPO arXiv 2503.20783.
    """
    require_choice("aggregation", how, AGGREGATIONS)
    if normalizer is not None and not normalizer > 0:
        raise ValueError(f"the normalizer of a step is {float(normalizer):g}; expected a count above 0")
    keep = as_bool(mask)
    row_tokens = keep.sum(-1)
    if how == "token":
        per_row = torch.ones_like(row_tokens)
    elif how == "sequence":
        per_row = row_tokens
    elif how == "constant":
        if max_tokens is None or max_tokens < 1:
            raise ValueError(f'aggregation "constant" divides by max_tokens, at least 1; found {max_tokens}')
        per_row = torch.full_like(row_tokens, max_tokens)
    else:
        if groups is None:
            raise ValueError('aggregation "prompt" needs groups, an integer per row that is equal within a group')
        if group_tokens is not None and normalizer is None:
            raise ValueError("with group_tokens these rows are a part of the step: give the step's normalizer too")
        per_row = _group_tokens(_checked(groups, mask, "groups"), row_tokens, group_tokens)
    if normalizer is None:
        normalizer = max(normalizer_of(normalizers(mask, groups if how == "prompt" else None), how), 1)
    # a row without tokens divides by 0 here and is left out below
    divisor = per_row.to(dtype) * normalizer
    return zero_outside((1 / divisor)[:, None].expand(mask.shape), keep)


def aggregate(
    loss: Float[Tensor, "B T"],
    mask: Shaped[Tensor, "B T"],
    *,
    how: str = "token",
    groups: Int[Tensor, " B"] | None = None,
    max_tokens: int | None = None,
    normalizer: float | Tensor | None = None,
    group_tokens: Shaped[Tensor, " B"] | None = None,
) -> Float[Tensor, ""]:
    """The loss of a step, or these rows' share of it: Σ loss · `token_weights`.

    The shares of a step's micro-batches, each computed with the step's normalizer, sum to the step's loss.

    Args: loss: per token; whatever stands where the mask is 0, NaN too, is left out. The others: `token_weights`.
    Returns: a scalar in float32 or float64; 0 if no token is unmasked.
    Raises: ValueError as `token_weights`, or if the shapes differ.
    """
    require_same_shape(loss=loss, mask=mask)
    values = zero_outside(at_least_single(loss), as_bool(mask))
    weights = token_weights(
        mask,
        how=how,
        groups=groups,
        max_tokens=max_tokens,
        normalizer=normalizer,
        group_tokens=group_tokens,
        dtype=values.dtype,
    )
    return (values * weights).sum()


def _checked(per_row: Tensor, mask: Tensor, name: str) -> Tensor:
    """`per_row`, or ValueError unless it has one number for each row of the mask."""
    if per_row.shape != mask.shape[:1]:
        raise ValueError(f"{name} has the shape {list(per_row.shape)}; expected one per row, [{len(mask)}]")
    return per_row


def _occupied_groups(groups: Tensor, occupied: Tensor) -> int:
    """How many groups have a row that is occupied."""
    return len(torch.unique(groups[occupied]))


def _group_tokens(groups: Tensor, row_tokens: Tensor, given: Tensor | None) -> Tensor:
    """Unmasked tokens of each row's group: as given for the whole step, or counted here."""
    names, index = torch.unique(groups, return_inverse=True)
    here = torch.zeros(len(names), dtype=row_tokens.dtype, device=groups.device).index_add(0, index, row_tokens)[index]
    if given is None:
        return here
    if (_checked(given, groups, "group_tokens") < here).any():
        raise ValueError("group_tokens is below the unmasked tokens of the group's rows in this call; count the step")
    return given
