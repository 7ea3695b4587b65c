"""Learning curves on one task: Charter, Charter decoding in 8 bits, and TRL, several seeds each.

    python benchmarks/curves.py [--json] [--store] [--seeds 0,1,2,3,4] [--sides fp32,int8,trl]
                                [--recipe recipes/quickstart.toml] [--folder DIR]

All sides start from the same model and see the same prompts in the same order, with the recipe's own reward, learning
rates, group size and limits; TRL's loss is its default, which has the same normaliser. A seed fixes the prompts, so the
sides are compared seed by seed. What is told of each curve is its area (mean reward over the steps) and the held-out
accuracy afterwards; differences are against fp32, with 95 % intervals over seeds (Student's t). What a finished run
told is kept in --folder, and the run not repeated. Results go to benchmarks/results/curves.json with --store, and the
fp32 runs of the quickstart recipe to quickstart.json too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from harness import ROOT, as_json, facts, read_child, revision, run_child, store, table
from learning import QUICKSTART, gathered, run_seed
from peers import trl_python

CHARTER: Mapping[str, Sequence[str]] = {
    "fp32": (),
    "int8": ("sampling.precision=int8", "grpo.mismatch=truncate"),
}
"""Side → keys laid over the recipe."""
SIDES = (*CHARTER, "trl")
FOLDER = ROOT / "runs" / "curves"
SCALES = {"center": "none", "standardize": "group"}
"""The recipe's advantage → TRL's scale_rewards."""


def run_side(side: str, recipe: Path, seed: int, folder: Path) -> dict[str, Any]:
    """One run: {"reward_by_step", "train_seconds", "after": {temperature: accuracy}}, and on Charter's sides "run", all
    that `learning.py` says of it; read where it is kept."""
    kept = folder / f"{side}-{seed}.json"
    text = recipe.read_text("utf-8")
    if kept.is_file():
        found = json.loads(kept.read_text("utf-8"))
        if found["recipe"] != text:
            raise SystemExit(f"{kept} was made by another recipe: move it aside, or choose --folder")
        return found
    print(f"{side}, seed {seed} …", file=sys.stderr, flush=True)
    place = folder / f"{side}-{seed}"
    if side == "trl":
        found = run_trl(recipe, seed, place)
    else:
        run = run_seed(recipe, seed, CHARTER[side], place)
        after = {t: one["after"] for t, one in run["at_temperature"].items()}
        found = {"after": after, "run": run, **{key: run[key] for key in ("reward_by_step", "train_seconds")}}
    kept.parent.mkdir(parents=True, exist_ok=True)
    found |= {"recipe": text, "revision": revision()}
    kept.write_text(json.dumps(found) + "\n", encoding="utf-8")
    shutil.rmtree(place)  # three gigabytes of checkpoints
    return found


def run_trl(recipe: Path, seed: int, place: Path) -> dict[str, Any]:
    """Train with TRL and judge its model as `charter eval` does."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "request.json").write_text(
        json.dumps(read_child([sys.executable, __file__, "request", recipe, str(seed)]))
    )
    run_child([trl_python("1.16"), Path(__file__).with_name("trl_curve_peer.py"), place])
    answer = json.loads((place / "answer.json").read_text("utf-8"))
    judged = read_child([sys.executable, __file__, "judge", recipe, str(seed), place / "model"])
    return {"after": judged, **{key: answer[key] for key in ("reward_by_step", "train_seconds", "versions")}}


def request_of(file: str, seed: str) -> dict[str, Any]:
    """What TRL's side is given; made in a process of its own, since it loads torch."""
    from charter.cli.compose import load_model, read_inputs
    from charter.learner.schedule import learning_rate
    from charter.recipe import load_recipe

    recipe = load_recipe(file, [f"seed={seed}"])
    inputs, table_ = read_inputs(recipe), recipe.optimizer
    assert inputs.prompts is not None
    if recipe.grpo.advantage not in SCALES or recipe.grpo.kl_coef or recipe.grpo.updates_per_step != 1:
        raise SystemExit(
            f"{file} has no counterpart in TRL here: expected advantage center or standardize, no KL, one update"
        )
    policy = load_model(recipe)
    steps = inputs.prompts.train.steps(recipe.prompts_per_step)
    drawn = [next(steps)[1] for _ in range(recipe.run.steps)]
    return {
        "model": policy.source,
        "prompts": [
            {"id": p.id, "messages": list(p.messages), "tokens": list(policy.chat.encode_prompt(p.messages))}
            for prompts in drawn
            for p in prompts
        ],
        "prompts_per_step": recipe.prompts_per_step,
        "per_device": recipe.sampling.group_size * (1 if recipe.prompts_per_step % 2 else 2),
        "group": recipe.sampling.group_size,
        "tokens": recipe.sampling.max_new_tokens,
        "temperature": recipe.sampling.temperature,
        "rates": [learning_rate(table_, step, recipe.run.steps) for step in range(1, recipe.run.steps + 1)],
        "scale_rewards": SCALES[recipe.grpo.advantage],
        "settings": {
            "adam_beta1": table_.betas[0], "adam_beta2": table_.betas[1], "adam_epsilon": table_.eps,
            "weight_decay": table_.weight_decay, "max_grad_norm": table_.max_grad_norm,
        },
        "scorer": [sys.executable, str(Path(__file__).with_name("curve_scorer.py")), file, f"seed={seed}"],
        "seed": int(seed),
    }  # fmt: skip


