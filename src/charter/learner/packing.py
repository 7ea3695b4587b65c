"""A micro-batch as the device gets it.

All of it is laid out on the host and sent without waiting (`charter.model.sending`), and the learner reads nothing back
before the last backward. So on CUDA the host prepares a micro-batch while the device still works on those before it, if
the objective does not look at numbers on the device either (docs/performance.md names those that do).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.learner.plan import Piece
from charter.model.attention import Layout
from charter.model.prefix import PackedTrees, TreeSpan, tree_layout
from charter.model.sending import send
from charter.types import Branch


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Pieces of trees in one packed row, and their N tokens with loss, branch after branch.

    tokens, positions: `[T]`, the row (`charter.model.prefix`). spans: one per tree.
    mask: bool `[B, L]`, which of the padded branch tokens have loss. places: `[N]`, where these lie in the flattened
    `[B, L]`. source: `[N]`, the row's states that predict them. targets: `[N]`, the tokens.
    """

    pieces: Sequence[Piece]
    tokens: Tensor
    positions: Tensor
    spans: tuple[TreeSpan, ...]
    mask: Tensor
    places: Tensor
    source: Tensor
    targets: Tensor

    @classmethod
    def of(cls, pieces: Sequence[Piece], device: torch.device) -> MicroBatch:
        """Lay pieces out in order. Raises ValueError for an empty prefix, as `PackedTrees.pack`."""
        packed = PackedTrees.pack([piece.tree for piece in pieces])
        longest = packed.present.shape[1]
        counted = [
            row * longest + at
            for row, branch in enumerate(branches_of(pieces))
            for at, counts in enumerate(branch.mask)
            if counts
        ]
        places = torch.tensor(counted, dtype=torch.long)
        mask = torch.zeros(packed.present.numel(), dtype=torch.bool).index_fill_(0, places, 1)
        return cls(
            pieces=pieces,
            tokens=send(packed.tokens, device),
            positions=send(packed.positions, device),
            spans=packed.spans,
            mask=send(mask.view_as(packed.present), device),
            places=send(places, device),
            source=send(packed.source.flatten().index_select(0, places), device),
            targets=send(packed.targets.flatten().index_select(0, places), device),
        )

    def layout(self) -> Layout:
        """Which token of the row sees which."""
        return tree_layout(self.spans, self.tokens.device)

    def padded(self, x: Tensor) -> Tensor:
        """Numbers of the tokens with loss, `[N]` → `[B, L]`, 0 elsewhere."""
        return x.new_zeros(self.mask.numel()).index_copy(0, self.places, x).view(self.mask.shape)


def branches_of(pieces: Sequence[Piece]) -> Iterator[Branch]:
    """All branches in the order of the padded rows."""
    return (branch for piece in pieces for branch in piece.tree.branches)
