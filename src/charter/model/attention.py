"""The one seam between transformers' modules and Charter's attention.

Charter runs every model over *packed* tokens: one row `[1, T]` that holds many sequences, each token
with its own position. Embeddings, norms, projections and rotary positions of a transformers module do
not care what else is in the row; only attention does. So Charter registers an attention function with
transformers, and the `Layout` passed along with the tokens says which token may look at which.

Not here: the layouts themselves (`charter.model.prefix` for learning, `charter.sampler.cache` for decoding).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface

IMPLEMENTATION = "charter_packed"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """What a layer asks of its attention.

    layer: index of the layer. scale: factor on q·k. window: how far back a token may look, itself
    included, or None. softcap: c in `c · tanh(score / c)`, or None.
    """

    layer: int
    scale: float
    window: int | None
    softcap: float | None


class Layout(Protocol):
    """Which packed token attends to which."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, spec: AttentionSpec) -> Tensor:
        """query `[H, T, D]`, key and value `[Hkv, T, D]` → output `[T, H, D]`."""
        ...


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packed_layout: Layout | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """transformers' attention signature; `packed_layout` travels through the module's keyword arguments, so that
    activation checkpointing sees it again in the backward."""
    if packed_layout is None:
        raise RuntimeError("a packed model was called without its layout; go through Policy.hidden()")
    spec = AttentionSpec(
        layer=int(module.layer_idx),  # type: ignore[arg-type]
        scale=query.shape[-1] ** -0.5 if scaling is None else float(scaling),
        window=sliding_window,
        softcap=softcap,
    )
    return packed_layout.attend(query[0], key[0], value[0], spec).unsqueeze(0), None


AttentionInterface.register(IMPLEMENTATION, packed_attention)


def repeat_heads(x: Tensor, heads: int) -> Tensor:
    """`[..., Hkv, T, D]` → `[..., H, T, D]`: each key/value head serves H / Hkv query heads."""
    kv_heads = x.shape[-3]
    return x if kv_heads == heads else x.repeat_interleave(heads // kv_heads, dim=-3)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None, spec: AttentionSpec) -> Tensor:
    """Attention `[..., H, Tq, D]` over `[..., H, Tk, D]`; `allowed` bool `[..., Tq, Tk]`, None = causal square.

    Uses torch's fused kernel, or the written-out formula where a softcap rules the kernel out.
    """
    if spec.softcap is None:
        return torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=allowed, is_causal=allowed is None, scale=spec.scale
        )
    scores = spec.softcap * torch.tanh(query @ key.transpose(-1, -2) * (spec.scale / spec.softcap))
    if allowed is None:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    return torch.softmax(scores.masked_fill(~allowed, float("-inf")), dim=-1) @ value
