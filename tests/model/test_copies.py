"""Products of 8-bit numbers: against hand-derived numbers, whole-number arithmetic, and the policy's own forward."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from charter.errors import ModelError
from charter.model.copies import DecodingCopy, Fp8Product, Int8Product, require_products
from charter.model.prefix import PackedTrees
from charter.types import Branch, Tree

needs_fbgemm = pytest.mark.skipif(
    "fbgemm" not in torch.backends.quantized.supported_engines, reason="torch has no FBGEMM on this processor"
)
FUSED = ("llama", "qwen2", "qwen3", "mistral")


def in_whole_numbers(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The formula of the module in numpy: int64 sums between two roundings to the nearest even."""
    rows, outputs = x.numpy(), weight.numpy()
    a = np.abs(rows).max(1, keepdims=True) / np.float32(127)
    b = np.abs(outputs).max(1, keepdims=True) / np.float32(63)
    left, right = np.rint(rows / a).astype(np.int64), np.rint(outputs / b).astype(np.int64)
    return torch.from_numpy((left @ right.T) * a.astype(np.float64) * b.T.astype(np.float64))


@needs_fbgemm
def test_one_product_by_hand() -> None:
    """x = [1, -2.5]: a = 2.5/127, q = [50.8 → 51, -127]. W = [3, 4]: b = 4/63, q = [47.25 → 47, 63].
    51 · 47 − 127 · 63 = −5,604, and −5,604 · 2.5/127 · 4/63 = −7.00412."""
    y = Int8Product(torch.tensor([[3.0, 4.0]]), None)(torch.tensor([[1.0, -2.5]]))
    assert y.item() == pytest.approx(-7.00412, abs=1e-5)
    with_bias = Int8Product(torch.tensor([[3.0, 4.0]]), torch.tensor([0.5]))(torch.tensor([[1.0, -2.5]]))
    assert with_bias.item() == pytest.approx(-6.50412, abs=1e-5)


@needs_fbgemm
@pytest.mark.parametrize(("rows", "outputs", "inner"), [(1, 3, 5), (7, 33, 64), (40, 96, 576), (3, 576, 1536)])
def test_it_is_the_formula_in_whole_numbers(rows: int, outputs: int, inner: int) -> None:
    rng = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, inner, generator=rng) * torch.logspace(-3, 3, rows)[:, None]
    weight = torch.randn(outputs, inner, generator=rng)
    found, expected = Int8Product(weight, None)(x), in_whole_numbers(x, weight)
    scale = expected.abs().amax(1, keepdim=True)
    # x / a at exactly half may fall either way in float32; such a step changes a sum by 63 at most
    assert ((found - expected).abs() / scale).max() < 2e-3
    assert ((found - expected).abs() / scale).median() < 1e-6


@needs_fbgemm
def test_sums_of_the_largest_numbers_do_not_saturate() -> None:
    """Every product is 127 · 63; two of them overflow 16 bits where weights have 8 bits. y = K exactly."""
    for inner in (2, 64, 1536):
        y = Int8Product(torch.ones(8, inner), None)(torch.ones(5, inner))
        torch.testing.assert_close(y, torch.full((5, 8), float(inner)), rtol=1e-6, atol=0)
        y = Int8Product(torch.ones(8, inner), None)(-torch.ones(5, inner))
        torch.testing.assert_close(y, torch.full((5, 8), -float(inner)), rtol=1e-6, atol=0)


@needs_fbgemm
def test_a_row_does_not_depend_on_the_others() -> None:
    rng = torch.Generator().manual_seed(0)
    product = Int8Product(torch.randn(48, 64, generator=rng), None)
    x = torch.randn(9, 64, generator=rng)
    together = product(x)
    alone = torch.cat([product(row[None]) for row in x])
    assert torch.equal(together, alone)
    assert torch.equal(product(torch.cat([x, 1000 * x]))[:9], together)


