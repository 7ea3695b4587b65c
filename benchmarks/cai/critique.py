"""Critique, then revise, against revising directly: the same drafts, the same principles, twice the replies.

    python benchmarks/cai/critique.py [--prompts 72] [--seeds 1] [--json] [--markdown] [--store]

Every critique begins with a fault (`assume_issue = true`), so that both arms revise every draft. Both draw the same
principle for a prompt and show the same worked examples. Measured per draft, and paired by draft:

    usable      share with a revision that has no fault (meta-text, empty, unchanged, torn)
    accepted    share that the programs of the principles' checks prefer to the draft
    rise        score of the usable revision less that of its draft, by a model of human ratings, in logits
    edit        share of the words changed by a usable revision, 1 − difflib's ratio
    tokens      read and written for the critique and the revision of a draft

The differences of rise and edit are over drafts of which both revisions are usable. Intervals draw prompts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from arms import (
    Remembered,
    Sheet,
    arm_folder,
    counted,
    finish,
    parser_of,
    recipe_of,
    replies_of,
    run_arm,
    run_main,
    shown,
    verdict_of,
)
from harness import facts

from charter.cli.cai_measures import MEASURE, held_out_measure
from charter.cli.cai_run import CaiRun, worked_examples
from charter.cli.supervising import open_models
from charter.constitution.asking import chat_request
from charter.constitution.prompts import ISSUE, choose_shots, critique_messages, direct_messages, revision_messages
from charter.constitution.resampling import Clusters
from charter.constitution.similarity import edit_size
from charter.constitution.supervised import Supervised
from charter.constitution.trajectories import Trajectory
from charter.errors import RunError
from charter.reward.bag_of_words import BagOfWords

NAME = "critique"
ARMS: Mapping[str, bool] = {"critique": True, "direct": False}
MEASURES = ("usable", "accepted", "rise", "edit", "tokens")
Figures = dict[str, dict[str, float | None]]
"""Prompt's id → measure → figure of its draft; None where there is no usable revision to measure."""


def spent(run: CaiRun, one: Trajectory, author: str) -> int:
    """Tokens read and written for the one step of a trajectory, as the run's journal has them.

    Raises: RunError where the journal lacks a request, so that nothing is left out unseen.
    """
    recipe = run.recipe
    (step,) = one.steps
    principle = run.constitution.principle(step.principle)
    shots = [shot for shot in worked_examples(recipe) if shot.verdict == "issue"]
    shots = choose_shots(shots, principle.tags, recipe.revise.few_shot)
    conversation, draft = one.prompt.messages, one.draft.text
    if step.critique is None:
        asked = [(direct_messages(conversation, draft, principle, shots), "revise", "")]
    else:
        asked = [(critique_messages(conversation, draft, principle, shots), "critique", ISSUE)]
        if step.revision is not None:
            messages = revision_messages(conversation, draft, principle, step.critique.text, shots)
            asked.append((messages, "revise", ""))
    total = 0
    for messages, what, begin in asked:
        request = chat_request(
            author, messages, max_new_tokens=recipe.revise.max_new_tokens, temperature=recipe.revise.temperature,
            salt=f"{recipe.seed}/{what}/1", begin=begin,
        )  # fmt: skip
        row = run.journal.get("reply", request.id)
        if row is None:
            raise RunError(
                f"{run.journal.path} has no reply to the {what} of draft {one.draft.id}: it was asked otherwise"
            )
        total += row["prompt_tokens"] + row["completion_tokens"]
    return total


def figures(run: CaiRun, done: Supervised, author: str, measure: BagOfWords) -> Figures:
    """What each draft of an arm came to."""
    found: Figures = {}
    for one in done.revised.trajectories:
        row: dict[str, float | None] = {"usable": float(bool(one.usable)), "rise": None, "edit": None}
        row["accepted"] = float(any(done.acceptances[made.id].accepted for made in one.usable))
        row["tokens"] = float(spent(run, one, author))
        if one.usable:
            text = one.usable[-1].text
            after, before = (measure.score(one.prompt.messages, told) for told in (text, one.draft.text))
            row["rise"] = after - before
            row["edit"] = edit_size(one.draft.text, text)
        found[one.prompt.id] = row
    return found


