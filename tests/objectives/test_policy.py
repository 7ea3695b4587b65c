"""Policy losses: by hand, against naive loops under autograd, and by their laws."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from charter.objectives.policy import DEFAULT_CLIP, importance_ratio, policy_loss, ratio_statistics

KINDS = ("reinforce", "clip", "gspo", "cispo", "sapo", "dppo_tv")
fast = settings(max_examples=20, deadline=None, derandomize=True)


def one(ratio: float, advantage: float, old_probability: float = 0.1, **settings_: Any) -> tuple[float, float]:
    """Loss and its derivative in lp, for a single token whose ratio is the given one."""
    old = torch.tensor([[math.log(old_probability)]], dtype=torch.float64)
    lp = (old + math.log(ratio)).requires_grad_()
    loss = policy_loss(lp, old, torch.tensor([advantage], dtype=torch.float64), torch.ones(1, 1), **settings_)
    loss.sum().backward()
    assert lp.grad is not None
    return loss.item(), lp.grad.item()


class TestByHand:
    @pytest.mark.parametrize(
        ("ratio", "advantage", "expected"),
        [
            (1.0, 2.0, (-2.0, -2.0)),
            (1.1, 2.0, (-2.2, -2.2)),  # inside: −ρA, and dρ/dlp = ρ
            (1.5, 2.0, (-2.4, 0.0)),  # held at 1.2
            (0.5, 2.0, (-1.0, -1.0)),  # A > 0 has no lower bound: min(0.5·2, 0.8·2)
            (0.5, -2.0, (1.6, 0.0)),  # held at 0.8
            (1.5, -2.0, (3.0, 3.0)),  # A < 0 has no upper bound
            (9.0, -2.0, (18.0, 18.0)),
            (1.3, 0.0, (0.0, 0.0)),
        ],
    )
    def test_clip(self, ratio: float, advantage: float, expected: tuple[float, float]):
        assert one(ratio, advantage) == pytest.approx(expected, rel=1e-9)
        assert one(ratio, advantage, clip_low=0.2, clip_high=0.2) == pytest.approx(expected, rel=1e-9)

    def test_clip_bounds_are_two(self):
        assert one(2.0, 1.0, clip_low=0.1, clip_high=0.5) == pytest.approx((-1.5, 0.0))
        assert one(0.2, -1.0, clip_low=0.1, clip_high=0.5) == pytest.approx((0.9, 0.0))

    @pytest.mark.parametrize(
        ("ratio", "advantage", "expected"),
        [
            (9.0, -2.0, (6.0, 0.0)),  # 18 held at 3·|−2|
            (2.0, -2.0, (4.0, 4.0)),  # below the bound
            (0.5, -2.0, (1.6, 0.0)),  # the ordinary clip still holds
            (9.0, 2.0, (-2.4, 0.0)),  # A > 0 is not touched
        ],
    )
    def test_dual_clip(self, ratio: float, advantage: float, expected: tuple[float, float]):
        assert one(ratio, advantage, dual_clip=3.0) == pytest.approx(expected, rel=1e-9)

    def test_reinforce(self):
        # lp = log 0.2; the loss −A lp, its derivative −A
        assert one(2.0, 3.0, kind="reinforce") == pytest.approx((-3 * math.log(0.2), -3.0))

    @pytest.mark.parametrize(("ratio", "weight"), [(0.01, 0.01), (1.0, 1.0), (4.9, 4.9), (5.1, 5.0), (50.0, 5.0)])
    def test_cispo(self, ratio: float, weight: float):
        # −min(ρ, 5)·A·lp with the weight held constant: the derivative is −weight·A, clipped or not
        for advantage in (2.0, -2.0):
            expected = (-weight * advantage * math.log(0.01 * ratio), -weight * advantage)
            assert one(ratio, advantage, 0.01, kind="cispo") == pytest.approx(expected, rel=1e-9)

    def test_cispo_cap(self):
        assert one(50.0, 1.0, 0.01, kind="cispo", clip_high=2.0)[1] == pytest.approx(-3.0)

    def test_sapo(self):
        # ρ = 1: −(4/τ)·½·A = −2A/τ, slope −(4/τ)·τ·¼·A·ρ = −A for either τ
        assert one(1.0, 2.0, kind="sapo") == pytest.approx((-4.0, -2.0))
        assert one(1.0, -2.0, kind="sapo") == pytest.approx((4 / 1.05, 2.0))
        # ρ = 2, A > 0: σ(1) = 0.7310586, σ' = 0.1966119; slope −4·0.1966119·2
        assert one(2.0, 1.0, kind="sapo") == pytest.approx((-2.9242343, -1.5728955), rel=1e-6)
        # ρ = 2, A < 0: σ(1.05) = 0.7407749, times 4/1.05
        assert one(2.0, -1.0, kind="sapo")[0] == pytest.approx(2.8219995, rel=1e-6)

    def test_sapo_named_constants(self):
        # τ = 2, ρ = 1.5: σ(1)·4/2 = 1.4621172
        assert one(1.5, 1.0, kind="sapo", tau_positive=2.0)[0] == pytest.approx(-1.4621172, rel=1e-6)
        assert one(1.5, -1.0, kind="sapo", tau_negative=2.0)[0] == pytest.approx(1.4621172, rel=1e-6)

    @pytest.mark.parametrize(
        ("old", "ratio", "advantage", "kept"),
        [
            (0.5, 1.38, 1.0, True),  # π rose by 0.19
            (0.5, 1.42, 1.0, False),  # by 0.21
            (0.001, 50.0, 1.0, True),  # by 0.049: a rare token may grow fiftyfold
            (0.5, 0.2, 1.0, True),  # falling is always allowed where A > 0
            (0.5, 0.62, -1.0, True),  # π fell by 0.19
            (0.5, 0.58, -1.0, False),  # by 0.21
            (0.5, 1.9, -1.0, True),  # rising is always allowed where A < 0
        ],
    )
    def test_dppo_tv(self, old: float, ratio: float, advantage: float, kept: bool):
        expected = (-advantage * ratio,) * 2 if kept else (0.0, 0.0)
        assert one(ratio, advantage, old, kind="dppo_tv") == pytest.approx(expected)

    def test_dppo_tv_delta(self):
        assert one(1.42, 1.0, 0.5, kind="dppo_tv", delta=0.3)[0] == pytest.approx(-1.42)
        assert one(1.42, 1.0, 0.5, kind="dppo_tv", delta=0.1)[0] == 0

    def test_dppo_tv_keeps_the_boundary(self):
        # π = ¾ and π_old = ½ are exact in binary after exp(log): δ = their difference keeps the token
        old, lp = torch.tensor([[0.5]]).log(), torch.tensor([[0.75]]).log()
        moved = (lp.exp() - old.exp()).item()
        ones = torch.ones(1, 1)
        assert policy_loss(lp, old, torch.ones(1), ones, kind="dppo_tv", delta=moved).item() < 0
        assert policy_loss(old, lp, -torch.ones(1), ones, kind="dppo_tv", delta=moved).item() > 0

    def test_gspo(self):
        # log-ratios 0.0002 and 0.0004 of two loss tokens, 99 under the mask: s = exp(0.0003), inside the range
        lp = torch.tensor([[0.0002, 0.0004, 99.0]], dtype=torch.float64).requires_grad_()
        loss = policy_loss(
            lp, torch.zeros(1, 3, dtype=torch.float64), torch.ones(1), torch.tensor([[1, 1, 0]]), kind="gspo"
        )
        s = math.exp(0.0003)
        assert loss.tolist() == [pytest.approx([-s, -s, 0.0], rel=1e-12)]
        loss.sum().backward()
        assert lp.grad is not None
        assert lp.grad.tolist() == [pytest.approx([-s, -s, 0.0], rel=1e-12)]  # two tokens, each a half of both

    @pytest.mark.parametrize(
        ("mean_log_ratio", "advantage", "expected"),
        [(0.01, 1.0, -1.0004), (-0.01, -1.0, 0.9997), (0.01, -1.0, math.exp(0.01)), (-0.01, 1.0, -math.exp(-0.01))],
    )
    def test_gspo_clips_the_sequence(self, mean_log_ratio: float, advantage: float, expected: float):
        lp = torch.tensor([[mean_log_ratio - 0.3, mean_log_ratio + 0.3]], dtype=torch.float64)
        loss = policy_loss(lp, torch.zeros_like(lp), torch.tensor([advantage]), torch.ones(1, 2), kind="gspo")
        assert loss.tolist() == [pytest.approx([expected] * 2, rel=1e-12)]

    def test_default_ranges(self):
        assert {kind: tuple(clip) for kind, clip in DEFAULT_CLIP.items()} == {
            "reinforce": (None, None),
            "clip": (0.2, 0.2),
            "gspo": (3e-4, 4e-4),
            "cispo": (None, 4.0),
            "sapo": (None, None),
            "dppo_tv": (None, None),
        }


def naive_loss(lp: Tensor, old: Tensor, a: Tensor, mask: Tensor, kind: str, dual: float | None) -> Tensor:
    """The sum of all loss tokens' losses, in loops with branches instead of min, max and clamp."""
    total = torch.zeros((), dtype=lp.dtype)
    for b in range(lp.shape[0]):
        kept = [t for t in range(lp.shape[1]) if mask[b, t]]
        for t in kept:
            x, o, adv = lp[b, t], old[b, t].item(), a[b, t].item()
            rho = torch.exp(x - o)
            if kind == "reinforce":
                term = -adv * x
            elif kind == "cispo":
                term = -min(rho.item(), 5.0) * adv * x
            elif kind == "sapo":
                tau = 1.0 if adv > 0 else 1.05
                term = -(4 / tau) / (1 + torch.exp(-tau * (rho - 1))) * adv
            elif kind == "dppo_tv":
                moved = math.exp(x.item()) - math.exp(o)
                keep = moved <= 0.2 if adv > 0 else moved >= -0.2
                term = -adv * rho if keep else 0 * x
            else:
                low, high = (0.8, 1.2) if kind == "clip" else (1 - 3e-4, 1 + 4e-4)
                if kind == "gspo":
                    rho = torch.exp(torch.stack([lp[b, u] - old[b, u].item() for u in kept]).mean())
                held = (adv > 0 and rho.item() > high) or (adv < 0 and rho.item() < low)
                term = -adv * ((high if adv > 0 else low) + 0 * x) if held else -adv * rho
                if dual is not None and adv < 0 and term.item() > dual * -adv:
                    term = dual * -adv + 0 * x
            total = total + term
    return total


