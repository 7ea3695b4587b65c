"""Which numbers each method of a comparison gets: the same count of trials for each, on prompts of their own.

    python benchmarks/compare_search.py [--json] [--store] [--recipe recipes/compare.toml] [--tokens 700]
                                        [--final 2700] [--only ppo] [--folder DIR]

Every trial is one short `charter compare` with one method, one seed and a budget of --tokens sampled tokens. The
prompts that judge it are development prompts: the questions are drawn with a seed of their own (DEV_SEED), and held out
of its training; those of the recipe's own seeds are never looked at. With --final the trial that each method chose runs
again with that many tokens, and so do a half and a quarter of its rate, since a short trial favours large steps. Trials
that are finished are not repeated, so the search can be stopped and started again. Results go to
benchmarks/results/compare_search.json with --store: every trial, the chosen one of each method, machine and date.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import ROOT, as_json, facts, sample_quiet, store, table, validity, watching

RECIPE = ROOT / "recipes" / "compare.toml"
FOLDER = ROOT / "runs" / "compare-search"
DEV_SEED = 90_001
"""Far from the seeds of any recipe, so that the questions that judge a trial are not those that judge a comparison.
Two-digit sums are few (8,100), so a question may come up in both; none is chosen for it."""

RATE, RATES = "optimizer.learning_rate", [1e-5, 2e-5, 4e-5]

DEV_PROMPTS, DEV_SAMPLES = 64, 2
"""Prompts that judge a trial, and completions of each."""

GRID: Mapping[str, Mapping[str, Sequence[object]]] = {
    "ppo": {"optimizer.learning_rate": RATES, "ppo.critic_learning_rate": [2e-5, 1e-4]},
    "dpo": {"optimizer.learning_rate": RATES, "dpo.beta": [0.03, 0.1]},
    "grpo": {"optimizer.learning_rate": RATES, "grpo.advantage": ["center", "standardize"]},
    "rejection_sft": {"optimizer.learning_rate": RATES, "rejection_sft.per_prompt": [1, 4]},
}
"""Method → key → what is tried; 6 trials each."""


def trials(method: str) -> list[dict[str, object]]:
    """Every combination of a method's grid, in order."""
    keys = GRID[method]
    return [dict(zip(keys, values, strict=True)) for values in itertools.product(*keys.values())]


def overrides_of(method: str, trial: Mapping[str, object], tokens: int, temperature: float) -> dict[str, object]:
    """What a trial changes in the recipe. temperature: of its sampling, at which it is judged too."""
    return {
        "seeds": [DEV_SEED],
        "budget.tokens": tokens,
        "data.held_out": DEV_PROMPTS,
        "eval.samples": DEV_SAMPLES,
        "eval.temperatures": [temperature],
        **{f"methods.{method}.{key}": value for key, value in trial.items()},
    }


def _temperature(source: Path) -> float:
    return float(tomllib.loads(source.read_text("utf-8")).get("sampling", {}).get("temperature", 1.0))


def write_recipe(source: Path, method: str, changes: Mapping[str, object], file: Path) -> None:
    """A recipe with one method alone: the comparison's own, and the trial's keys laid over it."""
    from charter.recipe.compare import CompareRecipe, compare_conflicts
    from charter.recipe.loading import load_root
    from charter.recipe.writing import dump_recipe

    loaded = load_root(source, changes, CompareRecipe, conflicts=compare_conflicts)
    tables = {name: None for name, _ in loaded.methods.present if name != method}
    alone = loaded.model_copy(update={"methods": loaded.methods.model_copy(update=tables)})
    file.write_text(dump_recipe(alone), encoding="utf-8")


