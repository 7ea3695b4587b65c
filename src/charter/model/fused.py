"""A forward without gradient that does fewer, larger things: what sampling runs.

    x ← x + W_o · attend(rope(W_qkv · norm(x)))          one product for queries, keys and values
    x ← x + W_d · (silu(W_g · n) ⊙ W_u · n),  n = norm(x)     one for gate and up

The projections of a layer lie behind one another in one piece of memory, and the module's own parameters are views of
it: nothing is held twice, and what the optimizer writes is what is sampled.

For models of Llama's shape (`SHAPES`); all others, and adapters, go through their own modules. `Policy.verify` compares
it with the model's own forward. Not here: attention (the `Layout`), the output head (`charter.model.logprobs`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from charter.model.attention import AttentionSpec, Layout
from charter.model.few_rows import linear

SHAPES = frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"})
"""transformers' classes whose layers are the formula above."""

Product = Callable[[Tensor], Tensor]
"""x `[T, K]` → W x + bias `[T, N]`."""


@dataclass(frozen=True, slots=True)
class Norm:
    """RMSNorm: w · x / sqrt(mean(x²) + eps), in float32 or wider."""

    weight: Tensor
    eps: float

    def __call__(self, x: Tensor) -> Tensor:
        return rms_norm(x.to(self.weight.dtype), self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class Joined:
    """Linear layers of one input, one behind the other: weight `[ΣN, K]`, bias `[ΣN]` or None."""

    parts: tuple[nn.Linear, ...]
    weight: Tensor
    bias: Tensor | None

    @property
    def whole(self) -> bool:
        """Whether the layers' parameters are still views of this memory (a move to another device parts them)."""
        return _are_views([part.weight for part in self.parts], self.weight) and (
            self.bias is None or _are_views([part.bias for part in self.parts], self.bias)
        )

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """The layers' own: weights, then biases."""
        weights = tuple(part.weight for part in self.parts)
        return weights if self.bias is None else (*weights, *(part.bias for part in self.parts))

    def __call__(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class Layer:
    """A decoder layer. query_norm, key_norm: over each head, where the model has them."""

    spec: AttentionSpec
    before_attention: Norm
    projections: Product
    query_norm: Norm | None
    key_norm: Norm | None
    out: Product
    before_mlp: Norm
    gate_up: Product
    down: Product


class FusedForward:
    """The forward of a Llama-shaped module over packed tokens; see `Policy.hidden` for its arguments.

    embed, layers, last: what tokens go through. joined: the linear layers of each layer, in the order of the formula.
    heads, kv_heads: of attention. padding: the token whose embedding gets no gradient, if any.
    """

    def __init__(self, module: Any) -> None:
        base = module.base_model
        self._module = module
        self.embed: Tensor = base.embed_tokens.weight
        self.padding: int | None = base.embed_tokens.padding_idx
        self._rotary = base.rotary_emb
        self.last = _norm(base.norm)
        self.joined = [tuple(map(_join, _linears(layer))) for layer in base.layers]
        self.layers = [
            _layer(layer, base.config, joined) for layer, joined in zip(base.layers, self.joined, strict=True)
        ]
        attention = base.layers[0].self_attn
        self.head_dim = int(attention.head_dim)
        self.heads = attention.q_proj.out_features // self.head_dim
        self.kv_heads = attention.k_proj.out_features // self.head_dim

    @property
    def whole(self) -> bool:
        """Whether this still speaks for the module: the same linear layers, in the same memory."""
        base = self._module.base_model
        return self.embed.data_ptr() == base.embed_tokens.weight.data_ptr() and all(
            kept.parts == now and kept.whole
            for joined, layer in zip(self.joined, base.layers, strict=True)
            for kept, now in zip(joined, _linears(layer), strict=True)
        )

    @property
    def widths(self) -> frozenset[int]:
        """Lengths of the inputs and outputs of all its products."""
        return frozenset(size for joined in self.joined for own in joined for size in own.weight.shape)

    def over(self, product: Callable[[Tensor, Tensor | None], Product]) -> FusedForward:
        """The same forward with its linear layers made anew by `product(weight, bias)`; all else is shared."""
        other = copy(self)
        other.layers = []
        for layer, joined in zip(self.layers, self.joined, strict=True):
            projections, out, gate_up, down = (product(own.weight, own.bias) for own in joined)
            other.layers.append(replace(layer, projections=projections, out=out, gate_up=gate_up, down=down))
        return other

    def __call__(self, tokens: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """Last hidden states `[T, D]`."""
        x = self.embed[tokens]
        cos, sin = self.angles(x, positions)
        for layer in self.layers:
            projected = layer.projections(layer.before_attention(x)).unflatten(1, (-1, self.head_dim))
            turned, value = projected.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
            turned = rotate(self.normed(turned, layer), cos, sin)
            query, key = turned.transpose(0, 1).split([self.heads, self.kv_heads])
            seen = layout.attend(query, key, value.transpose(0, 1), layer.spec)
            x = x + layer.out(seen.flatten(1))
            gate, up = layer.gate_up(layer.before_mlp(x)).chunk(2, dim=-1)
            x = x + layer.down(silu(gate).mul_(up))
        return self.last(x)

    @property
    def steady(self) -> bool:
        """As the function below says of the model's rotary embedding."""
        return steady(self._rotary)

    def angles(self, x: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines `[T, 1, D]` of positions `[T]`, in the dtype of x."""
        cos, sin = self._rotary(x[None], positions[None])
        return cos[0].unsqueeze(1), sin[0].unsqueeze(1)

    def normed(self, turned: Tensor, layer: Layer) -> Tensor:
        """Queries and keys `[T, H + Hkv, D]`, after the norms over each head where the model has them."""
        if layer.query_norm is None or layer.key_norm is None:
            return turned
        query, key = turned.split([self.heads, self.kv_heads], dim=1)
        return torch.cat([layer.query_norm(query), layer.key_norm(key)], dim=1)


def fuse(module: Any) -> FusedForward | None:
    """The fused forward of a module, or None where its layers are not of that shape.

    The module's parameters become views of joined memory; their values and identity stay.
    """
    if type(module).__name__ not in SHAPES or module.config.hidden_act != "silu":
        return None
    base = module.base_model
    for layer in base.layers:
        if any(type(one) is not nn.Linear for parts in _linears(layer) for one in parts):  # adapters, quantised layers
            return None
    with torch.inference_mode(mode=False), torch.no_grad():  # the parameters must stay fit for training
        return FusedForward(module)


def steady(rotary: Any) -> bool:
    """Whether a token's rotary angles depend on its position alone, not on the longest of the batch; None has none."""
    types = getattr(rotary, "rope_type", "default")  # a word, or one for each type of layer
    return not {"dynamic", "longrope"} & set(types.values() if isinstance(types, dict) else [types])


def _linears(layer: Any) -> tuple[tuple[nn.Linear, ...], ...]:
    """A decoder layer's linear layers, those of one input together: projections, output, gate and up, down."""
    attention, mlp = layer.self_attn, layer.mlp
    return (
        (attention.q_proj, attention.k_proj, attention.v_proj),
        (attention.o_proj,),
        (mlp.gate_proj, mlp.up_proj),
        (mlp.down_proj,),
    )


def _layer(layer: Any, config: Any, joined: Sequence[Joined]) -> Layer:
    attention = layer.self_attn
    projections, out, gate_up, down = joined
    names = ("q_norm", "k_norm")
    query_norm, key_norm = (_norm(getattr(attention, name)) if hasattr(attention, name) else None for name in names)
    return Layer(
        spec=AttentionSpec(
            layer=int(attention.layer_idx),
            scale=float(attention.scaling),
            window=_window(attention, config),
            softcap=None,
        ),
        before_attention=_norm(layer.input_layernorm),
        projections=projections,
        query_norm=query_norm,
        key_norm=key_norm,
        out=out,
        before_mlp=_norm(layer.post_attention_layernorm),
        gate_up=gate_up,
        down=down,
    )


def _window(attention: Any, config: Any) -> int | None:
    """How far back a layer looks: its own word where it has one (Qwen), else the configuration's (Mistral)."""
    if hasattr(attention, "sliding_window"):
        return attention.sliding_window
    return getattr(config, "sliding_window", None) if config.model_type == "mistral" else None


def _norm(part: Any) -> Norm:
    return Norm(part.weight, float(part.variance_epsilon))


def _join(parts: tuple[nn.Linear, ...]) -> Joined:
    """Lay the parameters of linear layers behind one another; a layer alone stays where it is."""
    biases = [part.bias for part in parts]
    bias = None if biases[0] is None else _behind(biases)
    return Joined(parts, _behind([part.weight for part in parts]), bias)


def _behind(parameters: Sequence[Tensor]) -> Tensor:
    if len(parameters) == 1:
        return parameters[0].data
    joined = torch.cat([parameter.data for parameter in parameters])
    for parameter, view in zip(parameters, joined.split([len(p) for p in parameters]), strict=True):
        parameter.data = view
    return joined


def _are_views(parameters: Sequence[Tensor], joined: Tensor) -> bool:
    at = joined.data_ptr()
    for parameter in parameters:
        if parameter.data_ptr() != at or parameter.dtype != joined.dtype:
            return False
        at += parameter.numel() * parameter.element_size()
    return True


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions on `[T, H, D]`: x · cos + (−x₂, x₁) · sin, halves x₁ and x₂."""
    x, half = x.to(cos.dtype), x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:])
    return out
