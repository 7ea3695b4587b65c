"""The R1 pipeline on a tiny random model: cold start, GRPO, rejection sampling, imitation, GRPO again."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RECIPE = """
method = "pipeline"
model = "{model}"
seed = 3
[data]
prompts = "arithmetic:addition"
template = "{{question}}="
held_out = 8
size = 40
options = {{digits = 1}}
[sampling]
group_size = 4
max_new_tokens = 6
[eval]
prompts = 4
[[rewards]]
name = "rewards.py:early"

[[stages]]
name = "cold-start"
kind = "sft"
data.examples = "examples.jsonl"
[stages.sft]
examples_per_step = 4
[stages.optimizer]
learning_rate = 3e-3
[stages.run]
steps = 6
save_every = 2

[[stages]]
name = "rules"
kind = "grpo"
[stages.grpo]
prompts_per_step = 2
[stages.optimizer]
learning_rate = 1e-3
[stages.run]
steps = 6
save_every = 2

[[stages]]
name = "sample"
kind = "rejection"
sampling.group_size = 6
[stages.rejection]
prompts = 32
threshold = 0.1
keep = 2
mix = "helpful.jsonl"
mix_rows = 2

[[stages]]
name = "imitate"
kind = "sft"
sft.examples_per_step = 4
optimizer.learning_rate = 3e-3
[stages.run]
steps = 6
save_every = 2