def judge(file: str, seed: str, model: str) -> dict[str, float]:
    """Held-out accuracy of a model folder at each temperature of the recipe."""
    import asyncio

    from charter.cli.compose import load_model, read_inputs
    from charter.cli.heldout import HeldOut
    from charter.recipe import load_recipe
    from charter.sampler.local import LocalSampler

    recipe = load_recipe(file, [f"seed={seed}", f"model={model}"])
    inputs = read_inputs(recipe)

    async def all_of() -> dict[str, float]:
        assert inputs.prompts is not None
        assert inputs.rubric is not None
        await inputs.rubric.ready()
        try:
            held_out = HeldOut(
                recipe=recipe, prompts=inputs.prompts.held_out, reward=inputs.rubric,
                sampler=LocalSampler(load_model(recipe), recipe.seed),
            )  # fmt: skip
            return {f"{t:g}": (await held_out.at(t))[0]["accuracy"] for t in recipe.eval.temperatures}
        finally:
            await inputs.rubric.close()

    return asyncio.run(all_of())


def summary(runs: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> dict[str, Any]:
    """Side → curve by step (mean, least, largest over seeds), area, accuracy afterwards, and how far from fp32."""
    sides: dict[str, Any] = {}
    for side, given in sorted(runs.items(), key=lambda item: item[0] != "fp32"):
        by_seed = dict(sorted(given.items()))
        curves = [run["reward_by_step"] for run in by_seed.values()]
        numbers = {"area": {seed: fmean(run["reward_by_step"]) for seed, run in by_seed.items()}}
        for temperature in next(iter(by_seed.values()))["after"]:
            numbers[f"accuracy at {temperature}"] = {s: run["after"][temperature] for s, run in by_seed.items()}
        sides[side] = {
            "seeds": sorted(by_seed),
            "curve": [[fmean(step), min(step), max(step)] for step in zip(*curves, strict=True)],
            "train_seconds": [run["train_seconds"] for run in by_seed.values()],
            "numbers": {
                name: {"mean": fmean(found.values()), "by_seed": list(found.values())}
                for name, found in numbers.items()
            },
            "versions": next(iter(by_seed.values())).get("versions"),
            "revisions": sorted({str(run.get("revision")) for run in by_seed.values()}),
        }
        if side != "fp32" and "fp32" in runs:
            for name, found in numbers.items():
                own = sides["fp32"]["numbers"][name]["by_seed"]
                pairs = [found[s] - own[sides["fp32"]["seeds"].index(s)] for s in found if s in runs["fp32"]]
                sides[side]["numbers"][name]["less_fp32"] = difference(pairs)
            sides[side]["steps_overlapping_fp32"] = sum(
                low <= theirs[2] and theirs[1] <= high
                for (_, low, high), theirs in zip(sides[side]["curve"], sides["fp32"]["curve"], strict=True)
            )
    return sides


def difference(pairs: Sequence[float]) -> dict[str, Any]:
    """Mean of paired differences, and its 95 % interval (None for fewer than two pairs)."""
    if len(pairs) < 2:
        return {"mean": fmean(pairs) if pairs else None, "interval": None, "pairs": len(pairs)}
    from scipy.stats import t

    half = float(t.ppf(0.975, len(pairs) - 1)) * stdev(pairs) / len(pairs) ** 0.5
    middle = fmean(pairs)
    return {"mean": middle, "interval": [middle - half, middle + half], "pairs": len(pairs)}


def report(data: Mapping[str, Any]) -> str:
    rows: list[list[object]] = []
    for side, found in data["sides"].items():
        for name, numbers in found["numbers"].items():
            less = numbers.get("less_fp32")
            told = "–"
            if less is not None and less["interval"] is not None:
                told = f"{less['mean']:+.3f} [{less['interval'][0]:+.3f}, {less['interval'][1]:+.3f}]"
            by_seed = ", ".join(f"{value:.2f}" for value in numbers["by_seed"])
            rows.append([side, name, f"{numbers['mean']:.3f}", by_seed, told])
    lines = [table(rows, ("side", "what", "mean", "by seed", "less fp32, 95 % over seeds"))]
    for side, found in data["sides"].items():
        if "steps_overlapping_fp32" in found:
            lines.append(f"{side}: its range over seeds meets fp32's in {found['steps_overlapping_fp32']} of "
                         f"{len(found['curve'])} steps")  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    if len(sys.argv) > 1 and sys.argv[1] in ("request", "judge"):
        work = request_of if sys.argv[1] == "request" else judge
        Path(sys.argv[-1]).write_text(json.dumps(work(*sys.argv[2:-1])))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--store", action="store_true", help="write benchmarks/results/curves.json")
    parser.add_argument("--seeds", default="0,1,2,3,4", help="comma-separated")
    parser.add_argument("--sides", default=",".join(SIDES), help="comma-separated")
    parser.add_argument("--recipe", type=Path, default=QUICKSTART)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where finished runs are kept")
    asked = parser.parse_args()
    sides, seeds = asked.sides.split(","), [int(seed) for seed in asked.seeds.split(",")]
    if unknown := set(sides) - set(SIDES):
        raise SystemExit(f"--sides knows {', '.join(SIDES)}, not {', '.join(sorted(unknown))}")
    recipe, folder = asked.recipe.resolve(), asked.folder.resolve()
    runs = {side: {seed: run_side(side, recipe, seed, folder) for seed in seeds} for side in sides}
    data = {**facts(), "recipe": recipe.name, "sides": summary(runs)}
    if asked.store:
        print(f"stored {store('curves', data)}", file=sys.stderr)
        if recipe == QUICKSTART and "fp32" in sides:
            own = gathered(recipe, (), [run["run"] for run in runs["fp32"].values()])
            print(f"stored {store('quickstart', own)}", file=sys.stderr)
    print(as_json(data) if asked.json else report(data))


if __name__ == "__main__":
    main()