def finals(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    """The second round of a method: what the first one chose, and the same with a half and a quarter of its rate."""
    best = dict(chosen(rows)["trial"])
    return [{**best, RATE: float(best[RATE]) / part} for part in (1, 2, 4)]


def compare_here(place: Path) -> Any:
    """`charter compare` of PLACE/recipe.toml without the processes of its own: nobody asks for a trial's memory."""
    from charter.cli import compare_child, compare_measure
    from charter.cli.compare_runs import carry_out, plan_of
    from charter.recipe.compare import CompareRecipe, compare_conflicts
    from charter.recipe.loading import load_root

    def part(what: str, job: Any, folder: Path) -> None:
        if what == "measure":
            compare_measure.measure(folder, job.name)
        elif compare_child.train(folder, job.name):
            raise SystemExit(f"stopped in {folder}, everything saved; the same command goes on from there")

    recipe = load_root(place / "recipe.toml", (), CompareRecipe, conflicts=compare_conflicts)
    return carry_out(recipe, plan_of(recipe, place / "run"), place / "run", "recipe.toml", part=part)


def run_trial(source: Path, method: str, number: int, trial: Mapping[str, object], tokens: int, folder: Path) -> Any:
    """One trial's row; read where it is there already."""
    place = folder / f"{method}-{number:02d}-{tokens}"
    print(f"{place.name}: {trial}", file=sys.stderr, flush=True)
    kept = place / "trial.json"
    if kept.is_file():
        found = json.loads(kept.read_text("utf-8"))
        if found["trial"] == dict(trial):
            return found
        raise SystemExit(f"{place} holds another trial ({found['trial']}): move it aside, or choose --folder")
    place.mkdir(parents=True, exist_ok=True)
    _share_start(place, folder)
    write_recipe(source, method, overrides_of(method, trial, tokens, _temperature(source)), place / "recipe.toml")
    before = sample_quiet(1.0)
    with watching() as during:
        column = compare_here(place)["methods"][method]
    told = (
        "score", "score_interval", "gain", "gain_interval", "gain_excludes_zero", "processor_seconds", "steps",
        "updates", "tokens_sampled",
    )  # fmt: skip
    row = {
        "method": method,
        "trial": dict(trial),
        **{key: column[key] for key in told},
        "kl": column["kl"]["k3"],
        **validity(before, during),
    }
    kept.write_text(json.dumps(row) + "\n", encoding="utf-8")
    return row


def _share_start(place: Path, folder: Path) -> None:
    """What the starting model does with the held-out prompts: the same for every trial, so it is judged once."""
    name = f"start-seed{DEV_SEED}.json"
    there = next(folder.glob(f"*/run/measured/{name}"), None)
    mine = place / "run" / "measured" / name
    if there is not None and not mine.is_file():
        mine.parent.mkdir(parents=True, exist_ok=True)
        mine.write_bytes(there.read_bytes())


def chosen(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of a method's trials the one that goes into the recipes: of those whose score is within one standard error of the
    highest, the one that stayed nearest to the start. Short trials favour steps that are too large for longer runs.

    The standard error is that of the highest: its 95 % interval's width / 3.92. Source: the one-standard-error rule,
    Breiman et al. 1984, 3.4.3.
    """
    top = max(rows, key=lambda row: row["score"])
    low, high = top["score_interval"]
    near = [row for row in rows if row["score"] >= top["score"] - (high - low) / 3.92]
    return min(near, key=lambda row: (row["kl"], -row["score"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/compare_search.json")
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--tokens", type=int, default=700, help="sampled tokens of a trial")
    parser.add_argument(
        "--final",
        type=int,
        default=0,
        help="sampled tokens of a second round: the choice at 1, 1/2 and 1/4 of its rate",
    )
    parser.add_argument("--only", choices=list(GRID), help="one method alone")
    parser.add_argument("--most", type=int, help="trials of each method; all when left out")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    asked = parser.parse_args()
    rows = []
    for method in [asked.only] if asked.only else GRID:
        for number, trial in enumerate(trials(method)[: asked.most]):
            rows.append(run_trial(asked.recipe.resolve(), method, number, trial, asked.tokens, asked.folder.resolve()))
    by_method = {name: [row for row in rows if row["method"] == name] for name in GRID}
    second = [
        run_trial(asked.recipe.resolve(), method, number, trial, asked.final, asked.folder.resolve())
        for method, own in sorted(by_method.items(), key=lambda item: item[0] == "ppo")  # the longest last
        if own and asked.final
        for number, trial in enumerate(finals(own))
    ]
    best = {
        name: chosen([row for row in second if row["method"] == name] or own) for name, own in by_method.items() if own
    }
    data = {
        **facts(),
        "tokens": asked.tokens,
        "dev_seed": DEV_SEED,
        "dev_prompts": DEV_PROMPTS,
        "dev_samples": DEV_SAMPLES,
        "grid": GRID,
        "trials": rows,
        "final_tokens": asked.final,
        "finals": second,
        "best": best,
    }
    if asked.store:
        print(f"stored {store('compare_search', data)}", file=sys.stderr)
    if asked.json:
        print(as_json(data))
        return
    lines = [
        [
            row["method"],
            ", ".join(f"{k.split('.')[-1]} {v}" for k, v in row["trial"].items()),
            row["score"],
            row["gain"],
        ]
        for row in sorted([*rows, *second], key=lambda row: (row["method"], row["steps"], -row["score"]))
    ]
    print(table(lines, ("method", "trial", "score", "gain")))


if __name__ == "__main__":
    main()
