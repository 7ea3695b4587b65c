"""`length`, `cosine_length` and `repetition`."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.errors import UsageError
from charter.reward import as_group, load_reward
from charter.reward.length import CosineLengthReward, CosineOptions, cosine_scale
from charter.reward.repetition import repeated_share
from charter.reward.runtime import NamedReward, Verdict
from charter.types import Group, Prompt, Rollout, Score

Scores = Callable[..., list[Score]]


def of_length(tokens: int, text: str = "é" * 3, **fields: Any) -> Group:
    rollout = Rollout(prompt_id="p", index=0, tokens=(5,) * tokens, logprobs=(), text=text, stop="eos", version=0)
    return Group(prompt=Prompt(id="p", messages=(), fields=fields), rollouts=(rollout,))


def score_group(name: str, group: Group, **options: Any) -> Score:
    reward = load_reward(name, **options)
    assert isinstance(reward, NamedReward)
    try:
        return asyncio.run(reward.score(group))[0]
    finally:
        reward.shut_down()


@pytest.mark.parametrize(
    ("options", "tokens", "value"),
    [
        ({"target": 10}, 10, 1.0),
        ({"target": 10}, 7, 0.7),  # 1 - |7 - 10| / 10
        ({"target": 10}, 14, 0.6),  # 1 - |14 - 10| / 10
        ({"target": 10}, 25, 0.0),  # 1 - 1.5 < 0
        ({"max": 10}, 1, 1.0),
        ({"max": 10}, 10, 1.0),
        ({"max": 10}, 12, 0.8),  # 1 - 2 / 10
        ({"max": 10}, 21, 0.0),
        ({"target": 4, "unit": "characters"}, 9, 0.75),  # "ééé" has 3 characters
    ],
)
def test_length(options: dict[str, Any], tokens: int, value: float) -> None:
    assert score_group("length", of_length(tokens), **options).value == pytest.approx(value, abs=1e-12)


def test_length_refuses_to_guess(score_texts: Scores) -> None:
    for options in ({}, {"target": 3, "max": 4}):
        with pytest.raises(UsageError, match="exactly one of target and max"):
            load_reward("length", **options)
    (score,) = score_texts("length", ["text without tokens"], max=5)
    assert (score.value, score.status) == (None, "failed")


def test_length_is_gamed_by_filler_and_by_silence(score_texts: Scores) -> None:
    filler, silence = score_texts("length", ["x" * 100, ""], target=100, unit="characters")
    assert (filler.value, silence.value) == (1, 0)
    assert score_texts("length", [""], max=100, unit="characters")[0].value == 1


COSINE = {"correct": "exact", "max": 100}


@pytest.mark.parametrize(
    ("tokens", "text", "value"),
    [
        (0, "", -1.0),  # wrong at length 0
        (50, "yes", 0.75),  # cos(π/2) = 0: half way from 1 to 0.5
        (50, "no", -0.75),  # half way from -1 to -0.5
        (25, "yes", 0.5 + 0.5 * (1 + math.sqrt(0.5)) / 2),  # cos(π/4) = √½: 0.9268
        (99, "yes", 0.5 + 0.5 * (1 + math.cos(0.99 * math.pi)) / 2),
        (100, "yes", -1.0),  # at the limit, right or not
        (300, "no", -1.0),
    ],
)
def test_cosine_length(tokens: int, text: str, value: float) -> None:
    score = score_group("cosine_length", of_length(tokens, text, answer="yes"), **COSINE)
    assert score.value == pytest.approx(value, abs=1e-12)


def test_cosine_length_with_the_papers_numbers() -> None:
    paper = {"right": [2.0, 1.0], "wrong": [-10.0, 0.0], "exceeded": -10.0}
    got = [
        score_group("cosine_length", of_length(n, text, answer="yes"), **COSINE, **paper).value
        for n, text in ((1, "yes"), (50, "yes"), (50, "no"), (99, "no"), (100, "yes"))
    ]
    # right: 1 + (1 + cos πt)/2; wrong: -10 (1 + cos πt)/2; (1 + cos 0.99π)/2 = 0.000246719…
    assert got == pytest.approx([1.99975328, 1.5, -5.0, -0.00246720, -10.0], abs=1e-6)


def test_cosine_length_asks_what_it_is_told_to() -> None:
    group = of_length(50, "\\boxed{4}", gold="4", solved=True, share=0.5)
    for correct in ({"name": "math", "answer": "gold"}, "solved", {"name": "regex", "pattern": "4"}):
        assert score_group("cosine_length", group, correct=correct, max=100).value == pytest.approx(0.75)
    assert score_group("cosine_length", group, correct="share", max=100).value == pytest.approx(-0.75)
    assert score_group("cosine_length", group, correct="share", max=100, at_least=0.5).value == pytest.approx(0.75)
    assert score_group("cosine_length", of_length(5, answer=None), **COSINE).status == "abstained"
    assert score_group("cosine_length", of_length(5), **COSINE).note.startswith("row p has no column 'answer'")
    broken = score_group("cosine_length", of_length(5, solved="yes"), correct="solved", max=9)
    assert (broken.status, broken.note) == (
        "failed",
        "row p: column 'solved' holds 'yes'; expected true, false or a number",
    )
    reward = load_reward("cosine_length", correct={"name": "math", "answer": "gold"}, max=10)
    assert isinstance(reward, NamedReward)
    assert (reward.required_columns(), reward.maximum) == (("gold",), 1.0)
    reward.shut_down()
    code = load_reward("cosine_length", correct="code", max=10)
    assert isinstance(code, NamedReward)
    (problem,) = code.check_columns(["question"], "rows.jsonl")
    assert "it needs the column 'tests'" in str(problem)
    column = load_reward("cosine_length", correct="solved", max=10)
    assert isinstance(column, NamedReward)
    assert "it needs the column 'solved'" in str(*column.check_columns(["question"], "rows.jsonl"))
    assert column.check_columns(["solved"], "rows.jsonl") == []


def test_cosine_length_costs_what_the_other_reward_costs() -> None:
    options = CosineOptions.model_validate({"correct": "solved", "max": 10, "unit": "characters"})
    reward = CosineLengthReward("cosine_length", 1.0, options)
    for text in ("abc", "a" * 10):  # below the limit and at it
        answer = Verdict(value=1.0, seconds=0.25)
        (rollout,) = as_group(Prompt(id="p", messages=()), [text]).rollouts
        assert reward._one(rollout, answer).seconds == 0.25


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"correct": "cosine_length"}, "cannot ask itself"),
        ({"correct": {"answer": "a"}}, 'the table needs a "name"'),
        ({"correct": {"name": "mth"}}, "there is no reward 'mth'"),
        ({"correct": {"name": "math", "anwser": "a"}}, r"math\.anwser: Extra inputs"),
        ({"correct": "regex"}, r"regex\.pattern: Field required"),
        ({"correct": "exact", "right": [1, float("inf")]}, "must be finite"),
    ],
)
def test_cosine_length_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_reward("cosine_length", max=10, **options)


@given(st.floats(0, 100), st.floats(-10, 10), st.floats(-10, 10))
def test_the_cosine_goes_from_one_end_to_the_other(n: float, a: float, b: float) -> None:
    value = cosine_scale(n, 100, a, b)
    assert min(a, b) - 1e-9 <= value <= max(a, b) + 1e-9
    assert cosine_scale(0, 100, a, b) == pytest.approx(a, abs=1e-9)
    assert cosine_scale(100, 100, a, b) == pytest.approx(b, abs=1e-9)
    assert cosine_scale(100 - n, 100, b, a) == pytest.approx(value, abs=1e-9)  # the same curve read backwards


def test_cosine_length_is_gamed_by_long_wrong_answers(score_texts: Scores) -> None:
    wrong = ["no", "no" + " hmm" * 20]  # 2 and 82 of 100 characters: more text, less penalty
    short, long = score_texts("cosine_length", wrong, {"answer": "yes"}, correct="exact", max=100, unit="characters")
    assert short.value == pytest.approx(-1 + 0.5 * (1 - math.cos(0.02 * math.pi)) / 2)
    assert long.value == pytest.approx(-1 + 0.5 * (1 - math.cos(0.82 * math.pi)) / 2)
    assert (score_texts("repetition", wrong[1:], n=1)[0].value or 0) < -0.8  # which the repetition penalty sees


@pytest.mark.parametrize(
    ("text", "options", "value"),
    [
        ("", {}, 0.0),
        ("one two", {}, 0.0),  # no 3-gram
        ("one two three four", {}, 0.0),
        ("a b a b a", {"n": 2}, -0.5),  # ab ba ab ba: 2 of 4 distinct
        ("A b a B a", {"n": 2}, -0.5),  # case does not matter
        ("x x x x", {"n": 1}, -0.75),
        ("x x x x", {"n": 1, "free": 0.5}, -0.5),  # (0.75 - 0.5) / 0.5
        ("a b a b a", {"n": 2, "free": 0.5}, 0.0),
        ("哈哈哈哈", {"n": 2, "unit": "characters"}, -2 / 3),  # 哈哈 three times
    ],
)
def test_repetition(score_texts: Scores, text: str, options: dict[str, Any], value: float) -> None:
    assert score_texts("repetition", [text], **options)[0].value == pytest.approx(value, abs=1e-12)


def test_repetition_in_tokens(score_texts: Scores) -> None:
    assert score_group("repetition", of_length(5), unit="tokens", n=2).value == pytest.approx(-0.75)  # 1 of 4 distinct
    assert score_texts("repetition", ["x"], unit="tokens")[0].status == "failed"


@given(st.lists(st.sampled_from("ab"), max_size=40), st.integers(1, 12))
def test_the_share_is_that_of_counting_n_grams(units: list[str], n: int) -> None:
    grams = [tuple(units[i : i + n]) for i in range(len(units) - n + 1)]
    expected = 1 - len(set(grams)) / len(grams) if grams else 0.0
    assert repeated_share(units, n) == pytest.approx(expected, abs=1e-12)


def test_repetition_is_gamed_by_counting(score_texts: Scores) -> None:
    loop = " ".join(["wait let me check"] * 30)
    counted = " ".join(f"wait {i} let {i} me {i} check" for i in range(30))
    same, varied = score_texts("repetition", [loop, counted])
    assert same.value == pytest.approx(-(1 - 4 / 118))  # 120 words, 118 3-grams, 4 of them distinct
    assert varied.value == 0.0


@pytest.mark.parametrize("piece", ["a", "ab cd ", "\ud800 "])
def test_a_megabyte_is_counted_in_bounded_time(score_texts: Scores, piece: str) -> None:
    text, started = piece * (1_000_000 // len(piece)), time.process_time()
    (words,) = score_texts("repetition", [text], n=8)
    (characters,) = score_texts("repetition", [text], n=64, unit="characters")
    assert -1 <= (words.value or 0) <= 0
    assert (characters.value or 0) < -0.99
    assert time.process_time() - started < 8
