"""Attention of branch tokens over [shared prefix, own branch] in two exact parts, on a CPU.

    o_p, l_p = attend(q, K_prefix, V_prefix)          all branches of a tree in one product, nothing copied per branch
    o_b, l_b = attend(q, K_own, V_own), causal        each branch by itself
    l = log(exp l_p + exp l_b),    o = exp(l_p − l) · o_p + exp(l_b − l) · o_b

The backward of a part needs only the whole's output and normaliser: with P = exp(q·k − l) and δ = rowsum(do ⊙ o),
dS = P ⊙ (do·v − δ) holds for its keys as they stand, so torch's fused kernel serves both parts.

Source: the log-sum-exp merge of partial attentions, Rabe and Staats, arXiv 2112.05682; the backward, Dao et al., arXiv
2205.14135. Not here: windows and soft caps, which the kernel does not know (`charter.model.attention`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from charter.model.attention import AttentionSpec

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class BranchAttention(torch.autograd.Function):
    """apply(query `[H, N, D]`, key, value `[Hkv, N, D]`, prefix_key, prefix_value `[Hkv, P, D]`, places `[N]`,
    branches, longest, scale) → `[H, N, D]`; places: of each token in the flattened rectangle `[branches, longest]`."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        prefix_key: Tensor,
        prefix_value: Tensor,
        places: Tensor,
        branches: int,
        longest: int,
        scale: float,
    ) -> Tensor:
        heads, tokens, size = query.shape
        kv_heads = key.shape[0]
        ctx.shape = branches, longest
        ctx.scale = scale
        folded = query.reshape(1, kv_heads, -1, size)  # the query heads of one key head, one behind the other
        to_prefix, prefix_sum = _flash(folded, prefix_key[None], prefix_value[None], 0.0, False, scale=scale)
        to_prefix = to_prefix.reshape(heads, tokens, size)
        prefix_sum = prefix_sum.reshape(heads, tokens)
        own = _own(query, key, value, places, ctx.shape)
        to_own, own_sum = _flash(*own, 0.0, True, scale=scale)
        to_own, own_sum = _flat(to_own, places), _flat(own_sum[..., None], places)[..., 0]
        whole = torch.logaddexp(prefix_sum, own_sum)
        out = query.new_empty(tokens, heads, size).transpose(0, 1)  # so that a token's heads lie together, as projected
        torch.mul(to_prefix, torch.exp(prefix_sum - whole)[..., None], out=out)
        out.addcmul_(to_own, torch.exp(own_sum - whole)[..., None])
        ctx.save_for_backward(query, key, value, prefix_key, prefix_value, places, out, whole)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, prefix_key, prefix_value, places, out, whole = ctx.saved_tensors
        heads, tokens, size = query.shape
        kv_heads, share = key.shape[0], heads // key.shape[0]

        def folded(x: Tensor) -> Tensor:
            return x.reshape(1, kv_heads, share * tokens, -1)

        grad = grads[0]
        to_query, to_prefix_key, to_prefix_value = _flash_backward(
            folded(grad), folded(query), prefix_key[None], prefix_value[None], folded(out), folded(whole)[..., 0],
            0.0, False, scale=ctx.scale,
        )  # fmt: skip
        shape = ctx.shape
        own_sum = _rectangle(whole[..., None], places, shape)[..., 0].contiguous()
        own_query, own_key, own_value = _flash_backward(
            _rectangle(grad, places, shape), *_own(query, key, value, places, shape), _rectangle(out, places, shape),
            own_sum, 0.0, True, scale=ctx.scale,
        )  # fmt: skip

        def summed(x: Tensor) -> Tensor:
            return _flat(x, places).view(kv_heads, share, tokens, size).sum(1)

        to_query = to_query.reshape(heads, tokens, size) + _flat(own_query, places)
        return (
            to_query, summed(own_key), summed(own_value), to_prefix_key[0], to_prefix_value[0], None, None, None, None
        )  # fmt: skip


def in_two_parts(query: Tensor, value: Tensor, spec: AttentionSpec, longest: int) -> bool:
    """Whether the two parts serve: on a CPU, in one dtype, where every key before a token is seen unbent.

    longest: tokens of the longest sequence.
    """
    plain = spec.softcap is None and (spec.window is None or spec.window >= longest)
    return plain and query.device.type == "cpu" and query.dtype == value.dtype and not torch.is_autocast_enabled("cpu")


def _own(query: Tensor, key: Tensor, value: Tensor, places: Tensor, shape: tuple[int, int]) -> tuple[Tensor, ...]:
    """`[branches, H, longest, D]` of each; a branch is filled up at its end, where causal attention does not look."""
    share = query.shape[0] // key.shape[0]
    keys, values = (_rectangle(x, places, shape).repeat_interleave(share, dim=1) for x in (key, value))
    return _rectangle(query, places, shape), keys, values


def _rectangle(x: Tensor, places: Tensor, shape: tuple[int, int]) -> Tensor:
    """`[H, N, D]` → `[branches, H, longest, D]`, zeros where a branch is shorter."""
    branches, longest = shape
    out = x.new_zeros(x.shape[0], branches * longest, x.shape[2]).index_copy_(1, places, x)
    return out.view(x.shape[0], branches, longest, x.shape[2]).transpose(0, 1)


def _flat(x: Tensor, places: Tensor) -> Tensor:
    """`[branches, H, longest, D]` → `[H, N, D]`."""
    return x.transpose(0, 1).flatten(1, 2).index_select(1, places)
