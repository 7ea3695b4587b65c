"""KL estimators: by hand, unbiased under exact expectation, and free of what the mask hides."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from charter.objectives.kl import kl_estimate

KINDS = ("k1", "k2", "k3")


class TestByHand:
    @pytest.mark.parametrize(
        ("kind", "expected", "slope"),
        [
            # d = 0.5: d, d²/2, exp(−½) − ½; slopes 1, d, 1 − exp(−½)
            ("k1", 0.5, 1.0),
            ("k2", 0.125, 0.5),
            ("k3", 0.10653066, 0.39346934),
        ],
    )
    def test_values(self, kind: str, expected: float, slope: float):
        lp = torch.tensor([-1.0], dtype=torch.float64, requires_grad=True)
        found = kl_estimate(lp, torch.tensor([-1.5], dtype=torch.float64), kind)
        assert found.item() == pytest.approx(expected, rel=1e-7)
        found.sum().backward()
        assert lp.grad is not None
        assert lp.grad.item() == pytest.approx(slope, rel=1e-7)

    def test_default_is_k3(self):
        lp, ref = torch.tensor([-1.0]), torch.tensor([-3.0])
        assert kl_estimate(lp, ref).item() == pytest.approx(math.exp(-2) + 2 - 1)

    def test_the_reference_is_a_constant(self):
        lp, ref = (torch.tensor([-1.0], requires_grad=True) for _ in range(2))
        for kind in KINDS:
            kl_estimate(lp, ref, kind).sum().backward()
        assert ref.grad is None


def test_expectations_over_a_whole_vocabulary():
    """Under the policy, k1 and k3 average to KL(π ‖ π_ref); the gradient of k2 averages to the KL's own."""
    logits = torch.tensor([0.3, -1.0, 0.8, 0.1], dtype=torch.float64, requires_grad=True)
    ref = torch.log_softmax(torch.tensor([-0.5, 0.2, 0.4, 0.0], dtype=torch.float64), -1)
    lp = torch.log_softmax(logits, -1)
    exact = (lp.exp() * (lp - ref)).sum()
    (exact_gradient,) = torch.autograd.grad(exact, logits, retain_graph=True)
    probabilities = lp.exp().detach()
    for kind in ("k1", "k3"):
        assert_close((probabilities * kl_estimate(lp, ref, kind)).sum(), exact)
    for kind, right in (("k2", True), ("k1", False), ("k3", False)):
        loss = (probabilities * kl_estimate(lp, ref, kind)).sum()
        (gradient,) = torch.autograd.grad(loss, logits, retain_graph=True)
        assert torch.allclose(gradient, exact_gradient, atol=1e-12) == right


def test_k3_keeps_its_digits_in_single_precision():
    # d = 2⁻⁹ exactly: k3 = d²/2 − d³/6 + … = 1.9061081e-6, where exp(−d) − 1 + d in float32 is off by up to 6 %
    d = torch.tensor([2.0**-9])
    exact = math.expm1(-(2.0**-9)) + 2.0**-9
    assert kl_estimate(d, torch.zeros(1), "k3").item() == pytest.approx(exact, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), float("-inf")])
def test_masked_garbage_reaches_neither_value_nor_gradient(kind: str, garbage: float):
    lp = torch.tensor([[-1.0, garbage]], requires_grad=True)
    found = kl_estimate(lp, torch.tensor([[-2.0, garbage]]), kind, mask=torch.tensor([[1, 0]]))
    alone = kl_estimate(torch.tensor([-1.0]), torch.tensor([-2.0]), kind)
    assert found.tolist() == [[alone.item(), 0.0]]
    found.sum().backward()
    assert lp.grad is not None
    assert lp.grad.isfinite().all()
    assert lp.grad[0, 1] == 0
    assert lp.grad[0, 0] != 0


def test_half_precision_is_widened():
    x = torch.zeros(1, dtype=torch.bfloat16)
    assert kl_estimate(x, x).dtype == torch.float32


def test_refusals():
    x = torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"'k4'.*k1, k2, k3"):
        kl_estimate(x, x, "k4")
    with pytest.raises(ValueError, match=r"ref_logprobs \[1, 3\]"):
        kl_estimate(x, torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r"mask \[1, 3\]"):
        kl_estimate(x, x, mask=torch.ones(1, 3))
