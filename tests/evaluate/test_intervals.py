"""Estimators against independent implementations and published numbers."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.evaluate.intervals import bootstrap_by_prompt, paired_difference, pass_at_k, pooled_mean, wilson


@given(st.data())
def test_pass_at_k_by_enumeration(data: st.DataObject) -> None:
    """Every way to take k of n completions, counted."""
    n = data.draw(st.integers(1, 8))
    c, k = data.draw(st.integers(0, n)), data.draw(st.integers(1, n))
    ways = list(itertools.combinations([True] * c + [False] * (n - c), k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(any(way) for way in ways) / len(ways))


def test_pass_at_k_of_many_completions_does_not_overflow() -> None:
    assert pass_at_k(10_000, 1, 1) == pytest.approx(1e-4)
    assert pass_at_k(10_000, 3, 5000) == pytest.approx(1 - math.comb(9997, 5000) / math.comb(10_000, 5000), rel=1e-9)


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(5, 2, 1) == pytest.approx(0.4)
    assert pass_at_k(5, 2, 2) == pytest.approx(1 - 3 / 10)  # C(3,2) = 3 of C(5,2) = 10 pairs are both wrong
    assert (pass_at_k(4, 0, 4), pass_at_k(4, 1, 4), pass_at_k(4, 4, 1)) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(("n", "c", "k"), [(4, 5, 1), (4, -1, 1), (4, 2, 5), (4, 2, 0), (0, 0, 1)])
def test_pass_at_k_that_cannot_be(n: int, c: int, k: int) -> None:
    with pytest.raises(ValueError, match=r"cannot be right|needs at least"):
        pass_at_k(n, c, k)


def test_wilson_published() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3 (score without continuity correction), 95 %
    for (successes, n), (low, high) in {
        (81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718),
    }.items():  # fmt: skip
        got = wilson(successes, n)
        assert got == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_ends_solve_its_equation(n: int, data: st.DataObject) -> None:
    """The ends are the p at which the observed share is exactly z standard errors away."""
    successes = data.draw(st.integers(0, n))
    share, z = successes / n, 1.6448536269514722  # of 90 %
    low, high = wilson(successes, n, 0.90)
    assert 0 <= low <= share <= high <= 1
    for end in (low, high):
        assert (share - end) ** 2 == pytest.approx(z * z * end * (1 - end) / n, abs=1e-9)


def test_wilson_of_nothing_and_of_nonsense() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(0, 5)[0] == 0.0
    assert wilson(5, 5)[1] == 1.0
    for bad in (lambda: wilson(6, 5), lambda: wilson(-1, 5), lambda: wilson(1, 5, 0.0), lambda: wilson(1, 5, 1.0)):
        with pytest.raises(ValueError):
            bad()


def test_bootstrap_draws_prompts_and_not_completions() -> None:
    """30 prompts, 10 equal completions each: the interval is that of 30 draws, √10 wider than that of 300."""
    values = [[1.0] * 10] * 12 + [[0.0] * 10] * 18
    low, high = bootstrap_by_prompt(values, resamples=4000)
    expected = 2 * 1.96 * math.sqrt(0.4 * 0.6 / 30)
    assert high - low == pytest.approx(expected, rel=0.1)
    assert low == pytest.approx(0.4 - expected / 2, abs=0.04)


def test_bootstrap_is_fixed_by_its_seed() -> None:
    values = [[math.sqrt(i)] for i in range(40)]
    assert bootstrap_by_prompt(values, seed=1) == bootstrap_by_prompt(values, seed=1)
    assert bootstrap_by_prompt(values, seed=1) != bootstrap_by_prompt(values, seed=2)


def test_bootstrap_covers_as_often_as_it_says() -> None:
    chance = random.Random(0)
    covered = 0
    for trial in range(200):
        prompts = [[chance.gauss(0, 1)] for _ in range(40)]
        low, high = bootstrap_by_prompt(prompts, level=0.8, seed=trial, resamples=200)
        covered += low <= 0 <= high
    assert 140 <= covered <= 178  # 160 ± 3 standard deviations of 5.7


def test_bootstrap_of_another_statistic() -> None:
    def largest(values: Sequence[Sequence[float]]) -> float:
        return max(v for prompt in values for v in prompt)

    assert bootstrap_by_prompt([[1.0, 7.0]], largest) == (7.0, 7.0)


def test_bootstrap_of_nothing() -> None:
    with pytest.raises(ValueError, match="at least one prompt"):
        bootstrap_by_prompt([])
    with pytest.raises(ValueError, match="at least one resample"):
        bootstrap_by_prompt([[1.0]], resamples=0)
    assert math.isnan(pooled_mean([]))
    assert all(math.isnan(end) for end in bootstrap_by_prompt([[]]))


def test_pairing_takes_the_spread_between_prompts_out() -> None:
    """Prompts from easy to hard, each exactly 0.1 better: unpaired hopeless, paired certain."""
    before = [[i / 40] for i in range(36)]
    after = [[i / 40 + 0.1] for i in range(36)]
    got = paired_difference(before, after)
    assert got.mean == pytest.approx(0.1)
    assert got.interval == pytest.approx((0.1, 0.1))


def test_pairing_weighs_prompts_equally_and_leaves_out_the_empty() -> None:
    got = paired_difference([[0.0], [1.0, 0.0], [1.0]], [[1.0, 1.0, 1.0, 1.0], [1.0], []])
    assert (got.mean, got.prompts) == (0.75, 2)  # (1 − 0 + 1 − 0.5) / 2
    with pytest.raises(ValueError, match="1 prompts before and 2 after"):
        paired_difference([[1.0]], [[1.0], [1.0]])
    with pytest.raises(ValueError, match="no prompt has values"):
        paired_difference([[]], [[1.0]])
