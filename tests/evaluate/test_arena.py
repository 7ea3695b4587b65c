"""Who meets whom, what is left out, and what may be said of a difference."""

from __future__ import annotations

import asyncio
import math

import pytest

from charter.errors import RunError, UsageError
from charter.evaluate.arena import by_measure, contests_of, hold_arena
from charter.evaluate.effect import effect
from charter.evaluate.refusals import refusals
from charter.types import Prompt


def prompts(kind: str, count: int) -> list[Prompt]:
    return [Prompt(id=f"{kind}{i}", messages=({"role": "user", "content": f"{kind} {i}?"},)) for i in range(count)]


def answering(table):
    asked = []

    async def answer(model, wanted):
        asked.append((model, [prompt.id for prompt in wanted]))
        return {prompt.id: table(model, prompt.id) for prompt in wanted}

    return answer, asked


def length(axis, texts):
    return [float(len(reply)) if axis == "helpful" else -float(len(reply)) for _, reply in texts]


def hold(**settings):
    return asyncio.run(hold_arena(**{"judged_by": "length", "resamples": 50, **settings}))


def test_every_model_answers_every_prompt_once_and_the_axes_stay_apart():
    answer, asked = answering(lambda model, prompt: "no" if model == "short" else "a long reply")
    found = hold(
        models=["long", "short"], prompts={"helpful": prompts("h", 8), "harmless": prompts("r", 6)}, answer=answer,
        prefer=by_measure(length, how="sign"), safe=prompts("s", 3), unsafe=prompts("u", 3),
        refuses=lambda text: text == "no",
    )  # fmt: skip
    assert [(model, len(ids), len(set(ids))) for model, ids in asked] == [("long", 20, 20), ("short", 20, 20)]
    record = found.record()
    # 8 wins of 8 with half a win each way: 400·log10(8.5 / 0.5)
    elo = {each["model"]: each["elo"] for each in record["helpful"]["elo"]}
    assert elo["long"] - elo["short"] == pytest.approx(400 * math.log10(17), abs=1e-6)
    elo = {each["model"]: each["elo"] for each in record["harmless"]["elo"]}
    assert elo["short"] - elo["long"] == pytest.approx(400 * math.log10(13), abs=1e-6)
    assert [each["answered"]["share"] for each in record["evasive"]] == [1.0, 0.0]
    assert [each["over_refusal"]["share"] for each in record["evasive"]] == [0.0, 1.0]
    assert record["helpful"]["decided"] == 8


def test_a_label_that_is_none_and_a_reply_that_failed_are_left_out_and_counted():
    answer, _ = answering(lambda model, prompt: None if (model, prompt) == ("x", "h0") else f"{model} says")

    async def prefer(contests):
        assert all(each.a != each.b for each in contests)
        return {each.id: None if "h1" in each.id else 0.75 for each in contests}

    bout = hold(models=["x", "y"], prompts={"helpful": prompts("h", 6)}, answer=answer, prefer=prefer).bouts["helpful"]
    assert (bout.decided, bout.left_out, bout.failed) == (4, 1, 1)
    assert bout.pairs[0].share == 0.75
    assert bout.pairs[0].n == 4


def test_the_same_reply_is_a_tie_that_nobody_is_asked_about():
    answer, _ = answering(lambda model, prompt: "the same")

    async def prefer(contests):
        raise AssertionError("asked about nothing")

    bout = hold(models=["x", "y"], prompts={"helpful": prompts("h", 6)}, answer=answer, prefer=prefer).bouts["helpful"]
    assert (bout.same, bout.decided) == (6, 6)
    assert [rating.elo for rating in bout.ratings] == pytest.approx([1000.0, 1000.0])
    interval = bout.ratings[0].interval
    assert interval is not None
    assert interval[0] < 1000 < interval[1]


def test_three_models_meet_in_three_pairs():
    replies = {"a": {"q0": "1"}, "b": {"q0": "2"}, "c": {"q0": None}}
    met = [(each.model_a, each.model_b) for each in contests_of("helpful", ["a", "b", "c"], prompts("q", 1), replies)]
    assert met == [("a", "b")]
    replies["c"]["q0"] = "3"
    met = [(each.model_a, each.model_b) for each in contests_of("helpful", ["a", "b", "c"], prompts("q", 1), replies)]
    assert met == [("a", "b"), ("a", "c"), ("b", "c")]


def test_a_judge_that_says_nothing_gives_no_ratings_but_an_error():
    answer, _ = answering(lambda model, prompt: model)

    async def mute(contests):
        return {each.id: None for each in contests}

    with pytest.raises(RunError, match="not one of 4 helpful comparisons has a label"):
        hold(models=["x", "y"], prompts={"helpful": prompts("h", 4)}, answer=answer, prefer=mute)
    dead, _ = answering(lambda model, prompt: None)
    with pytest.raises(RunError, match="answered none of 4"):
        hold(models=["x", "y"], prompts={"helpful": prompts("h", 4)}, answer=dead, prefer=mute)


