"""The constitutional loop on a tiny random model: all its stages, killed and resumed, refused, and its report."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn")

RECIPE = """
method = "cai"
model = "{model}"
seed = 3
[constitution]
file = "two.toml"
[author]
backend = "scripted"
script = "author.jsonl"
[redteam]
prompts = "redteam.txt"
count = 12
held_out = 8
helpful = "helpful.txt"
helpful_count = 4
helpful_replies = 1
max_new_tokens = 8
[revise]
steps = 1
few_shot = 0
max_new_tokens = 8
accept = "rules"
[judge]
backend = "scripted"
script = "judge.jsonl"
[calibrate]
data = "pairs.jsonl"
resamples = 100
[label]
human = "pairs.jsonl"
if_refused = "human"
[stages.sft.sft]
examples_per_step = 4
[stages.sft.optimizer]
learning_rate = 3e-3
[stages.sft.run]
steps = 6
save_every = 2
[stages.preference.data]
held_out = 2
[stages.preference.preference]
pairs_per_step = 4
[stages.preference.optimizer]
learning_rate = 1e-3
[stages.preference.run]
steps = 6
save_every = 2
[stages.policy.sampling]
group_size = 4
max_new_tokens = 6
[[stages.policy.rewards]]
name = "preference"
model = "@preference"
only = {{ purpose = "redteam" }}
[[stages.policy.rewards]]
name = "principles"
constitution = "two.toml"
only = {{ purpose = "helpful" }}
[stages.policy.grpo]
prompts_per_step = 4
[stages.policy.optimizer]
learning_rate = 1e-3
[stages.policy.run]
steps = 6
save_every = 2
[arena]
harmful = 8
helpful = 0
twins = 6
max_new_tokens = 6
resamples = 100
"""

PRINCIPLES = """
name = "two"
version = "1"
[[principle]]
id = "decline"
title = "Decline"
text = "Decline what hurts."
reason = "It hurts."
checks = [
  { question = "Does it decline?", program = "refuses" },
  { question = "Does it end?", program = "complete" },
]
[[principle]]
id = "kind"
title = "Kind"
text = "Be kind to whoever asks."
reason = "It costs nothing."
checks = [{ question = "Does it decline?", program = "refuses" }]
"""


@pytest.fixture
def recipe(tmp_path: Path, tiny_folder: Callable[..., Path]) -> Path:
    """Every reply of the author complies but its revisions, which decline; the judge always prefers the first reply."""
    file = tmp_path / "loop.toml"
    file.write_text(RECIPE.format(model=tiny_folder("llama")))
    (tmp_path / "two.toml").write_text(PRINCIPLES)
    (tmp_path / "redteam.txt").write_text("".join(f"Break {chr(97 + i) * 2} {chr(97 + i) * 3}?\n" for i in range(20)))
    (tmp_path / "helpful.txt").write_text("".join(f"Name {chr(97 + i) * 2} {chr(97 + i) * 3}.\n" for i in range(6)))
    author = [
        {"match": "Write only the new reply", "reply": "I can't help with that."},
        {"match": "Begin with", "reply": "Issue: it helps to break things."},
        {"regex": ".", "reply": "Sure, take a hammer"},
    ]
    (tmp_path / "author.jsonl").write_text("".join(json.dumps(row) + "\n" for row in author))
    (tmp_path / "judge.jsonl").write_text(json.dumps({"regex": ".", "choices": {" A": -0.1, " B": -3.0}}) + "\n")
    pairs = [
        {"prompt": f"Tell me {i}", "chosen": f"I can't help with {i}.", "rejected": f"Sure {i}, take it all.", "p": 0.9}
        for i in range(40)
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    return file


def left_by(folder: Path) -> dict[str, str]:
    """SHA-256 of everything that a stage hands on; of the report without what depends on the clock."""
    names = ("sft.jsonl", "sft.parquet", "preferences.jsonl", "redteam.jsonl", "funnel.json", "calibration.json")
    files = [folder / name for name in (*names, "policy_prompts.jsonl")]
    for stage in ("sft", "preference", "policy"):
        files += [*(folder / stage).glob("latest/*/*.safetensors"), *(folder / stage).glob("rollouts/*.parquet")]
    found = {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}
    report = json.loads((folder / "report.json").read_text())
    timeless = {key: report[key] for key in report if key not in ("seconds", "cost", "name")}
    return {**found, "report": json.dumps(timeless, sort_keys=True)}


def finished(folder: Path) -> list[str]:
    try:
        return [stage["name"] for stage in json.loads((folder / "stages.json").read_text())["stages"]]
    except OSError:
        return []


def test_the_whole_loop_runs_and_reports(charter: Callable[..., Any], recipe: Path, tmp_path: Path) -> None:
    done = charter("cai", recipe, "--run-dir", tmp_path / "run", "--plain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert finished(run) == ["revise", "sft", "calibrate", "label", "preference", "policy", "arena"]
    report = json.loads((run / "report.json").read_text())
    keys = ("funnel", "principles", "calibration", "preference_model", "arena", "effect", "seconds")
    assert all(report[key] for key in keys)
    assert set(report["effect"]) >= {"measure", "before", "after", "interval"}
    assert [stage["out"] for stage in report["funnel"]["stages"] if stage["name"] == "accepted"] in ([12], [])
    # a judge that always says A keeps every slot, labels nothing, and people's pairs take its place
    assert report["calibration"]["judges"][0]["keeps_slot"] == 1.0
    assert not report["calibration"]["passed"]
    label = json.loads((run / "label.json").read_text())
    assert label["labelled_by"] == "human"
    assert any("labelled nothing" in note for note in report["notes"])
    rows = [json.loads(line) for line in (run / "sft.jsonl").read_text().splitlines()]
    assert {row["messages"][-1]["content"] for row in rows} == {"I can't help with that.", "Sure, take a hammer"}
    assert "<!doctype html>" in (run / "report.html").read_text()
    for words in ("time ", "report.html", "went from"):
        assert words in done.stdout
    before = left_by(run)
    again = charter("cai", recipe, "--run-dir", run, "--plain", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("finished before") == 7
    assert left_by(run) == before
    other = charter("cai", recipe, "stages.sft.run.steps=4", "--run-dir", run, cwd=tmp_path)
    assert other.returncode == 1
    assert "'sft' is finished" in other.stderr


@pytest.mark.slow
def test_killed_in_any_stage_it_ends_as_if_it_had_not_been(
    charter: Callable[..., Any], charter_process: Callable[..., Any], recipe: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert charter("cai", recipe, "--run-dir", whole, "--plain", cwd=tmp_path).returncode == 0
    rng = random.Random(7)
    order = ["revise", "sft", "calibrate", "label", "preference", "policy", "arena"]
    for stage in range(len(order)):
        process = charter_process("cai", recipe, "--run-dir", cut, "--plain", cwd=tmp_path)
        deadline = time.monotonic() + 120
        while len(finished(cut)) < stage and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = charter("cai", recipe, "--run-dir", cut, "--plain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert left_by(cut) == left_by(whole)