@needs_fbgemm
def test_a_row_of_zeros_is_zero_and_the_engine_stays() -> None:
    before = torch.backends.quantized.engine
    y = Int8Product(torch.cat([torch.ones(2, 16), torch.zeros(1, 16)]), None)(torch.zeros(2, 16))
    assert torch.equal(y, torch.zeros(2, 3))
    assert torch.backends.quantized.engine == before


def test_fp8_is_the_product_of_the_rounded_numbers() -> None:
    rng = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*size, generator=rng) for size in ((7, 64), (32, 64), (32,)))
    a, b = (part.abs().amax(1, keepdim=True) / 448 for part in (x, weight))
    left, right = ((part / scale).to(torch.float8_e4m3fn).double() for part, scale in ((x, a), (weight, b)))
    expected = left @ right.T * a.double() * b.T.double() + bias.double()
    found = Fp8Product(weight, bias)(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), expected, rtol=2**-7, atol=0.05)


@needs_fbgemm
@pytest.mark.parametrize("family", FUSED)
def test_a_model_in_8_bits_is_near_the_model_and_not_it(tiny_policy: Any, family: str) -> None:
    policy = tiny_policy(family)
    tree = Tree(prefix=tuple(range(5, 25)), branches=(Branch(tokens=(7, 8, 9), mask=(True,) * 3),))
    packed = PackedTrees.pack([tree])
    with torch.inference_mode():
        exact = policy.logits(policy.hidden(packed.tokens, packed.positions, packed.layout())).log_softmax(-1)
        copy = DecodingCopy(policy, "int8")
        near = copy.logits(copy.hidden(packed.tokens, packed.positions, packed.layout())).log_softmax(-1)
    kl = (near.exp() * (near - exact)).sum(-1)
    assert 1e-7 < kl.mean() < 5e-3
    assert policy.head.product is None


@needs_fbgemm
def test_the_copy_keeps_what_the_policy_was(tiny_policy: Any) -> None:
    policy = tiny_policy("llama")
    packed = PackedTrees.pack([Tree(prefix=(4, 5, 6), branches=(Branch(tokens=(7,), mask=(True,)),))])
    with torch.inference_mode():
        copy = DecodingCopy(policy, "int8")
        before = copy.hidden(packed.tokens, packed.positions, packed.layout())
    with torch.no_grad():
        policy.module.model.layers[0].mlp.down_proj.weight.mul_(3)
    with torch.inference_mode():
        assert torch.equal(copy.hidden(packed.tokens, packed.positions, packed.layout()), before)
        anew = DecodingCopy(policy, "int8").hidden(packed.tokens, packed.positions, packed.layout())
        assert not torch.equal(anew, before)


def test_what_has_no_such_products_is_refused_by_name(tiny_policy: Any) -> None:
    with pytest.raises(ModelError, match=r"sampling.precision = 'int8' needs a model of Llama's shape .* is a Gemma"):
        require_products(tiny_policy("gemma"), "int8")
    with pytest.raises(ModelError, match=r"'fp8' needs a CUDA device of compute capability 8\.9 or more"):
        require_products(tiny_policy("llama"), "fp8")
    adapted = tiny_policy("llama")
    adapted.module.model.layers[0].self_attn.q_proj = torch.nn.Sequential(
        adapted.module.model.layers[0].self_attn.q_proj
    )
    with pytest.raises(ModelError, match="without adapters"):
        require_products(adapted, "int8")


def test_the_bf16_copy_is_what_autocast_computes_bit_by_bit(tiny_policy: Any) -> None:
    policy = tiny_policy("llama")
    policy.compute = torch.bfloat16
    packed = PackedTrees.pack([Tree(prefix=(4, 5, 6, 9), branches=(Branch(tokens=(7, 8), mask=(True,) * 2),))])
    given = packed.tokens, packed.positions, packed.layout()
    with torch.inference_mode(), policy.arithmetic():
        copy = DecodingCopy(policy, "bf16")
        expected, found = policy.hidden(*given), copy.hidden(*given)
        assert torch.equal(expected, found)
        assert torch.equal(policy.logits(expected), copy.logits(found))
