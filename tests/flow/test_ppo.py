"""Whole runs of PPO, with a critic of its own and with one on the policy's backbone."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import time
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


def digests(run: Path) -> dict[str, str]:
    files = [*run.glob("rollouts/*.parquet"), *run.glob("latest/*/*.safetensors")]
    assert files
    return {str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files)}


def rows(run: Path) -> list[dict]:
    read = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timed = ("time/", "tokens_per_s/")
    return [{k: v for k, v in r.items() if not k.startswith(timed) and not k.endswith("/seconds")} for r in read]


def last_step(run: Path) -> int:
    try:
        return json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    except (OSError, ValueError, IndexError):
        return -1


def test_the_reward_rises_and_the_critic_learns(charter, ppo_recipe, tmp_path):
    done = charter(
        "train", ppo_recipe, "run.steps=30", "optimizer.learning_rate=3e-3", "ppo.kl_coef=0.01",
        "sampling.group_size=8", "--run-dir", tmp_path / "r", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [row for row in rows(tmp_path / "r") if row["step"] > 0]
    curve = [row["reward"] for row in found]
    assert sum(curve[-5:]) / 5 > sum(curve[:5]) / 5 + 0.2
    assert found[0]["value/mean"] == 0  # it begins by expecting nothing
    assert found[-1]["value/mean"] > 0.1
    from charter.run.metrics import unknown_metrics

    assert unknown_metrics({key for row in found for key in row}) == []


def test_killed_and_resumed_equals_uninterrupted(charter, charter_process, ppo_recipe, tmp_path):
    assert charter("train", ppo_recipe, "--run-dir", tmp_path / "whole", cwd=tmp_path).returncode == 0
    cut = tmp_path / "cut"
    rng = random.Random(5)
    for step in (4,):  # once: every start loads torch anew
        process = charter_process("train", ppo_recipe, "--run-dir", cut, "--resume", cwd=tmp_path)
        deadline = time.monotonic() + 120
        while last_step(cut) < step and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert step <= last_step(cut) < 6
    done = charter("train", ppo_recipe, "--run-dir", cut, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert digests(cut) == digests(tmp_path / "whole")
    assert rows(cut) == rows(tmp_path / "whole")
    state = cut / "latest" / "state" / "optimizer.safetensors"
    from safetensors import safe_open

    with safe_open(state, "pt") as file:
        names = set(file.keys())
    assert {"weight/critic.scalar.weight", "exp_avg/critic.scalar.weight"} <= names
