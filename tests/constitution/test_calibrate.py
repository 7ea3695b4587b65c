"""A judge against people: every measure by hand, the intervals against an independent bootstrap, and the gate."""

from __future__ import annotations

import asyncio
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from charter.constitution.baselines import out_of_fold, refusal_wins, shorter_wins
from charter.constitution.calibrate import Verdicts, calibration, clusters_of
from charter.constitution.feedback import Match, judge
from charter.constitution.principles import Constitution, Principle
from charter.constitution.resampling import Clusters
from charter.recipe.cai import JudgeTable
from charter.run.records import Journal
from charter.sampler.scripted import ScriptedChat
from charter.types import Message, Pair, Prompt


def pair(n: int, a: str, b: str, p: float = 1.0, prompt: str = "") -> Pair:
    asked = Prompt(id=str(n), messages=(Message(role="user", content=prompt or f"prompt {n}"),))
    return Pair(id=str(n), prompt=asked, a=a, b=b, p=p)


def refuses(text: str) -> bool:
    return text.startswith("No")


def verdicts(*p: float | None, **keys: Any) -> Verdicts:
    return Verdicts(name="judge", kind="judge", p=tuple(p), **keys)


FOUR = [pair(1, "No", "Yes, so"), pair(2, "longer", "short", 0.9), pair(3, "xx", "yyy", 0.2), pair(4, "No.", "No")]


def measured(of: Verdicts, pairs: list[Pair] = FOUR) -> dict[str, Any]:
    return calibration(pairs, of, refuses, resamples=200)


def test_the_measures_by_hand():
    row = measured(verdicts(0.8, 0.4, 0.5, None))["judges"][0]
    # y = 1, 1, 0: right, wrong, a tie (a half); the fourth gave no answer
    assert (row["n"], row["abstained"], row["ties"]) == (3, 1, 1)
    assert row["accuracy"] == pytest.approx((1 + 0 + 0.5) / 3)
    assert row["brier"] == pytest.approx((0.04 + 0.36 + 0.25) / 3)
    # confidences 0.8, 0.6, 0.5 in three bins: |0.8 − 1| + |0.6 − 0| + |0.5 − 0.5|, each a third
    assert row["ece"] == pytest.approx((0.2 + 0.6 + 0.0) / 3)
    assert [(b["low"], b["n"], b["confidence"], b["accuracy"]) for b in row["reliability"]] == [
        (0.5, 1, 0.5, 0.5), (0.6, 1, 0.6, 0.0), (0.8, 1, 0.8, 1.0)
    ]  # fmt: skip
    assert (row["keeps_slot"], row["position_gap"], row["first_slot"]) == (None, None, None)


def test_position_by_hand():
    orders = (((0.9, 0.6),), ((0.9, 0.2),), ((0.3, 0.5),), ())
    row = measured(verdicts(0.75, 0.55, 0.4, None, orders=orders))["judges"][0]
    # (0.9, 0.6) says a in both orders; (0.9, 0.2) says the first shown in both; (0.3, 0.5) is undecided in one
    assert row["keeps_slot"] == 0.5
    assert row["position_gap"] == pytest.approx((0.3 + 0.7 + 0.2) / 3)
    # P of the first slot: 0.9, 0.4; 0.9, 0.8; 0.3, 0.5
    assert row["first_slot"] == pytest.approx(3.8 / 6)


def test_the_baselines_by_hand():
    assert shorter_wins(FOUR) == [1.0, 0.0, 1.0, 0.0]
    assert refusal_wins(FOUR, refuses) == [1.0, 0.5, 0.5, 0.5]
    found = {row["name"]: row for row in measured(verdicts(0.8, 0.4, 0.5, 0.9))["judges"]}
    # y = 1, 1, 0, 1: shorter is right once; the refusal once and three times a coin
    assert found["shorter wins"]["accuracy"] == 0.25
    assert found["refusal wins"]["accuracy"] == pytest.approx((1 + 3 * 0.5) / 4)
    assert found["refusal wins"]["ties"] == 3


