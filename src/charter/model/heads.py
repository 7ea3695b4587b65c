"""Scalar heads: one number per position out of a language model's last hidden state."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from charter.model.load import Policy


class Critic:
    """V = w · h + b, what the rest of a completion is expected to earn, at each position.

    w and b begin at 0, so that a fresh critic expects nothing and needs no random numbers.

    backbone: the model whose last hidden state h is. shared: whether it is the policy itself, whose weights then learn
    from both losses, or a model of the critic's own.
    """

    def __init__(self, backbone: Policy, *, shared: bool) -> None:
        self.backbone = backbone
        self.shared = shared
        weight = backbone.head.weight
        self.scalar = nn.Linear(weight.shape[1], 1, device=weight.device, dtype=weight.dtype)
        nn.init.zeros_(self.scalar.weight)
        nn.init.zeros_(self.scalar.bias)

    def values(self, hidden: Tensor) -> Tensor:
        """`[N, D]` → `[N]`, float32 or wider."""
        with torch.autocast(hidden.device.type, enabled=False):
            return self.scalar(hidden.to(self.scalar.weight.dtype))[:, 0]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """What the critic alone holds, as `critic.…`; without the backbone's output layer, of which it has no use."""
        for name, parameter in self.scalar.named_parameters():
            yield f"critic.scalar.{name}", parameter
        if not self.shared:
            for name, parameter in self.backbone.module.base_model.named_parameters():
                yield f"critic.backbone.{name}", parameter


class ScalarHead:
    """s = w · h, one number for a whole completion, read at its closing token.

    Without a constant: only differences of scores mean anything, and transformers' own sequence classifiers have none
    either, so that the weight `[1, D]` is theirs to load. w begins at 0 and needs no random numbers.
    """

    def __init__(self, backbone: Policy) -> None:
        weight = backbone.head.weight
        self.weight = nn.Parameter(torch.zeros(1, weight.shape[1], device=weight.device, dtype=weight.dtype))

    def scores(self, hidden: Tensor) -> Tensor:
        """`[N, D]` → `[N]`, float32 or wider."""
        with torch.autocast(hidden.device.type, enabled=False):
            return (hidden.to(self.weight.dtype) @ self.weight.T)[:, 0]
