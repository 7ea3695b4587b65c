"""Scores over prompts and seeds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.evaluate.compare_score import bootstrap_both, curve_over_seeds, difference_of, gain_of, score_of


def test_a_score_by_hand():
    # prompt means over seeds: a (1 + 0)/2 = 0.5, b (0.5 + 1)/2 = 0.75; c is missing under the second seed
    seeds = [{"a": [1.0], "b": [0.0, 1.0], "c": [1.0]}, {"a": [0.0], "b": [1.0], "c": []}]
    found = score_of(seeds)
    assert found["score"] == pytest.approx(0.625)
    assert found["prompts"] == 2
    assert found["score_by_seed"] == pytest.approx([0.75, 0.5])
    assert found["score_std"] == pytest.approx(0.25 / np.sqrt(2))
    # two prompts: a draw is (a, a), (a, b) or (b, b)
    assert found["score_interval"] == pytest.approx([0.5, 0.75])


def test_one_seed_has_no_spread_over_seeds():
    found = score_of([{"a": [1.0], "b": [0.0]}])
    assert found["score_std"] is None
    assert found["score_interval_both"] == pytest.approx(found["score_interval"], abs=1e-9)


def test_seeds_that_share_no_prompt_are_refused():
    with pytest.raises(ValueError, match="share no held-out prompt"):
        score_of([{"a": [1.0]}, {"b": [1.0]}])


def test_a_gain_is_paired():
    before = [{str(i): [float(i % 2)] for i in range(40)}]
    after = [{str(i): [float(i % 2) + 0.25] for i in range(40)}]
    found = gain_of(before, after)
    # every prompt gains the same, so other prompts would have gained it too
    assert found == {"gain": 0.25, "gain_interval": [0.25, 0.25], "gain_excludes_zero": True}
    assert gain_of(before, before)["gain_excludes_zero"] is False


def test_a_loss_excludes_zero_too():
    before, after = [{"a": [1.0], "b": [1.0]}], [{"a": [0.5], "b": [0.25]}]
    assert gain_of(before, after)["gain_excludes_zero"] is True


def test_a_difference_is_paired_by_prompt_and_seed():
    first = [{"a": [1.0], "b": [1.0], "c": [0.0]}, {"a": [1.0], "b": [0.0]}]
    second = [{"a": [0.5], "b": [0.5]}, {"a": [0.5], "b": [-0.5]}]
    # every prompt that both have differs by 0.5 under every seed; c is one's alone
    found = difference_of(first, second)
    assert found == {"difference": 0.5, "interval": [0.5, 0.5], "interval_both": [0.5, 0.5], "excludes_zero": True}
    assert difference_of(second, first)["difference"] == -0.5
    assert difference_of(first, first)["excludes_zero"] is False


def test_seeds_that_disagree_leave_a_difference_open():
    """+1 under one seed and −0.5 under the other: over prompts alone it is sure, over seeds too it is not."""
    zero = {str(i): [0.0] for i in range(30)}
    first = [{k: [1.0] for k in zero}, {k: [-0.5] for k in zero}]
    found = difference_of(first, [zero, zero])
    assert found["interval"] == [0.25, 0.25]
    assert found["excludes_zero"] is False


def test_drawing_seeds_too_is_never_surer():
    """Seeds that differ and prompts that do not: the interval over prompts is a point, the one over both is not."""
    table = np.repeat(np.array([[0.2, 0.5, 0.8]]), 30, axis=0)
    low, high = bootstrap_both(table)
    assert low < 0.4
    assert high > 0.6


@given(st.lists(st.floats(0, 1), min_size=2, max_size=12), st.integers(1, 4))
def test_the_score_is_inside_its_interval_range(values, seeds):
    runs = [{str(i): [value] for i, value in enumerate(values)} for _ in range(seeds)]
    found = score_of(runs)
    assert min(values) - 1e-9 <= found["score_interval"][0] <= found["score_interval"][1] <= max(values) + 1e-9


def test_curves_are_read_at_the_same_places():
    first = [{"tokens": 0.0, "reward": 0.0}, {"tokens": 10.0, "reward": 1.0}, {"tokens": 30.0, "reward": 1.0}]
    second = [{"tokens": 0.0, "reward": 0.5}, {"tokens": 20.0, "reward": 0.5}]
    # at 10 the second run is on the line between 0.5 and 0.5; 30 is beyond its end
    assert curve_over_seeds([first, second], "tokens", "reward") == [
        {"tokens": 0.0, "mean": 0.25, "low": 0.0, "high": 0.5},
        {"tokens": 10.0, "mean": 0.75, "low": 0.5, "high": 1.0},
    ]


def test_steps_without_a_reward_are_left_out_of_a_curve():
    rows = [{"tokens": 1.0, "reward": None}, {"tokens": 2.0, "reward": 0.5}]
    assert [row["tokens"] for row in curve_over_seeds([rows], "tokens", "reward")] == [2.0]
    assert curve_over_seeds([[{"tokens": 1.0, "reward": None}]], "tokens", "reward") == []
