"""Whole runs of PPO, with a critic of its own and with one on the policy's backbone."""

from __future__ import annotations

from pathlib import Path

import pytest

TABLE = """
[ppo]
prompts_per_step = 4
critic = "{critic}"
value_clip = 0.5
"""


@pytest.fixture(params=["separate", "head"])
def ppo_recipe(grpo_recipe, request) -> Path:
    text = grpo_recipe.read_text().replace('method = "grpo"', 'method = "ppo"')
    text = text.replace("[grpo]\nprompts_per_step = 4\n", TABLE.format(critic=request.param))
    grpo_recipe.write_text(text)
    return grpo_recipe


def test_the_reward_rises_and_the_critic_learns(charter, ppo_recipe, tmp_path, left):
    done = charter(
        "train", ppo_recipe, "run.steps=30", "optimizer.learning_rate=3e-3", "ppo.kl_coef=0.01",
        "sampling.group_size=8", "--run-dir", tmp_path / "r", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [row for row in left.timeless(tmp_path / "r") if row["step"] > 0]
    curve = [row["reward"] for row in found]
    assert sum(curve[-5:]) / 5 > sum(curve[:5]) / 5 + 0.2
    assert found[0]["value/mean"] == 0  # it begins by expecting nothing
    assert found[-1]["value/mean"] > 0.1
    from charter.run.metrics import unknown_metrics

    assert unknown_metrics({key for row in found for key in row}) == []


def test_killed_and_resumed_equals_uninterrupted(kill_and_resume, ppo_recipe):
    cut = kill_and_resume(ppo_recipe, 6, after=(4,), seed=5)  # once: every start loads torch anew
    state = cut / "latest" / "state" / "optimizer.safetensors"
    from safetensors import safe_open

    with safe_open(state, "pt") as file:
        names = set(file.keys())
    assert {"weight/critic.scalar.weight", "exp_avg/critic.scalar.weight"} <= names
