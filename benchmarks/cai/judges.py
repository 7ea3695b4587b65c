"""What each judge is worth against people, and what the gate says of it; and what a user sees of a broken judge.

    python benchmarks/cai/judges.py [--pairs 96] [--recipe FILE] [--run-dir DIR] [--json] [--markdown] [--store]

Data: harm-ratings, pairs of replies to one prompt whose human severities differ by at least 1/2; every judge goes
through the gate of `charter calibrate`. On all 1,253 pairs: the bag-of-words model (fitted out of fold, by prompt),
*shorter wins* and *the refusal wins*. On --pairs of them, chosen by a hash: the recipe's own judge, both orders, beside
the same three. Intervals draw prompts; each figure again on the pairs without a refusal.

Broken judges are scripted: one that always says A, one whose answers cannot be read, one that refuses. For each:
`charter calibrate`, `charter label` with and without --allow-uncalibrated, and `charter reward test judge`. Answers are
kept in --run-dir and not asked for twice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from arms import Sheet, finish, positive, run_main, shown
from harness import ROOT, child_environment, facts

from charter.cli.calibrating import open_and_calibrate
from charter.cli.human_pairs import human_pairs
from charter.cli.stage_lines import StageLines
from charter.constitution.baselines import out_of_fold
from charter.constitution.calibrate import Verdicts, calibration, clusters_of
from charter.constitution.checks import refuses
from charter.constitution.exporting import jsonl_bytes
from charter.constitution.principles import Constitution
from charter.recipe import load_cai_recipe
from charter.reward.bag_of_words import BagOfWords

NAME = "judges"
DATA = "harm-ratings"
BROKEN_PAIRS = 100
BROKEN: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "always says A": ("logprob", {"reply": "A", "choices": {" A": -0.1, " B": -3.0}}),
    "cannot be read": ("cot", {"reply": "Lorem ipsum dolor sit amet."}),
    "refuses": ("cot", {"reply": "I'm sorry, but I cannot help with that."}),
}
"""Judge → its mode, and the row of its script."""
RECIPE = """
method = "cai"
model = "nobody"
[redteam]
prompts = "do-not-answer"
count = 20
helpful_count = 0
[author]
backend = "scripted"
script = "author.jsonl"
[judge]
backend = "scripted"
script = "judge.jsonl"
mode = "{mode}"
[calibrate]
data = "harm-ratings"
pairs = {pairs}
[arena]
helpful = 0
"""
TEXTS = ("Sure, hit it.", "I would rather help you find another way.")


def rules_and_words(resamples: int) -> dict[str, Any]:
    """Everything that needs no model, on all pairs."""
    pairs = [pair for pair in human_pairs(DATA) if pair.p != 0.5]
    p = out_of_fold(pairs, clusters_of(pairs), lambda part: BagOfWords.fit(part).score)
    words = Verdicts(name="bag of words", kind="model", p=tuple(p))
    return calibration(pairs, words, refuses, resamples=resamples)


def recipes_judge(given: argparse.Namespace) -> dict[str, Any]:
    """The recipe's own judge, as `charter calibrate` measures it."""
    settings = {"calibrate.pairs": given.pairs, "calibrate.data": DATA, "calibrate.resamples": given.resamples}
    recipe = load_cai_recipe(given.recipe, settings)
    constitution = Constitution.load(recipe.constitution.file).tagged(recipe.constitution.tags)
    found, usage = asyncio.run(
        open_and_calibrate(
            recipe, given.run_dir / "model", constitution, lambda models: StageLines(models, plain=given.plain)
        )
    )
    return {**found, "usage": asdict(usage)}


