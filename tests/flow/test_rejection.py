"""Whole runs of rejection-sampling SFT."""

from __future__ import annotations

from pathlib import Path

import pytest

TABLE = """
[rejection_sft]
prompts_per_step = 4
per_prompt = 2
"""


@pytest.fixture
def rejection_recipe(grpo_recipe) -> Path:
    text = grpo_recipe.read_text().replace('method = "grpo"', 'method = "rejection_sft"')
    grpo_recipe.write_text(text.replace("[grpo]\nprompts_per_step = 4\n", TABLE))
    return grpo_recipe


def test_the_reward_rises_by_imitation_alone(charter, rejection_recipe, tmp_path, left):
    done = charter(
        "train", rejection_recipe, "run.steps=30", "optimizer.learning_rate=3e-3", "sampling.group_size=8",
        "--run-dir", tmp_path / "r", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [row for row in left.timeless(tmp_path / "r") if row["step"] > 0]
    curve = [row["reward"] for row in found]
    assert sum(curve[-5:]) / 5 > sum(curve[:5]) / 5 + 0.2
    assert all(0 < row["kept"] <= 8 for row in found)  # at most 2 of each of 4 prompts
    from charter.run.metrics import unknown_metrics

    assert unknown_metrics({key for row in found for key in row}) == []
    shown = charter("show", tmp_path / "r", cwd=tmp_path)
    assert shown.returncode == 0
    assert "rejection_sft" in shown.stdout


def test_killed_and_resumed_equals_uninterrupted(kill_and_resume, rejection_recipe):
    kill_and_resume(rejection_recipe, 6, after=(4,), seed=7)


def test_explain_says_what_is_kept(charter, rejection_recipe, tmp_path):
    said = charter("explain", rejection_recipe, cwd=tmp_path)
    assert said.returncode == 0
    assert "of each prompt the 2 with the highest r among those with r > mean(r) of the prompt" in said.stdout
    strict = charter(
        "explain", rejection_recipe, "rejection_sft.keep=threshold", "rejection_sft.threshold=0.5", cwd=tmp_path
    )
    assert "among those with r ≥ 0.5" in strict.stdout


def test_a_group_of_one_has_nothing_above_its_mean(charter, rejection_recipe, tmp_path):
    alone = charter("explain", rejection_recipe, "sampling.group_size=1", cwd=tmp_path)
    assert alone.returncode == 2
    assert "in a group of 1 nothing is" in alone.stderr
    fine = charter("explain", rejection_recipe, "sampling.group_size=1", "rejection_sft.keep=threshold", cwd=tmp_path)
    assert fine.returncode == 0