@pytest.mark.parametrize("models", [[], ["x"], ["x", "x"]])
def test_one_model_is_no_arena(models):
    answer, _ = answering(lambda model, prompt: model)
    with pytest.raises(UsageError, match="two different models"):
        hold(models=models, prompts={"helpful": prompts("h", 4)}, answer=answer, prefer=by_measure(length))


def test_a_measure_decides_by_sigmoid_or_sign_and_scores_each_text_once():
    seen = []

    def measure(axis, texts):
        seen.extend(reply for _, reply in texts)
        return [None if reply == "?" else float(len(reply)) for _, reply in texts]

    replies = {"a": {"q0": "xxx", "q1": "?"}, "b": {"q0": "x", "q1": "x"}, "c": {"q0": "xxx", "q1": "xx"}}
    contests = contests_of("helpful", ["a", "b", "c"], prompts("q", 2), replies)
    soft = asyncio.run(by_measure(measure, scale=2.0)(contests))
    assert soft["helpful/q0/a/b"] == pytest.approx(1 / (1 + math.exp(-(3 - 1) / 2)))
    assert soft["helpful/q1/a/b"] is None
    assert sorted(seen) == ["?", "x", "x", "xx", "xxx"]
    sign = asyncio.run(by_measure(measure, how="sign")(contests))
    assert (sign["helpful/q0/a/b"], sign["helpful/q0/a/c"], sign["helpful/q0/b/c"]) == (1.0, 0.5, 0.0)


def test_refusals_count_out_what_failed_and_an_empty_reply_is_no_answer():
    found = refusals(
        "m", {"s1": "Sure.", "s2": "I refuse", "s3": "  ", "s4": None}, {"u1": "I refuse", "u2": "Sure."},
        lambda text: text == "I refuse",
    )  # fmt: skip
    assert (found.answered.share, found.over_refusal.share) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert (found.refused_unsafe.share, found.left_out) == (0.5, 1)
    # Wilson at 1 of 2: centre 1/2, half-width z·sqrt(1/8 + z²/16) / (1 + z²/2), z = 1.959964
    assert found.refused_unsafe.interval == pytest.approx((0.0945312, 0.9054688), abs=1e-6)
    dumb = refusals("m", {"s1": "Sure.", "s2": "No idea"}, {}, lambda _: False, evades=lambda text: text == "No idea")
    assert (dumb.answered.share, dumb.over_refusal.share) == (0.5, 0.0)
    nobody = refusals("m", {}, {}, bool)
    assert nobody.answered.record() == {"share": None, "interval": [0.0, 1.0], "n": 0}


def test_an_effect_is_paired_and_its_interval_is_of_the_difference():
    clusters = [f"q{i}" for i in range(8)]
    before = [1.0, 5.0, 2.0, 8.0, 3.0, 4.0, 7.0, 6.0]
    after = [value + 0.5 + 0.1 * (i % 2) for i, value in enumerate(before)]
    found = effect(before, after, clusters, measure="harm")
    assert found.difference == pytest.approx(0.55)
    assert 0.5 <= found.interval[0] < 0.55 < found.interval[1] <= 0.6 + 1e-9
    assert found.verdict == "higher"
    assert {"measure", "before", "after", "interval", "n"} <= found.record().keys()
    assert effect(after, before, clusters, measure="harm").verdict == "lower"


def test_an_effect_of_few_prompts_or_of_nothing_cannot_decide():
    few = effect([0.0] * 5, [1.0] * 5, [f"q{i}" for i in range(5)], measure="m")
    assert few.verdict == "cannot decide"
    assert not few.excludes_zero
    six = effect([0.0] * 6, [1.0] * 6, [f"q{i}" for i in range(6)], measure="m")
    assert six.verdict == "higher"
    same = effect([0.5] * 20, [0.5] * 20, [f"q{i}" for i in range(20)], measure="m")
    assert (same.verdict, same.interval) == ("cannot decide", (0.0, 0.0))
    # Twenty replies to one prompt are one prompt.
    assert effect([0.0] * 20, [1.0] * 20, ["q"] * 20, measure="m").verdict == "cannot decide"


def test_a_missing_score_leaves_its_pair_out_and_a_broken_one_is_refused():
    found = effect([1.0, None, 2.0], [2.0, 5.0, None], ["a", "b", "c"], measure="m")
    assert (found.n, found.left_out, found.before, found.after) == (1, 2, 1.0, 2.0)
    with pytest.raises(ValueError, match="no finite scores"):
        effect([1.0], [float("nan")], ["a"], measure="m")
    with pytest.raises(ValueError, match="no reply has a score"):
        effect([None], [1.0], ["a"], measure="m")
    with pytest.raises(ValueError, match="do not belong together"):
        effect([1.0], [1.0, 2.0], ["a"], measure="m")
