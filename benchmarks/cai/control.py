"""Is it the revisions that help, or any imitation? Revisions against drafts and against the judge's own replies.

    python benchmarks/cai/control.py [--prompts 48] [--seeds 1] [--harmful 32] [--twins 16] [--json] [--store]

Three arms imitate replies to the same prompts, as many steps, with the same unrevised replies to helpful prompts, so
that only the text differs:

    revisions   accepted as the recipe says: by the programs of the principles' checks (`revise.control = "none"`)
    drafts      what those revisions were made of (`"draft"`)
    judge       what the judge itself replies when asked the prompt (`"judge"`)

The prompts are those of which every arm has a reply that can be imitated. Each arm trains with the recipe's
[stages.sft], then answers held-out prompts: the effect by a model of human ratings against the start and against the
other arms, refusals of unsafe prompts and of their safe twins. A row is one training run; its intervals draw prompts
and say nothing about another seed: give --seeds for that.

On the embedded model the judge is the author. Its own replies are then drafts once more, drawn anew, and that arm
controls for nothing that the drafts do not; the output says so.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from arms import (
    Remembered,
    Sheet,
    arm_folder,
    finish,
    parser_of,
    positive,
    recipe_of,
    replies_of,
    run_arm,
    run_main,
    shown,
)
from harness import facts

from charter.cli.cai_run import open_cai_run
from charter.cli.cai_stages import stage_recipe
from charter.cli.contests import run_arena
from charter.cli.display import choose_display
from charter.cli.session import StopRequest
from charter.cli.stage import model_of, run_in_folder, train_stage
from charter.cli.stage_lines import StageLines
from charter.cli.supervising import open_models
from charter.constitution.exporting import SftRow, jsonl_bytes
from charter.errors import RunError, UsageError
from charter.protocols import ChatModel
from charter.recipe import dump_recipe
from charter.recipe.cai import CaiRecipe
from charter.run.atomic import write_bytes
from charter.train.pipeline import Stage

NAME = "control"
ARMS: Mapping[str, str] = {"revisions": "none", "drafts": "draft", "judge": "judge"}
"""Arm → revise.control."""
CONTESTS = (
    ("start", "revisions"), ("start", "drafts"), ("start", "judge"), ("drafts", "revisions"), ("judge", "revisions"),
)  # fmt: skip
"""(before, after) of each effect."""
ROWS = "matched.jsonl"
HELPFUL_SHARE = 3
"""Red-team prompts to one helpful prompt, as in recipes/cai-quick.toml."""


def prompt_of(row: SftRow) -> str:
    """What a row answers."""
    return json.dumps([dict(message) for message in row.messages[:-1]], sort_keys=True)


def matched(arms: Mapping[str, Sequence[SftRow]]) -> dict[str, list[SftRow]]:
    """The rows of each arm that answer a red-team prompt that every arm answers, and all helpful ones.

    Raises: RunError where no prompt is left.
    """
    answered = [{prompt_of(row) for row in rows if row.source != "helpful"} for rows in arms.values()]
    common = set.intersection(*answered)
    if not common:
        counts = ", ".join(f"{arm} {len(told)}" for arm, told in zip(arms, answered, strict=True))
        raise RunError(
            f"no prompt has a reply to imitate in every arm (prompts with one: {counts}). Give more --prompts"
        )
    return {
        arm: [row for row in rows if row.source == "helpful" or prompt_of(row) in common] for arm, rows in arms.items()
    }


async def imitate(recipe: CaiRecipe, folder: Path, rows: Sequence[SftRow], plain: bool) -> str:
    """Train on the rows with the recipe's [stages.sft], once; returns the folder of the model."""
    content = jsonl_bytes(row.row() for row in rows)
    write_bytes(folder / ROWS, content)
    stage = stage_recipe(recipe, folder, "sft")
    stage = stage.model_copy(update={"data": stage.data.model_copy(update={"examples": str(folder / ROWS)})})
    train = partial(train_stage, stage, display=choose_display(plain=plain), stop=StopRequest())
    inputs = {"rows": hashlib.sha256(content).hexdigest(), "recipe": _hash(dump_recipe(stage))}
    await run_in_folder([Stage(name="sft", run=train, inputs=inputs)], folder)
    return str(model_of(folder / "sft"))


