"""Group advantages: by hand, against a plain-Python reading of the definitions, and by their laws."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from charter.objectives.advantages import advantages_per_reward, combine_rewards, group_advantages, has_signal

ESTIMATORS = ("center", "standardize", "leave_one_out", "batch_std", "max_rl")
fast = settings(max_examples=25, deadline=None, derandomize=True)
dtypes = st.sampled_from([torch.float32, torch.float64])


def f64(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def read_plainly(rewards: list[list[float | None]], estimator: str, eps: float = 1e-4) -> list[list[float]]:
    """The definitions with lists and the statistics module; None is a completion without a reward."""
    every = [r for group in rewards for r in group if r is not None]
    out: list[list[float]] = []
    for group in rewards:
        given_ = [r for r in group if r is not None]
        if len(given_) < 2 or len(set(given_)) == 1:
            out.append([0.0] * len(group))
            continue
        mean = statistics.fmean(given_)
        answer = {
            "center": lambda r, mean=mean: r - mean,
            "standardize": lambda r, mean=mean, g=given_: (r - mean) / (statistics.stdev(g) + eps),
            "leave_one_out": lambda r, g=given_: r - (sum(g) - r) / (len(g) - 1),
            "batch_std": lambda r, mean=mean: (r - mean) / (statistics.stdev(every) + eps),
            "max_rl": lambda r, mean=mean: (r - mean) / mean,
        }[estimator]
        out.append([0.0 if r is None else answer(r) for r in group])
    return out


@st.composite
def steps(draw: st.DrawFn, *, binary: bool = False) -> list[list[float | None]]:
    P, G = draw(st.integers(1, 4)), draw(st.integers(2, 6))
    number = st.sampled_from([0.0, 1.0]) if binary else st.integers(-40, 40).map(lambda n: n / 8)
    return [[draw(st.one_of(number, number, number, st.none())) for _ in range(G)] for _ in range(P)]


def tensors(step: list[list[float | None]], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Rewards, with NaN where there is none, and the mask."""
    rewards = torch.tensor([[float("nan") if r is None else r for r in g] for g in step], dtype=dtype)
    return rewards, ~rewards.isnan()


class TestByHand:
    def test_center(self):
        # mean of [3, 1, 1, 1] is 1.5
        assert_close(group_advantages(f64([3, 1, 1, 1])), f64([1.5, -0.5, -0.5, -0.5]))

    def test_standardize_one_success_in_four(self):
        # mean 1/4; Σ(r − mean)² = 9/16 + 3/16 = 3/4; std = √(0.75 / 3) = 0.5; 0.75/0.5001 and −0.25/0.5001
        found = group_advantages(f64([1, 0, 0, 0]), "standardize")
        assert_close(found, f64([0.75 / 0.5001, *[-0.25 / 0.5001] * 3]), rtol=1e-12, atol=0)
        assert_close(found, f64([1.4997, -0.4999, -0.4999, -0.4999]), rtol=0, atol=5e-5)

    def test_standardize_seven_and_one(self):
        # mean 0.425; Σ(r − mean)² = 7·0.075² + 0.525² = 0.315; std = √(0.315/7) = √0.045 = 0.2121320
        # −0.075/0.2122320 = −0.353387, 0.525/0.2122320 = 2.473708
        found = group_advantages(f64([0.35] * 7 + [0.95]), "standardize")
        assert_close(found, f64([-0.353387] * 7 + [2.473708]), rtol=0, atol=1e-6)

    def test_standardize_tells_near_equals_apart(self):
        # deviation ±5e-6, std = 5e-6·√2 = 7.07107e-6; 5/(7.07107 + 1) = 0.6195
        found = group_advantages(f64([1.00000, 1.00001]), "standardize", eps=1e-6)
        assert_close(found, f64([-0.6195, 0.6195]), rtol=0, atol=5e-5)

    def test_leave_one_out(self):
        # the others of 4 in [4, 1, 0, 3] average 4/3, of 1 → 7/3, of 0 → 8/3, of 3 → 5/3
        assert_close(group_advantages(f64([4, 1, 0, 3]), "leave_one_out"), f64([8 / 3, -4 / 3, -8 / 3, 4 / 3]))

    def test_batch_std_divides_by_the_whole_step(self):
        # rewards 0 2 4 6: mean 3, Σ = 9+1+1+9 = 20, std = √(20/3) = 2.5819889; each group deviates by ±1
        by = 1 / (2.5819889 + 1e-4)
        assert_close(group_advantages(f64([0, 2], [4, 6]), "batch_std"), f64([-by, by], [-by, by]), rtol=1e-7, atol=0)

    def test_max_rl(self):
        # one success in four: mean 1/4; (1 − 1/4)/(1/4) = 3 and −1
        assert_close(group_advantages(f64([1, 0, 0, 0], [0, 0, 0, 0]), "max_rl"), f64([3, -1, -1, -1], [0, 0, 0, 0]))

    def test_ragged_group_uses_the_rewards_it_has(self):
        # without the third, mean of [1, 0] is 1/2; leave-one-out compares with the single other
        mask = torch.tensor([[1, 1, 0]])
        rewards = f64([1, 0, float("nan")])
        assert_close(group_advantages(rewards, mask=mask), f64([0.5, -0.5, 0]))
        assert_close(group_advantages(rewards, "leave_one_out", mask=mask), f64([1, -1, 0]))
        # std of [1, 0] is √(½) = 0.70710678
        by = 0.5 / (0.70710678 + 1e-4)
        assert_close(group_advantages(rewards, "standardize", mask=mask), f64([by, -by, 0]), rtol=1e-7, atol=0)

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_fewer_than_two_rewards_leave_the_group_untrained(self, estimator: str):
        mask = torch.tensor([[0, 1, 0], [0, 0, 0], [1, 1, 1]])
        found = group_advantages(f64([0, 1, 0], [1, 0, 1], [1, 0, 0]), estimator, mask=mask)
        assert found[:2].eq(0).all()
        assert found[2, 0] > 0

    def test_integer_and_boolean_rewards_answer_in_float32(self):
        for rewards in (torch.tensor([[1, 0]]), torch.tensor([[True, False]])):
            assert_close(group_advantages(rewards), torch.tensor([[0.5, -0.5]]))

    def test_half_precision_rewards_keep_their_dtype(self):
        assert group_advantages(torch.tensor([[1, 0]], dtype=torch.bfloat16)).dtype == torch.bfloat16

    @pytest.mark.parametrize("estimator", ESTIMATORS[:4])
    def test_single_precision_is_rounded_once(self, estimator: str):
        # near 1000 float32 has steps of 6e-5: sums taken in it would show
        rewards = 1000 + torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
        found = group_advantages(rewards, estimator)
        assert found.equal(group_advantages(rewards.double(), estimator).float())

    def test_no_groups(self):
        assert group_advantages(torch.zeros(0, 4)).shape == (0, 4)