def compare(arms: Mapping[str, Sequence[Figures]], resamples: int) -> dict[str, Any]:
    """Both arms alone and their paired difference, critique less direct.

    arms: arm → per seed, its figures; both of the same drafts. Returns: {"arms": {arm: {measure: …}}, "difference":
    {measure: {"value", "interval", "drafts", "prompts", "verdict"}}}.
    """
    keys = [(seed, id) for seed, told in enumerate(arms["direct"]) for id in told]
    if keys != [(seed, id) for seed, told in enumerate(arms["critique"]) for id in told]:
        raise RunError("the two arms did not revise the same drafts")
    clusters = Clusters([id for _, id in keys], resamples)
    values = {(arm, name): [arms[arm][seed][id][name] for seed, id in keys] for arm in arms for name in MEASURES}
    alone: dict[str, Any] = {}
    for arm in arms:
        alone[arm] = {}
        for name in MEASURES:
            value, interval = clusters.mean(values[arm, name])
            count = sum(told is not None for told in values[arm, name])
            alone[arm][name] = {"value": value, "interval": interval, "drafts": count}
    difference: dict[str, Any] = {}
    for name in MEASURES:
        pairs = zip(values["critique", name], values["direct", name], strict=True)
        gaps = [None if one is None or other is None else one - other for one, other in pairs]
        value, interval = clusters.mean(gaps)
        prompts = len({id for (_, id), gap in zip(keys, gaps, strict=True) if gap is not None})
        difference[name] = {
            "value": value, "interval": interval, "drafts": sum(gap is not None for gap in gaps), "prompts": prompts,
            "verdict": verdict_of(interval, prompts),
        }  # fmt: skip
    return {"arms": alone, "difference": difference}


async def collect(given: argparse.Namespace) -> dict[str, Any]:
    """Run both arms and measure."""
    began = time.perf_counter()
    base = recipe_of(given, 0, {})
    measure = held_out_measure(base)
    arms: dict[str, list[Figures]] = {arm: [] for arm in ARMS}
    faults: dict[str, dict[str, int]] = {arm: {} for arm in ARMS}
    with replies_of(given.run_dir) as journal:
        async with open_models(base, judge=False) as (model, _):
            author = Remembered(model, journal)
            for seed in range(given.seeds):
                for arm, critique in ARMS.items():
                    recipe = recipe_of(given, seed, {
                        "redteam.helpful_count": 0, "revise.critique": critique, "revise.assume_issue": True,
                        "revise.steps": 1, "revise.accept": "rules", "revise.control": "none",
                    })  # fmt: skip
                    print(f"seed {seed}, {arm}", file=sys.stderr)
                    run, done = await run_arm(recipe, arm_folder(given, seed, arm), author, plain=given.plain)
                    arms[arm].append(figures(run, done, author.name, measure))
                    for of_principle in done.revised.faults.values():
                        for fault, count in of_principle.items():
                            faults[arm][fault] = faults[arm].get(fault, 0) + count
    return {
        **facts(), "recipe": Path(given.recipe).name, "author": author.name, "prompts": given.prompts,
        "seeds": given.seeds, "few_shot": base.revise.few_shot, "measure": MEASURE, "measure_pairs": measure.pairs,
        **compare(arms, given.resamples), "faults": faults, "asked": author.usage.requests,
        "seconds": time.perf_counter() - began,
    }  # fmt: skip


def sheets(result: Mapping[str, Any]) -> list[Sheet]:
    """One row per measure, and why revisions could not be used."""
    rows = []
    for name in MEASURES:
        digits = 0 if name == "tokens" else 3
        gap = result["difference"][name]
        alone = [result["arms"][arm][name] for arm in ARMS]
        cells = [shown(each["value"], each["interval"], digits) for each in (*alone, gap)]
        rows.append((name, *cells, gap["drafts"], gap["verdict"]))
    size = f"{result['prompts']} prompts, {counted(result['seeds'], 'seed')}, {result['author']}"
    size += f"; rise by {result['measure']}"
    faults = [
        (fault, *(result["faults"][arm].get(fault, 0) for arm in ARMS))
        for fault in sorted({fault for told in result["faults"].values() for fault in told})
    ]
    found = [
        Sheet(
            title=f"Critique, then revise, against revising directly ({size})",
            head=("measure", "critique", "direct", "critique less direct", "drafts of both", "verdict"),
            rows=rows,
        )
    ]
    if faults:
        found.append(Sheet(title="Revisions that cannot be used", head=("fault", *ARMS), rows=faults))
    return found


def main(words_given: Sequence[str] | None = None) -> None:
    given = parser_of(__doc__, NAME, prompts=72, seeds=1).parse_args(words_given)
    result = asyncio.run(collect(given))
    finish(given, NAME, json.loads(json.dumps(result)), sheets(result))


if __name__ == "__main__":
    run_main(main)
