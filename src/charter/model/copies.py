"""Copies of a policy's weights that decode faster than the policy's own: in bfloat16, or in 8 bits.

bf16 is what autocast would cast the weights to in every step, kept: the same numbers, bit by bit. The others are not:

    y_no = a_n b_o Σ_k q(x_nk / a_n) q(W_ok / b_o) + bias_o,      a_n = max_k |x_nk| / A,   b_o = max_k |W_ok| / B

One scale for each token and one for each output: a token's result does not depend on what else is in the batch.

    int8 (CPU):   q rounds to whole numbers, A = 127, B = 63; sums of whole numbers are exact
    fp8 (Hopper): q rounds to float8 e4m3, A = B = 448

B is 63 rather than 127 because x86 without VNNI adds two products in 16 bits: 2 · 255 · 63 = 32,130 fits, and so these
products are the same with and without VNNI. Only decoding runs on these: prompts go through the policy's own
products, so that what every token looks back at, the first ones with their large activations above all, is exact.

What is drawn comes from another distribution than the one that learns; `charter.objectives.mismatch` corrects for it.
The weights are a copy, made again after every update. Source of the scales: LLM.int8(), arXiv 2208.07339, section 2.1.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from charter.errors import ModelError
from charter.model.attention import Layout
from charter.model.fused import SHAPES, FusedForward, Product
from charter.model.load import Policy

Precision = Literal["bf16", "int8", "fp8"]
_INT8_TOKEN, _INT8_WEIGHT, _FP8 = 127, 63, 448.0
_MULTIPLY = "linear_with_input_q_dq_qweight_dq_output_fp32"
_SMALLEST = 1e-12
"""Of a scale, so that a row of zeros has one."""
_engine = threading.Lock()


class Int8Product:
    """y = W x + bias in whole numbers of 8 bits. weight: `[N, K]` float; bias: `[N]` or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        weight = weight.detach().float()
        scale = _largest(weight, 1).div_(_INT8_WEIGHT)
        rounded = (weight / scale[:, None]).round_().to(torch.int8)
        with _fbgemm():
            # its own scales of outputs are read one by one when it packs, which takes as long as packing
            self._packed = torch.ops.quantized.linear_prepack(
                torch.ops.aten._make_per_tensor_quantized_tensor(rounded, 1.0, 0), None
            )
        self._scale = scale
        self._bias = None if bias is None else bias.detach().float()

    def __call__(self, x: Tensor) -> Tensor:
        """`[M, K]` → float32 `[M, N]`."""
        x = x.float()
        scale = _largest(x, 1)[:, None].div_(_INT8_TOKEN)
        y = (
            getattr(torch.ops.quantized, _MULTIPLY)(x / scale, 1.0, _INT8_TOKEN + 1, self._packed)
            .mul_(scale)
            .mul_(self._scale)
        )
        return y if self._bias is None else y.add_(self._bias)


class Bf16Product:
    """y = W x + bias as autocast to bfloat16 has it. weight: `[N, K]` float; bias: `[N]` or None."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self._weight = weight.detach().to(torch.bfloat16)
        self._bias = None if bias is None else bias.detach().to(torch.bfloat16)

    def __call__(self, x: Tensor) -> Tensor:
        """`[M, K]` → bfloat16 `[M, N]`."""
        return torch.nn.functional.linear(x.to(torch.bfloat16), self._weight, self._bias)


class Fp8Product:
    """y = W x + bias in float8 e4m3, sums in float32. weight: `[N, K]` float, N and K multiples of 16."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        weight = weight.detach().float()
        scale = _largest(weight, 1).div_(_FP8)
        self._weight = (weight / scale[:, None]).to(torch.float8_e4m3fn).T
        self._scale = scale[None]
        self._bias = None if bias is None else bias.detach().float()

    def __call__(self, x: Tensor) -> Tensor:
        """`[M, K]` → bfloat16 `[M, N]`."""
        x = x.float()
        scale = _largest(x, 1)[:, None].div_(_FP8)
        y = torch.ops.aten._scaled_mm(
            (x / scale).to(torch.float8_e4m3fn),
            self._weight,
            scale_a=scale,
            scale_b=self._scale,
            out_dtype=torch.bfloat16,
        )
        return y if self._bias is None else (y + self._bias).to(y.dtype)


PRODUCTS: dict[Precision, Callable[[Tensor, Tensor | None], Product]] = {
    "bf16": Bf16Product,
    "int8": Int8Product,
    "fp8": Fp8Product,
}


class DecodingCopy:
    """A copy of a policy's weights that decodes: the policy's own layers and head over `PRODUCTS`.

    Raises: ModelError where the model's shape or the machine has no such products.
    """

    def __init__(self, policy: Policy, precision: Precision) -> None:
        require_products(policy, precision)
        own = policy.fused_forward()
        assert own is not None
        product = PRODUCTS[precision]
        self._forward: FusedForward = own.over(product)
        self._head = replace(policy.head, product=product(policy.head.weight, policy.head.bias))

    def hidden(self, tokens: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        """As `Policy.hidden`."""
        return self._forward(tokens, positions, layout)

    def logits(self, hidden: Tensor) -> Tensor:
        """As `Head.logits`."""
        return self._head.logits(hidden)


def require_products(policy: Policy, precision: Precision) -> None:
    """Raises: ModelError naming sampling.precision and what is missing, without making a copy."""
    where = f"sampling.precision = {precision!r}"
    own = policy.fused_forward()
    if own is None:
        raise ModelError(
            f"{where} needs a model of Llama's shape without adapters ({', '.join(sorted(SHAPES))}); {policy.source} "
            f'is a {type(policy.module).__name__}. Use precision = "model"'
        )
    if precision == "int8" and policy.device.type != "cpu":
        raise ModelError(f'{where} runs on a CPU, and this policy is on {policy.device}: use "fp8" or "model"')
    here = "fbgemm" in torch.backends.quantized.supported_engines
    if precision == "int8" and not (here and hasattr(torch.ops.quantized, _MULTIPLY)):
        raise ModelError(f'{where} needs an x86 CPU with AVX2 (torch\'s FBGEMM); use precision = "model"')
    if precision == "fp8" and not _has_fp8(policy.device):
        raise ModelError(
            f"{where} needs a CUDA device of compute capability 8.9 or more, and this policy is on {policy.device}: "
            'use precision = "model", or "int8" on a CPU'
        )
    sizes = {*policy.head.weight.shape, *own.widths}
    if precision == "fp8" and (odd := sorted(size for size in sizes if size % 16)):
        raise ModelError(f'{where} needs widths that are multiples of 16; {policy.source} has {odd}. Use "model"')


def _has_fp8(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def _largest(x: Tensor, dim: int) -> Tensor:
    """max |x| along `dim`, without a copy of x."""
    return torch.maximum(x.amax(dim), -x.amin(dim)).clamp_(min=_SMALLEST)


@contextmanager
def _fbgemm() -> Iterator[None]:
    """Pack for FBGEMM whatever engine the process has chosen; the choice is put back."""
    with _engine, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao moves to a package of its own; these operators stay
        before = torch.backends.quantized.engine
        torch.backends.quantized.engine = "fbgemm"
        try:
            yield
        finally:
            torch.backends.quantized.engine = before
