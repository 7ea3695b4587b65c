"""A prefix that is read once while its branches go through the model in parts, each part with a backward of its own.

    open:    K, V of every layer and the last state h of the prefix, with their graph
    part j:  lossⱼ(K', V', h') backward, where K', V', h' are leaves that stand at K, V, h; its graph is then let go
    close:   backward from K, V, h with the sums that the parts left at K', V', h'

By the chain rule these are the gradients of Σⱼ lossⱼ, with one prefix and the largest part held, whatever the number of
branches, and no token forwarded twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from charter.learner.packing import MicroBatch
from charter.model.attention import AttentionSpec
from charter.model.load import Policy
from charter.model.prefix import TreeLayout, TreeSpan
from charter.model.sending import send


class OpenPrefix:
    """One tree's prefix under one model, forwarded when this is made; with a graph where gradients are enabled."""

    def __init__(self, policy: Policy, prefix: Sequence[int]) -> None:
        self._policy, self._width = policy, len(prefix)
        tokens = send(torch.tensor(prefix, dtype=torch.long), policy.device)
        keeping = _Keeping(len(prefix), policy.device)
        with policy.arithmetic():
            hidden = policy.hidden(tokens, torch.arange(len(prefix), device=policy.device), keeping)
        self._ends = [*(x for pair in keeping.seen.values() for x in pair), hidden[-1:]]
        self.leaves = [end.detach().requires_grad_(end.requires_grad) for end in self._ends]
        """What the parts' gradients are added to: keys and values `[Hkv, P, D]` of every layer, the last state."""
        self._seen = dict(zip(keeping.seen, zip(self.leaves[0:-1:2], self.leaves[1:-1:2], strict=True), strict=True))

    def predicting(self, micro: MicroBatch) -> Tensor:
        """The states `[N, D]` that predict the tokens with loss, of branches of a tree with this prefix."""
        (span,) = micro.spans
        hidden = self.leaves[-1]
        if any(span.branches):
            after = _After(span, self._seen, micro.tokens.device)
            tokens, positions = micro.tokens[self._width :], micro.positions[self._width :]
            hidden = torch.cat([hidden, self._policy.hidden(tokens, positions, after)])
        return hidden.index_select(0, micro.source - (self._width - 1))

    def close(self) -> None:
        """Add what the parts' gradients make of the prefix to the weights' gradients, and let everything go."""
        reached = [(end, leaf.grad) for end, leaf in zip(self._ends, self.leaves, strict=True) if leaf.grad is not None]
        self._ends, self.leaves, self._seen = [], [], {}
        if reached:
            ends, gradients = zip(*reached, strict=True)
            torch.autograd.backward(ends, gradients)


class _Keeping:
    """Attention of a prefix, which keeps every layer's keys and values `[Hkv, P, D]`."""

    def __init__(self, width: int, device: torch.device) -> None:
        self._layout = TreeLayout([TreeSpan(0, width, ())], device)
        self.seen: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec) -> Tensor:
        # without a graph, which keeps what they are views of, a copy is all that stays
        self.seen[spec.layer] = (key, value) if torch.is_grad_enabled() else (key.clone(), value.clone())
        return self._layout.attend(query, key, value, spec)


class _After:
    """Attention of a tree's branch tokens over keys and values of its prefix that are there already, and their own."""

    def __init__(self, span: TreeSpan, seen: dict[int, tuple[Tensor, Tensor]], device: torch.device) -> None:
        self._layout = TreeLayout([span], device)
        self._seen = seen

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec) -> Tensor:
        return self._layout.of_branches(0, query, key, value, *self._seen[spec.layer], spec).transpose(0, 1)
