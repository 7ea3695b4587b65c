"""The critic's mathematics: by hand, against the definition as a sum, and past masked tokens."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from charter.objectives.moments import all_equal, masked_mean, masked_std
from charter.objectives.value import gae, value_loss, whiten

fast = settings(max_examples=30, deadline=None, derandomize=True)


def f64(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


class TestGae:
    def test_by_hand(self):
        # γ = 0.5, λ = 0.5: δ₂ = 4 − 1 = 3, δ₁ = 0 + 0.5·1 − 2 = −1.5, δ₀ = 1 + 0.5·2 − 3 = −1
        # A₂ = 3, A₁ = −1.5 + ¼·3 = −0.75, A₀ = −1 − ¼·0.75 = −1.1875
        advantages, returns = gae(f64([1, 0, 4]), f64([3, 2, 1]), torch.ones(1, 3), gamma=0.5, lam=0.5)
        assert advantages.tolist() == [[-1.1875, -0.75, 3.0]]
        assert returns.tolist() == [[1.8125, 1.25, 4.0]]

    def test_defaults_are_one_and_095(self):
        # δ₁ = 1 − 0.5, δ₀ = 0.5 − 0.25; A₀ = 0.25 + 0.95·0.5
        advantages, _ = gae(f64([0, 1]), f64([0.25, 0.5]), torch.ones(1, 2))
        assert advantages.tolist() == [pytest.approx([0.725, 0.5])]

    def test_lambda_one_is_return_minus_value(self):
        advantages, returns = gae(f64([1, 2, 3]), f64([9, 8, 7]), torch.ones(1, 3), lam=1.0)
        assert_close(returns, f64([6, 5, 3]))
        assert_close(advantages, f64([-3, -3, -4]))

    @fast
    @given(st.integers(0, 2**31), st.integers(1, 6), st.floats(0, 1), st.floats(0, 1))
    def test_is_the_sum_of_its_definition(self, seed: int, T: int, gamma: float, lam: float):
        """A_t = Σ_k (γλ)^k δ_{t+k} over the row's unmasked tokens; masked ones hold NaN."""
        generator = torch.Generator().manual_seed(seed)
        rewards, values = (torch.randn(2, T, generator=generator, dtype=torch.float64) for _ in range(2))
        mask = torch.rand(2, T, generator=generator) < 0.7
        hidden_r, hidden_v = (x.masked_fill(~mask, float("nan")) for x in (rewards, values))
        advantages, returns = gae(hidden_r, hidden_v, mask, gamma=gamma, lam=lam)
        for b in range(2):
            kept = mask[b].nonzero().flatten().tolist()
            r, v = [rewards[b, t].item() for t in kept], [values[b, t].item() for t in kept] + [0.0]
            for i, t in enumerate(kept):
                deltas = [r[j] + gamma * v[j + 1] - v[j] for j in range(i, len(kept))]
                expected = sum((gamma * lam) ** k * d for k, d in enumerate(deltas))
                assert advantages[b, t].item() == pytest.approx(expected, abs=1e-9)
                assert returns[b, t].item() == pytest.approx(expected + v[i], abs=1e-9)
        assert advantages[~mask].eq(0).all()
        assert returns[~mask].eq(0).all()

    def test_half_precision_is_widened(self):
        # 1 + 2⁻¹⁰ needs eleven bits, bfloat16 has eight
        half = torch.tensor([[1.0, 2.0**-10]], dtype=torch.bfloat16)
        advantages, returns = gae(half, torch.zeros_like(half), torch.ones(1, 2), lam=1.0)
        assert advantages.tolist() == returns.tolist() == [[1 + 2.0**-10, 2.0**-10]]
        assert advantages.dtype == torch.float32

    def test_answers_are_constants(self):
        x = torch.ones(1, 2, requires_grad=True)
        assert not any(y.requires_grad for y in gae(x, x, torch.ones(1, 2)))

    @pytest.mark.parametrize("name", ["gamma", "lam"])
    @pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
    def test_shares(self, name: str, value: float):
        with pytest.raises(ValueError, match=name):
            gae(f64([1]), f64([1]), torch.ones(1, 1), **{name: value})

    @pytest.mark.parametrize("wrong", ["rewards", "values", "mask"])
    def test_shapes(self, wrong: str):
        tensors = {name: torch.ones(1, 2 if name == wrong else 1) for name in ("rewards", "values", "mask")}
        with pytest.raises(ValueError, match=rf"{wrong} \[1, 2\]"):
            gae(**tensors)


