"""Whole runs of DPO, from pairs of a file and from pairs that are sampled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

OFFLINE = """
method = "dpo"
model = "{model}"
seed = 3
[data]
pairs = "pairs.jsonl"
[dpo]
pairs_per_step = 4
[optimizer]
learning_rate = 3e-3
[run]
steps = 8
save_every = 3
"""

ONLINE = """
[dpo]
online = true
pairs_per_step = 4
beta = 0.2
"""


@pytest.fixture
def dpo_recipe(tmp_path, tiny_folder) -> Path:
    """Twelve pairs in which the answer in capitals is the better one."""
    rows = [
        {"prompt": [{"role": "user", "content": f"{i}"}], "chosen": chr(65 + i) * 3, "rejected": chr(97 + i) * 2}
        for i in range(11)
    ]
    rows.append({"prompt": "plain ", "chosen": "no", "rejected": "YES", "p": 0.1})
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = tmp_path / "dpo.toml"
    file.write_text(OFFLINE.format(model=tiny_folder("llama")))
    return file


def online(grpo_recipe: Path) -> Path:
    text = grpo_recipe.read_text().replace('method = "grpo"', 'method = "dpo"')
    text = text.replace("[grpo]\nprompts_per_step = 4\n", ONLINE)
    grpo_recipe.write_text(text)
    return grpo_recipe


def test_pairs_of_a_file_are_learnt(charter, dpo_recipe, tmp_path, left):
    done = charter("train", dpo_recipe, "run.steps=30", "--run-dir", tmp_path / "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = left.timeless(tmp_path / "r")
    assert found[0]["rewards/margins"] == pytest.approx(0, abs=1e-4)  # the policy is its own reference
    assert found[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert found[-1]["rewards/margins"] > 0.5
    assert found[-1]["rewards/accuracies"] == 1.0
    assert found[-1]["loss"] < 0.6
    from charter.run.metrics import unknown_metrics

    assert unknown_metrics({key for row in found for key in row}) == []
    shown = charter("show", tmp_path / "r", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "dpo, 30 steps" in shown.stdout


def test_sampled_pairs_raise_the_reward(charter, grpo_recipe, tmp_path, left):
    recipe = online(grpo_recipe)
    done = charter(
        "train", recipe, "run.steps=30", "optimizer.learning_rate=1e-2", "sampling.group_size=8",
        "--run-dir", tmp_path / "r", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = [row for row in left.timeless(tmp_path / "r") if row["step"] > 0]
    curve = [row["reward"] for row in found]
    assert sum(curve[-5:]) / 5 > sum(curve[:5]) / 5 + 0.2
    assert all(row["pairs"] <= 4 for row in found)
    assert len(list((tmp_path / "r").glob("rollouts/*.parquet"))) == 30
    from charter.run.metrics import unknown_metrics

    assert unknown_metrics({key for row in found for key in row}) == []


@pytest.mark.parametrize("kind", ["offline", pytest.param("online", marks=pytest.mark.slow)])
def test_killed_and_resumed_equals_uninterrupted(kill_and_resume, dpo_recipe, grpo_recipe, kind):
    recipe, steps = (dpo_recipe, 8) if kind == "offline" else (online(grpo_recipe), 6)
    kill_and_resume(recipe, steps, after=(4,), seed=kind)  # once: every start loads torch anew


@pytest.mark.parametrize("lora", [False, True])
def test_a_longer_run_asks_the_starting_model_again_and_equals_one_that_was_long_from_the_start(
    charter, dpo_recipe, tmp_path, lora, monkeypatch, left
):
    if lora:
        dpo_recipe.write_text(dpo_recipe.read_text() + "\n[lora]\nrank = 2\n")
    loaded: list[object] = []
    from charter.cli import references

    load = references.load_model
    monkeypatch.setattr(references, "load_model", lambda recipe: loaded.append(recipe) or load(recipe))
    assert charter("train", dpo_recipe, "run.steps=4", "--run-dir", tmp_path / "whole", cwd=tmp_path).returncode == 0
    assert charter("train", dpo_recipe, "run.steps=2", "--run-dir", tmp_path / "cut", cwd=tmp_path).returncode == 0
    assert loaded == []  # a run that begins is its own reference
    done = charter("train", dpo_recipe, "run.steps=4", "--run-dir", tmp_path / "cut", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(loaded) == (0 if lora else 1)
    assert left.digests(tmp_path / "cut") == left.digests(tmp_path / "whole")
    parts = [sorted((tmp_path / name / "reference").glob("*.parquet")) for name in ("whole", "cut")]
    assert [len(p) for p in parts] == [1, 2]


def test_the_cache_is_what_a_fresh_reference_says(charter, dpo_recipe, tmp_path):
    from charter.cli.compose import load_model, make_learner, read_inputs
    from charter.recipe import load_recipe
    from charter.run.reference import ReferenceLogprobs
    from charter.train.preference import pair_tree

    assert charter("train", dpo_recipe, "--run-dir", tmp_path / "r", cwd=tmp_path).returncode == 0
    recipe = load_recipe(dpo_recipe)
    inputs, policy = read_inputs(recipe), load_model(recipe)
    learner = make_learner(recipe, policy)
    learner.use_reference(policy)
    assert inputs.pairs is not None
    _, chosen = next(iter(inputs.pairs.steps(4)))
    trees = [pair_tree(pair, policy.chat.encode_example, 256) for pair in chosen]
    assert ReferenceLogprobs(tmp_path / "r")(trees) == [
        [tuple(row) for row in rows] for rows in learner.reference_logprobs(trees, 1.0)
    ]


def test_other_pairs_cannot_go_on_with_a_run(charter, dpo_recipe, tmp_path):
    assert charter("train", dpo_recipe, "run.steps=2", "--run-dir", tmp_path / "r", cwd=tmp_path).returncode == 0
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(pairs.read_text().replace("AAA", "AAB"))
    done = charter("train", dpo_recipe, "run.steps=3", "--run-dir", tmp_path / "r", "--resume", cwd=tmp_path)
    assert done.returncode == 1
    assert "are not those the run began with" in done.stderr


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "a", "chosen": "b"}, "no column 'rejected'"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "the same answer"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "p": 1.2}, "p is 1.2, expected a probability"),
        ({"prompt": "a", "chosen": "b", "rejected": "c" * 400}, r"more than dpo.max_tokens = 256"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_before_anything_starts(charter, dpo_recipe, tmp_path, row, said):
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    done = charter("train", dpo_recipe, "dpo.pairs_per_step=1", "--run-dir", tmp_path / "r", cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "r" / "recipe.toml").exists()
