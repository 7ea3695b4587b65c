"""Each monitor by hand, its limit, and that a resumed run counts as the one that was not interrupted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.recipe.monitors import MonitorsTable
from charter.run.diversity import boilerplate, distinct_n, ngrams, words
from charter.run.metrics_monitors import MONITOR_METRICS
from charter.run.monitors import Monitors, reward_gap
from charter.types import Group, Prompt, Rollout, Score, Scored, Update


def scored(*groups: tuple[str, ...]) -> tuple[Scored, ...]:
    made = []
    for i, texts in enumerate(groups):
        rollouts = tuple(
            Rollout(prompt_id=f"p{i}", index=j, tokens=(1,), logprobs=(0.0,), text=text, stop="eos", version=0)
            for j, text in enumerate(texts)
        )
        group = Group(prompt=Prompt(id=f"p{i}", messages=()), rollouts=rollouts)
        made.append(Scored(group=group, scores=(Score(value=0.0),) * len(rollouts)))
    return tuple(made)


def update(step: int, *groups: tuple[str, ...], **metrics: float) -> Update:
    named = {name.replace("__", "/"): value for name, value in metrics.items()}
    return Update(step=step, version=step, metrics=named, scored=scored(*groups))


def test_distinct_2_by_hand():
    # "a b a b": pairs ab, ba, ab; "b a": ba; two different ones of four
    assert distinct_n(["a b a b", "B, a!"], 2) == 0.5
    assert distinct_n(["one", ""], 2) is None
    assert words("Don't stop — it's ’fine’") == ["don't", "stop", "it's", "fine"]
    assert ngrams("a b c", 2) == [("a", "b"), ("b", "c")]


def test_boilerplate_by_hand():
    groups = [
        ("I am sorry but no", "The sky is blue"),
        ("well I am sorry but ok", "grass is green here"),
        ("quite another thing entirely", "quite another thing entirely"),
    ]
    # "i am sorry but" stands under two prompts, in 2 of 6; what one prompt's completions share does not count
    assert boilerplate(groups, 4) == pytest.approx(2 / 6)
    assert boilerplate([("a b c d",) * 8], 4) == 0.0
    assert boilerplate([], 4) is None
    assert boilerplate([("a b c d e",), ("a b c d e",)], 4) == 1.0


def test_only_the_commonest_phrases_count():
    groups = [("a b", "c d"), ("a b", "c d"), ("a b", "e f")]
    assert boilerplate(groups, 2, top=1) == pytest.approx(3 / 6)
    assert boilerplate(groups, 2, top=2) == pytest.approx(5 / 6)


@given(st.lists(st.lists(st.text("ab ", max_size=8), max_size=3), max_size=4))
def test_shares_are_shares_and_know_no_order(groups):
    value = boilerplate(groups, 2)
    assert value is None or 0 <= value <= 1
    assert boilerplate([list(reversed(texts)) for texts in reversed(groups)], 2) == value
    different = distinct_n([text for texts in groups for text in texts], 2)
    assert different is None or 0 < different <= 1


def test_values_are_measured_without_limits_and_every_one_is_documented():
    monitors = Monitors(MonitorsTable())
    every = [
        monitors.observe(update(step, ("a b c d e",), ("x y z w v",), completions__mean_length=10.0 * step))
        for step in range(1, 9)
    ]
    assert all(seen.stop is None for seen in every)
    seen = every[-1]
    assert seen.metrics == {
        "monitors/distinct_2": 1.0, "monitors/boilerplate": 0.0, "monitors/boilerplate_rise": 0.0,
        "monitors/length_drift": pytest.approx(80 / 30),  # the first five: 10 to 50, mean 30
    }  # fmt: skip
    assert seen.metrics.keys() <= dict(MONITOR_METRICS).keys()
    assert Monitors(MonitorsTable()).observe(update(1)).metrics == {}


def test_boilerplate_is_measured_against_the_first_step():
    monitors = Monitors(MonitorsTable(max_boilerplate_rise=0.4, patience=1))
    template = ("answer is as follows one", "two other words only here")
    first = monitors.observe(update(1, template, ("the answer is as follows", "nothing at all of it")))
    assert (first.metrics["monitors/boilerplate"], first.stop) == (0.5, None)
    later = monitors.observe(update(2, ("I cannot help with that",) * 2, ("I cannot help with that",) * 2))
    assert later.metrics["monitors/boilerplate_rise"] == 0.5
    assert str(later.stop) == (
        "step 2: the share of completions with one of the step's commonest phrases has risen by 0.5, above the limit "
        "monitors.max_boilerplate_rise = 0.4"
    )


def test_a_limit_must_be_passed_as_many_steps_in_a_row_as_patience_says():
    monitors = Monitors(MonitorsTable(min_distinct_2=0.5, patience=3))
    same, varied = ("a a a a a",), ("a b c d e",)
    stops = [
        monitors.observe(update(i, texts)).stop for i, texts in enumerate([same, same, varied, same, same, same], 1)
    ]
    assert [stop is not None for stop in stops] == [False] * 5 + [True]
    assert stops[-1].key == "min_distinct_2"
    assert (stops[-1].value, stops[-1].limit) == (0.25, 0.5)
    assert str(stops[-1]).endswith("is 0.25, below the limit monitors.min_distinct_2 = 0.5 for 3 steps")


@pytest.mark.parametrize(("length", "stops"), [(30.0, False), (31.0, True), (10.0, False), (9.0, True)])
def test_length_drifts_both_ways(length, stops):
    monitors = Monitors(MonitorsTable(max_length_drift=1.75, patience=1))
    for step in range(1, 6):
        assert monitors.observe(update(step, completions__mean_length=17.5)).stop is None
    stop = monitors.observe(update(6, completions__mean_length=length)).stop
    assert (stop is not None) is stops  # 17.5 · 1.75 = 30.625 and 17.5 / 1.75 = 10


@pytest.mark.parametrize(
    ("key", "metric"), [("max_refusal_rate", "monitors/refusal_rate"), ("max_gap", "monitors/gap")]
)
def test_what_evaluations_measure_counts_at_once(key, metric):
    monitors = Monitors(MonitorsTable.model_validate({key: 0.25, "patience": 3}))
    assert monitors.observe(update(1)).stop is None
    at_limit = Update(step=2, version=2, metrics={metric: 0.25})
    assert monitors.observe(at_limit).stop is None
    above = Update(step=3, version=3, metrics={metric: 0.26})
    assert monitors.observe(above).stop.key == key


def test_a_resumed_run_counts_as_the_uninterrupted_one():
    limits = MonitorsTable(min_distinct_2=0.5, max_length_drift=1.2, patience=3)
    updates = [
        update(step, ("a a a a a" if step > 6 else "a b c d e",), completions__mean_length=10.0 + (step > 5))
        for step in range(1, 10)
    ]
    whole, rows, wanted = Monitors(limits), [{"step": 0, "eval/reward": 1.0}], []
    for each in updates:
        seen = whole.observe(each)
        rows.append({"step": each.step, **each.metrics, **seen.metrics})
        wanted.append(seen)
    for cut in range(1, len(updates)):
        resumed = Monitors(limits, rows[: cut + 1])
        assert [resumed.observe(each) for each in updates[cut:]] == wanted[cut:]
    assert wanted[-1].stop.key == "min_distinct_2"


def test_the_gap_is_in_each_rewards_own_spread():
    first = {
        "eval/reward": 1.0,
        "monitors/reward_std": 2.0,
        "monitors/held_reward": 10.0,
        "monitors/held_reward_std": 5.0,
    }
    now = {**first, "eval/reward": 5.0, "monitors/held_reward": 12.5}
    assert reward_gap(first, now) == pytest.approx(4 / 2 - 2.5 / 5)
    assert reward_gap(first, first) == 0.0
    # All wrong at first: the spread of one evaluation is enough. sqrt((0 + 2²)/2) = √2
    assert reward_gap({**first, "monitors/reward_std": 0.0}, now) == pytest.approx(4 / 2**0.5 - 0.5)
    flat = {"monitors/held_reward_std": 0.0}
    assert reward_gap({**first, **flat}, {**now, **flat}) is None
    assert reward_gap({**first, **flat}, {**now, **flat, "monitors/held_reward": 10.0}) == 2.0
    assert reward_gap({}, now) is None
