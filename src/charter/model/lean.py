"""The fused forward with a gradient, which keeps little for its backward and makes the rest again.

    x ← x + W_o · attend(rope(W_qkv · norm(x)))          kept: x, queries, keys, values, what attention keeps
    x ← x + W_d · (silu(W_g · n) ⊙ W_u · n),  n = norm(x)     kept: x, W_g · n, W_u · n

Norms over each head, where a model has them, keep what torch keeps. What is made again costs no product: with
r = 1/sqrt(mean(x²) + eps), the norm is x · r · w, and silu is an elementwise function. Gradients, with dn those of the
norm's output and x̂ = x · r:

    dw = Σ_t dn ⊙ x̂,      dx = r · (dn ⊙ w − x̂ · mean(dn ⊙ w ⊙ x̂))

Source: RMSNorm, Zhang and Sennrich, arXiv 1910.07467; SwiGLU, Shazeer, arXiv 2002.05202. Not here: a gradient of the
gradient, and autocast (`Policy.hidden` takes the modules for those).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, silu

from charter.model.attention import Layout
from charter.model.fused import FusedForward, Joined, rotate


def lean_forward(fused: FusedForward, tokens: Tensor, positions: Tensor, layout: Layout) -> Tensor:
    """Last hidden states `[T, D]`; arguments as of `Policy.hidden`."""
    x = embedding(tokens, fused.embed, padding_idx=fused.padding)
    cos, sin = fused.angles(x, positions)
    for layer, (projections, out, gate_up, down) in zip(fused.layers, fused.joined, strict=True):
        turned, value = _Projections.apply(  # type: ignore[misc]
            x, layer.before_attention.weight, layer.before_attention.eps, projections, fused.kv_heads * fused.head_dim,
            *projections.parameters,
        )  # fmt: skip
        turned, value = (part.unflatten(1, (-1, fused.head_dim)) for part in (turned, value))
        turned = _Rotation.apply(fused.normed(turned, layer), cos, sin)  # type: ignore[no-untyped-call]
        query, key = turned.transpose(0, 1).split([fused.heads, fused.kv_heads])
        seen = layout.attend(query, key, value.transpose(0, 1), layer.spec)
        x = x + torch.nn.functional.linear(seen.flatten(1), *out.parameters)
        x = _Mlp.apply(  # type: ignore[no-untyped-call]
            x, layer.before_mlp.weight, layer.before_mlp.eps, gate_up, down, *gate_up.parameters, *down.parameters
        )
    return fused.last(x)


class _Projections(torch.autograd.Function):
    """apply(x `[T, D]`, w `[D]`, eps, projections, width of the values, parameters) → queries and keys, values."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, scale: Tensor, eps: float, projections: Joined, width: int, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        inverse = _inverse_rms(x, eps)
        ctx.save_for_backward(x, inverse, scale, *parameters)
        ctx.projections = projections
        projected = projections(x.mul(inverse).mul_(scale))
        # a view of the values would keep queries and keys from before their rotation
        return projected[:, :-width], projected[:, -width:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, inverse, scale, *_ = ctx.saved_tensors
        normed = x * inverse
        of_projected = torch.cat(grads, dim=1)
        own = _of_parameters(ctx.projections, normed * scale, of_projected)
        to_x, to_scale = _through_norm(of_projected @ ctx.projections.weight, normed, inverse, scale)
        return to_x, to_scale, None, None, None, *own


class _Rotation(torch.autograd.Function):
    """apply(x `[T, H, D]`, cos, sin `[T, 1, D]`) → x turned; its gradient is turned back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(cos, sin)
        return rotate(x, cos, sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        cos, sin = ctx.saved_tensors
        return rotate(grads[0], cos, -sin), None, None


class _Mlp(torch.autograd.Function):
    """apply(x `[T, D]`, w `[D]`, eps, gate and up, down, their parameters) → x + the block's output."""

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, x: Tensor, scale: Tensor, eps: float, gate_up: Joined, down: Joined, *parameters: Tensor
    ) -> Tensor:
        inverse = _inverse_rms(x, eps)
        inner = gate_up(x.mul(inverse).mul_(scale))
        ctx.save_for_backward(x, inverse, scale, inner, *parameters)
        ctx.gate_up, ctx.down = gate_up, down
        gate, up = inner.chunk(2, dim=1)
        return down(silu(gate).mul_(up)).add_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, inverse, scale, inner, *_ = ctx.saved_tensors
        (gate, up), (to_output,) = inner.chunk(2, dim=1), grads
        activated = silu(gate)
        of_down = _of_parameters(ctx.down, activated * up, to_output)
        to_hidden = to_output @ ctx.down.weight
        to_inner = torch.empty_like(inner)
        to_gate, to_up = to_inner.chunk(2, dim=1)
        torch.mul(to_hidden, activated, out=to_up)
        torch.ops.aten.silu_backward.grad_input(to_hidden.mul_(up), gate, grad_input=to_gate)
        normed = x * inverse
        of_gate_up = _of_parameters(ctx.gate_up, normed * scale, to_inner)
        to_x, to_scale = _through_norm(to_inner @ ctx.gate_up.weight, normed, inverse, scale)
        return to_x.add_(to_output), to_scale, None, None, None, *of_gate_up, *of_down


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x²) + eps) `[T, 1]`."""
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()


def _through_norm(grad: Tensor, normed: Tensor, inverse: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    """(gradient of x, of w); grad: of the norm's output, normed: x̂ `[T, D]`; both are overwritten."""
    products = grad * normed
    along = torch.mv(products, scale).div_(products.shape[1])[:, None]
    return grad.mul_(scale).sub_(normed.mul_(along)).mul_(inverse), products.sum(0)


def _of_parameters(linear: Joined, x: Tensor, grad: Tensor) -> Sequence[Tensor]:
    """Gradients of the weights, then of the biases, of linear layers of one input."""
    sizes = [part.out_features for part in linear.parts]
    weights = (grad.T @ x).split(sizes)
    return weights if linear.bias is None else (*weights, *grad.sum(0).split(sizes))
