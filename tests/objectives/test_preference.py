"""Pairwise losses: by hand, by symmetry, and far outside the comfortable numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from charter.objectives.preference import bradley_terry_loss, dpo_loss, preference_statistics

KINDS = ("dpo", "cdpo", "ipo", "length_normalized")
LENGTHS: dict[str, Any] = {"length_a": torch.tensor([2.0]), "length_b": torch.tensor([4.0])}
fast = settings(max_examples=30, deadline=None, derandomize=True)
logits = st.floats(-20, 20)


def t(x: float) -> Tensor:
    return torch.tensor([x], dtype=torch.float64)


def nlog_sigmoid(x: float) -> float:
    """−log σ(x) by its definition."""
    return math.log1p(math.exp(-x))


class TestBradleyTerry:
    def test_by_hand(self):
        # margin log 3: σ = 3/4, so the loss is log 4/3, and log 4 for the other label
        a, b = t(math.log(3) + 1), t(1.0)
        assert bradley_terry_loss(a, b).item() == pytest.approx(math.log(4 / 3))
        assert bradley_terry_loss(a, b, 0.0).item() == pytest.approx(math.log(4))
        assert bradley_terry_loss(a, b, 0.25).item() == pytest.approx(0.25 * math.log(4 / 3) + 0.75 * math.log(4))

    def test_gradient_is_confidence_minus_label(self):
        a = t(math.log(3)).requires_grad_()
        bradley_terry_loss(a, t(0.0), 0.9).sum().backward()
        assert a.grad is not None
        assert a.grad.item() == pytest.approx(0.75 - 0.9)

    @fast
    @given(logits, logits, st.floats(0, 1))
    def test_naming_the_pair_the_other_way_round_changes_nothing(self, a: float, b: float, p: float):
        assert_close(bradley_terry_loss(t(a), t(b), p), bradley_terry_loss(t(b), t(a), 1 - p))

    def test_extreme_margins(self):
        a = torch.tensor([500.0, -500.0], requires_grad=True)
        loss = bradley_terry_loss(a, torch.zeros(2))
        assert loss.tolist() == [0.0, 500.0]
        loss.sum().backward()
        assert a.grad is not None
        assert a.grad.tolist() == [0.0, -1.0]

    def test_labels_per_pair(self):
        found = bradley_terry_loss(torch.zeros(2), torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0]))
        assert found.tolist() == pytest.approx([nlog_sigmoid(-1), nlog_sigmoid(1)])

    def test_labels_are_constants(self):
        assert not bradley_terry_loss(t(1), t(0), t(0.5).requires_grad_()).requires_grad

    def test_half_precision_is_widened(self):
        assert bradley_terry_loss(torch.ones(1).half(), torch.ones(1).half()).dtype == torch.float32

    @pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
    def test_labels_are_probabilities(self, p: float):
        with pytest.raises(ValueError, match="probability"):
            bradley_terry_loss(t(0), t(0), p)
        with pytest.raises(ValueError, match="probability"):  # one good label excuses no other
            bradley_terry_loss(torch.zeros(2), torch.zeros(2), torch.tensor([0.5, p]))

    def test_shapes(self):
        with pytest.raises(ValueError, match=r"score_a \[1\], score_b \[2\]"):
            bradley_terry_loss(t(0), torch.zeros(2))
        with pytest.raises(ValueError, match=r"p has the shape \[2\]"):
            bradley_terry_loss(t(0), t(0), torch.ones(2))


# log-ratios: a: −10 − (−13) = 3; b: −20 − (−18) = −2; h = 5
PAIR = (t(-10), t(-20), t(-13), t(-18))


class TestDpo:
    def test_dpo(self):
        assert dpo_loss(*PAIR).item() == pytest.approx(nlog_sigmoid(0.5))
        assert dpo_loss(*PAIR, beta=0.2).item() == pytest.approx(nlog_sigmoid(1.0))

    def test_label_smoothing(self):
        expected = 0.9 * nlog_sigmoid(0.5) + 0.1 * nlog_sigmoid(-0.5)
        assert dpo_loss(*PAIR, label_smoothing=0.1).item() == pytest.approx(expected)
        assert dpo_loss(*PAIR, kind="cdpo", label_smoothing=0.1).item() == pytest.approx(expected)
        # p = 0.8 with a tenth flipped: 0.8·0.9 + 0.2·0.1 = 0.74
        expected = 0.74 * nlog_sigmoid(0.5) + 0.26 * nlog_sigmoid(-0.5)
        assert dpo_loss(*PAIR, 0.8, label_smoothing=0.1).item() == pytest.approx(expected)

    def test_soft_labels(self):
        expected = 0.7 * nlog_sigmoid(0.5) + 0.3 * nlog_sigmoid(-0.5)
        assert dpo_loss(*PAIR, torch.tensor([0.7], dtype=torch.float64)).item() == pytest.approx(expected)

    def test_ipo(self):
        # target 1/(2·0.1) = 5 = h; with β = 0.25 it is 2
        assert dpo_loss(*PAIR, kind="ipo").item() == pytest.approx(0)
        assert dpo_loss(*PAIR, kind="ipo", beta=0.25).item() == pytest.approx(9)
        assert dpo_loss(*PAIR, 0.0, kind="ipo", beta=0.25).item() == pytest.approx(49)
        assert dpo_loss(*PAIR, 0.75, kind="ipo", beta=0.25).item() == pytest.approx(0.75 * 9 + 0.25 * 49)

    def test_length_normalized(self):
        # 3/2 − (−2)/4 = 2, times β = 0.1
        assert dpo_loss(*PAIR, kind="length_normalized", **LENGTHS).item() == pytest.approx(nlog_sigmoid(0.2))

    @pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
    def test_lengths_of_any_dtype_leave_the_answer_its_own(self, dtype: torch.dtype):
        one = torch.ones(1, dtype=dtype)
        pair = [x.float() for x in PAIR]
        loss = dpo_loss(*pair, kind="length_normalized", length_a=one, length_b=one)
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(nlog_sigmoid(0.5), rel=1e-6)

    @pytest.mark.parametrize("kind", KINDS)
    def test_only_the_policy_gets_a_gradient(self, kind: str):
        inputs = pa, pb, ra, rb = [x.clone().requires_grad_() for x in PAIR]
        dpo_loss(pa, pb, ra, rb, 0.8, kind=kind, beta=0.3, **LENGTHS).sum().backward()
        assert [x.grad is not None for x in inputs] == [True, True, False, False]

    def test_gradient(self):
        # β(σ(βh) − 1) = 0.1·(0.6224593 − 1)
        a, b = (x.clone().requires_grad_() for x in PAIR[:2])
        dpo_loss(a, b, *PAIR[2:]).sum().backward()
        assert a.grad is not None
        assert b.grad is not None
        assert a.grad.item() == pytest.approx(-0.03775407, rel=1e-6)
        assert b.grad.item() == pytest.approx(0.03775407, rel=1e-6)

    @fast
    @given(st.tuples(logits, logits, logits, logits), st.floats(0, 1), st.sampled_from(KINDS), st.floats(0, 0.49))
    def test_naming_the_pair_the_other_way_round_changes_nothing(self, numbers, p: float, kind: str, epsilon: float):
        pa, pb, ra, rb = map(t, numbers)
        length_a, length_b = LENGTHS.values()
        once = dpo_loss(pa, pb, ra, rb, p, kind=kind, label_smoothing=epsilon, length_a=length_a, length_b=length_b)
        turned = dpo_loss(
            pb, pa, rb, ra, 1 - p, kind=kind, label_smoothing=epsilon, length_a=length_b, length_b=length_a
        )
        assert_close(once, turned)

    def test_extreme_margins_stay_finite(self):
        lp, zero = torch.tensor([1e4, -1e4], requires_grad=True), torch.zeros(2)
        loss = dpo_loss(lp, zero, zero, zero)
        assert loss.tolist() == [0.0, 1000.0]
        loss.sum().backward()
        assert lp.grad is not None
        assert lp.grad.isfinite().all()

    @pytest.mark.parametrize("kind", KINDS)
    def test_half_precision_is_widened(self, kind: str):
        # −10.0625 + 0.0078125 needs more than bfloat16's eight bits
        pa, pb, ra, rb = (torch.tensor([x]).bfloat16() for x in (-10.0625, -0.0078125, -0.0078125, -20.125))
        narrow = dpo_loss(pa, pb, ra, rb, kind=kind, **LENGTHS)
        assert narrow.dtype == torch.float32
        assert narrow.equal(dpo_loss(pa.float(), pb.float(), ra.float(), rb.float(), kind=kind, **LENGTHS))

    def test_refusals(self):
        with pytest.raises(ValueError, match=r"'kto'.*dpo, cdpo, ipo, length_normalized"):
            dpo_loss(*PAIR, kind="kto")
        for beta in (0.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="beta"):
                dpo_loss(*PAIR, beta=beta)
        for epsilon in (-0.1, 0.5, float("nan")):
            with pytest.raises(ValueError, match="label_smoothing"):
                dpo_loss(*PAIR, label_smoothing=epsilon)
        with pytest.raises(ValueError, match="needs length_a"):
            dpo_loss(*PAIR, kind="length_normalized", length_b=torch.ones(1))
        with pytest.raises(ValueError, match="needs length_b"):
            dpo_loss(*PAIR, kind="length_normalized", length_a=torch.ones(1))
        with pytest.raises(ValueError, match="length_a holds 0"):
            dpo_loss(*PAIR, kind="length_normalized", length_a=torch.zeros(1), length_b=torch.ones(1))
        two = [x.repeat(2) for x in PAIR]
        with pytest.raises(ValueError, match="length_b holds 0"):  # one good length excuses no other
            dpo_loss(*two, kind="length_normalized", length_a=torch.ones(2), length_b=torch.tensor([3, 0]))
        with pytest.raises(ValueError, match=r"length_b \[2\]"):
            dpo_loss(*PAIR, kind="length_normalized", length_a=torch.ones(1), length_b=torch.ones(2))

    @pytest.mark.parametrize("wrong", [0, 1, 2, 3])
    def test_shapes(self, wrong: int):
        numbers = [torch.zeros(2) if i == wrong else x for i, x in enumerate(PAIR)]
        name = ("policy_a", "policy_b", "ref_a", "ref_b")[wrong]
        with pytest.raises(ValueError, match=rf"{name} \[2\]"):
            dpo_loss(*numbers)


class TestStatistics:
    def test_accuracy_and_margin(self):
        # right, wrong, undecided margin (a half), undecided label (not counted), right
        margin = torch.tensor([2.0, 1.0, 0.0, 5.0, 3.0])
        p = torch.tensor([1.0, 0.25, 1.0, 0.5, 0.9])
        found = preference_statistics(margin, p)
        assert found["accuracy"] == pytest.approx(2.5 / 4)
        # 1·2, −½·1, 1·0, 0·5, 0.8·3
        assert found["margin"] == pytest.approx(3.9 / 5)
        assert {type(x) for x in found.values()} == {float}  # a tensor would not go into a line of JSON

    def test_margins_may_carry_a_gradient_and_be_short(self):
        margin = torch.tensor([0.7, -0.3]).bfloat16().requires_grad_()
        assert preference_statistics(margin, 0.9) == preference_statistics(margin.detach().double(), 0.9)

    def test_calibration_by_bins(self):
        # confidences 0.75 twice (labels 1 and 0) and 0.25 once (label 0): |0.5 − 0.75|·2/3 + 0.25·1/3 = 0.25
        margin = torch.tensor([math.log(3), math.log(3), -math.log(3)])
        assert preference_statistics(margin, torch.tensor([1.0, 0.0, 0.0]))["ece"] == pytest.approx(0.25)

    def test_bins_are_tenths(self):
        # confidences 0.72 and 0.78 share a bin and cancel against labels of 0.75; in tenths 0.72 and 0.82 do not
        def logit(q: float) -> float:
            return math.log(q / (1 - q))

        p = torch.tensor([0.75, 0.75], dtype=torch.float64)
        together = preference_statistics(torch.tensor([logit(0.72), logit(0.78)]), p)
        apart = preference_statistics(torch.tensor([logit(0.68), logit(0.82)]), p)
        assert together["ece"] == pytest.approx(0, abs=1e-6)
        assert apart["ece"] == pytest.approx(0.07, abs=1e-6)
        assert preference_statistics(torch.tensor([logit(0.68), logit(0.82)]), p, bins=1)["ece"] == pytest.approx(
            0, abs=1e-6
        )

    def test_certainty_falls_in_the_last_bin(self):
        assert preference_statistics(torch.tensor([100.0]))["ece"] == pytest.approx(0)

    def test_no_decided_label(self):
        assert preference_statistics(torch.tensor([3.0]), 0.5)["accuracy"] == 0.5

    def test_no_pairs(self):
        with pytest.raises(ValueError, match="no pairs"):
            preference_statistics(torch.zeros(0))
