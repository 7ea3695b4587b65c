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
from functools import partial
from typing import Any

import torch
from torch import Tensor

from charter.model import flex
from charter.model.attention import AttentionSpec, Layout, masked_attention, repeat_heads
from charter.model.sending import send
from charter.model.two_part import BranchAttention, in_two_parts
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
        """Lay trees out in order. Raises ValueError for an empty prefix, which leaves a first token unpredicted."""
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
            tokens=send(torch.tensor(tokens, dtype=torch.long), device),
            positions=send(torch.tensor(positions, dtype=torch.long), device),
            spans=tuple(spans),
            source=send(source, device),
            targets=send(target, device),
            present=send(present, device),
        )

    def layout(self) -> Layout:
        return tree_layout(self.spans, self.tokens.device)


def tree_layout(spans: Sequence[TreeSpan], device: torch.device) -> Layout:
    """Which token of a packed row sees which: each its own branch and its tree's prefix."""
    plain = partial(TreeLayout, spans, device)
    return flex.FlexLayout(spans, device, plain) if flex.serves(device) else plain()


class TreeLayout:
    """Attention of packed trees. Indices and masks are built once and serve every layer."""

    def __init__(self, spans: Sequence[TreeSpan], device: torch.device) -> None:
        self._spans = tuple(spans)
        self._sizes = [size for span in spans for size in (span.prefix, sum(span.branches))]
        self._places = [send(_places(span.branches), device) for span in spans]
        self._masks: dict[tuple[int, int, int | None], Tensor] = {}

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec) -> Tensor:
        queries, keys, values = (x.split(self._sizes, dim=1) for x in (query, key, value))
        outputs: list[Tensor] = []
        for i, span in enumerate(self._spans):
            prefix, own = 2 * i, 2 * i + 1
            outputs.append(self._of_prefix(span, queries[prefix], keys[prefix], values[prefix], spec))
            if any(span.branches):
                outputs.append(
                    self.of_branches(i, queries[own], keys[own], values[own], keys[prefix], values[prefix], spec)
                )
        return torch.cat([one.transpose(0, 1) for one in outputs])

    def _of_prefix(self, span: TreeSpan, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec) -> Tensor:
        """`[H, P, D]` of a prefix's tokens, each over the prefix before it."""
        windowed = spec.window is not None and spec.window < span.prefix
        allowed = self._mask(0, span.prefix, spec.window, query.device) if windowed else None
        share = query.shape[0] // key.shape[0]
        # the query heads of one key head as a batch: torch's kernel then keeps no copy of keys and values for each
        keys, values = (x[:, None].expand(-1, share, -1, -1) for x in (key, value))
        return masked_attention(query.unflatten(0, (-1, share)), keys, values, allowed, spec).flatten(0, 1)

    def of_branches(
        self,
        tree: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prefix_key: Tensor,
        prefix_value: Tensor,
        spec: AttentionSpec,
    ) -> Tensor:
        """`[H, N, D]` of the N branch tokens of one tree, over its prefix `[Hkv, P, D]` and each its own branch."""
        span, places, heads = self._spans[tree], self._places[tree], query.shape[0]
        group, longest = len(span.branches), max(span.branches)
        if in_two_parts(query, value, spec, span.prefix + longest):
            return BranchAttention.apply(  # type: ignore[no-any-return]
                query, key, value, prefix_key, prefix_value, places, group, longest, spec.scale
            )
        own = (_Spread.apply(x, places, group, longest) for x in (query, key, value))
        own_query, own_key, own_value = (x.transpose(0, 1) for x in own)
        shared = (repeat_heads(x, heads).expand(group, -1, -1, -1) for x in (prefix_key, prefix_value))
        keys, values = (
            torch.cat([before, repeat_heads(mine, heads)], dim=2)
            for before, mine in zip(shared, (own_key, own_value), strict=True)
        )
        out = masked_attention(
            own_query, keys, values, self._mask(span.prefix, longest, spec.window, query.device), spec
        )
        return _Gather.apply(out.transpose(0, 1), places)  # type: ignore[no-any-return]

    def _mask(self, prefix: int, width: int, window: int | None, device: torch.device) -> Tensor:
        """`[L, P + L]`: branch token i sees the prefix and branch tokens up to i, at most `window` back."""
        mask = self._masks.get((prefix, width, window))
        if mask is None:
            query_at = torch.arange(prefix, prefix + width, device=device)[:, None]
            key_at = torch.arange(prefix + width, device=device)
            mask = key_at <= query_at
            if window is not None:
                mask &= query_at - key_at < window
            self._masks[prefix, width, window] = mask
        return mask


def _places(lengths: Sequence[int]) -> Tensor:
    """Where each of the consecutive branch tokens lies in the rectangle `[G, L]`, flattened."""
    longest = max(lengths, default=0)
    return torch.tensor([g * longest + i for g, length in enumerate(lengths) for i in range(length)], dtype=torch.long)


class _Spread(torch.autograd.Function):
    """`[H, N, D]` consecutive branch tokens → `[H, G, L, D]`, zeros where a branch is shorter.

    Written out because the backward of torch's own indexing adds with atomics, in an order that varies between runs;
    here every element has one place, so the backward is a plain copy.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor, group: int, longest: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(places)
        out = x.new_zeros(x.shape[0], group * longest, x.shape[2])
        return out.index_copy_(1, places, x).view(x.shape[0], group, longest, x.shape[2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        return grads[0].flatten(1, 2).index_select(1, places), None, None, None


class _Gather(torch.autograd.Function):
    """`[H, G, L, D]` → `[H, N, D]`: the inverse of `_Spread`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(places)
        ctx.shape = x.shape
        return x.flatten(1, 2).index_select(1, places)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (places,) = ctx.saved_tensors
        heads, group, longest, size = ctx.shape
        out = grads[0].new_zeros(heads, group * longest, size)
        return out.index_copy_(1, places, grads[0]).view(ctx.shape), None
