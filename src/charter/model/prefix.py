"""Shared-prefix attention: a prompt's tokens go through the model once for all its completions.

A `PackedTrees` lays the trees of a micro-batch out in one row,

    [prefix₁ | branch₁₁ branch₁₂ … | prefix₂ | branch₂₁ …],

and `TreeLayout` lets a prefix token attend to the prefix before it, and a branch token to its whole
prefix and to its own branch before it: exactly what it would see in a sequence of its own. The last
token of a branch predicts nothing that is scored, so it is not forwarded.

Not here: what is computed from the hidden states (`charter.model.logprobs`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from charter.model.attention import AttentionSpec, masked_attention, repeat_heads
from charter.types import Tree


@dataclass(frozen=True, slots=True)
class TreeSpan:
    """Where one tree lies in the packed row: its prefix at [start, start + prefix), then its branches."""

    start: int
    prefix: int
    branches: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return self.prefix + sum(self.branches)


def forwarded_tokens(tree: Tree) -> int:
    """Tokens of this tree that go through the model."""
    return len(tree.prefix) + sum(max(len(branch.tokens) - 1, 0) for branch in tree.branches)


@dataclass(frozen=True, slots=True)
class PackedTrees:
    """A micro-batch of trees as one row of T tokens, and where each branch token's prediction comes from.

    tokens, positions: `[T]`. spans: one per tree.
    source: `[B, L]` index into the T hidden states that predict each branch token (0 on padding).
    targets: `[B, L]` the branch tokens (0 on padding). present: `[B, L]` bool, which are tokens at all.
    B counts the branches of all trees; L is the longest.
    """

    tokens: Tensor
    positions: Tensor
    spans: tuple[TreeSpan, ...]
    source: Tensor
    targets: Tensor
    present: Tensor

    @classmethod
    def pack(cls, trees: Sequence[Tree], device: torch.device | str = "cpu") -> PackedTrees:
        """Lay trees out in order. Raises ValueError for an empty prefix, which would leave a first token unpredicted."""
        tokens: list[int] = []
        positions: list[int] = []
        spans: list[TreeSpan] = []
        rows: list[tuple[list[int], tuple[int, ...]]] = []
        for tree in trees:
            if not tree.prefix:
                raise ValueError("a tree needs a prefix of at least one token")
            start, width = len(tokens), len(tree.prefix)
            tokens += tree.prefix
            positions += range(width)
            lengths: list[int] = []
            for branch in tree.branches:
                kept = max(len(branch.tokens) - 1, 0)
                first = len(tokens)
                tokens += branch.tokens[:kept]
                positions += range(width, width + kept)
                lengths.append(kept)
                rows.append(([start + width - 1, *range(first, first + kept)][: len(branch.tokens)], branch.tokens))
            spans.append(TreeSpan(start, width, tuple(lengths)))
        longest = max((len(targets) for _, targets in rows), default=0)
        source = torch.zeros(len(rows), longest, dtype=torch.long)
        target = torch.zeros(len(rows), longest, dtype=torch.long)
        present = torch.zeros(len(rows), longest, dtype=torch.bool)
        for i, (origins, targets) in enumerate(rows):
            source[i, : len(origins)] = torch.tensor(origins, dtype=torch.long)
            target[i, : len(targets)] = torch.tensor(targets, dtype=torch.long)
            present[i, : len(targets)] = True
        return cls(
            tokens=torch.tensor(tokens, dtype=torch.long, device=device),
            positions=torch.tensor(positions, dtype=torch.long, device=device),
            spans=tuple(spans),
            source=source.to(device),
            targets=target.to(device),
            present=present.to(device),
        )

    def layout(self) -> TreeLayout:
        return TreeLayout(self.spans, self.tokens.device)


class TreeLayout:
    """Attention of packed trees. Gather indices are built once and serve every layer."""

    def __init__(self, spans: Sequence[TreeSpan], device: torch.device) -> None:
        self._spans = tuple(spans)
        self._gather: list[tuple[Tensor, Tensor] | None] = []
        self._masks: dict[tuple[int, int | None], Tensor | None] = {}
        for span in spans:
            width = max(span.branches, default=0)
            if width == 0:
                self._gather.append(None)
                continue
            lengths = torch.tensor(span.branches)
            begins = span.start + span.prefix + lengths.cumsum(0) - lengths
            columns = torch.arange(width)
            inside = columns < lengths[:, None]
            rows = torch.where(inside, begins[:, None] + columns, begins[:, None].clamp(max=span.start + span.tokens - 1))
            self._gather.append((rows.to(device), inside.to(device)))

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec) -> Tensor:
        heads = query.shape[0]
        outputs: list[Tensor] = []
        for index, (span, gather) in enumerate(zip(self._spans, self._gather, strict=True)):
            prefix = slice(span.start, span.start + span.prefix)
            prefix_key = repeat_heads(key[:, prefix], heads)
            prefix_value = repeat_heads(value[:, prefix], heads)
            allowed = self._window_mask(index, span.prefix, spec.window, query.device)
            out = masked_attention(query[None, :, prefix], prefix_key[None], prefix_value[None], allowed, spec)
            outputs.append(out[0].transpose(0, 1))
            if gather is None:
                continue
            rows, inside = gather
            group = rows.shape[0]
            own_query = query[:, rows].transpose(0, 1)
            own_key = repeat_heads(key[:, rows].transpose(0, 1), heads)
            own_value = repeat_heads(value[:, rows].transpose(0, 1), heads)
            out = masked_attention(
                own_query,
                torch.cat([prefix_key.expand(group, -1, -1, -1), own_key], dim=2),
                torch.cat([prefix_value.expand(group, -1, -1, -1), own_value], dim=2),
                self._branch_mask(index, span.prefix, rows.shape[1], spec.window, query.device),
                spec,
            )
            outputs.append(out.transpose(1, 2)[inside])
        return torch.cat(outputs)

    def _window_mask(self, index: int, width: int, window: int | None, device: torch.device) -> Tensor | None:
        """Causal mask `[P, P]` of a prefix; None (the kernel's own causal mask) where no window cuts it."""
        if window is None or window >= width:
            return None
        return self._branch_mask(~index, 0, width, window, device)

    def _branch_mask(self, index: int, prefix: int, width: int, window: int | None, device: torch.device) -> Tensor:
        """`[L, P + L]`: branch token i sees the prefix and branch tokens up to i, at most `window` back."""
        mask = self._masks.get((index, window))
        if mask is None:
            query_at = torch.arange(prefix, prefix + width, device=device)[:, None]
            key_at = torch.arange(prefix + width, device=device)
            mask = key_at <= query_at
            if window is not None:
                mask &= query_at - key_at < window
            self._masks[index, window] = mask
        return mask
