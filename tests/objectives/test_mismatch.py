"""Sampler mismatch: weights and statistics, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from charter.objectives.mismatch import mismatch_statistics, mismatch_weights

# ratios old / sampler: 1, 1.9, 4, 0.6, 0.4
SAMPLER = torch.full((1, 5), -0.5, dtype=torch.float64)
OLD = SAMPLER + torch.tensor([[1.0, 1.9, 4.0, 0.6, 0.4]], dtype=torch.float64).log()


class TestWeights:
    @pytest.mark.parametrize(
        ("how", "cap", "expected"),
        [
            ("truncate", 2.0, [1, 1.9, 2, 0.6, 0.4]),
            ("truncate", 3.0, [1, 1.9, 3, 0.6, 0.4]),
            ("mask", 2.0, [1, 1.9, 0, 0.6, 0]),
            ("mask", 5.0, [1, 1.9, 4, 0.6, 0.4]),
            ("mask", 1.8, [1, 0, 0, 0.6, 0]),
            ("none", 2.0, [1, 1, 1, 1, 1]),
        ],
    )
    def test_by_hand(self, how: str, cap: float, expected: list[float]):
        assert mismatch_weights(OLD, SAMPLER, how, cap).tolist() == [pytest.approx(expected)]

    def test_defaults(self):
        assert mismatch_weights(OLD, SAMPLER).tolist() == mismatch_weights(OLD, SAMPLER, "truncate", 2.0).tolist()

    def test_the_range_holds_its_ends(self):
        # exactly: exp(0) = 1, and with C = 1 both ends are 1
        assert mismatch_weights(SAMPLER, SAMPLER, "mask", 1.0).tolist() == [[1.0] * 5]
        upper = (OLD - SAMPLER).exp()[0, 2].item()
        assert mismatch_weights(OLD, SAMPLER, "mask", upper)[0, 2].item() == upper

    def test_no_gradient(self):
        lp, sampler = torch.zeros(1, 2, requires_grad=True), torch.zeros(1, 2, requires_grad=True)
        for how in ("truncate", "mask", "none"):
            assert not mismatch_weights(lp, sampler, how).requires_grad

    def test_half_precision_is_widened(self):
        old, sampler = torch.tensor([[-0.5]]).bfloat16(), torch.tensor([[-1.0]]).bfloat16()
        found = mismatch_weights(old, sampler)
        assert found.dtype == torch.float32
        assert found.item() == pytest.approx(math.exp(0.5))

    def test_masked_garbage(self):
        nan = torch.full_like(OLD, float("nan"))
        mask = torch.tensor([[0, 1, 0, 1, 0]])
        for how in ("truncate", "mask"):
            found = mismatch_weights(torch.where(mask > 0, OLD, nan), SAMPLER, how, mask=mask)
            assert found.tolist() == [pytest.approx([0, 1.9, 0, 0.6, 0])]

    def test_overflow_is_truncated(self):
        assert mismatch_weights(torch.full((1, 1), 500.0), torch.zeros(1, 1)).item() == 2

    def test_refusals(self):
        with pytest.raises(ValueError, match="none, truncate, mask"):
            mismatch_weights(OLD, SAMPLER, "clip")
        for cap in (0.99, float("nan")):
            with pytest.raises(ValueError, match="cap"):
                mismatch_weights(OLD, SAMPLER, cap=cap)
        with pytest.raises(ValueError, match="sampler_logprobs"):
            mismatch_weights(OLD, SAMPLER[:, :2])
        with pytest.raises(ValueError, match=r"mask \[1, 2\]"):
            mismatch_weights(OLD, SAMPLER, mask=torch.ones(1, 2))


class TestStatistics:
    def test_by_hand(self):
        # two loss tokens with old − sampler = log 2 and −log 4: |·| averages 1.5 log 2, at most 2 log 2;
        # k3 of KL(sampler ‖ learner) is 2 − 1 − log 2 and ¼ − 1 + log 4
        sampler = torch.tensor([[-1.0, -3.0, -2.0]], dtype=torch.float64).requires_grad_()
        old = (sampler + torch.tensor([[2.0, 0.25, 7.0]], dtype=torch.float64).log()).detach().requires_grad_()
        found = mismatch_statistics(old, sampler, torch.tensor([[1, 1, 0]]))
        log2 = math.log(2)
        assert {k: v.item() for k, v in found.items()} == pytest.approx(
            {
                "sampling/logprob_diff_mean": 1.5 * log2,
                "sampling/logprob_diff_max": 2 * log2,
                "sampling/kl": ((1 - log2) + (2 * log2 - 0.75)) / 2,
            }
        )
        assert not any(v.requires_grad for v in found.values())

    def test_masked_garbage(self):
        old = torch.tensor([[0.5, float("nan")]])
        found = mismatch_statistics(old, torch.tensor([[0.0, float("-inf")]]), torch.tensor([[1, 0]]))
        assert found["sampling/logprob_diff_max"].item() == 0.5
        assert found["sampling/logprob_diff_mean"].item() == 0.5
        assert found["sampling/kl"].item() == pytest.approx(math.exp(0.5) - 1.5, rel=1e-5)

    def test_half_precision_is_widened(self):
        old, sampler = torch.tensor([[-0.5]]).bfloat16(), torch.tensor([[-1.0]]).bfloat16()
        found = mismatch_statistics(old, sampler, torch.ones(1, 1))
        assert {x.dtype for x in found.values()} == {torch.float32}

    def test_nothing_to_compare(self):
        for width in (0, 2):
            x = torch.zeros(1, width)
            assert [v.item() for v in mismatch_statistics(x, x, x).values()] == [0, 0, 0]

    def test_shapes(self):
        ones = torch.ones(1, 5)
        with pytest.raises(ValueError, match=r"mask \[1, 2\]"):
            mismatch_statistics(OLD, SAMPLER, ones[:, :2])
        with pytest.raises(ValueError, match=r"old_logprobs \[1, 2\]"):
            mismatch_statistics(OLD[:, :2], SAMPLER, ones)
        with pytest.raises(ValueError, match=r"sampler_logprobs \[1, 2\]"):
            mismatch_statistics(OLD, SAMPLER[:, :2], ones)
