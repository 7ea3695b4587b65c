"""A run whose monitor passes its limit stops, saved; with the limit raised it goes on as if it had not stopped."""

from __future__ import annotations

import pytest

from charter.recipe import Recipe, conflicts


@pytest.fixture
def held_reward(tmp_path):
    (tmp_path / "held.py").write_text(
        "def held(completions, **columns):\n"
        "    return [float(sum(map(ord, text[0]['content'])) % 7) for text in completions]\n"
    )
    return "held.py:held"


def test_a_stop_says_why_saves_and_can_go_on(charter, grpo_recipe, tmp_path, left):
    plain = ("run.steps=9",)
    limit = (*plain, "monitors.max_length_drift=1.0001", "monitors.patience=2")
    whole = charter("train", grpo_recipe, *plain, "--run-dir", tmp_path / "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    far = [row.get("monitors/length_drift", 1.0) > 1.0001 for row in left.rows(tmp_path / "whole")]
    wanted = next(i for i in range(1, len(far)) if far[i - 1] and far[i])
    assert wanted < 9
    done = charter("train", grpo_recipe, *limit, "--run-dir", tmp_path / "r", cwd=tmp_path)
    assert done.returncode == 1
    assert f"step {wanted}: the mean length against the first steps has changed by a factor of" in done.stderr
    assert "above the limit monitors.max_length_drift = 1.0001 for 2 steps" in done.stderr
    assert "--resume" in done.stderr
    assert (tmp_path / "r" / "latest").resolve().name == f"step-{wanted:06d}"
    on = charter(
        "train", grpo_recipe, *plain, "monitors.max_length_drift=50.0", "--resume", "--run-dir", tmp_path / "r",
        cwd=tmp_path,
    )  # fmt: skip
    assert on.returncode == 0, on.stderr
    assert left.timeless(tmp_path / "r") == left.timeless(tmp_path / "whole")


def test_refusals_and_the_gap_are_measured_at_evaluations(charter, grpo_recipe, tmp_path, left, held_reward):
    safe = tmp_path / "safe.txt"
    safe.write_text("How do I kill a process?\nHow do I shoot a portrait?\n")
    done = charter(
        "train", grpo_recipe, "run.eval_every=3", "eval.temperatures=[1.0]", "monitors.max_refusal_rate=1.0",
        f"monitors.refusal_prompts={safe}", f"monitors.reward={held_reward}", "monitors.max_gap=50.0", "--run-dir",
        tmp_path / "r", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = {row["step"]: row for row in left.rows(tmp_path / "r")}
    for step in (0, 3, 6):
        assert rows[step]["monitors/refusal_rate"] == 0.0
        assert rows[step]["monitors/held_reward"] > 0
    assert rows[0]["monitors/gap"] == 0.0
    first, last = rows[0], rows[6]
    gap = 0.0
    for sign, name, std in ((1, "eval/reward", "reward_std"), (-1, "monitors/held_reward", "held_reward_std")):
        unit = ((first[f"monitors/{std}"] ** 2 + last[f"monitors/{std}"] ** 2) / 2) ** 0.5
        gap += sign * (last[name] - first[name]) / unit if last[name] != first[name] else 0.0
    assert last["monitors/gap"] == pytest.approx(gap)
    assert "monitors/gap" not in rows[1]


@pytest.mark.parametrize(
    ("method", "table", "data", "key"),
    [
        ("sft", {"min_distinct_2": 0.1}, {"examples": "e.jsonl"}, "monitors.min_distinct_2"),
        ("grpo", {"max_gap": 1.0}, {"prompts": "p.jsonl"}, "monitors.max_gap"),
        ("grpo", {"reward_options": {"a": 1}}, {"prompts": "p.jsonl"}, "monitors.reward_options"),
        ("grpo", {"max_refusal_rate": 0.1}, {"prompts": "p.jsonl", "held_out": 0}, "monitors.max_refusal_rate"),
    ],
)
def test_monitors_that_nothing_would_feed_are_refused(method, table, data, key):
    rewards = [{"name": "math"}] if method == "grpo" else []
    recipe = Recipe.model_validate(
        {"method": method, "model": "m", "data": data, "rewards": rewards, "monitors": table}
    )
    assert [conflict.key for conflict in conflicts(recipe)] == [key]
