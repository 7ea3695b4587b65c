"""Elo by hand for two models, beside an independent optimiser for more, and the laws it must keep."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from charter.evaluate.elo import MEAN, Comparison, elo, head_to_head


def games(a: str, b: str, outcomes: list[float], first: int = 0) -> list[Comparison]:
    return [Comparison(a=a, b=b, p_a=p, cluster=f"q{first + i}") for i, p in enumerate(outcomes)]


def difference(ratings) -> float:
    return ratings[0].elo - ratings[1].elo


def test_two_models_are_apart_by_the_odds():
    # 15 wins of 20: odds 3, 400·log10(3) = 190.848501887865
    found = elo(games("x", "y", [1.0] * 15 + [0.0] * 5), prior=0)
    assert difference(found) == pytest.approx(190.848501887865, abs=1e-6)
    assert sum(each.elo for each in found) == pytest.approx(2 * MEAN)
    assert (found[0].wins, found[0].n) == (15.0, 20)


def test_the_prior_is_half_a_win_each_way():
    # 9 wins and a loss: odds (9 + 1/2) / (1 + 1/2) = 19/3
    assert difference(elo(games("x", "y", [1.0] * 9 + [0.0]))) == pytest.approx(400 * math.log10(19 / 3), abs=1e-6)


def test_soft_outcomes_and_ties_count_as_their_share():
    # 0.7 + 0.2 + 0.5 + 0.6 = 2 of 4, so neither is better; one win and one tie are 1.5 of 2
    assert difference(elo(games("x", "y", [0.7, 0.2, 0.5, 0.6]), prior=0)) == pytest.approx(0.0, abs=1e-8)
    assert difference(elo(games("x", "y", [1.0, 0.5]), prior=0)) == pytest.approx(400 * math.log10(3), abs=1e-6)


def test_a_model_that_never_lost_has_a_finite_rating_and_an_interval_with_a_width():
    strong, weak = elo(games("x", "y", [1.0] * 12), models=["x", "y"])
    # odds (12 + 1/2) / (1/2) = 25
    assert strong.elo - weak.elo == pytest.approx(400 * math.log10(25), abs=1e-6)
    assert strong.interval is not None
    low, high = strong.interval
    assert low < strong.elo < high
    assert high - low > 100
    with pytest.raises(ValueError, match=r"without a prior its rating is ∞"):
        elo(games("x", "y", [1.0] * 12), prior=0)


def many(seed: int = 3) -> list[Comparison]:
    chance = random.Random(seed)
    strength = {"a": 0.0, "b": 0.8, "c": -0.5, "d": 0.3}
    names = sorted(strength)
    found = []
    for i in range(60):
        one, two = chance.sample(names, 2)
        p = 1 / (1 + math.exp(strength[two] - strength[one] + chance.gauss(0, 0.5)))
        found.append(Comparison(a=one, b=two, p_a=p, cluster=f"q{i % 17}"))
    return found


def test_it_is_the_maximum_that_another_optimiser_finds():
    optimize = pytest.importorskip("scipy.optimize")
    comparisons, names, prior = many(), ["a", "b", "c", "d"], 1.0
    met = {frozenset((each.a, each.b)) for each in comparisons}

    def loss(values: np.ndarray) -> float:
        theta = dict(zip(names, [0.0, *values], strict=True))
        total = 0.0
        for each in comparisons:
            gap = theta[each.a] - theta[each.b]
            total += each.p_a * math.log1p(math.exp(-gap)) + (1 - each.p_a) * math.log1p(math.exp(gap))
        for pair in met:
            one, two = sorted(pair)
            gap = theta[one] - theta[two]
            total += prior / 2 * (math.log1p(math.exp(-gap)) + math.log1p(math.exp(gap)))
        return total

    best = optimize.minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13,
                                                                               "maxiter": 20000}).x  # fmt: skip
    wanted = [MEAN + 400 / math.log(10) * value for value in [0.0, *best]]
    found = elo(comparisons, models=names, anchor="a", resamples=10)
    assert [each.elo for each in found] == pytest.approx(wanted, abs=1e-3)
    assert found[0].interval == (MEAN, MEAN)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_neither_order_nor_names_of_sides_matter(seed: int):
    chance = random.Random(seed)
    comparisons = many()
    turned = [
        Comparison(a=c.b, b=c.a, p_a=1 - c.p_a, cluster=c.cluster) if chance.random() < 0.5 else c for c in comparisons
    ]
    chance.shuffle(turned)
    straight, other = (elo(each, seed=5, resamples=20) for each in (comparisons, turned))
    for one, two in zip(straight, other, strict=True):
        assert two.elo == pytest.approx(one.elo, abs=1e-6)
        assert two.interval == pytest.approx(one.interval, abs=1e-6)


def test_more_prompts_narrow_the_interval_and_more_askings_of_one_prompt_do_not():
    def width(comparisons: list[Comparison]) -> float:
        interval = elo(comparisons, resamples=400, prior=0.1)[0].interval
        assert interval is not None
        return interval[1] - interval[0]

    outcomes = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0]
    eight = games("x", "y", outcomes)
    assert width(games("x", "y", outcomes * 16)) < 0.5 * width(eight)
    assert width(eight * 16) == pytest.approx(width(eight), rel=0.35)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    chance, covered = random.Random(11), 0
    truth = 400 * math.log10(0.65 / 0.35)
    for trial in range(60):
        outcomes = [float(chance.random() < 0.65) for _ in range(60)]
        one, _ = elo(games("x", "y", outcomes), resamples=150, seed=trial, models=["x", "y"])
        assert one.interval is not None
        covered += one.interval[0] <= MEAN + truth / 2 <= one.interval[1]
    assert covered >= 51  # 95 % of 60 is 57; 51 or fewer have a chance under 1 %


def test_a_single_prompt_gives_no_interval():
    assert elo(games("x", "y", [1.0]))[0].interval is None
    assert head_to_head(games("x", "y", [1.0]), ["x", "y"])[0].interval is None


@pytest.mark.parametrize(
    ("comparisons", "says"),
    [
        ([], "at least two models, and there are 0"),
        (games("a", "b", [1.0]) + games("c", "d", [1.0]), "not compared, not even through others"),
    ],
)
def test_what_cannot_be_rated_is_said(comparisons, says):
    with pytest.raises(ValueError, match=says):
        elo(comparisons)


def test_a_comparison_is_of_two_and_has_a_probability():
    with pytest.raises(ValueError, match="with itself"):
        Comparison(a="x", b="x", p_a=0.5, cluster="q")
    with pytest.raises(ValueError, match="probability"):
        Comparison(a="x", b="y", p_a=1.5, cluster="q")


def test_head_to_head_turns_every_pair_the_way_the_models_are_named():
    comparisons = [*games("y", "x", [0.2, 0.4]), *games("x", "y", [0.9], first=2)]
    (pair,) = head_to_head(comparisons, ["x", "y"])
    assert (pair.a, pair.b, pair.n) == ("x", "y", 3)
    assert pair.share == pytest.approx((0.8 + 0.6 + 0.9) / 3)


def test_without_a_prior_draws_that_have_no_maximum_are_left_out():
    # 3 of 4 won: a draw of four wins has no finite rating and must not stand in the interval as thousands of points
    strong, _ = elo(games("x", "y", [1.0, 1.0, 1.0, 0.0]), prior=0, models=["x", "y"], resamples=300)
    # what is left has between 1 and 3 wins of 4, odds of 1/3 to 3
    assert strong.interval == pytest.approx((MEAN - 200 * math.log10(3), MEAN + 200 * math.log10(3)), abs=1e-6)