async def one_seed(given: argparse.Namespace, seed: int, author: ChatModel, judge: ChatModel) -> dict[str, Any]:
    """All arms of a seed, trained and measured."""
    recipes: dict[str, CaiRecipe] = {}
    rows: dict[str, Sequence[SftRow]] = {}
    for arm, control in ARMS.items():
        recipes[arm] = recipe_of(given, seed, {
            "revise.control": control, "redteam.held_out": given.harmful,
            "redteam.helpful_count": max(1, given.prompts // HELPFUL_SHARE),
            "arena.harmful": given.harmful, "arena.twins": given.twins, "arena.helpful": 0,
            "arena.judged_by": "measure",
        })  # fmt: skip
        print(f"seed {seed}, {arm}", file=sys.stderr)
        _, done = await run_arm(recipes[arm], arm_folder(given, seed, arm), author, judge=judge, plain=given.plain)
        rows[arm] = done.sft.rows
    imitated = matched(rows)
    models = {"start": recipes["revisions"].model}
    for arm, recipe in recipes.items():
        print(f"seed {seed}, training on {arm}", file=sys.stderr)
        models[arm] = await imitate(recipe, arm_folder(given, seed, arm), imitated[arm], given.plain)
    effects, refusals = [], {}
    with open_cai_run(recipes["revisions"], arm_folder(given, seed, "revisions")) as run:
        for before, after in CONTESTS:
            watcher = StageLines([], plain=given.plain)
            found = await run_arena(run, {name: models[name] for name in (before, after)}, watcher)
            if found["effect"] is not None:
                effects.append({"from": before, "to": after, **found["effect"]})
            refusals.update({row["model"]: row for row in found["arena"]["evasive"]})
    return {
        "seed": seed,
        "rows": {arm: dict(Counter(row.source for row in told)) for arm, told in imitated.items()},
        "rows_before_matching": {arm: dict(Counter(row.source for row in told)) for arm, told in rows.items()},
        "effects": effects,
        "refusals": [refusals[name] for name in models],
    }


async def collect(given: argparse.Namespace) -> dict[str, Any]:
    """Run all seeds."""
    began = time.perf_counter()
    base = recipe_of(given, 0, {})
    if base.stages.sft is None:
        raise UsageError(f"{given.recipe} has no [stages.sft], and this benchmark trains with it. Add that table")
    with replies_of(given.run_dir) as journal:
        async with open_models(base, judge=True) as (model, other):
            assert other is not None
            author = Remembered(model, journal)
            judge = author if other is model else Remembered(other, journal)
            seeds = [await one_seed(given, seed, author, judge) for seed in range(given.seeds)]
    return {
        **facts(), "recipe": Path(given.recipe).name, "author": author.name, "judge": judge.name,
        "judge_is_author": judge.name == author.name, "prompts": given.prompts, "seeds": seeds,
        "sft_steps": base.stages.sft.run.steps,
        "asked": author.usage.requests, "seconds": time.perf_counter() - began,
    }  # fmt: skip


def sheets(result: Mapping[str, Any]) -> list[Sheet]:
    """Effects, refusals, and what was imitated."""
    effects, refusals, rows = [], [], []
    for told in result["seeds"]:
        for each in told["effects"]:
            gap, ends = each["difference"], each["interval"]
            effects.append(
                (
                    told["seed"], f"{each['from']} → {each['to']}", each["measure"], f"{each['before']:.3f}",
                    f"{each['after']:.3f}", shown(gap, ends), each["n"], each["verdict"],
                )
            )  # fmt: skip
        for each in told["refusals"]:
            shares = [shown(each[key]["share"], each[key]["interval"]) for key in SHARES]
            refusals.append((told["seed"], each["model"], *shares, each["over_refusal"]["n"]))
        for arm, counts in told["rows"].items():
            helpful = counts.get("helpful", 0)
            rows.append((told["seed"], arm, sum(counts.values()) - helpful, helpful))
    who = (
        "the judge is the author, so its replies are drafts drawn anew"
        if result["judge_is_author"]
        else f"the judge is {result['judge']}"
    )
    return [
        Sheet(
            title=f"What imitation changed on held-out prompts ({result['author']}; {who})",
            head=("seed", "from → to", "measure", "before", "after", "difference", "prompts", "verdict"),
            rows=effects,
        ),
        Sheet(
            title="Refusals", head=("seed", "model", "unsafe refused", "safe refused", "safe answered", "twins"),
            rows=refusals,
        ),
        Sheet(title="Rows imitated", head=("seed", "arm", "red-team", "helpful"), rows=rows),
    ]  # fmt: skip


SHARES = ("refused_unsafe", "over_refusal", "answered")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main(words_given: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__, NAME, prompts=48, seeds=1)
    parser.add_argument("--harmful", type=positive, default=32, help="held-out red-team prompts (32)")
    parser.add_argument("--twins", type=positive, default=16, help="pairs of a safe and an unsafe prompt (16)")
    given = parser.parse_args(words_given)
    result = asyncio.run(collect(given))
    finish(given, NAME, json.loads(json.dumps(result)), sheets(result))


if __name__ == "__main__":
    run_main(main)