class TestAgainstPlainPython:
    @fast
    @given(steps(), st.sampled_from(ESTIMATORS[:4]))
    def test_any_rewards(self, step: list[list[float | None]], estimator: str):
        rewards, mask = tensors(step)
        assert_close(group_advantages(rewards, estimator, mask=mask), f64(*read_plainly(step, estimator)))

    @fast
    @given(steps(binary=True))
    def test_max_rl(self, step: list[list[float | None]]):
        rewards, mask = tensors(step)
        assert_close(group_advantages(rewards, "max_rl", mask=mask), f64(*read_plainly(step, "max_rl")))

    @fast
    @given(steps())
    def test_signal_is_what_gets_an_advantage(self, step: list[list[float | None]]):
        rewards, mask = tensors(step)
        expected = [any(a != 0 for a in group) for group in read_plainly(step, "center")]
        assert has_signal(rewards, mask).tolist() == expected

    def test_signal_without_a_mask(self):
        assert has_signal(torch.tensor([[1, 0], [1, 1]])).tolist() == [True, False]
        assert has_signal(torch.tensor([[2**24, 2**24 + 1]])).item()  # one and the same number in float32


class TestLaws:
    @fast
    @given(st.floats(-1e6, 1e6, width=32), st.integers(2, 9), dtypes, st.sampled_from(ESTIMATORS[:4]))
    def test_equal_rewards_give_exactly_zero(self, value: float, G: int, dtype: torch.dtype, estimator: str):
        rewards = torch.full((1, G), value, dtype=dtype)
        assert group_advantages(rewards, estimator).tolist() == [[0.0] * G]
        beside_another = torch.cat([rewards, rewards + torch.arange(G, dtype=dtype)])
        assert group_advantages(beside_another, estimator)[0].tolist() == [0.0] * G

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("estimator", ESTIMATORS[:4])
    def test_seven_times_095_leaves_no_residue(self, estimator: str, dtype: torch.dtype):
        # in float32 the mean of seven 0.95 is not 0.95
        found = group_advantages(torch.full((1, 7), 0.95, dtype=dtype), estimator, eps=0.0)
        assert found.tolist() == [[0.0] * 7]

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_max_rl_of_equal_rewards(self, value: float):
        assert group_advantages(torch.full((1, 3), value), "max_rl").tolist() == [[0.0] * 3]

    @fast
    @given(steps(), st.sampled_from(ESTIMATORS[:4]), dtypes, st.randoms(use_true_random=False))
    def test_order_of_completions_and_groups_is_irrelevant(self, step, estimator, dtype, random):
        rewards, mask = tensors(step, dtype)
        P, G = rewards.shape
        rows, columns = random.sample(range(P), P), random.sample(range(G), G)
        moved = group_advantages(rewards[rows][:, columns], estimator, mask=mask[rows][:, columns])
        assert_close(moved, group_advantages(rewards, estimator, mask=mask)[rows][:, columns])

    @fast
    @given(steps(), st.sampled_from(["center", "leave_one_out"]), dtypes, st.integers(-64, 64))
    def test_a_constant_added_changes_nothing(self, step, estimator: str, dtype: torch.dtype, constant: int):
        rewards, mask = tensors(step, dtype)
        found = group_advantages(rewards + constant, estimator, mask=mask)
        assert_close(found, group_advantages(rewards, estimator, mask=mask))

    @fast
    @given(steps(), st.sampled_from(ESTIMATORS[:4]), st.floats(-10, 10))
    def test_what_stands_under_the_mask_is_irrelevant(self, step, estimator: str, garbage: float):
        rewards, mask = tensors(step)
        found = group_advantages(rewards.nan_to_num(garbage), estimator, mask=mask)
        assert found.equal(group_advantages(rewards, estimator, mask=mask))
        assert found[~mask].eq(0).all()

    @fast
    @given(steps(), st.sampled_from(ESTIMATORS[:4]))
    def test_advantages_of_a_group_add_up_to_nothing(self, step, estimator: str):
        rewards, mask = tensors(step)
        sums = group_advantages(rewards, estimator, mask=mask).sum(-1)
        assert_close(sums, torch.zeros_like(sums), rtol=0, atol=1e-9)


