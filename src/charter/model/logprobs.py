"""Log-probabilities of chosen tokens, without ever holding `[tokens, vocabulary]`.

    z = cap(W h + b) / τ,      log p(y) = z_y − log Σ_v exp z_v,      H = log Σ exp z − Σ p z

Forward and backward walk over chunks of rows, so the largest tensor is `[chunk, V]`. The gradient is
∂log p(y)/∂z = onehot(y) − softmax(z). Where the loss is a sum over tokens, ∂loss/∂log p(y) is known with the chunk's
own log-probabilities, and the gradient is formed in the forward, from the same logits; elsewhere the backward computes
them again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from charter.model.few_rows import linear

CHUNK_BYTES = 64 * 2**20
"""Largest logits chunk: big enough for full-speed matrix products, small beside any model."""

BLOCK_BYTES = 2**20
"""Logits of a chunk that go through the softmax together on a CPU."""

Upstream = Callable[[slice, Tensor], Tensor]
"""(some of the rows, their log-probabilities `[n]`) → ∂loss/∂log p(y) of each `[n]`."""


@dataclass(frozen=True, slots=True)
class Head:
    """A model's output layer: logits = softcap(scale · (weight @ h + bias)).

    weight `[V, D]`; bias `[V]` or None; scale and softcap as the architecture defines them.
    product: computes weight @ h + bias in `logits` in place of these two; no gradient reaches them through it.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    product: Callable[[Tensor], Tensor] | None = None

    def logits(self, hidden: Tensor) -> Tensor:
        """`[N, D]` → float32 (or wider) `[N, V]`."""
        hidden = hidden.to(self.weight.dtype)
        raw = linear(hidden, self.weight, self.bias) if self.product is None else self.product(hidden)
        raw = raw.to(torch.promote_types(raw.dtype, torch.float32))
        if self.scale != 1.0:
            raw = raw * self.scale
        return raw if self.softcap is None else self.softcap * torch.tanh(raw / self.softcap)