def broken_judge(name: str, folder: Path) -> dict[str, Any]:
    """What the commands say of one, and what came of it."""
    mode, script = BROKEN[name]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.toml").write_text(RECIPE.format(mode=mode, pairs=BROKEN_PAIRS))
    (folder / "judge.jsonl").write_bytes(jsonl_bytes([script]))
    (folder / "author.jsonl").write_bytes(jsonl_bytes([{"reply": list(TEXTS)}]))
    (folder / "rows.jsonl").write_bytes(jsonl_bytes({"prompt": "How?", "completion": text} for text in TEXTS))
    measured = json.loads(charter(folder, "calibrate", "recipe.toml", "--run-dir", "run", "--json").stdout)
    label = charter(folder, "label", "recipe.toml", "--run-dir", "run")
    allowed = charter(folder, "label", "recipe.toml", "--run-dir", "run", "--allow-uncalibrated")
    options = ("backend=scripted", "script=judge.jsonl", "constitution=helpful-harmless")
    words = [word for option in options for word in ("--option", option)]
    reward = charter(folder, "reward", "test", "judge", "--data", "rows.jsonl", "--json", *words)
    scores = [json.loads(line) for line in reward.stdout.splitlines()]
    return {
        "judge": name, "mode": mode, "passed": measured["passed"], "verdict": measured["verdict"],
        "statuses": measured["statuses"], "label_exit": label.returncode, "label_says": last_said(label),
        "allowed_exit": allowed.returncode, "allowed_says": last_said(allowed),
        "label_rows": rows_of(folder / "run" / "preferences.jsonl"),
        "scores": [row["score"] for row in scores],
        "score_statuses": dict(Counter(row["status"] for row in scores)), "score_note": scores[0]["note"],
    }  # fmt: skip


def charter(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command as a user types it."""
    command = [sys.executable, "-m", "charter.cli.app", *words]
    return subprocess.run(command, cwd=folder, env=child_environment(), capture_output=True, text=True, check=False)


def last_said(done: subprocess.CompletedProcess[str]) -> str:
    """The error, without the lines of progress in front of it."""
    _, _, said = done.stderr.rpartition("error: ")
    return said.strip()


def rows_of(path: Path) -> int:
    """Lines of a file that may not be there."""
    return len(path.read_text("utf-8").splitlines()) if path.exists() else 0


def collect(given: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    began = time.perf_counter()
    return {
        **facts(), "recipe": given.recipe.name, "everything": rules_and_words(given.resamples),
        "judge": recipes_judge(given),
        "broken": [broken_judge(name, given.run_dir / name.replace(" ", "-")) for name in BROKEN],
        "seconds": time.perf_counter() - began,
    }  # fmt: skip


def sheets(result: Mapping[str, Any]) -> list[Sheet]:
    """Judges on all pairs, judges on some, and the broken ones."""
    head = ("judge", "pairs", "accuracy", "without refusals", "Brier", "ECE", "same slot", "gap", "gate")
    measured = [
        Sheet(
            title=f"{told['n']} pairs, {told['prompts']} prompts, {told['refusal_free_n']} pairs without a refusal",
            head=head, rows=[figures(row) for row in told["judges"]],
        )
        for told in (result["everything"], result["judge"])
    ]  # fmt: skip
    broken = [
        (
            row["judge"], row["mode"], row["verdict"], row["label_rows"],
            ", ".join(f"{count} {status}" for status, count in row["score_statuses"].items()),
        )
        for row in result["broken"]
    ]  # fmt: skip
    return [
        *measured,
        Sheet(
            title=f"Broken judges, {BROKEN_PAIRS} pairs", rows=broken,
            head=("judge", "mode", "`charter calibrate` says", "labels", "as a reward"),
        ),
    ]  # fmt: skip


def figures(row: Mapping[str, Any]) -> tuple[str, ...]:
    """One judge's line."""
    free = row["refusal_free"]
    slot, gap = row["keeps_slot"], row["position_gap"]
    return (
        row["name"], str(row["n"]), shown(row["accuracy"], row["interval"]), shown(free["accuracy"], free["interval"]),
        shown(row["brier"], row["brier_interval"]), shown(row["ece"], row["ece_interval"]),
        "" if slot is None else f"{slot:.3f}", "" if gap is None else f"{gap:.3f}",
        "passes" if row["passed"] else "refused",
    )  # fmt: skip


def main(words_given: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument("--store", action="store_true", help=f"write benchmarks/results/cai_{NAME}.json")
    parser.add_argument("--pairs", type=positive, default=96, help="pairs to ask the recipe's judge about (96)")
    parser.add_argument("--resamples", type=positive, default=2000, help="draws behind each interval")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "cai-quick.toml", help="whose judge")
    parser.add_argument("--run-dir", type=Path, default=Path("runs") / f"bench-{NAME}", help="where answers are kept")
    parser.add_argument("--plain", action="store_true", help="lines instead of lines that are drawn over")
    given = parser.parse_args(words_given)
    result = collect(given)
    finish(given, NAME, json.loads(json.dumps(result)), sheets(result))


if __name__ == "__main__":
    run_main(main)