def test_the_refusal_free_subset_leaves_out_every_pair_with_a_refusal():
    found = measured(verdicts(0.1, 0.8, 0.3, 0.9))
    assert found["refusal_free_n"] == 2
    assert found["judges"][0]["accuracy"] == 0.75
    assert found["judges"][0]["refusal_free"]["accuracy"] == 1.0
    assert found["judges"][0]["refusal_free"]["n"] == 2


def clustered(count: int, size: int, seed: int = 0) -> tuple[list[Pair], list[float]]:
    """Pairs of equal length without refusals, and the labels of a judge that is right by prompt."""
    rng = random.Random(seed)
    pairs, p = [], []
    for prompt in range(count):
        hit = rng.random() < 0.8
        for n in range(size):
            better = rng.random() < 0.5
            pairs.append(pair(prompt * size + n, "aaaa", "bbbb", float(better), f"prompt {prompt}"))
            p.append(0.9 if better == hit else 0.1)
    return pairs, p


def test_intervals_draw_prompts_and_not_pairs():
    pairs, p = clustered(40, 25)
    row = calibration(pairs, verdicts(*p), refuses, resamples=2000)["judges"][0]
    # 40 prompts, all pairs of one right or wrong together: the standard error is that of 40 coins, √(p(1 − p)/40)
    error = math.sqrt(row["accuracy"] * (1 - row["accuracy"]) / 40)
    low, high = row["interval"]
    assert (high - low) / (2 * 1.96) == pytest.approx(error, rel=0.1)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.floats(-2, 2))), min_size=1, max_size=30).filter(
        lambda rows: any(value is not None for _, value in rows)
    )
)
def test_the_bootstrap_is_the_plain_one(rows):
    keys, values = [f"c{key}" for key, _ in rows], [value for _, value in rows]
    mean, interval = Clusters(keys, 300, 7).mean(values)
    told = [value for value in values if value is not None]
    assert mean == pytest.approx(sum(told) / len(told))
    # the same draws, one resample at a time
    names = list(dict.fromkeys(keys))
    draws = np.random.Generator(np.random.Philox(7)).integers(len(names), size=(300, len(names)))
    means = []
    for draw in draws:
        drawn = [v for c in draw for k, v in zip(keys, values, strict=True) if k == names[c] and v is not None]
        if drawn:
            means.append(sum(drawn) / len(drawn))
    assert interval == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=1e-9)


def test_nothing_measured_is_nothing_and_not_zero():
    row = measured(verdicts(None, None, None, None))["judges"][0]
    assert [row[key] for key in ("accuracy", "interval", "brier", "ece", "keeps_slot")] == [None] * 5
    assert (row["passed"], row["abstained"]) == (False, 4)
    assert row["verdict"] == "judge is refused: it gave no answer that could be read on any of 4 pairs."


def test_a_pair_that_people_did_not_decide_is_refused():
    with pytest.raises(ValueError, match="did not decide"):
        measured(verdicts(0.5), [pair(1, "a", "b", 0.5)])


def graded(right: float, count: int = 200, seed: int = 1) -> tuple[list[Pair], list[float]]:
    """Pairs on which shorter wins is right 60 % of the time, and a judge that is right with the share given."""
    rng = random.Random(seed)
    pairs, p = [], []
    for n in range(count):
        better = rng.random() < 0.5
        shorter = better == (rng.random() < 0.6)
        pairs.append(pair(n, "a" if shorter else "aaa", "bb", float(better)))
        p.append(0.8 if better == (rng.random() < right) else 0.2)
    return pairs, p


def test_a_judge_that_beats_both_baselines_passes():
    pairs, p = graded(0.9)
    found = calibration(pairs, verdicts(*p), refuses)
    assert found["passed"]
    row = found["judges"][0]
    assert row["against"]["shorter wins"]["interval"][0] > 0
    assert row["against"]["shorter wins"]["difference"] == pytest.approx(
        row["accuracy"] - found["judges"][1]["accuracy"]
    )
    assert found["verdict"].startswith(f"judge passes: right on {row['accuracy']:.1%} [")
    assert "beats 'shorter wins' by +" in found["verdict"]
    # a baseline is not better than itself
    assert [row["passed"] for row in found["judges"]] == [True, False, False]
    json.dumps(found, allow_nan=False)