[[stages]]
name = "rules-again"
kind = "grpo"
grpo.prompts_per_step = 2
[stages.run]
steps = 6
save_every = 2
"""
STAGES = ("cold-start", "rules", "sample", "imitate", "rules-again")


@pytest.fixture
def r1(tmp_path: Path, tiny_folder: Callable[..., Path]) -> Path:
    (tmp_path / "rewards.py").write_text(
        "def early(completions, **columns):\n"
        "    return [sum(c.isdigit() for c in text[0]['content']) / 6 for text in completions]\n"
    )

    def rows(name: str, pairs: list[tuple[str, str]]) -> None:
        lines = [
            json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]})
            for q, a in pairs
        ]
        (tmp_path / name).write_text("\n".join(lines) + "\n")

    rows("examples.jsonl", [(f"{i}+{i}=", str(2 * i)) for i in range(8)])
    rows("helpful.jsonl", [(f"name {i}", f"n{i}") for i in range(5)])
    file = tmp_path / "r1.toml"
    file.write_text(RECIPE.format(model=tiny_folder("llama")))
    return file


def record(run: Path) -> list[dict[str, Any]]:
    try:
        return json.loads((run / "stages.json").read_text())["stages"]
    except FileNotFoundError:
        return []


def progress(run: Path, stage: str) -> int:
    """Steps, or sampled prompts, of a stage so far; -1 before the first."""
    name = "records.jsonl" if stage == "sample" else "metrics.jsonl"
    try:
        return (run / stage / name).read_bytes().count(b"\n") - 1
    except OSError:
        return -1


def final_files(run: Path, left: Any) -> dict[str, Any]:
    """What must be equal after any interruption."""
    found: dict[str, Any] = {}
    for stage in STAGES:
        if stage == "sample":
            found[stage] = (run / stage / "examples.jsonl").read_text()
            continue
        found[stage] = (left.digests(run / stage), left.timeless(run / stage))
    return found


def untimed(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    timed = ("train_seconds", "model")
    return [
        {"name": s["name"], "inputs": s["inputs"], "result": {k: v for k, v in s["result"].items() if k not in timed}}
        for s in stages
    ]


@pytest.mark.parametrize("killed", [("sample",), pytest.param(STAGES, marks=pytest.mark.slow)], ids=["one", "all"])
def test_killed_in_a_stage_equals_uninterrupted(charter, charter_process, r1, tmp_path, left, killed):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = charter("train", r1, "--run-dir", whole, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [stage["name"] for stage in record(whole)] == list(STAGES)
    rng = random.Random(7)
    landed: list[str] = []
    for stage in killed:
        process = charter_process("train", r1, "--run-dir", cut, "--resume", cwd=tmp_path)
        deadline = time.monotonic() + 120
        while progress(cut, stage) < 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        _, err = process.communicate()
        assert process.returncode == -signal.SIGKILL, err
        if len(record(cut)) == STAGES.index(stage):
            landed.append(stage)
    if len(killed) > 1:
        assert len(landed) >= 3, landed  # a stage of milliseconds may end before the signal lands
    done = charter("train", r1, "--run-dir", cut, "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert final_files(cut, left) == final_files(whole, left)
    assert untimed(record(cut)) == untimed(record(whole))


def test_each_stage_begins_from_what_the_one_before_it_made(charter, r1, tmp_path, left):
    run = tmp_path / "run"
    done = charter("train", r1, "--run-dir", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr

    def model(stage: str) -> str:
        import tomllib

        return tomllib.loads((run / stage / "recipe.toml").read_text())["model"]

    assert model("rules") == "run/cold-start/latest/model"
    assert model("imitate") == "run/rules/latest/model"  # a stage of data makes no model
    assert model("rules-again") == "run/imitate/latest/model"
    # the accuracy after a stage is the accuracy before the next: the same weights on the same prompts
    result = {stage["name"]: stage["result"] for stage in record(run)}
    assert result["cold-start"]["after"] == result["rules"]["before"]
    assert result["imitate"]["after"] == result["rules-again"]["before"]
    for line in ("cold-start", "rules-again", "examples of", "held-out accuracy"):
        assert line in done.stdout

    sampled = result["sample"]
    rows = [json.loads(line) for line in (run / "sample" / "examples.jsonl").read_text().splitlines()]
    assert len(rows) == sampled["examples"] == sampled["kept"] - sampled["duplicates"] + sampled["mixed"]
    assert sampled["prompts"] == 32
    assert sampled["completions"] == 32 * 6
    assert sampled["mixed"] == 2
    own = rows[:-2]
    for row in own:  # what is imitated was paid: at least one digit
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"]
        assert sum(c.isdigit() for c in row["messages"][1]["content"]) >= 1
    assert [row["messages"][1]["content"][0] for row in rows[-2:]] == ["n", "n"]
    assert max(sum(row["messages"][0] == other["messages"][0] for other in own) for row in own) <= 2

    before = final_files(run, left)
    again = charter("train", r1, "--run-dir", run, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("finished before") == 5
    assert final_files(run, left) == before


def test_a_finished_stage_must_stay_what_it_was(charter, r1, tmp_path):
    run = tmp_path / "run"
    short = ["stages.rules.run.steps=1", "stages.rules-again.run.steps=1", "stages.imitate.run.steps=1"]
    done = charter("train", r1, *short, "--run-dir", run, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    taken = charter("train", r1, *short, "--run-dir", run, cwd=tmp_path)
    assert taken.returncode == 1
    assert "holds a run already" in taken.stderr
    refused = charter(
        "train", r1, *short, "stages.cold-start.optimizer.learning_rate=1e-2", "sampling.temperature=0.9",
        "--run-dir", run, "--resume", cwd=tmp_path,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "stages.cold-start.optimizer.learning_rate: 0.01, and the stage finished with 0.003" in refused.stderr
    assert "stages.sample.sampling.temperature: 0.9, and the stage finished with 1.0" in refused.stderr
    with (tmp_path / "examples.jsonl").open("a") as file:
        file.write('{"messages": [{"role": "user", "content": "9"}, {"role": "assistant", "content": "9"}]}\n')
    refused = charter("train", r1, *short, "--run-dir", run, "--resume", cwd=tmp_path)
    assert refused.returncode == 1
    assert "the stage 'cold-start' is finished, and its data.examples changed since" in refused.stderr


def test_a_folder_of_another_run_or_in_use_is_left_alone(charter, r1, tmp_path):
    import os

    from charter.run.lock import take_lock

    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.toml").write_text('method = "sft"\nmodel = "m"\n')
    refused = charter("train", r1, "--run-dir", run, "--resume", cwd=tmp_path)
    assert refused.returncode == 1
    assert "holds a run of another kind (method = 'sft')" in refused.stderr
    assert (run / "recipe.toml").read_text() == 'method = "sft"\nmodel = "m"\n'
    (tmp_path / "taken").mkdir()
    lock = take_lock(tmp_path / "taken")
    refused = charter("train", r1, "--run-dir", tmp_path / "taken", cwd=tmp_path)
    os.close(lock)
    assert refused.returncode == 1
    assert "is being written by another process" in refused.stderr
    assert not (tmp_path / "taken" / "recipe.toml").exists()


def test_too_few_examples_end_the_pipeline_with_the_count(charter, r1, tmp_path):
    words = ["stages.cold-start.run.steps=1", "stages.rules.run.steps=1", "stages.sample.rejection.threshold=1.5"]
    done = charter("train", r1, *words, "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert done.returncode == 1
    assert "sample: of 192 completions only 0 became examples, and rejection.at_least is 1" in done.stderr
    assert [stage["name"] for stage in record(tmp_path / "run")] == ["cold-start", "rules"]
    # a lower threshold is another choice, so the records of the first one are refused by name, and nothing is mixed
    lower = [*words[:2], "stages.sample.rejection.threshold=0.1"]
    refused = charter("train", r1, *lower, "--run-dir", tmp_path / "run", "--resume", cwd=tmp_path)
    assert refused.returncode == 1
    assert "records made under another rejection" in refused.stderr


@pytest.mark.slow
def test_ctrl_c_stops_after_the_step_and_says_how_to_go_on(charter_process, charter, r1, tmp_path):
    run = tmp_path / "run"
    many = "stages.rules.run.steps=400"
    process = charter_process("train", r1, many, "--run-dir", run, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while progress(run, "rules") < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, err
    assert "rules stopped after step" in out
    assert f"charter train {r1} {many} --run-dir {run} --resume" in out
    assert [stage["name"] for stage in record(run)] == ["cold-start"]
    assert (run / "rules" / "latest" / "model").is_dir()


def test_dry_run_reads_every_stage_and_trains_nothing(charter, r1, tmp_path):
    done = charter("train", r1, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "8 examples" in done.stdout
    assert "imitate              sft: data.examples will be made by a stage before it" in done.stdout
    assert not (tmp_path / "runs").exists()