def chunk_rows(vocabulary: int, element_bytes: int = 4) -> int:
    """Rows of logits that fit in a chunk."""
    return max(16, CHUNK_BYTES // (vocabulary * element_bytes))


def _to_probabilities(logits: Tensor, targets: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(log p(y), H) `[n]` of logits `[n, V]`, which become the probabilities under the temperature."""
    # on a CPU by so few rows that what lies between the passes stays in the cache, and next to nothing is there twice
    few = len(logits) if logits.device.type != "cpu" else max(1, BLOCK_BYTES // (logits.shape[1] * logits.itemsize))
    logprobs: list[Tensor] = []
    entropy: list[Tensor] = []
    for z, wanted in zip(logits.split(few), targets.split(few), strict=True):
        if temperature != 1:
            z.div_(temperature)
        normaliser = torch.logsumexp(z, dim=-1)
        logprobs.append(z.gather(1, wanted[:, None])[:, 0] - normaliser)
        probs = torch.sub(z, normaliser[:, None]).exp_()
        entropy.append(normaliser - torch.linalg.vecdot(probs, z))
        z.copy_(probs)
    return torch.cat(logprobs), torch.cat(entropy)


class _Gradients:
    """Sums of the gradients of hidden states, weight and bias, chunk by chunk; those that are not needed stay None."""

    def __init__(self, needed: Sequence[bool], hidden: Tensor, weight: Tensor, bias: Tensor | None) -> None:
        self._hidden, self._weight = hidden, weight
        self.hidden = torch.empty_like(hidden) if needed[0] else None
        self.weight = torch.zeros_like(weight) if needed[1] else None
        self.bias = torch.zeros_like(bias) if needed[2] and bias is not None else None

    def add(self, rows: slice, head: Head, logits: Tensor, probs: Tensor, targets: Tensor, upstream: Tensor) -> None:
        """One chunk. logits: before the temperature, read for a softcap alone. probs: `[n, V]`, overwritten.
        upstream: `[n]`, ∂loss/∂(log p(y)) / τ."""
        grad = probs.mul_(-upstream[:, None])
        grad.scatter_add_(1, targets[rows, None], upstream[:, None])
        if head.softcap is not None:
            grad.mul_(1 - (logits / head.softcap).square_())
        if head.scale != 1.0:
            grad.mul_(head.scale)
        grad = grad.to(self._weight.dtype)
        if self.hidden is not None:
            self.hidden[rows] = (grad @ self._weight).to(self.hidden.dtype)
        if self.weight is not None:
            self.weight.addmm_(grad.T, self._hidden[rows].to(self._weight.dtype))
        if self.bias is not None:
            self.bias += grad.sum(0)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        head: Head,
        targets: Tensor,
        temperature: float,
        upstream: Upstream | None,
    ) -> tuple[Tensor, Tensor]:
        precise = torch.promote_types(hidden.dtype, torch.float32)
        logprobs = torch.empty(len(targets), dtype=precise, device=hidden.device)
        entropy = torch.empty_like(logprobs)
        formed = _Gradients(ctx.needs_input_grad, hidden, weight, bias) if upstream is not None else None
        expected = torch.empty_like(logprobs) if upstream is not None else None
        size = chunk_rows(weight.shape[0], precise.itemsize)
        for at in range(0, len(targets), size):
            rows = slice(at, at + size)
            logits = head.logits(hidden[rows])
            raw = logits if head.softcap is None or formed is None else logits.clone()
            with torch.autocast(hidden.device.type, enabled=False):  # which would round sums over the vocabulary
                logprobs[rows], entropy[rows] = _to_probabilities(logits, targets[rows], temperature)
                if upstream is not None and formed is not None and expected is not None:
                    expected[rows] = upstream(rows, logprobs[rows])
                    formed.add(rows, head, raw, logits, targets, expected[rows] / temperature)
        ctx.save_for_backward(hidden, targets, weight, bias)
        ctx.head, ctx.temperature, ctx.formed, ctx.expected = head, temperature, formed, expected
        ctx.autocast = torch.is_autocast_enabled(hidden.device.type), torch.get_autocast_dtype(hidden.device.type)
        ctx.mark_non_differentiable(entropy)
        return logprobs, entropy

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, targets, weight, bias = ctx.saved_tensors
        head: Head = ctx.head
        found: _Gradients | None = ctx.formed
        ctx.formed = None  # handed out once: whoever takes a gradient may write into it
        if found is None or not torch.allclose(grads[0], ctx.expected, rtol=1e-5, atol=0):
            found = _Gradients(ctx.needs_input_grad, hidden, weight, bias)
            size = chunk_rows(weight.shape[0], grads[0].dtype.itemsize)
            enabled, dtype = ctx.autocast
            for at in range(0, len(targets), size):
                rows = slice(at, at + size)
                with torch.autocast(hidden.device.type, dtype=dtype, enabled=enabled):  # the forward's own rounding
                    logits = head.logits(hidden[rows])
                probs = torch.softmax(logits / ctx.temperature, dim=-1)
                found.add(rows, head, logits, probs, targets, grads[0][rows] / ctx.temperature)
        return found.hidden, found.weight, found.bias, None, None, None, None


def token_logprobs(
    hidden: Tensor, head: Head, targets: Tensor, temperature: float = 1.0, *, upstream: Upstream | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target under the tempered distribution, and that distribution's entropy.

    hidden: `[N, D]`. targets: `[N]` ids. temperature: τ > 0. upstream: what the backward will be given, where that is
    known as soon as a chunk's log-probabilities are; then the chunk's logits and softmax serve for the gradient too and
    are not computed twice. It is an expectation: a backward that is given other numbers computes them again.
    Returns (logprobs `[N]`, differentiable; entropy `[N]` in nats, without gradient), float32 or wider.
    Raises ValueError for a temperature that is not positive.
    """
    if temperature <= 0:
        raise ValueError(f"temperature must be above 0 to have log-probabilities, got {temperature}")
    if not torch.is_grad_enabled():
        upstream = None
    logprobs, entropy = _TokenLogprobs.apply(  # type: ignore[misc]
        hidden, head.weight, head.bias, head, targets, temperature, upstream
    )
    return logprobs, entropy