def test_a_judge_that_is_as_good_as_a_baseline_is_refused():
    pairs, p = graded(0.6)
    found = calibration(pairs, verdicts(*p), refuses)
    assert not found["passed"]
    assert "judge is refused" in found["verdict"]
    assert "it does not beat 'shorter wins'" in found["verdict"]


def test_a_judge_that_keeps_its_slot_is_refused_however_right_it_is():
    pairs, p = graded(0.95)
    orders = tuple(((0.9, 0.2),) if n % 2 else ((0.8, 0.8),) for n in range(len(p)))
    found = calibration(pairs, verdicts(*p, orders=orders), refuses)
    assert not found["passed"]
    assert "it keeps the same slot on 50% of the comparisons" in found["verdict"]


def test_a_judge_that_seldom_answers_is_refused():
    pairs, p = graded(0.99)
    some = [value if n % 2 else None for n, value in enumerate(p)]
    found = calibration(pairs, verdicts(*some), refuses)
    assert not found["passed"]
    assert "no answer that could be read on 100 of 200 pairs" in found["verdict"]


def test_nobody_passes_on_a_handful_of_prompts():
    pairs = [pair(n, "aaaa", "b", 1.0, f"prompt {n % 9}") for n in range(90)]
    found = calibration(pairs, verdicts(*[0.9] * 90), refuses)
    assert not found["passed"]
    assert "they are of 9 prompts, too few to tell (at least 10)" in found["verdict"]
    more = [*pairs, pair(90, "aaaa", "b", 1.0, "another")]
    assert calibration(more, verdicts(*[0.9] * 91), refuses)["passed"]


@pytest.mark.parametrize(
    ("said", "what"),
    [
        ("Lorem ipsum dolor.", "it gave no answer that could be read on any of 30 pairs"),
        ("No, I will not compare these.", "it gave no answer that could be read on any of 30 pairs"),
        ("Verdict: A", "keeps the same slot on 100% of the comparisons"),
    ],
)
def test_broken_judges_are_refused_with_what_was_measured(tmp_path: Path, said, what):
    pairs = [pair(n, f"reply {n}", f"another reply {n}", float(n % 2)) for n in range(30)]
    constitution = Constitution(name="one", principles=(Principle(id="kind", text="Be kind."),))
    with Journal.open(tmp_path / "j.jsonl", {}) as journal:
        judged = asyncio.run(
            judge(
                [Match.of(one) for one in pairs], ScriptedChat([said], name="broken"), constitution,
                JudgeTable(mode="cot", clamp=(0.0, 1.0)), journal, 0, refuses=refuses,
                decide=lambda check, messages, reply: None,
            )
        )  # fmt: skip
    found = calibration(pairs, Verdicts.of("broken", judged), refuses)
    assert not found["passed"]
    assert what in found["verdict"]
    row = found["judges"][0]
    if said == "Verdict: A":
        assert (row["accuracy"], row["ties"], row["position_gap"], row["keeps_slot"]) == (0.5, 30, 1.0, 1.0)
    else:
        assert (row["n"], row["accuracy"]) == (0, None)


def test_a_scorer_never_sees_the_prompts_it_is_measured_on():
    pairs = [pair(n, f"a{n}", f"b{n}", 1.0, f"prompt {n % 12}") for n in range(60)]
    seen: list[set[str]] = []

    def fit(given: Any) -> Any:
        known = {one.prompt.messages[0]["content"] for one in given}
        seen.append(known)
        return lambda messages, reply: (messages[0]["content"] in known) * 5.0 + (reply[0] == "a") * 2.0

    p = out_of_fold(pairs, clusters_of(pairs), fit)
    assert p == pytest.approx([1 / (1 + math.exp(-2))] * 60)
    assert all(len(known) < 12 for known in seen)
    assert 1 < len(seen) <= 5