@pytest.mark.parametrize(
    ("kind", "dual"), [("reinforce", None), ("clip", None), ("clip", 1.3), *((k, None) for k in KINDS[2:])]
)
@pytest.mark.parametrize("per_token", [False, True])
@fast
@given(seed=st.integers(0, 2**31), B=st.integers(1, 3), T=st.integers(1, 5), spread=st.sampled_from([1e-4, 0.1, 1.5]))
def test_gradient_oracle(kind: str, dual: float | None, per_token: bool, seed: int, B: int, T: int, spread: float):
    generator = torch.Generator().manual_seed(seed)
    old = -2 * torch.rand(B, T, generator=generator, dtype=torch.float64)
    noise = spread * torch.randn(B, T, generator=generator, dtype=torch.float64)
    a = torch.randn((B, T) if per_token else (B,), generator=generator, dtype=torch.float64)
    mask = torch.rand(B, T, generator=generator) < 0.7
    ours, theirs = (old + noise).requires_grad_(), (old + noise).requires_grad_()
    found = policy_loss(ours, old, a, mask, kind=kind, dual_clip=dual).sum()
    expected = naive_loss(theirs, old, a if per_token else a[:, None].expand(B, T), mask, kind, dual)
    (found + 0 * ours.sum()).backward()
    (expected + 0 * theirs.sum()).backward()
    assert_close(found, expected)
    assert_close(ours.grad, theirs.grad)