class TestRefusals:
    def test_unknown_estimator_names_the_choices(self):
        with pytest.raises(ValueError, match=r"'centre'.*center, standardize, leave_one_out, batch_std, max_rl"):
            group_advantages(torch.zeros(1, 2), "centre")

    @pytest.mark.parametrize("estimator", ESTIMATORS)
    def test_group_of_one_names_the_estimator(self, estimator: str):
        with pytest.raises(ValueError, match=rf"{estimator} .* groups of 1"):
            group_advantages(torch.ones(3, 1), estimator)

    def test_max_rl_needs_binary_rewards(self):
        with pytest.raises(ValueError, match=r"max_rl needs rewards of 0 or 1; found 0\.5"):
            group_advantages(torch.tensor([[1.0, 0.5]]), "max_rl")

    @pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
    def test_reward_that_is_not_finite_is_named_by_place(self, broken: float):
        with pytest.raises(ValueError, match=r"reward at \[1, 0\] is .*(nan|inf)"):
            group_advantages(torch.tensor([[1.0, 0.0], [broken, 1.0]]))

    def test_shapes(self):
        with pytest.raises(ValueError, match=r"shape \[3\]"):
            group_advantages(torch.zeros(3))
        with pytest.raises(ValueError, match=r"rewards \[1, 2\], mask \[1, 3\]"):
            group_advantages(torch.zeros(1, 2), mask=torch.ones(1, 3))


