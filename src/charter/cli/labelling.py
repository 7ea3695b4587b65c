"""The feedback stage in a run folder: the policy's replies compared by the judge, and written as preferences.

preferences.jsonl    rows to train on: {"id", "prompt", "chosen", "rejected", "p", "margin"}
preferences.parquet  the same
label.json           where every prompt and pair went
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from charter.cli.cai_run import CaiRun
    from charter.constitution.watching import Watcher
    from charter.protocols import ChatModel
    from charter.recipe.cai import CaiRecipe
    from charter.types import Pair, Prompt, Usage


async def run_label(run: CaiRun, policy: ChatModel | None, judge: ChatModel, watcher: Watcher) -> dict[str, Any]:
    """Label in the run's folder; running it again asks only what failed or was not asked yet.

    policy: whose replies are compared; None where the judge may not label and people's pairs are taken alone
        (`label_with`). Writes the three files above, each whole or not at all.

    Returns: what label.json says: {"labelled_by": "judge" | "human", "verdict", "prompts", "replies", "failed",
        "identical", "pairs", "judged", "left_out", "human", "human_share", "rows", "position_gap"}.
    Raises: RunError where the judge may not label, or nothing came of it; BudgetError as `ask`.
    """
    from charter.constitution import feedback
    from charter.constitution.labels import (
        complete,
        human_rows,
        judged_rows,
        mixed,
        preference_jsonl,
        preference_parquet,
    )
    from charter.errors import RunError
    from charter.run.atomic import write_bytes, write_text

    recipe, table = run.recipe, run.recipe.label
    by, verdict = label_with(run, judge)
    people = human_rows(human(recipe), table.labels)
    counts: dict[str, Any] = {"labelled_by": by, "verdict": verdict}
    rows: list[dict[str, Any]] = []
    if by == "judge":
        assert policy is not None, "a judge that labels needs a policy to label"
        prompts = label_prompts(run)
        watcher.begin("replies", table.completions * len(prompts))
        matched = await complete(prompts, policy, table, run.journal, recipe.seed, watcher.answered)
        watcher.end({name: count for name, count in matched.counts.items() if name in ("failed", "identical")})
        watcher.begin("judge", len(matched.matches))
        judged = await feedback.judge(
            matched.matches, judge, run.constitution, recipe.judge, run.journal, recipe.seed,
            strategy=recipe.constitution.draw, progress=watcher.answered,
        )  # fmt: skip
        rows, left_out = judged_rows(matched.matches, judged, table.labels, recipe.judge.clamp)
        watcher.end({"labelled": len(rows), **left_out})
        gaps = [one.preference.position_gap for one in judged if one.preference.position_gap is not None]
        counts |= {
            **matched.counts, "pairs": len(judged), "judged": len(rows), "left_out": left_out,
            "position_gap": sum(gaps) / len(gaps) if gaps else None,
        }  # fmt: skip
    every = mixed(rows, people, table.human_weight if by == "judge" else 1.0)
    from_people = len(every) - sum(row["id"] in {one["id"] for one in rows} for row in every)
    counts |= {"human": from_people, "human_share": from_people / len(every) if every else 0.0, "rows": len(every)}
    write_text(run.folder / "label.json", json.dumps(counts, indent=2, ensure_ascii=False) + "\n")
    files = {"preferences.jsonl": preference_jsonl, "preferences.parquet": preference_parquet}
    for name, content in files.items():
        if every:
            write_bytes(run.folder / name, content(every))
        else:
            (run.folder / name).unlink(missing_ok=True)
    if not every:
        raise RunError(
            f"no label came of {counts.get('pairs', 0)} pairs ({_told(counts.get('left_out', {}))}), so there is no "
            "preferences.jsonl. Look at the judge's answers with `charter trace`, or set label.human"
        )
    return counts


async def open_and_label(
    run: CaiRun, watch: Callable[[Sequence[ChatModel]], Watcher], given: str | None = None
) -> tuple[dict[str, Any], Usage]:
    """`run_label` with the recipe's judge and a policy, which is only loaded where the judge may label.

    watch: makes who is told, of the models. given: the policy's folder or asset; the run's own model after imitation
    where left out, else the recipe's author. Returns: as `run_label`, and what the models were asked.
    """
    from charter.cli.chat import open_chat
    from charter.cli.stage_lines import total_usage
    from charter.recipe.cai import ChatTable

    recipe = run.recipe
    models: list[ChatModel] = []

    def opened(table: ChatTable) -> ChatModel:
        models.append(open_chat(table, model=recipe.model, learner=recipe.learner, seed=recipe.seed))
        return models[-1]

    try:
        judge, policy = opened(recipe.judge), None
        if label_with(run, judge)[0] == "judge":
            place = policy_model(run.folder, given, "")
            policy = opened(ChatTable(backend="local", model=place) if place else recipe.author)
        return await run_label(run, policy, judge, watch(models)), total_usage(models)
    finally:
        for model in models:
            await model.close()


def label_with(run: CaiRun, judge: ChatModel) -> tuple[str, str]:
    """("judge" or "human", why): who labels, as the judge's calibration and the recipe say.

    Raises: RunError where the judge may not label and the recipe says to stop there; nothing was asked then.
    """
    from charter.cli.calibrating import may_label, read_calibration
    from charter.errors import RunError, UsageError

    table = run.recipe.label
    passed, verdict = may_label(read_calibration(run.folder), judge, run.recipe, run.constitution)
    if passed:
        return "judge", verdict
    if table.allow_uncalibrated:
        return "judge", f"{verdict} It labels all the same (label.allow_uncalibrated)."
    if table.if_refused == "human":
        if not table.human:
            raise UsageError('label.if_refused = "human" needs label.human: name a file of pairs, or harm-ratings')
        return "human", f"{verdict} The labels are people's alone (label.if_refused)."
    raise RunError(
        f"the judge may not label. {verdict} No label was made. Choose another judge or mode, set label.if_refused = "
        '"human" with label.human, or say label.allow_uncalibrated=true (--allow-uncalibrated)'
    )


def label_prompts(run: CaiRun) -> list[Prompt]:
    """The prompts to label: those of redteam.jsonl, written ones included, or the recipe's where there is none yet."""
    from dataclasses import replace

    from charter.cli.cai_run import read_prompts

    path = run.folder / "redteam.jsonl"
    if path.is_file():
        found = [
            prompt
            for prompt in read_prompts(str(path))
            if (prompt.fields.get("purpose"), prompt.fields.get("split")) == ("redteam", "train")
        ]
    else:
        found = [replace(one, fields={**one.fields, "purpose": "redteam"}) for one in run.sets.prompts]
    return found[: run.recipe.label.prompts]