class TestLaws:
    @pytest.mark.parametrize("kind", KINDS)
    def test_on_policy_every_kind_has_the_gradient_of_reinforce(self, kind: str):
        # for gspo the sum over the row's tokens, each of which carries 1/T of every token's loss
        lp = torch.tensor([[-1.0, -2.0, -0.5], [-0.1, -3.0, -1.0]], dtype=torch.float64).requires_grad_()
        mask = torch.tensor([[1, 1, 0], [1, 1, 1]])
        a = torch.tensor([1.5, -0.5], dtype=torch.float64)
        policy_loss(lp, lp, a, mask, kind=kind).sum().backward()
        assert_close(lp.grad, -a[:, None] * mask)

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("garbage", [float("nan"), float("inf"), float("-inf"), 1e30])
    def test_masked_garbage_reaches_nothing(self, kind: str, garbage: float):
        clean = torch.tensor([[-1.0, -2.0, -0.5], [-0.1, -3.0, -1.0]])
        mask = torch.tensor([[1, 0, 1], [0, 0, 0]])
        a = torch.tensor([[1.0, 0.5, -2.0], [1.0, 1.0, 1.0]])
        lp = clean.masked_fill(mask == 0, garbage).requires_grad_()
        old = (clean - 0.1).masked_fill(mask == 0, -garbage)
        loss = policy_loss(lp, old, a.masked_fill(mask == 0, garbage), mask, kind=kind)
        loss.sum().backward()
        reference = clean.clone().requires_grad_()
        expected = policy_loss(reference, clean - 0.1, a, mask, kind=kind)
        expected.sum().backward()
        assert loss.equal(expected)
        assert loss[mask == 0].eq(0).all()
        assert lp.grad is not None
        assert reference.grad is not None
        assert lp.grad.equal(reference.grad)
        assert lp.grad[mask == 0].eq(0).all()

    @pytest.mark.parametrize("kind", KINDS)
    def test_only_the_policy_gets_a_gradient(self, kind: str):
        lp, old, a = (torch.full((1, 2), x, requires_grad=True) for x in (-1.0, -1.0, 0.5))
        policy_loss(lp, old, a, torch.ones(1, 2), kind=kind).sum().backward()
        assert lp.grad is not None
        assert old.grad is None
        assert a.grad is None

    @pytest.mark.parametrize("kind", KINDS[1:])
    @pytest.mark.parametrize("advantage", [1.0, -1.0])
    @pytest.mark.parametrize("log_ratio", [200.0, -200.0])
    def test_extreme_ratios_stay_finite_in_single_precision(self, kind: str, advantage: float, log_ratio: float):
        # exp(200) is infinite in float32, and infinity times the zero gradient of a clipped token is NaN
        lp = torch.tensor([[log_ratio]], requires_grad=True)
        loss = policy_loss(lp, torch.zeros(1, 1), torch.tensor([advantage]), torch.ones(1, 1), kind=kind)
        loss.sum().backward()
        assert loss.isfinite().all()
        assert lp.grad is not None
        assert lp.grad.isfinite().all()

    def test_log_ratios_are_cut_at_40_nats_and_not_before(self):
        for log_ratio, expected in ((39.5, 39.5), (40.5, 40.0)):
            lp = torch.tensor([[log_ratio]], dtype=torch.float64)
            for kind in ("clip", "gspo"):
                ratio = importance_ratio(lp, torch.zeros_like(lp), torch.ones(1, 1), kind=kind)
                assert ratio.item() == pytest.approx(math.exp(expected))

    @fast
    @given(st.integers(0, 2**31), st.sampled_from(KINDS))
    def test_rows_do_not_see_each_other(self, seed: int, kind: str):
        generator = torch.Generator().manual_seed(seed)
        lp, old = (-torch.rand(3, 4, generator=generator) for _ in range(2))
        a, mask = torch.randn(3, generator=generator), torch.rand(3, 4, generator=generator) < 0.6
        whole = policy_loss(lp, old, a, mask, kind=kind)
        wide_lp, wide_old = (torch.nn.functional.pad(x, (1, 2), value=-7) for x in (lp, old))
        wide = policy_loss(wide_lp, wide_old, a, torch.nn.functional.pad(mask, (1, 2)), kind=kind)
        assert_close(wide[:, 1:5], whole)
        for b in range(3):
            rows = slice(b, b + 1)
            assert_close(policy_loss(lp[rows], old[rows], a[rows], mask[rows], kind=kind), whole[rows])

    @fast
    @given(st.floats(0.05, 4), st.floats(0.1, 3), st.sampled_from(["clip", "cispo", "dppo_tv", "reinforce"]))
    def test_advantage_scales_the_loss(self, ratio: float, scale: float, kind: str):
        for sign in (1, -1):
            once, scaled = one(ratio, sign, kind=kind), one(ratio, sign * scale, kind=kind)
            assert scaled == pytest.approx([scale * x for x in once])

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_answers_in_single_precision_or_better(self, dtype: torch.dtype):
        x = torch.zeros(1, 1, dtype=dtype)
        assert policy_loss(x, x, torch.ones(1), torch.ones(1, 1)).dtype == torch.float32
        assert policy_loss(x.double(), x, torch.ones(1), torch.ones(1, 1)).dtype == torch.float64
        assert policy_loss(x, x, torch.ones(1).double(), torch.ones(1, 1)).dtype == torch.float32

    @pytest.mark.parametrize("kind", KINDS)
    def test_half_precision_is_widened_before_anything_else(self, kind: str):
        # exp(−½) rounded to bfloat16 differs from exp(−½) by 1e-3, more than δ = 1e-4; ⅓ is no bfloat16
        lp, a = torch.tensor([[-0.5, -1.5, -0.25]]).bfloat16(), torch.tensor([1 / 3])
        for old in (lp, lp - 0.25):
            for sign in (1, -1):
                named = {"delta": 1e-4} if kind == "dppo_tv" else {}
                ones = torch.ones(1, 3)
                narrow = policy_loss(lp, old, sign * a, ones, kind=kind, **named)
                assert narrow.equal(policy_loss(lp.float(), old.float(), sign * a, ones, kind=kind, **named))
        assert importance_ratio(lp, lp - 0.25, torch.ones(1, 3)).equal(
            importance_ratio(lp.float(), lp.float() - 0.25, torch.ones(1, 3))
        )


