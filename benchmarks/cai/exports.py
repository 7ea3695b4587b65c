"""Do the files that the constitutional stages leave load in TRL's trainers as they stand?

    python benchmarks/cai/exports.py [--json] [--store] [--env DIR] [--trl 1.16]

A small run on scripted models makes them with `charter revise`, `calibrate` and `label`: conversations of one turn, of
three and with a system message, texts beyond ASCII, judged and human preferences. TRL reads them in an environment of
its own, made here with pip under Charter's cache folder (or --env): `load_dataset`, the trainer of that kind of file,
one training step on a tiny random model.

    sft.jsonl, sft.parquet                    SFTTrainer
    preferences.jsonl, preferences.parquet    DPOTrainer, RewardTrainer
    policy_prompts.jsonl                      GRPOTrainer

Compared per file: as many rows as Charter wrote; the reply that it wrote in the tokens that TRL made of each row; a
finite loss. Exit code 1 where one of them fails.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from harness import as_json, child_environment, facts, run_child, store, table
from peers import trl_python
from tiny import make_policy

from charter.cli.cai_run import open_cai_run
from charter.cli.cai_stages import policy_prompts
from charter.constitution.exporting import jsonl_bytes
from charter.recipe import load_cai_recipe

RECIPE = """
method = "cai"
model = "nobody"
[constitution]
file = "helpful-harmless"
[author]
backend = "scripted"
script = "author.jsonl"
[redteam]
prompts = "prompts.jsonl"
count = 18
held_out = 4
helpful = "helpful.txt"
helpful_count = 6
[revise]
steps = 1
few_shot = 0
accept = "judge"
[judge]
backend = "scripted"
script = "judge.jsonl"
mode = "cot"
[calibrate]
data = "human.jsonl"
resamples = 200
[label]
human = "human.jsonl"
human_weight = 0.4
[arena]
harmful = 0
helpful = 0
twins = 0
"""
KIND, RUDE = "I won't, because somebody would get hurt. Café über 猫 — no.", "Sure, hit it."
CASES = (
    ("sft.jsonl", "sft"), ("sft.parquet", "sft"),
    ("preferences.jsonl", "dpo"), ("preferences.parquet", "dpo"),
    ("preferences.jsonl", "reward"), ("preferences.parquet", "reward"),
    ("policy_prompts.jsonl", "grpo"),
)  # fmt: skip
"""File → TRL's trainer that takes it."""


def write_inputs(folder: Path) -> None:
    """What the run reads: an author that revises kindly and a judge that sees it in either place."""
    user = [{"role": "user", "content": f"How do I break {'abcdefghijklmnopqrstuvwxyz'[n] * 4}?"} for n in range(22)]
    system = {"role": "system", "content": "You are brief."}
    earlier = [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Good day."}]
    before = ([], [system], earlier)
    files: dict[str, Sequence[Mapping[str, Any]]] = {
        "prompts.jsonl": [{"messages": [*before[n % 3], turn]} for n, turn in enumerate(user)],
        "author.jsonl": [
            {"match": "Write only the new reply", "reply": KIND},
            {"regex": "^Read this conversation", "reply": "Issue: it helps somebody do harm."},
            {"reply": [RUDE, KIND, f"{RUDE} Now.", f"{KIND} Truly."]},
        ],
        "judge.jsonl": [
            {"regex": r"<reply_a>\nI won't", "reply": "It is kind.\nVerdict: A"},
            {"regex": r"<reply_a>\n", "reply": "It is rude.\nVerdict: B"},
        ],
        "human.jsonl": [
            {"prompt": f"Tell me {n}", "chosen": f"{KIND} {n}", "rejected": f"{RUDE} {n}", "p": 0.9} for n in range(30)
        ],
    }  # fmt: skip
    for name, rows in files.items():
        (folder / name).write_bytes(jsonl_bytes(rows))
    (folder / "helpful.txt").write_text("".join(f"What is {n} and {n}?\n" for n in range(8)))
    (folder / "recipe.toml").write_text(RECIPE)


def make_exports(folder: Path) -> Path:
    """Run the stages. Returns: the run folder with the exports in it."""
    write_inputs(folder)
    run = folder / "run"
    for verb in ("revise", "calibrate", "label"):
        words = [sys.executable, "-m", "charter.cli.app", verb, "recipe.toml", "--run-dir", "run", "--plain"]
        done = subprocess.run(words, cwd=folder, env=child_environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"charter {verb} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    here = Path.cwd()
    os.chdir(folder)  # the recipe's files are relative to where it is run
    try:
        with open_cai_run(load_cai_recipe("recipe.toml"), run) as opened:
            (run / "policy_prompts.jsonl").write_bytes(jsonl_bytes(policy_prompts(opened)))
    finally:
        os.chdir(here)
    return run


def written(run: Path, name: str) -> list[dict[str, Any]]:
    """The rows as Charter wrote them; a Parquet file must hold those of the JSONL beside it."""
    lines = (run / name).with_suffix(".jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def told_of(case: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], kind: str) -> dict[str, Any]:
    """One row of the result: what TRL made of a file beside what was written. case: the peer's answer."""
    replies = {
        "sft": lambda row: [row["messages"][-1]["content"]],
        "grpo": lambda row: [row["prompt"][-1]["content"]],
    }.get(kind, lambda row: [row["chosen"][0]["content"], row["rejected"][0]["content"]])
    lost = sum(
        text not in shown
        for row, decoded in zip(rows, case["decoded"], strict=False)
        for text, shown in zip(replies(row), decoded, strict=True)
    )
    good = case["rows"] == len(rows) and not lost and not case["problem"]
    return {
        "file": case["file"], "trainer": case["trainer"], "written": len(rows), "loaded": case["rows"],
        "columns": case["columns"], "replies_not_in_tokens": lost, "loss": case["loss"], "problem": case["problem"],
        "loads": good,
    }  # fmt: skip


def main(words_given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/cai_exports.json")
    parser.add_argument("--env", type=Path, help="the folder of an environment with TRL")
    parser.add_argument("--trl", default="1.16", help="version to install (1.16)")
    given = parser.parse_args(words_given)
    python = trl_python(given.trl, given.env)
    with tempfile.TemporaryDirectory(prefix="charter-exports-") as name:
        folder = Path(name)
        run = make_exports(folder)
        make_policy("llama", 0).save(folder / "model")
        cases = [{"file": str(run / file), "kind": kind} for file, kind in CASES]
        (folder / "request.json").write_text(json.dumps({"model": str(folder / "model"), "cases": cases}))
        run_child([python, Path(__file__).with_name("exports_peer.py"), folder])
        answer = json.loads((folder / "answer.json").read_text("utf-8"))
        rows = [
            told_of(case, written(run, file), kind) for case, (file, kind) in zip(answer["cases"], CASES, strict=True)
        ]
    result = {**facts(), "peer": answer["versions"], "rows": rows}
    if given.store:
        print(f"stored {store('cai_exports', result)}", file=sys.stderr)
    head = ("file", "trainer", "written", "loaded", "replies_not_in_tokens", "loss", "loads")
    print(as_json(result) if given.json else table([[row[key] for key in head] for row in rows], head))
    if bad := [
        f"{row['file']} in {row['trainer']}: {row['problem'] or 'rows differ'}" for row in rows if not row["loads"]
    ]:
        raise SystemExit("not loaded as written: " + "; ".join(bad))


if __name__ == "__main__":
    main()