def human(recipe: CaiRecipe) -> Sequence[Pair]:
    """The recipe's human pairs, none where it names none; of those that also measure, only the part to train on."""
    from charter.cli.human_pairs import HARM_RATINGS, human_pairs

    source = recipe.label.human
    if not source:
        return ()
    measures = source in (HARM_RATINGS, recipe.calibrate.data)
    return human_pairs(source, min_gap=recipe.calibrate.min_gap, part="train" if measures else None)


def policy_model(folder: Path, given: str | None, model: str) -> str:
    """Which model's replies are compared: the one given, the run's own after its imitation stage, or the recipe's."""
    tuned = folder / "sft" / "latest" / "model"
    return given or (str(tuned) if tuned.exists() else model)


def render_label(counts: Mapping[str, Any], folder: Path) -> str:
    """Where the pairs went."""
    lines = [counts["verdict"], ""]
    if counts["labelled_by"] == "judge":
        gap = "" if counts["position_gap"] is None else f", mean position gap {counts['position_gap']:.3f}"
        lines += [
            f"prompts  {counts['prompts']:>6}   failed {counts['failed']}, identical {counts['identical']}",
            f"pairs    {counts['pairs']:>6}   no label: {_told(counts['left_out'])}{gap}",
            f"labelled {counts['judged']:>6}",
        ]
    lines += [
        f"human    {counts['human']:>6}   {counts['human_share']:.0%} of the rows",
        f"rows     {counts['rows']:>6}",
    ]
    return "\n".join([*lines, "", str(folder / "preferences.jsonl")])


def _told(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in left_out.items()) or "none"
