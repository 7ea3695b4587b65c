"""Pairs that people decided, by the name a recipe gives them: the harm ratings, or a file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from charter.data.ratings import Part
    from charter.types import Pair

HARM_RATINGS = "harm-ratings"


def human_pairs(source: str, *, min_gap: float = 0.5, part: Part | None = None) -> tuple[Pair, ...]:
    """The pairs of the asset harm-ratings, or of a file of prompt, chosen, rejected and perhaps p.

    min_gap: least difference of the severities (harm-ratings). part: only prompts of this part, of either source.

    Raises: DataError where nothing is left or a row cannot be used; AssetError where the asset cannot be fetched.
    """
    from charter.data import load_pairs
    from charter.data.ratings import as_pairs, part_of, rated_pairs, rated_replies
    from charter.errors import DataError
    from charter.recipe import DataTable

    if source == HARM_RATINGS and not Path(source).exists():
        from charter import assets

        replies = rated_replies(assets.get(source) / assets.ASSETS[source].rows)
        pairs = as_pairs(rated_pairs(replies, min_gap))
    else:
        pairs = tuple(load_pairs(DataTable(pairs=source), 0).train.items)
    if part is not None:
        pairs = tuple(pair for pair in pairs if part_of(pair.prompt.messages[-1]["content"]) == part)
    if not pairs:
        where = f" with a gap of {min_gap}" if source == HARM_RATINGS else ""
        raise DataError(f"{source} holds no pairs{where}{f' in the part {part!r}' if part else ''}")
    return pairs


def chosen_pairs(pairs: Sequence[Pair], count: int | None) -> tuple[int, ...]:
    """Places of the pairs that are asked about: those of the `count` smallest hashes of their ids, in their order."""
    if count is None or count >= len(pairs):
        return tuple(range(len(pairs)))
    order = sorted(range(len(pairs)), key=lambda i: hashlib.sha256(pairs[i].id.encode()).hexdigest())
    return tuple(sorted(order[:count]))