class TestRefusals:
    x = torch.zeros(2, 3)

    def call(self, **settings_: Any) -> Tensor:
        return policy_loss(self.x, self.x, torch.zeros(2), torch.ones(2, 3), **settings_)

    def test_unknown_kind_names_the_choices(self):
        with pytest.raises(ValueError, match=r"'ppo'.*reinforce, clip, gspo, cispo, sapo, dppo_tv"):
            self.call(kind="ppo")

    def test_unknown_argument(self):
        with pytest.raises(TypeError, match="'clip' has no argument delta; its own arguments: none"):
            self.call(delta=0.1)
        with pytest.raises(TypeError, match=r"'sapo' has no argument tau; .* tau_positive, tau_negative"):
            self.call(kind="sapo", tau=0.1)

    def test_constants_out_of_range(self):
        for name in ("clip_low", "clip_high"):
            with pytest.raises(ValueError, match=f"{name} is -0.1"):
                self.call(**{name: -0.1})
        for value in (0.0, -1.0, float("nan")):
            with pytest.raises(ValueError, match="delta"):
                self.call(kind="dppo_tv", delta=value)
        with pytest.raises(ValueError, match="dual_clip is 1"):
            self.call(dual_clip=1.0)
        with pytest.raises(ValueError, match="'gspo': leave dual_clip out"):
            self.call(kind="gspo", dual_clip=3.0)

    def test_empty_clip_range_is_allowed(self):
        # ε = 0: every ratio but 1 is clipped
        assert one(1.1, 1.0, clip_low=0.0, clip_high=0.0) == pytest.approx((-1.0, 0.0))

    def test_shapes(self):
        ones = torch.ones(2, 3)
        with pytest.raises(ValueError, match=r"logprobs \[2, 3\], old_logprobs \[2, 2\], mask \[2, 3\]"):
            policy_loss(self.x, self.x[:, :2], torch.zeros(2), ones)
        with pytest.raises(ValueError, match=r"shape \[3\]; expected one per row \[2\] or one per token \[2, 3\]"):
            policy_loss(self.x, self.x, torch.zeros(3), ones)
        with pytest.raises(ValueError, match=r"shape \[2, 1\]"):
            policy_loss(self.x, self.x, torch.zeros(2, 1), ones)
        with pytest.raises(ValueError, match=r"mask \[2, 2\]"):
            importance_ratio(self.x, self.x, ones[:, :2])