class TestValueLoss:
    @pytest.mark.parametrize(
        ("value", "target", "expected", "slope"),
        [
            (1.1, 2.0, 0.405, -0.9),  # inside: ½·0.9²
            (1.5, 2.0, 0.32, 0.0),  # beyond 1.2 towards the target: ½·0.8², nothing to gain
            (1.5, 0.0, 1.125, 1.5),  # beyond, away from the target: the plain error is larger
            (0.5, 0.0, 0.32, 0.0),  # below 0.8 towards the target: ½·0.8²
        ],
    )
    def test_by_hand(self, value: float, target: float, expected: float, slope: float):
        v = f64([value]).requires_grad_()
        loss = value_loss(v, f64([1.0]), f64([target]), torch.ones(1, 1))
        assert loss.item() == pytest.approx(expected)
        loss.sum().backward()
        assert v.grad is not None
        assert v.grad.item() == pytest.approx(slope)

    def test_without_clipping(self):
        assert value_loss(f64([5]), f64([1]), f64([2]), torch.ones(1, 1), clip=None).item() == 4.5

    def test_width(self):
        assert value_loss(f64([2]), f64([1]), f64([3]), torch.ones(1, 1), clip=0.5).item() == pytest.approx(1.125)

    def test_masked_garbage_and_constants(self):
        nan = float("nan")
        v, old, target = (f64([1.0, nan]).requires_grad_() for _ in range(3))
        loss = value_loss(v, old, target.detach() + 1, torch.tensor([[1, 0]]))
        assert loss.tolist() == [[0.5, 0.0]]
        loss.sum().backward()
        assert v.grad is not None
        assert v.grad.tolist() == [[-1.0, 0.0]]
        assert old.grad is None
        live = f64([3.0, nan]).requires_grad_()
        assert value_loss(f64([1.0, nan]), old, live, torch.tensor([[1, 0]])).requires_grad is False

    def test_half_precision_is_widened(self):
        half = torch.tensor([[1.0]], dtype=torch.bfloat16)
        loss = value_loss(half + 0.5, half, half, torch.ones(1, 1))
        assert loss.dtype == torch.float32
        assert loss.item() == 0.125
        assert whiten(half, torch.ones(1, 1)).dtype == torch.float32

    def test_masked_positions_are_zero_whatever_is_clipped(self):
        # under the mask V = 0 would cost ½·(0 − 7)²
        loss = value_loss(f64([1, 1]), f64([1, 5]), f64([1, 7]), torch.tensor([[1, 0]]))
        assert loss.tolist() == [[0.0, 0.0]]

    def test_refusals(self):
        one = torch.ones(1, 1)
        for clip in (0.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="clip"):
                value_loss(one, one, one, one, clip=clip)

    @pytest.mark.parametrize("wrong", ["values", "old_values", "returns", "mask"])
    def test_shapes(self, wrong: str):
        names = ("values", "old_values", "returns", "mask")
        tensors = {name: torch.ones(1, 2 if name == wrong else 1) for name in names}
        with pytest.raises(ValueError, match=rf"\b{wrong} \[1, 2\]"):
            value_loss(**tensors)


class TestMoments:
    x = f64([1.0, 3.0, float("nan")], [float("nan")] * 3, [8.0, float("nan"), float("nan")])
    keep = ~x.isnan()

    def test_rows(self):
        # [1, 3]: mean 2, Σ = 2, std √2; nothing kept and a single one: no spread
        assert masked_mean(self.x, self.keep, (-1,)).tolist() == [[2.0], [0.0], [8.0]]
        assert masked_std(self.x, self.keep, (-1,)).tolist() == [[math.sqrt(2)], [0.0], [0.0]]

    def test_equality(self):
        assert all_equal(self.x, self.keep, (-1,)).tolist() == [[False], [True], [True]]

    def test_everywhere(self):
        # 1, 3, 8: mean 4, Σ = 9 + 1 + 16 = 26, std √13
        assert masked_mean(self.x, self.keep, (0, 1)).tolist() == [[4.0]]
        assert masked_std(self.x, self.keep, (0, 1)).item() == pytest.approx(math.sqrt(13))


class TestWhiten:
    def test_by_hand(self):
        # 1, 2, 6: mean 3, Σ = 4 + 1 + 9 = 14, std √7
        found = whiten(f64([1, 2], [6, float("nan")]), torch.tensor([[1, 1], [1, 0]]), eps=0.5)
        by = 1 / (math.sqrt(7) + 0.5)
        assert_close(found, f64([-2 * by, -by], [3 * by, 0]))

    def test_default_eps_is_1e_8(self):
        # deviation ±1e-8, std √2·1e-8: 1/(√2 + 1)
        found = whiten(f64([1e-8, 3e-8]), torch.ones(1, 2))
        assert_close(found, f64([-1, 1]) / (math.sqrt(2) + 1))

    @fast
    @given(st.integers(0, 2**31), st.integers(2, 5))
    def test_mean_zero_and_std_one(self, seed: int, T: int):
        x = 5 + 3 * torch.randn(3, T, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = whiten(x, torch.ones_like(x))
        assert found.mean().item() == pytest.approx(0, abs=1e-9)
        assert found.std().item() == pytest.approx(1)

    def test_nothing_to_tell_apart(self):
        # in float32 the mean of seven 0.95 is not 0.95
        assert whiten(torch.full((1, 7), 0.95), torch.ones(1, 7), eps=0.0).eq(0).all()
        assert whiten(torch.tensor([[3.0, 9.0]]), torch.tensor([[1, 0]])).eq(0).all()
        assert whiten(torch.tensor([[float("nan"), 9.0]]), torch.zeros(1, 2)).eq(0).all()

    def test_is_a_constant(self):
        assert not whiten(torch.ones(1, 2, requires_grad=True), torch.ones(1, 2)).requires_grad

    def test_shapes(self):
        with pytest.raises(ValueError, match=r"mask \[1, 3\]"):
            whiten(torch.ones(1, 2), torch.ones(1, 3))