class TestSeveralRewards:
    parts = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[10.0, 30.0], [20.0, 20.0]]], dtype=torch.float64)

    def test_sum(self):
        # 2·[[1, 0], [1, 1]] + 0.5·[[10, 30], [20, 20]]
        assert_close(combine_rewards(self.parts, [2, 0.5]), f64([7, 15], [12, 12]))

    def test_sum_leaves_out_what_has_no_value(self):
        mask = torch.tensor([[[1, 1], [1, 0]], [[1, 0], [1, 0]]])
        parts = self.parts.masked_fill(mask == 0, float("nan"))
        assert_close(combine_rewards(parts, torch.tensor([2, 0.5]), "sum", mask), f64([7, 0], [12, 0]))

    def test_per_reward_standardises_each_before_weighing(self):
        # [1, 0]: ±0.5 / (√½ + 1e-4); [10, 30]: ∓10 / (√200 + 1e-4), √200 = 14.1421356; second group has no signal
        first, second = 0.5 / (0.70710678 + 1e-4), 10 / (14.1421356 + 1e-4)
        value = 2 * first - 0.5 * second
        found = combine_rewards(self.parts, [2, 0.5], "per_reward")
        assert_close(found, f64([value, -value], [0, 0]), rtol=1e-7, atol=0)

    def test_advantages_whiten_over_the_step(self):
        # S = [v, −v, 0, 0], mean 0, Σ = 2v², std = v√(2/3) = 0.8164966 v; v = 2·0.7070068 − 0.5·0.7070928 as above
        value = 2 * 0.5 / (0.70710678 + 1e-4) - 0.5 * 10 / (14.1421356 + 1e-4)
        by = value / (0.8164966 * value + 1e-4)
        found = advantages_per_reward(self.parts, [2, 0.5])
        assert_close(found, f64([by, -by], [0, 0]), rtol=1e-7, atol=0)
        assert found[1].tolist() == [0.0, 0.0]

    def test_eps_is_added_to_every_spread(self):
        # [1, 0] deviates by ±½ with std √½; then S = ±v has std v√2
        value = 0.5 / (math.sqrt(0.5) + 0.5)
        by = value / (value * math.sqrt(2) + 0.5)
        rewards = f64([1, 0])[None]
        assert_close(combine_rewards(rewards, [1], "per_reward", eps=0.5), f64([value, -value]))
        assert_close(advantages_per_reward(rewards, [1], eps=0.5), f64([by, -by]))

    def test_weights_keep_their_digits(self):
        # 0.1 in float32 is 0.100000001
        assert combine_rewards(f64([1, 0])[None], [0.1]).tolist() == [[0.1, 0.0]]

    def test_no_reward_drowns_another(self):
        # the same parts with the second a thousand times larger: 1e-4 aside, the same advantages
        scaled = self.parts * torch.tensor([1.0, 1000.0], dtype=torch.float64)[:, None, None]
        assert_close(
            advantages_per_reward(scaled, [2, 0.5]), advantages_per_reward(self.parts, [2, 0.5]), rtol=1e-4, atol=0
        )

    def test_completions_without_any_reward_count_nowhere(self):
        # with the last two columns masked, two completions remain: S = [v, −v], std = v√2
        mask = torch.tensor([[[1, 1, 0, 0]], [[1, 0, 0, 0]]])
        parts = torch.tensor([[[1.0, 0, 5, 7]], [[3.0, 9, 9, 9]]], dtype=torch.float64)
        value = 0.5 / (0.70710678 + 1e-4)
        by = value / (1.41421356 * value + 1e-4)
        found = advantages_per_reward(parts, [1, 1], mask=mask)
        assert_close(found, f64([by, -by, 0, 0]), rtol=1e-7, atol=0)

    @fast
    @given(st.floats(-3, 3, width=32), st.floats(-3, 3, width=32), dtypes)
    def test_equal_rewards_give_exactly_zero(self, a: float, b: float, dtype: torch.dtype):
        parts = torch.stack([torch.full((2, 7), a, dtype=dtype), torch.full((2, 7), b, dtype=dtype)])
        assert advantages_per_reward(parts, [0.3, 0.7]).eq(0).all()
        parts[0, 0, 0] += 1
        found = advantages_per_reward(parts, [0.3, 0.7])
        assert found[0, 0] > 0
        assert found[1].eq(0).all()
        assert found.dtype == dtype

    def test_one_reward_is_standardize_whitened(self):
        rewards = f64([1, 0, 0, 2], [5, 5, 1, 0])
        single = group_advantages(rewards, "standardize")
        assert_close(advantages_per_reward(rewards[None], [1.0]), single / (single.std() + 1e-4))

    def test_half_precision_is_rounded_once(self):
        half = torch.randn(2, 8, 6, generator=torch.Generator().manual_seed(0)).bfloat16()
        for answer in (advantages_per_reward, lambda p, w: combine_rewards(p, w, "per_reward"), combine_rewards):
            found = answer(half, [0.3, 0.9])
            assert found.equal(answer(half.double(), [0.3, 0.9]).bfloat16())

    def test_refusals(self):
        with pytest.raises(ValueError, match="sum, per_reward"):
            combine_rewards(self.parts, [1, 1], "mean")
        with pytest.raises(ValueError, match="2 rewards with weights of shape"):
            combine_rewards(self.parts, [1.0])
        with pytest.raises(ValueError, match="finite"):
            combine_rewards(self.parts, [1.0, float("nan")])
        with pytest.raises(ValueError, match=r"mask \[2, 2\]"):
            combine_rewards(self.parts, [1.0, 1.0], mask=torch.ones(2, 2))
        with pytest.raises(ValueError, match=r"reward at \[0, 1, 0\]"):
            combine_rewards(self.parts.masked_fill(f64([0, 0], [1, 0]).bool(), float("nan")), [1.0, 1.0])
        with pytest.raises(ValueError, match="groups of 1"):
            advantages_per_reward(torch.ones(2, 3, 1), [1, 1])
