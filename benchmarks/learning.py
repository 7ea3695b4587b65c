"""Does it learn? The quickstart recipe, whole, for several seeds.

    python benchmarks/learning.py [--json] [--seeds 0,1,2] [--recipe recipes/quickstart.toml] [--keep DIR] [KEY=VALUE …]

Each seed is one `charter train` in a process of its own. What is reported is what the run itself leaves: held-out
accuracy before and after with 95 % intervals (summary.json) and the reward of every step (metrics.jsonl). Results go to
benchmarks/results/quickstart.json with machine, versions and date; a recipe or keys of one's own are printed alone
unless --store names them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import ROOT, as_json, facts, median, run_child, sample_quiet, store, table, validity, watching

QUICKSTART = ROOT / "recipes" / "quickstart.toml"


def run_seed(recipe: Path, seed: int, overrides: Sequence[str], folder: Path) -> dict[str, Any]:
    """Train once; what the run folder says afterwards."""
    words = ["train", recipe, f"seed={seed}", *overrides, "--run-dir", folder, "--plain"]
    before = sample_quiet()
    began = time.perf_counter()
    with watching() as during:
        run_child([sys.executable, "-m", "charter.cli.app", *words])
    wall_s = time.perf_counter() - began
    summary = json.loads((folder / "summary.json").read_text("utf-8"))
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    rewards = [row["reward"] for row in metrics if row.get("reward") is not None]
    return {
        "seed": seed,
        **summary,
        "wall_seconds": round(wall_s, 1),
        "steps": len(rewards),
        "reward_by_step": [round(r, 4) for r in rewards],
        "mean_reward": sum(rewards) / len(rewards),
        "tokens_sampled": sum(row.get("tokens/sampled", 0.0) for row in metrics),
        **validity(before, during),
    }


def measure(recipe: Path, seeds: Sequence[int], overrides: Sequence[str], keep: Path | None) -> dict[str, Any]:
    """All seeds, one after the other."""
    with tempfile.TemporaryDirectory(prefix="charter-learning-") as name:
        parent = keep or Path(name)
        runs = []
        for seed in seeds:
            print(f"seed {seed} …", file=sys.stderr, flush=True)
            runs.append(run_seed(recipe, seed, overrides, parent / f"seed-{seed}"))
    return gathered(recipe, overrides, runs)


def gathered(recipe: Path, overrides: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is stored of several seeds."""
    return {
        **facts(),
        "recipe": recipe.name,
        "overrides": list(overrides),
        "runs": list(runs),
        "median": {key: median(run[key] for run in runs) for key in ("before", "after", "train_seconds")},
        "least_after": min(run["after"] for run in runs),
    }


def report(data: dict[str, Any]) -> str:
    """A row per seed and temperature."""
    rows: list[list[object]] = []
    for run in data["runs"]:
        for temperature, result in run["at_temperature"].items():
            rows.append(
                [
                    run["seed"],
                    temperature,
                    _with_interval(result["before"], result["before_interval"]),
                    _with_interval(result["after"], result["interval"]),
                    result["n"],
                    run["train_seconds"],
                    run["wall_seconds"],
                    "yes" if run["valid"] else "no",
                ]
            )
    head = ("seed", "T", "before", "after", "n", "train s", "wall s", "quiet machine")
    middle = data["median"]
    lines = [
        table(rows, head),
        f"median {middle['before']:.3f} → {middle['after']:.3f} in {middle['train_seconds']:.0f} s of training; "
        f"least after {data['least_after']:.3f}",
    ]
    for run in data["runs"]:
        if not run["valid"]:
            lines.append(f"seed {run['seed']} was disturbed: {'; '.join(run['disturbed_by'])}")
    return "\n".join(lines)


def _with_interval(value: float, interval: Sequence[float]) -> str:
    return f"{value:.3f} [{interval[0]:.3f}, {interval[1]:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="keys laid over the recipe")
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--seeds", default="0,1,2", help="comma-separated")
    parser.add_argument("--recipe", type=Path, default=QUICKSTART)
    parser.add_argument("--keep", type=Path, help="folder for the runs; thrown away when left out")
    parser.add_argument("--store", metavar="NAME", help="write benchmarks/results/NAME.json")
    asked = parser.parse_args()
    plain = asked.recipe.resolve() == QUICKSTART and not asked.overrides
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    data = measure(asked.recipe.resolve(), seeds, asked.overrides, asked.keep.resolve() if asked.keep else None)
    if name := asked.store or ("quickstart" if plain else None):
        print(f"stored {store(name, data)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