class TestRatio:
    def test_by_hand(self):
        # log-ratios 1 and 2: their mean is 1.5
        lp, mask = torch.tensor([[1.0, 2.0, 5.0]]), torch.tensor([[1, 1, 0]])
        assert_close(importance_ratio(lp, 0 * lp, mask), torch.tensor([[math.e, math.e**2, 0]]))
        assert_close(importance_ratio(lp, 0 * lp, mask, kind="gspo"), torch.tensor([[math.e**1.5, math.e**1.5, 0]]))

    @pytest.mark.parametrize("kind", ["clip", "gspo"])
    def test_masked_garbage(self, kind: str):
        lp, old, mask = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.25]]), torch.tensor([[1, 0]])
        for dirty in (lp, old):
            dirty[0, 1] = float("nan")
            found = importance_ratio(lp, old, mask, kind=kind)
            assert_close(found, torch.tensor([[math.exp(0.5), 0]]))
            dirty[0, 1] = 0.0

    def test_is_a_constant(self):
        lp = torch.zeros(1, 1, requires_grad=True)
        assert not importance_ratio(lp, lp, torch.ones(1, 1)).requires_grad


class TestStatistics:
    # ratios 1.5, 0.5, 1.5, 0.5 with A = +, −, −, +: one held above, one below; a fifth token is masked
    lp = torch.tensor([[1.5, 0.5, 1.5, 0.5, 9.0]], dtype=torch.float64).log().requires_grad_()
    old = torch.zeros(1, 5, dtype=torch.float64)
    a = torch.tensor([[1.0, -1.0, -1.0, 1.0, 1.0]])
    mask = torch.tensor([[1, 1, 1, 1, 0]])

    def test_by_hand(self):
        found = ratio_statistics(self.lp, self.old, self.a, self.mask)
        assert {k: v.item() for k, v in found.items()} == pytest.approx(
            {"clip_ratio/low": 0.25, "clip_ratio/high": 0.25, "ratio/mean": 1.0}
        )
        assert not any(v.requires_grad for v in found.values())

    def test_bounds(self):
        wide_above = ratio_statistics(self.lp, self.old, self.a, self.mask, 0.2, 0.6)
        assert (wide_above["clip_ratio/low"].item(), wide_above["clip_ratio/high"].item()) == (0.25, 0)
        wide_below = ratio_statistics(self.lp, self.old, self.a, self.mask, 0.6, 0.2)
        assert (wide_below["clip_ratio/low"].item(), wide_below["clip_ratio/high"].item()) == (0, 0.25)

    def test_no_advantage_is_never_clipped(self):
        found = ratio_statistics(self.lp, self.old, torch.zeros(1), self.mask)
        assert found["clip_ratio/low"].item() == found["clip_ratio/high"].item() == 0

    def test_a_bound_itself_is_not_clipped(self):
        # ratios ½ and 3/2 are exact, and so are 1 − ½ and 1 + ½
        lp = torch.tensor([[0.5, 1.5]], dtype=torch.float64).log()
        edge = lp.exp()
        low, high = 1 - edge[0, 0].item(), edge[0, 1].item() - 1
        found = ratio_statistics(lp, torch.zeros_like(lp), torch.tensor([[-1.0, 1.0]]), torch.ones(1, 2), low, high)
        assert found["clip_ratio/low"].item() == found["clip_ratio/high"].item() == 0

    def test_gspo_counts_sequences_by_their_tokens(self):
        # log-ratios 0.1 and −0.098: s = exp(0.001) > 1.0004 for both tokens, where the second alone fell
        lp = torch.tensor([[0.1, -0.098]], dtype=torch.float64)
        found = ratio_statistics(lp, torch.zeros_like(lp), torch.ones(1), torch.ones(1, 2), kind="gspo")
        assert found["clip_ratio/high"].item() == 1
        assert found["ratio/mean"].item() == pytest.approx(math.exp(0.001))

    def test_kinds_without_a_bound_count_nothing(self):
        for kind in ("reinforce", "sapo", "dppo_tv"):
            found = ratio_statistics(self.lp, self.old, self.a, self.mask, kind=kind)
            assert found["clip_ratio/low"].item() == found["clip_ratio/high"].item() == 0
        cispo = ratio_statistics(self.lp + 2, self.old, self.a, self.mask, kind="cispo")
        assert (cispo["clip_ratio/low"].item(), cispo["clip_ratio/high"].item()) == (0, 0.25)

    def test_a_single_token(self):
        found = ratio_statistics(self.lp[:, :1], self.old[:, :1], self.a[:, :1], self.mask[:, :1])
        assert [v.item() for v in found.values()] == pytest.approx([0, 1, 1.5])

    def test_no_loss_token(self):
        found = ratio_statistics(self.lp, self.old, self.a, torch.zeros(1, 5))
        assert [v.item() for v in found.values()] == [0, 0, 0]

    @pytest.mark.parametrize("wrong", [0, 1, 2])
    def test_shapes(self, wrong: int):
        tensors = [torch.zeros(1, 3 if i == wrong else 2) for i in range(3)]
        name = ("logprobs", "old_logprobs", "mask")[wrong]
        for call in (importance_ratio, lambda lp, old, mask: policy_loss(lp, old, torch.ones(1), mask)):
            with pytest.raises(ValueError, match=rf"\b{name} \[1, 3\]"):
                call(*tensors)
