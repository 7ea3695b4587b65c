"""Whole runs: the same twice, the same when killed and resumed, learning what the reward says, stopping when asked."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest
import torch


def test_a_grpo_run_leaves_what_it_promises_and_repeats_itself(charter, grpo_recipe, tmp_path, left):
    for name in ("a", "b"):
        done = charter("train", grpo_recipe, "--run-dir", tmp_path / name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    a, b = tmp_path / "a", tmp_path / "b"
    assert left.digests(a) == left.digests(b)
    assert left.timeless(a) == left.timeless(b)
    assert [r["step"] for r in left.rows(a)] == list(range(7))
    for name in ("recipe.toml", "manifest.json", "summary.json", "latest/model/config.json", "latest/state/state.json"):
        assert (a / name).exists(), name
    assert (a / "latest").resolve().name == "step-000006"
    assert len(list(a.glob("rollouts/step-*.parquet"))) == 6
    summary = json.loads((a / "summary.json").read_text())
    assert {"before", "after", "interval", "train_seconds"} <= summary.keys()
    assert "held-out accuracy" in done.stdout


def test_the_saved_model_is_a_plain_hugging_face_folder(charter, grpo_recipe, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    charter("train", grpo_recipe, "run.steps=1", "--run-dir", tmp_path / "r", cwd=tmp_path)
    folder = tmp_path / "r" / "latest" / "model"
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1="}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    assert model.generate(**ids, max_new_tokens=2, do_sample=False).shape[1] == ids["input_ids"].shape[1] + 2


def test_the_reward_rises(charter, grpo_recipe, tmp_path, left):
    done = charter(
        "train",
        grpo_recipe,
        "run.steps=40",
        "sampling.group_size=8",
        "optimizer.learning_rate=1e-2",
        "--run-dir",
        tmp_path / "r",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    curve = [r["reward"] for r in left.rows(tmp_path / "r") if "reward" in r]
    assert sum(curve[-5:]) / 5 > sum(curve[:5]) / 5 + 0.3


@pytest.mark.parametrize("method", ["grpo", "sft"])
def test_killed_and_resumed_equals_uninterrupted(kill_and_resume, grpo_recipe, sft_recipe, method):
    recipe, steps = (grpo_recipe, 6) if method == "grpo" else (sft_recipe, 8)
    kill_and_resume(recipe, steps, after=(3, 5), seed=method)


def test_ctrl_c_finishes_the_step_saves_and_says_how_to_go_on(charter_process, grpo_recipe, tmp_path, left):
    run = tmp_path / "r"
    process = charter_process("train", grpo_recipe, "run.steps=500", "--run-dir", run, cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len(list(run.glob("rollouts/*.parquet"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "finishing this step" in err
    assert "--resume" in out
    last = left.rows(run)[-1]["step"]
    assert last >= 2
    assert (run / "latest").resolve().name == f"step-{last:06d}"


def test_a_recipe_that_changed_in_a_way_that_matters_is_refused_with_the_keys(charter, grpo_recipe, tmp_path, left):
    run = tmp_path / "r"
    assert charter("train", grpo_recipe, "run.steps=2", "--run-dir", run, cwd=tmp_path).returncode == 0
    changed = charter(
        "train", grpo_recipe, "seed=4", "sampling.temperature=0.5", "--run-dir", run, "--resume", cwd=tmp_path
    )
    assert changed.returncode == 1
    assert "seed: 4, and the run began with 3" in changed.stderr
    assert "sampling.temperature: 0.5, and the run began with 1.0" in changed.stderr
    longer = charter("train", grpo_recipe, "run.steps=3", "--run-dir", run, "--resume", cwd=tmp_path)
    assert longer.returncode == 0, longer.stderr
    assert left.rows(run)[-1]["step"] == 3


def test_an_existing_run_is_not_overwritten(charter, grpo_recipe, tmp_path, left):
    run = tmp_path / "r"
    assert charter("train", grpo_recipe, "run.steps=1", "--run-dir", run, cwd=tmp_path).returncode == 0
    before = left.digests(run)
    refused = charter("train", grpo_recipe, "run.steps=1", "--run-dir", run, cwd=tmp_path)
    assert refused.returncode == 1
    assert "holds a run already" in refused.stderr
    moved = charter("train", grpo_recipe, "run.steps=1", "--run-dir", run, "--replace", cwd=tmp_path)
    assert moved.returncode == 0, moved.stderr
    assert left.digests(tmp_path / "r.old-1") == before


def test_eval_compares_before_and_after(charter, grpo_recipe, tmp_path):
    run = tmp_path / "r"
    charter("train", grpo_recipe, "--run-dir", run, cwd=tmp_path)
    done = charter(
        "eval",
        grpo_recipe,
        "--run-dir",
        run,
        "--json",
        "eval.samples=2",
        "eval.k=[1, 2]",
        "eval.threshold=0.1",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert {"accuracy", "interval", "pass_at_k", "n"} <= data.keys()
    assert [r["temperature"] for r in data["before"]] == [0.0, 1.0]
    assert set(data["after"][1]["pass_at_k"]) == {"1", "2"}
    assert data["difference"][0]["difference"] == pytest.approx(
        data["after"][0]["accuracy"] - data["before"][0]["accuracy"]
    )


def test_lora_with_kl_runs_and_resumes(charter, grpo_recipe, tmp_path, left):
    text = grpo_recipe.read_text() + "\n[lora]\nrank = 2\n"
    grpo_recipe.write_text(text)
    words = ["grpo.kl_coef=0.05", "grpo.updates_per_step=2", "run.steps=4"]
    for name in ("whole", "cut"):
        first = "4" if name == "whole" else "2"
        done = charter("train", grpo_recipe, *words, f"run.steps={first}", "--run-dir", tmp_path / name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    done = charter("train", grpo_recipe, *words, "--run-dir", tmp_path / "cut", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert left.digests(tmp_path / "cut") == left.digests(tmp_path / "whole")
    assert left.rows(tmp_path / "cut")[-1]["kl"] > 0


@pytest.mark.skipif("fbgemm" not in torch.backends.quantized.supported_engines, reason="torch has no FBGEMM here")
def test_decoding_in_8_bits_learns_with_importance_weights_and_resumes(charter, grpo_recipe, tmp_path, left):
    words = ["sampling.precision=int8", "grpo.mismatch=truncate", "run.save_every=20"]
    words += ["sampling.group_size=8", "optimizer.learning_rate=1e-2"]
    for name, first in (("whole", 40), ("cut", 20)):
        done = charter("train", grpo_recipe, *words, f"run.steps={first}", "--run-dir", tmp_path / name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "disagree" not in done.stderr + done.stdout
    go_on = (*words, "run.steps=40", "--run-dir", tmp_path / "cut", "--resume")
    done = charter("train", grpo_recipe, *go_on, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert left.digests(tmp_path / "cut") == left.digests(tmp_path / "whole")
    steps = [row for row in left.rows(tmp_path / "whole") if "reward" in row]
    apart = [row["sampling/logprob_diff_mean"] for row in steps if "loss" in row]
    assert min(apart) > 1e-6
    assert max(apart) < 0.5
    assert sum(row["reward"] for row in steps[-5:]) / 5 > sum(row["reward"] for row in steps[:5]) / 5 + 0.2


def test_bfloat16_arithmetic_over_float32_weights_trains(charter, grpo_recipe, tmp_path, left):
    """What `dtype = "auto"` does on CUDA, through the same autocast on this processor."""
    done = charter(
        "train",
        grpo_recipe,
        "learner.dtype=bfloat16",
        "grpo.mismatch=truncate",
        "--run-dir",
        tmp_path / "r",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    stored = [row for row in left.rows(tmp_path / "r") if row["step"]]
    assert all(row["sampling/logprob_diff_mean"] < 0.05 for row in stored if "loss" in row)
    assert stored[-1]["version"] == 6


def test_dry_run_checks_everything_and_trains_nothing(charter, grpo_recipe, tmp_path):
    done = charter("train", grpo_recipe, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "its packed forward agrees with its own" in done.stdout
    assert "nothing was trained" in done.stdout
    assert not (tmp_path / "runs").exists()
