"""Sums by hand, and what must hold for every sum: gates, caps, normalisation, changing weights."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.errors import RecipeError
from charter.recipe import RewardTable
from charter.reward import Rubric, as_group, build_rubric
from charter.reward.composition import Rule, check_gates, compose, counted_values, is_open, standardised
from charter.reward.runtime import NamedReward, Verdict, abstained, failed, scored
from charter.reward.schedule import WeightSchedule
from charter.types import Prompt, Rollout, Score

PROMPT = Prompt(id="p", messages=(), fields={})


def one(rules: dict[str, Rule], step: int = 1, **values: float | Verdict | None) -> Score:
    """The score of one completion; None abstains."""
    columns = {
        name: [v if isinstance(v, Verdict) else abstained() if v is None else scored(v)] for name, v in values.items()
    }
    (score,) = compose(rules, columns, step)
    return score


GATED = {"format": Rule(weight=0.5), "math": Rule(weight=2.0, gate="format")}


@pytest.mark.parametrize(
    ("fmt", "math_", "total", "counted"),
    [
        (1.0, 1.0, 2.5, {"format": 1.0, "math": 1.0}),  # 0.5 · 1 + 2 · 1
        (0.0, 1.0, 0.0, {"format": 0.0, "math": 0.0}),  # right, and it does not count
        (0.9, 1.0, 0.45, {"format": 0.9, "math": 0.0}),  # 0.5 · 0.9: below the threshold of 1
        (None, 1.0, 2.0, {"math": 1.0}),  # a gate that abstains does not close
        (0.0, None, 0.0, {"format": 0.0}),
    ],
)
def test_a_gate_by_hand(fmt: float | None, math_: float | None, total: float, counted: dict[str, float]) -> None:
    score = one(GATED, format=fmt, math=math_)
    assert (score.value, dict(score.counted)) == (total, counted)
    assert dict(score.parts) == {"format": fmt, "math": math_}  # each by name, as it was


def test_a_closed_gate_is_named_in_the_note() -> None:
    assert one(GATED, format=0.0, math=1.0).note == "math: counts 0, its gate 'format' is closed"


def test_a_gate_that_failed_fails_the_completion() -> None:
    score = one(GATED, format=failed("boom"), math=1.0)
    assert (score.value, score.status, score.failures) == (None, "failed", {"format": "boom"})
    assert dict(score.parts) == {"format": None, "math": 1.0}


def test_what_stands_behind_a_closed_gate_is_closed() -> None:
    rules = {"a": Rule(), "b": Rule(gate="a"), "c": Rule(gate="b", gate_at_least=0.5)}
    assert one(rules, a=1.0, b=1.0, c=1.0).value == 3.0
    assert one(rules, a=0.0, b=1.0, c=1.0).value == 0.0  # b alone would open c, and a closes b
    assert one(rules, a=1.0, b=0.4, c=1.0).value == 1.4
    assert one(rules, a=0.0, b=None, c=1.0).value == 0.0


def test_a_cap_is_before_the_weight_and_after_the_gates_look() -> None:
    rules = {"a": Rule(weight=3.0, cap=(0.0, 0.5)), "b": Rule(gate="a", gate_at_least=0.8)}
    # 3 · min(0.5, 0.9) + 1: the gate looks at the reward's own 0.9
    assert one(rules, a=0.9, b=1.0).value == 2.5
    assert one(rules, a=-4.0, b=1.0).value == 0.0
    assert one({"a": Rule(cap=(-math.inf, 1.0))}, a=-7.0).value == -7.0


def test_standardised_by_hand() -> None:
    # mean 2, deviations −1, 0, 1, variance 2/2 = 1: ±1 / (1 + 1e-4)
    assert standardised([1.0, 2.0, 3.0]) == pytest.approx([-1 / 1.0001, 0.0, 1 / 1.0001])
    assert standardised([1.0, None, 3.0]) == pytest.approx([-1 / (2**0.5 + 1e-4), None, 1 / (2**0.5 + 1e-4)])
    assert standardised([0.95] * 7) == [0.0] * 7
    assert standardised([5.0]) == [0.0]
    assert standardised([None, 5.0]) == [None, 0.0]
    assert standardised([]) == []
    assert standardised([1e308, -1e308]) == pytest.approx([0.5**0.5, -(0.5**0.5)])


def test_a_reward_is_normalised_over_those_that_answered_and_only_in_training() -> None:
    rules = {"a": Rule(weight=2.0, normalize=True), "b": Rule()}
    columns = {
        "a": [scored(1.0), scored(3.0), abstained(), failed("x")],
        "b": [scored(10.0), scored(10.0), scored(10.0), scored(10.0)],
    }
    training = compose(rules, columns, 3)
    # of 1 and 3: mean 2, std √2, so ±1/(√2 + 1e-4); the one that failed is not among them
    z = 1 / (math.sqrt(2) + 1e-4)
    assert [s.value for s in training] == [pytest.approx(10 - 2 * z), pytest.approx(10 + 2 * z), 10.0, None]
    assert [s.value for s in compose(rules, columns, 0)] == [12.0, 16.0, 10.0, None]
    assert [s.parts["a"] for s in training] == [1.0, 3.0, None, None]


def test_a_closed_gate_counts_0_in_the_normalisation_too() -> None:
    """Else the mean would be earned by failing the gate: (1, 0) become (1/√2, −1/√2), not 0 and 0."""
    rules = {"g": Rule(weight=0.0), "a": Rule(gate="g", normalize=True)}
    columns = {"g": [scored(1.0), scored(0.0)], "a": [scored(1.0), scored(1.0)]}
    assert [s.value for s in compose(rules, columns, 1)] == pytest.approx([2**-0.5, -(2**-0.5)], rel=1e-3)


LINE = WeightSchedule(start=1.0, end=0.0, steps=4)
HALF_COSINE = WeightSchedule(start=2.0, end=4.0, steps=4, shape="cosine", first=3)


def test_a_weight_over_the_steps_by_hand() -> None:
    assert [LINE.at(step) for step in (1, 2, 3, 4, 5, 6, 100)] == [1.0, 0.75, 0.5, 0.25, 0.0, 0.0, 0.0]
    # (1 − cos(π · 1/4)) / 2 = 0.146447, and a half at the middle
    expected = [2.0, 2.0, 2.0, 2 + 2 * 0.14644661, 3.0, 2 + 2 * 0.85355339, 4.0, 4.0]
    assert [HALF_COSINE.at(step) for step in range(1, 9)] == pytest.approx(expected)
    assert (LINE.at(0), HALF_COSINE.at(0)) == (0.0, 4.0)  # an evaluation uses the final weight
    assert str(LINE) == "1 → 0 over steps 1 to 5, linear"


def test_the_steps_weight_is_in_the_sum() -> None:
    rules = {"a": Rule(weight=LINE), "b": Rule(weight=1.0)}
    assert [one(rules, step, a=1.0, b=0.5).value for step in (1, 3, 5, 0)] == [1.5, 1.0, 0.5, 0.5]


@pytest.mark.parametrize(
    "wrong",
    [{"start": math.nan}, {"end": math.inf}, {"steps": 0}, {"first": 0}, {"shape": "square"}],
)
def test_a_course_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="weight"):
        replace(LINE, **wrong)


@pytest.mark.parametrize("wrong", [{"weight": math.inf}, {"gate_at_least": math.nan}, {"cap": (1.0, 1.0)}])
def test_a_rule_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Rule(**wrong)


def test_gates_that_lead_nowhere_or_in_a_circle_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the gate of 'a' is 'c', which is none of the rewards 'a', 'b'"):
        check_gates({"a": Rule(gate="c"), "b": Rule()})
    with pytest.raises(ValueError, match="in a circle: a → b → a"):
        check_gates({"a": Rule(gate="b"), "b": Rule(gate="a")})


def test_a_sum_that_overflows_is_a_failure() -> None:
    rules = {"a": Rule(), "b": Rule()}
    assert one(rules, a=1e308, b=1e308).status == "failed"
    score = one({"a": Rule(weight=10.0), "b": Rule()}, a=1e308, b=1.0)
    assert score.failures == {"a": "the weighted sum is not finite"}


values = st.none() | st.floats(-100, 100) | st.sampled_from([0.0, 1.0])
names = st.sampled_from("abcdef")


@st.composite
def rubrics(draw: st.DrawFn) -> tuple[dict[str, Rule], dict[str, list[float | None]]]:
    """Rules whose gates point backwards, so that there is no circle, and the values of three completions."""
    rules: dict[str, Rule] = {}
    for name in draw(st.lists(names, min_size=1, max_size=6, unique=True)):
        low, high = sorted(draw(st.lists(st.floats(-5, 5), min_size=2, max_size=2, unique=True)))
        rules[name] = Rule(
            weight=draw(st.floats(-3, 3) | st.sampled_from([LINE, HALF_COSINE])),
            gate=draw(st.sampled_from([None, *rules])),
            gate_at_least=draw(st.floats(-1, 1)),
            cap=draw(st.sampled_from([None, (low, high)])),
            normalize=draw(st.booleans()),
        )
    return rules, {name: draw(st.lists(values, min_size=3, max_size=3)) for name in rules}


def columns_of(found: dict[str, list[float | None]]) -> dict[str, list[Verdict]]:
    return {name: [abstained() if v is None else scored(v) for v in column] for name, column in found.items()}


@given(rubrics(), st.randoms(), st.integers(0, 9))
def test_the_order_of_rewards_never_matters(made: Any, random: Any, step: int) -> None:
    rules, found = made
    order = list(rules)
    random.shuffle(order)
    shuffled = compose({n: rules[n] for n in order}, columns_of({n: found[n] for n in order}), step)
    straight = compose(rules, columns_of(found), step)
    assert [s.value for s in shuffled] == [s.value for s in straight]  # to the last bit
    assert [dict(s.counted) for s in shuffled] == [dict(s.counted) for s in straight]


@given(rubrics(), st.integers(0, 9))
def test_the_sum_against_an_independent_one(made: Any, step: int) -> None:
    rules, found = made
    rules = {name: replace(rule, normalize=False) for name, rule in rules.items()}

    def term(name: str, i: int) -> float:
        value, at = found[name][i], name
        assert value is not None
        while (gate := rules[at].gate) is not None:
            key = found[gate][i]
            if key is not None and key < rules[at].gate_at_least:
                return 0.0
            at = gate
        low, high = rules[name].cap or (-math.inf, math.inf)
        return rules[name].weight_at(step) * (low if value < low else high if value > high else value)

    for i, score in enumerate(compose(rules, columns_of(found), step)):
        there = [name for name in rules if found[name][i] is not None]
        assert score.value == (pytest.approx(sum(term(n, i) for n in there), abs=1e-9) if there else None)


@given(rubrics())
def test_gates_are_idempotent(made: Any) -> None:
    """Gating what was gated changes nothing: a closed reward stays 0, an open one what it is."""
    rules, found = made
    for i in range(3):
        raw = {name: column[i] for name, column in found.items()}
        bare = {name: replace(rule, cap=None) for name, rule in rules.items()}
        once = counted_values(bare, raw)
        for name, value in once.items():
            twice = value if is_open(name, bare, raw) else 0.0
            assert twice == value


@given(rubrics(), names, st.floats(0, 50))
def test_caps_are_monotone_and_bounding(made: Any, name: str, more: float) -> None:
    """Without gates, more of a value never counts less, and never beyond the cap."""
    rules, found = made
    free = {n: replace(rule, gate=None) for n, rule in rules.items()}
    if name not in rules or found[name][0] is None:
        return
    raw = {n: column[0] for n, column in found.items()}
    low, high = free[name].cap or (-math.inf, math.inf)
    before, after = (counted_values(free, {**raw, name: raw[name] + extra})[name] for extra in (0.0, more))
    assert low <= before <= after <= high


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9))
def test_standardised_values_have_mean_0_and_at_most_unit_spread(given_values: list[float]) -> None:
    z = [v for v in standardised(given_values) if v is not None]
    assert sum(z) == pytest.approx(0.0, abs=1e-6)
    assert sum(v * v for v in z) <= len(z) - 1 + 1e-6


class Fixed(NamedReward):
    def __init__(self, name: str, *answers: Verdict, maximum: float | None = 1.0) -> None:
        super().__init__(name, 1.0)
        self.answers, self.maximum = answers, maximum

    async def judge(self, prompt: Prompt, rollouts: Sequence[Rollout]) -> Sequence[Verdict]:
        return self.answers[: len(rollouts)]


def test_a_rubric_uses_the_step_of_its_group() -> None:
    rubric = Rubric([(Fixed("a", scored(1.0)), Rule(weight=LINE)), (Fixed("b", scored(0.5)), 1.0)])
    group = as_group(PROMPT, ["x"])
    values = [asyncio.run(rubric.score(replace(group, step=step)))[0].value for step in (1, 2, 5, 0)]
    assert values == [1.5, 1.25, 0.5, 0.5]
    assert (rubric.weights(2), rubric.weights()) == ({"a": 0.75, "b": 1.0}, {"a": 0.0, "b": 1.0})


def tables(*given_tables: dict[str, Any]) -> list[RewardTable]:
    return [RewardTable.model_validate(table) for table in given_tables]


def test_a_recipes_gate_is_found_by_name_and_opens_at_the_gates_maximum() -> None:
    rubric = build_rubric(
        tables(
            {"name": "exact", "gate": "format_2", "weight": {"start": 0, "end": 1, "steps": 2, "from": 5}},
            {"name": "format"},
            {"name": "format", "tags": ["t"]},
        )
    )
    assert rubric.rules["exact"] == Rule(
        weight=WeightSchedule(start=0.0, end=1.0, steps=2, first=5), gate="format_2", gate_at_least=1.0
    )
    asyncio.run(rubric.close())
    from charter.reward.rules import default_threshold

    assert default_threshold(Fixed("x", maximum=0.25)) == 0.25
    assert default_threshold(Fixed("x", maximum=None)) == 1.0


def test_a_gate_may_be_named_as_the_recipe_names_the_reward(tmp_path: Any) -> None:
    (tmp_path / "rules.py").write_text("def brief(completions):\n    return [1.0 for _ in completions]\n")
    source = f"{tmp_path}/rules.py:brief"
    for gate in ("brief", source):
        rubric = build_rubric(tables({"name": source}, {"name": "exact", "gate": gate}))
        assert rubric.rules["exact"].gate == "brief"
        asyncio.run(rubric.close())


def test_what_cannot_be_meant_in_tables_made_in_python() -> None:
    class Loose:
        def __init__(self, **given_keys: Any) -> None:
            self.__dict__ |= {"weight": 1.0, "timeout_s": 1.0, "options": {}, **given_keys}

    with pytest.raises(RecipeError) as caught:
        build_rubric(
            [
                Loose(name="exact", gate="formt"),
                Loose(name="format", cap=(1.0, 0.0)),
                Loose(name="length", options={"max": 3}, weight=math.nan, gate_at_least=math.inf),
            ]
        )
    said = [str(problem) for problem in caught.value.problems]
    assert said[0].startswith("rewards[0].gate: 'formt' is no other reward of this recipe. Did you mean 'format'?")
    assert said[1].startswith("rewards[1].cap: the cap is [1.0, 0.0]")
    assert said[2].startswith("rewards[2].weight: it is nan")
    assert said[3].startswith("rewards[2].gate_at_least: gate_at_least is inf")
    with pytest.raises(RecipeError, match="in a circle: exact → format → exact"):
        build_rubric([Loose(name="exact", gate="format"), Loose(name="format", gate="exact")])
